//! Content recall in the binary: item texts from records, the model `content` of recipes, and a chain's vectors of texts with
//! their index.

use millstream_data::{EvalUsers, Prepared};
use millstream_index::IndexMut;
use millstream_models::ModelConfig;
use millstream_models::content::{CONTENT, ContentConfig, TextConfig, TextEncoder};
use millstream_models::recall::factors::{FactorModel, Factors};
use millstream_pipeline::{ContentVectors, PipelineConfig};
use millstream_schema::{ItemRow, Record, record::LIST_SEPARATOR, suggest};
use millstream_train::eval;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::chain::Vectors;
use crate::graphs::Graphs;
use crate::{Failure, measure};

/// The texts of an item, one after the other.
fn text_of(record: &Record, fields: &[String]) -> String {
    let cells: Vec<&str> =
        fields.iter().map(|field| record.get(field)).filter(|cell| !cell.is_empty()).collect();
    cells.join(" ").replace(LIST_SEPARATOR, " ")
}

/// The texts of all items; a field that no item has is refused.
fn texts(records: &[Record], fields: &[String], place: &str) -> Result<Vec<String>, Failure> {
    for field in fields {
        if !records.iter().any(|record| record.fields.contains_key(field)) {
            let known: BTreeSet<&str> =
                records.iter().flat_map(|r| r.fields.keys()).map(String::as_str).collect();
            let unknown = match known.is_empty() {
                true => format!("no item has a field `{field}`, or any other; are the items' files named?"),
                false => suggest::unknown("item field", field, known),
            };
            return Err(format!("{place}: key `texts`: {unknown}").into());
        }
    }
    Ok(records.iter().map(|record| text_of(record, fields)).collect())
}

/// The model `content` of a recipe.
pub struct ContentModel {
    config: ContentConfig,
    factors: FactorModel,
}

impl ContentModel {
    /// Items as vectors of their texts. What is learned of texts is learned from items with training positives alone: the
    /// others come, as in serving, when all is learned.
    pub fn fit(model: &ModelConfig, records: &[Record], prepared: &Prepared) -> Result<Self, Failure> {
        let config = ContentConfig::of(model)?;
        let texts = texts(records, &config.texts, &format!("model `{CONTENT}`"))?;
        let all: Vec<&str> = texts.iter().map(String::as_str).collect();
        let known = all.iter().zip(&prepared.item_positives).filter(|x| *x.1 > 0).map(|x| *x.0);
        let encoder = config.text().encoder(&known.collect::<Vec<_>>())?;
        Ok(Self { factors: encoder.factors(&all), config })
    }

    /// Each user's best `k` by the cosine to the mean of their latest items.
    pub fn lists(&self, prepared: &Prepared, users: &EvalUsers, k: usize) -> Vec<Vec<u32>> {
        eval::scored_lists(&measure::rules(prepared, users), prepared.items.len(), k, &|place, out| {
            let history = self.config.weighed(&users.history.item[users.history.span(place)]);
            self.factors.score_into(&self.factors.user_vector(&history), out);
            // A zero is an item or a user of whose text nothing is known.
            out.iter_mut().filter(|s| **s == 0.0).for_each(|s| *s = f32::NEG_INFINITY);
        })
    }
}

/// A chain's vectors of texts: searched by requests, changed by items that come in.
pub struct Content {
    fields: Vec<String>,
    encoder: TextEncoder,
    vectors: Arc<Vectors>,
}

impl Content {
    /// What the configuration asks for: nothing without a table `[content]`, a channel of kind `content`, or lists of
    /// that name.
    pub fn of(config: &PipelineConfig, records: &[Record], graphs: &Graphs) -> Result<Option<Self>, Failure> {
        let asked = |c: &millstream_pipeline::config::ChannelConfig| {
            let table = c.options.get("table").and_then(toml::Value::as_str);
            c.kind() == CONTENT || c.kind() == "i2i" && table == Some(CONTENT)
        };
        match (&config.content, config.channels.iter().any(asked)) {
            (None, false) => Ok(None),
            (own, _) => Self::open(own.clone().unwrap_or_default(), config, (records, graphs)).map(Some),
        }
    }

    fn open(
        text: TextConfig,
        config: &PipelineConfig,
        (records, graphs): (&[Record], &Graphs),
    ) -> Result<Self, Failure> {
        let fields =
            if text.texts.is_empty() { config.catalogue.keywords.clone() } else { text.texts.clone() };
        if fields.is_empty() {
            return Err(
                "[content]: key `texts` names no item field, and neither does [catalogue] keywords".into()
            );
        }
        let texts = texts(records, &fields, "[content]")?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let encoder = text.encoder(&texts)?;
        let (dim, all) = (encoder.dim(), encoder.encode_all(&texts));
        let (mut items, mut kept) = (Vec::new(), Vec::new());
        for (item, vector) in (0..).zip(all.chunks_exact(dim)).filter(|x| x.1.iter().any(|v| *v != 0.0)) {
            items.push(item);
            kept.extend_from_slice(vector);
        }
        let vectors = Arc::new(graphs.index("content", dim, &items, &kept)?);
        Ok(Self { fields, encoder, vectors })
    }

    /// What channels see of it.
    pub fn part(&self) -> ContentVectors {
        ContentVectors { vectors: self.vectors.clone(), search: self.vectors.clone() }
    }

    /// Takes in an item as it is now; one whose text says nothing is not found by it.
    pub fn upsert(&self, item: ItemRow, record: &Record) -> Result<(), Failure> {
        let mut vector = vec![0.0; self.encoder.dim()];
        match self.encoder.encode(&text_of(record, &self.fields), &mut vector) {
            true => Ok(self.vectors.upsert(item, &vector)?),
            false => {
                self.vectors.remove(item);
                Ok(())
            }
        }
    }

    /// Forgets an item.
    pub fn remove(&self, item: ItemRow) {
        self.vectors.remove(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_pipeline::VectorSearch;

    fn record(id: usize, words: &str) -> Record {
        let fields = [("words".to_owned(), words.to_owned()), ("shop".to_owned(), "s".to_owned())].into();
        Record { id: format!("i{id}"), fields }
    }

    fn records() -> Vec<Record> {
        let words = ["rose perfume spray", "rose perfume eau", "hair shampoo", "hair shampoo repair", ""];
        words.iter().enumerate().map(|(id, words)| record(id, words)).collect()
    }

    fn config(text: &str) -> PipelineConfig {
        PipelineConfig::parse(text, "run.toml").unwrap()
    }

    fn content(config: &PipelineConfig) -> Result<Option<Content>, Failure> {
        // Too few items for a graph: nothing is written there.
        let graphs = Graphs::of(&crate::chain::RunDir("run".into()), config);
        Content::of(config, &records(), &graphs)
    }

    fn near(content: &Content, item: u32) -> Vec<u32> {
        let mut query = vec![0.0; content.encoder.dim()];
        assert!(content.vectors.copy_vector(item, &mut query));
        let search: &dyn VectorSearch = &*content.vectors;
        search.search(&query, 2, &|other| other != item).unwrap().into_iter().map(|x| x.0).collect()
    }

    #[test]
    fn an_item_that_just_came_is_found_by_its_text_and_one_that_went_is_not() {
        let config = config("[content]\ntexts = [\"words\"]\n[content.tfidf]\ndim = 4\nmin_length = 1");
        let content = content(&config).unwrap().unwrap();
        assert_eq!(near(&content, 0)[0], 1);
        content.upsert(9, &record(9, "Rose perfume, SPRAY")).unwrap();
        assert_eq!(near(&content, 0), [9, 1]);
        content.upsert(9, &record(9, "shampoo")).unwrap();
        assert_eq!(near(&content, 0)[0], 1);
        content.upsert(9, &record(9, "words unheard of")).unwrap();
        assert!(!near(&content, 2).contains(&9));
        content.remove(1);
        assert!(!near(&content, 0).contains(&1));
    }

    #[test]
    fn it_is_made_where_it_is_asked_for_and_says_what_is_missing() {
        let of = |text: &str| content(&config(text));
        let fault = |text: &str| of(text).err().unwrap().to_string();
        assert!(of("").unwrap().is_none() && of("[[channel]]\nname = \"hot\"").unwrap().is_none());
        let keywords = "[catalogue]\nkeywords = [\"words\"]\n";
        assert!(of(&format!("{keywords}[[channel]]\nname = \"content\"")).unwrap().is_some());
        let list = "[[channel]]\nname = \"i2i\"\noptions = { table = \"content\" }";
        assert!(of(&format!("{keywords}{list}")).unwrap().is_some());
        assert!(fault("[[channel]]\nname = \"content\"").contains("`texts`"));
        assert!(fault("[content]\ntexts = [\"wrds\"]").contains("did you mean `words`?"));
        let folder = fault("[content]\ntexts = [\"words\"]\nfolder = \"no/such/model\"");
        assert!(folder.contains("no/such/model") && folder.contains("none is downloaded"), "{folder}");
    }
}

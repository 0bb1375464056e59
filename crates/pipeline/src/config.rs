//! The chain's configuration: recall, merge, rank, fuse, re-rank.

use millstream_models::content::TextConfig;
use millstream_models::recall::offline::OfflineDef;
use millstream_models::recall::trained::About;
use millstream_models::{ModelConfig, Precision};
use millstream_schema::{config, suggest};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::facts::CatalogueConfig;
use crate::fuse::FuseConfig;
use crate::graph::IndexConfig;
use crate::live::RefreshConfig;
use crate::near_line::NearLineConfig;

/// All of it; every key has a default, an unknown one is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineConfig {
    /// Recall as a whole.
    pub recall: RecallConfig,
    /// Channels in order; none named: every channel whose parts are at hand, with its defaults.
    #[serde(rename = "channel", skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelConfig>,
    /// The worker that ranks ahead of time, where a channel of kind `near_line` is named.
    pub near_line: NearLineConfig,
    /// How vectors are searched.
    pub index: IndexConfig,
    /// Ranking.
    pub rank: RankConfig,
    /// Several tasks to one score.
    pub fuse: FuseConfig,
    /// Rules in order, between the guards that are always on.
    #[serde(rename = "rule")]
    pub rules: Vec<RuleConfig>,
    /// What is written down of candidates that were not shown.
    pub passed_over: PassedOverConfig,
    /// Which record fields mean what.
    pub catalogue: CatalogueConfig,
    /// Item texts as vectors, for the channel `content` and for lists of that name; where such are named without this
    /// table, TF-IDF of the fields that `[catalogue] keywords` names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<TextConfig>,
}

/// The `[recall]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecallConfig {
    /// How long channels are waited for, unless they say otherwise; above 0.
    pub deadline_ms: u64,
    /// Threads that run channels, at most 256; 0: one per core and two per channel, so that channels which hang leave room.
    pub threads: usize,
    /// How counting tables follow live feedback.
    pub refresh: RefreshConfig,
    /// Models that learn from all positives at once, which channels use by name: `[[recall.model]]`.
    #[serde(rename = "model", skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<RecallModel>,
}

/// One `[[recall.model]]`: a counting model, factors or embeddings, trained before and opened where a channel names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecallModel {
    /// Its name, by which channels and files know it.
    pub name: String,
    /// Its kind, a name in `OFFLINE`; that of its own name where not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Entries per item of the lists that are made of its vectors.
    #[serde(default = "a_hundred")]
    pub neighbours: usize,
    /// The model's own options.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub options: toml::Table,
}

fn a_hundred() -> usize {
    100
}

/// Threads for recall, and for the worker of near-line recall, at most.
pub(crate) const MAX_THREADS: usize = 256;

/// Names that a run's own parts have.
const TAKEN: [&str; 2] = ["two_tower", "vectors"];

impl RecallModel {
    /// Its kind, a name in `OFFLINE`.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or(&self.name)
    }

    /// The model with its options.
    pub fn model(&self) -> ModelConfig {
        ModelConfig { options: self.options.clone(), ..ModelConfig::named(self.kind()) }
    }

    fn check(&self) -> Result<(), Error> {
        let name = &self.name;
        let fail = |what: String| Err(Error::Config(format!("recall model `{name}`: {what}")));
        // It is the name of a file, and of tables that a dot parts from it.
        let fine = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(fine) {
            return fail("key `name` must be of letters, digits, `_` and `-`".into());
        }
        if TAKEN.contains(&name.as_str()) {
            return fail("every run has a part of this name; choose another".into());
        }
        if name == "item_cf" && self.kind() != name {
            return fail(
                "this name is for the model whose lists the channel `item_cf` has; choose another".into(),
            );
        }
        if self.neighbours == 0 {
            return fail("key `neighbours` must be above 0".into());
        }
        if !About::lists_vectors(self.kind()) && self.neighbours != a_hundred() {
            return fail(format!(
                "key `neighbours` is for lists that are made of vectors, and `{}` has none; what it keeps itself is said in \
                 `options`",
                self.kind()
            ));
        }
        let checked = OfflineDef::named(self.kind()).and_then(|def| def.check(&self.model()));
        checked.or_else(|e| fail(e.to_string()))
    }
}

/// One `[[channel]]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelConfig {
    /// Its name in traces and metrics, `[fuse]` and `fallback`.
    pub name: String,
    /// Its kind, a name in `CHANNELS`; that of the channel's name where not said. A kind may be used several times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Candidates asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<usize>,
    /// Items per round of the merge, 0.01 to 100; fractions come every few rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f32>,
    /// How long it is waited for; above 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Another channel, which is asked for more when this one fails, is late or is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// With fewer candidates than this it is short; 1 where not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<usize>,
    /// Asked only as a fallback.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standby: bool,
    /// The channel's own options.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub options: toml::Table,
}

/// The `[rank]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RankConfig {
    /// Candidates ranked per request, from the head of the merged list; never fewer than the page.
    pub candidates: usize,
    /// Rank also for users who do not exist; otherwise they get the merged order.
    pub strangers: bool,
    /// Requests scored together by `recommend_batch`.
    pub batch_requests: usize,
    /// What the ranker multiplies by its weights in: `"f32"`, or `"i16"`, which is faster and less exact.
    pub precision: Precision,
}

/// The `[passed_over]` table: candidates that were ranked and not shown, which retrievers learn from as hard negatives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PassedOverConfig {
    /// Candidates written down of each personal request, evenly spread over the ranking below `skip`; 0 for none.
    pub keep: usize,
    /// Candidates below the page that are left out: the best of them may be what the user wants after all.
    pub skip: usize,
    /// Megabytes after which the file is set aside as `passed_over.old.jsonl`, in place of the last one set aside.
    pub max_mb: u64,
}

impl Default for PassedOverConfig {
    fn default() -> Self {
        Self { keep: 0, skip: 20, max_mb: 256 }
    }
}

/// One `[[rule]]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Name in `RULES`.
    pub name: String,
    /// The rule's own options.
    #[serde(default, skip_serializing_if = "toml::Table::is_empty")]
    pub options: toml::Table,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            recall: RecallConfig::default(),
            channels: Vec::new(),
            near_line: NearLineConfig::default(),
            index: IndexConfig::default(),
            rank: RankConfig::default(),
            fuse: FuseConfig::default(),
            rules: vec![RuleConfig { name: "mmr".into(), ..RuleConfig::default() }],
            passed_over: PassedOverConfig::default(),
            catalogue: CatalogueConfig::default(),
            content: None,
        }
    }
}

impl ChannelConfig {
    /// A channel of this kind under the kind's own name, with its defaults.
    pub fn of(kind: &str) -> Self {
        Self { name: kind.into(), ..Self::default() }
    }

    /// Its kind, a name in `CHANNELS`.
    pub fn kind(&self) -> &str {
        self.kind.as_deref().unwrap_or(&self.name)
    }
}

impl Default for RecallConfig {
    fn default() -> Self {
        Self { deadline_ms: 100, threads: 0, refresh: RefreshConfig::default(), models: Vec::new() }
    }
}

impl Default for RankConfig {
    fn default() -> Self {
        Self { candidates: 300, strangers: false, batch_requests: 16, precision: Precision::F32 }
    }
}

impl PipelineConfig {
    /// Parses TOML; `file` is named in errors.
    ///
    /// # Errors
    /// Wrong syntax, an unknown key, a value out of range.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let parsed: Self = config::parse(text, file)?;
        parsed.check().map_err(|e| Error::Config(format!("{file}: {e}")))?;
        Ok(parsed)
    }

    /// Checks ranges, recall models, and what channels say of each other; kinds of channels are checked when the pipeline is built.
    ///
    /// # Errors
    /// A value out of range, a channel or a model named twice, a model of no known kind or with wrong options, a fallback that there
    /// is not, or a channel on standby for none.
    pub fn check(&self) -> Result<(), Error> {
        self.near_line.check()?;
        self.recall.refresh.check()?;
        self.index.check()?;
        self.content.iter().try_for_each(TextConfig::check)?;
        let fail = |message: String| Err(Error::Config(message));
        if self.passed_over.max_mb == 0 {
            return fail("[passed_over]: `max_mb` must be above 0".into());
        }
        if self.recall.deadline_ms == 0 || self.recall.threads > MAX_THREADS {
            return fail(format!("[recall]: `deadline_ms` must be above 0, `threads` at most {MAX_THREADS}"));
        }
        if self.rank.candidates == 0 || self.rank.batch_requests == 0 {
            return fail("[rank]: `candidates` and `batch_requests` must be above 0".into());
        }
        for (at, model) in self.recall.models.iter().enumerate() {
            if self.recall.models[..at].iter().any(|m| m.name == model.name) {
                return fail(format!("recall model `{}` is named twice", model.name));
            }
            model.check()?;
        }
        for (at, channel) in self.channels.iter().enumerate() {
            if self.channels[..at].iter().any(|c| c.name == channel.name) {
                return fail(format!("channel `{}` is named twice", channel.name));
            }
            if channel.weight.is_some_and(|w| !(0.01..=100.0).contains(&w)) {
                return fail(format!(
                    "channel `{}`: key `weight` must be between 0.01 and 100",
                    channel.name
                ));
            }
            if channel.deadline_ms == Some(0) {
                let name = &channel.name;
                return fail(format!(
                    "channel `{name}`: key `deadline_ms` must be above 0, or it is always late"
                ));
            }
            if channel.quota == Some(0) || channel.short == Some(0) {
                let name = &channel.name;
                return fail(format!("channel `{name}`: keys `quota` and `short` must be above 0"));
            }
            self.check_fallback(channel)?;
        }
        Ok(())
    }

    fn check_fallback(&self, channel: &ChannelConfig) -> Result<(), Error> {
        let name = &channel.name;
        let fail = |message: String| Err(Error::Config(format!("channel `{name}`: {message}")));
        match &channel.fallback {
            Some(other) if other == name => fail("it cannot be its own fallback".into()),
            Some(other) if !self.channels.iter().any(|c| c.name == *other) => {
                let names: Vec<&str> = self.channels.iter().map(|c| c.name.as_str()).collect();
                let problem = suggest::unknown("channel", other, names.iter().copied());
                fail(format!("key `fallback`: {problem}"))
            }
            Some(_) if channel.standby => fail("a channel on standby has no fallback of its own".into()),
            None if channel.short.is_some() => fail("key `short` needs a `fallback`".into()),
            _ if channel.standby && !self.channels.iter().any(|c| c.fallback.as_ref() == Some(name)) => {
                fail("it is on standby, but no channel names it as its `fallback`".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_precision_of_ranking_is_f32_unless_said_otherwise_and_a_wrong_one_names_the_nearest() {
        let precision = |text: &str| PipelineConfig::parse(text, "p.toml").map(|c| c.rank.precision);
        assert_eq!(precision("").ok(), Some(Precision::F32));
        assert_eq!(precision("[rank]\nprecision = \"i16\"").ok(), Some(Precision::I16));
        let error = precision("[rank]\nprecision = \"i8\"").unwrap_err().to_string();
        assert!(["`i8`", "i16", "p.toml:2"].iter().all(|part| error.contains(part)), "{error}");
    }

    #[test]
    fn the_refresh_of_tables_is_checked_and_written_back() {
        let read = |text: &str| PipelineConfig::parse(text, "run.toml");
        let config = read("[recall.refresh]\nevery_s = 0\nevents = 7").unwrap();
        assert_eq!(config.recall.refresh, RefreshConfig { every_s: 0, events: 7, threads: 1 });
        assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap(), config);
        for (text, parts) in [
            ("every_s = 604801", ["[recall.refresh]", "`every_s` is 604801", "at most 604800"]),
            ("threads = 0", ["[recall.refresh]", "`threads` is 0", "between 1 and 256"]),
            ("every = 3", ["run.toml", "every", "did you mean `every_s`"]),
            ("events = -1", ["run.toml:2", "`-1`", "u64"]),
        ] {
            let error = read(&format!("[recall.refresh]\n{text}")).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn recall_models_are_checked_and_written_back() {
        let read = |text: &str| PipelineConfig::parse(text, "run.toml");
        let text = "[recall]\nthreads = 3\n[[recall.model]]\nname = \"als\"\noptions = { dim = 8 }\n\
            [[recall.model]]\nname = \"walks\"\nkind = \"node2vec\"\nneighbours = 7\noptions.graph.edges = \"bipartite\"";
        let config = read(text).unwrap();
        let [als, walks] = config.recall.models.as_slice() else { panic!("two models") };
        assert_eq!((als.kind(), als.neighbours, walks.kind(), walks.neighbours), ("als", 100, "node2vec", 7));
        assert_eq!(als.model().options["dim"].as_integer(), Some(8));
        assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap(), config);
        let model = |keys: &str| format!("[[recall.model]]\n{keys}");
        for (text, parts) in [
            (model("name = \"alss\""), ["recall model `alss`", "did you mean `als`"]),
            (model("name = \"x\"\nkind = \"node2wec\""), ["recall model `x`", "did you mean `node2vec`"]),
            (model("name = \"als\"\noptions = { dimm = 8 }"), ["`als`", "did you mean `dim`"]),
            (model("name = \"als\"\noptions = { dim = 0 }"), ["`als`", "dim"]),
            (model("name = \"als\"\nneighbors = 3"), ["neighbors", "neighbours"]),
            (model("name = \"als\"\nneighbours = 0"), ["als", "above 0"]),
            (model("name = \"swing\"\nneighbours = 7"), ["`neighbours` is for lists", "`swing` has none"]),
            (model("name = \"f\"\nkind = \"bspm\"\nneighbours = 7"), ["recall model `f`", "`bspm` has none"]),
            (model("name = \"a/b\"\nkind = \"als\""), ["a/b", "letters"]),
            (model("name = \"vectors\"\nkind = \"als\""), ["vectors", "choose another"]),
            (model("name = \"item_cf\"\nkind = \"als\""), ["item_cf", "choose another"]),
            (model("name = \"als\"") + "\n" + &model("name = \"als\""), ["als", "twice"]),
        ] {
            let error = read(&text).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}

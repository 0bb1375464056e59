//! Models that learn from the lists of positives at once, by name: no batches, no tape, no checkpoints between.

use millstream_schema::{ItemRow, UserRow, suggest};

use crate::recall::als::AlsConfig;
use crate::recall::bpr::BprConfig;
use crate::recall::bspm::{self, Bspm, BspmConfig};
use crate::recall::factors::{FactorModel, Factors};
use crate::recall::item_cf::ItemCfConfig;
use crate::recall::item2vec::Item2VecConfig;
use crate::recall::lists::InvertedLists;
use crate::recall::node2vec::Node2VecConfig;
use crate::recall::positives::Positives;
use crate::recall::spectral::{Spectral, SpectralConfig};
use crate::recall::swing::SwingConfig;
use crate::recall::user_cf::{UserCf, UserCfConfig};
use crate::{Error, ModelConfig};

/// `memory_mib` of counting models and walks where the configuration says nothing.
pub const MEMORY_MIB: usize = 4096;

/// Entry of [`OFFLINE`].
#[derive(Debug)]
pub struct OfflineDef {
    /// Name in `[model]`.
    pub name: &'static str,
    /// Whether it draws random numbers: another seed gives another model.
    pub draws: bool,
    check: fn(&ModelConfig) -> Result<(), Error>,
    fit: fn(&ModelConfig, &Positives<'_>, u64) -> Result<OfflineModel, Error>,
}

/// All models of this kind.
pub const OFFLINE: &[OfflineDef] = &[
    OfflineDef {
        name: "item_cf",
        draws: false,
        check: |m| {
            let options: ItemCfConfig = m.options()?;
            options.check()?;
            options.damping.idle(m)
        },
        fit: |m, p, _| Ok(OfflineModel::Lists(m.options::<ItemCfConfig>()?.build(p)?)),
    },
    OfflineDef {
        name: "user_cf",
        draws: false,
        check: |m| {
            let options: UserCfConfig = m.options()?;
            options.check()?;
            options.damping.idle(m)
        },
        fit: |m, p, _| Ok(OfflineModel::Users(Box::new(UserCf::build(&m.options()?, p)?))),
    },
    OfflineDef {
        name: "swing",
        draws: false,
        check: |m| m.options::<SwingConfig>()?.check(),
        fit: |m, p, _| Ok(OfflineModel::Lists(m.options::<SwingConfig>()?.build(p)?)),
    },
    OfflineDef {
        name: "als",
        draws: true,
        check: |m| m.options::<AlsConfig>()?.check(),
        fit: |m, p, seed| Ok(OfflineModel::Factors(m.options::<AlsConfig>()?.fit(p, seed, &mut |_| {})?)),
    },
    OfflineDef {
        name: "bpr",
        draws: true,
        check: |m| m.options::<BprConfig>()?.check(),
        fit: |m, p, seed| {
            Ok(OfflineModel::Factors(m.options::<BprConfig>()?.fit(p, seed, &mut |_, _| {})?))
        },
    },
    OfflineDef {
        name: "bspm",
        draws: true,
        check: |m| m.options::<BspmConfig>()?.check(),
        fit: |m, p, seed| Ok(OfflineModel::Filter(Box::new(m.options::<BspmConfig>()?.fit(p, seed)?))),
    },
    OfflineDef {
        name: "item2vec",
        draws: true,
        check: |m| {
            let options: Item2VecConfig = m.options()?;
            options.check()?;
            options.output.idle(m, "")
        },
        fit: |m, p, seed| {
            Ok(OfflineModel::Factors(m.options::<Item2VecConfig>()?.fit(p, seed, &mut |_| {})?))
        },
    },
    OfflineDef {
        name: "node2vec",
        draws: true,
        check: |m| {
            let options: Node2VecConfig = m.options()?;
            options.check()?;
            options.word2vec.output.idle(m, "word2vec.")?;
            options.graph.edges.idle(m)
        },
        fit: |m, p, seed| {
            Ok(OfflineModel::Factors(m.options::<Node2VecConfig>()?.fit(p, seed, &mut |_| {})?))
        },
    },
    OfflineDef {
        name: "spectral",
        draws: true,
        check: |m| {
            let options: SpectralConfig = m.options()?;
            options.check()?;
            options.graph.edges.idle(m)
        },
        fit: |m, p, seed| Ok(OfflineModel::Spectral(Box::new(m.options::<SpectralConfig>()?.fit(p, seed)?))),
    },
];

/// Options that compare times.
const TIMED: [&str; 3] = ["decay_per_day", "session_gap_mins", "graph.session_gap_mins"];

impl OfflineDef {
    /// The entry of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        OFFLINE.iter().find(|d| d.name == name)
    }

    /// As [`OfflineDef::find`].
    ///
    /// # Errors
    /// There is none; the nearest name is given.
    pub fn named(name: &str) -> Result<&'static Self, Error> {
        let valid: Vec<&str> = OFFLINE.iter().map(|d| d.name).collect();
        Self::find(name)
            .ok_or_else(|| Error::Config(suggest::unknown("recall model", name, valid.iter().copied())))
    }

    /// Checks the model's options.
    ///
    /// # Errors
    /// An unknown key, an option out of range, or one that means nothing beside another.
    pub fn check(&self, model: &ModelConfig) -> Result<(), Error> {
        (self.check)(model)
    }

    /// The option by which the model asks how long apart actions were, if it says one. Data without times has none but made-up
    /// ones to answer with.
    pub fn asks_times(model: &ModelConfig) -> Option<&'static str> {
        let above_0 =
            |value: &toml::Value| value.as_float().or(value.as_integer().map(|n| n as f64)) > Some(0.0);
        TIMED.into_iter().find(|key| model.said(key).is_some_and(above_0))
    }

    /// Learns from all positives.
    ///
    /// # Errors
    /// As [`OfflineDef::check`], lists that do not hold together, a budget of memory that is too small, or vectors that are
    /// no numbers any more.
    pub fn fit(
        &self,
        model: &ModelConfig,
        positives: &Positives<'_>,
        seed: u64,
    ) -> Result<OfflineModel, Error> {
        (self.fit)(model, positives, seed)
    }
}

/// What was learned.
#[derive(Debug, Clone)]
pub enum OfflineModel {
    /// Item → items.
    Lists(InvertedLists),
    /// User → users → items.
    Users(Box<UserCf>),
    /// Vectors.
    Factors(FactorModel),
    /// A filter over the graph of users and items.
    Filter(Box<Bspm>),
    /// Vectors and clusters.
    Spectral(Box<Spectral>),
}

/// A user of the training data, and their weighted history.
pub type Known<'a> = (UserRow, &'a [(ItemRow, f32)]);

impl OfflineModel {
    /// Name of the kind of model.
    pub fn kind(&self) -> &str {
        match self {
            Self::Lists(lists) => lists.kind(),
            Self::Users(_) => "user_cf",
            Self::Factors(factors) => factors.kind(),
            Self::Filter(_) => "bspm",
            Self::Spectral(spectral) => spectral.factors().kind(),
        }
    }

    /// Number of items known.
    pub fn items(&self) -> usize {
        match self {
            Self::Lists(lists) => lists.items(),
            Self::Users(cf) => cf.items(),
            Self::Factors(factors) => factors.items().len() / factors.dim(),
            Self::Filter(filter) => filter.items(),
            Self::Spectral(spectral) => spectral.factors().items().len() / spectral.factors().dim(),
        }
    }

    /// The vectors, of a model that has such.
    pub fn factors(&self) -> Option<&FactorModel> {
        match self {
            Self::Factors(factors) => Some(factors),
            Self::Spectral(spectral) => Some(spectral.factors()),
            Self::Lists(_) | Self::Users(_) | Self::Filter(_) => None,
        }
    }

    /// Magic, version, checksum, content: those of the kind of model.
    ///
    /// # Errors
    /// The values cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Lists(lists) => lists.to_bytes(),
            Self::Users(cf) => cf.to_bytes(),
            Self::Factors(factors) => factors.to_bytes(),
            Self::Filter(filter) => filter.to_bytes(),
            Self::Spectral(spectral) => spectral.to_bytes(),
        }
    }

    /// The reverse of [`OfflineModel::to_bytes`], by the magic.
    ///
    /// # Errors
    /// The bytes are no such model, are damaged, or are of another version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        Ok(match bytes.get(..8) {
            Some(b"MSUSERCF") => Self::Users(Box::new(UserCf::from_bytes(bytes)?)),
            Some(b"MSFACTOR") => Self::Factors(FactorModel::from_bytes(bytes)?),
            Some(b"MSBSPM\0\0") => Self::Filter(Box::new(Bspm::from_bytes(bytes)?)),
            Some(b"MSSPECTR") => Self::Spectral(Box::new(Spectral::from_bytes(bytes)?)),
            _ => Self::Lists(InvertedLists::from_bytes(bytes)?),
        })
    }

    /// Scores of all items for a user of the training data with this weighted history; `out` is `[items]`. An item that the model
    /// says nothing about is −∞.
    pub fn score_into(&self, user: UserRow, history: &[(ItemRow, f32)], out: &mut [f32]) {
        match self {
            Self::Lists(lists) => lists.score_into(history, out),
            Self::Users(cf) => cf.score_into(cf.similar().neighbours(user), out),
            Self::Filter(filter) => filter.score_into(history, out),
            Self::Factors(factors) => match factors.user(user) {
                Some(vector) => factors.score_into(vector, out),
                None => factors.score_into(&factors.user_vector(history), out),
            },
            Self::Spectral(spectral) => {
                let factors = spectral.factors();
                factors.score_into(&factors.user_vector(history), out);
            }
        }
        bar_unknown(out);
    }

    /// As [`OfflineModel::score_into`] for several users, at most [`OfflineModel::together`]; `out` is `[users, items]`.
    pub fn score_together(&self, users: &[Known<'_>], out: &mut [f32]) {
        let width = out.len() / users.len().max(1);
        if let Self::Filter(filter) = self {
            let histories: Vec<&[(ItemRow, f32)]> = users.iter().map(|user| user.1).collect();
            filter.score_together(&histories, width, out);
            return bar_unknown(out);
        }
        let rows = users.iter().zip(out.chunks_exact_mut(width.max(1)));
        rows.for_each(|((user, history), out)| self.score_into(*user, history, out));
    }

    /// Users that are best scored together.
    pub fn together(&self) -> usize {
        if let Self::Filter(_) = self { bspm::TOGETHER } else { 1 }
    }
}

/// Sums are not zero where anything was added, and a product with a row that was never learned is.
fn bar_unknown(scores: &mut [f32]) {
    scores.iter_mut().filter(|s| **s == 0.0).for_each(|s| *s = f32::NEG_INFINITY);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn options_that_mean_nothing_beside_others_are_refused_with_both_named() {
        for (name, options, said) in [
            ("item_cf", "damping = \"log\"\ndamping_power = 0.6", ["damping_power", "damping = \"log\""]),
            ("user_cf", "damping = \"none\"\ndamping_power = 0.6", ["damping_power", "damping = \"none\""]),
            (
                "item2vec",
                "output = \"hierarchical_softmax\"\nnegatives = 3",
                ["negatives", "hierarchical_softmax"],
            ),
            (
                "item2vec",
                "output = \"hierarchical_softmax\"\nnegative_power = 0.5",
                ["negative_power", "hierarchical_softmax"],
            ),
            (
                "node2vec",
                "word2vec = { output = \"hierarchical_softmax\", negatives = 3 }",
                ["word2vec.negatives", "word2vec.output"],
            ),
            ("node2vec", "graph = { span = 2 }", ["graph.span", "co_taken"]),
            ("spectral", "graph = { session_gap_mins = 30 }", ["graph.session_gap_mins", "co_taken"]),
            (
                "node2vec",
                "graph = { edges = \"bipartite\", neighbours = 9 }",
                ["graph.neighbours", "bipartite"],
            ),
            (
                "node2vec",
                "graph = { edges = \"consecutive\", neighbours = 9 }",
                ["graph.neighbours", "consecutive"],
            ),
        ] {
            let model = ModelConfig { options: options.parse().unwrap(), ..ModelConfig::named(name) };
            let error = OfflineDef::named(name).unwrap().check(&model).unwrap_err().to_string();
            assert!(said.iter().all(|said| error.contains(said)), "{name} {options}: {error}");
            assert!(error.contains(&format!("model `{name}`")), "{error}");
        }
    }

    #[test]
    fn options_that_ask_for_times_are_known() {
        let asks = |options: &str| {
            OfflineDef::asks_times(&ModelConfig {
                options: options.parse().unwrap(),
                ..ModelConfig::named("m")
            })
        };
        assert_eq!(asks("decay_per_day = 0.1"), Some("decay_per_day"));
        assert_eq!(asks("graph = { session_gap_mins = 30 }"), Some("graph.session_gap_mins"));
        assert_eq!(asks("decay_per_day = 0.0\nsession_gap_mins = 0"), None);
    }

    /// Options with which a model learns little data quickly.
    pub(crate) fn few(model: &str) -> &'static str {
        match model {
            "als" => "dim = 8\nl2 = 0.1",
            "bspm" => "directions = 4",
            "bpr" => "dim = 8\nepochs = 100\nblocks = 2",
            "item2vec" => "dim = 8\nepochs = 60\nsample = 0.0\nshards = 1",
            "node2vec" => "q = 2.0\nword2vec = { dim = 8, sample = 0.0, shards = 1 }",
            "spectral" => "dim = 2\nclusters = 2\ntolerance = 1e-6\ngraph = { neighbours = 20 }",
            _ => "",
        }
    }

    /// Sixty users of six items each, of 0..10 or of 10..20.
    pub(crate) fn halves() -> (Vec<u64>, Vec<u32>) {
        let (mut offsets, mut item) = (vec![0u64], Vec::new());
        for user in 0..60u32 {
            item.extend((0..6).map(|n| user % 2 * 10 + (user / 2 * 3 + n) % 10));
            offsets.push(item.len() as u64);
        }
        (offsets, item)
    }

    #[test]
    fn every_model_learns_from_lists_and_prefers_what_goes_together() {
        let (offsets, item) = halves();
        let p = Positives { items: 21, offsets: &offsets, item: &item, time_ms: &[] };
        for def in OFFLINE {
            let text = format!("name = {:?}\n{}", def.name, few(def.name));
            let model: ModelConfig = toml::from_str(&text).unwrap();
            def.check(&model).unwrap();
            let fitted = def.fit(&model, &p, 1).unwrap();
            let history: Vec<(u32, f32)> = item[..6].iter().map(|&i| (i, 1.0)).collect();
            let mut scores = vec![0.0; 21];
            fitted.score_into(0, &history, &mut scores);
            let mut order: Vec<usize> = (0..21).collect();
            order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
            assert!(order[..8].iter().all(|i| *i < 10), "{}: {scores:?}", def.name);
            assert_eq!(scores[20], f32::NEG_INFINITY, "{}", def.name);
            let wrong: ModelConfig = toml::from_str(&format!("name = {:?}\nmemmory = 3", def.name)).unwrap();
            assert!(def.check(&wrong).unwrap_err().to_string().contains("memmory"));
        }
        assert!(OfflineDef::find("item_cg").is_none());
        assert!(OfflineDef::named("item_cg").unwrap_err().to_string().contains("did you mean `item_cf`"));
    }
}

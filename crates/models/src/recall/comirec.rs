//! ComiRec (Cen et al., KDD 2020): interests by self-attention (`form = "attention"`) or by routing (`"routing"`).
//!
//! A positive item is learned by the interest with the greatest product. At serving every interest searches, and items are merged by their best
//! score; the controllable merge f + λ Σ g(i, j) is re-ranking, where diversity rules do it. Unlike the authors', routing has a matrix for
//! each interest and none for each place, since histories have no greatest length here.

use millstream_nn::{
    Bilinear, CapsuleConfig, Capsules, Init, Inputs, ParamId, Params, Pass, Ragged, SelfAttentive, TableId,
    Tensor,
};
use serde::Deserialize;

use super::intents::WHOLE_ALONE;
use super::interest;
use super::next_item::check_shares;
use super::profile::{Profile, check_temperature, sized};
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef, Targets};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "comirec", check, build, whole: false, graph: false };

/// How interests are read out of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    /// ComiRec-SA.
    Attention,
    /// ComiRec-DR.
    Routing,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// D: width of items and interests.
    embedding: usize,
    /// K.
    interests: usize,
    form: Form,
    /// Rounds of routing.
    iterations: usize,
    /// Drops numbers of the history's items.
    dropout: f32,
    /// τ.
    temperature: f32,
    /// Whether users and items are compared at unit length.
    unit: bool,
    /// Standard deviation of fresh embeddings.
    init_std: f32,
    /// The sequence, where there are several.
    sequence: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embedding: 64,
            interests: 4,
            form: Form::Attention,
            iterations: 3,
            dropout: 0.0,
            temperature: 1.0,
            unit: false,
            init_std: 0.05,
            sequence: None,
        }
    }
}

enum Reader {
    Attention(SelfAttentive),
    Routing(Capsules),
}

struct ComiRec {
    profile: Profile,
    table: TableId,
    reader: Reader,
    /// The interest of an empty history.
    stranger: ParamId,
    config: Config,
}

fn read(cfg: &ModelConfig) -> Result<Config, Error> {
    cfg.without("intents", WHOLE_ALONE)?;
    let c: Config = cfg.options()?;
    check_temperature(&cfg.name, c.temperature)?;
    check_shares(&cfg.name, &[("dropout", c.dropout)])?;
    Ok(c)
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    let c = read(cfg)?;
    match c.form {
        Form::Attention => cfg.idle("form = \"attention\"", &["iterations"]),
        Form::Routing => Ok(()),
    }
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    let c = read(cfg)?;
    let (d, k) = (c.embedding, c.interests);
    let profile = Profile::new((cfg, shape), c.sequence.as_deref(), (d, c.init_std))?;
    let reader = match c.form {
        Form::Attention => Reader::Attention(SelfAttentive::new(params, "interests", (d, 4 * d), k)?),
        Form::Routing => {
            let routing = CapsuleConfig {
                interests: k,
                iterations: c.iterations,
                bilinear: Bilinear::Each,
                logit_std: 0.0,
                dynamic: false,
            };
            Reader::Routing(Capsules::new(params, "capsules", d, routing)?)
        }
    };
    let stranger = params.dense("stranger", &[d], Init::Normal(c.init_std))?;
    Ok(Box::new(ComiRec { table: profile.table(params, "")?, profile, reader, stranger, config: c }))
}

impl ComiRec {
    /// Interests `[R, K, D]`, which are zero for an empty history, with the stranger's in their place.
    fn with_strangers(&self, pass: &Pass, history: &Ragged, interests: Tensor) -> Tensor {
        if (0..history.rows()).all(|r| history.len_of(r) > 0) {
            return interests;
        }
        let (k, d) = (self.config.interests, self.config.embedding);
        let none: Vec<f32> =
            (0..history.rows()).flat_map(|r| vec![f32::from(history.len_of(r) == 0); k]).collect();
        let rows = none.len();
        let stranger = pass.constant(&[rows, d], vec![1.0; rows * d]).mul_row(&pass.param(self.stranger));
        let stranger = stranger.mul_column(&pass.constant(&[rows, 1], none));
        interests.add(&stranger.reshape(&[history.rows(), k, d]))
    }
}

impl Retriever for ComiRec {
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let history = self.profile.history(x, self.table);
        let history = history.with(history.values().dropout(pass, self.config.dropout));
        let interests = match &self.reader {
            Reader::Attention(attention) => attention.forward(pass, &history),
            Reader::Routing(capsules) => capsules.forward(pass, &history),
        };
        sized(self.with_strangers(pass, &history, interests), self.config.unit) // [R, K, D]
    }

    fn items(&self, _pass: &Pass, x: &Inputs) -> Tensor {
        sized(self.profile.items(x, self.table), self.config.unit) // [N, D]
    }

    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor {
        interest::loss(users, items, (None, self.config.temperature), y)
    }

    fn dim(&self) -> usize {
        self.config.embedding
    }

    fn interests(&self) -> usize {
        self.config.interests
    }
}

//! Two towers (Huang et al., CIKM 2013; Yi et al., RecSys 2019): request fields on one side, item fields on the
//! other, unit vectors at the top, softmax over the batch's and sampled items.
//!
//! u = unit(W h_u), v = unit(W h_i), logit = ⟨u, v⟩ / τ − log q(item). As in Yi et al. the in-batch columns are
//! corrected for their sampling probability, which is counted beforehand or, as there, estimated on the way (`[training] frequency`), and
//! further items are drawn from the catalogue. Exposure fields and crosses have no place in a tower and are left out.

use millstream_nn::{Embed, EmbedSpec, Inputs, Linear, Mlp, MlpConfig, Params, Pass, RowInit, Tensor, loss};
use millstream_schema::{Rows, Side};
use serde::Deserialize;

use super::intents::WHOLE_ALONE;
use super::next_item::check_shares;
use super::profile::{check_temperature, sized};
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef, Targets};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "two_tower", check, build, whole: false, graph: false };

/// The same under the name of its first paper.
pub const DSSM: RetrieverDef = RetrieverDef { name: "dssm", check, build, whole: false, graph: false };

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Width of each field's embedding.
    embedding: usize,
    /// Layers of each tower below the output.
    hidden: Vec<usize>,
    /// D: width of the vectors.
    dim: usize,
    dropout: f32,
    /// τ.
    temperature: f32,
    /// Whether the towers' vectors are made of unit length.
    unit: bool,
    /// Standard deviation of fresh embeddings.
    init_std: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            embedding: 32,
            hidden: vec![128],
            dim: 64,
            dropout: 0.0,
            temperature: 0.1,
            unit: true,
            init_std: 0.05,
        }
    }
}

/// Sizes of a [`Tower`].
#[derive(Debug, Clone)]
pub(super) struct TowerConfig {
    /// Width of each field's embedding.
    pub(super) embedding: usize,
    pub(super) hidden: Vec<usize>,
    /// D: width of the vectors.
    pub(super) dim: usize,
    pub(super) dropout: f32,
    /// Standard deviation of fresh embeddings.
    pub(super) init_std: f32,
    /// Further columns that join the embedded fields.
    pub(super) beside: usize,
}

/// Embedded fields through layers.
pub(super) struct Tower {
    embed: Embed,
    mlp: Mlp,
    out: Linear,
}

impl Tower {
    /// A tower over these fields, with weights `name.tower` and `name.out`.
    ///
    /// # Errors
    /// No field, or as [`Mlp::new`].
    pub(super) fn new(
        (cfg, shape): (&ModelConfig, &Shape<'_>),
        params: &mut Params,
        (name, fields): (&str, &[usize]),
        c: &TowerConfig,
    ) -> Result<Self, Error> {
        if fields.is_empty() {
            return Err(Error::Config(format!("model `{}`: the {name} tower has no field", cfg.name)));
        }
        let spec = EmbedSpec {
            dim: c.embedding,
            suffix: format!("d{}", c.embedding),
            init: RowInit::Normal(c.init_std),
        };
        let embed = Embed::new(params, shape.fields, fields, &spec)?;
        let mlp = MlpConfig { hidden: c.hidden.clone(), dropout: c.dropout, ..MlpConfig::default() };
        let mlp = Mlp::new(params, &format!("{name}.tower"), fields.len() * c.embedding + c.beside, &mlp)?;
        let out = Linear::new(params, &format!("{name}.out"), mlp.outputs(), c.dim)?;
        Ok(Tower { embed, mlp, out })
    }

    /// `[R, dim]` of the request's fields.
    pub(super) fn requests(&self, pass: &Pass, x: &Inputs, beside: Option<&Tensor>) -> Tensor {
        self.top(pass, &self.embed.forward_requests(pass, x), beside)
    }

    /// `[N, dim]` of the candidates' fields.
    pub(super) fn candidates(&self, pass: &Pass, x: &Inputs, beside: Option<&Tensor>) -> Tensor {
        self.top(pass, &self.embed.forward_candidates(pass, x), beside)
    }

    fn top(&self, pass: &Pass, embedded: &Tensor, beside: Option<&Tensor>) -> Tensor {
        let flat = embedded.flatten();
        let all = match beside {
            Some(beside) => Tensor::concat(&[&flat, beside]),
            None => flat,
        };
        self.out.forward(pass, &self.mlp.forward(pass, &all))
    }
}

/// The chosen fields of requests, or those of items among the candidates'.
pub(super) fn side(cfg: &ModelConfig, shape: &Shape<'_>, wanted: Rows) -> Result<Vec<usize>, Error> {
    let fits = |&f: &usize| {
        let field = &shape.fields[f];
        field.rows == wanted && (wanted == Rows::Request || shape.sides[f] == Side::Item)
    };
    Ok(cfg.chosen(shape.fields)?.into_iter().filter(fits).collect())
}

struct TwoTower {
    user: Tower,
    item: Tower,
    config: Config,
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    cfg.without("intents", WHOLE_ALONE)?;
    let c: Config = cfg.options()?;
    check_temperature(&cfg.name, c.temperature)?;
    check_shares(&cfg.name, &[("dropout", c.dropout)])
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    check(cfg)?;
    let c: Config = cfg.options()?;
    let tower = TowerConfig {
        embedding: c.embedding,
        hidden: c.hidden.clone(),
        dim: c.dim,
        dropout: c.dropout,
        init_std: c.init_std,
        beside: 0,
    };
    let users = side(cfg, shape, Rows::Request)?;
    let items = side(cfg, shape, Rows::Candidate)?;
    let user = Tower::new((cfg, shape), params, ("user", &users), &tower)?;
    let item = Tower::new((cfg, shape), params, ("item", &items), &tower)?;
    Ok(Box::new(TwoTower { user, item, config: c }))
}

impl Retriever for TwoTower {
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let vectors = sized(self.user.requests(pass, x, None), self.config.unit); // [R, D]
        vectors.reshape(&[x.requests(), 1, self.config.dim]) // [R, 1, D]
    }

    fn items(&self, pass: &Pass, x: &Inputs) -> Tensor {
        sized(self.item.candidates(pass, x, None), self.config.unit) // [N, D]
    }

    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor {
        loss::in_batch_softmax(&users.flatten(), items, &y.in_batch(self.config.temperature))
    }

    fn dim(&self) -> usize {
        self.config.dim
    }
}

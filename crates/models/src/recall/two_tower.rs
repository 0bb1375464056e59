//! Two towers (Huang et al., CIKM 2013; Yi et al., RecSys 2019): request fields on one side, item fields on the
//! other, unit vectors at the top, softmax over the batch's and sampled items.
//!
//! u = unit(W h_u), v = unit(W h_i), logit = ⟨u, v⟩ / τ − log q(item). As in Yi et al. the in-batch columns are
//! corrected for their sampling probability; unlike there, q is counted beforehand, and further items are drawn
//! from the catalogue. Exposure fields and crosses have no place in a tower and are left out.

use millstream_nn::{Embed, EmbedSpec, Inputs, Linear, Mlp, MlpConfig, Params, Pass, RowInit, Tensor, loss};
use millstream_schema::{Rows, Side};
use serde::Deserialize;

use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef, Targets};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef =
    RetrieverDef { name: "two_tower", check: |cfg| cfg.options::<Config>().map(drop), build, whole: false };

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
    /// Standard deviation of fresh embeddings.
    init_std: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self { embedding: 32, hidden: vec![128], dim: 64, dropout: 0.0, temperature: 0.1, init_std: 0.05 }
    }
}

struct Tower {
    embed: Embed,
    mlp: Mlp,
    out: Linear,
}

struct TwoTower {
    user: Tower,
    item: Tower,
    dim: usize,
    temperature: f32,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    let c: Config = cfg.options()?;
    if !(c.temperature.is_finite() && c.temperature > 0.0) {
        return Err(Error::Config(format!(
            "model `two_tower`: temperature must be above 0, not {}",
            c.temperature
        )));
    }
    let chosen = cfg.chosen(shape.fields)?;
    let side = |wanted: Rows| -> Vec<usize> {
        let fits = |&&f: &&usize| {
            let field = &shape.fields[f];
            field.rows == wanted && (wanted == Rows::Request || shape.sides[f] == Side::Item)
        };
        chosen.iter().filter(fits).copied().collect()
    };
    let mut tower = |name: &str, fields: &[usize]| -> Result<Tower, Error> {
        if fields.is_empty() {
            return Err(Error::Config(format!("model `two_tower`: the {name} tower has no field")));
        }
        let spec = EmbedSpec {
            dim: c.embedding,
            suffix: format!("d{}", c.embedding),
            init: RowInit::Normal(c.init_std),
        };
        let embed = Embed::new(params, shape.fields, fields, &spec)?;
        let mlp = MlpConfig { hidden: c.hidden.clone(), dropout: c.dropout, ..MlpConfig::default() };
        let mlp = Mlp::new(params, &format!("{name}.tower"), fields.len() * c.embedding, &mlp)?;
        let out = Linear::new(params, &format!("{name}.out"), mlp.outputs(), c.dim)?;
        Ok(Tower { embed, mlp, out })
    };
    let user = tower("user", &side(Rows::Request))?;
    let item = tower("item", &side(Rows::Candidate))?;
    Ok(Box::new(TwoTower { user, item, dim: c.dim, temperature: c.temperature }))
}

impl Tower {
    /// [.., F, D] → unit vectors [.., dim].
    fn top(&self, pass: &Pass, embedded: &Tensor) -> Tensor {
        let h = self.mlp.forward(pass, &embedded.flatten());
        self.out.forward(pass, &h).l2_normalise()
    }
}

impl Retriever for TwoTower {
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let unit = self.user.top(pass, &self.user.embed.forward_requests(pass, x)); // [R, D]
        unit.reshape(&[x.requests(), 1, self.dim]) // [R, 1, D]
    }

    fn items(&self, pass: &Pass, x: &Inputs) -> Tensor {
        self.item.top(pass, &self.item.embed.forward_candidates(pass, x)) // [N, D]
    }

    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor {
        let known = loss::InBatch {
            temperature: self.temperature,
            log_q: y.log_q,
            items: y.items,
            weights: y.weights,
        };
        loss::in_batch_softmax(&users.flatten(), items, &known)
    }

    fn dim(&self) -> usize {
        self.dim
    }
}

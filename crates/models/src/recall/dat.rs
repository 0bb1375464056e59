//! DAT, dual augmented two towers (Yu et al., DLP-KDD 2021): each user and each item has a vector that learns to be what the other side
//! answers to it, as a further input of its own tower.
//!
//! p_u = unit(tower([x_u ‖ a_u])), p_v likewise; in-batch softmax of ⟨p_u, p_v⟩/τ; mimic loss over positives alone
//! mean ‖a_u − sg(p_v)‖² + mean ‖a_v − sg(p_u)‖², times `mimic`. Category alignment (`align`): Σ_c ‖Cov(p_v of the largest category) −
//! Cov(p_v of c)‖²_F over the batch's categories with two items or more. Gradients of the mimic loss reach the augmented vectors only.

use millstream_nn::{Inputs, Params, Pass, RowInit, TableId, Tensor, Transpose, loss};
use millstream_schema::{Rows, Shape as Kind, suggest};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::intents::WHOLE_ALONE;
use super::next_item::check_shares;
use super::profile::check_temperature;
use super::simplex::{pair, rows};
use super::two_tower::{Tower, TowerConfig, side};
use crate::ranker::Shape;
use crate::retriever::{Retriever, RetrieverDef, Targets};
use crate::{Error, ModelConfig};

/// Entry of the list of retrievers.
pub const DEF: RetrieverDef = RetrieverDef { name: "dat", check, build, whole: false, graph: false };

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Width of each field's embedding.
    embedding: usize,
    /// Layers of each tower below the output.
    hidden: Vec<usize>,
    /// D: width of the vectors, and of the augmented ones.
    dim: usize,
    dropout: f32,
    /// τ.
    temperature: f32,
    /// Weight of the mimic loss; 0 for none.
    mimic: f32,
    /// Weight of the alignment of categories; 0 for none.
    align: f32,
    /// The item feature with one key that is the category.
    category: Option<String>,
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
            mimic: 0.5,
            align: 0.0,
            category: None,
            init_std: 0.05,
        }
    }
}

fn check(cfg: &ModelConfig) -> Result<(), Error> {
    cfg.without("intents", WHOLE_ALONE)?;
    let c: Config = cfg.options()?;
    let fail = |text: &str| Err(Error::Config(format!("model `{}`: {text}", cfg.name)));
    check_temperature(&cfg.name, c.temperature)?;
    if ![c.mimic, c.align].iter().all(|w| w.is_finite() && *w >= 0.0) {
        return fail("`mimic` and `align` must be 0 or more");
    }
    if (c.align > 0.0) != c.category.is_some() {
        return fail("`align` above 0 and `category` go together");
    }
    check_shares(&cfg.name, &[("dropout", c.dropout)])
}

struct Dat {
    user: Tower,
    item: Tower,
    /// Places of the two ids and the tables of their augmented vectors.
    augmented: [(usize, TableId); 2],
    category: Option<usize>,
    config: Config,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Retriever>, Error> {
    check(cfg)?;
    let c: Config = cfg.options()?;
    let (item_id, user_id) = pair(cfg, shape)?;
    let category = c.category.as_deref().map(|name| category((cfg, shape), name)).transpose()?;
    let tower = TowerConfig {
        embedding: c.embedding,
        hidden: c.hidden.clone(),
        dim: c.dim,
        dropout: c.dropout,
        init_std: c.init_std,
        beside: c.dim,
    };
    let user = Tower::new((cfg, shape), params, ("user", &side(cfg, shape, Rows::Request)?), &tower)?;
    let item = Tower::new((cfg, shape), params, ("item", &side(cfg, shape, Rows::Candidate)?), &tower)?;
    let mut table = |place: usize| {
        let space = shape.fields[place].space.clone().unwrap_or_default();
        let name = format!("{space}/augmented/d{}", c.dim);
        params.table(&name, &space, c.dim, RowInit::Normal(c.init_std)).map(|table| (place, table))
    };
    let augmented = [table(user_id)?, table(item_id)?];
    Ok(Box::new(Dat { user, item, augmented, category, config: c }))
}

fn category((cfg, shape): (&ModelConfig, &Shape<'_>), name: &str) -> Result<usize, Error> {
    let fits = |f: &usize| shape.fields[*f].rows == Rows::Candidate && shape.fields[*f].shape == Kind::Key;
    let valid: Vec<usize> = (0..shape.fields.len()).filter(fits).collect();
    valid.iter().copied().find(|f| shape.fields[*f].name == name).ok_or_else(|| {
        let names = valid.iter().map(|f| shape.fields[*f].name.as_str());
        let what = suggest::unknown("item feature with one key", name, names);
        Error::Config(format!("model `{}`: category: {what}", cfg.name))
    })
}

impl Dat {
    fn user(&self, pass: &Pass, x: &Inputs, augmented: &Tensor) -> Tensor {
        self.user.requests(pass, x, Some(augmented)).l2_normalise() // [R, D]
    }

    fn item(&self, pass: &Pass, x: &Inputs, augmented: &Tensor) -> Tensor {
        self.item.candidates(pass, x, Some(augmented)).l2_normalise() // [N, D]
    }

    /// Σ over categories of the squared distance of their covariances from the largest category's.
    fn alignment(&self, pass: &Pass, x: &Inputs, items: &Tensor) -> Option<Tensor> {
        let millstream_nn::FieldInput::Key(keys) = x.field(self.category?) else { return None };
        let mut members: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        keys.iter().zip(0..).for_each(|(key, n)| members.entry(*key).or_default().push(n));
        let mut found: Vec<Vec<u32>> = members.into_values().filter(|rows| rows.len() > 1).collect();
        // The largest first, of equal ones the one met first.
        found.sort_by_key(|rows| (std::cmp::Reverse(rows.len()), rows[0]));
        let mut all = found.into_iter().map(|rows| covariance(pass, items, rows));
        let major = all.next()?;
        all.map(|other| major.sub(&other).square().sum()).reduce(|sum, more| sum.add(&more))
    }
}

/// `[D, D]` of the rows named.
fn covariance(pass: &Pass, vectors: &Tensor, rows: Vec<u32>) -> Tensor {
    let n = rows.len();
    let x = vectors.gather(&Arc::new(rows)); // [n, D]
    let ones = pass.constant(&[1, n], vec![1.0 / n as f32; n]);
    let mean = ones.matmul(&x, Transpose::Neither); // [1, D]
    let centred = x.add_row(&mean.scale(-1.0));
    centred.matmul(&centred, Transpose::Left).scale(1.0 / (n - 1) as f32)
}

impl Retriever for Dat {
    fn users(&self, pass: &Pass, x: &Inputs) -> Tensor {
        self.user(pass, x, &rows(x, self.augmented[0])).reshape(&[x.requests(), 1, self.config.dim])
    }

    fn items(&self, pass: &Pass, x: &Inputs) -> Tensor {
        self.item(pass, x, &rows(x, self.augmented[1]))
    }

    fn loss(&self, users: &Tensor, items: &Tensor, y: &Targets<'_>) -> Tensor {
        loss::in_batch_softmax(&users.flatten(), items, &y.in_batch(self.config.temperature))
    }

    fn learn(&self, pass: &Pass, x: &Inputs, y: &Targets<'_>) -> Tensor {
        let (own, other) = (rows(x, self.augmented[0]), rows(x, self.augmented[1]));
        let (users, items) = (self.user(pass, x, &own), self.item(pass, x, &other));
        let (r, d) = (x.requests(), self.config.dim);
        let mut total = self.loss(&users, &items, y);
        if self.config.mimic > 0.0 {
            let right = items.slice_rows(0, r).detach();
            let user = own.sub(&right).square().sum();
            let item = other.slice_rows(0, r).sub(&users.detach()).square().sum();
            total = total.add(&user.add(&item).scale(self.config.mimic / r.max(1) as f32));
        }
        if let Some(apart) = self.alignment(pass, x, &items).filter(|_| self.config.align > 0.0) {
            total = total.add(&apart.scale(self.config.align));
        }
        debug_assert_eq!(users.shape(), [r, d]);
        total
    }

    fn dim(&self) -> usize {
        self.config.dim
    }
}

//! Gradient-boosted decision trees (Friedman 2001), second order (Chen and Guestrin 2016), with LambdaRank (Burges 2010).
//!
//! logit = base + Σ over trees of the leaf that a row falls into. Fitted on all rows at once instead of by steps. The
//! trees are grown by `forust-ml`; the derivatives they are grown on, and the walk over the fitted trees, are here.
//!
//! Columns are the numbers of dense fields, and the keys of fields with one key of a bounded space, as numbers; NaN is
//! missing and goes where each split learned that it should. Other fields cannot be compared: they are left
//! out, or refused where `fields` names them.

mod columns;
mod forest;
mod grow;
mod objective;

use millstream_nn::{Inputs, Params, Pass, Tensor};
use serde::Deserialize;

use self::columns::{Columns, Matrix};
use self::forest::{Layout, Read};
use self::grow::{Sample, grow};
use self::objective::{Objective, Truth};
use crate::behaviour::NO_BLOCKS;
use crate::ranker::{FitData, Fitted, Ranker, RankerDef, Shape};
use crate::{Error, ModelConfig};

/// Entry of the list of rankers.
pub const DEF: RankerDef = RankerDef::new("gbdt", |cfg| Config::read(cfg).map(drop), build).with_fit(fit);

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    objective: Objective,
    /// Trees at most, per task.
    trees: usize,
    /// Leaves of a tree at most; the leaf with the most to gain is split first.
    leaves: usize,
    /// Splits above a leaf at most.
    depth: Option<usize>,
    /// Factor on each tree.
    learning_rate: f32,
    /// Rows of a leaf at least, counted by their share of the Hessian (as LightGBM does; exact for regression).
    min_rows: f32,
    /// Sum of the Hessians of a leaf at least.
    min_hessian: f32,
    /// A split must save this much loss.
    min_gain: f32,
    l1: f32,
    l2: f32,
    /// Share of the rows that each tree sees.
    row_fraction: f32,
    /// Share of the columns that each tree sees.
    feature_fraction: f32,
    /// Bins per column.
    bins: u16,
    /// Trees without a better validation before growing stops; 0 never. The best number of trees is kept.
    patience: usize,
    /// Whether the best number of trees is then grown again on training and validation rows together.
    refit: bool,
    /// Cut-off of the NDCG that early stopping watches when ranking.
    ndcg_at: usize,
    /// Pairs count with one of them among the first so many by score.
    truncation: usize,
    /// Steepness σ of a pair's logistic loss.
    sigmoid: f32,
    /// Whether lambdas are normalised by request.
    normalise: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            objective: Objective::Binary,
            trees: 300,
            leaves: 31,
            depth: None,
            learning_rate: 0.1,
            min_rows: 20.0,
            min_hessian: 1e-3,
            min_gain: 0.0,
            l1: 0.0,
            l2: 0.0,
            row_fraction: 1.0,
            feature_fraction: 1.0,
            bins: 255,
            patience: 30,
            refit: false,
            ndcg_at: 10,
            truncation: 30,
            sigmoid: 1.0,
            normalise: true,
        }
    }
}

impl Config {
    fn read(cfg: &ModelConfig) -> Result<Self, Error> {
        cfg.without("sequence", NO_BLOCKS)?;
        let own: Self = cfg.options()?;
        let fail = |key: &str, expected: &str| {
            Err(Error::Config(format!("model `{}`: key `{key}` must be {expected}", cfg.name)))
        };
        let counts = [("trees", own.trees), ("ndcg_at", own.ndcg_at), ("truncation", own.truncation)];
        if let Some((key, _)) = counts.iter().find(|(_, n)| *n == 0) {
            return fail(key, "above 0");
        }
        if !(2..=65_536).contains(&own.leaves) {
            return fail("leaves", "from 2 to 65536");
        }
        if own.bins < 2 || own.bins == u16::MAX {
            return fail("bins", "from 2 to 65534");
        }
        for (key, x) in [("learning_rate", own.learning_rate), ("sigmoid", own.sigmoid)] {
            if !(x > 0.0 && x.is_finite()) {
                return fail(key, "a number above 0");
            }
        }
        for (key, x) in [("row_fraction", own.row_fraction), ("feature_fraction", own.feature_fraction)] {
            if !(x > 0.0 && x <= 1.0) {
                return fail(key, "a share in (0, 1]");
            }
        }
        let least =
            [("min_rows", own.min_rows), ("min_hessian", own.min_hessian), ("min_gain", own.min_gain)];
        for (key, x) in least.into_iter().chain([("l1", own.l1), ("l2", own.l2)]) {
            if !(x >= 0.0 && x.is_finite()) {
                return fail(key, "a number of at least 0");
            }
        }
        Ok(own)
    }
}

struct Gbdt {
    columns: Columns,
    layout: Layout,
    read: Read,
}

fn build(cfg: &ModelConfig, shape: &Shape<'_>, params: &mut Params) -> Result<Box<dyn Ranker>, Error> {
    let own = Config::read(cfg)?;
    let columns = Columns::new(cfg, shape.fields)?;
    let layout = Layout::new(params, shape.tasks, own.trees, own.leaves)?;
    if layout.in_params(params).iter().any(|forest| !forest.is_sound(columns.width())) {
        return Err(Error::Corrupt("the saved trees of `gbdt` point outside themselves".into()));
    }
    Ok(Box::new(Gbdt { columns, layout, read: Read::default() }))
}

impl Ranker for Gbdt {
    fn forward(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let (rows, width) = (self.columns.of_inputs(x), self.columns.width());
        let forests = self.layout.in_pass(pass, &self.read);
        let scores: Vec<Vec<f64>> = forests.iter().map(|forest| forest.scores(&rows, width)).collect();
        let logits =
            (0..x.candidates()).flat_map(|row| scores.iter().map(move |task| task[row] as f32)).collect();
        pass.constant(&[x.candidates(), forests.len()], logits) // [N, T]
    }

    fn gain_importance(&self, params: &Params) -> Option<Vec<(String, f64)>> {
        let mut sums = vec![0.0; self.columns.width()];
        self.layout.in_params(params).iter().for_each(|forest| forest.add_gains(&mut sums));
        Some(self.columns.names().into_iter().zip(sums).collect())
    }
}

/// Grows a forest for each task.
fn fit(
    cfg: &ModelConfig,
    shape: &Shape<'_>,
    data: &FitData<'_>,
    params: &mut Params,
) -> Result<Fitted, Error> {
    let own = Config::read(cfg)?;
    let columns = Columns::new(cfg, shape.fields)?;
    let layout = Layout::new(params, shape.tasks, own.trees, own.leaves)?;
    let train = columns.of_batches(data.train, shape.tasks)?;
    let valid = columns.of_batches(data.valid, shape.tasks)?;
    if train.rows() == 0 {
        return Err(Error::Config("there is not a single row to train on".into()));
    }
    if own.objective.compares() && train.rows() > 1 && train.ends.len() == train.rows() {
        return Err(Error::Config(
            "model `gbdt`: its objective compares the rows of one request, but each request of this data has a single one; \
             group the rows ([dataset.table] request or queries), or take objective \"binary\" or \"regression\""
                .into(),
        ));
    }
    let before = layout.in_params(params);
    let mut fitted = Fitted { again: own.refit && valid.rows() > 0, ..Fitted::default() };
    for task in 0..shape.tasks {
        let (train, valid) = (train.in_space(task), valid.in_space(task));
        if train.rows() == 0 {
            return Err(Error::Config(format!("there is not a single row of task {} to train on", task + 1)));
        }
        check_labels(own.objective, &train, task)?;
        let trees = if data.again { before[task].trees.len() } else { own.trees };
        let own = Config { trees, ..own.clone() };
        let told = |round, badness| (data.progress)(fitted.rounds + round as u64, badness);
        let valid = (valid.rows() > 0).then(|| sample(&valid, task));
        let seed = data.seed.wrapping_add(task as u64);
        let grown = grow(&own, &sample(&train, task), valid.as_ref(), seed, &told)?;
        fitted.rounds += grown.forest.trees.len() as u64;
        fitted.loss += grown.badness;
        layout.write(params, task, &grown.forest);
    }
    Ok(fitted)
}

fn sample(matrix: &Matrix, task: usize) -> Sample<'_> {
    let truth = Truth { labels: &matrix.labels[task], weights: &matrix.weights, ends: &matrix.ends };
    Sample { rows: &matrix.values, width: matrix.width, truth }
}

fn check_labels(objective: Objective, train: &Matrix, task: usize) -> Result<(), Error> {
    match train.labels[task].iter().find(|&&y| y != 0.0 && y != 1.0) {
        Some(label) if objective == Objective::Binary => Err(Error::Config(format!(
            "model `gbdt`: objective \"binary\" takes labels 0 and 1, not {label}; graded labels go with \
             \"lambda_rank\", \"rank_net\" or \"regression\""
        ))),
        _ => Ok(()),
    }
}

//! Several tasks' probabilities, and what the channels thought, to one score.
//!
//! ```text
//! score = f(task probabilities) · Π_c (h / (h + r_c))^w_c
//! ```
//! f is the weighted sum or product of the tasks; r_c is the item's place in channel c's list, from 0, or the
//! channel's quota where it did not find the item. The second factor is a product of experts: it takes a
//! channel's order for a power law of relevance, so it needs no calibrated score and no training, and cannot leak
//! labels as a recall score used as a feature of the ranker would. Without channel weights it is 1.

use std::collections::BTreeMap;

use millstream_schema::suggest;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::merge::Hit;

/// How task probabilities are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FuseKind {
    /// Σ wᵢ sᵢ.
    #[default]
    Sum,
    /// Π sᵢ^wᵢ.
    Product,
}

/// The `[fuse]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FuseConfig {
    /// How.
    pub kind: FuseKind,
    /// Weight of each task that counts. Empty: all count with weight 1; otherwise a task not named counts for
    /// nothing.
    pub weights: BTreeMap<String, f32>,
    /// w_c of each channel whose order counts; none by default.
    pub channels: BTreeMap<String, f32>,
    /// h, above 0: where a channel's list has lost half its credit.
    pub half_rank: f32,
}

impl Default for FuseConfig {
    fn default() -> Self {
        Self { kind: FuseKind::Sum, weights: BTreeMap::new(), channels: BTreeMap::new(), half_rank: 20.0 }
    }
}

/// A checked [`FuseConfig`] for a scorer's tasks and a pipeline's channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Fuse {
    kind: FuseKind,
    weights: Vec<f32>,
    /// (channel, its quota, w_c) of the channels that count.
    channels: Vec<(u16, u32, f32)>,
    half_rank: f32,
}

/// A channel of the pipeline, as far as fusing needs to know it.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    /// Its name.
    pub name: &'a str,
    /// Most items in its list.
    pub quota: usize,
}

/// Whether all weights are finite and belong to something that exists.
fn check((key, what): (&str, &str), weights: &BTreeMap<String, f32>, valid: &[&str]) -> Result<(), Error> {
    for (name, weight) in weights {
        if !valid.contains(&name.as_str()) {
            let problem = suggest::unknown(what, name, valid.iter().copied());
            return Err(Error::Config(format!("fuse.{key}: {problem}")));
        }
        if !weight.is_finite() {
            return Err(Error::Config(format!("fuse.{key}: the weight of `{name}` is not a finite number")));
        }
    }
    Ok(())
}

impl Fuse {
    /// For these tasks, in the scorer's order, and these channels, in the pipeline's.
    ///
    /// # Errors
    /// A weight names no task or channel, or is not a finite number; `half_rank` is not above 0.
    pub fn new(config: &FuseConfig, tasks: &[String], lists: &[Listed<'_>]) -> Result<Self, Error> {
        let tasks_named: Vec<&str> = tasks.iter().map(String::as_str).collect();
        check(("weights", "task"), &config.weights, &tasks_named)?;
        let lists_named: Vec<&str> = lists.iter().map(|l| l.name).collect();
        check(("channels", "channel"), &config.channels, &lists_named)?;
        if !(config.half_rank.is_finite() && config.half_rank > 0.0) {
            return Err(Error::Config(format!("fuse.half_rank must be above 0, not {}", config.half_rank)));
        }
        let weighed = |(at, list): (usize, &Listed<'_>)| {
            let weight = config.channels.get(list.name).copied().filter(|w| *w != 0.0)?;
            Some((at as u16, list.quota as u32, weight))
        };
        let fallback = if config.weights.is_empty() { 1.0 } else { 0.0 };
        let weights = tasks.iter().map(|t| config.weights.get(t).copied().unwrap_or(fallback)).collect();
        let channels = lists.iter().enumerate().filter_map(weighed).collect();
        Ok(Self { kind: config.kind, weights, channels, half_rank: config.half_rank })
    }

    /// Π_c (h / (h + r_c))^w_c for an item that these channels found.
    pub fn evidence(&self, hits: &[Hit]) -> f32 {
        let factor = |&(channel, quota, weight): &(u16, u32, f32)| {
            let place = hits.iter().find(|h| h.channel == channel).map_or(quota, |h| h.position);
            (self.half_rank / (self.half_rank + place as f32)).powf(weight)
        };
        self.channels.iter().map(factor).product()
    }

    /// The score of one candidate's T probabilities.
    pub fn score(&self, probabilities: &[f32]) -> f32 {
        let pairs = probabilities.iter().zip(&self.weights);
        match self.kind {
            FuseKind::Sum => pairs.filter(|(_, w)| **w != 0.0).map(|(s, w)| s * w).sum(),
            FuseKind::Product => pairs.filter(|(_, w)| **w != 0.0).map(|(s, w)| s.powf(*w)).product(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fuse(kind: FuseKind, weights: &[(&str, f32)]) -> Result<Fuse, Error> {
        let weights = weights.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect();
        let config = FuseConfig { kind, weights, ..FuseConfig::default() };
        Fuse::new(&config, &["click".into(), "like".into()], &[])
    }

    #[test]
    fn a_channel_gives_credit_by_place_and_less_to_what_it_did_not_find() {
        let lists = [Listed { name: "hot", quota: 100 }, Listed { name: "item_cf", quota: 60 }];
        let channels = [("item_cf".to_owned(), 2.0)].into();
        let config = FuseConfig { channels, half_rank: 20.0, ..FuseConfig::default() };
        let fuse = Fuse::new(&config, &["click".into()], &lists).unwrap();
        let hit = |channel, position| Hit { channel, position, score: 0.0 };
        assert_eq!(fuse.evidence(&[hit(1, 0), hit(0, 7)]), 1.0);
        assert!((fuse.evidence(&[hit(1, 20)]) - 0.25).abs() < 1e-6);
        assert!((fuse.evidence(&[hit(0, 0)]) - 0.0625).abs() < 1e-6);
        let unknown = FuseConfig { channels: [("itm_cf".to_owned(), 1.0)].into(), ..FuseConfig::default() };
        let err = Fuse::new(&unknown, &["click".into()], &lists).unwrap_err().to_string();
        assert!(err.contains("did you mean `item_cf`"), "{err}");
    }

    #[test]
    fn sums_and_products_follow_their_formulas() {
        assert!((fuse(FuseKind::Sum, &[]).unwrap().score(&[0.25, 0.5]) - 0.75).abs() < 1e-6);
        let sum = fuse(FuseKind::Sum, &[("click", 2.0), ("like", -1.0)]).unwrap();
        assert!((sum.score(&[0.25, 0.1]) - 0.4).abs() < 1e-6);
        let product = fuse(FuseKind::Product, &[("click", 0.5), ("like", 2.0)]).unwrap();
        assert!((product.score(&[0.25, 0.5]) - 0.125).abs() < 1e-6);
    }

    #[test]
    fn a_task_without_weight_does_not_count_even_when_it_is_not_a_number() {
        assert_eq!(fuse(FuseKind::Sum, &[("like", 1.0)]).unwrap().score(&[f32::NAN, 0.5]), 0.5);
        assert_eq!(fuse(FuseKind::Product, &[("like", 1.0)]).unwrap().score(&[f32::NAN, 0.5]), 0.5);
    }

    #[test]
    fn unknown_tasks_are_answered_with_the_nearest() {
        let err = fuse(FuseKind::Sum, &[("clik", 1.0)]).unwrap_err().to_string();
        assert!(err.contains("did you mean `click`"), "{err}");
        assert!(fuse(FuseKind::Sum, &[("click", f32::NAN)]).is_err());
    }
}

//! Several tasks' probabilities, and what the channels thought, to one score.
//!
//! ```text
//! score = f(task probabilities) · Π_c (h / (h + r_c))^w_c
//! ```
//! f is one of four forms over the tasks' probabilities s_i, each in [0, 1]:
//!
//! | `kind` | f |
//! |---|---|
//! | `"sum"` | Σ wᵢ sᵢ |
//! | `"product"` | Π sᵢ^wᵢ |
//! | `"power_sum"` | Σ (αᵢ + wᵢ sᵢ)^βᵢ |
//! | `"power_product"` | Π (αᵢ + wᵢ sᵢ)^βᵢ |
//!
//! The last two take αᵢ from `offsets` (0 where not named) and βᵢ from `exponents` (1): an offset of 1 keeps a rare event
//! with a probability near 0 from wiping out a product, an exponent says how steeply a task counts. r_c is the item's place in channel c's list, from 0, or the
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
#[serde(rename_all = "snake_case")]
pub enum FuseKind {
    /// Σ wᵢ sᵢ.
    #[default]
    Sum,
    /// Π sᵢ^wᵢ.
    Product,
    /// Σ (αᵢ + wᵢ sᵢ)^βᵢ.
    PowerSum,
    /// Π (αᵢ + wᵢ sᵢ)^βᵢ.
    PowerProduct,
}

impl FuseKind {
    fn is_power(self) -> bool {
        matches!(self, Self::PowerSum | Self::PowerProduct)
    }
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
    /// αᵢ of the power forms, by task that counts; 0 where not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub offsets: BTreeMap<String, f32>,
    /// βᵢ of the power forms, by task that counts; 1 where not named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exponents: BTreeMap<String, f32>,
    /// w_c of each channel whose order counts; none by default.
    pub channels: BTreeMap<String, f32>,
    /// h, above 0: where a channel's list has lost half its credit.
    pub half_rank: f32,
}

impl Default for FuseConfig {
    fn default() -> Self {
        let none = BTreeMap::new;
        Self {
            kind: FuseKind::Sum,
            weights: none(),
            offsets: none(),
            exponents: none(),
            channels: none(),
            half_rank: 20.0,
        }
    }
}

/// A checked [`FuseConfig`] for a scorer's tasks and a pipeline's channels.
#[derive(Debug, Clone, PartialEq)]
pub struct Fuse {
    kind: FuseKind,
    /// The tasks that count.
    terms: Vec<Term>,
    /// (channel, its quota, w_c) of the channels that count.
    channels: Vec<(u16, u32, f32)>,
    half_rank: f32,
}

/// What one task adds.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Term {
    task: usize,
    weight: f32,
    offset: f32,
    exponent: f32,
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
            return Err(Error::Config(format!("fuse.{key}: the value of `{name}` is not a finite number")));
        }
    }
    Ok(())
}

impl Fuse {
    /// For these tasks, in the scorer's order, and these channels, in the pipeline's.
    ///
    /// # Errors
    /// A weight, offset or exponent names no task or channel, or is not a finite number; offsets or exponents without a
    /// power form, for a task that does not count, or such that a power of a number below 0 could be asked for;
    /// `half_rank` is not above 0.
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
        let channels = lists.iter().enumerate().filter_map(weighed).collect();
        let terms = terms(config, &tasks_named)?;
        Ok(Self { kind: config.kind, terms, channels, half_rank: config.half_rank })
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
        let pairs = self.terms.iter().filter_map(|t| Some((probabilities.get(t.task)?, t)));
        let power = |(s, t): (&f32, &Term)| (t.offset + t.weight * s).powf(t.exponent);
        match self.kind {
            FuseKind::Sum => pairs.map(|(s, t)| s * t.weight).sum(),
            FuseKind::Product => pairs.map(|(s, t)| s.powf(t.weight)).product(),
            FuseKind::PowerSum => pairs.map(power).sum(),
            FuseKind::PowerProduct => pairs.map(power).product(),
        }
    }
}

/// The tasks that count, with what they add.
fn terms(config: &FuseConfig, tasks: &[&str]) -> Result<Vec<Term>, Error> {
    for (key, values) in [("offsets", &config.offsets), ("exponents", &config.exponents)] {
        if !values.is_empty() && !config.kind.is_power() {
            return Err(Error::Config(format!(
                "fuse.{key} goes with kind = \"power_sum\" and kind = \"power_product\" only"
            )));
        }
        check((key, "task"), values, tasks)?;
    }
    let fallback = if config.weights.is_empty() { 1.0 } else { 0.0 };
    let term = |(task, name): (usize, &&str)| {
        let of = |from: &BTreeMap<String, f32>, fallback| from.get(*name).copied().unwrap_or(fallback);
        let weight = of(&config.weights, fallback);
        (weight != 0.0).then(|| Term {
            task,
            weight,
            offset: of(&config.offsets, 0.0),
            exponent: of(&config.exponents, 1.0),
        })
    };
    let found: Vec<Term> = tasks.iter().enumerate().filter_map(term).collect();
    let counts = |name: &String| found.iter().any(|t| tasks[t.task] == name);
    if let Some(name) = config.offsets.keys().chain(config.exponents.keys()).find(|name| !counts(name)) {
        return Err(Error::Config(format!(
            "fuse: `{name}` has an offset or exponent, but counts for nothing; give it a weight"
        )));
    }
    found.iter().filter(|_| config.kind.is_power()).try_for_each(|t| check_base(tasks[t.task], t))?;
    Ok(found)
}

/// Refuses a power of a number below 0, and a negative power of 0, for any probability.
fn check_base(name: &str, term: &Term) -> Result<(), Error> {
    let least = term.offset.min(term.offset + term.weight);
    let whole = term.exponent.fract() == 0.0;
    let fits = match term.exponent {
        e if e < 0.0 => least > 0.0,
        _ => least >= 0.0 || whole,
    };
    if fits {
        return Ok(());
    }
    Err(Error::Config(format!(
        "fuse: offset + weight · probability of `{name}` goes down to {least}, which has no power of {}; raise the offset",
        term.exponent
    )))
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

    /// A power form over click and like.
    fn power(text: &str) -> Result<Fuse, Error> {
        let config: FuseConfig = toml::from_str(text).unwrap();
        Fuse::new(&config, &["click".into(), "like".into()], &[])
    }

    #[test]
    fn powers_follow_their_formulas() {
        let all = "weights = { click = 2.0, like = 4.0 }\noffsets = { like = 1.0 }\nexponents = { click = 2.0, like = 0.5 }";
        // (0 + 2 · 0.25)^2 = 0.25 and (1 + 4 · 0.5)^0.5 = √3.
        let sum = power(&format!("kind = \"power_sum\"\n{all}")).unwrap().score(&[0.25, 0.5]);
        assert!((sum - (0.25 + 3f32.sqrt())).abs() < 1e-6);
        let product = power(&format!("kind = \"power_product\"\n{all}")).unwrap().score(&[0.25, 0.5]);
        assert!((product - 0.25 * 3f32.sqrt()).abs() < 1e-6);
        // Without offsets and exponents they are a sum and a product of w s.
        let plain = power("kind = \"power_product\"\nweights = { click = 3.0, like = 2.0 }").unwrap();
        assert!((plain.score(&[0.25, 0.5]) - 0.75).abs() < 1e-6);
        // Only the tasks with a weight count.
        let one = power("kind = \"power_sum\"\nweights = { like = 2.0 }\noffsets = { like = 1.0 }").unwrap();
        assert_eq!(one.score(&[f32::NAN, 0.5]), 2.0);
    }

    #[test]
    fn powers_that_cannot_be_are_refused() {
        for (text, said) in [
            ("offsets = { click = 1.0 }", "fuse.offsets goes with"),
            ("kind = \"product\"\nexponents = { click = 1.0 }", "fuse.exponents goes with"),
            ("kind = \"power_sum\"\nexponents = { lik = 1.0 }", "did you mean `like`"),
            (
                "kind = \"power_sum\"\nweights = { like = 1.0 }\noffsets = { click = 1.0 }",
                "counts for nothing",
            ),
            (
                "kind = \"power_sum\"\nexponents = { click = -1.0 }",
                "goes down to 0, which has no power of -1",
            ),
            (
                "kind = \"power_product\"\nweights = { click = -2.0 }\noffsets = { click = 1.0 }\nexponents = { click = 0.5 }",
                "goes down to -1",
            ),
            ("kind = \"power_sum\"\noffsets = { click = inf }", "not a finite number"),
        ] {
            let err = power(text).unwrap_err().to_string();
            assert!(err.contains(said), "{text}: {err}");
        }
        // A whole power of a number below 0 is one.
        assert!(
            power("kind = \"power_sum\"\nweights = { click = -2.0 }\nexponents = { click = 2.0 }").is_ok()
        );
        assert!(toml::from_str::<FuseConfig>("kind = \"powersum\"").is_err());
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

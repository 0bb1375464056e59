//! What makes a similarity of common members: the options that ItemCF and UserCF share.

use serde::{Deserialize, Serialize};

use crate::recall::cooccurrence::{Cooccurrence, Sides};
use crate::recall::positives::Grouped;
use crate::{Error, ModelConfig};

/// How a link's number of members lowers its weight: a user's number of items (ItemCF), an item's number of users (UserCF).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Damping {
    /// Not at all.
    None,
    /// 1 / ln(1 + n).
    Log,
    /// n^−`damping_power`.
    #[default]
    Power,
}

/// The options, under the names that the configuration has for them.
pub(crate) struct Similarity {
    pub(crate) neighbours: usize,
    pub(crate) damping: Damping,
    pub(crate) damping_power: f32,
    pub(crate) source_power: f32,
    pub(crate) target_power: f32,
    pub(crate) shrinkage: f32,
    pub(crate) decay_per_day: f32,
}

impl Similarity {
    /// # Errors
    /// An option of `model` is out of range.
    pub(crate) fn check(&self, model: &str) -> Result<(), Error> {
        let numbers = [
            ("damping_power", self.damping_power),
            ("source_power", self.source_power),
            ("target_power", self.target_power),
            ("shrinkage", self.shrinkage),
            ("decay_per_day", self.decay_per_day),
        ];
        match numbers.iter().find(|(_, x)| !(x.is_finite() && *x >= 0.0)) {
            Some((key, x)) => {
                Err(Error::Config(format!("{model}: key `{key}` is {x}; it must be 0 or more")))
            }
            None => Ok(()),
        }
    }

    /// The counting of it.
    pub(crate) fn over<'a>(&self, sides: &'a Sides) -> Cooccurrence<'a> {
        Cooccurrence {
            sides,
            weights: self.damping.weights(self.damping_power, &sides.by_link),
            decay_per_day: self.decay_per_day,
            source: powers(&sides.by_row, self.source_power),
            target: powers(&sides.by_row, self.target_power),
            shrinkage: self.shrinkage,
            neighbours: self.neighbours,
        }
    }
}

impl Damping {
    /// Refuses a power where none is taken, see [`ModelConfig::idle`].
    ///
    /// # Errors
    /// Names both options.
    pub(crate) fn idle(self, cfg: &ModelConfig) -> Result<(), Error> {
        match self {
            Self::None => cfg.idle("damping = \"none\"", &["damping_power"]),
            Self::Log => cfg.idle("damping = \"log\"", &["damping_power"]),
            Self::Power => Ok(()),
        }
    }

    /// Weight of each link by its number of members; none where all are 1.
    pub(crate) fn weights(self, power: f32, links: &Grouped) -> Vec<f32> {
        let weigh = |f: &dyn Fn(f32) -> f32| {
            (0..links.rows()).map(|l| f(links.count(l).max(1) as f32).max(f32::MIN_POSITIVE)).collect()
        };
        match self {
            Self::None => Vec::new(),
            Self::Log => weigh(&|n| 1.0 / n.ln_1p()),
            Self::Power => weigh(&|n| n.powf(-power)),
        }
    }
}

/// Each row's number of members to a power.
fn powers(rows: &Grouped, power: f32) -> Vec<f32> {
    (0..rows.rows()).map(|i| (rows.count(i) as f32).powf(power)).collect()
}

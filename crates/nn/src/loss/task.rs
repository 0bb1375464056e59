//! What a ranker is trained for, by name.

use super::{
    Groups, LambdaRank, bce, binary_focal, binary_kl, class_balanced_weights, class_focal, hinge,
    lambda_rank, list_mle, list_net, list_softmax, mae, margin_in_groups, mse, rank_net,
};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A loss of a ranker's logits, as a configuration names it: `loss = "bce"`, or with options
/// `loss = { name = "focal", gamma = 2.0 }`. An option that the loss does not have is an error.
///
/// Pointwise ones look at each candidate alone, pairwise and listwise ones at the candidates of one request; for
/// graded relevance (0, 1, 2, ..) take these.
///
/// ```
/// use millstream_nn::loss::TaskLoss;
/// let focal: TaskLoss = serde_json::from_str(r#"{ "name": "focal", "gamma": 1.5 }"#)?;
/// assert_eq!(focal, TaskLoss::Focal { gamma: 1.5, alpha: None });
/// assert_eq!(serde_json::from_str::<TaskLoss>(r#""rank_net""#)?, TaskLoss::RankNet { sigma: 1.0 });
/// assert!(serde_json::from_str::<TaskLoss>(r#"{ "name": "bce", "gamma": 1.5 }"#).is_err());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum TaskLoss {
    /// Binary cross-entropy, [`super::bce`]. Labels in [0, 1].
    Bce {
        /// Labels are moved this share of the way to ½, in [0, 1).
        #[serde(default)]
        label_smoothing: f32,
        /// Weight of the positive part, above 0.
        #[serde(default = "one")]
        positive_weight: f32,
    },
    /// Binary focal loss, [`super::binary_focal`]. Labels in [0, 1].
    Focal {
        /// γ, at least 0: how much easy examples lose.
        #[serde(default = "two")]
        gamma: f32,
        /// α of positives and 1 − α of negatives, in (0, 1); none for no such weights.
        #[serde(default)]
        alpha: Option<f32>,
    },
    /// Class-balanced cross-entropy or, with γ above 0, focal loss (Cui et al. 2019): each row is weighted by
    /// (1 − β) / (1 − β^n_c), [`class_balanced_weights`]. Labels 0 and 1.
    ClassBalanced {
        /// β, in [0, 1).
        #[serde(default = "most")]
        beta: f64,
        /// Training examples of class 0 and of class 1.
        counts: [u64; 2],
        /// γ of the focal loss, at least 0.
        #[serde(default)]
        gamma: f32,
    },
    /// (z − y)², [`super::mse`]: of the raw logit.
    Mse {},
    /// |z − y|, [`super::mae`]: of the raw logit.
    Mae {},
    /// max(0, 1 − (2y − 1) z), [`super::hinge`]. Labels 0 and 1.
    Hinge {},
    /// Kullback–Leibler divergence of Bernoulli distributions, [`super::binary_kl`]. Labels in [0, 1].
    Kl {},
    /// −log σ(zᵢ − zⱼ) over pairs of one request with yᵢ > yⱼ (Rendle et al. 2009): [`rank_net`] with σ = 1.
    Bpr {},
    /// max(0, m − zᵢ + zⱼ) over the same pairs, [`margin_in_groups`].
    Margin {
        /// m, above 0.
        #[serde(default = "one")]
        margin: f32,
    },
    /// log(1 + e^(−σ (zᵢ − zⱼ))) over the same pairs, [`rank_net`].
    RankNet {
        /// σ, above 0.
        #[serde(default = "one")]
        sigma: f32,
    },
    /// RankNet's slopes times |ΔNDCG|, [`lambda_rank`].
    LambdaRank {
        /// σ, above 0.
        #[serde(default = "one")]
        sigma: f32,
        /// k: pairs count that have a member among the first k.
        #[serde(default = "thirty")]
        truncation: usize,
        /// Whether slopes are scaled by differences of scores and by the size of each request's sum.
        #[serde(default = "yes")]
        normalise: bool,
    },
    /// Softmax cross-entropy against yᵢ / Σ y, [`list_softmax`].
    ListSoftmax {},
    /// Softmax cross-entropy against softmax(y), [`list_net`].
    ListNet {},
    /// Likelihood of the right order, [`list_mle`].
    ListMle {
        /// How many of the first places count; all when absent.
        #[serde(default)]
        top: Option<usize>,
    },
}

fn one() -> f32 {
    1.0
}
fn two() -> f32 {
    2.0
}
fn most() -> f64 {
    0.9999
}
fn thirty() -> usize {
    30
}
fn yes() -> bool {
    true
}

impl Default for TaskLoss {
    fn default() -> Self {
        Self::Bce { label_smoothing: 0.0, positive_weight: 1.0 }
    }
}

impl TaskLoss {
    /// Whether it looks at the candidates of a request together, so that requests must not be cut apart.
    pub fn is_grouped(&self) -> bool {
        matches!(
            self,
            Self::Bpr {}
                | Self::Margin { .. }
                | Self::RankNet { .. }
                | Self::LambdaRank { .. }
                | Self::ListSoftmax {}
                | Self::ListNet {}
                | Self::ListMle { .. }
        )
    }

    /// Largest label it is made for: 1, or none for graded relevance and for regression.
    pub fn largest_label(&self) -> Option<f32> {
        match self {
            Self::Bce { .. }
            | Self::Focal { .. }
            | Self::ClassBalanced { .. }
            | Self::Hinge {}
            | Self::Kl {} => Some(1.0),
            _ => None,
        }
    }

    /// Whether all options are in their ranges.
    ///
    /// # Errors
    /// The first that is not, with its range.
    pub fn check(&self) -> Result<()> {
        let share = |v: f32| (0.0..1.0).contains(&v);
        let above = |v: f32| v > 0.0 && v.is_finite();
        let (fits, option, value, range) = match *self {
            Self::Bce { label_smoothing: v, .. } if !share(v) => {
                (false, "label_smoothing", f64::from(v), "0 up to but below 1")
            }
            Self::Bce { positive_weight: v, .. } => (above(v), "positive_weight", f64::from(v), "above 0"),
            Self::Focal { gamma: v, .. } | Self::ClassBalanced { gamma: v, .. }
                if !(v >= 0.0 && v.is_finite()) =>
            {
                (false, "gamma", f64::from(v), "0 or above")
            }
            Self::Focal { alpha: Some(v), .. } => {
                (above(v) && v < 1.0, "alpha", f64::from(v), "above 0 and below 1")
            }
            Self::ClassBalanced { beta, .. } => {
                ((0.0..1.0).contains(&beta), "beta", beta, "0 up to but below 1")
            }
            Self::Margin { margin: v } => (above(v), "margin", f64::from(v), "above 0"),
            Self::RankNet { sigma: v } => (above(v), "sigma", f64::from(v), "above 0"),
            Self::LambdaRank { sigma: v, .. } if !above(v) => (false, "sigma", f64::from(v), "above 0"),
            Self::LambdaRank { truncation: v, .. } | Self::ListMle { top: Some(v) } => {
                let name = if matches!(self, Self::ListMle { .. }) { "top" } else { "truncation" };
                (v > 0, name, v as f64, "1 or above")
            }
            _ => return Ok(()),
        };
        match fits {
            true => Ok(()),
            false => Err(Error::Model(format!("`{option}` of the loss is {value}, expected {range}"))),
        }
    }
}

/// The loss of a ranker: a scalar, the sum over T tasks.
///
/// `logits` `[N, T]`; `labels` `[N·T]`; row `weights` `[N]`, or empty for all equal; `groups`: the candidates of each
/// request, which pointwise losses do not look at. Gradients are exact for all but LambdaRank, which is made of its
/// gradients.
///
/// # Panics
/// If the sizes do not fit.
pub fn task_loss(
    loss: &TaskLoss,
    logits: &Tensor,
    labels: &[f32],
    weights: &[f32],
    groups: &Groups,
) -> Tensor {
    match *loss {
        TaskLoss::Bce { label_smoothing, positive_weight } => {
            bce(logits, labels, weights, (label_smoothing, positive_weight))
        }
        TaskLoss::Focal { gamma, alpha } => binary_focal(logits, labels, weights, (gamma, alpha)),
        TaskLoss::ClassBalanced { beta, counts, gamma } => {
            let classes = class_balanced_weights(beta, &counts);
            class_focal(logits, labels, weights, (gamma, [classes[0], classes[1]]))
        }
        TaskLoss::Mse {} => mse(logits, labels, weights),
        TaskLoss::Mae {} => mae(logits, labels, weights),
        TaskLoss::Hinge {} => hinge(logits, labels, weights),
        TaskLoss::Kl {} => binary_kl(logits, labels, weights),
        TaskLoss::Bpr {} => rank_net(logits, labels, weights, groups, 1.0),
        TaskLoss::Margin { margin } => margin_in_groups(logits, labels, weights, groups, margin),
        TaskLoss::RankNet { sigma } => rank_net(logits, labels, weights, groups, sigma),
        TaskLoss::LambdaRank { sigma, truncation, normalise } => {
            let rule = LambdaRank { sigma, truncation, normalise };
            lambda_rank(logits, labels, weights, groups, &rule)
        }
        TaskLoss::ListSoftmax {} => list_softmax(logits, labels, weights, groups),
        TaskLoss::ListNet {} => list_net(logits, labels, weights, groups),
        TaskLoss::ListMle { top } => list_mle(logits, labels, weights, groups, top),
    }
}

impl Serialize for TaskLoss {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for TaskLoss {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(NameOrTable)
    }
}

/// A name alone stands for a table with that name and no options.
struct NameOrTable;

impl<'de> Visitor<'de> for NameOrTable {
    type Value = TaskLoss;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name of a loss, or a table with `name` and its options")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<TaskLoss, E> {
        TaskLoss::deserialize(MapDeserializer::new(std::iter::once(("name", name))))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<TaskLoss, A::Error> {
        TaskLoss::deserialize(MapAccessDeserializer::new(map))
    }
}

//! Losses: scalars from logits and what happened.
//!
//! | of | losses |
//! |---|---|
//! | each logit | [`bce_with_logits`], [`bce`], [`binary_focal`], [`class_focal`], [`binary_kl`], [`hinge`], [`mse`], [`mae`] |
//! | one class of C | [`softmax_cross_entropy`], [`smoothed_cross_entropy`], [`softmax_focal`], [`kl_divergence`] |
//! | pairs within groups | [`rank_net`], [`lambda_rank`], [`margin_in_groups`] |
//! | lists | [`list_softmax`], [`list_net`], [`list_mle`] |
//! | a positive and its negatives | [`bpr`], [`margin`], [`triplet`], [`sampled_softmax`], [`nce`], [`negative_sampling`] |
//! | the next item, for every element of sequences | [`choice`]: softmax, BCE and gBCE, BPR-max |
//! | two towers | [`in_batch_softmax`], [`info_nce`], [`focal_nce`], [`cosine_contrastive`] |
//!
//! [`task_loss`] chooses among those that a ranker can be trained with, by a configuration's [`TaskLoss`].

mod balance;
mod choice;
mod cosine_contrastive;
mod groups;
mod in_batch;
mod lambda_rank;
mod listwise;
mod pairwise;
mod pointwise;
mod sampled;
mod softmax;
mod task;

pub use balance::{class_balanced_weights, weights_by_class};
pub use choice::{Against, ChoiceItems, ChoiceLoss, choice, gbce_beta};
pub use cosine_contrastive::{CosineContrastive, cosine_contrastive};
pub use groups::Groups;
pub(crate) use in_batch::in_batch_logits;
pub use in_batch::{InBatch, in_batch_softmax};
pub use lambda_rank::{LambdaRank, lambda_rank};
pub use listwise::{list_mle, list_net, list_softmax};
pub use pairwise::{bpr, margin, margin_in_groups, rank_net, triplet};
pub use pointwise::{bce, bce_with_logits, binary_focal, binary_kl, class_focal, hinge, mae, mse};
pub use sampled::{Sampled, focal_nce, info_nce, nce, negative_sampling, sampled_softmax};
pub use softmax::{kl_divergence, smoothed_cross_entropy, softmax_cross_entropy, softmax_focal};
pub use task::{TaskLoss, task_loss};

/// Weight of each row over their sum; `1 / rows` each if `weights` is empty, zeros if they sum to nothing positive.
fn shares(weights: &[f32], rows: usize) -> Vec<f32> {
    if weights.is_empty() {
        return vec![1.0 / rows.max(1) as f32; rows];
    }
    assert_eq!(weights.len(), rows, "{} weights for {rows} rows", weights.len());
    let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
    let scale = if sum > 0.0 { 1.0 / sum } else { 0.0 };
    weights.iter().map(|w| (f64::from(*w) * scale) as f32).collect()
}

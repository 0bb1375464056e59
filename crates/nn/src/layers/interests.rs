//! Several vectors out of one sequence: interests.

use super::Linear;
use crate::chunks::{add_scaled, dot};
use crate::error::{Error, Result};
use crate::init::Init;
use crate::ops::{Bags, Pooling, softmax_row};
use crate::pairs::Pairs;
use crate::params::Params;
use crate::pass::Pass;
use crate::ragged::Ragged;
use crate::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// K interests by attention (ComiRec-SA; Cen et al., KDD 2020): A = softmax over the sequence of W₂ tanh(W₁ h), interest k is Σ_e A_ke h_e.
///
/// With K = 1 it is attention pooling. The order of elements does not matter.
#[derive(Debug, Clone)]
pub struct SelfAttentive {
    hidden: Linear,
    scores: Linear,
    interests: usize,
}

impl SelfAttentive {
    /// Weights `name.hidden` `[H, D]` and `name.scores` `[K, H]`, without biases as in the paper.
    ///
    /// # Errors
    /// No interest, or as [`Params::dense`].
    pub fn new(
        params: &mut Params,
        name: &str,
        (width, hidden): (usize, usize),
        interests: usize,
    ) -> Result<Self> {
        some(name, interests)?;
        let start = Init::XavierUniform;
        Ok(Self {
            hidden: Linear::without_bias(params, &format!("{name}.hidden"), (width, hidden), start)?,
            scores: Linear::without_bias(params, &format!("{name}.scores"), (hidden, interests), start)?,
            interests,
        })
    }

    /// Elements `[M, D]` → `[B, K, D]`; zero for an empty sequence.
    pub fn forward(&self, pass: &Pass, x: &Ragged) -> Tensor {
        let scores = self.scores.forward(pass, &self.hidden.forward(pass, x.values()).tanh()); // [M, K]
        let each = Pairs::each(x);
        let one = |k: usize| {
            scores.slice(k, 1).softmax_spans(each.offsets()).pair_sum(x.values(), &each) // [B, D]
        };
        let all: Vec<Tensor> = (0..self.interests).map(one).collect();
        Tensor::join(all).reshape(&[x.rows(), self.interests, x.width()])
    }
}

/// How capsules see the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bilinear {
    /// By one matrix for all (MIND).
    Shared,
    /// By one matrix for each capsule (in the manner of ComiRec-DR).
    Each,
}

/// Sizes and options of [`Capsules`].
#[derive(Debug, Clone, PartialEq)]
pub struct CapsuleConfig {
    /// K, at least 1.
    pub interests: usize,
    /// Rounds of routing, at least 1.
    pub iterations: usize,
    /// How elements are seen.
    pub bilinear: Bilinear,
    /// Standard deviation of the first routing logits, which are drawn once for all and not learned; at 0 capsules with a shared
    /// matrix stay equal for ever.
    pub logit_std: f32,
    /// Whether a short sequence has fewer: max(1, min(K, ⌊log₂ L⌋)).
    pub dynamic: bool,
}

impl Default for CapsuleConfig {
    /// MIND's: 4 interests, 3 rounds, a shared matrix, standard normal logits, fewer for short sequences.
    fn default() -> Self {
        Self { interests: 4, iterations: 3, bilinear: Bilinear::Shared, logit_std: 1.0, dynamic: true }
    }
}

/// K interests by dynamic routing from behaviours to interests (B2I; Li et al., MIND, CIKM 2019, §4.3, algorithm 1).
///
/// With ĥ_i = S h_i and logits b_ij, three times over: w_i = softmax over capsules j of b_i, z_j = Σ_i w_ij ĥ_i,
/// u_j = ‖z_j‖²/(1 + ‖z_j‖²) · z_j/‖z_j‖, b_ij += ⟨u_j, ĥ_i⟩. Gradients flow through the last sum and not through the weights, which are
/// found by routing.
///
/// Where a sequence has fewer interests than K, the others are copies of the first: a search finds with them what it found
/// already. First logits are drawn for places counted from the sequence's end, so that a history gives the same interests in any batch.
#[derive(Debug, Clone)]
pub struct Capsules {
    see: Linear,
    config: CapsuleConfig,
}

impl Capsules {
    /// Weight `name.weight`: `[D, D]` shared, or `[K·D, D]`.
    ///
    /// # Errors
    /// A number that is out of range, or as [`Params::dense`].
    pub fn new(params: &mut Params, name: &str, width: usize, config: CapsuleConfig) -> Result<Self> {
        some(name, config.interests)?;
        if config.iterations == 0 || !(config.logit_std.is_finite() && config.logit_std >= 0.0) {
            return Err(Error::Model(format!(
                "`{name}` needs a round of routing and a spread of at least 0"
            )));
        }
        let outputs = width * if config.bilinear == Bilinear::Each { config.interests } else { 1 };
        let see = Linear::without_bias(params, name, (width, outputs), Init::XavierUniform)?;
        Ok(Self { see, config })
    }

    /// Elements `[M, D]` → `[B, K, D]`, each of length below 1; zero for an empty sequence.
    pub fn forward(&self, pass: &Pass, x: &Ragged) -> Tensor {
        let (k, d) = (self.config.interests, x.width());
        let seen = self.see.forward(pass, x.values()); // [M, D] or [M, K·D]
        let data = seen.data();
        let spans: Vec<Range<usize>> = (0..x.rows()).map(|b| x.span(b)).collect();
        let routes: Vec<(usize, Vec<f32>)> =
            spans.into_par_iter().map(|span| self.route(data, (span, d))).collect();
        let (mut offsets, mut index, mut weights) = (vec![0u32], Vec::new(), Vec::new());
        for (b, (own, route)) in routes.iter().enumerate() {
            for j in (0..k).map(|j| if j < *own { j } else { 0 }) {
                index.extend(x.span(b).map(|e| match self.config.bilinear {
                    Bilinear::Shared => e as u32,
                    Bilinear::Each => (e * k + j) as u32,
                }));
                weights.extend(route.iter().skip(j).step_by(*own));
                offsets.push(index.len() as u32);
            }
        }
        let bags = Bags {
            offsets: Arc::new(offsets),
            index: Arc::new(index),
            weights: Some(Arc::new(weights)),
            pooling: Pooling::Sum,
        };
        let rows = seen.len() / d.max(1);
        seen.reshape(&[rows, d]).pool(&bags).squash().reshape(&[x.rows(), k, d])
    }

    /// How many interests K' a sequence has, and the weights `[L, K']` of the last round for its elements.
    fn route(&self, seen: &[f32], (span, d): (Range<usize>, usize)) -> (usize, Vec<f32>) {
        let (k, length) = (self.config.interests, span.len());
        let own = match self.config.dynamic {
            true => k.min(length.max(1).ilog2() as usize).max(1),
            false => k,
        };
        let element = |e: usize, j: usize| match self.config.bilinear {
            Bilinear::Shared => &seen[e * d..][..d],
            Bilinear::Each => &seen[(e * k + j) * d..][..d],
        };
        let mut logits: Vec<f32> = (0..length)
            .flat_map(|i| (0..own).map(move |j| (length - 1 - i, j)))
            .map(|(place, j)| self.config.logit_std * normal(place, j))
            .collect();
        let mut weights = vec![0.0; length * own];
        let mut capsule = vec![0.0; d];
        for round in 0..self.config.iterations {
            weights.copy_from_slice(&logits);
            weights.chunks_exact_mut(own).for_each(|row| {
                softmax_row(row);
            });
            if round + 1 == self.config.iterations {
                break;
            }
            for j in 0..own {
                capsule.fill(0.0);
                for (i, e) in span.clone().enumerate() {
                    add_scaled(&mut capsule, weights[i * own + j], element(e, j));
                }
                let squared = dot(&capsule, &capsule);
                let factor = squared.sqrt() / (1.0 + squared);
                for (i, e) in span.clone().enumerate() {
                    logits[i * own + j] += factor * dot(&capsule, element(e, j));
                }
            }
        }
        (own, weights)
    }
}

fn some(name: &str, interests: usize) -> Result<()> {
    match interests {
        0 => Err(Error::Model(format!("`{name}` needs at least one interest"))),
        _ => Ok(()),
    }
}

/// A standard normal number that belongs to a place and a capsule.
fn normal(place: usize, capsule: usize) -> f32 {
    let seed = ((place as u64) << 16) | capsule as u64;
    let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(seed ^ 0x4D49_4E44);
    // Box and Muller's.
    let (a, b): (f32, f32) = (rng.random(), rng.random());
    (-2.0 * (1.0 - a).ln()).sqrt() * (std::f32::consts::TAU * b).cos()
}

//! The long-tail intent constraint: a user should be as near to the unknown items of what they are after as to the known ones,
//! and far from what they happened to touch besides.
//!
//! Items are clustered into intents as they are learned ([`Clusters`]). For a state u and the items v of the batch, both of
//! length 1, with s_i = ⟨u, v_i⟩: the target intent is the next item's, the noise intents those of the clicks so far that are
//! another. To be small are
//!
//! - the variance of s over the items of the target intent (so that its tail catches up with its head), times `weight`;
//! - the mean of s over the noise intents (each counting alike, in it each item), plus what its variance is above `bound`, times
//!   `noise`.
//!
//! `form = "items"` computes them as they stand, O(N·D) for each state. `form = "centroid"` is the same without the N: means are
//! those by the intents' centroids μ, mean s = ⟨u, μ⟩, and with an intent's second moment M = mean v vᵀ, made once for a batch, mean
//! s² = uᵀ M u, so that a variance is uᵀ M u − ⟨u, μ⟩²: O(D²) for each state and intent. (A variance is no function of μ alone.)

use millstream_nn::{Bags, Clusters, Inputs, Params, Pass, Pooling, Ragged, Tensor, Transpose};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

use super::next_item::Catalogue;
use crate::{Error, ModelConfig};

/// Why a model takes no constraint.
pub(crate) const WHOLE_ALONE: &str = "is for models that learn from whole sequences: `sasrec`, `gru4rec`, `intent_split` and `gat_entmax`; leave it out";

/// How means and variances over an intent's items are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Form {
    /// By its centroid and second moment.
    #[default]
    Centroid,
    /// Item by item.
    Items,
}

/// `[model.intents]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IntentOptions {
    /// Intents.
    clusters: usize,
    /// Weight of the target intent's variance.
    weight: f32,
    /// Weight of the noise intents' mean.
    noise: f32,
    /// Variance over the noise intents that is none too much.
    bound: f32,
    form: Form,
}

impl Default for IntentOptions {
    fn default() -> Self {
        Self { clusters: 64, weight: 0.1, noise: 0.1, bound: 0.05, form: Form::Centroid }
    }
}

impl IntentOptions {
    /// # Errors
    /// An option out of its range.
    pub(crate) fn check(&self, model: &str) -> Result<(), Error> {
        let fail = |text: String| Err(Error::Config(format!("model `{model}`: [model.intents] {text}")));
        if self.clusters == 0 {
            return fail("clusters must be above 0".into());
        }
        let all = [("weight", self.weight), ("noise", self.noise), ("bound", self.bound)];
        match all.iter().find(|(_, v)| !(*v >= 0.0 && v.is_finite())) {
            Some((key, v)) => fail(format!("{key} must be 0 or more, not {v}")),
            None => Ok(()),
        }
    }

    /// Refuses options of a part that counts nothing, see [`ModelConfig::idle`].
    ///
    /// # Errors
    /// Names the option and the part.
    pub(crate) fn idle(&self, cfg: &ModelConfig) -> Result<(), Error> {
        match self.noise == 0.0 {
            true => cfg.idle("noise = 0", &["intents.bound"]),
            false => Ok(()),
        }
    }
}

/// The constraint with its clusters.
#[derive(Debug, Clone)]
pub(crate) struct Intents {
    options: IntentOptions,
    clusters: Clusters,
}

impl Intents {
    /// Statistics `intents.…` of items of width `dim`.
    pub(crate) fn new(options: IntentOptions, dim: usize, params: &mut Params) -> Result<Self, Error> {
        let clusters = Clusters::new(params, "intents", (options.clusters, dim))?;
        Ok(Self { options, clusters })
    }

    /// The constraint's loss: mean over the states after all elements `[P, D]`, whose next items are the first P candidates.
    pub(crate) fn loss(&self, pass: &Pass, x: &Inputs, of: &Catalogue, states: &Ragged) -> Tensor {
        let known = self.clusters.forward(pass, of.rows(x)).of;
        let next: Vec<u32> =
            of.candidates(x)[..states.elements()].iter().map(|row| known[*row as usize]).collect();
        let (history, intents) = (of.bags(x), self.options.clusters);
        let about = About { target: &next, noise: noise(history, &known, &next), of: &known, intents };
        let [variance, mean, above] = about.terms(pass, states.values(), of.rows(x), &self.options);
        variance.scale(self.options.weight).add(&mean.add(&above).scale(self.options.noise)).mean()
    }
}

/// The intents of the clicks up to each element that are not its target, each once, rising.
fn noise(history: &Bags, of: &[u32], target: &[u32]) -> Vec<Vec<u32>> {
    let mut out = Vec::with_capacity(target.len());
    for b in 0..history.len() {
        let mut so_far: Vec<u32> = Vec::new();
        for at in history.range(b) {
            let intent = of[history.index()[at] as usize];
            if let Err(place) = so_far.binary_search(&intent) {
                so_far.insert(place, intent);
            }
            out.push(so_far.iter().copied().filter(|i| *i != target[out.len()]).collect());
        }
    }
    out
}

/// What each state is after, and what the items are.
struct About<'a> {
    /// `[P]`.
    target: &'a [u32],
    /// `[P]`.
    noise: Vec<Vec<u32>>,
    /// `[U]`: intent of each item.
    of: &'a [u32],
    intents: usize,
}

impl About<'_> {
    /// By state `[P, 1]`: variance over the target intent, mean over the noise intents, and what the variance there is above the
    /// bound.
    fn terms(&self, pass: &Pass, states: &Tensor, items: &Tensor, options: &IntentOptions) -> [Tensor; 3] {
        let (u, v) = (states.l2_normalise(), items.l2_normalise());
        let variance_of = |(mean, squares): (&Tensor, Tensor)| squares.sub(&mean.square());
        let (variance, mean, above) = match options.form {
            Form::Centroid => {
                let asked = self.asked();
                let (means, squares) = self.moments((&u, &v), &asked.of_intent);
                let over = |of: &Bags| (means.pool(of), squares.pool(of));
                let (target, noise) = (over(&asked.target), over(&asked.noise));
                (variance_of((&target.0, target.1)), noise.0.clone(), variance_of((&noise.0, noise.1)))
            }
            Form::Items => {
                let scores = u.matmul(&v, Transpose::Right); // [P, U]
                let moments = |weights: Vec<f32>| {
                    let weights = pass.constant(scores.shape(), weights);
                    let mean = scores.mul(&weights).sum_rows();
                    let variance = variance_of((&mean, scores.square().mul(&weights).sum_rows()));
                    (mean, variance)
                };
                let variance = moments(self.weights(|p| vec![self.target[p]])).1;
                let (mean, above) = moments(self.weights(|p| self.noise[p].clone()));
                (variance, mean, above)
            }
        };
        [variance, mean, above.affine(1.0, -options.bound).relu()]
    }

    /// Which states ask which intents.
    fn asked(&self) -> Asked {
        let mut of_intent = vec![Vec::new(); self.intents];
        for (state, (target, noise)) in (0u32..).zip(self.target.iter().zip(&self.noise)) {
            of_intent[*target as usize].push(state);
            noise.iter().for_each(|intent| of_intent[*intent as usize].push(state));
        }
        let (mut target, mut noise) =
            (vec![Vec::new(); self.target.len()], vec![Vec::new(); self.target.len()]);
        let pairs = of_intent
            .iter()
            .zip(0u32..)
            .flat_map(|(states, intent)| states.iter().map(move |s| (*s, intent)));
        for ((state, intent), pair) in pairs.zip(0u32..) {
            let state = state as usize;
            let list = if intent == self.target[state] { &mut target } else { &mut noise };
            list[state].push(pair);
        }
        Asked { of_intent, target: bags(&target), noise: bags(&noise) }
    }

    /// Mean and mean square of the similarities of each state to the items of each intent that it asks `[pairs, 1]`, intent after intent.
    fn moments(&self, (u, v): (&Tensor, &Tensor), asked: &[Vec<u32>]) -> (Tensor, Tensor) {
        let mut members = vec![Vec::new(); self.intents];
        self.of.iter().zip(0u32..).for_each(|(intent, item)| members[*intent as usize].push(item));
        let (mut means, mut squares) = (Vec::new(), Vec::new());
        for (states, members) in asked.iter().zip(members).filter(|(states, _)| !states.is_empty()) {
            let share = 1.0 / members.len().max(1) as f32;
            let centroid = v.pool(&bags(std::slice::from_ref(&members))); // [1, D]
            let own = v.gather(&Arc::new(members));
            let moment = own.matmul(&own, Transpose::Left).scale(share); // [D, D]
            let u = u.gather(&Arc::new(states.clone()));
            means.push(u.matmul(&centroid, Transpose::Right));
            squares.push(u.matmul(&moment, Transpose::Neither).mul(&u).sum_rows());
        }
        let stacked = |parts: &[Tensor]| Tensor::stack_rows(&parts.iter().collect::<Vec<_>>());
        (stacked(&means), stacked(&squares))
    }

    /// `[P, U]`: the share of each item in a mean over intents, each counting alike and in it each item.
    fn weights(&self, intents_of: impl Fn(usize) -> Vec<u32>) -> Vec<f32> {
        let mut counts = vec![0u32; self.intents];
        self.of.iter().for_each(|intent| counts[*intent as usize] += 1);
        let mut out = vec![0.0; self.target.len() * self.of.len()];
        for (p, row) in out.chunks_exact_mut(self.of.len().max(1)).enumerate() {
            let intents = intents_of(p);
            for (share, intent) in row.iter_mut().zip(self.of).filter(|(_, i)| intents.contains(i)) {
                *share = 1.0 / (intents.len() as u32 * counts[*intent as usize]) as f32;
            }
        }
        out
    }
}

/// States and the intents that they ask, as pairs: intent after intent, in each the states in their order.
struct Asked {
    /// For each intent the states.
    of_intent: Vec<Vec<u32>>,
    /// For each state the pair with its target, and those with its noise.
    target: Bags,
    noise: Bags,
}

/// Means over numbered rows.
fn bags(of: &[Vec<u32>]) -> Bags {
    let mut offsets = vec![0u32];
    of.iter().for_each(|own| offsets.push(offsets[offsets.len() - 1] + own.len() as u32));
    match Bags::new(offsets, of.concat(), None, Pooling::Mean) {
        Ok(bags) => bags,
        Err(e) => unreachable!("offsets were made with their elements: {e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_nn::{Init, Mode, ParamId, gradcheck};

    const ITEMS: usize = 7;

    fn weights(params: &mut Params) -> (ParamId, ParamId) {
        let states = params.dense("states", &[4, 3], Init::Normal(1.0)).unwrap();
        (states, params.dense("items", &[ITEMS, 3], Init::Normal(1.0)).unwrap())
    }

    fn about() -> About<'static> {
        let noise = vec![vec![], vec![1], vec![0, 2], vec![1, 2]];
        About { target: &[0, 2, 1, 0], noise, of: &[0, 1, 0, 2, 2, 0, 1], intents: 4 }
    }

    fn options(form: Form) -> IntentOptions {
        IntentOptions { form, bound: 0.01, ..IntentOptions::default() }
    }

    /// Similarities of state p to the items of some intents, with each item's share.
    fn similarities(params: &Params, p: usize, intents: &[u32]) -> Vec<(f64, f64)> {
        let unit = |name: &str, row: usize| -> Vec<f64> {
            let v = &params.values(params.find(name).unwrap())[row * 3..][..3];
            let length = v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            v.iter().map(|v| f64::from(*v) / length).collect()
        };
        let about = about();
        let count = |i: u32| about.of.iter().filter(|of| **of == i).count();
        let u = unit("states", p);
        let own = (0..ITEMS).filter(|i| intents.contains(&about.of[*i]));
        own.map(|i| {
            let s = u.iter().zip(unit("items", i)).map(|(a, b)| a * b).sum();
            (s, 1.0 / (intents.len() * count(about.of[i])) as f64)
        })
        .collect()
    }

    #[test]
    fn both_forms_are_a_loop_over_items() {
        let mut params = Params::new(3);
        let (states, items) = weights(&mut params);
        let pass = Pass::new(&params, Mode::Infer, 0);
        let terms = |form| {
            let (u, v) = (pass.param(states), pass.param(items));
            about().terms(&pass, &u, &v, &options(form)).map(|t| t.to_vec())
        };
        let (by_item, by_centroid) = (terms(Form::Items), terms(Form::Centroid));
        for p in 0..4 {
            let moments = |of: &[(f64, f64)]| {
                let mean: f64 = of.iter().map(|(s, w)| s * w).sum();
                let variance: f64 = of.iter().map(|(s, w)| (s - mean).powi(2) * w).sum();
                (mean, variance)
            };
            let (target, noise) = (&about().target[p..=p], &about().noise[p]);
            let target = moments(&similarities(&params, p, target));
            let noise = moments(&similarities(&params, p, noise));
            let wanted = [target.1, noise.0, (noise.1 - 0.01).max(0.0)];
            for (term, wanted) in wanted.into_iter().enumerate() {
                for found in [&by_item, &by_centroid] {
                    let found = f64::from(found[term][p]);
                    assert!((found - wanted).abs() < 1e-6, "state {p}, term {term}: {found} for {wanted}");
                }
            }
            assert!(target.1 > 1e-3, "a variance of nothing proves nothing");
        }
        assert!(by_centroid[2].iter().any(|above| *above > 1e-3), "the bound is never passed");
        assert_eq!((by_item[1][0], by_centroid[1][0]), (0.0, 0.0), "no noise is no loss");
    }

    #[test]
    fn slopes_of_both_forms_are_finite_differences() {
        for form in [Form::Centroid, Form::Items] {
            let mut params = Params::new(4);
            let (states, items) = weights(&mut params);
            gradcheck::check(&mut params, 5e-3, |pass| {
                let (u, v) = (pass.param(states), pass.param(items));
                let [a, b, c] = about().terms(pass, &u, &v, &options(form));
                a.add(&b.scale(0.7)).add(&c.scale(0.3)).sum()
            })
            .unwrap();
        }
    }

    #[test]
    fn noise_is_what_was_clicked_so_far_and_is_not_looked_for() {
        let history = Bags::new(vec![0, 3, 3, 4], vec![4, 0, 4, 1], None, Pooling::Sum).unwrap();
        let of = [0, 1, 0, 2, 2];
        assert_eq!(noise(&history, &of, &[2, 2, 1, 0]), [vec![], vec![0], vec![0, 2], vec![1]]);
    }
}

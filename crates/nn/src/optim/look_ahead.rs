//! LookAhead: slow weights that follow the fast ones.

use super::Moments;
use crate::error::{Error, Result};
use crate::params::Params;
use rayon::prelude::*;

/// Names of slow weights in a saved state begin with this.
const PREFIX: &str = "look_ahead/";

/// Each k steps slow ← slow + alpha (fast − slow), and the fast weights go on from there (Zhang et al. 2019). It wraps
/// whatever rules move the dense weights; their memory is kept at each meeting, as in the authors' code.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LookAhead {
    /// Fast steps between meetings, at least 1.
    pub k: u64,
    /// Share of the way that the slow weights go, in (0, 1].
    pub alpha: f32,
}

impl Default for LookAhead {
    fn default() -> Self {
        Self { k: 5, alpha: 0.5 }
    }
}

impl LookAhead {
    /// Whether the constants are in their ranges.
    ///
    /// # Errors
    /// The one that is not, with its range.
    pub fn check(&self) -> Result<()> {
        if self.k == 0 {
            return Err(Error::Model("`k` of look-ahead is 0, expected 1 or above".into()));
        }
        if !(self.alpha > 0.0 && self.alpha <= 1.0) {
            let text = format!("`alpha` of look-ahead is {}, expected above 0 up to 1", self.alpha);
            return Err(Error::Model(text));
        }
        Ok(())
    }

    /// Notes the weights that are new to it: they are their own slow weights.
    pub(super) fn prepare(self, slow: &mut Vec<Moments>, params: &Params) {
        for id in params.ids().skip(slow.len()) {
            let first = if params.is_trained(id) { params.values(id).to_vec() } else { Vec::new() };
            let name = format!("{PREFIX}{}", params.name(id));
            slow.push(Moments { name, steps: 0, first, second: Vec::new() });
        }
    }

    /// Counts one step, and meets if it is the k-th.
    pub(super) fn follow(self, slow: &mut [Moments], params: &mut Params) {
        for (slow, id) in slow.iter_mut().zip(params.ids()) {
            slow.steps += 1;
            if slow.steps.is_multiple_of(self.k) && params.is_trained(id) {
                let fast = params.values_mut(id);
                fast.par_iter_mut().zip(&mut slow.first).with_min_len(32 * 1024).for_each(|(fast, slow)| {
                    *slow += self.alpha * (*fast - *slow);
                    *fast = *slow;
                });
            }
        }
    }
}

/// Splits a saved state into the rules' memory and the slow weights, which come last.
pub(super) fn split(mut state: Vec<Moments>) -> (Vec<Moments>, Vec<Moments>) {
    let at = state.iter().position(|m| m.name.starts_with(PREFIX)).unwrap_or(state.len());
    let slow = state.split_off(at);
    (state, slow)
}

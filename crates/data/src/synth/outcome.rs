//! What a user does with an impression, and when.

use super::items::ShareKind;
use super::policy::Slot;
use super::rng::{self, Rng};
use super::truth::{Taste, sigmoid};
use super::{ItemRow, UserRow, World};

/// No action is later than this after the one that led to it.
const LONGEST_MS: f64 = 7.0 * 86_400_000.0;

/// The actions that followed an impression; each with its moment, epoch milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Click, seconds after the impression; all other actions are later than it.
    pub click_ms: Option<i64>,
    /// End of playing and completion in [0, 1]; videos and live rooms only.
    pub play: Option<(i64, f32)>,
    /// Like, about a minute after the click.
    pub like_ms: Option<i64>,
    /// Put into the cart, minutes after the click.
    pub cart_ms: Option<i64>,
    /// Order, minutes to days after the cart.
    pub order_ms: Option<i64>,
}

/// P(cart | click), P(order | cart) and P(like | click) of each kind, for an average affinity.
fn habits(kind: ShareKind) -> (f64, f64, f64) {
    match kind {
        ShareKind::Product => (0.20, 0.35, 0.08),
        ShareKind::Live => (0.08, 0.45, 0.20),
        ShareKind::Video => (0.03, 0.30, 0.18),
    }
}

/// Closer matches are carted, liked and watched more: 0.5 to 1.5 times as often.
fn zeal(affinity: f32) -> f64 {
    0.5 + f64::from(affinity)
}

impl World {
    /// True probability that a click by `user` on `item` at `time_ms` is followed by a cart, whether they would click or
    /// not: the conversion rate over all exposures, which clicked ones overstate, since closer matches are clicked more
    /// as well.
    ///
    /// # Panics
    /// When a row is outside this world.
    pub fn cart_probability(&self, user: UserRow, item: ItemRow, time_ms: i64) -> f64 {
        let affinity = self.affinity(&self.taste(user, time_ms), item).clamp(0.0, 1.0);
        (habits(self.items.facts[item as usize].kind).0 * zeal(affinity)).min(1.0)
    }
}

impl Outcome {
    /// Draws what follows an impression at `time_ms` at a position with P(examined) = `examined`.
    pub(super) fn draw(
        world: &World,
        rng: &mut Rng,
        taste: &Taste<'_>,
        (slot, time_ms, examined): (&Slot, i64, f64),
    ) -> Self {
        let clicks = rng::uniform(rng) < examined * f64::from(sigmoid(slot.logit));
        if !clicks {
            return Self::default();
        }
        let click_ms = after(rng, time_ms, 6_000.0, 0.8);
        let affinity = world.affinity(taste, slot.item).clamp(0.0, 1.0);
        let zeal = zeal(affinity);
        let kind = world.items.facts[slot.item as usize].kind;
        let (cart, order, like) = habits(kind);
        let cart_ms = chance(rng, cart * zeal).then(|| after(rng, click_ms, 180_000.0, 1.2));
        let order_ms =
            cart_ms.filter(|_| chance(rng, order)).map(|ms| after(rng, ms, 4.0 * 3_600_000.0, 1.8));
        Self {
            click_ms: Some(click_ms),
            play: draw_play(rng, kind, affinity, click_ms),
            like_ms: chance(rng, like * zeal).then(|| after(rng, click_ms, 60_000.0, 1.0)),
            cart_ms,
            order_ms,
        }
    }
}

/// Completion is a logistic of affinity and noise; live rooms are left earlier than videos.
fn draw_play(rng: &mut Rng, kind: ShareKind, affinity: f32, click_ms: i64) -> Option<(i64, f32)> {
    let (ease, length_ms) = match kind {
        ShareKind::Product => return None,
        ShareKind::Live => (-2.0, 1_200_000.0),
        ShareKind::Video => (-0.5, 40_000.0),
    };
    let completion = sigmoid(ease + 2.5 * affinity + 1.2 * rng::normal(rng));
    let watched = f64::from(completion) * rng::log_normal(rng, length_ms, 0.5);
    Some((click_ms + 1_000 + watched.min(LONGEST_MS) as i64, completion))
}

fn chance(rng: &mut Rng, p: f64) -> bool {
    rng::uniform(rng) < p
}

/// A moment after `ms`: log-normal delay, at least half a second.
fn after(rng: &mut Rng, ms: i64, median_ms: f64, sigma: f64) -> i64 {
    ms + 500 + rng::log_normal(rng, median_ms, sigma).min(LONGEST_MS) as i64
}

//! The logging policy: how the slates in the log were chosen.

use super::rng::{self, Rng};
use super::schedule::Request;
use super::truth::Taste;
use super::{ItemRow, World};

const HOUR_MS: i64 = 3_600_000;
/// Noise (standard deviation, logits) of the policy's guess of what a user likes.
const GUESS_NOISE: f32 = 1.0;
/// Noise of the order within a slate.
const ORDER_NOISE: f32 = 1.5;
/// Candidates among which the interest channel picks the best guess.
const GUESSES: usize = 3;

/// Which part of the logging policy chose an impression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogChannel {
    /// By popularity over the whole catalogue.
    Popularity,
    /// From a category the user is interested in, best of three noisy guesses.
    Interest,
    /// Uniformly over living items.
    Random,
}

/// The living items of one hour, ready to be drawn from.
pub(super) struct Shelf {
    hour: i64,
    /// Items ordered by category.
    order: Vec<ItemRow>,
    /// Places in `order` of category c: starts[c]..starts[c + 1].
    starts: Vec<u32>,
    /// Running sum of the weights of living items along `order`, [items + 1].
    sums: Vec<f64>,
    alive: Vec<ItemRow>,
}

impl Shelf {
    pub(super) fn new(world: &World) -> Self {
        let facts = &world.items.facts;
        let mut order: Vec<ItemRow> = (0..facts.len() as ItemRow).collect();
        order.sort_by_key(|&i| facts[i as usize].category);
        let starts = (0..=world.config.categories)
            .map(|c| order.partition_point(|&i| u32::from(facts[i as usize].category) < c) as u32)
            .collect();
        Self {
            hour: i64::MIN,
            sums: vec![0.0; order.len() + 1],
            order,
            starts,
            alive: Vec::with_capacity(facts.len()),
        }
    }

    /// Brings the shelf to the hour of `time_ms`; items born or dead within the hour stay on it.
    pub(super) fn refresh(&mut self, world: &World, time_ms: i64) {
        let hour = time_ms.div_euclid(HOUR_MS);
        if hour == self.hour {
            return;
        }
        self.hour = hour;
        self.alive.clear();
        let (from, to) = (hour * HOUR_MS, (hour + 1) * HOUR_MS);
        let mut sum = 0.0;
        for (place, &item) in self.order.iter().enumerate() {
            let terms = &world.items.terms[item as usize];
            if terms.born_ms < to && terms.dies_ms > from {
                sum += f64::from(world.items.weight[item as usize]);
                self.alive.push(item);
            }
            self.sums[place + 1] = sum;
        }
    }

    /// An item of places `from..to`, by popularity.
    fn draw(&self, rng: &mut Rng, from: usize, to: usize) -> Option<ItemRow> {
        let (low, high) = (self.sums[from], self.sums[to]);
        if high <= low {
            return None;
        }
        let x = low + rng::uniform(rng) * (high - low);
        let place = from + self.sums[from + 1..=to].partition_point(|&s| s <= x);
        self.order.get(place.min(to - 1)).copied()
    }

    fn category(&self, category: u16) -> (usize, usize) {
        let c = category as usize;
        (self.starts[c] as usize, self.starts[c + 1] as usize)
    }
}

/// One chosen item.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) item: ItemRow,
    /// logit P(click | examined).
    pub(super) logit: f32,
    pub(super) channel: LogChannel,
    key: f32,
}

/// A slate under construction; its buffers are reused.
#[derive(Default)]
pub(super) struct Slate {
    slots: Vec<Slot>,
}

/// What the policy knows while it fills one slate.
struct Draw<'a> {
    world: &'a World,
    shelf: &'a Shelf,
    request: &'a Request,
    clicked: &'a [ItemRow],
    taste: Taste<'a>,
}

impl Slate {
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Fills the slate with living items, none twice and none in `clicked`, roughly best first.
    ///
    /// Only a user who has clicked all that lives is shown such items again.
    pub(super) fn fill(
        &mut self,
        world: &World,
        shelf: &Shelf,
        rng: &mut Rng,
        (request, clicked): (&Request, &[ItemRow]),
    ) {
        let draw = Draw { world, shelf, request, clicked, taste: world.taste(request.user, request.time_ms) };
        self.slots.clear();
        for _ in 0..world.config.slate {
            let Some((item, channel)) = draw.slot(rng, &self.slots) else {
                break;
            };
            let logit = world.logit(&draw.taste, item);
            self.slots.push(Slot { item, logit, channel, key: logit + ORDER_NOISE * rng::normal(rng) });
        }
        self.slots.sort_unstable_by(|a, b| b.key.total_cmp(&a.key).then(a.item.cmp(&b.item)));
    }
}

impl Draw<'_> {
    fn slot(&self, rng: &mut Rng, slots: &[Slot]) -> Option<(ItemRow, LogChannel)> {
        let wanted = self.channel(rng);
        for attempt in 0..24 {
            let channel = if attempt < 8 { wanted } else { LogChannel::Random };
            let item = match channel {
                LogChannel::Popularity => self.shelf.draw(rng, 0, self.shelf.order.len()),
                LogChannel::Interest => self.guess(rng, slots),
                LogChannel::Random => {
                    let n = self.shelf.alive.len() as u32;
                    (n > 0).then(|| self.shelf.alive[rng::below(rng, n) as usize])
                }
            };
            if let Some(item) = item.filter(|&i| self.fits(slots, i)) {
                return Some((item, channel));
            }
        }
        self.any(slots).map(|item| (item, LogChannel::Random))
    }

    fn channel(&self, rng: &mut Rng) -> LogChannel {
        let mix = &self.world.config.policy;
        let x = rng::uniform(rng);
        if x < mix.popularity {
            LogChannel::Popularity
        } else if x < mix.popularity + mix.interest {
            LogChannel::Interest
        } else {
            LogChannel::Random
        }
    }

    fn guess(&self, rng: &mut Rng, slots: &[Slot]) -> Option<ItemRow> {
        let user = self.request.user as usize;
        let interests = self.world.users.mind(user, self.request.time_ms).0;
        let total: f32 = interests.iter().map(|i| i.weight).sum();
        let mut x = total * rng::uniform(rng) as f32;
        let interest = interests.iter().find(|i| {
            x -= i.weight;
            x < 0.0
        });
        let (from, to) = self.shelf.category(interest.or(interests.last())?.category);
        let mut best: Option<(ItemRow, f32)> = None;
        for _ in 0..GUESSES {
            let drawn = self.shelf.draw(rng, from, to);
            let Some(item) = drawn.filter(|&i| self.fits(slots, i)) else {
                continue;
            };
            let guess = self.world.logit(&self.taste, item) + GUESS_NOISE * rng::normal(rng);
            if best.is_none_or(|(_, b)| guess > b) {
                best = Some((item, guess));
            }
        }
        best.map(|(item, _)| item)
    }

    fn fits(&self, slots: &[Slot], item: ItemRow) -> bool {
        self.may_stand(slots, item) && !self.clicked.contains(&item)
    }

    fn may_stand(&self, slots: &[Slot], item: ItemRow) -> bool {
        let alive = self.world.items.facts[item as usize].alive(self.request.time_ms);
        alive && slots.iter().all(|s| s.item != item)
    }

    /// Last resort of small worlds: the first item that fits, or else the first that lives.
    fn any(&self, slots: &[Slot]) -> Option<ItemRow> {
        let alive = || self.shelf.alive.iter().copied();
        alive().find(|&i| self.fits(slots, i)).or_else(|| alive().find(|&i| self.may_stand(slots, i)))
    }
}

//! When users come: sessions of requests, busy hours, heavy and light users.

use super::config::DAY_MS;
use super::rng::{self, Cumulative, Rng};
use super::{UserRow, World};

const HOUR_MS: f64 = 3_600_000.0;
/// Mean number of requests of a session.
const SESSION_REQUESTS: f64 = 4.0;

/// One request for a slate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) time_ms: i64,
    pub(super) user: UserRow,
}

/// Draws exactly `count` requests, in time order.
pub(super) fn make(world: &World, rng: &mut Rng, count: usize) -> Vec<Request> {
    let end = world.end_ms();
    let who = Cumulative::new((0..world.users.facts.len()).map(|u| presence(world, u)));
    let mut requests = Vec::with_capacity(count);
    while requests.len() < count {
        let user = who.draw(rng);
        let mut time_ms = session_start(world, rng, user);
        loop {
            requests.push(Request { time_ms, user: user as UserRow });
            time_ms += 1_000 + rng::log_normal(rng, 45_000.0, 0.7) as i64;
            let leaves = rng::uniform(rng) < 1.0 / SESSION_REQUESTS;
            if leaves || time_ms >= end || requests.len() == count {
                break;
            }
        }
    }
    requests.sort_unstable_by_key(|r| (r.time_ms, r.user));
    requests
}

/// Share of all sessions: activity times the part of the run after registration.
fn presence(world: &World, user: usize) -> f64 {
    let (start, end) = (world.start_ms(), world.end_ms());
    let from = world.users.facts[user].registered_ms.clamp(start, end);
    f64::from(world.users.leanings[user].activity) * (end - from) as f64
}

/// A moment after registration: mostly evenings, some lunch breaks, in the user's own time zone.
fn session_start(world: &World, rng: &mut Rng, user: usize) -> i64 {
    let facts = &world.users.facts[user];
    let from = facts.registered_ms.max(world.start_ms());
    let end = world.end_ms();
    let zone = 24.0 * f64::from(facts.region) / f64::from(world.config.regions);
    let shift = zone + f64::from(world.users.leanings[user].shift_hours);
    let mut time = from;
    for _ in 0..16 {
        time = from + (rng::uniform(rng) * (end - from) as f64) as i64;
        let midnight = world.start_ms() + (time - world.start_ms()).div_euclid(DAY_MS) * DAY_MS;
        let hour = (busy_hour(rng) + shift).rem_euclid(24.0);
        let busy = midnight + (hour * HOUR_MS) as i64;
        if busy >= from && busy < end {
            return busy;
        }
    }
    time.min(end - 1)
}

fn busy_hour(rng: &mut Rng) -> f64 {
    let x = rng::uniform(rng);
    if x < 0.6 {
        20.5 + 2.2 * f64::from(rng::normal(rng))
    } else if x < 0.85 {
        12.5 + 1.2 * f64::from(rng::normal(rng))
    } else {
        24.0 * rng::uniform(rng)
    }
}

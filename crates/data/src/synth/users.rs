//! The audience: who the users are, what they are interested in and when that changes.

use super::config::{DAY_MS, WorldConfig};
use super::items::{draw_language, stride};
use super::rng::{self, Part, Rng};
use super::space::{AGES, GENDERS, Space, near};

/// What is known of a user from the outside; numbers are indices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct User {
    /// Region, 0..regions.
    pub region: u16,
    /// Language, 0..languages.
    pub language: u16,
    /// Age band, 0..6.
    pub age: u8,
    /// Gender, 0..3.
    pub gender: u8,
    /// Moment of registration, epoch milliseconds; no session is earlier.
    pub registered_ms: i64,
}

/// One interest of a user at some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interest {
    /// Category, 0..categories.
    pub category: u16,
    /// Topic within the category, 0..topics.
    pub topic: u16,
    /// Weight in (0, 1]; the squares of a user's weights sum to 1.
    pub weight: f32,
}

/// A stretch of time during which a user's interests stay the same.
pub(super) struct Segment {
    pub(super) start_ms: i64,
    pub(super) interests: std::ops::Range<u32>,
}

/// Preferences besides interests, standard normal.
#[derive(Clone, Copy)]
pub(super) struct Leaning {
    pub(super) kind: [f32; 3],
    pub(super) price: f32,
    /// Share of all sessions, before normalising.
    pub(super) activity: f32,
    /// Hours by which this user's day is shifted.
    pub(super) shift_hours: f32,
}

/// All users.
pub(super) struct Users {
    pub(super) facts: Vec<User>,
    pub(super) leanings: Vec<Leaning>,
    /// Segments of user u: offsets[u]..offsets[u + 1].
    offsets: Vec<u32>,
    segments: Vec<Segment>,
    interests: Vec<Interest>,
    /// Latent vector of each segment, [segments, stride].
    vectors: Vec<f32>,
    stride: usize,
}

/// An interest while the user is being made: with its own direction.
struct Wish {
    interest: Interest,
    direction: Vec<f32>,
}

impl Users {
    pub(super) fn new(config: &WorldConfig, space: &Space) -> Self {
        let rng = &mut rng::stream(config.seed, Part::Users);
        let mut users = Self {
            facts: Vec::with_capacity(config.users as usize),
            leanings: Vec::with_capacity(config.users as usize),
            offsets: vec![0],
            segments: Vec::new(),
            interests: Vec::new(),
            vectors: Vec::new(),
            stride: stride(space.width),
        };
        for _ in 0..config.users {
            let user = draw_user(config, rng);
            users.facts.push(user);
            users.leanings.push(draw_leaning(config, rng));
            users.live(config, space, rng, &user);
            users.offsets.push(users.segments.len() as u32);
        }
        users
    }

    /// Draws the segments of one user: a switch of one interest at exponential intervals.
    fn live(&mut self, config: &WorldConfig, space: &Space, rng: &mut Rng, user: &User) {
        let demand = space.demand_of(user.gender, user.age);
        let count = 1 + rng::below(rng, 2 * config.interests - 1) as usize;
        let mut wishes: Vec<Wish> = Vec::with_capacity(count);
        for _ in 0..count {
            let wish = draw_wish(config, space, rng, (demand, &wishes));
            wishes.push(wish);
        }
        draw_weights(rng, &mut wishes);
        self.push_segment(i64::MIN, &wishes);
        let mut time = config.start_ms as f64;
        loop {
            time += rng::exponential(rng) * 30.0 * DAY_MS as f64 / config.drift.max(1e-12);
            if config.drift == 0.0 || time >= config.end_ms() as f64 {
                return;
            }
            let place = rng::below(rng, count as u32) as usize;
            wishes[place] = draw_wish(config, space, rng, (demand, &wishes));
            draw_weights(rng, &mut wishes);
            self.push_segment(time as i64, &wishes);
        }
    }

    fn push_segment(&mut self, start_ms: i64, wishes: &[Wish]) {
        let first = self.interests.len() as u32;
        self.interests.extend(wishes.iter().map(|w| w.interest));
        self.segments.push(Segment { start_ms, interests: first..self.interests.len() as u32 });
        let at = self.vectors.len();
        self.vectors.resize(at + self.stride, 0.0);
        for wish in wishes {
            let sum = self.vectors[at..].iter_mut().zip(&wish.direction);
            sum.for_each(|(s, d)| *s += wish.interest.weight * d);
        }
    }

    /// Segment in force at a time.
    fn segment(&self, user: usize, time_ms: i64) -> usize {
        let (first, end) = (self.offsets[user] as usize, self.offsets[user + 1] as usize);
        let later = self.segments[first..end].iter().rev().take_while(|s| s.start_ms > time_ms).count();
        end - 1 - later
    }

    /// Interests and latent vector [stride] at a time.
    pub(super) fn mind(&self, user: usize, time_ms: i64) -> (&[Interest], &[f32]) {
        let segment = self.segment(user, time_ms);
        let range = &self.segments[segment].interests;
        (
            &self.interests[range.start as usize..range.end as usize],
            &self.vectors[segment * self.stride..][..self.stride],
        )
    }

    /// Moments at which the user's interests change, ascending.
    pub(super) fn switches(&self, user: usize) -> impl Iterator<Item = i64> + '_ {
        let (first, end) = (self.offsets[user] as usize, self.offsets[user + 1] as usize);
        self.segments[first + 1..end].iter().map(|s| s.start_ms)
    }
}

fn draw_user(config: &WorldConfig, rng: &mut Rng) -> User {
    let region = rng::below(rng, config.regions);
    let run_ms = (config.end_ms() - config.start_ms) as f64;
    let when = rng::uniform(rng);
    let newcomer = rng::uniform(rng) < 0.15;
    let registered_ms = if newcomer {
        config.start_ms + (when * 0.9 * run_ms) as i64
    } else {
        config.start_ms - (when * 720.0 * DAY_MS as f64) as i64
    };
    User {
        region: region as u16,
        language: draw_language(config, rng, region) as u16,
        age: rng::weighted(rng, &[0.2, 0.28, 0.22, 0.15, 0.1, 0.05][..AGES]) as u8,
        gender: rng::weighted(rng, &[0.48, 0.48, 0.04][..GENDERS]) as u8,
        registered_ms,
    }
}

fn draw_leaning(config: &WorldConfig, rng: &mut Rng) -> Leaning {
    Leaning {
        kind: [rng::normal(rng), rng::normal(rng), rng::normal(rng)],
        price: rng::normal(rng),
        activity: rng::log_normal(rng, 1.0, config.activity_spread) as f32,
        shift_hours: rng::normal(rng),
    }
}

/// A topic the user does not hold yet, while there are such.
fn draw_wish(config: &WorldConfig, space: &Space, rng: &mut Rng, (demand, held): (&[f32], &[Wish])) -> Wish {
    let mut interest = Interest { category: 0, topic: 0, weight: 1.0 };
    for attempt in 0..32 {
        interest.category = rng::weighted(rng, demand) as u16;
        interest.topic = rng::below(rng, config.topics) as u16;
        // New categories first; after some attempts a new topic of a known category will do.
        let clash = held.iter().any(|w| {
            let same = w.interest.category == interest.category;
            same && (attempt < 16 || w.interest.topic == interest.topic)
        });
        if !clash {
            break;
        }
    }
    let topic = space.topic(interest.category as usize, interest.topic as usize);
    Wish { interest, direction: near(rng, topic, 0.4) }
}

fn draw_weights(rng: &mut Rng, wishes: &mut [Wish]) {
    for wish in wishes.iter_mut() {
        wish.interest.weight = (0.4 * rng::normal(rng)).exp();
    }
    let norm = wishes.iter().map(|w| w.interest.weight.powi(2)).sum::<f32>().sqrt();
    wishes.iter_mut().for_each(|w| w.interest.weight /= norm);
}

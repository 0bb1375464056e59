//! The log: impressions with their outcomes, and the same as events in the order of time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use millstream_schema::event::{Event, EventKind};

use super::outcome::Outcome;
use super::policy::{LogChannel, Shelf, Slate, Slot};
use super::rng::{self, Part, Rng};
use super::schedule::{self, Request};
use super::{ItemRow, UserRow, World};

/// One impression and all that came of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exposure {
    /// Moment of the impression, epoch milliseconds.
    pub time_ms: i64,
    /// Request, counted from 0 in time order.
    pub request: u32,
    /// Who saw it.
    pub user: UserRow,
    /// What was shown.
    pub item: ItemRow,
    /// Place in the slate, from 0.
    pub position: u32,
    /// Part of the logging policy that chose it.
    pub channel: LogChannel,
    /// What followed.
    pub outcome: Outcome,
}

/// Kind of a logged event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Shown.
    Impression,
    /// Clicked.
    Click,
    /// Played; the value is the completion in [0, 1].
    Play,
    /// Liked.
    Like,
    /// Put into the cart.
    Cart,
    /// Ordered.
    Order,
}

impl Action {
    /// Name as in [`EventKind`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Impression => "impression",
            Self::Click => "click",
            Self::Play => "play",
            Self::Like => "like",
            Self::Cart => "cart",
            Self::Order => "order",
        }
    }

    /// The schema's kind.
    pub fn kind(self) -> EventKind {
        match self {
            Self::Impression => EventKind::Impression,
            Self::Click => EventKind::Click,
            Self::Play => EventKind::Play,
            Self::Like => EventKind::Like,
            Self::Cart => EventKind::Cart,
            Self::Order => EventKind::Order,
        }
    }
}

/// An event of the log, small; [`World::event`] gives the schema's form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogEvent {
    /// Moment, epoch milliseconds.
    pub time_ms: i64,
    /// Who.
    pub user: UserRow,
    /// On what.
    pub item: ItemRow,
    /// What happened.
    pub action: Action,
    /// Completion of a play, 1 for all else.
    pub value: f32,
    /// Request of the impression that led to it.
    pub request: u32,
    /// Place in the slate, from 0.
    pub position: u32,
}

/// Impressions in time order; made by [`World::exposures`].
pub struct Exposures<'w> {
    world: &'w World,
    rng: Rng,
    requests: Vec<Request>,
    /// Requests begun so far.
    begun: usize,
    left: u64,
    shelf: Shelf,
    slate: Slate,
    /// Next position of the current slate.
    position: usize,
    /// P(examined) by position.
    examined: Vec<f64>,
    clicked: Vec<Vec<ItemRow>>,
}

impl<'w> Exposures<'w> {
    pub(super) fn new(world: &'w World) -> Self {
        let config = &world.config;
        let count = config.exposures.div_ceil(u64::from(config.slate)) as usize;
        let schedule = &mut rng::stream(config.seed, Part::Schedule);
        Self {
            world,
            rng: rng::stream(config.seed, Part::Log),
            requests: schedule::make(world, schedule, count),
            begun: 0,
            left: config.exposures,
            shelf: Shelf::new(world),
            slate: Slate::default(),
            position: 0,
            examined: (0..config.slate).map(|p| world.examine(p)).collect(),
            clicked: vec![Vec::new(); config.users as usize],
        }
    }

    fn next_slot(&mut self) -> Option<(Request, Slot)> {
        if self.position == self.slate.slots().len() {
            let request = self.requests.get(self.begun)?;
            self.begun += 1;
            self.position = 0;
            self.shelf.refresh(self.world, request.time_ms);
            let clicked = &self.clicked[request.user as usize];
            self.slate.fill(self.world, &self.shelf, &mut self.rng, (request, clicked));
        }
        let slot = *self.slate.slots().get(self.position)?;
        Some((self.requests[self.begun - 1], slot))
    }
}

impl Iterator for Exposures<'_> {
    type Item = Exposure;

    fn next(&mut self) -> Option<Exposure> {
        if self.left == 0 {
            return None;
        }
        let (request, slot) = self.next_slot()?;
        let position = self.position;
        self.position += 1;
        self.left -= 1;
        let taste = self.world.taste(request.user, request.time_ms);
        let place = (&slot, request.time_ms, self.examined[position]);
        let outcome = Outcome::draw(self.world, &mut self.rng, &taste, place);
        if outcome.click_ms.is_some() {
            self.clicked[request.user as usize].push(slot.item);
        }
        Some(Exposure {
            time_ms: request.time_ms,
            request: (self.begun - 1) as u32,
            user: request.user,
            item: slot.item,
            position: position as u32,
            channel: slot.channel,
            outcome,
        })
    }
}

/// A later event, ordered by time and then by the order of its making.
#[derive(Clone, Copy)]
struct Pending {
    sequence: u64,
    event: LogEvent,
}

impl Pending {
    fn key(&self) -> (i64, u64) {
        (self.event.time_ms, self.sequence)
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// All events in time order; made by [`World::events`].
///
/// The log ends with the run: actions that would come later are not in it, as in any real log.
pub struct Events<'w> {
    exposures: Exposures<'w>,
    ahead: Option<Exposure>,
    pending: BinaryHeap<Reverse<Pending>>,
    sequence: u64,
    end_ms: i64,
}

impl<'w> Events<'w> {
    pub(super) fn new(world: &'w World) -> Self {
        let mut exposures = Exposures::new(world);
        Self {
            ahead: exposures.next(),
            exposures,
            pending: BinaryHeap::new(),
            sequence: 0,
            end_ms: world.end_ms(),
        }
    }

    fn expect(&mut self, exposure: &Exposure) {
        let o = &exposure.outcome;
        let actions = [
            (Action::Click, o.click_ms.map(|ms| (ms, 1.0))),
            (Action::Play, o.play),
            (Action::Like, o.like_ms.map(|ms| (ms, 1.0))),
            (Action::Cart, o.cart_ms.map(|ms| (ms, 1.0))),
            (Action::Order, o.order_ms.map(|ms| (ms, 1.0))),
        ];
        for (action, at) in actions {
            let Some((time_ms, value)) = at.filter(|at| at.0 < self.end_ms) else {
                continue;
            };
            self.sequence += 1;
            self.pending.push(Reverse(Pending {
                sequence: self.sequence,
                event: event(exposure, action, time_ms, value),
            }));
        }
    }
}

fn event(exposure: &Exposure, action: Action, time_ms: i64, value: f32) -> LogEvent {
    LogEvent {
        time_ms,
        user: exposure.user,
        item: exposure.item,
        action,
        value,
        request: exposure.request,
        position: exposure.position,
    }
}

impl Iterator for Events<'_> {
    type Item = LogEvent;

    fn next(&mut self) -> Option<LogEvent> {
        let due = self.pending.peek().map(|p| p.0.event.time_ms);
        match (self.ahead, due) {
            (Some(exposure), due) if due.is_none_or(|due| due > exposure.time_ms) => {
                self.ahead = self.exposures.next();
                if exposure.outcome.click_ms.is_some() {
                    self.expect(&exposure);
                }
                Some(event(&exposure, Action::Impression, exposure.time_ms, 1.0))
            }
            _ => self.pending.pop().map(|p| p.0.event),
        }
    }
}

impl World {
    /// Exactly `exposures` impressions in time order, each with its outcome. Every call gives the same.
    pub fn exposures(&self) -> Exposures<'_> {
        Exposures::new(self)
    }

    /// Calls `each` for every impression, in time order.
    pub fn simulate(&self, mut each: impl FnMut(&Exposure)) {
        self.exposures().for_each(|e| each(&e));
    }

    /// Impressions and actions in the order of time. Every call gives the same.
    pub fn events(&self) -> Events<'_> {
        Events::new(self)
    }

    /// The schema's form of a logged event.
    pub fn event(&self, event: &LogEvent) -> Event {
        Event {
            user: self.user_id(event.user),
            item: self.item_id(event.item),
            kind: event.action.kind(),
            time_ms: event.time_ms,
            value: event.value,
            request: Some(super::request_id(event.request)),
            position: Some(event.position),
        }
    }
}

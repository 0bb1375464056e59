//! Slow, failing and panicking channels. Nothing here depends on how fast the machine is: a slow channel is
//! one that does not answer before it is told to.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::world::*;
use crate::channel::{Call, Candidate, Channel};
use crate::recall::Lane;
use crate::trace::ChannelStatus;
use crate::{Error, Pipeline};

const PATIENT: &str = "[recall]\ndeadline_ms = 600000\n";

#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap());
    }
}

struct Gated(Arc<Gate>);

impl Channel for Gated {
    fn recall(&self, _: &Call, _: usize) -> Result<Vec<Candidate>, Error> {
        self.0.pass();
        Ok(vec![Candidate { item: 3, score: 1.0 }])
    }
}

struct Faulty(bool);

impl Channel for Faulty {
    fn recall(&self, _: &Call, _: usize) -> Result<Vec<Candidate>, Error> {
        assert!(!self.0, "a planted panic");
        Err(Error::Part("the line is down".into()))
    }
}

fn with(name: &str, deadline_ms: u64, channel: impl Channel + 'static) -> Pipeline {
    let mut pipeline = pipeline(PATIENT, resources());
    let mut lane = Lane::new(name, false, Arc::new(channel));
    lane.deadline = Duration::from_millis(deadline_ms);
    pipeline.lanes.push(lane);
    pipeline
}

#[test]
fn a_late_channel_is_left_behind_and_a_hung_one_is_not_asked_until_it_is_done() {
    let gate = Arc::new(Gate::default());
    let pipeline = with("slow", 5, Gated(gate.clone()));
    let plain = super::world::pipeline(PATIENT, resources());
    let status = || {
        let feed = pipeline.recommend(&request(1, 10)).unwrap();
        assert_eq!(feed.items, plain.recommend(&request(1, 10)).unwrap().items);
        let slow = feed.trace.channels.into_iter().find(|c| &*c.name == "slow").unwrap();
        assert!(slow.reason.is_some() && slow.returned == 0);
        slow.status
    };
    assert_eq!(status(), ChannelStatus::Late);
    assert_eq!(status(), ChannelStatus::Late);
    assert_eq!(status(), ChannelStatus::Skipped);
    gate.open();
    // Once the two have come home it is asked again; whether it is in time then is the machine's affair.
    loop {
        let feed = pipeline.recommend(&request(1, 10)).unwrap();
        if feed.trace.channels.iter().any(|c| &*c.name == "slow" && c.status != ChannelStatus::Skipped) {
            break;
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_channel_that_fails_or_panics_fails_no_request_and_no_batch_and_both_say_so() {
    for (panics, word) in [(false, "the line is down"), (true, "panicked")] {
        let pipeline = with("faulty", 600_000, Faulty(panics));
        let live = pipeline.recommend(&request(1, 10)).unwrap();
        let batch = pipeline.recommend_batch(&[request(1, 10)]).unwrap();
        for feed in [&live, &batch[0]] {
            assert_eq!(feed.items.len(), 10);
            let faulty = feed.trace.channels.iter().find(|c| &*c.name == "faulty").unwrap();
            assert_eq!(faulty.status, ChannelStatus::Failed);
            assert!(faulty.reason.as_deref().unwrap().contains(word));
        }
    }
}

#[test]
fn with_no_channel_in_time_the_page_is_still_full() {
    let gate = Arc::new(Gate::default());
    let mut pipeline = with("slow", 1, Gated(gate.clone()));
    pipeline.lanes.retain(|l| &*l.name == "slow");
    let feed = pipeline.recommend(&request(1, 20)).unwrap();
    assert_eq!(feed.items.len(), 20);
    assert!(feed.trace.items.iter().all(|i| i.refill == Some("hot")));
    gate.open();
}

struct Careless;

impl Channel for Careless {
    fn recall(&self, call: &Call, _: usize) -> Result<Vec<Candidate>, Error> {
        let seen = call.request.seen.iter().copied();
        let items = seen.chain(DEAD).chain([5, 5, 5]).chain(150..ITEMS).chain([ITEMS + 7]);
        Ok(items.map(|item| Candidate { item, score: f32::NAN }).collect())
    }
}

#[test]
fn a_channel_that_breaks_the_law_harms_nobody() {
    let mut pipeline = with("careless", 600_000, Careless);
    pipeline.lanes.retain(|l| &*l.name == "careless");
    let mut request = request(4, 30);
    request.trace_all = true;
    let feed = pipeline.recommend(&request).unwrap();
    assert_eq!(feed.items.len(), 30);
    assert!(feed.items.iter().all(|i| !request.has_seen(i.row) && !DEAD.contains(&i.row) && i.row < ITEMS));
    for trace in feed.trace.items.iter().filter(|t| t.position.is_none() && t.rank.is_none()) {
        assert!(matches!(trace.dropped_by(), Some("seen" | "alive")), "{trace:?}");
    }
}

//! Near-line recall in a server: a worker makes users' bests after feedback, the embedded store keeps them.

use millstream_pipeline::near_line::{Best, BestKept, Done, Worker};
use millstream_pipeline::{Error, Pipeline};
use millstream_schema::{Clock, Event};
use millstream_serve::engine::Count;
use millstream_stream::ahead::print_of;
use millstream_stream::{Ahead, AheadLists, Profiles, Stream};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use crate::Failure;
use crate::asking::Asking;

/// The kind of channel that reads what is kept.
pub const KIND: &str = "near_line";

/// A list that is of no use is not made again within this time.
const AGAIN_MS: i64 = 60_000;

/// The store as the channel sees it: empty until the server has opened it.
#[derive(Default)]
pub struct Shelf(OnceLock<Arc<AheadLists>>);

impl BestKept for Shelf {
    fn best(&self, user: &str) -> Result<Option<Best>, Error> {
        let Some(lists) = self.0.get() else { return Ok(None) };
        let found = lists.get(user).map_err(|e| Error::Part(e.to_string()))?;
        Ok(found.map(|list| Best { made_ms: list.made_ms, items: list.items }))
    }
}

/// What the worker works with.
struct Job {
    pipeline: Arc<Pipeline>,
    asking: Asking,
    profiles: Arc<Profiles>,
    stream: Stream,
    clock: Arc<dyn Clock>,
}

impl Job {
    /// Makes the user's best anew; drops it where nothing is known of the user any more.
    fn run(&self, user: &str) -> Result<(), Error> {
        let part = |e: millstream_stream::Error| Error::Part(e.to_string());
        let Some(profile) = self.profiles.get(user) else {
            return self.stream.ahead.remove(user).map_err(part);
        };
        let now = self.clock.now_ms();
        // Actions of the same instant are part of the history, whose end the request excludes.
        let request = self.asking.request(user, &profile, (now.saturating_add(1), 0));
        if !request.is_personal() {
            return Ok(());
        }
        let found = self.pipeline.best(&request)?;
        let catalogue = self.pipeline.catalogue().snapshot();
        let items = found.iter().map(|(row, score)| (catalogue.item_id(*row).to_owned(), *score)).collect();
        let list = Ahead { made_ms: now, made_from: print_of(&profile.history), items };
        self.stream.ahead.put(user, &list).map_err(part)?;
        // The user may have been forgotten meanwhile.
        match self.profiles.get(user) {
            Some(_) => Ok(()),
            None => self.stream.ahead.remove(user).map_err(part),
        }
    }
}

/// The worker of a server.
pub struct Keeper {
    worker: Worker,
    /// Names of the channels that read what is kept.
    channels: BTreeSet<String>,
    lists: Arc<AheadLists>,
    clock: Arc<dyn Clock>,
}

impl Keeper {
    /// Opens the store for the channel and starts the worker, with those users to begin whose feedback came after their list
    /// was made: a killed server leaves them in no queue.
    pub fn start(
        (shelf, asking): (&Shelf, Asking),
        pipeline: &Arc<Pipeline>,
        (stream, profiles): (&Stream, &Arc<Profiles>),
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let config = pipeline.config();
        let job = Job {
            pipeline: pipeline.clone(),
            asking,
            profiles: profiles.clone(),
            stream: stream.clone(),
            clock: clock.clone(),
        };
        let sizes = (config.near_line.threads, config.near_line.queue);
        let worker = Worker::start(sizes, move |user| job.run(user))?;
        stream.ahead.each(&mut |user, list| {
            let history = profiles.get(user).map(|p| p.history).unwrap_or_default();
            if print_of(&history) != list.made_from {
                worker.push(user);
            }
        })?;
        // Once only: there is one server to a chain.
        let _ = shelf.0.set(stream.ahead.clone());
        let channels = config.channels.iter().filter(|c| c.kind() == KIND);
        let channels = channels.map(|c| c.name.clone()).collect();
        Ok(Self { worker, channels, lists: stream.ahead.clone(), clock })
    }

    /// Puts the users of actions into the queue.
    pub fn heard(&self, events: &[Event]) {
        for event in events.iter().filter(|e| e.kind.is_action()) {
            // A full queue is counted by the worker.
            self.worker.push(&event.user);
        }
    }

    /// Puts the user of a request into the queue for whom nothing was kept that could be used, unless that was made
    /// just now: another would be no better.
    pub fn missed(&self, user: &str, channels: &[millstream_pipeline::trace::ChannelTrace]) {
        use millstream_pipeline::trace::ChannelStatus::Answered;
        let mut own = channels.iter().filter(|c| self.channels.contains(&*c.name));
        if own.any(|c| c.status == Answered && c.returned == 0) {
            let since = self.clock.now_ms() - AGAIN_MS;
            let fresh = self.lists.get(user).is_ok_and(|list| list.is_some_and(|l| l.made_ms > since));
            if !fresh {
                self.worker.push(user);
            }
        }
    }

    /// For `/metrics`.
    pub fn counts(&self) -> Vec<Count> {
        let Done { made, failed, dropped, waiting } = self.worker.done();
        let count = |name, help, value| Count { name, help, value };
        vec![
            count("millstream_near_line_made_total", "Users whose list was made ahead of time.", made),
            count("millstream_near_line_failed_total", "Users for whom making it failed.", failed),
            count("millstream_near_line_dropped_total", "Users left out because too many waited.", dropped),
            count("millstream_near_line_waiting", "Users that wait for their list.", waiting),
        ]
    }
}

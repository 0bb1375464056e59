//! An engine of a hundred items: a known user gets those not seen, a stranger the same ones always.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_schema::Record;
use millstream_serve::answer::{ChannelHit, ChannelReport, RuleNote, Stage, StageScore, Trace};
use millstream_serve::engine::Count;
use millstream_serve::{Ask, Engine, EngineError, Parts, Ranked, Running, Scored, ServeConfig, spawn};
use millstream_stream::{Limits, Profiles, Stream};

pub struct Fake {
    pub items: Mutex<BTreeSet<String>>,
    pub ready: AtomicBool,
    pub asked: Mutex<Vec<Ask>>,
    pub calls: Mutex<Vec<String>>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            items: Mutex::new((0..100).map(|i| format!("i{i:02}")).collect()),
            ready: AtomicBool::new(true),
            asked: Mutex::default(),
            calls: Mutex::default(),
        }
    }
}

impl Fake {
    fn call(&self, what: &str, id: &str) -> Result<(), EngineError> {
        self.calls.lock().unwrap().push(format!("{what} {id}"));
        Ok(())
    }
}

fn trace() -> Trace {
    Trace {
        channels: vec![ChannelHit { channel: "hot".into(), position: 2, score: 0.5 }],
        scores: vec![StageScore { stage: "rank".into(), score: 0.25 }],
        rules: vec![RuleNote { rule: "mmr".into(), note: "moved from 7 to 3".into() }],
    }
}

/// What one channel did.
pub fn report() -> ChannelReport {
    ChannelReport {
        channel: "hot".into(),
        status: "answered".into(),
        candidates: 50,
        first_hits: 40,
        share: 0.8,
        shown_first: 4,
        shown_all: 6,
        shown_only: 3,
        stands_in_for: vec!["mind".into()],
        micros: 1200,
        ..ChannelReport::default()
    }
}

impl Engine for Fake {
    fn counts(&self) -> Vec<Count> {
        let asked = self.asked.lock().unwrap().len() as u64;
        vec![
            Count { name: "fake_asked_total", help: "Feeds asked for.", value: asked },
            Count { name: "fake_items", help: "Items.", value: 100 },
        ]
    }

    fn recommend(&self, ask: &Ask) -> Result<Ranked, EngineError> {
        match ask.user.as_str() {
            "panic" => panic!("the engine broke"),
            "slow" => std::thread::sleep(Duration::from_millis(800)),
            "wrong" => return Err(EngineError::Input("`hour` must be a number".into())),
            "broken" => return Err(EngineError::Internal("secret".into())),
            _ => {}
        }
        self.asked.lock().unwrap().push(ask.clone());
        let items = self.items.lock().unwrap();
        let fresh = items.iter().filter(|i| !ask.seen.iter().any(|s| **s == ***i));
        let items = fresh.take(ask.n).map(|i| Scored { id: i.clone(), score: 0.5, trace: Some(trace()) });
        let stages = vec![Stage { stage: "recall".into(), entered: 100, left: 50, micros: 12 }];
        let channels = vec![report()];
        Ok(Ranked { personal: ask.known, reason: None, items: items.collect(), stages, channels })
    }

    fn neighbors(&self, item: &str, n: usize) -> Result<Option<Vec<Scored>>, EngineError> {
        let items = self.items.lock().unwrap();
        let others = items.iter().filter(|i| *i != item).take(n);
        let others = others.map(|i| Scored { id: i.clone(), score: 1.0, trace: None }).collect();
        Ok(items.contains(item).then_some(others))
    }

    fn check_item(&self, item: &Record) -> Result<(), EngineError> {
        match item.get("price") {
            "cheap" => Err(EngineError::Input("`price` must be a number".into())),
            _ => Ok(()),
        }
    }

    fn upsert_item(&self, item: &Record) -> Result<(), EngineError> {
        self.items.lock().unwrap().insert(item.id.clone());
        self.call("upsert item", &item.id)
    }

    fn remove_item(&self, id: &str) -> Result<(), EngineError> {
        self.items.lock().unwrap().remove(id);
        self.call("remove item", id)
    }

    fn upsert_user(&self, user: &Record) -> Result<(), EngineError> {
        self.call("upsert user", &user.id)
    }

    fn remove_user(&self, id: &str) -> Result<(), EngineError> {
        self.call("remove user", id)
    }

    fn ready(&self) -> bool {
        self.ready.load(Ordering::SeqCst)
    }

    fn item_title(&self, id: &str) -> Option<String> {
        id.strip_prefix('i').map(|n| format!("Item <b>{n}</b>"))
    }
}

/// A server on a free port with a directory of its own.
pub struct Server {
    pub running: Option<Running>,
    pub engine: Arc<Fake>,
    pub stream: Option<Stream>,
    pub dir: tempfile::TempDir,
}

pub fn config() -> ServeConfig {
    ServeConfig { port: 0, ..ServeConfig::default() }
}

impl Server {
    pub fn start(config: ServeConfig) -> Self {
        let mut server =
            Self { running: None, engine: Arc::default(), stream: None, dir: tempfile::tempdir().unwrap() };
        server.restart(config);
        server
    }

    /// Stops the server, if one runs, and starts another on the same directory.
    pub fn restart(&mut self, config: ServeConfig) {
        self.running = None;
        self.stream = None;
        let stream = Stream::open(self.dir.path()).unwrap();
        let profiles = Arc::new(Profiles::rebuild(&stream, Limits::default(), &mut |_, _| ()).unwrap());
        self.stream = Some(stream.clone());
        let parts = Parts { engine: self.engine.clone(), stream, profiles };
        self.running = Some(spawn(config, parts).unwrap());
    }

    pub fn addr(&self) -> std::net::SocketAddr {
        self.running.as_ref().unwrap().addr()
    }
}

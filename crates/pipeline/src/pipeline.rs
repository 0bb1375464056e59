//! The chain put together.

use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::catalogue::{Catalogue, Snapshot};
use crate::chain::Work;
use crate::channel::{self, CHANNELS, Resources};
use crate::config::{ChannelConfig, PipelineConfig};
use crate::fuse::{Fuse, Listed};
use crate::recall::{self, HUNG_LIMIT, Lane};
use crate::rule::Named;
use crate::trace::Feed;
use crate::{Error, Request};

/// Answers requests. Shared between threads; replaced as a whole when models change, while catalogue and
/// popularity live on.
pub struct Pipeline {
    pub(crate) config: PipelineConfig,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) parts: Resources,
    pub(crate) lanes: Vec<Lane>,
    pub(crate) fuse: Option<Fuse>,
    pub(crate) tasks: Vec<Arc<str>>,
    /// Seen and dead items never pass, whatever the configuration says.
    pub(crate) guards: Vec<Named>,
    pub(crate) rules: Vec<Named>,
    pool: ThreadPool,
}

/// Whether time counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One request, now: slow and failing parts are done without.
    Live,
    /// Many requests, reproducibly: no deadlines, and failing parts are errors.
    Batch,
}

impl Pipeline {
    /// Builds channels and rules.
    ///
    /// # Errors
    /// An unknown channel, rule, task or option (the nearest is given), a value out of range, or a channel
    /// whose parts are missing.
    pub fn new(config: PipelineConfig, catalogue: Arc<Catalogue>, parts: Resources) -> Result<Self, Error> {
        config.check()?;
        let lanes = lanes(&config, &parts)?;
        let tasks = parts.scorer.as_ref().map_or(&[][..], |s| s.tasks());
        let listed: Vec<Listed<'_>> =
            lanes.iter().map(|l| Listed { name: &l.name, quota: l.quota }).collect();
        let fuse = parts.scorer.as_ref().map(|s| Fuse::new(&config.fuse, s.tasks(), &listed)).transpose()?;
        let named = |name: &str| Named::build(name, &toml::Table::new());
        let rules =
            config.rules.iter().map(|r| Named::build(&r.name, &r.options)).collect::<Result<_, _>>()?;
        let threads = match config.recall.threads {
            // So many that hung channels, of which each may hold a few, leave a thread per core to the others.
            0 => std::thread::available_parallelism().map_or(2, usize::from) + lanes.len() * HUNG_LIMIT,
            threads => threads,
        };
        let pool =
            ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("recall-{i}")).build();
        let pool = pool.map_err(|e| Error::Part(format!("cannot start threads for recall: {e}")))?;
        Ok(Self {
            lanes,
            fuse,
            tasks: tasks.iter().map(|t| t.as_str().into()).collect(),
            guards: vec![named("seen")?, named("alive")?],
            rules,
            pool,
            config,
            catalogue,
            parts,
        })
    }

    /// The catalogue, for reading and for changing.
    pub fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// The parts in use.
    pub fn resources(&self) -> &Resources {
        &self.parts
    }

    /// The configuration in use.
    pub fn config(&self) -> &PipelineConfig {
        &self.config
    }

    /// Names of the channels in use, in order.
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.lanes.iter().map(|l| &*l.name)
    }

    /// The feed for one request, now. Channels run side by side, each until its deadline; a late or failing
    /// channel or a failing ranker is recorded in the trace and done without.
    ///
    /// Must not be called from a worker thread of the recall pool; any other thread will do.
    ///
    /// # Errors
    /// The request names a context field that is not declared, or a rule fails.
    pub fn recommend(&self, request: &Request) -> Result<Feed, Error> {
        let mut feeds = self.chunk(std::slice::from_ref(request), &self.catalogue.snapshot(), Mode::Live)?;
        feeds.pop().ok_or_else(|| Error::Part("a request came to no feed".into()))
    }

    /// The feeds of many requests, in their order, from one state of the catalogue: in parallel, scored
    /// several requests to a batch, without deadlines, so that the result does not depend on the machine.
    ///
    /// # Errors
    /// As [`Pipeline::recommend`]; also when a channel or the ranker fails.
    pub fn recommend_batch(&self, requests: &[Request]) -> Result<Vec<Feed>, Error> {
        let snapshot = self.catalogue.snapshot();
        let chunks: Vec<Vec<Feed>> = requests
            .par_chunks(self.config.rank.batch_requests)
            .map(|chunk| self.chunk(chunk, &snapshot, Mode::Batch))
            .collect::<Result<_, _>>()?;
        Ok(chunks.into_iter().flatten().collect())
    }

    fn chunk(&self, requests: &[Request], snapshot: &Arc<Snapshot>, mode: Mode) -> Result<Vec<Feed>, Error> {
        let mut works: Vec<Work> = Vec::with_capacity(requests.len());
        for request in requests {
            let mut work = Work::begin(request, snapshot)?;
            work.recalled(match mode {
                Mode::Live => recall::at_once(&self.lanes, work.call(), &self.pool),
                Mode::Batch => recall::in_turn(&self.lanes, work.call())?,
            });
            work.merge(self);
            work.filter(self);
            works.push(work);
        }
        crate::chain::rank(self, &mut works, mode)?;
        let latest = self.catalogue.snapshot();
        let mut feeds = Vec::with_capacity(works.len());
        for mut work in works {
            work.rules(self, &latest)?;
            work.page(self, &latest);
            feeds.push(work.explain(self));
        }
        Ok(feeds)
    }
}

fn lanes(config: &PipelineConfig, parts: &Resources) -> Result<Vec<Lane>, Error> {
    let mut wanted = config.channels.clone();
    if wanted.is_empty() {
        let at_hand = CHANNELS.iter().filter(|d| (d.lacks)(parts).is_none());
        wanted = at_hand.map(|d| ChannelConfig { name: d.name.into(), ..ChannelConfig::default() }).collect();
    }
    let mut lanes = Vec::with_capacity(wanted.len());
    for channel in &wanted {
        let def = channel::find(&channel.name)?;
        if let Some(part) = (def.lacks)(parts) {
            return Err(Error::Config(format!("channel `{}` needs {part}, and there is none", def.name)));
        }
        let mut lane = Lane::new(def.name, def.personal, (def.build)(&channel.options, parts)?);
        lane.quota = channel.quota.unwrap_or(def.quota);
        lane.weight = channel.weight.unwrap_or(def.weight);
        lane.deadline = Duration::from_millis(channel.deadline_ms.unwrap_or(config.recall.deadline_ms));
        lanes.push(lane);
    }
    Ok(lanes)
}

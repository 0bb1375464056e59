//! The chain put together.

use std::sync::Arc;
use std::time::Duration;

use millstream_schema::ItemRow;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::catalogue::{Catalogue, Snapshot};
use crate::chain::Work;
use crate::channel::{self, CHANNELS, Candidate, Resources, Setup};
use crate::config::{ChannelConfig, PipelineConfig};
use crate::fuse::{Fuse, Listed};
use crate::merge::{Merged, with_tails};
use crate::recall::{self, HUNG_LIMIT, Lane};
use crate::rule::{Named, RULES};
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
    pub(crate) pool: ThreadPool,
}

/// Whether time counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One request, now: slow and failing parts are done without.
    Live,
    /// Many requests, reproducibly: no deadlines, and a failing ranker is an error.
    Batch,
}

impl Pipeline {
    /// Builds channels and rules.
    ///
    /// # Errors
    /// An unknown channel, rule, task, field, kind of action or option (the nearest is given), a value out of range, or a channel
    /// whose parts are missing.
    pub fn new(config: PipelineConfig, catalogue: Arc<Catalogue>, parts: Resources) -> Result<Self, Error> {
        config.check()?;
        let lanes = lanes(&config, &parts, &catalogue)?;
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

    /// What is configured and does nothing here, one sentence each: rules that go by an item's author where items have none.
    pub fn notes(&self) -> Vec<String> {
        let author = &self.catalogue.config().author;
        let by_author = |name: &str| RULES.iter().any(|d| d.name == name && d.by_author);
        let idle = self.config.rules.iter().filter(|r| by_author(&r.name));
        let note = |name: &str| {
            format!(
                "rule `{name}` does nothing: no item has a field `{author}`, as `[catalogue] author` has it"
            )
        };
        match self.catalogue.names().has_item_field(author) {
            true => Vec::new(),
            false => idle.map(|rule| note(&rule.name)).collect(),
        }
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
    /// several requests to a batch, without deadlines, so that the result does not depend on the machine. A failing
    /// channel is recorded in the trace and done without: whoever measures looks for it there.
    ///
    /// # Errors
    /// As [`Pipeline::recommend`]; also when the ranker fails.
    pub fn recommend_batch(&self, requests: &[Request]) -> Result<Vec<Feed>, Error> {
        let snapshot = self.catalogue.snapshot();
        let chunks: Vec<Vec<Feed>> = requests
            .par_chunks(self.config.rank.batch_requests)
            .map(|chunk| self.chunk(chunk, &snapshot, Mode::Batch))
            .collect::<Result<_, _>>()?;
        Ok(chunks.into_iter().flatten().collect())
    }

    /// The user's best, by fused score, for keeping ahead of time: recalled and ranked more widely than a request has
    /// time for, as `[near_line]` says, without rules. Channels that fail are done without; channels of tails are left
    /// out.
    ///
    /// # Errors
    /// There is no ranker, it fails, or the request names a context field that is not declared.
    pub fn best(&self, request: &Request) -> Result<Vec<(ItemRow, f32)>, Error> {
        let sizes = &self.config.near_line;
        let mut work = Work::begin(request, &self.catalogue.snapshot())?;
        work.recalled(recall::widely(&self.lanes, work.call(), sizes.widen));
        work.merge(self);
        work.filter(sizes.candidates);
        crate::chain::rank(self, std::slice::from_mut(&mut work), Mode::Batch)?;
        if !work.ranked {
            return Err(Error::Part("nothing can be ranked ahead of time without a ranker".into()));
        }
        let finite = work.ranking.iter().filter(|e| e.score.is_finite());
        Ok(finite.take(sizes.keep).map(|e| (e.item, e.score)).collect())
    }

    /// What each channel finds for a request, one after the other on this thread: for evaluation. Without
    /// deadlines, fallbacks and ranking; `quota` replaces the channels' own. What fails finds nothing, and says why.
    ///
    /// # Errors
    /// The request names a context field that is not declared.
    pub fn recall(&self, request: &Request, quota: Option<usize>) -> Result<Recalled, Error> {
        let work = Work::begin(request, &self.catalogue.snapshot())?;
        Ok(recall::each(&self.lanes, work.call(), quota))
    }

    /// The channels' lists merged as a request does it, without those of the channels that `keep` leaves out.
    pub fn merge_lists(&self, lists: &[&[Candidate]], keep: &dyn Fn(usize) -> bool) -> Merged {
        let kept: Vec<&[Candidate]> =
            lists.iter().enumerate().map(|(at, list)| if keep(at) { *list } else { &[] }).collect();
        let weights: Vec<f32> = self.lanes.iter().map(|l| l.weight).collect();
        let tails: Vec<bool> = self.lanes.iter().map(|l| l.tail).collect();
        with_tails(&kept, &weights, &tails, self.config.rank.candidates)
    }

    fn chunk(&self, requests: &[Request], snapshot: &Arc<Snapshot>, mode: Mode) -> Result<Vec<Feed>, Error> {
        let mut works: Vec<Work> = Vec::with_capacity(requests.len());
        for request in requests {
            let mut work = Work::begin(request, snapshot)?;
            work.recalled(match mode {
                Mode::Live => recall::at_once(&self.lanes, work.call(), &self.pool),
                Mode::Batch => recall::in_turn(&self.lanes, work.call()),
            });
            work.merge(self);
            work.filter(self.config.rank.candidates);
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

/// What the channels found for one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recalled {
    /// By channel, in the pipeline's order; `None` where it was not asked (a stranger, a channel on standby).
    pub lists: Vec<Option<Vec<Candidate>>>,
    /// How long each took, in microseconds.
    pub micros: Vec<u64>,
    /// Why each failed, where it did; its list is empty then.
    pub failures: Vec<Option<String>>,
}

fn lanes(config: &PipelineConfig, parts: &Resources, catalogue: &Catalogue) -> Result<Vec<Lane>, Error> {
    let mut wanted = config.channels.clone();
    if wanted.is_empty() {
        let at_hand = CHANNELS.iter().filter(|d| d.by_default && (d.lacks)(parts).is_none());
        wanted = at_hand.map(|d| ChannelConfig::of(d.name)).collect();
    }
    let mut lanes = Vec::with_capacity(wanted.len());
    for channel in &wanted {
        let def = channel::find(channel.kind())?;
        let (meanings, names) = (catalogue.config(), catalogue.names());
        let setup =
            Setup { name: &channel.name, options: &channel.options, parts, catalogue: meanings, names };
        if let Some(part) = (def.lacks)(parts) {
            return Err(setup.needs(part));
        }
        let mut lane = Lane::new(&channel.name, def.personal, (def.build)(&setup)?);
        lane.quota = channel.quota.unwrap_or(def.quota);
        lane.weight = channel.weight.unwrap_or(def.weight);
        lane.deadline = Duration::from_millis(channel.deadline_ms.unwrap_or(config.recall.deadline_ms));
        lane.fallback = wanted.iter().position(|c| channel.fallback.as_ref() == Some(&c.name));
        lane.short = channel.short.unwrap_or(1);
        lane.standby = channel.standby;
        lane.tail = def.tail;
        lanes.push(lane);
    }
    Ok(lanes)
}

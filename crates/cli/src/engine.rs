//! The pipeline as the server's engine: external ids in, external ids out.

use millstream_data::PassedOver;
use millstream_models::embeds::item_vectors;
use millstream_pipeline::trace::{ChannelStatus, ChannelTrace, Feed};
use millstream_pipeline::trace::{ItemTrace, Trace as ChainTrace};
use millstream_pipeline::{Error as PipelineError, Item, Request};
use millstream_schema::{Clock, Event, Record};
use millstream_serve::answer::{ChannelHit, ChannelReport, RuleNote, Stage, StageScore, Trace};
use millstream_serve::engine::{Ask, Count, Engine, EngineError, Ranked, Scored};
use millstream_stream::{EventLog, Offset, Profile, Profiles, Stream};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use crate::Failure;
use crate::ahead::Keeper;
use crate::asking::Asking;
use crate::chain::{Chain, segment_of};
use crate::passed::PassedLog;
use crate::refresh::Refresher;

/// Records or events read at once.
const PAGE: usize = 4096;

/// Answers the server's questions from a chain.
pub struct ChainEngine {
    chain: Chain,
    clock: Arc<dyn Clock>,
    asking: Asking,
    keeper: Option<Keeper>,
    refresher: Option<Refresher>,
    passed: Option<PassedLog>,
}

impl ChainEngine {
    /// `clock` says when items that come in were created.
    pub fn new(chain: Chain, clock: Arc<dyn Clock>) -> Self {
        let asking = Asking::new(chain.pipeline.clone(), &chain.prepared);
        Self { chain, clock, asking, keeper: None, refresher: None, passed: None }
    }

    /// Has what is ranked and not shown written to this file, where the configuration asks for it.
    pub fn write_passed(&mut self, path: PathBuf) {
        let config = &self.chain.pipeline.config().passed_over;
        self.passed = (config.keep > 0).then(|| PassedLog::new(path, config.max_mb));
    }

    fn note_passed(&self, ask: &Ask, feed: &mut Feed) {
        let items = std::mem::take(&mut feed.passed_over);
        let Some(log) = self.passed.as_ref().filter(|_| !items.is_empty()) else { return };
        let line = PassedOver { time_ms: ask.time_ms, user: ask.user.clone(), items };
        if let Err(e) = log.write(&line) {
            tracing::warn!("what was passed over is not written down: {e}");
        }
    }

    /// Starts the worker of near-line recall, where the configuration names such a channel.
    pub fn keep_ahead(&mut self, stream: &Stream, profiles: &Arc<Profiles>) -> Result<(), Failure> {
        if let Some(shelf) = &self.chain.ahead {
            let pipeline = &self.chain.pipeline;
            let asking = (&**shelf, self.asking.clone());
            self.keeper = Some(Keeper::start(asking, pipeline, (stream, profiles), self.clock.clone())?);
        }
        Ok(())
    }

    /// Has counting tables follow the ledger, whose first `log_end` events are the log's.
    pub fn follow(&mut self, stream: &Stream, log_end: Offset) -> Result<(), Failure> {
        self.refresher = Some(Refresher::start(&self.chain, (stream, log_end), self.clock.clone())?);
        Ok(())
    }

    /// Counts an action towards what is hot.
    pub fn count(&self, event: &Event) {
        let catalogue = self.chain.pipeline.catalogue().snapshot();
        if let (true, Some(row)) = (event.kind.is_action(), catalogue.item(&event.item)) {
            let popularity = &self.chain.pipeline.resources().popularity;
            let user = catalogue.user(&event.user).and_then(|row| catalogue.user_record(row));
            let segment = user.and_then(|record| segment_of(record, self.segment_field()));
            popularity.write().unwrap_or_else(PoisonError::into_inner).add(row, event.time_ms, 1.0, segment);
        }
    }

    /// Takes in what the live stream holds beyond the log: records changed over the API, and actions.
    pub fn catch_up(&self, stream: &Stream) -> Result<(), Failure> {
        let known: HashMap<&str, &Record> = self
            .chain
            .records
            .items
            .iter()
            .chain(&self.chain.records.users)
            .map(|r| (r.id.as_str(), r))
            .collect();
        let changed = |record: &Record| known.get(record.id.as_str()).is_none_or(|old| *old != record);
        let (mut after, mut live) = (None, std::collections::HashSet::new());
        loop {
            let page = stream.records.items().list(after.as_deref(), "", PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            for record in page {
                if changed(&record) {
                    self.upsert_item(&record)?;
                }
                live.insert(record.id);
            }
        }
        for record in self.chain.records.items.iter().filter(|r| !live.contains(&r.id)) {
            self.remove_item(&record.id)?;
        }
        let (mut after, mut users) = (None, Vec::new());
        loop {
            let page = stream.records.users().list(after.as_deref(), "", PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            users.extend(page.into_iter().filter(changed));
        }
        self.chain.pipeline.catalogue().upsert_users(&users)?;
        let log_end = self.chain.prepared_end()?;
        let mut at = 0;
        while at < stream.ledger.end() {
            let events = stream.ledger.read(at, PAGE)?;
            let Some((last, _)) = events.last() else { break };
            at = last + 1;
            events.iter().filter(|(_, e)| e.time_ms > log_end).for_each(|(_, e)| self.count(e));
        }
        Ok(())
    }

    fn segment_field(&self) -> Option<&str> {
        self.chain.pipeline.config().catalogue.segment.as_deref()
    }

    fn request(&self, ask: &Ask) -> Request {
        let profile = Profile { history: ask.history.clone(), seen: ask.seen.clone() };
        let request = self.asking.request(&ask.user, &profile, (ask.time_ms, ask.n));
        Request { id: ask.request_id.clone(), context: ask.context.clone(), ..request }
    }
}

impl Engine for ChainEngine {
    fn recommend(&self, ask: &Ask) -> Result<Ranked, EngineError> {
        let mut feed = self.chain.pipeline.recommend(&self.request(ask)).map_err(refuse)?;
        self.note_passed(ask, &mut feed);
        let traces: HashMap<&str, &ItemTrace> =
            feed.trace.items.iter().map(|t| (t.item.as_str(), t)).collect();
        let items = feed
            .items
            .iter()
            .map(|item| Scored {
                id: item.item.clone(),
                score: item.score.unwrap_or(0.0),
                trace: traces.get(item.item.as_str()).filter(|_| ask.trace).map(|t| trace_of(t)),
            })
            .collect();
        let stages = if ask.trace { stages_of(&feed.trace) } else { Vec::new() };
        let channels = feed.trace.channels.iter().map(report).collect();
        if let Some(keeper) = self.keeper.as_ref().filter(|_| feed.personal) {
            keeper.missed(&ask.user, &feed.trace.channels);
        }
        Ok(Ranked { personal: feed.personal, reason: feed.reason.clone(), items, stages, channels })
    }

    fn neighbors(&self, item: &str, n: usize) -> Result<Option<Vec<Scored>>, EngineError> {
        let catalogue = self.chain.pipeline.catalogue().snapshot();
        let Some(row) = catalogue.item(item).filter(|&row| !catalogue.is_removed(row)) else {
            return Ok(None);
        };
        let similar = self.chain.pipeline.similar_items(row, n, self.clock.now_ms()).map_err(refuse)?;
        Ok(Some(similar.into_iter().map(|s| Scored { id: s.item, score: s.score, trace: None }).collect()))
    }

    fn heard(&self, events: &[Event]) {
        events.iter().for_each(|e| self.count(e));
        if let Some(keeper) = &self.keeper {
            keeper.heard(events);
        }
        if let Some(refresher) = &self.refresher {
            refresher.heard(events);
        }
    }

    fn counts(&self) -> Vec<Count> {
        let kept = self.keeper.as_ref().map_or_else(Vec::new, Keeper::counts);
        let followed = self.refresher.as_ref().map_or_else(Vec::new, Refresher::counts);
        kept.into_iter().chain(followed).collect()
    }

    fn upsert_item(&self, item: &Record) -> Result<(), EngineError> {
        let number = |field: &str| item.get(field).trim().parse::<i64>().ok();
        let entry =
            Item { record: item.clone(), created_ms: number("created_ms"), retired_ms: number("retired_ms") };
        let catalogue = self.chain.pipeline.catalogue();
        let rows = catalogue.upsert_items(&[entry], self.clock.now_ms()).map_err(refuse)?;
        // A new item has no learned id; its other fields place it among its like.
        let snapshot = catalogue.snapshot();
        for retriever in &self.chain.retrievers {
            let vectors = item_vectors(&*retriever.embedder, snapshot.assembler(), &rows).map_err(fault)?;
            let dim = retriever.embedder.dim();
            for (row, vector) in rows.iter().zip(vectors.chunks_exact(dim)) {
                retriever.vectors.upsert(*row, vector).map_err(fault)?;
            }
        }
        if let Some(content) = &self.chain.content {
            rows.iter().try_for_each(|&row| content.upsert(row, item)).map_err(fault)?;
        }
        for learned in &self.chain.learned {
            rows.iter().try_for_each(|row| learned.put(*row)).map_err(fault)?;
        }
        if let Some(refresher) = &self.refresher {
            refresher.item_came();
        }
        Ok(())
    }

    fn remove_item(&self, id: &str) -> Result<(), EngineError> {
        let catalogue = self.chain.pipeline.catalogue();
        let row = catalogue.snapshot().item(id);
        catalogue.remove_item(id).map_err(refuse)?;
        if let Some(row) = row {
            for retriever in &self.chain.retrievers {
                retriever.vectors.remove(row);
            }
            if let Some(content) = &self.chain.content {
                content.remove(row);
            }
            for learned in &self.chain.learned {
                learned.vectors.remove(row);
            }
        }
        Ok(())
    }

    fn upsert_user(&self, user: &Record) -> Result<(), EngineError> {
        self.chain.pipeline.catalogue().upsert_users(std::slice::from_ref(user)).map_err(refuse)?;
        Ok(())
    }

    fn remove_user(&self, id: &str) -> Result<(), EngineError> {
        self.chain.pipeline.catalogue().remove_user(id).map_err(refuse)?;
        if let Some(refresher) = &self.refresher {
            refresher.user_left();
        }
        Ok(())
    }

    fn ready(&self) -> bool {
        true
    }

    fn item_title(&self, id: &str) -> Option<String> {
        let catalogue = self.chain.pipeline.catalogue().snapshot();
        let record = catalogue.item_record(catalogue.item(id)?)?;
        // Any field called a title or a name will do.
        let named = |wanted: &str| record.fields.iter().find(|(k, v)| k.ends_with(wanted) && !v.is_empty());
        named("title").or_else(|| named("name")).map(|(_, v)| v.clone())
    }
}

/// What a channel did, for the API and for what is measured.
fn report(channel: &ChannelTrace) -> ChannelReport {
    let status = match channel.status {
        ChannelStatus::Answered => "answered",
        ChannelStatus::Failed => "failed",
        ChannelStatus::Late => "late",
        ChannelStatus::Skipped => "skipped",
    };
    ChannelReport {
        channel: channel.name.to_string(),
        status: status.to_owned(),
        reason: channel.reason.clone(),
        candidates: channel.returned,
        first_hits: channel.first_hits,
        share: channel.share,
        shown_first: channel.shown.first,
        shown_all: channel.shown.all,
        shown_only: channel.shown.only,
        stands_in_for: channel.stands_in_for.iter().map(|name| name.to_string()).collect(),
        micros: channel.micros,
    }
}

fn refuse(error: PipelineError) -> EngineError {
    match error {
        PipelineError::Input(message) => EngineError::Input(message),
        other => EngineError::Internal(other.to_string()),
    }
}

fn fault(error: impl std::fmt::Display) -> EngineError {
    EngineError::Internal(error.to_string())
}

/// One item's way through the stages, for the API.
fn trace_of(item: &ItemTrace) -> Trace {
    let hit = |h: &millstream_pipeline::trace::ChannelHit| ChannelHit {
        channel: h.channel.to_string(),
        position: h.position,
        score: h.score,
    };
    let mut scores: Vec<StageScore> =
        item.tasks.iter().map(|t| StageScore { stage: format!("rank.{}", t.task), score: t.score }).collect();
    scores.extend(item.score.map(|score| StageScore { stage: "fuse".into(), score }));
    let mut rules: Vec<RuleNote> = item
        .steps
        .iter()
        .map(|step| {
            let place = |p: Option<u32>| p.map_or_else(|| "the merged list".into(), |p| p.to_string());
            let note = match step.to {
                Some(to) => format!("moved from {} to {to}", place(step.from)),
                None => format!("dropped from {}", place(step.from)),
            };
            RuleNote { rule: step.rule.to_string(), note }
        })
        .collect();
    rules.extend(
        item.refill.map(|from| RuleNote { rule: "refill".into(), note: format!("taken from {from}") }),
    );
    Trace { channels: item.channels.iter().map(hit).collect(), scores, rules }
}

fn stages_of(trace: &ChainTrace) -> Vec<Stage> {
    let channels = trace.channels.iter().map(|c| Stage {
        stage: format!("recall.{}", c.name),
        entered: 0,
        left: c.returned,
        micros: c.micros,
    });
    let stages = trace.stages.iter().map(|s| Stage {
        stage: s.name.to_owned(),
        entered: s.input,
        left: s.output,
        micros: s.micros,
    });
    channels.chain(stages).collect()
}

//! The stages of one request, one after the other.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Instant;

use millstream_models::recall::popularity::Window;
use millstream_schema::{BadValues, Columns, Encoder, Frame, ItemRow, Policy, Side, suggest};
use rapidhash::RapidHashSet;

use crate::catalogue::Snapshot;
use crate::channel::{Call, Candidate};
use crate::merge::{Merged, with_tails};
use crate::pipeline::{Mode, Pipeline};
use crate::recall::Run;
use crate::rule::{Entry, RuleCall};
use crate::score;
use crate::trace::{StageTrace, Step};
use crate::{Error, Request};

/// A request on its way.
pub(crate) struct Work {
    call: Arc<Call>,
    pub(crate) bad_context: u64,
    pub(crate) runs: Vec<Run>,
    pub(crate) merged: Merged,
    /// Places in the merged list that go to the ranker, and their items.
    pub(crate) chosen: Vec<u32>,
    items: Vec<ItemRow>,
    /// Places of the merged list from here on were not looked at.
    reserve: usize,
    /// `[chosen, T]`; empty when not ranked.
    pub(crate) probabilities: Vec<f32>,
    /// Best first.
    pub(crate) slate: Vec<Entry>,
    /// The slate as the ranker left it.
    pub(crate) ranking: Vec<Entry>,
    /// What rules did, by place in the merged list.
    pub(crate) steps: Vec<(u32, Step)>,
    pub(crate) page: Vec<Placed>,
    pub(crate) stages: Vec<StageTrace>,
    pub(crate) ranked: bool,
    pub(crate) rank_error: Option<String>,
    pub(crate) non_finite: u32,
}

/// One item of the page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(crate) item: ItemRow,
    pub(crate) merged: Option<u32>,
    pub(crate) refill: Option<&'static str>,
}

impl Work {
    pub(crate) fn begin(request: &Request, snapshot: &Arc<Snapshot>) -> Result<Self, Error> {
        let mut request = request.clone();
        request.n = request.n.min(snapshot.items());
        let (context, bad_context) = context(snapshot.assembler().encoder(), &request)?;
        Ok(Self {
            call: Arc::new(Call { request, catalogue: snapshot.clone(), context }),
            bad_context,
            runs: Vec::new(),
            merged: Merged::default(),
            chosen: Vec::new(),
            items: Vec::new(),
            reserve: 0,
            probabilities: Vec::new(),
            slate: Vec::new(),
            ranking: Vec::new(),
            steps: Vec::new(),
            page: Vec::new(),
            stages: Vec::with_capacity(6),
            ranked: false,
            rank_error: None,
            non_finite: 0,
        })
    }

    pub(crate) fn call(&self) -> &Arc<Call> {
        &self.call
    }

    fn stage(&mut self, name: &'static str, sizes: (usize, usize), start: Instant) {
        let micros = start.elapsed().as_micros() as u64;
        self.stages.push(StageTrace { name, input: sizes.0, output: sizes.1, micros });
    }

    pub(crate) fn recalled(&mut self, runs: Vec<Run>) {
        let found = runs.iter().map(|r| r.candidates().len()).sum();
        let micros = runs.iter().map(|r| r.micros).max().unwrap_or(0);
        let input = self.call.catalogue.items();
        self.stages.push(StageTrace { name: "recall", input, output: found, micros });
        self.runs = runs;
    }

    pub(crate) fn merge(&mut self, pipeline: &Pipeline) {
        let start = Instant::now();
        let lists: Vec<&[Candidate]> = self.runs.iter().map(Run::candidates).collect();
        let weights: Vec<f32> = pipeline
            .lanes
            .iter()
            .zip(&self.runs)
            .map(|(lane, run)| run.inherited + lane.own_weight())
            .collect();
        let tails: Vec<bool> = pipeline.lanes.iter().map(|l| l.tail).collect();
        let head = pipeline.config.rank.candidates.max(self.call.request.n);
        self.merged = with_tails(&lists, &weights, &tails, head);
        let input = lists.iter().map(|l| l.len()).sum();
        self.stage("merge", (input, self.merged.items.len()), start);
    }

    /// The head of the merged list without what may not be shown; as much more as was left out is taken up.
    pub(crate) fn filter(&mut self, candidates: usize) {
        let start = Instant::now();
        let limit = candidates.max(self.call.request.n);
        let now = self.call.request.time_ms;
        for (place, &item) in self.merged.items.iter().enumerate() {
            if self.chosen.len() == limit {
                break;
            }
            self.reserve = place + 1;
            // By the guards' names and in their order.
            let guard = match () {
                () if self.call.request.has_seen(item) => Some("seen"),
                () if !self.call.catalogue.is_alive(item, now) => Some("alive"),
                () => None,
            };
            match guard {
                None => {
                    self.chosen.push(place as u32);
                    self.items.push(item);
                }
                Some(rule) => {
                    self.steps.push((place as u32, Step { rule: rule.into(), from: None, to: None }));
                }
            }
        }
        self.stage("filter", (self.merged.items.len(), self.chosen.len()), start);
    }

    /// Entries in order of score; without scores, in merged order with scores that fall evenly.
    fn order(&mut self, pipeline: &Pipeline) {
        let (n, tasks) = (self.chosen.len(), pipeline.tasks.len());
        let score = |at: usize| match &pipeline.fuse {
            Some(fuse) if self.ranked => {
                let evidence = fuse.evidence(self.merged.hits(self.chosen[at] as usize));
                fuse.score(&self.probabilities[at * tasks..(at + 1) * tasks]) * evidence
            }
            _ => (n - at) as f32 / n as f32,
        };
        let entry = |at: usize| Entry { item: self.items[at], score: score(at), merged: self.chosen[at] };
        self.slate = (0..n).map(entry).collect();
        self.slate.sort_unstable_by(|a, b| match (a.score.is_finite(), b.score.is_finite()) {
            (true, true) => b.score.total_cmp(&a.score).then(a.merged.cmp(&b.merged)),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => a.merged.cmp(&b.merged),
        });
        self.non_finite = self.slate.iter().filter(|e| !e.score.is_finite()).count() as u32;
        self.ranking.clone_from(&self.slate);
    }

    pub(crate) fn rules(&mut self, pipeline: &Pipeline, latest: &Snapshot) -> Result<(), Error> {
        let start = Instant::now();
        let x = RuleCall {
            call: &self.call,
            latest,
            vectors: pipeline.parts.item_vectors.as_deref(),
            n: self.call.request.n,
        };
        let guards = &pipeline.guards;
        for rule in guards.iter().chain(&pipeline.rules).chain(guards) {
            rule.apply(&x, &mut self.slate, &mut self.steps)?;
        }
        self.stage("rules", (self.ranking.len(), self.slate.len()), start);
        Ok(())
    }

    /// The first n; a short page is filled up from the rest of the merged list, then from what is hot, then
    /// from the catalogue.
    pub(crate) fn page(&mut self, pipeline: &Pipeline, latest: &Snapshot) {
        let start = Instant::now();
        let n = self.call.request.n;
        let head = self.slate.iter().take(n);
        self.page = head.map(|e| Placed { item: e.item, merged: Some(e.merged), refill: None }).collect();
        if self.page.len() < n {
            self.refill(pipeline, latest);
        }
        self.stage("page", (self.slate.len(), self.page.len()), start);
    }

    fn refill(&mut self, pipeline: &Pipeline, latest: &Snapshot) {
        let call = self.call.clone();
        let n = call.request.n;
        // What is on the page, and what a rule took out for good.
        let mut met: RapidHashSet<ItemRow> = self.page.iter().map(|p| p.item).collect();
        let dropped = self.steps.iter().filter(|(_, s)| s.to.is_none());
        met.extend(dropped.map(|(place, _)| self.merged.items[*place as usize]));
        let fine = |item: ItemRow| call.keep(item) && !latest.is_removed(item);
        for place in self.reserve..self.merged.items.len() {
            let item = self.merged.items[place];
            if self.page.len() < n && fine(item) && met.insert(item) {
                self.page.push(Placed { item, merged: Some(place as u32), refill: Some("merged") });
            }
        }
        let missing = n - self.page.len();
        if missing > 0 {
            let keep = |item: ItemRow| fine(item) && !met.contains(&item);
            let found = pipeline.parts.hot().top(missing, Window::MONTH, call.request.time_ms, &keep);
            self.page.extend(found.iter().map(|x| Placed { item: x.0, merged: None, refill: Some("hot") }));
            met.extend(found.iter().map(|x| x.0));
        }
        let missing = n - self.page.len();
        let rows = (0..call.catalogue.items() as ItemRow).filter(|&item| fine(item) && !met.contains(&item));
        let rest = rows.take(missing).map(|item| Placed { item, merged: None, refill: Some("catalogue") });
        self.page.extend(rest);
    }
}

/// Scores all works of a chunk in one batch and orders them.
///
/// # Errors
/// In batch mode, the ranker's.
pub(crate) fn rank(pipeline: &Pipeline, works: &mut [Work], mode: Mode) -> Result<(), Error> {
    let start = Instant::now();
    let strangers = pipeline.config.rank.strangers;
    let due = |w: &Work| strangers || w.call.request.is_personal();
    if let Some(scorer) = pipeline.parts.scorer.as_deref() {
        let calls: Vec<(&Call, &[ItemRow])> =
            works.iter().filter(|w| due(w)).map(|w| (&*w.call, w.items.as_slice())).collect();
        let scored = score::score(scorer, &calls);
        if let (Err(_), Mode::Batch) = (&scored, mode) {
            return scored.map(drop);
        }
        let mut at = 0;
        for work in works.iter_mut().filter(|w| due(w)) {
            match &scored {
                Ok(scores) => {
                    let end = at + work.items.len() * pipeline.tasks.len();
                    work.probabilities = scores[at..end].to_vec();
                    work.ranked = true;
                    at = end;
                }
                Err(error) => work.rank_error = Some(error.to_string()),
            }
        }
    }
    for work in works {
        work.order(pipeline);
        work.stage("rank", (work.chosen.len(), work.slate.len()), start);
    }
    Ok(())
}

/// The request's context, encoded, and the number of its bad values.
fn context(encoder: &Encoder, request: &Request) -> Result<(Columns, u64), Error> {
    let columns = encoder.schema().columns(Side::Context);
    if let Some(name) = request.context.keys().find(|k| !columns.contains(k)) {
        let valid: Vec<&str> = columns.iter().map(String::as_str).collect();
        return Err(Error::Input(match valid.is_empty() {
            true => format!("unknown context field `{name}`; no context field is declared"),
            false => suggest::unknown("context field", name, valid.iter().copied()),
        }));
    }
    let mut frame = Frame::new("context", &columns);
    let cells: Vec<&str> =
        columns.iter().map(|c| request.context.get(c).map_or("", String::as_str)).collect();
    frame.push_row(1, &cells);
    let mut bad = BadValues::new(Policy::Count);
    Ok((encoder.encode(&[Side::Context], &frame, &mut bad)?, bad.total()))
}

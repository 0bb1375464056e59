//! A finished request as a feed with its trace.

use std::sync::Arc;

use rapidhash::RapidHashSet;

use crate::chain::{Placed, Work};
use crate::config::PassedOverConfig;
use crate::pipeline::Pipeline;
use crate::recall::Outcome;
use crate::trace::{
    ChannelHit, ChannelStatus, ChannelTrace, Feed, FeedItem, ItemTrace, Shown, TaskScore, Trace,
};

/// Where an item of the merged list went, by place.
#[derive(Clone, Copy, Default)]
struct Way {
    /// Row of `probabilities`.
    chosen: Option<u32>,
    rank: Option<u32>,
    page: Option<u32>,
}

impl Work {
    pub(crate) fn explain(self, pipeline: &Pipeline) -> Feed {
        let ways = self.ways();
        let request = &self.call().request;
        let mut items: Vec<ItemTrace> = Vec::with_capacity(self.page.len());
        for (position, placed) in self.page.iter().enumerate() {
            items.push(self.item(pipeline, placed, position as u32, &ways));
        }
        let feed_items =
            items.iter().zip(&self.page).enumerate().map(|(position, (trace, placed))| FeedItem {
                item: trace.item.clone(),
                row: placed.item,
                position: position as u32,
                score: trace.score,
            });
        let feed_items = feed_items.collect();
        if request.trace_all {
            let rest = (0..ways.len()).filter(|&place| ways[place].page.is_none());
            items.extend(rest.map(|place| self.merged_item(pipeline, place, &ways)));
        }
        let personal = request.is_personal();
        let passed_over = if personal { self.passed_over(pipeline) } else { Vec::new() };
        Feed {
            request: request.id.clone(),
            user: request.user.clone(),
            personal,
            reason: (!personal).then(|| format!("user `{}` is not known", request.user)),
            items: feed_items,
            passed_over,
            trace: Trace {
                items,
                channels: self.channels(pipeline),
                ranked: self.ranked,
                rank_error: self.rank_error.clone(),
                non_finite: self.non_finite,
                bad_context: self.bad_context,
                stages: self.stages,
            },
        }
    }

    /// Some of what was ranked below the page, evenly spread, best first; nothing where nothing was ranked.
    fn passed_over(&self, pipeline: &Pipeline) -> Vec<String> {
        let PassedOverConfig { keep, skip, .. } = pipeline.config.passed_over;
        if keep == 0 || !self.ranked {
            return Vec::new();
        }
        let shown: RapidHashSet<_> = self.page.iter().map(|placed| placed.item).collect();
        let below = self.ranking.iter().map(|entry| entry.item).filter(|item| !shown.contains(item));
        let below: Vec<_> = below.skip(skip).collect();
        let catalogue = &self.call().catalogue;
        let count = keep.min(below.len());
        (0..count).map(|i| catalogue.item_id(below[i * below.len() / count]).to_owned()).collect()
    }

    fn ways(&self) -> Vec<Way> {
        let mut ways = vec![Way::default(); self.merged.items.len()];
        for (row, &place) in self.chosen.iter().enumerate() {
            ways[place as usize].chosen = Some(row as u32);
        }
        for (rank, entry) in self.ranking.iter().enumerate() {
            ways[entry.merged as usize].rank = Some(rank as u32);
        }
        for (position, placed) in self.page.iter().enumerate() {
            if let Some(place) = placed.merged {
                ways[place as usize].page = Some(position as u32);
            }
        }
        ways
    }

    fn item(&self, pipeline: &Pipeline, placed: &Placed, position: u32, ways: &[Way]) -> ItemTrace {
        let trace = match placed.merged {
            Some(place) => self.merged_item(pipeline, place as usize, ways),
            None => {
                ItemTrace { item: self.call().catalogue.item_id(placed.item).into(), ..ItemTrace::default() }
            }
        };
        ItemTrace { refill: placed.refill, position: Some(position), ..trace }
    }

    fn merged_item(&self, pipeline: &Pipeline, place: usize, ways: &[Way]) -> ItemTrace {
        let way = ways[place];
        let hit = |h: &crate::merge::Hit| ChannelHit {
            channel: pipeline.lanes[h.channel as usize].name.clone(),
            position: h.position,
            score: h.score,
        };
        let score = way.rank.map(|r| self.ranking[r as usize].score).filter(|s| self.ranked && s.is_finite());
        ItemTrace {
            item: self.call().catalogue.item_id(self.merged.items[place]).into(),
            channels: self.merged.hits(place).iter().map(hit).collect(),
            merged: Some(place as u32),
            tasks: way.chosen.map_or_else(Vec::new, |row| self.task_scores(&pipeline.tasks, row as usize)),
            score,
            rank: way.rank,
            steps: self.steps.iter().filter(|s| s.0 as usize == place).map(|s| s.1.clone()).collect(),
            refill: None,
            position: way.page,
        }
    }

    fn task_scores(&self, tasks: &[Arc<str>], row: usize) -> Vec<TaskScore> {
        let scores = self.probabilities.get(row * tasks.len()..(row + 1) * tasks.len()).unwrap_or_default();
        tasks.iter().zip(scores).map(|(task, &score)| TaskScore { task: task.clone(), score }).collect()
    }

    fn channels(&self, pipeline: &Pipeline) -> Vec<ChannelTrace> {
        let names =
            |places: &[u16]| places.iter().map(|&at| pipeline.lanes[at as usize].name.clone()).collect();
        let traced = pipeline.lanes.iter().zip(&self.runs).map(|(lane, run)| {
            let (status, reason) = match &run.outcome {
                Outcome::Answered(_) => (ChannelStatus::Answered, None),
                Outcome::Failed(why) => (ChannelStatus::Failed, Some(why.clone())),
                Outcome::Late => {
                    let waited = format!("no answer within {} ms", lane.deadline.as_millis());
                    (ChannelStatus::Late, Some(waited))
                }
                Outcome::Skipped(why) => (ChannelStatus::Skipped, Some((*why).to_owned())),
            };
            let returned = run.candidates().len();
            ChannelTrace {
                name: lane.name.clone(),
                status,
                reason,
                returned,
                first_hits: 0,
                share: 0.0,
                shown: Shown::default(),
                stands_in_for: names(&run.stands_in),
                micros: run.micros,
            }
        });
        let mut traced: Vec<ChannelTrace> = traced.collect();
        self.attribute(&mut traced);
        traced
    }

    /// Counts who brought what into the merged list and onto the page.
    fn attribute(&self, channels: &mut [ChannelTrace]) {
        let merged = &self.merged;
        for place in 0..merged.items.len() {
            if let Some(first) = merged.hits(place).first() {
                channels[first.channel as usize].first_hits += 1;
            }
        }
        let whole = merged.items.len().max(1) as f32;
        channels.iter_mut().for_each(|c| c.share = c.first_hits as f32 / whole);
        for place in self.page.iter().filter_map(|placed| placed.merged) {
            let hits = merged.hits(place as usize);
            for (at, hit) in hits.iter().enumerate() {
                let shown = &mut channels[hit.channel as usize].shown;
                shown.all += 1;
                shown.first += usize::from(at == 0);
                shown.only += usize::from(hits.len() == 1);
            }
        }
    }
}

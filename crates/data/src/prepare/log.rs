//! Logs of events: users and items, requests and actions, then examples.

use millstream_schema::{Fitter, Kinds, Remembered, Side};
use std::sync::Arc;

use super::build::{Builder, observe_cells};
use super::catalogue::Shelf;
use super::events::Events;
use super::kinds;
use super::output::{Catalogue, Manifest, Parts, write_encoder};
use super::positives::{Cut, FirstPositives, Story};
use super::requests::{Requests, label};
use super::{ACTIONS, CATALOGUE, Job, PrepareReport};
use crate::config::{SplitBy, Task};
use crate::negatives::NegativeSampler;
use crate::split::{RatioSplit, TimeSplit};
use crate::{Error, Split, Use};

/// The two sides of the catalogue and what has been learned so far.
pub(super) struct Library<'a> {
    pub(super) users: Shelf<'a>,
    pub(super) items: Shelf<'a>,
    pub(super) fitter: Fitter,
}

impl<'a> Library<'a> {
    /// Reads the files of both sides.
    pub(super) fn read(job: &'a Job<'a>, report: &mut PrepareReport) -> Result<Self, Error> {
        let mut out = Self {
            users: Shelf::users(job),
            items: Shelf::items(job),
            fitter: Fitter::new(&job.config.schema),
        };
        out.users.read(&mut out.fitter, &mut report.bad)?;
        out.items.read(&mut out.fitter, &mut report.bad)?;
        Ok(out)
    }

    /// Enters what was met outside the files.
    pub(super) fn complete(&mut self, report: &mut PrepareReport) -> Result<(), Error> {
        report.users = self.users.ids.len();
        report.items = self.items.ids.len();
        if self.users.listed > 0 {
            report.note("users that only events name", (report.users - self.users.listed) as u64);
        }
        if self.items.listed > 0 {
            report.note("items that only events name", (report.items - self.items.listed) as u64);
        }
        self.users.observe_rest(&mut self.fitter)?;
        self.items.observe_rest(&mut self.fitter)
    }
}

pub(super) fn prepare(job: &Job<'_>) -> Result<PrepareReport, Error> {
    let files = job.config.dataset.events.as_ref();
    let files =
        files.ok_or_else(|| Error::Config("[dataset]: a section [dataset.events] is missing".into()))?;
    let mut report = PrepareReport { bad: job.bad_values(), ..PrepareReport::default() };
    let mut library = Library::read(job, &mut report)?;
    let ids = (&mut library.users.ids, &mut library.items.ids);
    let events = Events::read(job, files, ids, &mut report)?;
    kinds::enter(job.config, &events.kinds, &mut report)?;
    library.complete(&mut report)?;
    let story = story(job, events, &mut report)?;
    observe_cells(job, &story, &mut library.fitter)?;
    finish(job, library, story, report)
}

/// Groups, labels and cuts the events.
fn story(job: &Job<'_>, events: Events, report: &mut PrepareReport) -> Result<Story, Error> {
    let tasks = &job.config.tasks;
    let split = &job.config.split;
    let has_impressions = events.kinds.iter().any(|k| !k.is_action());
    let mut grouped = has_impressions.then(|| Requests::group(&events));
    if grouped.is_none() && !job.config.schema.columns(Side::Exposure).is_empty() {
        return Err(Error::Config(
            "[[feature]]: side exposure needs impressions, of which the log has none; use context".into(),
        ));
    }
    let bits = label(&events, tasks, grouped.as_mut().map(|(requests, keys)| (requests, &*keys)));
    let requests = grouped.map(|(requests, _)| requests);
    if let Some(requests) = &requests {
        let lone =
            (0..events.len()).filter(|&at| events.kind_at(at).is_action() && requests.of[at] == u32::MAX);
        report.note("actions that answer no known impression", lone.count() as u64);
    }
    check_positives(&events, &bits, tasks)?;
    let cut = match job.config.split_by() {
        // Neither files nor cold items cut a log; the configuration is checked for it.
        SplitBy::Time | SplitBy::Files | SplitBy::ColdItems => {
            Cut::Time(TimeSplit::at_shares(events.time_ms.clone(), split.valid, split.test))
        }
        SplitBy::User => Cut::LastOut { valid: split.valid > 0.0 },
        SplitBy::Ratio => Cut::Ratio(RatioSplit::new(split.valid, split.test, split.seed)),
    };
    if let Cut::Time(cut) = cut {
        report.time_split = Some(cut);
    }
    Ok(Story::of_log(events, bits, requests, report.users, &cut))
}

/// Every task has a positive somewhere.
fn check_positives(events: &Events, bits: &[u32], tasks: &[Task]) -> Result<(), Error> {
    for (at, task) in tasks.iter().enumerate() {
        let Task::Event { name, event, min_value, .. } = task else { continue };
        let positive = |e: &usize| bits[*e] >> at & 1 == 1 && events.kind_at(*e).is_action();
        if (0..events.len()).any(|e| positive(&e)) {
            continue;
        }
        let least = min_value.map_or(String::new(), |least| format!(" with a value of {least} or more"));
        let kinds: Vec<&str> = events.kinds.iter().map(|k| k.as_str()).collect();
        return Err(Error::Config(format!(
            "task `{name}`: no event is a `{event}`{least}; the log holds {}",
            kinds.join(", ")
        )));
    }
    Ok(())
}

/// Encodes and writes everything of a story.
pub(super) fn finish(
    job: &Job<'_>,
    mut library: Library<'_>,
    story: Story,
    mut report: PrepareReport,
) -> Result<PrepareReport, Error> {
    let encoder = Arc::new(library.fitter.finish()?);
    job.progress("encoding the catalogue", 0, None);
    let user_columns = library.users.encode(&encoder, &mut report.bad)?;
    let item_columns = library.items.encode(&encoder, &mut report.bad)?;
    let (created_ms, retired_ms) = library.items.lifetimes();
    let positives = story.actions.item_positives(library.items.ids.len());
    if positives.iter().all(|&n| n == 0) {
        return Err(Error::Config("[split]: no positive of the first task is left to train on".into()));
    }
    let negatives = story.requests.is_none().then(|| {
        let power = job.config.examples.negative_power;
        (NegativeSampler::new(&positives, &created_ms, &retired_ms, power), FirstPositives::of(&story))
    });
    let catalogue = Catalogue {
        users: library.users.ids,
        items: library.items.ids,
        user_columns,
        item_columns,
        created_ms,
        retired_ms,
        positives,
    };
    catalogue.write(&job.out.join(CATALOGUE))?;
    write_encoder(job.out, &encoder)?;
    story.actions.write(&job.out.join(ACTIONS))?;
    let examples = &job.config.examples;
    let enter = Kinds::of(&examples.history_events);
    let remembered = Remembered::new(&job.config.schema, enter, examples.max_history);
    let builder = Builder { job, story: &story, encoder: &encoder, remembered, negatives };
    write_parts(&builder, &mut report)?;
    let trained = if job.config.examples.whole { Use::Recall } else { Use::Rank };
    if report.parts.part(Split::Train, trained).candidates == 0 {
        return Err(Error::Config("[split]: no request is left to train on".into()));
    }
    Manifest::new(job.config, &report).write(job.out)?;
    Ok(report)
}

fn write_parts(builder: &Builder<'_>, report: &mut PrepareReport) -> Result<(), Error> {
    let tasks = builder.job.config.tasks.len();
    let whole = builder.job.config.examples.whole;
    let mut rank = Parts::create(builder.job.out, Use::Rank, tasks)?;
    if !whole {
        builder.rank(&mut rank, &mut report.bad)?;
    }
    rank.finish(&mut report.parts)?;
    let mut recall = Parts::create(builder.job.out, Use::Recall, tasks)?;
    if !whole {
        builder.recall(&mut recall)?;
    }
    recall.finish(&mut report.parts)?;
    if whole {
        // The actions are all that is read; what they hold is entered here.
        for split in Split::ALL {
            let positives = builder.story.actions.target.iter().filter(|t| **t == split as u8).count() as u64;
            let part = report.parts.part_mut(split, Use::Recall);
            (part.requests, part.candidates, part.positives) = (positives, positives, vec![positives; tasks]);
        }
    }
    Ok(())
}

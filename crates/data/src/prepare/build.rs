//! A log or sequences to blocks of examples: every history ends strictly before its request.

use millstream_schema::ids::NO_ROW;
use millstream_schema::{BadValues, Columns, Encoder, Examples, Fitter, History, Remembered, Side};
use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Job;
use super::output::{Parts, positives_of};
use super::positives::{FirstPositives, Story};
use crate::blocks::{BLOCK_CANDIDATES, EncodedBlock};
use crate::config::{in_space, spaces};
use crate::negatives::NegativeSampler;
use crate::{Error, Split};

/// Makes the examples of a story.
pub(super) struct Builder<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) story: &'a Story,
    pub(super) encoder: &'a Encoder,
    /// Kinds that enter histories.
    pub(super) remembered: Remembered,
    /// For stories without impressions.
    pub(super) negatives: Option<(NegativeSampler, FirstPositives)>,
}

/// What one chunk of requests shows, before it is encoded.
#[derive(Default)]
struct Chunk {
    user: Vec<u32>,
    time_ms: Vec<i64>,
    history: History,
    /// Event whose context cells are the request's.
    context: Vec<u32>,
    request: Vec<u32>,
    item: Vec<u32>,
    /// Event whose exposure cells are the candidate's.
    exposure: Vec<u32>,
    bits: Vec<u32>,
    scratch: Vec<usize>,
}

impl Chunk {
    fn candidate(&mut self, item: u32, event: u32, bits: u32) {
        self.request.push(self.user.len() as u32 - 1);
        self.item.push(item);
        self.exposure.push(event);
        self.bits.push(bits);
    }
}

/// Lets the encoder learn the context and exposure cells of the training requests.
pub(super) fn observe_cells(job: &Job<'_>, story: &Story, fitter: &mut Fitter) -> Result<(), Error> {
    let schema = &job.config.schema;
    let sides = [Side::Context, Side::Exposure].map(|side| (side, !schema.columns(side).is_empty()));
    let mut observe = |side: Side, rows: &[u32]| -> Result<(), Error> {
        story.events.frames(rows).iter().try_for_each(|frame| Ok(fitter.observe(&[side], frame)?))
    };
    for (side, _) in sides.into_iter().filter(|(_, read)| *read) {
        let rows: Vec<u32> = match &story.requests {
            None => training_targets(story).map(|at| story.event_of[at as usize]).collect(),
            Some(all) => {
                let train = |&r: &u32| story.request_split[r as usize] == Split::Train;
                let requests = (0..all.len() as u32).filter(train);
                if side == Side::Context {
                    requests.map(|r| all.first[r as usize]).collect()
                } else {
                    requests.flat_map(|r| all.shown(r).iter().copied()).collect()
                }
            }
        };
        rows.chunks(BLOCK_CANDIDATES).try_for_each(|rows| observe(side, rows))?;
    }
    Ok(())
}

fn training_targets(story: &Story) -> impl Iterator<Item = u32> + '_ {
    story.targets.iter().copied().filter(|&at| story.actions.target[at as usize] == Split::Train as u8)
}

impl Builder<'_> {
    /// Writes ranking examples: requests as they were shown, or positives among sampled negatives.
    pub(super) fn rank(&self, parts: &mut Parts, bad: &mut BadValues) -> Result<(), Error> {
        match &self.story.requests {
            Some(all) => {
                let lists = by_split(0..all.len() as u32, |r| self.story.request_split[r as usize]);
                let size = |r: u32| all.shown(r).len();
                self.write(parts, bad, "writing ranking examples", (&lists, &size), &|r, chunk| {
                    self.shown(r, chunk)
                })
            }
            None => {
                let lists = self.targets();
                let size = |_| 1 + self.job.config.examples.negatives;
                self.write(parts, bad, "writing ranking examples", (&lists, &size), &|at, chunk| {
                    self.sampled(at, chunk)
                })
            }
        }
    }

    /// Writes retrieval examples: each positive alone.
    pub(super) fn recall(&self, parts: &mut Parts) -> Result<(), Error> {
        // The cells are those of the ranking examples, whose bad values are counted there.
        let mut counted = BadValues::default();
        let fill = |at, chunk: &mut Chunk| {
            self.ask(at, chunk);
            let bits = self.story.bits_of(at as usize) | self.answered(at as usize);
            chunk.candidate(self.story.actions.item[at as usize], NO_ROW, bits);
        };
        self.write(parts, &mut counted, "writing retrieval examples", (&self.targets(), &|_| 1), &fill)
    }

    fn targets(&self) -> [Vec<u32>; 3] {
        let part = |at: u32| Split::of(self.story.actions.target[at as usize]).unwrap_or(Split::Train);
        by_split(self.story.targets.iter().copied(), part)
    }

    /// Labels of the impression that an action answers.
    fn answered(&self, place: usize) -> u32 {
        let (story, actions) = (self.story, &self.story.actions);
        let request = story.request_of(place).zip(story.requests.as_ref());
        request
            .and_then(|(r, all)| {
                all.impression(&story.events, r, actions.item[place], actions.time_ms[place])
            })
            .map_or(0, |shown| story.bits[shown as usize])
    }

    /// A request as it was shown.
    fn shown(&self, request: u32, chunk: &mut Chunk) {
        let Some(all) = &self.story.requests else { return };
        let r = request as usize;
        self.open(all.user[r], all.time_ms[r], self.story.request_split[r], chunk);
        chunk.context.push(all.first[r]);
        for &event in all.shown(request) {
            let at = event as usize;
            chunk.candidate(self.story.events.item[at], event, self.story.bits[at]);
        }
    }

    /// The request that a positive answered, without candidates.
    fn ask(&self, place: u32, chunk: &mut Chunk) {
        let (story, at) = (self.story, place as usize);
        let actions = &story.actions;
        // Users own rising spans of places.
        let user = actions.offsets.partition_point(|&o| o <= place) as u32 - 1;
        let split = Split::of(actions.target[at]).unwrap_or(Split::Train);
        self.open(user, actions.time_ms[at], split, chunk);
        let first = story.request_of(at).zip(story.requests.as_ref()).map(|(r, all)| all.first[r as usize]);
        chunk.context.push(first.or(story.event_of.get(at).copied()).unwrap_or(NO_ROW));
    }

    fn open(&self, user: u32, time_ms: i64, split: Split, chunk: &mut Chunk) {
        chunk.user.push(user);
        chunk.time_ms.push(time_ms);
        let asked = (user, time_ms, split);
        self.story.actions.push_history(asked, &self.remembered, &mut chunk.scratch, &mut chunk.history);
    }

    /// A positive and its sampled negatives.
    fn sampled(&self, place: u32, chunk: &mut Chunk) {
        let (actions, at) = (&self.story.actions, place as usize);
        self.ask(place, chunk);
        let (user, time_ms) = (chunk.user.last().copied().unwrap_or(NO_ROW), actions.time_ms[at]);
        chunk.candidate(actions.item[at], NO_ROW, self.story.bits_of(at));
        let Some((sampler, known)) = &self.negatives else { return };
        let seed = xxh3_64_with_seed(&place.to_le_bytes(), self.job.config.split.seed);
        let mut drawn = Vec::with_capacity(self.job.config.examples.negatives);
        let wanted = (time_ms, self.job.config.examples.negatives, seed);
        sampler.draw(wanted, |item| known.knows(user, item, time_ms), &mut drawn);
        drawn.iter().for_each(|&item| chunk.candidate(item, NO_ROW, 0));
    }

    /// Fills, encodes and writes chunks of about a block each, several at a time, in order.
    fn write(
        &self,
        parts: &mut Parts,
        bad: &mut BadValues,
        stage: &'static str,
        (lists, size): (&[Vec<u32>; 3], &dyn Fn(u32) -> usize),
        fill: &(dyn Fn(u32, &mut Chunk) + Sync),
    ) -> Result<(), Error> {
        let total = lists.iter().map(|l| l.len() as u64).sum();
        let mut done = 0;
        for (split, list) in Split::ALL.into_iter().zip(lists) {
            let chunks = chunks(list, size);
            for wave in chunks.chunks(rayon::current_num_threads().max(1) * 4) {
                let blocks: Vec<Result<_, Error>> =
                    wave.par_iter().map(|list| self.block(list, fill)).collect();
                for (block, list) in blocks.into_iter().zip(wave) {
                    let (block, positives, more) = block?;
                    parts.push_block(split, &block, &positives)?;
                    bad.merge(&more);
                    done += list.len() as u64;
                }
                self.job.progress(stage, done, Some(total));
            }
        }
        Ok(())
    }

    fn block(
        &self,
        list: &[u32],
        fill: &(dyn Fn(u32, &mut Chunk) + Sync),
    ) -> Result<(EncodedBlock, Vec<u64>, BadValues), Error> {
        let mut bad = self.job.bad_values();
        let mut chunk = Chunk::default();
        list.iter().for_each(|&entry| fill(entry, &mut chunk));
        let examples = self.examples(chunk, &mut bad)?;
        Ok((EncodedBlock::new(&examples), positives_of(&examples), bad))
    }

    fn examples(&self, chunk: Chunk, bad: &mut BadValues) -> Result<Examples, Error> {
        let (tasks, spaces) = (self.job.config.tasks.len(), spaces(&self.job.config.tasks));
        let label = |bits: &u32| {
            spaces.iter().enumerate().fold(Vec::with_capacity(tasks), |mut row: Vec<f32>, (t, space)| {
                row.push(if in_space(*space, &row) { (bits >> t & 1) as f32 } else { f32::NAN });
                row
            })
        };
        let no_exposure = chunk.exposure.iter().all(|&e| e == NO_ROW);
        let exposure = if no_exposure {
            self.encoder.exposure_defaults(chunk.item.len())?
        } else {
            self.cells(Side::Exposure, &chunk.exposure, bad)?
        };
        Ok(Examples {
            context: self.cells(Side::Context, &chunk.context, bad)?,
            exposure,
            labels: chunk.bits.iter().flat_map(label).collect(),
            tasks,
            request_user: chunk.user,
            request_time_ms: chunk.time_ms,
            history: chunk.history,
            candidate_request: chunk.request,
            candidate_item: chunk.item,
            weights: Vec::new(),
        })
    }

    /// The encoded cells of these events.
    fn cells(&self, side: Side, rows: &[u32], bad: &mut BadValues) -> Result<Columns, Error> {
        if self.job.config.schema.columns(side).is_empty() {
            return Ok(Columns::default());
        }
        let mut out = Columns::default();
        for frame in self.story.events.frames(rows) {
            out.append(&self.encoder.encode(&[side], &frame, bad)?)?;
        }
        Ok(out)
    }
}

fn by_split(all: impl Iterator<Item = u32>, part: impl Fn(u32) -> Split) -> [Vec<u32>; 3] {
    let mut out: [Vec<u32>; 3] = Default::default();
    all.for_each(|at| out[part(at) as usize].push(at));
    out
}

/// Stretches of about a block's candidates each.
fn chunks<'a>(list: &'a [u32], size: &dyn Fn(u32) -> usize) -> Vec<&'a [u32]> {
    let (mut out, mut start, mut candidates) = (Vec::new(), 0, 0);
    for (at, &entry) in list.iter().enumerate() {
        candidates += size(entry);
        if candidates >= BLOCK_CANDIDATES {
            out.push(&list[start..=at]);
            (start, candidates) = (at + 1, 0);
        }
    }
    if start < list.len() {
        out.push(&list[start..]);
    }
    out
}

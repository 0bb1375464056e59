//! Sequences: one line per user, items in order. The place in the line stands for the time.

use std::path::PathBuf;

use millstream_schema::{EventKind, parse};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::events::Events;
use super::frames::{paths, waves};
use super::kinds;
use super::log::{Library, finish};
use super::positives::Story;
use super::{Job, PrepareReport};
use crate::config::{SequenceFiles, SplitBy, SplitConfig};
use crate::interactions::{Actions, NO_TARGET};
use crate::logs::{FileFormat, LogFormat};
use crate::split::RatioSplit;
use crate::{Error, Split};

/// The made-up time of a line's first item, 2000-01-01; nothing is known of real ones.
const FIRST_MS: i64 = 946_684_800_000;
/// Made-up time between neighbours.
const STEP_MS: i64 = 1000;

/// One line: its items, in the part of its file.
struct Line {
    split: Split,
    /// [`EventKind::code`].
    kind: u16,
    /// Whether the lines of this kind come before the others, and hold nothing that is to be found.
    earlier: bool,
    items: Vec<u32>,
}

pub(super) fn prepare(job: &Job<'_>) -> Result<PrepareReport, Error> {
    let files = job.config.dataset.sequences.as_ref();
    let files =
        files.ok_or_else(|| Error::Config("[dataset]: a section [dataset.sequences] is missing".into()))?;
    let mut report = PrepareReport { bad: job.bad_values(), ..PrepareReport::default() };
    let mut library = Library::read(job, &mut report)?;
    let own_kind = [files.kind()];
    let kinds: Vec<EventKind> =
        files.before.iter().map(|b| &b.event).chain(own_kind.iter()).cloned().collect();
    kinds::enter(job.config, &kinds, &mut report)?;
    let mut lines: Vec<Vec<Line>> = Vec::new();
    let earlier = files.before.iter().map(|b| (Split::Train, b.event.code(), &b.files));
    let own = [(Split::Train, &files.train), (Split::Valid, &files.valid), (Split::Test, &files.test)]
        .map(|(split, names)| (split, files.kind().code(), names));
    for (at, (split, kind, names)) in earlier.chain(own).enumerate() {
        let about = Line { split, kind, earlier: at < files.before.len(), items: Vec::new() };
        read(job, files, (&about, &paths(&job.folder, names)), (&mut library, &mut lines), &mut report)?;
    }
    if files.sets {
        mix(&mut lines, job.config.split.seed);
    }
    if let Some(share) = files.valid_of_train {
        hold_out(&mut lines, share);
    }
    library.complete(&mut report)?;
    lines.resize_with(report.users, Vec::new);
    let cold = (job.config.split_by() == SplitBy::ColdItems).then(|| cold(job, &library, &mut report));
    let rule = match (&cold, job.config.split_by()) {
        (Some(parts), _) => Rule::ByItem(parts),
        (None, SplitBy::User) => Rule::LastOut { valid: job.config.split.valid > 0.0 },
        _ => Rule::ByFile { users_go_on: files.user, valid_last: files.valid_last },
    };
    let story = story(&lines, rule);
    drop(lines);
    finish(job, library, story, report)
}

/// Puts the items of each line in an order drawn by the seed, which depends on user and items alone.
fn mix(lines: &mut [Vec<Line>], seed: u64) {
    for (user, own) in lines.iter_mut().enumerate() {
        for line in own {
            let key = |item: &u32| [(user as u32).to_le_bytes(), item.to_le_bytes()].concat();
            line.items.sort_by_cached_key(|item| (xxh3_64_with_seed(&key(item), seed), *item));
        }
    }
}

/// Makes a share of the training lines, the last ones, validate: each line is a user of its own, in order.
fn hold_out(lines: &mut [Vec<Line>], share: f64) {
    let all = lines.iter().filter(|own| own.iter().any(|l| l.split == Split::Train)).count();
    let held = (all as f64 * share).round() as usize;
    let train = lines.iter_mut().flatten().filter(|l| l.split == Split::Train);
    train.skip(all - held).for_each(|l| l.split = Split::Valid);
}

fn read(
    job: &Job<'_>,
    files: &SequenceFiles,
    (about, paths): (&Line, &[PathBuf]),
    (library, lines): (&mut Library<'_>, &mut Vec<Vec<Line>>),
    report: &mut PrepareReport,
) -> Result<(), Error> {
    let format = LogFormat { format: Some(FileFormat::Lines), ..LogFormat::default() };
    // A user may have a line in each part, but only one.
    let mut seen: Vec<(u32, usize, u64)> = Vec::new();
    waves(paths, &format, |pieces| {
        for piece in pieces {
            for row in 0..piece.frame.rows() {
                let text = piece.frame.get(row, 0);
                let mut ids = ids(text, files.delimiter.as_deref());
                let place = || piece.frame.place(row);
                let user = match files.user {
                    true => ids.next().map(str::to_owned),
                    false => Some(place()),
                };
                let Some(user) = user else { continue };
                let user = library.users.ids.insert(&user) as usize;
                let items: Vec<u32> = ids.map(|id| library.items.ids.insert(id)).collect();
                report.rows_read += 1;
                if lines.len() <= user {
                    lines.resize_with(user + 1, Vec::new);
                }
                let same = |l: &Line| l.split == about.split && l.kind == about.kind;
                let own = lines[user].iter_mut().find(|l| same(l));
                if let Some(own) = own.filter(|_| files.continued) {
                    own.items.extend(items);
                    continue;
                }
                if lines[user].iter().any(same) {
                    let first = seen.iter().find(|(u, ..)| *u as usize == user);
                    let first = first.map(|(_, file, line)| format!("{}:{line}", paths[*file].display()));
                    let shown = parse::short(library.users.ids.name(user as u32));
                    let reason = format!("user {shown} already has a line at {}", first.unwrap_or_default());
                    return Err(Error::Input { place: place(), reason });
                }
                seen.push((user as u32, piece.file, piece.frame.line(row)));
                if items.is_empty() {
                    report.note("lines without items", 1);
                }
                lines[user].push(Line { items, ..*about });
            }
        }
        job.progress("reading sequences", report.rows_read, None);
        Ok(())
    })
}

fn ids<'a>(text: &'a str, delimiter: Option<&'a str>) -> impl Iterator<Item = &'a str> {
    let white = delimiter.is_none_or(|d| d.trim().is_empty());
    let spaced = white.then(|| text.split_whitespace());
    let split =
        delimiter.filter(|_| !white).map(|d| text.split(d).map(str::trim).filter(|id| !id.is_empty()));
    spaced.into_iter().flatten().chain(split.into_iter().flatten())
}

/// Which part each item is of: a draw by the seed and the item's own id, so that neither the order of the files nor other items
/// matter.
fn cold(job: &Job<'_>, library: &Library<'_>, report: &mut PrepareReport) -> Vec<Split> {
    let SplitConfig { valid, test, seed, .. } = job.config.split;
    let draw = RatioSplit::new(valid, test, seed);
    let parts: Vec<Split> =
        library.items.ids.iter().map(|id| draw.part(xxh3_64_with_seed(id.as_bytes(), 0))).collect();
    for split in [Split::Valid, Split::Test] {
        let held = parts.iter().filter(|p| **p == split).count();
        report.note(format!("items that no training row holds, for {split}"), held as u64);
    }
    parts
}

/// What decides the part of an action.
#[derive(Clone, Copy)]
enum Rule<'a> {
    /// Each user's last item tests, the one before may validate.
    LastOut { valid: bool },
    /// The item: its part by row. What a user took before their first item of a part is their history there.
    ByItem(&'a [Split]),
    /// The file. Where a user's lines go on from file to file, all items of a later file share one moment, because such
    /// files hold sets; where every line is a user of its own, a line of a later file ends in the item to be found and what comes
    /// before is its history. With `valid_last` the last item of a user's training line validates, unless it is the only one.
    ByFile { users_go_on: bool, valid_last: bool },
}

impl Rule<'_> {
    /// Part and target of the item at `at` of a line.
    fn part(self, line: &Line, at: usize) -> (u8, u8) {
        let count = line.items.len();
        let last = at + 1 == count;
        match (self, line.split) {
            (Self::ByItem(parts), _) => {
                let part = parts[line.items[at] as usize] as u8;
                (part, if line.earlier { NO_TARGET } else { part })
            }
            (_, Split::Train) if line.earlier => (Split::Train as u8, NO_TARGET),
            (Self::LastOut { valid }, Split::Train) => by_place(at, count, valid),
            (Self::ByFile { valid_last: true, .. }, Split::Train) if at > 0 && last => {
                (Split::Valid as u8, Split::Valid as u8)
            }
            (_, Split::Train) => (Split::Train as u8, Split::Train as u8),
            (Self::ByFile { users_go_on: true, .. } | Self::LastOut { .. }, later) => {
                (later as u8, later as u8)
            }
            (_, later) if last => (later as u8, later as u8),
            _ => (Split::Train as u8, NO_TARGET),
        }
    }
}

/// Lines to actions.
fn story(lines: &[Vec<Line>], rule: Rule<'_>) -> Story {
    // An item of a later file of users that go on shares its moment with the others.
    let one_moment = matches!(rule, Rule::ByFile { users_go_on: true, .. });
    let mut actions = Actions { offsets: vec![0], ..Actions::default() };
    for lines in lines {
        let mut step = 0;
        for line in lines {
            for (at, &item) in line.items.iter().enumerate() {
                let (split, target) = rule.part(line, at);
                actions.item.push(item);
                actions.time_ms.push(FIRST_MS + step * STEP_MS);
                actions.split.push(split);
                actions.target.push(target);
                actions.kind.push(line.kind);
                step += i64::from(line.split == Split::Train || !one_moment);
            }
            step += i64::from(line.split != Split::Train);
        }
        actions.offsets.push(actions.item.len() as u32);
    }
    actions.value = vec![1.0; actions.item.len()];
    let targets =
        (0..actions.item.len() as u32).filter(|&at| actions.target[at as usize] != NO_TARGET).collect();
    Story {
        actions,
        event_of: Vec::new(),
        targets,
        events: Events::default(),
        bits: Vec::new(),
        requests: None,
        request_split: Vec::new(),
    }
}

/// Part and target of the item at `at` of `count`.
fn by_place(at: usize, count: usize, valid: bool) -> (u8, u8) {
    let split = match count - at {
        _ if count < 3 => Split::Train,
        1 => Split::Test,
        2 if valid => Split::Valid,
        _ => Split::Train,
    };
    (split as u8, split as u8)
}

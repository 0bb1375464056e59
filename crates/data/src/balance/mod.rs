//! Balancing the training rows of the first task: `[[balance]]` steps, in order, on the training part alone.
//!
//! Evaluation and serving always see the data as it is. Geometric steps (SMOTE and its kin) hold the training rows in
//! memory and look for neighbours by brute force: O(minority · rows). Distances are between encoded numbers, so numeric
//! features are best left at `transform = "standardise"`, the default; see [`points`].

pub mod cluster;
mod config;
mod downsample;
pub mod points;
mod seeded;
pub mod smote;
pub mod tomek;

#[cfg(test)]
mod tests;

use std::path::Path;

use millstream_schema::Examples;

use crate::blocks::{BlockReader, BlockWriter, EncodedBlock, Gatherer};
use crate::prepare::{PartReport, blocks_file, positives_of};
use crate::{Error, Split, Use};

pub use config::{BalanceMethod, BalanceStep, TomekRemoves};
pub use downsample::calibrated;

/// What balancing did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Balanced {
    /// The training part as it is now.
    pub part: PartReport,
    /// Share of the negatives that was kept, by which probabilities are calibrated; `None` without that step.
    pub negatives_kept: Option<f64>,
    /// What each step did, and to how many rows.
    pub notes: Vec<(String, u64)>,
}

/// Applies the steps to the training rows in `dir`. `progress` hears what is done and how many rows are through.
///
/// # Errors
/// A step that cannot be applied to these rows, with the reason; reading or writing fails.
pub(crate) fn apply(
    dir: &Path,
    steps: &[BalanceStep],
    progress: &dyn Fn(&'static str, u64),
) -> Result<Balanced, Error> {
    let path = dir.join(blocks_file(Split::Train, Use::Rank));
    let mut out = Balanced::default();
    let mut geometric = steps;
    if let [first, rest @ ..] = steps
        && first.method == BalanceMethod::NegativeSampling
    {
        // Block by block: the rows need not fit into memory.
        let mut seen = 0;
        let dropped = rewrite(&path, &mut out.part, |x| {
            let kept = downsample::keep_some(x, first, seen);
            seen += x.candidates() as u64;
            progress("balancing", seen);
            kept
        })?;
        out.negatives_kept = Some(first.kept());
        out.notes.push(("training negatives left out by negative_sampling".into(), dropped));
        geometric = rest;
    }
    if geometric.is_empty() {
        return Ok(out);
    }
    let mut rows = load(&path)?;
    for step in geometric {
        progress("balancing", rows.candidates() as u64);
        let before = rows.candidates();
        rows = match step.method {
            BalanceMethod::NegativeSampling => {
                return Err(Error::config("[[balance]]: negative_sampling comes first, before other steps"));
            }
            BalanceMethod::Smote => smote::smote(&rows, step, false)?,
            BalanceMethod::BorderlineSmote => smote::smote(&rows, step, true)?,
            BalanceMethod::TomekLinks => tomek::without_links(&rows, step)?,
            BalanceMethod::ClusterUndersampling => cluster::undersample(&rows, step)?,
        };
        let (name, after) = (step.method.as_str(), rows.candidates());
        out.notes.push(match after >= before {
            true => (format!("training rows made by {name}"), (after - before) as u64),
            false => (format!("training rows left out by {name}"), (before - after) as u64),
        });
    }
    out.part = store(&path, &rows)?;
    Ok(out)
}

/// Rewrites a block file block by block; gives the number of candidates that went.
fn rewrite(
    path: &Path,
    part: &mut PartReport,
    mut change: impl FnMut(&Examples) -> Examples,
) -> Result<u64, Error> {
    let mut reader = BlockReader::open(path)?;
    let (mut writer, mut gatherer, mut gone) = (BlockWriter::create(path)?, Gatherer::default(), 0);
    *part = PartReport::default();
    for block in 0..reader.entries().len() {
        let before = reader.read(block)?;
        refuse_several_tasks(&before)?;
        let after = change(&before);
        gone += (before.candidates() - after.candidates()) as u64;
        add_positives(part, &after);
        if let Some(block) = gatherer.push(&after)? {
            writer.push(&block)?;
        }
    }
    writer.push(&gatherer.rest())?;
    finish(writer, part)?;
    Ok(gone)
}

fn load(path: &Path) -> Result<Examples, Error> {
    let mut reader = BlockReader::open(path)?;
    let mut rows = Examples::default();
    for block in 0..reader.entries().len() {
        rows.append(&reader.read(block)?)?;
    }
    refuse_several_tasks(&rows)?;
    let alone = rows.candidate_request.iter().enumerate().all(|(row, &r)| r as usize == row);
    if !alone || rows.requests() != rows.candidates() {
        return Err(Error::config(
            "[[balance]]: rows that belong to one request cannot be made or left out one by one; only \
             negative_sampling can be applied to them",
        ));
    }
    Ok(rows)
}

fn refuse_several_tasks(rows: &Examples) -> Result<(), Error> {
    if rows.tasks <= 1 {
        return Ok(());
    }
    Err(Error::config(format!(
        "[[balance]]: there are {} tasks, and a step that balances one would skew the others; name one [[task]]",
        rows.tasks
    )))
}

fn store(path: &Path, rows: &Examples) -> Result<PartReport, Error> {
    let mut writer = BlockWriter::create(path)?;
    let mut part = PartReport::default();
    let all: Vec<u32> = (0..rows.requests() as u32).collect();
    for requests in all.chunks(crate::blocks::BLOCK_CANDIDATES) {
        let block = rows.gather(requests);
        add_positives(&mut part, &block);
        writer.push(&EncodedBlock::new(&block))?;
    }
    finish(writer, &mut part)?;
    Ok(part)
}

fn add_positives(part: &mut PartReport, rows: &Examples) {
    part.positives.resize(rows.tasks.max(part.positives.len()), 0);
    part.positives.iter_mut().zip(positives_of(rows)).for_each(|(sum, n)| *sum += n);
}

fn finish(writer: BlockWriter, part: &mut PartReport) -> Result<(), Error> {
    part.requests = writer.requests();
    part.candidates = writer.candidates();
    part.bytes = writer.finish()?;
    Ok(())
}

/// Rows of each class of the first task.
fn classes(rows: &Examples) -> [Vec<u32>; 2] {
    let mut out = [Vec::new(), Vec::new()];
    for row in 0..rows.candidates() {
        out[usize::from(rows.labels[row * rows.tasks] > 0.5)].push(row as u32);
    }
    out
}

/// The rarer class and the other, by row; each has a row.
fn minority_majority(rows: &Examples, step: &BalanceStep) -> Result<(Vec<u32>, Vec<u32>), Error> {
    let [negative, positive] = classes(rows);
    let (minority, majority) =
        if positive.len() <= negative.len() { (positive, negative) } else { (negative, positive) };
    if minority.is_empty() {
        let name = step.method.as_str();
        return Err(Error::config(format!("[[balance]] {name}: all training rows are of one class")));
    }
    Ok((minority, majority))
}

//! SMOTE, SMOTE-NC and borderline-SMOTE: new rows between rows of the rarer class.

use millstream_schema::{Column, Columns, Examples};

use super::points::Points;
use super::{BalanceStep, minority_majority, seeded};
use crate::Error;

const NEIGHBOURS: usize = 5;
const BORDER: usize = 10;

/// How one new row came about: x + share · (z − x) for rows x and z.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// x.
    pub base: u32,
    /// z, one of the nearest of x in its class.
    pub toward: u32,
    /// In [0, 1).
    pub share: f32,
    /// The nearest of x, by whose majority categories are chosen.
    pub nearest: Vec<u32>,
}

/// What to make: as many rows as `ratio` lacks.
///
/// # Errors
/// There is nothing numeric, too few rows of the rarer class, or, for the border, none in danger.
pub fn plan(rows: &Examples, step: &BalanceStep, border: bool) -> Result<(Points, Vec<Made>), Error> {
    let name = step.method.as_str();
    let (minority, majority) = minority_majority(rows, step)?;
    let points = Points::of(rows, &minority, name)?;
    let wanted = (step.ratio() * majority.len() as f64).round() as usize;
    let missing = wanted.saturating_sub(minority.len());
    if missing == 0 {
        return Ok((points, Vec::new()));
    }
    if minority.len() < 2 {
        return Err(Error::config(format!(
            "[[balance]] {name}: there is nothing between one row and itself"
        )));
    }
    let bases = match border {
        true => in_danger(&points, &minority, rows, step.border.unwrap_or(BORDER)),
        false => minority.clone(),
    };
    if bases.is_empty() {
        return Err(Error::config(format!(
            "[[balance]] {name}: no row of the rarer class is near the border; use smote"
        )));
    }
    let nearest = points.nearest(&bases, &minority, step.neighbours.unwrap_or(NEIGHBOURS));
    let made = |i: usize| {
        let at = seeded::one_of(bases.len(), step.seed(), i as u64, 0);
        let near = &nearest[at];
        let toward = near[seeded::one_of(near.len(), step.seed(), i as u64, 1)];
        let share = seeded::unit(step.seed(), i as u64, 2) as f32;
        Made { base: bases[at], toward, share, nearest: near.clone() }
    };
    Ok((points, (0..missing).map(made).collect()))
}

/// Rows of the rarer class with at least half, but not all, of their nearest rows in the other.
fn in_danger(points: &Points, minority: &[u32], rows: &Examples, m: usize) -> Vec<u32> {
    let all: Vec<u32> = (0..points.rows() as u32).collect();
    let label = |row: u32| rows.labels[row as usize * rows.tasks] > 0.5;
    let near = points.nearest(minority, &all, m);
    let danger = minority.iter().zip(&near).filter(|(row, near)| {
        let others = near.iter().filter(|n| label(**n) != label(**row)).count();
        2 * others >= near.len() && others < near.len()
    });
    danger.map(|(row, _)| *row).collect()
}

/// The rows with the new ones behind them. Numbers are interpolated; a category is that of most of the nearest rows, of
/// equals the one met first; everything else is that of x.
///
/// # Errors
/// As [`plan`].
pub fn smote(rows: &Examples, step: &BalanceStep, border: bool) -> Result<Examples, Error> {
    let (_, made) = plan(rows, step, border)?;
    let bases: Vec<u32> = made.iter().map(|m| m.base).collect();
    let mut new = rows.gather(&bases);
    fill(&mut new.context, &rows.context, &made);
    fill(&mut new.exposure, &rows.exposure, &made);
    let mut out = rows.clone();
    out.append(&new)?;
    Ok(out)
}

fn fill(new: &mut Columns, old: &Columns, made: &[Made]) {
    for (new, old) in new.columns.iter_mut().zip(&old.columns) {
        match (new, old) {
            (Column::Dense { width, values }, Column::Dense { values: old, .. }) => {
                for (m, row) in made.iter().zip(values.chunks_exact_mut(*width)) {
                    let toward = &old[m.toward as usize * *width..];
                    row.iter_mut().zip(toward).for_each(|(x, z)| *x += m.share * (z - *x));
                }
            }
            (Column::Key(keys), Column::Key(old)) => {
                for (m, key) in made.iter().zip(keys) {
                    *key = most_frequent(m.nearest.iter().map(|&n| old[n as usize]), *key);
                }
            }
            _ => {}
        }
    }
}

fn most_frequent(keys: impl Iterator<Item = u64>, none: u64) -> u64 {
    let mut counts: Vec<(u64, usize)> = Vec::new();
    for key in keys {
        match counts.iter_mut().find(|c| c.0 == key) {
            Some(count) => count.1 += 1,
            None => counts.push((key, 1)),
        }
    }
    // The first of equals.
    counts.iter().rev().max_by_key(|c| c.1).map_or(none, |c| c.0)
}

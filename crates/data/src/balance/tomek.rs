//! Tomek links: rows of two classes that are each other's nearest.

use millstream_schema::Examples;

use super::downsample::pick;
use super::points::Points;
use super::{BalanceStep, TomekRemoves, minority_majority};
use crate::Error;

/// The links as (row of the rarer class, row of the other), by the first.
///
/// # Errors
/// There is nothing numeric, or one class only.
pub fn links(rows: &Examples, step: &BalanceStep) -> Result<Vec<(u32, u32)>, Error> {
    let (minority, _) = minority_majority(rows, step)?;
    let points = Points::of(rows, &minority, step.method.as_str())?;
    let all: Vec<u32> = (0..rows.candidates() as u32).collect();
    let label = |row: u32| rows.labels[row as usize * rows.tasks] > 0.5;
    let nearest = points.nearest(&minority, &all, 1);
    let one_way: Vec<(u32, u32)> = minority
        .iter()
        .zip(&nearest)
        .filter_map(|(&row, near)| Some((row, *near.first()?)))
        .filter(|(row, near)| label(*row) != label(*near))
        .collect();
    let others: Vec<u32> = one_way.iter().map(|l| l.1).collect();
    let back = points.nearest(&others, &all, 1);
    Ok(one_way.into_iter().zip(back).filter(|(l, back)| back.first() == Some(&l.0)).map(|(l, _)| l).collect())
}

/// The rows without the links' ends.
///
/// # Errors
/// As [`links`].
pub fn without_links(rows: &Examples, step: &BalanceStep) -> Result<Examples, Error> {
    let mut gone = vec![false; rows.candidates()];
    for (minority, majority) in links(rows, step)? {
        gone[majority as usize] = true;
        gone[minority as usize] |= step.remove == Some(TomekRemoves::Both);
    }
    let kept: Vec<u32> = (0..rows.candidates() as u32).filter(|&r| !gone[r as usize]).collect();
    Ok(pick(rows, &kept))
}

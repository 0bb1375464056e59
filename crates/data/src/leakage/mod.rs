//! Columns and rows that tell a model what it must not know: copies of the label, facts from after the event, numbers
//! that the rows' own labels went into, rows that are in two parts.
//!
//! A finding is what cannot be there by honest means and chance, with the figure that shows it. Silence is no proof: a
//! leak may be weak, or spread over many columns.

mod column;
mod own;
mod predict;
mod rows;

#[cfg(test)]
mod tests;

use std::fmt;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::sample::Sample;

pub use predict::{Skill, skill};

/// Kinds of leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leak {
    /// The column is the label in other words: equal, inverted, hashed, or beyond a threshold.
    LabelCopy,
    /// Whether the column has a value gives the label away.
    Missing,
    /// The column is a time after the row's own.
    Future,
    /// The column is computed from labels, the row's own among them.
    OwnLabel,
    /// The column says much about early rows and little about later ones.
    Fades,
    /// The column numbers the rows, and their order gives the label away.
    RowOrder,
    /// Rows stand in training and in a later part.
    Duplicates,
}

impl Leak {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LabelCopy => "label_copy",
            Self::Missing => "missing",
            Self::Future => "future",
            Self::OwnLabel => "own_label",
            Self::Fades => "fades",
            Self::RowOrder => "row_order",
            Self::Duplicates => "duplicates",
        }
    }
}

/// Something that gives the label away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of leak.
    pub kind: Leak,
    /// The column; none where rows are at fault.
    pub column: Option<String>,
    /// The figure that shows it; `reason` says what it is.
    pub figure: f64,
    /// Why this cannot be an honest feature.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

/// What a check looked at and found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Leakage {
    /// What was read.
    pub source: String,
    /// Rows looked at.
    pub rows: u64,
    /// Rows there were.
    pub rows_seen: u64,
    /// What makes a row positive.
    pub positive: String,
    /// Share of positives.
    pub positive_share: f64,
    /// Columns looked at.
    pub columns: u64,
    /// Checks that could not be made, and what they lack.
    pub not_checked: Vec<String>,
    /// By kind, then by column; none is good news.
    pub findings: Vec<Finding>,
}

/// Fewer rows, or fewer of the rarer class, tell nothing.
const FEWEST: usize = 50;

/// Looks for leaks. Every threshold is chosen so that an honest column does not reach it by chance; columns are looked
/// at in parallel, and the result does not depend on the number of threads.
pub fn check(sample: &Sample) -> Leakage {
    let positives = sample.label.iter().filter(|y| **y).count();
    let mut out = Leakage {
        source: sample.source.clone(),
        rows: sample.rows() as u64,
        rows_seen: sample.rows_seen,
        positive: sample.positive.clone(),
        positive_share: sample.rate(),
        columns: sample.columns.len() as u64,
        ..Leakage::default()
    };
    let rarer = positives.min(sample.rows() - positives);
    if rarer < FEWEST {
        out.not_checked
            .push(format!("anything: {rarer} rows of the rarer class are too few, {FEWEST} are the least"));
        return out;
    }
    if sample.time_ms.is_empty() {
        out.not_checked.push("times after the event: no column of times was named".into());
    }
    if sample.time_ms.is_empty() && sample.late.is_empty() {
        out.not_checked.push("what fades in later rows: neither times nor parts are known".into());
    }
    if sample.late.is_empty() {
        out.not_checked.push("rows in two parts: there is one part only".into());
    }
    let early = rows::early(sample);
    let of_columns =
        (0..sample.columns.len()).into_par_iter().filter_map(|c| column::check(sample, c, &early));
    out.findings = of_columns.collect();
    let known: Vec<&str> = out.findings.iter().filter_map(|f| f.column.as_deref()).collect();
    let own = own::check(sample, &known);
    out.findings.extend(own);
    out.findings.extend(rows::duplicates(sample));
    out.findings.sort_by(|a, b| (a.kind, &a.column).cmp(&(b.kind, &b.column)));
    out
}

impl fmt::Display for Leakage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = if self.rows < self.rows_seen { format!(" of {}", self.rows_seen) } else { String::new() };
        writeln!(
            f,
            "{}: {}{of} rows, {} columns; positive: {} ({:.2} %)",
            self.source,
            self.rows,
            self.columns,
            self.positive,
            100.0 * self.positive_share
        )?;
        for finding in &self.findings {
            let column = finding.column.as_ref().map_or_else(String::new, |c| format!(" `{c}`"));
            writeln!(
                f,
                "\nLEAK ({}){column}: {}\n  do: {}",
                finding.kind.as_str(),
                finding.reason,
                finding.advice
            )?;
        }
        if self.findings.is_empty() {
            writeln!(f, "\nno leak found")?;
        }
        self.not_checked.iter().try_for_each(|what| writeln!(f, "not checked: {what}"))
    }
}

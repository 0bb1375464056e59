//! Columns and rows that tell a model what it must not know: copies of the label, facts from after the event, numbers
//! that the rows' own labels went into, rows that are in two parts.
//!
//! A finding is what cannot be there by honest means and chance, with the figure that shows it. Silence is no proof: a
//! leak may be weak, or spread over many columns.

mod column;
mod few;
mod moments;
mod own;
mod predict;
mod rows;
mod sequence;
mod totals;
mod windows;
mod within;

#[cfg(test)]
mod own_tests;
#[cfg(test)]
mod tests;

use std::fmt;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use self::own::Number;
use crate::sample::{Sample, SampleColumn};

pub use predict::{Skill, skill};

/// Kinds of leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leak {
    /// The column is the label in other words: equal, inverted, hashed, or beyond a threshold.
    LabelCopy,
    /// Whether the column has a value gives the label away.
    Missing,
    /// The column is a time after the row's own, or counts labels from the row's time on.
    Future,
    /// The column is computed from labels, the row's own among them.
    OwnLabel,
    /// The column says much about early rows and little about later ones.
    Fades,
    /// The column numbers the rows, and their order gives the label away.
    RowOrder,
    /// Rows stand in training and in a later part.
    Duplicates,
    /// The column alone tells more of the label than honest numbers mostly do. Suspicious, no proof.
    Strong,
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
            Self::Strong => "strong",
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
    /// What was guessed: which columns hold the label and the times.
    #[serde(default)]
    pub guessed: Vec<String>,
    /// Checks that could not be made, and what they lack.
    pub not_checked: Vec<String>,
    /// By kind, then by column; none is good news.
    pub findings: Vec<Finding>,
    /// By column: what should be looked at, and may be honest.
    #[serde(default)]
    pub suspicious: Vec<Finding>,
}

/// Fewer rows, or fewer of the rarer class, tell nothing but exact copies.
const FEWEST: usize = 50;
/// AUC of a number alone that is worth a look.
const SUSPICIOUS: f64 = 0.9;
/// Whole numbers with more values than this are taken for names.
const NAMES: u32 = 200;

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
    out.guessed.clone_from(&sample.guessed);
    let rarer = positives.min(sample.rows() - positives);
    if rarer < FEWEST {
        out.not_checked.push(format!(
            "anything but exact copies of the label: {rarer} rows of the rarer class are too few, {FEWEST} are the least"
        ));
        out.findings = few::check(sample);
        out.findings.sort_by(|a, b| (a.kind, &a.column).cmp(&(b.kind, &b.column)));
        return out;
    }
    out.not_checked = lacking(sample);
    let early = rows::early(sample);
    let of_columns =
        (0..sample.columns.len()).into_par_iter().filter_map(|c| column::check(sample, c, &early));
    out.findings = of_columns.collect();
    let known: Vec<String> = out.findings.iter().filter_map(|f| f.column.clone()).collect();
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let numbers = sample
        .columns
        .par_iter()
        .filter(|c| !c.numbers.is_empty() && !c.times && c.distinct > 1 && !known.contains(&c.name.as_str()));
    let numbers: Vec<Number<'_>> =
        numbers.map(|column| Number { column, alone: column::alone(sample, column) }).collect();
    let (own, apart) = own::check(sample, &numbers, &known);
    out.findings.extend(own);
    out.not_checked.extend(apart);
    out.suspicious = suspicious(&numbers, &out.findings);
    out.findings.extend(rows::duplicates(sample));
    out.findings.sort_by(|a, b| (a.kind, &a.column).cmp(&(b.kind, &b.column)));
    out
}

/// What cannot be checked for want of times or parts.
fn lacking(sample: &Sample) -> Vec<String> {
    let mut out = sample.lacks.clone();
    if sample.time_ms.is_empty() && out.is_empty() {
        let times = sample.columns.iter().filter(|c| c.times);
        let times: Vec<String> = times.map(|c| format!("`{}`", c.name)).collect();
        out.push(match times.as_slice() {
            [] => "times after the event: no column of times was named; the file's order is taken for that of time".into(),
            some => format!(
                "times after the event: which column is the rows' time? Name it with --time; there are {}",
                some.join(", ")
            ),
        });
    }
    if sample.time_ms.is_empty() && sample.late.is_empty() {
        out.push("what fades in later rows: neither times nor parts are known".into());
    }
    // Thinned, not merely without rows that have no label.
    if sample.rows_seen > sample.rows() as u64 * 3 / 2 {
        out.push("counts of labels that are left out with their rows: --rows holds more rows".into());
    }
    if sample.late.is_empty() {
        out.push("rows in two parts: there is one part only".into());
    }
    out
}

/// Numbers without a finding that alone tell the label well.
fn suspicious(numbers: &[Number<'_>], findings: &[Finding]) -> Vec<Finding> {
    let found = |name: &str| findings.iter().any(|f| f.column.as_deref() == Some(name));
    let name =
        |c: &SampleColumn| c.distinct > NAMES && c.numbers.iter().all(|x| x.is_nan() || x.fract() == 0.0);
    let strong =
        numbers.iter().filter(|n| n.alone >= SUSPICIOUS && !found(&n.column.name) && !name(n.column));
    let mut out: Vec<Finding> = strong
        .map(|n| Finding {
            kind: Leak::Strong,
            column: Some(n.column.name.clone()),
            figure: n.alone,
            reason: format!("alone it tells the label with AUC {:.3}, as few honest numbers do (popularity among uniform negatives)", n.alone),
            advice: "find out when and from what it is computed, and whether it is known at the time of the request"
                .into(),
        })
        .collect();
    out.sort_by(|a, b| a.column.cmp(&b.column));
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
        self.guessed.iter().try_for_each(|what| writeln!(f, "guessed: {what}"))?;
        for finding in self.findings.iter().chain(&self.suspicious) {
            let word = if finding.kind == Leak::Strong { "SUSPICIOUS" } else { "LEAK" };
            let column = finding.column.as_ref().map_or_else(String::new, |c| format!(" `{c}`"));
            writeln!(
                f,
                "\n{word} ({}){column}: {}\n  do: {}",
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

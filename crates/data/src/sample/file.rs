//! A sample of a log file.

use std::path::Path;

use millstream_schema::suggest;

use super::{Builder, Sample, SampleColumn};
use crate::Error;
use crate::logs::{self, LogFormat};

/// Rows read between two reports of progress.
const CHUNK: usize = 8192;
/// Names that a label goes by.
const LABELS: [&str; 9] =
    ["label", "click", "clicked", "is_click", "is_clicked", "target", "y", "conversion", "rating"];

/// Which column says what happened, and when.
#[derive(Debug, Clone, Default)]
pub struct Labelled {
    /// The label's column; a column with a usual name (`label`, `click`, `target`, …), or the only one of 0 and 1, when
    /// absent.
    pub label: Option<String>,
    /// A number above this is positive. When absent: the greater of two numbers, the rarer of two words, a number
    /// above the median.
    pub above: Option<f64>,
    /// The column of the rows' times, if there is one.
    pub time: Option<String>,
    /// Rows to keep, at least 1; twice as many are held at most.
    pub most: usize,
}

/// Reads a sample of a file. `progress` hears the rows read so far.
///
/// # Errors
/// What [`logs::open`] and reading say; an unknown column; a label that is not one.
pub fn read(
    path: &Path,
    format: &LogFormat,
    labelled: &Labelled,
    progress: &mut dyn FnMut(u64),
) -> Result<Sample, Error> {
    let mut reader = logs::open(path, format)?;
    let names: Vec<String> = reader.columns().to_vec();
    let label = labelled.label.as_deref().map(|l| place_of(path, &names, l, "--label")).transpose()?;
    let time = labelled.time.as_deref().map(|t| place_of(path, &names, t, "--time")).transpose()?;
    let mut builders: Vec<Builder> = names.iter().map(|name| Builder::new(name)).collect();
    let (mut frame, mut seen, mut kept, mut stride) = (reader.frame(), 0u64, 0usize, 1u64);
    while reader.read(&mut frame, CHUNK)? > 0 {
        for row in 0..frame.rows() {
            seen += 1;
            if !(seen - 1).is_multiple_of(stride) {
                continue;
            }
            builders.iter_mut().enumerate().for_each(|(c, b)| b.push_cell(frame.get(row, c)));
            kept += 1;
            if kept == 2 * labelled.most.max(1) {
                builders.iter_mut().for_each(Builder::thin);
                (kept, stride) = (kept.div_ceil(2), stride * 2);
            }
        }
        frame.clear();
        progress(seen);
    }
    let columns: Vec<SampleColumn> = builders.into_iter().map(Builder::finish).collect();
    let (label, guessed) = match label {
        Some(label) => (label, None),
        None => guessed_label(path, &columns)?,
    };
    let mut sample = assemble(path, (columns, seen), (label, time), labelled.above)?;
    sample.guessed.extend(guessed);
    Ok(sample)
}

fn place_of(path: &Path, names: &[String], name: &str, option: &str) -> Result<usize, Error> {
    names.iter().position(|n| n == name).ok_or_else(|| {
        let what = suggest::unknown("column", name, names.iter().map(String::as_str));
        Error::config(format!("{}: {option}: {what}", path.display()))
    })
}

/// The label by its name, else the only column of 0 and 1; and which it is, for people.
fn guessed_label(path: &Path, columns: &[SampleColumn]) -> Result<(usize, Option<String>), Error> {
    let usual = LABELS.iter().find_map(|l| columns.iter().position(|c| c.name.eq_ignore_ascii_case(l)));
    if let Some(usual) = usual {
        return Ok((usual, None));
    }
    let flags: Vec<usize> = (0..columns.len()).filter(|&c| is_flag(&columns[c])).collect();
    if let [only] = flags[..] {
        let name = &columns[only].name;
        return Ok((
            only,
            Some(format!("the label is `{name}`, the only column of 0 and 1; --label names another")),
        ));
    }
    let some: Vec<usize> = if flags.is_empty() { (0..columns.len()).collect() } else { flags.clone() };
    let all: Vec<&str> = some.iter().map(|&c| columns[c].name.as_str()).take(40).collect();
    let what = if flags.is_empty() { "there are" } else { "of 0 and 1 there are" };
    Err(Error::config(format!(
        "{}: which column is the label? Name it with --label; {what} {}",
        path.display(),
        all.join(", ")
    )))
}

/// Whether a column holds 0 and 1, both, in every row.
fn is_flag(column: &SampleColumn) -> bool {
    column.distinct == 2
        && !column.numbers.is_empty()
        && column.numbers.iter().all(|x| *x == 0.0 || *x == 1.0)
}

/// Takes label and time out of the columns; rows without a label are left out.
fn assemble(
    path: &Path,
    (mut columns, rows_seen): (Vec<SampleColumn>, u64),
    (label, time): (usize, Option<usize>),
    above: Option<f64>,
) -> Result<Sample, Error> {
    let (positives, positive) = positives(path, &columns[label], above)?;
    let time_ms: Vec<i64> = match time.map(|t| &columns[t]) {
        Some(column) if !column.times => {
            return Err(Error::config(format!(
                "{}: --time: column `{}` holds no times; expected epoch seconds, milliseconds or dates between \
                 1995 and 2040",
                path.display(),
                column.name
            )));
        }
        Some(column) => column.numbers.iter().map(|x| *x as i64).collect(),
        None => Vec::new(),
    };
    let keep: Vec<bool> = columns[label].codes.iter().map(|&c| c > 0).collect();
    let mut gone: Vec<usize> = [Some(label), time].into_iter().flatten().collect();
    gone.sort_unstable_by(|a, b| b.cmp(a));
    gone.dedup();
    gone.into_iter().for_each(|c| drop(columns.remove(c)));
    let mut sample = Sample {
        source: path.display().to_string(),
        rows_seen,
        columns,
        label: positives,
        positive,
        time_ms,
        ..Sample::default()
    };
    if keep.contains(&false) {
        pick(&mut sample, &keep);
    }
    Ok(sample)
}

fn pick(sample: &mut Sample, keep: &[bool]) {
    fn of<T: Copy>(values: &mut Vec<T>, keep: &[bool]) {
        let mut keep = keep.iter();
        values.retain(|_| keep.next().copied().unwrap_or(false));
    }
    of(&mut sample.label, keep);
    of(&mut sample.time_ms, keep);
    for column in &mut sample.columns {
        of(&mut column.codes, keep);
        of(&mut column.numbers, keep);
    }
}

/// Which rows are positive, and what makes them so.
fn positives(path: &Path, column: &SampleColumn, above: Option<f64>) -> Result<(Vec<bool>, String), Error> {
    let name = &column.name;
    let fault = |what: String| Err(Error::config(format!("{}: label `{name}` {what}", path.display())));
    if column.distinct < 2 {
        return fault("has one value only: there is nothing to tell apart".into());
    }
    if column.numbers.is_empty() {
        if column.distinct > 2 {
            return fault(format!(
                "has {} different words; a label has two values or numbers",
                column.distinct
            ));
        }
        if above.is_some() {
            return fault("holds words, which --above cannot divide".into());
        }
        let second = column.codes.iter().filter(|&&c| c == 2).count();
        let rarer = if 2 * second <= column.codes.len() { 2 } else { 1 };
        let positive = column.codes.iter().map(|&c| c == rarer).collect();
        return Ok((positive, format!("the rarer of two values of `{name}`")));
    }
    let limit = above.unwrap_or_else(|| middle(column));
    let positive: Vec<bool> = column.numbers.iter().map(|x| *x > limit).collect();
    let some = positive.iter().filter(|p| **p).count();
    if some == 0 || some == positive.len() {
        return fault(format!("is on one side of {limit} in every row; choose another --above"));
    }
    Ok((positive, format!("`{name}` above {limit}")))
}

/// A limit that divides the numbers: the lesser of two, else the median or, where that is the greatest, what is below.
fn middle(column: &SampleColumn) -> f64 {
    let mut sorted: Vec<f64> = column.numbers.iter().copied().filter(|x| !x.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
    let median = sorted[(sorted.len() - 1) / 2];
    if column.distinct == 2 {
        return low;
    }
    if median < high { median } else { sorted[sorted.partition_point(|x| *x < high) - 1] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(name: &str, text: &str, labelled: &Labelled) -> Result<Sample, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(format!("{name}.csv"));
        std::fs::write(&path, text).unwrap();
        read(&path, &LogFormat::default(), labelled, &mut |_| {})
    }

    fn wanted(label: &str) -> Labelled {
        Labelled { label: Some(label.into()), most: 1000, ..Labelled::default() }
    }

    #[test]
    fn labels_are_numbers_words_or_grades() {
        let text =
            "a,n,w,g,t\n1,0,no,1,1700000000\n2,1,yes,5,1700000001\n3,,no,3,1700000002\n4,0,no,4,1700000003\n";
        let of = |label: &str| sample("labels", text, &wanted(label)).unwrap();
        assert_eq!(of("n").label, [false, true, false]);
        assert_eq!(of("n").columns.len(), 4);
        assert_eq!(of("n").column("a").unwrap().numbers, [1.0, 2.0, 4.0]);
        assert_eq!(of("w").label, [false, true, false, false]);
        assert_eq!(of("g").label, [false, true, false, true]);
        let timed = Labelled { time: Some("t".into()), above: Some(4.0), ..wanted("g") };
        let timed = sample("timed", text, &timed).unwrap();
        assert_eq!((timed.label, timed.time_ms[1]), (vec![false, true, false, false], 1_700_000_001_000));
    }

    #[test]
    fn a_label_that_is_none_is_refused_with_the_reason() {
        let text = "a,same,words\nx,1,u\ny,1,v\nz,1,w\n";
        let said = |labelled: &Labelled| sample("odd", text, labelled).unwrap_err().to_string();
        assert!(said(&wanted("same")).contains("one value only"));
        assert!(said(&wanted("words")).contains("3 different words"));
        assert!(said(&wanted("wordz")).contains("did you mean `words`?"));
        assert!(said(&Labelled::default()).contains("Name it with --label"));
        assert!(said(&Labelled { time: Some("a".into()), ..wanted("a") }).contains("3 different words"));
    }

    #[test]
    fn many_rows_are_thinned_evenly() {
        let rows: String = (0..1000).map(|i| format!("{i},{}\n", i % 3 % 2)).collect();
        let found =
            sample("many", &format!("i,label\n{rows}"), &Labelled { most: 100, ..Labelled::default() });
        let found = found.unwrap();
        assert_eq!(found.rows_seen, 1000);
        assert!((100..200).contains(&found.rows()), "{}", found.rows());
        let numbers = &found.columns[0].numbers;
        assert!(numbers.windows(2).all(|w| w[1] - w[0] == numbers[1] - numbers[0]));
    }
}

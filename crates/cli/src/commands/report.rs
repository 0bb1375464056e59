//! `millstream report`.

use clap::Args;
use millstream_data::leakage::{self, Leakage};
use millstream_data::{Prepared, Split, sample, write_text};
use millstream_train::record::RunRecord;
use millstream_train::report::{NamedRun, Report, Table};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::progress::Bar;
use crate::{Failure, Global, Verdict, output};

/// Put runs side by side: options that differ, metrics by part, and whether the figures can be trusted.
#[derive(Args)]
#[command(after_help = "\
Examples:
  millstream report run-a run-b                       two folders made by `train --out`
  millstream report out-a out-b --html report.html    or by `recipe run --out`; with ROC, calibration and loss curves
  millstream report run-a --json

Validation figures are those of the best epoch; test figures are there once `eval --split test` or `recipe run` has
measured them. The leakage check looks at the prepared data of each run, where it is still in its place.

Exit status: 0; 2 when a folder holds no finished run.")]
pub struct Options {
    /// Folders of runs.
    #[arg(required = true, value_name = "RUN_DIR")]
    runs: Vec<PathBuf>,
    /// Also write one self-contained page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Leave the leakage check out.
    #[arg(long)]
    no_leakage: bool,
}

/// Rows of each part that the leakage check looks at.
const ROWS: usize = 100_000;

/// Runs the command.
pub fn run(options: Options, global: &Global) -> Result<Verdict, Failure> {
    let mut checked: BTreeMap<PathBuf, Result<Leakage, String>> = BTreeMap::new();
    let mut report = Report::default();
    for (dir, name) in options.runs.iter().zip(names(&options.runs)) {
        let record = RunRecord::open(dir)?;
        let place = record.prepared.clone();
        let leakage = match options.no_leakage {
            true => Err("not asked for".to_owned()),
            false => checked.entry(place.clone()).or_insert_with(|| check(&place, global)).clone(),
        };
        report.runs.push(NamedRun { name, record, leakage });
    }
    if let Some(path) = &options.html {
        write_text(path, &report.html())?;
    }
    if global.json {
        output::json(&report.summary());
        return Ok(Verdict::Done);
    }
    print(report.runs_table());
    if report.runs.len() > 1 {
        print(report.options_table());
    }
    print(report.figures_table());
    print(report.trust_table());
    report.leak_notes().iter().for_each(output::line);
    if let Some(path) = &options.html {
        output::line(format!("written: {}", path.display()));
    }
    Ok(Verdict::Done)
}

/// The last parts of the paths, as many as it takes to tell them apart.
fn names(dirs: &[PathBuf]) -> Vec<String> {
    let tail = |dir: &Path, parts: usize| {
        let all: Vec<String> =
            dir.components().map(|c| c.as_os_str().to_string_lossy().into_owned()).collect();
        all[all.len().saturating_sub(parts)..].join("/")
    };
    let longest = dirs.iter().map(|d| d.components().count()).max().unwrap_or(1);
    for parts in 1..=longest {
        let names: Vec<String> = dirs.iter().map(|d| tail(d, parts)).collect();
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        if different.len() == names.len() || parts == longest {
            return names;
        }
    }
    Vec::new()
}

fn check(prepared: &Path, global: &Global) -> Result<Leakage, String> {
    if prepared.is_file() {
        return Err(
            "a stream from text has no prepared data; use `data inspect --leakage` on the file".into()
        );
    }
    let bar = Bar::new("leakage", 0, "rows", global.quiet);
    let prepared = Prepared::open(prepared).map_err(|e| format!("its prepared data does not open ({e})"))?;
    if prepared.graded().contains(&true) {
        return Err("labels are grades".into());
    }
    let sample = sample::of_prepared(&prepared, 0, &Split::ALL, ROWS).map_err(|e| e.to_string())?;
    let found = leakage::check(&sample);
    bar.done(format!("{} rows, {} found", found.rows, found.findings.len()));
    Ok(found)
}

fn print((header, rows): Table) {
    if rows.is_empty() {
        return;
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    output::line(output::table(&header, &rows));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_named_by_as_much_of_their_path_as_it_takes() {
        let paths = |all: &[&str]| all.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(names(&paths(&["x/a", "y/b"])), ["a", "b"]);
        assert_eq!(names(&paths(&["x/a", "y/a"])), ["x/a", "y/a"]);
        assert_eq!(names(&paths(&["a", "a"])), ["a", "a"]);
    }
}

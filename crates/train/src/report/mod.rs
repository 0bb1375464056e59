//! Runs side by side: which options differ, what each reached on which rows, and whether the data leaks.

mod html;

use std::collections::{BTreeMap, BTreeSet};

use millstream_data::leakage::Leakage;
use serde::Serialize;
use serde_json::Value;

use crate::record::{RunRecord, SampleSpace};
use crate::run::{Evaluation, Metrics};

pub use html::of_parts;

/// A table: its header, whose first cell names the rows, and the rows.
pub type Table = (Vec<String>, Vec<Vec<String>>);

/// A run under its name.
#[derive(Debug, Clone)]
pub struct NamedRun {
    /// What the folder is called.
    pub name: String,
    /// What it holds.
    pub record: RunRecord,
    /// The leakage check of its data, or why there is none.
    pub leakage: Result<Leakage, String>,
}

/// Several runs.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// In the order asked for.
    pub runs: Vec<NamedRun>,
}

/// One line of figures.
#[derive(Debug, Clone, PartialEq)]
pub struct FigureRow {
    /// `valid` or `test`.
    pub part: String,
    /// The metric's key.
    pub key: String,
    /// By run.
    pub values: Vec<Option<f64>>,
    /// The best run, where one can be told.
    pub best: Option<usize>,
}

/// The report for programs.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    runs: Vec<RunSummary<'a>>,
    /// Option to its value in each run; `null` where it is absent.
    differs: BTreeMap<String, Vec<Value>>,
}

#[derive(Debug, Serialize)]
struct RunSummary<'a> {
    run: &'a str,
    model: &'a Value,
    training: &'a Value,
    best_epoch: Option<u32>,
    epochs: usize,
    rows: u64,
    train_seconds: f64,
    evaluate_seconds: f64,
    rows_per_second: f64,
    best: Option<&'a Evaluation>,
    parts: BTreeMap<&'a str, PartSummary<'a>>,
    leakage: Option<&'a Leakage>,
    leakage_not_checked: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct PartSummary<'a> {
    metrics: &'a Metrics,
    sample: &'a SampleSpace,
}

/// Whether more of a metric is better; `None` where neither end is.
fn larger_is_better(key: &str) -> Option<bool> {
    let bare = key.rsplit('.').next().unwrap_or(key);
    let bare = bare.split('@').next().unwrap_or(bare);
    match bare {
        "logloss" | "ne" | "ece" => Some(false),
        "weight" | "calibration" | "coverage" | "gini" | "novelty" | "tail_share" => None,
        _ => Some(true),
    }
}

impl Report {
    /// Everything but the curves.
    pub fn summary(&self) -> Summary<'_> {
        let runs = self.runs.iter().map(|run| {
            let r = &run.record;
            let parts = r
                .parts
                .iter()
                .map(|(k, p)| (k.as_str(), PartSummary { metrics: &p.metrics, sample: &p.sample }));
            RunSummary {
                run: &run.name,
                model: &r.model,
                training: &r.training,
                best_epoch: r.best.as_ref().map(|b| b.epoch + 1),
                epochs: r.evaluations.len(),
                rows: r.rows,
                train_seconds: r.train_seconds,
                evaluate_seconds: r.evaluate_seconds,
                rows_per_second: r.rows_per_second(),
                best: r.best.as_ref(),
                parts: parts.collect(),
                leakage: run.leakage.as_ref().ok(),
                leakage_not_checked: run.leakage.as_ref().err().map(String::as_str),
            }
        });
        Summary { runs: runs.collect(), differs: self.differing().into_iter().collect() }
    }

    /// Options that are not the same in all runs, with the value of each run (`null` where absent).
    pub fn differing(&self) -> Vec<(String, Vec<Value>)> {
        let flat: Vec<BTreeMap<String, Value>> = self
            .runs
            .iter()
            .map(|run| {
                let mut out = BTreeMap::new();
                flatten("model", &run.record.model, &mut out);
                flatten("training", &run.record.training, &mut out);
                out.insert("prepared".into(), Value::from(run.record.prepared.display().to_string()));
                out
            })
            .collect();
        let keys: BTreeSet<&String> = flat.iter().flat_map(|f| f.keys()).collect();
        let values = |key: &String| flat.iter().map(|f| f.get(key).cloned().unwrap_or_default()).collect();
        let rows = keys.into_iter().map(|key| (key.clone(), values(key)));
        rows.filter(|(_, values): &(_, Vec<Value>)| values.iter().any(|v| *v != values[0])).collect()
    }

    /// Every metric of every part: the best validation of the run, then what was measured later.
    pub fn figures(&self) -> Vec<FigureRow> {
        let metrics_of = |run: &NamedRun, part: &str| -> Option<Metrics> {
            let later = run.record.parts.get(part).map(|p| p.metrics.clone());
            let best = run.record.best.as_ref().filter(|_| part == "valid").map(|b| b.metrics.clone());
            later.or(best)
        };
        let mut rows = Vec::new();
        let mut parts: BTreeSet<String> =
            self.runs.iter().flat_map(|r| r.record.parts.keys().cloned()).collect();
        parts.insert("valid".into());
        // Validation first, then the others by name.
        let ordered = std::iter::once("valid".to_owned()).chain(parts.into_iter().filter(|p| p != "valid"));
        for part in ordered {
            let of_runs: Vec<Metrics> =
                self.runs.iter().map(|run| metrics_of(run, &part).unwrap_or_default()).collect();
            let keys: BTreeSet<&String> = of_runs.iter().flat_map(|m| m.keys()).collect();
            for key in keys {
                let values: Vec<Option<f64>> = of_runs.iter().map(|m| m.get(key).copied()).collect();
                let best = best_of(key, &values);
                rows.push(FigureRow { part: part.clone(), key: key.clone(), values, best });
            }
        }
        rows
    }

    /// One row per run: model, best epoch, time, speed.
    pub fn runs_table(&self) -> Table {
        let header = ["run", "model", "best epoch", "epochs", "rows", "seconds", "rows/s"].map(String::from);
        let row = |run: &NamedRun| {
            let r = &run.record;
            vec![
                run.name.clone(),
                r.model_name().to_owned(),
                r.best.as_ref().map_or_else(|| "–".into(), |b| (b.epoch + 1).to_string()),
                r.evaluations.len().to_string(),
                r.rows.to_string(),
                format!("{:.1}", r.train_seconds + r.evaluate_seconds),
                format!("{:.0}", r.rows_per_second()),
            ]
        };
        (header.to_vec(), self.runs.iter().map(row).collect())
    }

    /// One row per option that differs.
    pub fn options_table(&self) -> Table {
        let text = |v: &Value| match v {
            Value::Null => "–".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let rows = self.differing().into_iter();
        (
            self.header(&["option"]),
            rows.map(|(key, values)| std::iter::once(key).chain(values.iter().map(text)).collect()).collect(),
        )
    }

    /// One row per metric and part.
    pub fn figures_table(&self) -> Table {
        let figure = |v: &Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"));
        let row = |row: FigureRow| {
            let name = format!("{} {}", row.part, row.key);
            std::iter::once(name).chain(row.values.iter().map(figure)).collect()
        };
        (self.header(&["metric"]), self.figures().into_iter().map(row).collect())
    }

    /// Offline up, online flat? What to look at before believing a figure: AUC beside GAUC, on which rows, and the
    /// leakage check of the data.
    pub fn trust_table(&self) -> Table {
        let mut rows: Vec<Vec<String>> = Vec::new();
        let parts: BTreeSet<&String> = self.runs.iter().flat_map(|r| r.record.parts.keys()).collect();
        for part in parts {
            let mut add = |name: &str, of: &dyn Fn(&crate::record::PartRecord) -> String| {
                let cell = |run: &NamedRun| run.record.parts.get(part).map_or_else(|| "–".into(), of);
                let cells = std::iter::once(format!("{part} {name}")).chain(self.runs.iter().map(cell));
                rows.push(cells.collect());
            };
            let metric = |key: &'static str| {
                move |p: &crate::record::PartRecord| {
                    p.metrics.get(key).map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"))
                }
            };
            add("auc", &metric("auc"));
            add("gauc", &metric("gauc"));
            add("measured on", &|p| p.sample.what.clone());
            add("rows", &|p| p.sample.rows.to_string());
            let share = |x: f64| format!("{:.2} %", 100.0 * x);
            let count = |n: Option<u64>| n.map_or_else(|| "–".to_owned(), |n| n.to_string());
            add("positive", &|p| p.sample.positive_share.map_or_else(|| "–".to_owned(), share));
            add("users", &|p| count(p.sample.users));
            add("one-class users", &|p| count(p.sample.one_class_users));
            add("scores not a number", &|p| count(p.sample.nan_scores));
        }
        let leaks = self.runs.iter().map(|run| leak_line(&run.leakage));
        rows.push(std::iter::once("leakage".to_owned()).chain(leaks).collect());
        (self.header(&["what to trust"]), rows)
    }

    /// Every finding of every run's data, once per data.
    pub fn leak_notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = Vec::new();
        for leakage in self.runs.iter().filter_map(|run| run.leakage.as_ref().ok()) {
            for f in &leakage.findings {
                let column = f.column.as_ref().map_or_else(String::new, |c| format!(" `{c}`"));
                let note = format!(
                    "{}: LEAK ({}){column}: {}; {}",
                    leakage.source,
                    f.kind.as_str(),
                    f.reason,
                    f.advice
                );
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        notes
    }

    fn header(&self, first: &[&str]) -> Vec<String> {
        let names = self.runs.iter().map(|r| r.name.clone());
        first.iter().map(|f| (*f).to_owned()).chain(names).collect()
    }
}

fn leak_line(leakage: &Result<Leakage, String>) -> String {
    match leakage {
        Err(why) => format!("not checked: {why}"),
        Ok(found) if found.findings.is_empty() => format!("none found in {} rows", found.rows),
        Ok(found) => {
            let kinds: Vec<String> = found
                .findings
                .iter()
                .map(|f| format!("{} ({})", f.column.as_deref().unwrap_or("rows"), f.kind.as_str()))
                .collect();
            format!("FOUND: {}", kinds.join(", "))
        }
    }
}

fn best_of(key: &str, values: &[Option<f64>]) -> Option<usize> {
    let larger = larger_is_better(key)?;
    let sign = if larger { 1.0 } else { -1.0 };
    let known = values.iter().enumerate().filter_map(|(i, v)| Some((i, sign * (*v)?)));
    let found: Vec<(usize, f64)> = known.collect();
    if found.len() < 2 {
        return None;
    }
    let best = found.iter().map(|f| f.1).fold(f64::NEG_INFINITY, f64::max);
    let mut holders = found.iter().filter(|f| f.1 == best);
    let first = holders.next()?;
    holders.next().is_none().then_some(first.0)
}

fn flatten(key: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => table.iter().for_each(|(k, v)| flatten(&format!("{key}.{k}"), v, out)),
        other => {
            out.insert(key.to_owned(), other.clone());
        }
    }
}

#[cfg(test)]
mod tests;

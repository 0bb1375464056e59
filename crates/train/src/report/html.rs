//! The report as one page.

use crate::chart::{Axis, Chart, Series};
use crate::metrics::Curves;
use crate::page::{Page, TableCell};
use crate::record::{PartRecord, RunRecord};

use super::{NamedRun, Report, Table};

/// Key to points of one run.
type Points = Vec<(f64, f64)>;

impl Report {
    /// One self-contained HTML page: tables, and the curves of all runs laid over each other.
    pub fn html(&self) -> String {
        let mut page = Page::new("Runs side by side");
        put_table(&mut page, self.runs_table());
        page.heading("Options that differ");
        match self.differing().is_empty() {
            true => page.note("None: the runs differ in nothing that is written down."),
            false => put_table(&mut page, self.options_table()),
        }
        page.heading("What to trust");
        page.note(
            "Offline up, online flat? AUC compares rows of different users, GAUC within a user, which is what a feed \
             does. Figures compare only on the same rows; a leak makes all of them worthless.",
        );
        put_table(&mut page, self.trust_table());
        self.leak_notes().iter().for_each(|note| page.note(note));
        page.heading("Figures");
        page.table(&self.header(&["metric"]), &self.figure_cells());
        page.heading("Curves");
        page.charts(&self.charts());
        page.html()
    }

    fn figure_cells(&self) -> Vec<Vec<TableCell>> {
        let figure = |v: &Option<f64>| v.map_or_else(|| "–".to_owned(), |v| format!("{v:.4}"));
        let row = |row: super::FigureRow| {
            let cells = row.values.iter().enumerate();
            let cell = |(i, v)| TableCell { best: row.best == Some(i), ..TableCell::figure(figure(v)) };
            let name = TableCell::words(format!("{} {}", row.part, row.key));
            std::iter::once(name).chain(cells.map(cell)).collect()
        };
        self.figures().into_iter().map(row).collect()
    }

    /// ROC, precision-recall, reliability and deciles of each part and task, then loss and metric by step.
    pub fn charts(&self) -> Vec<Chart> {
        let mut charts = Vec::new();
        let runs: Vec<(&str, &RunRecord)> = self.runs.iter().map(|r| (r.name.as_str(), &r.record)).collect();
        let parts: std::collections::BTreeSet<&String> = runs.iter().flat_map(|r| r.1.parts.keys()).collect();
        for part in parts {
            let of_part: Vec<(&str, &PartRecord)> =
                runs.iter().filter_map(|(name, r)| Some((*name, r.parts.get(part)?))).collect();
            charts.extend(of_parts(&of_part, part));
        }
        charts.extend(by_step(&self.runs));
        charts
    }
}

fn put_table(page: &mut Page, (header, rows): Table) {
    let cells = |row: Vec<String>| -> Vec<TableCell> { row.into_iter().map(cell).collect() };
    let rows: Vec<Vec<TableCell>> = rows.into_iter().map(cells).collect();
    page.table(&header, &rows);
}

/// Words stand left, figures right.
fn cell(text: String) -> TableCell {
    let figure = text.trim_end_matches([' ', '%']).parse::<f64>().is_ok() || text == "–";
    if figure { TableCell::figure(text) } else { TableCell::words(text) }
}

/// The charts of the same part of several runs (or of one).
pub fn of_parts(runs: &[(&str, &PartRecord)], part: &str) -> Vec<Chart> {
    let tasks: std::collections::BTreeSet<&String> = runs.iter().flat_map(|r| r.1.curves.keys()).collect();
    let several = tasks.len() > 1;
    tasks
        .into_iter()
        .flat_map(|task| {
            let place = if several { format!("{part}, {task}") } else { part.to_owned() };
            let curves = |of: &dyn Fn(&Curves) -> Points| -> Vec<(String, Points)> {
                let some = runs.iter().filter_map(|(name, r)| Some((*name, r, r.curves.get(task)?)));
                some.map(|(name, r, c)| (legend(name, r, task, several), of(c))).collect()
            };
            let deciles = runs.iter().filter_map(|(name, r)| {
                let points = r.deciles.get(task)?.iter().map(|d| (d.predicted, d.observed)).collect();
                Some((legend(name, r, task, several), points))
            });
            [
                roc(&place, curves(&|c| c.roc.clone())),
                precision_recall(&place, curves(&|c| c.precision_recall.clone())),
                reliability(
                    &format!("Calibration by width, {place}"),
                    curves(&|c| c.reliability.iter().map(|d| (d.predicted, d.observed)).collect()),
                ),
                reliability(&format!("Calibration by tenth of the rows, {place}"), deciles.collect()),
            ]
        })
        .collect()
}

fn legend(name: &str, part: &PartRecord, task: &str, several: bool) -> String {
    let key = if several { format!("{task}.auc") } else { "auc".to_owned() };
    part.metrics.get(&key).map_or_else(|| name.to_owned(), |auc| format!("{name} (AUC {auc:.4})"))
}

fn lines(curves: Vec<(String, Points)>, dots: bool) -> impl Iterator<Item = Series> {
    curves.into_iter().map(move |(name, points)| Series { dots, ..Series::line(&name, points) })
}

fn diagonal(name: &str, end: f64) -> Series {
    Series::reference(name, vec![(0.0, 0.0), (end, end)])
}

fn roc(place: &str, curves: Vec<(String, Points)>) -> Chart {
    Chart {
        title: format!("ROC, {place}"),
        x: Axis::unit("false positive rate"),
        y: Axis::unit("true positive rate"),
        series: std::iter::once(diagonal("chance", 1.0)).chain(lines(curves, false)).collect(),
    }
}

fn precision_recall(place: &str, curves: Vec<(String, Points)>) -> Chart {
    Chart {
        title: format!("Precision and recall, {place}"),
        x: Axis::unit("recall"),
        y: Axis::unit("precision"),
        series: lines(curves, false).collect(),
    }
}

/// Both axes to the largest value, so that the diagonal is where predictions come true.
fn reliability(title: &str, curves: Vec<(String, Points)>) -> Chart {
    let most = curves.iter().flat_map(|c| &c.1).map(|p| p.0.max(p.1)).fold(0.0, f64::max);
    let end = if most > 0.0 { (most * 1.05).min(1.0) } else { 1.0 };
    let axis = |name: &str| Axis { name: name.into(), range: Some((0.0, end)) };
    Chart {
        title: title.into(),
        x: axis("mean predicted probability"),
        y: axis("share of positives observed"),
        series: std::iter::once(diagonal("predictions come true", end)).chain(lines(curves, true)).collect(),
    }
}

/// Training loss and each brief metric by step.
fn by_step(runs: &[NamedRun]) -> Vec<Chart> {
    let trained: Vec<&NamedRun> = runs.iter().filter(|r| !r.record.evaluations.is_empty()).collect();
    if trained.is_empty() {
        return Vec::new();
    }
    let chart = |title: &str, y: &str, of: &dyn Fn(&crate::Evaluation) -> Option<f64>| Chart {
        title: title.into(),
        x: Axis::fitted("steps"),
        y: Axis::fitted(y),
        series: trained
            .iter()
            .map(|run| {
                let points = run.record.evaluations.iter().filter_map(|e| Some((e.step as f64, of(e)?)));
                Series::dotted(&run.name, points.collect())
            })
            .collect(),
    };
    let mut charts = vec![chart("Training loss", "mean loss since the epoch began", &|e| Some(e.loss))];
    for key in ["logloss", "auc", "gauc", "recall@50"] {
        let known = |run: &&NamedRun| run.record.evaluations.iter().any(|e| e.metrics.contains_key(key));
        if trained.iter().any(known) {
            let title = format!("Validation {key}");
            charts.push(chart(&title, key, &|e| e.metrics.get(key).copied()));
        }
    }
    charts
}

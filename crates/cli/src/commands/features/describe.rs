//! `millstream features describe`.

use clap::Args;
use millstream_data::logs::LogFormat;
use millstream_data::relevance::{self, Relevance};
use millstream_data::sample::{self, Labelled};
use millstream_data::{Prepared, Split};
use serde_json::json;
use std::path::PathBuf;

use crate::progress::Bar;
use crate::{Failure, Global, Verdict, output};

pub const EXAMPLES: &str = "\
Examples:
  millstream features describe ads.csv --label clicked
  millstream features describe prepared                    the training part, as models see it
  millstream features describe ads.csv --label clicked --column price    its bins with weights of evidence

Columns, the greatest information value first: filled (share of rows with a value), distinct values, variance, Pearson and
Spearman correlation with the label, information gain in bits and its ratio to the column's own entropy, information value
(IV), and `alone`: AUC of the column by itself on rows it was not learned from. Below: pairs of columns that say nearly the
same.";

/// Options of `features describe`.
#[derive(Args)]
pub struct Options {
    /// A log file, or a folder made by `data prepare`.
    data: PathBuf,
    /// The label's column (of a prepared folder: the task).
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// A label above this is positive; the greater of two values, or above the median, when absent.
    #[arg(long, value_name = "X", requires = "label", allow_negative_numbers = true)]
    above: Option<f64>,
    /// Bins per column.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=1000))]
    bins: u16,
    /// Pairs of columns at least so alike are shown, 0 to 1.
    #[arg(long, value_name = "X", default_value_t = 0.95)]
    alike: f64,
    /// Show the bins of this column.
    #[arg(long, value_name = "COLUMN")]
    column: Option<String>,
    /// Rows to look at, evenly spread.
    #[arg(long, value_name = "N", default_value_t = 250_000, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
}

/// Rows by which columns are compared with each other.
const PAIR_ROWS: usize = 20_000;

pub fn run(options: &Options, global: &Global) -> Result<Verdict, Failure> {
    let bar = Bar::new("describe", 0, "rows", global.quiet);
    if !(0.0..=1.0).contains(&options.alike) {
        return Err(format!("--alike must be between 0 and 1, not {}", options.alike).into());
    }
    let most = usize::try_from(options.rows)?;
    let sample = if options.data.is_dir() {
        if options.above.is_some() {
            return Err("--above is for files; a prepared folder has its labels".into());
        }
        let prepared = Prepared::open(&options.data)?;
        let task = super::task_of(&prepared, options.label.as_deref())?;
        sample::of_prepared(&prepared, task, &[Split::Train], most)?
    } else {
        let labelled = Labelled { label: options.label.clone(), above: options.above, time: None, most };
        sample::read(&options.data, &LogFormat::default(), &labelled, &mut |rows| bar.at(rows))?
    };
    let columns = relevance::of_columns(&sample, usize::from(options.bins));
    let redundant = relevance::redundant(&sample, options.alike, PAIR_ROWS);
    bar.done(format!("{} rows, {} columns", sample.rows(), columns.len()));
    let shown = options.column.as_ref().map(|name| find(&columns, name)).transpose()?;
    if global.json {
        output::json(&json!({
            "source": sample.source, "rows": sample.rows(), "rows_seen": sample.rows_seen,
            "positive": sample.positive, "positive_share": sample.rate(), "columns": columns,
            "redundant": redundant,
        }));
        return Ok(Verdict::Done);
    }
    output::line(format!(
        "{}: {} of {} rows; positive: {} ({:.2} %)\n",
        sample.source,
        sample.rows(),
        sample.rows_seen,
        sample.positive,
        100.0 * sample.rate()
    ));
    if let Some(column) = shown {
        print_bins(column);
        return Ok(Verdict::Done);
    }
    print_columns(&columns);
    for pair in &redundant {
        let figure = pair.figure.replace('_', " ");
        output::line(format!("alike: `{}` and `{}` ({figure} {:.3})", pair.first, pair.second, pair.value));
    }
    Ok(Verdict::Done)
}

fn find<'a>(columns: &'a [Relevance], name: &str) -> Result<&'a Relevance, Failure> {
    columns.iter().find(|c| c.name == name).ok_or_else(|| {
        let names = columns.iter().map(|c| c.name.as_str());
        millstream_schema::suggest::unknown("column", name, names).into()
    })
}

fn print_columns(columns: &[Relevance]) {
    let header =
        ["column", "filled", "distinct", "variance", "pearson", "spearman", "gain", "ratio", "IV", "alone"];
    let number = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), |x| format!("{x:.4}"));
    let rows: Vec<Vec<String>> = columns
        .iter()
        .map(|c| {
            let variance = c.variance.map_or_else(|| "–".to_owned(), |v| format!("{v:.4e}"));
            let mut row =
                vec![c.name.clone(), format!("{:.1}%", 100.0 * c.filled), c.distinct.to_string(), variance];
            let figures = [c.pearson, c.spearman, Some(c.gain), Some(c.gain_ratio)];
            row.extend(figures.map(number));
            row.extend([Some(c.information_value), Some(c.alone)].map(number));
            row
        })
        .collect();
    output::line(output::table(&header, &rows));
}

fn print_bins(column: &Relevance) {
    let rows: Vec<Vec<String>> = column
        .bins
        .iter()
        .map(|b| {
            vec![
                b.name.clone(),
                b.rows.to_string(),
                format!("{:.2} %", 100.0 * b.rate),
                format!("{:+.4}", b.woe),
            ]
        })
        .collect();
    output::line(output::table(&[&column.name, "rows", "positive", "WOE"], &rows));
    output::line(format!("information value {:.4}", column.information_value));
}

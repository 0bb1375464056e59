//! An inspection as a table.

use std::fmt;

use millstream_schema::record::LIST_SEPARATOR;

use super::{ColumnReport, Guess, Inspection};

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = if self.complete { "" } else { " (the first part of the file)" };
        writeln!(f, "{}: {} rows{part}, {} columns\n", self.path, self.rows, self.columns.len())?;
        let head = ["column", "type", "missing", "distinct", "values"].map(String::from);
        let rows: Vec<[String; 5]> = std::iter::once(head).chain(self.columns.iter().map(cells)).collect();
        let widths: Vec<usize> =
            (0..5).map(|i| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0)).collect();
        for [name, kind, missing, distinct, values] in &rows {
            writeln!(
                f,
                "{name:<a$}  {kind:<b$}  {missing:>c$}  {distinct:>d$}  {values}",
                a = widths[0],
                b = widths[1],
                c = widths[2],
                d = widths[3]
            )?;
        }
        if !self.suspicious.is_empty() {
            writeln!(f, "\nworth a look:")?;
            self.suspicious.iter().try_for_each(|s| writeln!(f, "  {s}"))?;
        }
        write!(f, "\na schema to start from:\n\n{}", self.suggestion)
    }
}

fn cells(column: &ColumnReport) -> [String; 5] {
    let about = if column.distinct_exact { "" } else { "~" };
    [
        column.name.clone(),
        kind(&column.guess),
        format!("{:.1}%", column.missing * 100.0),
        format!("{about}{}", column.distinct),
        values(column),
    ]
}

fn kind(guess: &Guess) -> String {
    match guess {
        Guess::Empty => "empty".into(),
        Guess::Integer => "integer".into(),
        Guess::Number => "number".into(),
        Guess::Timestamp { unit, .. } => format!("time ({unit})"),
        Guess::Category => "category".into(),
        Guess::List { separator: LIST_SEPARATOR, .. } => "list".into(),
        Guess::List { separator, weighted: false } => format!("list by `{separator}`"),
        Guess::List { separator, weighted: true } => format!("weighted list by `{separator}`"),
        Guess::Text => "text".into(),
    }
}

fn values(column: &ColumnReport) -> String {
    if let Guess::Timestamp { from, to, .. } = &column.guess {
        return format!("{from} to {to}");
    }
    let few = column.distinct <= 5;
    match column.numbers {
        Some(n) if !few => format!("min {}  mean {}  max {}", brief(n.min), brief(n.mean), brief(n.max)),
        _ => column.top.iter().map(|(v, n)| format!("{v} ({n})")).collect::<Vec<_>>().join(", "),
    }
}

/// At most four digits behind the point.
fn brief(x: f64) -> String {
    let text = format!("{x:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

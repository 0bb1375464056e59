//! A schema to start from.

use std::fmt::Write;

use super::{ColumnReport, Guess};

/// Above this many values a hash costs less than a vocabulary.
const VOCABULARY: u64 = 1_000_000;
/// Whole numbers with at most this many values are taken for categories.
const FEW: u64 = 200;

/// `[[feature]]` tables for the columns that can be features, comments for the others.
pub(super) fn features(columns: &[ColumnReport], rows: u64) -> String {
    let mut out = String::new();
    for column in columns {
        let name = toml::Value::String(column.name.clone()).to_string();
        let comment = match &column.guess {
            Guess::Empty => Some("it is empty".into()),
            _ if column.distinct == 1 && rows > 1 => Some("it is constant".into()),
            Guess::Timestamp { unit, .. } if *unit == "ns" => {
                Some("a time in nanoseconds: convert it to ms".into())
            }
            Guess::Timestamp { unit, .. } => {
                Some(format!("a time: time = {{ column = {name}, unit = \"{unit}\" }}"))
            }
            _ if is_label(column) => Some(format!("only 0 and 1, a label perhaps: [[task]] column = {name}")),
            _ => None,
        };
        let done = match comment {
            Some(comment) => writeln!(out, "# {name}: {comment}\n"),
            None => writeln!(
                out,
                "[[feature]]\nname = {name}\nside = \"{}\"\n{}",
                side(&column.name),
                kind(column)
            ),
        };
        debug_assert!(done.is_ok());
    }
    out
}

fn is_label(column: &ColumnReport) -> bool {
    let name = column.name.to_lowercase();
    let named = ["label", "click", "target", "is_", "like", "conver", "purchase", "order"];
    let binary = column.distinct == 2 && column.numbers.is_some_and(|n| n.min == 0.0 && n.max == 1.0);
    binary && named.iter().any(|part| name.contains(part))
}

/// Whose property a column is, by its name; a guess to be checked by a person.
fn side(name: &str) -> &'static str {
    let name = name.to_lowercase();
    let user = ["user", "uid", "age", "gender", "member", "customer", "occupation"];
    let context = ["hour", "day", "week", "device", "network", "session", "request", "page", "os"];
    if name == "position" || name == "pos" || name == "rank" {
        "exposure"
    } else if user.iter().any(|part| name.starts_with(part)) {
        "user"
    } else if context.iter().any(|part| name.starts_with(part)) {
        "context"
    } else {
        "item"
    }
}

fn kind(column: &ColumnReport) -> String {
    let many = column.distinct > VOCABULARY;
    let categorical =
        if many { "kind = \"categorical\"\nencoding = \"hash\"\n" } else { "kind = \"categorical\"\n" };
    let name = column.name.to_lowercase();
    let is_id =
        name == "id" || name.ends_with("_id") || name.ends_with("id") && column.guess == Guess::Integer;
    match &column.guess {
        Guess::Number => number(column),
        Guess::Integer if column.distinct > FEW && !is_id => number(column),
        Guess::List { separator, weighted } => {
            let separator = toml::Value::String(separator.to_string());
            let mut text = format!("kind = \"multi\"\nencoding = \"hash\"\nseparator = {separator}\n");
            if *weighted {
                text.push_str("weight_separator = \":\"\n");
            }
            text
        }
        Guess::Text => "kind = \"text\"\n".into(),
        _ => categorical.into(),
    }
}

/// Numbers of a wide range by their logarithm, others standardised.
fn number(column: &ColumnReport) -> String {
    let wide = column.numbers.is_some_and(|n| n.min >= 0.0 && n.max > 20.0 * n.mean);
    format!("kind = \"numeric\"\ntransform = \"{}\"\n", if wide { "log" } else { "standardise" })
}

//! libsvm: `label [qid:q] index:value … [# comment]`.

use millstream_schema::Frame;

use super::lines::Lines;
use super::{FrameReader, LogFormat, select};
use crate::Error;

/// Reads libsvm lines into the columns `label`, `qid` (empty when absent) and `features`: all pairs joined by
/// `|`, as a `multi` feature with `separator = "|"` and `weight_separator = ":"` takes them.
pub(super) struct Libsvm {
    lines: Lines,
    columns: Vec<String>,
    places: Vec<usize>,
    features: String,
}

impl Libsvm {
    pub(super) fn new(mut lines: Lines, format: &LogFormat) -> Result<Self, Error> {
        lines.skip_blank("the file is empty")?;
        let all = ["label", "qid", "features"].map(String::from);
        let columns = format.columns.clone().unwrap_or_else(|| all.to_vec());
        let places = select(lines.source(), &columns, &all)?;
        Ok(Self { lines, columns, places, features: String::new() })
    }
}

impl FrameReader for Libsvm {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn source(&self) -> &str {
        self.lines.source()
    }

    fn read(&mut self, frame: &mut Frame, max_rows: usize) -> Result<usize, Error> {
        let mut rows = 0;
        while rows < max_rows {
            let parsed = match self.lines.next_line()? {
                None => break,
                Some((number, line)) => parse(line, &mut self.features).map(|parts| match parts {
                    None => false,
                    Some((label, qid)) => {
                        let all = [label, qid, self.features.as_str()];
                        let mut cells = [""; 3];
                        self.places.iter().zip(&mut cells).for_each(|(&place, cell)| *cell = all[place]);
                        frame.push_row(number, &cells[..self.places.len()]);
                        true
                    }
                }),
            };
            match parsed {
                Ok(row) => rows += usize::from(row),
                Err(reason) => return Err(Error::input(self.lines.place(self.lines.line() - 1), reason)),
            }
        }
        Ok(rows)
    }
}

/// Label and query id of a line, its pairs into `features`; nothing for a line of comment only.
fn parse<'a>(line: &'a str, features: &mut String) -> Result<Option<(&'a str, &'a str)>, String> {
    features.clear();
    let mut words = line.split('#').next().unwrap_or("").split_ascii_whitespace();
    let Some(label) = words.next() else { return Ok(None) };
    if label.parse::<f64>().is_err() {
        return Err(format!(
            "the label `{}` is not a number",
            millstream_schema::parse::short(label).trim_matches('`')
        ));
    }
    let mut qid = "";
    for word in words {
        match word.split_once(':') {
            Some(("qid", q)) => qid = q,
            Some((index, value)) if !index.is_empty() && value.parse::<f64>().is_ok() => {
                if !features.is_empty() {
                    features.push('|');
                }
                features.push_str(word);
            }
            _ => return Err(format!("{} is not `index:value`", millstream_schema::parse::short(word))),
        }
    }
    Ok(Some((label, qid)))
}

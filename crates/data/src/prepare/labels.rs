//! Label columns of a table: 0 or 1, or what the task maps to them; anything else is refused.

use millstream_schema::{Frame, parse};

use super::frames::column;
use crate::Error;
use crate::config::{MOST_GRADE, Task, in_space, spaces};

/// Reads the labels of a frame's rows.
pub(crate) struct Labels<'a> {
    frame: &'a Frame,
    /// Each task, the place of its column, and the task that makes its space.
    tasks: Vec<(&'a Task, usize, Option<usize>)>,
}

impl<'a> Labels<'a> {
    /// # Errors
    /// A label column is missing.
    pub(crate) fn new(tasks: &'a [Task], frame: &'a Frame) -> Result<Self, Error> {
        let place = |(task, space): (&'a Task, Option<usize>)| match task {
            Task::Column { name, column: label, .. } => {
                column(frame, label, &format!("task `{name}`")).map(|at| (task, at, space))
            }
            Task::Event { name, .. } => {
                Err(Error::Config(format!("task `{name}` reads events, which a table has none of")))
            }
        };
        Ok(Self { tasks: tasks.iter().zip(spaces(tasks)).map(place).collect::<Result<_, _>>()?, frame })
    }

    /// Appends one row's labels, one per task, NaN for a task whose space the row is outside of, where its cell is
    /// not looked at; appends nothing and says `false` for a row that a task drops.
    ///
    /// # Errors
    /// A label that is none, with file and line, whatever the policy.
    pub(crate) fn read(&self, row: usize, out: &mut Vec<f32>) -> Result<bool, Error> {
        let start = out.len();
        for &(task, at, space) in &self.tasks {
            if !in_space(space, &out[start..]) {
                out.push(f32::NAN);
                continue;
            }
            match label(task, self.frame.get(row, at)) {
                Ok(Some(label)) => out.push(label),
                Ok(None) => {
                    out.truncate(start);
                    return Ok(false);
                }
                Err(reason) => {
                    let reason = format!("label column `{}`: {reason}", self.frame.columns()[at]);
                    return Err(Error::Input { place: self.frame.place(row), reason });
                }
            }
        }
        Ok(true)
    }
}

/// The label in a cell; `None` where the row is dropped.
pub(crate) fn label(task: &Task, cell: &str) -> Result<Option<f32>, String> {
    let Task::Column { positive, min, drop, graded, .. } = task else {
        return Err("the task reads no column".into());
    };
    let text = cell.trim();
    // The common case first: most labels are one digit.
    if positive.is_none() && min.is_none() && drop.is_empty() {
        match text {
            "0" => return Ok(Some(0.0)),
            "1" => return Ok(Some(1.0)),
            _ => {}
        }
    }
    if text.is_empty() {
        return Err("the label is missing".into());
    }
    let number = text.parse::<f64>().ok();
    if number.is_some_and(|x| !x.is_finite()) {
        let plain = positive.is_none() && min.is_none() && !graded;
        let expected = if plain { "0 or 1" } else { "a finite number" };
        return Err(format!("{} is no label; expected {expected}", parse::short(text)));
    }
    if drop.iter().any(|c| c.is(text, number)) {
        return Ok(None);
    }
    if let Some(values) = positive {
        return Ok(Some(if values.iter().any(|c| c.is(text, number)) { 1.0 } else { 0.0 }));
    }
    if *graded {
        return match number.filter(|x| (0.0..=MOST_GRADE).contains(x)) {
            Some(grade) => Ok(Some(grade as f32)),
            None => {
                Err(format!("{} is no grade; expected a number from 0 to {MOST_GRADE}", parse::short(text)))
            }
        };
    }
    match (number, min) {
        (Some(x), Some(min)) => Ok(Some(if x >= *min { 1.0 } else { 0.0 })),
        (Some(0.0), None) => Ok(Some(0.0)),
        (Some(1.0), None) => Ok(Some(1.0)),
        (None, Some(_)) => Err(format!("{} is no number to compare with `min`", parse::short(text))),
        (_, None) => Err(format!(
            "{} is neither 0 nor 1; say what counts as 1 with `positive = [...]` or `min`, or keep grades \
             with `graded = true`",
            parse::short(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Cell;

    fn task(positive: Option<Vec<Cell>>, min: Option<f64>, drop: Vec<Cell>) -> Task {
        Task::Column { name: "y".into(), column: "y".into(), positive, min, drop, graded: false, space: None }
    }

    #[test]
    fn plain_labels_are_zero_or_one_however_written() {
        let task = task(None, None, vec![]);
        for (cell, expected) in
            [("0", 0.0), ("1", 1.0), (" 1 ", 1.0), ("1.0", 1.0), ("0.00", 0.0), ("-0", 0.0)]
        {
            assert_eq!(label(&task, cell), Ok(Some(expected)), "{cell}");
        }
        for cell in ["", "NaN", "nan", "inf", "2", "-1", "0.5", "yes", "1e-9"] {
            assert!(label(&task, cell).is_err(), "{cell}");
        }
    }

    #[test]
    fn values_map_and_drop() {
        let task =
            task(Some(vec![Cell::Number(2.0), Cell::Text("buy".into())]), None, vec![Cell::Number(1.0)]);
        assert_eq!(label(&task, "2.0"), Ok(Some(1.0)));
        assert_eq!(label(&task, "buy"), Ok(Some(1.0)));
        assert_eq!(label(&task, "0"), Ok(Some(0.0)));
        assert_eq!(label(&task, "1"), Ok(None));
        assert!(label(&task, "nan").is_err());
    }

    #[test]
    fn a_label_outside_of_its_space_is_not_read() {
        let named = |name: &str, space: Option<&str>| match task(None, None, vec![]) {
            Task::Column { positive, min, drop, graded, .. } => Task::Column {
                name: name.into(),
                column: name.into(),
                positive,
                min,
                drop,
                graded,
                space: space.map(Into::into),
            },
            event @ Task::Event { .. } => event,
        };
        let tasks = [named("click", None), named("cart", Some("click")), named("order", Some("cart"))];
        let mut frame = Frame::new("log.csv", &["click", "cart", "order"]);
        frame.push_row(1, &["0", "junk", ""]);
        frame.push_row(2, &["1", "0", ""]);
        frame.push_row(3, &["1", "1", "0"]);
        frame.push_row(4, &["1", "", "0"]);
        let labels = Labels::new(&tasks, &frame).unwrap();
        let read = |row| {
            let mut out = vec![7.0];
            labels.read(row, &mut out).map(|_| out[1..].iter().map(|y| format!("{y}")).collect::<Vec<_>>())
        };
        assert_eq!(read(0).unwrap(), ["0", "NaN", "NaN"]);
        assert_eq!(read(1).unwrap(), ["1", "0", "NaN"]);
        assert_eq!(read(2).unwrap(), ["1", "1", "0"]);
        let said = read(3).unwrap_err().to_string();
        assert!(said.contains("log.csv:4") && said.contains("the label is missing"), "{said}");
    }

    #[test]
    fn grades_are_kept_as_they_are() {
        let task = Task::Column {
            name: "y".into(),
            column: "y".into(),
            positive: None,
            min: None,
            drop: vec![],
            graded: true,
            space: None,
        };
        for (cell, grade) in [("0", 0.0), ("4", 4.0), ("31", 31.0), ("1.5", 1.5)] {
            assert_eq!(label(&task, cell), Ok(Some(grade)), "{cell}");
        }
        for cell in ["-1", "32", "nan", "good", ""] {
            assert!(label(&task, cell).is_err(), "{cell}");
        }
    }

    #[test]
    fn a_least_value_counts_as_one() {
        let task = task(None, Some(4.0), vec![]);
        assert_eq!(label(&task, "4"), Ok(Some(1.0)));
        assert_eq!(label(&task, "3.9"), Ok(Some(0.0)));
        assert!(label(&task, "four").is_err());
    }
}

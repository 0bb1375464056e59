//! Tables whose rows have a place in their user's order.

use millstream_data::{SourceOptions, Split, Use};
use millstream_schema::{BatchSource, Column, Examples};

use super::{Case, Draw};

const ORDERED: &str = r#"
[dataset]
kind = "table"
[dataset.table]
all = ["rows.csv"]
group = "user"
item = "item"
order = "place"
strength = "level"
[split]
by = "ratio"
valid = 0.2
test = 0.2
[examples]
max_history = 4
history_where = { column = "level", is = [1, 2] }
[[task]]
name = "like"
column = "level"
positive = [2]
[[feature]]
name = "user"
side = "user"
kind = "categorical"
[[feature]]
name = "item"
side = "item"
kind = "categorical"
[[feature]]
name = "row"
side = "exposure"
kind = "numeric"
transform = "raw"
[[feature]]
name = "seen"
kind = "sequence"
elements = ["item"]
max_len = 4
gap = true
strength = true
"#;

struct Row {
    user: u64,
    item: u64,
    level: u64,
    place: Option<u64>,
}

/// Few users with many rows each, some at the same place, some without one.
fn rows(count: usize) -> Vec<Row> {
    let mut draw = Draw(7);
    let mut one = |_| {
        let place = match draw.below(10) {
            0 => None,
            _ => Some(draw.below(40)),
        };
        Row { user: draw.below(9), item: draw.below(30), level: draw.below(3), place }
    };
    (0..count).map(&mut one).collect()
}

fn table(rows: &[Row]) -> String {
    let mut text = String::from("row,user,item,level,place\n");
    for (n, row) in rows.iter().enumerate() {
        let place = match row.place {
            Some(place) => place.to_string(),
            None => if n % 2 == 0 { "-1" } else { "" }.into(),
        };
        text += &format!("{n},u{},i{},{},{place}\n", row.user, row.item, row.level);
    }
    text
}

/// The number in feature `row` of each candidate.
fn numbers(x: &Examples, field: usize) -> Vec<usize> {
    match x.exposure.get(field as u32) {
        Some(Column::Dense { values, .. }) => values.iter().map(|v| *v as usize).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_row_of_every_part_has_its_users_earlier_rows_and_no_other() {
    let rows = rows(400);
    let case = Case::new(ORDERED, &[("rows.csv", &table(&rows))]);
    let (report, prepared) = case.prepared();
    let field = prepared.encoder.field("row").unwrap();
    let mut seen = 0;
    for split in Split::ALL {
        let x = case.examples(split, Use::Rank);
        for (r, n) in numbers(&x, field).into_iter().enumerate() {
            let row = &rows[n];
            let mut earlier: Vec<&Row> = rows
                .iter()
                .filter(|other| other.user == row.user && other.level > 0)
                .filter(|other| matches!((other.place, row.place), (Some(theirs), Some(own)) if theirs < own))
                .collect();
            earlier.sort_by_key(|other| other.place);
            let expected: Vec<(String, f32, i64)> = earlier[earlier.len().saturating_sub(4)..]
                .iter()
                .map(|other| (format!("i{}", other.item), other.level as f32, other.place.unwrap() as i64))
                .collect();
            let found: Vec<(String, f32, i64)> = x
                .history
                .span(r)
                .map(|at| x.history.action(at))
                .map(|a| {
                    (prepared.items.name(a.item).to_owned(), a.value, (a.time_ms - 946_684_800_000) / 1000)
                })
                .collect();
            assert_eq!(found, expected, "row {n}");
            assert!(x.history.span(r).all(|at| x.history.time_ms[at] < x.request_time_ms[r]));
            seen += 1;
        }
    }
    assert_eq!(seen, 400);
    let placed = rows.iter().filter(|row| row.place.is_some());
    assert_eq!(report.notes["rows that enter histories"], placed.filter(|row| row.level > 0).count() as u64);
    let without = rows.iter().filter(|row| row.place.is_none()).count() as u64;
    assert_eq!(report.notes["rows without a place in their user's order"], without);
}

#[test]
fn batches_hold_the_elements_their_strengths_and_the_places_gone_by() {
    let text = "row,user,item,level,place\n0,a,x,2,0\n1,a,y,1,3\n2,a,z,2,10\n3,b,z,1,5\n";
    let files = ORDERED
        .replace("all = [\"rows.csv\"]", "train = [\"rows.csv\"]")
        .replace("by = \"ratio\"\nvalid = 0.2\ntest = 0.2\n", "");
    let case = Case::new(&files, &[("rows.csv", text)]);
    let (_, prepared) = case.prepared();
    let options = SourceOptions { batch_size: 8, shuffle: None, skip_batches: 0 };
    let batch = prepared.source(Split::Train, Use::Rank, options).unwrap().next_batch().unwrap().unwrap();
    let column = |name: &str| &batch.columns[prepared.encoder.field(name).unwrap()];
    let Column::Key(own) = column("item") else { panic!() };
    let Column::Keys { offsets, keys, weights } = column("seen.item") else { panic!() };
    assert_eq!(offsets, &[0, 0, 1, 3, 3]);
    assert_eq!(keys, &[own[0], own[0], own[1]]);
    assert_eq!(weights.as_deref(), Some(&[2.0, 2.0, 1.0][..]));
    // 3, 10 and 7 places ago, each a second: ⌊log₂ 4⌋, ⌊log₂ 11⌋, ⌊log₂ 8⌋ after the keys of missing and unknown.
    let Column::Keys { keys, .. } = column("seen.gap") else { panic!() };
    assert_eq!(keys, &[2 + 2, 2 + 3, 2 + 3]);
}

#[test]
fn what_comes_after_the_request_is_refused_and_counted() {
    // By its place row 1 is before row 2, by its time after it.
    let text = "row,user,item,level,place,t\n0,a,x,2,0,1000000100\n1,a,y,1,1,1000000900\n2,a,z,2,2,1000000200\n3,a,z,2,3,1000000950\n";
    let config = ORDERED
        .replace("all = [\"rows.csv\"]", "train = [\"rows.csv\"]\ntime = { column = \"t\", unit = \"s\" }")
        .replace("by = \"ratio\"\nvalid = 0.2\ntest = 0.2\n", "");
    let case = Case::new(&config, &[("rows.csv", text)]);
    let (report, prepared) = case.prepared();
    let x = case.examples(Split::Train, Use::Rank);
    let items = |r: usize| -> Vec<&str> {
        x.history.span(r).map(|at| prepared.items.name(x.history.item[at])).collect()
    };
    assert_eq!([items(0), items(1), items(2), items(3)], [vec![], vec!["x"], vec!["x"], vec!["x", "y", "z"]]);
    assert_eq!(report.dropped["actions of histories from after the request"], 1);
}

#[test]
fn items_that_only_later_parts_have_are_unknown_in_histories() {
    let config = ORDERED
        .replace("all = [\"rows.csv\"]", "train = [\"rows.csv\"]\ntest = [\"later.csv\"]")
        .replace("by = \"ratio\"\nvalid = 0.2\ntest = 0.2\n", "");
    let later = "row,user,item,level,place\n2,a,new,2,1\n3,a,x,1,2\n";
    let case =
        Case::new(&config, &[("rows.csv", "row,user,item,level,place\n0,a,x,2,0\n"), ("later.csv", later)]);
    let (_, prepared) = case.prepared();
    let options = SourceOptions { batch_size: 8, shuffle: None, skip_batches: 0 };
    let batch = prepared.source(Split::Test, Use::Rank, options).unwrap().next_batch().unwrap().unwrap();
    let Column::Keys { keys, .. } = &batch.columns[prepared.encoder.field("seen.item").unwrap()] else {
        panic!()
    };
    // x before the new item; x and the unknown one before x.
    assert_eq!(keys, &[2, 2, 1]);
}

#[test]
fn a_user_with_a_hundred_thousand_rows_is_cut_to_the_latest() {
    let mut text = String::from("row,user,item,level,place\n");
    for n in 0..100_000 {
        text += &format!("{n},a,i{},2,{n}\n", n % 50);
    }
    let case = Case::new(ORDERED, &[("rows.csv", &text)]);
    let (_, prepared) = case.prepared();
    let field = prepared.encoder.field("row").unwrap();
    let x = case.examples(Split::Test, Use::Rank);
    for (r, n) in numbers(&x, field).into_iter().enumerate() {
        let found: Vec<String> =
            x.history.span(r).map(|at| prepared.items.name(x.history.item[at]).to_owned()).collect();
        let expected: Vec<String> = (n.saturating_sub(4)..n).map(|m| format!("i{}", m % 50)).collect();
        assert_eq!(found, expected, "row {n}");
    }
}

#[test]
fn an_order_that_is_none_is_counted_or_refused_by_its_line() {
    let text = "row,user,item,level,place\n0,a,x,2,0\n1,a,y,2,first\n2,a,y,2,7\n";
    let config = ORDERED
        .replace("all = [\"rows.csv\"]", "train = [\"rows.csv\"]")
        .replace("by = \"ratio\"\nvalid = 0.2\ntest = 0.2\n", "");
    let case = Case::new(&config, &[("rows.csv", text)]);
    let message = case.error(true);
    assert!(message.contains("rows.csv:3") && message.contains("is no place in an order"), "{message}");
    let (report, _) = case.prepared();
    assert_eq!(report.bad.total(), 1);
    assert_eq!(case.examples(Split::Train, Use::Rank).history.offsets, [0, 0, 0, 1]);
    let message = Case::new(&config.replace("order = \"place\"", "order = \"plaze\""), &[("rows.csv", text)])
        .error(false);
    assert!(message.contains("did you mean `place`?"), "{message}");
}

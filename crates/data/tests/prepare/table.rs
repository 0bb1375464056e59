use std::fmt::Write;

use millstream_data::{Prepared, SourceOptions, Split, Use};
use millstream_schema::{BatchSource, Column};

use super::{Case, Draw};

pub(crate) const PLAIN: &str = r#"
[dataset]
kind = "table"
[dataset.table]
train = ["a.csv"]
[[feature]]
name = "x"
side = "item"
kind = "categorical"
"#;

const SPLIT: &str = r#"
[dataset]
kind = "table"
[dataset.table]
all = ["a.csv", "b.csv"]
group = "user"
[[task]]
name = "y"
column = "rating"
min = 4
drop = [3]
[[feature]]
name = "user"
side = "user"
kind = "categorical"
[[feature]]
name = "x"
side = "item"
kind = "categorical"
[[feature]]
name = "price"
side = "exposure"
kind = "numeric"
transform = "raw"
[split]
valid = 0.2
test = 0.2
"#;

fn rows(draw: &mut Draw, count: u64) -> String {
    let mut out = String::from("rating,user,x,price,t\n");
    for _ in 0..count {
        let (r, u, x, t) =
            (draw.below(5) + 1, draw.below(20), draw.below(50), 1_600_000_000 + draw.below(1_000_000));
        writeln!(out, "{r},u{u},x{x},{},{t}", draw.below(1000)).unwrap();
    }
    out
}

fn split_case(config: &str) -> Case {
    let mut draw = Draw(77);
    Case::new(config, &[("a.csv", &rows(&mut draw, 6000)), ("b.csv", &rows(&mut draw, 3000))])
}

/// Every row of a part as text: price, label, group, encoded x read back.
fn read_back(prepared: &Prepared, split: Split) -> Vec<String> {
    let options = SourceOptions { batch_size: 512, shuffle: None, skip_batches: 0 };
    let mut source = prepared.source(split, Use::Rank, options).unwrap();
    let mut out = Vec::new();
    while let Some(batch) = source.next_batch().unwrap() {
        assert_eq!(batch.requests, batch.candidates());
        let Column::Dense { values, .. } = &batch.columns[2] else { panic!("price is dense") };
        for row in 0..batch.candidates() {
            let user = prepared.users.name(batch.group[row]);
            out.push(format!("{} {} {user}", values[row], batch.labels[row]));
        }
    }
    out
}

fn naive(case: &Case) -> Vec<(u64, String)> {
    let mut out = Vec::new();
    for name in ["a.csv", "b.csv"] {
        let text = std::fs::read_to_string(case.dir.path().join(name)).unwrap();
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            if cells[0] != "3" {
                let label = u8::from(cells[0] >= "4");
                out.push((cells[4].parse().unwrap(), format!("{} {label} {}", cells[3], cells[1])));
            }
        }
    }
    out
}

#[test]
fn every_row_is_in_one_part_with_its_label_and_its_group() {
    let case = split_case(SPLIT);
    let (report, prepared) = case.prepared();
    let mut all: Vec<String> = Split::ALL.into_iter().flat_map(|s| read_back(&prepared, s)).collect();
    let mut expected: Vec<String> = naive(&case).into_iter().map(|(_, row)| row).collect();
    assert_eq!(report.rows_read, 9000);
    assert_eq!(report.dropped.values().sum::<u64>(), 9000 - expected.len() as u64);
    all.sort();
    expected.sort();
    assert_eq!(all, expected);
    let share = |s| prepared.rows(s, Use::Rank) as f64 / expected.len() as f64;
    assert!((share(Split::Valid) - 0.2).abs() < 0.02 && (share(Split::Test) - 0.2).abs() < 0.02);
    assert!(
        prepared
            .source(
                Split::Train,
                Use::Recall,
                SourceOptions { batch_size: 1, shuffle: None, skip_batches: 0 }
            )
            .is_err()
    );
    assert!(
        prepared.interactions(Split::Train).unwrap_err().to_string().contains("a table holds no actions")
    );
}

const FUNNEL: &str = r#"
[dataset]
kind = "table"
[dataset.table]
train = ["a.csv"]
[[task]]
name = "click"
[[task]]
name = "order"
space = "click"
[[task]]
name = "kept"
space = "order"
[[feature]]
name = "x"
side = "item"
kind = "categorical"
"#;

#[test]
fn a_label_outside_of_its_tasks_space_is_nan_and_a_twin_sees_its_own_labels() {
    let rows = "click,order,kept,x\n0,,,a\n1,0,?,b\n1,1,1,c\n0,7,7,d\n1,1,0,e\n";
    let case = Case::new(FUNNEL, &[("a.csv", rows)]);
    let (report, prepared) = case.prepared();
    assert_eq!(report.parts.part(Split::Train, Use::Rank).positives, [3, 2, 1]);
    let options = SourceOptions { batch_size: 10, shuffle: None, skip_batches: 0 };
    let labels = |prepared: &Prepared| {
        let batch = prepared.source(Split::Train, Use::Rank, options).unwrap().next_batch().unwrap().unwrap();
        assert_eq!(batch.tasks, prepared.tasks.len());
        batch.labels.iter().map(f32::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(labels(&prepared), "0 NaN NaN 1 0 NaN 1 1 1 0 NaN NaN 1 1 0");
    let twin = prepared.with_task("order").unwrap();
    assert_eq!((twin.tasks.clone(), labels(&twin)), (vec!["order".to_owned()], "NaN 0 1 NaN 1".to_owned()));
    let message = prepared.with_task("ordr").unwrap_err().to_string();
    assert!(message.contains("did you mean `order`?"), "{message}");
}

#[test]
fn a_space_that_cannot_be_is_refused_by_name() {
    for (from, to, said) in [
        ("space = \"click\"", "space = \"clik\"", "did you mean `click`?"),
        ("space = \"click\"", "space = \"kept\"", "a task above this one"),
        ("name = \"click\"", "name = \"exposure\"", "stands for the space of all rows"),
        ("space = \"click\"", "weight = 2.0", "key `weight` is for training; it belongs in a recipe"),
        ("space = \"click\"", "loss = \"focal\"", "key `loss` is for training"),
    ] {
        let config = FUNNEL.replacen(from, to, 1);
        let message = Case::new(&config, &[("a.csv", "click,order,kept,x\n1,1,1,a\n")]).error(false);
        assert!(message.contains(said), "{to}: {message}");
    }
    // The space of all rows may be named.
    let named = FUNNEL.replacen("space = \"click\"", "space = \"exposure\"", 1);
    let (_, prepared) = Case::new(&named, &[("a.csv", "click,order,kept,x\n0,1,1,a\n")]).prepared();
    assert_eq!(prepared.part(Split::Train, Use::Rank).positives, [0, 1, 1]);
}

#[test]
fn a_split_by_time_trains_on_the_earlier_rows() {
    let timed = SPLIT
        .replace("group = \"user\"", "group = \"user\"\ntime = { column = \"t\", unit = \"s\" }")
        .replace("[split]", "[split]\nby = \"time\"");
    let case = split_case(&timed);
    let (report, prepared) = case.prepared();
    let cut = report.time_split.unwrap();
    for split in Split::ALL {
        let mut got = read_back(&prepared, split);
        let part = |(t, _): &&(u64, String)| cut.part(*t as i64 * 1000) == split;
        let naive = naive(&case);
        let mut expected: Vec<String> = naive.iter().filter(part).map(|(_, row)| row.clone()).collect();
        assert!(!expected.is_empty());
        got.sort();
        expected.sort();
        assert_eq!(got, expected);
    }
    // Shares are of all rows, dropped ones included.
    let test = prepared.rows(Split::Test, Use::Rank) as f64 / naive(&case).len() as f64;
    assert!((test - 0.2).abs() < 0.02);
}

#[test]
fn the_encoder_learns_from_training_rows_alone() {
    let config = PLAIN.replace("train = [\"a.csv\"]", "train = [\"a.csv\"]\nvalid = [\"b.csv\"]");
    let case =
        Case::new(&config, &[("a.csv", "label,x\n1,old\n0,old\n"), ("b.csv", "label,x\n1,new\n0,old\n")]);
    case.run(false).unwrap();
    let valid = case.examples(Split::Valid, Use::Rank);
    assert_eq!(valid.exposure.columns[0], Column::Key(vec![1, 2]));
    assert_eq!(case.examples(Split::Test, Use::Rank).requests(), 0);
}

#[test]
fn files_with_columns_in_another_order_are_read_by_name() {
    let config = PLAIN.replace("train = [\"a.csv\"]", "train = [\"a.csv\", \"b.csv\"]");
    let case = Case::new(&config, &[("a.csv", "label,x\n1,p\n"), ("b.csv", "x,more,label\nq,1,0\n")]);
    case.run(false).unwrap();
    let train = case.examples(Split::Train, Use::Rank);
    assert_eq!(train.labels, [1.0, 0.0]);
}

#[test]
fn a_label_that_is_none_is_refused_with_its_line_whatever_the_policy() {
    for (cell, expected) in [
        ("NaN", "`NaN` is no label"),
        ("", "the label is missing"),
        ("2", "neither 0 nor 1"),
        ("yes", "neither 0 nor 1"),
    ] {
        for strict in [false, true] {
            let case = Case::new(PLAIN, &[("a.csv", &format!("label,x\n1,a\n{cell},b\n0,c\n"))]);
            let message = case.error(strict);
            assert!(message.contains("a.csv:3: label column `label`: "), "{message}");
            assert!(message.contains(expected), "{message}");
        }
    }
}

#[test]
fn an_unknown_column_is_answered_with_the_nearest() {
    let case = Case::new(PLAIN, &[("a.csv", "lable,x\n1,a\n")]);
    let message = case.error(false);
    assert!(message.contains("task `label`: unknown column `label`; did you mean `lable`?"), "{message}");
    let case = Case::new(PLAIN, &[("a.csv", "label,xx\n1,a\n")]);
    assert!(case.error(false).contains("feature `x`: unknown column `x`"));
}

#[test]
fn bad_feature_values_are_counted_or_refused() {
    let config = PLAIN.replace("\"categorical\"", "\"numeric\"");
    let case = Case::new(&config, &[("a.csv", "label,x\n1,1.5\n0,oops\n1,NaN\n0,\n")]);
    let message = case.error(true);
    assert!(message.contains("a.csv:3") && message.contains("not a number (`oops`)"), "{message}");
    let report = case.run(false).unwrap();
    assert_eq!(report.bad.total(), 2);
    let shown = report.to_string();
    assert!(shown.contains("x: not a number") && shown.contains("x: not a finite number"), "{shown}");
}

#[test]
fn a_wrong_time_unit_is_named_with_the_right_one() {
    let timed = SPLIT.replace("group = \"user\"", "time = { column = \"t\", unit = \"ms\" }");
    let message = split_case(&timed).error(false);
    assert!(message.contains("a.csv:2: timestamp"), "{message}");
    assert!(message.contains("read as ms is 1970-01-19; unit = \"s\" would give 2020-09-"), "{message}");
}

#[test]
fn missing_and_rowless_files_are_refused() {
    let case = Case::new(PLAIN, &[("b.csv", "label,x\n1,a\n")]);
    assert!(case.error(false).contains("a.csv"));
    let case = Case::new(PLAIN, &[("a.csv", "label,x\n")]);
    assert!(case.error(false).contains("a.csv"));
    let drop_all = format!("{PLAIN}[[task]]\nname = \"label\"\ndrop = [1]\n");
    let case = Case::new(&drop_all, &[("a.csv", "label,x\n1,a\n")]);
    assert!(case.error(false).contains("no row is left to train on"));
}

#[test]
fn preparing_twice_gives_the_same_bytes() {
    let (a, b) = (split_case(SPLIT), split_case(SPLIT));
    a.run(false).unwrap();
    b.run(false).unwrap();
    for entry in std::fs::read_dir(a.out()).unwrap() {
        let name = entry.unwrap().file_name();
        let read = |case: &Case| std::fs::read(case.out().join(&name)).unwrap();
        assert!(read(&a) == read(&b), "{name:?} differs");
    }
}

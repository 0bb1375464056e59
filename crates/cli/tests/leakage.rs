//! `data inspect --leakage` through the real binary: what it finds, what it guesses, and its exit status.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;
use support::data::put;
use support::{refused, run};

const ROWS: usize = 6000;
const USERS: usize = 900;
const DAY: usize = 86_400;
const STEP: usize = 60;

/// Even numbers in [0, 1).
fn numbers(mut state: u64) -> impl FnMut() -> f64 {
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    }
}

/// A log with the user's clicks in the day from each row on (`next`) and in the day before it (`past`).
fn log(seed: u64) -> [String; 2] {
    let mut next = numbers(seed);
    let rate: Vec<f64> = (0..USERS).map(|_| 0.05 + 0.5 * next() * next()).collect();
    let rows: Vec<(usize, f64, bool)> = (0..ROWS)
        .map(|_| {
            let (user, x) = ((next() * USERS as f64) as usize, next());
            (user, x, next() < rate[user] + 0.2 * x)
        })
        .collect();
    let within = |row: usize, other: usize| rows[row].0 == rows[other].0 && rows[other].2;
    let day = DAY / STEP;
    let header = "user,x,timestamp,bought,";
    let [mut leaky, mut honest] = [format!("{header}next\n"), format!("{header}past\n")];
    for (row, (user, x, y)) in rows.iter().enumerate() {
        let later = (row..(row + day).min(ROWS)).filter(|&o| within(row, o)).count();
        let earlier = (row.saturating_sub(day)..row).filter(|&o| within(row, o)).count();
        let cells = format!("u{user},{x:.4},{},{}", 1_700_000_000 + row * STEP, u8::from(*y));
        writeln!(leaky, "{cells},{later}").unwrap();
        writeln!(honest, "{cells},{earlier}").unwrap();
    }
    [leaky, honest]
}

/// Status and report.
fn inspect(dir: &Path, words: &str) -> (Option<i32>, Value) {
    let output = run(dir, &format!("data inspect --leakage --json --quiet {words}"));
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

fn findings(report: &Value) -> Vec<(&str, &str)> {
    let found = report["findings"].as_array().unwrap().iter();
    found.map(|f| (f["kind"].as_str().unwrap(), f["column"].as_str().unwrap())).collect()
}

const RECIPE: &str = r#"
[dataset]
kind = "table"
[dataset.table]
all = ["FILE"]
group = "user"
time = { column = "timestamp", unit = "s" }
[split]
by = "time"
valid = 0.1
test = 0.1
[[task]]
name = "bought"
column = "bought"
[[feature]]
name = "user"
side = "user"
kind = "categorical"
[[feature]]
name = "x"
side = "context"
kind = "numeric"
[[feature]]
name = "COLUMN"
side = "context"
kind = "numeric"
[model]
name = "lr"
"#;

#[test]
fn a_planted_future_count_is_found_in_the_file_and_in_the_prepared_folder_and_its_honest_twin_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for seed in 1..4 {
        let logs = log(seed);
        for (text, column) in logs.into_iter().zip(["next", "past"]) {
            let file = format!("{column}{seed}");
            put(dir, &format!("{file}.csv"), text);
            let recipe = RECIPE.replace("FILE", &format!("{file}.csv")).replace("COLUMN", column);
            put(dir, "recipe.toml", recipe);
            let prepared = run(dir, &format!("data prepare recipe.toml --data . --out {file} --quiet"));
            assert!(prepared.status.success(), "{prepared:?}");
            for input in [format!("{file}.csv"), file] {
                let (status, report) = inspect(dir, &input);
                match column {
                    "next" => {
                        assert_eq!(
                            (status, findings(&report)),
                            (Some(1), vec![("future", "next")]),
                            "{report}"
                        );
                    }
                    _ => assert_eq!((status, findings(&report)), (Some(0), vec![]), "{report}"),
                }
            }
        }
    }
}

#[test]
fn the_label_and_the_times_are_guessed_where_one_column_alone_can_be_meant_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let [_, honest] = log(1);
    put(dir, "log.csv", &honest);
    let (status, report) = inspect(dir, "log.csv");
    assert_eq!((status, report["positive"].as_str()), (Some(0), Some("`bought` above 0")));
    let guessed = report["guessed"].to_string();
    assert!(guessed.contains("the label is `bought`") && guessed.contains("are `timestamp`"), "{guessed}");
    let lacking = report["not_checked"].to_string();
    assert!(!lacking.contains("times") && !lacking.contains("fades"), "{lacking}");
    let (_, named) = inspect(dir, "log.csv --label bought --time timestamp");
    assert_eq!(named["guessed"].as_array().unwrap().len(), 0);
    // Two of each, without usual names.
    let mut lines = honest.lines();
    let header = lines.next().unwrap().replace("timestamp", "shown");
    let mut two = format!("{header},closed,seen\n");
    lines.for_each(|line| writeln!(two, "{line},1700000000,{}", line.len() % 2).unwrap());
    put(dir, "two.csv", two);
    refused(
        dir,
        "data inspect two.csv --leakage",
        &["two.csv", "--label", "of 0 and 1 there are bought, seen"],
    );
    let (_, report) = inspect(dir, "two.csv --label bought");
    let lacking = report["not_checked"].to_string();
    assert!(lacking.contains("--time; there are `shown`, `closed`"), "{lacking}");
}

#[test]
fn copies_in_few_rows_are_found_and_a_suspicion_leaves_the_status_at_zero() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut next = numbers(3);
    let rows: Vec<(bool, f64)> = (0..120).map(|i| (i % 7 == 3, next())).collect();
    let of = |rule: &dyn Fn(bool) -> u8| {
        let lines = rows.iter().map(|(y, x)| format!("{x:.3},{},{}\n", u8::from(*y), rule(*y)));
        format!("x,label,copy\n{}", lines.collect::<String>())
    };
    for (name, copy) in [("copy.csv", of(&|y| u8::from(y))), ("inverse.csv", of(&|y| 5 - u8::from(y)))] {
        put(dir, name, copy);
        let (status, report) = inspect(dir, name);
        assert_eq!((status, findings(&report)), (Some(1), vec![("label_copy", "copy")]), "{report}");
        assert!(report["not_checked"][0].as_str().unwrap().contains("17 rows of the rarer class"));
    }
    let mut strong = "label,score\n".to_owned();
    for row in 0..4000 {
        let y = row % 5 == 0;
        writeln!(strong, "{},{:.4}", u8::from(y), next() + next() + next() + if y { 1.1 } else { 0.0 })
            .unwrap();
    }
    put(dir, "strong.csv", strong);
    let (status, report) = inspect(dir, "strong.csv");
    assert_eq!((status, findings(&report)), (Some(0), vec![]), "{report}");
    assert_eq!(report["suspicious"][0]["kind"], "strong");
    let shown = run(dir, "data inspect strong.csv --leakage --quiet");
    assert!(String::from_utf8(shown.stdout).unwrap().contains("SUSPICIOUS (strong) `score`"));
}

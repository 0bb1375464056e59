//! Text straight to batches: the same as by frames and the encoder, whatever the files look like.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_data::config::DatasetConfig;
use millstream_data::logs::{self, LogFormat};
use millstream_data::{Direct, DirectFiles, DirectOptions, DirectRows};
use millstream_schema::encode::{FIRST, MISSING};
use millstream_schema::{BadValues, Batch, BatchSource, Column, Encoder, Fitter, Frame, IdMap, Policy, Side};

const SIDES: [Side; 4] = [Side::User, Side::Context, Side::Item, Side::Exposure];

const FEATURES: &str = r#"
[[feature]]
name = "city"
side = "user"
kind = "categorical"
encoding = "hash"
[[feature]]
name = "ad"
side = "item"
kind = "categorical"
encoding = "hash"
buckets = 50
default = "none"
[[feature]]
name = "count"
side = "context"
kind = "numeric"
transform = "log2_bins"
bins = 2
[[feature]]
name = "age"
column = "count"
side = "context"
kind = "numeric"
transform = "edges"
edges = [0, 3, 10.5]
default = 4
[[feature]]
name = "price"
side = "exposure"
kind = "numeric"
transform = "log"
[[feature]]
name = "plain"
column = "price"
side = "item"
kind = "numeric"
transform = "raw"
default = -1
"#;

const HEAD: &str = "[dataset]\nkind = 'table'\n[dataset.table]\nall = ['a.tsv']\ngroup = 'city'\n[[task]]\nname = 'y'\ncolumn = 'y'\ndrop = [9]\n";

fn config(extra: &str) -> DatasetConfig {
    DatasetConfig::parse(&format!("{HEAD}{FEATURES}{extra}"), "a.toml").unwrap()
}

/// Cells that are awkward in every column; about one label in ten is dropped.
fn cell(column: usize, state: &mut u64) -> String {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let draw = (*state >> 33) as usize;
    let names = ["Lyon", "Turin", "", " Lyon ", "Düsseldorf", "a,b", "\u{a0}x", "0"];
    let numbers =
        ["0", "1", "7", "-3", "", " 12 ", "1e3", "4.5", "1024", "99999999999999999999", "-0", "2000000"];
    match column {
        0 => ["0", "1", "0", "1", "0.0", "0", "1", "0", "9", "0"][draw % 10].into(),
        1 => names[draw % 8].into(),
        2 => format!("ad{}", draw % 300),
        _ => numbers[draw % 12].into(),
    }
}

fn rows(count: usize, separator: &str, quote: bool) -> String {
    let (mut state, mut out) = (3, ["y", "city", "ad", "count", "price"].join(separator) + "\n");
    for row in 0..count {
        for column in 0..5 {
            let cell = cell(column, &mut state);
            let odd = quote && (cell.contains(separator) || row % 7 == column);
            let cell = if odd { format!("\"{}\"", cell.replace('y', "\n")) } else { cell };
            write!(out, "{}{cell}", if column == 0 { "" } else { separator }).unwrap();
        }
        out.push_str(if row % 11 == 0 { "\r\n" } else { "\n" });
        if row % 13 == 0 {
            out.push('\n');
        }
    }
    out
}

fn source(paths: &[&Path], config: &DatasetConfig, options: DirectOptions) -> Direct {
    let files = DirectFiles {
        paths: paths.iter().map(PathBuf::from).collect(),
        format: config.dataset.table.as_ref().unwrap().log_format(),
    };
    let rows = DirectRows {
        encoder: Arc::new(Encoder::without_fitting(&config.schema).unwrap()),
        tasks: config.tasks.clone(),
        group: Some("city".into()),
    };
    Direct::start(files, rows, options).unwrap()
}

fn all(mut source: Direct) -> Result<(Vec<Batch>, BadValues, u64), String> {
    let mut batches = Vec::new();
    while let Some(batch) = source.next_batch().map_err(|e| e.to_string())? {
        batches.push(batch);
    }
    Ok((batches, source.bad_values().clone(), source.position()))
}

/// Columns and labels of the kept rows by way of a frame and the encoder; rows of the file; bad values.
fn careful(path: &Path, config: &DatasetConfig) -> (Vec<Column>, Vec<f32>, u64, BadValues) {
    let mut reader = logs::open(path, &LogFormat::default()).unwrap();
    let mut frame = reader.frame();
    while reader.read(&mut frame, 1000).unwrap() > 0 {}
    let mut kept = Frame::new(frame.source(), frame.columns());
    let mut labels = Vec::new();
    for row in 0..frame.rows() {
        let cells: Vec<&str> = (0..5).map(|c| frame.get(row, c)).collect();
        if cells[0] != "9" {
            labels.push(cells[0].parse().unwrap());
            kept.push_row(frame.line(row), &cells);
        }
    }
    let mut bad = BadValues::new(Policy::Count);
    let columns = Encoder::without_fitting(&config.schema).unwrap().encode(&SIDES, &kept, &mut bad).unwrap();
    (columns.columns, labels, frame.rows() as u64, bad)
}

fn joined(batches: &[Batch]) -> (Vec<Column>, Vec<f32>) {
    let mut columns = batches[0].columns.clone();
    for batch in &batches[1..] {
        columns.iter_mut().zip(&batch.columns).for_each(|(a, b)| a.append(b).unwrap());
    }
    (columns, batches.iter().flat_map(|b| b.labels.clone()).collect())
}

fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn rows_are_those_of_frame_and_encoder() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("");
    for (name, separator, quote) in
        [("a.tsv", "\t", false), ("a.csv", ",", true), ("a.txt", "::", false), ("b.csv", ";", true)]
    {
        let text = rows(3000, separator, quote);
        let path = write(dir.path(), name, &text);
        let mut config = config.clone();
        if separator == ";" {
            config.dataset.table.as_mut().unwrap().delimiter = Some(";".into());
        }
        let (batches, bad, position) =
            all(source(&[&path], &config, DirectOptions { batch_size: 257, ..Default::default() })).unwrap();
        let format = config.dataset.table.as_ref().unwrap().log_format();
        let mut reader = logs::open(&path, &format).unwrap();
        let mut frame = reader.frame();
        while reader.read(&mut frame, 1000).unwrap() > 0 {}
        let tsv = write(dir.path(), "plain.jsonl", &as_json(&frame));
        let (columns, labels, read, counted) = careful(&tsv, &config);
        let (got, got_labels) = joined(&batches);
        assert_eq!(got, columns, "{name}");
        assert_eq!(got_labels, labels, "{name}");
        assert_eq!(position, read);
        assert_eq!(bad.total(), counted.total());
        assert!(bad.total() == 0, "every number here is one: {bad}");
        assert!(batches.iter().all(|b| b.candidates() <= 257 && b.requests == b.candidates()));
    }
}

/// The same cells in a form without separators or quotes to go wrong.
fn as_json(frame: &Frame) -> String {
    let mut out = String::new();
    for row in 0..frame.rows() {
        let cells: Vec<String> = (frame.columns().iter().enumerate())
            .map(|(c, name)| format!("{name:?}: {:?}", frame.get(row, c)))
            .collect();
        writeln!(out, "{{{}}}", cells.join(", ").replace("\\u{a0}", "\u{a0}")).unwrap();
    }
    out
}

#[test]
fn packed_and_split_files_give_the_same_rows_as_one_plain_file() {
    let dir = tempfile::tempdir().unwrap();
    let (config, text) = (config(""), rows(2000, "\t", false));
    let options = DirectOptions { batch_size: 100, ..Default::default() };
    let one = all(source(&[&write(dir.path(), "a.tsv", &text)], &config, options)).unwrap();
    let packed = {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gz, text.as_bytes()).unwrap();
        gz.finish().unwrap()
    };
    std::fs::write(dir.path().join("a.tsv.gz"), packed).unwrap();
    std::fs::write(dir.path().join("a.tsv.zst"), zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
    for name in ["a.tsv.gz", "a.tsv.zst"] {
        let got = all(source(&[&dir.path().join(name)], &config, options)).unwrap();
        assert_eq!(joined(&got.0), joined(&one.0), "{name}");
    }
    let head = text.lines().next().unwrap();
    let cut = text.char_indices().filter(|(_, c)| *c == '\n').nth(900).unwrap().0 + 1;
    let first = write(dir.path(), "1.tsv", &text[..cut]);
    let second = write(dir.path(), "2.tsv", &format!("{head}\n{}", &text[cut..]));
    let got = all(source(&[&first, &second], &config, options)).unwrap();
    assert_eq!(joined(&got.0), joined(&one.0));
    assert_eq!(got.2, one.2);
}

#[test]
fn reading_goes_on_where_it_was_broken_off() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("");
    let (a, b) = (rows(1500, "\t", false), rows(700, "\t", false));
    let paths = [write(dir.path(), "a.tsv", &a), write(dir.path(), "b.tsv", &b)];
    let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let options = DirectOptions { batch_size: 64, ..Default::default() };
    let (whole, _, end) = all(source(&paths, &config, options)).unwrap();
    for stop in [1, 7, 23, 30] {
        let mut begun = source(&paths, &config, options);
        let mut batches: Vec<Batch> = (0..stop).map(|_| begun.next_batch().unwrap().unwrap()).collect();
        let skip_rows = begun.position();
        drop(begun);
        let (rest, _, position) =
            all(source(&paths, &config, DirectOptions { skip_rows, ..options })).unwrap();
        batches.extend(rest);
        assert_eq!(joined(&batches), joined(&whole), "broken off after {stop}");
        assert_eq!(position, end);
        let groups = |b: &[Batch]| b.iter().flat_map(|b| b.group.clone()).collect::<Vec<u32>>();
        assert_eq!(groups(&batches), groups(&whole));
    }
}

#[test]
fn files_that_end_among_the_rows_to_leave_out_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("");
    let path = write(dir.path(), "a.tsv", &rows(100, "\t", false));
    let after = |skip_rows| {
        let options = DirectOptions { batch_size: 64, skip_rows, ..Default::default() };
        all(source(&[&path], &config, options)).map(|found| found.0.len())
    };
    assert_eq!(after(100), Ok(0));
    let said = after(101).unwrap_err();
    assert!(said.contains("a.tsv: 100 rows, but 101 were learned from before"), "{said}");
}

#[test]
fn other_kinds_of_feature_take_the_careful_road() {
    let cross = "[[feature]]\nname = 'both'\nkind = 'cross'\nof = ['city', 'ad']\n";
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.tsv", &rows(500, "\t", false));
    let (plain, crossed) = (config(""), config(cross));
    let options = DirectOptions { batch_size: 64, ..Default::default() };
    let quick = all(source(&[&path], &plain, options)).unwrap();
    let slow = all(source(&[&path], &crossed, options)).unwrap();
    assert_eq!(quick.0.len(), slow.0.len());
    for (a, b) in quick.0.iter().zip(&slow.0) {
        assert_eq!(a.columns, b.columns[..6]);
        assert!(matches!(&b.columns[6], Column::Key(keys) if keys.len() == b.candidates()));
        assert_eq!((&a.labels, &a.group, a.requests), (&b.labels, &b.group, b.requests));
    }
}

#[test]
fn a_fitted_vocabulary_is_looked_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.tsv", "y\tcity\n0\tLyon\n1\tOslo\n0\t\n1\tTurin\n");
    let text = "[dataset]\nkind = 'table'\n[dataset.table]\nall = ['a.tsv']\n[[task]]\nname = 'y'\ncolumn = 'y'\n\
                [[feature]]\nname = 'city'\nside = 'user'\nkind = 'categorical'\n";
    let config = DatasetConfig::parse(text, "a.toml").unwrap();
    let refused = Encoder::without_fitting(&config.schema).unwrap_err().to_string();
    assert!(refused.contains("`city`") && refused.contains("encoding = \"hash\""), "{refused}");
    let mut frame = Frame::new("before", &["city"]);
    ["Turin", "Lyon", "Lyon"].iter().for_each(|city| frame.push_row(1, &[city]));
    let mut fitter = Fitter::new(&config.schema);
    fitter.observe(&[Side::User], &frame).unwrap();
    let rows =
        DirectRows { encoder: Arc::new(fitter.finish().unwrap()), tasks: config.tasks.clone(), group: None };
    let files = DirectFiles { paths: vec![path], format: LogFormat::default() };
    let (batches, ..) = all(Direct::start(files, rows, DirectOptions::default()).unwrap()).unwrap();
    assert_eq!(batches[0].columns, [Column::Key(vec![FIRST, 1, MISSING, FIRST + 1])]);
    assert_eq!(batches[0].group, [u32::MAX; 4]);
}

#[test]
fn what_is_wrong_is_said_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("");
    let head = "y\tcity\tad\tcount\tprice\n0\ta\tb\t1\t2\n\n";
    let lenient = DirectOptions::default();
    let strict = DirectOptions { strict: true, ..lenient };
    let run = |text: &str, options| {
        let path = write(dir.path(), "a.tsv", text);
        all(source(&[&path], &config, options)).map(|(batches, bad, _)| (batches, bad.to_string()))
    };
    let bad_number = format!("{head}1\ta\tb\tx1\t2\n");
    let error = run(&bad_number, strict).unwrap_err();
    assert!(error.ends_with("a.tsv:4 column `count`: not a number (`x1`)"), "{error}");
    let (batches, counted) = run(&bad_number, lenient).unwrap();
    assert!(counted.contains("count: not a number") && counted.contains("a.tsv:4"), "{counted}");
    // The bad number is the default, 0 and 4, and no missing value.
    assert_eq!(batches[0].columns[2], Column::Key(vec![FIRST + 4, FIRST]));
    assert_eq!(batches[0].columns[3], Column::Key(vec![2, 3]));
    let error = run(&format!("{head}1\ta\tb\n"), lenient).unwrap_err();
    assert!(error.ends_with("a.tsv:4: line has 3 columns, expected 5"), "{error}");
    let error = run(&format!("{head}yes\ta\tb\t1\t2\n"), lenient).unwrap_err();
    assert!(error.contains("a.tsv:4: label column `y`: `yes` is neither 0 nor 1"), "{error}");
    let path = write(dir.path(), "b.tsv", "y\tcity\tad\tcuont\tprice\n0\ta\tb\t1\t2\n");
    let error = all(source(&[&path], &config, lenient)).unwrap_err();
    assert!(error.contains("b.tsv: feature `count`") && error.contains("did you mean `cuont`?"), "{error}");
    let path = write(dir.path(), "c.csv", "y,city,ad,count,price\n0,a,b,1,2\n0,\"a,b,1,2\n");
    let error = all(source(&[&path], &config, lenient)).unwrap_err();
    assert!(error.contains("c.csv:3: a quoted cell is not closed"), "{error}");
    let error = all(source(&[&dir.path().join("none.tsv")], &config, lenient)).unwrap_err();
    assert!(error.contains("no such file"), "{error}");
}

#[test]
fn groups_have_a_number_of_their_own_each() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.tsv", &rows(800, "\t", false));
    let (batches, ..) = all(source(&[&path], &config(""), DirectOptions::default())).unwrap();
    let mut reader = logs::open(&path, &LogFormat::default()).unwrap();
    let mut frame = reader.frame();
    while reader.read(&mut frame, 1000).unwrap() > 0 {}
    let kept = (0..frame.rows()).filter(|&row| frame.get(row, 0) != "9");
    let (mut ids, mut numbers) = (IdMap::default(), IdMap::default());
    let got: Vec<u32> = batches.iter().flat_map(|b| b.group.clone()).collect();
    for (row, number) in kept.zip(got) {
        let city = frame.get(row, 1).trim();
        assert_eq!(number == u32::MAX, city.is_empty());
        assert_eq!(ids.insert(city), numbers.insert(&number.to_string()));
    }
}

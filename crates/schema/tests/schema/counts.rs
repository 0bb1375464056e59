use super::*;

use millstream_schema::{BadValues, IdMap, Policy};

fn prices(cells: &[&str]) -> Frame {
    let mut frame = Frame::new("items.csv", items().columns());
    cells.iter().zip(2..).for_each(|(price, line)| frame.push_row(line, &["i", "c", price]));
    frame
}

#[test]
fn bad_values_are_counted_by_reason_with_the_first_place() {
    let mut bad = BadValues::default();
    let frame = prices(&["1", "abc", "NaN", "xyz", ""]);
    encoder().encode(&[Side::Item], &frame, &mut bad).unwrap();
    // `price` and `price_bin` both read the column.
    assert_eq!(bad.total(), 6);
    let shown = bad.to_string();
    assert!(shown.contains("price: not a number   first: items.csv:3: not a number (`abc`)"), "{shown}");
    assert!(shown.contains("price: not a finite number   first: items.csv:4"), "{shown}");
    let mut both = bad.clone();
    both.merge(&bad);
    assert_eq!(both.total(), 12);
}

#[test]
fn a_strict_policy_names_file_line_and_column() {
    let mut bad = BadValues::new(Policy::Strict);
    let error = encoder().encode(&[Side::Item], &prices(&["1", "abc"]), &mut bad).unwrap_err().to_string();
    assert_eq!(error, "items.csv:3 column `price`: not a number (`abc`)");
}

#[test]
fn a_frame_fills_short_rows_and_can_be_used_again() {
    let mut frame = Frame::new("x.csv", &["a", "b"]);
    frame.push_row(7, &["é"]);
    frame.push_row(9, &["1", "2", "3"]);
    assert_eq!((frame.get(0, 0), frame.get(0, 1), frame.get(1, 1)), ("é", "", "2"));
    assert_eq!((frame.rows(), frame.place(1)), (2, "x.csv:9".to_owned()));
    assert_eq!((frame.column("b"), frame.column("z")), (Some(1), None));
    frame.clear();
    assert_eq!(frame.rows(), 0);
    frame.push_row(1, &["n", "m"]);
    assert_eq!(frame.get(0, 1), "m");
}

#[test]
fn an_id_map_reads_back_as_it_was() {
    let mut ids = IdMap::new();
    ["b", "a", "b", ""].iter().for_each(|id| {
        ids.insert(id);
    });
    let text = serde_json::to_string(&ids).unwrap();
    assert_eq!(text, r#"["b","a",""]"#);
    let again: IdMap = serde_json::from_str(&text).unwrap();
    assert_eq!((again.get("a"), again.get("z"), again.name(9), again.len()), (Some(1), None, "", 3));
}

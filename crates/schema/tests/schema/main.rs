//! Encoding and assembling from outside: a schema with every kind of feature, worked out by hand.
#![allow(clippy::unwrap_used)]

mod assemble;
mod counts;
mod encode;
mod examples;
mod tables;

use std::sync::Arc;

use millstream_schema::examples::Action;
use millstream_schema::{Assembler, Column, Columns, Encoder, Examples, Fitter, Frame, Schema, Side};

/// Users, items and contexts that `every_kind.toml` is fitted on. Items repeat, so that some ids reach `min_count`.
fn users() -> Frame {
    let mut frame = Frame::new("users.csv", &["user_id", "age"]);
    frame.push_row(2, &["anna", "17"]);
    frame.push_row(3, &["bo", "30"]);
    frame.push_row(4, &["cy", ""]);
    frame
}

fn items() -> Frame {
    let names = ["item_id", "category", "price", "tags", "vector", "title"];
    let mut frame = Frame::new("items.csv", &names);
    frame.push_row(2, &["i0", "toys", "0", "red:2|old", "1 2 3", "The Étoile, 2"]);
    frame.push_row(3, &["i1", "toys", "1", "", "0.5 0 -1", ""]);
    frame.push_row(4, &["i2", "books", "3", "red:0.5", "", "etoile the"]);
    frame.push_row(5, &["i3", "", "7", "a|b|c", "1 1 1", "x"]);
    frame
}

fn contexts(hours: &[&str]) -> Frame {
    let mut frame = Frame::new("log.csv", &["hour"]);
    hours.iter().zip(2..).for_each(|(hour, line)| frame.push_row(line, &[hour]));
    frame
}

fn every_kind() -> Schema {
    include_str!("../every_kind.toml").parse().unwrap()
}

/// Fitted on the items, i0 and i1 met twice, and on two hours.
fn encoder() -> Arc<Encoder> {
    let mut fitter = Fitter::new(&every_kind());
    fitter.observe(&[Side::User], &users()).unwrap();
    fitter.observe(&[Side::Item], &items()).unwrap();
    let mut again = Frame::new("items.csv", items().columns());
    for row in 0..2 {
        let items = items();
        let cells: Vec<&str> = (0..6).map(|c| items.get(row, c)).collect();
        again.push_row(9, &cells);
    }
    fitter.observe(&[Side::Item], &again).unwrap();
    fitter.observe(&[Side::Context], &contexts(&["9", "9", "20"])).unwrap();
    Arc::new(fitter.finish().unwrap())
}

fn encode(side: Side, frame: &Frame) -> Columns {
    encoder().encode(&[side], frame, &mut Default::default()).unwrap()
}

fn assembler() -> Assembler {
    Assembler::new(encoder(), encode(Side::User, &users()), encode(Side::Item, &items())).unwrap()
}

fn place(name: &str) -> usize {
    encoder().field(name).unwrap_or_else(|| panic!("no field {name}"))
}

fn keys(column: &Column) -> &[u64] {
    match column {
        Column::Key(keys) | Column::Keys { keys, .. } => keys,
        Column::Dense { .. } => panic!("dense"),
    }
}

fn row(column: &Column, row: u32) -> Column {
    column.gather(&[row])
}

fn action(item: u32, time_ms: i64, kind: u16) -> Action {
    Action { item, time_ms, kind, value: 1.0 }
}

/// Two known users and a stranger with 2, 1 and 2 candidates, the last one unknown.
fn examples() -> Examples {
    let mut x = Examples {
        request_user: vec![0, 1, u32::MAX],
        request_time_ms: vec![10_000, 20_000, 30_000],
        context: encode(Side::Context, &contexts(&["9", "", "20"])),
        candidate_request: vec![0, 0, 1, 2, 2],
        candidate_item: vec![0, 2, 1, 3, 99],
        labels: vec![1.0, 0.0, 0.0, 1.0, 0.0],
        tasks: 1,
        ..Examples::default()
    };
    // Clicks are 1, impressions 0, orders 3; the sequence takes the last three clicks and orders.
    let long = [
        action(0, 1000, 1),
        action(1, 2000, 0),
        action(2, 3000, 3),
        action(3, 9000, 1),
        action(1, 10_000, 1),
    ];
    x.history.push(long);
    x.history.push([]);
    x.history.push([action(77, 29_000, 1)]);
    x
}

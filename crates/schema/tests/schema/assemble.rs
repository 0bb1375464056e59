use super::*;

use millstream_schema::Rows;
use millstream_schema::assemble::gap_key;
use millstream_schema::encode::{FIRST, MISSING};

#[test]
fn user_fields_come_once_per_request_and_item_fields_once_per_candidate() {
    let x = examples();
    let batch = assembler().batch(&x).unwrap();
    assert_eq!((batch.requests, batch.candidates()), (3, 5));
    for (field, column) in encoder().fields().iter().zip(&batch.columns) {
        let rows = if field.rows == Rows::Request { 3 } else { 5 };
        assert_eq!(column.rows(), rows, "{}", field.name);
        column.check(rows).unwrap();
    }
    assert_eq!(batch.group, [0, 0, 1, u32::MAX, u32::MAX]);
    assert_eq!(batch.item, x.candidate_item);
    assert_eq!(batch.labels, x.labels);
}

#[test]
fn joined_fields_are_those_of_the_catalogue_rows() {
    let batch = assembler().batch(&examples()).unwrap();
    let items = encode(Side::Item, &items());
    for name in ["item_id", "category", "price", "price_bin", "tags", "vector", "title"] {
        let of_items = items.get(place(name) as u32).unwrap();
        for (candidate, item) in [(0, 0), (1, 2), (2, 1), (3, 3)] {
            assert_eq!(row(&batch.columns[place(name)], candidate), row(of_items, item), "{name}");
        }
    }
}

#[test]
fn strangers_have_every_feature_missing() {
    let batch = assembler().batch(&examples()).unwrap();
    assert_eq!(keys(&batch.columns[place("user_id")])[2], MISSING);
    assert_eq!(keys(&batch.columns[place("item_id")])[4], MISSING);
    assert_eq!(row(&batch.columns[place("vector")], 4), Column::Dense { width: 3, values: vec![0.0; 3] });
    assert!(keys(&row(&batch.columns[place("tags")], 4)).is_empty());
}

#[test]
fn sequences_take_the_latest_actions_of_their_kinds_oldest_first() {
    let batch = assembler().batch(&examples()).unwrap();
    let ids = encode(Side::Item, &items());
    let ids = keys(ids.get(place("item_id") as u32).unwrap());
    let Column::Keys { offsets, keys: got, weights: None } = &batch.columns[place("clicks.item_id")] else {
        panic!()
    };
    // Of i0 click, i1 impression, i2 order, i3 click, i1 click: the last three that are no impression.
    assert_eq!(offsets, &[0, 3, 3, 4]);
    assert_eq!(got[..3], [ids[2], ids[3], ids[1]]);
    assert_eq!(got[3], MISSING, "an item that the catalogue does not hold");
}

#[test]
fn gaps_are_logarithmic_buckets_of_seconds() {
    let batch = assembler().batch(&examples()).unwrap();
    // Seven seconds, one second, none; then one second.
    let wanted = [FIRST + 3, FIRST + 1, FIRST, FIRST + 1];
    assert_eq!(keys(&batch.columns[place("clicks.gap")]), wanted);
    assert_eq!(gap_key(-5), FIRST, "an action after the request is no gap");
    assert_eq!(gap_key(i64::MAX), FIRST + 30);
}

#[test]
fn sessions_end_where_nothing_happens_for_longer_and_are_counted_back() {
    let schema: Schema = "[[feature]]\nname='i'\nside='item'\nkind='categorical'\n\
        [[feature]]\nname='s'\nkind='sequence'\nelements=['i']\nmax_len=4\nsession_gap_mins=30\n"
        .parse()
        .unwrap();
    let encoder = Arc::new(Fitter::new(&schema).finish().unwrap());
    let place = encoder.field("s.session").unwrap();
    assert_eq!(encoder.fields()[place].size, Some(FIRST + 4));
    assert_eq!(encoder.field("s.gap"), None);
    let mut frame = Frame::new("items", &["i"]);
    frame.push_row(1, &["a"]);
    let items = encoder.encode(&[Side::Item], &frame, &mut Default::default()).unwrap();
    let assembler = Assembler::new(encoder, Columns::default(), items).unwrap();
    let sessions = |minutes: &[i64]| {
        let mut x = Examples { request_user: vec![0], request_time_ms: vec![0], ..Examples::default() };
        let action = |m: &i64| Action { item: 0, time_ms: m.saturating_mul(60_000), kind: 1, value: 1.0 };
        x.history.push(minutes.iter().map(action));
        let batch = assembler.batch(&x).unwrap();
        let Column::Keys { keys, .. } = &batch.columns[place] else { panic!() };
        keys.iter().map(|key| key - FIRST).collect::<Vec<u64>>()
    };
    // Half an hour to the minute is no end; the first action is beyond the latest four.
    assert_eq!(sessions(&[0, 5, 36, 66, 97]), [2, 1, 1, 0]);
    assert_eq!(sessions(&[7, 7, 7]), [0, 0, 0]);
    assert_eq!(sessions(&[]), [0u64; 0]);
    assert_eq!(sessions(&[i64::MIN, 0, i64::MAX]), [2, 1, 0]);
    assert_eq!(sessions(&[50, 0]), [0, 0], "out of order, nothing lies between");
}

#[test]
fn intervals_are_between_neighbours_whenever_the_request_comes() {
    let text = include_str!("../every_kind.toml").replace("gap = true", "gap = true\ninterval = true");
    let mut fitter = Fitter::new(&text.parse().unwrap());
    fitter.observe(&[Side::User], &users()).unwrap();
    fitter.observe(&[Side::Item], &items()).unwrap();
    fitter.observe(&[Side::Context], &contexts(&["9"])).unwrap();
    let encoder = Arc::new(fitter.finish().unwrap());
    let columns = |side, frame: &Frame| encoder.encode(&[side], frame, &mut Default::default()).unwrap();
    let assembler =
        Assembler::new(encoder.clone(), columns(Side::User, &users()), columns(Side::Item, &items()))
            .unwrap();
    let place = encoder.field("clicks.interval").unwrap();
    let mut x = examples();
    x.context = columns(Side::Context, &contexts(&["9", "9", "9"]));
    // The first that is taken up has none before it; then six seconds and one; then a first one again.
    let wanted = [MISSING, FIRST + 2, FIRST + 1, MISSING];
    for later_ms in [0, 1_000_000] {
        x.request_time_ms.iter_mut().for_each(|t| *t += later_ms);
        assert_eq!(keys(&assembler.batch(&x).unwrap().columns[place]), wanted);
    }
    x.history.time_ms.fill(i64::MIN);
    x.history.time_ms[3] = i64::MAX;
    assert_eq!(keys(&assembler.batch(&x).unwrap().columns[place])[1], FIRST + 30);
}

#[test]
fn absurd_times_do_not_overflow() {
    let mut x = examples();
    x.request_time_ms = vec![i64::MAX, i64::MIN, i64::MIN];
    x.history.time_ms.fill(i64::MIN);
    let batch = assembler().batch(&x).unwrap();
    assert_eq!(keys(&batch.columns[place("clicks.gap")])[0], FIRST + 30);
}

#[test]
fn a_cross_is_one_key_for_each_pair_of_values() {
    let batch = assembler().batch(&examples()).unwrap();
    let crossed = keys(&batch.columns[place("user_category")]);
    assert_eq!(crossed.len(), 5);
    let distinct: std::collections::BTreeSet<u64> = crossed.iter().copied().collect();
    assert_eq!(distinct.len(), 4);
    assert_eq!(crossed[3], crossed[4], "a stranger with a missing category, twice");
    let mut same = examples();
    same.candidate_item = vec![0, 1, 1, 3, 99];
    let crossed = assembler().batch(&same).unwrap();
    let crossed = keys(&crossed.columns[place("user_category")]).to_vec();
    assert_eq!(crossed[0], crossed[1], "i0 and i1 are both toys");
    assert_ne!(crossed[1], crossed[2], "another user");
}

#[test]
fn a_cross_with_lists_pairs_every_element() {
    let schema: Schema = "[[feature]]\nname='u'\nside='user'\nkind='categorical'\n\
        [[feature]]\nname='tags'\nside='item'\nkind='multi'\n\
        [[feature]]\nname='x'\nkind='cross'\nof=['u','tags']\nbuckets=50\n"
        .parse()
        .unwrap();
    let mut frame = Frame::new("x", &["u", "tags"]);
    frame.push_row(1, &["a", "p|q|r"]);
    frame.push_row(2, &["b", ""]);
    let mut fitter = Fitter::new(&schema);
    fitter.observe(&[Side::User, Side::Item], &frame).unwrap();
    let encoder = Arc::new(fitter.finish().unwrap());
    let side = |side| encoder.encode(&[side], &frame, &mut Default::default()).unwrap();
    let assembler = Assembler::new(encoder.clone(), side(Side::User), side(Side::Item)).unwrap();
    let mut x =
        Examples { request_user: vec![0, 1], request_time_ms: vec![0, 0], tasks: 0, ..Examples::default() };
    x.candidate_request = vec![0, 0, 1];
    x.candidate_item = vec![0, 1, 0];
    x.history.push([]);
    x.history.push([]);
    let batch = assembler.batch(&x).unwrap();
    let Column::Keys { offsets, keys, .. } = &batch.columns[2] else { panic!() };
    assert_eq!(offsets, &[0, 3, 3, 6]);
    assert!(keys.iter().all(|&k| (FIRST..52).contains(&k)));
}

/// What training and serving rely on: company in a batch changes nothing.
#[test]
fn a_request_alone_gives_the_rows_it_has_in_a_batch() {
    let (x, assembler) = (examples(), assembler());
    let whole = assembler.batch(&x).unwrap();
    let candidates = [vec![0, 1], vec![2], vec![3, 4]];
    for request in 0..3u32 {
        let alone = assembler.batch(&x.gather(&[request])).unwrap();
        for (field, (one, all)) in encoder().fields().iter().zip(alone.columns.iter().zip(&whole.columns)) {
            let wanted = match field.rows {
                Rows::Request => all.gather(&[request]),
                Rows::Candidate => all.gather(&candidates[request as usize]),
            };
            assert_eq!(*one, wanted, "{} of request {request}", field.name);
        }
    }
}

#[test]
fn a_plain_table_needs_no_catalogue() {
    let schema: Schema = "[[feature]]\nname='u'\nside='context'\nkind='categorical'\n\
        [[feature]]\nname='p'\nside='exposure'\nkind='numeric'\ntransform='raw'\n"
        .parse()
        .unwrap();
    let mut frame = Frame::new("x", &["u", "p"]);
    frame.push_row(1, &["a", "1.5"]);
    frame.push_row(2, &["b", "2.5"]);
    let mut fitter = Fitter::new(&schema);
    fitter.observe(&[Side::Context, Side::Exposure], &frame).unwrap();
    let encoder = Arc::new(fitter.finish().unwrap());
    let side = |side| encoder.encode(&[side], &frame, &mut Default::default()).unwrap();
    let mut x = Examples {
        request_user: vec![u32::MAX; 2],
        request_time_ms: vec![0; 2],
        context: side(Side::Context),
        exposure: side(Side::Exposure),
        candidate_request: vec![0, 1],
        ..Examples::default()
    };
    x.history.push([]);
    x.history.push([]);
    x.check().unwrap();
    let assembler = Assembler::new(encoder, Columns::default(), Columns::default()).unwrap();
    let batch = assembler.batch(&x).unwrap();
    assert_eq!(batch.columns[1], Column::Dense { width: 1, values: vec![1.5, 2.5] });
    assert_eq!((assembler.users(), assembler.items()), (0, 0));
}

#[test]
fn examples_without_their_context_are_refused() {
    let mut x = examples();
    x.context = Columns::default();
    let error = assembler().batch(&x).unwrap_err().to_string();
    assert_eq!(error, "field `hour` has no column");
}

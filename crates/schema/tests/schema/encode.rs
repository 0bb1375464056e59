use super::*;

use millstream_schema::encode::{FIRST, MISSING, UNKNOWN};
use millstream_schema::{BadValues, Pool, Rows, Shape};

fn column(side: Side, frame: &Frame, name: &str) -> Column {
    encode(side, frame).get(place(name) as u32).unwrap().clone()
}

#[test]
fn fields_come_in_order_with_rows_shapes_and_key_spaces() {
    let encoder = encoder();
    let shown: Vec<(&str, Rows, Shape, Option<&str>)> =
        encoder.fields().iter().map(|f| (f.name.as_str(), f.rows, f.shape, f.space.as_deref())).collect();
    use {Rows::Candidate as N, Rows::Request as R, Shape::*};
    let wanted = [
        ("user_id", R, Key, Some("user_id")),
        ("age", R, Key, Some("age")),
        ("item_id", N, Key, Some("item_id")),
        ("category", N, Key, Some("category")),
        ("price", N, Dense(1), None),
        ("price_bin", N, Key, Some("price_bin")),
        ("tags", N, Keys, Some("tags")),
        ("vector", N, Dense(3), None),
        ("title", N, Keys, Some("title")),
        ("hour", R, Key, Some("hour")),
        ("clicks.item_id", R, Keys, Some("item_id")),
        ("clicks.category", R, Keys, Some("category")),
        ("clicks.gap", R, Keys, Some("clicks.gap")),
        ("user_category", N, Key, Some("user_category")),
        ("tag_match", N, Dense(2), None),
    ];
    assert_eq!(shown, wanted);
    assert_eq!(encoder.fields()[place("tags")].pool, Pool::Sum);
    assert_eq!(encoder.fields()[place("tags")].size, Some(1002));
    assert_eq!(encoder.fields()[place("item_id")].size, Some(4));
    assert_eq!(encoder.fields()[place("clicks.gap")].size, Some(33));
}

#[test]
fn vocabularies_count_down_and_know_missing_from_unknown() {
    let mut frame = Frame::new("x", items().columns());
    for id in ["i0", "i1", "i2", "never", "", " i0 "] {
        frame.push_row(1, &[id]);
    }
    // i0 and i1 were met twice; i2 only once, below min_count.
    let wanted = [FIRST, FIRST + 1, UNKNOWN, UNKNOWN, MISSING, FIRST];
    assert_eq!(keys(&column(Side::Item, &frame, "item_id")), wanted);
}

#[test]
fn a_default_stands_for_a_missing_category() {
    // `toys` (4 times) before `books` (once); the default `none` is not in the vocabulary.
    assert_eq!(keys(&column(Side::Item, &items(), "category")), [FIRST, FIRST, FIRST + 1, UNKNOWN]);
}

#[test]
fn hashed_ids_do_not_depend_on_what_was_fitted() {
    let got = column(Side::User, &users(), "user_id");
    let again = column(Side::User, &users(), "user_id");
    assert_eq!(got, again);
    let hash = |s: &str| xxhash_rust::xxh3::xxh3_64_with_seed(s.as_bytes(), 0);
    assert_eq!(keys(&got), [hash("anna"), hash("bo"), hash("cy")]);
}

#[test]
fn numbers_become_logs_and_buckets() {
    let Column::Dense { width: 1, values } = column(Side::Item, &items(), "price") else { panic!() };
    let wanted = [0.0, 2f32.ln(), 4f32.ln(), 8f32.ln()];
    assert!(values.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{values:?}");
    // Fitted on 0 1 3 7 0 1: sorted 0 0 1 1 3 7, edges at places 1, 3, 4: 0, 1, 3.
    assert_eq!(keys(&column(Side::Item, &items(), "price_bin")), [2, 3, 4, 4]);
    // Edges 18, 30, 50: below the first is 1, an edge belongs to the bucket above, empty is missing.
    assert_eq!(keys(&column(Side::User, &users(), "age")), [1, 3, MISSING]);
}

#[test]
fn lists_have_weights_and_any_length() {
    let Column::Keys { offsets, keys, weights } = column(Side::Item, &items(), "tags") else { panic!() };
    assert_eq!(offsets, [0, 2, 2, 3, 6]);
    assert_eq!(weights.unwrap(), [2.0, 1.0, 0.5, 1.0, 1.0, 1.0]);
    assert_eq!(keys[0], keys[2], "`red` has one key");
    assert!(keys.iter().all(|&k| (FIRST..1002).contains(&k)));
}

#[test]
fn texts_are_words_in_lower_case() {
    let Column::Keys { offsets, keys, .. } = column(Side::Item, &items(), "title") else { panic!() };
    assert_eq!(offsets, [0, 3, 3, 5, 6]);
    assert_eq!(keys[0], keys[4], "`The` and `the`");
    assert_ne!(keys[1], keys[3], "`étoile` and `etoile` are two words");
}

#[test]
fn vectors_of_a_wrong_length_are_counted_and_zero() {
    let mut frame = Frame::new("items.csv", items().columns());
    frame.push_row(2, &["i", "", "", "", "1 2"]);
    frame.push_row(3, &["i", "", "", "", "1 x 3"]);
    frame.push_row(4, &["i", "", "", "", "1\u{1f}2\u{1f}3"]);
    let mut bad = BadValues::default();
    let columns = encoder().encode(&[Side::Item], &frame, &mut bad).unwrap();
    let wanted = vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0];
    assert_eq!(columns.get(place("vector") as u32), Some(&Column::Dense { width: 3, values: wanted }));
    assert_eq!(bad.total(), 2);
}

#[test]
fn standardised_numbers_have_mean_zero_and_a_constant_stays_finite() {
    let schema: Schema = "[[feature]]\nname='x'\nside='item'\nkind='numeric'\n[[feature]]\nname='c'\nside='item'\nkind='numeric'\n"
        .parse()
        .unwrap();
    let mut frame = Frame::new("x", &["x", "c"]);
    ["2", "4", "6", "8", "oops"].iter().for_each(|x| frame.push_row(1, &[x, "5"]));
    let mut fitter = Fitter::new(&schema);
    fitter.observe(&[Side::Item], &frame).unwrap();
    let columns = fitter.finish().unwrap().encode(&[Side::Item], &frame, &mut Default::default()).unwrap();
    let Column::Dense { values, .. } = &columns.columns[0] else { panic!() };
    let s = 5f32.sqrt();
    let wanted = [-3.0 / s, -1.0 / s, 1.0 / s, 3.0 / s, -5.0 / s];
    assert!(values.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{values:?}");
    assert_eq!(columns.columns[1], Column::Dense { width: 1, values: vec![0.0; 5] });
}

#[test]
fn a_column_that_is_not_there_is_answered_with_the_nearest() {
    let frame = Frame::new("users.csv", &["user", "age"]);
    let error = encoder().encode(&[Side::User], &frame, &mut Default::default()).unwrap_err().to_string();
    assert_eq!(error, "users.csv: feature `user_id`: unknown column `user_id`; did you mean `user`?");
}

#[test]
fn an_encoder_saved_and_reopened_encodes_the_same() {
    let saved = serde_json::to_string(&*encoder()).unwrap();
    let opened: Encoder = serde_json::from_str(&saved).unwrap();
    let again = opened.encode(&[Side::Item], &items(), &mut Default::default()).unwrap();
    assert_eq!(again, encode(Side::Item, &items()));
    assert_eq!(opened.fields(), encoder().fields());
}

#[test]
fn the_order_of_observing_does_not_change_a_vocabulary() {
    let schema: Schema =
        "[[feature]]\nname='c'\nside='item'\nkind='categorical'\nmax_size=2\n".parse().unwrap();
    let fit = |values: &[&str]| {
        let mut frame = Frame::new("x", &["c"]);
        values.iter().for_each(|v| frame.push_row(1, &[v]));
        let mut fitter = Fitter::new(&schema);
        fitter.observe(&[Side::Item], &frame).unwrap();
        serde_json::to_string(&fitter.finish().unwrap()).unwrap()
    };
    assert_eq!(fit(&["a", "b", "c", "c"]), fit(&["c", "b", "c", "a"]));
}

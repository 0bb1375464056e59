//! Rows in place, without locks.
#![allow(clippy::unwrap_used)]

use millstream_store::{
    Admission, DefaultRow, Expiry, Place, RowInit, RowOptim, RowType, Rows, RowsMut, Store, TableConfig,
};

const DIM: usize = 3;

fn optims() -> [RowOptim; 7] {
    [
        RowOptim::AdaGradRowWise { lr: 0.1, eps: 1e-8, initial_accumulator: 0.1 },
        RowOptim::LazyAdam { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
        RowOptim::LazyAdamW { lr: 0.01, beta1: 0.9, beta2: 0.999, eps: 1e-8, decay: 0.1 },
        RowOptim::Momentum { lr: 0.1, momentum: 0.9, nesterov: false },
        RowOptim::AdaGrad { lr: 0.1, eps: 1e-8, initial_accumulator: 0.1 },
        RowOptim::RmsProp { lr: 0.01, alpha: 0.9, eps: 1e-4 },
        RowOptim::Ftrl { alpha: 0.1, beta: 1.0, l1: 0.01, l2: 0.1 },
    ]
}

fn config(optim: RowOptim) -> TableConfig {
    TableConfig { init: RowInit::Uniform(0.1), optim, l2: 0.01, ..TableConfig::new("t", DIM) }
}

fn bytes(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.write_to(&mut bytes).unwrap();
    bytes
}

#[test]
fn updates_in_place_give_the_bits_of_pushes() {
    for optim in optims() {
        let pushed = Store::with_shards(vec![config(optim)], 8).unwrap();
        let mut placed = Store::with_shards(vec![config(optim)], 1).unwrap();
        let table = pushed.table("t").unwrap();
        pushed.set_learning_rate(0.5).unwrap();
        placed.set_learning_rate(0.5).unwrap();
        let mut rows = placed.exclusive();
        let mut places = Vec::new();
        for step in 0..300u64 {
            let keys: Vec<u64> = (0..50).map(|at| (step * 13 + at) % 700).collect();
            let grads: Vec<f32> = (0..50 * DIM).map(|at| ((at as u64 + step) as f32).sin()).collect();
            pushed.push_unique(table, &keys, &grads).unwrap();
            rows.locate(table, &keys, &mut places).unwrap();
            for (&place, grad) in places.iter().zip(grads.chunks(DIM)) {
                rows.update(table, place, grad);
            }
            rows.step();
        }
        assert!(bytes(&pushed) == bytes(&placed), "{optim:?}");
    }
}

#[test]
fn places_stay_good_while_the_table_grows() {
    let mut store = Store::with_shards(vec![config(optims()[0])], 4).unwrap();
    let table = store.table("t").unwrap();
    let mut rows = store.exclusive();
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    let keys: Vec<u64> = (0..1000).collect();
    rows.locate(table, &keys, &mut first).unwrap();
    for (&key, &place) in keys.iter().zip(&first) {
        rows.row(table, place)[0] = key as f32;
    }
    rows.locate(table, &(1000..100_000).collect::<Vec<_>>(), &mut rest).unwrap();
    rows.locate(table, &keys, &mut rest).unwrap();
    assert_eq!(first, rest);
    rows.find(table, &keys, &mut rest).unwrap();
    assert_eq!(first, rest);
    rows.find(table, &[1 << 60], &mut rest).unwrap();
    assert!(rest.len() == 1 && !rest[0].is_some());
    for (&key, &place) in keys.iter().zip(&first) {
        rows.prefetch(table, place);
        assert_eq!(rows.peek(table, place)[0], key as f32);
        assert_eq!(rows.peek(table, place).len(), DIM + 1, "weights and one float of state");
    }
}

#[test]
fn two_rows_and_two_tables_can_be_had_at_once() {
    let tables = vec![config(optims()[0]), TableConfig { name: "u".into(), ..config(optims()[1]) }];
    let mut store = Store::with_shards(tables, 2).unwrap();
    let mut rows = store.exclusive();
    let [t, u] = rows.tables() else { panic!("two tables") };
    let (mut at, mut other) = (Vec::new(), Vec::new());
    t.locate(&(0..400).collect::<Vec<_>>(), &mut at).unwrap();
    u.locate(&[7], &mut other).unwrap();
    for (from, to) in [(0, 1), (5, 399), (399, 5)] {
        let (a, b) = t.pair(at[from], at[to]).unwrap();
        a[0] = from as f32;
        b[0] = to as f32;
        u.row(other[0])[1] = a[0] + b[0];
        assert_eq!((t.peek(at[from])[0], t.peek(at[to])[0]), (from as f32, to as f32));
        assert_eq!(u.peek(other[0])[1], (from + to) as f32);
    }
    assert!(t.pair(at[3], at[3]).is_none() && t.pair(at[3], Place::NONE).is_none());
}

#[test]
fn a_key_not_yet_admitted_has_a_spare_row_whose_changes_are_lost() {
    let admission = Some(Admission::Count { sightings: 3 });
    let default_row = DefaultRow::Zeros;
    let mut store = Store::new(vec![TableConfig { admission, default_row, ..config(optims()[0]) }]).unwrap();
    let table = store.table("t").unwrap();
    let mut rows = store.exclusive();
    let mut places = Vec::new();
    rows.locate(table, &[4, 4, 5], &mut places).unwrap();
    assert!(places.iter().all(|place| !place.is_some()));
    for _ in 0..2 {
        let row = rows.row(table, places[0]);
        assert_eq!(row, [0.0, 0.0, 0.0, 0.1]);
        row.fill(9.0);
        rows.update(table, places[0], &[1.0; DIM]);
    }
    rows.locate(table, &[5, 4], &mut places).unwrap();
    assert!(!places[0].is_some() && places[1].is_some());
    assert_ne!(rows.row(table, places[1])[0], 0.0);
    assert_eq!(store.len(table).unwrap(), 1);
}

#[test]
fn places_of_expired_rows_and_foreign_tables_do_no_harm() {
    let expiry = Some(Expiry { max_age: Some(0), zero_after: None });
    let mut store = Store::with_shards(vec![TableConfig { expiry, ..config(optims()[0]) }], 1).unwrap();
    let table = store.table("t").unwrap();
    let mut places = Vec::new();
    let mut rows = store.exclusive();
    rows.locate(table, &(0..1000).collect::<Vec<_>>(), &mut places).unwrap();
    rows.step();
    rows.row(table, places[3])[0] = 5.0;
    rows.step();
    assert_eq!(store.expire(), 999, "all but the row touched in the last step");
    let two = Store::new(vec![config(optims()[0]), TableConfig { name: "u".into(), ..config(optims()[0]) }]);
    let foreign = two.unwrap().table("u").unwrap();
    let mut rows = store.exclusive();
    assert!(rows.peek(table, places[999]).is_empty());
    assert_eq!(rows.row(table, places[999]), [0.0, 0.0, 0.0, 0.1]);
    assert!(rows.row(foreign, places[0]).is_empty() && rows.peek(foreign, places[0]).is_empty());
    rows.prefetch(foreign, places[0]);
    rows.prefetch(table, places[999]);
    assert!(rows.locate(foreign, &[1], &mut places).is_err());
    assert!(rows.find(foreign, &[1], &mut places).is_err());
}

#[test]
fn bf16_rows_are_refused_in_place() {
    let mut store = Store::new(vec![TableConfig { dtype: RowType::Bf16, ..config(optims()[0]) }]).unwrap();
    let table = store.table("t").unwrap();
    store.push(table, &[1], &[1.0; DIM]).unwrap();
    let mut out = [0.0; DIM];
    store.pull(table, &[1], &mut out).unwrap();
    let said = store.exclusive().locate(table, &[1], &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(said, "table `t` holds bf16 weights; rows that change in place must be f32");
}

#[test]
fn rows_side_by_side_are_those_at_the_places_and_count_as_touched_when_the_word_says_so() {
    let config = TableConfig { dim: 1, ..config(RowOptim::Ftrl { alpha: 0.1, beta: 1.0, l1: 0.0, l2: 0.0 }) };
    let stores = [1, 2].map(|shards| Store::with_shards(vec![config.clone()], shards).unwrap());
    let keys: Vec<u64> = (0..100_000).map(|at| at * 7).collect();
    let [mut one, mut two] = stores;
    let table = one.table("t").unwrap();
    let change = |store: &mut Store, beside: bool| {
        let (mut rows, mut places) = (store.exclusive(), Vec::new());
        rows.locate(table, &keys, &mut places).unwrap();
        rows.step();
        let table = rows.table(table).unwrap();
        assert!(table.side_by_side::<3>().is_none());
        assert_eq!(table.side_by_side::<4>().is_some(), beside);
        for (at, &place) in places.iter().enumerate().skip(50_000) {
            let new = [at as f32, 1.0, 2.0];
            match table.side_by_side::<4>() {
                Some((all, word)) => all[place.slot() as usize] = [new[0], new[1], new[2], word],
                None => table.row(place).copy_from_slice(&new),
            }
        }
        rows.step();
    };
    change(&mut one, true);
    change(&mut two, false);
    assert!(bytes(&one) == bytes(&two));
}

use super::*;
use crate::sample::SampleColumn;

pub(super) fn numbers(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(1);
        (xxhash_rust::xxh3::xxh3_64(&state.to_le_bytes()) >> 11) as f64 / (1u64 << 53) as f64
    }
}

pub(super) fn number(name: &str, numbers: Vec<f64>) -> SampleColumn {
    let mut known = std::collections::HashMap::new();
    let codes = numbers
        .iter()
        .map(|x| {
            let next = known.len() as u32 + 1;
            if x.is_nan() { 0 } else { *known.entry(x.to_bits()).or_insert(next) }
        })
        .collect();
    SampleColumn { name: name.into(), codes, distinct: known.len() as u32, numbers, times: false }
}

pub(super) fn category(name: &str, codes: Vec<u32>) -> SampleColumn {
    let distinct = codes.iter().copied().max().unwrap_or(0);
    SampleColumn { name: name.into(), codes, distinct, ..SampleColumn::default() }
}

const N: usize = 12_000;

/// Users and items with rates of their own, an honest price that matters, a category, an honest historical rate; rows
/// come in the order of time.
fn clean(seed: u64) -> Sample {
    let mut next = numbers(seed);
    let (users, items) = (1500, 400);
    let taste: Vec<f64> = (0..users).map(|_| next()).collect();
    let quality: Vec<f64> = (0..items).map(|_| next() * next()).collect();
    let (mut user, mut item, mut price, mut past, mut label) = (vec![], vec![], vec![], vec![], vec![]);
    let mut history = vec![(0.0, 0.0); items];
    for _ in 0..N {
        let (u, i) = ((next() * users as f64) as usize, (next() * items as f64) as usize);
        let y = next() < 0.05 + 0.3 * taste[u] * quality[i] + 0.4 * quality[i];
        user.push(u as u32 + 1);
        item.push(i as u32 + 1);
        price.push((quality[i] * 50.0).round() + (next() * 10.0).round());
        past.push((history[i].0 + 1.0) / (history[i].1 + 5.0));
        history[i] = (history[i].0 + f64::from(u8::from(y)), history[i].1 + 1.0);
        label.push(y);
    }
    Sample {
        source: "clean".into(),
        rows_seen: N as u64,
        columns: vec![
            category("user", user),
            category("item", item.clone()),
            number("price", price),
            number("past_rate", past),
            number("quality", item.iter().map(|&i| quality[i as usize - 1]).collect()),
        ],
        label,
        positive: "click".into(),
        time_ms: (0..N as i64).map(|i| 1_700_000_000_000 + i * 60_000).collect(),
        late: (0..N).map(|i| i * 10 >= N * 8).collect(),
        ..Sample::default()
    }
}

fn with(column: SampleColumn) -> Leakage {
    let mut sample = clean(7);
    sample.columns.push(column);
    check(&sample)
}

/// The one finding, which must be of this kind and about `planted`.
fn only(found: &Leakage, kind: Leak) -> &Finding {
    assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
    let finding = &found.findings[0];
    assert_eq!((finding.kind, finding.column.as_deref()), (kind, Some("planted")), "{finding:?}");
    assert!(!finding.reason.is_empty() && !finding.advice.is_empty());
    finding
}

#[test]
fn a_clean_world_raises_no_alarm() {
    for seed in 0..8 {
        let found = check(&clean(seed));
        assert!(found.findings.is_empty(), "seed {seed}: {:?}", found.findings);
        assert!(found.not_checked.is_empty());
    }
}

#[test]
fn a_copy_of_the_label_is_found_in_whatever_words() {
    let label = clean(7).label;
    let mut next = numbers(99);
    let copies = [
        category("planted", label.iter().map(|&y| 1 + u32::from(y)).collect()),
        category("planted", label.iter().map(|&y| 1 + u32::from(!y)).collect()),
        // A salted hash: several values per class.
        category("planted", label.iter().map(|&y| 1 + (next() * 50.0) as u32 * 2 + u32::from(y)).collect()),
        // Seconds of watching: above ten only after a click.
        number(
            "planted",
            label.iter().map(|&y| if y { 10.0 + 50.0 * next() } else { 9.0 * next() }).collect(),
        ),
        // In between and outside.
        number(
            "planted",
            label.iter().map(|&y| if y { 5.0 + next() } else { 20.0 * (next() - 0.5).signum() }).collect(),
        ),
    ];
    for copy in copies {
        assert!(only(&with(copy), Leak::LabelCopy).figure > 0.98);
    }
}

#[test]
fn a_copy_with_errors_is_still_one() {
    let (label, mut next) = (clean(7).label, numbers(3));
    let wrong = label.iter().map(|&y| 1 + u32::from(y != (next() < 0.03))).collect();
    only(&with(category("planted", wrong)), Leak::LabelCopy);
}

#[test]
fn a_column_that_is_empty_for_one_class_is_found() {
    let (label, mut next) = (clean(7).label, numbers(4));
    let exactly = label.iter().map(|&y| if y { next() } else { f64::NAN }).collect();
    only(&with(number("planted", exactly)), Leak::Missing);
    // Empty for a part of the negatives only: what is empty is never positive.
    let partly = label.iter().map(|&y| if !y && next() < 0.3 { f64::NAN } else { next() }).collect();
    only(&with(number("planted", partly)), Leak::Missing);
    let honest = label.iter().map(|_| if next() < 0.3 { f64::NAN } else { next() }).collect();
    assert!(with(number("planted", honest)).findings.is_empty());
}

#[test]
fn a_time_after_the_event_is_found_and_an_expiry_date_is_not() {
    let (sample, mut next) = (clean(7), numbers(5));
    let at = |i: usize| sample.time_ms[i] as f64;
    let times = |of: &mut dyn FnMut(usize) -> f64| SampleColumn {
        times: true,
        ..number("planted", (0..N).map(of).collect())
    };
    // The user's next session: soon after a click.
    let mut next_visit =
        |i: usize| at(i) + if sample.label[i] { 6e4 * (1.0 + next()) } else { 36e5 * (0.02 + next()) };
    only(&with(times(&mut next_visit)), Leak::Future);
    let mut expiry = |i: usize| at(i) + 86_400_000.0 * f64::from(1 + i as u32 % 30);
    assert!(with(times(&mut expiry)).findings.is_empty());
}

#[test]
fn a_rate_or_a_count_that_holds_the_rows_own_label_is_found() {
    let sample = clean(7);
    let users = sample.column("user").unwrap();
    let mut sums = vec![(0.0, 0.0); users.distinct as usize + 1];
    for (&user, &y) in users.codes.iter().zip(&sample.label) {
        let sum = &mut sums[user as usize];
        *sum = (sum.0 + f64::from(u8::from(y)), sum.1 + 1.0);
    }
    let of = |rule: fn((f64, f64)) -> f64| {
        users.codes.iter().map(|&u| rule(sums[u as usize])).collect::<Vec<f64>>()
    };
    for leak in [of(|s| s.0 / s.1), of(|s| s.0 + 1e-9 * s.1), of(|s| ((s.0 + 1.0) / (s.1 + 10.0)).sqrt())] {
        only(&with(number("planted", leak)), Leak::OwnLabel);
    }
}

#[test]
fn what_was_learned_from_training_labels_fades_later() {
    let (sample, mut next) = (clean(7), numbers(6));
    let fitted = |i: usize| {
        let noise = next() * 1.2;
        if sample.late[i] { noise } else { noise + f64::from(u8::from(sample.label[i])) * 0.8 }
    };
    only(&with(number("planted", (0..N).map(fitted).collect())), Leak::Fades);
}

#[test]
fn a_row_number_tells_when_the_file_is_sorted_by_label() {
    let mut sample = clean(7);
    let mut order: Vec<usize> = (0..N).collect();
    let mut next = numbers(8);
    let keys: Vec<f64> = sample.label.iter().map(|&y| next() + 0.4 * f64::from(u8::from(y))).collect();
    order.sort_by(|&a, &b| keys[a].total_cmp(&keys[b]));
    sample.label = order.iter().map(|&i| sample.label[i]).collect();
    sample.columns = vec![number("planted", (0..N).map(|i| i as f64).collect())];
    (sample.time_ms, sample.late) = (vec![], vec![]);
    let found = check(&sample);
    assert!(only(&found, Leak::RowOrder).figure > 0.65);
    assert_eq!(found.not_checked.len(), 3);
}

#[test]
fn rows_in_two_parts_are_found() {
    let mut sample = clean(7);
    let late: Vec<usize> = (0..N).filter(|&i| sample.late[i]).collect();
    for (n, &to) in late.iter().enumerate().filter(|(n, _)| n % 5 == 0) {
        let from = n * 3;
        sample.label[to] = sample.label[from];
        for column in &mut sample.columns {
            column.codes[to] = column.codes[from];
            if !column.numbers.is_empty() {
                column.numbers[to] = column.numbers[from];
            }
        }
    }
    let found = check(&sample);
    assert_eq!(found.findings.len(), 1, "{:?}", found.findings);
    assert_eq!(found.findings[0].kind, Leak::Duplicates);
    assert!((found.findings[0].figure - 0.2).abs() < 0.02);
}

#[test]
fn too_few_rows_are_said_to_be_too_few() {
    let mut sample = clean(7);
    sample.label.iter_mut().enumerate().for_each(|(i, y)| *y = i < 10);
    let found = check(&sample);
    assert!(found.findings.is_empty() && found.not_checked[0].contains("10 rows of the rarer class"));
    assert!(found.to_string().contains("no leak found"));
}

#[test]
fn a_copy_in_few_rows_is_found_and_an_honest_column_is_not() {
    let of = |rows: usize, seed: u64, column: &dyn Fn(&mut dyn FnMut() -> f64, bool) -> f64| {
        let mut next = numbers(seed);
        let label: Vec<bool> = (0..rows).map(|_| next() < 0.18).collect();
        let mut of = |name: &str, rule: &dyn Fn(&mut dyn FnMut() -> f64, bool) -> f64| {
            number(name, label.iter().map(|&y| rule(&mut next, y)).collect())
        };
        let columns = vec![
            of("user", &|next, _| (next() * 20.0).floor()),
            of("rare", &|next, _| f64::from(u8::from(next() < 0.02))),
            of("gaps", &|next, _| if next() < 0.5 { f64::NAN } else { next() }),
            of("price", &|next, y| next() + f64::from(u8::from(y)) * 0.5),
            of("planted", column),
        ];
        check(&Sample { rows_seen: rows as u64, columns, label, ..Sample::default() })
    };
    let flag = |y: bool| f64::from(u8::from(y));
    for seed in 0..10 {
        only(&of(60, seed, &|_, y| flag(y)), Leak::LabelCopy);
        only(&of(60, seed, &|_, y| 7.0 - flag(y)), Leak::LabelCopy);
        only(&of(120, seed, &|next, y| flag(y) + (next() * 5.0).floor() * 2.0), Leak::LabelCopy);
        only(&of(120, seed, &|next, y| flag(y) + 0.9 * next()), Leak::LabelCopy);
        only(&of(120, seed, &|next, y| if y { next() } else { f64::NAN }), Leak::Missing);
        let near = |next: &mut dyn FnMut() -> f64, y| if next() < 0.15 { 1.0 - flag(y) } else { flag(y) };
        for honest in [&near as &dyn Fn(&mut dyn FnMut() -> f64, bool) -> f64, &|next, _| next()] {
            let found = of(60, seed, honest);
            assert!(found.findings.is_empty(), "seed {seed}: {:?}", found.findings);
            assert!(found.not_checked[0].contains("anything but exact copies"));
        }
    }
    // Three of eight rows may be right by chance.
    let label: Vec<bool> = (0..8).map(|i| i < 3).collect();
    let copy = number("planted", label.iter().map(|&y| flag(y)).collect());
    assert!(check(&Sample { label, columns: vec![copy], ..Sample::default() }).findings.is_empty());
}

#[test]
fn a_strong_number_is_suspicious_and_no_finding() {
    let (label, mut next) = (clean(7).label, numbers(11));
    let strong: Vec<f64> =
        label.iter().map(|&y| next() + next() + next() + f64::from(u8::from(y)) * 1.1).collect();
    let found = with(number("planted", strong));
    assert!(found.findings.is_empty(), "{:?}", found.findings);
    assert_eq!(found.suspicious.len(), 1);
    let finding = &found.suspicious[0];
    assert!(finding.kind == Leak::Strong && finding.figure > 0.9 && finding.figure < 0.98, "{finding:?}");
    let shown = found.to_string();
    assert!(shown.contains("SUSPICIOUS (strong) `planted`") && shown.contains("no leak found"), "{shown}");
}

use millstream_schema::{Column, Columns, History};

use super::*;

fn columns(columns: Vec<Column>) -> Columns {
    let rows = columns.first().map_or(0, Column::rows);
    Columns { rows, fields: (0..columns.len() as u32).collect(), columns }
}

/// A table of one request per row: numbers beside the candidate, a category beside the request.
fn table(numbers: &[[f32; 2]], categories: &[u64], labels: &[bool]) -> Examples {
    let n = labels.len();
    let key = |_: ()| columns(vec![Column::Key(categories.to_vec())]);
    Examples {
        request_user: (0..n as u32).collect(),
        request_time_ms: vec![0; n],
        history: History { offsets: vec![0; n + 1], ..History::default() },
        context: if categories.is_empty() { Columns::default() } else { key(()) },
        candidate_request: (0..n as u32).collect(),
        candidate_item: Vec::new(),
        exposure: columns(vec![Column::Dense { width: 2, values: numbers.concat() }]),
        labels: labels.iter().map(|&y| f32::from(u8::from(y))).collect(),
        tasks: 1,
        weights: Vec::new(),
    }
}

/// Sixty points of a plane.
fn plane() -> Vec<[f32; 2]> {
    let point =
        |i: u32| [(10.0 * f64::from(i * i).sin()) as f32, (10.0 * (1.7 * f64::from(i * i)).cos()) as f32];
    (0..60).map(point).collect()
}

fn step(method: BalanceMethod) -> BalanceStep {
    BalanceStep::new(method)
}

fn numbers_of(x: &Examples) -> Vec<[f32; 2]> {
    match &x.exposure.columns[0] {
        Column::Dense { values, .. } => values.chunks_exact(2).map(|c| [c[0], c[1]]).collect(),
        _ => Vec::new(),
    }
}

/// ```python
/// import numpy as np
/// from imblearn.under_sampling import TomekLinks   # imbalanced-learn 0.14.2
/// i = np.arange(60.0)
/// X = np.stack([10 * np.sin(i * i), 10 * np.cos(1.7 * i * i)], 1)
/// y = (i % 3 == 0).astype(int)
/// for strategy in ("majority", "all"):
///     t = TomekLinks(sampling_strategy=strategy); t.fit_resample(X, y)
///     print(sorted(set(range(60)) - set(t.sample_indices_.tolist())))
/// ```
#[test]
fn tomek_links_are_those_of_imbalanced_learn() {
    let labels: Vec<bool> = (0..60).map(|i| i % 3 == 0).collect();
    let rows = table(&plane(), &[], &labels);
    let golden = [
        (TomekRemoves::Majority, vec![8, 10, 16, 23, 26, 28, 32, 47, 55]),
        (TomekRemoves::Both, vec![0, 3, 6, 8, 9, 10, 12, 15, 16, 18, 21, 23, 26, 28, 32, 45, 47, 55]),
    ];
    for (remove, golden) in golden {
        let step = BalanceStep { remove: Some(remove), ..step(BalanceMethod::TomekLinks) };
        let left = tomek::without_links(&rows, &step).unwrap();
        let gone: Vec<u32> = (0..60).filter(|i| !left.request_user.contains(i)).collect();
        assert_eq!(gone, golden);
    }
}

#[test]
fn tomek_links_equal_looking_at_all_pairs() {
    let labels: Vec<bool> = (0..60).map(|i| i * i % 7 < 2).collect();
    let categories: Vec<u64> = (0..60).map(|i| 2 + i % 4).collect();
    let rows = table(&plane(), &categories, &labels);
    let found = tomek::links(&rows, &step(BalanceMethod::TomekLinks)).unwrap();
    let (minority, _) = minority_majority(&rows, &step(BalanceMethod::TomekLinks)).unwrap();
    let points = points::Points::of(&rows, &minority, "test").unwrap();
    let nearest = |a: u32| {
        let others = (0..60).filter(|&b| b != a);
        others.min_by(|&b, &c| points.distance(a, b).total_cmp(&points.distance(a, c))).unwrap()
    };
    let naive: Vec<(u32, u32)> = minority
        .iter()
        .map(|&a| (a, nearest(a)))
        .filter(|&(a, b)| labels[a as usize] != labels[b as usize] && nearest(b) == a)
        .collect();
    assert!(!naive.is_empty());
    assert_eq!(found, naive);
}

#[test]
fn every_new_row_lies_between_a_row_and_one_of_its_nearest() {
    let labels: Vec<bool> = (0..60).map(|i| i % 4 == 1).collect();
    let rows = table(&plane(), &[], &labels);
    let smote_step = BalanceStep { neighbours: Some(3), ..step(BalanceMethod::Smote) };
    let (points, made) = smote::plan(&rows, &smote_step, false).unwrap();
    let out = smote::smote(&rows, &smote_step, false).unwrap();
    assert_eq!((out.candidates(), made.len()), (90, 30));
    assert_eq!(positives_of(&out), [45]);
    assert_eq!(out.gather(&(0..60).collect::<Vec<_>>()), rows, "the rows themselves stay as they are");
    let minority: Vec<u32> = (0..60).filter(|i| i % 4 == 1).collect();
    let numbers = numbers_of(&out);
    for (new, m) in numbers[60..].iter().zip(&made) {
        assert!(labels[m.base as usize] && labels[m.toward as usize]);
        let mut near: Vec<u32> = minority.iter().copied().filter(|&i| i != m.base).collect();
        near.sort_by(|&a, &b| points.distance(m.base, a).total_cmp(&points.distance(m.base, b)));
        assert!(near[..3].contains(&m.toward), "one of the three nearest");
        let (x, z) = (points.of_row(m.base), points.of_row(m.toward));
        for d in 0..2 {
            assert!((new[d] - (x[d] + m.share * (z[d] - x[d]))).abs() < 1e-5, "on the segment");
        }
        assert!((0.0..1.0).contains(&m.share));
    }
    assert_eq!(smote::smote(&rows, &smote_step, false).unwrap(), out, "the seed decides");
    let other = BalanceStep { seed: Some(9), ..smote_step };
    assert_ne!(smote::smote(&rows, &other, false).unwrap(), out);
}

#[test]
fn categories_of_new_rows_are_those_of_most_neighbours_and_cost_distance() {
    // Two groups of positives far apart, each with a category of its own but for one row.
    let mut numbers = Vec::new();
    let mut categories = Vec::new();
    let mut labels = Vec::new();
    for i in 0..40u8 {
        let far = if i % 2 == 0 { 0.0 } else { 100.0 };
        numbers.push([far + f32::from(i) / 10.0, 0.0]);
        categories.push(if i % 2 == 0 { 7 } else { 8 });
        labels.push(true);
    }
    categories[0] = 8;
    for i in 0..100u8 {
        numbers.push([f32::from(i), 50.0]);
        categories.push(9);
        labels.push(false);
    }
    let rows = table(&numbers, &categories, &labels);
    let smote_step = step(BalanceMethod::Smote);
    let out = smote::smote(&rows, &smote_step, false).unwrap();
    assert_eq!(out.candidates(), 200);
    let Column::Key(keys) = &out.context.columns[0] else { panic!("keys") };
    for (new, key) in numbers_of(&out)[140..].iter().zip(&keys[140..]) {
        assert_eq!(*key, if new[0] < 50.0 { 7 } else { 8 });
    }
    let (minority, _) = minority_majority(&rows, &smote_step).unwrap();
    let points = points::Points::of(&rows, &minority, "test").unwrap();
    let only_category = points.distance(0, 2) - (0.2f32).powi(2);
    assert!((only_category - points.price).abs() < 1e-3 && points.price > 0.0);
}

/// ```python
/// import numpy as np
/// from imblearn.over_sampling import BorderlineSMOTE   # imbalanced-learn 0.14.2
/// i = np.arange(60.0)
/// X = np.stack([10 * np.sin(i * i), 10 * np.cos(1.7 * i * i)], 1)
/// y = (X[:, 0] + i * 29 % 13 / 4 > 7).astype(int)
/// b = BorderlineSMOTE(k_neighbors=5, m_neighbors=10, random_state=0); b.fit_resample(X, y)
/// print(y.sum(), b.in_danger_indices)
/// ```
#[test]
fn borderline_rows_are_those_of_imbalanced_learn() {
    let points = plane();
    let label = |i: usize| f64::from(points[i][0]) + (i * 29 % 13) as f64 / 4.0 > 7.0;
    let labels: Vec<bool> = (0..60).map(label).collect();
    let rows = table(&points, &[], &labels);
    let many = BalanceStep { ratio: Some(1.0), ..step(BalanceMethod::BorderlineSmote) };
    let mut bases: Vec<u32> = Vec::new();
    for seed in 0..40 {
        let (_, made) = smote::plan(&rows, &BalanceStep { seed: Some(seed), ..many.clone() }, true).unwrap();
        bases.extend(made.iter().map(|m| m.base));
    }
    bases.sort_unstable();
    bases.dedup();
    assert_eq!(bases, [14, 54, 58]);
}

#[test]
fn a_shrunk_class_keeps_its_clusters_in_proportion() {
    // Three clusters of 60, 30 and 10 negatives, and ten positives.
    let mut numbers = Vec::new();
    let mut labels = Vec::new();
    for (n, x) in [(60u8, 0.0f32), (30, 50.0), (10, 100.0)] {
        for i in 0..n {
            numbers.push([x + f32::from(i % 7) / 7.0, f32::from(i % 5) / 5.0]);
            labels.push(false);
        }
    }
    (0..10u8).for_each(|i| {
        numbers.push([f32::from(i) * 10.0, 20.0]);
        labels.push(true);
    });
    let rows = table(&numbers, &[], &labels);
    let undersample =
        BalanceStep { clusters: Some(3), ratio: Some(0.5), ..step(BalanceMethod::ClusterUndersampling) };
    let out = cluster::undersample(&rows, &undersample).unwrap();
    assert_eq!((out.candidates(), positives_of(&out)), (30, vec![10]));
    let near = |x: f32| {
        let negative = numbers_of(&out).into_iter().zip(&out.labels).filter(|(_, y)| **y == 0.0);
        negative.filter(|(p, _)| (p[0] - x).abs() < 2.0).count()
    };
    assert_eq!([near(0.0), near(50.0), near(100.0)], [12, 6, 2]);
    let points = points::Points::of(&rows, &[], "test").unwrap();
    let all: Vec<u32> = (0..100).collect();
    let of = cluster::k_means(&points, &all, 3, 5);
    assert!(of[..60].iter().all(|c| *c == of[0]) && of[60..90].iter().all(|c| *c == of[60]));
    assert!(of[0] != of[60] && of[60] != of[90]);
}

#[test]
fn without_numbers_or_a_second_class_a_step_says_so() {
    let labels: Vec<bool> = (0..60).map(|i| i % 3 == 0).collect();
    let mut rows = table(&plane(), &[5; 60], &labels);
    rows.exposure = Columns::default();
    let said = smote::smote(&rows, &step(BalanceMethod::Smote), false).unwrap_err().to_string();
    assert!(said.contains("nothing numeric"), "{said}");
    let rows = table(&plane(), &[], &[false; 60]);
    let said = tomek::links(&rows, &step(BalanceMethod::TomekLinks)).unwrap_err().to_string();
    assert!(said.contains("one class"), "{said}");
}

#[test]
fn sampled_negatives_and_the_calibration_undo_each_other() {
    // A model that is right about the sampled rows: their share of positives in each of two segments.
    let n = 200_000usize;
    let keep = BalanceStep { keep: Some(0.1), ..step(BalanceMethod::NegativeSampling) };
    let label = |i: usize| seeded::unit(3, i as u64, 0) < if i.is_multiple_of(2) { 0.02 } else { 0.15 };
    let mut counts = [[0.0f64; 2]; 2];
    let mut truth = [[0.0f64; 2]; 2];
    let mut first = 0;
    for block in (0..n).collect::<Vec<_>>().chunks(4096) {
        let labels: Vec<bool> = block.iter().map(|&i| label(i)).collect();
        let numbers: Vec<[f32; 2]> = block.iter().map(|&i| [(i % 2) as f32, 0.0]).collect();
        let rows = table(&numbers, &[], &labels);
        let kept = downsample::keep_some(&rows, &keep, first);
        first += rows.candidates() as u64;
        for (x, into) in [(&rows, &mut truth), (&kept, &mut counts)] {
            for (p, y) in numbers_of(x).iter().zip(&x.labels) {
                into[p[0] as usize][*y as usize] += 1.0;
            }
        }
        assert_eq!(positives_of(&kept), positives_of(&rows), "positives all stay");
    }
    for segment in 0..2 {
        let rate = |c: [f64; 2]| c[1] / (c[0] + c[1]);
        let (sampled, real) = (rate(counts[segment]), rate(truth[segment]));
        assert!(sampled > 4.0 * real || sampled > 0.5, "{sampled} {real}");
        assert!((calibrated(sampled, 0.1) / real - 1.0).abs() < 0.05);
        // The same in logits.
        let logit = (sampled / (1.0 - sampled)).ln() + 0.1f64.ln();
        assert!((1.0 / (1.0 + (-logit).exp()) - calibrated(sampled, 0.1)).abs() < 1e-12);
    }
}

#[test]
fn several_candidates_per_request_keep_their_request() {
    let mut rows = table(&plane(), &[], &(0..60).map(|i| i % 5 == 0).collect::<Vec<_>>());
    rows.candidate_request = (0..60).map(|c| c / 6).collect();
    for requests in [&mut rows.request_user, &mut Vec::new()] {
        requests.truncate(10);
    }
    rows.request_time_ms.truncate(10);
    rows.history.offsets.truncate(11);
    let keep = BalanceStep { keep: Some(0.3), ..step(BalanceMethod::NegativeSampling) };
    let kept = downsample::keep_some(&rows, &keep, 0);
    kept.check().unwrap();
    let user = |x: &Examples, c: usize| x.request_user[x.candidate_request[c] as usize];
    let all = numbers_of(&rows);
    for (c, point) in numbers_of(&kept).iter().enumerate() {
        let old = all.iter().position(|p| p == point).unwrap();
        assert_eq!(user(&kept, c), user(&rows, old));
        assert_eq!(kept.labels[c], rows.labels[old]);
    }
    assert!(kept.candidates() < 40);
}

//! Losses of the right item against others: against formulas written out, and finite differences.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

use millstream_nn::loss::{Against, ChoiceItems, ChoiceLoss, choice, gbce_beta};
use millstream_nn::{Init, Mode, Params, Pass, gradcheck};

const LOSSES: [ChoiceLoss; 4] = [
    ChoiceLoss::Softmax,
    ChoiceLoss::Binary { beta: 0.3 },
    ChoiceLoss::BprMax { penalty: 0.4 },
    ChoiceLoss::Top1Max,
];

/// One element's loss from its scores, in double precision.
fn naive(loss: ChoiceLoss, right: f64, others: &[f64]) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match loss {
        ChoiceLoss::Softmax => (right.exp() + others.iter().map(|s| s.exp()).sum::<f64>()).ln() - right,
        ChoiceLoss::Binary { beta } => {
            let wrong: f64 = others.iter().map(|s| (1.0 - sigmoid(*s)).ln()).sum();
            -(f64::from(beta) * sigmoid(right).ln() + wrong) / (others.len() + 1) as f64
        }
        ChoiceLoss::BprMax { penalty } => {
            let sum: f64 = others.iter().map(|s| s.exp()).sum();
            let w: Vec<f64> = others.iter().map(|s| s.exp() / sum).collect();
            let won: f64 = w.iter().zip(others).map(|(w, s)| w * sigmoid(right - s)).sum();
            let squares: f64 = w.iter().zip(others).map(|(w, s)| w * s * s).sum();
            -won.ln() + f64::from(penalty) * squares
        }
        ChoiceLoss::Top1Max => {
            let sum: f64 = others.iter().map(|s| s.exp()).sum();
            others.iter().map(|s| s.exp() / sum * (sigmoid(s - right) + sigmoid(s * s))).sum()
        }
    }
}

/// Two sequences of 3 and 2 elements, vectors of 4, and 6 columns.
fn params() -> Params {
    let mut params = Params::new(9);
    for (name, rows) in [("states", 5), ("own", 5), ("columns", 6)] {
        params.dense(name, &[rows, 4], Init::Normal(1.0)).unwrap();
    }
    params
}

const TARGETS: [u32; 5] = [3, 0, 5, 3, 1];

fn dot(params: &Params, a: (&str, usize), b: (&str, usize)) -> f64 {
    let row = |(name, i): (&str, usize)| params.values(params.find(name).unwrap())[i * 4..][..4].to_vec();
    row(a).iter().zip(row(b)).map(|(a, b)| f64::from(*a) * f64::from(b)).sum()
}

fn against<'a>(kind: usize, own: &'a millstream_nn::Tensor) -> Against<'a> {
    match kind {
        0 => Against::Columns { targets: &TARGETS },
        1 => Against::Shared { own },
        _ => Against::PerSequence { own, offsets: &[0, 3, 5], each: 3 },
    }
}

fn run(
    pass: &Pass,
    params: &Params,
    kind: usize,
    items: ChoiceItems<'_>,
    loss: ChoiceLoss,
) -> millstream_nn::Tensor {
    let get = |name: &str| pass.param(params.find(name).unwrap());
    let own = get("own");
    choice(&get("states"), &get("columns"), against(kind, &own), items, loss)
}

#[test]
fn losses_are_their_formulas_over_the_columns_each_element_sees() {
    let params = params();
    for kind in 0..3 {
        for loss in LOSSES {
            let pass = Pass::new(&params, Mode::Infer, 0);
            let found = run(&pass, &params, kind, ChoiceItems::default(), loss).item();
            let each = |p: usize| {
                let score = |c: usize| dot(&params, ("states", p), ("columns", c));
                let own = dot(&params, ("states", p), ("own", p));
                match kind {
                    0 => {
                        let target = TARGETS[p] as usize;
                        let others: Vec<f64> = (0..6).filter(|c| *c != target).map(score).collect();
                        naive(loss, score(target), &others)
                    }
                    1 => naive(loss, own, &(0..6).map(score).collect::<Vec<_>>()),
                    _ => {
                        let first = if p < 3 { 0 } else { 3 };
                        naive(loss, own, &(first..first + 3).map(score).collect::<Vec<_>>())
                    }
                }
            };
            let wanted = (0..5).map(each).sum::<f64>() / 5.0;
            assert!((f64::from(found) - wanted).abs() < 1e-5, "{kind} {loss:?}: {found} against {wanted}");
        }
    }
}

#[test]
fn slopes_are_finite_differences() {
    let items = [7, 8, 9, 7, 2];
    let columns = [4, 8, 9, 7, 2, 1];
    let shifts = [0.3, -0.2, 0.1, 0.5, 0.0, -0.4];
    for kind in 0..3 {
        for loss in LOSSES {
            let hits = ChoiceItems {
                right: &items,
                columns: &columns,
                column_shift: &shifts,
                right_shift: &shifts[..5],
            };
            for known in [ChoiceItems::default(), hits] {
                // Where the right item is a column, its own column is no accidental hit.
                let known = if kind == 0 { ChoiceItems { right: &[], columns: &[], ..known } } else { known };
                let mut params = params();
                let copy = params.clone();
                gradcheck::check(&mut params, 2e-3, |pass| run(pass, &copy, kind, known, loss))
                    .unwrap_or_else(|e| panic!("{kind} {loss:?}: {e}"));
            }
        }
    }
}

#[test]
fn a_negative_that_is_the_right_item_does_not_count() {
    let params = params();
    let pass = Pass::new(&params, Mode::Infer, 0);
    for loss in [ChoiceLoss::Softmax, ChoiceLoss::BprMax { penalty: 0.0 }, ChoiceLoss::Top1Max] {
        // Only column 4 is left for everybody.
        let items = ChoiceItems { right: &[1; 5], columns: &[1, 1, 1, 1, 2, 1], ..ChoiceItems::default() };
        let found = run(&pass, &params, 1, items, loss).item();
        let each = |p| {
            naive(
                loss,
                dot(&params, ("states", p), ("own", p)),
                &[dot(&params, ("states", p), ("columns", 4))],
            )
        };
        let wanted = (0..5).map(each).sum::<f64>() / 5.0;
        assert!((f64::from(found) - wanted).abs() < 1e-5, "{loss:?}");
    }
}

#[test]
fn beta_is_one_without_calibration_and_the_sampling_rate_with_all_of_it() {
    assert!((gbce_beta(256, 3417, 0.0) - 1.0).abs() < 1e-6);
    assert!((gbce_beta(256, 3417, 1.0) - 256.0 / 3416.0).abs() < 1e-6);
    let alpha = 256.0 / 3416.0;
    assert!((gbce_beta(256, 3417, 0.75) - alpha * (0.75 * (1.0 - 1.0 / alpha) + 1.0 / alpha)).abs() < 1e-6);
}

#[test]
fn many_elements_and_columns_are_cut_into_blocks_without_a_seam() {
    // 300 elements against 5000 columns take several blocks; the parts are the whole.
    let mut params = Params::new(4);
    for (name, rows) in [("states", 300), ("columns", 5000)] {
        params.dense(name, &[rows, 8], Init::Normal(0.5)).unwrap();
    }
    let (states, columns) = (params.find("states").unwrap(), params.find("columns").unwrap());
    let targets: Vec<u32> = (0..300).map(|p| p * 16).collect();
    let pass = Pass::new(&params, Mode::Train, 0);
    let loss = choice(
        &pass.param(states),
        &pass.param(columns),
        Against::Columns { targets: &targets },
        ChoiceItems::default(),
        ChoiceLoss::Softmax,
    );
    let gradients = pass.backward(&loss);
    let other = Pass::new(&params, Mode::Train, 0);
    let logits = other.param(states).matmul(&other.param(columns), millstream_nn::Transpose::Right);
    let plain = millstream_nn::loss::softmax_cross_entropy(&logits, &targets, &[]);
    assert!((loss.item() - plain.item()).abs() < 1e-5);
    let wanted = other.backward(&plain);
    for id in [states, columns] {
        for (a, b) in gradients.dense(id).unwrap().iter().zip(wanted.dense(id).unwrap()) {
            assert!((a - b).abs() < 1e-6, "{a} against {b}");
        }
    }
}

#[test]
fn long_sequences_with_many_columns_of_their_own_learn_as_each_alone() {
    let (lengths, each, d) = ([70usize, 1, 33], 256usize, 50usize);
    let p: usize = lengths.iter().sum();
    let mut params = Params::new(3);
    for (name, rows) in [("states", p), ("own", p), ("columns", lengths.len() * each)] {
        params.dense(name, &[rows, d], Init::Normal(0.4)).unwrap();
    }
    let get = |pass: &Pass, name: &str| pass.param(params.find(name).unwrap());
    let items: Vec<u32> = (0..p as u32).map(|i| i % 9).collect();
    let columns: Vec<u32> = (0..(lengths.len() * each) as u32).map(|i| i % 300).collect();
    for loss in LOSSES {
        let together = {
            let pass = Pass::new(&params, Mode::Train, 0);
            let own = get(&pass, "own");
            let against = Against::PerSequence { own: &own, offsets: &[0, 70, 71, 104], each };
            let known = ChoiceItems { right: &items, columns: &columns, ..ChoiceItems::default() };
            let found = choice(&get(&pass, "states"), &get(&pass, "columns"), against, known, loss);
            (found.item(), pass.backward(&found))
        };
        let apart = {
            let pass = Pass::new(&params, Mode::Train, 0);
            let (states, own, all) = (get(&pass, "states"), get(&pass, "own"), get(&pass, "columns"));
            let mut from = 0;
            let mut parts = Vec::new();
            for (b, n) in lengths.into_iter().enumerate() {
                let right = own.slice_rows(from, n);
                let known = ChoiceItems {
                    right: &items[from..from + n],
                    columns: &columns[b * each..(b + 1) * each],
                    ..ChoiceItems::default()
                };
                let against = Against::Shared { own: &right };
                let one = choice(
                    &states.slice_rows(from, n),
                    &all.slice_rows(b * each, each),
                    against,
                    known,
                    loss,
                );
                parts.push(one.scale(n as f32 / p as f32));
                from += n;
            }
            let found = parts.into_iter().reduce(|a, b| a.add(&b)).unwrap();
            (found.item(), pass.backward(&found))
        };
        assert!((together.0 - apart.0).abs() < 1e-5, "{loss:?}: {} and {}", together.0, apart.0);
        for name in ["states", "own", "columns"] {
            let id = params.find(name).unwrap();
            let (a, b) = (together.1.dense(id).unwrap(), apart.1.dense(id).unwrap());
            let most = b.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let off = a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
            assert!(off < 1e-4 * most, "{loss:?} {name}: {off} of {most}");
        }
    }
}

#[test]
fn rows_of_several_vectors_of_lanes_have_the_slopes_of_short_ones() {
    let (p, c, d) = (3usize, 150usize, 4usize);
    let mut params = Params::new(5);
    for (name, rows) in [("states", p), ("own", p), ("columns", c)] {
        params.dense(name, &[rows, d], Init::Normal(1.5)).unwrap();
    }
    let (states, own, columns) = {
        let values = |name: &str| params.values(params.find(name).unwrap()).to_vec();
        (values("states"), values("own"), values("columns"))
    };
    let dot = |a: &[f32], i: usize, b: &[f32], j: usize| -> f64 {
        a[i * d..][..d].iter().zip(&b[j * d..][..d]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let pass = Pass::new(&params, Mode::Train, 0);
    let get = |name: &str| pass.param(params.find(name).unwrap());
    let right = get("own");
    let loss = ChoiceLoss::Binary { beta: 0.3 };
    let found = choice(
        &get("states"),
        &get("columns"),
        Against::Shared { own: &right },
        ChoiceItems::default(),
        loss,
    );
    let wanted: f64 = (0..p)
        .map(|i| {
            let others: Vec<f64> = (0..c).map(|j| dot(&states, i, &columns, j)).collect();
            naive(loss, dot(&states, i, &own, i), &others) / p as f64
        })
        .sum();
    assert!((f64::from(found.item()) - wanted).abs() < 1e-5, "{} {wanted}", found.item());
    let gradients = pass.backward(&found);
    let of_columns = gradients.dense(params.find("columns").unwrap()).unwrap();
    let share = 1.0 / (p * (c + 1)) as f64;
    for j in 0..c {
        for x in 0..d {
            let slope =
                |i: usize| sigmoid(dot(&states, i, &columns, j)) * f64::from(states[i * d + x]) * share;
            let wanted: f64 = (0..p).map(slope).sum();
            let found = f64::from(of_columns[j * d + x]);
            assert!((found - wanted).abs() < 1e-7, "column {j} {x}: {found} {wanted}");
        }
    }
}

// The numbers below are printed by
//
//     from math import exp
//
//     def sigmoid(x): return 1 / (1 + exp(-x))
//
//     def loss(states, own, columns):
//         total = 0
//         for s, o in zip(states, own):
//             right = sum(a * b for a, b in zip(s, o))
//             r = [sum(a * b for a, b in zip(s, c)) for c in columns]
//             z = sum(map(exp, r))
//             total += sum(exp(x) / z * (sigmoid(x - right) + sigmoid(x * x)) for x in r)
//         return total / len(states)
//
//     parts = [[[0.5, -1.0], [1.5, 0.25]], [[1.0, 0.5], [-0.5, 2.0]], [[0.75, -0.25], [-1.0, 1.0], [2.0, 0.5]]]
//     print("loss", round(loss(*parts), 6))
//     for part in parts:
//         slopes = []
//         for row in part:
//             for i in range(2):
//                 row[i] += 1e-6; up = loss(*parts); row[i] -= 2e-6; down = loss(*parts); row[i] += 1e-6
//                 slopes.append(round((up - down) / 2e-6, 6))
//         print(slopes)
#[test]
fn top1_max_is_what_another_program_makes_of_it() {
    let parts: [(&str, &[f32], &[f32]); 3] = [
        ("states", &[0.5, -1.0, 1.5, 0.25], &[0.200649, -0.048544, 0.10394, -0.037397]),
        ("own", &[1.0, 0.5, -0.5, 2.0], &[-0.056482, 0.112965, -0.03666, -0.00611]),
        (
            "columns",
            &[0.75, -0.25, -1.0, 1.0, 2.0, 0.5],
            &[0.086755, -0.138521, -0.011558, 0.0056, 0.108881, -0.090596],
        ),
    ];
    let mut params = Params::new(1);
    for (name, values, _) in parts {
        let id = params.dense(name, &[values.len() / 2, 2], Init::Zeros).unwrap();
        params.values_mut(id).copy_from_slice(values);
    }
    let pass = Pass::new(&params, Mode::Train, 0);
    let get = |name: &str| pass.param(params.find(name).unwrap());
    let own = get("own");
    let against = Against::Shared { own: &own };
    let loss = choice(&get("states"), &get("columns"), against, ChoiceItems::default(), ChoiceLoss::Top1Max);
    assert!((loss.item() - 1.560189).abs() < 1e-5, "{}", loss.item());
    let gradients = pass.backward(&loss);
    for (name, _, wanted) in parts {
        let found = gradients.dense(params.find(name).unwrap()).unwrap();
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5), "{name}: {found:?}");
    }
}

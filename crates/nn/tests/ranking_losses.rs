//! Losses of pairs and lists of candidates of one request: against PyTorch, LightGBM, and plain scalar code.

#![allow(clippy::unwrap_used)]

use millstream_nn::loss::{self, Groups, LambdaRank, TaskLoss, task_loss};
use millstream_nn::*;

fn numbers(n: usize) -> Vec<f32> {
    (0..n).map(|i| (((i * 37 + 11) % 23) as f32 - 11.0) / 8.0).collect()
}

/// Value and slopes of a loss of these scores `[N, T]`.
fn run(scores: &[f32], tasks: usize, loss: impl Fn(&Tensor) -> Tensor) -> (f32, Vec<f32>) {
    let mut params = Params::new(0);
    let id = params.dense("z", &[scores.len() / tasks, tasks], Init::Zeros).unwrap();
    params.values_mut(id).copy_from_slice(scores);
    let pass = Pass::new(&params, Mode::Train, 0);
    let value = loss(&pass.param(id));
    (value.item(), pass.backward(&value).dense(id).unwrap().to_vec())
}

fn near(name: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{name}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() < tolerance * (1.0 + b.abs()), "{name}: {i} is {a}, not {b}");
    }
}

const LABELS: [f32; 10] = [1.0, 2.0, 1.0, 0.0, 1.0, 3.0, 2.0, 0.0, 2.0, 1.0];
const WEIGHTS: [f32; 10] = [1.0, 2.0, 0.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 3.0];
const REQUESTS: [u32; 10] = [5, 2, 2, 5, 2, 2, 5, 5, 2, 9];

// PyTorch 2.13:
//
// import torch
// import torch.nn.functional as F
//
// scores = torch.tensor([((i * 37 + 11) % 23 - 11) / 8 for i in range(10)])
// labels = torch.tensor([0.0, 2.0, 1.0, 0.0, 1.0, 3.0, 0.0, 0.0, 2.0, 1.0])
// groups = [[0, 3, 6, 7], [1, 2, 4, 5, 8], [9]]  # the rows of requests 5, 2 and 9
// weight = torch.tensor([1.0, 2.0, 0.0, 1.0, 2.0, 2.0, 1.0, 1.0, 2.0, 3.0])  # row 2 is left out
//
// def golden(name, f):
//     z = scores.clone().requires_grad_()
//     total, count = 0.0, 0.0
//     for g in groups:
//         g = [r for r in g if weight[r] > 0]
//         loss, n = f(z[g], labels[g])
//         w = weight[g].mean()
//         total, count = total + w * loss, count + w * n
//     (total / count).backward()
//     print(f'("{name}", {round((total / count).item(), 6)}, &{[round(float(v), 7) for v in z.grad]}),')
//
// def pairs(each):
//     def f(z, y):
//         d = (z[:, None] - z[None, :])[y[:, None] > y[None, :]]
//         return each(d).sum(), d.numel()
//     return f
// def list_softmax(z, y):
//     return (-(y / y.sum() * F.log_softmax(z, 0)).sum(), 1) if y.sum() > 0 and len(y) > 1 else (0.0, 0)
// def list_net(z, y):
//     return (-(F.softmax(y, 0) * F.log_softmax(z, 0)).sum(), 1) if len(y) > 1 else (0.0, 0)
// def list_mle(top):
//     def f(z, y):
//         if len(set(y.tolist())) < 2:
//             return 0.0, 0
//         loss = 0.0
//         for i in torch.argsort(y, descending=True, stable=True)[:top]:
//             if y[i] > y.min():
//                 loss = loss + torch.logsumexp(z[y <= y[i]], 0) - z[i]
//         return loss, 1
//     return f
//
// labels[[0, 6]] = torch.tensor([1.0, 2.0])
// golden("rank_net", pairs(lambda d: F.softplus(-1.5 * d)))
// golden("bpr", pairs(lambda d: -F.logsigmoid(d)))
// golden("margin", pairs(lambda d: torch.relu(0.7 - d)))
// golden("list_softmax", list_softmax)
// golden("list_net", list_net)
// golden("list_mle", list_mle(None))
// golden("list_mle_top", list_mle(2))
#[rustfmt::skip]
const GOLDEN: &[(&str, f32, [f32; 10])] = &[
    ("rank_net", 1.621552, [-0.0258162, -0.1678901, 0.0, 0.1, 0.5471905, -0.2595361, -0.2429207, 0.1687368, -0.1197643, 0.0]),
    ("bpr", 1.240679, [-0.0217107, -0.0922934, 0.0, 0.0666667, 0.33404, -0.1806875, -0.1470314, 0.1020754, -0.0610591, 0.0]),
    ("margin", 1.456667, [-0.0666667, -0.1333333, 0.0, 0.1333333, 0.4, -0.2666667, -0.2, 0.1333333, 0.0, 0.0]),
    ("list_softmax", 1.959152, [-0.0296396, -0.1282606, 0.0, 0.049415, 0.3295711, -0.1159495, -0.1922505, 0.1724752, -0.085361, 0.0]),
    ("list_net", 1.910695, [0.0066331, -0.0926685, 0.0, 0.0218834, 0.3646848, -0.2222473, -0.1734602, 0.1449437, -0.0497689, 0.0]),
    ("list_mle", 5.316683, [-0.1623411, -0.5321161, 0.0, 0.1037121, 1.4465554, -0.5326163, -0.3033617, 0.3619907, -0.381823, 0.0]),
    ("list_mle_top", 4.063627, [-0.1623411, -0.5801883, 0.0, 0.1037121, 0.9297299, -0.5326163, -0.3033617, 0.3619907, 0.1830747, 0.0]),
];

const LOSSES: &[(&str, TaskLoss)] = &[
    ("rank_net", TaskLoss::RankNet { sigma: 1.5 }),
    ("bpr", TaskLoss::Bpr {}),
    ("margin", TaskLoss::Margin { margin: 0.7 }),
    ("list_softmax", TaskLoss::ListSoftmax {}),
    ("list_net", TaskLoss::ListNet {}),
    ("list_mle", TaskLoss::ListMle { top: None }),
    ("list_mle_top", TaskLoss::ListMle { top: Some(2) }),
];

#[test]
fn values_and_gradients_agree_with_pytorch() {
    let groups = Groups::by_request(&REQUESTS);
    assert_eq!(LOSSES.len(), GOLDEN.len());
    for ((name, loss), (golden, value, slopes)) in LOSSES.iter().zip(GOLDEN) {
        assert_eq!(name, golden);
        let found = run(&numbers(10), 1, |z| task_loss(loss, z, &LABELS, &WEIGHTS, &groups));
        near(name, &[found.0], &[*value], 2e-6);
        near(name, &found.1, slopes, 2e-6);
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let groups = Groups::by_request(&REQUESTS);
    for (name, loss) in LOSSES {
        let mut params = Params::new(0);
        let z = params.dense("z", &[10, 1], Init::Zeros).unwrap();
        // Away from the margin's kinks.
        let scores: Vec<f32> = numbers(10).iter().map(|v| v * 0.93 + 0.01).collect();
        params.values_mut(z).copy_from_slice(&scores);
        gradcheck::check(&mut params, 4e-3, |pass| {
            task_loss(loss, &pass.param(z), &LABELS, &WEIGHTS, &groups)
        })
        .unwrap_or_else(|said| panic!("{name}: {said}"));
    }
}

// # lightgbm 4.7.0: one split sets rows apart; their leaf is -G / (H + lambda_l2), so that two lambdas give G. Rows of a
// # small H are not set apart alone, so row 4 goes with each.
// import lightgbm, numpy as np
// scores = np.array([((i * 37 + 11) % 23 - 11) / 8 for i in range(12)])
// labels = np.array([0, 2, 1, 0, 1, 3, 0, 0, 2, 1, 0, 4])
// def leaf(rows, l2, **options):
//     x = np.isin(np.arange(12), rows).astype(float)[:, None]
//     data = lightgbm.Dataset(x, labels, group=[7, 5], init_score=scores, params=dict(min_data_in_bin=1, verbose=-1))
//     options = dict(objective="lambdarank", num_leaves=2, learning_rate=1.0, lambda_l2=l2, min_data_in_leaf=1,
//                    min_sum_hessian_in_leaf=0, verbose=-1, **options)
//     return float(lightgbm.train(options, data, 1).predict(np.ones((1, 1)), raw_score=True)[0])
// def total(rows, **options):
//     a, b = leaf(rows, 10.0, **options), leaf(rows, 20.0, **options)
//     return 10 / (1 / a - 1 / b)
// def gradient(row, **options):
//     return total([row, 4], **options) - (total([4], **options) if row != 4 else 0.0)
// for sigma, k, norm in ((1.0, 30, False), (1.0, 30, True), (2.0, 2, True)):
//     options = dict(sigmoid=sigma, lambdarank_truncation_level=k, lambdarank_norm=norm)
//     print(f"({sigma}, {k}, {norm}, {[round(gradient(row, **options), 5) for row in range(12)]}),")
#[rustfmt::skip]
const LIGHTGBM: [(f32, usize, bool, [f32; 12]); 3] = [
    (1.0, 30, false, [0.06561, -0.19748, 0.0836, 0.05409, 0.32633, -0.37182, 0.03967, 0.20934, -0.07082, 0.48781, 0.0885, -0.71484]),
    (1.0, 30, true, [0.18891, -0.11848, 0.09551, 0.06362, 0.21038, -0.48896, 0.04901, 0.14285, -0.03017, 0.21237, 0.08376, -0.40882]),
    (2.0, 2, true, [0.01847, -0.15594, 0.23985, 0.00543, 0.51204, -0.6215, 0.00166, 0.27567, -0.1104, 0.42021, 0.00419, -0.58968]),
];
const GRADES: [f32; 12] = [0.0, 2.0, 1.0, 0.0, 1.0, 3.0, 0.0, 0.0, 2.0, 1.0, 0.0, 4.0];

#[test]
fn lambda_rank_has_the_gradients_of_lightgbm() {
    let groups = Groups::by_offsets(&[0, 7, 12]).unwrap();
    for (sigma, truncation, normalise, wanted) in LIGHTGBM {
        let rule = LambdaRank { sigma, truncation, normalise };
        let (_, found) = run(&numbers(12), 1, |z| loss::lambda_rank(z, &GRADES, &[], &groups, &rule));
        // LightGBM adds groups up; here their mean is taken.
        let sums: Vec<f32> = found.iter().map(|v| v * 2.0).collect();
        near("lambda_rank", &sums, &wanted, 2e-5);
    }
}

/// LambdaRank of one group, pair by pair, with |ΔNDCG| by really swapping.
fn lambda_by_hand(scores: &[f32], labels: &[f32], k: usize) -> (f64, Vec<f64>) {
    let n = scores.len();
    let dcg = |order: &[usize]| -> f64 {
        let gain = |i: usize| f64::from(labels[i]).exp2() - 1.0;
        order.iter().enumerate().map(|(rank, i)| gain(*i) / (rank as f64 + 2.0).log2()).sum()
    };
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut best: Vec<usize> = (0..n).collect();
    best.sort_by(|a, b| labels[*b].total_cmp(&labels[*a]));
    let most = dcg(&best[..k.min(n)]);
    let (mut value, mut slopes) = (0.0, vec![0.0; n]);
    for a in 0..n.min(k) {
        for b in a + 1..n {
            let mut swapped = order.clone();
            swapped.swap(a, b);
            let change = (dcg(&swapped) - dcg(&order)).abs() / most;
            let (i, j) = (order[a], order[b]);
            let (high, low) = if labels[i] > labels[j] { (i, j) } else { (j, i) };
            if labels[high] > labels[low] {
                let d = f64::from(scores[high]) - f64::from(scores[low]);
                value += change * (1.0 + (-d).exp()).ln();
                slopes[high] -= change / (1.0 + d.exp());
                slopes[low] += change / (1.0 + d.exp());
            }
        }
    }
    (value, slopes)
}

#[test]
fn lambda_rank_weighs_pairs_by_what_a_swap_would_change() {
    let groups = Groups::by_offsets(&[0, 12]).unwrap();
    for truncation in [1, 3, 30] {
        let rule = LambdaRank { sigma: 1.0, truncation, normalise: false };
        let found = run(&numbers(12), 1, |z| loss::lambda_rank(z, &GRADES, &[], &groups, &rule));
        let (value, slopes) = lambda_by_hand(&numbers(12), &GRADES, truncation);
        near("value", &[found.0], &[value as f32], 1e-5);
        near("slopes", &found.1, &slopes.iter().map(|v| *v as f32).collect::<Vec<_>>(), 1e-5);
    }
}

/// All losses that look at groups.
fn grouped() -> Vec<TaskLoss> {
    let mut all: Vec<TaskLoss> = LOSSES.iter().map(|(_, loss)| loss.clone()).collect();
    all.push(TaskLoss::LambdaRank { sigma: 1.0, truncation: 3, normalise: true });
    all
}

#[test]
fn the_order_of_rows_and_the_cut_into_tasks_change_nothing() {
    // Enough groups to be worked on in parallel.
    let n = 3000;
    let (scores, requests): (Vec<f32>, Vec<u32>) = (numbers(n), (0..n as u32).map(|i| i * 7 % 400).collect());
    let labels: Vec<f32> = (0..n).map(|i| (i * i % 4) as f32).collect();
    let groups = Groups::by_request(&requests);
    for loss in grouped() {
        let (value, slopes) = run(&scores, 1, |z| task_loss(&loss, z, &labels, &[], &groups));
        // One group after the other, each alone; their sum is weighted by pairs or by groups.
        let rows: Vec<Vec<usize>> = groups.iter().map(|g| g.iter().map(|r| *r as usize).collect()).collect();
        let place = |r: usize| rows.iter().flatten().position(|x| *x == r).unwrap();
        let sorted: Vec<usize> = rows.iter().flatten().copied().collect();
        let of = |v: &[f32]| sorted.iter().map(|r| v[*r]).collect::<Vec<f32>>();
        let offsets: Vec<u32> = std::iter::once(0)
            .chain(rows.iter().scan(0, |at, g| {
                *at += g.len() as u32;
                Some(*at)
            }))
            .collect();
        let same = Groups::by_offsets(&offsets).unwrap();
        let found = run(&of(&scores), 1, |z| task_loss(&loss, z, &of(&labels), &[], &same));
        assert_eq!(found.0, value, "{loss:?}");
        assert!((0..n).step_by(97).all(|r| found.1[place(r)] == slopes[r]), "{loss:?}");
    }
}

#[test]
fn tasks_are_added_up() {
    let groups = Groups::by_request(&REQUESTS);
    let (a, b) = (numbers(10), numbers(20)[10..].to_vec());
    let both = |x: &[f32], y: &[f32]| x.iter().zip(y).flat_map(|(x, y)| [*x, *y]).collect::<Vec<f32>>();
    let turned: Vec<f32> = LABELS.iter().rev().copied().collect();
    for loss in grouped() {
        let one = run(&a, 1, |z| task_loss(&loss, z, &LABELS, &WEIGHTS, &groups));
        let other = run(&b, 1, |z| task_loss(&loss, z, &turned, &WEIGHTS, &groups));
        let found =
            run(&both(&a, &b), 2, |z| task_loss(&loss, z, &both(&LABELS, &turned), &WEIGHTS, &groups));
        near("tasks", &[found.0], &[one.0 + other.0], 1e-6);
        assert_eq!(found.1, both(&one.1, &other.1), "{loss:?}");
    }
}

#[test]
fn groups_without_anything_to_order_are_silent() {
    let groups = Groups::by_request(&[0, 0, 1]);
    for loss in grouped() {
        let list = matches!(loss, TaskLoss::ListSoftmax {} | TaskLoss::ListNet {});
        let labels = if list { [0.0; 3] } else { [1.0; 3] };
        let weights = if list { [1.0, 0.0, 1.0] } else { [1.0; 3] };
        let found = run(&[0.3, -0.2, 0.1], 1, |z| task_loss(&loss, z, &labels, &weights, &groups));
        assert_eq!(found, (0.0, vec![0.0; 3]), "{loss:?}");
    }
}

#[test]
fn scores_far_apart_stay_finite() {
    let groups = Groups::by_request(&REQUESTS);
    let scores: Vec<f32> = numbers(10).iter().map(|v| v * 1e4).collect();
    for loss in grouped() {
        let (value, slopes) = run(&scores, 1, |z| task_loss(&loss, z, &LABELS, &[], &groups));
        assert!(value.is_finite() && slopes.iter().all(|v| v.is_finite()), "{loss:?}: {value} {slopes:?}");
    }
}

#[test]
fn descending_a_ranking_loss_sorts_the_candidates() {
    let groups = Groups::by_request(&[0, 0, 0, 0, 1, 1, 1, 1]);
    let labels = [0.0, 1.0, 2.0, 3.0, 3.0, 0.0, 2.0, 1.0];
    for loss in grouped() {
        let mut params = Params::new(0);
        let z = params.dense("z", &[8, 1], Init::Zeros).unwrap();
        let mut optimiser = Optimiser::new(DenseOptim::adam(0.05));
        for step in 0..200 {
            let pass = Pass::new(&params, Mode::Train, step);
            let value = task_loss(&loss, &pass.param(z), &labels, &[], &groups);
            let gradients = pass.backward(&value);
            drop((value, pass));
            optimiser.step(&mut params, &gradients);
        }
        let z = params.values(z);
        let right = |a: usize, b: usize| z[a] > z[b];
        assert!(right(3, 2) && right(2, 0) && right(4, 6) && right(6, 5), "{loss:?}: {z:?}");
    }
}

#[test]
fn group_offsets_that_fall_are_refused() {
    assert!(Groups::by_offsets(&[0, 3, 2]).is_err());
    assert!(Groups::by_offsets(&[1, 3]).is_err());
    assert_eq!(Groups::by_offsets(&[]).unwrap().rows(), 0);
}

#[test]
fn a_loss_is_named_alone_or_with_options() {
    let read = |text: &str| serde_json::from_str::<TaskLoss>(text);
    assert_eq!(read(r#""bce""#).unwrap(), TaskLoss::default());
    assert_eq!(read(r#""list_net""#).unwrap(), TaskLoss::ListNet {});
    let rule = TaskLoss::LambdaRank { sigma: 2.0, truncation: 30, normalise: true };
    assert_eq!(read(r#"{ "name": "lambda_rank", "sigma": 2.0 }"#).unwrap(), rule);
    for (text, said) in [
        (r#""lambda""#, "unknown variant `lambda`"),
        (r#"{ "name": "list_net", "sigma": 2.0 }"#, "unknown field `sigma`"),
        (r#""class_balanced""#, "missing field `counts`"),
        ("3", "the name of a loss, or a table with `name` and its options"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
    for loss in grouped() {
        assert_eq!(read(&serde_json::to_string(&loss).unwrap()).unwrap(), loss);
        assert!(loss.is_grouped() && loss.check().is_ok());
    }
}

#[test]
fn options_out_of_range_are_named() {
    for (loss, said) in [
        (TaskLoss::RankNet { sigma: 0.0 }, "`sigma` of the loss is 0, expected above 0"),
        (TaskLoss::ListMle { top: Some(0) }, "`top` of the loss is 0, expected 1 or above"),
        (TaskLoss::Focal { gamma: -1.0, alpha: None }, "`gamma` of the loss is -1, expected 0 or above"),
        (
            TaskLoss::Bce { label_smoothing: 1.0, positive_weight: 1.0 },
            "`label_smoothing` of the loss is 1, expected 0 up to but below 1",
        ),
    ] {
        assert_eq!(loss.check().unwrap_err().to_string(), said);
    }
}

#[test]
fn pointwise_losses_are_reached_by_name_too() {
    let labels = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0];
    let groups = Groups::by_request(&REQUESTS);
    let classes = loss::class_balanced_weights(0.99, &[70, 30]);
    let (z, w) = (numbers(10), &WEIGHTS);
    type Direct<'a> = Box<dyn Fn(&Tensor) -> Tensor + 'a>;
    let pairs: Vec<(&str, Direct<'_>)> = vec![
        (r#""bce""#, Box::new(|z| loss::bce_with_logits(z, &labels, w))),
        (r#"{"name":"bce","label_smoothing":0.1}"#, Box::new(|z| loss::bce(z, &labels, w, (0.1, 1.0)))),
        (
            r#"{"name":"focal","alpha":0.3}"#,
            Box::new(|z| loss::binary_focal(z, &labels, w, (2.0, Some(0.3)))),
        ),
        (
            r#"{"name":"class_balanced","beta":0.99,"counts":[70,30],"gamma":1.0}"#,
            Box::new(|z| loss::class_focal(z, &labels, w, (1.0, [classes[0], classes[1]]))),
        ),
        (r#""mse""#, Box::new(|z| loss::mse(z, &labels, w))),
        (r#""mae""#, Box::new(|z| loss::mae(z, &labels, w))),
        (r#""hinge""#, Box::new(|z| loss::hinge(z, &labels, w))),
        (r#""kl""#, Box::new(|z| loss::binary_kl(z, &labels, w))),
    ];
    for (text, direct) in pairs {
        let named: TaskLoss = serde_json::from_str(text).unwrap();
        assert!(!named.is_grouped() && named.check().is_ok());
        assert_eq!(run(&z, 1, |z| task_loss(&named, z, &labels, w, &groups)), run(&z, 1, &direct), "{text}");
    }
}

//! Losses of each row and of a positive with its negatives, against PyTorch and finite differences.

#![allow(clippy::unwrap_used)]

use millstream_nn::loss::{self, InBatch, Sampled};
use millstream_nn::*;

const LABELS: [f32; 6] = [1.0, 0.0, 0.0, 0.25, 1.0, 1.0];
const HARD: [f32; 6] = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0];
const WEIGHTS: [f32; 3] = [1.0, 0.5, 2.5];
const TARGETS: [u32; 3] = [3, 0, 1];
const SHARES: [f32; 12] = [0.1, 0.2, 0.3, 0.4, 0.0, 0.5, 0.5, 0.0, 1.0, 0.0, 0.0, 0.0];
const SAMPLED: Sampled<'_> = Sampled {
    positive_log_q: &[-1.0, -2.0, -0.5],
    negative_log_q: &[-1.5, -0.25, -3.0, -0.75],
    positive_items: &[7, 8, 9],
    negative_items: &[9, 5, 7, 6],
    weights: &WEIGHTS,
};

type Loss = fn(&[Tensor]) -> Tensor;
type Case = (&'static str, &'static [(usize, usize)], Loss);

const ROWS: (usize, usize) = (3, 2);
const CLASSES: (usize, usize) = (3, 4);
const PAIR: &[(usize, usize)] = &[(3, 1), (3, 4)];
const TOWERS: &[(usize, usize)] = &[(3, 4), (5, 4)];

/// Name, shapes of the inputs, loss.
const LOSSES: &[Case] = &[
    ("bce", &[ROWS], |x| loss::bce_with_logits(&x[0], &LABELS, &WEIGHTS)),
    ("bce_smoothed_weighted", &[ROWS], |x| loss::bce(&x[0], &LABELS, &WEIGHTS, (0.2, 3.0))),
    ("mse", &[ROWS], |x| loss::mse(&x[0], &LABELS, &WEIGHTS)),
    ("mae", &[ROWS], |x| loss::mae(&x[0], &LABELS, &WEIGHTS)),
    ("hinge", &[ROWS], |x| loss::hinge(&x[0], &HARD, &WEIGHTS)),
    ("binary_kl", &[ROWS], |x| loss::binary_kl(&x[0], &LABELS, &WEIGHTS)),
    ("binary_focal", &[ROWS], |x| loss::binary_focal(&x[0], &HARD, &WEIGHTS, (2.0, Some(0.25)))),
    ("binary_focal_fraction", &[ROWS], |x| loss::binary_focal(&x[0], &HARD, &WEIGHTS, (0.5, None))),
    ("softmax", &[CLASSES], |x| loss::softmax_cross_entropy(&x[0], &TARGETS, &WEIGHTS)),
    ("softmax_by_class", &[CLASSES], |x| {
        let weights = loss::weights_by_class(&[1.0, 2.0, 3.0, 0.5], &TARGETS, &[]);
        loss::softmax_cross_entropy(&x[0], &TARGETS, &weights)
    }),
    ("softmax_smoothed", &[CLASSES], |x| loss::smoothed_cross_entropy(&x[0], &TARGETS, &[], 0.2)),
    ("softmax_focal", &[CLASSES], |x| loss::softmax_focal(&x[0], &TARGETS, &WEIGHTS, 2.0)),
    ("kl_divergence", &[CLASSES], |x| loss::kl_divergence(&x[0], &SHARES, &WEIGHTS)),
    ("bpr", PAIR, |x| loss::bpr(&x[0], &x[1], &WEIGHTS)),
    ("margin", PAIR, |x| loss::margin(&x[0], &x[1], &WEIGHTS, 0.5)),
    ("triplet", &[CLASSES; 3], |x| loss::triplet(&x[0], &x[1], &x[2], &WEIGHTS, 0.8)),
    ("sampled_softmax", PAIR, |x| loss::sampled_softmax(&x[0], &x[1], &SAMPLED)),
    ("nce", PAIR, |x| loss::nce(&x[0], &x[1], &SAMPLED)),
    ("negative_sampling", PAIR, |x| loss::negative_sampling(&x[0], &x[1], &WEIGHTS)),
    ("info_nce", TOWERS, |x| loss::info_nce(&x[0], &x[1], 0.7, &WEIGHTS)),
    ("focal_nce", TOWERS, |x| {
        let known = InBatch { temperature: 0.7, weights: &WEIGHTS, ..InBatch::default() };
        loss::focal_nce(&x[0], &x[1], &known, 1.5)
    }),
];

// PyTorch 2.13:
//
// import torch
// import torch.nn.functional as F
//
// def numbers(n, salt):
//     return torch.tensor([((i * 37 + salt * 11) % 23 - 11) / 8 for i in range(n)])
//
// def golden(name, f, *shapes):
//     inputs = [numbers(a * b, i + 1).reshape(a, b).requires_grad_() for i, (a, b) in enumerate(shapes)]
//     loss = f(*inputs)
//     loss.backward()
//     grads = [round(float(v), 7) for x in inputs for v in x.grad.flatten()]
//     print(f'("{name}", {round(loss.item(), 6)}, &{grads}),')
//
// y = torch.tensor([[1.0, 0.0], [0.0, 0.25], [1.0, 1.0]])
// hard = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
// w = torch.tensor([[1.0], [0.5], [2.5]])
// t = torch.tensor([3, 0, 1])
// mean = lambda each: (w * each.sum(1, keepdim=True)).sum() / w.sum()
// bce = lambda z, y, **k: F.binary_cross_entropy_with_logits(z, y, reduction="none", **k)
// def focal(z, alpha, gamma):  # torchvision.ops.sigmoid_focal_loss
//     p = torch.sigmoid(z)
//     p_t = p * hard + (1 - p) * (1 - hard)
//     a_t = alpha * hard + (1 - alpha) * (1 - hard)
//     return a_t * (1 - p_t) ** gamma * bce(z, hard)
// def softmax_focal(z, gamma):
//     each = F.cross_entropy(z, t, reduction="none")
//     return ((1 - torch.exp(-each)) ** gamma * each)[:, None]
// def kl(z, q):
//     return F.kl_div(F.log_softmax(z, 1), q, reduction="none").sum(1, keepdim=True)
// p4 = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 0.5, 0.5, 0.0], [1.0, 0.0, 0.0, 0.0]])
//
// golden("bce", lambda z: mean(bce(z, y)), (3, 2))
// golden("bce_smoothed_weighted", lambda z: mean(bce(z, y * 0.8 + 0.1, pos_weight=torch.tensor(3.0))), (3, 2))
// golden("mse", lambda z: mean(F.mse_loss(z, y, reduction="none")), (3, 2))
// golden("mae", lambda z: mean(F.l1_loss(z, y, reduction="none")), (3, 2))
// golden("hinge", lambda z: mean(torch.relu(1 - (2 * hard - 1) * z)), (3, 2))
// golden("binary_kl", lambda z: mean(sum(F.kl_div(F.logsigmoid(s * z), q, reduction="none") for s, q in ((1, y), (-1, 1 - y)))), (3, 2))
// golden("binary_focal", lambda z: mean(focal(z, 0.25, 2.0)), (3, 2))
// golden("binary_focal_fraction", lambda z: mean(2 * focal(z, 0.5, 0.5)), (3, 2))
// golden("softmax", lambda z: mean(F.cross_entropy(z, t, reduction="none")[:, None]), (3, 4))
// golden("softmax_by_class", lambda z: F.cross_entropy(z, t, weight=torch.tensor([1.0, 2.0, 3.0, 0.5])), (3, 4))
// golden("softmax_smoothed", lambda z: F.cross_entropy(z, t, label_smoothing=0.2), (3, 4))
// golden("softmax_focal", lambda z: mean(softmax_focal(z, 2.0)), (3, 4))
// golden("kl_divergence", lambda z: mean(kl(z, p4)), (3, 4))
// golden("bpr", lambda p, n: mean(-F.logsigmoid(p - n).mean(1, keepdim=True)), (3, 1), (3, 4))
// golden("margin", lambda p, n: mean(F.margin_ranking_loss(p.expand(3, 4), n, torch.ones(3, 4), margin=0.5, reduction="none").mean(1, keepdim=True)), (3, 1), (3, 4))
// golden("triplet", lambda a, p, n: mean(F.triplet_margin_loss(a, p, n, margin=0.8, reduction="none")[:, None]), (3, 4), (3, 4), (3, 4))
// log_q = torch.tensor([-1.0, -2.0, -0.5])
// log_n = torch.tensor([-1.5, -0.25, -3.0, -0.75])
// hit = torch.tensor([[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
// def sampled(p, n, out):
//     return torch.cat([p - log_q[:, None], (n - log_n).masked_fill(hit, out)], 1)
// golden("sampled_softmax", lambda p, n: mean(F.cross_entropy(sampled(p, n, -torch.inf), torch.zeros(3).long(), reduction="none")[:, None]), (3, 1), (3, 4))
// first = torch.tensor([[1.0, 0, 0, 0, 0]] * 3)
// golden("nce", lambda p, n: mean(bce(sampled(p, n, -1e30), first)), (3, 1), (3, 4))
// golden("negative_sampling", lambda p, n: mean(bce(torch.cat([p, n], 1), first)), (3, 1), (3, 4))
// own = torch.arange(3)
// golden("info_nce", lambda q, k: mean(F.cross_entropy(q @ k.T / 0.7, own, reduction="none")[:, None]), (3, 4), (5, 4))
// def focal_nce(q, k):
//     each = F.cross_entropy(q @ k.T / 0.7, own, reduction="none")
//     return ((1 - torch.exp(-each)) ** 1.5 * each)[:, None]
// golden("focal_nce", lambda q, k: mean(focal_nce(q, k)), (3, 4), (5, 4))
#[rustfmt::skip]
const GOLDEN: &[(&str, f32, &[f32])] = &[
    ("bce", 1.003002, &[-0.125, 0.0612713, 0.0814194, 0.0159426, -0.1391876, -0.2929941]),
    ("bce_smoothed_weighted", 2.573468, &[-0.325, -0.0014745, 0.0602032, -0.0369919, -0.3272253, -0.7578835]),
    ("mse", 1.203125, &[-0.5, -0.5625, 0.15625, -0.1875, 0.3125, -1.09375]),
    ("mae", 1.40625, &[-0.25, -0.25, 0.125, -0.125, 0.625, -0.625]),
    ("hinge", 1.0625, &[-0.25, 0.0, 0.125, 0.125, -0.0, -0.625]),
    ("binary_kl", 0.93271, &[-0.125, 0.0612713, 0.0814194, 0.0159426, -0.1391876, -0.2929941]),
    ("binary_focal", 0.085917, &[-0.0186429, 0.0075411, 0.0551313, 0.0129316, -0.0047608, -0.0391756]),
    ("binary_focal_fraction", 0.645052, &[-0.1190214, 0.0434672, 0.0842414, 0.0403296, -0.0945628, -0.2725089]),
    ("softmax", 0.842867, &[0.0657994, 0.0213619, 0.1229294, -0.2100907, -0.0636227, 0.0199263, 0.0064691, 0.0372272, 0.0677185, -0.2353068, 0.1265149, 0.0410734]),
    ("softmax_by_class", 0.735281, &[0.0375996, 0.0122068, 0.0702454, -0.1200518, -0.1454232, 0.0455458, 0.0147866, 0.0850908, 0.0619141, -0.2151376, 0.1156707, 0.0375528]),
    ("softmax_smoothed", 1.139505, &[0.0710658, 0.0118159, 0.1472392, -0.2301209, -0.1196604, 0.0364701, 0.0005843, 0.082606, 0.0194499, -0.0754969, 0.0508079, 0.0052391]),
    ("softmax_focal", 0.38883, &[0.0788613, 0.0256025, 0.1473323, -0.2517962, -0.0391015, 0.0122464, 0.0039758, 0.0228793, 0.0246177, -0.0855408, 0.0459918, 0.0149314]),
    ("kl_divergence", 1.675322, &[0.0407994, -0.0286381, 0.0479294, -0.0600907, 0.0613773, -0.0425737, -0.0560309, 0.0372272, -0.5572815, 0.3896932, 0.1265149, 0.0410734]),
    ("bpr", 0.709273, &[-0.1475227, -0.0798078, -0.2367567, 0.0498867, 0.035136, 0.0183884, 0.0441116, 0.0220558, 0.013682, 0.0255492, 0.0185208, 0.0926042, 0.0501283, 0.0207757, 0.0732485]),
    ("margin", 0.585938, &[-0.1875, -0.125, -0.3125, 0.0625, 0.0625, 0.0, 0.0625, 0.03125, 0.03125, 0.03125, 0.03125, 0.15625, 0.0, 0.0, 0.15625]),
    ("triplet", 3.419653, &[-0.2471317, -0.2471317, 0.0082348, -0.2471317, 0.0012865, 0.0012865, -0.1209709, 0.0012865, -0.6111307, 0.0132794, 0.0132794, -0.6111307, 0.1221317, 0.1221317, -0.1332348, 0.1221317, -0.0637865, -0.0637865, 0.0584709, -0.0637865, 0.2986307, -0.3257794, -0.3257794, 0.2986307, 0.125, 0.125, 0.125, 0.125, 0.0625, 0.0625, 0.0625, 0.0625, 0.3125, 0.3125, 0.3125, 0.3125]),
    ("sampled_softmax", 1.837236, &[-0.224989, -0.1167707, -0.4819556, 0.1630923, 0.0151699, 0.0, 0.0467267, 0.0119735, 0.0011137, 0.100253, 0.0034305, 0.0, 0.0526231, 0.267242, 0.1620905]),
    ("nce", 5.06647, &[-0.0672354, -0.0367769, -0.1531781, 0.2366492, 0.1556148, 0.0, 0.2088709, 0.0971625, 0.0306356, 0.1208643, 0.0625, 0.0, 0.3320059, 0.5324705, 0.4858124]),
    ("negative_sampling", 3.859764, &[-0.125, -0.0943644, -0.2179032, 0.1995467, 0.1405441, 0.0735537, 0.1764463, 0.0547279, 0.0252267, 0.0740833, 0.0401027, 0.4569116, 0.2929941, 0.1391876, 0.3890371]),
    ("info_nce", 5.825532, &[-0.5067791, -0.4937275, 0.5041783, -0.5067791, 0.2656976, 0.2660625, -0.2453035, 0.2656976, -1.4311504, 1.0906575, 1.118906, -1.4311504, 0.1423713, 0.4183055, -0.3360027, 0.2608753, -0.2244591, -0.3206277, 0.3480026, -0.2720332, 0.4124191, -1.2200882, -0.2832542, 0.8243521, -0.3287728, 1.2009908, 0.221998, -0.7696815, -0.0015585, -0.0785803, 0.0492563, -0.0435128]),
    ("focal_nce", 5.797312, &[-0.5247569, -0.5112423, 0.5220639, -0.5247568, 0.2676045, 0.2679721, -0.2470641, 0.2676046, -1.4617743, 1.1139957, 1.1428485, -1.4617745, 0.1433759, 0.4326758, -0.3446832, 0.2677317, -0.2260902, -0.3314439, 0.3552853, -0.27785, 0.4201266, -1.2463626, -0.2883907, 0.8412968, -0.3358103, 1.2266177, 0.2267901, -0.7861845, -0.001602, -0.0814869, 0.0509984, -0.044994]),
];

fn numbers(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| (((i * 37 + salt * 11) % 23) as f32 - 11.0) / 8.0).collect()
}

fn inputs(params: &mut Params, shapes: &[(usize, usize)]) -> Vec<ParamId> {
    let of = |(i, (rows, width)): (usize, &(usize, usize))| {
        let id = params.dense(&format!("x{i}"), &[*rows, *width], Init::Zeros).unwrap();
        params.values_mut(id).copy_from_slice(&numbers(rows * width, i + 1));
        id
    };
    shapes.iter().enumerate().map(of).collect()
}

fn of(pass: &Pass, ids: &[ParamId], loss: Loss) -> Tensor {
    loss(&ids.iter().map(|id| pass.param(*id)).collect::<Vec<_>>())
}

#[test]
fn values_and_gradients_agree_with_pytorch() {
    assert_eq!(LOSSES.len(), GOLDEN.len());
    for ((name, shapes, loss), (golden, value, slopes)) in LOSSES.iter().zip(GOLDEN) {
        assert_eq!(name, golden);
        let mut params = Params::new(0);
        let ids = inputs(&mut params, shapes);
        let pass = Pass::new(&params, Mode::Train, 0);
        let found = of(&pass, &ids, *loss);
        assert!(
            (found.item() - value).abs() < 2e-6 * (1.0 + value.abs()),
            "{name}: {}, not {value}",
            found.item()
        );
        let gradients = pass.backward(&found);
        let all: Vec<f32> = ids.iter().flat_map(|id| gradients.dense(*id).unwrap().to_vec()).collect();
        assert_eq!(all.len(), slopes.len(), "{name}");
        for (i, (a, b)) in all.iter().zip(*slopes).enumerate() {
            assert!((a - b).abs() < 2e-6, "{name}: slope {i} is {a}, not {b}");
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    for (name, shapes, loss) in LOSSES {
        let mut params = Params::new(0);
        let ids = inputs(&mut params, shapes);
        // Away from the kinks of the losses that have some.
        ids.iter().for_each(|id| params.values_mut(*id).iter_mut().for_each(|v| *v = *v * 0.9 + 0.03));
        gradcheck::check(&mut params, 4e-3, |pass| of(pass, &ids, *loss).scale(2.0))
            .unwrap_or_else(|said| panic!("{name}: {said}"));
    }
}

#[test]
fn losses_stay_finite_for_huge_logits() {
    for (name, shapes, loss) in LOSSES {
        let mut params = Params::new(0);
        let ids = inputs(&mut params, shapes);
        ids.iter().for_each(|id| params.values_mut(*id).iter_mut().for_each(|v| *v *= 1e4));
        let pass = Pass::new(&params, Mode::Train, 0);
        let found = of(&pass, &ids, *loss);
        assert!(found.item().is_finite(), "{name}: {}", found.item());
        assert!(pass.backward(&found).is_finite(), "{name}");
    }
}

#[test]
fn a_row_of_weight_zero_may_hold_anything() {
    type Pointwise = fn(&Tensor, &[f32], &[f32]) -> Tensor;
    let pointwise: &[Pointwise] = &[
        loss::bce_with_logits,
        loss::mse,
        loss::mae,
        loss::hinge,
        loss::binary_kl,
        |z, y, w| loss::bce(z, y, w, (0.1, 2.0)),
        |z, y, w| loss::binary_focal(z, y, w, (2.0, Some(0.3))),
    ];
    let mut params = Params::new(0);
    let z = params.dense("z", &[3, 1], Init::Zeros).unwrap();
    params.values_mut(z).copy_from_slice(&[0.5, f32::NAN, -1.0]);
    for loss in pointwise {
        let pass = Pass::new(&params, Mode::Train, 0);
        let found = loss(&pass.param(z), &[1.0, f32::NAN, 0.0], &[1.0, 0.0, 2.0]);
        assert!(found.item().is_finite());
        assert!(pass.backward(&found).is_finite());
    }
}

#[test]
fn many_rows_agree_with_a_plain_sum() {
    let n = 70_000;
    let (z, y) = (numbers(n, 3), (0..n).map(|i| (i % 3 == 0) as u8 as f32).collect::<Vec<_>>());
    let weights: Vec<f32> = (0..n).map(|i| (i % 5) as f32).collect();
    let params = Params::new(0);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let found = loss::bce_with_logits(&pass.constant(&[n, 1], z.clone()), &y, &weights).item();
    let one = |i: usize| {
        let (z, y) = (f64::from(z[i]), f64::from(y[i]));
        f64::from(weights[i]) * ((1.0 + z.exp()).ln() - y * z)
    };
    let wanted = (0..n).map(one).sum::<f64>() / weights.iter().map(|w| f64::from(*w)).sum::<f64>();
    assert!((f64::from(found) - wanted).abs() < 1e-5, "{found} {wanted}");
}

#[test]
fn each_row_may_have_its_own_negatives() {
    let params = Params::new(0);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let (p, n) = (pass.constant(&[3, 1], numbers(3, 1)), pass.constant(&[3, 4], numbers(12, 2)));
    let log_q: Vec<f32> = SAMPLED.negative_log_q.repeat(3);
    let items: Vec<u32> = SAMPLED.negative_items.repeat(3);
    let own = Sampled { negative_log_q: &log_q, negative_items: &items, ..SAMPLED };
    assert_eq!(loss::nce(&p, &n, &own).item(), loss::nce(&p, &n, &SAMPLED).item());
    assert_eq!(loss::sampled_softmax(&p, &n, &own).item(), loss::sampled_softmax(&p, &n, &SAMPLED).item());
}

#[test]
fn class_balanced_weights_follow_their_formula() {
    let (beta, counts) = (0.99f64, [10u64, 1000, 0]);
    let raw = counts.map(|n| if n == 0 { 0.0 } else { (1.0 - beta) / (1.0 - beta.powi(n as i32)) });
    let sum: f64 = raw.iter().sum();
    for (w, raw) in loss::class_balanced_weights(beta, &counts).iter().zip(raw) {
        assert!((f64::from(*w) - 3.0 * raw / sum).abs() < 1e-6);
    }
}

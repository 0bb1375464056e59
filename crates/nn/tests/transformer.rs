//! Attention over sequences of different lengths against plain loops, finite differences and its own laws.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

use millstream_nn::gradcheck;
use millstream_nn::{
    BlockNorm, Init, Mode, ParamId, Params, Pass, PlaceEmbedding, Ragged, SeqAttention, TransformerBlock,
    TransformerConfig,
};
use std::sync::Arc;

fn numbers(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + salt * 104_729 + 13) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn ragged(pass: &Pass, offsets: &[u32], values: Vec<f32>) -> Ragged {
    let total = *offsets.last().unwrap() as usize;
    Ragged::new(Arc::new(offsets.to_vec()), pass.constant(&[total, values.len() / total], values)).unwrap()
}

fn how(heads: usize) -> SeqAttention {
    SeqAttention { heads, scale: 0.7, causal: true, window: None, dropout: 0.0 }
}

/// Every pair of elements, in double precision.
fn naive(offsets: &[u32], (q, k, v): (&[f32], &[f32], &[f32]), total: usize, how: SeqAttention) -> Vec<f32> {
    let width = total / how.heads;
    let mut out = vec![0.0; q.len()];
    let window = how.window.unwrap_or(usize::MAX);
    for ends in offsets.windows(2) {
        let (from, to) = (ends[0] as usize, ends[1] as usize);
        for (i, h) in (from..to).flat_map(|i| (0..how.heads).map(move |h| (i, h))) {
            let at = |i: usize| i * total + h * width..i * total + (h + 1) * width;
            let sees = |j: &usize| (!how.causal || *j <= i) && i.abs_diff(*j) < window;
            let dot = |j: usize| -> f64 {
                q[at(i)].iter().zip(&k[at(j)]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
            };
            let weights: Vec<(usize, f64)> =
                (from..to).filter(sees).map(|j| (j, (f64::from(how.scale) * dot(j)).exp())).collect();
            let sum: f64 = weights.iter().map(|(_, w)| w).sum();
            for (o, d) in out[at(i)].iter_mut().zip(0..) {
                let mixed: f64 = weights.iter().map(|(j, w)| w * f64::from(v[at(*j)][d])).sum();
                *o = (mixed / sum) as f32;
            }
        }
    }
    out
}

#[test]
fn tiles_agree_with_loops_over_all_pairs() {
    let params = Params::new(1);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let offsets = [0, 1, 1, 65, 200, 203, 400];
    let total = 6;
    let (q, k, v) = (numbers(2400, 1), numbers(2400, 2), numbers(2400, 3));
    let scaled: Vec<f32> = q.iter().map(|q| 4.0 * q).collect();
    for causal in [true, false] {
        for window in [None, Some(1), Some(5), Some(70), Some(1000)] {
            for heads in [1, 2, 3] {
                let how = SeqAttention { causal, window, ..how(heads) };
                let keys = pass.constant(&[400, total], k.clone());
                let values = pass.constant(&[400, total], v.clone());
                let found = ragged(&pass, &offsets, scaled.clone()).attend(&pass, &keys, &values, how);
                let wanted = naive(&offsets, (&scaled, &k, &v), total, how);
                for (i, (a, b)) in found.values().data().iter().zip(&wanted).enumerate() {
                    assert!((a - b).abs() < 2e-6, "{how:?} at {i}: {a} against {b}");
                }
            }
        }
    }
}

/// Weights for queries, keys and values `[elements, width]`.
fn qkv(params: &mut Params, elements: usize, width: usize) -> [ParamId; 3] {
    ["q", "k", "v"].map(|name| params.dense(name, &[elements, width], Init::Normal(0.7)).unwrap())
}

#[test]
fn slopes_of_attention_are_finite_differences() {
    let cases = [
        how(2),
        SeqAttention { causal: false, ..how(1) },
        SeqAttention { window: Some(3), ..how(2) },
        SeqAttention { causal: false, window: Some(2), ..how(1) },
        SeqAttention { dropout: 0.4, ..how(2) },
    ];
    for how in cases {
        let mut params = Params::new(3);
        let ids = qkv(&mut params, 9, 4);
        gradcheck::check(&mut params, 2e-3, |pass| {
            let [q, k, v] = ids.map(|id| pass.param(id));
            let q = Ragged::new(Arc::new(vec![0, 5, 5, 9]), q).unwrap();
            let y = q.attend(pass, &k, &v, how);
            y.values().mul(&pass.constant(&[9, 4], numbers(36, 8))).sum()
        })
        .unwrap_or_else(|e| panic!("{how:?}: {e}"));
    }
}

#[test]
fn slopes_across_tiles_are_those_of_the_weights_written_out() {
    // 130 elements are three tiles: the same attention by matrix products over all pairs.
    let (n, d) = (130, 4);
    let gradients = |tiled: bool| -> Vec<Vec<f32>> {
        let mut params = Params::new(5);
        let ids = qkv(&mut params, n, d);
        let pass = Pass::new(&params, Mode::Train, 1);
        let [q, k, v] = ids.map(|id| pass.param(id));
        let y = if tiled {
            let q = Ragged::new(Arc::new(vec![0, n as u32]), q).unwrap();
            q.attend(&pass, &k, &v, how(1)).values().clone()
        } else {
            let hidden = (0..n * n).map(|at| if at % n > at / n { -1e9 } else { 0.0 }).collect();
            let scores = q.scale(0.7).matmul(&k, millstream_nn::Transpose::Right);
            let weights = scores.add(&pass.constant(&[n, n], hidden)).softmax();
            weights.matmul(&v, millstream_nn::Transpose::Neither)
        };
        let loss = y.mul(&pass.constant(&[n, d], numbers(n * d, 4))).sum();
        let gradients = pass.backward(&loss);
        ids.map(|id| gradients.dense(id).unwrap().to_vec()).to_vec()
    };
    for (found, wanted) in gradients(true).iter().zip(gradients(false)) {
        for (a, b) in found.iter().zip(wanted) {
            assert!((a - b).abs() < 1e-4 * (1.0 + b.abs()), "{a} against {b}");
        }
    }
}

#[test]
fn dropped_weights_repeat_with_the_seed_and_keep_the_mean() {
    let params = Params::new(1);
    let one = |seed: u64, dropout: f32| -> Vec<f32> {
        let pass = Pass::new(&params, Mode::Train, seed);
        let ones = pass.constant(&[300, 2], vec![1.0; 600]);
        let q = ragged(&pass, &[0, 300], numbers(600, 1));
        let y = q.attend(&pass, &ones, &ones, SeqAttention { causal: false, dropout, ..how(1) });
        y.values().to_vec()
    };
    assert_eq!(one(4, 0.3), one(4, 0.3));
    assert_ne!(one(4, 0.3), one(5, 0.3));
    let mean = one(4, 0.3).iter().sum::<f32>() / 600.0;
    assert!((mean - 1.0).abs() < 0.02, "{mean}");
    assert!(one(4, 0.0).iter().all(|y| (y - 1.0).abs() < 1e-6));
}

#[test]
fn rotated_products_depend_on_distance_alone_and_slopes_turn_back() {
    let params = Params::new(1);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let (q, k) = (numbers(8, 1), numbers(8, 2));
    let repeat = |x: &[f32]| x.repeat(20);
    let turned = |x: &[f32]| ragged(&pass, &[0, 20], repeat(x)).rotate(2, 100.0).values().to_vec();
    let (tq, tk) = (turned(&q), turned(&k));
    let dot = |i: usize, j: usize| -> f32 { (0..8).map(|c| tq[i * 8 + c] * tk[j * 8 + c]).sum() };
    for (i, j) in [(3, 1), (9, 7), (19, 17)] {
        assert!((dot(i, j) - dot(2, 0)).abs() < 1e-5);
    }
    assert!((dot(5, 2) - dot(2, 0)).abs() > 1e-3, "another distance gives another product");
    assert_eq!(&tq[..8], &q[..], "the first place is not turned");
    let mut params = Params::new(3);
    let id = params.dense("x", &[5, 4], Init::Normal(1.0)).unwrap();
    gradcheck::check(&mut params, 1e-3, |pass| {
        let x = Ragged::new(Arc::new(vec![0, 2, 5]), pass.param(id)).unwrap();
        x.rotate(1, 50.0).values().mul(&pass.constant(&[5, 4], numbers(20, 4))).sum()
    })
    .unwrap();
}

fn config(norm: BlockNorm) -> TransformerConfig {
    TransformerConfig { heads: 2, hidden: 6, norm, ..TransformerConfig::new(4) }
}

const NORMS: [BlockNorm; 3] = [BlockNorm::Query, BlockNorm::Before, BlockNorm::After];

#[test]
fn a_causal_block_never_looks_ahead_and_a_row_is_the_same_alone() {
    for norm in NORMS {
        for rotary in [None, Some(10_000.0)] {
            let mut params = Params::new(2);
            let block =
                TransformerBlock::new(&mut params, "b", &TransformerConfig { rotary, ..config(norm) })
                    .unwrap();
            let pass = Pass::new(&params, Mode::Infer, 0);
            let run = |offsets: &[u32], x: Vec<f32>| {
                block.forward(&pass, &ragged(&pass, offsets, x)).values().to_vec()
            };
            let x = numbers(40, 5);
            let whole = run(&[0, 3, 10], x.clone());
            let mut changed = x.clone();
            changed[36..].fill(3.0);
            let after = run(&[0, 3, 10], changed);
            assert_eq!(whole[..36], after[..36], "{norm:?}");
            assert_ne!(whole[36..], after[36..]);
            let alone = run(&[0, 7], x[12..].to_vec());
            assert!(alone.iter().zip(&whole[12..]).all(|(a, b)| (a - b).abs() < 1e-6), "{norm:?}");
        }
    }
}

#[test]
fn slopes_of_blocks_are_finite_differences() {
    for norm in NORMS {
        let mut params = Params::new(4);
        let config = TransformerConfig { dropout: 0.2, rotary: Some(20.0), ..config(norm) };
        let block = TransformerBlock::new(&mut params, "b", &config).unwrap();
        let places = PlaceEmbedding::new(&mut params, "places", (3, 4), 0.5).unwrap();
        gradcheck::check(&mut params, 5e-3, |pass| {
            let x = places.add(pass, &ragged(pass, &[0, 4, 5], numbers(20, 6)));
            block.forward(pass, &x).values().mul(&pass.constant(&[5, 4], numbers(20, 9))).sum()
        })
        .unwrap_or_else(|e| panic!("{norm:?}: {e}"));
    }
}

#[test]
fn places_are_counted_from_the_end() {
    let mut params = Params::new(1);
    let places = PlaceEmbedding::new(&mut params, "places", (2, 1), 1.0).unwrap();
    let id = params.find("places").unwrap();
    params.values_mut(id).copy_from_slice(&[10.0, 20.0]);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let x = ragged(&pass, &[0, 1, 4], vec![1.0, 2.0, 3.0, 4.0]);
    assert_eq!(places.add(&pass, &x).values().to_vec(), [11.0, 22.0, 23.0, 14.0]);
}

#[test]
fn sizes_that_do_not_fit_are_told() {
    let mut params = Params::new(1);
    let told = |params: &mut Params, config: TransformerConfig| {
        TransformerBlock::new(params, "b", &config).unwrap_err().to_string()
    };
    let c = TransformerConfig::new(6);
    assert!(told(&mut params, TransformerConfig { heads: 4, ..c.clone() }).contains("heads = 4"));
    assert!(
        told(&mut params, TransformerConfig { heads: 2, rotary: Some(10.0), ..c.clone() }).contains("even")
    );
    assert!(told(&mut params, TransformerConfig { window: Some(0), ..c.clone() }).contains("window"));
    assert!(told(&mut params, TransformerConfig { dropout: 1.0, ..c }).contains("dropout"));
    assert!(PlaceEmbedding::new(&mut params, "places", (0, 4), 1.0).is_err());
}

#[test]
fn empty_and_single_sequences_are_attended_to() {
    let params = Params::new(1);
    let pass = Pass::new(&params, Mode::Train, 0);
    let none = Ragged::new(Arc::new(vec![0, 0]), pass.constant(&[0, 4], vec![])).unwrap();
    assert!(none.attend(&pass, none.values(), none.values(), how(2)).values().is_empty());
    let x = ragged(&pass, &[0, 1], numbers(4, 1));
    let y = x.attend(&pass, x.values(), x.values(), how(2));
    assert!(y.values().data().iter().zip(x.values().data()).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn a_sequence_that_several_threads_share_is_as_by_loops() {
    let params = Params::new(1);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let (offsets, total) = ([0, 3, 700, 700, 956], 4);
    let (q, k, v) = (numbers(956 * 4, 1), numbers(956 * 4, 2), numbers(956 * 4, 3));
    for (causal, window) in [(true, None), (false, None), (true, Some(300))] {
        let how = SeqAttention { causal, window, ..how(2) };
        let keys = pass.constant(&[956, total], k.clone());
        let values = pass.constant(&[956, total], v.clone());
        let found = ragged(&pass, &offsets, q.clone()).attend(&pass, &keys, &values, how);
        let wanted = naive(&offsets, (&q, &k, &v), total, how);
        for (i, (a, b)) in found.values().data().iter().zip(&wanted).enumerate() {
            assert!((a - b).abs() < 2e-6, "{how:?} at {i}: {a} against {b}");
        }
    }
}

#[test]
fn the_last_state_alone_is_the_last_of_all_states() {
    let offsets = [0, 7, 7, 8, 90];
    for (n, heads) in [BlockNorm::Query, BlockNorm::Before, BlockNorm::After].into_iter().zip([1, 2, 3]) {
        for (window, rotary) in [(None, None), (Some(3), None), (Some(200), None), (Some(5), Some(100.0))] {
            let mut params = Params::new(8);
            let config = TransformerConfig { heads, norm: n, window, rotary, ..TransformerConfig::new(12) };
            let block = TransformerBlock::new(&mut params, "block", &config).unwrap();
            let values = params.dense("values", &[90, 12], Init::Normal(1.0)).unwrap();
            let pass = Pass::new(&params, Mode::Infer, 0);
            let x = Ragged::new(Arc::new(offsets.to_vec()), pass.param(values)).unwrap();
            let (all, last) = (block.forward(&pass, &x), block.last(&pass, &x));
            assert_eq!(last.shape(), [4, 12]);
            for (row, end) in [(0, 6), (2, 7), (3, 89)] {
                let wanted = &all.values().data()[end * 12..][..12];
                for (a, b) in last.data()[row * 12..][..12].iter().zip(wanted) {
                    assert!((a - b).abs() < 1e-5, "{config:?}: {a} against {b}");
                }
            }
            assert!(last.is_finite());
        }
    }
}

#[test]
fn slopes_of_the_last_state_are_finite_differences() {
    for norm in [BlockNorm::Query, BlockNorm::Before, BlockNorm::After] {
        let mut params = Params::new(9);
        let config = TransformerConfig { heads: 2, norm, window: Some(3), ..TransformerConfig::new(4) };
        let block = TransformerBlock::new(&mut params, "block", &config).unwrap();
        let values = params.dense("values", &[8, 4], Init::Normal(1.0)).unwrap();
        gradcheck::check(&mut params, 1e-2, |pass| {
            let x = Ragged::new(Arc::new(vec![0, 5, 6, 8]), pass.param(values)).unwrap();
            block.last(pass, &x).square().sum()
        })
        .unwrap();
    }
}

#[test]
fn the_latest_elements_are_cut_and_the_last_of_nothing_is_zero() {
    let params = Params::new(1);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let x = ragged(&pass, &[0, 3, 3, 5], (0..10).map(|v| v as f32).collect());
    assert_eq!(x.last().data(), [4.0, 5.0, 0.0, 0.0, 8.0, 9.0]);
    let cut = x.latest(2);
    assert_eq!(cut.offsets()[..], [0, 2, 2, 4]);
    assert_eq!(cut.values().data(), [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    assert_eq!(x.latest(3).values().data(), x.values().data());
}

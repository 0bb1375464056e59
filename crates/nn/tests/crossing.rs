//! Operations and layers of the crossing rankers: each fused one against its composition and finite differences.

#![allow(clippy::unwrap_used)]

use millstream_nn::*;

const TOLERANCE: f32 = 3e-3;

/// Weights in0, in1, .. of the shapes given, with values around ±1.
fn inputs(shapes: &[&[usize]]) -> (Params, Vec<ParamId>) {
    let mut params = Params::new(17);
    let make =
        |(i, shape): (usize, &&[usize])| params.dense(&format!("in{i}"), shape, Init::Normal(1.0)).unwrap();
    let ids = shapes.iter().enumerate().map(make).collect();
    (params, ids)
}

/// Σ c_i y_i with different c_i, so that no mix-up of places goes unseen.
fn probe(pass: &Pass, y: &Tensor) -> Tensor {
    let c = (0..y.len()).map(|i| ((i * 37 + 11) % 17) as f32 / 8.0 - 1.0).collect();
    y.mul(&pass.constant(y.shape(), c)).sum()
}

fn check(shapes: &[&[usize]], f: impl Fn(&Pass, &[Tensor]) -> Tensor) {
    let (mut params, ids) = inputs(shapes);
    gradcheck::check(&mut params, TOLERANCE, |pass| {
        let t: Vec<Tensor> = ids.iter().map(|id| pass.param(*id)).collect();
        probe(pass, &f(pass, &t))
    })
    .unwrap();
}

/// Two ways to compute one thing: values and all gradients agree.
fn agree(shapes: &[&[usize]], fused: impl Fn(&[Tensor]) -> Tensor, plain: impl Fn(&[Tensor]) -> Tensor) {
    let (params, ids) = inputs(shapes);
    let run = |f: &dyn Fn(&[Tensor]) -> Tensor| {
        let pass = Pass::new(&params, Mode::Train, 0);
        let t: Vec<Tensor> = ids.iter().map(|id| pass.param(*id)).collect();
        let y = f(&t);
        let values = y.to_vec();
        let gradients = pass.backward(&probe(&pass, &y));
        let slopes: Vec<Vec<f32>> = ids.iter().map(|id| gradients.dense(*id).unwrap().to_vec()).collect();
        (values, slopes)
    };
    let ((y, slopes), (wanted, wanted_slopes)) = (run(&fused), run(&plain));
    near(&y, &wanted);
    slopes.iter().zip(&wanted_slopes).for_each(|(a, b)| near(a, b));
}

fn near(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= 2e-5 * (1.0 + b.abs()), "[{i}]: {a} against {b}");
    }
}

/// Attention by slices, matrix products and softmax; with four tensors the last one is added.
fn attend_plainly(t: &[Tensor], heads: usize, scale: f32) -> Tensor {
    let width = t[0].width() / heads;
    let head = |h: usize| {
        let [q, k, v] = [0, 1, 2].map(|i: usize| t[i].slice(h * width, width));
        q.matmul(&k, Transpose::Right).scale(scale).softmax().matmul(&v, Transpose::Neither)
    };
    let y = Tensor::join((0..heads).map(head));
    t.get(3).map_or(y.clone(), |r| y.add(r)).relu()
}

fn attend_at_once(t: &[Tensor], heads: usize, scale: f32) -> Tensor {
    Tensor::join(t.iter().cloned()).attend_relu(heads, scale, t.len() == 4)
}

#[test]
fn attention_agrees_with_slices_products_and_softmax() {
    for (shape, heads) in
        [([3, 4, 6], 2), ([2, 5, 3], 1), ([700, 4, 32], 4), ([70, 10, 64], 2), ([9, 17, 20], 2)]
    {
        for blocks in [3, 4] {
            let shapes = vec![&shape[..]; blocks];
            agree(&shapes, |t| attend_at_once(t, heads, 0.7), |t| attend_plainly(t, heads, 0.7));
        }
    }
    // Shifted away from the kink of the cut.
    let shifted = |t: &[Tensor]| [&t[..2], &[t[2].affine(0.2, 2.0)], &t[3..]].concat();
    check(&[&[2, 3, 4], &[2, 3, 4], &[2, 3, 4]], |_, t| attend_at_once(&shifted(t), 2, 0.5));
    check(&[&[2, 3, 4], &[2, 3, 4], &[2, 3, 4], &[2, 3, 4]], |_, t| {
        attend_at_once(&[&shifted(&t[..3])[..], &[t[3].affine(0.2, 2.0)]].concat(), 2, 0.5)
    });
}

#[test]
fn the_vector_cross_layer_agrees_with_its_formula() {
    for n in [5, 3000] {
        agree(
            &[&[n, 12], &[n, 12], &[12], &[12]],
            |t| t[0].cross_vector(&t[1], &t[2], &t[3]),
            |t| {
                let along = t[0].linear(&t[2].reshape(&[1, 12]), None);
                t[1].mul_column(&along).add_row(&t[3]).add(&t[0])
            },
        );
    }
    check(&[&[4, 3], &[4, 3], &[3], &[3]], |_, t| t[0].cross_vector(&t[1], &t[2], &t[3]));
    check(&[&[4, 3], &[3], &[3]], |_, t| {
        let x1 = t[0].cross_vector(&t[0], &t[1], &t[2]);
        x1.cross_vector(&t[0], &t[1], &t[2]).scale(0.1)
    });
}

#[test]
fn a_product_and_a_sum_in_one_agree_with_two_operations() {
    agree(&[&[4, 3], &[4, 3], &[4, 3]], |t| t[0].mul_add(&t[1], &t[2]), |t| t[0].mul(&t[1]).add(&t[2]));
    check(&[&[4, 3], &[4, 3]], |_, t| t[0].mul_add(&t[1], &t[0]));
}

#[test]
fn field_aware_pairs_agree_with_two_loops() {
    let (n, f, k) = (5, 4, 3);
    let (params, ids) = inputs(&[&[n, f, f * k]]);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let x = pass.param(ids[0]);
    let at = |n: usize, i: usize, j: usize| &x.data()[((n * f + i) * f + j) * k..][..k];
    let wanted: Vec<f32> = (0..n)
        .map(|n| {
            let pairs = (0..f).flat_map(|i| (i + 1..f).map(move |j| (i, j)));
            pairs.map(|(i, j)| at(n, i, j).iter().zip(at(n, j, i)).map(|(a, b)| a * b).sum::<f32>()).sum()
        })
        .collect();
    near(x.ffm().data(), &wanted);
    check(&[&[3, 4, 8]], |_, t| t[0].ffm().square());
    check(&[&[3, 1, 2]], |_, t| t[0].ffm().add(&t[0].sum_middle().sum_rows()));
}

#[test]
fn places_of_the_middle_axis_are_slices() {
    agree(
        &[&[3, 4, 2]],
        |t| t[0].pick_middle(&[3, 1, 3]).flatten(),
        |t| {
            let flat = t[0].flatten();
            Tensor::concat(&[&flat.slice(6, 2), &flat.slice(2, 2), &flat.slice(6, 2)])
        },
    );
    check(&[&[3, 4, 2]], |_, t| t[0].pick_middle(&[2, 0]).square());
}

/// A layer built over weights of its own, with its input as a further weight `x`.
fn check_layer<L>(
    shape: &[usize],
    build: impl Fn(&mut Params) -> Result<L>,
    forward: impl Fn(&L, &Pass, &Tensor) -> Tensor,
) {
    let mut params = Params::new(3);
    let x = params.dense("x", shape, Init::Normal(0.7)).unwrap();
    let layer = build(&mut params).unwrap();
    gradcheck::check(&mut params, 1e-2, |pass| probe(pass, &forward(&layer, pass, &pass.param(x)))).unwrap();
}

#[test]
fn layers_match_finite_differences() {
    check_layer(&[5, 4], |p| VectorCross::new(p, "c", 4, 2), |c, pass, x| c.forward(pass, x));
    check_layer(&[5, 4], |p| CrossMixture::new(p, "c", 4, 2, (2, 1)), |c, pass, x| c.forward(pass, x));
    check_layer(&[5, 4], |p| CrossMixture::new(p, "c", 4, 2, (2, 3)), |c, pass, x| c.forward(pass, x));
    check_layer(
        &[4, 6],
        |p| BilinearFusion::new(p, "f", (6, 6), 3, 2),
        |f, pass, x| f.forward(pass, x, &x.tanh()),
    );
    // Shifted so that no ReLU is at its kink.
    let attention = |residual| move |p: &mut Params| FieldAttention::new(p, "a", 4, (2, 3), (residual, true));
    check_layer(&[3, 4, 4], attention(false), |a, pass, x| a.forward(pass, &x.affine(0.3, 1.0)));
    check_layer(&[3, 4, 4], attention(true), |a, pass, x| a.forward(pass, &x.affine(0.3, 1.0)));
}

#[test]
fn a_full_rank_product_is_the_full_matrix() {
    let (n, d, r) = (6, 5, 5);
    let mut params = Params::new(9);
    let x = params.dense("x", &[n, d], Init::Normal(1.0)).unwrap();
    let low = CrossMixture::new(&mut params, "low", d, 1, (r, 1)).unwrap();
    let full = CrossNet::new(&mut params, "full", d, 1).unwrap();
    let find = |p: &Params, name: &str| p.find(name).unwrap();
    let (down, up) = (find(&params, "low.0.0.down.weight"), find(&params, "low.0.0.up.weight"));
    let (v, u) = (params.values(down).to_vec(), params.values(up).to_vec());
    let weight = find(&params, "full.0.weight");
    for i in 0..d {
        for j in 0..d {
            params.values_mut(weight)[i * d + j] = (0..r).map(|k| u[i * r + k] * v[k * d + j]).sum();
        }
    }
    let bias = find(&params, "full.0.bias");
    params.values_mut(bias).fill(0.0);
    let pass = Pass::new(&params, Mode::Infer, 0);
    let x = pass.param(x);
    near(low.forward(&pass, &x).data(), full.forward(&pass, &x).data());
}

#[test]
fn a_mixture_is_the_gated_sum_of_its_experts() {
    let (n, d, r, experts) = (3, 4, 2, 3);
    let mut params = Params::new(10);
    let x = params.dense("x", &[n, d], Init::Normal(1.0)).unwrap();
    let mixture = CrossMixture::new(&mut params, "m", d, 1, (r, experts)).unwrap();
    let pass = Pass::new(&params, Mode::Infer, 0);
    let y = mixture.forward(&pass, &pass.param(x));
    let w = |name: &str| params.values(params.find(name).unwrap()).to_vec();
    let times = |m: &[f32], v: &[f32]| -> Vec<f32> {
        m.chunks(v.len()).map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum()).collect()
    };
    let tanh = |v: Vec<f32>| v.into_iter().map(f32::tanh).collect::<Vec<_>>();
    for row in 0..n {
        let x = &params.values(x)[row * d..][..d];
        let gates: Vec<f32> = times(&w("m.0.gate.weight"), x).into_iter().map(f32::exp).collect();
        let mut wanted = x.to_vec();
        for e in 0..experts {
            let low = tanh(times(&w(&format!("m.0.{e}.down.weight")), x));
            let low = tanh(times(&w(&format!("m.0.{e}.turn.weight")), &low));
            let up = times(&w(&format!("m.0.{e}.up.weight")), &low);
            let gate = gates[e] / gates.iter().sum::<f32>();
            (0..d).for_each(|j| wanted[j] += gate * x[j] * (up[j] + w(&format!("m.0.{e}.up.bias"))[j]));
        }
        near(&y.data()[row * d..][..d], &wanted);
    }
}

#[test]
fn bilinear_fusion_agrees_with_three_loops() {
    let (n, dx, dy, heads) = (4, 6, 4, 2);
    let mut params = Params::new(11);
    let x = params.dense("x", &[n, dx], Init::Normal(1.0)).unwrap();
    let y = params.dense("y", &[n, dy], Init::Normal(1.0)).unwrap();
    let fusion = BilinearFusion::new(&mut params, "f", (dx, dy), heads, 1).unwrap();
    let pass = Pass::new(&params, Mode::Infer, 0);
    let out = fusion.forward(&pass, &pass.param(x), &pass.param(y));
    let w = |name: &str| params.values(params.find(name).unwrap()).to_vec();
    let (left, right) = (w("f.left.weight"), w("f.right.weight"));
    for row in 0..n {
        let (x, y) = (&params.values(x)[row * dx..][..dx], &params.values(y)[row * dy..][..dy]);
        let mut wanted = w("f.left.bias")[0] + w("f.right.bias")[0];
        wanted += x.iter().zip(&left).map(|(a, b)| a * b).sum::<f32>();
        wanted += y.iter().zip(&right).map(|(a, b)| a * b).sum::<f32>();
        for h in 0..heads {
            let matrix = w(&format!("f.0.{h}"));
            for i in 0..dx / heads {
                for j in 0..dy / heads {
                    wanted += x[h * 3 + i] * matrix[i * 2 + j] * y[h * 2 + j];
                }
            }
        }
        near(&[out.data()[row]], &[wanted]);
    }
    let wrong = BilinearFusion::new(&mut params, "g", (6, 4), 4, 1).unwrap_err().to_string();
    assert!(wrong.contains("6 and 4") && wrong.contains("4 heads"), "{wrong}");
}

/// A tower of two layers with gates, and the sum over its outputs with and without them.
fn gated_tower() -> (Params, ParamId, Mlp, Lhuc) {
    let mut params = Params::new(12);
    let x = params.dense("x", &[5, 4], Init::Normal(1.0)).unwrap();
    let config = MlpConfig { hidden: vec![6, 3], activation: Activation::Tanh, ..MlpConfig::default() };
    let mlp = Mlp::new(&mut params, "tower", 4, &config).unwrap();
    let lhuc = Lhuc::new(&mut params, "lhuc", 4, &[3], &mlp.widths()).unwrap();
    (params, x, mlp, lhuc)
}

#[test]
fn a_gate_whose_last_layer_is_zero_leaves_the_tower_as_it_is() {
    let (mut params, x, mlp, lhuc) = gated_tower();
    let both = |params: &Params| {
        let pass = Pass::new(params, Mode::Infer, 0);
        let x = pass.param(x);
        let gates = lhuc.forward(&pass, &x);
        (mlp.forward(&pass, &x).to_vec(), mlp.forward_gated(&pass, &x, &gates).to_vec())
    };
    let (plain, gated) = both(&params);
    assert_ne!(plain, gated);
    for part in ["gate.0.weight", "gate.0.bias", "gate.1.weight", "gate.1.bias"] {
        let id = params.find(&format!("lhuc.{part}")).unwrap();
        params.values_mut(id).fill(0.0);
    }
    let (plain, gated) = both(&params);
    assert_eq!(plain, gated);
}

#[test]
fn gates_match_finite_differences() {
    let (mut params, x, mlp, lhuc) = gated_tower();
    gradcheck::check(&mut params, 1e-2, |pass| {
        let x = pass.param(x);
        probe(pass, &mlp.forward_gated(pass, &x, &lhuc.forward(pass, &x.affine(0.1, 1.0))))
    })
    .unwrap();
}

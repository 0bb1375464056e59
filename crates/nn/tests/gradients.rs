//! Every operation and layer against central finite differences.

#![allow(clippy::unwrap_used)]

use millstream_nn::*;
use std::sync::Arc;

const TOLERANCE: f32 = 3e-3;

/// Weights named a, b, .. of the shapes given, with values around ±1.
fn inputs(shapes: &[&[usize]]) -> (Params, Vec<ParamId>) {
    let mut params = Params::new(5);
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

#[test]
fn sums_and_products_of_same_shapes() {
    check(&[&[3, 4], &[3, 4]], |_, t| t[0].add(&t[1]));
    check(&[&[3, 4], &[3, 4]], |_, t| t[0].sub(&t[1]));
    check(&[&[3, 4], &[3, 4]], |_, t| t[0].mul(&t[1]));
    check(&[&[3, 4]], |_, t| t[0].square().add(&t[0]).sub(&t[0].scale(0.3)));
    check(&[&[5]], |_, t| t[0].affine(-2.0, 0.5).mul(&t[0]));
}

#[test]
fn broadcast_sums_and_products() {
    check(&[&[2, 3, 4], &[4]], |_, t| t[0].add_row(&t[1]).square());
    check(&[&[2, 3, 4], &[4]], |_, t| t[0].mul_row(&t[1]).square());
    check(&[&[5, 4], &[5, 1]], |_, t| t[0].add_column(&t[1]).square());
    check(&[&[2, 3, 4], &[2, 3, 1]], |_, t| t[0].mul_column(&t[1]).square());
}

#[test]
fn activations() {
    for a in [Activation::Sigmoid, Activation::Tanh, Activation::Silu, Activation::Identity] {
        check(&[&[3, 5]], |_, t| t[0].activate(a));
    }
    // Away from the kink at zero.
    for a in [Activation::Relu, Activation::LeakyRelu] {
        check(&[&[3, 5]], |_, t| t[0].square().affine(1.0, 0.1).activate(a));
        check(&[&[3, 5]], |_, t| t[0].square().affine(-1.0, -0.1).activate(a));
    }
    check(&[&[3, 5]], |_, t| t[0].exp());
}

#[test]
fn dropout_passes_gradients_where_it_passed_values() {
    check(&[&[7, 5]], |pass, t| t[0].dropout(pass, 0.4).square());
}

#[test]
fn reductions() {
    check(&[&[3, 4]], |_, t| t[0].square().sum());
    check(&[&[3, 4]], |_, t| t[0].square().mean());
    check(&[&[2, 3, 4]], |_, t| t[0].sum_rows().square());
    check(&[&[2, 3, 4]], |_, t| t[0].sum_middle().square());
}

#[test]
fn joining_and_cutting() {
    check(&[&[3, 2], &[3, 4]], |_, t| Tensor::concat(&[&t[0], &t[1], &t[0]]).square());
    check(&[&[3, 5]], |_, t| t[0].slice(1, 3).square().add(&t[0].slice(2, 3)));
    check(&[&[2, 3], &[4, 3]], |_, t| Tensor::stack_rows(&[&t[0], &t[1], &t[0]]).square());
    check(&[&[5, 3]], |_, t| t[0].slice_rows(1, 3).square().add(&t[0].slice_rows(2, 3)));
    check(&[&[2, 3, 4]], |_, t| t[0].flatten().square().reshape(&[4, 6]));
}

#[test]
fn matrix_products_in_every_layout() {
    use Transpose::*;
    check(&[&[3, 4], &[4, 5]], |_, t| t[0].matmul(&t[1], Neither));
    check(&[&[4, 3], &[4, 5]], |_, t| t[0].matmul(&t[1], Left));
    check(&[&[3, 4], &[5, 4]], |_, t| t[0].matmul(&t[1], Right));
    check(&[&[4, 3], &[5, 4]], |_, t| t[0].matmul(&t[1], Both));
    check(&[&[2, 3, 4], &[2, 4, 5]], |_, t| t[0].matmul(&t[1], Neither));
    check(&[&[2, 4, 3], &[2, 4, 5]], |_, t| t[0].matmul(&t[1], Left));
    check(&[&[2, 3, 4], &[2, 5, 4]], |_, t| t[0].matmul(&t[1], Right));
    check(&[&[2, 4, 3], &[2, 5, 4]], |_, t| t[0].matmul(&t[1], Both));
    check(&[&[3, 4]], |_, t| t[0].matmul(&t[0], Right));
}

#[test]
fn linear_layers() {
    check(&[&[6, 4], &[3, 4], &[3]], |_, t| t[0].linear(&t[1], Some(&t[2])).square());
    check(&[&[6, 4], &[1, 4]], |_, t| t[0].linear(&t[1], None).square());
    check(&[&[2, 3, 4], &[5, 4], &[5]], |_, t| t[0].linear(&t[1], Some(&t[2])));
    check(&[&[6, 4], &[3, 4], &[3]], |_, t| t[0].linear_relu(&t[1], Some(&t[2])));
}

#[test]
fn the_cross_layer_with_x_other_than_and_equal_to_x0() {
    check(&[&[6, 4], &[6, 4], &[4, 4], &[4]], |_, t| t[0].cross(&t[1], &t[2], &t[3]));
    check(&[&[6, 4], &[4, 4], &[4]], |_, t| {
        let x1 = t[0].cross(&t[0], &t[1], &t[2]);
        x1.cross(&t[0], &t[1], &t[2]).scale(0.1)
    });
}

#[test]
fn normalisations() {
    check(&[&[4, 3]], |_, t| t[0].l2_normalise());
    check(&[&[4, 6]], |_, t| t[0].standardise_rows(1e-5));
    check(&[&[4, 6]], |_, t| t[0].softmax());
}

#[test]
fn factorisation() {
    check(&[&[4, 6], &[4, 6]], |_, t| t[0].dot_rows(&t[1]).square());
    check(&[&[4, 3, 5]], |_, t| t[0].fm());
    check(&[&[4, 3, 6]], |_, t| t[0].ffm().square());
}

#[test]
fn gathering_and_pooling() {
    let index = Arc::new(vec![2, 0, 2, 1, 2]);
    check(&[&[3, 4]], |_, t| t[0].gather(&index).square());
    check(&[&[3, 2, 2]], |_, t| t[0].gather(&index).square());
    for (pooling, weights) in [
        (Pooling::Mean, None),
        (Pooling::Sum, None),
        (Pooling::Mean, Some(vec![0.5, 2.0, 1.0, 0.25, 3.0])),
        (Pooling::Sum, Some(vec![0.5, -2.0, 1.0, 0.0, 3.0])),
    ] {
        let bags = Bags::new(vec![0, 2, 2, 5], vec![2, 0, 2, 1, 2], weights, pooling).unwrap();
        check(&[&[3, 4]], |_, t| t[0].pool(&bags).square());
    }
    let bags = Bags::new(vec![0, 2, 2, 5], vec![2, 0, 2, 1, 2], None, Pooling::Mean).unwrap();
    check(&[&[3, 4], &[5, 1]], |_, t| t[0].pool_weighted(&bags, &t[1]).square());
    check(&[&[5, 1]], |pass, t| {
        let rows = pass.constant(&[3, 2], vec![1.0, 2.0, 3.0, -4.0, 5.0, 6.0]);
        rows.pool_weighted(&bags, &t[0]).square()
    });
}

#[test]
fn losses() {
    let labels = [1.0, 0.0, 0.3, 1.0, 0.0, 1.0];
    check(&[&[6, 1]], |_, t| loss::bce_with_logits(&t[0], &labels, &[]));
    check(&[&[3, 2]], |_, t| loss::bce_with_logits(&t[0], &labels, &[1.0, 0.0, 2.5]));
    check(&[&[3, 5]], |_, t| loss::softmax_cross_entropy(&t[0], &[4, 0, 2], &[]));
    check(&[&[3, 5]], |_, t| loss::softmax_cross_entropy(&t[0], &[4, 0, 2], &[1.0, 0.5, 0.0]));
    for (mixed, weights) in [(true, &[1.0, 2.0, 0.5][..]), (false, &[1.0, 2.0, 0.5]), (false, &[])] {
        check(&[&[3, 4], &[5, 4]], |_, t| {
            let (log_q, items) = (&[-1.0, -2.0, -0.5, -3.0, -1.5], &[7, 8, 7, 9, 8]);
            let known = loss::InBatch { temperature: 0.7, log_q, items, weights, mixed, own: 0 };
            loss::in_batch_softmax(&t[0], &t[1], &known)
        });
    }
}

#[test]
fn layers_with_norms_and_dropout() {
    let mut params = Params::new(8);
    let x = params.dense("x", &[9, 4], Init::Normal(1.0)).unwrap();
    let config = MlpConfig {
        hidden: vec![5, 3],
        activation: Activation::Tanh,
        dropout: 0.2,
        batch_norm: true,
        ..MlpConfig::default()
    };
    let mlp = Mlp::new(&mut params, "mlp", 4, &config).unwrap();
    let cross = CrossNet::new(&mut params, "cross", 3, 2).unwrap();
    let norm = LayerNorm::new(&mut params, "norm", 3).unwrap();
    let head = Linear::new(&mut params, "head", 3, 2).unwrap();
    gradcheck::check(&mut params, 1e-2, |pass| {
        let h = mlp.forward(pass, &pass.param(x));
        let h = norm.forward(pass, &cross.forward(pass, &h));
        probe(pass, &head.forward(pass, &h))
    })
    .unwrap();
}

#[test]
fn layers_may_be_shared_between_threads() {
    fn sharable<T: Send + Sync>() {}
    sharable::<Params>();
    sharable::<Gradients>();
    sharable::<Optimiser>();
    sharable::<Lookup>();
    sharable::<(Embed, LinearTerms, Linear, Mlp, CrossNet, LayerNorm, BatchNorm)>();
}

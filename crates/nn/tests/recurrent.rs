//! Recurrent layers against PyTorch and finite differences.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

use millstream_nn::{Gru, Init, Lstm, Mode, Params, Pass, Ragged, gradcheck};
use std::sync::Arc;

fn values(n: usize, (a, b, m): (usize, usize, usize)) -> Vec<f32> {
    (0..n).map(|i| ((i * a + b) % m) as f32 / m as f32 - 0.5).collect()
}

type Layer = dyn Fn(&Pass, &Ragged) -> Ragged;

/// Outputs, slopes of the inputs, and Σ|slope| of recurrent weight, its bias and the input weight for Σ y².
type Found = (Vec<f32>, Vec<f32>, [f32; 3]);

fn found(gates: usize, forward: impl Fn(&mut Params) -> Box<Layer>) -> Found {
    let (i, h) = (2, 3);
    let mut params = Params::new(1);
    let layer = forward(&mut params);
    let x = params.dense("x", &[6, i], Init::Zeros).unwrap();
    let mut set = |name: &str, given: Vec<f32>| {
        let id = params.find(name).unwrap();
        params.values_mut(id).copy_from_slice(&given);
        id
    };
    let input = set("net.input.weight", values(gates * h * i, (7, 3, 17)));
    set("net.input.bias", values(gates * h, (5, 1, 11)));
    let recurrent = set("net.recurrent.weight", values(gates * h * h, (11, 2, 23)));
    let bias = set("net.recurrent.bias", values(gates * h, (3, 4, 13)));
    set("x", values(6 * i, (13, 5, 29)));
    let pass = Pass::new(&params, Mode::Train, 1);
    let y = layer(&pass, &Ragged::new(Arc::new(vec![0, 2, 5, 6]), pass.param(x)).unwrap());
    let gradients = pass.backward(&y.values().mul(y.values()).sum());
    let total = |id| gradients.dense(id).unwrap().iter().map(|g| g.abs()).sum::<f32>();
    (y.values().to_vec(), gradients.dense(x).unwrap().to_vec(), [total(recurrent), total(bias), total(input)])
}

fn near(found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len());
    for (i, (a, b)) in found.iter().zip(wanted).enumerate() {
        assert!((a - b).abs() < 2e-6 * (1.0 + b.abs()), "at {i}: {a} against {b}");
    }
}

// PyTorch 2.13:
//
// def vals(n, a, b, m):
//     return torch.tensor([((i * a + b) % m) / m - 0.5 for i in range(n)], dtype=torch.float64)
// for name, g in [("GRU", 3), ("LSTM", 4)]:
//     I, H = 2, 3
//     net = getattr(torch.nn, name)(I, H, batch_first=True).double()
//     with torch.no_grad():
//         net.weight_ih_l0.copy_(vals(g * H * I, 7, 3, 17).view(g * H, I))
//         net.bias_ih_l0.copy_(vals(g * H, 5, 1, 11))
//         net.weight_hh_l0.copy_(vals(g * H * H, 11, 2, 23).view(g * H, H))
//         net.bias_hh_l0.copy_(vals(g * H, 3, 4, 13))
//     x = vals(6 * I, 13, 5, 29).view(6, I).requires_grad_()
//     y = torch.cat([net(x[a:b][None])[0][0] for a, b in [(0, 2), (2, 5), (5, 6)]])
//     y.pow(2).sum().backward()
//     print(y, x.grad, net.weight_hh_l0.grad.abs().sum(), net.bias_hh_l0.grad.abs().sum(), net.weight_ih_l0.grad.abs().sum())

#[test]
fn a_gru_is_pytorchs() {
    let (y, dx, sums) = found(3, |params| {
        let layer = Gru::new(params, "net", (2, 3)).unwrap();
        assert_eq!(layer.outputs(), 3);
        Box::new(move |pass, x| layer.forward(pass, x))
    });
    near(
        &y,
        &[
            0.313658, -0.068528, -0.020821, 0.452583, -0.140812, -0.02175, 0.119392, 0.088307, 0.118453,
            0.186969, 0.102816, 0.160548, 0.23605, 0.089154, 0.179213, 0.17691, 0.057919, 0.129257,
        ],
    );
    near(
        &dx,
        &[
            -0.275318, 0.085433, -0.233291, 0.05441, -0.015375, -0.071793, -0.025213, -0.077443, -0.022932,
            -0.060673, -0.019866, -0.0377,
        ],
    );
    near(&sums, &[0.288474, 1.54848, 1.10636]);
}

#[test]
fn an_lstm_is_pytorchs() {
    let (y, dx, sums) = found(4, |params| {
        let layer = Lstm::new(params, "net", (2, 3)).unwrap();
        assert_eq!(layer.outputs(), 3);
        Box::new(move |pass, x| layer.forward(pass, x))
    });
    near(
        &y,
        &[
            0.078852, 0.010852, -0.049895, 0.108142, 0.004436, -0.073585, 0.041834, 0.098244, 0.007049,
            0.061344, 0.140261, 0.002256, 0.074553, 0.154308, -0.002488, 0.06115, 0.083231, 0.01115,
        ],
    );
    near(
        &dx,
        &[
            -0.013195, 0.00563, -0.015157, 0.001424, 0.018634, -0.009496, 0.018887, -0.005425, 0.012853,
            -0.002854, 0.007905, -0.007081,
        ],
    );
    near(&sums, &[0.066158, 0.7082, 0.289512]);
}

#[test]
fn slopes_are_finite_differences_over_many_lengths() {
    for recurrent in ["gru", "lstm"] {
        let mut params = Params::new(6);
        let layer: Box<Layer> = if recurrent == "gru" {
            let layer = Gru::new(&mut params, "net", (2, 3)).unwrap();
            Box::new(move |pass, x| layer.forward(pass, x))
        } else {
            let layer = Lstm::new(&mut params, "net", (2, 3)).unwrap();
            Box::new(move |pass, x| layer.forward(pass, x))
        };
        let x = params.dense("x", &[9, 2], Init::Normal(1.0)).unwrap();
        gradcheck::check(&mut params, 2e-3, |pass| {
            let x = Ragged::new(Arc::new(vec![0, 1, 1, 5, 7, 9]), pass.param(x)).unwrap();
            layer(pass, &x).values().mul(&pass.constant(&[9, 3], values(27, (13, 3, 31)))).sum()
        })
        .unwrap_or_else(|e| panic!("{recurrent}: {e}"));
    }
}

#[test]
fn a_row_is_the_same_alone_and_no_rows_are_no_trouble() {
    let mut params = Params::new(6);
    let layer = Gru::new(&mut params, "net", (2, 40)).unwrap();
    let pass = Pass::new(&params, Mode::Infer, 0);
    let run = |offsets: Vec<u32>, x: Vec<f32>| {
        let x = Ragged::new(Arc::new(offsets), pass.constant(&[x.len() / 2, 2], x)).unwrap();
        layer.forward(&pass, &x).values().to_vec()
    };
    let x = values(2000, (13, 3, 997));
    let offsets: Vec<u32> = (0..=100).map(|b| b * 10).collect();
    let together = run(offsets, x.clone());
    let alone = run(vec![0, 10], x[20..40].to_vec());
    assert!(alone.iter().zip(&together[400..800]).all(|(a, b)| (a - b).abs() < 1e-5));
    assert!(run(vec![0, 0], vec![]).is_empty());
}

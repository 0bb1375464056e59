//! Normalising layers and learned activations against PyTorch.

#![allow(clippy::unwrap_used)]

use millstream_nn::*;

fn numbers(n: usize, salt: usize) -> Vec<f32> {
    (0..n).map(|i| (((i * i * 5 + salt * 7) % 23) as f32 - 11.0) / 8.0).collect()
}

fn near(name: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{name}");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() < 1e-5 * (1.0 + b.abs()), "{name}: {i} is {a}, not {b}");
    }
}

fn set(params: &mut Params, name: &str, values: &[f32]) {
    let id = params.find(name).unwrap();
    params.values_mut(id).copy_from_slice(values);
}

/// Checks output, gradient of the input, and gradients of the weights named, for the loss Σ (y − probe)².
fn check(params: &mut Params, layer: impl Fn(&Pass, &Tensor) -> Tensor, wanted: &[&[f32]], names: &[&str]) {
    let x = params.dense("x", &[4, 3], Init::Zeros).unwrap();
    params.values_mut(x).copy_from_slice(&numbers(12, 1));
    let pass = Pass::new(params, Mode::Train, 0);
    let y = layer(&pass, &pass.param(x));
    near("output", y.data(), wanted[0]);
    let gradients = pass.backward(&y.sub(&pass.constant(&[4, 3], numbers(12, 5))).square().sum());
    near("input", gradients.dense(x).unwrap(), wanted[1]);
    for (name, wanted) in names.iter().zip(&wanted[2..]) {
        near(name, gradients.dense(params.find(name).unwrap()).unwrap(), wanted);
    }
}

fn infer(params: &Params, layer: impl Fn(&Pass, &Tensor) -> Tensor) -> Vec<f32> {
    let pass = Pass::new(params, Mode::Infer, 0);
    layer(&pass, &pass.constant(&[1, 3], numbers(3, 6))).to_vec()
}

/// A training step that changes nothing but the running statistics.
fn observe(params: &mut Params, x: Vec<f32>, layer: impl Fn(&Pass, &Tensor) -> Tensor) {
    let gradients = {
        let pass = Pass::new(params, Mode::Train, 0);
        let y = layer(&pass, &pass.constant(&[4, 3], x));
        pass.backward(&y.sum())
    };
    Optimiser::new(DenseOptim::sgd(0.0)).step(params, &gradients);
}

// PyTorch 2.13:
//
// import torch
//
// def numbers(n, salt):
//     return torch.tensor([((i * i * 5 + salt * 7) % 23 - 11) / 8 for i in range(n)])
// show = lambda x: [round(v, 6) for v in x.flatten().tolist()]
// probe = numbers(12, 5).reshape(4, 3)
//
// def golden(name, layer, **more):
//     x = numbers(12, 1).reshape(4, 3).requires_grad_()
//     y = layer(x)
//     ((y - probe) ** 2).sum().backward()
//     print(name, show(y), show(x.grad), *[f"{k} {show(v())}" for k, v in more.items()], sep="\n  ")
//
// norm = torch.nn.BatchNorm1d(3)
// with torch.no_grad():
//     norm.weight.copy_(numbers(3, 4)); norm.bias.copy_(numbers(3, 3))
// golden("batch_norm", norm, gain=lambda: norm.weight.grad, bias=lambda: norm.bias.grad)
// norm(numbers(12, 4).reshape(4, 3))
// print("running", show(norm.running_mean), show(norm.running_var))
// norm.eval()
// print("inference", show(norm(numbers(3, 6)[None])))
// norm = torch.nn.LayerNorm(3)
// with torch.no_grad():
//     norm.weight.copy_(numbers(3, 4)); norm.bias.copy_(numbers(3, 3))
// golden("layer_norm", norm, gain=lambda: norm.weight.grad, bias=lambda: norm.bias.grad)
// prelu = torch.nn.PReLU(3)
// golden("prelu", prelu, alpha=lambda: prelu.weight.grad)
// norm = torch.nn.BatchNorm1d(3, affine=False, eps=1e-8)
// alpha = torch.tensor([0.0, 0.25, -0.5], requires_grad=True)
// def dice(s):
//     p = torch.sigmoid(norm(s))
//     return p * s + (1 - p) * alpha * s
// golden("dice", dice, alpha=lambda: alpha.grad)
// norm.eval()
// print("inference", show(dice(numbers(3, 6)[None])))

#[test]
#[rustfmt::skip]
fn batch_norm_agrees_with_pytorch_running_statistics_included() {
    let mut params = Params::new(0);
    let norm = BatchNorm::new(&mut params, "n", 3).unwrap();
    set(&mut params, "n.gain", &numbers(3, 4));
    set(&mut params, "n.bias", &numbers(3, 3));
    let layer = |pass: &Pass, x: &Tensor| norm.forward(pass, x);
    check(
        &mut params,
        layer,
        &[
            &[1.493094, -0.980265, 2.077663, 1.601135, -1.074991, -0.528107, 1.92526, -1.138142, 1.877219, -0.019489, -0.806601, 0.073224],
            &[0.560805, 0.314242, -0.000128, 0.257838, -0.177395, 0.000148, -0.651061, -0.020998, -0.000106, -0.167582, -0.115849, 8.5e-05],
            &[-3.208845, 0.886634, -14.612246],
            &[12.5, -3.75, 3.0],
        ],
        &["n.gain", "n.bias"],
    );
    observe(&mut params, numbers(12, 1), layer);
    observe(&mut params, numbers(12, 4), layer);
    near("mean", params.values(params.find("n.mean").unwrap()), &[-0.066563, 0.100313, -0.04875]);
    near("variance", params.values(params.find("n.variance").unwrap()), &[1.000742, 0.971289, 0.934687]);
    near("inference", &infer(&params, layer), &[0.450379, -0.828735, 0.091001]);
}

#[test]
#[rustfmt::skip]
fn layer_norm_agrees_with_pytorch() {
    let mut params = Params::new(0);
    let norm = LayerNorm::new(&mut params, "n", 3).unwrap();
    set(&mut params, "n.gain", &numbers(3, 4));
    set(&mut params, "n.bias", &numbers(3, 3));
    check(
        &mut params,
        |pass, x| norm.forward(pass, x),
        &[
            &[1.401518, -1.164145, 2.125027, 2.307654, -1.099634, 0.185226, 1.865871, -1.175963, 1.534862, 0.435429, -0.834069, 0.603476],
            &[1.972067, -0.739117, -1.232951, -0.201146, -2.211477, 2.412622, 0.340715, 0.040105, -0.38082, -0.923388, -0.497197, 1.420585],
            &[-7.586517, -4.880461, -8.8755],
            &[14.520945, -4.297622, 4.897182],
        ],
        &["n.gain", "n.bias"],
    );
}

#[test]
#[rustfmt::skip]
fn prelu_agrees_with_pytorch() {
    let mut params = Params::new(0);
    let prelu = Prelu::new(&mut params, "p", 3).unwrap();
    check(
        &mut params,
        |pass, x| prelu.forward(pass, x),
        &[
            &[-0.125, 0.125, -0.21875, -0.15625, 0.875, 0.75, -0.25, 1.375, -0.1875, 1.25, -0.3125, 0.375],
            &[-0.125, -1.25, 0.015625, -0.078125, 4.5, -1.25, 0.0625, 4.5, -0.03125, 4.5, 0.15625, -1.25],
            &[0.195312, -0.78125, 0.039062],
        ],
        &["p.alpha"],
    );
}

#[test]
#[rustfmt::skip]
fn dice_agrees_with_pytorch_running_statistics_included() {
    let mut params = Params::new(0);
    let dice = Dice::new(&mut params, "d", 3).unwrap();
    set(&mut params, "d.alpha", &[0.0, 0.25, -0.5]);
    let layer = |pass: &Pass, x: &Tensor| dice.forward(pass, x);
    check(
        &mut params,
        layer,
        &[
            &[-0.209835, 0.074432, 0.102045, -0.240654, 0.642452, 0.49892, -0.288978, 1.118448, 0.047704, 1.055718, -0.477023, 0.189936],
            &[-0.311234, -1.114346, -0.166226, -0.181176, 3.051702, -1.230131, 0.069743, 3.333113, 0.049973, 3.47843, 0.243484, -0.74387],
            &[1.055755, 2.218756, -1.13548],
        ],
        &["d.alpha"],
    );
    observe(&mut params, numbers(12, 1), layer);
    near("inference", &infer(&params, layer), &[0.735299, -0.519823, 0.303183]);
}

#[test]
fn gradients_of_learned_activations_agree_with_finite_differences() {
    for activation in [Activation::Prelu, Activation::Dice] {
        let mut params = Params::new(0);
        let x = params.dense("x", &[7, 3], Init::Zeros).unwrap();
        let values: Vec<f32> = numbers(21, 2).iter().map(|v| v + 0.04).collect();
        params.values_mut(x).copy_from_slice(&values);
        let layer = Activate::new(&mut params, "a", 3, activation).unwrap();
        set(&mut params, "a.alpha", &[0.1, 0.3, -0.2]);
        gradcheck::check(&mut params, 1e-2, |pass| {
            let y = layer.forward(pass, &pass.param(x));
            y.mul(&pass.constant(&[7, 3], numbers(21, 9))).sum()
        })
        .unwrap();
    }
}

#[test]
fn an_mlp_takes_learned_activations_by_name() {
    for (name, width) in [("\"dice\"", 1), ("\"prelu\"", 1), ("\"relu\"", 0)] {
        let activation: Activation = serde_json::from_str(name).unwrap();
        let mut params = Params::new(0);
        let config = MlpConfig { hidden: vec![5, 4], activation, ..MlpConfig::default() };
        let mlp = Mlp::new(&mut params, "tower", 3, &config).unwrap();
        let alphas = params.iter().filter(|(name, ..)| name.ends_with(".alpha")).count();
        assert_eq!(alphas, 2 * width, "{name}");
        let x = params.dense("x", &[20, 3], Init::Zeros).unwrap();
        params.values_mut(x).copy_from_slice(&numbers(60, 2));
        let pass = Pass::new(&params, Mode::Train, 0);
        let gradients = pass.backward(&mlp.forward(&pass, &pass.param(x)).square().sum());
        assert!(params.ids().filter(|id| params.is_trained(*id)).all(|id| gradients.dense(id).is_some()));
    }
}

#[test]
fn big_learned_activations_agree_with_small_ones() {
    // Many rows are worked on in parallel; the same few rows again and again have the same batch statistics.
    let (few, times) = (numbers(12, 1), 4000);
    for activation in [Activation::Prelu, Activation::Dice] {
        let mut params = Params::new(0);
        let layer = Activate::new(&mut params, "a", 3, activation).unwrap();
        let alpha = params.find("a.alpha").unwrap();
        let run = |x: Vec<f32>| {
            let pass = Pass::new(&params, Mode::Train, 0);
            let y = layer.forward(&pass, &pass.constant(&[x.len() / 3, 3], x));
            (y.to_vec(), pass.backward(&y.square().mean()).dense(alpha).unwrap().to_vec())
        };
        let (small, big) = (run(few.clone()), run(few.repeat(times)));
        near("output", &big.0[12 * 3999..], &small.0);
        near("slopes", &big.1, &small.1);
    }
}

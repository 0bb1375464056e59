//! Optimisers against plain scalar code in double precision.

#![allow(clippy::unwrap_used)]

use millstream_nn::*;

/// Minimises Σ c (w − t)² for some steps, and returns the weights.
fn run(steps: usize, optimiser: &mut Optimiser, params: &mut Params) -> Vec<f32> {
    let w = params.dense("w", &[3], Init::Ones).unwrap();
    for step in 0..steps {
        let pass = Pass::new(params, Mode::Train, step as u64);
        let away = pass.param(w).sub(&pass.constant(&[3], vec![0.5, -1.0, 3.0]));
        let loss = away.square().mul(&pass.constant(&[3], vec![1.0, 0.1, 4.0])).sum();
        let gradients = pass.backward(&loss);
        drop((away, loss, pass));
        optimiser.step(params, &gradients);
    }
    params.values(w).to_vec()
}

fn fresh(rule: DenseOptim, steps: usize) -> Vec<f32> {
    run(steps, &mut Optimiser::new(rule), &mut Params::new(0))
}

/// The same by hand: `update(w, g, memory, step)` for each of three weights.
fn by_hand(start: f64, steps: usize, update: impl Fn(&mut f64, f64, &mut [f64; 2], i32)) -> Vec<f64> {
    let (target, curve) = ([0.5, -1.0, 3.0], [1.0, 0.1, 4.0]);
    let one = |i: usize| {
        let (mut w, mut memory) = (1.0, [start, 0.0]);
        for t in 1..=steps as i32 {
            let g = 2.0 * curve[i] * (w - target[i]);
            update(&mut w, g, &mut memory, t);
        }
        w
    };
    (0..3).map(one).collect()
}

fn near(a: &[f32], b: &[f64]) {
    for (a, b) in a.iter().zip(b) {
        assert!((f64::from(*a) - b).abs() < 2e-5 * (1.0 + b.abs()), "{a}, expected {b}");
    }
}

fn adam_by_hand(l2: f64, decay: f64) -> Vec<f64> {
    by_hand(0.0, 25, |w, g, m, t| {
        let g = g + l2 * *w;
        m[0] = 0.9 * m[0] + 0.1 * g;
        m[1] = 0.999 * m[1] + 0.001 * g * g;
        let (first, second) = (m[0] / (1.0 - 0.9f64.powi(t)), m[1] / (1.0 - 0.999f64.powi(t)));
        *w -= 0.05 * decay * *w;
        *w -= 0.05 * first / (second.sqrt() + 1e-8);
    })
}

const ADAM: DenseOptim =
    DenseOptim::Adam(Adam { lr: 0.05, beta1: 0.9, beta2: 0.999, eps: 1e-8, l1: 0.0, l2: 0.2 });

#[test]
fn adam_with_and_without_decay() {
    near(&fresh(DenseOptim::adam(0.05), 25), &adam_by_hand(0.0, 0.0));
    near(&fresh(ADAM, 25), &adam_by_hand(0.2, 0.0));
    let w = DenseOptim::AdamW(AdamW { lr: 0.05, decay: 0.3, ..AdamW::default() });
    near(&fresh(w, 25), &adam_by_hand(0.0, 0.3));
}

#[test]
fn gradient_descent_with_momentum_and_l2() {
    for momentum in [0.0, 0.8] {
        let hand = by_hand(0.0, 20, |w, g, m, _| {
            m[0] = momentum * m[0] + g + 0.1 * *w;
            *w -= 0.02 * m[0];
        });
        near(
            &fresh(
                DenseOptim::Sgd(Sgd { lr: 0.02, momentum: momentum as f32, l2: 0.1, ..Sgd::default() }),
                20,
            ),
            &hand,
        );
    }
}

#[test]
fn adagrad() {
    let hand = by_hand(0.1, 20, |w, g, m, _| {
        let g = g + 0.01 * *w;
        m[0] += g * g;
        *w -= 0.3 * g / (m[0].sqrt() + 1e-10);
    });
    let rule =
        DenseOptim::AdaGrad(AdaGrad { lr: 0.3, initial_accumulator: 0.1, l2: 0.01, ..AdaGrad::default() });
    near(&fresh(rule, 20), &hand);
}

#[test]
fn a_resumed_run_gives_the_bits_of_an_unbroken_one() {
    let whole = fresh(ADAM, 20);
    let (mut params, mut optimiser) = (Params::new(0), Optimiser::new(ADAM));
    run(12, &mut optimiser, &mut params);
    let (weights, state) = (params.weights(), optimiser.state());
    let mut params = Params::with_weights(0, weights).unwrap();
    params.dense("w", &[3], Init::Ones).unwrap();
    let mut optimiser = Optimiser::new(ADAM);
    optimiser.restore(&params, state).unwrap();
    assert_eq!(run(8, &mut optimiser, &mut params), whole);
}

#[test]
fn state_of_another_model_or_rule_is_refused() {
    let (mut params, mut optimiser) = (Params::new(0), Optimiser::new(ADAM));
    run(1, &mut optimiser, &mut params);
    let state = optimiser.state();
    let mut plain = Optimiser::new(DenseOptim::sgd(0.1));
    assert!(plain.restore(&params, state.clone()).is_err());
    let mut other = Params::new(0);
    other.dense("v", &[3], Init::Ones).unwrap();
    let err = Optimiser::new(ADAM).restore(&other, state).unwrap_err().to_string();
    assert!(err.contains("`w`") && err.contains("`v`"), "{err}");
}

#[test]
fn clipping_scales_to_the_norm_asked_for() {
    let mut params = Params::new(0);
    let w = params.dense("w", &[2], Init::Ones).unwrap();
    let pass = Pass::new(&params, Mode::Train, 0);
    let loss = pass.param(w).mul(&pass.constant(&[2], vec![3.0, 4.0])).sum();
    let mut gradients = pass.backward(&loss);
    assert_eq!(gradients.clip(10.0), 5.0);
    assert_eq!(gradients.dense(w), Some(&[3.0, 4.0][..]));
    assert_eq!(gradients.clip(1.0), 5.0);
    assert!((gradients.norm() - 1.0).abs() < 1e-6);
}

#[test]
fn a_gradient_that_is_not_finite_is_named() {
    let mut params = Params::new(0);
    let w = params.dense("tower.weight", &[2], Init::Ones).unwrap();
    let pass = Pass::new(&params, Mode::Train, 0);
    let loss = pass.param(w).mul(&pass.constant(&[2], vec![3.0, f32::INFINITY])).sum();
    let gradients = pass.backward(&loss);
    assert_eq!(gradients.first_non_finite(&params), Some("tower.weight"));
    assert!(!gradients.is_finite());
}

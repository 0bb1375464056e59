//! Optimisers against PyTorch, FTRL against plain scalar code, groups and look-ahead.

#![allow(clippy::unwrap_used)]

use millstream_nn::*;

/// Minimises Σ c (w − t)² for some steps from ones.
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

fn rules() -> Vec<(&'static str, DenseOptim)> {
    let sgd = Sgd { lr: 0.02, l1: 0.3, l2: 0.1, ..Sgd::default() };
    let momentum = Sgd { momentum: 0.8, ..sgd };
    let rms = RmsProp { lr: 0.01, alpha: 0.95, ..RmsProp::default() };
    let adagrad = AdaGrad { lr: 0.3, initial_accumulator: 0.1, l1: 0.3, l2: 0.1, ..AdaGrad::default() };
    let adamw = AdamW { lr: 0.05, decay: 0.3, ..AdamW::default() };
    let radam = RAdam { lr: 0.05, l1: 0.3, l2: 0.1, ..RAdam::default() };
    vec![
        ("sgd", DenseOptim::Sgd(sgd)),
        ("momentum", DenseOptim::Sgd(momentum)),
        ("nesterov", DenseOptim::Sgd(Sgd { nesterov: true, ..momentum })),
        ("rms_prop", DenseOptim::RmsProp(RmsProp { l1: 0.3, l2: 0.1, ..rms })),
        ("rms_prop_momentum", DenseOptim::RmsProp(RmsProp { momentum: 0.7, ..rms })),
        ("adagrad", DenseOptim::AdaGrad(adagrad)),
        ("adam", DenseOptim::Adam(Adam { lr: 0.05, l1: 0.3, l2: 0.1, ..Adam::default() })),
        ("adamw", DenseOptim::AdamW(adamw)),
        ("radam", DenseOptim::RAdam(radam)),
        ("radam_fast", DenseOptim::RAdam(RAdam { lr: 0.05, beta2: 0.9, ..RAdam::default() })),
        ("ftrl", DenseOptim::Ftrl(Ftrl { lr: 0.1, l1: 0.3, l2: 0.1, ..Ftrl::default() })),
    ]
}

fn rule(name: &str) -> DenseOptim {
    rules().into_iter().find(|(n, _)| *n == name).unwrap().1
}

fn near(name: &str, a: &[f32], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((f64::from(*a) - b).abs() < 5e-6 * (1.0 + b.abs()), "{name}: {a}, expected {b}");
    }
}

// PyTorch 2.13:
//
// import torch
// def run(make, l1=0.0, look=None, steps=25):
//     w = torch.ones(3, requires_grad=True)
//     target, curve = torch.tensor([0.5, -1.0, 3.0]), torch.tensor([1.0, 0.1, 4.0])
//     optimiser, slow = make([w]), w.detach().clone()
//     for step in range(steps):
//         optimiser.zero_grad()
//         (((w - target) ** 2 * curve).sum() + l1 * w.abs().sum()).backward()
//         optimiser.step()
//         if look and (step + 1) % look[0] == 0:
//             with torch.no_grad():
//                 slow += look[1] * (w - slow)
//                 w.copy_(slow)
//     return w.tolist()
// o = torch.optim
// for name, w in {
//     "sgd": run(lambda p: o.SGD(p, 0.02, weight_decay=0.1), l1=0.3),
//     "momentum": run(lambda p: o.SGD(p, 0.02, momentum=0.8, weight_decay=0.1), l1=0.3),
//     "nesterov": run(lambda p: o.SGD(p, 0.02, momentum=0.8, nesterov=True, weight_decay=0.1), l1=0.3),
//     "rms_prop": run(lambda p: o.RMSprop(p, 0.01, alpha=0.95, weight_decay=0.1), l1=0.3),
//     "rms_prop_momentum": run(lambda p: o.RMSprop(p, 0.01, alpha=0.95, momentum=0.7)),
//     "adagrad": run(lambda p: o.Adagrad(p, 0.3, weight_decay=0.1, initial_accumulator_value=0.1), l1=0.3),
//     "adam": run(lambda p: o.Adam(p, 0.05, weight_decay=0.1), l1=0.3),
//     "adamw": run(lambda p: o.AdamW(p, 0.05, weight_decay=0.3)),
//     "radam": run(lambda p: o.RAdam(p, 0.05, weight_decay=0.1), l1=0.3),
//     "radam_fast": run(lambda p: o.RAdam(p, 0.05, betas=(0.9, 0.9))),
//     "look_ahead": run(lambda p: o.Adam(p, 0.05), look=(5, 0.5)),
// }.items():
//     print(f'("{name}", {w}),')
const GOLDEN: [(&str, [f64; 3]); 11] = [
    ("sgd", [0.5613919496536255, 0.627517819404602, 2.902712345123291]),
    ("momentum", [0.3112453520298004, -0.16749033331871033, 3.002993106842041]),
    ("nesterov", [0.3157222867012024, -0.10468443483114243, 2.9358510971069336]),
    ("rms_prop", [0.6271790862083435, 0.5812646150588989, 1.4135938882827759]),
    ("rms_prop_momentum", [0.5008376240730286, -0.16298571228981018, 2.1629858016967773]),
    ("adagrad", [0.33334121108055115, -0.01850219815969467, 2.695840358734131]),
    ("adam", [0.19148920476436615, -0.15327879786491394, 2.1665000915527344]),
    ("adamw", [0.41533252596855164, -0.2745591104030609, 1.695914626121521]),
    ("radam", [0.6281042098999023, 0.7361035943031311, 3.398178815841675]),
    ("radam_fast", [0.35906437039375305, 0.26742318272590637, 3.198812246322632]),
    ("look_ahead", [0.5073961019515991, 0.39281660318374634, 1.6071834564208984]),
];

#[test]
fn every_rule_agrees_with_pytorch() {
    for (name, wanted) in &GOLDEN[..10] {
        near(name, &run(25, &mut Optimiser::new(rule(name)), &mut Params::new(0)), wanted);
    }
}

#[test]
fn look_ahead_agrees_with_pytorch() {
    let mut optimiser =
        Optimiser::new(DenseOptim::adam(0.05)).with_look_ahead(LookAhead { k: 5, alpha: 0.5 });
    let (name, wanted) = &GOLDEN[10];
    near(name, &run(25, &mut optimiser, &mut Params::new(0)), wanted);
}

/// McMahan et al. 2013, algorithm 1, for one weight that starts at `w`.
fn ftrl_by_hand(w: f64, rule: &Ftrl, gradients: impl Fn(f64) -> f64, steps: usize) -> f64 {
    let [alpha, beta, l1, l2] = [rule.lr, rule.beta, rule.l1, rule.l2].map(f64::from);
    let solve = |z: f64, n: f64| {
        if z.abs() <= l1 { 0.0 } else { -(z - z.signum() * l1) / ((beta + n.sqrt()) / alpha + l2) }
    };
    let (mut n, mut z) = (0.0f64, if w == 0.0 { 0.0 } else { -w * (beta / alpha + l2) - w.signum() * l1 });
    assert!((solve(z, n) - w).abs() < 1e-12, "the start is the first solution");
    for _ in 0..steps {
        let w = solve(z, n);
        let g = gradients(w);
        let sigma = ((n + g * g).sqrt() - n.sqrt()) / alpha;
        z += g - sigma * w;
        n += g * g;
    }
    solve(z, n)
}

#[test]
fn ftrl_agrees_with_scalar_code() {
    for ftrl in [
        Ftrl::default(),
        Ftrl { lr: 0.5, beta: 0.3, l1: 0.3, l2: 0.2 },
        Ftrl { lr: 0.5, beta: 0.1, l1: 4.0, l2: 0.0 },
    ] {
        let by_hand = |i: usize| {
            let (target, curve) = ([0.5, -1.0, 3.0][i], [1.0, 0.1, 4.0][i]);
            ftrl_by_hand(1.0, &ftrl, |w| 2.0 * curve * (w - target), 40)
        };
        let found = run(40, &mut Optimiser::new(DenseOptim::Ftrl(ftrl)), &mut Params::new(0));
        near("ftrl", &found, &[by_hand(0), by_hand(1), by_hand(2)]);
    }
}

#[test]
fn ftrl_keeps_weights_that_gain_nothing_at_exactly_zero() {
    let mut params = Params::new(0);
    let w = params.dense("w", &[2], Init::Zeros).unwrap();
    let mut optimiser = Optimiser::new(DenseOptim::Ftrl(Ftrl { l1: 2.0, ..Ftrl::default() }));
    for step in 0..50 {
        let pass = Pass::new(&params, Mode::Train, step);
        // Noise for the first, always downhill for the second.
        let slopes = vec![if step % 2 == 0 { 1.0 } else { -1.0 }, -1.0];
        let gradients = pass.backward(&pass.param(w).mul(&pass.constant(&[2], slopes)).sum());
        drop(pass);
        optimiser.step(&mut params, &gradients);
    }
    assert_eq!(params.values(w)[0], 0.0);
    assert!(params.values(w)[1] > 0.2, "{:?}", params.values(w));
}

/// A wide weight under its own rule and a deep one under the default's.
fn two(params: &mut Params) -> [ParamId; 2] {
    let wide = params.grouped("wide", |p| p.dense("wide", &[3], Init::Ones)).unwrap();
    [wide, params.dense("deep", &[3], Init::Ones).unwrap()]
}

fn step_two(optimiser: &mut Optimiser, params: &mut Params, steps: usize) -> [Vec<f32>; 2] {
    let ids = two(params);
    for step in 0..steps {
        let pass = Pass::new(params, Mode::Train, step as u64);
        let far = |id| {
            let away = pass.param(id).sub(&pass.constant(&[3], vec![0.5, -1.0, 3.0]));
            away.square().mul(&pass.constant(&[3], vec![1.0, 0.1, 4.0])).sum()
        };
        let loss = far(ids[0]).add(&far(ids[1]));
        let gradients = pass.backward(&loss);
        drop((loss, pass));
        optimiser.step(params, &gradients);
    }
    ids.map(|id| params.values(id).to_vec())
}

#[test]
fn each_group_takes_the_steps_of_its_own_rule() {
    for (name, own) in rules() {
        let mut params = Params::new(0);
        two(&mut params);
        let groups = vec![("wide".to_owned(), own)];
        let mut optimiser = Optimiser::with_groups(rule("adam"), groups, &params).unwrap();
        let [wide, deep] = step_two(&mut optimiser, &mut params, 15);
        assert_eq!(wide, run(15, &mut Optimiser::new(own), &mut Params::new(0)), "{name}");
        assert_eq!(deep, run(15, &mut Optimiser::new(rule("adam")), &mut Params::new(0)), "{name}");
    }
}

#[test]
fn a_group_that_no_weight_belongs_to_is_refused() {
    let mut params = Params::new(0);
    let of = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), rule("sgd"))).collect::<Vec<_>>();
    let error = |params: &Params, names: &[&str]| {
        Optimiser::with_groups(rule("adam"), of(names), params).unwrap_err().to_string()
    };
    assert_eq!(error(&params, &["wide"]), "unknown parameter group `wide`; this model has none");
    two(&mut params);
    assert_eq!(error(&params, &["wyde"]), "unknown parameter group `wyde`; did you mean `wide`?");
    assert_eq!(error(&params, &["wide", "wide"]), "parameter group `wide` has two optimisers");
}

#[test]
fn every_rule_resumes_bit_by_bit_with_groups_and_look_ahead() {
    for (name, own) in rules() {
        let fresh = |params: &mut Params| {
            two(params);
            Optimiser::with_groups(rule("radam"), vec![("wide".to_owned(), own)], params)
                .unwrap()
                .with_look_ahead(LookAhead { k: 4, alpha: 0.3 })
        };
        let mut whole = Params::new(0);
        let unbroken = step_two(&mut fresh(&mut whole), &mut whole, 17);
        let mut params = Params::new(0);
        let mut optimiser = fresh(&mut params);
        step_two(&mut optimiser, &mut params, 10);
        let (weights, state) = (params.weights(), serde_json::to_string(&optimiser.state()).unwrap());
        let mut params = Params::with_weights(0, weights).unwrap();
        let mut optimiser = fresh(&mut params);
        optimiser.restore(&params, serde_json::from_str(&state).unwrap()).unwrap();
        assert_eq!(step_two(&mut optimiser, &mut params, 7), unbroken, "{name}");
    }
}

#[test]
fn a_state_saved_before_there_were_groups_is_read() {
    let old = r#"[{"name":"wide","steps":2,"first":[0.1,0.2,0.3],"second":[1.0,2.0,3.0]},
                  {"name":"deep","steps":2,"first":[0.0,0.0,0.0],"second":[1.0,1.0,1.0]}]"#;
    let mut params = Params::new(0);
    let [wide, _] = two(&mut params);
    let mut optimiser = Optimiser::new(rule("adam"));
    optimiser.restore(&params, serde_json::from_str(old).unwrap()).unwrap();
    assert_eq!(optimiser.moments(wide).unwrap().second, [1.0, 2.0, 3.0]);
    step_two(&mut optimiser, &mut params, 1);
    assert_eq!(optimiser.moments(wide).unwrap().steps, 3);
}

#[test]
fn a_state_with_look_ahead_is_refused_without_and_the_other_way_round() {
    let mut params = Params::new(0);
    let plain = Optimiser::new(rule("adam"));
    let mut one = plain.clone();
    let mut other = plain.with_look_ahead(LookAhead::default());
    step_two(&mut one, &mut params, 1);
    step_two(&mut other, &mut params, 1);
    let (without, with) = (one.state(), other.state());
    let said = one.restore(&params, with).unwrap_err().to_string();
    assert!(said.ends_with("look-ahead differs from when it was saved: now it is not used"), "{said}");
    let said = other.restore(&params, without).unwrap_err().to_string();
    assert!(said.ends_with("look-ahead differs from when it was saved: now it is used"), "{said}");
}

#[test]
fn the_factor_scales_every_rate_but_that_of_ftrl() {
    for (name, own) in rules() {
        let mut optimiser = Optimiser::new(own);
        optimiser.set_factor(0.25);
        let found = run(6, &mut optimiser, &mut Params::new(0));
        let mut slower = own;
        if name != "ftrl" {
            slower.set_lr(own.lr() * 0.25);
        }
        assert_eq!(found, run(6, &mut Optimiser::new(slower), &mut Params::new(0)), "{name}");
    }
}

#[test]
fn a_big_weight_is_updated_like_its_parts() {
    let gradients = |params: &Params, ids: &[ParamId]| {
        let pass = Pass::new(params, Mode::Train, 0);
        let each: Vec<Tensor> = ids.iter().map(|id| pass.param(*id).square().sum()).collect();
        let loss = each.iter().skip(1).fold(each[0].clone(), |sum, one| sum.add(one));
        pass.backward(&loss)
    };
    for (name, own) in rules() {
        let (mut whole, mut parts) = (Params::new(5), Params::new(5));
        let big = whole.dense("big", &[100_000], Init::Normal(1.0)).unwrap();
        let halves = ["a", "b"].map(|n| parts.dense(n, &[50_000], Init::Zeros).unwrap());
        let values = whole.values(big).to_vec();
        halves.iter().zip(values.chunks(50_000)).for_each(|(id, v)| parts.values_mut(*id).copy_from_slice(v));
        let (mut one, mut two) = (Optimiser::new(own), Optimiser::new(own));
        for _ in 0..3 {
            let (g, h) = (gradients(&whole, &[big]), gradients(&parts, &halves));
            one.step(&mut whole, &g);
            two.step(&mut parts, &h);
        }
        let joined: Vec<f32> = halves.iter().flat_map(|id| parts.values(*id).to_vec()).collect();
        assert_eq!(whole.values(big), joined, "{name}");
    }
}

#[test]
fn constants_out_of_range_are_named() {
    let said = |rule: DenseOptim| rule.check().unwrap_err().to_string();
    assert_eq!(said(DenseOptim::adam(0.0)), "`lr` of the optimiser is 0, expected above 0");
    let bad = Adam { beta2: 1.0, ..Adam::default() };
    assert_eq!(said(DenseOptim::Adam(bad)), "`beta2` of the optimiser is 1, expected 0 up to but below 1");
    let bad = Ftrl { l1: -1.0, ..Ftrl::default() };
    assert_eq!(said(DenseOptim::Ftrl(bad)), "`l1` of the optimiser is -1, expected 0 or above");
    for (_, rule) in rules() {
        rule.check().unwrap();
    }
    assert!(LookAhead { k: 0, alpha: 0.5 }.check().is_err());
    assert!(LookAhead { k: 5, alpha: 1.5 }.check().is_err());
}

#[test]
fn rules_are_written_by_name_and_unknown_constants_refused() {
    let read = |text: &str| serde_json::from_str::<DenseOptim>(text);
    let nesterov = Sgd { lr: 0.1, momentum: 0.9, nesterov: true, ..Sgd::default() };
    let text = r#"{ "kind": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": true }"#;
    assert_eq!(read(text).unwrap(), DenseOptim::Sgd(nesterov));
    assert_eq!(read(r#"{ "kind": "ftrl" }"#).unwrap(), DenseOptim::Ftrl(Ftrl::default()));
    assert!(read(r#"{ "kind": "ftrl", "beta1": 0.9 }"#).unwrap_err().to_string().contains("`beta1`"));
    for (_, rule) in rules() {
        assert_eq!(read(&serde_json::to_string(&rule).unwrap()).unwrap(), rule);
    }
}

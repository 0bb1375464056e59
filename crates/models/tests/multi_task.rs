//! Rankers of many tasks against the formulas of their papers, and what a task's sample space does to its loss.

#![allow(clippy::unwrap_used)]

use millstream_models::input::Feeder;
use millstream_models::ranker::{self, Labels, Shape, task_losses};
use millstream_models::{ModelConfig, Ranker};
use millstream_nn::{Init, Inputs, Mode, Params, Pass, TableSpec, Tensor, gradcheck, loss};
use millstream_schema::{Batch, Column, Field, Pool, Rows, Side};

const NAMES: [&str; 5] = ["shared_bottom", "moe", "mmoe", "ple", "esmm"];
const ROWS: usize = 6;

fn fields() -> Vec<Field> {
    let field = |name: &str, rows| Field {
        name: name.into(),
        rows,
        shape: millstream_schema::Shape::Key,
        space: Some(name.into()),
        pool: Pool::Mean,
        size: None,
        weighted: false,
        feature: 0,
    };
    vec![field("user", Rows::Request), field("item", Rows::Candidate)]
}

/// Two requests of three candidates.
fn batch() -> Batch {
    let columns = vec![Column::Key(vec![3, 8]), Column::Key(vec![1, 2, 3, 1, 5, 4])];
    Batch { requests: 2, candidate_request: vec![0, 0, 0, 1, 1, 1], columns, ..Batch::default() }
}

/// A row as a function of its table and key.
fn row(table: &TableSpec, key: u64) -> Vec<f32> {
    let salt = table.name.bytes().map(u64::from).sum::<u64>();
    (0..table.dim as u64).map(|j| ((key * 31 + j * 7 + salt * 3) % 23) as f32 / 11.0 - 1.0).collect()
}

struct Built {
    params: Params,
    model: Box<dyn Ranker>,
}

impl Built {
    fn new(name: &str, options: &str, tasks: usize) -> Self {
        let common = "embedding = 4\nactivation = \"tanh\"\n";
        let options = format!("{common}{options}").parse().unwrap();
        let cfg = ModelConfig { options, ..ModelConfig::named(name) };
        let mut params = Params::new(4);
        let shape = Shape { fields: &fields(), sides: &[Side::User, Side::Item], tasks };
        let model = ranker::build(&cfg, &shape, &mut params).unwrap();
        Self { params, model }
    }

    fn run<T>(&self, pass: &Pass, f: impl FnOnce(&Inputs) -> T) -> T {
        run(&self.params, pass, f)
    }

    fn logits(&self) -> Vec<f32> {
        let pass = Pass::new(&self.params, Mode::Infer, 0);
        self.run(&pass, |x| self.model.forward(&pass, x).to_vec())
    }

    /// v₁ ‖ v₂ of candidate `n`.
    fn input(&self, n: usize) -> Vec<f32> {
        let (tables, batch) = (self.params.tables(), batch());
        let key = |f: usize| match &batch.columns[f] {
            Column::Key(keys) => keys[if f == 0 { batch.candidate_request[n] as usize } else { n }],
            _ => unreachable!(),
        };
        (0..2).flat_map(|f| row(&tables[f], key(f))).collect()
    }

    /// Layer `e` of the layers side by side called `name`.
    fn layer(&self, name: &str, e: usize, x: &[f32]) -> Vec<f32> {
        let get = |part: &str| {
            let id = self.params.find(&format!("{name}.{part}")).unwrap();
            (self.params.shape(id).to_vec(), self.params.values(id).to_vec())
        };
        let ((shape, weight), (_, bias)) = (get("weight"), get("bias"));
        let (o, i) = (shape[1], shape[2]);
        assert_eq!(i, x.len(), "{name}");
        let dot = |w: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
        (0..o).map(|k| dot(&weight[(e * o + k) * i..][..i]) + bias[e * o + k]).collect()
    }

    /// Tower `e` of one layer.
    fn tower(&self, name: &str, e: usize, x: &[f32]) -> Vec<f32> {
        self.layer(&format!("{name}.0"), e, x).into_iter().map(f32::tanh).collect()
    }

    /// The mixture of `experts` by gate `g` of run `run`.
    fn mixture(&self, name: &str, (run, g): (usize, usize), x: &[f32], experts: &[&[f32]]) -> Vec<f32> {
        let logits = self.layer(&format!("{name}.{run}"), g, x);
        assert_eq!(logits.len(), experts.len());
        let sum: f32 = logits.iter().map(|z| z.exp()).sum();
        let mut out = vec![0.0; experts[0].len()];
        for (z, expert) in logits.iter().zip(experts) {
            out.iter_mut().zip(*expert).for_each(|(o, h)| *o += z.exp() / sum * h);
        }
        out
    }

    fn head(&self, t: usize, h: &[f32]) -> f32 {
        self.layer("heads", t, &self.tower("towers", t, h))[0]
    }
}

fn run<T>(params: &Params, pass: &Pass, f: impl FnOnce(&Inputs) -> T) -> T {
    let (fields, batch) = (fields(), batch());
    let planned = Feeder::new(&fields).plan(&fields, &batch).unwrap();
    let tables = params.tables();
    let fill = |at: usize, keys: &[u64], out: &mut [f32]| {
        out.copy_from_slice(&keys.iter().flat_map(|k| row(&tables[at], *k)).collect::<Vec<_>>());
        Ok(())
    };
    f(&planned.inputs(pass, (&fields, &batch), tables, fill).unwrap())
}

fn near(got: &[f32], wanted: &[f32]) {
    assert_eq!(got.len(), wanted.len());
    for (n, (a, b)) in got.iter().zip(wanted).enumerate() {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{n}: {a} against {b}");
    }
}

#[test]
fn mmoe_mixes_shared_experts_by_a_gate_per_task() {
    let built = Built::new("mmoe", "experts = 3\nhidden = [5]\ntower_hidden = [4]", 2);
    let wanted = (0..ROWS).flat_map(|n| {
        let x = built.input(n);
        let experts: Vec<Vec<f32>> = (0..3).map(|e| built.tower("experts", e, &x)).collect();
        let seen: Vec<&[f32]> = experts.iter().map(Vec::as_slice).collect();
        [0, 1].map(|t| built.head(t, &built.mixture("gates", (0, t), &x, &seen)))
    });
    near(&built.logits(), &wanted.collect::<Vec<_>>());
}

#[test]
fn moe_has_one_gate_for_all_tasks() {
    let built = Built::new("moe", "experts = 3\nhidden = [5]\ntower_hidden = [4]", 2);
    let wanted = (0..ROWS).flat_map(|n| {
        let x = built.input(n);
        let experts: Vec<Vec<f32>> = (0..3).map(|e| built.tower("experts", e, &x)).collect();
        let seen: Vec<&[f32]> = experts.iter().map(Vec::as_slice).collect();
        let h = built.mixture("gate", (0, 0), &x, &seen);
        [0, 1].map(|t| built.head(t, &h))
    });
    near(&built.logits(), &wanted.collect::<Vec<_>>());
}

#[test]
fn ple_keeps_experts_apart_and_its_shared_gate_sees_all() {
    let options = "layers = 2\ntask_experts = 2\nshared_experts = 1\nhidden = [5]\ntower_hidden = [4]";
    let built = Built::new("ple", options, 2);
    let wanted = (0..ROWS).flat_map(|n| {
        let mut inputs = vec![built.input(n); 3];
        for l in 0..2 {
            // Experts 0 and 1 are the first task's, 2 and 3 the second's, 4 is shared.
            let owner = [0, 0, 1, 1, 2];
            let name = format!("experts.{l}");
            let made: Vec<Vec<f32>> = (0..5).map(|e| built.tower(&name, e, &inputs[owner[e]])).collect();
            let of = |places: &[usize]| places.iter().map(|e| &made[*e][..]).collect::<Vec<&[f32]>>();
            let gates = format!("gates.{l}");
            let mut next: Vec<Vec<f32>> = [[0, 1, 4], [2, 3, 4]]
                .iter()
                .enumerate()
                .map(|(t, places)| built.mixture(&gates, (0, t), &inputs[t], &of(places)))
                .collect();
            if l == 0 {
                next.push(built.mixture(&gates, (1, 0), &inputs[2], &of(&[0, 1, 2, 3, 4])));
            }
            inputs = next;
        }
        [0, 1].map(|t| built.head(t, &inputs[t]))
    });
    near(&built.logits(), &wanted.collect::<Vec<_>>());
    assert!(built.params.find("gates.1.1.weight").is_none(), "the last layer has no shared gate");
}

#[test]
fn esmm_multiplies_the_steps_of_its_funnel() {
    let sigmoid = |z: f32| 1.0 / (1.0 + (-z).exp());
    let steps = Built::new("esmm", "hidden = [5]\nserved = \"conditional\"", 3).logits();
    let joint = Built::new("esmm", "hidden = [5]", 3).logits();
    for (steps, joint) in steps.chunks(3).zip(joint.chunks(3)) {
        let mut p = 1.0;
        for (u, z) in steps.iter().zip(joint) {
            p *= sigmoid(*u);
            assert!((sigmoid(*z) - p).abs() < 1e-6, "{z} is not the logit of {p}");
        }
    }
}

#[test]
fn esmm_learns_its_joint_probabilities_over_all_exposures() {
    // Not clicked rows have no order label, and count as not ordered.
    let nan = f32::NAN;
    let values = [1.0, 1.0, 0.0, nan, 1.0, 0.0, 0.0, nan, 1.0, 1.0, 0.0, nan];
    let over_all: Vec<f32> = values.iter().map(|y| if y.is_nan() { 0.0 } else { *y }).collect();
    let joint = Built::new("esmm", "hidden = [5]", 2);
    let pass = Pass::new(&joint.params, Mode::Infer, 0);
    let wanted =
        joint.run(&pass, |x| loss::bce_with_logits(&joint.model.forward(&pass, x), &over_all, &[]).item());
    for served in ["joint", "conditional"] {
        let built = Built::new("esmm", &format!("hidden = [5]\nserved = \"{served}\""), 2);
        let pass = Pass::new(&built.params, Mode::Infer, 0);
        let y = Labels { values: &values, weights: &[] };
        let found = built.run(&pass, |x| built.model.loss(&built.model.forward(&pass, x), &y).item());
        assert!((found - wanted).abs() < 1e-6, "{served}: {found} against {wanted}");
    }
}

#[test]
fn a_tasks_loss_is_the_mean_over_the_rows_in_its_space() {
    let mut params = Params::new(2);
    let z = params.dense("z", &[4, 2], Init::Normal(1.0)).unwrap();
    let nan = f32::NAN;
    let values = [1.0, nan, 0.0, 1.0, 1.0, 0.0, 0.0, nan];
    let weights = [1.0, 5.0, 2.0, 3.0];
    let pass = Pass::new(&params, Mode::Train, 0);
    let logits = pass.param(z);
    let loss = task_losses(&logits, &Labels { values: &values, weights: &weights });
    let bce = |z: f32, y: f32| (1.0 + z.exp()).ln() - z * y;
    let d = logits.data();
    let first: f32 = (0..4).map(|n| weights[n] * bce(d[2 * n], values[2 * n])).sum::<f32>() / 11.0;
    let second = (5.0 * bce(d[3], 1.0) + 2.0 * bce(d[5], 0.0)) / 7.0;
    assert!((loss.item() - first - second).abs() < 1e-5);
    let gradients = pass.backward(&loss);
    let slopes = gradients.dense(z).unwrap();
    assert_eq!((slopes[1], slopes[7]), (0.0, 0.0), "rows outside have no slope");
    assert!(slopes[3] != 0.0 && slopes[5] != 0.0);

    // A task without any row adds nothing.
    let pass = Pass::new(&params, Mode::Train, 0);
    let none = [1.0, nan, 0.0, nan, 1.0, nan, 0.0, nan];
    let alone = task_losses(&pass.param(z), &Labels { values: &none, weights: &weights });
    assert!((alone.item() - first).abs() < 1e-6);
    assert!(pass.backward(&alone).dense(z).unwrap().iter().skip(1).step_by(2).all(|g| *g == 0.0));
}

#[test]
fn gradients_match_finite_differences_with_rows_outside_of_a_space() {
    let nan = f32::NAN;
    let values = [1.0, 1.0, 0.0, nan, 1.0, 0.0, 0.0, nan, 1.0, 1.0, 0.0, nan];
    for name in NAMES {
        for tower in ["hidden = [5]", "hidden = [5, 4]", "hidden = [5]\ntower_hidden = []"] {
            if name == "esmm" && tower.contains("tower") {
                continue;
            }
            let built = Built::new(name, tower, 2);
            let (mut params, model) = (built.params, built.model);
            let loss = |pass: &Pass, params: &Params| -> Tensor {
                run(params, pass, |x| {
                    model.loss(&model.forward(pass, x), &Labels { values: &values, weights: &[] })
                })
            };
            let shape = params.clone();
            gradcheck::check(&mut params, 5e-3, |pass| loss(pass, &shape))
                .unwrap_or_else(|e| panic!("{name} with {tower}: {e}"));
        }
    }
}

#[test]
fn options_that_cannot_be_say_why() {
    let refused = |name: &str, options: &str| {
        let cfg = ModelConfig { options: options.parse().unwrap(), ..ModelConfig::named(name) };
        let shape = Shape { fields: &fields(), sides: &[Side::User, Side::Item], tasks: 2 };
        ranker::build(&cfg, &shape, &mut Params::new(1)).err().unwrap().to_string()
    };
    for (name, options, said) in [
        ("mmoe", "experts = 0", "experts must be at least 1"),
        ("moe", "experts = 0", "experts must be at least 1"),
        ("ple", "layers = 0", "layers must be at least 1"),
        ("ple", "task_experts = 0", "task_experts must be at least 1"),
        ("ple", "shared_experts = 0", "shared_experts must be at least 1"),
        ("ple", "lhuc = { fields = [\"user\"] }", "this model has experts"),
        ("mmoe", "expert = 3", "did you mean `experts`?"),
        ("esmm", "served = \"cvr\"", "conditional"),
        ("shared_bottom", "dropout = 1.5", "dropout of `bottom` is 1.5"),
    ] {
        let message = refused(name, options);
        assert!(message.contains(said), "{name} {options}: {message}");
    }
}

//! Factorisation machines against the double loops of their papers, over fields of every kind.

#![allow(clippy::unwrap_used)]

use millstream_models::input::Feeder;
use millstream_models::ranker::{self, Shape};
use millstream_models::{ModelConfig, Ranker};
use millstream_nn::{Mode, Params, Pass, TableSpec};
use millstream_schema::{Batch, Column, Field, Pool, Rows, Side};

fn field(name: &str, rows: Rows, shape: millstream_schema::Shape, pool: Pool) -> Field {
    let space = (!matches!(shape, millstream_schema::Shape::Dense(_))).then(|| name.to_owned());
    Field { name: name.into(), rows, shape, space, pool, size: None, weighted: false, feature: 0 }
}

fn fields() -> Vec<Field> {
    use millstream_schema::Shape::{Dense, Key, Keys};
    vec![
        field("user", Rows::Request, Key, Pool::Mean),
        field("ages", Rows::Request, Dense(2), Pool::Mean),
        field("item", Rows::Candidate, Key, Pool::Mean),
        field("tags", Rows::Candidate, Keys, Pool::Mean),
        field("words", Rows::Candidate, Keys, Pool::Sum),
    ]
}

const SIDES: [Side; 5] = [Side::User, Side::User, Side::Item, Side::Item, Side::Item];

/// Two requests of three candidates; the second candidate has no tag.
fn batch() -> Batch {
    let keys = |offsets: &[u32], keys: &[u64], weights| Column::Keys {
        offsets: offsets.to_vec(),
        keys: keys.to_vec(),
        weights,
    };
    let columns = vec![
        Column::Key(vec![3, 8]),
        Column::Dense { width: 2, values: vec![0.5, -1.5, 2.0, 0.25] },
        Column::Key(vec![1, 2, 3, 1, 5, 3]),
        keys(&[0, 2, 2, 3, 5, 6, 9], &[4, 5, 6, 4, 7, 5, 4, 5, 6], None),
        keys(&[0, 1, 3, 3, 4, 6, 7], &[1, 2, 3, 1, 2, 2, 9], Some(vec![0.5, 2.0, 1.0, 1.5, 0.25, 3.0, 1.0])),
    ];
    Batch { requests: 2, candidate_request: vec![0, 0, 0, 1, 1, 1], columns, ..Batch::default() }
}

/// A row as a function of its table and key.
fn row(table: &TableSpec, key: u64) -> Vec<f32> {
    let salt = table.name.bytes().map(u64::from).sum::<u64>();
    (0..table.dim as u64).map(|j| ((key * 31 + j * 7 + salt * 3) % 23) as f32 / 22.0 - 0.5).collect()
}

struct Built {
    params: Params,
    model: Box<dyn Ranker>,
}

impl Built {
    fn new(name: &str, options: &str, tasks: usize) -> Self {
        let cfg = ModelConfig { options: options.parse().unwrap(), ..ModelConfig::named(name) };
        let mut params = Params::new(4);
        let shape = Shape { fields: &fields(), sides: &SIDES, tasks };
        let model = ranker::build(&cfg, &shape, &mut params).unwrap();
        // Projections of numbers and the bias do not start at zero here.
        for id in params.ids() {
            params.values_mut(id).iter_mut().enumerate().for_each(|(i, w)| *w += 0.1 + i as f32 / 50.0);
        }
        Self { params, model }
    }

    fn logits(&self) -> Vec<f32> {
        let (fields, batch) = (fields(), batch());
        let planned = Feeder::new(&fields).plan(&fields, &batch).unwrap();
        let pass = Pass::new(&self.params, Mode::Infer, 0);
        let tables = self.params.tables();
        let x = planned
            .inputs(&pass, (&fields, &batch), tables, |at, keys, out| {
                out.copy_from_slice(&keys.iter().flat_map(|k| row(&tables[at], *k)).collect::<Vec<_>>());
                Ok(())
            })
            .unwrap();
        self.model.forward(&pass, &x).to_vec()
    }

    fn weight(&self, name: &str) -> Vec<f32> {
        self.params.values(self.params.find(name).unwrap()).to_vec()
    }

    /// The vector x_i v_i of field `f` for candidate `n` in the tables (or weights) of `suffix`, and its ‖x‖².
    fn vector(&self, f: usize, n: usize, suffix: &str) -> (Vec<f32>, f32) {
        let (fields, batch) = (fields(), batch());
        let r = if fields[f].rows == Rows::Request { batch.candidate_request[n] as usize } else { n };
        let name = format!("{}/{suffix}", fields[f].name);
        let table = || self.params.tables().iter().find(|t| t.name == name).unwrap();
        match &batch.columns[f] {
            Column::Key(keys) => (row(table(), keys[r]), 1.0),
            Column::Dense { width, values } => {
                let x = &values[r * width..][..*width];
                let times = |w: &[f32]| w.iter().zip(x).map(|(w, x)| w * x).sum();
                (self.weight(&name).chunks(*width).map(times).collect(), x.iter().map(|x| x * x).sum())
            }
            Column::Keys { offsets, keys, weights } => {
                let range = offsets[r] as usize..offsets[r + 1] as usize;
                let count = range.len() as f32;
                let (mut sum, mut square) = (vec![0.0; table().dim], 0.0);
                for e in range {
                    let x = weights.as_ref().map_or(1.0 / count, |w| w[e]);
                    square += x * x;
                    sum.iter_mut().zip(row(table(), keys[e])).for_each(|(s, v)| *s += x * v);
                }
                (sum, square)
            }
        }
    }

    fn linear(&self, n: usize, suffix: &str) -> f32 {
        let terms = (0..fields().len()).map(|f| self.vector(f, n, suffix).0[0]);
        self.weight(&format!("{suffix}.bias"))[0] + terms.sum::<f32>()
    }

    fn machine(&self, n: usize, suffix: &str) -> f32 {
        let v: Vec<Vec<f32>> = (0..fields().len()).map(|f| self.vector(f, n, suffix).0).collect();
        pairs(v.len()).map(|(i, j)| dot(&v[i], &v[j])).sum()
    }

    fn field_aware(&self, n: usize, suffix: &str, k: usize) -> (f32, f32) {
        let v: Vec<(Vec<f32>, f32)> = (0..fields().len()).map(|f| self.vector(f, n, suffix)).collect();
        let for_field = |i: usize, j: usize| &v[i].0[j * k..][..k];
        let sum = pairs(v.len()).map(|(i, j)| dot(for_field(i, j), for_field(j, i))).sum();
        (sum, v.iter().map(|(_, square)| square).sum())
    }
}

fn pairs(f: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..f).flat_map(move |i| (i + 1..f).map(move |j| (i, j)))
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn near(got: &[f32], wanted: &[f32]) {
    assert_eq!(got.len(), wanted.len());
    for (n, (a, b)) in got.iter().zip(wanted).enumerate() {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "row {n}: {a} against {b}");
    }
}

#[test]
fn a_linear_model_is_the_sum_of_its_weights() {
    let built = Built::new("lr", "", 1);
    near(&built.logits(), &(0..6).map(|n| built.linear(n, "linear")).collect::<Vec<_>>());
}

#[test]
fn a_factorisation_machine_equals_the_double_loop() {
    let built = Built::new("fm", "embedding = 3", 1);
    let wanted: Vec<f32> = (0..6).map(|n| built.linear(n, "linear") + built.machine(n, "d3")).collect();
    near(&built.logits(), &wanted);
}

#[test]
fn a_field_aware_machine_equals_the_double_loop_with_and_without_unit_rows() {
    for normalise in [true, false] {
        let built = Built::new("ffm", &format!("embedding = 3\nnormalise = {normalise}"), 1);
        let wanted = |n| {
            let (sum, square) = built.field_aware(n, "ffm3", 3);
            built.linear(n, "linear") + if normalise { sum / square } else { sum }
        };
        near(&built.logits(), &(0..6).map(wanted).collect::<Vec<_>>());
    }
}

#[test]
fn each_task_has_a_machine_of_its_own() {
    let built = Built::new("fm", "embedding = 3", 2);
    let wanted = |n: usize| {
        [("linear", "d3"), ("linear.1", "d3.1")].map(|(l, d)| built.linear(n, l) + built.machine(n, d))
    };
    near(&built.logits(), &(0..6).flat_map(wanted).collect::<Vec<_>>());
}

#[test]
fn the_wide_part_is_a_group_of_its_own() {
    let built = Built::new("wide_deep", "embedding = 2\nhidden = [3]\nwide_fields = [\"item\"]", 1);
    let group = |name: &str| built.params.group(built.params.find(name).unwrap()).to_owned();
    assert_eq!((group("linear.bias").as_str(), group("head.weight").as_str()), ("wide", ""));
    let wide: Vec<&str> =
        built.params.tables().iter().filter(|t| t.group == "wide").map(|t| t.name.as_str()).collect();
    assert_eq!(wide, ["item/linear"]);
}

#[test]
fn options_that_cannot_be_say_why() {
    let refused = |name: &str, options: &str| {
        let cfg = ModelConfig { options: options.parse().unwrap(), ..ModelConfig::named(name) };
        let shape = Shape { fields: &fields(), sides: &SIDES, tasks: 1 };
        ranker::build(&cfg, &shape, &mut Params::new(1)).err().unwrap().to_string()
    };
    for (name, options, said) in [
        ("autoint", "embedding = { user = 4, item = 8 }", "all fields share a width"),
        ("autoint", "embedding = 0", "all fields share a width"),
        ("autoint", "heads = 0", "expected at least 1 of each"),
        ("dcn_v2", "experts = 2", "set rank too"),
        ("dcn_v2", "cross_fields = [\"itm\"]", "did you mean `item`?"),
        ("deepfm", "lhuc = { fields = [\"usr\"] }", "did you mean `user`?"),
        ("deepfm", "lhuc = { fields = [\"user\"] }\nhidden = []", "needs a hidden layer"),
        ("deepfm", "embedding_dropout = 1.0", "embedding_dropout is 1"),
        ("final_mlp", "hidden = [6]\nheads = 4", "a divisor of both"),
        ("wide_deep", "deep_fields = [\"tag\"]", "did you mean `tags`?"),
    ] {
        let message = refused(name, options);
        assert!(message.contains(said), "{name} {options}: {message}");
    }
}

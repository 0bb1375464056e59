//! What belongs to a request is computed once per request in inference, and for every candidate in training: the two must agree.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

use millstream_nn::*;
use millstream_schema::{Batch, Column, Field, Pool, Rows, Shape};

fn field(name: &str, rows: Rows, shape: Shape) -> Field {
    let space = (!matches!(shape, Shape::Dense(_))).then(|| name.to_owned());
    Field { name: name.into(), rows, shape, space, pool: Pool::Mean, size: None, weighted: false, feature: 0 }
}

/// Request fields before, between and after candidate fields; keys, bags and numbers of both kinds.
fn fields() -> Vec<Field> {
    vec![
        field("user", Rows::Request, Shape::Key),
        field("item", Rows::Candidate, Shape::Key),
        field("history", Rows::Request, Shape::Keys),
        field("age", Rows::Request, Shape::Dense(1)),
        field("price", Rows::Candidate, Shape::Dense(2)),
        field("tags", Rows::Candidate, Shape::Keys),
        field("hour", Rows::Request, Shape::Key),
    ]
}

const REQUESTS: usize = 3;

/// Requests with 70, 1 and 49 candidates.
fn batch() -> Batch {
    let candidate_request: Vec<u32> = (0..120)
        .map(|n| {
            if n < 70 {
                0
            } else if n < 71 {
                1
            } else {
                2
            }
        })
        .collect();
    let n = candidate_request.len();
    let bags = |rows: usize| Column::Keys {
        // One, two and three keys in turn.
        offsets: (0..=rows as u32).map(|r| r / 3 * 6 + [0, 1, 3][r as usize % 3]).collect(),
        keys: (0..rows as u64 / 3 * 6).map(|k| k * 7 % 23).collect(),
        weights: None,
    };
    Batch {
        requests: REQUESTS,
        candidate_request,
        columns: vec![
            Column::Key((0..REQUESTS as u64).collect()),
            Column::Key((0..n as u64).map(|i| i * 13 % 40).collect()),
            bags(REQUESTS),
            Column::Dense { width: 1, values: vec![0.3, -1.0, 2.0] },
            Column::Dense { width: 2, values: (0..2 * n).map(|i| (i % 17) as f32 / 9.0 - 1.0).collect() },
            bags(n),
            Column::Key(vec![5, 5, 9]),
        ],
        ..Batch::default()
    }
}

struct Model {
    embed: Embed,
    cross: CrossNet,
    tower: Mlp,
    head: Linear,
}

impl Model {
    fn new(params: &mut Params, fields: &[Field]) -> Self {
        let embed =
            Embed::all(params, fields, &EmbedSpec { init: RowInit::Normal(0.5), ..EmbedSpec::new(4) })
                .unwrap();
        let width = embed.fields() * 4;
        let tower = MlpConfig { hidden: vec![33, 8], ..MlpConfig::default() };
        Self {
            cross: CrossNet::new(params, "cross", width, 2).unwrap(),
            tower: Mlp::new(params, "tower", width, &tower).unwrap(),
            head: Linear::new(params, "head", width + 8, 1).unwrap(),
            embed,
        }
    }

    fn scores(&self, params: &Params, mode: Mode, fields: &[Field], batch: &Batch) -> Vec<f32> {
        self.run(params, mode, (fields, batch), |pass, x0| {
            let joined = Tensor::concat(&[&self.cross.forward(pass, x0), &self.tower.forward(pass, x0)]);
            self.head.forward(pass, &joined).to_vec()
        })
    }

    fn run<T>(
        &self,
        params: &Params,
        mode: Mode,
        (fields, batch): (&[Field], &Batch),
        then: impl FnOnce(&Pass, &Tensor) -> T,
    ) -> T {
        let lookup = Lookup::plan(fields, batch).unwrap();
        let rows = |t: &TableSpec| -> Vec<f32> {
            let keys = lookup.unique(&t.space);
            let value = |k: u64, d: usize| ((k as usize * 31 + d * 7) % 19) as f32 / 19.0 - 0.5;
            keys.iter().flat_map(|k| (0..t.dim).map(|d| value(*k, d))).collect()
        };
        let rows = params.tables().iter().map(rows).collect();
        let pass = Pass::new(params, mode, 0);
        let x = Inputs::new(&pass, fields, batch, lookup.clone(), rows).unwrap();
        then(&pass, &self.embed.forward(&pass, &x).flatten())
    }
}

#[test]
fn request_columns_met_once_per_request_give_the_scores_of_whole_rows() {
    let (fields, batch) = (fields(), batch());
    let mut params = Params::new(3);
    let model = Model::new(&mut params, &fields);
    let whole = model.scores(&params, Mode::Train, &fields, &batch);
    let split = model.scores(&params, Mode::Infer, &fields, &batch);
    assert_eq!(whole.len(), 120);
    assert!(whole.iter().any(|z| (z - whole[0]).abs() > 1e-3));
    for (a, b) in whole.iter().zip(&split) {
        assert!((a - b).abs() < 1e-5 * (1.0 + a.abs()), "{a} and {b}");
    }
}

/// The largest |a − b|, and the largest |a − mean of a|.
fn apart(a: &[f32], b: &[f32]) -> (f32, f32) {
    let mean = a.iter().sum::<f32>() / a.len() as f32;
    let most = |of: &dyn Fn(usize) -> f32| (0..a.len()).map(of).fold(0.0, f32::max);
    (most(&|i| (a[i] - b[i]).abs()), most(&|i| (a[i] - mean).abs()))
}

#[test]
fn a_head_folded_into_the_last_cross_layer_gives_what_the_layer_and_the_head_give() {
    let (fields, batch) = (fields(), batch());
    for (tasks, layers) in [(1, 1), (1, 3), (3, 2)] {
        let mut params = Params::new(3);
        let model = Model::new(&mut params, &fields);
        let width = fields.len() * 4;
        let cross = CrossNet::new(&mut params, "other", width, layers).unwrap();
        let head = params.dense("v", &[tasks, width], Init::Normal(0.5)).unwrap();
        let fold = |mode: Mode, batch: &Batch| {
            model.run(&params, mode, (&fields, batch), |pass, x0| {
                let v = pass.param(head);
                let whole = cross.forward(pass, x0).linear(&v, None).to_vec();
                (whole, cross.forward_by_head(pass, x0, &v).map(|z| (z.shape().to_vec(), z.to_vec())))
            })
        };
        let (whole, folded) = fold(Mode::Infer, &batch);
        let (shape, folded) = folded.unwrap();
        assert_eq!(shape, [120, tasks]);
        let (off, spread) = apart(&whole, &folded);
        assert!(spread > 0.1 && off < 1e-5 * spread, "{off} of {spread}");
        // Neither where gradients are wanted nor where a request has few candidates.
        assert!(fold(Mode::Train, &batch).1.is_none());
        let mut few = batch.clone();
        few.candidate_request = (0..3).collect();
        for (column, field) in few.columns.iter_mut().zip(&fields) {
            match column {
                Column::Key(keys) => keys.truncate(3),
                Column::Keys { offsets, keys, .. } => {
                    offsets.truncate(4);
                    keys.truncate(offsets[3] as usize);
                }
                Column::Dense { values, .. } => {
                    let Shape::Dense(w) = field.shape else { continue };
                    values.truncate(3 * w);
                }
            }
        }
        assert!(fold(Mode::Infer, &few).1.is_none());
    }
}

#[test]
fn sixteen_bits_change_little_and_only_inference() {
    let (fields, batch) = (fields(), batch());
    let mut params = Params::new(3);
    let model = Model::new(&mut params, &fields);
    let scores = |params: &Params, mode: Mode| model.scores(params, mode, &fields, &batch);
    let (trained, exact) = (scores(&params, Mode::Train), scores(&params, Mode::Infer));
    params.set_precision(Precision::I16);
    assert_eq!(scores(&params, Mode::Train), trained);
    let fixed = scores(&params, Mode::Infer);
    let (off, spread) = apart(&exact, &fixed);
    assert!(off > 0.0 && off < 1e-3 * spread, "{off} of {spread}");
    // Whole numbers made of old values are dropped with them.
    let weight = params.find("cross.0.weight").unwrap();
    params.values_mut(weight).iter_mut().for_each(|v| *v *= -3.0);
    let changed = scores(&params, Mode::Infer);
    params.set_precision(Precision::F32);
    let (off, spread) = apart(&scores(&params, Mode::Infer), &changed);
    assert!(off > 0.0 && off < 1e-3 * spread, "{off} of {spread}");
}

//! Field embeddings against a plain twin, and their gradients against finite differences.

#![allow(clippy::unwrap_used)]

use millstream_nn::*;
use millstream_schema::{Batch, Column, Field, Pool, Rows, Shape};

fn field(name: &str, space: &str, rows: Rows, shape: Shape) -> Field {
    let space = (!space.is_empty()).then(|| space.to_owned());
    Field { name: name.into(), rows, shape, space, pool: Pool::Mean, size: None, weighted: false, feature: 0 }
}

/// Fields of every kind on both sides; `history` and `item` share a space.
fn fields() -> Vec<Field> {
    vec![
        field("user", "user", Rows::Request, Shape::Key),
        field("history", "item", Rows::Request, Shape::Keys),
        field("age", "", Rows::Request, Shape::Dense(1)),
        field("item", "item", Rows::Candidate, Shape::Key),
        Field { pool: Pool::Sum, ..field("tags", "tag", Rows::Candidate, Shape::Keys) },
        field("picture", "", Rows::Candidate, Shape::Dense(3)),
    ]
}

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
    fn unit(&mut self) -> f32 {
        self.below(1 << 20) as f32 / (1 << 19) as f32 - 1.0
    }
    fn keys(&mut self, rows: usize, weighted: bool) -> Column {
        let (mut offsets, mut keys, mut weights) = (vec![0], vec![], vec![]);
        for _ in 0..rows {
            for _ in 0..self.below(4) {
                keys.push(self.below(30));
                weights.push(self.unit() + 1.5);
            }
            offsets.push(keys.len() as u32);
        }
        Column::Keys { offsets, keys, weights: weighted.then_some(weights) }
    }
}

fn batch(requests: usize, candidates: usize, one_each: bool) -> Batch {
    let mut x = Numbers(candidates as u64);
    let candidate_request = (0..candidates)
        .map(|n| if one_each { n as u32 } else { (n * requests / candidates) as u32 })
        .collect();
    let columns = vec![
        Column::Key((0..requests).map(|_| x.below(20)).collect()),
        x.keys(requests, false),
        Column::Dense { width: 1, values: (0..requests).map(|_| x.unit()).collect() },
        Column::Key((0..candidates).map(|_| x.below(30)).collect()),
        x.keys(candidates, true),
        Column::Dense { width: 3, values: (0..candidates * 3).map(|_| x.unit()).collect() },
    ];
    Batch { requests, candidate_request, columns, ..Batch::default() }
}

/// A row as a function of its table and key, so that the twin needs no lookup.
fn row(table: &TableSpec, key: u64) -> Vec<f32> {
    let salt = table.name.len() as u64;
    (0..table.dim as u64).map(|j| ((key * 31 + j * 7 + salt * 3) % 23) as f32 / 11.0 - 1.0).collect()
}

fn rows(params: &Params, lookup: &Lookup) -> Vec<Vec<f32>> {
    let of = |t: &TableSpec| lookup.unique(&t.space).iter().flat_map(|k| row(t, *k)).collect();
    params.tables().iter().map(of).collect()
}

/// What field `f` of row `n` of its own side should be.
fn twin(params: &Params, fields: &[Field], batch: &Batch, (f, n): (usize, usize)) -> Vec<f32> {
    let dim = 4;
    let table = |space: &str| params.tables().iter().find(|t| t.space == space && t.dim == dim).unwrap();
    match &batch.columns[f] {
        Column::Key(keys) => row(table(fields[f].space.as_ref().unwrap()), keys[n]),
        Column::Keys { offsets, keys, weights } => {
            let range = offsets[n] as usize..offsets[n + 1] as usize;
            let mut out = vec![0.0; dim];
            let weight = |e: usize| weights.as_ref().map_or(1.0, |w| w[e]);
            let sum: f32 = if fields[f].pool == Pool::Mean { range.clone().map(weight).sum() } else { 1.0 };
            for e in range {
                let row = row(table(fields[f].space.as_ref().unwrap()), keys[e]);
                (0..dim).for_each(|j| out[j] += weight(e) / sum * row[j]);
            }
            out
        }
        Column::Dense { width, values } => {
            let p = params.find(&format!("{}/d4", fields[f].name)).unwrap();
            let p = params.values(p);
            let x = &values[n * width..(n + 1) * width];
            (0..dim).map(|j| (0..*width).map(|k| p[j * width + k] * x[k]).sum()).collect()
        }
    }
}

fn spec() -> EmbedSpec {
    EmbedSpec { init: RowInit::Normal(1.0), ..EmbedSpec::new(4) }
}

#[test]
fn every_kind_of_field_agrees_with_its_twin_in_every_view() {
    for (requests, candidates, one_each) in [(5, 23, false), (12, 12, true), (300, 4000, false)] {
        let (fields, batch) = (fields(), batch(requests, candidates, one_each));
        let mut params = Params::new(2);
        let embed = Embed::all(&mut params, &fields, &spec()).unwrap();
        let lookup = Lookup::plan(&fields, &batch).unwrap();
        let pass = Pass::new(&params, Mode::Infer, 0);
        let x = Inputs::new(&pass, &fields, &batch, lookup.clone(), rows(&params, &lookup)).unwrap();
        assert_eq!(x.one_candidate_each(), one_each);
        let check = |t: &Tensor, chosen: &[usize], own_row: &dyn Fn(usize, usize) -> usize| {
            assert_eq!(t.shape()[1..], [chosen.len(), 4]);
            for n in 0..t.shape()[0] {
                for (i, f) in chosen.iter().enumerate() {
                    let want = twin(&params, &fields, &batch, (*f, own_row(*f, n)));
                    let got = &t.data()[(n * chosen.len() + i) * 4..][..4];
                    assert!(
                        want.iter().zip(got).all(|(a, b)| (a - b).abs() < 1e-5),
                        "{f} {n}: {want:?} {got:?}"
                    );
                }
            }
        };
        let request = |f: usize, n: usize| if f < 3 { batch.candidate_request[n] as usize } else { n };
        check(&embed.forward(&pass, &x), &[0, 1, 2, 3, 4, 5], &request);
        check(&embed.forward_requests(&pass, &x), &[0, 1, 2], &|_, n| n);
        check(&embed.forward_candidates(&pass, &x), &[3, 4, 5], &|_, n| n);
    }
}

/// Embeddings and first-order terms together, as a scalar.
struct Model {
    embed: Embed,
    linear: LinearTerms,
}

impl Model {
    fn new(params: &mut Params, fields: &[Field]) -> Self {
        let chosen: Vec<usize> = (0..fields.len()).collect();
        Self {
            embed: Embed::all(params, fields, &spec()).unwrap(),
            linear: LinearTerms::new(params, fields, &chosen, "wide").unwrap(),
        }
    }

    fn loss(&self, pass: &Pass, x: &Inputs) -> Tensor {
        let full = self.embed.forward(pass, x);
        let requests = x.expand(&self.embed.forward_requests(pass, x).sum_middle());
        let candidates = self.embed.forward_candidates(pass, x).sum_middle();
        let c = pass.constant(full.shape(), (0..full.len()).map(|i| (i % 13) as f32 / 6.0 - 1.0).collect());
        let z = requests.dot_rows(&candidates).add(&self.linear.forward(pass, x));
        full.square().mul(&c).mean().add(&z.square().mean())
    }
}

#[test]
fn gradients_of_rows_and_projections_agree_with_finite_differences() {
    for one_each in [false, true] {
        let fields = fields();
        let batch = batch(if one_each { 9 } else { 4 }, 9, one_each);
        let mut params = Params::new(2);
        let model = Model::new(&mut params, &fields);
        let lookup = Lookup::plan(&fields, &batch).unwrap();
        let mut values = rows(&params, &lookup);
        let run = |pass: &Pass, values: &[Vec<f32>]| {
            let x = Inputs::new(pass, &fields, &batch, lookup.clone(), values.to_vec()).unwrap();
            model.loss(pass, &x)
        };
        let held = values.clone();
        gradcheck::check(&mut params, 5e-3, |pass| run(pass, &held)).unwrap();
        let pass = Pass::new(&params, Mode::Train, 0);
        let gradients = pass.backward(&run(&pass, &values));
        let names: Vec<String> = params.tables().iter().map(|t| t.name.clone()).collect();
        assert_eq!(names, ["user/d4", "item/d4", "tag/d4", "user/wide", "item/wide", "tag/wide"]);
        for (t, id) in model.tables(&params).into_iter().enumerate() {
            let found = gradients.rows(id).unwrap();
            assert_eq!(found.len(), values[t].len());
            for i in 0..found.len() {
                let at = values[t][i];
                let mut value = |x: f32| {
                    values[t][i] = x;
                    run(&Pass::new(&params, Mode::Train, 0), &values).item()
                };
                let slope = (value(at + 1e-2) - value(at - 1e-2)) / 2e-2;
                values[t][i] = at;
                assert!(gradcheck::close(found[i], slope, 5e-3), "table {t} at {i}: {} {slope}", found[i]);
            }
        }
    }
}

impl Model {
    fn tables(&self, params: &Params) -> Vec<TableId> {
        let mut again = params.clone();
        let of = |t: &TableSpec| again.table(&t.name, &t.space, t.dim, t.init).unwrap();
        params.tables().iter().map(of).collect()
    }
}

#[test]
fn big_batches_give_the_gradients_of_many_small_ones() {
    let fields = fields();
    let batch = batch(500, 6000, false);
    let mut params = Params::new(2);
    let model = Model::new(&mut params, &fields);
    let lookup = Lookup::plan(&fields, &batch).unwrap();
    let values = rows(&params, &lookup);
    let gradient = || {
        let pass = Pass::new(&params, Mode::Train, 0);
        let x = Inputs::new(&pass, &fields, &batch, lookup.clone(), values.clone()).unwrap();
        let full = model.embed.forward(&pass, &x);
        let c = pass.constant(full.shape(), (0..full.len()).map(|i| (i % 13) as f32).collect());
        let g = pass.backward(&full.mul(&c).sum());
        model.tables(&params)[..3].iter().map(|t| g.rows(*t).unwrap().to_vec()).collect::<Vec<_>>()
    };
    let found = gradient();
    assert_eq!(found, gradient(), "the same twice");
    // By hand for the field `user`, the first of the row.
    let Column::Key(users) = &batch.columns[0] else { panic!() };
    let unique = lookup.unique("user");
    let mut want = vec![0.0f64; unique.len() * 4];
    for (n, r) in batch.candidate_request.iter().enumerate() {
        let u = unique.iter().position(|k| *k == users[*r as usize]).unwrap();
        (0..4).for_each(|j| want[u * 4 + j] += ((n * 24 + j) % 13) as f64);
    }
    for (a, b) in found[0].iter().zip(&want) {
        assert!((f64::from(*a) - b).abs() < 1e-4 * (1.0 + b.abs()), "{a} {b}");
    }
}

#[test]
fn an_empty_batch_passes_through() {
    let fields = fields();
    let batch = batch(0, 0, false);
    let mut params = Params::new(2);
    let model = Model::new(&mut params, &fields);
    let lookup = Lookup::plan(&fields, &batch).unwrap();
    let values = rows(&params, &lookup);
    let pass = Pass::new(&params, Mode::Train, 0);
    let x = Inputs::new(&pass, &fields, &batch, lookup, values).unwrap();
    let loss = model.loss(&pass, &x);
    assert_eq!(loss.item(), 0.0);
    assert!(pass.backward(&loss).is_finite());
}

#[test]
fn wrong_rows_and_fields_are_refused_by_name() {
    let (fields, batch) = (fields(), batch(3, 4, false));
    let mut params = Params::new(2);
    Embed::all(&mut params, &fields, &spec()).unwrap();
    let lookup = Lookup::plan(&fields, &batch).unwrap();
    let mut values = rows(&params, &lookup);
    values[1].pop();
    let pass = Pass::new(&params, Mode::Train, 0);
    let err = Inputs::new(&pass, &fields, &batch, lookup, values).unwrap_err().to_string();
    assert!(err.contains("`item/d4`"), "{err}");
    assert!(Embed::new(&mut params, &fields, &[], &spec()).is_err());
    assert!(Embed::new(&mut params, &fields, &[99], &spec()).is_err());
    let keyless = Field { space: None, ..fields[0].clone() };
    let err = Embed::all(&mut params, &[keyless], &spec()).unwrap_err().to_string();
    assert!(err.contains("`user`"), "{err}");
}

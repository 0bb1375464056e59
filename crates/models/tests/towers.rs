//! What single retrievers of positives must hold to.

#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

use millstream_models::input::Feeder;
use millstream_models::ranker::Shape;
use millstream_models::retriever::{self, Targets};
use millstream_models::{Error, ModelConfig, RETRIEVERS, Retriever, serving};
use millstream_nn::{Gradients, Inputs, Mode, Params, Pass, Tensor};
use millstream_schema::examples::Action;
use millstream_schema::{Assembler, Examples, Fitter, Frame, Schema, Side};
use millstream_store::{RowInit, RowsMut, Store, TableConfig};
use std::sync::Arc;

const USERS: u32 = 5;
const ITEMS: u32 = 12;

const SCHEMA: &str = "[[feature]]\nname = \"user_id\"\nside = \"user\"\nkind = \"categorical\"\n\
     [[feature]]\nname = \"item_id\"\nside = \"item\"\nkind = \"categorical\"\n\
     [[feature]]\nname = \"topic\"\nside = \"item\"\nkind = \"categorical\"\n\
     [[feature]]\nname = \"past\"\nkind = \"sequence\"\nelements = [\"item_id\"]\nmax_len = 40\n";

fn assembler() -> Assembler {
    assembler_of(SCHEMA)
}

fn assembler_of(schema: &str) -> Assembler {
    let schema: Schema = schema.parse().unwrap();
    let mut users = Frame::new("users", &["user_id"]);
    (0..USERS).for_each(|u| users.push_row(u.into(), &[&format!("u{u}")]));
    let mut items = Frame::new("items", &["item_id", "topic", "author"]);
    (0..ITEMS).for_each(|i| {
        items.push_row(i.into(), &[&format!("i{i}"), &format!("t{}", i % 3), &format!("a{}", i % 5)]);
    });
    let mut fitter = Fitter::new(&schema);
    fitter.observe(&[Side::User], &users).unwrap();
    fitter.observe(&[Side::Item], &items).unwrap();
    let encoder = Arc::new(fitter.finish().unwrap());
    let bad = &mut Default::default();
    let users = encoder.encode(&[Side::User], &users, bad).unwrap();
    let items = encoder.encode(&[Side::Item], &items, bad).unwrap();
    Assembler::new(encoder, users, items).unwrap()
}

/// A request for each history, with positive r and then the further items.
fn examples(histories: &[&[u32]], further: &[u32]) -> Examples {
    let mut x = Examples { tasks: 1, ..Examples::default() };
    for (r, history) in histories.iter().enumerate() {
        x.request_user.push(r as u32 % USERS);
        x.request_time_ms.push(100);
        x.history.push(history.iter().map(|i| Action { item: *i, time_ms: 1, kind: 1, value: 1.0 }));
        x.candidate_item.push(r as u32);
        x.candidate_request.push(r as u32);
    }
    x.candidate_item.extend(further);
    x.candidate_request.resize(x.candidate_item.len(), histories.len() as u32 - 1);
    x.labels = vec![0.0; x.candidate_item.len()];
    x
}

struct Bench {
    assembler: Assembler,
    params: Params,
    store: Store,
    model: Box<dyn Retriever>,
}

impl Bench {
    fn new(name: &str, options: &str) -> Self {
        Self::over(assembler(), name, options).unwrap()
    }

    fn over(assembler: Assembler, name: &str, options: &str) -> Result<Self, Error> {
        let cfg = ModelConfig { name: name.into(), fields: None, options: options.parse().unwrap() };
        let mut params = Params::new(3);
        let sides = serving::sides(assembler.encoder());
        let shape = Shape { fields: assembler.encoder().fields(), sides: &sides, tasks: 1 };
        let model = retriever::build(&cfg, &shape, &mut params)?;
        let table = |t: &millstream_nn::TableSpec| TableConfig {
            init: RowInit::Normal(0.5),
            seed: 5,
            ..TableConfig::new(t.name.clone(), t.dim)
        };
        let store = Store::new(params.tables().iter().map(table).collect()).unwrap();
        Ok(Self { assembler, params, store, model })
    }

    /// What `f` makes of the examples, and its gradients.
    fn run(&self, x: &Examples, f: impl Fn(&Pass, &Inputs) -> Tensor) -> (Vec<f32>, Vec<Vec<f32>>) {
        let batch = self.assembler.batch(x).unwrap();
        let fields = self.assembler.encoder().fields();
        let planned = Feeder::new(fields).plan(fields, &batch).unwrap();
        let pass = Pass::new(&self.params, Mode::Train, 1);
        let ids: Vec<_> = self.params.tables().iter().map(|t| self.store.table(&t.name).unwrap()).collect();
        let pull =
            |at: usize, keys: &[u64], out: &mut [f32]| Ok(self.store.pull_or_init(ids[at], keys, out)?);
        let inputs = planned.inputs(&pass, (fields, &batch), self.params.tables(), pull).unwrap();
        let out = f(&pass, &inputs);
        let values = out.to_vec();
        let gradients: Gradients = pass.backward(&out.sum());
        let tables = self.params.table_ids();
        (values, tables.map(|id| gradients.rows(id).unwrap_or(&[]).to_vec()).collect())
    }

    fn users(&self, histories: &[&[u32]]) -> Vec<f32> {
        self.run(&examples(histories, &[]), |pass, x| self.model.users(pass, x)).0
    }

    /// Place of a table.
    fn table(&self, name: &str) -> usize {
        self.params.tables().iter().position(|t| t.name.contains(name)).unwrap()
    }
}

fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

#[test]
fn the_mimic_loss_reaches_positives_augmented_vectors_and_no_tower() {
    let with = |mimic: f32| {
        let bench = Bench::new("dat", &format!("embedding = 4\nhidden = [6]\ndim = 5\nmimic = {mimic}"));
        let x = examples(&[&[], &[], &[]], &[7, 8]);
        let items = x.candidate_item.clone();
        let y = Targets { items: &items, log_q: &[0.0; 5], weights: &[], mixed: true, own: 0 };
        let (loss, rows) = bench.run(&x, |pass, x| bench.model.learn(pass, x, &y));
        (bench, loss[0], rows)
    };
    let ((bench, plain, without), (_, more, rows)) = (with(0.0), with(2.0));
    assert!(more > plain);
    let changed = |at: usize| !near(&without[at], &rows[at]);
    // Of augmented items the three positives' rows alone feel it; rows stand in the order in which their keys come.
    let items = bench.table("item_id/augmented");
    let row = |all: &[Vec<f32>], r: usize| all[items][r * 5..][..5].to_vec();
    assert!((0..3).all(|r| row(&without, r) != row(&rows, r)));
    assert!((3..5).all(|r| near(&row(&without, r), &row(&rows, r))), "drawn items have no mimic loss");
    assert!(changed(bench.table("user_id/augmented")));
    for table in ["user_id/d4", "item_id/d4", "topic/d4"] {
        assert!(!changed(bench.table(table)), "{table}: towers learn nothing from the mimic loss");
    }
}

#[test]
fn categories_that_are_alike_need_no_alignment() {
    let loss = |align: &str, further: &[u32]| {
        let bench = Bench::new("dat", &format!("embedding = 4\nhidden = [6]\ndim = 5\nmimic = 0.0{align}"));
        let x = examples(&[&[], &[]], further);
        let items = x.candidate_item.clone();
        let y = Targets { items: &items, log_q: &vec![0.0; items.len()], weights: &[], mixed: true, own: 0 };
        bench.run(&x, |pass, x| bench.model.learn(pass, x, &y)).0[0]
    };
    let align = "\nalign = 3.0\ncategory = \"topic\"";
    // Items 0, 3, 6 and 9 are of one topic, 1, 4, 7 of another.
    assert!(loss(align, &[3, 6, 4, 7]) > loss("", &[3, 6, 4, 7]));
    // One topic with two items or more: nothing to compare it with.
    assert!((loss(align, &[3, 6]) - loss("", &[3, 6])).abs() < 1e-6);
}

#[test]
fn mind_reads_a_set_by_capsules_that_differ_and_short_histories_have_fewer() {
    let options = "embedding = 6\nhidden = [8]\ninterests = 4";
    let bench = Bench::new("mind", options);
    let users = bench.users(&[&[1, 2, 3, 4, 5, 6, 7, 8, 9], &[1], &[]]);
    assert_eq!(users.len(), 3 * 4 * 6);
    let interest = |r: usize, k: usize| &users[(r * 4 + k) * 6..][..6];
    // ⌊log₂ 9⌋ = 3 interests, the fourth is the first again; of one item there is one.
    assert!((0..3).all(|i| (0..i).all(|j| interest(0, i) != interest(0, j))));
    assert_eq!(interest(0, 3), interest(0, 0));
    assert!((1..4).all(|k| interest(1, k) == interest(1, 0)));
    assert!(users.iter().all(|v| v.is_finite()));
    // Without spread in the first logits all capsules stay one.
    let flat = Bench::new("mind", &format!("{options}\nlogit_std = 0.0\ndynamic = false"))
        .users(&[&[1, 2, 3, 4, 5]]);
    assert!((1..4).all(|k| near(&flat[k * 6..][..6], &flat[..6])));
}

#[test]
fn an_interest_that_fits_learns_the_positive() {
    for (name, options) in [
        ("mind", "hidden = [8]\ndynamic = false\npower = 2.0"),
        ("mind", "hidden = [8]\ndynamic = false"),
        ("comirec", ""),
        ("comirec", "form = \"routing\""),
    ] {
        let bench = Bench::new(name, &format!("embedding = 6\ninterests = 3\n{options}"));
        let x = examples(&[&[1, 2, 3, 4, 5], &[6, 7], &[8]], &[9, 10, 11]);
        let items = x.candidate_item.clone();
        let y = Targets { items: &items, log_q: &[0.0; 6], weights: &[], mixed: true, own: 0 };
        let (loss, rows) = bench.run(&x, |pass, x| bench.model.learn(pass, x, &y));
        assert!(loss[0].is_finite() && rows.iter().flatten().all(|g| g.is_finite()), "{name} {options}");
        assert!(rows.iter().flatten().any(|g| *g != 0.0), "{name} {options}");
    }
}

#[test]
fn an_items_own_number_is_added_to_its_score() {
    let bench = Bench::new("youtube_dnn", "embedding = 4\nhidden = [6]\nunit = true\nitem_bias = true");
    let users = bench.users(&[&[1, 2], &[]]);
    assert!(users.len() == 2 * 5 && users.chunks(5).all(|user| user[4] == 1.0));
    let x = examples(&[&[1, 2], &[3]], &[9, 10]);
    let items = x.candidate_item.clone();
    let y = Targets { items: &items, log_q: &[0.0; 4], weights: &[], mixed: false, own: 0 };
    let (_, rows) = bench.run(&x, |pass, x| bench.model.learn(pass, x, &y));
    // Positives' numbers are to rise, those of drawn items to fall.
    let slopes = &rows[bench.table("bias/")];
    assert!(slopes[..2].iter().all(|g| *g < 0.0) && slopes[2..4].iter().all(|g| *g > 0.0), "{slopes:?}");
}

#[test]
fn options_out_of_range_name_themselves() {
    for (name, options, said) in [
        ("mind", "power = 0.0", "power"),
        ("mind", "interests = 0", "interest"),
        ("simplex", "margin = 1.0", "margin"),
        ("simplex", "share = 2.0", "share"),
        ("simplex", "sequence = \"pst\"", "did you mean `past`?"),
        ("youtube_dnn", "temperature = 0.0", "temperature"),
        ("dat", "align = 1.0", "category"),
        ("dat", "align = 1.0\ncategory = \"topik\"", "did you mean `topic`?"),
        ("lightgcn", "layers = 17", "layers"),
        ("two_tower", "temperature = -1.0", "temperature"),
        ("comirec", "from = \"attention\"", "form"),
        ("two_tower", "dim = 0", "model `two_tower`: `dim` is 0; it must be above 0"),
        ("dssm", "hidden = [4000000000]", "model `dssm`: `hidden` is 4000000000"),
        (
            "two_tower",
            "hidden = [65536, 65536]",
            "model `two_tower`: weight `user.tower.1.weight` would have",
        ),
        ("two_tower", "intents = {}", "[model.intents] is for models that learn from whole sequences"),
        ("youtube_dnn", "intents = {}", "[model.intents] is for models that learn from whole sequences"),
        ("comirec", "intents = {}", "[model.intents] is for models that learn from whole sequences"),
    ] {
        let cfg = ModelConfig { name: name.into(), fields: None, options: options.parse().unwrap() };
        let assembler = assembler();
        let sides = serving::sides(assembler.encoder());
        let shape = Shape { fields: assembler.encoder().fields(), sides: &sides, tasks: 1 };
        let error = retriever::build(&cfg, &shape, &mut Params::new(1)).map(drop).unwrap_err().to_string();
        assert!(error.contains(said), "{name} {options}: {error}");
    }
}

/// Options of small models that read a sequence of the items they recommend.
const READERS: [(&str, &str); 8] = [
    ("mind", "hidden = [8]\n"),
    ("comirec", ""),
    ("simplex", ""),
    ("youtube_dnn", "hidden = [8]\n"),
    ("lightgcn", ""),
    ("sasrec", ""),
    ("gru4rec", "hidden = [4]\n"),
    ("gat_entmax", ""),
];

#[test]
fn of_several_elements_the_one_of_the_items_id_is_read() {
    // In an order that has the id neither first among the features nor among the elements.
    let author = "[[feature]]\nname = \"author\"\nside = \"item\"\nkind = \"categorical\"\n";
    let three = author.to_owned() + &SCHEMA.replace("[\"item_id\"]", "[\"topic\", \"author\", \"item_id\"]");
    let carts = "[[feature]]\nname = \"carts\"\nkind = \"sequence\"\nelements = [\"author\", \"item_id\"]\n";
    for (name, options) in READERS {
        let with = |schema: &str, more: &str| {
            Bench::over(assembler_of(schema), name, &format!("embedding = 4\n{options}{more}"))
        };
        let tables = |bench: &Bench| -> Vec<String> {
            bench.params.tables().iter().map(|table| table.name.clone()).collect()
        };
        let plain = with(&three, "").unwrap();
        assert!(tables(&plain).iter().any(|table| table.starts_with("item_id/")), "{name}");
        for own in ["topic/", "author/"] {
            assert!(!tables(&plain).iter().any(|table| table.starts_with(own)), "{name} has {own}");
        }
        for named in ["sequence = \"past\"", "sequence = \"past.item_id\""] {
            assert_eq!(tables(&with(&three, named).unwrap()), tables(&plain), "{name} {named}");
        }
        let other = with(&three, "sequence = \"past.author\"").unwrap();
        assert!(tables(&other).iter().any(|table| table.starts_with("author/")), "{name}");
        let histories: [&[u32]; 3] = [&[1, 2, 3], &[3], &[]];
        assert!(plain.users(&histories).iter().all(|v| v.is_finite()), "{name}");
        let told = |schema: &str, more: &str| with(schema, more).err().unwrap().to_string();
        let both = three.clone() + carts;
        let message = told(&both, "");
        assert!(
            message
                .ends_with("`past.item_id` or `carts.item_id`? say which with `sequence = \"past.item_id\"`"),
            "{name}: {message}"
        );
        with(&both, "sequence = \"carts\"").unwrap();
        let message = told(&both, "sequence = \"cart\"");
        assert!(message.contains("unknown sequence `cart`; did you mean `carts`?"), "{name}: {message}");
        let message = told(&both, "sequence = \"carts.item\"");
        assert!(message.contains("did you mean `carts.item_id`?"), "{name}: {message}");
    }
}

#[test]
fn elements_of_as_many_keys_are_not_guessed_between() {
    let hashed = SCHEMA
        .replace(
            "kind = \"categorical\"\n[[feature]]\nname = \"past\"",
            "kind = \"categorical\"\nencoding = \"hash\"\n[[feature]]\nname = \"past\"",
        )
        .replace(
            "name = \"item_id\"\nside = \"item\"\nkind = \"categorical\"",
            "name = \"item_id\"\nside = \"item\"\nkind = \"categorical\"\nencoding = \"hash\"",
        )
        .replace("[\"item_id\"]", "[\"item_id\", \"topic\"]");
    let told = Bench::over(assembler_of(&hashed), "comirec", "").err().unwrap().to_string();
    assert!(
        told.ends_with("`past.item_id` or `past.topic`? say which with `sequence = \"past.item_id\"`"),
        "{told}"
    );
}

#[test]
fn options_of_another_loss_are_refused_before_training_and_open_in_what_was_trained() {
    for (name, options, said) in [
        ("simplex", "temperature = 0.2", "`temperature` means nothing beside `loss = \"contrastive\"`"),
        ("simplex", "loss = \"softmax\"\nmargin = 0.5", "`margin` means nothing beside `loss = \"softmax\"`"),
        ("simplex", "loss = \"softmax\"\nnegative_weight = 5.0", "`negative_weight` means nothing beside"),
        ("simplex", "history = false\npool = \"mean\"", "`pool` means nothing beside `history = false`"),
        (
            "lightgcn",
            "loss = \"bpr\"\ntemperature = 0.2",
            "`temperature` means nothing beside `loss = \"bpr\"`",
        ),
        ("comirec", "iterations = 4", "`iterations` means nothing beside `form = \"attention\"`"),
    ] {
        let cfg = ModelConfig { options: options.parse().unwrap(), ..ModelConfig::named(name) };
        let def = RETRIEVERS.iter().find(|def| def.name == name).unwrap();
        let error = (def.check)(&cfg).unwrap_err().to_string();
        assert!(error.contains(said), "{name} {options}: {error}");
        Bench::new(name, options);
    }
    for (name, options) in [
        ("simplex", "loss = \"softmax\"\ntemperature = 0.2"),
        ("comirec", "form = \"routing\"\niterations = 4"),
    ] {
        let cfg = ModelConfig { options: options.parse().unwrap(), ..ModelConfig::named(name) };
        (RETRIEVERS.iter().find(|def| def.name == name).unwrap().check)(&cfg).unwrap();
    }
}

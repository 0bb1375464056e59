//! A small world, and every model on it with weights that are trained by hand.

use millstream_models::input::Feeder;
use millstream_models::ranker::{self, FitData, Labels, Shape};
use millstream_models::snapshot::{self, Header, Role};
use millstream_models::{
    ModelConfig, RANKERS, RETRIEVERS, Ranker, Retriever, RetrieverDef, retriever, serving,
};
use millstream_nn::{Inputs, Mode, Optimiser, Params, Pass, Tensor};
use millstream_schema::examples::Action;
use millstream_schema::{Assembler, Batch, Encoder, Examples, Fitter, Frame, Schema, Side};
use millstream_store::{RowInit, RowOptim, RowsMut, Store, TableConfig};
use std::sync::Arc;

pub const SCHEMA: &str = r#"
    [[feature]]
    name = "user_id"
    side = "user"
    kind = "categorical"
    [[feature]]
    name = "age"
    side = "user"
    kind = "numeric"
    [[feature]]
    name = "item_id"
    side = "item"
    kind = "categorical"
    [[feature]]
    name = "tags"
    side = "item"
    kind = "multi"
    [[feature]]
    name = "price"
    side = "item"
    kind = "numeric"
    transform = "log"
    [[feature]]
    name = "position"
    side = "exposure"
    kind = "categorical"
    [[feature]]
    name = "clicks"
    kind = "sequence"
    elements = ["item_id"]
    gap = true
    strength = true
    session_gap_mins = 30
    [[feature]]
    name = "user_item"
    kind = "cross"
    of = ["user_id", "item_id"]
"#;

pub const USERS: u32 = 7;
pub const ITEMS: u32 = 11;

/// A small catalogue of users and items.
pub fn assembler() -> Assembler {
    assembler_of(SCHEMA)
}

/// The same with other features.
pub fn assembler_of(schema: &str) -> Assembler {
    let schema: Schema = schema.parse().unwrap();
    let mut users = Frame::new("users", &["user_id", "age"]);
    for u in 0..USERS {
        users.push_row(u.into(), &[&format!("u{u}"), &format!("{}", 20 + u)]);
    }
    let mut items = Frame::new("items", &["item_id", "tags", "price"]);
    for i in 0..ITEMS {
        items.push_row(
            i.into(),
            &[&format!("i{i}"), &format!("t{}|t{}", i % 3, i % 5), &format!("{}", i * 3)],
        );
    }
    let mut positions = Frame::new("events", &["position"]);
    for p in 0..4 {
        positions.push_row(p, &[&p.to_string()]);
    }
    let mut fitter = Fitter::new(&schema);
    fitter.observe(&[Side::User], &users).unwrap();
    fitter.observe(&[Side::Item], &items).unwrap();
    fitter.observe(&[Side::Exposure], &positions).unwrap();
    let encoder = Arc::new(fitter.finish().unwrap());
    let bad = &mut Default::default();
    let (users, items) = (
        encoder.encode(&[Side::User], &users, bad).unwrap(),
        encoder.encode(&[Side::Item], &items, bad).unwrap(),
    );
    Assembler::new(encoder, users, items).unwrap()
}

/// `requests` requests with `each` candidates; what they hold depends on `seed`.
pub fn examples(encoder: &Encoder, requests: u32, each: u32, seed: u32) -> Examples {
    let mut x = Examples { tasks: 1, ..Examples::default() };
    for r in 0..requests {
        let draw = |salt: u32| (r * 131 + salt * 17 + seed * 7919).wrapping_mul(2_654_435_761) >> 8;
        x.request_user.push(draw(1) % USERS);
        x.request_time_ms.push(1_000_000_000 + i64::from(r) * 1000);
        let past = (0..draw(2) % 4).map(|k| Action {
            item: draw(3 + k) % ITEMS,
            // 20 minutes after the first, then an hour: two sessions.
            time_ms: 900_000_000 + i64::from(k * k) * 1_200_000,
            kind: 1,
            value: 1.0,
        });
        x.history.push(past);
        for c in 0..each {
            x.candidate_request.push(r);
            x.candidate_item.push(draw(10 + c) % ITEMS);
            x.labels.push((draw(40 + c) % 2) as f32);
        }
    }
    x.exposure = encoder.exposure_defaults(x.candidates()).unwrap();
    x
}

/// Small sizes: of these options, those that the model has.
pub const SMALL: [&str; 9] = [
    "embedding = 4",
    "hidden = [16, 8]",
    "init_std = 0.1",
    "min_rows = 1",
    "trees = 60",
    "tower_hidden = [6]",
    "learning_rate = 0.3",
    "members = 2",
    "member = { name = \"deepfm\", embedding = 4, hidden = [16, 8], init_std = 0.1 }",
];

/// Forms of models that their options lead to and that must hold to the laws as well.
pub const VARIANTS: [(&str, &str); 42] = [
    ("deepfm", r#"lhuc = { fields = ["user_id", "age"], hidden = [6] }"#),
    ("deepfm", r#"activation = "silu""#),
    ("wide_deep", r#"deep_fields = ["user_id", "item_id", "tags"]"#),
    ("dcn", r#"structure = "stacked""#),
    ("dcn_v2", "rank = 3"),
    ("dcn_v2", "rank = 3\nexperts = 2"),
    ("dcn_v2", "structure = \"stacked\"\ncross_fields = [\"user_id\", \"item_id\"]"),
    ("autoint", "hidden = []\nwide = true\nscaled = true"),
    ("final_mlp", "first_context = [\"user_id\"]\nsecond_context = [\"item_id\"]\nheads = 4"),
    ("final_mlp", "gated = false\nsecond_hidden = [6]"),
    ("ensemble", "members = 3\nmember = { name = \"fm\", embedding = 4, init_std = 0.1 }"),
    ("shared_bottom", "tower_hidden = []\nlhuc = { fields = [\"user_id\"], hidden = [6] }"),
    ("mmoe", "experts = 2\nactivation = \"prelu\""),
    ("ple", "layers = 1\ntask_experts = 1\nshared_experts = 1\nactivation = \"silu\""),
    ("mean_pool", "sequence = { pool = \"gap\" }"),
    ("mean_pool", "sequence = { pool = \"max\", strength = true }"),
    ("mean_pool", "sequence = { pool = \"last\", combine = \"sum\" }"),
    ("din", "sequence = { unit = [6], activation = \"prelu\", strength = true }"),
    ("din", "sequence = { combine = \"sum\", weights = \"softmax\", activation = \"sigmoid\" }"),
    ("din", "sequence = { unit = [8, 4], weights = { entmax = 1.5 } }"),
    ("sim_hard", "sequence = { category = \"item_id\", k = 2 }"),
    ("sim_soft", "sequence = { k = 2, activation = \"relu\" }"),
    ("dien", "sequence = { combine = \"sum\" }"),
    ("din", "sequence = { scene = [\"position\", \"age\"], activation = \"silu\" }"),
    ("dien", "sequence = { scene = [\"position\"], auxiliary = 0.0 }"),
    ("dsin", "sequence = { transformer = { heads = 2 }, weights = { entmax = 1.5 } }"),
    ("dsin", "sequence = { combine = \"sum\", strength = true, transformer = { norm = \"before\" } }"),
    ("wide_deep", "activation = \"silu\"\nsequence = { block = \"dsin\" }"),
    ("din_self", "sequence = { transformer = { heads = 2, causal = true }, activation = \"silu\" }"),
    (
        "din_self",
        "sequence = { combine = \"sum\", transformer = { blocks = 2, norm = \"after\", places = 4 } }",
    ),
    ("bst", "sequence = { transformer = { heads = 4, places = 4 }, pool = \"mean\" }"),
    (
        "bst",
        "sequence = { combine = \"sum\", strength = true, transformer = { blocks = 2, norm = \"query\", causal = true } }",
    ),
    (
        "bst",
        "sequence = { transformer = { rotary = 100.0, window = 2 }, pool = \"max\", scene = [\"position\"] }",
    ),
    ("deepfm", "activation = \"silu\"\nsequence = { block = \"bst\" }"),
    (
        "dcn_v2",
        "activation = \"silu\"\nsequence = { block = \"din_self\", unit = [8], weights = \"softmax\" }",
    ),
    ("deepfm", "activation = \"silu\"\nsequence = { block = \"din\", unit = [8, 4] }"),
    (
        "dcn_v2",
        "activation = \"silu\"\nsequence = { block = \"target_attention\", feature = \"clicks\" }\ncross_fields = [\"user_id\", \"item_id\"]",
    ),
    ("autoint", "sequence = { block = \"sim_soft\" }"),
    ("wide_deep", "activation = \"silu\"\nsequence = { block = \"mean_pool\", pool = \"sum\" }"),
    ("final_mlp", "activation = \"silu\"\nsequence = { block = \"dien\" }"),
    (
        "din",
        "[[sequence]]\nunit = [6]\nactivation = \"silu\"\n[[sequence]]\nblock = \"sim_hard\"\ncategory = \"item_id\"\nk = 2\nstrength = true",
    ),
    (
        "dcn_v2",
        "activation = \"silu\"\n[[sequence]]\nblock = \"din\"\nunit = [8]\n[[sequence]]\nblock = \"bst\"\nscene = [\"position\"]",
    ),
];

pub fn config(name: &str) -> ModelConfig {
    let mut cfg = ModelConfig::named(name);
    if name == "sim_hard" {
        // What is the same category is a matter of the data.
        cfg.options.extend("sequence = { category = \"item_id\" }".parse::<toml::Table>().unwrap());
    }
    for option in SMALL {
        let mut with = cfg.clone();
        with.options.extend(option.parse::<toml::Table>().unwrap());
        if accepted(&with) {
            cfg = with;
        }
    }
    cfg
}

/// Whether the model has these options.
pub fn accepted(cfg: &ModelConfig) -> bool {
    let rankers = RANKERS.iter().map(|d| (d.name, d.check));
    let mut all = rankers.chain(RETRIEVERS.iter().map(|d| (d.name, d.check)));
    all.any(|(name, check)| name == cfg.name && check(cfg).is_ok())
}

/// A model with its weights and rows, trained by hand.
pub struct Bench<M: ?Sized> {
    pub cfg: ModelConfig,
    pub assembler: Assembler,
    pub params: Params,
    pub store: Store,
    pub model: Box<M>,
}

pub type Build<M> = dyn Fn(&ModelConfig, &Shape<'_>, &mut Params) -> Box<M>;

impl<M: ?Sized> Bench<M> {
    pub fn new(cfg: ModelConfig, build: &Build<M>) -> Self {
        Self::over(assembler(), cfg, build)
    }

    pub fn over(assembler: Assembler, cfg: ModelConfig, build: &Build<M>) -> Self {
        let encoder = assembler.encoder().clone();
        let mut params = Params::new(3);
        let sides = serving::sides(&encoder);
        let shape = Shape { fields: encoder.fields(), sides: &sides, tasks: 1 };
        let model = build(&cfg, &shape, &mut params);
        let table = |t: &millstream_nn::TableSpec| TableConfig {
            init: RowInit::Normal(0.1),
            optim: RowOptim::LazyAdam { lr: 0.02, beta1: 0.9, beta2: 0.999, eps: 1e-8 },
            seed: 5,
            ..TableConfig::new(t.name.clone(), t.dim)
        };
        let store = Store::new(params.tables().iter().map(table).collect()).unwrap();
        Self { cfg, assembler, params, store, model }
    }

    pub fn run<T>(&self, batch: &Batch, mode: Mode, f: impl FnOnce(&M, &Pass, &Inputs) -> T) -> T {
        let fields = self.assembler.encoder().fields();
        let planned = Feeder::new(fields).plan(fields, batch).unwrap();
        let (params, store) = (&self.params, &self.store);
        let pass = Pass::new(params, mode, 1);
        let x = planned
            .inputs(&pass, (fields, batch), params.tables(), |at, keys, out| {
                let table = store.table(&params.tables()[at].name)?;
                Ok(store.pull_or_init(table, keys, out)?)
            })
            .unwrap();
        f(&self.model, &pass, &x)
    }

    /// One step; gives the loss before it.
    pub fn step(
        &mut self,
        batch: &Batch,
        optimiser: &mut Optimiser,
        loss: impl Fn(&M, &Pass, &Inputs) -> Tensor,
    ) -> f32 {
        let fields = self.assembler.encoder().fields().to_vec();
        let planned = Feeder::new(&fields).plan(&fields, batch).unwrap();
        let (value, gradients) = self.run(batch, Mode::Train, |model, pass, x| {
            let loss = loss(model, pass, x);
            (loss.item(), pass.backward(&loss))
        });
        optimiser.step(&mut self.params, &gradients);
        for (table, id) in self.params.tables().iter().zip(self.params.table_ids()) {
            if let Some(grads) = gradients.rows(id) {
                self.store
                    .push_unique(self.store.table(&table.name).unwrap(), planned.keys(table), grads)
                    .unwrap();
            }
        }
        value
    }

    pub fn save(&self, path: &std::path::Path, role: Role) {
        let header = Header {
            role,
            model: self.cfg.clone(),
            tasks: vec!["click".into()],
            fields: snapshot::fingerprint(self.assembler.encoder().fields()),
            seed: 3,
            steps: 1,
            negatives_kept: None,
        };
        snapshot::write(path, &header, &self.params, &self.store, &[]).unwrap();
    }
}

/// Every ranker, and the variants, each under a name that says which it is.
pub fn rankers() -> Vec<(String, Bench<dyn Ranker>)> {
    let build: &Build<dyn Ranker> = &|c, s, p| ranker::build(c, s, p).unwrap();
    let plain = RANKERS.iter().map(|def| (def.name.to_owned(), config(def.name)));
    let variants = VARIANTS.iter().map(|(name, options)| {
        let mut cfg = config(name);
        cfg.options.extend(options.parse::<toml::Table>().unwrap());
        (format!("{name} with {options}"), cfg)
    });
    plain.chain(variants).map(|(name, cfg)| (name, Bench::new(cfg, build))).collect()
}

pub fn retrievers() -> Vec<(&'static str, Bench<dyn Retriever>)> {
    let build: &Build<dyn Retriever> = &|c, s, p| retriever::build(c, s, p).unwrap();
    let config = |def: &RetrieverDef| {
        let mut cfg = config(def.name);
        if def.whole {
            cfg.options.extend("embedding = 8\ndropout = 0.0".parse::<toml::Table>().unwrap());
        }
        cfg
    };
    RETRIEVERS.iter().map(|def| (def.name, Bench::new(config(def), build))).collect()
}

/// The item that goes with request r: with whom it is, or, for a model that knows nothing of users, what they did last.
pub fn right_item(name: &str, x: &Examples, r: usize) -> u32 {
    let past = &x.history.item[x.history.span(r)];
    if ["multi_behaviour", "comirec"].contains(&name) {
        // They take what a user did for a set.
        return past.iter().min().map_or(0, |item| (item + 1) % ITEMS);
    }
    if !RETRIEVERS.iter().any(|def| def.name == name && def.whole) {
        return x.request_user[r] % ITEMS;
    }
    past.last().map_or(0, |item| (item + 1) % ITEMS)
}

/// What training makes small: the tasks' loss, and what layers add to it.
pub fn total(model: &dyn Ranker, pass: &Pass, x: &Inputs, y: &[f32]) -> (Tensor, Option<Tensor>) {
    let loss = model.loss(&model.forward(pass, x), &Labels { values: y, weights: &[] });
    (loss, pass.take_losses())
}

/// Fits a model that learns from all rows at once; one that learns by steps stays as it is, and says so.
pub fn fit(bench: &mut Bench<dyn Ranker>, batch: &Batch) -> bool {
    let Some(fit) = RANKERS.iter().find(|def| def.name == bench.cfg.name).unwrap().fit else { return false };
    let encoder = bench.assembler.encoder().clone();
    let sides = serving::sides(&encoder);
    let shape = Shape { fields: encoder.fields(), sides: &sides, tasks: 1 };
    let train = std::slice::from_ref(batch);
    let data = FitData { train, valid: &[], again: false, seed: 1, progress: &|_, _| () };
    fit(&bench.cfg, &shape, &data, &mut bench.params).unwrap();
    true
}

pub fn logits(bench: &Bench<dyn Ranker>, x: &Examples) -> Vec<f32> {
    let batch = bench.assembler.batch(x).unwrap();
    bench.run(&batch, Mode::Infer, |model, pass, x| model.forward(pass, x).to_vec())
}

pub fn near(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-5 * (1.0 + a.abs().max(b.abs()))
}

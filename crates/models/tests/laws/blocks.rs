//! Rankers that read several lists of actions, or one in several ways.

use super::bench::*;
use millstream_models::ranker::{self, Shape};
use millstream_models::snapshot::Role;
use millstream_models::{ModelConfig, Ranker, Scorer, serving};
use millstream_nn::Params;
use millstream_schema::Examples;
use millstream_schema::examples::Action;

/// Clicks and orders, each with its list.
fn two_lists() -> String {
    let clicks = "name = \"clicks\"\n    kind = \"sequence\"\n";
    let schema = SCHEMA.replace(clicks, &format!("{clicks}events = [\"click\"]\n"));
    assert_ne!(schema, SCHEMA);
    schema
        + "[[feature]]\nname = \"orders\"\nkind = \"sequence\"\nevents = [\"order\"]\nelements = [\"item_id\"]\n\
           max_len = 3\n"
}

fn bench(name: &str, options: &str) -> Bench<dyn Ranker> {
    let cfg = ModelConfig { options: options.parse().unwrap(), ..ModelConfig::named(name) };
    Bench::over(assembler_of(&two_lists()), cfg, &|c, s, p| ranker::build(c, s, p).unwrap())
}

/// Requests whose users clicked and ordered.
fn mixed(bench: &Bench<dyn Ranker>) -> Examples {
    let mut x = examples(bench.assembler.encoder(), 6, 2, 3);
    x.history = Default::default();
    for r in 0..6u32 {
        let past = (0..2 * r).map(|k| Action {
            item: (r * 3 + k * 5) % ITEMS,
            time_ms: 900_000_000 + i64::from(k) * 1000,
            // Every third is an order.
            kind: if k % 3 == 2 { 3 } else { 1 },
            value: 1.0,
        });
        x.history.push(past);
    }
    x
}

/// A value for each weight by its name: what is called alike in two models is alike.
fn spread(bench: &mut Bench<dyn Ranker>, rename: impl Fn(&str) -> String) {
    for id in bench.params.ids().collect::<Vec<_>>() {
        let name = rename(bench.params.name(id));
        let salt = name.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let draw = |at: usize| (salt.wrapping_add(at as u32 * 7919).wrapping_mul(2_654_435_761) >> 8) as f32;
        let values = bench.params.values_mut(id);
        values.iter_mut().enumerate().for_each(|(at, v)| *v = draw(at) / (1 << 24) as f32 - 0.5);
    }
}

/// The head's weights and bias.
fn head(bench: &Bench<dyn Ranker>) -> (Vec<f32>, f32) {
    let values = |name: &str| bench.params.values(bench.params.find(name).unwrap()).to_vec();
    (values("head.weight"), values("head.bias")[0])
}

fn set_head(bench: &mut Bench<dyn Ranker>, weight: &[f32], bias: f32) {
    let at = |bench: &Bench<dyn Ranker>, name: &str| bench.params.find(name).unwrap();
    let (w, b) = (at(bench, "head.weight"), at(bench, "head.bias"));
    bench.params.values_mut(w).copy_from_slice(weight);
    bench.params.values_mut(b)[0] = bias;
}

#[test]
fn two_blocks_are_the_fields_and_the_one_and_the_other_side_by_side() {
    // Without layers a ranker is linear in what stands side by side, so that its parts add up.
    let all = "embedding = 4\nhidden = []\ninit_std = 0.1\n";
    let clicks = "feature = \"clicks\"\nunit = [6]\nactivation = \"silu\"\nstrength = true\n";
    let orders = "feature = \"orders\"\nblock = \"din\"\nunit = [5]\nactivation = \"silu\"\n";
    let mut both = bench("din", &format!("{all}[[sequence]]\n{clicks}[[sequence]]\n{orders}"));
    let mut first = bench("din", &format!("{all}[sequence]\n{clicks}"));
    let mut second = bench("din", &format!("{all}[sequence]\n{}", orders.replace("block = \"din\"\n", "")));
    spread(&mut both, str::to_owned);
    spread(&mut first, str::to_owned);
    spread(&mut second, |name| name.replace("sequence.", "sequence2."));
    let x = mixed(&both);
    let (w, b) = head(&both);
    let (of_first, of_second) = (head(&first).0.len(), head(&second).0.len());
    // Each alone pools the other list into its fields; these are told to count nothing.
    let clicked = 3 * 4;
    let ordered = 4;
    let fields = w.len() - clicked - ordered;
    assert_eq!((of_first, of_second), (fields + 4 + clicked, fields + 3 * 4 + ordered));
    let z = logits(&both, &x);
    // Where the pooled fields of the list that is not read stand.
    let place = |name: &str, bench: &Bench<dyn Ranker>| {
        let all = bench.assembler.encoder().fields();
        let own = |field: &&millstream_schema::Field| field.name.starts_with(name);
        let before = all.iter().take_while(|field| !own(field));
        let read = if name == "clicks." { "orders." } else { "clicks." };
        let from = before.filter(|field| !field.name.starts_with(read)).count() * 4;
        (from, all.iter().filter(own).count() * 4)
    };
    let with = |bench: &Bench<dyn Ranker>, other: &str, own: &[f32], fields: &[f32]| {
        let (from, width) = place(other, bench);
        let mut w = fields.to_vec();
        w.splice(from..from, vec![0.0; width]);
        w.extend(own);
        w
    };
    let w_first = with(&first, "orders.", &w[fields..fields + clicked], &w[..fields]);
    let w_second = with(&second, "clicks.", &w[fields + clicked..], &vec![0.0; fields]);
    set_head(&mut first, &w_first, b);
    set_head(&mut second, &w_second, 0.0);
    let (a, c) = (logits(&first, &x), logits(&second, &x));
    let mut differs = false;
    for ((z, a), c) in z.iter().zip(a).zip(c) {
        assert!(near(*z, a + c), "{z} is not {a} + {c}");
        differs |= c.abs() > 1e-4;
    }
    assert!(differs, "orders count nothing");
}

#[test]
fn two_blocks_are_trained_saved_and_opened_with_the_same_scores() {
    let dir = tempfile::tempdir().unwrap();
    for (name, options) in [
        (
            "din",
            "[[sequence]]\nfeature = \"clicks\"\n[[sequence]]\nfeature = \"orders\"\nblock = \"mean_pool\"",
        ),
        (
            "dcn_v2",
            "[[sequence]]\nblock = \"dien\"\nfeature = \"clicks\"\n[[sequence]]\nblock = \"din\"\nfeature = \"orders\"",
        ),
        (
            "mmoe",
            "[[sequence]]\nblock = \"sim_soft\"\nk = 2\nfeature = \"clicks\"\n[[sequence]]\nblock = \"dsin\"\nfeature = \"clicks\"\n\
             [[sequence]]\nblock = \"bst\"\nfeature = \"orders\"",
        ),
    ] {
        let mut bench = bench(name, &format!("embedding = 4\nhidden = [8]\ninit_std = 0.1\n{options}"));
        let batch = bench.assembler.batch(&mixed(&bench)).unwrap();
        let mut optimiser = millstream_nn::Optimiser::new(millstream_nn::DenseOptim::adam(0.02));
        let mut losses = Vec::new();
        for _ in 0..60 {
            losses.push(
                bench.step(&batch, &mut optimiser, |model, pass, x| total(model, pass, x, &batch.labels).0),
            );
        }
        assert!(losses[59] < 0.5 * losses[0], "{name}: {} to {}", losses[0], losses[59]);
        let path = dir.path().join(format!("{name}.model"));
        bench.save(&path, Role::Ranker);
        let scorer = Scorer::open(&path, bench.assembler.encoder()).unwrap();
        let live =
            bench.run(&batch, millstream_nn::Mode::Infer, |model, pass, x| model.forward(pass, x).to_vec());
        let live: Vec<f32> = live.into_iter().map(|z| 1.0 / (1.0 + (-z).exp())).collect();
        assert_eq!(scorer.score(&batch).unwrap(), live, "{name}");
    }
}

#[test]
fn the_first_block_is_called_as_the_only_one_was() {
    let names = |options: &str| -> Vec<String> {
        let bench = bench("din", &format!("embedding = 4\n{options}"));
        bench.params.iter().map(|(name, ..)| name.to_owned()).collect()
    };
    let one = names("[sequence]\nfeature = \"clicks\"\nunit = [6]");
    assert!(one.iter().any(|name| name == "sequence.0.weight"), "{one:?}");
    assert_eq!(one, names("[[sequence]]\nfeature = \"clicks\"\nunit = [6]"));
    let two = names(
        "[[sequence]]\nfeature = \"clicks\"\nunit = [6]\n[[sequence]]\nfeature = \"orders\"\nblock = \"din\"",
    );
    assert!(one.iter().all(|name| two.contains(name)), "{two:?}");
    assert!(two.iter().any(|name| name == "sequence2.0.weight"), "{two:?}");
}

#[test]
fn options_of_several_blocks_are_checked_each_by_its_number() {
    let told = |name: &str, options: &str, schema: &str| {
        let assembler = assembler_of(schema);
        let sides = serving::sides(assembler.encoder());
        let shape = Shape { fields: assembler.encoder().fields(), sides: &sides, tasks: 1 };
        let cfg = ModelConfig { options: options.parse().unwrap(), ..ModelConfig::named(name) };
        ranker::build(&cfg, &shape, &mut Params::new(1)).err().unwrap().to_string()
    };
    let (two, weak) = (two_lists(), SCHEMA.replace("strength = true\n", ""));
    let second = |block: &str| format!("[[sequence]]\nfeature = \"clicks\"\n[[sequence]]\n{block}");
    for (name, options, said) in [
        (
            "din",
            second("block = \"din\""),
            "[[model.sequence]] number 2: needs `feature`, one of clicks, orders",
        ),
        (
            "din",
            second("feature = \"ordrs\""),
            "number 2: unknown feature of kind \"sequence\" `ordrs`; did you mean `orders`?",
        ),
        (
            "din",
            second("feature = \"orders\"\npool = \"sum\""),
            "number 2: `pool` means nothing for the block din",
        ),
        ("din", second("feature = \"orders\"\nunt = [3]"), "unknown key `unt`; did you mean `unit`?"),
        (
            "din",
            second("feature = \"orders\"\nstrength = true"),
            "number 2: `strength = true` needs the strength of actions",
        ),
        (
            "din",
            "[[sequence]]\nblock = \"din\"\n[[sequence]]\nblock = \"bst\"".into(),
            "leave out `block` of one [[model.sequence]]",
        ),
        (
            "deepfm",
            second("feature = \"orders\"\nblock = \"din\""),
            "number 1: needs `block`, one of mean_pool",
        ),
        ("deepfm", "sequence = []".into(), "[[model.sequence]] names no block"),
        (
            "deepfm",
            "sequence = \"clicks\"".into(),
            "a table [model.sequence], or several tables [[model.sequence]]",
        ),
        ("deepfm", second("unit = [0]"), "`sequence.unit` is 0"),
    ] {
        let error = told(name, &options, &two);
        assert!(error.contains(said) && error.contains(&format!("`{name}`")), "{options}: {error}");
    }
    for (name, options, said) in [
        (
            "din",
            "sequence = { strength = true }",
            "[model.sequence] `strength = true` needs the strength of actions",
        ),
        ("mean_pool", "sequence = { pool = \"strength\" }", "[model.sequence] `pool = \"strength\"` needs"),
        ("bst", "sequence = { strength = true }", "say `strength = true` of the feature `clicks` too"),
    ] {
        let error = told(name, options, &weak);
        assert!(error.contains(said), "{name} {options}: {error}");
    }
}

#[test]
fn a_model_that_was_trained_on_strengths_of_one_still_opens() {
    let assembler = assembler_of(&SCHEMA.replace("strength = true\n", ""));
    let sides = serving::sides(assembler.encoder());
    let shape = Shape { fields: assembler.encoder().fields(), sides: &sides, tasks: 1 };
    let cfg = ModelConfig {
        options: "embedding = 4\nsequence = { strength = true }".parse().unwrap(),
        ..ModelConfig::named("din")
    };
    let with = assembler_of(SCHEMA);
    let mut params = Params::new(1);
    let fields = Shape { fields: with.encoder().fields(), ..shape };
    ranker::build(&cfg, &fields, &mut params).map(drop).unwrap();
    let mut saved = Params::with_weights(1, params.weights()).unwrap();
    ranker::build(&cfg, &shape, &mut saved).map(drop).unwrap();
    assert!(saved.missing_from_saved().is_empty());
}

//! Conversion rates over all exposures, in a world whose true ones are known: learned from clicks alone they are those
//! of the clicked kind.
#![allow(clippy::unwrap_used)]

mod support;

use millstream_data::synth::{Exposure, KindShares, World, WorldConfig};
use millstream_schema::{Batch, Encoder, Frame, Schema};
use millstream_train::{Learner, Setting};
use support::{model, table_batch, training};

const SCHEMA: &str = r#"
    [[feature]]
    name = "user"
    side = "user"
    kind = "categorical"
    encoding = "hash"
    [[feature]]
    name = "item"
    side = "item"
    kind = "categorical"
    encoding = "hash"
    [[feature]]
    name = "topic"
    side = "item"
    kind = "categorical"
    encoding = "hash"
    [[feature]]
    name = "position"
    side = "exposure"
    kind = "categorical"
    encoding = "hash"
"#;

/// Interests that stay, so that users and items are all there is to know.
fn world(seed: u64, exposures: u64) -> World {
    let config = WorldConfig {
        seed,
        users: 300,
        items: 300,
        exposures,
        click_rate: 0.2,
        authors: 50,
        categories: 10,
        drift: 0.0,
        born_during: 0.0,
        mean_life_days: 10_000.0,
        kinds: KindShares { product: 1.0, live: 0.0, video: 0.0 },
        ..WorldConfig::default()
    };
    World::new(&config).unwrap()
}

/// The exposures as a batch with clicks and carts, the latter NaN where there was no click.
fn batch(encoder: &Encoder, world: &World, rows: &[Exposure], tasks: &[&str]) -> Batch {
    let mut frame = Frame::new("rows", &["user", "item", "topic", "position"]);
    let mut labels = Vec::new();
    for (line, e) in rows.iter().enumerate() {
        let item = &world.items()[e.item as usize];
        let topic = format!("{}.{}", item.category, item.topic);
        frame.push_row(
            line as u64,
            &[&world.user_id(e.user), &world.item_id(e.item), &topic, &e.position.to_string()],
        );
        let one = |there: bool| f32::from(u8::from(there));
        let (click, cart) = (e.outcome.click_ms.is_some(), e.outcome.cart_ms.is_some());
        let label = |task: &&str| match *task {
            "click" => one(click),
            _ if click => one(cart),
            _ => f32::NAN,
        };
        labels.extend(tasks.iter().map(label));
    }
    table_batch(encoder, &frame, labels, tasks.len())
}

/// The mean conversion rate that a model predicts over all of these exposures.
fn predicted(
    model_text: &str,
    tasks: &[&str],
    (world, train, test): (&World, &[Exposure], &[Exposure]),
) -> f64 {
    let encoder = Encoder::without_fitting(&SCHEMA.parse::<Schema>().unwrap()).unwrap();
    let names: Vec<String> = tasks.iter().map(|t| (*t).to_owned()).collect();
    let rule = "{ optimizer = \"adam\", learning_rate = 1e-3 }";
    let (model, training) = (model(model_text), training(&format!("dense = {rule}\nrows = {rule}")));
    let setting =
        Setting { encoder: &encoder, tasks: &names, model: &model, training: &training, sampling: None };
    let mut learner = Learner::new(&setting).unwrap();
    for _ in 0..2 {
        for rows in train.chunks(1024) {
            learner.step(&batch(&encoder, world, rows, tasks)).unwrap();
        }
    }
    let mut sum = 0.0;
    for rows in test.chunks(8192) {
        let logits = learner.logits(&batch(&encoder, world, rows, tasks)).unwrap();
        let cart = logits.iter().skip(tasks.len() - 1).step_by(tasks.len());
        sum += cart.map(|z| 1.0 / (1.0 + f64::from(-z).exp())).sum::<f64>();
    }
    sum / test.len() as f64
}

const SIZES: &str = "embedding = 16\nhidden = [64, 32]\ninit_std = 0.01";

/// How far `p` is off the truth, in percent of it.
fn off(p: f64, truth: f64) -> f64 {
    (p / truth - 1.0) * 100.0
}

/// How far off the truth ESMM is over all exposures, how far the same tower learned from clicked rows, and the rate of these.
struct Apart {
    esmm: f64,
    alone: f64,
    clicked: f64,
}

fn apart(seed: u64, exposures: u64) -> Apart {
    let world = world(seed, exposures);
    let mut all: Vec<Exposure> = world.exposures().collect();
    let test = all.split_off(all.len() * 9 / 10);
    let cvr = |e: &Exposure| world.cart_probability(e.user, e.item, e.time_ms);
    let mean = |rows: &mut dyn Iterator<Item = &Exposure>| {
        let (sum, n) = rows.fold((0.0, 0), |(sum, n), e| (sum + cvr(e), n + 1));
        sum / f64::from(n)
    };
    let truth = mean(&mut test.iter());
    let clicked = off(mean(&mut test.iter().filter(|e| e.outcome.click_ms.is_some())), truth);
    let data = (&world, &all[..], &test[..]);
    let model = format!("name = \"esmm\"\nserved = \"conditional\"\n{SIZES}");
    let esmm = off(predicted(&model, &["click", "cart"], data), truth);
    // The same tower over the same rows and fields, without the step before: it learns from clicked rows only.
    let alone = off(predicted(&model, &["cart"], data), truth);
    eprintln!(
        "seed {seed}, {exposures} exposures: esmm {esmm:+.1} %, learned from clicks {alone:+.1} %, rate of clicked rows {clicked:+.1} %"
    );
    assert!(clicked > 20.0, "seed {seed}: closer matches are clicked and carted more: {clicked} %");
    Apart { esmm, alone, clicked }
}

// Off the truth, seeds 1 and 3: esmm +1.5 and +4.7 %; learned from clicks +9.0 and +24.7 %. The rate of the clicked rows themselves is
// 23 and 26 % above that of all. A few thousand carts tell a rate to 1 or 2 % only, so that no model could be held to less here. With ten times the
// exposures (below): esmm -1.0 and +1.4 %, learned from clicks +3.1 and +15.5 %, clicked rows +34 and +52 %.
#[test]
fn esmm_knows_the_conversion_rate_of_what_is_not_clicked() {
    for seed in [1, 3] {
        let Apart { esmm, alone, .. } = apart(seed, 300_000);
        assert!(esmm.abs() < 6.0, "seed {seed}: esmm is off by {esmm:.1} %");
        assert!(
            alone > 5.0f64.max(3.0 * esmm.abs()),
            "seed {seed}: learned from clicks it is off by {alone:.1} %"
        );
    }
}

#[test]
#[ignore = "ten times the exposures, which takes minutes"]
fn with_enough_exposures_esmm_is_within_two_percent() {
    for seed in [1, 3] {
        let Apart { esmm, alone, clicked } = apart(seed, 3_000_000);
        assert!(esmm.abs() < 2.0, "seed {seed}: esmm is off by {esmm:.1} %");
        // More clicks teach the other tower more of what is clicked seldom as well.
        assert!(
            alone > 2.0f64.max(2.0 * esmm.abs()) && clicked > alone,
            "seed {seed}: {alone:.1} % and {clicked:.1} %"
        );
    }
}

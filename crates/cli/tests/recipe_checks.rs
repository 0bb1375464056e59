//! What a recipe asks for in vain: figures that nobody measures, keys that would change nothing, data that leaves nothing to
//! judge by. Told with status 2 and the reason, and nothing is left behind.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::fmt::Write;
use std::path::Path;
use support::data::{RECIPE, halves, put, table, table_folder};
use support::{json, refused, run, the_sentence};

const TARGET: &str = "\n[target]\nat_least = { auc = 0.1 }\nprotocol = \"p\"\nsource = \"s\"\n";

const SEQUENCES: &str = r#"
[dataset]
kind = "sequences"
[dataset.sequences]
train = ["takings.txt"]
[split]
by = "user"
[examples]
whole = true
[model]
name = "two_tower"
[training]
epochs = 2
monitor = "ndcg@5"
batch_size = 32
negatives = 16
[evaluate]
k = [5, 10]
[target]
at_least = { "recall@5" = 0.0 }
"#;

/// The recipe of [`RECIPE`] after `changes` to its text, with a target.
fn with(dir: &Path, name: &str, changes: &[(&str, &str)]) {
    let mut text = RECIPE.to_owned();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    put(dir, name, text + TARGET);
}

/// Rows that all have this label.
fn of_one_class(rows: u64, label: &str) -> String {
    let text = table(rows);
    let row = |line: &str| format!("{},{label}\n", line.rsplit_once(',').unwrap().0);
    let lines: String = text.lines().skip(1).map(row).collect();
    format!("user,item,hour,label\n{lines}")
}

#[test]
fn a_metric_that_nobody_measures_is_bad_input_and_no_missed_target() {
    let dir = table_folder(300);
    let dir = dir.path();
    let target = |figures: &str| put(dir, "q.toml", format!("{RECIPE}\n[target]\n{figures}\n"));
    for (figures, parts) in [
        ("at_least = { aucc = 0.5 }", ["q.toml", "at_least", "did you mean `auc`?"]),
        ("at_least = { \"ndcg@10\" = 0.5 }", ["q.toml", "at_least", "unknown metric `ndcg@10`"]),
        ("at_most = { \"nope.logloss\" = 1 }", ["q.toml", "at_most", "nope.logloss"]),
        ("at_least = {}", ["q.toml", "at_least", "names no metric"]),
    ] {
        target(figures);
        refused(dir, "recipe run q.toml --data . --out q", &parts);
    }
    // What is measured and missed is no bad input.
    target("at_least = { auc = 1.1 }");
    assert_eq!(run(dir, "recipe run q.toml --data .").status.code(), Some(1));
}

#[test]
fn a_test_part_that_tells_nothing_is_refused_with_the_reason() {
    let dir = table_folder(300);
    let dir = dir.path();
    let files = ("all = [\"rows.csv\"]", "train = [\"rows.csv\"]\ntest = [\"ones.csv\"]");
    put(dir, "ones.csv", of_one_class(100, "1"));
    with(dir, "one.toml", &[files]);
    let sentence = the_sentence(&run(dir, "recipe run one.toml --data . -q"), "one class");
    assert!(
        sentence.contains("`auc` cannot be measured: the test part holds rows of one class only"),
        "{sentence}"
    );
    with(dir, "none.toml", &[("[model]", "[split]\ntest = 0.0\n[model]")]);
    refused(dir, "recipe run none.toml --data . --out none", &["`auc`", "the test part holds no rows"]);
    put(dir, "rows.csv", table(1));
    with(dir, "row.toml", &[]);
    refused(dir, "recipe run row.toml --data . --out row", &["`auc`", "the test part holds no rows"]);
    // Without a target there is nothing to judge, and nothing is wrong.
    put(dir, "rows.csv", table(300));
    put(dir, "free.toml", RECIPE.replace("[model]", "[split]\ntest = 0.0\n[model]"));
    let told = run(dir, "recipe run free.toml --data .");
    assert_eq!(told.status.code(), Some(0));
    assert!(String::from_utf8(told.stderr).unwrap().contains("nothing was measured"));
}

#[test]
fn sequences_in_which_nobody_has_anything_to_find_are_refused_before_training() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    put(dir, "r.toml", SEQUENCES);
    let parts = ["recall@5", "anything left to find", "repeats"];
    for lines in ["u1 a b\nu2 c\n", "u1 a\nu2 b\nu3 c\n"] {
        put(dir, "takings.txt", lines);
        for model in ["two_tower", "item_cf"] {
            let plain =
                SEQUENCES.replace("epochs = 2\nmonitor = \"ndcg@5\"\nbatch_size = 32\nnegatives = 16\n", "");
            put(dir, "r.toml", plain.replace("two_tower", model));
            refused(dir, "recipe run r.toml --data . --out r", &["anything left to find"]);
        }
    }
    // All that users take last they have taken before.
    put(dir, "takings.txt", (0..30).map(|u| format!("u{u} a b c a b c\n")).collect::<String>());
    put(dir, "r.toml", SEQUENCES.replace("by = \"user\"", "by = \"user\"\nvalid = 0.0"));
    refused(dir, "recipe run r.toml --data . --out r", &parts);
    put(dir, "r.toml", SEQUENCES.split("[target]").next().unwrap());
    let said = ["no epoch can be judged", "anything left to find"];
    refused(dir, "recipe run r.toml --data . --out r", &said);
}

#[test]
fn validation_of_one_class_is_said_to_be_that() {
    let dir = table_folder(300);
    let dir = dir.path();
    put(dir, "zeros.csv", of_one_class(100, "0"));
    let files = ("all = [\"rows.csv\"]", "train = [\"rows.csv\"]\nvalid = [\"zeros.csv\"]");
    with(dir, "one.toml", &[files, ("epochs = 3", "epochs = 1\nmonitor = \"auc\"")]);
    json(dir, "data prepare one.toml --data . --out p");
    let parts = ["training.monitor: `auc`", "the validation part holds rows of one class only"];
    // Checkpoints every few steps would be there to go on from.
    with(
        dir,
        "one.toml",
        &[files, ("epochs = 3", "epochs = 1\nmonitor = \"auc\""), ("checkpoint_every = 5\n", "")],
    );
    refused(dir, "train one.toml --prepared p --out r", &parts);
    let said = refused(dir, "features select p", &["one class only", "choose by"]);
    assert!(!said.contains("training."), "{said}");
    with(dir, "one.toml", &[files, ("epochs = 3", "epochs = 1\nmonitor = \"auk\"")]);
    refused(dir, "train one.toml --prepared p --out r", &["training.monitor", "did you mean `auc`?"]);
    // By its loss the state can be judged, and is where nothing else was asked for.
    with(dir, "one.toml", &[files, ("epochs = 3", "epochs = 1")]);
    json(dir, "train one.toml --prepared p --out r");
}

#[test]
fn retrievers_are_validated_at_the_cut_offs_of_the_evaluation() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    put(dir, "takings.txt", halves());
    put(dir, "r.toml", SEQUENCES);
    let report = json(dir, "recipe run r.toml --data .");
    let valid = report["valid"].as_object().unwrap();
    assert!(valid.contains_key("ndcg@5") && valid.contains_key("ndcg@10"), "{valid:?}");
    assert!(!valid.contains_key("ndcg@50"), "{valid:?}");
    // The monitored cut-off is measured although the evaluation has others.
    put(dir, "r.toml", SEQUENCES.replace("ndcg@5", "ndcg@7"));
    assert!(json(dir, "recipe run r.toml --data .")["valid"]["ndcg@7"].is_number());
    put(dir, "r.toml", SEQUENCES.replace("ndcg@5", "ndgc@5"));
    refused(dir, "recipe run r.toml --data . --out r", &["training.monitor", "did you mean `ndcg@5`?"]);
}

#[test]
fn what_went_wrong_leaves_nothing_and_what_went_well_is_not_written_over() {
    let dir = table_folder(300);
    let dir = dir.path();
    with(dir, "gone.toml", &[("rows.csv", "gone.csv")]);
    refused(dir, "recipe run gone.toml --data . --out zz", &["gone.csv"]);
    with(
        dir,
        "wild.toml",
        &[("learning_rate = 0.01", "learning_rate = 1e30"), ("checkpoint_every = 5\n", "")],
    );
    refused(dir, "recipe run wild.toml --data . --out zz", &["diverged"]);
    std::fs::create_dir(dir.join("empty")).unwrap();
    refused(dir, "recipe run wild.toml --data . --out empty", &["diverged"]);

    with(dir, "r.toml", &[("epochs = 3", "epochs = 1")]);
    json(dir, "recipe run r.toml --data . --out co");
    refused(dir, "recipe run r.toml --data . --out co", &["co: holds a run already", "--resume"]);
    let record = |place: &str| -> Value {
        serde_json::from_str(&std::fs::read_to_string(dir.join(place)).unwrap()).unwrap()
    };
    let before = record("co/model/run.json");
    json(dir, "recipe run r.toml --data . --out co --resume");
    assert_eq!(record("co/model/run.json")["rows"], before["rows"]);
    assert_eq!(record("co/model/run.json")["train_seconds"], before["train_seconds"]);
}

#[test]
fn options_that_would_change_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    put(dir, "takings.txt", halves());
    let plain = SEQUENCES.replace("epochs = 2\nmonitor = \"ndcg@5\"\nbatch_size = 32\nnegatives = 16\n", "");
    put(dir, "cf.toml", plain.replace("two_tower", "item_cf"));
    json(dir, "recipe run cf.toml --data .");
    refused(dir, "recipe run cf.toml --data . --seed 5", &["--seed", "`item_cf` draws nothing"]);
    refused(dir, "recipe run cf.toml --data . --recipes nope", &["--recipes", "cf.toml"]);
    put(dir, "cf.toml", SEQUENCES.replace("two_tower", "item_cf"));
    refused(dir, "recipe run cf.toml --data .", &["cf.toml", "training.batch_size", "`item_cf`"]);
    let next = SEQUENCES.replace("\"two_tower\"", "\"sasrec\"\nloss = \"bce\"");
    for (key, parts) in [
        ("log_q_weight = 0.5", ["training.log_q_weight", "softmax"]),
        ("frequency = {}", ["training.frequency", "softmax"]),
        ("in_batch = true", ["training.in_batch", "[model]"]),
        ("loss = \"mse\"", ["training.loss", "retriever"]),
    ] {
        put(dir, "next.toml", next.replace("epochs = 2", &format!("epochs = 2\n{key}")));
        refused(dir, "recipe run next.toml --data . --out next", &parts);
    }
}

#[test]
fn models_and_their_options_that_do_not_go_together_are_refused() {
    let dir = table_folder(300);
    let dir = dir.path();
    let model = "name = \"deepfm\"\nembedding = 4\nhidden = [16]\ndropout = 0.2";
    with(dir, "lr.toml", &[(model, "name = \"lr\"\n[model.sequence]\nunit = [8]")]);
    refused(dir, "recipe run lr.toml --data .", &["`lr`", "[model.sequence]", "rankers with layers"]);
    let training = RECIPE.split("[training]").nth(1).unwrap();
    let trees = |rest: &str| with(dir, "trees.toml", &[(model, rest), (training, "\nseed = 1\n")]);
    trees("name = \"gbdt\"\nobjective = \"lambda_rank\"");
    refused(
        dir,
        "recipe run trees.toml --data . --out t",
        &["gbdt", "each request of this data has a single one"],
    );
    with(dir, "trees.toml", &[(model, "name = \"gbdt\""), (training, "\nloss = \"lambda_rank\"\n")]);
    refused(dir, "recipe run trees.toml --data . --out t", &["training.loss", "`objective` in [model]"]);
    with(
        dir,
        "every.toml",
        &[
            (model, "name = \"lr\""),
            ("epochs = 3", "updates = \"row\""),
            ("rows = { ", "rows = { every_step = true, "),
        ],
    );
    refused(dir, "recipe run every.toml --data . --out t", &["training.rows.every_step", "\"row\""]);
    with(
        dir,
        "bf16.toml",
        &[
            (model, "name = \"lr\""),
            ("epochs = 3", "updates = \"row\""),
            ("rows = { ", "rows = { dtype = \"bf16\", "),
        ],
    );
    refused(dir, "recipe run bf16.toml --data . --out t", &["training.rows.dtype", "\"f32\""]);
}

#[test]
fn features_take_no_option_in_vain() {
    let dir = table_folder(600);
    let dir = dir.path();
    json(dir, "data prepare recipe.toml --data . --out p");
    json(dir, "train recipe.toml --prepared p --out r --epochs 1");
    let importance = "features importance recipe.toml --prepared p --run r";
    let found = json(dir, &format!("{importance} --rows 50 --seeds 1"));
    assert_eq!(found["importance"]["rows"], 50);
    for (option, value) in [("--seeds", "9"), ("--rows", "4"), ("--split", "valid"), ("--task", "click")] {
        refused(dir, &format!("{importance} --kind gain {option} {value}"), &[option, "permutation"]);
    }
    refused(dir, "features select p --min-features 4", &["--min-features", "backward"]);
    refused(dir, "features select p --direction backward --max-features 4", &["--max-features", "forward"]);
    refused(dir, "features select p --least nan", &["--least", "NaN"]);
}

#[test]
fn features_of_grades_are_chosen_by_ndcg() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // A grade follows `hint` within each query.
    let mut rows = String::from("query,hint,noise,rel\n");
    for n in 0..600u32 {
        let (hint, noise) = (n.wrapping_mul(2_654_435_761) >> 30, (n.wrapping_mul(40_503) >> 8) & 3);
        writeln!(rows, "q{},h{hint},n{noise},{hint}", n / 6).unwrap();
    }
    put(dir, "rows.csv", &rows);
    let recipe = |request: &str| {
        let features = "[[feature]]\nname = \"hint\"\nside = \"item\"\nkind = \"categorical\"\n\
                        [[feature]]\nname = \"noise\"\nside = \"item\"\nkind = \"categorical\"\n";
        let text = format!(
            "[dataset]\nkind = \"table\"\n[dataset.table]\nall = [\"rows.csv\"]\n{request}[[task]]\nname = \"rel\"\n\
             column = \"rel\"\ngraded = true\n{features}[model]\nname = \"lr\"\n"
        );
        put(dir, "grades.toml", text);
    };
    recipe("request = \"query\"\n");
    json(dir, "data prepare grades.toml --data . --out p");
    let found = json(dir, "features select p");
    assert_eq!(found["metric"], "valid ndcg@10");
    assert_eq!(found["selected"]["features"][0], "hint", "{found}");
    recipe("");
    json(dir, "data prepare grades.toml --data . --out single");
    let said = refused(dir, "features select single", &["grades are compared within a request"]);
    assert!(!said.contains("training."), "{said}");
}

//! Bad input through the real binary: status 2, one sentence that says what, where and what was expected,
//! nothing half-written, and never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use serde_json::Value;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use support::data::{RECIPE, flip, halve, log_folder, put, table, table_folder};
use support::server::{Server, World};
use support::{json, refused, run, the_sentence};

const PREPARE: &str = "data prepare recipe.toml --data . --out prepared";

/// Prepares with the recipe after `changes` to its text.
fn prepare_with(dir: &Path, changes: &[(&str, &str)], parts: &[&str]) {
    let mut recipe = RECIPE.to_owned();
    for (from, to) in changes {
        assert!(recipe.contains(from), "{from}");
        recipe = recipe.replacen(from, to, 1);
    }
    put(dir, "recipe.toml", recipe);
    refused(dir, PREPARE, parts);
}

#[test]
fn a_missing_file_is_answered_with_the_nearest_name() {
    let dir = table_folder(50);
    let dir = dir.path();
    prepare_with(dir, &[("rows.csv", "rwos.csv")], &["rwos.csv", "no such file", "did you mean `rows.csv`?"]);
    refused(dir, "data inspect row.csv", &["row.csv", "did you mean `rows.csv`?"]);
    refused(
        dir,
        "data prepare ./recpie.toml --data . --out p",
        &["recpie.toml", "did you mean `recipe.toml`?"],
    );
    refused(dir, "train recpie.toml --prepared p --out r", &["recpie.toml", "did you mean `recipe.toml`?"]);
    refused(
        dir,
        "train gowalla_als --prepared p --out r",
        &["gowalla_als", "`als`", "millstream recipe run"],
    );
    refused(dir, "data prepare . --out p", &["there is no dataset.toml in this folder"]);
    refused(dir, "data synth --out w --config wrld.toml", &["wrld.toml", "no such file"]);
    refused(dir, "serve --run nowhere --port 0", &["nowhere", "no prepared directory"]);
    assert!(
        the_sentence(&run(dir, "quickstart --data nowhere --port 0 -q"), "quickstart").contains("nowhere")
    );
}

#[test]
fn a_wrong_delimiter_is_answered_with_the_right_one() {
    let dir = table_folder(50);
    let semicolons = table(50).replace(',', ";");
    let named = "all = [\"rows.csv\"]\ndelimiter = \";\"";
    prepare_with(dir.path(), &[("all = [\"rows.csv\"]", named)], &["rows.csv:1", "is the delimiter `,`?"]);
    put(dir.path(), "rows.csv", semicolons);
    prepare_with(dir.path(), &[], &["rows.csv:1", "is the delimiter `;`?"]);
}

#[test]
fn truncated_gzip_is_said_to_be_truncated() {
    let dir = tempfile::tempdir().unwrap();
    json(dir.path(), "data synth --out world --users 60 --items 200 --exposures 4000");
    halve(&dir.path().join("world/events.csv.gz"));
    let parts = ["events.csv.gz", "gzip", "truncated"];
    refused(dir.path(), "data prepare world --out prepared", &parts);
    refused(dir.path(), "data inspect world/events.csv.gz", &parts);
    flip(&dir.path().join("world/items.csv.gz"), 300);
    refused(dir.path(), "data prepare world --out prepared", &["items.csv.gz", "damaged"]);
}

#[test]
fn binary_junk_and_empty_files_are_named() {
    let dir = table_folder(50);
    let junk: Vec<u8> = (0..4000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    put(dir.path(), "rows.csv", &junk);
    prepare_with(dir.path(), &[], &["rows.csv:", "expected UTF-8 text"]);
    refused(dir.path(), "data inspect rows.csv", &["rows.csv:", "expected UTF-8 text"]);
    put(dir.path(), "rows.csv", "");
    prepare_with(dir.path(), &[], &["rows.csv", "the file is empty"]);
    put(dir.path(), "rows.csv", "user,item,hour,label\n");
    prepare_with(dir.path(), &[], &["rows.csv", "no rows"]);
    put(dir.path(), "recipe.toml", &junk);
    refused(dir.path(), PREPARE, &["recipe.toml", "not UTF-8 text"]);
}

#[test]
fn unknown_columns_and_keys_are_answered_with_the_nearest() {
    let dir = table_folder(50);
    let dir = dir.path();
    prepare_with(dir, &[("\"hour\"", "\"huor\"")], &["rows.csv", "unknown column `huor`", "`hour`"]);
    prepare_with(dir, &[("\"label\"", "\"lable\"")], &["rows.csv", "unknown column `lable`", "`label`"]);
    prepare_with(dir, &[("group", "grup")], &["recipe.toml:5", "unknown key `grup`", "`group`"]);
    prepare_with(dir, &[("batch_size", "batchsize")], &["recipe.toml:", "`batchsize`", "`batch_size`"]);
    prepare_with(dir, &[("embedding", "embeding")], &["recipe.toml", "`embeding`", "`embedding`"]);
    prepare_with(dir, &[("deepfm", "deepfn")], &["recipe.toml", "unknown model `deepfn`", "`deepfm`"]);
    prepare_with(
        dir,
        &[("\"categorical\"", "\"categorial\"")],
        &["recipe.toml", "`categorial`", "`categorical`"],
    );
    prepare_with(dir, &[("epochs = 3", "epochs = 0")], &["recipe.toml", "training.epochs", "above 0"]);
    prepare_with(dir, &[("kind = \"table\"", "kind = 3")], &["recipe.toml:2"]);
    prepare_with(dir, &[("[dataset.table]", "[dataset.table")], &["recipe.toml:3"]);
}

#[test]
fn labels_that_are_none_are_named_with_their_line() {
    let dir = table_folder(50);
    let rows = table(50);
    for (label, parts) in [
        ("NaN", ["rows.csv:31", "label column `label`", "`NaN` is no label; expected 0 or 1"]),
        ("inf", ["rows.csv:31", "label column `label`", "expected 0 or 1"]),
        ("3", ["rows.csv:31", "`3` is neither 0 nor 1", "positive"]),
        ("0.5", ["rows.csv:31", "`0.5` is neither 0 nor 1", "positive"]),
        ("", ["rows.csv:31", "label column `label`", "the label is missing"]),
    ] {
        let mut lines: Vec<String> = rows.lines().map(str::to_owned).collect();
        lines[30].pop();
        lines[30].push_str(label);
        put(dir.path(), "rows.csv", lines.join("\n"));
        refused(dir.path(), PREPARE, &parts);
    }
}

#[test]
fn duplicate_ids_are_named_with_both_lines() {
    let dir = log_folder();
    put(dir.path(), "items.csv", "item,category\ni1,a\ni2,b\ni1,c\n");
    let parts = ["items.csv:4", "item id `i1` is already at", "items.csv:2"];
    refused(dir.path(), "data prepare dataset.toml --out prepared", &parts);
}

#[test]
fn a_timestamp_in_the_wrong_unit_is_answered_with_the_right_one() {
    let dir = log_folder();
    let text = std::fs::read_to_string(dir.path().join("dataset.toml")).unwrap();
    put(dir.path(), "dataset.toml", text.replace("unit = \"s\"", "unit = \"ms\""));
    let parts = ["events.csv:2", "read as ms is 1970-01-19", "unit = \"s\" would give 2020-09-13"];
    refused(dir.path(), "data prepare dataset.toml --out prepared", &parts);
    // With the right unit all is well: the folder itself is not at fault.
    put(dir.path(), "dataset.toml", text);
    json(dir.path(), "data prepare dataset.toml --out prepared");
}

#[test]
fn a_port_in_use_is_found_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let said = format!("port {port} on 127.0.0.1 is in use");
    refused(dir.path(), &format!("serve --run nowhere --port {port}"), &[&said, "--port"]);
    refused(dir.path(), &format!("quickstart --port {port}"), &[&said, "--port"]);
}

#[test]
fn unknown_recipes_and_impossible_options_are_refused() {
    let dir = table_folder(50);
    let near = ["unknown recipe `frape_deepfm`", "did you mean `frappe_deepfm`?"];
    refused(dir.path(), "recipe run frape_deepfm --data .", &near);
    refused(dir.path(), "train frape_deepfm --prepared p --out r", &near);
    refused(dir.path(), "eval frape_deepfm --prepared p --run r", &near);
    refused(dir.path(), &format!("{PREPARE} --threads 0"), &["--threads must be above 0"]);
    refused(dir.path(), "data synth --out w --users 0", &["users", "0"]);
    refused(dir.path(), "train recipe.toml --prepared p --out r", &["p: this is no prepared directory"]);
}

/// A prepared and trained table.
fn trained() -> tempfile::TempDir {
    let dir = table_folder(600);
    json(dir.path(), PREPARE);
    json(dir.path(), "train recipe.toml --prepared prepared --out run --epochs 1");
    dir
}

const RESUME: &str = "train recipe.toml --prepared prepared --out run --resume";
const EVAL: &str = "eval recipe.toml --prepared prepared --run run";

#[test]
fn a_corrupt_checkpoint_is_refused_by_name() {
    let dir = trained();
    let whole = |name: &str| std::fs::read(dir.path().join("run").join(name)).unwrap();
    let (best, latest) = (whole("best.ckpt"), whole("latest.ckpt"));
    for at in [0, 3, 9, 40, 900, best.len() as i64 / 2, -100, -30, -1] {
        put(dir.path(), "run/best.ckpt", &best);
        put(dir.path(), "run/latest.ckpt", &latest);
        flip(&dir.path().join("run/best.ckpt"), at);
        flip(&dir.path().join("run/latest.ckpt"), at);
        refused(dir.path(), EVAL, &["best.ckpt"]);
        refused(dir.path(), RESUME, &["latest.ckpt"]);
    }
    for length in [0, 7, 100, best.len() / 2, best.len() - 1] {
        put(dir.path(), "run/best.ckpt", &best[..length]);
        put(dir.path(), "run/latest.ckpt", &latest[..length.min(latest.len() - 1)]);
        refused(dir.path(), EVAL, &["best.ckpt", "is damaged: it is cut short"]);
        refused(dir.path(), RESUME, &["latest.ckpt", "is damaged: it is cut short"]);
    }
    std::fs::remove_file(dir.path().join("run/best.ckpt")).unwrap();
    refused(dir.path(), EVAL, &["best.ckpt", "No such file"]);
}

#[test]
fn a_corrupt_prepared_directory_is_refused_by_file() {
    let dir = trained();
    let train = "train recipe.toml --prepared prepared --out other";
    for name in ["manifest.json", "encoder.bin", "catalogue.bin", "train.rank.blocks"] {
        let path = dir.path().join("prepared").join(name);
        let whole = std::fs::read(&path).unwrap();
        // The first quote of the manifest, or somewhere in the middle of the others.
        flip(&path, if name == "manifest.json" { 4 } else { whole.len() as i64 / 2 });
        let flipped = refused_but_for_a_folder(dir.path(), train, "other");
        std::fs::write(&path, &whole).unwrap();
        halve(&path);
        let halved = refused_but_for_a_folder(dir.path(), train, "other");
        std::fs::remove_file(&path).unwrap();
        let gone = refused_but_for_a_folder(dir.path(), train, "other");
        for sentence in [flipped, halved, gone] {
            assert!(sentence.contains(name) && sentence.contains("prepared"), "{sentence}");
        }
        std::fs::write(&path, &whole).unwrap();
    }
}

/// A run that has begun may have made its folder, in which there is nothing.
fn refused_but_for_a_folder(dir: &Path, words: &str, folder: &str) -> String {
    let sentence = the_sentence(&run(dir, &format!("{words} --quiet")), words);
    let folder = dir.join(folder);
    if folder.exists() {
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "`{words}` left something behind");
        std::fs::remove_dir(folder).unwrap();
    }
    sentence
}

#[test]
fn data_and_runs_of_another_recipe_are_refused() {
    let dir = trained();
    let other = RECIPE.replacen("\"hour\"", "\"item\"", 1).replacen("name = \"item\"", "name = \"hour\"", 1);
    put(dir.path(), "other.toml", other.replacen("side = \"item\"", "side = \"context\"", 1));
    let parts = ["prepared", "other.toml", "prepare it again"];
    refused(dir.path(), "train other.toml --prepared prepared --out r", &parts);
    refused(dir.path(), "eval other.toml --prepared prepared --run run", &parts);
    json(dir.path(), "data prepare other.toml --data . --out prepared2");
    refused(dir.path(), "eval other.toml --prepared prepared2 --run run", &["best.ckpt", "other features"]);
    put(dir.path(), "recipe.toml", RECIPE.replacen("embedding = 4", "embedding = 5", 1));
    refused(dir.path(), RESUME, &["latest.ckpt", "`deepfm` with other options"]);
    refused(dir.path(), "train recipe.toml --prepared prepared --out run", &["run", "--resume"]);
    put(dir.path(), "recipe.toml", RECIPE.replacen("batch_size = 32", "batch_size = 64", 1));
    refused(dir.path(), RESUME, &["training.batch_size was 32 and is 64"]);
    refused(dir.path(), "data prepare recipe.toml --data . --out run", &["run", "no prepared directory"]);
}

/// A file system of a few hundred KiB; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`, with the reason on stderr, where mounting is not permitted.
    fn mount(kib: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={kib}k");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                eprintln!("skipped: no tmpfs here: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(e) => {
                eprintln!("skipped: no tmpfs here: mount: {e}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_is_one_sentence_and_leaves_nothing_half_written() {
    let Some(disk) = SmallDisk::mount(400) else { return };
    let small = disk.0.path();
    let files = || support::listing(small).into_iter().filter(|(path, _)| !Path::new(path).is_dir()).count();
    let full = |words: &str, name: &str| {
        let sentence = the_sentence(&run(small, &format!("{words} --quiet")), words);
        assert!(sentence.contains("No space left") && sentence.contains(name), "{sentence}");
    };
    full("data synth --out world --users 300 --items 2000 --exposures 100000 --format csv", "world");
    assert_eq!(files(), 0);
    let dir = table_folder(60_000);
    json(dir.path(), PREPARE);
    let folder = dir.path().display();
    full(&format!("data prepare {folder}/recipe.toml --data {folder} --out p"), "p.tmp-");
    assert_eq!(files(), 0);
    let wide = RECIPE.replacen("[16]", "[512, 512]", 1);
    put(dir.path(), "recipe.toml", wide);
    full(&format!("train {folder}/recipe.toml --prepared {folder}/prepared --out run"), "run");
    assert_eq!(files(), 0);
}

#[test]
fn bad_requests_are_refused_and_strangers_get_the_feed_of_everybody() {
    let world = World::new();
    let server = Server::start(&world.run());
    let (user, item) = world.ids();
    let (status, answer) = server.feedback(vec![b'x'; 10_000_000]);
    assert_eq!(status, 413, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("at most 1048576 bytes"), "{answer}");

    let (status, feed) = server.get("/api/recommend/nobody-of-that-name?n=10");
    assert_eq!((status, &feed["personal"]), (200, &Value::Bool(false)), "{feed}");
    assert!(feed["reason"].as_str().unwrap().contains("`nobody-of-that-name` is not known"), "{feed}");
    assert_eq!(feed["items"].as_array().unwrap().len(), 10);

    let long = "x".repeat(257);
    let far = 4_000_000_000_000i64;
    for (body, said) in [
        ("{".to_owned(), "not JSON"),
        ("\u{0}\u{1}".to_owned(), "not JSON"),
        (String::new(), "the body is empty"),
        ("7".to_owned(), "expected an object"),
        (format!(r#"{{"user":"{user}","item":"{item}"}}"#), "`kind` is missing"),
        (format!(r#"{{"user":"{user}","item":"{item}","kind":"click","usr":1}}"#), "did you mean `user`"),
        (format!(r#"{{"user":"{user}","item":"{item}","kind":"click","time_ms":{far}}}"#), "in the future"),
        (
            format!(r#"{{"user":"{user}","item":"{item}","kind":"click","time_ms":1700000000}}"#),
            "before 1990",
        ),
        (format!(r#"{{"user":"{user}","item":"{item}","kind":"click","value":1e99}}"#), "finite number"),
        (format!(r#"{{"user":"","item":"{item}","kind":"click"}}"#), "must not be empty"),
        (format!(r#"{{"user":"{long}","item":"{item}","kind":"click"}}"#), "at most 256 bytes"),
        (format!(r#"{{"user":"{user}","item":"a\u0000b","kind":"click"}}"#), "control characters"),
        (format!(r#"{{"user":"{user}","item":"\ud800","kind":"click"}}"#), "not JSON"),
    ] {
        let (status, answer) = server.feedback(&body);
        let sentence = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && sentence.contains(said), "{body:.80}: {status} {answer}");
    }
    for path in
        ["/api/recommend/a%00b", "/api/recommend/%FF", "/api/recommend/x?n=0", "/api/recommend/x?n=9999"]
    {
        assert_eq!(server.get(path).0, 400, "{path}");
    }
    assert_eq!(server.get("/api/item/no-such-item/neighbors").0, 404);
    // Still there after all of it.
    assert_eq!(server.get("/api/health/ready").0, 200);
}

#[test]
fn a_damaged_run_and_one_that_is_served_already_are_refused() {
    let world = World::new();
    let run = world.run();
    let serve = "serve --run . --port 0";
    {
        let _server = Server::start(&run);
        let sentence = the_sentence(&support::run(&run, serve), serve);
        assert!(sentence.contains("live is in use by another process"), "{sentence}");
    }
    for (name, said) in [
        ("ranker/best.ckpt", "damaged"),
        ("retriever/best.ckpt", "damaged"),
        ("records.mill", "damaged"),
        ("prepared/catalogue.bin", "checksum"),
    ] {
        let whole = std::fs::read(run.join(name)).unwrap();
        flip(&run.join(name), whole.len() as i64 / 2);
        refused(&run, serve, &[name, said]);
        put(&run, name, &whole);
    }
    let config = std::fs::read_to_string(run.join("run.toml")).unwrap();
    put(&run, "run.toml", format!("candidats = 7\n{config}"));
    refused(&run, serve, &["run.toml:1", "unknown key `candidats`"]);
    put(&run, "run.toml", config);
    let journals = support::listing(&run.join("live"));
    for (path, _) in journals.iter().filter(|(path, _)| path.ends_with(".jnl") || path.contains("/tables/")) {
        let path = Path::new(path);
        let whole = std::fs::read(path).unwrap();
        if whole.len() > 100 {
            flip(path, whole.len() as i64 / 3);
            the_sentence(&support::run(&run, &format!("{serve} -q")), serve);
            std::fs::write(path, whole).unwrap();
        }
    }
}

#[test]
fn strange_ids_and_unknown_items_are_stored_and_counted() {
    let world = World::new();
    let server = Server::start(&world.run());
    let (_, item) = world.ids();
    let user = "Ж a/b?c&d=%41 \u{1F600} \"'<script>";
    let path = "%D0%96%20a%2Fb%3Fc%26d%3D%2541%20%F0%9F%98%80%20%22%27%3Cscript%3E";
    let event = |item: &str| serde_json::json!({ "user": user, "item": item, "kind": "click" });
    let body = serde_json::json!([event(&item), event("an item to come")]);
    let (status, answer) = server.feedback(body.to_string());
    assert_eq!(
        (status, &answer["accepted"], &answer["unknown_items"]),
        (200, &2.into(), &1.into()),
        "{answer}"
    );
    assert_eq!(server.history(path), ["an item to come", &item]);
    let feed = server.feed(path, 10);
    assert!(feed.len() == 10 && !feed.contains(&item), "{feed:?}");
    let (_, metrics) = server.get("/metrics");
    let metrics = metrics.as_str().unwrap_or_default();
    assert!(metrics.contains("millstream_feedback_unknown_items_total 1"), "{metrics}");
}

/// Copies a folder and all below it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

#[test]
fn a_server_whose_disk_is_full_says_so_keeps_serving_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount(32 << 10) else { return };
    let world = World::new();
    let (run, fill) = (disk.0.path().join("run"), disk.0.path().join("fill"));
    copy(&world.run(), &run);
    let (user, item) = world.ids();
    let server = Server::start(&run);
    let mut out = std::fs::File::create(&fill).unwrap();
    while out.write_all(&[7; 4096]).is_ok() {}
    let mut accepted = 0;
    let event =
        serde_json::json!({ "user": "full", "item": item, "kind": "click", "request": "x".repeat(200) });
    let body = serde_json::Value::from(vec![event; 100]).to_string();
    let (status, answer) = loop {
        match server.feedback(&body) {
            (200, answer) => accepted += answer["accepted"].as_u64().unwrap(),
            refusal => break refusal,
        }
        assert!(accepted < 100_000, "the disk is never full");
    };
    assert_eq!(status, 507, "{answer}");
    assert!(answer["error"].as_str().unwrap().contains("disk is full; nothing of this request was stored"));
    assert_eq!(server.feedback(&body).0, 503);
    assert_eq!(server.feed(&user, 10).len(), 10);
    server.kill();
    drop(out);
    std::fs::remove_file(&fill).unwrap();
    let server = Server::start(&run);
    let (_, history) = server.get("/api/users/full/history?n=1");
    let remembered = history["remembered"].as_u64().unwrap();
    assert!(remembered >= accepted.min(50), "{remembered} of {accepted}");
    assert_eq!(server.feedback(&body).0, 200);
}

// Counting tables over live feedback.

#[test]
fn a_wrong_refresh_of_counting_tables_is_refused_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    for (text, parts) in [
        ("every_s = 999999999", ["[recall.refresh]", "`every_s` is 999999999", "at most 604800"]),
        ("threads = 0", ["[recall.refresh]", "`threads` is 0", "between 1 and 256"]),
        ("every = 30", ["run.toml:2", "`every`", "did you mean `every_s`"]),
        ("every_s = -1", ["run.toml:2", "-1", "u64"]),
        ("events = \"many\"", ["run.toml:2", "many", "u64"]),
    ] {
        std::fs::write(dir.path().join("run.toml"), format!("[recall.refresh]\n{text}\n")).unwrap();
        refused(dir.path(), "serve --run . --port 0", &parts);
    }
}

// Models.

/// What a folder's `dataset.toml` says, with a model.
fn with_model(dir: &Path, model: &str) {
    let dataset = std::fs::read_to_string(dir.join("world/dataset.toml")).unwrap();
    put(dir, "recipe.toml", format!("{dataset}\n{model}\n"));
}

#[test]
fn retrievers_of_histories_learn_on_a_world_whose_sequences_have_several_elements() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    json(dir, "data synth --out world --users 60 --items 200 --exposures 4000");
    json(dir, "data prepare world --out prepared");
    let training = "[training]\nepochs = 1\nbatch_size = 64\nnegatives = 16";
    for name in ["mind", "comirec", "simplex", "youtube_dnn", "lightgcn", "sasrec"] {
        with_model(dir, &format!("[model]\nname = \"{name}\"\nembedding = 8\n{training}"));
        json(dir, &format!("train recipe.toml --prepared prepared --out {name}"));
    }
    let refuse = |model: &str, parts: &[&str]| {
        with_model(dir, &format!("[model]\n{model}\n{training}"));
        refused(dir, "train recipe.toml --prepared prepared --out refused", parts);
        assert!(!dir.join("refused").exists(), "{model}");
    };
    refuse(
        "name = \"mind\"\nsequence = \"clik\"",
        &["model `mind`", "unknown sequence `clik`", "did you mean `clicks`?"],
    );
    refuse(
        "name = \"comirec\"\niterations = 3",
        &["model `comirec`", "`iterations`", "form = \"attention\""],
    );
    refuse(
        "name = \"sdm\"\nintents = { clusters = 8 }",
        &["model `sdm`", "[model.intents]", "whole sequences"],
    );
    refuse("name = \"two_tower\"\ndim = 0", &["model `two_tower`", "`dim` is 0"]);
}

#[test]
fn models_that_cannot_be_say_which_and_by_what() {
    let dir = table_folder(200);
    let dir = dir.path();
    json(dir, PREPARE);
    let refuse = |model: &str, parts: &[&str]| {
        let own = "name = \"deepfm\"\nembedding = 4\nhidden = [16]\ndropout = 0.2\n";
        assert!(RECIPE.contains(own));
        let text = RECIPE.replace(own, model);
        // Trees take none of the keys for training by steps.
        let trees = text.split("[training]").next().filter(|_| model.contains("gbdt"));
        put(dir, "other.toml", trees.unwrap_or(&text));
        refused(dir, "train other.toml --prepared prepared --out refused", parts);
        assert!(!dir.join("refused").exists(), "{model}");
    };
    refuse("name = \"itemcf\"\n", &["unknown model `itemcf`", "did you mean `item_cf`?"]);
    refuse("name = \"zzz\"\n", &["rankers are lr, fm", "retrievers are two_tower", "at once are item_cf"]);
    refuse("name = \"lr\"\nzzz = 1\n", &["model `lr`", "unknown key `zzz`", "it takes no options"]);
    refuse(
        "name = \"fm\"\n[model.sequence]\nblock = \"din\"\n",
        &["model `fm`", "[model.sequence]", "deepfm"],
    );
    refuse(
        "name = \"deepfm\"\nhidden = [4000000000]\n",
        &["model `deepfm`", "`hidden` is 4000000000", "65536 at most"],
    );
    refuse("name = \"deepfm\"\nembedding = 99999999\n", &["model `deepfm`", "`embedding` is 99999999"]);
    refuse("name = \"ffm\"\nembedding = 99999999999\n", &["model `ffm`", "`embedding` is 99999999999"]);
    refuse("name = \"gbdt\"\ntrees = 99999999999\n", &["model `gbdt`", "`trees` is 99999999999"]);
    refuse("name = \"gbdt\"\ntrees = 1000000\nleaves = 65536\n", &["model `gbdt`", "would have shape"]);
    refuse(
        "name = \"dcn_v2\"\ncross_layers = 99999999999\n",
        &["model `dcn_v2`", "`cross_layers` is 99999999999"],
    );
    refuse("name = \"dcn_v2\"\nrank = 99999999999\n", &["model `dcn_v2`", "`rank` is 99999999999"]);
}

#[test]
fn a_tasks_loss_is_a_name_or_a_table() {
    let dir = table_folder(200);
    let dir = dir.path();
    json(dir, PREPARE);
    let with = |loss: &str| {
        put(dir, "other.toml", RECIPE.replace("column = \"label\"", &format!("column = \"label\"\n{loss}")))
    };
    for (out, loss) in [("a", "loss = \"focal\""), ("b", "loss = { name = \"focal\", gamma = 1.0 }")] {
        with(loss);
        json(dir, &format!("train other.toml --prepared prepared --out {out}"));
    }
    with("loss = \"focl\"");
    refused(dir, "train other.toml --prepared prepared --out c", &["task `click`: key `loss`", "focl"]);
}

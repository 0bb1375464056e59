//! Recall of items that no training row holds, through the real binary: by their texts, where counting finds none.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fmt::Write;
use support::data::put;
use support::{json, refused, run};

const RECIPE: &str = r#"
[dataset]
kind = "sequences"
[dataset.sequences]
train = ["takings.txt"]
[dataset.items]
files = ["texts.txt"]
format = "keyed"
id = "item"
columns = ["item", "words"]
[split]
by = "cold_items"
valid = 0.15
test = 0.15
[examples]
whole = true
[model]
name = "content"
texts = ["words"]
decay = 0.9
[model.tfidf]
dim = 6
[[baseline]]
name = "item_cf"
[evaluate]
k = [40]
[target]
at_least = { "recall@40" = 0.7 }
at_most = { "item_cf.recall@40" = 0.0 }
"#;

/// 120 items of six kinds with words of their kind; each user takes items of two kinds, which hold 40.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut texts, mut takings) = (String::new(), String::new());
    for item in 0..120 {
        let word = |n: usize| format!("word{}x{}", item % 6, (item / 6 * 7 + n * (n + 1) / 2) % 9);
        writeln!(texts, "i{item} {} {}, {}", word(0), word(1), word(2)).unwrap();
    }
    for user in 0..80usize {
        let item = |n: usize| ((user * 13 + n * n * 7 + n) % 20) * 6 + (user + n % 2) % 6;
        let items: Vec<String> = (0..9).map(|n| format!("i{}", item(n))).collect();
        writeln!(takings, "u{user} {}", items.join(" ")).unwrap();
    }
    put(dir.path(), "texts.txt", texts);
    put(dir.path(), "takings.txt", takings);
    put(dir.path(), "cold.toml", RECIPE);
    dir
}

#[test]
fn content_finds_what_nobody_has_taken_and_counting_finds_none_of_it() {
    let dir = folder();
    let report = json(dir.path(), "recipe run cold.toml --data .");
    assert_eq!(report["met"], true, "{report}");
    for part in ["metrics", "valid"] {
        assert!(report[part]["recall@40"].as_f64().unwrap() > 0.7, "{report}");
        assert_eq!(report[part]["item_cf.recall@40"], 0.0, "{report}");
    }
    let again = json(dir.path(), "--threads 1 recipe run cold.toml --data .");
    assert_eq!(again["metrics"], report["metrics"], "threads do not matter");
    let shown = String::from_utf8(run(dir.path(), "recipe run cold.toml --data . --quiet").stdout).unwrap();
    assert!(shown.contains("item_cf.recall@40") && shown.contains("target met"), "{shown}");
}

#[test]
fn what_is_wrong_with_the_texts_is_said() {
    let dir = folder();
    let text = RECIPE.replace("texts = [\"words\"]", "texts = [\"wrods\"]");
    put(dir.path(), "cold.toml", text);
    refused(dir.path(), "recipe run cold.toml --data .", &["`texts`", "did you mean `words`"]);
    let model = RECIPE.replace("decay = 0.9\n[model.tfidf]\ndim = 6", "folder = \"no/model\"");
    put(dir.path(), "cold.toml", model);
    refused(dir.path(), "recipe run cold.toml --data .", &["no/model", "none is downloaded"]);
    refused(dir.path(), "recipe run cold.toml --data . --seeds 2", &["--seeds", "`content`"]);
    put(
        dir.path(),
        "cold.toml",
        RECIPE.replace("name = \"content\"\ntexts = [\"words\"]\ndecay = 0.9", "name = \"sasrec\""),
    );
    refused(dir.path(), "recipe run cold.toml --data .", &["[[baseline]]", "sasrec"]);
}

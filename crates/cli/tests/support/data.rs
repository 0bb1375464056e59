//! Tiny tables, logs and recipes.

use std::fmt::Write;
use std::path::Path;
use tempfile::TempDir;

use super::Dice;

/// How the rows of [`table`] are read and learned from.
pub const RECIPE: &str = r#"[dataset]
kind = "table"
[dataset.table]
all = ["rows.csv"]
group = "user"

[[task]]
name = "click"
column = "label"

[[feature]]
name = "user"
side = "user"
kind = "categorical"

[[feature]]
name = "item"
side = "item"
kind = "categorical"

[[feature]]
name = "hour"
side = "context"
kind = "categorical"

[model]
name = "deepfm"
embedding = 4
hidden = [16]
dropout = 0.2

[training]
batch_size = 32
epochs = 3
checkpoint_every = 5
dense = { learning_rate = 0.01 }
rows = { learning_rate = 0.01 }
"#;

/// How the events of [`log`] are read.
pub const LOG: &str = r#"[dataset]
kind = "log"
[dataset.events]
files = ["events.csv"]
user = "user"
item = "item"
time = { column = "time", unit = "s" }
[dataset.items]
files = ["items.csv"]
id = "item"
"#;

/// Rows with labels that depend on user and item.
pub fn table(rows: u64) -> String {
    let mut dice = Dice(1);
    let mut text = String::from("user,item,hour,label\n");
    for _ in 0..rows {
        let (user, item, hour) = (dice.below(40), dice.below(60), dice.below(24));
        let chance = if (user * 7 + item).is_multiple_of(3) { 80 } else { 15 };
        let label = u64::from(dice.below(100) < chance);
        writeln!(text, "u{user},i{item},{hour},{label}").unwrap();
    }
    text
}

/// A folder with `rows.csv` and `recipe.toml`.
pub fn table_folder(rows: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "rows.csv", table(rows));
    put(dir.path(), "recipe.toml", RECIPE);
    dir
}

/// A folder with `events.csv`, `items.csv` and `dataset.toml`.
pub fn log_folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(2);
    let mut events = String::from("user,item,time\n");
    for n in 0..400 {
        writeln!(events, "u{},i{},{}", dice.below(20), dice.below(30), 1_600_000_000 + n * 60).unwrap();
    }
    let items: String = (0..30).map(|i| format!("i{i},c{}\n", i % 4)).collect();
    put(dir.path(), "events.csv", &events);
    put(dir.path(), "items.csv", format!("item,category\n{items}"));
    put(dir.path(), "dataset.toml", LOG);
    dir
}

/// Writes a file.
pub fn put(dir: &Path, name: &str, content: impl AsRef<[u8]>) {
    std::fs::write(dir.join(name), content).unwrap();
}

/// Changes one byte of a file; `at` counts from the end when it is negative.
pub fn flip(path: &Path, at: i64) {
    let mut bytes = std::fs::read(path).unwrap();
    let place = if at < 0 { bytes.len() as i64 + at } else { at } as usize;
    bytes[place] ^= 0x55;
    std::fs::write(path, bytes).unwrap();
}

/// Keeps the first half of a file.
pub fn halve(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

/// Lines of 40 users who take 8 of the 20 items of their half.
pub fn halves() -> String {
    let line = |user: usize| {
        let items: Vec<String> =
            (0..8).map(|n| format!("i{}", (user * 3 + n * 7) % 20 * 2 + user % 2)).collect();
        format!("u{user} {}\n", items.join(" "))
    };
    (0..40).map(line).collect()
}

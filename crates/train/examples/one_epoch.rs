//! Test AUC by epoch on a generated world of rare ids: over-fitting in the second epoch, and what helps.
//!
//! `cargo run --release -p millstream-train --example one_epoch [ROWS]`
#![allow(clippy::unwrap_used, clippy::print_stdout)] // An example prints and stops.

#[path = "../tests/support/sparse.rs"]
mod sparse;

use millstream_train::BEST;
use sparse::Sparse;

fn main() {
    let rows = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let world = Sparse::new(rows, 1);
    let dir = tempfile::tempdir().unwrap();
    let show = |name: &str, aucs: &[f64]| {
        let figures: Vec<String> = aucs.iter().map(|auc| format!("{auc:.4}")).collect();
        println!("{name:<44} {}", figures.join("  "));
    };
    println!("{rows} rows, test AUC by epoch");
    show("as it is", &world.aucs("epochs = 4\npatience = 9", dir.path(), None));
    show(
        "reset_rows_each_epoch",
        &world.aucs("epochs = 4\npatience = 9\nreset_rows_each_epoch = true", dir.path(), None),
    );
    show("early stop (patience = 1)", &world.aucs("epochs = 4\npatience = 1", dir.path(), None));
    let first = tempfile::tempdir().unwrap();
    show("one epoch", &world.aucs("epochs = 1", first.path(), None));
    let best = first.path().join(BEST);
    let more = |keys: &str| world.aucs(&format!("epochs = 2\npatience = 9\n{keys}"), dir.path(), Some(&best));
    show("  then epochs 2 and 3, all weights", &more(""));
    show("  then epochs 2 and 3, dense weights frozen", &more("freeze = [\"tower\", \"head\", \"linear\"]"));
}

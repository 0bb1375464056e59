//! The one-epoch phenomenon and its cures, on a generated world; `examples/one_epoch.rs` prints the figures.
#![allow(clippy::unwrap_used)]

#[path = "support/sparse.rs"]
mod sparse;

use millstream_train::BEST;
use sparse::Sparse;

#[test]
fn the_second_epoch_over_fits_unless_rows_begin_afresh_or_training_stops() {
    let world = Sparse::new(100_000, 1);
    let dir = tempfile::tempdir().unwrap();
    let plain = world.aucs("epochs = 2\npatience = 9", dir.path(), None);
    assert!(plain[1] < plain[0] - 0.02, "{plain:?}: the second epoch is worse");
    let fresh = world.aucs("epochs = 2\npatience = 9\nreset_rows_each_epoch = true", dir.path(), None);
    assert_eq!(fresh[0], plain[0]);
    assert!(fresh[1] > plain[0] - 0.005, "{fresh:?} against {plain:?}: fresh rows lose nothing");
    let stopped = world.aucs("epochs = 3\npatience = 1", dir.path(), None);
    assert_eq!(stopped, plain[..2], "one look at the second epoch is enough to stop");
    assert_eq!(world.auc_of(&dir.path().join(BEST)), plain[0], "the first epoch's model is kept");
}

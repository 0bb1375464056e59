//! Preparing a dataset with bars; shared by `data prepare`, `recipe run` and `quickstart`.

use millstream_data::config::DatasetConfig;
use millstream_data::prepare::{PrepareOptions, PrepareReport, Progress, prepare};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::progress::Bar;
use crate::{Failure, Global};

/// Prepares `config` below `root` into `out`.
pub fn run(
    root: &Path,
    config: &DatasetConfig,
    out: &Path,
    strict: bool,
    global: &Global,
) -> Result<PrepareReport, Failure> {
    let current: Mutex<Option<(&'static str, Bar)>> = Mutex::new(None);
    let show = |p: Progress| {
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.as_ref().is_none_or(|(stage, _)| *stage != p.stage) {
            *current = Some((p.stage, Bar::new(p.stage, p.total.unwrap_or(0), "rows", global.quiet)));
        }
        if let Some((_, bar)) = &*current {
            bar.at(p.done);
        }
    };
    let whole = Bar::new("prepare", 0, "rows", global.quiet);
    let report = prepare(root, config, out, &PrepareOptions { strict, progress: &show })?;
    drop(current);
    whole.done(format!("{} rows, {} users, {} items", report.rows_read, report.users, report.items));
    if report.bad.total() > 0 && !global.quiet {
        eprintln!("bad values, replaced by defaults (refuse them with --strict):\n{}", report.bad);
    }
    Ok(report)
}

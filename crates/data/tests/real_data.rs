//! Preparing of public data sets, where a machine has them: `MILLSTREAM_DATA`, or `../shared/data`
//! beside the workspace. Each test says why when it does nothing.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::PathBuf;

use millstream_data::{DatasetConfig, PrepareOptions, PrepareReport, Prepared, Split, Use, prepare};

fn root(set: &str) -> Option<PathBuf> {
    let root =
        std::env::var_os("MILLSTREAM_DATA").map_or_else(|| "../../../shared/data".into(), PathBuf::from);
    if root.join(set).is_dir() {
        return Some(root);
    }
    println!("skipped: {} is not there; set MILLSTREAM_DATA", root.join(set).display());
    None
}

fn run(set: &str, config: &str) -> Option<(PrepareReport, Prepared, tempfile::TempDir)> {
    let root = root(set)?;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("prepared");
    let config = DatasetConfig::parse(config, "dataset.toml").unwrap();
    let started = std::time::Instant::now();
    let report =
        prepare(&root, &config, &out, &PrepareOptions { strict: true, ..PrepareOptions::default() }).unwrap();
    println!("{set}: {:.2} s\n{report}", started.elapsed().as_secs_f64());
    let prepared = Prepared::open(&out).unwrap();
    Some((report, prepared, dir))
}

#[test]
fn frappe_has_its_published_counts() {
    let mut config = String::from(
        "[dataset]\nkind = 'table'\nfolder = 'frappe_x1'\n[dataset.table]\ngroup = 'user'\n\
         train = ['train.csv.gz']\nvalid = ['valid.csv.gz']\ntest = ['test.csv.gz']\n",
    );
    for name in
        ["user", "item", "daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"]
    {
        let side = if name == "user" { "user" } else { "item" };
        config.push_str(&format!("[[feature]]\nname = '{name}'\nside = '{side}'\nkind = 'categorical'\n"));
    }
    let Some((report, prepared, _dir)) = run("frappe_x1", &config) else { return };
    let rows = Split::ALL.map(|s| prepared.rows(s, Use::Rank));
    assert_eq!(rows, [202_027, 57_722, 28_860]);
    assert_eq!(report.parts.part(Split::Train, Use::Rank).positives, [67_604]);
}

#[test]
fn movielens_100k_has_its_published_counts() {
    let config = "
        [dataset]\nkind = 'log'\nfolder = 'ml-100k'\n[dataset.events]\nfiles = ['ml-100k.inter.gz']
        user = 'user_id'\nitem = 'item_id'\nvalue = 'rating'\ntime = { column = 'timestamp', unit = 's' }
        [dataset.users]\nfiles = ['ml-100k.user.gz']\nid = 'user_id'
        [dataset.items]\nfiles = ['ml-100k.item.gz']\nid = 'item_id'\n[[task]]\nname = 'click'\nmin_value = 4";
    let Some((_, prepared, _dir)) = run("ml-100k", config) else { return };
    assert_eq!((prepared.users.len(), prepared.items.len()), (943, 1682));
    let positives: u64 = Split::ALL.iter().map(|&s| prepared.rows(s, Use::Recall)).sum();
    assert_eq!(positives, 55_375);
    let eval = prepared.eval_users(Split::Test, None, 1).unwrap();
    println!("{} users to evaluate", eval.users.len());
    assert!(eval.users.len() > 20);
}

#[test]
fn gowalla_has_its_published_counts() {
    let config = "
        [dataset]\nkind = 'sequences'\nfolder = 'gowalla'\n[dataset.sequences]
        train = ['train.txt.gz']\ntest = ['test.txt.gz']
        [examples]\nmax_history = 5\nnegatives = 1";
    let Some((_, prepared, _dir)) = run("gowalla", config) else { return };
    assert_eq!((prepared.users.len(), prepared.items.len()), (29_858, 40_981));
    assert_eq!(prepared.interactions(Split::Train).unwrap().items.len(), 810_128);
    let eval = prepared.eval_users(Split::Test, None, 1).unwrap();
    assert_eq!(eval.users.len(), 29_858);
    assert_eq!(eval.truth.values.len(), 217_242);
}

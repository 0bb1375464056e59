//! `[[balance]]` through `prepare`: the training part changes, the others and what the world is like do not.

#![allow(clippy::unwrap_used)]

use millstream_data::config::DatasetConfig;
use millstream_data::{PrepareOptions, Prepared, Split, Use, prepare};
use std::path::Path;

const DATASET: &str = r#"
[dataset]
kind = "table"
[dataset.table]
all = ["rows.csv"]
group = "user"
[split]
by = "ratio"
valid = 0.2
test = 0.2
[[task]]
name = "click"
column = "label"
[[feature]]
name = "user"
side = "user"
kind = "categorical"
[[feature]]
name = "price"
side = "item"
kind = "numeric"
[[feature]]
name = "weight"
side = "item"
kind = "numeric"
"#;

fn rows(dir: &Path) {
    let mut text = String::from("user,price,weight,label\n");
    for i in 0..3000u32 {
        let (a, b) = (f64::from(i * 7919 % 1009), f64::from(i * 104_729 % 997));
        let label = u32::from(a > 800.0 && i % 2 == 0 || i % 97 == 0);
        text += &format!("u{},{a},{b},{label}\n", i % 50);
    }
    std::fs::write(dir.join("rows.csv"), text).unwrap();
}

fn prepared(dir: &Path, name: &str, balance: &str) -> Result<Prepared, millstream_data::Error> {
    let config = DatasetConfig::parse(&format!("{DATASET}{balance}"), "dataset.toml")?;
    let out = dir.join(name);
    prepare(dir, &config, &out, &PrepareOptions::default())?;
    Prepared::open(&out)
}

#[test]
fn only_the_training_part_is_balanced_and_the_share_kept_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    rows(dir.path());
    let plain = prepared(dir.path(), "plain", "").unwrap();
    let part = |p: &Prepared, split| (p.rows(split, Use::Rank), p.part(split, Use::Rank).positives[0]);
    let (all, positives) = part(&plain, Split::Train);
    assert_eq!(plain.negatives_kept(), None);
    let cases = [
        ("sampled", "[[balance]]\nmethod = \"negative_sampling\"\nkeep = 0.25"),
        ("smote", "[[balance]]\nmethod = \"smote\""),
        ("border", "[[balance]]\nmethod = \"borderline_smote\"\nratio = 0.5"),
        ("tomek", "[[balance]]\nmethod = \"tomek_links\""),
        ("cluster", "[[balance]]\nmethod = \"cluster_undersampling\"\nratio = 0.5"),
    ];
    for (name, balance) in cases {
        let found = prepared(dir.path(), name, balance).unwrap();
        for split in [Split::Valid, Split::Test] {
            assert_eq!(part(&found, split), part(&plain, split), "{name}");
        }
        let (rows, now) = part(&found, Split::Train);
        let negatives = (rows - now) as f64 / (all - positives) as f64;
        match name {
            "sampled" => {
                assert_eq!((now, found.negatives_kept()), (positives, Some(0.25)));
                assert!((negatives - 0.25).abs() < 0.05, "{negatives}");
            }
            "smote" => assert_eq!(2 * now, rows),
            "border" => assert_eq!(now, ((all - positives) as f64 / 2.0).round() as u64),
            "tomek" => assert!(now == positives && rows < all),
            _ => assert_eq!((now, rows), (positives, 3 * positives)),
        }
        if name != "sampled" {
            assert_eq!(found.negatives_kept(), None);
        }
        assert_ne!(found.fingerprint(), plain.fingerprint(), "{name}");
    }
}

#[test]
fn steps_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    rows(dir.path());
    let both = "[[balance]]\nmethod = \"negative_sampling\"\nkeep = 0.5\n[[balance]]\nmethod = \"smote\"";
    let found = prepared(dir.path(), "both", both).unwrap();
    let part = found.part(Split::Train, Use::Rank);
    assert_eq!((2 * part.positives[0], found.negatives_kept()), (part.candidates, Some(0.5)));
}

#[test]
fn what_cannot_be_balanced_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    rows(dir.path());
    let said = |balance: &str| prepared(dir.path(), "bad", balance).unwrap_err().to_string();
    assert!(said("[[balance]]\nmethod = \"smoke\"").contains("smote"));
    assert!(said("[[balance]]\nmethod = \"smote\"\nkeep = 0.1").contains("`keep` means nothing"));
    assert!(said("[[balance]]\nmethod = \"negative_sampling\"").contains("`keep` must be"));
    let second = "[[task]]\nname = \"other\"\ncolumn = \"label\"\n[[balance]]\nmethod = \"smote\"";
    assert!(said(second).contains("2 tasks"));
    assert!(!dir.path().join("bad").exists());
}

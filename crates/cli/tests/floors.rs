//! The floors of the house: a crate uses lower floors only, never its neighbours.
//!
//! Like every test that reads files of the workspace it takes them from where cargo runs tests, the folder of
//! their crate, not from a path fixed when it was compiled: a build cache may serve several clones.

#![allow(clippy::expect_used)] // A test that cannot go on should stop.

use std::collections::BTreeMap;
use std::path::Path;

/// Floor of every crate, as `ARCHITECTURE.md` draws it.
const FLOORS: [(&str, u32); 11] = [
    ("schema", 0),
    ("data", 1),
    ("stream", 1),
    ("store", 1),
    ("nn", 1),
    ("index", 1),
    ("models", 2),
    ("train", 3),
    ("pipeline", 3),
    ("serve", 4),
    ("cli", 5),
];

/// Every workspace crate and the workspace crates it depends on (dev-dependencies too).
fn edges() -> BTreeMap<String, Vec<String>> {
    let crates = Path::new("..");
    let mut edges = BTreeMap::new();
    for entry in std::fs::read_dir(crates).expect("crates folder is readable") {
        let folder = entry.expect("entry").path();
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest per crate");
        let manifest: toml::Table = manifest.parse().expect("manifest is TOML");
        let mut uses = Vec::new();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let table = manifest.get(section).and_then(|t| t.as_table()).cloned().unwrap_or_default();
            uses.extend(table.keys().filter_map(|k| k.strip_prefix("millstream-").map(str::to_owned)));
        }
        let name = folder.file_name().expect("name").to_string_lossy().into_owned();
        edges.insert(name, uses);
    }
    edges
}

fn floor(name: &str) -> u32 {
    FLOORS.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("crate `{name}` has no floor")).1
}

#[test]
fn every_crate_uses_lower_floors_only() {
    for (name, uses) in edges() {
        for used in uses {
            assert!(
                floor(&used) < floor(&name),
                "crate `{name}` (floor {}) must not use `{used}` (floor {})",
                floor(&name),
                floor(&used)
            );
        }
    }
}

#[test]
fn every_floor_is_built() {
    let edges = edges();
    for (name, _) in FLOORS {
        assert!(edges.contains_key(name), "crate `{name}` of the plan is missing");
    }
}

#[test]
fn the_training_loop_is_unknown_to_serving() {
    for (name, uses) in edges() {
        if name == "pipeline" || name == "serve" {
            assert!(!uses.iter().any(|u| u == "train" || u == "data"), "`{name}` must not know training");
        }
    }
}

//! Indexes on disk: what comes back, and what is said of damage.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millstream_index::{Flat, Hnsw, HnswConfig, Index, IndexMut, Metric};
use std::fs;
use std::path::Path;

fn vectors(rows: usize) -> Vec<f32> {
    (0..rows * 8).map(|at| (at as f32 * 0.37).sin() * (1.0 + at as f32 * 0.001)).collect()
}

fn graph(rows: usize) -> Hnsw {
    let items: Vec<u32> = (0..rows as u32).collect();
    let config = HnswConfig { m: 4, ef_construction: 20, ef_search: 12, seed: 5, ..HnswConfig::default() };
    Hnsw::build(Metric::InnerProduct, config, 8, &items, &vectors(rows)).unwrap()
}

#[test]
fn a_reopened_graph_answers_and_changes_like_the_saved_one() {
    let dir = tempfile::tempdir().unwrap();
    let [path, path2] = ["index.mill", "other.mill"].map(|name| dir.path().join(name));
    let first = graph(600);
    (0..100).for_each(|item| assert!(first.remove(item * 5)));
    first.save(&path).unwrap();
    let again = Hnsw::open(&path).unwrap();
    for round in 0..2 {
        assert_eq!(first.len(), again.len());
        let [a, b] = [&first, &again].map(|i| i.search_batch(&vectors(50), 7, &|_, _| true));
        assert_eq!(a.unwrap(), b.unwrap(), "{round}");
        for (item, vector) in vectors(90).chunks(8).enumerate() {
            first.upsert(item as u32 + 500, vector).unwrap();
            again.upsert(item as u32 + 500, vector).unwrap();
        }
    }
    first.save(&path).unwrap();
    again.save(&path2).unwrap();
    assert!(fs::read(&path).unwrap() == fs::read(&path2).unwrap());
}

#[test]
fn a_reopened_exact_index_answers_alike() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flat.mill");
    let items: Vec<u32> = (0..300).map(|row| row * 7).collect();
    let index = Flat::build(8, Metric::Cosine, &items, &vectors(300)).unwrap();
    index.save(&path).unwrap();
    let again = Flat::open(&path).unwrap();
    let [a, b] = [&index, &again].map(|i| i.search_batch(&vectors(50), 9, &|_, _| true).unwrap());
    assert_eq!(a, b);
    assert_eq!(again.metric(), Metric::Cosine);
}

/// Every truncation, every flipped byte and one byte more must be an error that names the file.
fn damage(path: &Path, open: &dyn Fn() -> Result<(), millstream_index::Error>) {
    open().unwrap();
    let whole = fs::read(path).unwrap();
    let refused = |bytes: &[u8], what: String| {
        fs::write(path, bytes).unwrap();
        let said = open().expect_err(&what).to_string();
        assert!(said.contains("small.mill cannot be used") && !said.contains('\n'), "{said}");
    };
    (0..whole.len()).for_each(|len| refused(&whole[..len], format!("cut to {len}")));
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x24;
        refused(&bytes, format!("byte {at} flipped"));
    }
    refused(&[whole.clone(), vec![0]].concat(), "one byte more".into());
    // Damage that the checksum agrees with must not get through to a search either.
    for at in 28..whole.len() {
        for value in [1, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let sum = xxhash_rust::xxh3::xxh3_64(&bytes[28..]).to_le_bytes();
            bytes[20..28].copy_from_slice(&sum);
            fs::write(path, bytes).unwrap();
            let _ = open();
        }
    }
}

/// Files of formats 1 and 2, written by the program before the next format came:
///
/// ```text
/// let items: Vec<u32> = (0..24).map(|i| i * 3 + 1).collect();
/// let vectors: Vec<f32> = (0..96).map(|at| (at as f32 * 0.37).sin() * (1.0 + at as f32 * 0.01)).collect();
/// let config = HnswConfig { m: 4, ef_construction: 16, ef_search: 12, seed: 5, ..HnswConfig::default() };
/// let index = Hnsw::build(Metric::InnerProduct, config, 4, &items, &vectors).unwrap();
/// for item in [4, 22, 40] { assert!(index.remove(item)); }
/// index.upsert(100, &[0.5, -0.25, 0.125, 1.0]).unwrap();
/// index.save("hnsw_v2.mill").unwrap();
/// Flat::build(4, Metric::Cosine, &items, &vectors).unwrap().save("flat_v1.mill").unwrap();
/// ```
#[test]
fn files_of_past_formats_still_open() {
    let vectors: Vec<f32> = (0..96).map(|at| (at as f32 * 0.37).sin() * (1.0 + at as f32 * 0.01)).collect();
    let items: Vec<u32> = (0..24).map(|i| i * 3 + 1).collect();
    let folder = Path::new("tests/data");
    let twin = Flat::build(4, Metric::InnerProduct, &items, &vectors).unwrap();
    for item in [4, 22, 40] {
        assert!(twin.remove(item));
    }
    twin.upsert(100, &[0.5, -0.25, 0.125, 1.0]).unwrap();
    type Open = fn(&Path) -> Result<Hnsw, millstream_index::Error>;
    let open: [Open; 2] = [|p| Hnsw::open(p), |p| Hnsw::open_mapped(p)];
    for (open, name) in open.into_iter().flat_map(|open| [(open, "hnsw_v1.mill"), (open, "hnsw_v2.mill")]) {
        let graph = open(&folder.join(name)).unwrap();
        assert_eq!((graph.len(), graph.config().m, graph.config().seed), (22, 4, 5));
        for item in items.iter().chain([&100]) {
            assert_eq!(graph.vector(*item), twin.vector(*item));
        }
        // The smallest effort that walks: 22 items are more than twice 5.
        let mut graph = graph;
        graph.set_ef_search(5).unwrap();
        let mut found = 0;
        for query in vectors.chunks(4) {
            let hits = graph.search(query, 5, &|_| true).unwrap();
            let truth = twin.search(query, 5, &|_| true).unwrap();
            found += truth.iter().filter(|t| hits.iter().any(|hit| hit.item == t.item)).count();
        }
        assert!(found >= 108, "{found} of 120");
        graph.upsert(200, &[0.1, 0.2, 0.3, 0.4]).unwrap();
        assert!(graph.vector(200).is_some() && graph.remove(100) && graph.len() == 22);
    }
    let flat = Flat::open(folder.join("flat_v1.mill")).unwrap();
    assert_eq!((flat.len(), flat.metric(), flat.dim()), (24, Metric::Cosine, 4));
}

#[test]
fn damaged_files_are_refused_and_never_searched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("small.mill");
    let index = graph(8);
    index.remove(3);
    index.save(&path).unwrap();
    damage(&path, &|| {
        let index = Hnsw::open(&path)?;
        let query = vec![0.5; index.dim()];
        index.search(&query, 3, &|_| true)?;
        index.upsert(3, &query)?;
        index.upsert(4, &query)?;
        index.remove(5);
        Ok(())
    });
    Flat::build(2, Metric::InnerProduct, &[3, 1], &[1.0, 2.0, 3.0, 4.0]).unwrap().save(&path).unwrap();
    damage(&path, &|| {
        let index = Flat::open(&path)?;
        index.search(&vec![0.5; index.dim()], 3, &|_| true).map(drop)
    });
    fs::remove_file(&path).unwrap();
    assert!(Flat::open(&path).unwrap_err().to_string().starts_with("cannot open "));
    assert!(graph(3).save(dir.path().join("no/such/folder")).is_err());
}

#[test]
fn a_fingerprint_is_of_all_that_a_graph_is_built_from_and_of_nothing_else() {
    let (items, vectors) = ((0..50).collect::<Vec<u32>>(), vectors(50));
    let print = |config: HnswConfig| config.fingerprint(Metric::InnerProduct, 8, &items, &vectors);
    let plain = HnswConfig::default();
    let first = print(plain);
    assert_eq!(first, print(HnswConfig { ef_search: 7, ..plain }));
    let mut others = vec![
        print(HnswConfig { m: 8, ..plain }),
        print(HnswConfig { ef_construction: 8, ..plain }),
        print(HnswConfig { seed: 8, ..plain }),
        print(HnswConfig { storage: millstream_index::Storage::Bf16, ..plain }),
        print(HnswConfig { coarse: false, ..plain }),
        plain.fingerprint(Metric::Cosine, 8, &items, &vectors),
        plain.fingerprint(Metric::InnerProduct, 4, &items, &vectors),
        plain.fingerprint(Metric::InnerProduct, 8, &items[1..], &vectors),
    ];
    let mut changed = vectors.clone();
    changed[399] += 1e-4;
    others.push(plain.fingerprint(Metric::InnerProduct, 8, &items, &changed));
    others.push(first);
    others.sort_unstable();
    others.dedup();
    assert_eq!(others.len(), 10);
}

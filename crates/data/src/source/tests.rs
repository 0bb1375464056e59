use std::path::Path;

use millstream_schema::{Columns, Fitter, Schema};

use super::*;
use crate::blocks::{BlockWriter, EncodedBlock};

/// Requests 0.. of 1 to 4 candidates each, whose item is unique.
fn block(from: u32, requests: u32) -> Examples {
    let mut x = Examples { tasks: 1, ..Examples::default() };
    for r in 0..requests {
        x.request_user.push(from + r);
        x.request_time_ms.push(0);
        x.history.push([]);
        for c in 0..=(from + r) % 4 {
            x.candidate_request.push(r);
            x.candidate_item.push((from + r) * 10 + c);
            x.labels.push((c % 2) as f32);
        }
    }
    x
}

const BLOCKS: u32 = 40;
const PER_BLOCK: u32 = 30;

fn write(path: &Path) {
    let mut writer = BlockWriter::create(path).unwrap();
    (0..BLOCKS).for_each(|b| writer.push(&EncodedBlock::new(&block(b * PER_BLOCK, PER_BLOCK))).unwrap());
    writer.finish().unwrap();
}

fn assembler() -> Arc<Assembler> {
    let encoder = Fitter::new(&Schema::default()).finish().unwrap();
    Arc::new(Assembler::new(Arc::new(encoder), Columns::default(), Columns::default()).unwrap())
}

fn batches(path: &Path, batch_size: usize, shuffle: Option<u64>, skip_batches: u64) -> Vec<Batch> {
    let options = SourceOptions { batch_size, shuffle, skip_batches };
    let mut source = Source::start(BlockReader::open(path).unwrap(), assembler(), options).unwrap();
    std::iter::from_fn(|| source.next_batch().unwrap()).collect()
}

fn items(batches: &[Batch]) -> Vec<u32> {
    batches.iter().flat_map(|b| b.item.clone()).collect()
}

#[test]
fn without_a_seed_the_rows_come_in_the_order_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.blocks");
    write(&path);
    let expected: Vec<u32> =
        (0..BLOCKS).flat_map(|b| block(b * PER_BLOCK, PER_BLOCK).candidate_item).collect();
    for size in [1, 7, 64, 100_000] {
        assert_eq!(items(&batches(&path, size, None, 0)), expected);
    }
}

#[test]
fn a_seed_shuffles_all_rows_the_same_way_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.blocks");
    write(&path);
    let a = items(&batches(&path, 50, Some(3), 0));
    assert_eq!(a, items(&batches(&path, 50, Some(3), 0)));
    assert_ne!(a, items(&batches(&path, 50, Some(4), 0)));
    let plain = items(&batches(&path, 50, None, 0));
    assert_ne!(a, plain);
    let sorted = |mut v: Vec<u32>| {
        v.sort_unstable();
        v
    };
    assert_eq!(sorted(a), sorted(plain));
}

#[test]
fn batches_hold_whole_requests_and_are_full() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.blocks");
    write(&path);
    for shuffle in [None, Some(1)] {
        let all = batches(&path, 50, shuffle, 0);
        for (at, batch) in all.iter().enumerate() {
            assert!(batch.candidates() <= 50);
            // A request has at most four candidates.
            assert!(batch.candidates() > 46 || at + 1 == all.len(), "{}", batch.candidates());
            let mut sizes = vec![0; batch.requests];
            batch.candidate_request.iter().for_each(|&r| sizes[r as usize] += 1);
            for (at, &r) in batch.candidate_request.iter().enumerate() {
                assert_eq!(sizes[r as usize], batch.item[at] / 10 % 4 + 1);
            }
        }
    }
    assert!(batches(&path, 2, None, 0).iter().any(|b| b.candidates() == 4 && b.requests == 1));
}

#[test]
fn skipping_gives_exactly_what_would_have_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.blocks");
    write(&path);
    for shuffle in [None, Some(9)] {
        let all = batches(&path, 33, shuffle, 0);
        for skip in [0, 1, 5, all.len() - 1, all.len(), all.len() + 3] {
            let rest = batches(&path, 33, shuffle, skip as u64);
            assert_eq!(rest, all[skip.min(all.len())..], "skip {skip}");
        }
    }
}

#[test]
fn a_damaged_block_is_an_error_and_then_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.blocks");
    write(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let options = SourceOptions { batch_size: 10, shuffle: None, skip_batches: 0 };
    let mut source = Source::start(BlockReader::open(&path).unwrap(), assembler(), options).unwrap();
    let error = loop {
        match source.next_batch() {
            Ok(batch) => assert!(batch.is_some(), "the end came before the error"),
            Err(e) => break e.to_string(),
        }
    };
    assert!(error.contains("a.blocks") && error.contains("checksum"), "{error}");
    assert!(source.next_batch().unwrap().is_none());
}

#[test]
fn a_dropped_source_ends_its_thread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.blocks");
    write(&path);
    let options = SourceOptions { batch_size: 10, shuffle: Some(1), skip_batches: 0 };
    let mut source = Source::start(BlockReader::open(&path).unwrap(), assembler(), options).unwrap();
    source.next_batch().unwrap();
    drop(source);
    let none = SourceOptions { batch_size: 0, ..options };
    assert!(Source::start(BlockReader::open(&path).unwrap(), assembler(), none).is_err());
}

//! Seconds that counting takes on lists of items per user (`user item item …` per line), or on a synthetic log:
//!
//! ```text
//! cargo run --release -p millstream-models --example cf_speed -- FILE rounds=5 neighbours=20 damping='"none"' …
//! ```
//! FILE may be `u32:PATH`, little-endian numbers: users U, items I, then U + 1 offsets, then items. Further keys are those of
//! `ItemCfConfig`. Prints one line of JSON: the seconds of each round, their median and the CPU seconds of the quickest.

use std::time::Instant;

use millstream_models::recall::item_cf::ItemCfConfig;
use millstream_models::recall::positives::Positives;

type Failure = Box<dyn std::error::Error>;

struct Log {
    items: usize,
    offsets: Vec<u64>,
    item: Vec<u32>,
}

fn read_lists(path: &str) -> Result<Log, Failure> {
    let (mut offsets, mut item) = (vec![0u64], Vec::new());
    for line in std::fs::read_to_string(path)?.lines() {
        for number in line.split_whitespace().skip(1) {
            item.push(number.parse::<u32>()?);
        }
        offsets.push(item.len() as u64);
    }
    let items = item.iter().max().map_or(0, |&m| m as usize + 1);
    Ok(Log { items, offsets, item })
}

fn read_numbers(path: &str) -> Result<Log, Failure> {
    let bytes = std::fs::read(path)?;
    let numbers: Vec<u32> = bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
    let [users, items, rest @ ..] = numbers.as_slice() else { return Err("the file is too short".into()) };
    let (ends, item) = rest.split_at_checked(*users as usize + 1).ok_or("the file is too short")?;
    let offsets = ends.iter().map(|&e| u64::from(e)).collect();
    Ok(Log { items: *items as usize, offsets, item: item.to_vec() })
}

/// User and system seconds of this process, to a hundredth.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let ticks = fields.next()?.parse::<f64>().ok()? + fields.next()?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, options @ ..] = args.as_slice() else {
        return Err("usage: cf_speed FILE [key=value …]".into());
    };
    let mut options: toml::Table = options.join("\n").parse()?;
    let rounds = options.remove("rounds").and_then(|r| r.as_integer()).unwrap_or(5).max(1);
    let cfg: ItemCfConfig = options.try_into()?;
    let log = match path.strip_prefix("u32:") {
        Some(path) => read_numbers(path)?,
        None => read_lists(path)?,
    };
    let positives = Positives { items: log.items, offsets: &log.offsets, item: &log.item, time_ms: &[] };
    let (mut seconds, mut cpu, mut pairs) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let (start, before) = (Instant::now(), cpu_seconds());
        pairs = cfg.build(&positives)?.pairs();
        seconds.push(start.elapsed().as_secs_f64());
        cpu.extend(cpu_seconds().zip(before).map(|(a, b)| a - b));
    }
    seconds.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    println!(
        "{{\"events\":{},\"pairs\":{pairs},\"seconds\":{:.4},\"best\":{:.4},\"cpu_s\":{:.2}}}",
        log.item.len(),
        seconds[seconds.len() / 2],
        seconds[0],
        cpu.first().copied().unwrap_or(f64::NAN)
    );
    Ok(())
}

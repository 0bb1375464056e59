//! Figures for `bench/README.md`: `cargo test --release -p millstream-data --lib -- --ignored speed --nocapture`.

use super::*;

fn measure(what: &str, path: &Path, megabytes: f64) {
    let start = std::time::Instant::now();
    let mut reader = open(path, &LogFormat::default()).unwrap();
    let mut frame = reader.frame();
    let mut rows = 0;
    loop {
        frame.clear();
        match reader.read(&mut frame, 8192).unwrap() {
            0 => break,
            n => rows += n,
        }
    }
    let secs = start.elapsed().as_secs_f64();
    println!("{what}: {:.0} MB/s, {:.2} M rows/s", megabytes / secs, rows as f64 / secs / 1e6);
}

#[test]
#[ignore = "prints figures, decides nothing"]
fn speed_of_reading() {
    let folder = Folder::new("speed");
    let row = |i: u64, comma: &str, mark: &str| {
        let h = i.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let cells =
            [h >> 44, (h >> 20) & 0xFFFF, h & 1, 1_700_000_000 + i].map(|x| x.to_string()).join(comma);
        format!("{cells}{comma}{mark}category_{}{mark}{comma}{}.{}\n", h % 97, h % 500, h % 89)
    };
    let text = |comma: &str, mark: &str| {
        let head = ["user", "item", "label", "time", "category", "price"].join(comma);
        format!("{head}\n{}", (0..2_000_000).map(|i| row(i, comma, mark)).collect::<String>())
    };
    let plain = text(",", "");
    let megabytes = plain.len() as f64 / 1e6;
    measure("csv", &folder.file("a.csv", &plain), megabytes);
    measure("csv.gz", &folder.file("a.csv.gz", gzip(plain.as_bytes())), megabytes);
    measure("csv.zst", &folder.file("a.csv.zst", zstd::encode_all(plain.as_bytes(), 1).unwrap()), megabytes);
    let quoted = text(",", "\"");
    measure("csv, one quoted cell a row", &folder.file("q.csv", &quoted), quoted.len() as f64 / 1e6);
    measure("tsv", &folder.file("a.tsv", text("\t", "")), megabytes);
    let colons = text("::", "");
    measure("`::` text", &folder.file("a.dat", &colons), colons.len() as f64 / 1e6);
    let json: String = (0..500_000u64)
        .map(|i| {
            format!(
                "{{\"user\":\"u{}\",\"item\":{},\"ctx\":{{\"hour\":{}}},\"x\":0.{i}}}\n",
                i % 999,
                i % 777,
                i % 24
            )
        })
        .collect();
    measure("jsonl", &folder.file("a.jsonl", &json), json.len() as f64 / 1e6);
}

//! How many durable events a second: `cargo run --release -p millstream-stream --example append -- DIR THREADS SECONDS`.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream_schema::{Event, EventKind};
use millstream_stream::{EventLog, Limits, Profiles, Stream};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("which directory?")?;
    let threads: usize = args.next().map_or(Ok(16), |t| t.parse())?;
    let seconds: f64 = args.next().map_or(Ok(3.0), |t| t.parse())?;
    let stream = Stream::open(Path::new(&dir))?;
    let groups = std::sync::Arc::new(AtomicU64::new(0));
    let counter = groups.clone();
    stream.ledger.observe(move |_, _| {
        counter.fetch_add(1, Ordering::Relaxed);
    });
    let (first, started) = (stream.ledger.end(), Instant::now());
    let until = started + Duration::from_secs_f64(seconds);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let stream = &stream;
            scope.spawn(move || append_until(stream, thread, until));
        }
    });
    let events = stream.ledger.end() - first;
    let rate = events as f64 / started.elapsed().as_secs_f64();
    eprintln!("{threads} threads: {rate:.0} events/s, {} fsyncs", groups.load(Ordering::Relaxed));
    let started = Instant::now();
    let profiles = Profiles::rebuild(&stream, Limits::default(), &mut |_, _| ())?;
    let rate = stream.ledger.end() as f64 / started.elapsed().as_secs_f64();
    eprintln!("rebuilt {} profiles at {rate:.0} events/s", profiles.len());
    Ok(())
}

fn append_until(stream: &Stream, thread: usize, until: Instant) {
    for i in 0u64.. {
        let event = Event {
            user: format!("u{}", (i * 31 + thread as u64) % 1000),
            item: format!("i{}", (i * 97) % 20_000),
            kind: EventKind::Click,
            time_ms: 1_700_000_000_000 + i as i64,
            value: 1.0,
            request: None,
            position: None,
        };
        if let Err(error) = stream.ledger.append(&[event]) {
            eprintln!("{error}");
            return;
        }
        if Instant::now() >= until {
            return;
        }
    }
}

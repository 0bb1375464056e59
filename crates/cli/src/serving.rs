//! Serving a chain: the live stream, the listener, and a look at one feed.

use clap::Args;
use millstream_schema::{Clock, Event, EventKind};
use millstream_serve::{Parts, ServeConfig};
use millstream_stream::{EventLog, Limits, Profiles, Stream};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crate::chain::{Chain, RunDir};
use crate::engine::ChainEngine;
use crate::progress::Bar;
use crate::{Failure, Global, Verdict, output, refresh};

/// Where to listen.
#[derive(Args, Clone)]
pub struct Listen {
    /// Address to listen on; another than a loopback one needs an API key.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value = "8080")]
    port: u16,
    /// File whose first line is the API key that callers must send as `Authorization: Bearer KEY`.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<std::path::PathBuf>,
}

impl Listen {
    /// The server's settings.
    pub fn config(&self, clock: Arc<dyn Clock>) -> Result<ServeConfig, Failure> {
        let api_key = match &self.api_key_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
                Some(text.lines().next().unwrap_or("").trim().to_owned())
            }
        };
        Ok(ServeConfig { host: self.host.clone(), port: self.port, api_key, clock, ..ServeConfig::default() })
    }

    /// Finds out early that the port is taken.
    pub fn check(&self) -> Result<(), Failure> {
        match TcpListener::bind((self.host.as_str(), self.port)) {
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
                Err(format!("port {} on {} is in use; choose another with --port", self.port, self.host)
                    .into())
            }
            _ => Ok(()),
        }
    }
}

/// Actions written to the ledger at once when a log is taken over.
const CHUNK: usize = 20_000;

/// Opens the live stream of a run and makes it ready to serve. The first time, the log's users, items and
/// actions are taken over, so that histories go on where the log ends.
pub fn parts(chain: Chain, dir: &RunDir, clock: Arc<dyn Clock>, global: &Global) -> Result<Parts, Failure> {
    let fresh = !dir.live().exists();
    if fresh {
        take_over(&chain, dir, global)?;
    }
    let log_end = refresh::log_end(&dir.live(), &chain.prepared)?;
    let stream = Stream::open(&dir.live())?;
    let bar = Bar::new("histories", stream.ledger.end(), "events", global.quiet);
    // As many of each kind as training may have seen of them.
    let limits = Limits::default();
    let limits = Limits { history: limits.history.max(chain.prepared.max_history()), ..limits };
    let profiles = Arc::new(Profiles::rebuild(&stream, limits, &mut |done, _| bar.at(done))?);
    bar.done(format!("{} users", profiles.len()));
    let mut engine = ChainEngine::new(chain, clock);
    if !fresh {
        engine.catch_up(&stream)?;
    }
    engine.follow(&stream, log_end)?;
    engine.keep_ahead(&stream, &profiles)?;
    engine.write_passed(dir.passed_over());
    Ok(Parts { engine: Arc::new(engine), stream, profiles })
}

/// Fills the live stream beside its place and puts it there when it is whole: a crash in the midst leaves
/// a draft, which the next start throws away, and never half a log.
fn take_over(chain: &Chain, dir: &RunDir, global: &Global) -> Result<(), Failure> {
    let (live, draft) = (dir.live(), dir.0.join("live.new"));
    let io = |e: std::io::Error| format!("{}: {e}", draft.display());
    if draft.exists() {
        // Opened first: where another server is filling it, this fails.
        drop(Stream::open(&draft)?);
        std::fs::remove_dir_all(&draft).map_err(io)?;
    }
    let stream = Stream::open(&draft)?;
    copy_log(chain, &stream, global)?;
    refresh::note_log_end(&draft, stream.ledger.end())?;
    drop(stream);
    std::fs::rename(&draft, &live).map_err(io)?;
    Ok(std::fs::File::open(&dir.0).and_then(|d| d.sync_all()).map_err(io)?)
}

fn copy_log(chain: &Chain, stream: &Stream, global: &Global) -> Result<(), Failure> {
    let prepared = &chain.prepared;
    stream.records.items().put_many(&chain.records.items)?;
    stream.records.users().put_many(&chain.records.users)?;
    let x = prepared.all_actions()?;
    let mut events = Vec::with_capacity(x.items.len());
    for user in 0..x.users() {
        for at in x.offsets[user] as usize..x.offsets[user + 1] as usize {
            events.push(Event {
                user: prepared.users.name(user as u32).to_owned(),
                item: prepared.items.name(x.items[at]).to_owned(),
                kind: kind_of(x.kind[at], prepared.event_kinds()),
                time_ms: x.time_ms[at],
                value: x.value[at],
                request: None,
                position: None,
            });
        }
    }
    events.sort_by_key(|e| e.time_ms);
    let bar = Bar::new("take over the log", events.len() as u64, "events", global.quiet);
    for (n, chunk) in events.chunks(CHUNK).enumerate() {
        stream.ledger.append(chunk)?;
        bar.at((n * CHUNK + chunk.len()) as u64);
    }
    bar.done(format!(
        "{} events, {} items, {} users",
        events.len(),
        prepared.items.len(),
        prepared.users.len()
    ));
    Ok(())
}

/// The kind with this code: one of those met, or a built-in one where an earlier version did not write them down.
fn kind_of(code: u16, met: &[EventKind]) -> EventKind {
    use EventKind::{Cart, Click, Like, Order, Play};
    let built_in = [Click, Cart, Order, Like, Play];
    met.iter().chain(&built_in).find(|kind| kind.code() == code).cloned().unwrap_or(Click)
}

/// Serves until the process is told to stop.
pub fn until_stopped(config: ServeConfig, parts: Parts) -> Result<Verdict, Failure> {
    millstream_serve::run(config, parts, |addr| {
        output::line(format!("serving on http://{addr}  (Ctrl-C stops it)"));
    })?;
    Ok(Verdict::Done)
}

/// A user with a history to look at: one of the first with the most actions.
pub fn busiest(parts: &Parts) -> Result<String, Failure> {
    let users = parts.stream.records.users().list(None, "", 200)?;
    let actions = |id: &str| parts.profiles.get(id).map_or(0, |p| p.history.len());
    let busiest = users.into_iter().max_by_key(|u| actions(&u.id));
    Ok(busiest.map(|u| u.id).ok_or("there is no user")?)
}

/// One feed with its trace over HTTP.
pub fn fetch(addr: SocketAddr, user: &str) -> Result<Value, Failure> {
    let agent =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(30))).build().new_agent();
    let url = format!("http://{addr}/api/recommend/{}?n=10&trace=true", path_part(user));
    let text = agent.get(&url).call()?.body_mut().read_to_string()?;
    Ok(serde_json::from_str(&text)?)
}

/// An id as one part of a path: all but letters, digits and `-._~` as `%` and the byte (RFC 3986).
fn path_part(id: &str) -> String {
    let mut out = String::with_capacity(id.len());
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Prints a feed with the way each item came.
pub fn print_feed(feed: &Value) {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    output::line(format!("\nfeed for {} (request {})", text(&feed["user"]), text(&feed["request_id"])));
    let rows: Vec<Vec<String>> = list(&feed["items"])
        .iter()
        .map(|item| {
            let trace = &item["trace"];
            let channels: Vec<String> = list(&trace["channels"])
                .iter()
                .map(|c| format!("{} #{}", text(&c["channel"]), c["position"].as_u64().unwrap_or(0) + 1))
                .collect();
            let scores: Vec<String> = list(&trace["scores"])
                .iter()
                .map(|s| format!("{} {:.3}", text(&s["stage"]), s["score"].as_f64().unwrap_or(0.0)))
                .collect();
            let rules: Vec<String> = list(&trace["rules"])
                .iter()
                .map(|r| format!("{} {}", text(&r["rule"]), text(&r["note"])))
                .collect();
            let title: String = text(&item["title"]).chars().take(36).collect();
            vec![text(&item["id"]), title, channels.join(", "), scores.join(", "), rules.join(", ")]
        })
        .collect();
    output::line(output::table(&["item", "title", "channels", "scores", "rules"], &rows).trim_end());
    let stages: Vec<Vec<String>> = list(&feed["stages"])
        .iter()
        .map(|s| {
            let number = |key: &str| s[key].as_u64().unwrap_or(0).to_string();
            vec![text(&s["stage"]), number("entered"), number("left"), number("micros")]
        })
        .collect();
    output::line(format!("\n{}", output::table(&["stage", "in", "out", "µs"], &stages).trim_end()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_part_of_a_path() {
        assert_eq!(path_part("u-1_a.B~9"), "u-1_a.B~9");
        assert_eq!(path_part("a b/c%d?é"), "a%20b%2Fc%25d%3F%C3%A9");
    }
}

//! Another program's candidates, over HTTP with a deadline and a circuit breaker.
//!
//! `POST url` with `{"request", "user", "k", "time_ms", "segment", "context": {..}, "history": [{"item", "time_ms",
//! "kind", "value"}]}`, the history's latest actions, oldest first; the answer is `{"items": [{"id", "score"}]}`, best first. Ids that the
//! catalogue does not hold, items that may not be shown, repetitions, scores that are no numbers and whatever goes
//! beyond `k` are left out; an answer of more than `max_kib` is an error, whatever length it claims. Plain
//! HTTP only: in front of another machine put a proxy that speaks TLS.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_schema::EventKind;
use rapidhash::RapidHashSet;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::breaker::{Breaker, Limits};
use crate::channel::{Call, Candidate, Channel, ChannelDef, Setup};

/// Entry of the list of channels.
pub const DEF: ChannelDef = ChannelDef {
    name: "remote",
    personal: false,
    quota: 100,
    weight: 1.0,
    tail: false,
    by_default: false,
    lacks: |_| None,
    build,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// Where: `http://host:port/path`.
    url: String,
    /// For connecting, asking and reading together; keep it below the channel's `deadline_ms`.
    timeout_ms: u64,
    /// Size of an answer at most.
    max_kib: u64,
    /// Latest actions that are sent.
    max_history: usize,
    /// So many failures in a row open the breaker: nothing is asked for a while.
    failures: u32,
    /// How long the breaker stays open before one request tries again.
    retry_after_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: String::new(),
            timeout_ms: 80,
            max_kib: 256,
            max_history: 50,
            failures: 5,
            retry_after_ms: 1000,
        }
    }
}

struct Remote {
    name: String,
    agent: ureq::Agent,
    breaker: Breaker,
    options: Options,
}

#[derive(Serialize)]
struct Question<'a> {
    request: &'a str,
    user: &'a str,
    k: usize,
    time_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<&'a str>,
    context: &'a std::collections::BTreeMap<String, String>,
    history: Vec<Past<'a>>,
}

#[derive(Serialize)]
struct Past<'a> {
    item: &'a str,
    time_ms: i64,
    kind: String,
    value: f32,
}

#[derive(Deserialize)]
struct Answer {
    items: Vec<Answered>,
}

#[derive(Deserialize)]
struct Answered {
    id: String,
    #[serde(default)]
    score: f64,
}

fn build(setup: &Setup<'_>) -> Result<Arc<dyn Channel>, Error> {
    let options: Options = setup.read()?;
    match options.url.parse::<ureq::http::Uri>() {
        _ if options.url.is_empty() => return Err(setup.refuse("key `url` is missing")),
        Ok(url) if url.scheme_str() == Some("http") && url.host().is_some_and(|h| !h.is_empty()) => {}
        _ => return Err(setup.refuse(format!("key `url` is `{}`; it must be http://HOST…", options.url))),
    }
    let Options { timeout_ms, max_kib, failures, retry_after_ms, .. } = options;
    if timeout_ms == 0 || max_kib == 0 || failures == 0 || retry_after_ms == 0 {
        return Err(setup.refuse("`timeout_ms`, `max_kib`, `failures` and `retry_after_ms` must be above 0"));
    }
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_millis(timeout_ms)))
        .max_redirects(0)
        .proxy(None)
        .user_agent("millstream")
        .build()
        .new_agent();
    let limits = Limits { failures, retry_after: Duration::from_millis(retry_after_ms) };
    Ok(Arc::new(Remote { name: setup.name.to_owned(), agent, breaker: Breaker::new(limits), options }))
}

/// The kind of this code in words; a custom kind by its code, which is all that a history keeps of it.
fn kind(code: u16) -> String {
    use EventKind::{Cart, Click, Impression, Like, Order, Play};
    let built_in = [Impression, Click, Cart, Order, Like, Play];
    built_in.iter().find(|k| k.code() == code).map_or_else(|| format!("custom_{code}"), ToString::to_string)
}

impl Remote {
    fn ask(&self, call: &Call, k: usize) -> Result<Answer, String> {
        let (request, catalogue) = (&call.request, &call.catalogue);
        let from = request.history.len().saturating_sub(self.options.max_history);
        let past = request.history[from..].iter().map(|a| Past {
            item: catalogue.item_id(a.item),
            time_ms: a.time_ms,
            kind: kind(a.kind),
            value: a.value,
        });
        let question = Question {
            request: &request.id,
            user: &request.user,
            k,
            time_ms: request.time_ms,
            segment: request.segment.as_deref(),
            context: &request.context,
            history: past.collect(),
        };
        let body = serde_json::to_vec(&question).map_err(|e| e.to_string())?;
        let post = self.agent.post(&self.options.url).content_type("application/json");
        let mut answer = post.send(&body[..]).map_err(|e| e.to_string())?;
        let limit = self.options.max_kib.saturating_mul(1024);
        let read = answer.body_mut().with_config().limit(limit).read_to_vec().map_err(|e| e.to_string())?;
        serde_json::from_slice(&read).map_err(|e| format!("the answer cannot be read: {e}"))
    }
}

impl Channel for Remote {
    fn recall(&self, call: &Call, k: usize) -> Result<Vec<Candidate>, Error> {
        if k == 0 {
            return Ok(Vec::new());
        }
        let fail = |why: &str| Error::Part(format!("`{}` at {}: {why}", self.name, self.options.url));
        if !self.breaker.lets_through(Instant::now()) {
            return Err(fail("not asked, for it failed time and again"));
        }
        let answer = self.ask(call, k);
        self.breaker.heard(answer.is_ok(), Instant::now());
        let answer = answer.map_err(|why| fail(&why))?;
        let mut met = RapidHashSet::default();
        let rows = answer.items.iter().filter_map(|x| Some((call.catalogue.item(&x.id)?, x.score as f32)));
        let fine = rows.filter(|x| x.1.is_finite() && call.keep(x.0) && met.insert(x.0));
        Ok(super::candidates(fine.take(k).collect()))
    }
}

//! What is measured, and the text that Prometheus reads.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::StatusCode;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use millstream_schema::{Event, EventKind};

use crate::answer::ChannelReport;
use crate::engine::Count;

const REQUESTS: &str = "millstream_http_requests_total";
const SECONDS: &str = "millstream_http_request_seconds";
const SHED: &str = "millstream_http_shed_total";
const EVENTS: &str = "millstream_feedback_events_total";
const UNKNOWN_ITEMS: &str = "millstream_feedback_unknown_items_total";
const WRITE_SECONDS: &str = "millstream_ledger_write_seconds";
const WRITE_EVENTS: &str = "millstream_ledger_write_events";
const FEED_ITEMS: &str = "millstream_feed_items";
const STRANGERS: &str = "millstream_stranger_feeds_total";
const CHANNEL_SECONDS: &str = "millstream_channel_seconds";
const CHANNEL_REQUESTS: &str = "millstream_channel_requests_total";
const CHANNEL_CANDIDATES: &str = "millstream_channel_candidates_total";
const CHANNEL_FIRST_HITS: &str = "millstream_channel_first_hits_total";
const CHANNEL_EXPOSURES: &str = "millstream_channel_exposures_total";
const CHANNEL_FALLBACKS: &str = "millstream_channel_fallbacks_total";

const TIMES: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const COUNTS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Sets up measuring, once per process; all servers of a process share it.
pub(crate) fn install() {
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &TIMES)
            .and_then(|b| b.set_buckets(&COUNTS));
        let handle = builder.and_then(PrometheusBuilder::install_recorder);
        if let Err(error) = &handle {
            tracing::warn!(%error, "nothing is measured, for something else in this process measures already");
        }
        describe();
        handle.ok()
    });
}

fn describe() {
    describe_counter!(REQUESTS, "Requests by route, method and status.");
    describe_histogram!(SECONDS, "Time to answer, by route.");
    describe_counter!(SHED, "Requests turned away because too many were under way.");
    describe_counter!(EVENTS, "Events stored, by kind.");
    describe_counter!(UNKNOWN_ITEMS, "Events stored about items of which there is no record.");
    describe_histogram!(WRITE_SECONDS, "Time of one write of the ledger with its fsync.");
    describe_histogram!(WRITE_EVENTS, "Events that shared one write of the ledger.");
    describe_histogram!(FEED_ITEMS, "Items in a feed.");
    describe_counter!(STRANGERS, "Feeds that were not personal.");
    describe_histogram!(CHANNEL_SECONDS, "Time a recall channel took, or was waited for, by channel.");
    describe_counter!(CHANNEL_REQUESTS, "Requests by recall channel and what became of it.");
    describe_counter!(CHANNEL_CANDIDATES, "Candidates that a recall channel gave.");
    describe_counter!(CHANNEL_FIRST_HITS, "Items of merged lists that came in by a recall channel.");
    describe_counter!(
        CHANNEL_EXPOSURES,
        "Items of feeds by recall channel: that came in by it (first), that it found (all), that only it found (only)."
    );
    describe_counter!(CHANNEL_FALLBACKS, "Requests in which a recall channel stood in for another.");
}

/// All measurements in Prometheus' text format.
pub fn text() -> String {
    HANDLE.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default()
}

/// Folds what was measured into its histograms; to be called every few seconds.
pub(crate) fn upkeep() {
    if let Some(Some(handle)) = HANDLE.get() {
        handle.run_upkeep();
    }
}

pub(crate) fn request(route: String, method: &'static str, status: StatusCode, took: Duration) {
    let status = status.as_u16().to_string();
    counter!(REQUESTS, "route" => route.clone(), "method" => method, "status" => status).increment(1);
    histogram!(SECONDS, "route" => route).record(took.as_secs_f64());
}

pub(crate) fn shed() {
    counter!(SHED).increment(1);
}

pub(crate) fn events(events: &[Event]) {
    for event in events {
        let kind = match &event.kind {
            EventKind::Impression => "impression",
            EventKind::Click => "click",
            EventKind::Cart => "cart",
            EventKind::Order => "order",
            EventKind::Like => "like",
            EventKind::Play => "play",
            EventKind::Custom(_) => "custom",
        };
        counter!(EVENTS, "kind" => kind).increment(1);
    }
}

pub(crate) fn unknown_items(events: u64) {
    counter!(UNKNOWN_ITEMS).increment(events);
}

pub(crate) fn write(events: usize, took: Duration) {
    histogram!(WRITE_SECONDS).record(took.as_secs_f64());
    histogram!(WRITE_EVENTS).record(events as f64);
}

pub(crate) fn channels(reports: &[ChannelReport]) {
    for report in reports {
        let channel = report.channel.clone();
        let status = report.status.clone();
        counter!(CHANNEL_REQUESTS, "channel" => channel.clone(), "status" => status).increment(1);
        if report.status != "skipped" {
            histogram!(CHANNEL_SECONDS, "channel" => channel.clone()).record(report.micros as f64 / 1e6);
        }
        counter!(CHANNEL_CANDIDATES, "channel" => channel.clone()).increment(report.candidates as u64);
        counter!(CHANNEL_FIRST_HITS, "channel" => channel.clone()).increment(report.first_hits as u64);
        let shown = [("first", report.shown_first), ("all", report.shown_all), ("only", report.shown_only)];
        for (hits, items) in shown {
            counter!(CHANNEL_EXPOSURES, "channel" => channel.clone(), "hits" => hits).increment(items as u64);
        }
        if !report.stands_in_for.is_empty() {
            counter!(CHANNEL_FALLBACKS, "channel" => channel).increment(1);
        }
    }
}

/// Sets the engine's own counts.
pub(crate) fn counts(counts: &[Count]) {
    for count in counts {
        if count.name.ends_with("_total") {
            describe_counter!(count.name, count.help);
            counter!(count.name).absolute(count.value);
        } else {
            describe_gauge!(count.name, count.help);
            gauge!(count.name).set(count.value as f64);
        }
    }
}

pub(crate) fn feed(items: usize, personal: bool) {
    histogram!(FEED_ITEMS).record(items as f64);
    if !personal {
        counter!(STRANGERS).increment(1);
    }
}

//! What is measured, and the text that Prometheus reads.

use std::sync::OnceLock;
use std::time::Duration;

use axum::http::StatusCode;
use metrics::{counter, describe_counter, describe_histogram, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use millstream_schema::{Event, EventKind};

const REQUESTS: &str = "millstream_http_requests_total";
const SECONDS: &str = "millstream_http_request_seconds";
const SHED: &str = "millstream_http_shed_total";
const EVENTS: &str = "millstream_feedback_events_total";
const UNKNOWN_ITEMS: &str = "millstream_feedback_unknown_items_total";
const WRITE_SECONDS: &str = "millstream_ledger_write_seconds";
const WRITE_EVENTS: &str = "millstream_ledger_write_events";
const FEED_ITEMS: &str = "millstream_feed_items";
const STRANGERS: &str = "millstream_stranger_feeds_total";

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

pub(crate) fn feed(items: usize, personal: bool) {
    histogram!(FEED_ITEMS).record(items as f64);
    if !personal {
        counter!(STRANGERS).increment(1);
    }
}

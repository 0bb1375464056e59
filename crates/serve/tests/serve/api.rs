//! What each endpoint answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use millstream_schema::FixedClock;
use millstream_serve::ServeConfig;
use millstream_serve::routes::ROUTES;
use millstream_stream::EventLog;
use serde_json::{Value, json};

use crate::client::{get, post, request};
use crate::engine::{Server, config};

fn ids(feed: &Value) -> Vec<String> {
    feed["items"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn feedback_is_stored_and_changes_the_next_feed_and_the_history_even_after_a_restart() {
    let mut server = Server::start(config());
    let first = get(server.addr(), "/api/recommend/anna?n=3").json();
    assert_eq!(ids(&first), ["i00", "i01", "i02"]);
    let events = json!([
        {"user": "anna", "item": "i00", "kind": "click", "request": first["request_id"], "position": 0},
        {"user": "anna", "item": "i02", "kind": "impression"},
        {"user": "anna", "item": "i50", "kind": "play", "value": 0.5, "time_ms": 1_600_000_000_000i64},
    ]);
    let accepted = post(server.addr(), "/api/feedback", &events.to_string());
    assert_eq!(accepted.status, 200);
    assert_eq!(accepted.json(), json!({"accepted": 3, "offset": 0, "unknown_items": 3}));
    for _ in 0..2 {
        let feed = get(server.addr(), "/api/recommend/anna?n=3").json();
        assert_eq!(ids(&feed), ["i01", "i03", "i04"]);
        assert_eq!(feed["personal"], json!(true));
        let history = get(server.addr(), "/api/users/anna/history").json();
        assert_eq!(history["actions"][0]["item"], "i00");
        assert_eq!(history["actions"][1]["item"], "i50");
        assert_eq!((&history["remembered"], &history["seen"]), (&json!(2), &json!(3)));
        let asked = server.engine.asked.lock().unwrap().pop().unwrap();
        assert_eq!(&*asked.history[0].item, "i50");
        server.restart(config());
    }
}

#[test]
fn a_feed_of_the_millisecond_of_an_action_comes_after_it() {
    let now = 1_700_000_000_000;
    let server = Server::start(ServeConfig { clock: Arc::new(FixedClock(now)), ..config() });
    let asked = || {
        get(server.addr(), "/api/recommend/anna?n=3").json();
        server.engine.asked.lock().unwrap().pop().unwrap().time_ms
    };
    assert_eq!(asked(), now);
    assert_eq!(
        post(server.addr(), "/api/feedback", r#"{"user":"anna","item":"i00","kind":"click"}"#).status,
        200
    );
    assert_eq!(asked(), now + 1, "histories end before the time of the request");
}

#[test]
fn lines_of_events_are_read_and_one_bad_event_refuses_all() {
    let server = Server::start(config());
    let good = r#"{"user":"u","item":"i1","kind":"like"}"#;
    let lines = format!("{good}\n{good}\n");
    let kind = "Content-Type: application/x-ndjson\r\n";
    let answer = request(server.addr(), "POST", "/api/feedback", kind, &lines);
    assert_eq!(answer.json(), json!({"accepted": 2, "offset": 0, "unknown_items": 2}));
    let bad = r#"{"user":"u","item":"i1","kind":"like","time_ms":"now"}"#;
    let answer = post(server.addr(), "/api/feedback", &format!("[{good},{bad}]"));
    assert_eq!(answer.status, 400);
    assert!(answer.error().starts_with("event 1: `time_ms`"), "{}", answer.text);
    assert_eq!(post(server.addr(), "/api/feedback", "junk").status, 400);
    assert_eq!(server.stream.as_ref().unwrap().ledger.end(), 2);
}

#[test]
fn a_stranger_gets_a_feed_that_says_it_is_not_personal() {
    let server = Server::start(config());
    let feed = get(server.addr(), "/api/recommend/no%20such%20user?hour=12&device=tv").json();
    assert_eq!(feed["personal"], json!(false));
    assert!(feed["reason"].as_str().unwrap().contains("`no such user` is not known"));
    assert_eq!(ids(&feed).len(), 10);
    assert!(feed.get("stages").is_none() && feed["items"][0].get("trace").is_none());
    let asked = server.engine.asked.lock().unwrap().pop().unwrap();
    assert_eq!(asked.context["hour"], "12");
    assert_eq!((asked.user.as_str(), asked.known, asked.context.len()), ("no such user", false, 2));
}

#[test]
fn a_trace_tells_channels_scores_and_rules_and_request_ids_differ() {
    let server = Server::start(config());
    let feed = get(server.addr(), "/api/recommend/u?n=2&trace=true").json();
    let trace = &feed["items"][1]["trace"];
    assert_eq!(trace["channels"][0], json!({"channel": "hot", "position": 2, "score": 0.5}));
    assert_eq!(trace["rules"][0]["rule"], "mmr");
    assert_eq!(feed["stages"][0]["left"], 50);
    assert_eq!(feed["items"][1]["position"], 1);
    let other = get(server.addr(), "/api/recommend/u").json();
    assert_ne!(feed["request_id"], other["request_id"]);
}

#[test]
fn bad_requests_are_answered_with_one_sentence() {
    let server = Server::start(config());
    let long = "x".repeat(300);
    for (path, status, part) in [
        ("/api/recommend/u?n=0", 400, "from 1 to 200"),
        ("/api/recommend/u?n=201", 400, "from 1 to 200"),
        ("/api/recommend/u?n=ten", 400, "whole number"),
        ("/api/recommend/u?trace=perhaps", 400, "true or false"),
        ("/api/recommend/u?n=1&n=2", 400, "twice"),
        ("/api/recommend/%FF", 400, "UTF-8"),
        ("/api/recommend/a%0Ab", 400, "control"),
        (&format!("/api/recommend/{long}"), 400, "256 bytes"),
        ("/api/recommend/wrong", 400, "`hour` must be a number"),
        ("/api/recommend/broken", 500, "log"),
        ("/api/recommend/panic", 500, "log"),
        ("/api/item/i01/neighbors?m=2", 400, "unknown parameter"),
        ("/api/item/nothing/neighbors", 404, "not known"),
        ("/api/users?lim=3", 400, "did you mean `limit`"),
        ("/api/users/none", 404, "not known"),
        ("/api/nothing", 404, "openapi"),
    ] {
        let answer = get(server.addr(), path);
        assert_eq!(answer.status, status, "{path}: {}", answer.text);
        assert!(answer.error().contains(part), "{path}: {}", answer.text);
        assert!(!answer.text.contains("secret"));
    }
    assert_eq!(request(server.addr(), "DELETE", "/api/feedback", "", "").status, 405);
    assert_eq!(get(server.addr(), "/api/recommend/u").status, 200, "the server lives on");
}

#[test]
fn users_and_items_are_created_once_read_replaced_listed_and_deleted() {
    let mut server = Server::start(config());
    for (sort, what) in [("users", "user"), ("items", "item")] {
        let path = format!("/api/{sort}");
        let one =
            json!({"id": "a/b", "properties": {"title": "A", "tags": ["x", "y"], "n": 3, "gone": null}});
        let addr = server.addr();
        assert_eq!(post(addr, &path, &one.to_string()).status, 201);
        let again = post(addr, &path, &one.to_string());
        assert_eq!(again.status, 409);
        assert!(again.error().contains("exists already"));
        let read = get(addr, &format!("{path}/a%2Fb")).json();
        assert_eq!(read, json!({"id": "a/b", "properties": {"n": "3", "tags": ["x", "y"], "title": "A"}}));
        let put = request(addr, "PUT", &format!("{path}/c"), "", r#"{"properties":{"title":"C"}}"#);
        assert_eq!(put.status, 200);
        assert_eq!(request(addr, "PUT", &format!("{path}/c"), "", r#"{"id":"d"}"#).status, 400);
        assert_eq!(request(addr, "PUT", &format!("{path}/c"), "", r#"{"props":{}}"#).status, 400);
        server.restart(config());
        let addr = server.addr();
        let page = get(addr, &format!("{path}?limit=1")).json();
        assert_eq!((page["records"][0]["id"].as_str(), page["next"].as_str()), (Some("a/b"), Some("a/b")));
        let rest = get(addr, &format!("{path}?after=a%2Fb")).json();
        assert_eq!(rest["records"].as_array().unwrap().len(), 1);
        assert_eq!(request(addr, "DELETE", &format!("{path}/c"), "", "").status, 204);
        assert_eq!(request(addr, "DELETE", &format!("{path}/c"), "", "").status, 404);
        assert_eq!(get(addr, &format!("{path}/c")).status, 404);
        let calls = server.engine.calls.lock().unwrap().clone();
        assert!(calls.contains(&format!("upsert {what} a/b")) && calls.contains(&format!("remove {what} c")));
    }
}

#[test]
fn an_item_that_the_engine_refuses_is_not_stored() {
    let server = Server::start(config());
    let answer = post(server.addr(), "/api/items", r#"{"id":"z","properties":{"price":"cheap"}}"#);
    assert_eq!((answer.status, answer.error().as_str()), (400, "`price` must be a number"));
    assert_eq!(get(server.addr(), "/api/items/z").status, 404);
}

#[test]
fn a_new_item_is_recommended_and_a_deleted_user_is_a_stranger_again() {
    let mut server = Server::start(config());
    let addr = server.addr();
    post(addr, "/api/items", r#"{"id":"a0","properties":{"title":"Fresh"}}"#);
    let feed = get(addr, "/api/recommend/u?n=1").json();
    assert_eq!((ids(&feed)[0].as_str(), feed["items"][0]["title"].as_str()), ("a0", Some("Fresh")));
    post(addr, "/api/feedback", r#"{"user":"u","item":"a0","kind":"click"}"#);
    assert_eq!(request(addr, "DELETE", "/api/users/u", "", "").status, 204);
    for _ in 0..2 {
        let feed = get(server.addr(), "/api/recommend/u?n=1").json();
        assert_eq!((ids(&feed)[0].as_str(), &feed["personal"]), ("a0", &json!(false)));
        server.restart(config());
    }
}

#[test]
fn neighbours_carry_titles() {
    let server = Server::start(config());
    let near = get(server.addr(), "/api/item/i05/neighbors?n=4").json();
    assert_eq!(near["neighbors"].as_array().unwrap().len(), 4);
    assert_eq!(near["neighbors"][0]["title"], "Item <b>00</b>");
}

#[test]
fn health_tells_live_from_ready() {
    let server = Server::start(config());
    assert_eq!(get(server.addr(), "/api/health/ready").json()["status"], "ready");
    server.engine.ready.store(false, Ordering::SeqCst);
    assert_eq!(get(server.addr(), "/api/health/live").status, 200);
    assert_eq!(get(server.addr(), "/api/health/ready").status, 503);
}

#[test]
fn measurements_name_routes_events_writes_and_feeds() {
    let server = Server::start(config());
    post(server.addr(), "/api/feedback", r#"{"user":"u","item":"i1","kind":"my_kind"}"#);
    get(server.addr(), "/api/recommend/stranger");
    let text = get(server.addr(), "/metrics").text;
    for part in [
        r#"millstream_http_requests_total{route="/api/recommend/{user}",method="GET",status="200"}"#,
        r#"millstream_http_request_seconds_bucket{route="/api/feedback",le="#,
        r#"millstream_feedback_events_total{kind="custom"}"#,
        "millstream_ledger_write_seconds_count",
        "millstream_feed_items_sum",
        "millstream_stranger_feeds_total",
        r#"millstream_channel_requests_total{channel="hot",status="answered"}"#,
        r#"millstream_channel_seconds_count{channel="hot"}"#,
        r#"millstream_channel_candidates_total{channel="hot"}"#,
        r#"millstream_channel_first_hits_total{channel="hot"}"#,
        r#"millstream_channel_exposures_total{channel="hot",hits="first"}"#,
        r#"millstream_channel_exposures_total{channel="hot",hits="only"}"#,
        r#"millstream_channel_fallbacks_total{channel="hot"}"#,
        "# TYPE fake_asked_total counter",
        "fake_items 100",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn the_openapi_document_lists_exactly_the_routes() {
    let server = Server::start(config());
    let document = get(server.addr(), "/api/openapi.json").json();
    let mut listed: Vec<(String, String)> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        listed.extend(methods.as_object().unwrap().keys().map(|m| (m.to_uppercase(), path.clone())));
    }
    let mut routes: Vec<(String, String)> =
        ROUTES.iter().map(|(m, p)| ((*m).to_owned(), (*p).to_owned())).collect();
    listed.sort();
    routes.sort();
    assert_eq!(listed, routes);
    assert!(document["components"]["schemas"]["Feed"].is_object());
}

#[test]
fn every_listed_route_is_routed() {
    let server = Server::start(config());
    for (method, path) in ROUTES {
        let path = path.replace("{user}", "i01").replace("{id}", "i01");
        let answer = request(server.addr(), method, &path, "", "");
        let routed = answer.status != 405 && !(answer.status == 404 && answer.text.contains("openapi"));
        assert!(routed, "{method} {path}: {}", answer.text);
    }
}

#[test]
fn the_page_and_its_assets_are_served_without_outside_addresses() {
    let server = Server::start(crate::engine::config());
    for (path, kind) in
        [("/", "text/html"), ("/assets/page.css", "text/css"), ("/assets/page.js", "text/javascript")]
    {
        let answer = get(server.addr(), path);
        assert_eq!(answer.status, 200);
        assert!(answer.head.contains(kind) && answer.head.contains("content-security-policy"));
        assert!(!answer.text.contains("http://") && !answer.text.contains("https://"));
        assert!(!answer.text.contains("innerHTML"));
    }
}

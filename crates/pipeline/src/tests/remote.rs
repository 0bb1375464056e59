//! The remote channel against servers that behave and servers that do not. Nothing waits for a clock: a server
//! that never answers is given a deadline, and others all the time they want.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::server::{response, serve};
use super::world::*;
use crate::channel::find;

fn remote(url: &str, more: &str) -> Arc<dyn crate::Channel> {
    channel("remote", &format!("url = \"{url}\"\n{more}"))
}

const PATIENT: &str = "timeout_ms = 60000\n";

#[test]
fn the_question_says_who_asks_and_the_answer_is_taken_as_far_as_it_can_be_used() {
    let heard = Arc::new(Mutex::new(serde_json::Value::Null));
    let noted = heard.clone();
    let url = serve(move |question| {
        *noted.lock().unwrap() = question.clone();
        let items = r#"{"items": [{"id": "i150", "score": 3}, {"id": "nobody"}, {"id": "i17", "score": 2},
            {"id": "i150", "score": 1}, {"id": "i31"}, {"id": "i151", "score": 1e99}, {"id": "i152", "extra": [1]}]}"#;
        response("200 OK", items)
    });
    let mut request = request(3, 10);
    request.history[9].item = 42;
    let call = call(request);
    let found = remote(&url, &format!("{PATIENT}max_history = 4")).recall(&call, 20).unwrap();
    let got: Vec<(u32, f32)> = found.iter().map(|c| (c.item, c.score)).collect();
    assert_eq!(
        got,
        [(150, 3.0), (152, 0.0)],
        "dead, unknown, repeated items and what is no number are left out"
    );
    let heard = heard.lock().unwrap();
    assert_eq!((&heard["user"], &heard["k"], &heard["segment"]), (&"u3".into(), &20.into(), &"fr".into()));
    assert_eq!(heard["context"]["device"], "desk");
    let history = heard["history"].as_array().unwrap();
    assert_eq!(history.len(), 4);
    assert_eq!((&history[3]["item"], &history[3]["kind"]), (&"i42".into(), &"click".into()));
    drop(heard);
    let few = remote(&url, PATIENT).recall(&call, 1).unwrap();
    assert_eq!(few.len(), 1);
}

#[test]
fn answers_that_cannot_be_used_are_errors_and_lengths_are_not_believed() {
    let long = format!("{{\"items\": [{}]}}", "{\"id\": \"i150\"},".repeat(200));
    let lies = |claim: usize, body: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {claim}\r\nconnection: close\r\n\r\n{body}").into_bytes()
    };
    let endless = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".to_owned()
        + &format!("1000\r\n{}\r\n", " ".repeat(4096)).repeat(64);
    let answers: Vec<Vec<u8>> = vec![
        response("500 Internal Server Error", "{\"items\": []}"),
        response("302 Found", ""),
        response("200 OK", "not json"),
        response("200 OK", "{\"itms\": []}"),
        response("200 OK", &long),
        lies(usize::MAX, "{\"items\": []}"),
        lies(100, "{\"items\": []}"),
        endless.into_bytes(),
        b"junk".to_vec(),
        Vec::new(),
    ];
    let call = call(request(3, 10));
    for answer in answers {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(60)]).into_owned();
        let url = serve(move |_| answer.clone());
        let err = remote(&url, &format!("{PATIENT}max_kib = 2")).recall(&call, 5).unwrap_err().to_string();
        assert!(err.contains("remote") && err.contains(&url), "{shown}: {err}");
    }
    // A list that is deep instead of long.
    let deep = "[".repeat(100_000);
    let url = serve(move |_| response("200 OK", &format!("{{\"items\": {deep}")));
    assert!(remote(&url, PATIENT).recall(&call, 5).is_err());
}

#[test]
fn a_server_that_does_not_answer_is_given_up_and_after_some_failures_not_asked() {
    let (asked, counted) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(())));
    let (count, gate) = (asked.clone(), counted.clone());
    let held = counted.lock().unwrap();
    let url = serve(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        drop(gate.lock().unwrap());
        response("200 OK", "{\"items\": []}")
    });
    let options = "timeout_ms = 30\nfailures = 3\nretry_after_ms = 3600000";
    let channel = remote(&url, options);
    let call = call(request(3, 10));
    for _ in 0..10 {
        assert!(channel.recall(&call, 5).is_err());
    }
    assert!(channel.recall(&call, 5).unwrap_err().to_string().contains("time and again"));
    drop(held);
    assert!(asked.load(Ordering::SeqCst) <= 3, "the breaker is open");
    // A breaker that closes again: the first failure opens it, the next moment lets a try through.
    let answers = Arc::new(AtomicU32::new(0));
    let count = answers.clone();
    let url = serve(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => response("503 Service Unavailable", ""),
        _ => response("200 OK", "{\"items\": [{\"id\": \"i150\", \"score\": 1}]}"),
    });
    let channel = remote(&url, &format!("{PATIENT}failures = 1\nretry_after_ms = 1"));
    assert!(channel.recall(&call, 5).is_err());
    while channel.recall(&call, 5).is_err() {
        std::thread::yield_now();
    }
    assert_eq!(channel.recall(&call, 5).unwrap().len(), 1);
}

#[test]
fn options_are_checked() {
    let parts = resources();
    let refused = |options: &str| built(find("remote").unwrap(), options, &parts).err().unwrap().to_string();
    assert!(refused("").contains("`url` is missing"));
    assert!(refused("url = \"https://example.org/x\"").contains("must be http://"));
    assert!(refused("url = \"example.org\"").contains("must be http://"));
    assert!(refused("url = \"http://127.0.0.1:1/x\"\nfailures = 0").contains("above 0"));
    assert!(refused("url = \"http://127.0.0.1:1/x\"\ntimeout = 5").contains("did you mean `timeout_ms`"));
}

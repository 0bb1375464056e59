//! What the server does with callers that send too much, too slowly, or have no business here.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_serve::{Parts, ServeConfig, spawn};
use millstream_stream::{EventLog, Limits, Profiles};

use crate::client::{get, post, raw, request};
use crate::engine::{Server, config};

const KEY: &str = "0123456789abcdef-key";

#[test]
fn a_body_of_ten_megabytes_is_refused_before_it_is_read() {
    let server = Server::start(config());
    let body = vec![b' '; 10 << 20];
    let head =
        format!("POST /api/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = raw(server.addr(), &[head.as_bytes(), &body].concat());
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("1048576 bytes"), "{}", answer.text);
    // Nobody needs to send the body to be told.
    let answer = raw(server.addr(), head.as_bytes());
    assert_eq!(answer.status, 413);
}

#[test]
fn a_chunked_body_without_a_length_is_refused_at_the_limit() {
    let server = Server::start(ServeConfig { max_body: 1000, ..config() });
    let head = "POST /api/feedback HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("400\r\n{}\r\n", " ".repeat(0x400));
    let answer = raw(server.addr(), format!("{head}{}", chunk.repeat(100)).as_bytes());
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("1000 bytes"));
}

#[test]
fn a_key_is_asked_for_everywhere_but_at_the_page_and_health() {
    let server = Server::start(ServeConfig { api_key: Some(KEY.into()), ..config() });
    let addr = server.addr();
    for path in ["/api/recommend/u", "/api/users", "/metrics", "/api/nothing"] {
        let answer = get(addr, path);
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.error().contains("API key") && answer.head.contains("www-authenticate"));
    }
    assert_eq!(post(addr, "/api/feedback", "[]").status, 401);
    for path in ["/", "/assets/page.js", "/api/health/live", "/api/health/ready", "/api/openapi.json"] {
        assert_eq!(get(addr, path).status, 200, "{path}");
    }
    let with = |key: &str| {
        let header = format!("Authorization: Bearer {key}\r\n");
        request(addr, "GET", "/api/recommend/u", &header, "").status
    };
    assert_eq!(with(KEY), 200);
    assert_eq!(with("0123456789abcdef-kez"), 401);
    assert_eq!(with(""), 401);
}

#[test]
fn a_server_open_to_others_does_not_start_without_a_key() {
    let server = Server::start(config());
    let stream = server.stream.clone().unwrap();
    let parts =
        Parts { engine: server.engine.clone(), stream, profiles: Arc::new(Profiles::new(Limits::default())) };
    let open = ServeConfig { host: "0.0.0.0".into(), ..config() };
    let told = spawn(open, parts.clone()).err().unwrap().to_string();
    assert!(told.contains("API key is required"), "{told}");
    let port = server.addr().port();
    let told = spawn(ServeConfig { port, ..config() }, parts).err().unwrap().to_string();
    assert_eq!(told, format!("port {port} on 127.0.0.1 is in use; choose another with --port"));
}

#[test]
fn other_sites_can_neither_write_nor_borrow_the_address() {
    let server = Server::start(config());
    let event = r#"{"user":"u","item":"i1","kind":"like"}"#;
    let other = "Origin: https://example.org\r\n";
    assert_eq!(request(server.addr(), "POST", "/api/feedback", other, event).status, 403);
    let own = format!("Origin: http://{}\r\n", server.addr());
    assert_eq!(request(server.addr(), "POST", "/api/feedback", &own, event).status, 200);
    let borrowed = b"GET /api/users HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n";
    assert_eq!(raw(server.addr(), borrowed).status, 403);
    assert_eq!(server.stream.as_ref().unwrap().ledger.end(), 1);
}

#[test]
fn a_busy_server_turns_callers_away_but_stays_healthy() {
    let server = Server::start(ServeConfig { max_requests: 2, workers: 2, ..config() });
    let addr = server.addr();
    std::thread::scope(|scope| {
        let slow: Vec<_> =
            (0..2).map(|_| scope.spawn(move || get(addr, "/api/recommend/slow").status)).collect();
        std::thread::sleep(Duration::from_millis(250));
        let answer = get(addr, "/api/recommend/u");
        assert_eq!(answer.status, 503);
        assert!(answer.head.contains("retry-after: 1") && answer.error().contains("busy"));
        assert_eq!(get(addr, "/api/health/live").status, 200);
        assert!(get(addr, "/metrics").text.contains("millstream_http_shed_total"));
        for thread in slow {
            assert_eq!(thread.join().unwrap(), 200);
        }
    });
    assert_eq!(get(addr, "/api/recommend/u").status, 200);
}

#[test]
fn a_request_that_takes_too_long_is_told_so() {
    let server = Server::start(ServeConfig { timeout: Duration::from_millis(200), ..config() });
    let answer = get(server.addr(), "/api/recommend/slow");
    assert_eq!(answer.status, 504);
    assert!(answer.error().contains("0.2 seconds"));
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let server = Server::start(config());
    let header = format!("X-Long: {}\r\n", "x".repeat(100_000));
    assert_eq!(request(server.addr(), "GET", "/api/users", &header, "").status, 431);
    let many: String = (0..200).map(|i| format!("X-{i}: 1\r\n")).collect();
    assert_eq!(request(server.addr(), "GET", "/api/users", &many, "").status, 431);
}

#[test]
fn stopping_lets_a_request_under_way_end() {
    let mut server = Server::start(config());
    let addr = server.addr();
    let slow = std::thread::spawn(move || get(addr, "/api/recommend/slow").status);
    let mut idle = TcpStream::connect(addr).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    server.running.take().unwrap().shutdown();
    assert!(started.elapsed() < Duration::from_secs(8), "an idle connection held the server up");
    assert_eq!(slow.join().unwrap(), 200);
    let _ = idle.write_all(b"GET / HTTP/1.1\r\n\r\n");
    assert!(matches!(idle.read(&mut [0; 8]), Ok(0) | Err(_)));
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn many_callers_at_once_lose_nothing() {
    let server = Server::start(config());
    let addr = server.addr();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            scope.spawn(move || {
                for i in 0..10 {
                    let event = format!(r#"{{"user":"u{thread}","item":"x{i}","kind":"click"}}"#);
                    assert_eq!(post(addr, "/api/feedback", &event).status, 200);
                    let history = get(addr, &format!("/api/users/u{thread}/history")).json();
                    assert_eq!(history["remembered"], i + 1);
                }
            });
        }
    });
    assert_eq!(server.stream.as_ref().unwrap().ledger.end(), 160);
}

//! A local HTTP server that answers as it is told, byte by byte.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::OnceLock;

/// Serves each connection with `answer`, which gets the body and gives all bytes of the response.
pub fn serve(answer: impl Fn(&serde_json::Value) -> Vec<u8> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/recall", listener.local_addr().unwrap());
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || one(stream, &*answer));
        }
    });
    url
}

fn one(mut stream: TcpStream, answer: &dyn Fn(&serde_json::Value) -> Vec<u8>) {
    let mut read = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let head = read.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        let text = String::from_utf8_lossy(&read[..head.unwrap_or(0)]).to_lowercase();
        let length = text.split("content-length:").nth(1).and_then(|t| t.lines().next());
        let length: usize = length.and_then(|l| l.trim().parse().ok()).unwrap_or(0);
        if let Some(head) = head.filter(|head| read.len() >= head + length) {
            let body = serde_json::from_slice(&read[head..head + length]).unwrap_or_default();
            // Whoever asked may have gone.
            let _ = stream.write_all(&answer(&body));
            return;
        }
        match stream.read(&mut chunk) {
            Ok(n) if n > 0 => read.extend_from_slice(&chunk[..n]),
            _ => return,
        }
    }
}

/// A whole response.
pub fn response(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

/// Answers every question with the same items, some of which may not be shown, and one that there is not.
pub fn echo() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    URL.get_or_init(|| {
        serve(|_| {
            let item = |i: u32| format!("{{\"id\": \"i{}\", \"score\": {}}}", i * 7 % 210, 210 - i);
            let items: Vec<String> = (0..210).map(item).collect();
            response("200 OK", &format!("{{\"items\": [{}]}}", items.join(",")))
        })
    })
}

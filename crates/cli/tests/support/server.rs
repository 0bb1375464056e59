//! A `serve` process, and requests to it.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;
use tempfile::TempDir;

use super::{command, json};

/// A run of the smallest world, in a folder that goes away with it.
pub struct World {
    folder: TempDir,
    /// What `quickstart --once --json` said in its last line.
    pub report: Value,
}

impl World {
    /// Makes the world, trains its models, fetches a feed.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let report = json(
            folder.path(),
            "quickstart --once --dir run --port 0 --users 60 --items 200 --exposures 4000 --seed 3",
        );
        Self { folder, report }
    }

    /// The run's folder.
    pub fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// Users and items met in its log.
    pub fn ids(&self) -> (String, String) {
        let feed = &self.report["feed"];
        (feed["user"].as_str().unwrap().to_owned(), feed["items"][0]["id"].as_str().unwrap().to_owned())
    }
}

/// A server process; killed when dropped.
pub struct Server {
    child: Child,
    agent: ureq::Agent,
    /// `http://127.0.0.1:PORT`.
    pub base: String,
}

/// A client that gives answers of every status and waits no longer than ten seconds.
pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder();
    config.timeout_global(Some(Duration::from_secs(10))).http_status_as_error(false).build().new_agent()
}

impl Server {
    /// Starts a server and kills it after `pause`, wherever it is by then.
    pub fn start_and_kill(run: &Path, pause: Duration) {
        let mut child = Self::spawn(run);
        std::thread::sleep(pause);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn spawn(run: &Path) -> Child {
        let mut command = command(run, ["serve", "--run", ".", "--port", "0", "--quiet", "--threads", "2"]);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Starts a server and waits until it listens.
    pub fn start(run: &Path) -> Self {
        let mut child = Self::spawn(run);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let base = line.split_whitespace().find(|w| w.starts_with("http://"));
        let base = base.unwrap_or_else(|| panic!("no address in `{line}`")).to_owned();
        Self { child, agent: agent(), base }
    }

    /// `kill -9`, at once.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Status and body of a GET.
    pub fn get(&self, path: &str) -> (u16, Value) {
        let mut answer = self.agent.get(format!("{}{path}", self.base)).call().unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Status and body of a POST to the feedback API.
    pub fn feedback(&self, body: impl AsRef<[u8]>) -> (u16, Value) {
        let url = format!("{}/api/feedback", self.base);
        let mut answer = self.agent.post(url).send(body.as_ref()).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        (answer.status().as_u16(), serde_json::from_str(&text).unwrap())
    }

    /// Stores an item, which must be accepted.
    pub fn put_item(&self, id: &str, properties: Value) {
        let url = format!("{}/api/items/{id}", self.base);
        let body = serde_json::json!({ "properties": properties }).to_string();
        let mut answer = self.agent.put(url).content_type("application/json").send(body).unwrap();
        let text = answer.body_mut().read_to_string().unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{text}");
    }

    /// Status of a DELETE.
    pub fn delete(&self, path: &str) -> u16 {
        self.agent.delete(format!("{}{path}", self.base)).call().unwrap().status().as_u16()
    }

    /// Value of a series without labels in `/metrics`.
    pub fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics");
        let text = text.as_str().unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
    }

    /// Ids of a feed, which must be there.
    pub fn feed(&self, user: &str, n: usize) -> Vec<String> {
        let (status, feed) = self.get(&format!("/api/recommend/{user}?n={n}"));
        assert_eq!(status, 200, "{feed}");
        feed["items"].as_array().unwrap().iter().map(|i| i["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Items of a history, latest first.
    pub fn history(&self, user: &str) -> Vec<String> {
        let (status, history) = self.get(&format!("/api/users/{user}/history?n=500"));
        assert_eq!(status, 200, "{history}");
        let actions = history["actions"].as_array().unwrap();
        actions.iter().map(|a| a["item"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

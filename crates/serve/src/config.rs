//! Where and how strictly to serve.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use millstream_schema::{Clock, SystemClock};

use crate::Error;

/// Shortest key that is accepted.
const MIN_KEY: usize = 16;

/// Settings of a server.
#[derive(Clone)]
pub struct ServeConfig {
    /// Name or address to listen on; `127.0.0.1` when nothing is said.
    pub host: String,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Asked of every caller as `Authorization: Bearer …`; required unless the host is a loopback one.
    pub api_key: Option<String>,
    /// Longest request body in bytes.
    pub max_body: usize,
    /// Longest time from a request's head to its answer.
    pub timeout: Duration,
    /// Requests under way at once; more are turned away with 503.
    pub max_requests: usize,
    /// Connections open at once; more wait to be accepted.
    pub max_connections: usize,
    /// Engine calls at once; 0 takes one per core.
    pub workers: usize,
    /// How long requests under way may take to end when the server is told to stop.
    pub grace: Duration,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Shown on the page.
    pub title: String,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: 8080,
            api_key: None,
            max_body: 1 << 20,
            timeout: Duration::from_secs(30),
            max_requests: 256,
            max_connections: 1024,
            workers: 0,
            grace: Duration::from_secs(10),
            clock: Arc::new(SystemClock),
            title: "Millstream".into(),
        }
    }
}

impl ServeConfig {
    /// Checks the settings and gives the addresses to try.
    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddr>, Error> {
        for (name, value) in [
            ("max_body", self.max_body),
            ("max_requests", self.max_requests),
            ("max_connections", self.max_connections),
        ] {
            if value == 0 {
                return Err(Error::Config(format!("`{name}` must be at least 1")));
            }
        }
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let found: Vec<SocketAddr> = found.map(Iterator::collect).unwrap_or_default();
        if found.is_empty() {
            return Err(Error::Config(format!("`{}` is no address of this machine", self.host)));
        }
        self.check_key(found.iter().all(|a| a.ip().is_loopback()))?;
        Ok(found)
    }

    fn check_key(&self, loopback: bool) -> Result<(), Error> {
        match &self.api_key {
            Some(key) if key.len() < MIN_KEY || !key.bytes().all(|b| b.is_ascii_graphic()) => {
                Err(Error::Config(format!(
                    "the API key must be at least {MIN_KEY} visible ASCII characters long"
                )))
            }
            None if !loopback => Err(Error::Config(format!(
                "{} can be reached from other machines, so an API key is required; set one or bind 127.0.0.1",
                self.host
            ))),
            _ => Ok(()),
        }
    }

    pub(crate) fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(2, usize::from),
            n => n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(host: &str, key: Option<&str>) -> ServeConfig {
        ServeConfig { host: host.into(), api_key: key.map(str::to_owned), ..ServeConfig::default() }
    }

    #[test]
    fn a_server_open_to_others_needs_a_key() {
        assert!(config("127.0.0.1", None).addresses().is_ok());
        assert!(config("0.0.0.0", None).addresses().unwrap_err().to_string().contains("API key"));
        assert!(config("0.0.0.0", Some("short")).addresses().unwrap_err().to_string().contains("16"));
        assert!(config("0.0.0.0", Some("0123456789abcdef")).addresses().is_ok());
        assert!(config("no such host", None).addresses().is_err());
    }
}

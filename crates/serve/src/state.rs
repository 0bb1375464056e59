//! What all requests share, and where their work runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use tokio::sync::Semaphore;

use crate::config::ServeConfig;
use crate::engine::Engine;
use crate::reject::Reject;
use crate::start::Parts;

/// Shared by all requests.
pub(crate) struct App {
    pub(crate) config: ServeConfig,
    pub(crate) parts: Parts,
    /// Whether only this machine can reach the server.
    pub(crate) loopback: bool,
    /// One permit for each request that may be under way.
    pub(crate) requests: Arc<Semaphore>,
    /// One permit for each engine call that may run.
    workers: Arc<Semaphore>,
    started_ms: i64,
    count: AtomicU64,
}

/// A handle on [`App`]; what handlers take as state.
pub(crate) type Shared = Arc<App>;

impl App {
    pub(crate) fn new(config: ServeConfig, parts: Parts, loopback: bool) -> Shared {
        let requests = Arc::new(Semaphore::new(config.max_requests));
        let workers = Arc::new(Semaphore::new(config.worker_count()));
        let started_ms = config.clock.now_ms();
        Arc::new(Self { config, parts, loopback, requests, workers, started_ms, count: AtomicU64::new(0) })
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.config.clock.now_ms()
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        &*self.parts.engine
    }

    /// An id that no other request has, not even after a restart.
    pub(crate) fn request_id(&self) -> String {
        format!("{:x}-{:x}", self.started_ms, self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// Runs work that burns CPU, at most one piece per worker at a time.
    pub(crate) async fn compute<T: Send + 'static>(
        self: &Shared,
        work: impl FnOnce(&App) -> Result<T, Reject> + Send + 'static,
    ) -> Result<T, Reject> {
        let permit = self.workers.clone().acquire_owned().await;
        let permit =
            permit.map_err(|_| Reject::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"))?;
        self.block(move |app| {
            // Given back when the work ends, even where nobody waits for it any more.
            let _permit = permit;
            work(app)
        })
        .await
    }

    /// Runs work that waits for the disk.
    pub(crate) async fn block<T: Send + 'static>(
        self: &Shared,
        work: impl FnOnce(&App) -> Result<T, Reject> + Send + 'static,
    ) -> Result<T, Reject> {
        let app = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&app)).await;
        done.unwrap_or_else(|error| Err(Reject::fault(&format!("a worker panicked: {error}"))))
    }

    /// The item's title: the engine's, or else that of the item's record.
    pub(crate) fn title(&self, item: &str) -> Option<String> {
        if let Some(title) = self.engine().item_title(item) {
            return Some(title);
        }
        let record = self.parts.stream.records.items().get(item).ok().flatten()?;
        ["title", "name"].iter().map(|f| record.get(f)).find(|t| !t.is_empty()).map(str::to_owned)
    }
}

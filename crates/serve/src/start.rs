//! Starting and stopping a server from code that is not async.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use millstream_stream::{Profiles, Stream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::engine::Engine;
use crate::routes::router;
use crate::state::App;
use crate::{Error, ServeConfig, listen, observe};

/// What a server serves.
#[derive(Clone)]
pub struct Parts {
    /// The pipeline.
    pub engine: Arc<dyn Engine>,
    /// Events and records.
    pub stream: Stream,
    /// Rebuilt from the stream.
    pub profiles: Arc<Profiles>,
}

/// A server on threads of its own. Dropping it stops it.
pub struct Running {
    addr: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops accepting, lets requests under way end, and returns when they have.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

struct Ready {
    runtime: Runtime,
    listener: TcpListener,
    addr: SocketAddr,
    app: Arc<App>,
}

/// Serves on threads of its own and returns at once; the server listens already.
///
/// # Errors
/// The settings cannot be used, or the port is in use.
pub fn spawn(config: ServeConfig, parts: Parts) -> Result<Running, Error> {
    let ready = prepare(config, parts)?;
    let addr = ready.addr;
    let (stop, stopped) = watch::channel(false);
    let serve = move || serve(ready, stopped, |_| ());
    let thread = std::thread::Builder::new().name("millstream-serve".into()).spawn(serve);
    Ok(Running { addr, stop, thread: Some(thread.map_err(Error::Start)?) })
}

/// Serves until SIGINT or SIGTERM. `on_ready` gets the address once the server listens.
///
/// # Errors
/// The settings cannot be used, or the port is in use.
pub fn run(config: ServeConfig, parts: Parts, on_ready: impl FnOnce(SocketAddr)) -> Result<(), Error> {
    let ready = prepare(config, parts)?;
    let (stop, stopped) = watch::channel(false);
    let signal = {
        let _inside = ready.runtime.enter();
        signals().map_err(Error::Start)?
    };
    ready.runtime.spawn(async move {
        signal.await;
        tracing::info!("stopping");
        let _ = stop.send(true);
        // Kept: the server takes a sender that is gone for a signal.
        std::future::pending::<()>().await;
    });
    serve(ready, stopped, on_ready);
    Ok(())
}

fn prepare(config: ServeConfig, parts: Parts) -> Result<Ready, Error> {
    let addresses = config.addresses()?;
    let loopback = addresses.iter().all(|a| a.ip().is_loopback());
    let listener = listen::bind(&config, &addresses)?;
    let addr = listener.local_addr().map_err(Error::Start)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker_count().clamp(1, 4))
        .max_blocking_threads(config.max_requests + config.worker_count())
        .thread_name("millstream-http")
        .enable_all()
        .build()
        .map_err(Error::Start)?;
    observe::install();
    parts.stream.ledger.observe(observe::write);
    Ok(Ready { runtime, listener, addr, app: App::new(config, parts, loopback) })
}

fn serve(ready: Ready, stopped: watch::Receiver<bool>, on_ready: impl FnOnce(SocketAddr)) {
    let Ready { runtime, listener, addr, app } = ready;
    runtime.block_on(async move {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "cannot listen"),
        };
        let upkeep = tokio::spawn(async {
            loop {
                tokio::time::sleep(Duration::from_secs(5)).await;
                observe::upkeep();
            }
        });
        on_ready(addr);
        let config = app.config.clone();
        listen::accept(listener, router(app), &config, stopped).await;
        upkeep.abort();
    });
    // Work that nobody waits for any more may still be writing; what it writes was never acknowledged.
    runtime.shutdown_timeout(Duration::from_secs(5));
}

#[cfg(unix)]
fn signals() -> std::io::Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn signals() -> std::io::Result<impl Future<Output = ()> + Send> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

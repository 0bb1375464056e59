//! Sockets: binding, accepting, and ending connections in good order.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tower::ServiceExt;

use crate::{Error, ServeConfig};

/// A client gets this long to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Header fields of a request at most.
const MAX_HEADERS: usize = 64;
/// Bytes of a request's head at most.
const MAX_HEAD: usize = 32 << 10;
/// After an early answer, a client that still sends is listened to this long…
const LINGER: Duration = Duration::from_secs(2);
/// …and no further than this many bytes, which are thrown away.
const LINGER_BYTES: usize = 32 << 20;
/// Pause after the system refused to accept, such as for want of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Listens on the first of the addresses that can be had.
pub(crate) fn bind(config: &ServeConfig, addresses: &[SocketAddr]) -> Result<TcpListener, Error> {
    let (host, port) = (config.host.clone(), config.port);
    let listener = TcpListener::bind(addresses).map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => Error::PortInUse { host: host.clone(), port },
        _ => Error::Listen { host: host.clone(), port, source },
    })?;
    listener.set_nonblocking(true).map_err(|source| Error::Listen { host, port, source })?;
    Ok(listener)
}

/// Accepts until told to stop, then lets requests under way end within the grace.
pub(crate) async fn accept(
    listener: tokio::net::TcpListener,
    router: Router,
    config: &ServeConfig,
    mut stop: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(config.max_connections));
    let mut connections = JoinSet::new();
    loop {
        let next = async { (slots.clone().acquire_owned().await, listener.accept().await) };
        let (slot, stream) = tokio::select! {
            _ = stop.wait_for(|&stop| stop) => break,
            accepted = next => match accepted {
                (slot, Ok((stream, _))) => (slot, stream),
                (_, Err(error)) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            let _slot = slot;
            converse(stream, router, stop).await;
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(config.grace, all).await.is_err() {
        tracing::warn!("requests were cut off: they took longer than the grace to end");
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

/// One connection from its first request to its last.
async fn converse(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let service =
        service_fn(move |request: Request<Incoming>| -> Answer { Box::pin(router.clone().oneshot(request)) });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut stopping = *stop.borrow();
    let ended = loop {
        if stopping {
            Pin::new(&mut connection).graceful_shutdown();
            break poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
        }
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break ended,
            _ = stop.wait_for(|&stop| stop) => stopping = true,
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
    linger(connection.into_parts().io.into_inner(), stopping).await;
}

/// Closes a connection such that a client still sending can read the answer it was given early: closing
/// at once would make the system throw that answer away.
async fn linger(mut stream: TcpStream, stopping: bool) {
    if stream.shutdown().await.is_err() || stopping {
        return;
    }
    let drain = async {
        let mut scrap = vec![0; 64 << 10];
        let mut left = LINGER_BYTES;
        while let Ok(n @ 1..) = stream.read(&mut scrap).await {
            left = left.saturating_sub(n);
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, drain).await;
}

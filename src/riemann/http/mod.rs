//! HTTP: web sockets, server-sent events and events as JSON lines; and the
//! connections under them, which the page for people shares.
//!
//! ```text
//!  accept ─▶ (TLS) ─▶ patience ─▶ hyper ─▶ guard ─┬─▶ feed    GET /index, /pubsub/<topic>
//!                                                 ├─▶ ingest  PUT, POST /events
//!                                                 └─▶ what else a router has
//! ```
//!
//! [`run`] serves a router with bounds: connections, time for a request's head,
//! time for a peer to take what it is sent ([`patience`]). [`guard`] asks who it
//! is: the host name, the web page, the token. A connection lasts as long as
//! what it was upgraded to, so that web sockets are bounded and drained too.
//!
//! Read [`router`] first.

mod feed;
pub mod guard;
mod ingest;
mod patience;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use self::guard::Guard;
use self::patience::Patience;
use super::accept::{self, Guest, Room};
use super::connection::End;
use super::index::Index;
use super::stats::Reason;
use super::tls;

/// What peers may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time.
    pub connections: usize,
    /// For the head of a request, also of the next one on a connection.
    pub head: Duration,
    /// For the body of a request.
    pub body: Duration,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Bytes of a line in it.
    pub line: usize,
    /// Lines in it.
    pub lines: usize,
    /// For a peer to take something of what it is sent.
    pub write: Duration,
    /// How often a silent peer is asked whether it is there; gone when it has
    /// not answered twice.
    pub ping: Duration,
    /// Queries that look through the index at one time.
    pub scans: usize,
    /// For connections to end once the server is to stop.
    pub drain: Duration,
}

impl Default for Limits {
    /// 128 connections; a minute for a head, 30 s for a body of 16 MiB in
    /// 100,000 lines of 64 KiB; 30 s to take what is sent; two scans; 5 s to end.
    fn default() -> Self {
        Self {
            connections: 128,
            head: Duration::from_secs(60),
            body: Duration::from_secs(30),
            body_bytes: 16 << 20,
            line: 64 << 10,
            lines: 100_000,
            write: Duration::from_secs(30),
            ping: Duration::from_secs(30),
            scans: 2,
            drain: Duration::from_secs(5),
        }
    }
}

/// Longest head of a request, and how much is written at once.
const BUFFER: usize = 64 * 1024;

/// What the handlers share.
pub(super) struct App {
    index: Index,
    guard: Guard,
    limits: Limits,
    scans: Semaphore,
}

/// Goes with each request: whoever keeps it keeps the connection, and hears
/// when it is to end.
#[derive(Clone)]
pub struct Stay {
    stopping: watch::Receiver<()>,
    _here: mpsc::Sender<()>,
}

impl Stay {
    /// Resolves when the server is to stop.
    pub async fn until_stop(mut self) {
        // The sender never sends, it only goes away.
        let _ = self.stopping.changed().await;
    }
}

/// The engine's own pages.
pub fn router(index: Index, guard: Guard, limits: Limits) -> Router {
    let scans = Semaphore::new(limits.scans.max(1));
    let app = Arc::new(App { index, guard, limits, scans });
    Router::new()
        .route("/index", get(feed::index))
        .route("/pubsub/{topic}", get(feed::topic))
        .route("/events", put(ingest::events).post(ingest::events))
        .fallback(nothing)
        .with_state(app)
}

async fn nothing() -> Response {
    let there = "here are /index?query=…, /pubsub/index?query=… and, to PUT or POST, /events";
    refusal(StatusCode::NOT_FOUND, there)
}

/// A refusal as JSON, the form in which the reference tells errors.
pub fn refusal(status: StatusCode, why: &str) -> Response {
    let body = serde_json::json!({ "error": why }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Serves until `shutdown` is ready, and then until what is open has ended or
/// [`Limits::drain`] has passed.
pub async fn run(
    listener: TcpListener,
    router: Router,
    acceptor: Option<TlsAcceptor>,
    index: Index,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    const FULL: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let room = Room { connections: limits.connections, drain: limits.drain };
    let farewell: &[u8] = if acceptor.is_some() { &[] } else { FULL };
    accept::run(listener, &index, room, None, farewell, shutdown, |guest| {
        serve(router.clone(), acceptor.clone(), limits, guest)
    })
    .await;
}

async fn serve(router: Router, acceptor: Option<TlsAcceptor>, limits: Limits, guest: Guest) -> End {
    let Guest { stream, stopping, .. } = guest;
    if let Err(error) = stream.set_nodelay(true) {
        return End::Lost(error);
    }
    match acceptor {
        None => talk(stream, router, limits, stopping).await,
        Some(acceptor) => match tls::greet(&acceptor, stream).await {
            Ok(stream) => talk(stream, router, limits, stopping).await,
            Err(end) => end,
        },
    }
}

/// Answers the requests of one connection, and waits for what it became.
async fn talk<S>(
    stream: S,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<()>,
) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (here, mut left) = mpsc::channel::<()>(1);
    let stay = Stay { stopping: stopping.clone(), _here: here };
    let service = TowerToHyperService::new(router.layer(Extension(stay)));
    let (stream, slow) = Patience::new(stream, limits.write);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(BUFFER);
    let ended = {
        let mut talk = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
        tokio::select! {
            ended = talk.as_mut() => ended,
            _ = stopping.changed() => {
                talk.as_mut().graceful_shutdown();
                talk.await
            }
        }
    };
    // Web sockets go on; each holds a sender.
    let _ = left.recv().await;
    match ended {
        _ if slow.is_set() => End::Refused(Reason::SlowReader),
        Ok(()) => End::Closed,
        Err(error) if error.is_timeout() => End::Refused(Reason::Idle),
        Err(error) if error.is_parse() => End::Refused(Reason::BadRequest),
        Err(error) => End::Lost(std::io::Error::other(error)),
    }
}

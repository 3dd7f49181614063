//! The ways in over the network: event ports, HTTP, what they need from files.
//!
//! A port that cannot be had, or whose files cannot be read, is said, not
//! fatal, and tried again.

use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info};

use super::{Shared, Tasks};
use crate::api::web;
use crate::base::with_sources;
use crate::config::{Events, TlsFiles, Web};
use crate::host::Host;
use crate::riemann::door::Door;
use crate::riemann::http::guard::{Guard, Token};
use crate::riemann::tcp::Entrance;
use crate::riemann::{decode, graphite_in, http, tcp, tls, udp};
use crate::sink::metrics;

/// How often a port that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(3);

/// Longest file of a token or of certificates.
const LONGEST: u64 = 1 << 20;

type Tried<T> = Result<T, String>;

/// One port: its name, its address, where its keys are.
struct Port {
    what: &'static str,
    at: SocketAddr,
    section: &'static str,
}

/// Opens the event ports.
pub(super) async fn events(
    tasks: &mut Tasks,
    shared: &Shared,
    events: &Events,
    down: &watch::Receiver<bool>,
) {
    let section = "events";
    let door = Door::new(events.allow.clone());
    if let Some(at) = events.tcp {
        let port = Port { what: "events over TCP", at, section };
        let entrance = Entrance::Plain(door.clone());
        let open = move |_: Host| listener(at);
        let serve = move |listener, shared: Shared, stop| {
            tcp::run_behind(listener, shared.index, tcp::Limits::default(), entrance, stop)
        };
        serve_on(tasks, shared, port, down, open, serve).await;
    }
    if let Some(at) = events.udp {
        let port = Port { what: "events over UDP", at, section };
        let door = door.clone();
        let open = move |_: Host| datagrams(at);
        let serve = move |socket, shared: Shared, stop| {
            udp::run_behind(socket, shared.index, decode::Caps::default(), door, stop)
        };
        serve_on(tasks, shared, port, down, open, serve).await;
    }
    if let (Some(at), Some(files)) = (events.tls, events.files.clone()) {
        let port = Port { what: "events over TLS", at, section };
        let open = move |host: Host| {
            let files = files.clone();
            async move { Ok((acceptor(&host, files).await?, listener(at).await?)) }
        };
        let serve = move |(acceptor, listener), shared: Shared, stop| {
            let entrance = Entrance::Tls(acceptor);
            tcp::run_behind(listener, shared.index, tcp::Limits::default(), entrance, stop)
        };
        serve_on(tasks, shared, port, down, open, serve).await;
    }
    if let Some(at) = events.graphite {
        let port = Port { what: "Graphite lines over TCP", at, section };
        let to = door.clone();
        let open = move |_: Host| listener(at);
        let serve = move |listener, shared: Shared, stop| {
            graphite_in::tcp(listener, shared.index, graphite_in::Limits::default(), to, stop)
        };
        serve_on(tasks, shared, port, down, open, serve).await;
        let port = Port { what: "Graphite lines over UDP", at, section };
        let open = move |_: Host| datagrams(at);
        let serve =
            move |socket, shared: Shared, stop| graphite_in::udp(socket, shared.index, door, stop);
        serve_on(tasks, shared, port, down, open, serve).await;
    }
    if let Some(at) = events.websocket {
        let port = Port { what: "events over HTTP", at, section };
        let events = events.clone();
        let open = move |host: Host| {
            let events = events.clone();
            async move {
                let files = events.files.filter(|_| events.websocket_tls);
                // Only tokens, not certificates, tell clients of this port apart.
                let files = files.map(|files| TlsFiles { client_ca: None, ..files });
                let acceptor = maybe(files, |files| acceptor(&host, files)).await?;
                let all = maybe(events.token_file, |file| token(&host, file)).await?;
                let read = maybe(events.read_token_file, |file| token(&host, file)).await?;
                let guard = Guard::new(names(&host, events.names), events.origins);
                Ok((acceptor, guard.with_tokens(all, read), listener(at).await?))
            }
        };
        let serve = move |(acceptor, guard, listener), shared: Shared, stop| {
            let limits = http::Limits::default();
            let router = http::router(shared.index.clone(), guard, limits);
            http::run(listener, router, acceptor, shared.index, limits, stop)
        };
        serve_on(tasks, shared, port, down, open, serve).await;
    }
}

/// Opens the port for people and Prometheus.
pub(super) async fn web(
    tasks: &mut Tasks,
    shared: &Shared,
    web: &Web,
    down: &watch::Receiver<bool>,
) {
    let Some(at) = web.listen else { return };
    let port = Port { what: "the web port", at, section: "web" };
    let web = web.clone();
    let open = move |host: Host| {
        let web = web.clone();
        async move {
            let certified = web.files.as_ref().is_some_and(|files| files.client_ca.is_some());
            let acceptor = maybe(web.files, |files| acceptor(&host, files)).await?;
            let token = maybe(web.token_file, |file| token(&host, file)).await?;
            let guard = Guard::new(names(&host, web.names), web.origins).with_tokens(token, None);
            let guard = if certified { guard.certified() } else { guard };
            Ok((acceptor, guard, listener(at).await?))
        }
    };
    let serve = move |(acceptor, guard, listener), shared: Shared, stop| {
        let index = shared.index.clone();
        let router = pages(&shared, guard);
        http::run(listener, router, acceptor, index, http::Limits::default(), stop)
    };
    serve_on(tasks, shared, port, down, open, serve).await;
}

fn pages(shared: &Shared, guard: Guard) -> Router {
    let index = shared.index.clone();
    let metrics: web::Make = Arc::new(move || metrics::render(&index));
    let index = shared.index.clone();
    web::router(web::Pages { index, guard, metrics, metrics_type: metrics::TYPE })
}

/// Opens a port, now or as soon as that works, and serves on it.
async fn serve_on<T, Opened, Served>(
    tasks: &mut Tasks,
    shared: &Shared,
    port: Port,
    down: &watch::Receiver<bool>,
    open: impl Fn(Host) -> Opened + Send + Sync + 'static,
    serve: impl FnOnce(T, Shared, Pin<Box<dyn Future<Output = ()> + Send>>) -> Served + Send + 'static,
) where
    T: Send + 'static,
    Opened: Future<Output = Tried<T>> + Send + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    let Port { what, at, section } = port;
    let mut opened = match open(shared.host.clone()).await {
        Ok(opened) => {
            info!("{what} on {at}");
            Some(opened)
        }
        Err(why) => {
            shared.unavailable(what, Some(refused(&why, section))).await;
            None
        }
    };
    let (shared, down) = (shared.clone(), down.clone());
    tasks.serve(what, async move {
        let opened = loop {
            if let Some(opened) = opened.take() {
                break opened;
            }
            tokio::select! {
                () = stopped(down.clone()) => return,
                () = sleep(AGAIN) => {}
            }
            match open(shared.host.clone()).await {
                Ok(now) => {
                    info!("{what} on {at}, at last");
                    shared.unavailable(what, None).await;
                    opened = Some(now);
                }
                Err(why) => debug!("{what}: {}", refused(&why, section)),
            }
        };
        drop(open);
        serve(opened, shared, Box::pin(stopped(down))).await;
    });
}

fn refused(why: &str, section: &str) -> String {
    format!(
        "{why}; it is tried again; or change it under `{section}:` in host.yaml, or write `off`"
    )
}

fn cannot(what: impl Display, error: impl Display) -> String {
    format!("cannot {what}: {error}")
}

async fn listener(at: SocketAddr) -> Tried<TcpListener> {
    TcpListener::bind(at).await.map_err(|error| cannot(format_args!("listen on {at}"), error))
}

async fn datagrams(at: SocketAddr) -> Tried<UdpSocket> {
    UdpSocket::bind(at).await.map_err(|error| cannot(format_args!("listen on {at}"), error))
}

/// What something leads to, if it is there.
async fn maybe<T, U, F: Future<Output = Tried<U>>>(
    it: Option<T>,
    to: impl FnOnce(T) -> F,
) -> Tried<Option<U>> {
    match it {
        Some(it) => to(it).await.map(Some),
        None => Ok(None),
    }
}

/// This machine's names, for who comes without a token.
fn names(host: &Host, further: Vec<String>) -> Vec<String> {
    let own = super::observe::host_name(host);
    let local = format!("{own}.local");
    further.into_iter().chain([own, local]).collect()
}

async fn acceptor(host: &Host, files: TlsFiles) -> Tried<TlsAcceptor> {
    let certificate = bytes(host, &files.certificate).await?;
    let key = bytes(host, &files.key).await?;
    let issuers =
        maybe(files.client_ca, |path: PathBuf| async move { bytes(host, &path).await }).await?;
    tls::acceptor(&certificate, &key, issuers.as_deref())
        .map_err(|error| cannot("speak TLS", with_sources(&error)))
}

async fn token(host: &Host, path: PathBuf) -> Tried<Token> {
    let text = bytes(host, &path).await?;
    Token::new(&text).map_err(|error| cannot(format_args!("use {}", path.display()), error))
}

async fn bytes(host: &Host, path: &Path) -> Tried<Vec<u8>> {
    let (sys, path) = (host.sys.clone(), path.to_owned());
    let read = tokio::task::spawn_blocking(move || sys.bytes(&path, LONGEST)).await;
    let read = read.map_err(|error| cannot("read a file", error))?;
    read.map_err(|error| with_sources(&error))
}

/// Resolves when the daemon goes down.
pub(super) async fn stopped(mut down: watch::Receiver<bool>) {
    // An error is the sender's absence, which counts as well.
    let _ = down.wait_for(|down| *down).await;
}

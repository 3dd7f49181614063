//! The ways out: event ports, the system bus, systemd.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{Shared, Tasks};
use crate::api::{self, bus, gate::PolkitGate};
use crate::ask::Asks;
use crate::config::Events;
use crate::riemann::{decode, tcp, udp};

/// How often a port that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(3);

/// Opens the event ports; one that cannot be had is said, not fatal, and tried
/// again.
pub(super) async fn events(
    tasks: &mut Tasks,
    shared: &Shared,
    ports: &Events,
    shutdown: &watch::Receiver<bool>,
) {
    if let Some(at) = ports.tcp {
        let what = "events over TCP";
        let first = bound(shared, what, at, TcpListener::bind(at).await).await;
        let (shared, down) = (shared.clone(), shutdown.clone());
        tasks.serve(what, async move {
            let bind = || TcpListener::bind(at);
            let Some(listener) = until_bound(shared.clone(), what, at, first, bind, &down).await
            else {
                return;
            };
            let (index, limits) = (shared.index.clone(), tcp::Limits::default());
            drop(shared);
            tcp::run(listener, index, limits, stopped(down)).await;
        });
    }
    if let Some(at) = ports.udp {
        let what = "events over UDP";
        let first = bound(shared, what, at, UdpSocket::bind(at).await).await;
        let (shared, down) = (shared.clone(), shutdown.clone());
        tasks.serve(what, async move {
            let bind = || UdpSocket::bind(at);
            let Some(socket) = until_bound(shared.clone(), what, at, first, bind, &down).await
            else {
                return;
            };
            let (index, caps) = (shared.index.clone(), decode::Caps::default());
            drop(shared);
            udp::run(socket, index, caps, stopped(down)).await;
        });
    }
}

/// What was bound; says it when it was not.
async fn bound<T>(shared: &Shared, what: &str, at: SocketAddr, tried: io::Result<T>) -> Option<T> {
    match tried {
        Ok(bound) => {
            info!("{what} on {at}");
            Some(bound)
        }
        Err(error) => {
            shared.unavailable(what, Some(refused(at, &error))).await;
            None
        }
    }
}

/// The first try, or the first one after it that works; `None` when the daemon
/// goes down before.
async fn until_bound<T, F: Future<Output = io::Result<T>>>(
    shared: Shared,
    what: &str,
    at: SocketAddr,
    first: Option<T>,
    bind: impl Fn() -> F,
    down: &watch::Receiver<bool>,
) -> Option<T> {
    if first.is_some() {
        return first;
    }
    loop {
        tokio::select! {
            () = stopped(down.clone()) => return None,
            () = sleep(AGAIN) => {}
        }
        match bind().await {
            Ok(bound) => {
                info!("{what} on {at}, at last");
                shared.unavailable(what, None).await;
                return Some(bound);
            }
            Err(error) => debug!("{}", refused(at, &error)),
        }
    }
}

fn refused(at: SocketAddr, error: &io::Error) -> String {
    let key = "set another address under `events:` in host.yaml, or `off`";
    format!("cannot listen on {at}: {error}; it is tried again; or {key}")
}

/// Goes onto the system bus, and says while it is not there.
pub(super) fn bus(
    tasks: &mut Tasks,
    shared: &Shared,
    asks: Asks,
    changes: api::Changes,
    shutdown: api::Stop,
) {
    if !shared.host.sys.is_real() {
        info!("not on the system bus: this is not the machine we run on");
        return;
    }
    let (absent, mut why) = watch::channel(None);
    let gate = Arc::new(PolkitGate);
    tasks.serve(
        "system bus",
        bus::serve_bus(bus::Bus::System, asks, changes, gate, absent, shutdown),
    );
    let shared = shared.clone();
    tasks.serve("system bus state", async move {
        while why.changed().await.is_ok() {
            let now = why.borrow_and_update().clone();
            shared.without("the system bus", now).await;
        }
    });
}

/// Resolves when the daemon goes down.
pub(super) async fn stopped(mut down: watch::Receiver<bool>) {
    // An error is the sender's absence, which counts as well.
    let _ = down.wait_for(|down| *down).await;
}

/// Tells systemd, where it has started us.
pub(super) fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("systemd cannot be told how we are: {error}");
    }
}

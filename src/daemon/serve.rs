//! The ways out: event ports, the system bus, systemd.

use std::net::SocketAddr;
use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Shared, Tasks};
use crate::api::{self, bus, gate::PolkitGate};
use crate::ask::Asks;
use crate::config::Events;
use crate::riemann::{decode, tcp, udp};

/// Opens the event ports; one that cannot be had is said, not fatal.
pub(super) async fn events(
    tasks: &mut Tasks,
    shared: &Shared,
    ports: &Events,
    shutdown: &watch::Receiver<bool>,
) {
    if let Some(at) = ports.tcp {
        match TcpListener::bind(at).await {
            Ok(listener) => {
                info!("events over TCP on {at}");
                let down = stopped(shutdown.clone());
                let server = tcp::run(listener, shared.index.clone(), tcp::Limits::default(), down);
                tasks.serve("events over TCP", server);
            }
            Err(error) => shared.unavailable("events over TCP", Some(refused(at, &error))).await,
        }
    }
    if let Some(at) = ports.udp {
        match UdpSocket::bind(at).await {
            Ok(socket) => {
                info!("events over UDP on {at}");
                let down = stopped(shutdown.clone());
                let server = udp::run(socket, shared.index.clone(), decode::Caps::default(), down);
                tasks.serve("events over UDP", server);
            }
            Err(error) => shared.unavailable("events over UDP", Some(refused(at, &error))).await,
        }
    }
}

fn refused(at: SocketAddr, error: &std::io::Error) -> String {
    let key = "set another address under `events:` in host.yaml, or `off`";
    format!("cannot listen on {at}: {error}; {key}")
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
async fn stopped(mut down: watch::Receiver<bool>) {
    // An error is the sender's absence, which counts as well.
    let _ = down.wait_for(|down| *down).await;
}

/// Tells systemd, where it has started us.
pub(super) fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("systemd cannot be told how we are: {error}");
    }
}

//! The ways out: the system bus, systemd.

use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Shared, Tasks};
use crate::api::{self, bus, gate::PolkitGate};
use crate::ask::Asks;

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

/// Tells systemd, where it has started us.
pub(super) fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("systemd cannot be told how we are: {error}");
    }
}

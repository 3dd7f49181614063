//! The way in for people and programs: D-Bus, on two transports.
//!
//! Method calls come in, are turned into an [`Ask`](crate::ask::Ask), checked
//! for the right they need and sent to the daemon; its reply goes out as the
//! JSON document that `hostctl --json` prints. Changes of VMs go out as
//! signals.
//!
//! - [`names`]: the bus name, the object, the interfaces
//! - [`wire`]: asks, replies and refusals as they travel, for both sides
//! - [`dbus`]: the interfaces; one method is a few lines
//! - [`gate`]: who asks, and whether they may; how much at once
//! - [`socket`]: the private socket, `/run/hostd/control.sock`, peer to peer
//! - [`stream`]: the private socket's bytes, bounded
//! - [`bus`]: the system bus, found again when it is lost
//! - [`client`]: the other end; hostctl uses nothing else of this room but
//! - [`carry`]: the private socket through ssh, for `--host` and `--stdio`
//!
//! The two transports differ in one thing only, who may:
//!
//! ```text
//!   system bus      caller = sender of the message     polkit decides
//!   private socket  caller = credentials of the peer   uid 0 and group hostd act, all read
//! ```
//!
//! Read [`dbus`] first.

pub mod bus;
pub mod carry;
pub mod client;
pub mod dbus;
pub mod gate;
pub mod names;
pub mod socket;
pub mod stream;
pub mod wire;

#[cfg(test)]
mod fake;

use tokio::sync::{broadcast, watch};

use crate::ask::view::{VmState, VmView};
use crate::base::Name;

/// A VM has moved: what the signal `Changed` carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The VM.
    pub name: Name,
    /// Where it is now.
    pub state: VmState,
    /// Why it is in this state.
    pub reason: String,
    /// What the supervisor is doing; empty when at rest.
    pub step: String,
}

impl From<&VmView> for Change {
    fn from(vm: &VmView) -> Self {
        Self {
            name: vm.name.clone(),
            state: vm.state,
            reason: vm.reason.clone(),
            step: vm.step.clone(),
        }
    }
}

/// Where the daemon tells changes; whoever lags behind misses the oldest.
pub type Changes = broadcast::Sender<Change>;

/// Becomes true when the servers have to end; so does its sender's absence.
pub type Stop = watch::Receiver<bool>;

/// Returns when it is time to end.
async fn stopped(stop: &mut Stop) {
    // An error is the sender's absence, which counts as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

//! The way in for people and programs: D-Bus, on two transports, and HTTP.
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
//! - [`web`]: the HTTP port for people and Prometheus
//! - [`bus`]: the system bus, found again when it is lost
//! - [`mod@reference`]: the page of the D-Bus interfaces, made from them
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
pub mod reference;
pub mod socket;
pub mod stream;
pub mod web;
pub mod wire;

#[cfg(test)]
mod fake;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

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

/// Where the daemon tells how VMs are; whoever lags behind misses the oldest.
#[derive(Clone)]
pub struct Changes(Arc<Told>);

struct Told {
    /// What was told last of each.
    last: Mutex<BTreeMap<Name, VmView>>,
    tell: broadcast::Sender<VmView>,
}

impl Changes {
    /// A slow listener may lag behind by so many.
    pub fn new(lag: usize) -> Self {
        let (tell, _) = broadcast::channel(lag);
        Self(Arc::new(Told { last: Mutex::default(), tell }))
    }

    /// Remembers how a VM is, and tells those who listen.
    pub fn send(&self, vm: VmView) {
        self.know(vm.clone());
        // Nobody listening is fine.
        let _ = self.0.tell.send(vm);
    }

    /// Remembers how a VM is; nobody needs to be told.
    pub fn know(&self, vm: VmView) {
        let last = self.0.last.lock();
        // A panic elsewhere cannot leave a view half written.
        last.unwrap_or_else(PoisonError::into_inner).insert(vm.name.clone(), vm);
    }

    /// How all VMs are.
    fn now(&self) -> Vec<VmView> {
        let last = self.0.last.lock();
        last.unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What is told from now on.
    fn listen(&self) -> Listener {
        Listener { all: self.clone(), from: self.0.tell.subscribe() }
    }
}

/// One who listens to changes.
struct Listener {
    all: Changes,
    from: broadcast::Receiver<VmView>,
}

/// Becomes true when the servers have to end; so does its sender's absence.
pub type Stop = watch::Receiver<bool>;

/// Returns when it is time to end.
async fn stopped(stop: &mut Stop) {
    // An error is the sender's absence, which counts as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

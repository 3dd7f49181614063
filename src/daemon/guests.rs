//! `hostd --stop-guests`: what `hostd-guests.service` does when the host goes
//! down. hostd is asked to stop its VMs, so that cards and files are given back
//! in good order; VMs whose hostd is dead are stopped over QMP.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::api::client::{Client, Where};
use crate::ask::view::VmState;
use crate::ask::{Ask, Code, Reply};
use crate::base::Name;
use crate::config::Config;
use crate::host::Host;
use crate::vm::guests::{self, Stopped};

/// Beyond a guest's own time: what hostd takes to end QEMU and to give back.
const GRACE: Duration = Duration::from_secs(60);
/// For a VM whose file is gone or wrong.
const DEFAULT: Duration = Duration::from_secs(120);

/// Stops all VMs, together, each within its own time; the names of those that
/// are still there.
pub async fn stop_all(host: &Host, config: &Config) -> Vec<Name> {
    let given: BTreeMap<&Name, Duration> =
        config.vms.iter().map(|vm| (&vm.name, vm.stop.deadline)).collect();
    let mut stopping = JoinSet::new();
    for name in running(host).await {
        let given = given.get(&name).copied().unwrap_or(DEFAULT);
        info!(vm = %name, "stopping; it has {} s", given.as_secs());
        let host = host.clone();
        stopping.spawn(async move { (stop(&host, &name, given).await, name) });
    }
    let mut left = Vec::new();
    while let Some(done) = stopping.join_next().await {
        match done {
            Ok((None, name)) => info!(vm = %name, "off"),
            Ok((Some(why), name)) => {
                warn!(vm = %name, "still there: {why}");
                left.push(name);
            }
            Err(error) => warn!("a guest was given up: {error}"),
        }
    }
    left.sort();
    left
}

async fn client(host: &Host) -> Option<Client> {
    let socket = host.runtime.path("control.sock");
    Client::connect(&Where::Socket(socket)).await.ok()
}

/// What hostd says is running; without it, what it has noted.
async fn running(host: &Host) -> Vec<Name> {
    let asked = match client(host).await {
        Some(client) => client.ask(&Ask::VmList).await.ok(),
        None => None,
    };
    let Some(Reply::Vms(view)) = asked else {
        warn!("hostd does not answer: its guests are stopped without it");
        return guests::noted(host);
    };
    let rests = |state| matches!(state, VmState::Off | VmState::Crashed);
    view.vms.into_iter().filter(|vm| !rests(vm.state)).map(|vm| vm.name).collect()
}

/// Why it is still there, if it is.
async fn stop(host: &Host, name: &Name, given: Duration) -> Option<String> {
    if let Some(client) = client(host).await {
        let ask = Ask::VmStop { name: name.clone(), force: false };
        match timeout(given + GRACE, client.ask(&ask)).await {
            Ok(Ok(_)) => return None,
            // It is alive, and has said what became of the guest.
            Ok(Err(refusal)) if refusal.code == Code::Refused => return Some(refusal.message),
            Ok(Err(refusal)) => warn!(vm = %name, "{}", refusal.message),
            Err(_) => return Some("hostd did not stop it in time".to_owned()),
        }
    }
    match guests::stop(host, name, given).await {
        Stopped::NotThere | Stopped::Gone => None,
        Stopped::Stays(why) => Some(why),
    }
}

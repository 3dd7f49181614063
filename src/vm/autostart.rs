//! VMs that start with the host: in their order, once per boot.
//!
//! VMs of one order are started together, each after its delay; the next order
//! has its turn when they run or have failed. That it was done is noted in the
//! runtime folder, which a boot empties: a hostd that is restarted does not
//! start what a person has stopped.

use std::collections::BTreeMap;

use tokio::task::JoinSet;
use tracing::{info, warn};

use super::supervisor::VmHandle;
use crate::ask::view::VmState;
use crate::base::{Name, with_sources};
use crate::host::Host;

/// The note.
const DONE: &str = "autostarted";

/// Starts what is to start with the host, unless that was done in this boot.
pub async fn run(host: Host, vms: &BTreeMap<Name, VmHandle>) {
    let mut orders: BTreeMap<u32, Vec<VmHandle>> = BTreeMap::new();
    for vm in vms.values() {
        if let Some(autostart) = vm.vm().autostart {
            orders.entry(autostart.order).or_default().push(vm.clone());
        }
    }
    match host.runtime.read(DONE) {
        Ok(Some(_)) => return,
        Ok(None) => {}
        Err(error) => {
            // Better not at all than again and again.
            warn!("VMs are not started with the host: {}", with_sources(&error));
            return;
        }
    }
    if let Err(error) = host.runtime.write(DONE, "") {
        warn!("VMs are not started with the host: {}", with_sources(&error));
        return;
    }
    for (order, vms) in orders {
        let mut starts = JoinSet::new();
        for vm in vms {
            starts.spawn(start(order, vm));
        }
        while starts.join_next().await.is_some() {}
    }
}

async fn start(order: u32, vm: VmHandle) {
    let name = vm.vm().name.clone();
    let delay = vm.vm().autostart.map(|autostart| autostart.delay).unwrap_or_default();
    tokio::time::sleep(delay).await;
    // It may be here already, or must not: its supervisor has said why.
    let mut view = vm.watch();
    let known = view.wait_for(|view| view.step.is_empty()).await;
    match known.map(|view| view.state) {
        Ok(VmState::Off) => {}
        Ok(_) | Err(_) => return,
    }
    info!(vm = %name, order, "starting with the host");
    if let Err(refusal) = vm.start_because("with the host").await {
        warn!(vm = %name, "{}", refusal.message);
    }
}

//! Opening devices to a QEMU that is not root and lives in a scope: its user is
//! given the node for as long as it has the device ([`access`]), and the scope
//! is allowed it. A device that is plugged in again has another node, so a
//! running VM's devices are looked after by a [`Keeper`].
//!
//! The scope is told of more and more nodes and never of fewer; what was taken
//! back belongs to root again, and is closed by that.

use std::path::PathBuf;

use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::{plug, read};
use crate::ask::{Code, Refusal};
use crate::base::{Name, with_sources};
use crate::config::{UsbRef, Vm};
use crate::host::units::Property;
use crate::host::{Host, SysRoot};
use crate::vm::access::{self, Need};
use crate::vm::launch;
use crate::vm::qmp::Qmp;

/// Where the nodes are: a folder for each bus.
const NODES: &str = "/dev/bus/usb";

/// The nodes of those that are plugged in, without disks that the host uses:
/// QEMU would take them away under it.
pub fn nodes(sys: &SysRoot, wanted: &[UsbRef]) -> Vec<PathBuf> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let devices = read::devices(sys).unwrap_or_default();
    let fits = |device: &&read::UsbDevice| wanted.iter().any(|usb| device.is(usb));
    let free = devices.iter().filter(fits).filter(|device| device.busy.is_empty());
    free.map(read::UsbDevice::node).filter(|node| sys.exists(node)).collect()
}

/// Opens nodes to the QEMU of a VM that runs. It may be done again.
pub async fn open(host: &Host, vm: &Vm, nodes: &[PathBuf]) -> Result<(), Refusal> {
    if nodes.is_empty() {
        return Ok(());
    }
    let (there, vm, all) = (host.clone(), vm.clone(), nodes.to_vec());
    let scope = launch::scope_name(&vm.name);
    let given = tokio::task::spawn_blocking(move || {
        let (account, _) = launch::account(&there, &vm)?;
        let Some(account) = account else { return Ok(()) };
        let needs: Vec<_> = all.into_iter().map(Need::write).collect();
        access::grant(&there, &vm.name, &account, &needs).map(drop)
    });
    given.await.map_err(|error| Refusal::new(Code::Failed, error.to_string(), ""))??;
    let rights = nodes.iter().map(|node| (node.display().to_string(), "rw".to_owned()));
    let allow = [Property::DeviceAllow(rights.collect())];
    // Where there is no scope QEMU is in hostd's control group, which may open
    // all; whether it can open this one is seen when it tries.
    if let Err(error) = host.units.set_properties(&scope, &allow).await {
        debug!(scope, "{}", with_sources(&error));
    }
    Ok(())
}

/// Takes nodes back from a QEMU that has let go of them.
pub async fn close(host: &Host, vm: &Name, nodes: Vec<PathBuf>) -> Result<(), Refusal> {
    let (host, vm) = (host.clone(), vm.clone());
    let back = tokio::task::spawn_blocking(move || access::take_back_some(&host, &vm, &nodes));
    back.await.map_err(|error| Refusal::new(Code::Failed, error.to_string(), ""))?
}

/// Looks after the devices of a VM that runs: opens those that come to it.
#[derive(Default)]
pub struct Keeper {
    /// The nodes there were at the last look: a device that is plugged in again
    /// has another number.
    seen: Option<Vec<String>>,
    /// What is being done; whether it was done.
    doing: Option<JoinHandle<bool>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(doing) = &self.doing {
            doing.abort();
        }
    }
}

impl Keeper {
    /// To be called every two seconds, which is how often QEMU looks: it gives
    /// a device up that it could not open three times (`usb_host_auto_check` in
    /// QEMU's `hw/usb/host-libusb.c`). Does nothing while nothing has changed,
    /// and lets nobody wait.
    pub async fn look(&mut self, host: &Host, vm: &Vm, qmp: &Qmp) {
        if let Some(doing) = &mut self.doing {
            if !doing.is_finished() {
                return;
            }
            if !matches!(doing.await, Ok(true)) {
                self.seen = None;
            }
            self.doing = None;
        }
        let now = listed(&host.sys);
        if self.seen.as_ref() == Some(&now) {
            return;
        }
        self.seen = Some(now);
        let (host, vm, qmp) = (host.clone(), vm.clone(), qmp.clone());
        self.doing = Some(tokio::spawn(async move {
            let Ok(names) = plug::attached(&qmp).await else { return false };
            let wanted: Vec<_> = names.iter().filter_map(|name| plug::reference(name)).collect();
            if wanted.is_empty() {
                return true;
            }
            let sys = host.sys.clone();
            let nodes = tokio::task::spawn_blocking(move || nodes(&sys, &wanted)).await;
            match open(&host, &vm, &nodes.unwrap_or_default()).await {
                Ok(()) => true,
                Err(refusal) => {
                    warn!(vm = %vm.name, "{}", refusal.message);
                    false
                }
            }
        }));
    }
}

/// All nodes, as `001/014`.
fn listed(sys: &SysRoot) -> Vec<String> {
    let buses = sys.list(NODES).unwrap_or_default();
    let one = |bus: &String| {
        let nodes = sys.list(format!("{NODES}/{bus}")).unwrap_or_default();
        nodes.into_iter().map(move |node| format!("{bus}/{node}")).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = buses.iter().flat_map(one).collect();
    all.sort_unstable();
    all
}

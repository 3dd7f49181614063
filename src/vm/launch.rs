//! How QEMU is started: as whom, in which scope, and with what open to it.
//!
//! ```text
//! account ─▶ folders, owners ─▶ tap ─▶ QEMU and swtpm, held back ─▶ scope ─▶ go
//! ```
//!
//! Each step notes what it is about to do in the VM's runtime folder.
//! [`give_back`] undoes it by those notes alone: after a start that has failed,
//! after the end of QEMU, and after a hostd that was killed in between; again
//! and again, if need be.

use std::ffi::OsString;
use std::path::Path;

use super::access::{self, Need};
use super::{companion, paths, usb};
use crate::ask::{Code, Refusal};
use crate::base::{Name, PciAddress, with_sources};
use crate::config::{Accel, Display, Firmware, Network, Sound, Viewers, Vm};
use crate::host::launch::{Account, Launch};
use crate::host::owner::{Access, Node};
use crate::host::process::Process;
use crate::host::run::Started;
use crate::host::units::{Property, Scope};
use crate::host::{Command, Host, owner, tap, users};

/// The user that QEMU runs as where the VM's file names none; the package
/// makes it.
pub const USER: &str = "hostd-vm";
/// All VMs are below this.
pub const SLICE: &str = "hostd-vms.slice";
/// The note of the tap.
const TAP: &str = "tap";

/// A QEMU that was let go.
pub struct Begun {
    /// The process.
    pub started: Started,
    /// Its TPM, if it has one.
    pub tpm: Option<Box<dyn Process>>,
    /// What to know about it.
    pub warnings: Vec<String>,
}

/// The name of a VM's scope.
pub fn scope_name(vm: &Name) -> String {
    format!("hostd-vm-{vm}.scope")
}

/// As whom a VM's QEMU runs; nothing is as hostd itself. With what is to be
/// known about it. Looks into the user database: blocks.
pub fn account(host: &Host, vm: &Vm) -> Result<(Option<Account>, Option<String>), Refusal> {
    let name = &vm.name;
    let look = |user: &str| {
        users::account(user).map_err(|error| {
            let message = format!("`{name}`: the user database cannot be read: {error}");
            Refusal::new(Code::Failed, message, "")
        })
    };
    match vm.user.as_deref() {
        Some("root" | "0") if users::is_root() => Ok((None, None)),
        Some(user) if users::is_root() => {
            let account = look(user)?.ok_or_else(|| {
                let message = format!("`{name}`: there is no user `{user}` on this host");
                let hint = "make it, or correct `user:` in the VM's file";
                Refusal::new(Code::Refused, message, hint)
            })?;
            Ok((Some(account), None))
        }
        Some(user) => {
            let why = format!("hostd is not root: QEMU runs as hostd does, and not as `{user}`");
            Ok((None, Some(why)))
        }
        // A fake machine's users are not ours.
        None if !users::is_root() || !host.sys.is_real() => Ok((None, None)),
        None => {
            let account = look(USER)?;
            let root = || format!("there is no user `{USER}`: QEMU runs as root");
            let warning = account.is_none().then(root);
            Ok((account, warning))
        }
    }
}

/// What a VM's QEMU opens, beside what everybody may.
pub fn needs(host: &Host, vm: &Vm, functions: &[PciAddress]) -> Vec<Need> {
    let mut needs = vec![Need::write(host.runtime.path(paths::name(&vm.name, paths::QEMU)))];
    if vm.accel == Accel::Kvm {
        needs.push(Need::shared("/dev/kvm"));
    }
    match &vm.firmware {
        Firmware::Ovmf { code, .. } => {
            needs.push(Need::read(code));
            needs.push(Need::write(host.state.path(paths::name(&vm.name, paths::VARS))));
        }
        Firmware::Seabios { .. } => {}
    }
    for disk in &vm.disks {
        let reads = disk.readonly || disk.cdrom;
        needs.push(if reads { Need::read(&disk.path) } else { Need::write(&disk.path) });
    }
    needs.extend(vm.gpu_options.rom.as_ref().map(Need::read));
    let nvme = vm.nvme.iter().map(|nvme| nvme.address);
    let groups: Vec<String> = functions
        .iter()
        .copied()
        .chain(nvme)
        .filter_map(|function| {
            let link = format!("/sys/bus/pci/devices/{function}/iommu_group");
            host.sys.link_name(link).ok()
        })
        .collect();
    if !groups.is_empty() {
        needs.push(Need::shared("/dev/vfio/vfio"));
        needs.extend(groups.iter().map(|group| Need::write(Path::new("/dev/vfio").join(group))));
    }
    needs.extend(vm.evdev.iter().flat_map(|evdev| &evdev.devices).map(Need::write));
    // The kernel's part in a bridged network; slower without, but it works.
    let vhost = Node::open(&host.sys.path("/dev/vhost-net")).and_then(|node| node.owner());
    if vm.accel == Accel::Kvm
        && matches!(vm.network, Network::Bridge(_) | Network::Tap(_))
        && vhost.is_ok_and(|owner| owner.group_allows(Access::Write))
    {
        needs.push(Need::shared("/dev/vhost-net"));
    }
    if vm.looking_glass.is_some() && host.sys.exists("/dev/kvmfr0") {
        needs.push(Need::write("/dev/kvmfr0"));
    }
    if vm.sound == Sound::Alsa {
        let nodes = host.sys.list("/dev/snd").unwrap_or_default();
        let nodes = nodes.iter().filter(|node| !node.starts_with("by-"));
        needs.extend(nodes.map(|node| Need::shared(Path::new("/dev/snd").join(node))));
    }
    // Those that come later are given when they come: see `usb::open`.
    needs.extend(usb::open::nodes(&host.sys, &vm.usb).into_iter().map(Need::write));
    match &vm.display {
        Display::Spice(Viewers::Tcp { password_file: Some(file), .. })
        | Display::Vnc(Viewers::Tcp { password_file: Some(file), .. }) => {
            needs.push(Need::read(file));
        }
        Display::Off | Display::Spice(_) | Display::Vnc(_) => {}
    }
    let mut seen = Vec::new();
    // Functions of one card may share a group.
    needs.retain(|need| {
        let new = !seen.contains(&need.path);
        seen.push(need.path.clone());
        new
    });
    needs
}

/// The scope of a VM, with these things open to it.
pub fn scope(host: &Host, vm: &Vm, needs: &[Need]) -> Scope {
    let own = &vm.resources;
    let most = own.memory_overhead.map(|more| vm.memory.0.saturating_add(more.0));
    let properties = [
        own.cpu_weight.map(|weight| Property::CpuWeight(weight.into())),
        own.io_weight.map(|weight| Property::IoWeight(weight.into())),
        most.map(Property::MemoryMax),
    ];
    let mut devices: Vec<_> = needs
        .iter()
        .filter_map(|need| host.sys.resolve(&need.path).ok())
        .filter(|path| path.starts_with("/dev") && !path.starts_with("/dev/shm"))
        .collect();
    match vm.network {
        Network::Bridge(_) | Network::Tap(_) => {
            devices.push("/dev/net/tun".into());
        }
        Network::None | Network::User => {}
    }
    Scope {
        name: scope_name(&vm.name),
        slice: SLICE.to_owned(),
        description: format!("Virtual machine {}", vm.name),
        properties: properties.into_iter().flatten().collect(),
        devices: Some(devices),
    }
}

/// The files of the VM's runtime folder that QEMU writes and hostd reads. They
/// are made beforehand, in hostd's folder: a QEMU that was taken over cannot
/// put a link in their place.
fn logs(vm: &Vm) -> impl Iterator<Item = &'static str> {
    let firmware = vm.firmware == Firmware::Seabios { log: true };
    let logs = [(firmware, paths::FIRMWARE_LOG), (vm.serial, paths::SERIAL_LOG)];
    logs.into_iter().filter_map(|(wanted, log)| wanted.then_some(log))
}

/// What is laid out before there is a process.
struct Laid {
    account: Option<Account>,
    scope: Scope,
    warnings: Vec<String>,
}

fn lay_out(host: &Host, vm: &Vm, functions: &[PciAddress]) -> Result<Laid, Refusal> {
    let name = &vm.name;
    let failed = |why: String| {
        let hint = "look for free space and rights in hostd's folders";
        Refusal::new(Code::Failed, why, hint)
    };
    let (account, warning) = account(host, vm)?;
    let runtime = |file| host.runtime.path(paths::name(name, file));
    host.runtime.make_dir(paths::folder(name)).map_err(|error| failed(with_sources(&error)))?;
    owner::own_folder(&runtime(paths::QEMU), account.as_ref())
        .and_then(|()| {
            logs(vm).try_for_each(|log| owner::own_file(&runtime(log), account.as_ref()))
        })
        .map_err(|error| failed(format!("the folder of `{name}` cannot be laid out: {error}")))?;
    let mut needs = needs(host, vm, functions);
    if vm.tpm {
        needs.push(Need::write(companion::lay_out(host, name, account.as_ref()).map_err(failed)?));
    }
    let scope = scope(host, vm, &needs);
    let account = match account {
        None => None,
        Some(account) => Some(access::grant(host, name, &account, &needs)?),
    };
    if let Network::Bridge(bridge) = &vm.network {
        make_tap(host, name, account.as_ref(), bridge)?;
    }
    Ok(Laid { account, scope, warnings: warning.into_iter().collect() })
}

fn make_tap(
    host: &Host,
    vm: &Name,
    account: Option<&Account>,
    bridge: &str,
) -> Result<(), Refusal> {
    // A fake machine's bridges are not ours.
    if !host.sys.is_real() {
        return Ok(());
    }
    let tap = paths::tap_name(vm);
    host.runtime
        .write(paths::name(vm, TAP), &tap)
        .map_err(|error| Refusal::new(Code::Failed, with_sources(&error), ""))?;
    tap::make(&tap, account.map_or(0, |account| account.uid), bridge).map_err(|error| {
        let message = format!("`{vm}` cannot be joined to its network: {}", with_sources(&error));
        Refusal::new(Code::Failed, message, "look at the host's bridges: ip link show type bridge")
    })
}

/// Starts a VM's QEMU with these arguments, its processors halted by them. What
/// a start that fails has done is undone by [`give_back`], as for one that ran.
pub async fn start(
    host: &Host,
    vm: &Vm,
    functions: &[PciAddress],
    args: Vec<OsString>,
) -> Result<Begun, Refusal> {
    let (there, own, lent) = (host.clone(), vm.clone(), functions.to_vec());
    let laid = tokio::task::spawn_blocking(move || lay_out(&there, &own, &lent)).await;
    let laid = laid.map_err(|error| {
        Refusal::new(Code::Failed, format!("work on files ended early: {error}"), "")
    })?;
    let Laid { account, scope, mut warnings } = laid?;
    let tpm = if vm.tpm { Some(companion::hold(host, &vm.name, account.as_ref())?) } else { None };
    let log = host.runtime.path(paths::name(&vm.name, paths::LOG));
    let launch = Launch {
        account,
        // All of the guest's memory is locked for its devices.
        memlock: vm.has_host_devices().then_some(u64::MAX),
        ..Launch::plain(Command::new(&vm.qemu, args), log)
    };
    let qemu = host.runner.hold(launch).map_err(|error| {
        Refusal::new(Code::Failed, with_sources(&error), "look at `qemu:` in the VM's file")
    })?;
    let pids: Vec<u32> = tpm.iter().map(|tpm| tpm.pid).chain([qemu.pid]).collect();
    match host.units.scope(&scope, &pids).await {
        Ok(()) => {}
        Err(error) if error.is_absent() => {
            tracing::debug!(vm = %vm.name, "{}", with_sources(&error));
            warnings.push("no systemd: QEMU is in hostd's control group".to_owned());
        }
        Err(error) => {
            let message = format!("it gets no scope: {}", with_sources(&error));
            return Err(Refusal::new(Code::Failed, message, "look at: journalctl -b _PID=1"));
        }
    }
    let tpm = match tpm {
        None => None,
        Some(tpm) => Some(companion::go(host, &vm.name, tpm).await?),
    };
    Ok(Begun { started: qemu.go(), tpm, warnings })
}

/// Undoes what [`start`] has done for a VM, whoever did it; QEMU is gone.
pub async fn give_back(host: &Host, vm: &Name) -> Result<(), Refusal> {
    companion::end(host, vm).await?;
    let (there, name) = (host.clone(), vm.clone());
    let back = tokio::task::spawn_blocking(move || {
        remove_tap(&there, &name)?;
        access::take_back(&there, &name)?;
        // Another user's QEMU could not open it.
        let shared = there.sys.delete(paths::looking_glass(&name));
        shared.map_err(|error| Refusal::new(Code::Failed, error.in_full(), ""))?;
        let folder = there.runtime.path(paths::name(&name, paths::QEMU));
        owner::remove_folder(&folder).map_err(|error| {
            let message = format!("{} cannot be removed: {error}", folder.display());
            Refusal::new(Code::Failed, message, "")
        })
    });
    let back = back.await;
    back.map_err(|error| {
        Refusal::new(Code::Failed, format!("work on files ended early: {error}"), "")
    })?
}

fn remove_tap(host: &Host, vm: &Name) -> Result<(), Refusal> {
    let note = paths::name(vm, TAP);
    let failed = |why: String| {
        let message = format!("the tap of `{vm}` cannot be removed: {why}");
        Refusal::new(Code::Failed, message, "look at: ip link show type tun")
    };
    let Some(tap) = host.runtime.read(&note).map_err(|error| failed(error.in_full()))? else {
        return Ok(());
    };
    // A half note is of a tap that was not made yet.
    if tap == paths::tap_name(vm) {
        tap::remove(&tap).map_err(|error| failed(with_sources(&error)))?;
    }
    host.runtime.remove(&note).map_err(|error| failed(with_sources(&error)))
}

#[cfg(test)]
mod tests;

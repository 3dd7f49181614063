//! USB devices of the host: what there is, and what a running guest is given.
//!
//! In: sysfs, the words of a person, and a conversation with QEMU. Out: a
//! [`UsbView`], or a device that was given or taken. What a VM has is not noted:
//! QEMU knows it, also after hostd was killed, and lets go of it when it ends.
//! That QEMU's user was given a device's node is: in [`super::access`]'s note.
//!
//! - [`read`]: the devices in sysfs, and whose they are
//! - [`choose`]: which of them a person means
//! - [`plug`]: QMP for one device
//! - [`open`]: who may open it
//!
//! Facts: the kernel's `Documentation/ABI/testing/sysfs-bus-usb`, QEMU's
//! `docs/system/devices/usb.rst`.

pub mod choose;
pub mod open;
pub mod plug;
pub mod read;

use std::collections::BTreeMap;

use crate::ask::view::{DoneView, UsbDeviceView, UsbView};
use crate::ask::{Code, Refusal};
use crate::base::{Name, with_sources};
use crate::config::{UsbRef, Vm};
use crate::host::{Host, SysRoot};

pub use self::read::UsbDevice;
use super::qmp::{Qmp, QmpError};

/// All devices, with the VMs that have them; `vms` are those that run, with
/// QEMU's number.
pub fn view(sys: &SysRoot, vms: &[(Name, u32)]) -> UsbView {
    match read::devices(sys) {
        Ok(devices) => {
            let users = read::users(sys, vms);
            let one = |device: &UsbDevice| seen(device, &users);
            UsbView { devices: devices.iter().map(one).collect(), notes: Vec::new() }
        }
        Err(error) => {
            let why = format!("USB devices cannot be read: {}", error.in_full());
            UsbView { devices: Vec::new(), notes: vec![why] }
        }
    }
}

fn seen(device: &UsbDevice, users: &BTreeMap<(u8, u16), Name>) -> UsbDeviceView {
    UsbDeviceView {
        id: device.id(),
        port: device.port(),
        name: device.name.clone(),
        serial: device.serial.clone(),
        drivers: device.drivers.clone(),
        used_by: users.get(&device.address()).cloned(),
    }
}

/// Gives a device to a running guest. `words` are an id, a port or a part of
/// its name; `vms` as for [`view`].
pub async fn attach(
    host: &Host,
    file: &Vm,
    qmp: &Qmp,
    words: &str,
    vms: &[(Name, u32)],
) -> Result<DoneView, Refusal> {
    let (sys, vms) = (host.sys.clone(), vms.to_vec());
    let look = tokio::task::spawn_blocking(move || {
        let devices = read::devices(&sys)?;
        Ok((devices, read::users(&sys, &vms)))
    });
    let (devices, users) = look.await.map_err(|error| failed(error.to_string()))?.map_err(
        |error: crate::host::sys::SysError| {
            failed(format!("USB devices cannot be read: {}", error.in_full()))
        },
    )?;
    let vm = &file.name;
    let (reference, device) = choose::choose(&devices, words)?;
    let label = device.label();
    if let Some(owner) = users.get(&device.address()).filter(|owner| *owner != vm) {
        let message = format!("{label} is used by VM `{owner}`");
        let hint = format!("hostctl vm detach {owner} usb {}", device.port());
        return Err(Refusal::new(Code::Refused, message, hint));
    }
    if let Some(disk) = device.busy.first() {
        let message = format!("{label} is a disk that the host uses ({disk})");
        return Err(Refusal::new(Code::Refused, message, format!("unmount {disk} first")));
    }
    // What it was given for another try stays its own.
    let had = users.get(&device.address()) == Some(vm);
    open::open(host, file, &[device.node()]).await?;
    let plugged = plug::attach(qmp, &reference).await;
    if plugged.is_err()
        && !had
        && let Err(refusal) = open::close(host, vm, vec![device.node()]).await
    {
        tracing::warn!(%vm, "{}", refusal.message);
    }
    let changed = match plugged {
        Ok(changed) => changed,
        Err(plug::Failure::Qmp(error)) => return Err(no_controller(vm, &label, &error)),
        Err(plug::Failure::NotOpened) => {
            let message = format!("QEMU could not open {label} for `{vm}`");
            let hint = format!(
                "`hostctl vm log {vm}` may say why: QEMU's user may not open it, or a program of the host has it"
            );
            return Err(Refusal::new(Code::Failed, message, hint));
        }
    };
    let message = if changed {
        format!("`{vm}` has {label} until it stops")
    } else {
        format!("`{vm}` had {label} already")
    };
    Ok(DoneView { changed, message, warnings: Vec::new() })
}

/// Takes a device from a running guest; it need not be plugged in any more.
pub async fn detach(host: &Host, vm: &Name, qmp: &Qmp, words: &str) -> Result<DoneView, Refusal> {
    let attached = plug::attached(qmp).await.map_err(|error| failed(with_sources(&error)))?;
    let sys = host.sys.clone();
    let devices = tokio::task::spawn_blocking(move || read::devices(&sys)).await;
    let devices = devices.ok().and_then(Result::ok).unwrap_or_default();
    let (ids, label) = names(&devices, words)?;
    let Some(id) = ids.iter().find(|id| attached.contains(id)) else {
        let message = format!("`{vm}` did not have {label}");
        return Ok(DoneView { changed: false, message, warnings: Vec::new() });
    };
    match plug::detach(qmp, id).await {
        Ok(()) => {
            let message = format!("{label} is back with the host");
            let is_it =
                |device: &&UsbDevice| plug::reference(id).is_some_and(|usb| device.is(&usb));
            let nodes = devices.iter().filter(is_it).map(UsbDevice::node).collect();
            let closed = open::close(host, vm, nodes).await;
            let warnings = closed.err().map(|refusal| refusal.message).into_iter().collect();
            Ok(DoneView { changed: true, message, warnings })
        }
        Err(error) => Err(failed(format!("`{vm}` keeps {label}: {}", with_sources(&error)))),
    }
}

/// QEMU's names that a person's words may stand for.
fn names(devices: &[UsbDevice], words: &str) -> Result<(Vec<String>, String), Refusal> {
    if let Ok((reference, device)) = choose::choose(devices, words) {
        let others = [UsbRef::Id(device.vendor, device.product), device.at_port()];
        let ids = std::iter::once(&reference).chain(&others).map(plug::id).collect();
        return Ok((ids, device.label()));
    }
    match choose::parse(words) {
        // It was pulled out.
        Some(reference) => Ok((vec![plug::id(&reference)], words.to_owned())),
        None => choose::choose(devices, words)
            .map(|(reference, device)| (vec![plug::id(&reference)], device.label())),
    }
}

fn failed(message: String) -> Refusal {
    Refusal::new(Code::Failed, message, "")
}

fn no_controller(vm: &Name, label: &str, error: &QmpError) -> Refusal {
    let message = format!("`{vm}` cannot be given {label}: {}", with_sources(error));
    let hint = match error {
        QmpError::Refused { desc, .. } if desc.contains("Bus '") => {
            "it was started without a USB controller: stop and start it"
        }
        QmpError::Refused { desc, .. }
            if desc.contains("no free port") || desc.contains("tried to attach") =>
        {
            "detach another device first"
        }
        _ => "",
    };
    Refusal::new(Code::Failed, message, hint)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make files")]
mod tests;

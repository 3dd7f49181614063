//! Devices of the host that a VM's file names.

use super::Problem;
use crate::base::with_sources;
use crate::config::{UsbRef, Vm};
use crate::host::Host;
use crate::host::sys::Kind;
use crate::vm::argv::MAX_NVME;

const USB: &str = "/sys/bus/usb/devices";

pub(super) fn check(host: &Host, vm: &Vm, about: &mut impl FnMut(&'static str, Vec<Problem>)) {
    let mut found = Vec::new();
    for nvme in &vm.nvme {
        if !host.sys.exists(format!("/sys/bus/pci/devices/{}", nvme.address)) {
            found.push(Problem::new(
                format!("there is no NVMe controller at {}", nvme.address),
                "`lspci -D | grep -i nvme` lists them; correct `nvme:`",
            ));
        }
    }
    if vm.nvme.len() > MAX_NVME {
        let what = format!("{} NVMe controllers are more than there are slots for", vm.nvme.len());
        found.push(Problem::new(what, format!("use at most {MAX_NVME}")));
    }
    about("disks", std::mem::take(&mut found));
    for path in vm.evdev.iter().flat_map(|evdev| &evdev.devices) {
        let next = "`ls /dev/input/by-id` lists them; correct `evdev:`";
        match host.sys.kind(path) {
            Ok(Kind::Char) => {}
            Ok(Kind::File | Kind::Folder | Kind::Block | Kind::Other) => {
                let what = format!("{} is no keyboard or mouse", path.display());
                found.push(Problem::new(what, next));
            }
            Err(error) => found.push(Problem::new(with_sources(&error), next)),
        }
    }
    about("evdev", found);
}

/// USB devices come and go.
pub(super) fn warnings(host: &Host, vm: &Vm) -> Vec<String> {
    if vm.usb.is_empty() {
        return Vec::new();
    }
    let Ok(names) = host.sys.list(USB) else {
        return vec![format!("which USB devices there are is not known: {USB} cannot be read")];
    };
    let id = |name: &String| {
        let part = |file: &str| {
            let text = host.sys.text(format!("{USB}/{name}/{file}")).ok()?;
            u16::from_str_radix(text.trim(), 16).ok()
        };
        Some((part("idVendor")?, part("idProduct")?))
    };
    let ids: Vec<(u16, u16)> = names.iter().filter_map(id).collect();
    let gone = vm.usb.iter().filter_map(|usb| match usb {
        UsbRef::Id(vendor, product) => {
            (!ids.contains(&(*vendor, *product))).then(|| format!("{vendor:04x}:{product:04x}"))
        }
        UsbRef::Port { bus, path } => {
            let name = format!("{bus}-{path}");
            (!names.contains(&name)).then(|| format!("at {name}"))
        }
    });
    gone.map(|usb| format!("USB device {usb} is not there: the guest gets it when it comes"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Evdev, Nvme, Toggle};
    use crate::host::fake::FakeHost;
    use crate::vm::tests::vm;

    #[test]
    fn what_is_not_there_is_named_and_usb_may_be_away() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.dir("/sys/bus/pci/devices/0000:04:00.0").unwrap();
        fake.file("/sys/bus/usb/devices/1-2/idVendor", "046d\n").unwrap();
        fake.file("/sys/bus/usb/devices/1-2/idProduct", "c52b\n").unwrap();
        fake.file("/dev/input/event3", "").unwrap();
        let nvme = |at: &str| Nvme { address: at.parse().unwrap(), boot: 0 };
        let port = |path: &str| UsbRef::Port { bus: 1, path: path.to_owned() };
        let vm = Vm {
            nvme: vec![nvme("04:00.0"), nvme("05:00.0")],
            usb: vec![UsbRef::Id(0x46d, 0xc52b), UsbRef::Id(1, 2), port("2"), port("3.1")],
            evdev: Some(Evdev {
                devices: vec!["/dev/input/event3".into(), "/dev/input/by-id/x-event-kbd".into()],
                toggle: Toggle::CtrlCtrl,
            }),
            ..vm()
        };
        let mut found = Vec::new();
        check(&fake.host(), &vm, &mut |_, problems| found.extend(problems));
        let found = found.into_iter().map(|problem| problem.what);
        let found: Vec<String> = found.chain(warnings(&fake.host(), &vm)).collect();
        insta::assert_snapshot!(found.join("\n"), @r"
        there is no NVMe controller at 0000:05:00.0
        /dev/input/event3 is no keyboard or mouse
        /dev/input/by-id/x-event-kbd does not exist
        USB device 0001:0002 is not there: the guest gets it when it comes
        USB device at 1-3.1 is not there: the guest gets it when it comes
        ");
        fake.remove("/sys/bus/usb").unwrap();
        assert!(warnings(&fake.host(), &vm)[0].contains("not known"));
    }
}

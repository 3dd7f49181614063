//! What a start needs and leaves, on a machine made of values.

use super::*;
use crate::base::Bytes;
use crate::config::{Disk, Evdev, Nvme, Resources, Toggle, UsbRef};
use crate::host::fake::{FakeHost, FakeRunner};
use crate::host::run::{Exit, Output};

fn gaming(host: &FakeHost) -> Vm {
    host.link("/sys/bus/pci/devices/0000:01:00.0/iommu_group", "/sys/kernel/iommu_groups/11")
        .unwrap();
    host.link("/sys/bus/pci/devices/0000:02:00.0/iommu_group", "/sys/kernel/iommu_groups/12")
        .unwrap();
    for node in ["kvm", "vfio/vfio", "vfio/11", "vfio/12", "zd0", "input/event3"] {
        host.file(&format!("/dev/{node}"), "").unwrap();
    }
    host.link("/dev/zvol/tank/win", "/dev/zd0").unwrap();
    host.file("/srv/virtio.iso", "").unwrap();
    for (port, number, vendor) in [("1-1", "4", "0001"), ("1-2", "5", "0009")] {
        let files = [("idVendor", vendor), ("idProduct", "0002"), ("devnum", number)];
        for (file, text) in files {
            host.file(&format!("/sys/bus/usb/devices/{port}/{file}"), text).unwrap();
        }
        host.file(&format!("/dev/bus/usb/001/00{number}"), "").unwrap();
    }
    let iso = Disk { cdrom: true, ..Disk::plain("/srv/virtio.iso", 2) };
    let evdev = Evdev { devices: vec!["/dev/input/event3".into()], toggle: Toggle::CtrlCtrl };
    Vm {
        accel: Accel::Kvm,
        disks: vec![Disk::plain("/dev/zvol/tank/win", 1), iso],
        nvme: vec![Nvme { address: "02:00.0".parse().unwrap(), boot: 3 }],
        evdev: Some(evdev),
        usb: vec![UsbRef::Id(1, 2)],
        resources: Resources {
            cpu_weight: Some(200),
            io_weight: None,
            memory_overhead: Some(Bytes(1 << 20)),
        },
        ..crate::vm::tests::vm()
    }
}

fn card() -> Vec<PciAddress> {
    vec!["01:00.0".parse().unwrap()]
}

#[test]
fn needs_its_own_devices_and_files_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    let vm = gaming(&fake);
    let host = fake.host();
    let needs = needs(&host, &vm, &card());
    let mut words: Vec<String> = needs
        .iter()
        .skip(1)
        .map(|need| {
            let shared = if need.shared { " shared" } else { "" };
            format!("{:?} {}{shared}", need.access, need.path.display())
        })
        .collect();
    words.sort();
    assert_eq!(
        words,
        [
            "Read /srv/virtio.iso",
            "Write /dev/bus/usb/001/004",
            "Write /dev/input/event3",
            "Write /dev/kvm shared",
            "Write /dev/vfio/11",
            "Write /dev/vfio/12",
            "Write /dev/vfio/vfio shared",
            "Write /dev/zvol/tank/win",
        ]
    );
    let scope = scope(&host, &vm, &needs);
    assert_eq!(scope.name, "hostd-vm-gaming.scope");
    let most = vm.memory.0 + (1 << 20);
    assert_eq!(scope.properties, [Property::CpuWeight(200), Property::MemoryMax(most)]);
    let mut devices: Vec<_> =
        scope.devices.unwrap().iter().map(|node| node.display().to_string()).collect();
    devices.sort();
    assert_eq!(
        devices,
        [
            "/dev/bus/usb/001/004",
            "/dev/input/event3",
            "/dev/kvm",
            "/dev/vfio/11",
            "/dev/vfio/12",
            "/dev/vfio/vfio",
            "/dev/zd0",
        ]
    );
}

fn answers(runner: &FakeRunner) {
    runner.on(|_| {
        let (stdout, stderr) = (Vec::new(), Vec::new());
        Some(Ok(Output { exit: Exit::Code(0), stdout, stderr }))
    });
}

#[tokio::test]
async fn is_put_into_its_scope_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    answers(&fake.runner);
    let firmware = Firmware::Seabios { log: true };
    let (host, vm) = (fake.host(), Vm { firmware, serial: true, ..crate::vm::tests::vm() });
    let begun = start(&host, &vm, &[], vec!["-S".into()]).await.unwrap();
    assert_eq!(begun.warnings, ["no systemd: QEMU is in hostd's control group"]);
    fake.units.with(|state| state.there = true);
    let begun = start(&host, &vm, &[], vec!["-S".into()]).await.unwrap();
    assert!(begun.warnings.is_empty() && begun.tpm.is_none());
    let pid = begun.started.pid;
    fake.units.with(|state| {
        let (scope, pids) = &state.scopes[0];
        assert_eq!((scope.slice.as_str(), &pids[..]), (SLICE, &[pid][..]));
    });
    fake.units.with(|state| state.fails.push("make hostd-vm-gaming.scope".to_owned()));
    let refusal = start(&host, &vm, &[], Vec::new()).await.err().unwrap();
    insta::assert_snapshot!(refusal.message, @"it gets no scope: systemd could not make hostd-vm-gaming.scope: the job's result is `failed`");
    give_back(&host, &vm.name).await.unwrap();
    give_back(&host, &vm.name).await.unwrap();
    let left = host.runtime.list("vms/gaming").unwrap();
    assert_eq!(left, ["firmware.log", "serial.log"]);
}

#[test]
fn a_user_that_does_not_exist_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let host = FakeHost::new(dir.path()).host();
    let vm = |user: &str| Vm { user: Some(user.to_owned()), ..crate::vm::tests::vm() };
    if !users::is_root() {
        let (account, warning) = account(&host, &vm("root")).unwrap();
        assert!(account.is_none() && warning.unwrap().contains("hostd is not root"));
        return;
    }
    assert_eq!(account(&host, &vm("root")).unwrap(), (None, None));
    let refusal = account(&host, &vm("no-such-user")).unwrap_err();
    insta::assert_snapshot!(refusal.message, @"`gaming`: there is no user `no-such-user` on this host");
    let (nobody, _) = account(&host, &vm("nobody")).unwrap();
    assert_ne!(nobody.unwrap().uid, 0);
}

//! Parts of the line, and that no value becomes an option. Whole lines are in
//! `tests/qemu_argv.rs`, where QEMU takes them.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::base::{Bytes, PciAddress};
use crate::config::{
    Disk, DiskBus, Evdev, Firmware, GpuOptions, Hugepages, Pinning, Smbios, Toggle, Topology,
    UsbRef, Viewers,
};
use crate::vm::tests::{identity, paths, vm};

fn line(vm: &Vm) -> Vec<OsString> {
    with(vm, &Lent::default(), &Facts::default())
}

fn with(vm: &Vm, card: &Lent, facts: &Facts) -> Vec<OsString> {
    let start = Start { identity: &identity(), token: identity().uuid, card, facts };
    argv(vm, &paths(), &start)
}

fn text(vm: &Vm, card: &Lent, facts: &Facts) -> String {
    show(vm, &with(vm, card, facts))
}

fn card() -> Vec<PciAddress> {
    ["01:00.1", "01:00.0"].map(|text| text.parse().unwrap()).to_vec()
}

fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn a_lone_virtual_function_becomes_function_0() {
    let functions = vec!["0000:01:00.4".parse().unwrap()];
    let card = Lent { functions, ..Lent::default() };
    assert_has(
        &text(&vm(), &card, &Facts::default()),
        &["host=0000:01:00.4,id=gpu0,bus=gpu,addr=0x0.0,multifunction=on"],
    );
}

#[test]
fn a_card_as_its_vm_file_and_its_quirks_want_it() {
    let gpu_options = GpuOptions {
        rom: Some("/etc/hostd/roms/old, good.rom".into()),
        hide_hypervisor: true,
        ..GpuOptions::default()
    };
    let card = Lent { rom_off: card(), functions: card(), x_vga: true, ..Lent::default() };
    let facts = Facts::default();
    let wanted = Vm { gpu_options: gpu_options.clone(), ..vm() };
    assert_has(
        &text(&wanted, &card, &facts),
        &[
            "multifunction=on,x-vga=on,romfile=/etc/hostd/roms/old,, good.rom'",
            "addr=0x0.1,rombar=0",
            "-cpu max,kvm=off,hv-vendor-id=",
        ],
    );
    // The VM's file decides over the quirk; UEFI never wants legacy VGA.
    let off = GpuOptions { x_vga: Some(false), ..gpu_options };
    assert!(!text(&Vm { gpu_options: off, ..vm() }, &card, &facts).contains("x-vga"));
    let (code, vars) = ("/c".into(), "/v".into());
    let uefi = Vm { firmware: Firmware::Ovmf { code, vars, secure: false }, ..vm() };
    assert!(!text(&uefi, &card, &facts).contains("x-vga"));
}

#[test]
fn a_machine_without_a_version_is_the_one_it_first_started_with() {
    let kept = Identity { machine: Some("pc-q35-7.2".into()), ..identity() };
    let (card, facts) = (Lent::default(), Facts::default());
    let start = Start { identity: &kept, token: kept.uuid, card: &card, facts: &facts };
    let shown = |vm: &Vm| show(vm, &argv(vm, &paths(), &start));
    assert_has(&shown(&vm()), &["type=pc-q35-7.2"]);
    let chosen = Vm { machine: "pc-q35-6.0".into(), ..vm() };
    assert_has(&shown(&chosen), &["type=pc-q35-6.0"]);
}

#[test]
fn the_processor_of_each_case() {
    let kvm = || Vm { accel: Accel::Kvm, cpus: 4, ..vm() };
    let amd = Facts { amd: true, ..Facts::default() };
    let cpu = |vm: &Vm, facts: &Facts| {
        let args = with(vm, &Lent::default(), facts);
        let at = args.iter().position(|arg| arg == "-cpu").unwrap();
        args[at + 1].clone().into_string().unwrap()
    };
    let topology = Some(Topology { sockets: 1, dies: 1, cores: 2, threads: 2 });
    assert_eq!(cpu(&vm(), &amd), "max");
    assert_eq!(cpu(&kvm(), &amd), "host,migratable=off");
    let pinned = Vm { pinning: Pinning::Auto { leave: 1 }, topology, ..kvm() };
    assert_eq!(cpu(&pinned, &amd), "host,migratable=off,host-cache-info=on,topoext=on");
    assert_eq!(cpu(&pinned, &Facts::default()), "host,migratable=off,host-cache-info=on");
    let own = Vm { cpu: Some("EPYC,topoext=on".into()), ..pinned };
    assert_eq!(cpu(&own, &amd), "EPYC,topoext=on");
    let lent = Vm { gpu: Some(crate::config::GpuRef::Address(card()[0])), ..kvm() };
    assert_eq!(cpu(&lent, &amd), "host,migratable=off,+invtsc");
    // Windows' clocks need each other; in software QEMU refuses them.
    assert!(cpu(&Vm { hyperv: true, ..kvm() }, &amd).contains(",hv-time,hv-stimer,"));
    assert_eq!(cpu(&Vm { hyperv: true, ..vm() }, &amd), "max");
}

#[test]
fn the_kernel_moves_the_packets_where_it_can() {
    let facts = Facts { vhost: true, ..Facts::default() };
    let bridged = Vm { network: Network::Bridge("br0".into()), accel: Accel::Kvm, ..vm() };
    let tap = paths::tap_name(&bridged.name);
    let lent = Lent::default();
    assert_has(&text(&bridged, &lent, &facts), &[&format!("vhost=on,ifname={tap}")]);
    assert!(!text(&bridged, &lent, &Facts::default()).contains("vhost"));
    assert!(!text(&Vm { accel: Accel::Tcg, ..bridged }, &lent, &facts).contains("vhost"));
}

#[test]
fn a_disk_moves_no_other() {
    let disks = |n: u32| (1..=n).map(|n| Disk::plain(format!("/d{n}"), n)).collect::<Vec<_>>();
    let two = line(&Vm { disks: disks(2), ..vm() });
    let more = Vm {
        disks: disks(3),
        agent: crate::config::Agent { channel: true, ..Default::default() },
        sound: crate::config::Sound::Silent,
        looking_glass: Some(Bytes(32 << 20)),
        usb: vec![UsbRef::Id(1, 2)],
        ..vm()
    };
    let more = line(&more);
    assert!(two.iter().all(|arg| more.contains(arg)), "{two:?}\n{more:?}");
}

#[test]
fn slots_are_never_shared() {
    let vm = everything("x", &"/x".into(), MAX_DISKS);
    let card = Lent { functions: card(), ..Lent::default() };
    let args = with(&vm, &card, &Facts::default());
    let mut slots: Vec<String> = args
        .iter()
        .filter_map(|arg| arg.to_str()?.split_once("bus=pcie.0,addr="))
        .map(|(_, rest)| rest.split(',').next().unwrap().to_owned())
        .collect();
    // VGA beside card and network, one disk on a controller, and what has no port.
    let all = 1 + 2 + (MAX_DISKS - 1) + MAX_NVME + 7;
    assert_eq!(slots.len(), all);
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), all);
    assert!(!slots.contains(&"0x1f".to_owned()) && !slots.contains(&"0x0".to_owned()));
}

#[test]
fn odd_sizes_are_kept_to_the_byte() {
    assert_eq!(size(64 << 20), "64M");
    assert_eq!(size((64 << 20) + 1), "67108865B");
}

#[test]
fn usb_devices_have_names_that_qemu_takes() {
    assert_eq!(usb_id(&UsbRef::Id(0x46d, 0xc52b)), "usb-046d-c52b");
    let port = |path: &str| usb_id(&UsbRef::Port { bus: 1, path: path.into() });
    assert_eq!((port("1.4"), port("1,x")), ("usb-port-1-1.4".into(), "usb-port-1-1..".into()));
}

/// A VM with all that a file can say, every text and path of it `text`.
fn everything(text: &str, path: &PathBuf, disks: usize) -> Vm {
    let viewers = Viewers::Tcp {
        address: "127.0.0.1:5901".parse().unwrap(),
        password_file: Some(path.clone()),
    };
    let bus = |n: usize| if n == 0 { DiskBus::Scsi } else { DiskBus::Virtio };
    let said = || Some(text.to_owned());
    let disk = |n| Disk { bus: bus(n), serial: said(), ..Disk::plain(path.clone(), 0) };
    Vm {
        machine: text.to_owned(),
        uuid: said(),
        hugepages: Hugepages::Size(Bytes(2 << 20)),
        numa_node: Some(0),
        pinning: Pinning::Auto { leave: 1 },
        firmware: Firmware::Ovmf { code: path.clone(), vars: path.clone(), secure: true },
        gpu_options: GpuOptions { rom: Some(path.clone()), ..GpuOptions::default() },
        disks: (0..disks).map(disk).collect(),
        nvme: vec![crate::config::Nvme { address: card()[0], boot: 0 }; MAX_NVME],
        network: Network::Tap(text.to_owned()),
        usb: vec![UsbRef::Port { bus: 1, path: text.to_owned() }],
        evdev: Some(Evdev { devices: vec![path.clone()], toggle: Toggle::AltAlt }),
        looking_glass: Some(Bytes(32 << 20)),
        sound: crate::config::Sound::Silent,
        display: crate::config::Display::Spice(viewers),
        serial: true,
        tpm: true,
        agent: crate::config::Agent { channel: true, ..Default::default() },
        smbios: Smbios {
            manufacturer: said(),
            product: said(),
            version: said(),
            serial: said(),
            sku: said(),
            family: said(),
        },
        ..vm()
    }
}

/// What QEMU's parser makes of an option's text.
fn split(text: &str) -> Vec<String> {
    text.replace(",,", "\0").split(',').map(|part| part.replace('\0', ",")).collect()
}

/// The keys of every argument.
fn keys(args: &[OsString]) -> Vec<Vec<String>> {
    let key = |part: String| part.split('=').next().unwrap_or_default().to_owned();
    let keys = |arg: &OsString| split(&arg.to_string_lossy()).into_iter().map(key).collect();
    args.iter().map(keys).collect()
}

proptest! {
    /// Whatever stands in a text or path, the options and their keys are those
    /// of a VM with harmless ones.
    #[test]
    fn no_value_can_add_an_option(value in "[^\0]{1,24}") {
        let card = Lent { functions: card(), ..Lent::default() };
        let path = |value: &str| PathBuf::from(format!("/{value}"));
        let hostile = everything(&value, &path(&value), 2);
        let harmless = everything("x", &path("x"), 2);
        let of = |vm: &Vm| with(vm, &card, &Facts::default());
        let (hostile_args, harmless_args) = (of(&hostile), of(&harmless));
        prop_assert_eq!(hostile_args.len(), harmless_args.len());
        for ((hostile, harmless), arg) in
            keys(&hostile_args).iter().zip(&keys(&harmless_args)).zip(&hostile_args)
        {
            // These stand alone after their option.
            if arg != value.as_str() && !harmless[0].ends_with(&path("x").display().to_string()) {
                prop_assert_eq!(hostile, harmless);
            }
        }
    }

    /// The values arrive as they were.
    #[test]
    fn a_path_arrives_as_it_is(name in "/[^\0]{0,30}") {
        let vm = Vm { disks: vec![Disk::plain(name.clone(), 1)], ..vm() };
        let args = line(&vm);
        let wanted = format!("filename={name}");
        let arrived = args.iter().any(|arg| split(&arg.to_string_lossy()).contains(&wanted));
        prop_assert!(arrived);
    }
}

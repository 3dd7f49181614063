//! VM files: profiles, every key, and what two files must not share.

use std::fmt::Write as _;
use std::time::Duration;

use proptest::prelude::*;

use super::{CARD, exists, of_vm, said, two};
use crate::base::Bytes;
use crate::config::*;

fn built(text: &str) -> Vm {
    let (config, warnings) = load(&two(CARD, text), &exists).unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    config.vms.into_iter().next().unwrap()
}

/// A file in which every key is used.
const ALL: &str = "\
name: gaming
profile: windows-11
memory: 16G
hugepages: 2M
numa-node: 0
cpus: 8
topology: {cores: 4, threads: 2}
pinning:
  vcpus: [2, 10, 3, 11, 4, 12, 5, 13]
  emulator: 0-1
  iothreads: 1
gpu: {card: radeon, rom: /a.rom, resizable-bar: max, hide-hypervisor: true}
disks:
  - {path: /dev/zvol/tank/games, bus: scsi, cache: writeback, serial: games-1, boot: 2}
  - {nvme: 02:00.0, boot: 1}
  - /tank/iso/virtio.iso
  - {path: /a.img, cdrom: true, bus: scsi}
network: {bridge: br0, model: e1000e, mac: 52:54:00:AB:00:01}
usb: [046D:C52b, 1-2.3, {id: 1532:0084}, {port: 3-1}]
evdev: {devices: [/dev/input/by-id/k, /dev/input/by-id/m], toggle: scrolllock}
looking-glass: 64M
sound: spice
display: {kind: spice, listen: 0.0.0.0:5900, password-file: /etc/hostd/pw}
serial: true
agent: {silent-after: 2m}
firmware: {kind: ovmf, code: /c.fd, vars: /v.fd}
secure-boot: false
tpm: false
accel: kvm
machine: pc-q35-7.2
cpu: host
hyperv: false
clock: utc
qemu: /usr/bin/qemu-system-x86_64
qemu-args: [-device, 'edu,id=a b']
user: root
uuid: 550E8400-E29B-41D4-A716-446655440000
smbios: {manufacturer: 'A, Inc.', product: P, version: '1.0', serial: S, sku: K, family: F}
resources: {cpu-weight: 200, io-weight: 300, memory-overhead: 3G}
performance: {governor: keep, isolate: false, pause-scrub: false, stop-services: [a.service], reserve: 4G}
snapshots: {before-start: true, keep: 9}
autostart: {order: 3, delay: 90s}
on-crash: {restart: {times: 2, delay: 10s}}
hooks:
  before-start: [/bin/true, [/bin/sh, -c, 'a; b'], {run: [/bin/a, ''], deadline: 5s}]
  after-stop: [/bin/false]
stop: {deadline: 3m, then: quit}
";

#[test]
fn every_key_arrives() {
    let vm = built(ALL);
    assert_eq!(vm.profile, Some(Profile::Windows11));
    assert_eq!((vm.memory, vm.hugepages), (Bytes(16 << 30), Hugepages::Size(Bytes(2 << 20))));
    assert_eq!((vm.cpus, vm.numa_node), (8, Some(0)));
    let topology = Topology { sockets: 1, dies: 1, cores: 4, threads: 2 };
    assert_eq!(vm.topology, Some(topology));
    let vcpus = vec![2, 10, 3, 11, 4, 12, 5, 13];
    let exact = Pinning::Exact { vcpus, emulator: vec![0, 1], iothreads: vec![1] };
    assert_eq!(vm.pinning, exact);
    let [zvol, iso, image] = vm.disks.as_slice() else { panic!("{:?}", vm.disks) };
    assert_eq!((zvol.bus, zvol.cache, zvol.boot), (DiskBus::Scsi, DiskCache::Writeback, 2));
    assert_eq!(zvol.serial.as_deref(), Some("games-1"));
    assert_eq!((iso.cdrom, iso.readonly, iso.bus, iso.boot), (true, true, DiskBus::Sata, 3));
    assert_eq!(
        (image.cdrom, image.readonly, image.bus, image.boot),
        (true, true, DiskBus::Scsi, 4)
    );
    assert_eq!(vm.nvme, [Nvme { address: "02:00.0".parse().unwrap(), boot: 1 }]);
    assert_eq!(vm.network, Network::Bridge("br0".to_owned()));
    let mac = Some([0x52, 0x54, 0, 0xab, 0, 1]);
    assert_eq!(vm.nic, Nic { model: NicModel::E1000e, mac });
    assert_eq!(vm.usb.len(), 4);
    assert_eq!(vm.usb[0], UsbRef::Id(0x046d, 0xc52b));
    assert_eq!(
        vm.evdev.as_ref().map(|e| (e.devices.len(), e.toggle)),
        Some((2, Toggle::ScrollLock))
    );
    assert_eq!((vm.looking_glass, vm.sound), (Some(Bytes(64 << 20)), Sound::Spice));
    let Display::Spice(Viewers::Tcp { address, password_file }) = &vm.display else {
        panic!("{:?}", vm.display)
    };
    assert_eq!((address.port(), password_file.is_some()), (5900, true));
    assert!(vm.serial && !vm.tpm && !vm.hyperv && vm.clock == GuestClock::Utc);
    assert_eq!(vm.agent, Agent { channel: true, silent_after: Duration::from_secs(120) });
    let (code, vars) = ("/c.fd".into(), "/v.fd".into());
    assert_eq!(vm.firmware, Firmware::Ovmf { code, vars, secure: false });
    assert_eq!(vm.qemu_args, ["-device", "edu,id=a b"]);
    assert_eq!(vm.user.as_deref(), Some("root"));
    assert_eq!(vm.uuid.as_deref(), Some("550e8400-e29b-41d4-a716-446655440000"));
    assert_eq!(vm.smbios.manufacturer.as_deref(), Some("A, Inc."));
    assert_eq!(vm.resources.memory_overhead, Some(Bytes(3 << 30)));
    let performance = vm.performance.as_ref().unwrap();
    assert_eq!((performance.governor.as_deref(), performance.isolate), (None, false));
    assert_eq!((performance.stop_services.len(), performance.reserve), (1, Bytes(4 << 30)));
    assert_eq!(vm.snapshots, Snapshots { before_start: true, keep: 9 });
    assert_eq!(vm.autostart, Some(Autostart { order: 3, delay: Duration::from_secs(90) }));
    assert_eq!(vm.on_crash, OnCrash::Restart { times: 2, delay: Duration::from_secs(10) });
    let [plain, words, full] = vm.hooks.before_start.as_slice() else { panic!("{:?}", vm.hooks) };
    assert_eq!((plain.run.len(), plain.deadline), (1, Duration::from_secs(30)));
    assert_eq!(words.run, ["/bin/sh", "-c", "a; b"]);
    assert_eq!((full.run.len(), full.deadline), (2, Duration::from_secs(5)));
    assert_eq!(vm.hooks.after_stop.len(), 1);
}

/// A key of the schema that nobody reads would be a promise that is not kept.
#[test]
fn the_file_above_has_every_key() {
    let given: Vec<&str> = ALL.lines().filter(|l| !l.starts_with(' ')).collect();
    for (key, _) in schema::keys(schema::vm()) {
        assert!(given.iter().any(|line| line.starts_with(&format!("{key}:"))), "{key}");
    }
    assert_eq!(schema::vm().get("x-later"), None);
}

#[test]
fn a_plain_file_is_a_plain_vm() {
    let plain = Vm::plain("gaming".parse().unwrap(), Bytes(1 << 30));
    assert_eq!(built("memory: 1G\n"), plain);
}

#[test]
fn a_profile_fills_what_is_not_said() {
    let mut all = String::new();
    for profile in ["windows-11", "windows-10", "windows-7", "linux"] {
        let vm = built(&format!("profile: {profile}\nmemory: 1G\ngpu: radeon\ndisks: [/a.raw]\n"));
        let plain = Vm::plain(vm.name.clone(), vm.memory);
        let (vm, plain) = (show::vm(&vm), show::vm(&plain));
        let _ = writeln!(all, "## {profile}");
        for (key, value) in vm.as_object().unwrap() {
            if plain[key] != *value {
                let _ = writeln!(all, "{key}: {value}");
            }
        }
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_is_said_goes_before_the_profile() {
    let vm = built(
        "profile: windows-11\nmemory: 1G\nsecure-boot: false\ntpm: false\nagent: false\nhyperv: false\n\
         clock: utc\n",
    );
    let Firmware::Ovmf { secure, code, .. } = &vm.firmware else { panic!("{:?}", vm.firmware) };
    assert!(!secure && code.ends_with("OVMF_CODE_4M.fd"));
    assert!(!vm.tpm && !vm.agent.channel && !vm.hyperv && vm.clock == GuestClock::Utc);
    let vm = built("profile: windows-11\nmemory: 1G\nfirmware: seabios\n");
    assert_eq!(vm.firmware, Firmware::Seabios { log: false });
    let vm = built("profile: windows-7\nmemory: 1G\nfirmware: ovmf\ngpu: radeon\n");
    assert_eq!(vm.gpu_options.x_vga, None, "a card's legacy VGA is for a BIOS");
}

#[test]
fn short_forms() {
    assert_eq!(built("memory: 1G\ntopology: {cores: 3, threads: 2}\n").cpus, 6);
    assert_eq!(built("memory: 1G\ntopology:\n").topology, None);
    let vm = built("memory: 1G\npinning: {vcpus: '4-7'}\n");
    assert_eq!(vm.cpus, 4);
    assert_eq!(built("memory: 1G\ncpus: 1\npinning: {vcpus: 4}\n").cpus, 1);
    assert_eq!(built("memory: 1G\npinning: auto\n").pinning, Pinning::Auto { leave: 1 });
    let vm =
        built("memory: 1G\npinning: auto\nperformance: true\nautostart: true\non-crash: restart\n");
    assert_eq!(vm.performance, Some(Performance::default()));
    assert_eq!(vm.autostart.map(|a| a.order), Some(100));
    assert!(matches!(vm.on_crash, OnCrash::Restart { times: 3, .. }));
    let vm = built("memory: 1G\nnetwork: {kind: user, model: e1000e}\ndisplay: vnc\nagent: true\n");
    assert_eq!((vm.network, vm.nic.model), (Network::User, NicModel::E1000e));
    assert_eq!((vm.display, vm.agent.channel), (Display::Vnc(Viewers::Socket), true));
    let vm = built("memory: 1G\ndisks: [/a, {path: /b, boot: 1}, /c]\n");
    assert_eq!(vm.disks.iter().map(|d| d.boot).collect::<Vec<_>>(), [2, 1, 3]);
    let vm = built("memory: 1G\ndisks: [{path: /a.iso, readonly: false}]\n");
    assert!(!vm.disks[0].cdrom && !vm.disks[0].readonly);
}

/// All at once, each with its place and what would be right.
#[test]
fn one_file_with_many_mistakes() {
    let text = "\
profile: windows-12
memory: 16000M
hugepages: 1G
cpus: 6
topology: {cores: 4, threads: 2}
pinning: {vcpus: [2, 3, 2, 9999], emulator: 0..1}
gpu: {card: 02:00.0}
disks:
  - {path: /a.raw, boot: 1, bus: ide}
  - {path: /a.raw, boot: 1}
  - {nvme: 02:00.1}
  - {path: /w.iso, bus: virtio, serial: a serial that is far too long}
network: {tap: tap0, mac: 53:54:00:00:00:01}
usb: [046d:c52b, {id: 046d:c52b}, mouse, {prt: 1-2}]
evdev: [/dev/missing/kbd, /dev/input/event3]
looking-glass: 48M
sound: spice
display: {kind: vnc, listen: 0.0.0.0:5900}
agent: yes
firmware: seabios
secure-boot: true
machine: pc
uuid: 550e8400e29b41d4a716446655440000
smbios: {manufacturer: \"a\\tb\"}
qemu-args: [-m, 512]
resources: {cpu-weight: 0, memory-overhead: 1M}
performance: {isolate: maybe, stop-services: [plex]}
snapshots: {keep: 0}
autostart: {delay: 2h}
on-crash: {restart: {times: 1000}}
hooks:
  before-start: [lights, [lights, on], [], {run: [/bin/a], deadline: 1h}]
  on-stop: [/bin/b]
";
    let said = of_vm(text);
    insta::assert_snapshot!(said);
}

#[test]
fn every_kind_of_mistake_in_the_guests_parts() {
    let cases = [
        ("topology alone", "topology: {sockets: 2}\n"),
        ("too many processors", "topology: {sockets: 64, cores: 1024}\n"),
        ("fewer pins", "cpus: 4\npinning: {vcpus: [0, 1]}\n"),
        ("no pins", "pinning: {vcpus: []}\n"),
        ("pins and emulator overlap", "pinning: {vcpus: 2-3, emulator: 3-4}\n"),
        ("pinning of another kind", "pinning: manual\n"),
        ("pinning as a list", "pinning: [2, 3]\n"),
        ("Secure Boot without SMM", "firmware: ovmf\nsecure-boot: true\nmachine: pc\n"),
        ("Secure Boot without UEFI", "secure-boot: true\n"),
        ("firmware misspelt", "firmware: ovfm\nsecure-boot: true\n"),
        ("CD-ROM to write", "disks: [{path: /a, cdrom: true, readonly: false}]\n"),
        ("same controller twice", "disks: [{nvme: 02:00.0}, {nvme: 02:00.0}]\n"),
        ("controller and format", "disks: [{nvme: 02:00.0, format: raw}]\n"),
        ("too many disks", &format!("disks: [{}]\n", "/a,".repeat(65))),
        ("card and controller", "gpu: radeon\ndisks: [{nvme: 01:00.1}]\n"),
        ("network in two ways", "network: {bridge: br0, tap: tap0}\n"),
        ("network of an unknown kind", "network: {kind: nat}\n"),
        ("long tap", "network: {tap: a-tap-with-a-long-name}\n"),
        ("dashes in an address", "network: {bridge: br0, mac: 52-54-00-00-00-01}\n"),
        ("no input devices", "evdev: []\n"),
        ("same input device twice", "evdev: [/dev/input/a, /dev/input/a]\n"),
        ("input device elsewhere", "evdev: {devices: [/dev/sda], toggle: caps}\n"),
        ("sound without SPICE", "sound: spice\n"),
        ("password for a socket", "display: {kind: spice, password-file: /pw}\n"),
        (
            "password missing",
            "display: {kind: vnc, listen: '[::]:5900', password-file: /missing}\n",
        ),
        ("listen without port", "display: {kind: vnc, listen: 127.0.0.1}\n"),
        ("nothing to isolate", "performance: true\n"),
        ("word for a switch", "performance: max\n"),
        (
            "same unit twice",
            "pinning: auto\nperformance: {stop-services: [a.service, a.service]}\n",
        ),
        ("shell in a hook", "hooks: {after-stop: [echo hello]}\n"),
        ("program missing", "hooks: {after-stop: [[/missing/a]]}\n"),
        ("silent at once", "agent: {silent-after: 1s}\n"),
        ("restart without end", "on-crash: always\n"),
        ("zero UUID", "uuid: 00000000-0000-0000-0000-000000000000\n"),
        ("no such user", "user: a b\n"),
    ];
    let mut all = String::new();
    for (what, text) in cases {
        let _ = writeln!(all, "## {what}\n{}\n", of_vm(&format!("memory: 1G\n{text}")));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn what_two_vms_must_not_share() {
    let one = "memory: 1G\nuuid: 550e8400-e29b-41d4-a716-446655440000\n\
               gpu: radeon\ndisks: [/a.raw, {nvme: 02:00.0}, /shared.iso]\nusb: [046d:c52b, 1-2]\n\
               evdev: [/dev/input/by-id/k]\nlooking-glass: 32M\n\
               network: {tap: tap0, mac: 52:54:00:00:00:01}\npinning: {vcpus: 2-5}\n\
               display: {kind: vnc, listen: 127.0.0.1:5900}\n";
    let other = one
        .replace("radeon", "{card: 01:00.1}")
        .replace("2-5", "4-7")
        .replace("k]", "m, /dev/input/by-id/k]");
    let sources = [
        Source::host("host.yaml", CARD),
        Source::vm("vms/one.yaml", one),
        Source::vm("vms/two.yaml", other),
    ];
    insta::assert_snapshot!(said(&sources));
    let config = judge(&sources, &exists).config.unwrap();
    assert_eq!(config.vms.len(), 1, "the second cannot be used");
    // Without what must differ, both may be there.
    let apart = "memory: 1G\ngpu: radeon\nusb: [1-2]\n";
    let sources =
        [Source::host("h", CARD), Source::vm("a.yaml", apart), Source::vm("b.yaml", apart)];
    let (config, warnings) = load(&sources, &exists).unwrap();
    assert_eq!((config.vms.len(), warnings.problems.len()), (2, 2), "{warnings}");
}

#[test]
fn shipped_vm_files_are_valid() {
    let files = [
        ("gaming.yaml", include_str!("../../../vm-configs/gaming.yaml")),
        ("gaming-install.yaml", include_str!("../../../vm-configs/gaming-install.yaml")),
        ("linux.yaml", include_str!("../../../vm-configs/linux.yaml")),
        ("tcg.yaml", include_str!("../../../vm-configs/tcg.yaml")),
    ];
    for (name, text) in files {
        let sources = [Source::host("host.yaml", CARD), Source::vm(name, text)];
        let (config, warnings) = load(&sources, &exists).unwrap_or_else(|p| panic!("{p}"));
        assert!(warnings.is_empty(), "{warnings}");
        assert_eq!(config.vms.len(), 1);
        // What is written in comments as `# key: value` is right too.
        let key = |line: &&str| {
            let line = line.strip_prefix("# ").unwrap_or_default();
            schema::keys(schema::vm()).any(|(key, _)| line.starts_with(&format!("{key}: ")))
        };
        for line in text.lines().filter(key).filter_map(|line| line.strip_prefix("# ")) {
            let (key, _) = line.split_once(':').unwrap_or_default();
            let rest: Vec<&str> =
                text.lines().filter(|l| !l.starts_with(&format!("{key}:"))).collect();
            let with = format!("{}\n{line}\n", rest.join("\n"));
            let sources = [Source::host("host.yaml", CARD), Source::vm(name, with.as_str())];
            load(&sources, &exists).unwrap_or_else(|p| panic!("{p}\n{with}"));
        }
    }
}

#[test]
fn what_is_shown_of_every_key_means_the_same() {
    for text in
        [ALL, "memory: 1G\n", "memory: 1500M\nprofile: windows-7\ngpu: radeon\nnetwork: none\n"]
    {
        again(&built(text));
    }
}

/// Shows a VM, reads it, and has the same.
fn again(vm: &Vm) {
    let config = Config { vms: vec![vm.clone()], ..Config::default() };
    let shown = show(&config);
    let (_, text) = shown.split_once("---\n").unwrap();
    let sources = two(CARD, text);
    let read = judge(&sources, &exists);
    let errors: Vec<_> = read.problems.errors().collect();
    assert!(errors.is_empty(), "{}\n{text}", read.problems);
    assert_eq!(read.config.unwrap().vms, std::slice::from_ref(vm), "{text}");
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(values.to_vec())
}

fn text() -> impl Strategy<Value = String> {
    one_of(&[
        "a", "true", "0x10", "1e3", "~", "a: b", "# c", "- d", "'", "\"", " e ", "off", "1-2",
        "{f", "é,=%",
    ])
    .prop_map(str::to_owned)
}

prop_compose! {
    fn processors()(
        count in 1u32..9,
        start in 0u32..8000,
        kind in 0u8..4,
        sockets in 1u32..3,
        emulator in prop::collection::btree_set(8100u32..8191, 0..3),
    ) -> (u32, Option<Topology>, Pinning) {
        let vcpus = (start..start + count * sockets).rev().collect();
        let emulator: Vec<u32> = emulator.into_iter().collect();
        let pinning = match kind {
            0 => Pinning::Off,
            1 => Pinning::Auto { leave: start % 1024 },
            _ => Pinning::Exact { vcpus, iothreads: emulator.iter().copied().rev().collect(), emulator },
        };
        let topology = Topology { sockets, dies: 1, cores: count, threads: 1 };
        (count * sockets, (kind % 2 == 0).then_some(topology), pinning)
    }
}

prop_compose! {
    fn some_disks()(
        boots in Just((1u32..=6).collect::<Vec<_>>()).prop_shuffle(),
        disks in prop::collection::vec((any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0u8..4), 0..4),
        nvme in 0u8..3,
    ) -> (Vec<Disk>, Vec<Nvme>) {
        let disk = |(i, (cdrom, readonly, qcow2, named, bus)): (usize, (bool, bool, bool, bool, u8))| Disk {
            path: format!("/d {i}.{}", if named { "iso" } else { "qcow2" }).into(),
            format: if qcow2 { DiskFormat::Qcow2 } else { DiskFormat::Raw },
            readonly: readonly || cdrom,
            cdrom,
            bus: match (bus, cdrom) {
                (0, false) => DiskBus::Virtio,
                (1, false) => DiskBus::Nvme,
                (2, _) => DiskBus::Scsi,
                _ => DiskBus::Sata,
            },
            cache: if qcow2 { DiskCache::Writeback } else { DiskCache::None },
            boot: boots[i],
            serial: named.then(|| "0123".to_owned()),
        };
        let nvme = (0..nvme).map(|i| Nvme {
            address: format!("0{}:00.0", i + 2).parse().unwrap(),
            boot: boots[4 + usize::from(i)],
        });
        (disks.into_iter().enumerate().map(disk).collect(), nvme.collect())
    }
}

prop_compose! {
    fn any_vm()(
        (cpus, topology, pinning) in processors(),
        (disks, nvme) in some_disks(),
        profile in one_of(&[None, Some(Profile::Windows11), Some(Profile::Windows10), Some(Profile::Windows7), Some(Profile::Linux)]),
        network in one_of(&[Network::User, Network::Bridge("1".into()), Network::Tap("true".into())]),
        nic in (one_of(&[NicModel::Virtio, NicModel::E1000e]), prop::option::of(Just([2u8, 0x34, 0, 1, 2, 3]))),
        firmware in one_of(&[
            Firmware::Seabios { log: true },
            Firmware::Seabios { log: false },
            Firmware::Ovmf { code: "/c # d".into(), vars: "/v".into(), secure: true },
            Firmware::Ovmf { code: "/c".into(), vars: "/v: e".into(), secure: false },
        ]),
        flags in prop::array::uniform8(any::<bool>()),
        texts in prop::collection::vec(text(), 4),
        args in prop::collection::vec(text(), 0..4),
        viewers in one_of(&[
            Display::Off,
            Display::Vnc(Viewers::Socket),
            Display::Spice(Viewers::Socket),
            Display::Spice(Viewers::Tcp { address: "[::1]:1".parse().unwrap(), password_file: None }),
            Display::Vnc(Viewers::Tcp { address: "0.0.0.0:5900".parse().unwrap(), password_file: Some("/p".into()) }),
        ]),
        sound in one_of(&[Sound::Off, Sound::Silent, Sound::Alsa, Sound::Pulse, Sound::Pipewire]),
        usb in prop::sample::subsequence(vec![UsbRef::Id(0x1234, 0x5678), UsbRef::Id(1, 0xe001), UsbRef::Port { bus: 1, path: "4".into() }, UsbRef::Port { bus: 200, path: "4.1.10".into() }], 0..4),
        toggle in one_of(&[Toggle::CtrlCtrl, Toggle::AltAlt, Toggle::ShiftShift, Toggle::MetaMeta, Toggle::ScrollLock, Toggle::CtrlScrollLock]),
        numbers in prop::array::uniform5(1u32..100),
    ) -> Vm {
        let name = "gaming".parse().unwrap();
        let [hyperv, tpm, serial, channel, huge, card, wide, restart] = flags;
        let bios = matches!(firmware, Firmware::Seabios { .. });
        let spice = matches!(viewers, Display::Spice(_)) && serial;
        let hooks = args.iter().map(|arg| Hook {
            run: vec!["/bin/a b".into(), arg.clone()],
            deadline: Duration::from_secs(numbers[0].into()),
        });
        // What the profile would fill in is only left out where it cannot be.
        let x_vga = (bios && card).then_some(tpm);
        Vm {
            profile,
            hugepages: if huge { Hugepages::Size(Bytes(2 << 20)) } else { Hugepages::Off },
            numa_node: wide.then_some(numbers[0]),
            cpus,
            topology,
            pinning,
            accel: if wide { Accel::Tcg } else { Accel::Kvm },
            cpu: wide.then(|| "max".to_owned()),
            hyperv,
            clock: if huge { GuestClock::Local } else { GuestClock::Utc },
            firmware,
            tpm,
            gpu: card.then(|| GpuRef::Name("radeon".parse().unwrap())),
            gpu_options: GpuOptions {
                x_vga,
                hide_hypervisor: card && hyperv,
                ..GpuOptions::default()
            },
            disks,
            nvme,
            network,
            nic: Nic { model: nic.0, mac: nic.1 },
            usb,
            evdev: channel.then(|| Evdev { devices: vec!["/dev/input/by-id/a b".into()], toggle }),
            looking_glass: huge.then_some(Bytes(1 << 30)),
            sound: if spice { Sound::Spice } else { sound },
            display: viewers,
            serial,
            agent: Agent {
                channel,
                silent_after: Duration::from_secs(if channel { u64::from(numbers[1]) + 5 } else { 60 }),
            },
            uuid: restart.then(|| "12345678-0000-4000-8000-00000000e001".to_owned()),
            smbios: Smbios {
                manufacturer: Some(texts[0].clone()).filter(|t| t.is_ascii()),
                product: Some(texts[1].clone()).filter(|t| t.is_ascii()),
                version: None,
                serial: Some(texts[2].clone()).filter(|t| t.is_ascii()),
                sku: None,
                family: Some(texts[3].clone()).filter(|t| t.is_ascii()),
            },
            hooks: Hooks { before_start: hooks.clone().collect(), after_stop: hooks.collect() },
            qemu_args: args,
            user: tpm.then(|| "root".to_owned()),
            resources: Resources {
                cpu_weight: tpm.then_some(numbers[2]),
                io_weight: card.then_some(numbers[3]),
                memory_overhead: wide.then_some(Bytes((64 << 20) + 1024)),
            },
            snapshots: Snapshots { before_start: tpm, keep: numbers[4] },
            autostart: serial.then(|| Autostart { order: numbers[0], delay: Duration::from_millis(numbers[1].into()) }),
            on_crash: if restart {
                OnCrash::Restart { times: numbers[2], delay: Duration::from_secs(numbers[3].into()) }
            } else {
                OnCrash::Stay
            },
            stop: Stop { deadline: Duration::from_secs(numbers[4].into()), then: AfterDeadline::Quit },
            performance: card.then(|| Performance {
                governor: wide.then(|| "schedutil".to_owned()),
                isolate: huge,
                pause_scrub: tpm,
                stop_services: vec!["a@b.service".to_owned()],
                reserve: Bytes(u64::from(numbers[0]) << 10),
            }),
            ..Vm::plain(name, Bytes(u64::from(numbers[0]) << 25))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_shown_of_any_vm_means_the_same(vm in any_vm()) {
        again(&vm);
    }

    #[test]
    fn keys_with_values_of_any_kind_are_judged(
        keys in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..8),
    ) {
        const VALUES: [&str; 14] = [
            "", "true", "off", "1", "99999999999", "1.5", "[]", "[[]]", "[~]", "{}", "{a: b}",
            "[1, {path: 2}, {nvme: 02:00.0}, {run: []}]", "{kind: spice, listen: 1}",
            "{restart: , vcpus: 5-1, devices: [a], delay: 1y}",
        ];
        let known: Vec<&str> = schema::keys(schema::vm()).map(|(key, _)| key).collect();
        let mut text = String::new();
        for (key, value) in keys {
            let _ = writeln!(text, "{}: {}", key.get(&known), value.get(&VALUES));
        }
        super::within(&judge(&[Source::vm("v.yaml", text.clone())], &exists).problems, &text)?;
    }
}

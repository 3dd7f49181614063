//! Command lines as they are, and the real QEMU of this machine taking them, in
//! software and with halted processors.
//!
//! `HOSTD_TEST_QEMU` names another QEMU to try.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests look at what is really there, and fail loudly"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hostd::base::{Bytes, PciAddress};
use hostd::config::{
    Accel, Agent, Disk, DiskBus, DiskCache, DiskFormat, Display, Evdev, Firmware, GpuOptions,
    GpuRef, GuestClock, Hugepages, Network, Nic, NicModel, Nvme, Pinning, Smbios, Sound, Toggle,
    Topology, UsbRef, Viewers, Vm,
};
use hostd::host::run::Exit;
use hostd::host::{Command, Host};
use hostd::vm::argv::{self, DiskFacts, Facts, Start};
use hostd::vm::devices::Lent;
use hostd::vm::identity::{Identity, Uuid};
use hostd::vm::paths::{self, Paths};

const UUID: &str = "6f9619ff-8b86-4011-b42d-00cf4fc964ff";
const GB: u64 = 1 << 30;

/// Where a case's files are: below `/srv`, or below a folder of ours.
struct Place(PathBuf);

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn disk(&self, name: &str, boot: u32) -> Disk {
        let format = if name.ends_with(".qcow2") { DiskFormat::Qcow2 } else { DiskFormat::Raw };
        Disk { format, ..Disk::plain(self.path(name), boot) }
    }

    fn cdrom(&self, name: &str, boot: u32) -> Disk {
        Disk { cdrom: true, ..self.disk(name, boot) }
    }
}

/// A VM, and what a start adds.
struct Case {
    name: &'static str,
    vm: Vm,
    card: Lent,
    facts: Facts,
    /// QEMU can be started with it here, whatever this machine has.
    runs: bool,
}

fn ovmf(secure: bool) -> Firmware {
    let keys = if secure { ".ms" } else { "" };
    Firmware::Ovmf {
        code: format!("/usr/share/OVMF/OVMF_CODE_4M{keys}.fd").into(),
        vars: format!("/usr/share/OVMF/OVMF_VARS_4M{keys}.fd").into(),
        secure,
    }
}

fn agent() -> Agent {
    Agent { channel: true, ..Agent::default() }
}

fn card() -> Lent {
    let functions = ["01:00.0", "01:00.1"].map(|at| at.parse::<PciAddress>().unwrap());
    Lent { functions: functions.to_vec(), ..Lent::default() }
}

fn gpu() -> Option<GpuRef> {
    Some(GpuRef::Name("radeon".parse().unwrap()))
}

fn tcp(port: u16, password: Option<PathBuf>) -> Viewers {
    Viewers::Tcp { address: ([127, 0, 0, 1], port).into(), password_file: password }
}

fn software(place: &Place, port: u16) -> Vec<Case> {
    let vm = || Vm {
        cpus: 1,
        accel: Accel::Tcg,
        network: Network::None,
        ..Vm::plain("gaming".parse().unwrap(), Bytes(64 << 20))
    };
    let case =
        |name, vm| Case { name, vm, card: Lent::default(), facts: Facts::default(), runs: true };
    let on = |bus, disk: Disk| Disk { bus, ..disk };
    let direct = |n| vec![DiskFacts { block: false, direct: true }; n];
    vec![
        case("smallest", vm()),
        case(
            "a_firmware_log_and_a_serial_port",
            Vm { firmware: Firmware::Seabios { log: true }, serial: true, ..vm() },
        ),
        case(
            "two_disks_behind_address_translation",
            Vm {
                network: Network::User,
                disks: vec![place.disk("a, b=c.img", 1), place.disk("games.qcow2", 2)],
                ..vm()
            },
        ),
        Case {
            facts: Facts { disks: direct(3), ..Facts::default() },
            ..case(
                "past_the_page_cache",
                Vm {
                    disks: vec![
                        place.disk("a.img", 1),
                        Disk { cache: DiskCache::Writeback, ..place.disk("b.img", 2) },
                        Disk { readonly: true, ..place.disk("c.img", 3) },
                    ],
                    ..vm()
                },
            )
        },
        case(
            "linux",
            Vm {
                firmware: ovmf(false),
                agent: agent(),
                serial: true,
                disks: vec![place.disk("root.qcow2", 1), place.cdrom("debian.iso", 2)],
                display: Display::Vnc(Viewers::Socket),
                network: Network::User,
                ..vm()
            },
        ),
        case(
            "windows_11_being_installed",
            Vm {
                firmware: ovmf(true),
                clock: GuestClock::Local,
                tpm: true,
                disks: vec![
                    on(DiskBus::Nvme, place.disk("windows.img", 2)),
                    on(DiskBus::Sata, place.cdrom("win11.iso", 1)),
                    on(DiskBus::Sata, place.cdrom("virtio-win.iso", 3)),
                ],
                nic: Nic { model: NicModel::E1000e, mac: Some([0x52, 0x54, 0, 1, 2, 3]) },
                network: Network::User,
                sound: Sound::Spice,
                display: Display::Spice(Viewers::Socket),
                agent: agent(),
                ..vm()
            },
        ),
        case(
            "disks_on_scsi",
            Vm {
                disks: vec![
                    on(DiskBus::Scsi, place.disk("a.img", 1)),
                    on(DiskBus::Scsi, place.cdrom("b.iso", 2)),
                    Disk {
                        serial: Some("W,1".into()),
                        ..on(DiskBus::Scsi, place.disk("c.img", 3))
                    },
                ],
                ..vm()
            },
        ),
        case(
            "all_ports_of_sata",
            Vm {
                disks: (1..=6)
                    .map(|n| on(DiskBus::Sata, place.disk(&format!("{n}.img"), n)))
                    .collect(),
                ..vm()
            },
        ),
        case(
            "disks_of_pinned_processors_have_threads",
            Vm {
                cpus: 4,
                pinning: Pinning::Auto { leave: 1 },
                topology: Some(Topology { sockets: 2, dies: 1, cores: 2, threads: 1 }),
                disks: vec![
                    place.disk("a.img", 1),
                    on(DiskBus::Scsi, place.disk("b.img", 2)),
                    Disk { serial: Some("games".into()), ..place.disk("c.img", 3) },
                ],
                ..vm()
            },
        ),
        case(
            "what_the_firmware_says",
            Vm {
                uuid: Some("00112233-4455-6677-8899-aabbccddeeff".into()),
                smbios: Smbios {
                    manufacturer: Some("Micro-Star, Ltd.".into()),
                    product: Some("MS-7B79".into()),
                    version: Some("2.0".into()),
                    serial: Some("type=2,x".into()),
                    sku: Some("sku".into()),
                    family: Some("family".into()),
                },
                ..vm()
            },
        ),
        case(
            "looking_glass_and_usb",
            Vm {
                looking_glass: Some(Bytes(32 << 20)),
                usb: vec![UsbRef::Id(0x046d, 0xc52b), UsbRef::Port { bus: 1, path: "1.4".into() }],
                ..vm()
            },
        ),
        case(
            "spice_with_a_password",
            Vm { display: Display::Spice(tcp(port, Some(place.path("pass, word")))), ..vm() },
        ),
        case(
            "vnc_with_a_password",
            Vm { display: Display::Vnc(tcp(port, Some(place.path("pass, word")))), ..vm() },
        ),
        case("memory_of_one_node", Vm { numa_node: Some(0), ..vm() }),
        case("a_sound_card_that_nobody_hears", Vm { sound: Sound::Silent, ..vm() }),
        case(
            "a_version_of_the_machine_and_words_for_qemu",
            Vm {
                machine: "pc-q35-7.2".into(),
                cpu: Some("qemu64,+ssse3".into()),
                qemu_args: vec!["-device".into(), "pvpanic".into()],
                ..vm()
            },
        ),
    ]
}

fn hardware(place: &Place) -> Vec<Case> {
    let vm = || Vm {
        cpus: 8,
        gpu: gpu(),
        topology: Some(Topology { sockets: 1, dies: 1, cores: 4, threads: 2 }),
        ..Vm::plain("gaming".parse().unwrap(), Bytes(16 * GB))
    };
    let case = |name, vm| Case { name, vm, card: card(), facts: Facts::default(), runs: false };
    let zvol = DiskFacts { block: true, direct: true };
    vec![
        Case {
            facts: Facts { vhost: true, amd: true, disks: vec![zvol], kvmfr: false },
            ..case(
                "windows_11",
                Vm {
                    hyperv: true,
                    clock: GuestClock::Local,
                    firmware: ovmf(true),
                    tpm: true,
                    hugepages: Hugepages::Size(Bytes(GB)),
                    numa_node: Some(0),
                    pinning: Pinning::Auto { leave: 2 },
                    disks: vec![place.disk("zvol", 1)],
                    nvme: vec![Nvme { address: "04:00.0".parse().unwrap(), boot: 2 }],
                    network: Network::Bridge("br0".into()),
                    usb: vec![UsbRef::Id(0x046d, 0xc52b)],
                    evdev: Some(Evdev {
                        devices: ["a-event-kbd", "b-event-mouse"]
                            .map(|name| Path::new("/dev/input/by-id").join(name))
                            .to_vec(),
                        toggle: Toggle::CtrlCtrl,
                    }),
                    agent: agent(),
                    ..vm()
                },
            )
        },
        case(
            "windows_10_with_looking_glass",
            Vm {
                hyperv: true,
                clock: GuestClock::Local,
                firmware: ovmf(false),
                hugepages: Hugepages::Size(Bytes(2 << 20)),
                looking_glass: Some(Bytes(64 << 20)),
                display: Display::Spice(Viewers::Socket),
                sound: Sound::Pipewire,
                disks: vec![place.disk("windows.qcow2", 1)],
                gpu_options: GpuOptions { hide_hypervisor: true, ..GpuOptions::default() },
                ..vm()
            },
        ),
        Case {
            card: Lent { x_vga: true, ..card() },
            ..case(
                "windows_7",
                Vm {
                    clock: GuestClock::Local,
                    topology: None,
                    firmware: Firmware::Seabios { log: true },
                    disks: vec![Disk { bus: DiskBus::Sata, ..place.disk("seven.img", 1) }],
                    nic: Nic { model: NicModel::E1000e, mac: None },
                    gpu_options: GpuOptions {
                        rom: Some("/etc/hostd/roms/radeon.rom".into()),
                        ..GpuOptions::default()
                    },
                    network: Network::Tap("tap7".into()),
                    ..vm()
                },
            )
        },
        Case {
            card: Lent::default(),
            facts: Facts { vhost: true, kvmfr: true, ..Facts::default() },
            ..case(
                "linux_with_kvm",
                Vm {
                    gpu: None,
                    firmware: ovmf(false),
                    looking_glass: Some(Bytes(64 << 20)),
                    network: Network::Bridge("br0".into()),
                    disks: vec![place.disk("root.qcow2", 1)],
                    agent: agent(),
                    serial: true,
                    ..vm()
                },
            )
        },
    ]
}

fn line(case: &Case, paths: &Paths, facts: &Facts) -> Vec<std::ffi::OsString> {
    let uuid = Uuid::try_from(UUID.to_owned()).unwrap();
    let mac = "52:54:00:6f:96:19".to_owned().try_into().unwrap();
    let identity = Identity { uuid, mac, machine: None };
    let start = Start { identity: &identity, token: uuid, card: &case.card, facts };
    argv::argv(&case.vm, paths, &start)
}

#[test]
fn the_lines() {
    let host = Host::real("/".into(), "/var/lib/hostd".into(), "/run/hostd".into());
    let place = Place("/srv".into());
    let cases: Vec<Case> = software(&place, 5901).into_iter().chain(hardware(&place)).collect();
    assert!(cases.iter().filter(|case| case.runs).count() >= 15);
    for case in cases {
        let paths = Paths::new(&host, &case.vm.name);
        let shown = argv::show(&case.vm, &line(&case, &paths, &case.facts));
        insta::assert_snapshot!(case.name, shown);
    }
}

/// A program of a test, which ends with it.
struct Child(std::process::Child);

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn swtpm(folder: &Path, socket: &Path) -> Child {
    let state = format!("dir={}", folder.display());
    let control = format!("type=unixio,path={}", socket.display());
    let mut command = std::process::Command::new("swtpm");
    command.args(["socket", "--tpm2", "--tpmstate", &state, "--ctrl", &control]);
    let child = Child(command.stdout(Stdio::null()).spawn().unwrap());
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        assert!(std::time::Instant::now() < until, "swtpm makes no socket");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

/// A port that nobody has at the moment.
fn free_port() -> u16 {
    // VNC's displays begin at 5900.
    let free = |_| std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    (0..100).map(free).find(|port| *port > 5900).unwrap()
}

/// The files that a case names.
fn lay_out(case: &Case, place: &Place, paths: &Paths) {
    for file in [&paths.qmp, &paths.vars] {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    }
    if let Firmware::Ovmf { vars, .. } = &case.vm.firmware {
        std::fs::copy(vars, &paths.vars).unwrap();
    }
    std::fs::write(place.path("pass, word"), "secret").unwrap();
    for disk in &case.vm.disks {
        match disk.format {
            DiskFormat::Raw => {
                std::fs::File::create(&disk.path).unwrap().set_len(1 << 20).unwrap();
            }
            DiskFormat::Qcow2 => {
                let made = std::process::Command::new("qemu-img")
                    .args(["create", "-q", "-f", "qcow2"])
                    .arg(&disk.path)
                    .arg("1M")
                    .status();
                assert!(made.unwrap().success());
            }
        }
    }
}

const CONVERSATION: &str = "{\"execute\":\"qmp_capabilities\"}\n\
    {\"execute\":\"query-status\"}\n{\"execute\":\"quit\"}\n";

/// Starts QEMU with the line of a case, asks it how it is, and ends it; what is
/// wrong with that.
async fn start(name: &str, dir: &Path) -> Option<String> {
    let place = Place(dir.join("srv"));
    std::fs::create_dir_all(&place.0).unwrap();
    let host = Host::real("/".into(), dir.join("lib"), dir.join("run"));
    let mut case =
        software(&place, free_port()).into_iter().find(|case| case.name == name).unwrap();
    // Shared memory has a name on the whole machine.
    case.vm.name = format!("test{}", std::process::id()).parse().unwrap();
    let paths = Paths::new(&host, &case.vm.name);
    lay_out(&case, &place, &paths);
    let _tpm = case.vm.tpm.then(|| swtpm(dir, &paths.tpm));
    let qemu = std::env::var_os("HOSTD_TEST_QEMU");
    let qemu = qemu.map_or_else(|| case.vm.qemu.clone(), PathBuf::from);
    let mut args = line(&case, &paths, &Facts::read(&host, &case.vm));
    args.extend(["-qmp", "stdio"].map(Into::into));
    let mut command = Command::new(qemu, args).deadline(Duration::from_secs(60));
    command.stdin = CONVERSATION.into();
    let output = host.runner.run(command).await.unwrap();
    let _ = std::fs::remove_file(paths::looking_glass(&case.vm.name));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    let fine = output.exit == Exit::Code(0) && complained.is_empty() && said.contains("prelaunch");
    (!fine).then(|| format!("{name}: {}: {complained}", output.exit))
}

#[tokio::test]
async fn qemu_takes_them() {
    let names: Vec<_> = software(&Place("/srv".into()), 5901).iter().map(|c| c.name).collect();
    let mut wrong = Vec::new();
    for name in names {
        let dir = tempfile::tempdir().unwrap();
        wrong.extend(start(name, dir.path()).await);
    }
    assert_eq!(wrong, [""; 0], "{}", wrong.join("\n"));
}

//! [`LabSpec`] → the arguments of QEMU. Pure: what a lab looks like is read,
//! and tested, here.
//!
//! Slots of the root bus, so that addresses are the same in every lab:
//!
//! | slot      | what                                     |
//! |-----------|------------------------------------------|
//! | 02        | root disk (own-boot: its disk)           |
//! | 03        | payload                                  |
//! | 04        | virtio-serial: the agent's ports         |
//! | 05        | network                                  |
//! | 06        | extra disk                               |
//! | 07        | USB controller                           |
//! | 08 … 0b   | root ports of the cards: buses 01, 02, … |
//! | 0c        | root port of the shared group            |
//! | 0d … 1c   | root ports of the disks                  |
//! | 1d, 1e    | NVMe disks                               |
//! | 1f        | q35's own: SATA disks at its ports       |
//!
//! The firmware numbers buses in the order of slots. Every card slot has a
//! root port, with or without a card, so that a card can be plugged and the
//! first one is always 01:00.0.

use crate::{
    accel::Accel,
    spec::{CardKind, Iommu, LabSpec, MAX_CARDS, Tier},
    wire,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The files that an image consists of.
#[derive(Debug, Clone)]
pub struct Image {
    pub dir: PathBuf,
}

impl Image {
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinux")
    }
    pub fn initrd(&self) -> PathBuf {
        self.dir.join("initrd")
    }
    pub fn root(&self) -> PathBuf {
        self.dir.join("root.img")
    }
    pub fn boot(&self) -> PathBuf {
        self.dir.join("boot.qcow2")
    }
}

/// The files of one run.
#[derive(Debug, Clone)]
pub struct RunDir(pub PathBuf);

impl RunDir {
    pub fn qmp(&self) -> PathBuf {
        self.0.join("qmp.sock")
    }
    pub fn agent(&self, port: usize) -> PathBuf {
        self.0.join(format!("agent{port}.sock"))
    }
    pub fn console(&self) -> PathBuf {
        self.0.join("console.sock")
    }
    pub fn console_log(&self) -> PathBuf {
        self.0.join("console.log")
    }
    pub fn stderr(&self) -> PathBuf {
        self.0.join("qemu.stderr")
    }
    pub fn payload(&self) -> PathBuf {
        self.0.join("payload.img")
    }
    pub fn disk(&self, number: usize) -> PathBuf {
        self.data(&format!("disk{number}"))
    }
    /// What is on the disk of that name.
    pub fn data(&self, disk: &str) -> PathBuf {
        self.0.join(format!("{disk}.img"))
    }
    pub fn overlay(&self) -> PathBuf {
        self.0.join("boot.qcow2")
    }
}

pub fn argv(spec: &LabSpec, run: &RunDir, image: &Image, accel: Accel) -> Vec<String> {
    let mut args = Args::default();
    args.flag("-nodefaults");
    args.flag("-no-user-config");
    args.pair("-display", "none");
    args.pair("-machine", "q35,kernel-irqchip=split");
    args.pair(
        "-accel",
        match accel {
            Accel::Kvm => "kvm",
            Accel::Tcg if spec.cpus.is_some() => "tcg,thread=single,tb-size=512",
            Accel::Tcg => "tcg,thread=multi,tb-size=512",
        },
    );
    args.pair("-cpu", cpu(spec.iommu, accel));
    // A kernel that patches its code while another emulated processor runs it
    // panics once in some dozens of boots (int3 in MTTCG): one processor is safe.
    let usual = if accel == Accel::Tcg { 1 } else { 2 };
    args.pair("-smp", &spec.cpus.unwrap_or(usual).to_string());
    args.pair("-m", &spec.memory_mib.to_string());
    // Before every other device: what comes earlier would not be behind it.
    match spec.iommu {
        Iommu::Intel => args.pair("-device", "intel-iommu,intremap=on,caching-mode=on"),
        // Its PCI function would take slot 01 by itself; said, for certainty.
        Iommu::Amd => args.pair("-device", "amd-iommu,intremap=on"),
        Iommu::None => {}
    }

    args.chardev("qmp", &run.qmp(), "");
    args.pair("-mon", "chardev=qmp,mode=control");
    args.chardev(
        "console",
        &run.console(),
        &format!(",logfile={},logappend=on", comma(&run.console_log())),
    );
    args.pair("-serial", "chardev:console");
    args.pair("-device", "virtio-serial-pci,id=agents,addr=04");
    for port in 0..wire::PORTS {
        args.chardev(&format!("agent{port}"), &run.agent(port), "");
        args.pair(
            "-device",
            &format!(
                "virtserialport,bus=agents.0,nr={},chardev=agent{port},name=hostd.lab.{port}",
                port + 1
            ),
        );
    }

    if spec.tier == Tier::OwnBoot {
        args.drive("root", "qcow2", &run.overlay(), "");
        args.pair("-device", "virtio-blk-pci,drive=root,serial=labboot,addr=02,bootindex=0");
    } else {
        args.drive("root", "raw", &image.root(), ",snapshot=on");
        args.pair("-device", "virtio-blk-pci,drive=root,serial=labroot,addr=02");
        args.pair("-kernel", &text(&image.kernel()));
        args.pair("-initrd", &text(&image.initrd()));
        args.pair("-append", &cmdline(spec));
    }
    args.drive("payload", "raw", &run.payload(), ",readonly=on");
    args.pair("-device", "virtio-blk-pci,drive=payload,serial=labpayload,addr=03");
    if let Some(file) = &spec.extra_disk {
        args.drive("extra", "raw", file, "");
        args.pair("-device", "virtio-blk-pci,drive=extra,serial=extra,addr=06");
    }
    if spec.usb {
        args.pair("-device", "qemu-xhci,id=usb,addr=07");
    }
    if spec.network {
        let mut user = "user,id=net,restrict=on".to_owned();
        for forward in &spec.forwards {
            user += &format!(",hostfwd=tcp:127.0.0.1:{}-:{}", forward.host, forward.guest);
        }
        args.pair("-netdev", &user);
        args.pair("-device", "virtio-net-pci,id=net0,netdev=net,romfile=,addr=05");
    }

    for index in 0..MAX_CARDS {
        args.root_port("card", index, 0x08);
    }
    if spec.shared_group {
        args.pair("-device", "pcie-root-port,id=rp-shared,bus=pcie.0,addr=0c,chassis=12,slot=12");
        args.pair("-device", "pcie-pci-bridge,id=bridge,bus=rp-shared");
        args.pair("-device", "VGA,id=shared-vga,bus=bridge,addr=01");
        args.pair("-device", "qemu-xhci,id=shared-xhci,bus=bridge,addr=02");
        args.pair("-device", "e1000,id=shared-nic,bus=bridge,addr=03,romfile=");
    }
    for index in 0..spec.disks {
        args.root_port("disk", index, 0x0d);
    }
    for index in 0..spec.cards.len() {
        // At start the functions come in their order; plugging reverses it.
        for device in card_devices(spec, index).into_iter().rev() {
            args.pair("-device", &device.to_string());
        }
    }
    for index in 0..spec.disks {
        args.pair("-blockdev", &disk_blockdev(run, index).to_string());
        args.pair("-device", &disk_device(index).to_string());
    }
    for name in fixed_disks(spec) {
        args.pair("-blockdev", &blockdev(run, &name).to_string());
        let place = match name.strip_prefix("nvme").and_then(|n| n.parse::<usize>().ok()) {
            Some(index) => format!("nvme,bus=pcie.0,addr={:02x}", 0x1d + index),
            None => format!("ide-hd,bus=ide.{},rotation_rate=7200", name.replace("sata", "")),
        };
        args.pair("-device", &format!("{place},id={name},serial={name},drive=node-{name}"));
    }
    args.0
}

/// The devices of a card, in the order in which they can be plugged: a slot
/// comes to life with its function 0, which is therefore the last.
pub fn card_devices(spec: &LabSpec, index: usize) -> Vec<Value> {
    let Some(card) = spec.cards.get(index) else { return Vec::new() };
    let driver = match card.kind {
        CardKind::Ati0300 => "ati-vga",
        CardKind::Secondary0380 => "secondary-vga",
        CardKind::BootVga0300 => "VGA",
    };
    let bus = format!("rp-card{index}");
    let video = json!({"driver": driver, "id": format!("card{index}"), "bus": bus, "addr": "0.0",
                       "multifunction": card.audio});
    let audio = json!({"driver": "intel-hda", "id": format!("card{index}-audio"), "bus": bus, "addr": "0.1"});
    if card.audio { vec![audio, video] } else { vec![video] }
}

pub fn disk_blockdev(run: &RunDir, index: usize) -> Value {
    blockdev(run, &format!("disk{index}"))
}

fn blockdev(run: &RunDir, name: &str) -> Value {
    json!({"driver": "raw", "node-name": format!("node-{name}"),
           "discard": "unmap",
           "cache": {"direct": false, "no-flush": true},
           "file": {"driver": "file", "filename": text(&run.data(name)),
                    "cache": {"direct": false, "no-flush": true}}})
}

/// The names of the disks that are not plugged and unplugged.
pub fn fixed_disks(spec: &LabSpec) -> Vec<String> {
    let nvme = (0..spec.nvme).map(|index| format!("nvme{index}"));
    nvme.chain((0..spec.sata).map(|index| format!("sata{index}"))).collect()
}

pub fn disk_device(index: usize) -> Value {
    json!({"driver": "virtio-blk-pci", "id": format!("disk{index}"), "serial": format!("disk{index}"),
           "drive": format!("node-disk{index}"), "bus": format!("rp-disk{index}")})
}

/// Under TCG a model with few features: wide vectors and 57-bit addresses make
/// everything slower, and ZFS measures at each load every variant of every
/// checksum that the CPU offers (four seconds with AVX2). Intel or AMD as the
/// IOMMU is.
fn cpu(iommu: Iommu, accel: Accel) -> &'static str {
    match (accel, iommu) {
        (Accel::Kvm, _) => "host",
        (Accel::Tcg, Iommu::Intel) => "qemu64,vendor=GenuineIntel,family=6,model=94,stepping=3",
        (Accel::Tcg, Iommu::Amd | Iommu::None) => "qemu64",
    }
}

pub fn cmdline(spec: &LabSpec) -> String {
    // On a loaded machine the kernel's check of the timer fails under emulation,
    // and the kernel panics.
    let mut words: Vec<String> =
        "console=ttyS0,115200 loglevel=4 mitigations=off audit=0 net.ifnames=0 no_timer_check"
            .split(' ')
            .map(str::to_owned)
            .collect();
    match spec.iommu {
        Iommu::Intel => words.extend(["intel_iommu=on".to_owned(), "iommu=pt".to_owned()]),
        Iommu::Amd => words.push("iommu=pt".to_owned()),
        Iommu::None => {}
    }
    if spec.network {
        words.push("lab.net".to_owned());
    }
    let modules = spec.all_modules().join(",");
    match spec.tier {
        Tier::Fast => {
            words.push("lab.init=/lab/init-fast".to_owned());
            if !modules.is_empty() {
                words.push(format!("lab.modules={modules}"));
            }
        }
        Tier::Full | Tier::OwnBoot => {
            words.push("lab.init=/sbin/init".to_owned());
            if !modules.is_empty() {
                words.push(format!("modules_load={modules}"));
            }
        }
    }
    words.extend(spec.cmdline.iter().cloned());
    words.join(" ")
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path within a `key=value,…` argument: commas are doubled.
fn comma(path: &Path) -> String {
    text(path).replace(',', ",,")
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.to_owned());
    }

    fn pair(&mut self, flag: &str, value: &str) {
        self.0.extend([flag.to_owned(), value.to_owned()]);
    }

    fn chardev(&mut self, id: &str, path: &Path, more: &str) {
        let path = comma(path);
        self.pair("-chardev", &format!("socket,id={id},path={path},server=on,wait=off{more}"));
    }

    fn drive(&mut self, id: &str, format: &str, path: &Path, more: &str) {
        let path = comma(path);
        self.pair(
            "-drive",
            &format!("if=none,id={id},format={format},cache=unsafe,file={path}{more}"),
        );
    }

    fn root_port(&mut self, what: &str, index: usize, first: usize) {
        let slot = first + index;
        self.pair(
            "-device",
            &format!("pcie-root-port,id=rp-{what}{index},bus=pcie.0,addr={slot:02x},chassis={slot},slot={slot}"),
        );
    }
}

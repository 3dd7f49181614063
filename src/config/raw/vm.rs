//! A VM file: the guest's processors, memory and firmware, and the keys of all
//! its parts.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{
    List, RawAgent, RawAutostart, RawDisk, RawDisplay, RawEvdev, RawHooks, RawNetwork, RawOnCrash,
    RawPerformance, RawResources, RawSnapshots, RawSound, RawStop, RawUsb, RawVmGpu,
};
use crate::config::formats::{AbsolutePath, Label, Size, Text, Word};
use crate::config::words::{Argument, CpuList, GlassSize, ShortText, Uuid};

/// A VM, `/etc/hostd/vms/<name>.yaml`. The file's name without `.yaml` is the
/// VM's name; only `memory` must be given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(title = "VM file")]
pub struct RawVm {
    /// May repeat the file's name, and nothing else.
    pub name: Option<Text<Label>>,
    /// What the VM is for: defaults that fit it. A key that is given goes first.
    pub profile: Option<RawProfile>,
    /// Guest memory, 16M to 16T.
    #[schemars(required)]
    pub memory: Option<Text<Size>>,
    /// What the guest's memory is made of. Large pages are taken from the host
    /// when the VM starts, and given back.
    #[schemars(extend("default" = "off"))]
    pub hugepages: Option<RawHugepages>,
    /// NUMA node of the host that all of the guest's memory comes from; any
    /// when absent.
    #[schemars(range(min = 0, max = 1023))]
    pub numa_node: Option<u32>,
    /// Virtual processors. When absent, as many as `topology` has, or as
    /// `pinning` names, or 2.
    #[schemars(range(min = 1, max = 1024), extend("examples" = [8]))]
    pub cpus: Option<u32>,
    /// How the processors look to the guest. One socket of cores with one
    /// thread each when absent; with `pinning: auto`, as the host's are.
    pub topology: Option<RawTopology>,
    /// Which processors of the host they run on: a word, or a mapping.
    #[schemars(extend("default" = "off"))]
    pub pinning: Option<RawPinning>,
    /// Graphics card to give to the guest: a name under `gpus:` in host.yaml,
    /// an address, or a mapping.
    pub gpu: Option<RawVmGpu>,
    /// Disks in boot order: a path, or a mapping. What ends in `.iso` is a
    /// CD-ROM.
    pub disks: List<RawDisk>,
    /// The guest's network: a word, or a mapping.
    #[schemars(extend("default" = "user"))]
    pub network: Option<RawNetwork>,
    /// USB devices of the host that the guest gets when they are there:
    /// vendor and product (`046d:c52b`, from `lsusb`), or a port (`1-2.3`).
    pub usb: List<RawUsb>,
    /// Keyboard and mouse of the host, given to the guest and taken back by a
    /// key: a list of devices, or a mapping.
    pub evdev: Option<RawEvdev>,
    /// Shared memory for Looking Glass, a power of two from 16M to 1G: 32M for
    /// 1920×1080, 64M for 2560×1440, 128M for 3840×2160; twice that with HDR.
    #[schemars(extend("default" = "off"))]
    pub looking_glass: Option<Text<GlassSize>>,
    /// Where the guest's sound goes. That of a graphics card is another.
    #[schemars(extend("default" = "off"))]
    pub sound: Option<RawSound>,
    /// A picture without a graphics card, as for an installation: a word, or a
    /// mapping.
    #[schemars(extend("default" = "off"))]
    pub display: Option<RawDisplay>,
    /// Whether the guest has a serial port, for `hostctl vm console`. `false`
    /// when absent, or as the profile says.
    pub serial: Option<bool>,
    /// Whether the guest has a channel for its agent (`qemu-guest-agent`), or
    /// a mapping. `false` when absent, or as the profile says.
    pub agent: Option<RawAgent>,
    /// What runs first in the guest: a word, or a mapping. `seabios` when
    /// absent, or as the profile says.
    pub firmware: Option<RawFirmware>,
    /// Whether UEFI runs only what is signed, with Microsoft's keys enrolled.
    /// With `ovmf` only. `false` when absent, or as the profile says.
    pub secure_boot: Option<bool>,
    /// Whether the guest has a TPM 2.0, by `swtpm`; Windows 11 wants one.
    /// `false` when absent, or as the profile says.
    pub tpm: Option<bool>,
    /// How guest code is run.
    #[schemars(extend("default" = "kvm"))]
    pub accel: Option<RawAccel>,
    /// QEMU's machine type. `q35` without a version is pinned to the version of
    /// the first start, so that the guest's hardware stays the same when QEMU
    /// is upgraded; `pc-q35-7.2` says the version.
    #[schemars(extend("default" = "q35"))]
    pub machine: Option<Text<Word>>,
    /// QEMU's processor model; `host` with `kvm` and `max` with `tcg` when absent.
    #[schemars(extend("examples" = ["host"]))]
    pub cpu: Option<Text<Word>>,
    /// Whether the guest sees Hyper-V's enlightenments, which make Windows
    /// faster. `false` when absent, or as the profile says.
    pub hyperv: Option<bool>,
    /// What the guest's clock shows. `utc` when absent, or as the profile says.
    pub clock: Option<RawClock>,
    /// QEMU's program.
    #[schemars(extend("default" = "/usr/bin/qemu-system-x86_64"))]
    pub qemu: Option<Text<AbsolutePath>>,
    /// Arguments for QEMU that hostd does not look into, after its own.
    #[schemars(extend("examples" = [["-device", "edu"]]))]
    pub qemu_args: List<Text<Argument>>,
    /// The user that QEMU runs as, such as `root`. hostd's own for VMs,
    /// `hostd-vm`, when absent.
    #[schemars(extend("examples" = ["hostd-vm"]))]
    pub user: Option<Text<Word>>,
    /// UUID of the machine that the guest sees; made at the first start and
    /// kept when absent. Windows' licence depends on it.
    pub uuid: Option<Text<Uuid>>,
    /// What the guest's firmware says about the machine.
    pub smbios: Option<RawSmbios>,
    /// Its share of the host, in systemd's terms.
    pub resources: Option<RawResources>,
    /// Whether the host leaves the guest's cores alone while it runs: `true`
    /// for all of it, or a mapping. All is put back after.
    #[schemars(extend("default" = false))]
    pub performance: Option<RawPerformance>,
    /// Snapshots of its disks.
    pub snapshots: Option<RawSnapshots>,
    /// Whether it starts with the host, or a mapping.
    #[schemars(extend("default" = false))]
    pub autostart: Option<RawAutostart>,
    /// What happens when QEMU ends unasked: a word, or a mapping.
    #[schemars(extend("default" = "stay"))]
    pub on_crash: Option<RawOnCrash>,
    /// Commands of yours around its life.
    pub hooks: Option<RawHooks>,
    /// How the VM is stopped.
    pub stop: Option<RawStop>,
}

/// What a VM is for.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
pub enum RawProfile {
    /// `firmware: ovmf`, `secure-boot: true`, `tpm: true`, `hyperv: true`,
    /// `clock: local`, `agent: true`.
    #[serde(rename = "windows-11")]
    Windows11,
    /// `firmware: ovmf`, `hyperv: true`, `clock: local`, `agent: true`.
    #[serde(rename = "windows-10")]
    Windows10,
    /// `firmware: seabios`, the card with `x-vga: true`, `hyperv: true`,
    /// `clock: local`, disks on `sata`, the network card an `e1000e`.
    #[serde(rename = "windows-7")]
    Windows7,
    /// `firmware: ovmf`, `agent: true`, `serial: true`.
    #[serde(rename = "linux")]
    Linux,
}

/// What the guest's memory is made of.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
pub enum RawHugepages {
    /// Ordinary pages.
    #[serde(rename = "off")]
    Off,
    /// Pages of 2 MiB.
    #[serde(rename = "2M")]
    Large,
    /// Pages of 1 GiB; the host rarely has them unless they are set aside at boot.
    #[serde(rename = "1G")]
    Huge,
}

/// How the processors look to the guest; the product is `cpus`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTopology {
    /// Sockets.
    #[schemars(range(min = 1, max = 64), extend("default" = 1))]
    pub sockets: Option<u32>,
    /// Dies of each socket.
    #[schemars(range(min = 1, max = 64), extend("default" = 1))]
    pub dies: Option<u32>,
    /// Cores of each die.
    #[schemars(required, range(min = 1, max = 1024), extend("examples" = [4]))]
    pub cores: Option<u32>,
    /// Threads of each core.
    #[schemars(range(min = 1, max = 16), extend("default" = 1))]
    pub threads: Option<u32>,
}

/// Which processors of the host the guest runs on.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawPinning {
    /// Any, or chosen by hostd.
    Word(RawPinningWord),
    /// Chosen by hostd.
    Auto(RawPinningAuto),
    /// As you say.
    Exact(RawPinningExact),
}

/// Which processors, in a word.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawPinningWord {
    /// Any.
    Off,
    /// Whole cores that share a cache, near the card; one core stays with the host.
    Auto,
}

/// As `auto`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPinningAuto {
    /// Cores that stay with the host.
    #[schemars(required, range(min = 0, max = 1024), extend("examples" = [1]))]
    pub leave: Option<u32>,
}

/// Processors of the host, as numbers or as a text such as `0-3,8`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPinningExact {
    /// The host's processor of each virtual one, in their order.
    #[schemars(required, extend("examples" = [[2, 10, 3, 11]]))]
    pub vcpus: Option<RawCpus>,
    /// For QEMU's other threads; those that are not the guest's when absent.
    pub emulator: Option<RawCpus>,
    /// For the threads that do the disks' work; as the emulator's when absent.
    pub iothreads: Option<RawCpus>,
}

/// Processors of the host.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawCpus {
    /// A text.
    List(Text<CpuList>),
    /// One.
    One(RawCpu),
    /// Some.
    Some(Vec<Option<RawCpu>>),
}

/// Number of a processor of the host.
#[derive(Deserialize, Clone, Copy)]
pub struct RawCpu(pub u32);

impl JsonSchema for RawCpu {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "cpu".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let last = crate::config::words::LAST_CPU;
        json_schema!({ "type": "integer", "minimum": 0, "maximum": last })
    }
}

/// How guest code is run.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawAccel {
    /// By the processor; refused where it cannot.
    Kvm,
    /// By software: slow, works anywhere.
    Tcg,
}

/// What the guest's clock shows.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawClock {
    /// Universal time, as Linux wants it.
    Utc,
    /// The host's local time, as Windows wants it.
    Local,
}

/// What runs first in the guest.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawFirmware {
    /// Firmware with its usual files.
    Kind(RawFirmwareKind),
    /// Firmware with files of your own, or with its log.
    Full(RawFirmwareFull),
}

/// Kinds of firmware.
#[derive(Debug, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawFirmwareKind {
    /// A BIOS.
    Seabios,
    /// UEFI, as Windows 11 needs it. Its files come with Debian's `ovmf`.
    Ovmf,
}

/// Firmware in full.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawFirmwareFull {
    /// Which one.
    #[schemars(required)]
    pub kind: Option<RawFirmwareKind>,
    /// `seabios` only: keep what it says on its debug port, for `hostctl vm log`.
    pub log: Option<bool>,
    /// `ovmf` only: its code. `/usr/share/OVMF/OVMF_CODE_4M.fd` when absent, or
    /// `OVMF_CODE_4M.ms.fd` there with `secure-boot`.
    #[schemars(extend("examples" = ["/usr/share/OVMF/OVMF_CODE_4M.fd"]))]
    pub code: Option<Text<AbsolutePath>>,
    /// `ovmf` only: what a new VM's variables are copied from.
    /// `/usr/share/OVMF/OVMF_VARS_4M.fd` when absent, or `OVMF_VARS_4M.ms.fd`
    /// there with `secure-boot`.
    #[schemars(extend("examples" = ["/usr/share/OVMF/OVMF_VARS_4M.fd"]))]
    pub vars: Option<Text<AbsolutePath>>,
}

/// What the guest's firmware says about the machine; QEMU's own when absent.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSmbios {
    /// System manufacturer.
    #[schemars(extend("examples" = ["Micro-Star International Co., Ltd."]))]
    pub manufacturer: Option<Text<ShortText>>,
    /// System product.
    pub product: Option<Text<ShortText>>,
    /// System version.
    pub version: Option<Text<ShortText>>,
    /// System serial number.
    pub serial: Option<Text<ShortText>>,
    /// Stock keeping unit.
    pub sku: Option<Text<ShortText>>,
    /// Family.
    pub family: Option<Text<ShortText>>,
}

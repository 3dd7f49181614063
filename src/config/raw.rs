//! The format of the files: the one description that is the JSON Schema for
//! editors, the rule of the check, and the reference page.
//!
//! Every key is an `Option` here: what is wrong is left out after it has been
//! listed, so that the rest of the file is still judged. `required` says what
//! must be there; `default` is filled in by the check, and written only here.
//! Doc comments are what the owner reads.

use schemars::JsonSchema;
use serde::Deserialize;

use super::formats::{
    AbsolutePath, Address, BarSize, CardRef, Endpoint, HostName, Label, Listen, PciId, PoolName,
    Size, Span, Text, Unit, Word,
};

/// A list whose wrong items are left out.
pub type List<T> = Option<Vec<Option<T>>>;

/// hostd's own configuration, `/etc/hostd/host.yaml`. Every section may be
/// left out; an empty file means that hostd watches what it finds.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "host.yaml",
    extend("x-later" = ["streams", "history", "upstream", "rules", "notify", "web", "relay"])
)]
pub struct RawHost {
    /// The machine as a whole.
    pub host: Option<RawHostSection>,
    /// Graphics cards that may be given to a VM.
    pub gpus: List<RawGpu>,
    /// ZFS pools. All imported pools are watched; this names those that matter.
    pub pools: Option<RawPools>,
    /// Services to watch: file shares, media servers, anything with a port or a unit.
    pub services: List<RawService>,
    /// Where Riemann clients reach the event engine.
    pub events: Option<RawEvents>,
}

/// The machine as a whole.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHostSection {
    /// Name of this machine in events. The machine's host name when absent.
    pub name: Option<Text<HostName>>,
    /// How often hostd looks; events live for twice as long. 1s to 1h.
    #[schemars(extend("default" = "5s"))]
    pub interval: Option<Text<Span>>,
}

/// A graphics card that may be given to a VM, with all functions of its slot.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawGpu {
    /// How you call it, here and in VM files.
    #[schemars(required, extend("examples" = ["radeon"]))]
    pub name: Option<Text<Label>>,
    /// PCI address of any of its functions, from `hostctl gpu list`.
    #[schemars(required)]
    pub address: Option<Text<Address>>,
    /// Vendor and device id of function 0. With it, hostd refuses another card
    /// that has taken this address, as happens when a card is added or removed.
    pub identity: Option<Text<PciId>>,
    /// Subsystem vendor and device id of function 0: which maker's board it is.
    pub subsystem: Option<Text<PciId>>,
    /// What happens when the card is not at its address: with `true`, hostd
    /// takes it where it is, if exactly one card has its `identity` (which must
    /// then be given). Else it is refused, and the message says where it is.
    #[schemars(extend("default" = false))]
    pub follow: Option<bool>,
    /// Addresses of other devices in its IOMMU group that leave the host with
    /// it, each with all functions of its slot. The guest does not see them.
    pub with: List<Text<Address>>,
    /// Whether the display manager is stopped when the card is taken, and
    /// started again when it is back. Whoever is logged in loses their session.
    #[schemars(extend("default" = false))]
    pub stop_display_manager: Option<bool>,
}

/// ZFS pools.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPools {
    /// Pools that must be there: a missing one is critical.
    pub expected: List<Text<PoolName>>,
}

/// A watched service: its unit, its port, its protocol, its folder, in this order.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawService {
    /// How you call it; its events are `service <name>`.
    #[schemars(required, extend("examples" = ["smb"]))]
    pub name: Option<Text<Label>>,
    /// How it is asked whether it works.
    #[schemars(extend("default" = "none"))]
    pub probe: Option<RawProbe>,
    /// Where it listens. On this machine at the protocol's usual port when
    /// absent (smb 445, afp 548); `tcp` has no usual port and needs it.
    pub address: Option<Text<Endpoint>>,
    /// Its systemd unit, which must be active.
    pub unit: Option<Text<Unit>>,
    /// The folder it serves, which must be there and answer.
    #[schemars(extend("examples" = ["/tank/media"]))]
    pub path: Option<Text<AbsolutePath>>,
    /// How often it is asked. 1s to 1h.
    #[schemars(extend("default" = "10s"))]
    pub interval: Option<Text<Span>>,
    /// How long each step may take, 100ms to 5m. 5s when absent, or the
    /// interval if that is shorter.
    pub deadline: Option<Text<Span>>,
}

/// How a service is asked.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawProbe {
    /// SMB2 negotiation.
    Smb,
    /// AFP status.
    Afp,
    /// A connection is enough.
    Tcp,
    /// Not at all: only its unit and folder are looked at.
    None,
}

/// Where Riemann clients reach the event engine.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-later" = ["allow", "tls", "websocket", "graphite"]))]
pub struct RawEvents {
    /// Riemann's protocol over TCP: events in, queries answered.
    #[schemars(extend("default" = "127.0.0.1:5555"))]
    pub tcp: Option<Text<Listen>>,
    /// Riemann's protocol over UDP: events in.
    #[schemars(extend("default" = "127.0.0.1:5555"))]
    pub udp: Option<Text<Listen>>,
}

/// A VM, `/etc/hostd/vms/<name>.yaml`. The file's name without `.yaml` is the
/// VM's name; only `memory` must be given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(
    title = "VM file",
    extend("x-later" = [
        "agent", "autostart", "display", "evdev", "hooks", "hugepages", "looking-glass",
        "on-crash", "performance", "pinning", "profile", "secure-boot", "snapshots", "sound",
        "topology", "tpm", "usb"
    ])
)]
pub struct RawVm {
    /// May repeat the file's name, and nothing else.
    pub name: Option<Text<Label>>,
    /// Guest memory, 16M to 16T.
    #[schemars(required)]
    pub memory: Option<Text<Size>>,
    /// Virtual processors.
    #[schemars(range(min = 1, max = 1024), extend("default" = 2))]
    pub cpus: Option<u32>,
    /// Graphics card to give to the guest: a name under `gpus:` in host.yaml,
    /// an address, or a mapping.
    pub gpu: Option<RawVmGpu>,
    /// Disks in boot order: a path, or a mapping.
    pub disks: List<RawDisk>,
    /// The guest's network: a word, or a mapping.
    #[schemars(extend("default" = "user"))]
    pub network: Option<RawNetwork>,
    /// What runs first in the guest: a word, or a mapping.
    #[schemars(extend("default" = "seabios"))]
    pub firmware: Option<RawFirmware>,
    /// How guest code is run.
    #[schemars(extend("default" = "kvm"))]
    pub accel: Option<RawAccel>,
    /// QEMU's machine type. A version, such as `pc-q35-7.2`, keeps the guest's
    /// hardware the same when QEMU is upgraded.
    #[schemars(extend("default" = "q35"))]
    pub machine: Option<Text<Word>>,
    /// QEMU's processor model; `host` with `kvm` and `max` with `tcg` when absent.
    #[schemars(extend("examples" = ["host"]))]
    pub cpu: Option<Text<Word>>,
    /// QEMU's program.
    #[schemars(extend("default" = "/usr/bin/qemu-system-x86_64"))]
    pub qemu: Option<Text<AbsolutePath>>,
    /// How the VM is stopped.
    pub stop: Option<RawStop>,
}

/// The guest's graphics card.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawVmGpu {
    /// A card as it is.
    Card(Text<CardRef>),
    /// A card, and how it is given.
    Full(RawVmGpuFull),
}

/// A card, and how it is given.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawVmGpuFull {
    /// A name under `gpus:` in host.yaml, or an address.
    #[schemars(required)]
    pub card: Option<Text<CardRef>>,
    /// A file in place of the card's own ROM, as `hostctl gpu rom dump` writes
    /// it. It is checked at each start.
    #[schemars(extend("examples" = ["/etc/hostd/roms/radeon.rom"]))]
    pub rom: Option<Text<AbsolutePath>>,
    /// How large the BAR of the card's memory is made: `keep`, `max`, or a size
    /// that the card offers. It is put back when the card is.
    #[schemars(extend("default" = "keep"))]
    pub resizable_bar: Option<Text<BarSize>>,
    /// Whether the guest's BIOS shows its picture on the card (`x-vga`). With
    /// `seabios` only; as the card's quirks say when absent.
    pub x_vga: Option<bool>,
    /// Whether the guest is kept from seeing that it is one. Only NVIDIA's
    /// drivers before version 465 need it (Code 43).
    #[schemars(extend("default" = false))]
    pub hide_hypervisor: Option<bool>,
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

/// A disk.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawDisk {
    /// A file or block device.
    Path(Text<AbsolutePath>),
    /// A disk with its format.
    Full(RawDiskFull),
}

/// A disk with its format.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDiskFull {
    /// A file or block device, such as a zvol.
    #[schemars(required)]
    pub path: Option<Text<AbsolutePath>>,
    /// Format of what is in it. By the path's ending when absent: `qcow2` for
    /// `.qcow2`, else `raw`.
    pub format: Option<RawDiskFormat>,
    /// Whether the guest may only read it. By the path's ending when absent:
    /// `true` for `.iso`, which is a CD-ROM, else `false`.
    pub readonly: Option<bool>,
}

/// Format of a disk.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawDiskFormat {
    /// As on a real disk.
    Raw,
    /// QEMU's own, which grows as it is written.
    Qcow2,
}

/// The guest's network.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawNetwork {
    /// A network that needs nothing of the host.
    Kind(RawNetworkKind),
    /// A network of the host.
    Full(RawNetworkFull),
}

/// Networks that need nothing of the host.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawNetworkKind {
    /// No network.
    None,
    /// Behind QEMU's own address translation: out, but not in.
    User,
}

/// A network of the host.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawNetworkFull {
    /// A bridge of the host: the guest is a machine of its own on its network.
    #[schemars(required, extend("examples" = ["br0"]))]
    pub bridge: Option<Text<Word>>,
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
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
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
    /// `ovmf` only: its code, `/usr/share/OVMF/OVMF_CODE_4M.fd` when absent.
    #[schemars(extend("examples" = ["/usr/share/OVMF/OVMF_CODE_4M.fd"]))]
    pub code: Option<Text<AbsolutePath>>,
    /// `ovmf` only: what a new VM's variables are copied from,
    /// `/usr/share/OVMF/OVMF_VARS_4M.fd` when absent.
    #[schemars(extend("examples" = ["/usr/share/OVMF/OVMF_VARS_4M.fd"]))]
    pub vars: Option<Text<AbsolutePath>>,
}

/// How the VM is stopped: the power button is pressed, and then waited for.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawStop {
    /// How long the guest has to shut down. 1s to 1h.
    #[schemars(extend("default" = "60s"))]
    pub deadline: Option<Text<Span>>,
    /// What happens when it has not.
    #[schemars(extend("default" = "ask"))]
    pub then: Option<RawThen>,
}

/// What happens when a guest ignores the power button.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawThen {
    /// It stays on, and you are told.
    Ask,
    /// QEMU quits, as if the power went.
    Quit,
}

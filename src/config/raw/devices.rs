//! A VM file: what the guest has besides processors and memory.

use schemars::JsonSchema;
use serde::Deserialize;

use super::List;
use crate::config::formats::{AbsolutePath, Address, BarSize, CardRef, Endpoint, Text, Word};
use crate::config::words::{DiskSerial, Mac, UsbId, UsbName, UsbPort};

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
    /// `seabios` only; as the profile or else the card's quirks say when absent.
    pub x_vga: Option<bool>,
    /// Whether the guest is kept from seeing that it is one. Only NVIDIA's
    /// drivers before version 465 need it (Code 43).
    #[schemars(extend("default" = false))]
    pub hide_hypervisor: Option<bool>,
}

/// A disk.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawDisk {
    /// A file or block device.
    Path(Text<AbsolutePath>),
    /// A disk, and how the guest sees it.
    Full(RawDiskFull),
    /// A whole NVMe disk.
    Nvme(RawNvme),
}

/// A disk, and how the guest sees it.
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
    /// `true` for `.iso`, else `false`.
    pub readonly: Option<bool>,
    /// Whether it is a CD-ROM drive, whose medium can be changed. By the path's
    /// ending when absent: `true` for `.iso`, unless it may be written.
    pub cdrom: Option<bool>,
    /// What it hangs on. `sata` for a CD-ROM, else `virtio` when absent, or as
    /// the profile says.
    pub bus: Option<RawDiskBus>,
    /// Who keeps its data before they are on the disk. `none` when absent.
    pub cache: Option<RawDiskCache>,
    /// A serial number that the guest can read, at most 20 characters.
    pub serial: Option<Text<DiskSerial>>,
    /// Place in the boot order. By its place in the list when absent.
    #[schemars(range(min = 1, max = 1000))]
    pub boot: Option<u32>,
}

/// An NVMe controller of the host that the guest has for itself.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawNvme {
    /// Its PCI address. The host must not use what is on it.
    #[schemars(required, extend("examples" = ["0000:02:00.0"]))]
    pub nvme: Option<Text<Address>>,
    /// Place in the boot order. By its place in the list when absent.
    #[schemars(range(min = 1, max = 1000))]
    pub boot: Option<u32>,
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

/// What a disk hangs on.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawDiskBus {
    /// Fast; Windows needs a driver (virtio-win).
    Virtio,
    /// virtio too, many disks on one controller; Windows needs a driver.
    Scsi,
    /// Every guest has a driver.
    Sata,
    /// An NVMe disk by QEMU; Windows 10 and 11 have a driver.
    Nvme,
}

/// Who keeps a disk's data before they are on the disk.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawDiskCache {
    /// Nobody of the host; flushes are obeyed.
    None,
    /// The host's memory too; flushes are obeyed.
    Writeback,
}

/// The guest's network.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawNetwork {
    /// A network that needs nothing of the host.
    Kind(RawNetworkKind),
    /// A bridge of the host.
    Bridge(RawNetworkBridge),
    /// A tap of the host.
    Tap(RawNetworkTap),
    /// A network that needs nothing of the host, and its card.
    User(RawNetworkUser),
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

/// A bridge of the host: the guest is a machine of its own on its network.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawNetworkBridge {
    /// The bridge; hostd makes a tap on it and removes it again.
    #[schemars(required, extend("examples" = ["br0"]))]
    pub bridge: Option<Text<Word>>,
    /// What the guest's card looks like. `virtio` when absent, or as the
    /// profile says.
    pub model: Option<RawNicModel>,
    /// Its hardware address; made at the first start and kept when absent.
    pub mac: Option<Text<Mac>>,
}

/// A tap of the host that you have made.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawNetworkTap {
    /// The tap.
    #[schemars(required, extend("examples" = ["tap0"]))]
    pub tap: Option<Text<Word>>,
    /// What the guest's card looks like. `virtio` when absent, or as the
    /// profile says.
    pub model: Option<RawNicModel>,
    /// Its hardware address; made at the first start and kept when absent.
    pub mac: Option<Text<Mac>>,
}

/// A network that needs nothing of the host, and its card.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawNetworkUser {
    /// Which one.
    #[schemars(required)]
    pub kind: Option<RawUserNetwork>,
    /// What the guest's card looks like. `virtio` when absent, or as the
    /// profile says.
    pub model: Option<RawNicModel>,
    /// Its hardware address; made at the first start and kept when absent.
    pub mac: Option<Text<Mac>>,
}

/// Networks that have a card and need nothing of the host.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawUserNetwork {
    /// Behind QEMU's own address translation: out, but not in.
    User,
}

/// What a network card looks like.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawNicModel {
    /// Fast; Windows needs a driver (virtio-win).
    Virtio,
    /// An Intel card that Windows has a driver for.
    E1000e,
}

/// A USB device of the host.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawUsb {
    /// Vendor and product, or a port.
    Name(Text<UsbName>),
    /// Vendor and product.
    Id(RawUsbId),
    /// A port.
    Port(RawUsbPort),
}

/// A USB device, whichever port it is in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUsbId {
    /// Vendor and product, as `lsusb` shows them.
    #[schemars(required)]
    pub id: Option<Text<UsbId>>,
}

/// A USB port, whatever is in it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUsbPort {
    /// Bus and the way through its hubs, as in `/sys/bus/usb/devices`.
    #[schemars(required)]
    pub port: Option<Text<UsbPort>>,
}

/// Keyboard and mouse of the host.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawEvdev {
    /// Devices, switched by both control keys.
    Devices(Vec<Option<Text<AbsolutePath>>>),
    /// Devices, and how they are switched.
    Full(RawEvdevFull),
}

/// Keyboard and mouse of the host, and how they are switched.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawEvdevFull {
    /// `/dev/input/by-id/…-event-kbd`, `…-event-mouse`.
    #[schemars(required, extend("examples" = [["/dev/input/by-id/usb-Keyboard-event-kbd"]]))]
    pub devices: List<Text<AbsolutePath>>,
    /// The keys that give them to the guest and take them back.
    #[schemars(extend("default" = "ctrl-ctrl"))]
    pub toggle: Option<RawToggle>,
}

/// The keys that give keyboard and mouse to the guest and take them back.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum RawToggle {
    /// Both control keys.
    CtrlCtrl,
    /// Both alt keys.
    AltAlt,
    /// Both shift keys.
    ShiftShift,
    /// Both super keys.
    MetaMeta,
    /// Scroll lock.
    #[serde(rename = "scrolllock")]
    ScrollLock,
    /// Control and scroll lock.
    #[serde(rename = "ctrl-scrolllock")]
    CtrlScrollLock,
}

/// Where the guest's sound goes.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawSound {
    /// No sound card of QEMU's.
    Off,
    /// A sound card that nobody hears.
    Silent,
    /// To who looks at it with SPICE.
    Spice,
    /// ALSA of the host.
    Alsa,
    /// PulseAudio of the host.
    Pulse,
    /// PipeWire of the host; with QEMU 8.1 or later.
    Pipewire,
}

/// A picture without a graphics card.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawDisplay {
    /// None, or on a socket in the VM's runtime folder.
    Kind(RawDisplayKind),
    /// On an address.
    Full(RawDisplayFull),
}

/// Kinds of display.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawDisplayKind {
    /// None.
    Off,
    /// SPICE, on a socket that only root and the group `hostd` may open.
    Spice,
    /// VNC, on such a socket.
    Vnc,
}

/// A picture, and where it is shown.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawDisplayFull {
    /// How.
    #[schemars(required)]
    pub kind: Option<RawViewer>,
    /// Where it listens; a socket in the VM's runtime folder when absent. Off
    /// loopback it needs a `password-file`.
    #[schemars(extend("examples" = ["127.0.0.1:5900"]))]
    pub listen: Option<Text<Endpoint>>,
    /// A file with the password.
    #[schemars(extend("examples" = ["/etc/hostd/gaming.password"]))]
    pub password_file: Option<Text<AbsolutePath>>,
}

/// How a picture is shown.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawViewer {
    /// SPICE.
    Spice,
    /// VNC.
    Vnc,
}

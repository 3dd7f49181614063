//! A VM, as its file describes it: checked, with the defaults of its profile
//! filled in. Nothing here asks the machine; what `auto` means is worked out
//! when the VM starts.

use std::path::PathBuf;
use std::time::Duration;

use crate::base::{Bytes, Name, PciAddress};

/// A VM, as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// The file's stem.
    pub name: Name,
    /// What it is to be; its effects are in the other fields already.
    pub profile: Option<Profile>,
    /// Guest memory.
    pub memory: Bytes,
    /// What the guest's memory is made of.
    pub hugepages: Hugepages,
    /// NUMA node of the host that all of the guest's memory comes from.
    pub numa_node: Option<u32>,
    /// Virtual processors.
    pub cpus: u32,
    /// How they look to the guest; one socket with single-threaded cores when absent.
    pub topology: Option<Topology>,
    /// Which processors of the host they run on.
    pub pinning: Pinning,
    /// QEMU's binary.
    pub qemu: PathBuf,
    /// KVM, or software.
    pub accel: Accel,
    /// QEMU's machine type, pinned: `q35`, `pc-q35-7.2`.
    pub machine: String,
    /// QEMU's processor model; by acceleration when absent.
    pub cpu: Option<String>,
    /// Hyper-V's enlightenments, which Windows knows how to use.
    pub hyperv: bool,
    /// What the guest's clock shows.
    pub clock: GuestClock,
    /// What runs first in the guest.
    pub firmware: Firmware,
    /// A TPM 2.0, by swtpm.
    pub tpm: bool,
    /// Name of a configured card, or the address of an unnamed one.
    pub gpu: Option<GpuRef>,
    /// How the card is given.
    pub gpu_options: GpuOptions,
    /// In the order of the file.
    pub disks: Vec<Disk>,
    /// NVMe controllers that the guest has for itself.
    pub nvme: Vec<Nvme>,
    /// Network of the guest.
    pub network: Network,
    /// The guest's end of it.
    pub nic: Nic,
    /// USB devices of the host that the guest gets when they are there.
    pub usb: Vec<UsbRef>,
    /// Keyboard and mouse of the host, shared by a key.
    pub evdev: Option<Evdev>,
    /// Size of Looking Glass's shared memory.
    pub looking_glass: Option<Bytes>,
    /// Where the guest's sound goes.
    pub sound: Sound,
    /// A picture without a card, for installation.
    pub display: Display,
    /// A serial port, for `vm console`.
    pub serial: bool,
    /// The guest agent's channel.
    pub agent: Agent,
    /// SMBIOS UUID; made once and kept when absent.
    pub uuid: Option<String>,
    /// What the guest's firmware says about the machine.
    pub smbios: Smbios,
    /// Words for QEMU that hostd does not look into.
    pub qemu_args: Vec<String>,
    /// The user that QEMU runs as; hostd's own for VMs when absent.
    pub user: Option<String>,
    /// Its share of the host.
    pub resources: Resources,
    /// Snapshots of its disks.
    pub snapshots: Snapshots,
    /// Whether it starts with the host.
    pub autostart: Option<Autostart>,
    /// What happens when QEMU ends unasked.
    pub on_crash: OnCrash,
    /// Commands around its life.
    pub hooks: Hooks,
    /// How it is stopped.
    pub stop: Stop,
    /// What the host does for it while it runs.
    pub performance: Option<Performance>,
}

/// QEMU, where Debian puts it.
const QEMU: &str = "/usr/bin/qemu-system-x86_64";

impl Vm {
    /// A VM of which nothing but its name and memory is said.
    pub fn plain(name: Name, memory: Bytes) -> Self {
        Self {
            name,
            profile: None,
            memory,
            hugepages: Hugepages::Off,
            numa_node: None,
            cpus: 2,
            topology: None,
            pinning: Pinning::Off,
            qemu: PathBuf::from(QEMU),
            accel: Accel::Kvm,
            machine: "q35".to_owned(),
            cpu: None,
            hyperv: false,
            clock: GuestClock::Utc,
            firmware: Firmware::Seabios { log: false },
            tpm: false,
            gpu: None,
            gpu_options: GpuOptions::default(),
            disks: Vec::new(),
            nvme: Vec::new(),
            network: Network::User,
            nic: Nic::default(),
            usb: Vec::new(),
            evdev: None,
            looking_glass: None,
            sound: Sound::Off,
            display: Display::Off,
            serial: false,
            agent: Agent::default(),
            uuid: None,
            smbios: Smbios::default(),
            qemu_args: Vec::new(),
            user: None,
            resources: Resources::default(),
            snapshots: Snapshots::default(),
            autostart: None,
            on_crash: OnCrash::Stay,
            hooks: Hooks::default(),
            stop: Stop { deadline: Duration::from_secs(60), then: AfterDeadline::Ask },
            performance: None,
        }
    }

    /// Whether a device of the host is handed to the guest, so that all of the
    /// guest's memory is locked and QEMU cannot save its state.
    pub fn has_host_devices(&self) -> bool {
        self.gpu.is_some() || !self.nvme.is_empty()
    }
}

/// What a VM is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// UEFI with Secure Boot, TPM 2.0, Hyper-V's enlightenments.
    Windows11,
    /// UEFI, Hyper-V's enlightenments.
    Windows10,
    /// A BIOS, legacy VGA on the card.
    Windows7,
    /// UEFI, a guest agent.
    Linux,
}

/// What the guest's memory is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hugepages {
    /// Ordinary pages.
    #[default]
    Off,
    /// Pages of 2 MiB or 1 GiB.
    Size(Bytes),
}

/// How the guest sees its processors; the product is their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topology {
    /// Sockets.
    pub sockets: u32,
    /// Dies of each.
    pub dies: u32,
    /// Cores of each die.
    pub cores: u32,
    /// Threads of each core.
    pub threads: u32,
}

/// Which processors of the host the guest runs on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pinning {
    /// Any.
    #[default]
    Off,
    /// Chosen from the host's topology.
    Auto {
        /// Cores that stay with the host.
        leave: u32,
    },
    /// As the owner says.
    Exact {
        /// The host's processor of each virtual one, in their order.
        vcpus: Vec<u32>,
        /// QEMU's other threads; those that are not the guest's when empty.
        emulator: Vec<u32>,
        /// The threads that do the disks' work; as the emulator's when empty.
        iothreads: Vec<u32>,
    },
}

/// What the guest's clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GuestClock {
    /// As Linux wants it.
    #[default]
    Utc,
    /// As Windows wants it.
    Local,
}

/// What runs first in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// QEMU's BIOS; `log` keeps what it says on its debug port.
    Seabios {
        /// Keep the debug port's text.
        log: bool,
    },
    /// UEFI: a read-only code image and a variable store per VM.
    Ovmf {
        /// Code image.
        code: PathBuf,
        /// Template for the variables.
        vars: PathBuf,
        /// Its code protects the variables by SMM, as Secure Boot needs it.
        secure: bool,
    },
}

/// How a VM names its card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuRef {
    /// An entry of `gpus:`.
    Name(Name),
    /// An address.
    Address(PciAddress),
}

/// How a card is given to a guest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GpuOptions {
    /// A file in place of the card's own ROM.
    pub rom: Option<PathBuf>,
    /// How large its video memory's BAR is made.
    pub resizable_bar: ResizableBar,
    /// Legacy VGA; by the card's quirks when absent. Not with UEFI.
    pub x_vga: Option<bool>,
    /// The guest does not see that it is one: for NVIDIA's drivers before 465.
    pub hide_hypervisor: bool,
}

/// How large a resizable BAR is made before a guest gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ResizableBar {
    /// As the host has it.
    #[default]
    Keep,
    /// As large as the card offers.
    Max,
    /// A power of two that the card offers.
    Size(Bytes),
}

/// How guest code is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// Hardware; refused where it does not work.
    Kvm,
    /// Software: slow, works anywhere.
    Tcg,
}

/// A disk of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Block device or file.
    pub path: PathBuf,
    /// `raw` or `qcow2`.
    pub format: DiskFormat,
    /// A disk that must not be written.
    pub readonly: bool,
    /// A CD-ROM drive, whose medium can be changed.
    pub cdrom: bool,
    /// What it hangs on.
    pub bus: DiskBus,
    /// What keeps its data before they are on the disk.
    pub cache: DiskCache,
    /// Place in the boot order, from 1; shared with [`Nvme`].
    pub boot: u32,
    /// A name that the guest can read from it.
    pub serial: Option<String>,
}

impl Disk {
    /// A disk as it is when only its path is given.
    pub fn plain(path: impl Into<PathBuf>, boot: u32) -> Self {
        Self {
            path: path.into(),
            format: DiskFormat::Raw,
            readonly: false,
            cdrom: false,
            bus: DiskBus::Virtio,
            cache: DiskCache::None,
            boot,
            serial: None,
        }
    }
}

/// What a disk hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskBus {
    /// `virtio-blk`: fast; Windows needs a driver.
    #[default]
    Virtio,
    /// `virtio-scsi`: many disks on one controller; Windows needs a driver.
    Scsi,
    /// AHCI: every guest has a driver.
    Sata,
    /// An NVMe controller by QEMU: Windows 10 and 11 have a driver.
    Nvme,
}

/// Who keeps a disk's data before they are on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskCache {
    /// Nobody of the host, where the disk can do so; flushes are obeyed.
    #[default]
    None,
    /// The host's memory too; flushes are obeyed.
    Writeback,
}

/// Format of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// As on a real disk.
    Raw,
    /// QEMU's own.
    Qcow2,
}

/// An NVMe controller that the guest has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nvme {
    /// Where it is.
    pub address: PciAddress,
    /// Place in the boot order, from 1; shared with [`Disk`].
    pub boot: u32,
}

/// Network of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// None.
    None,
    /// Behind QEMU's own address translation.
    User,
    /// On a bridge of the host, through a tap that hostd makes and removes.
    Bridge(String),
    /// On a tap of the host that somebody else has made.
    Tap(String),
}

/// The guest's network card.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nic {
    /// What it looks like.
    pub model: NicModel,
    /// Its hardware address; made once and kept when absent.
    pub mac: Option<[u8; 6]>,
}

/// What a network card looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NicModel {
    /// `virtio-net`: fast; Windows needs a driver.
    #[default]
    Virtio,
    /// An Intel card that Windows has a driver for.
    E1000e,
}

/// How a USB device is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UsbRef {
    /// Vendor and product: whichever port it is in.
    Id(u16, u16),
    /// A port, whatever is in it: bus and the way through its hubs.
    Port {
        /// Bus of the host.
        bus: u8,
        /// Ports, as in `1.4`.
        path: String,
    },
}

/// Keyboard and mouse of the host, shared by a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evdev {
    /// `/dev/input/by-id/…-event-kbd`, `…-event-mouse`.
    pub devices: Vec<PathBuf>,
    /// The keys that give them to the guest and take them back.
    pub toggle: Toggle,
}

/// The keys that give keyboard and mouse to the guest and take them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Toggle {
    /// Both control keys.
    #[default]
    CtrlCtrl,
    /// Both alt keys.
    AltAlt,
    /// Both shift keys.
    ShiftShift,
    /// Both super keys.
    MetaMeta,
    /// Scroll lock.
    ScrollLock,
    /// Control and scroll lock.
    CtrlScrollLock,
}

impl Toggle {
    /// QEMU's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CtrlCtrl => "ctrl-ctrl",
            Self::AltAlt => "alt-alt",
            Self::ShiftShift => "shift-shift",
            Self::MetaMeta => "meta-meta",
            Self::ScrollLock => "scrolllock",
            Self::CtrlScrollLock => "ctrl-scrolllock",
        }
    }
}

/// Where the guest's sound goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sound {
    /// The guest has no sound card of QEMU's; that of a graphics card is another.
    #[default]
    Off,
    /// A sound card that nobody hears.
    Silent,
    /// To who looks at it with SPICE.
    Spice,
    /// ALSA of the host.
    Alsa,
    /// PulseAudio of the host.
    Pulse,
    /// PipeWire of the host; QEMU 8.1.
    Pipewire,
}

/// A picture without a card.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Display {
    /// None.
    #[default]
    Off,
    /// SPICE.
    Spice(Viewers),
    /// VNC.
    Vnc(Viewers),
}

/// Who may look at a guest's picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Viewers {
    /// Who may open a socket in the VM's runtime folder.
    Socket,
    /// Who connects to this address and knows the password in the file.
    Tcp {
        /// Address.
        address: std::net::SocketAddr,
        /// File with the password; only loopback may go without.
        password_file: Option<PathBuf>,
    },
}

/// The guest agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agent {
    /// The guest has the channel.
    pub channel: bool,
    /// Silent for so long, after it has spoken, is not responsive.
    pub silent_after: Duration,
}

impl Default for Agent {
    fn default() -> Self {
        Self { channel: false, silent_after: Duration::from_secs(60) }
    }
}

/// What the guest's firmware says about the machine; empty is QEMU's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Smbios {
    /// System manufacturer.
    pub manufacturer: Option<String>,
    /// System product.
    pub product: Option<String>,
    /// System version.
    pub version: Option<String>,
    /// System serial number.
    pub serial: Option<String>,
    /// Stock keeping unit.
    pub sku: Option<String>,
    /// Family.
    pub family: Option<String>,
}

/// A VM's share of the host: of its scope, in systemd's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Resources {
    /// `CPUWeight=`, 1 to 10000.
    pub cpu_weight: Option<u32>,
    /// `IOWeight=`, 1 to 10000.
    pub io_weight: Option<u32>,
    /// `MemoryMax=` beyond the guest's memory: what QEMU itself may take.
    pub memory_overhead: Option<Bytes>,
}

/// Snapshots of a VM's disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshots {
    /// One is made before each start.
    pub before_start: bool,
    /// How many of those that hostd made by itself are kept.
    pub keep: u32,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { before_start: false, keep: 5 }
    }
}

/// A start with the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Autostart {
    /// Lower ones first; equal ones together.
    pub order: u32,
    /// After the order's turn has come.
    pub delay: Duration,
}

/// What happens when QEMU ends unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCrash {
    /// It stays down.
    #[default]
    Stay,
    /// It is started again, later each time.
    Restart {
        /// At most so often within an hour.
        times: u32,
        /// Before the first; doubled each time, up to five minutes.
        delay: Duration,
    },
}

/// Commands around a VM's life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// Before its devices are touched; one that fails refuses the start.
    pub before_start: Vec<Hook>,
    /// After everything is given back; one that fails is a warning.
    pub after_stop: Vec<Hook>,
}

/// A command around a VM's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Program and arguments; the VM's name is in `HOSTD_VM`.
    pub run: Vec<String>,
    /// After this it is killed, and has failed.
    pub deadline: Duration,
}

/// How a VM is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// How long the guest has after the power button.
    pub deadline: Duration,
    /// What happens then.
    pub then: AfterDeadline,
}

/// What happens when a guest ignores the power button.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterDeadline {
    /// It stays, and the person is told.
    Ask,
    /// QEMU quits.
    Quit,
}

/// What the host does for a VM while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Performance {
    /// The governor of the guest's processors.
    pub governor: Option<String>,
    /// Tasks, kernel threads and interrupts of the host leave the guest's cores.
    pub isolate: bool,
    /// A running scrub is paused, and resumed after.
    pub pause_scrub: bool,
    /// Units that are stopped, and started again after.
    pub stop_services: Vec<String>,
    /// Memory that the host keeps for itself.
    pub reserve: Bytes,
}

impl Default for Performance {
    fn default() -> Self {
        Self {
            governor: Some("performance".to_owned()),
            isolate: true,
            pause_scrub: true,
            stop_services: Vec::new(),
            reserve: Bytes(2 << 30),
        }
    }
}

//! The checked configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::quirks::QuirkFiles;
use crate::base::{Bytes, Name, PciAddress};

/// Everything the owner has written down, checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `host:`.
    pub host: HostSection,
    /// `gpus:`, by name.
    pub gpus: Vec<Gpu>,
    /// `pools:`.
    pub pools: Pools,
    /// `services:`.
    pub services: Vec<Service>,
    /// `events:`.
    pub events: Events,
    /// `vms/*.yaml`, by name.
    pub vms: Vec<Vm>,
    /// `quirks.d/*.yaml`.
    pub quirks: QuirkFiles,
}

impl Config {
    /// Whether a card is to be passed through, which needs an IOMMU.
    pub fn wants_iommu(&self) -> bool {
        !self.gpus.is_empty() || self.vms.iter().any(|vm| vm.gpu.is_some())
    }
}

/// `host:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSection {
    /// Name in events; the machine's host name when absent.
    pub name: Option<String>,
    /// How often the observers look; ttl of events is twice this.
    pub interval: Duration,
}

impl Default for HostSection {
    fn default() -> Self {
        Self { name: None, interval: Duration::from_secs(5) }
    }
}

/// A graphics card that may be given to a guest, with all functions of its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// How people call it.
    pub name: Name,
    /// Any function of its slot.
    pub address: PciAddress,
    /// Identity of function 0; a card that differs is refused.
    pub identity: Option<(u16, u16)>,
    /// Subsystem of function 0: which board it is. Tells two makers' apart.
    pub subsystem: Option<(u16, u16)>,
    /// When the card is elsewhere, it is taken there, if there is only one.
    pub follow: bool,
    /// Other slots of its group that leave the host with it.
    pub with: Vec<PciAddress>,
    /// The display manager is stopped for it, and started when it is back.
    pub stop_display_manager: bool,
}

impl Gpu {
    /// A card at an address, and nothing else said about it.
    pub fn at(name: Name, address: PciAddress) -> Self {
        Self {
            name,
            address,
            identity: None,
            subsystem: None,
            follow: false,
            with: Vec::new(),
            stop_display_manager: false,
        }
    }
}

/// `pools:`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pools {
    /// Pools that must be there; their absence is critical.
    pub expected: Vec<String>,
}

/// A watched service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// How people call it; the event's service is `service <name>`.
    pub name: Name,
    /// systemd unit, the first layer.
    pub unit: Option<String>,
    /// How it is asked.
    pub probe: Probe,
    /// Backing folder, the last layer: it must be there and answer.
    pub path: Option<PathBuf>,
    /// How often.
    pub interval: Duration,
    /// How long each layer may take.
    pub deadline: Duration,
}

/// How a service is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Only its unit and path are looked at.
    None,
    /// A connection is enough.
    Tcp(SocketAddr),
    /// SMB2 negotiation.
    Smb(SocketAddr),
    /// AFP status over DSI.
    Afp(SocketAddr),
}

/// `events:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// Riemann protocol over TCP; `None` is off.
    pub tcp: Option<SocketAddr>,
    /// Riemann protocol over UDP.
    pub udp: Option<SocketAddr>,
}

impl Default for Events {
    fn default() -> Self {
        let loopback = SocketAddr::from(([127, 0, 0, 1], 5555));
        Self { tcp: Some(loopback), udp: Some(loopback) }
    }
}

/// A VM, as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vm {
    /// The file's stem.
    pub name: Name,
    /// Guest memory.
    pub memory: Bytes,
    /// Virtual processors.
    pub cpus: u32,
    /// QEMU's binary.
    pub qemu: PathBuf,
    /// KVM, software, or whichever works.
    pub accel: Accel,
    /// QEMU's machine type, pinned: `q35`, `pc-q35-7.2`.
    pub machine: String,
    /// QEMU's processor model; by acceleration when absent.
    pub cpu: Option<String>,
    /// What runs first in the guest.
    pub firmware: Firmware,
    /// Name of a configured card, or the address of an unnamed one.
    pub gpu: Option<GpuRef>,
    /// How the card is given.
    pub gpu_options: GpuOptions,
    /// In boot order.
    pub disks: Vec<Disk>,
    /// Network of the guest.
    pub network: Network,
    /// How it is stopped.
    pub stop: Stop,
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
    },
}

/// A disk of a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Block device or file.
    pub path: PathBuf,
    /// `raw` or `qcow2`.
    pub format: DiskFormat,
    /// A CD-ROM or a disk that must not be written.
    pub readonly: bool,
}

/// Format of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// As on a real disk.
    Raw,
    /// QEMU's own.
    Qcow2,
}

/// Network of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// None.
    None,
    /// Behind QEMU's own address translation.
    User,
    /// On a bridge of the host.
    Bridge(String),
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

//! What a lab is made of: [`LabSpec`], a plain value with builder methods.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How much of a machine boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// A script for process 1: no systemd, no D-Bus. Seconds.
    Fast,
    /// Debian with systemd, D-Bus, polkit, Samba, Netatalk, zed.
    Full,
    /// Its own disk with GRUB, kernel and Debian initramfs, on an overlay that
    /// outlives QEMU: boot-time setup and power loss.
    OwnBoot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Iommu {
    Intel,
    Amd,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CardKind {
    /// `ati-vga`, 1002:5046, class 0300; Debian loads no driver for it.
    Ati0300,
    /// `secondary-vga`, 1234:1111, class 0380: vfio-pci does not clean up after it.
    Secondary0380,
    /// `VGA`, 1234:1111, class 0300 with boot_vga 1; bochs binds it.
    BootVga0300,
}

/// A graphics card behind a root port of its own; with `audio` a second
/// function, 8086:2668, in the same group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    pub kind: CardKind,
    pub audio: bool,
}

/// A TCP port of the guest, reached on 127.0.0.1. Host port 0: QEMU chooses
/// one, see `Lab::port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    pub host: u16,
    pub guest: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabSpec {
    pub tier: Tier,
    pub iommu: Iommu,
    /// The n-th card's first function is `0n:00.0`, counted from 1.
    pub cards: Vec<Card>,
    /// A PCI bridge with a VGA, a qemu-xhci and an e1000: four in one group.
    pub shared_group: bool,
    /// virtio disks with the serials disk0, disk1, …, each behind a root port.
    pub disks: usize,
    /// NVMe disks with the serials nvme0, nvme1; SATA disks with sata0, …, that
    /// say they spin. As large as the others.
    #[serde(default)]
    pub nvme: usize,
    #[serde(default)]
    pub sata: usize,
    pub disk_mib: u64,
    pub memory_mib: u64,
    /// Processors; the usual number when absent. In software several share one
    /// thread here: a kernel that patches its code while another emulated
    /// processor runs it may panic.
    pub cpus: Option<u32>,
    /// A USB controller, for devices that come later: `Lab::plug_usb`.
    pub usb: bool,
    /// More kernel arguments (not in the own-boot tier: GRUB's are its own).
    pub cmdline: Vec<String>,
    /// Modules loaded at boot (not in the own-boot tier).
    pub modules: Vec<String>,
    /// Files for /payload: the path here, the name there.
    pub payload: Vec<(PathBuf, String)>,
    pub network: bool,
    pub forwards: Vec<Forward>,
    /// Whether `Lab::boot` waits until devices and modules are there, or
    /// systemd has no more jobs; without it, only until the agent answers.
    pub settle: bool,
    /// A raw file as a further disk with the serial `extra`, written through.
    pub extra_disk: Option<PathBuf>,
}

/// What the layout of slots has room for.
pub const MAX_CARDS: usize = 4;
pub const MAX_DISKS: usize = 16;
pub const MAX_NVME: usize = 2;
/// The ports of q35's own controller.
pub const MAX_SATA: usize = 6;

impl LabSpec {
    pub fn new(tier: Tier) -> Self {
        Self {
            tier,
            iommu: Iommu::Intel,
            cards: Vec::new(),
            shared_group: false,
            disks: 0,
            nvme: 0,
            sata: 0,
            disk_mib: 256,
            memory_mib: 2048,
            cpus: None,
            usb: false,
            cmdline: Vec::new(),
            modules: Vec::new(),
            payload: Vec::new(),
            network: false,
            forwards: Vec::new(),
            settle: true,
            extra_disk: None,
        }
    }

    pub fn fast() -> Self {
        Self::new(Tier::Fast)
    }

    pub fn full() -> Self {
        Self::new(Tier::Full)
    }

    pub fn own_boot() -> Self {
        Self::new(Tier::OwnBoot)
    }

    pub fn iommu(mut self, iommu: Iommu) -> Self {
        self.iommu = iommu;
        self
    }

    /// A card with an audio function.
    pub fn card(mut self, kind: CardKind) -> Self {
        self.cards.push(Card { kind, audio: true });
        self
    }

    pub fn card_without_audio(mut self, kind: CardKind) -> Self {
        self.cards.push(Card { kind, audio: false });
        self
    }

    pub fn shared_group(mut self) -> Self {
        self.shared_group = true;
        self
    }

    pub fn disks(mut self, count: usize) -> Self {
        self.disks = count;
        self
    }

    pub fn nvme(mut self, count: usize) -> Self {
        self.nvme = count;
        self
    }

    pub fn sata(mut self, count: usize) -> Self {
        self.sata = count;
        self
    }

    pub fn disk_mib(mut self, size: u64) -> Self {
        self.disk_mib = size;
        self
    }

    pub fn memory_mib(mut self, size: u64) -> Self {
        self.memory_mib = size;
        self
    }

    pub fn cpus(mut self, count: u32) -> Self {
        self.cpus = Some(count);
        self
    }

    pub fn usb(mut self) -> Self {
        self.usb = true;
        self
    }

    pub fn cmdline(mut self, words: &str) -> Self {
        self.cmdline.extend(words.split_whitespace().map(str::to_owned));
        self
    }

    pub fn module(mut self, name: &str) -> Self {
        self.modules.push(name.to_owned());
        self
    }

    pub fn payload(mut self, file: impl Into<PathBuf>, name: &str) -> Self {
        self.payload.push((file.into(), name.to_owned()));
        self
    }

    pub fn network(mut self) -> Self {
        self.network = true;
        self
    }

    /// Makes a TCP port of the guest reachable at `Lab::port(guest)`.
    pub fn forward(mut self, guest: u16) -> Self {
        self.network = true;
        self.forwards.push(Forward { host: 0, guest });
        self
    }

    /// Return from boot as soon as the agent answers.
    pub fn no_settle(mut self) -> Self {
        self.settle = false;
        self
    }

    /// What [`Self::modules`] asks for, and what the parts of the lab need:
    /// vfio-pci with an IOMMU, ZFS and their drivers with disks.
    pub fn all_modules(&self) -> Vec<String> {
        let mut modules = self.modules.clone();
        let mut need = |name: &str| {
            if !modules.iter().any(|module| module.replace('-', "_") == name.replace('-', "_")) {
                modules.push(name.to_owned());
            }
        };
        if self.iommu != Iommu::None && (self.shared_group || !self.cards.is_empty()) {
            need("vfio-pci");
        }
        if self.disks + self.nvme + self.sata > 0 {
            need("zfs");
        }
        if self.nvme > 0 {
            need("nvme");
        }
        if self.sata > 0 {
            need("ahci");
            need("sd-mod");
        }
        modules
    }

    /// Why QEMU would not take it, in the words of the spec.
    pub fn check(&self) -> Result<(), String> {
        if self.cards.len() > MAX_CARDS {
            return Err(format!("{} cards; there is room for {MAX_CARDS}", self.cards.len()));
        }
        if self.disks > MAX_DISKS {
            return Err(format!("{} disks; there is room for {MAX_DISKS}", self.disks));
        }
        if self.nvme > MAX_NVME || self.sata > MAX_SATA {
            return Err(format!(
                "{} NVMe and {} SATA disks; there is room for {MAX_NVME} and {MAX_SATA}",
                self.nvme, self.sata
            ));
        }
        if self.memory_mib < 512 {
            return Err(format!("{} MiB of memory; the lab needs 512", self.memory_mib));
        }
        if self.tier == Tier::OwnBoot && !(self.cmdline.is_empty() && self.modules.is_empty()) {
            return Err("kernel arguments and modules of the own-boot tier are what its own GRUB \
                        and initramfs say: change them inside and reboot"
                .to_owned());
        }
        for (file, name) in &self.payload {
            if name.is_empty() || name.contains('/') || name == "." || name == ".." {
                return Err(format!("{name:?} is no name for {} on the payload", file.display()));
            }
        }
        Ok(())
    }
}

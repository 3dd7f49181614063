//! The checked configuration; a VM is in [`vm`].

mod care;
mod disks;
mod events;
mod health;
mod history;
mod pools;
mod services;
mod streams;
mod upstream;
mod vm;

use std::time::Duration;

pub use self::care::*;
pub use self::disks::*;
pub use self::events::*;
pub use self::health::*;
pub use self::history::*;
pub use self::pools::*;
pub use self::services::*;
pub use self::streams::*;
pub use self::upstream::*;
pub use self::vm::*;
use super::quirks::QuirkFiles;
use crate::base::{Name, PciAddress};

/// Everything the owner has written down, checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// `host:`.
    pub host: HostSection,
    /// `gpus:`, by name.
    pub gpus: Vec<Gpu>,
    /// `pools:`.
    pub pools: Pools,
    /// `care:`.
    pub care: Care,
    /// `disks:`.
    pub disks: Disks,
    /// `services:`.
    pub services: Vec<Service>,
    /// `health:`.
    pub health: Health,
    /// `history:`.
    pub history: History,
    /// `events:`.
    pub events: Events,
    /// `web:`.
    pub web: Web,
    /// `upstream:`.
    pub upstream: Upstream,
    /// `streams:`; without any, every event goes everywhere.
    pub streams: Vec<Step>,
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
    /// Whether services and containers are watched that are just found running.
    pub discover_services: bool,
}

impl Default for HostSection {
    fn default() -> Self {
        Self { name: None, interval: Duration::from_secs(5), discover_services: true }
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

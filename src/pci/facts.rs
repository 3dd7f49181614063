//! What was read: functions, groups, and what could not be read.

use std::collections::BTreeMap;

use super::absent::Absence;
use super::names::DeviceName;
use crate::base::PciAddress;

/// One look at the machine's PCI functions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Every function, also those of which little could be read.
    pub devices: BTreeMap<PciAddress, Device>,
    /// Every IOMMU group, by the kernel's number.
    pub groups: BTreeMap<u32, Group>,
    /// Why there are no groups; `None` when there are some.
    pub absence: Option<Absence>,
    /// What `pcie_acs_override=` on the kernel command line says, if it is there.
    pub acs_override: Option<String>,
    /// What could not be read, in words.
    pub notes: Vec<String>,
}

impl Facts {
    /// The functions of a slot, bridges included, by address.
    pub fn slot(&self, slot: PciAddress) -> impl Iterator<Item = &Device> {
        self.devices.range(slot.with_function(0)..=slot.with_function(7)).map(|(_, device)| device)
    }

    /// The functions of a group; addresses that sysfs lists only in the group are left out.
    pub fn members(&self, group: u32) -> impl Iterator<Item = &Device> {
        let members = self.groups.get(&group).map_or(&[][..], |group| &group.members);
        members.iter().filter_map(|address| self.devices.get(address))
    }
}

/// One IOMMU group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Its PCI functions, by address.
    pub members: Vec<PciAddress>,
    /// What else is in it: platform devices, names that are not addresses.
    pub others: Vec<Other>,
}

/// A member of a group that is no PCI function we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// As sysfs calls it.
    pub name: String,
    /// Its driver.
    pub driver: Driver,
}

/// One PCI function. What could not be read is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Where it is.
    pub address: PciAddress,
    /// Vendor id.
    pub vendor: Option<u16>,
    /// Device id.
    pub device: Option<u16>,
    /// Subsystem vendor and device.
    pub subsystem: Option<(u16, u16)>,
    /// Class, subclass and programming interface: 24 bits.
    pub class: Option<u32>,
    /// Whether the kernel sees a bus behind it; asked only where the class does
    /// not tell a bridge.
    pub has_bus: bool,
    /// What drives it.
    pub driver: Driver,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// Whether firmware used it for the first picture; only display functions say.
    pub boot_vga: Option<bool>,
    /// In words.
    pub name: DeviceName,
}

/// What drives a device. Not being able to tell is a case of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Driver {
    /// Nothing.
    None,
    /// This driver.
    Named(String),
    /// It cannot be read, and why.
    Unknown(String),
}

impl Driver {
    /// The driver's name, if there is one and it is known.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::None | Self::Unknown(_) => None,
        }
    }

    /// Whether a group stays usable for a guest with this driver in it: since
    /// Linux 5.19 those that leave DMA alone or leave it to their user.
    pub fn is_harmless(&self) -> bool {
        match self {
            Self::None => true,
            Self::Named(name) => {
                matches!(name.as_str(), "pci-stub" | "pcieport") || name.contains("vfio")
            }
            Self::Unknown(_) => false,
        }
    }

    /// For a sentence: `driver e1000`, `no driver`.
    pub fn in_words(&self) -> String {
        match self {
            Self::None => "no driver".to_owned(),
            Self::Named(name) => format!("driver {name}"),
            Self::Unknown(why) => format!("driver unknown: {why}"),
        }
    }
}

/// Base class of display controllers.
const DISPLAY: u32 = 0x03;

impl Device {
    /// A function of which only the address is known.
    pub fn unread(address: PciAddress) -> Self {
        Self {
            address,
            vendor: None,
            device: None,
            subsystem: None,
            class: None,
            has_bus: false,
            driver: Driver::None,
            group: None,
            boot_vga: None,
            name: DeviceName::default(),
        }
    }

    /// Class and subclass, `0x0300`.
    pub fn subclass(&self) -> Option<u32> {
        self.class.map(|class| class >> 8)
    }

    /// Vendor and device id.
    pub fn identity(&self) -> Option<(u16, u16)> {
        self.vendor.zip(self.device)
    }

    /// A bridge to another bus: never given to a guest, never in the way.
    pub fn is_bridge(&self) -> bool {
        matches!(self.subclass(), Some(0x0604 | 0x0607 | 0x0609)) || self.has_bus
    }

    /// Whether its class leaves open what kind of bridge it is, if any.
    pub fn is_odd(&self) -> bool {
        let told = [0x0600, 0x0601, 0x0604, 0x0607, 0x0609];
        self.subclass().is_none_or(|class| class >> 8 == 0x06 && !told.contains(&class))
    }

    /// A graphics card's picture function.
    pub fn is_display(&self) -> bool {
        self.class.is_some_and(|class| class >> 16 == DISPLAY)
    }

    /// A disk controller.
    pub fn is_storage(&self) -> bool {
        self.class.is_some_and(|class| class >> 16 == 0x01)
    }

    /// What it is when it belongs to the mainboard and no guest may have it.
    pub fn belongs_to_host(&self) -> Option<&'static str> {
        match self.subclass()? {
            0x0600 => Some("host bridge"),
            0x0601 => Some("ISA bridge"),
            0x0604 | 0x0607 | 0x0609 => None,
            0x0602..=0x06ff => Some("bridge of the mainboard"),
            0x0800..=0x0803 => Some("system device"),
            0x0806 => Some("IOMMU"),
            _ => None,
        }
    }

    /// For a sentence: `0000:02:00.0 (Intel 82540EM, driver e1000)`.
    pub fn in_words(&self) -> String {
        format!("{} ({}, {})", self.address, self.name.short(), self.driver.in_words())
    }
}

//! IOMMU groups and graphics cards.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::PciAddress;

/// `hostctl iommu list`, and in full `hostctl iommu show`, `iommu list --full`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct IommuView {
    /// All groups, by number.
    pub groups: Vec<GroupView>,
    /// Why there are none, or what could not be read.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Whether a group can be given to a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything in it is one slot (and bridges): it can go alone.
    Isolated,
    /// Several slots share it: they can only go together.
    Shared,
    /// Something in it holds it on the host.
    Blocked,
}

/// One IOMMU group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupView {
    /// The kernel's number.
    pub id: u32,
    /// Whether it can be given to a guest.
    pub verdict: Verdict,
    /// The verdict in words, with the devices and what could be done.
    pub reason: String,
    /// By address.
    pub devices: Vec<DeviceView>,
    /// Isolated only because of `pcie_acs_override`, not by hardware.
    #[serde(default)]
    pub by_override: bool,
    /// What to know before giving it away.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What else there is to know; only in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<GroupDetailView>,
}

/// A group in full.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GroupDetailView {
    /// Addresses that a guest cannot have, or that firmware wants mapped; null when unknown.
    pub reserved_regions: Option<Vec<RegionView>>,
    /// Its functions and the bridges above them, with their ACS; null when unknown or when there
    /// is nothing to explain.
    pub path: Option<Vec<HopView>>,
    /// Why its functions are together, in words.
    pub explanation: Vec<String>,
    /// Keys that are null because they could not be read, each with the reason.
    pub unknown: BTreeMap<String, String>,
}

/// One line of a group's `reserved_regions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegionView {
    /// First address, hexadecimal.
    pub start: String,
    /// Last address, hexadecimal.
    pub end: String,
    /// `direct` (firmware insists on it), `direct-relaxable`, `reserved`, `msi`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// One function between a group and the processor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HopView {
    /// Its address.
    pub address: PciAddress,
    /// What it is: `root port`; null when unknown.
    pub kind: Option<String>,
    /// Whether it keeps what is behind it apart.
    pub acs: AcsView,
    /// The services that it offers.
    pub offered: Vec<String>,
    /// Those that are on.
    pub enabled: Vec<String>,
    /// Why it is unknown.
    pub unknown: Option<String>,
}

/// A function's access control services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AcsView {
    /// All that is offered is on.
    On,
    /// Something that is offered is off.
    Off,
    /// PCI Express without ACS.
    Missing,
    /// Conventional PCI, which has none.
    Conventional,
    /// A device with one function needs none.
    NotNeeded,
    /// Could not be read.
    Unknown,
}

/// One PCI function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceView {
    /// Its address.
    pub address: PciAddress,
    /// Vendor id, four hexadecimal digits.
    pub vendor: String,
    /// Device id, four hexadecimal digits.
    pub device: String,
    /// Class code, six hexadecimal digits.
    pub class: String,
    /// Vendor and device in words.
    pub name: String,
    /// Bound driver.
    pub driver: Option<String>,
    /// Whether firmware used it for the first picture; null where the kernel does not say.
    pub boot_vga: Option<bool>,
    /// The class in words; empty when it has none.
    #[serde(default)]
    pub class_name: String,
    /// Vendor and device id of the board it is on, `1da2:e353`; null when it has none.
    #[serde(default)]
    pub subsystem: Option<String>,
    /// The board in words.
    #[serde(default)]
    pub subsystem_name: Option<String>,
    /// What else there is to know; only in full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<DetailView>,
}

/// A function in full. What is null and not in `unknown` the kernel does not offer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DetailView {
    /// Ways to reset it, in the order in which the kernel tries them.
    pub reset_methods: Option<Vec<String>>,
    /// Its NUMA node; null on a machine with one.
    pub numa_node: Option<u32>,
    /// The link as it is now.
    pub link: Option<LinkView>,
    /// The best that the function can do.
    pub max_link: Option<LinkView>,
    /// Its BARs.
    pub bars: Option<Vec<BarView>>,
    /// Its ROM's BAR.
    pub rom: Option<RomBarView>,
    /// `D0` when awake, `D3cold` without power.
    pub power_state: Option<String>,
    /// Whether it may lose its power.
    pub d3cold_allowed: Option<bool>,
    /// Keys that are null because they could not be read, each with the reason.
    pub unknown: BTreeMap<String, String>,
}

/// A PCI Express link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkView {
    /// `8.0 GT/s`.
    pub speed: String,
    /// Lanes.
    pub width: u8,
}

/// A BAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BarView {
    /// 0 to 5.
    pub index: u8,
    /// Where it begins, hexadecimal.
    pub start: String,
    /// Bytes.
    pub size: u64,
    /// `memory` or `io`.
    #[serde(rename = "type")]
    pub kind: String,
    /// It may lie above 4 GiB.
    pub is_64_bit: bool,
    /// Reading it changes nothing.
    pub prefetchable: bool,
    /// The sizes that it can have; null where it has only one, or they are unknown.
    pub sizes: Option<Vec<u64>>,
}

/// A ROM's BAR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RomBarView {
    /// Bytes.
    pub size: u64,
    /// It is the copy that firmware left at 0xC0000, not the card's own.
    pub shadow: bool,
}

/// `hostctl gpu list`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpusView {
    /// Configured cards first, then the others found.
    pub gpus: Vec<GpuView>,
    /// What could not be read: there may be more cards.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One graphics card as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GpuView {
    /// Configured name; the address where there is none.
    pub name: String,
    /// Of function 0.
    pub address: PciAddress,
    /// The card in words.
    #[serde(default)]
    pub model: String,
    /// All functions of its slot.
    pub functions: Vec<PciAddress>,
    /// Driver of function 0.
    pub driver: Option<String>,
    /// IOMMU group of function 0.
    pub group: Option<u32>,
    /// Whether all functions are on vfio-pci.
    pub bound: bool,
    /// What is left to resolve, in words; from the journal.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The card as one thing.
    #[serde(flatten)]
    pub card: CardView,
}

/// A graphics card's functions, and what it means to give them away.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CardView {
    /// Each function of its slot.
    pub parts: Vec<PartView>,
    /// All IOMMU groups of its functions.
    pub groups: Vec<u32>,
    /// The worst verdict of its groups; null when it is in none.
    pub verdict: Option<Verdict>,
    /// That verdict in words.
    pub reason: String,
    /// Whether firmware used it for the first picture; null where the kernel does not say.
    pub boot_vga: Option<bool>,
    /// Its link as it is now; null when it sleeps, has none, or cannot be read.
    pub link: Option<LinkView>,
    /// The best that it can do; null as above.
    pub max_link: Option<LinkView>,
    /// Bytes of its largest memory BAR: the window to its memory.
    pub vram_bar: Option<u64>,
    /// Whether it has a ROM of its own; null when unknown.
    pub rom: Option<bool>,
    /// What the kernel's VGA arbiter says: which legacy addresses it decodes,
    /// owns, and somebody has locked; null when it is no VGA card, or only root is told.
    pub vga_arbiter: Option<String>,
    /// What to know before giving it away.
    pub warnings: Vec<String>,
}

/// One function of a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartView {
    /// Its address.
    pub address: PciAddress,
    /// Class code, six hexadecimal digits.
    pub class: String,
    /// The class in words.
    pub class_name: String,
    /// Vendor and device in words.
    pub name: String,
    /// Bound driver.
    pub driver: Option<String>,
    /// Its IOMMU group.
    pub group: Option<u32>,
}

/// `hostctl gpu plan`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlanView {
    /// In the order they would be taken.
    pub steps: Vec<String>,
    /// What to know before.
    pub warnings: Vec<String>,
}

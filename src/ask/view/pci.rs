//! IOMMU groups and graphics cards.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::PciAddress;

/// `hostctl iommu list`.
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
}

/// `hostctl gpu plan`, `vm plan`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlanView {
    /// In the order they would be taken.
    pub steps: Vec<String>,
    /// What to know before.
    pub warnings: Vec<String>,
}

//! What is known about cards, and their ROMs.

use serde::{Deserialize, Serialize};

use super::pool::FindingView;
use crate::base::PciAddress;

/// `hostctl gpu quirks`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct QuirksView {
    /// Configured cards first, then the others found.
    pub gpus: Vec<GpuQuirksView>,
    /// Quirk files that are left out, and what could not be read.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The quirks of one card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuQuirksView {
    /// Configured name; the address where there is none.
    pub name: String,
    /// Of function 0.
    pub address: PciAddress,
    /// By function; hostd's own first, then those of quirks.d.
    pub quirks: Vec<QuirkView>,
}

/// One thing that is known about a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuirkView {
    /// Which function.
    pub function: PciAddress,
    /// Its vendor and device id.
    pub id: String,
    /// As in a quirk file: `warn`, `reset: no-flr`, …
    pub action: String,
    /// What happens otherwise.
    pub why: String,
    /// Where it is known from; empty when nobody can say.
    pub source: String,
    /// Nobody has checked it.
    pub experimental: bool,
}

/// `hostctl gpu rom check`, `gpu rom dump`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RomView {
    /// The file that was checked or written.
    pub file: String,
    /// The card that it is meant for.
    pub gpu: Option<String>,
    /// In bytes.
    pub size: u64,
    /// Whether a guest may be given it: no finding is critical.
    pub usable: bool,
    /// Whether the file was written just now.
    #[serde(default)]
    pub written: bool,
    /// What stands before the first image.
    pub header: Option<RomHeaderView>,
    /// In the file's order.
    pub images: Vec<RomImageView>,
    /// What is wrong.
    pub findings: Vec<FindingView>,
    /// What is good to know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// What stands before the first image of a ROM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RomHeaderView {
    /// In bytes.
    pub length: u64,
    /// Whether it is the one that NVIDIA's flash begins with.
    pub nvidia: bool,
}

/// One image of a ROM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RomImageView {
    /// From the beginning of the file.
    pub offset: u64,
    /// In bytes, as it says.
    pub length: u64,
    /// `x86`, `efi`, `open-firmware`, `pa-risc`, `type-70`, …
    pub kind: String,
    /// Vendor id, four hexadecimal digits.
    pub vendor: String,
    /// Device id, four hexadecimal digits.
    pub device: String,
    /// Other device ids that it is for.
    pub devices: Vec<String>,
    /// Whether it says that none follows.
    pub last: bool,
    /// Of `x86`: whether its bytes add up to 0; null for others, and where it is cut off.
    pub checksum: Option<bool>,
    /// Of `efi`: the processor it runs on.
    pub machine: Option<String>,
}

/// A ROM on its way from the daemon to the file of whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RomDumpView {
    /// What it is.
    pub rom: RomView,
    /// What was read, two hexadecimal digits a byte.
    pub data: String,
}

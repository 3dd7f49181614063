//! What is set up for the next boot.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FindingView;
use crate::base::PciAddress;

/// `hostctl boot plan`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BootPlanView {
    /// The cards that are to be on vfio-pci from the start; empty for a removal.
    pub gpus: Vec<BootGpuView>,
    /// Words for the kernel's command line.
    pub words: Vec<String>,
    /// Files that change.
    pub files: Vec<BootFileView>,
    /// Run afterwards, in this order.
    pub commands: Vec<String>,
    /// What to know before.
    pub warnings: Vec<String>,
}

/// One card in a plan or a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BootGpuView {
    /// Configured name; the address where there is none.
    pub name: String,
    /// Its functions.
    pub functions: Vec<BootFunctionView>,
}

/// One function of a card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BootFunctionView {
    /// Its address.
    pub address: PciAddress,
    /// Vendor and device, `1002:5046`.
    pub id: String,
}

/// One file that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BootFileView {
    /// Where.
    pub path: String,
    /// What becomes of it.
    pub action: BootAction,
    /// As a unified diff.
    pub diff: String,
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BootAction {
    /// It is made.
    Create,
    /// It is changed.
    Change,
    /// It is removed.
    Remove,
}

/// `hostctl boot status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct BootStatusView {
    /// Whether anything is set up.
    pub set_up: bool,
    /// `hostd.safe` is on the kernel's command line: nothing is bound.
    pub safe_mode: bool,
    /// The cards that are set up.
    pub gpus: Vec<BootGpuView>,
    /// What was looked at; fine is `ok`.
    pub checks: Vec<FindingView>,
}

//! What replies carry, and what `--json` prints: one struct a document.
//!
//! - [`boot`]: what is set up for the next boot
//! - [`pci`]: groups, cards, plans
//! - [`quirk`]: quirks and ROMs
//! - [`mod@doctor`]: the doctor's checks
//! - [`usb`]: USB devices
//! - [`snapshot`]: snapshots of a VM
//! - [`talk`]: what a guest shows and is told
//! - [`vm`], [`pool`], [`service`]: VMs, pools; services, events, the status

pub mod boot;
pub mod doctor;
pub mod pci;
pub mod pool;
pub mod quirk;
pub mod service;
pub mod snapshot;
pub mod talk;
pub mod usb;
pub mod vm;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use boot::*;
pub use doctor::*;
pub use pci::*;
pub use pool::*;
pub use quirk::*;
pub use service::*;
pub use snapshot::*;
pub use talk::*;
pub use usb::*;
pub use vm::*;

/// To an ask that acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DoneView {
    /// False when it was already so.
    pub changed: bool,
    /// What was done, in a sentence.
    pub message: String,
    /// What is left to know.
    #[serde(default)]
    pub warnings: Vec<String>,
}

//! What replies carry, and what `--json` prints: one struct a document.
//!
//! - [`boot`]: what is set up for the next boot
//! - [`pci`]: groups, cards, plans
//! - [`quirk`]: quirks and ROMs
//! - [`mod@doctor`]: the doctor's checks
//! - [`usb`]: USB devices
//! - [`snapshot`]: snapshots of a VM
//! - [`replay`]: what came of recorded events in the streams
//! - [`talk`]: what a guest shows and is told
//! - [`vm`], [`pool`], [`service`]: VMs, pools; services, events, the status
//! - [`disk`], [`machine`], [`care`]: disks, the machine itself, what is done by itself
//! - [`history`]: what was
//! - [`sink`]: where events are sent besides

pub mod boot;
pub mod care;
pub mod disk;
pub mod doctor;
pub mod history;
pub mod machine;
pub mod pci;
pub mod pool;
pub mod quirk;
pub mod replay;
pub mod service;
pub mod sink;
pub mod snapshot;
pub mod talk;
pub mod usb;
pub mod vm;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use boot::*;
pub use care::*;
pub use disk::*;
pub use doctor::*;
pub use history::*;
pub use machine::*;
pub use pci::*;
pub use pool::*;
pub use quirk::*;
pub use replay::*;
pub use service::*;
pub use sink::*;
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

impl DoneView {
    /// Something was changed, and nothing else is to be known.
    pub fn changed(message: impl Into<String>) -> Self {
        Self { changed: true, message: message.into(), warnings: Vec::new() }
    }

    /// It was so already.
    pub fn already(message: impl Into<String>) -> Self {
        Self { changed: false, message: message.into(), warnings: Vec::new() }
    }
}

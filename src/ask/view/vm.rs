//! VMs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Name, PciAddress, Timestamp};

/// `hostctl vm list`, `vm status`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct VmsView {
    /// By name.
    pub vms: Vec<VmView>,
}

/// The states of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum VmState {
    /// No process.
    Off,
    /// Devices are being made ready; no process yet.
    Preparing,
    /// QEMU was started and has not said that the guest runs.
    Starting,
    /// The guest's processors run.
    Running,
    /// The guest's processors are halted by request or by an I/O error.
    Paused,
    /// The guest was asked to shut down.
    Stopping,
    /// QEMU ended without being asked.
    Crashed,
    /// It could not be started, or not be cleaned up.
    Failed,
}

impl VmState {
    /// The word used in JSON and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopping => "stopping",
            Self::Crashed => "crashed",
            Self::Failed => "failed",
        }
    }
}

/// One VM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VmView {
    /// From its file.
    pub name: Name,
    /// Where it is in its life.
    pub state: VmState,
    /// Since when.
    pub since: Timestamp,
    /// Why it is in this state.
    pub reason: String,
    /// Of QEMU.
    pub pid: Option<u32>,
    /// Addresses of passed-through functions.
    #[serde(default)]
    pub devices: Vec<PciAddress>,
    /// What the supervisor is doing at the moment; empty when at rest.
    #[serde(default)]
    pub step: String,
    /// False when QEMU lives and does not answer: nobody knows then whether
    /// the guest runs. Left out when true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub responsive: bool,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_true(flag: &bool) -> bool {
    *flag
}

/// `hostctl vm log`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LogView {
    /// The end of the log, at most 256 KiB.
    pub text: String,
    /// Where the whole of it is.
    pub path: String,
}

/// `hostctl vm plan`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct VmPlanView {
    /// What a start would do, in its order.
    pub steps: Vec<String>,
    /// What stands against it; a start is refused with all of them.
    pub problems: Vec<VmProblemView>,
    /// What to know, and what is not known.
    pub warnings: Vec<String>,
    /// QEMU's machine type, with its version where it is known.
    pub machine: String,
    /// QEMU's name and version, where it is known.
    pub qemu: Option<String>,
}

/// What stands against a start.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct VmProblemView {
    /// What is the case.
    pub what: String,
    /// What to do.
    pub next: String,
}

/// `hostctl vm argv`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct VmArgvView {
    /// The words after the program; what is not text is replaced.
    pub args: Vec<String>,
    /// The whole command as a shell takes it, one option a line.
    pub command: String,
}

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
    /// What it takes of the host, in `vm status` of one that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<VmStatsView>,
}

/// What a VM took of the host lately; null is what could not be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VmStatsView {
    /// When this was so.
    pub time: Timestamp,
    /// Over how many seconds.
    pub seconds: f64,
    /// How busy its processors were, 0 to 1; a little more with what QEMU does
    /// itself.
    pub cpu: Option<f64>,
    /// Bytes of memory that it has of the host.
    pub memory: Option<u64>,
    /// Its disks.
    pub disks: Vec<DiskStatsView>,
}

/// What a disk of a VM did, per second.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DiskStatsView {
    /// QEMU's name for it: `disk0`.
    pub name: String,
    /// Bytes read a second.
    pub read_bytes: f64,
    /// Bytes written a second.
    pub written_bytes: f64,
    /// Reads a second.
    pub reads: f64,
    /// Writes a second.
    pub writes: f64,
    /// Flushes a second.
    pub flushes: f64,
    /// Seconds that a read took; null when there was none.
    pub read_seconds: Option<f64>,
    /// Seconds that a write took; null when there was none.
    pub write_seconds: Option<f64>,
    /// Seconds that a flush took; null when there was none.
    pub flush_seconds: Option<f64>,
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

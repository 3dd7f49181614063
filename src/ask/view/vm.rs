//! VMs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Bytes, Name, PciAddress, Timestamp};

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
    /// the guest runs. False too when the guest runs and its agent, which has
    /// spoken before, is silent. Left out when true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub responsive: bool,
    /// True when it is paused because somebody wanted it so. Left out when false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub held: bool,
    /// Whether the guest's agent speaks; left out as long as it never has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<bool>,
    /// What the agent says of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestView>,
    /// What the host does for it while it runs; left out when that is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub performance: Option<PerformanceView>,
}

impl VmView {
    /// A VM in a state, and nothing else known of it.
    pub fn new(name: Name, state: VmState, since: Timestamp, reason: impl Into<String>) -> Self {
        Self {
            name,
            state,
            since,
            reason: reason.into(),
            pid: None,
            devices: Vec::new(),
            step: String::new(),
            responsive: true,
            held: false,
            agent: None,
            guest: None,
            performance: None,
        }
    }
}

/// What a guest says of itself, through its agent; empty where it does not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct GuestView {
    /// `Microsoft Windows 11`.
    pub os: String,
    /// `22631`.
    pub kernel: String,
    /// Its own name.
    pub host_name: String,
    /// Where others reach it.
    pub addresses: Vec<String>,
}

/// What is in force on the host for a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PerformanceView {
    /// Where its threads run; nothing when they run anywhere.
    pub pins: Option<PinsView>,
    /// Governor of its processors, where hostd has set it.
    pub governor: Option<String>,
    /// What was moved off its processors; nothing when it shares them.
    pub moved: Option<MovedView>,
    /// What could not be moved or set, in words.
    #[serde(default)]
    pub cannot_move: Vec<String>,
    /// Its huge pages.
    pub hugepages: Option<HugepagesView>,
    /// Limit of ZFS's cache in bytes, where hostd has lowered it.
    #[schemars(with = "Option<u64>")]
    pub arc_max: Option<Bytes>,
    /// Pools whose scrub waits until it has ended.
    #[serde(default)]
    pub paused_scrubs: Vec<String>,
    /// Units that are started again when it has ended.
    #[serde(default)]
    pub stopped_services: Vec<String>,
}

/// Processors of the host, as lists of the kernel: `0-3,8`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PinsView {
    /// That of each virtual one, in their order.
    pub vcpus: Vec<u32>,
    /// Those of QEMU's other threads.
    pub emulator: String,
    /// Those of its I/O threads.
    pub iothreads: String,
    /// Those that are left to the host.
    pub host: String,
}

/// How much was moved off a VM's processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MovedView {
    /// Kernel threads.
    pub kthreads: usize,
    /// Interrupts.
    pub irqs: usize,
}

/// Huge pages of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HugepagesView {
    /// How many it has.
    pub pages: u64,
    /// Bytes of each.
    #[schemars(with = "u64")]
    pub size: Bytes,
    /// How many of them hostd has added, and takes away when it has ended.
    pub added: u64,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_true(flag: &bool) -> bool {
    *flag
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// `hostctl vm log`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LogView {
    /// The end of the log, at most 256 KiB.
    pub text: String,
    /// Where the whole of it is.
    pub path: String,
}

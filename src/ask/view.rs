//! What replies carry, and what `--json` prints: one struct a document.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Event, Name, PciAddress, Severity, Timestamp};

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

/// `hostctl gpu plan`, `vm plan`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PlanView {
    /// In the order they would be taken.
    pub steps: Vec<String>,
    /// What to know before.
    pub warnings: Vec<String>,
}

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

/// `hostctl pool list`, `pool status`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PoolsView {
    /// By name; expected pools that are absent included.
    pub pools: Vec<PoolView>,
    /// What could not be read, or why there are none.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Whether there may be more pools than could be read.
    #[serde(default)]
    pub unread: bool,
}

/// One pool with its judgement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PoolView {
    /// Its name.
    pub name: String,
    /// As ZFS says it: ONLINE, DEGRADED, SUSPENDED, …; ABSENT when expected and not there.
    pub state: String,
    /// The worst finding.
    pub health: Severity,
    /// Failures still tolerated before data are lost; null when not known.
    pub tolerates: Option<u32>,
    /// Used fraction 0–1.
    pub capacity: Option<f64>,
    /// The running or last scrub or resilver.
    pub scan: Option<ScanView>,
    /// Worst first.
    pub findings: Vec<FindingView>,
    /// Top-level vdevs.
    pub vdevs: Vec<VdevView>,
}

/// A scrub or resilver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScanView {
    /// `scrub` or `resilver`.
    pub function: String,
    /// `scanning`, `finished`, `canceled`, `paused`.
    pub state: String,
    /// Fraction done 0–1.
    pub progress: Option<f64>,
    /// Errors found.
    pub errors: u64,
    /// Started.
    pub started: Option<Timestamp>,
    /// Ended.
    pub ended: Option<Timestamp>,
}

/// One thing to know about a pool, disk or service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FindingView {
    /// How bad.
    pub severity: Severity,
    /// A stable word for scripts: `device-missing`, `data-errors`, …
    pub code: String,
    /// What it is about: a pool, vdev, share.
    pub object: String,
    /// What is the case.
    pub message: String,
    /// What to do; empty when nothing.
    pub advice: String,
}

/// A vdev with its children.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct VdevView {
    /// `raidz2-0`, or the device's path.
    pub name: String,
    /// `raidz`, `mirror`, `disk`, `file`, `replacing`, `spare`, …
    pub kind: String,
    /// `normal`, `special`, `dedup`, `log`, `cache`, `spare`.
    pub class: String,
    /// As ZFS says it.
    pub state: String,
    /// Read errors since the last clear.
    pub read_errors: u64,
    /// Write errors.
    pub write_errors: u64,
    /// Checksum errors.
    pub checksum_errors: u64,
    /// Failures still tolerated, for a top-level vdev.
    pub tolerates: Option<u32>,
    /// Members.
    pub children: Vec<VdevView>,
}

/// `hostctl service list`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServicesView {
    /// By name.
    pub services: Vec<ServiceView>,
}

/// One watched service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceView {
    /// Configured name.
    pub name: String,
    /// Its worst layer.
    pub health: Severity,
    /// The layer that decides: `unit`, `connect`, `protocol`, `path`.
    pub layer: String,
    /// What is the case.
    pub message: String,
    /// What to do; empty when nothing.
    pub advice: String,
    /// Seconds the probe took.
    pub latency: Option<f64>,
    /// Since when it has been in this health.
    pub since: Timestamp,
}

/// `hostctl event query`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EventsView {
    /// By host and service.
    pub events: Vec<EventView>,
}

/// One event; every key is always there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Host.
    pub host: Option<String>,
    /// Service.
    pub service: Option<String>,
    /// State.
    pub state: Option<String>,
    /// Text for people.
    pub description: Option<String>,
    /// Value; null when absent or not a number.
    pub metric: Option<f64>,
    /// Tags.
    pub tags: Vec<String>,
    /// Seconds.
    pub ttl: Option<f32>,
    /// Seconds since 1970, with a fraction.
    pub time: Option<f64>,
    /// Further keys.
    pub attributes: BTreeMap<String, String>,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        Self {
            host: event.host.clone(),
            service: event.service.clone(),
            state: event.state.clone(),
            description: event.description.clone(),
            metric: event.metric.map(crate::base::Metric::as_f64).filter(|m| m.is_finite()),
            tags: event.tags.clone(),
            ttl: event.ttl,
            time: event.time.map(Timestamp::secs_f64),
            attributes: event.attributes.clone(),
        }
    }
}

/// `hostctl status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// Name of the host in events.
    pub host: String,
    /// Version of the daemon.
    pub version: String,
    /// Started.
    pub started: Timestamp,
    /// How often the snapshot has changed.
    pub generation: u64,
    /// The worst of everything below.
    pub health: Severity,
    /// One line per thing that matters, worst first.
    pub lines: Vec<StatusLine>,
    /// What the daemon cannot do here and why: no root, no IOMMU, no bus.
    pub unavailable: Vec<String>,
}

/// One line of `hostctl status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusLine {
    /// `iommu`, `gpu`, `vm`, `pool`, `service`.
    pub kind: String,
    /// Which one.
    pub name: String,
    /// How it is.
    pub health: Severity,
    /// Its state in one word: `running`, `bound`, `DEGRADED`.
    pub state: String,
    /// What a person should know.
    pub summary: String,
}

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

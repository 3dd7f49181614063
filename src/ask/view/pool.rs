//! Pools.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Severity, Timestamp};

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
    /// What decides on which pool a path lies; not part of the document.
    #[serde(skip)]
    pub places: Places,
}

/// What decides, beside the mounts of its datasets, on which pool a path lies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// Mount points of other file systems that lie below one of ZFS: what is
    /// there is on no pool.
    pub others: Vec<String>,
    /// File systems on zvols: the zvol's dataset, and where it is mounted.
    pub on_zvols: Vec<MountView>,
    /// The kernel's name of each zvol (`zd16`), and its dataset.
    pub zvols: Vec<(String, String)>,
}

/// One pool with its judgement.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// When it will be full if it goes on as in the last days; null when that
    /// is not known, or never.
    #[serde(default)]
    pub fills: Option<Timestamp>,
    /// The last scrub that ended, of which hostd keeps the memory: ZFS forgets
    /// it at the next resilver.
    #[serde(default)]
    pub scrubbed: Option<ScrubbedView>,
    /// Where its datasets are mounted.
    #[serde(default)]
    pub mounts: Vec<MountView>,
    /// What stops when the pool does: VMs, shares, libraries, other mounts.
    #[serde(default)]
    pub dependants: Vec<DependantView>,
}

/// A scrub that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ScrubbedView {
    /// When.
    pub ended: Timestamp,
    /// Errors it could not repair.
    pub errors: u64,
}

/// A dataset that is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MountView {
    /// `tank/media`.
    pub dataset: String,
    /// `/tank/media`.
    pub path: String,
}

/// Something that lives on a pool.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
pub struct DependantView {
    /// `vm`, `share`, `library`, `service` or `mount`.
    pub kind: String,
    /// Its name: the VM's, the share's.
    pub name: String,
    /// The path or zvol through which it depends on the pool.
    pub path: String,
}

/// A scrub or resilver.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// Bytes a second over the last minutes, as measured by hostd; null before
    /// that is known.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Seconds until it ends at this rate.
    #[serde(default)]
    pub left: Option<u64>,
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
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// The disk it is on; null for what is no disk, or not found.
    #[serde(default)]
    pub disk: Option<VdevDiskView>,
}

/// Which disk a vdev is on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct VdevDiskView {
    /// The kernel's name: `sdc`, `nvme0n1`.
    pub name: String,
    /// As the disk says; empty when it does not.
    pub model: String,
    /// As the disk says; empty when it does not.
    pub serial: String,
    /// Where it is plugged in: an enclosure's slot, else the port's path; may be empty.
    pub slot: String,
}

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

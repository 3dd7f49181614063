//! Disks and their health.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::FindingView;
use crate::base::{Severity, Timestamp};

/// `hostctl disk list`, `disk status`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DisksView {
    /// By name.
    pub disks: Vec<DiskView>,
    /// What could not be read, or why there are none.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DiskView {
    /// The kernel's name: `sdc`, `nvme0n1`.
    pub name: String,
    /// As the disk says; empty when it does not.
    pub model: String,
    /// As the disk says; empty when it does not.
    pub serial: String,
    /// Bytes.
    pub size: Option<u64>,
    /// Where it is plugged in: an enclosure's slot, else the port's path; may be empty.
    pub slot: String,
    /// `sata`, `sas`, `nvme`, `usb`, `virtio`; empty when not known.
    pub transport: String,
    /// `active`, `standby`, or `unknown`.
    pub power: String,
    /// The worst finding.
    pub health: Severity,
    /// Degrees Celsius.
    pub temperature: Option<f64>,
    /// Hours that it has been powered.
    pub hours: Option<u64>,
    /// Share of its life in writes that is used up, 0–1; may pass 1.
    pub worn: Option<f64>,
    /// When it last told its health: a sleeping disk is not asked.
    pub read: Option<Timestamp>,
    /// The pool that it is in.
    pub pool: Option<String>,
    /// Its vdev there, as `zpool` calls it.
    pub vdev: Option<String>,
    /// Worst first.
    pub findings: Vec<FindingView>,
    /// Paths that lead to it or to a part of it: by these a pool's vdev is
    /// found. Not sent.
    #[serde(skip)]
    pub links: Vec<String>,
}

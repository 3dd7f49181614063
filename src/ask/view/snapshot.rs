//! Snapshots of a VM.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Name, Timestamp};

/// `hostctl vm snapshot list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotsView {
    /// Whose they are.
    pub vm: Name,
    /// Oldest first; damaged ones last.
    pub snapshots: Vec<SnapshotView>,
    /// What could not be looked at, and what has to be finished.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// How a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SnapshotState {
    /// All of it is there.
    Whole,
    /// Some of it is missing, or was never made.
    Incomplete,
    /// Whether all of it is there could not be seen.
    Unknown,
    /// Its note cannot be read: nobody knows what belongs to it.
    Damaged,
}

impl SnapshotState {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Incomplete => "incomplete",
            Self::Unknown => "unknown",
            Self::Damaged => "damaged",
        }
    }
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotView {
    /// As it is named to `revert` and `delete`.
    pub name: String,
    /// When it was made.
    pub time: Timestamp,
    /// `person`, or `before-start` for one that hostd made by itself.
    pub why: String,
    /// How it is.
    pub state: SnapshotState,
    /// What is wrong with it; empty when it is whole.
    #[serde(default)]
    pub problem: String,
    /// Whether the VM was on.
    pub running: bool,
    /// Whether the guest had written everything out and kept still. Of one
    /// that was on and not frozen, the disks are as after a power failure.
    pub frozen: bool,
    /// Whether UEFI's variables are in it.
    pub firmware: bool,
    /// Whether the TPM's state is in it.
    pub tpm: bool,
    /// Its disks.
    pub disks: Vec<SnapshotDiskView>,
    /// Disks that are not in it, with the reason.
    #[serde(default)]
    pub left_out: Vec<String>,
}

/// A disk of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotDiskView {
    /// As in the VM's file.
    pub path: String,
    /// `zvol` or `qcow2`.
    pub kind: String,
    /// What ZFS or the image calls it.
    pub name: String,
    /// Whether it is there; null when that could not be seen.
    pub there: Option<bool>,
    /// Bytes that the disk held when it was made.
    pub size: Option<u64>,
    /// Bytes that are kept for nothing else, where that is known.
    pub used: Option<u64>,
}

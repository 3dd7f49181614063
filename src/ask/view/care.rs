//! What hostd does for pools by itself: scrubs and snapshots.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Severity, Timestamp};

/// `hostctl care list`, `pool scrub status`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CareView {
    /// By name.
    pub jobs: Vec<JobView>,
    /// What could not be read.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One thing that is done again and again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct JobView {
    /// `scrub tank`, `snapshots tank/media`.
    pub name: String,
    /// `scrub` or `snapshots`.
    pub kind: String,
    /// The pool or dataset.
    pub object: String,
    /// How well it goes.
    pub health: Severity,
    /// `off`, `waiting`, `running`, `held`, `paused`, or `elsewhere`: another
    /// program does it.
    pub state: String,
    /// What is the case, and why.
    pub message: String,
    /// What the configuration says, in words; empty when it says nothing.
    pub policy: String,
    /// When it was last done.
    pub last: Option<Timestamp>,
    /// When it is due.
    pub next: Option<Timestamp>,
}

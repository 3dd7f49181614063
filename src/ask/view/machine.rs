//! The machine itself: processors, memory, mounts, network, temperatures.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Severity;

/// `hostctl host status`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MachineView {
    /// By service.
    pub readings: Vec<ReadingView>,
    /// What could not be read.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One thing that is measured; also an event of this service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReadingView {
    /// As riemann-tools and collectd call it: `cpu`, `load`, `disk /`, `eth0 rx bytes`.
    pub service: String,
    /// By the thresholds.
    pub health: Severity,
    /// The metric; null when it could not be read.
    pub value: Option<f64>,
    /// What the metric counts: `fraction`, `bytes`, `bytes/s`, `°C`, …
    pub unit: String,
    /// For people.
    pub message: String,
    /// Further keys of the event.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
}

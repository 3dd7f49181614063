//! Where events are sent besides.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Severity;

/// One receiver of events, and what waits for it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SinkView {
    /// As the configuration calls it.
    pub name: String,
    /// How well it goes.
    pub health: Severity,
    /// What is the case, and why.
    pub message: String,
    /// Events that wait.
    pub waiting: u64,
    /// How many seconds the oldest has waited; none when nothing waits.
    pub oldest: Option<f64>,
    /// Counters since the start, by name.
    pub counters: Vec<(String, u64)>,
}

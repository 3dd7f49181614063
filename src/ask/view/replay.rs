//! What came of recorded events in the streams.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EventView;

/// `hostctl event test-stream`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ReplayView {
    /// What came out, in its order.
    pub outputs: Vec<ReplayedView>,
    /// How many more came out, that are not listed.
    pub more: u64,
    /// Events that were refused, since their host and service is hostd's own.
    pub refused: u64,
    /// Events and children that the bounds of the streams have cost.
    pub lost: u64,
}

/// One event that came out of the streams.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReplayedView {
    /// When, by the clock of the recorded events; seconds since 1970.
    pub at: f64,
    /// Where: `index`, `graphite`, `publish TOPIC` and so on.
    pub to: String,
    /// What.
    pub event: EventView,
}

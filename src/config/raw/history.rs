//! `history:` of `host.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::formats::{Size, Span, Text};
use crate::config::retentions::Retentions;

/// What is kept of all events: numbers with percentiles, and when what was in
/// which state. It is on without this section.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawHistory {
    /// How finely, for how long: Graphite's retentions, the finest first. Each
    /// precision divides the next, each reaches further back. Other precisions
    /// begin a new history beside the old one. `off` keeps nothing.
    #[schemars(extend("default" = "10s:1h, 1m:7d, 15m:30d, 1h:2y"))]
    pub keep: Option<Text<Retentions>>,
    /// The most that all of it takes on disk; then the oldest of the finest
    /// goes first. 16M to 1T.
    #[schemars(extend("default" = "1G"))]
    pub max_size: Option<Text<Size>>,
    /// The most pairs of host and service; others are refused and counted.
    #[schemars(range(min = 1, max = 100_000), extend("default" = 5000))]
    pub max_series: Option<u32>,
    /// How often it is written to disk: so much is lost when the power goes.
    /// 1s to 1h.
    #[schemars(extend("default" = "60s"))]
    pub flush: Option<Text<Span>>,
}

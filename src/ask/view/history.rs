//! What the history has kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Timestamp;

/// `hostctl history list`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HistoryListView {
    /// By host and service.
    pub series: Vec<HistorySeriesView>,
    /// How the history itself goes.
    pub keeping: KeepingView,
}

/// One series.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HistorySeriesView {
    /// The host in its events.
    pub host: String,
    /// The service in its events.
    pub service: String,
    /// The state that holds.
    pub state: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// The last number since hostd started.
    pub value: Option<f64>,
    /// The last event since hostd started.
    pub last: Option<Timestamp>,
}

/// How the history itself goes; counts are since hostd started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct KeepingView {
    /// Series that are known.
    pub series: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Buckets that wait to be written.
    pub waiting: u64,
    /// Events of series beyond the most that are kept.
    pub refused: u64,
    /// Numbers that are none, or infinite.
    pub no_number: u64,
    /// Events that came too late, or are too far ahead.
    pub late: u64,
    /// Events that came too fast, and buckets that could not be written in time.
    pub dropped: u64,
    /// Why nothing is written; nothing when all is well.
    pub problem: Option<String>,
    /// Which database was moved aside, and why.
    pub moved: Option<String>,
    /// What was left out in the last ten minutes.
    pub notes: Vec<String>,
}

/// `hostctl history show`, `history plot`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct HistoryView {
    /// The host in its events.
    pub host: String,
    /// The service in its events.
    pub service: String,
    /// From.
    pub from: Timestamp,
    /// To.
    pub to: Timestamp,
    /// Seconds between local time and UTC, at the end.
    pub offset: i32,
    /// Seconds of a point.
    pub step: i64,
    /// In order; there is none where nothing was seen.
    pub points: Vec<PointView>,
    /// All of them together; nothing when there is none.
    pub whole: Option<PointView>,
    /// By how much of their value percentiles may be off; 0 when they are exact.
    pub error: f64,
    /// When it was in which state.
    pub states: Vec<IntervalView>,
    /// The same by months of local time.
    pub months: Vec<MonthView>,
}

/// What was seen in a span of time.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct PointView {
    /// Its begin.
    pub time: Timestamp,
    /// The smallest number.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
    /// How many.
    pub count: u64,
    /// Half of the numbers are not larger.
    pub p50: f64,
    /// 95 % of the numbers are not larger.
    pub p95: f64,
    /// 99 % of the numbers are not larger.
    pub p99: f64,
}

/// When something was in a state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct IntervalView {
    /// Which.
    pub state: String,
    /// From.
    pub since: Timestamp,
    /// To; the end of what was asked for when it still is.
    pub until: Timestamp,
    /// Whether it still is.
    pub open: bool,
    /// The same in words, in the machine's local time.
    pub words: String,
}

/// A month.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct MonthView {
    /// `2026-11`.
    pub month: String,
    /// The part in which it worked (`ok`, `warning`) of that in which it was known.
    pub availability: Option<f64>,
    /// Seconds in which it was known: all but `unknown`, `expired`, and when hostd did not listen.
    pub known: i64,
    /// Seconds in each state.
    pub states: Vec<StateTimeView>,
}

/// How long something was in a state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct StateTimeView {
    /// Which.
    pub state: String,
    /// Seconds.
    pub seconds: i64,
}

//! `care:` of `host.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::List;
use crate::config::formats::{PoolName, Text};
use crate::config::moments::{DatasetName, Every, TimeOfDay};

/// What hostd does for pools by itself; nothing that is not written here.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCare {
    /// Scrubs by calendar.
    pub scrub: List<RawScrub>,
    /// Snapshots by policy, and how many of them are kept.
    pub snapshots: List<RawCareSnapshots>,
}

/// When a pool is scrubbed. Dates and times are the machine's local ones. A
/// date that was missed because the machine was off is made up for after its
/// start. One pool at a time.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawScrub {
    /// The pool, or `all` for each that has no entry of its own.
    #[schemars(required)]
    pub pool: Option<Text<PoolName>>,
    /// How often: `week`, `month`, or a number of days.
    #[schemars(extend("default" = "month"))]
    pub every: Option<Text<Every>>,
    /// On which day of the week; with `month`, its first such day. Sunday when
    /// neither this nor `day` is given.
    pub on: Option<RawWeekday>,
    /// On which day of the month, with `month` only.
    #[schemars(range(min = 1, max = 28))]
    pub day: Option<u32>,
    /// When it starts.
    #[schemars(extend("default" = "02:00"))]
    pub at: Option<Text<TimeOfDay>>,
    /// When it is paused; it goes on at `at` of the next day. Runs until it has
    /// ended when absent.
    #[schemars(extend("examples" = ["08:00"]))]
    pub until: Option<Text<TimeOfDay>>,
    /// What it is not started and paused for. Both when absent; `[]` for nothing.
    pub not_while: List<RawNotWhile>,
    /// Whether hostd does it also when another program does, such as Debian's
    /// cron job.
    #[schemars(extend("default" = false))]
    pub even_if_elsewhere: Option<bool>,
}

/// A day of the week.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawWeekday {
    /// 1.
    Monday,
    /// 2.
    Tuesday,
    /// 3.
    Wednesday,
    /// 4.
    Thursday,
    /// 5.
    Friday,
    /// 6.
    Saturday,
    /// 7.
    Sunday,
}

/// What a scrub stays out of the way of.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawNotWhile {
    /// A VM with a card or with `performance` runs.
    Vm,
    /// Plex has sessions.
    Plex,
}

/// Snapshots of a dataset. hostd destroys only snapshots that it has made and
/// has a record of.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawCareSnapshots {
    /// The dataset: a file system or volume.
    #[schemars(required)]
    pub dataset: Option<Text<DatasetName>>,
    /// Whether those below it are snapshotted too, at the same moment.
    #[schemars(extend("default" = false))]
    pub recursive: Option<bool>,
    /// How many of each kind are kept.
    #[schemars(required)]
    pub keep: Option<RawKeep>,
    /// Whether hostd does it also when another program does, such as sanoid.
    #[schemars(extend("default" = false))]
    pub even_if_elsewhere: Option<bool>,
}

/// How many snapshots of each kind are kept; 0 makes none.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawKeep {
    /// One an hour.
    #[schemars(range(min = 0, max = 1000), extend("default" = 0))]
    pub hourly: Option<u32>,
    /// One a day, after midnight.
    #[schemars(range(min = 0, max = 1000), extend("default" = 0))]
    pub daily: Option<u32>,
    /// One a week, on Monday.
    #[schemars(range(min = 0, max = 1000), extend("default" = 0))]
    pub weekly: Option<u32>,
    /// One a month, on its first day.
    #[schemars(range(min = 0, max = 1000), extend("default" = 0))]
    pub monthly: Option<u32>,
}

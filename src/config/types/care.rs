//! `care:`, checked.

use jiff::civil::{Time, Weekday};

/// `care:`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Care {
    /// Scrubs by calendar.
    pub scrubs: Vec<ScrubPolicy>,
    /// Snapshots that are made and pruned.
    pub snapshots: Vec<SnapshotPolicy>,
}

impl Care {
    /// What is said for this pool: its own entry, else that for all.
    pub fn scrub_of(&self, pool: &str) -> Option<&ScrubPolicy> {
        let own = self.scrubs.iter().find(|policy| policy.pool.as_deref() == Some(pool));
        own.or_else(|| self.scrubs.iter().find(|policy| policy.pool.is_none()))
    }
}

/// When a pool is scrubbed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubPolicy {
    /// The pool; `None` for all that have no entry of their own.
    pub pool: Option<String>,
    /// On which days.
    pub every: Days,
    /// When, in local time.
    pub at: Time,
    /// When it is paused until the next day.
    pub until: Option<Time>,
    /// Not while a VM with a card or `performance` runs.
    pub not_while_vm: bool,
    /// Not while Plex has sessions.
    pub not_while_plex: bool,
    /// Though another program does it as well.
    pub even_if_elsewhere: bool,
}

/// Days of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Days {
    /// Each such day of the week.
    Week(Weekday),
    /// The first such day of each month.
    First(Weekday),
    /// This day of each month, 1–28.
    Month(i8),
    /// Every so many days, counted so that it falls on such a day of the week
    /// when that is possible.
    Nth(u16, Weekday),
}

/// Which snapshots of a dataset are made and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// The dataset.
    pub dataset: String,
    /// With all below it.
    pub recursive: bool,
    /// How many are kept.
    pub keep: Keep,
    /// Though another program does it as well.
    pub even_if_elsewhere: bool,
}

/// How many snapshots of each kind are kept; 0 makes none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep {
    /// One an hour.
    pub hourly: u32,
    /// One a day.
    pub daily: u32,
    /// One a week.
    pub weekly: u32,
    /// One a month.
    pub monthly: u32,
}

//! What hostd does for pools by itself: scrubs by calendar, snapshots by
//! policy. Policy only: nothing here touches the machine.
//!
//! In: what is known ([`World`]: the snapshot, the configuration, who else does
//! it, the time) and what is remembered ([`Memory`]). Out: a [`CareView`] with
//! one job a pool and policy, and [`Act`]s for the daemon to do; what came of
//! them goes back into the memory.
//!
//! ```text
//!   snapshot ─┐                      ┌─▶ CareView ─▶ events, `care list`
//!   config  ──┼─▶ decide ── memory ──┤
//!   others  ──┘      ▲               └─▶ Act ─▶ daemon ─▶ zfs::{scrub,snapshots}
//!                    └── memory ◀── what came of it ◀──┘
//! ```
//!
//! - [`memory`]: what outlives a restart; read this first
//! - [`calendar`]: dates in local time, safe when clocks change
//! - [`scrubs`]: start, pause, resume; only what hostd has started or paused
//! - [`snapshots`]: when one is due; [`prune`]: which ones may be destroyed

pub mod calendar;
pub mod memory;
pub mod prune;
pub mod scrubs;
pub mod snapshots;

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Zoned;
use jiff::tz::TimeZone;

pub use self::memory::{Kind, Memory, Tag};
use crate::ask::ScrubAct;
use crate::ask::view::{CareView, JobView};
use crate::base::{Severity, Timestamp};
use crate::config::Config;
use crate::state::Snapshot;

/// After a start of hostd and after the end of whatever kept a scrub waiting,
/// it has to be quiet for so long.
pub const CALM: Duration = Duration::from_secs(300);

/// After a failure the same is not tried again for so long.
pub const RETRY: Duration = Duration::from_secs(600);

/// Everything that a decision is made from.
pub struct World<'a> {
    /// What the owner wants.
    pub config: &'a Config,
    /// What is the case.
    pub snapshot: &'a Snapshot,
    /// Who else does it.
    pub others: &'a [Other],
    /// Local time.
    pub zone: &'a TimeZone,
    /// Now.
    pub now: Timestamp,
    /// How long hostd runs.
    pub up: Duration,
}

/// A program that does the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Other {
    /// `scrub` or `snapshots`.
    pub kind: &'static str,
    /// The pool, or the dataset with all below it; `None` for all.
    pub object: Option<String>,
    /// `sanoid`.
    pub program: String,
    /// The file that says so.
    pub file: String,
    /// How it is ended.
    pub advice: String,
}

/// What the daemon is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// To the scrub of a pool.
    Scrub {
        /// The pool.
        pool: String,
        /// What.
        act: ScrubAct,
    },
    /// A snapshot is made, and marked with its kind.
    Make {
        /// The dataset.
        dataset: String,
        /// With all below it.
        recursive: bool,
        /// How it is called.
        tag: Tag,
    },
    /// Snapshots are listed and old ones destroyed, see [`prune`].
    Prune {
        /// The dataset.
        dataset: String,
        /// With all below it.
        recursive: bool,
    },
}

/// The jobs as they are, and what is to be done now.
pub fn decide(world: &World<'_>, memory: &mut Memory) -> (CareView, Vec<Act>) {
    let mut view = CareView::default();
    let Some(pools) = world.snapshot.pools.value() else {
        view.notes.push("the pools have not been read yet".to_owned());
        return (view, Vec::new());
    };
    let Some(local) = world.local(world.now) else {
        view.notes.push("the clock is beyond all calendars: nothing is done".to_owned());
        return (view, Vec::new());
    };
    let mut acts = Vec::new();
    scrubs::decide(world, &local, pools, memory, &mut view.jobs, &mut acts);
    snapshots::decide(world, &local, pools, memory, &mut view.jobs, &mut acts);
    view.jobs.sort_by(|a, b| a.name.cmp(&b.name));
    (view, acts)
}

impl World<'_> {
    /// A moment in local time.
    pub fn local(&self, at: Timestamp) -> Option<Zoned> {
        let at = jiff::Timestamp::from_second(at.secs()).ok()?;
        Some(at.to_zoned(self.zone.clone()))
    }

    /// As people read it: `2026-11-23 02:00`.
    fn words(&self, at: Timestamp) -> String {
        let local = self.local(at);
        local.map_or_else(|| at.iso(), |at| at.strftime("%Y-%m-%d %H:%M").to_string())
    }

    /// Who else does this for all of the object.
    fn other(&self, kind: &str, object: &str) -> Option<&Other> {
        self.others.iter().find(|other| {
            let same = |known: &String| known == object || is_below(object, known);
            other.kind == kind && other.object.as_ref().is_none_or(same)
        })
    }
}

/// Whether a dataset is below another.
fn is_below(dataset: &str, above: &str) -> bool {
    dataset.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether `earlier` lies back at least that long; a clock that went back has
/// not waited.
fn waited(now: Timestamp, earlier: Timestamp, span: Duration) -> bool {
    now.since(earlier) >= span
}

/// A job about which nothing is amiss.
fn job(kind: &str, object: &str, state: &str, message: impl Into<String>) -> JobView {
    JobView {
        name: format!("{kind} {object}"),
        kind: kind.to_owned(),
        object: object.to_owned(),
        health: Severity::Ok,
        state: state.to_owned(),
        message: message.into(),
        ..JobView::default()
    }
}

/// Another program does it; hostd is asked to as well, or not.
fn elsewhere(kind: &str, object: &str, other: &Other, configured: bool) -> JobView {
    let Other { program, file, advice, .. } = other;
    let mut job = job(kind, object, "elsewhere", format!("{program} does it ({file})"));
    if configured {
        job.health = Severity::Warning;
        job.message = format!(
            "{program} does it already ({file}), so hostd does nothing though it is configured: \
             {advice}; or write `even-if-elsewhere: true`"
        );
    }
    job
}

//! What ZFS says when something happens: only ever a reason to look.
//!
//! The kernel keeps the last 512 events, limits some and leaves out others, so
//! an event is never the truth: it makes the observer read that pool, and some
//! are counted, because their rate says what no counter does.
//!
//! ```text
//!   zed ── all-hostd.sh ── hostctl --zed-event ── zed.sock ─┐
//!   zpool events -Hvf ──────────────────────────────────────┤ parse ─▶ Event ─▶ Observer::hear
//!                                                           │                    │        │
//!                                             (the daemon listens)             read     rates
//! ```
//!
//! - [`Event`], [`Reaction`]: what is made of each class; read this first
//! - [`parse`]: both forms, pure
//! - [`rates`]: what is counted, and the findings of it
//! - [`zedlet`]: the side of zed; [`zed`]: whether one runs

pub mod parse;
pub mod rates;
pub mod zed;
pub mod zedlet;

use std::collections::VecDeque;

use crate::base::Timestamp;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// `ereport.fs.zfs.checksum`.
    pub class: String,
    /// The pool's name, where it is about one.
    pub pool: Option<String>,
    /// The kernel's number for it, which counts from when the module was loaded.
    pub eid: Option<u64>,
    /// When it happened.
    pub time: Option<Timestamp>,
    /// The device it is about.
    pub vdev_guid: Option<u64>,
    /// The path of that device.
    pub vdev_path: Option<String>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// A read or write has failed.
    Io,
    /// A block was read with the wrong checksum.
    Checksum,
    /// An I/O took longer than `zio_slow_io_ms`, 30 s.
    Delay,
    /// An I/O has not come back for `zfs_deadman_ziotime_ms`, 5 min.
    Deadman,
    /// RAIDZ reads around a device that is much slower than its neighbours
    /// (OpenZFS 2.4).
    SitOut,
}

/// What an event is a reason for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Nothing.
    Ignore,
    /// Read the pool.
    Read,
    /// Count it; what it comes to is seen when the pool is read next.
    Count(Counted),
    /// Both.
    CountAndRead(Counted),
    /// The pool's errors were cleared: forget what was counted, and read.
    Clear,
}

impl Event {
    /// The last part of the class: `vdev.unknown` stays two words.
    pub fn subclass(&self) -> &str {
        ["ereport.fs.zfs.", "resource.fs.zfs.", "sysevent.fs.zfs."]
            .into_iter()
            .find_map(|begin| self.class.strip_prefix(begin))
            .unwrap_or(&self.class)
    }

    /// What it is a reason for. A class of a newer ZFS is a reason to look.
    pub fn reaction(&self) -> Reaction {
        match self.subclass() {
            "history_event" | "vdev_check" | "vdev_autoexpand" => Reaction::Ignore,
            word if word.starts_with("trim_") => Reaction::Ignore,
            "io" => Reaction::Count(Counted::Io),
            "checksum" => Reaction::Count(Counted::Checksum),
            word if word.starts_with("dio_verify") => Reaction::Count(Counted::Checksum),
            "delay" => Reaction::Count(Counted::Delay),
            word if word.starts_with("sitout") => Reaction::Count(Counted::SitOut),
            "deadman" => Reaction::CountAndRead(Counted::Deadman),
            "vdev_clear" => Reaction::Clear,
            _ => Reaction::Read,
        }
    }
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// An event.
    Event(Event),
    /// Some were lost: every pool has to be looked at.
    Lost,
}

/// The numbers of the last events: while one source takes over from another
/// both tell the same.
#[derive(Debug, Default)]
pub struct Seen(VecDeque<(u64, Option<Timestamp>)>);

impl Seen {
    /// Whether this event has been heard before; remembers it.
    pub fn again(&mut self, event: &Event) -> bool {
        let Some(eid) = event.eid else { return false };
        // Numbers begin again with the module; the second does not come back.
        let this = (eid, event.time.map(|at| Timestamp::from_secs(at.secs())));
        if self.0.contains(&this) {
            return true;
        }
        if self.0.len() == 64 {
            self.0.pop_front();
        }
        self.0.push_back(this);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaction(class: &str) -> Reaction {
        Event { class: class.into(), ..Event::default() }.reaction()
    }

    #[test]
    fn every_class_of_the_reference_has_its_reaction() {
        for class in ["io_failure", "data", "probe_failure", "zpool", "log_replay"] {
            assert_eq!(reaction(&format!("ereport.fs.zfs.{class}")), Reaction::Read, "{class}");
        }
        for class in ["authentication", "vdev.open_failed", "vdev.bad_guid_sum"] {
            assert_eq!(reaction(&format!("ereport.fs.zfs.{class}")), Reaction::Read, "{class}");
        }
        for class in ["statechange", "removed"] {
            assert_eq!(reaction(&format!("resource.fs.zfs.{class}")), Reaction::Read, "{class}");
        }
        for class in [
            "pool_import",
            "pool_export",
            "pool_destroy",
            "resilver_start",
            "resilver_finish",
            "scrub_start",
            "scrub_finish",
            "scrub_abort",
            "scrub_paused",
            "vdev_spare",
            "vdev_attach",
            "vdev_remove",
            "vdev_online",
            "config_sync",
            "of_a_newer_zfs",
        ] {
            assert_eq!(reaction(&format!("sysevent.fs.zfs.{class}")), Reaction::Read, "{class}");
        }
        let counted = [
            ("io", Counted::Io),
            ("checksum", Counted::Checksum),
            ("dio_verify_wr", Counted::Checksum),
            ("delay", Counted::Delay),
            ("sitout", Counted::SitOut),
        ];
        for (class, what) in counted {
            assert_eq!(reaction(&format!("ereport.fs.zfs.{class}")), Reaction::Count(what));
        }
        let deadman = Reaction::CountAndRead(Counted::Deadman);
        assert_eq!(reaction("ereport.fs.zfs.deadman"), deadman);
        assert_eq!(reaction("sysevent.fs.zfs.vdev_clear"), Reaction::Clear);
        for class in ["history_event", "trim_start", "trim_finish", "vdev_check"] {
            assert_eq!(reaction(&format!("sysevent.fs.zfs.{class}")), Reaction::Ignore, "{class}");
        }
    }

    #[test]
    fn an_event_from_two_sources_is_one() {
        let mut seen = Seen::default();
        let event = |eid, seconds| Event {
            eid: Some(eid),
            time: Some(Timestamp::from_secs(seconds)),
            ..Event::default()
        };
        assert!(!seen.again(&event(1, 10)));
        assert!(seen.again(&event(1, 10)));
        assert!(!seen.again(&event(1, 11)), "after the module was loaded again");
        assert!(!seen.again(&Event::default()) && !seen.again(&Event::default()));
        for eid in 2..70 {
            assert!(!seen.again(&event(eid, 12)));
        }
        assert_eq!(seen.0.len(), 64);
    }
}

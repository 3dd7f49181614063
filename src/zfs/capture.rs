//! A saved output, judged without the machine it is from: for support, for
//! tests, for `hostctl pool status --from FILE`.

use std::time::Instant;

use jiff::tz::TimeZone;

use super::json::parse_json;
use super::judge::{Facts, judge};
use super::list;
use super::memory::Memory;
use super::model::{MAX_POOLS, Pool};
use super::text::parse_text;
use crate::ask::view::PoolsView;
use crate::base::Severity;
use crate::config;

/// Judges a saved `zpool status -j --json-int` or `zpool status -pP`; which of
/// them it is shows. Infallible: what cannot be read becomes a note.
///
/// Without the readings before, all error counters count as new, and slow I/Os
/// as old. Dates without a zone are taken as UTC.
pub fn judge_capture(text: &str) -> PoolsView {
    let mut notes = Vec::new();
    let text = text.trim_start_matches('\u{feff}').trim_start_matches(['\n', '\r']);
    let pools = if text.trim_start().starts_with('{') {
        parse_json(text, &TimeZone::UTC).unwrap_or_else(|error| {
            notes.push(error.to_string());
            Vec::new()
        })
    } else {
        let pools = parse_text(text, &TimeZone::UTC);
        if pools.iter().any(|pool| pool.scan.is_some() || !pool.rebuilds.is_empty()) {
            notes.push("the text says times without their zone; they are read as UTC".to_owned());
        }
        pools
    };
    if pools.is_empty() && notes.is_empty() {
        notes.push("this is no output of `zpool status`, or one without pools".to_owned());
    }
    let pools: Vec<_> = pools.iter().map(one).collect();
    // A note beside pools is about their times.
    PoolsView { unread: pools.is_empty(), pools, notes, ..PoolsView::default() }
}

fn one(pool: &Pool) -> crate::ask::view::PoolView {
    let now = Instant::now();
    let mut memory = Memory::default();
    memory.observe(pool, now);
    // A single reading knows nothing of what was complete before.
    memory.known = None;
    if let Some(fraction) = list::fraction(pool.size, pool.alloc) {
        memory.observe_usage(fraction, config::Pools::default().capacity);
    }
    judge(&Facts {
        pool,
        kstat: None,
        usage: None,
        memory: &memory,
        now,
        dates: None,
        keys: None,
        machine_memory: None,
    })
}

/// What must hold of whatever was parsed; the body of the fuzz targets and of
/// the property tests.
///
/// # Panics
/// Where it does not hold.
pub fn check(pools: &[Pool]) {
    assert!(pools.len() <= MAX_POOLS);
    for view in pools.iter().map(one) {
        let worst = view.findings.iter().map(|finding| finding.severity).max();
        assert_eq!(view.health, worst.unwrap_or(Severity::Ok));
        if view.health == Severity::Ok {
            assert_eq!(view.state, "ONLINE");
            assert!(view.tolerates.is_some() && !view.vdevs.is_empty());
        }
        let fraction = view.scan.as_ref().and_then(|scan| scan.progress);
        assert!(fraction.is_none_or(|done| (0.0..=1.0).contains(&done)));
    }
}

/// The same for a text in the JSON form.
pub fn check_json(text: &str) {
    check(&parse_json(text, &TimeZone::UTC).unwrap_or_default());
}

/// The same for one in the text form.
pub fn check_text(text: &str) {
    check(&parse_text(text, &TimeZone::UTC));
}

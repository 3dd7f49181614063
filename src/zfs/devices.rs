//! The judgement of vdevs: what is lost and what is suspect. Pure. Codes are
//! listed in [`judge`](super::judge).

use super::judge::Facts;
use super::memory::Memory;
use super::model::{Aux, Class, Kind, Pool, State, Vdev};
use super::redundancy::Tolerance;
use super::{disks, parents, standing};
use crate::ask::view::FindingView;
use crate::base::Severity;
use crate::host::run::quoted;
use std::ffi::OsStr;

/// A finding with all its parts.
pub fn finding(
    severity: Severity,
    code: &str,
    object: &str,
    message: String,
    advice: String,
) -> FindingView {
    FindingView { severity, code: code.to_owned(), object: object.to_owned(), message, advice }
}

/// A word for a command that a person is told to type.
pub fn typed(word: &str) -> String {
    quoted(OsStr::new(word))
}

/// `1 failure`, `2 failures`.
pub fn failures(number: u32) -> String {
    if number == 1 { "1 failure".to_owned() } else { format!("{number} failures") }
}

/// Findings about all vdevs of a pool.
pub fn judge(facts: &Facts, tolerances: &[Option<Tolerance>]) -> Vec<FindingView> {
    let (pool, memory, now) = (facts.pool, facts.memory, facts.now);
    let mut found = Vec::new();
    for (top, tolerance) in pool.vdevs.iter().zip(tolerances) {
        let place = Place { pool, top, left: tolerance.and_then(|t| t.now), memory };
        if top.class == Class::Spare {
            continue;
        }
        top_level(&place, &mut found);
        leaves(&place, top, None, &mut found);
    }
    standing::single_devices(facts, tolerances, &mut found);
    standing::spares(pool, tolerances, &mut found);
    standing::counters(pool, memory, now, &mut found);
    parents::suspicion(pool, memory, now, &mut found);
    found
}

/// Where a device is.
struct Place<'a> {
    pool: &'a Pool,
    top: &'a Vdev,
    /// Failures that its top-level vdev still tolerates.
    left: Option<u32>,
    memory: &'a Memory,
}

impl Place<'_> {
    /// How bad a lost device is here, and what is left.
    fn loss(&self) -> (Severity, String) {
        let name = &self.top.name;
        match (self.top.class, self.left) {
            (Class::Cache, _) => (Severity::Ok, "reads are slower, nothing is lost".to_owned()),
            (Class::Log, _) => (
                Severity::Warning,
                "synchronous writes go to the main disks; the pool goes on".to_owned(),
            ),
            (Class::Spare, _) => (Severity::Warning, "it cannot stand in".to_owned()),
            (_, Some(0)) => (Severity::Critical, format!("{name} tolerates no further failure")),
            (_, Some(left)) => {
                (Severity::Warning, format!("{name} still tolerates {}", failures(left)))
            }
            (_, None) => (
                Severity::Unknown,
                format!("how many failures {name} still tolerates is not known"),
            ),
        }
    }
}

/// Whether a device in this state does not serve.
pub fn is_lost(state: &State) -> bool {
    matches!(
        state,
        State::Faulted | State::Offline | State::Removed | State::CantOpen | State::Closed
    )
}

/// A vdev that has lost more than it can.
fn top_level(place: &Place, found: &mut Vec<FindingView>) {
    let (pool, top) = (place.pool, place.top);
    let missing = top.kind == Kind::Missing;
    if !missing && (top.children.is_empty() || !is_lost(&top.state)) {
        return;
    }
    let state = top.state.shown();
    let (severity, code, message) = match top.class {
        Class::Log => (Severity::Warning, "log-lost", format!("the log {} is {state}", top.name)),
        Class::Cache | Class::Spare => {
            (Severity::Ok, "cache-lost", format!("{} is {state}", top.name))
        }
        Class::Normal | Class::Special | Class::Dedup => (
            Severity::Critical,
            "vdev-failed",
            format!(
                "{} is {state}: it has lost more devices than it can; its data are not there",
                top.name
            ),
        ),
    };
    let name = typed(&pool.name);
    let advice = format!(
        "reconnect as many of its devices as possible, then `zpool clear {name}`; otherwise \
         restore from backup"
    );
    found.push(finding(severity, code, &top.name, message, advice));
}

/// Every device below `vdev`; `partner` is what replaces it or stands in.
fn leaves(place: &Place, vdev: &Vdev, partner: Option<&Vdev>, found: &mut Vec<FindingView>) {
    for (at, child) in vdev.children.iter().enumerate() {
        let pair = matches!(vdev.kind, Kind::Replacing | Kind::Spare);
        let partner = if pair && at == 0 { vdev.children.get(1) } else { partner };
        leaves(place, child, partner, found);
    }
    if vdev.children.is_empty() && vdev.kind != Kind::Missing {
        found.extend(leaf(place, vdev, partner));
    }
}

fn leaf(place: &Place, leaf: &Vdev, partner: Option<&Vdev>) -> Option<FindingView> {
    let (pool, device) = (typed(&place.pool.name), typed(&leaf.name));
    let (severity, left) = place.loss();
    let replace = format!("`zpool replace {pool} {device} NEW-DISK`");
    // While another one is missing ZFS says only that; when none is, all that it
    // cannot open are there without a label (`check_status` in OpenZFS'
    // `lib/libzfs/libzfs_status.c`).
    let no_label = matches!(place.pool.msgid.as_deref(), Some("ZFS-8000-4J" | "ZFS-8000-5E"));
    let label = matches!(leaf.aux, Some(Aux::BadLabel | Aux::CorruptData))
        || no_label && leaf.state == State::CantOpen;
    let was = leaf.was.as_ref().map_or(String::new(), |was| format!(" (was {was})"));
    // Who stands before the machine needs its slot and serial.
    let who = match place.memory.disk(leaf).map(disks::label).filter(|label| !label.is_empty()) {
        Some(label) => format!("{} ({label})", leaf.name),
        None => leaf.name.clone(),
    };
    let (code, what, advice) = match &leaf.state {
        State::Online => return None,
        State::Degraded => {
            let message = format!(
                "{who} has had too many errors or slow I/Os ({}); it still serves, so redundancy \
                 is intact but suspect",
                leaf.errors
            );
            let advice = format!(
                "check its SMART values, cable and power; then `zpool clear {pool} {device}`, or \
                 {replace}"
            );
            return Some(finding(
                Severity::Warning,
                "device-degraded",
                &leaf.name,
                message,
                advice,
            ));
        }
        State::CantOpen | State::Faulted if label => (
            "label-bad",
            format!("has no valid ZFS label{was}: it was overwritten, or is another disk"),
            format!("if it is the right disk, {replace}, where NEW-DISK may be itself"),
        ),
        State::CantOpen | State::Closed => (
            "device-missing",
            format!("is missing{was}"),
            format!(
                "check its cable and power, then `zpool online {pool} {device}`; if it is dead, \
                 {replace}"
            ),
        ),
        State::Faulted => (
            "device-faulted",
            match leaf.aux {
                Some(Aux::External) => "was declared faulty from outside ZFS".to_owned(),
                _ => format!("was taken out of use because of too many errors ({})", leaf.errors),
            },
            format!("{replace}; or, when the cause is gone, `zpool clear {pool} {device}`"),
        ),
        State::Offline => (
            "device-offline",
            "was taken offline by a person".to_owned(),
            format!("`zpool online {pool} {device}`, or {replace}"),
        ),
        State::Removed => (
            "device-removed",
            "was pulled out or has dropped off its bus".to_owned(),
            format!("reconnect it, then `zpool online {pool} {device}`; if it is dead, {replace}"),
        ),
        State::InUse | State::Avail | State::Other(_) => {
            let message = format!(
                "{} is in a state that hostd does not know: {}",
                leaf.name,
                leaf.state.shown()
            );
            let advice = format!("`zpool status -v {pool}`");
            return Some(finding(
                Severity::Unknown,
                "device-state-unknown",
                &leaf.name,
                message,
                advice,
            ));
        }
    };
    let code = match place.top.class {
        Class::Log => "log-lost",
        Class::Cache => "cache-lost",
        Class::Normal | Class::Special | Class::Dedup | Class::Spare => code,
    };
    let partner = partner.map_or(String::new(), |by| format!("; {} takes its place", by.name));
    let message = format!("{who} {what}{partner}; {left}");
    // A device that is being replaced needs nothing typed but patience.
    let under_way = place.pool.resilvering() || place.pool.rebuilding(&place.top.name);
    let advice = if !partner.is_empty() && under_way {
        format!("wait for the resilver; if that does not help, {advice}")
    } else {
        advice
    };
    Some(finding(severity, code, &leaf.name, message, advice))
}

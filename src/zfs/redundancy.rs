//! How many more devices may fail before data are lost. Pure.
//!
//! Tolerance of a top-level vdev = its redundancy − its members that do not
//! hold a complete copy. A pool tolerates what its weakest normal, special or
//! dedup vdev does. What is not known is `None`, never a number; in doubt a
//! member counts as incomplete, so that the number is never too high.
//!
//! A member is incomplete when it is out of use, and also while data are still
//! being written back to it. ZFS shows that only once something has been
//! written, so at 0 % it has to be told otherwise:
//!
//! - the newer member of a `replacing-N` or `spare-N` is taken as incomplete;
//! - with memory ([`Known`]), so is every device that was not complete before
//!   the resilver began;
//! - if no device is found to be the target, one failure less is assumed in
//!   every vdev: the target is somewhere.

use std::collections::BTreeSet;

use super::model::{Class, Function, Kind, Pool, ScanState, State, Vdev};

/// Devices ([`Vdev::key`]) that held a complete copy before the running
/// resilver began; `None` when we were not there.
pub type Known = Option<BTreeSet<String>>;

/// How much a top-level vdev tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tolerance {
    /// Failures still tolerated now; `None` when not known.
    pub now: Option<u32>,
    /// With all members complete; `None` for a layout that is not known.
    pub layout: Option<u32>,
}

/// Whether a member holds a complete copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copy {
    Whole,
    Lost,
    Unknown,
}

/// Tolerance of every vdev in `pool.vdevs`, in its order; `None` for logs,
/// caches, spares and the places of removed vdevs, on which no data depend.
pub fn tolerances(pool: &Pool, known: &Known) -> Vec<Option<Tolerance>> {
    let hidden = pool.resilvering() && !pool.essential().any(|top| has_target(pool, top, known));
    let one = |top: &Vdev| {
        let counts = top.class.is_essential() && !matches!(top.kind, Kind::Hole | Kind::Indirect);
        counts.then(|| tolerance(pool, top, known, hidden))
    };
    pool.vdevs.iter().map(one).collect()
}

/// Of the pool as a whole: the least of its vdevs. One that tolerates nothing
/// decides, whatever is unknown beside it.
pub fn of_pool(pool: &Pool, tolerances: &[Option<Tolerance>]) -> Option<u32> {
    let mut least = None;
    let mut unknown = pool.partial;
    for tolerance in tolerances.iter().flatten() {
        match tolerance.now {
            Some(0) => return Some(0),
            Some(now) => least = Some(least.map_or(now, |least: u32| least.min(now))),
            None => unknown = true,
        }
    }
    let normal = pool.vdevs.iter().any(|vdev| vdev.class == Class::Normal);
    least.filter(|_| normal && !unknown)
}

fn tolerance(pool: &Pool, top: &Vdev, known: &Known, hidden: bool) -> Tolerance {
    let layout = layout(top);
    let hidden = hidden || pool.rebuilding(&top.name) && !has_target(pool, top, known);
    let (mut lost, mut unknown) = (u32::from(hidden), false);
    for member in members(top) {
        match copy(pool, top, member, known) {
            Copy::Whole => {}
            Copy::Lost => lost += 1,
            Copy::Unknown => unknown = true,
        }
    }
    let left = layout.map(|layout| layout.saturating_sub(lost));
    Tolerance { now: if unknown { left.filter(|left| *left == 0) } else { left }, layout }
}

/// Failures tolerated by the layout alone.
fn layout(top: &Vdev) -> Option<u32> {
    let copies = || u32::try_from(top.children.len()).unwrap_or(u32::MAX).saturating_sub(1);
    match &top.kind {
        // A device has no members: this is something else.
        Kind::Disk | Kind::File if !top.children.is_empty() => None,
        Kind::Disk | Kind::File | Kind::Missing | Kind::Dspare
        // A single device being replaced has two copies only for the moment.
        | Kind::Replacing | Kind::Spare => Some(0),
        Kind::Mirror if top.children.is_empty() => None,
        Kind::Mirror => Some(copies()),
        Kind::Raidz | Kind::Draid => parity(&top.name).filter(|p| *p <= copies()),
        Kind::Hole | Kind::Indirect | Kind::Other(_) => None,
    }
}

/// The parity in `raidz2-0` or `draid2:8d:12c:1s-0`.
fn parity(name: &str) -> Option<u32> {
    let digits = match name.strip_prefix("draid") {
        Some(rest) => rest.split(':').next()?,
        None => name.strip_prefix("raidz")?.split('-').next()?,
    };
    digits.parse().ok().filter(|parity| (1..=3).contains(parity))
}

/// The members of a vdev; a single device is its own.
fn members(top: &Vdev) -> impl Iterator<Item = &Vdev> {
    let single = matches!(top.kind, Kind::Replacing | Kind::Spare) || top.children.is_empty();
    let (own, children) = if single { (Some(top), &[][..]) } else { (None, &top.children[..]) };
    own.into_iter().chain(children)
}

fn copy(pool: &Pool, top: &Vdev, member: &Vdev, known: &Known) -> Copy {
    if member.children.is_empty() {
        return match &member.state {
            State::Online | State::Degraded if incomplete(pool, top, member, known) => Copy::Lost,
            State::Online | State::Degraded => Copy::Whole,
            State::Faulted | State::Offline | State::Removed | State::CantOpen | State::Closed => {
                Copy::Lost
            }
            State::InUse | State::Avail | State::Other(_) => Copy::Unknown,
        };
    }
    // One complete copy is enough, as in a mirror.
    let mut best = Copy::Lost;
    for (at, child) in member.children.iter().enumerate() {
        let fresh = at > 0 && newer_is_incomplete(pool, top, member, child, known);
        match copy(pool, top, child, known) {
            Copy::Whole if !fresh => return Copy::Whole,
            Copy::Unknown => best = Copy::Unknown,
            Copy::Whole | Copy::Lost => {}
        }
    }
    best
}

/// Whether a serving leaf is still being written.
fn incomplete(pool: &Pool, top: &Vdev, leaf: &Vdev, known: &Known) -> bool {
    let running = pool.resilvering() || pool.rebuilding(&top.name);
    let was_whole = known.as_ref().is_none_or(|known| known.contains(&leaf.key()));
    leaf.deferred || running && (leaf.resilvered && pool.resilvering() || !was_whole)
}

/// Whether a member of a `replacing-N` or `spare-N` that came later has yet to
/// be filled.
fn newer_is_incomplete(pool: &Pool, top: &Vdev, pair: &Vdev, newer: &Vdev, known: &Known) -> bool {
    if !matches!(pair.kind, Kind::Replacing | Kind::Spare) {
        return false;
    }
    if pool.resilvering() || pool.rebuilding(&top.name) {
        let whole = |leaf: &&Vdev| known.as_ref().is_some_and(|known| known.contains(&leaf.key()));
        return !newer.leaves().iter().all(whole);
    }
    // A replacement dissolves when it is complete; one that is there although
    // nothing has been resilvered has not begun.
    pair.kind == Kind::Replacing && !resilver_finished(pool, top)
}

fn resilver_finished(pool: &Pool, top: &Vdev) -> bool {
    let finished = ScanState::Finished;
    let resilver = |function| function == Function::Resilver;
    pool.scan.as_ref().is_some_and(|scan| resilver(scan.function) && scan.state == finished)
        || pool.rebuilds.iter().any(|r| r.vdev == top.name && r.state == finished)
}

/// Whether a device is known to be the one that is being written.
fn has_target(pool: &Pool, top: &Vdev, known: &Known) -> bool {
    let mut found = false;
    top.walk(&mut |vdev| {
        let serves = matches!(vdev.state, State::Online | State::Degraded);
        let leaf = vdev.children.is_empty() && serves && incomplete(pool, top, vdev, known);
        let mut newer = vdev.children.iter().skip(1);
        let pair = newer.any(|child| newer_is_incomplete(pool, top, vdev, child, known));
        found |= leaf || pair;
    });
    found
}

/// What is known of complete copies after one more reading, to be kept for the
/// next: see [`Known`]. `before` are the devices of the reading before.
pub fn learn(pool: &Pool, known: &Known, before: &BTreeSet<String>) -> Known {
    let scanning =
        pool.resilvering() || pool.rebuilds.iter().any(|r| r.state == ScanState::Scanning);
    let mut whole = BTreeSet::new();
    for top in pool.essential() {
        top.walk(&mut |vdev| {
            let serving = |leaf: &&Vdev| {
                let serves = matches!(leaf.state, State::Online | State::Degraded);
                serves && !leaf.deferred && !(pool.resilvering() && leaf.resilvered)
            };
            if vdev.children.is_empty() && serving(&vdev) {
                whole.insert(vdev.key());
            }
        });
        top.walk(&mut |vdev| {
            // A replacement is never complete; a spare may be.
            let never = match vdev.kind {
                Kind::Replacing => true,
                Kind::Spare => !resilver_finished(pool, top),
                _ => false,
            };
            for newer in vdev.children.iter().skip(1).filter(|_| never) {
                for leaf in newer.leaves() {
                    if !known.as_ref().is_some_and(|known| known.contains(&leaf.key())) {
                        whole.remove(&leaf.key());
                    }
                }
            }
        });
    }
    match known {
        // In mid-resilver nothing can become complete, only be lost.
        None if scanning => None,
        Some(known) if scanning => Some(known.intersection(&whole).cloned().collect()),
        // What is new has to be seen twice: a resilver begins a moment after
        // its device has come.
        Some(known) => {
            whole.retain(|key| known.contains(key) || before.contains(key));
            Some(whole)
        }
        None => Some(whole),
    }
}

/// All devices of the pool that serve.
pub fn serving(pool: &Pool) -> BTreeSet<String> {
    let leaves = pool.essential().flat_map(Vdev::leaves);
    let serving = leaves.filter(|leaf| matches!(leaf.state, State::Online | State::Degraded));
    serving.map(Vdev::key).collect()
}

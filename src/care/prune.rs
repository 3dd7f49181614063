//! Which snapshots may be destroyed. Nothing that hostd did not make: a
//! snapshot has to be in its memory, to bear the name and the mark (a property
//! of the snapshot itself, neither inherited nor received), to be on the
//! policy's dataset, and to have been created when hostd made it. Held ones,
//! those with clones, and the newest of each kind stay.

use std::collections::BTreeMap;
use std::time::Duration;

use super::memory::{Kept, Kind, Tag};
use super::{is_below, waited};
use crate::base::Timestamp;
use crate::config::{Keep, SnapshotPolicy};

/// How many are destroyed at once; the rest follows.
pub const AT_ONCE: usize = 64;
/// A snapshot may appear so long after hostd has asked for it.
const LATE: i64 = 660;
/// What was to be made so long ago and is not there will not come.
const LOST: Duration = Duration::from_secs(3600);
/// A clock may be put back so far without being wrong.
const BACK: Duration = Duration::from_secs(120);

/// What pruning would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prune {
    /// Full names, oldest first.
    pub destroy: Vec<String>,
    /// There are more than these.
    pub more: bool,
    /// Snapshots with the mark which hostd has no record of.
    pub strange: usize,
    /// Why nothing is destroyed now.
    pub hold: Option<String>,
}

/// Chooses from all snapshots that bear the mark: full names with its value.
pub fn choose(
    policy: &SnapshotPolicy,
    kept: &Kept,
    marked: &[(String, String)],
    now: Timestamp,
) -> Prune {
    let mut out = Prune::default();
    let mut groups: BTreeMap<(Kind, &str), Vec<Tag>> = BTreeMap::new();
    let mut newest = None;
    for (name, mark) in marked {
        match ours(policy, kept, name, mark) {
            Some((dataset, tag)) => {
                newest = newest.max(Some(tag.at()));
                groups.entry((tag.kind, dataset)).or_default().push(tag);
            }
            None => out.strange += 1,
        }
    }
    if let Some(newest) = newest.filter(|newest| *newest > now.plus(BACK)) {
        out.hold = Some(format!(
            "the clock stands before the newest snapshot ({}): none is destroyed",
            newest.iso()
        ));
        return out;
    }
    let mut old: Vec<(Tag, &str)> = Vec::new();
    for ((kind, dataset), mut tags) in groups {
        tags.sort_unstable();
        // Named twice is there once.
        tags.dedup();
        let keep = count(policy.keep, kind).max(1);
        let end = tags.len().saturating_sub(keep);
        old.extend(tags.into_iter().take(end).map(|tag| (tag, dataset)));
    }
    old.sort_unstable_by_key(|(tag, dataset)| (tag.at(), *dataset));
    out.more = old.len() > AT_ONCE;
    let names = old.iter().take(AT_ONCE).map(|(tag, dataset)| format!("{dataset}@{tag}"));
    out.destroy = names.collect();
    out
}

/// The dataset and name of a snapshot that hostd has made by this policy.
fn ours<'a>(
    policy: &SnapshotPolicy,
    kept: &Kept,
    name: &'a str,
    mark: &str,
) -> Option<(&'a str, Tag)> {
    let (dataset, tag) = name.split_once('@')?;
    let tag: Tag = tag.parse().ok()?;
    let here = dataset == policy.dataset || policy.recursive && is_below(dataset, &policy.dataset);
    let known = kept.made.contains(&tag) || kept.maybe.contains(&tag);
    (here && known && mark == tag.kind.as_str()).then_some((dataset, tag))
}

/// Whether a chosen one may be destroyed, by what ZFS says of it right before;
/// else why not.
pub fn confirm(
    name: &str,
    created: Option<Timestamp>,
    mark: Option<&str>,
    holds: Option<u64>,
) -> Result<(), String> {
    let tag: Option<Tag> = name.split_once('@').and_then(|(_, tag)| tag.parse().ok());
    let Some(tag) = tag else { return Err(format!("{name} is not hostd's")) };
    if mark != Some(tag.kind.as_str()) {
        return Err(format!("{name} does not bear hostd's mark"));
    }
    let late = created.map(|created| created.secs().saturating_sub(tag.at().secs()));
    if !late.is_some_and(|late| (0..=LATE).contains(&late)) {
        return Err(format!("{name} was not created when hostd made it"));
    }
    match holds {
        Some(0) => Ok(()),
        Some(_) => Err(format!("{name} is held")),
        None => Err(format!("whether {name} is held is not known")),
    }
}

/// Forgets records of what is no longer there. `marked` has to be whole.
pub fn forget(kept: &mut Kept, marked: &[(String, String)], now: Timestamp) {
    let there: std::collections::BTreeSet<Tag> = marked
        .iter()
        .filter_map(|(name, _)| name.split_once('@').and_then(|(_, tag)| tag.parse().ok()))
        .collect();
    let stays = |tag: &Tag| there.contains(tag) || !waited(now, tag.at(), LOST);
    // The newest of each kind says when the next is due, also when somebody
    // has destroyed it.
    let newest: Vec<Tag> = Kind::ALL
        .into_iter()
        .filter_map(|kind| kept.made.iter().rev().find(|tag| tag.kind == kind).copied())
        .collect();
    kept.made.retain(|tag| stays(tag) || newest.contains(tag));
    kept.maybe.retain(stays);
}

/// How many of a kind are kept.
pub fn count(keep: Keep, kind: Kind) -> usize {
    let count = match kind {
        Kind::Hourly => keep.hourly,
        Kind::Daily => keep.daily,
        Kind::Weekly => keep.weekly,
        Kind::Monthly => keep.monthly,
    };
    usize::try_from(count).unwrap_or(usize::MAX)
}

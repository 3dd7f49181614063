//! Snapshots by policy: one of each kind when its hour, day, week or month has
//! none yet. Which old ones go is in [`prune`].

use std::time::Duration;

use jiff::Zoned;

use super::memory::{Kept, Kind, Memory, Tag};
use super::{Act, RETRY, World, calendar, elsewhere, is_below, job, prune, waited};
use crate::ask::view::{JobView, PoolsView};
use crate::base::{Severity, Timestamp};
use crate::config::SnapshotPolicy;

/// A clock may be put back so far without being wrong.
const BACK: Duration = Duration::from_secs(120);

/// All policies, and what others do.
pub fn decide(
    world: &World<'_>,
    local: &Zoned,
    pools: &PoolsView,
    memory: &mut Memory,
    jobs: &mut Vec<JobView>,
    acts: &mut Vec<Act>,
) {
    let policies = &world.config.care.snapshots;
    for policy in policies {
        let other = world.other("snapshots", &policy.dataset).or_else(|| below(world, policy));
        let mut job = if let Some(other) = other.filter(|_| !policy.even_if_elsewhere) {
            elsewhere("snapshots", &policy.dataset, other, true)
        } else {
            let kept = memory.snapshots.entry(policy.dataset.clone()).or_default();
            one(world, local, pools, policy, kept, acts)
        };
        job.policy = words(policy);
        if let Some(kept) = memory.snapshots.get(&policy.dataset) {
            job.last = kept.made.iter().map(|tag| tag.at()).max();
        }
        jobs.push(job);
    }
    for other in world.others.iter().filter(|other| other.kind == "snapshots") {
        let object = other.object.as_deref().unwrap_or("all");
        let told = |job: &JobView| job.kind == "snapshots" && job.object == object;
        if !jobs.iter().any(told) {
            jobs.push(elsewhere("snapshots", object, other, false));
        }
    }
    for (dataset, kept) in &memory.snapshots {
        if !kept.made.is_empty() && policies.iter().all(|policy| policy.dataset != *dataset) {
            let message = format!(
                "not configured any more; {} snapshots of an earlier policy are left: `zfs list -t \
                 snapshot -r {dataset}` shows them, `zfs destroy` removes one",
                kept.made.len()
            );
            jobs.retain(|job| job.kind != "snapshots" || job.object != *dataset);
            jobs.push(job("snapshots", dataset, "off", message));
        }
    }
}

/// Somebody who does it for a part of what a recursive policy names.
fn below<'a>(world: &'a World<'_>, policy: &SnapshotPolicy) -> Option<&'a super::Other> {
    world.others.iter().find(|other| {
        let part = |object: &String| policy.recursive && is_below(object, &policy.dataset);
        other.kind == "snapshots" && other.object.as_ref().is_some_and(part)
    })
}

fn one(
    world: &World<'_>,
    local: &Zoned,
    pools: &PoolsView,
    policy: &SnapshotPolicy,
    kept: &Kept,
    acts: &mut Vec<Act>,
) -> JobView {
    let (now, dataset) = (world.now, &policy.dataset);
    let held = |why: String| {
        let mut job = job("snapshots", dataset, "held", why);
        job.health = Severity::Warning;
        job
    };
    let name = dataset.split('/').next().unwrap_or_default();
    let Some(pool) = pools.pools.iter().find(|pool| pool.name == name) else {
        return held(format!("there is no pool {name}; `zpool import` lists what could be"));
    };
    if !matches!(pool.state.as_str(), "ONLINE" | "DEGRADED") {
        return held(format!("the pool {name} is {}", pool.state));
    }
    let newest = kept.made.iter().map(|tag| tag.at()).max();
    if let Some(newest) = newest.filter(|newest| *newest > now.plus(BACK)) {
        let newest = world.words(newest);
        return held(format!(
            "the clock stands before the newest snapshot ({newest}), so none is made or destroyed; \
             is the time right?"
        ));
    }
    let kinds = Kind::ALL.into_iter().filter(|kind| prune::count(policy.keep, *kind) > 0);
    let mut next: Option<Timestamp> = None;
    let mut due = Vec::new();
    for kind in kinds {
        let Some((from, to)) = calendar::period(kind, local) else { continue };
        let has = kept.made.iter().any(|tag| tag.kind == kind && tag.at() >= from);
        let at = if has { to } else { from };
        next = Some(next.map_or(at, |next| next.min(at)));
        if !has {
            due.extend(Tag::new(kind, now));
        }
    }
    let failed = kept.failed.as_ref();
    let again = failed.is_none_or(|(at, _)| waited(now, *at, RETRY) || *at > now);
    if again {
        let make = |tag: &Tag| Act::Make {
            dataset: dataset.clone(),
            recursive: policy.recursive,
            tag: *tag,
        };
        acts.extend(due.iter().map(make));
        if due.is_empty() && newest.is_some_and(|newest| kept.pruned.is_none_or(|at| at < newest)) {
            acts.push(Act::Prune { dataset: dataset.clone(), recursive: policy.recursive });
        }
    }
    let state = if due.is_empty() || failed.is_some() { "waiting" } else { "running" };
    let mut message: Vec<String> = Kind::ALL
        .into_iter()
        .filter_map(|kind| {
            let count = kept.made.iter().filter(|tag| tag.kind == kind).count();
            (count > 0).then(|| format!("{count} {}", kind.as_str()))
        })
        .collect();
    if message.is_empty() {
        message.push("none has been made yet".to_owned());
    }
    let mut message = message.join(", ");
    if let Some(told) = &kept.told {
        message = format!("{message}; {told}");
    }
    let mut job = job("snapshots", dataset, state, message);
    if let Some((at, why)) = failed {
        job.health = Severity::Warning;
        job.message = format!("failed {}: {why}; {}", world.words(*at), job.message);
    }
    job.next = next;
    job
}

/// As people say it.
fn words(policy: &SnapshotPolicy) -> String {
    let kinds = Kind::ALL.into_iter().filter_map(|kind| {
        let count = prune::count(policy.keep, kind);
        (count > 0).then(|| format!("{count} {}", kind.as_str()))
    });
    let kinds = kinds.collect::<Vec<_>>().join(", ");
    if policy.recursive { format!("keep {kinds}, with all below") } else { format!("keep {kinds}") }
}

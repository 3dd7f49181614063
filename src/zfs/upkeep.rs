//! The judgement of what time does to a pool: scrubs that are due, space that
//! runs out, tables that grow, keys that nobody has loaded. Pure. Codes are
//! listed in [`judge`](super::judge).

use std::time::Duration;

use super::devices::{finding, typed};
use super::judge::Facts;
use super::keys::Keys;
use super::model::{Function, Pool, ScanState};
use super::space::Forecast;
use crate::ask::view::FindingView;
use crate::base::{Severity, Timestamp};

/// Full within this is a warning.
const SOON: Duration = Duration::from_secs(30 * 86_400);
/// Full within this is worth a word.
const NEAR: Duration = Duration::from_secs(90 * 86_400);
/// Share of its quota at which a deduplication table is almost full.
const TABLE_FULL: f64 = 0.9;

/// The day's date: `2026-12-20`.
fn date(at: Timestamp) -> String {
    at.iso().chars().take(10).collect()
}

/// Whole days, in words.
fn days(span: Duration) -> String {
    match span.as_secs() / 86_400 {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// A scrub that should have been. A pool that was never scrubbed counts from
/// when hostd first saw it.
pub fn scrubs(facts: &Facts, found: &mut Vec<FindingView>) {
    let Some(dates) = &facts.dates else { return };
    let (pool, kept) = (facts.pool, &facts.memory.kept);
    let runs = pool
        .scan
        .as_ref()
        .is_some_and(|scan| scan.function == Function::Scrub && scan.state == ScanState::Scanning);
    let Some(overdue) = dates.scrub_overdue.filter(|_| !runs) else { return };
    let since = kept.scrubbed.map_or(kept.first, |scrub| scrub.ended);
    let age = dates.now.since(since);
    if since == Timestamp::default() || age < overdue {
        return;
    }
    let message = match kept.scrubbed {
        Some(scrub) => format!(
            "{} was last scrubbed {} ago, on {}: errors on its disks may have gone unseen since",
            pool.name,
            days(age),
            date(scrub.ended)
        ),
        None => format!(
            "{} has not been scrubbed in the {} that hostd knows it: errors on its disks may \
             have gone unseen",
            pool.name,
            days(age)
        ),
    };
    let advice = format!("`hostctl pool scrub start {}`", typed(&pool.name));
    found.push(finding(Severity::Warning, "scrub-overdue", &pool.name, message, advice));
}

/// `; as in the last 14 days, it is full on 2026-12-20`; nothing when that is
/// not foretold.
pub fn fills(forecast: Option<&Forecast>) -> String {
    forecast.map_or(String::new(), |told| {
        format!(
            "; if it fills as in the last {} days, it is full on {}",
            told.days,
            date(told.full)
        )
    })
}

/// A pool that will be full soon and is not yet told to be.
pub fn filling(facts: &Facts, found: &mut Vec<FindingView>) {
    let (Some(dates), Some(told)) = (&facts.dates, &facts.memory.forecast) else { return };
    let left = told.full.since(dates.now);
    let severity = if left < SOON {
        Severity::Warning
    } else if left < NEAR {
        Severity::Ok
    } else {
        return;
    };
    let name = &facts.pool.name;
    let message = format!(
        "{name} will be full on {}, in {}, if it fills as in the last {} days ({:.1} GiB a day)",
        date(told.full),
        days(left),
        told.days,
        told.daily / f64::from(1 << 30)
    );
    found.push(finding(severity, "fills-soon", name, message, space_advice(name)));
}

/// What to do against a full pool.
pub fn space_advice(pool: &str) -> String {
    format!(
        "delete data and snapshots (`zfs list -t snapshot -o name,used -s used -r {}`) or add \
         disks",
        typed(pool)
    )
}

/// Deduplication tables against their quota and the memory that they want to
/// be held in.
pub fn dedup(facts: &Facts, found: &mut Vec<FindingView>) {
    let Some(usage) = facts.usage else { return };
    let Some(size) = usage.dedup_size.filter(|size| *size > 0) else { return };
    let name = &facts.pool.name;
    let mib = |bytes: u64| bytes >> 20;
    let quota = usage.dedup_quota.filter(|quota| *quota > 0);
    if let Some(quota) = quota.filter(|quota| size as f64 >= *quota as f64 * TABLE_FULL) {
        let message = format!(
            "the deduplication table of {name} has {} of the {} MiB that it may have: beyond \
             that, new data is stored without deduplication",
            mib(size),
            mib(quota)
        );
        let advice = format!(
            "`zpool ddtprune -d 90 {0}` drops what has no second copy; or raise the quota: \
             `zpool set dedup_table_quota=… {0}`",
            typed(name)
        );
        found.push(finding(Severity::Warning, "dedup-table", name, message, advice));
    }
    let Some(memory) = facts.machine_memory.filter(|memory| size > memory / 4) else { return };
    let severity = if size > memory / 2 { Severity::Warning } else { Severity::Ok };
    let message = format!(
        "the deduplication table of {name} has {} MiB, much of the {} MiB of memory: what is \
         not cached is read from disk at each write",
        mib(size),
        mib(memory)
    );
    let advice =
        "add memory or a `dedup` vdev, or turn `dedup` off where it saves little".to_owned();
    found.push(finding(severity, "dedup-memory", name, message, advice));
}

/// Datasets that cannot be mounted because their key is not loaded.
pub fn keys(pool: &Pool, keys: Option<&Result<Keys, String>>, found: &mut Vec<FindingView>) {
    let name = &pool.name;
    match keys {
        None => {}
        Some(Err(why)) => {
            let message = format!("whether keys of {name} are missing is not known: {why}");
            let advice = format!("`zfs get -r keystatus {}`", typed(name));
            found.push(finding(Severity::Unknown, "keys-unknown", name, message, advice));
        }
        Some(Ok(keys)) => {
            for (root, datasets) in &keys.locked {
                let what = match datasets {
                    1 => "the dataset is not mounted and its shares are empty".to_owned(),
                    more => format!("{more} datasets are not mounted and their shares are empty"),
                };
                let message = format!("the key of {root} is not loaded: {what}");
                let advice = format!("`zfs load-key {}`, then `zfs mount -a`", typed(root));
                found.push(finding(Severity::Warning, "keys-not-loaded", root, message, advice));
            }
            if keys.more > 0 {
                let message = format!("{} more keys of {name} are not loaded", keys.more);
                let advice = format!("`zfs get -r keystatus {}`", typed(name));
                found.push(finding(Severity::Warning, "keys-not-loaded", name, message, advice));
            }
        }
    }
}

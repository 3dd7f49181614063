//! What `care:` of `host.yaml` means.

use std::collections::HashMap;

use jiff::civil::Weekday;
use serde_json::{Value as Json, json};

use super::desk::Desk;
use super::formats::Text;
use super::moments::Often;
use super::raw::{RawCare, RawCareSnapshots, RawNotWhile, RawScrub, RawWeekday};
use super::tree::Trail;
use super::types::{Care, Days, Keep, ScrubPolicy, SnapshotPolicy};

/// How every pool is called that has no entry of its own.
const ALL: &str = "all";

pub(super) fn care(raw: RawCare, desk: &mut Desk<'_, '_>) -> Care {
    let (mut pools, mut scrubs) = (HashMap::new(), Vec::new());
    for (i, raw) in raw.scrub.unwrap_or_default().into_iter().enumerate() {
        let trail = Trail::to("care").key("scrub").item(i);
        let Some(raw) = raw else { continue };
        if let Some(Text(pool)) = &raw.pool {
            desk.unique(&mut pools, pool.clone(), &trail.key("pool"), format!("the pool `{pool}`"));
        }
        scrubs.extend(scrub(raw, &trail, desk));
    }
    let (mut datasets, mut snapshots) = (HashMap::new(), Vec::<SnapshotPolicy>::new());
    let mut trails = Vec::new();
    for (i, raw) in raw.snapshots.unwrap_or_default().into_iter().enumerate() {
        let trail = Trail::to("care").key("snapshots").item(i);
        let Some(raw) = raw else { continue };
        if let Some(Text(dataset)) = &raw.dataset {
            let what = format!("the dataset `{dataset}`");
            desk.unique(&mut datasets, dataset.clone(), &trail.key("dataset"), what);
        }
        if let Some(policy) = snapshot(raw, &trail, desk) {
            snapshots.push(policy);
            trails.push(trail);
        }
    }
    for (policy, trail) in snapshots.iter().zip(&trails) {
        let above = snapshots.iter().find(|above| above.recursive && above.holds(&policy.dataset));
        if let Some(above) = above {
            let (below, above) = (&policy.dataset, &above.dataset);
            let message = format!(
                "`{below}` is below `{above}`, which is recursive: it would be snapshotted twice"
            );
            let fix = "remove this entry, or `recursive` there";
            desk.error(&trail.key("dataset"), message, fix);
        }
    }
    Care { scrubs, snapshots }
}

impl SnapshotPolicy {
    /// Whether this dataset is below that of the policy.
    pub fn holds(&self, dataset: &str) -> bool {
        dataset.strip_prefix(&self.dataset).is_some_and(|rest| rest.starts_with('/'))
    }
}

fn scrub(raw: RawScrub, trail: &Trail, desk: &mut Desk<'_, '_>) -> Option<ScrubPolicy> {
    let on = raw.on.map(weekday);
    let Text(every) = raw.every?;
    let (on_trail, day_trail) = (trail.key("on"), trail.key("day"));
    if desk.root.has(&day_trail) && every != Often::Month {
        desk.error(&day_trail, "`day` goes with `every: month`", "use `on`, or remove it");
    } else if desk.root.has(&day_trail) && desk.root.has(&on_trail) {
        desk.error(&day_trail, "`on` and `day` both say the date", "keep one of them");
    }
    let every = match (every, raw.day.and_then(|day| i8::try_from(day).ok())) {
        (Often::Week, _) => Days::Week(on.unwrap_or(Weekday::Sunday)),
        (Often::Month, Some(day)) => Days::Month(day),
        (Often::Month, None) => Days::First(on.unwrap_or(Weekday::Sunday)),
        (Often::Days(days), _) => {
            if desk.root.has(&on_trail) && !days.is_multiple_of(7) {
                let message = format!("every {days} days is not always the same day of the week");
                desk.error(&on_trail, message, "remove `on`, or write 7d, 14d, 21d, …");
            }
            Days::Nth(days, on.unwrap_or(Weekday::Sunday))
        }
    };
    let (Text(at), until) = (raw.at?, raw.until.map(|Text(until)| until));
    if until == Some(at) {
        let fix = "write a later time, or remove `until`";
        desk.error(&trail.key("until"), "it would be paused when it starts", fix);
    }
    let given = desk.root.has(&trail.key("not-while"));
    let list: Vec<RawNotWhile> = raw.not_while.into_iter().flatten().flatten().collect();
    let Text(pool) = raw.pool?;
    Some(ScrubPolicy {
        pool: (pool != ALL).then_some(pool),
        every,
        at,
        until,
        not_while_vm: !given || list.contains(&RawNotWhile::Vm),
        not_while_plex: !given || list.contains(&RawNotWhile::Plex),
        even_if_elsewhere: raw.even_if_elsewhere.unwrap_or_default(),
    })
}

fn weekday(day: RawWeekday) -> Weekday {
    match day {
        RawWeekday::Monday => Weekday::Monday,
        RawWeekday::Tuesday => Weekday::Tuesday,
        RawWeekday::Wednesday => Weekday::Wednesday,
        RawWeekday::Thursday => Weekday::Thursday,
        RawWeekday::Friday => Weekday::Friday,
        RawWeekday::Saturday => Weekday::Saturday,
        RawWeekday::Sunday => Weekday::Sunday,
    }
}

fn snapshot(
    raw: RawCareSnapshots,
    trail: &Trail,
    desk: &mut Desk<'_, '_>,
) -> Option<SnapshotPolicy> {
    let keep = raw.keep?;
    let keep = Keep {
        hourly: keep.hourly?,
        daily: keep.daily?,
        weekly: keep.weekly?,
        monthly: keep.monthly?,
    };
    if keep == Keep::default() {
        let fix = "add `daily: 14`, or remove this entry";
        desk.error(&trail.key("keep"), "nothing is kept, so nothing would be made", fix);
    }
    Some(SnapshotPolicy {
        dataset: raw.dataset?.0,
        recursive: raw.recursive.unwrap_or_default(),
        keep,
        even_if_elsewhere: raw.even_if_elsewhere.unwrap_or_default(),
    })
}

/// As it would be written in the file.
pub(super) fn show(care: &Care) -> Json {
    json!({
        "scrub": care.scrubs.iter().map(show_scrub).collect::<Vec<_>>(),
        "snapshots": care.snapshots.iter().map(show_snapshots).collect::<Vec<_>>(),
    })
}

fn show_scrub(policy: &ScrubPolicy) -> Json {
    let (every, on, day) = match policy.every {
        Days::Week(on) => ("week".to_owned(), Some(on), None),
        Days::First(on) => ("month".to_owned(), Some(on), None),
        Days::Month(day) => ("month".to_owned(), None, Some(day)),
        Days::Nth(days, on) => (format!("{days}d"), days.is_multiple_of(7).then_some(on), None),
    };
    let blocks = [("vm", policy.not_while_vm), ("plex", policy.not_while_plex)];
    let blocks: Vec<_> = blocks.iter().filter(|(_, on)| *on).map(|(word, _)| *word).collect();
    super::show::without_null(json!({
        "pool": policy.pool.as_deref().unwrap_or(ALL),
        "every": every,
        "on": on.map(day_name),
        "day": day,
        "at": clock(policy.at),
        "until": policy.until.map(clock),
        "not-while": blocks,
        "even-if-elsewhere": policy.even_if_elsewhere,
    }))
}

fn show_snapshots(policy: &SnapshotPolicy) -> Json {
    let Keep { hourly, daily, weekly, monthly } = policy.keep;
    json!({
        "dataset": policy.dataset,
        "recursive": policy.recursive,
        "keep": { "hourly": hourly, "daily": daily, "weekly": weekly, "monthly": monthly },
        "even-if-elsewhere": policy.even_if_elsewhere,
    })
}

fn clock(time: jiff::civil::Time) -> String {
    format!("{:02}:{:02}", time.hour(), time.minute())
}

fn day_name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "monday",
        Weekday::Tuesday => "tuesday",
        Weekday::Wednesday => "wednesday",
        Weekday::Thursday => "thursday",
        Weekday::Friday => "friday",
        Weekday::Saturday => "saturday",
        Weekday::Sunday => "sunday",
    }
}

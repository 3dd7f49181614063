//! The judgement of what stands by itself: single devices, spares, counters.
//! Pure. Codes are listed in [`judge`](super::judge).

use std::time::Instant;

use super::devices::{failures, finding, is_lost, typed};
use super::judge::Facts;
use super::memory::Memory;
use super::model::{Class, Kind, Pool, State, Vdev};
use super::redundancy::Tolerance;
use crate::ask::view::FindingView;
use crate::base::Severity;

/// A class of which the pool has vdevs without redundancy: a risk by layout.
pub struct Risk<'a> {
    class: Class,
    code: &'static str,
    vdevs: Vec<&'a Vdev>,
}

impl Risk<'_> {
    /// What it is remembered by: one more such vdev is another risk.
    pub fn key(&self) -> String {
        let mut keys: Vec<String> = self.vdevs.iter().map(|vdev| vdev.key()).collect();
        keys.sort_unstable();
        let key = format!("{} {}", self.code, keys.join(" "));
        key.chars().take(512).collect()
    }
}

/// Vdevs on which the pool depends and which are single devices that serve.
pub fn risks<'a>(pool: &'a Pool, tolerances: &[Option<Tolerance>]) -> Vec<Risk<'a>> {
    let classes = [
        (Class::Normal, "single-device"),
        (Class::Special, "special-single-device"),
        (Class::Dedup, "dedup-single-device"),
    ];
    let of_class = |(class, code)| {
        let tops = pool.vdevs.iter().zip(tolerances);
        let single =
            tops.filter(|(top, t)| top.class == class && t.is_some_and(|t| t.layout == Some(0)));
        let vdevs = single.map(|(top, _)| top).filter(|top| !is_lost(&top.state)).collect();
        Risk { class, code, vdevs }
    };
    classes.into_iter().map(of_class).filter(|risk| !risk.vdevs.is_empty()).collect()
}

/// Standing risks, each once a class: a warning until it is known.
pub fn single_devices(
    facts: &Facts,
    tolerances: &[Option<Tolerance>],
    found: &mut Vec<FindingView>,
) {
    let pool = facts.pool;
    for risk in risks(pool, tolerances) {
        let told = facts.dates.as_ref().is_some_and(|d| facts.memory.is_told(&risk, d.now));
        let severity = if told { Severity::Ok } else { Severity::Warning };
        let Some(first) = risk.vdevs.first().map(|vdev| vdev.name.as_str()) else { continue };
        let names: Vec<&str> = risk.vdevs.iter().take(8).map(|vdev| vdev.name.as_str()).collect();
        let names = names.join(", ");
        let class_is = match risk.class {
            Class::Normal => String::new(),
            _ => format!("the {} class of ", risk.class.as_str()),
        };
        let message = format!(
            "{class_is}{} is on a single device without redundancy ({names}): when it fails the \
             whole pool is lost, so {} tolerates 0 failures whatever else it has",
            pool.name, pool.name
        );
        let advice = format!(
            "`zpool attach {} {} NEW-DISK` makes it a mirror",
            typed(&pool.name),
            typed(first)
        );
        found.push(finding(severity, risk.code, first, message, advice));
    }
}

/// Spares at work, spares lost, none left.
pub fn spares(pool: &Pool, tolerances: &[Option<Tolerance>], found: &mut Vec<FindingView>) {
    let spares: Vec<&Vdev> = pool.vdevs.iter().filter(|v| v.class == Class::Spare).collect();
    let left = spares.iter().filter(|spare| spare.state == State::Avail).count();
    let name = typed(&pool.name);
    for spare in &spares {
        let device = typed(&spare.name);
        match &spare.state {
            // ONLINE: at rest, in the words of a listing.
            State::Avail | State::Online => {}
            State::InUse => found.push(at_work(pool, tolerances, spare)),
            state => {
                let message =
                    format!("spare {} is {}: it cannot stand in", spare.name, state.shown());
                let advice = format!(
                    "`zpool remove {name} {device}`, then `zpool add {name} spare NEW-DISK`"
                );
                found.push(finding(Severity::Warning, "spare-lost", &spare.name, message, advice));
            }
        }
    }
    let in_use = spares.iter().any(|spare| spare.state == State::InUse);
    if in_use && left == 0 {
        let message = format!("{} has no spare left for the next failure", pool.name);
        let advice = format!("`zpool add {name} spare NEW-DISK`");
        found.push(finding(Severity::Warning, "no-spares-left", &pool.name, message, advice));
    }
}

fn at_work(pool: &Pool, tolerances: &[Option<Tolerance>], spare: &Vdev) -> FindingView {
    let (message, advice) = match replaced_by(pool, tolerances, spare) {
        Some((failed, top, tolerance)) => {
            let now = tolerance.and_then(|t| t.now);
            let left = now.map_or("an unknown number of failures".to_owned(), failures);
            let message = format!(
                "spare {} stands in for {} in {}, which tolerates {left}",
                spare.name, failed.name, top.name
            );
            let (name, device) = (typed(&pool.name), typed(&failed.name));
            let advice = format!(
                "`zpool replace {name} {device} NEW-DISK` gives the spare back; \
                 `zpool detach {name} {device}` keeps it in place"
            );
            (message, advice)
        }
        None => (format!("spare {} is in use by another pool", spare.name), String::new()),
    };
    finding(Severity::Warning, "spare-in-use", &spare.name, message, advice)
}

/// The device for which a spare stands in, and its top-level vdev.
fn replaced_by<'a>(
    pool: &'a Pool,
    tolerances: &[Option<Tolerance>],
    spare: &Vdev,
) -> Option<(&'a Vdev, &'a Vdev, Option<Tolerance>)> {
    pool.essential().find_map(|top| {
        let mut failed = None;
        top.walk(&mut |vdev| {
            let here = vdev.children.iter().skip(1).any(|child| child.key() == spare.key());
            if vdev.kind == Kind::Spare && here {
                failed = vdev.children.first();
            }
        });
        let at = pool.vdevs.iter().position(|vdev| std::ptr::eq(vdev, top))?;
        failed.map(|failed| (failed, top, tolerances.get(at).copied().flatten()))
    })
}

/// Rises of error and slow-I/O counters.
pub fn counters(pool: &Pool, memory: &Memory, now: Instant, found: &mut Vec<FindingView>) {
    let name = typed(&pool.name);
    let mut devices = Vec::new();
    for top in pool.vdevs.iter().filter(|top| top.class != Class::Spare) {
        top.walk(&mut |vdev| devices.push(vdev));
    }
    for vdev in
        devices.into_iter().filter(|vdev| vdev.state == State::Online || !vdev.children.is_empty())
    {
        let news = memory.news(vdev, now);
        let device = typed(&vdev.name);
        if vdev.errors.total() > 0 {
            let fresh = news.errors.total() > 0;
            let (severity, message) = if news.errors == vdev.errors {
                let message = format!("{} has had {} since the last clear", vdev.name, vdev.errors);
                (Severity::Warning, message)
            } else if fresh {
                let message = format!(
                    "{} had {} within the last hour, {} since the last clear",
                    vdev.name, news.errors, vdev.errors
                );
                (Severity::Warning, message)
            } else {
                let message =
                    format!("{} has old errors and no new ones: {}", vdev.name, vdev.errors);
                (Severity::Ok, message)
            };
            let advice = format!(
                "check SMART values and cable; `zpool clear {name} {device}` when the cause is \
                 gone, then `zpool scrub {name}`"
            );
            found.push(finding(severity, "device-errors", &vdev.name, message, advice));
        }
        if news.slow > 0 {
            let message = format!(
                "{} took longer than 30 s for {} I/Os within the last hour",
                vdev.name, news.slow
            );
            let advice =
                "check its SMART values: a disk that becomes slow often fails soon".to_owned();
            found.push(finding(Severity::Warning, "slow-io", &vdev.name, message, advice));
        }
        if let Some((configured, native)) = vdev.ashift {
            let message = format!(
                "{} is used with blocks of 2^{configured} bytes but has 2^{native}: writes are \
                 slower",
                vdev.name
            );
            found.push(finding(
                Severity::Ok,
                "ashift-mismatch",
                &vdev.name,
                message,
                String::new(),
            ));
        }
    }
}

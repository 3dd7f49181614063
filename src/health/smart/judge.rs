//! The judgement of a disk. Pure.
//!
//! | code | severity | when |
//! |---|---|---|
//! | `smart-failed` | critical | the disk's own judgement |
//! | `attribute-failed` | warning | an attribute past its limit |
//! | `sectors-pending` | warning | any: their data cannot be read now |
//! | `sectors-reallocated` | warning while rising, else ok | |
//! | `uncorrectable` | warning while rising, else ok | |
//! | `crc-errors`, `timeouts` | warning while rising, else ok | the cable or power, not the disk |
//! | `nvme-critical` | critical; warning for heat alone | the controller's bits |
//! | `spare-low`, `worn-out`, `self-test-failed` | warning | |
//! | `too-hot` | warning, critical | by its own limits, else usual ones |
//! | `not-asked` | ok; unknown if it was never read | asleep |
//! | `not-supported`, `ignored` | ok | |
//! | `not-read`, `smart-off` | unknown | |
//!
//! *Rising* is within the last week: an old count that stands still is the
//! past of a disk, not its future.

use super::find::{Disk, Transport};
use super::memory::{Record, Rise};
use super::parse::{Counter, Smart};
use crate::ask::view::FindingView;
use crate::base::{Severity, Timestamp};

/// Degrees by which a disk has to cool down until it is no more called hot.
const HYSTERESIS: f64 = 3.0;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Whether a disk has been asked, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// Not yet.
    #[default]
    New,
    /// It has answered.
    Told,
    /// It sleeps.
    Asleep,
    /// There is nothing to ask.
    NotSupported(String),
    /// SMART is switched off.
    Off,
    /// The owner said so.
    Ignored,
    /// It could not be asked.
    Failed(String),
}

/// What is judged.
pub struct Facts<'a> {
    /// The disk.
    pub disk: &'a Disk,
    /// Whether it was asked.
    pub standing: &'a Standing,
    /// What it said last, and before.
    pub record: Option<&'a Record>,
    /// Now.
    pub now: Timestamp,
    /// Whether it was too hot at the last judgement.
    pub was_hot: bool,
}

/// Worst first.
pub fn judge(facts: &Facts) -> Vec<FindingView> {
    let mut found = Findings { object: &facts.disk.name, all: Vec::new() };
    standing(facts, &mut found);
    if let Some(record) = facts.record {
        let smart = &record.smart;
        own_judgement(smart, &mut found);
        counters(record, facts.now, &mut found);
        wear(smart, &mut found);
        if *facts.standing == Standing::Told {
            heat(facts, smart, &mut found);
        }
        if let Some(words) = &smart.self_test {
            let message = format!("its last self-test failed: {words}");
            found.add(Severity::Warning, "self-test-failed", message, "replace it");
        }
    }
    found.all.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found.all
}

struct Findings<'a> {
    object: &'a str,
    all: Vec<FindingView>,
}

impl Findings<'_> {
    fn add(&mut self, severity: Severity, code: &str, message: String, advice: &str) {
        self.all.push(FindingView {
            severity,
            code: code.to_owned(),
            object: self.object.to_owned(),
            message,
            advice: advice.to_owned(),
        });
    }
}

fn standing(facts: &Facts, found: &mut Findings) {
    let name = &facts.disk.name;
    match facts.standing {
        Standing::Told => {}
        Standing::New => {
            // After a restart what is known is of before, and soon replaced.
            let seen = facts.record.map(|record| facts.now.secs().saturating_sub(record.seen));
            if let Some(age) = seen.filter(|age| *age >= 2 * DAY) {
                let message = format!("it was last read {} days ago", age / DAY);
                let advice = "`hostctl disk list` says why disks are not read";
                found.add(Severity::Unknown, "not-read", message, advice);
            }
        }
        Standing::Asleep if facts.record.is_some() => {
            let message = "it sleeps and is not woken".to_owned();
            found.add(Severity::Ok, "not-asked", message, "");
        }
        Standing::Asleep => {
            let message = "it sleeps, is not woken, and was never read".to_owned();
            let advice = format!("to read it once, wake it: `smartctl -H /dev/{name}`");
            found.add(Severity::Unknown, "not-asked", message, &advice);
        }
        Standing::NotSupported(why) => {
            found.add(Severity::Ok, "not-supported", format!("its health is not known: {why}"), "");
        }
        Standing::Ignored => {
            let message = "not asked, because `disks.ignore` names it".to_owned();
            found.add(Severity::Ok, "ignored", message, "");
        }
        Standing::Off => {
            let advice = format!("`smartctl -s on /dev/{name}`");
            let message = "SMART is switched off on it".to_owned();
            found.add(Severity::Unknown, "smart-off", message, &advice);
        }
        Standing::Failed(why) => {
            let advice = format!(
                "look at its cable and power, and at what `smartctl -x /dev/{name}` says; or name \
                 it in `disks.ignore` of host.yaml"
            );
            let message = format!("its health cannot be read: {why}");
            found.add(Severity::Unknown, "not-read", message, &advice);
        }
    }
}

fn own_judgement(smart: &Smart, found: &mut Findings) {
    const BITS: [&str; 6] = [
        "its spare blocks are used up to its limit",
        "it is too hot or too cold",
        "it is no longer reliable because of errors",
        "it takes no more writes",
        "the backup of its memory has failed",
        "its persistent memory region is unreliable",
    ];
    const HEAT: u8 = 1 << 1;
    let bits = smart.critical_warning;
    if bits != 0 {
        let words = BITS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
        let mut words: Vec<_> = words.map(|(_, words)| *words).collect();
        if bits >> BITS.len() != 0 {
            words.push("a warning that hostd does not know");
        }
        let (severity, advice) = match bits {
            HEAT => (Severity::Warning, "look at its cooling"),
            _ => (Severity::Critical, "copy what is only on it, then replace it"),
        };
        let message = format!("its controller warns: {}", words.join(", "));
        found.add(severity, "nvme-critical", message, advice);
    }
    let failing = smart.failing.join(", ");
    // An NVMe disk says the same twice.
    if smart.passed == Some(false) && bits == 0 {
        let of = if failing.is_empty() { String::new() } else { format!(" ({failing})") };
        let message = format!("the disk itself says that it is failing{of}");
        let advice = "copy what is only on it, then replace it";
        found.add(Severity::Critical, "smart-failed", message, advice);
    } else if !failing.is_empty() {
        let message = format!("past the limit that its maker has set: {failing}");
        found.add(Severity::Warning, "attribute-failed", message, "plan to replace it");
    }
}

fn counters(record: &Record, now: Timestamp, found: &mut Findings) {
    let cable =
        "look at its cable, backplane and power: these are lost on the way, not on the disk";
    for (counter, value) in &record.smart.counters {
        if *value == 0 {
            continue;
        }
        let rise = record.rise(*counter, now);
        let (code, one, many, advice) = match counter {
            Counter::Pending => (
                "sectors-pending",
                "pending sector",
                "pending sectors",
                "a scrub of its pool writes them anew; if they come again, replace it",
            ),
            Counter::Reallocated => {
                ("sectors-reallocated", "reallocated sector", "reallocated sectors", "replace it")
            }
            Counter::Uncorrectable => {
                ("uncorrectable", "uncorrectable error", "uncorrectable errors", "replace it")
            }
            Counter::Unreadable => {
                ("uncorrectable", "unreadable sector", "unreadable sectors", "replace it")
            }
            Counter::Crc => ("crc-errors", "transfer error", "transfer errors", cable),
            Counter::Timeout => {
                ("timeouts", "command that took too long", "commands that took too long", cable)
            }
        };
        let standing = *counter == Counter::Pending;
        let severity = match (rise, standing) {
            (Some(_), _) | (None, true) => Severity::Warning,
            (None, false) => Severity::Ok,
        };
        let what = if *value == 1 { one } else { many };
        let since = match rise {
            Some(rise) => more(rise),
            None if record.days(*counter, now) == 0 => ", seen for the first time".to_owned(),
            None => ", not rising".to_owned(),
        };
        let advice = if severity == Severity::Ok { "" } else { advice };
        found.add(severity, code, format!("{value} {what}{since}"), advice);
    }
}

/// `, 3 more than a day ago`.
fn more(rise: Rise) -> String {
    let ago = match rise.over {
        ..HOUR => "an hour ago".to_owned(),
        HOUR..72_000 => match rise.over / HOUR {
            1 => "an hour ago".to_owned(),
            hours => format!("{hours} hours ago"),
        },
        72_000..129_600 => "a day ago".to_owned(),
        over => format!("{} days ago", (over + DAY / 2) / DAY),
    };
    format!(", {} more than {ago}", rise.by)
}

fn wear(smart: &Smart, found: &mut Findings) {
    const SPARE_USED: u8 = 1;
    if let Some((left, limit)) = smart.spare
        && left <= limit
        && limit > 0
        && smart.critical_warning & SPARE_USED == 0
    {
        let message = format!("{left} % of its spare blocks are left; it warns at {limit} %");
        found.add(Severity::Warning, "spare-low", message, "replace it");
    }
    let Some(worn) = smart.worn else { return };
    let percent = (worn * 100.0).round();
    if worn >= 1.0 {
        let message = format!("{percent} % of its rated life in writes is used up");
        found.add(Severity::Warning, "worn-out", message, "replace it");
    } else if worn >= 0.9 {
        let message = format!("{percent} % of its rated life in writes is used up");
        found.add(Severity::Warning, "worn-out", message, "plan to replace it");
    }
}

fn heat(facts: &Facts, smart: &Smart, found: &mut Findings) {
    let Some(degrees) = smart.temperature else { return };
    let spins = match (facts.disk.rotational, facts.disk.transport) {
        (_, Transport::Nvme) => false,
        (spins, _) => spins.unwrap_or(true),
    };
    let (warm, hot) = limits(smart, facts.disk, spins);
    let slack = if facts.was_hot { HYSTERESIS } else { 0.0 };
    let severity = match degrees {
        _ if degrees >= hot - slack => Severity::Critical,
        _ if degrees >= warm - slack => Severity::Warning,
        _ => return,
    };
    let limit = if severity == Severity::Critical { hot } else { warm };
    let message = format!("it is at {degrees:.0} °C; its limit is {limit:.0} °C");
    found.add(severity, "too-hot", message, "look at its fans and dust");
}

/// Its own, as far as they make sense, else what is usual for its kind.
fn limits(smart: &Smart, disk: &Disk, spins: bool) -> (f64, f64) {
    let (warm, hot) = if spins { (60.0, 65.0) } else { (70.0, 80.0) };
    let own = smart.limits.0.or(disk.limits.0).zip(smart.limits.1.or(disk.limits.1));
    match own {
        // What a spinning disk calls critical is often where it is broken.
        Some((low, high)) if !spins && low < high => (low, high),
        _ => (warm, hot),
    }
}

//! The judgement of a pool. Pure: facts and memory in, a [`PoolView`] out.
//!
//! | code | severity | what |
//! |---|---|---|
//! | `pool-suspended` | critical | I/O is blocked |
//! | `pool-absent` | critical | expected and not imported |
//! | `pool-faulted`, `vdev-failed` | critical | more is lost than the layout allows |
//! | `data-errors` | critical | what redundancy did not save |
//! | `device-missing`, `label-bad`, `device-faulted`, `device-offline`, `device-removed` | warning; critical when its vdev tolerates nothing more | a lost device |
//! | `device-degraded`, `device-errors`, `errors-on-several-devices`, `slow-io` | warning | a suspect device; counters by their rise |
//! | `io-rate`, `checksum-rate`, `vdev-sits-out` | warning | events of ZFS, counted ([`rates`](super::events::rates)) |
//! | `hung-io` | critical | I/O that does not come back, by ZFS's own word |
//! | `spare-in-use`, `spare-lost`, `no-spares-left`, `log-lost` | warning | what stood by |
//! | `single-device`, `special-single-device`, `dedup-single-device` | warning; ok once it is known | standing risk by layout |
//! | `scrub-paused`, `scrub-overdue`, `scrub-errors`, `resilver-errors` | warning | scans |
//! | `resilver-running` | ok; warning while nothing is tolerated | a scan that changes what is tolerated |
//! | `capacity-high`, `capacity-critical` | warning; critical | 85 and 90 %; 95 %, unless `pools.capacity` says otherwise |
//! | `fills-soon` | warning within 30 days; ok within 90 | at the pace of the last weeks |
//! | `dedup-table`, `dedup-memory` | warning; ok | deduplication tables against quota and memory |
//! | `keys-not-loaded` | warning | encrypted datasets that are not there for anybody |
//! | `hostid-mismatch`, `errata`, `pool-degraded`, `pool-notice` | warning | what ZFS says of the pool as a whole |
//! | `status-unparsed` | warning | part of the output was not understood |
//! | `redundancy-unknown`, `errors-unknown`, `capacity-unknown`, `keys-unknown`, `pool-state-unknown`, `device-state-unknown` | unknown | not known, so not green |
//! | `not-read-yet`, `zpool-hangs`, `zpool-missing`, `status-denied`, `status-unreadable`, `kstat-unreadable` | unknown | why facts are missing or stale |
//! | `scrub-running`, `cache-lost`, `ashift-mismatch`, `fragmentation` | ok | to know |

use std::time::{Duration, Instant};

use super::devices::{self, finding, typed};
use super::keys::Keys;
use super::list::Usage;
use super::memory::{Memory, STEPS};
use super::model::{Function, Pool, Scan, ScanState};
use super::pace::Pace;
use super::redundancy::{self, Tolerance};
use super::{upkeep, view};
use crate::ask::view::{FindingView, PoolView};
use crate::base::{Severity, Timestamp, span};

/// What is known of a pool when it is judged.
pub struct Facts<'a> {
    /// From `zpool status`.
    pub pool: &'a Pool,
    /// The kstat's word, where it could be read: it is newer, and nothing masks it.
    pub kstat: Option<&'a str>,
    /// From `zpool list`.
    pub usage: Option<&'a Usage>,
    /// Of the readings before, this one included.
    pub memory: &'a Memory,
    /// The time, as `memory` counts it.
    pub now: Instant,
    /// What is measured in days; `None` for a capture, which has no present.
    pub dates: Option<Dates>,
    /// Keys that are not loaded, or why that is not known; `None` for a pool
    /// without encryption.
    pub keys: Option<&'a Result<Keys, String>>,
    /// Bytes of memory that the machine has.
    pub machine_memory: Option<u64>,
}

/// The date, and when what is late.
#[derive(Debug, Clone, Copy)]
pub struct Dates {
    /// By the clock on the wall.
    pub now: Timestamp,
    /// How old the last scrub may be; `None` when nobody wants to know.
    pub scrub_overdue: Option<Duration>,
}

/// The pool with everything that is to be said about it.
pub fn judge(facts: &Facts) -> PoolView {
    let pool = facts.pool;
    let state = facts.kstat.unwrap_or(&pool.state);
    let mut tolerances = redundancy::tolerances(pool, &facts.memory.known);
    if state == "SUSPENDED" {
        // Whatever its layout would allow: as it is it serves nothing.
        tolerances.iter_mut().flatten().for_each(|tolerance| tolerance.now = Some(0));
    }
    let tolerates = redundancy::of_pool(pool, &tolerances);
    let mut found = devices::judge(facts, &tolerances);
    data_errors(pool, &mut found);
    if let Some(scan) = &pool.scan {
        scan_findings(facts, scan, tolerates, &tolerances, &mut found);
    }
    rebuilds(facts, tolerates, &mut found);
    upkeep::scrubs(facts, &mut found);
    notices(pool, &mut found);
    space(facts, &mut found);
    upkeep::dedup(facts, &mut found);
    upkeep::keys(pool, facts.keys, &mut found);
    unknowns(pool, tolerates, &mut found);
    // First among equals: the state of the whole.
    if let Some(finding) = state_finding(&pool.name, state, pool, &found) {
        found.insert(0, finding);
    }
    view::pool(facts, state, &tolerances, tolerates, capacity(pool, facts.usage), found)
}

/// Used fraction 0–1.
pub fn capacity(pool: &Pool, usage: Option<&Usage>) -> Option<f64> {
    // The status is read more often, and its sizes are the same.
    let status = super::list::fraction(pool.size, pool.alloc);
    status.or_else(|| usage.and_then(Usage::fraction))
}

/// The finding that a suspended pool has, with or without further facts.
pub fn suspended(name: &str, msgid: Option<&str>) -> FindingView {
    let why = match msgid {
        Some("ZFS-8000-MM") => " because another machine may have imported it (multihost)",
        Some("ZFS-8000-JQ") => "; new writes fail with an error (failmode continue)",
        Some("ZFS-8000-HC") => "; programs that write wait (failmode wait)",
        _ => "",
    };
    let message = format!("{name} is suspended: its I/O is blocked{why}");
    let advice = format!(
        "reconnect its devices, then `zpool clear {}`; programs that use it hang until then",
        typed(name)
    );
    finding(Severity::Critical, "pool-suspended", name, message, advice)
}

/// What the pool's state alone says; `found` is what has been found already.
pub fn state_finding(
    name: &str,
    state: &str,
    pool: &Pool,
    found: &[FindingView],
) -> Option<FindingView> {
    let told = found.iter().any(|f| f.severity > Severity::Ok && f.code != "status-unparsed");
    let advice = || format!("`zpool status -v {}`", typed(name));
    let said = || if pool.status.is_empty() { String::new() } else { format!(": {}", pool.status) };
    match state {
        "ONLINE" => None,
        "SUSPENDED" => Some(suspended(name, pool.msgid.as_deref())),
        "DEGRADED" if told => None,
        "DEGRADED" => {
            let message = format!("{name} is degraded{}", said());
            Some(finding(Severity::Warning, "pool-degraded", name, message, advice()))
        }
        "FAULTED" | "UNAVAIL" | "OFFLINE" | "REMOVED" | "SPLIT" => {
            let message = format!("{name} is {state}: its data cannot be reached{}", said());
            let advice = if pool.action.is_empty() { advice() } else { pool.action.clone() };
            Some(finding(Severity::Critical, "pool-faulted", name, message, advice))
        }
        "TRANSITIONING" => {
            let message = format!("{name} is being imported or exported");
            Some(finding(Severity::Unknown, "pool-state-unknown", name, message, String::new()))
        }
        other => {
            let message = format!("{name} is in a state that hostd does not know: {other:?}");
            Some(finding(Severity::Unknown, "pool-state-unknown", name, message, advice()))
        }
    }
}

fn data_errors(pool: &Pool, found: &mut Vec<FindingView>) {
    let name = typed(&pool.name);
    let advice = format!(
        "`zpool status -v {name}` as root lists the files; restore them from backup, then `zpool \
         scrub {name}` twice"
    );
    match pool.error_count {
        Some(0) => {}
        Some(count) => {
            let message =
                format!("{} has {count} data errors that redundancy did not save", pool.name);
            found.push(finding(Severity::Critical, "data-errors", &pool.name, message, advice));
        }
        None => {
            let message = format!("whether {} has data errors is not known", pool.name);
            found.push(finding(Severity::Unknown, "errors-unknown", &pool.name, message, advice));
        }
    }
}

fn percent(progress: Option<f64>) -> String {
    progress.map_or(String::new(), |done| format!(" at {:.1} %", done * 100.0))
}

/// How far the scan is, and how long it still takes; `of` as in [`Memory::pace`].
fn progress(done: Option<f64>, memory: &Memory, of: &str) -> String {
    percent(done) + &memory.pace(of).map(Pace::words).unwrap_or_default()
}

/// How bad a running resilver is: while it runs, less is tolerated.
fn during(tolerates: Option<u32>, reduced: bool) -> (Severity, String) {
    match tolerates {
        Some(0) if reduced => {
            (Severity::Warning, "until it is done no further failure is tolerated".to_owned())
        }
        Some(1) => (Severity::Ok, "while it runs 1 failure is tolerated".to_owned()),
        Some(left) => (Severity::Ok, format!("while it runs {left} failures are tolerated")),
        None => (Severity::Unknown, "how many failures are tolerated is not known".to_owned()),
    }
}

fn scan_findings(
    facts: &Facts,
    scan: &Scan,
    tolerates: Option<u32>,
    tolerances: &[Option<Tolerance>],
    found: &mut Vec<FindingView>,
) {
    let (pool, memory) = (facts.pool, facts.memory);
    let name = typed(&pool.name);
    let mut push = |severity, code, message, advice| {
        found.push(finding(severity, code, &pool.name, message, advice));
    };
    let function = match scan.function {
        Function::Scrub => "scrub",
        Function::Resilver => "resilver",
    };
    match (scan.function, scan.state) {
        (Function::Resilver, ScanState::Scanning) => {
            let reduced =
                tolerances.iter().flatten().any(|t| t.now == Some(0) && t.layout > Some(0));
            let (severity, left) = during(tolerates, reduced);
            let far = progress(scan.progress, memory, "");
            let message = format!("{} resilvers{far}; {left}", pool.name);
            push(severity, "resilver-running", message, "do not pull or reboot".to_owned());
        }
        (Function::Scrub, ScanState::Scanning) => {
            let far = progress(scan.progress, memory, "");
            let message = format!("{} is scrubbed{far}", pool.name);
            push(Severity::Ok, "scrub-running", message, String::new());
        }
        (_, ScanState::Paused) => {
            let message = format!("the scrub of {} is paused{}", pool.name, percent(scan.progress));
            push(
                Severity::Warning,
                "scrub-paused",
                message,
                format!("`zpool scrub {name}` resumes it"),
            );
        }
        (_, ScanState::Finished | ScanState::Canceled) => {}
    }
    if scan.errors > 0 {
        let message = format!(
            "the last {function} of {} met {} errors it could not repair",
            pool.name, scan.errors
        );
        let code = match scan.function {
            Function::Scrub => "scrub-errors",
            Function::Resilver => "resilver-errors",
        };
        push(Severity::Warning, code, message, format!("`zpool status -v {name}` as root"));
    }
}

fn rebuilds(facts: &Facts, tolerates: Option<u32>, found: &mut Vec<FindingView>) {
    let pool = facts.pool;
    for rebuild in &pool.rebuilds {
        if rebuild.state == ScanState::Scanning {
            let (severity, left) = during(tolerates, true);
            let far = progress(rebuild.progress, facts.memory, &rebuild.vdev);
            let message = format!("{} is rebuilt{far}; {left}", rebuild.vdev);
            let advice = format!("`zpool scrub {}` when it is done", typed(&pool.name));
            found.push(finding(severity, "resilver-running", &rebuild.vdev, message, advice));
        }
        if rebuild.errors > 0 {
            let message = format!("the rebuild of {} met {} errors", rebuild.vdev, rebuild.errors);
            let advice = format!("`zpool status -v {}` as root", typed(&pool.name));
            found.push(finding(
                Severity::Warning,
                "resilver-errors",
                &rebuild.vdev,
                message,
                advice,
            ));
        }
    }
}

/// What ZFS says of the pool as a whole, where nothing else has been found to
/// say the same.
fn notices(pool: &Pool, found: &mut Vec<FindingView>) {
    let Some(msgid) = &pool.msgid else { return };
    let told = found.iter().any(|finding| finding.severity > Severity::Ok);
    let (code, always) = match msgid.as_str() {
        "ZFS-8000-EY" => ("hostid-mismatch", true),
        "ZFS-8000-ER" => ("errata", true),
        "ZFS-8000-K4" => ("log-lost", true),
        // Old errors stay in the status until they are cleared.
        "ZFS-8000-9P" => return,
        _ => ("pool-notice", !told),
    };
    if always {
        let message = format!("{msgid}: {}", pool.status);
        found.push(finding(Severity::Warning, code, &pool.name, message, pool.action.clone()));
    }
}

fn space(facts: &Facts, found: &mut Vec<FindingView>) {
    const FRAGMENTED: u64 = 60;
    let name = &facts.pool.name;
    if let (Some(fraction), level @ 1..) = (capacity(facts.pool, facts.usage), facts.memory.level) {
        let line = facts.memory.line * 100.0;
        let (severity, code) = if level == STEPS {
            (Severity::Critical, "capacity-critical")
        } else {
            (Severity::Warning, "capacity-high")
        };
        let message = format!(
            "{name} is {:.0} % full, above {line:.0} %: writes become slow, then fail{}",
            fraction * 100.0,
            upkeep::fills(facts.memory.forecast.as_ref())
        );
        found.push(finding(severity, code, name, message, upkeep::space_advice(name)));
    }
    upkeep::filling(facts, found);
    if let Some(part) =
        facts.usage.and_then(|usage| usage.fragmentation).filter(|p| *p >= FRAGMENTED)
    {
        let message = format!("{part} % of the free space of {name} is in small pieces");
        found.push(finding(Severity::Ok, "fragmentation", name, message, String::new()));
    }
}

fn unknowns(pool: &Pool, tolerates: Option<u32>, found: &mut Vec<FindingView>) {
    let advice = || format!("`zpool status -v {}`", typed(&pool.name));
    if tolerates.is_none() {
        let message = format!("how many failures {} still tolerates is not known", pool.name);
        found.push(finding(Severity::Unknown, "redundancy-unknown", &pool.name, message, advice()));
    }
    if let Some(first) = pool.unparsed.first() {
        let message = format!(
            "{} parts of the status of {} were not understood; the first: {first}",
            pool.unparsed.len(),
            pool.name
        );
        found.push(finding(Severity::Warning, "status-unparsed", &pool.name, message, advice()));
    }
}

/// Why there are no fresh facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// The first answer is still awaited.
    NotReadYet,
    /// `zpool` has not answered for this long.
    Hangs {
        /// Since it was started.
        waited: std::time::Duration,
        /// It cannot even be killed.
        stuck: bool,
    },
    /// There is no `zpool` command.
    Missing,
    /// We may not.
    Denied(String),
    /// It answered, and not with a status.
    Unreadable(String),
    /// `zpool list` did not answer, so how full the pool is is not known.
    NoCapacity(String),
    /// The kstat could not be read.
    Kstat(String),
}

/// The finding for a doubt; `since` is the age of the facts that are shown.
pub fn doubt(pool: &str, doubt: &Doubt, since: Option<Timestamp>) -> FindingView {
    let shown = since.map_or(String::new(), |at| format!("; what is shown is of {}", at.iso()));
    let status = || format!("`zpool status {}`", typed(pool));
    let (code, message, advice) = match doubt {
        Doubt::NotReadYet => {
            ("not-read-yet", format!("{pool} has not been read yet"), String::new())
        }
        Doubt::Hangs { waited, stuck } => (
            "zpool-hangs",
            format!(
                "ZFS commands about {pool} hang: `zpool status` has not answered for {}{}{shown}",
                span::show(*waited),
                if *stuck { " and cannot be killed" } else { "" }
            ),
            "look for hung tasks and disk errors in `dmesg`".to_owned(),
        ),
        Doubt::Missing => (
            "zpool-missing",
            format!("the command `zpool` is not installed, so {pool} cannot be examined{shown}"),
            "install zfsutils-linux".to_owned(),
        ),
        Doubt::Denied(why) => {
            ("status-denied", format!("{why}{shown}"), "run hostd as root".to_owned())
        }
        Doubt::Unreadable(why) => ("status-unreadable", format!("{why}{shown}"), status()),
        Doubt::NoCapacity(why) => {
            ("capacity-unknown", format!("how full {pool} is is not known: {why}"), status())
        }
        Doubt::Kstat(why) => ("kstat-unreadable", format!("{why}{shown}"), status()),
    };
    finding(Severity::Unknown, code, pool, message, advice)
}

//! The `scan:` lines of the text form. Pure.
//!
//! A pool may have two: the last scrub or resilver, and a sequential rebuild,
//! which names its vdev in parentheses. What a line says:
//!
//! - `scrub|resilver [(vdev)] in progress since DATE …, 12.34% done, …`; before
//!   that `1G / 4G scanned at 1M/s, 1G / 4G issued at 1M/s`, or, to 2.1, `1G scanned
//!   at 1M/s, 1G issued at 1M/s, 4G total`, all rounded
//! - `scrub paused since DATE scrub started on DATE …, 12.34% done`
//! - `scrub repaired 0B in 00:01:02 with 0 errors on DATE`
//! - `resilvered [(vdev)] 1M in 00:01:02 with 0 errors on DATE`
//! - `scrub|resilver [(vdev)] canceled on DATE`

use jiff::tz::TimeZone;

use super::fields::{count, date};
use super::model::{Function, Pool, Rebuild, Scan, ScanState, Work};
use crate::base::Timestamp;

/// Reads one line, its continuations appended, into the pool.
pub fn read(pool: &mut Pool, text: &str, zone: &TimeZone) {
    let text = text.strip_prefix("thorough ").unwrap_or(text);
    let ignored = ["none requested", "error scrub", "scrubbed "];
    if text.is_empty() || ignored.iter().any(|begin| text.starts_with(begin)) {
        return;
    }
    let Some(line) = parse(text, zone) else {
        pool.reject(&format!("scan: {text}"));
        return;
    };
    match line.vdev {
        Some(vdev) => pool.rebuilds.push(Rebuild {
            vdev: vdev.to_owned(),
            state: line.state,
            progress: line.progress,
            work: line.work,
            errors: line.errors,
            started: line.started,
            ended: line.ended,
        }),
        // A scan under way is the one to know about.
        None if pool.scan.as_ref().is_some_and(|scan| scan.state == ScanState::Scanning) => {}
        None => {
            pool.scan = Some(Scan {
                function: line.function,
                state: line.state,
                progress: line.progress,
                work: line.work,
                errors: line.errors,
                started: line.started,
                ended: line.ended,
            });
        }
    }
}

struct Line<'a> {
    function: Function,
    vdev: Option<&'a str>,
    state: ScanState,
    progress: Option<f64>,
    work: Option<Work>,
    errors: u64,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
}

fn parse<'a>(text: &'a str, zone: &TimeZone) -> Option<Line<'a>> {
    let (word, rest) = text.split_once(' ')?;
    let function = match word {
        "scrub" => Function::Scrub,
        "resilver" | "resilvered" => Function::Resilver,
        _ => return None,
    };
    let (vdev, rest) = match rest.strip_prefix('(').and_then(|rest| rest.split_once(") ")) {
        Some((vdev, rest)) => (Some(vdev), rest),
        None => (None, rest),
    };
    let after = |words: &str| rest.find(words).map(|at| &rest[at + words.len()..]);
    let first_date = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().take(5).collect();
        date(&words.join(" "), zone)
    };
    let line = |state, progress, errors, started, ended| {
        let under_way = matches!(state, ScanState::Scanning | ScanState::Paused);
        let work = if under_way { work(rest, progress) } else { None };
        Some(Line { function, vdev, state, progress, work, errors, started, ended })
    };
    if let Some(since) = rest.strip_prefix("in progress since ") {
        return line(ScanState::Scanning, Some(percent(rest)?), 0, first_date(since), None);
    }
    if rest.starts_with("paused since ") {
        let started = after("started on ").and_then(first_date);
        return line(ScanState::Paused, percent(rest), 0, started, None);
    }
    if let Some(on) = rest.strip_prefix("canceled on ") {
        return line(ScanState::Canceled, None, 0, None, first_date(on));
    }
    let (errors, on) = after(" with ")?.split_once(" errors on ")?;
    let ended = first_date(on);
    let took = after(" in ").and_then(|text| took(text.split(" with ").next()?));
    let started = ended.zip(took).map(|(end, took)| Timestamp::from_secs(end.secs() - took));
    line(ScanState::Finished, Some(1.0), count(errors)?, started, ended)
}

/// The fraction before `% done`.
fn percent(text: &str) -> Option<f64> {
    let (before, _) = text.split_once("% done")?;
    let number: f64 = before.rsplit([' ', ',']).next()?.parse().ok()?;
    // Nothing to do yet divides by nothing.
    Some(if number.is_finite() { (number / 100.0).clamp(0.0, 1.0) } else { 0.0 })
}

/// What is done and to do. The fraction has more digits than the sizes, which
/// are rounded to three; before the first byte it may not be a number.
fn work(text: &str, progress: Option<f64>) -> Option<Work> {
    // Sizes stand in pairs before `issued`, or one before `total`.
    let sizes = |end: &str| {
        let before = &text[..text.find(end)?];
        let last = before.rsplit([',', '/', ' ']).find(|word| !word.is_empty())?;
        count(last)
    };
    let all = sizes(" issued").filter(|_| text.contains(" / ")).or_else(|| sizes(" total"))?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a fraction of a size; both are rounded anyway"
    )]
    let done = (progress? * all as f64) as u64;
    Some(Work { done, all })
}

/// Seconds of `00:01:02` or `1 days 00:01:02`.
fn took(text: &str) -> Option<i64> {
    let (days, clock) = match text.split_once(" days ") {
        Some((days, clock)) => (days.parse::<i64>().ok()?, clock),
        None => (0, text),
    };
    let parts: Vec<i64> = clock.trim().split(':').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    let [hours, minutes, seconds] = parts.as_slice() else { return None };
    let span = days.checked_mul(24)?.checked_add(*hours)?.checked_mul(60)?.checked_add(*minutes)?;
    span.checked_mul(60)?.checked_add(*seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(text: &str) -> Pool {
        let mut pool = Pool::default();
        read(&mut pool, text, &TimeZone::UTC);
        pool
    }

    #[test]
    fn reads_every_form() {
        let running = scan(
            "scrub in progress since Sun Nov 22 17:06:29 2026 1G / 4G scanned at 1M/s, 1G / 4G \
             issued 0B repaired, 25.00% done, no estimated completion time",
        );
        let running = running.scan.unwrap();
        assert_eq!((running.state, running.progress), (ScanState::Scanning, Some(0.25)));
        let paused = scan(
            "scrub paused since Sun Nov 22 17:06:29 2026 scrub started on Sun Nov 22 17:00:29 2026 \
             1G / 4G scanned, 1G / 4G issued 0B repaired, 25.00% done",
        );
        let paused = paused.scan.unwrap();
        assert_eq!(paused.state, ScanState::Paused);
        assert_eq!(paused.started, Some(Timestamp::from_secs(1_795_366_829)));
        let done =
            scan("scrub repaired 0B in 1 days 00:00:01 with 3 errors on Sun Nov 22 17:08:30 2026");
        let done = done.scan.unwrap();
        assert_eq!((done.state, done.errors), (ScanState::Finished, 3));
        assert_eq!(done.ended.unwrap().since(done.started.unwrap()).as_secs(), 86_401);
        let canceled = scan("scrub canceled on Sun Nov 22 17:08:30 2026").scan.unwrap();
        assert_eq!((canceled.state, canceled.progress), (ScanState::Canceled, None));
        let rebuilt = scan(
            "resilver (mirror-0) in progress since Sun Nov 22 17:06:29 2026 0B / 1G scanned, 0B \
             / 1G \
             issued 0B resilvered, 1.50% done, no estimated completion time",
        );
        assert_eq!(rebuilt.rebuilds[0].vdev, "mirror-0");
        assert_eq!(rebuilt.rebuilds[0].state, ScanState::Scanning);
        assert!(scan("none requested").unparsed.is_empty());
        assert!(scan("-nan").scan.is_none());
        assert_eq!(scan("defragmented 1G in no time").unparsed.len(), 1);
    }

    #[test]
    fn says_how_much_in_every_version() {
        let head = "scrub in progress since Sun Nov 22 17:06:29 2026 ";
        let work = |text: &str| scan(&format!("{head}{text}")).scan.unwrap().work;
        let gib = |done: u64, all: u64| Some(Work { done: done << 30, all: all << 30 });
        // 2.3, 2.2: a pair each; 2.1: the total by itself.
        let new = "3G / 4G scanned at 1M/s, 1G / 4G issued at 1M/s 0B repaired, 25.00% done, \
                   00:01:00 to go";
        assert_eq!(work(new), gib(1, 4));
        let old = "3.00G scanned at 1M/s, 1.00G issued at 1M/s, 4.00G total 0B repaired, 25.00% \
                   done, 0 days 00:01:00 to go";
        assert_eq!(work(old), gib(1, 4));
        assert_eq!(work("3G / 4G scanned, 1G / 4G issued 0B repaired, 25.00% done"), gib(1, 4));
        assert_eq!(work("0B repaired, 25.00% done"), None);
        let ended = scan("scrub repaired 0B in 00:00:01 with 0 errors on Sun Nov 22 17:08:30 2026");
        assert_eq!(ended.scan.unwrap().work, None);
    }

    #[test]
    fn nothing_to_do_yet_is_no_progress() {
        let text = "resilver in progress since Sun Nov 22 17:06:29 2026 0B resilvered, -nan% done";
        assert_eq!(scan(text).scan.unwrap().progress, Some(0.0));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(scrub|resilver|resilvered) [ -~]{0,80}") {
            scan(&text);
        }
    }
}

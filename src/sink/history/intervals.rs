//! How long what was in which state, by month.

use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::tz::TimeZone;

/// When something was in a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// Which.
    pub state: String,
    /// From, in seconds.
    pub since: i64,
    /// To, in seconds; the end of what was asked for when it still is.
    pub until: i64,
    /// Whether it still is.
    pub open: bool,
}

impl Interval {
    /// How long.
    pub fn seconds(&self) -> i64 {
        (self.until - self.since).max(0)
    }
}

/// A month.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Month {
    /// `2026-11`.
    pub month: String,
    /// Seconds in each state.
    pub states: BTreeMap<String, i64>,
}

impl Month {
    /// Seconds in which it was known how it is: in neither of `unknown` and
    /// `expired`, and hostd listened.
    pub fn known(&self) -> i64 {
        let unknown = |state: &str| matches!(state, "unknown" | "expired");
        self.states.iter().filter(|(state, _)| !unknown(state)).map(|(_, seconds)| seconds).sum()
    }

    /// Of those, the part in which it was `ok` or `warning`: it worked.
    pub fn availability(&self) -> Option<f64> {
        let of = |state: &str| self.states.get(state).copied().unwrap_or(0);
        let known = self.known();
        (known > 0).then(|| (of("ok") + of("warning")) as f64 / known as f64)
    }
}

/// The intervals by months of the zone.
pub fn months(intervals: &[Interval], zone: &TimeZone) -> Vec<Month> {
    let mut all: BTreeMap<String, Month> = BTreeMap::new();
    for interval in intervals {
        let mut from = interval.since;
        // Not endless, whatever is in the database.
        for _ in 0..1200 {
            if from >= interval.until {
                break;
            }
            let Some((month, next)) = month(from, zone) else { break };
            let until = next.min(interval.until).max(from + 1);
            let entry =
                all.entry(month.clone()).or_insert_with(|| Month { month, ..Month::default() });
            *entry.states.entry(interval.state.clone()).or_default() += until - from;
            from = until;
        }
    }
    all.into_values().collect()
}

/// The month that a moment is in, and when the next begins.
fn month(at: i64, zone: &TimeZone) -> Option<(String, i64)> {
    let local = jiff::Timestamp::from_second(at).ok()?.to_zoned(zone.clone());
    let first = local.first_of_month().ok()?.start_of_day().ok()?;
    let next = first.checked_add(1.month()).ok()?.start_of_day().ok()?;
    Some((first.strftime("%Y-%m").to_string(), next.timestamp().as_second()))
}

/// `for 3 h 12 min on Tuesday, 17 November 2026`.
pub fn words(interval: &Interval, zone: &TimeZone) -> String {
    let at = |seconds: i64| {
        jiff::Timestamp::from_second(seconds).ok().map(|at| at.to_zoned(zone.clone()))
    };
    let long = span(interval.seconds());
    let (Some(since), Some(until)) = (at(interval.since), at(interval.until)) else { return long };
    let day = "%A, %-d %B %Y";
    match (interval.open, since.date() == until.date()) {
        (true, _) => format!("for {long}, since {}", since.strftime("%A, %-d %B %Y %H:%M")),
        (false, true) => format!("for {long} on {}", since.strftime(day)),
        (false, false) => {
            format!("for {long}, {} to {}", since.strftime(day), until.strftime(day))
        }
    }
}

/// `3 h 12 min`.
fn span(seconds: i64) -> String {
    let (d, h, m, s) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) => format!("{m} min"),
        (0, _, _) => format!("{h} h {m} min"),
        _ => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn interval(state: &str, since: &str, until: &str) -> Interval {
        let at = |text: &str| {
            let civil: jiff::civil::DateTime = text.parse().unwrap();
            civil.to_zoned(berlin()).unwrap().timestamp().as_second()
        };
        Interval { state: state.into(), since: at(since), until: at(until), open: false }
    }

    #[test]
    fn an_interval_in_words() {
        let one = interval("warning", "2026-11-17T14:03", "2026-11-17T17:15");
        assert_eq!(words(&one, &berlin()), "for 3 h 12 min on Tuesday, 17 November 2026");
        let two = interval("warning", "2026-11-17T23:00", "2026-11-18T01:00");
        let long = "for 2 h 0 min, Tuesday, 17 November 2026 to Wednesday, 18 November 2026";
        assert_eq!(words(&two, &berlin()), long);
        let open = Interval { open: true, ..one };
        assert_eq!(
            words(&open, &berlin()),
            "for 3 h 12 min, since Tuesday, 17 November 2026 14:03"
        );
    }

    #[test]
    fn months_are_those_of_the_zone() {
        let all = [
            interval("ok", "2026-10-01T00:00", "2026-10-31T12:00"),
            interval("critical", "2026-10-31T12:00", "2026-11-01T12:00"),
            interval("unknown", "2026-11-01T12:00", "2026-11-02T00:00"),
            interval("ok", "2026-11-02T00:00", "2026-11-02T12:00"),
        ];
        let months = months(&all, &berlin());
        let names: Vec<_> = months.iter().map(|month| month.month.as_str()).collect();
        assert_eq!(names, ["2026-10", "2026-11"]);
        // October has an hour more: the clocks go back.
        assert_eq!(months[0].known(), 31 * 86_400 + 3_600);
        let down = 1.0 - months[0].availability().unwrap();
        assert!((down - 43_200.0 / f64::from(31 * 86_400 + 3_600)).abs() < 1e-12);
        // What is unknown is neither.
        assert_eq!(months[1].known(), 86_400);
        assert_eq!(months[1].availability(), Some(0.5));
    }
}

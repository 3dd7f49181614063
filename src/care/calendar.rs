//! Dates in local time. A day on which the clock is changed has its dates too:
//! what falls into the hour that is left out comes an hour later, and of two
//! that bear the same time the first counts.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{ToSpan, Zoned};

use super::memory::Kind;
use crate::base::Timestamp;
use crate::config::{Days, ScrubPolicy};

/// No rule has a longer gap than this.
const DAYS: usize = 370;

/// A Sunday, long ago: days are counted from here, so that nothing has to be
/// remembered for them.
const FIRST_SUNDAY: Date = Date::constant(1970, 1, 4);

/// Whether the day is one of these.
fn falls(days: Days, date: Date) -> bool {
    match days {
        Days::Week(day) => date.weekday() == day,
        Days::First(day) => date.weekday() == day && date.day() <= 7,
        Days::Month(day) => date.day() == day,
        Days::Nth(every, day) => {
            let first = i32::from(day.to_sunday_zero_offset());
            let days = (date - FIRST_SUNDAY).get_days() - first;
            days.rem_euclid(i32::from(every.max(1))) == 0
        }
    }
}

/// The last date up to `now`.
pub fn last(policy: &ScrubPolicy, now: &Zoned) -> Option<Timestamp> {
    let mut date = Some(now.date());
    for _ in 0..DAYS {
        let day = date?;
        if falls(policy.every, day)
            && let Some(at) = moment(day, policy.at, now.time_zone())
            && at <= now.timestamp()
        {
            return Some(Timestamp::from_secs(at.as_second()));
        }
        date = day.yesterday().ok();
    }
    None
}

/// The first date after `now`.
pub fn next(policy: &ScrubPolicy, now: &Zoned) -> Option<Timestamp> {
    let mut date = Some(now.date());
    for _ in 0..DAYS {
        let day = date?;
        if falls(policy.every, day)
            && let Some(at) = moment(day, policy.at, now.time_zone())
            && at > now.timestamp()
        {
            return Some(Timestamp::from_secs(at.as_second()));
        }
        date = day.tomorrow().ok();
    }
    None
}

fn moment(day: Date, at: Time, zone: &TimeZone) -> Option<jiff::Timestamp> {
    zone.to_timestamp(day.to_datetime(at)).ok()
}

/// Whether a scrub may run at this time of day.
pub fn is_open(policy: &ScrubPolicy, now: &Zoned) -> bool {
    let (from, time) = (policy.at, now.time());
    match policy.until {
        None => true,
        Some(until) if from < until => (from..until).contains(&time),
        // Over midnight.
        Some(until) => time >= from || time < until,
    }
}

/// When the hour, day, week or month began, and when the next one does.
pub fn period(kind: Kind, now: &Zoned) -> Option<(Timestamp, Timestamp)> {
    let date = now.date();
    let midnight = |date: Date| {
        let at = moment(date, Time::midnight(), now.time_zone())?;
        Some(Timestamp::from_secs(at.as_second()))
    };
    let (from, to) = match kind {
        Kind::Hourly => {
            let now = now.timestamp().as_second();
            let hour = now - now.rem_euclid(3600);
            return Some((Timestamp::from_secs(hour), Timestamp::from_secs(hour + 3600)));
        }
        Kind::Daily => (date, date.tomorrow().ok()?),
        Kind::Weekly => {
            let since = i64::from(date.weekday().to_monday_zero_offset());
            let monday = date.checked_sub(since.days()).ok()?;
            (monday, monday.checked_add(7.days()).ok()?)
        }
        Kind::Monthly => {
            let first = date.first_of_month();
            (first, first.checked_add(1.month()).ok()?)
        }
    };
    Some((midnight(from)?, midnight(to)?))
}

/// As people say it.
pub fn words(policy: &ScrubPolicy) -> String {
    let clock = |time: Time| format!("{:02}:{:02}", time.hour(), time.minute());
    let days = match policy.every {
        Days::Week(day) => format!("every {}", name(day)),
        Days::First(day) => format!("every month on the first {}", name(day)),
        Days::Month(day) => format!("every month on day {day}"),
        Days::Nth(1, _) => "every day".to_owned(),
        Days::Nth(days, day) if days.is_multiple_of(7) => {
            format!("every {} weeks on {}", days / 7, name(day))
        }
        Days::Nth(days, _) => format!("every {days} days"),
    };
    let until = policy.until.map(|until| format!(" until {}", clock(until))).unwrap_or_default();
    let not = match (policy.not_while_vm, policy.not_while_plex) {
        (true, true) => ", not while a VM with a card runs or Plex has sessions",
        (true, false) => ", not while a VM with a card runs",
        (false, true) => ", not while Plex has sessions",
        (false, false) => "",
    };
    format!("{days} at {}{until}{not}", clock(policy.at))
}

fn name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

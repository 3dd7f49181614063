//! Formats of `care:`: `02:00`, `month`, `14d`, `tank/home`.

use jiff::civil::Time;

use super::formats::Format;

/// `02:00`.
pub struct TimeOfDay;
impl Format for TimeOfDay {
    type Value = Time;
    const NAME: &'static str = "time-of-day";
    const WANTED: &'static str = "a time of day";
    const LIKE: &'static str = "write hours and minutes of local time, such as 02:00 or 23:30";
    const EXAMPLE: &'static str = "02:00";
    const PATTERN: &'static str = "^([01][0-9]|2[0-3]):[0-5][0-9]$";

    fn read(text: &str) -> Option<Time> {
        let (hour, minute) = text.split_once(':')?;
        let number = |text: &str| {
            let good = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<i8>().ok().filter(|_| good)
        };
        Time::new(number(hour)?, number(minute)?, 0, 0).ok()
    }

    fn repair(text: &str) -> Option<String> {
        let text = text.trim().to_lowercase();
        let (text, later) = match (text.strip_suffix("am"), text.strip_suffix("pm")) {
            (Some(text), _) => (text.trim(), 0),
            (_, Some(text)) => (text.trim(), 12),
            _ => (text.as_str(), 0),
        };
        let (hour, minute) = text.split_once([':', '.', 'h']).unwrap_or((text, "0"));
        let (hour, minute): (u8, u8) = (hour.parse().ok()?, minute.parse().unwrap_or(0));
        Some(format!("{:02}:{minute:02}", hour.checked_add(later)?))
    }
}

/// `week`, `month`, `14d`.
pub struct Every;

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Often {
    /// Once a week.
    Week,
    /// Once a month.
    Month,
    /// Every so many days.
    Days(u16),
}

impl Format for Every {
    type Value = Often;
    const NAME: &'static str = "every";
    const WANTED: &'static str = "`week`, `month` or a number of days";
    const LIKE: &'static str = "write week, month, or days such as 14d, at most 366d";
    const EXAMPLE: &'static str = "month";
    const PATTERN: &'static str = "^(week|month|[1-9][0-9]{0,2}d)$";

    fn read(text: &str) -> Option<Often> {
        match text {
            "week" => Some(Often::Week),
            "month" => Some(Often::Month),
            _ => {
                let days = text.strip_suffix('d')?;
                let good = days.bytes().all(|b| b.is_ascii_digit()) && !days.starts_with('0');
                let days: u16 = days.parse().ok().filter(|_| good)?;
                (1..=366).contains(&days).then_some(Often::Days(days))
            }
        }
    }

    fn repair(text: &str) -> Option<String> {
        let text = text.trim().to_lowercase();
        let days = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        match text.as_str() {
            "weekly" | "weeks" | "1w" => Some("week".to_owned()),
            "monthly" | "months" => Some("month".to_owned()),
            "daily" | "day" => Some("1d".to_owned()),
            _ => Some(format!("{days}d")),
        }
    }
}

/// `tank/home`, as `zfs list` shows it.
pub struct DatasetName;
impl Format for DatasetName {
    type Value = String;
    const NAME: &'static str = "dataset";
    const WANTED: &'static str = "a dataset's name";
    const LIKE: &'static str = "a dataset's name is what `zfs list` shows: the pool, then names \
        after `/`, without a `/` at the beginning";
    const EXAMPLE: &'static str = "tank/home";
    const PATTERN: &'static str = "^[A-Za-z][A-Za-z0-9_.: -]*(/[A-Za-z0-9_.:][A-Za-z0-9_.: -]*)*$";

    fn read(text: &str) -> Option<String> {
        // See zfs(8); a part that begins with `-` would only be trouble.
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"_.: -".contains(&b);
        let part = |part: &str| {
            let first = part.as_bytes().first();
            first.is_some_and(|b| inner(*b) && !b" -".contains(b)) && part.bytes().all(inner)
        };
        let good = text.len() < 200
            && text.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
            && text.split('/').all(part)
            && text.split('/').all(|part| part != "." && part != "..");
        good.then(|| text.to_owned())
    }

    fn repair(text: &str) -> Option<String> {
        Some(text.trim().trim_matches('/').to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_datasets_are_read_strictly_and_repaired_kindly() {
        assert_eq!(TimeOfDay::read("23:30"), Time::new(23, 30, 0, 0).ok());
        for bad in ["2:00", "24:00", "02:60", "02:00:00", "+1:00", "0200", ""] {
            assert_eq!(TimeOfDay::read(bad), None, "{bad}");
        }
        assert_eq!(TimeOfDay::repair("2am").as_deref(), Some("02:00"));
        assert_eq!(TimeOfDay::repair("11.30pm").as_deref(), Some("23:30"));
        assert_eq!(Every::read("14d"), Some(Often::Days(14)));
        assert_eq!(
            (Every::read("0d"), Every::read("400d"), Every::read("+7d")),
            (None, None, None)
        );
        assert_eq!(Every::repair("weekly").as_deref(), Some("week"));
        assert_eq!(Every::repair("14 days").as_deref(), Some("14d"));
        for bad in ["", "/tank", "tank/", "tank/-r", "-r", "tank@x", "tank//x", "tank/..", "1x"] {
            assert_eq!(DatasetName::read(bad), None, "{bad}");
        }
        assert_eq!(DatasetName::read("tank/My Files").as_deref(), Some("tank/My Files"));
        assert_eq!(DatasetName::repair("/tank/home/").as_deref(), Some("tank/home"));
    }
}

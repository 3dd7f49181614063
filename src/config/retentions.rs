//! Retentions as Graphite writes them: `10s:1h, 1m:7d`.
//!
//! Each is `precision:points`, a number with an optional unit (s, m, h, d, w,
//! y) on either side: without one the first is seconds and the second a count
//! of points. The rules are whisper's: each precision divides the next, and
//! each archive reaches further back than the one before.

use super::desk::exact;
use super::formats::Format;
use super::types::Archive;
use std::time::Duration;

/// Most archives of a ladder.
const MOST: usize = 8;
/// Most points of an archive.
const POINTS: u64 = 1 << 22;
/// The longest precision, in seconds.
const STEP: u64 = 86_400 * 7;

/// `10s:1h, 1m:7d`, or `off`.
pub struct Retentions;
impl Format for Retentions {
    type Value = Option<Vec<Archive>>;
    const NAME: &'static str = "retentions";
    const WANTED: &'static str = "a list of `precision:how long`, or `off`";
    const LIKE: &'static str = "write it as Graphite does, the finest first, with s, m, h, d, w or y, such as 10s:1h, \
         1m:7d; or off";
    const EXAMPLE: &'static str = "10s:1h, 1m:7d, 15m:30d, 1h:2y";
    const PATTERN: &'static str =
        "^(off|[0-9]+[smhdwy]?:[0-9]+[smhdwy]?( *, *[0-9]+[smhdwy]?:[0-9]+[smhdwy]?)*)$";

    fn read(text: &str) -> Option<Self::Value> {
        if text == "off" {
            return Some(None);
        }
        if text.starts_with(' ') || text.ends_with(' ') {
            return None;
        }
        let archives: Option<Vec<_>> =
            text.split(',').map(|one| archive(one.trim_matches(' '))).collect();
        archives.filter(|all| all.len() <= MOST).map(Some)
    }

    fn repair(text: &str) -> Option<String> {
        match text.to_lowercase().as_str() {
            "false" | "no" | "none" | "off" | "never" => Some("off".to_owned()),
            text => Some(
                text.split([' ', ',', ';'])
                    .filter(|t| !t.is_empty())
                    .collect::<Vec<_>>()
                    .join(", "),
            ),
        }
    }
}

/// A number, and its seconds when it has a unit.
fn number(text: &str) -> Option<(u64, bool)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "" => return Some((number, false)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "y" => 365 * 86_400,
        _ => return None,
    };
    Some((number.checked_mul(seconds)?, true))
}

fn archive(text: &str) -> Option<Archive> {
    let (step, points) = text.split_once(':')?;
    let (step, _) = number(step)?;
    if !(1..=STEP).contains(&step) {
        return None;
    }
    let points = match number(points)? {
        (seconds, true) => seconds / step,
        (points, false) => points,
    };
    let good = (1..=POINTS).contains(&points);
    good.then_some(Archive { step: u32::try_from(step).ok()?, points: u32::try_from(points).ok()? })
}

/// What is wrong with a ladder, and what to do.
pub fn wrong(ladder: &[Archive]) -> Option<(String, String)> {
    let span = |seconds: u64| exact(Duration::from_secs(seconds));
    for pair in ladder.windows(2) {
        let [fine, coarse] = pair else { continue };
        let (a, b) = (span(fine.step.into()), span(coarse.step.into()));
        if coarse.step <= fine.step {
            let message = format!("the archive of {b} comes after that of {a}, and is not coarser");
            return Some((message, "write the finest first, each precision once".to_owned()));
        }
        if !coarse.step.is_multiple_of(fine.step) {
            let message = format!("{b} is not a multiple of {a}: points could not be rolled up");
            return Some((message, "let each precision divide the next".to_owned()));
        }
        if coarse.seconds() <= fine.seconds() {
            let (a, b) = (span(fine.seconds()), span(coarse.seconds()));
            let message = format!("the coarser archive keeps {b}, the finer one before it {a}");
            return Some((
                message,
                "let each archive reach further back than the one before".to_owned(),
            ));
        }
        if u64::from(coarse.step) > fine.seconds() {
            let message = format!(
                "the archive before keeps {}, less than the one point of {b} that is made of it",
                span(fine.seconds())
            );
            return Some((
                message,
                "let each archive hold at least one point of the next".to_owned(),
            ));
        }
    }
    None
}

/// As it is written.
pub fn show(ladder: &[Archive]) -> String {
    let span = |seconds: u64| match seconds {
        s if s % (365 * 86_400) == 0 => format!("{}y", s / (365 * 86_400)),
        s if s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    };
    let one = |a: &Archive| format!("{}:{}", span(a.step.into()), span(a.seconds()));
    if ladder.is_empty() {
        "off".to_owned()
    } else {
        ladder.iter().map(one).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::History;

    fn read(text: &str) -> Vec<(u32, u32)> {
        let all = Retentions::read(text).flatten().unwrap_or_default();
        all.iter().map(|a| (a.step, a.points)).collect()
    }

    #[test]
    fn reads_what_graphite_reads() {
        assert_eq!(read("60:1440"), [(60, 1440)]);
        assert_eq!(read("15m:8"), [(900, 8)]);
        assert_eq!(read("1h:7d,12h:2y"), [(3600, 168), (43_200, 1460)]);
        let usual = [(10, 360), (60, 10_080), (900, 2_880), (3_600, 17_520)];
        assert_eq!(read(Retentions::EXAMPLE), usual);
        assert_eq!(show(&History::default().ladder), Retentions::EXAMPLE);
        for text in
            ["", "10s", "0:5", "10s:0", "10s:1h:", "1M:1h", "-1:5", "10s:5s", "1s:9999999999y"]
        {
            assert!(Retentions::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn ladders_that_cannot_be_climbed_are_told() {
        let why =
            |text: &str| wrong(&Retentions::read(text).flatten().unwrap()).map(|(why, _)| why);
        assert_eq!(why(Retentions::EXAMPLE), None);
        assert!(why("60s:1h, 10s:1d").unwrap().contains("not coarser"));
        assert!(why("10s:1h, 15s:1d").unwrap().contains("multiple"));
        assert!(why("10s:1d, 60s:1h").unwrap().contains("keeps 1h"));
        assert!(why("10s:3, 60s:1h").unwrap().contains("less than the one point"));
    }
}

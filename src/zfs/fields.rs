//! Single values of `zpool`'s output: numbers, moments, texts.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::base::Timestamp;

const MAX_TEXT: usize = 1024;

/// A text from outside, bounded and without control characters.
pub fn clean(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(MAX_TEXT).map(plain).collect()
}

/// The same for texts of several lines: folded into one.
pub fn fold(text: &str) -> String {
    clean(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// A value that is neither a number nor `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotANumber;

/// An integer, also when it was printed as a string; `-` is none.
pub fn integer(value: &Value) -> Result<Option<u64>, NotANumber> {
    match value {
        Value::Number(number) => number.as_u64().map(Some).ok_or(NotANumber),
        Value::String(text) if text == "-" => Ok(None),
        Value::String(text) => count(text).map(Some).ok_or(NotANumber),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(NotANumber),
    }
}

/// An integer, or the rounded form for people (`1.21K`, `353M`; units are
/// powers of 1024), which is what a capture without `-p` has.
pub fn count(text: &str) -> Option<u64> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok();
    }
    let number = text.trim_end_matches(|c: char| c.is_ascii_uppercase());
    let shift = match &text[number.len()..] {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        "E" => 60,
        _ => return None,
    };
    let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    let value = number * (1u64 << shift) as f64;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative; too large saturates, which is what a count should do"
    )]
    Some(value as u64)
}

/// A moment: seconds since 1970, or the C library's date in the zone of the
/// machine that printed it. 0 is none.
pub fn moment(value: &Value, zone: &TimeZone) -> Option<Timestamp> {
    if let Ok(seconds) = integer(value) {
        return seconds.filter(|s| *s > 0).map(epoch);
    }
    value.as_str().and_then(|text| date(text, zone))
}

fn epoch(seconds: u64) -> Timestamp {
    Timestamp::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// `Sun Nov 22 17:06:29 2026`.
pub fn date(text: &str, zone: &TimeZone) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split_whitespace().take(6).collect();
    let [_, month, day, time, year] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|known| known == month)? + 1;
    let clock: Vec<i8> = time.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [hour, minute, second] = clock.as_slice() else { return None };
    let local = DateTime::new(
        year.parse().ok()?,
        i8::try_from(month).ok()?,
        day.parse().ok()?,
        *hour,
        *minute,
        *second,
        0,
    )
    .ok()?;
    zone.to_timestamp(local).ok().map(|moment| Timestamp::from_secs(moment.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn numbers_come_as_numbers_strings_and_dashes() {
        assert_eq!(
            integer(&json!(10_044_224_727_666_098_230_u64)),
            Ok(Some(10_044_224_727_666_098_230))
        );
        assert_eq!(integer(&json!("18405946079880305710")), Ok(Some(18_405_946_079_880_305_710)));
        assert_eq!(integer(&json!("-")), Ok(None));
        assert_eq!(integer(&json!("1.5K")), Ok(Some(1536)));
        for bad in
            [json!(-1), json!(1.5), json!(true), json!("x"), json!(""), json!([]), json!("1.2.3K")]
        {
            assert_eq!(integer(&bad), Err(NotANumber), "{bad}");
        }
    }

    #[test]
    fn dates_are_read_in_their_zone() {
        let at = Some(Timestamp::from_secs(1_795_367_189));
        assert_eq!(date("Sun Nov 22 17:06:29 2026", &TimeZone::UTC), at);
        let berlin = TimeZone::fixed(jiff::tz::offset(1));
        assert_eq!(date("Sun Nov 22 18:06:29 2026\n", &berlin), at);
        assert_eq!(moment(&json!(1_795_367_189), &berlin), at);
        assert_eq!(moment(&json!(0), &berlin), None);
        for bad in ["", "Sun Nov 31 17:06:29 2026", "Sun Nov 22 17:06 2026", "Sun Foo 2 1:1:1 2026"]
        {
            assert_eq!(date(bad, &TimeZone::UTC), None, "{bad}");
        }
    }

    #[test]
    fn texts_lose_control_characters() {
        assert_eq!(clean("a\u{1b}[31mb"), "a\u{fffd}[31mb");
        assert_eq!(fold("one\n\ttwo  three\n"), "one two three");
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,60}") {
            let _ = (count(&text), date(&text, &TimeZone::UTC), clean(&text), fold(&text));
        }

        #[test]
        fn integers_round_trip(number: u64) {
            prop_assert_eq!(count(&number.to_string()), Some(number));
        }
    }
}

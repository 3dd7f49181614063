//! Points in time, as Riemann's `time_micros` counts them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01 UTC.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment of whole `seconds` since 1970; saturates.
    pub fn from_secs(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Whole seconds since 1970, rounded down.
    pub fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Seconds since 1970 with their fraction.
    pub fn secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The moment so many seconds after 1970 began, to the nearest microsecond;
    /// what is too far away becomes the last there is, what is no number 1970.
    pub fn from_secs_f64(seconds: f64) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "saturates")]
        Self((seconds * 1e6).round() as i64)
    }

    /// How long `earlier` lies back; zero if it does not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This moment moved forward; saturates.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX)))
    }

    /// `2026-11-22T18:48:20.000Z`, as Riemann's JSON writes times; moments
    /// beyond the calendar's range are clamped to its ends.
    pub fn iso(self) -> String {
        let moment = jiff::Timestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            jiff::Timestamp::MIN
        } else {
            jiff::Timestamp::MAX
        });
        moment.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let micros = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        Self(match time.duration_since(UNIX_EPOCH) {
            Ok(after) => micros(after),
            Err(before) => -micros(before.duration()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_iso_dates() {
        assert_eq!(Timestamp::from_secs(10).iso(), "1970-01-01T00:00:10.000Z");
        assert_eq!(Timestamp::from_secs(1_795_373_300).iso(), "2026-11-22T18:48:20.000Z");
        assert_eq!(Timestamp::from_secs(951_782_400).iso(), "2000-02-29T00:00:00.000Z");
        assert_eq!(Timestamp(-1).iso(), "1969-12-31T23:59:59.999Z");
        assert!(Timestamp(i64::MAX).iso().starts_with("9999-12-30T"));
    }
}

//! When a pool will be full. Pure.
//!
//! From one sample a day: the median of the slopes between all pairs of them
//! (Theil and Sen), which a day with a large copy or a large deletion does not
//! move. Nothing is said from less than three days, of a pool that does not
//! grow, or of a day more than two years ahead.

use std::time::Duration;

use super::kept::Sample;
use crate::base::Timestamp;

const DAY: f64 = 86_400.0;
/// From less than this nothing is foretold.
const LEAST: Duration = Duration::from_secs(3 * 86_400);
/// Nor anything that is further away.
const FURTHEST: f64 = 2.0 * 365.0 * DAY;

/// How a pool fills.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// When it will be full.
    pub full: Timestamp,
    /// Bytes a day.
    pub daily: f64,
    /// From how many days this is known.
    pub days: u64,
}

/// The forecast for a pool of `size` bytes with `used` of them in use.
pub fn forecast(samples: &[Sample], size: u64, used: u64, now: Timestamp) -> Option<Forecast> {
    let (first, last) = (samples.first()?, samples.last()?);
    let covered = last.at.since(first.at);
    if samples.len() < 3 || covered < LEAST {
        return None;
    }
    let mut slopes = Vec::new();
    for (at, a) in samples.iter().enumerate() {
        for b in samples.iter().skip(at + 1) {
            let seconds = b.at.since(a.at).as_secs_f64();
            if seconds > 0.0 {
                slopes.push((b.used as f64 - a.used as f64) / seconds);
            }
        }
    }
    slopes.sort_by(f64::total_cmp);
    let slope = *slopes.get(slopes.len() / 2)?;
    if slope <= 0.0 {
        return None;
    }
    let seconds = size.saturating_sub(used) as f64 / slope;
    (seconds < FURTHEST).then(|| Forecast {
        full: now.plus(Duration::from_secs_f64(seconds)),
        daily: slope * DAY,
        days: covered.as_secs() / 86_400,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn days(used: &[u64]) -> Vec<Sample> {
        let at = |day: usize| Timestamp::from_secs(86_400 * i64::try_from(day).unwrap());
        used.iter().enumerate().map(|(day, used)| Sample { at: at(day), used: *used }).collect()
    }

    #[test]
    fn a_steady_pool_is_foretold() {
        let samples = days(&[100 * GIB, 110 * GIB, 120 * GIB, 130 * GIB]);
        let now = samples[3].at;
        let told = forecast(&samples, 430 * GIB, 130 * GIB, now).unwrap();
        assert_eq!((told.full.since(now).as_secs() + 43_200) / 86_400, 30);
        assert_eq!((told.daily.round(), told.days), (10.0 * GIB as f64, 3));
        assert_eq!(forecast(&samples[..3], 430 * GIB, 120 * GIB, now), None, "two days");
        assert_eq!(forecast(&[], 1, 0, now), None);
    }

    #[test]
    fn one_large_copy_or_deletion_does_not_move_it() {
        let mut used: Vec<u64> = (0..30).map(|day| (100 + day) * GIB).collect();
        used[10..].iter_mut().for_each(|used| *used += 500 * GIB);
        used[20..].iter_mut().for_each(|used| *used -= 450 * GIB);
        let samples = days(&used);
        let told = forecast(&samples, 500 * GIB, used[29], samples[29].at).unwrap();
        let daily = told.daily / GIB as f64;
        assert!((0.9..8.0).contains(&daily), "{daily}");
    }

    #[test]
    fn no_wild_dates() {
        let flat = days(&[5 * GIB; 10]);
        assert_eq!(forecast(&flat, 10 * GIB, 5 * GIB, flat[9].at), None);
        let shrinking = days(&[9 * GIB, 8 * GIB, 7 * GIB, 6 * GIB]);
        assert_eq!(forecast(&shrinking, 10 * GIB, 6 * GIB, shrinking[3].at), None);
        let slow = days(&[GIB, GIB + 1, GIB + 2, GIB + 3]);
        assert_eq!(forecast(&slow, 10 * GIB, GIB, slow[3].at), None, "in centuries");
    }

    proptest! {
        #[test]
        fn never_panics_and_stays_within_two_years(
            samples in prop::collection::vec((any::<i64>(), any::<u64>()), 0..20),
            size: u64, used: u64, now in 0i64..1 << 50,
        ) {
            let mut samples: Vec<Sample> =
                samples.into_iter().map(|(at, used)| Sample { at: Timestamp(at), used }).collect();
            samples.sort_by_key(|sample| sample.at);
            if let Some(told) = forecast(&samples, size, used, Timestamp(now)) {
                prop_assert!(told.full.since(Timestamp(now)).as_secs_f64() <= FURTHEST);
                prop_assert!(told.full >= Timestamp(now));
            }
        }
    }
}

//! How fast a scan goes, measured over the last minutes. Pure: times are
//! handed in.
//!
//! ZFS's own figure is an average since the start, and wrong for as long as it
//! is still finding out what there is to do. What is left is what is to be
//! issued less what has been, at the rate of the window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::model::Work;
use crate::base::{Timestamp, span};

/// How far back the measure goes.
const WINDOW: Duration = Duration::from_secs(300);
/// Less than this says nothing yet.
const LEAST: Duration = Duration::from_secs(5);
/// Readings closer than this count as one, so that the window stays small.
const APART: Duration = Duration::from_secs(2);
/// What would take longer is not going on at all.
const LONGEST: f64 = 10.0 * 365.0 * 86_400.0;

/// The measure of one scan.
#[derive(Debug, Default)]
pub struct Pace {
    started: Option<Timestamp>,
    points: VecDeque<(Instant, u64)>,
    all: u64,
}

impl Pace {
    /// Takes in one reading of a scan that began at `started`.
    pub fn observe(&mut self, started: Option<Timestamp>, work: Work, now: Instant) {
        let back = self.points.back().is_some_and(|(_, done)| work.done < *done);
        if back || started != self.started {
            self.points.clear();
        }
        self.started = started;
        self.all = work.all;
        let before = self.points.len().checked_sub(2).and_then(|at| self.points.get(at));
        if before.is_some_and(|(at, _)| now.saturating_duration_since(*at) < APART) {
            self.points.pop_back();
        }
        self.points.push_back((now, work.done));
        let old = |at: Instant| now.saturating_duration_since(at) > WINDOW;
        // The second stays: two are needed to measure anything.
        while self.points.len() > 2 && self.points.front().is_some_and(|(at, _)| old(*at)) {
            self.points.pop_front();
        }
    }

    /// Bytes a second; `None` before there are two readings far enough apart.
    pub fn rate(&self) -> Option<f64> {
        let ((from, first), (to, last)) = (self.points.front()?, self.points.back()?);
        let took = to.saturating_duration_since(*from);
        (took >= LEAST).then(|| last.saturating_sub(*first) as f64 / took.as_secs_f64())
    }

    /// How long it still takes at that rate; `None` while nothing moves.
    pub fn left(&self) -> Option<Duration> {
        let rate = self.rate().filter(|rate| *rate > 0.0)?;
        let (_, done) = self.points.back()?;
        let seconds = self.all.saturating_sub(*done) as f64 / rate;
        (seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds))
    }

    /// `, about 2h 4m left`; nothing when that is not known.
    pub fn words(&self) -> String {
        self.left().map_or(String::new(), |left| format!(", about {} left", span::show(left)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn work(done: u64) -> Work {
        Work { done, all: 10_000 }
    }

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn measures_over_the_window_and_not_before() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.observe(None, work(0), start);
        assert_eq!((pace.rate(), pace.left()), (None, None));
        pace.observe(None, work(40), at(start, 4));
        assert_eq!(pace.rate(), None, "too soon");
        pace.observe(None, work(50), at(start, 5));
        assert_eq!((pace.rate(), pace.left()), (Some(10.0), Some(Duration::from_secs(995))));
        assert_eq!(pace.words(), ", about 16m 35s left");
        // Ten times slower for ten minutes: the fast start is forgotten.
        for step in 1..=120 {
            pace.observe(None, work(50 + step * 5), at(start, 5 + step * 5));
        }
        assert_eq!(pace.rate(), Some(1.0));
        assert_eq!(pace.left(), Some(Duration::from_secs(10_000 - 650)));
    }

    #[test]
    fn standing_still_has_no_end() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.observe(None, work(7), start);
        pace.observe(None, work(7), at(start, 60));
        assert_eq!((pace.rate(), pace.left(), pace.words().as_str()), (Some(0.0), None, ""));
    }

    #[test]
    fn another_scan_begins_afresh() {
        let start = Instant::now();
        let mut pace = Pace::default();
        let first = Some(Timestamp::from_secs(1));
        pace.observe(first, work(100), start);
        pace.observe(first, work(200), at(start, 10));
        assert!(pace.rate().is_some());
        pace.observe(Some(Timestamp::from_secs(2)), work(300), at(start, 20));
        assert_eq!(pace.rate(), None);
        pace.observe(Some(Timestamp::from_secs(2)), work(10), at(start, 30));
        assert_eq!(pace.rate(), None, "it was restarted");
    }

    proptest! {
        #[test]
        fn bounded_and_never_panics(steps in prop::collection::vec((0u64..4, any::<u64>()), 0..400)) {
            let (mut pace, mut now) = (Pace::default(), Instant::now());
            for (later, done) in steps {
                now += Duration::from_secs(later);
                pace.observe(None, Work { done, all: done / 2 }, now);
                let _ = (pace.rate(), pace.left(), pace.words());
                prop_assert!(pace.points.len() < 200);
            }
        }
    }
}

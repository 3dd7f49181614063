//! When a step has something to do.

use std::time::Duration;

use crate::base::{Event, Timestamp};
use crate::riemann::index::DEFAULT_TTL;

/// Nothing is due.
pub const NEVER: Timestamp = Timestamp(i64::MAX);

/// Due at the first moment that comes.
pub const AT_ONCE: Timestamp = Timestamp(i64::MIN);

/// Ends of windows that are made up for after a long time without a tick; those
/// before them are left out.
const MISSED: i64 = 60;

/// Microseconds of a duration; at least one.
pub fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX).max(1)
}

/// A moment that comes again and again.
#[derive(Debug, Clone, Copy)]
pub struct Timer {
    every: i64,
    due: Timestamp,
}

impl Timer {
    /// Not started.
    pub fn new(every: Duration) -> Self {
        Self { every: micros(every), due: NEVER }
    }

    /// Its length in microseconds.
    pub fn every(&self) -> i64 {
        self.every
    }

    /// When it comes next.
    pub fn due(&self) -> Timestamp {
        self.due
    }

    /// Whether it runs.
    pub fn runs(&self) -> bool {
        self.due != NEVER
    }

    /// Due first after `delay` microseconds.
    pub fn start(&mut self, now: Timestamp, delay: i64) {
        self.due = Timestamp(now.0.saturating_add(delay));
    }

    /// No more.
    pub fn stop(&mut self) {
        self.due = NEVER;
    }

    /// The next time after one at `at`; `real` is how late it is in truth.
    pub fn next(&mut self, at: Timestamp, real: Timestamp) {
        let missed = (real.0.saturating_sub(at.0)) / self.every;
        let skip = if missed > MISSED { missed } else { 1 };
        self.due = Timestamp(at.0.saturating_add(self.every.saturating_mul(skip)));
    }

    /// When the clock was set back, the moment is not further away than its length.
    pub fn heal(&mut self, now: Timestamp) {
        let latest = now.0.saturating_add(self.every);
        if self.runs() && self.due.0 > latest {
            self.due = Timestamp(latest);
        }
    }
}

/// A window of the clock that is there only while something is in it: all begin
/// at multiples of their length after the first event.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    every: i64,
    anchor: Option<Timestamp>,
    end: Timestamp,
}

impl Grid {
    /// Before the first event.
    pub fn new(every: Duration) -> Self {
        Self { every: micros(every), anchor: None, end: NEVER }
    }

    /// The end of the window that is open.
    pub fn end(&self) -> Timestamp {
        self.end
    }

    /// An event has come: a window is open from here on.
    pub fn open(&mut self, now: Timestamp) {
        let far = self.end != NEVER && self.end.0.saturating_sub(now.0) > self.every;
        if far {
            // The clock was set back.
            self.anchor = None;
        }
        if self.end == NEVER || far {
            let anchor = *self.anchor.get_or_insert(now);
            let past = now.0.saturating_sub(anchor.0).max(0) / self.every;
            let end = self.every.saturating_mul(past.saturating_add(1));
            self.end = Timestamp(anchor.0.saturating_add(end));
        }
    }

    /// Its end has come.
    pub fn close(&mut self) {
        self.end = NEVER;
    }
}

/// Runs as long as events come that are current: begins with an event, stops at
/// an expired one or when the last one's ttl has passed; goes on for ever
/// after one without ttl.
#[derive(Debug, Clone, Copy)]
pub struct UntilExpired {
    timer: Timer,
    delay: i64,
    until: Timestamp,
}

impl UntilExpired {
    /// First due one length after the first event.
    pub fn after(every: Duration) -> Self {
        let timer = Timer::new(every);
        Self { timer, delay: timer.every(), until: NEVER }
    }

    /// First due with the first event.
    pub fn at_once(every: Duration) -> Self {
        Self { timer: Timer::new(every), delay: 0, until: NEVER }
    }

    /// When it comes next.
    pub fn due(&self) -> Timestamp {
        self.timer.due()
    }

    /// An event has come.
    pub fn push(&mut self, event: &Event, now: Timestamp) {
        let until = |(time, ttl): (Timestamp, f32)| Timestamp(time.0.saturating_add(seconds(ttl)));
        self.until = event.time.zip(event.ttl).map_or(NEVER, until);
        if is_expired(event, now) {
            self.timer.stop();
        } else if self.timer.runs() {
            self.timer.heal(now);
        } else {
            self.timer.start(now, self.delay);
        }
    }

    /// Its moment has come; false when it stops instead.
    pub fn fire(&mut self, at: Timestamp, real: Timestamp) -> bool {
        if self.until < at {
            self.timer.stop();
            return false;
        }
        self.timer.next(at, real);
        true
    }
}

/// Microseconds of a ttl.
fn seconds(ttl: f32) -> i64 {
    let ttl = if ttl.is_nan() { DEFAULT_TTL } else { ttl };
    #[allow(clippy::cast_possible_truncation, reason = "saturates")]
    let micros = (f64::from(ttl) * 1e6) as i64;
    micros
}

/// Up to when an event is current.
pub fn expires(event: &Event) -> Timestamp {
    let time = event.time.unwrap_or(AT_ONCE);
    Timestamp(time.0.saturating_add(seconds(event.ttl.unwrap_or(DEFAULT_TTL))))
}

/// Whether an event is current no longer.
pub fn is_expired(event: &Event, now: Timestamp) -> bool {
    event.state.as_deref() == Some("expired") || (event.time.is_some() && expires(event) < now)
}

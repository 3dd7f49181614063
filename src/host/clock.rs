//! Time, real or set by hand.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use crate::base::Timestamp;

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// Wall-clock time: for events and people; may jump.
    fn now(&self) -> Timestamp;
    /// Monotonic time: for deadlines and rates.
    fn instant(&self) -> Instant;
}

/// The machine's clock.
pub struct RealClock;

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until it is moved.
pub struct FakeClock {
    start: Instant,
    state: Mutex<(Timestamp, Duration)>,
}

impl FakeClock {
    /// A clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { start: Instant::now(), state: Mutex::new((now, Duration::ZERO)) }
    }

    /// Moves both times forward.
    pub fn advance(&self, span: Duration) {
        let mut state = self.lock();
        state.0 = state.0.plus(span);
        state.1 += span;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Timestamp, Duration)> {
        // A panic elsewhere cannot leave a pair of numbers half written.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.lock().0
    }

    fn instant(&self) -> Instant {
        self.start + self.lock().1
    }
}

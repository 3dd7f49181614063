//! Pauses between tries: 0.5 s, then twice as long each time up to 30 s, each
//! a quarter shorter or longer by chance, so that many senders do not come
//! back to a receiver at the same moment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// How often it has failed.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause before the next try.
    pub fn pause(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.failures.min(10));
        self.failures = self.failures.saturating_add(1);
        // The keys of the standard hasher are random.
        let chance = RandomState::new().build_hasher().finish() % 1000;
        let factor = 0.75 + chance as f64 / 2000.0;
        doubled.min(LONGEST).mul_f64(factor).min(LONGEST)
    }

    /// It works again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_half_a_minute() {
        let mut backoff = Backoff::default();
        for base in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let pause = backoff.pause().as_secs_f64();
            assert!((base * 0.75..=(base * 1.25_f64).min(30.0)).contains(&pause), "{base} {pause}");
        }
        for _ in 0..100 {
            assert!(backoff.pause() <= LONGEST);
        }
        backoff.reset();
        assert!(backoff.pause() < Duration::from_secs(1));
    }
}

//! What crashed is started again, if its file wants so: later each time, and
//! only so often within an hour.

use std::time::Duration;

use tokio::time::Instant;

use super::Supervisor;
use crate::base::{Timestamp, span};
use crate::config::OnCrash;
use crate::vm::lifecycle::Observation;

/// Crashes before this do not count any more.
const WINDOW: Duration = Duration::from_secs(3600);
/// However often it has crashed, it does not wait longer.
const LONGEST: Duration = Duration::from_secs(300);

/// The crashes of a VM, and what follows from them.
#[derive(Debug, Default)]
pub(super) struct Again {
    crashes: Vec<Timestamp>,
    /// When it is started again.
    pub due: Option<Instant>,
}

/// What follows from a crash.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// The file does not want it started again.
    Stays,
    /// It is.
    Start { wait: Duration, time: usize },
    /// It has crashed too often.
    GivenUp { crashes: usize },
}

impl Again {
    fn crashed(&mut self, policy: OnCrash, now: Timestamp) -> Next {
        let OnCrash::Restart { times, delay } = policy else { return Next::Stays };
        self.crashes.retain(|crash| now.since(*crash) < WINDOW);
        self.crashes.push(now);
        let time = self.crashes.len();
        if time > usize::try_from(times).unwrap_or(usize::MAX) {
            return Next::GivenUp { crashes: time };
        }
        let doublings = u32::try_from(time - 1).unwrap_or(u32::MAX).min(16);
        Next::Start { wait: delay.saturating_mul(1 << doublings).min(LONGEST), time }
    }
}

impl Supervisor {
    /// It has ended, or not come up, though nobody wanted it so.
    pub(super) async fn crashed(&mut self) {
        let policy = if self.bar.is_some() { OnCrash::Stay } else { self.vm.on_crash };
        let next = self.again.crashed(policy, self.host.clock.now());
        let more = match (next, policy) {
            (Next::Start { wait, time }, OnCrash::Restart { times, .. }) => {
                self.again.due = Some(Instant::now() + wait);
                format!(
                    "it is started again in {} ({time} of at most {times} times within an hour)",
                    span::show(wait)
                )
            }
            (Next::GivenUp { crashes }, _) => {
                format!("it stays down: that was crash {crashes} within an hour")
            }
            (Next::Stays | Next::Start { .. }, _) => return,
        };
        self.observe(Observation::Remark { more }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_longer_each_time_and_gives_up_at_last() {
        let (mut again, mut now) = (Again::default(), Timestamp::from_secs(1_000_000));
        let policy = OnCrash::Restart { times: 3, delay: Duration::from_secs(200) };
        let waits: Vec<_> = (0..4)
            .map(|_| {
                now = now.plus(Duration::from_secs(60));
                again.crashed(policy, now)
            })
            .collect();
        let start = |wait, time| Next::Start { wait: Duration::from_secs(wait), time };
        assert_eq!(
            waits,
            [start(200, 1), start(300, 2), start(300, 3), Next::GivenUp { crashes: 4 }]
        );
        // An hour later it has a clean record.
        assert_eq!(again.crashed(policy, now.plus(WINDOW)), start(200, 1));
        assert_eq!(again.crashed(OnCrash::Stay, now), Next::Stays);
    }
}

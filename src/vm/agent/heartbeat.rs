//! What an agent's silence means.
//!
//! An agent that never spoke may not be installed: its silence says nothing.
//! One that has spoken and then is silent for the VM's `agent.silent-after`
//! means a guest that hangs, or one that is too busy to be of use: a reading
//! beside the VM's state, never a state of its own. Time in which the guest's
//! processors are halted does not count, and neither does a boot.

use std::time::{Duration, Instant};

use crate::base::Timestamp;

/// What is known of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AgentState {
    /// Whether it speaks; nothing as long as it has never spoken since the
    /// guest came up.
    pub alive: Option<bool>,
    /// When it spoke last.
    pub last: Option<Timestamp>,
}

impl AgentState {
    /// What a view's `responsive` is to say, as far as the agent goes: an agent
    /// that never spoke is no reason for alarm.
    pub fn is_responsive(&self) -> bool {
        self.alive != Some(false)
    }
}

/// Follows one agent. Its methods that return a `bool` say whether
/// [`Heartbeat::state`]'s `alive` has changed.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    silent_after: Duration,
    state: AgentState,
    /// When the silence that counts began.
    since: Option<Instant>,
}

impl Heartbeat {
    /// Of an agent that has not spoken yet.
    pub fn new(silent_after: Duration) -> Self {
        Self { silent_after, state: AgentState::default(), since: None }
    }

    /// What is known.
    pub fn state(&self) -> AgentState {
        self.state
    }

    /// It has answered, if only to say no.
    pub fn heard(&mut self, now: Instant, wall: Timestamp) -> bool {
        self.since = Some(now);
        self.state.last = Some(wall);
        self.set(Some(true))
    }

    /// It has not answered.
    pub fn missed(&mut self, now: Instant) -> bool {
        match self.since {
            Some(since) if now.saturating_duration_since(since) >= self.silent_after => {
                self.set(Some(false))
            }
            Some(_) | None => false,
        }
    }

    /// The guest's processors run again, after a pause in which it could not
    /// answer: it has its whole time once more.
    pub fn excused(&mut self, now: Instant) {
        if self.since.is_some() {
            self.since = Some(now);
        }
    }

    /// The guest was reset: until its agent speaks again, it is as if it had none.
    pub fn reset(&mut self) -> bool {
        self.since = None;
        self.set(None)
    }

    fn set(&mut self, alive: Option<bool>) -> bool {
        let changed = self.state.alive != alive;
        self.state.alive = alive;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn one_that_never_spoke_is_not_missed() {
        let (mut beat, start) = (Heartbeat::new(LIMIT), Instant::now());
        assert!(!beat.missed(start + 100 * LIMIT));
        assert_eq!(beat.state(), AgentState::default());
        assert!(beat.state().is_responsive());
    }

    #[test]
    fn one_that_falls_silent_is_missed_once_and_welcome_again() {
        let (mut beat, start) = (Heartbeat::new(LIMIT), Instant::now());
        assert!(beat.heard(start, Timestamp(1)));
        assert!(!beat.heard(start, Timestamp(2)));
        assert!(!beat.missed(start + LIMIT - Duration::from_millis(1)));
        assert!(beat.missed(start + LIMIT));
        assert!(!beat.missed(start + 2 * LIMIT), "said once");
        let state = AgentState { alive: Some(false), last: Some(Timestamp(2)) };
        assert_eq!((beat.state(), state.is_responsive()), (state, false));
        assert!(beat.heard(start + 3 * LIMIT, Timestamp(9)));
        assert!(beat.state().is_responsive());
    }

    #[test]
    fn neither_a_pause_nor_a_boot_counts() {
        let (mut beat, start) = (Heartbeat::new(LIMIT), Instant::now());
        beat.heard(start, Timestamp(1));
        beat.excused(start + 10 * LIMIT);
        assert!(!beat.missed(start + 10 * LIMIT + LIMIT / 2));
        assert!(beat.missed(start + 11 * LIMIT));
        assert!(beat.reset());
        assert!(!beat.missed(start + 100 * LIMIT) && beat.state().is_responsive());
        beat.excused(start);
        assert!(!beat.missed(start + 100 * LIMIT), "an excuse is no sign of life");
    }

    proptest! {
        /// Whatever happens: silent is only who has spoken and was not heard
        /// for the whole time.
        #[test]
        fn is_only_silent_after_the_whole_time(steps in proptest::collection::vec((0u8..4, 0u64..40), 0..60)) {
            let (mut beat, start) = (Heartbeat::new(LIMIT), Instant::now());
            let (mut now, mut last) = (start, None);
            for (what, seconds) in steps {
                now += Duration::from_secs(seconds);
                let before = beat.state().alive;
                let changed = match what {
                    0 => { last = Some(now); beat.heard(now, Timestamp(0)) }
                    1 => { last = last.map(|_| now); beat.excused(now); false }
                    2 => { last = None; beat.reset() }
                    _ => beat.missed(now),
                };
                prop_assert_eq!(changed, before != beat.state().alive);
                if what == 3 && beat.state().alive == Some(false) {
                    prop_assert!(last.is_some_and(|last| now - last >= LIMIT) || !changed);
                }
            }
        }
    }
}

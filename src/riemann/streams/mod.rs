//! Streams: what becomes of events, as `streams:` of `host.yaml` has it.
//!
//! ```text
//!  event, now ─▶ Streams::push ─┐
//!                               ├─▶ steps (a tree) ─▶ Outputs::take(target, event)
//!        now ─▶ Streams::tick ──┘     │
//!                                     └─ windows, buffers, children of `by`: bounded, in `Held`
//! ```
//!
//! Nothing here asks a clock: time comes as a parameter and never runs by
//! itself. What a step does at the end of its window it does at that moment's
//! time, in the order of the moments, however late the tick comes; an event that
//! arrives at the end of a window belongs to the next. The operators do what
//! those of Riemann 0.3 do; where they do not, their files say so.
//!
//! Read [`step`] first: the tree, and how an event goes through it. Then
//! [`before`], [`fewer`], [`numbers`], [`lists`] and [`by`], the operators with
//! a memory; [`timer`] is how they know when. [`held`] bounds what all of them
//! hold, [`patch`] and [`value`] are about fields, [`replay`] runs recorded
//! events, [`mod@reference`] is docs/streams.md.

pub mod before;
pub mod by;
pub mod fewer;
pub mod held;
pub mod lists;
pub mod numbers;
pub mod patch;
pub mod reference;
pub mod replay;
pub mod step;
pub mod timer;
pub mod value;

#[cfg(test)]
mod models;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::held::Held;
use self::step::{Cx, Steps};
use self::timer::NEVER;
use crate::base::{Event, Timestamp};
use crate::config::Step;

/// Where an event comes out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Into the index.
    Index,
    /// To the way out of that name.
    Outlet(Arc<str>),
    /// To those who listen to this topic.
    Topic(Arc<str>),
}

/// Takes what comes out.
pub trait Outputs {
    /// One event.
    fn take(&mut self, target: &Target, event: &Arc<Event>);
}

impl<F: FnMut(&Target, &Arc<Event>)> Outputs for F {
    fn take(&mut self, target: &Target, event: &Arc<Event>) {
        self(target, event);
    }
}

/// More moments than this are not made up for at one tick; the rest waits for
/// the next.
const MOMENTS: usize = 100_000;

/// The running streams.
pub struct Streams {
    steps: Steps,
    held: Arc<Held>,
    targets: Vec<Target>,
}

/// What became of the steps at a new configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// Steps that go on with what they know.
    pub kept: usize,
    /// Steps that begin.
    pub new: usize,
}

impl Streams {
    /// Streams that have seen nothing yet.
    pub fn new(steps: &[Step]) -> Self {
        let (held, mut targets) = (Arc::new(Held::default()), Vec::new());
        step::targets(steps, &mut targets);
        Self { steps: Steps::new(steps, &held), held, targets }
    }

    /// An event that has arrived; it has a time.
    pub fn push(&mut self, event: &Arc<Event>, now: Timestamp, out: &mut dyn Outputs) {
        self.tick(now, out);
        let held = Arc::clone(&self.held);
        self.steps.push(event, &mut Cx { now, real: now, held: &held, out: &mut *out });
        // What is to happen at once.
        self.tick(now, out);
    }

    /// Does what was due up to now.
    #[inline]
    pub fn tick(&mut self, now: Timestamp, out: &mut dyn Outputs) {
        if self.steps.due() <= now {
            self.fire(now, out);
        }
    }

    fn fire(&mut self, now: Timestamp, out: &mut dyn Outputs) {
        let held = Arc::clone(&self.held);
        for _ in 0..MOMENTS {
            let at = self.steps.due();
            if at > now {
                break;
            }
            // What is due since ever begins now.
            let at = if at == timer::AT_ONCE { now } else { at };
            self.steps.fire(&mut Cx { now: at, real: now, held: &held, out: &mut *out });
        }
    }

    /// When there is something to do next, at the earliest; `None` without an event.
    pub fn due(&self) -> Option<Timestamp> {
        Some(self.steps.due()).filter(|due| *due != NEVER)
    }

    /// Takes on a new configuration: a step that is the same as before, in the
    /// same place, keeps what it knows.
    pub fn reload(&mut self, steps: &[Step]) -> Reloaded {
        let mut told = Reloaded::default();
        self.targets.clear();
        step::targets(steps, &mut self.targets);
        self.steps.reload(steps, &self.held, &mut told);
        told
    }

    /// What they hold, and what they have let go of.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// The targets that the steps name, each once.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }
}

/// For the fuzzer and the tests: any text is judged, and what it means takes any
/// event.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let mut file = b"streams:\n".to_vec();
    file.extend(bytes);
    let read = crate::config::load(
        &[crate::config::Source::host("streams", file)],
        &crate::config::not_asked,
    );
    let Ok((config, _)) = read else { return };
    let mut streams = Streams::new(&config.streams);
    let mut came = 0usize;
    let mut out = |_: &Target, _: &Arc<Event>| came += 1;
    for second in [0i64, 1, 1, 7, 5, 90, -1_000, i64::MAX / 1_000_000] {
        let state = if second == 7 { "expired" } else { "ok" };
        let event = Event {
            host: Some("h".to_owned()),
            state: Some(state.to_owned()),
            metric: Some(crate::base::Metric::Int(second)),
            time: Some(Timestamp::from_secs(second)),
            ..Event::default()
        };
        streams.push(&Arc::new(event), Timestamp::from_secs(second), &mut out);
    }
    let _ = (streams.reload(&config.streams), came);
}

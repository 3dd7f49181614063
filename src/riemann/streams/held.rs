//! The bounds of everything that streams hold, and what went beyond them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::base::Event;
use crate::riemann::stats::Counter;

/// Events in one window, batch or buffer, before its oldest goes.
pub const EVENTS_OF_ONE: usize = 10_000;
/// Events in all of them.
pub const EVENTS_OF_ALL: usize = 100_000;
/// Children of one `by`, before those go that have been quiet for longest.
pub const CHILDREN_OF_ONE: usize = 10_000;
/// Children of all, before new ones are refused.
pub const CHILDREN_OF_ALL: usize = 50_000;

/// What all steps hold together.
#[derive(Debug, Default)]
pub struct Held {
    events: AtomicUsize,
    children: AtomicUsize,
    /// Events that left a full buffer before their time.
    pub lost: Counter,
    /// Events that went nowhere because there are too many children.
    pub refused: Counter,
    /// Children that had to go though they were not done.
    pub evicted: Counter,
}

impl Held {
    /// Events in windows, batches and buffers.
    pub fn events(&self) -> usize {
        self.events.load(Ordering::Relaxed)
    }

    /// Children of `by`.
    pub fn children(&self) -> usize {
        self.children.load(Ordering::Relaxed)
    }

    /// Everything that did not go the way it was to go.
    pub fn losses(&self) -> u64 {
        self.lost.get() + self.refused.get() + self.evicted.get()
    }
}

/// Events that wait, oldest first.
pub struct Buffer {
    events: VecDeque<Arc<Event>>,
    held: Arc<Held>,
}

impl Buffer {
    /// An empty one.
    pub fn new(held: &Arc<Held>) -> Self {
        Self { events: VecDeque::new(), held: Arc::clone(held) }
    }

    /// Appends; when there is no place the oldest goes, or the event itself.
    pub fn push(&mut self, event: &Arc<Event>) {
        if self.events.len() >= EVENTS_OF_ONE || self.held.events() >= EVENTS_OF_ALL {
            self.held.lost.add(1);
            if self.pop().is_none() {
                return;
            }
        }
        self.held.events.fetch_add(1, Ordering::Relaxed);
        self.events.push_back(Arc::clone(event));
    }

    /// Takes the oldest.
    pub fn pop(&mut self) -> Option<Arc<Event>> {
        let event = self.events.pop_front()?;
        self.held.events.fetch_sub(1, Ordering::Relaxed);
        Some(event)
    }

    /// Takes all.
    pub fn take(&mut self) -> Vec<Arc<Event>> {
        self.held.events.fetch_sub(self.events.len(), Ordering::Relaxed);
        std::mem::take(&mut self.events).into()
    }

    /// Lets go of what does not count any more.
    pub fn retain(&mut self, keep: impl Fn(&Event) -> bool) {
        let before = self.events.len();
        self.events.retain(|event| keep(event));
        self.held.events.fetch_sub(before - self.events.len(), Ordering::Relaxed);
    }

    /// All, oldest first.
    pub fn all(&mut self) -> &[Arc<Event>] {
        self.events.make_contiguous()
    }

    /// The oldest.
    pub fn first(&self) -> Option<&Arc<Event>> {
        self.events.front()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.held.events.fetch_sub(self.events.len(), Ordering::Relaxed);
    }
}

/// The place of one child.
pub struct Place(Arc<Held>);

impl Place {
    /// One more, unless there are too many.
    pub fn take(held: &Arc<Held>) -> Option<Self> {
        if held.children() >= CHILDREN_OF_ALL {
            held.refused.add(1);
            return None;
        }
        held.children.fetch_add(1, Ordering::Relaxed);
        Some(Self(Arc::clone(held)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.children.fetch_sub(1, Ordering::Relaxed);
    }
}

//! Outlets: named, bounded ways out of the engine, one for each sink (history,
//! an upstream Riemann, Graphite). The engine pushes and never waits; the
//! sink's task takes batches at the other end, the [`Inlet`], at its own pace.
//! A sink that must lose nothing writes to its outbox what it takes, at once.

use std::sync::Arc;

use super::queue::Queue;
use crate::base::Event;

/// The engine's end.
#[derive(Clone)]
pub struct Outlet {
    name: Arc<str>,
    queue: Arc<Queue>,
}

/// The sink's end.
pub struct Inlet {
    queue: Arc<Queue>,
}

/// A new way out; beyond `capacity` events that wait, the oldest are dropped
/// and counted.
pub fn outlet(name: &str, capacity: usize) -> (Outlet, Inlet) {
    let queue = Queue::new(capacity);
    (Outlet { name: name.into(), queue: Arc::clone(&queue) }, Inlet { queue })
}

impl Outlet {
    /// What streams call it: `history`, `graphite`, `riemann`, or a name of the owner's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands an event over; returns how many older ones were lost for it.
    pub fn push(&self, event: &Arc<Event>) -> usize {
        self.queue.push(event)
    }
}

impl Inlet {
    /// The oldest events that wait, at least one and at most `most`; waits for
    /// the first. Can be cancelled without losing one.
    pub async fn some(&mut self, most: usize) -> Vec<Arc<Event>> {
        loop {
            let events = self.queue.take(most);
            if !events.is_empty() {
                return events;
            }
            self.queue.arrived().await;
        }
    }

    /// The same without waiting; may be none.
    pub fn now(&mut self, most: usize) -> Vec<Arc<Event>> {
        self.queue.take(most)
    }

    /// How many events wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many were dropped since the beginning, because the sink was too slow.
    pub fn lost(&self) -> u64 {
        self.queue.dropped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(service: &str) -> Arc<Event> {
        Arc::new(Event { service: Some(service.to_owned()), ..Event::default() })
    }

    #[tokio::test]
    async fn the_oldest_go_first_and_the_excess_is_counted() {
        let (outlet, mut inlet) = outlet("history", 2);
        for name in ["a", "b", "c"] {
            outlet.push(&event(name));
        }
        assert_eq!((inlet.waiting(), inlet.lost()), (2, 1));
        assert_eq!(inlet.some(10).await, [event("b"), event("c")]);
        assert_eq!(inlet.now(10), []);
    }
}

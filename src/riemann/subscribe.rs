//! Subscriptions: a bounded queue for each, so that a slow subscriber loses its
//! oldest events and holds up nobody.

use std::sync::Arc;

use super::queue::Queue;
use crate::base::Event;
use crate::query::Query;

/// Receives the events that match its query; dropping it ends it.
pub struct Subscription {
    queue: Arc<Queue>,
}

impl Subscription {
    /// The next event, in the order of publication; waits for it. Can be
    /// cancelled without losing one.
    pub async fn next(&mut self) -> Arc<Event> {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            self.queue.arrived().await;
        }
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Arc<Event>> {
        self.queue.pop()
    }

    /// How many events this subscription has lost since it began.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}

/// All subscriptions of an index.
#[derive(Default)]
pub(super) struct Subscribers(Vec<(Query, Arc<Queue>)>);

impl Subscribers {
    /// One more, unless there are `most` already.
    pub(super) fn add(
        &mut self,
        query: Query,
        capacity: usize,
        most: usize,
    ) -> Option<Subscription> {
        self.0.retain(|(_, queue)| is_wanted(queue));
        if self.0.len() >= most {
            return None;
        }
        let queue = Queue::new(capacity);
        self.0.push((query, Arc::clone(&queue)));
        Some(Subscription { queue })
    }

    /// How many there are.
    pub(super) fn count(&mut self) -> usize {
        self.0.retain(|(_, queue)| is_wanted(queue));
        self.0.len()
    }

    /// Gives the event to those who asked for it; returns how many events were lost.
    pub(super) fn publish(&mut self, event: &Arc<Event>) -> usize {
        let mut lost = 0;
        self.0.retain(|(query, queue)| {
            if !is_wanted(queue) {
                return false;
            }
            if query.matches(event) {
                lost += queue.push(event);
            }
            true
        });
        lost
    }
}

/// Whether the subscription's own end of the queue is still there.
fn is_wanted(queue: &Arc<Queue>) -> bool {
    Arc::strong_count(queue) > 1
}

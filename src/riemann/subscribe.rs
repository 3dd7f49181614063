//! Subscriptions: a bounded queue for each, so that a slow subscriber loses its
//! oldest events and holds up nobody.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::stats::Counter;
use crate::base::Event;
use crate::query::Query;

/// Receives the events that match its query; dropping it ends it.
pub struct Subscription {
    queue: Arc<Queue>,
}

struct Queue {
    waiting: Mutex<VecDeque<Arc<Event>>>,
    capacity: usize,
    arrived: Notify,
    dropped: Counter,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        // A panic elsewhere cannot leave a queue half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// The next event, in the order of publication; waits for it. Can be
    /// cancelled without losing one.
    pub async fn next(&mut self) -> Arc<Event> {
        loop {
            if let Some(event) = self.try_next() {
                return event;
            }
            self.queue.arrived.notified().await;
        }
    }

    /// The next event if there is one already.
    pub fn try_next(&mut self) -> Option<Arc<Event>> {
        self.queue.waiting().pop_front()
    }

    /// How many events this subscription has lost since it began.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped.get()
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
        let queue = Arc::new(Queue {
            waiting: Mutex::default(),
            capacity: capacity.max(1),
            arrived: Notify::new(),
            dropped: Counter::default(),
        });
        self.0.push((query, Arc::clone(&queue)));
        Some(Subscription { queue })
    }

    /// Gives the event to those who asked for it; returns how many events were lost.
    pub(super) fn publish(&mut self, event: &Arc<Event>) -> usize {
        let mut lost = 0;
        self.0.retain(|(query, queue)| {
            if !is_wanted(queue) {
                return false;
            }
            if query.matches(event) {
                let mut waiting = queue.waiting();
                if waiting.len() >= queue.capacity {
                    waiting.pop_front();
                    queue.dropped.add(1);
                    lost += 1;
                }
                waiting.push_back(Arc::clone(event));
                drop(waiting);
                queue.arrived.notify_one();
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

//! A bounded queue of events that never makes the sender wait: when it is full
//! the oldest goes, and is counted. [`Subscription`](super::Subscription)s and
//! [`outlet`](mod@super::outlet)s are made of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::stats::Counter;
use crate::base::Event;

/// Both ends share it.
pub(super) struct Queue {
    waiting: Mutex<VecDeque<Arc<Event>>>,
    capacity: usize,
    arrived: Notify,
    dropped: Counter,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            waiting: Mutex::default(),
            capacity: capacity.max(1),
            arrived: Notify::new(),
            dropped: Counter::default(),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        // A panic elsewhere cannot leave a queue half changed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends; returns how many events were lost for it.
    pub(super) fn push(&self, event: &Arc<Event>) -> usize {
        let mut waiting = self.waiting();
        let mut lost = 0;
        if waiting.len() >= self.capacity {
            waiting.pop_front();
            self.dropped.add(1);
            lost = 1;
        }
        waiting.push_back(Arc::clone(event));
        drop(waiting);
        self.arrived.notify_one();
        lost
    }

    /// The oldest, if there is one.
    pub(super) fn pop(&self) -> Option<Arc<Event>> {
        self.waiting().pop_front()
    }

    /// At most so many of the oldest.
    pub(super) fn take(&self, most: usize) -> Vec<Arc<Event>> {
        let mut waiting = self.waiting();
        let all = waiting.len().min(most);
        waiting.drain(..all).collect()
    }

    /// Resolves when something may have arrived.
    pub(super) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    pub(super) fn len(&self) -> usize {
        self.waiting().len()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.get()
    }
}

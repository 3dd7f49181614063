//! How a sink is doing: counters since the start, and whether its receiver is
//! there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What one sink has done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Acknowledged by the receiver (Graphite: taken by its machine).
    pub delivered: u64,
    /// Sent once more, because the first time was not acknowledged: the
    /// receiver may have them twice.
    pub again: u64,
    /// Events of the index, sent first after an outage.
    pub current: u64,
    /// Refused by the receiver, and not sent again.
    pub refused: u64,
    /// Older than their ttl after an outage, and not sent.
    pub outdated: u64,
    /// Nothing that this receiver could take (Graphite: no number).
    pub unfit: u64,
    /// Lost before the outbox, which was too slow.
    pub overrun: u64,
    /// Whether the receiver is there.
    pub connected: bool,
    /// Why it is not, or what is wrong with what it says.
    pub problem: Option<String>,
}

/// The same, shared between a sender and who asks.
#[derive(Clone, Default)]
pub struct Standing(Arc<Mutex<Totals>>);

impl Standing {
    fn totals(&self) -> MutexGuard<'_, Totals> {
        // Numbers cannot be half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it is now.
    pub fn now(&self) -> Totals {
        self.totals().clone()
    }

    /// Changes it.
    pub fn count(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.totals());
    }

    /// The receiver is there.
    pub fn up(&self) {
        self.count(|totals| {
            totals.connected = true;
            totals.problem = None;
        });
    }

    /// It is not, and why.
    pub fn down(&self, why: String) {
        self.count(|totals| {
            totals.connected = false;
            totals.problem = Some(why);
        });
    }
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

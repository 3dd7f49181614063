//! The way to an outbox from tasks, which must not wait for a disk: everything
//! is done on a thread for such things.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use super::{Gauge, Kept, Outbox};
use crate::base::{Event, Timestamp};
use crate::host::Clock;

/// A handle on an outbox; cheap to clone.
#[derive(Clone)]
pub struct Mail {
    shared: Arc<Shared>,
}

struct Shared {
    outbox: Mutex<Outbox>,
    arrived: Notify,
    clock: Arc<dyn Clock>,
}

impl Mail {
    /// Of that outbox.
    pub fn new(outbox: Outbox, clock: Arc<dyn Clock>) -> Self {
        let arrived = Notify::new();
        // What has waited on the disk is there already.
        arrived.notify_one();
        Self { shared: Arc::new(Shared { outbox: Mutex::new(outbox), arrived, clock }) }
    }

    /// The time by the outbox's clock.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    async fn on<R: Default + Send + 'static>(
        &self,
        act: impl FnOnce(&mut Outbox, Timestamp) -> R + Send + 'static,
    ) -> R {
        let shared = Arc::clone(&self.shared);
        let done = spawn_blocking(move || {
            let now = shared.clock.now();
            // A panic would have ended its task; what is in the files is sound.
            act(&mut shared.outbox.lock().unwrap_or_else(PoisonError::into_inner), now)
        });
        done.await.unwrap_or_default()
    }

    /// [`Outbox::append`].
    pub async fn append(&self, events: Vec<Arc<Event>>) {
        self.on(move |outbox, now| outbox.append(&events, now)).await;
        self.shared.arrived.notify_one();
    }

    /// [`Outbox::read`].
    pub async fn read(&self, after: u64, most: usize, bytes: usize) -> Vec<Kept> {
        self.on(move |outbox, _| outbox.read(after, most, bytes)).await
    }

    /// [`Outbox::ack`].
    pub async fn ack(&self, seq: u64) {
        self.on(move |outbox, now| outbox.ack(seq, now)).await;
    }

    /// [`Outbox::acked`].
    pub async fn acked(&self) -> u64 {
        self.on(|outbox, _| outbox.acked()).await
    }

    /// [`Outbox::gauge`]; what the disk did not take is tried again.
    pub async fn gauge(&self) -> Gauge {
        self.on(Outbox::gauge).await
    }

    /// Resolves when something may have been appended.
    pub async fn arrived(&self) {
        self.shared.arrived.notified().await;
    }
}

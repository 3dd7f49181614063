//! The index: the last event of every host and service.
//!
//! An event replaces the one of the same host and service, whichever is older.
//! It is current until its ttl (60 s unless it has one) has passed since its
//! time; [`Index::expire`] removes it then and publishes an event in state
//! `expired` with its host and service. An event that arrives in state
//! `expired` removes the entry and is published like any other.
//!
//! Differences from the reference, all for the sake of safety:
//!
//! - An event dated in the future counts from its arrival, so that a wrong
//!   clock cannot keep a dead service green.
//! - Events of others ([`Origin::Outside`]) are refused while hostd's own event
//!   holds their host and service; the tag `hostd` is taken from them, the rest
//!   is kept, since another hostd may well send its events here.
//! - The number of entries and their bytes are bounded. Events of others are
//!   refused beyond that; hostd's own are always taken, the machine bounds them.
//! - Subscribers have bounded queues and see an expired event once.
//!
//! Without streams everything is indexed and goes to every sink that is
//! attached. With [`Index::set_streams`] hostd's own events still are indexed
//! and in the history; what else becomes of them, and of the events of others,
//! is up to the streams (`ways.rs`).
//!
//! One lock guards everything; it is never held across an await, and a query
//! that scans holds it only while it copies the references.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::outlet::Outlet;
use super::stats::{Reason, Stats};
use super::streams::Streams;
use super::subscribe::{Subscribers, Subscription};
use super::table::{Entry, Table};
use super::ways::{Gets, Sink, Topics};
use crate::base::{Event, Timestamp};
use crate::host::Clock;
use crate::query::Query;

/// For how many seconds an event without ttl is current.
pub const DEFAULT_TTL: f32 = 60.0;

/// How often the daemon calls [`Index::expire`].
pub const EXPIRE_INTERVAL: Duration = Duration::from_secs(1);

/// The tag that only hostd's own events carry.
pub const OWN_TAG: &str = "hostd";

/// Events taken in before others get at the lock.
const AT_ONCE: usize = 1000;

/// Whose event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Made by this daemon.
    Own,
    /// Sent by another program.
    Outside,
}

/// How large the index may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries before events of others with a new host and service are refused.
    pub entries: usize,
    /// Approximate bytes of all events before longer events of others are refused.
    pub bytes: usize,
    /// Subscriptions at one time.
    pub subscribers: usize,
    /// Events that wait in one subscription before the oldest is dropped.
    pub queue: usize,
}

impl Default for Limits {
    /// 100,000 entries in 64 MiB, 64 subscriptions of 4096 events.
    fn default() -> Self {
        Self { entries: 100_000, bytes: 64 << 20, subscribers: 64, queue: 4096 }
    }
}

/// What became of a batch of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Taken in.
    pub accepted: usize,
    /// Not taken in.
    pub refused: usize,
    /// Why the first of those was not.
    pub reason: Option<Reason>,
}

/// There are as many subscriptions as allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are already {0} subscriptions")]
pub struct TooManySubscribers(pub usize);

/// A handle on the index; cheap to clone.
#[derive(Clone)]
pub struct Index {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    content: Mutex<Content>,
    clock: Arc<dyn Clock>,
    pub(super) limits: Limits,
    pub(super) stats: Stats,
}

#[derive(Default)]
pub(super) struct Content {
    pub(super) table: Table,
    pub(super) subscribers: Subscribers,
    pub(super) topics: Topics,
    pub(super) outlets: Vec<Sink>,
    pub(super) streams: Option<Box<Streams>>,
}

impl Index {
    /// An empty index.
    pub fn new(limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let content = Mutex::default();
        Self { shared: Arc::new(Shared { content, clock, limits, stats: Stats::default() }) }
    }

    /// The counters of the whole room: the transports count here too.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Entries at the moment, and their approximate bytes.
    pub fn size(&self) -> (usize, usize) {
        let content = self.content();
        (content.table.len(), content.table.weight())
    }

    /// The time by the index's clock.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    pub(super) fn content(&self) -> MutexGuard<'_, Content> {
        // The table is consistent between any two of its calls.
        self.shared.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in and publishes hostd's own events.
    pub fn apply_own(&self, events: Vec<Event>) {
        self.apply(Origin::Own, events);
    }

    /// Takes in and publishes events, in their order; an event without time
    /// gets the current one.
    pub fn apply(&self, origin: Origin, events: Vec<Event>) -> Applied {
        let now = self.now();
        let mut applied = Applied::default();
        let mut dropped = 0;
        let mut events = events.into_iter();
        while !events.as_slice().is_empty() {
            let mut guard = self.content();
            let content = &mut *guard;
            for mut event in events.by_ref().take(AT_ONCE) {
                event.time.get_or_insert(now);
                if origin == Origin::Outside {
                    self.disown(&mut event);
                }
                let put = if content.streams.is_some() {
                    content.stream(origin, event, now, &self.shared)
                } else {
                    content.put(origin, event, now, &self.shared.limits)
                };
                match put {
                    Ok(lost) => {
                        applied.accepted += 1;
                        dropped += lost;
                    }
                    Err(reason) => {
                        applied.refused += 1;
                        applied.reason.get_or_insert(reason);
                        self.shared.stats.refuse(reason);
                    }
                }
            }
        }
        self.shared.stats.accepted.add(applied.accepted);
        self.shared.stats.dropped.add(dropped);
        applied
    }

    /// Takes the tag of hostd's own events away.
    fn disown(&self, event: &mut Event) {
        if event.tags.iter().any(|tag| tag == OWN_TAG) {
            event.tags.retain(|tag| tag != OWN_TAG);
            self.shared.stats.refuse(Reason::OwnTag);
        }
    }

    /// Removes what is current no longer, publishes and returns an event in
    /// state `expired` for each.
    pub fn expire(&self, now: Timestamp) -> Vec<Arc<Event>> {
        let mut dropped = 0;
        let mut guard = self.content();
        let content = &mut *guard;
        let gone = content.table.take_expired(now).into_iter();
        let gone = gone.map(|entry| (entry.origin, Arc::new(expired(&entry.event, now))));
        let gone: Vec<(Origin, Arc<Event>)> = gone.collect();
        for (origin, event) in &gone {
            dropped += if content.streams.is_some() {
                content.restream(*origin, event, now, &self.shared)
            } else {
                content.publish(event)
            };
        }
        drop(guard);
        let expired: Vec<Arc<Event>> = gone.into_iter().map(|(_, event)| event).collect();
        self.shared.stats.expired.add(expired.len());
        self.shared.stats.dropped.add(dropped);
        expired
    }

    /// The events that match, in no order; a query for exactly one host and
    /// service is one look-up.
    pub fn query(&self, query: &Query) -> Vec<Arc<Event>> {
        if let Some((host, service)) = query.exact_key() {
            return self.get(host, service).into_iter().collect();
        }
        let all: Vec<_> =
            self.content().table.iter().map(|entry| Arc::clone(&entry.event)).collect();
        all.into_iter().filter(|event| query.matches(event)).collect()
    }

    /// The event of one host and service.
    pub fn get(&self, host: Option<&str>, service: Option<&str>) -> Option<Arc<Event>> {
        self.content().table.get((host, service)).map(|entry| Arc::clone(&entry.event))
    }

    /// Everything published from now on goes to that sink as well; with streams,
    /// what they send to its name.
    pub fn attach(&self, outlet: Outlet) {
        self.content().outlets.push(Sink { outlet, gets: Gets::Streams });
    }

    /// What streams send to its name goes to that sink, and nothing else.
    pub fn attach_named(&self, outlet: Outlet) {
        self.content().outlets.push(Sink { outlet, gets: Gets::Named });
    }

    /// Everything that is indexed goes to that sink, whatever the streams say: for
    /// those who watch the index.
    pub fn attach_to_index(&self, outlet: Outlet) {
        self.content().outlets.push(Sink { outlet, gets: Gets::Index });
    }

    /// Events published from now on that match.
    pub fn subscribe(&self, query: Query) -> Result<Subscription, TooManySubscribers> {
        let Limits { queue, subscribers, .. } = self.shared.limits;
        let added = self.content().subscribers.add(query, queue, subscribers);
        added.ok_or(TooManySubscribers(subscribers))
    }
}

impl Content {
    /// Returns how many events subscribers lost for this one.
    fn put(
        &mut self,
        origin: Origin,
        event: Event,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<usize, Reason> {
        let event = Arc::new(event);
        self.table.set(origin, &event, now, limits)?;
        Ok(self.publish(&event))
    }

    /// Returns how many events subscribers and sinks lost for this one.
    fn publish(&mut self, event: &Arc<Event>) -> usize {
        let all = self.outlets.iter().filter(|sink| sink.gets != Gets::Named);
        let sinks: usize = all.map(|sink| sink.outlet.push(event)).sum();
        sinks + self.subscribers.publish(event)
    }
}

impl Table {
    /// Puts an event in its place, or clears that if it is an expired one.
    pub(super) fn set(
        &mut self,
        origin: Origin,
        event: &Arc<Event>,
        now: Timestamp,
        limits: &Limits,
    ) -> Result<(), Reason> {
        let (entries, bytes) = (self.len(), self.weight());
        let slot = self.slot(event);
        if origin == Origin::Outside && slot.current().is_some_and(|e| e.origin == Origin::Own) {
            return Err(Reason::OwnKey);
        }
        if event.state.as_deref() == Some("expired") {
            slot.clear();
            return Ok(());
        }
        let weight = weight(event);
        if origin == Origin::Outside {
            let old = slot.current().map(|there| there.weight);
            let more = weight.saturating_sub(old.unwrap_or(0)) as usize;
            let no_place = old.is_none() && entries >= limits.entries;
            if no_place || (more > 0 && bytes + more > limits.bytes) {
                return Err(Reason::IndexFull);
            }
        }
        let expires = expires(event, now);
        slot.put(Entry { event: Arc::clone(event), expires, weight, origin });
        Ok(())
    }
}

/// Up to when an event that arrived at `now` is current.
fn expires(event: &Event, now: Timestamp) -> Timestamp {
    let ttl = event.ttl.filter(|ttl| !ttl.is_nan()).unwrap_or(DEFAULT_TTL);
    let from = event.time.unwrap_or(now).min(now);
    #[allow(clippy::cast_possible_truncation, reason = "saturates")]
    let micros = (f64::from(ttl) * 1e6) as i64;
    Timestamp(from.0.saturating_add(micros))
}

/// What is published when an event expires.
pub(super) fn expired(event: &Event, now: Timestamp) -> Event {
    Event {
        host: event.host.clone(),
        service: event.service.clone(),
        state: Some("expired".to_owned()),
        time: Some(now),
        ..Event::default()
    }
}

/// Approximate bytes of an event in memory.
fn weight(event: &Event) -> u32 {
    /// What the allocator and a pointer with two lengths take.
    const STRING: usize = 40;
    let field = |text: &Option<String>| text.as_ref().map_or(0, |text| 16 + text.len());
    let fields = field(&event.host)
        + field(&event.service)
        + field(&event.state)
        + field(&event.description);
    let tags: usize = event.tags.iter().map(|tag| STRING + tag.len()).sum();
    let attributes: usize =
        event.attributes.iter().map(|(key, value)| 2 * STRING + key.len() + value.len()).sum();
    let all = size_of::<Entry>() + size_of::<Event>() + fields + tags + attributes;
    u32::try_from(all).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;

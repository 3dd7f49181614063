//! The entries of the index: a hash table whose keys are inside the events,
//! so that host and service are stored once.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table;

use super::index::Origin;
use crate::base::{Event, Timestamp};

/// One host and service.
pub(super) struct Entry {
    pub(super) event: Arc<Event>,
    /// The event is current up to here.
    pub(super) expires: Timestamp,
    /// Approximate bytes of the event.
    pub(super) weight: u32,
    pub(super) origin: Origin,
}

/// Host and service of an event.
type Key<'a> = (Option<&'a str>, Option<&'a str>);

pub(super) fn key(event: &Event) -> Key<'_> {
    (event.host.as_deref(), event.service.as_deref())
}

/// Entries by host and service, with the sum of their weights.
#[derive(Default)]
pub(super) struct Table {
    entries: HashTable<Entry>,
    // Keyed at random, because keys come from anybody.
    hasher: RandomState,
    weight: usize,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    pub(super) fn get(&self, wanted: Key<'_>) -> Option<&Entry> {
        self.entries.find(self.hasher.hash_one(wanted), |entry| key(&entry.event) == wanted)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// The place of this event's host and service.
    pub(super) fn slot<'a>(&'a mut self, event: &Event) -> Slot<'a> {
        let wanted = key(event);
        let hasher = &self.hasher;
        let rehash = |entry: &Entry| hasher.hash_one(key(&entry.event));
        let slot = self.entries.entry(
            hasher.hash_one(wanted),
            |entry| key(&entry.event) == wanted,
            rehash,
        );
        Slot { slot, weight: &mut self.weight }
    }

    /// Removes and returns the entries that are current no longer.
    pub(super) fn take_expired(&mut self, now: Timestamp) -> Vec<Entry> {
        let expired: Vec<Entry> = self.entries.extract_if(|entry| entry.expires < now).collect();
        self.weight -= expired.iter().map(|entry| entry.weight as usize).sum::<usize>();
        expired
    }
}

/// The place of one host and service, filled or not.
pub(super) struct Slot<'a> {
    slot: hash_table::Entry<'a, Entry>,
    weight: &'a mut usize,
}

impl Slot<'_> {
    /// What is there.
    pub(super) fn current(&self) -> Option<&Entry> {
        match &self.slot {
            hash_table::Entry::Occupied(there) => Some(there.get()),
            hash_table::Entry::Vacant(_) => None,
        }
    }

    /// Puts an entry of the same host and service there.
    pub(super) fn put(self, entry: Entry) {
        *self.weight += entry.weight as usize;
        match self.slot {
            hash_table::Entry::Occupied(mut there) => {
                *self.weight -= there.get().weight as usize;
                *there.get_mut() = entry;
            }
            hash_table::Entry::Vacant(free) => {
                free.insert(entry);
            }
        }
    }

    /// Removes what is there.
    pub(super) fn clear(self) {
        if let hash_table::Entry::Occupied(there) = self.slot {
            *self.weight -= there.remove().0.weight as usize;
        }
    }
}

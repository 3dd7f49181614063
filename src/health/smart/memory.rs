//! What disks said before: their counters for the last week, one value a day,
//! and the last answer, so that a disk that sleeps through a restart of hostd
//! is still known. Kept in `disks.json` of the state folder.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parse::{Counter, Smart};
use crate::base::Timestamp;
use crate::host::Store;

/// The file.
pub const FILE: &str = "disks.json";
const DAY: i64 = 24 * 3600;
/// Values older than this are forgotten.
const WINDOW: i64 = 8 * DAY;
/// Disks not seen for longer than this are forgotten.
const FORGOTTEN: i64 = 180 * DAY;
/// The most disks kept.
const MAX_DISKS: usize = 1024;

/// One disk's past.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// When it last answered, in seconds; exact only to a day, or to when
    /// something changed.
    pub seen: i64,
    /// What it said then.
    pub smart: Smart,
    /// Of each counter: when, how much; oldest first.
    pub samples: BTreeMap<Counter, Vec<(i64, u64)>>,
}

/// How much a counter has risen, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rise {
    /// By how much.
    pub by: u64,
    /// Seconds since it was lower.
    pub over: i64,
}

impl Record {
    /// Takes in an answer; true when it is worth keeping on disk.
    pub fn observe(&mut self, smart: &Smart, now: Timestamp) -> bool {
        let now = now.secs();
        let mut news = now - self.seen >= DAY || now < self.seen;
        let steady = |smart: &Smart| Smart { temperature: None, hours: None, ..smart.clone() };
        news |= steady(smart) != steady(&self.smart);
        self.seen = now;
        self.smart = smart.clone();
        self.samples.retain(|counter, _| smart.counters.contains_key(counter));
        for (counter, value) in &smart.counters {
            let samples = self.samples.entry(*counter).or_default();
            // It was repaired, or the clock was put back.
            if samples.last().is_some_and(|(at, last)| value < last || *at > now) {
                samples.clear();
            }
            samples.retain(|(at, _)| now - at <= WINDOW);
            if samples.last().is_none_or(|(at, _)| now - at >= DAY) {
                samples.push((now, *value));
            }
        }
        news
    }

    /// For how many whole days a counter has been watched.
    pub fn days(&self, counter: Counter, now: Timestamp) -> i64 {
        let first = self.samples.get(&counter).and_then(|samples| samples.first());
        first.map_or(0, |(at, _)| now.secs().saturating_sub(*at) / DAY)
    }

    /// Against about a day ago, else against the oldest value known.
    pub fn rise(&self, counter: Counter, now: Timestamp) -> Option<Rise> {
        let value = *self.smart.counters.get(&counter)?;
        let samples = self.samples.get(&counter)?;
        let over = |at: i64| now.secs().saturating_sub(at);
        let day = samples.iter().rev().find(|(at, _)| over(*at) >= DAY);
        let risen = |&(at, then): &(i64, u64)| {
            let by = value.checked_sub(then).filter(|by| *by > 0)?;
            Some(Rise { by, over: over(at) })
        };
        day.and_then(risen).or_else(|| samples.first().and_then(risen))
    }
}

/// Every disk's past, by serial number or world wide name.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// By key.
    pub disks: BTreeMap<String, Record>,
}

impl Memory {
    /// From the state folder; the text is why nothing is known.
    pub fn load(store: &Store) -> (Self, Option<String>) {
        let read = match store.read(FILE) {
            Ok(None) => return (Self::default(), None),
            Ok(Some(text)) => serde_json::from_str(&text).map_err(|error| error.to_string()),
            Err(error) => Err(error.why()),
        };
        match read {
            Ok(memory) => (memory, None),
            Err(why) => {
                let why = format!(
                    "what disks said before is not known: {} cannot be used: {why}; counters \
                     are watched from now on",
                    store.path(FILE).display()
                );
                (Self::default(), Some(why))
            }
        }
    }

    /// To the state folder.
    pub fn save(&mut self, store: &Store, now: Timestamp) -> Result<(), String> {
        self.disks.retain(|_, record| now.secs() - record.seen < FORGOTTEN);
        while self.disks.len() > MAX_DISKS {
            let oldest = self.disks.iter().min_by_key(|(_, record)| record.seen);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { break };
            self.disks.remove(&key);
        }
        let text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        store.write(FILE, &text).map_err(|error| crate::base::with_sources(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(count: u64) -> Smart {
        Smart { counters: [(Counter::Pending, count)].into(), ..Smart::default() }
    }

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_secs(1_795_000_000 + hours * 3600)
    }

    #[test]
    fn a_rise_is_told_against_a_day_ago_and_for_a_week() {
        let mut record = Record::default();
        assert!(record.observe(&pending(5), at(0)));
        assert_eq!(record.rise(Counter::Pending, at(0)), None);
        assert!(!record.observe(&pending(5), at(1)));
        assert!(record.observe(&pending(7), at(2)), "a change is kept");
        let rise = record.rise(Counter::Pending, at(2)).unwrap();
        assert_eq!((rise.by, rise.over), (2, 2 * 3600));
        for hour in 3..=50 {
            record.observe(&pending(8), at(hour));
        }
        // A day ago it was 8 already; two days ago it was not.
        let rise = record.rise(Counter::Pending, at(50)).unwrap();
        assert_eq!((rise.by, rise.over), (3, 50 * 3600));
        for hour in 51..=24 * 12 {
            record.observe(&pending(8), at(hour));
        }
        assert_eq!(record.rise(Counter::Pending, at(24 * 12)), None);
        assert!(record.samples[&Counter::Pending].len() <= 9);
    }

    #[test]
    fn what_was_repaired_is_forgotten() {
        let mut record = Record::default();
        record.observe(&pending(8), at(0));
        record.observe(&pending(0), at(1));
        record.observe(&pending(2), at(2));
        assert_eq!(record.rise(Counter::Pending, at(2)).unwrap().by, 2);
        // The clock was put back by a year.
        record.observe(&pending(3), at(-24 * 365));
        assert_eq!(record.rise(Counter::Pending, at(-24 * 365)), None);
    }

    #[test]
    fn it_survives_a_restart_and_a_broken_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let mut memory = Memory::default();
        memory.disks.entry("S1".into()).or_default().observe(&pending(5), at(0));
        memory.disks.entry("S0".into()).or_default().observe(&pending(5), at(-24 * 200));
        memory.save(&store, at(0)).unwrap();
        let (again, note) = Memory::load(&store);
        assert!(again.disks.keys().eq(["S1"]) && note.is_none());
        assert_eq!(again, memory);
        store.write(FILE, "{\"disks\": 7}").unwrap();
        let (none, note) = Memory::load(&store);
        assert!(none.disks.is_empty() && note.unwrap().contains("disks.json"));
    }
}

//! What is remembered of the pools over a restart, in one small file: the last
//! scrub, how full it was day by day, what has been told, and of every device
//! its counters and which disk it was.
//!
//! Pools are known by their guid, devices as in [`memory`](super::memory). The
//! file is ours, and still read as if it were not: bounded, and what makes no
//! sense in it is left out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fields::clean;
use super::model::Errors;
use crate::ask::view::VdevDiskView;
use crate::base::Timestamp;

/// The most pools remembered; those not seen for the longest go first.
const MAX_POOLS: usize = 64;
/// The most devices remembered of one pool.
pub const MAX_DEVICES: usize = 4096;
/// The most daily samples.
pub const MAX_DAYS: usize = 60;
const MAX_TOLD: usize = 64;
const MAX_PARENTS: usize = 16;

/// The file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Kept {
    /// By guid.
    #[serde(default)]
    pub pools: BTreeMap<u64, KeptPool>,
}

/// What is remembered of one pool.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct KeptPool {
    /// Its name when it was last seen; for people who read the file.
    #[serde(default)]
    pub name: String,
    /// When hostd first saw it.
    pub first: Timestamp,
    /// The day when it was last seen, in days since 1970.
    #[serde(default)]
    pub day: i64,
    /// The last scrub that ended.
    #[serde(default)]
    pub scrubbed: Option<KeptScrub>,
    /// How much was in use, at most once a day.
    #[serde(default)]
    pub space: Vec<Sample>,
    /// Standing risks and when they were first told.
    #[serde(default)]
    pub told: BTreeMap<String, Timestamp>,
    /// Its vdevs.
    #[serde(default)]
    pub devices: BTreeMap<String, KeptDevice>,
}

/// A scrub that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptScrub {
    /// When.
    pub ended: Timestamp,
    /// Errors it could not repair.
    pub errors: u64,
}

/// How much of a pool was in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// Bytes.
    pub used: u64,
}

/// A vdev.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeptDevice {
    /// Its name, for a device its path.
    #[serde(default)]
    pub name: String,
    /// Error counters.
    #[serde(default)]
    pub errors: Errors,
    /// Slow I/Os.
    #[serde(default)]
    pub slow: Option<u64>,
    /// Whether it was out of use.
    #[serde(default)]
    pub lost: bool,
    /// Which disk it was when it was last there.
    #[serde(default)]
    pub disk: Option<VdevDiskView>,
    /// What that disk hung on, from the processor outwards.
    #[serde(default)]
    pub parents: Vec<String>,
}

/// Days since 1970.
pub fn day(at: Timestamp) -> i64 {
    at.secs().div_euclid(86_400)
}

impl Kept {
    /// Reads the file; `Err` says why nothing can be made of it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut kept: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        kept.pools.values_mut().for_each(KeptPool::bound);
        kept.forget();
        Ok(kept)
    }

    /// Takes in what is known of a pool now; whether that is new.
    pub fn put(&mut self, guid: u64, pool: &KeptPool) -> bool {
        if self.pools.get(&guid) == Some(pool) {
            return false;
        }
        self.pools.insert(guid, pool.clone());
        self.forget();
        true
    }

    fn forget(&mut self) {
        while self.pools.len() > MAX_POOLS {
            let oldest = self.pools.iter().min_by_key(|(_, pool)| pool.day).map(|(guid, _)| *guid);
            let Some(oldest) = oldest else { return };
            self.pools.remove(&oldest);
        }
    }
}

impl KeptPool {
    fn bound(&mut self) {
        self.name = clean(&self.name);
        self.space.truncate(MAX_DAYS);
        self.space.sort_by_key(|sample| sample.at);
        cut(&mut self.told, MAX_TOLD);
        cut(&mut self.devices, MAX_DEVICES);
        for device in self.devices.values_mut() {
            device.name = clean(&device.name);
            device.parents.truncate(MAX_PARENTS);
            device.parents.iter_mut().for_each(|parent| *parent = clean(parent));
            if let Some(disk) = &mut device.disk {
                for text in [&mut disk.name, &mut disk.model, &mut disk.serial, &mut disk.slot] {
                    *text = clean(text).chars().take(80).collect();
                }
            }
        }
    }

    /// Takes in a scrub that has ended.
    pub fn scrub_ended(&mut self, ended: Timestamp, errors: u64, now: Timestamp) {
        // One that ends in the future would never be overdue.
        let ended = ended.min(now);
        if self.scrubbed.is_none_or(|before| before.ended <= ended) {
            self.scrubbed = Some(KeptScrub { ended, errors });
        }
    }

    /// Takes in how much is in use; kept once a day.
    pub fn sample(&mut self, used: u64, now: Timestamp) {
        let today = day(now);
        // A clock that was wrong for a while: what it dated ahead is dropped;
        // one that is far behind, as without a battery, is not believed.
        if self.space.first().is_some_and(|first| today < day(first.at)) {
            return;
        }
        self.space.retain(|sample| day(sample.at) <= today);
        if self.space.last().is_some_and(|last| day(last.at) == today) {
            return;
        }
        if self.space.len() >= MAX_DAYS {
            self.space.remove(0);
        }
        self.space.push(Sample { at: now, used });
    }

    /// Notes that a standing risk is told; since when it has been.
    pub fn tell(&mut self, what: &str, now: Timestamp) {
        if self.told.len() < MAX_TOLD {
            self.told.entry(what.to_owned()).or_insert(now);
        }
    }
}

fn cut<V>(map: &mut BTreeMap<String, V>, most: usize) {
    while map.len() > most && map.pop_last().is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn on(day: i64) -> Timestamp {
        Timestamp::from_secs(day * 86_400 + 60)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut pool = KeptPool { name: "tank".into(), first: on(1), ..KeptPool::default() };
        pool.scrub_ended(on(2), 3, on(9));
        pool.sample(10, on(9));
        pool.tell("single-device /dev/a", on(9));
        pool.devices.insert("normal 7".into(), KeptDevice { lost: true, ..KeptDevice::default() });
        let mut kept = Kept::default();
        assert!(kept.put(u64::MAX, &pool));
        assert!(!kept.put(u64::MAX, &pool), "nothing new");
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(Kept::parse(&text), Ok(kept));
        assert_eq!(Kept::parse("{}"), Ok(Kept::default()));
        assert!(Kept::parse("{\"pools\":").is_err());
    }

    #[test]
    fn a_later_scrub_wins_and_none_ends_in_the_future() {
        let mut pool = KeptPool::default();
        pool.scrub_ended(on(5), 1, on(9));
        pool.scrub_ended(on(4), 2, on(9));
        assert_eq!(pool.scrubbed, Some(KeptScrub { ended: on(5), errors: 1 }));
        pool.scrub_ended(on(50), 0, on(9));
        assert_eq!(pool.scrubbed, Some(KeptScrub { ended: on(9), errors: 0 }));
    }

    #[test]
    fn one_sample_a_day_and_wrong_clocks_do_no_harm() {
        let mut pool = KeptPool::default();
        let days = |pool: &KeptPool| pool.space.iter().map(|s| day(s.at)).collect::<Vec<_>>();
        for at in [100, 100, 101] {
            pool.sample(1, on(at));
        }
        assert_eq!(days(&pool), [100, 101]);
        pool.sample(1, on(0));
        assert_eq!(days(&pool), [100, 101], "a clock without a battery");
        pool.sample(1, on(9000));
        pool.sample(1, on(102));
        assert_eq!(days(&pool), [100, 101, 102], "a clock that was ahead");
        (103..300).for_each(|at| pool.sample(1, on(at)));
        assert_eq!((pool.space.len(), days(&pool)[0]), (MAX_DAYS, 240));
    }

    #[test]
    fn the_pool_not_seen_for_longest_is_forgotten() {
        let mut kept = Kept::default();
        for guid in 0..70 {
            let day = 1000 - i64::try_from(guid).unwrap();
            kept.put(guid, &KeptPool { day, ..KeptPool::default() });
        }
        assert_eq!(kept.pools.len(), MAX_POOLS);
        assert!(kept.pools.contains_key(&0));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = Kept::parse(&text);
        }

        #[test]
        fn any_times_are_taken(first: i64, at: i64, used: u64, errors: u64) {
            let text = format!(
                "{{\"pools\":{{\"1\":{{\"first\":{first},\"scrubbed\":{{\"ended\":{at},\
                 \"errors\":{errors}}},\"space\":[{{\"at\":{at},\"used\":{used}}}]}}}}}}"
            );
            let mut kept = Kept::parse(&text).unwrap();
            let pool = kept.pools.get_mut(&1).unwrap();
            pool.sample(used, Timestamp(first));
            pool.scrub_ended(Timestamp(first), errors, Timestamp(at));
        }
    }
}

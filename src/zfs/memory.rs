//! What has to be remembered of a pool from one reading to the next: counters,
//! because only their rise is news; how full it was, for hysteresis; which
//! devices held complete copies. Pure: times are handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::model::{Errors, Pool, Vdev};
use super::redundancy::{self, Known};

/// How long a rise of an error counter is worth a warning.
pub const NEWS: Duration = Duration::from_secs(3600);

/// Used fractions at which a level begins, and how far below it ends again.
pub const LEVELS: [f64; 3] = [0.85, 0.90, 0.95];
const HYSTERESIS: f64 = 0.02;

/// What is remembered of one pool.
#[derive(Debug, Default)]
pub struct Memory {
    guid: Option<u64>,
    devices: BTreeMap<String, Device>,
    serving: BTreeSet<String>,
    /// Devices that held complete copies before the running resilver.
    pub known: Known,
    /// How many of [`LEVELS`] the pool is above.
    pub level: usize,
}

#[derive(Debug)]
struct Device {
    errors: Errors,
    slow: Option<u64>,
    risen: Option<(Instant, Errors)>,
    slowed: Option<(Instant, u64)>,
}

/// What is new about the counters of one vdev.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct News {
    /// Errors added within [`NEWS`]; all of them when it is seen for the first time.
    pub errors: Errors,
    /// Slow I/Os added within [`NEWS`].
    pub slow: u64,
}

impl Memory {
    /// Takes in one reading.
    pub fn observe(&mut self, pool: &Pool, now: Instant) {
        if self.guid.is_some() && pool.guid.is_some() && self.guid != pool.guid {
            // Another pool of the same name.
            *self = Self::default();
        }
        self.guid = pool.guid.or(self.guid);
        self.known = redundancy::learn(pool, &self.known, &self.serving);
        self.serving = redundancy::serving(pool);
        let mut devices = BTreeMap::new();
        for top in &pool.vdevs {
            top.walk(&mut |vdev| {
                let key = key(vdev);
                let device = Device::after(self.devices.remove(&key), vdev, now);
                devices.insert(key, device);
            });
        }
        self.devices = devices;
    }

    /// Takes in how full the pool is, 0–1.
    pub fn observe_usage(&mut self, fraction: f64) {
        let above = LEVELS.iter().filter(|level| fraction >= **level).count();
        let still = LEVELS.iter().filter(|level| fraction >= **level - HYSTERESIS).count();
        self.level = self.level.clamp(above, still.max(above));
    }

    /// What is new about a vdev at `now`.
    pub fn news(&self, vdev: &Vdev, now: Instant) -> News {
        let fresh = |at: Instant| now.saturating_duration_since(at) < NEWS;
        let Some(device) = self.devices.get(&key(vdev)) else { return News::default() };
        News {
            errors: device.risen.filter(|(at, _)| fresh(*at)).map(|(_, by)| by).unwrap_or_default(),
            slow: device.slowed.filter(|(at, _)| fresh(*at)).map_or(0, |(_, by)| by),
        }
    }
}

/// A spare at work is in the tree twice, under its guid; its counters are in
/// the place where it works.
fn key(vdev: &Vdev) -> String {
    format!("{} {}", vdev.class.as_str(), vdev.key())
}

impl Device {
    fn after(before: Option<Self>, vdev: &Vdev, now: Instant) -> Self {
        let Some(mut device) = before else {
            let risen = (vdev.errors.total() > 0).then_some((now, vdev.errors));
            return Self { errors: vdev.errors, slow: vdev.slow_ios, risen, slowed: None };
        };
        let by = rise(device.errors, vdev.errors);
        let cleared = vdev.errors.total() < device.errors.total();
        if by.total() > 0 && !cleared {
            let old = device.risen.filter(|(at, _)| now.saturating_duration_since(*at) < NEWS);
            device.risen = Some((now, old.map_or(by, |(_, old)| sum(old, by))));
        } else if cleared {
            device.risen = (vdev.errors.total() > 0).then_some((now, vdev.errors));
        }
        if let (Some(old), Some(new)) = (device.slow, vdev.slow_ios)
            && new > old
        {
            let sum = device.slowed.filter(|(at, _)| now.saturating_duration_since(*at) < NEWS);
            device.slowed = Some((now, sum.map_or(0, |(_, by)| by).saturating_add(new - old)));
        }
        device.errors = vdev.errors;
        device.slow = vdev.slow_ios;
        device
    }
}

fn rise(old: Errors, new: Errors) -> Errors {
    Errors {
        read: new.read.saturating_sub(old.read),
        write: new.write.saturating_sub(old.write),
        checksum: new.checksum.saturating_sub(old.checksum),
    }
}

fn sum(a: Errors, b: Errors) -> Errors {
    Errors {
        read: a.read.saturating_add(b.read),
        write: a.write.saturating_add(b.write),
        checksum: a.checksum.saturating_add(b.checksum),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zfs::model::{Class, State};

    fn pool(read: u64, slow: u64) -> Pool {
        let mut disk = Vdev::new("/dev/sda", Class::Normal);
        disk.state = State::Online;
        disk.errors.read = read;
        disk.slow_ios = Some(slow);
        Pool { name: "tank".into(), vdevs: vec![disk], ..Pool::default() }
    }

    #[test]
    fn only_a_rise_is_news_and_only_for_an_hour() {
        let start = Instant::now();
        let mut memory = Memory::default();
        let read = |memory: &mut Memory, read, slow, minutes: u64| {
            let now = start + Duration::from_secs(minutes * 60);
            let pool = pool(read, slow);
            memory.observe(&pool, now);
            let news = memory.news(&pool.vdevs[0], now);
            (news.errors.read, news.slow)
        };
        assert_eq!(read(&mut memory, 3, 7, 0), (3, 0), "first seen: all errors, no slow I/O");
        assert_eq!(read(&mut memory, 3, 7, 59), (3, 0));
        assert_eq!(read(&mut memory, 3, 7, 61), (0, 0));
        assert_eq!(read(&mut memory, 5, 8, 62), (2, 1));
        assert_eq!(read(&mut memory, 6, 8, 63), (3, 1));
        assert_eq!(read(&mut memory, 0, 8, 64), (0, 1), "cleared");
        assert_eq!(read(&mut memory, 1, 0, 65), (1, 1));
    }

    #[test]
    fn levels_have_hysteresis() {
        let mut memory = Memory::default();
        let mut level = |fraction| {
            memory.observe_usage(fraction);
            memory.level
        };
        let seen: Vec<usize> = [0.84, 0.85, 0.84, 0.829, 0.96, 0.94, 0.92, 0.87, 0.5, 0.91]
            .into_iter()
            .map(&mut level)
            .collect();
        assert_eq!(seen, [0, 1, 1, 0, 3, 3, 2, 1, 0, 2]);
    }

    #[test]
    fn another_pool_of_the_same_name_starts_afresh() {
        let mut memory = Memory::default();
        let mut first = pool(9, 0);
        first.guid = Some(1);
        memory.observe(&first, Instant::now());
        let mut second = pool(0, 0);
        second.guid = Some(2);
        memory.observe(&second, Instant::now());
        assert_eq!(memory.news(&second.vdevs[0], Instant::now()), News::default());
    }
}

//! What has to be remembered of a pool from one reading to the next: counters,
//! because only their rise is news; how full it was, for hysteresis; which
//! devices held complete copies; how fast a scan goes. Pure: times are handed
//! in. What outlives a restart is in [`kept`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::devices::is_lost;
use super::disks::Found;
use super::kept::{self, KeptDevice, KeptPool, MAX_DEVICES};
use super::model::{Errors, Function, Pool, ScanState, State, Vdev};
use super::pace::Pace;
use super::redundancy::{self, Known};
use super::space::{self, Forecast};
use super::standing::{self, Risk};
use crate::ask::view::VdevDiskView;
use crate::base::Timestamp;
use crate::config::Levels;

/// How long a rise of an error counter is worth a warning.
pub const NEWS: Duration = Duration::from_secs(3600);

/// How many levels of use there are: the warning, halfway to critical, critical.
pub const STEPS: usize = 3;
/// How far below where it begins a level ends.
const HYSTERESIS: f64 = 0.02;

/// What is remembered of one pool.
#[derive(Debug, Default)]
pub struct Memory {
    guid: Option<u64>,
    /// Standing risks that an earlier process has told.
    told_before: BTreeSet<String>,
    recent: BTreeMap<String, Recent>,
    serving: BTreeSet<String>,
    paces: BTreeMap<String, Pace>,
    /// Devices that held complete copies before the running resilver.
    pub known: Known,
    /// How many of the [`STEPS`] the pool is above.
    pub level: usize,
    /// The used fraction where that level begins.
    pub line: f64,
    /// When it will be full.
    pub forecast: Option<Forecast>,
    /// What outlives us.
    pub kept: KeptPool,
}

/// What has lately happened to a vdev.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    risen: Option<(Instant, Errors)>,
    slowed: Option<(Instant, u64)>,
    lost: Option<Instant>,
    /// Which disk it is has been found out since we began.
    placed: bool,
}

/// What is new about the counters of one vdev.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct News {
    /// Errors added within [`NEWS`]; all of them when it is seen for the first time.
    pub errors: Errors,
    /// Slow I/Os added within [`NEWS`].
    pub slow: u64,
    /// Whether it went out of use within [`NEWS`].
    pub lost: bool,
}

impl Memory {
    /// Of a pool that an earlier process has watched.
    pub fn of(guid: u64, kept: KeptPool) -> Self {
        let mut memory = Self::default();
        memory.adopt(guid, kept);
        memory
    }

    /// The pool turns out to have this guid: of another than before nothing is
    /// left but what is kept of it.
    pub fn adopt(&mut self, guid: u64, kept: KeptPool) {
        if self.guid.is_some() {
            *self = Self::default();
        }
        self.told_before = kept.told.keys().cloned().collect();
        (self.guid, self.kept) = (Some(guid), kept);
    }

    /// The guid of the pool that this is about, once it is known.
    pub fn guid(&self) -> Option<u64> {
        self.guid
    }

    /// Takes in one reading.
    pub fn observe(&mut self, pool: &Pool, now: Instant) {
        if self.guid.is_some() && pool.guid.is_some() && self.guid != pool.guid {
            // Another pool of the same name.
            *self = Self::default();
        }
        self.guid = pool.guid.or(self.guid);
        self.known = redundancy::learn(pool, &self.known, &self.serving);
        self.serving = redundancy::serving(pool);
        self.scans(pool, now);
        let (mut recent, mut devices) = (BTreeMap::new(), BTreeMap::new());
        for top in &pool.vdevs {
            top.walk(&mut |vdev| {
                if devices.len() >= MAX_DEVICES {
                    return;
                }
                let key = key(vdev);
                let before = self.device(vdev);
                let (device, news) = after(before, self.recent.get(&key), vdev, now);
                recent.insert(key.clone(), news);
                devices.insert(key, device);
            });
        }
        (self.recent, self.kept.devices) = (recent, devices);
    }

    /// Takes in what the same reading says that has to do with dates.
    pub fn date(&mut self, pool: &Pool, now: Timestamp) {
        if self.kept.first == Timestamp::default() {
            self.kept.first = now;
        }
        self.kept.day = kept::day(now);
        self.kept.name.clone_from(&pool.name);
        if let Some(scan) = &pool.scan
            && (scan.function, scan.state) == (Function::Scrub, ScanState::Finished)
            && let Some(ended) = scan.ended
        {
            self.kept.scrub_ended(ended, scan.errors, now);
        }
        let tolerances = redundancy::tolerances(pool, &self.known);
        for risk in standing::risks(pool, &tolerances) {
            self.kept.tell(&risk.key(), now);
        }
    }

    /// Whether a standing risk has been told and is known since: for an hour,
    /// or to the process before this one.
    pub fn is_told(&self, risk: &Risk, now: Timestamp) -> bool {
        let key = risk.key();
        self.told_before.contains(&key)
            || self.kept.told.get(&key).is_some_and(|since| now.since(*since) >= NEWS)
    }

    fn scans(&mut self, pool: &Pool, now: Instant) {
        let mut before = std::mem::take(&mut self.paces);
        let mut follow = |what: &str, state, started, work| {
            if let (ScanState::Scanning, Some(work)) = (state, work) {
                let mut pace: Pace = before.remove(what).unwrap_or_default();
                pace.observe(started, work, now);
                self.paces.insert(what.to_owned(), pace);
            }
        };
        if let Some(scan) = &pool.scan {
            follow("", scan.state, scan.started, scan.work);
        }
        for rebuild in &pool.rebuilds {
            follow(&rebuild.vdev, rebuild.state, rebuild.started, rebuild.work);
        }
    }

    /// The measure of the running scrub or resilver, or with a vdev's name of
    /// its running rebuild.
    pub fn pace(&self, of: &str) -> Option<&Pace> {
        self.paces.get(of)
    }

    /// Takes in how full the pool is, 0–1, and from where on that is told.
    pub fn observe_usage(&mut self, fraction: f64, Levels { warning, critical }: Levels) {
        let lines: [f64; STEPS] = [warning, f64::midpoint(warning, critical), critical];
        let above = lines.iter().filter(|line| fraction >= **line).count();
        let still = lines.iter().filter(|line| fraction >= **line - HYSTERESIS).count();
        self.level = self.level.clamp(above, still.max(above));
        self.line = self.level.checked_sub(1).and_then(|at| lines.get(at)).copied().unwrap_or(1.0);
    }

    /// Takes in how many bytes it has and how many are in use.
    pub fn observe_space(&mut self, size: u64, used: u64, now: Timestamp) {
        self.kept.sample(used, now);
        self.forecast = space::forecast(&self.kept.space, size, used, now);
    }

    /// What is new about a vdev at `now`.
    pub fn news(&self, vdev: &Vdev, now: Instant) -> News {
        let fresh = |at: Instant| now.saturating_duration_since(at) < NEWS;
        let Some(recent) = self.recent.get(&key(vdev)) else { return News::default() };
        News {
            errors: recent.risen.filter(|(at, _)| fresh(*at)).map(|(_, by)| by).unwrap_or_default(),
            slow: recent.slowed.filter(|(at, _)| fresh(*at)).map_or(0, |(_, by)| by),
            lost: recent.lost.is_some_and(fresh),
        }
    }

    /// What was remembered of this vdev. One that is missing is named by its
    /// guid in the text form, and says its path.
    fn device(&self, vdev: &Vdev) -> Option<&KeptDevice> {
        let devices = &self.kept.devices;
        devices.get(&key(vdev)).or_else(|| {
            let was = vdev.was.as_ref()?;
            devices.values().find(|device| device.name == *was)
        })
    }

    /// Vdevs whose counters have fallen since the last reading: a person has
    /// cleared them. While a device serves, ZFS tells that by no event
    /// (`vdev_clear` in OpenZFS' `module/zfs/vdev.c`). Asked before
    /// [`Memory::observe`].
    pub fn cleared<'a>(&self, pool: &'a Pool) -> Vec<&'a Vdev> {
        let mut cleared = Vec::new();
        for top in &pool.vdevs {
            top.walk(&mut |vdev| {
                let fell = |old: &KeptDevice| {
                    let slow = vdev.slow_ios.zip(old.slow).is_some_and(|(new, old)| new < old);
                    slow || vdev.errors.total() < old.errors.total()
                };
                if self.device(vdev).is_some_and(fell) {
                    cleared.push(vdev);
                }
            });
        }
        cleared
    }

    /// Whether which disk this is has to be found out: it is not known yet, or
    /// its device is another than before. Asked before [`Memory::observe`].
    pub fn wants_disk(&self, vdev: &Vdev) -> bool {
        let placed = self.recent.get(&key(vdev)).is_some_and(|recent| recent.placed);
        let same = self.device(vdev).is_some_and(|b| !b.lost && b.name == vdev.name);
        vdev.was.is_none() && !is_lost(&vdev.state) && !(placed && same)
    }

    /// Takes in which disk a vdev is.
    pub fn found(&mut self, vdev: &Vdev, found: Found) {
        if let Some(device) = self.kept.devices.get_mut(&key(vdev)) {
            (device.disk, device.parents) = (Some(found.disk), found.parents);
            self.recent.entry(key(vdev)).or_default().placed = true;
        }
    }

    /// Which disk a vdev is, or was when it was last there.
    pub fn disk(&self, vdev: &Vdev) -> Option<&VdevDiskView> {
        self.device(vdev)?.disk.as_ref()
    }

    /// What that disk hangs on, from the processor outwards.
    pub fn parents(&self, vdev: &Vdev) -> &[String] {
        self.device(vdev).map_or(&[], |device| &device.parents)
    }
}

/// A spare at work is in the tree twice, under its guid; its counters are in
/// the place where it works.
fn key(vdev: &Vdev) -> String {
    format!("{} {}", vdev.class.as_str(), vdev.key())
}

/// A vdev after one more reading. Without a reading before, all its errors are
/// new, and its slow I/Os and its loss are old.
fn after(
    before: Option<&KeptDevice>,
    recent: Option<&Recent>,
    vdev: &Vdev,
    now: Instant,
) -> (KeptDevice, Recent) {
    let mut recent = recent.copied().unwrap_or_default();
    let mut device = KeptDevice {
        name: vdev.name.clone(),
        errors: vdev.errors,
        slow: vdev.slow_ios,
        lost: is_lost(&vdev.state),
        disk: None,
        parents: Vec::new(),
    };
    let all = (vdev.errors.total() > 0).then_some((now, vdev.errors));
    let Some(before) = before else {
        return (device, Recent { risen: all, ..recent });
    };
    device.disk.clone_from(&before.disk);
    device.parents.clone_from(&before.parents);
    if vdev.was.is_some() {
        // Its path is what it is found by.
        device.name.clone_from(&before.name);
    }
    let fresh = |at: Instant| now.saturating_duration_since(at) < NEWS;
    let by = rise(before.errors, vdev.errors);
    // `zpool clear`, or an import, which begins at 0 too.
    if vdev.errors.total() < before.errors.total() {
        recent.risen = all;
    } else if by.total() > 0 {
        let old = recent.risen.filter(|(at, _)| fresh(*at));
        recent.risen = Some((now, old.map_or(by, |(_, old)| sum(old, by))));
    }
    if let (Some(old), Some(new)) = (before.slow, vdev.slow_ios) {
        let by = if new < old { new } else { new - old };
        if by > 0 {
            let sum = recent.slowed.filter(|(at, _)| fresh(*at)).map_or(0, |(_, by)| by);
            recent.slowed = Some((now, sum.saturating_add(by)));
        }
    }
    if !device.lost {
        recent.lost = None;
    } else if !before.lost && vdev.state != State::Offline {
        // Offline is what a person did.
        recent.lost = Some(now);
    }
    (device, recent)
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
    use crate::zfs::model::Class;

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
        assert_eq!(read(&mut memory, 1, 0, 65), (1, 1), "imported anew: slow I/Os begin at 0");
        assert_eq!(read(&mut memory, 1, 2, 66), (1, 3));
    }

    #[test]
    fn levels_have_hysteresis() {
        let mut memory = Memory::default();
        let mut level = |fraction| {
            memory.observe_usage(fraction, Levels::new(0.85, 0.95));
            memory.level
        };
        let seen: Vec<usize> = [0.84, 0.85, 0.84, 0.829, 0.96, 0.94, 0.92, 0.87, 0.5, 0.91]
            .into_iter()
            .map(&mut level)
            .collect();
        assert_eq!(seen, [0, 1, 1, 0, 3, 3, 2, 1, 0, 2]);
        // The owner's.
        memory.observe_usage(0.71, Levels::new(0.5, 0.7));
        assert_eq!((memory.level, memory.line), (STEPS, 0.7));
    }

    #[test]
    fn a_counter_that_falls_was_cleared() {
        let mut memory = Memory::default();
        let mut cleared = |read, slow| {
            let pool = pool(read, slow);
            let count = memory.cleared(&pool).len();
            memory.observe(&pool, Instant::now());
            count
        };
        let seen = [(3, 0), (3, 0), (5, 2), (0, 2), (0, 0), (0, 0)];
        assert_eq!(seen.map(|(read, slow)| cleared(read, slow)), [0, 0, 0, 1, 1, 0]);
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

    #[test]
    fn counters_are_compared_over_a_restart() {
        let start = Instant::now();
        let mut memory = Memory::default();
        memory.observe(&pool(3, 7), start);
        let later = start + Duration::from_secs(60);
        let restarted = |read, slow| {
            let mut memory = Memory::of(1, memory.kept.clone());
            let pool = pool(read, slow);
            memory.observe(&pool, later);
            let news = memory.news(&pool.vdevs[0], later);
            (news.errors.read, news.slow)
        };
        assert_eq!(restarted(3, 7), (0, 0), "known already");
        assert_eq!(restarted(5, 8), (2, 1));
        assert_eq!(restarted(2, 0), (2, 0), "the machine was restarted: they count from 0");
    }

    #[test]
    fn a_loss_is_news_unless_a_person_did_it() {
        let start = Instant::now();
        let after = |state: State, minutes: u64| {
            let mut memory = Memory::default();
            let mut pool = pool(0, 0);
            memory.observe(&pool, start);
            pool.vdevs[0].state = state;
            memory.observe(&pool, start);
            memory.news(&pool.vdevs[0], start + Duration::from_secs(minutes * 60)).lost
        };
        assert!(after(State::Removed, 59) && after(State::CantOpen, 0));
        assert!(!after(State::Removed, 61) && !after(State::Offline, 0));
        let mut lost = pool(0, 0);
        lost.vdevs[0].state = State::Removed;
        let mut memory = Memory::default();
        memory.observe(&lost, start);
        assert!(!memory.news(&lost.vdevs[0], start).lost, "nobody knows since when");
    }

    #[test]
    fn a_missing_device_is_still_the_disk_that_it_was() {
        let disk = VdevDiskView { serial: "ZA1".into(), ..VdevDiskView::default() };
        let mut memory = Memory::default();
        let mut pool = pool(0, 0);
        assert!(memory.wants_disk(&pool.vdevs[0]));
        memory.observe(&pool, Instant::now());
        memory.found(&pool.vdevs[0], Found { disk: disk.clone(), parents: vec!["ata1".into()] });
        assert!(!memory.wants_disk(&pool.vdevs[0]));
        // In the text form it is named by its guid.
        let was = &mut pool.vdevs[0];
        (was.name, was.was) = ("4242".into(), Some("/dev/sda".into()));
        was.state = State::CantOpen;
        for _ in 0..2 {
            memory.observe(&pool, Instant::now());
            assert_eq!(memory.disk(&pool.vdevs[0]), Some(&disk));
            assert!(!memory.wants_disk(&pool.vdevs[0]));
        }
        assert_eq!(memory.parents(&pool.vdevs[0]), ["ata1"]);
        assert!(memory.news(&pool.vdevs[0], Instant::now()).lost);
    }
}

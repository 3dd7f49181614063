//! What is counted of the events of one pool, for ten minutes: a device that
//! makes errors at a rate is worse than one that has made as many in its life.
//! Pure: times are handed in.
//!
//! Ten I/O or checksum errors within ten minutes is where zed itself takes a
//! device for broken (`zfs_diagnosis.c`); a single I/O that is slow or hung is
//! told, as each is half a minute or more.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Counted, Event};
use crate::ask::view::FindingView;
use crate::base::{Severity, span};
use crate::zfs::devices::{finding, typed};
use crate::zfs::model::{Pool, Vdev};

/// How long an event counts. A hung I/O is told again every minute while it
/// hangs.
pub const WINDOW: Duration = Duration::from_secs(600);
/// Errors within the window that are a finding.
const MANY: usize = 10;
/// What is kept of one device; the kernel tells 20 a second of some.
const KEPT: usize = 1000;
/// Devices that are counted apart.
const DEVICES: usize = 256;

/// Counts of one pool.
#[derive(Debug, Default)]
pub struct Rates(BTreeMap<(Counted, Option<u64>), Device>);

#[derive(Debug, Default)]
struct Device {
    path: Option<String>,
    at: VecDeque<Instant>,
}

impl Rates {
    /// Counts one event that happened `ago`.
    pub fn count(&mut self, what: Counted, event: &Event, now: Instant, ago: Duration) {
        if ago >= WINDOW {
            return;
        }
        self.forget(now);
        let key = (what, event.vdev_guid);
        if self.0.len() >= DEVICES && !self.0.contains_key(&key) {
            return;
        }
        let device = self.0.entry(key).or_default();
        device.path = event.vdev_path.clone().or(device.path.take());
        if device.at.len() == KEPT {
            device.at.pop_front();
        }
        device.at.push_back(now.checked_sub(ago).unwrap_or(now));
    }

    /// The errors were cleared.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Those of one vdev were.
    pub fn cleared(&mut self, vdev: &Vdev) {
        self.0.retain(|(_, guid), device| !is_about(*guid, device.path.as_deref(), vdev));
    }

    fn forget(&mut self, now: Instant) {
        for device in self.0.values_mut() {
            device.at.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        }
        self.0.retain(|_, device| !device.at.is_empty());
    }

    /// What the counts say; `found` is what has been found already.
    pub fn findings(
        &self,
        name: &str,
        pool: Option<&Pool>,
        now: Instant,
        found: &[FindingView],
    ) -> Vec<FindingView> {
        let mut all = Vec::new();
        for ((what, guid), device) in &self.0 {
            let fresh = |at: &&Instant| now.saturating_duration_since(**at) < WINDOW;
            let count = device.at.iter().filter(fresh).count();
            let least = match what {
                Counted::Io | Counted::Checksum => MANY,
                Counted::Delay | Counted::Deadman | Counted::SitOut => 1,
            };
            if count < least {
                continue;
            }
            let name_of = |pool| named(pool, *guid, device.path.as_deref());
            let object = match (pool.and_then(name_of), &device.path) {
                (Some(name), _) => name,
                // It is in the pool no more: what it did says nothing of the rest.
                // The text form does not say guids.
                (None, _) if guid.is_some() && pool.is_some_and(says_guids) => continue,
                (None, Some(path)) => path.clone(),
                (None, None) => name.to_owned(),
            };
            let one = judged(*what, name, &object, count);
            if !found.iter().any(|f| f.code == one.code && f.object == one.object) {
                all.push(one);
            }
        }
        all
    }
}

/// Whether what was counted under a guid or path is about this vdev, which
/// has no guid in the text form.
fn is_about(guid: Option<u64>, path: Option<&str>, vdev: &Vdev) -> bool {
    match vdev.guid {
        Some(own) => guid == Some(own),
        None => path == Some(vdev.name.as_str()),
    }
}

fn says_guids(pool: &Pool) -> bool {
    pool.vdevs.iter().any(|vdev| vdev.guid.is_some())
}

/// The name in the pool's tree of the vdev that was counted so.
fn named(pool: &Pool, guid: Option<u64>, path: Option<&str>) -> Option<String> {
    let mut name = None;
    for top in &pool.vdevs {
        top.walk(&mut |vdev| {
            if is_about(guid, path, vdev) {
                name = Some(vdev.name.clone());
            }
        });
    }
    name
}

fn judged(what: Counted, pool: &str, object: &str, count: usize) -> FindingView {
    let within = span::show(WINDOW);
    let (pool, device) = (typed(pool), typed(object));
    let times = if count == 1 { "1 I/O".to_owned() } else { format!("{count} I/Os") };
    let (severity, code, message, advice) = match what {
        Counted::Io => (
            Severity::Warning,
            "io-rate",
            format!("{object} had {count} failed reads and writes within {within}"),
            format!(
                "look at its cable and SMART values; `zpool offline {pool} {device}` takes it out before it slows the pool"
            ),
        ),
        Counted::Checksum => (
            Severity::Warning,
            "checksum-rate",
            format!("{object} gave {count} blocks with a wrong checksum within {within}"),
            format!(
                "check cable, controller and memory; when only this device does it, replace it: `zpool replace {pool} {device} NEW-DISK`"
            ),
        ),
        Counted::Delay => (
            Severity::Warning,
            "slow-io",
            format!("{object} took longer than 30 s for {times} within {within}"),
            "check its SMART values: a disk that becomes slow often fails soon".to_owned(),
        ),
        Counted::Deadman => (
            Severity::Critical,
            "hung-io",
            format!(
                "{object} has I/O that does not come back: ZFS has told so {count} times within {within}"
            ),
            format!(
                "look at `dmesg` for resets of its controller; unplug or `zpool offline {pool} {device}` if the pool can do without it"
            ),
        ),
        Counted::SitOut => (
            Severity::Warning,
            "vdev-sits-out",
            format!("ZFS reads around {object}, which is much slower than its neighbours"),
            "check its SMART values; its data are made up from the others meanwhile".to_owned(),
        ),
    };
    finding(severity, code, object, message, advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zfs::model::{Class, Vdev};

    fn event(guid: u64) -> Event {
        let vdev_path = Some(format!("/dev/sd{guid}"));
        Event { vdev_guid: Some(guid), vdev_path, ..Event::default() }
    }

    fn codes(rates: &Rates, pool: Option<&Pool>, now: Instant) -> Vec<(Severity, String, String)> {
        let found = rates.findings("tank", pool, now, &[]).into_iter();
        found.map(|f| (f.severity, f.code, f.object)).collect()
    }

    #[test]
    fn a_rate_is_told_and_forgotten() {
        let (start, mut rates) = (Instant::now(), Rates::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..9 {
            rates.count(Counted::Checksum, &event(1), at(second), Duration::ZERO);
            rates.count(Counted::Checksum, &event(2), at(second), Duration::ZERO);
        }
        assert_eq!(codes(&rates, None, at(9)), []);
        rates.count(Counted::Checksum, &event(1), at(9), Duration::ZERO);
        let told = codes(&rates, None, at(9));
        assert_eq!(told, [(Severity::Warning, "checksum-rate".into(), "/dev/sd1".into())]);
        assert_eq!(codes(&rates, None, at(601)), [], "two have become old");
        for _ in 0..10 {
            rates.count(Counted::Io, &event(3), at(601), Duration::ZERO);
        }
        assert_eq!(codes(&rates, None, at(601))[0].1, "io-rate");
        rates.clear();
        assert_eq!(codes(&rates, None, at(601)), []);
    }

    #[test]
    fn what_happened_long_ago_is_not_counted() {
        let (now, mut rates) = (Instant::now() + 2 * WINDOW, Rates::default());
        rates.count(Counted::Deadman, &event(1), now, WINDOW);
        assert_eq!(codes(&rates, None, now), []);
        rates.count(
            Counted::Deadman,
            &event(1),
            now,
            WINDOW.saturating_sub(Duration::from_secs(5)),
        );
        assert_eq!(codes(&rates, None, now)[0].0, Severity::Critical);
        assert_eq!(codes(&rates, None, now + Duration::from_secs(6)), []);
    }

    #[test]
    fn the_device_is_named_as_in_the_pool_and_only_while_it_is_there() {
        let (now, mut rates) = (Instant::now(), Rates::default());
        rates.count(Counted::Delay, &event(1), now, Duration::ZERO);
        rates.count(Counted::Deadman, &Event::default(), now, Duration::ZERO);
        let mut disk = Vdev::new("/dev/disk/by-id/wwn-1", Class::Normal);
        disk.guid = Some(1);
        let mut pool = Pool { guid: Some(9), vdevs: vec![disk], ..Pool::default() };
        let told = codes(&rates, Some(&pool), now);
        assert_eq!(told[0].2, "/dev/disk/by-id/wwn-1");
        assert_eq!((told[1].1.as_str(), told[1].2.as_str()), ("hung-io", "tank"));
        // Told once: what the counters have said already is left out.
        let before = rates.findings("tank", Some(&pool), now, &[]);
        assert!(rates.findings("tank", Some(&pool), now, &before).is_empty());
        pool.vdevs[0].guid = Some(2);
        assert_eq!(codes(&rates, Some(&pool), now).len(), 1, "the disk was replaced");
        // As text, which names it by its path.
        (pool.vdevs[0].guid, pool.vdevs[0].name) = (None, "/dev/sd1".into());
        assert_eq!(codes(&rates, Some(&pool), now)[0].2, "/dev/sd1");
    }

    #[test]
    fn what_is_cleared_of_one_device_is_forgotten_of_it_alone() {
        let (now, mut rates) = (Instant::now(), Rates::default());
        for guid in [1, 2] {
            rates.count(Counted::Delay, &event(guid), now, Duration::ZERO);
        }
        let mut disk = Vdev::new("/dev/disk/by-id/wwn-1", Class::Normal);
        disk.guid = Some(1);
        rates.cleared(&disk);
        assert_eq!(codes(&rates, None, now)[0].2, "/dev/sd2");
        rates.cleared(&Vdev::new("/dev/sd2", Class::Normal));
        assert_eq!(codes(&rates, None, now), []);
    }

    #[test]
    fn it_is_bounded() {
        let (now, mut rates) = (Instant::now(), Rates::default());
        for guid in 0..2 * DEVICES as u64 {
            rates.count(Counted::Io, &event(guid), now, Duration::ZERO);
        }
        for _ in 0..2 * KEPT {
            rates.count(Counted::Io, &event(0), now, Duration::ZERO);
        }
        assert_eq!(rates.0.len(), DEVICES);
        assert!(rates.0.values().all(|device| device.at.len() <= KEPT));
    }
}

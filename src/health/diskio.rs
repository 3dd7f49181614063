//! `diskstats <disk> …`: what disks do. `/proc/diskstats`
//! (Documentation/admin-guide/iostats.rst), under riemann-diskstats' names.

use std::collections::{BTreeMap, BTreeSet};

use super::look::Look;
use super::rate::{bytes, per_second, percent, rise, rise32};
use crate::base::Severity;

/// The kernel counts in sectors of 512 bytes, whatever the disk has.
const SECTOR: f64 = 512.0;
/// The most that are told.
const MOST: usize = 128;

/// What is told of each.
const TOLD: [(&str, &str); 3] =
    [("read bytes", "bytes/s"), ("write bytes", "bytes/s"), ("io util", "fraction")];

/// Counters of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    reads: u64,
    read_sectors: u64,
    read_ms: u64,
    writes: u64,
    written_sectors: u64,
    write_ms: u64,
    busy_ms: u64,
}

/// Reads a line: the disk's name and its counters.
pub fn parse(line: &str) -> Option<(&str, Counters)> {
    let mut words = line.split_ascii_whitespace().skip(2);
    let name = words.next()?;
    let mut counts = [0; 10];
    for count in &mut counts {
        *count = words.next()?.parse().ok()?;
    }
    let [reads, _, read_sectors, read_ms, writes, _, written_sectors, write_ms, _, busy_ms] =
        counts;
    let counters =
        Counters { reads, read_sectors, read_ms, writes, written_sectors, write_ms, busy_ms };
    Some((name, counters))
}

/// What a disk did between two rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    reads: f64,
    read_bytes: f64,
    writes: f64,
    written_bytes: f64,
    /// Fraction of the time in which it had something to do.
    busy: f64,
    /// Milliseconds that a request took, on average.
    wait: Option<f64>,
}

/// Nothing when it was counted from the start again.
pub fn between(before: &Counters, now: &Counters, seconds: f64) -> Option<Rates> {
    let (reads, writes) = (rise(before.reads, now.reads)?, rise(before.writes, now.writes)?);
    let read = rise(before.read_sectors, now.read_sectors)?;
    let written = rise(before.written_sectors, now.written_sectors)?;
    let ms =
        rise32(before.read_ms, now.read_ms)?.saturating_add(rise32(before.write_ms, now.write_ms)?);
    let busy = rise32(before.busy_ms, now.busy_ms)? as f64 / 1000.0 / seconds;
    let requests = reads.saturating_add(writes);
    Some(Rates {
        reads: per_second(reads, seconds),
        read_bytes: per_second(read, seconds) * SECTOR,
        writes: per_second(writes, seconds),
        written_bytes: per_second(written, seconds) * SECTOR,
        // The two clocks differ by a tick.
        busy: busy.min(1.0),
        wait: (requests > 0).then(|| ms as f64 / requests as f64),
    })
}

/// What is remembered.
#[derive(Debug, Default)]
pub struct State {
    /// Disks: what has hardware behind it, and arrays of the kernel; not
    /// partitions, loops, RAM disks and volumes of ZFS.
    disks: BTreeSet<String>,
    unread: Option<String>,
    before: BTreeMap<String, Counters>,
    /// They are of an earlier round than the last.
    stale: bool,
}

impl State {
    fn list(&mut self, look: &Look<'_>) {
        match look.sys.list("/sys/block") {
            Ok(names) => {
                let hardware = |name: &String| {
                    name.starts_with("md") || look.sys.exists(format!("/sys/block/{name}/device"))
                };
                self.disks = names.into_iter().filter(hardware).collect();
                self.unread = None;
            }
            Err(error) => self.unread = Some(error.in_full()),
        }
    }

    /// One round.
    pub fn round(&mut self, look: &mut Look<'_>) {
        if look.anew {
            self.list(look);
        }
        if let Some(why) = &self.unread {
            look.found.notes.push(format!("disks may be missing: {why}"));
        }
        let disks = &self.disks;
        let counters = |text: &str| {
            let all = text.lines().filter_map(parse);
            let known = all.filter(|(name, _)| disks.contains(*name)).take(MOST);
            Some(known.map(|(name, counters)| (name.to_owned(), counters)).collect())
        };
        let now: BTreeMap<String, Counters> = match look.tried("diskstats", "diskstats", counters) {
            Ok(now) => now.unwrap_or_default(),
            Err(why) => {
                for name in self.before.keys() {
                    for (what, unit) in TOLD {
                        let service = format!("diskstats {name} {what}");
                        look.found.unknown(service, unit, why.clone());
                    }
                }
                self.stale = true;
                return;
            }
        };
        if let Some(seconds) = look.seconds.filter(|_| !self.stale) {
            for (name, now) in &now {
                let before = self.before.get(name);
                if let Some(rates) = before.and_then(|before| between(before, now, seconds)) {
                    tell(name, &rates, look);
                }
            }
        }
        (self.before, self.stale) = (now, false);
    }
}

fn tell(name: &str, rates: &Rates, look: &mut Look<'_>) {
    let service = |what: &str| format!("diskstats {name} {what}");
    let found = &mut *look.found;
    for (what, rate) in [("read bytes", rates.read_bytes), ("write bytes", rates.written_bytes)] {
        found.told(service(what), Severity::Ok, (rate, "bytes/s"), bytes(rate));
        found.with("device", name.to_owned());
    }
    let wait = rates.wait.map_or(String::new(), |ms| format!(", {ms:.1} ms each"));
    let message = format!(
        "{} busy; {:.0} reads and {:.0} writes a second{wait}",
        percent(rates.busy),
        rates.reads,
        rates.writes
    );
    found.told(service("io util"), Severity::Ok, (rates.busy, "fraction"), message);
    found.with("device", name.to_owned());
    found.with("reads", format!("{:.1}", rates.reads));
    found.with("writes", format!("{:.1}", rates.writes));
    if let Some(ms) = rates.wait {
        found.with("await", format!("{ms:.2}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counters_become_rates() {
        let line = "   8       0 sda 100 5 800 50 10 7 80 20 0 1000 70 1 2 3 4 5 6";
        let (name, before) = parse(line).unwrap();
        assert_eq!((name, before.reads, before.busy_ms), ("sda", 100, 1000));
        let now = Counters {
            reads: 150,
            read_sectors: 1824,
            read_ms: 150,
            writes: 60,
            written_sectors: 80,
            write_ms: 120,
            busy_ms: 3500,
        };
        let rates = between(&before, &now, 5.0).unwrap();
        assert_eq!((rates.reads, rates.read_bytes), (10.0, 1024.0 * 102.4));
        assert_eq!((rates.writes, rates.written_bytes), (10.0, 0.0));
        assert_eq!((rates.busy, rates.wait), (0.5, Some(2.0)));
        assert_eq!(between(&now, &before, 5.0), None, "another disk under this name");
        assert_eq!(between(&now, &now, 5.0).unwrap().wait, None);
        let full = Counters { busy_ms: 1 << 31, ..now };
        let over = Counters { busy_ms: 1, ..now };
        let busy = between(&full, &over, 5.0).map(|rates| rates.busy);
        assert_eq!(busy, Some(1.0), "it goes round");
        for bad in
            ["", "8 0", "8 0 sda", "8 0 sda 1 2 3 4 5 6 7 8 9", "8 0 sda x 2 3 4 5 6 7 8 9 10"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(line: String, a: [u64; 10], b: [u64; 10], seconds in 0.001f64..1e6) {
            let _ = parse(&line);
            let counters = |counts: [u64; 10]| {
                let words: Vec<String> = counts.iter().map(u64::to_string).collect();
                parse(&format!("8 0 sda {}", words.join(" "))).map(|(_, counters)| counters).unwrap()
            };
            if let Some(rates) = between(&counters(a), &counters(b), seconds) {
                prop_assert!((0.0..=1.0).contains(&rates.busy) && rates.read_bytes.is_finite());
            }
        }
    }
}

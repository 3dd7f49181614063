//! The table of hostd's own events; `docs/events.md` is generated from it.

use std::fmt::Write as _;

/// One kind of event.
pub struct Entry {
    /// Its service; `<…>` stands for a name.
    pub service: &'static str,
    /// What the metric counts, with its unit.
    pub metric: &'static str,
    /// Which states it takes and when.
    pub states: &'static str,
    /// Its attributes.
    pub attributes: &'static [&'static str],
}

/// Every event that hostd makes itself.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        service: "hostd",
        metric: "things it cannot do here",
        states: "ok; warning when something is unavailable that it should have (a system bus it \
                 may do without)",
        attributes: &[],
    },
    Entry {
        service: "hostd events",
        metric: "refused messages, events, queries and connections, and events that slow subscribers lost, in the last interval",
        states: "ok; warning above 0, with the causes",
        attributes: &[],
    },
    Entry {
        service: "hostd streams",
        metric: "events and children that the streams' bounds have cost in the last interval",
        states: "only with `streams:`: ok; warning above 0, or when steps send to an output that is not configured",
        attributes: &[],
    },
    Entry {
        service: "sink history",
        metric: "buckets that wait for the disk",
        states: "ok; warning when nothing can be written, a damaged history was moved aside, or something was left out in the last ten minutes, with the reason",
        attributes: &[],
    },
    Entry {
        service: "iommu",
        metric: "groups",
        states: "ok; warning when there are none and a card is configured",
        attributes: &[],
    },
    Entry {
        service: "gpus",
        metric: "cards",
        states: "ok; unknown when cards could not be read",
        attributes: &[],
    },
    Entry {
        service: "gpu <name>",
        metric: "1 bound to vfio-pci, 0 not",
        states: "ok; critical when something is left to resolve",
        attributes: &["device"],
    },
    Entry {
        service: "device <address>",
        metric: "none",
        states: "once, within a second of the kernel's word: ok when a PCI function has appeared, or hostd has changed its driver; warning when it has vanished, another is in its place, or somebody else has changed its driver",
        attributes: &["device", "change"],
    },
    Entry {
        service: "vm <name>",
        metric: "1 running, 0 not",
        states: "ok (off included); warning paused; unknown when QEMU does not answer; critical crashed, failed",
        attributes: &["vm", "vm-state"],
    },
    Entry {
        service: "vm <name> agent",
        metric: "1 while it speaks",
        states: "ok; warning when it has spoken and is silent; none before it has",
        attributes: &["vm"],
    },
    Entry {
        service: "vm <name> cpu",
        metric: "how busy its processors were, 0–1",
        states: "ok; only while it runs",
        attributes: &["vm"],
    },
    Entry {
        service: "vm <name> memory",
        metric: "bytes of the host's memory that it has",
        states: "ok; only while it runs",
        attributes: &["vm"],
    },
    Entry {
        service: "vm <name> disk <disk>",
        metric: "bytes read and written a second",
        states: "ok; only while it runs",
        attributes: &["vm"],
    },
    Entry {
        service: "zpool health",
        metric: "pools",
        states: "the worst pool; unknown when pools could not be read",
        attributes: &[],
    },
    Entry {
        service: "zpool <pool> health",
        metric: "failures still tolerated",
        states: "ok, warning, critical, unknown: the worst finding",
        attributes: &["pool", "pool-state", "vdev", "dependants"],
    },
    Entry {
        service: "zpool <pool> capacity",
        metric: "used fraction 0–1",
        states: "ok; warning and critical by thresholds, warning when it fills soon",
        attributes: &["pool", "full", "dependants"],
    },
    Entry {
        service: "zpool <pool> errors",
        metric: "read, write and checksum errors counted by its disks",
        states: "ok; warning while some are new",
        attributes: &["pool", "dependants"],
    },
    Entry {
        service: "zpool <pool> scan",
        metric: "fraction done 0–1",
        states: "ok; warning when it found errors",
        attributes: &["pool", "dependants"],
    },
    Entry {
        service: "zpool <pool> scrub age",
        metric: "days since the last scrub ended",
        states: "ok; warning when one is overdue",
        attributes: &["pool"],
    },
    Entry {
        service: "smart <disk>",
        metric: "degrees Celsius; none of a disk that sleeps",
        states: "ok (asleep and ignored included), warning, critical, unknown: the worst finding, with slot, serial number, model, what its pool still tolerates, and the command that replaces it; none before it was read, or where no disk can be asked (`hostd` tells why)",
        attributes: &["device", "serial", "slot", "pool", "vdev"],
    },
    Entry {
        service: "care <kind> <object>",
        metric: "none",
        states: "ok; warning when it is overdue or has failed",
        attributes: &["job-state"],
    },
    Entry {
        service: "service <name>",
        metric: "seconds that its protocol took; of a Nagios plugin its first value",
        states: "ok, warning, critical, unknown: its worst layer, and since when",
        attributes: &["layer", "restarted", "perf-<label>"],
    },
    Entry {
        service: "service <name> sessions",
        metric: "live sessions, where the service tells",
        states: "ok",
        attributes: &[],
    },
    Entry {
        service: "sink <name>",
        metric: "events that wait to be sent there",
        states: "ok; warning when the oldest has waited for 30 s, when the outbox cannot use its disk, and for five minutes after events were dropped or refused",
        attributes: &[
            "delivered",
            "again",
            "current",
            "outdated",
            "unfit",
            "refused",
            "dropped",
            "dropped-<cause>",
        ],
    },
    Entry {
        service: "sink <name> oldest",
        metric: "seconds that the oldest event has waited",
        states: "ok",
        attributes: &[],
    },
    Entry {
        service: "cpu",
        metric: "fraction of the time in which the processors were busy, 0–1",
        states: "ok; warning and critical by `health.cpu`",
        attributes: &[],
    },
    Entry {
        service: "load",
        metric: "waiting and running threads for each processor, over a minute",
        states: "ok; warning and critical by `health.load`",
        attributes: &[],
    },
    Entry {
        service: "processes",
        metric: "threads",
        states: "ok; warning and critical near the most that there can be",
        attributes: &[],
    },
    Entry {
        service: "memory",
        metric: "used fraction 0–1, without what could be freed, ZFS's cache included",
        states: "ok; warning and critical by `health.memory`",
        attributes: &[],
    },
    Entry {
        service: "swap",
        metric: "used fraction 0–1",
        states: "ok; warning and critical by `health.swap`",
        attributes: &[],
    },
    Entry {
        service: "disk <mount>",
        metric: "used fraction 0–1 of a local file system",
        states: "ok; warning and critical by `health.disk`; critical when it has become read-only; unknown when it does not answer",
        attributes: &["mount", "device"],
    },
    Entry {
        service: "inodes <mount>",
        metric: "used fraction 0–1 of its inodes",
        states: "ok; warning and critical by `health.inodes`",
        attributes: &["mount"],
    },
    Entry {
        service: "diskstats <disk> read bytes",
        metric: "bytes read a second",
        states: "ok",
        attributes: &["device"],
    },
    Entry {
        service: "diskstats <disk> write bytes",
        metric: "bytes written a second",
        states: "ok",
        attributes: &["device"],
    },
    Entry {
        service: "diskstats <disk> io util",
        metric: "fraction of the time in which it was busy, 0–1",
        states: "ok",
        attributes: &["device", "reads", "writes", "await"],
    },
    Entry {
        service: "<interface> rx bytes",
        metric: "bytes received a second",
        states: "ok",
        attributes: &["interface"],
    },
    Entry {
        service: "<interface> tx bytes",
        metric: "bytes sent a second",
        states: "ok",
        attributes: &["interface"],
    },
    Entry {
        service: "<interface> rx errs",
        metric: "broken packets received a second",
        states: "ok; warning for a minute after each",
        attributes: &["interface"],
    },
    Entry {
        service: "<interface> tx errs",
        metric: "packets a second that could not be sent",
        states: "ok; warning for a minute after each",
        attributes: &["interface"],
    },
    Entry {
        service: "<interface> rx drop",
        metric: "packets received and dropped a second",
        states: "ok",
        attributes: &["interface"],
    },
    Entry {
        service: "<interface> tx drop",
        metric: "packets to send and dropped a second",
        states: "ok",
        attributes: &["interface"],
    },
    Entry {
        service: "<interface> link",
        metric: "1 up, 0 not",
        states: "ok; warning when it was up and is not, or is slower than it was",
        attributes: &["interface", "speed"],
    },
    Entry {
        service: "hwmon <chip> <sensor>",
        metric: "degrees Celsius, or a fan's turns a minute",
        states: "ok; warning and critical by the chip's own limits, warning when a fan has turned and stands still; unknown when it cannot be read",
        attributes: &[],
    },
    Entry {
        service: "pressure cpu some",
        metric: "fraction of ten seconds in which somebody waited for a processor, 0–1",
        states: "ok",
        attributes: &[],
    },
    Entry {
        service: "pressure memory some",
        metric: "fraction in which somebody waited for memory",
        states: "ok",
        attributes: &[],
    },
    Entry {
        service: "pressure memory full",
        metric: "fraction in which everybody waited for memory",
        states: "ok; warning and critical by `health.memory-pressure`",
        attributes: &[],
    },
    Entry {
        service: "pressure io some",
        metric: "fraction in which somebody waited for disks",
        states: "ok",
        attributes: &[],
    },
    Entry {
        service: "pressure io full",
        metric: "fraction in which everybody waited for disks",
        states: "ok",
        attributes: &[],
    },
    Entry {
        service: "gpu <card> busy",
        metric: "fraction of the time in which a card of the host was busy, 0–1",
        states: "ok; none while it sleeps",
        attributes: &[],
    },
    Entry {
        service: "gpu <card> memory",
        metric: "used fraction 0–1 of its memory",
        states: "ok; none while it sleeps",
        attributes: &[],
    },
    Entry {
        service: "gpu <card> frequency",
        metric: "hertz",
        states: "ok; none while it sleeps",
        attributes: &[],
    },
    Entry { service: "uptime", metric: "seconds", states: "ok", attributes: &[] },
    Entry {
        service: "time sync",
        metric: "seconds that the clock is known to be off by",
        states: "ok; warning when nobody keeps it right",
        attributes: &["max-error"],
    },
    Entry {
        service: "file handles",
        metric: "open files",
        states: "ok; warning and critical near the most that there can be",
        attributes: &[],
    },
    Entry {
        service: "failed units",
        metric: "systemd's failed units",
        states: "ok; warning above 0",
        attributes: &[],
    },
    Entry {
        service: "pending reboot",
        metric: "1 when the machine waits for a restart, 0 not",
        states: "ok; warning when it does",
        attributes: &[],
    },
    Entry {
        service: "oom kills",
        metric: "processes killed because memory was full, since the start",
        states: "ok; critical for an hour after each",
        attributes: &[],
    },
    Entry {
        service: "memory errors <controller>",
        metric: "errors of the memory, since the start",
        states: "ok; warning for an hour after corrected ones, critical after others",
        attributes: &["corrected", "uncorrected"],
    },
];

/// The catalogue as a page.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Events\n\nGenerated from `src/state/catalogue.rs`. Every event carries `host`, the tag \
         `hostd` and a ttl of twice the interval.\n\n\
         | service | metric | states | attributes |\n|---|---|---|---|\n",
    );
    for entry in CATALOGUE {
        let attributes: Vec<_> = entry.attributes.iter().map(|a| format!("`{a}`")).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} |",
            entry.service,
            entry.metric,
            entry.states,
            attributes.join(", ")
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::view::{
        CardView, CareView, DiskStatsView, DiskView, DisksView, GpuView, GpusView, IommuView,
        JobView, KeepingView, PoolView, PoolsView, ScanView, ScrubbedView, ServiceView,
        ServicesView, SinkView, VdevView, VmState, VmStatsView, VmView,
    };
    use crate::base::{Event, Severity, Timestamp};
    use crate::pci::{Change, What};
    use crate::state::{Fact, Snapshot};

    /// Whether a service is the entry's, with one word for each `<…>`.
    fn is_of(entry: &Entry, service: &str) -> bool {
        let (pattern, words): (Vec<_>, Vec<_>) =
            (entry.service.split(' ').collect(), service.split(' ').collect());
        pattern.len() == words.len()
            && pattern.iter().zip(&words).all(|(p, w)| p.starts_with('<') || p == w)
    }

    fn everything() -> Vec<Event> {
        let now = Timestamp::from_secs(1);
        let mut snapshot = Snapshot::new("nas".into(), now, 10.0, true);
        let scan = ScanView {
            function: "scrub".into(),
            state: "scanning".into(),
            progress: Some(0.5),
            ..ScanView::default()
        };
        let facts = [
            Fact::Iommu(IommuView::default()),
            Fact::Gpus(GpusView {
                gpus: vec![GpuView {
                    name: "card".into(),
                    address: "01:00.0".parse().unwrap(),
                    model: String::new(),
                    functions: Vec::new(),
                    driver: None,
                    group: None,
                    bound: true,
                    problems: Vec::new(),
                    card: CardView::default(),
                }],
                notes: Vec::new(),
            }),
            Fact::Vm(Box::new(VmView {
                agent: Some(true),
                ..VmView::new("gaming".parse().unwrap(), VmState::Running, now, "")
            })),
            Fact::VmStats {
                name: "gaming".parse().unwrap(),
                stats: Some(VmStatsView {
                    time: now,
                    seconds: 5.0,
                    cpu: Some(0.5),
                    memory: Some(1 << 30),
                    disks: vec![DiskStatsView {
                        name: "disk0".into(),
                        read_bytes: 1.0,
                        written_bytes: 2.0,
                        reads: 1.0,
                        writes: 1.0,
                        flushes: 1.0,
                        read_seconds: None,
                        write_seconds: None,
                        flush_seconds: Some(0.001),
                    }],
                }),
            },
            Fact::Pools(PoolsView {
                pools: vec![PoolView {
                    name: "tank".into(),
                    state: "ONLINE".into(),
                    health: Severity::Ok,
                    tolerates: Some(2),
                    vdevs: vec![VdevView { name: "sda".into(), ..VdevView::default() }],
                    capacity: Some(0.4),
                    scan: Some(scan),
                    scrubbed: Some(ScrubbedView::default()),
                    fills: Some(now),
                    ..PoolView::default()
                }],
                ..PoolsView::default()
            }),
            Fact::Services(ServicesView {
                services: vec![ServiceView {
                    name: "smb".into(),
                    health: Severity::Ok,
                    layer: "protocol".into(),
                    latency: Some(0.01),
                    since: now,
                    sessions: Some(2),
                    values: [("rta".to_owned(), "0.5ms".to_owned())].into(),
                    ..ServiceView::default()
                }],
            }),
            Fact::Disks(DisksView {
                disks: vec![DiskView {
                    name: "sda".into(),
                    serial: "S1".into(),
                    slot: "slot 1".into(),
                    pool: Some("tank".into()),
                    vdev: Some("sda".into()),
                    health: Severity::Ok,
                    links: vec!["/dev/sda".into()],
                    temperature: Some(40.0),
                    ..DiskView::default()
                }],
                ..DisksView::default()
            }),
            Fact::Care(CareView {
                jobs: vec![JobView { name: "scrub tank".into(), ..JobView::default() }],
                ..CareView::default()
            }),
            Fact::History(KeepingView::default()),
            Fact::Machine(crate::health::tests::everything()),
            Fact::Sink(SinkView {
                name: "fleet".into(),
                waiting: 7,
                oldest: Some(1.5),
                counters: vec![("delivered".into(), 3), ("dropped-old".into(), 0)],
                ..SinkView::default()
            }),
            Fact::Streams(crate::state::streams::StreamsState::default()),
        ];
        let mut told = Vec::new();
        for fact in facts {
            let events = snapshot.apply(fact, now);
            assert!(!events.is_empty());
            told.extend(events);
        }
        let change = Change {
            address: "01:00.0".parse().unwrap(),
            what: What::Vanished,
            words: String::new(),
        };
        told.extend(snapshot.apply(Fact::Device { change, ours: false }, now));
        told.extend(snapshot.heartbeat(now));
        told.extend(snapshot.losses(&[("index-full", 1)], now));
        told
    }

    #[test]
    fn every_event_is_in_the_catalogue_and_every_entry_is_made() {
        let events = everything();
        for event in &events {
            let service = event.service.as_deref().unwrap();
            let entry = CATALOGUE.iter().find(|entry| is_of(entry, service));
            let entry = entry.unwrap_or_else(|| panic!("`{service}` is not in the catalogue"));
            for key in event.attributes.keys() {
                let key = match key {
                    key if key.starts_with("perf-") => "perf-<label>",
                    key if key.starts_with("dropped-") => "dropped-<cause>",
                    key => key,
                };
                assert!(entry.attributes.contains(&key), "{service}: {key}");
            }
        }
        for entry in CATALOGUE {
            let made = |e: &Event| is_of(entry, e.service.as_deref().unwrap());
            assert!(events.iter().any(made), "nothing makes `{}`", entry.service);
        }
    }
}

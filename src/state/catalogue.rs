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
        attributes: &["pool", "pool-state", "vdev"],
    },
    Entry {
        service: "zpool <pool> capacity",
        metric: "used fraction 0–1",
        states: "ok; warning and critical by thresholds",
        attributes: &["pool"],
    },
    Entry {
        service: "zpool <pool> errors",
        metric: "read, write and checksum errors counted by its disks",
        states: "ok; warning above 0",
        attributes: &["pool"],
    },
    Entry {
        service: "zpool <pool> scan",
        metric: "fraction done 0–1",
        states: "ok; warning when it found errors",
        attributes: &["pool"],
    },
    Entry {
        service: "smart <disk>",
        metric: "degrees Celsius",
        states: "ok, warning, critical, unknown: the worst finding",
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
        metric: "seconds the probe took",
        states: "ok, warning, critical, unknown: its worst layer",
        attributes: &["layer", "restarted"],
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
        JobView, PoolView, PoolsView, ScanView, ServiceView, ServicesView, VmState, VmStatsView,
        VmView,
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
                    capacity: Some(0.4),
                    scan: Some(scan),
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
                    temperature: Some(40.0),
                    ..DiskView::default()
                }],
                ..DisksView::default()
            }),
            Fact::Care(CareView {
                jobs: vec![JobView { name: "scrub tank".into(), ..JobView::default() }],
                ..CareView::default()
            }),
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
                assert!(entry.attributes.contains(&key.as_str()), "{service}: {key}");
            }
        }
        for entry in CATALOGUE {
            let made = |e: &Event| is_of(entry, e.service.as_deref().unwrap());
            assert!(events.iter().any(made), "nothing makes `{}`", entry.service);
        }
    }
}

//! Replies of a plausible machine, for the tests of this room.

mod cards;
mod history;

pub use cards::*;
pub use history::*;

use crate::ask::view::{
    CareView, DependantView, DiskStatsView, DiskView, DisksView, DoneView, EventView, EventsView,
    FindingView, HugepagesView, JobView, LayerView, LogView, MachineView, MountView, MovedView,
    PerformanceView, PinsView, PoolView, PoolsView, ReadingView, ReplayView, ReplayedView,
    ScanView, ScreenshotView, ScrubbedView, ServiceView, ServicesView, ShareView, SnapshotDiskView,
    SnapshotState, SnapshotView, SnapshotsView, StatusLine, StatusView, UsbDeviceView, UsbView,
    VdevDiskView, VdevView, VmArgvView, VmPlanView, VmProblemView, VmState, VmStatsView, VmView,
    VmsView,
};
use crate::base::{Bytes, Severity, Timestamp};
use crate::cli::view::Look;

const NOW: i64 = 1_795_000_000;

pub const LOOK: Look = Look { width: None, color: false, now: Timestamp(NOW * 1_000_000) };

fn ago(secs: i64) -> Timestamp {
    Timestamp::from_secs(NOW - secs)
}

pub fn status() -> StatusView {
    let line = |kind: &str, name: &str, health, state: &str, summary: &str| StatusLine {
        kind: kind.into(),
        name: name.into(),
        health,
        state: state.into(),
        summary: summary.into(),
    };
    StatusView {
        host: "nas".into(),
        version: "0.1.0".into(),
        started: ago(3 * 86_400 + 4 * 3_600),
        generation: 42,
        health: Severity::Critical,
        lines: vec![
            line("service", "plex", Severity::Critical, "connect", "nobody listens on port 32400"),
            line(
                "pool",
                "tank",
                Severity::Warning,
                "DEGRADED",
                "tolerates 1 more failure; 1 of 6 disks is missing",
            ),
            line(
                "gpu",
                "radeon",
                Severity::Ok,
                "bound",
                "0000:01:00.0 with its audio function, for gaming",
            ),
            line("vm", "gaming", Severity::Ok, "running", "for 3h 12m"),
            line("service", "films", Severity::Ok, "active", "SMB answers in 2 ms"),
        ],
        unavailable: vec!["SMART: smartctl is not installed".into()],
    }
}

pub fn done() -> DoneView {
    DoneView {
        changed: true,
        message: "gaming runs".into(),
        warnings: vec!["huge pages are short: 2 of 8 GiB".into()],
    }
}

fn performance() -> PerformanceView {
    PerformanceView {
        pins: Some(PinsView {
            vcpus: vec![4, 12, 5, 13, 6, 14, 7, 15],
            emulator: "0-3,8-11".into(),
            iothreads: "0-3,8-11".into(),
            host: "0-3,8-11".into(),
        }),
        governor: Some("performance".into()),
        moved: Some(MovedView { kthreads: 212, irqs: 31 }),
        cannot_move: vec![
            "8 kernel threads ksoftirqd".into(),
            "interrupts 0 (timer), 45 (nvme0q5)".into(),
        ],
        hugepages: Some(HugepagesView { pages: 8192, size: Bytes(2 << 20), added: 8192 }),
        arc_max: Some(Bytes(9 << 30)),
        paused_scrubs: vec!["tank".into()],
        stopped_services: vec!["plexmediaserver.service".into()],
    }
}

pub fn vms() -> VmsView {
    let vm = |name: &str, state, reason: &str, pid, step: &str| VmView {
        pid,
        devices: vec!["0000:01:00.0".parse().unwrap(), "0000:01:00.1".parse().unwrap()],
        step: step.into(),
        performance: (name == "gaming").then(performance),
        ..VmView::new(name.parse().unwrap(), state, ago(11_520), reason)
    };
    let stats = VmStatsView {
        time: ago(2),
        seconds: 5.0,
        cpu: Some(0.427),
        memory: Some(8_700 << 20),
        disks: vec![DiskStatsView {
            name: "disk0".into(),
            read_bytes: 52_428_800.0,
            written_bytes: 1_572_864.0,
            reads: 410.0,
            writes: 32.0,
            flushes: 4.2,
            read_seconds: Some(0.0004),
            write_seconds: None,
            flush_seconds: Some(0.0121),
        }],
    };
    VmsView {
        vms: vec![
            VmView {
                stats: Some(stats),
                ..vm("gaming", VmState::Running, "started by uid 1000", Some(4242), "")
            },
            vm("office", VmState::Preparing, "asked by uid 0", None, "binding 0000:01:00.0"),
            vm("old", VmState::Crashed, "QEMU ended by signal 11", None, ""),
        ],
    }
}

pub fn usb() -> UsbView {
    let device = |id: &str, port: &str, name: &str, driver: &str| UsbDeviceView {
        id: id.into(),
        port: port.into(),
        name: name.into(),
        serial: None,
        drivers: vec![driver.into()],
        used_by: None,
    };
    UsbView {
        devices: vec![
            UsbDeviceView {
                used_by: Some("gaming".parse().unwrap()),
                ..device("046d:c52b", "1-2.3", "Logitech USB Receiver", "usbfs")
            },
            UsbDeviceView {
                serial: Some("E0D55E6C".into()),
                ..device("0951:1666", "4-1", "Kingston DataTraveler 3.0", "usb-storage")
            },
            UsbDeviceView {
                drivers: Vec::new(),
                ..device("1234:abcd", "4-2", "USB device without a name", "")
            },
        ],
        notes: Vec::new(),
    }
}
pub fn vm_plan() -> VmPlanView {
    VmPlanView {
        steps: vec![
            "make the folder /run/hostd/vms/gaming".into(),
            "bind graphics card `radeon`".into(),
            "let the guest run".into(),
        ],
        problems: vec![VmProblemView {
            what: "there is no bridge `br0`".into(),
            next: "make it (`ip link add br0 type bridge`), or use `network: user`".into(),
        }],
        warnings: vec!["USB device 046d:c52b is not there: the guest gets it when it comes".into()],
        machine: "pc-q35-7.2".into(),
        qemu: Some("QEMU 7.2.22".into()),
    }
}

pub fn vm_argv() -> VmArgvView {
    VmArgvView {
        args: vec!["-name".into(), "debug-threads=on,guest=gaming".into(), "-S".into()],
        command: "/usr/bin/qemu-system-x86_64 \\\n  -name debug-threads=on,guest=gaming \\\n  -S"
            .into(),
    }
}

pub fn screenshot() -> ScreenshotView {
    let file = "gaming-20261118T164640.png".into();
    ScreenshotView { file, bytes: 6172, width: 720, height: 400, ..ScreenshotView::default() }
}

pub fn log() -> LogView {
    LogView {
        text: "SeaBIOS (version 1.16.3)\r\n\u{1b}[2JBooting…\n".into(),
        path: "/var/log/x".into(),
    }
}

pub fn snapshots() -> SnapshotsView {
    let disk = |path: &str, kind: &str, name: &str, used| SnapshotDiskView {
        path: path.into(),
        kind: kind.into(),
        name: name.into(),
        there: Some(true),
        size: Some(42 << 30),
        used,
    };
    let (zvol, image) = ("/dev/zvol/tank/vms/gaming", "/srv/games.qcow2");
    let before = SnapshotView {
        name: "before-update".into(),
        time: ago(2 * 86_400),
        why: "person".into(),
        state: SnapshotState::Whole,
        problem: String::new(),
        running: true,
        frozen: false,
        firmware: true,
        tpm: true,
        disks: vec![
            disk(zvol, "zvol", "tank/vms/gaming@hostd-before-update", Some(3 << 30)),
            disk(image, "qcow2", "hostd-before-update", None),
        ],
        left_out: vec!["/srv/virtio-win.iso: the guest cannot write to it".into()],
    };
    let name = "hostd-20261118T110640Z";
    let gone = SnapshotView {
        name: name.into(),
        time: ago(3_600),
        why: "before-start".into(),
        state: SnapshotState::Incomplete,
        problem: format!("somebody else has removed it from {zvol}"),
        running: false,
        disks: vec![SnapshotDiskView { there: Some(false), ..disk(zvol, "zvol", name, None) }],
        left_out: Vec::new(),
        ..before.clone()
    };
    let damaged = SnapshotView {
        name: "old".into(),
        time: Timestamp::default(),
        why: "unknown".into(),
        state: SnapshotState::Damaged,
        problem: "snapshot.json is damaged: EOF while parsing".into(),
        running: false,
        firmware: false,
        tpm: false,
        disks: Vec::new(),
        left_out: Vec::new(),
        ..before.clone()
    };
    SnapshotsView {
        vm: "gaming".parse().unwrap(),
        snapshots: vec![before, gone, damaged],
        notes: vec!["`zfs list` did not end within 7s".into()],
    }
}

pub fn pools() -> PoolsView {
    let disk = |name: &str, state: &str, checksum_errors| VdevView {
        name: name.into(),
        kind: "disk".into(),
        class: "normal".into(),
        state: state.into(),
        read_errors: 0,
        write_errors: 0,
        checksum_errors,
        tolerates: None,
        children: Vec::new(),
        disk: Some(VdevDiskView {
            name: "sdc".into(),
            model: "ST8000VN004".into(),
            serial: "ZA1".into(),
            slot: "slot 3".into(),
        }),
    };
    let raid = VdevView {
        kind: "raidz".into(),
        tolerates: Some(1),
        children: vec![
            disk("wwn-0x5000c500a1", "ONLINE", 0),
            disk("wwn-0x5000c500a2", "REMOVED", 3),
        ],
        ..disk("raidz2-0", "DEGRADED", 0)
    };
    let log = VdevView { class: "log".into(), ..disk("nvme-eui.01", "ONLINE", 0) };
    let tank = PoolView {
        name: "tank".into(),
        state: "DEGRADED".into(),
        health: Severity::Warning,
        tolerates: Some(1),
        capacity: Some(0.414),
        scan: Some(ScanView {
            function: "resilver".into(),
            state: "scanning".into(),
            progress: Some(0.337),
            errors: 0,
            started: Some(ago(3_780)),
            ended: None,
            rate: Some(412e6),
            left: Some(7_440),
        }),
        findings: vec![FindingView {
            severity: Severity::Warning,
            code: "device-missing".into(),
            object: "wwn-0x5000c500a2".into(),
            message: "is gone; one more failure is tolerated".into(),
            advice: "plug it back, or `zpool replace tank wwn-0x5000c500a2 NEW`".into(),
        }],
        vdevs: vec![raid, log],
        fills: Some(ago(-30 * 86_400)),
        scrubbed: Some(ScrubbedView { ended: ago(20 * 86_400), errors: 0 }),
        mounts: vec![MountView { dataset: "tank/media".into(), path: "/tank/media".into() }],
        dependants: vec![
            DependantView {
                kind: "share".into(),
                name: "media".into(),
                path: "/tank/media".into(),
            },
            DependantView {
                kind: "vm".into(),
                name: "gaming".into(),
                path: "/dev/zvol/tank/vm/gaming".into(),
            },
        ],
    };
    let fast = PoolView {
        name: "schnell-ä".into(),
        state: "ONLINE".into(),
        health: Severity::Ok,
        tolerates: Some(0),
        capacity: None,
        scan: Some(ScanView {
            function: "scrub".into(),
            state: "finished".into(),
            progress: Some(1.0),
            errors: 2,
            started: Some(ago(90_000)),
            ended: Some(ago(86_400)),
            ..ScanView::default()
        }),
        findings: Vec::new(),
        vdevs: vec![disk("nvme-eui.02", "ONLINE", 0)],
        ..PoolView::default()
    };
    PoolsView { pools: vec![tank, fast], ..PoolsView::default() }
}

pub fn services() -> ServicesView {
    let service = |name: &str, health, layer: &str, message: &str, advice: &str| ServiceView {
        name: name.into(),
        health,
        layer: layer.into(),
        message: message.into(),
        advice: advice.into(),
        latency: (health == Severity::Ok).then_some(0.0023),
        since: ago(500),
        kind: "smb".into(),
        layers: vec![LayerView {
            name: layer.into(),
            health,
            message: message.into(),
            since: ago(500),
        }],
        shares: vec![ShareView { name: "media".into(), path: "/tank/media".into() }],
        sessions: (health == Severity::Ok).then_some(2),
        ..ServiceView::default()
    };
    ServicesView {
        services: vec![
            service("films", Severity::Ok, "protocol", "SMB 3.1.1", ""),
            service(
                "plex",
                Severity::Critical,
                "connect",
                "refused",
                "systemctl start plexmediaserver",
            ),
        ],
    }
}

pub fn disks() -> DisksView {
    let well = DiskView {
        name: "nvme0n1".into(),
        model: "Samsung SSD 990 PRO 2TB".into(),
        serial: "S7".into(),
        size: Some(2_000_398_934_016),
        transport: "nvme".into(),
        power: "active".into(),
        health: Severity::Ok,
        temperature: Some(41.0),
        hours: Some(9_120),
        worn: Some(0.03),
        read: Some(ago(12)),
        ..DiskView::default()
    };
    let ill = DiskView {
        name: "sdc".into(),
        model: "ST8000VN004".into(),
        serial: "ZA1".into(),
        size: Some(8_001_563_222_016),
        slot: "slot 3".into(),
        transport: "sata".into(),
        power: "standby".into(),
        health: Severity::Warning,
        read: Some(ago(7_200)),
        pool: Some("tank".into()),
        vdev: Some("wwn-0x5000c500a2".into()),
        findings: vec![FindingView {
            severity: Severity::Warning,
            code: "sectors-pending".into(),
            object: "sdc".into(),
            message: "slot 3, serial ZA1, model ST8000VN004: 8 pending sectors, 3 more than a day \
                      ago; tank tolerates 1 more failure"
                .into(),
            advice: "replace it: `zpool replace tank wwn-0x5000c500a2 NEW`".into(),
        }],
        ..DiskView::default()
    };
    DisksView { disks: vec![well, ill], notes: vec!["smartctl is not installed".into()] }
}

pub fn machine() -> MachineView {
    let reading = |service: &str, health, value, unit: &str, message: &str| ReadingView {
        service: service.into(),
        health,
        value,
        unit: unit.into(),
        message: message.into(),
        ..ReadingView::default()
    };
    MachineView {
        readings: vec![
            reading("cpu", Severity::Ok, Some(0.07), "fraction", "7 % busy"),
            reading("disk /", Severity::Critical, Some(0.97), "fraction", "97 % used"),
            reading("hwmon k10temp Tctl", Severity::Unknown, None, "°C", "cannot be read"),
        ],
        notes: vec!["pressure is not in this kernel".into()],
    }
}

pub fn care() -> CareView {
    let job = JobView {
        name: "scrub tank".into(),
        kind: "scrub".into(),
        object: "tank".into(),
        health: Severity::Ok,
        state: "held".into(),
        message: "due since 2 h; held while the VM gaming runs".into(),
        policy: "every Sunday at 02:00, not while a VM or Plex plays".into(),
        last: Some(ago(20 * 86_400)),
        next: Some(ago(7_200)),
    };
    let elsewhere = JobView {
        name: "snapshots tank/media".into(),
        kind: "snapshots".into(),
        object: "tank/media".into(),
        state: "elsewhere".into(),
        message: "sanoid makes them (/etc/sanoid/sanoid.conf)".into(),
        policy: String::new(),
        last: None,
        next: None,
        ..job.clone()
    };
    CareView { jobs: vec![job, elsewhere], notes: Vec::new() }
}

pub fn replay() -> ReplayView {
    let came = |at: f64, to: &str, event: EventView| ReplayedView { at, to: to.to_owned(), event };
    let event = events().events.remove(1);
    let outputs = vec![
        came(1_795_373_300.0, "index", event.clone()),
        came(1_795_373_305.5, "publish doors", event),
    ];
    ReplayView { outputs, more: 0, refused: 2, lost: 0 }
}

pub fn events() -> EventsView {
    let event = |service: &str, state: &str, metric, description: &str| EventView {
        host: Some("nas".into()),
        service: Some(service.into()),
        state: Some(state.into()),
        description: Some(description.into()),
        metric,
        tags: vec!["hostd".into()],
        ttl: Some(10.0),
        time: Some(NOW as f64 - 3.25),
        attributes: [("vm".to_owned(), "gaming".to_owned())].into(),
    };
    EventsView {
        events: vec![
            event("vm gaming", "ok", None, "running"),
            event("zpool tank health", "warning", Some(1.0), "one more failure is tolerated"),
            EventView { host: None, time: None, ..event("door", "ajar", Some(0.5), "") },
        ],
    }
}

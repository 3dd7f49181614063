//! Replies of a plausible machine, for the tests of this room.

mod cards;

pub use cards::*;

use crate::ask::view::{
    DoneView, EventView, EventsView, FindingView, LogView, PoolView, PoolsView, ScanView,
    ScreenshotView, ServiceView, ServicesView, StatusLine, StatusView, VdevView, VmState, VmView,
    VmsView,
};
use crate::base::{Severity, Timestamp};
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

pub fn vms() -> VmsView {
    let vm = |name: &str, state, reason: &str, pid, step: &str| VmView {
        pid,
        devices: vec!["0000:01:00.0".parse().unwrap(), "0000:01:00.1".parse().unwrap()],
        step: step.into(),
        ..VmView::new(name.parse().unwrap(), state, ago(11_520), reason)
    };
    VmsView {
        vms: vec![
            vm("gaming", VmState::Running, "started by uid 1000", Some(4242), ""),
            vm("office", VmState::Preparing, "asked by uid 0", None, "binding 0000:01:00.0"),
            vm("old", VmState::Crashed, "QEMU ended by signal 11", None, ""),
        ],
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
        }),
        findings: vec![FindingView {
            severity: Severity::Warning,
            code: "device-missing".into(),
            object: "wwn-0x5000c500a2".into(),
            message: "is gone; one more failure is tolerated".into(),
            advice: "plug it back, or `zpool replace tank wwn-0x5000c500a2 NEW`".into(),
        }],
        vdevs: vec![raid, log],
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
        }),
        findings: Vec::new(),
        vdevs: vec![disk("nvme-eui.02", "ONLINE", 0)],
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

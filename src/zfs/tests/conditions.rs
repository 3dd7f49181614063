//! Rows of the table of conditions, one test each where they can be judged
//! from one reading; rises are in `memory`, absence and hangs in `observer`.

use serde_json::{Value, json};

use super::*;

fn changed(capture: &str, change: impl FnOnce(&mut Value)) -> PoolView {
    let mut document: Value = serde_json::from_str(capture).unwrap();
    let pool = document["pools"].as_object_mut().unwrap().values_mut().next().unwrap();
    change(pool);
    judged(&document.to_string())
}

/// A raidz1 (tolerates one) or raidz2 with one member in this state.
fn with_member(parity: u8, row: &str) -> PoolView {
    let top = format!("  raidz{parity}-0 DEGRADED");
    let rows = [&top, "    /dev/a ONLINE", "    /dev/b ONLINE", "    /dev/c ONLINE", row];
    judged(&text("DEGRADED", "", &rows))
}

#[test]
fn lost_devices_are_as_bad_as_what_is_left() {
    for (row, code, says, types) in [
        ("    77 UNAVAIL was /dev/sdx1", "device-missing", "was /dev/sdx1", "zpool online tank 77"),
        (
            "    /dev/d UNAVAIL cannot open",
            "device-missing",
            "is missing",
            "zpool online tank /dev/d",
        ),
        (
            "    /dev/d UNAVAIL invalid label",
            "label-bad",
            "label",
            "zpool replace tank /dev/d NEW-DISK",
        ),
        (
            "    /dev/d FAULTED corrupted data",
            "label-bad",
            "label",
            "zpool replace tank /dev/d NEW-DISK",
        ),
        (
            "    /dev/d FAULTED 9 0 0  too many errors",
            "device-faulted",
            "9 read",
            "zpool clear tank",
        ),
        (
            "    /dev/d FAULTED external device fault",
            "device-faulted",
            "outside",
            "zpool clear tank",
        ),
        ("    /dev/d OFFLINE", "device-offline", "by a person", "zpool online tank /dev/d"),
        ("    /dev/d REMOVED", "device-removed", "dropped off", "zpool online tank /dev/d"),
    ] {
        let pool = with_member(2, row);
        assert_eq!(codes(&pool), [(Severity::Warning, code)], "{row}");
        let finding = found(&pool, code);
        assert!(finding.message.contains(says) && finding.advice.contains(types), "{finding:?}");
        assert!(finding.message.contains("raidz2-0 still tolerates 1 failure"), "{finding:?}");
        let pool = with_member(1, row);
        assert_eq!(codes(&pool), [(Severity::Critical, code)], "{row}");
        assert!(found(&pool, code).message.contains("tolerates no further failure"));
    }
}

#[test]
fn a_wiped_device_is_there_and_has_no_label() {
    // Nothing about the device itself tells it from one that is gone.
    for capture in [
        include_str!("../../../tests/fixtures/zpool/42-wiped.json"),
        include_str!("../../../tests/fixtures/zpool/42-wiped.txt"),
    ] {
        let pool = judged(capture);
        let finding = found(&pool, "label-bad");
        assert!(
            finding.message.contains("label (was /vdevs/f1): it was overwritten"),
            "{finding:?}"
        );
        assert!(!codes(&pool).iter().any(|(_, code)| *code == "device-missing"));
    }
    let both = judged(include_str!("../../../tests/fixtures/zpool/43-wiped-and-missing.json"));
    assert_eq!(codes(&both).iter().filter(|(_, code)| *code == "device-missing").count(), 2);
}

#[test]
fn a_degraded_leaf_is_a_warning_and_serves() {
    let pool = with_member(1, "    /dev/d DEGRADED 0 0 42  too many errors");
    assert_eq!((pool.tolerates, pool.health), (Some(1), Severity::Warning));
    assert!(found(&pool, "device-degraded").message.contains("42 checksum"));
}

#[test]
fn errors_on_one_and_on_several() {
    let pool = with_member(2, "    /dev/d ONLINE 0 0 3");
    assert!(found(&pool, "device-errors").message.contains("3 checksum errors"));
    assert!(!codes(&pool).iter().any(|(_, code)| *code == "errors-on-several-devices"));
    let rows = ["  mirror-0 ONLINE", "    /dev/a ONLINE 0 0 3", "    /dev/b ONLINE 0 1 0"];
    let pool = judged(&text("ONLINE", "", &rows));
    assert!(found(&pool, "errors-on-several-devices").message.contains("cable"));
}

#[test]
fn data_errors_are_critical() {
    let pool = changed(HEALTHY, |pool| pool["error_count"] = json!(3));
    assert_eq!(codes(&pool), [(Severity::Critical, "data-errors")]);
    let pool = changed(HEALTHY, |pool| {
        pool.as_object_mut().unwrap().remove("error_count");
    });
    assert_eq!(codes(&pool), [(Severity::Unknown, "errors-unknown")]);
}

#[test]
fn suspension_and_its_reasons() {
    for (msgid, says) in [("HC", "wait"), ("JQ", "fail with an error"), ("MM", "another machine")] {
        let pool = changed(HEALTHY, |pool| {
            pool["state"] = json!("SUSPENDED");
            pool["msgid"] = json!(format!("ZFS-8000-{msgid}"));
        });
        let finding = found(&pool, "pool-suspended");
        assert_eq!((pool.health, finding.severity), (Severity::Critical, Severity::Critical));
        assert_eq!((pool.tolerates, pool.vdevs[0].tolerates), (Some(0), Some(0)));
        assert!(finding.message.contains(says) && finding.advice.contains("zpool clear tank"));
    }
}

#[test]
fn states_of_the_pool() {
    for (state, severity, code) in [
        ("FAULTED", Severity::Critical, "pool-faulted"),
        ("UNAVAIL", Severity::Critical, "pool-faulted"),
        ("DEGRADED", Severity::Warning, "pool-degraded"),
        ("TRANSITIONING", Severity::Unknown, "pool-state-unknown"),
        ("SHINY", Severity::Unknown, "pool-state-unknown"),
        ("", Severity::Unknown, "pool-state-unknown"),
    ] {
        let pool = changed(HEALTHY, |pool| pool["state"] = json!(state));
        assert_eq!(codes(&pool), [(severity, code)], "{state}");
    }
}

#[test]
fn a_vdev_beyond_repair() {
    let rows =
        ["  mirror-0 UNAVAIL insufficient replicas", "    /dev/a UNAVAIL", "    /dev/b UNAVAIL"];
    let pool = judged(&text("UNAVAIL", "", &rows));
    assert_eq!(
        (found(&pool, "vdev-failed").severity, pool.tolerates),
        (Severity::Critical, Some(0))
    );
}

#[test]
fn spares() {
    let base = ["  raidz1-0 DEGRADED", "    /dev/a ONLINE", "    /dev/b ONLINE"];
    let pair =
        ["    spare-2 DEGRADED", "      /dev/c FAULTED too many errors", "      /dev/s ONLINE"];
    let pool = |spares: &[&str]| {
        let rows = [&base[..], &pair, &["spares"], spares].concat();
        judged(&text("DEGRADED", "", &rows))
    };
    let left = pool(&["  /dev/s INUSE  currently in use", "  /dev/t AVAIL"]);
    assert!(
        found(&left, "spare-in-use")
            .message
            .contains("/dev/s stands in for /dev/c in raidz1-0, which tolerates 1 failure")
    );
    assert!(!codes(&left).iter().any(|(_, code)| *code == "no-spares-left"));
    let none = pool(&["  /dev/s INUSE  currently in use", "  /dev/t UNAVAIL  cannot open"]);
    assert_eq!(found(&none, "no-spares-left").severity, Severity::Warning);
    assert_eq!(found(&none, "spare-lost").object, "/dev/t");
    let other = judged(&text(
        "ONLINE",
        "",
        &[
            "  mirror-0 ONLINE",
            "    /dev/a ONLINE",
            "    /dev/b ONLINE",
            "spares",
            "  /dev/s INUSE  in use by pool 'dark'",
        ],
    ));
    assert!(found(&other, "spare-in-use").message.contains("another pool"));
}

#[test]
fn scans() {
    let scan = |function: &str, state: &str, pause: u64, errors: u64| {
        changed(HEALTHY, |pool| {
            pool["scan_stats"] = json!({"function": function, "state": state, "errors": errors,
                "start_time": 1_795_000_000, "end_time": 0, "to_examine": 100, "skipped": 0,
                "issued": 25, "scrub_pause": pause});
        })
    };
    assert_eq!(codes(&scan("SCRUB", "SCANNING", 0, 0)), [(Severity::Ok, "scrub-running")]);
    let paused = scan("SCRUB", "SCANNING", 1_795_000_001, 0);
    assert_eq!(codes(&paused), [(Severity::Warning, "scrub-paused")]);
    assert_eq!(paused.scan.unwrap().state, "paused");
    assert_eq!(codes(&scan("SCRUB", "FINISHED", 0, 2)), [(Severity::Warning, "scrub-errors")]);
    assert_eq!(
        codes(&scan("RESILVER", "FINISHED", 0, 2)),
        [(Severity::Warning, "resilver-errors")]
    );
    assert_eq!(codes(&scan("SCRUB", "CANCELED", 0, 0)), []);
    let running = scan("RESILVER", "SCANNING", 0, 0);
    assert_eq!(codes(&running), [(Severity::Ok, "resilver-running")]);
    assert!(
        found(&running, "resilver-running").message.contains("25.0 %; while it runs 1 failure")
    );
}

#[test]
fn how_full() {
    let full = |percent: u64| {
        changed(HEALTHY, |pool| {
            pool["vdevs"]["tank"]["alloc_space"] = json!(percent);
            pool["vdevs"]["tank"]["total_space"] = json!(100);
        })
    };
    assert_eq!(codes(&full(84)), []);
    assert_eq!(codes(&full(85)), [(Severity::Warning, "capacity-high")]);
    assert!(found(&full(91), "capacity-high").message.contains("above 90 %"));
    assert_eq!(codes(&full(95)), [(Severity::Critical, "capacity-critical")]);
}

#[test]
fn logs_and_caches() {
    let rows = [
        "  mirror-0 ONLINE",
        "    /dev/a ONLINE",
        "    /dev/b ONLINE",
        "logs",
        "  /dev/l FAULTED too many errors",
        "cache",
        "  /dev/m UNAVAIL cannot open",
    ];
    let pool = judged(&text("DEGRADED", "", &rows));
    assert_eq!(codes(&pool), [(Severity::Warning, "log-lost"), (Severity::Ok, "cache-lost")]);
    let bad = changed(HEALTHY, |pool| {
        pool["msgid"] = json!("ZFS-8000-K4");
        pool["status"] = json!("An intent log record could not be read.\n");
    });
    assert_eq!(codes(&bad), [(Severity::Warning, "log-lost")]);
}

#[test]
fn single_devices_are_a_standing_risk() {
    let pool = judged(&text("ONLINE", "", &["  /dev/a ONLINE", "  /dev/b ONLINE"]));
    assert_eq!(codes(&pool), [(Severity::Warning, "single-device")]);
    assert!(found(&pool, "single-device").advice.contains("zpool attach tank /dev/a NEW-DISK"));
    // Its loss is no risk any more but a fact.
    let rows = [
        "  mirror-0 ONLINE",
        "    /dev/a ONLINE",
        "    /dev/b ONLINE",
        "special",
        "  /dev/s REMOVED",
    ];
    let pool = judged(&text("UNAVAIL", "", &rows));
    assert_eq!(found(&pool, "device-removed").severity, Severity::Critical);
    let rows =
        ["  mirror-0 ONLINE", "    /dev/a ONLINE", "    /dev/b ONLINE", "dedup", "  /dev/s ONLINE"];
    assert_eq!(
        codes(&judged(&text("ONLINE", "", &rows))),
        [(Severity::Warning, "dedup-single-device")]
    );
}

#[test]
fn notices_of_zfs() {
    for (msgid, code) in [("EY", "hostid-mismatch"), ("ER", "errata"), ("ZZ", "pool-notice")] {
        let pool = changed(HEALTHY, |pool| pool["msgid"] = json!(format!("ZFS-8000-{msgid}")));
        assert_eq!(codes(&pool), [(Severity::Warning, code)]);
    }
    // That features are off is not worth a word.
    let pool = changed(HEALTHY, |pool| {
        pool["status"] =
            json!("Some supported and requested features are not enabled on the pool.");
    });
    assert_eq!(codes(&pool), []);
}

#[test]
fn what_is_only_to_know() {
    let rows = [
        "  mirror-0 ONLINE",
        "    /dev/a ONLINE 0 0 0  block size: 512B configured, 4096B native",
        "    /dev/b ONLINE",
    ];
    let pool = judged(&text("ONLINE", "", &rows));
    assert_eq!(codes(&pool), [(Severity::Ok, "ashift-mismatch")]);
    assert_eq!(pool.health, Severity::Ok);
}

#[test]
fn what_was_not_understood_is_told() {
    let pool = with_member(2, "    /dev/d ONLINE 0 0 0  glowing in the dark");
    assert!(found(&pool, "status-unparsed").message.contains("glowing in the dark"));
    let pool = with_member(2, "    /dev/d WOBBLY");
    assert_eq!(pool.health, Severity::Unknown);
    assert_eq!(found(&pool, "device-state-unknown").object, "/dev/d");
}

#[test]
fn commands_are_quoted_for_the_shell() {
    let pool = with_member(2, "    /dev/$(reboot) OFFLINE");
    assert!(found(&pool, "device-offline").advice.contains("zpool online tank '/dev/$(reboot)'"));
}

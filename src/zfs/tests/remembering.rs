//! What is remembered from one reading to the next and over a restart: scrubs,
//! risks that were told, disks that are gone, how full and how fast.

use std::time::Duration;

use serde_json::{Value, json};

use super::observer::Lab;
use super::*;
use crate::config::Pools;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const STATUS: &str = "zpool status -j --json-int tank";
/// The time on the fake machine's clock at first.
const START: i64 = 1_795_000_000;

/// The healthy pool, changed.
fn status(change: impl FnOnce(&mut Value)) -> String {
    let mut document: Value = serde_json::from_str(HEALTHY).unwrap();
    change(&mut document["pools"]["tank"]);
    document.to_string()
}

fn scan(function: &str, state: &str, ended: i64, errors: u64, issued: u64) -> String {
    status(|pool| {
        pool["scan_stats"] = json!({"function": function, "state": state, "errors": errors,
            "start_time": START - 7200, "end_time": ended, "to_examine": 1u64 << 30,
            "skipped": 0, "issued": issued, "scrub_pause": 0});
    })
}

/// The healthy pool with these devices instead.
fn with_disks(disks: &[(&str, u64, &str)]) -> String {
    status(|pool| {
        let of = |(path, guid, state): &(&str, u64, &str)| {
            let disk = json!({"name": path, "path": path, "vdev_type": "disk", "guid": guid,
                "state": state, "read_errors": 0, "write_errors": 0, "checksum_errors": 0});
            ((*path).to_owned(), disk)
        };
        let disks: serde_json::Map<String, Value> = disks.iter().map(of).collect();
        pool["vdevs"]["tank"]["vdevs"] = Value::Object(disks);
    })
}

/// The healthy pool without sizes, so that those of the list count.
fn sizeless() -> String {
    status(|pool| {
        let root = pool["vdevs"]["tank"].as_object_mut().unwrap();
        root.retain(|key, _| key != "total_space" && key != "alloc_space");
    })
}

fn list(alloc: u64, more: &str) -> String {
    format!("tank\t1000\t{alloc}\t0\t1\t5\tONLINE\t10044224727666098230{more}\n")
}

#[tokio::test]
async fn the_last_scrub_survives_a_resilver_and_a_restart() {
    let mut lab = Lab::new();
    let ended = START - 3600;
    lab.zpool.says(STATUS, &scan("SCRUB", "FINISHED", ended, 2, 0));
    let scrubbed = lab.tank().await.scrubbed.unwrap();
    assert_eq!((scrubbed.ended.secs(), scrubbed.errors), (ended, 2));
    lab.zpool.says(STATUS, &scan("RESILVER", "FINISHED", START, 0, 0));
    assert_eq!(lab.later(HOUR).await.scrubbed, Some(scrubbed.clone()));
    lab.restart().await;
    assert_eq!(lab.tank().await.scrubbed, Some(scrubbed.clone()));
    // One that was given up is none.
    lab.zpool.says(STATUS, &scan("SCRUB", "CANCELED", START + 9, 0, 0));
    assert_eq!(lab.later(HOUR).await.scrubbed, Some(scrubbed));
    // Another pool of that name was not scrubbed.
    lab.zpool.says(STATUS, &status(|pool| pool["pool_guid"] = json!(7)));
    assert_eq!(lab.later(HOUR).await.scrubbed, None);
}

#[tokio::test]
async fn a_scrub_is_overdue_after_35_days() {
    let mut lab = Lab::new();
    lab.zpool.says(STATUS, &scan("SCRUB", "FINISHED", START - 60, 0, 0));
    assert_eq!(lab.later(34 * DAY).await.health, Severity::Ok);
    let tank = lab.later(DAY).await;
    assert_eq!(codes(&tank), [(Severity::Warning, "scrub-overdue")]);
    let finding = found(&tank, "scrub-overdue");
    assert!(finding.message.contains("35 days ago, on 2026-11-18"), "{finding:?}");
    assert_eq!(finding.advice, "`hostctl pool scrub start tank`");
    lab.zpool.says(STATUS, &scan("SCRUB", "SCANNING", 0, 0, 5));
    assert_eq!(codes(&lab.later(HOUR).await), [(Severity::Ok, "scrub-running")]);
}

#[tokio::test]
async fn a_pool_never_scrubbed_counts_from_when_it_was_first_seen() {
    let mut lab = Lab::new();
    assert_eq!(lab.tank().await.health, Severity::Ok);
    assert_eq!(lab.later(34 * DAY).await.health, Severity::Ok);
    lab.restart().await;
    let tank = lab.later(2 * DAY).await;
    assert!(found(&tank, "scrub-overdue").message.contains("has not been scrubbed in the 36 days"));
    let mut off = Lab::with(Pools { scrub_overdue: None, ..Pools::default() });
    off.tank().await;
    assert_eq!(off.later(400 * DAY).await.health, Severity::Ok);
}

#[tokio::test]
async fn a_risk_by_layout_is_told_once_and_its_loss_again() {
    let mut lab = Lab::new();
    let single = [(Severity::Warning, "single-device")];
    let known = [(Severity::Ok, "single-device")];
    lab.zpool.says(STATUS, &with_disks(&[("/dev/a", 1, "ONLINE")]));
    assert_eq!(codes(&lab.tank().await), single);
    assert_eq!(codes(&lab.later(HOUR.saturating_sub(Duration::from_secs(10))).await), single);
    let tank = lab.later(Duration::from_secs(10)).await;
    assert_eq!((codes(&tank).as_slice(), tank.health), (&known[..], Severity::Ok));
    assert_eq!(tank.tolerates, Some(0));
    lab.restart().await;
    assert_eq!(codes(&lab.tank().await), known, "to the process before");
    // One more such device is another risk.
    let both = with_disks(&[("/dev/a", 1, "ONLINE"), ("/dev/b", 2, "ONLINE")]);
    lab.zpool.says(STATUS, &both);
    assert_eq!(codes(&lab.later(HOUR).await), single);
    let lost = with_disks(&[("/dev/a", 1, "ONLINE"), ("/dev/b", 2, "REMOVED")]);
    lab.zpool.says(STATUS, &lost);
    assert_eq!(codes(&lab.later(2 * HOUR).await)[0], (Severity::Critical, "device-removed"));
}

#[tokio::test]
async fn a_lost_disk_is_named_by_slot_and_serial_also_after_a_restart() {
    let mut lab = Lab::new();
    let hba = "/sys/devices/pci0000:00/0000:03:00.0";
    lab.fake.file(&format!("{hba}/class"), "0x010700\n").unwrap();
    for (name, port) in [("sda", 1), ("sdb", 2)] {
        let place = format!("{hba}/host0/port-0:{port}");
        lab.fake.file(&format!("{place}/model"), "ST8000\n").unwrap();
        lab.fake.file(&format!("{place}/serial"), format!("ZA{port}\n")).unwrap();
        lab.fake.dir(&format!("{place}/enclosure_device:{port}")).unwrap();
        lab.fake.dir(&format!("{place}/block/{name}")).unwrap();
        lab.fake.link(&format!("{place}/block/{name}/device"), &place).unwrap();
        let target = format!("{place}/block/{name}");
        lab.fake.link(&format!("/sys/class/block/{name}"), &target).unwrap();
        lab.fake.file(&format!("/dev/{name}"), "").unwrap();
    }
    let state = |state| with_disks(&[("/dev/sda", 1, state), ("/dev/sdb", 2, state)]);
    lab.zpool.says(STATUS, &state("ONLINE"));
    let disk = lab.tank().await.vdevs[1].disk.clone().unwrap();
    assert_eq!((disk.name.as_str(), disk.slot.as_str()), ("sdb", "slot 2"));
    lab.restart().await;
    lab.fake.remove("/dev/sdb").unwrap();
    lab.fake.remove("/dev/sda").unwrap();
    lab.zpool.says(STATUS, &state("REMOVED"));
    let tank = lab.tank().await;
    assert_eq!(tank.vdevs[1].disk, Some(disk));
    let lost = tank.findings.iter().find(|finding| finding.object == "/dev/sdb").unwrap();
    assert!(lost.message.starts_with("/dev/sdb (slot 2, serial ZA2, model ST8000) was pulled"));
    let both = found(&tank, "errors-on-several-devices");
    let says = "were lost at once, and both hang on 0000:03:00.0 (SAS controller): rather a cable";
    assert!(both.message.contains(says), "{both:?}");
    assert!(both.advice.starts_with("check 0000:03:00.0 (SAS controller), its cables"));
}

#[tokio::test]
async fn what_is_left_of_a_scan_is_measured() {
    let mut lab = Lab::new();
    let mib = 1u64 << 20;
    lab.zpool.says(STATUS, &scan("RESILVER", "SCANNING", 0, 0, 0));
    assert_eq!(lab.tank().await.scan.unwrap().left, None);
    lab.zpool.says(STATUS, &scan("RESILVER", "SCANNING", 0, 0, 100 * mib));
    let tank = lab.later(Duration::from_secs(9)).await;
    let scan_view = tank.scan.clone().unwrap();
    assert_eq!((scan_view.rate, scan_view.left), (Some((10 * mib) as f64), Some(92)));
    let message = &found(&tank, "resilver-running").message;
    assert!(message.contains("resilvers at 9.8 %, about 1m 32s left; while"), "{message}");
    lab.zpool.says(STATUS, &scan("RESILVER", "FINISHED", START, 0, 0));
    assert_eq!(lab.later(HOUR).await.scan.unwrap().left, None);
    // A sequential rebuild has a measure of its own.
    let rebuild = |issued: u64| {
        status(|pool| {
            let stats = json!({"state": "ACTIVE", "start_time": START, "end_time": 0,
                "to_scan": 1000 * mib, "scanned": 900 * mib, "issued": issued, "errors": 0,
                "pass_skipped": 0});
            pool["scan_stats"] = json!({"rebuild_stats": {"raidz2-0": stats}});
        })
    };
    lab.zpool.says(STATUS, &rebuild(0));
    lab.later(HOUR).await;
    lab.zpool.says(STATUS, &rebuild(100 * mib));
    let scan = lab.later(Duration::from_secs(9)).await.scan.unwrap();
    assert_eq!((scan.progress, scan.left), (Some(0.1), Some(90)));
}

#[tokio::test]
async fn the_day_it_is_full_is_foretold_and_remembered() {
    let mut lab = Lab::new();
    lab.zpool.says(STATUS, &sizeless());
    for day in 0..5 {
        lab.zpool.says("zpool list", &list(500 + 20 * day, ""));
        let tank = lab.later(DAY).await;
        assert_eq!(tank.fills.is_some(), day >= 3, "day {day}");
    }
    lab.restart().await;
    let tank = lab.tank().await;
    // 420 are free, 20 are taken a day.
    let left = tank.fills.unwrap().secs() - START - 5 * 86_400;
    assert_eq!((left + 43_200) / 86_400, 21);
    let finding = found(&tank, "fills-soon");
    assert_eq!((finding.severity, tank.health), (Severity::Warning, Severity::Warning));
    assert!(finding.message.contains("as in the last 4 days"), "{finding:?}");
    lab.zpool.says("zpool list", &list(860, ""));
    let full = lab.later(HOUR).await;
    let message = &found(&full, "capacity-high").message;
    assert!(
        message.contains("if it fills as in the last 4 days, it is full on 2026-"),
        "{message}"
    );
}

#[tokio::test]
async fn keys_and_tables() {
    let mut lab = Lab::new();
    lab.fake.file("/proc/meminfo", "MemTotal:  1048576 kB\nMemFree: 1 kB\n").unwrap();
    lab.restart().await;
    let gib = 1u64 << 30;
    let says = |size: u64, quota: &str| list(1, &format!("\t{size}\t{quota}\tactive"));
    lab.zpool.says("zpool list", &says(gib / 3, "auto"));
    lab.zpool.says("zfs list -Hp -r", "tank\t-\t-\ntank/safe\ttank/safe\tunavailable\n");
    let tank = lab.tank().await;
    assert_eq!(
        codes(&tank),
        [(Severity::Warning, "keys-not-loaded"), (Severity::Ok, "dedup-memory")]
    );
    let finding = found(&tank, "keys-not-loaded");
    assert_eq!(finding.object, "tank/safe");
    assert!(finding.advice.contains("zfs load-key tank/safe"));
    // Asked at most every ten minutes.
    lab.zpool.asked();
    let keys = |lab: &Lab| lab.zpool.asked().iter().any(|c| c.starts_with("zfs list"));
    lab.later(Duration::from_secs(590)).await;
    assert!(!keys(&lab));
    lab.zpool.says("zpool list", &says(gib, "1100000000"));
    lab.zpool.says("zfs list -Hp -r", "rubbish\n");
    // The list is asked every five minutes.
    let tank = lab.later(Duration::from_secs(310)).await;
    assert!(keys(&lab));
    let mut found = codes(&tank);
    found.sort_unstable_by_key(|(_, code)| *code);
    assert_eq!(
        found,
        [
            (Severity::Warning, "dedup-memory"),
            (Severity::Warning, "dedup-table"),
            (Severity::Unknown, "keys-unknown"),
        ]
    );
    lab.zpool.says("zfs list -Hp -r", "tank/safe\ttank/safe\tavailable\n");
    lab.zpool.says("zpool list", &says(0, "none"));
    assert_eq!(lab.later(HOUR).await.health, Severity::Ok);
}

#[tokio::test]
async fn a_version_without_these_columns_is_asked_for_the_old_ones() {
    let mut lab = Lab::new();
    lab.zpool.says(STATUS, &sizeless());
    lab.zpool.set(|state| state.old_columns = true);
    assert_eq!(lab.tank().await.capacity, Some(0.41));
    lab.zpool.set(|state| state.old = true);
    lab.restart().await;
    lab.zpool.asked();
    lab.tank().await;
    assert!(!lab.zpool.asked().iter().any(|command| command.contains("dedup_table_size")));
}

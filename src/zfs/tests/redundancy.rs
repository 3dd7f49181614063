//! Each rule and trap of "failures still tolerated".

use std::time::Instant;

use jiff::tz::TimeZone;
use serde_json::{Value, json};

use super::*;
use crate::zfs::memory::Memory;
use crate::zfs::model::Pool;
use crate::zfs::redundancy::{of_pool, tolerances};
use crate::zfs::text::parse_text;

const RESILVERING: &str = "  scan: resilver in progress since Sun Nov 22 17:06:29 2026\n\
                           \t0B resilvered, 0.00% done, no estimated completion time\n";
const RESILVERED: &str =
    "  scan: resilvered 1M in 00:00:01 with 0 errors on Sun Nov 22 17:06:20 2026\n";
const SCRUBBED: &str =
    "  scan: scrub repaired 0B in 00:00:01 with 0 errors on Sun Nov 22 17:06:20 2026\n";

fn pool(state: &str, head: &str, rows: &[&str]) -> Pool {
    parse_text(&text(state, head, rows), &TimeZone::UTC).remove(0)
}

fn t(head: &str, rows: &[&str]) -> Option<u32> {
    let judged = judged(&text("DEGRADED", head, rows));
    let pool = pool("DEGRADED", head, rows);
    assert_eq!(judged.tolerates, of_pool(&pool, &tolerances(&pool, &None)));
    judged.tolerates
}

/// A raidz2 whose further members are these rows.
fn raidz2(head: &str, more: &[&str]) -> Option<u32> {
    let rows =
        ["  raidz2-0 DEGRADED", "    /dev/a ONLINE", "    /dev/b ONLINE", "    /dev/c ONLINE"];
    t(head, &[&rows[..], more].concat())
}

#[test]
fn layouts() {
    let four = ["    /dev/a ONLINE", "    /dev/b ONLINE", "    /dev/c ONLINE", "    /dev/d ONLINE"];
    for (top, tolerated) in [
        ("  mirror-0 ONLINE", Some(3)),
        ("  raidz1-0 ONLINE", Some(1)),
        ("  raidz2-0 ONLINE", Some(2)),
        ("  raidz3-0 ONLINE", Some(3)),
        ("  draid1:2d:4c:1s-0 ONLINE", Some(1)),
        ("  draid2:1d:4c:1s-0 ONLINE", Some(2)),
        ("  raidz4-0 ONLINE", None),
        ("  stripe-0 ONLINE", None),
    ] {
        assert_eq!(t("", &[&[top][..], &four].concat()), tolerated, "{top}");
    }
    assert_eq!(t("", &["  /dev/a ONLINE"]), Some(0));
    // More parity than members: part of the tree is not there.
    assert_eq!(t("", &["  raidz2-0 ONLINE", "    /dev/a ONLINE", "    /dev/b ONLINE"]), None);
    assert_eq!(t("", &[]), None);
}

#[test]
fn lost_states_count_and_a_degraded_leaf_serves() {
    for state in ["UNAVAIL", "FAULTED", "OFFLINE", "REMOVED"] {
        assert_eq!(raidz2("", &[&format!("    /dev/d {state}")]), Some(1), "{state}");
    }
    assert_eq!(raidz2("", &["    /dev/d DEGRADED too many errors"]), Some(2));
    assert_eq!(raidz2("", &["    /dev/d OFFLINE", "    /dev/e REMOVED"]), Some(0));
    assert_eq!(
        raidz2("", &["    /dev/d OFFLINE", "    /dev/e REMOVED", "    /dev/f FAULTED"]),
        Some(0)
    );
    // A state that is not known is not counted as fine.
    assert_eq!(raidz2("", &["    /dev/d WOBBLY"]), None);
}

#[test]
fn the_weakest_essential_vdev_decides() {
    let mirror =
        ["  mirror-0 ONLINE", "    /dev/a ONLINE", "    /dev/b ONLINE", "    /dev/c ONLINE"];
    let with = |more: &[&str]| t("", &[&mirror[..], more].concat());
    assert_eq!(with(&[]), Some(2));
    assert_eq!(
        with(&["special", "  mirror-1 ONLINE", "    /dev/s ONLINE", "    /dev/t ONLINE"]),
        Some(1)
    );
    assert_eq!(with(&["dedup", "  /dev/s ONLINE"]), Some(0));
    assert_eq!(with(&["logs", "  /dev/l UNAVAIL", "cache", "  /dev/m UNAVAIL"]), Some(2));
    assert_eq!(with(&["spares", "  /dev/m UNAVAIL"]), Some(2));
    assert_eq!(with(&["  indirect-1 ONLINE"]), Some(2));
    assert_eq!(with(&["  missing-1 UNAVAIL"]), Some(0));
    // One that tolerates nothing decides, whatever is unknown beside it.
    assert_eq!(with(&["  magic-1 ONLINE", "    /dev/x ONLINE"]), None);
    assert_eq!(with(&["  magic-1 ONLINE", "    /dev/x ONLINE", "  /dev/y ONLINE"]), Some(0));
}

#[test]
fn replacing_at_zero_percent_is_still_lost() {
    let pair = ["    replacing-3 DEGRADED", "      /dev/old OFFLINE", "      /dev/new ONLINE"];
    assert_eq!(raidz2(RESILVERING, &pair), Some(1));
    // It has not begun yet.
    assert_eq!(raidz2("", &pair), Some(1));
    assert_eq!(raidz2(SCRUBBED, &pair), Some(1));
    // About to dissolve.
    assert_eq!(raidz2(RESILVERED, &pair), Some(2));
    // The old device still serves.
    let pair = ["    replacing-3 ONLINE", "      /dev/old ONLINE", "      /dev/new ONLINE"];
    assert_eq!(raidz2(RESILVERING, &pair), Some(2));
    let gone = ["    replacing-3 UNAVAIL", "      /dev/old UNAVAIL", "      /dev/new UNAVAIL"];
    assert_eq!(raidz2(RESILVERED, &gone), Some(1));
}

#[test]
fn spares_count_once_they_are_filled() {
    let pair =
        ["    spare-3 DEGRADED", "      /dev/old FAULTED too many errors", "      /dev/hot ONLINE"];
    assert_eq!(raidz2(RESILVERING, &pair), Some(1));
    assert_eq!(raidz2(RESILVERED, &pair), Some(2));
    assert_eq!(raidz2(SCRUBBED, &pair), Some(2));
    let nested = [
        "    spare-3 DEGRADED",
        "      replacing-0 DEGRADED",
        "        /dev/old OFFLINE",
        "        /dev/new ONLINE",
        "      /dev/hot ONLINE",
    ];
    assert_eq!(raidz2(RESILVERING, &nested), Some(1));
    assert_eq!(raidz2(SCRUBBED, &nested), Some(2));
}

#[test]
fn a_leaf_that_is_being_written_is_incomplete() {
    assert_eq!(raidz2(RESILVERING, &["    /dev/d ONLINE (resilvering)"]), Some(1));
    let both = ["    /dev/d ONLINE (resilvering)", "    /dev/e ONLINE (awaiting resilver)"];
    assert_eq!(raidz2(RESILVERING, &both), Some(0));
    assert_eq!(raidz2("", &["    /dev/d ONLINE (awaiting resilver)"]), Some(1));
    // A scrub repairs without anything being incomplete.
    let scrub = RESILVERING.replace("resilver in", "scrub in");
    assert_eq!(raidz2(&scrub, &["    /dev/d ONLINE (repairing)"]), Some(2));
}

#[test]
fn a_resilver_of_nobody_yet_is_of_somebody() {
    assert_eq!(raidz2(RESILVERING, &["    /dev/d ONLINE"]), Some(1));
    assert_eq!(raidz2(RESILVERING, &["    /dev/d OFFLINE"]), Some(0));
}

#[test]
fn a_rebuild_concerns_its_own_vdev() {
    let head = "  scan: resilver (mirror-0) in progress since Sun Nov 22 17:06:29 2026\n\
                \t0B resilvered, 0.00% done, no estimated completion time\n";
    let rows = [
        "  mirror-0 ONLINE",
        "    /dev/a ONLINE",
        "    /dev/b ONLINE",
        "    /dev/c ONLINE",
        "  mirror-1 ONLINE",
        "    /dev/d ONLINE",
        "    /dev/e ONLINE",
        "    /dev/f ONLINE",
    ];
    let judged = judged(&text("ONLINE", head, &rows));
    let tops: Vec<_> = judged.vdevs.iter().map(|vdev| vdev.tolerates).collect();
    assert_eq!((tops, judged.tolerates), (vec![Some(1), Some(2)], Some(1)));
    assert_eq!(judged.scan.unwrap().function, "resilver");
}

#[test]
fn json_markers_count_only_while_a_resilver_runs() {
    let with = |scan: &str, state: &str, key: &str| {
        let mut document: Value = serde_json::from_str(HEALTHY).unwrap();
        let pool = &mut document["pools"]["tank"];
        pool["scan_stats"] = json!({ "function": scan, "state": state, "errors": 0 });
        pool["vdevs"]["tank"]["vdevs"]["raidz2-0"]["vdevs"]["/vdevs/f1"][key] = json!("1");
        judged(&document.to_string()).tolerates
    };
    assert_eq!(with("RESILVER", "SCANNING", "scan_processed"), Some(1));
    assert_eq!(with("RESILVER", "FINISHED", "scan_processed"), Some(2));
    assert_eq!(with("SCRUB", "SCANNING", "scan_processed"), Some(2));
    assert_eq!(with("RESILVER", "FINISHED", "resilver_deferred"), Some(1));
}

/// With memory it is known who is not complete, even at 0 %.
#[test]
fn memory_names_the_target() {
    let rows = |d: &'static str, e: &'static str| {
        ["  raidz2-0 ONLINE", "    /dev/a ONLINE", "    /dev/b ONLINE", "    /dev/c ONLINE", d, e]
    };
    let now = Instant::now();
    let mut memory = Memory::default();
    let mut see = |head: &str, rows: &[&str]| {
        let pool = pool("ONLINE", head, rows);
        memory.observe(&pool, now);
        of_pool(&pool, &tolerances(&pool, &memory.known))
    };
    assert_eq!(see("", &rows("    /dev/d OFFLINE", "    /dev/e OFFLINE")), Some(0));
    // Both come back: without memory only one of them would be missed.
    assert_eq!(see(RESILVERING, &rows("    /dev/d ONLINE", "    /dev/e ONLINE")), Some(0));
    assert_eq!(see(RESILVERED, &rows("    /dev/d ONLINE", "    /dev/e ONLINE")), Some(2));
    assert_eq!(see(RESILVERED, &rows("    /dev/d ONLINE", "    /dev/e ONLINE")), Some(2));
    // A spare that was filled before still counts while another is filled.
    let spare = ["    spare-3 DEGRADED", "      /dev/d FAULTED", "      /dev/s ONLINE"];
    let base =
        ["  raidz2-0 DEGRADED", "    /dev/a ONLINE", "    /dev/b ONLINE", "    /dev/c ONLINE"];
    let with = |e: &'static str| [&base[..], &spare[..], &[e][..]].concat();
    assert_eq!(see(RESILVERING, &with("    /dev/e ONLINE")), Some(1));
    assert_eq!(see(RESILVERED, &with("    /dev/e ONLINE")), Some(2));
    assert_eq!(see(RESILVERED, &with("    /dev/e ONLINE")), Some(2));
    assert_eq!(see(RESILVERED, &with("    /dev/e OFFLINE")), Some(1));
    assert_eq!(see(RESILVERING, &with("    /dev/e ONLINE")), Some(1));
}

/// Spares, replacements and a second failure in each moment of a resilver.
#[test]
fn every_moment_of_a_resilver() {
    let mut memory = Memory::default();
    let now = Instant::now();
    let mut see = |head: &str, rows: &[&str]| {
        let base = ["  raidz2-0 DEGRADED", "    /dev/a ONLINE", "    /dev/b ONLINE"];
        let pool = pool("DEGRADED", head, &[&base[..], rows].concat());
        memory.observe(&pool, now);
        of_pool(&pool, &tolerances(&pool, &memory.known))
    };
    let pair =
        ["    spare-2 DEGRADED", "      /dev/c FAULTED too many errors", "      /dev/s ONLINE"];
    let with = |d: &'static str| [&pair[..], &[d]].concat();
    assert_eq!(see("", &["    /dev/c ONLINE", "    /dev/d ONLINE"]), Some(2));
    assert_eq!(see("", &["    /dev/c FAULTED", "    /dev/d ONLINE"]), Some(1));
    assert_eq!(see(RESILVERING, &with("    /dev/d ONLINE")), Some(1), "the spare is empty");
    assert_eq!(see(RESILVERING, &with("    /dev/d REMOVED")), Some(0), "a second failure in it");
    assert_eq!(see(RESILVERED, &with("    /dev/d REMOVED")), Some(1), "the spare is filled");
    // The second comes back and is resilvered while the spare goes on serving.
    assert_eq!(see(RESILVERED, &with("    /dev/d REMOVED")), Some(1));
    assert_eq!(see(RESILVERING, &with("    /dev/d ONLINE")), Some(1));
    assert_eq!(see(RESILVERED, &with("    /dev/d ONLINE")), Some(2));
}

#[test]
fn draid_with_its_distributed_spare() {
    let draid = |head: &str, member: &[&str]| {
        let rows = ["  draid1:2d:5c:1s-0 DEGRADED", "    /dev/a ONLINE", "    /dev/b ONLINE"];
        let rest = ["    /dev/d ONLINE", "    /dev/e ONLINE"];
        t(head, &[&rows[..], member, &rest].concat())
    };
    assert_eq!(draid("", &["    /dev/c ONLINE"]), Some(1));
    assert_eq!(draid("", &["    /dev/c FAULTED"]), Some(0));
    let pair = ["    spare-2 DEGRADED", "      /dev/c FAULTED", "      draid1-0-0 ONLINE"];
    let rebuilding = "  scan: resilver (draid1:2d:5c:1s-0) in progress since Sun Nov 22 17:06:29 \
                      2026\n\t1G / 4G scanned at 1M/s, 1G / 4G issued at 1M/s\n\t1G resilvered, \
                      25.00% done, 00:01:00 to go\n";
    assert_eq!(draid(rebuilding, &pair), Some(0), "the spare is being written");
    let rebuilt = "  scan: resilvered (draid1:2d:5c:1s-0) 1G in 00:01:02 with 0 errors on Sun Nov \
                   22 17:08:30 2026\n";
    assert_eq!(draid(rebuilt, &pair), Some(1));
}

/// Whatever a device does during a resilver, losing one more never helps.
#[test]
fn one_more_loss_never_raises_the_number() {
    for head in ["", RESILVERING, RESILVERED, SCRUBBED] {
        for row in ["    /dev/d ONLINE", "    /dev/d ONLINE (resilvering)", "    /dev/d OFFLINE"] {
            let before = raidz2(head, &[row, "    /dev/e ONLINE"]).unwrap();
            let after = raidz2(head, &[row, "    /dev/e REMOVED"]).unwrap();
            assert!(after <= before, "{head} {row}: {before}, {after}");
        }
    }
}

//! Pools that fail under the running daemon, on real disks: what it says of
//! them, and that it goes on answering.
//!
//! Asserted are codes, tolerances and events, never words.
#![cfg(feature = "lab-tests")]
#![allow(clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod lab_common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hostd_lab::{Lab, LabSpec};
use lab_common::*;
use serde_json::Value;

/// The pool that must be there.
const EXPECTED: &str = "host: {name: lab}\npools: {expected: [tank]}\n";
const FREEZE: &str = "echo 1 >/sys/module/zfs/parameters/zfs_scan_suspend_progress";
const THAW: &str = "echo 0 >/sys/module/zfs/parameters/zfs_scan_suspend_progress";

/// A pool of four disks, and hostd on it.
fn a_pool() -> Lab {
    let spec = LabSpec::fast().disks(8).module("zfs").module("dm-mod");
    let lab = Lab::boot(with_hostd(spec)).expect("the lab boots");
    lab.run_ok_for("/lab/make-pool 4", Duration::from_secs(180)).expect("a pool");
    lab.run_ok("dd if=/dev/urandom of=/tank/data bs=1M count=24; zpool sync tank").expect("data");
    start_hostd(&lab, EXPECTED, GAMING).expect("hostd starts");
    lab
}

#[test]
fn disks_that_fail() {
    run(
        &a_pool(),
        &[
            ("a disk pulled", disk_pulled),
            ("the disk is back", disk_back),
            ("replaced with a live resilver, a second one pulled during it", replaced),
        ],
    );
}

#[test]
fn pools_that_fail() {
    run(
        &a_pool(),
        &[
            ("checksum errors by dd and scrub", checksum_errors),
            ("data errors beyond parity", data_errors),
            ("a special vdev of one disk", special_risk),
            ("an expected pool is not imported", not_imported),
            ("a suspended pool, and hostd answers", suspended),
            ("a device that hangs, and zpool with it", zpool_hangs_for_real),
            ("a zpool that never ends", zpool_never_ends),
        ],
    );
}

#[test]
#[ignore = "long: zed was seen to take two minutes until it uses a spare"]
fn spares_that_take_over() {
    run(&a_pool(), &[("a spare takes over", spare_takes_over)]);
}

/// One pool as `pool status` has it, after a device event: without zed, hostd
/// reads a pool whose state has not changed twice a minute, or when a disk
/// says something.
fn pool(lab: &Lab, name: &str) -> Result<Value> {
    lab.run_ok("udevadm trigger --action=change --name-match=/dev/vda")?;
    let view = json(lab, "pool status")?;
    let pools = view["pools"].as_array().cloned().unwrap_or_default();
    Ok(pools.into_iter().find(|pool| pool["name"] == name).unwrap_or_default())
}

/// The codes of a pool's findings.
fn codes(pool: &Value) -> Vec<&str> {
    let findings = pool["findings"].as_array().map_or(&[][..], Vec::as_slice);
    findings.iter().filter_map(|finding| finding["code"].as_str()).collect()
}

fn has(pool: &Value, code: &str) -> bool {
    codes(pool).contains(&code)
}

/// Waits until a pool is as described.
fn until(lab: &Lab, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let pool = pool(lab, name)?;
        if is(&pool) {
            return Ok(pool);
        }
        if Instant::now() > end {
            let zpool =
                lab.run_for(&format!("timeout 5 zpool status {name}"), Duration::from_secs(15));
            bail!("{name} should be {what}: {pool:#}\n{zpool:?}");
        }
    }
}

/// Waits until a pool tolerates this many failures and has these findings.
fn judged(lab: &Lab, name: &str, tolerates: u64, with: &[&str]) -> Result<Value> {
    let what = format!("one that tolerates {tolerates}, with {with:?}");
    until(lab, name, &what, |pool| {
        pool["tolerates"] == tolerates && with.iter().all(|code| has(pool, code))
    })
}

/// Waits for the pool's event with this state and, where one is known, metric.
fn told(lab: &Lab, name: &str, state: &str, metric: Option<u64>) -> Result<()> {
    let metric = metric.map_or(String::new(), |metric| format!(" and metric = {metric}"));
    let query = format!("service = \"zpool {name} health\" and state = \"{state}\"{metric}");
    let command = format!("hostctl event query '{query}' --json | grep -q '\"service\"'");
    lab.wait_for(&command, Duration::from_secs(60)).with_context(|| {
        format!("no such event; there is {:?}", riemann_query(lab, "service =~ \"zpool %\""))
    })?;
    Ok(())
}

/// ZFS notices at a write.
fn written(lab: &Lab) -> Result<()> {
    lab.run_ok("date >/tank/written; zpool sync tank").map(drop)
}

fn disk_pulled(lab: &Lab) -> Result<()> {
    judged(lab, "tank", 2, &[])?;
    told(lab, "tank", "ok", Some(2))?;
    lab.unplug_disk(1)?;
    written(lab)?;
    let pool = judged(lab, "tank", 1, &["device-removed"])?;
    ensure!(pool["state"] == "DEGRADED" && pool["health"] == "warning", "{pool}");
    told(lab, "tank", "warning", Some(1))
}

/// Plugs a disk in again and takes it back into its pool.
fn plug(lab: &Lab, disk: usize) -> Result<()> {
    lab.plug_disk(disk)?;
    let there = format!("[ -e /dev/disk/by-id/virtio-disk{disk}-part1 ]");
    lab.wait_for(&there, Duration::from_secs(30))?;
    lab.run_ok(&format!("udevadm settle; zpool online tank virtio-disk{disk}")).map(drop)
}

fn disk_back(lab: &Lab) -> Result<()> {
    plug(lab, 1)?;
    let pool = until(lab, "tank", "well", |pool| pool["health"] == "ok" && pool["tolerates"] == 2)?;
    ensure!(pool["state"] == "ONLINE", "{pool}");
    told(lab, "tank", "ok", Some(2))
}

fn replaced(lab: &Lab) -> Result<()> {
    lab.run_ok("zpool offline -f tank virtio-disk2")?;
    judged(lab, "tank", 1, &["device-faulted"])?;

    // At 0 %, where ZFS halts for us, the new disk does not count; later moments
    // are among the captures.
    lab.run_ok(&format!("{FREEZE}; zpool replace tank virtio-disk2 /dev/disk/by-id/virtio-disk4"))?;
    let pool = judged(lab, "tank", 1, &["device-faulted", "resilver-running"])?;
    ensure!(
        pool["scan"]["function"] == "resilver" && pool["scan"]["state"] == "scanning",
        "{pool}"
    );
    told(lab, "tank", "warning", Some(1))?;
    lab.unplug_disk(3)?;
    written(lab)?;
    let pool = judged(lab, "tank", 0, &["device-faulted", "device-removed"])?;
    ensure!(pool["health"] == "critical", "{pool}");
    told(lab, "tank", "critical", Some(0))?;

    let done = format!("{THAW}; zpool wait -t resilver tank");
    lab.run_ok_for(&done, Duration::from_secs(120))?;
    // The old one is let go of a moment after the resilver.
    let pool = until(lab, "tank", "resilvered", |pool| {
        has(pool, "device-removed")
            && !has(pool, "device-faulted")
            && !has(pool, "resilver-running")
            && pool["scan"]["state"] == "finished"
    })?;
    ensure!(pool["tolerates"] == 1, "{pool}");
    told(lab, "tank", "warning", Some(1))?;
    plug(lab, 3)?;
    until(lab, "tank", "well", |pool| pool["health"] == "ok" && pool["tolerates"] == 2)?;
    told(lab, "tank", "ok", Some(2))
}

fn checksum_errors(lab: &Lab) -> Result<()> {
    // Between the labels at both ends.
    let over = "dd if=/dev/urandom of=/dev/disk/by-id/virtio-disk0-part1 bs=1M seek=5 count=100 \
                oflag=direct conv=notrunc; zpool scrub tank; zpool wait -t scrub tank";
    lab.run_ok_for(over, Duration::from_secs(120))?;
    let pool = judged(lab, "tank", 2, &["device-errors"])?;
    ensure!(pool["health"] == "warning" && !has(&pool, "data-errors"), "{pool}");
    told(lab, "tank", "warning", Some(2))?;
    lab.run_ok("zpool clear tank")?;
    // What ZFS has said of it is forgotten as well, though it says nothing of this.
    until(lab, "tank", "cleared", |pool| pool["health"] == "ok" && pool["tolerates"] == 2)?;
    told(lab, "tank", "ok", Some(2))
}

fn data_errors(lab: &Lab) -> Result<()> {
    lab.run_ok_for(
        "mkdir -p /tmp/box; cd /tmp/box; truncate -s 128M a b c; \
         zpool create box raidz1 /tmp/box/a /tmp/box/b /tmp/box/c; \
         dd if=/dev/urandom of=/box/data bs=1M count=16; zpool sync box; \
         for f in a b; do dd if=/dev/urandom of=$f bs=1M seek=5 count=100 conv=notrunc; done; \
         zpool scrub box; zpool wait -t scrub box",
        Duration::from_secs(120),
    )?;
    let pool =
        judged(lab, "box", 1, &["data-errors", "scrub-errors", "errors-on-several-devices"])?;
    ensure!(pool["health"] == "critical", "{pool}");
    told(lab, "box", "critical", None)?;
    lab.run_ok("zpool destroy -f box; rm -r /tmp/box").map(drop)
}

fn special_risk(lab: &Lab) -> Result<()> {
    lab.run_ok(
        "mkdir /tmp/box; cd /tmp/box; truncate -s 128M a b c d e; \
         zpool create -f box raidz2 /tmp/box/a /tmp/box/b /tmp/box/c /tmp/box/d special /tmp/box/e",
    )?;
    let pool = judged(lab, "box", 0, &["special-single-device"])?;
    ensure!(pool["vdevs"][0]["tolerates"] == 2 && pool["health"] == "warning", "{pool}");
    told(lab, "box", "warning", Some(0))?;
    lab.run_ok("zpool destroy -f box; rm -r /tmp/box").map(drop)
}

fn spare_takes_over(lab: &Lab) -> Result<()> {
    lab.run_ok(
        "zpool add tank spare /dev/disk/by-id/virtio-disk5; \
         setsid zed -Fv >/tmp/zed.log 2>&1 </dev/null &",
    )?;
    lab.wait_for("grep -q 'Processing events' /tmp/zed.log", Duration::from_secs(60))?;
    judged(lab, "tank", 2, &[])?;
    lab.unplug_disk(1)?;
    // On a busy machine without KVM zed was seen to take two minutes.
    let end = Instant::now() + Duration::from_secs(300);
    while lab.run("zpool status tank | grep -q INUSE")?.status != 0 {
        ensure!(
            Instant::now() < end,
            "zed has not used the spare: {:?}",
            lab.run("zpool status; tail -n 40 /tmp/zed.log")
        );
        written(lab)?;
    }
    lab.run_ok_for("zpool wait -t resilver tank", Duration::from_secs(120))?;
    let expected = ["device-removed", "spare-in-use", "no-spares-left"];
    let pool = judged(lab, "tank", 2, &expected)?;
    ensure!(pool["health"] == "warning", "{pool}");
    told(lab, "tank", "warning", Some(2))?;
    lab.run_ok("kill $(pidof zed)")?;
    plug(lab, 1)?;
    // It may have gone back by itself when the disk was complete.
    let back = "zpool wait -t resilver tank; zpool detach tank virtio-disk5";
    lab.run_for(back, Duration::from_secs(120))?;
    until(lab, "tank", "well", |pool| pool["health"] == "ok" && pool["tolerates"] == 2).map(drop)
}

fn not_imported(lab: &Lab) -> Result<()> {
    lab.run_ok("zpool export tank")?;
    let pool = until(lab, "tank", "absent", |pool| has(pool, "pool-absent"))?;
    ensure!(pool["health"] == "critical" && pool["state"] == "ABSENT", "{pool}");
    told(lab, "tank", "critical", None)?;
    lab.run_ok("zpool import -d /dev/disk/by-id tank")?;
    until(lab, "tank", "well", |pool| pool["health"] == "ok" && pool["tolerates"] == 2)?;
    told(lab, "tank", "ok", Some(2))
}

/// What a device-mapper device leads to: its disk, or errors.
fn table(name: &str, disk: usize, kind: &str) -> String {
    let path = format!("/dev/disk/by-id/virtio-disk{disk}");
    let to = if kind == "linear" { format!(" {path} 0") } else { String::new() };
    format!("{name} --table \"0 $(blockdev --getsz {path}) {kind}{to}\"")
}

fn swap(lab: &Lab, kind: &str) -> Result<()> {
    for (name, disk) in [("d6", 6), ("d7", 7)] {
        let table = table(name, disk, kind);
        lab.run_ok(&format!(
            "dmsetup suspend --nolockfs --noflush {name} && dmsetup load {table} && dmsetup resume {name}"
        ))?;
    }
    Ok(())
}

/// `hostctl status` answers at once, whatever hangs: what a machine without
/// hardware virtualization needs to start any program at all is not counted.
fn answers(lab: &Lab) -> Result<()> {
    for _ in 0..3 {
        let began = Instant::now();
        hostctl(lab, "--version")?;
        let start = began.elapsed();
        let began = Instant::now();
        let out = hostctl(lab, "status")?;
        let took = began.elapsed();
        ensure!(out.status <= 1, "{out:?}");
        let most = Duration::from_secs(2) + 3 * start;
        ensure!(took < most, "hostctl status took {took:?}, to start it {start:?}");
    }
    Ok(())
}

fn suspended(lab: &Lab) -> Result<()> {
    for (name, disk) in [("d6", 6), ("d7", 7)] {
        lab.run_ok(&format!("dmsetup create {}", table(name, disk, "linear")))?;
    }
    lab.run_ok("zpool create -f box mirror /dev/mapper/d6 /dev/mapper/d7")?;
    judged(lab, "box", 1, &[])?;
    swap(lab, "error")?;
    lab.run("setsid dd if=/dev/zero of=/box/more bs=64k count=16 conv=fsync >/dev/null 2>&1 </dev/null &")?;
    lab.wait_for("grep -q SUSPENDED /proc/spl/kstat/zfs/box/state", Duration::from_secs(60))?;
    let pool = until(lab, "box", "suspended", |pool| has(pool, "pool-suspended"))?;
    ensure!(pool["health"] == "critical" && pool["state"] == "SUSPENDED", "{pool}");
    ensure!(pool["tolerates"] == 0, "{pool}");
    told(lab, "box", "critical", Some(0))?;
    answers(lab)?;
    // The other pool is looked at all the same.
    let pool = self::pool(lab, "tank")?;
    ensure!(pool["health"] == "ok" && pool["tolerates"] == 2, "{pool}");
    swap(lab, "linear")?;
    lab.run_ok("zpool clear box")?;
    until(lab, "box", "resumed", |pool| !has(pool, "pool-suspended")).map(drop)
}

fn zpool_hangs_for_real(lab: &Lab) -> Result<()> {
    // Reopening reads the labels of a device that does not answer, and holds
    // the locks that `zpool status` needs.
    lab.run_ok("dmsetup suspend --nolockfs --noflush d6")?;
    lab.run("setsid zpool reopen box >/dev/null 2>&1 </dev/null &")?;
    lab.wait_for("! timeout -k 1 3 zpool status box", Duration::from_secs(30))?;
    let pool = until(lab, "box", "one whose commands hang", |pool| has(pool, "zpool-hangs"))?;
    ensure!(pool["health"] == "unknown" || pool["health"] == "critical", "{pool}");
    answers(lab)?;
    let children = lab.run("ps -C zpool -o args= | grep -c 'status\\|list'")?.stdout;
    let children: usize = children.trim().parse().unwrap_or_default();
    ensure!(children <= 4, "{children} children for two pools");
    lab.run_ok("dmsetup resume d6")?;
    until(lab, "box", "read again", |pool| !has(pool, "zpool-hangs"))?;
    until(lab, "tank", "read again", |pool| pool["health"] == "ok")?;
    lab.run_ok("zpool destroy -f box; udevadm settle; dmsetup remove --retry d6; dmsetup remove --retry d7")
        .map(drop)
}

fn zpool_never_ends(lab: &Lab) -> Result<()> {
    lab.run_ok("kill $(pidof hostd); while pidof hostd; do sleep 0.1; done")?;
    lab.run_ok(
        "mkdir -p /tmp/stand; printf '#!/bin/sh\\nexec sleep 98765\\n' >/tmp/stand/zpool; \
         chmod +x /tmp/stand/zpool; PATH=/tmp/stand:$PATH; rm -f /tmp/hostd.log; \
         setsid hostd >/tmp/hostd.log 2>&1 </dev/null & echo $! >/tmp/hostd.pid",
    )?;
    lab.wait_for("grep -q 'hostd is ready' /tmp/hostd.log", Duration::from_secs(30))?;
    let pool = until(lab, "tank", "one whose commands hang", |pool| has(pool, "zpool-hangs"))?;
    // Never green, though the kernel's own word for it is.
    ensure!(pool["health"] == "unknown" && pool["state"] == "ONLINE", "{pool}");
    told(lab, "tank", "unknown", None)?;
    answers(lab)?;
    let children = lab.run("pgrep -fc '[s]leep 98765'")?.stdout;
    ensure!(children.trim().parse::<u32>().unwrap_or(99) <= 2, "{children} children for one pool");
    // What has happened to the pool is told at its next answer.
    lab.run_ok("kill $(pidof hostd); while pidof hostd; do sleep 0.1; done; rm -r /tmp/stand")?;
    let left = lab.run("pgrep -af '[s]leep 98765'")?;
    ensure!(left.status != 0, "a child has outlived the daemon: {left:?}");
    launch(lab)?;
    judged(lab, "tank", 2, &[]).map(drop)
}

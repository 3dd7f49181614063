//! Disks that say they will fail, and disks that sleep: one sentence that says
//! which, where, what it means for the pool and what to type; and no disk woken.
//!
//! Asserted are codes, and the parts that such a sentence must have.
#![cfg(feature = "lab-tests")]
#![allow(clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod lab_common;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hostd_lab::{Lab, LabSpec};
use lab_common::*;
use serde_json::Value;

/// Disks are asked as often as can be.
const OFTEN: &str = "host: {name: lab}\ndisks: {interval: 1m}\n";
/// The bit of *critical warning* for a device that is no longer reliable.
const UNRELIABLE: u8 = 1 << 2;
/// `smartctl` as it answers for a disk that sleeps (smartctl(8), `-n`): with the
/// status that it was given, else 2. What it was asked is kept.
const SLEEPS: &str = r#"#!/bin/sh
echo "$*" >>/tmp/smartctl.asked
status=2
for word; do case $word in standby,*) status=${word#standby,} ;; esac; done
printf '{"smartctl": {"exit_status": %s, "messages": [{"string": "Device is in STANDBY mode, exit(%s)", "severity": "information"}]}}\n' $status $status
exit $status
"#;

#[test]
fn disks_that_warn() {
    let spec = LabSpec::fast().nvme(2).sata(1).module("zfs");
    let lab = Lab::boot(with_hostd(spec)).expect("the lab boots");
    let pool = "zpool create -f fast mirror /dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_nvme0 \
                /dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_nvme1 && udevadm settle";
    lab.run_ok(pool).expect("a pool");
    start_hostd(&lab, OFTEN, GAMING).expect("hostd starts");
    run(
        &lab,
        &[
            ("disks that are well", well),
            ("an NVMe disk warns from now on", nvme_warns),
            ("a disk that sleeps is not woken", not_woken),
        ],
    );
}

/// One disk as `disk status` has it.
fn disk(lab: &Lab, name: &str) -> Result<Value> {
    Ok(json(lab, &format!("disk status {name}"))?["disks"][0].clone())
}

/// Waits until a disk is as described.
fn until(lab: &Lab, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    let end = Instant::now() + Duration::from_secs(150);
    loop {
        // Right after hostd's start the disks are not known yet.
        let disk = disk(lab, name).map_err(|error| format!("{error:#}"));
        if let Ok(disk) = &disk
            && is(disk)
        {
            return Ok(disk.clone());
        }
        ensure!(Instant::now() < end, "{name} should be {what}: {disk:#?}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The kernel's name of the NVMe disk with this serial number: which of them is
/// found first is not said.
fn named(lab: &Lab, serial: &str) -> Result<String> {
    let find = format!("grep -lx '{serial} *' /sys/block/nvme*/device/serial | cut -d/ -f4");
    Ok(lab.run_ok(&find)?.trim().to_owned())
}

fn well(lab: &Lab) -> Result<()> {
    for serial in ["nvme0", "nvme1"] {
        // Its pool may be read after it.
        let its = |disk: &Value| !disk["read"].is_null() && disk["pool"] == "fast";
        let disk = until(lab, &named(lab, serial)?, "read, and in its pool", its)?;
        ensure!(disk["health"] == "ok" && disk["power"] == "active", "{disk}");
        ensure!(disk["serial"] == serial, "{disk}");
    }
    let spins = until(lab, "sda", "read", |disk| !disk["read"].is_null())?;
    ensure!(spins["transport"] == "sata" && spins["serial"] == "sata0", "{spins}");
    Ok(())
}

fn nvme_warns(lab: &Lab) -> Result<()> {
    let name = named(lab, "nvme1")?;
    lab.nvme_warns(1, UNRELIABLE)?;
    let disk = until(lab, &name, "critical", |disk| disk["health"] == "critical")?;
    let finding = &disk["findings"][0];
    ensure!(finding["code"] == "nvme-critical", "{disk}");
    let says = finding["message"].as_str().context("a message")?;
    let types = finding["advice"].as_str().context("an advice")?;
    println!("    {says}\n    {types}");
    for part in [
        "PCI 0000:00:1e.0",
        "serial nvme1",
        "model QEMU NVMe Ctrl",
        "no longer reliable",
        "pool fast tolerates 1 more failure",
    ] {
        ensure!(says.contains(part), "no {part:?} in {says:?}");
    }
    ensure!(types.contains("`zpool replace fast ") && types.contains("NEW-DISK"), "{types}");
    // The same goes out as an event.
    let query = format!("service = \"smart {name}\" and state = \"critical\"");
    let event = json(lab, &format!("event query '{query}'"))?["events"][0].clone();
    let text = event["description"].as_str().unwrap_or_default();
    ensure!(text.contains("serial nvme1") && text.contains("tolerates 1 more"), "{event:#}");
    Ok(())
}

fn not_woken(lab: &Lab) -> Result<()> {
    lab.run_ok("kill $(pidof hostd); while pidof hostd; do sleep 0.1; done")?;
    lab.run_ok("rm -f /var/lib/hostd/disks.json; mkdir -p /tmp/stand")?;
    lab.push_bytes(SLEEPS.as_bytes(), "/tmp/stand/smartctl", 0o755)?;
    let stat = "cut -d' ' -f1-11 /sys/block/sda/stat";
    lab.run_ok("udevadm settle")?;
    let before = lab.run_ok(stat)?;
    lab.run_ok(
        "PATH=/tmp/stand:$PATH; rm -f /tmp/hostd.log; \
         setsid hostd >/tmp/hostd.log 2>&1 </dev/null & echo $! >/tmp/hostd.pid",
    )?;
    lab.wait_for("grep -q 'hostd is ready' /tmp/hostd.log", Duration::from_secs(60))?;
    let disk = until(lab, "sda", "asleep", |disk| disk["power"] == "standby")?;
    // Never read, and so not called well.
    ensure!(disk["health"] == "unknown" && disk["findings"][0]["code"] == "not-asked", "{disk}");
    ensure!(disk["temperature"].is_null() && disk["read"].is_null(), "{disk}");
    // What is shown of it, and word of it from the kernel, asks nothing else.
    // Udev, which would read it at that word, is held.
    lab.run_ok(
        "udevadm control --stop-exec-queue; udevadm trigger --action=change --name-match=/dev/sda",
    )?;
    hostctl(lab, "disk list")?;
    hostctl(lab, "status")?;
    let asked = lab.run_ok("cat /tmp/smartctl.asked")?;
    let of_it: Vec<_> = asked.lines().filter(|line| line.ends_with("/dev/sda")).collect();
    println!("    {}", of_it.join("\n    "));
    ensure!(!of_it.is_empty(), "it was not asked at all: {asked:?}");
    if let Some(wakes) = of_it.iter().find(|line| !line.contains("-n standby")) {
        bail!("this wakes a disk: smartctl {wakes}");
    }
    // `-d`: smartctl would find out by asking the disk.
    ensure!(of_it.iter().all(|line| line.contains("-d sat")), "{of_it:?}");
    let after = lab.run_ok(stat)?;
    ensure!(before == after, "the disk was read: {before:?}, then {after:?}");
    lab.run_ok("udevadm control --start-exec-queue")?;
    lab.run_ok("kill $(pidof hostd); while pidof hostd; do sleep 0.1; done; rm -r /tmp/stand")?;
    // Awake again, and the other one takes back what it has said.
    lab.nvme_warns(1, 0)?;
    launch(lab)?;
    until(lab, "sda", "read", |disk| disk["power"] == "active")?;
    until(lab, &named(lab, "nvme1")?, "well", |disk| disk["health"] == "ok").map(drop)
}

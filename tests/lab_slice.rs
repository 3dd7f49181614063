//! The slice of the first issue on a real kernel, by the public commands only.
//!
//! Labs are shared among the cases that belong together: a case is a function,
//! a test boots one lab and runs its cases in order.
#![cfg(feature = "lab-tests")]
#![allow(clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod lab_common;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hostd_lab::{CardKind, Iommu, Lab, LabSpec};
use lab_common::*;

const CARD: &str = "0000:01:00.0";
const AUDIO: &str = "0000:01:00.1";

fn intel() -> LabSpec {
    with_hostd(LabSpec::fast().iommu(Iommu::Intel).card(CardKind::Ati0300).disks(6))
}

#[test]
fn vm_and_pool_on_intel() {
    let lab = Lab::boot(intel().module("snd_hda_intel")).expect("the lab boots");
    lab.run_ok("/lab/make-pool 6").expect("a pool");
    start_hostd(&lab, HOST, GAMING).expect("hostd starts");
    run(
        &lab,
        &[
            ("iommu list shows the card and its audio in one group", iommu_list),
            ("vm start binds, starts QEMU and the option ROM runs", vm_start),
            ("a second vm start says it is so already", vm_start_again),
            ("the card of a running VM is not released", release_refused),
            ("hostd is killed; the VM lives and is adopted", kill_and_adopt),
            ("vm stop gives both functions back", vm_stop),
            ("QEMU killed from outside: crashed, and the card is back", qemu_killed),
            ("a disk pulled: degraded, one more failure tolerated", disk_pulled),
            ("gpu bind and release by hand", gpu_by_hand),
            ("snapshots of a zvol and an image, and back", lab_common::snapshots::on_a_pool),
            ("scrubs by hand, snapshots by policy", lab_common::care::on_a_pool),
            ("three mistakes in a VM file are told at once", three_mistakes),
            ("a clean end leaves nothing behind", clean_end),
        ],
    );
}

fn iommu_list(lab: &Lab) -> Result<()> {
    let view = json(lab, "iommu list")?;
    let groups = view["groups"].as_array().cloned().unwrap_or_default();
    let holds = |g: &&serde_json::Value, address: &str| {
        g["devices"].as_array().is_some_and(|all| all.iter().any(|d| d["address"] == address))
    };
    let group = groups.iter().find(|g| holds(g, CARD));
    let group = group.ok_or_else(|| anyhow::anyhow!("no group holds the card: {view}"))?;
    ensure!(holds(&group, AUDIO), "the audio function is elsewhere: {group}");
    ensure!(group["verdict"] == "isolated", "{group}");
    let card = &group["devices"][0];
    ensure!(card["vendor"] == "1002" && card["device"] == "5046", "{card}");
    ensure!(
        card["class"] == "030000" && card["name"].as_str().is_some_and(|n| n.contains("Rage 128")),
        "{card}"
    );
    ensure!(group["devices"][1]["driver"] == "snd_hda_intel", "{group}");
    let text = hostctl(lab, "iommu list")?;
    ensure!(
        text.status == 0 && text.stdout.contains("01:00.0") && text.stdout.contains("isolated"),
        "{text:?}"
    );
    Ok(())
}

fn vm_start(lab: &Lab) -> Result<()> {
    let out = hostctl(lab, "vm start gaming")?;
    ensure!(out.ok(), "{out:?}");
    ensure!(driver(lab, CARD)? == "vfio-pci" && driver(lab, AUDIO)? == "vfio-pci");
    ensure!(vm(lab, "gaming")?["state"] == "running");
    let log = "hostctl vm log gaming --firmware";
    let shown = format!(
        "{log} | grep -q 'bdf=0[1-9]:00.0 id=1002:5046\\|bdf=0[1-9]:00.0 id=1234:1111' \
         && {log} | grep -q 'bdf=0[1-9]:00.1 id=8086:2668' && {log} | grep -q 'Running option rom at c000'"
    );
    lab.wait_for(&shown, Duration::from_secs(60))?;
    let answer = riemann_query(lab, "service = \"vm gaming\"")?;
    ensure!(answer.contains("vm gaming") && answer.contains("ok"), "{answer}");
    ensure!(json(lab, "gpu list")?["gpus"][0]["bound"] == true);
    Ok(())
}

fn vm_start_again(lab: &Lab) -> Result<()> {
    let view = json(lab, "vm start gaming")?;
    ensure!(view["changed"] == false, "{view}");
    Ok(())
}

fn release_refused(lab: &Lab) -> Result<()> {
    let out = hostctl(lab, "gpu release card")?;
    ensure!(out.status == 5 && out.stderr.contains("gaming"), "{out:?}");
    ensure!(driver(lab, CARD)? == "vfio-pci");
    Ok(())
}

fn kill_and_adopt(lab: &Lab) -> Result<()> {
    let before = vm(lab, "gaming")?["pid"].clone();
    ensure!(before.is_u64(), "no pid: {before}");
    lab.run_ok("kill -9 $(pidof hostd)")?;
    lab.run_ok(&format!("sleep 1; kill -0 {before}"))?;
    let out = hostctl(lab, "vm status gaming")?;
    ensure!(out.status == 4, "{out:?}");
    launch(lab)?;
    let after = vm(lab, "gaming")?;
    ensure!(after["state"] == "running" && after["pid"] == before, "{after}");
    Ok(())
}

fn vm_stop(lab: &Lab) -> Result<()> {
    let out = hostctl(lab, "vm stop gaming")?;
    ensure!(out.ok(), "{out:?}");
    ensure!(vm(lab, "gaming")?["state"] == "off");
    ensure!(driver(lab, CARD)? == "none", "the card had no driver before");
    ensure!(driver(lab, AUDIO)? == "snd_hda_intel", "the audio function had one");
    for address in [CARD, AUDIO] {
        let over = lab.run_ok(&format!("cat /sys/bus/pci/devices/{address}/driver_override"))?;
        ensure!(over.trim() == "(null)", "{address} is still overridden: {over}");
    }
    ensure!(lab.run("pidof qemu-system-x86_64")?.status != 0, "QEMU is still there");
    Ok(())
}

fn qemu_killed(lab: &Lab) -> Result<()> {
    ensure!(hostctl(lab, "vm start gaming")?.ok());
    let pid = vm(lab, "gaming")?["pid"].clone();
    lab.run_ok(&format!("kill -9 {pid}"))?;
    lab.wait_for(
        "hostctl vm status gaming --json | grep -q '\"state\": *\"crashed\"'",
        Duration::from_secs(10),
    )?;
    let reason = vm(lab, "gaming")?["reason"].to_string();
    ensure!(reason.contains("signal 9"), "{reason}");
    lab.wait_for(
        &format!(
            "[ \"$(basename $(readlink /sys/bus/pci/devices/{AUDIO}/driver))\" = snd_hda_intel ]"
        ),
        Duration::from_secs(10),
    )?;
    let answer = riemann_query(lab, "service = \"vm gaming\" and state = \"critical\"")?;
    ensure!(answer.contains("vm gaming"), "{answer}");
    Ok(())
}

fn disk_pulled(lab: &Lab) -> Result<()> {
    let view = json(lab, "pool status tank")?;
    ensure!(view["pools"][0]["tolerates"] == 2 && view["pools"][0]["health"] == "ok", "{view}");
    lab.unplug_disk(2)?;
    // There is no zed in this tier: ZFS knows at the next write.
    lab.wait_for(
        "date >/tank/written; zpool sync tank; ! grep -q ONLINE /proc/spl/kstat/zfs/tank/state",
        Duration::from_secs(40),
    )?;
    let knows = Instant::now();
    let query = "service = \"zpool tank health\" and state != \"ok\" and metric = 1";
    lab.wait_for(
        &format!("riemann-client query -T '{query}' 127.0.0.1 5555 | grep -q DEGRADED"),
        Duration::from_secs(10),
    )?;
    let after = knows.elapsed();
    println!("    seen by the client {:.1} s after ZFS knew", after.as_secs_f64());
    ensure!(after <= Duration::from_secs(5), "seen only after {after:?}");
    let view = json(lab, "pool status tank")?;
    let pool = &view["pools"][0];
    ensure!(pool["state"] == "DEGRADED" && pool["tolerates"] == 1, "{view}");
    ensure!(hostctl(lab, "pool status")?.status == 1, "a degraded pool is a finding");
    Ok(())
}

fn gpu_by_hand(lab: &Lab) -> Result<()> {
    let plan = hostctl(lab, "gpu plan card")?;
    ensure!(plan.ok() && plan.stdout.contains(AUDIO), "{plan:?}");
    for _ in 0..2 {
        ensure!(hostctl(lab, "gpu bind card")?.ok());
        ensure!(driver(lab, CARD)? == "vfio-pci" && driver(lab, AUDIO)? == "vfio-pci");
        ensure!(json(lab, "gpu bind card")?["changed"] == false);
        ensure!(hostctl(lab, "gpu release card")?.ok());
        ensure!(driver(lab, CARD)? == "none" && driver(lab, AUDIO)? == "snd_hda_intel");
        ensure!(json(lab, "gpu release card")?["changed"] == false);
    }
    Ok(())
}

fn three_mistakes(lab: &Lab) -> Result<()> {
    lab.run_ok("mkdir -p /tmp/wrong/vms; echo 'host: {name: lab}' > /tmp/wrong/host.yaml")?;
    let file = "memroy: 4G\nmemory: 16 GB\ndisks:\n  - /dev/zvol/tank/none\n";
    lab.push_bytes(file.as_bytes(), "/tmp/wrong/vms/gaming.yaml", 0o644)?;
    // The person asks; so does a start, of a daemon that has come up all the same.
    let daemon = "hostd --config /tmp/wrong/host.yaml --state-dir /tmp/s --runtime-dir /tmp/r";
    lab.run_ok(&format!(
        "setsid {daemon} >/tmp/wrong.log 2>&1 </dev/null & echo $! >/tmp/wrong.pid"
    ))?;
    lab.wait_for("grep -q 'hostd is ready' /tmp/wrong.log", Duration::from_secs(30))?;
    for command in [
        "hostctl config check /tmp/wrong/host.yaml",
        "hostctl --socket /tmp/r/control.sock vm start gaming",
    ] {
        let out = lab.run(command)?;
        let text = format!("{}{}", out.stdout, out.stderr);
        ensure!(out.status == 2, "{command}: {out:?}");
        for expected in [
            "gaming.yaml:1:1",
            "unknown key `memroy`",
            "gaming.yaml:2:9",
            "16 GB",
            "gaming.yaml:4:5",
            "/dev/zvol/tank/none",
        ] {
            ensure!(text.contains(expected), "{command}: `{expected}` is not in\n{text}");
        }
    }
    lab.run_ok("kill $(cat /tmp/wrong.pid)")?;
    Ok(())
}

fn clean_end(lab: &Lab) -> Result<()> {
    lab.run_ok("kill -TERM $(pidof hostd)")?;
    let began = Instant::now();
    lab.wait_for("! pidof hostd", Duration::from_secs(10))?;
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(4), "it took {took:?} to end");
    ensure!(lab.run("pidof qemu-system-x86_64")?.status != 0);
    for bad in ["panicked", "did not end"] {
        ensure!(!log(lab).contains(bad), "{}", log(lab));
    }
    Ok(())
}

#[test]
fn without_an_iommu_nothing_is_touched() {
    let lab = Lab::boot(with_hostd(LabSpec::fast().iommu(Iommu::None).card(CardKind::Ati0300)))
        .expect("the lab boots");
    let host = "gpus: [{name: card, address: '0000:01:00.0'}]\n";
    start_hostd(&lab, host, GAMING).expect("hostd starts");
    run(&lab, &[("vm start says what to turn on", no_iommu)]);
}

/// Drivers and overrides, without times: those of sysfs are when somebody looked.
const EVERYTHING: &str =
    "cd /sys/bus/pci/devices; ls -d */driver; readlink */driver; cat */driver_override";

fn no_iommu(lab: &Lab) -> Result<()> {
    let before = lab.run_ok(EVERYTHING)?;
    let out = hostctl(lab, "vm start gaming")?;
    ensure!(out.status == 5, "{out:?}");
    for said in ["no IOMMU", "firmware", "turn on `IOMMU`"] {
        ensure!(out.stderr.contains(said), "`{said}` is not said: {out:?}");
    }
    let after = lab.run_ok(EVERYTHING)?;
    ensure!(before == after, "something was touched:\n{before}\n{after}");
    let state = vm(lab, "gaming")?["state"].clone();
    ensure!(state == "off" || state == "failed", "{state}");
    ensure!(
        hostctl(lab, "iommu list")?.stderr.contains("IOMMU")
            || hostctl(lab, "iommu list")?.stdout.contains("IOMMU")
    );
    Ok(())
}

#[test]
fn a_shared_group_names_each_blocking_device() {
    let spec = with_hostd(
        LabSpec::fast().iommu(Iommu::Intel).shared_group().module("e1000").module("xhci_pci"),
    );
    let lab = Lab::boot(spec).expect("the lab boots");
    // The VGA behind the bridge: found, not assumed.
    let found = lab.run_ok("lspci -Dn | awk '$2 == \"0300:\" {print $1; exit}'").expect("lspci");
    let host = format!("gpus: [{{name: card, address: '{}'}}]\n", found.trim());
    start_hostd(&lab, &host, GAMING).expect("hostd starts");
    run(&lab, &[("vm start names the neighbours", shared_group)]);
}

fn shared_group(lab: &Lab) -> Result<()> {
    let out = hostctl(lab, "vm start gaming")?;
    ensure!(out.status == 5, "{out:?}");
    for driver in ["e1000", "xhci"] {
        ensure!(out.stderr.contains(driver), "`{driver}` is not named: {out:?}");
    }
    let listed = hostctl(lab, "iommu list --json")?;
    ensure!(
        listed.stdout.contains("\"shared\"") || listed.stdout.contains("\"blocked\""),
        "{listed:?}"
    );
    Ok(())
}

#[test]
fn bind_and_release_on_amd() {
    let spec = with_hostd(
        LabSpec::fast().iommu(Iommu::Amd).card(CardKind::Ati0300).module("snd_hda_intel"),
    );
    let lab = Lab::boot(spec).expect("the lab boots");
    let host = "gpus: [{name: card, address: '0000:01:00.0'}]\n";
    start_hostd(&lab, host, GAMING).expect("hostd starts");
    run(
        &lab,
        &[
            ("gpu bind and release by hand", gpu_by_hand),
            ("vm start", vm_start),
            ("vm stop", vm_stop),
        ],
    );
}

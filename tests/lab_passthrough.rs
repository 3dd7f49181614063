//! Passthrough on a real kernel with both makes of IOMMU: both card classes,
//! twins, neighbours, other people's overrides, unplugging, and hostd killed on
//! the way. One lab for each IOMMU; the cases share it.
//!
//! | slot | card | configured as |
//! |---|---|---|
//! | 01 | `secondary-vga`, class 0380, with audio; can be pulled out | `card` |
//! | 02 | its twin, without audio | `twin` |
//! | 03 | `ati-vga`, class 0300 | `ati` |
#![cfg(feature = "lab-tests")]
#![allow(clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod lab_common;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hostd_lab::{CardKind, Iommu, Lab, LabSpec};
use lab_common::*;

const CARD: &str = "0000:01:00.0";
const AUDIO: &str = "0000:01:00.1";
const TWIN: &str = "0000:02:00.0";
const ATI: &str = "0000:03:00.0";

const CARDS: &str = "\
host: {name: lab, interval: 5s}
gpus:
  - {name: card, address: '0000:01:00.0', identity: '1234:1111'}
  - {name: twin, address: '0000:02:00.0', identity: '1234:1111'}
  - {name: ati, address: '0000:03:00.0', identity: '1002:5046'}
";

fn passthrough_on(iommu: Iommu) {
    let spec = LabSpec::fast()
        .iommu(iommu)
        .card(CardKind::Secondary0380)
        .card_without_audio(CardKind::Secondary0380)
        .card_without_audio(CardKind::Ati0300)
        .shared_group()
        .module("bochs")
        .module("snd_hda_intel")
        .module("e1000")
        .module("xhci_pci");
    let lab = Lab::boot(with_hostd(spec)).expect("the lab boots");
    start_hostd(&lab, CARDS, GAMING).expect("hostd starts");
    run(
        &lab,
        &[
            ("both card classes, bound and released twice", both_classes),
            ("a card that somebody draws on is refused by name", in_use),
            ("a bound card is reset whole and answers the doctor", reset_and_probe),
            ("of two twins the one in the slot is taken", twins),
            ("a driver_override that somebody left comes back", somebodys_override),
            ("a group of several devices leaves as a whole", whole_group),
            ("a driver that somebody changes is an event", behind_our_back),
            ("hostd killed on the way there and back", killed_on_the_way),
            ("the card is pulled out while bound", pulled_while_bound),
            ("the card is pulled out while the VM runs", pulled_while_running),
        ],
    );
    let said = log(&lab);
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn passthrough_on_intel() {
    passthrough_on(Iommu::Intel);
}

#[test]
fn passthrough_on_amd() {
    passthrough_on(Iommu::Amd);
}

/// Drivers, overrides and power of all functions, without a process for each.
fn everything(lab: &Lab) -> Result<String> {
    lab.run_ok(
        "cd /sys/bus/pci/devices; grep -s . */driver_override */power/control */d3cold_allowed; \
         readlink */driver | cat; ls -d */driver",
    )
}

fn both_classes(lab: &Lab) -> Result<()> {
    let home = everything(lab)?;
    ensure!(driver(lab, CARD)?.starts_with("bochs"), "the case needs a host driver: {home}");
    ensure!(driver(lab, AUDIO)? == "snd_hda_intel");
    for (name, functions) in [("card", &[CARD, AUDIO][..]), ("ati", &[ATI])] {
        for _ in 0..2 {
            let out = hostctl(lab, &format!("gpu bind {name}"))?;
            ensure!(out.ok(), "{out:?}");
            for function in functions {
                ensure!(driver(lab, function)? == "vfio-pci", "{function}");
                let folder = format!("/sys/bus/pci/devices/{function}");
                let power =
                    lab.run_ok(&format!("cat {folder}/power/control {folder}/d3cold_allowed"))?;
                ensure!(power == "on\n0\n", "{function} may sleep: {power}");
            }
            let gpus = json(lab, "gpu list")?;
            let bound =
                gpus["gpus"].as_array().and_then(|all| all.iter().find(|g| g["name"] == name));
            ensure!(bound.is_some_and(|gpu| gpu["bound"] == true), "{gpus}");
            ensure!(hostctl(lab, &format!("gpu release {name}"))?.ok());
            ensure!(everything(lab)? == home, "{home}\nis now\n{}", everything(lab)?);
        }
    }
    Ok(())
}

fn in_use(lab: &Lab) -> Result<()> {
    let found = lab.run_ok(&format!("ls /sys/bus/pci/devices/{CARD}/drm | grep card"))?;
    let file = format!("/dev/dri/{}", found.trim());
    // udev does not run in this tier.
    lab.run_ok(&format!(
        "[ -e {file} ] || (mkdir -p /dev/dri; mknod {file} c $(tr : ' ' \
         < /sys/bus/pci/devices/{CARD}/drm/{}/dev))",
        found.trim()
    ))?;
    lab.run_ok(&format!("setsid sleep 300 3<{file} >/dev/null 2>&1 & echo $! >/tmp/draws"))?;
    let pid = lab.run_ok("cat /tmp/draws")?;
    let home = everything(lab)?;
    let out = hostctl(lab, "gpu bind card")?;
    let named = format!("in use by sleep (process {})", pid.trim());
    ensure!(out.status == 5 && out.stderr.contains(&named), "{out:?}");
    ensure!(everything(lab)? == home);
    lab.run_ok("kill $(cat /tmp/draws)")?;
    Ok(())
}

fn reset_and_probe(lab: &Lab) -> Result<()> {
    ensure!(hostctl(lab, "gpu reset card")?.status == 5, "a card of the host is not reset");
    ensure!(hostctl(lab, "gpu bind card")?.ok());
    let out = hostctl(lab, "gpu reset card")?;
    ensure!(out.ok() && out.stdout.contains("0000:01:00.1) and answers"), "{out:?}");
    let view = json(lab, "doctor --probe")?;
    let checks = view["checks"].as_array().context("checks")?;
    let of = |id: &str| {
        let mut all = checks.iter().filter(|check| check["id"] == id && check["object"] == "card");
        all.next().with_context(|| format!("no {id}: {view:#}"))
    };
    for id in ["card", "card-group", "vfio-group", "vfio-device"] {
        ensure!(of(id)?["status"] == "ok", "{:#}", of(id)?);
    }
    let opened = |check: &&serde_json::Value| {
        let said = check["evidence"].as_str().unwrap_or_default();
        check["id"] == "vfio-device" && said.starts_with("0000:01:00.1 opens")
    };
    ensure!(checks.iter().any(|check| opened(&check)), "{view:#}");
    let kvm = checks.iter().find(|check| check["id"] == "kvm-device");
    ensure!(kvm.is_some_and(|check| check["status"] != "ok"), "the lab has no KVM: {view:#}");
    ensure!(hostctl(lab, "doctor")?.status == 1, "findings");
    ensure!(hostctl(lab, "gpu release card")?.ok());
    Ok(())
}

fn twins(lab: &Lab) -> Result<()> {
    let other = driver(lab, CARD)?;
    ensure!(hostctl(lab, "gpu bind twin")?.ok());
    ensure!(driver(lab, TWIN)? == "vfio-pci");
    ensure!(
        driver(lab, CARD)? == other && other.starts_with("bochs"),
        "its twin was taken: {other}"
    );
    ensure!(hostctl(lab, "gpu release twin")?.ok());
    ensure!(driver(lab, TWIN)? == other);
    Ok(())
}

fn somebodys_override(lab: &Lab) -> Result<()> {
    lab.run_ok(&format!("echo pci-stub > /sys/bus/pci/devices/{AUDIO}/driver_override"))?;
    let before = everything(lab)?;
    let out = hostctl(lab, "gpu bind card")?;
    ensure!(out.ok() && out.stderr.contains("`pci-stub`, set by somebody else"), "{out:?}");
    ensure!(driver(lab, AUDIO)? == "vfio-pci");
    ensure!(hostctl(lab, "gpu release card")?.ok());
    ensure!(everything(lab)? == before, "{before}\nis now\n{}", everything(lab)?);
    lab.run_ok(&format!("echo > /sys/bus/pci/devices/{AUDIO}/driver_override"))?;
    Ok(())
}

/// The VGA behind the bridge shares its group with a network and a USB
/// controller: refused with their names, and taken with them under `with`.
fn whole_group(lab: &Lab) -> Result<()> {
    let found = lab.run_ok("lspci -Dn")?;
    let of = |id: &str| {
        let line = found.lines().find(|line| line.contains(id));
        line.and_then(|line| line.split(' ').next()).map(str::to_owned).context(id.to_owned())
    };
    let (network, usb) = (of("8086:100e")?, of("1b36:000d")?);
    let bus = network.get(..8).context("a bus")?;
    let mut there = found.lines().filter(|l| l.starts_with(bus) && l.contains(" 0300:"));
    let vga = there.find_map(|line| line.split(' ').next()).context("no VGA there")?;
    let home = everything(lab)?;
    let out = hostctl(lab, &format!("gpu bind {vga}"))?;
    ensure!(out.status == 5, "{out:?}");
    ensure!(out.stderr.contains("e1000") && out.stderr.contains("xhci"), "{out:?}");
    ensure!(everything(lab)? == home);

    let host =
        format!("{CARDS}  - {{name: shared, address: '{vga}', with: ['{network}', '{usb}']}}\n");
    restart(lab, &host)?;
    let out = hostctl(lab, "gpu bind shared")?;
    ensure!(out.ok(), "{out:?}");
    for function in [vga, &network, &usb] {
        ensure!(driver(lab, function)? == "vfio-pci", "{function}");
    }
    ensure!(hostctl(lab, "gpu release shared")?.ok());
    ensure!(everything(lab)? == home, "{home}\nis now\n{}", everything(lab)?);
    restart(lab, CARDS)
}

fn restart(lab: &Lab, host: &str) -> Result<()> {
    lab.run_ok("kill -9 $(pidof hostd); while pidof hostd; do sleep 0.1; done; true")?;
    start_hostd(lab, host, GAMING)
}

/// Best of three, because the machine below may be busy.
fn behind_our_back(lab: &Lab) -> Result<()> {
    let mut took = u64::MAX;
    for _ in 0..3 {
        let driver = driver(lab, TWIN)?;
        let query = "service = \"device 0000:02:00.0\" and state = \"warning\" and attribute = 1";
        let query = query.replace(" and attribute = 1", " and description =~ \"%no driver%\"");
        let script = format!(
            "t=$(date +%s%N); echo {TWIN} > /sys/bus/pci/drivers/{driver}/unbind; \
             for i in $(seq 50); do riemann-client query -T '{query}' 127.0.0.1 5555 | \
             grep -q 'no driver' && break; done; \
             echo $(( ($(date +%s%N) - t) / 1000000 )); \
             echo {TWIN} > /sys/bus/pci/drivers/{driver}/bind; sleep 11"
        );
        let said = lab.run_for(&script, Duration::from_secs(90))?;
        let time: u64 = said.stdout.trim().parse().with_context(|| format!("{said:?}"))?;
        println!("    an event {time} ms after the driver was taken off");
        took = took.min(time);
        if took <= 1000 {
            return Ok(());
        }
    }
    anyhow::bail!("the event came only after {took} ms")
}

/// At several moments of a bind and of a release; what is not finished is
/// undone, or on record.
fn killed_on_the_way(lab: &Lab) -> Result<()> {
    let home = everything(lab)?;
    for (act, pauses) in [("bind", ["0.1", "0.3", "0.6"]), ("release", ["0.1", "0.3", "0.6"])] {
        for pause in pauses {
            if act == "release" {
                ensure!(hostctl(lab, "gpu bind card")?.ok());
            }
            lab.run_ok(&format!(
                "hostctl gpu {act} card >/dev/null 2>&1 & sleep {pause}; kill -9 $(pidof hostd); \
                 wait; true"
            ))?;
            launch(lab)?;
            let gpus = json(lab, "gpu list")?;
            let all = gpus["gpus"].as_array().context("cards")?;
            let card = all.iter().find(|gpu| gpu["name"] == "card").context("the card")?;
            let left = card["problems"].as_array().is_some_and(|all| !all.is_empty());
            let bound = driver(lab, CARD)? == "vfio-pci" && driver(lab, AUDIO)? == "vfio-pci";
            let at_home = everything(lab)? == home;
            println!(
                "    {act} killed after {pause} s: bound {bound}, at home {at_home}, on record {left}"
            );
            ensure!(bound || at_home || left, "{gpus}\n{}", everything(lab)?);
            ensure!(hostctl(lab, "gpu release card")?.ok());
            ensure!(everything(lab)? == home, "{home}\nis now\n{}", everything(lab)?);
        }
    }
    Ok(())
}

fn told(lab: &Lab, service: &str, words: &str) -> Result<()> {
    let query = format!("service = \"{service}\"");
    lab.wait_for(
        &format!("riemann-client query -T '{query}' 127.0.0.1 5555 | grep -q '{words}'"),
        Duration::from_secs(20),
    )
    .map(drop)
}

fn pulled_while_bound(lab: &Lab) -> Result<()> {
    ensure!(hostctl(lab, "gpu bind card")?.ok());
    lab.unplug_card(0)?;
    told(lab, "device 0000:01:00.0", "has vanished")?;
    told(lab, "gpu card", "gone from the bus while bound")?;
    let out = hostctl(lab, "gpu release card")?;
    ensure!(out.ok() && out.stderr.contains("is gone from the bus"), "{out:?}");
    let out = hostctl(lab, "gpu bind card")?;
    ensure!(out.status == 5 && out.stderr.contains("there is no device at"), "{out:?}");
    lab.plug_card(0)?;
    // Its driver may follow before anybody asks.
    told(lab, "device 0000:01:00.0", "has appeared\\|it had no driver")?;
    lab.wait_for(&format!("[ -e /sys/bus/pci/devices/{AUDIO}/driver ]"), Duration::from_secs(30))?;
    ensure!(hostctl(lab, "gpu bind card")?.ok());
    ensure!(hostctl(lab, "gpu release card")?.ok());
    Ok(())
}

/// The kernel asks QEMU to give the card up and waits; a guest without an
/// operating system does not hear it. hostd ends QEMU, and says why.
fn pulled_while_running(lab: &Lab) -> Result<()> {
    let out = hostctl(lab, "vm start gaming")?;
    ensure!(out.ok(), "{out:?}");
    lab.qmp("device_del", serde_json::json!({"id": "card0"}))?;
    lab.wait_for("dmesg | grep -q 'Relaying device request to user'", Duration::from_secs(60))?;
    // Whoever waits in the kernel keeps nobody from an answer.
    ensure!(json(lab, "gpu list")?["gpus"].is_array());
    let crashed = "hostctl vm status gaming --json | grep -q '\"state\": *\"crashed\"'";
    lab.wait_for(crashed, Duration::from_secs(10))?;
    let state = vm(lab, "gaming")?;
    let reason = state["reason"].as_str().unwrap_or_default();
    ensure!(reason.contains("its device 0000:01:00.") && reason.contains("pulled out"), "{state}");
    told(lab, "vm gaming", "pulled out")?;
    lab.wait_for(&format!("[ ! -e /sys/bus/pci/devices/{CARD} ]"), Duration::from_secs(60))?;
    told(lab, "device 0000:01:00.0", "has vanished")?;
    ensure!(lab.run("pidof qemu-system-x86_64")?.status != 0, "QEMU is still there");
    lab.wait_for("hostctl gpu release card", Duration::from_secs(60))?;
    let out = hostctl(lab, "vm start gaming")?;
    ensure!(out.status == 5 && out.stderr.contains("there is no device at"), "{out:?}");
    Ok(())
}

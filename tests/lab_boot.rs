//! Binding at boot, in a host that boots by itself: its own GRUB, its own
//! initramfs, its own udev.
#![cfg(feature = "lab-tests")]
#![allow(clippy::panic, clippy::expect_used, clippy::print_stdout, reason = "a test")]

mod lab_common;

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hostd_lab::{CardKind, Iommu, Lab, LabSpec};
use lab_common::*;

/// Building an initramfs without hardware virtualization.
const BUILD: Duration = Duration::from_secs(900);

/// The unit as the package has it: its sandbox is part of what is tested.
const INSTALL: &str = "
    set -e
    cp /payload/hostd /usr/sbin/hostd
    cp /payload/hostctl /usr/bin/hostctl
    cp /payload/hostd.service /etc/systemd/system/hostd.service
    chmod 644 /etc/systemd/system/hostd.service
    getent group hostd >/dev/null || groupadd --system hostd
    systemctl daemon-reload
    systemctl enable hostd.service
    systemctl start hostd.service";

/// Names and sums of everything that says how this machine boots.
const FILES: &str = "find /etc /usr/lib/udev /usr/lib/modprobe.d -type f -print0 | sort -z | \
                     xargs -0 sha256sum; find /etc -type d | sort";

#[test]
#[ignore = "long: four boots and two builds of an initramfs under emulation"]
fn bound_at_boot_and_back() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd/hostd.service");
    let spec = LabSpec::own_boot().iommu(Iommu::Intel).card(CardKind::BootVga0300);
    let spec = spec
        .payload(binary("hostd"), "hostd")
        .payload(binary("hostctl"), "hostctl")
        .payload(unit, "hostd.service");
    let mut lab = Lab::boot(spec).expect("the lab boots");
    let before = RefCell::new(String::new());
    let cases: [(&str, &Case); 5] = [
        ("the host's drivers have the card", &|lab| {
            configure(lab, HOST, GAMING)?;
            lab.run_ok_for(INSTALL, Duration::from_secs(180))?;
            on_the_host(lab)?;
            *before.borrow_mut() = lab.run_ok(FILES)?;
            Ok(())
        }),
        ("boot setup, through the daemon", &setup),
        ("after a reboot no driver of the host has had it", &bound),
        ("hostd.safe gives it to the host", &safe),
        ("boot remove leaves nothing", &|lab| {
            remove(lab)?;
            let after = lab.run_ok(FILES)?;
            ensure!(after == *before.borrow(), "{}", difference(&before.borrow(), &after));
            Ok(())
        }),
    ];
    for (name, case) in cases {
        let began = Instant::now();
        if let Err(error) = case(&mut lab) {
            let (log, console) = (log(&lab), lab.console_tail(30));
            panic!("{name}: {error:?}\n--- hostd's log\n{log}\n--- console\n{console}");
        }
        println!("    {name}: ok ({:.1} s)", began.elapsed().as_secs_f64());
    }
}

fn difference(before: &str, after: &str) -> String {
    let gone = before.lines().filter(|line| !after.lines().any(|other| other == *line));
    let new = after.lines().filter(|line| !before.lines().any(|other| other == *line));
    gone.map(|line| format!("- {line}\n")).chain(new.map(|line| format!("+ {line}\n"))).collect()
}

/// One step of the story; each needs the one before.
type Case<'a> = dyn Fn(&mut Lab) -> Result<()> + 'a;

const PICTURE: &str = "0000:01:00.0";
const SOUND: &str = "0000:01:00.1";

fn on_the_host(lab: &Lab) -> Result<()> {
    let found = (driver(lab, PICTURE)?, driver(lab, SOUND)?);
    ensure!(found.0.starts_with("bochs") && found.1 == "snd_hda_intel", "{found:?}");
    Ok(())
}

/// The lines of the kernel's log in which a driver of the host speaks of the card.
fn host_drivers(lab: &Lab) -> Result<String> {
    lab.run_ok("dmesg | grep -E '(bochs[^ ]*|snd_hda_intel) 0000:01:00\\.' || true")
}

fn reboot(lab: &mut Lab) -> Result<()> {
    lab.reboot()?;
    lab.wait_for("systemctl is-active hostd.service", Duration::from_secs(60)).map(drop)
}

fn setup(lab: &mut Lab) -> Result<()> {
    ensure!(!host_drivers(lab)?.is_empty(), "the check below would see nothing");
    let plan = hostctl(lab, "boot plan")?;
    println!("{}", plan.stdout);
    ensure!(plan.ok() && plan.stdout.contains("+GRUB_CMDLINE_LINUX="), "{plan:?}");
    let out = lab.run_for("hostctl boot setup --json", BUILD)?;
    ensure!(out.ok() && out.stdout.contains("\"changed\": true"), "{out:?}\n{}", log(lab));
    println!("{}", out.stdout);
    let out = lab.run_for("hostctl boot setup --json", BUILD)?;
    ensure!(out.ok() && out.stdout.contains("\"changed\": false"), "{out:?}");
    let inside = lab.run_ok_for("lsinitramfs /boot/initrd.img-*", Duration::from_secs(180))?;
    for name in ["70-hostd-passthrough.rules", "hostd-passthrough.conf", "vfio-pci.ko"] {
        ensure!(inside.contains(name), "{name} is not in the initramfs:\n{inside}");
    }
    // What drives it now stays until the reboot.
    on_the_host(lab)?;
    let status = hostctl(lab, "boot status")?;
    ensure!(status.status == 1 && status.stdout.contains("not been rebooted"), "{status:?}");
    Ok(())
}

fn bound(lab: &mut Lab) -> Result<()> {
    reboot(lab)?;
    for function in [PICTURE, SOUND] {
        let found = driver(lab, function)?;
        ensure!(found == "vfio-pci", "{function}: {found}\n{}", lab.run_ok("dmesg")?);
    }
    let said = host_drivers(lab)?;
    ensure!(said.is_empty(), "the host's drivers came first:\n{said}");
    let status = hostctl(lab, "boot status")?;
    println!("{}", status.stdout);
    ensure!(status.status == 0, "{status:?}");
    // The setup is as it should be: asking for it again changes nothing.
    let out = lab.run_for("hostctl boot setup --json", BUILD)?;
    ensure!(out.ok() && out.stdout.contains("\"changed\": false"), "{out:?}");
    Ok(())
}

/// As an owner does in GRUB's editor, where it lasts one boot.
fn safe(lab: &mut Lab) -> Result<()> {
    lab.run_ok(
        "sed -i '/^[[:space:]]*linux[[:space:]]/s/$/ hostd.safe/' /boot/grub/grub.cfg && sync",
    )?;
    reboot(lab)?;
    on_the_host(lab).with_context(|| lab.run_ok("cat /proc/cmdline").unwrap_or_default())?;
    let out = hostctl(lab, "gpu bind card")?;
    ensure!(out.status == 5 && out.stderr.contains("hostd.safe"), "{out:?}");
    on_the_host(lab)?;
    let out = hostctl(lab, "boot status")?;
    println!("{}", out.stdout);
    ensure!(out.status == 1 && out.stdout.contains("hostd.safe"), "{out:?}");
    let out = hostctl(lab, "status")?;
    println!("{}", out.stdout);
    ensure!(out.stdout.contains("binding: off, hostd.safe"), "{out:?}");
    Ok(())
}

fn remove(lab: &mut Lab) -> Result<()> {
    let out = lab.run_for("hostctl boot remove --json", BUILD)?;
    ensure!(out.ok() && out.stdout.contains("\"changed\": true"), "{out:?}\n{}", log(lab));
    reboot(lab)?;
    on_the_host(lab)?;
    let line = lab.run_ok("cat /proc/cmdline")?;
    ensure!(!line.contains("iommu") && !line.contains("hostd"), "{line}");
    let left = lab.run_ok("ls /var/lib/hostd/boot/setup.json 2>/dev/null || true")?;
    ensure!(left.is_empty(), "{left}");
    let status = hostctl(lab, "boot status")?;
    ensure!(status.status == 0 && status.stdout.contains("nothing is set up"), "{status:?}");
    let inside = "lsinitramfs /boot/initrd.img-* | grep -c hostd || true";
    let left = lab.run_ok_for(inside, Duration::from_secs(180))?;
    ensure!(left.trim() == "0", "{left} files of hostd are in the initramfs");
    Ok(())
}

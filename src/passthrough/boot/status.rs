//! Whether the boot setup is there and works. Judged from what is read; what
//! cannot be read is unknown.

use super::super::journal::{JournalError, boot_id};
use super::super::safe;
use super::files::{self, DRACUT, HOOK, MARK, MODPROBE, OWN, RULE};
use super::journal::{SetCard, Setup};
use super::{set_gpu, text};
use crate::ask::view::{BootStatusView, FindingView};
use crate::base::{PciAddress, Severity, Timestamp, with_sources};
use crate::host::{Command, Host, SysRoot};
use crate::pci::read::{attribute, driver, folder};
use crate::pci::{Driver, parse};

/// The kernel's log of this boot, or why it cannot be read. The kernel forgets
/// the beginning of a long one; systemd's journal keeps it.
pub async fn kernel_log(host: &Host) -> Result<String, String> {
    let own = said(host, Command::new("dmesg", [] as [&str; 0])).await;
    if own.as_deref().is_ok_and(begins) {
        return own;
    }
    let args = ["--dmesg", "--boot", "--no-pager", "--quiet", "--output=cat"];
    match said(host, Command::new("journalctl", args)).await {
        Ok(kept) if begins(&kept) => Ok(kept),
        Ok(_) | Err(_) => own,
    }
}

async fn said(host: &Host, command: Command) -> Result<String, String> {
    let ran = host.runner.run(command.clone()).await.and_then(|output| output.success(&command));
    ran.map(|text| String::from_utf8_lossy(&text).into_owned())
        .map_err(|error| with_sources(&error))
}

/// Whether a log goes back to the kernel's first words.
fn begins(log: &str) -> bool {
    log.lines().take(20).any(|line| line.contains("Linux version "))
}

fn check(
    severity: Severity,
    code: &str,
    object: &str,
    message: String,
    advice: &str,
) -> FindingView {
    FindingView {
        severity,
        code: code.to_owned(),
        object: object.to_owned(),
        message,
        advice: advice.to_owned(),
    }
}

const MOVED: &str = "correct its address under `gpus`, then run `hostctl boot setup` again";
const AGAIN: &str = "run `hostctl boot setup` again";

/// Everything that can be seen of the setup.
pub fn status(
    sys: &SysRoot,
    setup: Result<Option<Setup>, JournalError>,
    log: Result<&str, &str>,
) -> BootStatusView {
    let mut view =
        BootStatusView { safe_mode: safe::is_safe_mode(sys), ..BootStatusView::default() };
    let setup = match setup {
        Ok(Some(setup)) => setup,
        Ok(None) => {
            view.checks.extend(left_over(sys));
            if let (true, Err(error)) = (view.safe_mode, safe::cmdline(sys)) {
                let (what, object) = (error.in_full(), "/proc/cmdline");
                let advice = "until it can be read, nothing is bound";
                view.checks.push(check(Severity::Unknown, "safe", object, what, advice));
            }
            return view;
        }
        Err(error) => {
            let why = with_sources(&error);
            let advice = "ask the daemon, or run it as root";
            view.checks.push(check(Severity::Unknown, "record", "record", why, advice));
            return view;
        }
    };
    view.set_up = true;
    view.gpus = setup.cards.iter().map(set_gpu).collect();
    if !setup.complete {
        let what = "a setup or a removal was interrupted".to_owned();
        let advice = "run `hostctl boot setup` or `hostctl boot remove` again";
        view.checks.push(check(Severity::Critical, "record", "record", what, advice));
    }
    view.checks.extend(setup.own.iter().map(|own| file(sys, &own.path, &own.text)));
    view.checks.extend(initramfs(sys, &setup));
    for card in &setup.cards {
        view.checks.push(identity(sys, card));
    }
    // Whatever could be said of drivers and words is not about this setup yet.
    if boot_id(sys).is_ok_and(|boot| boot == setup.boot) {
        let what = "this machine has not been rebooted since the setup".to_owned();
        let advice = "reboot, then look again";
        view.checks.push(check(Severity::Warning, "reboot", "boot", what, advice));
        return view;
    }
    view.checks.push(cmdline(sys, &setup));
    if let Some(why) = safe::why(sys) {
        let what = format!("{why}: nothing was bound at boot");
        let advice = "take it out of the boot loader's entry and reboot";
        view.checks.push(check(Severity::Warning, "safe", "boot", what, advice));
        return view;
    }
    for (address, ..) in setup.cards.iter().flat_map(|card| &card.functions) {
        view.checks.push(driven(sys, *address));
        view.checks.push(first_driver(*address, log));
    }
    view
}

/// Files of ours that no record knows of.
fn left_over(sys: &SysRoot) -> Vec<FindingView> {
    let ours = |path: &&str| match text::read(sys, path) {
        Ok(text) => text.as_str().lines().any(|line| line == MARK),
        Err(_) => false,
    };
    let finding = |path| {
        let what = "hostd made it, and no record of a setup is there".to_owned();
        check(Severity::Warning, "file", path, what, "run `hostctl boot remove`")
    };
    OWN.into_iter().filter(ours).map(finding).collect()
}

fn file(sys: &SysRoot, path: &str, text: &str) -> FindingView {
    let (severity, what, advice) = match sys.bytes(path, 1 << 20) {
        Ok(now) if now == text.as_bytes() => mode(sys, path),
        Ok(_) => (Severity::Warning, "was changed since hostd made it".to_owned(), AGAIN),
        Err(error) if error.is_missing() => (Severity::Critical, "is gone".to_owned(), AGAIN),
        Err(error) => (Severity::Unknown, error.why(), "run it as root"),
    };
    check(severity, "file", path, what, advice)
}

/// Of a file that has the right text: a hook that may not be run does nothing.
fn mode(sys: &SysRoot, path: &str) -> (Severity, String, &'static str) {
    let wanted = files::mode(path);
    match sys.stamp(path) {
        Ok((mode, _)) if mode == wanted => (Severity::Ok, "as hostd made it".to_owned(), ""),
        Ok((mode, _)) => {
            let what = format!("its mode is {mode:03o}, not {wanted:03o} as hostd made it");
            (Severity::Warning, what, AGAIN)
        }
        Err(error) => (Severity::Unknown, error.why(), "run it as root"),
    }
}

/// What goes into an initramfs; GRUB's settings do not.
const IN_INITRAMFS: [&str; 4] = [RULE, MODPROBE, HOOK, DRACUT];

/// Every kernel's initramfs must be younger than what went into it.
fn initramfs(sys: &SysRoot, setup: &Setup) -> Option<FindingView> {
    let inside = setup.own.iter().filter(|own| IN_INITRAMFS.contains(&own.path.as_str()));
    let newest: Timestamp = inside.filter_map(|own| Some(sys.stamp(&own.path).ok()?.1)).max()?;
    let one = |severity, object: &str, what, advice| {
        Some(check(severity, "initramfs", object, what, advice))
    };
    let names = match sys.list("/boot") {
        Ok(names) => names,
        Err(error) => return one(Severity::Unknown, "/boot", error.why(), "run it as root"),
    };
    let kernels = sys.list("/lib/modules").unwrap_or_default();
    let mut seen = 0;
    let mut old = Vec::new();
    for name in names {
        let version = name
            .strip_prefix("initrd.img-")
            .or_else(|| name.strip_prefix("initramfs-")?.strip_suffix(".img"))
            .or_else(|| name.strip_prefix("initrd-"));
        if !version.is_some_and(|version| kernels.iter().any(|kernel| kernel == version)) {
            continue;
        }
        seen += 1;
        match sys.stamp(format!("/boot/{name}")) {
            Ok((_, made)) if made >= newest => {}
            Ok(_) => old.push(name),
            Err(error) => return one(Severity::Unknown, &name, error.why(), "run it as root"),
        }
    }
    if !old.is_empty() {
        let what = "is older than hostd's files: the rule is not in it".to_owned();
        return one(Severity::Warning, &old.join(", "), what, AGAIN);
    }
    match seen {
        0 => {
            let what = "no kernel's initramfs was found".to_owned();
            let advice = "look with `lsinitramfs` or `lsinitrd` whether the rule is in it";
            one(Severity::Unknown, "/boot", what, advice)
        }
        _ => one(Severity::Ok, "/boot", format!("{seen} made after hostd's files"), ""),
    }
}

fn identity(sys: &SysRoot, card: &SetCard) -> FindingView {
    for (address, vendor, device) in &card.functions {
        let read = |name: &str| attribute(sys, &format!("{}/{name}", folder(*address)));
        let id = |name: &str| read(name).ok().as_deref().and_then(parse::hex16);
        let (severity, what) = match (id("vendor"), id("device")) {
            (Some(v), Some(d)) if (v, d) == (*vendor, *device) => continue,
            (Some(v), Some(d)) => (
                Severity::Critical,
                format!("{address} is {v:04x}:{d:04x}, not {vendor:04x}:{device:04x}: not bound"),
            ),
            _ if !sys.exists(folder(*address)) => (
                Severity::Critical,
                format!("{address} is not there: cards have moved, or it is out"),
            ),
            _ => (Severity::Unknown, format!("what {address} is cannot be read")),
        };
        return check(severity, "card", &card.name, what, MOVED);
    }
    for (address, vendor, device) in &card.boards {
        let read = |name: &str| attribute(sys, &format!("{}/{name}", folder(*address)));
        let id = |name: &str| read(name).ok().as_deref().and_then(parse::hex16);
        let (severity, what) = match (id("subsystem_vendor"), id("subsystem_device")) {
            (Some(v), Some(d)) if (v, d) == (*vendor, *device) => continue,
            (Some(v), Some(d)) => (
                Severity::Critical,
                format!(
                    "{address} is on the board {v:04x}:{d:04x}, not {vendor:04x}:{device:04x}: \
                     not bound"
                ),
            ),
            _ => (Severity::Unknown, format!("which board {address} is on cannot be read")),
        };
        return check(severity, "card", &card.name, what, MOVED);
    }
    check(Severity::Ok, "card", &card.name, "is where it was".to_owned(), "")
}

fn cmdline(sys: &SysRoot, setup: &Setup) -> FindingView {
    let one =
        |severity, what, advice: &str| check(severity, "words", "/proc/cmdline", what, advice);
    let now = match safe::cmdline(sys) {
        Ok(now) => now,
        Err(error) => return one(Severity::Unknown, error.in_full(), ""),
    };
    let missing: Vec<&str> = setup
        .words
        .iter()
        .map(String::as_str)
        .filter(|word| !safe::words(&now).any(|w| w == *word))
        .collect();
    if missing.is_empty() {
        return one(Severity::Ok, "has the words that were asked for".to_owned(), "");
    }
    let what = format!("this kernel was started without {}", missing.join(" "));
    let advice = if setup.words_written {
        "another boot loader has started it than the one whose file was changed: which? \
         (`efibootmgr -v`, `bootctl`)"
    } else {
        "they have to be given to the boot loader by hand; `hostctl boot plan` says where"
    };
    one(Severity::Warning, what, advice)
}

fn driven(sys: &SysRoot, address: PciAddress) -> FindingView {
    let one = |severity, what, advice: &str| {
        check(severity, "driver", &address.to_string(), what, advice)
    };
    match driver(sys, &folder(address)) {
        Driver::Named(name) if name == "vfio-pci" => one(Severity::Ok, "is on vfio-pci".into(), ""),
        Driver::Named(name) => {
            let advice = "if nobody has released it since the boot, `udevadm test` on its folder in \
                          /sys tells what became of the rule";
            one(Severity::Warning, format!("is on {name}"), advice)
        }
        Driver::None => {
            let advice = "without an IOMMU vfio-pci does not take it: `hostctl iommu list`";
            one(Severity::Warning, "has no driver".to_owned(), advice)
        }
        Driver::Unknown(why) => one(Severity::Unknown, why, ""),
    }
}

/// Whether a driver of the host has had the function before vfio-pci. The
/// kernel puts a device's driver before its address in each line about it, and
/// its bus while it has none (Linux, `dev_printk`).
fn first_driver(address: PciAddress, log: Result<&str, &str>) -> FindingView {
    let one = |severity, what, advice: &str| {
        check(severity, "kernel-log", &address.to_string(), what, advice)
    };
    let log = match log {
        Ok(log) => log,
        Err(why) => {
            let advice = "ask the daemon, or run it as root";
            return one(
                Severity::Unknown,
                format!("the kernel's log cannot be read: {why}"),
                advice,
            );
        }
    };
    if let Some(driver) = drivers_in(log, address).into_iter().next() {
        let advice = "is that driver in the initramfs, and the rule not? `hostctl boot setup` \
                      builds it anew";
        return one(Severity::Warning, format!("{driver} had it first"), advice);
    }
    if !begins(log) {
        let what = "the kernel's log has lost its beginning".to_owned();
        return one(Severity::Unknown, what, "look right after a boot");
    }
    one(Severity::Ok, "no driver of the host has had it".to_owned(), "")
}

/// The drivers of the host that the log names with this function, in order.
fn drivers_in(log: &str, address: PciAddress) -> Vec<&str> {
    let tail = format!("{address}:");
    let mut found: Vec<&str> = Vec::new();
    for line in log.lines() {
        let mut words = line.split_ascii_whitespace();
        let mut before = "";
        let at = words.find(|word| {
            let here = *word == tail;
            if !here {
                before = word;
            }
            here
        });
        // `[    1.2]` is all there is before an address that is nobody's subject.
        let named = at.is_some() && parse::is_driver_name(before) && !before.ends_with(']');
        if named && !matches!(before, "pci" | "vfio-pci" | "vfio_pci") && !found.contains(&before) {
            found.push(before);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LOG: &str = "[    0.000000] Linux version 6.12.0\n\
        [    0.5] pci 0000:01:00.0: [1234:1111] type 00 class 0x030000 PCIe Endpoint\n\
        [    0.6] pci 0000:01:00.0: vgaarb: setting as boot VGA device\n\
        [    2.1] vfio-pci 0000:01:00.0: vgaarb: VGA decodes changed: none\n\
        [    2.2] snd_hda_intel 0000:01:00.1: Force to non-snoop mode\n\
        [    2.3] [drm] Initialized bochs-drm 1.0.0 for 0000:02:00.0 on minor 0\n\
        [    2.4] bochs-drm 0000:02:00.0: [drm] fb0: bochs-drmdrmfb frame buffer device\n";

    fn at(text: &str) -> PciAddress {
        text.parse().unwrap()
    }

    #[test]
    fn the_log_names_who_had_a_function() {
        assert!(drivers_in(LOG, at("01:00.0")).is_empty());
        assert_eq!(drivers_in(LOG, at("01:00.1")), ["snd_hda_intel"]);
        assert_eq!(drivers_in(LOG, at("02:00.0")), ["bochs-drm"]);
        assert_eq!(first_driver(at("01:00.0"), Ok(LOG)).severity, Severity::Ok);
        assert_eq!(first_driver(at("01:00.1"), Ok(LOG)).severity, Severity::Warning);
        let lost = LOG.split_once('\n').unwrap().1;
        assert_eq!(first_driver(at("01:00.0"), Ok(lost)).severity, Severity::Unknown);
        assert_eq!(first_driver(at("01:00.0"), Err("no")).severity, Severity::Unknown);
    }

    proptest! {
        #[test]
        fn any_log_is_taken(text in "(\\PC{0,30}0000:01:00.0:\\PC{0,9}\n){0,3}") {
            let _ = drivers_in(&text, at("01:00.0"));
        }
    }
}

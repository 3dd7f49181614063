//! VMs: whether what their files name is there, and what has changed since
//! they last ran.

use std::time::Duration;

use super::check::{Check, Id};
use super::scope::Scope;
use crate::ask::view::RomView;
use crate::base::{Name, Timestamp, span};
use crate::config::{Firmware, Vm};
use crate::host::{Command, Host};
use crate::passthrough::rom;
use crate::vm::last_good::{self, Setup, Starts};
use crate::vm::paths::Paths;
use crate::vm::preflight::{self, Problem};

/// How long looking at a VM's files may take; a disk may hang in the kernel.
const FILES: Duration = Duration::from_secs(4);
/// How long QEMU may take to say its version.
const VERSION: Duration = Duration::from_secs(3);

/// What there is to judge about a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The VM.
    pub name: Name,
    /// What stands against its start; `None` when its files do not answer.
    pub problems: Option<Vec<Problem>>,
    /// UEFI images that are none, by path.
    pub not_firmware: Vec<String>,
    /// Whether it has UEFI firmware whose images could be read.
    pub firmware: bool,
    /// The ROM that its file names: its path, and what is wrong with it.
    pub rom: Option<(String, Result<RomView, String>)>,
    /// How its starts have gone; only of VMs with a card.
    pub starts: Option<Result<Option<Starts>, String>>,
    /// On what it would start now.
    pub now: Setup,
}

/// Reads it all.
pub async fn read(host: &Host, scope: &Scope) -> Vec<Facts> {
    let mut all = Vec::new();
    for vm in &scope.vms {
        let functions = scope.card_of(vm).map(super::scope::Card::addresses).unwrap_or_default();
        let card = scope.card_of(vm).and_then(|card| card.functions.first().map(|f| (card, f)));
        let card = card.map(|(card, first)| rom::Card {
            name: card.name().to_owned(),
            id: first.identity(),
            boot_vga: first.boot_vga,
        });
        let (machine, own) = (host.clone(), vm.clone());
        let look = tokio::task::spawn_blocking(move || {
            (files(&machine, &own), rom_file(&machine, &own, card.as_ref()))
        });
        let looked = tokio::time::timeout(FILES, look).await.ok().and_then(Result::ok);
        let (looked, rom) = looked.unzip();
        let (problems, firmware) = looked.unzip();
        let (not_firmware, images) = firmware.unwrap_or_default();
        let starts = vm
            .gpu
            .is_some()
            .then(|| last_good::read(host, &vm.name).map_err(|error| error.in_full()));
        let mut now = Setup::read(&host.sys, &functions);
        if vm.gpu.is_some() {
            now.qemu = qemu_version(host, vm).await;
        }
        let name = vm.name.clone();
        let rom = rom.flatten();
        all.push(Facts { name, problems, not_firmware, firmware: images, rom, starts, now });
    }
    all
}

type Looked = (Vec<Problem>, (Vec<String>, bool));

fn files(host: &Host, vm: &Vm) -> Looked {
    let problems = preflight::check(host, vm, &Paths::new(host, &vm.name));
    let Firmware::Ovmf { code, vars } = &vm.firmware else { return (problems, (vec![], false)) };
    let mut wrong = Vec::new();
    for image in [code, vars] {
        // What cannot be read is among the problems.
        if let Ok(head) = host.sys.head(image, 44)
            && !is_firmware(&head)
        {
            wrong.push(image.display().to_string());
        }
    }
    (problems, (wrong, true))
}

/// The ROM that a VM's file names for its card.
fn rom_file(
    host: &Host,
    vm: &Vm,
    card: Option<&rom::Card>,
) -> Option<(String, Result<RomView, String>)> {
    let path = vm.gpu_options.rom.as_ref()?;
    let name = path.display().to_string();
    let read = host.sys.bytes(path, rom::parse::MAX as u64).map_err(|error| error.to_string());
    let seen = read.map(|bytes| rom::view(&name, &bytes, card));
    Some((name, seen))
}

/// The signature of a firmware volume, byte 40 of its header.
fn is_firmware(head: &[u8]) -> bool {
    head.get(40..44) == Some(b"_FVH")
}

/// Asks the VM's QEMU; only where programs are this machine's own.
async fn qemu_version(host: &Host, vm: &Vm) -> Option<String> {
    if !host.sys.is_real() {
        return None;
    }
    let mut command = Command::new(&vm.qemu, ["--version"]).deadline(VERSION);
    command.limit = 1 << 16;
    let output = host.runner.run(command.clone()).await.ok()?.success(&command).ok()?;
    version(&String::from_utf8_lossy(&output))
}

/// `QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)`.
fn version(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("version ")?;
    let number: String =
        rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').take(32).collect();
    (!number.is_empty()).then_some(number)
}

/// The checks.
pub fn judge(facts: &[Facts], scope: &Scope, now: Timestamp) -> Vec<Check> {
    let mut checks = Vec::new();
    for (facts, vm) in facts.iter().zip(&scope.vms) {
        let mut add = |check: Check| checks.push(check.of(facts.name.to_string()));
        match &facts.problems {
            None => add(Check::critical(
                Id::VmFiles,
                "its files do not answer: a disk hangs in the kernel",
                "hostctl pool status; look at the network that its disks are on",
            )),
            Some(problems) if problems.is_empty() => {
                add(Check::ok(
                    Id::VmFiles,
                    format!("{} and what its file names are there", vm.machine),
                ));
            }
            Some(problems) => problems.iter().for_each(|problem| {
                add(Check::critical(Id::VmFiles, &problem.what, &problem.next));
            }),
        }
        if !facts.not_firmware.is_empty() {
            let seen = format!("no UEFI image: {}", facts.not_firmware.join(", "));
            let fix = "correct `firmware:` in the VM's file; Debian's are in /usr/share/OVMF \
                       (`apt install ovmf`)";
            add(Check::critical(Id::Firmware, seen, fix));
        } else if facts.firmware {
            let missing = facts.problems.as_ref().is_some_and(|all| !all.is_empty());
            if !missing {
                add(Check::ok(Id::Firmware, "code and variables are UEFI images"));
            }
        }
        if let Some((file, seen)) = &facts.rom {
            add(rom_check(file, seen));
        }
        if let Some(starts) = &facts.starts {
            add(history(starts, &facts.now, now));
        }
    }
    checks
}

fn rom_check(file: &str, seen: &Result<RomView, String>) -> Check {
    let fix = format!("hostctl gpu rom check {file}");
    let view = match seen {
        Err(why) => return Check::critical(Id::Rom, why, "correct `rom:` in the VM's file"),
        Ok(view) => view,
    };
    let said: Vec<&str> = view.findings.iter().map(|found| found.message.as_str()).collect();
    match (view.usable, said.as_slice()) {
        (true, []) => Check::ok(Id::Rom, format!("{file}: {} images, all good", view.images.len())),
        (true, said) => Check::warning(Id::Rom, format!("{file}: {}", said.join("; ")), fix),
        (false, said) => Check::critical(Id::Rom, format!("{file}: {}", said.join("; ")), fix),
    }
}

fn history(starts: &Result<Option<Starts>, String>, setup: &Setup, now: Timestamp) -> Check {
    let id = Id::LastGood;
    let starts = match starts {
        Err(why) => return Check::unknown(id, format!("the note cannot be read: {why}"), ""),
        Ok(starts) => starts.clone().unwrap_or_default(),
    };
    let ago = |at: Timestamp| format!("{} ago", span::show(now.since(at)));
    let Some(good) = starts.good else {
        return match starts.failed {
            None => Check::ok(id, "it has not been started yet"),
            Some(failed) => Check::warning(
                id,
                format!("it has never run; it failed {}: {}", ago(failed.at), failed.why),
                "begin with what is critical here; `hostctl vm log` has QEMU's words",
            ),
        };
    };
    let changed = good.setup.changed(setup);
    let list = if changed.is_empty() { "nothing".to_owned() } else { changed.join(", ") };
    let seen = format!("ran {}; changed since: {list}", ago(good.at));
    match starts.failed.filter(|failed| failed.at > good.at) {
        Some(failed) => {
            let fix = if changed.is_empty() {
                "`hostctl vm log` has QEMU's words".to_owned()
            } else {
                format!("go back to what ran, one at a time: {list}")
            };
            let seen = format!("{seen}; it failed {}: {}", ago(failed.at), failed.why);
            Check::warning(id, seen, fix)
        }
        None => Check::ok(id, seen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Severity;
    use crate::doctor::tests::{scope, status};
    use crate::vm::last_good::{Failed, Good};
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(7_200_000_000);

    fn facts() -> Facts {
        Facts {
            name: "win".parse().unwrap(),
            problems: Some(Vec::new()),
            not_firmware: Vec::new(),
            firmware: true,
            rom: None,
            starts: Some(Ok(None)),
            now: setup("6.12.3"),
        }
    }

    fn setup(kernel: &str) -> Setup {
        Setup { kernel: Some(kernel.to_owned()), ..Setup::default() }
    }

    fn checks(facts: Facts) -> Vec<Check> {
        judge(&[facts], &scope(), NOW)
    }

    #[test]
    fn a_vm_with_all_it_needs_is_fine() {
        let all = checks(facts());
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|check| check.status == Severity::Ok && check.object == "win"));
    }

    #[test]
    fn a_rom_that_no_guest_may_have_is_critical() {
        let with = |seen| {
            let found = checks(Facts { rom: Some(("/x.rom".into(), seen)), ..facts() });
            status(&found, Id::Rom)
        };
        let good = RomView { usable: true, ..RomView::default() };
        assert_eq!(with(Ok(good)), Severity::Ok);
        assert_eq!(with(Ok(rom::view("/x.rom", b"no ROM", None))), Severity::Critical);
        assert_eq!(with(Err("it does not exist".into())), Severity::Critical);
    }

    #[test]
    fn what_is_missing_is_critical() {
        let problem = |what: &str| Problem { what: what.into(), next: "install it".into() };
        let problems = Some(vec![problem("QEMU is not there"), problem("no disk")]);
        let found = checks(Facts { problems, ..facts() });
        let bad = found.iter().filter(|check| check.status == Severity::Critical);
        assert_eq!(bad.count(), 2);
        assert!(found.iter().all(|check| check.id != Id::Firmware), "not fine, if not read");
        let hung = checks(Facts { problems: None, ..facts() });
        assert_eq!(status(&hung, Id::VmFiles), Severity::Critical);
        let wrong = Facts { not_firmware: vec!["/x.fd".into()], ..facts() };
        assert_eq!(status(&checks(wrong), Id::Firmware), Severity::Critical);
        assert!(is_firmware(&[&[0; 40][..], b"_FVH"].concat()) && !is_firmware(b"_FVH"));
    }

    #[test]
    fn a_change_matters_once_it_does_not_start() {
        let good = Good { at: Timestamp(3_600_000_000), setup: setup("6.12.1") };
        let failed = |at| Some(Failed { at: Timestamp(at), why: "QEMU ended at once".into() });
        let with = |good: Option<&Good>, failed| {
            let starts = Starts { good: good.cloned(), failed };
            let found = checks(Facts { starts: Some(Ok(Some(starts))), ..facts() });
            found.into_iter().find(|check| check.id == Id::LastGood).unwrap()
        };
        let fine = with(Some(&good), failed(1));
        assert_eq!(fine.status, Severity::Ok);
        assert_eq!(fine.evidence, "ran 1h 0m ago; changed since: kernel 6.12.1 → 6.12.3");
        let broken = with(Some(&good), failed(3_700_000_000));
        assert_eq!(broken.status, Severity::Warning);
        assert!(broken.fix.contains("kernel 6.12.1 → 6.12.3"), "{broken:?}");
        assert_eq!(with(None, failed(1)).status, Severity::Warning);
        let unread = checks(Facts { starts: Some(Err("damaged".into())), ..facts() });
        assert_eq!(status(&unread, Id::LastGood), Severity::Unknown);
    }

    #[test]
    fn qemu_says_its_version() {
        let said = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright";
        assert_eq!(version(said).as_deref(), Some("10.0.2"));
        assert_eq!(version("version "), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(version |\\PC){0,20}") {
            let _ = (version(&text), is_firmware(text.as_bytes()));
        }
    }
}

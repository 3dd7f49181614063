//! VMs: whether what their files name is there, and what has changed since
//! they last ran.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::check::{Check, Id};
use super::scope::{Card, Scope};
use crate::ask::view::RomView;
use crate::base::{Name, Timestamp, span};
use crate::config::{Firmware, Vm};
use crate::host::{Command, Host};
use crate::passthrough::rom;
use crate::vm::last_good::{self, Setup, Starts};
use crate::vm::paths::Paths;
use crate::vm::preflight::{self, Problem};

/// How long looking at the VMs' files may take, all of them beside each other;
/// a disk may hang in the kernel.
const FILES: Duration = Duration::from_secs(4);
/// How long QEMU may take to say its version, beside that.
const VERSION: Duration = Duration::from_secs(4);

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

/// Reads it all, the VMs beside each other: who asks has one deadline, however
/// many there are.
pub async fn read(host: &Host, scope: &Scope) -> Vec<Facts> {
    let with_card = scope.vms_with_card().map(|vm| vm.qemu.clone());
    let programs: BTreeSet<PathBuf> = with_card.collect();
    let versions = join_all(programs.iter().map(|program| qemu_version(host, program)));
    let looks = beside(scope.vms.iter().map(|vm| look(host, scope, vm)));
    let (versions, looked) = tokio::join!(versions, looks);
    let versions: BTreeMap<&PathBuf, Option<String>> = programs.iter().zip(versions).collect();
    let vms = scope.vms.iter().zip(looked);
    vms.map(|(vm, looked)| {
        let functions = scope.card_of(vm).map(Card::addresses).unwrap_or_default();
        let mut now = Setup::read(&host.sys, &functions);
        if vm.gpu.is_some() {
            now.qemu = versions.get(&vm.qemu).cloned().flatten();
        }
        facts(vm, looked.and_then(Result::ok), now)
    })
    .collect()
}

/// What each of them comes to; nothing for those that take too long.
async fn beside<F: Future>(looks: impl IntoIterator<Item = F>) -> Vec<Option<F::Output>> {
    let limited = looks.into_iter().map(|look| tokio::time::timeout(FILES, look));
    join_all(limited).await.into_iter().map(Result::ok).collect()
}

/// What comes from disks.
struct Looked {
    problems: Vec<Problem>,
    not_firmware: Vec<String>,
    firmware: bool,
    rom: Option<(String, Result<RomView, String>)>,
    starts: Option<Result<Option<Starts>, String>>,
}

/// Looks at one of them, on a thread of its own: a disk may hang.
fn look(host: &Host, scope: &Scope, vm: &Vm) -> JoinHandle<Looked> {
    let card = scope.card_of(vm);
    let card = card.and_then(|card| card.functions.first().map(|first| (card, first)));
    let card = card.map(|(card, first)| rom::Card::of(card.name(), Some(first)));
    let (host, vm) = (host.clone(), vm.clone());
    tokio::task::spawn_blocking(move || {
        let (problems, (not_firmware, firmware)) = files(&host, &vm);
        let rom = rom_file(&host, &vm, card.as_ref());
        let starts = || last_good::read(&host, &vm.name).map_err(|error| error.in_full());
        let starts = vm.gpu.is_some().then(starts);
        Looked { problems, not_firmware, firmware, rom, starts }
    })
}

fn facts(vm: &Vm, looked: Option<Looked>, now: Setup) -> Facts {
    let name = vm.name.clone();
    match looked {
        Some(Looked { problems, not_firmware, firmware, rom, starts }) => {
            Facts { name, problems: Some(problems), not_firmware, firmware, rom, starts, now }
        }
        None => Facts {
            name,
            problems: None,
            not_firmware: Vec::new(),
            firmware: false,
            rom: None,
            starts: vm.gpu.is_some().then(|| Err("the files do not answer".to_owned())),
            now,
        },
    }
}

/// What stands against a start; images that are none; whether there are images.
type Files = (Vec<Problem>, (Vec<String>, bool));

fn files(host: &Host, vm: &Vm) -> Files {
    let problems = preflight::check(host, vm, &Paths::new(host, &vm.name));
    let Firmware::Ovmf { code, vars, .. } = &vm.firmware else {
        return (problems, (vec![], false));
    };
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

/// Asks QEMU; only where programs are this machine's own.
async fn qemu_version(host: &Host, program: &Path) -> Option<String> {
    if !host.sys.is_real() {
        return None;
    }
    let mut command = Command::new(program, ["--version"]).deadline(VERSION);
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
    use crate::host::fake::FakeHost;
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

    #[tokio::test(start_paused = true)]
    async fn many_vms_whose_disks_hang_take_no_longer_than_one() {
        let begun = tokio::time::Instant::now();
        let hung = (0..40).map(|_| std::future::pending::<()>());
        assert!(beside(hung).await.iter().all(Option::is_none));
        assert_eq!(begun.elapsed(), FILES);
        let hung = super::facts(&scope().vms[0], None, setup("6.12.3"));
        assert_eq!(hung.problems, None);
        assert!(matches!(hung.starts, Some(Err(_))), "{hung:?}");
    }

    #[tokio::test]
    async fn each_vm_has_facts_of_its_own_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut scope = scope();
        let other = Vm { name: "other".parse().unwrap(), gpu: None, ..scope.vms[0].clone() };
        scope.vms.push(other);
        let all = read(&FakeHost::new(dir.path()).host(), &scope).await;
        let names: Vec<&str> = all.iter().map(|facts| facts.name.as_str()).collect();
        assert_eq!(names, ["win", "other"]);
        assert_eq!((&all[0].starts, &all[1].starts), (&Some(Ok(None)), &None));
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
        let problem = |what: &str| Problem::new(what, "install it");
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

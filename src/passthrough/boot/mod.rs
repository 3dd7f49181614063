//! Cards on vfio-pci from the first moment of a boot, before a host driver can
//! take them.
//!
//! In: the configured cards, the machine's boot loader and initramfs builder.
//! Out: files in `/etc`, an initramfs built anew, and a record of it all.
//!
//! ```text
//!   machine, cards ──▶ wanted files and words ─┐
//!   /etc as it is ─────────────────────────────┼─ changes ──▶ diff    (plan)
//!   record of the last setup ──────────────────┘    │
//!                                                   ▼
//!            record ▶ files ▶ initramfs, loader ▶ record complete     (setup, remove)
//!               ◀──────── undone when one fails
//!
//!   reboot ──▶ files, words, initramfs, drivers, kernel log ──▶ checks (status)
//! ```
//!
//! A removal is a setup of nothing. Files of ours are made and removed whole;
//! in files of others only words of ours come and go.
//!
//! - this file: [`Boot`], what others call; read it first
//! - [`files`]: the texts of our own files
//! - [`words`]: words in files of others
//! - [`machine`]: boot loader, builders, what the kernel needs
//! - [`mod@plan`]: what has to change
//! - [`perform`]: changes it, or takes it back
//! - [`status`]: whether it works, after the reboot
//! - [`journal`]: the record
//! - [`error`]: every no

pub mod error;
pub mod files;
pub mod journal;
pub mod machine;
pub mod perform;
pub mod plan;
pub mod status;
#[cfg(test)]
mod tests;
pub mod words;

use std::sync::Arc;

use self::error::BootError;
use self::files::{Card, Function, OWN};
use self::journal::{Journal, OwnFile, SetCard, Setup};
use self::plan::{Change, Changes, Texts, Wanted};
use super::error::PassthroughError;
use super::helper::with_sources;
use super::journal::boot_id;
use super::safe;
use super::target::{self, Target};
use crate::ask::view::{
    BootAction, BootFileView, BootFunctionView, BootGpuView, BootPlanView, BootStatusView, DoneView,
};
use crate::config::{Firmware, Gpu, Vm};
use crate::host::Host;
use crate::pci::{Driver, Facts, Names, viability};

/// The boot-time setup of this host; cheap to clone.
#[derive(Clone)]
pub struct Boot {
    inner: Arc<Inner>,
}

struct Inner {
    host: Host,
    journal: Journal,
    gpus: Vec<Gpu>,
    disable_vga: bool,
    /// False for another machine's files: commands would change this one.
    commands: bool,
    turn: tokio::sync::Mutex<()>,
}

/// All that a setup or a removal would do.
struct Draft {
    before: Option<Setup>,
    cards: Vec<Card>,
    words: Vec<String>,
    changes: Changes,
    commands: Vec<Vec<String>>,
    wanted: Wanted,
    warnings: Vec<String>,
}

/// What is meant: cards, or nothing at all.
enum Aim<'a> {
    Cards(&'a [String]),
    Nothing,
}

impl Boot {
    /// The setup of `host`; nothing is read yet.
    pub fn new(host: Host, gpus: Vec<Gpu>, vms: &[Vm]) -> Self {
        let commands = host.sys.is_real();
        Self::with_commands(host, gpus, vms, commands)
    }

    /// The same, with or without the commands that follow the files.
    pub fn with_commands(host: Host, gpus: Vec<Gpu>, vms: &[Vm], commands: bool) -> Self {
        let uefi = |vm: &&Vm| matches!(vm.firmware, Firmware::Ovmf { .. });
        let mut with_card = vms.iter().filter(|vm| vm.gpu.is_some()).peekable();
        let disable_vga = with_card.peek().is_some() && with_card.all(|vm| uefi(&vm));
        let journal = Journal::new(&host);
        let turn = tokio::sync::Mutex::default();
        Self { inner: Arc::new(Inner { host, journal, gpus, disable_vga, commands, turn }) }
    }

    /// What `setup` with these cards, or `remove`, would do. Touches nothing.
    pub async fn plan(&self, gpus: &[String], remove: bool) -> Result<BootPlanView, BootError> {
        let aim = if remove { Aim::Nothing } else { Aim::Cards(gpus) };
        let (before, unread) = match self.inner.journal.load() {
            Ok(before) => (before, None),
            Err(error) => (None, Some(with_sources(&error))),
        };
        let mut draft = self.draft(&aim, before).await?;
        draft.warnings.extend(unread.map(|why| {
            format!("{why}: this is planned as if nothing were on record; root knows better")
        }));
        Ok(BootPlanView {
            gpus: draft.cards.iter().map(gpu).collect(),
            words: draft.words,
            files: draft.changes.files.iter().map(file).collect(),
            commands: draft.commands.iter().map(|words| line(words)).collect(),
            warnings: draft.warnings,
        })
    }

    /// Sets these cards up for the next boot, all configured ones when none is
    /// named, and takes others out.
    pub async fn setup(&self, gpus: &[String]) -> Result<DoneView, BootError> {
        let _turn = self.inner.turn.lock().await;
        let draft = self.draft(&Aim::Cards(gpus), self.load()?).await?;
        let names: Vec<&str> = draft.cards.iter().map(|card| card.name.as_str()).collect();
        let names = names.join(", ");
        let boot = boot_id(&self.inner.host.sys).map_err(BootError::Read)?;
        // The record of a setup that has worked before keeps its boot.
        let same = draft.changes.files.is_empty() && draft.commands.is_empty();
        let after = Setup {
            boot: draft.before.as_ref().filter(|_| same).map_or(boot, |setup| setup.boot.clone()),
            complete: true,
            cards: draft.cards.iter().map(set_card).collect(),
            words: draft.words.clone(),
            words_written: draft.words.is_empty()
                || !(draft.wanted.grub.is_empty() && draft.wanted.cmdline.is_empty())
                || draft.wanted.files.iter().any(|file| file.path == files::GRUB),
            own: draft.wanted.files.iter().map(own).collect(),
            edited: draft.changes.edited.clone(),
            folders: draft.before.as_ref().map_or_else(Vec::new, |setup| setup.folders.clone()),
        };
        let (changed, warnings) = self.perform(draft, Some(after)).await?;
        let message = if changed {
            format!(
                "{names}: on vfio-pci from the next boot on; reboot, then `hostctl boot status`"
            )
        } else {
            format!("{names}: was set up already")
        };
        Ok(DoneView { changed, message, warnings })
    }

    /// Takes everything away again.
    pub async fn remove(&self) -> Result<DoneView, BootError> {
        let _turn = self.inner.turn.lock().await;
        let draft = self.draft(&Aim::Nothing, self.load()?).await?;
        let (changed, warnings) = self.perform(draft, None).await?;
        let message = if changed {
            "the boot setup is gone: the host's drivers take the cards from the next boot on"
        } else {
            "nothing was set up"
        };
        Ok(DoneView { changed, message: message.to_owned(), warnings })
    }

    /// Whether what is set up is there, and works.
    pub async fn status(&self) -> BootStatusView {
        let inner = &self.inner;
        let setup = inner.journal.load();
        let log = match &setup {
            Ok(Some(_)) if inner.commands => status::kernel_log(&inner.host).await,
            _ => Err("it is not asked for another machine's files".to_owned()),
        };
        status::status(&inner.host.sys, setup, log)
    }

    fn load(&self) -> Result<Option<Setup>, BootError> {
        self.inner.journal.load().map_err(BootError::Journal)
    }

    /// Reads the machine and works out what has to change.
    async fn draft(&self, aim: &Aim<'_>, before: Option<Setup>) -> Result<Draft, BootError> {
        let this = Arc::clone(&self.inner);
        let names: Option<Vec<String>> = match aim {
            Aim::Cards(names) => Some(names.to_vec()),
            Aim::Nothing => None,
        };
        let drafted = tokio::task::spawn_blocking(move || this.draft(names.as_deref(), before));
        drafted.await.map_err(BootError::Lost)?
    }

    /// Does what the draft says; false when there was nothing to do.
    async fn perform(
        &self,
        draft: Draft,
        after: Option<Setup>,
    ) -> Result<(bool, Vec<String>), BootError> {
        let Draft { before, changes, commands, mut warnings, .. } = draft;
        let (this, journal) = (Arc::clone(&self.inner), &self.inner.journal);
        let save = |setup: Option<&Setup>| journal.save(setup).map_err(BootError::Journal);
        if changes.files.is_empty() && commands.is_empty() {
            if after != before {
                save(after.as_ref())?;
            }
            return Ok((false, warnings));
        }
        let mut record = under_way(before.as_ref(), after.as_ref());
        record.folders.extend(perform::new_folders(&this.host.sys, &changes.files));
        save(Some(&record))?;
        for change in changes.files.iter().filter(|change| change.keep) {
            if let Some(text) = &change.before {
                let kept = journal.keep(&change.path, text).map_err(BootError::Journal)?;
                warnings.push(format!("{} as it was: {kept}", change.path));
            }
        }
        let list: Arc<[Change]> = changes.files.into();
        let (work, sys) = (Arc::clone(&list), this.host.sys.clone());
        let made = tokio::task::spawn_blocking(move || perform::files(&sys, &work)).await;
        let done = match made.map_err(BootError::Lost)? {
            Ok(done) => done,
            Err(error) => {
                save(before.as_ref())?;
                return Err(error);
            }
        };
        if this.commands {
            for (number, command) in commands.iter().enumerate() {
                if let Err(source) = perform::run(&this.host, command).await {
                    let mut left = perform::undo(&this.host.sys, &list, &done);
                    left.extend(self.again(&commands[..=number]).await);
                    save(before.as_ref())?;
                    return Err(BootError::Command { source, left });
                }
            }
        } else {
            warnings
                .extend(commands.iter().map(|words| format!("still to be run: {}", line(words))));
        }
        match after {
            Some(after) => save(Some(&Setup { folders: record.folders, ..after }))?,
            None => {
                perform::remove_folders(&this.host.sys, &record.folders);
                save(None)?;
            }
        }
        Ok((true, warnings))
    }

    /// Commands that saw files which are gone now see what is there instead.
    async fn again(&self, commands: &[Vec<String>]) -> Vec<String> {
        let mut left = Vec::new();
        for command in commands {
            if let Err(error) = perform::run(&self.inner.host, command).await {
                let why = with_sources(&error);
                left.push(format!("{why}; run it again when that is mended"));
            }
        }
        left
    }
}

impl Inner {
    fn draft(&self, names: Option<&[String]>, before: Option<Setup>) -> Result<Draft, BootError> {
        let sys = &self.host.sys;
        let cmdline = sys.text("/proc/cmdline").map_err(BootError::Read)?;
        let loader = machine::loader(sys, &cmdline);
        let builders = machine::builders(sys);
        let mut warnings = Vec::new();
        let (mut cards, mut words, mut wanted) = (Vec::new(), Vec::new(), Wanted::default());
        if let Some(names) = names {
            let facts = crate::pci::read(sys, &mut Names::default());
            cards = self.cards(&facts, names, &mut warnings)?;
            let ours = before.as_ref().map_or(&[][..], |setup| &setup.words);
            words = machine::needed(sys, &cmdline, !facts.groups.is_empty(), ours);
            warnings.extend(no_iommu(&facts));
            let in_folder = if loader.grub == Some(true) { words.as_slice() } else { &[] };
            wanted.files = files::files(&cards, builders, self.disable_vga, in_folder);
            if loader.grub == Some(false) {
                wanted.grub.clone_from(&words);
            }
            if loader.kernel_cmdline {
                wanted.cmdline.clone_from(&words);
            }
            if let Some(how) = loader.by_hand.as_ref().filter(|_| !words.is_empty()) {
                let how = how.replace("WORDS", &words.join(" "));
                warnings.push(format!("to be done by hand, {}: {how}", loader.evidence));
            }
            warnings.extend(no_builder(builders));
            if safe::asks(&cmdline) {
                warnings.push(format!("{}: as long as it is there, nothing is bound", safe::WHY));
            }
        }
        let now = self.texts()?;
        let changes = plan::changes(&wanted, &now, before.as_ref())
            .map_err(|plan::Foreign(path)| BootError::Foreign { path })?;
        warnings.extend(changes.warnings.iter().cloned());
        // What was interrupted may not have come to its commands.
        let unfinished = before.as_ref().is_some_and(|setup| !setup.complete);
        let (initramfs, entries) =
            (changes.initramfs() || unfinished, changes.loader() || unfinished);
        let mut commands = Vec::new();
        if initramfs {
            commands.extend(machine::initramfs_commands(builders));
        }
        let is_proxmox =
            |words: &&Vec<String>| words.first().is_some_and(|w| w == "proxmox-boot-tool");
        commands.extend(
            // Proxmox copies the initramfs to where the firmware finds it.
            loader.commands.iter().filter(|w| entries || (initramfs && is_proxmox(w))).cloned(),
        );
        if !commands.is_empty() && entries && !loader.evidence.is_empty() {
            tracing::debug!("boot loader: {}", loader.evidence);
        }
        Ok(Draft { before, cards, words, changes, commands, wanted, warnings })
    }

    /// The cards that are meant, each with the right one plugged in.
    fn cards(
        &self,
        facts: &Facts,
        names: &[String],
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Card>, BootError> {
        let mut targets: Vec<Target> = Vec::new();
        for name in names {
            let asked = target::resolve(&self.gpus, Some(name))?;
            targets.push(target::target(&self.gpus, &asked)?);
        }
        if names.is_empty() {
            targets = self.gpus.iter().map(Target::configured).collect();
        }
        if targets.is_empty() {
            return Err(PassthroughError::WhichGpu { known: Vec::new() }.into());
        }
        targets.sort_by_key(|target| target.slot);
        targets.dedup_by_key(|target| target.slot);
        targets.iter().map(|target| self.card(facts, target, warnings)).collect()
    }

    fn card(
        &self,
        facts: &Facts,
        target: &Target,
        warnings: &mut Vec<String>,
    ) -> Result<Card, BootError> {
        let all = target::identify(facts, target)?;
        let devices: Vec<_> = all.iter().filter(|device| !device.is_bridge()).collect();
        let picture = all.iter().any(|device| device.is_display());
        if let Some(first) = all.first()
            && (devices.is_empty() || !(target.configured || picture))
        {
            let (slot, name) = (first.address, first.name.full());
            return Err(PassthroughError::NotDisplay { slot, name }.into());
        }
        let sys = &self.host.sys;
        let mut functions = Vec::new();
        for device in devices {
            let unread = || BootError::Identity {
                gpu: target.name.clone(),
                function: device.address.to_string(),
            };
            let modules = machine::modules(sys, device.address);
            if let Driver::Named(driver) = &device.driver
                && sys.link_name(format!("/sys/bus/pci/drivers/{driver}/module")).is_err()
                && !driver.contains("vfio")
                && sys.is_real()
            {
                warnings.push(format!(
                    "{}: {driver} is part of this kernel and takes it before any rule is read",
                    device.address
                ));
            }
            let id = device.identity().ok_or_else(unread)?;
            functions.push(Function { address: device.address, id, modules });
        }
        let addresses: Vec<_> = functions.iter().map(|function| function.address).collect();
        let groups: std::collections::BTreeSet<u32> =
            all.iter().filter_map(|device| device.group).collect();
        for blocker in groups
            .iter()
            .filter_map(|group| viability(facts, facts.groups.get(group)?, &addresses).err())
            .flatten()
        {
            warnings.push(format!(
                "{}: its IOMMU group cannot be given away yet: {blocker}",
                target.name
            ));
        }
        warnings.extend(target::warnings(facts, &addresses).into_iter().map(|warning| {
            format!("{warning}. `{}` on the kernel command line gives it back", safe::WORD)
        }));
        Ok(Card { name: target.name.clone(), functions })
    }

    /// Every file that may be touched, as it is.
    fn texts(&self) -> Result<Texts, BootError> {
        let sys = &self.host.sys;
        let mut texts = Texts::new();
        for path in OWN.into_iter().chain([words::GRUB_FILE, words::CMDLINE_FILE]) {
            let read = sys.bytes(path, 1 << 20).and_then(|bytes| {
                let why = |error: std::string::FromUtf8Error| error.utf8_error().to_string();
                let text = String::from_utf8(bytes);
                let bad = |why| crate::host::sys::SysError::Invalid { path: path.into(), why };
                Ok((text.map_err(|error| bad(why(error)))?, sys.stamp(path)?.0))
            });
            match read {
                Ok(one) => drop(texts.insert(path.to_owned(), one)),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(BootError::Read(error)),
            }
        }
        Ok(texts)
    }
}

/// The record from before the first file until after the last command: a crash
/// in between leaves one that knows of both sides.
fn under_way(before: Option<&Setup>, after: Option<&Setup>) -> Setup {
    let mut record = after.or(before).cloned().unwrap_or_default();
    if let Some(before) = before {
        for own in &before.own {
            if !record.own.iter().any(|new| new.path == own.path) {
                record.own.push(own.clone());
            }
        }
        record.edited.extend(before.edited.iter().cloned());
        record.words.extend(before.words.iter().cloned());
        record.folders.clone_from(&before.folders);
        for list in [&mut record.edited, &mut record.words] {
            let mut seen = std::collections::BTreeSet::new();
            list.retain(|one| seen.insert(one.clone()));
        }
    }
    record.complete = false;
    record
}

fn no_iommu(facts: &Facts) -> Option<String> {
    let absence = facts.absence.as_ref()?;
    Some(format!("until there is an IOMMU the card has no driver at all; now: {absence}"))
}

fn no_builder(builders: files::Builders) -> Option<String> {
    let rule = files::RULE;
    if builders.initramfs_tools || builders.dracut {
        None
    } else if builders.mkinitcpio {
        Some(format!(
            "to be done by hand: in /etc/mkinitcpio.conf add `vfio_pci vfio vfio_iommu_type1` to \
             MODULES and {rule} to FILES, then run `mkinitcpio -P`"
        ))
    } else {
        let what = "no builder of an initramfs was found; drivers in one come before the rule";
        Some(what.to_owned())
    }
}

/// A command as a shell takes it.
fn line(words: &[String]) -> String {
    let quoted = words.iter().map(|word| crate::host::run::quoted(word.as_ref()));
    quoted.collect::<Vec<_>>().join(" ")
}

fn own(file: &files::File) -> OwnFile {
    OwnFile { path: file.path.to_owned(), text: file.text.clone() }
}

fn set_card(card: &Card) -> SetCard {
    let functions = card.functions.iter();
    let functions = functions.map(|function| (function.address, function.id.0, function.id.1));
    SetCard { name: card.name.clone(), functions: functions.collect() }
}

fn gpu(card: &Card) -> BootGpuView {
    set_gpu(&set_card(card))
}

fn set_gpu(card: &SetCard) -> BootGpuView {
    let function = |(address, vendor, device): &(_, u16, u16)| BootFunctionView {
        address: *address,
        id: format!("{vendor:04x}:{device:04x}"),
    };
    BootGpuView {
        name: card.name.clone(),
        functions: card.functions.iter().map(function).collect(),
    }
}

fn file(change: &Change) -> BootFileView {
    let action = match (&change.before, &change.after) {
        (None, _) => BootAction::Create,
        (Some(_), Some(_)) => BootAction::Change,
        (Some(_), None) => BootAction::Remove,
    };
    BootFileView { path: change.path.clone(), action, diff: change.diff() }
}

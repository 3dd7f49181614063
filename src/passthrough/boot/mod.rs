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
//! - [`text`]: such files, every byte kept
//! - [`grub`]: what GRUB's settings give to the kernel
//! - [`machine`]: boot loader, builders, what the kernel needs
//! - `draft`: reads all that and works out the rest
//! - [`mod@plan`]: what has to change
//! - [`perform`]: changes it, or takes it back
//! - [`status`]: whether it works, after the reboot
//! - [`journal`]: the record
//! - [`error`]: every no

mod draft;
pub mod error;
pub mod files;
pub mod grub;
pub mod journal;
pub mod machine;
pub mod perform;
pub mod plan;
pub mod status;
#[cfg(test)]
mod tests;
pub mod text;
pub mod words;

use crate::base::with_sources;
use std::sync::Arc;

use self::draft::Draft;
use self::error::BootError;
use self::files::Card;
use self::journal::{Journal, OwnFile, SetCard, Setup};
use self::plan::Change;
use super::journal::boot_id;
use crate::ask::view::{
    BootAction, BootFileView, BootFunctionView, BootGpuView, BootPlanView, BootStatusView, DoneView,
};
use crate::config::{Firmware, Gpu, Vm};
use crate::host::Host;

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
    /// False while a VM's file is wrong.
    vms_known: bool,
    /// False for another machine's files: commands would change this one.
    commands: bool,
    turn: tokio::sync::Mutex<()>,
}

/// What is meant: cards, or nothing at all.
enum Aim<'a> {
    Cards(&'a [String]),
    Nothing,
}

impl Boot {
    /// The setup of `host`; nothing is read yet. `vms` are all VMs, or nothing
    /// while the file of one of them is wrong: it may be one that needs VGA.
    pub fn new(host: Host, gpus: Vec<Gpu>, vms: Option<&[Vm]>) -> Self {
        let commands = host.sys.is_real();
        Self::with_commands(host, gpus, vms, commands)
    }

    /// The same, with or without the commands that follow the files.
    pub fn with_commands(host: Host, gpus: Vec<Gpu>, vms: Option<&[Vm]>, commands: bool) -> Self {
        let uefi = |vm: &Vm| matches!(vm.firmware, Firmware::Ovmf { .. });
        let mut with_card = vms.unwrap_or_default().iter().filter(|vm| vm.gpu.is_some()).peekable();
        let inner = Inner {
            journal: Journal::new(&host),
            gpus,
            disable_vga: with_card.peek().is_some() && with_card.all(uefi),
            vms_known: vms.is_some(),
            commands,
            turn: tokio::sync::Mutex::default(),
            host,
        };
        Self { inner: Arc::new(inner) }
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
        let after = draft.before.as_ref().and_then(|before| not_reached(before, &draft.unread));
        let left = after.is_some().then(|| draft.unread.join(", "));
        let (changed, warnings) = self.perform(draft, after).await?;
        let message = match left {
            Some(left) => {
                format!("the boot setup is gone but for {left}: mend that, then remove it again")
            }
            None if changed => {
                "the boot setup is gone: the host's drivers take the cards from the next boot on"
                    .to_owned()
            }
            None => "nothing was set up".to_owned(),
        };
        Ok(DoneView { changed, message, warnings })
    }

    /// Whether what is set up is there, and works.
    pub async fn status(&self) -> BootStatusView {
        let inner = &self.inner;
        let setup = inner.journal.load();
        let log = match &setup {
            Ok(Some(_)) if inner.commands => status::kernel_log(&inner.host).await,
            _ => Err("it is not asked for another machine's files".to_owned()),
        };
        let log = log.as_deref().map_err(String::as_str);
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
            let Some(text) = &change.before else { continue };
            match journal.keep(&change.path, &text.bytes()) {
                Ok(kept) => warnings.push(format!("{} as it was: {kept}", change.path)),
                Err(error) => {
                    // Nothing has been touched.
                    save(before.as_ref())?;
                    return Err(BootError::Journal(error));
                }
            }
        }
        let list: Arc<[Change]> = changes.files.into();
        let (work, sys) = (Arc::clone(&list), this.host.sys.clone());
        let made = tokio::task::spawn_blocking(move || perform::files(&sys, &work)).await;
        let done = match made.map_err(BootError::Lost)? {
            Ok(done) => done,
            Err(error) => {
                // While something is left, the record that knows of both sides is needed.
                if error.left().is_empty() {
                    save(before.as_ref())?;
                }
                return Err(error);
            }
        };
        if this.commands {
            for (number, command) in commands.iter().enumerate() {
                if let Err(source) = perform::run(&this.host, command).await {
                    let mut left = perform::undo(&this.host.sys, &list, &done);
                    left.extend(self.again(&commands[..=number]).await);
                    if left.is_empty() {
                        left.extend(journal.save(before.as_ref()).err().map(|e| with_sources(&e)));
                    }
                    return Err(BootError::Command { source, left });
                }
            }
        } else {
            warnings
                .extend(commands.iter().map(|words| format!("still to be run: {}", line(words))));
        }
        if after.is_none() {
            perform::remove_folders(&this.host.sys, &record.folders);
        }
        save(after.map(|after| Setup { folders: record.folders, ..after }).as_ref())?;
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

/// What stays on record of a removal that could not read some of its files.
fn not_reached(before: &Setup, unread: &[String]) -> Option<Setup> {
    let is_left = |path: &String| unread.contains(path);
    (!unread.is_empty()).then(|| Setup {
        complete: false,
        cards: Vec::new(),
        own: before.own.iter().filter(|own| is_left(&own.path)).cloned().collect(),
        edited: before.edited.iter().filter(|path| is_left(path)).cloned().collect(),
        ..before.clone()
    })
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
    let boards = card.functions.iter().filter_map(|function| {
        let (vendor, device) = function.subsystem?;
        Some((function.address, vendor, device))
    });
    let boards = boards.collect();
    SetCard { name: card.name.clone(), functions: functions.collect(), boards }
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

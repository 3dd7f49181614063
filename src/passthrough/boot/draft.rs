//! Reads the machine and works out what a setup, or a removal, would do.

use super::super::error::PassthroughError;
use super::super::safe;
use super::super::screen::{self, Screen};
use super::super::target::{self, Target};
use super::error::BootError;
use super::files::{self, Builders, Card, Function, OWN};
use super::journal::Setup;
use super::plan::{self, Changes, Texts, Wanted};
use super::{Inner, machine, text, words};
use crate::base::PciAddress;
use crate::host::sys::SysError;
use crate::pci::{Device, Driver, Facts, Names, viability};

/// All that a setup or a removal would do.
pub(super) struct Draft {
    pub(super) before: Option<Setup>,
    pub(super) cards: Vec<Card>,
    pub(super) words: Vec<String>,
    pub(super) changes: Changes,
    pub(super) commands: Vec<Vec<String>>,
    pub(super) wanted: Wanted,
    pub(super) warnings: Vec<String>,
    /// Files on record that a removal could not read.
    pub(super) unread: Vec<String>,
}

impl Inner {
    /// Reads the machine and works it out; no names at all is a removal.
    pub(super) fn draft(
        &self,
        names: Option<&[String]>,
        before: Option<Setup>,
    ) -> Result<Draft, BootError> {
        let sys = &self.host.sys;
        let mut warnings = Vec::new();
        let cmdline = match safe::cmdline(sys) {
            Ok(cmdline) => cmdline,
            // It tells which loader is in use; the loaders' files do so too.
            Err(error) if names.is_none() => {
                warnings.push(error.in_full());
                String::new()
            }
            Err(error) => return Err(BootError::Read(error)),
        };
        let loader = machine::loader(sys, &cmdline);
        let builders = machine::builders(sys);
        let (mut cards, mut words, mut wanted) = (Vec::new(), Vec::new(), Wanted::default());
        if let Some(names) = names {
            let facts = crate::pci::read(sys, &mut Names::default());
            cards = self.cards(&facts, names, &mut warnings)?;
            let ours = before.as_ref().map_or(&[][..], |setup| &setup.words);
            words = machine::needed(sys, &loader, &cmdline, !facts.groups.is_empty(), ours);
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
            if !self.vms_known {
                warnings.push(
                    "whether all guests boot by UEFI is not known, the file of a VM is wrong: \
                     disable_vga=1 is left out"
                        .to_owned(),
                );
            }
        }
        let known = before.as_ref().filter(|_| names.is_none());
        let (now, unread) = match names {
            Some(_) => (self.texts(|_, error| Err(BootError::Read(error)))?, Vec::new()),
            None => self.texts_to_leave(known, &mut warnings)?,
        };
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
        Ok(Draft { before, cards, words, changes, commands, wanted, warnings, unread })
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
        let mut found = Vec::new();
        for target in targets {
            let (target, moved) = follow(facts, target);
            warnings.extend(moved);
            found.push(target);
        }
        found.sort_by_key(|target| target.slot);
        found.dedup_by_key(|target| target.slot);
        let cards: Vec<Card> = found
            .iter()
            .map(|target| self.card(facts, target, warnings))
            .collect::<Result<_, _>>()?;
        warnings.extend(no_screen_left(facts, &cards));
        Ok(cards)
    }

    fn card(
        &self,
        facts: &Facts,
        target: &Target,
        warnings: &mut Vec<String>,
    ) -> Result<Card, BootError> {
        let all = target::identify(facts, target)?;
        let mut devices: Vec<&Device> =
            all.iter().copied().filter(|device| !device.is_bridge()).collect();
        let picture = all.iter().any(|device| device.is_display());
        if let Some(first) = all.first()
            && (devices.is_empty() || !(target.configured || picture))
        {
            let (slot, name) = (first.address, first.name.full());
            return Err(PassthroughError::NotDisplay { slot, name }.into());
        }
        for slot in target.with.iter().filter(|slot| **slot != target.slot) {
            let before = devices.len();
            devices.extend(facts.slot(*slot).filter(|device| !device.is_bridge()));
            if devices.len() == before {
                warnings.push(format!("{}: {slot} (under `with`) is not there", target.name));
            }
        }
        let groups: std::collections::BTreeSet<u32> =
            all.iter().chain(&devices).filter_map(|device| device.group).collect();
        let board = all.first().map(|first| first.address).zip(target.subsystem);
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
            let subsystem = board.filter(|(at, _)| *at == device.address).map(|(_, board)| board);
            functions.push(Function { address: device.address, id, subsystem, modules });
        }
        let addresses: Vec<_> = functions.iter().map(|function| function.address).collect();
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
        warnings.extend(dark(facts, &addresses, &screen::of(sys, &addresses)));
        Ok(Card { name: target.name.clone(), functions })
    }

    /// Every file that may be touched, as it is; `unread` is told of one that cannot be read.
    fn texts(
        &self,
        mut unread: impl FnMut(&str, SysError) -> Result<(), BootError>,
    ) -> Result<Texts, BootError> {
        let sys = &self.host.sys;
        let mut texts = Texts::new();
        for path in OWN.into_iter().chain([words::GRUB_FILE, words::CMDLINE_FILE]) {
            let read = text::read(sys, path).and_then(|text| Ok((text, sys.stamp(path)?.0)));
            match read {
                Ok(one) => drop(texts.insert(path.to_owned(), one)),
                Err(error) if error.is_missing() => {}
                Err(error) => unread(path, error)?,
            }
        }
        Ok(texts)
    }

    /// The same for a removal, which does what it can: a file that cannot be
    /// read is left alone, and said if something of ours is in it.
    fn texts_to_leave(
        &self,
        setup: Option<&Setup>,
        warnings: &mut Vec<String>,
    ) -> Result<(Texts, Vec<String>), BootError> {
        let mut unread = Vec::new();
        let texts = self.texts(|path, error| {
            let ours = setup.is_some_and(|setup| {
                setup.own.iter().any(|own| own.path == path)
                    || setup.edited.iter().any(|edited| edited == path)
            });
            let what = if ours { "what hostd has put there stays" } else { "it is left alone" };
            warnings.push(format!("{}; {what}", error.in_full()));
            unread.extend(ours.then(|| path.to_owned()));
            Ok(())
        })?;
        Ok((texts, unread))
    }
}

/// The card where it is now.
fn follow(facts: &Facts, target: Target) -> (Target, Option<String>) {
    target::follow(facts, target)
}

/// What a card shows now, it will not show as long as it is set up: no driver
/// of the host gets it, from the start of each boot.
fn dark(facts: &Facts, functions: &[PciAddress], screen: &Screen) -> Vec<String> {
    let devices = || functions.iter().filter_map(|address| facts.devices.get(address));
    let boot = devices().find(|device| device.boot_vga == Some(true));
    let lit = || devices().find(|device| device.is_display() && !screen.framebuffers.is_empty());
    let shown = boot.or_else(lit).map(|device| {
        let what = if boot.is_some() { "the boot display (boot_vga)" } else { "the host's screen" };
        format!(
            "{} is {what}: it stays dark for as long as this is set up. A boot with `{}` on the \
             kernel command line lights it",
            device.address,
            safe::WORD
        )
    });
    let unsure = screen.unsure.as_ref().map(|why| {
        format!("whether the firmware's framebuffer is on the card is not known: {why}")
    });
    shown.into_iter().chain(unsure).collect()
}

/// Whether no graphics card is left to the host, in words.
fn no_screen_left(facts: &Facts, cards: &[Card]) -> Option<String> {
    let functions = |card: &Card| -> Vec<PciAddress> {
        card.functions.iter().map(|function| function.address).collect()
    };
    let displays = || facts.devices.values().filter(|device| device.is_display());
    let gone: Vec<PciAddress> = cards.iter().flat_map(functions).collect();
    if !displays().any(|device| gone.contains(&device.address)) {
        return None;
    }
    if let Some((card, said)) =
        cards.iter().find_map(|card| Some((card, target::only_card(facts, &functions(card))?)))
    {
        return Some(format!("{}: {said}", card.name));
    }
    displays().all(|device| gone.contains(&device.address)).then(|| {
        "these are all graphics cards of this machine: without them, only the network leads in \
         (ssh, hostctl --host)"
            .to_owned()
    })
}

fn no_iommu(facts: &Facts) -> Option<String> {
    let absence = facts.absence.as_ref()?;
    Some(format!("until there is an IOMMU the card has no driver at all; now: {absence}"))
}

fn no_builder(builders: Builders) -> Option<String> {
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

//! Reads the machine and works out what a setup, or a removal, would do.

use super::super::error::PassthroughError;
use super::super::target::{self, Target};
use super::super::{safe, screen};
use super::error::BootError;
use super::files::{self, Builders, Card, Function, OWN};
use super::journal::Setup;
use super::plan::{self, Changes, Texts, Wanted};
use super::{Inner, machine, words};
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
}

impl Inner {
    /// Reads the machine and works it out; no names at all is a removal.
    pub(super) fn draft(
        &self,
        names: Option<&[String]>,
        before: Option<Setup>,
    ) -> Result<Draft, BootError> {
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
        let beside = target.with.iter().flat_map(|slot| facts.slot(*slot));
        let devices: Vec<&Device> =
            all.iter().copied().chain(beside).filter(|device| !device.is_bridge()).collect();
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
        let screen = screen::of(sys, &addresses);
        warnings.extend(target::warnings(facts, &addresses, &screen).into_iter().map(|warning| {
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
                let bad = |why| SysError::Invalid { path: path.into(), why };
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

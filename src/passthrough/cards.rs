//! What is done with a card, one at a time: the handle holds the turn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::PassthroughError;
use super::handle::{Bound, Owner, Released, Reset};
use super::helper::AttributeError;
use super::journal::{Journal, Phase, Record, boot_id};
use super::perform::{self, Restored, StepFault, restore};
use super::plan::{Step, VFIO};
use super::planned::Planned;
use super::target::{self, Target};
use super::vfio::VfioError;
use super::{holders, list, vfio};
use crate::base::{Name, PciAddress, with_sources};
use crate::config::{GpuOptions, QuirkFiles};
use crate::host::Host;
use crate::pci::{Driver, Facts, Names, read};

/// The machine with its records.
pub(super) struct Cards {
    pub(super) host: Host,
    pub(super) quirks: QuirkFiles,
    pub(super) journal: Journal,
    names: Arc<Mutex<Names>>,
    /// Claims of VMs that were made while this hostd runs: somebody looks
    /// after them. One of an earlier hostd is worth what has the card open.
    firm: Mutex<BTreeSet<(PciAddress, Name)>>,
    /// The driver on which each function was left by us.
    put: Mutex<BTreeMap<PciAddress, Option<String>>>,
}

pub(super) fn unreadable(target: &Target, source: AttributeError) -> PassthroughError {
    PassthroughError::Unreadable { gpu: target.name.clone(), source }
}

pub(super) fn not_wedged(target: &Target, record: Option<&Record>) -> Result<(), PassthroughError> {
    match record {
        Some(record) if !record.wedged.is_empty() => Err(PassthroughError::Wedged {
            gpu: target.name.clone(),
            functions: record.wedged.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

pub(super) const NOT_OURS: &str = "hostd has not bound it: there is nothing to give back";

impl Cards {
    pub(super) fn new(host: Host, quirks: QuirkFiles) -> Self {
        let journal = Journal::new(&host);
        Self {
            journal,
            quirks,
            names: Arc::default(),
            firm: Mutex::default(),
            put: Mutex::default(),
            host,
        }
    }

    fn firm(&self) -> MutexGuard<'_, BTreeSet<(PciAddress, Name)>> {
        // Each change of it is one step: a panic elsewhere leaves it whole.
        self.firm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether we are who left a function on a driver. One that was seen half-way
    /// is where we have put it by now.
    pub(super) fn has_put(&self, function: PciAddress, driver: Option<&str>) -> bool {
        let put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ours) = put.get(&function).map(Option::as_deref) else { return false };
        let now = read::driver(&self.host.sys, &read::folder(function));
        ours == driver || (ours == now.name() && !matches!(now, Driver::Unknown(_)))
    }

    /// Notes where the functions of a record are meant to be now.
    fn put(&self, record: &Record, bound: bool) {
        let mut put = self.put.lock().unwrap_or_else(PoisonError::into_inner);
        for saved in &record.functions {
            let driver = if bound { Some(VFIO.to_owned()) } else { saved.driver.clone() };
            put.insert(saved.address, driver);
        }
    }

    fn is_firm(&self, target: &Target, vm: &Name) -> bool {
        self.firm().contains(&(target.slot, vm.clone()))
    }

    /// Reads the machine beside the daemon's own threads.
    pub(super) async fn facts(&self) -> Facts {
        let (sys, names) = (self.host.sys.clone(), Arc::clone(&self.names));
        let reading = tokio::task::spawn_blocking(move || {
            // Names only: a panic elsewhere leaves them whole.
            read::read(&sys, &mut names.lock().unwrap_or_else(PoisonError::into_inner))
        });
        // Nothing read is not nothing there: without facts every card is refused.
        reading.await.unwrap_or_else(|error| Facts {
            notes: vec![format!("reading the PCI bus failed: {error}")],
            ..Facts::default()
        })
    }

    /// The card's record; one of an earlier boot is void.
    pub(super) fn load(
        &self,
        gpu: &str,
        slot: PciAddress,
    ) -> Result<Option<Record>, PassthroughError> {
        let fail = |source| PassthroughError::Journal { gpu: gpu.to_owned(), source };
        let Some(record) = self.journal.load(slot).map_err(fail)? else { return Ok(None) };
        Ok((record.boot == self.boot(gpu)?).then_some(record))
    }

    pub(super) fn boot(&self, gpu: &str) -> Result<String, PassthroughError> {
        let fail = |source| PassthroughError::BootId { gpu: gpu.to_owned(), source };
        boot_id(&self.host.sys).map_err(fail)
    }

    /// The record, after closing what a crash or a vanished asker interrupted.
    async fn settled(
        &self,
        gpu: &str,
        slot: PciAddress,
    ) -> Result<Option<Record>, PassthroughError> {
        let Some(mut record) = self.load(gpu, slot)? else { return Ok(None) };
        match record.phase {
            Phase::Bound | Phase::Left => Ok(Some(record)),
            Phase::Binding | Phase::Restoring => {
                let done = self.restore(gpu, &mut record).await?;
                let open = !done.left.is_empty() || !done.lost.is_empty();
                Ok(open.then_some(record))
            }
        }
    }

    async fn restore(&self, gpu: &str, record: &mut Record) -> Result<Restored, PassthroughError> {
        let fail = |source| PassthroughError::Journal { gpu: gpu.to_owned(), source };
        self.put(record, false);
        restore(&self.host, &self.journal, record).await.map_err(fail)
    }

    pub(super) async fn recover_one(
        &self,
        slot: PciAddress,
    ) -> Result<Vec<String>, PassthroughError> {
        let name = slot.to_string();
        let fail = |source| PassthroughError::Journal { gpu: slot.to_string(), source };
        let Some(before) = self.journal.load(slot).map_err(fail)? else { return Ok(Vec::new()) };
        let gpu = before.gpu;
        if before.boot != self.boot(&name)? {
            self.journal.remove(slot).await.map_err(fail)?;
            return Ok(vec![format!("{gpu}: the record of an earlier boot is void")]);
        }
        let Some(record) = self.settled(&name, slot).await? else {
            return Ok(vec![format!("{gpu}: a change was interrupted and has been undone")]);
        };
        Ok(match record.phase {
            Phase::Bound => {
                let owner = target::claimants(record.person, record.vm.as_ref());
                let mut said = vec![format!("{gpu}: bound for {owner}")];
                said.extend(list::drift(&record, &self.facts().await));
                said
            }
            Phase::Left | Phase::Binding | Phase::Restoring => {
                vec![format!("{gpu}: not as it was: {}", record.problems.join("; "))]
            }
        })
    }

    /// The card that is meant, where it is now: one that may be followed is
    /// looked for, unless a record says where it was taken.
    pub(super) async fn locate(&self, target: Target) -> (Target, Option<String>) {
        if !target.follow {
            return (target, None);
        }
        let slots = self.journal.slots().unwrap_or_default();
        let taken = |slot: &PciAddress| {
            let record = self.load(&target.name, *slot).ok().flatten();
            record.is_some_and(|record| record.gpu == target.name)
        };
        if let Some(slot) = slots.into_iter().find(taken) {
            return (Target { slot, ..target }, None);
        }
        target::follow(&self.facts().await, target)
    }

    pub(super) async fn bind(
        &self,
        target: &Target,
        owner: &Owner,
        options: &GpuOptions,
    ) -> Result<Bound, PassthroughError> {
        let gpu = || target.name.clone();
        let journal = |source| PassthroughError::Journal { gpu: gpu(), source };
        let existing = self.settled(&target.name, target.slot).await?;
        not_wedged(target, existing.as_ref())?;
        if let (Owner::Vm(wants), Some(Record { vm: Some(has), .. })) = (owner, &existing)
            && wants != has
        {
            return Err(PassthroughError::Owned { gpu: gpu(), vm: has.clone() });
        }
        let planned = self.plan_there(target, existing.as_ref(), options).await?;
        let Planned { there, facts, leaving, needs, users } = planned;
        let functions = leaving.all();
        let holders = holders::of(&self.host.sys, &functions);
        let has = existing.as_ref().and_then(|record| record.vm.as_ref());
        let strangers = matches!(owner, Owner::Vm(_)) && has.is_none();
        let moved = there.steps.iter().any(|step| matches!(step, Step::Unbind { .. }));
        if !holders.is_empty() && (strangers || moved) {
            return Err(PassthroughError::InUse { gpu: gpu(), holders });
        }
        if !users.is_empty() && !there.steps.is_empty() {
            return Err(PassthroughError::InUse { gpu: gpu(), holders: users });
        }
        let group = functions
            .iter()
            .find_map(|address| facts.devices.get(address)?.group)
            .unwrap_or_default();
        let mut record = Record {
            boot: self.boot(&target.name)?,
            gpu: gpu(),
            slot: target.slot,
            group,
            phase: Phase::Bound,
            functions: there.saved,
            person: existing.as_ref().is_some_and(|record| record.person),
            vm: existing.as_ref().and_then(|record| record.vm.clone()),
            step: None,
            wedged: Vec::new(),
            problems: Vec::new(),
            shown: there.shown,
        };
        let before = existing.filter(|record| record.phase == Phase::Bound);
        match owner {
            Owner::Person => record.person = true,
            Owner::Vm(name) => record.vm = Some(name.clone()),
        }
        let changed = !there.steps.is_empty();
        if changed {
            record.phase = Phase::Binding;
        }
        if !changed {
            // It may have come back dead from its last guest: then nobody gets a claim.
            self.alive(&record).map_err(|why| PassthroughError::Dead { gpu: gpu(), why })?;
        }
        if let Owner::Vm(name) = owner {
            self.firm().insert((target.slot, name.clone()));
        }
        // On record before anything is touched.
        self.journal.save(&record).await.map_err(journal)?;
        let mut warnings = there.warnings;
        if changed {
            self.put(&record, true);
            self.walk(target, &mut record, &there.steps, before.as_ref()).await?;
            match self.tried(&mut record).await {
                Ok(said) => warnings.extend(said),
                Err(why) => {
                    let left = self.undo(target, &mut record, before.as_ref()).await?;
                    return Err(PassthroughError::NotThere { gpu: gpu(), why, left });
                }
            }
        }
        Ok(Bound {
            gpu: gpu(),
            functions: leaving.card,
            group,
            changed,
            warnings,
            rom_off: needs.rom_off,
            x_vga: needs.x_vga,
        })
    }

    /// Takes the steps; undoes them all when one fails or the result is not usable.
    async fn walk(
        &self,
        target: &Target,
        record: &mut Record,
        steps: &[Step],
        before: Option<&Record>,
    ) -> Result<(), PassthroughError> {
        let gpu = target.name.clone();
        let mut failed: Option<(Step, StepFault)> = None;
        for step in steps {
            if let Err(fault) = perform::take(&self.host, &self.journal, record, step).await {
                failed = Some((step.clone(), fault));
                break;
            }
        }
        let why = match &failed {
            Some(_) => String::new(),
            None => match self.close(target, record).await {
                Ok(()) => return Ok(()),
                Err(why) => why,
            },
        };
        let left = self.undo(target, record, before).await?;
        Err(match failed {
            Some((step, source)) => {
                PassthroughError::Step { gpu, step, source: Box::new(source), left }
            }
            None => PassthroughError::NotThere { gpu, why, left },
        })
    }

    /// Looks at the whole card again after binding, and puts it on record as bound.
    async fn close(&self, target: &Target, record: &mut Record) -> Result<(), String> {
        let facts = self.facts().await;
        target::leaving(&facts, target).map_err(|error| with_sources(&error))?;
        if let Some(why) = list::drift(record, &facts).into_iter().next() {
            return Err(why);
        }
        (record.phase, record.step) = (Phase::Bound, None);
        self.journal.save(record).await.map_err(|error| with_sources(&error))
    }

    /// Undoes a bind that failed: back to what the host had, or, where somebody
    /// else had it bound before, to that. What could not be undone.
    async fn undo(
        &self,
        target: &Target,
        record: &mut Record,
        before: Option<&Record>,
    ) -> Result<Vec<String>, PassthroughError> {
        if let Some(before) = before
            && record.wedged.is_empty()
            && self.bound_again(target, record, before).await
        {
            return Ok(Vec::new());
        }
        Ok(self.restore(&target.name, record).await?.left)
    }

    /// Whether the card is again where the earlier claim has it.
    async fn bound_again(&self, target: &Target, record: &mut Record, before: &Record) -> bool {
        let plain = GpuOptions::default();
        let Ok(planned) = self.plan_there(target, Some(record), &plain).await else { return false };
        for step in &planned.there.steps {
            if perform::take(&self.host, &self.journal, record, step).await.is_err() {
                return false;
            }
        }
        (record.person, record.vm) = (before.person, before.vm.clone());
        self.close(target, record).await.is_ok()
    }

    /// Opens the bound card as a guest will, which resets it, and looks at it
    /// again; what a reset takes along that is not the card's is a warning.
    async fn tried(&self, record: &mut Record) -> Result<Vec<String>, String> {
        let Some(first) = record.functions.first() else { return Ok(Vec::new()) };
        let said = match vfio::hot_reset_set(&self.host, record.group, first.address).await {
            Err(VfioError::Elsewhere) => Vec::new(),
            Err(VfioError::Hung(why)) => {
                record.wedged.push(first.address);
                return Err(why);
            }
            Err(VfioError::Failed(why)) => {
                vec![format!("VFIO does not say what a reset takes along: {why}")]
            }
            Ok(set) => {
                let ours = |at: &PciAddress| record.functions.iter().any(|f| f.address == *at);
                let others = set.into_iter().map(|one| one.function).filter(|at| !ours(at));
                others
                    .map(|at| {
                        let driver = read::driver(&self.host.sys, &read::folder(at)).in_words();
                        format!(
                            "a reset of its bus would take {at} ({driver}) along, so QEMU cannot \
                             reset the card as a whole"
                        )
                    })
                    .collect()
            }
        };
        self.alive(record)?;
        Ok([said, perform::narrowed(&self.host, record)].concat())
    }

    /// Whether all functions of a record answer.
    fn alive(&self, record: &Record) -> Result<(), String> {
        for function in &record.functions {
            perform::answers(&self.host, function.address).map_err(|dead| dead.to_string())?;
        }
        Ok(())
    }

    pub(super) async fn reset(&self, target: &Target) -> Result<Reset, PassthroughError> {
        let gpu = || target.name.clone();
        let record = self.settled(&target.name, target.slot).await?;
        let record = record.filter(|record| record.phase == Phase::Bound);
        let Some(record) = record else { return Err(PassthroughError::NotBound { gpu: gpu() }) };
        let functions: Vec<PciAddress> = record.functions.iter().map(|f| f.address).collect();
        if let Some(vm) = record.vm.as_ref().filter(|vm| self.is_firm(target, vm)) {
            return Err(PassthroughError::Owned { gpu: gpu(), vm: vm.clone() });
        }
        let holders = holders::of(&self.host.sys, &functions);
        if !holders.is_empty() {
            return Err(PassthroughError::InUse { gpu: gpu(), holders });
        }
        let set = match vfio::hot_reset(&self.host, record.group, target.slot).await {
            Ok(set) => set,
            Err(source) => {
                if matches!(source, VfioError::Hung(_)) {
                    let mut wedged = record;
                    wedged.wedged.push(target.slot);
                    let fail = |source| PassthroughError::Journal { gpu: gpu(), source };
                    self.journal.save(&wedged).await.map_err(fail)?;
                }
                return Err(PassthroughError::Reset { gpu: gpu(), source });
            }
        };
        self.alive(&record).map_err(|why| PassthroughError::Dead { gpu: gpu(), why })?;
        let functions = set.into_iter().map(|one| one.function).collect();
        Ok(Reset { gpu: gpu(), functions, warnings: perform::narrowed(&self.host, &record) })
    }

    pub(super) async fn release(
        &self,
        target: &Target,
        owner: &Owner,
    ) -> Result<Released, PassthroughError> {
        let gpu = || target.name.clone();
        let stays = |why: String| {
            let (functions, warnings) = (Vec::new(), Vec::new());
            Ok(Released { gpu: gpu(), functions, changed: false, why, warnings })
        };
        let Some(mut record) = self.settled(&target.name, target.slot).await? else {
            return stays(NOT_OURS.to_owned());
        };
        let functions: Vec<PciAddress> = record.functions.iter().map(|f| f.address).collect();
        let holders = holders::of(&self.host.sys, &functions);
        match (owner, &record.vm) {
            (Owner::Person, Some(vm)) if !holders.is_empty() || self.is_firm(target, vm) => {
                return Err(PassthroughError::Owned { gpu: gpu(), vm: vm.clone() });
            }
            (Owner::Vm(wants), Some(has)) if wants != has => {
                return stays(format!("it belongs to the VM {has}"));
            }
            (Owner::Vm(_), None) => return stays("it is not bound for this VM".to_owned()),
            (Owner::Vm(_), Some(_)) if record.person => {
                record.vm = None;
                let fail = |source| PassthroughError::Journal { gpu: gpu(), source };
                self.journal.save(&record).await.map_err(fail)?;
                let dead = self.alive(&record).err().map(|why| format!("; {why}"));
                let why = "it stays on vfio-pci, because a person has bound it";
                return stays(why.to_owned() + &dead.unwrap_or_default());
            }
            // A person asks: what hung is tried once more.
            (Owner::Person, None | Some(_)) => record.wedged.clear(),
            (Owner::Vm(_), Some(_)) => {}
        }
        if !holders.is_empty() {
            return Err(PassthroughError::InUse { gpu: gpu(), holders });
        }
        let done = self.restore(&target.name, &mut record).await?;
        if !done.left.is_empty() {
            return Err(PassthroughError::Incomplete { gpu: gpu(), left: done.left });
        }
        let at_boot = record.functions.iter().all(|f| f.driver.as_deref() == Some(VFIO));
        let why = match (done.touched, at_boot) {
            (true, _) => "",
            (false, true) => {
                "its functions are where they were before, on vfio-pci; if they are so from the \
                 start of the machine, `hostctl boot remove` and a reboot give them to the host"
            }
            (false, false) => "its functions are where they were before",
        };
        Ok(Released {
            gpu: gpu(),
            functions,
            changed: done.touched,
            why: why.to_owned(),
            warnings: [done.notes, done.lost].concat(),
        })
    }
}

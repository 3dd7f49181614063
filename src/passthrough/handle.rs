//! What the rest of the daemon calls.

use std::sync::{Arc, Mutex, PoisonError};

use super::error::PassthroughError;
use super::helper::{AttributeError, with_sources};
use super::journal::{Journal, Phase, Record, boot_id};
use super::perform::{self, Restored, StepFault, drivers, look, restore};
use super::plan::{self, Step, There};
use super::target::{self, Target};
use super::{holders, list};
use crate::ask::view::{GpusView, PlanView};
use crate::base::{Name, PciAddress};
use crate::config::{Gpu, GpuRef};
use crate::host::Host;
use crate::pci::{Facts, Names, read};

/// Who wants a card on vfio-pci.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// Somebody with `hostctl gpu bind`.
    Person,
    /// A VM that is about to start, or has ended.
    Vm(Name),
}

/// A card that is on vfio-pci with all its functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Configured name; the address where there is none.
    pub gpu: String,
    /// Function 0 first.
    pub functions: Vec<PciAddress>,
    /// IOMMU group of function 0.
    pub group: u32,
    /// False when it was already so.
    pub changed: bool,
    /// What to know.
    pub warnings: Vec<String>,
}

/// What became of a wish to release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Configured name; the address where there is none.
    pub gpu: String,
    /// The functions given back.
    pub functions: Vec<PciAddress>,
    /// False when nothing was given back.
    pub changed: bool,
    /// Why nothing was given back; empty when something was.
    pub why: String,
    /// What to know.
    pub warnings: Vec<String>,
}

/// Who has a card, from the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The card.
    pub gpu: String,
    /// Its function 0.
    pub slot: PciAddress,
    /// A person has bound it.
    pub person: bool,
    /// A VM has it.
    pub vm: Option<Name>,
}

/// The cards of this host; cheap to clone.
#[derive(Clone)]
pub struct Passthrough {
    inner: Arc<Inner>,
}

struct Inner {
    host: Host,
    gpus: Vec<Gpu>,
    journal: Journal,
    names: Arc<Mutex<Names>>,
    /// One card at a time: groups and buses are shared.
    turn: tokio::sync::Mutex<()>,
}

impl Passthrough {
    /// The cards of `host` as configured. Nothing is read yet.
    pub fn new(host: Host, gpus: Vec<Gpu>) -> Self {
        let journal = Journal::new(&host);
        let (names, turn) = (Arc::default(), tokio::sync::Mutex::default());
        Self { inner: Arc::new(Inner { host, gpus, journal, names, turn }) }
    }

    /// What a person wrote as a card, or the only configured one when nothing.
    pub fn resolve_gpu(&self, asked: Option<&str>) -> Result<GpuRef, PassthroughError> {
        target::resolve(&self.inner.gpus, asked)
    }

    /// To be called once at start: closes what a crash has interrupted and
    /// says, in sentences, what it found on record.
    pub async fn recover(&self) -> Vec<String> {
        let _turn = self.inner.turn.lock().await;
        let slots = match self.inner.journal.slots() {
            Ok(slots) => slots,
            Err(error) => return vec![format!("the records cannot be listed: {error}")],
        };
        let mut said = Vec::new();
        for slot in slots {
            match self.inner.recover_one(slot).await {
                Ok(words) => said.extend(words),
                Err(error) => said.push(format!("{}. {}", with_sources(&error), error.hint())),
            }
        }
        said
    }

    /// Configured cards first, then the others found; every problem as text.
    pub async fn list(&self) -> GpusView {
        let busy = self.inner.turn.try_lock().is_err();
        let facts = self.inner.facts().await;
        list::view(&self.inner.host, &self.inner.journal, &facts, &self.inner.gpus, busy)
    }

    /// Who has which card.
    pub fn claims(&self) -> Vec<Claim> {
        let journal = &self.inner.journal;
        let Ok(boot) = boot_id(&self.inner.host.sys) else { return Vec::new() };
        // Those that cannot be read are in `list`.
        let slots = journal.slots().unwrap_or_default();
        slots
            .into_iter()
            .filter_map(|slot| journal.load(slot).ok().flatten())
            .filter(|record| record.boot == boot && (record.person || record.vm.is_some()))
            .map(|Record { gpu, slot, person, vm, .. }| Claim { gpu, slot, person, vm })
            .collect()
    }

    /// The steps that a bind or release would take now.
    pub async fn plan(&self, gpu: &GpuRef, release: bool) -> Result<PlanView, PassthroughError> {
        let inner = &self.inner;
        let target = target::target(&inner.gpus, gpu)?;
        let _turn = inner.turn.lock().await;
        let record = inner.load(&target.name, target.slot)?;
        let words = |steps: &[Step]| steps.iter().map(ToString::to_string).collect();
        if release {
            let Some(record) = record else {
                return Ok(PlanView { steps: Vec::new(), warnings: vec![NOT_OURS.to_owned()] });
            };
            let back = perform::way_back(&inner.host, &record).await;
            let back = back.map_err(|error| unreadable(&target, error))?;
            let mut warnings = back.left;
            warnings.extend(back.notes);
            return Ok(PlanView { steps: words(&back.ways.concat()), warnings });
        }
        not_wedged(&target, record.as_ref())?;
        let (there, _) = inner.plan_there(&target, record.as_ref()).await?;
        Ok(PlanView { steps: words(&there.steps), warnings: there.warnings })
    }

    /// Puts all functions of a card on vfio-pci for an owner.
    pub async fn bind(&self, gpu: &GpuRef, owner: Owner) -> Result<Bound, PassthroughError> {
        let target = target::target(&self.inner.gpus, gpu)?;
        let _turn = self.inner.turn.lock().await;
        self.inner.bind(&target, &owner).await
    }

    /// Gives a card back to the drivers it had, if nobody else wants it bound.
    pub async fn release(&self, gpu: &GpuRef, owner: Owner) -> Result<Released, PassthroughError> {
        let target = target::target(&self.inner.gpus, gpu)?;
        let _turn = self.inner.turn.lock().await;
        self.inner.release(&target, &owner).await
    }
}

fn unreadable(target: &Target, source: AttributeError) -> PassthroughError {
    PassthroughError::Unreadable { gpu: target.name.clone(), source }
}

fn not_wedged(target: &Target, record: Option<&Record>) -> Result<(), PassthroughError> {
    match record {
        Some(record) if !record.wedged.is_empty() => Err(PassthroughError::Wedged {
            gpu: target.name.clone(),
            functions: record.wedged.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

const NOT_OURS: &str = "hostd has not bound it: there is nothing to give back";

impl Inner {
    /// Reads the machine beside the daemon's own threads.
    async fn facts(&self) -> Facts {
        let (sys, names) = (self.host.sys.clone(), Arc::clone(&self.names));
        let reading = tokio::task::spawn_blocking(move || {
            // Names only: a panic elsewhere leaves them whole.
            read(&sys, &mut names.lock().unwrap_or_else(PoisonError::into_inner))
        });
        // Nothing read is not nothing there: without facts every card is refused.
        reading.await.unwrap_or_else(|error| Facts {
            notes: vec![format!("reading the PCI bus failed: {error}")],
            ..Facts::default()
        })
    }

    /// The card's record; one of an earlier boot is void.
    fn load(&self, gpu: &str, slot: PciAddress) -> Result<Option<Record>, PassthroughError> {
        let fail = |source| PassthroughError::Journal { gpu: gpu.to_owned(), source };
        let Some(record) = self.journal.load(slot).map_err(fail)? else { return Ok(None) };
        Ok((record.boot == self.boot(gpu)?).then_some(record))
    }

    fn boot(&self, gpu: &str) -> Result<String, PassthroughError> {
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
                let left = !self.restore(gpu, &mut record).await?.left.is_empty();
                Ok(left.then_some(record))
            }
        }
    }

    async fn restore(&self, gpu: &str, record: &mut Record) -> Result<Restored, PassthroughError> {
        let fail = |source| PassthroughError::Journal { gpu: gpu.to_owned(), source };
        restore(&self.host, &self.journal, record).await.map_err(fail)
    }

    async fn recover_one(&self, slot: PciAddress) -> Result<Vec<String>, PassthroughError> {
        let name = slot.to_string();
        let fail = |source| PassthroughError::Journal { gpu: slot.to_string(), source };
        let Some(before) = self.journal.load(slot).map_err(fail)? else { return Ok(Vec::new()) };
        let gpu = before.gpu;
        if before.boot != self.boot(&name)? {
            self.journal.remove(slot).map_err(fail)?;
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

    async fn plan_there(
        &self,
        target: &Target,
        record: Option<&Record>,
    ) -> Result<(There, Facts), PassthroughError> {
        let facts = self.facts().await;
        let functions = target::functions(&facts, target)?;
        let now = look(&self.host, &functions).await.map_err(|e| unreadable(target, e))?;
        let mut there = plan::there(&now, record, &drivers(&self.host));
        there.warnings.splice(0..0, target::warnings(&facts, &functions));
        Ok((there, facts))
    }

    async fn bind(&self, target: &Target, owner: &Owner) -> Result<Bound, PassthroughError> {
        let gpu = || target.name.clone();
        let journal = |source| PassthroughError::Journal { gpu: gpu(), source };
        let existing = self.settled(&target.name, target.slot).await?;
        not_wedged(target, existing.as_ref())?;
        if let (Owner::Vm(wants), Some(Record { vm: Some(has), .. })) = (owner, &existing)
            && wants != has
        {
            return Err(PassthroughError::Owned { gpu: gpu(), vm: has.clone() });
        }
        let (there, facts) = self.plan_there(target, existing.as_ref()).await?;
        let functions: Vec<PciAddress> = there.saved.iter().map(|saved| saved.address).collect();
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
            vm: existing.and_then(|record| record.vm),
            step: None,
            wedged: Vec::new(),
            problems: Vec::new(),
        };
        match owner {
            Owner::Person => record.person = true,
            Owner::Vm(name) => record.vm = Some(name.clone()),
        }
        let changed = !there.steps.is_empty();
        if changed {
            record.phase = Phase::Binding;
        }
        // On record before anything is touched.
        self.journal.save(&record).map_err(journal)?;
        if changed {
            self.walk(target, &mut record, &there.steps).await?;
        }
        Ok(Bound { gpu: gpu(), functions, group, changed, warnings: there.warnings })
    }

    /// Takes the steps; undoes them all when one fails or the result is not usable.
    async fn walk(
        &self,
        target: &Target,
        record: &mut Record,
        steps: &[Step],
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
        let left = self.restore(&target.name, record).await?.left;
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
        target::functions(&facts, target).map_err(|error| with_sources(&error))?;
        if let Some(why) = list::drift(record, &facts).into_iter().next() {
            return Err(why);
        }
        (record.phase, record.step) = (Phase::Bound, None);
        self.journal.save(record).map_err(|error| with_sources(&error))
    }

    async fn release(&self, target: &Target, owner: &Owner) -> Result<Released, PassthroughError> {
        let gpu = || target.name.clone();
        let stays = |why: String| {
            let (functions, warnings) = (Vec::new(), Vec::new());
            Ok(Released { gpu: gpu(), functions, changed: false, why, warnings })
        };
        let Some(mut record) = self.settled(&target.name, target.slot).await? else {
            return stays(NOT_OURS.to_owned());
        };
        match (owner, &record.vm) {
            (Owner::Person, Some(vm)) => {
                return Err(PassthroughError::Owned { gpu: gpu(), vm: vm.clone() });
            }
            (Owner::Vm(wants), Some(has)) if wants != has => {
                return stays(format!("it belongs to the VM {has}"));
            }
            (Owner::Vm(_), None) => return stays("it is not bound for this VM".to_owned()),
            (Owner::Vm(_), Some(_)) if record.person => {
                record.vm = None;
                let fail = |source| PassthroughError::Journal { gpu: gpu(), source };
                self.journal.save(&record).map_err(fail)?;
                return stays("it stays on vfio-pci, because a person has bound it".to_owned());
            }
            // A person asks: what hung is tried once more.
            (Owner::Person, None) => record.wedged.clear(),
            (Owner::Vm(_), Some(_)) => {}
        }
        let functions: Vec<PciAddress> = record.functions.iter().map(|f| f.address).collect();
        let holders = holders::of(&self.host.sys, &functions);
        if !holders.is_empty() {
            return Err(PassthroughError::InUse { gpu: gpu(), holders });
        }
        let done = self.restore(&target.name, &mut record).await?;
        if !done.left.is_empty() {
            return Err(PassthroughError::Incomplete { gpu: gpu(), left: done.left });
        }
        let why = if done.touched { "" } else { "its functions are where they were before" };
        Ok(Released {
            gpu: gpu(),
            functions,
            changed: done.touched,
            why: why.to_owned(),
            warnings: done.notes,
        })
    }
}

//! What the rest of the daemon calls.

use std::sync::Arc;

use super::cards::{Cards, NOT_OURS, not_wedged, unreadable};
use super::error::PassthroughError;
use super::journal::{Record, boot_id};
use super::plan::{self, Step};
use super::target::{self, Target};
use super::{holders, list, perform, quirks, rom, safe};
use crate::ask::view::{GpusView, PlanView, QuirksView, RomDumpView, RomView};
use crate::base::{Name, PciAddress, with_sources};
use crate::config::{Gpu, GpuOptions, GpuRef, QuirkFiles};
use crate::host::Host;
use crate::pci::{Change, Device, What};

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
    /// The functions whose ROM the guest must not see.
    pub rom_off: Vec<PciAddress>,
    /// Whether a BIOS guest shows its picture on it only with `x-vga`.
    pub x_vga: bool,
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

/// A card that was reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Configured name; the address where there is none.
    pub gpu: String,
    /// All that was reset with it.
    pub functions: Vec<PciAddress>,
    /// What to know.
    pub warnings: Vec<String>,
}

/// A ROM that was read out of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dumped {
    /// What it is; not written anywhere yet.
    pub view: RomView,
    /// What was read.
    pub bytes: Vec<u8>,
}

impl From<Dumped> for RomDumpView {
    fn from(dumped: Dumped) -> Self {
        Self { rom: dumped.view, data: rom::hex(&dumped.bytes) }
    }
}

fn card(target: &Target, functions: &[&Device]) -> rom::Card {
    rom::Card::of(&target.name, functions.first().copied())
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
    cards: Cards,
    gpus: Vec<Gpu>,
    /// One card at a time: groups and buses are shared.
    turn: tokio::sync::Mutex<()>,
}

impl Passthrough {
    /// The cards of `host` as configured. Nothing is read yet.
    pub fn new(host: Host, gpus: Vec<Gpu>) -> Self {
        Self::with_quirks(host, gpus, QuirkFiles::default())
    }

    /// Heeds the owner's quirk files when a card is bound.
    pub fn with_quirks(host: Host, gpus: Vec<Gpu>, quirks: QuirkFiles) -> Self {
        let (cards, turn) = (Cards::new(host, quirks), tokio::sync::Mutex::default());
        Self { inner: Arc::new(Inner { cards, gpus, turn }) }
    }

    /// What a person wrote as a card, or the only configured one when nothing.
    pub fn resolve_gpu(&self, asked: Option<&str>) -> Result<GpuRef, PassthroughError> {
        target::resolve(&self.inner.gpus, asked)
    }

    /// To be called once at start: closes what a crash has interrupted and
    /// says, in sentences, what it found on record.
    pub async fn recover(&self) -> Vec<String> {
        let _turn = self.inner.turn.lock().await;
        let slots = match self.inner.cards.journal.slots() {
            Ok(slots) => slots,
            Err(error) => return vec![format!("the records cannot be listed: {error}")],
        };
        let mut said = Vec::new();
        for slot in slots {
            match self.inner.cards.recover_one(slot).await {
                Ok(words) => said.extend(words),
                Err(error) => said.push(format!("{}. {}", with_sources(&error), error.hint())),
            }
        }
        said
    }

    /// Configured cards first, then the others found; every problem as text.
    pub async fn list(&self) -> GpusView {
        let busy = self.inner.turn.try_lock().is_err();
        let facts = self.inner.cards.facts().await;
        list::view(
            &self.inner.cards.host,
            &self.inner.cards.journal,
            &facts,
            &self.inner.gpus,
            busy,
        )
    }

    /// Who has which card.
    pub fn claims(&self) -> Vec<Claim> {
        let journal = &self.inner.cards.journal;
        let Ok(boot) = boot_id(&self.inner.cards.host.sys) else { return Vec::new() };
        // Those that cannot be read are in `list`.
        let slots = journal.slots().unwrap_or_default();
        slots
            .into_iter()
            .filter_map(|slot| journal.load(slot).ok().flatten())
            .filter(|record| record.boot == boot && (record.person || record.vm.is_some()))
            .map(|Record { gpu, slot, person, vm, .. }| Claim { gpu, slot, person, vm })
            .collect()
    }

    /// Whether a change of a driver is hostd's own doing.
    pub fn has_done(&self, change: &Change) -> bool {
        match &change.what {
            What::Driver(driver) => self.inner.cards.has_put(change.address, driver.as_deref()),
            What::Appeared | What::Vanished | What::Exchanged => false,
        }
    }

    /// The quirks that apply to the cards, or to one.
    pub async fn quirks(
        &self,
        gpu: Option<&GpuRef>,
        files: &QuirkFiles,
    ) -> Result<QuirksView, PassthroughError> {
        let facts = self.inner.cards.facts().await;
        let targets = match gpu {
            None => quirks::cards(&facts, &self.inner.gpus),
            Some(gpu) => {
                let target = target::target(&self.inner.gpus, gpu)?;
                let (target, _) = target::follow(&facts, target);
                target::identify(&facts, &target)?;
                vec![target]
            }
        };
        let mut view = quirks::view(&facts, &targets, files);
        view.notes.extend(facts.notes);
        Ok(view)
    }

    /// What a ROM file for a card has to fit.
    pub async fn rom_card(&self, gpu: &GpuRef) -> Result<rom::Card, PassthroughError> {
        let facts = self.inner.cards.facts().await;
        let (target, _) = target::follow(&facts, target::target(&self.inner.gpus, gpu)?);
        target::identify(&facts, &target).map(|functions| card(&target, &functions))
    }

    /// Reads the ROM out of a card that nobody uses, and judges it.
    pub async fn rom_dump(&self, gpu: &GpuRef, strip: bool) -> Result<Dumped, PassthroughError> {
        let cards = &self.inner.cards;
        let _turn = self.inner.turn.lock().await;
        let (target, _) = cards.locate(target::target(&self.inner.gpus, gpu)?).await;
        let record = cards.load(&target.name, target.slot)?;
        not_wedged(&target, record.as_ref())?;
        let gpu = target.name.clone();
        if let Some(vm) = record.and_then(|record| record.vm) {
            return Err(PassthroughError::Owned { gpu, vm });
        }
        let facts = cards.facts().await;
        let functions = target::identify(&facts, &target)?;
        let addresses: Vec<PciAddress> = functions.iter().map(|device| device.address).collect();
        let holders = holders::of(&cards.host.sys, &addresses);
        let users = holders::users(&cards.host.sys, &addresses).working;
        let holders = [holders, users].concat();
        if !holders.is_empty() {
            return Err(PassthroughError::InUse { gpu, holders });
        }
        let slot = functions.first().map_or(target.slot, |device| device.address);
        if !rom::dump::offered(&cards.host.sys, slot) {
            return Err(PassthroughError::NoRom { gpu, slot });
        }
        let read = rom::dump::read(&cards.host, slot).await;
        let mut bytes = read.map_err(|source| PassthroughError::Rom { gpu, source })?;
        if strip {
            bytes = rom::strip(&bytes).to_vec();
        }
        let view = rom::view("", &bytes, Some(&card(&target, &functions)));
        Ok(Dumped { view, bytes })
    }

    /// The steps that a bind or release would take now.
    pub async fn plan(&self, gpu: &GpuRef, release: bool) -> Result<PlanView, PassthroughError> {
        let inner = &self.inner;
        let _turn = inner.turn.lock().await;
        let (target, moved) = inner.cards.locate(target::target(&inner.gpus, gpu)?).await;
        let record = inner.cards.load(&target.name, target.slot)?;
        let words = |steps: &[Step]| steps.iter().map(ToString::to_string).collect();
        if release {
            let Some(record) = record else {
                return Ok(PlanView { steps: Vec::new(), warnings: vec![NOT_OURS.to_owned()] });
            };
            let back = perform::way_back(&inner.cards.host, &record).await;
            let back = back.map_err(|error| unreadable(&target, error))?;
            let shown = perform::shown_now(&inner.cards.host, &record).await;
            let (lit, lost) = plan::light(&record, &shown);
            let steps: Vec<Step> = back.ways.concat().into_iter().chain(lit).collect();
            return Ok(PlanView {
                steps: words(&steps),
                warnings: [back.left, back.notes, lost].concat(),
            });
        }
        not_wedged(&target, record.as_ref())?;
        let options = GpuOptions::default();
        let planned = inner.cards.plan_there(&target, record.as_ref(), &options).await?;
        let mut warnings: Vec<String> = moved.into_iter().collect();
        if let Some(why) = safe::why(&inner.cards.host.sys) {
            warnings.push(format!("it would be refused now: {why}"));
        }
        if !planned.users.is_empty() && !planned.there.steps.is_empty() {
            let users = planned.users.join(", ");
            warnings.push(format!("it would be refused now: in use by {users}"));
        }
        warnings.extend(target::only_card(&planned.facts, &planned.leaving.card));
        warnings.extend(planned.there.warnings);
        Ok(PlanView { steps: words(&planned.there.steps), warnings })
    }

    /// Puts all functions of a card on vfio-pci for an owner.
    pub async fn bind(&self, gpu: &GpuRef, owner: Owner) -> Result<Bound, PassthroughError> {
        self.bind_with(gpu, owner, &GpuOptions::default()).await
    }

    /// The same, as a VM's file asks for it: its ROM is checked, its BAR resized.
    pub async fn bind_with(
        &self,
        gpu: &GpuRef,
        owner: Owner,
        options: &GpuOptions,
    ) -> Result<Bound, PassthroughError> {
        let _turn = self.inner.turn.lock().await;
        let (cards, target) = (&self.inner.cards, target::target(&self.inner.gpus, gpu)?);
        if safe::is_safe_mode(&cards.host.sys) {
            return Err(PassthroughError::SafeMode { gpu: target.name });
        }
        let (target, moved) = cards.locate(target).await;
        let mut bound = cards.bind(&target, &owner, options).await?;
        bound.warnings.extend(moved);
        Ok(bound)
    }

    /// Gives a disk controller to vfio-pci, if the host does not use its disks.
    pub async fn bind_storage(
        &self,
        address: PciAddress,
        owner: Owner,
    ) -> Result<Bound, PassthroughError> {
        let _turn = self.inner.turn.lock().await;
        let cards = &self.inner.cards;
        let target = target::target(&self.inner.gpus, &GpuRef::Address(address))?;
        if safe::is_safe_mode(&cards.host.sys) {
            return Err(PassthroughError::SafeMode { gpu: target.name });
        }
        let target = target::Target { storage: true, ..target };
        cards.bind(&target, &owner, &GpuOptions::default()).await
    }

    /// Resets a bound card that nobody has open, all functions at once.
    pub async fn reset(&self, gpu: &GpuRef) -> Result<Reset, PassthroughError> {
        let _turn = self.inner.turn.lock().await;
        let cards = &self.inner.cards;
        let (target, _) = cards.locate(target::target(&self.inner.gpus, gpu)?).await;
        cards.reset(&target).await
    }

    /// Keeps every card as it is as long as the answer is held.
    pub async fn still(&self) -> impl Drop + '_ {
        self.inner.turn.lock().await
    }

    /// Gives a card back to the drivers it had, if nobody else wants it bound.
    pub async fn release(&self, gpu: &GpuRef, owner: Owner) -> Result<Released, PassthroughError> {
        let _turn = self.inner.turn.lock().await;
        let cards = &self.inner.cards;
        let (target, _) = cards.locate(target::target(&self.inner.gpus, gpu)?).await;
        cards.release(&target, &owner).await
    }
}

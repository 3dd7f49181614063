//! Which card is meant, and whether the right one is plugged in.

use super::error::PassthroughError;
use super::screen::Screen;
use super::step::VFIO;
use crate::base::{Name, PciAddress};
use crate::config::{Gpu, GpuRef};
use crate::pci::viability;
use crate::pci::{Absence, Device, Facts};

/// A card that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Configured name; the address where there is none.
    pub name: String,
    /// Its function 0.
    pub slot: PciAddress,
    /// What function 0 must be.
    pub identity: Option<(u16, u16)>,
    /// Which board function 0 must be.
    pub subsystem: Option<(u16, u16)>,
    /// Whether it may be taken where it is when it is not at its slot.
    pub follow: bool,
    /// Other slots that leave the host with it.
    pub with: Vec<PciAddress>,
    /// Whether the display manager is stopped for it.
    pub stop_display_manager: bool,
    /// Slots of other configured cards: it is never taken for one of them.
    pub others: Vec<PciAddress>,
    /// Whether the configuration names it.
    pub configured: bool,
    /// It is an NVMe or other disk controller, which a VM's file names.
    pub storage: bool,
}

/// All configured cards.
pub fn configured(gpus: &[Gpu]) -> Vec<Target> {
    gpus.iter().map(|gpu| one_of(gpus, gpu)).collect()
}

/// One of the configured cards.
fn one_of(gpus: &[Gpu], gpu: &Gpu) -> Target {
    let others = gpus.iter().filter(|other| other.name != gpu.name);
    let others = others.map(|other| other.address.with_function(0)).collect();
    Target { others, ..Target::configured(gpu) }
}

impl Target {
    /// A configured card.
    pub fn configured(gpu: &Gpu) -> Self {
        Self {
            name: gpu.name.to_string(),
            slot: gpu.address.with_function(0),
            identity: gpu.identity,
            subsystem: gpu.subsystem,
            follow: gpu.follow,
            with: gpu.with.iter().map(|address| address.with_function(0)).collect(),
            stop_display_manager: gpu.stop_display_manager,
            others: Vec::new(),
            configured: true,
            storage: false,
        }
    }

    /// Whatever is in a slot.
    pub fn unnamed(address: PciAddress) -> Self {
        let slot = address.with_function(0);
        Self {
            name: slot.to_string(),
            slot,
            identity: None,
            subsystem: None,
            follow: false,
            with: Vec::new(),
            stop_display_manager: false,
            others: Vec::new(),
            configured: false,
            storage: false,
        }
    }

    /// Whether a device is the one that is meant.
    fn is(&self, device: &Device) -> bool {
        self.identity.is_none_or(|identity| device.identity() == Some(identity))
            && self.subsystem.is_none_or(|board| device.subsystem == Some(board))
    }
}

/// What a person wrote, or the only configured card when nothing.
pub fn resolve(gpus: &[Gpu], asked: Option<&str>) -> Result<GpuRef, PassthroughError> {
    let known = || gpus.iter().map(|gpu| gpu.name.clone()).collect();
    let Some(asked) = asked else {
        return match gpus {
            [only] => Ok(GpuRef::Name(only.name.clone())),
            _ => Err(PassthroughError::WhichGpu { known: known() }),
        };
    };
    if let Some(gpu) = gpus.iter().find(|gpu| gpu.name.as_str() == asked) {
        return Ok(GpuRef::Name(gpu.name.clone()));
    }
    asked.parse().map(GpuRef::Address).map_err(|_| PassthroughError::Unknown {
        asked: asked.chars().take(80).collect(),
        known: known(),
    })
}

/// The card behind a reference. An address in a configured card's slot means
/// that card, with its identity.
pub fn target(gpus: &[Gpu], gpu: &GpuRef) -> Result<Target, PassthroughError> {
    match gpu {
        GpuRef::Name(name) => {
            gpus.iter().find(|gpu| gpu.name == *name).map(|gpu| one_of(gpus, gpu)).ok_or_else(
                || PassthroughError::Unknown {
                    asked: name.to_string(),
                    known: gpus.iter().map(|gpu| gpu.name.clone()).collect(),
                },
            )
        }
        GpuRef::Address(address) => Ok(gpus
            .iter()
            .find(|gpu| gpu.address.same_slot(*address))
            .map_or_else(|| Target::unnamed(*address), |gpu| one_of(gpus, gpu))),
    }
}

/// What leaves the host for a card.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leaving {
    /// The card's functions, function 0 first: the guest gets them.
    pub card: Vec<PciAddress>,
    /// Other functions of its group that leave with it.
    pub with: Vec<PciAddress>,
    /// What to know.
    pub warnings: Vec<String>,
}

impl Leaving {
    /// All of them, the card's first.
    pub fn all(&self) -> Vec<PciAddress> {
        self.card.iter().chain(&self.with).copied().collect()
    }
}

/// The functions to give away, if the right card is there and nothing in its
/// groups is in the way.
pub fn leaving(facts: &Facts, target: &Target) -> Result<Leaving, PassthroughError> {
    let all = identify(facts, target)?;
    let gpu = || target.name.clone();
    let card: Vec<PciAddress> =
        all.iter().filter(|device| !device.is_bridge()).map(|device| device.address).collect();
    if target.storage
        && let Some(first) = all.first()
        && !all.iter().any(|device| device.is_storage())
    {
        let (slot, name) = (first.address, first.name.full());
        return Err(PassthroughError::NotStorage { slot, name });
    }
    let known = target.configured || target.storage;
    if let Some(first) = all.first()
        && (card.is_empty() || (!known && !all.iter().any(|device| device.is_display())))
    {
        let (slot, name) = (first.address, first.name.full());
        return Err(PassthroughError::NotDisplay { slot, name });
    }
    let mut leaving = Leaving { card, ..Leaving::default() };
    for slot in target.with.iter().filter(|slot| **slot != target.slot) {
        let before = leaving.with.len();
        let beside = facts.slot(*slot).filter(|device| !device.is_bridge());
        leaving.with.extend(beside.map(|device| device.address));
        if leaving.with.len() == before {
            leaving.warnings.push(format!("{slot} (under `with`) is not there"));
        }
    }
    let functions = leaving.all();
    let mut groups: Vec<u32> = Vec::new();
    for device in functions.iter().filter_map(|address| facts.devices.get(address)) {
        match (device.group, &facts.absence) {
            (Some(group), _) => groups.push(group),
            (None, Some(absence)) => {
                return Err(PassthroughError::NoIommu { gpu: gpu(), absence: absence.clone() });
            }
            (None, None) => {
                let absence = Absence {
                    reason: format!("{} is in no IOMMU group", device.address),
                    fix: "The IOMMU does not cover this slot: try another".to_owned(),
                };
                return Err(PassthroughError::NoIommu { gpu: gpu(), absence });
            }
        }
    }
    groups.sort_unstable();
    groups.dedup();
    let members = groups.iter().filter_map(|group| facts.groups.get(group));
    let blockers: Vec<_> =
        members.filter_map(|group| viability(facts, group, &functions).err()).flatten().collect();
    if blockers.is_empty() {
        Ok(leaving)
    } else {
        Err(PassthroughError::Blocked { gpu: gpu(), blockers })
    }
}

/// The card where it is now: at its slot, or, if it may be followed, where
/// exactly one device is what it should be.
pub fn follow(facts: &Facts, target: Target) -> (Target, Option<String>) {
    let at_home = facts.devices.get(&target.slot).is_some_and(|device| target.is(device));
    let moved = (target.follow && !at_home).then(|| elsewhere(facts, &target)).flatten();
    // The host's own screen is nobody's lost card.
    let boots = |slot: &PciAddress| facts.slot(*slot).any(|device| device.boot_vga == Some(true));
    let moved = moved.filter(|slot| !boots(slot));
    match moved {
        Some(slot) => {
            let said = format!(
                "{} is at {slot} now, and not at {} as configured: taken there by its identity",
                target.name, target.slot
            );
            (Target { slot, ..target }, Some(said))
        }
        None => (target, None),
    }
}

/// All functions in the card's slot, if it is the right card.
pub fn identify<'a>(
    facts: &'a Facts,
    target: &Target,
) -> Result<Vec<&'a Device>, PassthroughError> {
    let all: Vec<&Device> = facts.slot(target.slot).collect();
    let (gpu, slot) = (target.name.clone(), target.slot);
    let Some(first) = all.first() else {
        return Err(PassthroughError::Absent { gpu, slot, moved: elsewhere(facts, target) });
    };
    if target.is(first) {
        return Ok(all);
    }
    let moved = elsewhere(facts, target);
    match (target.identity, target.subsystem) {
        (Some(expected), _) if first.identity() != Some(expected) => {
            let found = first.identity();
            Err(PassthroughError::Identity { gpu, slot, expected, found, moved })
        }
        (_, Some(expected)) => {
            let found = first.subsystem;
            Err(PassthroughError::Board { gpu, slot, expected, found, moved })
        }
        // Nothing is asked of it, so it is the one.
        (_, None) => Ok(all),
    }
}

/// Where a device that is what the target should be is, if there is exactly one.
fn elsewhere(facts: &Facts, target: &Target) -> Option<PciAddress> {
    target.identity?;
    let free = |device: &&Device| {
        target.is(device) && !target.others.iter().any(|other| other.same_slot(device.address))
    };
    let mut found = facts.devices.values().filter(free);
    let first = found.next()?.address;
    found.next().is_none().then_some(first)
}

/// What to know before a card leaves the host.
pub fn warnings(facts: &Facts, functions: &[PciAddress], screen: &Screen) -> Vec<String> {
    let mut said = Vec::new();
    let devices = || functions.iter().filter_map(|address| facts.devices.get(address));
    let boot = devices().find(|device| device.boot_vga == Some(true));
    let displays: Vec<&Device> = devices().filter(|device| device.is_display()).collect();
    let shows =
        boot.or_else(|| displays.first().copied().filter(|_| !screen.framebuffers.is_empty()));
    if let Some(device) = shows {
        let what = if boot.is_some() { "the boot display (boot_vga)" } else { "the host's screen" };
        let back = match device.driver.name().filter(|driver| *driver != VFIO) {
            Some(driver) => {
                format!("dark while a guest has it; it comes back when {driver} has it again")
            }
            None => "dark until a restart: no driver of the host shows a picture on it".to_owned(),
        };
        said.push(format!("{} is {what}, which goes {back}", device.address));
    }
    if let Some(why) = &screen.unsure {
        said.push(format!("whether the firmware's framebuffer is on it is not known: {why}"));
    }
    said
}

/// Whether the host is left without any picture, in words.
pub fn only_card(facts: &Facts, card: &[PciAddress]) -> Option<String> {
    let first = card.first()?;
    let mut displays = facts.devices.values().filter(|device| device.is_display());
    displays.all(|device| device.address.same_slot(*first)).then(|| {
        "it is this machine's only graphics card: without it, only the network leads in (ssh, \
         hostctl --host)"
            .to_owned()
    })
}

/// What a VM or a person calls itself in a sentence.
pub fn claimants(person: bool, vm: Option<&Name>) -> String {
    match (person, vm) {
        (true, Some(vm)) => format!("a person and the VM {vm}"),
        (true, None) => "a person".to_owned(),
        (false, Some(vm)) => format!("the VM {vm}"),
        (false, None) => "nobody".to_owned(),
    }
}

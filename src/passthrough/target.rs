//! Which card is meant, and whether the right one is plugged in.

use super::error::PassthroughError;
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
    /// Whether the configuration names it.
    pub configured: bool,
}

impl Target {
    /// A configured card.
    pub fn configured(gpu: &Gpu) -> Self {
        Self {
            name: gpu.name.to_string(),
            slot: gpu.address.with_function(0),
            identity: gpu.identity,
            configured: true,
        }
    }

    /// Whatever is in a slot.
    pub fn unnamed(address: PciAddress) -> Self {
        let slot = address.with_function(0);
        Self { name: slot.to_string(), slot, identity: None, configured: false }
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
            gpus.iter().find(|gpu| gpu.name == *name).map(Target::configured).ok_or_else(|| {
                PassthroughError::Unknown {
                    asked: name.to_string(),
                    known: gpus.iter().map(|gpu| gpu.name.clone()).collect(),
                }
            })
        }
        GpuRef::Address(address) => Ok(gpus
            .iter()
            .find(|gpu| gpu.address.same_slot(*address))
            .map_or_else(|| Target::unnamed(*address), Target::configured)),
    }
}

/// The functions to give away, function 0 first, if the right card is there
/// and nothing in its groups is in the way.
pub fn functions(facts: &Facts, target: &Target) -> Result<Vec<PciAddress>, PassthroughError> {
    let all = identify(facts, target)?;
    let gpu = || target.name.clone();
    let functions: Vec<PciAddress> =
        all.iter().filter(|device| !device.is_bridge()).map(|device| device.address).collect();
    if let Some(first) = all.first()
        && (functions.is_empty()
            || (!target.configured && !all.iter().any(|device| device.is_display())))
    {
        let (slot, name) = (first.address, first.name.full());
        return Err(PassthroughError::NotDisplay { slot, name });
    }
    let mut groups: Vec<u32> = Vec::new();
    for device in &all {
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
        Ok(functions)
    } else {
        Err(PassthroughError::Blocked { gpu: gpu(), blockers })
    }
}

/// All functions in the card's slot, if it is the right card.
pub fn identify<'a>(
    facts: &'a Facts,
    target: &Target,
) -> Result<Vec<&'a Device>, PassthroughError> {
    let all: Vec<&Device> = facts.slot(target.slot).collect();
    let (gpu, slot) = (target.name.clone(), target.slot);
    let found = all.first().and_then(|device| device.identity());
    match target.identity {
        _ if all.is_empty() => {
            let moved = target.identity.and_then(|identity| elsewhere(facts, identity));
            Err(PassthroughError::Absent { gpu, slot, moved })
        }
        Some(expected) if found != Some(expected) => {
            let moved = elsewhere(facts, expected);
            Err(PassthroughError::Identity { gpu, slot, expected, found, moved })
        }
        _ => Ok(all),
    }
}

/// Where a device of this identity is, if there is exactly one.
fn elsewhere(facts: &Facts, identity: (u16, u16)) -> Option<PciAddress> {
    let mut found = facts.devices.values().filter(|device| device.identity() == Some(identity));
    let first = found.next()?.address;
    found.next().is_none().then_some(first)
}

/// What to know before a card leaves the host.
pub fn warnings(facts: &Facts, functions: &[PciAddress]) -> Vec<String> {
    let devices = functions.iter().filter_map(|address| facts.devices.get(address));
    devices
        .filter(|device| device.boot_vga == Some(true))
        .map(|device| {
            format!(
                "{} is the boot display (boot_vga): the host's own screen goes dark, and may stay \
                 so until a restart",
                device.address
            )
        })
        .collect()
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

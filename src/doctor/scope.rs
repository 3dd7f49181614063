//! What is to be judged: the cards and VMs that matter here.

use crate::base::{Name, PciAddress};
use crate::config::{Config, GpuRef, Vm};
use crate::passthrough::Claim;
use crate::passthrough::target::{self, Target};
use crate::pci::{Device, Facts};

/// The cards and VMs that matter.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Configured cards and those that VMs name; where there are none, those found.
    pub cards: Vec<Card>,
    /// All VMs.
    pub vms: Vec<Vm>,
    /// Whether somebody wants a card in a guest, rather than only having one.
    pub wanted: bool,
}

/// A card.
#[derive(Debug, Clone)]
pub struct Card {
    /// Which.
    pub target: Target,
    /// Its functions, bridges left out; none when it is not there.
    pub functions: Vec<Device>,
    /// The VM that has it now.
    pub lent: Option<Name>,
}

impl Card {
    /// How people call it.
    pub fn name(&self) -> &str {
        &self.target.name
    }

    /// Where its functions are.
    pub fn addresses(&self) -> Vec<PciAddress> {
        self.functions.iter().map(|device| device.address).collect()
    }

    /// Whether all of it is on vfio-pci.
    pub fn is_bound(&self) -> bool {
        let bound = |device: &Device| device.driver.name() == Some(crate::passthrough::plan::VFIO);
        !self.functions.is_empty() && self.functions.iter().all(bound)
    }

    /// Whether firmware drew its first picture on it.
    pub fn is_boot_display(&self) -> bool {
        self.functions.iter().any(|device| device.boot_vga == Some(true))
    }
}

impl Scope {
    /// From the configuration, what is plugged in, and who has which card.
    pub fn new(config: &Config, facts: &Facts, claims: &[Claim]) -> Self {
        let configured = target::configured(&config.gpus).into_iter();
        let mut targets: Vec<Target> =
            configured.map(|target| target::follow(facts, target).0).collect();
        let named = config.vms.iter().filter_map(|vm| vm.gpu.as_ref());
        for card in named.filter_map(|gpu| target::target(&config.gpus, gpu).ok()) {
            if !targets.iter().any(|known| known.slot == card.slot) {
                targets.push(card);
            }
        }
        let wanted = !targets.is_empty();
        if !wanted {
            for device in facts.devices.values().filter(|device| device.is_display()) {
                let found = Target::unnamed(device.address);
                if !targets.iter().any(|known| known.slot == found.slot) {
                    targets.push(found);
                }
            }
        }
        let card = |target: Target| {
            let functions = facts.slot(target.slot).filter(|device| !device.is_bridge());
            let claim = claims.iter().find(|claim| claim.slot.same_slot(target.slot));
            Card {
                functions: functions.cloned().collect(),
                lent: claim.and_then(|claim| claim.vm.clone()),
                target,
            }
        };
        Self { cards: targets.into_iter().map(card).collect(), vms: config.vms.clone(), wanted }
    }

    /// The VMs with a card.
    pub fn vms_with_card(&self) -> impl Iterator<Item = &Vm> {
        self.vms.iter().filter(|vm| vm.gpu.is_some())
    }

    /// The card of a VM.
    pub fn card_of(&self, vm: &Vm) -> Option<&Card> {
        self.cards.iter().find(|card| match &vm.gpu {
            None => false,
            Some(GpuRef::Name(name)) => card.target.name == name.as_str(),
            Some(GpuRef::Address(address)) => card.target.slot.same_slot(*address),
        })
    }
}

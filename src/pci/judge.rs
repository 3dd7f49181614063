//! Whether a group can be given to a guest, and who is in the way.
//!
//! The rules, where the kernel leaves them to us:
//! - Bridges to another bus are never given away and never in the way, unless
//!   a driver that does DMA on its own holds one.
//! - A host bridge without a driver in another slot is tolerated: the kernel
//!   does, and older AMD boards put one beside every root port.
//! - Any other part of the mainboard in a group blocks it.
//! - A disk controller with a host driver blocks a group of several slots:
//!   the host may stand on its disks. Alone in its group it is `isolated`, and
//!   the reason says what its loss would mean.

use std::collections::BTreeSet;

use super::facts::{Device, Driver, Facts, Group};
use crate::ask::view::Verdict;
use crate::base::PciAddress;

/// A verdict in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it can be given to a guest.
    pub verdict: Verdict,
    /// Why, with the devices and what could be done.
    pub reason: String,
    /// The kernel was told to pretend that the hardware isolates: this group
    /// may be smaller than what the hardware keeps apart.
    pub by_override: bool,
}

/// A device that keeps a wanted set of functions from being given away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Its address, or its name where it is no PCI function.
    pub device: String,
    /// In words.
    pub name: String,
    /// What drives it.
    pub driver: Driver,
    /// What could be done.
    pub fix: String,
}

impl std::fmt::Display for Blocker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}, {}): {}", self.device, self.name, self.driver.in_words(), self.fix)
    }
}

/// What could be done about a group that holds too much.
pub const MOVE: &str =
    "move the card to a slot with a group of its own, or turn on ACS in the firmware setup";

/// The verdict on a group as such, whatever is wanted from it.
pub fn verdict(facts: &Facts, group: &Group) -> Judgement {
    let say = |verdict, reason| Judgement { verdict, reason, by_override: false };
    let members: Vec<&Device> =
        group.members.iter().filter_map(|address| facts.devices.get(address)).collect();
    let (bridges, functions): (Vec<&Device>, Vec<&Device>) =
        members.into_iter().partition(|device| device.is_bridge());
    let guests: BTreeSet<PciAddress> = functions
        .iter()
        .filter(|device| device.belongs_to_host().is_none())
        .map(|device| device.address.with_function(0))
        .collect();
    let mut why: Vec<String> = functions.iter().filter_map(|d| stays(d, &guests)).collect();
    why.extend(group.others.iter().filter(|other| !other.driver.is_harmless()).map(|other| {
        format!(
            "{} ({}) is no PCI function and cannot be moved",
            other.name,
            other.driver.in_words()
        )
    }));
    let given: Vec<&Device> =
        functions.iter().copied().filter(|device| device.belongs_to_host().is_none()).collect();
    let slots = slots(&given);
    if slots > 1 {
        why.extend(given.iter().filter(|d| d.is_storage() && !d.driver.is_harmless()).map(|d| {
            format!("{} carries disks that the host uses or may use; {MOVE}", d.in_words())
        }));
    }
    if !why.is_empty() {
        return say(Verdict::Blocked, why.join("; "));
    }
    let holders: Vec<String> = bridges
        .iter()
        .filter(|bridge| !bridge.driver.is_harmless())
        .map(|bridge| format!("; the bridge {} has to lose its driver first", bridge.in_words()))
        .collect();
    let held = holders.concat();
    let names = list(&given);
    match slots {
        0 => say(Verdict::Blocked, "holds only bridges, which stay with the host".to_owned()),
        1 => {
            let disks = given.iter().any(|d| d.is_storage() && !d.driver.is_harmless());
            let disks = if disks { "; the host would lose the disks on it" } else { "" };
            let one = given.iter().map(|d| d.address.to_string()).collect::<Vec<_>>().join(", ");
            let can = format!("{one} can be given to a guest alone{disks}{held}");
            match &facts.acs_override {
                None => say(Verdict::Isolated, can),
                Some(said) => Judgement {
                    verdict: Verdict::Isolated,
                    reason: format!(
                        "isolated by override, not by hardware (`pcie_acs_override={said}`): {can}"
                    ),
                    by_override: true,
                },
            }
        }
        many => say(
            Verdict::Shared,
            format!(
                "{many} slots share it and can only go together: {names}{held}; to separate them, {MOVE}"
            ),
        ),
    }
}

/// Why a function keeps its whole group on the host; `guests` are the slots
/// with something that a guest could have.
fn stays(device: &Device, guests: &BTreeSet<PciAddress>) -> Option<String> {
    if device.class.is_none() {
        return Some(format!(
            "{}: what it is cannot be read, so it cannot be judged",
            device.address
        ));
    }
    if let Driver::Unknown(why) = &device.driver {
        return Some(format!("{}: its driver cannot be read: {why}", device.address));
    }
    let part = device.belongs_to_host()?;
    let idle = device.driver.is_harmless() && device.subclass() == Some(0x0600);
    let beside = guests.contains(&device.address.with_function(0));
    let elsewhere = guests.len() > usize::from(beside);
    if idle && elsewhere && !beside {
        return None;
    }
    Some(format!("{} is the {part} and stays with the host", device.in_words()))
}

fn slots(devices: &[&Device]) -> usize {
    let mut slots: Vec<PciAddress> = devices.iter().map(|d| d.address.with_function(0)).collect();
    slots.dedup();
    slots.len()
}

/// The most devices that a sentence names.
const NAMED: usize = 16;

fn list(devices: &[&Device]) -> String {
    let text = devices.iter().take(NAMED).map(|d| d.in_words()).collect::<Vec<_>>().join(", ");
    match devices.len().saturating_sub(NAMED) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// Whether the wanted functions can be given away while the rest of their
/// group stays as it is. Every device in the way is listed.
pub fn viability(facts: &Facts, group: &Group, wanted: &[PciAddress]) -> Result<(), Vec<Blocker>> {
    let mut blockers = Vec::new();
    for address in &group.members {
        let Some(device) = facts.devices.get(address) else { continue };
        let fix = if wanted.contains(address) { may_go(device) } else { in_the_way(device) };
        if let Some(fix) = fix {
            let (name, driver) = (device.name.full(), device.driver.clone());
            blockers.push(Blocker { device: address.to_string(), name, driver, fix });
        }
    }
    for other in group.others.iter().filter(|other| !other.driver.is_harmless()) {
        blockers.push(Blocker {
            device: other.name.clone(),
            name: "no PCI function".to_owned(),
            driver: other.driver.clone(),
            fix: "it cannot be given away".to_owned(),
        });
    }
    if blockers.is_empty() { Ok(()) } else { Err(blockers) }
}

/// Why a wanted function itself cannot go.
fn may_go(device: &Device) -> Option<String> {
    if device.is_bridge() {
        return Some("bridges stay with the host".to_owned());
    }
    match (device.class, device.belongs_to_host(), &device.driver) {
        (None, _, _) => Some("what it is cannot be read; try as root".to_owned()),
        (_, Some(part), _) => Some(format!("it is the {part} and stays with the host")),
        (_, None, Driver::Unknown(_)) => Some("its driver cannot be read; try as root".to_owned()),
        (_, None, Driver::None | Driver::Named(_)) => None,
    }
}

/// What could be done about a device that is not wanted and has a driver.
fn in_the_way(device: &Device) -> Option<String> {
    if device.driver.is_harmless() {
        return None;
    }
    let Driver::Named(driver) = &device.driver else {
        return Some("its driver cannot be read; try as root".to_owned());
    };
    let address = device.address;
    let unbind = format!("`echo {address} > /sys/bus/pci/drivers/{driver}/unbind`");
    Some(if let Some(part) = device.belongs_to_host() {
        format!("it is the {part} and stays with the host")
    } else if device.is_storage() {
        format!("it carries disks; only when the host uses none of them: {unbind}")
    } else {
        format!("if the host can do without it: {unbind}")
    })
}

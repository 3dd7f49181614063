//! VFIO: container, groups, and the devices themselves when asked to.

use std::collections::BTreeMap;

use super::cards::NOT_OURS;
use super::check::{Check, Id};
use super::scope::{Card, Scope};
use crate::base::{Bytes, PciAddress};
use crate::host::Host;
use crate::host::vfio::{Container, Group, Opening, Probed, Seen};
use crate::passthrough::holders;
use crate::passthrough::vfio::{self, VfioError};

/// What there is to judge.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Container and groups.
    pub seen: Result<Seen, VfioError>,
    /// The devices that were opened; nothing without `--probe`.
    pub probed: BTreeMap<PciAddress, Result<Probed, String>>,
    /// Whether devices were to be opened.
    pub probe: bool,
    /// Whether groups were left alone, because a card is being changed.
    pub changing: bool,
    /// Who has the functions of a card open, by its slot.
    pub holders: BTreeMap<PciAddress, Vec<String>>,
}

/// The groups of a card that is on vfio-pci and that no VM has.
fn groups(card: &Card) -> Vec<u32> {
    let free = card.is_bound() && card.lent.is_none();
    let mut groups: Vec<u32> =
        card.functions.iter().filter(|_| free).filter_map(|device| device.group).collect();
    groups.sort_unstable();
    groups.dedup();
    groups
}

/// The cards whose groups may be opened; none while a card is `changing`.
fn free(scope: &Scope, changing: bool) -> impl Iterator<Item = &Card> {
    scope.cards.iter().filter(move |card| !changing && !groups(card).is_empty())
}

/// Asks VFIO; opens devices, which resets them, only when told to.
/// Groups are left alone while a card is `changing`.
pub async fn read(host: &Host, scope: &Scope, probe: bool, changing: bool) -> Facts {
    let free = || free(scope, changing);
    let wanted: Vec<u32> = free().flat_map(groups).collect();
    let seen = vfio::look(host, &wanted).await;
    let held = |card: &Card| (card.target.slot, holders::of(&host.sys, &card.addresses()));
    let holders: BTreeMap<PciAddress, Vec<String>> = free().map(held).collect();
    let mut probed = BTreeMap::new();
    for card in free().filter(|_| probe) {
        let users = holders.get(&card.target.slot).map_or(&[][..], Vec::as_slice);
        for device in &card.functions {
            let Some(group) = device.group else { continue };
            let said = if users.is_empty() {
                vfio::probe(host, group, device.address).await.map_err(|error| error.to_string())
            } else {
                Err(format!("in use by {}", users.join(", ")))
            };
            probed.insert(device.address, said);
        }
    }
    Facts { seen, probed, probe, changing, holders }
}

/// The checks.
pub fn judge(facts: &Facts, scope: &Scope) -> Vec<Check> {
    if scope.cards.is_empty() {
        return Vec::new();
    }
    let seen = match &facts.seen {
        Ok(seen) => seen,
        Err(VfioError::Elsewhere) => {
            let why = "only the running machine can be asked";
            return vec![Check::unknown(Id::VfioContainer, why, "")];
        }
        Err(VfioError::Failed(why) | VfioError::Hung(why)) => {
            let fix = "look into `dmesg | grep -i vfio`";
            return vec![Check::unknown(Id::VfioContainer, format!("not asked: {why}"), fix)];
        }
    };
    let mut checks = vec![container(&seen.container).only_if(scope.wanted)];
    for card in &scope.cards {
        for group in groups(card) {
            let check = if facts.changing {
                let seen = format!("group {group} was not opened: a card is being changed");
                Check::unknown(Id::VfioGroup, seen + " at this moment", "ask again")
            } else {
                let holders = facts.holders.get(&card.target.slot);
                let holders = holders.map_or(&[][..], Vec::as_slice);
                self::group(group, seen.groups.get(&group), holders)
            };
            checks.push(check.only_if(scope.wanted).of(card.name()));
        }
        for device in &card.functions {
            if let Some(probed) = facts.probed.get(&device.address) {
                checks.push(self::device(card, device.address, probed).of(card.name()));
            }
        }
        if facts.probe && groups(card).is_empty() {
            let (why, fix) = match &card.lent {
                Some(vm) => (format!("not opened: the VM {vm} has it"), String::new()),
                None => (
                    "not opened: it is not on vfio-pci".to_owned(),
                    format!("hostctl gpu bind {}, then ask again", card.name()),
                ),
            };
            checks.push(Check::unknown(Id::VfioDevice, why, fix).of(card.name()));
        }
    }
    checks
}

fn container(opening: &Opening<Container>) -> Check {
    let id = Id::VfioContainer;
    match opening {
        Opening::Yes(Container { api: 0, type1v2: true }) => {
            Check::ok(id, "interface version 0, type 1 IOMMU version 2")
        }
        Opening::Yes(Container { api: 0, type1v2: false }) => Check::critical(
            id,
            "it has no type 1 IOMMU, version 2",
            "modprobe vfio_iommu_type1; without an IOMMU there is none",
        ),
        Opening::Yes(Container { api, .. }) => Check::critical(
            id,
            format!("its interface is version {api} and not 0"),
            "use a kernel that hostd knows",
        ),
        Opening::Missing => Check::unknown(
            id,
            "there is no /dev/vfio/vfio: the modules are not loaded yet (hostd loads them with the \
             first card)",
            "modprobe -a vfio_pci vfio_iommu_type1, then ask again",
        ),
        Opening::Denied => Check::unknown(id, "permission denied (needs root)", "run it as root"),
        Opening::Busy => Check::unknown(id, "busy", "ask again"),
        Opening::Broken { why } => Check::critical(
            id,
            format!("it does not open: {why}"),
            "modprobe -a vfio_pci vfio_iommu_type1; look into `dmesg | grep -i vfio`",
        ),
    }
}

fn group(number: u32, opening: Option<&Opening<Group>>, holders: &[String]) -> Check {
    let id = Id::VfioGroup;
    match opening {
        Some(Opening::Yes(group)) if group.viable => {
            Check::ok(id, format!("group {number} is viable"))
        }
        Some(Opening::Yes(_)) => Check::critical(
            id,
            format!("group {number} is not viable: a driver of the host has a device in it"),
            format!("hostctl iommu show {number}"),
        ),
        // Those that a VM of hostd has are not asked.
        Some(Opening::Busy) => {
            let who = match holders {
                [] => "somebody who is not to be seen in /proc".to_owned(),
                holders => holders.join(", "),
            };
            let seen = format!("group {number} is in use by {who}, no VM of hostd");
            Check::warning(id, seen, NOT_OURS)
        }
        Some(Opening::Denied) => Check::unknown(
            id,
            format!("group {number}: permission denied (needs root)"),
            "run it as root",
        ),
        Some(Opening::Missing) => Check::critical(
            id,
            format!("group {number} has no file in /dev/vfio, although its card is on vfio-pci"),
            "look into `dmesg | grep -i vfio`",
        ),
        Some(Opening::Broken { why }) => Check::critical(
            id,
            format!("group {number} does not open: {why}"),
            "look into `dmesg | grep -i vfio`",
        ),
        None => Check::unknown(id, format!("group {number} was not asked"), "ask again"),
    }
}

fn device(card: &Card, function: PciAddress, probed: &Result<Probed, String>) -> Check {
    let id = Id::VfioDevice;
    let device = match probed {
        Ok(device) => device,
        Err(why) => {
            return Check::critical(
                id,
                format!("{function} does not open: {why}"),
                "look into `dmesg | tail`; a card that hangs needs the machine's power switched off",
            );
        }
    };
    let memory: u64 =
        device.regions.iter().filter(|region| region.index < 6).map(|region| region.size).sum();
    let reset = if device.reset { "can be reset alone" } else { "cannot be reset alone" };
    let mut seen = format!("{function} opens, {} of BARs, {reset}", Bytes(memory));
    let others: Vec<String> = match &device.hot_reset {
        Ok(set) => {
            let others = set.iter().filter(|one| !one.function.same_slot(card.target.slot));
            others.map(|one| format!("{} (group {})", one.function, one.group)).collect()
        }
        Err(why) => {
            seen = format!("{seen}, no hot reset: {why}");
            if device.reset {
                return Check::ok(id, seen);
            }
            let fix = "the card may stay dead after a guest: `hostctl gpu quirks` knows some; \
                       otherwise restart the host between guests";
            return Check::warning(id, seen, fix);
        }
    };
    if others.is_empty() {
        return Check::ok(id, format!("{seen}, a hot reset stays in the card"));
    }
    Check::warning(
        id,
        format!("{seen}, a hot reset takes along {}", others.join(", ")),
        "move the card to a slot with a bus of its own, or give these devices to the guest too",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Severity;
    use crate::doctor::tests::{bound, scope, status};
    use crate::host::vfio::{Dependent, Region};

    fn facts(container: Opening<Container>, group: Opening<Group>) -> Facts {
        let seen = Seen { container, groups: [(11, group)].into() };
        let (probed, holders) = (BTreeMap::new(), BTreeMap::new());
        Facts { seen: Ok(seen), probed, probe: false, changing: false, holders }
    }

    fn good() -> Facts {
        let container = Container { api: 0, type1v2: true };
        facts(Opening::Yes(container), Opening::Yes(Group { viable: true }))
    }

    #[test]
    fn container_and_group_are_judged() {
        let checks = judge(&good(), &bound());
        let all: Vec<Severity> = checks.iter().map(|check| check.status).collect();
        assert_eq!(all, [Severity::Ok; 2], "{checks:?}");
        // A card that is not on vfio-pci has no group to ask.
        assert_eq!(judge(&good(), &scope()).len(), 1);
        assert_eq!(judge(&good(), &Scope::default()), []);
        let container = |opening| {
            let facts = facts(opening, Opening::Busy);
            status(&judge(&facts, &bound()), Id::VfioContainer)
        };
        let broken = || Opening::Broken { why: "no".into() };
        assert_eq!(container(Opening::Missing), Severity::Unknown);
        assert_eq!(container(Opening::Denied), Severity::Unknown);
        assert_eq!(container(broken()), Severity::Critical);
        let says = |api, type1v2| container(Opening::Yes(Container { api, type1v2 }));
        assert_eq!((says(1, true), says(0, false)), (Severity::Critical, Severity::Critical));
    }

    #[test]
    fn groups_that_are_not_fine() {
        let group = |opening| {
            let facts = facts(Opening::Missing, opening);
            status(&judge(&facts, &bound()), Id::VfioGroup)
        };
        assert_eq!(group(Opening::Yes(Group { viable: false })), Severity::Critical);
        assert_eq!(group(Opening::Missing), Severity::Critical);
        assert_eq!(group(Opening::Denied), Severity::Unknown);
        assert_eq!(group(Opening::Busy), Severity::Warning);
        let mut lent = bound();
        lent.cards[0].lent = Some("gaming".parse().unwrap());
        assert!(groups(&lent.cards[0]).is_empty(), "a VM may be about to open it");
    }

    #[test]
    fn a_group_that_somebody_else_has_is_a_warning_with_the_name() {
        let slot = "01:00.0".parse().unwrap();
        let holders = [(slot, vec!["qemu (process 9)".to_owned()])].into();
        let facts = Facts { holders, ..facts(Opening::Missing, Opening::Busy) };
        let found = judge(&facts, &bound()).into_iter().find(|c| c.id == Id::VfioGroup).unwrap();
        assert_eq!(found.status, Severity::Warning);
        assert_eq!(found.evidence, "group 11 is in use by qemu (process 9), no VM of hostd");
    }

    #[test]
    fn no_group_is_opened_while_a_card_is_being_changed() {
        assert_eq!((free(&bound(), false).count(), free(&bound(), true).count()), (1, 0));
        let facts = Facts { changing: true, ..good() };
        let found = judge(&facts, &bound()).into_iter().find(|c| c.id == Id::VfioGroup).unwrap();
        assert_eq!(found.status, Severity::Unknown);
        assert!(found.evidence.contains("a card is being changed at this moment"), "{found:?}");
    }

    #[test]
    fn devices_are_judged_when_they_were_opened() {
        let address = "01:00.0".parse().unwrap();
        let one = |function: &str| Dependent { function: function.parse().unwrap(), group: 11 };
        let probed = |hot_reset, reset| {
            let regions = vec![Region { index: 0, size: 256 << 20, mapped: true }];
            let probed = Probed { reset, regions, interrupts: vec![(0, 1)], hot_reset };
            let facts = Facts { probed: [(address, Ok(probed))].into(), probe: true, ..good() };
            judge(&facts, &bound()).into_iter().find(|check| check.id == Id::VfioDevice).unwrap()
        };
        let own = probed(Ok(vec![one("01:00.0"), one("01:00.1")]), false);
        assert_eq!(own.status, Severity::Ok);
        assert!(own.evidence.contains("256M of BARs, cannot be reset alone"), "{own:?}");
        let others = probed(Ok(vec![one("01:00.0"), one("02:00.0")]), true);
        assert_eq!(others.status, Severity::Warning);
        assert!(others.evidence.contains("takes along 0000:02:00.0 (group 11)"), "{others:?}");
        assert_eq!(probed(Err("ENODEV".into()), false).status, Severity::Warning);
        assert_eq!(probed(Err("ENODEV".into()), true).status, Severity::Ok);
        let dead = Facts { probed: [(address, Err("no".to_owned()))].into(), ..good() };
        assert_eq!(status(&judge(&dead, &bound()), Id::VfioDevice), Severity::Critical);
        // Asked for, and not to be had.
        let facts = Facts { probe: true, ..good() };
        assert_eq!(status(&judge(&facts, &scope()), Id::VfioDevice), Severity::Unknown);
    }
}

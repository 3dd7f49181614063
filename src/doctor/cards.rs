//! The cards themselves: the right one in its slot, nobody in the way, what
//! is known about it, who uses it.

use super::check::{Check, Id};
use super::scope::{Card, Scope};
use crate::config::{Action, Quirk, QuirkFiles};
use crate::host::SysRoot;
use crate::passthrough::holders::{self, Users};
use crate::passthrough::quirks::{Function, matching};
use crate::passthrough::target;
use crate::pci;

/// Who has a card.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holding {
    /// Through the files of its own drivers.
    pub users: Users,
    /// Through VFIO.
    pub holders: Vec<String>,
    /// Whether there are processes whose files we may not see.
    pub hidden: bool,
}

/// Who has each card, in the scope's order.
pub fn read(sys: &SysRoot, scope: &Scope) -> Vec<Holding> {
    // Everybody's files are shown, or only one's own: the first process tells.
    let hidden = sys.list("/proc/1/fd").is_err_and(|error| !error.is_missing());
    let one = |card: &Card| {
        let all = card.addresses();
        Holding { users: holders::users(sys, &all), holders: holders::of(sys, &all), hidden }
    };
    scope.cards.iter().map(one).collect()
}

/// What to do about somebody who has a bound card and is no VM of hostd.
pub(super) const NOT_OURS: &str = "end it before a VM of hostd starts with this card";

/// The checks.
pub fn judge(
    facts: &pci::Facts,
    holding: &[Holding],
    scope: &Scope,
    files: &QuirkFiles,
) -> Vec<Check> {
    let mut checks = Vec::new();
    for (at, card) in scope.cards.iter().enumerate() {
        let mut add = |check: Check| checks.push(check.only_if(scope.wanted).of(card.name()));
        if let Err(error) = target::identify(facts, &card.target) {
            add(Check::critical(Id::Card, error.to_string(), error.hint()));
            continue;
        }
        add(there(card));
        add(match target::leaving(facts, &card.target) {
            Ok(_) => Check::ok(Id::CardGroup, "nothing is in the way"),
            // Once for the whole machine is enough.
            Err(_) if facts.absence.is_some() => {
                Check::unknown(Id::CardGroup, "there are no groups yet", "see `iommu`")
            }
            Err(error) => Check::critical(Id::CardGroup, error.to_string(), error.hint()),
        });
        add(quirks(card, files));
        add(boot_display(card));
        add(used(card, holding.get(at)));
    }
    checks
}

fn there(card: &Card) -> Check {
    let name = card.functions.first().map(|device| device.name.short()).unwrap_or_default();
    let drivers: Vec<String> =
        card.functions.iter().map(|device| device.driver.in_words()).collect();
    let slot = card.target.slot;
    let seen = format!("{slot}: {name}, {} functions: {}", drivers.len(), drivers.join(", "));
    if card.target.configured && card.target.identity.is_none() {
        let id = card.functions.first().and_then(pci::Device::identity);
        let id = id.map(|(vendor, device)| format!("{vendor:04x}:{device:04x}"));
        // Addresses move when a card is added: said, and fine as it is.
        let hint = id.map_or(String::new(), |id| {
            format!("; `identity: {id}` in host.yaml would notice another card in this slot")
        });
        return Check::ok(Id::Card, seen + &hint);
    }
    Check::ok(Id::Card, seen)
}

fn quirks(card: &Card, files: &QuirkFiles) -> Check {
    let (mut warn, mut known, mut unread) = (Vec::new(), Vec::new(), false);
    for device in &card.functions {
        let Some(function) = Function::of(device) else {
            unread = true;
            continue;
        };
        for quirk in matching(files, function) {
            let said = format!("{}: {}", device.address, words(quirk));
            if quirk.action == Action::Warn { warn.push(said) } else { known.push(said) }
        }
    }
    if !warn.is_empty() {
        warn.extend(known);
        let fix = format!("hostctl gpu quirks {}", card.name());
        return Check::warning(Id::Quirks, warn.join("; "), fix);
    }
    if unread {
        return Check::unknown(Id::Quirks, "the ids of a function cannot be read", "");
    }
    let seen = if known.is_empty() { "none are known".to_owned() } else { known.join("; ") };
    Check::ok(Id::Quirks, seen)
}

fn words(quirk: &Quirk) -> String {
    let doubt = if quirk.experimental { " (nobody has checked this)" } else { "" };
    let action = match quirk.action {
        Action::Warn => String::new(),
        other => format!(" [{other}]"),
    };
    format!("{}{action}{doubt}", quirk.why)
}

fn boot_display(card: &Card) -> Check {
    if card.is_boot_display() {
        return Check::warning(
            Id::BootDisplay,
            "firmware drew its first picture on it: the host's screen goes dark when a guest gets \
             it, and its ROM reads as the used copy, not as the card's own",
            format!(
                "choose another card for the first picture in the firmware setup; or check a ROM \
                 file from elsewhere: hostctl gpu rom check FILE --gpu {}",
                card.name()
            ),
        );
    }
    let mut displays = card.functions.iter().filter(|device| device.is_display());
    if displays.all(|device| device.boot_vga == Some(false)) {
        Check::ok(Id::BootDisplay, "it is another card")
    } else {
        // Display functions that are no VGA say nothing; those that are could not be read.
        let vga = |device: &pci::Device| device.subclass() == Some(0x0300);
        if card.functions.iter().any(vga) {
            Check::unknown(Id::BootDisplay, "boot_vga cannot be read", "")
        } else {
            Check::ok(Id::BootDisplay, "it is no VGA device")
        }
    }
}

fn used(card: &Card, holding: Option<&Holding>) -> Check {
    let id = Id::Users;
    if let Some(vm) = &card.lent {
        return Check::ok(id, format!("the VM {vm} has it"));
    }
    // Before the rest: a card that is half on vfio-pci may be held there too.
    if let Some(Holding { holders, .. }) = holding
        && !holders.is_empty()
    {
        let seen = format!("in use through VFIO by {}, no VM of hostd", holders.join(", "));
        return Check::warning(id, seen, NOT_OURS);
    }
    let unseen = || {
        let seen = "whose files are open is shown to root only";
        Check::unknown(id, seen, "run it as root, or ask the daemon: systemctl start hostd")
    };
    if card.is_bound() {
        return match holding {
            Some(Holding { hidden: false, .. }) => {
                Check::ok(id, "it is on vfio-pci, and nobody has it open")
            }
            Some(Holding { hidden: true, .. }) | None => unseen(),
        };
    }
    match holding.map(|holding| &holding.users) {
        Some(users) if !users.working.is_empty() => Check::warning(
            id,
            format!("in use by {}", users.working.join(", ")),
            "end these programs before the VM starts; a desktop: `stop-display-manager: true` \
             for this card in host.yaml",
        ),
        Some(Users { hidden: true, .. }) | None => unseen(),
        Some(Users { hidden: false, .. }) => Check::ok(id, "nobody"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Severity;
    use crate::doctor::tests::{bound, facts, scope, status};
    use crate::host::fake::FakeHost;
    use crate::pci::read::folder;

    fn checks(scope: &Scope, users: Users) -> Vec<Check> {
        let holding = Holding { hidden: users.hidden, users, ..Holding::default() };
        judge(&facts(), &[holding], scope, &QuirkFiles::default())
    }

    #[test]
    fn a_card_in_order_is_fine() {
        for check in checks(&scope(), Users::default()) {
            assert_eq!(check.status, Severity::Ok, "{check:?}");
            assert_eq!(check.object, "gaming");
        }
    }

    #[test]
    fn a_card_that_is_gone_or_another_is_critical() {
        let mut other = scope();
        other.cards[0].target.identity = Some((0x10de, 0x1234));
        let found = checks(&other, Users::default());
        assert_eq!((found.len(), found[0].status), (1, Severity::Critical));
        let mut gone = scope();
        gone.cards[0].target.slot = "09:00.0".parse().unwrap();
        assert_eq!(checks(&gone, Users::default())[0].status, Severity::Critical);
    }

    #[test]
    fn who_uses_it_is_named_or_not_known() {
        let busy =
            Users { working: vec!["Xorg (process 7)".into()], hidden: true, ..Users::default() };
        let found = checks(&scope(), busy.clone());
        let users = found.iter().find(|check| check.id == Id::Users).unwrap();
        assert_eq!(users.status, Severity::Warning);
        assert!(users.evidence.contains("Xorg (process 7)"));
        let hidden = Users { hidden: true, ..Users::default() };
        assert_eq!(status(&checks(&scope(), hidden), Id::Users), Severity::Unknown);
        assert_eq!(status(&checks(&bound(), busy), Id::Users), Severity::Unknown);
        assert_eq!(status(&checks(&bound(), Users::default()), Id::Users), Severity::Ok);
    }

    #[test]
    fn a_bound_card_that_somebody_else_has_is_a_warning_with_the_name() {
        let held = Holding { holders: vec!["qemu (process 9)".into()], ..Holding::default() };
        let of = |scope: &Scope| {
            let all = judge(&facts(), std::slice::from_ref(&held), scope, &QuirkFiles::default());
            all.into_iter().find(|check| check.id == Id::Users).unwrap()
        };
        let found = of(&bound());
        assert_eq!(found.status, Severity::Warning);
        assert!(found.evidence.contains("qemu (process 9)"), "{found:?}");
        let mut lent = bound();
        lent.cards[0].lent = Some("win".parse().unwrap());
        assert_eq!(of(&lent).status, Severity::Ok);
    }

    #[test]
    fn who_holds_the_group_is_found_and_who_may_not_be_seen_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file("/dev/vfio/11", "").unwrap();
        fake.file("/proc/9/comm", "qemu\n").unwrap();
        fake.link("/proc/9/fd/3", "/dev/vfio/11").unwrap();
        let group = format!("{}/iommu_group", folder("01:00.0".parse().unwrap()));
        fake.link(&group, "/sys/kernel/iommu_groups/11").unwrap();
        let held = read(&fake.host().sys, &bound()).remove(0);
        assert_eq!((held.holders, held.hidden), (vec!["qemu (process 9)".to_owned()], false));
        fake.file("/proc/1/fd", "no folder").unwrap();
        assert!(read(&fake.host().sys, &bound()).remove(0).hidden);
    }

    #[test]
    fn what_is_known_to_go_wrong_is_said() {
        let mut quirky = scope();
        quirky.cards[0].functions[0].device = Some(0x73bf);
        let found = checks(&quirky, Users::default());
        let quirks = found.iter().find(|check| check.id == Id::Quirks).unwrap();
        assert_eq!(quirks.status, Severity::Warning);
        assert!(quirks.evidence.contains("Navi 21") && quirks.evidence.contains("nobody has"));
        quirky.cards[0].functions[0].vendor = None;
        assert_eq!(status(&checks(&quirky, Users::default()), Id::Quirks), Severity::Unknown);
    }

    #[test]
    fn the_boot_display_is_a_warning() {
        let with = |boot| {
            let mut scope = scope();
            scope.cards[0].functions[0].boot_vga = boot;
            status(&checks(&scope, Users::default()), Id::BootDisplay)
        };
        assert_eq!(with(Some(true)), Severity::Warning);
        assert_eq!(with(Some(false)), Severity::Ok);
        assert_eq!(with(None), Severity::Unknown);
    }

    #[test]
    fn somebody_in_the_group_is_critical_where_it_is_wanted() {
        let mut crowded = facts();
        let mut other = crowded.devices[&"01:00.0".parse().unwrap()].clone();
        other.address = "02:00.0".parse().unwrap();
        other.driver = pci::Driver::Named("nvme".into());
        crowded.groups.get_mut(&11).unwrap().members.push(other.address);
        crowded.devices.insert(other.address, other);
        let found = |scope: &Scope| {
            let holding = [Holding::default()];
            status(&judge(&crowded, &holding, scope, &QuirkFiles::default()), Id::CardGroup)
        };
        assert_eq!(found(&scope()), Severity::Critical);
        assert_eq!(found(&Scope { wanted: false, ..scope() }), Severity::Warning);
    }
}

//! Framebuffers of the boot console that sit in a card's memory: a guest does
//! not get it as long as they do (`BAR can't reserve`).

use super::check::{Check, Id};
use super::scope::{Card, Scope};
use crate::host::SysRoot;
use crate::passthrough::plan::VFIO;
use crate::passthrough::screen::{self, Screen};

/// What each card shows for the host, in the scope's order.
pub fn read(sys: &SysRoot, scope: &Scope) -> Vec<Screen> {
    let hidden = hidden(sys);
    let one = |card: &Card| {
        let mut screen = screen::of(sys, &card.addresses());
        if hidden && screen.framebuffers.is_empty() && screen.unsure.is_none() {
            screen.unsure = Some("/proc/iomem shows its addresses to root only".to_owned());
        }
        screen
    };
    scope.cards.iter().map(one).collect()
}

/// Whether a boot framebuffer is somewhere, and where is hidden: names are shown
/// to everybody, addresses are 0 for all but root. It may have lost its driver
/// and hold the memory all the same.
fn hidden(sys: &SysRoot) -> bool {
    let text = sys.bytes("/proc/iomem", screen::IOMEM_LIMIT).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().any(|line| {
        let Some((range, name)) = line.split_once(" : ") else { return false };
        range.bytes().all(|b| matches!(b, b' ' | b'0' | b'-'))
            && screen::REGIONS.iter().any(|region| name.trim().starts_with(region))
    })
}

/// The checks.
pub fn judge(screens: &[Screen], scope: &Scope) -> Vec<Check> {
    let cards = scope.cards.iter().zip(screens).filter(|(card, _)| !card.functions.is_empty());
    cards.map(|(card, screen)| on_card(card, screen).of(card.name())).collect()
}

/// How a machine is kept from using a card for its first picture.
const ELSEWHERE: &str = "choose another card for the first picture in the firmware setup; or put \
                         `initcall_blacklist=sysfb_init` on the kernel's command line, so that \
                         no boot framebuffer is made";

fn on_card(card: &Card, screen: &Screen) -> Check {
    let id = Id::Framebuffer;
    if let Some(why) = &screen.unsure {
        let seen = format!("there is a boot framebuffer; on which card is not known: {why}");
        return Check::unknown(id, seen, "run it as root, or ask the daemon");
    }
    let (held, framebuffers) = (screen.regions.join(", "), &screen.framebuffers);
    if !framebuffers.is_empty() {
        let devices: Vec<&str> = framebuffers.iter().map(|f| f.device.as_str()).collect();
        let back = match card.functions.first().and_then(|device| device.driver.name()) {
            Some(driver) if driver != VFIO => format!("; {driver} shows a picture after it"),
            Some(_) | None => ", and the host's screen then stays dark until a restart".to_owned(),
        };
        let seen = format!(
            "the boot framebuffer {} is on it; hostd lets it go when the card is bound{back}",
            devices.join(", ")
        );
        return Check::warning(id, seen, ELSEWHERE);
    }
    if !held.is_empty() {
        let seen = format!("{held} sits in the card's memory, and no driver has it to let it go");
        return Check::warning(id, seen, ELSEWHERE);
    }
    Check::ok(id, "no boot framebuffer is on it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Severity;
    use crate::doctor::tests::scope;
    use crate::host::fake::FakeHost;
    use crate::passthrough::screen::Framebuffer;

    fn check(screen: &Screen) -> Check {
        judge(std::slice::from_ref(screen), &scope()).remove(0)
    }

    #[test]
    fn a_boot_framebuffer_on_the_card_is_a_warning_with_what_will_happen() {
        let (driver, device) = ("simple-framebuffer".into(), "simple-framebuffer.0".into());
        let mut screen = Screen {
            framebuffers: vec![Framebuffer { driver, device }],
            regions: vec!["BOOTFB".into()],
            ..Screen::default()
        };
        let found = check(&screen);
        assert_eq!(found.status, Severity::Warning);
        assert!(found.evidence.contains("simple-framebuffer.0 is on it; hostd lets it go"));
        screen.framebuffers.clear();
        let found = check(&screen);
        assert_eq!(found.status, Severity::Warning);
        assert!(found.evidence.contains("BOOTFB sits in the card's memory, and no driver"));
        assert!(found.fix.contains("initcall_blacklist"), "{found:?}");
    }

    #[test]
    fn where_a_region_is_hidden_nobody_knows_whose_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let with = |text: &str| {
            fake.file("/proc/iomem", text).unwrap();
            check(&read(&fake.host().sys, &scope())[0]).status
        };
        assert_eq!(
            with("00000000-00000000 : PCI Bus\n  00000000-00000000 : BOOTFB\n"),
            Severity::Unknown
        );
        assert_eq!(with("c0000000-c02fffff : BOOTFB\n"), Severity::Ok, "elsewhere");
        assert_eq!(with("00000000-00000000 : PCI Bus\n"), Severity::Ok, "there is none");
    }

    #[test]
    fn elsewhere_is_fine_and_hidden_is_unknown() {
        assert_eq!(check(&Screen::default()).status, Severity::Ok);
        let hidden = Screen { unsure: Some("root only".into()), ..Screen::default() };
        assert_eq!(check(&hidden).status, Severity::Unknown);
    }
}

//! Framebuffers of the boot console that sit in a card's memory: a guest then
//! does not get it (`BAR can't reserve`).

use super::check::{Check, Id};
use super::scope::{Card, Scope};
use crate::host::SysRoot;
use crate::pci::read::folder;

/// What there is to judge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The ranges of `/proc/iomem` that framebuffers hold; `None` when it cannot be read.
    pub held: Option<Vec<Range>>,
    /// For each card, in the scope's order, the ranges of its memory.
    pub memory: Vec<Vec<(u64, u64)>>,
    /// Framebuffer devices with their drivers: `fb0 (EFI VGA)`.
    pub devices: Vec<String>,
    /// Consoles that draw on a framebuffer: `vtcon1`.
    pub consoles: Vec<String>,
}

/// A range of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Its first and last byte; nothing where the kernel hides addresses.
    pub at: Option<(u64, u64)>,
    /// Whose.
    pub name: String,
}

/// More ranges than any machine has.
const LIMIT: usize = 64;

/// Reads it all.
pub fn read(sys: &SysRoot, scope: &Scope) -> Facts {
    let memory = |card: &Card| {
        let one = |device: &crate::pci::Device| {
            let text = sys.text(format!("{}/resource", folder(device.address)));
            bars(&text.unwrap_or_default())
        };
        card.functions.iter().flat_map(one).collect()
    };
    let list = |folder: &str| sys.list(folder).unwrap_or_default();
    let named = |folder: &str, name: &str| {
        let text = sys.text(format!("{folder}/{name}/name")).unwrap_or_default();
        text.trim().chars().filter(|c| !c.is_control()).take(40).collect::<String>()
    };
    let graphics = "/sys/class/graphics";
    let consoles = "/sys/class/vtconsole";
    let draws = |name: &String| {
        let bound = sys.text(format!("{consoles}/{name}/bind")).unwrap_or_default();
        bound.trim() == "1" && named(consoles, name).contains("frame buffer")
    };
    Facts {
        held: sys.text("/proc/iomem").ok().map(|text| held(&text)),
        memory: scope.cards.iter().map(memory).collect(),
        devices: list(graphics)
            .iter()
            .filter(|name| name.strip_prefix("fb").is_some_and(|n| n.parse::<u32>().is_ok()))
            .take(LIMIT)
            .map(|name| format!("{name} ({})", named(graphics, name)))
            .collect(),
        consoles: list(consoles).into_iter().filter(draws).take(LIMIT).collect(),
    }
}

/// Names that boot framebuffers have in `/proc/iomem`.
const HOLDERS: [&str; 6] =
    ["BOOTFB", "efifb", "vesafb", "simplefb", "simpledrm", "simple-framebuffer"];

/// `  e0000000-e07e8fff : BOOTFB`; without root all addresses are 0.
fn held(iomem: &str) -> Vec<Range> {
    let one = |line: &str| {
        let (range, name) = line.split_once(" : ")?;
        let name = name.trim();
        if !HOLDERS.iter().any(|holder| name.starts_with(holder)) {
            return None;
        }
        let (first, last) = range.trim().split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let at = number(first).zip(number(last)).filter(|range| *range != (0, 0));
        Some(Range { at, name: name.chars().take(40).collect() })
    };
    iomem.lines().filter_map(one).take(LIMIT).collect()
}

/// The BARs in `resource`: first, last, flags, one line each; flag 0x200 is memory.
fn bars(resource: &str) -> Vec<(u64, u64)> {
    let one = |line: &str| {
        let number = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
        let mut numbers = line.split_ascii_whitespace().map(number);
        let (first, last, flags) = (numbers.next()??, numbers.next()??, numbers.next()??);
        (flags & 0x200 != 0 && last > first).then_some((first, last))
    };
    resource.lines().take(6).filter_map(one).collect()
}

/// The checks.
pub fn judge(facts: &Facts, scope: &Scope) -> Vec<Check> {
    let one = |(at, card): (usize, &Card)| {
        let memory = facts.memory.get(at).map(Vec::as_slice).unwrap_or_default();
        (!card.functions.is_empty()).then(|| on_card(facts, memory).of(card.name()))
    };
    scope.cards.iter().enumerate().filter_map(one).collect()
}

fn on_card(facts: &Facts, memory: &[(u64, u64)]) -> Check {
    let id = Id::Framebuffer;
    let Some(held) = &facts.held else {
        return Check::unknown(id, "/proc/iomem cannot be read", "run it as root");
    };
    if held.is_empty() {
        return Check::ok(id, "no boot framebuffer is there");
    }
    if held.iter().any(|range| range.at.is_none()) {
        let names: Vec<&str> = held.iter().map(|range| range.name.as_str()).collect();
        let seen = format!("there is {}; on which card, only root is told", names.join(", "));
        return Check::unknown(id, seen, "run it as root, or ask the daemon");
    }
    if memory.is_empty() {
        return Check::unknown(id, "the card's memory ranges cannot be read", "");
    }
    let inside = held.iter().filter(|range| {
        let within = |(first, last): &(u64, u64)| {
            range.at.is_some_and(|(begin, end)| begin <= *last && end >= *first)
        };
        memory.iter().any(within)
    });
    let inside: Vec<&str> = inside.map(|range| range.name.as_str()).collect();
    if inside.is_empty() {
        return Check::ok(id, "the boot framebuffer is on another card");
    }
    let devices = match facts.devices.as_slice() {
        [] => String::new(),
        devices => format!("; {}", devices.join(", ")),
    };
    let unbind = facts
        .consoles
        .iter()
        .map(|console| format!("echo 0 > /sys/class/vtconsole/{console}/bind; "));
    let fix = format!(
        "{}then let its driver go, whichever there is: echo simple-framebuffer.0 > \
         /sys/bus/platform/drivers/simple-framebuffer/unbind, echo efi-framebuffer.0 > \
         /sys/bus/platform/drivers/efi-framebuffer/unbind; or for good: \
         `initcall_blacklist=sysfb_init` on the kernel command line",
        unbind.collect::<String>()
    );
    Check::warning(id, format!("{} sits in the card's memory{devices}", inside.join(", ")), fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Severity;
    use crate::doctor::tests::scope;
    use crate::host::fake::FakeHost;
    use proptest::prelude::*;

    const IOMEM: &str = "00000000-00000fff : Reserved\nc0000000-dfffffff : PCI Bus 0000:01\n  \
                         d0000000-dfffffff : 0000:01:00.0\n    d0000000-d07e8fff : BOOTFB\n";

    fn check(iomem: &str, first: &str) -> Check {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file("/proc/iomem", iomem).unwrap();
        let resource = format!("{first} 0x00000000dfffffff 0x0000000000140204\n0x0 0x0 0x0\n");
        fake.file("/sys/bus/pci/devices/0000:01:00.0/resource", resource).unwrap();
        fake.file("/sys/class/graphics/fb0/name", "EFI VGA\n").unwrap();
        fake.file("/sys/class/vtconsole/vtcon0/name", "(S) dummy device\n").unwrap();
        fake.file("/sys/class/vtconsole/vtcon0/bind", "1\n").unwrap();
        fake.file("/sys/class/vtconsole/vtcon1/name", "(M) frame buffer device\n").unwrap();
        fake.file("/sys/class/vtconsole/vtcon1/bind", "1\n").unwrap();
        let (sys, scope) = (fake.host().sys, scope());
        judge(&read(&sys, &scope), &scope).remove(0)
    }

    #[test]
    fn one_in_the_cards_memory_is_named_with_its_console() {
        let check = check(IOMEM, "0x00000000d0000000");
        assert_eq!(check.status, Severity::Warning);
        assert_eq!(check.evidence, "BOOTFB sits in the card's memory; fb0 (EFI VGA)");
        assert!(check.fix.starts_with("echo 0 > /sys/class/vtconsole/vtcon1/bind; "), "{check:?}");
    }

    #[test]
    fn one_elsewhere_or_none_is_fine_and_hidden_is_unknown() {
        assert_eq!(check(IOMEM, "0x00000000d8000000").status, Severity::Ok);
        assert_eq!(check("00000000-00000000 : Reserved\n", "0x0").status, Severity::Ok);
        let hidden = "00000000-00000000 : 0000:01:00.0\n  00000000-00000000 : BOOTFB\n";
        assert_eq!(check(hidden, "0x00000000d0000000").status, Severity::Unknown);
        let scope = scope();
        let unread = judge(&Facts::default(), &scope);
        assert_eq!(unread[0].status, Severity::Unknown);
        // The card's own ranges are not to be had.
        assert_eq!(check(IOMEM, "rubbish").status, Severity::Unknown);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(BOOTFB| : |0x|[0-9a-f-]|\\PC|\n){0,40}") {
            let _ = (held(&text), bars(&text));
        }
    }
}

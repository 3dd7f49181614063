//! Which of the known quirks apply to a function, and why.
//!
//! The knowledge is data: `quirks.yaml` beside this file, then the owner's
//! files. A card that is in them needs no code.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use super::target::{self, Target};
use crate::ask::view::{GpuQuirksView, QuirkView, QuirksView};
use crate::base::PciAddress;
use crate::config::{Gpu, PciIds, Quirk, QuirkFiles, Source, quirks};
use crate::pci::{Device, Facts};

/// The data file; also shipped as documentation.
const BUILT_IN: &str = include_str!("quirks.yaml");

/// What hostd knows by itself.
pub fn built_in() -> &'static [Quirk] {
    // A test proves that the file is right.
    static QUIRKS: LazyLock<Vec<Quirk>> = LazyLock::new(|| {
        quirks::read(&Source::quirks(Path::new("quirks.yaml"), BUILT_IN)).unwrap_or_default()
    });
    &QUIRKS
}

/// What a quirk may ask of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// Vendor and device.
    pub id: (u16, u16),
    /// Subsystem vendor and device.
    pub subsystem: Option<(u16, u16)>,
    /// 24 bits.
    pub class: Option<u32>,
    /// Its number in the slot.
    pub number: u8,
}

impl Function {
    /// Of a device; `None` when its ids could not be read.
    pub fn of(device: &Device) -> Option<Self> {
        let (subsystem, class) = (device.subsystem, device.class);
        Some(Self { id: device.identity()?, subsystem, class, number: device.address.function })
    }
}

/// Whether a quirk is about a function. What is not known of it does not fit.
pub fn applies(quirk: &Quirk, to: Function) -> bool {
    let among = |ids: &[PciIds], id: Option<(u16, u16)>| {
        ids.is_empty() || id.is_some_and(|id| ids.iter().any(|range| range.has(id)))
    };
    let class = |class| quirk.classes.iter().any(|wanted| wanted.has(class));
    among(&quirk.ids, Some(to.id))
        && among(&quirk.subsystems, to.subsystem)
        && (quirk.classes.is_empty() || to.class.is_some_and(class))
        && (quirk.functions.is_empty() || quirk.functions.contains(&to.number))
}

/// The quirks that apply to a function: the built-in ones, then the owner's.
pub fn matching(files: &QuirkFiles, to: Function) -> impl Iterator<Item = &Quirk> {
    built_in().iter().chain(&files.quirks).filter(move |quirk| applies(quirk, to))
}

/// The reply to `gpu quirks`: the cards with the functions of their slots.
pub fn view(facts: &Facts, targets: &[Target], files: &QuirkFiles) -> QuirksView {
    let mut notes: Vec<String> = files.ignored.clone();
    let gpus = targets.iter().map(|target| {
        let mut found = Vec::new();
        let functions: Vec<&Device> =
            facts.slot(target.slot).filter(|device| !device.is_bridge()).collect();
        if functions.is_empty() {
            notes.push(format!("{}: there is no device at {}", target.name, target.slot));
        }
        for device in functions {
            match Function::of(device) {
                Some(function) => found.extend(
                    matching(files, function).map(|quirk| one(quirk, device.address, function.id)),
                ),
                None => notes.push(format!(
                    "{}: its ids cannot be read, so its quirks are not known",
                    device.address
                )),
            }
        }
        GpuQuirksView { name: target.name.clone(), address: target.slot, quirks: found }
    });
    QuirksView { gpus: gpus.collect(), notes }
}

fn one(quirk: &Quirk, function: PciAddress, (vendor, device): (u16, u16)) -> QuirkView {
    QuirkView {
        function,
        id: format!("{vendor:04x}:{device:04x}"),
        action: quirk.action.to_string(),
        why: quirk.why.clone(),
        source: quirk.source.clone(),
        experimental: quirk.experimental,
    }
}

/// Configured cards, then the other display devices.
pub fn cards(facts: &Facts, gpus: &[Gpu]) -> Vec<Target> {
    let mut targets: Vec<Target> = target::configured(gpus)
        .into_iter()
        .map(|target| target::follow(facts, target).0)
        .collect();
    for device in facts.devices.values().filter(|device| device.is_display()) {
        let target = Target::unnamed(device.address);
        if !targets.iter().any(|known| known.slot == target.slot) {
            targets.push(target);
        }
    }
    targets
}

/// The built-in quirks as a table in Markdown, for the documentation.
pub fn markdown() -> String {
    let mut out = "| functions | action | why | source |\n|---|---|---|---|\n".to_owned();
    for quirk in built_in() {
        let mut about: Vec<String> = Vec::new();
        let ids: Vec<String> = quirk.ids.iter().map(ToString::to_string).collect();
        about.extend((!ids.is_empty()).then(|| ids.join(", ")));
        let classes: Vec<String> = quirk.classes.iter().map(ToString::to_string).collect();
        about.extend((!classes.is_empty()).then(|| format!("class {}", classes.join(", "))));
        let numbers: Vec<String> = quirk.functions.iter().map(ToString::to_string).collect();
        about.extend((!numbers.is_empty()).then(|| format!("function {}", numbers.join(", "))));
        let mark = if quirk.experimental { " (**experimental**)" } else { "" };
        let (about, why, source) = (about.join("; "), &quirk.why, &quirk.source);
        // A string takes what it is given.
        let _ = writeln!(out, "| {about} | `{}` | {why} | {source}{mark} |", quirk.action);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Action, Reset};
    use proptest::prelude::*;

    fn function(vendor: u16, device: u16, class: u32, number: u8) -> Function {
        Function { id: (vendor, device), subsystem: None, class: Some(class), number }
    }

    fn actions(files: &QuirkFiles, to: Function) -> Vec<Action> {
        matching(files, to).map(|quirk| quirk.action).collect()
    }

    fn files(text: &str) -> QuirkFiles {
        let read = quirks::read(&Source::quirks("quirks.d/mine.yaml", text));
        QuirkFiles { quirks: read.unwrap(), ignored: Vec::new() }
    }

    #[test]
    fn the_data_file_is_right() {
        let read = quirks::read(&Source::quirks("quirks.yaml", BUILT_IN));
        let read = read.map_err(|problems| problems.to_string()).unwrap();
        assert_eq!(read.len(), 22);
        // Nothing in it is about every device of a class.
        assert!(read.iter().all(|quirk| !quirk.ids.is_empty()));
        // What only users say is not taken for sure.
        for quirk in read.iter().filter(|quirk| quirk.source.contains("user")) {
            assert!(quirk.experimental, "{}", quirk.why);
        }
    }

    #[test]
    fn every_row_of_the_table_is_there() {
        let none = QuirkFiles::default();
        let reset = |how| Action::Reset(how);
        let cases = [
            (0x1002, 0x67df, 0x03_0000, 0, reset(Reset::DeviceSpecific)),
            (0x1002, 0x67ff, 0x03_0000, 0, reset(Reset::DeviceSpecific)),
            (0x1002, 0x699f, 0x03_0000, 0, reset(Reset::DeviceSpecific)),
            (0x1002, 0x687f, 0x03_0000, 0, Action::KeepInD0),
            (0x1002, 0x66af, 0x03_0000, 0, reset(Reset::DeviceSpecific)),
            (0x1002, 0x738c, 0x03_8000, 0, reset(Reset::DeviceSpecific)),
            (0x1002, 0x731f, 0x03_0000, 0, reset(Reset::DeviceSpecific)),
            (0x1002, 0x7362, 0x03_0000, 0, reset(Reset::DeviceSpecific)),
            (0x1002, 0x734f, 0x03_0000, 0, reset(Reset::DeviceSpecific)),
            (0x1002, 0x73bf, 0x03_0000, 0, Action::Warn),
            (0x1002, 0x6649, 0x03_0000, 0, reset(Reset::ByQemu)),
            (0x1002, 0x67b1, 0x03_0000, 0, reset(Reset::ByQemu)),
            (0x1002, 0x1234, 0x03_8000, 0, reset(Reset::NoPm)),
            (0x1002, 0xaaf0, 0x04_0300, 1, Action::Warn),
            (0x10de, 0x1b80, 0x03_0000, 0, Action::HideHypervisorBelow(465)),
            (0x10de, 0x2342, 0x03_0200, 0, reset(Reset::NoBus)),
            (0x10de, 0x1eb8, 0x03_0200, 0, reset(Reset::NoBus)),
            (0x10de, 0x2b85, 0x03_0000, 0, reset(Reset::NoFlr)),
            (0x10de, 0x1ad8, 0x0c_0330, 2, Action::WithCard),
            (0x1002, 0x7316, 0x0c_8000, 3, Action::WithCard),
            (0x8086, 0x3e92, 0x03_0000, 0, Action::Warn),
            (0x1022, 0x149c, 0x0c_0330, 3, reset(Reset::NoFlr)),
            (0x14c3, 0x0616, 0x02_8000, 0, reset(Reset::NoFlr)),
            (0x144d, 0xa804, 0x01_0802, 0, reset(Reset::DisableFirst)),
            (
                0x8086,
                0x0953,
                0x01_0802,
                0,
                Action::ResetDelay(std::time::Duration::from_millis(250)),
            ),
            (0x1b21, 0x1164, 0x01_0601, 0, reset(Reset::NoBus)),
            (0x1912, 0x0014, 0x0c_0330, 0, reset(Reset::BusOnly)),
            (0x14e4, 0x168e, 0x02_0000, 0, Action::RomOff),
        ];
        for (vendor, device, class, number, wanted) in cases {
            let found = actions(&none, function(vendor, device, class, number));
            assert!(found.contains(&wanted), "{vendor:04x}:{device:04x}: {found:?}");
        }
        let lab = actions(&none, function(0x8086, 0x2668, 0x04_0300, 1));
        assert!(lab.is_empty(), "{lab:?}");
    }

    #[test]
    fn a_new_card_needs_no_code() {
        let mine = files(
            "quirks:
  - ids: [1234:1111]
    action: rom-required
    why: it has none of its own
    source: tried here
  - ids: [1234:1111]
    subsystems: [1af4:1100]
    action: {reset-delay: 2s}
    why: it is slow
    experimental: true
",
        );
        let mut card = function(0x1234, 0x1111, 0x03_0000, 0);
        assert_eq!(actions(&QuirkFiles::default(), card), []);
        assert_eq!(actions(&mine, card), [Action::RomRequired]);
        card.subsystem = Some((0x1af4, 0x1100));
        let delay = Action::ResetDelay(std::time::Duration::from_secs(2));
        assert_eq!(actions(&mine, card), [Action::RomRequired, delay]);
        // The owner's come after ours.
        let both = files("quirks: [{ids: [10de:*], action: x-vga, why: x, source: y}]");
        let found = actions(&both, function(0x10de, 0x2b85, 0x03_0000, 0));
        assert_eq!(found.last(), Some(&Action::XVga));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn what_is_not_known_does_not_fit() {
        let none = QuirkFiles::default();
        let card = Function { class: None, ..function(0x10de, 0x1b80, 0, 0) };
        assert_eq!(actions(&none, card), []);
    }

    proptest! {
        /// Each condition narrows: a function fits exactly when it fits all of them.
        #[test]
        fn a_range_is_its_ends_and_what_is_between(one: u16, other: u16, device: u16) {
            let (first, last) = (one.min(other), one.max(other));
            let text = format!(
                "quirks: [{{ids: [10de:{first:04x}-{last:04x}], action: warn, why: x, source: y}}]"
            );
            let mine = files(&text);
            let card = Function { class: None, ..function(0x10de, device, 0, 7) };
            let fits = applies(&mine.quirks[0], card);
            prop_assert_eq!(fits, (first..=last).contains(&device));
            let other = function(0x10dd, device, 0x03_0000, 0);
            prop_assert!(!applies(&mine.quirks[0], other));
        }
    }
}

//! Quirk files: what is known about PCI functions, as data. The one shipped in
//! the binary and those in `quirks.d/` have the same format.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use super::desk::{Desk, exact};
use super::formats::{Span, Text};
use super::ids::{ClassCode, IdRange, PciClass, PciIds, Sentence};
use super::page::Page;
use super::problem::Problems;
use super::raw::List;
use super::schema;
use super::tree::Trail;
use super::world::{Source, not_asked};

/// Known trouble with PCI functions.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "quirks.d file")]
struct RawQuirks {
    /// Each one is about the functions that fit all of what it names.
    quirks: List<RawQuirk>,
}

/// One thing that is known.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawQuirk {
    /// Vendor and device ids, any of them.
    ids: List<Text<IdRange>>,
    /// Subsystem ids, any of them.
    subsystems: List<Text<IdRange>>,
    /// Classes, any of them; write them in quotes.
    class: List<Text<ClassCode>>,
    /// Function numbers, any of them.
    #[schemars(inner(range(min = 0, max = 7)))]
    functions: List<u8>,
    /// What it means: a word, or a mapping with one key.
    #[schemars(required)]
    action: Option<RawAction>,
    /// What happens otherwise, in one sentence.
    #[schemars(required)]
    why: Option<Text<Sentence>>,
    /// Where it is known from.
    #[schemars(extend("examples" = ["users' reports"]))]
    source: Option<Text<Sentence>>,
    /// Nobody has checked it; it is said so wherever it is shown.
    #[schemars(extend("default" = false))]
    experimental: Option<bool>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum RawAction {
    Word(RawWord),
    Full(RawFull),
}

/// What to do, where a word is enough.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum RawWord {
    /// Only to be known.
    Warn,
    /// The guest needs a ROM file.
    RomRequired,
    /// The guest must not see the ROM.
    RomOff,
    /// It must not sleep deeper than D0.
    KeepInD0,
    /// It needs QEMU's `x-vga=on`.
    XVga,
    /// It has to use message-signalled interrupts.
    UseMsi,
    /// It must not use message-signalled interrupts.
    NoMsi,
    /// It goes where function 0 of its slot goes.
    WithCard,
}

/// What to do, with a value.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawFull {
    /// How it can, or must not, be reset.
    reset: Option<Reset>,
    /// How long it needs after a reset, 1ms to 1m.
    #[schemars(extend("examples" = ["250ms"]))]
    reset_delay: Option<Text<Span>>,
    /// The hypervisor is hidden from guest drivers older than this version.
    #[schemars(range(min = 1, max = 9999), extend("examples" = [465]))]
    hide_hypervisor_below: Option<u32>,
}

/// How a function can, or must not, be reset.
#[derive(Debug, Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// Only a reset written for this device brings it back.
    DeviceSpecific,
    /// QEMU has a reset of its own for it; a bus reset does nothing.
    ByQemu,
    /// Only a reset of its bus works.
    BusOnly,
    /// Never by a reset of its bus.
    NoBus,
    /// Never by a function-level reset.
    NoFlr,
    /// A reset by power management is none.
    NoPm,
    /// It must be disabled before a function-level reset.
    DisableFirst,
}

impl Reset {
    /// As it is written in a file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeviceSpecific => "device-specific",
            Self::ByQemu => "by-qemu",
            Self::BusOnly => "bus-only",
            Self::NoBus => "no-bus",
            Self::NoFlr => "no-flr",
            Self::NoPm => "no-pm",
            Self::DisableFirst => "disable-first",
        }
    }
}

/// What a quirk means for whoever gives the function to a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Only to be known.
    Warn,
    /// How it can, or must not, be reset.
    Reset(Reset),
    /// How long it needs after a reset.
    ResetDelay(Duration),
    /// The guest needs a ROM file.
    RomRequired,
    /// The guest must not see the ROM.
    RomOff,
    /// It must not sleep.
    KeepInD0,
    /// Hidden from guest drivers older than this version ("Code 43").
    HideHypervisorBelow(u32),
    /// It needs QEMU's `x-vga=on`.
    XVga,
    /// It has to use message-signalled interrupts.
    UseMsi,
    /// It must not use message-signalled interrupts.
    NoMsi,
    /// It goes where function 0 of its slot goes.
    WithCard,
}

impl fmt::Display for Action {
    /// As it is written in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset(reset) => return write!(f, "reset: {}", reset.as_str()),
            Self::ResetDelay(delay) => return write!(f, "reset-delay: {}", exact(*delay)),
            Self::HideHypervisorBelow(version) => {
                return write!(f, "hide-hypervisor-below: {version}");
            }
            Self::Warn => "warn",
            Self::RomRequired => "rom-required",
            Self::RomOff => "rom-off",
            Self::KeepInD0 => "keep-in-d0",
            Self::XVga => "x-vga",
            Self::UseMsi => "use-msi",
            Self::NoMsi => "no-msi",
            Self::WithCard => "with-card",
        })
    }
}

/// One thing that is known about the functions that fit all of what it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quirk {
    /// Vendor and device; empty is any.
    pub ids: Vec<PciIds>,
    /// Subsystem vendor and device; empty is any.
    pub subsystems: Vec<PciIds>,
    /// Class; empty is any.
    pub classes: Vec<PciClass>,
    /// Function number; empty is any.
    pub functions: Vec<u8>,
    /// What it means.
    pub action: Action,
    /// What happens otherwise.
    pub why: String,
    /// Where it is known from; empty when nobody can say.
    pub source: String,
    /// Nobody has checked it.
    pub experimental: bool,
}

/// The owner's quirk files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuirkFiles {
    /// By file name, in each file's order.
    pub quirks: Vec<Quirk>,
    /// Each file that is left out, with everything that is wrong in it.
    pub ignored: Vec<String>,
}

/// The folder of quirk files that belongs to a `host.yaml`: `quirks.d` beside it.
pub fn folder(host_file: &Path) -> PathBuf {
    host_file.parent().unwrap_or(Path::new("")).join("quirks.d")
}

/// The JSON Schema of a quirk file.
pub fn quirk_schema() -> &'static Json {
    static SCHEMA: LazyLock<Json> = LazyLock::new(schema::generate::<RawQuirks>);
    &SCHEMA
}

/// A whole file, or everything that is wrong in it.
pub fn read(source: &Source) -> Result<Vec<Quirk>, Problems> {
    let mut problems = Problems::default();
    let mut page = Page::open(source, &mut problems);
    let quirks = page.read(quirk_schema()).map(|(root, raw): (_, RawQuirks)| {
        let mut desk = Desk { root: &root, exists: &not_asked, page: &mut page };
        let list = raw.quirks.unwrap_or_default().into_iter().enumerate();
        list.filter_map(|(i, raw)| quirk(raw?, &Trail::to("quirks").item(i), &mut desk)).collect()
    });
    problems.sort();
    if problems.is_empty() { Ok(quirks.unwrap_or_default()) } else { Err(problems) }
}

fn quirk(raw: RawQuirk, trail: &Trail, desk: &mut Desk<'_, '_>) -> Option<Quirk> {
    let experimental = raw.experimental.unwrap_or_default();
    let none = raw.ids.as_ref().is_none_or(Vec::is_empty);
    if none && raw.class.as_ref().is_none_or(Vec::is_empty) {
        let fix = "add `ids: [1002:67df]`, or `class: [\"03\"]` for every function of a class";
        desk.error(trail, "this would be about every function of every machine", fix);
    }
    if raw.source.is_none() && !experimental {
        let fix = "add `source: …`, or `experimental: true` when nobody has checked it";
        desk.error(trail, "it is not said where this is known from", fix);
    }
    Some(Quirk {
        ids: all(raw.ids),
        subsystems: all(raw.subsystems),
        classes: all(raw.class),
        functions: raw.functions.into_iter().flatten().flatten().collect(),
        action: action(raw.action?, &trail.key("action"), desk)?,
        why: raw.why?.0,
        source: raw.source.map(|Text(source)| source).unwrap_or_default(),
        experimental,
    })
}

fn all<F: super::formats::Format>(list: List<Text<F>>) -> Vec<F::Value> {
    list.into_iter().flatten().flatten().map(|Text(value)| value).collect()
}

fn action(raw: RawAction, trail: &Trail, desk: &mut Desk<'_, '_>) -> Option<Action> {
    let full = match raw {
        RawAction::Full(full) => full,
        RawAction::Word(word) => {
            return Some(match word {
                RawWord::Warn => Action::Warn,
                RawWord::RomRequired => Action::RomRequired,
                RawWord::RomOff => Action::RomOff,
                RawWord::KeepInD0 => Action::KeepInD0,
                RawWord::XVga => Action::XVga,
                RawWord::UseMsi => Action::UseMsi,
                RawWord::NoMsi => Action::NoMsi,
                RawWord::WithCard => Action::WithCard,
            });
        }
    };
    let (min, max) = (Duration::from_millis(1), Duration::from_secs(60));
    let given = ["reset", "reset-delay", "hide-hypervisor-below"];
    let given = given.into_iter().filter(|key| desk.root.has(&trail.key(key))).count();
    if given != 1 {
        let message = format!("an action is one thing, and here are {given}");
        desk.error(trail, message, "write an entry for each");
        return None;
    }
    let delay = desk.span(&trail.key("reset-delay"), full.reset_delay, min, max);
    let version = full.hide_hypervisor_below.map(Action::HideHypervisorBelow);
    full.reset.map(Action::Reset).or(delay.map(Action::ResetDelay)).or(version)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<Vec<Quirk>, String> {
        read(&Source::quirks("quirks.d/mine.yaml", text)).map_err(|problems| problems.to_string())
    }

    const GOOD: &str = "quirks:
  - ids: [1002:67c0-67df, 10de:2b85]
    class: [\"03\"]
    functions: [0]
    subsystems: [1043:*]
    action: {reset: device-specific}
    why: it stays dead
    source: users
  - class: [\"0c03\"]
    action: {reset-delay: 250ms}
    why: it is slow
    experimental: true
  - {ids: [10de:*], action: {hide-hypervisor-below: 465}, why: Code 43, source: notes}
  - {ids: [10de:*], action: with-card, why: one supply, source: kernel}
";

    #[test]
    fn a_file_is_read_in_order() {
        let quirks = parsed(GOOD).unwrap();
        let actions: Vec<String> = quirks.iter().map(|q| q.action.to_string()).collect();
        assert_eq!(
            actions,
            [
                "reset: device-specific",
                "reset-delay: 250ms",
                "hide-hypervisor-below: 465",
                "with-card"
            ]
        );
        assert!(quirks[1].experimental && quirks[1].source.is_empty() && quirks[1].ids.is_empty());
        assert_eq!(quirks[0].functions, [0]);
        assert_eq!(parsed("").unwrap(), []);
        assert_eq!(parsed("quirks:\n").unwrap(), []);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let said = parsed(
            "quirks:
  - idz: [1002:67df]
    action: warn
    why: x
    source: y
  - ids: [1002:67df-67c0, 1002]
    action: {reset: device-specfic}
    why: x
    source: y
  - ids: [1002:67df]
    action: {reset: no-bus, reset-delay: 5h}
    why: x
  - {class: [\"3\"], functions: [8], action: explode, source: y}
",
        )
        .unwrap_err();
        insta::assert_snapshot!(said);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&Source::quirks("f", bytes));
        }

        #[test]
        fn broken_files_never_panic(cut in 0..GOOD.len(), with in "[\\x00-\\x7f]{0,6}") {
            let mut text = GOOD.to_owned();
            text.replace_range(cut..(cut + with.len()).min(GOOD.len()), &with);
            // Whatever comes through is sound.
            for quirk in parsed(&text).unwrap_or_default() {
                prop_assert!(!quirk.why.is_empty());
                prop_assert!(quirk.experimental || !quirk.source.is_empty());
                prop_assert!(!quirk.ids.is_empty() || !quirk.classes.is_empty());
            }
        }
    }
}

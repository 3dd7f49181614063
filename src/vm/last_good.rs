//! On what a VM with a card last ran: kernel, QEMU, hostd, microcode, firmware
//! and card. When it no longer starts after an update, the difference is where
//! to look first.
//!
//! One file per VM in the state folder, written when the guest is let run and
//! when a start fails. Writing never keeps or fails a start.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::paths;
use crate::base::{Name, PciAddress, Timestamp};
use crate::host::sys::SysError;
use crate::host::{Host, SysRoot};
use crate::pci::read::{attribute, folder};

/// The file, beside the VM's identity.
pub const FILE: &str = "last-good.json";

/// Longer than any version is.
const WORD: usize = 120;

/// What a VM with a card stands on. What could not be read is absent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Setup {
    /// Release of the kernel.
    pub kernel: Option<String>,
    /// Version of QEMU, three numbers.
    pub qemu: Option<String>,
    /// Version of hostd.
    pub hostd: Option<String>,
    /// Revision of the processor's microcode.
    pub microcode: Option<String>,
    /// Version of the mainboard's firmware.
    pub firmware: Option<String>,
    /// The functions of the card, with vendor and device id.
    #[serde(default)]
    pub card: BTreeMap<PciAddress, String>,
}

/// How the starts of a VM have gone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Starts {
    /// The last one whose guest ran.
    pub good: Option<Good>,
    /// The last one that failed.
    pub failed: Option<Failed>,
}

/// A start whose guest ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    /// When.
    pub at: Timestamp,
    /// On what.
    pub setup: Setup,
}

/// A start that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// When.
    pub at: Timestamp,
    /// Why, in a sentence.
    pub why: String,
}

/// Text of others, bounded and on one line.
fn word(text: &str) -> Option<String> {
    let word: String = text.trim().chars().filter(|c| !c.is_control()).take(WORD).collect();
    (!word.is_empty()).then_some(word)
}

impl Setup {
    /// As it is now, QEMU aside.
    pub fn read(sys: &SysRoot, functions: &[PciAddress]) -> Self {
        let line = |path| sys.text(path).ok().as_deref().and_then(word);
        let cpuinfo = sys.text("/proc/cpuinfo").unwrap_or_default();
        let microcode = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        let microcode = microcode.filter(|(key, _)| key.trim() == "microcode");
        let id = |function: &PciAddress| {
            let folder = folder(*function);
            let part = |name| attribute(sys, &format!("{folder}/{name}")).ok();
            let bare = |text: String| text.trim().trim_start_matches("0x").to_owned();
            let (vendor, device) = (part("vendor")?, part("device")?);
            word(&format!("{}:{}", bare(vendor), bare(device))).map(|id| (*function, id))
        };
        Self {
            kernel: line("/proc/sys/kernel/osrelease"),
            qemu: None,
            hostd: Some(env!("CARGO_PKG_VERSION").to_owned()),
            microcode: microcode.map(|(_, value)| value).next().and_then(word),
            firmware: line("/sys/class/dmi/id/bios_version"),
            card: functions.iter().filter_map(id).collect(),
        }
    }

    /// What is otherwise now: `kernel 6.12.1 → 6.12.3`. What is not known on
    /// one side is no difference.
    pub fn changed(&self, now: &Self) -> Vec<String> {
        let parts = [
            ("kernel", &self.kernel, &now.kernel),
            ("QEMU", &self.qemu, &now.qemu),
            ("hostd", &self.hostd, &now.hostd),
            ("microcode", &self.microcode, &now.microcode),
            ("firmware", &self.firmware, &now.firmware),
        ];
        let mut changed: Vec<String> = Vec::new();
        for (what, then, now) in parts {
            if let (Some(then), Some(now)) = (then, now)
                && then != now
            {
                changed.push(format!("{what} {then} → {now}"));
            }
        }
        for (function, then) in &self.card {
            match now.card.get(function) {
                Some(now) if now == then => {}
                Some(now) => changed.push(format!("{function} {then} → {now}")),
                None => changed.push(format!("{function} {then} → gone")),
            }
        }
        changed
    }
}

/// How the starts of `vm` have gone; `None` when there was none yet.
pub fn read(host: &Host, vm: &Name) -> Result<Option<Starts>, SysError> {
    let name = paths::name(vm, FILE);
    let Some(text) = host.state.read(&name)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| SysError::Invalid {
        path: host.state.path(&name),
        why: format!("it is damaged: {error}"),
    })
}

/// Notes a start whose guest runs.
pub fn ran(host: &Host, vm: &Name, functions: &[PciAddress], qemu: (u64, u64, u64)) {
    let (major, minor, micro) = qemu;
    let known = qemu != (0, 0, 0);
    let qemu = known.then(|| format!("{major}.{minor}.{micro}"));
    let setup = Setup { qemu, ..Setup::read(&host.sys, functions) };
    note(host, vm, |starts| starts.good = Some(Good { at: host.clock.now(), setup }));
}

/// Notes a start that failed.
pub fn failed(host: &Host, vm: &Name, why: &str) {
    let why: String = why.chars().take(1000).collect();
    note(host, vm, |starts| starts.failed = Some(Failed { at: host.clock.now(), why }));
}

fn note(host: &Host, vm: &Name, change: impl FnOnce(&mut Starts)) {
    // A damaged one is replaced: it says nothing any more.
    let mut starts = read(host, vm).ok().flatten().unwrap_or_default();
    change(&mut starts);
    let text = serde_json::to_string(&starts).unwrap_or_default();
    if let Err(error) = host.state.write(paths::name(vm, FILE), &text) {
        warn!(%vm, "how its start went is not kept: {error}: {}", error.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use proptest::prelude::*;

    fn machine(fake: &FakeHost, kernel: &str) {
        fake.file("/proc/sys/kernel/osrelease", format!("{kernel}\n")).unwrap();
        let cpu = "processor\t: 0\nmicrocode\t: 0xf4\n\nprocessor\t: 1\nmicrocode\t: 0xf5\n";
        fake.file("/proc/cpuinfo", cpu).unwrap();
        fake.file("/sys/bus/pci/devices/0000:01:00.0/vendor", "0x1002\n").unwrap();
        fake.file("/sys/bus/pci/devices/0000:01:00.0/device", "0x67df\n").unwrap();
    }

    #[test]
    fn says_what_has_changed_since() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let (host, vm) = (fake.host(), "gaming".parse().unwrap());
        let card = ["01:00.0".parse().unwrap()];
        assert_eq!(read(&host, &vm).unwrap(), None);
        machine(&fake, "6.12.1");
        ran(&host, &vm, &card, (10, 0, 2));
        failed(&host, &vm, "QEMU ended at once");
        let starts = read(&host, &vm).unwrap().unwrap();
        let good = starts.good.unwrap();
        assert_eq!(good.setup.qemu.as_deref(), Some("10.0.2"));
        assert_eq!(good.setup.microcode.as_deref(), Some("0xf4"));
        assert_eq!(good.setup.firmware, None);
        assert_eq!(starts.failed.unwrap().why, "QEMU ended at once");

        machine(&fake, "6.12.3");
        let now = Setup { firmware: Some("F2".into()), ..Setup::read(&host.sys, &card) };
        assert_eq!(good.setup.changed(&now), ["kernel 6.12.1 → 6.12.3"]);
        let other = Setup::read(&host.sys, &[]);
        assert!(good.setup.changed(&other).contains(&"0000:01:00.0 1002:67df → gone".to_owned()));
    }

    #[test]
    fn a_damaged_note_is_said_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let host = FakeHost::new(dir.path()).host();
        let vm = "gaming".parse().unwrap();
        host.state.write("vms/gaming/last-good.json", "{\"good\": 7}").unwrap();
        assert!(read(&host, &vm).unwrap_err().to_string().contains("damaged"));
        failed(&host, &vm, "x");
        assert_eq!(read(&host, &vm).unwrap().unwrap().good, None);
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,80}") {
            let _ = (serde_json::from_str::<Starts>(&text), word(&text));
        }
    }
}

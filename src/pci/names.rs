//! Vendor and device in words.
//!
//! The system's pci.ids is newer than any copy we carry, so it comes first;
//! what it does not know is looked up in the `pci-ids` crate. The file is
//! walked once, and only the names that are wanted are kept.

use std::collections::{HashMap, HashSet};

use crate::host::SysRoot;

/// Where distributions keep the list.
const PLACES: [&str; 2] = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];

/// Ten times what the list holds today.
const LIST_LIMIT: u64 = 16 << 20;

/// The longest name that is kept.
const NAME_LIMIT: usize = 120;

/// Vendor, device, subsystem vendor and subsystem device: what a name depends on.
pub type Key = (u16, u16, Option<(u16, u16)>);

/// A function in words; what is not known is `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceName {
    /// Who made the chip.
    pub vendor: Option<String>,
    /// The chip.
    pub device: Option<String>,
    /// The board it is on.
    pub subsystem: Option<String>,
    /// Who made the board.
    pub maker: Option<String>,
    /// For those without a name: the ids.
    ids: Option<(u16, u16)>,
}

impl DeviceName {
    /// Vendor and device: `Red Hat, Inc. QEMU NVM Express Controller`.
    pub fn full(&self) -> String {
        match (&self.vendor, &self.device, self.ids) {
            (Some(vendor), Some(device), _) => format!("{vendor} {device}"),
            (Some(vendor), None, Some((_, device))) => format!("{vendor} device {device:04x}"),
            (_, _, Some((vendor, device))) => format!("unknown device {vendor:04x}:{device:04x}"),
            (_, _, None) => "unreadable device".to_owned(),
        }
    }

    /// The device alone where it is known: for sentences about several.
    pub fn short(&self) -> String {
        self.device.clone().unwrap_or_else(|| self.full())
    }

    /// The board with its maker; the maker alone where the board has no name.
    pub fn board(&self) -> Option<String> {
        match (&self.maker, &self.subsystem) {
            (Some(maker), Some(board)) => Some(format!("{maker} {board}")),
            (maker, board) => board.clone().or_else(|| maker.clone()),
        }
    }

    /// With the board, for a card as a whole.
    pub fn with_board(&self) -> String {
        match &self.subsystem {
            Some(board) => format!("{} ({board})", self.full()),
            None => self.full(),
        }
    }
}

/// Names that were looked up once.
#[derive(Debug, Default)]
pub struct Names {
    known: HashMap<Key, DeviceName>,
}

impl Names {
    /// The name of a function; its ids when it was not [learned](Self::learn).
    pub fn get(&self, key: Key) -> DeviceName {
        let nameless = || DeviceName { ids: Some((key.0, key.1)), ..DeviceName::default() };
        self.known.get(&key).cloned().unwrap_or_else(nameless)
    }

    /// Looks up what is not known yet; the list is read only when something is new.
    pub fn learn(&mut self, sys: &SysRoot, wanted: impl Iterator<Item = Key>) {
        let new: HashSet<Key> = wanted.filter(|key| !self.known.contains_key(key)).collect();
        if new.is_empty() {
            return;
        }
        // A machine without the list is normal; the crate's copy answers then.
        let list = PLACES.iter().find_map(|place| sys.bytes(place, LIST_LIMIT).ok());
        let found = find(&list.unwrap_or_default(), &new);
        for key in new {
            let (vendor, device, board) = key;
            let listed = pci_ids::Device::from_vid_pid(vendor, device);
            let carried = |name: &str| Some(clean(name.as_bytes()));
            let board_name = board.and_then(|(a, b)| {
                listed?
                    .subsystems()
                    .find(|system| (system.subvendor(), system.subdevice()) == (a, b))
                    .and_then(|system| carried(system.name()))
            });
            let vendor_name = |id: u16| {
                found.vendors.get(&id).cloned().or_else(|| {
                    let all: Option<&pci_ids::Vendor> = pci_ids::FromId::from_id(id);
                    all.and_then(|vendor| carried(vendor.name()))
                })
            };
            let name = DeviceName {
                vendor: vendor_name(vendor),
                device: found
                    .devices
                    .get(&(vendor, device))
                    .cloned()
                    .or_else(|| listed.and_then(|device| carried(device.name()))),
                subsystem: found.boards.get(&key).cloned().or(board_name),
                maker: board.and_then(|(maker, _)| vendor_name(maker)),
                ids: Some((vendor, device)),
            };
            self.known.insert(key, name);
        }
    }
}

/// A class code in words: `VGA compatible controller`; empty when unknown.
pub fn class_name(class: u32) -> String {
    let [_, base, sub, _] = class.to_be_bytes();
    if let Some(known) = pci_ids::Subclass::from_cid_sid(base, sub) {
        return clean(known.name().as_bytes());
    }
    let known: Option<&pci_ids::Class> = pci_ids::FromId::from_id(base);
    known.map_or_else(String::new, |class| clean(class.name().as_bytes()))
}

#[derive(Default)]
struct Found {
    vendors: HashMap<u16, String>,
    devices: HashMap<(u16, u16), String>,
    boards: HashMap<Key, String>,
}

/// One pass over the list: `vendor  name`, one tab `device  name`, two tabs
/// `subvendor subdevice  name`. The classes at its end begin with `C`.
fn find(list: &[u8], wanted: &HashSet<Key>) -> Found {
    let makers = wanted.iter().filter_map(|key| key.2).map(|(maker, _)| maker);
    let vendors: HashSet<u16> = wanted.iter().map(|key| key.0).chain(makers).collect();
    let devices: HashSet<(u16, u16)> = wanted.iter().map(|key| (key.0, key.1)).collect();
    let mut found = Found::default();
    let (mut vendor, mut device) = (None, None);
    for line in list.split(|&byte| byte == b'\n') {
        match line {
            [] | [b'#', ..] => {}
            [b'\t', b'\t', rest @ ..] => {
                let Some((vendor, device)) = vendor.zip(device) else { continue };
                let Some((a, rest)) = id(rest) else { continue };
                let Some((b, name)) = rest.strip_prefix(b" ").and_then(id) else { continue };
                let key = (vendor, device, Some((a, b)));
                if wanted.contains(&key) {
                    found.boards.insert(key, clean(name));
                }
            }
            [b'\t', rest @ ..] => {
                let Some(vendor) = vendor else { continue };
                device = None;
                let Some((number, name)) = id(rest) else { continue };
                if devices.contains(&(vendor, number)) {
                    device = Some(number);
                    found.devices.insert((vendor, number), clean(name));
                }
            }
            _ => {
                (vendor, device) = (None, None);
                let Some((number, name)) = id(line) else { continue };
                if vendors.contains(&number) {
                    vendor = Some(number);
                    found.vendors.insert(number, clean(name));
                }
            }
        }
    }
    found
}

/// Four hexadecimal digits and what follows them.
fn id(line: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = line.split_at_checked(4)?;
    let bounded = rest.first().is_none_or(u8::is_ascii_whitespace);
    let hex = bounded && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = hex.then(|| std::str::from_utf8(digits).ok()).flatten()?;
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}

/// A name from a file that anybody may have written: no control characters, bounded.
fn clean(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    name.trim().chars().filter(|c| !c.is_control()).take(NAME_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use proptest::prelude::*;

    const LIST: &str = "# comment\n1002  Advanced Micro Devices\n\t5046  Rage 128 PF\n\
        \t\t1002 0004  Rage Fury Pro\n\t5047  Other\n8086  Intel\n\t2668  ICH6 Audio\n\
        C 03  Display controller\n\t00  VGA\n";

    fn names(list: Option<&str>, keys: &[Key]) -> Names {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        if let Some(list) = list {
            fake.file("/usr/share/misc/pci.ids", list).unwrap();
        }
        let mut names = Names::default();
        names.learn(&fake.host().sys, keys.iter().copied());
        names
    }

    #[test]
    fn the_systems_list_comes_first() {
        let key = (0x1002, 0x5046, Some((0x1002, 0x0004)));
        let names = names(Some(LIST), &[key, (0x8086, 0x2668, None)]);
        assert_eq!(
            names.get(key).with_board(),
            "Advanced Micro Devices Rage 128 PF (Rage Fury Pro)"
        );
        assert_eq!(names.get((0x8086, 0x2668, None)).full(), "Intel ICH6 Audio");
        assert_eq!(names.get(key).board().as_deref(), Some("Advanced Micro Devices Rage Fury Pro"));
    }

    #[test]
    fn the_crate_answers_where_there_is_no_list() {
        let names = names(None, &[(0x8086, 0x2668, None)]);
        assert!(names.get((0x8086, 0x2668, None)).full().starts_with("Intel Corporation "));
    }

    #[test]
    fn unknown_ids_are_said() {
        let names = names(Some(LIST), &[(0x1002, 0xfffe, None), (0xfff3, 1, None)]);
        assert_eq!(names.get((0x1002, 0xfffe, None)).full(), "Advanced Micro Devices device fffe");
        assert_eq!(names.get((0xfff3, 1, None)).full(), "unknown device fff3:0001");
        assert_eq!(DeviceName::default().full(), "unreadable device");
        assert_eq!(class_name(0x03_0000), "VGA compatible controller");
        assert_eq!(
            (class_name(0x03_7700).as_str(), class_name(0x77_0000).as_str()),
            ("Display controller", "")
        );
    }

    proptest! {
        #[test]
        fn any_list_is_walked(list in prop::collection::vec(any::<u8>(), 0..400)) {
            find(&list, &HashSet::from([(0x1002, 0x5046, None)]));
        }
    }
}

//! One walk over sysfs. The cost is linear in the number of functions: five
//! small files and two links each, and one folder per group.
//!
//! Only attributes that the kernel answers from memory are read here. `uevent`
//! (in some kernels) and `driver_override` wait for a driver that hangs in its
//! unbind, and config space wakes sleeping bridges.

use super::absent;
use super::facts::{Device, Driver, Facts, Group, Other};
use super::names::{Key, Names};
use super::parse;
use crate::base::PciAddress;
use crate::host::SysRoot;
use crate::host::sys::SysError;

/// The functions as the bus lists them.
pub const DEVICES: &str = "/sys/bus/pci/devices";
/// The groups as the IOMMU layer lists them.
pub const GROUPS: &str = "/sys/kernel/iommu_groups";

/// An attribute of sysfs is at most a page.
const PAGE: u64 = 4096;
/// More functions than any machine has.
const DEVICE_LIMIT: usize = 1 << 16;
/// More notes than anybody reads; the rest is counted.
const NOTE_LIMIT: usize = 50;

/// An attribute of sysfs as text, bounded.
pub fn attribute(sys: &SysRoot, path: &str) -> Result<String, SysError> {
    let bytes = sys.bytes(path, PAGE)?;
    String::from_utf8(bytes).map_err(|error| SysError::Invalid {
        path: path.into(),
        why: error.utf8_error().to_string(),
    })
}

/// What drives a device, from its folder.
pub fn driver(sys: &SysRoot, folder: &str) -> Driver {
    match sys.link_name(format!("{folder}/driver")) {
        Ok(name) if parse::is_driver_name(&name) => Driver::Named(name),
        Ok(_) => Driver::Unknown("its driver link leads nowhere".to_owned()),
        Err(error) if error.is_missing() => Driver::None,
        Err(error) => Driver::Unknown(error.to_string()),
    }
}

/// A function's folder.
pub fn folder(address: PciAddress) -> String {
    format!("{DEVICES}/{address}")
}

/// Reads everything; what cannot be read becomes a note, never an error.
pub fn read(sys: &SysRoot, names: &mut Names) -> Facts {
    let mut facts = Facts::default();
    let mut notes = Notes::default();
    let mut listed = notes.list(sys, DEVICES);
    if listed.len() > DEVICE_LIMIT {
        notes.add(format!(
            "{DEVICES} lists {} functions; only {DEVICE_LIMIT} were read",
            listed.len()
        ));
        listed.truncate(DEVICE_LIMIT);
    }
    for name in listed {
        match name.parse() {
            Ok(address) => {
                facts.devices.insert(address, device(sys, address, &mut notes));
            }
            Err(error) => notes.add(format!("{DEVICES}: {error}")),
        }
    }
    groups(sys, &mut facts, &mut notes);
    if facts.groups.is_empty() {
        facts.absence = Some(absent::explain(&absent::clues(sys)));
    }
    names.learn(sys, facts.devices.values().filter_map(key));
    for device in facts.devices.values_mut() {
        if let Some(key) = key(device) {
            device.name = names.get(key);
        }
    }
    facts.notes = notes.done();
    facts
}

fn key(device: &Device) -> Option<Key> {
    device.identity().map(|(vendor, id)| (vendor, id, device.subsystem))
}

fn device(sys: &SysRoot, address: PciAddress, notes: &mut Notes) -> Device {
    let folder = folder(address);
    let mut one = |name: &str| {
        let path = format!("{folder}/{name}");
        match attribute(sys, &path).map(|text| parse::hex(&text)) {
            Ok(Some(value)) => Some(value),
            Ok(None) => {
                notes.add(format!("{path} holds no hexadecimal number"));
                None
            }
            Err(error) => {
                notes.add(error.to_string());
                None
            }
        }
    };
    let narrow = |value: u32| u16::try_from(value).ok();
    let vendor = one("vendor").and_then(narrow);
    let id = one("device").and_then(narrow);
    let class = one("class");
    let quiet = |name: &str| {
        attribute(sys, &format!("{folder}/{name}")).ok().as_deref().and_then(parse::hex16)
    };
    let subsystem = quiet("subsystem_vendor").zip(quiet("subsystem_device"));
    let subsystem = subsystem.filter(|pair| *pair != (0, 0));
    let mut device = Device { vendor, device: id, class, subsystem, ..Device::unread(address) };
    device.driver = driver(sys, &folder);
    if let Driver::Unknown(why) = &device.driver {
        notes.add(format!("driver of {address} unknown: {why}"));
    }
    device.group = match sys.link_name(format!("{folder}/iommu_group")) {
        Ok(name) => name.parse().ok(),
        Err(error) if error.is_missing() => None,
        Err(error) => {
            notes.add(error.to_string());
            None
        }
    };
    if device.is_display() {
        let said = attribute(sys, &format!("{folder}/boot_vga"));
        device.boot_vga = said.ok().as_deref().and_then(parse::flag);
    }
    if device.is_odd() {
        // Where it cannot be read the class alone decides.
        let config = sys.bytes(format!("{folder}/config"), PAGE).unwrap_or_default();
        device.header = parse::header_type(&config);
    }
    device
}

/// Members come from both sides, the function's own link and the group's
/// folder, so that neither can hide one.
fn groups(sys: &SysRoot, facts: &mut Facts, notes: &mut Notes) {
    for (address, device) in &facts.devices {
        if let Some(number) = device.group {
            facts.groups.entry(number).or_default().members.push(*address);
        }
    }
    let listed = match sys.list(GROUPS) {
        Ok(names) => names,
        Err(error) if error.is_missing() => Vec::new(),
        Err(error) => {
            notes.add(error.in_full());
            Vec::new()
        }
    };
    for name in listed {
        let Ok(number) = name.parse::<u32>() else {
            notes.add(format!("{GROUPS}: `{name}` is not a group's number"));
            continue;
        };
        let inside = format!("{GROUPS}/{number}/devices");
        let members = notes.list(sys, &inside);
        let group = facts.groups.entry(number).or_default();
        for member in members {
            match member.parse::<PciAddress>() {
                Ok(address) if group.members.binary_search(&address).is_ok() => {}
                Ok(address) => {
                    notes.add(format!("group {number} lists {address}, which does not say so"));
                    add_member(group, facts.devices.get(&address), address, number);
                    if let Some(device) = facts.devices.get_mut(&address) {
                        device.group.get_or_insert(number);
                    }
                }
                Err(_) => group.others.push(Other {
                    driver: driver(sys, &format!("{inside}/{member}")),
                    name: member,
                }),
            }
        }
    }
}

fn add_member(group: &mut Group, device: Option<&Device>, address: PciAddress, number: u32) {
    match device {
        // A function that says it is in another group stays there.
        Some(device) if device.group.is_some_and(|own| own != number) => {}
        Some(_) => {
            let place = group.members.partition_point(|member| *member < address);
            group.members.insert(place, address);
        }
        None => group.others.push(Other {
            name: address.to_string(),
            driver: Driver::Unknown("it is not on the PCI bus".to_owned()),
        }),
    }
}

#[derive(Default)]
struct Notes {
    kept: Vec<String>,
    more: usize,
}

impl Notes {
    fn add(&mut self, note: String) {
        if self.kept.len() < NOTE_LIMIT {
            self.kept.push(note);
        } else {
            self.more += 1;
        }
    }

    fn list(&mut self, sys: &SysRoot, path: &str) -> Vec<String> {
        sys.list(path).unwrap_or_else(|error| {
            self.add(error.in_full());
            Vec::new()
        })
    }

    fn done(mut self) -> Vec<String> {
        if self.more > 0 {
            self.kept.push(format!("and {} more", self.more));
        }
        self.kept
    }
}

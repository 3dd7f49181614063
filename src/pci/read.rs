//! One walk over sysfs. The cost is linear in the number of functions: one
//! small file and two links each, and one folder per group.
//!
//! Only attributes that the kernel answers from memory are read here. `uevent`
//! (in some kernels) and `driver_override` wait for a driver that hangs in its
//! unbind, and config space wakes sleeping bridges. `modalias` does neither,
//! and has the ids, the subsystem and the class on one line; where it is
//! missing they are read one by one.

use super::absent;
use super::facts::{Device, Driver, Facts, Group, Other};
use super::names::{Key, Names};
use super::parse;
use crate::base::PciAddress;
use crate::host::SysRoot;
use crate::host::folder::{Folder, Page, each};
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
    driver_of(sys.link_name(format!("{folder}/driver")))
}

fn driver_of(link: Result<String, SysError>) -> Driver {
    match link {
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
    if let Some(bus) = notes.open(sys, DEVICES) {
        devices(&bus, &mut facts, &mut notes);
    }
    groups(sys, &mut facts, &mut notes);
    if facts.groups.is_empty() {
        facts.absence = Some(absent::explain(&absent::clues(sys)));
    }
    facts.acs_override = acs_override(sys, &mut notes);
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

/// What the kernel was told to pretend about ACS. A tree without a command
/// line (a saved one) says nothing.
fn acs_override(sys: &SysRoot, notes: &mut Notes) -> Option<String> {
    match sys.bytes("/proc/cmdline", PAGE) {
        Ok(line) => {
            let line = String::from_utf8_lossy(&line);
            let said = parse::parameter(&line, "pcie_acs_override").join(",");
            (!said.is_empty()).then_some(said)
        }
        Err(error) if error.is_missing() => None,
        Err(error) => {
            notes.add(format!("whether ACS is overridden is not known: {}", error.in_full()));
            None
        }
    }
}

fn devices(bus: &Folder, facts: &mut Facts, notes: &mut Notes) {
    let mut listed = bus.list(".").unwrap_or_else(|error| {
        notes.add(error.in_full());
        Vec::new()
    });
    if listed.len() > DEVICE_LIMIT {
        notes.add(format!(
            "{DEVICES} lists {} functions; only {DEVICE_LIMIT} were read",
            listed.len()
        ));
        listed.truncate(DEVICE_LIMIT);
    }
    let read = each(&listed, |name| {
        let address = name.parse::<PciAddress>();
        address.map(|address| {
            let mut notes = Notes::default();
            (device(bus, name, address, &mut notes), notes)
        })
    });
    for one in read {
        match one {
            Ok((device, said)) => {
                said.kept.into_iter().for_each(|note| notes.add(note));
                facts.devices.insert(device.address, device);
            }
            Err(error) => notes.add(format!("{DEVICES}: {error}")),
        }
    }
}

fn device(bus: &Folder, name: &str, address: PciAddress, notes: &mut Notes) -> Device {
    let own = match bus.below(name) {
        Ok(own) => own,
        Err(error) => {
            notes.add(error.in_full());
            return Device::unread(address);
        }
    };
    let page = &mut Page::default();
    let said = own.attribute("modalias", page).ok().and_then(parse::modalias);
    let mut device = match said {
        Some(ids) => Device {
            vendor: Some(ids.id.0),
            device: Some(ids.id.1),
            class: Some(ids.class),
            subsystem: Some(ids.subsystem),
            ..Device::unread(address)
        },
        None => one_by_one(&own, address, page, notes),
    };
    device.subsystem = device.subsystem.filter(|pair| *pair != (0, 0));
    device.driver = driver_of(own.link_name("driver"));
    if let Driver::Unknown(why) = &device.driver {
        notes.add(format!("driver of {address} unknown: {why}"));
    }
    device.group = match own.link_name("iommu_group") {
        Ok(group) => group.parse().ok(),
        Err(error) if error.is_missing() => None,
        Err(error) => {
            notes.add(error.to_string());
            None
        }
    };
    if device.is_display() {
        device.boot_vga = own.attribute("boot_vga", page).ok().and_then(parse::flag);
    }
    if device.is_odd() {
        // The kernel gives this file to whatever has a bus behind it; to read
        // it would wake the bridge.
        device.has_bus = own.exists("secondary_bus_number");
    }
    device
}

/// The ids, each from its own file.
fn one_by_one(own: &Folder, address: PciAddress, page: &mut Page, notes: &mut Notes) -> Device {
    let mut one = |name: &str| match own.attribute(name, page).map(parse::hex) {
        Ok(Some(value)) => Some(value),
        Ok(None) => {
            notes.add(format!("{}/{name} holds no hexadecimal number", folder(address)));
            None
        }
        Err(error) => {
            notes.add(error.to_string());
            None
        }
    };
    let narrow = |value: u32| u16::try_from(value).ok();
    let vendor = one("vendor").and_then(narrow);
    let device = one("device").and_then(narrow);
    let class = one("class");
    let mut quiet = |name: &str| own.attribute(name, page).ok().and_then(parse::hex16);
    let subsystem = quiet("subsystem_vendor").zip(quiet("subsystem_device"));
    Device { vendor, device, subsystem, class, ..Device::unread(address) }
}

/// Members come from both sides, the function's own link and the group's
/// folder, so that neither can hide one.
fn groups(sys: &SysRoot, facts: &mut Facts, notes: &mut Notes) {
    for (address, device) in &facts.devices {
        if let Some(number) = device.group {
            facts.groups.entry(number).or_default().members.push(*address);
        }
    }
    let Some(all) = notes.open_if_there(sys, GROUPS) else { return };
    let listed = all.list(".").unwrap_or_else(|error| {
        notes.add(error.in_full());
        Vec::new()
    });
    let read = each(&listed, |name| {
        let number = name.parse::<u32>().ok()?;
        Some((number, all.list(&format!("{number}/devices"))))
    });
    for (name, read) in listed.iter().zip(read) {
        let Some((number, members)) = read else {
            notes.add(format!("{GROUPS}: `{name}` is not a group's number"));
            continue;
        };
        let members = members.unwrap_or_else(|error| {
            notes.add(error.in_full());
            Vec::new()
        });
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
                    driver: driver_of(all.link_name(&format!("{number}/devices/{member}/driver"))),
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

    fn open(&mut self, sys: &SysRoot, path: &str) -> Option<Folder> {
        sys.folder(path).map_err(|error| self.add(error.in_full())).ok()
    }

    /// The same of a folder that need not be there.
    fn open_if_there(&mut self, sys: &SysRoot, path: &str) -> Option<Folder> {
        match sys.folder(path) {
            Err(error) if error.is_missing() => None,
            Err(error) => {
                self.add(error.in_full());
                None
            }
            Ok(folder) => Some(folder),
        }
    }

    fn done(mut self) -> Vec<String> {
        if self.more > 0 {
            self.kept.push(format!("and {} more", self.more));
        }
        self.kept
    }
}

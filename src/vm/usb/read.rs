//! USB devices in sysfs, and the files of processes that have them open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::base::Name;
use crate::config::UsbRef;
use crate::host::SysRoot;
use crate::host::sys::SysError;

const DEVICES: &str = "/sys/bus/usb/devices";
/// More devices than any machine has; addresses alone allow 127 a bus.
const LIMIT: usize = 1024;
/// Open files of a QEMU that are looked at.
const FILES: usize = 4096;
/// The class of hubs, which QEMU cannot hand on.
const HUB: u8 = 9;

/// A device that is plugged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsbDevice {
    /// Of its maker.
    pub vendor: u16,
    /// Of its kind.
    pub product: u16,
    /// The bus it is on.
    pub bus: u8,
    /// The way through the hubs: `2.3`.
    pub path: String,
    /// Its number on the bus, another each time it is plugged in.
    pub number: u16,
    /// What it says that it is.
    pub name: String,
    /// Its serial number.
    pub serial: Option<String>,
    /// The drivers of the host that have it; `usbfs` is a program.
    pub drivers: Vec<String>,
    /// Disks of it that the host uses.
    pub busy: Vec<String>,
}

impl UsbDevice {
    /// `046d:c52b`.
    pub fn id(&self) -> String {
        format!("{:04x}:{:04x}", self.vendor, self.product)
    }

    /// `1-2.3`, as the kernel has it.
    pub fn port(&self) -> String {
        format!("{}-{}", self.bus, self.path)
    }

    /// Bus and number.
    pub fn address(&self) -> (u8, u16) {
        (self.bus, self.number)
    }

    /// Where it is opened.
    pub fn node(&self) -> PathBuf {
        format!("/dev/bus/usb/{:03}/{:03}", self.bus, self.number).into()
    }

    /// Whether it is meant.
    pub fn is(&self, usb: &UsbRef) -> bool {
        match usb {
            UsbRef::Id(vendor, product) => (self.vendor, self.product) == (*vendor, *product),
            UsbRef::Port { bus, path } => self.bus == *bus && self.path == *path,
        }
    }

    /// Whatever is in its port.
    pub fn at_port(&self) -> UsbRef {
        UsbRef::Port { bus: self.bus, path: self.path.clone() }
    }

    /// For a person: `Logitech USB Receiver (046d:c52b, port 1-2.3)`.
    pub fn label(&self) -> String {
        format!("{} ({}, port {})", self.name, self.id(), self.port())
    }
}

/// All devices but hubs, in the order of their ports. One that leaves while it
/// is read is left out.
pub fn devices(sys: &SysRoot) -> Result<Vec<UsbDevice>, SysError> {
    let names = sys.list(DEVICES)?;
    let disks = disks(sys);
    let ports = names.iter().take(LIMIT).filter_map(|name| Some((name, parse_port(name)?)));
    let mut found: Vec<_> = ports
        .filter_map(|(name, (bus, path))| device(sys, name, bus, path, &names, &disks))
        .collect();
    let order = |device: &UsbDevice| {
        let path: Vec<u32> = device.path.split('.').filter_map(|part| part.parse().ok()).collect();
        (device.bus, path)
    };
    found.sort_by_key(order);
    Ok(found)
}

/// `1-2.3`: bus and path. Root hubs (`usb1`) and interfaces (`1-2.3:1.0`) are none.
pub fn parse_port(name: &str) -> Option<(u8, String)> {
    let (bus, path) = name.split_once('-')?;
    let number = |part: &str| {
        !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit())
    };
    // The standard allows five hubs one behind the other.
    let good = number(bus) && path.split('.').count() <= 7 && path.split('.').all(number);
    Some((bus.parse().ok().filter(|_| good)?, path.to_owned()))
}

fn device(
    sys: &SysRoot,
    name: &str,
    bus: u8,
    path: String,
    names: &[String],
    disks: &[(String, String)],
) -> Option<UsbDevice> {
    let text = |file: &str| sys.text(format!("{DEVICES}/{name}/{file}")).ok();
    let hex = |file: &str| u16::from_str_radix(text(file)?.trim(), 16).ok();
    if hex("bDeviceClass").is_some_and(|class| class == u16::from(HUB)) {
        return None;
    }
    let (vendor, product) = (hex("idVendor")?, hex("idProduct")?);
    let interfaces: Vec<_> = names
        .iter()
        .filter(|other| other.strip_prefix(name).is_some_and(|rest| rest.starts_with(':')))
        .collect();
    let mut drivers: Vec<_> = interfaces
        .iter()
        .filter_map(|interface| sys.link_name(format!("{DEVICES}/{interface}/driver")).ok())
        .collect();
    drivers.sort_unstable();
    drivers.dedup();
    let class = interfaces.first().and_then(|interface| {
        let text = sys.text(format!("{DEVICES}/{interface}/bInterfaceClass")).ok()?;
        u8::from_str_radix(text.trim(), 16).ok()
    });
    let said: Vec<_> = ["manufacturer", "product"].iter().filter_map(|file| text(file)).collect();
    let said = plain(&said.join(" "));
    let inside = format!("/{name}/");
    let busy = disks.iter().filter(|(_, place)| place.contains(&inside));
    Some(UsbDevice {
        vendor,
        product,
        bus,
        path,
        number: text("devnum")?.trim().parse().ok()?,
        name: if said.is_empty() { kind(class).to_owned() } else { said },
        serial: text("serial").map(|serial| plain(&serial)).filter(|serial| !serial.is_empty()),
        drivers,
        busy: busy.map(|(disk, _)| disk.clone()).collect(),
    })
}

/// The disks behind USB that the host has in use, with their places.
fn disks(sys: &SysRoot) -> Vec<(String, String)> {
    let names = sys.list("/sys/block").unwrap_or_default();
    let behind = names.into_iter().take(LIMIT).filter_map(|name| {
        let place = sys.resolve(Path::new("/sys/block").join(&name)).ok()?;
        let place = place.to_str()?.to_owned();
        (place.contains("/usb") && sys.is_claimed(format!("/dev/{name}")))
            .then(|| (format!("/dev/{name}"), place))
    });
    behind.collect()
}

/// Words of a device, as they may be shown.
fn plain(text: &str) -> String {
    let text: String =
        text.chars().take(120).map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a device is that does not say so, by the class of its first interface
/// (usb.org, "Defined Class Codes").
fn kind(class: Option<u8>) -> &'static str {
    match class {
        Some(1) => "sound device",
        Some(3) => "keyboard, mouse or other input device",
        Some(6) => "camera",
        Some(7) => "printer",
        Some(8) => "disk",
        Some(0x0e) => "video device",
        Some(0xe0) => "wireless adapter",
        _ => "USB device without a name",
    }
}

/// Which device, by bus and number, which of these VMs has open.
pub fn users(sys: &SysRoot, vms: &[(Name, u32)]) -> BTreeMap<(u8, u16), Name> {
    let mut users = BTreeMap::new();
    for (vm, pid) in vms {
        let folder = format!("/proc/{pid}/fd");
        for file in sys.list(&folder).unwrap_or_default().iter().take(FILES) {
            let Ok(place) = sys.resolve(format!("{folder}/{file}")) else { continue };
            if let Some(address) = place.to_str().and_then(parse_node) {
                users.insert(address, vm.clone());
            }
        }
    }
    users
}

/// `/dev/bus/usb/001/014`.
fn parse_node(path: &str) -> Option<(u8, u16)> {
    let (bus, number) = path.strip_prefix("/dev/bus/usb/")?.split_once('/')?;
    Some((bus.parse().ok()?, number.parse().ok()?))
}

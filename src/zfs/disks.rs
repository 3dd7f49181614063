//! Which disk a vdev is on: its model, serial, slot, and what it hangs on.
//!
//! Reads sysfs only, what the kernel has in memory anyway: no disk is asked or
//! woken. Facts (Documentation/ABI/testing/sysfs-block and sysfs-bus-pci):
//! `/sys/class/block/X` leads to the disk's place below its controller; a
//! partition has a file `partition` and lies in its disk's folder; what a
//! device-mapper device is made of is in `slaves`. SCSI disks have `model`,
//! `wwid` and page 80h of their vital product data in `device`, NVMe ones
//! `model` and `serial`, virtio ones `serial` in the disk's own folder. An
//! enclosure that knows its slots links to itself as `enclosure_device:SLOT`.

use std::path::{Path, PathBuf};

use super::fields::clean;
use crate::ask::view::VdevDiskView;
use crate::host::SysRoot;

/// Devices of devices are followed so far: a partition of an encrypted one of
/// several paths, and no endless circle.
const MAX_STACK: usize = 6;
const MAX_PARENTS: usize = 12;
const MAX_TEXT: usize = 80;

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its names.
    pub disk: VdevDiskView,
    /// What it hangs on, from the processor outwards: `0000:03:00.0 (SAS
    /// controller)`, `expander-0:0`, `ata3`, `usb 2-1`.
    pub parents: Vec<String>,
}

/// The disk behind a device's path; `None` for what is none, or not there.
pub fn read(sys: &SysRoot, path: &str) -> Option<Found> {
    let node = sys.resolve(path).ok().filter(|node| node.starts_with("/dev"))?;
    let mut name = node.file_name()?.to_str()?.to_owned();
    let mut place = PathBuf::new();
    for _ in 0..MAX_STACK {
        place = sys.resolve(Path::new("/sys/class/block").join(&name)).ok()?;
        if sys.exists(place.join("partition")) {
            place = place.parent()?.to_owned();
        }
        match sys.list(place.join("slaves")).ok().and_then(|below| below.into_iter().next()) {
            Some(below) => name = below,
            None => break,
        }
    }
    let name = place.file_name()?.to_str()?;
    let device = sys.resolve(place.join("device")).unwrap_or_else(|_| place.clone());
    let text = |at: PathBuf| sys.text(at).ok().map(|text| short(&text)).filter(|t| !t.is_empty());
    let serial = text(device.join("serial"))
        .or_else(|| text(place.join("serial")))
        .or_else(|| page_80(&sys.bytes(device.join("vpd_pg80"), 4096).ok()?))
        .or_else(|| text(device.join("wwid")))
        .or_else(|| text(place.join("wwid")));
    let parts: Vec<&str> = place.iter().filter_map(|part| part.to_str()).collect();
    let mut enclosure = sys.list(&device).unwrap_or_default().into_iter();
    let enclosure = enclosure.find_map(|n| n.strip_prefix("enclosure_device:").map(short));
    let disk = VdevDiskView {
        name: short(name),
        model: text(device.join("model")).unwrap_or_default(),
        serial: serial.unwrap_or_default(),
        slot: enclosure.map(numbered).or_else(|| port(&parts)).unwrap_or_default(),
    };
    Some(Found { disk, parents: parents(sys, &place) })
}

fn short(text: &str) -> String {
    clean(text.trim()).trim().chars().take(MAX_TEXT).collect()
}

/// An enclosure may call its slots by a bare number.
fn numbered(slot: String) -> String {
    let number = !slot.is_empty() && slot.bytes().all(|b| b.is_ascii_digit());
    if number { format!("slot {slot}") } else { slot }
}

/// The serial in a unit serial number page: its number in the second byte, its
/// length in the fourth (SPC-4, 7.8.18).
fn page_80(page: &[u8]) -> Option<String> {
    let length = usize::from(*page.get(3).filter(|_| page.get(1) == Some(&0x80))?);
    let serial = page.get(4..4 + length).or_else(|| page.get(4..))?;
    Some(short(&String::from_utf8_lossy(serial))).filter(|serial| !serial.is_empty())
}

/// Where it is plugged in, where no enclosure says.
fn port(parts: &[&str]) -> Option<String> {
    let last = |what: fn(&str) -> bool| parts.iter().rev().find(|part| what(part));
    if let Some(port) = last(is_ata) {
        return Some((*port).to_owned());
    }
    if let Some(port) = last(is_usb) {
        return Some(format!("usb {port}"));
    }
    if let Some(port) = last(|part| part.starts_with("port-")) {
        return Some((*port).to_owned());
    }
    last(is_pci).map(|address| (*address).to_owned())
}

/// What it hangs on.
fn parents(sys: &SysRoot, place: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = PathBuf::new();
    for part in place {
        at.push(part);
        let Some(part) = part.to_str() else { continue };
        if is_pci(part) {
            let class = sys.text(at.join("class")).unwrap_or_default();
            found.push(format!("{part} ({})", controller(&class)));
        } else if is_ata(part) || part.starts_with("expander-") {
            found.push(clean(part));
        } else if is_usb(part) {
            found.push(format!("usb {part}"));
        }
    }
    found.truncate(MAX_PARENTS);
    found
}

/// A PCI class code in words.
fn controller(class: &str) -> &'static str {
    match class.get(..6) {
        Some("0x0100") => "SCSI controller",
        Some("0x0104") => "RAID controller",
        Some("0x0106") => "SATA controller",
        Some("0x0107") => "SAS controller",
        Some("0x0108") => "NVMe drive",
        Some("0x0604") => "PCI bridge",
        Some("0x0c03") => "USB controller",
        Some(_) | None => "PCI device",
    }
}

fn is_pci(part: &str) -> bool {
    part.len() >= 12 && part.parse::<crate::base::PciAddress>().is_ok()
}

fn is_ata(part: &str) -> bool {
    part.strip_prefix("ata").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// `2-1.4`: the port of a bus; its interfaces (`2-1.4:1.0`) are the same.
fn is_usb(part: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let Some((bus, ports)) = part.split_once('-') else { return false };
    digits(bus) && ports.split('.').all(digits)
}

/// `slot 3, serial ZA1, model ST8000`: what is known of it, for a person who
/// stands before the machine.
pub fn label(disk: &VdevDiskView) -> String {
    let serial = Some(&disk.serial).filter(|t| !t.is_empty()).map(|t| format!("serial {t}"));
    let model = Some(&disk.model).filter(|t| !t.is_empty()).map(|t| format!("model {t}"));
    let slot = Some(disk.slot.clone()).filter(|t| !t.is_empty());
    slot.into_iter().chain(serial).chain(model).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use proptest::prelude::*;

    fn machine() -> (tempfile::TempDir, FakeHost) {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        (dir, fake)
    }

    /// A disk at `place` below `/sys/devices`, with these files of its `device`.
    fn disk(fake: &FakeHost, name: &str, place: &str, files: &[(&str, &str)]) {
        let folder = format!("/sys/devices/{place}");
        for (file, text) in files {
            fake.file(&format!("{folder}/{file}"), text).unwrap();
        }
        fake.dir(&format!("{folder}/block/{name}/slaves")).unwrap();
        fake.link(&format!("{folder}/block/{name}/device"), &folder).unwrap();
        let target = format!("{folder}/block/{name}");
        fake.link(&format!("/sys/class/block/{name}"), &target).unwrap();
        fake.file(&format!("/dev/{name}"), "").unwrap();
    }

    #[test]
    fn a_partition_by_its_id_behind_a_sas_controller() {
        let (_dir, fake) = machine();
        let hba = "pci0000:00/0000:00:1c.0/0000:03:00.0";
        let place = format!("{hba}/host0/port-0:3/end_device-0:3/target0:0:3/0:0:3:0");
        disk(&fake, "sdc", &place, &[("model", "ST8000VN004-2M21 \n"), ("wwid", "naa.5000c5\n")]);
        fake.file(&format!("/sys/devices/{hba}/class"), "0x010700\n").unwrap();
        let page = [&[0, 0x80, 0, 8][..], b"    ZA1X"].concat();
        fake.file(&format!("/sys/devices/{place}/vpd_pg80"), page).unwrap();
        fake.dir(&format!("/sys/devices/{place}/enclosure_device:3")).unwrap();
        fake.file(&format!("/sys/devices/{place}/block/sdc/sdc1/partition"), "1\n").unwrap();
        let part = format!("/sys/devices/{place}/block/sdc/sdc1");
        fake.link("/sys/class/block/sdc1", &part).unwrap();
        fake.file("/dev/sdc1", "").unwrap();
        fake.link("/dev/disk/by-id/ata-ST8000-part1", "/dev/sdc1").unwrap();
        let found = read(&fake.host().sys, "/dev/disk/by-id/ata-ST8000-part1").unwrap();
        let disk = &found.disk;
        assert_eq!((disk.name.as_str(), disk.model.as_str()), ("sdc", "ST8000VN004-2M21"));
        assert_eq!(label(disk), "slot 3, serial ZA1X, model ST8000VN004-2M21");
        assert_eq!(found.parents, ["0000:00:1c.0 (PCI device)", "0000:03:00.0 (SAS controller)"]);
    }

    #[test]
    fn each_kind_of_port() {
        let (_dir, fake) = machine();
        let at = |name: &str, place: &str, files: &[(&str, &str)]| {
            disk(&fake, name, place, files);
            read(&fake.host().sys, &format!("/dev/{name}")).unwrap()
        };
        let ata = at(
            "sda",
            "pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0",
            &[("model", "WDC"), ("wwid", "t10.ATA WDC WD-1")],
        );
        assert_eq!(label(&ata.disk), "ata3, serial t10.ATA WDC WD-1, model WDC");
        assert_eq!(ata.parents, ["0000:00:1f.2 (PCI device)", "ata3"]);
        let usb = at(
            "sdb",
            "pci0000:00/0000:00:14.0/usb2/2-1/2-1.4/2-1.4:1.0/host4/target4:0:0/4:0:0:0",
            &[],
        );
        assert_eq!(usb.disk.slot, "usb 2-1.4");
        assert_eq!(usb.parents, ["0000:00:14.0 (PCI device)", "usb 2-1", "usb 2-1.4"]);
        let virtio =
            at("vda", "pci0000:00/0000:00:05.0/virtio2", &[("block/vda/serial", "disk-7")]);
        assert_eq!(label(&virtio.disk), "0000:00:05.0, serial disk-7");
    }

    #[test]
    fn an_encrypted_device_is_on_its_disk() {
        let (_dir, fake) = machine();
        disk(&fake, "sda", "pci0000:00/0000:00:1f.2/ata1/0:0:0:0", &[("model", "WDC")]);
        fake.dir("/sys/devices/virtual/block/dm-0/slaves/sda").unwrap();
        fake.link("/sys/class/block/dm-0", "/sys/devices/virtual/block/dm-0").unwrap();
        fake.file("/dev/dm-0", "").unwrap();
        fake.link("/dev/mapper/safe", "/dev/dm-0").unwrap();
        assert_eq!(read(&fake.host().sys, "/dev/mapper/safe").unwrap().disk.name, "sda");
        // In a circle.
        fake.dir("/sys/devices/virtual/block/dm-1/slaves/dm-1").unwrap();
        fake.link("/sys/class/block/dm-1", "/sys/devices/virtual/block/dm-1").unwrap();
        fake.file("/dev/dm-1", "").unwrap();
        assert!(read(&fake.host().sys, "/dev/dm-1").is_some());
    }

    #[test]
    fn what_is_no_disk_is_none() {
        let (_dir, fake) = machine();
        fake.file("/vdevs/f1", "").unwrap();
        for path in ["/vdevs/f1", "/dev/gone", "", "raidz1-0", "/dev/../vdevs/f1"] {
            assert_eq!(read(&fake.host().sys, path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_page_is_read(page: Vec<u8>) {
            prop_assert!(page_80(&page).is_none_or(|serial| serial.len() <= 4 * MAX_TEXT));
        }
    }
}

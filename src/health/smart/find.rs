//! The machine's disks, as sysfs has them: nothing here touches a disk.
//!
//! Source: the kernel's `Documentation/ABI/testing/sysfs-block`,
//! `sysfs-block-device` and `sysfs-class-enclosure`; SPC-4 7.8.17 for the page
//! with the serial number.

use std::path::Path;

use super::links;
use crate::base::PciAddress;
use crate::host::SysRoot;
use crate::host::sys::SysError;

/// The most disks that are looked at.
pub const MAX_DISKS: usize = 512;
/// The longest text kept of what a disk says of itself.
const MAX_TEXT: usize = 128;
const BLOCK: &str = "/sys/block";

/// How a disk is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// ATA, also behind a SAS controller.
    Sata,
    /// SCSI by SAS.
    Sas,
    /// NVMe.
    Nvme,
    /// Behind a USB bridge.
    Usb,
    /// The host of a VM shows it; there is no disk behind it to ask.
    Virtio,
    /// A volume of a RAID controller, iSCSI, or something new.
    #[default]
    Other,
}

impl Transport {
    /// The word in views; empty when not known.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sata => "sata",
            Self::Sas => "sas",
            Self::Nvme => "nvme",
            Self::Usb => "usb",
            Self::Virtio => "virtio",
            Self::Other => "",
        }
    }
}

/// One disk.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Disk {
    /// The kernel's name.
    pub name: String,
    /// As the kernel has it, which cuts that of SCSI disks to 16 characters.
    pub model: String,
    /// Empty when the kernel does not know it.
    pub serial: String,
    /// World wide name, with its scheme: `naa.5000…`, `eui.0025…`.
    pub wwn: String,
    /// Bytes.
    pub size: Option<u64>,
    /// How it is connected.
    pub transport: Transport,
    /// Whether it spins.
    pub rotational: Option<bool>,
    /// Where it is plugged in; may be empty.
    pub slot: String,
    /// Degrees Celsius at which its own driver warns, and at which it is too much.
    pub limits: (Option<f64>, Option<f64>),
    /// Paths that lead to it or to a part of it.
    pub links: Vec<String>,
}

/// All disks, by name. What can be read of one is no reason to leave it out.
pub fn find(sys: &SysRoot) -> Result<Vec<Disk>, SysError> {
    let names = match sys.list(BLOCK) {
        Err(error) if error.is_missing() => Vec::new(),
        names => names?,
    };
    let wanted = names.into_iter().filter(|name| is_disk(name));
    let all = wanted.filter_map(|name| one(sys, &name)).take(MAX_DISKS);
    let mut disks: Vec<Disk> = all.collect();
    links::gather(sys, &mut disks);
    Ok(disks)
}

/// Whether the kernel has put it to sleep: to ask it is to wake it.
pub fn is_suspended(sys: &SysRoot, name: &str) -> bool {
    // An NVMe controller sleeps as a PCI function.
    ["device/power", "device/device/power"].iter().any(|place| {
        let status = text(sys, &format!("{BLOCK}/{name}/{place}/runtime_status"));
        matches!(status.as_str(), "suspended" | "suspending")
    })
}

/// Reads and writes that it has done. Our own questions do not count here.
pub fn traffic(sys: &SysRoot, name: &str) -> Option<(u64, u64)> {
    let text = sys.bytes(format!("{BLOCK}/{name}/stat"), 4096).ok()?;
    parse_traffic(&String::from_utf8_lossy(&text))
}

fn parse_traffic(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_ascii_whitespace();
    Some((fields.next()?.parse().ok()?, fields.nth(3)?.parse().ok()?))
}

/// `sda`, `nvme0n1`, `vda`; not what is made of others or of memory.
fn is_disk(name: &str) -> bool {
    let letters = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase());
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = name.strip_prefix("nvme") {
        // Paths of one that has several are `nvme0c1n1`.
        return rest.split_once('n').is_some_and(|(a, b)| digits(a) && digits(b));
    }
    name.len() <= 16 && ["sd", "vd"].iter().any(|kind| name.strip_prefix(kind).is_some_and(letters))
}

fn one(sys: &SysRoot, name: &str) -> Option<Disk> {
    let folder = format!("{BLOCK}/{name}");
    let at = |file: &str| text(sys, &format!("{folder}/{file}"));
    let size = at("size").parse::<u64>().ok().map(|sectors| sectors.saturating_mul(512));
    // A card reader without a card.
    if size == Some(0) {
        return None;
    }
    let path = sys.resolve(&folder).unwrap_or_default();
    let transport = transport(name, &path, &at("device/vendor"));
    let first = |files: &[&str]| {
        files.iter().map(|file| at(file)).find(|text| !text.is_empty()).unwrap_or_default()
    };
    let page = || sys.bytes(format!("{folder}/device/vpd_pg80"), 4096).unwrap_or_default();
    let mut serial = first(&["device/serial", "serial"]);
    if serial.is_empty() {
        serial = parse_serial_page(&page());
    }
    Some(Disk {
        name: name.to_owned(),
        model: at("device/model"),
        serial,
        wwn: first(&["wwid", "device/wwid"]),
        size,
        transport,
        rotational: match at("queue/rotational").as_str() {
            "1" => Some(true),
            "0" => Some(false),
            _ => None,
        },
        slot: slot(sys, &folder, &path, transport),
        limits: limits(sys, &folder),
        links: Vec::new(),
    })
}

/// A short text; empty when it cannot be read.
fn text(sys: &SysRoot, path: &str) -> String {
    sys.bytes(path, 4096).map(|bytes| clean(&bytes)).unwrap_or_default()
}

/// What a disk says of itself, made fit to be shown.
pub fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(MAX_TEXT).map(plain).collect()
}

/// The serial number of the vital product data: four bytes, the last two of
/// which are the length, then text.
fn parse_serial_page(page: &[u8]) -> String {
    let (Some(&[_, 0x80, high, low]), Some(rest)) = (page.first_chunk::<4>(), page.get(4..)) else {
        return String::new();
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    clean(rest.get(..length).unwrap_or(rest))
}

/// From the path of its device and its vendor, which is `ATA` for what is
/// translated from that.
fn transport(name: &str, path: &Path, vendor: &str) -> Transport {
    let has = |prefix: &str| parts(path).any(|part| numbered(part, prefix));
    if name.starts_with("nvme") {
        Transport::Nvme
    } else if name.starts_with("vd") || has("virtio") {
        Transport::Virtio
    } else if has("usb") {
        Transport::Usb
    } else if has("ata") || vendor == "ATA" {
        Transport::Sata
    } else if parts(path).any(|part| part.starts_with("end_device-")) {
        Transport::Sas
    } else {
        Transport::Other
    }
}

fn parts(path: &Path) -> impl DoubleEndedIterator<Item = &str> {
    path.iter().filter_map(|part| part.to_str())
}

/// Whether it is the prefix and a number.
fn numbered(part: &str, prefix: &str) -> bool {
    let number = part.strip_prefix(prefix).unwrap_or_default();
    !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

/// The place a person finds it at: an enclosure's slot, else its port.
fn slot(sys: &SysRoot, folder: &str, path: &Path, transport: Transport) -> String {
    let device = format!("{folder}/device");
    // A disk in an enclosure has a link to its place there.
    let names = sys.list(&device).unwrap_or_default();
    if let Some((link, name)) =
        names.iter().find_map(|n| Some((n, n.strip_prefix("enclosure_device:")?)))
    {
        let number = text(sys, &format!("{device}/{link}/slot"));
        return if number.is_empty() { clean(name.as_bytes()) } else { format!("slot {number}") };
    }
    if let Some(end) = parts(path).find(|part| part.starts_with("end_device-")) {
        let bay = text(sys, &format!("/sys/class/sas_device/{end}/bay_identifier"));
        let port = end.trim_start_matches("end_device-");
        return if bay.is_empty() { format!("SAS port {port}") } else { format!("bay {bay}") };
    }
    let port = || match transport {
        Transport::Sata => parts(path).find(|part| numbered(part, "ata")).map(str::to_owned),
        Transport::Usb => parts(path)
            .rfind(|part| part.contains('-') && part.bytes().all(|b| b"0123456789.-".contains(&b)))
            .map(|port| format!("USB {port}")),
        Transport::Sas | Transport::Nvme | Transport::Virtio | Transport::Other => None,
    };
    let function = || {
        let address = parts(path).rev().find_map(|part| part.parse::<PciAddress>().ok());
        address.map(|address| format!("PCI {address}"))
    };
    port().or_else(function).unwrap_or_default()
}

/// The limits that the disk has told its driver (`temp1_max`, `temp1_crit`).
fn limits(sys: &SysRoot, folder: &str) -> (Option<f64>, Option<f64>) {
    let device = format!("{folder}/device");
    let names = sys.list(&device).unwrap_or_default();
    let Some(chip) = names.iter().find(|name| numbered(name, "hwmon")) else {
        return (None, None);
    };
    let read = |file: &str| {
        let millis: i64 = text(sys, &format!("{device}/{chip}/{file}")).parse().ok()?;
        // Disks without a limit say 0, or one that nothing survives.
        (1_000..150_000).contains(&millis).then_some(millis as f64 / 1000.0)
    };
    (read("temp1_max"), read("temp1_crit"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn disks_are_what_has_a_surface_of_its_own() {
        let disks = ["sda", "sdaa", "vdb", "nvme0n1", "nvme10n2"];
        let others = [
            "sda1",
            "sr0",
            "loop0",
            "zd16",
            "dm-0",
            "md0",
            "ram1",
            "zram0",
            "nvme0c1n1",
            "nvme",
            "sd",
        ];
        assert!(disks.iter().all(|name| is_disk(name)));
        assert!(!others.iter().any(|name| is_disk(name)));
    }

    #[test]
    fn the_path_tells_the_transport() {
        let of = |name: &str, path: &str, vendor: &str| transport(name, Path::new(path), vendor);
        let ata = "/sys/devices/pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0/block/sda";
        assert_eq!(of("sda", ata, "ATA"), Transport::Sata);
        let sas = "/sys/devices/pci0000:00/0000:03:00.0/host0/port-0:3/end_device-0:3/\
                   target0:0:3/0:0:3:0/block/sdb";
        assert_eq!(of("sdb", sas, "SEAGATE"), Transport::Sas);
        assert_eq!(of("sdb", sas, "ATA"), Transport::Sata);
        let usb = "/sys/devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1.4/2-1.4:1.0/host6/block/sdc";
        assert_eq!(of("sdc", usb, "WD"), Transport::Usb);
        assert_eq!(
            of("sdd", "/sys/devices/pci0000:00/virtio2/host1/block/sdd", "QEMU"),
            Transport::Virtio
        );
        assert_eq!(
            of("sde", "/sys/devices/platform/host9/session1/block/sde", ""),
            Transport::Other
        );
    }

    #[test]
    fn counts_of_reads_and_writes() {
        let text = "  100 1 2 3  200 5 6 7 0 0 0\n";
        assert_eq!(parse_traffic(text), Some((100, 200)));
        assert_eq!(parse_traffic("100 1"), None);
    }

    proptest! {
        #[test]
        fn any_page_gives_a_short_plain_text(page in prop::collection::vec(any::<u8>(), 0..400)) {
            for bytes in [page.clone(), [vec![0, 0x80, 0, 20], page].concat()] {
                let serial = parse_serial_page(&bytes);
                prop_assert!(serial.chars().count() <= MAX_TEXT);
                prop_assert!(!serial.chars().any(char::is_control));
            }
        }
    }
}

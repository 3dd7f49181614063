//! Formats of a VM's devices and processors: USB, MAC, UUID, `0-3,8`, and texts
//! that end in QEMU's command line.

use super::formats::{Format, Size};
use super::types::UsbRef;
use crate::base::Bytes;

/// Highest number of a processor: more than any kernel is built for
/// (`NR_CPUS` in arch/x86/Kconfig).
pub const LAST_CPU: u32 = 8191;

/// `046d:c52b`.
pub struct UsbId;
impl Format for UsbId {
    type Value = UsbRef;
    const NAME: &'static str = "usb-id";
    const WANTED: &'static str = "a pair of USB vendor and product ids";
    const LIKE: &'static str = "it looks like 046d:c52b, as `lsusb` shows it";
    const EXAMPLE: &'static str = "046d:c52b";
    const PATTERN: &'static str = "^[0-9a-fA-F]{4}:[0-9a-fA-F]{4}$";

    fn read(text: &str) -> Option<UsbRef> {
        super::formats::PciId::read(text).map(|(vendor, product)| UsbRef::Id(vendor, product))
    }

    fn repair(text: &str) -> Option<String> {
        Some(text.trim().replace("0x", ""))
    }
}

/// `1-2.3`.
pub struct UsbPort;
impl Format for UsbPort {
    type Value = UsbRef;
    const NAME: &'static str = "usb-port";
    const WANTED: &'static str = "a USB port";
    const LIKE: &'static str =
        "it is the bus and the ports on the way, such as 1-2.3, as in /sys/bus/usb/devices";
    const EXAMPLE: &'static str = "1-2.3";
    const PATTERN: &'static str = "^[1-9][0-9]{0,2}-[1-9][0-9]{0,2}(\\.[1-9][0-9]{0,2}){0,6}$";

    fn read(text: &str) -> Option<UsbRef> {
        let number = |text: &str| {
            let good = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
            text.parse::<u8>().ok().filter(|_| good)
        };
        let (bus, path) = text.split_once('-')?;
        let ports = path.split('.').count();
        // Six tiers of hubs are all that USB has; one more costs nothing.
        let good = ports <= 7 && path.split('.').all(|port| number(port).is_some());
        good.then_some(())?;
        Some(UsbRef::Port { bus: number(bus)?, path: path.to_owned() })
    }
}

/// `046d:c52b` or `1-2.3`.
pub struct UsbName;
impl Format for UsbName {
    type Value = UsbRef;
    const NAME: &'static str = "usb-device";
    const WANTED: &'static str = "a USB device";
    const LIKE: &'static str = "name it by vendor and product, such as 046d:c52b, as `lsusb` \
        shows it, or by its port, such as 1-2.3";
    const EXAMPLE: &'static str = "046d:c52b";
    const PATTERN: &'static str =
        "^([0-9a-fA-F]{4}:[0-9a-fA-F]{4}|[1-9][0-9]{0,2}-[1-9][0-9.]{0,27})$";

    fn read(text: &str) -> Option<UsbRef> {
        UsbId::read(text).or_else(|| UsbPort::read(text))
    }

    fn repair(text: &str) -> Option<String> {
        UsbId::repair(text)
    }
}

/// `52:54:00:12:34:56`, of one machine.
pub struct Mac;
impl Format for Mac {
    type Value = [u8; 6];
    const NAME: &'static str = "mac";
    const WANTED: &'static str = "the hardware address of one network card";
    const LIKE: &'static str = "it looks like 52:54:00:12:34:56; its second digit is even, \
        because odd ones are addresses of groups";
    const EXAMPLE: &'static str = "52:54:00:12:34:56";
    const PATTERN: &'static str = "^[0-9a-fA-F][02468aceACE](:[0-9a-fA-F]{2}){5}$";

    fn read(text: &str) -> Option<[u8; 6]> {
        let mut out = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut out {
            let part = parts.next().filter(|p| p.len() == 2)?;
            part.bytes().all(|b| b.is_ascii_hexdigit()).then_some(())?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        let one = out[0].is_multiple_of(2) && out != [0; 6];
        (one && parts.next().is_none()).then_some(out)
    }

    fn repair(text: &str) -> Option<String> {
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let pairs: Vec<&str> = (0..6).filter_map(|i| digits.get(2 * i..2 * i + 2)).collect();
        (digits.len() == 12).then(|| pairs.join(":"))
    }
}

/// A hardware address as it is written.
pub fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// A USB device as it is written.
pub fn usb(device: &UsbRef) -> String {
    match device {
        UsbRef::Id(vendor, product) => format!("{vendor:04x}:{product:04x}"),
        UsbRef::Port { bus, path } => format!("{bus}-{path}"),
    }
}

/// `550e8400-e29b-41d4-a716-446655440000`, in small letters.
pub struct Uuid;
impl Format for Uuid {
    type Value = String;
    const NAME: &'static str = "uuid";
    const WANTED: &'static str = "a UUID";
    const LIKE: &'static str = "it looks like 550e8400-e29b-41d4-a716-446655440000 and is not all zeros; `uuidgen` makes one";
    const EXAMPLE: &'static str = "550e8400-e29b-41d4-a716-446655440000";
    const PATTERN: &'static str =
        "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$";

    fn read(text: &str) -> Option<String> {
        let parts: Vec<usize> = text.split('-').map(str::len).collect();
        let good = parts == [8, 4, 4, 4, 12]
            && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
            && text.bytes().any(|b| !matches!(b, b'0' | b'-'));
        good.then(|| text.to_ascii_lowercase())
    }

    fn repair(text: &str) -> Option<String> {
        let digits: String =
            text.trim_start_matches("urn:uuid:").chars().filter(char::is_ascii_hexdigit).collect();
        let ranges = [0..8, 8..12, 12..16, 16..20, 20..32];
        let parts: Option<Vec<&str>> = ranges.into_iter().map(|r| digits.get(r)).collect();
        (digits.len() == 32).then(|| parts.map(|p| p.join("-")))?
    }
}

/// `0-3,8`, in the order in which they are written.
pub struct CpuList;
impl Format for CpuList {
    type Value = Vec<u32>;
    const NAME: &'static str = "cpus";
    const WANTED: &'static str = "a list of processors";
    const LIKE: &'static str = "write numbers and ranges, such as 0-3,8";
    const EXAMPLE: &'static str = "0-3,8";
    const PATTERN: &'static str = "^[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*$";

    fn read(text: &str) -> Option<Vec<u32>> {
        let number = |text: &str| {
            let digits = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u32>().ok().filter(|n| digits && *n <= LAST_CPU)
        };
        let mut out = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            // Bounded: a text of a megabyte could name billions.
            let fits = first <= last && out.len() <= LAST_CPU as usize;
            out.extend(fits.then_some(first..=last)?);
        }
        Some(out)
    }

    fn repair(text: &str) -> Option<String> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        Some(text.replace("..", "-").replace(['–', ';'], "-"))
    }
}

/// `off`, or a power of two from 16M to 1G.
pub struct GlassSize;
impl Format for GlassSize {
    type Value = Option<Bytes>;
    const NAME: &'static str = "glass-size";
    const WANTED: &'static str = "a size for Looking Glass";
    const LIKE: &'static str = "it is `off`, or a power of two from 16M to 1G, such as 64M";
    const EXAMPLE: &'static str = "64M";
    const PATTERN: &'static str = "^(off|(16|32|64|128|256|512)M(iB)?|1G(iB)?)$";

    fn read(text: &str) -> Option<Option<Bytes>> {
        if text == "off" {
            return Some(None);
        }
        let exact = text.trim_end_matches("iB");
        let known = ["16M", "32M", "64M", "128M", "256M", "512M", "1G"].contains(&exact);
        Size::read(text).filter(|_| known).map(Some)
    }

    fn repair(text: &str) -> Option<String> {
        let bytes = Size::read(text).or_else(|| Size::repair(text)?.parse().ok())?;
        let whole = bytes.0.checked_next_power_of_two()?.clamp(16 << 20, 1 << 30);
        Some(if whole == 1 << 30 { "1G".to_owned() } else { format!("{}M", whole >> 20) })
    }
}

/// Longest text of SMBIOS that guests read without trouble.
const SHORT: usize = 64;

/// A text of SMBIOS.
pub struct ShortText;
impl Format for ShortText {
    type Value = String;
    const NAME: &'static str = "short-text";
    const WANTED: &'static str = "a short text";
    const LIKE: &'static str = "write 1 to 64 printable ASCII characters";
    const EXAMPLE: &'static str = "MS-7C02";
    const PATTERN: &'static str = "^[ -~]{1,64}$";

    fn read(text: &str) -> Option<String> {
        let good = text.bytes().all(|b| matches!(b, b' '..=b'~'));
        (good && (1..=SHORT).contains(&text.len())).then(|| text.to_owned())
    }
}

/// Longest argument.
const ARGUMENT: usize = 4096;

/// One argument of a command.
pub struct Argument;
impl Format for Argument {
    type Value = String;
    const NAME: &'static str = "argument";
    const WANTED: &'static str = "an argument";
    const LIKE: &'static str =
        "write at most 4096 bytes without control characters; \"\" is an empty one";
    const EXAMPLE: &'static str = "-device";
    const PATTERN: &'static str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

    fn read(text: &str) -> Option<String> {
        let good = text.len() <= ARGUMENT && !text.contains(char::is_control);
        good.then(|| text.to_owned())
    }
}

/// As a disk tells it: QEMU's virtio-blk has room for 20 bytes
/// (`VIRTIO_BLK_ID_BYTES`).
pub struct DiskSerial;
impl Format for DiskSerial {
    type Value = String;
    const NAME: &'static str = "disk-serial";
    const WANTED: &'static str = "a disk's serial number";
    const LIKE: &'static str = "1 to 20 letters, digits, `.`, `_` and `-`";
    const EXAMPLE: &'static str = "games-1";
    const PATTERN: &'static str = "^[A-Za-z0-9._-]{1,20}$";

    fn read(text: &str) -> Option<String> {
        let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        (good && (1..=20).contains(&text.len())).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read() {
        assert_eq!(UsbName::read("046D:c52b"), Some(UsbRef::Id(0x046d, 0xc52b)));
        let port = UsbRef::Port { bus: 1, path: "2.3".to_owned() };
        assert_eq!(UsbName::read("1-2.3"), Some(port));
        for wrong in ["1-", "1-0", "0-1", "1-2.", "256-1", "1-1.1.1.1.1.1.1.1", "+1-1", "46d:c52b"]
        {
            assert_eq!(UsbName::read(wrong), None, "{wrong}");
        }
        assert_eq!(Mac::read("52:54:00:AB:cd:ef").map(mac).unwrap(), "52:54:00:ab:cd:ef");
        for wrong in ["53:54:00:00:00:01", "00:00:00:00:00:00", "52:54:00:00:00", "52:54:0:0:0:01"]
        {
            assert_eq!(Mac::read(wrong), None, "{wrong}");
        }
        assert_eq!(Uuid::read("00000000-0000-0000-0000-000000000000"), None);
    }

    #[test]
    fn processors_are_read_in_their_order() {
        assert_eq!(CpuList::read("8,0-2").unwrap(), [8, 0, 1, 2]);
        for wrong in ["", "3-1", "1,,2", "8192", "1-", "-1", "a", "1 2"] {
            assert_eq!(CpuList::read(wrong), None, "{wrong}");
        }
        let hostile = "0-8191,".repeat(10_000) + "0";
        assert_eq!(CpuList::read(&hostile), None);
    }

    #[test]
    fn slips_are_repaired() {
        assert_eq!(Mac::repair("52-54-00-12-34-56").as_deref(), Some("52:54:00:12:34:56"));
        assert_eq!(
            Uuid::repair("{550e8400e29b41d4a716446655440000}").as_deref(),
            Some("550e8400-e29b-41d4-a716-446655440000")
        );
        assert_eq!(CpuList::repair("0 - 3").as_deref(), Some("0-3"));
        assert_eq!(GlassSize::repair("48M").as_deref(), Some("64M"));
        assert_eq!(GlassSize::repair("64").as_deref(), Some("64M"));
    }
}

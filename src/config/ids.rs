//! Which functions something is about: ids, ranges of ids and classes, as
//! quirk files write them, and the one sentence that says why.

use std::fmt;

use super::formats::{Format, Size};
use super::types::ResizableBar;

/// Ids of one vendor: one, a range, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciIds {
    /// Vendor.
    pub vendor: u16,
    /// First device.
    pub first: u16,
    /// Last device, itself included.
    pub last: u16,
}

impl PciIds {
    /// Whether an id is among them.
    pub fn has(self, (vendor, device): (u16, u16)) -> bool {
        vendor == self.vendor && (self.first..=self.last).contains(&device)
    }
}

impl fmt::Display for PciIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (0, u16::MAX) => write!(f, "{:04x}:*", self.vendor),
            (one, same) if one == same => write!(f, "{:04x}:{one:04x}", self.vendor),
            (first, last) => write!(f, "{:04x}:{first:04x}-{last:04x}", self.vendor),
        }
    }
}

fn hex(text: &str, digits: usize) -> Option<u32> {
    let good = text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
    good.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn id(text: &str) -> Option<u16> {
    hex(text, 4).and_then(|id| u16::try_from(id).ok())
}

/// `keep`, `max`, `16G`.
pub struct BarSize;
impl Format for BarSize {
    type Value = ResizableBar;
    const NAME: &'static str = "bar-size";
    const WANTED: &'static str = "a BAR's size";
    const LIKE: &'static str = "it is `keep`, `max`, or a power of two from 1M, such as 16G";
    const EXAMPLE: &'static str = "max";
    const PATTERN: &'static str = "^(keep|max|[0-9]+[MGT](iB)?)$";

    fn read(text: &str) -> Option<ResizableBar> {
        match text {
            "keep" => Some(ResizableBar::Keep),
            "max" => Some(ResizableBar::Max),
            size if size.contains(['K', 'P']) => None,
            size => Size::read(size)
                .filter(|size| size.0.is_power_of_two() && size.0 >= 1 << 20)
                .map(ResizableBar::Size),
        }
    }

    fn repair(text: &str) -> Option<String> {
        Size::repair(text)
    }
}

/// `1002:67c0-67df`.
pub struct IdRange;
impl Format for IdRange {
    type Value = PciIds;
    const NAME: &'static str = "pci-ids";
    const WANTED: &'static str = "a vendor with device ids";
    const LIKE: &'static str = "it looks like 1002:67df, 1002:67c0-67df or 1002:*";
    const EXAMPLE: &'static str = "1002:67c0-67df";
    const PATTERN: &'static str = "^[0-9a-fA-F]{4}:([0-9a-fA-F]{4}(-[0-9a-fA-F]{4})?|\\*)$";

    fn read(text: &str) -> Option<PciIds> {
        let (vendor, devices) = text.split_once(':')?;
        let (first, last) = match devices.split_once('-') {
            _ if devices == "*" => (0, u16::MAX),
            Some((first, last)) => (id(first)?, id(last)?),
            None => (id(devices)?, id(devices)?),
        };
        (first <= last).then_some(PciIds { vendor: id(vendor)?, first, last })
    }

    fn repair(text: &str) -> Option<String> {
        let text = text.trim_matches(['[', ']', ' ']).replace("0x", "").replace(['–', '—'], "-");
        // A vendor alone, and a range with its vendor twice.
        let Some((vendor, devices)) = text.split_once(':') else { return Some(text + ":*") };
        let (first, last) = devices.split_once('-').unwrap_or((devices, ""));
        let last = last.strip_prefix(&format!("{vendor}:")).unwrap_or(last);
        match (last, first < last) {
            ("", _) => Some(format!("{vendor}:{first}")),
            (_, true) => Some(format!("{vendor}:{first}-{last}")),
            (_, false) => Some(format!("{vendor}:{last}-{first}")),
        }
    }
}

/// A class, or all that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PciClass {
    value: u32,
    /// Bits of the 24 that are not given.
    open: u32,
}

impl PciClass {
    /// Whether a class code of 24 bits begins like this.
    pub fn has(self, class: u32) -> bool {
        class >> self.open == self.value
    }
}

impl fmt::Display for PciClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = 6 - self.open as usize / 4;
        write!(f, "{:0digits$x}", self.value)
    }
}

/// `0300`.
pub struct ClassCode;
impl Format for ClassCode {
    type Value = PciClass;
    const NAME: &'static str = "pci-class";
    const WANTED: &'static str = "a PCI class";
    const LIKE: &'static str =
        "a class has two, four or six hexadecimal digits, such as \"03\" for all displays";
    const EXAMPLE: &'static str = "0c03";
    const PATTERN: &'static str = "^([0-9a-fA-F]{2}){1,3}$";

    fn read(text: &str) -> Option<PciClass> {
        let open = match text.len() {
            2 => 16,
            4 => 8,
            6 => 0,
            _ => return None,
        };
        Some(PciClass { value: hex(text, text.len())?, open })
    }

    fn repair(text: &str) -> Option<String> {
        Some(text.trim_start_matches("0x").to_owned())
    }
}

/// Longest sentence, in bytes.
const SENTENCE: usize = 400;

/// A sentence for a person.
pub struct Sentence;
impl Format for Sentence {
    type Value = String;
    const NAME: &'static str = "sentence";
    const WANTED: &'static str = "a sentence";
    const LIKE: &'static str = "write one sentence, at most 400 bytes, without control characters";
    const EXAMPLE: &'static str = "it stays dead after the guest has ended";
    const PATTERN: &'static str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

    fn read(text: &str) -> Option<String> {
        let text = text.trim();
        let good = !text.is_empty() && text.len() <= SENTENCE && !text.contains(char::is_control);
        good.then(|| text.to_owned())
    }

    fn repair(text: &str) -> Option<String> {
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ranges_and_classes() {
        let polaris = IdRange::read("1002:67C0-67df").unwrap();
        assert!(polaris.has((0x1002, 0x67df)) && !polaris.has((0x1002, 0x67e0)));
        assert!(!polaris.has((0x10de, 0x67df)));
        for text in ["1002:67c0-67df", "1002:6649", "10de:*"] {
            assert_eq!(IdRange::read(text).unwrap().to_string(), text);
        }
        for text in ["03", "0300", "0c0330"] {
            assert_eq!(ClassCode::read(text).unwrap().to_string(), text);
        }
        assert!(ClassCode::read("0c03").unwrap().has(0x0c_0330));
        assert!(!ClassCode::read("0c03").unwrap().has(0x0c_8000));
        for wrong in ["1002", "1002:", "1002:67df-67c0", "1002:67c", "+002:67c0", ":*", "x:*"] {
            assert!(IdRange::read(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn slips_are_repaired() {
        let ids = |text| IdRange::repair(text).filter(|better| IdRange::read(better).is_some());
        assert_eq!(ids("0x1002:0x67df").as_deref(), Some("1002:67df"));
        assert_eq!(ids("1002").as_deref(), Some("1002:*"));
        assert_eq!(ids("1002:67df-67c0").as_deref(), Some("1002:67c0-67df"));
        assert_eq!(ids("1002:67c0–1002:67df").as_deref(), Some("1002:67c0-67df"));
        assert_eq!(ids("lots"), None);
    }
}

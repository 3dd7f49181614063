//! Attributes of sysfs and procfs, as text and bytes, into values.

/// A hexadecimal attribute: `0x1002`.
pub fn hex(text: &str) -> Option<u32> {
    let digits = text.trim().strip_prefix("0x")?;
    // `from_str_radix` alone would take a sign.
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// A hexadecimal attribute of 16 bits.
pub fn hex16(text: &str) -> Option<u16> {
    hex(text).and_then(|value| u16::try_from(value).ok())
}

/// `boot_vga`: `0` or `1`.
pub fn flag(text: &str) -> Option<bool> {
    match text.trim() {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

/// `driver_override`: the kernel prints `(null)` for none.
pub fn driver_override(text: &str) -> Option<String> {
    match text.trim() {
        "" | "(null)" => None,
        name => Some(name.to_owned()),
    }
}

/// What a driver may be called, so that it is safe in a sysfs path.
pub fn is_driver_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= 128
        && !name.chars().any(|c| c == '/' || c.is_control())
}

/// What a function is, as one attribute says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// Vendor and device.
    pub id: (u16, u16),
    /// Subsystem vendor and device.
    pub subsystem: (u16, u16),
    /// 24 bits.
    pub class: u32,
}

/// `modalias`: `pci:v00001002d000067DFsv00001DA2sd0000E353bc03sc00i00`
/// (`modalias_show` in the kernel's `drivers/pci/pci-sysfs.c`).
pub fn modalias(text: &str) -> Option<Ids> {
    let mut rest = text.trim_end().strip_prefix("pci:")?;
    let mut next = |key: &str, digits: usize| {
        let (value, after) = rest.strip_prefix(key)?.split_at_checked(digits)?;
        let plain = value.bytes().all(|b| b.is_ascii_hexdigit());
        rest = after;
        plain.then(|| u32::from_str_radix(value, 16).ok()).flatten()
    };
    let vendor = next("v", 8)?.try_into().ok()?;
    let device = next("d", 8)?.try_into().ok()?;
    let subsystem = (next("sv", 8)?.try_into().ok()?, next("sd", 8)?.try_into().ok()?);
    let class = next("bc", 2)? << 16 | next("sc", 2)? << 8 | next("i", 2)?;
    rest.is_empty().then_some(Ids { id: (vendor, device), subsystem, class })
}

/// One line of `resource`: a BAR, the ROM, a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// Which line: 0–5 are BARs, 6 is the ROM.
    pub index: u8,
    /// Where it begins.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// As the kernel's `include/linux/ioport.h` has them.
    pub flags: u64,
}

impl Resource {
    /// Ports, not memory.
    pub fn is_io(self) -> bool {
        self.flags & 0x100 != 0
    }

    /// May lie above 4 GiB.
    pub fn is_64_bit(self) -> bool {
        self.flags & 0x10_0000 != 0
    }

    /// Reading it changes nothing.
    pub fn is_prefetchable(self) -> bool {
        self.flags & 0x2000 != 0
    }

    /// The ROM is the copy that the firmware left at 0xC0000.
    pub fn is_shadow(self) -> bool {
        self.index == ROM && self.flags & 0x2 != 0
    }
}

/// The line of `resource` that is the ROM.
pub const ROM: u8 = 6;

/// `resource`: a line of start, end and flags each. Empty ones are left out;
/// `None` when a line is something else.
pub fn resources(text: &str) -> Option<Vec<Resource>> {
    let mut found = Vec::new();
    for (index, line) in (0..=u8::MAX).zip(text.lines()) {
        let [start, end, flags] = numbers(line)?;
        if flags != 0 && end >= start && end != 0 {
            let size = (end - start).checked_add(1)?;
            found.push(Resource { index, start, size, flags });
        }
    }
    Some(found)
}

fn numbers<const N: usize>(line: &str) -> Option<[u64; N]> {
    let mut words = line.split_ascii_whitespace();
    let mut found = [0; N];
    for place in &mut found {
        *place = wide(words.next()?)?;
    }
    words.next().is_none().then_some(found)
}

/// A hexadecimal number of 64 bits.
fn wide(word: &str) -> Option<u64> {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let plain = (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// `resourceN_resize`: a bitmap of sizes, bit n is 2^(n+20) bytes.
pub fn sizes(text: &str) -> Option<Vec<u64>> {
    let bits = wide(text.trim())?;
    Some((0..43).filter(|bit| bits >> bit & 1 == 1).map(|bit| 1 << (bit + 20)).collect())
}

/// `current_link_speed`: `8.0 GT/s PCIe`, without the last word.
pub fn link_speed(text: &str) -> Option<String> {
    let speed = text.trim().trim_end_matches(" PCIe");
    let number = speed.strip_suffix(" GT/s")?;
    let plain = number.len() <= 8 && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (plain && !number.is_empty()).then(|| speed.to_owned())
}

/// Names in a line, `reset_method`: at most a dozen, of plain letters.
pub fn words(text: &str) -> Option<Vec<String>> {
    let plain = |word: &str| {
        word.len() <= 32
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let good = words.len() <= 12 && words.iter().all(|word| plain(word));
    good.then(|| words.into_iter().map(str::to_owned).collect())
}

/// A region that a group's devices may not have mapped for a guest, or that
/// firmware wants mapped as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// Last address.
    pub end: u64,
    /// `direct`, `direct-relaxable`, `reserved`, `msi`.
    pub kind: String,
}

/// `reserved_regions`: first address, last address and kind on a line each
/// (`Documentation/ABI/testing/sysfs-kernel-iommu_groups`).
pub fn regions(text: &str) -> Option<Vec<Region>> {
    let line = |line: &str| {
        let (range, kind) = line.trim().rsplit_once(' ')?;
        let [start, end] = numbers(range)?;
        let [kind] = <[String; 1]>::try_from(words(kind)?).ok()?;
        (start <= end).then_some(Region { start, end, kind })
    };
    text.lines().map(line).collect()
}

/// Who made the processor, as far as the IOMMU depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// VT-d.
    Intel,
    /// AMD-Vi; Hygon too.
    Amd,
    /// Somebody else, or not to be told.
    Other,
}

/// The processor's maker, and whether this is itself a virtual machine, from
/// the first processor in `/proc/cpuinfo`.
pub fn cpu(cpuinfo: &str) -> (Maker, bool) {
    let mut maker = Maker::Other;
    let mut guest = false;
    for line in cpuinfo.lines().take_while(|line| !line.trim().is_empty()) {
        let Some((key, value)) = line.split_once(':') else { continue };
        match (key.trim(), value.trim()) {
            ("vendor_id", "GenuineIntel") => maker = Maker::Intel,
            ("vendor_id", "AuthenticAMD" | "HygonGenuine") => maker = Maker::Amd,
            ("flags", flags) => guest = flags.split(' ').any(|flag| flag == "hypervisor"),
            _ => {}
        }
    }
    (maker, guest)
}

/// The words of a kernel command line; double quotes keep spaces together, and
/// stay (Linux, lib/cmdline.c, `next_arg`).
pub fn cmdline_words(cmdline: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    cmdline
        .split(move |c: char| {
            quoted ^= c == '"';
            c.is_ascii_whitespace() && !quoted
        })
        .filter(|word| !word.is_empty())
}

/// The words given to a kernel parameter, all of them: it may be repeated, and
/// its value may be a list.
pub fn parameter<'a>(cmdline: &'a str, name: &str) -> Vec<&'a str> {
    cmdline_words(cmdline)
        .filter_map(|word| word.trim_matches('"').strip_prefix(name)?.strip_prefix('='))
        .flat_map(|value| value.trim_matches('"').split(','))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        assert_eq!(hex16("0x1002\n"), Some(0x1002));
        assert_eq!(hex("0x030000"), Some(0x03_0000));
        assert_eq!(driver_override("(null)\n"), None);
        assert_eq!(driver_override("vfio-pci\n"), Some("vfio-pci".into()));
    }

    #[test]
    fn refuses_rubbish() {
        for text in ["", "0x", "1002", "0x+1", "0x123456789", "0xg"] {
            assert_eq!(hex(text), None, "{text}");
        }
        assert_eq!(hex16("0x12345"), None);
        assert!(!is_driver_name("..") && !is_driver_name("a/b") && is_driver_name("xhci_hcd"));
    }

    #[test]
    fn reads_a_function_from_one_line() {
        let line = "pci:v00001002d000067DFsv00001DA2sd0000E353bc03sc00i00\n";
        let ids = Ids { id: (0x1002, 0x67df), subsystem: (0x1da2, 0xe353), class: 0x03_0000 };
        assert_eq!(modalias(line), Some(ids));
        for bad in [&line[..20], "usb:v1002", &line.replace("v0000", "v0001"), "pci:v+0001002"] {
            assert_eq!(modalias(bad), None, "{bad}");
        }
        assert_eq!(modalias(&line.replace('\n', "x")), None);
    }

    #[test]
    fn reads_bars_links_and_regions() {
        let text = "0x000000e0000000 0x000000efffffff 0x000000000014220c\n\
                    0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
                    0x000000000000e000 0x000000000000e0ff 0x0000000000040101\n";
        let found = resources(text).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].is_64_bit() && found[0].is_prefetchable() && !found[0].is_io());
        assert_eq!((found[0].size, found[1].index, found[1].size), (256 << 20, 2, 256));
        assert!(found[1].is_io());
        assert_eq!(resources("0x1 0x2"), None);
        assert_eq!(resources("0x0 0xffffffffffffffff 0x200"), None);
        assert_eq!(sizes("0000000000007f00\n").unwrap().first(), Some(&(256 << 20)));
        assert_eq!(link_speed("16.0 GT/s PCIe\n").as_deref(), Some("16.0 GT/s"));
        assert_eq!((link_speed("Unknown"), link_speed(" GT/s")), (None, None));
        assert_eq!(words("flr bus\n").unwrap(), ["flr", "bus"]);
        assert_eq!((words("\n"), words("../x")), (Some(Vec::new()), None));
        let text = "0x00000000fee00000 0x00000000feefffff msi\n0x7b800000 0x7fffffff direct\n";
        let found = regions(text).unwrap();
        assert_eq!((found[0].kind.as_str(), found[1].start), ("msi", 0x7b80_0000));
        assert_eq!(regions("0x2 0x1 direct"), None);
        assert_eq!(regions("direct"), None);
    }

    #[test]
    fn reads_processors_and_parameters() {
        let text = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor svm\n\n\
                    processor\t: 1\nvendor_id\t: GenuineIntel\n";
        assert_eq!(cpu(text), (Maker::Amd, true));
        assert_eq!(cpu(""), (Maker::Other, false));
        let line = "quiet intel_iommu=on,sm_on iommu=pt xintel_iommu=off intel_iommu=off";
        assert_eq!(parameter(line, "intel_iommu"), ["on", "sm_on", "off"]);
        let line = "x=\"a iommu=off\" \"iommu=pt\" iommu=\"a,b\"";
        assert_eq!(parameter(line, "iommu"), ["pt", "a", "b"], "quotes are the kernel's");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,80}") {
            let _ = (hex(&text), cpu(&text), flag(&text), driver_override(&text));
            let _ = (modalias(&text), resources(&text), regions(&text), link_speed(&text));
            let _ = (sizes(&text), words(&text), parameter(&text, "iommu"));
            assert!(cmdline_words(&text).all(|word| !word.is_empty()));
        }
    }
}

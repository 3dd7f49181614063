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

/// Header type from config space, without the multi-function bit; `None` when
/// it is too short or the function does not answer (all ones).
pub fn header_type(config: &[u8]) -> Option<u8> {
    let header = *config.get(0x0e)?;
    let answers = config.get(0..2).is_some_and(|vendor| vendor != [0xff, 0xff]);
    answers.then_some(header & 0x7f)
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

/// The words given to a kernel parameter, all of them: it may be repeated, and
/// its value may be a list.
pub fn parameter<'a>(cmdline: &'a str, name: &str) -> Vec<&'a str> {
    cmdline
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .flat_map(|value| value.split(','))
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
    fn a_function_that_does_not_answer_has_no_header_type() {
        assert_eq!(header_type(&[0xff; 64]), None);
        let mut config = [0; 64];
        config[0x0e] = 0x81;
        assert_eq!(header_type(&config), Some(1));
        assert_eq!(header_type(&config[..8]), None);
    }

    #[test]
    fn reads_processors_and_parameters() {
        let text = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu hypervisor svm\n\n\
                    processor\t: 1\nvendor_id\t: GenuineIntel\n";
        assert_eq!(cpu(text), (Maker::Amd, true));
        assert_eq!(cpu(""), (Maker::Other, false));
        let line = "quiet intel_iommu=on,sm_on iommu=pt xintel_iommu=off intel_iommu=off";
        assert_eq!(parameter(line, "intel_iommu"), ["on", "sm_on", "off"]);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = (hex(&text), cpu(&text), flag(&text), driver_override(&text));
            let _ = (header_type(&bytes), parameter(&text, "iommu"));
        }
    }
}

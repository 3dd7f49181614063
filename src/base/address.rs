//! PCI addresses as the kernel writes them in sysfs: `dddd:bb:dd.f`.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Domain, bus, device and function of one PCI function.
///
/// Ordered as `lspci` orders. The domain is 32 bits wide because the kernel
/// gives domains above 0xffff to controllers behind Intel VMD.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    /// PCI domain (segment).
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device number, 0–31.
    pub device: u8,
    /// Function number, 0–7.
    pub function: u8,
}

impl PciAddress {
    /// The same slot, another function.
    #[must_use]
    pub fn with_function(self, function: u8) -> Self {
        Self { function, ..self }
    }

    /// Whether both are functions of one slot.
    pub fn same_slot(self, other: Self) -> bool {
        (self.domain, self.bus, self.device) == (other.domain, other.bus, other.device)
    }
}

/// A text that is not a PCI address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a PCI address; one looks like 0000:01:00.0")]
pub struct BadAddress(pub String);

impl FromStr for PciAddress {
    type Err = BadAddress;

    /// Reads `0000:01:00.0`, and `01:00.0` as people copy it from `lspci`.
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        parse(text).ok_or_else(|| BadAddress(text.chars().take(40).collect()))
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (rest, function) = text.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = rest.split_once(':').unwrap_or(("0000", rest));
    let address = PciAddress {
        domain: hex(domain, 4, 8)?,
        bus: hex(bus, 2, 2)?.try_into().ok()?,
        device: hex(device, 2, 2)?.try_into().ok()?,
        function: hex(function, 1, 1)?.try_into().ok()?,
    };
    (address.device < 32 && address.function < 8).then_some(address)
}

/// Hexadecimal digits only: `from_str_radix` alone would take a sign.
fn hex(text: &str, min: usize, max: usize) -> Option<u32> {
    let digits = text.len() >= min && text.len() <= max;
    (digits && text.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl fmt::Debug for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for PciAddress {
    type Error = BadAddress;

    fn try_from(text: String) -> Result<Self, BadAddress> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_long_short_and_vmd_forms() {
        let long: PciAddress = "0000:01:00.1".parse().unwrap();
        assert_eq!(long, "01:00.1".parse().unwrap());
        assert_eq!("10000:e1:00.0".parse::<PciAddress>().unwrap().domain, 0x10000);
    }

    #[test]
    fn refuses_what_the_kernel_never_writes() {
        for text in ["", "0000:01:00", "0000:01:20.0", "0000:01:00.8", "+000:01:00.0", "0:1:0.0"] {
            assert!(text.parse::<PciAddress>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(domain: u32, bus: u8, device in 0u8..32, function in 0u8..8) {
            let address = PciAddress { domain, bus, device, function };
            prop_assert_eq!(address.to_string().parse::<PciAddress>().unwrap(), address);
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = text.parse::<PciAddress>();
        }
    }
}

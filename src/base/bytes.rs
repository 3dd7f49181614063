//! Sizes with binary units, as QEMU and ZFS read them: `16G` is 16 × 2^30.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A number of bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

const UNITS: [(char, u32); 5] = [('K', 10), ('M', 20), ('G', 30), ('T', 40), ('P', 50)];

impl Bytes {
    /// Whole mebibytes, rounded down.
    pub fn mib(self) -> u64 {
        self.0 >> 20
    }
}

/// A text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; one looks like 16G or 512M (K, M, G, T, P are powers of 1024)")]
pub struct BadBytes(pub String);

impl FromStr for Bytes {
    type Err = BadBytes;

    /// A whole number with one optional unit: `512`, `512M`, `16G`, `16GiB`.
    fn from_str(text: &str) -> Result<Self, BadBytes> {
        let bad = || BadBytes(text.chars().take(40).collect());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let shift = match unit.strip_suffix("iB").unwrap_or(unit) {
            "" if unit.is_empty() => 0,
            one => UNITS
                .iter()
                .find(|(letter, _)| one.chars().eq([*letter]))
                .map(|(_, shift)| *shift)
                .ok_or_else(bad)?,
        };
        number.checked_mul(1 << shift).map(Bytes).ok_or_else(bad)
    }
}

impl fmt::Display for Bytes {
    /// One decimal below ten units, none above: `1.5G`, `353M`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().rev().find(|(_, shift)| self.0 >> shift > 0);
        let Some((letter, shift)) = unit else { return write!(f, "{}B", self.0) };
        let value = self.0 as f64 / (1u64 << shift) as f64;
        if value < 9.95 && value.fract() >= 0.05 {
            write!(f, "{value:.1}{letter}")
        } else {
            write!(f, "{value:.0}{letter}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_units() {
        assert_eq!("512".parse(), Ok(Bytes(512)));
        assert_eq!("16G".parse(), Ok(Bytes(16 << 30)));
        assert_eq!("2GiB".parse(), Ok(Bytes(2 << 30)));
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "G", "16 GB", "16GB", "1.5G", "-1", "iB", "16X", "99999999P"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn prints_short() {
        assert_eq!(Bytes(1536 << 20).to_string(), "1.5G");
        assert_eq!(Bytes(353 << 20).to_string(), "353M");
        assert_eq!(Bytes(0).to_string(), "0B");
    }
}

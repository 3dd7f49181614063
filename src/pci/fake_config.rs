//! Config spaces of made-up functions, for tests, benchmarks and fuzzing.

use super::config_space::{CONVENTIONAL, WHOLE};

/// A config space in the making.
#[derive(Debug, Clone)]
pub struct FakeConfig {
    bytes: Vec<u8>,
}

impl FakeConfig {
    /// A conventional PCI function.
    pub fn conventional() -> Self {
        let mut bytes = vec![0; CONVENTIONAL];
        bytes[..4].copy_from_slice(&[0x86, 0x80, 0x0e, 0x10]);
        Self { bytes }
    }

    /// A PCI Express function of this port type (bits 7:4 of its flags).
    pub fn express(port: u8) -> Self {
        let mut fake = Self::conventional();
        fake.bytes.resize(WHOLE, 0);
        fake.bytes[0x06] = 0x10;
        fake.bytes[0x34] = 0x40;
        // Power management first, so that the list has to be walked.
        fake.bytes[0x40..0x42].copy_from_slice(&[0x01, 0x50]);
        fake.bytes[0x50..0x53].copy_from_slice(&[0x10, 0x00, port << 4 | 0x2]);
        // Advanced error reporting, version 2, and nothing after it.
        fake.bytes[0x100..0x104].copy_from_slice(&0x0002_0001_u32.to_le_bytes());
        fake
    }

    /// A device.
    pub fn endpoint() -> Self {
        Self::express(0)
    }

    /// A root port.
    pub fn root_port() -> Self {
        Self::express(4).bridge()
    }

    /// The upper side of a switch.
    pub fn upstream() -> Self {
        Self::express(5).bridge()
    }

    /// A lower side of a switch.
    pub fn downstream() -> Self {
        Self::express(6).bridge()
    }

    /// A header of a bridge.
    #[must_use]
    pub fn bridge(mut self) -> Self {
        self.bytes[0x0e] |= 1;
        self
    }

    /// One function of several.
    #[must_use]
    pub fn multifunction(mut self) -> Self {
        self.bytes[0x0e] |= 0x80;
        self
    }

    /// Vendor and device id.
    #[must_use]
    pub fn id(mut self, vendor: u16, device: u16) -> Self {
        self.bytes[..2].copy_from_slice(&vendor.to_le_bytes());
        self.bytes[2..4].copy_from_slice(&device.to_le_bytes());
        self
    }

    /// An ACS capability, after the error reporting one.
    #[must_use]
    pub fn acs(mut self, offered: u16, enabled: u16) -> Self {
        self.bytes[0x100..0x104].copy_from_slice(&(0x0002_0001_u32 | 0x148 << 20).to_le_bytes());
        self.bytes[0x148..0x14c].copy_from_slice(&0x0001_000d_u32.to_le_bytes());
        self.bytes[0x14c..0x14e].copy_from_slice(&offered.to_le_bytes());
        self.bytes[0x14e..0x150].copy_from_slice(&enabled.to_le_bytes());
        self
    }

    /// The bytes.
    pub fn bytes(self) -> Vec<u8> {
        self.bytes
    }
}

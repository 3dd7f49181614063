//! USB devices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Name;

/// `hostctl usb list`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct UsbView {
    /// In the order of their ports, without hubs.
    pub devices: Vec<UsbDeviceView>,
    /// What could not be read.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A device that is plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsbDeviceView {
    /// Vendor and product: `046d:c52b`.
    pub id: String,
    /// Bus and the way through its hubs: `1-2.3`.
    pub port: String,
    /// What it says that it is.
    pub name: String,
    /// Its serial number.
    pub serial: Option<String>,
    /// Drivers of the host that have it; `usbfs` is a program, as QEMU is one.
    pub drivers: Vec<String>,
    /// The VM that has it; null also when no daemon was asked.
    pub used_by: Option<Name>,
}

//! One thing done to the machine. Each can be read back.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::screen::Framebuffer;
use super::settings::Attribute;
use crate::base::PciAddress;

/// The driver that hands a function to a guest.
pub const VFIO: &str = "vfio-pci";

/// One thing done to the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Step {
    /// Load a module so that a driver is there.
    Load {
        /// For `modprobe`.
        module: String,
        /// What must be there afterwards.
        driver: String,
    },
    /// End a unit of systemd: the display manager.
    Stop {
        /// Which.
        unit: String,
    },
    /// Start it again.
    Start {
        /// Which.
        unit: String,
    },
    /// Wait until no process uses the card any more.
    Vacate {
        /// Its functions.
        functions: Vec<PciAddress>,
    },
    /// Take a virtual console off the framebuffer, or put it back.
    Console {
        /// `N` of `vtconN`.
        console: u8,
        /// Whether it is on it afterwards.
        on: bool,
    },
    /// Take the firmware's framebuffer from its driver.
    Framebuffer(Framebuffer),
    /// Say which driver alone may take a function.
    Override {
        /// Which function.
        function: PciAddress,
        /// The driver; `None` lifts the restriction.
        to: Option<String>,
    },
    /// Take a function from its driver.
    Unbind {
        /// Which function.
        function: PciAddress,
        /// Its driver: if it is another by then, the kernel refuses.
        from: String,
    },
    /// Set an attribute of a function.
    Set {
        /// Which function.
        function: PciAddress,
        /// Which attribute.
        attribute: Attribute,
        /// To what.
        to: String,
    },
    /// Give a function time after a reset.
    Wait {
        /// Which function.
        function: PciAddress,
        /// How long.
        milliseconds: u64,
    },
    /// Let the kernel bind a function by its override, to vfio-pci.
    Probe {
        /// Which function.
        function: PciAddress,
    },
    /// Give a function to a driver.
    Attach {
        /// Which function.
        function: PciAddress,
        /// The driver.
        to: String,
    },
}

impl Step {
    /// The function it touches.
    pub fn function(&self) -> Option<PciAddress> {
        match self {
            Self::Load { .. }
            | Self::Stop { .. }
            | Self::Start { .. }
            | Self::Vacate { .. }
            | Self::Console { .. }
            | Self::Framebuffer(_) => None,
            Self::Override { function, .. }
            | Self::Unbind { function, .. }
            | Self::Set { function, .. }
            | Self::Wait { function, .. }
            | Self::Probe { function }
            | Self::Attach { function, .. } => Some(*function),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { module, .. } => write!(f, "load the module {module}"),
            Self::Stop { unit } => write!(f, "stop {unit}"),
            Self::Start { unit } => write!(f, "start {unit}"),
            Self::Vacate { functions } => {
                let all: Vec<String> = functions.iter().map(ToString::to_string).collect();
                write!(f, "wait until no process uses {}", all.join(", "))
            }
            Self::Console { console, on: false } => {
                write!(f, "take the virtual console vtcon{console} off the framebuffer")
            }
            Self::Console { console, on: true } => {
                write!(f, "put the virtual console vtcon{console} back on the framebuffer")
            }
            Self::Framebuffer(Framebuffer { driver, device }) => {
                write!(f, "unbind the firmware's framebuffer {device} from {driver}")
            }
            Self::Override { function, to: Some(to) } => {
                write!(f, "set driver_override of {function} to {to}")
            }
            Self::Override { function, to: None } => {
                write!(f, "clear driver_override of {function}")
            }
            Self::Unbind { function, from } => write!(f, "unbind {function} from {from}"),
            Self::Set { function, attribute, to } => {
                write!(f, "set {attribute} of {function} to {}", attribute.in_words(to))
            }
            Self::Wait { function, milliseconds } => {
                write!(f, "give {function} {milliseconds} ms after its reset")
            }
            Self::Probe { function } => write!(f, "let the kernel bind {function} to {VFIO}"),
            Self::Attach { function, to } => write!(f, "bind {function} to {to}"),
        }
    }
}

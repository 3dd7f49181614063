//! Every no: which card, why, and the next step.

use super::helper::AttributeError;
use super::journal::JournalError;
use super::perform::StepFault;
use super::safe;
use super::settings::{Attribute, BarError};
use super::step::Step;
use super::vfio::VfioError;
use crate::ask::{Code, Refusal};
use crate::base::{Name, PciAddress, with_sources};
use crate::host::sys::SysError;
use crate::pci::judge::MOVE;
use crate::pci::{Absence, Blocker};

/// Why a card was not bound, not released, or not found.
#[derive(Debug, thiserror::Error)]
pub enum PassthroughError {
    /// No card was named, and there is not exactly one configured.
    #[error("{}", if known.is_empty() { "no graphics card is configured".to_owned() } else { format!("several graphics cards are configured: {}", names(known)) })]
    WhichGpu {
        /// The configured ones.
        known: Vec<Name>,
    },
    /// The name is not configured, and it is no address.
    #[error("there is no graphics card `{asked}`")]
    Unknown {
        /// As it was asked for.
        asked: String,
        /// The configured ones.
        known: Vec<Name>,
    },
    /// Nothing is plugged in there.
    #[error("{gpu}: there is no device at {slot}")]
    Absent {
        /// Which card.
        gpu: String,
        /// Where it should be.
        slot: PciAddress,
        /// Where a card of that identity is.
        moved: Option<PciAddress>,
    },
    /// Another card is plugged in there.
    #[error("{gpu}: the device at {slot} is {}, not {:04x}:{:04x} as configured", shown(*found), expected.0, expected.1)]
    Identity {
        /// Which card.
        gpu: String,
        /// Where.
        slot: PciAddress,
        /// Vendor and device of the configuration.
        expected: (u16, u16),
        /// What is there.
        found: Option<(u16, u16)>,
        /// Where a card of that identity is.
        moved: Option<PciAddress>,
    },
    /// A card of the same kind by another maker is plugged in there.
    #[error("{gpu}: the board at {slot} is {}, not {:04x}:{:04x} as configured under `subsystem`", shown(*found), expected.0, expected.1)]
    Board {
        /// Which card.
        gpu: String,
        /// Where.
        slot: PciAddress,
        /// Subsystem vendor and device of the configuration.
        expected: (u16, u16),
        /// What is there.
        found: Option<(u16, u16)>,
        /// Where the right one is.
        moved: Option<PciAddress>,
    },
    /// The ROM that the VM's file names is not one that a guest may be given.
    #[error("{gpu}: the ROM {file} is not given to a guest: {}", why.join("; "))]
    BadRom {
        /// Which card.
        gpu: String,
        /// The file.
        file: String,
        /// What is wrong with it.
        why: Vec<String>,
    },
    /// Its BAR cannot be what the VM's file asks for.
    #[error("{gpu}: `resizable-bar` cannot be had")]
    Bar {
        /// Which card.
        gpu: String,
        /// Why.
        source: BarError,
    },
    /// An address that is not configured and holds no graphics card.
    #[error("{slot} is {name}, not a graphics card")]
    NotDisplay {
        /// Where.
        slot: PciAddress,
        /// What is there.
        name: String,
    },
    /// A VM's file calls it an NVMe controller.
    #[error("{slot} is {name}, not a disk controller")]
    NotStorage {
        /// Where.
        slot: PciAddress,
        /// What is there.
        name: String,
    },
    /// Nothing isolates the card.
    #[error("{gpu}: no IOMMU isolates it: {}", absence.reason)]
    NoIommu {
        /// Which card.
        gpu: String,
        /// Why there are no groups, or not for this card.
        absence: Absence,
    },
    /// Something else in its group is in the way.
    #[error("{gpu}: its IOMMU group cannot be given away{}", lines(blockers))]
    Blocked {
        /// Which card.
        gpu: String,
        /// Each device in the way.
        blockers: Vec<Blocker>,
    },
    /// The owner has asked the kernel's command line for it.
    #[error("{gpu}: nothing is bound: {}", safe::WHY)]
    SafeMode {
        /// Which card.
        gpu: String,
    },
    /// A VM has it.
    #[error("{gpu} belongs to the VM {vm}")]
    Owned {
        /// Which card.
        gpu: String,
        /// Whose.
        vm: Name,
    },
    /// A process has it open.
    #[error("{gpu} is in use by {}", holders.join(", "))]
    InUse {
        /// Which card.
        gpu: String,
        /// The processes.
        holders: Vec<String>,
    },
    /// An earlier write hangs.
    #[error("{gpu}: an earlier write to {} hangs in the kernel", functions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Wedged {
        /// Which card.
        gpu: String,
        /// Which functions.
        functions: Vec<PciAddress>,
    },
    /// A step failed; what had been done was undone as far as possible.
    #[error("{gpu}: could not {step}")]
    Step {
        /// Which card.
        gpu: String,
        /// Which step.
        step: Step,
        /// Why.
        source: Box<StepFault>,
        /// What could not be undone; empty when all is as it was.
        left: Vec<String>,
    },
    /// All steps went well, and yet the card is not usable.
    #[error("{gpu}: bound, but {why}")]
    NotThere {
        /// Which card.
        gpu: String,
        /// What is wrong.
        why: String,
        /// What could not be undone.
        left: Vec<String>,
    },
    /// The way back ended with something not as it was.
    #[error("{gpu} was not given back whole: {}", left.join("; "))]
    Incomplete {
        /// Which card.
        gpu: String,
        /// What is not as it was.
        left: Vec<String>,
    },
    /// It is not on vfio-pci by hostd.
    #[error("{gpu} is not bound: a card that a driver of the host has is not reset")]
    NotBound {
        /// Which card.
        gpu: String,
    },
    /// The reset was refused, or did not come back.
    #[error("{gpu}: it was not reset")]
    Reset {
        /// Which card.
        gpu: String,
        /// Why.
        source: VfioError,
    },
    /// It was reset and does not answer.
    #[error("{gpu}: {why}")]
    Dead {
        /// Which card.
        gpu: String,
        /// Which function, and what to do.
        why: String,
    },
    /// The record cannot be read or written.
    #[error("cannot go on with {gpu}")]
    Journal {
        /// Which card.
        gpu: String,
        /// Why.
        source: JournalError,
    },
    /// Something that has to be known cannot be read.
    #[error("{gpu}: nothing was touched")]
    Unreadable {
        /// Which card.
        gpu: String,
        /// Why.
        source: AttributeError,
    },
    /// The kernel shows no ROM for it.
    #[error("{gpu}: {slot} has no ROM that the kernel shows")]
    NoRom {
        /// Which card.
        gpu: String,
        /// Its function 0.
        slot: PciAddress,
    },
    /// Its ROM was asked for and did not come.
    #[error("{gpu}: its ROM cannot be read")]
    Rom {
        /// Which card.
        gpu: String,
        /// Why.
        source: AttributeError,
    },
    /// Without the boot's id no record can be trusted.
    #[error("{gpu}: nothing was touched")]
    BootId {
        /// Which card.
        gpu: String,
        /// Why.
        source: SysError,
    },
}

fn names(known: &[Name]) -> String {
    known.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

fn shown(identity: Option<(u16, u16)>) -> String {
    identity.map_or_else(|| "unreadable".to_owned(), |(v, d)| format!("{v:04x}:{d:04x}"))
}

fn lines(blockers: &[Blocker]) -> String {
    blockers.iter().flat_map(|blocker| ["\n  ".to_owned(), blocker.to_string()]).collect()
}

fn seen_at(moved: Option<PciAddress>) -> Option<String> {
    moved.map(|to| {
        format!("A card with that identity is at {to}: change its `address` under `gpus`")
    })
}

impl PassthroughError {
    /// The next step for a person; empty when there is none.
    pub fn hint(&self) -> String {
        let undone = |left: &[String], otherwise: &str| {
            if left.is_empty() {
                "All is as it was. The kernel's own words: `dmesg | tail`".to_owned()
            } else {
                format!("Left: {}. {otherwise}", left.join("; "))
            }
        };
        match self {
            Self::WhichGpu { known } if known.is_empty() => {
                "Name one by its address, or configure it under `gpus`; `hostctl gpu list` shows \
                 those there are"
                    .to_owned()
            }
            Self::WhichGpu { .. } => "Name the one you mean".to_owned(),
            // No name has a colon.
            Self::Unknown { asked, .. } if asked.contains(':') => {
                "An address looks like `0000:01:00.0` or `01:00.0`: bus, device up to 1f, function \
                 up to 7, in hexadecimal; `hostctl gpu list` shows those there are"
                    .to_owned()
            }
            Self::Unknown { known, .. } if known.is_empty() => {
                "`hostctl gpu list` shows the cards there are".to_owned()
            }
            Self::Unknown { known, .. } => format!("Configured are: {}", names(known)),
            Self::Absent { moved, .. } => seen_at(*moved)
                .unwrap_or_else(|| "`hostctl gpu list` shows the cards there are".to_owned()),
            Self::Identity { moved, .. } | Self::Board { moved, .. } => seen_at(*moved)
                .unwrap_or_else(|| {
                    "If the card was exchanged on purpose, change its identity under `gpus`"
                        .to_owned()
                }),
            Self::NotDisplay { .. } => {
                "To give away another device, configure it by name under `gpus`".to_owned()
            }
            Self::NotStorage { .. } => {
                "Correct the address under `disks` in the VM's file; `hostctl iommu list` shows \
                 the controllers"
                    .to_owned()
            }
            Self::NoIommu { absence, .. } => absence.fix.clone(),
            Self::Blocked { .. } => format!(
                "Nothing was touched. Either deal with each of these, or {MOVE}; `hostctl iommu \
                 list` shows the group"
            ),
            Self::SafeMode { .. } => safe::FIX.to_owned(),
            Self::Owned { vm, .. } => format!("Stop it first: `hostctl vm stop {vm}`"),
            Self::InUse { .. } => "End it first; nothing was touched. Where it is the desktop's, \
                                   `stop-display-manager: true` under `gpus` does it at each bind"
                .to_owned(),
            Self::BadRom { .. } => {
                "Nothing was touched. `hostctl gpu rom check FILE` shows all of \
                                    it; `hostctl gpu rom dump` reads the card's own"
                    .to_owned()
            }
            Self::Bar { .. } => "Nothing was touched. Leave `resizable-bar` out of the VM's file, \
                                 or turn on `Above 4G decoding` and `Resizable BAR` in the \
                                 firmware setup"
                .to_owned(),
            Self::Wedged { .. } => RESTART.to_owned(),
            Self::Step { source, left, .. } if source.hung() => undone(left, RESTART),
            Self::Step { step: Step::Set { attribute: Attribute::Bar(_), .. }, left, .. } => {
                undone(left, RELEASE)
                    + ". When there is no room for the BAR: turn on `Above 4G decoding` and `Resizable \
                 BAR` in the firmware setup"
            }
            Self::Step { left, .. } | Self::NotThere { left, .. } => undone(left, RELEASE),
            Self::Incomplete { .. } => RELEASE.to_owned(),
            Self::NotBound { .. } => "`hostctl gpu bind` first".to_owned(),
            Self::Reset { .. } => "`hostctl doctor --probe` shows what hangs on its bus; each of \
                                   these has to be on vfio-pci and free"
                .to_owned(),
            Self::Dead { .. } => "Nothing else brings it back".to_owned(),
            Self::NoRom { .. } => "Give the guest a ROM file of this card's maker".to_owned(),
            Self::Rom { source: AttributeError::Hung(_), .. } => {
                "The card hangs: power-cycle the machine before it is used again".to_owned()
            }
            Self::Rom { .. } => "Reading it needs root; a card that a driver has put to sleep may \
                                 answer once it is in use"
                .to_owned(),
            Self::Journal { source: JournalError::Corrupt { path, .. }, .. } => format!(
                "Nobody knows now what the card was: put its functions where you want them, then \
                 remove {path}"
            ),
            Self::Journal { .. } | Self::Unreadable { .. } | Self::BootId { .. } => {
                "Is hostd running as root, with its state folder writable?".to_owned()
            }
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::WhichGpu { .. }
            | Self::Unknown { .. }
            | Self::Absent { .. }
            | Self::NoRom { .. } => Code::NotFound,
            Self::Identity { .. }
            | Self::Board { .. }
            | Self::BadRom { .. }
            | Self::Bar { .. }
            | Self::NotDisplay { .. }
            | Self::NotStorage { .. }
            | Self::NoIommu { .. }
            | Self::Blocked { .. }
            | Self::SafeMode { .. }
            | Self::Owned { .. }
            | Self::InUse { .. }
            | Self::NotBound { .. }
            | Self::Wedged { .. } => Code::Refused,
            Self::Step { .. }
            | Self::Reset { .. }
            | Self::Dead { .. }
            | Self::NotThere { .. }
            | Self::Incomplete { .. }
            | Self::Journal { .. }
            | Self::Unreadable { .. }
            | Self::Rom { .. }
            | Self::BootId { .. } => Code::Failed,
        }
    }
}

const RESTART: &str =
    "Restart the machine; if the kernel has let go in between, `hostctl gpu release` tries again";
const RELEASE: &str = "It stays on record; `hostctl gpu release` tries again";

impl From<&PassthroughError> for Refusal {
    fn from(error: &PassthroughError) -> Self {
        Self::new(error.code(), with_sources(error), error.hint())
    }
}

impl From<PassthroughError> for Refusal {
    fn from(error: PassthroughError) -> Self {
        Self::from(&error)
    }
}

//! What is on record: one file a card, `passthrough/<function 0>.json` in the
//! state folder. Named by the slot rather than by the configured name, so that
//! the record is found when the configuration has been edited in between.

use serde::{Deserialize, Serialize};

use super::screen::Framebuffer;
use super::settings::Attribute;
use super::step::Step;
use crate::base::{Name, PciAddress};
use crate::host::store::StoreError;
use crate::host::sys::SysError;
use crate::host::{Host, Store, SysRoot};

const FOLDER: &str = "passthrough";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where a card is between the host and a guest; see the room's map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Steps towards vfio-pci are being taken.
    Binding,
    /// All functions were on vfio-pci, read back.
    Bound,
    /// Steps back are being taken.
    Restoring,
    /// The way back ended with something not as it was.
    Left,
}

/// Everything needed to give a card back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Id of the boot in which it was written; void in any other.
    pub boot: String,
    /// How people call the card.
    pub gpu: String,
    /// Its function 0.
    pub slot: PciAddress,
    /// IOMMU group of function 0.
    pub group: u32,
    /// Where it is.
    pub phase: Phase,
    /// What its functions were.
    pub functions: Vec<Saved>,
    /// A person wants it bound.
    pub person: bool,
    /// The VM that has it.
    pub vm: Option<Name>,
    /// The step being taken.
    pub step: Option<Step>,
    /// Functions on which a write has hung.
    pub wedged: Vec<PciAddress>,
    /// What is not as it was, in words.
    pub problems: Vec<String>,
    /// What the host showed on it.
    #[serde(default)]
    pub shown: Shown,
}

/// What the host showed on a card, to be put back as far as it can be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Shown {
    /// `N` of each `vtconN` that was on its framebuffer.
    pub consoles: Vec<u8>,
    /// The firmware's framebuffer: no kernel gives it back.
    pub framebuffers: Vec<Framebuffer>,
    /// The unit of the display manager that was stopped for it.
    pub display_manager: Option<String>,
}

/// What a function was before it was touched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Which function.
    pub address: PciAddress,
    /// Vendor and device, so that another card in the slot is told apart.
    pub identity: Option<(u16, u16)>,
    /// Its driver.
    pub driver: Option<String>,
    /// The module that driver came from, in case it has been unloaded.
    pub module: Option<String>,
    /// Its `driver_override`.
    pub driver_override: Option<String>,
    /// The overrides that we have written: any other is somebody else's.
    pub wrote: Vec<Option<String>>,
    /// Subsystem vendor and device.
    #[serde(default)]
    pub subsystem: Option<(u16, u16)>,
    /// The attributes that are set otherwise while a guest has it.
    #[serde(default)]
    pub settings: Vec<Setting>,
    /// Width of its link, in lanes.
    #[serde(default)]
    pub link_width: Option<u8>,
    /// How long it needs after a reset, in milliseconds.
    #[serde(default)]
    pub delay: u64,
}

/// An attribute that is set otherwise while a guest has the function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Which.
    pub attribute: Attribute,
    /// What it was.
    pub was: String,
    /// What we have written: anything else is somebody else's.
    pub wrote: Vec<String>,
}

/// Why a record cannot be used. A corrupt one is not the same as none.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read.
    #[error("the record cannot be read")]
    Read(#[source] SysError),
    /// It holds something else than a record.
    #[error("the record {path} is corrupt")]
    Corrupt {
        /// Where it lies.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It cannot be written.
    #[error("the record cannot be written")]
    Write(#[source] StoreError),
    /// It cannot be put into words.
    #[error("the record cannot be written")]
    Encode(#[source] serde_json::Error),
    /// The thread that wrote it ended.
    #[error("the record cannot be written")]
    Lost(#[source] tokio::task::JoinError),
}

/// The records in the state folder.
#[derive(Debug, Clone)]
pub struct Journal {
    store: Store,
}

impl Journal {
    /// The records of this host.
    pub fn new(host: &Host) -> Self {
        Self { store: host.state.clone() }
    }

    /// The record of a slot, of whatever boot.
    pub fn load(&self, slot: PciAddress) -> Result<Option<Record>, JournalError> {
        let name = name(slot);
        let Some(text) = self.store.read(&name).map_err(JournalError::Read)? else {
            return Ok(None);
        };
        let corrupt = |source| JournalError::Corrupt {
            path: self.store.path(&name).display().to_string(),
            source,
        };
        serde_json::from_str(&text).map(Some).map_err(corrupt)
    }

    /// The slots that have a record.
    pub fn slots(&self) -> Result<Vec<PciAddress>, SysError> {
        let names = self.store.list(FOLDER)?;
        Ok(names.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect())
    }

    /// Keeps a record, durably.
    pub async fn save(&self, record: &Record) -> Result<(), JournalError> {
        let text = serde_json::to_string_pretty(record).map_err(JournalError::Encode)?;
        let name = name(record.slot);
        self.apart(move |store| store.write(name, &text)).await
    }

    /// Forgets a record, durably.
    pub async fn remove(&self, slot: PciAddress) -> Result<(), JournalError> {
        self.apart(move |store| store.remove(name(slot))).await
    }

    /// Durable writes wait for a disk: not on the runtime's threads.
    async fn apart(
        &self,
        work: impl FnOnce(&Store) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), JournalError> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => done.map_err(JournalError::Write),
            Err(error) => Err(JournalError::Lost(error)),
        }
    }
}

fn name(slot: PciAddress) -> String {
    format!("{FOLDER}/{slot}.json")
}

/// The id of this boot.
pub fn boot_id(sys: &SysRoot) -> Result<String, SysError> {
    let text = sys.text(BOOT_ID)?;
    let id: String = text.trim().chars().take(64).collect();
    if id.is_empty() {
        return Err(SysError::Invalid { path: BOOT_ID.into(), why: "empty".to_owned() });
    }
    Ok(id)
}

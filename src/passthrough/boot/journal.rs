//! What hostd has set up for the boot, on record in the state folder, so that
//! it can be told apart from the owner's and be taken away again.

use serde::{Deserialize, Serialize};

use super::super::journal::JournalError;
use crate::base::PciAddress;
use crate::host::{Host, Store};

const FILE: &str = "boot/setup.json";
/// Files of others as they were before the first change, and ours that somebody has changed.
const KEPT: &str = "boot/kept";

/// All that was set up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Setup {
    /// Id of the boot in which it was set up: it works from the next one on.
    pub boot: String,
    /// False from before the first file until after the last command.
    pub complete: bool,
    /// The cards.
    pub cards: Vec<SetCard>,
    /// Words for the kernel.
    pub words: Vec<String>,
    /// Whether the words were written anywhere, or a person has to.
    pub words_written: bool,
    /// Files of ours alone.
    pub own: Vec<OwnFile>,
    /// Files of others with words of ours in them.
    pub edited: Vec<String>,
    /// Folders that were not there.
    pub folders: Vec<String>,
}

/// A card that is set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetCard {
    /// How people call it.
    pub name: String,
    /// Address, vendor and device of each function.
    pub functions: Vec<(PciAddress, u16, u16)>,
}

/// A file of ours as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnFile {
    /// Where.
    pub path: String,
    /// What; they are short.
    pub text: String,
}

/// The record, read and written.
#[derive(Debug, Clone)]
pub struct Journal {
    store: Store,
}

impl Journal {
    /// The record of this host.
    pub fn new(host: &Host) -> Self {
        Self { store: host.state.clone() }
    }

    /// What is set up, if anything.
    pub fn load(&self) -> Result<Option<Setup>, JournalError> {
        let Some(text) = self.store.read(FILE).map_err(JournalError::Read)? else {
            return Ok(None);
        };
        let path = self.store.path(FILE).display().to_string();
        let corrupt = |source| JournalError::Corrupt { path, source };
        serde_json::from_str(&text).map(Some).map_err(corrupt)
    }

    /// Keeps the record, durably; `None` forgets it.
    pub fn save(&self, setup: Option<&Setup>) -> Result<(), JournalError> {
        let Some(setup) = setup else {
            return self.store.remove(FILE).map_err(JournalError::Write);
        };
        let text = serde_json::to_string_pretty(setup).map_err(JournalError::Encode)?;
        self.store.write(FILE, &text).map_err(JournalError::Write)
    }

    /// Keeps a text of somebody else; returns where it lies.
    pub fn keep(&self, path: &str, text: &str) -> Result<String, JournalError> {
        let name = format!("{KEPT}/{}", path.trim_start_matches('/').replace('/', "-"));
        self.store.write(&name, text).map_err(JournalError::Write)?;
        Ok(self.store.path(name).display().to_string())
    }
}

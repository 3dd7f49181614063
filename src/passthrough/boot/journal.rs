//! What hostd has set up for the boot, on record in the state folder, so that
//! it can be told apart from the owner's and be taken away again.

use serde::{Deserialize, Serialize};

use super::super::journal::JournalError;
use crate::base::PciAddress;
use crate::host::{Host, Store, SysRoot};

const FILE: &str = "boot/setup.json";
/// Files of others as they were before each change, and ours that somebody has changed.
const KEPT: &str = "boot/kept";
/// Texts that are kept of one file; the last of them makes room for more.
const KEPT_OF_ONE: usize = 32;

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
    /// Subsystem vendor and device of the functions whose board is configured.
    #[serde(default)]
    pub boards: Vec<(PciAddress, u16, u16)>,
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

    /// Keeps a text of somebody else; returns where it lies. What was kept
    /// before stays: the first is the file as it was before any change of ours.
    pub fn keep(&self, path: &str, bytes: &[u8]) -> Result<String, JournalError> {
        let plain = format!("{KEPT}/{}", path.trim_start_matches('/').replace('/', "-"));
        let kept = SysRoot::new(self.store.path(""));
        let mut name = plain.clone();
        for number in 1..KEPT_OF_ONE {
            match kept.bytes(&name, bytes.len() as u64) {
                Ok(same) if same == bytes => {
                    return Ok(self.store.path(name).display().to_string());
                }
                Err(error) if error.is_missing() => break,
                // Another text, or a longer one.
                Ok(_) | Err(_) => name = format!("{plain}.{number}"),
            }
        }
        self.store.write_bytes(&name, bytes).map_err(JournalError::Write)?;
        Ok(self.store.path(name).display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_before_stays() {
        let dir = tempfile::tempdir().unwrap();
        let host = crate::host::fake::FakeHost::new(dir.path()).host();
        let journal = Journal::new(&host);
        let keep = |text: &str| journal.keep("/etc/default/grub", text.as_bytes()).unwrap();
        let first = keep("first");
        assert!(first.ends_with("boot/kept/etc-default-grub"), "{first}");
        let longer = keep("second, and longer");
        assert_eq!(longer, format!("{first}.1"));
        assert_eq!((keep("first"), keep("second, and longer")), (first.clone(), longer));
        for number in 0..KEPT_OF_ONE * 2 {
            keep(&number.to_string());
        }
        let read = |path: &str| SysRoot::new("/").text(path).unwrap();
        assert_eq!(
            (read(&first), read(&format!("{first}.1"))),
            ("first".into(), "second, and longer".into())
        );
        assert_eq!(host.state.list(KEPT).unwrap().len(), KEPT_OF_ONE);
    }
}

//! What is on record: who has claimed what, and what everything was before.
//! One file for the whole host, `performance/host.json` in the runtime folder:
//! two guests share the host's settings, and after a boot there are none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::knob::Knob;
use super::pins::Pins;
use crate::base::{Bytes, Name};
use crate::host::Host;
use crate::host::cpus::Cpus;
use crate::host::store::StoreError;
use crate::host::sys::SysError;

const FILE: &str = "performance/host.json";

/// The record.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Journal {
    /// What each guest wants of the host.
    pub claims: BTreeMap<Name, Claim>,
    /// What was changed, in the order in which it was.
    pub entries: Vec<Entry>,
    /// What the host could not move or set, in words.
    #[serde(default)]
    pub cannot: Vec<String>,
}

/// What one guest wants of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// Where its threads run.
    pub pins: Option<Pins>,
    /// The host leaves its processors.
    pub isolate: bool,
    /// The governor of its processors.
    pub governor: Option<String>,
    /// Scrubs are paused.
    pub pause_scrub: bool,
    /// Services that are stopped.
    pub services: Vec<String>,
    /// Its memory.
    pub memory: Option<Memory>,
}

/// A guest's claim on memory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The ARC may be as large.
    pub arc_max: Option<Bytes>,
    /// The limit of the ARC before anybody changed it, as the ARC itself had it.
    pub arc_was: Option<Bytes>,
    /// Pages of a pool of huge ones.
    pub pages: Option<Pages>,
}

/// Pages of a pool of huge ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// The pool's folder.
    pub pool: String,
    /// Size of a page.
    pub size: Bytes,
    /// All that the guest needs.
    pub needed: u64,
    /// Those of them that were added for it.
    pub added: u64,
    /// QEMU has taken them: the kernel counts them from then on.
    pub taken: bool,
}

/// One thing that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What.
    #[serde(flatten)]
    pub knob: Knob,
    /// What it was.
    pub was: String,
    /// What is set before `was` is put back, where that alone has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// What we have written or found after writing: anything else is somebody
    /// else's.
    pub wrote: Vec<String>,
    /// It was seen to be as wanted: if it is as it was again, that was somebody.
    #[serde(default)]
    pub held: bool,
}

/// Why the record cannot be used. A damaged one is not the same as none.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read.
    #[error("the record of the host's settings cannot be read")]
    Read(#[source] SysError),
    /// It holds something else.
    #[error("the record {path} is damaged")]
    Damaged {
        /// Where it lies.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It cannot be written.
    #[error("the record of the host's settings cannot be written")]
    Write(#[source] StoreError),
    /// It cannot be put into words.
    #[error("the record of the host's settings cannot be written")]
    Encode(#[source] serde_json::Error),
}

impl Journal {
    /// Reads it; an empty one when there is none.
    pub fn load(host: &Host) -> Result<Self, JournalError> {
        let Some(text) = host.runtime.read(FILE).map_err(JournalError::Read)? else {
            return Ok(Self::default());
        };
        let path = || host.runtime.path(FILE).display().to_string();
        serde_json::from_str(&text).map_err(|source| JournalError::Damaged { path: path(), source })
    }

    /// Keeps it; one that says nothing is removed.
    pub fn save(&self, host: &Host) -> Result<(), JournalError> {
        if self.claims.is_empty() && self.entries.is_empty() {
            return host.runtime.remove(FILE).or_else(|error| {
                // The folder may never have been made.
                let gone = error.source.kind() == std::io::ErrorKind::NotFound;
                if gone { Ok(()) } else { Err(JournalError::Write(error)) }
            });
        }
        let text = serde_json::to_string_pretty(self).map_err(JournalError::Encode)?;
        host.runtime.write(FILE, &text).map_err(JournalError::Write)
    }

    /// The processors that all others have, and `vm` cannot.
    pub fn taken(&self, vm: &Name) -> Cpus {
        let others = self.claims.iter().filter(|(name, _)| *name != vm);
        others.filter_map(|(_, claim)| claim.pins.as_ref()).flat_map(Pins::kept).collect()
    }

    /// Pages of a pool that others were promised and have not taken yet.
    pub fn promised(&self, vm: &Name, pool: &str) -> u64 {
        let others = self.claims.iter().filter(|(name, _)| *name != vm);
        let pages = others.filter_map(|(_, claim)| claim.memory.as_ref()?.pages.as_ref());
        pages.filter(|pages| pages.pool == pool && !pages.taken).map(|pages| pages.needed).sum()
    }

    /// What something was before anybody changed it.
    pub fn entry(&self, knob: &Knob) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.knob == *knob)
    }
}

//! hostd's note of what it has done for a VM, so that the next hostd can go on.
//!
//! It is written before each phase of starting and stopping, and after it with
//! what came out; a hostd that is killed at any moment leaves a note that says
//! at least what may have been done. It lies in the runtime folder: after a
//! boot there is no QEMU, and no note of one.

use serde::{Deserialize, Serialize};

use super::identity::Uuid;
use super::paths;
use crate::base::{Name, PciAddress, Timestamp};
use crate::config::GpuRef;
use crate::host::Host;
use crate::host::store::StoreError;
use crate::host::sys::SysError;

/// How far the VM has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum Phase {
    /// Files are being laid out; nothing else was touched.
    Preparing,
    /// The card is being bound, or was; no QEMU yet.
    Binding,
    /// QEMU may have been started; its number is not known.
    Launching,
    /// QEMU was started; the guest has not run.
    Launched,
    /// The guest was let run.
    Running,
    /// The power button was pressed.
    Stopping {
        /// When the guest's time is up.
        deadline: Timestamp,
        /// Whether QEMU is quit then, whatever the VM's file says.
        force: bool,
    },
    /// QEMU was told to end.
    Quitting,
    /// QEMU is gone; the card is being given back.
    Ended {
        /// Without being asked to.
        crashed: bool,
        /// How it ended.
        why: String,
    },
    /// The start is being undone; QEMU is gone or never was.
    Undoing {
        /// Why it failed; nothing when it was given up on request.
        why: Option<String>,
    },
}

/// The note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// How far it has come.
    #[serde(flatten)]
    pub phase: Phase,
    /// This start's mark on QEMU's command line.
    pub token: Uuid,
    /// QEMU.
    #[serde(default)]
    pub process: Option<ProcessId>,
    /// The card that was asked for.
    #[serde(default)]
    pub gpu: Option<GpuNote>,
    /// The functions that were bound for it.
    #[serde(default)]
    pub devices: Vec<PciAddress>,
    /// NVMe controllers that were asked for.
    #[serde(default)]
    pub nvme: Vec<PciAddress>,
    /// The owner's commands before the start were run: those after the stop
    /// are still to come.
    #[serde(default)]
    pub hooked: bool,
}

/// A process, told apart from a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: u32,
    /// Clock ticks from boot to its start.
    pub started: u64,
}

/// A reference to a card, as the VM's file had it at the start: the file may
/// have been changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuNote {
    /// A configured name.
    Name(Name),
    /// An address.
    Address(PciAddress),
}

impl From<&GpuRef> for GpuNote {
    fn from(gpu: &GpuRef) -> Self {
        match gpu {
            GpuRef::Name(name) => Self::Name(name.clone()),
            GpuRef::Address(address) => Self::Address(*address),
        }
    }
}

/// Why there is no note.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] SysError),
    /// It is damaged.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Record {
    /// The first note of a start.
    pub fn begin(token: Uuid, gpu: Option<&GpuRef>) -> Self {
        let gpu = gpu.map(GpuNote::from);
        Self {
            phase: Phase::Preparing,
            token,
            process: None,
            gpu,
            devices: Vec::new(),
            nvme: Vec::new(),
            hooked: false,
        }
    }

    /// How to name the card when it is given back: by its address where that
    /// is known, since a name may have gone from the configuration.
    pub fn card(&self) -> Option<GpuRef> {
        if let Some(address) = self.devices.first() {
            return Some(GpuRef::Address(*address));
        }
        self.gpu.as_ref().map(|gpu| match gpu {
            GpuNote::Name(name) => GpuRef::Name(name.clone()),
            GpuNote::Address(address) => GpuRef::Address(*address),
        })
    }

    /// Everything of the host that the guest has.
    pub fn lent(&self) -> impl Iterator<Item = PciAddress> {
        self.devices.iter().chain(&self.nvme).copied()
    }

    /// Reads the note about `vm`.
    pub fn read(host: &Host, vm: &Name) -> Result<Option<Self>, RecordError> {
        let name = paths::name(vm, paths::RECORD);
        let Some(text) = host.runtime.read(&name)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|source| RecordError::Damaged {
            path: host.runtime.path(&name).display().to_string(),
            source,
        })
    }

    /// Writes it, whole and durably.
    pub fn write(&self, host: &Host, vm: &Name) -> Result<(), StoreError> {
        // None of its types can fail to be written as JSON.
        let text = serde_json::to_string(self).unwrap_or_default();
        host.runtime.write(paths::name(vm, paths::RECORD), &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use crate::vm::tests::identity;
    use proptest::prelude::*;

    fn phases() -> Vec<Phase> {
        vec![
            Phase::Preparing,
            Phase::Binding,
            Phase::Launching,
            Phase::Launched,
            Phase::Running,
            Phase::Stopping { deadline: Timestamp(7), force: true },
            Phase::Quitting,
            Phase::Ended { crashed: true, why: "x".into() },
            Phase::Undoing { why: None },
            Phase::Undoing { why: Some("x".into()) },
        ]
    }

    #[test]
    fn is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let host = FakeHost::new(dir.path()).host();
        let vm = "gaming".parse().unwrap();
        assert_eq!(Record::read(&host, &vm).unwrap(), None);
        for phase in phases() {
            let record = Record {
                phase,
                token: identity().uuid,
                process: Some(ProcessId { pid: 3, started: 4 }),
                gpu: Some(GpuNote::Name("amd".parse().unwrap())),
                devices: vec!["01:00.0".parse().unwrap()],
                nvme: vec!["04:00.0".parse().unwrap()],
                hooked: true,
            };
            record.write(&host, &vm).unwrap();
            assert_eq!(Record::read(&host, &vm).unwrap(), Some(record));
        }
    }

    #[test]
    fn a_damaged_one_is_told_from_none() {
        let dir = tempfile::tempdir().unwrap();
        let host = FakeHost::new(dir.path()).host();
        let vm = "gaming".parse().unwrap();
        for text in ["", "{", "{}", r#"{"phase":"dancing"}"#, "\u{0}"] {
            host.runtime.write("vms/gaming/state.json", text).unwrap();
            let error = Record::read(&host, &vm).unwrap_err().to_string();
            assert!(error.contains("vms/gaming/state.json is damaged"), "{error}");
        }
    }

    #[test]
    fn the_card_is_given_back_by_address_once_it_is_known() {
        let name = GpuRef::Name("amd".parse().unwrap());
        let mut record = Record::begin(identity().uuid, Some(&name));
        assert_eq!(record.card(), Some(name));
        record.devices = vec!["01:00.0".parse().unwrap()];
        assert_eq!(record.card(), Some(GpuRef::Address("01:00.0".parse().unwrap())));
        assert_eq!(Record::begin(identity().uuid, None).card(), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,80}") {
            let _ = serde_json::from_str::<Record>(&text);
        }
    }
}

//! `snapshot.json`: what a snapshot is made of. It is written before anything
//! is made and removed after everything is gone, so that nothing of ours is
//! ever without a note. A damaged one is told, and nothing that it may have
//! meant is touched.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::{Name, Timestamp, with_sources};
use crate::host::Host;
use crate::host::store::StoreError;
use crate::host::sys::SysError;
use crate::vm::paths;

/// The folder of a VM's snapshots, in its state folder.
pub const FOLDER: &str = "snapshots";
/// The note in a snapshot's folder.
pub const NOTE: &str = "snapshot.json";
/// How everything begins that hostd makes.
const OURS: &str = "hostd-";

/// What a snapshot is called inside ZFS and qcow2 images: always `hostd-…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag(String);

impl Tag {
    /// That of a snapshot of this name.
    pub fn of(name: &Name) -> Self {
        let name = name.as_str();
        Self(if name.starts_with(OURS) { name.to_owned() } else { format!("{OURS}{name}") })
    }

    /// As ZFS and QEMU take it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a person may give this name: those that hostd makes up are its own.
pub fn is_free(name: &Name) -> bool {
    !name.as_str().starts_with(OURS)
}

/// The name of a snapshot that nobody has named, made at this moment.
pub fn made_up(now: Timestamp) -> String {
    let plain: String = now.iso().chars().filter(char::is_ascii_alphanumeric).collect();
    // Without the milliseconds.
    format!("{OURS}{}Z", plain.get(..15).unwrap_or_default())
}

/// A ZFS dataset, as it can stand before an `@`: that nothing else gets into a
/// command is checked here, once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Dataset(String);

/// A text that is not a dataset.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not the name of a ZFS dataset")]
pub struct BadDataset(String);

impl Dataset {
    /// As ZFS takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The pool that it is in.
    pub fn pool(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}

impl TryFrom<String> for Dataset {
    type Error = BadDataset;

    /// Letters as zfs(8) allows them; a pool itself is not a volume.
    fn try_from(text: String) -> Result<Self, BadDataset> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"_-.: ".contains(&b);
        let part = |part: &str| {
            part.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
                && part.bytes().all(inner)
        };
        let good = text.len() < 256 && text.contains('/') && text.split('/').all(part);
        if good { Ok(Self(text)) } else { Err(BadDataset(text.chars().take(80).collect())) }
    }
}

impl From<Dataset> for String {
    fn from(dataset: Dataset) -> Self {
        dataset.0
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a snapshot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Some of it may be there.
    Making,
    /// All of it was made.
    Whole,
    /// Some of it may be gone.
    Going,
}

/// Who wanted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// Somebody.
    Person,
    /// The VM's file, before a start.
    BeforeStart,
}

impl Why {
    /// The word of JSON and views.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::BeforeStart => "before-start",
        }
    }
}

/// How still the guest was while it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Calm {
    /// It did not run.
    Off,
    /// Its agent had written everything out and kept its file systems still.
    Frozen,
    /// Its processors were halted: what it had not written yet is missing, as
    /// if the power had gone.
    Halted,
}

/// What a disk's snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Kind {
    /// One of ZFS.
    Zvol {
        /// The volume.
        dataset: Dataset,
    },
    /// One inside the image.
    Qcow2,
}

/// A disk of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// As in the VM's file.
    pub path: PathBuf,
    /// What was made of it.
    #[serde(flatten)]
    pub kind: Kind,
    /// Bytes that the disk held then, where that is known.
    #[serde(default)]
    pub size: Option<u64>,
}

impl Part {
    /// The volume, of one that is one.
    pub fn dataset(&self) -> Option<&Dataset> {
        match &self.kind {
            Kind::Zvol { dataset } => Some(dataset),
            Kind::Qcow2 => None,
        }
    }
}

/// The note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The snapshot's; also that of its folder.
    pub name: Name,
    /// When it was begun.
    pub time: Timestamp,
    /// Who wanted it.
    pub why: Why,
    /// How far it has come.
    pub state: State,
    /// How still the guest was.
    pub calm: Calm,
    /// The guest may be halted as long as it is being made.
    #[serde(default)]
    pub halts: bool,
    /// Its disks.
    pub parts: Vec<Part>,
    /// Disks that are not in it, with the reason.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// Whether the VM had firmware variables, and so the snapshot has.
    #[serde(default)]
    pub firmware: bool,
    /// Whether the VM had a TPM's state, and so the snapshot has.
    #[serde(default)]
    pub tpm: bool,
}

impl Note {
    /// What its parts are called in ZFS and qcow2 images.
    pub fn tag(&self) -> Tag {
        Tag::of(&self.name)
    }

    /// The volumes among its disks.
    pub fn datasets(&self) -> Vec<Dataset> {
        self.parts.iter().filter_map(Part::dataset).cloned().collect()
    }

    /// The images among its disks.
    pub fn images(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| matches!(part.kind, Kind::Qcow2))
    }

    /// Keeps the note.
    pub fn write(&self, host: &Host, vm: &Name) -> Result<(), StoreError> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        host.state.write(folder(vm, self.name.as_str()).join(NOTE), &text)
    }
}

/// The folder of a snapshot, as the store names it.
pub fn folder(vm: &Name, snapshot: &str) -> PathBuf {
    paths::name(vm, FOLDER).join(snapshot)
}

/// A snapshot's folder, and what its note says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The folder's name.
    pub name: String,
    /// The note, or what is wrong with it.
    pub note: Result<Note, String>,
}

/// All that is there, oldest first, damaged ones last.
pub fn all(host: &Host, vm: &Name) -> Result<Vec<Found>, SysError> {
    let names = host.state.list(paths::name(vm, FOLDER))?;
    let mut found: Vec<_> =
        names.into_iter().map(|name| Found { note: read(host, vm, &name), name }).collect();
    found.sort_by_key(|one| {
        let time = one.note.as_ref().map_or(Timestamp(i64::MAX), |note| note.time);
        (time, one.name.clone())
    });
    Ok(found)
}

/// One note.
pub fn read(host: &Host, vm: &Name, snapshot: &str) -> Result<Note, String> {
    let name = folder(vm, snapshot).join(NOTE);
    let path = host.state.path(&name);
    let text = match host.state.read(&name) {
        Ok(Some(text)) => text,
        Ok(None) => return Err(format!("{} is missing", path.display())),
        Err(error) => return Err(with_sources(&error)),
    };
    parse(&text, snapshot).map_err(|why| format!("{} is damaged: {why}", path.display()))
}

fn parse(text: &str, snapshot: &str) -> Result<Note, String> {
    let note: Note = serde_json::from_str(text).map_err(|error| error.to_string())?;
    // Another name would be about parts of another snapshot.
    if note.name.as_str() == snapshot {
        Ok(note)
    } else {
        Err(format!("it is about `{}`", note.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn everything_of_ours_is_called_so() {
        let tag = |name: &str| Tag::of(&name.parse().unwrap()).to_string();
        assert_eq!(tag("before-update"), "hostd-before-update");
        assert_eq!(tag("hostd-20261122T184820Z"), "hostd-20261122T184820Z");
        assert_eq!(made_up(Timestamp::from_secs(1_795_373_300)), "hostd-20261122T184820Z");
        assert!(is_free(&"x".parse().unwrap()) && !is_free(&"hostd-x".parse().unwrap()));
    }

    #[test]
    fn a_dataset_cannot_be_anything_else() {
        for good in ["tank/win", "tank/vms/win 11", "t/a-b_c.d:e"] {
            assert_eq!(Dataset::try_from(good.to_owned()).unwrap().to_string(), good);
        }
        let long = format!("t/{}", "x".repeat(300));
        for bad in
            ["", "tank", "tank/", "/tank/x", "-r/x", "tank/-r", "tank/x@y", "tank/x,y", &long]
                .into_iter()
                .chain(["tank/x%y", "tank/x#y", "tank//x", "tank/../x", "tank/x\ny"])
        {
            assert!(Dataset::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_note_of_another_snapshot_is_none() {
        let text = r#"{"name":"a","time":1,"why":"person","state":"whole","calm":"off",
            "parts":[{"path":"/dev/zvol/t/w","kind":"zvol","dataset":"t/w","size":7}]}"#;
        let note = parse(text, "a").unwrap();
        assert_eq!(note.datasets().len(), 1);
        assert_eq!(parse(&serde_json::to_string(&note).unwrap(), "a").unwrap(), note);
        assert_eq!(parse(text, "b").unwrap_err(), "it is about `a`");
        assert!(parse(&text.replace("t/w\",\"size", "t\",\"size"), "a").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,60}") {
            let _ = (parse(&text, "a"), Dataset::try_from(text));
        }
    }
}

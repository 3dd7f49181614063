//! Snapshots of a VM: all its writable disks, its firmware's variables and its
//! TPM's state, under one name.
//!
//! ```text
//!  disks ──plan──▶ parts ──note: making──▶ hold the guest ──▶ zfs, QEMU, copies
//!                                                │ any failure: undo what was made
//!                                                ▼
//!                                          let it go ──▶ note: whole
//! ```
//!
//! A zvol's snapshot is one of ZFS, a qcow2 image's one inside the image. Both
//! are called `hostd-…`, and the [`note`] beside the copies, written before
//! anything is made, says which of them are ours: nothing else is ever
//! destroyed. Whatever a hostd that was killed leaves is `incomplete` in the
//! list and can be deleted.
//!
//! - [`mod@plan`]: which disks, and how; pure
//! - [`note`]: `snapshot.json`; [`zfs`], [`qcow2`]: commands and their answers
//! - [`hold`]: a guest that stands still meanwhile
//! - [`mod@create`], [`mod@revert`], [`remove`], [`mod@list`]: what is done with them
//! - [`files`]: the firmware's and the TPM's files
//!
//! Who may do what when is up to the callers, in the supervisor's room: to
//! revert, nothing may run; [`before_start`] is called by the start itself.

pub mod create;
pub mod files;
pub mod hold;
pub mod list;
pub mod note;
pub mod plan;
pub mod qcow2;
pub mod remove;
pub mod revert;
pub mod zfs;

pub use create::{Made, before_start, create};
pub use hold::{Freeze, Frozen, Guest, let_go_if_left};
pub use list::list;
pub use note::{Why, all};
pub use remove::{delete, prune};
pub use revert::{revert, unfinished};

use self::note::{Found, Note};
use crate::ask::{Code, Refusal};
use crate::base::{Name, with_sources};
use crate::host::Host;
use crate::vm::supervisor::apart;

/// A refusal about a snapshot that was tried.
fn failed(vm: &Name, what: impl std::fmt::Display, hint: &str) -> Refusal {
    Refusal::new(Code::Failed, format!("`{vm}`: {what}"), hint)
}

/// A refusal about a snapshot that was not even tried.
fn refused(vm: &Name, what: impl std::fmt::Display, hint: impl Into<String>) -> Refusal {
    Refusal::new(Code::Refused, format!("`{vm}`: {what}"), hint)
}

/// All notes, read away from the runtime's threads.
async fn notes(host: &Host, vm: &Name) -> Result<Vec<Found>, Refusal> {
    let (there, name) = (host.clone(), vm.clone());
    let all = apart(move || note::all(&there, &name)).await?;
    all.map_err(|error| failed(vm, with_sources(&error), "look at that folder"))
}

/// Writes a note, likewise.
async fn write(host: &Host, vm: &Name, note: &Note) -> Result<(), Refusal> {
    let (there, name, note) = (host.clone(), vm.clone(), note.clone());
    let written = apart(move || note.write(&there, &name)).await?;
    written.map_err(|error| {
        failed(vm, with_sources(&error), "look for free space in the state folder")
    })
}

/// The note of a snapshot that somebody names.
async fn find(host: &Host, vm: &Name, snapshot: &Name) -> Result<Note, Refusal> {
    let all = notes(host, vm).await?;
    let Some(found) = all.iter().find(|one| one.name == snapshot.as_str()) else {
        let names: Vec<_> = all.iter().map(|one| one.name.as_str()).collect();
        let hint = match names.as_slice() {
            [] => "it has none; `hostctl vm snapshot create` makes one".to_owned(),
            names => format!("there are: {}", names.join(", ")),
        };
        let message = format!("`{vm}` has no snapshot `{snapshot}`");
        return Err(Refusal::new(Code::NotFound, message, hint));
    };
    found.note.clone().map_err(|why| {
        let folder = host.state.path(note::folder(vm, snapshot.as_str()));
        let hint = format!(
            "what belongs to it is called {} (`zfs list -t snapshot`, `qemu-img snapshot -l`); \
             see to it by hand, then remove {}",
            note::Tag::of(snapshot),
            folder.display()
        );
        refused(vm, format!("nobody knows what snapshot `{snapshot}` is made of: {why}"), hint)
    })
}

#[cfg(test)]
mod tests;

//! The firmware's variables and the TPM's state: copied into a snapshot and
//! back. Blocking: called away from the runtime's threads.

use std::path::{Path, PathBuf};

use super::note::{NOTE, folder};
use crate::base::{Name, with_sources};
use crate::host::Host;
use crate::vm::paths;

/// The folder of the TPM's state, in a VM's state folder and in a snapshot.
pub const TPM: &str = "tpm";
/// Where what was there before a revert is kept, in a VM's state folder.
pub const BEFORE_REVERT: &str = "before-revert";
/// More files than a TPM has.
const MOST: usize = 64;

/// What there was to copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// Firmware variables.
    pub firmware: bool,
    /// A TPM's state.
    pub tpm: bool,
}

/// The TPM's files below `from`; its lock is not one, and no half files.
fn tpm_files(host: &Host, from: &Path) -> Result<Vec<String>, String> {
    let names = host.state.list(from.join(TPM)).map_err(|error| with_sources(&error))?;
    let names: Vec<_> = names
        .into_iter()
        .filter(|name| !name.starts_with('.') && !name.contains(".new-"))
        .collect();
    if names.len() > MOST {
        return Err(format!("{} has more files than a TPM", from.join(TPM).display()));
    }
    Ok(names)
}

fn copy(host: &Host, from: &Path, to: &Path) -> Result<Copied, String> {
    let names = host.state.list(from).map_err(|error| with_sources(&error))?;
    let firmware = names.iter().any(|name| name == paths::VARS);
    let store = &host.state;
    let fail = |error| with_sources(&error);
    if firmware {
        let file = store.path(from.join(paths::VARS));
        store.copy_in(to.join(paths::VARS), &file).map_err(fail)?;
    }
    let tpm = tpm_files(host, from)?;
    for file in &tpm {
        let from = store.path(from.join(TPM).join(file));
        store.copy_secret(to.join(TPM).join(file), &from).map_err(fail)?;
    }
    Ok(Copied { firmware, tpm: !tpm.is_empty() })
}

/// From the VM into a snapshot's folder.
pub fn keep(host: &Host, vm: &Name, snapshot: &Name) -> Result<Copied, String> {
    copy(host, &paths::folder(vm), &folder(vm, snapshot.as_str()))
}

/// Whether what the note speaks of is there.
pub fn are_there(host: &Host, vm: &Name, snapshot: &Name, kept: Copied) -> Result<(), String> {
    let from = folder(vm, snapshot.as_str());
    let names = host.state.list(&from).map_err(|error| with_sources(&error))?;
    let gone =
        |what: &str| Err(format!("{what} is gone from {}", host.state.path(&from).display()));
    if kept.firmware && !names.iter().any(|name| name == paths::VARS) {
        return gone(paths::VARS);
    }
    if kept.tpm && tpm_files(host, &from)?.is_empty() {
        return gone("the TPM's state");
    }
    Ok(())
}

/// Keeps what the VM has now, in place of what was kept before.
pub fn set_aside(host: &Host, vm: &Name) -> Result<PathBuf, String> {
    let to = paths::name(vm, BEFORE_REVERT);
    clear(host, &to)?;
    copy(host, &paths::folder(vm), &to)?;
    Ok(host.state.path(to))
}

/// From a snapshot back to the VM. What the snapshot has not, the VM had not.
pub fn bring_back(host: &Host, vm: &Name, snapshot: &Name) -> Result<(), String> {
    let (from, to) = (folder(vm, snapshot.as_str()), paths::folder(vm));
    let copied = copy(host, &from, &to)?;
    let fail = |error| with_sources(&error);
    if !copied.firmware {
        host.state.remove(to.join(paths::VARS)).map_err(fail)?;
    }
    let wanted = tpm_files(host, &from)?;
    for file in tpm_files(host, &to)?.iter().filter(|file| !wanted.contains(file)) {
        host.state.remove(to.join(TPM).join(file)).map_err(fail)?;
    }
    Ok(())
}

/// Removes a folder of copies.
fn clear(host: &Host, at: &Path) -> Result<(), String> {
    let fail = |error| with_sources(&error);
    for below in [at.join(TPM), at.to_owned()] {
        let names = host.state.list(&below).map_err(|error| with_sources(&error))?;
        for name in names.iter().filter(|name| ![TPM, NOTE].contains(&name.as_str())) {
            host.state.remove(below.join(name)).map_err(fail)?;
        }
        // The note goes last: who finds it knows what is left.
        if names.iter().any(|name| name == NOTE) {
            host.state.remove(below.join(NOTE)).map_err(fail)?;
        }
        host.state.remove_folder(below).map_err(fail)?;
    }
    Ok(())
}

/// Removes a snapshot's copies and note.
pub fn remove(host: &Host, vm: &Name, snapshot: &Name) -> Result<(), String> {
    clear(host, &folder(vm, snapshot.as_str()))
}

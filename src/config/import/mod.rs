//! VMs of libvirt and Proxmox as VM files: text in, text out, and a list of
//! what could not be carried.
//!
//! ```text
//! XML ── libvirt ──┐
//!                  ├──▶ Draft: keys and notes ─ check ─▶ YAML, notes
//! conf ─ proxmox ──┘             ▲      │ what is refused becomes a note
//!                                └──────┘
//! ```
//!
//! [`libvirt`] and [`proxmox`] know the formats, [`draft`] makes the file, and
//! `words` reads what both have: QEMU's arguments. Everything here is text of a
//! stranger: nothing is run, no path is looked at, and what does not pass the
//! check of [`judge`](super::judge) is not in the file.

mod draft;
mod libvirt;
mod libvirt_devices;
mod proxmox;
mod proxmox_devices;
#[cfg(test)]
mod tests;
mod words;

use serde::Serialize;

use self::draft::Draft;
use super::text::clip;
use crate::base::Name;

/// Longest text that is read.
pub const MAX_IMPORT: usize = 1 << 20;

/// A VM file, and what it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// What the VM is called.
    pub name: Name,
    /// Where it comes from: `libvirt` or `proxmox`.
    pub from: &'static str,
    /// The VM file.
    pub yaml: String,
    /// What could not be carried, or has to be done by hand.
    pub notes: Vec<Note>,
}

/// Something that a person has to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Line of the text it is about, from 1; 0 for the VM as a whole.
    pub line: u32,
    /// What it is about: an element, a key.
    pub what: String,
    /// What has become of it, and what to do.
    pub message: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.what, self.message),
            line => write!(f, "line {line}: {}: {}", self.what, self.message),
        }
    }
}

/// A text that is no VM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotImported {
    /// It is too long.
    #[error("it is longer than {} KiB, which no VM's file is", MAX_IMPORT >> 10)]
    Long,
    /// It is not text.
    #[error("it is not UTF-8 text")]
    NotText,
    /// It looks like XML and is none.
    #[error("it is not XML: {0}")]
    NotXml(String),
    /// It is XML of something else.
    #[error("it is no libvirt domain: its root is <{0}>; make one with `virsh dumpxml --inactive`")]
    NotDomain(String),
    /// It has no key that a Proxmox file has.
    #[error(
        "it is neither a libvirt domain (`virsh dumpxml --inactive NAME`) nor a VM of Proxmox \
         (/etc/pve/qemu-server/NUMBER.conf)"
    )]
    Unknown,
    /// Something that every VM has is missing or cannot be used.
    #[error("a VM file cannot be made of it: {0}")]
    Incomplete(String),
}

/// Makes a VM file of a libvirt domain or a Proxmox configuration. `name` goes
/// before the one in the text; `stem` is the file's, for texts without one.
pub fn import(bytes: &[u8], name: Option<&Name>, stem: &str) -> Result<Imported, NotImported> {
    if bytes.len() > MAX_IMPORT {
        return Err(NotImported::Long);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NotImported::NotText)?;
    let text = text.trim_start_matches('\u{feff}');
    let (from, mut draft) = if text.trim_start().starts_with('<') {
        ("libvirt", libvirt::read(text)?)
    } else {
        ("proxmox", proxmox::read(text).ok_or(NotImported::Unknown)?)
    };
    let name = match name {
        Some(name) => name.clone(),
        None => named(&mut draft, stem)?,
    };
    draft.finish(name, from)
}

/// The VM's own name, made to fit.
fn named(draft: &mut Draft, stem: &str) -> Result<Name, NotImported> {
    let said = draft.name.clone().unwrap_or_else(|| stem.to_owned());
    if let Ok(name) = said.parse() {
        return Ok(name);
    }
    let inner = |c: char| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' };
    let fit: String = said.chars().map(inner).take(64).collect();
    let fit = fit.trim_start_matches(['.', '-', '_']);
    let name = fit.parse().map_err(|_| {
        NotImported::Incomplete(format!("`{}` cannot be its name; give one: --name", clip(&said)))
    })?;
    draft.note(0, "name", format!("`{}` has become `{fit}`", clip(&said)));
    Ok(name)
}

//! Option ROMs: what a card's firmware file holds, and whether a guest can use it.
//!
//! ```text
//!   sysfs `rom` ─ dump ─┐
//!   a file ─────────────┴─ bytes ─▶ parse ─▶ Rom ─▶ judge ─▶ findings, in words
//! ```
//!
//! - [`parse`]: one walk over the images, bounded and pure; read this first
//! - [`mod@judge`]: what is wrong with them, and what to do
//! - [`dump`]: bytes out of a card; the only part that touches the machine

pub mod dump;
pub mod judge;
pub mod parse;
#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod tests;

use crate::ask::view::{RomHeaderView, RomImageView, RomView};
use crate::base::Severity;

pub use crate::base::hex::{hex, unhex};
pub use judge::{Card, judge};
pub use parse::{Rom, walk};

/// The file without what stands before its first image.
pub fn strip(bytes: &[u8]) -> &[u8] {
    let before = walk(bytes).header.map_or(0, |header| header.length);
    bytes.get(before..).unwrap_or_default()
}

/// The reply about some bytes; `card` is the card they are meant for.
pub fn view(file: &str, bytes: &[u8], card: Option<&Card>) -> RomView {
    let rom = walk(bytes);
    let (findings, notes) = judge(&rom, card);
    RomView {
        file: file.to_owned(),
        gpu: card.map(|card| card.name.clone()),
        size: bytes.len() as u64,
        usable: findings.iter().all(|finding| finding.severity != Severity::Critical),
        written: false,
        header: rom
            .header
            .as_ref()
            .map(|header| RomHeaderView { length: header.length as u64, nvidia: header.nvidia }),
        images: rom.images.iter().map(image).collect(),
        findings,
        notes,
    }
}

fn image(image: &parse::Image) -> RomImageView {
    RomImageView {
        offset: image.offset as u64,
        length: image.length as u64,
        kind: image.code.to_string(),
        vendor: format!("{:04x}", image.id.0),
        device: format!("{:04x}", image.id.1),
        devices: image.devices.iter().map(|device| format!("{device:04x}")).collect(),
        last: image.last,
        checksum: image.checksum,
        machine: image.efi.as_ref().map(|efi| judge::machine(efi.machine)),
    }
}

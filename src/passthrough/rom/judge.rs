//! What is wrong with a walked ROM, in words, and what to do about it.

use super::parse::{Code, End, Image, Rom, UNIT};
use crate::ask::view::FindingView;
use crate::base::Severity;
use crate::pci::Device;

/// The card that a ROM is meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Configured name, or address.
    pub name: String,
    /// Vendor and device of function 0; `None` when it cannot be read.
    pub id: Option<(u16, u16)>,
    /// Whether firmware used it for the first picture.
    pub boot_vga: Option<bool>,
}

impl Card {
    /// A card, from its function 0.
    pub fn of(name: &str, first: Option<&Device>) -> Self {
        Self {
            name: name.to_owned(),
            id: first.and_then(Device::identity),
            boot_vga: first.and_then(|device| device.boot_vga),
        }
    }
}

/// The copy of the boot card's ROM that firmware keeps in memory.
const SHADOW: usize = 128 << 10;
/// What an EFI image must be signed with.
const EFI: u32 = 0x0ef1;
/// The processor of the guests.
const X64: u16 = 0x8664;

const DUMP: &str = "dump it again: `hostctl gpu rom dump GPU FILE`, best before anything has used \
                    the card, or take the file of the card's maker";
const OTHER: &str = "take the ROM of this very card";

/// The name of a processor in an EFI image.
pub fn machine(machine: u16) -> String {
    match machine {
        0x014c => "ia32".to_owned(),
        0x0200 => "ia64".to_owned(),
        0x0ebc => "byte code".to_owned(),
        X64 => "x64".to_owned(),
        0xaa64 => "arm64".to_owned(),
        0x5064 => "riscv64".to_owned(),
        other => format!("{other:04x}"),
    }
}

#[derive(Default)]
struct Findings(Vec<FindingView>);

impl Findings {
    fn add(
        &mut self,
        severity: Severity,
        code: &str,
        object: impl Into<String>,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.0.push(FindingView {
            severity,
            code: code.to_owned(),
            object: object.into(),
            message: message.into(),
            advice: advice.into(),
        });
    }

    fn bad(&mut self, code: &str, object: impl Into<String>, said: impl Into<String>, do_: &str) {
        self.add(Severity::Critical, code, object, said, do_);
    }

    fn odd(&mut self, code: &str, object: impl Into<String>, said: impl Into<String>, do_: &str) {
        self.add(Severity::Warning, code, object, said, do_);
    }
}

const FILE: &str = "the file";

/// The findings, in the file's order, and what is good to know besides.
pub fn judge(rom: &Rom, card: Option<&Card>) -> (Vec<FindingView>, Vec<String>) {
    let (mut out, mut notes) = (Findings::default(), Vec::new());
    if let Some(header) = &rom.header {
        let whose = if header.nvidia { "NVIDIA's flash header" } else { "something unknown" };
        let said = format!("{whose}, {} bytes, stands before the first image", header.length);
        out.odd("header", FILE, said, "QEMU wants it without: add `--strip`");
    }
    for (number, image) in rom.images.iter().enumerate() {
        let object = format!("image {number} at {:#x}", image.offset);
        notes.extend(foreign(image.code).map(|whose| format!("{object} is {whose}")));
        one(&mut out, &object, image, card);
    }
    end(&mut out, rom);
    let has = |code| rom.images.iter().any(|image| image.code == code);
    if !rom.images.is_empty() {
        if !has(Code::Efi) {
            let said = "it has no EFI image: OVMF needs one to show a picture before the guest's \
                        driver runs";
            let fix =
                "with `firmware: seabios` it is enough; for OVMF take a newer ROM of this card";
            out.odd("no-efi", FILE, said, fix);
        }
        if !has(Code::X86) {
            notes.push("no BIOS image: SeaBIOS cannot start it, OVMF can".to_owned());
        }
    }
    if rom.rest > 0 && !rom.more {
        notes.push(format!("{} bytes follow the last image", rom.rest));
    }
    if rom.size == SHADOW && card.is_some_and(|card| card.boot_vga == Some(true)) {
        let said = "128 KiB from the boot display: this is the copy that firmware keeps in memory, \
                    which it may have changed, and not what is in the card";
        let fix = "make another card the boot display, or dump it on another machine";
        out.odd("shadow", FILE, said, fix);
    }
    if card.is_some_and(|card| card.id.is_none()) {
        notes.push("the card's ids cannot be read: whether this is its ROM is unknown".to_owned());
    }
    (out.0, notes)
}

/// What a guest on a PC does not use, and does not mind.
fn foreign(code: Code) -> Option<&'static str> {
    match code {
        Code::X86 | Code::Efi => None,
        Code::OpenFirmware => Some("for Open Firmware: a guest on a PC does not use it"),
        Code::PaRisc => Some("for PA-RISC: a guest on a PC does not use it"),
        Code::Other(0x70 | 0xe0) => Some("for the card's own processors (NVIDIA)"),
        Code::Other(_) => {
            Some("of a kind that hostd does not know: a guest on a PC does not use it")
        }
    }
}

fn one(out: &mut Findings, object: &str, image: &Image, card: Option<&Card>) {
    if let Some((vendor, device)) = card.and_then(|card| card.id) {
        let fits = image.id == (vendor, device)
            || (image.id.0 == vendor && image.devices.contains(&device));
        if !fits {
            let said = format!(
                "it is for {:04x}:{:04x}, and the card is {vendor:04x}:{device:04x}: wrong ids, \
                 dumped from another card",
                image.id.0, image.id.1
            );
            out.bad("wrong-ids", object, said, OTHER);
        }
    }
    if image.checksum == Some(false) {
        out.bad("checksum", object, "its bytes do not add up to 0: it is damaged", DUMP);
    }
    let lengths_differ = match image.code {
        Code::X86 => image.own_length > image.length || image.own_length == 0,
        Code::Efi => image.own_length != image.length,
        Code::OpenFirmware | Code::PaRisc | Code::Other(_) => false,
    };
    if lengths_differ {
        let said = format!(
            "it says two lengths, {} and {} bytes: it is damaged",
            image.own_length, image.length
        );
        out.bad("lengths", object, said, DUMP);
    }
    let Some(efi) = &image.efi else { return };
    if efi.signature != EFI {
        let said = format!("its EFI signature is {:08x} instead of 00000ef1", efi.signature);
        out.bad("efi-signature", object, said, DUMP);
    }
    if efi.machine != X64 {
        let said = format!("its driver is for another processor: {}", machine(efi.machine));
        out.bad("efi-machine", object, said, "a guest with OVMF needs one for x64");
    }
    if efi.compression > 1 {
        let said = format!("its driver is compressed in an unknown way ({})", efi.compression);
        out.bad("efi-compression", object, said, DUMP);
    }
    if efi.driver < UNIT / 16 || efi.driver >= image.length {
        let said = format!("its driver begins at {:#x}, outside of it", efi.driver);
        out.bad("efi-driver", object, said, DUMP);
    }
}

fn end(out: &mut Findings, rom: &Rom) {
    if let Some(byte @ (0 | 0xff)) = rom.fill {
        let said = format!("every byte is {byte:02x}: the card did not answer");
        let fix = "it may be asleep, off, or without a ROM: wake it by starting its driver, or \
                   power-cycle the machine, and dump again";
        return out.bad("blank", FILE, said, fix);
    }
    let at = |at: usize| format!("byte {at:#x}");
    match rom.end {
        End::Last if rom.more => {
            let said = "another image follows the one that says it is the last: it is damaged";
            out.bad("after-last", FILE, said, DUMP);
        }
        End::Last => {}
        End::File => {
            let said = "it ends after an image that says another follows: the end is missing";
            out.bad("no-last", FILE, said, DUMP);
        }
        End::Empty => out.bad("empty", FILE, "it is empty", DUMP),
        End::TooLarge => {
            let said = format!("{} bytes are more than any ROM has", rom.size);
            out.bad("too-large", FILE, said, "is this the right file?");
        }
        End::NoSignature(offset) if rom.images.is_empty() => {
            let said = "no image begins anywhere in it (55 AA)";
            out.bad("no-image", at(offset), said, "is this a ROM? if so, dump it again");
        }
        End::NoSignature(offset) => {
            let said =
                "another image should begin here (55 AA): a length is wrong, or it is damaged";
            out.bad("no-signature", at(offset), said, DUMP);
        }
        End::NoStructure(offset) => {
            let said = "the image here has no PCI data structure (PCIR): it is not a card's ROM, or \
                        it is damaged";
            out.bad("no-structure", at(offset), said, DUMP);
        }
        End::NoLength(offset) => {
            out.bad("no-length", at(offset), "the image here says it has no bytes", DUMP);
        }
        End::Truncated { at: offset, there } => {
            let whole = rom.images.last().map_or(0, |image| image.length);
            let said = format!("the image here has {whole} bytes, and the file ends after {there}");
            out.bad("truncated", at(offset), said, DUMP);
        }
    }
}

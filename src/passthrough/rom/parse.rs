//! One walk over the images of an option ROM. Nothing is judged here: what
//! cannot be followed is kept as the reason why the walk ended.
//!
//! Each image begins at a later byte than the one before, and every byte is
//! added up at most twice, so that no file makes this long.

use std::fmt;

/// The largest ROM that a card can have.
pub const MAX: usize = 16 << 20;

/// Lengths are counted in these.
pub const UNIT: usize = 512;

const SIGNATURE: [u8; 2] = [0x55, 0xaa];
/// The shortest PCI data structure.
const PCIR: usize = 0x18;
/// Where an image's own header has passed the pointer to it.
const HEADER: usize = 0x1a;
/// More devices than any image lists.
const DEVICES: usize = 256;

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// A BIOS of a PC.
    X86,
    /// Open Firmware.
    OpenFirmware,
    /// HP's PA-RISC.
    PaRisc,
    /// An EFI driver.
    Efi,
    /// Something else.
    Other(u8),
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::X86 => f.write_str("x86"),
            Self::OpenFirmware => f.write_str("open-firmware"),
            Self::PaRisc => f.write_str("pa-risc"),
            Self::Efi => f.write_str("efi"),
            Self::Other(code) => write!(f, "type-{code:02x}"),
        }
    }
}

/// What an EFI image says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Efi {
    /// Must be 0x0ef1.
    pub signature: u32,
    /// The processor it runs on.
    pub machine: u16,
    /// 0 plain, 1 compressed.
    pub compression: u16,
    /// Where the driver begins in the image.
    pub driver: usize,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// From the beginning of the file.
    pub offset: usize,
    /// As its data structure says; what is there may be less.
    pub length: usize,
    /// As its header says.
    pub own_length: usize,
    /// Vendor and device.
    pub id: (u16, u16),
    /// Other devices that it is for.
    pub devices: Vec<u16>,
    /// What it is for.
    pub code: Code,
    /// Whether it says that none follows.
    pub last: bool,
    /// Of a PC's BIOS that is there whole: whether its bytes add up to 0.
    pub checksum: Option<bool>,
    /// Of an EFI driver.
    pub efi: Option<Efi>,
}

/// Why the walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// An image said that it is the last.
    Last,
    /// The file ended with an image that said that another follows.
    File,
    /// The file is empty.
    Empty,
    /// The file is larger than any ROM; nothing of it was read.
    TooLarge,
    /// No image begins there.
    NoSignature(usize),
    /// An image begins there, and its data structure is not where it says.
    NoStructure(usize),
    /// An image there has no length.
    NoLength(usize),
    /// The image there goes on beyond the end of the file.
    Truncated {
        /// Where it begins.
        at: usize,
        /// How many bytes of it there are.
        there: usize,
    },
}

/// What stands before the first image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// In bytes.
    pub length: usize,
    /// Whether it is the one that NVIDIA's flash begins with.
    pub nvidia: bool,
}

/// A walked ROM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rom {
    /// Of the file.
    pub size: usize,
    /// What stands before the first image.
    pub header: Option<Header>,
    /// In the file's order.
    pub images: Vec<Image>,
    /// Why there are no more.
    pub end: End,
    /// What follows the last image: how many bytes that are not padding.
    pub rest: usize,
    /// Whether what follows begins like another image for a PC or EFI.
    pub more: bool,
    /// Every byte of the file is this one.
    pub fill: Option<u8>,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes([*pair.first()?, *pair.get(1)?]))
}

/// Walks a ROM.
pub fn walk(bytes: &[u8]) -> Rom {
    let first = bytes.first().copied();
    let fill = first.filter(|first| bytes.iter().all(|byte| byte == first));
    let mut rom = Rom {
        size: bytes.len(),
        header: None,
        images: Vec::new(),
        end: End::Empty,
        rest: 0,
        more: false,
        fill,
    };
    if bytes.is_empty() || bytes.len() > MAX {
        rom.end = if bytes.is_empty() { End::Empty } else { End::TooLarge };
        return rom;
    }
    let mut at = 0;
    if !bytes.starts_with(&SIGNATURE)
        && let Some(found) = first_image(bytes)
    {
        at = found;
        rom.header = Some(Header { length: at, nvidia: bytes.starts_with(b"NVGI") });
    }
    rom.end = loop {
        let rest = bytes.get(at..).unwrap_or_default();
        if rest.is_empty() {
            break End::File;
        }
        let image = match image(rest, at) {
            Ok(image) => image,
            Err(end) => break end,
        };
        let (last, length) = (image.last, image.length);
        rom.images.push(image);
        if length > rest.len() {
            break End::Truncated { at, there: rest.len() };
        }
        at += length;
        if last {
            break End::Last;
        }
    };
    let behind = if rom.end == End::Last { bytes.get(at..).unwrap_or_default() } else { &[] };
    rom.rest = behind.iter().rposition(|byte| !matches!(byte, 0 | 0xff)).map_or(0, |at| at + 1);
    rom.more = structure(behind).is_some_and(|pcir| matches!(behind.get(pcir + 0x14), Some(0 | 3)));
    rom
}

/// The first place where an image with its data structure begins.
fn first_image(bytes: &[u8]) -> Option<usize> {
    let starts = bytes.windows(2).enumerate().filter(|(_, pair)| *pair == SIGNATURE);
    starts.map(|(at, _)| at).find(|at| bytes.get(*at..).and_then(structure).is_some())
}

/// Where the data structure of the image at the beginning is.
fn structure(image: &[u8]) -> Option<usize> {
    if !image.starts_with(&SIGNATURE) {
        return None;
    }
    let pcir = usize::from(word(image, 0x18)?);
    let whole = image.get(pcir..pcir + PCIR)?;
    (pcir >= HEADER && whole.starts_with(b"PCIR")).then_some(pcir)
}

fn image(rest: &[u8], offset: usize) -> Result<Image, End> {
    if !rest.starts_with(&SIGNATURE) {
        return Err(End::NoSignature(offset));
    }
    let pcir = structure(rest).ok_or(End::NoStructure(offset))?;
    // The structure is there whole.
    let field = |at: usize| word(rest, pcir + at).unwrap_or_default();
    let byte = |at: usize| rest.get(pcir + at).copied().unwrap_or_default();
    let length = usize::from(field(0x10)) * UNIT;
    if length == 0 {
        return Err(End::NoLength(offset));
    }
    let code = match byte(0x14) {
        0 => Code::X86,
        1 => Code::OpenFirmware,
        2 => Code::PaRisc,
        3 => Code::Efi,
        other => Code::Other(other),
    };
    let whole = rest.get(..length);
    let units = match code {
        Code::X86 => rest.get(2).copied().map(u16::from),
        Code::OpenFirmware | Code::PaRisc | Code::Efi | Code::Other(_) => word(rest, 2),
    };
    let own_length = units.map_or(0, usize::from) * UNIT;
    // Since revision 3 the word that was for product data leads to a list.
    let list = if byte(0x0c) >= 3 { usize::from(field(0x08)) } else { 0 };
    Ok(Image {
        offset,
        length,
        own_length,
        id: (field(4), field(6)),
        devices: if list == 0 { Vec::new() } else { devices(rest, pcir + list) },
        code,
        last: byte(0x15) & 0x80 != 0,
        checksum: whole.filter(|_| code == Code::X86).map(|whole| adds_up(whole, own_length)),
        efi: (code == Code::Efi).then(|| efi(rest)),
    })
}

/// A PC's BIOS adds up over the length it is started with, which may be
/// shorter than the image.
fn adds_up(image: &[u8], own_length: usize) -> bool {
    let sum = |bytes: &[u8]| bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0;
    let own = image.get(..own_length).filter(|own| !own.is_empty());
    sum(image) || own.is_some_and(sum)
}

/// A list of device ids that ends with 0.
fn devices(image: &[u8], at: usize) -> Vec<u16> {
    let all = (0..DEVICES).map_while(|i| word(image, at + 2 * i));
    all.take_while(|device| *device != 0).collect()
}

fn efi(image: &[u8]) -> Efi {
    let field = |at| word(image, at).unwrap_or_default();
    Efi {
        signature: u32::from(field(4)) | u32::from(field(6)) << 16,
        machine: field(0x0a),
        compression: field(0x0c),
        driver: usize::from(field(0x16)),
    }
}

//! ROMs made for tests.

use super::parse::UNIT;

/// An image to be made.
#[derive(Debug, Clone)]
pub struct Make {
    pub code: u8,
    pub id: (u16, u16),
    pub units: u8,
    pub list: Vec<u16>,
    pub machine: u16,
    /// What its code consists of.
    pub seed: u8,
}

impl Make {
    pub fn bios() -> Self {
        let id = (0x1002, 0x67df);
        Self { code: 0, id, units: 3, list: Vec::new(), machine: 0x8664, seed: 7 }
    }

    pub fn efi() -> Self {
        Self { code: 3, units: 2, ..Self::bios() }
    }
}

/// Where the data structure is in every made image.
pub const PCIR: usize = 0x20;

fn put(image: &mut [u8], at: usize, value: u16) {
    image[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// One image; a BIOS adds up.
pub fn image(make: &Make, last: bool) -> Vec<u8> {
    let length = usize::from(make.units) * UNIT;
    // Code that holds no signature by chance.
    let code = (0..=0x3f).cycle().skip(usize::from(make.seed));
    let mut image: Vec<u8> = code.take(length).collect();
    image[..0x60].fill(0);
    image[..2].copy_from_slice(&[0x55, 0xaa]);
    image[2] = make.units;
    image[0x18] = 0x20;
    image[PCIR..PCIR + 4].copy_from_slice(b"PCIR");
    put(&mut image, PCIR + 4, make.id.0);
    put(&mut image, PCIR + 6, make.id.1);
    put(&mut image, PCIR + 0x0a, 0x1c);
    image[PCIR + 0x0c] = 3;
    image[PCIR + 0x0f] = 3;
    put(&mut image, PCIR + 0x10, u16::from(make.units));
    image[PCIR + 0x14] = make.code;
    image[PCIR + 0x15] = if last { 0x80 } else { 0 };
    if !make.list.is_empty() {
        put(&mut image, PCIR + 8, 0x1c);
        for (i, device) in make.list.iter().enumerate() {
            put(&mut image, PCIR + 0x1c + 2 * i, *device);
        }
    }
    if make.code == 3 {
        put(&mut image, 4, 0x0ef1);
        put(&mut image, 8, 0x0b);
        put(&mut image, 0x0a, make.machine);
        put(&mut image, 0x16, 0x60);
        // Never by chance a good BIOS.
        add_up(&mut image);
        let end = image.len() - 1;
        image[end] = image[end].wrapping_add(1);
    } else {
        add_up(&mut image);
    }
    image
}

/// Makes a BIOS add up to 0 again.
pub fn add_up(image: &mut [u8]) {
    let end = image.len() - 1;
    image[end] = 0;
    let sum = image.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    image[end] = sum.wrapping_neg();
}

/// Images one after the other, the last one marked.
pub fn rom(images: &[Make]) -> Vec<u8> {
    let last = images.len() - 1;
    images.iter().enumerate().flat_map(|(i, make)| image(make, i == last)).collect()
}

//! The ROM walker: no bytes make it panic, go back, or look twice.
#![no_main]

use hostd::passthrough::rom::parse::UNIT;
use hostd::passthrough::rom::{Card, strip, view, walk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let rom = walk(bytes);
    assert!(rom.images.len() <= bytes.len() / UNIT + 1);
    assert!(rom.images.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    assert!(rom.images.iter().all(|image| image.offset < bytes.len()));
    let card = Card { name: "gpu".to_owned(), id: Some((0x1002, 0x67df)), boot_vga: Some(true) };
    let judged = view("file", bytes, Some(&card));
    // What was stripped has nothing more to strip, and is no worse.
    let stripped = view("file", strip(bytes), Some(&card));
    assert!(stripped.header.is_none() || judged.header.is_none());
    assert!(stripped.images.len() == judged.images.len());
});

//! Frames: what is split off is within the cap and within the bytes.
#![no_main]

use hostd::riemann::frame::{self, HEADER};
use libfuzzer_sys::fuzz_target;

const CAP: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    while let Ok(Some(body)) = frame::split(rest, CAP) {
        assert!(body.len() <= CAP);
        rest = &rest[HEADER + body.len()..];
    }
});

//! The output of `zpool status -j`: no bytes make the parser panic, and what was not
//! understood is never green.
#![no_main]

use hostd::zfs::capture;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        capture::check_json(text);
    }
});

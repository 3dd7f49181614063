//! Quirk files: no bytes make the check panic, and what it lets through is sound.
#![no_main]

use hostd::config::{Source, quirks};
use hostd::passthrough::quirks::{Function, applies};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let to = Function {
        id: (0x1002, 0x67df),
        subsystem: Some((0x1043, 0x0001)),
        class: Some(0x03_0000),
        number: 0,
    };
    match quirks::read(&Source::quirks("quirks.d/fuzz.yaml", bytes)) {
        Ok(quirks) => {
            for quirk in quirks {
                assert!(!quirk.why.is_empty());
                assert!(quirk.experimental || !quirk.source.is_empty());
                assert!(!quirk.ids.is_empty() || !quirk.classes.is_empty());
                let _ = (applies(&quirk, to), quirk.action.to_string());
            }
        }
        Err(problems) => assert!(!problems.to_string().is_empty() && !problems.is_empty()),
    }
});

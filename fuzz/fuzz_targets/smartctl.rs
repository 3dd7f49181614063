//! What smartctl prints: no bytes make its parser panic, or keep much.
#![no_main]

use hostd::health::smart::parse::{MAX_BYTES, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(said) = parse(bytes) {
        assert!(bytes.len() <= MAX_BYTES);
        assert!(said.messages.len() <= 8 && said.smart.failing.len() <= 8);
        assert!(!said.smart.model.chars().any(char::is_control));
        assert!(said.smart.worn.is_none_or(|worn| (0.0..=10.0).contains(&worn)));
        assert!(said.smart.temperature.is_none_or(f64::is_finite));
    }
});

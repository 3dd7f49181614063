//! `streams:` of host.yaml: no bytes make the check panic, and what it lets
//! through takes any event.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| hostd::riemann::streams::fuzz(bytes));

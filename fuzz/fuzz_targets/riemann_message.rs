//! Messages: no bytes make the decoder panic or go past its caps, and what it
//! reads is written and read again the same.
#![no_main]

use hostd::base::Timestamp;
use hostd::riemann::decode::{self, Caps};
use hostd::riemann::{json, wire};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let caps = Caps { events: 64, event_bytes: 4096 };
    let now = Timestamp::from_secs(1);
    let Ok(message) = decode::message(bytes, now, &caps) else { return };
    assert!(message.events.len() <= caps.events);
    for event in &message.events {
        let _ = json::to_json(event).to_string();
    }
    let Some(frame) = wire::framed(&wire::events(&message.events), usize::MAX) else { return };
    let again = decode::message(&frame[4..], now, &Caps::default()).expect("what we write");
    assert_eq!(again.events.len(), message.events.len());
});

//! Lines for Graphite: no bytes make the reader panic, and what it takes is an
//! event with a name, a number and a time.
#![no_main]

use hostd::base::Timestamp;
use hostd::riemann::graphite_in::{self, MAX_LINE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(event)) = graphite_in::line(bytes, Timestamp::from_secs(1)) {
        assert!(bytes.len() <= MAX_LINE);
        assert!(event.service.is_some_and(|path| !path.is_empty()));
        assert!(event.metric.is_some_and(|value| !value.as_f64().is_nan()));
        assert!(event.time.is_some_and(|time| time.0 >= 0));
    }
});

//! Queries: no text makes the parser or the evaluator panic, and what is
//! written of a query means the same.
#![no_main]

use hostd::base::{Event, Metric, Severity};
use hostd::query;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    match query::parse(&text) {
        Ok(query) => {
            let event = Event::new("zpool tank health", Severity::Ok, "x").metric(Metric::Int(1));
            let _ = query.matches(&event);
            let again = query::parse(&query.to_string()).expect("what we write");
            assert_eq!(again, query);
        }
        Err(error) => {
            let _ = error.to_string();
        }
    }
});

//! What ZFS says of events, from zed and from `zpool events`, and the mount
//! table: no bytes make a parser panic, and what comes out is bounded.
#![no_main]

use hostd::zfs::events::parse::{Blocks, datagram};
use hostd::zfs::mounts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(event) = datagram(bytes) {
        assert!(!event.class.is_empty() && event.class.len() <= bytes.len() * 3);
        let _ = event.reaction();
    }
    let mut blocks = Blocks::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        let _ = blocks.line(line);
    }
    let found = mounts::parse(&String::from_utf8_lossy(bytes), Vec::new());
    assert!(found.pools.values().flatten().all(|mount| mount.path.starts_with('/')));
});

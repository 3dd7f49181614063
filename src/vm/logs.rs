//! The logs of a VM are bounded: they lie in the runtime folder, which is
//! memory, and a guest can write to its firmware's debug port and its serial port
//! without end.
//!
//! QEMU appends to all, so a log that has become too long is cut where it is;
//! its last part stays.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{debug, warn};

use super::paths;
use crate::base::Name;
use crate::host::Host;

/// The longest that a log may become before it is cut.
pub const LIMIT: u64 = 16 << 20;
/// What stays of it, as a part of its limit.
const KEPT: u64 = 16;
/// How often the logs are looked at.
const BEAT: Duration = Duration::from_secs(5);

/// Cuts the logs of `vm` that are longer than `limit`.
pub fn cut(host: &Host, vm: &Name, limit: u64) {
    for log in [paths::LOG, paths::FIRMWARE_LOG, paths::SERIAL_LOG] {
        match host.runtime.cut(paths::name(vm, log), limit, limit / KEPT) {
            Ok(false) => {}
            Ok(true) => warn!(%vm, "{log} was longer than {limit} bytes, and was cut"),
            Err(error) => warn!(%vm, "{error}: {}", error.source),
        }
    }
}

/// Keeps the logs of `vm` bounded, for ever.
pub async fn keep_bounded(host: Host, vm: Name) {
    loop {
        sleep(BEAT).await;
        let (host, vm) = (host.clone(), vm.clone());
        if let Err(error) = tokio::task::spawn_blocking(move || cut(&host, &vm, LIMIT)).await {
            debug!("looking at logs ended early: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn what_is_too_long_is_cut_and_its_end_stays() {
        let dir = tempfile::tempdir().unwrap();
        let host = FakeHost::new(dir.path()).host();
        let vm: Name = "gaming".parse().unwrap();
        cut(&host, &vm, 10);
        let long: Vec<_> = (0..100).map(|n| format!("line {n}\n")).collect();
        host.runtime.write("vms/gaming/firmware.log", &long.concat()).unwrap();
        host.runtime.write("vms/gaming/qemu.log", "short\n").unwrap();
        for _ in 0..2 {
            cut(&host, &vm, 400);
            let left = host.runtime.read("vms/gaming/firmware.log").unwrap().unwrap();
            let lines: Vec<_> = left.lines().collect();
            let first = "[hostd has cut this log: it was longer than 400 bytes]";
            assert_eq!(lines, [first, "line 97", "line 98", "line 99"]);
            assert_eq!(host.runtime.read("vms/gaming/qemu.log").unwrap().unwrap(), "short\n");
        }
    }
}

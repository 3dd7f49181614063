//! A start that never came to its end: the host went down meanwhile, and
//! perhaps because of it. Such a VM is not started by itself again.
//!
//! A file in the state folder says that a start is under way, and in which
//! boot. It is removed when the guest has run for a while or the start was
//! undone; one of an earlier boot is what this is about. Only VMs that start
//! with the host have it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::paths;
use crate::base::{Name, Timestamp, with_sources};
use crate::host::Host;
use crate::host::store::StoreError;

/// The file, beside the VM's identity.
pub const FILE: &str = "unfinished.json";

/// A guest that has run for so long has not taken the host down by starting.
pub const SETTLED: Duration = Duration::from_secs(60);

/// Which boot of the kernel this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[derive(Serialize, Deserialize)]
struct Mark {
    boot: String,
    at: Timestamp,
}

/// Notes that a start is under way, durably.
pub fn begin(host: &Host, vm: &Name) -> Result<(), StoreError> {
    let boot = host.sys.text(BOOT_ID).unwrap_or_default();
    let text = serde_json::to_string(&Mark { boot, at: host.clock.now() }).unwrap_or_default();
    host.state.write(paths::name(vm, FILE), &text)
}

/// It has come to its end, one way or the other.
pub fn end(host: &Host, vm: &Name) -> Result<(), StoreError> {
    host.state.remove(paths::name(vm, FILE))
}

/// Why this VM must not be started by itself, if so. What cannot be read is
/// such a reason: starting is what may take the host down.
pub fn why(host: &Host, vm: &Name) -> Option<String> {
    let begun = match host.state.read(paths::name(vm, FILE)) {
        Ok(None) => return None,
        Ok(Some(text)) => match serde_json::from_str::<Mark>(&text) {
            Ok(mark) if host.sys.text(BOOT_ID).is_ok_and(|boot| boot == mark.boot) => return None,
            Ok(mark) => format!("its start of {} was not finished", mark.at.iso()),
            Err(_) => "a start of it was not finished".to_owned(),
        },
        Err(error) => with_sources(&error),
    };
    Some(format!(
        "{begun} when the host last went down; it is not started by itself again \
         (`hostctl vm start {vm}` starts it)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn is_told_after_the_next_boot_until_a_start_ends() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let (host, vm) = (fake.host(), "gaming".parse().unwrap());
        fake.file(BOOT_ID, "one\n").unwrap();
        assert_eq!(why(&host, &vm), None);
        begin(&host, &vm).unwrap();
        assert_eq!(why(&host, &vm), None, "hostd was restarted, not the host");
        fake.file(BOOT_ID, "two\n").unwrap();
        assert!(why(&host, &vm).unwrap().contains("was not finished when the host"));
        end(&host, &vm).unwrap();
        assert_eq!(why(&host, &vm), None);
        host.state.write("vms/gaming/unfinished.json", "{").unwrap();
        assert!(why(&host, &vm).is_some(), "a damaged one is one");
    }
}

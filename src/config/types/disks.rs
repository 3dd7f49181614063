//! `disks:`, checked.

use std::time::Duration;

/// `disks:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disks {
    /// How often each disk is asked for its health.
    pub interval: Duration,
    /// Names, serial numbers or world wide names of disks that are not asked.
    pub ignore: Vec<String>,
}

impl Default for Disks {
    fn default() -> Self {
        Self { interval: Duration::from_secs(600), ignore: Vec::new() }
    }
}

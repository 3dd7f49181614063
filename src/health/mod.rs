//! The health of the machine's parts.
//!
//! - [`smart`]: disks, asked with `smartctl` without waking them

pub mod smart;

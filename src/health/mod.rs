//! The machine itself: what riemann-health and collectd's basics measure, from
//! procfs and sysfs, without starting a process.
//!
//! [`Observer::round`] looks once and gives a
//! [`MachineView`](crate::ask::view::MachineView): one reading a service, each
//! with its judgement. It never fails: what is not there is left out with a
//! note, what cannot be read is `unknown`.
//!
//! ```text
//!   /proc, /sys ─ read ─▶ text ─ parse ─▶ counters, values
//!                                             │ with those of the last round
//!                              judge ◀────────┘     ([`rate`], [`levels`])
//!                                └─▶ ReadingView
//! ```
//!
//! Names and levels are those of riemann-tools where it has them. Each file is
//! one source, with its reader, its parser and its judge: [`processor`] (cpu,
//! load, processes), [`memory`] (and swap, with ZFS's cache), [`mounts`] (space
//! and inodes), [`diskio`], [`net`], [`hwmon`] (temperatures, fans),
//! [`pressure`], [`gpu`], [`clock`] (uptime, time sync), [`kernel`] (failed
//! units, killed for want of memory, memory errors, file handles), [`reboot`].
//! Read [`look`] first: what each of them is handed. [`smart`] is apart: the
//! health of disks, asked with `smartctl` without waking them.

pub mod clock;
pub mod diskio;
pub mod gpu;
pub mod hwmon;
pub mod kernel;
pub mod levels;
pub mod look;
pub mod memory;
pub mod mounts;
pub mod net;
pub mod observer;
pub mod pressure;
pub mod processor;
pub mod rate;
pub mod reboot;
pub mod smart;
#[cfg(test)]
pub mod tests;

pub use observer::Observer;

//! PCI functions and IOMMU groups: what is there, what it is called, and
//! whether it can be given to a guest.
//!
//! In: sysfs and the system's pci.ids. Out: [`Facts`], and a judgement per
//! group in words. Nothing in this room writes to the machine.
//!
//! ```text
//!   /sys/bus/pci/devices ─┐
//!   /sys/kernel/iommu_groups ─┤ read ──▶ Facts ──▶ judge ──▶ verdict, blockers
//!   /usr/share/misc/pci.ids ─┘    │                  │
//!                              parse               view ──▶ `iommu list`
//!   config space, links, BARs ──▶ detail, acs ────────┴────▶ `iommu show`
//! ```
//!
//! - [`facts`]: the types; read this first
//! - [`mod@read`]: one walk over sysfs, linear in the number of functions
//! - [`parse`]: attributes, pure
//! - [`detail`]: what else a function says, when one is asked for
//! - [`config_space`]: its capability lists, pure; [`acs`]: why a group is as
//!   large as it is
//! - [`names`]: vendor and device in words
//! - [`judge`]: verdict per group; who blocks a wanted set of functions
//! - [`mod@changes`]: what is otherwise than at the last look
//! - [`absent`]: why there are no groups, and what to turn on
//! - [`mod@view`]: the replies to `iommu list` and `iommu show`
//! - [`fake`], [`fake_config`]: device trees with the kernel's manners, for tests

pub mod absent;
pub mod acs;
pub mod changes;
pub mod config_space;
pub mod detail;
pub mod facts;
pub mod fake;
pub mod fake_config;
mod fake_screen;
pub mod judge;
pub mod names;
pub mod parse;
pub mod read;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_full;
#[cfg(test)]
mod tests_linear;
pub mod view;

pub use absent::Absence;
pub use changes::{Change, What, changes};
pub use facts::{Device, Driver, Facts, Group};
pub use judge::{Blocker, viability};
pub use names::Names;
pub use read::read;
pub use view::{full, in_full, view};

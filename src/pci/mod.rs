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
//! ```
//!
//! - [`facts`]: the types; read this first
//! - [`mod@read`]: one walk over sysfs, linear in the number of functions
//! - [`parse`]: attributes, pure
//! - [`names`]: vendor and device in words
//! - [`judge`]: verdict per group; who blocks a wanted set of functions
//! - [`mod@changes`]: what is otherwise than at the last look
//! - [`absent`]: why there are no groups, and what to turn on
//! - [`mod@view`]: the reply to `iommu list`
//! - [`fake`]: device trees with the kernel's manners, for tests

pub mod absent;
pub mod changes;
pub mod facts;
pub mod fake;
pub mod judge;
pub mod names;
pub mod parse;
pub mod read;
#[cfg(test)]
mod tests;
pub mod view;

pub use absent::Absence;
pub use changes::{Change, What, changes};
pub use facts::{Device, Driver, Facts, Group};
pub use judge::{Blocker, viability};
pub use names::Names;
pub use read::read;
pub use view::view;

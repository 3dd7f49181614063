//! Disk health: which disk is about to fail, and where is it plugged in?
//!
//! In: sysfs, and the answers of `smartctl` to one disk after the other. Out:
//! a [`DisksView`](crate::ask::view::DisksView). Which vdev a disk is, and what
//! that means for its pool, is joined in `state/join.rs`.
//!
//! ```text
//!   /sys/block ─► find ─► links ─┐
//!                                ▼
//!   smartctl --json ─► parse ─► observer ─► judge ─► view
//!     one child at a time        │   ▲
//!     never to a sleeping disk   ▼   │
//!                               memory: rises, kept in disks.json
//! ```
//!
//! - [`find`], [`links`]: the disks and all names that lead to them
//! - [`read`]: what `smartctl` is asked, and what its exit status means
//! - [`parse`]: its JSON, pure; hostile until read
//! - [`memory`]: what the counters were on the days before
//! - [`judge`]: the table of findings; changes count, not sums. Pure
//! - [`observer`]: who is asked when

pub mod find;
pub mod judge;
pub mod links;
pub mod memory;
pub mod observer;
pub mod parse;
pub mod read;

pub use observer::Observer;

#[cfg(test)]
mod tests;

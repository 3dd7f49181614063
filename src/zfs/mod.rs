//! ZFS pool health: is every pool well, and how many more disks may fail?
//!
//! In: the kstat `state` of every pool, the output of `zpool status` (JSON
//! from 2.3 on, text from any version) and of `zpool list`. Out: a
//! [`PoolsView`](crate::ask::view::PoolsView), every finding with what to type.
//!
//! ```text
//!   kstat ──────────────┐  every round, no child
//!                       ▼
//!   zpool status ─► json │ text ─► model::Pool ─► redundancy ─► judge ─► view
//!   zpool list ───► list ──────────────────────────▲   ▲
//!          observer: what to ask when              memory: rises, hysteresis
//! ```
//!
//! - [`model`], [`words`]: the pool as ZFS describes it; read these first
//! - [`json`], [`text`], [`scan`], [`list`], [`keys`], [`fields`]: the parsers, pure
//! - [`redundancy`]: failures still tolerated, and why the number is never too high
//! - [`memory`]: what must be remembered between two readings; [`pace`]: how fast
//!   a scan goes; [`space`]: when it is full; [`kept`], [`archive`]: over a restart
//! - [`judge`] (with the table of findings), [`devices`], [`standing`], [`upkeep`], [`view`]
//! - [`disks`]: which disk a vdev is, from sysfs; [`parents`]: what failed disks share
//! - [`read`]: one pool read with `zpool`, whichever form it speaks
//! - [`events`]: what ZFS says when something happens, which is a reason to look
//! - [`mounts`]: where datasets are mounted, for what depends on a pool
//! - [`observer`]: kstats each round, `zpool` when there is a reason, never waiting
//! - [`scrub`]: scrubs started, paused and stopped
//! - [`snapshots`]: snapshots made, marked and destroyed
//! - [`elsewhere`]: who else scrubs and makes snapshots
//! - [`capture`]: judging a saved output without a machine

pub mod archive;
pub mod capture;
pub mod devices;
pub mod disks;
pub mod elsewhere;
pub mod events;
pub mod fields;
pub mod json;
pub mod judge;
pub mod kept;
pub mod keys;
pub mod list;
pub mod memory;
pub mod model;
pub mod mounts;
pub mod observer;
pub mod pace;
pub mod parents;
pub mod read;
pub mod redundancy;
pub mod scan;
pub mod scrub;
pub mod snapshots;
pub mod space;
pub mod standing;
pub mod text;
pub mod upkeep;
pub mod view;
pub mod words;

pub use capture::judge_capture;
pub use observer::Observer;

#[cfg(test)]
mod tests;

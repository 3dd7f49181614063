//! The history: every numeric series by (host, service) on a ladder of
//! archives, and the intervals in which each was in which state.
//!
//! ```text
//!  inlet ─▶ memory ── sealed buckets ─▶ writer (a thread) ─▶ store (SQLite)
//!             │                                                   │
//!             └──────────── what is not written yet ─▶ reader ◀───┘
//! ```
//!
//! - [`sketch`], [`bucket`]: what is known of one span of time, and how two of
//!   it are merged without losing percentiles
//! - [`code`]: their bytes
//! - [`memory`]: events → open buckets → sealed ones, level by level
//! - [`batch`]: what goes to the writer
//! - [`store`], [`pack`]: the database, and its upkeep
//! - [`writer`]: the one thread that writes; nothing else waits for a disk
//! - [`reader`]: what is asked of it
//! - [`intervals`]: how long what was in which state, by month
//!
//! The levels are the archives of the ladder, the finest first. A bucket is
//! sealed when its time and a little more has passed; it is then a row, and is
//! merged into the bucket of the next level. A row that is there already is
//! merged with the new one, so late events, a clock that jumps back and a
//! restart in the middle of a bucket all come out right. Read [`memory`] first.

pub mod batch;
pub mod bucket;
pub mod code;
pub mod intervals;
pub mod memory;
pub mod pack;
pub mod reader;
pub mod sketch;
pub mod store;
pub mod writer;

#[cfg(test)]
mod tests;

pub use bucket::{Bucket, Summary};
pub use memory::{Counters, Memory};
pub use reader::{Listed, Point, Reader, Series};
pub use writer::{History, Status};

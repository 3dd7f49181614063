//! What goes to the writer: sealed buckets, changes of states, and what was left out.

use std::sync::Arc;

/// What was left out, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Numbers taken in.
    pub taken: u64,
    /// Events of series beyond the cap.
    pub refused: u64,
    /// Numbers that are none, or infinite.
    pub no_number: u64,
    /// Events too old, or too far ahead.
    pub late: u64,
    /// Rows dropped because they could not be written.
    pub dropped: u64,
}

/// A sealed bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Place in the ladder.
    pub level: u8,
    /// Its first second.
    pub time: i64,
    /// Whose.
    pub series: u32,
    /// The bucket.
    pub data: Box<[u8]>,
}

/// A change of the intervals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// One has begun.
    Begin {
        /// Whose.
        series: u32,
        /// When, in seconds.
        since: i64,
        /// Which state.
        state: Arc<str>,
    },
    /// One has ended.
    End {
        /// Whose.
        series: u32,
        /// When it began.
        since: i64,
        /// When, in seconds.
        until: i64,
    },
}

/// What goes into one transaction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Batch {
    /// Counts the batches: the database tells which was its last.
    pub seq: u64,
    /// When it was made, in seconds.
    pub now: i64,
    /// New series: id, host, service.
    pub series: Vec<(u32, String, String)>,
    /// Sealed buckets.
    pub rows: Vec<Row>,
    /// Changes of states.
    pub states: Vec<Change>,
}

impl Row {
    /// Its bytes in memory.
    pub(super) fn weight(&self) -> usize {
        std::mem::size_of::<Self>() + self.data.len() + 16
    }
}

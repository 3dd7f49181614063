//! `history:`, checked.

use std::time::Duration;

use crate::base::Bytes;

/// One archive of the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Archive {
    /// Seconds of a point.
    pub step: u32,
    /// How many points are kept.
    pub points: u32,
}

impl Archive {
    /// How far it reaches back, in seconds.
    pub fn seconds(self) -> u64 {
        u64::from(self.step) * u64::from(self.points)
    }
}

/// `history:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The finest first; nothing is kept when there is none.
    pub ladder: Vec<Archive>,
    /// The most that it takes on disk.
    pub max_size: Bytes,
    /// The most series.
    pub max_series: usize,
    /// How often it is written.
    pub flush: Duration,
}

impl Default for History {
    fn default() -> Self {
        let archive = |step, points| Archive { step, points };
        Self {
            ladder: vec![
                archive(10, 360),
                archive(60, 10_080),
                archive(900, 2_880),
                archive(3_600, 17_520),
            ],
            max_size: Bytes(1 << 30),
            max_series: 5000,
            flush: Duration::from_secs(60),
        }
    }
}

//! `pools:`, checked.

use std::time::Duration;

use super::Levels;

/// How old the last scrub of a pool may be when the file does not say: monthly
/// scrubs, and some days for one that was put off.
const SCRUB_OVERDUE: Duration = Duration::from_secs(35 * 86_400);

/// `pools:`.
#[derive(Debug, Clone, PartialEq)]
pub struct Pools {
    /// Pools that must be there; their absence is critical.
    pub expected: Vec<String>,
    /// How old the last scrub may be; `None` for any age.
    pub scrub_overdue: Option<Duration>,
    /// How full a pool may be, as fractions.
    pub capacity: Levels,
}

impl Default for Pools {
    fn default() -> Self {
        Self {
            expected: Vec::new(),
            scrub_overdue: Some(SCRUB_OVERDUE),
            capacity: Levels::new(0.85, 0.95),
        }
    }
}

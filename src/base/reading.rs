//! A value read from the machine, which may be old or missing. Unknown is
//! never green: whoever judges a reading has to say what the other cases mean.

use serde::{Deserialize, Serialize};

use super::{Severity, Timestamp};

/// A value with the state of our knowledge of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reading", rename_all = "lowercase")]
pub enum Reading<T> {
    /// Read in the last round.
    Known {
        /// What was read.
        value: T,
    },
    /// Read before, but not in the last round.
    Stale {
        /// The last value read.
        value: T,
        /// Why it could not be read again.
        why: String,
        /// When it was last read.
        since: Timestamp,
    },
    /// Never read, or too old to be worth showing.
    Unknown {
        /// Why it cannot be read.
        why: String,
        /// Since when.
        since: Timestamp,
    },
}

impl<T> Reading<T> {
    /// The value, fresh or stale.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Known { value } | Self::Stale { value, .. } => Some(value),
            Self::Unknown { .. } => None,
        }
    }

    /// The value only if it is fresh.
    pub fn known(&self) -> Option<&T> {
        match self {
            Self::Known { value } => Some(value),
            Self::Stale { .. } | Self::Unknown { .. } => None,
        }
    }

    /// Why there is no fresh value.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Known { .. } => None,
            Self::Stale { why, .. } | Self::Unknown { why, .. } => Some(why),
        }
    }

    /// The severity of the value as `judge` sees it; unknown unless fresh.
    pub fn severity(&self, judge: impl FnOnce(&T) -> Severity) -> Severity {
        self.known().map_or(Severity::Unknown, judge)
    }

    /// This reading followed by a failed attempt at `now`: a known value turns
    /// stale, a stale one keeps its age.
    #[must_use]
    pub fn failed(self, why: String, now: Timestamp) -> Self {
        match self {
            Self::Known { value } => Self::Stale { value, why, since: now },
            Self::Stale { value, since, .. } => Self::Stale { value, why, since },
            Self::Unknown { since, .. } => Self::Unknown { why, since },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_reading_is_never_green() {
        let reading = Reading::Known { value: 1 };
        assert_eq!(reading.severity(|_| Severity::Ok), Severity::Ok);
        let stale =
            reading.failed("gone".into(), Timestamp(5)).failed("still".into(), Timestamp(9));
        assert_eq!(stale.severity(|_| Severity::Ok), Severity::Unknown);
        assert_eq!(stale, Reading::Stale { value: 1, why: "still".into(), since: Timestamp(5) });
    }
}

//! The event, in Riemann's model: the shape of everything the daemon knows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Severity, Timestamp};

/// A number with the type it had on the wire: the query language compares
/// numbers with their type, so `metric = 1` does not match `1.0`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Metric {
    /// `metric_sint64`.
    Int(i64),
    /// `metric_d`.
    Double(f64),
    /// `metric_f`.
    Float(f32),
}

impl Metric {
    /// The value as a double, for arithmetic.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Double(value) => value,
            Self::Float(value) => f64::from(value),
        }
    }
}

/// A point in time of one service on one host. Every field may be absent, as
/// on the wire; hostd's own events always have host, service, state, time and
/// ttl.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// Name of the host, as users know it.
    pub host: Option<String>,
    /// What was measured, `zpool tank health`; with `host` the index key.
    pub service: Option<String>,
    /// `ok`, `warning`, `critical`, `unknown`, `expired`, or a sender's own word.
    pub state: Option<String>,
    /// Text for people.
    pub description: Option<String>,
    /// The measured value; fractions 0–1 rather than percent.
    pub metric: Option<Metric>,
    /// Free words; hostd's own events carry `hostd`.
    pub tags: Vec<String>,
    /// Seconds for which the event counts as current.
    pub ttl: Option<f32>,
    /// When it was measured.
    pub time: Option<Timestamp>,
    /// Further keys: `vm`, `pool`, `vdev`, `device`, `unit`, …
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// An event of hostd's own making; the daemon adds host, time and ttl.
    pub fn new(
        service: impl Into<String>,
        state: Severity,
        description: impl Into<String>,
    ) -> Self {
        Self {
            service: Some(service.into()),
            state: Some(state.as_str().to_owned()),
            description: Some(description.into()),
            tags: vec!["hostd".to_owned()],
            ..Self::default()
        }
    }

    /// The same with a metric.
    #[must_use]
    pub fn metric(mut self, metric: Metric) -> Self {
        self.metric = Some(metric);
        self
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn attribute(mut self, key: &str, value: impl Into<String>) -> Self {
        self.attributes.insert(key.to_owned(), value.into());
        self
    }
}

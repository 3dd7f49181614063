//! Services, events, and the whole at a glance.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::{Event, Metric, Severity, Timestamp};

/// `hostctl service list`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServicesView {
    /// By name.
    pub services: Vec<ServiceView>,
}

/// One watched service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServiceView {
    /// Configured name.
    pub name: String,
    /// Its worst layer.
    pub health: Severity,
    /// The layer that decides: `unit`, `connect`, `protocol`, `path`, …
    pub layer: String,
    /// What is the case.
    pub message: String,
    /// What to do; empty when nothing.
    pub advice: String,
    /// Seconds the probe took.
    pub latency: Option<f64>,
    /// Since when it has been in this health.
    pub since: Timestamp,
    /// How it is asked: `smb`, `plex`, `container`, `command`, …
    #[serde(default)]
    pub kind: String,
    /// Whether hostd has found it by itself; else it is configured.
    #[serde(default)]
    pub discovered: bool,
    /// Each layer that was looked at, from the unit up.
    #[serde(default)]
    pub layers: Vec<LayerView>,
    /// What it serves, with the folders behind it.
    #[serde(default)]
    pub shares: Vec<ShareView>,
    /// Sessions that are live now, where the service tells.
    #[serde(default)]
    pub sessions: Option<u64>,
    /// How often it was restarted in the last ten minutes.
    #[serde(default)]
    pub restarts: u64,
    /// The first value of a Nagios plugin.
    #[serde(default)]
    pub value: Option<f64>,
    /// All its values with their units, by label.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// How often hostd itself has restarted it within the time of its policy.
    #[serde(default)]
    pub restarted: u64,
    /// Whether it accepts connections and says nothing.
    #[serde(default)]
    pub hung: bool,
}

/// One layer of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LayerView {
    /// `unit`, `connect`, `tls`, `protocol`, `library`, `path`, …
    pub name: String,
    /// How well it is.
    pub health: Severity,
    /// What is the case.
    pub message: String,
    /// Since when it has been in this health.
    pub since: Timestamp,
}

/// A folder that a service serves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ShareView {
    /// How clients call it: `media`, `Movies`.
    pub name: String,
    /// The folder behind it.
    pub path: String,
}

/// `hostctl event query`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EventsView {
    /// By host and service.
    pub events: Vec<EventView>,
}

/// `hostctl event tail`, one answer of many.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct TailView {
    /// For the next ask; it ends when nobody asks for a minute.
    pub session: u64,
    /// What has arrived since the last answer, in its order.
    pub events: Vec<EventView>,
    /// How many were lost since the last answer, because they were not fetched
    /// in time.
    pub lost: u64,
}

/// One event; every key is always there. In what is sent any may be left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventView {
    /// Host.
    pub host: Option<String>,
    /// Service.
    pub service: Option<String>,
    /// State.
    pub state: Option<String>,
    /// Text for people.
    pub description: Option<String>,
    /// Value; null when absent or not a number.
    pub metric: Option<f64>,
    /// Tags.
    pub tags: Vec<String>,
    /// Seconds.
    pub ttl: Option<f32>,
    /// Seconds since 1970, with a fraction.
    pub time: Option<f64>,
    /// Further keys.
    pub attributes: BTreeMap<String, String>,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        Self {
            host: event.host.clone(),
            service: event.service.clone(),
            state: event.state.clone(),
            description: event.description.clone(),
            metric: event.metric.map(Metric::as_f64).filter(|m| m.is_finite()),
            tags: event.tags.clone(),
            ttl: event.ttl,
            time: event.time.map(Timestamp::secs_f64),
            attributes: event.attributes.clone(),
        }
    }
}

impl From<EventView> for Event {
    /// A whole number becomes an integer on the wire.
    fn from(event: EventView) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "whole and small enough")]
        let metric = |value: f64| {
            if value.fract() == 0.0 && value.abs() < 9e15 {
                Metric::Int(value as i64)
            } else {
                Metric::Double(value)
            }
        };
        Self {
            host: event.host,
            service: event.service,
            state: event.state,
            description: event.description,
            metric: event.metric.map(metric),
            tags: event.tags,
            ttl: event.ttl,
            time: event.time.map(Timestamp::from_secs_f64),
            attributes: event.attributes,
        }
    }
}

/// `hostctl status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// Name of the host in events.
    pub host: String,
    /// Version of the daemon.
    pub version: String,
    /// Started.
    pub started: Timestamp,
    /// How often the snapshot has changed.
    pub generation: u64,
    /// The worst of everything below.
    pub health: Severity,
    /// One line per thing that matters, worst first.
    pub lines: Vec<StatusLine>,
    /// What the daemon cannot do here and why: no root, no IOMMU, no bus.
    pub unavailable: Vec<String>,
}

/// One line of `hostctl status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusLine {
    /// `iommu`, `gpu`, `vm`, `pool`, `disk`, `care`, `service`, `host`.
    pub kind: String,
    /// Which one.
    pub name: String,
    /// How it is.
    pub health: Severity,
    /// Its state in one word: `running`, `bound`, `DEGRADED`.
    pub state: String,
    /// What a person should know.
    pub summary: String,
}

//! `services:`, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::Name;

/// A watched service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// How people call it; the event's service is `service <name>`.
    pub name: Name,
    /// systemd unit, the first layer.
    pub unit: Option<String>,
    /// How it is asked.
    pub probe: Probe,
    /// Backing folder, the last layer: it must be there and answer.
    pub path: Option<PathBuf>,
    /// How often.
    pub interval: Duration,
    /// How long each layer may take.
    pub deadline: Duration,
    /// When its unit is restarted by itself; never when absent.
    pub restart: Option<RestartPolicy>,
}

/// When a unit is restarted by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPolicy {
    /// How long it must not have worked.
    pub after: Duration,
    /// How many restarts there are at most…
    pub at_most: u32,
    /// …in this time.
    pub within: Duration,
    /// What for.
    pub on: Vec<Trouble>,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(30),
            at_most: 3,
            within: Duration::from_secs(3600),
            on: vec![Trouble::Failed],
        }
    }
}

/// What a service is restarted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Its unit has failed.
    Failed,
    /// It accepts connections and does not answer.
    Hung,
}

/// How a service is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Only its unit and path are looked at.
    None,
    /// A connection is enough.
    Tcp(SocketAddr),
    /// SMB2 negotiation.
    Smb(SocketAddr),
    /// AFP status over DSI.
    Afp(SocketAddr),
}

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

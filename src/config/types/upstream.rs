//! `upstream:`, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::Name;
use crate::query::Query;

/// `upstream:`: where events are sent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Upstream {
    /// Servers of Riemann's protocol.
    pub riemann: Vec<RiemannSink>,
    /// Servers of Graphite's.
    pub graphite: Vec<GraphiteSink>,
}

/// What both have.
#[derive(Debug, Clone, PartialEq)]
pub struct Sink {
    /// Its events are `sink <name>`, its outbox is named like it.
    pub name: Name,
    /// Where it is.
    pub address: SocketAddr,
    /// Which events it gets; all when absent.
    pub wanted: Option<Wanted>,
    /// How long it may take for one step.
    pub deadline: Duration,
    /// Bytes on the disk before the oldest events are dropped.
    pub keep: u64,
    /// How long an event waits before it is dropped.
    pub keep_for: Duration,
}

/// A query with its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// As it is written.
    pub text: String,
    /// The same, read.
    pub query: Query,
}

/// A server of Riemann's protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct RiemannSink {
    /// What all sinks have.
    pub sink: Sink,
    /// How it is reached.
    pub way: Way,
    /// Events in one message at most.
    pub batch: usize,
    /// Messages under way at most that are not acknowledged.
    pub window: usize,
    /// Whether events older than their ttl are sent after an outage.
    pub replay_expired: bool,
}

/// How a Riemann is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Over TCP, acknowledged.
    Tcp,
    /// The same, encrypted.
    Tls(UpstreamTls),
    /// Datagrams; nothing is acknowledged.
    Udp,
}

/// What TLS needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name in the server's certificate; its IP address when absent.
    pub server_name: Option<String>,
    /// Who has signed it.
    pub ca: PathBuf,
    /// Our certificate and its key, if the server wants one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A server of Graphite's protocols.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphiteSink {
    /// What all sinks have.
    pub sink: Sink,
    /// How points are written.
    pub format: GraphiteFormat,
    /// Before every path; empty for nothing.
    pub prefix: String,
    /// How a path is made.
    pub path: String,
}

/// How Graphite takes points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphiteFormat {
    /// A line each.
    Plaintext,
    /// Python's pickle, many at once.
    Pickle,
}

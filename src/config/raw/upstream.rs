//! `upstream:` of `host.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::List;
use crate::config::formats::{AbsolutePath, Endpoint, HostName, Label, Size, Span, Text};
use crate::config::words::Argument;

/// Where events are sent besides. Each place has a queue on the disk: what it
/// has not taken yet survives a restart, and goes there when it is back.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawUpstream {
    /// Servers of Riemann's protocol: Riemann, or another hostd.
    pub riemann: List<RawRiemannSink>,
    /// Servers of Graphite's protocols: carbon, or what understands it.
    pub graphite: List<RawGraphiteSink>,
}

/// A server of Riemann's protocol.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawRiemannSink {
    /// How you call it; its events are `sink <name>`.
    #[schemars(required, extend("examples" = ["fleet"]))]
    pub name: Option<Text<Label>>,
    /// Where it is.
    #[schemars(required, extend("examples" = ["192.168.1.5:5555"]))]
    pub address: Option<Text<Endpoint>>,
    /// How it is reached.
    #[schemars(extend("default" = "tcp"))]
    pub protocol: Option<RawRiemannWay>,
    /// With `tls`: the name in the server's certificate, when that is not its
    /// IP address.
    #[schemars(extend("examples" = ["riemann.home.arpa"]))]
    pub server_name: Option<Text<HostName>>,
    /// With `tls`, which needs it: a file (PEM) with the certificate that has
    /// signed the server's, or that is the server's.
    #[schemars(extend("examples" = ["/etc/hostd/upstream-ca.pem"]))]
    pub ca: Option<Text<AbsolutePath>>,
    /// With `tls`: our own certificate (PEM), if the server asks for one.
    #[schemars(extend("examples" = ["/etc/hostd/upstream.pem"]))]
    pub certificate: Option<Text<AbsolutePath>>,
    /// The key of `certificate` (PEM), in a file that only root can read.
    #[schemars(extend("examples" = ["/etc/hostd/upstream.key"]))]
    pub key: Option<Text<AbsolutePath>>,
    /// Which events it gets, in the query language; all when absent.
    #[schemars(extend("examples" = ["tagged \"hostd\" and not service =~ \"diskstats %\""]))]
    pub r#where: Option<Text<Argument>>,
    /// How many events one message has at most.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 1000))]
    pub batch: Option<u32>,
    /// How many messages are under way at most before the first is
    /// acknowledged. What is under way when a connection breaks is sent again.
    #[schemars(range(min = 1, max = 100), extend("default" = 8))]
    pub window: Option<u32>,
    /// How long it may take for a connection or an acknowledgement. 1s to 5m.
    #[schemars(extend("default" = "10s"))]
    pub deadline: Option<Text<Span>>,
    /// What becomes, after an outage, of events that are older than their ttl:
    /// with `true` they are sent, tagged `replayed`; else they are counted.
    #[schemars(extend("default" = false))]
    pub replay_expired: Option<bool>,
    /// How much waits on the disk, 1M to 16G; beyond, the oldest is dropped and
    /// counted.
    #[schemars(extend("default" = "64M"))]
    pub keep: Option<Text<Size>>,
    /// How long an event waits before it is dropped and counted. 1m to 365d.
    #[schemars(extend("default" = "7d"))]
    pub keep_for: Option<Text<Span>>,
}

/// How a Riemann is reached.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawRiemannWay {
    /// Acknowledged.
    Tcp,
    /// Acknowledged and encrypted.
    Tls,
    /// Datagrams, of which any may be lost unseen.
    Udp,
}

/// A server of Graphite's protocols. It gets every event that has a number.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawGraphiteSink {
    /// How you call it; its events are `sink <name>`.
    #[schemars(required, extend("examples" = ["graphite"]))]
    pub name: Option<Text<Label>>,
    /// Where it is: carbon's usual ports are 2003 for lines, 2004 for pickle.
    #[schemars(required, extend("examples" = ["192.168.1.5:2003"]))]
    pub address: Option<Text<Endpoint>>,
    /// How it takes points.
    #[schemars(extend("default" = "plaintext"))]
    pub protocol: Option<RawGraphiteFormat>,
    /// What comes before every path.
    #[schemars(extend("examples" = ["home"]))]
    pub prefix: Option<Text<Argument>>,
    /// How a path is made: `{reversed-host}`, `{host}` and `{service}` stand for
    /// the event's. As Riemann does it when absent.
    #[schemars(extend("default" = "{reversed-host}.{service}"))]
    pub path: Option<Text<Argument>>,
    /// Which events it gets, in the query language; all when absent.
    #[schemars(extend("examples" = ["tagged \"hostd\""]))]
    pub r#where: Option<Text<Argument>>,
    /// How long it may take for a connection, or without taking a byte. 1s to 5m.
    #[schemars(extend("default" = "10s"))]
    pub deadline: Option<Text<Span>>,
    /// How much waits on the disk, 1M to 16G; beyond, the oldest is dropped and
    /// counted.
    #[schemars(extend("default" = "64M"))]
    pub keep: Option<Text<Size>>,
    /// How long an event waits before it is dropped and counted. 1m to 365d.
    #[schemars(extend("default" = "7d"))]
    pub keep_for: Option<Text<Span>>,
}

/// How Graphite takes points.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawGraphiteFormat {
    /// A line each.
    Plaintext,
    /// Python's pickle, many at once: less work for a carbon.
    Pickle,
}

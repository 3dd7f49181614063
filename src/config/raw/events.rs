//! `events:` and `web:` of `host.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::List;
use crate::config::formats::{AbsolutePath, HostName, Listen, Span, Text};
use crate::config::nets::{Subnet, WebOrigin};

/// Where others reach the event engine. Off loopback a port needs to know who
/// may come: TLS its clients' certificates, the web socket a token, the plain
/// ports a list of networks.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawEvents {
    /// Riemann's protocol over TCP: events in, queries answered. Off loopback
    /// it needs `allow`, and only takes events in.
    #[schemars(extend("default" = "127.0.0.1:5555"))]
    pub tcp: Option<Text<Listen>>,
    /// Riemann's protocol over UDP: events in. Off loopback it needs `allow`.
    #[schemars(extend("default" = "127.0.0.1:5555"))]
    pub udp: Option<Text<Listen>>,
    /// Who may send events to `tcp`, `udp` and `graphite` from elsewhere. They
    /// cannot ask. UDP senders can lie about where they are: only networks in
    /// which you trust everybody.
    pub allow: List<Text<Subnet>>,
    /// Riemann's protocol over TLS, usually on port 5554: events in, queries
    /// answered. Needs `certificate`, `key` and `client-ca`.
    #[schemars(extend("default" = "off"))]
    pub tls: Option<Text<Listen>>,
    /// The machine's certificate, PEM, the issuers' after it.
    pub certificate: Option<Text<AbsolutePath>>,
    /// Its key, PEM.
    pub key: Option<Text<AbsolutePath>>,
    /// Whose certificates the clients of `tls` must have, PEM.
    pub client_ca: Option<Text<AbsolutePath>>,
    /// HTTP: web sockets and server-sent events (`/index`, `/pubsub/TOPIC`),
    /// events in by `POST /events`. Off loopback it needs a token.
    #[schemars(extend("default" = "127.0.0.1:5556"))]
    pub websocket: Option<Text<Listen>>,
    /// Whether `websocket` speaks TLS, with `certificate` and `key`.
    #[schemars(extend("default" = false))]
    pub websocket_tls: Option<bool>,
    /// File with the token for `websocket`, at least 16 characters in one
    /// line. With it, nobody comes in without it.
    pub token_file: Option<Text<AbsolutePath>>,
    /// The same for those who may only read.
    pub read_token_file: Option<Text<AbsolutePath>>,
    /// Host names by which browsers and proxies may reach `websocket` where
    /// there is no token. `localhost`, the machine's own name and IP addresses
    /// always may; others could be the trick of a web page.
    pub names: List<Text<HostName>>,
    /// Web pages of others that may use `websocket`.
    pub origins: List<Text<WebOrigin>>,
    /// Graphite's lines over TCP and UDP, usually on port 2003. Off loopback
    /// it needs `allow`.
    #[schemars(extend("default" = "off"))]
    pub graphite: Option<Text<Listen>>,
    /// How often events are looked for whose ttl has passed. 100ms to 1m.
    #[schemars(extend("default" = "1s"))]
    pub expire: Option<Text<Span>>,
}

/// The HTTP port for people and Prometheus: `/metrics` in `OpenMetrics`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawWeb {
    /// Where it is. Off loopback it needs `token-file` or `client-ca`.
    #[schemars(extend("default" = "127.0.0.1:9555"))]
    pub listen: Option<Text<Listen>>,
    /// File with the token, at least 16 characters in one line. With it,
    /// nobody comes in without it.
    pub token_file: Option<Text<AbsolutePath>>,
    /// The machine's certificate, PEM; with it and `key` the port speaks TLS.
    pub certificate: Option<Text<AbsolutePath>>,
    /// Its key, PEM.
    pub key: Option<Text<AbsolutePath>>,
    /// Whose certificates the clients must have, PEM.
    pub client_ca: Option<Text<AbsolutePath>>,
    /// Host names by which it may be reached where there is no token, as under
    /// `events`.
    pub names: List<Text<HostName>>,
    /// Web pages of others that may use it.
    pub origins: List<Text<WebOrigin>>,
}

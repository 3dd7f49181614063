//! `services:` of `host.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::formats::{AbsolutePath, Endpoint, Label, Span, Text, Unit};

/// A watched service: its unit, its port, its protocol, its folder, in this order.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawService {
    /// How you call it; its events are `service <name>`.
    #[schemars(required, extend("examples" = ["smb"]))]
    pub name: Option<Text<Label>>,
    /// How it is asked whether it works.
    #[schemars(extend("default" = "none"))]
    pub probe: Option<RawProbe>,
    /// Where it listens. On this machine at the protocol's usual port when
    /// absent (smb 445, afp 548); `tcp` has no usual port and needs it.
    pub address: Option<Text<Endpoint>>,
    /// Its systemd unit, which must be active.
    pub unit: Option<Text<Unit>>,
    /// The folder it serves, which must be there and answer.
    #[schemars(extend("examples" = ["/tank/media"]))]
    pub path: Option<Text<AbsolutePath>>,
    /// How often it is asked. 1s to 1h.
    #[schemars(extend("default" = "10s"))]
    pub interval: Option<Text<Span>>,
    /// How long each step may take, 100ms to 5m. 5s when absent, or the
    /// interval if that is shorter.
    pub deadline: Option<Text<Span>>,
}

/// How a service is asked.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawProbe {
    /// SMB2 negotiation.
    Smb,
    /// AFP status.
    Afp,
    /// A connection is enough.
    Tcp,
    /// Not at all: only its unit and folder are looked at.
    None,
}

//! `services:` of `host.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::List;
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
    /// That hostd restarts its `unit` when it does not work. It leaves it alone
    /// when absent. Never restarted is what somebody has stopped.
    pub restart: Option<RawServiceRestart>,
}

/// When hostd restarts a unit, and how often at most.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawServiceRestart {
    /// How long it must not have worked. 1s to 1h.
    #[schemars(extend("default" = "30s"))]
    pub after: Option<Text<Span>>,
    /// How many restarts there are at most `within` a time; then it is left
    /// alone, which its message says.
    #[schemars(range(min = 1, max = 100), extend("default" = 3))]
    pub at_most: Option<u32>,
    /// In which time. 1m to 7d.
    #[schemars(extend("default" = "1h"))]
    pub within: Option<Text<Span>>,
    /// What it is restarted for; only `failed` when absent.
    pub on: List<RawServiceTrouble>,
}

/// What a service is restarted for.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawServiceTrouble {
    /// Its unit has failed.
    Failed,
    /// It accepts connections and does not answer its `probe`.
    Hung,
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

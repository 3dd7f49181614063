//! `disks:` of `host.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::List;
use crate::config::formats::{Span, Text};
use crate::config::words::ShortText;

/// The health of disks.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawDisks {
    /// How often each disk is asked, one after the other. One that sleeps is
    /// not woken; one that spins and is not used is asked less often, so that
    /// it can fall asleep. 1m to 1d.
    #[schemars(extend("default" = "10m"))]
    pub interval: Option<Text<Span>>,
    /// Disks that are not asked: their serial number, world wide name, or name
    /// (`sdc`, which may be another disk after the next boot).
    pub ignore: List<Text<ShortText>>,
}

//! `pools:` of `host.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{List, RawPercent};
use crate::config::formats::{PoolName, SpanOrOff, Text};

/// ZFS pools.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawPools {
    /// Pools that must be there: a missing one is critical.
    pub expected: List<Text<PoolName>>,
    /// A pool whose last scrub is longer ago is a warning; `off` for none. 1d to
    /// 3650d. A pool that was never scrubbed counts from when hostd first saw it.
    #[schemars(extend("default" = "35d"))]
    pub scrub_overdue: Option<Text<SpanOrOff>>,
    /// How full a pool may be, in percent: 85 and 95 when absent. Halfway
    /// between the two it is said again.
    pub capacity: Option<RawPercent>,
}

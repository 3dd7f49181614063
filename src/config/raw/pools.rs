//! `pools:` of `host.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::List;
use crate::config::formats::{PoolName, Text};

/// ZFS pools.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPools {
    /// Pools that must be there: a missing one is critical.
    pub expected: List<Text<PoolName>>,
}

//! `health:` of `host.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::List;
use crate::config::formats::{AbsolutePath, Text, Word};

/// What is measured of the machine itself, and from where on it is worth a
/// word. All of it is measured without this section.
#[derive(Deserialize, JsonSchema, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawHealth {
    /// How busy the processors are, in percent. 90 and 95 when absent.
    pub cpu: Option<RawPercent>,
    /// Waiting and running threads for each processor, over a minute. 3 and 8
    /// when absent.
    pub load: Option<RawCount>,
    /// Memory that is used and could not be freed, in percent. 85 and 95 when absent.
    pub memory: Option<RawPercent>,
    /// Swap that is used, in percent. 40 and 50 when absent.
    pub swap: Option<RawPercent>,
    /// Space that is used of a file system, in percent. 90 and 95 when absent.
    pub disk: Option<RawPercent>,
    /// Inodes that are used of a file system, in percent. 90 and 95 when absent.
    pub inodes: Option<RawPercent>,
    /// Time in which everybody waits for memory, in percent of the last ten
    /// seconds. 10 and 40 when absent.
    pub memory_pressure: Option<RawPercent>,
    /// Which file systems are looked at.
    pub mounts: Option<RawMounts>,
    /// Which network interfaces are looked at.
    pub interfaces: Option<RawInterfaces>,
}

/// Two levels, in percent.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub struct RawPercent {
    /// From here on it is a warning.
    #[schemars(range(min = 1, max = 100))]
    pub warning: Option<u32>,
    /// From here on it is critical.
    #[schemars(range(min = 1, max = 100))]
    pub critical: Option<u32>,
}

/// Two levels.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub struct RawCount {
    /// From here on it is a warning.
    #[schemars(range(min = 1, max = 10_000))]
    pub warning: Option<u32>,
    /// From here on it is critical.
    #[schemars(range(min = 1, max = 10_000))]
    pub critical: Option<u32>,
}

/// Which file systems are looked at.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawMounts {
    /// Only these, of whatever kind. All local disks' file systems when absent.
    pub only: List<Text<AbsolutePath>>,
    /// Not these.
    pub ignore: List<Text<AbsolutePath>>,
}

/// Which network interfaces are looked at.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawInterfaces {
    /// Not these. `lo` and what begins with `veth` never are.
    pub ignore: List<Text<Word>>,
}

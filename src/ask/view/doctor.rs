//! Everything that decides whether a VM with a card will work, judged.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::Severity;

/// `hostctl doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct DoctorView {
    /// Theme by theme, as docs/doctor.md lists them.
    pub checks: Vec<CheckView>,
    /// What is good to know.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckView {
    /// A stable word for scripts: `iommu`, `kvm-run`, …
    pub id: String,
    /// How it is.
    pub status: Severity,
    /// What was seen.
    pub evidence: String,
    /// What to do or to type; empty when nothing.
    pub fix: String,
    /// What it is about, in a few words.
    #[serde(default)]
    pub title: String,
    /// The card or VM that it is about; empty for the whole machine.
    #[serde(default)]
    pub object: String,
    /// Under which heading it stands.
    #[serde(default)]
    pub theme: String,
}

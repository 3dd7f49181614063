//! `pools:`, checked.

/// `pools:`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pools {
    /// Pools that must be there; their absence is critical.
    pub expected: Vec<String>,
}

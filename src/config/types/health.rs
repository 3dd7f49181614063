//! `health:`, checked.

/// Two levels; from each on it is worth a word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// Worth a look.
    pub warning: f64,
    /// Worth getting up.
    pub critical: f64,
}

impl Levels {
    /// Both.
    pub const fn new(warning: f64, critical: f64) -> Self {
        Self { warning, critical }
    }
}

/// `health:`. The levels are those of riemann-health; all but the load's are fractions.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// How busy the processors are.
    pub cpu: Levels,
    /// Threads for each processor.
    pub load: Levels,
    /// Memory in use.
    pub memory: Levels,
    /// Swap in use.
    pub swap: Levels,
    /// Space in use of a file system.
    pub disk: Levels,
    /// Inodes in use of a file system.
    pub inodes: Levels,
    /// Time in which everybody waits for memory.
    pub memory_pressure: Levels,
    /// Only these mounts; all of local disks when empty.
    pub mounts_only: Vec<String>,
    /// Not these mounts.
    pub mounts_ignore: Vec<String>,
    /// Not these interfaces.
    pub interfaces_ignore: Vec<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            cpu: Levels::new(0.9, 0.95),
            load: Levels::new(3.0, 8.0),
            memory: Levels::new(0.85, 0.95),
            swap: Levels::new(0.4, 0.5),
            disk: Levels::new(0.9, 0.95),
            inodes: Levels::new(0.9, 0.95),
            memory_pressure: Levels::new(0.1, 0.4),
            mounts_only: Vec::new(),
            mounts_ignore: Vec::new(),
            interfaces_ignore: Vec::new(),
        }
    }
}

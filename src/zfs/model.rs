//! The pool as `zpool status` describes it, whichever form it was printed in.
//!
//! Both parsers make this; nothing here is judged. What a parser could not
//! read stays in [`Pool::unparsed`], and what it could not read of the vdev
//! tree also sets [`Pool::partial`].

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;

use super::fields::clean;
pub use super::words::{Aux, Class, Kind, State};

/// The most vdevs kept of one pool; more are counted as unparsed.
pub const MAX_VDEVS: usize = 4096;
/// The deepest vdev kept: a top-level vdev is at 0. ZFS itself needs three
/// (raidz, spare, replacing, disk).
pub const MAX_DEPTH: usize = 8;
/// The most pools kept of one output.
pub const MAX_POOLS: usize = 256;
const MAX_UNPARSED: usize = 64;

/// One imported pool.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// `state`, as ZFS says it; empty when it was not said. A running resilver
    /// masks SUSPENDED here.
    pub state: String,
    /// `pool_guid`; the text form does not have it.
    pub guid: Option<u64>,
    /// Top-level vdevs of all classes, cache and spare devices included, in
    /// the order of `zpool status`.
    pub vdevs: Vec<Vdev>,
    /// The running or last scrub or resilver.
    pub scan: Option<Scan>,
    /// Sequential rebuilds, one a top-level vdev.
    pub rebuilds: Vec<Rebuild>,
    /// Data errors that redundancy did not repair; `None` when not said.
    pub error_count: Option<u64>,
    /// Why the pool is not as it should be, in ZFS's words; empty in health.
    pub status: String,
    /// What ZFS advises.
    pub action: String,
    /// `ZFS-8000-…`.
    pub msgid: Option<String>,
    /// Bytes, of all allocation classes; JSON only.
    pub size: Option<u64>,
    /// Bytes of these in use; JSON only.
    pub alloc: Option<u64>,
    /// What could not be parsed, each with its place.
    pub unparsed: Vec<String>,
    /// Part of the vdev tree is among the unparsed: tolerance is not known.
    pub partial: bool,
}

impl Pool {
    /// Keeps something that could not be parsed; the number kept is bounded.
    pub fn reject(&mut self, what: &str) {
        match self.unparsed.len() {
            0..MAX_UNPARSED => self.unparsed.push(clean(what)),
            MAX_UNPARSED => self.unparsed.push("and more".to_owned()),
            _ => {}
        }
    }

    /// The same for a part of the vdev tree.
    pub fn reject_vdev(&mut self, what: &str) {
        self.partial = true;
        self.reject(what);
    }

    /// Whether a healing resilver runs.
    pub fn resilvering(&self) -> bool {
        self.scan.as_ref().is_some_and(|scan| {
            scan.function == Function::Resilver && scan.state == ScanState::Scanning
        })
    }

    /// Whether a sequential rebuild of this top-level vdev runs.
    pub fn rebuilding(&self, top: &str) -> bool {
        self.rebuilds.iter().any(|r| r.vdev == top && r.state == ScanState::Scanning)
    }

    /// Whether a scan of any kind is under way and not paused.
    pub fn scanning(&self) -> bool {
        self.scan.as_ref().is_some_and(|scan| scan.state == ScanState::Scanning)
            || self.rebuilds.iter().any(|r| r.state == ScanState::Scanning)
    }

    /// Top-level vdevs that hold data which the pool cannot do without.
    pub fn essential(&self) -> impl Iterator<Item = &Vdev> {
        self.vdevs.iter().filter(|vdev| vdev.class.is_essential())
    }
}

/// A vdev with its members.
#[derive(Debug, Clone, PartialEq)]
pub struct Vdev {
    /// `raidz2-0`; a leaf's path; for a device missing at import its guid.
    /// What `zpool` takes as its name.
    pub name: String,
    /// What it is made of.
    pub kind: Kind,
    /// What it is used for: that of its top-level vdev.
    pub class: Class,
    /// As ZFS sees it.
    pub state: State,
    /// JSON only.
    pub guid: Option<u64>,
    /// Path at which a missing device was last seen.
    pub was: Option<String>,
    /// Why it is in its state.
    pub aux: Option<Aux>,
    /// Read, write and checksum errors since the last clear.
    pub errors: Errors,
    /// I/Os slower than `zio_slow_io_ms` (30 s) since import; leaves, JSON only.
    pub slow_ios: Option<u64>,
    /// Data are being written back to it by the running scan.
    pub resilvered: bool,
    /// It waits for the running resilver to end before its own begins.
    pub deferred: bool,
    /// log2 of the block size in use and of the native one, where they differ.
    pub ashift: Option<(u64, u64)>,
    /// Members.
    pub children: Vec<Vdev>,
}

impl Vdev {
    /// A vdev without any facts but its name.
    pub fn new(name: &str, class: Class) -> Self {
        let name = clean(name);
        Self {
            kind: Kind::of_name(&name),
            name,
            class,
            state: State::Other(String::new()),
            guid: None,
            was: None,
            aux: None,
            errors: Errors::default(),
            slow_ios: None,
            resilvered: false,
            deferred: false,
            ashift: None,
            children: Vec::new(),
        }
    }

    /// What identifies it between two readings: the guid where there is one.
    pub fn key(&self) -> String {
        self.guid.map_or_else(|| self.name.clone(), |guid| guid.to_string())
    }

    /// Calls `visit` with this vdev and everything below it.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Vdev)) {
        visit(self);
        self.children.iter().for_each(|child| child.walk(visit));
    }

    /// All devices below it, or itself.
    pub fn leaves(&self) -> Vec<&Vdev> {
        let mut leaves = Vec::new();
        self.walk(&mut |vdev| {
            if vdev.children.is_empty() {
                leaves.push(vdev);
            }
        });
        leaves
    }
}

/// Errors since the last clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Errors {
    /// Failed reads.
    pub read: u64,
    /// Failed writes.
    pub write: u64,
    /// Blocks that were read with the wrong checksum.
    pub checksum: u64,
}

impl Errors {
    /// All of them; saturates.
    pub fn total(self) -> u64 {
        self.read.saturating_add(self.write).saturating_add(self.checksum)
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} read, {} write, {} checksum errors", self.read, self.write, self.checksum)
    }
}

/// A scrub or a healing resilver; ZFS keeps only the last one.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// Which of the two.
    pub function: Function,
    /// How far it is.
    pub state: ScanState,
    /// Fraction done 0–1; `None` when cancelled or not said.
    pub progress: Option<f64>,
    /// Bytes done and to do; only while it is under way.
    pub work: Option<Work>,
    /// Errors it could not repair.
    pub errors: u64,
    /// Started.
    pub started: Option<Timestamp>,
    /// Ended.
    pub ended: Option<Timestamp>,
}

/// How much of a scan is done. What there is to do may grow: at first ZFS is
/// still finding out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Bytes whose reading has been issued.
    pub done: u64,
    /// Bytes to issue in all: `to_examine` without what is `skipped`.
    pub all: u64,
}

impl Work {
    /// Fraction done 0–1; nothing to do yet is nothing done.
    pub fn fraction(self) -> f64 {
        if self.all == 0 { 0.0 } else { (self.done as f64 / self.all as f64).min(1.0) }
    }
}

/// What a scan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Verifies everything.
    Scrub,
    /// Restores redundancy.
    Resilver,
}

/// How far a scan is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScanState {
    /// Under way.
    Scanning,
    /// Halted by a person; scrubs only.
    Paused,
    /// Done.
    Finished,
    /// Given up.
    Canceled,
}

/// A sequential rebuild of one top-level vdev.
#[derive(Debug, Clone, PartialEq)]
pub struct Rebuild {
    /// The top-level vdev.
    pub vdev: String,
    /// How far it is.
    pub state: ScanState,
    /// Fraction done 0–1.
    pub progress: Option<f64>,
    /// Bytes done and to do; only while it is under way.
    pub work: Option<Work>,
    /// Errors met.
    pub errors: u64,
    /// Started.
    pub started: Option<Timestamp>,
    /// Ended.
    pub ended: Option<Timestamp>,
}

//! A guest's memory before it starts: counted against what the host needs and
//! what ZFS's cache (the ARC) can give back, then made free.
//!
//! The ARC is not part of `MemAvailable`, and lowering `zfs_arc_max` alone does
//! not shrink it: that needs memory pressure, such as `drop_caches`
//! (zfs(4), `zfs_arc_max`). It cannot be set back to 0, its default, while ZFS
//! runs either: so the limit in bytes comes first, then the 0.

use std::fmt::Write;

use super::journal::{Journal, Memory, Pages};
use super::knob::{Hands, Knob, Spelling};
use super::settle::{self, Want, Wanted};
use crate::base::{Bytes, Name, meminfo};
use crate::config::{Hugepages, Performance, Vm};
use crate::host::SysRoot;
use crate::host::sys::SysError;

/// The ARC's limit.
pub const ARC_MAX: &str = "/sys/module/zfs/parameters/zfs_arc_max";
const ARC_STATS: &str = "/proc/spl/kstat/zfs/arcstats";
/// ZFS is not left with less, whatever it would take.
const ARC_FLOOR: u64 = 1 << 30;
/// QEMU's own memory, beside the guest's.
const OVERHEAD: u64 = 512 << 20;
/// How often the kernel is asked for pages it has not found.
const TRIES: usize = 5;
/// How often the ARC is looked at while it shrinks.
const LOOKS: usize = 40;

/// The host's memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// All of it.
    pub total: u64,
    /// What could be had without hurting anybody, by the kernel's reckoning.
    pub available: u64,
    /// ZFS's cache.
    pub arc: Option<Arc>,
    /// The pool of huge pages that is asked for.
    pub pool: Option<Pool>,
    /// Memory of the node that is asked for.
    pub node_total: Option<u64>,
}

/// ZFS's cache, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arc {
    /// What it has now.
    pub size: u64,
    /// What it may have.
    pub max: u64,
    /// What it keeps.
    pub min: u64,
}

impl Arc {
    fn floor(&self) -> u64 {
        self.min.max(ARC_FLOOR)
    }
}

/// A pool of huge pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its folder.
    pub path: String,
    /// Size of a page.
    pub size: u64,
    /// Pages.
    pub all: u64,
    /// Those that nobody has, or was promised.
    pub free: u64,
}

/// What has to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryPlan {
    /// What is claimed.
    pub claim: Memory,
    /// What must be available in the end, before the guest takes it.
    pub wanted: u64,
    /// For people.
    pub words: Vec<String>,
}

fn invalid(path: &str, why: &str) -> SysError {
    SysError::Invalid { path: path.into(), why: why.to_owned() }
}

/// The value of a name in a kstat (`size  4  1234`).
fn kstat(text: &str, name: &str) -> Option<u64> {
    let mut rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find(|row| row.first() == Some(&name))?.get(2)?.parse().ok()
}

fn arc(sys: &SysRoot) -> Result<Option<Arc>, SysError> {
    let text = match sys.text(ARC_STATS) {
        Err(error) if error.is_missing() => return Ok(None),
        other => other?,
    };
    let value = |name| kstat(&text, name).ok_or_else(|| invalid(ARC_STATS, &format!("no {name}")));
    Ok(Some(Arc { size: value("size")?, max: value("c_max")?, min: value("c_min")? }))
}

/// Where the pages of a size are, of a node or of all.
fn pool_path(size: Bytes, node: Option<u32>) -> String {
    let folder = format!("hugepages-{}kB", size.0 >> 10);
    match node {
        Some(node) => format!("/sys/devices/system/node/node{node}/hugepages/{folder}"),
        None => format!("/sys/kernel/mm/hugepages/{folder}"),
    }
}

/// Reads the host's memory, as far as it matters for a VM.
pub fn read(sys: &SysRoot, vm: &Vm) -> Result<Facts, SysError> {
    let path = "/proc/meminfo";
    let text = sys.text(path)?;
    let value = |name| meminfo(&text, name).ok_or_else(|| invalid(path, &format!("no {name}")));
    let mut facts = Facts {
        total: value("MemTotal")?,
        available: value("MemAvailable")?,
        arc: arc(sys)?,
        ..Facts::default()
    };
    if let Some(node) = vm.numa_node {
        let text = sys.text(format!("/sys/devices/system/node/node{node}/meminfo")).ok();
        facts.node_total = text.and_then(|text| meminfo(&text, "MemTotal"));
    }
    if let Hugepages::Size(size) = vm.hugepages {
        let path = pool_path(size, vm.numa_node);
        let number = |path: String| -> Result<u64, SysError> {
            sys.text(&path)?.trim().parse().map_err(|_| invalid(&path, "not a number"))
        };
        let free = number(format!("{path}/free_hugepages"))?;
        // Promised to a mapping and not touched yet; nodes do not count these.
        let promised = number(format!("{}/resv_hugepages", pool_path(size, None))).unwrap_or(0);
        let all = number(format!("{path}/nr_hugepages"))?;
        let free = free.saturating_sub(promised);
        facts.pool = Some(Pool { path, size: size.0, all, free });
    }
    Ok(facts)
}

/// What QEMU needs beside the guest's memory.
fn overhead(vm: &Vm) -> u64 {
    let own = vm.resources.memory_overhead.map_or(OVERHEAD, |bytes| bytes.0);
    own.saturating_add(vm.looking_glass.map_or(0, |bytes| bytes.0))
}

fn reserve(vm: &Vm) -> u64 {
    vm.performance.as_ref().map_or_else(|| Performance::default().reserve.0, |p| p.reserve.0)
}

/// Whether memory is counted for a VM at all.
pub fn concerns(vm: &Vm) -> bool {
    vm.performance.is_some() || vm.hugepages != Hugepages::Off
}

/// What has to be done so that the VM has its memory; or why it cannot, with
/// the numbers. `promised`: pages of the pool that other VMs are about to take.
pub fn plan(facts: &Facts, vm: &Vm, promised: u64) -> Result<MemoryPlan, String> {
    let reserve = reserve(vm);
    let mut words = Vec::new();
    if let Some(total) = facts.node_total.filter(|total| *total < vm.memory.0) {
        return Err(format!("{} wanted on one NUMA node, which has {}", vm.memory, Bytes(total)));
    }
    // What is taken out of the memory that is available now.
    let (pages, guest) = match &facts.pool {
        None => (None, vm.memory.0),
        Some(pool) => {
            let needed = vm.memory.0.div_ceil(pool.size.max(1));
            let added = needed.saturating_sub(pool.free.saturating_sub(promised));
            let size = Bytes(pool.size);
            if added > 0 {
                words.push(format!("add {added} pages of {size} to the {} of the host", pool.all));
            } else {
                words.push(format!("use {needed} pages of {size} that are free"));
            }
            let path = pool.path.clone();
            let pages = Pages { pool: path, size, needed, added, taken: false };
            (Some(pages), added.saturating_mul(pool.size))
        }
    };
    let wanted = guest.saturating_add(overhead(vm)).saturating_add(reserve);
    let size = facts.arc.map_or(0, |arc| arc.size);
    let both = facts.available.saturating_add(size);
    let floor = facts.arc.map_or(0, |arc| arc.floor().min(arc.size));
    if both < wanted.saturating_add(floor) {
        return Err(short_by(facts, vm, wanted, floor, both));
    }
    let mut claim = Memory { pages, ..Memory::default() };
    if let Some(arc) = facts.arc {
        let budget = both.saturating_sub(wanted).max(arc.floor());
        if budget < arc.max {
            claim.arc_max = Some(Bytes(budget));
            claim.arc_was = Some(Bytes(arc.max));
            words.push(format!(
                "lower the limit of ZFS's cache from {} to {} (it has {})",
                Bytes(arc.max),
                Bytes(budget),
                Bytes(arc.size)
            ));
        }
    }
    Ok(MemoryPlan { claim, wanted, words })
}

/// The refusal, with the numbers.
fn short_by(facts: &Facts, vm: &Vm, wanted: u64, floor: u64, both: u64) -> String {
    let mut text = format!(
        "{} wanted and {} for QEMU; the host has {}, of which {} are available and {} are kept \
         for it",
        vm.memory,
        Bytes(overhead(vm)),
        Bytes(facts.total),
        Bytes(facts.available),
        Bytes(reserve(vm)),
    );
    // A string takes what it is given.
    if let Some(arc) = facts.arc {
        let give = arc.size.saturating_sub(floor);
        let _ = write!(text, "; ZFS's cache has {} and may give {}", Bytes(arc.size), Bytes(give));
    }
    let short = wanted.saturating_add(floor).saturating_sub(both);
    let _ = write!(text, "; short by {}", Bytes(short));
    text
}

/// What all claims together want of the host's memory settings: the lowest
/// limit of the ARC, the sum of the pages.
pub fn wanted(journal: &Journal) -> Vec<Wanted> {
    let all = || journal.claims.values().filter_map(|claim| claim.memory.as_ref());
    let mut wanted = Vec::new();
    if let Some(max) = all().filter_map(|memory| memory.arc_max).min() {
        let knob = Knob::attribute(ARC_MAX, Spelling::Word);
        let was = all().filter_map(|memory| memory.arc_was).max();
        let first = was.map(|was| was.0.to_string());
        wanted.push(Wanted { knob, want: Want::Word(max.0.to_string()), first });
    }
    let pools = || all().filter_map(|memory| memory.pages.as_ref());
    let mut names: Vec<&String> = pools().map(|pages| &pages.pool).collect();
    names.sort();
    names.dedup();
    for pool in names {
        let more = pools().filter(|pages| pages.pool == *pool).map(|pages| pages.added).sum();
        if more > 0 {
            let path = format!("{pool}/nr_hugepages");
            wanted.push(Wanted::new(Knob::attribute(path, Spelling::Pages), Want::More(more)));
        }
    }
    wanted
}

/// Makes the memory free that has been claimed for `vm`: the ARC down, pages
/// up. What is still missing, in words.
pub fn make_room(
    hands: &Hands,
    journal: &mut Journal,
    vm: &Vm,
    plan: &MemoryPlan,
) -> Result<Option<String>, super::journal::JournalError> {
    let sys = &hands.host.sys;
    let settle = |journal: &mut Journal| {
        let wanted = wanted(journal);
        settle::settle(hands, journal, &wanted, Knob::is_memory)
    };
    if let Some(max) = plan.claim.arc_max {
        // The ARC first, so that there is room for pages.
        let arc_only = |knob: &Knob| *knob == Knob::attribute(ARC_MAX, Spelling::Word);
        let all = wanted(journal);
        let done = settle::settle(hands, journal, &all, arc_only)?;
        if let Some(why) = done.cannot.first().or(done.notes.first()) {
            return Ok(Some(format!("the limit of ZFS's cache could not be lowered: {why}")));
        }
        shrink(hands, max.0);
    }
    let pages = plan.claim.pages.as_ref().filter(|pages| pages.added > 0);
    if let Some(pages) = pages {
        let mut found = 0;
        for attempt in 0..TRIES {
            if attempt > 0 {
                // Memory that is free in small pieces is put together.
                press(hands, "/proc/sys/vm/drop_caches", b"2\n");
                std::thread::sleep(hands.pause);
            }
            press(hands, "/proc/sys/vm/compact_memory", b"1\n");
            settle(journal)?;
            found = free_pages(sys, vm).saturating_sub(journal.promised(&vm.name, &pages.pool));
            if found >= pages.needed {
                return Ok(None);
            }
        }
        return Ok(Some(format!(
            "the kernel found {found} of {} pages of {} in one piece",
            pages.needed, pages.size
        )));
    }
    let Ok(facts) = read(sys, vm) else {
        return Ok(Some("the host's memory cannot be read".to_owned()));
    };
    // The reserve may be touched a little: the numbers move while they are read.
    let needed = plan.wanted.saturating_sub(reserve(vm) / 4);
    Ok((facts.available < needed).then(|| {
        let (available, needed) = (Bytes(facts.available), Bytes(needed));
        format!("{available} are available of {needed} after ZFS's cache was lowered")
    }))
}

fn free_pages(sys: &SysRoot, vm: &Vm) -> u64 {
    read(sys, vm).ok().and_then(|facts| facts.pool).map_or(0, |pool| pool.free)
}

/// Waits for the ARC to come down, and presses when it does not by itself.
fn shrink(hands: &Hands, max: u64) {
    for look in 0..LOOKS {
        match arc(&hands.host.sys) {
            Ok(Some(arc)) if arc.size > max.saturating_add(max / 64) => {}
            _ => return,
        }
        if look % 10 == 4 {
            press(hands, "/proc/sys/vm/drop_caches", b"2\n");
        }
        std::thread::sleep(hands.pause);
    }
}

/// Asks the kernel to tidy up. Whether it did is seen in what comes after.
fn press(hands: &Hands, path: &str, value: &[u8]) {
    if let Err(error) = hands.host.sys.write(path, value) {
        tracing::debug!("{}", error.in_full());
    }
}

/// What is to be done by a person when memory is missing.
pub fn hint(vm: &Vm) -> &'static str {
    match vm.hugepages {
        Hugepages::Off => {
            "lower `memory:` in the VM's file or `performance: reserve:`, or stop what else uses \
             memory"
        }
        Hugepages::Size(_) => {
            "lower `memory:`, take smaller `hugepages:`, or have the pages kept at boot: \
             `hugepagesz=… hugepages=…` on the kernel's command line"
        }
    }
}

/// The claim of a VM is over: QEMU counts its pages itself now.
pub fn taken(journal: &mut Journal, vm: &Name) {
    let memory = journal.claims.get_mut(vm).and_then(|claim| claim.memory.as_mut());
    if let Some(pages) = memory.and_then(|memory| memory.pages.as_mut()) {
        pages.taken = true;
    }
}

#[cfg(test)]
mod tests;

//! Which processors of the host a guest runs on. Pure: topology and wishes in,
//! processors out, or why not, with the numbers.
//!
//! `auto` gives whole cores, never one that the host or another guest uses:
//! inside one level 3 cache if they fit (the largest cache that is free of the
//! host's own cores first), else over as few as there can be, on one NUMA node
//! if they fit. The host keeps the lowest cores, where the kernel's own work
//! is; on processors with two kinds of cores it keeps small ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::config::{Pinning, Vm};
use crate::host::cpus::{Cpus, list};
use crate::host::topology::{Core, Kind, Topology};

/// Where a guest's threads run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pins {
    /// The host's processor of each virtual one, in their order.
    pub vcpus: Vec<u32>,
    /// QEMU's other threads.
    pub emulator: Cpus,
    /// The threads that do the disks' work.
    pub iothreads: Cpus,
    /// What is left to the host.
    pub host: Cpus,
    /// Threads of the guest's cores that nobody uses.
    pub idle: Cpus,
    /// Cores that the guest should see; with `threads` for each.
    pub cores: u32,
    /// Threads of each core that the guest should see.
    pub threads: u32,
    /// What was chosen and why, for people.
    pub words: Vec<String>,
}

impl Pins {
    /// The processors that the host keeps off: the guest's and its idle ones.
    pub fn kept(&self) -> Cpus {
        self.vcpus.iter().chain(&self.idle).copied().collect()
    }
}

/// What is wanted of [`choose`].
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// Virtual processors.
    pub vcpus: u32,
    /// Threads of each core that the guest shall see, if its file says.
    pub threads: Option<u32>,
    /// Cores that stay with the host; one at least.
    pub leave: u32,
    /// All of them on this NUMA node.
    pub node: Option<u32>,
    /// Rather on this node: that of the card.
    pub near: Option<u32>,
    /// Processors that other guests have.
    pub taken: &'a Cpus,
}

/// The pins of a VM as its file wants them; `None` when it wants none. All that
/// stands against them otherwise.
pub fn for_vm(
    topology: &Topology,
    vm: &Vm,
    near: Option<u32>,
    taken: &Cpus,
) -> Result<Option<Pins>, Vec<String>> {
    match &vm.pinning {
        Pinning::Off => Ok(None),
        Pinning::Auto { leave } => {
            let threads = vm.topology.map(|topology| topology.threads);
            let (vcpus, node) = (vm.cpus, vm.numa_node);
            let wish = Wish { vcpus, threads, leave: *leave, node, near, taken };
            choose(topology, &wish).map(Some).map_err(|why| vec![why])
        }
        Pinning::Exact { vcpus, emulator, iothreads } => {
            exact(topology, vm.cpus, vcpus, emulator, iothreads, taken).map(Some)
        }
    }
}

/// The pins that an owner has written down, or all that is wrong with them.
fn exact(
    topology: &Topology,
    count: u32,
    vcpus: &[u32],
    emulator: &[u32],
    iothreads: &[u32],
    taken: &Cpus,
) -> Result<Pins, Vec<String>> {
    let online = topology.online();
    let mut problems = Vec::new();
    for (what, pins) in [("vcpus", vcpus), ("emulator", emulator), ("iothreads", iothreads)] {
        let missing: Cpus = pins.iter().filter(|cpu| !online.contains(cpu)).copied().collect();
        if !missing.is_empty() {
            problems.push(format!(
                "`{what}` names processor {}, which is not there: the host has {}",
                list(&missing),
                list(&online)
            ));
        }
    }
    if u32::try_from(vcpus.len()) != Ok(count) {
        problems.push(format!("{} processors are pinned for {count} virtual ones", vcpus.len()));
    }
    let mut once = Cpus::new();
    let twice: Cpus = vcpus.iter().filter(|cpu| !once.insert(**cpu)).copied().collect();
    if !twice.is_empty() {
        problems.push(format!("processor {} is pinned twice", list(&twice)));
    }
    let host: Cpus = online.difference(&once).copied().collect();
    if host.is_empty() {
        problems.push(format!("all of {} are pinned: none is left to the host", list(&online)));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let or_rest = |pins: &[u32], rest: &Cpus| {
        if pins.is_empty() { rest.clone() } else { pins.iter().copied().collect() }
    };
    let emulator = or_rest(emulator, &host);
    let mut words = vec![format!("guest on processors {}", list(vcpus))];
    let shared: Cpus = once.intersection(taken).copied().collect();
    if !shared.is_empty() {
        words.push(format!("processor {} is another VM's too: both will be slower", list(&shared)));
    }
    Ok(Pins {
        vcpus: vcpus.to_vec(),
        iothreads: or_rest(iothreads, &emulator),
        emulator,
        host,
        idle: Cpus::new(),
        cores: count,
        threads: 1,
        words,
    })
}

/// Chooses processors for a guest.
pub fn choose(topology: &Topology, wish: &Wish<'_>) -> Result<Pins, String> {
    if wish.vcpus == 0 {
        return Err("no virtual processors are wanted".to_owned());
    }
    if let Some(node) = wish.node.filter(|node| !topology.nodes().contains(node)) {
        let nodes = list(&topology.nodes());
        return Err(format!("there is no NUMA node {node} with processors; the host has {nodes}"));
    }
    let reserved = reserved(topology, wish.leave.max(1));
    let hybrid = topology.cores.iter().any(|core| core.kind == Kind::Performance);
    let free: Vec<&Core> = topology
        .cores
        .iter()
        .filter(|core| !reserved.contains(&core.first()))
        .filter(|core| !core.cpus.iter().any(|cpu| wish.taken.contains(cpu)))
        .filter(|core| wish.node.is_none_or(|node| core.node == node))
        .filter(|core| !hybrid || core.kind == Kind::Performance)
        .collect();
    let width = free.iter().map(|core| count(core.cpus.len())).max().unwrap_or(1);
    let per = match wish.threads {
        Some(0) => 1,
        Some(threads) => threads,
        // An odd number leaves siblings idle rather than sharing a core.
        None if wish.vcpus.is_multiple_of(width) => width,
        None => 1,
    };
    let short = |have: usize| too_few(topology, wish, hybrid, per, reserved.len(), have);
    if !wish.vcpus.is_multiple_of(per) {
        return Err(format!("{} virtual processors are no whole cores of {per}", wish.vcpus));
    }
    let fit: Vec<&Core> = free.into_iter().filter(|core| count(core.cpus.len()) >= per).collect();
    let need = (wish.vcpus / per) as usize;
    let chosen = place(&fit, need, wish, &reserved, topology).ok_or_else(|| short(fit.len()))?;
    Ok(pins(topology, wish, per, &chosen))
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The lowest cores, which stay with the host, by their first processor: of
/// those that are small if there are enough, and not of those that the kernel
/// keeps free for others.
fn reserved(topology: &Topology, leave: u32) -> Cpus {
    let open = |core: &&Core| !core.cpus.iter().any(|cpu| topology.isolated.contains(cpu));
    let small = topology.cores.iter().filter(|core| core.kind == Kind::Efficiency).filter(open);
    let leave = leave as usize;
    if small.clone().count() >= leave {
        return small.take(leave).map(Core::first).collect();
    }
    topology.cores.iter().filter(open).take(leave).map(Core::first).collect()
}

/// One level 3 cache with the cores in it that could be had.
struct Cache<'a> {
    cores: Vec<&'a Core>,
    node: u32,
    /// How good it is; the larger the better.
    rank: (bool, bool, bool, u64),
}

/// Picks `need` cores.
fn place<'a>(
    fit: &[&'a Core],
    need: usize,
    wish: &Wish<'_>,
    reserved: &Cpus,
    topology: &Topology,
) -> Option<Vec<&'a Core>> {
    let mut by_cache: BTreeMap<(u32, u32), Vec<&Core>> = BTreeMap::new();
    for core in fit {
        by_cache.entry((core.node, core.l3)).or_default().push(core);
    }
    let mut caches: Vec<Cache<'a>> = Vec::new();
    for ((node, l3), cores) in by_cache {
        let isolated = cores.iter().all(|core| topology.isolated.contains(&core.first()));
        let busy = topology.cores.iter().any(|core| {
            let other = core.cpus.iter().any(|cpu| wish.taken.contains(cpu));
            (core.node, core.l3) == (node, l3) && (reserved.contains(&core.first()) || other)
        });
        let size = cores.first().and_then(|core| core.l3_size).map_or(0, |size| size.0);
        let near = wish.near.is_none_or(|near| near == node);
        caches.push(Cache { cores, node, rank: (near, isolated, !busy, size) });
    }
    // A cache with three times the size is worth more than one without the host.
    let largest = caches.iter().map(|cache| cache.rank.3).max().unwrap_or(0);
    for cache in &mut caches {
        cache.rank.2 |= cache.rank.3 == largest && caches_differ(topology);
    }
    // In one cache: the best one, and of equal ones the highest, so that the
    // low cores stay free.
    let whole = caches.iter().filter(|cache| cache.cores.len() >= need);
    if let Some(cache) =
        whole.max_by_key(|cache| (cache.rank, cache.cores.first().map(|c| c.first())))
    {
        return Some(top(&cache.cores, need));
    }
    // Else on one node, else anywhere, over as few caches as there can be.
    let mut nodes: Vec<u32> = caches.iter().map(|cache| cache.node).collect();
    nodes.sort_unstable_by_key(|node| (Some(*node) != wish.near, std::cmp::Reverse(*node)));
    nodes.dedup();
    let spread = |mut caches: Vec<&Cache<'a>>| {
        caches.sort_by_key(|cache| std::cmp::Reverse((cache.cores.len(), cache.rank)));
        let mut left = need;
        let mut chosen = Vec::new();
        for cache in caches {
            let some = top(&cache.cores, left);
            left -= some.len();
            chosen.extend(some);
        }
        (left == 0).then_some(chosen)
    };
    let one_node = nodes
        .iter()
        .find_map(|node| spread(caches.iter().filter(|cache| cache.node == *node).collect()));
    one_node.or_else(|| spread(caches.iter().collect()))
}

fn caches_differ(topology: &Topology) -> bool {
    let mut sizes = topology.cores.iter().map(|core| core.l3_size);
    let first = sizes.next();
    sizes.any(|size| Some(size) != first)
}

/// The highest `need` of these cores, in their order.
fn top<'a>(cores: &[&'a Core], need: usize) -> Vec<&'a Core> {
    cores.iter().skip(cores.len().saturating_sub(need)).copied().collect()
}

fn pins(topology: &Topology, wish: &Wish<'_>, per: u32, chosen: &[&Core]) -> Pins {
    let used = |core: &&Core| core.cpus.iter().take(per as usize).copied().collect::<Vec<_>>();
    let vcpus: Vec<u32> = chosen.iter().flat_map(used).collect();
    let kept: Cpus = chosen.iter().flat_map(|core| &core.cpus).copied().collect();
    let idle: Cpus = kept.iter().filter(|cpu| !vcpus.contains(cpu)).copied().collect();
    let host: Cpus = topology.online().difference(&kept).copied().collect();
    // QEMU's own threads: near the guest, and where the scheduler moves tasks.
    let nodes: Cpus = chosen.iter().map(|core| core.node).collect();
    let open: Cpus = host.difference(wish.taken).copied().collect();
    let open: Cpus = open.difference(&topology.isolated).copied().collect();
    let near = |cpu: &&u32| topology.node_of(**cpu).is_some_and(|node| nodes.contains(&node));
    let close: Cpus = open.iter().filter(near).copied().collect();
    let emulator = [close, open, host.clone()].into_iter().find(|cpus| !cpus.is_empty());
    let emulator = emulator.unwrap_or_default();
    let mut words = vec![format!(
        "guest on {} whole {} (processors {}), the host keeps {}",
        chosen.len(),
        if chosen.len() == 1 { "core" } else { "cores" },
        list(&vcpus),
        list(&host)
    )];
    let mut caches: Vec<u32> = chosen.iter().map(|core| core.l3).collect();
    caches.sort_unstable();
    caches.dedup();
    if caches.len() > 1 {
        words.push(format!(
            "they share no level 3 cache: it takes {} of them, because none has enough free cores",
            caches.len()
        ));
    }
    if nodes.len() > 1 {
        words.push(format!("they are on NUMA nodes {}: memory will be slower", list(&nodes)));
    }
    if !idle.is_empty() {
        words.push(format!("processors {} stay idle: siblings of the guest's", list(&idle)));
    }
    Pins {
        cores: count(chosen.len()),
        threads: per,
        iothreads: emulator.clone(),
        emulator,
        host,
        idle,
        vcpus,
        words,
    }
}

/// Why there are too few cores, with the numbers.
fn too_few(
    topology: &Topology,
    wish: &Wish<'_>,
    hybrid: bool,
    per: u32,
    reserved: usize,
    have: usize,
) -> String {
    let all = topology.cores.len();
    let kind = if hybrid { "performance cores" } else { "cores" };
    let widest = topology.cores.iter().map(|core| core.cpus.len()).max().unwrap_or(1);
    if per as usize > widest {
        return format!("{per} threads a core are wanted; the host's cores have {widest}");
    }
    let mut text = format!(
        "{} virtual processors need {} {kind} with {per} {}; of the host's {all} cores {have} can \
         be had ({reserved} stay with the host",
        wish.vcpus,
        wish.vcpus / per,
        if per == 1 { "thread" } else { "threads" },
    );
    if !wish.taken.is_empty() {
        let _ = write!(text, "; other VMs have processors {}", list(wish.taken));
    }
    if let Some(node) = wish.node {
        let _ = write!(text, "; only those of NUMA node {node} are asked for");
    }
    text + "). Lower `cpus:`, or write `pinning:` with the processors you mean"
}

#[cfg(test)]
mod tests;

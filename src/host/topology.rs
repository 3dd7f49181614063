//! How the host's processors belong together: cores and their threads, level 3
//! caches, NUMA nodes, kinds of cores. From sysfs; see the kernel's
//! `Documentation/ABI/stable/sysfs-devices-system-cpu`.
//!
//! What sysfs does not say is taken as the simplest that it can be: a core of
//! its own, one node, one cache.

use std::collections::{BTreeMap, BTreeSet};

use super::SysRoot;
use super::cpus::{self, Cpus};
use super::sys::SysError;
use crate::base::Bytes;

const CPU: &str = "/sys/devices/system/cpu";
const NODE: &str = "/sys/devices/system/node";

/// What kind of core it is, on processors that have two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// All are alike.
    Uniform,
    /// The fast ones.
    Performance,
    /// The small ones.
    Efficiency,
}

/// One core with those of its threads that are online.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Core {
    /// Its processors, the lowest first; never empty.
    pub cpus: Vec<u32>,
    /// Its level 3 cache, by the lowest processor that shares it.
    pub l3: u32,
    /// Size of that cache, where it is known.
    pub l3_size: Option<Bytes>,
    /// Its NUMA node.
    pub node: u32,
    /// Its kind.
    pub kind: Kind,
    /// Its highest frequency in kHz, where it is known.
    pub max_khz: Option<u64>,
}

impl Core {
    /// The lowest of its processors, which names it.
    pub fn first(&self) -> u32 {
        self.cpus.first().copied().unwrap_or(0)
    }
}

/// The host's processors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    /// By their lowest processor.
    pub cores: Vec<Core>,
    /// Processors that the kernel's command line keeps free of tasks.
    pub isolated: Cpus,
}

impl Topology {
    /// All processors that are online.
    pub fn online(&self) -> Cpus {
        self.cores.iter().flat_map(|core| &core.cpus).copied().collect()
    }

    /// All NUMA nodes that have processors.
    pub fn nodes(&self) -> BTreeSet<u32> {
        self.cores.iter().map(|core| core.node).collect()
    }

    /// The node of a processor.
    pub fn node_of(&self, cpu: u32) -> Option<u32> {
        self.cores.iter().find(|core| core.cpus.contains(&cpu)).map(|core| core.node)
    }
}

/// Reads the processors of the machine. Only which of them are online must be
/// there.
pub fn read(sys: &SysRoot) -> Result<Topology, SysError> {
    let path = format!("{CPU}/online");
    let invalid =
        || SysError::Invalid { path: path.clone().into(), why: "not a list of processors".into() };
    let online = cpus::parse_list(&sys.text(&path)?).filter(|all| !all.is_empty());
    let online = online.ok_or_else(invalid)?;
    let list = |path: String| sys.text(path).ok().as_deref().and_then(cpus::parse_list);
    let isolated = list(format!("{CPU}/isolated")).unwrap_or_default();
    let fast = list("/sys/devices/cpu_core/cpus".to_owned()).unwrap_or_default();
    let small = list("/sys/devices/cpu_atom/cpus".to_owned()).unwrap_or_default();
    let nodes = nodes(sys);
    let mut cores: BTreeMap<u32, Core> = BTreeMap::new();
    for &cpu in &online {
        let folder = format!("{CPU}/cpu{cpu}");
        // A list that does not name the processor itself is not about it.
        let sharing = |file: &str| {
            let all = list(format!("{folder}/{file}")).filter(|all| all.contains(&cpu))?;
            Some(all.intersection(&online).copied().collect::<Vec<u32>>())
        };
        let threads = sharing("topology/thread_siblings_list").unwrap_or_else(|| vec![cpu]);
        let first = threads.first().copied().unwrap_or(cpu);
        let node = nodes.iter().find(|(_, cpus)| cpus.contains(&cpu)).map_or(0, |(node, _)| *node);
        let (cache, l3_size) = level_3(sys, &folder);
        let shared = cache.and_then(|index| sharing(&format!("cache/{index}/shared_cpu_list")));
        // Without a cache that is known, those of a package's die belong together.
        let l3 = shared.and_then(|all| all.first().copied());
        let l3 = l3.or_else(|| sharing("topology/die_cpus_list")?.first().copied());
        let kind = match (fast.contains(&cpu), small.contains(&cpu)) {
            (true, false) if !small.is_empty() => Kind::Performance,
            (false, true) if !fast.is_empty() => Kind::Efficiency,
            _ => Kind::Uniform,
        };
        let khz = sys.text(format!("{folder}/cpufreq/cpuinfo_max_freq")).ok();
        let core = cores.entry(first).or_insert_with(|| Core {
            cpus: Vec::new(),
            l3: l3.unwrap_or_else(|| online.first().copied().unwrap_or(0)),
            l3_size,
            node,
            kind,
            max_khz: khz.and_then(|text| text.trim().parse().ok()),
        });
        core.cpus.push(cpu);
    }
    Ok(Topology { cores: cores.into_values().collect(), isolated })
}

/// The processors of each NUMA node; none where the kernel knows none.
fn nodes(sys: &SysRoot) -> BTreeMap<u32, Cpus> {
    let names = sys.list(NODE).unwrap_or_default();
    let numbers = names.iter().filter_map(|name| name.strip_prefix("node")?.parse::<u32>().ok());
    let cpus = |node: u32| {
        let text = sys.text(format!("{NODE}/node{node}/cpulist")).ok()?;
        Some((node, cpus::parse_list(&text)?))
    };
    numbers.take(1024).filter_map(cpus).collect()
}

/// Name and size of a processor's cache of level 3.
fn level_3(sys: &SysRoot, folder: &str) -> (Option<String>, Option<Bytes>) {
    let found = (0..8).map(|index| format!("index{index}")).find(|index| {
        sys.text(format!("{folder}/cache/{index}/level")).is_ok_and(|level| level.trim() == "3")
    });
    let size = found.as_ref().and_then(|index| {
        sys.text(format!("{folder}/cache/{index}/size")).ok()?.trim().parse().ok()
    });
    (found, size)
}

#[cfg(test)]
pub(crate) mod samples {
    //! Trees of machines that people have.

    use super::*;
    use crate::host::fake::FakeHost;

    /// A machine in numbers.
    pub struct Machine {
        /// Processors of each core.
        pub cores: Vec<Vec<u32>>,
        /// Cores of each level 3 cache, in their order.
        pub caches: Vec<(usize, &'static str)>,
        /// Cores of each NUMA node, in their order.
        pub nodes: Vec<usize>,
        /// How many cores, at the beginning, are fast ones; all alike when none.
        pub fast: usize,
    }

    fn smt(cores: u32) -> Vec<Vec<u32>> {
        (0..cores).map(|core| vec![core, core + cores]).collect()
    }

    /// Eight cores, siblings n and n + 8, one cache.
    pub fn intel_8c16t() -> Machine {
        Machine { cores: smt(8), caches: vec![(8, "16384K")], nodes: vec![8], fast: 0 }
    }

    /// Ryzen 9 5950X: two dies of eight cores.
    pub fn ryzen_5950x() -> Machine {
        let caches = vec![(8, "32768K"), (8, "32768K")];
        Machine { cores: smt(16), caches, nodes: vec![16], fast: 0 }
    }

    /// Ryzen 7 1800X: two complexes of four cores; siblings side by side.
    pub fn ryzen_1800x() -> Machine {
        let cores = (0..8).map(|core| vec![core * 2, core * 2 + 1]).collect();
        Machine { cores, caches: vec![(4, "8192K"), (4, "8192K")], nodes: vec![8], fast: 0 }
    }

    /// Ryzen 9 7950X3D: the first die has three times the cache.
    pub fn ryzen_7950x3d() -> Machine {
        let caches = vec![(8, "98304K"), (8, "32768K")];
        Machine { cores: smt(16), caches, nodes: vec![16], fast: 0 }
    }

    /// An EPYC with two nodes, each with two caches of four cores.
    pub fn epyc_2_nodes() -> Machine {
        Machine { cores: smt(16), caches: vec![(4, "16384K"); 4], nodes: vec![8, 8], fast: 0 }
    }

    /// Two cores without threads: a small VM.
    pub fn small_vm() -> Machine {
        let caches = vec![(2, "16384K")];
        Machine { cores: vec![vec![0], vec![1]], caches, nodes: vec![2], fast: 0 }
    }

    /// Core i9-12900K: eight fast cores with threads, eight small ones.
    pub fn hybrid_12900k() -> Machine {
        let fast = (0..8).map(|core| vec![core * 2, core * 2 + 1]);
        let cores = fast.chain((16..24).map(|cpu| vec![cpu])).collect();
        Machine { cores, caches: vec![(16, "30720K")], nodes: vec![16], fast: 8 }
    }

    /// Lays a machine out as a tree.
    pub fn lay(fake: &FakeHost, machine: &Machine) {
        let all: Cpus = machine.cores.iter().flatten().copied().collect();
        let file = |path: &str, text: String| fake.file(path, text + "\n").unwrap();
        file(&format!("{CPU}/online"), cpus::list(&all));
        file(&format!("{CPU}/isolated"), String::new());
        for core in &machine.cores {
            for cpu in core {
                let path = format!("{CPU}/cpu{cpu}/topology/thread_siblings_list");
                file(&path, cpus::list(core));
            }
        }
        let mut rest = machine.cores.iter();
        for (count, size) in &machine.caches {
            let shared: Cpus = rest.by_ref().take(*count).flatten().copied().collect();
            for cpu in &shared {
                let index = format!("{CPU}/cpu{cpu}/cache/index3");
                file(&format!("{index}/level"), "3".to_owned());
                file(&format!("{index}/size"), (*size).to_owned());
                file(&format!("{index}/shared_cpu_list"), cpus::list(&shared));
            }
        }
        let mut rest = machine.cores.iter();
        for (node, count) in machine.nodes.iter().enumerate() {
            let cpus: Cpus = rest.by_ref().take(*count).flatten().copied().collect();
            file(&format!("{NODE}/node{node}/cpulist"), cpus::list(&cpus));
        }
        if machine.fast > 0 {
            let (fast, small) = machine.cores.split_at(machine.fast);
            file("/sys/devices/cpu_core/cpus", cpus::list(fast.iter().flatten()));
            file("/sys/devices/cpu_atom/cpus", cpus::list(small.iter().flatten()));
        }
    }

    /// A machine, read from its tree.
    pub fn topology(machine: &Machine) -> Topology {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        lay(&fake, machine);
        read(&fake.host().sys).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    fn l3s(topology: &Topology) -> BTreeSet<u32> {
        topology.cores.iter().map(|core| core.l3).collect()
    }

    #[test]
    fn reads_machines_that_people_have() {
        let intel = samples::topology(&samples::intel_8c16t());
        assert_eq!(intel.cores[3].cpus, [3, 11]);
        assert_eq!((intel.online().len(), l3s(&intel).len()), (16, 1));
        assert_eq!(intel.cores[0].kind, Kind::Uniform);

        let ryzen = samples::topology(&samples::ryzen_5950x());
        assert_eq!(l3s(&ryzen), [0, 8].into());
        assert_eq!(ryzen.cores[0].l3_size, Some(Bytes(32 << 20)));

        let old = samples::topology(&samples::ryzen_1800x());
        assert_eq!((l3s(&old), &old.cores[7].cpus[..]), ([0, 8].into(), &[14, 15][..]));

        let epyc = samples::topology(&samples::epyc_2_nodes());
        assert_eq!((epyc.nodes(), epyc.node_of(8), l3s(&epyc).len()), ([0, 1].into(), Some(1), 4));

        let hybrid = samples::topology(&samples::hybrid_12900k());
        let kinds: Vec<Kind> = hybrid.cores.iter().map(|core| core.kind).collect();
        assert_eq!(kinds[..8], [Kind::Performance; 8]);
        assert_eq!(kinds[8..], [Kind::Efficiency; 8]);

        assert_eq!(samples::topology(&samples::small_vm()).cores.len(), 2);
    }

    #[test]
    fn what_is_not_said_is_the_simplest() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let sys = fake.host().sys;
        assert!(read(&sys).unwrap_err().is_missing());
        fake.file("/sys/devices/system/cpu/online", "rubbish\n").unwrap();
        assert!(matches!(read(&sys), Err(SysError::Invalid { .. })));
        fake.file("/sys/devices/system/cpu/online", "0-2\n").unwrap();
        // About others than itself: not believed.
        fake.file("/sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "5-6\n").unwrap();
        let found = read(&sys).unwrap();
        let cores: Vec<&[u32]> = found.cores.iter().map(|core| &core.cpus[..]).collect();
        assert_eq!(cores, [&[0][..], &[1], &[2]]);
        assert_eq!((found.nodes(), l3s(&found)), ([0].into(), [0].into()));
        assert_eq!(found.node_of(7), None);
    }

    #[test]
    fn a_sibling_that_is_offline_is_not_counted() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        samples::lay(&fake, &samples::intel_8c16t());
        fake.file("/sys/devices/system/cpu/online", "0-10\n").unwrap();
        let found = read(&fake.host().sys).unwrap();
        assert_eq!((&found.cores[2].cpus[..], &found.cores[3].cpus[..]), (&[2, 10][..], &[3][..]));
    }
}

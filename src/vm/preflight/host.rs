//! Processors and memory of the host, as far as a VM's file names them.

use super::Problem;
use crate::base::{Bytes, meminfo};
use crate::config::{Hugepages, Pinning, Vm};
use crate::host::Host;
use crate::host::cpus::{self, Cpus};

/// Processors that work; sysfs's documentation, `devices/system/cpu`.
const ONLINE: &str = "/sys/devices/system/cpu/online";
const MEMORY: &str = "/proc/meminfo";
const NODES: &str = "/sys/devices/system/node";
/// One folder for each size of page that the processor has.
const PAGES: &str = "/sys/kernel/mm/hugepages";

pub(super) fn check(host: &Host, vm: &Vm, about: &mut impl FnMut(&'static str, Vec<Problem>)) {
    about("pinning", check_pins(host, vm).into_iter().collect());
    about("memory", check_memory(host, vm).into_iter().collect());
    about("numa-node", check_node(host, vm).into_iter().collect());
    about("hugepages", check_pages(host, vm));
}

pub(super) fn warnings(host: &Host, vm: &Vm) -> Vec<String> {
    let mut found = Vec::new();
    if !pins(vm).is_empty() && online(host).is_none() {
        found.push(format!("which processors there are is not known: {ONLINE} is no list"));
    }
    if total(host).is_none() {
        found.push(format!("how much memory there is is not known: {MEMORY} does not say"));
    }
    found
}

fn online(host: &Host) -> Option<Cpus> {
    cpus::parse_list(&host.sys.text(ONLINE).ok()?).filter(|cpus| !cpus.is_empty())
}

/// The processors that the VM's file names.
fn pins(vm: &Vm) -> Cpus {
    match &vm.pinning {
        Pinning::Off | Pinning::Auto { .. } => Cpus::new(),
        Pinning::Exact { vcpus, emulator, iothreads } => {
            vcpus.iter().chain(emulator).chain(iothreads).copied().collect()
        }
    }
}

fn check_pins(host: &Host, vm: &Vm) -> Option<Problem> {
    let online = online(host)?;
    let gone: Vec<String> = pins(vm).difference(&online).map(ToString::to_string).collect();
    (!gone.is_empty()).then(|| {
        let what = format!("this host has no processor {}", gone.join(", "));
        Problem::new(what, format!("correct `pinning:`; there are {}", cpus::list(&online)))
    })
}

/// `MemTotal:` in bytes.
fn total(host: &Host) -> Option<u64> {
    let text = host.sys.text(MEMORY).ok()?;
    meminfo(&text, "MemTotal")
}

fn check_memory(host: &Host, vm: &Vm) -> Option<Problem> {
    let total = total(host)?;
    (vm.memory.0 >= total).then(|| {
        let what = format!("{} of memory are more than the host has ({})", vm.memory, Bytes(total));
        Problem::new(what, "use less `memory`; the host needs some, too")
    })
}

fn check_node(host: &Host, vm: &Vm) -> Option<Problem> {
    let node = vm.numa_node?;
    (!host.sys.exists(format!("{NODES}/node{node}"))).then(|| {
        Problem::new(
            format!("this host has no NUMA node {node}"),
            format!("look into {NODES}, and correct `numa_node`, or take it out"),
        )
    })
}

fn check_pages(host: &Host, vm: &Vm) -> Vec<Problem> {
    let Hugepages::Size(page) = vm.hugepages else { return Vec::new() };
    let mut found = Vec::new();
    let next = format!("look into {PAGES}, and correct `hugepages`");
    if !host.sys.exists(format!("{PAGES}/hugepages-{}kB", page.0 >> 10)) {
        found.push(Problem::new(format!("this host has no pages of {page}"), next));
    }
    if page.0 == 0 || !vm.memory.0.is_multiple_of(page.0) {
        let what = format!("{} of memory are not made of whole pages of {page}", vm.memory);
        found.push(Problem::new(what, format!("use a multiple of {page} as `memory`")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use crate::vm::tests::vm;

    fn wanting() -> Vm {
        Vm {
            memory: Bytes(3 << 30),
            hugepages: Hugepages::Size(Bytes(2 << 30)),
            numa_node: Some(1),
            pinning: Pinning::Exact { vcpus: vec![2, 9], emulator: vec![0], iothreads: vec![12] },
            ..vm()
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file(ONLINE, "0-7,10\n").unwrap();
        fake.file(MEMORY, "MemTotal:       2097152 kB\nMemFree: 1 kB\n").unwrap();
        let host = fake.host();
        let mut found = Vec::new();
        check(&host, &wanting(), &mut |_, problems| found.extend(problems));
        let found = found.into_iter();
        let found: Vec<String> = found.map(|one| format!("{}: {}", one.what, one.next)).collect();
        insta::assert_snapshot!(found.join("\n"), @r"
        this host has no processor 9, 12: correct `pinning:`; there are 0-7,10
        3G of memory are more than the host has (2G): use less `memory`; the host needs some, too
        this host has no NUMA node 1: look into /sys/devices/system/node, and correct `numa_node`, or take it out
        this host has no pages of 2G: look into /sys/kernel/mm/hugepages, and correct `hugepages`
        3G of memory are not made of whole pages of 2G: use a multiple of 2G as `memory`
        ");
        assert_eq!(warnings(&host, &wanting()), [""; 0]);
        fake.file("/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages", "0\n").unwrap();
        fake.dir("/sys/devices/system/node/node1").unwrap();
        let pinning = Pinning::Exact { vcpus: vec![10], emulator: vec![], iothreads: vec![7] };
        let hugepages = Hugepages::Size(Bytes(1 << 30));
        let fits = Vm { memory: Bytes(1 << 30), hugepages, pinning, ..wanting() };
        check(&host, &fits, &mut |_, problems| assert_eq!(problems, []));
    }

    #[test]
    fn what_cannot_be_read_is_no_problem_and_not_silent() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file(ONLINE, "all of them\n").unwrap();
        let found = warnings(&fake.host(), &wanting());
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(check_pins(&fake.host(), &wanting()), None);
    }
}

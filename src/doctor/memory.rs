//! Memory: what may be locked, what is free, what is set aside as huge pages.

use super::check::{Check, Id};
use super::scope::Scope;
use crate::base::{Bytes, Name};
use crate::host::{Host, SysRoot};
use crate::vm::record::Record;

/// QEMU locks a little more than the guest's memory: its own buffers and tables.
const SLACK: u64 = 512 << 20;

/// What there is to judge.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// How much hostd's children may lock; `None` where we are not hostd.
    pub lock: Option<Lock>,
    /// `MemAvailable`.
    pub available: Option<u64>,
    /// What ZFS's cache would give back.
    pub cache: u64,
    /// Huge pages by node and size.
    pub huge: Vec<Huge>,
    /// VMs that run, or that are on record.
    pub running: Vec<Name>,
}

/// How much may be locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    /// As much as there is.
    Unlimited,
    /// So many bytes.
    Limit(u64),
    /// It cannot be read.
    Unknown,
}

/// Huge pages of one size on one NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Huge {
    /// The node.
    pub node: u32,
    /// Of one page, in KiB.
    pub size: u64,
    /// How many are set aside.
    pub total: u64,
    /// How many of them nobody uses.
    pub free: u64,
}

/// Reads it all; `daemon`: we are hostd, whose limits QEMU inherits.
pub fn read(host: &Host, scope: &Scope, daemon: bool) -> Facts {
    let sys = &host.sys;
    let meminfo = sys.text("/proc/meminfo").unwrap_or_default();
    let arc = sys.text("/proc/spl/kstat/zfs/arcstats").unwrap_or_default();
    let on_record = |name: &Name| !matches!(Record::read(host, name), Ok(None));
    let running = scope.vms.iter().map(|vm| vm.name.clone()).filter(on_record).collect();
    Facts {
        lock: daemon.then(|| {
            lock(
                &sys.text("/proc/self/limits").unwrap_or_default(),
                &sys.text("/proc/self/status").unwrap_or_default(),
            )
        }),
        available: available(&meminfo),
        cache: cache(&arc),
        huge: huge(sys),
        running,
    }
}

/// `Max locked memory  8388608  8388608  bytes`; whoever has `CAP_IPC_LOCK`
/// (bit 14) is not limited (Linux, `drivers/vfio/vfio_iommu_type1.c`).
fn lock(limits: &str, status: &str) -> Lock {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    if effective.is_some_and(|set| set >> 14 & 1 == 1) {
        return Lock::Unlimited;
    }
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    match soft.and_then(|rest| rest.split_ascii_whitespace().next()) {
        Some("unlimited") => Lock::Unlimited,
        Some(number) => number.parse().map_or(Lock::Unknown, Lock::Limit),
        None => Lock::Unknown,
    }
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// What ZFS's cache holds above its least size: `size 4 123`, `c_min 4 1`.
fn cache(arcstats: &str) -> u64 {
    let value = |name: &str| {
        let mut lines = arcstats.lines().map(|line| line.split_ascii_whitespace());
        lines.find_map(|mut words| {
            (words.next() == Some(name)).then(|| words.nth(1)?.parse::<u64>().ok()).flatten()
        })
    };
    value("size").unwrap_or(0).saturating_sub(value("c_min").unwrap_or(0))
}

const NODES: &str = "/sys/devices/system/node";

fn huge(sys: &SysRoot) -> Vec<Huge> {
    let mut found = Vec::new();
    for name in sys.list(NODES).unwrap_or_default() {
        let Some(node) = name.strip_prefix("node").and_then(|n| n.parse().ok()) else { continue };
        let folder = format!("{NODES}/{name}/hugepages");
        for kind in sys.list(&folder).unwrap_or_default() {
            let size = kind.strip_prefix("hugepages-").and_then(|rest| rest.strip_suffix("kB"));
            let Some(size) = size.and_then(|size| size.parse().ok()) else { continue };
            let count = |file: &str| -> Option<u64> {
                sys.text(format!("{folder}/{kind}/{file}")).ok()?.trim().parse().ok()
            };
            if let (Some(total), Some(free)) = (count("nr_hugepages"), count("free_hugepages"))
                && total > 0
            {
                found.push(Huge { node, size, total, free });
            }
        }
    }
    found
}

/// The checks.
pub fn judge(facts: &Facts, scope: &Scope) -> Vec<Check> {
    let mut checks: Vec<Check> = locked(facts, scope).into_iter().collect();
    let mut rest = facts.available;
    for vm in &scope.vms {
        let runs = facts.running.contains(&vm.name);
        let check = if runs {
            Check::ok(Id::Free, format!("{}: it runs, or is on record", vm.memory))
        } else {
            free(facts, rest, vm.memory.0, vm.gpu.is_some())
        };
        checks.push(check.of(vm.name.to_string()));
        if !runs {
            rest = rest.map(|rest| rest.saturating_sub(vm.memory.0));
        }
    }
    checks.extend(set_aside(facts, scope));
    checks
}

fn locked(facts: &Facts, scope: &Scope) -> Option<Check> {
    let most = scope.vms_with_card().map(|vm| vm.memory.0).max()?;
    let needed = most.saturating_add(SLACK);
    let seen = |limit: &str| format!("{limit}; the largest VM with a card needs {}", Bytes(needed));
    Some(match facts.lock {
        None => Check::unknown(
            Id::Memlock,
            "only the daemon knows its own limit",
            "systemctl start hostd, then ask again; or: systemctl show -p LimitMEMLOCK hostd",
        ),
        Some(Lock::Unknown) => Check::unknown(Id::Memlock, "/proc/self/limits cannot be read", ""),
        Some(Lock::Unlimited) => Check::ok(Id::Memlock, seen("unlimited")),
        Some(Lock::Limit(limit)) if limit >= needed => {
            Check::ok(Id::Memlock, seen(&Bytes(limit).to_string()))
        }
        Some(Lock::Limit(limit)) => Check::critical(
            Id::Memlock,
            format!("{}: QEMU would end with error -12", seen(&Bytes(limit).to_string())),
            "systemctl edit hostd, write `[Service]` and `LimitMEMLOCK=infinity`, then: systemctl \
             restart hostd (running VMs stay)",
        ),
    })
}

fn free(facts: &Facts, rest: Option<u64>, wanted: u64, card: bool) -> Check {
    let Some(rest) = rest else {
        return Check::unknown(Id::Free, "/proc/meminfo cannot be read", "");
    };
    let cache = if facts.cache > 0 {
        format!(", and {} that ZFS's cache can give back", Bytes(facts.cache))
    } else {
        String::new()
    };
    let seen = format!("{} of {} available{cache}", Bytes(wanted), Bytes(rest));
    if wanted <= rest {
        return Check::ok(Id::Free, seen);
    }
    let fix = "end other programs or VMs, or write less `memory:` in the VM's file";
    if wanted <= rest.saturating_add(facts.cache) {
        let fix = "limit ZFS's cache: zfs_arc_max in /etc/modprobe.d/zfs.conf, or now: echo BYTES > \
                   /sys/module/zfs/parameters/zfs_arc_max";
        Check::warning(Id::Free, seen, fix)
    } else {
        // Without a card memory is taken page by page.
        Check::critical(Id::Free, seen, fix).only_if(card)
    }
}

fn set_aside(facts: &Facts, scope: &Scope) -> Option<Check> {
    if scope.vms.is_empty() && !scope.wanted {
        return None;
    }
    let one = |huge: &Huge| {
        let size = Bytes(huge.size.saturating_mul(1024));
        format!("node {}: {} pages of {size}, {} free", huge.node, huge.total, huge.free)
    };
    let seen: Vec<String> = facts.huge.iter().map(one).collect();
    let idle: u64 = facts
        .huge
        .iter()
        .map(|huge| huge.free.saturating_mul(huge.size.saturating_mul(1024)))
        .sum();
    Some(if seen.is_empty() {
        Check::ok(Id::HugePages, "none are set aside")
    } else if idle == 0 {
        Check::ok(Id::HugePages, seen.join("; "))
    } else {
        Check::warning(
            Id::HugePages,
            format!("{}: {} lie idle, hostd's VMs do not use them", seen.join("; "), Bytes(idle)),
            "remove `hugepages=` from the kernel command line, or: sysctl vm.nr_hugepages=0",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Severity;
    use crate::doctor::tests::{scope, status};
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;

    fn facts() -> Facts {
        Facts { lock: Some(Lock::Unlimited), available: Some(64 * GIB), ..Facts::default() }
    }

    #[test]
    fn enough_of_all_is_fine() {
        for check in judge(&facts(), &scope()) {
            assert_eq!(check.status, Severity::Ok, "{check:?}");
        }
        assert_eq!(judge(&facts(), &Scope::default()), []);
    }

    #[test]
    fn the_limit_is_the_daemons() {
        let with = |lock| status(&judge(&Facts { lock, ..facts() }, &scope()), Id::Memlock);
        assert_eq!(with(None), Severity::Unknown);
        assert_eq!(with(Some(Lock::Unknown)), Severity::Unknown);
        assert_eq!(with(Some(Lock::Limit(8 << 20))), Severity::Critical);
        assert_eq!(with(Some(Lock::Limit(16 * GIB))), Severity::Critical, "no slack");
        assert_eq!(with(Some(Lock::Limit(17 * GIB))), Severity::Ok);
        let limits = "Max locked memory         8388608              8388608              bytes \n";
        assert_eq!(lock(limits, "CapEff:\t0000000000000000\n"), Lock::Limit(8_388_608));
        assert_eq!(lock(limits, "CapEff:\t0000000000004000\n"), Lock::Unlimited);
        assert_eq!(lock("Max locked memory unlimited unlimited bytes", ""), Lock::Unlimited);
        assert_eq!(lock("", ""), Lock::Unknown);
    }

    #[test]
    fn memory_is_counted_once() {
        let with = |available, cache| {
            let facts = Facts { available, cache, ..facts() };
            status(&judge(&facts, &scope()), Id::Free)
        };
        assert_eq!(with(Some(8 * GIB), 0), Severity::Critical);
        assert_eq!(with(Some(8 * GIB), 9 * GIB), Severity::Warning);
        assert_eq!(with(None, 0), Severity::Unknown);
        // Two VMs that fit one at a time do not fit together.
        let mut two = scope();
        two.vms.push(two.vms[0].clone());
        two.vms[1].name = "second".parse().unwrap();
        let facts = Facts { available: Some(20 * GIB), ..facts() };
        let all = |facts: &Facts| -> Vec<Severity> {
            let checks = judge(facts, &two);
            let free = checks.iter().filter(|check| check.id == Id::Free);
            free.map(|check| check.status).collect()
        };
        assert_eq!(all(&facts), [Severity::Ok, Severity::Critical]);
        let running = Facts { running: vec![two.vms[0].name.clone()], ..facts };
        assert_eq!(all(&running), [Severity::Ok, Severity::Ok]);
    }

    #[test]
    fn huge_pages_that_lie_idle_are_said() {
        let huge = |free| Huge { node: 0, size: 2048, total: 4096, free };
        let with = |free| {
            let facts = Facts { huge: vec![huge(free)], ..facts() };
            judge(&facts, &scope()).into_iter().find(|check| check.id == Id::HugePages).unwrap()
        };
        assert_eq!(with(0).status, Severity::Ok);
        assert_eq!(with(4096).status, Severity::Warning);
        assert!(with(4096).evidence.contains("4096 pages of 2M, 4096 free"), "{:?}", with(4096));
    }

    proptest! {
        #[test]
        fn never_panics(text in "(Max locked memory|MemAvailable:|size|c_min|CapEff:|[0-9 ]|\\PC|\n){0,30}") {
            let _ = (lock(&text, &text), available(&text), cache(&text));
        }
    }
}

//! What the host should be like while guests play: governor, tasks, kernel
//! threads and interrupts off the guests' processors, scrubs paused, services
//! stopped. Worked out over the claims of all guests together.
//!
//! Tasks move by the processors of systemd's slices, kernel threads one by one
//! (`kthreadd` first: new ones take theirs from it), their unbound workers by
//! the masks of the workqueues. What the kernel ties to a processor
//! (`PF_NO_SETAFFINITY`) or manages itself (interrupts of NVMe queues) stays
//! and is listed.

use std::collections::BTreeMap;

use super::journal::Journal;
use super::knob::{Hands, Knob, Spelling, stat};
use super::memory;
use super::settle::{Want, Wanted};
use crate::host::cpus::{self, Cpus};

/// A thread of the kernel; `include/linux/sched.h`.
const PF_KTHREAD: u64 = 0x0020_0000;
/// A thread that nobody may move.
const PF_NO_SETAFFINITY: u64 = 0x0400_0000;
/// What everybody's tasks are below, besides the guests' own slice.
const SLICES: [&str; 4] = ["init.scope", "system.slice", "user.slice", "machine.slice"];
const BALANCER: &str = "irqbalance.service";
const WORKQUEUES: &str = "/sys/devices/virtual/workqueue";
const IRQS: &str = "/proc/irq";
/// Files of an interrupt's folder; its other entries are those who handle it.
const IRQ_FILES: [&str; 7] = [
    "affinity_hint",
    "effective_affinity",
    "effective_affinity_list",
    "node",
    "smp_affinity",
    "smp_affinity_list",
    "spurious",
];
/// More names than this help nobody.
const MOST_NAMES: usize = 64;

/// Everything that the claims want of the host, in the order in which it is to
/// be done; and what they cannot have, in words.
pub fn wanted(hands: &Hands, journal: &Journal) -> (Vec<Wanted>, Vec<String>) {
    let mut wanted = memory::wanted(journal);
    let mut cannot = Vec::new();
    let claims = || journal.claims.values();
    let mut services: Vec<&String> = claims().flat_map(|claim| &claim.services).collect();
    services.sort();
    services.dedup();
    wanted.extend(services.into_iter().map(|unit| {
        let knob = Knob::Service { unit: unit.clone() };
        Wanted::new(knob, Want::Word("inactive".to_owned()))
    }));
    if claims().any(|claim| claim.pause_scrub) {
        wanted.extend(scrubs(hands, journal, &mut cannot));
    }
    let isolated = claims().filter(|claim| claim.isolate).filter_map(|claim| claim.pins.as_ref());
    let kept: Cpus = isolated.flat_map(super::pins::Pins::kept).collect();
    match online(hands) {
        Ok(online) => {
            let host: Cpus = online.difference(&kept).copied().collect();
            if !kept.is_empty() && !host.is_empty() {
                wanted.extend(slices(hands, &online, &host, &mut cannot));
                wanted.extend(threads(hands, &kept, &host, &mut cannot));
                wanted.extend(workqueues(hands, &host));
                wanted.extend(interrupts(hands, &host));
                cannot.extend(balancer(hands, journal));
            }
            wanted.extend(governors(hands, journal, &online, &mut cannot));
        }
        Err(why) => cannot.push(why),
    }
    (wanted, cannot)
}

fn online(hands: &Hands) -> Result<Cpus, String> {
    let text = hands.host.sys.text("/sys/devices/system/cpu/online");
    let text = text.map_err(|error| error.in_full())?;
    cpus::parse_list(&text).ok_or_else(|| "the host's processors cannot be read".to_owned())
}

/// Those that run, and those that we have paused.
fn scrubs(hands: &Hands, journal: &Journal, cannot: &mut Vec<String>) -> Vec<Wanted> {
    let ours = journal.entries.iter().filter_map(|entry| match &entry.knob {
        Knob::Scrub { pool } => Some(pool.clone()),
        Knob::Service { .. }
        | Knob::Slice { .. }
        | Knob::Thread { .. }
        | Knob::Attribute { .. } => None,
    });
    let mut pools: Vec<String> = ours.collect();
    match hands.scrubbed() {
        Ok(running) => pools.extend(running),
        Err(error) => cannot.push(format!("whether a pool is being scrubbed: {error}")),
    }
    pools.sort();
    pools.dedup();
    let paused = |pool| Wanted::new(Knob::Scrub { pool }, Want::Word("paused".to_owned()));
    pools.into_iter().map(paused).collect()
}

fn slices(hands: &Hands, online: &Cpus, host: &Cpus, cannot: &mut Vec<String>) -> Vec<Wanted> {
    let there = |unit: &&&str| hands.host.sys.exists(format!("/sys/fs/cgroup/{unit}"));
    let all: Vec<Wanted> = SLICES
        .iter()
        .filter(there)
        .map(|unit| Wanted {
            knob: Knob::Slice { unit: (*unit).to_owned() },
            want: Want::Word(cpus::list(host)),
            // systemd does not lift a limit from tasks that run when it is
            // emptied (systemd issue 43846): first all, then none.
            first: Some(cpus::list(online)),
        })
        .collect();
    if all.is_empty() {
        cannot.push("tasks of the host: there are no slices of systemd (cgroup v2)".to_owned());
    }
    all
}

/// Kernel threads that can be moved; the names of the others that may run on
/// the guest's processors go to `cannot`.
fn threads(hands: &Hands, kept: &Cpus, host: &Cpus, cannot: &mut Vec<String>) -> Vec<Wanted> {
    let names = hands.host.sys.list("/proc").unwrap_or_default();
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    // kthreadd has number 2 and comes first.
    numbers.sort_unstable();
    let mut wanted = Vec::new();
    let mut tied: BTreeMap<String, usize> = BTreeMap::new();
    for thread in numbers {
        let Some(stat) = stat(&hands.host, thread) else { continue };
        if stat.flags & PF_KTHREAD == 0 {
            continue;
        }
        if stat.flags & PF_NO_SETAFFINITY == 0 {
            let knob = Knob::Thread { thread, started: stat.started, name: stat.name };
            wanted.push(Wanted::new(knob, Want::Within(host.clone())));
        } else if hands.affinity.get(thread).is_ok_and(|cpus| !cpus.is_disjoint(kept)) {
            let stem = stat.name.split(['/', ':']).next().unwrap_or_default().to_owned();
            *tied.entry(stem).or_default() += 1;
        }
    }
    let many = |(name, count): (String, usize)| match count {
        1 => format!("kernel thread {name}"),
        _ => format!("{count} kernel threads {name}"),
    };
    cannot.extend(tied.into_iter().take(MOST_NAMES).map(many));
    wanted
}

fn workqueues(hands: &Hands, host: &Cpus) -> Vec<Wanted> {
    let names = hands.host.sys.list(WORKQUEUES).unwrap_or_default();
    let own = names.iter().filter_map(|name| {
        let path = format!("{WORKQUEUES}/{name}/cpumask");
        hands.host.sys.exists(&path).then_some(path)
    });
    // The mask of all first: those of their own are cut to it.
    std::iter::once(format!("{WORKQUEUES}/cpumask"))
        .chain(own)
        .map(|path| Wanted::new(Knob::attribute(path, Spelling::Mask), Want::Within(host.clone())))
        .collect()
}

/// All but those that guests handle themselves.
fn interrupts(hands: &Hands, host: &Cpus) -> Vec<Wanted> {
    let path = format!("{IRQS}/default_smp_affinity");
    let future = Wanted::new(Knob::attribute(path, Spelling::Mask), Want::Within(host.clone()));
    let all = numbers(hands).into_iter().filter(|irq| !handlers(hands, *irq).contains("vfio"));
    let now = all.map(|irq| {
        let path = format!("{IRQS}/{irq}/smp_affinity_list");
        Wanted::new(Knob::attribute(path, Spelling::List), Want::Within(host.clone()))
    });
    std::iter::once(future).chain(now).collect()
}

/// irqbalance moves interrupts back as it likes.
fn balancer(hands: &Hands, journal: &Journal) -> Option<String> {
    let stopped = journal.claims.values().any(|claim| claim.services.iter().any(|s| s == BALANCER));
    let runs = || hands.handle.block_on(hands.host.units.is_active(BALANCER)).unwrap_or(false);
    (!stopped && runs()).then(|| {
        format!("interrupts for long: {BALANCER} moves them back; add it to `stop-services`")
    })
}

/// The interrupts that there are.
pub fn numbers(hands: &Hands) -> Vec<u32> {
    let names = hands.host.sys.list(IRQS).unwrap_or_default();
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// Who handles an interrupt: each has a folder in the interrupt's.
pub fn handlers(hands: &Hands, irq: u32) -> String {
    let names = hands.host.sys.list(format!("{IRQS}/{irq}")).unwrap_or_default();
    let all: Vec<String> =
        names.into_iter().filter(|name| !IRQ_FILES.contains(&name.as_str())).collect();
    all.join(", ")
}

fn governors(
    hands: &Hands,
    journal: &Journal,
    online: &Cpus,
    cannot: &mut Vec<String>,
) -> Vec<Wanted> {
    let mut wanted: BTreeMap<u32, String> = BTreeMap::new();
    for claim in journal.claims.values() {
        let Some(governor) = &claim.governor else { continue };
        let kept = claim.pins.as_ref().map_or_else(|| online.clone(), super::pins::Pins::kept);
        wanted.extend(kept.into_iter().map(|cpu| (cpu, governor.clone())));
    }
    let mut without = Cpus::new();
    let mut unknown = BTreeMap::<String, Cpus>::new();
    let mut all = Vec::new();
    for (cpu, governor) in wanted {
        let folder = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq");
        let there = hands.host.sys.text(format!("{folder}/scaling_available_governors"));
        match there {
            Ok(names) if names.split_whitespace().any(|name| name == governor) => {
                let knob = Knob::attribute(format!("{folder}/scaling_governor"), Spelling::Word);
                all.push(Wanted::new(knob, Want::Word(governor)));
            }
            Ok(names) => {
                let what = format!("governor `{governor}`: the host has {}", names.trim());
                unknown.entry(what).or_default().insert(cpu);
            }
            Err(_) => {
                without.insert(cpu);
            }
        }
    }
    cannot.extend(unknown.into_keys());
    if !without.is_empty() {
        let all = cpus::list(&without);
        cannot.push(format!("governor of processors {all}: their frequency is not the kernel's"));
    }
    all
}

/// What could not be moved, with interrupts by name and alike ones together.
pub fn shorten(hands: &Hands, cannot: Vec<String>) -> Vec<String> {
    let mut short = Vec::new();
    let mut irqs = Vec::new();
    for line in cannot {
        let irq = line
            .strip_prefix("/proc/irq/")
            .and_then(|rest| rest.split_once("/smp_affinity_list"))
            .and_then(|(irq, _)| irq.parse::<u32>().ok());
        match irq {
            Some(irq) => {
                let handlers = handlers(hands, irq);
                irqs.push(match &*handlers {
                    "" => irq.to_string(),
                    names => format!("{irq} ({names})"),
                });
            }
            None => short.push(line),
        }
    }
    if !irqs.is_empty() {
        let more = irqs.len().saturating_sub(MOST_NAMES);
        irqs.truncate(MOST_NAMES);
        let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
        short.push(format!("interrupts {}{rest}", irqs.join(", ")));
    }
    short.truncate(2 * MOST_NAMES);
    short
}

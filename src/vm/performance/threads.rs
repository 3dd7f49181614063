//! QEMU's threads to their processors, and the guest's interrupts after them.

use super::host;
use super::knob::Hands;
use super::pins::Pins;
use crate::base::PciAddress;
use crate::host::cpus::{self, Cpus};

/// QEMU's threads, as it tells them itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Threads {
    /// The process.
    pub pid: u32,
    /// Index and thread of each virtual processor: `query-cpus-fast`.
    pub vcpus: Vec<(u32, u32)>,
    /// Threads of `query-iothreads`.
    pub iothreads: Vec<u32>,
}

/// Pins each thread and reads it back; what did not work, in words. Threads
/// that QEMU starts later take theirs from the one that starts them.
pub fn pin(hands: &Hands, pins: &Pins, threads: &Threads) -> Vec<String> {
    let folder = format!("/proc/{}/task", threads.pid);
    let tasks: Vec<u32> = match hands.host.sys.list(&folder) {
        Ok(names) => names.iter().filter_map(|name| name.parse().ok()).collect(),
        Err(error) => return vec![format!("QEMU's threads: {}", error.in_full())],
    };
    let mut wrong = Vec::new();
    let mut set = |what: &str, task: u32, cpus: &Cpus| {
        // QEMU says so; only what is its own is moved.
        if !tasks.contains(&task) {
            wrong.push(format!("{what}: {task} is no thread of QEMU's"));
            return;
        }
        let done = hands.affinity.set(task, cpus).and_then(|()| hands.affinity.get(task));
        match done {
            Ok(now) if now == *cpus => {}
            Ok(now) => wrong.push(format!(
                "{what} runs on {}, not on {}: its cgroup allows no more",
                cpus::list(&now),
                cpus::list(cpus)
            )),
            // Helpers come and go.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => wrong.push(format!("{what}: {error}")),
        }
    };
    let mut known = Cpus::new();
    for (index, task) in &threads.vcpus {
        known.insert(*task);
        let cpu = usize::try_from(*index).ok().and_then(|index| pins.vcpus.get(index));
        if let Some(cpu) = cpu {
            set(&format!("virtual processor {index}"), *task, &Cpus::from([*cpu]));
        }
    }
    for task in &threads.iothreads {
        known.insert(*task);
        set("an I/O thread", *task, &pins.iothreads);
    }
    for task in tasks.iter().filter(|task| !known.contains(task)) {
        set("a thread of QEMU's own", *task, &pins.emulator);
    }
    let missing = pins.vcpus.len().saturating_sub(threads.vcpus.len());
    if missing > 0 {
        wrong.push(format!("QEMU told no thread of {missing} virtual processors"));
    }
    wrong
}

/// Moves the interrupts of a guest's devices to its processors: the guest
/// makes them when its drivers start, and they end with QEMU. How many are
/// there now.
pub fn interrupts(hands: &Hands, pins: &Pins, devices: &[PciAddress]) -> usize {
    let mut there = 0;
    let guest = cpus::list(&pins.vcpus);
    for irq in host::numbers(hands) {
        let handlers = host::handlers(hands, irq);
        let its = handlers.contains("vfio")
            && devices.iter().any(|device| handlers.contains(&format!("({device})")));
        if !its {
            continue;
        }
        let path = format!("/proc/irq/{irq}/smp_affinity_list");
        let now = hands.host.sys.text(&path).unwrap_or_default();
        if now.trim() == guest || hands.host.sys.write(&path, guest.as_bytes()).is_ok() {
            there += 1;
        }
    }
    there
}

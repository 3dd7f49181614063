//! Memory, processors, and where they run.

use std::collections::HashMap;

use crate::base::Bytes;
use crate::config::desk::Desk;
use crate::config::formats::Text;
use crate::config::raw::{RawCpus, RawHugepages, RawPinning, RawPinningWord, RawTopology};
use crate::config::tree::Trail;
use crate::config::types::{Hugepages, Pinning, Topology};

/// Most processors of a guest.
const MOST: u32 = 1024;

/// A size that a guest can have.
pub fn memory(memory: Bytes, desk: &mut Desk<'_, '_>) -> Option<Bytes> {
    let trail = Trail::to("memory");
    if !(16 << 20..=16 << 40).contains(&memory.0) {
        let what = if memory.0 < 16 << 20 { "too little" } else { "too much" };
        desk.error(&trail, format!("{memory} is {what} memory"), "write a size from 16M to 16T");
        return None;
    }
    if !memory.0.is_multiple_of(1 << 20) {
        let fix = format!("write {}M", memory.mib());
        desk.error(&trail, "memory comes in whole megabytes", fix);
        return None;
    }
    Some(memory)
}

/// Pages of which the memory is a whole number.
pub fn hugepages(
    raw: RawHugepages,
    memory: Option<Bytes>,
    desk: &mut Desk<'_, '_>,
) -> Option<Hugepages> {
    let page: u64 = match raw {
        RawHugepages::Off => return Some(Hugepages::Off),
        RawHugepages::Large => 2 << 20,
        RawHugepages::Huge => 1 << 30,
    };
    if let Some(memory) = memory.filter(|memory| !memory.0.is_multiple_of(page)) {
        let size = Bytes(page);
        let message = format!("{}M of memory is no whole number of pages of {size}", memory.mib());
        let fix = format!("write `memory: {}M`", memory.0.next_multiple_of(page) >> 20);
        desk.error(&Trail::to("hugepages"), message, fix);
        return None;
    }
    Some(Hugepages::Size(Bytes(page)))
}

/// How many processors, how they look, where they run.
pub fn read(
    cpus: Option<u32>,
    raw: Option<RawTopology>,
    pinning: Option<RawPinning>,
    desk: &mut Desk<'_, '_>,
) -> Option<(u32, Option<Topology>, Pinning)> {
    // What is given and wrong has its problem already, and agrees with nothing.
    let unknown = cpus.is_none() && desk.root.has(&Trail::to("cpus"));
    let topology = match raw {
        Some(raw) if desk.root.has(&Trail::to("topology").key("cores")) => Some(topology(&raw)?),
        _ => None,
    };
    let pinning = self::pinning(pinning?, desk)?;
    let pins = match &pinning {
        Pinning::Exact { vcpus, .. } => u32::try_from(vcpus.len()).ok(),
        Pinning::Off | Pinning::Auto { .. } => None,
    };
    let product = topology.map(product);
    if let Some(product) = product {
        agrees(cpus, product, desk)?;
    }
    let count = cpus.or(product).or(pins).unwrap_or(2);
    if let Some(pins) = pins.filter(|pins| *pins != count && !unknown) {
        let message = format!("{pins} of the host's processors for {count} virtual ones");
        let fix = "name one for each, in their order";
        desk.error(&Trail::to("pinning").key("vcpus"), message, fix);
        return None;
    }
    (!unknown).then_some((count, topology, pinning))
}

fn topology(raw: &RawTopology) -> Option<Topology> {
    let (sockets, dies) = (raw.sockets?, raw.dies?);
    Some(Topology { sockets, dies, cores: raw.cores?, threads: raw.threads? })
}

fn product(topology: Topology) -> u32 {
    let Topology { sockets, dies, cores, threads } = topology;
    sockets.saturating_mul(dies).saturating_mul(cores).saturating_mul(threads)
}

fn agrees(cpus: Option<u32>, product: u32, desk: &mut Desk<'_, '_>) -> Option<()> {
    let trail = Trail::to("topology");
    if product > MOST {
        let message = format!("the topology has {product} processors");
        desk.error(&trail, message, format!("a guest has at most {MOST}"));
        return None;
    }
    if let Some(cpus) = cpus.filter(|cpus| *cpus != product) {
        let message = format!("the topology has {product} processors, but `cpus` is {cpus}");
        let fix = format!("write `cpus: {product}`, or remove it");
        desk.error(&trail, message, fix);
        return None;
    }
    Some(())
}

fn pinning(raw: RawPinning, desk: &mut Desk<'_, '_>) -> Option<Pinning> {
    let exact = match raw {
        RawPinning::Word(RawPinningWord::Off) => return Some(Pinning::Off),
        RawPinning::Word(RawPinningWord::Auto) => return Some(Pinning::Auto { leave: 1 }),
        RawPinning::Auto(auto) => return Some(Pinning::Auto { leave: auto.leave? }),
        RawPinning::Exact(exact) => exact,
    };
    let trail = Trail::to("pinning");
    let vcpus = cpus(exact.vcpus?, &trail.key("vcpus"), desk)?;
    let mut others = |key: &str, raw: Option<RawCpus>| {
        let (Some(raw), at) = (raw, trail.key(key)) else { return Some(Vec::new()) };
        let list = cpus(raw, &at, desk)?;
        let both: Vec<String> =
            list.iter().filter(|cpu| vcpus.contains(cpu)).map(u32::to_string).collect();
        if !both.is_empty() {
            let message = format!(
                "QEMU's own work is done on processors of the guest too: {}",
                both.join(", ")
            );
            desk.warn(&at, message, "name processors that are not in `vcpus`");
        }
        Some(list)
    };
    let emulator = others("emulator", exact.emulator)?;
    let iothreads = others("iothreads", exact.iothreads)?;
    Some(Pinning::Exact { vcpus, emulator, iothreads })
}

fn cpus(raw: RawCpus, trail: &Trail, desk: &mut Desk<'_, '_>) -> Option<Vec<u32>> {
    let (list, single) = match raw {
        RawCpus::List(Text(list)) => (list.into_iter().map(Some).collect(), true),
        RawCpus::One(cpu) => (vec![Some(cpu.0)], true),
        RawCpus::Some(list) => {
            let list: Vec<_> = list.into_iter().map(|cpu| cpu.map(|cpu| cpu.0)).collect();
            (list, false)
        }
    };
    if list.is_empty() {
        desk.error(trail, "the list names no processor", "write numbers, or remove the line");
        return None;
    }
    let mut seen = HashMap::new();
    for (i, cpu) in list.iter().enumerate() {
        let Some(cpu) = cpu else { continue };
        let at = if single { trail.clone() } else { trail.item(i) };
        desk.unique(&mut seen, *cpu, &at, format!("the processor {cpu}"));
    }
    (seen.len() == list.len()).then(|| list.into_iter().flatten().collect())
}

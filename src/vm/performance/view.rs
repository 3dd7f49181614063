//! What is in force for a VM, for `vm status`.

use super::journal::{Entry, Journal};
use super::knob::{Knob, Spelling};
use crate::ask::view::{HugepagesView, MovedView, PerformanceView, PinsView};
use crate::base::{Bytes, Name};
use crate::host::cpus;

/// What is in force for `vm`; `None` when it has no claim on the host.
pub fn view(journal: &Journal, vm: &Name) -> Option<PerformanceView> {
    let claim = journal.claims.get(vm)?;
    let pins = claim.pins.as_ref().map(|pins| PinsView {
        vcpus: pins.vcpus.clone(),
        emulator: cpus::list(&pins.emulator),
        iothreads: cpus::list(&pins.iothreads),
        host: cpus::list(&pins.host),
    });
    let count = |what: fn(&Entry) -> bool| journal.entries.iter().filter(|e| what(e)).count();
    let is_thread = |entry: &Entry| matches!(entry.knob, Knob::Thread { .. });
    let is_irq =
        |entry: &Entry| matches!(&entry.knob, Knob::Attribute { spelling: Spelling::List, .. });
    let moved = MovedView { kthreads: count(is_thread), irqs: count(is_irq) };
    let stopped = journal.entries.iter().filter_map(|entry| match &entry.knob {
        Knob::Service { unit } if claim.services.contains(unit) => Some(unit.clone()),
        _ => None,
    });
    let paused = journal.entries.iter().filter_map(|entry| match &entry.knob {
        Knob::Scrub { pool } if claim.pause_scrub => Some(pool.clone()),
        _ => None,
    });
    let governor = claim.governor.clone().filter(|governor| {
        journal.entries.iter().any(|entry| match &entry.knob {
            Knob::Attribute { path, .. } => {
                path.ends_with("/scaling_governor") && entry.wrote.last() == Some(governor)
            }
            _ => false,
        })
    });
    let memory = claim.memory.as_ref();
    let pages = memory.and_then(|memory| memory.pages.as_ref());
    Some(PerformanceView {
        pins,
        governor,
        moved: claim.isolate.then_some(moved),
        cannot_move: if claim.isolate { journal.cannot.clone() } else { Vec::new() },
        hugepages: pages.map(|pages| HugepagesView {
            pages: pages.needed,
            size: Bytes(pages.size.0),
            added: pages.added,
        }),
        arc_max: memory.and_then(|memory| memory.arc_max),
        paused_scrubs: paused.collect(),
        stopped_services: stopped.collect(),
    })
}

//! The cards as a person sees them: what the machine shows, and what the
//! records say about it. Only what the kernel answers from memory is read, so
//! that a card that hangs does not keep the list.

use std::collections::BTreeSet;

use super::helper::with_sources;
use super::journal::{Journal, Phase, Record, boot_id};
use super::plan::VFIO;
use super::target::{self, Target};
use crate::ask::view::{GpuView, GpusView};
use crate::base::PciAddress;
use crate::config::Gpu;
use crate::host::Host;
use crate::pci::read::DEVICES;
use crate::pci::{Device, Facts};

/// Configured cards, then other display devices, then slots that only a
/// record knows. `busy`: a card is being changed at this moment.
pub fn view(host: &Host, journal: &Journal, facts: &Facts, gpus: &[Gpu], busy: bool) -> GpusView {
    let mut targets: Vec<Target> = gpus.iter().map(Target::configured).collect();
    let recorded = journal.slots();
    let displays = facts.devices.values().filter(|device| device.is_display());
    let others: BTreeSet<PciAddress> = displays
        .map(|device| device.address.with_function(0))
        .chain(recorded.iter().flatten().copied())
        .filter(|slot| !targets.iter().any(|target| target.slot == *slot))
        .collect();
    targets.extend(others.into_iter().map(Target::unnamed));
    let mut gpus: Vec<GpuView> =
        targets.iter().map(|target| card(host, journal, facts, target, busy)).collect();
    if let Err(error) = recorded {
        let problem = format!("the records cannot be listed: {error}");
        for gpu in &mut gpus {
            gpu.problems.push(problem.clone());
        }
    }
    GpusView { gpus, notes: notes(host, facts) }
}

/// What could not be read. A machine without a PCI bus has no cards, which is
/// no such case.
fn notes(host: &Host, facts: &Facts) -> Vec<String> {
    match host.sys.list(DEVICES) {
        Err(error) if error.is_missing() && host.sys.exists("/sys/bus") => Vec::new(),
        Ok(_) | Err(_) => facts.notes.clone(),
    }
}

fn card(host: &Host, journal: &Journal, facts: &Facts, target: &Target, busy: bool) -> GpuView {
    let mut problems = Vec::new();
    let shown: Vec<&Device> = facts.slot(target.slot).filter(|d| !d.is_bridge()).collect();
    if let Err(error) = target::identify(facts, target) {
        let hint = error.hint();
        problems.push(format!("{error}. {hint}"));
        // It may be there and not have been read.
        problems.extend(facts.notes.iter().take(3).cloned());
    }
    match (journal.load(target.slot), boot_id(&host.sys)) {
        (Err(error), _) => problems.push(with_sources(&error)),
        (Ok(Some(_)), Err(error)) => {
            problems.push(format!("on record, but not to be judged: {error}"));
        }
        (Ok(Some(record)), Ok(boot)) if record.boot == boot => {
            problems.extend(on_record(&record, facts, busy));
        }
        // A record of an earlier boot is void.
        (Ok(None | Some(_)), _) => {}
    }
    let first = shown.first();
    GpuView {
        name: target.name.clone(),
        address: target.slot,
        model: first.map_or_else(String::new, |device| device.name.with_board()),
        functions: shown.iter().map(|device| device.address).collect(),
        driver: first.and_then(|device| device.driver.name()).map(str::to_owned),
        group: first.and_then(|device| device.group),
        bound: !shown.is_empty() && shown.iter().all(|d| d.driver.name() == Some(VFIO)),
        problems,
    }
}

fn on_record(record: &Record, facts: &Facts, busy: bool) -> Vec<String> {
    match record.phase {
        Phase::Bound => drift(record, facts),
        Phase::Left => record.problems.clone(),
        Phase::Binding | Phase::Restoring => {
            let step = record.step.as_ref().map_or_else(String::new, |step| format!(": {step}"));
            if busy {
                vec![format!("being changed at this moment{step}")]
            } else {
                vec![format!("a change was interrupted{step}")]
            }
        }
    }
}

/// What is otherwise than a record of a bound card says.
pub fn drift(record: &Record, facts: &Facts) -> Vec<String> {
    let mut said = Vec::new();
    for saved in &record.functions {
        let address = saved.address;
        match facts.devices.get(&address) {
            None => said.push(format!("{address} is gone from the bus while bound")),
            Some(device) if device.identity() != saved.identity => {
                said.push(format!("{address} is another device than the one that was bound"));
            }
            Some(device) if device.driver.name() != Some(VFIO) => said.push(format!(
                "{address} has {} although hostd has bound it: somebody else changed it",
                device.driver.in_words()
            )),
            Some(_) => {}
        }
    }
    said
}

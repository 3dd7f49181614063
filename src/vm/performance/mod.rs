//! While gaming: what the host does for a VM while it runs, and undoes after.
//!
//! In: a VM's file (`pinning`, `hugepages`, `performance`) and the host as it
//! is. Out: pins, memory that is free, a host that keeps off; and all of it as
//! it was when the VM has stopped, crashed, or hostd was killed meanwhile.
//!
//! ```text
//! start:  memory_before_launch ─▶ profile_before_launch ─▶ (QEMU) ─▶ pin_after_launch
//! runs:   tend, now and then
//! stop, crash, undone start:  restore          a new hostd:  recover(the VMs that live)
//! ```
//!
//! Each VM has a *claim*; the host is made as all claims together want it
//! ([`host`], [`memory`] → [`mod@settle`]), and every change is on record before it
//! is made ([`journal`]). Taking a claim back and settling again is the way
//! back, from wherever it begins.
//!
//! Read in this order: [`pins`] (which processors, pure), [`memory`] (counted,
//! then made free), [`host`] (what all claims want), [`knob`] (one thing that
//! can be set), [`mod@settle`], [`threads`] (QEMU's own), [`view`].

pub mod host;
pub mod journal;
pub mod knob;
pub mod memory;
pub mod pins;
pub mod settle;
pub mod threads;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::ask::view::PerformanceView;
use crate::ask::{Code, Refusal};
use crate::base::{Name, PciAddress, with_sources};
use crate::config::Vm;
use crate::host::affinity::Affinity;
use crate::host::{Host, topology};
use journal::{Journal, JournalError};
use knob::Hands;
use pins::Pins;
use settle::{Settled, settle};
pub use threads::Threads;

/// Between two looks at memory that becomes free.
const PAUSE: Duration = Duration::from_millis(250);

/// What the host does for VMs; one value for all of them.
#[derive(Clone)]
pub struct Rooms {
    host: Host,
    affinity: Arc<dyn Affinity>,
    pause: Duration,
    /// One change at a time: claims are worked out together.
    turn: Arc<Mutex<()>>,
}

/// The host is ready for a VM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ready {
    /// Where its threads are to run; its cores and threads are what the guest
    /// should see where its file says nothing else.
    pub pins: Option<Pins>,
    /// What the host could not do for it.
    pub warnings: Vec<String>,
}

/// What a start would do with the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Planned {
    /// Steps and what was chosen.
    pub words: Vec<String>,
    /// What stands against it.
    pub problems: Vec<String>,
}

fn refused(vm: &Name, why: impl std::fmt::Display, hint: &str) -> Refusal {
    Refusal::new(Code::Refused, format!("`{vm}` cannot start: {why}"), hint)
}

fn failed(vm: &Name, error: &dyn std::error::Error) -> Refusal {
    let message = format!("`{vm}`: {}", with_sources(error));
    Refusal::new(Code::Failed, message, "look at the folder of --runtime-dir")
}

/// What to do about pins that cannot be had.
const PINNING: &str = "correct `pinning:` or `cpus:` in the VM's file";

impl Rooms {
    /// For the VMs of this host.
    pub fn new(host: &Host, affinity: Arc<dyn Affinity>) -> Self {
        Self { host: host.clone(), affinity, pause: PAUSE, turn: Arc::default() }
    }

    /// The same without waiting between two looks, for machines that are made
    /// of values.
    #[must_use]
    pub fn at_once(mut self) -> Self {
        self.pause = Duration::ZERO;
        self
    }

    /// Does work that blocks, on a thread for that, while nobody else does any.
    /// It goes on when nobody waits for it any more.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Hands) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let hands = Hands {
            host: self.host.clone(),
            affinity: Arc::clone(&self.affinity),
            handle: Handle::current(),
            pause: self.pause,
        };
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&hands);
            drop(turn);
            done
        });
        done.await.map_err(|error| Refusal::new(Code::Failed, error.to_string(), ""))
    }

    /// Makes the VM's memory free, or says with the numbers why it cannot be;
    /// then everything is as it was.
    pub async fn memory_before_launch(&self, vm: &Vm) -> Result<Vec<String>, Refusal> {
        let vm = vm.clone();
        self.blocking(move |hands| memory_before_launch(hands, &vm)).await?
    }

    /// Chooses the VM's processors and makes the host keep off them. `near` is
    /// the NUMA node of its card.
    pub async fn profile_before_launch(
        &self,
        vm: &Vm,
        near: Option<u32>,
    ) -> Result<Ready, Refusal> {
        let vm = vm.clone();
        self.blocking(move |hands| profile_before_launch(hands, &vm, near)).await?
    }

    /// Pins QEMU's threads; what did not work, in words.
    pub async fn pin_after_launch(
        &self,
        vm: &Name,
        threads: &Threads,
    ) -> Result<Vec<String>, Refusal> {
        let (vm, threads) = (vm.clone(), threads.clone());
        let work = move |hands: &Hands| -> Result<Vec<String>, JournalError> {
            let mut journal = Journal::load(&hands.host)?;
            memory::taken(&mut journal, &vm);
            journal.save(&hands.host)?;
            let pins = journal.claims.get(&vm).and_then(|claim| claim.pins.as_ref());
            Ok(pins.map_or_else(Vec::new, |pins| threads::pin(hands, pins, &threads)))
        };
        self.blocking(work).await?.map_err(|error| {
            Refusal::new(Code::Failed, with_sources(&error), "look at --runtime-dir")
        })
    }

    /// Moves the interrupts of the VM's devices to its processors; to be called
    /// now and then while it runs, because the guest makes them when it likes.
    /// How many are there.
    pub async fn tend(&self, vm: &Name, devices: &[PciAddress]) -> usize {
        let (vm, devices) = (vm.clone(), devices.to_vec());
        let work = move |hands: &Hands| {
            let claim = Journal::load(&hands.host).ok()?.claims.remove(&vm)?;
            Some(threads::interrupts(hands, &claim.pins.filter(|_| claim.isolate)?, &devices))
        };
        self.blocking(work).await.ok().flatten().unwrap_or(0)
    }

    /// Puts back what no other VM wants. Any number of times, in any state;
    /// from the record alone.
    pub async fn restore(&self, vm: &Name) -> Result<Settled, Refusal> {
        let vm = vm.clone();
        self.blocking(move |hands| {
            release(hands, |name| *name != vm).map_err(|error| failed(&vm, &error))
        })
        .await?
    }

    /// After a start of hostd: puts back what was done for VMs that are gone.
    pub async fn recover(&self, alive: &[Name]) -> Result<Settled, Refusal> {
        let alive = alive.to_vec();
        self.blocking(move |hands| {
            release(hands, |name| alive.contains(name)).map_err(|error| {
                Refusal::new(Code::Failed, with_sources(&error), "look at --runtime-dir")
            })
        })
        .await?
    }
}

/// What is in force for a VM, from the record.
pub fn in_force(host: &Host, vm: &Name) -> Result<Option<PerformanceView>, JournalError> {
    Ok(view::view(&Journal::load(host)?, vm))
}

fn memory_before_launch(hands: &Hands, vm: &Vm) -> Result<Vec<String>, Refusal> {
    if !memory::concerns(vm) {
        return Ok(Vec::new());
    }
    let fail = |error: JournalError| failed(&vm.name, &error);
    let mut journal = Journal::load(&hands.host).map_err(fail)?;
    let plan = memory_plan(&hands.host, &journal, vm)
        .map_err(|why| refused(&vm.name, why, memory::hint(vm)))?;
    journal.claims.entry(vm.name.clone()).or_default().memory = Some(plan.claim.clone());
    let missing = memory::make_room(hands, &mut journal, vm, &plan);
    if let Ok(None) = missing {
        return Ok(plan.words);
    }
    // All of it back.
    if let Some(claim) = journal.claims.get_mut(&vm.name) {
        claim.memory = None;
    }
    if journal.claims.get(&vm.name) == Some(&journal::Claim::default()) {
        journal.claims.remove(&vm.name);
    }
    let wanted = memory::wanted(&journal);
    let undone = settle(hands, &mut journal, &wanted, knob::Knob::is_memory);
    let missing = missing.map_err(fail)?.unwrap_or_default();
    let left = undone.map_err(fail)?.left;
    let left = if left.is_empty() { String::new() } else { format!("; left: {}", left.join("; ")) };
    Err(refused(&vm.name, format!("{missing}{left}"), memory::hint(vm)))
}

fn memory_plan(host: &Host, journal: &Journal, vm: &Vm) -> Result<memory::MemoryPlan, String> {
    let facts = memory::read(&host.sys, vm).map_err(|error| error.in_full())?;
    let pool = facts.pool.as_ref();
    let promised = pool.map_or(0, |pool| journal.promised(&vm.name, &pool.path));
    memory::plan(&facts, vm, promised)
}

fn choose(
    host: &Host,
    journal: &Journal,
    vm: &Vm,
    near: Option<u32>,
) -> Result<Option<Pins>, Vec<String>> {
    if vm.pinning == crate::config::Pinning::Off {
        return Ok(None);
    }
    let topology = topology::read(&host.sys).map_err(|error| vec![error.in_full()])?;
    pins::for_vm(&topology, vm, near, &journal.taken(&vm.name))
}

fn profile_before_launch(hands: &Hands, vm: &Vm, near: Option<u32>) -> Result<Ready, Refusal> {
    let fail = |error: JournalError| failed(&vm.name, &error);
    let mut journal = Journal::load(&hands.host).map_err(fail)?;
    let pins = choose(&hands.host, &journal, vm, near)
        .map_err(|why| refused(&vm.name, why.join("\n"), PINNING))?;
    if pins.is_none() && vm.performance.is_none() {
        return Ok(Ready::default());
    }
    let claim = journal.claims.entry(vm.name.clone()).or_default();
    claim.pins.clone_from(&pins);
    if let Some(performance) = &vm.performance {
        claim.isolate = performance.isolate && pins.is_some();
        claim.governor.clone_from(&performance.governor);
        claim.pause_scrub = performance.pause_scrub;
        claim.services.clone_from(&performance.stop_services);
    }
    let (wanted, mut cannot) = host::wanted(hands, &journal);
    let settled = settle(hands, &mut journal, &wanted, |_| true).map_err(fail)?;
    cannot.extend(settled.cannot);
    let cannot = host::shorten(hands, cannot);
    journal.cannot.clone_from(&cannot);
    journal.save(&hands.host).map_err(fail)?;
    let mut warnings: Vec<String> =
        cannot.into_iter().map(|what| format!("not for this VM: {what}")).collect();
    warnings.extend(settled.notes);
    if vm.performance.as_ref().is_some_and(|performance| performance.isolate) && pins.is_none() {
        warnings.push("the host keeps off no processor: none is pinned (`pinning: auto`)".into());
    }
    Ok(Ready { pins, warnings })
}

/// Drops all claims but those that `stay`, and settles.
fn release(hands: &Hands, stay: impl Fn(&Name) -> bool) -> Result<Settled, JournalError> {
    let mut journal = Journal::load(&hands.host)?;
    journal.claims.retain(|name, _| stay(name));
    if journal.claims.is_empty() && journal.entries.is_empty() {
        journal.save(&hands.host)?;
        return Ok(Settled::default());
    }
    let (wanted, mut cannot) = host::wanted(hands, &journal);
    let mut settled = settle(hands, &mut journal, &wanted, |_| true)?;
    cannot.append(&mut settled.cannot);
    journal.cannot = host::shorten(hands, cannot);
    journal.save(&hands.host)?;
    settled.cannot.clone_from(&journal.cannot);
    Ok(settled)
}

/// What a start of `vm` would do with the host. Reads only.
pub fn plan(host: &Host, vm: &Vm, near: Option<u32>) -> Planned {
    let mut planned = Planned::default();
    let journal = match Journal::load(host) {
        Ok(journal) => journal,
        Err(error) => {
            planned.problems.push(with_sources(&error));
            return planned;
        }
    };
    if memory::concerns(vm) {
        match memory_plan(host, &journal, vm) {
            Ok(plan) => planned.words.extend(plan.words),
            Err(why) => planned.problems.push(why),
        }
    }
    match choose(host, &journal, vm, near) {
        Ok(Some(pins)) => planned.words.extend(pins.words),
        Ok(None) => {}
        Err(why) => planned.problems.extend(why),
    }
    if let Some(performance) = &vm.performance {
        if performance.isolate && vm.pinning != crate::config::Pinning::Off {
            let what = "move tasks, kernel threads and interrupts of the host off these processors";
            planned.words.push(what.to_owned());
        }
        if let Some(governor) = &performance.governor {
            planned.words.push(format!("set the governor to `{governor}`"));
        }
        if performance.pause_scrub {
            planned.words.push("pause scrubs that run".to_owned());
        }
        let stop = performance.stop_services.iter().map(|unit| format!("stop {unit}"));
        planned.words.extend(stop);
    }
    planned
}

#[cfg(test)]
mod tests;

//! The loops that watch, and the one writer behind them.
//!
//! The loops end when the daemon drops them; none returns by itself while the
//! writer lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::debug;

use super::Shared;
use crate::api;
use crate::ask::view::VmView;
use crate::base::Name;
use crate::host::uevent::{Heard, Uevents};
use crate::host::{Clock, Host};
use crate::pci;
use crate::riemann::Index;
use crate::riemann::stats::Stats;
use crate::state::{Fact, Snapshot};
use crate::vm::stats::{self, Sample};

/// How often the devices are enumerated when the kernel says nothing.
const DEVICES_AT_LEAST: Duration = Duration::from_secs(60);

/// The same where the kernel cannot be heard.
const DEVICES_DEAF: Duration = Duration::from_secs(5);

/// A burst of uevents is one reason to look.
const BURST: Duration = Duration::from_millis(100);

/// The name of this machine, as the kernel has it.
pub(super) fn host_name(host: &Host) -> String {
    let name = host.sys.text("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// The one writer.
pub(super) struct Writer {
    pub(super) snapshot: Snapshot,
    pub(super) publish: watch::Sender<Arc<Snapshot>>,
    pub(super) index: Index,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) interval: Duration,
    /// How often expired events are looked for.
    pub(super) expire: Duration,
    pub(super) losses: Losses,
}

/// What the index has lost up to the last time it was told.
#[derive(Default)]
pub(super) struct Losses(BTreeMap<&'static str, u64>);

impl Losses {
    /// What was lost since the last call, by its cause.
    fn since(&mut self, stats: &Stats) -> Vec<(&'static str, u64)> {
        let mut lost = stats.lost();
        for (cause, count) in &mut lost {
            let before = self.0.insert(*cause, *count).unwrap_or(0);
            *count = count.saturating_sub(before);
        }
        lost
    }
}

impl Writer {
    /// Until nobody can send facts any more.
    pub(super) async fn run(mut self, mut facts: mpsc::Receiver<Fact>) {
        let mut beat = ticks(self.interval);
        let mut expire = ticks(self.expire);
        loop {
            tokio::select! {
                fact = facts.recv() => match fact {
                    Some(fact) => self.apply(fact),
                    None => return,
                },
                _ = beat.tick() => {
                    let (now, lost) = (self.clock.now(), self.losses.since(self.index.stats()));
                    self.index.apply_own(self.snapshot.heartbeat(now));
                    self.index.apply_own(self.snapshot.losses(&lost, now));
                }
                _ = expire.tick() => {
                    self.index.expire(self.clock.now());
                }
            }
        }
    }

    fn apply(&mut self, fact: Fact) {
        let before = self.snapshot.generation;
        let events = self.snapshot.apply(fact, self.clock.now());
        if self.snapshot.generation != before {
            self.publish.send_replace(Arc::new(self.snapshot.clone()));
        }
        self.index.apply_own(events);
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// What the VM supervisors say becomes facts and signals; a VM that moves may
/// have moved its card.
pub(super) async fn vms(shared: Shared, mut from: mpsc::Receiver<VmView>, changes: api::Changes) {
    for vm in shared.vms.values() {
        changes.know(vm.view());
        // The writer is gone only at the very end.
        let _ = shared.facts.send(Fact::Vm(Box::new(vm.view()))).await;
    }
    while let Some(view) = from.recv().await {
        changes.send(view.clone());
        if shared.facts.send(Fact::Vm(Box::new(view))).await.is_err() {
            return;
        }
        shared.devices.notify_one();
    }
    // No VM is configured: nothing will ever come.
    std::future::pending::<()>().await;
}

/// Looks each interval at what the running VMs take.
pub(super) async fn vm_stats(shared: Shared, every: Duration) {
    let mut ticks = ticks(every);
    let mut before: BTreeMap<Name, (u32, Sample)> = BTreeMap::new();
    loop {
        ticks.tick().await;
        // All at once: one that does not answer delays no other.
        let looks = shared.vms.iter().filter_map(|(name, vm)| {
            let (pid, qmp) = (vm.view().pid?, vm.qmp().ok()?);
            let host = shared.host.clone();
            Some(async move { (name, vm, pid, stats::sample(&host, pid, Some(&qmp)).await) })
        });
        let samples = join_all(looks).await;
        let mut told: BTreeMap<&Name, _> = BTreeMap::new();
        let mut now = BTreeMap::new();
        for (name, vm, pid, sample) in samples {
            let same = before.get(name).filter(|(other, _)| *other == pid);
            let view = same.and_then(|(_, old)| stats::between(vm.vm().cpus, old, &sample));
            told.insert(name, view);
            now.insert(name.clone(), (pid, sample));
        }
        let gone = before.keys().filter(|name| !now.contains_key(name)).cloned();
        let facts = gone
            .map(|name| (name, None))
            .chain(told.into_iter().map(|(name, stats)| (name.clone(), stats)));
        for (name, stats) in facts.collect::<Vec<_>>() {
            if shared.facts.send(Fact::VmStats { name, stats }).await.is_err() {
                return;
            }
        }
        before = now;
    }
}

/// Enumerates the devices at the start, when the kernel says that one came,
/// went or changed its driver, and once a minute.
pub(super) async fn devices(shared: Shared) {
    let mut kernel = None;
    if shared.host.sys.is_real() {
        match Uevents::listen() {
            Ok(listener) => kernel = Some(listener),
            Err(error) => deaf(&shared, &error).await,
        }
    }
    let mut names = pci::Names::default();
    let mut before: Option<pci::Facts> = None;
    loop {
        let (sys, mut known) = (shared.host.sys.clone(), std::mem::take(&mut names));
        let read = tokio::task::spawn_blocking(move || {
            let facts = pci::read(&sys, &mut known);
            (pci::view(&facts), facts, known)
        });
        let Ok((iommu, facts, known)) = read.await else { return };
        names = known;
        let changes = before.map(|before| pci::changes(&before, &facts)).unwrap_or_default();
        before = Some(facts);
        let changes = changes.into_iter().map(|change| {
            let ours = shared.passthrough.has_done(&change);
            Fact::Device { change, ours }
        });
        let gpus = shared.passthrough.list().await;
        for fact in [Fact::Iommu(iommu), Fact::Gpus(gpus)].into_iter().chain(changes) {
            if shared.facts.send(fact).await.is_err() {
                return;
            }
        }
        let every = if kernel.is_some() { DEVICES_AT_LEAST } else { DEVICES_DEAF };
        tokio::select! {
            () = shared.devices.notified() => {}
            () = heard(&shared, &mut kernel) => {}
            () = sleep(every) => {}
        }
        sleep(BURST).await;
    }
}

/// Says that the kernel cannot be heard, and what is done instead.
async fn deaf(shared: &Shared, error: &std::io::Error) {
    let why = format!("{error}; devices are looked at every {DEVICES_DEAF:?} instead");
    shared.unavailable("kernel device events", Some(why)).await;
}

/// Resolves at the next uevent about a PCI device, or when there will be none.
/// Disks that come and go are a reason to read the pools.
async fn heard(shared: &Shared, kernel: &mut Option<Uevents>) {
    while let Some(listener) = kernel {
        match listener.next().await {
            Ok(Heard::Event(event)) => match event.subsystem.as_str() {
                "pci" => {
                    debug!("the kernel says: {event:?}");
                    return;
                }
                // A zvol is on a pool and no pool is on it.
                "block" if !event.devpath.contains("/virtual/block/zd") => {
                    shared.pools.notify_one();
                    shared.disks.notify_one();
                }
                _ => {}
            },
            Ok(Heard::Lost) => return,
            Err(error) => {
                // First, because this may be dropped while it is told.
                *kernel = None;
                return deaf(shared, &error).await;
            }
        }
    }
    std::future::pending::<()>().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::riemann::stats::Reason;

    #[test]
    fn losses_are_told_once() {
        let (stats, mut losses) = (Stats::default(), Losses::default());
        stats.refuse_many(Reason::IndexFull, 3);
        stats.refuse(Reason::Idle);
        stats.dropped.add(2);
        let lost = |losses: &mut Losses| {
            let lost = losses.since(&stats).into_iter().filter(|(_, count)| *count > 0);
            lost.collect::<Vec<_>>()
        };
        assert_eq!(lost(&mut losses), [("index-full", 3), ("slow-subscriber", 2)]);
        assert_eq!(lost(&mut losses), []);
        stats.refuse(Reason::IndexFull);
        assert_eq!(lost(&mut losses), [("index-full", 1)]);
    }
}

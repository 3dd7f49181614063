//! The one writer: facts go in, a snapshot and events come out. No I/O.
//!
//! Every observer and supervisor sends [`Fact`]s; [`Snapshot::apply`] takes
//! them in one after the other and answers with the events that the change is
//! worth. A fact that says nothing new changes nothing: no event, no new
//! generation. [`Snapshot::heartbeat`] tells everything again each interval,
//! so that events stay alive in the index (their ttl is twice the interval).
//!
//! Which events there are is a table, [`catalogue`]; how facts become them is
//! in [`events`]; what `hostctl status` says is made in [`status`]; what hangs
//! on each pool is worked out in [`radius`], which disks it is on in [`join`].

pub mod catalogue;
pub mod events;
pub mod join;
pub mod radius;
pub mod status;
pub mod streams;

use std::collections::BTreeMap;

use crate::ask::view::{
    CareView, DisksView, GpusView, IommuView, KeepingView, MachineView, PoolsView, ServicesView,
    SinkView, VmStatsView, VmView,
};
use crate::base::{Event, Name, Reading, Severity, Timestamp};
use crate::pci::Change;

/// Something that one room has found out.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// All IOMMU groups.
    Iommu(IommuView),
    /// All graphics cards.
    Gpus(GpusView),
    /// A PCI function has appeared, vanished, or changed its driver.
    Device {
        /// What has happened.
        change: Change,
        /// Whether hostd did it.
        ours: bool,
    },
    /// One VM.
    Vm(Box<VmView>),
    /// What a running VM takes of the host; nothing of one that does not run.
    VmStats {
        /// The VM.
        name: Name,
        /// Of the time since the last time.
        stats: Option<VmStatsView>,
    },
    /// All pools.
    Pools(PoolsView),
    /// All watched services.
    Services(ServicesView),
    /// All disks.
    Disks(DisksView),
    /// The machine itself.
    Machine(MachineView),
    /// What is done for pools by itself.
    Care(CareView),
    /// One receiver of events.
    Sink(SinkView),
    /// How the streams are doing.
    Streams(streams::StreamsState),
    /// How the history goes.
    History(KeepingView),
    /// Something that hostd cannot do here, or (`None`) can again.
    Unavailable {
        /// What: `events over TCP`, `the system bus`.
        what: String,
        /// Why not, and what would help.
        why: Option<String>,
        /// How bad that is; `Ok` for what a machine may well do without.
        severity: Severity,
    },
}

/// Everything the daemon knows at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Counts the changes.
    pub generation: u64,
    /// Name of this host in events.
    pub host: String,
    /// When the daemon started.
    pub started: Timestamp,
    /// IOMMU groups.
    pub iommu: Reading<IommuView>,
    /// Graphics cards.
    pub gpus: Reading<GpusView>,
    /// VMs by name.
    pub vms: BTreeMap<Name, VmView>,
    /// What running VMs take of the host.
    pub vm_stats: BTreeMap<Name, VmStatsView>,
    /// Pools.
    pub pools: Reading<PoolsView>,
    /// Services.
    pub services: Reading<ServicesView>,
    /// Disks.
    pub disks: Reading<DisksView>,
    /// The machine itself.
    pub machine: Reading<MachineView>,
    /// What is done by itself.
    pub care: Reading<CareView>,
    /// Where events are sent besides, by name.
    pub sinks: BTreeMap<String, SinkView>,
    /// How the history goes; none when none is kept.
    pub history: Option<KeepingView>,
    /// What cannot be done here, with the reason and how bad that is.
    pub unavailable: BTreeMap<String, (Severity, String)>,
    /// Whether a card is configured, which needs an IOMMU.
    pub wants_iommu: bool,
    /// The paths that the configuration names, and whose they are.
    uses: Vec<radius::Use>,
    /// The same of the services, as far as they tell.
    served: Vec<radius::Use>,
    /// Disks as they were read, before their pools were joined.
    disks_read: DisksView,
    /// Seconds for which an event counts.
    ttl: f32,
}

impl Snapshot {
    /// Before anything was read.
    pub fn new(host: String, started: Timestamp, ttl: f32, wants_iommu: bool) -> Self {
        fn not_yet<T>(since: Timestamp) -> Reading<T> {
            Reading::Unknown { why: "not read yet".to_owned(), since }
        }
        Self {
            generation: 0,
            host,
            started,
            iommu: not_yet(started),
            gpus: not_yet(started),
            vms: BTreeMap::new(),
            vm_stats: BTreeMap::new(),
            pools: not_yet(started),
            services: not_yet(started),
            disks: not_yet(started),
            machine: not_yet(started),
            care: not_yet(started),
            sinks: BTreeMap::new(),
            history: None,
            unavailable: BTreeMap::new(),
            wants_iommu,
            uses: Vec::new(),
            served: Vec::new(),
            disks_read: DisksView::default(),
            ttl,
        }
    }

    /// The same with the paths that the configuration names.
    #[must_use]
    pub fn with_uses(mut self, uses: Vec<radius::Use>) -> Self {
        self.uses = uses;
        self
    }

    /// What the services serve has changed: other things may hang on the pools.
    fn serve(&mut self, view: &ServicesView, now: Timestamp) -> Vec<Event> {
        let served = radius::served(view);
        if served == self.served {
            return Vec::new();
        }
        self.served = served;
        let Some(mut pools) = self.pools.value().cloned() else { return Vec::new() };
        radius::join(&mut pools, self.pools.value(), &self.uses, &self.served);
        match replace(&mut self.pools, pools, |view| events::pools(view, now)) {
            (true, events) => events,
            (false, _) => Vec::new(),
        }
    }

    /// Takes in one fact and says what is worth telling; nothing when nothing
    /// has changed.
    pub fn apply(&mut self, fact: Fact, now: Timestamp) -> Vec<Event> {
        let (changed, events) = match fact {
            Fact::Iommu(view) => {
                let wanted = self.wants_iommu;
                replace(&mut self.iommu, view, |view| events::iommu(view, wanted))
            }
            Fact::Gpus(view) => replace(&mut self.gpus, view, events::gpus),
            Fact::Pools(mut view) => {
                radius::join(&mut view, self.pools.value(), &self.uses, &self.served);
                join::vdevs(&mut view, &self.disks_read, self.pools.value());
                let (changed, mut events) =
                    replace(&mut self.pools, view, |view| events::pools(view, now));
                // What a disk's fault means has changed with its pool.
                if changed && self.disks.value().is_some() {
                    let (changed, more) = self.join_disks();
                    events.extend(more.into_iter().filter(|_| changed));
                }
                (changed, events)
            }
            Fact::Services(view) => {
                let pools = self.serve(&view, now);
                let (changed, mut events) = replace(&mut self.services, view, events::services);
                events.extend(pools);
                (changed, events)
            }
            Fact::Disks(view) => {
                self.disks_read = view;
                self.join_disks()
            }
            // Told each time, as it is read each interval: it is not told again
            // with the rest.
            Fact::Machine(view) => {
                let (_, events) = replace(&mut self.machine, view, events::machine);
                (true, events)
            }
            Fact::Care(view) => replace(&mut self.care, view, events::care),
            // Told each time, as it is looked at each interval: it is not told
            // again with the rest.
            Fact::Sink(view) => {
                let events = events::sink(&view);
                self.sinks.insert(view.name.clone(), view);
                (true, events)
            }
            // Told each time as well.
            Fact::Streams(state) => (true, vec![streams::event(&state)]),
            Fact::History(view) => {
                let events = vec![events::history(&view)];
                let before = self.history.replace(view);
                (before != self.history, events)
            }
            // Told once: how things are now is in the others.
            Fact::Device { change, ours } => (true, vec![events::device(&change, ours)]),
            Fact::Vm(view) => {
                let events = events::vm(&view);
                let before = self.vms.insert(view.name.clone(), VmView::clone(&view));
                (before.as_ref() != Some(&*view), events)
            }
            // Told each time, also when nothing is done: it is not told again
            // with the rest.
            Fact::VmStats { name, stats: Some(stats) } => {
                let events = events::vm_stats(&name, &stats);
                self.vm_stats.insert(name, stats);
                (true, events)
            }
            Fact::VmStats { name, stats: None } => {
                (self.vm_stats.remove(&name).is_some(), Vec::new())
            }
            Fact::Unavailable { what, why, severity } => {
                let changed = match why.map(|why| (severity, why)) {
                    Some(now) => self.unavailable.insert(what, now.clone()) != Some(now),
                    None => self.unavailable.remove(&what).is_some(),
                };
                (changed, vec![events::hostd(self)])
            }
        };
        if !changed {
            return Vec::new();
        }
        self.generation += 1;
        self.complete(events, now)
    }

    /// The disks as read, with what their pools make of them.
    fn join_disks(&mut self) -> (bool, Vec<Event>) {
        let mut view = self.disks_read.clone();
        let none = PoolsView::default();
        join::places(&mut view, self.pools.value().unwrap_or(&none));
        replace(&mut self.disks, view, events::disks)
    }

    /// Whether everything has been read once.
    pub fn is_read(&self) -> bool {
        self.iommu.value().is_some()
            && self.gpus.value().is_some()
            && self.pools.value().is_some()
            && self.services.value().is_some()
    }

    /// Everything that is the case, told again, but for what is told at each reading.
    pub fn heartbeat(&self, now: Timestamp) -> Vec<Event> {
        let mut told = vec![events::hostd(self)];
        let iommu = |view| events::iommu(view, self.wants_iommu);
        told.extend(self.iommu.value().map(iommu).unwrap_or_default());
        told.extend(self.gpus.value().map(events::gpus).unwrap_or_default());
        told.extend(self.vms.values().flat_map(events::vm));
        let pools = self.pools.value().map(|view| events::pools(view, now));
        told.extend(pools.unwrap_or_default());
        told.extend(self.services.value().map(events::services).unwrap_or_default());
        told.extend(self.disks.value().map(events::disks).unwrap_or_default());
        told.extend(self.care.value().map(events::care).unwrap_or_default());
        told.extend(self.history.as_ref().map(events::history));
        self.complete(told, now)
    }

    /// What was not taken in since the last time, with its causes.
    pub fn losses(&self, lost: &[(&str, u64)], now: Timestamp) -> Vec<Event> {
        self.complete(vec![events::losses(lost)], now)
    }

    /// Adds what every event of ours carries.
    fn complete(&self, mut events: Vec<Event>, now: Timestamp) -> Vec<Event> {
        for event in &mut events {
            event.host = Some(self.host.clone());
            event.time = Some(now);
            event.ttl = Some(self.ttl);
        }
        events
    }
}

/// Puts a fresh reading in place; says whether it differs, and its events.
fn replace<T: PartialEq>(
    reading: &mut Reading<T>,
    value: T,
    events: impl FnOnce(&T) -> Vec<Event>,
) -> (bool, Vec<Event>) {
    let events = events(&value);
    let fresh = Reading::Known { value };
    let changed = *reading != fresh;
    *reading = fresh;
    (changed, events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::view::VmState;

    fn vm(state: VmState) -> Fact {
        let (name, since) = ("gaming".parse().unwrap(), Timestamp::from_secs(1));
        Fact::Vm(Box::new(VmView::new(name, state, since, "asked")))
    }

    #[test]
    fn only_news_is_told_and_the_heartbeat_tells_all() {
        let now = Timestamp::from_secs(100);
        let mut snapshot = Snapshot::new("nas".into(), now, 10.0, true);
        let told = snapshot.apply(vm(VmState::Running), now);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].host.as_deref(), Some("nas"));
        assert_eq!(told[0].ttl, Some(10.0));
        assert_eq!(told[0].time, Some(now));
        assert_eq!(snapshot.generation, 1);

        assert!(snapshot.apply(vm(VmState::Running), now).is_empty());
        assert_eq!(snapshot.generation, 1);

        let told = snapshot.heartbeat(now);
        let services: Vec<_> = told.iter().filter_map(|e| e.service.as_deref()).collect();
        assert_eq!(services, ["hostd", "vm gaming"]);
    }

    #[test]
    fn every_event_of_a_pool_says_what_hangs_on_it() {
        use crate::ask::view::{MountView, PoolView, ServiceView, ShareView};
        let now = Timestamp::from_secs(100);
        let one = |kind: &str, name: &str, path: &str| radius::Use {
            kind: kind.into(),
            name: name.into(),
            path: path.into(),
        };
        let uses = vec![one("vm", "gaming", "/dev/zvol/tank/win")];
        let mut snapshot = Snapshot::new("nas".into(), now, 10.0, true).with_uses(uses);
        let pools = |health| {
            let mount = MountView { dataset: "tank".into(), path: "/tank".into() };
            let tank = PoolView {
                name: "tank".into(),
                state: "SUSPENDED".into(),
                health,
                mounts: vec![mount],
                capacity: Some(0.5),
                ..PoolView::default()
            };
            Fact::Pools(PoolsView { pools: vec![tank], ..PoolsView::default() })
        };
        let told = snapshot.apply(pools(Severity::Critical), now);
        let text = told[1].description.as_deref().unwrap();
        assert!(text.ends_with("; on it: VM gaming, 1 mount"), "{text}");
        assert!(
            told[1..].iter().all(|event| event.attributes["dependants"] == "VM gaming, 1 mount")
        );
        let capacity = told[2].description.as_deref().unwrap();
        assert_eq!(capacity, "50 % used", "what is well needs no more words");
        // A share that becomes known changes what hangs on it, and is told.
        let share = ShareView { name: "media".into(), path: "/tank/media".into() };
        let service = ServiceView { shares: vec![share], ..ServiceView::default() };
        let services = || Fact::Services(ServicesView { services: vec![service.clone()] });
        let told = snapshot.apply(services(), now);
        let health = told.iter().find(|e| e.service.as_deref() == Some("zpool tank health"));
        let on_it = &health.unwrap().attributes["dependants"];
        assert_eq!(on_it, "VM gaming, share media, 1 mount");
        assert!(snapshot.apply(services(), now).is_empty());
        assert!(snapshot.apply(pools(Severity::Critical), now).is_empty(), "nothing is new");
    }

    #[test]
    fn what_is_unavailable_warns_until_it_is_back() {
        let now = Timestamp::from_secs(100);
        let mut snapshot = Snapshot::new("nas".into(), now, 10.0, true);
        let port = |why: Option<&str>| Fact::Unavailable {
            what: "events over TCP".into(),
            why: why.map(Into::into),
            severity: Severity::Warning,
        };
        assert_eq!(snapshot.apply(port(Some("in use")), now)[0].state.as_deref(), Some("warning"));
        assert!(snapshot.apply(port(Some("in use")), now).is_empty());
        assert_eq!(snapshot.apply(port(None), now)[0].state.as_deref(), Some("ok"));
    }

    #[test]
    fn an_ordinary_machine_is_ok_without_bus_and_iommu() {
        use crate::state::status::status;
        let now = Timestamp::from_secs(100);
        for (wants_iommu, health) in [(false, Severity::Ok), (true, Severity::Warning)] {
            let mut snapshot = Snapshot::new("nas".into(), now, 10.0, wants_iommu);
            let facts = [
                Fact::Gpus(GpusView::default()),
                Fact::Pools(PoolsView::default()),
                Fact::Services(ServicesView::default()),
                Fact::Unavailable {
                    what: "the system bus".into(),
                    why: Some("no socket".into()),
                    severity: Severity::Ok,
                },
            ];
            for fact in facts {
                snapshot.apply(fact, now);
            }
            let told = snapshot.apply(Fact::Iommu(IommuView::default()), now);
            assert_eq!(told[0].state.as_deref(), Some(health.as_str()));
            let told = snapshot.heartbeat(now);
            assert_eq!(told[0].state.as_deref(), Some("ok"), "{told:?}");
            let status = status(&snapshot);
            assert_eq!(status.health, health, "{status:?}");
            assert_eq!(status.unavailable, ["the system bus: no socket"]);
        }
    }
}

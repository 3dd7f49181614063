//! Probes the services that are due, concurrently.
//!
//! A round waits a moment for what it has started and never longer; what is
//! slow is asked on in later rounds, while the last judgement stands. A probe
//! ends by itself, because each of its layers has a deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{timeout, timeout_at};

use super::judge::{self, Layer};
use super::mounts::{self, Mount};
use super::path::{self, Found, Look, Space};
use super::probe::{self, Answer, ProbeError, Talked};
use super::shares::{self, Served};
use super::stopped::{self, Why};
use super::unit::{self, Restarts, Unit};
use crate::ask::view::{LayerView, ServiceView, ServicesView};
use crate::base::{Name, Severity, Timestamp};
use crate::config::{Probe, Service};
use crate::host::Host;
use crate::host::run::RunError;

/// How long a round waits for what it has started.
const PATIENCE: Duration = Duration::from_millis(700);
/// How long a round looks at what an earlier one has started.
const GLANCE: Duration = Duration::from_millis(20);
/// The most probes under way at once.
const MAX_FLYING: usize = 16;
/// What a command's deadline is given on top, until its end is told.
const GRACE: Duration = Duration::from_secs(2);
/// The most steps of a probe that come one after the other, each with its deadline.
const STEPS: u32 = 8;
/// A child that cannot be killed keeps us from looking at its folder again for
/// this long, or until one such child has ended.
const HOLD: Duration = Duration::from_secs(600);
/// How often shares are looked for, and how full their file systems are.
const SELDOM: Duration = Duration::from_secs(60);

/// Watches all configured services.
pub struct Observer {
    host: Host,
    services: Vec<Watched>,
    probes: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    /// The next service's number.
    number: u64,
    /// Units that are stopped on purpose, and for whom.
    excused: BTreeMap<String, String>,
}

struct Watched {
    /// Who it is, also after others were added and removed.
    number: u64,
    service: Service,
    /// hostd has found it by itself.
    discovered: bool,
    view: ServiceView,
    /// When it is due; `None` while a probe is under way.
    next: Option<Instant>,
    /// Whether it is due again when that has ended.
    again: bool,
    restarts: Restarts,
    memory: Memory,
}

/// What is remembered from one probe to the next.
#[derive(Default)]
struct Memory {
    /// Until when the folder, the shares and the plugin are left alone.
    held: BTreeMap<Step, Hold>,
    /// What the folder was found to be by the child that hangs.
    found: Option<Found>,
    served: Option<Served>,
    spaces: Vec<(PathBuf, Space)>,
    measured: Option<Instant>,
    /// The mount of each folder when it was well.
    mounts: BTreeMap<PathBuf, Mount>,
    /// Since when each layer is as it is.
    since: BTreeMap<&'static str, (Severity, Timestamp)>,
}

/// What runs children that may hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Folder,
    Shares,
    Plugin,
}

/// How many children were stuck when that one was, and until when to wait.
#[derive(Clone, Copy)]
struct Hold {
    stuck: usize,
    until: Instant,
}

/// What a probe is given, so that it needs nobody while it is under way.
struct Order {
    host: Host,
    service: Service,
    number: u64,
    begun: Instant,
    /// What the folder is as long as nobody may look.
    found: Option<Found>,
    skip: Vec<Step>,
    /// It is time for the shares.
    shares: bool,
    /// It is time to ask how full the file systems are.
    measure: bool,
}

struct Done {
    number: u64,
    begun: Instant,
    unit: Option<Result<Unit, String>>,
    talked: Option<Talked>,
    stopped: Option<Why>,
    look: Option<Look>,
    served: Option<Served>,
    spaces: Option<Vec<(PathBuf, Space)>>,
}

impl Observer {
    /// Of these services; nothing is probed yet.
    pub fn new(host: Host, services: Vec<Service>) -> Self {
        let mut observer = Self {
            host,
            services: Vec::new(),
            probes: FuturesUnordered::new(),
            number: 0,
            excused: BTreeMap::new(),
        };
        for service in services {
            observer.add(service, false);
        }
        observer
    }

    /// One more, which is due at once.
    pub fn add(&mut self, service: Service, discovered: bool) {
        self.number += 1;
        let view = ServiceView {
            name: service.name.to_string(),
            health: Severity::Unknown,
            layer: "none".to_owned(),
            message: "not probed yet".to_owned(),
            since: self.host.clock.now(),
            kind: kind(&service),
            discovered,
            ..ServiceView::default()
        };
        let at = self.services.partition_point(|other| other.service.name <= service.name);
        let watched = Watched {
            number: self.number,
            view,
            service,
            discovered,
            next: Some(self.host.clock.instant()),
            again: false,
            restarts: Restarts::default(),
            memory: Memory::default(),
        };
        self.services.insert(at, watched);
    }

    /// One less; what its probe still says is not heard.
    pub fn remove(&mut self, name: &Name) {
        self.services.retain(|watched| watched.service.name != *name);
    }

    /// Those that are watched.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter().map(|watched| &watched.service)
    }

    /// These units, and no others, may be stopped: hostd has done it, for the
    /// named VM. A service without its unit is then as it should be.
    pub fn excuse(&mut self, units: BTreeMap<String, String>) {
        if units != self.excused {
            let old = std::mem::replace(&mut self.excused, units);
            let all: BTreeSet<&String> = old.keys().chain(self.excused.keys()).collect();
            let all: Vec<String> = all.into_iter().cloned().collect();
            for unit in &all {
                self.poke(Some(unit));
            }
        }
    }

    /// Something has happened to this unit, or to any: it is due at once.
    pub fn poke(&mut self, unit: Option<&str>) {
        let now = self.host.clock.instant();
        for watched in &mut self.services {
            let its = watched.service.unit.as_deref();
            if its.is_some() && (unit.is_none() || its == unit) {
                match &mut watched.next {
                    Some(next) => *next = now,
                    None => watched.again = true,
                }
            }
        }
    }

    /// Probes who is due and says how all are; meant for every second.
    /// Infallible, and takes at most about a second.
    pub async fn round(&mut self) -> ServicesView {
        self.look(PATIENCE).await
    }

    /// How long a caller may rest after a round when nothing happens: `least` while
    /// a probe is under way, else until one is due, at most `most`.
    pub fn rest(&self, least: Duration, most: Duration) -> Duration {
        if !self.probes.is_empty() {
            return least;
        }
        let now = self.host.clock.instant();
        let due = self.services.iter().filter_map(|watched| watched.next).min();
        due.map_or(most, |due| due.saturating_duration_since(now)).clamp(least, most)
    }

    /// As [`Self::round`], waiting for every answer: for a single look without a daemon.
    pub async fn settled(&mut self) -> ServicesView {
        let longest = self.services.iter().map(|watched| watched.service.deadline).max();
        self.look(longest.unwrap_or_default().saturating_mul(STEPS) + GRACE + PATIENCE).await
    }

    async fn look(&mut self, patience: Duration) -> ServicesView {
        let started = self.start();
        let patience = if started { patience } else { GLANCE };
        let until = tokio::time::Instant::now() + patience;
        while let Ok(Some(done)) = timeout_at(until, self.probes.next()).await {
            self.absorb(done);
            // One has ended, another may begin.
            self.start();
        }
        ServicesView {
            services: self.services.iter().map(|watched| watched.view.clone()).collect(),
        }
    }

    /// Starts the probes that are due; true if there were any.
    fn start(&mut self) -> bool {
        let now = self.host.clock.instant();
        let stuck = self.host.runner.stuck();
        let mut started = false;
        for watched in &mut self.services {
            let due = watched.next.is_some_and(|next| now >= next);
            if !due || self.probes.len() >= MAX_FLYING {
                continue;
            }
            watched.next = None;
            let memory = &mut watched.memory;
            memory.held.retain(|_, hold| stuck >= hold.stuck && now < hold.until);
            let skip: Vec<Step> = memory.held.keys().copied().collect();
            if !skip.contains(&Step::Folder) {
                memory.found = None;
            }
            let old = |at: Instant| now.saturating_duration_since(at) >= SELDOM;
            let order = Order {
                host: self.host.clone(),
                service: watched.service.clone(),
                number: watched.number,
                begun: now,
                found: memory.found.clone(),
                shares: memory.served.as_ref().is_none_or(|served| old(served.at)),
                measure: memory.measured.is_none_or(old),
                skip,
            };
            self.probes.push(Box::pin(probe(order)));
            started = true;
        }
        started
    }

    fn absorb(&mut self, done: Done) {
        let (now, wall) = (self.host.clock.instant(), self.host.clock.now());
        let stuck = self.host.runner.stuck();
        let mut all = self.services.iter_mut();
        let Some(watched) = all.find(|watched| watched.number == done.number) else { return };
        let again = std::mem::take(&mut watched.again);
        watched.next = Some(if again { now } else { done.begun + watched.service.interval });
        let Done { unit, mut talked, stopped, look, served, spaces, .. } = done;
        let memory = &mut watched.memory;
        memory.hold(now, stuck, talked.as_ref(), look.as_ref(), served.as_ref());
        if let Some(spaces) = spaces {
            memory.spaces = spaces;
            memory.measured = Some(now);
        }
        memory.served = served.or(memory.served.take());
        let count = unit.as_ref().and_then(|read| read.as_ref().ok()?.restarts);
        let restarts = watched.restarts.observe(count, now);
        let service = &watched.service;
        let mut layers = Vec::new();
        if let (Some(name), Some(read)) = (&service.unit, &unit) {
            let vm = self.excused.get(name).filter(|_| read.as_ref().is_ok_and(Unit::is_stopped));
            if let Some(vm) = vm {
                // Nobody is there who could answer.
                talked = None;
                layers.push(unit::excused(name, vm));
            } else {
                layers.push(unit::judge(name, read, restarts));
            }
        }
        if let Some(talked) = &talked {
            layers.extend(judge::network(service, talked, stopped.as_ref(), wall));
        }
        layers.extend(memory.folder(service, look.as_ref()));
        layers.extend(memory.share());
        let (health, layer, message, advice) = judged(service, &layers);
        let since = if health == watched.view.health { watched.view.since } else { wall };
        let sessions = talked.as_ref().and_then(|talked| talked.library.as_ref()?.sessions);
        let told = match talked.as_ref().map(|talked| &talked.answer) {
            Some(Ok(Answer::Plugin(told))) => Some(told),
            _ => None,
        };
        watched.view = ServiceView {
            name: service.name.to_string(),
            health,
            layer: layer.to_owned(),
            message,
            advice,
            latency: talked.as_ref().and_then(|t| t.latency).map(|latency| latency.as_secs_f64()),
            since,
            kind: kind(service),
            discovered: watched.discovered,
            layers: memory.layers(service, &layers, talked.is_some(), wall),
            shares: memory.served.as_ref().map_or_else(Vec::new, |served| served.shares.clone()),
            sessions,
            restarts,
            value: told.and_then(|told| told.metric),
            values: told.map(|told| told.values.clone()).unwrap_or_default(),
            hung: matches!(
                talked.as_ref().map(|t| &t.answer),
                Some(Err(ProbeError::Silent { .. }))
            ),
            ..ServiceView::default()
        };
    }
}

impl Memory {
    /// Leaves alone for a while what has left a child behind that cannot be killed.
    fn hold(
        &mut self,
        now: Instant,
        stuck: usize,
        talked: Option<&Talked>,
        look: Option<&Look>,
        served: Option<&Served>,
    ) {
        let dead = |found: &Found| matches!(found, Found::Hangs { stuck: true, .. });
        let plugin = talked.and_then(|talked| talked.answer.as_ref().err()).is_some_and(|error| {
            matches!(error, ProbeError::Endless(RunError::Deadline { stuck: true, .. }))
        });
        let folder = look.is_some_and(|look| dead(&look.found));
        let shares = served.is_some_and(|s| s.looks.iter().any(|(_, look)| dead(&look.found)));
        if folder {
            self.found = look.map(|look| look.found.clone());
        }
        for (step, held) in [(Step::Folder, folder), (Step::Shares, shares), (Step::Plugin, plugin)]
        {
            if held {
                let hold = Hold { stuck: stuck.max(1), until: now + HOLD };
                self.held.entry(step).or_insert(hold);
            }
        }
    }

    /// What its own folder means.
    fn folder(&mut self, service: &Service, look: Option<&Look>) -> Option<Layer> {
        let (folder, look) = (service.path.as_ref()?, look?);
        let before = self.mounts.get(folder);
        let layer = path::judge(folder, look, service.mount.as_deref(), before);
        if layer.severity == Severity::Ok {
            self.mounts.extend(look.mount.clone().map(|mount| (folder.clone(), mount)));
            let space = self.spaces.iter().find(|(of, _)| of == folder);
            return space.and_then(|(_, space)| path::judge_space(folder, *space)).or(Some(layer));
        }
        Some(layer)
    }

    /// What the folders of its shares mean.
    fn share(&mut self) -> Option<Layer> {
        let served = self.served.as_ref()?;
        let layer = served.judge(|folder| self.mounts.get(folder))?;
        let well = |(folder, look): &(PathBuf, Look)| {
            let before = self.mounts.get(folder);
            let judged = path::judge(folder, look, None, before).severity;
            look.mount.clone().filter(|_| judged == Severity::Ok).map(|m| (folder.clone(), m))
        };
        let mounts: Vec<_> = served.looks.iter().filter_map(well).collect();
        self.mounts.extend(mounts);
        if layer.severity != Severity::Ok {
            return Some(layer);
        }
        let among = |path: &Path| served.looks.iter().any(|(folder, _)| folder == path);
        let spaces = self.spaces.iter().filter(|(folder, _)| among(folder));
        let full = spaces.filter_map(|(folder, space)| path::judge_space(folder, *space));
        let worst = full.max_by_key(|layer| layer.severity);
        Some(worst.map_or(layer, |worst| Layer { name: "share", ..worst }))
    }

    /// All layers for people, those that were not reached too.
    fn layers(
        &mut self,
        service: &Service,
        layers: &[Layer],
        talked: bool,
        wall: Timestamp,
    ) -> Vec<LayerView> {
        let mut out: Vec<LayerView> = Vec::new();
        let ways = if talked { judge::ways(&service.probe) } else { Vec::new() };
        let order = std::iter::once("unit").chain(ways.iter().copied()).chain(["path", "share"]);
        for name in order {
            let found = layers.iter().find(|layer| layer.name == name);
            let (health, message) = match found {
                Some(layer) => (layer.severity, layer.message.clone()),
                None if ways.contains(&name) => (Severity::Unknown, "not reached".to_owned()),
                None => continue,
            };
            let known = self.since.entry(name).or_insert((health, wall));
            if known.0 != health {
                *known = (health, wall);
            }
            out.push(LayerView { name: name.to_owned(), health, message, since: known.1 });
        }
        out
    }
}

/// How it is asked, for people.
fn kind(service: &Service) -> String {
    match (&service.probe, &service.unit, &service.path) {
        (Probe::None, Some(_), _) => "unit".to_owned(),
        (Probe::None, None, Some(_)) => "path".to_owned(),
        (probe, ..) => probe.kind().to_owned(),
    }
}

/// Looks at all layers of a service, side by side.
async fn probe(order: Order) -> Done {
    let Order { host, service, number, begun, found, skip, shares, measure } = order;
    let deadline = service.deadline;
    let unit = async {
        let read = unit::read(&host, service.unit.as_deref()?, deadline);
        let late = || Some(Err(format!("systemd did not answer within {deadline:?}")));
        timeout(deadline + GRACE, read).await.unwrap_or_else(|_| late())
    };
    let network = async {
        if skip.contains(&Step::Plugin) {
            let why = "an earlier run hangs in the kernel and cannot be killed".to_owned();
            let answer = Err(ProbeError::NotRun(why));
            return Some(Talked { answer, certificate: None, latency: None, library: None });
        }
        probe::ask(&host, &service.probe, deadline).await
    };
    let table = mounts_of(&host, &service);
    let folder = async {
        let folder = service.path.as_ref()?;
        let found = if let Some(found) = found {
            found
        } else {
            let look = path::look(&host, folder, deadline);
            let late = Found::Hangs { deadline, stuck: false };
            timeout(deadline + GRACE, look).await.unwrap_or(late)
        };
        Some(Look::new(found, folder, service.mount.as_deref(), table.as_deref()))
    };
    let (unit, talked, look) = tokio::join!(unit, network, folder);
    let silent = |talked: &Talked| matches!(talked.answer, Err(ProbeError::Silent { .. }));
    let stopped = talked.as_ref().filter(|talked| silent(talked)).and(service.unit.as_deref());
    let stopped = stopped.and_then(|unit| stopped::why(&host, unit));
    let mut served = None;
    if shares && !skip.contains(&Step::Shares) {
        let (probe, talked) = (&service.probe, talked.as_ref());
        served = shares::look(&host, probe, talked, table.as_deref(), deadline, begun).await;
    }
    // Only of folders that have just answered: another child would hang as well.
    let mut spaces = None;
    if measure {
        let answers = |look: &Look| look.found == Found::Folder;
        let own = service.path.clone().filter(|_| look.as_ref().is_some_and(answers));
        let shared = served.iter().flat_map(|served| &served.looks);
        let shared = shared.filter(|(_, look)| answers(look)).map(|(folder, _)| folder.clone());
        let folders: BTreeSet<PathBuf> = own.into_iter().chain(shared).collect();
        let folders: Vec<PathBuf> = folders.into_iter().collect();
        if !folders.is_empty() {
            spaces = Some(path::space(&host, &folders, deadline).await);
        }
    }
    Done { number, begun, unit, talked, stopped, look, served, spaces }
}

/// The kernel's table, for who has a folder.
fn mounts_of(host: &Host, service: &Service) -> Option<Vec<Mount>> {
    let needs = service.path.is_some() || service.probe.address().is_some();
    needs.then(|| mounts::read(host)).flatten()
}

fn judged(service: &Service, layers: &[Layer]) -> (Severity, &'static str, String, String) {
    let Some(worst) = judge::worst(layers) else {
        let message = match &service.unit {
            Some(unit) => format!("{unit} cannot be looked at: systemd does not run here"),
            None => "it has neither unit, probe nor path to look at".to_owned(),
        };
        return (Severity::Unknown, "none", message, "add a `probe` or a `path`".to_owned());
    };
    // In health all layers have something to say; that a connection is accepted
    // goes without saying when something was said over it.
    let message = if worst.severity == Severity::Ok {
        let more = layers.iter().any(|layer| matches!(layer.name, "tls" | "protocol"));
        let told = layers.iter().filter(|layer| !more || layer.name != "connect");
        told.map(|layer| layer.message.as_str()).collect::<Vec<_>>().join("; ")
    } else {
        worst.message.clone()
    };
    (worst.severity, worst.name, message, worst.advice.clone())
}

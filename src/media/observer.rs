//! Probes the services that are due, concurrently.
//!
//! A round waits a moment for what it has started and never longer; what is
//! slow is asked on in later rounds, while the last judgement stands. A probe
//! ends by itself, because each of its layers has a deadline.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{timeout, timeout_at};

use super::judge::{self, Layer};
use super::path::{self, Found};
use super::probe::{self, Answer, ProbeError};
use super::unit::{self, Restarts, Unit};
use crate::ask::view::{ServiceView, ServicesView};
use crate::base::{Name, Severity, Timestamp};
use crate::config::{Probe, Service};
use crate::host::Host;

/// How long a round waits for what it has started.
const PATIENCE: Duration = Duration::from_millis(700);
/// How long a round looks at what an earlier one has started.
const GLANCE: Duration = Duration::from_millis(20);
/// The most probes under way at once.
const MAX_FLYING: usize = 16;
/// What a command's deadline is given on top, until its end is told.
const GRACE: Duration = Duration::from_secs(2);
/// A child that cannot be killed keeps us from looking at its folder again for
/// this long, or until one such child has ended.
const HOLD: Duration = Duration::from_secs(600);

/// Watches all configured services.
pub struct Observer {
    host: Host,
    services: Vec<Watched>,
    ids: u64,
    probes: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
}

struct Watched {
    id: u64,
    service: Service,
    view: ServiceView,
    /// When it is due; `None` while a probe is under way.
    next: Option<Instant>,
    /// Whether it is due again when that has ended.
    again: bool,
    restarts: Restarts,
    /// How many children were stuck when that at its folder was, and until when to wait.
    held: Option<(usize, Instant, Found)>,
}

struct Done {
    id: u64,
    begun: Instant,
    unit: Option<Result<Unit, String>>,
    answer: Option<Result<Answer, ProbeError>>,
    latency: Option<Duration>,
    found: Option<Found>,
}

impl Observer {
    /// Of these services; nothing is probed yet.
    pub fn new(host: Host, services: Vec<Service>) -> Self {
        let mut new = Self { host, services: Vec::new(), ids: 0, probes: FuturesUnordered::new() };
        for service in services {
            new.add(service, false);
        }
        new
    }

    /// One more, which is due at once.
    pub fn add(&mut self, service: Service, discovered: bool) {
        self.ids += 1;
        let view = ServiceView {
            name: service.name.to_string(),
            health: Severity::Unknown,
            layer: "none".to_owned(),
            message: "not probed yet".to_owned(),
            since: self.host.clock.now(),
            discovered,
            ..ServiceView::default()
        };
        let at = self.services.partition_point(|other| other.service.name <= service.name);
        let watched = Watched {
            id: self.ids,
            view,
            service,
            next: Some(self.host.clock.instant()),
            again: false,
            restarts: Restarts::default(),
            held: None,
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

    /// The same, waiting for every answer: for a single look without a daemon.
    pub async fn settled(&mut self) -> ServicesView {
        let longest = self.services.iter().map(|watched| watched.service.deadline).max();
        self.look(longest.unwrap_or_default().saturating_mul(2) + GRACE + PATIENCE).await
    }

    async fn look(&mut self, patience: Duration) -> ServicesView {
        let started = self.start();
        let patience = if started { patience } else { GLANCE };
        let until = tokio::time::Instant::now() + patience;
        while let Ok(Some(done)) = timeout_at(until, self.probes.next()).await {
            self.absorb(&done);
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
            let freed =
                |(count, until, _): &(usize, Instant, Found)| stuck < *count || now >= *until;
            if watched.held.as_ref().is_some_and(freed) {
                watched.held = None;
            }
            let held = watched.held.as_ref().map(|(_, _, found)| found.clone());
            let (host, service) = (self.host.clone(), watched.service.clone());
            self.probes.push(Box::pin(probe(host, service, watched.id, now, held)));
            started = true;
        }
        started
    }

    fn absorb(&mut self, done: &Done) {
        let (now, wall) = (self.host.clock.instant(), self.host.clock.now());
        let stuck = self.host.runner.stuck();
        let Some(watched) = self.services.iter_mut().find(|it| it.id == done.id) else { return };
        let again = std::mem::take(&mut watched.again);
        watched.next = Some(if again { now } else { done.begun + watched.service.interval });
        if let Some(found @ Found::Hangs { stuck: true, .. }) = &done.found
            && watched.held.is_none()
        {
            watched.held = Some((stuck.max(1), now + HOLD, found.clone()));
        }
        let layers = layers(&watched.service, &mut watched.restarts, done, now, wall);
        let (health, layer, message, advice) = judged(&watched.service, &layers);
        let since = if health == watched.view.health { watched.view.since } else { wall };
        watched.view = ServiceView {
            name: watched.service.name.to_string(),
            health,
            layer: layer.to_owned(),
            message,
            advice,
            latency: done.latency.map(|latency| latency.as_secs_f64()),
            since,
            discovered: watched.view.discovered,
            restarts: watched.restarts.lately(),
            hung: matches!(done.answer, Some(Err(ProbeError::Silent { .. }))),
            ..ServiceView::default()
        };
    }
}

/// Looks at all layers of a service, side by side.
async fn probe(host: Host, service: Service, id: u64, begun: Instant, held: Option<Found>) -> Done {
    let deadline = service.deadline;
    let unit = async {
        let read = unit::read(&host, service.unit.as_deref()?, deadline);
        let late = || Some(Err(format!("systemd did not answer within {deadline:?}")));
        timeout(deadline + GRACE, read).await.unwrap_or_else(|_| late())
    };
    let network = async {
        let answer = match service.probe {
            Probe::None => return None,
            Probe::Tcp(to) => probe::tcp(&host, to, deadline).await,
            Probe::Smb(to) => probe::smb(&host, to, deadline).await,
            Probe::Afp(to) => probe::afp(&host, to, deadline).await,
        };
        let took = host.clock.instant().saturating_duration_since(begun);
        Some((answer, took))
    };
    let folder = async {
        let folder: &PathBuf = service.path.as_ref()?;
        if held.is_some() {
            return held;
        }
        let look = path::look(&host, folder, deadline);
        let late = Found::Hangs { deadline, stuck: false };
        Some(timeout(deadline + GRACE, look).await.unwrap_or(late))
    };
    let (unit, network, found) = tokio::join!(unit, network, folder);
    let (answer, latency) = network.unzip();
    // How long a failure took is no latency of the service.
    let latency = latency.filter(|_| answer.as_ref().is_some_and(Result::is_ok));
    Done { id, begun, unit, answer, latency, found }
}

fn layers(
    service: &Service,
    restarts: &mut Restarts,
    done: &Done,
    now: Instant,
    wall: Timestamp,
) -> Vec<Layer> {
    let unit = service.unit.as_deref();
    let mut layers = Vec::new();
    if let (Some(name), Some(read)) = (unit, &done.unit) {
        let count = read.as_ref().ok().and_then(|unit| unit.restarts);
        layers.push(unit::judge(name, read, restarts.observe(count, now)));
    }
    layers.extend(done.answer.as_ref().map(|answer| judge::network(answer, unit, wall)));
    if let (Some(path), Some(found)) = (&service.path, &done.found) {
        layers.push(path::judge(path, found));
    }
    layers
}

fn judged(service: &Service, layers: &[Layer]) -> (Severity, &'static str, String, String) {
    let Some(worst) = judge::worst(layers) else {
        let message = match &service.unit {
            Some(unit) => format!("{unit} cannot be looked at: systemd does not run here"),
            None => "it has neither unit, probe nor path to look at".to_owned(),
        };
        return (Severity::Unknown, "none", message, "add a `probe` or a `path`".to_owned());
    };
    // In health all layers have something to say.
    let message = if worst.severity == Severity::Ok {
        let said: Vec<&str> = layers.iter().map(|layer| layer.message.as_str()).collect();
        said.join("; ")
    } else {
        worst.message.clone()
    };
    (worst.severity, worst.name, message, worst.advice.clone())
}

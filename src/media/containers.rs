//! Containers of Docker and Podman: do they run, and are they well?
//!
//! One request a round lists them; who has changed is asked for more. Podman's
//! socket starts Podman when somebody connects, so it is asked often only while
//! it runs anyway. Watched are those that are to run (by their restart policy)
//! and those that have been seen running.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::engine::{Details, Engine, Listed, word};
use super::restart::Target;
use super::unit::{LOOP, Restarts};
use crate::ask::view::{ServiceView, ShareView};
use crate::base::{Severity, Timestamp, with_sources};
use crate::host::Host;
use crate::host::run::quoted;

/// How often an engine is asked.
const OFTEN: Duration = Duration::from_secs(10);
/// The same of one that would be started for it.
const SELDOM: Duration = Duration::from_secs(300);
/// The most containers that are watched.
const MOST: usize = 512;
/// The most that are asked for more in one round.
const AT_ONCE: usize = 32;
/// The most folders that are told of one.
const FOLDERS: usize = 32;

/// What the service of a container is called.
pub fn service_name(container: &str) -> String {
    format!("container {container}")
}

/// Watches the containers of this machine.
pub struct Containers {
    engines: Vec<Watched>,
}

struct Watched {
    engine: Engine,
    next: Option<Instant>,
    seen: BTreeMap<String, Seen>,
    /// Why it cannot be asked.
    trouble: Option<ServiceView>,
}

#[derive(Default)]
struct Seen {
    /// What it was when it was asked for more.
    key: String,
    details: Option<Details>,
    restarts: Restarts,
    ran: bool,
    view: Option<ServiceView>,
}

impl Default for Containers {
    fn default() -> Self {
        let watched = |engine| Watched { engine, next: None, seen: BTreeMap::new(), trouble: None };
        Self { engines: [Engine::Docker, Engine::Podman].map(watched).into() }
    }
}

impl Containers {
    /// Asks who is due and says how all are. Infallible.
    pub async fn round(&mut self, host: &Host) -> Vec<(ServiceView, Target)> {
        let mut all: Vec<(ServiceView, Target)> = Vec::new();
        for watched in &mut self.engines {
            watched.look(host).await;
            for (id, seen) in &watched.seen {
                let Some(mut view) = seen.view.clone() else { continue };
                if all.iter().any(|(other, _)| other.name == view.name) {
                    view.name = format!("{} ({})", view.name, watched.engine.tool());
                }
                all.push((view, Target::Container(watched.engine, id.clone())));
            }
            let unit = Target::Unit(watched.engine.unit().to_owned());
            all.extend(watched.trouble.clone().map(|view| (view, unit)));
        }
        all.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        all
    }

    /// How long a caller may rest after a round: until an engine is due.
    pub fn rest(&self, host: &Host) -> Duration {
        let due = self.engines.iter().filter_map(|watched| watched.next).min();
        due.map_or(OFTEN, |due| due.saturating_duration_since(host.clock.instant()))
    }
}

impl Watched {
    async fn look(&mut self, host: &Host) {
        let (engine, now) = (self.engine, host.clock.instant());
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        self.next = Some(now + OFTEN);
        if !host.sys.exists(engine.socket()) {
            (self.seen, self.trouble) = (BTreeMap::new(), None);
            return;
        }
        // Its socket may be systemd's, which starts it for who connects.
        let runs = host.units.is_active(engine.unit()).await;
        match (engine, runs) {
            (Engine::Docker, Ok(false)) => {
                let why = format!("{} does not run", engine.unit());
                self.unknown(&why, host.clock.now());
                self.trouble = None;
                return;
            }
            (Engine::Podman, Ok(false)) => self.next = Some(now + SELDOM),
            (Engine::Docker | Engine::Podman, _) => {}
        }
        match engine.list(host).await {
            Ok(listed) => {
                self.trouble = None;
                self.absorb(host, listed).await;
            }
            Err(error) => {
                let wall = host.clock.now();
                let why = with_sources(&error);
                self.unknown(&format!("not known: {why}"), wall);
                let since = self.trouble.as_ref().map_or(wall, |view| view.since);
                self.trouble = Some(ServiceView {
                    name: format!("containers of {}", engine.tool()),
                    health: Severity::Critical,
                    layer: "connect".to_owned(),
                    message: why,
                    advice: format!("`systemctl status {}`", engine.unit()),
                    since,
                    kind: "container".to_owned(),
                    discovered: true,
                    ..ServiceView::default()
                });
            }
        }
    }

    /// Nothing is known of any of them now.
    fn unknown(&mut self, why: &str, wall: Timestamp) {
        for view in self.seen.values_mut().filter_map(|seen| seen.view.as_mut()) {
            if view.health != Severity::Unknown {
                view.since = wall;
            }
            view.health = Severity::Unknown;
            why.clone_into(&mut view.message);
            view.advice.clear();
        }
    }

    async fn absorb(&mut self, host: &Host, mut listed: Vec<Listed>) {
        listed.truncate(MOST);
        listed.retain(|one| !one.id.is_empty() && one.state.as_deref() != Some("removing"));
        self.seen.retain(|id, _| listed.iter().any(|one| one.id == *id));
        let mut asked = 0;
        for one in listed {
            let seen = self.seen.entry(one.id.clone()).or_default();
            let key = key(&one);
            let fresh = seen.details.is_none() || seen.key != key || is_young(&one);
            if fresh && asked < AT_ONCE {
                asked += 1;
                // It may have been removed just now: then it is gone in the next list.
                if let Ok(details) = self.engine.inspect(host, &one.id).await {
                    (seen.details, seen.key) = (Some(details), key);
                }
            }
            seen.ran |= one.state.as_deref() == Some("running");
            let Some(details) = &seen.details else { continue };
            let restarts = seen.restarts.observe(details.restart_count, host.clock.instant());
            let judged = judge(self.engine, &one, details, seen.ran, restarts);
            let old = seen.view.take();
            seen.view = judged.map(|Judged { health, message, advice }| ServiceView {
                name: service_name(&name(&one)),
                health,
                layer: "container".to_owned(),
                message,
                advice,
                since: match old {
                    Some(old) if old.health == health => old.since,
                    Some(_) | None => host.clock.now(),
                },
                kind: "container".to_owned(),
                discovered: true,
                restarts,
                shares: shares(details),
                ..ServiceView::default()
            });
        }
    }
}

/// What changes when there is more to know: not the age, which always does.
fn key(one: &Listed) -> String {
    let status = one.status.as_deref().unwrap_or_default();
    let inside = status.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let inside = inside.map_or("", |(inside, _)| inside);
    word(&format!("{} {inside}", one.state.as_deref().unwrap_or_default()))
}

/// Whether it has begun or ended just now: `Up 7 seconds`.
fn is_young(one: &Listed) -> bool {
    one.status.as_deref().is_some_and(|status| status.contains("second"))
        || one.state.as_deref() == Some("restarting")
}

fn name(one: &Listed) -> String {
    let first = one.names.as_ref().and_then(|names| names.first());
    let name = first.map_or(one.id.get(..12).unwrap_or("?"), |name| name.trim_start_matches('/'));
    let plain = |c: char| if c.is_ascii_graphic() { c } else { '?' };
    name.chars().take(64).map(plain).collect()
}

/// The owner's folders in it.
fn shares(details: &Details) -> Vec<ShareView> {
    let mounts = details.mounts.iter().flatten().filter(|mount| mount.kind == "bind");
    let share = |mount: &super::engine::Mount| ShareView {
        name: word(&mount.destination),
        path: word(&mount.source),
    };
    mounts.take(FOLDERS).map(share).collect()
}

/// What the state of a container means.
#[derive(Debug, PartialEq, Eq)]
struct Judged {
    health: Severity,
    message: String,
    advice: String,
}

/// `None` for one that nobody expects to run.
fn judge(
    engine: Engine,
    one: &Listed,
    details: &Details,
    ran: bool,
    restarts: u64,
) -> Option<Judged> {
    let (tool, name) = (engine.tool(), name(one));
    let typed = quoted(name.as_ref());
    let logs = format!("`{tool} logs --tail 50 {typed}`");
    let start = format!("`{tool} start {typed}`");
    let policy = details.host_config.restart_policy.as_ref().map(|policy| policy.name.as_str());
    let always = matches!(policy, Some("always" | "unless-stopped"));
    let kept = always || policy == Some("on-failure");
    let state = one.state.as_deref().unwrap_or_default();
    if !kept && !ran {
        return None;
    }
    let code = details.state.exit_code.unwrap_or_default();
    let oom = details.state.oom_killed;
    let ended = if oom {
        "was killed: it ran out of memory".to_owned()
    } else {
        match code {
            137 => "ended with 137 (SIGKILL)".to_owned(),
            143 => "ended with 143 (SIGTERM)".to_owned(),
            code => format!("ended with {code}"),
        }
    };
    let says = |health, message: String, advice: &str| {
        Some(Judged { health, message: format!("{name} {message}"), advice: advice.to_owned() })
    };
    let memory =
        format!("give it more memory (`{tool} update --memory`), or find what takes it: {logs}");
    match state {
        "running" | "restarting" if restarts >= LOOP => {
            let last = if code == 0 && !oom { String::new() } else { format!("; it {ended}") };
            let message =
                format!("crashes again and again: {restarts} restarts within ten minutes{last}");
            says(Severity::Critical, message, &logs)
        }
        "running" => running(details, says, &logs),
        "restarting" => says(Severity::Critical, format!("{ended} and is being restarted"), &logs),
        "paused" => {
            says(Severity::Warning, "is paused".into(), &format!("`{tool} unpause {typed}`"))
        }
        "created" => {
            let error = details.state.error.as_deref().map(word).filter(|text| !text.is_empty());
            match error {
                Some(error) => {
                    says(Severity::Critical, format!("cannot be started: {error}"), &logs)
                }
                None => says(Severity::Warning, "was never started".into(), &start),
            }
        }
        "exited" | "stopped" if oom => says(Severity::Critical, ended, &memory),
        "exited" | "stopped" => match code {
            0 | 143 if always => says(Severity::Warning, "was stopped".into(), &start),
            0 | 143 => says(Severity::Ok, format!("{ended} and is off"), ""),
            _ if kept => says(Severity::Critical, format!("{ended} and stays down"), &logs),
            _ => says(Severity::Warning, ended.clone(), &logs),
        },
        "dead" => {
            let advice = format!("`{tool} rm -f {typed}`, then create it again");
            says(Severity::Critical, "is dead: it could not be removed whole".into(), &advice)
        }
        other => {
            let message = format!("is in a state that hostd does not know: {:?}", word(other));
            says(Severity::Unknown, message, &logs)
        }
    }
}

fn running(
    details: &Details,
    says: impl Fn(Severity, String, &str) -> Option<Judged>,
    logs: &str,
) -> Option<Judged> {
    let health = details.state.health.as_ref();
    match health.map_or("", |health| health.status.as_str()) {
        "" | "none" => says(Severity::Ok, "runs".into(), ""),
        "healthy" => says(Severity::Ok, "runs and is healthy".into(), ""),
        "starting" => {
            says(Severity::Warning, "runs; its health check has not passed yet".into(), "")
        }
        "unhealthy" => {
            let log = health.and_then(|health| health.log.as_ref()?.last()?.output.as_deref());
            let said = log.map(word).filter(|said| !said.is_empty());
            let said = said.map_or(String::new(), |said| format!(": {said}"));
            says(Severity::Critical, format!("runs but its health check fails{said}"), logs)
        }
        other => {
            let message = format!("runs; its health is not known: {:?}", word(other));
            says(Severity::Unknown, message, logs)
        }
    }
}

#[cfg(test)]
mod tests;

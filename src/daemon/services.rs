//! The loop of the media services: configured ones, found ones, containers.
//!
//! ```text
//!   systemd says: smbd.service has changed ──▶ poke ─┐
//!   when one is due ──────────────────────────────────┴▶ round ─▶ restarts ─▶ fact
//!   every ten seconds: what runs? ─▶ add, remove          ▲
//!   every ten seconds: containers ────────────────────────┘
//! ```
//!
//! The three loops are one task, and none waits for another: an engine or a
//! systemd that does not answer keeps no service from being probed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use crate::ask::view::{ServiceView, VmState};
use crate::host::Host;
use crate::media::restart::{Keeper, Target};
use crate::media::{Containers, Discovery, Observer, Step};
use crate::state::Fact;

/// How often services are looked at while one is due or asked, and at the least.
const ROUND: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(5);
/// An engine is asked no sooner again than this.
const LEAST: Duration = Duration::from_millis(100);
/// How often it is tried again to hear systemd.
const DEAF: Duration = Duration::from_secs(60);
/// How long after it began anew.
const ANEW: Duration = Duration::from_secs(1);
/// How long a VM's end may take to start again what it has stopped.
const AFTERWARDS: Duration = Duration::from_secs(20);
/// Changes that wait to be looked at; systemd's connection keeps the rest.
const CHANGES: usize = 64;

/// The unit that has changed; any may have, when there is none.
type Change = Option<String>;
type Found = Arc<Vec<(ServiceView, Target)>>;

/// Probes the services that are due.
pub(super) async fn services(shared: Shared) {
    let (units, names) = watch::channel(Vec::new());
    let (poke, poked) = mpsc::channel(CHANGES);
    let (found, containers) = watch::channel(Found::default());
    let host = shared.host.clone();
    let discover = shared.config.host.discover_services;
    tokio::select! {
        () = look(shared, units, poked, containers) => {}
        () = changes(&host, names, poke) => {}
        () = engines(&host, discover, found) => {}
    }
}

async fn look(
    shared: Shared,
    units: watch::Sender<Vec<String>>,
    mut poked: mpsc::Receiver<Change>,
    mut containers: watch::Receiver<Found>,
) {
    let (host, configured) = (&shared.host, &shared.config.services);
    let mut observer = Observer::new(host.clone(), configured.clone());
    let mut discovery = shared.config.host.discover_services.then(Discovery::default);
    let mut keeper = Keeper::default();
    let mut excuses = Excuses::default();
    // Their time to be restarted comes between two probes.
    let most = if configured.iter().any(|it| it.restart.is_some()) { ROUND } else { QUIET };
    // Whether this round is because of a change: then it is not cut short for
    // another, and the next one waits.
    let mut soon = false;
    loop {
        if let Some(discovery) = &mut discovery {
            for step in discovery.look(host, configured).await {
                match step {
                    Step::Add(service) => observer.add(*service, true),
                    Step::Remove(name) => observer.remove(&name),
                }
            }
        }
        observer.excuse(excuses.round(&shared, Instant::now()));
        units.send_if_modified(|known| {
            let now: Vec<String> = observer.services().filter_map(|it| it.unit.clone()).collect();
            let changed = *known != now;
            *known = now;
            changed
        });
        let mut view = tokio::select! {
            view = observer.round() => view,
            Some(change) = poked.recv(), if !soon => {
                observer.poke(change.as_deref());
                soon = true;
                continue;
            }
        };
        keeper.round(host, observer.services(), &mut view.services).await;
        let found = Arc::clone(&containers.borrow_and_update());
        let named = |name: &str, target: Target| (name.to_owned(), target);
        let own = observer.services().map(|one| named(one.name.as_str(), Target::from(one)));
        shared.targets.are(own.chain(found.iter().map(|(view, to)| named(&view.name, to.clone()))));
        view.services.extend(found.iter().map(|(view, _)| view.clone()));
        if shared.facts.send(Fact::Services(view)).await.is_err() {
            return;
        }
        if std::mem::take(&mut soon) {
            // At the first of a burst, then at most once a second.
            sleep(ROUND).await;
            while let Ok(change) = poked.try_recv() {
                observer.poke(change.as_deref());
            }
        } else {
            tokio::select! {
                Some(change) = poked.recv() => {
                    observer.poke(change.as_deref());
                    soon = true;
                }
                // An error is the other loop's end, which ends this one.
                Ok(()) = containers.changed() => {}
                () = sleep(observer.rest(ROUND, most)) => {}
            }
        }
    }
}

/// The units that VMs have stopped for the time they run (`stop-services`).
#[derive(Default)]
struct Excuses(BTreeMap<String, (String, Instant)>);

impl Excuses {
    fn round(&mut self, shared: &Shared, now: Instant) -> BTreeMap<String, String> {
        let snapshot = shared.snapshot.borrow();
        for vm in &shared.config.vms {
            let up = snapshot.vms.get(&vm.name).is_some_and(|view| match view.state {
                VmState::Preparing
                | VmState::Starting
                | VmState::Running
                | VmState::Paused
                | VmState::Stopping => true,
                VmState::Off | VmState::Crashed | VmState::Failed => false,
            });
            let units = vm.performance.iter().flat_map(|its| &its.stop_services).filter(|_| up);
            let until = now + AFTERWARDS;
            self.0.extend(units.map(|unit| (unit.clone(), (vm.name.to_string(), until))));
        }
        self.0.retain(|_, (_, until)| *until > now);
        self.0.iter().map(|(unit, (vm, _))| (unit.clone(), vm.clone())).collect()
    }
}

/// Tells which units have changed, as systemd says it.
async fn changes(host: &Host, mut names: watch::Receiver<Vec<String>>, poke: mpsc::Sender<Change>) {
    loop {
        let units = names.borrow_and_update().clone();
        // The sender is gone only at the very end.
        let begun = if units.is_empty() { None } else { host.units.changes(&units).await.ok() };
        let Some(mut changes) = begun else {
            let again = if units.is_empty() { Duration::MAX } else { DEAF };
            let _ = timeout(again, names.changed()).await;
            continue;
        };
        // What has happened until now was not heard.
        let _ = poke.send(None).await;
        loop {
            tokio::select! {
                change = changes.next() => {
                    let Some(unit) = change else {
                        sleep(ANEW).await;
                        break;
                    };
                    let _ = poke.send(Some(unit)).await;
                }
                _ = names.changed() => break,
            }
        }
    }
}

/// Looks at the containers.
async fn engines(host: &Host, discover: bool, found: watch::Sender<Found>) {
    let mut containers = Containers::default();
    if !discover {
        std::future::pending::<()>().await;
    }
    loop {
        let now = containers.round(host).await;
        found.send_if_modified(|known| {
            let changed = **known != now;
            if changed {
                *known = Arc::new(now);
            }
            changed
        });
        sleep(containers.rest(host).max(LEAST)).await;
    }
}

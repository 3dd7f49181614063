//! The composition root: the only file that knows every room.
//!
//! ```text
//!   observers (zfs, media, pci) ─┐                     ┌─▶ snapshot ─▶ answers
//!   supervisors (vm) ────────────┼─ facts ─▶ writer ───┤
//!   uevents ─▶ look again ───────┘   (one)             └─▶ events ─▶ index ─▶ servers
//!   api (socket, bus) ─ asks ─▶ answer ─▶ passthrough, vm, zfs, index
//! ```
//!
//! Read [`run`] first; [`observe`] has the loops that watch, [`answer`] what is
//! done with an ask. Every task has a name, and one that ends before it was
//! told to ends the daemon with that name. The bus name is requested last.

mod answer;
mod care;
mod disks;
pub mod guests;
mod history;
mod machine;
mod observe;
mod pools;
mod ports;
mod scan;
mod serve;
mod services;
mod streams;
mod tail;
mod upstream;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sd_notify::NotifyState;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::api::{self, socket};
use crate::ask::view::KeepingView;
use crate::base::{Name, Severity};
use crate::config::{Config, QuirkFiles, Upstream};
use crate::health::smart;
use crate::host::Host;
use crate::host::lock::{Lock, LockError};
use crate::media::restart::Targets;
use crate::passthrough::{Boot, Passthrough, safe};
use crate::riemann::index::{self, Index};
use crate::riemann::outlet;
use crate::sink::history::History;
use crate::state::{Fact, Snapshot, radius};
use crate::vm::autostart;
use crate::vm::supervisor::{self, VmHandle};
use crate::zfs;
pub use streams::Reload;

/// Facts that wait for the writer; who has more waits.
const FACTS: usize = 256;

/// Asks that wait for an answer; who has more waits.
const ASKS: usize = 64;

/// VM changes that a slow listener may lag behind.
const CHANGES: usize = 64;

/// How long everything has to be read once, before asks are served without it.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How long the tasks have to end when told to.
const DRAIN: Duration = Duration::from_secs(8);

/// What the tasks share.
#[derive(Clone)]
struct Shared {
    host: Host,
    facts: mpsc::Sender<Fact>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    index: Index,
    passthrough: Passthrough,
    boot: Boot,
    vms: Arc<BTreeMap<Name, VmHandle>>,
    /// The owner's quirk files.
    quirks: Arc<QuirkFiles>,
    /// As it was checked at the start, for the doctor.
    config: Arc<Config>,
    /// What is wrong with the files of VMs.
    wrong: Option<String>,
    /// The devices are enumerated again at once.
    devices: Arc<Notify>,
    /// The pools are read again at once.
    pools: Arc<Notify>,
    /// Scrubs that a person has started, paused or stopped.
    hands: mpsc::Sender<care::ByHand>,
    /// The disks are enumerated again at once.
    disks: Arc<Notify>,
    /// The services that are watched now.
    targets: Targets,
    /// What was; none when no history is kept.
    past: Option<history::Past>,
}

impl Shared {
    /// Says what hostd cannot do here, or that it can again.
    async fn unavailable(&self, what: &str, why: Option<String>) {
        if let Some(why) = &why {
            warn!("{what}: {why}");
        }
        self.tell(what, why, Severity::Warning).await;
    }

    /// The same of what a machine may well do without.
    async fn without(&self, what: &str, why: Option<String>) {
        if let Some(why) = &why {
            info!("{what}: {why}");
        }
        self.tell(what, why, Severity::Ok).await;
    }

    async fn tell(&self, what: &str, why: Option<String>, severity: Severity) {
        // The writer is gone only at the very end.
        let _ = self.facts.send(Fact::Unavailable { what: what.to_owned(), why, severity }).await;
    }
}

/// The tasks of the daemon, each with a name.
#[derive(Default)]
struct Tasks {
    /// Loops that would go on for ever; cut at the end.
    watching: JoinSet<&'static str>,
    /// Servers that end by themselves when told to.
    serving: JoinSet<&'static str>,
}

impl Tasks {
    fn watch(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.watching.spawn(named(name, task));
    }

    fn serve(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.serving.spawn(named(name, task));
    }

    /// The first that ends before its time, in words.
    async fn first_end(&mut self) -> String {
        let end = tokio::select! {
            Some(end) = self.watching.join_next() => end,
            Some(end) = self.serving.join_next() => end,
            else => return "no task is left".to_owned(),
        };
        match end {
            Ok(name) => format!("the task `{name}` ended"),
            Err(error) => format!("a task failed: {error}"),
        }
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

/// Resolves when everything has been read once.
async fn first_look(mut snapshot: watch::Receiver<Arc<Snapshot>>) {
    // An error is the writer's end, which ends the daemon.
    let _ = snapshot.wait_for(|now| now.is_read()).await;
}

/// Keeps other hostds away from the state folder; `Err` inside is why that
/// cannot be done here.
fn lock_state(host: &Host) -> anyhow::Result<Result<Lock, String>> {
    let locked = match host.state.make_dir("") {
        Ok(dir) => Lock::take(&dir.join("lock")).map_err(anyhow::Error::from),
        Err(error) => Err(error.into()),
    };
    match locked {
        Ok(lock) => Ok(Ok(lock)),
        Err(error) => match error.downcast_ref() {
            Some(LockError::Held(path)) => {
                bail!("another hostd is running: it has locked {}", path.display())
            }
            Some(LockError::Io { .. }) | None => Ok(Err(format!("{error:#}"))),
        },
    }
}

/// The VMs whose files are wrong, in one sentence.
fn wrong_vms(wrong: &BTreeMap<Name, String>) -> Option<String> {
    let names: Vec<&str> = wrong.keys().map(Name::as_str).collect();
    (!names.is_empty()).then(|| format!("the files of these VMs are wrong: {}", names.join(", ")))
}

/// [`run_reloading`] with a configuration that stays as it is.
pub async fn run(
    host: Host,
    config: Config,
    wrong: BTreeMap<Name, String>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (_never, reloads) = mpsc::channel(1);
    run_reloading(host, config, wrong, reloads, stop).await
}

/// Runs on `host` until `stop` resolves; any task that ends early is an error.
/// `wrong` holds the VMs that the configuration names and cannot describe. Only
/// on the real machine are the kernel's device events heard and the system bus
/// joined. What comes by `reloads` takes the streams' place.
pub async fn run_reloading(
    host: Host,
    config: Config,
    wrong: BTreeMap<Name, String>,
    reloads: mpsc::Receiver<Reload>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    host.runtime.make_dir("").context("the control socket needs its folder")?;
    // Early, because it is also how a second hostd is noticed.
    let private = socket::listen(&host.runtime.path("control.sock")).await?;
    // Both are held to the very end, when nothing is done to the VMs any more.
    let _runtime_lock = private.lock();
    let state_lock = lock_state(&host)?;

    let name = config.host.name.clone().unwrap_or_else(|| observe::host_name(&host));
    let interval = config.host.interval;
    let snapshot =
        Snapshot::new(name, host.clock.now(), 2.0 * interval.as_secs_f32(), config.wants_iommu())
            .with_uses(radius::uses(&config, &host.state.path("")));
    let (facts, from_rooms) = mpsc::channel(FACTS);
    let (publish, watched) = watch::channel(Arc::new(snapshot.clone()));
    let changes = api::Changes::new(CHANGES);
    let (down, shutdown) = watch::channel(false);
    let index = Index::new(index::Limits::default(), Arc::clone(&host.clock));
    let (log, logged) = streams::log();
    index.attach_named(log);
    index.set_streams(&config.streams);
    let passthrough =
        Passthrough::with_quirks(host.clone(), config.gpus.clone(), config.quirks.clone());
    for left in passthrough.recover().await {
        warn!("{left}");
    }

    let (vm_out, vm_in) = mpsc::channel(FACTS);
    let devices = Arc::new(passthrough.clone());
    let deps = supervisor::Deps::new(host.clone(), devices, vm_out);
    let vms =
        config.vms.iter().map(|vm| (vm.name.clone(), supervisor::spawn(deps.clone(), vm.clone())));
    let mut vms: BTreeMap<Name, VmHandle> = vms.collect();
    // A QEMU goes on though its VM's file is broken or gone.
    vms.extend(supervisor::spawn_barred(&deps, &vms.keys().cloned().collect(), &wrong));
    // What the host did for VMs of which nothing is left but that.
    let known: Vec<Name> = vms.keys().cloned().collect();
    if let Err(refusal) = deps.rooms.recover(&known).await {
        warn!("{}", refusal.message);
    }
    drop(deps);
    let (kept, past) = if config.history.ladder.is_empty() {
        (None, None)
    } else {
        let (out, inlet) = outlet("history", history::CAPACITY);
        let begun = History::start(host.state.clone(), &config.history);
        let (kept, reader) = begun.context("the history needs a thread")?;
        index.attach(out);
        let (keeping, told) = watch::channel(KeepingView::default());
        (Some((kept, inlet, keeping)), Some(history::Past { reader, keeping: told }))
    };
    let (hands, by_hand) = mpsc::channel(ASKS);
    let shared = Shared {
        vms: Arc::new(vms),
        quirks: Arc::new(config.quirks.clone()),
        config: Arc::new(config.clone()),
        wrong: wrong_vms(&wrong),
        host: host.clone(),
        facts,
        snapshot: watched,
        index: index.clone(),
        passthrough: passthrough.clone(),
        boot: Boot::new(
            host.clone(),
            config.gpus.clone(),
            // What a wrong one would boot with is not known.
            wrong.is_empty().then_some(config.vms.as_slice()),
        ),
        devices: Arc::new(Notify::new()),
        pools: Arc::new(Notify::new()),
        hands,
        disks: Arc::new(Notify::new()),
        targets: Targets::default(),
        past,
    };

    let mut tasks = Tasks::default();
    // Before anything is published.
    if config.upstream != Upstream::default() {
        tasks.serve("upstream", upstream::upstream(&shared, &config.upstream, &shutdown));
    }
    let clock = Arc::clone(&host.clock);
    let writer = observe::Writer {
        snapshot,
        publish,
        index,
        clock,
        interval,
        expire: config.events.expire,
        losses: observe::Losses::default(),
    };
    tasks.watch("writer", writer.run(from_rooms));
    tasks.watch("vm facts", observe::vms(shared.clone(), vm_in, changes.clone()));
    tasks.watch("devices", observe::devices(shared.clone()));
    tasks.watch("vm statistics", observe::vm_stats(shared.clone(), interval));
    let observer = zfs::Observer::new(host.clone(), config.pools.clone());
    let (zfs_says, zfs_said) = mpsc::channel(pools::EVENTS);
    tasks.watch("pools", pools::run(shared.clone(), observer, zfs_said));
    // The events are those of the kernel that runs here.
    if host.sys.is_real() {
        tasks.watch("ZFS events", pools::events(shared.clone(), zfs_says));
    }
    let disks = smart::Observer::new(host.clone(), config.disks.clone());
    tasks.watch("disks", disks::disks(shared.clone(), disks));
    tasks.watch("services", services::services(shared.clone()));
    tasks.watch("care", care::run(shared.clone(), by_hand));
    tasks.watch("streams", streams::run(shared.clone(), logged, reloads, interval));
    tasks.watch("machine", machine::watch(shared.clone(), config.health.clone(), interval));
    if let Some((kept, inlet, keeping)) = kept {
        let task = history::run(shared.clone(), inlet, kept, keeping, shutdown.clone());
        tasks.serve("history", task);
    }
    for (vm, problems) in &wrong {
        let why = problems.lines().last().unwrap_or_default().to_owned();
        shared.unavailable(&format!("VM {vm}"), Some(why)).await;
    }
    if let Err(why) = &state_lock {
        let why = format!("{why}; nothing is kept, and another hostd would not be noticed");
        shared.unavailable("the state folder", Some(why)).await;
    }
    if let Some(why) = safe::why(&host.sys) {
        let why = format!("off, {why}; no card is given to a VM");
        shared.unavailable("binding", Some(why)).await;
    }
    ports::events(&mut tasks, &shared, &config.events, &shutdown).await;
    ports::web(&mut tasks, &shared, &config.web, &shutdown).await;

    // Whoever is told that we are ready expects answers.
    if tokio::time::timeout(FIRST_LOOK, first_look(shared.snapshot.clone())).await.is_err() {
        warn!("not everything could be read within {FIRST_LOOK:?}; serving what is known");
    }
    let (asks, asked) = mpsc::channel(ASKS);
    tasks.watch("asks", answer::run(shared.clone(), asked));
    let rule = api::gate::Rule::root_or_group();
    let private =
        socket::serve_socket(private, asks.clone(), changes.clone(), rule, shutdown.clone());
    tasks.serve("control socket", private);
    info!(
        "hostd is ready: {} VMs, control socket in {}",
        shared.vms.len(),
        host.runtime.path("").display()
    );
    serve::tell_systemd(&[NotifyState::Ready]);
    serve::bus(&mut tasks, &shared, asks, changes, shutdown);
    // Not named: it ends when all have started.
    let (machine, vms) = (host.clone(), Arc::clone(&shared.vms));
    let autostart = tokio::spawn(async move { autostart::run(machine, &vms).await });

    let early = tokio::select! {
        () = stop => None,
        end = tasks.first_end() => Some(end),
    };
    serve::tell_systemd(&[NotifyState::Stopping]);
    info!("hostd is going down; running VMs go on");
    // Everybody who listens is told; nobody listening is fine too.
    let _ = down.send(true);
    drop(shared);
    let drained = async { while tasks.serving.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        warn!("some servers did not end within {DRAIN:?}");
    }
    autostart.abort();
    tasks.watching.shutdown().await;
    match early {
        None => Ok(()),
        Some(end) => bail!("{end} before hostd was told to stop"),
    }
}

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
mod observe;
mod serve;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use sd_notify::NotifyState;
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::api::{self, socket};
use crate::base::Name;
use crate::config::{Config, QuirkFiles};
use crate::host::Host;
use crate::passthrough::Passthrough;
use crate::riemann::index::{self, Index};
use crate::state::{Fact, Snapshot};
use crate::vm::supervisor::{self, VmHandle};
use crate::zfs;

/// Where the daemon keeps things.
#[derive(Debug, Clone)]
pub struct Options {
    /// What survives a restart.
    pub state_dir: PathBuf,
    /// What lives until the next boot.
    pub runtime_dir: PathBuf,
    /// The machine, `/` for the one we run on.
    pub sysroot: PathBuf,
}

/// Facts that wait for the writer; who has more waits.
const FACTS: usize = 256;

/// Asks that wait for an answer; who has more waits.
const ASKS: usize = 64;

/// VM changes that a slow listener may lag behind.
const CHANGES: usize = 64;

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
    vms: Arc<BTreeMap<Name, VmHandle>>,
    /// The owner's quirk files.
    quirks: Arc<QuirkFiles>,
    /// VMs whose file is wrong, with all its problems.
    wrong: Arc<BTreeMap<Name, String>>,
    /// The devices are enumerated again at once.
    devices: Arc<Notify>,
    /// The pools are read again at once.
    pools: Arc<Notify>,
}

impl Shared {
    /// Says what hostd cannot do here, or that it can again.
    async fn unavailable(&self, what: &str, why: Option<String>) {
        if let Some(why) = &why {
            warn!("{what}: {why}");
        }
        // The writer is gone only at the very end.
        let _ = self.facts.send(Fact::Unavailable { what: what.to_owned(), why }).await;
    }
}

/// The tasks of the daemon, each with a name.
#[derive(Default)]
struct Tasks(JoinSet<&'static str>);

impl Tasks {
    fn add(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(async move {
            task.await;
            name
        });
    }

    /// The first that ends before its time, in words.
    async fn first_end(&mut self) -> String {
        match self.0.join_next().await {
            Some(Ok(name)) => format!("the task `{name}` ended"),
            Some(Err(error)) => format!("a task failed: {error}"),
            None => "no task is left".to_owned(),
        }
    }
}

/// Runs until `stop` resolves; any task that ends early is an error. `wrong`
/// holds the VMs that the configuration names and cannot describe.
pub async fn run(
    options: &Options,
    config: Config,
    wrong: BTreeMap<Name, String>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let host =
        Host::real(options.sysroot.clone(), options.state_dir.clone(), options.runtime_dir.clone());
    host.runtime.make_dir("").context("the control socket needs its folder")?;
    // Early, because it is also how a second hostd is noticed.
    let private = socket::listen(&host.runtime.path("control.sock")).await?;

    let name = config.host.name.clone().unwrap_or_else(|| observe::host_name(&host));
    let interval = config.host.interval;
    let snapshot = Snapshot::new(name, host.clock.now(), 2.0 * interval.as_secs_f32());
    let (facts, from_rooms) = mpsc::channel(FACTS);
    let (publish, watched) = watch::channel(Arc::new(snapshot.clone()));
    let (changes, _) = broadcast::channel(CHANGES);
    let (down, shutdown) = watch::channel(false);
    let index = Index::new(index::Limits::default(), Arc::clone(&host.clock));
    let passthrough = Passthrough::new(host.clone(), config.gpus.clone());
    for left in passthrough.recover().await {
        warn!("{left}");
    }

    let (vm_out, vm_in) = mpsc::channel(FACTS);
    let vms = config.vms.iter().map(|vm| {
        let devices = Arc::new(passthrough.clone());
        let deps = supervisor::Deps { host: host.clone(), devices, out: vm_out.clone() };
        (vm.name.clone(), supervisor::spawn(deps, vm.clone()))
    });
    let shared = Shared {
        vms: Arc::new(vms.collect()),
        quirks: Arc::new(config.quirks.clone()),
        wrong: Arc::new(wrong),
        host: host.clone(),
        facts,
        snapshot: watched,
        index: index.clone(),
        passthrough: passthrough.clone(),
        devices: Arc::new(Notify::new()),
        pools: Arc::new(Notify::new()),
    };
    drop(vm_out);

    let mut tasks = Tasks::default();
    let clock = Arc::clone(&host.clock);
    let writer = observe::Writer { snapshot, publish, index, clock, interval };
    tasks.add("writer", writer.run(from_rooms));
    tasks.add("vm facts", observe::vms(shared.clone(), vm_in, changes.clone()));
    tasks.add("devices", observe::devices(shared.clone()));
    let pools = zfs::Observer::new(host.clone(), config.pools.clone());
    tasks.add("pools", observe::pools(shared.clone(), pools));
    tasks.add("services", observe::services(shared.clone(), config.services.clone()));
    for (vm, problems) in shared.wrong.iter() {
        let count = problems.lines().last().unwrap_or_default().to_owned();
        let why = format!("{count}; see them with: hostctl config check");
        shared.unavailable(&format!("VM {vm}"), Some(why)).await;
    }
    serve::events(&mut tasks, &shared, &config.events, &shutdown).await;

    let (asks, asked) = mpsc::channel(ASKS);
    tasks.add("asks", answer::run(shared.clone(), asked));
    let rule = api::gate::Rule::root_or_group();
    let private =
        socket::serve_socket(private, asks.clone(), changes.clone(), rule, shutdown.clone());
    tasks.add("control socket", private);
    info!(
        "hostd is ready: {} VMs, control socket in {}",
        shared.vms.len(),
        options.runtime_dir.display()
    );
    serve::tell_systemd(&[NotifyState::Ready]);
    serve::bus(&mut tasks, &shared, asks, changes, shutdown);

    let early = tokio::select! {
        () = stop => None,
        end = tasks.first_end() => Some(end),
    };
    serve::tell_systemd(&[NotifyState::Stopping]);
    info!("hostd is going down; running VMs go on");
    // Everybody who listens is told; nobody listening is fine too.
    let _ = down.send(true);
    drop(shared);
    let drained = async { while tasks.0.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        warn!("some tasks did not end within {DRAIN:?}");
    }
    match early {
        None => Ok(()),
        Some(end) => bail!("{end} before hostd was told to stop"),
    }
}

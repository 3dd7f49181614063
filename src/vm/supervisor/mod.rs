//! One task per VM: it alone changes anything about its VM.
//!
//! Requests come in through a [`VmHandle`], are judged by the pure machine in
//! [`super::lifecycle`], and are answered when what they asked for has come
//! about or failed. Every change goes out as a [`VmView`]. The task is always
//! at one place of its round ([`At`]), each in a file of its own:
//!
//! ```text
//!  adopt ──▶ Rest ──start──▶ Start ──▶ Live ──stop──▶ Stop ──▶ Quit ──▶ Kill ──▶ Stuck
//!    │        ▲                │        │ ▲            │ │      │        │         │
//!    │        └──── clean ◀────┴────────┴─┼────────────┴─┼──────┴────────┴─────────┘
//!    └──▶ any of these                    └── ignored ───┘     QEMU has ended
//! ```
//!
//! - [`handle`]: the way in; [`mod@talk`]: what goes past the task, to the guest
//! - [`barred`]: VMs without a usable file
//! - [`files`]: notes and logs, away from the runtime's threads
//! - [`adopt`]: what an earlier hostd has left
//! - [`startup`]: the way up; [`phases`]: its steps, each with its undo
//! - [`live`]: while QEMU runs; [`acts`]: what is done to it then
//! - [`again`]: when it has crashed; [`hooks`]: the owner's commands
//! - [`snapshots`]: what is done to its disks, from outside
//! - [`guest`]: what the guest's agent tells
//! - [`room`]: what the host does for it
//! - [`stopping`]: power button, quit, signals, and giving back
//!
//! When all handles are dropped the task leaves, and QEMU stays: the next hostd
//! adopts it.

mod acts;
mod adopt;
mod again;
mod barred;
mod files;
mod guest;
mod handle;
mod hooks;
mod live;
mod phases;
mod room;
mod snapshots;
mod startup;
mod stopping;
mod talk;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedRwLockReadGuard, RwLock, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info};

use self::again::Again;
pub use self::barred::{Bar, spawn_barred};
pub(in crate::vm) use self::files::apart;
use self::guest::Told;
pub use self::handle::VmHandle;
use self::live::Live;
use self::stopping::Order;
use super::agent::Agent;
use super::devices::Devices;
use super::lifecycle::{Action, Life, Observation, Request, Verdict};
use super::logs::keep_bounded;
use super::paths::Paths;
use super::performance::Rooms;
use super::plan::{self, Known, Step};
use super::qemu;
use super::qmp::Qmp;
use super::record::Record;
use super::talk::Consoles;
use super::unfinished;
use crate::ask::view::{DoneView, PerformanceView, VmState, VmView};
use crate::ask::{Code, Refusal};
use crate::base::Timestamp;
use crate::config::Vm;
use crate::host::affinity::RealAffinity;
use crate::host::{Clock, Host};

/// Requests that wait; more than this are a mistake of the caller.
const REQUESTS: usize = 16;
/// Askers that wait for one outcome.
const ASKERS: usize = 64;
/// Why what has crashed is started.
const AFTER_CRASH: &str = "again, after a crash";
/// When a start after a crash is tried again whose disks are being worked on.
const DISKS_BUSY: Duration = Duration::from_secs(2);
/// How long looking at a VM's files may take.
const PREFLIGHT: Duration = Duration::from_secs(10);

/// What a supervisor works with.
#[derive(Clone)]
pub struct Deps {
    /// The machine.
    pub host: Host,
    /// Who lends the graphics cards.
    pub devices: Arc<dyn Devices>,
    /// Where changes go.
    pub out: mpsc::Sender<VmView>,
    /// What the host does for them while they run.
    pub rooms: Rooms,
    /// How many may be starting at one time: starts compete for disks and
    /// memory.
    pub starts: Arc<Semaphore>,
}

/// Starts at one time, unless somebody wants another number.
const STARTS: usize = 4;

impl Deps {
    /// With the usual number of starts at one time.
    pub fn new(host: Host, devices: Arc<dyn Devices>, out: mpsc::Sender<VmView>) -> Self {
        let rooms = Rooms::new(&host, Arc::new(RealAffinity));
        Self { host, devices, out, rooms, starts: Arc::new(Semaphore::new(STARTS)) }
    }
}

/// What comes back to an asker.
pub type Outcome = Result<DoneView, Refusal>;

struct Asked {
    request: Request,
    /// Why, for a start.
    why: &'static str,
    answer: oneshot::Sender<Outcome>,
}

/// Begins to supervise `vm`: adopts what an earlier hostd has left, then waits
/// for requests. Must be called inside the runtime.
pub fn spawn(deps: Deps, vm: Vm) -> VmHandle {
    spawn_with(deps, vm, None)
}

fn spawn_with(deps: Deps, vm: Vm, bar: Option<Bar>) -> VmHandle {
    let vm = Arc::new(vm);
    let (requests, asked) = mpsc::channel(REQUESTS);
    let noted = !matches!(Record::read(&deps.host, &vm.name), Ok(None));
    let life = if noted {
        // Not `off`, as long as nobody has looked.
        Life::at(VmState::Starting, "hostd was restarted; looking for its QEMU")
    } else {
        let mut life = Life::new("not started since this hostd came up");
        // Known before anybody can start it with the host.
        if let (Some(_), Some(why)) = (vm.autostart, unfinished::why(&deps.host, &vm.name)) {
            life.observe(Observation::NotStarted { why });
        }
        barred::at_rest(bar.as_ref(), life)
    };
    let since = deps.host.clock.now();
    let reason = barred::reason(bar.as_ref(), &life.reason);
    let first = VmView::new(vm.name.clone(), life.state, since, reason);
    let (tell, view) = watch::channel(first);
    let (line, qmp) = watch::channel(None);
    let work = Arc::new(RwLock::new(()));
    let (out, last) = (deps.out.clone(), tell.clone());
    let paths = Paths::new(&deps.host, &vm.name);
    let agent = Agent::at(Arc::clone(&deps.host.dial), &paths.agent);
    let agent = vm.agent.channel.then_some(agent);
    let speaks = agent.clone();
    let supervisor = Supervisor {
        paths,
        host: deps.host.clone(),
        devices: deps.devices,
        vm: Arc::clone(&vm),
        out: deps.out,
        view: tell,
        line,
        work: Arc::clone(&work),
        busy: None,
        asked,
        deaf: false,
        bar: bar.clone(),
        life,
        step: String::new(),
        since,
        record: None,
        starters: Vec::new(),
        stoppers: Vec::new(),
        movers: Vec::new(),
        starts: deps.starts,
        begun: "on request",
        again: Again::default(),
        agent,
        told: Told::default(),
        rooms: deps.rooms,
        performance: None,
        machine: None,
        doomed: false,
        warnings: Vec::new(),
    };
    let task = tokio::spawn(supervisor.run());
    let abort = task.abort_handle();
    tokio::spawn(early_end(task, last, out, Arc::clone(&deps.host.clock)));
    VmHandle {
        vm,
        bar,
        host: deps.host,
        requests,
        view,
        qmp,
        agent: speaks,
        work,
        consoles: Consoles::default(),
        screen: Arc::default(),
        task: abort,
    }
}

/// How the reason of a VM begins whose supervisor is no more.
const ENDED: &str = "its supervisor ended";

/// Says so when a supervisor ends by a mistake of ours: what it said last
/// would be told for ever.
async fn early_end(
    task: JoinHandle<()>,
    view: watch::Sender<VmView>,
    out: mpsc::Sender<VmView>,
    clock: Arc<dyn Clock>,
) {
    let error = match task.await {
        // Nobody holds it any more, or it was abandoned.
        Ok(()) => return,
        Err(error) if error.is_cancelled() => return,
        Err(error) => error,
    };
    let reason = format!("{ENDED}: {error}; restart hostd, a running QEMU stays");
    let (state, step) = (VmState::Failed, String::new());
    let last = VmView { state, reason, step, since: clock.now(), ..view.borrow().clone() };
    error!(vm = %last.name, "{}", last.reason);
    view.send_replace(last.clone());
    // Nobody may be listening any more.
    let _ = out.send(last).await;
}

/// Where the supervisor is in its round.
enum At {
    /// Nothing runs.
    Rest,
    /// A start was granted.
    Start,
    /// QEMU runs.
    Live(Live),
    /// The guest was, or is to be, asked to go.
    Stop(Live, Order),
    /// QEMU is to end, in good order if it can.
    Quit(Live, String),
    /// QEMU is to end.
    Kill(Live, String),
    /// QEMU does not end.
    Stuck(Live),
    /// QEMU is gone; what it had is to be given back.
    Clean(String),
    /// Something is left over, and is to be tried again.
    Retry,
    /// hostd is going; QEMU stays.
    Leave,
}

/// Somebody who waits for an outcome.
struct Asker {
    answer: oneshot::Sender<Outcome>,
    /// The first who asked for it, and not one who joined.
    first: bool,
}

struct Supervisor {
    host: Host,
    devices: Arc<dyn Devices>,
    vm: Arc<Vm>,
    paths: Paths,
    out: mpsc::Sender<VmView>,
    view: watch::Sender<VmView>,
    /// The way to speak to QEMU, for the handles.
    line: watch::Sender<Option<Qmp>>,
    /// Held for writing by whoever works on its disks.
    work: Arc<RwLock<()>>,
    /// Held from the moment a start is granted until it has ended.
    busy: Option<OwnedRwLockReadGuard<()>>,
    asked: mpsc::Receiver<Asked>,
    /// All handles are gone.
    deaf: bool,
    /// Why it cannot be started, whatever it does now.
    bar: Option<Bar>,
    life: Life,
    step: String,
    since: Timestamp,
    record: Option<Record>,
    starters: Vec<Asker>,
    stoppers: Vec<Asker>,
    movers: Vec<Asker>,
    starts: Arc<Semaphore>,
    /// Why the start that is under way was begun.
    begun: &'static str,
    again: Again,
    /// The guest's agent, if it is to have one.
    agent: Option<Agent>,
    /// What it has said in this run.
    told: Told,
    /// What the host does for VMs, and for this one now.
    rooms: Rooms,
    performance: Option<PerformanceView>,
    /// The machine type that this start keeps for all later ones.
    machine: Option<String>,
    /// Nobody wanted the end that is under way.
    doomed: bool,
    /// What went wrong on the way down and stopped nothing.
    warnings: Vec<String>,
}

impl Supervisor {
    async fn run(self) {
        let logs = keep_bounded(self.host.clone(), self.vm.name.clone());
        tokio::select! {
            () = self.rounds() => {}
            () = logs => {}
        }
    }

    async fn rounds(mut self) {
        // The first view goes out even though nothing has changed.
        let first = self.view.borrow().clone();
        let _ = self.out.send(first).await;
        let mut at = self.adopt().await;
        loop {
            at = match at {
                At::Rest => self.rest().await,
                At::Start => self.start_up().await,
                At::Live(live) => self.live(live).await,
                At::Stop(live, order) => self.stop(live, order).await,
                At::Quit(live, why) => self.quit(live, why).await,
                At::Kill(live, why) => self.kill(live, why).await,
                At::Stuck(live) => self.stuck(live).await,
                At::Clean(why) => self.clean(why).await,
                At::Retry => self.retry().await,
                At::Leave => return,
            };
        }
    }

    /// Nothing runs: waits for a request.
    async fn rest(&mut self) -> At {
        let life = barred::at_rest(self.bar.as_ref(), self.life.clone());
        if life != self.life {
            (self.life, self.since) = (life, self.host.clock.now());
            self.publish().await;
        }
        loop {
            let due = self.again.due;
            let asked = tokio::select! {
                asked = self.asked.recv() => asked,
                () = until(due) => {
                    if self.take_disks().is_err() {
                        self.again.due = Some(Instant::now() + DISKS_BUSY);
                        continue;
                    }
                    self.again.due = None;
                    if self.may_start_again().await {
                        self.begun = AFTER_CRASH;
                        return At::Start;
                    }
                    self.busy = None;
                    continue;
                }
            };
            let Some(asked) = asked else { return At::Leave };
            if matches!(asked.request, Request::Stop { .. } | Request::Kill)
                && self.again.due.take().is_some()
            {
                let more = "not started again, on request".to_owned();
                self.observe(Observation::Remark { more }).await;
                let message = format!("`{}` stays down and is not started again", self.vm.name);
                let done = DoneView { changed: true, message, warnings: Vec::new() };
                // The asker may have left.
                let _ = asked.answer.send(Ok(done));
                continue;
            }
            let why = asked.why;
            match self.hear(asked) {
                None => {}
                Some(Action::Start) => match self.ready().await {
                    Ok(()) => {
                        (self.begun, self.again.due) = (why, None);
                        return At::Start;
                    }
                    Err(refusal) => self.started(&Err(refusal)),
                },
                Some(Action::CleanUp) => return At::Retry,
                Some(action) => self.misplaced(action),
            }
        }
    }

    /// Whether it can be started; its disks are ours from then on.
    async fn ready(&mut self) -> Result<(), Refusal> {
        self.take_disks()?;
        match self.preflight().await {
            None => Ok(()),
            Some(refusal) => {
                self.busy = None;
                Err(refusal)
            }
        }
    }

    /// What stands against a start, all of it at once; nothing is touched. Away
    /// from the runtime's threads: a disk on a suspended pool does not even let
    /// itself be opened.
    async fn preflight(&mut self) -> Option<Refusal> {
        let (host, vm) = (self.host.clone(), Arc::clone(&self.vm));
        let mut known = Known::default();
        // The programs of a machine that is made of values are not run.
        if host.sys.is_real() {
            known.qemu = Some(qemu::capabilities(&host, &vm.qemu).await);
        }
        known.functions = self.devices.functions(&vm).await;
        let check = tokio::task::spawn_blocking(move || plan::plan(&host, &vm, &known));
        let failed = |why: &str| {
            let message = format!("`{}` cannot start: {why}", self.vm.name);
            let hint = "look at the pool or the network that its disks are on";
            Some(Refusal::new(Code::Refused, message, hint))
        };
        let planned = match tokio::time::timeout(PREFLIGHT, check).await {
            Ok(Ok(Ok(planned))) => planned,
            Ok(Ok(Err(refusal))) => return Some(refusal),
            Ok(Err(_)) => return failed("its files could not be looked at"),
            Err(_) => return failed("its files do not answer: a disk hangs in the kernel"),
        };
        self.machine = planned.steps.iter().find_map(|step| match step {
            Step::Machine(machine) => Some(machine.clone()),
            _ => None,
        });
        super::preflight::refusal(&self.vm, &planned.problems)
    }

    /// Judges a request. What needs an outcome is put with those who wait for
    /// it; what is to be done is returned.
    fn hear(&mut self, asked: Asked) -> Option<Action> {
        let name = &self.vm.name;
        let Asked { request, answer, why: _ } = asked;
        let verdict = self.life.judge(request);
        debug!(vm = %name, ?request, ?verdict, "asked");
        let (outcome, action) = match verdict {
            Verdict::AlreadySo(how) => {
                let message = format!("`{name}` {how}");
                (Some(Ok(DoneView { changed: false, message, warnings: Vec::new() })), None)
            }
            Verdict::Deny { why, hint } => {
                let message = format!("`{name}`: {why}");
                (Some(Err(Refusal::new(Code::Refused, message, hint))), None)
            }
            Verdict::UnderWay => (None, None),
            Verdict::Accept(action) => (None, Some(action)),
        };
        let askers = match request {
            Request::Start => &mut self.starters,
            Request::Stop { .. } | Request::Kill | Request::Hibernate => &mut self.stoppers,
            Request::Pause | Request::Resume | Request::Reset => &mut self.movers,
        };
        let outcome = match outcome {
            None if askers.len() < ASKERS => {
                askers.push(Asker { answer, first: askers.is_empty() });
                return action;
            }
            None => {
                let message = format!("`{name}`: too many are waiting for the same");
                Err(Refusal::new(Code::Refused, message, "ask again later"))
            }
            Some(outcome) => outcome,
        };
        // The asker may have left.
        let _ = answer.send(outcome);
        action
    }

    /// An action that the state should not have let through here.
    fn misplaced(&mut self, action: Action) {
        let message = format!("`{}`: {action:?} makes no sense now", self.vm.name);
        let refusal = Err(Refusal::new(Code::Failed, message, "ask again"));
        match action {
            Action::Start => self.started(&refusal),
            Action::Cancel
            | Action::Shutdown { .. }
            | Action::Force
            | Action::Kill
            | Action::CleanUp
            | Action::Hibernate => self.stopped(&refusal),
            Action::Pause | Action::Resume | Action::Reset => self.moved(&refusal),
        }
    }

    /// Answers those who wait for the start.
    fn started(&mut self, outcome: &Outcome) {
        answer(&mut self.starters, outcome);
    }

    /// Answers those who wait for the stop.
    fn stopped(&mut self, outcome: &Outcome) {
        answer(&mut self.stoppers, outcome);
    }

    /// Answers those who wait for something that the guest survives.
    fn moved(&mut self, outcome: &Outcome) {
        answer(&mut self.movers, outcome);
    }

    /// Takes in what was seen, and tells it.
    async fn observe(&mut self, seen: Observation) {
        let before = self.life.state;
        if !self.life.observe(seen) {
            return;
        }
        if self.life.state != before {
            self.since = self.host.clock.now();
            let (from, to) = (before.as_str(), self.life.state.as_str());
            info!(vm = %self.vm.name, from, to, reason = self.life.reason, "state");
        }
        self.publish().await;
    }

    /// Says what is being done; empty when at rest.
    async fn step(&mut self, words: impl Into<String>) {
        self.step = words.into();
        self.publish().await;
    }

    async fn publish(&mut self) {
        let view = VmView {
            name: self.vm.name.clone(),
            state: self.life.state,
            since: self.since,
            reason: barred::reason(self.bar.as_ref(), &self.life.reason),
            pid: self.record.as_ref().and_then(|record| record.process).map(|process| process.pid),
            devices: self.record.iter().flat_map(Record::lent).collect(),
            step: self.step.clone(),
            responsive: !self.life.silent && self.told.alive != Some(false),
            held: self.life.held,
            agent: self.told.alive,
            guest: self.told.guest.clone(),
            performance: self.performance.clone(),
            stats: None,
        };
        if self.view.send_if_modified(|old| {
            let changed = *old != view;
            old.clone_from(&view);
            changed
        }) {
            // Nobody may be listening any more.
            let _ = self.out.send(view).await;
        }
    }
}

/// Resolves at a moment, if there is one.
async fn until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn answer(askers: &mut Vec<Asker>, outcome: &Outcome) {
    for Asker { answer, first } in askers.drain(..) {
        let outcome =
            outcome.clone().map(|done| DoneView { changed: done.changed && first, ..done });
        // The asker may have left.
        let _ = answer.send(outcome);
    }
}

/// Whole seconds where it is so: `60s`, `1.5s`.
fn seconds(span: Duration) -> String {
    format!("{}s", span.as_secs_f64())
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

//! The phases of a start. Each is a type that can only be had from the one
//! before, and knows how to undo itself and everything before it:
//!
//! ```text
//! Prepared ──lend──▶ Lent ──launch──▶ Launched ──run──▶ Live
//!    ▲ undo           ▲ undo            ▲ undo
//!    └────────────────┴─────────────────┴── any failure, or a stop
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::live::{ANSWER, Live};
use super::{Outcome, Supervisor};
use crate::ask::view::DoneView;
use crate::ask::{Code, Refusal};
use crate::base::{Name, with_sources};
use crate::config::{Firmware, GpuRef};
use crate::host::Host;
use crate::host::process::Signal;
use crate::host::run::{Exit, Started};
use crate::vm::argv::{Facts, Start, argv};
use crate::vm::devices;
use crate::vm::identity::{self, Identity, Uuid};
use crate::vm::last_good;
use crate::vm::launch;
use crate::vm::lifecycle::Observation;
use crate::vm::paths;
use crate::vm::plan::Step;
use crate::vm::process::{Held, hold, identify};
use crate::vm::qmp::wire::{self, RunState};
use crate::vm::qmp::{Qmp, QmpError};
use crate::vm::record::{Phase, Record};
use crate::vm::snapshot;

/// How long QEMU may take to answer: it locks the guest's memory first.
const COME_UP: Duration = Duration::from_secs(60);
/// How long an ended start's QEMU may take to go; its guest has never run.
pub(super) const UNDO: Duration = Duration::from_secs(10);

/// The files are laid out; nothing else was touched.
pub(super) struct Prepared {
    identity: Identity,
    token: Uuid,
}

/// The card is ours, if the VM has one.
pub(super) struct Lent {
    before: Prepared,
    card: devices::Lent,
}

/// QEMU runs, its guest does not.
pub(super) struct Launched {
    live: Live,
    warnings: Vec<String>,
}

/// Why a start does not go on.
pub(super) enum Why {
    Failed(Refusal),
    /// Somebody wants it stopped.
    Cancelled,
}

impl Why {
    fn words(&self) -> Option<String> {
        match self {
            Self::Failed(refusal) => Some(refusal.message.clone()),
            Self::Cancelled => None,
        }
    }
}

/// A start that did not go on, after its undoing.
pub(super) struct Setback {
    pub why: Why,
    /// What could not be undone.
    pub left: Option<String>,
    /// A process that does not end.
    pub stuck: Option<Live>,
}

fn failed(vm: &Name, message: impl std::fmt::Display, hint: &str) -> Why {
    let message = format!("`{vm}` could not be started: {message}");
    Why::Failed(Refusal::new(Code::Failed, message, hint))
}

/// Notes the start and makes room for its files; the note, the VM's identity,
/// and whether it has firmware variables of its own.
fn lay_out(
    host: &Host,
    vm: &Name,
    gpu: Option<&GpuRef>,
) -> Result<(Record, Identity, bool), Box<dyn std::error::Error + Send + Sync>> {
    let record = Record::begin(Uuid::random(&host.sys)?, gpu);
    record.write(host, vm)?;
    let file = |file| paths::name(vm, file);
    for old in [paths::QMP, paths::PIDFILE, paths::FIRMWARE_LOG, paths::SERIAL, paths::SERIAL_LOG] {
        host.runtime.remove(file(old))?;
    }
    host.runtime.rename(file(paths::LOG), file(paths::OLD_LOG))?;
    let identity = identity::ensure(host, vm)?;
    Ok((record, identity, paths::has_vars(host, vm)))
}

impl Prepared {
    pub async fn new(sup: &mut Supervisor) -> Result<Self, Setback> {
        let folder = sup.paths.qmp.parent().unwrap_or(Path::new("/")).to_owned();
        sup.step(Step::Folder(folder).to_string()).await;
        match Self::lay_out(sup).await {
            Ok(prepared) => Ok(prepared),
            // What was laid out is removed with the note; the rest is kept on purpose.
            Err(why) => Err(undo(sup, why, false).await),
        }
    }

    async fn lay_out(sup: &mut Supervisor) -> Result<Self, Why> {
        let name = sup.vm.name.clone();
        let gpu = sup.vm.gpu.clone();
        let laid = sup.with_files(move |host, vm| lay_out(host, vm, gpu.as_ref())).await;
        let (record, identity, own_vars) = match laid {
            Ok(Ok(laid)) => laid,
            Ok(Err(error)) => return Err(failed(&name, with_sources(&*error), "")),
            Err(refusal) => return Err(Why::Failed(refusal)),
        };
        let token = record.token;
        sup.record = Some(record);
        let identity = match sup.machine.take() {
            None => identity,
            Some(machine) => {
                sup.step(Step::Machine(machine.clone()).to_string()).await;
                let kept =
                    sup.with_files(move |host, vm| identity::pin_machine(host, vm, &machine));
                let kept = kept.await.map_err(Why::Failed)?;
                kept.map_err(|error| failed(&name, with_sources(&error), "look for free space"))?
            }
        };
        if let Err(refusal) = sup.before_start().await {
            return Err(Why::Failed(refusal));
        }
        if sup.cancelled() {
            return Err(Why::Cancelled);
        }
        if sup.vm.snapshots.before_start {
            sup.step(Step::Snapshot { keep: sup.vm.snapshots.keep }.to_string()).await;
            let (host, vm) = (sup.host.clone(), Arc::clone(&sup.vm));
            let made = sup.hearing(async move { snapshot::before_start(&host, &vm).await }).await;
            sup.warnings = made.map_err(Why::Failed)?.map(|made| made.warnings).unwrap_or_default();
            if sup.cancelled() {
                return Err(Why::Cancelled);
            }
        }
        match sup.vm.firmware.clone() {
            Firmware::Ovmf { vars, .. } if !own_vars => {
                let step = Step::Variables { from: vars.clone(), to: sup.paths.vars.clone() };
                sup.step(step.to_string()).await;
                let copy = sup.with_files(move |host, vm| {
                    host.state.copy_in(paths::name(vm, paths::VARS), &host.sys.path(vars))
                });
                let copied = sup.hearing(copy).await.map_err(Why::Failed)?;
                copied
                    .map_err(|error| failed(&name, with_sources(&error), "look for free space"))?;
            }
            Firmware::Ovmf { .. } | Firmware::Seabios { .. } => {}
        }
        Ok(Self { identity, token })
    }

    pub async fn lend(self, sup: &mut Supervisor) -> Result<Lent, Setback> {
        if let Err(refusal) = sup.make_memory().await {
            return Err(undo(sup, Why::Failed(refusal), false).await);
        }
        if sup.cancelled() {
            return Err(undo(sup, Why::Cancelled, false).await);
        }
        let lent = match sup.vm.gpu.clone() {
            None => Lent { before: self, card: devices::Lent::default() },
            Some(gpu) => self.lend_card(sup, gpu).await?,
        };
        lent.lend_nvme(sup).await
    }

    async fn lend_card(self, sup: &mut Supervisor, gpu: GpuRef) -> Result<Lent, Setback> {
        sup.step(Step::Bind(gpu.clone()).to_string()).await;
        if let Err(refusal) = sup.note(Phase::Binding).await {
            return Err(undo(sup, Why::Failed(refusal), false).await);
        }
        let (room, name) = (sup.devices.clone(), sup.vm.name.clone());
        let options = sup.vm.gpu_options.clone();
        // Not given up half-way: the room that binds has its own deadlines.
        let lent = match sup.hearing(room.lend(&gpu, &name, &options)).await {
            Ok(lent) => lent,
            // Nothing was touched, or everything was put back.
            Err(refusal) => return Err(undo(sup, Why::Failed(refusal), false).await),
        };
        if let Some(record) = &mut sup.record {
            record.devices.clone_from(&lent.functions);
        }
        let lent = Lent { before: self, card: lent };
        if let Err(refusal) = sup.note(Phase::Binding).await {
            return Err(lent.undo(sup, Why::Failed(refusal)).await);
        }
        sup.publish().await;
        if sup.cancelled() { Err(lent.undo(sup, Why::Cancelled).await) } else { Ok(lent) }
    }
}

impl Lent {
    /// NVMe controllers leave the host as cards do.
    async fn lend_nvme(mut self, sup: &mut Supervisor) -> Result<Self, Setback> {
        for address in sup.vm.nvme.iter().map(|nvme| nvme.address).collect::<Vec<_>>() {
            sup.step(Step::BindNvme(address).to_string()).await;
            if let Some(record) = &mut sup.record {
                record.nvme.push(address);
            }
            if let Err(refusal) = sup.note(Phase::Binding).await {
                return Err(self.undo(sup, Why::Failed(refusal)).await);
            }
            let (room, name) = (sup.devices.clone(), sup.vm.name.clone());
            match sup.hearing(room.lend_nvme(address, &name)).await {
                Ok(lent) => self.card.warnings.extend(lent.warnings),
                Err(refusal) => return Err(self.undo(sup, Why::Failed(refusal)).await),
            }
            sup.publish().await;
            if sup.cancelled() {
                return Err(self.undo(sup, Why::Cancelled).await);
            }
        }
        Ok(self)
    }

    async fn undo(self, sup: &mut Supervisor, why: Why) -> Setback {
        undo(sup, why, true).await
    }

    pub async fn launch(self, sup: &mut Supervisor) -> Result<Launched, Setback> {
        sup.step(Step::Launch { qemu: sup.vm.qemu.clone() }.to_string()).await;
        if let Err(refusal) = sup.note(Phase::Launching).await {
            return Err(self.undo(sup, Why::Failed(refusal)).await);
        }
        let token = self.before.token;
        let (vm, warnings) = match sup.make_room(&self.card.functions).await {
            Ok(ready) => ready,
            Err(refusal) => return Err(self.undo(sup, Why::Failed(refusal)).await),
        };
        let vm = Arc::new(vm);
        let shown = Arc::clone(&vm);
        let facts = match sup.with_files(move |host, _| Facts::read(host, &shown)).await {
            Ok(facts) => facts,
            Err(refusal) => return Err(self.undo(sup, Why::Failed(refusal)).await),
        };
        let start =
            Start { identity: &self.before.identity, token, card: &self.card, facts: &facts };
        let args = argv(&vm, &sup.paths, &start);
        let begun = launch::start(&sup.host, &vm, &self.card.functions, args).await;
        let (mut started, more) = match begun {
            Ok(begun) => (begun.started, begun.warnings),
            Err(refusal) => {
                let why = failed(&sup.vm.name, refusal.message, &refusal.hint);
                return Err(self.undo(sup, why).await);
            }
        };
        let held = match recognise(&sup.host, &mut started, token).await {
            Recognised::Held(held) => held,
            Recognised::Ended(exit) => {
                let why = sup.died(exit).await;
                return Err(self.undo(sup, why).await);
            }
            Recognised::Not(why) => {
                // The note stays, so that another try finds it by its token.
                let why = failed(&sup.vm.name, format!("QEMU cannot be watched: {why}"), "");
                let left = Some(format!("QEMU (pid {}) is still there", started.pid));
                return Err(Setback { why, left, stuck: None });
            }
        };
        if let Some(record) = &mut sup.record {
            record.process = Some(held.id);
        }
        let live = Live::new(held, token, Some(started.ended));
        let before = std::mem::take(&mut sup.warnings);
        let warnings =
            before.into_iter().chain(warnings).chain(more).chain(self.card.warnings).collect();
        let launched = Launched { live, warnings };
        if let Err(refusal) = sup.note(Phase::Launched).await {
            return Err(launched.undo(sup, Why::Failed(refusal)).await);
        }
        sup.observe(Observation::Launched).await;
        Ok(launched)
    }
}

impl Launched {
    /// Ends QEMU, at once: its guest has not run and has nothing to lose.
    async fn undo(mut self, sup: &mut Supervisor, why: Why) -> Setback {
        sup.step("undoing the start").await;
        sup.note_if_possible(Phase::Undoing { why: why.words() }).await;
        // That it has ended is noticed next.
        let _ = self.live.body.held.process.signal(Signal::Kill);
        if timeout(UNDO, self.live.body.ended()).await.is_err() {
            let left = format!("QEMU (pid {}) does not end", self.live.body.held.id.pid);
            return Setback { why, left: Some(left), stuck: Some(self.live) };
        }
        if let Some(record) = &mut sup.record {
            record.process = None;
        }
        undo(sup, why, true).await
    }

    /// Speaks to QEMU and lets the guest run.
    pub async fn run(mut self, sup: &mut Supervisor) -> Result<(Live, Outcome), Setback> {
        sup.step(Step::Connect(sup.paths.qmp.clone()).to_string()).await;
        let (host, socket) = (sup.host.clone(), sup.paths.qmp.clone());
        let up = sup.unless_cancelled(come_up(&mut self.live, &host, &socket)).await;
        let qmp = match up {
            None => return Err(self.undo(sup, Why::Cancelled).await),
            Some(Ok(qmp)) => qmp,
            Some(Err(NotUp::Died(exit))) => {
                let why = sup.died(exit).await;
                return Err(self.undo(sup, why).await);
            }
            Some(Err(NotUp::Silent(error))) => {
                let hint = "`hostctl vm log` shows what it said";
                let why = failed(&sup.vm.name, with_sources(&error), hint);
                return Err(self.undo(sup, why).await);
            }
        };
        self.warnings.extend(sup.pin(&qmp).await);
        // Before the guest runs: from here on it has something to lose.
        if let Err(refusal) = sup.note(Phase::Running).await {
            return Err(self.undo(sup, Why::Failed(refusal)).await);
        }
        sup.step(Step::Run.to_string()).await;
        if sup.cancelled() {
            return Err(self.undo(sup, Why::Cancelled).await);
        }
        let state = match qmp.ask(wire::Command::Cont, ANSWER).await {
            Ok(_) => qmp.status(ANSWER).await,
            Err(error) => Err(error),
        };
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                let died = timeout(ANSWER, self.live.body.ended()).await;
                let why = match died {
                    Ok(exit) => sup.died(exit).await,
                    Err(_) => failed(
                        &sup.vm.name,
                        with_sources(&error),
                        "`hostctl vm log` shows what it said",
                    ),
                };
                return Err(self.undo(sup, why).await);
            }
        };
        sup.step.clear();
        let (name, pid) = (sup.vm.name.clone(), self.live.body.held.id.pid);
        let outcome = if state == RunState::Running {
            let why = format!("started {}", sup.begun);
            sup.observe(Observation::Runs { why }).await;
            let devices = sup.record.as_ref().map(|record| record.devices.clone());
            let (functions, version) = (devices.unwrap_or_default(), qmp.greeting().version);
            sup.keep_in_mind(move |host, vm| last_good::ran(host, vm, &functions, version));
            let message = format!("`{name}` runs (QEMU's pid is {pid})");
            Ok(DoneView { changed: true, message, warnings: self.warnings })
        } else {
            let seen = self.live.talk.judge(state);
            sup.observe(seen).await;
            let message = format!("`{name}` was started, but halted: {}", sup.life.reason);
            Err(Refusal::new(Code::Failed, message, "`hostctl vm status` shows when it runs"))
        };
        Ok((self.live, outcome))
    }
}

impl Supervisor {
    /// QEMU ended by itself during the start: its last words say why.
    async fn died(&self, exit: Exit) -> Why {
        let said = self.last_words().await;
        let said = if said.is_empty() { String::new() } else { format!(":\n{said}") };
        failed(
            &self.vm.name,
            format!("QEMU ended at once ({exit}){said}"),
            "`hostctl vm log` has the rest",
        )
    }
}

enum Recognised {
    Held(Held),
    Ended(Exit),
    Not(String),
}

/// Takes hold of a child. It is ours for sure, and yet its command line is
/// empty for a moment while the kernel makes it QEMU.
async fn recognise(host: &Host, started: &mut Started, token: Uuid) -> Recognised {
    let until = Instant::now() + ANSWER;
    loop {
        let found = identify(&host.sys, started.pid).map(|id| hold(host, id, token)).transpose();
        match found {
            Ok(Some(Some(held))) => return Recognised::Held(held),
            Ok(Some(None) | None) if Instant::now() < until => {}
            Ok(Some(None) | None) => {
                return Recognised::Not("it does not look like QEMU".to_owned());
            }
            Err(error) => return Recognised::Not(error.to_string()),
        }
        tokio::select! {
            exit = &mut started.ended => return Recognised::Ended(exit.unwrap_or(Exit::Unknown)),
            () = sleep(Duration::from_millis(1)) => {}
        }
    }
}

enum NotUp {
    Died(Exit),
    Silent(QmpError),
}

/// Dials until QEMU answers, ends, or has had its time.
async fn come_up(live: &mut Live, host: &Host, socket: &Path) -> Result<Qmp, NotUp> {
    let until = Instant::now() + COME_UP;
    let mut pause = Duration::from_millis(2);
    let Live { body, talk } = live;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        tokio::select! {
            exit = body.ended() => return Err(NotUp::Died(exit)),
            up = talk.connect(&*host.dial, socket, left.max(ANSWER)) => match up {
                Ok(qmp) => return Ok(qmp),
                // It has not made its socket yet.
                Err(QmpError::Dial { .. }) if Instant::now() < until => {}
                // It may be ending: then its end says more.
                Err(error) => match timeout(Duration::from_millis(500), body.ended()).await {
                    Ok(exit) => return Err(NotUp::Died(exit)),
                    Err(_) => return Err(NotUp::Silent(error)),
                },
            },
        }
        tokio::select! {
            exit = body.ended() => return Err(NotUp::Died(exit)),
            () = sleep(pause) => pause = (pause * 2).min(Duration::from_millis(20)),
        }
    }
}

/// Undoes what lies before QEMU: the card if it was lent, files and note.
pub(super) async fn undo_all(
    sup: &mut Supervisor,
    why: Option<String>,
    lent: bool,
) -> Option<String> {
    sup.note_if_possible(Phase::Undoing { why }).await;
    if !lent && let Some(record) = &mut sup.record {
        (record.gpu, record.devices) = (None, Vec::new());
    }
    sup.give_back().await.err().map(|refusal| refusal.message)
}

async fn undo(sup: &mut Supervisor, why: Why, lent: bool) -> Setback {
    let left = undo_all(sup, why.words(), lent).await;
    Setback { why, left, stuck: None }
}

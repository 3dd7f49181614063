//! The way down: guest agent, power button, quit, signals, and giving back what the VM had.

use crate::base::with_sources;
use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use super::guest::Told;
use super::live::{ANSWER, Live, News};
use super::{At, Supervisor, seconds};
use crate::ask::view::{DoneView, VmState};
use crate::ask::{Code, Refusal};
use crate::config::{AfterDeadline, GpuRef, Vm};
use crate::host::process::Signal;
use crate::host::run::Exit;
use crate::vm::agent::Agent;
use crate::vm::agent::wire::Power;
use crate::vm::lifecycle::{Action, Observation};
use crate::vm::qmp::wire::{Command, RunState};
use crate::vm::record::Phase;

/// How long QEMU may take to end after `quit`: it writes its caches out.
const QUIT: Duration = Duration::from_secs(10);
/// How long after SIGTERM, which is another way to say quit.
const TERM: Duration = Duration::from_secs(5);
/// How long after SIGKILL, when the kernel takes its memory and devices apart.
const KILL: Duration = Duration::from_secs(10);

/// The step between the end of QEMU and rest.
pub(super) const CLEANING: &str = "cleaning up";

/// How long a guest that was asked through its agent has before the power
/// button is pressed as well, at most: agents lie.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a guest is to be stopped.
pub(super) struct Order {
    /// How long it has.
    left: Duration,
    /// Quit then, whatever the VM's file says.
    force: bool,
    /// It is to keep what is in its memory.
    hibernate: bool,
}

impl Order {
    /// With the whole time that the VM's file gives.
    pub fn new(vm: &Vm, force: bool) -> Self {
        Self::with(vm.stop.deadline, force)
    }

    /// With some time left.
    pub fn with(left: Duration, force: bool) -> Self {
        Self { left, force, hibernate: false }
    }

    /// To hibernate: nobody takes its power away when it does not.
    pub fn hibernate(vm: &Vm) -> Self {
        Self { hibernate: true, ..Self::new(vm, false) }
    }
}

/// How waiting for the end of a process ended.
enum Waited {
    Ended(Exit),
    Late,
    /// Somebody has asked for a harder way.
    Kill,
}

impl Supervisor {
    /// Asks the guest to go, through its agent and by its power button, and
    /// gives it its time.
    pub(super) async fn stop(&mut self, mut live: Live, order: Order) -> At {
        let Order { left, mut force, hibernate } = order;
        let given = seconds(self.vm.stop.deadline);
        let deadline = self.host.clock.now().plus(left);
        let until = Instant::now() + left;
        if self.life.held {
            // One that stands still hears nothing.
            let _ = tell(&live, Command::Cont).await;
        }
        if !hibernate {
            self.note_if_possible(Phase::Stopping { deadline, force }).await;
        }
        let why = if hibernate { "asked to hibernate" } else { "asked to shut down" };
        self.observe(Observation::StopBegun { why: why.to_owned() }).await;
        let mut asking = self.agent.clone().map(|agent| Box::pin(ask(agent, hibernate)));
        // When the power button's turn has come.
        let mut button = asking.is_none().then(Instant::now);
        if asking.is_some() {
            self.step(format!("asking the guest agent; the guest has {given}")).await;
        }
        let mut ignored = format!("the guest agent has not answered within {given}");
        let (dial, socket) = (self.host.dial.clone(), self.paths.qmp.clone());
        loop {
            tokio::select! {
                biased;
                asked = self.asked.recv() => {
                    let Some(asked) = asked else { return At::Leave };
                    match self.hear(asked) {
                        None => {}
                        Some(Action::Force) => {
                            force = true;
                            self.note_if_possible(Phase::Stopping { deadline, force }).await;
                        }
                        Some(Action::Kill) => return At::Kill(live, "killed on request".to_owned()),
                        Some(action) => self.misplaced(action),
                    }
                }
                exit = live.body.ended() => {
                    let why = if hibernate { "the guest hibernates" } else { "the guest shut down" };
                    return self.gone(live, exit, Some(&format!("{why} on request"))).await;
                }
                () = sleep_until(until) => break,
                answer = or_never(asking.as_mut()) => {
                    asking = None;
                    match answer {
                        Err(why) if hibernate => {
                            return self.ignored(live, format!("it cannot hibernate: {why}")).await;
                        }
                        Err(why) => {
                            warn!(vm = %self.vm.name, "{why}; pressing the power button instead");
                            button = Some(Instant::now());
                        }
                        Ok(()) => {
                            ignored = format!(
                                "its agent has taken the request, and the guest is still there \
                                 after {given}"
                            );
                            let patience = PATIENCE.min(left / 2);
                            button = (!hibernate).then(|| Instant::now() + patience);
                        }
                    }
                }
                () = super::until(button) => {
                    button = None;
                    self.step(format!("pressing the power button; the guest has {given}")).await;
                    ignored = match tell(&live, Command::SystemPowerdown).await {
                        Ok(()) => {
                            format!("the guest did not react to the power button within {given}")
                        }
                        Err(why) => {
                            format!("the power button could not be pressed within {given}: {why}")
                        }
                    };
                }
                // Last: there may be a flood of them.
                news = live.talk.news(&*dial, &socket) => match news {
                    News::Event(event) => {
                        live.talk.heard(event);
                    }
                    News::Back if asking.is_none() && !hibernate => {
                        button = Some(button.unwrap_or_else(Instant::now));
                    }
                    News::Back | News::Lost(_) | News::Still(_) => {}
                },
            }
        }
        match (hibernate, force, self.vm.stop.then) {
            (false, true, _) | (false, false, AfterDeadline::Quit) => {
                At::Quit(live, format!("{ignored}, so QEMU was ended"))
            }
            (true, _, _) | (false, false, AfterDeadline::Ask) => self.ignored(live, ignored).await,
        }
    }

    /// The guest stays, and whoever asked is told so.
    async fn ignored(&mut self, live: Live, why: String) -> At {
        let state = match live.talk.qmp() {
            Some(qmp) => qmp.status(ANSWER).await.ok(),
            None => None,
        };
        self.note_if_possible(Phase::Running).await;
        let runs = state == Some(RunState::Running);
        self.observe(Observation::StopIgnored { runs, why: why.clone() }).await;
        let message = format!("`{}` stays: {why}", self.vm.name);
        let hint = format!(
            "shut it down from inside, or `hostctl vm stop {} --force` to quit it after its time",
            self.vm.name
        );
        self.stopped(&Err(Refusal::new(Code::Refused, message, hint)));
        At::Live(live)
    }

    /// Ends QEMU in good order if it can: it writes its caches out.
    pub(super) async fn quit(&mut self, mut live: Live, why: String) -> At {
        self.note_if_possible(Phase::Quitting).await;
        self.observe(Observation::StopBegun { why: why.clone() }).await;
        if let Some(qmp) = live.talk.qmp().cloned() {
            self.step("telling QEMU to quit").await;
            match qmp.ask(Command::Quit, ANSWER).await {
                Err(error) => warn!(vm = %self.vm.name, "{}", with_sources(&error)),
                Ok(_) => match self.wait(&mut live, QUIT).await {
                    Waited::Ended(exit) => return self.gone(live, exit, None).await,
                    Waited::Kill => return At::Kill(live, "killed on request".to_owned()),
                    Waited::Late => {}
                },
            }
        }
        self.step("telling QEMU to end by SIGTERM").await;
        self.signal(&live, Signal::Term);
        match self.wait(&mut live, TERM).await {
            Waited::Ended(exit) => self.gone(live, exit, None).await,
            Waited::Kill => At::Kill(live, "killed on request".to_owned()),
            Waited::Late => At::Kill(live, why),
        }
    }

    /// Ends QEMU.
    pub(super) async fn kill(&mut self, mut live: Live, why: String) -> At {
        self.note_if_possible(Phase::Quitting).await;
        self.observe(Observation::StopBegun { why }).await;
        self.step("ending QEMU by SIGKILL").await;
        self.signal(&live, Signal::Kill);
        match timeout(KILL, live.body.ended()).await {
            Ok(exit) => self.gone(live, exit, None).await,
            Err(_) => At::Stuck(live),
        }
    }

    /// QEMU hangs in the kernel: its card cannot be given back. Waits for its
    /// end, and tries again when asked.
    pub(super) async fn stuck(&mut self, mut live: Live) -> At {
        let pid = live.body.held.id.pid;
        let why =
            format!("QEMU (pid {pid}) does not end, not even by SIGKILL: it hangs in the kernel");
        self.step("").await;
        self.observe(Observation::NotCleanedUp { why: why.clone() }).await;
        let message = format!("`{}`: {why}", self.vm.name);
        let hint = "it keeps its devices until it ends; look into the kernel's log, or reboot";
        let refusal = Err(Refusal::new(Code::Failed, message, hint));
        self.started(&refusal);
        self.stopped(&refusal);
        loop {
            tokio::select! {
                exit = live.body.ended() => return self.gone(live, exit, None).await,
                asked = self.asked.recv() => {
                    let Some(asked) = asked else { return At::Leave };
                    match self.hear(asked) {
                        None => {}
                        Some(Action::CleanUp) => {
                            self.signal(&live, Signal::Kill);
                            match timeout(ANSWER, live.body.ended()).await {
                                Ok(exit) => return self.gone(live, exit, None).await,
                                Err(_) => self.stopped(&refusal),
                            }
                        }
                        Some(action) => self.misplaced(action),
                    }
                }
            }
        }
    }

    /// QEMU has ended, after a stop because of `why`, or of what the stop was
    /// begun with.
    pub(super) async fn gone(&mut self, mut live: Live, exit: Exit, why: Option<&str>) -> At {
        let asked = self.life.state == VmState::Stopping;
        let begun = why.unwrap_or(&self.life.reason).to_owned();
        let end = live.end(exit).await;
        // Said together: as long as there is a step, it is not at rest.
        CLEANING.clone_into(&mut self.step);
        self.observe(Observation::Ended(end)).await;
        At::Clean(if asked { begun } else { self.life.reason.clone() })
    }

    /// Gives back what the VM had; QEMU is gone.
    pub(super) async fn clean(&mut self, why: String) -> At {
        self.step(CLEANING).await;
        let doomed = std::mem::take(&mut self.doomed);
        let crashed = self.life.state == VmState::Crashed || doomed;
        if let Some(record) = &mut self.record {
            record.process = None;
        }
        self.note_if_possible(Phase::Ended { crashed, why: why.clone() }).await;
        match self.give_back().await {
            Ok(()) => {
                self.step.clear();
                // Answered before it may be started again: whoever stopped it
                // was first.
                let wanted = !self.stoppers.is_empty();
                self.observe(Observation::CleanedUp { why: why.clone(), crashed: doomed }).await;
                self.publish().await;
                let message = format!("`{}` is off: {why}", self.vm.name);
                let warnings = std::mem::take(&mut self.warnings);
                self.stopped(&Ok(DoneView { changed: true, message, warnings }));
                if crashed && !doomed && !wanted {
                    self.crashed().await;
                }
            }
            Err(refusal) => {
                self.step.clear();
                let why = format!("QEMU has ended ({why}), but {}", refusal.message);
                self.observe(Observation::NotCleanedUp { why }).await;
                self.publish().await;
                self.stopped(&Err(refusal));
            }
        }
        At::Rest
    }

    /// Something is left over: ends and gives back what there is.
    pub(super) async fn retry(&mut self) -> At {
        match self.find_process().await {
            Err(refusal) => {
                self.stopped(&Err(refusal));
                At::Rest
            }
            Ok(Some(live)) => At::Kill(live, "cleaned up on request".to_owned()),
            Ok(None) => At::Clean("cleaned up on request".to_owned()),
        }
    }

    /// Gives the card back and removes the files of the run, the note last.
    pub(super) async fn give_back(&mut self) -> Result<(), Refusal> {
        // Before the card: its files go back to root, and not to its next user.
        crate::vm::launch::give_back(&self.host, &self.vm.name).await?;
        let nvme = self.record.iter().flat_map(|record| record.nvme.clone());
        for card in nvme.map(GpuRef::Address).collect::<Vec<_>>() {
            self.step("giving the NVMe controllers back").await;
            match self.devices.take_back(&card, &self.vm.name).await {
                Err(refusal) if refusal.code != Code::NotFound => return Err(refusal),
                Ok(()) | Err(_) => {}
            }
        }
        if let Some(card) = self.record.as_ref().and_then(super::Record::card) {
            self.step("giving the graphics card back").await;
            match self.devices.take_back(&card, &self.vm.name).await {
                Ok(()) => {}
                // A card that nobody knows was never lent.
                Err(refusal) if refusal.code == Code::NotFound => {
                    warn!(vm = %self.vm.name, "{}", refusal.message);
                }
                Err(refusal) => return Err(refusal),
            }
        }
        self.leave_room().await?;
        self.after_stop().await;
        self.remove_files().await?;
        self.told = Told::default();
        self.record = None;
        Ok(())
    }

    fn signal(&self, live: &Live, signal: Signal) {
        if let Err(error) = live.body.held.process.signal(signal) {
            // It has ended, most likely, and that is noticed next.
            warn!(vm = %self.vm.name, ?signal, "{error}");
        }
    }

    /// Waits for the end of QEMU, hearing requests.
    async fn wait(&mut self, live: &mut Live, within: Duration) -> Waited {
        let late = sleep(within);
        tokio::pin!(late);
        loop {
            tokio::select! {
                exit = live.body.ended() => return Waited::Ended(exit),
                () = &mut late => return Waited::Late,
                asked = self.asked.recv(), if !self.deaf => {
                    let Some(asked) = asked else {
                        self.deaf = true;
                        continue;
                    };
                    match self.hear(asked) {
                        // It is being forced already.
                        None | Some(Action::Force) => {}
                        Some(Action::Kill) => return Waited::Kill,
                        Some(action) => self.misplaced(action),
                    }
                }
            }
        }
    }
}

/// Tells QEMU something; why it could not be told, in words.
async fn tell(live: &Live, command: Command) -> Result<(), String> {
    let Some(qmp) = live.talk.qmp() else { return Err("QEMU does not answer".to_owned()) };
    qmp.ask(command, ANSWER).await.map(drop).map_err(|error| with_sources(&error))
}

/// Asks the guest's agent.
async fn ask(agent: Agent, hibernate: bool) -> Result<(), String> {
    let asked = if hibernate {
        agent.suspend_disk(ANSWER).await
    } else {
        agent.shutdown(Power::Down, ANSWER).await
    };
    asked.map_err(|error| with_sources(&error))
}

/// What comes of it, if there is anything.
async fn or_never<F: Future + Unpin>(work: Option<F>) -> F::Output {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

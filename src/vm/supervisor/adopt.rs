//! What an earlier hostd has left: its note says what may have been done, the
//! process table and QEMU itself say what is.
//!
//! | note | QEMU lives | QEMU is gone |
//! |---|---|---|
//! | none | adopted by its socket and token | off |
//! | preparing, binding, launching, launched | ended, start undone: failed | start undone: failed |
//! | running | adopted; a guest that never ran: as above | crashed, card given back |
//! | stopping | the stop goes on with the time left | off, card given back |
//! | quitting | quit again | off, card given back |
//! | ended | killed: cannot be | card given back |
//! | undoing | ended, undone | undone |
//! | damaged | adopted by its socket and token | failed, card given back |

use crate::base::with_sources;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::live::{ANSWER, Live, PARTING};
use super::phases::{UNDO, undo_all};
use super::stopping::{CLEANING, Order};
use super::{At, Supervisor};
use crate::ask::view::VmState;
use crate::ask::{Code, Refusal};
use crate::host::process::Signal;
use crate::host::run::Exit;
use crate::vm::identity::Uuid;
use crate::vm::lifecycle::{End, Life, Observation};
use crate::vm::process::{find, has_token, hold, token_of};
use crate::vm::qmp::wire::RunState;
use crate::vm::record::{Phase, Record, RecordError};

/// A child of a killed hostd may be just about to become QEMU.
const LOOKS: u32 = 4;
/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// The reason of what runs on.
const ADOPTED: &str = "adopted after a restart of hostd";

impl Supervisor {
    /// Takes over what is there.
    pub(super) async fn adopt(&mut self) -> At {
        let damaged = match Record::read(&self.host, &self.vm.name) {
            Ok(Some(record)) => {
                self.record = Some(record);
                None
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let found = match self.find_process().await {
            Ok(found) => found,
            Err(refusal) => {
                self.life = Life::at(VmState::Failed, "");
                self.observe(Observation::NotCleanedUp { why: refusal.message }).await;
                return At::Rest;
            }
        };
        let Some(phase) = self.record.as_ref().map(|record| record.phase.clone()) else {
            return self.nothing_noted(damaged).await;
        };
        if let Some(error) = damaged {
            warn!(vm = %self.vm.name, "{}; adopting by QEMU's command line", with_sources(&error));
        }
        self.life = Life::at(VmState::Starting, "hostd was restarted; looking for its QEMU");
        match found {
            Some(live) => self.adopt_live(live, phase).await,
            None => self.adopt_gone(phase).await,
        }
    }

    /// No note, no process.
    async fn nothing_noted(&mut self, damaged: Option<RecordError>) -> At {
        // A note may have been lost, with what the host did for it on record.
        if let Err(refusal) = self.leave_room().await {
            warn!(vm = %self.vm.name, "{}", refusal.message);
        }
        let Some(error) = damaged else { return At::Rest };
        // It may have been lent before; giving it back twice is fine.
        self.record = Some(Record::begin(Uuid::ZERO, self.vm.gpu.as_ref()));
        self.life = Life::at(VmState::Starting, "looking for what an earlier hostd has left");
        let why = format!("{}, and no QEMU of this VM runs", with_sources(&error));
        self.undone(why).await
    }

    /// Finds this VM's QEMU: the noted one, or by its token, or by its socket.
    pub(super) async fn find_process(&mut self) -> Result<Option<Live>, Refusal> {
        let fail = |error: &dyn std::error::Error| {
            let message =
                format!("QEMU of an earlier hostd cannot be looked for: {}", with_sources(error));
            Refusal::new(Code::Failed, message, "")
        };
        let sys = self.host.sys.clone();
        let Some(record) = &self.record else {
            let socket = self.paths.qmp.clone();
            let found = match find(&sys, |line| token_of(line, &socket)) {
                Err(error) if error.is_missing() => None,
                other => other.map_err(|error| fail(&error))?,
            };
            let Some((id, token)) = found else { return Ok(None) };
            let held = hold(&self.host, id, token).map_err(|error| fail(&error))?;
            let mut record = Record::begin(token, self.vm.gpu.as_ref());
            record.phase = Phase::Running;
            record.process = Some(id);
            self.record = held.is_some().then_some(record);
            return Ok(held.map(|held| Live::new(held, token, None)));
        };
        let (token, noted) = (record.token, record.process);
        let looks = match (&record.phase, noted) {
            (Phase::Preparing | Phase::Binding | Phase::Ended { .. }, None) => return Ok(None),
            (Phase::Launching, None) => LOOKS,
            (_, Some(_))
            | (
                Phase::Launched
                | Phase::Running
                | Phase::Stopping { .. }
                | Phase::Quitting
                | Phase::Undoing { .. },
                None,
            ) => 1,
        };
        for look in 0..looks {
            if look > 0 {
                sleep(LOOK_PAUSE).await;
            }
            let id = match noted {
                Some(id) => Some(id),
                None => find(&sys, |line| has_token(line, token).then_some(()))
                    .map_err(|error| fail(&error))?
                    .map(|(id, ())| id),
            };
            let Some(id) = id else { continue };
            let held = hold(&self.host, id, token).map_err(|error| fail(&error))?;
            if let Some(record) = &mut self.record {
                record.process = held.as_ref().map(|held| held.id);
            }
            return Ok(held.map(|held| Live::new(held, token, None)));
        }
        Ok(None)
    }

    async fn adopt_live(&mut self, live: Live, phase: Phase) -> At {
        info!(vm = %self.vm.name, pid = live.body.held.id.pid, ?phase, "found QEMU again");
        match phase {
            Phase::Preparing | Phase::Binding | Phase::Launching | Phase::Launched => {
                self.end_unborn(live, Some("hostd was restarted in the middle of it".into())).await
            }
            Phase::Undoing { why } => self.end_unborn(live, why).await,
            Phase::Running => self.adopt_running(live).await,
            Phase::Stopping { deadline, force } => {
                let mut live = live;
                // If it does not answer, the stop goes on without.
                let _ = self.greet(&mut live).await;
                let left = deadline.since(self.host.clock.now()).min(self.vm.stop.deadline);
                At::Stop(live, Order::with(left, force))
            }
            Phase::Quitting => {
                let mut live = live;
                let _ = self.greet(&mut live).await;
                At::Quit(live, "quit on request, before and after a restart of hostd".to_owned())
            }
            Phase::Ended { why, .. } => At::Kill(live, why),
        }
    }

    async fn greet(&mut self, live: &mut Live) -> Result<RunState, String> {
        self.step("connecting to QEMU again").await;
        let connected = live.talk.connect(&*self.host.dial, &self.paths.qmp, ANSWER).await;
        let qmp = connected.map_err(|error| with_sources(&error))?;
        qmp.status(ANSWER).await.map_err(|error| with_sources(&error))
    }

    async fn adopt_running(&mut self, mut live: Live) -> At {
        let mut greeted = self.greet(&mut live).await;
        if matches!(greeted, Ok(RunState::Paused)) && self.go_on(&live).await {
            greeted = Ok(RunState::Running);
        }
        let seen = match greeted {
            Ok(RunState::Prelaunch) => {
                let why = "hostd was restarted just before the guest was let run";
                return self.end_unborn(live, Some(why.to_owned())).await;
            }
            Ok(RunState::Running) => Observation::Runs { why: ADOPTED.to_owned() },
            Ok(
                state @ (RunState::Paused
                | RunState::IoError
                | RunState::Suspended
                | RunState::GuestPanicked
                | RunState::InternalError
                | RunState::Shutdown
                | RunState::Other(_)),
            ) => match live.talk.judge(state) {
                Observation::Halted { why, held } => {
                    Observation::Halted { why: format!("{ADOPTED}; {why}"), held }
                }
                other => other,
            },
            Err(why) => {
                if timeout(PARTING, live.body.ended()).await.is_ok() {
                    return self.adopt_gone(Phase::Running).await;
                }
                live.silent(&why)
            }
        };
        self.note_if_possible(Phase::Running).await;
        self.see_room().await;
        self.observe(seen).await;
        At::Live(live)
    }

    /// Ends a QEMU whose guest has never run, and undoes its start.
    async fn end_unborn(&mut self, mut live: Live, why: Option<String>) -> At {
        self.step("undoing the start").await;
        self.note_if_possible(Phase::Undoing { why: why.clone() }).await;
        // That it has ended is noticed next.
        let _ = live.body.held.process.signal(Signal::Kill);
        if timeout(UNDO, live.body.ended()).await.is_err() {
            return At::Stuck(live);
        }
        if let Some(record) = &mut self.record {
            record.process = None;
        }
        self.undo_noted(why).await
    }

    async fn adopt_gone(&mut self, phase: Phase) -> At {
        if let Some(record) = &mut self.record {
            record.process = None;
        }
        match phase {
            Phase::Preparing | Phase::Binding | Phase::Launching | Phase::Launched => {
                self.undo_noted(Some("hostd was restarted in the middle of it".into())).await
            }
            Phase::Undoing { why } => self.undo_noted(why).await,
            Phase::Running => {
                CLEANING.clone_into(&mut self.step);
                let end = End { exit: Exit::Unknown, said: None, away: true };
                self.observe(Observation::Ended(end)).await;
                At::Clean(self.life.reason.clone())
            }
            Phase::Stopping { .. } | Phase::Quitting => {
                CLEANING.clone_into(&mut self.step);
                let why = "stopped on request while hostd was away".to_owned();
                self.observe(Observation::StopBegun { why: why.clone() }).await;
                At::Clean(why)
            }
            Phase::Ended { crashed, why } => {
                let state = if crashed { VmState::Crashed } else { VmState::Stopping };
                self.life = Life::at(state, why.clone());
                At::Clean(why)
            }
        }
    }

    async fn undo_noted(&mut self, why: Option<String>) -> At {
        match why {
            Some(why) => self.undone(format!("its start was undone: {why}")).await,
            // It was being given up on request.
            None => match undo_all(self, None, true).await {
                None => {
                    self.step.clear();
                    self.observe(Observation::StartCancelled).await;
                    At::Rest
                }
                Some(left) => self.not_undone(left).await,
            },
        }
    }

    async fn undone(&mut self, why: String) -> At {
        match undo_all(self, Some(why.clone()), true).await {
            None => {
                self.step.clear();
                self.observe(Observation::StartFailed { why, left: false }).await;
                At::Rest
            }
            Some(left) => self.not_undone(format!("{why}; and {left}")).await,
        }
    }

    async fn not_undone(&mut self, why: String) -> At {
        self.step.clear();
        self.observe(Observation::NotCleanedUp { why }).await;
        At::Rest
    }
}

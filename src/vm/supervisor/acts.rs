//! What is done to a guest that stays: pause, resume, reset.

use super::live::{ANSWER, Live};
use super::{Outcome, Supervisor};
use crate::ask::view::DoneView;
use crate::ask::{Code, Refusal};
use crate::base::with_sources;
use crate::vm::lifecycle::{Action, Request};
use crate::vm::qmp::wire::{Command, RunState};
use crate::vm::qmp::{Qmp, QmpError};

impl Supervisor {
    /// Does it, looks what came of it, and answers who asked.
    pub(super) async fn act(&mut self, live: &Live, action: Action) {
        let request = match action {
            Action::Pause => Request::Pause,
            Action::Resume => Request::Resume,
            Action::Reset => Request::Reset,
            other => return self.misplaced(other),
        };
        let outcome = match live.talk.qmp() {
            None => Err("QEMU does not answer".to_owned()),
            Some(qmp) => tell(qmp, request).await.map_err(|error| with_sources(&error)),
        };
        let (name, word) = (self.vm.name.clone(), request.word());
        let outcome: Outcome = match outcome {
            Ok(state) => {
                let seen = live.talk.judge(state.clone());
                self.observe(seen).await;
                done(&name, request, &state, &self.life.reason)
            }
            Err(why) => {
                let message = format!("`{name}` could not be {word}: {why}");
                Err(Refusal::new(Code::Failed, message, "`hostctl vm status` shows how it is"))
            }
        };
        self.moved(&outcome);
    }
}

impl Supervisor {
    /// Nobody in the guest can be asked to hibernate.
    pub(super) fn no_agent(&mut self) {
        let message = format!(
            "`{}` cannot hibernate: its file gives it no guest agent, and QEMU alone cannot do it",
            self.vm.name
        );
        let hint = "write `agent: true` in the VM's file, and install the agent in the guest";
        self.stopped(&Err(Refusal::new(Code::Refused, message, hint)));
    }
}

/// The commands, and the state after them.
async fn tell(qmp: &Qmp, request: Request) -> Result<RunState, QmpError> {
    match request {
        Request::Pause => drop(qmp.ask(Command::Stop, ANSWER).await?),
        Request::Resume => {
            if qmp.status(ANSWER).await? == RunState::Suspended {
                qmp.ask(Command::SystemWakeup, ANSWER).await?;
            } else {
                qmp.ask(Command::Cont, ANSWER).await?;
            }
        }
        Request::Reset => {
            qmp.ask(Command::SystemReset, ANSWER).await?;
            // A guest whose kernel has panicked is halted.
            if qmp.status(ANSWER).await? != RunState::Running {
                qmp.ask(Command::Cont, ANSWER).await?;
            }
        }
        Request::Start | Request::Stop { .. } | Request::Kill | Request::Hibernate => {}
    }
    qmp.status(ANSWER).await
}

fn done(name: &crate::base::Name, request: Request, state: &RunState, reason: &str) -> Outcome {
    let (word, runs) = (request.word(), *state == RunState::Running);
    if runs == (request == Request::Pause) {
        let message = format!("`{name}` was {word}, but: {reason}");
        return Err(Refusal::new(Code::Failed, message, "`hostctl vm log` may say why"));
    }
    let message = format!("`{name}` is {word}");
    Ok(DoneView { changed: true, message, warnings: Vec::new() })
}

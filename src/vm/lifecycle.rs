//! The life of a VM as a pure machine: requests and observations in, verdicts
//! and the next state out. The picture is in [`super`].
//!
//! A request never changes the state: it is judged ([`Life::judge`]), and what
//! is then done is observed ([`Life::observe`]). An observation that makes no
//! sense in a state leaves it as it is.

use crate::ask::view::VmState;
use crate::host::run::Exit;

/// What can be asked of a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Make it run.
    Start,
    /// Press the power button; with `force`, quit QEMU when the deadline has passed.
    Stop {
        /// Whatever the VM's file says.
        force: bool,
    },
    /// End QEMU at once.
    Kill,
    /// Halt the guest's processors.
    Pause,
    /// Let them run again, or wake a guest that sleeps.
    Resume,
    /// Press the reset button.
    Reset,
    /// Have the guest write its memory to its own disk and switch itself off.
    Hibernate,
}

impl Request {
    /// What it wants, in a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Stop { .. } => "stopped",
            Self::Kill => "killed",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Reset => "reset",
            Self::Hibernate => "hibernated",
        }
    }
}

/// What is to be done about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Begin the start.
    Start,
    /// Give up the start under way and undo it.
    Cancel,
    /// Press the power button and wait for the deadline.
    Shutdown {
        /// What happens then is decided by the request.
        force: bool,
    },
    /// The stop under way may quit QEMU at its deadline.
    Force,
    /// End QEMU.
    Kill,
    /// Try again to give back what could not be given back.
    CleanUp,
    /// Halt the guest's processors.
    Pause,
    /// Let them run again.
    Resume,
    /// Reset the machine.
    Reset,
    /// Ask the guest's agent to hibernate.
    Hibernate,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is done; the asker hears of its end.
    Accept(Action),
    /// It is as the request wants it.
    AlreadySo(String),
    /// Somebody else has asked for it, and it is under way: the asker hears of
    /// its end too.
    UnderWay,
    /// It cannot be.
    Deny {
        /// Why.
        why: String,
        /// What to do instead.
        hint: String,
    },
}

/// What was seen to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A start has begun.
    StartBegun {
        /// Because of what: `on request`, `with the host`.
        why: String,
    },
    /// QEMU was started.
    Launched,
    /// The start has failed and was undone; what could not be undone is `left`.
    StartFailed {
        /// Why.
        why: String,
        /// Something of it is still there.
        left: bool,
    },
    /// The start was given up and undone.
    StartCancelled,
    /// QEMU says that the guest runs.
    Runs {
        /// Since when or why.
        why: String,
    },
    /// The guest does not run.
    Halted {
        /// Why.
        why: String,
        /// Somebody wanted it so.
        held: bool,
    },
    /// QEMU lives and does not answer.
    Silent {
        /// What it does not answer.
        why: String,
    },
    /// The guest was asked to go, or QEMU to end.
    StopBegun {
        /// By what.
        why: String,
    },
    /// The guest did not go, and stays.
    StopIgnored {
        /// Whether QEMU says that the guest runs.
        runs: bool,
        /// What to do about it.
        why: String,
    },
    /// The process is gone.
    Ended(End),
    /// What the VM had was given back.
    CleanedUp {
        /// How it came to that.
        why: String,
        /// Nobody wanted it to end: it counts as crashed.
        crashed: bool,
    },
    /// It should have been started, and was not.
    NotStarted {
        /// Why.
        why: String,
    },
    /// More is known about the state that it is in.
    Remark {
        /// Added to the reason.
        more: String,
    },
    /// Something could not be ended or given back.
    NotCleanedUp {
        /// What and why.
        why: String,
    },
}

/// How QEMU ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// As its parent knows; unknown for an adopted one.
    pub exit: Exit,
    /// The reason that QEMU gave before, and whether it was the guest's doing.
    pub said: Option<(bool, String)>,
    /// It was gone when hostd came back.
    pub away: bool,
}

impl End {
    /// The reason in words.
    fn words(&self) -> String {
        let away = if self.away { " while hostd was away" } else { "" };
        match &self.said {
            None => format!("QEMU ended{away} ({})", self.exit),
            Some((_, reason)) => format!("QEMU ended{away} ({}; {reason})", self.exit),
        }
    }

    /// Whether the guest has switched itself off.
    fn by_guest(&self) -> bool {
        matches!(&self.said, Some((true, reason)) if reason != "guest-panic")
    }
}

/// Where a VM is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// The state.
    pub state: VmState,
    /// Why it is in it.
    pub reason: String,
    /// Something is left of it that has to go before it can start again.
    pub left: bool,
    /// Nobody knows whether the guest runs.
    pub silent: bool,
    /// It is paused because somebody wanted it so.
    pub held: bool,
}

impl Life {
    /// A VM of which nothing is known to run.
    pub fn new(reason: impl Into<String>) -> Self {
        Self::at(VmState::Off, reason)
    }

    /// A VM that an earlier hostd has left in a state.
    pub fn at(state: VmState, reason: impl Into<String>) -> Self {
        Self { state, reason: reason.into(), left: false, silent: false, held: false }
    }

    /// What to do about a request.
    pub fn judge(&self, request: Request) -> Verdict {
        match request {
            Request::Start => self.judge_start(),
            Request::Stop { force } => self.judge_stop(force),
            Request::Kill => self.judge_kill(),
            Request::Pause => self.judge_pause(),
            Request::Resume => self.judge_resume(),
            Request::Reset | Request::Hibernate => self.judge_guest(request),
        }
    }

    fn judge_start(&self) -> Verdict {
        let deny = |why: String, hint: &str| Verdict::Deny { why, hint: hint.to_owned() };
        match self.state {
            VmState::Off | VmState::Crashed | VmState::Failed if self.left => deny(
                format!("something of its last run is still there: {}", self.reason),
                "`hostctl vm stop` tries again to clean up",
            ),
            VmState::Off | VmState::Crashed | VmState::Failed => Verdict::Accept(Action::Start),
            VmState::Preparing | VmState::Starting => Verdict::UnderWay,
            VmState::Running => Verdict::AlreadySo("is running".to_owned()),
            VmState::Paused => deny(
                format!("it is started, but its guest does not run: {}", self.reason),
                if self.held {
                    "`hostctl vm resume` lets it run"
                } else {
                    "`hostctl vm status` shows when it runs again; `hostctl vm stop --force` ends it"
                },
            ),
            VmState::Stopping => deny(
                "it is stopping".to_owned(),
                "start it when it is off, or `hostctl vm kill` it",
            ),
        }
    }

    fn judge_stop(&self, force: bool) -> Verdict {
        match self.state {
            VmState::Off | VmState::Crashed | VmState::Failed => self.judge_rest(),
            VmState::Preparing | VmState::Starting => Verdict::Accept(Action::Cancel),
            VmState::Running | VmState::Paused => Verdict::Accept(Action::Shutdown { force }),
            VmState::Stopping if force => Verdict::Accept(Action::Force),
            VmState::Stopping => Verdict::UnderWay,
        }
    }

    fn judge_kill(&self) -> Verdict {
        match self.state {
            VmState::Off | VmState::Crashed | VmState::Failed => self.judge_rest(),
            VmState::Preparing | VmState::Starting => Verdict::Accept(Action::Cancel),
            VmState::Running | VmState::Paused | VmState::Stopping => Verdict::Accept(Action::Kill),
        }
    }

    fn judge_pause(&self) -> Verdict {
        match self.state {
            VmState::Running => Verdict::Accept(Action::Pause),
            VmState::Paused if !self.silent => Verdict::AlreadySo("is paused".to_owned()),
            VmState::Paused
            | VmState::Off
            | VmState::Preparing
            | VmState::Starting
            | VmState::Stopping
            | VmState::Crashed
            | VmState::Failed => self.not_now(Request::Pause),
        }
    }

    fn judge_resume(&self) -> Verdict {
        match self.state {
            VmState::Running => Verdict::AlreadySo("is running".to_owned()),
            VmState::Paused if !self.silent => Verdict::Accept(Action::Resume),
            VmState::Paused
            | VmState::Off
            | VmState::Preparing
            | VmState::Starting
            | VmState::Stopping
            | VmState::Crashed
            | VmState::Failed => self.not_now(Request::Resume),
        }
    }

    /// What needs a guest that is up.
    fn judge_guest(&self, request: Request) -> Verdict {
        match (self.state, request) {
            (VmState::Running, Request::Hibernate) => Verdict::Accept(Action::Hibernate),
            (VmState::Running | VmState::Paused, Request::Reset) if !self.silent => {
                Verdict::Accept(Action::Reset)
            }
            _ => self.not_now(request),
        }
    }

    /// No, with the state and what to do about it.
    fn not_now(&self, request: Request) -> Verdict {
        let word = request.word();
        let (why, hint) = match self.state {
            VmState::Off | VmState::Crashed | VmState::Failed => {
                ("it is not running".to_owned(), "`hostctl vm start` starts it")
            }
            VmState::Preparing | VmState::Starting => {
                ("it is starting".to_owned(), "wait until it runs")
            }
            VmState::Stopping => ("it is stopping".to_owned(), "start it when it is off"),
            VmState::Running | VmState::Paused => {
                (self.reason.clone(), "`hostctl vm status` shows when that has changed")
            }
        };
        Verdict::Deny { why: format!("it cannot be {word}: {why}"), hint: hint.to_owned() }
    }

    fn judge_rest(&self) -> Verdict {
        if self.left {
            return Verdict::Accept(Action::CleanUp);
        }
        Verdict::AlreadySo(match self.state {
            VmState::Crashed => "is not running: it has crashed".to_owned(),
            VmState::Failed => format!("is not running: {}", self.reason),
            VmState::Off
            | VmState::Preparing
            | VmState::Starting
            | VmState::Running
            | VmState::Paused
            | VmState::Stopping => "is off".to_owned(),
        })
    }

    /// Takes in what was seen; true when something about the life has changed.
    pub fn observe(&mut self, seen: Observation) -> bool {
        let before = self.clone();
        match seen {
            Observation::StartBegun { why } => self.start_begun(why),
            Observation::Launched => {
                if self.state == VmState::Preparing {
                    self.become_(VmState::Starting, "QEMU was started".to_owned());
                }
            }
            Observation::StartFailed { why, left } => {
                if self.is_starting() {
                    self.become_(VmState::Failed, why);
                    self.left = left;
                }
            }
            Observation::StartCancelled => {
                if self.is_starting() {
                    self.become_(VmState::Off, "its start was given up on request".to_owned());
                }
            }
            Observation::Runs { why } => match self.state {
                VmState::Starting | VmState::Paused => self.become_(VmState::Running, why),
                VmState::Off
                | VmState::Preparing
                | VmState::Running
                | VmState::Stopping
                | VmState::Crashed
                | VmState::Failed => {}
            },
            Observation::Halted { why, held } => {
                self.halted(why, false);
                self.held = held && self.state == VmState::Paused;
            }
            Observation::Silent { why } => self.halted(why, true),
            Observation::StopBegun { why } => match self.state {
                VmState::Starting | VmState::Running | VmState::Paused | VmState::Stopping => {
                    self.become_(VmState::Stopping, why);
                }
                VmState::Off | VmState::Preparing | VmState::Crashed | VmState::Failed => {}
            },
            Observation::StopIgnored { runs, why } => {
                if self.state == VmState::Stopping {
                    let state = if runs { VmState::Running } else { VmState::Paused };
                    self.become_(state, why);
                }
            }
            Observation::Ended(end) => self.ended(&end),
            Observation::CleanedUp { why, crashed } => self.cleaned_up(why, crashed),
            Observation::NotStarted { why } => match self.state {
                VmState::Off | VmState::Crashed | VmState::Failed => {
                    self.become_(VmState::Failed, why);
                }
                VmState::Preparing
                | VmState::Starting
                | VmState::Running
                | VmState::Paused
                | VmState::Stopping => {}
            },
            Observation::Remark { more } => self.reason = format!("{}; {more}", self.reason),
            Observation::NotCleanedUp { why } => {
                self.become_(VmState::Failed, why);
                self.left = true;
            }
        }
        *self != before
    }

    fn halted(&mut self, why: String, silent: bool) {
        match self.state {
            VmState::Starting | VmState::Running | VmState::Paused => {
                self.become_(VmState::Paused, why);
                self.silent = silent;
            }
            VmState::Off
            | VmState::Preparing
            | VmState::Stopping
            | VmState::Crashed
            | VmState::Failed => {}
        }
    }

    fn become_(&mut self, state: VmState, reason: String) {
        *self = Self::at(state, reason);
    }

    fn is_starting(&self) -> bool {
        matches!(self.state, VmState::Preparing | VmState::Starting)
    }

    fn start_begun(&mut self, why: String) {
        match self.state {
            VmState::Off | VmState::Crashed | VmState::Failed => {
                self.become_(VmState::Preparing, why);
            }
            VmState::Preparing
            | VmState::Starting
            | VmState::Running
            | VmState::Paused
            | VmState::Stopping => {}
        }
    }

    fn ended(&mut self, end: &End) {
        match self.state {
            VmState::Starting | VmState::Running | VmState::Paused if end.by_guest() => {
                self.become_(VmState::Stopping, "the guest switched itself off".to_owned());
            }
            VmState::Starting | VmState::Running | VmState::Paused => {
                self.become_(VmState::Crashed, end.words());
            }
            // Gone at last, what could not be ended.
            VmState::Failed if self.left => {
                self.become_(VmState::Stopping, "QEMU has ended at last".to_owned());
            }
            // When it is stopping, it was asked to.
            VmState::Off
            | VmState::Preparing
            | VmState::Stopping
            | VmState::Crashed
            | VmState::Failed => {}
        }
    }

    fn cleaned_up(&mut self, why: String, crashed: bool) {
        match self.state {
            VmState::Stopping | VmState::Failed if crashed => self.become_(VmState::Crashed, why),
            VmState::Stopping | VmState::Failed => self.become_(VmState::Off, why),
            VmState::Off
            | VmState::Preparing
            | VmState::Starting
            | VmState::Running
            | VmState::Paused
            | VmState::Crashed => {}
        }
    }
}

#[cfg(test)]
mod tests;

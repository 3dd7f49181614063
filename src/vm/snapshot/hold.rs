//! A guest that stands still while its disks' snapshots are made, so that they
//! are all of one moment.
//!
//! With a guest agent its file systems are frozen: everything is written out,
//! and the guest runs on. Without, its processors are halted, for as short as
//! can be; what it had not written yet is missing then, as if the power had
//! gone. A guest that somebody has paused stays so.
//!
//! A hostd that is killed meanwhile leaves a note that says so: whoever adopts
//! the VM calls [`let_go_if_left`].

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::note::{self, Calm, State};
use super::{notes, write};
use crate::base::{Name, with_sources};
use crate::host::Host;
use crate::vm::agent::{self, Agent};
use crate::vm::qmp::wire::{Command, RunState};
use crate::vm::qmp::{Qmp, QmpError};

/// How long QEMU may take to halt a guest, or to let it go on.
const ANSWER: Duration = Duration::from_secs(5);

/// Something that is waited for.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who can freeze a guest's file systems: its agent.
pub trait Freeze: Send + Sync {
    /// Freezes them; why not, in words.
    fn freeze(&self) -> Doing<'_, Result<Box<dyn Frozen>, String>>;
}

/// File systems that are frozen. They must thaw by themselves when this is
/// dropped.
pub trait Frozen: Send {
    /// Lets them go on.
    fn thaw(self: Box<Self>) -> Doing<'static, Result<(), String>>;
}

/// How long a guest may take to freeze: Windows itself gives up after ten
/// seconds (VSS).
const FREEZE: Duration = Duration::from_secs(10);

impl Freeze for Agent {
    fn freeze(&self) -> Doing<'_, Result<Box<dyn Frozen>, String>> {
        Box::pin(async {
            let frozen = Agent::freeze(self, FREEZE).await;
            let frozen = frozen.map_err(|error| with_sources(&error))?;
            Ok(Box::new(frozen) as Box<dyn Frozen>)
        })
    }
}

impl Frozen for agent::Frozen {
    fn thaw(self: Box<Self>) -> Doing<'static, Result<(), String>> {
        Box::pin(
            async move { agent::Frozen::thaw(*self).await.map_err(|error| with_sources(&error)) },
        )
    }
}

/// The guest whose disks are worked on.
#[derive(Clone, Copy)]
pub enum Guest<'a> {
    /// No QEMU.
    Off,
    /// QEMU runs, and has the disks.
    Runs {
        /// The way to speak to it.
        qmp: &'a Qmp,
        /// Its agent, if it has one.
        agent: Option<&'a dyn Freeze>,
    },
}

impl<'a> Guest<'a> {
    /// The way to speak to QEMU.
    pub fn qmp(self) -> Option<&'a Qmp> {
        match self {
            Self::Off => None,
            Self::Runs { qmp, .. } => Some(qmp),
        }
    }

    /// Whether its processors run, so that it would have to be held.
    pub async fn moves(self) -> Result<bool, QmpError> {
        match self {
            Self::Off => Ok(false),
            Self::Runs { qmp, .. } => Ok(qmp.status(ANSWER).await? == RunState::Running),
        }
    }
}

/// A guest that stands still.
pub struct Held {
    /// How still.
    pub calm: Calm,
    /// Why it is not as still as could be.
    pub warning: Option<String>,
    how: How,
    begun: Instant,
}

enum How {
    /// It did before.
    Still,
    Frozen(Box<dyn Frozen>),
    Halted(Qmp),
}

/// Holds a guest; `moves` is what [`Guest::moves`] has said.
pub async fn hold(guest: Guest<'_>, moves: bool) -> Result<Held, QmpError> {
    let held = |calm, how| Held { calm, warning: None, how, begun: Instant::now() };
    let Guest::Runs { qmp, agent } = guest else { return Ok(held(Calm::Off, How::Still)) };
    if !moves {
        return Ok(held(Calm::Halted, How::Still));
    }
    let mut warning = None;
    if let Some(agent) = agent {
        match agent.freeze().await {
            Ok(frozen) => return Ok(held(Calm::Frozen, How::Frozen(frozen))),
            Err(why) => warning = Some(format!("the guest could not be frozen: {why}")),
        }
    }
    qmp.ask(Command::Stop, ANSWER).await?;
    Ok(Held { warning, ..held(Calm::Halted, How::Halted(qmp.clone())) })
}

impl Held {
    /// Lets the guest go on; how long it stood still if it was us, and what
    /// went wrong.
    pub async fn let_go(self) -> (Option<Duration>, Option<String>) {
        let ended = match self.how {
            How::Still => return (None, None),
            How::Frozen(frozen) => frozen
                .thaw()
                .await
                .map_err(|why| format!("its file systems may still be frozen: {why}")),
            How::Halted(qmp) => qmp.ask(Command::Cont, ANSWER).await.map(drop).map_err(|error| {
                let why = with_sources(&error);
                format!("the guest is still halted, `hostctl vm resume` lets it go on: {why}")
            }),
        };
        (Some(self.begun.elapsed()), ended.err())
    }
}

/// Lets a guest go on that an earlier hostd has halted for a snapshot, if it
/// was killed before it let it go on itself; true when it did.
pub async fn let_go_if_left(host: &Host, vm: &Name, qmp: &Qmp) -> Result<bool, QmpError> {
    let found = notes(host, vm).await.unwrap_or_else(|refusal| {
        warn!(vm = %vm, "{}", refusal.message);
        Vec::new()
    });
    let left = found.into_iter().filter_map(|one| one.note.ok());
    let left: Vec<_> = left.filter(note::Note::left_halted).collect();
    if left.is_empty() {
        return Ok(false);
    }
    qmp.ask(Command::Cont, ANSWER).await?;
    for mut note in left {
        // Later it may be halted because somebody wants it so.
        note.halts = false;
        if let Err(refusal) = write(host, vm, &note).await {
            warn!(vm = %vm, "{}", refusal.message);
        }
    }
    Ok(true)
}

impl note::Note {
    fn left_halted(&self) -> bool {
        self.halts && self.state == State::Making
    }
}

//! The guest agent: a program in the guest that does what only the guest can.
//!
//! In: the socket of the VM's channel. Out: typed answers, each within a
//! deadline. The peer is the *guest*: it may be silent, lie, flood or talk
//! nonsense, and nothing of that reaches further than an [`AgentError`].
//!
//! ```text
//!   guest-ping, guest-get-osinfo …     hostd ──▶ QEMU's socket ──▶ the guest's port
//!   lines of JSON, no greeting               ◀──               ◀──
//! ```
//!
//! QEMU lets one client at a time speak, so all who want something of a guest
//! share one [`Agent`]: it is cheap to clone, and one command at a time is on
//! its way. Before each command the two get in step (`guest-sync-delimited`):
//! an earlier client may have left half a command, or an answer that nobody
//! took. A line that is lost is dialled again by the next command.
//!
//! - [`wire`]: commands and answers as values; [`answers`]: what they carry
//! - [`frozen`]: file systems that stand still, and surely thaw again
//! - [`heartbeat`]: what an agent's silence means
//!
//! Protocol: QEMU's documentation, "QEMU Guest Agent Protocol Reference"
//! (`qga/qapi-schema.json`).

pub mod answers;
pub mod frozen;
pub mod heartbeat;
pub mod wire;

use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

pub use self::answers::{Address, Info, Interface, OsInfo};
pub use self::frozen::Frozen;
pub use self::heartbeat::{AgentState, Heartbeat};
use self::wire::{Answer, Command, Power};
use super::qmp::lines::Lines;
use crate::base::Timestamp;
use crate::host::Dial;
use crate::host::dial::Stream;

/// How long an agent that has taken a command without an answer of success
/// may take to refuse it.
const REFUSAL: Duration = Duration::from_secs(2);

/// Why the agent gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AgentError {
    /// The VM has no such channel, or QEMU is gone.
    #[error("cannot connect to the guest agent's channel {}", path.display())]
    Dial {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// No agent, one that hangs, or somebody else who has the channel.
    #[error("the guest agent did not answer {what} within {within:?}")]
    Silent {
        /// The command.
        what: &'static str,
        /// What it was given.
        within: Duration,
    },
    /// The agent cannot do this, or is not allowed to.
    #[error("the guest agent does not offer {what}: {desc}")]
    Unsupported {
        /// The command.
        what: &'static str,
        /// In its words.
        desc: String,
    },
    /// The agent tried, or says so.
    #[error("the guest agent failed at {what}: {desc}")]
    Refused {
        /// The command.
        what: &'static str,
        /// Its class of errors: `GenericError`.
        class: String,
        /// In its words.
        desc: String,
    },
    /// The answer makes no sense.
    #[error("the guest agent's answer to {what} makes no sense: {why}")]
    Strange {
        /// The command.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// QEMU closed the channel.
    #[error("the guest agent's channel was closed")]
    Closed,
}

impl AgentError {
    /// Whether the agent has spoken, if only to say no.
    pub fn is_an_answer(&self) -> bool {
        match self {
            Self::Unsupported { .. } | Self::Refused { .. } => true,
            Self::Dial { .. } | Self::Silent { .. } | Self::Strange { .. } | Self::Closed => false,
        }
    }
}

struct Line {
    from: Lines<ReadHalf<Box<dyn Stream>>>,
    to: WriteHalf<Box<dyn Stream>>,
}

struct Shared {
    dial: Arc<dyn Dial>,
    socket: PathBuf,
    line: Mutex<Option<Line>>,
}

/// The agent of one VM; cheap to clone.
#[derive(Clone)]
pub struct Agent(Arc<Shared>);

impl Agent {
    /// The agent behind this socket. Nothing is dialled before the first command.
    pub fn at(dial: Arc<dyn Dial>, socket: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Shared { dial, socket: socket.into(), line: Mutex::new(None) }))
    }

    /// The agent behind this socket, if it answers.
    pub async fn connect(
        dial: Arc<dyn Dial>,
        socket: impl Into<PathBuf>,
        within: Duration,
    ) -> Result<Self, AgentError> {
        let agent = Self::at(dial, socket);
        agent.ping(within).await?;
        Ok(agent)
    }

    /// Where it is reached.
    pub fn socket(&self) -> &Path {
        &self.0.socket
    }

    /// Whether it is there.
    pub async fn ping(&self, within: Duration) -> Result<(), AgentError> {
        self.ask(&Command::Ping, within).await.map(drop)
    }

    /// Its version, and what it offers.
    pub async fn info(&self, within: Duration) -> Result<Info, AgentError> {
        self.read(&Command::Info, within, answers::info).await
    }

    /// What runs in the guest.
    pub async fn os_info(&self, within: Duration) -> Result<OsInfo, AgentError> {
        self.read(&Command::OsInfo, within, answers::os_info).await
    }

    /// The guest's name for itself.
    pub async fn host_name(&self, within: Duration) -> Result<String, AgentError> {
        self.read(&Command::HostName, within, answers::host_name).await
    }

    /// The guest's network.
    pub async fn interfaces(&self, within: Duration) -> Result<Vec<Interface>, AgentError> {
        self.read(&Command::Interfaces, within, answers::interfaces).await
    }

    /// Sets the guest's clock: after it stood still, it is late. Without a time
    /// the guest reads its hardware clock, which QEMU keeps.
    pub async fn set_time(
        &self,
        time: Option<Timestamp>,
        within: Duration,
    ) -> Result<(), AgentError> {
        self.ask(&Command::SetTime(time), within).await.map(drop)
    }

    /// Tells the guest to go down. That it has heard is all that is known then:
    /// success has no answer. Whether it obeys is for QEMU to say.
    pub async fn shutdown(&self, how: Power, within: Duration) -> Result<(), AgentError> {
        self.tell(&Command::Shutdown(how), within).await
    }

    /// Tells the guest to put its memory on its disk and switch off.
    pub async fn suspend_disk(&self, within: Duration) -> Result<(), AgentError> {
        self.tell(&Command::SuspendDisk, within).await
    }

    /// Tells the guest to sleep.
    pub async fn suspend_ram(&self, within: Duration) -> Result<(), AgentError> {
        self.tell(&Command::SuspendRam, within).await
    }

    /// Whether the guest's file systems stand still.
    pub async fn is_frozen(&self, within: Duration) -> Result<bool, AgentError> {
        self.read(&Command::FreezeStatus, within, answers::is_frozen).await
    }

    /// Lets file systems go on that somebody has frozen and then died; true
    /// when there were any.
    pub async fn thaw_if_frozen(&self, within: Duration) -> Result<bool, AgentError> {
        if !self.is_frozen(within).await? {
            return Ok(false);
        }
        self.read(&Command::Thaw, within, answers::count).await.map(|_| true)
    }

    async fn read<T>(
        &self,
        command: &Command,
        within: Duration,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, AgentError> {
        let value = self.ask(command, within).await?;
        let why = || "it lacks what it must have".to_owned();
        read(&value).ok_or_else(|| AgentError::Strange { what: command.name(), why: why() })
    }

    /// One command and its answer.
    async fn ask(&self, command: &Command, within: Duration) -> Result<Value, AgentError> {
        let what = command.name();
        let asking = async {
            let (mut place, mut line) = self.say(command, within).await?;
            let answer = line.hear(what).await?;
            *place = Some(line);
            verdict(what, answer)
        };
        timeout(within, asking).await.map_err(|_| AgentError::Silent { what, within })?
    }

    /// One command that has an answer only when it fails.
    async fn tell(&self, command: &Command, within: Duration) -> Result<(), AgentError> {
        let what = command.name();
        let saying = timeout(within, self.say(command, within)).await;
        let (mut place, mut line) = saying.map_err(|_| AgentError::Silent { what, within })??;
        match timeout(REFUSAL, line.hear(what)).await {
            Ok(Ok(answer)) => {
                *place = Some(line);
                verdict(what, answer).map(drop)
            }
            // It goes down already, or is about to.
            Ok(Err(AgentError::Closed)) | Err(_) => Ok(()),
            Ok(Err(error)) => Err(error),
        }
    }

    /// Gets in step and says a command. The line is out of its place until the
    /// conversation has come to its end: one that has not is not used again.
    async fn say(
        &self,
        command: &Command,
        within: Duration,
    ) -> Result<(MutexGuard<'_, Option<Line>>, Line), AgentError> {
        let mut place = self.0.line.lock().await;
        // QEMU takes a new client only when the old one has left.
        let mut line = match place.take() {
            Some(line) => line,
            None => self.dial(within).await?,
        };
        let number = number();
        let said = match line.synchronize(number).await {
            // QEMU was started anew since.
            Err(AgentError::Closed) => {
                drop(line);
                line = self.dial(within).await?;
                line.synchronize(number).await
            }
            said => said,
        };
        said?;
        line.to.write_all(&command.line()).await.map_err(|_| AgentError::Closed)?;
        Ok((place, line))
    }

    async fn dial(&self, within: Duration) -> Result<Line, AgentError> {
        let Shared { dial, socket, .. } = &*self.0;
        let stream = dial.unix(socket, within).await;
        let fail = |source| AgentError::Dial { path: socket.clone(), source: Arc::new(source) };
        let (from, to) = tokio::io::split(stream.map_err(fail)?);
        Ok(Line { from: Lines::new(from, wire::LINE_LIMIT), to })
    }
}

fn verdict(what: &'static str, answer: Answer) -> Result<Value, AgentError> {
    match answer {
        Answer::Return(value) => Ok(value),
        Answer::Error { class, desc } if class == "CommandNotFound" => {
            Err(AgentError::Unsupported { what, desc })
        }
        Answer::Error { class, desc } => Err(AgentError::Refused { what, class, desc }),
    }
}

impl Line {
    /// Makes sure that the next answer is to the next command: whatever comes
    /// before the answer to this number is from before.
    async fn synchronize(&mut self, number: u64) -> Result<(), AgentError> {
        let line = wire::synchronize(number);
        self.to.write_all(&line).await.map_err(|_| AgentError::Closed)?;
        loop {
            let line = self.next("guest-sync-delimited").await?;
            if wire::is_in_step(&line, number) {
                return Ok(());
            }
        }
    }

    async fn hear(&mut self, what: &'static str) -> Result<Answer, AgentError> {
        let line = self.next(what).await?;
        wire::parse(&line).map_err(|why| AgentError::Strange { what, why: why.to_string() })
    }

    async fn next(&mut self, what: &'static str) -> Result<Vec<u8>, AgentError> {
        match self.from.next().await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(AgentError::Closed),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(AgentError::Strange { what, why: error.to_string() })
            }
            Err(_) => Err(AgentError::Closed),
        }
    }
}

/// A number that no earlier client has used, not even one of an earlier hostd.
fn number() -> u64 {
    // Small enough for whoever counts in floating point.
    std::collections::hash_map::RandomState::new().build_hasher().finish() >> 12
}

#[cfg(test)]
mod tests;

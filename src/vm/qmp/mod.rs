//! QMP: the conversation with QEMU.
//!
//! [`connect`] dials the socket, waits for the greeting and negotiates; what
//! comes out is a [`Qmp`] for commands, each with a deadline, and the
//! [`Events`]. A task reads and writes until the peer leaves, breaks the rules
//! or both halves are dropped. Nothing is re-dialled here: that is up to the
//! supervisor, who knows whether QEMU still lives.
//!
//! The peer is not trusted: lines ([`lines`]) and queues are bounded, unknown
//! events are kept but are the first to be dropped in a flood, and are counted
//! ([`Qmp::missed`]); an answer nobody waits for is ignored; a line that is not
//! QMP ends the conversation. Read [`wire`] for the words.

pub mod lines;
pub mod wire;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::host::Dial;
use crate::host::dial::Stream;
use lines::Lines;
use wire::{Command, Event, Greeting, Message, RunState};

/// Events that wait to be looked at; the last quarter is kept for known ones.
const EVENTS: usize = 256;
/// Commands on their way.
const COMMANDS: usize = 16;
/// How long the peer may take to take a command off our hands.
const WRITE_DEADLINE: Duration = Duration::from_secs(3);

/// Why QMP gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QmpError {
    /// Nobody listens.
    #[error("cannot connect to {}", path.display())]
    Dial {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: Arc<io::Error>,
    },
    /// Somebody listens and says nothing.
    #[error("QEMU did not answer {what} within {within:?}")]
    Silent {
        /// The command, or `with its greeting`.
        what: &'static str,
        /// What it was given.
        within: Duration,
    },
    /// QEMU said no.
    #[error("QEMU refused {what}: {desc}")]
    Refused {
        /// The command.
        what: &'static str,
        /// In QEMU's words.
        desc: String,
    },
    /// QEMU's answer makes no sense.
    #[error("QEMU's answer to {what} makes no sense")]
    Strange {
        /// The command.
        what: &'static str,
    },
    /// The conversation is over.
    #[error("the connection to QEMU is lost: {why}")]
    Closed {
        /// Who ended it, in words.
        why: String,
    },
}

struct Ask {
    command: Command,
    answer: oneshot::Sender<Result<Value, QmpError>>,
}

#[derive(Default)]
struct Shared {
    why: OnceLock<String>,
    missed: AtomicU64,
}

/// The way to send commands; cheap to clone.
#[derive(Clone)]
pub struct Qmp {
    asks: mpsc::Sender<Ask>,
    shared: Arc<Shared>,
    greeting: Greeting,
}

/// What QEMU says by itself.
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// The next event; `None` when the conversation is over.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }

    /// The next event that is already here.
    pub fn waiting(&mut self) -> Option<Event> {
        self.0.try_recv().ok()
    }
}

/// Dials `socket` and begins the conversation, all within `deadline`.
pub async fn connect(
    dial: &dyn Dial,
    socket: &Path,
    deadline: Duration,
) -> Result<(Qmp, Events), QmpError> {
    let stream = dial
        .unix(socket, deadline)
        .await
        .map_err(|source| QmpError::Dial { path: socket.to_owned(), source: Arc::new(source) })?;
    let (read, write) = tokio::io::split(stream);
    let mut lines = Lines::new(read, wire::LINE_LIMIT);
    let silent = |_| QmpError::Silent { what: "with its greeting", within: deadline };
    let greeting = timeout(deadline, greeting(&mut lines)).await.map_err(silent)??;

    let (asks, asked) = mpsc::channel(COMMANDS);
    let (tell, events) = mpsc::channel(EVENTS);
    let shared = Arc::new(Shared::default());
    let qmp = Qmp { asks, shared: Arc::clone(&shared), greeting };
    let talk = Talk { lines, write, asked, tell, shared, waiting: BTreeMap::new(), last: 0 };
    tokio::spawn(talk.run());
    qmp.ask(Command::Capabilities, deadline).await?;
    Ok((qmp, Events(events)))
}

async fn greeting(lines: &mut Lines<ReadHalf<Box<dyn Stream>>>) -> Result<Greeting, QmpError> {
    let closed = |why: String| QmpError::Closed { why };
    let line = lines.next().await.map_err(|error| closed(error.to_string()))?;
    let line = line.ok_or_else(|| closed("it was closed before the greeting".to_owned()))?;
    match wire::parse(&line) {
        Ok(Message::Greeting(greeting)) => Ok(greeting),
        Ok(Message::Return { .. } | Message::Error { .. } | Message::Event(_)) | Err(_) => {
            Err(closed("who answers there does not greet as QEMU does".to_owned()))
        }
    }
}

impl Qmp {
    /// Who answers.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// How many events were dropped because they came faster than they were
    /// looked at.
    pub fn missed(&self) -> u64 {
        self.shared.missed.load(Ordering::Relaxed)
    }

    /// Why the conversation is over.
    pub fn why_closed(&self) -> String {
        self.shared.why.get().cloned().unwrap_or_else(|| "it was closed".to_owned())
    }

    /// Sends one command and waits for its answer.
    pub async fn ask(&self, command: Command, within: Duration) -> Result<Value, QmpError> {
        let what = command.name();
        let closed = || QmpError::Closed { why: self.why_closed() };
        let asking = async {
            let (answer, answered) = oneshot::channel();
            self.asks.send(Ask { command, answer }).await.map_err(|_| closed())?;
            answered.await.map_err(|_| closed())?
        };
        timeout(within, asking).await.map_err(|_| QmpError::Silent { what, within })?
    }

    /// Whether the guest runs.
    pub async fn status(&self, within: Duration) -> Result<RunState, QmpError> {
        let value = self.ask(Command::QueryStatus, within).await?;
        wire::run_state(&value).ok_or(QmpError::Strange { what: "query-status" })
    }

    /// Whether the peer has a character device of this name.
    pub async fn has_chardev(&self, id: &str, within: Duration) -> Result<bool, QmpError> {
        Ok(wire::has_chardev(&self.ask(Command::QueryChardev, within).await?, id))
    }
}

struct Waiting {
    what: &'static str,
    answer: oneshot::Sender<Result<Value, QmpError>>,
}

/// The task behind a [`Qmp`].
struct Talk {
    lines: Lines<ReadHalf<Box<dyn Stream>>>,
    write: WriteHalf<Box<dyn Stream>>,
    asked: mpsc::Receiver<Ask>,
    tell: mpsc::Sender<Event>,
    shared: Arc<Shared>,
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
}

impl Talk {
    async fn run(mut self) {
        let why = loop {
            tokio::select! {
                line = self.lines.next() => {
                    if let Err(why) = self.heard(line) {
                        break why;
                    }
                }
                ask = self.asked.recv() => {
                    let Some(ask) = ask else { break "hostd has hung up".to_owned() };
                    if let Err(why) = self.say(ask).await {
                        break why;
                    }
                }
            }
        };
        // Before the channels close, so that whoever sees them closed knows why.
        let _ = self.shared.why.set(why);
    }

    fn heard(&mut self, line: io::Result<Option<Vec<u8>>>) -> Result<(), String> {
        let line = line.map_err(|error| error.to_string())?;
        let line = line.ok_or_else(|| "QEMU closed it".to_owned())?;
        match wire::parse(&line).map_err(|bad| format!("QEMU said what is not QMP: {bad}"))? {
            Message::Event(event) => self.tell(event),
            Message::Return { id, value } => self.answer(id, |_| Ok(value)),
            Message::Error { id, class: _, desc } => {
                self.answer(id, |what| Err(QmpError::Refused { what, desc }));
            }
            Message::Greeting(_) => {}
        }
        Ok(())
    }

    fn tell(&mut self, event: Event) {
        let free = match &event {
            // A guest can make as many channels speak as it likes.
            Event::Other { .. } | Event::Channel { .. } => self.tell.capacity() > EVENTS / 4,
            Event::Shutdown(_)
            | Event::Powerdown
            | Event::Reset { .. }
            | Event::Stop
            | Event::Resume
            | Event::Suspend
            | Event::Wakeup
            | Event::GuestPanicked
            | Event::DeviceDeleted(_)
            | Event::UnplugRefused(_)
            | Event::BlockIoError { .. } => true,
        };
        if !free || self.tell.try_send(event).is_err() {
            self.shared.missed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn answer(
        &mut self,
        id: Option<u64>,
        with: impl FnOnce(&'static str) -> Result<Value, QmpError>,
    ) {
        // A number that we did not give, or whose asker has given up.
        let Some(asker) = id.and_then(|id| self.waiting.remove(&id)) else { return };
        // The asker may have given up.
        let _ = asker.answer.send(with(asker.what));
    }

    async fn say(&mut self, ask: Ask) -> Result<(), String> {
        self.waiting.retain(|_, asker| !asker.answer.is_closed());
        self.last += 1;
        let waiting = Waiting { what: ask.command.name(), answer: ask.answer };
        self.waiting.insert(self.last, waiting);
        let line = ask.command.line(self.last);
        match timeout(WRITE_DEADLINE, self.write.write_all(&line)).await {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(_) => Err("QEMU takes no more commands".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;

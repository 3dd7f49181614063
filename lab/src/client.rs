//! The lab's end of the agent's port: commands out, output back. Several
//! threads may use one [`Client`] at once.

use crate::wire::{self, CHUNK, Decoder, FromAgent, MAX_FRAME, ToAgent};
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// More output than this of one command is cut off.
const MAX_OUTPUT: usize = 64 * 1024 * 1024;
/// On top of a command's own deadline, for the way there and back.
const GRACE: Duration = Duration::from_secs(20);

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; 128 + n after signal n, as a shell says it.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    /// It was killed, with its process group, at its deadline.
    pub expired: bool,
    /// It said more than 64 MiB; the rest is missing.
    pub truncated: bool,
}

impl Output {
    pub fn ok(&self) -> bool {
        self.status == 0 && !self.expired
    }
}

type Reply = (FromAgent, Vec<u8>);

#[derive(Default)]
struct Shared {
    waiting: HashMap<u64, mpsc::Sender<Reply>>,
    /// Why nothing comes any more.
    closed: Option<String>,
}

pub struct Client {
    stream: UnixStream,
    writer: Mutex<UnixStream>,
    shared: Arc<Mutex<Shared>>,
    hellos: Mutex<Receiver<(u64, String)>>,
    next: AtomicU64,
    session: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Client {
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("connecting to the agent's port {}", socket.display()))?;
        // A guest that reads nothing must not hang whoever writes.
        stream.set_write_timeout(Some(Duration::from_secs(60)))?;
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (tell, hellos) = mpsc::channel();
        let reader = stream.try_clone()?;
        let theirs = shared.clone();
        thread::spawn(move || read(reader, &theirs, &tell));
        // Ids begin anywhere: late answers to an earlier client are nobody's.
        let session = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64)
            ^ (u64::from(std::process::id()) << 40);
        Ok(Self {
            writer: Mutex::new(stream.try_clone()?),
            stream,
            shared,
            hellos: Mutex::new(hellos),
            next: AtomicU64::new(session),
            session,
        })
    }

    /// One attempt to be heard, which ends after `limit`: the boot id of the
    /// system that answered. `flush` ends a frame that a dead host may have
    /// begun: a second attempt should ask for it.
    pub fn hello(&self, limit: Duration, flush: bool) -> Result<Option<String>> {
        if flush {
            lock(&self.writer).write_all(&vec![0; MAX_FRAME]).context("writing to the agent's port")?;
        }
        self.send(&ToAgent::Hello { session: self.session }, &[])?;
        let end = Instant::now() + limit;
        let hellos = lock(&self.hellos);
        loop {
            match hellos.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok((session, boot_id)) if session == self.session => return Ok(Some(boot_id)),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
            }
        }
    }

    pub fn ping(&self, limit: Duration) -> Result<()> {
        let (id, replies) = self.open();
        self.send(&ToAgent::Ping { id }, &[])?;
        match self.reply(id, &replies, Instant::now() + limit)? {
            (FromAgent::Pong { .. }, _) => Ok(()),
            (other, _) => bail!("the agent answers a ping with {other:?}"),
        }
    }

    pub fn run(
        &self,
        command: &str,
        env: &BTreeMap<String, String>,
        input: &[u8],
        deadline: Duration,
    ) -> Result<Output> {
        let mut streams = [Vec::new(), Vec::new()];
        let mut truncated = false;
        let (status, expired) = self.stream(command, env, input, deadline, |stream, body| {
            let kept: &mut Vec<u8> = &mut streams[usize::from(stream == 2)];
            let room = MAX_OUTPUT.saturating_sub(kept.len()).min(body.len());
            truncated |= room < body.len();
            kept.extend_from_slice(&body[..room]);
            Ok(())
        })?;
        let [stdout, stderr] = streams.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Ok(Output { status, stdout, stderr, expired, truncated })
    }

    /// The same, with its output handed on as it comes (stream 1 or 2): the
    /// status, and whether it was killed at its deadline.
    pub fn stream(
        &self,
        command: &str,
        env: &BTreeMap<String, String>,
        input: &[u8],
        deadline: Duration,
        mut output: impl FnMut(u8, &[u8]) -> Result<()>,
    ) -> Result<(i32, bool)> {
        let (id, replies) = self.open();
        let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        let end = Instant::now() + deadline + GRACE;
        self.send(
            &ToAgent::Run { id, command: command.to_owned(), env: env.clone(), deadline_ms },
            &[],
        )?;
        for piece in input.chunks(CHUNK) {
            self.send(&ToAgent::Data { id }, piece)?;
        }
        self.send(&ToAgent::End { id }, &[])?;
        loop {
            let (message, body) = self.reply(id, &replies, end)?;
            match message {
                FromAgent::Out { stream, .. } => output(stream, &body)?,
                FromAgent::Exit { code, signal, expired, .. } => {
                    return Ok((code.unwrap_or(128 + signal.unwrap_or(0)), expired));
                }
                FromAgent::Error { message, .. } => bail!("{message}"),
                other => bail!("the agent answers a command with {other:?}"),
            }
        }
    }

    pub fn push(&self, mut file: impl Read, path: &str, mode: u32) -> Result<()> {
        wire::check_path(path)?;
        let (id, replies) = self.open();
        self.send(&ToAgent::Push { id, path: path.to_owned(), mode }, &[])?;
        let mut buffer = vec![0; CHUNK];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            self.send(&ToAgent::Data { id }, &buffer[..length])?;
            // A full disk is told at once, not after the last byte.
            if let Ok((FromAgent::Error { message, .. }, _)) = replies.try_recv() {
                bail!("{message}");
            }
        }
        self.send(&ToAgent::End { id }, &[])?;
        match self.reply(id, &replies, Instant::now() + GRACE)? {
            (FromAgent::Done { .. }, _) => Ok(()),
            (FromAgent::Error { message, .. }, _) => bail!("{message}"),
            (other, _) => bail!("the agent answers a push with {other:?}"),
        }
    }

    /// Writes the file to `target`; its mode.
    pub fn pull(&self, path: &str, target: &mut impl Write) -> Result<u32> {
        wire::check_path(path)?;
        let (id, replies) = self.open();
        self.send(&ToAgent::Pull { id, path: path.to_owned() }, &[])?;
        loop {
            match self.reply(id, &replies, Instant::now() + GRACE)? {
                (FromAgent::Data { .. }, body) => target.write_all(&body)?,
                (FromAgent::Done { mode, .. }, _) => return Ok(mode & 0o7777),
                (FromAgent::Error { message, .. }, _) => bail!("{message}"),
                (other, _) => bail!("the agent answers a pull with {other:?}"),
            }
        }
    }

    /// A command on a terminal, joined to the given files until it ends; its
    /// status. `size` is asked for whenever something is typed.
    pub fn terminal(
        self: &Arc<Self>,
        command: &str,
        mut input: File,
        mut output: impl Write,
        size: impl Fn() -> (u16, u16) + Send + 'static,
    ) -> Result<i32> {
        let (id, replies) = self.open();
        let (rows, cols) = size();
        let term = std::env::var("TERM").unwrap_or_else(|_| "vt100".to_owned());
        self.send(&ToAgent::Terminal { id, command: command.to_owned(), term, rows, cols }, &[])?;
        let client = self.clone();
        // Ends with the process when nobody types any more.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            let mut last = (rows, cols);
            while let Ok(length) = input.read(&mut buffer) {
                let now = size();
                if now != last {
                    let _ = client.send(&ToAgent::Resize { id, rows: now.0, cols: now.1 }, &[]);
                    last = now;
                }
                if length == 0 || client.send(&ToAgent::Data { id }, &buffer[..length]).is_err() {
                    break;
                }
            }
        });
        loop {
            let far = Instant::now() + Duration::from_secs(365 * 86400);
            match self.reply(id, &replies, far)? {
                (FromAgent::Out { .. }, body) => {
                    output.write_all(&body)?;
                    output.flush()?;
                }
                (FromAgent::Exit { code, signal, .. }, _) => {
                    return Ok(code.unwrap_or(128 + signal.unwrap_or(0)));
                }
                (FromAgent::Error { message, .. }, _) => bail!("{message}"),
                (other, _) => bail!("the agent answers a terminal with {other:?}"),
            }
        }
    }

    fn open(&self) -> (u64, Receiver<Reply>) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel();
        let mut shared = lock(&self.shared);
        // Without an entry the sender is dropped here, and waiting ends at once.
        if shared.closed.is_none() {
            shared.waiting.insert(id, sender);
        }
        drop(shared);
        (id, receiver)
    }

    fn send(&self, message: &ToAgent, body: &[u8]) -> Result<()> {
        let frame = wire::encode(message, body)?;
        lock(&self.writer).write_all(&frame).map_err(|error| match lock(&self.shared).closed.clone() {
            Some(reason) => anyhow!(reason),
            None => anyhow!(error).context("writing to the agent's port"),
        })
    }

    fn reply(&self, id: u64, replies: &Receiver<Reply>, end: Instant) -> Result<Reply> {
        let reply = replies.recv_timeout(end.saturating_duration_since(Instant::now()));
        let last = !matches!(&reply, Ok((FromAgent::Out { .. } | FromAgent::Data { .. }, _)));
        if last {
            lock(&self.shared).waiting.remove(&id);
        }
        match reply {
            Ok(reply) => Ok(reply),
            Err(RecvTimeoutError::Timeout) => {
                // Whatever it is, it shall not go on for nobody.
                let _ = self.send(&ToAgent::Kill { id }, &[]);
                bail!("the agent does not answer: the guest hangs, is paused or is very slow")
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.gone()),
        }
    }

    fn gone(&self) -> anyhow::Error {
        let reason = lock(&self.shared).closed.clone();
        anyhow!(reason.unwrap_or_else(|| "the connection to the agent was given up".to_owned()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn read(mut stream: UnixStream, shared: &Mutex<Shared>, hellos: &mpsc::Sender<(u64, String)>) {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; CHUNK];
    let reason = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break "QEMU has closed the agent's port".to_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => break format!("reading the agent's port: {error}"),
            Ok(length) => decoder.push(&buffer[..length]),
        }
        while let Some(frame) = decoder.next::<FromAgent>() {
            let Ok((message, body)) = frame else { continue };
            match (&message, message.id()) {
                (FromAgent::Hello { session, boot_id }, _) => {
                    let _ = hellos.send((*session, boot_id.clone()));
                }
                (_, Some(id)) => {
                    if let Some(waiting) = lock(shared).waiting.get(&id) {
                        let _ = waiting.send((message, body));
                    }
                }
                (_, None) => {}
            }
        }
    };
    let mut shared = lock(shared);
    shared.closed = Some(reason);
    shared.waiting.clear();
}

/// The content of a file as it is pushed, with its mode.
pub fn open_for_push(file: &Path) -> Result<(File, u32)> {
    use std::os::unix::fs::PermissionsExt;
    let opened = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let meta = opened.metadata()?;
    ensure!(meta.is_file(), "{} is not a file", file.display());
    Ok((opened, meta.permissions().mode() & 0o7777))
}

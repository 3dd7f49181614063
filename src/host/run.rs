//! Commands: short ones with a deadline and bounded output, and long-lived
//! children that outlive us.
//!
//! A child in uninterruptible sleep survives SIGKILL (`zpool status` on a
//! suspended pool). Such a child is left to a task that reaps it when it ends;
//! it is counted in [`Runner::stuck`], and nobody waits for it.
#![allow(clippy::disallowed_methods, reason = "this is the door")]

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::follow::Following;
use super::launch::{Launch, Waiting};

/// A command as a value: what would be run, and within which bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Name or path of the program.
    pub program: OsString,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to our own environment.
    pub env: Vec<(OsString, OsString)>,
    /// Written to its standard input, which is then closed.
    pub stdin: Vec<u8>,
    /// After this it is killed.
    pub deadline: Duration,
    /// More output than this, on either stream, is an error.
    pub limit: usize,
}

impl Command {
    /// A command with ten seconds and 16 MiB.
    pub fn new<A: Into<OsString>>(
        program: impl Into<OsString>,
        args: impl IntoIterator<Item = A>,
    ) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            stdin: Vec::new(),
            deadline: Duration::from_secs(10),
            limit: 16 << 20,
        }
    }

    /// The same with another deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    pub(super) fn to_process(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.args);
        // Output that is parsed must not depend on the locale; plain `C`
        // truncates zpool's JSON at non-ASCII paths.
        command.env("LC_ALL", "C.UTF-8");
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        // A group of its own, so that a deadline ends its children too and a
        // Ctrl-C meant for us does not reach it.
        command.process_group(0);
        command
    }
}

impl fmt::Display for Command {
    /// As a shell would take it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", quoted(&self.program))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

/// A word for the shell: quoted only where it has to be.
pub fn quoted(word: &std::ffi::OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:=,+@%".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.into_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// We were not its parent and cannot know.
    Unknown,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
            Self::Unknown => f.write_str("exit status unknown"),
        }
    }
}

impl From<ExitStatus> for Exit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Unknown,
        }
    }
}

/// What a command that ended within its bounds has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
}

/// Why a command has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("cannot run `{command}`")]
    Start {
        /// The whole of it.
        command: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("`{command}` failed: {exit}{}", said(stderr))]
    Failed {
        /// The whole of it.
        command: String,
        /// How it ended.
        exit: Exit,
        /// What it said, trimmed.
        stderr: String,
    },
    /// It was killed at its deadline.
    #[error("`{command}` did not end within {deadline:?}{}", if *stuck { " and cannot be killed: it hangs in the kernel" } else { "" })]
    Deadline {
        /// The whole of it.
        command: String,
        /// What it was given.
        deadline: Duration,
        /// SIGKILL did not end it either.
        stuck: bool,
    },
    /// It said more than it may.
    #[error("`{command}` printed more than {limit} bytes")]
    TooMuch {
        /// The whole of it.
        command: String,
        /// The bound.
        limit: usize,
    },
}

fn said(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

impl RunError {
    /// Whether the program is not installed.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Start { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Output {
    /// Standard output of a success; otherwise the failure with what it said.
    pub fn success(self, command: &Command) -> Result<Vec<u8>, RunError> {
        if self.exit == Exit::Code(0) {
            return Ok(self.stdout);
        }
        let stderr = String::from_utf8_lossy(&self.stderr).trim().chars().take(4096).collect();
        Err(RunError::Failed { command: command.to_string(), exit: self.exit, stderr })
    }
}

/// A child that was started to outlive us.
pub struct Started {
    /// Its process id.
    pub pid: u32,
    /// How it ended, when it has.
    pub ended: oneshot::Receiver<Exit>,
}

/// A command under way.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<Output, RunError>> + Send + 'a>>;

/// Who runs the commands.
pub trait Runner: Send + Sync {
    /// Runs a command to its end or its deadline; any exit status is an `Ok`.
    fn run(&self, command: Command) -> Running<'_>;

    /// Starts a long-lived child in a session of its own, its output appended
    /// to `log`. It is not killed when we end. Deadline and limit do not apply.
    fn start(&self, command: Command, log: PathBuf) -> Result<Started, RunError>;

    /// The same for one that stands still until it is let go, so that it can be
    /// put where it belongs before. A runner that cannot hold it back starts it.
    fn hold(&self, launch: Launch) -> Result<Waiting, RunError> {
        let Started { pid, ended } = self.start(launch.command, launch.log)?;
        Ok(Waiting { pid, ended, gate: None })
    }

    /// Starts a child whose lines are read as they come, for as long as they
    /// are wanted. Deadline and limit do not apply.
    fn follow(&self, command: &Command) -> Result<Following, RunError> {
        let source = io::ErrorKind::Unsupported.into();
        Err(RunError::Start { command: command.to_string(), source })
    }

    /// How many killed children are still there, hanging in the kernel.
    fn stuck(&self) -> usize;
}

/// The machine's processes.
#[derive(Default)]
pub struct RealRunner {
    stuck: Arc<AtomicUsize>,
    launcher: Option<PathBuf>,
}

impl RealRunner {
    /// One that holds children back with this binary, which has
    /// [`launch::main`](super::launch::main) in it.
    pub fn with_launcher(launcher: PathBuf) -> Self {
        Self { launcher: Some(launcher), ..Self::default() }
    }

    fn spawn(command: &Command, stdin: Stdio, log: PathBuf) -> io::Result<Started> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut child =
            command.to_process().stdin(stdin).stdout(log.try_clone()?).stderr(log).spawn()?;
        let pid = child.id().unwrap_or(0);
        let (tell, ended) = oneshot::channel();
        tokio::spawn(async move {
            let exit = child.wait().await.map_or(Exit::Unknown, Exit::from);
            // The receiver may be gone; the child is reaped either way.
            let _ = tell.send(exit);
        });
        Ok(Started { pid, ended })
    }
}

/// How long a killed child may take to go before it counts as stuck.
const KILL_GRACE: Duration = Duration::from_millis(500);

impl Runner for RealRunner {
    fn run(&self, command: Command) -> Running<'_> {
        Box::pin(async move {
            let start = |source| RunError::Start { command: command.to_string(), source };
            let mut child = command
                .to_process()
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(start)?;
            // Who does not wait any more, as at our end, leaves nothing behind.
            let mut group = Group::of(&child);
            let talked = timeout(command.deadline, talk(&mut child, &command)).await;
            match talked {
                Ok(Ok(output)) => {
                    group.0 = None;
                    Ok(output)
                }
                Ok(Err(Broken::Io(source))) => {
                    self.kill(child, group).await;
                    Err(start(source))
                }
                Ok(Err(Broken::TooMuch)) => {
                    self.kill(child, group).await;
                    Err(RunError::TooMuch { command: command.to_string(), limit: command.limit })
                }
                Err(_) => {
                    let stuck = self.kill(child, group).await;
                    let deadline = command.deadline;
                    Err(RunError::Deadline { command: command.to_string(), deadline, stuck })
                }
            }
        })
    }

    fn start(&self, command: Command, log: PathBuf) -> Result<Started, RunError> {
        let started = Self::spawn(&command, Stdio::null(), log);
        started.map_err(|source| RunError::Start { command: command.to_string(), source })
    }

    fn hold(&self, launch: Launch) -> Result<Waiting, RunError> {
        let Some(launcher) = &self.launcher else {
            if launch.account.is_some() {
                let source = io::Error::other("nothing here can start it as another user");
                return Err(RunError::Start { command: launch.command.to_string(), source });
            }
            let Started { pid, ended } = self.start(launch.command, launch.log)?;
            return Ok(Waiting { pid, ended, gate: None });
        };
        let spawn = || {
            let (stdin, gate) = io::pipe()?;
            let waiting = launch.waiting(launcher);
            Ok((Self::spawn(&waiting, stdin.into(), launch.log.clone())?, gate))
        };
        let (Started { pid, ended }, gate) = spawn()
            .map_err(|source| RunError::Start { command: launch.command.to_string(), source })?;
        Ok(Waiting { pid, ended, gate: Some(gate) })
    }

    fn follow(&self, command: &Command) -> Result<Following, RunError> {
        Following::start(command)
    }

    fn stuck(&self) -> usize {
        self.stuck.load(Ordering::Relaxed)
    }
}

/// A child's process group, which is killed when this is dropped.
struct Group(Option<nix::unistd::Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Self(pid.map(nix::unistd::Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may just have ended by itself.
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl RealRunner {
    /// Kills the child's process group; true when it does not go.
    async fn kill(&self, mut child: Child, group: Group) -> bool {
        drop(group);
        if timeout(KILL_GRACE, child.wait()).await.is_ok() {
            return false;
        }
        self.stuck.fetch_add(1, Ordering::Relaxed);
        let stuck = Arc::clone(&self.stuck);
        tokio::spawn(async move {
            // Whatever comes back, it is gone.
            let _ = child.wait().await;
            stuck.fetch_sub(1, Ordering::Relaxed);
        });
        true
    }
}

enum Broken {
    Io(io::Error),
    TooMuch,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Feeds the child and reads both its streams to their end, then waits for it.
async fn talk(child: &mut Child, command: &Command) -> Result<Output, Broken> {
    let stdin = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A child that does not read its input is not an error of ours.
            let _ = stdin.write_all(&command.stdin).await;
        }
        Ok(())
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ((), stdout, stderr) =
        tokio::try_join!(feed, read(stdout, command.limit), read(stderr, command.limit))?;
    Ok(Output { exit: child.wait().await?.into(), stdout, stderr })
}

async fn read<R: AsyncRead + Unpin>(stream: Option<R>, limit: usize) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    }
    if bytes.len() > limit { Err(Broken::TooMuch) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        Command::new("sh", ["-c", script])
    }

    #[tokio::test]
    async fn a_failure_shows_command_status_and_stderr() {
        let command = sh("echo no such pool >&2; exit 3");
        let output = RealRunner::default().run(command.clone()).await.unwrap();
        assert_eq!(
            output.success(&command).unwrap_err().to_string(),
            "`sh -c 'echo no such pool >&2; exit 3'` failed: exit status 3: no such pool"
        );
    }

    #[tokio::test]
    async fn a_deadline_ends_the_whole_group() {
        let runner = RealRunner::default();
        let command = sh("sleep 60 & sleep 60").deadline(Duration::from_millis(200));
        let error = runner.run(command).await.unwrap_err();
        assert!(matches!(error, RunError::Deadline { stuck: false, .. }), "{error}");
        assert_eq!(runner.stuck(), 0);
    }

    #[tokio::test]
    async fn nobody_outlives_who_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("alive");
        let runner = RealRunner::default();
        runner.run(Command::new("mkfifo", [&fifo])).await.unwrap();
        // Both shell and child have the FIFO open: its end is theirs.
        let both = sh(&format!("exec 3>{}; sleep 60 & echo >&3; wait", fifo.display()));
        let (tell, told) = oneshot::channel();
        let all = tokio::task::spawn_blocking(move || {
            let mut file = std::fs::File::open(fifo).unwrap();
            std::io::Read::read_exact(&mut file, &mut [0]).unwrap();
            tell.send(()).unwrap();
            std::io::Read::read_to_end(&mut file, &mut Vec::new())
        });
        tokio::select! {
            ended = runner.run(both) => panic!("{ended:?}"),
            told = told => told.unwrap(),
        }
        let left = timeout(Duration::from_secs(30), all).await;
        assert_eq!(left.expect("they go on").unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn bounds_output_and_feeds_input() {
        let runner = RealRunner::default();
        let mut command = sh("cat");
        command.stdin = b"hello".to_vec();
        assert_eq!(runner.run(command.clone()).await.unwrap().stdout, b"hello");
        command.limit = 4;
        assert!(matches!(runner.run(command).await, Err(RunError::TooMuch { .. })));
    }

    #[tokio::test]
    async fn a_missing_program_is_told_apart() {
        let error = RealRunner::default().run(Command::new("no-such-program", [""; 0])).await;
        assert!(error.unwrap_err().is_missing());
    }

    #[tokio::test]
    async fn a_started_child_logs_and_tells_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let started = RealRunner::default().start(sh("echo out; kill -9 $$"), log.clone()).unwrap();
        assert_eq!(started.ended.await.unwrap(), Exit::Signal(9));
        assert_eq!(std::fs::read_to_string(log).unwrap(), "out\n");
    }
}

//! The QEMU process: started so that it does not outlive us, watched, ended.

use crate::argv::RunDir;
use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{OnceLock, mpsc},
    time::{Duration, Instant},
};

pub struct Machine {
    pub pid: u32,
    process: OwnedFd,
    child: Option<Child>,
}

impl Machine {
    /// `detach`: it goes on when we end (`lab up`). Else the kernel ends it with us.
    pub fn start(args: Vec<String>, run: &RunDir, detach: bool) -> Result<Self> {
        let stderr = fs::File::create(run.stderr())?;
        let mut command = Command::new("qemu-system-x86_64");
        // Temporary overlays belong to the run, not to /var/tmp.
        command.args(args).env("TMPDIR", &run.0).current_dir(&run.0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let parent = rustix::process::getpid();
        let prepare = move || {
            rustix::process::setsid()?;
            if !detach {
                rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
                // We may have died before that.
                if rustix::process::getppid() != Some(parent) {
                    return Err(std::io::ErrorKind::BrokenPipe.into());
                }
            }
            Ok(())
        };
        // SAFETY: between fork and exec only system calls are made.
        unsafe { command.pre_exec(prepare) };
        let child = if detach { command.spawn() } else { spawn_from_lasting_thread(command) }
            .context("starting qemu-system-x86_64 (package qemu-system-x86)")?;
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Self { pid: child.id(), process, child: Some(child) })
    }

    /// The QEMU of a lab that another process started; `None` when it has ended.
    pub fn attach(pid: u32, run: &Path) -> Result<Option<Self>> {
        let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            bail!("{pid} is no process id");
        };
        let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else { return Ok(None) };
        // After the pidfd: the number cannot change hands between the two.
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let ours = String::from_utf8_lossy(&arguments).contains(&*run.to_string_lossy());
        Ok(ours.then_some(Self { pid, process, child: None }))
    }

    pub fn running(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&now)), Ok(0))
    }

    /// Waits for QEMU to end by itself.
    pub fn ended_within(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while self.running() {
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.reap();
        true
    }

    /// Ends it at once: nothing that it had not written is written.
    pub fn kill(&mut self) {
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        self.ended_within(Duration::from_secs(10));
    }

    fn reap(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// Leaves it running when this value goes.
    pub fn leave(&mut self) {
        self.child = None;
    }
}

/// The parent-death signal comes when the *thread* that forked ends, and the
/// threads of a test runner end with each test.
fn spawn_from_lasting_thread(command: Command) -> std::io::Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in orders {
                let _ = answer.send(command.spawn());
            }
        });
        sender
    });
    let (answer, result) = mpsc::channel();
    let gone = || std::io::Error::other("the thread that starts QEMU has ended");
    spawner.send((command, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

/// The end of a file, at most `lines` lines of its last 64 KiB.
pub fn tail(file: &Path, lines: usize) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = fs::File::open(file)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
    };
    let text = read().unwrap_or_default();
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// How the kernel says that it is over.
pub const PANIC: &str = "Kernel panic - not syncing";

/// An error that says all that is known about a machine in trouble.
pub fn trouble(what: impl std::fmt::Display, run: &RunDir) -> anyhow::Error {
    let mut text = what.to_string();
    let stderr = tail(&run.stderr(), 20);
    if !stderr.is_empty() {
        text += &format!("\nQEMU says:\n{stderr}");
    }
    // An oops is longer than what a hang leaves behind.
    let lines = if tail(&run.console_log(), 80).contains(PANIC) { 80 } else { 30 };
    let console = tail(&run.console_log(), lines);
    if console.is_empty() {
        text += "\nThe console is empty.";
    } else {
        text += &format!("\nThe console ends with:\n{console}");
    }
    anyhow!(text)
}

//! A machine made of values: a folder for its files, canned answers for its
//! commands, a clock that is moved by hand.
//!
//! The tree is real files below a temporary folder, so that the code under
//! test reads them as it reads the kernel's; links are relative, as in sysfs.
//! What a write means ([`WriteHook`](super::sys::WriteHook)) is up to the
//! domain that fakes its device model.
#![allow(clippy::disallowed_methods, reason = "part of the door: it builds trees")]

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::clock::FakeClock;
use super::dial::RealDial;
use super::follow::Following;
use super::process::FakeProcesses;
use super::run::{Command, Exit, Output, RunError, Runner, Running, Started};
use super::units::{FakeUnits, Units};
use super::{Host, Store, SysRoot};
use crate::base::Timestamp;

/// Builds and changes a fake machine below a folder that the caller keeps.
pub struct FakeHost {
    root: PathBuf,
    /// Its clock; stands still until moved.
    pub clock: Arc<FakeClock>,
    /// Its commands.
    pub runner: Arc<FakeRunner>,
    /// Its processes.
    pub processes: Arc<FakeProcesses>,
    /// Its systemd; there is none unless a test says so.
    pub units: Arc<FakeUnits>,
}

impl FakeHost {
    /// An empty machine below `root`, in 2026.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            clock: Arc::new(FakeClock::at(Timestamp::from_secs(1_795_000_000))),
            runner: Arc::new(FakeRunner::default()),
            processes: Arc::new(FakeProcesses::default()),
            units: Arc::new(FakeUnits::default()),
        }
    }

    /// The machine as the rooms see it; state and runtime lie beside its files.
    pub fn host(&self) -> Host {
        Host {
            sys: SysRoot::new(self.root.join("root")),
            runner: Arc::clone(&self.runner) as Arc<dyn Runner>,
            processes: Arc::clone(&self.processes) as Arc<dyn super::Processes>,
            clock: Arc::clone(&self.clock) as Arc<dyn super::Clock>,
            dial: Arc::new(RealDial),
            units: Arc::clone(&self.units) as Arc<dyn Units>,
            state: Store::new(self.root.join("state")),
            runtime: Store::new(self.root.join("runtime")),
        }
    }

    fn place(&self, path: &str) -> io::Result<PathBuf> {
        let place = self.root.join("root").join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().unwrap_or(&self.root))?;
        Ok(place)
    }

    /// Writes a file, with its folders.
    pub fn file(&self, path: &str, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        fs::write(self.place(path)?, bytes)
    }

    /// Makes a folder.
    pub fn dir(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.place(path)?)
    }

    /// Makes or replaces a link; both paths are of the machine, the link is relative.
    pub fn link(&self, path: &str, target: &str) -> io::Result<()> {
        let place = self.place(path)?;
        let up = Path::new(path.trim_start_matches('/')).components().count() - 1;
        let relative = "../".repeat(up) + target.trim_start_matches('/');
        match fs::remove_file(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => symlink(relative, place),
        }
    }

    /// Removes a file, link or whole folder; that it is not there is fine.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let place = self.place(path)?;
        let removed = match fs::symlink_metadata(&place) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(place),
            Ok(_) => fs::remove_file(place),
            Err(error) => Err(error),
        };
        removed.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
    }
}

/// A command's canned answer.
pub type Answer = Result<Output, RunError>;

type Script = Box<dyn FnMut(&Command) -> Option<Answer> + Send>;

/// Answers commands from scripts and remembers what was asked.
#[derive(Default)]
pub struct FakeRunner {
    scripts: Mutex<Vec<Script>>,
    asked: Mutex<VecDeque<Command>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeRunner {
    /// Adds a script; the newest one that answers a command wins.
    pub fn on(&self, script: impl FnMut(&Command) -> Option<Answer> + Send + 'static) {
        lock(&self.scripts).push(Box::new(script));
    }

    /// Answers every command that begins with these words with this output.
    pub fn says(&self, begins: &str, stdout: impl Into<Vec<u8>>) {
        let (begins, stdout) = (begins.to_owned(), stdout.into());
        self.on(move |command| {
            let output = Output { exit: Exit::Code(0), stdout: stdout.clone(), stderr: Vec::new() };
            command.to_string().starts_with(&begins).then_some(Ok(output))
        });
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Command> {
        lock(&self.asked).drain(..).collect()
    }

    fn answer(&self, command: &Command) -> Answer {
        lock(&self.asked).push_back(command.clone());
        let answer = lock(&self.scripts).iter_mut().rev().find_map(|script| script(command));
        answer.unwrap_or_else(|| {
            let source = io::Error::new(io::ErrorKind::NotFound, "not on this fake machine");
            Err(RunError::Start { command: command.to_string(), source })
        })
    }
}

impl Runner for FakeRunner {
    fn run(&self, command: Command) -> Running<'_> {
        Box::pin(async move { self.answer(&command) })
    }

    /// The child ends at once with its answer's exit status.
    fn start(&self, command: Command, _log: PathBuf) -> Result<Started, RunError> {
        let output = self.answer(&command)?;
        let (tell, ended) = oneshot::channel();
        // The receiver is in our hands.
        let _ = tell.send(output.exit);
        Ok(Started { pid: 0, ended })
    }

    /// The answer's output, and then its end.
    fn follow(&self, command: &Command) -> Result<Following, RunError> {
        self.answer(command).map(|output| Following::of(output.stdout))
    }

    fn stuck(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_and_lead_into_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file("/sys/devices/pci0000:00/0000:00:01.0/vendor", "0x8086\n").unwrap();
        fake.link("/sys/bus/pci/devices/0000:00:01.0", "/sys/devices/pci0000:00/0000:00:01.0")
            .unwrap();
        let sys = fake.host().sys;
        assert_eq!(sys.text("/sys/bus/pci/devices/0000:00:01.0/vendor").unwrap(), "0x8086");
        assert_eq!(
            sys.resolve("/sys/bus/pci/devices/0000:00:01.0").unwrap(),
            Path::new("/sys/devices/pci0000:00/0000:00:01.0")
        );
        fake.remove("/sys/bus/pci/devices/0000:00:01.0").unwrap();
        assert!(sys.list("/sys/bus/pci/devices").unwrap().is_empty());
    }

    #[tokio::test]
    async fn commands_without_a_script_are_missing() {
        let runner = FakeRunner::default();
        runner.says("zpool list", "tank");
        let listed = runner.run(Command::new("zpool", ["list", "-H"])).await.unwrap();
        assert_eq!(listed.stdout, b"tank");
        assert!(runner.run(Command::new("zfs", ["list"])).await.unwrap_err().is_missing());
        assert_eq!(runner.asked().len(), 2);
    }
}

//! Processes that are not our children, held so that their number cannot be
//! taken over by another: signalled and waited for through a pidfd.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// What a process can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Please end.
    Term,
    /// End.
    Kill,
}

/// Waits for the end of a process.
pub type Ending<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// One process, held: as long as this lives, signals reach it or nobody.
pub trait Process: Send + Sync {
    /// Its number.
    fn pid(&self) -> u32;
    /// Signals it; that it has ended is an error of kind `NotFound`.
    fn signal(&self, signal: Signal) -> io::Result<()>;
    /// Resolves when it has ended, reaped or not. May be dropped and asked again.
    fn ended(&self) -> Ending<'_>;
}

/// Who knows the processes.
pub trait Processes: Send + Sync {
    /// Takes hold of a process; `None` when there is none of this number.
    /// Whether it is the one that was meant is checked after, in `/proc`.
    fn open(&self, pid: u32) -> io::Result<Option<Box<dyn Process>>>;
}

/// The machine's processes.
pub struct RealProcesses;

struct RealProcess {
    pid: u32,
    fd: AsyncFd<OwnedFd>,
}

impl Processes for RealProcesses {
    fn open(&self, pid: u32) -> io::Result<Option<Box<dyn Process>>> {
        let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        match pidfd_open(raw, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
            Ok(fd) => {
                #[allow(
                    deprecated,
                    reason = "its successor is unsafe and asks for what an OwnedFd promises"
                )]
                let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
                Ok(Some(Box::new(RealProcess { pid, fd })))
            }
        }
    }
}

impl Process for RealProcess {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let signal = match signal {
            Signal::Term => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        pidfd_send_signal(self.fd.get_ref(), signal).map_err(|error| match error {
            rustix::io::Errno::SRCH => io::Error::new(io::ErrorKind::NotFound, "it has ended"),
            other => other.into(),
        })
    }

    fn ended(&self) -> Ending<'_> {
        Box::pin(async move {
            // An error here means that the runtime shuts down; a process must
            // not be taken for ended because of that.
            if self.fd.readable().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// Processes made of values.
#[derive(Default)]
pub struct FakeProcesses {
    alive: Mutex<BTreeMap<u32, watch::Sender<Fate>>>,
}

/// What has happened to a fake process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fate {
    /// The signals it was sent, oldest first.
    pub signals: Vec<Signal>,
    /// Whether it has ended.
    pub ended: bool,
}

struct FakeProcess {
    pid: u32,
    fate: watch::Sender<Fate>,
}

impl FakeProcesses {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, watch::Sender<Fate>>> {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process begins; what is done to it is seen through the receiver.
    pub fn begin(&self, pid: u32) -> watch::Receiver<Fate> {
        let (fate, seen) = watch::channel(Fate::default());
        self.lock().insert(pid, fate);
        seen
    }

    /// A process ends.
    pub fn end(&self, pid: u32) {
        if let Some(fate) = self.lock().remove(&pid) {
            fate.send_modify(|fate| fate.ended = true);
        }
    }

    /// The numbers of those that live.
    pub fn alive(&self) -> Vec<u32> {
        self.lock().keys().copied().collect()
    }
}

impl Processes for FakeProcesses {
    fn open(&self, pid: u32) -> io::Result<Option<Box<dyn Process>>> {
        let fate = self.lock().get(&pid).cloned();
        Ok(fate.map(|fate| Box::new(FakeProcess { pid, fate }) as Box<dyn Process>))
    }
}

impl Process for FakeProcess {
    fn pid(&self) -> u32 {
        self.pid
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        if self.fate.borrow().ended {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it has ended"));
        }
        self.fate.send_modify(|fate| fate.signals.push(signal));
        Ok(())
    }

    fn ended(&self) -> Ending<'_> {
        let mut fate = self.fate.subscribe();
        Box::pin(async move {
            // We hold the sender: it cannot go away.
            let _ = fate.wait_for(|fate| fate.ended).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Command;
    use crate::host::run::{RealRunner, Runner};
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn holds_signals_and_sees_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let child = RealRunner::default()
            .start(Command::new("sleep", ["60"]), dir.path().join("log"))
            .unwrap();
        let held = RealProcesses.open(child.pid).unwrap().unwrap();
        assert!(timeout(Duration::from_millis(50), held.ended()).await.is_err());
        held.signal(Signal::Kill).unwrap();
        timeout(Duration::from_secs(5), held.ended()).await.unwrap();
        child.ended.await.unwrap();
        assert_eq!(held.signal(Signal::Term).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(RealProcesses.open(child.pid).unwrap().is_none());
    }

    #[test]
    fn no_process_has_these_numbers() {
        assert!(RealProcesses.open(0).unwrap().is_none());
        assert!(RealProcesses.open(u32::MAX).unwrap().is_none());
    }

    #[tokio::test]
    async fn fakes_behave_alike() {
        let fake = FakeProcesses::default();
        let mut seen = fake.begin(7);
        let held = fake.open(7).unwrap().unwrap();
        held.signal(Signal::Term).unwrap();
        assert_eq!(seen.wait_for(|f| !f.signals.is_empty()).await.unwrap().signals, [Signal::Term]);
        fake.end(7);
        held.ended().await;
        assert!(held.signal(Signal::Kill).is_err());
        assert!(fake.open(7).unwrap().is_none());
    }
}

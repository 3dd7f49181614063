//! On which processors a thread may run: `sched_setaffinity(2)`, for threads
//! of others and of the kernel, and a fake of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::cpus::Cpus;

/// Who knows on which processors threads may run.
pub trait Affinity: Send + Sync {
    /// Where a thread may run. One that has ended is an error of kind `NotFound`.
    fn get(&self, thread: u32) -> io::Result<Cpus>;
    /// Says where it may run. The kernel refuses it for its threads of one
    /// processor (`EINVAL`), and cuts it to the thread's cpuset.
    fn set(&self, thread: u32, cpus: &Cpus) -> io::Result<()>;
}

/// The machine's.
pub struct RealAffinity;

fn pid(thread: u32) -> io::Result<Pid> {
    // Zero would be ourselves.
    let pid = i32::try_from(thread).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

fn fail(error: rustix::io::Errno) -> io::Error {
    if error == rustix::io::Errno::SRCH {
        return io::Error::new(io::ErrorKind::NotFound, "it has ended");
    }
    error.into()
}

impl Affinity for RealAffinity {
    fn get(&self, thread: u32) -> io::Result<Cpus> {
        let set = sched_getaffinity(Some(pid(thread)?)).map_err(fail)?;
        let all = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
        Ok(all.filter_map(|cpu| u32::try_from(cpu).ok()).collect())
    }

    fn set(&self, thread: u32, cpus: &Cpus) -> io::Result<()> {
        let mut set = CpuSet::new();
        for cpu in cpus {
            match usize::try_from(*cpu) {
                // A larger number would panic.
                Ok(cpu) if cpu < CpuSet::MAX_CPU => set.set(cpu),
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            }
        }
        sched_setaffinity(Some(pid(thread)?), &set).map_err(fail)
    }
}

/// Threads made of values.
#[derive(Default)]
pub struct FakeAffinity {
    threads: Mutex<BTreeMap<u32, Cpus>>,
    /// Threads that cannot be moved.
    fixed: Mutex<Vec<u32>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FakeAffinity {
    /// A thread that may run there.
    pub fn thread(&self, thread: u32, cpus: impl IntoIterator<Item = u32>) {
        lock(&self.threads).insert(thread, cpus.into_iter().collect());
    }

    /// From now on the kernel refuses to move it.
    pub fn fix(&self, thread: u32) {
        lock(&self.fixed).push(thread);
    }

    /// It ends.
    pub fn end(&self, thread: u32) {
        lock(&self.threads).remove(&thread);
    }

    /// All that there are.
    pub fn all(&self) -> BTreeMap<u32, Cpus> {
        lock(&self.threads).clone()
    }
}

impl Affinity for FakeAffinity {
    fn get(&self, thread: u32) -> io::Result<Cpus> {
        lock(&self.threads).get(&thread).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn set(&self, thread: u32, cpus: &Cpus) -> io::Result<()> {
        if lock(&self.fixed).contains(&thread) || cpus.is_empty() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        match lock(&self.threads).get_mut(&thread) {
            Some(now) => now.clone_from(cpus),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::run::{Command, RealRunner, Runner};

    #[tokio::test]
    async fn a_child_is_moved_and_moved_back() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let child = RealRunner::default().start(Command::new("sleep", ["60"]), log).unwrap();
        let home = RealAffinity.get(child.pid).unwrap();
        let last = Cpus::from([*home.last().unwrap()]);
        RealAffinity.set(child.pid, &last).unwrap();
        assert_eq!(RealAffinity.get(child.pid).unwrap(), last);
        RealAffinity.set(child.pid, &home).unwrap();
        assert_eq!(RealAffinity.get(child.pid).unwrap(), home);
        assert!(RealAffinity.set(child.pid, &Cpus::new()).is_err());
        assert!(RealAffinity.set(child.pid, &Cpus::from([5000])).is_err());
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.pid.try_into().unwrap()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        child.ended.await.unwrap();
        assert_eq!(RealAffinity.get(child.pid).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(RealAffinity.get(0).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

//! One process at a time: a lock on a file, for as long as the process lives.
//!
//! The file stays; only the lock on it counts, and the kernel takes that away
//! with the process, however it ends. Nobody else may open the file, because
//! whoever can read it can lock it.
#![allow(clippy::disallowed_methods, reason = "this is the door")]

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another process has locked {0}")]
    Held(PathBuf),
    /// Anything else.
    #[error("cannot lock {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Locks `path`, without waiting; the file is made where there is none.
    pub fn take(path: &Path) -> Result<Self, LockError> {
        let fail = |source| LockError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(fail)?;
        // One that was made by another version, for all to read.
        file.set_permissions(Permissions::from_mode(0o600)).map_err(fail)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(Errno::WOULDBLOCK) => Err(LockError::Held(path.to_owned())),
            Err(error) => Err(fail(error.into())),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not do: a child that is just being started shares
        // the file. A failure leaves the lock to the end of the process.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_until_dropped_and_nobody_else_may_open_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let first = Lock::take(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Lock::take(&path), Err(LockError::Held(_))));
        drop(first);
        Lock::take(&path).unwrap();
    }

    #[test]
    fn what_is_not_a_held_lock_keeps_its_cause() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("none/lock");
        let Err(LockError::Io { source, .. }) = Lock::take(&path) else { panic!("locked") };
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        assert!(matches!(Lock::take(&link), Err(LockError::Io { .. })));
    }
}

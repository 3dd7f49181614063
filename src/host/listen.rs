//! Unix sockets that others connect to: made once, stale ones replaced.
#![allow(clippy::disallowed_methods, reason = "this is the door")]

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixDatagram, UnixListener, UnixStream};
use tokio::time::timeout;

use super::lock::{Lock, LockError};

/// Why nobody can connect to us there.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another process listens.
    #[error("another process answers on {0}")]
    Taken(PathBuf),
    /// There is no lock: another process has it, or it cannot be had.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Something that is not a socket lies there.
    #[error("{0} exists and is not a socket")]
    NotSocket(PathBuf),
    /// Anything else.
    #[error("cannot listen on {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// How long the owner of an existing socket has to accept a connection.
const ANSWER: Duration = Duration::from_secs(1);

/// Listens on `path` with these permissions. A socket that somebody answers on
/// is left alone; one that nobody answers on is replaced. The lock beside the
/// socket keeps others out for as long as it lives, even when somebody removes
/// the socket.
pub async fn unix(path: &Path, mode: u32) -> Result<(UnixListener, Lock), ListenError> {
    let fail = |source| ListenError::Io { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(fail)?;
    }
    let lock = Lock::take(&path.with_extension("lock"))?;
    clear(path).await?;
    Ok((bind(path, mode).map_err(fail)?, lock))
}

/// Takes datagrams on `path` with these permissions, in a folder that is ours
/// alone by another lock: whatever socket lies there is replaced.
pub fn datagrams(path: &Path, mode: u32) -> Result<UnixDatagram, ListenError> {
    let fail = |source| ListenError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(fail(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(ListenError::NotSocket(path.to_owned()));
        }
        Ok(_) => fs::remove_file(path).map_err(fail)?,
    }
    let socket = UnixDatagram::bind(path).map_err(fail)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(fail)?;
    Ok(socket)
}

fn bind(path: &Path, mode: u32) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

async fn clear(path: &Path) -> Result<(), ListenError> {
    let fail = |source| ListenError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fail(error)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(ListenError::NotSocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    // Only a refusal proves that nobody listens: a full queue or a deadline does not.
    match timeout(ANSWER, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(fail)
        }
        _ => Err(ListenError::Taken(path.to_owned())),
    }
}

/// Removes a socket that we have listened on; that it is gone is fine.
pub fn remove(path: &Path) {
    // The next start replaces what stays.
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn replaces_only_what_nobody_answers_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/control.sock");
        let (first, lock) = unix(&path, 0o666).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        drop(lock);
        assert!(matches!(unix(&path, 0o666).await, Err(ListenError::Taken(_))));
        drop(first);
        // Until its exec, a child that another test starts at this moment shares our sockets.
        for _ in 0..100 {
            match unix(&path, 0o666).await {
                Ok(_) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("not replaced");
    }

    #[tokio::test]
    async fn datagrams_arrive_also_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("zed.sock");
        let wait = Duration::from_secs(5);
        assert!(crate::host::dial::datagram(&path, b"nobody", wait).is_err());
        drop(datagrams(&path, 0o600).unwrap());
        let socket = datagrams(&path, 0o600).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        crate::host::dial::datagram(&path, b"hello", wait).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(socket.recv(&mut buffer).await.unwrap(), 5);
        drop(socket);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "mine").unwrap();
        assert!(matches!(datagrams(&path, 0o600), Err(ListenError::NotSocket(_))));
    }

    #[tokio::test]
    async fn a_removed_socket_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let _first = unix(&path, 0o666).await.unwrap();
        fs::remove_file(&path).unwrap();
        let second = unix(&path, 0o666).await;
        assert!(matches!(second, Err(ListenError::Lock(LockError::Held(_)))), "{second:?}");
    }

    #[tokio::test]
    async fn leaves_other_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(unix(&path, 0o666).await, Err(ListenError::NotSocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }
}

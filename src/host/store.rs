//! Small files of our own that must be whole after a power loss.
#![allow(clippy::disallowed_methods, reason = "this is the door")]

use std::fs;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::SysRoot;
use super::sys::SysError;

/// A folder of small files: `/var/lib/hostd` or `/run/hostd`.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// Why one of our files could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}", path.display())]
pub struct StoreError {
    /// What was tried.
    pub what: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: io::Error,
}

impl Store {
    /// The folder; it is made when first written to.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where a file lies.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// The names in a folder, sorted; none when it does not exist.
    pub fn list(&self, folder: impl AsRef<Path>) -> Result<Vec<String>, SysError> {
        match SysRoot::new(&self.dir).list(folder) {
            Err(error) if error.is_missing() => Ok(Vec::new()),
            other => other,
        }
    }

    /// The file's text; `None` when it does not exist.
    pub fn read(&self, name: impl AsRef<Path>) -> Result<Option<String>, SysError> {
        match SysRoot::new(&self.dir).bytes(name.as_ref(), super::sys::TEXT_LIMIT) {
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
            Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|error| SysError::Invalid {
                path: self.path(name),
                why: error.utf8_error().to_string(),
            }),
        }
    }

    /// The bytes of a file that another program has written in one of our
    /// folders, at most `limit`; a link, a second name of another file or
    /// anything but a plain file is refused: it may have been put there to be
    /// read by us.
    pub fn written_by_others(
        &self,
        name: impl AsRef<Path>,
        limit: u64,
    ) -> Result<Vec<u8>, StoreError> {
        use std::os::unix::fs::MetadataExt;
        let path = self.path(name);
        let read = || -> io::Result<Vec<u8>> {
            let mut how = fs::OpenOptions::new();
            let file =
                how.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path)?;
            let about = file.metadata()?;
            if !about.is_file() || about.nlink() > 1 {
                return Err(io::Error::other("it is not a plain file"));
            }
            if about.len() > limit {
                return Err(io::Error::other(format!("it is larger than {limit} bytes")));
            }
            let mut bytes = Vec::new();
            file.take(limit).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|source| StoreError { what: "read", path: path.clone(), source })
    }

    /// Replaces the file: after a crash at any moment it holds either the old
    /// or the new text, and after return it survives a power loss.
    pub fn write(&self, name: impl AsRef<Path>, text: &str) -> Result<(), StoreError> {
        self.write_bytes(name, text.as_bytes())
    }

    /// The same for what is not text.
    pub fn write_bytes(&self, name: impl AsRef<Path>, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(name);
        let fail = |what, source| StoreError { what, path: path.clone(), source };
        let dir = path.parent().unwrap_or(&self.dir);
        make_dir(dir).map_err(|e| fail("make the folder of", e))?;
        let temporary = path.with_extension(format!("new-{}", std::process::id()));
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(&temporary)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| fs::File::open(dir)?.sync_all());
        written.map_err(|error| {
            // The temporary is useless now; that it may stay is not the error to report.
            let _ = fs::remove_file(&temporary);
            fail("write", error)
        })
    }

    /// Removes the file, durably; that it is not there is fine.
    pub fn remove(&self, name: impl AsRef<Path>) -> Result<(), StoreError> {
        let path = self.path(name);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other,
        };
        removed
            .and_then(|()| fs::File::open(path.parent().unwrap_or(&self.dir))?.sync_all())
            .map_err(|source| StoreError { what: "remove", path, source })
    }

    /// Removes a folder that is empty; that it is not there is fine.
    pub fn remove_folder(&self, name: impl AsRef<Path>) -> Result<(), StoreError> {
        let path = self.path(name);
        match fs::remove_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| StoreError { what: "remove", path, source }),
        }
    }

    /// The end of a file that may be large or not text, at most `limit`
    /// bytes, cut at the beginning of a line; `None` when it does not exist.
    pub fn tail(&self, name: impl AsRef<Path>, limit: u64) -> Result<Option<String>, StoreError> {
        let path = self.path(name);
        let read = || -> io::Result<(bool, Vec<u8>)> {
            let mut file = fs::File::open(&path)?;
            let start = file.metadata()?.len().saturating_sub(limit);
            file.seek(io::SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(limit).read_to_end(&mut bytes)?;
            Ok((start > 0, bytes))
        };
        match read() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError { what: "read", path, source }),
            Ok((cut, bytes)) => {
                let text = String::from_utf8_lossy(&bytes);
                let whole = text.split_once('\n').filter(|_| cut).map_or(&*text, |(_, rest)| rest);
                Ok(Some(whole.to_owned()))
            }
        }
    }

    /// Cuts a log that is longer than `limit` to its last `keep` bytes, under a
    /// line that says so; false when it is not. Whoever writes to it must
    /// append, and what they write at this very moment may be lost.
    pub fn cut(&self, name: impl AsRef<Path>, limit: u64, keep: u64) -> Result<bool, StoreError> {
        let path = self.path(&name);
        let fail = |source| StoreError { what: "cut", path: path.clone(), source };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(fail(error)),
            Ok(file) if !file.is_file() || file.len() <= limit => return Ok(false),
            Ok(_) => {}
        }
        let rest = self.tail(&name, keep)?.unwrap_or_default();
        let text = format!("[hostd has cut this log: it was longer than {limit} bytes]\n{rest}");
        let cut = || {
            use std::os::unix::fs::FileExt;
            let file = fs::OpenOptions::new().write(true).open(&path)?;
            // Over the beginning first: what is appended meanwhile is cut off
            // behind it, and never comes before it.
            file.write_all_at(text.as_bytes(), 0)?;
            file.set_len(text.len() as u64)
        };
        cut().map(|()| true).map_err(fail)
    }

    /// Copies a file of the machine in, durably; it is there whole or not at all.
    pub fn copy_in(&self, name: impl AsRef<Path>, from: &Path) -> Result<(), StoreError> {
        self.copy_with(name, from, 0o640)
    }

    /// The same for what nobody else may read.
    pub fn copy_secret(&self, name: impl AsRef<Path>, from: &Path) -> Result<(), StoreError> {
        self.copy_with(name, from, 0o600)
    }

    fn copy_with(&self, name: impl AsRef<Path>, from: &Path, mode: u32) -> Result<(), StoreError> {
        let path = self.path(name);
        let fail = |what, source| StoreError { what, path: path.clone(), source };
        let dir = path.parent().unwrap_or(&self.dir);
        make_dir(dir).map_err(|e| fail("make the folder of", e))?;
        let temporary = path.with_extension(format!("new-{}", std::process::id()));
        let copied = fs::File::open(from).and_then(|mut from| {
            let mut to = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(mode)
                .open(&temporary)?;
            io::copy(&mut from, &mut to)?;
            to.sync_all()?;
            fs::rename(&temporary, &path)?;
            fs::File::open(dir)?.sync_all()
        });
        copied.map_err(|error| {
            // As in `write`.
            let _ = fs::remove_file(&temporary);
            fail("copy to", error)
        })
    }

    /// Gives a file another name; that it is not there is fine.
    pub fn rename(&self, name: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<(), StoreError> {
        let path = self.path(name);
        match fs::rename(&path, self.path(to)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|source| StoreError { what: "rename", path, source }),
        }
    }

    /// Makes a folder below, and those above it, for root and group `hostd`.
    pub fn make_dir(&self, name: impl AsRef<Path>) -> Result<PathBuf, StoreError> {
        let path = self.path(name);
        make_dir(&path).map_err(|source| StoreError {
            what: "make folder",
            path: path.clone(),
            source,
        })?;
        Ok(path)
    }
}

fn make_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_whole_and_removes_twice() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("deep"));
        assert_eq!(store.read("a/x.json").unwrap(), None);
        store.write("a/x.json", "one").unwrap();
        store.write("a/x.json", "two").unwrap();
        assert_eq!(store.read("a/x.json").unwrap().as_deref(), Some("two"));
        assert_eq!(store.list("a").unwrap(), ["x.json"]);
        store.remove("a/x.json").unwrap();
        store.remove("a/x.json").unwrap();
        assert!(store.list("none").unwrap().is_empty());
    }

    #[test]
    fn copies_renames_and_reads_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("state"));
        let from = dir.path().join("template");
        fs::write(&from, b"one\ntwo\n\xffthree\n").unwrap();
        store.copy_in("vms/x/vars", &from).unwrap();
        assert_eq!(store.list("vms/x").unwrap(), ["vars"]);
        assert_eq!(store.tail("vms/x/vars", 100).unwrap().unwrap(), "one\ntwo\n\u{fffd}three\n");
        assert_eq!(store.tail("vms/x/vars", 9).unwrap().unwrap(), "\u{fffd}three\n");
        store.rename("vms/x/vars", "vms/x/old").unwrap();
        store.rename("vms/x/vars", "vms/x/old").unwrap();
        assert_eq!(store.tail("vms/x/vars", 9).unwrap(), None);
        let error = store.copy_in("y", &dir.path().join("none")).unwrap_err();
        assert!(error.to_string().contains("state/y"), "{error}");
    }

    #[test]
    fn a_failed_write_leaves_the_old_text_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        fs::create_dir_all(dir.path().join("x.json/inside")).unwrap();
        let error = store.write("x.json", "text").unwrap_err();
        assert!(error.to_string().contains("x.json"), "{error}");
        assert_eq!(store.list("").unwrap(), ["x.json"]);
    }
}

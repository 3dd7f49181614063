//! Folders of files that grow at their end, for queues that must survive a
//! crash: `sink/outbox` keeps its records in one. The fake is a disk that can
//! be full, read-only or broken.
#![allow(clippy::disallowed_methods, reason = "this is the door")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A folder of such files.
pub trait Spool: Send {
    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// At most `most` bytes from a place on; fewer only at the end.
    fn read(&self, name: &str, at: u64, most: usize) -> io::Result<Vec<u8>>;
    /// Writes at the end, which is at `at`; makes the file when that is 0. When
    /// it returns, a killed process has lost nothing, and with `durable` a power
    /// loss has not either. After an error some of the bytes may be there.
    fn append(&mut self, name: &str, at: u64, bytes: &[u8], durable: bool) -> io::Result<()>;
    /// Cuts the file to its first bytes; that it is not there is fine.
    fn cut(&mut self, name: &str, length: u64) -> io::Result<()>;
    /// The whole file anew: the old or the new one is there after a crash.
    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Removes the file; that it is not there is fine.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// A folder on a disk.
pub struct RealSpool {
    dir: PathBuf,
    /// The file that was written to last.
    open: Option<(String, File)>,
}

impl RealSpool {
    /// The folder, made if it is not there; only its owner may look into it.
    pub fn new(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned(), open: None })
    }

    fn sync_folder(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn forget(&mut self, name: &str) {
        self.open.take_if(|(open, _)| open == name);
    }
}

fn fine_if_missing(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

impl Spool for RealSpool {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.dir.join(name))?;
        let left = usize::try_from(file.metadata()?.len().saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(most)];
        file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    fn append(&mut self, name: &str, at: u64, bytes: &[u8], durable: bool) -> io::Result<()> {
        let file = match self.open.take() {
            Some((open, file)) if open == name && at > 0 => file,
            _ => fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(self.dir.join(name))?,
        };
        file.write_all_at(bytes, at)?;
        if durable {
            file.sync_data()?;
            if at == 0 {
                self.sync_folder()?;
            }
        }
        self.open = Some((name.to_owned(), file));
        Ok(())
    }

    fn cut(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.forget(name);
        let file = fs::OpenOptions::new().write(true).open(self.dir.join(name));
        fine_if_missing(file.and_then(|file| file.set_len(length)))
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.forget(name);
        let new = self.dir.join(format!("{name}.new"));
        let mut how = fs::OpenOptions::new();
        let file = how.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        fs::rename(&new, self.dir.join(name))?;
        self.sync_folder()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.forget(name);
        fine_if_missing(fs::remove_file(self.dir.join(name)))
    }
}

/// A disk in memory; clones are the same disk.
#[derive(Clone, Default)]
pub struct FakeSpool(Arc<Mutex<FakeDisk>>);

/// What a [`FakeSpool`] is.
#[derive(Default)]
pub struct FakeDisk {
    /// Its files.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Bytes of all files together, beyond which it is full.
    pub room: Option<usize>,
    /// Nothing can be written.
    pub read_only: bool,
    /// Nothing can be read.
    pub unreadable: bool,
    /// How often it was made durable.
    pub syncs: u64,
}

impl FakeSpool {
    /// The disk, to look at and to break.
    pub fn disk(&self) -> MutexGuard<'_, FakeDisk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writable(&self) -> io::Result<MutexGuard<'_, FakeDisk>> {
        let disk = self.disk();
        if disk.read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(disk) }
    }
}

impl FakeDisk {
    /// Writes as much as there is room for, as a disk does.
    fn put(&mut self, name: &str, at: usize, bytes: &[u8]) -> io::Result<()> {
        let used: usize = self.files.values().map(Vec::len).sum();
        let free = self.room.map_or(usize::MAX, |room| room.saturating_sub(used));
        let file = self.files.entry(name.to_owned()).or_default();
        if at < file.len() {
            file.truncate(at);
        }
        let fits = bytes.len().min(free);
        file.extend_from_slice(bytes.get(..fits).unwrap_or_default());
        if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Spool for FakeSpool {
    fn list(&self) -> io::Result<Vec<String>> {
        let disk = self.disk();
        if disk.unreadable {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(disk.files.keys().cloned().collect())
    }

    fn read(&self, name: &str, at: u64, most: usize) -> io::Result<Vec<u8>> {
        let disk = self.disk();
        if disk.unreadable {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let file = disk.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        let rest = usize::try_from(at).ok().and_then(|at| file.get(at..)).unwrap_or_default();
        Ok(rest.get(..most).unwrap_or(rest).to_owned())
    }

    fn append(&mut self, name: &str, at: u64, bytes: &[u8], durable: bool) -> io::Result<()> {
        let mut disk = self.writable()?;
        disk.syncs += u64::from(durable);
        disk.put(name, usize::try_from(at).unwrap_or(usize::MAX), bytes)
    }

    fn cut(&mut self, name: &str, length: u64) -> io::Result<()> {
        let mut disk = self.writable()?;
        if let Some(file) = disk.files.get_mut(name) {
            file.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    fn replace(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.writable()?;
        let old = disk.files.remove(name);
        let put = disk.put(name, 0, bytes);
        if put.is_err() {
            disk.files.remove(name);
            disk.files.extend(old.map(|old| (name.to_owned(), old)));
        }
        put
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.writable()?.files.remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What both must do alike.
    fn alike(spool: &mut dyn Spool) {
        assert_eq!(spool.list().unwrap(), Vec::<String>::new());
        spool.append("b", 0, b"hello", true).unwrap();
        spool.append("b", 5, b" world", false).unwrap();
        spool.append("a", 0, b"x", false).unwrap();
        assert_eq!(spool.list().unwrap(), ["a", "b"]);
        assert_eq!(spool.read("b", 6, 3).unwrap(), b"wor");
        assert_eq!(spool.read("b", 6, 100).unwrap(), b"world");
        assert_eq!(spool.read("b", 100, 1).unwrap(), b"");
        assert_eq!(spool.read("c", 0, 1).unwrap_err().kind(), io::ErrorKind::NotFound);
        spool.cut("b", 4).unwrap();
        spool.append("b", 4, b"!", true).unwrap();
        assert_eq!(spool.read("b", 0, 100).unwrap(), b"hell!");
        spool.replace("b", b"new").unwrap();
        assert_eq!(spool.read("b", 0, 100).unwrap(), b"new");
        spool.remove("b").unwrap();
        spool.remove("b").unwrap();
        spool.cut("b", 0).unwrap();
        assert_eq!(spool.list().unwrap(), ["a"]);
    }

    #[test]
    fn the_fake_does_as_the_real_one() {
        alike(&mut FakeSpool::default());
        let dir = tempfile::tempdir().unwrap();
        alike(&mut RealSpool::new(&dir.path().join("outbox/one")).unwrap());
    }

    #[test]
    fn a_full_fake_writes_a_part_and_says_so() {
        let mut spool = FakeSpool::default();
        spool.disk().room = Some(3);
        let error = spool.append("a", 0, b"hello", true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(spool.read("a", 0, 9).unwrap(), b"hel");
    }
}

//! A folder that stays open. What is below it is looked up from there and read
//! with as few system calls as there can be: sysfs keeps thousands of files of
//! a few bytes, and looking each up by its whole path costs more than reading.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat_raw};
use rustix::io::{Errno, read, retry_on_intr};

use super::sys::{LIST_LIMIT, SysError, SysRoot, WriteHook};

/// An attribute of sysfs is at most a page.
const PAGE: usize = 4096;

/// Where attributes are read into, again and again.
pub struct Page([u8; PAGE]);

impl Default for Page {
    fn default() -> Self {
        Self([0; PAGE])
    }
}

/// An open folder of the machine.
pub struct Folder {
    hook: Option<Arc<dyn WriteHook>>,
    path: PathBuf,
    fd: OwnedFd,
}

/// Fewer pieces of work than this are done before a second thread has begun.
const ALONE: usize = 256;
/// More threads than this wait for each other in the kernel.
const THREADS: usize = 4;

/// Does the same with each; with many, on a few threads. The order stays.
pub fn each<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if all.len() < ALONE {
        return all.iter().map(work).collect();
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let work = &work;
    std::thread::scope(|scope| {
        let parts: Vec<_> = all
            .chunks(all.len().div_ceil(threads))
            .map(|part| scope.spawn(move || part.iter().map(work).collect::<Vec<R>>()))
            .collect();
        let done = parts.into_iter().map(|part| match part.join() {
            Ok(done) => done,
            // As if it had happened here.
            Err(panic) => std::panic::resume_unwind(panic),
        });
        done.flatten().collect()
    })
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Who opens a pipe without this waits for its writer.
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

impl SysRoot {
    /// Opens a folder.
    pub fn folder(&self, path: impl AsRef<Path>) -> Result<Folder, SysError> {
        let path = path.as_ref();
        let fd = self
            .may_read(path)
            .and_then(|()| Ok(openat(CWD, self.path(path), FOLDER, Mode::empty())?))
            .map_err(|error| SysError::from_io(path, error))?;
        Ok(Folder { hook: self.hook.clone(), path: path.to_owned(), fd })
    }
}

impl Folder {
    /// A folder below this one, from which others can be looked up: what it is
    /// called is then followed once, links and all.
    pub fn below(&self, name: &str) -> Result<Self, SysError> {
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(&self.fd, name, how, Mode::empty()).map_err(|e| self.fail(name, e))?;
        Ok(Self { hook: self.hook.clone(), path: self.path.join(name), fd })
    }

    /// An attribute below the folder, in one read. Its text is in `page`.
    pub fn attribute<'a>(&self, name: &str, page: &'a mut Page) -> Result<&'a str, SysError> {
        self.allowed(name)?;
        let file = openat(&self.fd, name, FILE, Mode::empty()).map_err(|e| self.fail(name, e))?;
        let length =
            retry_on_intr(|| read(&file, &mut page.0)).map_err(|error| self.fail(name, error))?;
        let invalid = |why| SysError::Invalid { path: self.path.join(name), why };
        if length == PAGE {
            return Err(invalid(format!("larger than {} bytes", PAGE - 1)));
        }
        let bytes = page.0.get(..length).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|error| invalid(error.to_string()))
    }

    /// A whole file of procfs, of at most `limit` bytes. Its text is in `buffer`,
    /// which stays as large as it was once needed.
    pub fn whole<'a>(
        &self,
        name: &str,
        buffer: &'a mut Vec<u8>,
        limit: usize,
    ) -> Result<&'a str, SysError> {
        self.allowed(name)?;
        let file = openat(&self.fd, name, FILE, Mode::empty()).map_err(|e| self.fail(name, e))?;
        let invalid = |why| SysError::Invalid { path: self.path.join(name), why };
        let mut length = 0;
        loop {
            if buffer.len() < length + PAGE {
                buffer.resize(length + 4 * PAGE, 0);
            }
            let room = buffer.get_mut(length..).unwrap_or_default();
            match retry_on_intr(|| read(&file, &mut *room)).map_err(|e| self.fail(name, e))? {
                0 => break,
                more => length += more,
            }
            if length > limit {
                return Err(invalid(format!("larger than {limit} bytes")));
            }
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        std::str::from_utf8(bytes).map_err(|error| invalid(error.to_string()))
    }

    /// The last part of a link's target: the driver's name, the group's number.
    pub fn link_name(&self, name: &str) -> Result<String, SysError> {
        self.allowed(name)?;
        let mut target = [MaybeUninit::<u8>::uninit(); PAGE];
        let (target, _) = readlinkat_raw(&self.fd, name, &mut target[..])
            .map_err(|error| self.fail(name, error))?;
        let target = String::from_utf8_lossy(target);
        let target = target.trim_end_matches('/');
        Ok(target.rsplit('/').next().unwrap_or_default().to_owned())
    }

    /// The names in a folder below this one, sorted.
    pub fn list(&self, name: &str) -> Result<Vec<String>, SysError> {
        self.allowed(name)?;
        let fail = |error| self.fail(name, error);
        let folder = openat(&self.fd, name, FOLDER, Mode::empty()).map_err(fail)?;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 4 * PAGE];
        let mut entries = RawDir::new(folder, &mut buffer);
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
            if !matches!(name.as_str(), "." | "..") && names.len() < LIST_LIMIT {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether something is there, whatever it is.
    pub fn exists(&self, name: &str) -> bool {
        rustix::fs::statat(&self.fd, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    fn allowed(&self, name: &str) -> Result<(), SysError> {
        let Some(hook) = &self.hook else { return Ok(()) };
        let path = self.path.join(name);
        hook.may_read(&path).map_err(|error| SysError::from_io(&path, error))
    }

    fn fail(&self, name: &str, error: Errno) -> SysError {
        SysError::from_io(&self.path.join(name), error.into())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn reads_below_an_open_folder() {
        let dir = tempfile::tempdir().unwrap();
        let sys = SysRoot::new(dir.path());
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/text"), "0x8086\n").unwrap();
        fs::write(dir.path().join("a/b/long"), [b'x'; PAGE]).unwrap();
        fs::write(dir.path().join("a/b/bad"), [0xff]).unwrap();
        std::os::unix::fs::symlink("../../drivers/e1000", dir.path().join("a/b/driver")).unwrap();
        let (folder, mut page) = (sys.folder("/a").unwrap(), Page::default());
        assert_eq!(folder.attribute("b/text", &mut page).unwrap(), "0x8086\n");
        assert_eq!(folder.link_name("b/driver").unwrap(), "e1000");
        assert_eq!(folder.list("b").unwrap(), ["bad", "driver", "long", "text"]);
        assert!(folder.exists("b/driver") && !folder.exists("b/none"));
        let mut buffer = Vec::new();
        assert_eq!(folder.whole("b/long", &mut buffer, PAGE).unwrap().len(), PAGE);
        assert_eq!(folder.whole("b/text", &mut buffer, PAGE).unwrap(), "0x8086\n");
        assert!(folder.whole("b/long", &mut buffer, PAGE - 1).is_err());
        assert!(folder.whole("b/bad", &mut buffer, PAGE).is_err());
        for name in ["b/long", "b/bad"] {
            let error = folder.attribute(name, &mut page).unwrap_err();
            assert!(matches!(error, SysError::Invalid { .. }), "{error}");
        }
        let none = folder.attribute("b/none", &mut page).unwrap_err();
        assert!(none.is_missing() && none.to_string().starts_with("/a/b/none "), "{none}");
        assert!(folder.attribute("b", &mut page).is_err());
        assert!(folder.link_name("b/text").is_err() && folder.list("b/text").is_err());
        assert!(sys.folder("/a/b/text").is_err());
        let below = folder.below("b").unwrap();
        assert_eq!(below.attribute("text", &mut page).unwrap(), "0x8086\n");
        assert_eq!(below.list(".").unwrap().len(), 4);
        let none = below.link_name("none").unwrap_err();
        assert!(none.to_string().starts_with("/a/b/none "), "{none}");
        assert!(folder.below("none").is_err() && folder.below("b/text").is_err());
    }

    #[test]
    fn many_are_done_in_order_too() {
        for count in [0, 1, ALONE - 1, ALONE, 10 * ALONE + 7] {
            let all: Vec<usize> = (0..count).collect();
            let twice: Vec<usize> = all.iter().map(|one| one * 2).collect();
            assert_eq!(each(&all, |one| one * 2), twice);
        }
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let folder = SysRoot::new(dir.path()).folder("/").unwrap();
        assert_eq!(folder.attribute("pipe", &mut Page::default()).unwrap(), "");
    }
}

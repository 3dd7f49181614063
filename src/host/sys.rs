//! Files of the machine below one root: sysfs, procfs, kstat, `/etc`.
//!
//! Paths are given as on the real machine (`/sys/bus/pci/devices`) and are
//! looked up below the root. Everything read is bounded. A missing file, an
//! unreadable one and one that holds rubbish are different errors.
#![allow(clippy::disallowed_methods, reason = "this is the door")]

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::Timestamp;

/// The largest file that [`SysRoot::text`] reads. Attributes of sysfs are at
/// most a page; the largest text read whole is a pool's JSON capture.
pub const TEXT_LIMIT: u64 = 16 << 20;

/// The most entries that [`SysRoot::list`] returns.
pub const LIST_LIMIT: usize = 1 << 20;

/// Why a file of the machine could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SysError {
    /// It does not exist.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// We may not.
    #[error("{0}: permission denied (needs root)")]
    Denied(PathBuf),
    /// It is not text, no file, or larger than any honest file of its kind.
    #[error("{path} is not readable: {why}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Anything else the kernel said.
    #[error("{path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl SysError {
    pub(super) fn from_io(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing(path.to_owned()),
            io::ErrorKind::PermissionDenied => Self::Denied(path.to_owned()),
            _ => Self::Io { path: path.to_owned(), source },
        }
    }

    /// The cause without the file's name, for messages that have named it.
    pub fn why(&self) -> String {
        match self {
            Self::Missing(_) => "it does not exist".to_owned(),
            Self::Denied(_) => "permission denied (needs root)".to_owned(),
            Self::Invalid { why, .. } => why.clone(),
            Self::Io { source, .. } => source.to_string(),
        }
    }

    /// File and cause in one sentence, for notes that keep no source.
    pub fn in_full(&self) -> String {
        match self {
            Self::Io { path, source } => format!("{}: {source}", path.display()),
            Self::Missing(_) | Self::Denied(_) | Self::Invalid { .. } => self.to_string(),
        }
    }

    /// Whether the file is simply not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_))
    }
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A block device.
    Block,
    /// A character device.
    Char,
    /// A socket or a pipe.
    Other,
}

/// What a fake machine does when a file is written, in place of the kernel.
pub trait WriteHook: Send + Sync {
    /// Called instead of writing; `path` is as on the real machine.
    fn write(&self, sys: &SysRoot, path: &Path, bytes: &[u8]) -> io::Result<()>;

    /// Called before reading: what the kernel keeps from those who are not root.
    fn may_read(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// How full a file system of the fake machine is; `None` where it has no answer.
    fn space(&self, _path: &Path) -> Option<io::Result<super::space::Space>> {
        None
    }

    /// Called before an ordinary file is replaced or removed; an error is
    /// what the disk says instead.
    fn replacing(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// The root below which the machine's files are.
#[derive(Clone)]
pub struct SysRoot {
    root: PathBuf,
    pub(super) hook: Option<Arc<dyn WriteHook>>,
}

impl SysRoot {
    /// The machine below `root`; `/` is the one we run on.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), hook: None }
    }

    /// The same files, with writes answered by `hook`.
    #[must_use]
    pub fn with_hook(mut self, hook: Arc<dyn WriteHook>) -> Self {
        self.hook = Some(hook);
        self
    }

    /// Whether this is the machine we run on.
    pub fn is_real(&self) -> bool {
        self.root == Path::new("/") && self.hook.is_none()
    }

    /// Where a path of the machine lies for other programs.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(super) fn may_read(&self, path: &Path) -> io::Result<()> {
        self.hook.as_ref().map_or(Ok(()), |hook| hook.may_read(path))
    }

    /// Opens for reading without waiting for anybody: who opens a pipe waits
    /// for its writer, perhaps for ever.
    fn open(&self, path: &Path) -> Result<(fs::File, fs::Metadata), SysError> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut how = fs::OpenOptions::new();
        how.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let opened = self.may_read(path).and_then(|()| how.open(self.path(path)));
        opened
            .and_then(|file| Ok((file.metadata()?, file)))
            .map(|(about, file)| (file, about))
            .map_err(|error| SysError::from_io(path, error))
    }

    /// The bytes of a regular file, as the attributes of sysfs and procfs are
    /// too; at most `limit` of them, more is an error.
    pub fn bytes(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, SysError> {
        let path = path.as_ref();
        let (file, about) = self.open(path)?;
        let kind = about.file_type();
        if kind.is_dir() {
            return Err(SysError::from_io(path, io::ErrorKind::IsADirectory.into()));
        }
        if !kind.is_file() {
            let why = "it is a pipe or a device, not a file".to_owned();
            return Err(SysError::Invalid { path: path.to_owned(), why });
        }
        Self::whole(path, file, limit, about.len())
    }

    /// The same of whatever a person names: also of a pipe, whose writer is
    /// waited for.
    pub fn stream(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, SysError> {
        let path = path.as_ref();
        let file = fs::File::open(self.path(path)).map_err(|e| SysError::from_io(path, e))?;
        Self::whole(path, file, limit, 0)
    }

    /// `size` is what the file says that it has: sysfs says a page, procfs nothing.
    fn whole(path: &Path, file: fs::File, limit: u64, size: u64) -> Result<Vec<u8>, SysError> {
        let room = size.min(limit).saturating_add(1);
        let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
        match file.take(limit + 1).read_to_end(&mut bytes) {
            Err(error) => Err(SysError::from_io(path, error)),
            Ok(_) if bytes.len() as u64 > limit => Err(SysError::Invalid {
                path: path.to_owned(),
                why: format!("larger than {limit} bytes"),
            }),
            Ok(_) => Ok(bytes),
        }
    }

    /// The file as text without its last newline.
    pub fn text(&self, path: impl AsRef<Path>) -> Result<String, SysError> {
        let path = path.as_ref();
        let mut text = String::from_utf8(self.bytes(path, TEXT_LIMIT)?).map_err(|error| {
            SysError::Invalid { path: path.to_owned(), why: error.utf8_error().to_string() }
        })?;
        if text.ends_with('\n') {
            text.pop();
        }
        Ok(text)
    }

    /// The names in a folder, sorted.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<String>, SysError> {
        let path = path.as_ref();
        let fail = |error| SysError::from_io(path, error);
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(path)).map_err(fail)?.take(LIST_LIMIT) {
            names.push(entry.map_err(fail)?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The last part of a link's target: the driver's name, the group's number.
    pub fn link_name(&self, path: impl AsRef<Path>) -> Result<String, SysError> {
        let path = path.as_ref();
        let target =
            fs::read_link(self.path(path)).map_err(|error| SysError::from_io(path, error))?;
        Ok(target.file_name().unwrap_or(OsStr::new("")).to_string_lossy().into_owned())
    }

    /// The path with all links resolved, as on the real machine.
    pub fn resolve(&self, path: impl AsRef<Path>) -> Result<PathBuf, SysError> {
        let path = path.as_ref();
        let fail = |error| SysError::from_io(path, error);
        let real = fs::canonicalize(self.path(path)).map_err(fail)?;
        let root = fs::canonicalize(&self.root).map_err(fail)?;
        let below = real.strip_prefix(&root).map_err(|_| SysError::Invalid {
            path: path.to_owned(),
            why: format!("leads out of the root, to {}", real.display()),
        })?;
        Ok(Path::new("/").join(below))
    }

    /// Whether something is there, whatever it is.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// What is there, links followed.
    pub fn kind(&self, path: impl AsRef<Path>) -> Result<Kind, SysError> {
        use std::os::unix::fs::FileTypeExt;
        let path = path.as_ref();
        let kind =
            fs::metadata(self.path(path)).map_err(|e| SysError::from_io(path, e))?.file_type();
        Ok(if kind.is_file() {
            Kind::File
        } else if kind.is_dir() {
            Kind::Folder
        } else if kind.is_block_device() {
            Kind::Block
        } else if kind.is_char_device() {
            Kind::Char
        } else {
            Kind::Other
        })
    }

    /// The first bytes of a file or device, at most `limit`; proves that it
    /// can be opened for reading. A pipe is neither.
    pub fn head(&self, path: impl AsRef<Path>, limit: u64) -> Result<Vec<u8>, SysError> {
        use std::os::unix::fs::FileTypeExt;
        let path = path.as_ref();
        let (file, about) = self.open(path)?;
        if about.file_type().is_fifo() {
            let why = "it is a pipe, not a file or a device".to_owned();
            return Err(SysError::Invalid { path: path.to_owned(), why });
        }
        let mut bytes = Vec::new();
        let read = file.take(limit).read_to_end(&mut bytes);
        read.map_err(|error| SysError::from_io(path, error))?;
        Ok(bytes)
    }

    /// Whether the kernel has a block device for itself: mounted, part of a pool
    /// or an array, swap. Asked by opening it for us alone, which it then refuses.
    pub fn is_claimed(&self, path: impl AsRef<Path>) -> bool {
        use std::os::unix::fs::OpenOptionsExt;
        if !matches!(self.kind(&path), Ok(Kind::Block)) {
            return false;
        }
        let mut how = fs::OpenOptions::new();
        how.read(true).custom_flags(libc::O_EXCL | libc::O_NONBLOCK | libc::O_CLOEXEC);
        let opened = how.open(self.path(path));
        opened.is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
    }

    /// Says something to a device and reads its answer, through one opening of
    /// its file. A file on another machine is only read.
    pub fn converse(
        &self,
        path: impl AsRef<Path>,
        words: &[u8],
        limit: u64,
    ) -> Result<Vec<u8>, SysError> {
        use std::os::unix::fs::OpenOptionsExt;
        if !self.is_real() {
            return self.head(path, limit);
        }
        let path = path.as_ref();
        let said = || {
            let mut how = fs::OpenOptions::new();
            how.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
            let mut file = how.open(self.path(path))?;
            file.write_all(words)?;
            // A device of this kind answers anew at each read: one is enough.
            let mut bytes = vec![0; usize::try_from(limit).unwrap_or(0)];
            let count = file.read(&mut bytes)?;
            bytes.truncate(count);
            Ok(bytes)
        };
        said().map_err(|error| SysError::from_io(path, error))
    }

    /// Writes an attribute in one `write` call, as the kernel wants it. The
    /// file must exist. Blocks as long as the kernel does: writes that can
    /// hang belong in a helper process.
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), SysError> {
        let path = path.as_ref();
        let written = match &self.hook {
            Some(hook) => hook.write(self, path, bytes),
            None => fs::OpenOptions::new()
                .write(true)
                .open(self.path(path))
                .and_then(|mut file| file.write_all(bytes)),
        };
        written.map_err(|error| SysError::from_io(path, error))
    }

    /// Permission bits and time of the last change, links followed.
    pub fn stamp(&self, path: impl AsRef<Path>) -> Result<(u32, Timestamp), SysError> {
        use std::os::unix::fs::MetadataExt;
        let path = path.as_ref();
        let meta = fs::metadata(self.path(path)).map_err(|error| SysError::from_io(path, error))?;
        let changed = meta.modified().map_err(|error| SysError::from_io(path, error))?;
        Ok((meta.mode() & 0o7777, changed.into()))
    }

    /// What tells one state of a file from another without reading it: its
    /// size, number and time of the last change. Links are followed.
    pub fn print(&self, path: impl AsRef<Path>) -> Result<(u64, u64, Timestamp), SysError> {
        use std::os::unix::fs::MetadataExt;
        let path = path.as_ref();
        let meta = fs::metadata(self.path(path)).map_err(|error| SysError::from_io(path, error))?;
        let changed = meta.modified().map_err(|error| SysError::from_io(path, error))?;
        Ok((meta.len(), meta.ino(), changed.into()))
    }

    /// Whether a file or block device can be opened past the page cache: some
    /// file systems cannot (open(2), `O_DIRECT`).
    pub fn takes_direct(&self, path: impl AsRef<Path>) -> bool {
        use std::os::unix::fs::OpenOptionsExt;
        let mut how = fs::OpenOptions::new();
        how.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_DIRECT);
        how.open(self.path(path)).is_ok()
    }

    /// Replaces an ordinary file of the machine, as `/etc` has them: after a
    /// crash it holds the old text or the new one. Its folder must exist. The
    /// mode is set whatever the umask says.
    pub fn replace(&self, path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<(), SysError> {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        let path = path.as_ref();
        let place = self.path(path);
        // Beside it, and hidden: folders of hooks and rules take any name.
        let name = place.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let temporary = place.with_file_name(format!(".{name}.hostd-new"));
        let write = || {
            self.hook.as_ref().map_or(Ok(()), |hook| hook.replacing(path))?;
            let mut how = fs::OpenOptions::new();
            how.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let mut file = how.open(&temporary)?;
            file.write_all(bytes)?;
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()?;
            fs::rename(&temporary, &place)?;
            sync_folder(&place)
        };
        write().map_err(|error| {
            // Useless now; that it may stay is not the error to report.
            let _ = fs::remove_file(&temporary);
            SysError::from_io(path, error)
        })
    }

    /// Removes an ordinary file of the machine, durably; that it is not there is fine.
    pub fn delete(&self, path: impl AsRef<Path>) -> Result<(), SysError> {
        let path = path.as_ref();
        let place = self.path(path);
        let remove = || {
            self.hook.as_ref().map_or(Ok(()), |hook| hook.replacing(path))?;
            fs::remove_file(&place)?;
            sync_folder(&place)
        };
        match remove() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|error| SysError::from_io(path, error)),
        }
    }

    /// Makes a folder for everybody to read; false when it was there.
    pub fn make_folder(&self, path: impl AsRef<Path>) -> Result<bool, SysError> {
        use std::os::unix::fs::PermissionsExt;
        let path = path.as_ref();
        let place = self.path(path);
        if matches!(self.kind(path), Ok(Kind::Folder)) {
            return Ok(false);
        }
        fs::DirBuilder::new()
            .create(&place)
            .and_then(|()| fs::set_permissions(&place, fs::Permissions::from_mode(0o755)))
            .map(|()| true)
            .map_err(|error| SysError::from_io(path, error))
    }

    /// Removes a folder if it is empty; true when it is gone.
    pub fn remove_folder(&self, path: impl AsRef<Path>) -> bool {
        fs::remove_dir(self.path(path)).is_ok()
    }
}

/// A name in a folder survives a power loss once the folder is on disk.
fn sync_folder(place: &Path) -> io::Result<()> {
    fs::File::open(place.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_missing_from_invalid_and_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let sys = SysRoot::new(dir.path());
        assert!(sys.text("/sys/none").unwrap_err().is_missing());
        fs::write(dir.path().join("bad"), [0xff, 0xfe]).unwrap();
        assert!(matches!(sys.text("/bad"), Err(SysError::Invalid { .. })));
        assert!(matches!(sys.bytes("/bad", 1), Err(SysError::Invalid { .. })));
        assert!(sys.write("/sys/none", b"1").unwrap_err().is_missing());
    }

    #[test]
    fn tells_kinds_and_reads_heads() {
        let dir = tempfile::tempdir().unwrap();
        let sys = SysRoot::new(dir.path());
        fs::write(dir.path().join("disk"), "QFI data").unwrap();
        std::os::unix::fs::symlink("disk", dir.path().join("link")).unwrap();
        assert_eq!(sys.kind("/link").unwrap(), Kind::File);
        assert_eq!(sys.kind("/").unwrap(), Kind::Folder);
        assert_eq!(SysRoot::new("/").kind("/dev/null").unwrap(), Kind::Char);
        assert!(sys.kind("/none").unwrap_err().is_missing());
        assert_eq!(sys.head("/disk", 3).unwrap(), b"QFI");
        assert!(sys.head("/", 3).is_err());
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let sys = SysRoot::new(dir.path());
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for read in [sys.bytes("/pipe", 9), sys.head("/pipe", 9)] {
            let error = read.unwrap_err();
            assert!(matches!(error, SysError::Invalid { .. }), "{error}");
            assert!(error.to_string().contains("pipe"), "{error}");
        }
        let folder = sys.bytes("/", 9).unwrap_err();
        assert_eq!(folder.why(), "is a directory");
        assert_eq!(folder.in_full(), "/: is a directory");
        // A person's pipe has a writer.
        let writer = std::thread::spawn(move || fs::write(pipe, "said"));
        assert_eq!(sys.stream("/pipe", 9).unwrap(), b"said");
        writer.join().unwrap().unwrap();
    }

    #[test]
    fn a_file_is_replaced_with_its_mode_and_removed_without_litter() {
        let dir = tempfile::tempdir().unwrap();
        let sys = SysRoot::new(dir.path());
        assert!(sys.replace("/etc/hook", b"one", 0o755).unwrap_err().is_missing());
        assert!(sys.make_folder("/etc").unwrap() && !sys.make_folder("/etc").unwrap());
        sys.replace("/etc/hook", b"one", 0o644).unwrap();
        sys.replace("/etc/hook", b"two", 0o755).unwrap();
        assert_eq!(
            (sys.text("/etc/hook").unwrap().as_str(), sys.stamp("/etc/hook").unwrap().0),
            ("two", 0o755)
        );
        assert_eq!(sys.list("/etc").unwrap(), ["hook"]);
        fs::create_dir(dir.path().join("etc/folder")).unwrap();
        fs::write(dir.path().join("etc/folder/inside"), "").unwrap();
        sys.replace("/etc/folder", b"x", 0o644).unwrap_err();
        assert_eq!(sys.list("/etc").unwrap(), ["folder", "hook"]);
        assert!(!sys.remove_folder("/etc/folder"));
        sys.delete("/etc/hook").unwrap();
        sys.delete("/etc/hook").unwrap();
        assert!(!sys.exists("/etc/hook"));
    }

    #[test]
    fn a_link_out_of_the_root_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", dir.path().join("out")).unwrap();
        let sys = SysRoot::new(dir.path());
        assert!(matches!(sys.resolve("/out"), Err(SysError::Invalid { .. })));
        assert_eq!(sys.link_name("/out").unwrap(), "etc");
    }
}

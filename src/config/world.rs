//! What the check may ask of the machine; the answers are given in.

use std::path::{Path, PathBuf};

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Existence {
    /// A file, a block device or a character device.
    File,
    /// A folder.
    Folder,
    /// Nothing.
    Missing,
    /// It cannot be said, or was not asked: no problem is made of it.
    Unknown,
}

/// How the check asks: `&|path| …`.
pub type Exists<'a> = &'a dyn Fn(&Path) -> Existence;

/// For those who must not ask, such as an editor's check of another machine's file.
pub fn not_asked(_: &Path) -> Existence {
    Existence::Unknown
}

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// `host.yaml`.
    Host,
    /// `vms/<name>.yaml`.
    Vm,
    /// `quirks.d/*.yaml`.
    Quirks,
    /// The folder of the VM files, given only where it cannot be listed.
    Vms,
}

/// A file of the configuration, as the caller read it: at most
/// [`MAX_FILE`] bytes and one more, which is how too long a file is noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As problems name it; a VM's name is its stem.
    pub path: PathBuf,
    /// What it is for.
    pub role: Role,
    /// What is in it, or why it could not be read.
    pub content: Result<Vec<u8>, String>,
}

/// Longest file that is read.
pub const MAX_FILE: usize = 1 << 20;

impl Source {
    /// A file as it was read, or why it could not be.
    pub fn new(path: impl Into<PathBuf>, role: Role, content: Result<Vec<u8>, String>) -> Self {
        Self { path: path.into(), role, content }
    }

    /// `host.yaml`.
    pub fn host(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        Self::new(path, Role::Host, Ok(content.into()))
    }

    /// A VM file.
    pub fn vm(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        Self::new(path, Role::Vm, Ok(content.into()))
    }

    /// A quirk file.
    pub fn quirks(path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        Self::new(path, Role::Quirks, Ok(content.into()))
    }
}

/// The folder of the VM files that belong to a `host.yaml`: `vms` beside it.
pub fn vms_folder(host_file: &Path) -> PathBuf {
    host_file.parent().unwrap_or(Path::new("")).join("vms")
}

/// Whether a file in that folder is a VM file, or in `quirks.d` a quirk file:
/// `*.yaml` or `*.yml`, not hidden.
pub fn is_vm_file(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|e| e == "yaml" || e == "yml")
}

//! Who owns a file or a device node, and giving it to somebody else.
//!
//! A file is opened once, without its contents, and looked at and changed
//! through that: nothing can be put in its place in between.
#![allow(clippy::disallowed_methods, reason = "this is the door")]

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use serde::{Deserialize, Serialize};

use super::launch::Account;

/// Whose it is, and which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The file system's device and the number in it.
    pub file: (u64, u64),
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// What somebody wants to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Read and write it.
    Write,
    /// Go through a folder.
    Pass,
}

impl Access {
    /// As one digit of a mode.
    fn bits(self) -> u32 {
        match self {
            Self::Read => 0o4,
            Self::Write => 0o6,
            Self::Pass => 0o1,
        }
    }
}

impl Owner {
    /// Whether an account may. As the kernel has it, only the first class that
    /// fits counts; access lists are not looked at.
    pub fn allows(&self, account: &Account, access: Access) -> bool {
        let shift = if account.uid == 0 {
            return true;
        } else if account.uid == self.uid {
            6
        } else if account.gid == self.gid || account.groups.contains(&self.gid) {
            3
        } else {
            0
        };
        (self.mode >> shift) & access.bits() == access.bits()
    }

    /// Whether every member of its group may, and it is not root's.
    pub fn group_allows(&self, access: Access) -> bool {
        self.gid != 0 && (self.mode >> 3) & access.bits() == access.bits()
    }
}

/// A file or device node in our hands.
pub struct Node(OwnedFd);

impl Node {
    /// Takes hold of it; links are followed.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Whose it is.
    pub fn owner(&self) -> io::Result<Owner> {
        let stat = rustix::fs::fstat(&self.0)?;
        let (uid, gid, mode) = (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777);
        Ok(Owner { file: (stat.st_dev, stat.st_ino), uid, gid, mode })
    }

    /// Gives it to a user and a group, with these permissions.
    pub fn give(&self, uid: u32, gid: u32, mode: u32) -> io::Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&self.0, "", uid, gid, AtFlags::EMPTY_PATH)?;
        self.permit(mode)
    }

    /// Sets its permissions.
    pub fn permit(&self, mode: u32) -> io::Result<()> {
        // What was opened without its contents cannot be changed by `fchmod`.
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    }
}

/// Makes a folder that belongs to an account alone, or to us; one that is there
/// is made so. A link in its place is an error.
pub fn own_folder(path: &Path, account: Option<&Account>) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let how = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    let node = Node(rustix::fs::openat(CWD, path, how, Mode::empty())?);
    match account {
        Some(account) => node.give(account.uid, account.gid, 0o700),
        None => node.permit(0o700),
    }
}

/// Makes an empty file for an account, or for us, in place of what was there.
pub fn own_file(path: &Path, account: Option<&Account>) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::OpenOptions::new().write(true).create_new(true).open(path)?;
    let Some(account) = account else { return Ok(()) };
    Node::open(path)?.give(account.uid, account.gid, 0o640)
}

/// Removes a folder with all that is in it, following no link; that it is not
/// there is fine.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_that_fits_decides() {
        let account = Account { uid: 7, gid: 8, groups: vec![9] };
        let file = |uid, gid, mode| Owner { file: (0, 0), uid, gid, mode };
        assert!(file(7, 0, 0o600).allows(&account, Access::Write));
        assert!(!file(7, 0, 0o066).allows(&account, Access::Read), "the owner may not");
        assert!(file(0, 9, 0o660).allows(&account, Access::Write));
        assert!(!file(0, 9, 0o606).allows(&account, Access::Write), "the group may not");
        assert!(file(0, 0, 0o644).allows(&account, Access::Read));
        assert!(!file(0, 0, 0o644).allows(&account, Access::Write));
        assert!(file(0, 0, 0o711).allows(&account, Access::Pass));
        assert!(file(0, 5, 0o660).group_allows(Access::Write));
        assert!(!file(0, 0, 0o660).group_allows(Access::Write), "never root's group");
    }

    #[test]
    fn gives_through_a_link_and_makes_what_is_owned() {
        if !super::super::users::is_root() {
            eprintln!("skipped: only root gives files away");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        std::fs::write(&file, "x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let node = Node::open(&link).unwrap();
        let before = node.owner().unwrap();
        node.give(54_321, before.gid, 0o600).unwrap();
        let after = Node::open(&file).unwrap().owner().unwrap();
        assert_eq!(after, Owner { uid: 54_321, mode: 0o600, ..before });
        let account = Account { uid: 54_321, gid: 54_322, groups: Vec::new() };
        let folder = dir.path().join("q");
        own_folder(&folder, Some(&account)).unwrap();
        own_folder(&folder, Some(&account)).unwrap();
        let owner = Node::open(&folder).unwrap().owner().unwrap();
        assert_eq!((owner.uid, owner.gid, owner.mode), (54_321, 54_322, 0o700));
        assert!(own_folder(&link, Some(&account)).is_err(), "a link is not a folder");
        own_file(&link, Some(&account)).unwrap();
        assert_eq!(Node::open(&file).unwrap().owner().unwrap(), after, "the link itself went");
        assert_eq!(Node::open(&link).unwrap().owner().unwrap().uid, 54_321);
    }
}

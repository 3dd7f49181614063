//! Which mount holds a folder. Pure.
//!
//! Facts: `proc_pid_mountinfo(5)`: number, parent, device, root, mount point,
//! options, optional fields, `-`, type, source, options of the file system;
//! blanks are written as `\040`. Init's own table is read: a service of systemd
//! may have another, with mounts made read-only for it alone.

use std::path::{Path, PathBuf};

use crate::base::octal;
use crate::host::Host;

/// The longest table that is read: ten thousand datasets fit.
const MAX: u64 = 4 << 20;
const TABLES: [&str; 2] = ["/proc/1/mountinfo", "/proc/self/mountinfo"];

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// `zfs`.
    pub kind: String,
    /// `tank/media`.
    pub source: String,
    /// Whether the file system as a whole takes no writes.
    pub read_only: bool,
}

/// The machine's mounts; `None` where they cannot be read.
pub fn read(host: &Host) -> Option<Vec<Mount>> {
    let bytes = TABLES.iter().find_map(|table| host.sys.bytes(table, MAX).ok())?;
    Some(parse(&String::from_utf8_lossy(&bytes)))
}

/// Reads a table, without the lines that are none.
pub fn parse(text: &str) -> Vec<Mount> {
    let one = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        let mut right = right.split(' ');
        let (kind, source) = (right.next()?, right.next()?);
        let options = right.next().unwrap_or_default();
        Some(Mount {
            point: octal(point).into(),
            kind: kind.to_owned(),
            source: octal(source),
            read_only: options.split(',').any(|option| option == "ro"),
        })
    };
    text.lines().filter_map(one).collect()
}

/// The mount that holds a path: the deepest, and of several there the last,
/// which covers the others.
pub fn holder<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let holds = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    holds.max_by_key(|mount| mount.point.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_the_deepest() {
        let mounts = parse(
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             30 22 0:40 / /tank rw - zfs tank rw,xattr\n\
             31 30 0:41 / /tank/my\\040media ro,relatime shared:2 master:1 - zfs tank/m rw,xattr\n\
             32 22 0:42 / /ro rw - ext4 /dev/sdb ro,errors=continue\nrubbish\n",
        );
        let of = |path: &str| holder(&mounts, Path::new(path)).unwrap().source.as_str();
        assert_eq!(of("/tank/my media/films"), "tank/m");
        assert_eq!((of("/tank/my"), of("/tanker"), of("/")), ("tank", "/dev/sda1", "/dev/sda1"));
        let written: Vec<bool> = mounts.iter().map(|mount| mount.read_only).collect();
        assert_eq!(written, [false, false, false, true]);
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\n /-]{0,300}") {
            let mounts = parse(&text);
            holder(&mounts, Path::new("/tank"));
        }
    }
}

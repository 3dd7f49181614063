//! Which mount holds a folder.
//!
//! Init's own table is read: a service of systemd may have another, with mounts
//! made read-only for it alone.

use std::path::Path;

pub use crate::base::mountinfo::Mount;
use crate::base::mountinfo::mounts;
use crate::host::Host;

/// The longest table that is read: ten thousand datasets fit.
const MAX: u64 = 4 << 20;
const TABLES: [&str; 2] = ["/proc/1/mountinfo", "/proc/self/mountinfo"];

/// The machine's mounts; `None` where they cannot be read.
pub fn read(host: &Host) -> Option<Vec<Mount>> {
    let bytes = TABLES.iter().find_map(|table| host.sys.bytes(table, MAX).ok())?;
    Some(mounts(&String::from_utf8_lossy(&bytes)).collect())
}

/// The mount that holds a path: the deepest, and of several there the last,
/// which covers the others.
pub fn holder<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    let holds = mounts.iter().filter(|mount| path.starts_with(&mount.point));
    holds.max_by_key(|mount| Path::new(&mount.point).components().count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn finds_the_deepest() {
        let table: Vec<Mount> = mounts(
            "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
             30 22 0:40 / /tank rw - zfs tank rw,xattr\n\
             31 30 0:41 / /tank/my\\040media rw - zfs tank/m rw,xattr\n",
        )
        .collect();
        let of = |path: &str| holder(&table, Path::new(path)).unwrap().source.as_str();
        assert_eq!(of("/tank/my media/films"), "tank/m");
        assert_eq!((of("/tank/my"), of("/tanker"), of("/")), ("tank", "/dev/sda1", "/dev/sda1"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\PC\n /-]{0,300}") {
            let table: Vec<Mount> = mounts(&text).collect();
            holder(&table, Path::new("/tank"));
        }
    }
}

//! All names that lead to a disk, its partitions, or what is encrypted on it:
//! a pool calls its disks by any of them.

use std::collections::HashMap;

use super::find::Disk;
use crate::host::SysRoot;

/// The most names kept of one disk.
const MAX_LINKS: usize = 256;
/// The most names looked at in one folder.
const MAX_NAMES: usize = 8192;
/// The longest name kept.
const MAX_NAME: usize = 256;

/// Folders of names that are one disk's own. A label and a UUID are that of the
/// pool, the same on all its disks.
const FOLDERS: [&str; 6] =
    ["by-id", "by-vdev", "by-path", "by-partuuid", "by-partlabel", "by-diskseq"];

/// Fills in [`Disk::links`].
pub fn gather(sys: &SysRoot, disks: &mut [Disk]) {
    let mut owner: HashMap<String, usize> = HashMap::new();
    for (at, disk) in disks.iter_mut().enumerate() {
        for part in parts(sys, &disk.name) {
            disk.links.push(format!("/dev/{part}"));
            let below =
                if part == disk.name { part.clone() } else { format!("{}/{part}", disk.name) };
            owner.insert(part, at);
            for holder in sys.list(format!("/sys/block/{below}/holders")).unwrap_or_default() {
                let name = sys.text(format!("/sys/block/{holder}/dm/name")).unwrap_or_default();
                if !name.is_empty() && name.len() <= MAX_NAME {
                    disk.links.push(format!("/dev/mapper/{name}"));
                    disk.links.push(format!("/dev/{holder}"));
                    owner.insert(holder, at);
                }
            }
        }
    }
    for folder in FOLDERS {
        let folder = format!("/dev/disk/{folder}");
        let names = sys.list(&folder).unwrap_or_default();
        for name in names.into_iter().take(MAX_NAMES).filter(|name| name.len() <= MAX_NAME) {
            let path = format!("{folder}/{name}");
            let target = sys.link_name(&path).unwrap_or_default();
            let disk = owner.get(&target).and_then(|at| disks.get_mut(*at));
            if let Some(disk) = disk.filter(|disk| disk.links.len() < MAX_LINKS) {
                disk.links.push(path);
            }
        }
    }
    for disk in disks {
        disk.links.truncate(MAX_LINKS);
    }
}

/// The disk itself and its partitions, which are folders in its own.
fn parts(sys: &SysRoot, name: &str) -> Vec<String> {
    let below = sys.list(format!("/sys/block/{name}")).unwrap_or_default();
    let is_part = |part: &String| {
        let rest = part.strip_prefix(name).unwrap_or_default();
        let rest = rest.strip_prefix('p').unwrap_or(rest);
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())
    };
    std::iter::once(name.to_owned()).chain(below.into_iter().filter(is_part)).collect()
}

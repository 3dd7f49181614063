//! `disk <mount>` and `inodes <mount>`: how full local file systems are.
//! `/proc/self/mountinfo`, then `statvfs(3)` in a thread that may hang.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::look::Look;
use super::rate::percent;
use crate::base::mountinfo::{self, Mount};
use crate::base::{Bytes, Severity};
use crate::config::Health;
use crate::host::space::{Asker, Space, Told};

/// File systems of local disks. Not those that are full by nature (squashfs,
/// ISO 9660), nor those of other machines, which may hang.
const LOCAL: [&str; 19] = [
    "bcachefs", "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "hfsplus", "jfs",
    "minix", "msdos", "nilfs2", "ntfs", "ntfs3", "reiserfs", "ufs", "vfat", "xfs",
];
/// Datasets of ZFS share their pool's space: more than this many say nothing new.
const DATASETS: usize = 32;
/// The most that is asked.
const MOST: usize = 128;
/// What each may take.
const DEADLINE: Duration = Duration::from_secs(2);

/// Which are looked at, and how many datasets are not.
pub fn choose(mounts: impl IntoIterator<Item = Mount>, config: &Health) -> (Vec<Mount>, usize) {
    // What is mounted over another hides it.
    let mut points: BTreeMap<String, Mount> = BTreeMap::new();
    for mount in mounts {
        points.insert(mount.point.clone(), mount);
    }
    if !config.mounts_only.is_empty() {
        let named = config.mounts_only.iter().filter_map(|point| points.remove(point));
        return (named.take(MOST).collect(), 0);
    }
    // Of a file system that is mounted several times the shortest path counts.
    let mut devices: BTreeMap<String, Mount> = BTreeMap::new();
    for mount in points.into_values() {
        let known = LOCAL.contains(&mount.kind.as_str()) || mount.kind == "zfs";
        if !known || config.mounts_ignore.contains(&mount.point) {
            continue;
        }
        let shorter = |old: &Mount| mount.point.len() < old.point.len();
        if devices.get(&mount.device).is_none_or(shorter) {
            devices.insert(mount.device.clone(), mount);
        }
    }
    let (mut datasets, mut chosen): (Vec<Mount>, Vec<Mount>) =
        devices.into_values().partition(|mount| mount.kind == "zfs");
    // Pools first, then from above.
    let depth = |mount: &Mount| mount.source.matches('/').count();
    datasets.sort_by(|a, b| depth(a).cmp(&depth(b)).then_with(|| a.source.cmp(&b.source)));
    let left = datasets.len().saturating_sub(DATASETS);
    datasets.truncate(DATASETS);
    chosen.append(&mut datasets);
    chosen.sort_by(|a, b| a.point.cmp(&b.point));
    chosen.truncate(MOST);
    (chosen, left)
}

/// Fractions used: of the space, as df(1) has it, and of the inodes.
pub fn used(space: &Space) -> (Option<f64>, Option<f64>) {
    let used = space.total.saturating_sub(space.free) as f64;
    let all = used + space.available as f64;
    let files = space.files.saturating_sub(space.files_free) as f64;
    let (bytes, inodes) = (all > 0.0, space.files > 0);
    (bytes.then(|| used / all), inodes.then(|| files / space.files as f64))
}

/// What is remembered.
#[derive(Default)]
pub struct State {
    mounts: Vec<Mount>,
    paths: Vec<PathBuf>,
    left: usize,
    asker: Asker,
    /// Why the mounts could not be listed.
    unread: Option<String>,
    /// Which could be written to once, by device.
    written: BTreeMap<String, bool>,
}

impl State {
    fn list(&mut self, look: &mut Look<'_>) {
        match look.proc.whole("self/mountinfo", look.text, super::look::LIMIT) {
            Ok(text) => {
                (self.mounts, self.left) = choose(mountinfo::mounts(text), look.config);
                self.paths = self.mounts.iter().map(|mount| PathBuf::from(&mount.point)).collect();
                self.unread = None;
            }
            Err(error) => self.unread = Some(error.in_full()),
        }
        let (mounts, written) = (&self.mounts, &mut self.written);
        written.retain(|device, _| mounts.iter().any(|mount| mount.device == *device));
        for mount in mounts {
            let was = written.entry(mount.device.clone()).or_default();
            *was |= !mount.read_only;
        }
    }

    /// One round.
    pub fn round(&mut self, look: &mut Look<'_>) {
        if !look.sys.knows_space() {
            let note = "no file systems: only those of a running machine can be asked";
            look.found.notes.push(note.to_owned());
            return;
        }
        if look.anew {
            self.list(look);
        }
        if let Some(why) = &self.unread {
            look.found.notes.push(format!("file systems may be missing: {why}"));
        }
        if self.left > 0 {
            let note = format!("{} more datasets of ZFS are not looked at one by one", self.left);
            look.found.notes.push(note);
        }
        for point in &look.config.mounts_only {
            if !self.mounts.iter().any(|mount| mount.point == *point) {
                let why = format!("nothing is mounted at {point}");
                look.found.unknown(format!("disk {point}"), "fraction", why);
            }
        }
        let told = self.asker.ask(look.sys, &self.paths, DEADLINE);
        for (mount, told) in self.mounts.iter().zip(told) {
            let service = format!("disk {}", mount.point);
            match told {
                Told::Space(space) => self.judge(mount, &space, service, look),
                Told::Hangs => {
                    let why = format!("{} does not answer: its disk or server hangs", mount.point);
                    look.found.unknown(service, "fraction", why);
                }
                Told::Failed(_) | Told::NotAsked => {
                    let why = format!("{} cannot be asked: {told}", mount.point);
                    look.found.unknown(service, "fraction", why);
                }
            }
        }
    }

    fn judge(&self, mount: &Mount, space: &Space, service: String, look: &mut Look<'_>) {
        let (bytes, inodes) = used(space);
        let Some(bytes) = bytes else {
            let why = format!("{} says that it has no space at all", mount.point);
            return look.found.unknown(service, "fraction", why);
        };
        let message = format!(
            "{} used, {} free of {}",
            percent(bytes),
            Bytes(space.available),
            Bytes(space.total)
        );
        look.judged(service, (bytes, "fraction"), look.config.disk, message);
        look.found.with("mount", mount.point.clone());
        look.found.with("device", mount.source.clone());
        if mount.read_only
            && self.written.get(&mount.device) == Some(&true)
            && let Some(reading) = look.found.readings.last_mut()
        {
            reading.health = Severity::Critical;
            reading.message = format!(
                "it can only be read since a while, as after errors: look at `dmesg`; {}",
                reading.message
            );
        }
        // ZFS makes inodes as they are wanted.
        if let Some(inodes) = inodes.filter(|_| mount.kind != "zfs") {
            let message = format!("{} used, {} free", percent(inodes), space.files_free);
            let service = format!("inodes {}", mount.point);
            look.judged(service, (inodes, "fraction"), look.config.inodes, message);
            look.found.with("mount", mount.point.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INFO: &str = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
        27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
        30 27 254:0 /srv /srv/a\\040b rw shared:2 master:3 - ext4 /dev/vda rw\n\
        31 27 0:40 / /tank rw - zfs tank rw,xattr\n\
        32 31 0:41 / /tank/media rw - zfs tank/media rw,xattr\n\
        33 27 0:50 / /nas rw - nfs4 nas:/x rw\n\
        34 27 8:1 / /boot ro - vfat /dev/sda1 ro\n\
        nonsense\n\n- - -\n";

    #[test]
    fn local_file_systems_once_each() {
        let mounts: Vec<Mount> = mountinfo::mounts(INFO).collect();
        let points = |config: &Health| {
            let (chosen, left) = choose(mounts.clone(), config);
            (chosen.into_iter().map(|mount| mount.point).collect::<Vec<_>>(), left)
        };
        let usual = Health::default();
        let (chosen, left) = points(&usual);
        assert_eq!(
            (chosen, left),
            (["/", "/boot", "/tank", "/tank/media"].map(String::from).into(), 0)
        );
        let ignore = Health { mounts_ignore: vec!["/boot".into()], ..Health::default() };
        assert_eq!(points(&ignore).0, ["/", "/tank", "/tank/media"]);
        let only = Health { mounts_only: vec!["/nas".into(), "/none".into()], ..Health::default() };
        assert_eq!(points(&only).0, ["/nas"]);
    }

    #[test]
    fn many_datasets_are_counted() {
        let line = |i| format!("1 1 0:{i} / /tank/d{i} rw - zfs tank/d{i} rw\n");
        let mut lines: Vec<String> = (0..500).map(line).collect();
        lines.push("1 1 0:900 / /tank rw - zfs tank rw\n".to_owned());
        let text = lines.concat();
        let (chosen, left) = choose(mountinfo::mounts(&text), &Health::default());
        assert_eq!((chosen.len(), left, chosen[0].point.as_str()), (32, 469, "/tank"));
    }

    #[test]
    fn as_df_counts() {
        let space = Space { total: 100, free: 40, available: 30, files: 10, files_free: 5 };
        assert_eq!(used(&space), (Some(60.0 / 90.0), Some(0.5)));
        assert_eq!(used(&Space::default()), (None, None));
        // A file system that lies.
        let space = Space { total: 1, free: 9, available: u64::MAX, files: 1, files_free: 9 };
        assert_eq!(used(&space), (Some(0.0), Some(0.0)));
    }

    proptest! {
        #[test]
        fn never_panics(text: String) {
            let _ = choose(mountinfo::mounts(&text), &Health::default());
        }
    }
}

//! What is mounted where, and which zvol is which device.
//!
//! Sources: `/proc/self/mountinfo`, and the links below `/dev/zvol`, which udev
//! makes. Neither asks the pool, and no child is started.

use std::collections::{BTreeMap, HashMap};

use crate::ask::view::{MountView, Places};
use crate::base::{mountinfo, octal};
use crate::host::SysRoot;

const MOUNTINFO: &str = "/proc/self/mountinfo";
/// Some 20,000 mounts with usual paths.
const LIMIT: u64 = 16 << 20;
/// The most mounts that are kept of ZFS, and of others below.
const MAX_MOUNTS: usize = 65_536;
const MAX_OTHERS: usize = 4096;
const ZVOLS: &str = "/dev/zvol";
/// The most zvols that are known by their devices.
const MAX_ZVOLS: usize = 4096;
/// Datasets are at most this deep in use; ZFS itself allows 50.
const MAX_DEPTH: usize = 50;

/// What is mounted, by pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mounts {
    /// Datasets of each pool, in the order in which they were mounted.
    pub pools: BTreeMap<String, Vec<MountView>>,
    /// The rest.
    pub places: Places,
}

/// Reads all of it; `Err` says why the mounts are not known.
pub fn read(sys: &SysRoot) -> Result<Mounts, String> {
    let bytes = sys.bytes(MOUNTINFO, LIMIT).map_err(|error| error.in_full())?;
    let zvols = zvols(sys);
    Ok(parse(&String::from_utf8_lossy(&bytes), zvols))
}

struct Line {
    path: String,
    source: String,
    zfs: bool,
}

impl Line {
    /// A snapshot that is looked into is no dataset of its own.
    fn of(line: mountinfo::Line<'_>) -> Option<Self> {
        let zfs = line.kind == "zfs";
        let none = zfs && line.source.contains('@') || !line.point.starts_with('/');
        (!none).then(|| Self { path: octal(line.point), source: octal(line.source), zfs })
    }
}

/// Sorts the lines of mountinfo.
pub fn parse(text: &str, zvols: Vec<(String, String)>) -> Mounts {
    let lines: Vec<Line> = mountinfo::lines(text).filter_map(Line::of).take(MAX_MOUNTS).collect();
    // What was mounted at a place before lies beneath: the last one counts.
    let mut last: HashMap<&str, usize> = HashMap::with_capacity(lines.len());
    for (at, line) in lines.iter().enumerate() {
        last.insert(&line.path, at);
    }
    let place = |path: &str| last.get(path).copied();
    let shown: Vec<bool> =
        lines.iter().enumerate().map(|(at, line)| place(&line.path) == Some(at)).collect();
    let on_zfs = |path: &str| place(path).and_then(|at| lines.get(at)).is_some_and(|line| line.zfs);
    let datasets: HashMap<&str, &str> =
        zvols.iter().map(|(device, dataset)| (device.as_str(), dataset.as_str())).collect();
    let (mut others, mut on_zvols) = (Vec::new(), Vec::new());
    for (line, _) in lines.iter().zip(&shown).filter(|(line, shown)| **shown && !line.zfs) {
        let dataset = line.source.strip_prefix("/dev/").and_then(|name| of_zvol(&datasets, name));
        if let Some(dataset) = dataset {
            on_zvols.push(MountView { dataset: dataset.to_owned(), path: line.path.clone() });
        }
        if others.len() < MAX_OTHERS && ancestors(&line.path).any(on_zfs) {
            others.push(line.path.clone());
        }
    }
    let mut pools: BTreeMap<String, Vec<MountView>> = BTreeMap::new();
    let mounted = lines.into_iter().zip(shown).filter(|(line, shown)| *shown && line.zfs);
    for (Line { path, source: dataset, .. }, _) in mounted {
        let pool = dataset.split('/').next().unwrap_or_default();
        if !pools.contains_key(pool) {
            pools.insert(pool.to_owned(), Vec::new());
        }
        if let Some(mounts) = pools.get_mut(pool) {
            mounts.push(MountView { dataset, path });
        }
    }
    Mounts { pools, places: Places { others, on_zvols, zvols } }
}

/// The dataset of a zvol's device or of a partition of it: `zd16`, `zd16p1`.
pub fn of_zvol<'a, S: std::hash::BuildHasher>(
    datasets: &HashMap<&str, &'a str, S>,
    device: &str,
) -> Option<&'a str> {
    let digits = device.strip_prefix("zd")?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    datasets.get(device.get(..2 + end)?).copied()
}

/// A path and all above it, the longest first, the root last.
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    std::iter::successors(Some(path), |path| match path.rfind('/') {
        Some(0) if path.len() > 1 => Some("/"),
        None | Some(0) => None,
        Some(slash) => path.get(..slash),
    })
}

/// The devices of all zvols, by the links that udev makes for each.
fn zvols(sys: &SysRoot) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![(String::new(), 0)];
    let mut seen = 0;
    while let Some((folder, depth)) = folders.pop() {
        // Without zvols there is no folder.
        for name in sys.list(format!("{ZVOLS}/{folder}")).unwrap_or_default() {
            seen += 1;
            if seen > 4 * MAX_ZVOLS || found.len() >= MAX_ZVOLS {
                return found;
            }
            let dataset = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            match sys.link_name(format!("{ZVOLS}/{dataset}")) {
                // A partition or snapshot has a link of its own beside it.
                Ok(device) if is_whole(&device) && !dataset.contains('@') => {
                    found.push((device, dataset));
                }
                Err(_) if depth < MAX_DEPTH => folders.push((dataset, depth + 1)),
                Ok(_) | Err(_) => {}
            }
        }
    }
    found.sort();
    found
}

fn is_whole(device: &str) -> bool {
    let digits = device.strip_prefix("zd").unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use proptest::prelude::*;

    const TABLE: &str = "\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
36 22 0:31 / /tank rw,noatime shared:2 - zfs tank rw,xattr,noacl
37 36 0:32 / /tank/my\\040media rw shared:3 master:4 - zfs tank/my\\040media rw
38 37 8:17 / /tank/my\\040media/usb rw - ext4 /dev/sdb1 rw
39 22 230:16 / /srv/db rw - xfs /dev/zd16p1 rw
40 22 0:33 / /fast rw - zfs fast rw
41 40 0:34 / /fast rw - tmpfs tmpfs rw
42 36 0:35 / /tank/.zfs/snapshot/a ro - zfs tank@a rw
43 36 0:36 / /tank/x rw - zfs fast/x rw
rubbish
44 22 0:37 / relative rw - zfs fast/y rw
";

    #[test]
    fn mounts_are_sorted_by_pool() {
        let zvols = vec![("zd16".to_owned(), "tank/db".to_owned())];
        let mounts = parse(TABLE, zvols);
        let of = |pool: &str| -> Vec<(&str, &str)> {
            let all = mounts.pools.get(pool).into_iter().flatten();
            all.map(|mount| (mount.dataset.as_str(), mount.path.as_str())).collect()
        };
        assert_eq!(of("tank"), [("tank", "/tank"), ("tank/my media", "/tank/my media")]);
        assert_eq!(of("fast"), [("fast/x", "/tank/x")], "something lies over /fast");
        assert_eq!(mounts.places.others, ["/tank/my media/usb"]);
        let on = MountView { dataset: "tank/db".into(), path: "/srv/db".into() };
        assert_eq!(mounts.places.on_zvols, [on]);
    }

    #[test]
    fn ancestors_end_with_the_root() {
        let all = |path| ancestors(path).collect::<Vec<_>>();
        assert_eq!(all("/a/b/"), ["/a/b", "/a", "/"]);
        assert_eq!(all("/"), ["/"]);
        assert_eq!(all("a/b"), ["a/b", "a"]);
        assert_eq!(all(""), [""]);
    }

    #[test]
    fn zvols_are_found_by_their_links() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        assert!(read(&fake.host().sys).is_err());
        fake.file("/proc/self/mountinfo", TABLE).unwrap();
        for (link, device) in [
            ("tank/db", "zd16"),
            ("tank/db-part1", "zd16p1"),
            ("tank/vm/win", "zd0"),
            ("tank/vm/win@before", "zd32"),
        ] {
            fake.link(&format!("/dev/zvol/{link}"), &format!("/dev/{device}")).unwrap();
        }
        let mounts = read(&fake.host().sys).unwrap();
        let zvols = [("zd0".into(), "tank/vm/win".into()), ("zd16".into(), "tank/db".into())];
        assert_eq!(mounts.places.zvols, zvols);
        assert_eq!(mounts.places.on_zvols.len(), 1);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([ -~\\\\0-9]{0,60}|[\\PC]{0,60}\n){0,9}") {
            let _ = parse(&text, Vec::new());
        }

        #[test]
        fn paths_come_out_as_they_were(path in "/[^\0/]{1,30}") {
            let escaped: String = path
                .bytes()
                .map(|byte| match byte {
                    b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{byte:03o}").into_bytes(),
                    byte => vec![byte],
                })
                .flat_map(|bytes| bytes.into_iter().map(char::from).collect::<Vec<_>>())
                .collect();
            let bytes: Vec<u8> = escaped.chars().map(|c| c as u8).collect();
            let escaped = String::from_utf8_lossy(&bytes).into_owned();
            prop_assert_eq!(octal(&escaped), path);
        }
    }
}

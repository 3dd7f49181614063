//! Who has a card open.
//!
//! A bound one through VFIO: vfio-pci does not let go of a function before its
//! user has, and the unbind would hang. One with its own driver through the
//! files that the driver has made: `/dev/dri`, `/dev/nvidia*`, `/dev/snd`.
//! Display drivers oops or hang when they are unbound under their users.

use std::collections::BTreeSet;

use crate::base::PciAddress;
use crate::host::SysRoot;
use crate::host::sys::SysError;
use crate::pci::read::{driver, folder};

/// More processes than are worth naming.
const NAMED: usize = 8;

/// The processes that hold a function's or its group's VFIO file open, in
/// words. Those whose files we may not see are not found: without root
/// nothing can be unbound either.
pub fn of(sys: &SysRoot, functions: &[PciAddress]) -> Vec<String> {
    let mut files = BTreeSet::new();
    for function in functions {
        let folder = folder(*function);
        let group = sys.link_name(format!("{folder}/iommu_group"));
        files.extend(group.map(|group| format!("/dev/vfio/{group}")));
        let names = sys.list(format!("{folder}/vfio-dev")).unwrap_or_default();
        files.extend(names.into_iter().map(|name| format!("/dev/vfio/devices/{name}")));
    }
    holding(sys, &files).0
}

/// The processes that use the functions through their own drivers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Users {
    /// They would lose what they do: pictures, sound that plays.
    pub working: Vec<String>,
    /// They have only the sound card's controls open, as every sound server
    /// has, and let go when they are told that it leaves.
    pub listening: Vec<String>,
    /// Whether there are processes whose files we may not see.
    pub hidden: bool,
}

/// Who uses the functions through the files of their drivers.
pub fn users(sys: &SysRoot, functions: &[PciAddress]) -> Users {
    let (mut working, mut listening) = (BTreeSet::new(), BTreeSet::new());
    for function in functions {
        let folder = folder(*function);
        let below = |name: &str| sys.list(format!("{folder}/{name}")).unwrap_or_default();
        working.extend(below("drm").into_iter().map(|name| format!("/dev/dri/{name}")));
        working.extend(nvidia(sys, *function));
        for card in below("sound") {
            for name in below(&format!("sound/{card}")) {
                let file = format!("/dev/snd/{name}");
                if name.starts_with("control") {
                    listening.insert(file);
                } else if name.starts_with("pcm") || name.starts_with("hw") {
                    working.insert(file);
                }
            }
        }
    }
    let (mut working, some_hidden) = holding(sys, &working);
    working.extend(busy(sys, functions));
    let (mut listening, more_hidden) = holding(sys, &listening);
    listening.retain(|process| !working.contains(process));
    Users { working, listening, hidden: some_hidden || more_hidden }
}

/// Disks that the host uses and network interfaces that are up, behind these
/// functions: what leaves with a card may be more than a picture.
fn busy(sys: &SysRoot, functions: &[PciAddress]) -> Vec<String> {
    let behind = |link: &str| {
        let place = sys.resolve(link).ok()?;
        let mut parts = place.components().filter_map(|part| part.as_os_str().to_str());
        parts.find_map(|part| part.parse().ok().filter(|at| functions.contains(at)))
    };
    let mut found = Vec::new();
    let tables = ["/proc/mounts", "/proc/swaps"];
    let used = tables.map(|path| sys.text(path).unwrap_or_default()).join("\n");
    for disk in sys.list("/sys/class/block").unwrap_or_default() {
        let folder = format!("/sys/class/block/{disk}");
        if behind(&folder).is_none() {
            continue;
        }
        let file = format!("/dev/{disk}");
        let mounted = used.lines().find(|line| line.split(' ').next() == Some(file.as_str()));
        let holders = sys.list(format!("{folder}/holders")).unwrap_or_default();
        if let Some(line) = mounted {
            let place = line.split_whitespace().nth(1).unwrap_or_default();
            found.push(format!("the host, whose disk {disk} is on it ({place})"));
        } else if !holders.is_empty() {
            found.push(format!("the host, whose disk {disk} is on it ({})", holders.join(", ")));
        } else if sys.is_claimed(&file) {
            found.push(format!("the host, whose disk {disk} is on it (a pool's, most often)"));
        }
    }
    for interface in sys.list("/sys/class/net").unwrap_or_default() {
        let folder = format!("/sys/class/net/{interface}");
        let up = sys.text(format!("{folder}/operstate")).is_ok_and(|state| state.trim() == "up");
        if up && behind(&folder).is_some() {
            found.push(format!("the host, whose network interface {interface} is up on it"));
        }
    }
    found.truncate(NAMED);
    found
}

/// The files of a card that NVIDIA's own driver has. Its number is not in sysfs;
/// where the driver does not tell it either, each of its files may be meant.
fn nvidia(sys: &SysRoot, function: PciAddress) -> Vec<String> {
    if driver(sys, &folder(function)).name() != Some("nvidia") {
        return Vec::new();
    }
    let known = sys.text(format!("/proc/driver/nvidia/gpus/{function}/information"));
    let known = known.unwrap_or_default();
    let minor = known.lines().find_map(|line| line.strip_prefix("Device Minor:"));
    if let Some(minor) = minor.and_then(|minor| minor.trim().parse::<u16>().ok()) {
        return vec![format!("/dev/nvidia{minor}")];
    }
    let all = sys.list("/dev").unwrap_or_default();
    let own = all.iter().filter(|name| name.starts_with("nvidia"));
    own.map(|name| format!("/dev/{name}")).collect()
}

/// The processes that have one of these files open, and whether there are some
/// whose files we may not see.
fn holding(sys: &SysRoot, files: &BTreeSet<String>) -> (Vec<String>, bool) {
    let (mut found, mut hidden) = (Vec::new(), false);
    if files.is_empty() {
        return (found, hidden);
    }
    let pids = sys.list("/proc").unwrap_or_default();
    for pid in pids.iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
        match holds(sys, pid, files) {
            Ok(true) if found.len() < NAMED => {
                let name = sys.text(format!("/proc/{pid}/comm")).unwrap_or_default();
                let name: String = name.chars().filter(|c| !c.is_control()).take(32).collect();
                found.push(format!("{name} (process {pid})"));
            }
            Ok(true | false) => {}
            // One that has ended meanwhile is fine.
            Err(error) => hidden |= !error.is_missing(),
        }
    }
    (found, hidden)
}

fn holds(sys: &SysRoot, pid: &str, files: &BTreeSet<String>) -> Result<bool, SysError> {
    let folder = format!("/proc/{pid}/fd");
    let open = sys.list(&folder)?;
    Ok(open.iter().any(|fd| {
        let path = format!("{folder}/{fd}");
        // The last word of the link is cheap; only a match is worth resolving.
        sys.link_name(&path).is_ok_and(|name| {
            files.iter().any(|file| {
                file.rsplit('/').next() == Some(name.as_str())
                    && sys.resolve(&path).is_ok_and(|target| target.to_str() == Some(file))
            })
        })
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn names_the_process_that_has_the_group_open() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file("/dev/vfio/11", "").unwrap();
        fake.file("/tmp/11", "").unwrap();
        for (pid, file) in [("7", "/tmp/11"), ("4711", "/dev/vfio/11")] {
            fake.file(&format!("/proc/{pid}/comm"), "qemu-system-x86\n").unwrap();
            fake.link(&format!("/proc/{pid}/fd/12"), file).unwrap();
        }
        let card: PciAddress = "01:00.0".parse().unwrap();
        let group = format!("{}/iommu_group", folder(card));
        fake.link(&group, "/sys/kernel/iommu_groups/11").unwrap();
        let sys = fake.host().sys;
        assert_eq!(of(&sys, &[card]), ["qemu-system-x86 (process 4711)"]);
        assert!(of(&sys, &[card.with_function(1)]).is_empty());
    }

    #[test]
    fn whoever_draws_or_plays_uses_it_and_whoever_listens_may_be_told() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let card: PciAddress = "01:00.0".parse().unwrap();
        let audio = card.with_function(1);
        fake.dir(&format!("{}/drm/renderD128", folder(card))).unwrap();
        for name in ["controlC1", "pcmC1D3p", "hwC1D0"] {
            fake.dir(&format!("{}/sound/card1/{name}", folder(audio))).unwrap();
        }
        fake.link(&format!("{}/driver", folder(card)), "/sys/bus/pci/drivers/nvidia").unwrap();
        let known = format!("/proc/driver/nvidia/gpus/{card}/information");
        fake.file(&known, "Model: x\nDevice Minor: \t 3\n").unwrap();
        let processes = [
            ("10", "Xorg", "/dev/dri/renderD128"),
            ("11", "mpv", "/dev/snd/pcmC1D3p"),
            ("12", "wireplumber", "/dev/snd/controlC1"),
            ("13", "cuda", "/dev/nvidia3"),
            ("14", "other", "/dev/dri/renderD129"),
        ];
        for (pid, name, file) in processes {
            fake.file(file, "").unwrap();
            fake.file(&format!("/proc/{pid}/comm"), format!("{name}\n")).unwrap();
            fake.link(&format!("/proc/{pid}/fd/3"), file).unwrap();
        }
        let users = users(&fake.host().sys, &[card, audio]);
        assert_eq!(users.working, ["Xorg (process 10)", "mpv (process 11)", "cuda (process 13)"]);
        assert_eq!(users.listening, ["wireplumber (process 12)"]);
        assert!(!users.hidden);
    }

    #[test]
    fn disks_and_networks_that_the_host_uses_are_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let card: PciAddress = "01:00.0".parse().unwrap();
        let place = format!("/sys/devices/pci0000:00/{card}");
        for (class, name) in [("block", "nvme0n1p1"), ("block", "sda"), ("net", "eth0")] {
            let below = format!("{place}/{class}/{name}");
            fake.dir(&below).unwrap();
            fake.link(&format!("/sys/class/{class}/{name}"), &below).unwrap();
        }
        let sys = fake.host().sys;
        assert_eq!(users(&sys, &[card]), Users::default(), "nothing is used of them");
        fake.file("/proc/mounts", "/dev/nvme0n1p1 / ext4 rw 0 0\n").unwrap();
        fake.dir(&format!("{place}/block/sda/holders/md0")).unwrap();
        fake.file(&format!("{place}/net/eth0/operstate"), "up\n").unwrap();
        let said = users(&sys, &[card]).working.join("\n");
        for words in ["disk nvme0n1p1 is on it (/)", "disk sda is on it (md0)", "eth0 is up"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_eq!(users(&sys, &[card.with_function(1)]), Users::default());
    }
}

//! VFIO, asked through its ioctls (the group path; numbers and structures:
//! `linux/vfio.h`).
//!
//! [`look`] opens the container and groups, which changes nothing. [`probe`]
//! opens a device, and the kernel resets a device that is opened: only for one
//! that nobody uses. Both may hang in the kernel, so others call them in a
//! process of their own: the same binary with [`LOOK`] or [`PROBE`], whose one
//! line of JSON is a [`Seen`] or a [`Probed`].
#![allow(clippy::disallowed_methods, reason = "this is the door")]

mod sys;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use vfio_bindings::bindings::vfio;

use crate::base::PciAddress;

/// Hidden argument of both binaries: look at the container and the groups that follow.
pub const LOOK: &str = "--vfio-look";
/// Hidden argument of both binaries: open the device of the group and address that follow.
pub const PROBE: &str = "--vfio-probe";

/// Hidden argument of both binaries: reset the device of the group and address
/// that follow, with all that hangs on its bus.
pub const RESET: &str = "--vfio-reset";

/// The container's file.
pub const CONTAINER: &str = "/dev/vfio/vfio";

/// More groups than anybody asks about at once.
const GROUPS: usize = 256;
/// More devices than share one reset.
const DEPENDENT: u32 = 4096;
/// More regions or interrupts than any device has.
const PARTS: u32 = 64;

/// How a file of VFIO opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "opens", rename_all = "kebab-case")]
pub enum Opening<T> {
    /// It is not there.
    Missing,
    /// We may not.
    Denied,
    /// Somebody else has it open.
    Busy,
    /// It does not, or does not answer.
    Broken {
        /// What the kernel said.
        why: String,
    },
    /// It does.
    Yes(T),
}

/// The container and some groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// `/dev/vfio/vfio`.
    pub container: Opening<Container>,
    /// The groups that were asked about.
    pub groups: BTreeMap<u32, Opening<Group>>,
}

/// What the container says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Version of the interface: 0.
    pub api: i32,
    /// Whether the type 1 IOMMU in its second version is there, which QEMU uses.
    pub type1v2: bool,
}

/// What a group says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Whether nothing in it is with a driver of the host.
    pub viable: bool,
}

/// What an opened device says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Whether it can be reset by itself.
    pub reset: bool,
    /// Its BARs, ROM, config space and VGA ranges that are not empty.
    pub regions: Vec<Region>,
    /// Kinds of interrupts with how many of each.
    pub interrupts: Vec<(u32, u32)>,
    /// The functions that a hot reset of the bus would reset as well.
    pub hot_reset: Result<Vec<Dependent>, String>,
}

/// A part of a device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// 0–5 the BARs, 6 ROM, 7 config space, 8 VGA.
    pub index: u32,
    /// In bytes.
    pub size: u64,
    /// Whether a guest reaches it without leaving the processor.
    pub mapped: bool,
}

/// A function that a hot reset would reset as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependent {
    /// Which.
    pub function: PciAddress,
    /// Its IOMMU group.
    pub group: u32,
}

fn open<T>(path: &str, ask: impl FnOnce(&File) -> io::Result<T>) -> Opening<T> {
    let asked = OpenOptions::new().read(true).write(true).open(path).and_then(|file| ask(&file));
    match asked {
        Ok(answer) => Opening::Yes(answer),
        Err(error) => match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::NotFound, _) => Opening::Missing,
            (io::ErrorKind::PermissionDenied, _) => Opening::Denied,
            (_, Some(libc::EBUSY)) => Opening::Busy,
            _ => Opening::Broken { why: error.to_string() },
        },
    }
}

/// Opens the container and these groups, and closes them again.
pub fn look(groups: &[u32]) -> Seen {
    let container = open(CONTAINER, |file| {
        Ok(Container {
            api: sys::api_version(file)?,
            type1v2: sys::has_extension(file, vfio::VFIO_TYPE1v2_IOMMU)?,
        })
    });
    let one = |group: &u32| {
        let seen = open(&format!("/dev/vfio/{group}"), |file| {
            Ok(Group { viable: sys::group_flags(file)? & vfio::VFIO_GROUP_FLAGS_VIABLE != 0 })
        });
        (*group, seen)
    };
    Seen { container, groups: groups.iter().take(GROUPS).map(one).collect() }
}

/// A file of VFIO, for both directions.
fn file(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// A device with its group, in a container.
fn device(group: u32, function: PciAddress) -> io::Result<(File, File, OwnedFd)> {
    let (container, group) = (file(CONTAINER)?, file(&format!("/dev/vfio/{group}"))?);
    sys::set_container(&group, &container)?;
    sys::set_iommu(&container, vfio::VFIO_TYPE1v2_IOMMU)?;
    let device = sys::device(&group, &function.to_string())?;
    Ok((container, group, device))
}

/// Resets a device with all that hangs on its bus: the one reset that a card
/// with several functions takes as a whole. Every group on the bus has to be
/// free, and its devices on vfio-pci; else the kernel refuses.
pub fn reset(number: u32, function: PciAddress) -> io::Result<Vec<Dependent>> {
    let (container, group, device) = device(number, function)?;
    let set = hot_reset(|buffer| sys::hot_reset_info(&device, buffer))?;
    let mut others: Vec<u32> = set.iter().map(|one| one.group).collect();
    others.sort_unstable();
    others.dedup();
    let mut groups = vec![group];
    for other in others.into_iter().filter(|other| *other != number) {
        let group = file(&format!("/dev/vfio/{other}"))?;
        sys::set_container(&group, &container)?;
        groups.push(group);
    }
    sys::hot_reset(&device, &groups)?;
    Ok(set)
}

/// Opens a device, which resets it, and asks it everything.
pub fn probe(group: u32, function: PciAddress) -> io::Result<Probed> {
    // They stay open as long as the device is asked.
    let (_container, _group, device) = device(group, function)?;
    let info = sys::device_info(&device)?;
    let mut regions = Vec::new();
    for index in 0..info.num_regions.min(PARTS) {
        // A region that a device has not is refused: VGA most often.
        let Ok(region) = sys::region_info(&device, index) else { continue };
        let mapped = region.flags & vfio::VFIO_REGION_INFO_FLAG_MMAP != 0;
        if region.size > 0 {
            regions.push(Region { index, size: region.size, mapped });
        }
    }
    let counted = |index| sys::irq_count(&device, index).ok().map(|count| (index, count));
    let interrupts =
        (0..info.num_irqs.min(PARTS)).filter_map(counted).filter(|(_, count)| *count > 0).collect();
    Ok(Probed {
        reset: info.flags & vfio::VFIO_DEVICE_FLAGS_RESET != 0,
        regions,
        interrupts,
        hot_reset: hot_reset(|buffer| sys::hot_reset_info(&device, buffer))
            .map_err(|error| error.to_string()),
    })
}

/// Words of `struct vfio_pci_hot_reset_info` before its list, and of an entry.
const HEAD: usize = 3;
const ENTRY: usize = 2;

/// Asks twice: a list that has no room is answered with ENOSPC and its length.
fn hot_reset(mut ask: impl FnMut(&mut [u32]) -> io::Result<()>) -> io::Result<Vec<Dependent>> {
    let size = |words: usize| u32::try_from(4 * words).unwrap_or(u32::MAX);
    let mut buffer = vec![size(HEAD), 0, 0];
    match ask(&mut buffer) {
        // No list is needed.
        Ok(()) => return Ok(Vec::new()),
        Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {}
        Err(error) => return Err(error),
    }
    let count = buffer.get(2).copied().unwrap_or_default();
    if count > DEPENDENT {
        let why = format!("the kernel speaks of {count} devices in one reset");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let words = HEAD + ENTRY * usize::try_from(count).unwrap_or_default();
    buffer = vec![0; words];
    buffer[0] = size(words);
    ask(&mut buffer)?;
    Ok(dependents(&buffer))
}

/// The list behind the head: group, then segment, bus, and device with function.
fn dependents(buffer: &[u32]) -> Vec<Dependent> {
    let count = buffer.get(2).map_or(0, |count| usize::try_from(*count).unwrap_or_default());
    let entries = buffer.get(HEAD..).unwrap_or_default().chunks_exact(ENTRY).take(count);
    let one = |entry: &[u32]| {
        let [group, place] = *entry else { return None };
        let [low, high, bus, devfn] = place.to_ne_bytes();
        let domain = u32::from(u16::from_ne_bytes([low, high]));
        let (device, number) = (devfn >> 3, devfn & 7);
        Some(Dependent { function: PciAddress { domain, bus, device, function: number }, group })
    };
    entries.filter_map(one).collect()
}

/// The helper's side: to be called by both binaries before anything else, with
/// all their arguments. `None` when this is not meant.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<OsString> = args.into_iter().skip(1).take(GROUPS).collect();
    let words: Vec<&str> = args.iter().map(|arg| arg.to_str()).collect::<Option<_>>()?;
    let said = match words[..] {
        [LOOK, ref groups @ ..] => {
            let groups: Result<Vec<u32>, _> = groups.iter().map(|group| group.parse()).collect();
            groups.map_err(|error| error.to_string()).map(|groups| json(&look(&groups)))
        }
        [verb @ (PROBE | RESET), group, function] => match (group.parse(), function.parse()) {
            (Ok(group), Ok(function)) => {
                let said = if verb == PROBE {
                    probe(group, function).map(|seen| json(&seen))
                } else {
                    reset(group, function).map(|set| json(&set))
                };
                said.map_err(|error| error.to_string())
            }
            _ => Err("a group and an address are wanted".to_owned()),
        },
        _ => return None,
    };
    let done = said.and_then(|text| {
        let mut out = io::stdout();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| error.to_string())
    });
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Nobody left to tell if this fails.
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    })
}

fn json(seen: &impl Serialize) -> String {
    serde_json::to_string(seen).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn enospc() -> io::Error {
        io::Error::from_raw_os_error(libc::ENOSPC)
    }

    #[test]
    fn a_hot_reset_is_asked_for_twice() {
        let place = u32::from_ne_bytes([0, 0, 1, 0b0000_0001]);
        let mut asked = Vec::new();
        let set = hot_reset(|buffer| {
            asked.push((buffer.len(), buffer[0]));
            buffer[2] = 1;
            let Some(entry) = buffer.get_mut(3..5) else { return Err(enospc()) };
            entry.copy_from_slice(&[11, place]);
            Ok(())
        });
        let function = "01:00.1".parse().unwrap();
        assert_eq!(set.unwrap(), [Dependent { function, group: 11 }]);
        assert_eq!(asked, [(3, 12), (5, 20)]);
    }

    #[test]
    fn a_hot_reset_that_cannot_be_or_is_absurd_is_an_error() {
        let no = hot_reset(|_| Err(io::Error::from_raw_os_error(libc::ENODEV)));
        assert_eq!(no.unwrap_err().raw_os_error(), Some(libc::ENODEV));
        let absurd = hot_reset(|buffer| {
            buffer[2] = u32::MAX;
            Err(enospc())
        });
        assert!(absurd.unwrap_err().to_string().contains("4294967295 devices"));
    }

    proptest! {
        #[test]
        fn what_the_kernel_lists_never_panics(
            buffer in prop::collection::vec(any::<u32>(), 0..20),
        ) {
            prop_assert!(dependents(&buffer).len() <= buffer.len());
        }
    }

    #[test]
    fn without_vfio_nothing_is_there() {
        // No group has this number.
        let seen = look(&[u32::MAX]);
        assert_eq!(seen.groups[&u32::MAX], Opening::Missing);
        assert!(probe(u32::MAX, "ffff:ff:1f.7".parse().unwrap()).is_err());
        assert!(reset(u32::MAX, "ffff:ff:1f.7".parse().unwrap()).is_err());
        let text = json(&seen);
        assert_eq!(serde_json::from_str::<Seen>(&text).unwrap(), seen);
    }

    #[test]
    fn other_arguments_are_not_for_the_helper() {
        let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(main(args(&["hostd", "--config", "x"])).is_none());
        assert!(main(args(&["hostd", PROBE])).is_none());
        assert!(main(args(&["hostd", PROBE, "x", "y"])).is_some());
    }
}

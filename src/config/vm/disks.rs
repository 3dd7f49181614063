//! Disks and NVMe controllers, in their boot order.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::Usual;
use crate::config::desk::Desk;
use crate::config::formats::Text;
use crate::config::raw::{List, RawDisk, RawDiskBus, RawDiskCache, RawDiskFormat, RawDiskFull};
use crate::config::tree::Trail;
use crate::config::types::{Disk, DiskBus, DiskCache, DiskFormat, Gpu, GpuRef, Nvme};

/// Most disks of a guest: more do not find a slot.
const MOST: usize = 64;

/// Controllers with their place in the list.
type Controllers = Vec<(usize, Nvme)>;

/// Disks and controllers; `None` for what is wrong.
pub fn read(
    raw: List<RawDisk>,
    usual: Usual,
    desk: &mut Desk<'_, '_>,
) -> (Option<Vec<Disk>>, Option<Controllers>) {
    let raw = raw.unwrap_or_default();
    let list = Trail::to("disks");
    if raw.len() > MOST {
        desk.error(&list, format!("{} disks", raw.len()), format!("a guest has at most {MOST}"));
        return (None, None);
    }
    let places = places(&raw, &list, desk);
    let (mut paths, mut addresses) = (HashMap::new(), HashMap::new());
    let (mut disks, mut nvme) = (Vec::new(), Vec::new());
    for ((i, raw), boot) in raw.into_iter().enumerate().zip(places) {
        let trail = list.item(i);
        match raw {
            None => {}
            Some(RawDisk::Nvme(raw)) => {
                let Some(Text(address)) = raw.nvme else { continue };
                let what = format!("the NVMe controller {address}");
                desk.unique(&mut addresses, address, &trail.key("nvme"), what);
                nvme.push((i, Nvme { address, boot }));
            }
            Some(RawDisk::Full(full)) => {
                let at = trail.key("path");
                disks.extend(disk(full, boot, &trail, &at, &mut paths, usual, desk));
            }
            Some(RawDisk::Path(path)) => {
                let full = plain(path);
                disks.extend(disk(full, boot, &trail, &trail, &mut paths, usual, desk));
            }
        }
    }
    (Some(disks), Some(nvme))
}

/// The boot order: places that are given, and the free ones for the rest, in
/// the order of the list.
fn places(raw: &[Option<RawDisk>], list: &Trail, desk: &mut Desk<'_, '_>) -> Vec<u32> {
    let mut seen = HashMap::new();
    let mut given: Vec<Option<u32>> = Vec::new();
    for (i, raw) in raw.iter().enumerate() {
        let boot = match raw {
            Some(RawDisk::Full(full)) => full.boot,
            Some(RawDisk::Nvme(nvme)) => nvme.boot,
            Some(RawDisk::Path(_)) | None => None,
        };
        if let Some(boot) = boot {
            let at = list.item(i).key("boot");
            desk.unique(&mut seen, boot, &at, format!("the place {boot} in the boot order"));
        }
        given.push(boot);
    }
    let taken: HashSet<u32> = given.iter().flatten().copied().collect();
    let mut free = (1..).filter(|place| !taken.contains(place));
    given.into_iter().map(|boot| boot.or_else(|| free.next()).unwrap_or(u32::MAX)).collect()
}

fn plain(path: Text<crate::config::formats::AbsolutePath>) -> RawDiskFull {
    RawDiskFull {
        path: Some(path),
        format: None,
        readonly: None,
        cdrom: None,
        bus: None,
        cache: None,
        serial: None,
        boot: None,
    }
}

/// One disk; `at` is where its path stands.
fn disk(
    raw: RawDiskFull,
    boot: u32,
    trail: &Trail,
    at: &Trail,
    paths: &mut HashMap<PathBuf, Trail>,
    usual: Usual,
    desk: &mut Desk<'_, '_>,
) -> Option<Disk> {
    let Text(path) = raw.path?;
    desk.unique(paths, path.clone(), at, format!("the disk {}", path.display()));
    desk.needs_file(at, "the disk", &path, how_to_make(&path));
    let ends = |ending: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
    let format = match raw.format {
        Some(RawDiskFormat::Qcow2) => DiskFormat::Qcow2,
        None if ends("qcow2") => DiskFormat::Qcow2,
        Some(RawDiskFormat::Raw) | None => DiskFormat::Raw,
    };
    // Who wants to write to an image has a disk in mind.
    let cdrom = raw.cdrom.unwrap_or(ends("iso") && raw.readonly != Some(false));
    if cdrom && raw.readonly == Some(false) {
        let message = "a CD-ROM cannot be written";
        desk.error(&trail.key("readonly"), message, "remove it, or write `cdrom: false`");
    }
    let bus = match raw.bus {
        Some(RawDiskBus::Virtio) => DiskBus::Virtio,
        Some(RawDiskBus::Scsi) => DiskBus::Scsi,
        Some(RawDiskBus::Sata) => DiskBus::Sata,
        Some(RawDiskBus::Nvme) => DiskBus::Nvme,
        None if cdrom => DiskBus::Sata,
        None => usual.bus,
    };
    if cdrom && matches!(bus, DiskBus::Virtio | DiskBus::Nvme) {
        let message = "there are no CD-ROM drives on this bus";
        desk.error(&trail.key("bus"), message, "write `sata` or `scsi`, or `cdrom: false`");
    }
    let cache = match raw.cache {
        Some(RawDiskCache::Writeback) => DiskCache::Writeback,
        Some(RawDiskCache::None) | None => DiskCache::None,
    };
    let readonly = cdrom || raw.readonly.unwrap_or(ends("iso"));
    Some(Disk {
        path,
        format,
        readonly,
        cdrom,
        bus,
        cache,
        boot,
        serial: raw.serial.map(|Text(serial)| serial),
    })
}

/// A controller is not one of the card's functions.
pub fn apart_from_the_card(
    index: usize,
    nvme: &Nvme,
    gpu: Option<&GpuRef>,
    gpus: Option<&[Gpu]>,
    desk: &mut Desk<'_, '_>,
) {
    let card = match gpu {
        Some(GpuRef::Address(address)) => Some(*address),
        Some(GpuRef::Name(name)) => {
            let named = gpus.into_iter().flatten().find(|gpu| gpu.name == *name);
            named.map(|gpu| gpu.address)
        }
        None => None,
    };
    if card.is_some_and(|card| card.same_slot(nvme.address)) {
        let message = format!("{} is in the slot of the graphics card", nvme.address);
        let fix = "find the controller with `hostctl iommu list`";
        desk.error(&Trail::to("disks").item(index).key("nvme"), message, fix);
    }
}

fn how_to_make(path: &Path) -> String {
    let text = path.display();
    if let Ok(zvol) = path.strip_prefix("/dev/zvol") {
        let zvol = zvol.display();
        return format!(
            "correct the path, import its pool, or make it: `zfs create -s -V 100G {zvol}`"
        );
    }
    match path.extension().and_then(|e| e.to_str()) {
        _ if path.starts_with("/dev") => "correct the path, or plug the disk in".to_owned(),
        Some("iso") => "correct the path, or download it".to_owned(),
        Some("qcow2") => {
            format!("correct the path, or make it: `qemu-img create -f qcow2 {text} 100G`")
        }
        _ => format!("correct the path, or make it: `truncate -s 100G {text}`"),
    }
}

//! Disks and CD-ROM drives.

use super::facts::{DiskFacts, Facts};
use super::line::{Line, Opts};
use crate::config::{Disk, DiskBus, DiskCache, DiskFormat, Pinning, Vm};

/// The first slot for disks, and how many there are.
const SLOT: usize = 0x04;
/// The most disks a VM can have.
pub const MAX_DISKS: usize = 0x14 - SLOT;
/// The most of them that hang on the chipset's AHCI.
pub const MAX_SATA: usize = 6;

/// Whether a disk hangs on the chipset's AHCI: virtio and NVMe have no CD-ROM
/// drives.
pub fn on_ahci(disk: &Disk) -> bool {
    match disk.bus {
        DiskBus::Sata => true,
        DiskBus::Scsi => false,
        DiskBus::Virtio | DiskBus::Nvme => disk.cdrom,
    }
}

pub(super) fn add(line: &mut Line, vm: &Vm, facts: &Facts) {
    let threads = vm.pinning != Pinning::Off;
    if vm.disks.iter().any(|disk| disk.bus == DiskBus::Scsi) {
        let thread = if threads { ",iothread=io-scsi" } else { "" };
        if threads {
            line.pair("-object", "iothread,id=io-scsi");
        }
        line.pair("-device", format!("virtio-scsi-pci,id=scsi,bus=pcie.0,addr=0x1a{thread}"));
    }
    let mut ahci = 0..;
    for (index, disk) in vm.disks.iter().enumerate() {
        let known = facts.disks.get(index).copied().unwrap_or_default();
        blockdev(line, index, disk, known);
        if on_ahci(disk) {
            let port = ahci.next().unwrap_or_default();
            device(line, index, disk, &place(disk, "ide", &format!("bus=ide.{port}")));
            continue;
        }
        match disk.bus {
            DiskBus::Virtio | DiskBus::Sata => {
                line.root_port(&format!("port{index}"), SLOT + index);
                let thread = if threads { format!(",iothread=io{index}") } else { String::new() };
                if threads {
                    line.pair("-object", format!("iothread,id=io{index}"));
                }
                device(line, index, disk, &format!("virtio-blk-pci,bus=port{index}{thread}"));
            }
            DiskBus::Nvme => {
                line.root_port(&format!("port{index}"), SLOT + index);
                device(line, index, disk, &format!("nvme,bus=port{index}"));
            }
            DiskBus::Scsi => {
                let target = format!("bus=scsi.0,channel=0,scsi-id={index},lun=0");
                device(line, index, disk, &place(disk, "scsi", &target));
            }
        }
    }
}

/// A hard disk or a CD-ROM drive of this kind.
fn place(disk: &Disk, kind: &str, place: &str) -> String {
    let what = if disk.cdrom { "cd" } else { "hd" };
    format!("{kind}-{what},{place}")
}

/// The nodes behind a disk. What is cached, and whether what the guest frees is
/// freed, is said to both: QEMU does not hand it down.
fn blockdev(line: &mut Line, index: usize, disk: &Disk, known: DiskFacts) {
    let driver = if known.block { "host_device" } else { "file" };
    let format = match disk.format {
        DiskFormat::Raw => "raw",
        DiskFormat::Qcow2 => "qcow2",
    };
    let readonly = disk.readonly || disk.cdrom;
    let direct = disk.cache == DiskCache::None && known.direct && !disk.cdrom;
    // The kernel does it without a thread that waits where it need not look for
    // the blocks of a file.
    let native = direct && known.block;
    let both = |opts: Opts| {
        opts.and_if(readonly, "read-only=on")
            .and_if(!readonly, "discard=unmap")
            .and_if(direct, "cache.direct=on")
    };
    let file = both(Opts::new(format!("driver={driver},node-name=disk{index}-file")))
        .and_if(native, "aio=native")
        .path("filename", &disk.path);
    line.option("-blockdev", file);
    let node = both(Opts::new(format!("driver={format},node-name=disk{index}")))
        .and_if(!readonly, "detect-zeroes=unmap");
    line.option("-blockdev", node.and(&format!("file=disk{index}-file")));
}

fn device(line: &mut Line, index: usize, disk: &Disk, begins: &str) {
    let nvme = begins.starts_with("nvme,");
    // A disk that fails halts the guest, which then loses nothing; QEMU's NVMe
    // has no such choice. One that is not written to tells the guest.
    let stops = !(nvme || disk.cdrom || disk.readonly);
    let made = format!("hostd-{index}");
    // NVMe must have one.
    let serial = disk.serial.as_deref().or(nvme.then_some(made.as_str()));
    let device = Opts::new(begins)
        .and(&format!("id=disk{index}-device,drive=disk{index}"))
        .and_if(disk.boot > 0, &format!("bootindex={}", disk.boot))
        .and_if(stops, "werror=stop,rerror=report")
        .maybe("serial", serial);
    line.device(device);
}

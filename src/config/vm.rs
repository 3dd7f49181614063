//! What a VM file means: raw → checked, as far as it is sound.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::desk::Desk;
use super::formats::{AbsolutePath, CardRef, Text};
use super::raw::{
    List, RawAccel, RawDisk, RawDiskFormat, RawDiskFull, RawFirmware, RawFirmwareFull,
    RawFirmwareKind, RawNetwork, RawNetworkKind, RawStop, RawThen, RawVm, RawVmGpu, RawVmGpuFull,
};
use super::text::nearest;
use super::tree::Trail;
use super::types::{
    Accel, AfterDeadline, Disk, DiskFormat, Firmware, Gpu, GpuOptions, GpuRef, Network, Stop, Vm,
};
use crate::base::{Bytes, Name};

/// Where Debian's `ovmf` puts them.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Longest name of an interface that the kernel takes.
const MAX_INTERFACE: usize = 15;

/// Judges one VM file. `name` is the file's stem if it is a name; `gpus` are
/// the configured cards, if host.yaml could be read.
pub fn build(
    raw: RawVm,
    name: Option<Name>,
    gpus: Option<&[Gpu]>,
    desk: &mut Desk<'_, '_>,
) -> Option<Vm> {
    if let (Some(Text(said)), Some(name)) = (&raw.name, &name)
        && said != name
    {
        let message = format!("the name `{said}` is not that of the file");
        let fix = format!("remove it, write `{name}`, or rename the file to {said}.yaml");
        desk.error(&Trail::to("name"), message, fix);
    }
    let memory = raw.memory.and_then(|Text(memory)| sane(memory, desk));
    let accel = raw.accel.map(|accel| match accel {
        RawAccel::Kvm => Accel::Kvm,
        RawAccel::Tcg => Accel::Tcg,
    });
    if let (Some(Accel::Tcg), Some(Text(cpu))) = (accel, &raw.cpu)
        && cpu == "host"
    {
        let message = "`cpu: host` exists with `accel: kvm` only";
        desk.error(&Trail::to("cpu"), message, "remove it; `max` is the default with tcg");
    }
    if let (Some(Text(machine)), Some(_)) = (&raw.machine, &raw.gpu)
        && (["pc", "isapc", "microvm"].contains(&machine.as_str()) || machine.contains("i440fx"))
    {
        let message = format!("the machine type `{machine}` has no PCI Express for the card");
        desk.error(&Trail::to("machine"), message, "write `machine: q35`");
    }
    if let Some(Text(qemu)) = &raw.qemu {
        let fix = if qemu == Path::new("/usr/bin/qemu-system-x86_64") {
            "install it with `apt install qemu-system-x86`"
        } else {
            "correct the path"
        };
        desk.needs_file(&Trail::to("qemu"), "QEMU's program", qemu, fix);
    }
    let has_gpu = raw.gpu.is_some();
    let firmware = raw.firmware.and_then(|raw| firmware(raw, desk));
    let (gpu, gpu_options) = match raw.gpu {
        None => (None, GpuOptions::default()),
        Some(RawVmGpu::Card(named)) => {
            (card(named, &Trail::to("gpu"), gpus, desk), GpuOptions::default())
        }
        Some(RawVmGpu::Full(full)) => gpu(full, gpus, firmware.as_ref(), desk),
    };
    let disks = disks(raw.disks, desk);
    let network = raw.network.and_then(|raw| network(raw, desk));
    let stop = raw.stop.and_then(|raw| stop(raw, desk));
    if has_gpu && gpu.is_none() {
        return None;
    }
    Some(Vm {
        cpus: raw.cpus?,
        qemu: raw.qemu?.0,
        accel: accel?,
        machine: raw.machine?.0,
        cpu: raw.cpu.map(|Text(cpu)| cpu),
        firmware: firmware?,
        gpu,
        gpu_options,
        disks,
        network: network?,
        stop: stop?,
        ..Vm::plain(name?, memory?)
    })
}

fn sane(memory: Bytes, desk: &mut Desk<'_, '_>) -> Option<Bytes> {
    let trail = Trail::to("memory");
    if !(16 << 20..=16 << 40).contains(&memory.0) {
        let what = if memory.0 < 16 << 20 { "too little" } else { "too much" };
        desk.error(&trail, format!("{memory} is {what} memory"), "write a size from 16M to 16T");
        return None;
    }
    if !memory.0.is_multiple_of(1 << 20) {
        let fix = format!("write {}M", memory.mib());
        desk.error(&trail, "memory comes in whole megabytes", fix);
        return None;
    }
    Some(memory)
}

/// A card, and how it is given.
fn gpu(
    raw: RawVmGpuFull,
    gpus: Option<&[Gpu]>,
    firmware: Option<&Firmware>,
    desk: &mut Desk<'_, '_>,
) -> (Option<GpuRef>, GpuOptions) {
    let trail = Trail::to("gpu");
    let card = raw.card.and_then(|named| card(named, &trail.key("card"), gpus, desk));
    if let Some(Text(rom)) = &raw.rom {
        let fix = "correct the path, or make it: `hostctl gpu rom dump CARD FILE`";
        desk.needs_file(&trail.key("rom"), "the ROM", rom, fix);
    }
    if let (Some(true), Some(Firmware::Ovmf { .. })) = (raw.x_vga, firmware) {
        let message = "`x-vga` is for a BIOS: UEFI shows its picture on the card without it";
        desk.error(&trail.key("x-vga"), message, "remove it, or write `firmware: seabios`");
    }
    let options = GpuOptions {
        rom: raw.rom.map(|Text(rom)| rom),
        resizable_bar: raw.resizable_bar.map(|Text(size)| size).unwrap_or_default(),
        x_vga: raw.x_vga,
        hide_hypervisor: raw.hide_hypervisor.unwrap_or_default(),
    };
    (card, options)
}

fn card(
    Text(card): Text<CardRef>,
    trail: &Trail,
    gpus: Option<&[Gpu]>,
    desk: &mut Desk<'_, '_>,
) -> Option<GpuRef> {
    let (GpuRef::Name(name), Some(gpus)) = (&card, gpus) else { return Some(card) };
    if gpus.iter().any(|gpu| gpu.name == *name) {
        return Some(card);
    }
    let known: Vec<&str> = gpus.iter().map(|gpu| gpu.name.as_str()).collect();
    let fix = match (nearest(name.as_str(), known.iter().copied()), known.is_empty()) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, false) => format!("known cards: {}", known.join(", ")),
        (None, true) => "host.yaml names no cards: add it under `gpus:` there, or write the \
                         card's address here, such as 0000:01:00.0"
            .to_owned(),
    };
    desk.error(trail, format!("no card is called `{name}`"), fix);
    None
}

fn firmware(raw: RawFirmware, desk: &mut Desk<'_, '_>) -> Option<Firmware> {
    let trail = Trail::to("firmware");
    let full = match raw {
        RawFirmware::Full(full) => full,
        RawFirmware::Kind(kind) => {
            RawFirmwareFull { kind: Some(kind), log: None, code: None, vars: None }
        }
    };
    let not_for = |desk: &mut Desk<'_, '_>, key: &str, kind: &str| {
        desk.error(&trail.key(key), format!("`{key}` is not for {kind}"), "remove it");
    };
    match full.kind? {
        RawFirmwareKind::Seabios => {
            for (key, given) in [("code", full.code.is_some()), ("vars", full.vars.is_some())] {
                if given {
                    not_for(desk, key, "seabios");
                }
            }
            Some(Firmware::Seabios { log: full.log.unwrap_or_default() })
        }
        RawFirmwareKind::Ovmf => {
            if full.log.is_some() {
                not_for(desk, "log", "ovmf, which writes none");
            }
            let mut file = |key: &str, given: Option<Text<AbsolutePath>>, usual: &str| {
                let own = given.map(|Text(path)| path);
                let fix = match own {
                    Some(_) => "correct the path",
                    None => "install it with `apt install ovmf`",
                };
                let path = own.unwrap_or_else(|| PathBuf::from(usual));
                desk.needs_file(&trail.key(key), "the firmware's file", &path, fix);
                path
            };
            let code = file("code", full.code, OVMF_CODE);
            let vars = file("vars", full.vars, OVMF_VARS);
            Some(Firmware::Ovmf { code, vars, secure: false })
        }
    }
}

fn disks(raw: List<RawDisk>, desk: &mut Desk<'_, '_>) -> Vec<Disk> {
    let (mut paths, mut out) = (HashMap::new(), Vec::new());
    for (i, raw) in raw.unwrap_or_default().into_iter().enumerate() {
        let trail = Trail::to("disks").item(i);
        let (at, full) = match raw {
            Some(RawDisk::Full(full)) => (trail.key("path"), full),
            Some(RawDisk::Path(path)) => {
                (trail, RawDiskFull { path: Some(path), format: None, readonly: None })
            }
            None => continue,
        };
        let Some(Text(path)) = full.path else { continue };
        desk.unique(&mut paths, path.clone(), &at, format!("the disk {}", path.display()));
        desk.needs_file(&at, "the disk", &path, how_to_make(&path));
        let ends = |ending: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
        let format = match full.format {
            Some(RawDiskFormat::Qcow2) => DiskFormat::Qcow2,
            None if ends("qcow2") => DiskFormat::Qcow2,
            Some(RawDiskFormat::Raw) | None => DiskFormat::Raw,
        };
        let readonly = full.readonly.unwrap_or(ends("iso"));
        let boot = u32::try_from(i + 1).unwrap_or(u32::MAX);
        out.push(Disk { format, readonly, ..Disk::plain(path, boot) });
    }
    out
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

fn network(raw: RawNetwork, desk: &mut Desk<'_, '_>) -> Option<Network> {
    let bridge = match raw {
        RawNetwork::Kind(RawNetworkKind::None) => return Some(Network::None),
        RawNetwork::Kind(RawNetworkKind::User) => return Some(Network::User),
        RawNetwork::Full(full) => full.bridge?.0,
    };
    if bridge.len() > MAX_INTERFACE {
        let message = format!("`{bridge}` is too long for the name of a bridge");
        let fix = format!("the kernel's names have at most {MAX_INTERFACE} characters");
        desk.error(&Trail::to("network").key("bridge"), message, fix);
        return None;
    }
    Some(Network::Bridge(bridge))
}

fn stop(raw: RawStop, desk: &mut Desk<'_, '_>) -> Option<Stop> {
    let (second, hour) = (Duration::from_secs(1), Duration::from_secs(3600));
    let deadline = desk.span(&Trail::to("stop").key("deadline"), raw.deadline, second, hour)?;
    let then = match raw.then? {
        RawThen::Ask => AfterDeadline::Ask,
        RawThen::Quit => AfterDeadline::Quit,
    };
    Some(Stop { deadline, then })
}

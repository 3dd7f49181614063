//! What a VM file means: raw → checked, as far as it is sound.
//!
//! `profile` says what is usual; the guest's parts are judged in `processors`,
//! `firmware`, `disks` and `devices`, how it lives on the host in `life`.

mod devices;
mod disks;
mod firmware;
mod life;
mod processors;
mod profile;

use std::path::Path;

use self::profile::Usual;
use super::desk::Desk;
use super::formats::{CardRef, Text};
use super::raw::{RawAccel, RawSmbios, RawVm, RawVmGpu, RawVmGpuFull};
use super::text::nearest;
use super::tree::Trail;
use super::types::{Accel, Firmware, Gpu, GpuOptions, GpuRef, Smbios, Vm};
use crate::base::Name;

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
    let usual = Usual::of(raw.profile);
    let memory = raw.memory.and_then(|Text(memory)| processors::memory(memory, desk));
    let hugepages = raw.hugepages.and_then(|raw| processors::hugepages(raw, memory, desk));
    let processors = processors::read(raw.cpus, raw.topology, raw.pinning, desk);
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
    if let Some(Text(qemu)) = &raw.qemu {
        let fix = if qemu == Path::new("/usr/bin/qemu-system-x86_64") {
            "install it with `apt install qemu-system-x86`"
        } else {
            "correct the path"
        };
        desk.needs_file(&Trail::to("qemu"), "QEMU's program", qemu, fix);
    }
    let firmware = firmware::read(raw.firmware, raw.secure_boot, usual, desk);
    if let Some(Text(machine)) = &raw.machine {
        let secure = matches!(firmware, Some(Firmware::Ovmf { secure: true, .. }));
        fits_machine(machine, raw.gpu.is_some(), secure, desk);
    }
    let has_gpu = raw.gpu.is_some();
    let (gpu, gpu_options) = gpu(raw.gpu, gpus, firmware.as_ref(), usual, desk);
    let (disks, nvme) = disks::read(raw.disks, usual, desk);
    for (i, controller) in nvme.iter().flatten() {
        disks::apart_from_the_card(*i, controller, gpu.as_ref(), gpus, desk);
    }
    let network = raw.network.and_then(|raw| devices::network(raw, usual, desk));
    let usb = devices::usb(raw.usb, desk);
    let evdev = raw.evdev.map(|raw| devices::evdev(raw, desk));
    let display = raw.display.and_then(|raw| devices::display(raw, desk));
    let sound = raw.sound.and_then(|raw| devices::sound(raw, display.as_ref(), desk));
    let agent = life::agent(raw.agent, usual, desk);
    let resources = life::resources(raw.resources, desk);
    let pinned = processors.as_ref().map(|(.., pinning)| pinning);
    let performance = raw.performance.and_then(|raw| life::performance(raw, pinned, desk));
    let autostart = raw.autostart.and_then(|raw| life::autostart(raw, desk));
    let on_crash = raw.on_crash.and_then(|raw| life::on_crash(raw, desk));
    let hooks = life::hooks(raw.hooks, desk);
    let stop = raw.stop.and_then(|raw| life::stop(raw, desk));
    if has_gpu && gpu.is_none() {
        return None;
    }
    let (cpus, topology, pinning) = processors?;
    let (network, nic) = network?;
    Some(Vm {
        profile: raw.profile.map(profile::checked),
        hugepages: hugepages?,
        numa_node: raw.numa_node,
        cpus,
        topology,
        pinning,
        qemu: raw.qemu?.0,
        accel: accel?,
        machine: raw.machine?.0,
        cpu: raw.cpu.map(|Text(cpu)| cpu),
        hyperv: raw.hyperv.unwrap_or(usual.hyperv),
        clock: raw.clock.map_or(usual.clock, profile::clock),
        firmware: firmware?,
        tpm: raw.tpm.unwrap_or(usual.tpm),
        gpu,
        gpu_options,
        disks: disks?,
        nvme: nvme?.into_iter().map(|(_, nvme)| nvme).collect(),
        network,
        nic,
        usb,
        evdev: evdev.flatten(),
        looking_glass: raw.looking_glass?.0,
        sound: sound?,
        display: display?,
        serial: raw.serial.unwrap_or(usual.serial),
        agent: agent?,
        uuid: raw.uuid.map(|Text(uuid)| uuid),
        smbios: raw.smbios.map(smbios).unwrap_or_default(),
        qemu_args: texts(raw.qemu_args),
        user: raw.user.map(|Text(user)| user),
        resources,
        snapshots: raw.snapshots.as_ref().and_then(life::snapshots)?,
        autostart: autostart?,
        on_crash: on_crash?,
        hooks,
        stop: stop?,
        performance: performance?,
        ..Vm::plain(name?, memory?)
    })
}

/// The sound items of a list of texts.
fn texts<F: super::formats::Format>(raw: super::raw::List<Text<F>>) -> Vec<F::Value> {
    raw.into_iter().flatten().flatten().map(|Text(value)| value).collect()
}

fn smbios(raw: RawSmbios) -> Smbios {
    Smbios {
        manufacturer: raw.manufacturer.map(|Text(text)| text),
        product: raw.product.map(|Text(text)| text),
        version: raw.version.map(|Text(text)| text),
        serial: raw.serial.map(|Text(text)| text),
        sku: raw.sku.map(|Text(text)| text),
        family: raw.family.map(|Text(text)| text),
    }
}

/// What the machine type must have.
fn fits_machine(machine: &str, card: bool, secure: bool, desk: &mut Desk<'_, '_>) {
    if !["pc", "isapc", "microvm"].contains(&machine) && !machine.contains("i440fx") {
        return;
    }
    let trail = Trail::to("machine");
    if card {
        let message = format!("the machine type `{machine}` has no PCI Express for the card");
        desk.error(&trail, message, "write `machine: q35`");
    }
    if secure {
        // System Management Mode keeps the variables from the guest's kernel.
        let message = format!("the machine type `{machine}` has no SMM, which Secure Boot needs");
        desk.error(&trail, message, "write `machine: q35`, or `secure-boot: false`");
    }
}

/// A card, and how it is given.
fn gpu(
    raw: Option<RawVmGpu>,
    gpus: Option<&[Gpu]>,
    firmware: Option<&Firmware>,
    usual: Usual,
    desk: &mut Desk<'_, '_>,
) -> (Option<GpuRef>, GpuOptions) {
    let bios = matches!(firmware, Some(Firmware::Seabios { .. }));
    let x_vga = usual.x_vga.filter(|_| bios);
    let trail = Trail::to("gpu");
    let raw: RawVmGpuFull = match raw {
        None => return (None, GpuOptions::default()),
        Some(RawVmGpu::Card(named)) => {
            let options = GpuOptions { x_vga, ..GpuOptions::default() };
            return (card(named, &trail, gpus, desk), options);
        }
        Some(RawVmGpu::Full(full)) => full,
    };
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
        x_vga: raw.x_vga.or(x_vga),
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

//! What two VMs must not share, or not at the same time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::desk::Desk;
use super::tree::Trail;
use super::types::{Display, Gpu, GpuRef, Network, Pinning, UsbRef, Viewers, Vm};
use crate::base::{Name, PciAddress};

/// Something that one VM has.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Thing {
    Uuid(String),
    Mac([u8; 6]),
    Disk(PathBuf),
    /// Function 0 of the slot: a card is given with all its functions.
    Device(PciAddress),
    /// A card whose address is not known, because host.yaml is wrong.
    Card(Name),
    Usb(UsbRef),
    Input(PathBuf),
    Tap(String),
}

/// What the VMs so far have.
#[derive(Default)]
pub struct Shared {
    things: HashMap<Thing, Name>,
    listening: Vec<(SocketAddr, Name)>,
    pins: HashMap<u32, Name>,
}

impl Shared {
    /// Reports what this VM has with another, and takes in what it has.
    pub fn compare(&mut self, vm: &Vm, gpus: Option<&[Gpu]>, desk: &mut Desk<'_, '_>) {
        if let Some(uuid) = &vm.uuid {
            let (trail, fix) = (Trail::to("uuid"), "write another, as `uuidgen` makes it");
            self.own(Thing::Uuid(uuid.clone()), vm, &trail, "UUID", fix, desk);
        }
        if let Some(mac) = vm.nic.mac {
            let (trail, fix) = (Trail::to("network").key("mac"), "write another, or remove it");
            self.own(Thing::Mac(mac), vm, &trail, "hardware address", fix, desk);
        }
        self.listens(vm, desk);
        for (trail, thing, what) in things(vm, gpus, desk) {
            self.one_at_a_time(thing, vm, &trail, what, desk);
        }
        self.pinned(vm, desk);
    }

    /// What must differ.
    fn own(
        &mut self,
        thing: Thing,
        vm: &Vm,
        trail: &Trail,
        what: &str,
        fix: &str,
        desk: &mut Desk<'_, '_>,
    ) {
        match self.things.get(&thing) {
            Some(other) => desk.error(trail, format!("the VM {other} has this {what} too"), fix),
            None => {
                self.things.insert(thing, vm.name.clone());
            }
        }
    }

    /// What two may have, but not both at once.
    fn one_at_a_time(
        &mut self,
        thing: Thing,
        vm: &Vm,
        trail: &Trail,
        what: &str,
        desk: &mut Desk<'_, '_>,
    ) {
        match self.things.get(&thing) {
            Some(other) if *other == vm.name => {}
            Some(other) => {
                let fix = "never run both at once, or give each its own";
                desk.warn(trail, format!("the VM {other} {what} too"), fix);
            }
            None => {
                self.things.insert(thing, vm.name.clone());
            }
        }
    }

    fn listens(&mut self, vm: &Vm, desk: &mut Desk<'_, '_>) {
        let (Display::Spice(Viewers::Tcp { address, .. })
        | Display::Vnc(Viewers::Tcp { address, .. })) = vm.display
        else {
            return;
        };
        let clash = |other: &SocketAddr| {
            let any = other.ip().is_unspecified() || address.ip().is_unspecified();
            other.port() == address.port() && (any || other.ip() == address.ip())
        };
        if let Some((taken, other)) = self.listening.iter().find(|(other, _)| clash(other)) {
            let message = format!("the VM {other} is shown on {taken}");
            desk.error(&Trail::to("display").key("listen"), message, "write another port");
            return;
        }
        self.listening.push((address, vm.name.clone()));
    }

    fn pinned(&mut self, vm: &Vm, desk: &mut Desk<'_, '_>) {
        let Pinning::Exact { vcpus, .. } = &vm.pinning else { return };
        let taken = |cpu: &u32| Some((*cpu, self.pins.get(cpu)?));
        if let Some((_, other)) = vcpus.iter().find_map(taken) {
            let both = vcpus.iter().filter(|cpu| self.pins.get(cpu) == Some(other));
            let both: Vec<String> = both.map(u32::to_string).collect();
            let message =
                format!("the VM {other} runs on these processors too: {}", both.join(", "));
            let fix = "if both run at once, each is slower; name other processors";
            desk.warn(&Trail::to("pinning").key("vcpus"), message, fix);
        }
        for cpu in vcpus {
            self.pins.entry(*cpu).or_insert_with(|| vm.name.clone());
        }
    }
}

/// What a VM has of the host, where it says so, and what it does with it.
fn things(vm: &Vm, gpus: Option<&[Gpu]>, desk: &Desk<'_, '_>) -> Vec<(Trail, Thing, &'static str)> {
    let mut out = Vec::new();
    let disks = Trail::to("disks");
    // Both kinds stand in one list; a disk is found by its path.
    let lists = |i: usize| {
        let item = disks.item(i);
        if desk.root.has(&item.key("nvme")) { (None, Some(item)) } else { (Some(item), None) }
    };
    let count = vm.disks.len() + vm.nvme.len();
    let (paths, controllers): (Vec<_>, Vec<_>) = (0..count).map(lists).unzip();
    for (disk, item) in vm.disks.iter().zip(paths.into_iter().flatten()) {
        if !disk.readonly {
            out.push((item.key("path"), Thing::Disk(disk.path.clone()), "writes to this disk"));
        }
    }
    for (nvme, item) in vm.nvme.iter().zip(controllers.into_iter().flatten()) {
        let device = Thing::Device(nvme.address.with_function(0));
        out.push((item.key("nvme"), device, "has this controller"));
    }
    if let Some(gpu) = &vm.gpu {
        let card = match gpu {
            GpuRef::Address(address) => Thing::Device(address.with_function(0)),
            GpuRef::Name(name) => {
                let named = gpus.into_iter().flatten().find(|gpu| gpu.name == *name);
                named.map_or_else(
                    || Thing::Card(name.clone()),
                    |gpu| Thing::Device(gpu.address.with_function(0)),
                )
            }
        };
        out.push((Trail::to("gpu").key("card"), card, "has this graphics card"));
    }
    for (i, usb) in vm.usb.iter().enumerate() {
        out.push((Trail::to("usb").item(i), Thing::Usb(usb.clone()), "has this USB device"));
    }
    for (i, path) in vm.evdev.iter().flat_map(|evdev| &evdev.devices).enumerate() {
        let trail = Trail::to("evdev").key("devices");
        let trail = if desk.root.has(&trail) { trail } else { Trail::to("evdev") };
        out.push((trail.item(i), Thing::Input(path.clone()), "has this input device"));
    }
    if let Network::Tap(tap) = &vm.network {
        out.push((Trail::to("network").key("tap"), Thing::Tap(tap.clone()), "uses this tap"));
    }
    out
}

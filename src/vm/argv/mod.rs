//! The QEMU command line: a pure function of the VM's file, what it was lent,
//! the places of its files and a few facts about the machine. QEMU 7.2 and 10
//! both take it.
//!
//! Slots of the root bus are fixed, so that a guest finds its devices where
//! they were after something was added:
//!
//! | slot | device |
//! |---|---|
//! | 01 | VGA or QXL: with a `display`, or without a card |
//! | 02 | root port of the graphics card |
//! | 03 | root port of the network card |
//! | 04–13 | root ports of the disks, in the order of the file: virtio and NVMe |
//! | 14–17 | root ports of NVMe controllers of the host |
//! | 18 | USB controller, always there: devices are plugged in later |
//! | 19 | virtio-serial: the channels of the guest agent and of SPICE |
//! | 1a | virtio-scsi, if a disk hangs on it; its target is the disk's place in the file |
//! | 1b | sound card |
//! | 1c | Looking Glass's memory |
//! | 1d, 1e | keyboard and mouse that are shared by a key |
//! | 1f | the chipset; its AHCI has six ports for SATA and CD-ROM drives |
//!
//! Each disk has a node of its format, `disk0`, on a node `disk0-file`, and the
//! device that the guest sees is `disk0-device`. USB devices are `usb-…`, see
//! [`usb_id`].
//!
//! The start token is the name of a character device that leads nowhere
//! (`-chardev null,id=start-…`): it costs nothing, the guest cannot see it, it
//! is in `/proc/<pid>/cmdline`, and QMP's `query-chardev` repeats it, so that
//! both the process and whoever answers on its socket can be known by it.
//!
//! QEMU starts with halted processors (`-S`); the guest runs when hostd has
//! recorded the process, speaks to it and says `cont`.
//!
//! - `line`: how a value is written so that it cannot become an option
//! - `machine`: machine type, processor, memory, clock, firmware, SMBIOS
//! - `lent`: devices of the host: graphics card, NVMe, USB, keyboard and mouse
//! - `disks`, `screen`; network and channels are here
//! - [`facts`]: what of this machine decides

pub mod facts;

mod disks;
mod lent;
mod line;
mod machine;
mod screen;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;

pub use disks::{MAX_DISKS, MAX_SATA, on_ahci};
pub use facts::{DiskFacts, Facts};
pub use lent::{MAX_NVME, usb_id};
pub use machine::unpinned;

use line::{Line, Opts};

use super::devices::Lent;
use super::identity::{Identity, Mac, Uuid};
use super::paths::{self, Paths};
use crate::config::{Accel, Display, Network, NicModel, Vm};

/// What a start adds to the VM's file.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Made once for this VM.
    pub identity: &'a Identity,
    /// Made for this start.
    pub token: Uuid,
    /// The card that is passed through; without functions for none.
    pub card: &'a Lent,
    /// About this machine.
    pub facts: &'a Facts,
}

/// The name that the start token has on the command line and in QMP.
pub fn token_id(token: Uuid) -> String {
    format!("start-{token}")
}

/// The arguments for `vm.qemu`.
pub fn argv(vm: &Vm, paths: &Paths, start: &Start<'_>) -> Vec<OsString> {
    let mut line = Line::default();
    line.option("-name", Opts::new("debug-threads=on").with("guest", &vm.name));
    line.flag("-nodefaults").flag("-no-user-config");
    line.pair("-msg", "timestamp=on");
    // What QEMU never needs, it cannot be made to do.
    line.pair(
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    );
    machine::add(&mut line, vm, paths, start);
    control(&mut line, paths, start.token);
    screen::display(&mut line, vm, paths, !start.card.functions.is_empty());
    lent::graphics(&mut line, vm, start.card);
    network(&mut line, vm, start);
    disks::add(&mut line, vm, start.facts);
    lent::nvme(&mut line, vm);
    lent::usb(&mut line, vm);
    channels(&mut line, vm, paths);
    screen::sound(&mut line, vm.sound);
    lent::looking_glass(&mut line, vm, start.facts.kvmfr);
    lent::evdev(&mut line, vm);
    line.0.extend(vm.qemu_args.iter().map(OsString::from));
    line.0
}

/// Whole mebibytes where it is so: people read this.
fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{}M", bytes >> 20) } else { format!("{bytes}B") }
}

fn control(line: &mut Line, paths: &Paths, token: Uuid) {
    line.pair("-chardev", format!("null,id={}", token_id(token)));
    let socket = Opts::new("socket,id=qmp,server=on,wait=off").path("path", &paths.qmp);
    line.option("-chardev", socket);
    line.pair("-mon", "chardev=qmp,mode=control");
    // Not an option of many parts: the path stands as it is.
    line.pair("-pidfile", &paths.pidfile);
    line.flag("-S");
}

fn network(line: &mut Line, vm: &Vm, start: &Start<'_>) {
    let made = paths::tap_name(&vm.name);
    let tap = match &vm.network {
        Network::None => return,
        Network::User => None,
        Network::Bridge(_) => Some(&made),
        Network::Tap(tap) => Some(tap),
    };
    let Some(tap) = tap else {
        line.pair("-netdev", "user,id=net0");
        return nic(line, vm, start);
    };
    let vhost = start.facts.vhost && vm.accel == Accel::Kvm && vm.nic.model == NicModel::Virtio;
    let netdev = Opts::new("tap,id=net0,script=no,downscript=no").and_if(vhost, "vhost=on");
    line.option("-netdev", netdev.with("ifname", tap));
    nic(line, vm, start);
}

fn nic(line: &mut Line, vm: &Vm, start: &Start<'_>) {
    line.root_port("net", 0x03);
    let model = match vm.nic.model {
        NicModel::Virtio => "virtio-net-pci",
        NicModel::E1000e => "e1000e",
    };
    let mac = vm.nic.mac.map_or(start.identity.mac, Mac);
    // Without a ROM: it is for booting from the network, and its file comes
    // with a package that may be missing.
    line.pair("-device", format!("{model},id=nic0,netdev=net0,bus=net,mac={mac},romfile="));
}

/// What the guest and the host say to each other.
fn channels(line: &mut Line, vm: &Vm, paths: &Paths) {
    let spice = matches!(vm.display, Display::Spice(_));
    if vm.agent.channel || spice {
        line.pair("-device", "virtio-serial-pci,id=channels,bus=pcie.0,addr=0x19");
    }
    if vm.agent.channel {
        let socket = Opts::new("socket,id=agent,server=on,wait=off").path("path", &paths.agent);
        line.option("-chardev", socket);
        line.pair(
            "-device",
            "virtserialport,bus=channels.0,nr=1,chardev=agent,name=org.qemu.guest_agent.0",
        );
    }
    if spice {
        line.pair("-chardev", "spicevmc,id=vdagent,name=vdagent");
        line.pair(
            "-device",
            "virtserialport,bus=channels.0,nr=2,chardev=vdagent,name=com.redhat.spice.0",
        );
    }
    if vm.serial {
        let socket = Opts::new("socket,id=serial,server=on,wait=off").path("path", &paths.serial);
        // Appending, so that it can be cut.
        let socket = socket.path("logfile", &paths.serial_log).and("logappend=on");
        line.option("-chardev", socket);
        line.pair("-device", "isa-serial,chardev=serial");
    }
    if vm.tpm {
        line.option("-chardev", Opts::new("socket,id=tpm").path("path", &paths.tpm));
        line.pair("-tpmdev", "emulator,id=tpm0,chardev=tpm");
        line.pair("-device", "tpm-crb,tpmdev=tpm0");
    }
}

/// The whole command as a shell would take it, one option a line: for
/// `vm argv` and the log.
pub fn show(vm: &Vm, args: &[OsString]) -> String {
    let mut text = crate::host::run::quoted(vm.qemu.as_os_str());
    for arg in args {
        let begins = if arg.as_bytes().starts_with(b"-") { " \\\n  " } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{begins}{}", crate::host::run::quoted(arg));
    }
    text
}

#[cfg(test)]
mod tests;

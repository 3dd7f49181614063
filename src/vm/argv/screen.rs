//! A picture without a card, and sound.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;

use super::line::{Line, Opts};
use crate::config::{Display, Sound, Viewers, Vm};
use crate::vm::paths::Paths;

/// The first port of VNC's displays, which have numbers of their own.
const VNC_PORT: u16 = 5900;

/// QEMU shows nothing by itself. The VGA is there for a viewer, or because a
/// guest without a card would have none.
pub(super) fn display(line: &mut Line, vm: &Vm, paths: &Paths, card: bool) {
    line.pair("-display", "none").pair("-vga", "none");
    let vga = match &vm.display {
        Display::Off if card => return,
        Display::Off => "VGA",
        Display::Spice(viewers) => {
            spice(line, viewers, paths);
            "qxl-vga"
        }
        Display::Vnc(viewers) => {
            vnc(line, viewers, paths);
            "VGA"
        }
    };
    line.pair("-device", format!("{vga},id=vga,bus=pcie.0,addr=0x1"));
}

/// Where the password is; QEMU reads it itself.
fn password(line: &mut Line, viewers: &Viewers) -> bool {
    let Viewers::Tcp { password_file: Some(file), .. } = viewers else { return false };
    line.option("-object", Opts::new("secret,id=password").path("file", file));
    true
}

fn spice(line: &mut Line, viewers: &Viewers, paths: &Paths) {
    let known = password(line, viewers);
    let access = if known { "password-secret=password" } else { "disable-ticketing=on" };
    line.option(
        "-spice",
        match viewers {
            Viewers::Socket => Opts::new("unix=on").and(access).path("addr", &paths.display),
            Viewers::Tcp { address, .. } => {
                let (ip, port) = (address.ip(), address.port());
                Opts::new(format!("port={port}")).and(access).with("addr", ip)
            }
        },
    );
}

fn vnc(line: &mut Line, viewers: &Viewers, paths: &Paths) {
    let known = password(line, viewers);
    let place = match viewers {
        Viewers::Socket => {
            let mut socket = OsString::from("unix:");
            socket.push(&paths.display);
            Opts::begin("vnc", Path::new(&socket))
        }
        Viewers::Tcp { address, .. } => Opts::new(format!("vnc={}", display_of(*address))),
    };
    line.option("-vnc", place.and_if(known, "password-secret=password"));
}

/// An address with the number of the display in place of the port's; ports
/// below VNC's first one have numbers below zero, which no display has.
fn display_of(address: SocketAddr) -> String {
    let display = i32::from(address.port()) - i32::from(VNC_PORT);
    match address {
        SocketAddr::V4(at) => format!("{}:{display}", at.ip()),
        SocketAddr::V6(at) => format!("[{}]:{display}", at.ip()),
    }
}

pub(super) fn sound(line: &mut Line, sound: Sound) {
    let driver = match sound {
        Sound::Off => return,
        Sound::Silent => "none",
        Sound::Spice => "spice",
        Sound::Alsa => "alsa",
        Sound::Pulse => "pa",
        Sound::Pipewire => "pipewire",
    };
    line.pair("-audiodev", format!("{driver},id=audio"));
    line.pair("-device", "ich9-intel-hda,id=sound,bus=pcie.0,addr=0x1b");
    line.pair("-device", "hda-duplex,bus=sound.0,audiodev=audio");
}

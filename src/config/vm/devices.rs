//! Network, USB, keyboard and mouse, picture and sound.

use std::collections::HashMap;

use super::Usual;
use crate::config::desk::Desk;
use crate::config::formats::Text;
use crate::config::raw::{
    List, RawDisplay, RawDisplayKind, RawEvdev, RawNetwork, RawNetworkKind, RawNicModel, RawSound,
    RawToggle, RawUsb, RawViewer,
};
use crate::config::tree::Trail;
use crate::config::types::{
    Display, Evdev, Network, Nic, NicModel, Sound, Toggle, UsbRef, Viewers,
};
use crate::config::words::usb as usb_name;

/// Longest name of an interface that the kernel takes (`IFNAMSIZ`, less one).
const MAX_INTERFACE: usize = 15;
/// Most devices in a list.
const MOST: usize = 64;

/// The network, and the guest's end of it.
pub fn network(raw: RawNetwork, usual: Usual, desk: &mut Desk<'_, '_>) -> Option<(Network, Nic)> {
    let trail = Trail::to("network");
    let (network, model, mac) = match raw {
        RawNetwork::Kind(RawNetworkKind::None) => return Some((Network::None, Nic::default())),
        RawNetwork::Kind(RawNetworkKind::User) => (Network::User, None, None),
        RawNetwork::User(user) => {
            user.kind?;
            (Network::User, user.model, user.mac)
        }
        RawNetwork::Bridge(raw) => {
            let bridge = interface(raw.bridge?.0, &trail.key("bridge"), "a bridge", desk)?;
            (Network::Bridge(bridge), raw.model, raw.mac)
        }
        RawNetwork::Tap(raw) => {
            let tap = interface(raw.tap?.0, &trail.key("tap"), "a tap", desk)?;
            (Network::Tap(tap), raw.model, raw.mac)
        }
    };
    let model = match model {
        Some(RawNicModel::Virtio) => NicModel::Virtio,
        Some(RawNicModel::E1000e) => NicModel::E1000e,
        None => usual.nic,
    };
    Some((network, Nic { model, mac: mac.map(|Text(mac)| mac) }))
}

fn interface(name: String, trail: &Trail, what: &str, desk: &mut Desk<'_, '_>) -> Option<String> {
    if name.len() > MAX_INTERFACE {
        let message = format!("`{name}` is too long for the name of {what}");
        let fix = format!("the kernel's names have at most {MAX_INTERFACE} characters");
        desk.error(trail, message, fix);
        return None;
    }
    Some(name)
}

/// USB devices, each once.
pub fn usb(raw: List<RawUsb>, desk: &mut Desk<'_, '_>) -> Vec<UsbRef> {
    let (list, raw) = (Trail::to("usb"), raw.unwrap_or_default());
    if raw.len() > MOST {
        desk.error(&list, format!("{} devices", raw.len()), format!("write at most {MOST}"));
    }
    let (mut seen, mut out) = (HashMap::new(), Vec::new());
    for (i, raw) in raw.into_iter().enumerate().take(MOST) {
        let trail = list.item(i);
        let (at, device) = match raw {
            Some(RawUsb::Name(device)) => (trail, Some(device.0)),
            Some(RawUsb::Id(raw)) => (trail.key("id"), raw.id.map(|Text(id)| id)),
            Some(RawUsb::Port(raw)) => (trail.key("port"), raw.port.map(|Text(port)| port)),
            None => continue,
        };
        let Some(device) = device else { continue };
        desk.unique(
            &mut seen,
            device.clone(),
            &at,
            format!("the USB device {}", usb_name(&device)),
        );
        out.push(device);
    }
    out
}

/// Keyboard and mouse.
pub fn evdev(raw: RawEvdev, desk: &mut Desk<'_, '_>) -> Option<Evdev> {
    let trail = Trail::to("evdev");
    let (at, devices, toggle) = match raw {
        RawEvdev::Devices(devices) => (trail, devices, Toggle::default()),
        RawEvdev::Full(full) => {
            (trail.key("devices"), full.devices?, full.toggle.map(self::toggle)?)
        }
    };
    if devices.is_empty() || devices.len() > MOST {
        let message = format!("{} devices", devices.len());
        let fix = "name the keyboard's and the mouse's: `ls /dev/input/by-id/*-event-*`";
        desk.error(&at, message, fix);
        return None;
    }
    let (mut seen, mut out) = (HashMap::new(), Vec::new());
    for (i, Text(path)) in devices.into_iter().enumerate().filter_map(|(i, d)| Some((i, d?))) {
        let at = at.item(i);
        let shown = path.display().to_string();
        desk.unique(&mut seen, path.clone(), &at, format!("the device {shown}"));
        let fix = "plug it in, or find it with `ls /dev/input/by-id/*-event-*`";
        if !path.starts_with("/dev/input") {
            desk.error(&at, format!("{shown} is no input device"), fix);
            continue;
        }
        if shown.starts_with("/dev/input/event") {
            let message = format!("{shown} may be another device after the next boot");
            desk.warn(&at, message, "name it as in /dev/input/by-id");
        }
        desk.needs_file(&at, "the device", &path, fix);
        out.push(path);
    }
    Some(Evdev { devices: out, toggle })
}

fn toggle(raw: RawToggle) -> Toggle {
    match raw {
        RawToggle::CtrlCtrl => Toggle::CtrlCtrl,
        RawToggle::AltAlt => Toggle::AltAlt,
        RawToggle::ShiftShift => Toggle::ShiftShift,
        RawToggle::MetaMeta => Toggle::MetaMeta,
        RawToggle::ScrollLock => Toggle::ScrollLock,
        RawToggle::CtrlScrollLock => Toggle::CtrlScrollLock,
    }
}

/// A picture, and who may look at it.
pub fn display(raw: RawDisplay, desk: &mut Desk<'_, '_>) -> Option<Display> {
    let full = match raw {
        RawDisplay::Kind(RawDisplayKind::Off) => return Some(Display::Off),
        RawDisplay::Kind(RawDisplayKind::Spice) => return Some(Display::Spice(Viewers::Socket)),
        RawDisplay::Kind(RawDisplayKind::Vnc) => return Some(Display::Vnc(Viewers::Socket)),
        RawDisplay::Full(full) => full,
    };
    let trail = Trail::to("display");
    let (listen, password) = (trail.key("listen"), trail.key("password-file"));
    if let Some(Text(path)) = &full.password_file {
        let fix = "correct the path, or write it: `install -m 600 /dev/stdin FILE`";
        desk.needs_file(&password, "the file with the password", path, fix);
    }
    let viewers = match (full.listen, full.password_file) {
        (Some(Text(address)), file) => {
            let local = address.ip().to_canonical().is_loopback();
            if !local && !desk.root.has(&password) {
                let message = format!(
                    "the picture would be shown on {address}, where anybody on the network can \
                     look at it and type"
                );
                let fix = format!("add `password-file`, or write 127.0.0.1:{}", address.port());
                desk.error(&listen, message, fix);
            }
            Viewers::Tcp { address, password_file: file.map(|Text(path)| path) }
        }
        // It is given and wrong, and nobody knows what it would be.
        (None, _) if desk.root.has(&listen) => return None,
        (None, Some(_)) => {
            let message = "nobody asks for the password: a socket has rights instead";
            desk.error(&password, message, "remove it, or add `listen: 127.0.0.1:5900`");
            return None;
        }
        (None, None) => Viewers::Socket,
    };
    Some(match full.kind? {
        RawViewer::Spice => Display::Spice(viewers),
        RawViewer::Vnc => Display::Vnc(viewers),
    })
}

/// Where the sound goes; `display` is what is shown, if that is known.
pub fn sound(raw: RawSound, display: Option<&Display>, desk: &mut Desk<'_, '_>) -> Option<Sound> {
    Some(match raw {
        RawSound::Off => Sound::Off,
        RawSound::Silent => Sound::Silent,
        RawSound::Alsa => Sound::Alsa,
        RawSound::Pulse => Sound::Pulse,
        RawSound::Pipewire => Sound::Pipewire,
        RawSound::Spice => {
            if matches!(display, Some(Display::Off | Display::Vnc(_))) {
                let message = "nobody hears this sound: nothing is shown with SPICE";
                desk.error(&Trail::to("sound"), message, "add `display: spice`");
                return None;
            }
            Sound::Spice
        }
    })
}

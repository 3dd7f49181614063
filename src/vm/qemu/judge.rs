//! A command line against what this QEMU can do.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::Capabilities;
use super::ask::{DEVICES, OBJECTS};
use crate::config::{Display, Sound, Vm};
use crate::vm::preflight::Problem;

/// The oldest QEMU whose command line hostd writes.
const OLDEST: (u32, u32) = (7, 2);

/// Since when QEMU has what we write, where it is younger than many a server;
/// from the change logs of the releases (wiki.qemu.org/ChangeLog).
const SINCE: &[(&str, &str)] = &[
    ("pipewire", "8.1"),
    ("dbus", "7.0"),
    ("memory-backend-memfd", "2.12"),
    ("tpm-crb", "2.12"),
    ("qemu-xhci", "2.10"),
    ("pcie-root-port", "2.9"),
    ("ivshmem-plain", "2.6"),
    ("input-linux", "2.6"),
    ("prealloc-threads", "5.0"),
];

/// How to install what Debian has put into packages of their own; 12 has all of
/// SPICE in `qemu-system-common`, 13 (QEMU 10) has not.
const PACKAGES: &[(&str, &str)] = &[
    ("qxl-vga", SPICE),
    ("chardev-spicevmc", SPICE),
    ("spice", SPICE),
    ("usb-host", "Debian: `apt install qemu-system-common`"),
    ("pa", GUI),
    ("pipewire", GUI),
];
const SPICE: &str = "Debian 13: `apt install qemu-system-modules-spice`";
const GUI: &str = "Debian: `apt install qemu-system-gui`";

fn look<'a>(table: &[(&str, &'a str)], name: &str) -> Option<&'a str> {
    table.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
}

/// Two numbers of a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The same of this QEMU.
fn can_version(can: &Capabilities) -> (u32, u32) {
    (can.version.0, can.version.1)
}

/// How to come by what this QEMU has not: a newer one, or another package.
fn remedy(can: &Capabilities, name: &str) -> String {
    let now = can_version(can);
    let newer = look(SINCE, name).filter(|since| version(since).is_some_and(|since| since > now));
    match (newer, look(PACKAGES, name)) {
        (Some(since), _) => format!("it came with QEMU {since}: install that or a later one"),
        (None, Some(package)) => format!("install it ({package})"),
        (None, None) => "take it out of the VM's file, or use a QEMU that has it".to_owned(),
    }
}

/// What of the line this QEMU does not take. The owner's own words at its end
/// (`qemu_args`) are QEMU's to judge.
pub fn judge(vm: &Vm, args: &[OsString], can: &Capabilities) -> Vec<Problem> {
    let mut found = Vec::new();
    found.extend(old(can));
    found.extend(machine(args, can).into_iter().map(|problem| problem.about("machine")));
    found.extend(screen(vm, can));
    let ours = args.len().saturating_sub(vm.qemu_args.len());
    let pairs = args.iter().take(ours).zip(args.iter().take(ours).skip(1));
    for (option, value) in pairs {
        match option.as_bytes() {
            b"-device" => found.extend(typed(value, DEVICES, "device", can)),
            b"-object" => found.extend(typed(value, OBJECTS, "object", can)),
            _ => {}
        }
    }
    let mut told = Vec::new();
    // Eight disks lack the same thing once.
    found.retain(|problem| {
        !told.contains(&problem.what) && {
            told.push(problem.what.clone());
            true
        }
    });
    found
}

fn old(can: &Capabilities) -> Option<Problem> {
    let (major, minor) = OLDEST;
    (can_version(can) < OLDEST).then(|| {
        Problem::new(
            format!("{} is older than what hostd knows", can.shown()),
            format!("install QEMU {major}.{minor} or later"),
        )
    })
}

/// The value of a key in an argument of ours.
fn value_of<'a>(parts: &'a [String], key: &str) -> Option<&'a str> {
    parts.iter().find_map(|part| part.strip_prefix(key)?.strip_prefix('='))
}

/// The parts of an argument; a comma written twice is one.
fn split(arg: &OsString) -> Vec<String> {
    let text = arg.to_string_lossy().replace(",,", "\0");
    text.split(',').map(|part| part.replace('\0', ",")).collect()
}

/// The machine type that the line asks for: the kept one may be of a newer QEMU.
fn machine(args: &[OsString], can: &Capabilities) -> Option<Problem> {
    let at = args.iter().position(|arg| arg == "-machine")?;
    let parts = split(args.get(at + 1)?);
    let wanted = value_of(&parts, "type")?;
    if can.resolve(wanted).is_some() {
        return None;
    }
    let newest = can.resolve("q35").unwrap_or("q35");
    let what = format!("{} has no machine type `{wanted}`", can.shown());
    let came = wanted.strip_prefix("pc-q35-").and_then(version);
    let next = if let Some((major, minor)) = came.filter(|came| *came > can_version(can)) {
        format!(
            "it came with QEMU {major}.{minor}: install that or a later one, or use `machine: \
             {newest}`, which is other hardware to the guest"
        )
    } else {
        let likeness = |name: &&String| strsim::damerau_levenshtein(name, wanted);
        let near = can.machines.keys().filter(|name| name.contains("q35"));
        let near = near.min_by_key(likeness).map_or(newest, String::as_str);
        format!("use `machine: {near}`, which is the nearest that it has")
    };
    Some(Problem::new(what, next))
}

fn screen(vm: &Vm, can: &Capabilities) -> Vec<Problem> {
    let mut found = Vec::new();
    let lacks = |what: &str, name: &str| {
        Problem::new(format!("{} here has no {what}", can.shown()), remedy(can, name))
    };
    if matches!(vm.display, Display::Spice(_)) && !can.types.contains("chardev-spicevmc") {
        found.push(lacks("SPICE", "chardev-spicevmc"));
    }
    let sound = match vm.sound {
        Sound::Off | Sound::Silent => None,
        Sound::Spice => Some("spice"),
        Sound::Alsa => Some("alsa"),
        Sound::Pulse => Some("pa"),
        Sound::Pipewire => Some("pipewire"),
    };
    if let Some(sound) = sound.filter(|sound| !can.audio.contains(*sound)) {
        found.push(lacks(&format!("sound by `{sound}`"), sound));
    }
    found
}

/// A device or object: whether its type is there and has these properties.
fn typed(value: &OsString, known: &[&str], kind: &str, can: &Capabilities) -> Vec<Problem> {
    let parts = split(value);
    let Some((name, keys)) = parts.split_first() else { return Vec::new() };
    if !can.types.contains(name) {
        let what = format!("{} here has no {kind} `{name}`", can.shown());
        return vec![Problem::new(what, remedy(can, name))];
    }
    // Of those that we did not ask about nothing is known.
    let Some(has) = can.properties.get(name).filter(|_| known.contains(&name.as_str())) else {
        return Vec::new();
    };
    let key = |part: &String| part.split('=').next().unwrap_or_default().to_owned();
    // These belong to all.
    let keys = keys.iter().map(key).filter(|key| key != "id" && key != "bus");
    let lacks = keys.filter(|key| !has.contains(key));
    let what = |key: &str| format!("{} has no `{key}` of {kind} `{name}`", can.shown());
    lacks.map(|key| Problem::new(what(&key), remedy(can, &key))).collect()
}

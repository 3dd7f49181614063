//! The devices of a libvirt domain.

use roxmltree::Node;
use serde_json::json;

use super::draft::Draft;
use super::libvirt::{attr, child, elements, lost, name, note, text_of};
use super::words::{size, take_in, toggled};
use crate::base::PciAddress;

/// What is in `<devices>`.
pub fn read(devices: Node<'_, '_>, draft: &mut Draft) {
    let (mut networks, mut slots) = (0, Vec::new());
    draft.set("network", "none");
    for node in elements(devices) {
        match name(node) {
            "emulator" => {
                if !matches!(text_of(node).as_str(), "" | "/usr/bin/qemu-system-x86_64") {
                    lost(
                        node,
                        draft,
                        "QEMU is /usr/bin/qemu-system-x86_64; write `qemu` for another",
                    );
                }
            }
            "disk" => disk(node, draft),
            "interface" => {
                networks += 1;
                if networks == 1 {
                    interface(node, draft);
                } else {
                    lost(node, draft, "a guest has one network card");
                }
            }
            "hostdev" => hostdev(node, &mut slots, draft),
            "input" if attr(node, "type") == "evdev" => {
                if let Some(source) = child(node, "source") {
                    draft.evdev(attr(source, "dev"));
                    if let Some(toggle) = source.attribute("grabToggle") {
                        toggled(toggle, draft);
                    }
                }
            }
            "graphics" => graphics(node, draft),
            "sound" => sound(devices, draft),
            "serial" | "console" => draft.set("serial", true),
            "channel" => match child(node, "target").map(|t| attr(t, "name")).unwrap_or_default() {
                "org.qemu.guest_agent.0" => draft.set("agent", true),
                "com.redhat.spice.0" => {}
                _ => lost(node, draft, "there is no key for it"),
            },
            "tpm" => tpm(node, draft),
            "shmem" if attr(node, "name") == "looking-glass" => {
                let bytes = child(node, "size").and_then(|s| size(&text_of(s), attr(s, "unit")));
                let mib = bytes.map(crate::base::Bytes::mib).unwrap_or_default();
                draft.set(
                    "looking-glass",
                    if mib == 1024 { "1G".into() } else { format!("{mib}M") },
                );
            }
            // hostd has its own of these, or they come with the others.
            "controller" | "input" | "video" | "memballoon" | "audio" | "redirdev" | "hub" => {}
            _ => lost(node, draft, "there is no key for it"),
        }
    }
}

/// An address with attributes of its own: `domain='0x0000' bus='0x01' …`.
fn address(node: Node<'_, '_>) -> Option<PciAddress> {
    let number = |key: &str| {
        let text = attr(node, key);
        let text = text.strip_prefix("0x").unwrap_or(text);
        if text.is_empty() { Some(0) } else { u32::from_str_radix(text, 16).ok() }
    };
    let (domain, bus) = (number("domain")?, number("bus")?);
    let (slot, function) = (number("slot")?, number("function")?);
    format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}").parse().ok()
}

fn boot(node: Node<'_, '_>) -> Option<u32> {
    child(node, "boot").and_then(|boot| attr(boot, "order").parse().ok())
}

fn disk(node: Node<'_, '_>, draft: &mut Draft) {
    let source = child(node, "source");
    let path =
        source.map(|s| s.attribute("file").or_else(|| s.attribute("dev")).unwrap_or_default());
    if attr(node, "type") == "nvme" {
        let at = source.and_then(|s| child(s, "address")).and_then(address);
        return match at {
            Some(at) => draft.disk(boot(node), json!({ "nvme": at })),
            None => lost(node, draft, "its address cannot be read"),
        };
    }
    let cdrom = attr(node, "device") == "cdrom";
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        let why =
            if cdrom { "the drive is empty" } else { "it is neither a file nor a block device" };
        return lost(node, draft, why);
    };
    if !matches!(attr(node, "device"), "" | "disk" | "cdrom") {
        return lost(node, draft, "only disks and CD-ROM drives are carried");
    }
    let driver = child(node, "driver");
    let format = driver.map(|d| attr(d, "type")).unwrap_or_default();
    if !matches!(format, "" | "raw" | "qcow2") {
        return lost(
            node,
            draft,
            "its format is neither raw nor qcow2: `qemu-img convert` makes it so",
        );
    }
    let target = child(node, "target").map(|t| attr(t, "bus")).unwrap_or_default();
    let bus = match (target, cdrom) {
        ("scsi", _) => "scsi",
        ("virtio", false) => "virtio",
        ("nvme", false) => "nvme",
        _ => "sata",
    };
    if target != bus && !target.is_empty() {
        let message = format!("the disk hangs on `{bus}` now, no longer on `{target}`");
        note(node, draft, "<target bus>", message);
    }
    let mut disk = json!({ "path": path, "bus": bus });
    if !cdrom || format == "qcow2" {
        disk["format"] = json!(if format == "qcow2" { "qcow2" } else { "raw" });
    }
    if cdrom {
        disk["cdrom"] = json!(true);
    } else if child(node, "readonly").is_some() {
        disk["readonly"] = json!(true);
    }
    if driver.is_some_and(|d| attr(d, "cache") == "writeback") {
        disk["cache"] = json!("writeback");
    }
    if let Some(serial) = child(node, "serial") {
        disk["serial"] = json!(text_of(serial));
    }
    draft.disk(boot(node), disk);
}

fn interface(node: Node<'_, '_>, draft: &mut Draft) {
    let source = child(node, "source");
    let from = |key: &str| source.map(|s| attr(s, key)).filter(|name| !name.is_empty());
    let target = child(node, "target").map(|t| attr(t, "dev")).unwrap_or_default();
    let mut network = match (attr(node, "type"), from("bridge")) {
        ("bridge", Some(bridge)) => json!({ "bridge": bridge }),
        ("user", _) => json!({ "kind": "user" }),
        ("ethernet", _) if !target.is_empty() => json!({ "tap": target }),
        (kind, _) => {
            let named = from("network").or_else(|| from("dev")).unwrap_or_default();
            let message = format!(
                "`{kind}` {named} has become QEMU's own network; a bridge is better: \
                 `network: {{bridge: br0}}`"
            );
            note(node, draft, "<interface>", message);
            json!({ "kind": "user" })
        }
    };
    match child(node, "model").map(|m| attr(m, "type")).unwrap_or_default() {
        "virtio" => network["model"] = json!("virtio"),
        "e1000e" => network["model"] = json!("e1000e"),
        other => {
            network["model"] = json!("e1000e");
            note(node, draft, "<interface model>", format!("`{other}` has become e1000e"));
        }
    }
    if let Some(mac) = child(node, "mac") {
        network["mac"] = json!(attr(mac, "address"));
    }
    draft.set("network", network);
}

/// The first slot is the card: who passes a device through nearly always means one.
fn hostdev(node: Node<'_, '_>, slots: &mut Vec<PciAddress>, draft: &mut Draft) {
    let source = child(node, "source");
    if attr(node, "type") == "usb" {
        let id = |key: &str| {
            let id = source.and_then(|s| child(s, key)).map(|n| attr(n, "id")).unwrap_or_default();
            u16::from_str_radix(id.strip_prefix("0x").unwrap_or(id), 16).ok()
        };
        return match (id("vendor"), id("product")) {
            (Some(vendor), Some(product)) => draft.usb(format!("{vendor:04x}:{product:04x}")),
            _ => lost(
                node,
                draft,
                "name the device by vendor and product, or by its port, under `usb`",
            ),
        };
    }
    let at = source.and_then(|s| child(s, "address")).and_then(address);
    let (Some(at), "pci") = (at, attr(node, "type")) else {
        return lost(node, draft, "only PCI and USB devices are given to a guest");
    };
    match slots.first() {
        Some(card) if card.same_slot(at) => {}
        Some(_) if slots.iter().any(|slot| slot.same_slot(at)) => {}
        Some(_) => {
            let message = format!(
                "not carried: {at} is a second device; if it is an NVMe controller, write it \
                 under `disks`: {{nvme: {at}}}"
            );
            note(node, draft, "<hostdev>", message);
        }
        None => {
            draft.gpu("card", at.with_function(0).to_string());
            let message =
                format!("{at} is taken for the graphics card, with all functions of its slot");
            note(node, draft, "<hostdev>", message);
        }
    }
    slots.push(at);
    if let Some(rom) = child(node, "rom") {
        match rom.attribute("file") {
            Some(file) if slots.len() == 1 => draft.gpu("rom", file),
            _ => lost(rom, draft, "only a card's ROM can be given"),
        }
    }
}

fn graphics(node: Node<'_, '_>, draft: &mut Draft) {
    let kind = attr(node, "type");
    if !matches!(kind, "spice" | "vnc") {
        return lost(node, draft, "hostd shows a picture with SPICE or VNC");
    }
    draft.set("display", kind);
    if node.has_attribute("passwd") || attr(node, "port").parse::<u16>().is_ok() {
        let message = "the picture is on a socket now; for an address and a password, write them \
                       under `display`";
        note(node, draft, "<graphics>", message);
    }
}

fn sound(devices: Node<'_, '_>, draft: &mut Draft) {
    let kind = child(devices, "audio").map(|a| attr(a, "type")).unwrap_or_default();
    let spice = child(devices, "graphics").is_some_and(|g| attr(g, "type") == "spice");
    let sound = match kind {
        "alsa" => "alsa",
        "pulseaudio" => "pulse",
        "pipewire" => "pipewire",
        "spice" | "" if spice => "spice",
        _ => "silent",
    };
    draft.set("sound", sound);
}

fn tpm(node: Node<'_, '_>, draft: &mut Draft) {
    let backend = child(node, "backend");
    if backend.is_none_or(|b| attr(b, "type") != "emulator" || attr(b, "version") == "1.2") {
        return lost(node, draft, "hostd has TPM 2.0 by swtpm only");
    }
    draft.set("tpm", true);
    let uuid = draft.get("uuid").and_then(|uuid| uuid.as_str()).unwrap_or("UUID");
    let path = format!("/var/lib/libvirt/swtpm/{uuid}/tpm2/tpm2-00.permall");
    let command = take_in(&path, "tpm/tpm2-00.permall");
    note(node, draft, "<tpm>", format!("its keys are in swtpm's state, {command}"));
}

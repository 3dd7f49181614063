//! The devices of a VM of Proxmox.

use serde_json::json;

use super::draft::Draft;
use super::proxmox::{Line, lost};
use super::words::{option, options};

/// The disks in their boot order.
pub fn boot_order(boot: &str) -> Vec<&str> {
    let order = options(boot).into_iter().find(|(key, _)| *key == "order");
    order.map(|(_, list)| list.split(';').take(64).collect()).unwrap_or_default()
}

/// A device; `false` for a key that is none.
pub fn read(line: Line<'_>, order: &[&str], draft: &mut Draft) -> bool {
    let (number, key, value) = line;
    let kind = key.trim_end_matches(|c: char| c.is_ascii_digit());
    match kind {
        "scsi" | "sata" | "ide" | "virtio" if kind != key => disk(line, kind, order, draft),
        "efidisk" => efidisk(line, draft),
        "tpmstate" => {
            draft.set("tpm", true);
            let message = "its keys stay behind: the volume is not the file that hostd keeps. Have \
                           BitLocker's recovery key at hand, or switch BitLocker off before";
            draft.note(number, key, message);
        }
        "net" if key == "net0" => network(line, draft),
        "net" => lost(line, "a guest has one network card", draft),
        "hostpci" => hostpci(line, draft),
        "usb" => usb(line, draft),
        "serial" => draft.set("serial", true),
        "vga" => vga(line, draft),
        "audio" => {
            let spice = option(&options(value), "driver") != Some("none");
            let shown = draft.get("display") == Some(&json!("spice"));
            draft.set("sound", if spice && shown { "spice" } else { "silent" });
        }
        _ if key.starts_with("ivshmem") => lost(line, "see `looking-glass`", draft),
        _ => return false,
    }
    true
}

/// Where a volume probably is; whether that is a guess.
fn volume(text: &str) -> (String, bool) {
    let Some((storage, volume)) = text.split_once(':').filter(|_| !text.starts_with('/')) else {
        return (text.to_owned(), false);
    };
    // As the installer makes them: /etc/pve/storage.cfg may say otherwise.
    let path = match (storage, volume.split_once('/')) {
        (_, Some(("iso", file))) => format!("/var/lib/vz/template/iso/{file}"),
        (_, Some(_)) => format!("/var/lib/vz/images/{volume}"),
        ("local-zfs", None) => format!("/dev/zvol/rpool/data/{volume}"),
        ("local-lvm", None) => format!("/dev/pve/{volume}"),
        (pool, None) => format!("/dev/zvol/{pool}/{volume}"),
    };
    (path, true)
}

fn disk(line: Line<'_>, kind: &str, order: &[&str], draft: &mut Draft) {
    let (number, key, value) = line;
    let options = options(value);
    let first = options.first().copied().unwrap_or_default();
    let source = if first.0 == "file" { first.1 } else { first.0 };
    let cdrom = option(&options, "media") == Some("cdrom");
    if matches!(source, "" | "none" | "cdrom") {
        return lost(line, "the drive is empty", draft);
    }
    let (path, guessed) = volume(source);
    if guessed {
        let message =
            format!("`{source}` is taken to be {path}; look with `pvesm path {source}` on Proxmox");
        draft.note(number, key, message);
    }
    let bus = match (kind, cdrom) {
        ("scsi", _) => "scsi",
        ("virtio", false) => "virtio",
        _ => "sata",
    };
    if kind == "ide" && !cdrom {
        draft.note(number, key, "the disk hangs on `sata` now, no longer on `ide`");
    }
    let format = option(&options, "format").unwrap_or_default();
    let ends = |ending: &str| path.to_ascii_lowercase().ends_with(ending);
    let qcow2 = ends(".qcow2") || format == "qcow2";
    if ends(".vmdk") || format == "vmdk" {
        return lost(line, "its format is vmdk: `qemu-img convert` makes it raw", draft);
    }
    let mut disk = json!({ "path": path, "bus": bus });
    if cdrom {
        disk["cdrom"] = json!(true);
    } else {
        disk["format"] = json!(if qcow2 { "qcow2" } else { "raw" });
    }
    if option(&options, "ro") == Some("1") {
        disk["readonly"] = json!(true);
    }
    if option(&options, "cache") == Some("writeback") {
        disk["cache"] = json!("writeback");
    }
    if let Some(serial) = option(&options, "serial") {
        disk["serial"] = json!(serial);
    }
    let limits = options.iter().filter(|(key, _)| {
        key.starts_with("mbps") || key.starts_with("iops") || *key == "aio" || *key == "wwn"
    });
    let limits: Vec<&str> = limits.map(|(key, _)| *key).collect();
    if !limits.is_empty() {
        draft.note(number, key, format!("not carried: {}", limits.join(", ")));
    }
    let place = order.iter().position(|one| *one == key);
    draft.disk(place.and_then(|place| u32::try_from(place).ok()), disk);
}

fn efidisk(line: Line<'_>, draft: &mut Draft) {
    let (number, key, value) = line;
    let options = options(value);
    let (path, _) = volume(options.first().map(|(first, _)| *first).unwrap_or_default());
    draft.set("secure-boot", option(&options, "pre-enrolled-keys") == Some("1"));
    if option(&options, "efitype") == Some("4m") {
        // 540672 bytes is the size of OVMF_VARS_4M.fd; the volume is larger.
        let message = format!(
            "before the first start: install -D -m 600 /dev/null \
             /var/lib/hostd/vms/NAME/OVMF_VARS.fd && dd if={path} \
             of=/var/lib/hostd/vms/NAME/OVMF_VARS.fd bs=540672 count=1 (if the volume is there: \
             `pvesm path` says where)"
        );
        draft.note(number, key, message);
    } else {
        draft.note(
            number,
            key,
            "variables of 2M firmware do not fit hostd's: the guest boots with new ones",
        );
    }
}

fn network(line: Line<'_>, draft: &mut Draft) {
    let (number, key, value) = line;
    let options = options(value);
    let models = ["virtio", "e1000e", "e1000", "rtl8139", "vmxnet3"];
    let model = options.iter().find(|(key, _)| models.contains(key) || *key == "model");
    let (model, mac) = match model {
        Some(("model", model)) => (*model, option(&options, "macaddr").unwrap_or_default()),
        Some((model, mac)) => (*model, *mac),
        None => ("virtio", ""),
    };
    let mut network = match option(&options, "bridge") {
        Some(bridge) => json!({ "bridge": bridge }),
        None => json!({ "kind": "user" }),
    };
    network["model"] = json!(if model == "virtio" { "virtio" } else { "e1000e" });
    if !matches!(model, "virtio" | "e1000e") {
        draft.note(number, key, format!("`{model}` has become e1000e"));
    }
    if !mac.is_empty() {
        network["mac"] = json!(mac);
    }
    for (option, why) in [
        ("tag", "make a bridge for the VLAN"),
        ("trunks", "make a bridge for the VLAN"),
        ("rate", "hostd has no limits for networks"),
        ("queues", "hostd chooses them"),
        ("mtu", "it is the bridge's"),
        ("link_down", "hostd's links are up"),
    ] {
        if options.iter().any(|(key, _)| *key == option) {
            draft.note(number, &format!("{key} {option}"), format!("not carried: {why}"));
        }
    }
    if option(&options, "firewall") == Some("1") {
        draft.note(number, &format!("{key} firewall"), "not carried: the rules were Proxmox's");
    }
    draft.set("network", network);
}

fn hostpci(line: Line<'_>, draft: &mut Draft) {
    let (number, key, value) = line;
    let options = options(value);
    let first = options.first().copied().unwrap_or_default();
    let host = if matches!(first.0, "host" | "mapping") { first.1 } else { first.0 };
    if first.0 == "mapping" {
        return lost(line, "it is named by a mapping; write the card's address under `gpu`", draft);
    }
    // Several devices are written with `;`; `01:00` is all functions.
    let host = host.split(';').next().unwrap_or_default();
    let address = if host.contains('.') { host.to_owned() } else { format!("{host}.0") };
    if draft.has_gpu() {
        let message = format!(
            "not carried: {address} is a second device; if it is an NVMe controller, write it \
             under `disks`: {{nvme: {address}}}"
        );
        return draft.note(number, key, message);
    }
    draft.gpu("card", address.as_str());
    let message =
        format!("{address} is taken for the graphics card, with all functions of its slot");
    draft.note(number, key, message);
    if option(&options, "x-vga") == Some("1") && draft.get("firmware") == Some(&json!("seabios")) {
        draft.gpu("x-vga", true);
    }
    if let Some(rom) = option(&options, "romfile") {
        draft.gpu("rom", format!("/usr/share/kvm/{rom}"));
    }
}

fn usb(line: Line<'_>, draft: &mut Draft) {
    let options = options(line.2);
    let first = options.first().copied().unwrap_or_default();
    match (first.0, first.1) {
        ("spice", _) | ("host", "spice") => {}
        ("mapping", _) => lost(line, "it is named by a mapping; write it under `usb`", draft),
        ("host", device) | (device, "") => draft.usb(device.replace("0x", "")),
        _ => lost(line, "write it under `usb`", draft),
    }
}

fn vga(line: Line<'_>, draft: &mut Draft) {
    let options = options(line.2);
    let first = options.first().copied().unwrap_or_default();
    let kind = if first.0 == "type" { first.1 } else { first.0 };
    match kind {
        "none" => draft.set("display", "off"),
        kind if kind.starts_with("qxl") => draft.set("display", "spice"),
        kind if kind.starts_with("serial") => draft.set("serial", true),
        _ => draft.set("display", "vnc"),
    }
}

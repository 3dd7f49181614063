//! A VM of Proxmox VE: <https://pve.proxmox.com/wiki/Manual:_qm.conf>.

use serde_json::json;

use super::draft::Draft;
use super::proxmox_devices as devices;
use super::words::{arguments, option, options, split};
use crate::base::Bytes;
use crate::config::text::clip;

/// One line: its number, its key, its value.
pub type Line<'a> = (u32, &'a str, &'a str);

/// Keys that nearly every such file has: without any of them it is no VM.
const MARKS: [&str; 8] =
    ["memory", "cores", "sockets", "scsihw", "ostype", "bios", "smbios1", "vmgenid"];

/// The VM's keys and notes; `None` for another kind of file.
pub fn read(text: &str) -> Option<Draft> {
    let mut draft = Draft::default();
    let lines = lines(text, &mut draft);
    if !lines.iter().any(|(_, key, _)| MARKS.contains(key)) {
        return None;
    }
    let get = |key: &str| lines.iter().find(|(_, k, _)| *k == key).map(|(_, _, value)| *value);
    for key in ["secure-boot", "tpm", "hyperv", "agent", "serial"] {
        draft.set(key, false);
    }
    let ostype = get("ostype").unwrap_or_default();
    // Proxmox gives Windows its enlightenments and local time unasked.
    let windows = ostype.starts_with('w');
    match ostype {
        "win11" => draft.set("profile", "windows-11"),
        "win10" => draft.set("profile", "windows-10"),
        "win7" => draft.set("profile", "windows-7"),
        "l26" | "l24" => draft.set("profile", "linux"),
        _ => {}
    }
    draft.set("hyperv", windows);
    draft.set("clock", if windows { "local" } else { "utc" });
    draft.set("firmware", if get("bios") == Some("ovmf") { "ovmf" } else { "seabios" });
    // Without a line: 512 MB, one core, the old chipset.
    draft.set("memory", "512M");
    draft.set("machine", "pc");
    draft.set("network", "none");
    let number = |key: &str| get(key).and_then(|v| v.parse::<u32>().ok()).unwrap_or(1);
    let (sockets, cores) = (number("sockets"), number("cores"));
    draft.set("topology", json!({ "sockets": sockets, "cores": cores }));
    let order = devices::boot_order(get("boot").unwrap_or_default());
    let mut words = Vec::new();
    for (line, key, value) in &lines {
        if !general((*line, key, value), &mut draft)
            && !devices::read((*line, key, value), &order, &mut draft)
        {
            if *key == "args" {
                words.extend(split(value).into_iter().map(|word| (*line, word)));
            } else {
                lost((*line, key, value), "there is no key for it", &mut draft);
            }
        }
    }
    // An order says nothing of a VM that does not start by itself.
    if get("onboot") != Some("1") && draft.get("autostart").is_some() {
        draft.set("autostart", false);
    }
    arguments(&words, &mut draft);
    chipset(&mut draft);
    Some(draft)
}

/// The VM's own lines: those before the first section, which is a snapshot or
/// a change that waits for a start.
fn lines<'a>(text: &'a str, draft: &mut Draft) -> Vec<Line<'a>> {
    let (mut out, mut inside) = (Vec::new(), false);
    for (number, line) in (1u32..).zip(text.lines()) {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            inside = true;
            let what = section.trim_end_matches(']');
            let message = if what.eq_ignore_ascii_case("pending") {
                "changes that wait for a start in Proxmox are not carried"
            } else {
                "this snapshot's settings are not carried; its data is where the disk is"
            };
            draft.note(number, &format!("[{}]", clip(what)), message);
        }
        let Some((key, value)) = line.split_once(':').filter(|_| !inside && !line.starts_with('#'))
        else {
            continue;
        };
        out.push((number, key.trim(), value.trim()));
    }
    out
}

/// Not carried.
pub fn lost((line, key, _): Line<'_>, why: &str, draft: &mut Draft) {
    draft.note(line, key, format!("not carried: {why}"));
}

/// What is no device; `false` for a key that is not known here.
fn general(line: Line<'_>, draft: &mut Draft) -> bool {
    let (number, key, value) = line;
    match key {
        "name" => draft.name = Some(value.to_owned()),
        "memory" => {
            let first = options(value).first().copied().unwrap_or_default();
            let size = if first.1.is_empty() { first.0 } else { first.1 };
            let mib = size.parse::<u64>().ok().and_then(|mib| mib.checked_mul(1 << 20));
            draft.set("memory", super::words::megabytes(Bytes(mib.unwrap_or_default())));
        }
        "hugepages" => match value {
            "1024" => draft.set("hugepages", "1G"),
            "2" | "any" => draft.set("hugepages", "2M"),
            _ => lost(line, "pages are of 2M or 1G", draft),
        },
        "cpu" => cpu(line, draft),
        "affinity" => {
            lost(line, "each processor is pinned to one, or none; write `pinning: auto`", draft);
        }
        "cpuunits" => draft.set_in("resources", "cpu-weight", value.parse::<u32>().unwrap_or(100)),
        "machine" => {
            // `pc-q35-8.1+pve0` is Debian's `pc-q35-8.1` with patches of Proxmox.
            let machine = value.split(',').next().unwrap_or_default();
            let machine = machine.strip_prefix("type=").unwrap_or(machine);
            draft.set("machine", machine.split('+').next().unwrap_or_default());
            if value.contains(',') {
                draft.note(number, key, "options of the machine are not carried");
            }
        }
        "smbios1" => smbios(line, draft),
        "localtime" => draft.set("clock", if value == "1" { "local" } else { "utc" }),
        "agent" => {
            let on = options(value);
            let first = on.first().map(|(first, _)| *first);
            draft.set("agent", first == Some("1") || option(&on, "enabled") == Some("1"));
        }
        "onboot" if value == "1" => {
            if draft.get("autostart").is_none() {
                draft.set("autostart", true);
            }
        }
        "startup" => {
            let order =
                option(&options(value), "order").and_then(|order| order.parse::<u32>().ok());
            if let (Some(order), true) = (order, value.starts_with("order")) {
                draft.set("autostart", json!({ "order": order }));
            }
            if value.contains("up=") || value.contains("down=") {
                draft.note(number, key, "delays are not carried; see `autostart` and `stop`");
            }
        }
        "balloon" if value != "0" => lost(line, "the guest has all of its memory at once", draft),
        "vcpus" => lost(line, "the guest has all processors at once", draft),
        "hookscript" => lost(line, "write its commands under `hooks`", draft),
        "kvm" if value == "0" => draft.set("accel", "tcg"),
        "sockets" | "cores" | "ostype" | "bios" | "boot" | "bootdisk" | "balloon" | "onboot"
        | "kvm" | "numa" | "tablet" | "meta" | "tags" | "protection" | "description" | "parent"
        | "lock" | "vmgenid" | "scsihw" | "hotplug" | "acpi" | "template" | "digest" => {}
        _ => return false,
    }
    true
}

fn cpu(line: Line<'_>, draft: &mut Draft) {
    let options = options(line.2);
    let first = options.first().copied().unwrap_or_default();
    let model = if first.1.is_empty() { first.0 } else { first.1 };
    match model {
        "host" => {}
        model if model.starts_with("x86-64-v") || model.starts_with("custom-") => {
            lost(line, "QEMU itself has no such model; the guest sees the host's processor", draft);
        }
        model => draft.set("cpu", model),
    }
    if option(&options, "hidden") == Some("1") {
        draft.gpu("hide-hypervisor", true);
    }
    if option(&options, "flags").is_some() {
        draft.note(line.0, "cpu flags", "not carried: hostd chooses the processor's features");
    }
}

fn smbios(line: Line<'_>, draft: &mut Draft) {
    let options = options(line.2);
    let coded = option(&options, "base64") == Some("1");
    for (key, value) in &options {
        match *key {
            "uuid" => draft.set("uuid", *value),
            "manufacturer" | "product" | "version" | "serial" | "sku" | "family" => {
                // A value ends with `=` signs that are no separators.
                let text = if coded { base64(value) } else { Some((*value).to_owned()) };
                match text {
                    Some(text) => draft.set_in("smbios", key, text),
                    None => lost(line, "a text in it cannot be read", draft),
                }
            }
            _ => {}
        }
    }
}

/// Texts of `smbios1`: base64 as in RFC 4648, section 4.
fn base64(text: &str) -> Option<String> {
    let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0u32);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, held) = (((bits << 6) | u32::from(six)) & 0xffff, held + 6);
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    String::from_utf8(out).ok()
}

/// A card and Secure Boot want the newer chipset.
fn chipset(draft: &mut Draft) {
    let old = draft.get("machine").and_then(|m| m.as_str()).is_some_and(|m| !m.contains("q35"));
    let secure = draft.get("secure-boot") == Some(&json!(true));
    if old && (draft.has_gpu() || secure) {
        draft.set("machine", "q35");
        draft.note(
            0,
            "machine",
            "it is q35 now, as a card and Secure Boot want it: Windows may ask \
                                  for its licence again",
        );
    }
}

//! What libvirt and Proxmox have in common: QEMU's own arguments, sizes, paths.

use serde_json::json;

use super::draft::Draft;
use crate::base::Bytes;

/// A command line as a shell reads it, without expanding anything.
pub fn split(text: &str) -> Vec<String> {
    let (mut out, mut word, mut any, mut quote) = (Vec::new(), String::new(), false, None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\'' | '"', None) => (quote, any) = (Some(c), true),
            (c, Some(q)) if c == q => quote = None,
            ('\\', None | Some('"')) => {
                word.extend(chars.next());
                any = true;
            }
            (c, None) if c.is_whitespace() => {
                if any {
                    out.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (c, _) => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        out.push(word);
    }
    out
}

/// `key=value,key=value` of QEMU and Proxmox; a part without `=` has no value.
pub fn options(text: &str) -> Vec<(&str, &str)> {
    text.split(',').map(|part| part.split_once('=').unwrap_or((part, ""))).collect()
}

/// The value of a key.
pub fn option<'a>(options: &[(&'a str, &'a str)], key: &str) -> Option<&'a str> {
    options.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
}

/// QEMU's own arguments: shared keyboards and Looking Glass's memory have keys
/// of their own, the rest is carried as it is.
pub fn arguments(words: &[(u32, String)], draft: &mut Draft) {
    let mut rest = words.iter().peekable();
    let mut glass = false;
    let mut carried = None;
    while let Some((line, word)) = rest.next() {
        let value = rest.peek().map(|(_, value)| value.as_str()).unwrap_or_default();
        let known = match word.as_str() {
            "-object" => object(value, draft, &mut glass),
            "-device" => glass && value.starts_with("ivshmem-plain"),
            _ => false,
        };
        if known {
            rest.next();
            continue;
        }
        carried.get_or_insert(*line);
        draft.arg(word);
    }
    if let Some(line) = carried {
        let message = "carried to `qemu-args` as they are; look through them: hostd does not";
        draft.note(line, "arguments of QEMU", message);
    }
}

fn object(value: &str, draft: &mut Draft, glass: &mut bool) -> bool {
    let options = options(value);
    let path = option(&options, "mem-path").unwrap_or_default();
    if value.starts_with("memory-backend-file") && path.ends_with("/looking-glass") {
        *glass = true;
        draft.set("looking-glass", option(&options, "size").unwrap_or_default());
        return true;
    }
    let Some(device) = option(&options, "evdev").filter(|_| value.starts_with("input-linux"))
    else {
        return false;
    };
    draft.evdev(device);
    if let Some(toggle) = option(&options, "grab-toggle") {
        toggled(toggle, draft);
    }
    true
}

/// Other keys than both control keys.
pub fn toggled(toggle: &str, draft: &mut Draft) {
    if toggle != "ctrl-ctrl" {
        draft.set("evdev", json!({ "toggle": toggle }));
    }
}

/// A size with the units of libvirt; `KiB` when it has none.
pub fn size(number: &str, unit: &str) -> Option<Bytes> {
    let number: u64 = number.trim().parse().ok()?;
    let (power, base) = match unit {
        "b" | "bytes" => (0, 1024u64),
        "KB" => (1, 1000),
        "" | "k" | "K" | "KiB" => (1, 1024),
        "MB" => (2, 1000),
        "M" | "MiB" => (2, 1024),
        "GB" => (3, 1000),
        "G" | "GiB" => (3, 1024),
        "TB" => (4, 1000),
        "T" | "TiB" => (4, 1024),
        _ => return None,
    };
    number.checked_mul(base.pow(power)).map(Bytes)
}

/// As a file has it: whole megabytes, rounded up.
pub fn megabytes(bytes: Bytes) -> String {
    let whole = bytes.0.div_ceil(1 << 20);
    if whole > 0 && whole.is_multiple_of(1024) {
        format!("{}G", whole / 1024)
    } else {
        format!("{whole}M")
    }
}

/// The command that takes a file into the VM's state folder.
pub fn take_in(from: &str, to: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let from = if from.chars().all(safe) {
        from.to_owned()
    } else {
        format!("'{}'", from.replace('\'', "'\\''"))
    };
    format!("before the first start: install -D -m 600 {from} /var/lib/hostd/vms/NAME/{to}")
}

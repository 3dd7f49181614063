//! A libvirt domain: <https://libvirt.org/formatdomain.html>.

use roxmltree::{Document, Node, ParsingOptions};
use serde_json::{Value as Json, json};

use super::draft::Draft;
use super::words::{arguments, megabytes, size, take_in};
use super::{NotImported, libvirt_devices};
use crate::config::text::{clip, printable};

/// Most nodes of a domain: real ones have some hundreds.
const MOST: u32 = 20_000;

/// The domain's keys and notes.
pub fn read(text: &str) -> Result<Draft, NotImported> {
    let options = ParsingOptions { nodes_limit: MOST, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)
        .map_err(|error| NotImported::NotXml(printable(&error.to_string())))?;
    let root = document.root_element();
    if root.tag_name().name() != "domain" {
        return Err(NotImported::NotDomain(clip(root.tag_name().name())));
    }
    let (mut draft, mut extra) = (Draft::default(), Vec::new());
    // A file says what it is; the profile's own words are said one by one.
    for key in ["secure-boot", "tpm", "hyperv", "agent", "serial"] {
        draft.set(key, false);
    }
    draft.set("firmware", "seabios");
    match attr(root, "type") {
        "kvm" => {}
        "qemu" => draft.set("accel", "tcg"),
        other => {
            note(root, &mut draft, "domain", format!("the type `{}` is not known", clip(other)));
        }
    }
    for node in elements(root) {
        match name(node) {
            "name" => draft.name = Some(text_of(node)),
            "uuid" => draft.set("uuid", text_of(node)),
            "memory" => memory(node, &mut draft),
            "vcpu" => vcpu(node, &mut draft),
            "memoryBacking" => backing(node, &mut draft),
            "cputune" => tune(node, root, &mut draft),
            "numatune" => numa(node, &mut draft),
            "os" => os(node, &mut draft),
            "sysinfo" => sysinfo(node, &mut draft),
            "features" => features(node, &mut draft),
            "cpu" => cpu(node, &mut draft),
            "clock" => match attr(node, "offset") {
                "localtime" => draft.set("clock", "local"),
                "utc" => draft.set("clock", "utc"),
                _ => lost(node, &mut draft, "write `clock: utc` or `clock: local`"),
            },
            "metadata" => metadata(node, &mut draft),
            "on_crash" if text_of(node) == "restart" => draft.set("on-crash", "restart"),
            "devices" => libvirt_devices::read(node, &mut draft),
            "commandline" => commandline(node, &mut draft, &mut extra),
            // What hostd does by itself, and what says nothing.
            "title" | "description" | "on_poweroff" | "on_reboot" | "on_crash" | "pm"
            | "currentMemory" | "resource" | "seclabel" => {}
            "iothreads" => lost(node, &mut draft, "hostd gives disks threads by itself"),
            _ => lost(node, &mut draft, "there is no key for it"),
        }
    }
    arguments(&extra, &mut draft);
    let hidden =
        find(root, &["features", "kvm", "hidden"]).is_some_and(|n| attr(n, "state") == "on");
    if hidden && draft.has_gpu() {
        draft.gpu("hide-hypervisor", true);
    }
    Ok(draft)
}

/// Not carried.
pub fn lost(node: Node<'_, '_>, draft: &mut Draft, why: &str) {
    note(node, draft, &format!("<{}>", name(node)), format!("not carried: {why}"));
}

/// Something to be told of an element. Its line is counted only where it is
/// told: a text may have thousands that are not.
pub fn note(node: Node<'_, '_>, draft: &mut Draft, what: &str, message: impl AsRef<str>) {
    let line = if draft.is_full() { 0 } else { line(node) };
    draft.note(line, what, message);
}

/// The element's name.
pub fn name<'a>(node: Node<'a, '_>) -> &'a str {
    node.tag_name().name()
}

/// An attribute, or nothing.
pub fn attr<'a>(node: Node<'a, '_>, key: &str) -> &'a str {
    node.attribute(key).unwrap_or_default()
}

/// The elements in an element.
pub fn elements<'a, 'i>(node: Node<'a, 'i>) -> impl Iterator<Item = Node<'a, 'i>> {
    node.children().filter(Node::is_element)
}

/// The first element of that name in an element.
pub fn child<'a, 'i>(node: Node<'a, 'i>, key: &str) -> Option<Node<'a, 'i>> {
    elements(node).find(|node| name(*node) == key)
}

/// The element at the end of a way.
pub fn find<'a, 'i>(node: Node<'a, 'i>, way: &[&str]) -> Option<Node<'a, 'i>> {
    way.iter().try_fold(node, |node, key| child(node, key))
}

/// The text in an element.
pub fn text_of(node: Node<'_, '_>) -> String {
    node.text().unwrap_or_default().trim().to_owned()
}

/// The line of an element.
fn line(node: Node<'_, '_>) -> u32 {
    node.document().text_pos_at(node.range().start).row
}

fn memory(node: Node<'_, '_>, draft: &mut Draft) {
    match size(&text_of(node), attr(node, "unit")) {
        Some(bytes) => draft.set("memory", megabytes(bytes)),
        None => lost(node, draft, "its size cannot be read"),
    }
}

fn vcpu(node: Node<'_, '_>, draft: &mut Draft) {
    if let Ok(count) = text_of(node).parse::<u32>() {
        draft.set("cpus", count);
    }
    if node.has_attribute("cpuset") {
        note(node, draft, "<vcpu cpuset>", "not carried: write `pinning: auto`, or exact pins");
    }
    if node.has_attribute("current") {
        note(node, draft, "<vcpu current>", "not carried: the guest has all processors at once");
    }
}

fn backing(node: Node<'_, '_>, draft: &mut Draft) {
    for part in elements(node) {
        match name(part) {
            "hugepages" => {
                let page = child(part, "page");
                let bytes = page.and_then(|page| size(attr(page, "size"), attr(page, "unit")));
                let huge = bytes.is_some_and(|bytes| bytes.0 == 1 << 30);
                draft.set("hugepages", if huge { "1G" } else { "2M" });
            }
            // hostd locks memory where a device needs it.
            "locked" | "nosharepages" | "allocation" | "source" | "access" => {}
            _ => lost(part, draft, "there is no key for it"),
        }
    }
}

fn tune(node: Node<'_, '_>, root: Node<'_, '_>, draft: &mut Draft) {
    let count = child(root, "vcpu").and_then(|n| text_of(n).parse::<u32>().ok()).unwrap_or(0);
    let (mut pins, mut sets) = (std::collections::BTreeMap::new(), false);
    let (mut emulator, mut iothreads) = (None, None);
    for part in elements(node) {
        let set = attr(part, "cpuset");
        match name(part) {
            "vcpupin" => match (attr(part, "vcpu").parse::<u32>(), set.parse::<u32>()) {
                (Ok(vcpu), Ok(cpu)) => {
                    pins.insert(vcpu, cpu);
                }
                _ => sets = true,
            },
            "emulatorpin" => emulator = Some(set),
            "iothreadpin" => iothreads = Some(set),
            _ => lost(part, draft, "there is no key for it"),
        }
    }
    let whole = !pins.is_empty() && pins.keys().copied().eq(0..count);
    if whole && !sets {
        let vcpus: Vec<u32> = pins.into_values().collect();
        draft.set("pinning", json!({ "vcpus": vcpus }));
        for (key, set) in [("emulator", emulator), ("iothreads", iothreads)] {
            if let Some(set) = set {
                draft.set_in("pinning", key, set);
            }
        }
    } else if sets || !pins.is_empty() {
        let why = "each virtual processor is pinned to one of the host's, or none is; write \
                   `pinning: auto`";
        lost(node, draft, why);
    }
}

fn numa(node: Node<'_, '_>, draft: &mut Draft) {
    match child(node, "memory").and_then(|n| attr(n, "nodeset").parse::<u32>().ok()) {
        Some(set) => draft.set("numa-node", set),
        None => lost(node, draft, "hostd takes memory of one node, or of any"),
    }
}

fn os(node: Node<'_, '_>, draft: &mut Draft) {
    let firmware = child(node, "firmware");
    let feature = |key: &str| {
        let features = firmware.into_iter().flat_map(elements);
        let mut named = features.filter(|f| attr(*f, "name") == key);
        named.next().map(|f| attr(f, "enabled") == "yes")
    };
    let mut efi = attr(node, "firmware") == "efi";
    let mut secure = feature("secure-boot").unwrap_or(false);
    let (mut code, mut vars) = (None, None);
    for part in elements(node) {
        match name(part) {
            "type" => {
                let (arch, machine) = (attr(part, "arch"), attr(part, "machine"));
                if !matches!(arch, "" | "x86_64") {
                    note(part, draft, "<type arch>", format!("{} is not x86_64", clip(arch)));
                }
                if !machine.is_empty() {
                    draft.set("machine", machine);
                }
            }
            "loader" => {
                efi |= attr(part, "type") == "pflash";
                secure |= attr(part, "secure") == "yes";
                code = Some(text_of(part)).filter(|_| attr(part, "type") == "pflash");
            }
            "nvram" => {
                vars = Some(attr(part, "template").to_owned()).filter(|t| !t.is_empty());
                let path = text_of(part);
                if !path.is_empty() {
                    note(part, draft, "<nvram>", take_in(&path, "OVMF_VARS.fd"));
                }
            }
            // Which disks are first is taken from their order.
            "bios" | "bootmenu" | "smbios" | "firmware" | "boot" => {}
            _ => lost(part, draft, "there is no key for it"),
        }
    }
    if !efi {
        return;
    }
    // Debian's file with Microsoft's keys has this in its name, whatever libvirt says.
    secure |= code.as_ref().is_some_and(|c| c.contains(".ms.") || c.contains("secboot"));
    draft.set("secure-boot", secure);
    let own = code.filter(|c| !c.is_empty() && !c.starts_with("/usr/share/OVMF/OVMF_CODE_4M"));
    let Some(code) = own else { return draft.set("firmware", "ovmf") };
    let vars = vars.unwrap_or_else(|| code.replace("CODE", "VARS").replace("secboot", "ms"));
    draft.set("firmware", json!({ "kind": "ovmf", "code": code, "vars": vars }));
    let message = "firmware of your own; Debian's is `firmware: ovmf`, but takes only variables of \
                   the same size";
    note(node, draft, "<loader>", message);
}

fn sysinfo(node: Node<'_, '_>, draft: &mut Draft) {
    for part in elements(node) {
        let system = name(part) == "system";
        for entry in elements(part) {
            let key = attr(entry, "name");
            match key {
                "manufacturer" | "product" | "version" | "serial" | "sku" | "family" if system => {
                    draft.set_in("smbios", key, text_of(entry));
                }
                "uuid" if system => {}
                _ => {
                    let what = format!("<{}> {key}", name(part));
                    note(entry, draft, &what, "not carried: hostd says only what is of the system");
                }
            }
        }
    }
}

fn features(node: Node<'_, '_>, draft: &mut Draft) {
    for part in elements(node) {
        match name(part) {
            "hyperv" => {
                draft.set("hyperv", true);
                if child(part, "vendor_id").is_some() {
                    let why = "hostd has its own set of enlightenments";
                    note(part, draft, "<hyperv> vendor_id", format!("not carried: {why}"));
                }
            }
            "acpi" | "apic" | "pae" | "smm" | "vmport" | "kvm" | "ioapic" => {}
            _ => lost(part, draft, "there is no key for it"),
        }
    }
}

fn cpu(node: Node<'_, '_>, draft: &mut Draft) {
    match attr(node, "mode") {
        "" | "host-passthrough" | "maximum" => {}
        "host-model" => lost(node, draft, "the guest sees the host's processor (`cpu: host`)"),
        _ => {
            if let Some(model) = child(node, "model") {
                draft.set("cpu", text_of(model));
            }
        }
    }
    for part in elements(node) {
        match name(part) {
            "topology" => {
                let number = |key: &str| attr(part, key).parse::<u32>().unwrap_or(1);
                let keys = ["sockets", "dies", "cores", "threads"];
                let all: serde_json::Map<String, Json> =
                    keys.iter().map(|key| ((*key).to_owned(), json!(number(key)))).collect();
                draft.set("topology", Json::Object(all));
            }
            "feature" => {
                let what = format!("<feature> {}", attr(part, "name"));
                note(part, draft, &what, "not carried: hostd chooses the processor's features");
            }
            "model" | "cache" | "maxphysaddr" => {}
            _ => lost(part, draft, "there is no key for it"),
        }
    }
}

/// What virt-install notes of the guest's system.
fn metadata(node: Node<'_, '_>, draft: &mut Draft) {
    let os = node.descendants().find(|n| n.is_element() && name(*n) == "os");
    let id = os.map(|os| attr(os, "id")).unwrap_or_default();
    let profile = match id {
        id if id.contains("microsoft.com/win/11") => "windows-11",
        id if id.contains("microsoft.com/win/10") => "windows-10",
        id if id.contains("microsoft.com/win/7") => "windows-7",
        "" => return,
        id if id.contains("microsoft.com") => return,
        _ => "linux",
    };
    draft.set("profile", profile);
}

fn commandline(node: Node<'_, '_>, draft: &mut Draft, extra: &mut Vec<(u32, String)>) {
    for part in elements(node) {
        match name(part) {
            "arg" => {
                // All are told of at the first.
                let at = extra.first().map_or_else(|| line(part), |(line, _)| *line);
                extra.push((at, attr(part, "value").to_owned()));
            }
            _ => lost(part, draft, "QEMU's environment is hostd's"),
        }
    }
}

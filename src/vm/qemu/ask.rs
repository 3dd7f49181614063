//! The conversation with a QEMU that has no machine, and what it comes to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::Capabilities;
use crate::host::run::RunError;
use crate::host::sys::SysError;
use crate::host::{Command, Host};

/// How long QEMU may take, which has no machine to make.
const DEADLINE: Duration = Duration::from_secs(10);
/// More than QEMU says by far (7.2: 0.1 MiB).
const LIMIT: usize = 8 << 20;
/// The most names of one kind, and their length.
const NAMES: usize = 8192;
const LETTERS: usize = 128;

/// What hostd writes after `-device`.
pub const DEVICES: &[&str] = &[
    "VGA",
    "e1000e",
    "hda-duplex",
    "ich9-intel-hda",
    "ide-cd",
    "ide-hd",
    "isa-debugcon",
    "isa-serial",
    "ivshmem-plain",
    "nvme",
    "pcie-root-port",
    "qemu-xhci",
    "qxl-vga",
    "scsi-cd",
    "scsi-hd",
    "tpm-crb",
    "usb-host",
    "usb-tablet",
    "vfio-pci",
    "virtio-blk-pci",
    "virtio-keyboard-pci",
    "virtio-mouse-pci",
    "virtio-net-pci",
    "virtio-scsi-pci",
    "virtio-serial-pci",
    "virtserialport",
];

/// What hostd writes after `-object`.
pub const OBJECTS: &[&str] = &[
    "input-linux",
    "iothread",
    "memory-backend-file",
    "memory-backend-memfd",
    "memory-backend-ram",
    "secret",
];

/// Why it is not known what a QEMU can do.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// There is no such program.
    #[error("QEMU is not there: {} does not exist", .0.display())]
    Missing(PathBuf),
    /// It cannot be looked at.
    #[error(transparent)]
    Look(#[from] SysError),
    /// It cannot be run, or does not end.
    #[error(transparent)]
    Run(#[from] RunError),
    /// It says something else.
    #[error("{} does not answer as QEMU does: {why}", program.display())]
    Answer {
        /// The program.
        program: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// Everything that is asked, in one go; the answers come in the same order.
fn questions() -> String {
    let plain = |name: &str| json!({ "execute": name });
    let of = |command: &str, id: &str, name: &str| {
        let arguments = json!({ "typename": name });
        json!({ "execute": command, "id": format!("{id} {name}"), "arguments": arguments })
    };
    let named = |name: &str| json!({ "execute": name, "id": name });
    let types = json!({
        "execute": "qom-list-types", "id": "qom-list-types", "arguments": { "abstract": false }
    });
    let mut all = vec![plain("qmp_capabilities"), named("query-machines"), types];
    all.extend(DEVICES.iter().map(|name| of("device-list-properties", "has", name)));
    all.extend(OBJECTS.iter().map(|name| of("qom-list-properties", "has", name)));
    all.push(plain("quit"));
    let lines: Vec<String> = all.iter().map(ToString::to_string).collect();
    lines.join("\n") + "\n"
}

/// Asks the program.
pub(super) async fn ask(host: &Host, program: &Path) -> Result<Capabilities, AskError> {
    let args = ["-machine", "none", "-nodefaults", "-no-user-config", "-display", "none"];
    let mut command = Command::new(program, args.iter().copied().chain(["-qmp", "stdio"]));
    command.deadline = DEADLINE;
    command.limit = LIMIT;
    command.stdin = questions().into_bytes();
    let said = host.runner.run(command.clone()).await?.success(&command)?;
    let wrong = |why| AskError::Answer { program: program.to_owned(), why };
    let mut can = parse(&said).map_err(wrong)?;
    let mut command = Command::new(program, ["-audiodev", "help"]);
    command.deadline = DEADLINE;
    command.limit = LIMIT;
    let said = host.runner.run(command.clone()).await?.success(&command)?;
    can.audio = drivers(&String::from_utf8_lossy(&said));
    Ok(can)
}

/// The names of drivers, one a line, under a line that ends with a colon.
pub(super) fn drivers(text: &str) -> BTreeSet<String> {
    let names = text.lines().skip_while(|line| !line.ends_with(':')).skip(1);
    names.filter_map(|line| name(line.trim())).take(NAMES).collect()
}

/// A name as QEMU's are.
fn name(text: &str) -> Option<String> {
    let plain = |b: u8| b.is_ascii_graphic();
    let good = !text.is_empty() && text.len() <= LETTERS && text.bytes().all(plain);
    good.then(|| text.to_owned())
}

fn names(list: &Value) -> impl Iterator<Item = String> + '_ {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(|item| name(item["name"].as_str()?)).take(NAMES)
}

/// What QEMU's answers come to. A type that it does not know has no properties;
/// without a version, machines or types there is nothing to go by.
pub(super) fn parse(said: &[u8]) -> Result<Capabilities, String> {
    let mut can = Capabilities::default();
    let mut greeted = false;
    for line in said.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if let Some(version) = line.get("QMP").map(|greeting| &greeting["version"]) {
            let part =
                |key: &str| version["qemu"][key].as_u64().and_then(|n| u32::try_from(n).ok());
            let (major, minor, micro) = (part("major"), part("minor"), part("micro"));
            let version_of = major.zip(minor).zip(micro).ok_or("no version")?;
            can.version = (version_of.0.0, version_of.0.1, version_of.1);
            let package = version["package"].as_str().unwrap_or_default();
            can.package =
                package.chars().filter(|c| !c.is_control()).take(LETTERS).collect::<String>();
            greeted = true;
            continue;
        }
        let Some(id) = line["id"].as_str() else { continue };
        // A type that is not there is answered by an error.
        let Some(answer) = line.get("return") else { continue };
        match id.split_once(' ') {
            None if id == "query-machines" => can.machines = machines(answer),
            None => can.types = names(answer).collect(),
            Some((_, of)) => {
                can.properties.insert(of.to_owned(), names(answer).collect());
            }
        }
    }
    if !greeted {
        return Err("it does not greet".to_owned());
    }
    if can.machines.is_empty() || can.types.is_empty() {
        return Err("it names no machines or devices".to_owned());
    }
    Ok(can)
}

fn machines(list: &Value) -> BTreeMap<String, Option<String>> {
    let items = list.as_array().into_iter().flatten().take(NAMES);
    let machine =
        |item: &Value| Some((name(item["name"].as_str()?)?, item["alias"].as_str().and_then(name)));
    items.filter_map(machine).collect()
}

//! QMP's lines as values. Everything that comes from a peer is hostile: what
//! is not understood is an error or is kept as data, never a panic.

use serde::Deserialize;
use serde_json::{Map, Value, json};

/// The longest line that is read. QEMU's longest honest answers
/// (`query-qmp-schema`) are a few hundred KiB.
pub const LINE_LIMIT: usize = 1 << 20;

/// More processors than any machine has.
const CPUS: usize = 4096;

/// One line from the peer.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The first one.
    Greeting(Greeting),
    /// A command was carried out.
    Return {
        /// The command's number, if it has one of ours.
        id: Option<u64>,
        /// What it returns.
        value: Value,
    },
    /// A command was refused.
    Error {
        /// The command's number, if it has one of ours.
        id: Option<u64>,
        /// QEMU's class: `GenericError`, `CommandNotFound`, …
        class: String,
        /// In QEMU's words.
        desc: String,
    },
    /// Something has happened.
    Event(Event),
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// Major, minor, micro.
    pub version: (u64, u64, u64),
    /// The distribution's name for it.
    pub package: String,
}

/// What can happen. Names as in QEMU's documentation.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The machine is switched off; QEMU ends soon.
    Shutdown(Shutdown),
    /// The power button was pressed.
    Powerdown,
    /// The machine was reset.
    Reset {
        /// By the guest itself.
        guest: bool,
    },
    /// The processors were halted.
    Stop,
    /// The processors run again.
    Resume,
    /// The guest sleeps.
    Suspend,
    /// The guest woke.
    Wakeup,
    /// The guest's kernel says that it has panicked.
    GuestPanicked,
    /// A disk of the host failed under the guest.
    BlockIoError {
        /// Which of the guest's disks.
        device: String,
        /// Whether there was no space left.
        nospace: bool,
        /// Whether the guest was halted because of it.
        stopped: bool,
        /// In QEMU's words.
        reason: String,
    },
    /// A device that was to go is gone; QEMU's name of it, if it has one.
    DeviceDeleted(String),
    /// The guest did not let a device go.
    UnplugRefused(String),
    /// A program in the guest has opened or closed a channel.
    Channel {
        /// QEMU's name of its guest end.
        id: String,
        /// Whether it is open now.
        open: bool,
    },
    /// Any other, kept.
    Other {
        /// Its name.
        name: String,
        /// Its data.
        data: Map<String, Value>,
    },
}

/// Why the machine was switched off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shutdown {
    /// By the guest itself.
    pub guest: bool,
    /// `guest-shutdown`, `host-qmp-quit`, `host-signal`, …
    pub reason: String,
}

/// A line that is not QMP.
#[derive(Debug, thiserror::Error)]
pub enum BadLine {
    /// Not even JSON.
    #[error("not JSON")]
    Json(#[source] serde_json::Error),
    /// An object that is none of QMP's four kinds.
    #[error("an object that is neither greeting, return, error nor event")]
    Kind,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "QMP")]
    qmp: Option<Value>,
    event: Option<String>,
    #[serde(default)]
    data: Map<String, Value>,
    #[serde(rename = "return", default, deserialize_with = "present")]
    value: Option<Value>,
    error: Option<RawError>,
    id: Option<Value>,
}

/// Tells `"return": null` from no `return` at all.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

#[derive(Deserialize)]
struct RawError {
    #[serde(default)]
    class: String,
    #[serde(default)]
    desc: String,
}

/// Reads one line.
pub fn parse(line: &[u8]) -> Result<Message, BadLine> {
    let raw: Raw = serde_json::from_slice(line).map_err(BadLine::Json)?;
    let id = raw.id.as_ref().and_then(Value::as_u64);
    if let Some(name) = raw.event {
        Ok(Message::Event(event(&name, raw.data)))
    } else if let Some(error) = raw.error {
        Ok(Message::Error { id, class: short(&error.class), desc: short(&error.desc) })
    } else if let Some(value) = raw.value {
        Ok(Message::Return { id, value })
    } else if let Some(greeting) = raw.qmp {
        Ok(Message::Greeting(read_greeting(&greeting)))
    } else {
        Err(BadLine::Kind)
    }
}

fn read_greeting(value: &Value) -> Greeting {
    let qemu = |part| value["version"]["qemu"][part].as_u64().unwrap_or(0);
    let package = value["version"]["package"].as_str().unwrap_or("");
    Greeting { version: (qemu("major"), qemu("minor"), qemu("micro")), package: short(package) }
}

fn event(name: &str, data: Map<String, Value>) -> Event {
    let flag = |key: &str| data.get(key).and_then(Value::as_bool).unwrap_or(false);
    let text = |key: &str| short(data.get(key).and_then(Value::as_str).unwrap_or(""));
    match name {
        "SHUTDOWN" => Event::Shutdown(Shutdown { guest: flag("guest"), reason: text("reason") }),
        "POWERDOWN" => Event::Powerdown,
        "RESET" => Event::Reset { guest: flag("guest") },
        "STOP" => Event::Stop,
        "RESUME" => Event::Resume,
        "SUSPEND" | "SUSPEND_DISK" => Event::Suspend,
        "WAKEUP" => Event::Wakeup,
        "GUEST_PANICKED" => Event::GuestPanicked,
        "BLOCK_IO_ERROR" => Event::BlockIoError {
            // What was made by `-blockdev` has no other name than its node's.
            device: [text("device"), text("node-name")]
                .into_iter()
                .find(|name| !name.is_empty())
                .unwrap_or_default(),
            nospace: flag("nospace"),
            stopped: text("action") == "stop",
            reason: text("reason"),
        },
        "DEVICE_DELETED" => Event::DeviceDeleted(text("device")),
        "DEVICE_UNPLUG_GUEST_ERROR" => Event::UnplugRefused(text("device")),
        "VSERPORT_CHANGE" => Event::Channel { id: text("id"), open: flag("open") },
        _ => Event::Other { name: short(name), data },
    }
}

/// Words of a peer that end in a reason or a log.
fn short(text: &str) -> String {
    text.chars().take(400).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What hostd says to QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Ends the negotiation.
    Capabilities,
    /// Whether the guest runs.
    QueryStatus,
    /// The names of character devices, and so the start token.
    QueryChardev,
    /// The threads of the virtual processors.
    QueryCpus,
    /// The threads that do the disks' work.
    QueryIothreads,
    /// Let the guest run.
    Cont,
    /// Halt the guest's processors.
    Stop,
    /// Press the reset button.
    SystemReset,
    /// Wake a guest that sleeps.
    SystemWakeup,
    /// Press the power button.
    SystemPowerdown,
    /// End QEMU.
    Quit,
    /// Plug a device in.
    DeviceAdd {
        /// Its kind.
        driver: &'static str,
        /// The name that it gets.
        id: String,
        /// The bus it goes on.
        bus: &'static str,
        /// Its other properties, an object.
        options: Value,
    },
    /// Pull a device out.
    DeviceDel {
        /// Its name.
        id: String,
    },
    /// What is below a place in QEMU's tree of objects.
    QomList {
        /// The place.
        path: String,
    },
    /// A property of an object.
    QomGet {
        /// The object.
        path: String,
        /// The property.
        property: &'static str,
    },
    /// The guest's disks and what is in its drives.
    QueryBlock,
    /// What the guest's disks have done.
    QueryBlockstats,
    /// Put another medium into a drive.
    ChangeMedium {
        /// The guest's device.
        device: String,
        /// A raw image.
        file: String,
        /// Whether the guest holds the tray closed or not.
        force: bool,
    },
    /// Take the medium out of a drive.
    Eject {
        /// The guest's device.
        device: String,
        /// Whether the guest holds the tray closed or not.
        force: bool,
    },
    /// Make a snapshot inside each of these disks, of all at one moment: all
    /// of them or none.
    SnapshotDisks {
        /// QEMU's names of the disks.
        nodes: Vec<String>,
        /// The name that the snapshots get.
        name: String,
    },
    /// Remove a snapshot inside a disk.
    DeleteSnapshot {
        /// QEMU's name of the disk.
        node: String,
        /// The snapshot's name.
        name: String,
    },
    /// Write the guest's picture into a file, as PNG.
    Screendump {
        /// The file.
        file: String,
    },
    /// Press keys together.
    SendKey {
        /// By QEMU's names.
        keys: Vec<&'static str>,
        /// How long, in milliseconds.
        hold: u32,
    },
}

impl Command {
    /// QEMU's name for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Capabilities => "qmp_capabilities",
            Self::QueryStatus => "query-status",
            Self::QueryChardev => "query-chardev",
            Self::QueryCpus => "query-cpus-fast",
            Self::QueryIothreads => "query-iothreads",
            Self::Cont => "cont",
            Self::Stop => "stop",
            Self::SystemReset => "system_reset",
            Self::SystemWakeup => "system_wakeup",
            Self::SystemPowerdown => "system_powerdown",
            Self::Quit => "quit",
            Self::DeviceAdd { .. } => "device_add",
            Self::DeviceDel { .. } => "device_del",
            Self::QomList { .. } => "qom-list",
            Self::QomGet { .. } => "qom-get",
            Self::QueryBlock => "query-block",
            Self::QueryBlockstats => "query-blockstats",
            Self::ChangeMedium { .. } => "blockdev-change-medium",
            Self::Eject { .. } => "eject",
            Self::SnapshotDisks { .. } => "transaction",
            Self::DeleteSnapshot { .. } => "blockdev-snapshot-delete-internal-sync",
            Self::Screendump { .. } => "screendump",
            Self::SendKey { .. } => "send-key",
        }
    }

    fn arguments(&self) -> Option<Value> {
        Some(match self {
            Self::Capabilities
            | Self::QueryStatus
            | Self::QueryChardev
            | Self::QueryCpus
            | Self::QueryIothreads
            | Self::Cont
            | Self::Stop
            | Self::SystemReset
            | Self::SystemWakeup
            | Self::SystemPowerdown
            | Self::Quit
            | Self::QueryBlock
            | Self::QueryBlockstats => return None,
            Self::DeviceAdd { driver, id, bus, options } => {
                let mut all = options.as_object().cloned().unwrap_or_default();
                let named = [("driver", *driver), ("id", id), ("bus", bus)];
                all.extend(named.map(|(key, value)| (key.to_owned(), Value::from(value))));
                Value::Object(all)
            }
            Self::DeviceDel { id } => json!({ "id": id }),
            Self::QomList { path } => json!({ "path": path }),
            Self::QomGet { path, property } => json!({ "path": path, "property": property }),
            // The format is not left to be guessed: a guest could have written
            // one that names other files.
            Self::ChangeMedium { device, file, force } => json!({
                "id": device, "filename": file, "format": "raw",
                "read-only-mode": "read-only", "force": force,
            }),
            Self::Eject { device, force } => json!({ "id": device, "force": force }),
            Self::SnapshotDisks { nodes, name } => {
                let action = |node| {
                    let data = json!({ "device": node, "name": name });
                    json!({ "type": "blockdev-snapshot-internal-sync", "data": data })
                };
                json!({ "actions": nodes.iter().map(action).collect::<Vec<_>>() })
            }
            Self::DeleteSnapshot { node, name } => json!({ "device": node, "name": name }),
            Self::Screendump { file } => json!({ "filename": file, "format": "png" }),
            Self::SendKey { keys, hold } => {
                let key = |key: &&str| json!({ "type": "qcode", "data": key });
                json!({ "keys": keys.iter().map(key).collect::<Vec<_>>(), "hold-time": hold })
            }
        })
    }

    /// As a line.
    pub fn line(&self, id: u64) -> Vec<u8> {
        let mut line = json!({ "execute": self.name(), "id": id });
        if let Some(arguments) = self.arguments() {
            line["arguments"] = arguments;
        }
        let mut line = line.to_string().into_bytes();
        line.push(b'\n');
        line
    }
}

/// What `query-status` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunState {
    /// The guest runs.
    Running,
    /// Not yet let run.
    Prelaunch,
    /// Halted by request.
    Paused,
    /// Halted because a disk of the host failed.
    IoError,
    /// The guest sleeps.
    Suspended,
    /// The guest's kernel has panicked.
    GuestPanicked,
    /// QEMU has met a state of the processor that it cannot go on from.
    InternalError,
    /// The machine is switched off; QEMU is about to end.
    Shutdown,
    /// Any other; the guest does not run.
    Other(String),
}

/// Reads the answer to `query-status`; `None` when it is not one.
pub fn run_state(value: &Value) -> Option<RunState> {
    Some(match value.get("status")?.as_str()? {
        "running" => RunState::Running,
        "prelaunch" | "preconfig" => RunState::Prelaunch,
        "paused" => RunState::Paused,
        "io-error" => RunState::IoError,
        "suspended" => RunState::Suspended,
        "guest-panicked" => RunState::GuestPanicked,
        "internal-error" => RunState::InternalError,
        "shutdown" => RunState::Shutdown,
        other => RunState::Other(short(other)),
    })
}

/// Whether the answer to `query-chardev` names this device.
pub fn has_chardev(value: &Value, id: &str) -> bool {
    let label = |device: &Value| device.get("label").and_then(Value::as_str) == Some(id);
    value.as_array().is_some_and(|devices| devices.iter().any(label))
}

/// Index and thread of each processor that `query-cpus-fast` names.
pub fn cpu_threads(value: &Value) -> Vec<(u32, u32)> {
    let number = |one: &Value, key: &str| u32::try_from(one.get(key)?.as_u64()?).ok();
    let thread = |one: &Value| Some((number(one, "cpu-index")?, number(one, "thread-id")?));
    value.as_array().into_iter().flatten().filter_map(thread).take(CPUS).collect()
}

/// The threads that `query-iothreads` names.
pub fn io_threads(value: &Value) -> Vec<u32> {
    let thread = |one: &Value| u32::try_from(one.get("thread-id")?.as_u64()?).ok();
    value.as_array().into_iter().flatten().filter_map(thread).take(CPUS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Message {
        parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn reads_what_qemu_7_2_said() {
        let greeting = read(
            r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2+dfsg-7+deb12u18+b3"}, "capabilities": ["oob"]}}"#,
        );
        let package = "Debian 1:7.2+dfsg-7+deb12u18+b3".to_owned();
        assert_eq!(greeting, Message::Greeting(Greeting { version: (7, 2, 22), package }));
        let value = json!({"status": "prelaunch", "singlestep": false, "running": false});
        assert_eq!(run_state(&value), Some(RunState::Prelaunch));
        assert_eq!(
            read(
                r#"{"return": {"status": "prelaunch", "singlestep": false, "running": false}, "id": 2}"#
            ),
            Message::Return { id: Some(2), value }
        );
        assert_eq!(
            read(
                r#"{"timestamp": {"seconds": 1795375398, "microseconds": 644007}, "event": "SHUTDOWN", "data": {"guest": false, "reason": "host-qmp-quit"}}"#
            ),
            Message::Event(Event::Shutdown(Shutdown {
                guest: false,
                reason: "host-qmp-quit".into()
            }))
        );
        assert_eq!(
            read(r#"{"id": 9, "error": {"class": "CommandNotFound", "desc": "no"}}"#),
            Message::Error { id: Some(9), class: "CommandNotFound".into(), desc: "no".into() }
        );
        // Of a disk made by `-blockdev`.
        assert_eq!(
            read(
                r#"{"event": "BLOCK_IO_ERROR", "data": {"device": "", "nospace": true, "node-name": "disk0", "reason": "No space left on device", "operation": "write", "action": "stop"}}"#
            ),
            Message::Event(Event::BlockIoError {
                device: "disk0".into(),
                nospace: true,
                stopped: true,
                reason: "No space left on device".into(),
            })
        );
        let label = json!([{"filename": "null", "label": "start-abc"}]);
        assert!(has_chardev(&label, "start-abc") && !has_chardev(&label, "start-ab"));
    }

    #[test]
    fn keeps_what_it_does_not_know() {
        let data = json!({"x": 1}).as_object().unwrap().clone();
        assert_eq!(
            read(r#"{"event": "NEW_THING", "data": {"x": 1}}"#),
            Message::Event(Event::Other { name: "NEW_THING".into(), data })
        );
        let state = json!({"status": "colo"});
        assert_eq!(run_state(&state), Some(RunState::Other("colo".into())));
        assert_eq!(read(r#"{"return": null}"#), Message::Return { id: None, value: Value::Null });
    }

    #[test]
    fn refuses_what_is_not_qmp() {
        for text in ["", "hello", "[]", "{}", "1", r#"{"event": 1}"#, r#"{"error": 1}"#] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        let Message::Error { desc, .. } = read(r#"{"error": {"desc": "a\u001b[31m\nb"}}"#) else {
            panic!("an error")
        };
        assert_eq!(desc, "a [31m b");
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn never_panics_on_json(key in "QMP|event|return|error|data|id", text in ".{0,20}", n: i64) {
            for value in [json!(text), json!(n), json!([n]), json!({ key.clone(): text })] {
                let _ = parse(json!({ key.clone(): value, "event": text }).to_string().as_bytes());
                let _ = parse(json!({ key.clone(): value }).to_string().as_bytes());
                let _ = (run_state(&value), has_chardev(&value, "x"));
            }
        }
    }
}

//! The guest agent's lines as values.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::base::Timestamp;

/// The longest line that is read: `guest-network-get-interfaces` of a guest
/// with hundreds of containers is tens of KiB.
pub const LINE_LIMIT: usize = 256 << 10;

/// The byte that no JSON holds: before it is from before.
const DELIMITER: u8 = 0xff;

/// What hostd says to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Are you there?
    Ping,
    /// Version and commands.
    Info,
    /// Go down.
    Shutdown(Power),
    /// Make the file systems stand still.
    Freeze,
    /// Let them go on.
    Thaw,
    /// Whether they stand still.
    FreezeStatus,
    /// Set the clock: to this, or to what the hardware clock shows.
    SetTime(Option<Timestamp>),
    /// The network.
    Interfaces,
    /// The operating system.
    OsInfo,
    /// The guest's name for itself.
    HostName,
    /// Memory to the disk, and off.
    SuspendDisk,
    /// Sleep.
    SuspendRam,
}

/// How a guest goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// And switches off.
    Down,
    /// And stays halted.
    Halt,
    /// And comes up again.
    Reboot,
}

impl Command {
    /// The agent's name for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ping => "guest-ping",
            Self::Info => "guest-info",
            Self::Shutdown(_) => "guest-shutdown",
            Self::Freeze => "guest-fsfreeze-freeze",
            Self::Thaw => "guest-fsfreeze-thaw",
            Self::FreezeStatus => "guest-fsfreeze-status",
            Self::SetTime(_) => "guest-set-time",
            Self::Interfaces => "guest-network-get-interfaces",
            Self::OsInfo => "guest-get-osinfo",
            Self::HostName => "guest-get-host-name",
            Self::SuspendDisk => "guest-suspend-disk",
            Self::SuspendRam => "guest-suspend-ram",
        }
    }

    /// As a line.
    pub fn line(&self) -> Vec<u8> {
        let arguments = match self {
            Self::Shutdown(Power::Down) => json!({ "mode": "powerdown" }),
            Self::Shutdown(Power::Halt) => json!({ "mode": "halt" }),
            Self::Shutdown(Power::Reboot) => json!({ "mode": "reboot" }),
            // In nanoseconds.
            Self::SetTime(Some(time)) => json!({ "time": time.0.saturating_mul(1000) }),
            Self::SetTime(None)
            | Self::Ping
            | Self::Info
            | Self::Freeze
            | Self::Thaw
            | Self::FreezeStatus
            | Self::Interfaces
            | Self::OsInfo
            | Self::HostName
            | Self::SuspendDisk
            | Self::SuspendRam => json!({}),
        };
        line(self.name(), &arguments)
    }
}

fn line(name: &str, arguments: &Value) -> Vec<u8> {
    let mut line = json!({ "execute": name, "arguments": arguments }).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// What gets both in step: the delimiter makes the agent forget half a
/// command, and its answer begins with one.
pub fn synchronize(number: u64) -> Vec<u8> {
    let mut bytes = vec![DELIMITER];
    bytes.extend(line("guest-sync-delimited", &json!({ "id": number })));
    bytes
}

/// Whether this line is the answer to [`synchronize`] with this number.
pub fn is_in_step(line: &[u8], number: u64) -> bool {
    let Some(at) = line.iter().rposition(|byte| *byte == DELIMITER) else { return false };
    let answer = parse(line.get(at + 1..).unwrap_or_default());
    matches!(answer, Ok(Answer::Return(value)) if value.as_u64() == Some(number))
}

/// What an agent says.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is done.
    Return(Value),
    /// It is not.
    Error {
        /// `GenericError`, `CommandNotFound`, …
        class: String,
        /// In its words, safe to show.
        desc: String,
    },
}

/// A line that is no answer.
#[derive(Debug, thiserror::Error)]
pub enum BadLine {
    /// Not even JSON.
    #[error("it is not JSON")]
    Json(#[source] serde_json::Error),
    /// An object that is neither of the two.
    #[error("it is neither a return nor an error")]
    Kind,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "return", default, deserialize_with = "present")]
    value: Option<Value>,
    error: Option<RawError>,
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
pub fn parse(line: &[u8]) -> Result<Answer, BadLine> {
    let raw: Raw = serde_json::from_slice(line).map_err(BadLine::Json)?;
    match raw {
        Raw { error: Some(error), .. } => {
            Ok(Answer::Error { class: clip(&error.class), desc: clip(&error.desc) })
        }
        Raw { value: Some(value), .. } => Ok(Answer::Return(value)),
        Raw { error: None, value: None } => Err(BadLine::Kind),
    }
}

/// Words of a guest, as they may be shown and kept.
pub fn clip(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn writes_commands_as_the_agent_takes_them() {
        let text = |command: Command| String::from_utf8(command.line()).unwrap();
        assert_eq!(
            text(Command::Shutdown(Power::Halt)),
            "{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"halt\"}}\n"
        );
        assert_eq!(
            text(Command::SetTime(Some(Timestamp(5)))),
            "{\"execute\":\"guest-set-time\",\"arguments\":{\"time\":5000}}\n"
        );
        assert_eq!(synchronize(7)[0], 0xff);
    }

    #[test]
    fn only_the_answer_to_this_number_after_a_delimiter_is_in_step() {
        assert!(is_in_step(b"\xff{\"return\": 7}", 7));
        assert!(is_in_step(b"{\"return\": \xff{\"return\": 7}", 7), "half of an older answer");
        for line in [&b"{\"return\": 7}"[..], b"\xff{\"return\": 8}", b"\xff", b"", b"\xff[7]"] {
            assert!(!is_in_step(line, 7));
        }
    }

    #[test]
    fn tells_answers_from_what_is_none() {
        assert_eq!(parse(b"{\"return\": null}").unwrap(), Answer::Return(Value::Null));
        let Answer::Error { class, desc } =
            parse(br#"{"error": {"class": "CommandNotFound", "desc": "a\u001b[31m\nb"}}"#).unwrap()
        else {
            panic!("an error")
        };
        assert_eq!((class.as_str(), desc.as_str()), ("CommandNotFound", "a [31m b"));
        for text in ["", "{}", "[]", "{\"error\": 1}", "hello"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse("[".repeat(100_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, number: u64) {
            let _ = (parse(&bytes), is_in_step(&bytes, number));
        }
    }
}

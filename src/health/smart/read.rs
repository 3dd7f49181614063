//! What `smartctl` is asked, and what its end means. A sleeping disk is never
//! woken: `-n standby` makes `smartctl` look at the power mode first, and `-d`
//! keeps it from finding out the kind of disk with commands that wake it
//! (smartctl(8), `-n`).

use std::time::Duration;

use super::find::{Disk, Transport};
use super::parse::{self, MAX_BYTES, Said, Smart};
use crate::host::run::{Command, Exit, Output, RunError, Runner};

/// How long one disk may take.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// The exit status that we choose for a disk that sleeps.
const ASLEEP: i32 = 5;
/// Bits 0 and 1 of the exit status: wrongly called, or the disk could not be
/// opened. The others say what was found (smartctl(8), EXIT STATUS).
const NOT_ASKED: i32 = 0b11;

/// What came of asking a disk.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It has told its health.
    Told(Box<Smart>),
    /// It sleeps and was left alone.
    Asleep,
    /// It has no SMART, or nothing that `smartctl` knows how to ask.
    NotSupported(String),
    /// SMART is switched off.
    Off,
    /// It could not be asked.
    Failed(String),
    /// It did not answer; whether the child is stuck in the kernel.
    Hangs {
        /// In words.
        why: String,
        /// Whether it could not even be killed.
        stuck: bool,
    },
    /// `smartctl` is not installed.
    NoTool,
    /// We may not.
    Denied,
}

/// The command for one disk.
pub fn command(disk: &Disk) -> Command {
    let mut args = vec!["--json=c", "-i", "-H", "-A", "-l", "selftest"];
    match disk.transport {
        Transport::Nvme => args.extend(["-d", "nvme"]),
        Transport::Sata => args.extend(["-n", "standby,5", "-d", "sat"]),
        Transport::Sas => args.extend(["-n", "standby,5", "-l", "error", "-d", "scsi"]),
        // By the bridge's USB id, which is asked without the disk.
        Transport::Usb | Transport::Other => args.extend(["-n", "standby,5"]),
        Transport::Virtio => {}
    }
    let mut command = Command::new("smartctl", args).deadline(DEADLINE);
    command.args.push(format!("/dev/{}", disk.name).into());
    command.limit = MAX_BYTES;
    command
}

/// Asks; takes at most [`DEADLINE`] and a moment.
pub async fn ask(runner: &dyn Runner, disk: &Disk) -> Answer {
    match runner.run(command(disk)).await {
        Ok(output) => answer(&output),
        Err(error) if error.is_missing() => Answer::NoTool,
        Err(RunError::Deadline { stuck, .. }) => {
            let kernel = if stuck { ", and smartctl hangs in the kernel" } else { "" };
            let why = format!("it did not answer within {} s{kernel}", DEADLINE.as_secs());
            Answer::Hangs { why, stuck }
        }
        Err(error) => Answer::Failed(error.to_string()),
    }
}

/// What an end and its output mean.
pub fn answer(output: &Output) -> Answer {
    let Exit::Code(code) = output.exit else {
        return Answer::Failed(format!("smartctl ended: {}", output.exit));
    };
    let said = match parse::parse(&output.stdout) {
        Ok(said) => said,
        Err(_) if code == ASLEEP => return Answer::Asleep,
        Err(why) => return Answer::Failed(format!("smartctl {why}")),
    };
    let has = |words: &str| said.messages.iter().any(|message| message.contains(words));
    let told = said.smart.is_told();
    if !told && (code == ASLEEP || has("Device is in ")) {
        return Answer::Asleep;
    }
    if code & NOT_ASKED != 0 && !told {
        return refused(&said, code);
    }
    match (told, said.available, said.enabled) {
        (true, ..) => Answer::Told(Box::new(said.smart)),
        (false, Some(false), _) => Answer::NotSupported("it has no SMART".to_owned()),
        (false, _, Some(false)) => Answer::Off,
        (false, ..) => Answer::Failed(in_words(&said, "it tells nothing of its health")),
    }
}

fn refused(said: &Said, code: i32) -> Answer {
    let has = |words: &str| said.messages.iter().any(|message| message.contains(words));
    if has("Permission denied") {
        Answer::Denied
    } else if has("Unable to detect device type") || has("Unknown USB bridge") {
        Answer::NotSupported("smartctl does not know how to ask it".to_owned())
    } else {
        Answer::Failed(in_words(said, &format!("smartctl ended with exit status {code}")))
    }
}

fn in_words(said: &Said, otherwise: &str) -> String {
    if said.messages.is_empty() { otherwise.to_owned() } else { said.messages.join("; ") }
}

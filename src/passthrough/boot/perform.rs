//! Makes the changes, each read back, then runs the commands. What fails takes
//! everything back with it.

use std::time::Duration;

use super::error::BootError;
use super::plan::Change;
use super::text::Text;
use crate::host::run::RunError;
use crate::host::sys::SysError;
use crate::host::{Command, Host, SysRoot};

/// An initramfs for each of several kernels, on a slow disk.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// What the changes have left behind them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// Folders that were made.
    pub folders: Vec<String>,
}

fn write(sys: &SysRoot, path: &str, text: Option<&Text>, mode: u32) -> Result<(), SysError> {
    // Through a link, so that it stays one.
    let real = match sys.resolve(path) {
        Ok(real) => real,
        Err(error) if error.is_missing() => path.into(),
        Err(error) => return Err(error),
    };
    match text {
        None => sys.delete(&real),
        Some(text) => {
            let bytes = text.bytes();
            sys.replace(&real, &bytes, mode)?;
            let back = sys.bytes(&real, bytes.len() as u64)?;
            let why = || "it reads back otherwise than it was written".to_owned();
            if back == bytes {
                Ok(())
            } else {
                Err(SysError::Invalid { path: real.clone(), why: why() })
            }
        }
    }
}

/// Every folder that will be made for these changes.
pub fn new_folders(sys: &SysRoot, changes: &[Change]) -> Vec<String> {
    let made = changes.iter().filter(|change| change.after.is_some());
    let mut folders: Vec<String> =
        made.flat_map(|change| folders_above(sys, &change.path)).collect();
    folders.sort();
    folders.dedup();
    folders
}

/// The folders above a file that are not there, the highest first.
fn folders_above(sys: &SysRoot, path: &str) -> Vec<String> {
    let mut missing = Vec::new();
    let mut at = path;
    while let Some((above, _)) = at.rsplit_once('/').filter(|(above, _)| !above.is_empty()) {
        if sys.exists(above) {
            break;
        }
        missing.insert(0, above.to_owned());
        at = above;
    }
    missing
}

/// Writes and removes the files; undoes all of it when one fails.
pub fn files(sys: &SysRoot, changes: &[Change]) -> Result<Done, BootError> {
    let mut done = Done::default();
    for (number, change) in changes.iter().enumerate() {
        let one = |done: &mut Done| {
            if change.after.is_some() {
                for folder in folders_above(sys, &change.path) {
                    if sys.make_folder(&folder)? {
                        done.folders.push(folder);
                    }
                }
            }
            write(sys, &change.path, change.after.as_ref(), change.mode)
        };
        if let Err(source) = one(&mut done) {
            // This one too: it may have been half done.
            let left = undo(sys, &changes[..=number], &done);
            return Err(BootError::Write { path: change.path.clone(), source, left });
        }
    }
    Ok(done)
}

/// Takes changes back, the last one first; says what it could not.
pub fn undo(sys: &SysRoot, changes: &[Change], done: &Done) -> Vec<String> {
    let mut left = Vec::new();
    for change in changes.iter().rev() {
        if !sys.exists(&change.path) && change.before.is_none() {
            continue;
        }
        let undone = write(sys, &change.path, change.before.as_ref(), change.mode_before);
        left.extend(undone.err().map(|error| format!("{} ({})", change.path, error.why())));
    }
    remove_folders(sys, &done.folders);
    left
}

/// Removes folders that were made, the deepest first, if nothing is in them.
pub fn remove_folders(sys: &SysRoot, folders: &[String]) {
    for folder in folders.iter().rev() {
        // What somebody else has put something into stays.
        let _ = sys.remove_folder(folder);
    }
}

/// Runs one command to its end.
pub async fn run(host: &Host, words: &[String]) -> Result<(), RunError> {
    let command = outside(&host.sys, words);
    host.runner.run(command.clone()).await?.success(&command).map(drop)
}

/// The daemon's unit keeps its children from making setuid files and from
/// reading others' (`RestrictSUIDSGID=`, `UMask=`): an initramfs is made of
/// copies of such files. So from within a unit the work is done in another,
/// which systemd starts with nothing of ours.
fn outside(sys: &SysRoot, words: &[String]) -> Command {
    let status = sys.text("/proc/self/status").unwrap_or_default();
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map_or("0", str::trim)
    };
    let confined = value("NoNewPrivs") != "0" || value("Seccomp") != "0";
    let (Some((program, args)), true) = (
        words.split_first(),
        confined && sys.exists("/run/systemd/system") && sys.exists("/run/dbus/system_bus_socket"),
    ) else {
        let (program, args) = words.split_first().map_or(("true", &[][..]), |(p, a)| (p, a));
        return Command::new(program, args.iter().map(String::as_str)).deadline(DEADLINE);
    };
    let limit = format!("--property=RuntimeMaxSec={}", DEADLINE.as_secs() - 10);
    let mut all = vec!["--wait", "--pipe", "--quiet", "--collect", &limit, "--", program];
    all.extend(args.iter().map(String::as_str));
    Command::new("systemd-run", all).deadline(DEADLINE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn from_within_a_unit_another_does_the_work() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let sys = fake.host().sys;
        let words = ["update-initramfs".to_owned(), "-u".to_owned()];
        fake.file("/proc/self/status", "Name:\thostd\nNoNewPrivs:\t1\nSeccomp:\t2\n").unwrap();
        assert_eq!(outside(&sys, &words).to_string(), "update-initramfs -u", "no systemd");
        fake.dir("/run/systemd/system").unwrap();
        fake.file("/run/dbus/system_bus_socket", "").unwrap();
        let command = outside(&sys, &words).to_string();
        assert!(command.starts_with("systemd-run --wait --pipe"), "{command}");
        assert!(command.ends_with(" -- update-initramfs -u"), "{command}");
        fake.file("/proc/self/status", "NoNewPrivs:\t0\nSeccomp:\t0\n").unwrap();
        assert_eq!(outside(&sys, &words).to_string(), "update-initramfs -u");
    }
}

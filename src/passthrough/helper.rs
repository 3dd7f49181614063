//! Attributes of sysfs that may hang in the kernel.
//!
//! Unbinding waits for the driver, and `driver_override` waits for an unbind
//! under way. So on the machine we run on each is read and written by a
//! process of its own, our own binary called again, with a deadline: what
//! hangs is that process. On a fake machine there is no process to start.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::screen;
use crate::base::{PciAddress, with_sources};
use crate::host::run::RunError;
use crate::host::sys::SysError;
use crate::host::{Command, Host, SysRoot};
use crate::pci::parse::is_driver_name;
use crate::pci::read::attribute;

/// The binary we are, even after a package update has replaced the file.
pub(crate) const OURSELVES: &str = "/proc/self/exe";
/// Hidden argument: write standard input to the attribute that follows, and
/// print what it says afterwards.
const WRITE: &str = "--sysfs-write";
/// Hidden argument: print the attribute that follows.
const READ: &str = "--sysfs-read";
/// More than a driver's name and an address need.
const VALUE_LIMIT: u64 = 256;
/// Large display drivers take several seconds to let go.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Why an attribute was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum AttributeError {
    /// The kernel said no.
    #[error("the kernel refused")]
    Refused(#[source] SysError),
    /// The helper process ended with a failure, or could not be started.
    #[error("the helper process failed")]
    Helper(#[source] RunError),
    /// It did not return: whatever it was meant to do may happen yet.
    #[error("{0} did not return within {DEADLINE:?}: it hangs in the kernel")]
    Hung(String),
}

/// Writes an attribute, with a deadline where the kernel is real, and returns
/// what it says afterwards; nothing for those that can only be written.
pub async fn write(host: &Host, path: &str, value: &str) -> Result<String, AttributeError> {
    if host.sys.is_real() {
        return ourselves(host, WRITE, path, value).await;
    }
    let written = host.sys.write(path, value.as_bytes());
    written.and_then(|()| said_back(&host.sys, path)).map_err(|error| match error {
        SysError::Io { source, .. } if source.kind() == io::ErrorKind::TimedOut => {
            AttributeError::Hung(path.to_owned())
        }
        other => AttributeError::Refused(other),
    })
}

/// Of the attributes that are written here only one can be read.
fn said_back(sys: &SysRoot, path: &str) -> Result<String, SysError> {
    if path.ends_with("/driver_override") { attribute(sys, path) } else { Ok(String::new()) }
}

/// Reads an attribute, with a deadline where the kernel is real.
pub async fn read(host: &Host, path: &str) -> Result<String, AttributeError> {
    if host.sys.is_real() {
        return ourselves(host, READ, path, "").await;
    }
    attribute(&host.sys, path).map_err(AttributeError::Refused)
}

async fn ourselves(
    host: &Host,
    verb: &str,
    path: &str,
    value: &str,
) -> Result<String, AttributeError> {
    let mut command = Command::new(OURSELVES, [verb, path]).deadline(DEADLINE);
    command.stdin = value.as_bytes().to_vec();
    let output = host.runner.run(command.clone()).await.and_then(|output| output.success(&command));
    output.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(|error| match error {
        RunError::Deadline { .. } => AttributeError::Hung(path.to_owned()),
        other => AttributeError::Helper(other),
    })
}

/// The helper's side: to be called by the daemon's binary before anything
/// else, with all its arguments. `None` when it is not the helper.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let args: Vec<OsString> = args.into_iter().skip(1).take(3).collect();
    let [verb, path] = &args[..] else { return None };
    let (verb, path) = (verb.to_str()?, path.to_str()?);
    let sys = SysRoot::new("/");
    let done = match verb {
        WRITE => copy_in(&sys, path, io::stdin()).and_then(|text| print(&text, io::stdout())),
        READ => copy_out(&sys, path).and_then(|text| print(&text, io::stdout())),
        _ => return None,
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Nobody left to tell if this fails.
            let _ = writeln!(io::stderr(), "{why}");
            ExitCode::FAILURE
        }
    })
}

fn copy_in(sys: &SysRoot, path: &str, from: impl Read) -> Result<String, String> {
    if !is_ours(path) {
        return Err(format!("{path} is not ours to write"));
    }
    let mut value = Vec::new();
    from.take(VALUE_LIMIT + 1).read_to_end(&mut value).map_err(|error| error.to_string())?;
    if value.len() as u64 > VALUE_LIMIT {
        return Err(format!("more than {VALUE_LIMIT} bytes for {path}"));
    }
    let written = sys.write(path, &value).and_then(|()| said_back(sys, path));
    written.map_err(|error| with_sources(&error))
}

fn copy_out(sys: &SysRoot, path: &str) -> Result<String, String> {
    if !is_ours(path) {
        return Err(format!("{path} is not ours to read"));
    }
    attribute(sys, path).map_err(|error| with_sources(&error))
}

fn print(text: &str, mut to: impl Write) -> Result<(), String> {
    to.write_all(text.as_bytes()).and_then(|()| to.flush()).map_err(|error| error.to_string())
}

/// The few attributes that binding needs; nothing that links or `..` could bend.
fn is_ours(path: &str) -> bool {
    if path == "/sys/bus/pci/drivers_probe" {
        return true;
    }
    let Some(rest) = path.strip_prefix("/sys/") else { return false };
    let words: Vec<&str> = rest.split('/').collect();
    let is_device =
        |text: &str| text.parse::<PciAddress>().is_ok_and(|address| address.to_string() == text);
    match words[..] {
        [
            "bus",
            "pci",
            "devices",
            device,
            "driver_override" | "reset_method" | "d3cold_allowed",
        ]
        | ["bus", "pci", "devices", device, "power", "control"] => is_device(device),
        ["bus", "pci", "devices", device, file] => {
            let number = file.strip_prefix("resource").and_then(|f| f.strip_suffix("_resize"));
            is_device(device) && matches!(number, Some("0" | "1" | "2" | "3" | "4" | "5"))
        }
        ["bus", "pci", "drivers", driver, "bind" | "unbind"] => {
            is_driver_name(driver) && Path::new(driver).components().count() == 1
        }
        ["bus", "platform", "drivers", driver, "unbind"] => screen::DRIVERS.contains(&driver),
        ["class", "vtconsole", console, "bind"] => {
            let number = console.strip_prefix("vtcon");
            number.is_some_and(|n| n.parse::<u8>().is_ok_and(|number| number.to_string() == n))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn writes_only_what_binding_needs() {
        for path in [
            "/sys/bus/pci/drivers_probe",
            "/sys/bus/pci/devices/0000:01:00.0/driver_override",
            "/sys/bus/pci/drivers/vfio-pci/unbind",
            "/sys/bus/pci/devices/0000:01:00.0/power/control",
            "/sys/bus/pci/devices/0000:01:00.0/reset_method",
            "/sys/bus/pci/devices/0000:01:00.0/resource0_resize",
            "/sys/bus/platform/drivers/efi-framebuffer/unbind",
            "/sys/class/vtconsole/vtcon1/bind",
        ] {
            assert!(is_ours(path), "{path}");
        }
        for path in [
            "/etc/passwd",
            "/sys/bus/pci/rescan",
            "/sys/bus/pci/devices/0000:01:00.0/remove",
            "/sys/bus/pci/devices/0000:01:00.0/reset",
            "/sys/bus/pci/devices/0000:01:00.0/resource0",
            "/sys/bus/pci/devices/0000:01:00.0/resource7_resize",
            "/sys/bus/platform/drivers/serial8250/unbind",
            "/sys/class/vtconsole/vtcon01/bind",
            "/sys/class/vtconsole/../bind",
            "/sys/bus/pci/devices/../drivers_probe/driver_override",
            "/sys/bus/pci/drivers/../unbind",
            "/sys/bus/pci/drivers//unbind",
            "/sys/bus/pci/devices/01:00.0/driver_override",
            "/sys/bus/pci/devices/0000:01:00.0/../driver_override",
        ] {
            assert!(!is_ours(path), "{path}");
        }
    }

    #[test]
    fn copies_and_says_what_went_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let (sys, path) = (fake.host().sys, "/sys/bus/pci/drivers_probe");
        let why = copy_in(&sys, path, &b"0000:01:00.0"[..]).unwrap_err();
        assert_eq!(why, "/sys/bus/pci/drivers_probe does not exist");
        fake.file(path, "").unwrap();
        assert_eq!(copy_in(&sys, path, &b"0000:01:00.0"[..]).unwrap(), "");
        let text = "/sys/bus/pci/devices/0000:01:00.0/driver_override";
        fake.file(text, "(null)\n").unwrap();
        assert_eq!(copy_in(&sys, text, &b"vfio-pci\n"[..]).unwrap(), "vfio-pci\n");
        assert_eq!(copy_out(&sys, text).unwrap(), "vfio-pci\n");
        assert!(copy_in(&sys, path, &[b'x'; 300][..]).unwrap_err().contains("more than"));
        assert!(copy_in(&sys, "/etc/passwd", &b""[..]).unwrap_err().contains("not ours"));
    }

    #[test]
    fn other_arguments_are_not_for_the_helper() {
        let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(main(args(&["hostd"])).is_none());
        assert!(main(args(&["hostd", "--config", "x"])).is_none());
        assert!(main(args(&["hostd", READ, "/etc/passwd"])).is_some());
    }
}

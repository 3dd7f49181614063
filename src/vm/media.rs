//! The medium in a guest's CD-ROM drive, changed while the guest runs.
//!
//! Only images of discs are put in: who may operate VMs may not thereby read
//! any file of the host.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::qmp::wire::Command;
use super::qmp::{Qmp, QmpError};
use crate::ask::view::DoneView;
use crate::ask::{Code, Refusal};
use crate::base::{Name, with_sources};
use crate::host::{Host, SysRoot};

/// How long QEMU may take: it opens the image.
const ANSWER: Duration = Duration::from_secs(10);

/// A drive whose medium can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// For a person: `disk1`.
    pub name: String,
    /// QEMU's name for the guest's device.
    device: String,
    /// What is in it.
    pub medium: Option<String>,
}

/// Reads the answer to `query-block`; what is no drive with a changeable medium
/// is left out.
pub fn drives(value: &Value) -> Vec<Drive> {
    let one = |drive: &Value| {
        if drive.get("removable")?.as_bool() != Some(true) {
            return None;
        }
        let text = |key: &str| drive.get(key).and_then(Value::as_str).filter(|t| !t.is_empty());
        let device = text("qdev")?;
        let named = (!device.starts_with('/')).then(|| device.trim_end_matches("-device"));
        let medium = drive.get("inserted").and_then(|inside| inside.get("file")?.as_str());
        Some(Drive {
            name: clip(named.or(text("device")).unwrap_or(device)),
            device: device.to_owned(),
            medium: medium.map(clip),
        })
    };
    value.as_array().into_iter().flatten().take(64).filter_map(one).collect()
}

fn clip(text: &str) -> String {
    text.chars().take(400).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The drive that a person means; the only one when none is named.
fn choose<'a>(vm: &Name, drives: &'a [Drive], wanted: Option<&str>) -> Result<&'a Drive, Refusal> {
    let names: Vec<_> = drives.iter().map(|drive| drive.name.as_str()).collect();
    let all = format!("it has: {}", names.join(", "));
    match (drives, wanted) {
        ([], _) => {
            let message = format!("`{vm}` has no CD-ROM drive");
            let hint = "add a disk with `cdrom: true` to its file, then stop and start it";
            Err(Refusal::new(Code::NotFound, message, hint))
        }
        ([drive], None) => Ok(drive),
        (_, None) => {
            let message = format!("`{vm}` has several CD-ROM drives");
            Err(Refusal::new(Code::Usage, message, format!("name one with --drive; {all}")))
        }
        (_, Some(wanted)) => drives.iter().find(|drive| drive.name == wanted).ok_or_else(|| {
            let message = format!("`{vm}` has no CD-ROM drive `{wanted}`");
            Refusal::new(Code::NotFound, message, all)
        }),
    }
}

/// Puts `file` into a drive, or takes out what is in it. `force` does not wait
/// for a guest that holds the tray.
pub async fn change(
    host: &Host,
    vm: &Name,
    qmp: &Qmp,
    wanted: Option<&str>,
    file: Option<&str>,
    force: bool,
) -> Result<DoneView, Refusal> {
    let failed = |error: QmpError| Refusal::new(Code::Failed, with_sources(&error), "");
    if let Some(file) = file {
        let (sys, path) = (host.sys.clone(), file.to_owned());
        let check = tokio::task::spawn_blocking(move || is_disc(&sys, &path)).await;
        check.map_err(|error| Refusal::new(Code::Failed, error.to_string(), ""))??;
    }
    let drives = drives(&qmp.ask(Command::QueryBlock, ANSWER).await.map_err(failed)?);
    let drive = choose(vm, &drives, wanted)?;
    let (name, now) = (&drive.name, drive.medium.as_deref());
    if now == file {
        let message = match file {
            Some(file) => format!("{file} is in `{name}` of `{vm}` already"),
            None => format!("`{name}` of `{vm}` is empty already"),
        };
        return Ok(DoneView { changed: false, message, warnings: Vec::new() });
    }
    let device = drive.device.clone();
    let command = match file {
        Some(file) => Command::ChangeMedium { device, file: file.to_owned(), force },
        None => Command::Eject { device, force },
    };
    match qmp.ask(command, ANSWER).await {
        Ok(_) => {
            let message = match file {
                Some(file) => format!("{file} is in `{name}` of `{vm}`"),
                None => format!("`{name}` of `{vm}` is empty"),
            };
            Ok(DoneView { changed: true, message, warnings: Vec::new() })
        }
        Err(QmpError::Refused { desc, .. }) if desc.contains("locked") => {
            let message = format!("the guest of `{vm}` holds the tray of `{name}` closed");
            let hint = "it was asked to open it: try again in a moment, or with --force";
            Err(Refusal::new(Code::Refused, message, hint))
        }
        Err(error) => Err(failed(error)),
    }
}

/// The first sector of a disc that says what it is, and how many may follow
/// (ECMA-119 8.1.1; ECMA-167 2/9.1: `CD001`, `BEA01`, `NSR02`, `NSR03`).
const SECTOR: usize = 2048;
const FIRST: usize = 16;
const SECTORS: usize = 8;

/// Whether a file is an image of a disc.
fn is_disc(sys: &SysRoot, path: &str) -> Result<(), Refusal> {
    let refuse =
        |code, why: &str, hint: &str| Err(Refusal::new(code, format!("{path} {why}"), hint));
    if !Path::new(path).is_absolute() {
        return refuse(Code::Usage, "is not a whole path", "name it from / on");
    }
    let head = match sys.head(path, ((FIRST + SECTORS) * SECTOR) as u64) {
        Ok(head) => head,
        Err(error) => {
            let why = format!("cannot be read: {}", error.why());
            return refuse(Code::Refused, &why, "look whether the path is right, on the host");
        }
    };
    let marks: [&[u8]; 4] = [b"CD001", b"BEA01", b"NSR02", b"NSR03"];
    let at = |sector: usize| {
        let begin = (FIRST + sector) * SECTOR + 1;
        head.get(begin..begin + 5).is_some_and(|mark| marks.contains(&mark))
    };
    if (0..SECTORS).any(at) {
        return Ok(());
    }
    refuse(Code::Refused, "is not an image of a disc", "name an ISO image")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_the_drives_that_can_be_changed() {
        let drives = drives(&json!([
            {"device": "disk0", "qdev": "disk0-device", "removable": false, "inserted": {"file": "/a"}},
            {"device": "disk1", "qdev": "disk1-device", "removable": true, "tray_open": false,
             "inserted": {"file": "/iso/win\u{1b}.iso"}},
            {"device": "cd", "qdev": "/machine/unattached/device[3]", "removable": true},
            {"device": "", "removable": true}, 5]));
        let seen: Vec<_> = drives.iter().map(|d| (d.name.as_str(), d.medium.as_deref())).collect();
        assert_eq!(seen, [("disk1", Some("/iso/win .iso")), ("cd", None)]);
        let vm: Name = "win".parse().unwrap();
        let refusal = choose(&vm, &drives, None).unwrap_err();
        assert_eq!(refusal.hint, "name one with --drive; it has: disk1, cd");
        assert_eq!(choose(&vm, &drives, Some("cd")).unwrap().name, "cd");
        assert_eq!(choose(&vm, &drives, Some("x")).unwrap_err().code, Code::NotFound);
        assert_eq!(choose(&vm, &[], None).unwrap_err().message, "`win` has no CD-ROM drive");
    }

    #[test]
    fn only_images_of_discs_are_put_in() {
        let dir = tempfile::tempdir().unwrap();
        let sys = SysRoot::new(dir.path());
        let mut iso = vec![0; 20 * SECTOR];
        std::fs::write(dir.path().join("shadow"), &iso).unwrap();
        iso[0x8001..0x8006].copy_from_slice(b"CD001");
        std::fs::write(dir.path().join("a.iso"), &iso).unwrap();
        assert!(is_disc(&sys, "/a.iso").is_ok());
        assert_eq!(
            is_disc(&sys, "/shadow").unwrap_err().message,
            "/shadow is not an image of a disc"
        );
        assert!(is_disc(&sys, "/none").unwrap_err().message.contains("it does not exist"));
        assert_eq!(is_disc(&sys, "a.iso").unwrap_err().code, Code::Usage);
    }
}

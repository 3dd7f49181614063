//! The guest's picture: QEMU writes a PNG where it may write, we read it there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ask::view::ScreenshotView;
use crate::ask::{Code, Hex, Refusal};
use crate::base::{Name, with_sources};
use crate::host::Host;
use crate::vm::paths;
use crate::vm::qmp::wire::Command;
use crate::vm::qmp::{Qmp, QmpError};

/// The largest picture: as a document it has to fit into a message of the
/// system bus, which takes 32 MiB (`max_message_size` in dbus-daemon(1)).
const LIMIT: u64 = 15 << 20;
/// How long QEMU may take to write it.
const WITHIN: Duration = Duration::from_secs(20);

/// Where QEMU writes it: beside its control socket.
fn file(vm: &Name) -> PathBuf {
    paths::name(vm, paths::QMP).with_file_name(paths::SCREEN)
}

/// Takes the picture; one at a time for each VM.
pub async fn take(qmp: &Qmp, host: &Host, vm: &Name) -> Result<ScreenshotView, Refusal> {
    let version = qmp.greeting().version;
    if version < (7, 1, 0) {
        let (major, minor, _) = version;
        let message = format!("`{vm}` has a QEMU that writes no PNG: it is {major}.{minor}");
        return Err(Refusal::new(Code::Refused, message, "QEMU 7.1 and later can"));
    }
    let name = file(vm);
    let failed = |why: String| {
        Refusal::new(Code::Failed, format!("no picture of `{vm}` could be taken: {why}"), "")
    };
    remove(host, &name).await.map_err(failed)?;
    let path = host.runtime.path(&name);
    let path = path.to_str().ok_or_else(|| failed("its path is not text".to_owned()))?.to_owned();
    let dumped = qmp.ask(Command::Screendump { file: path }, WITHIN).await;
    let read = match dumped {
        Ok(_) => {
            let (store, name) = (host.runtime.clone(), name.clone());
            let read = move || store.written_by_others(name, LIMIT).map_err(|e| with_sources(&e));
            let read = tokio::task::spawn_blocking(read).await;
            read.map_err(|error| error.to_string()).and_then(|read| read).map_err(failed)
        }
        Err(error) => Err(refusal(vm, &error)),
    };
    // Whatever came of it: that it stays is not worth a word.
    let _ = remove(host, &name).await;
    let bytes = read?;
    let (width, height) =
        size(&bytes).ok_or_else(|| failed("what QEMU has written is not a PNG".to_owned()))?;
    let len = bytes.len() as u64;
    Ok(ScreenshotView { file: String::new(), bytes: len, width, height, data: Hex(bytes) })
}

async fn remove(host: &Host, name: &Path) -> Result<(), String> {
    let (store, name) = (host.runtime.clone(), name.to_owned());
    let removed = tokio::task::spawn_blocking(move || store.remove(name)).await;
    removed.map_err(|error| error.to_string())?.map_err(|error| with_sources(&error))
}

fn refusal(vm: &Name, error: &QmpError) -> Refusal {
    match error {
        // `qmp_screendump` in QEMU's ui/console.c (ui/ui-qmp-cmds.c).
        QmpError::Refused { desc, .. } if desc.contains("no console") => {
            let message = format!("`{vm}` has no picture here: QEMU makes no graphics card for it");
            let hint = "the picture of a card that was given to it is on the card's own screen; \
                        `display` in the VM's file adds another";
            Refusal::new(Code::Refused, message, hint)
        }
        error => {
            let message = format!("no picture of `{vm}` could be taken: {}", with_sources(error));
            Refusal::new(Code::Failed, message, "")
        }
    }
}

/// Width and height of a PNG; `None` when it is not one. Signature, and IHDR as
/// the first chunk: <https://www.w3.org/TR/png-3/#11IHDR>.
pub fn size(png: &[u8]) -> Option<(u32, u32)> {
    let rest = png.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    let rest = rest.strip_prefix(&[0, 0, 0, 13])?.strip_prefix(b"IHDR")?;
    let number = |at: usize| {
        let bytes = rest.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(bytes)).filter(|number| *number > 0)
    };
    Some((number(0)?, number(4)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn png() -> Vec<u8> {
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        png.extend([0, 0, 2, 208, 0, 0, 1, 144]);
        png
    }

    #[test]
    fn the_size_is_in_the_first_chunk() {
        assert_eq!(size(&png()), Some((720, 400)));
        assert_eq!(size(b"P6 720 400 255"), None);
        assert_eq!(size(&png()[..20]), None);
        let mut nothing = png();
        nothing[16..20].fill(0);
        assert_eq!(size(&nothing), None);
    }

    proptest! {
        #[test]
        fn never_panics(cut in 0..40_usize, rest: Vec<u8>) {
            let mut bytes = png();
            bytes.truncate(cut);
            bytes.extend(rest);
            let _ = size(&bytes);
        }
    }
}

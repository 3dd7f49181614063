//! ROM files of a person.

use crate::base::with_sources;
use std::path::Path;

use super::{Local, bytes, host, names};
use crate::ask::view::{RomDumpView, RomView};
use crate::ask::{Answer, Code, Refusal, Reply};
use crate::host::Store;
use crate::host::sys::{Kind, SysRoot};
use crate::passthrough::{Passthrough, rom};

/// Checks a ROM file, for a card if one is named; `strip` names a file that
/// gets it without what stands before its first image.
pub async fn rom_check(
    local: &Local,
    file: &Path,
    gpu: Option<&str>,
    strip: Option<&Path>,
) -> Answer {
    let read = bytes(file)?;
    let card = match gpu {
        None => None,
        Some(gpu) => {
            let cards = Passthrough::new(host(local), names(local)?.gpus);
            Some(cards.rom_card(&cards.resolve_gpu(Some(gpu))?).await?)
        }
    };
    let Some(to) = strip else {
        return Ok(Reply::Rom(rom::view(&file.display().to_string(), &read, card.as_ref())));
    };
    let stripped = rom::strip(&read);
    let mut view = rom::view("", stripped, card.as_ref());
    view.notes
        .push(format!("{} bytes before the first image left out", read.len() - stripped.len()));
    save(view, stripped, to)
}

/// Writes a ROM that was read out of a card, if a guest may be given it.
pub fn rom_save(dumped: RomDumpView, to: &Path) -> Answer {
    let bytes = rom::unhex(&dumped.data).ok_or_else(|| {
        let hint = "is hostd another version?";
        Refusal::new(Code::Failed, "the ROM did not come whole from the daemon", hint)
    })?;
    save(dumped.rom, &bytes, to)
}

/// What nobody should use is not written.
fn save(mut view: RomView, bytes: &[u8], to: &Path) -> Answer {
    view.file = to.display().to_string();
    if !view.usable {
        view.notes.push(format!("{} was not written", view.file));
        return Ok(Reply::Rom(view));
    }
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let fail = |why: String| Refusal::new(Code::Failed, why, "nothing was written");
    // A misspelt folder is not made.
    if !matches!(SysRoot::new(folder).kind(""), Ok(Kind::Folder)) {
        return Err(fail(format!("{} is not a folder", folder.display())));
    }
    let name = to.file_name().ok_or_else(|| fail(format!("{} names no file", to.display())))?;
    Store::new(folder).write_bytes(name, bytes).map_err(|error| fail(with_sources(&error)))?;
    view.written = true;
    Ok(Reply::Rom(view))
}

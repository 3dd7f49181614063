//! ROM files of a person.

use std::path::Path;

use super::{Local, bytes, host, names};
use crate::ask::view::{RomDumpView, RomView};
use crate::ask::{Answer, Code, Refusal, Reply};
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
    super::write(to, bytes)?;
    view.written = true;
    Ok(Reply::Rom(view))
}

//! `hostctl gpu rom`.

use std::fmt::Write;

use super::table::{cell, indent, table};
use super::{Look, paint, printable};
use crate::ask::view::{FindingView, RomImageView, RomView};
use crate::base::{Bytes, Severity};

pub fn show(view: &RomView, look: Look) -> String {
    let verdict = match (view.usable, view.findings.is_empty()) {
        (true, true) => paint::mark(Severity::Ok, "good"),
        (true, false) => paint::mark(Severity::Warning, "usable"),
        (false, _) => paint::mark(Severity::Critical, "not usable"),
    };
    let card = view.gpu.as_ref().map_or_else(String::new, |gpu| format!(" for {gpu}"));
    let written = if view.written { ", written" } else { "" };
    let (file, size) = (printable(&view.file), Bytes(view.size));
    let mut text = format!("{file}: {verdict}{}, {size}{written}\n", printable(&card));
    if !view.images.is_empty() {
        let rows = view.images.iter().map(row);
        text += &indent(&table(["IMAGE", "LENGTH", "KIND", "ID", "SAYS"], rows, look), 2);
    }
    for FindingView { severity, object, message, advice, .. } in &view.findings {
        let (object, message) = (printable(object), printable(message));
        // A string takes what it is given.
        let _ = writeln!(text, "{}: {object}: {message}", paint::word(*severity));
        if !advice.is_empty() {
            let _ = writeln!(text, "  {}", printable(advice));
        }
    }
    for note in &view.notes {
        let _ = writeln!(text, "{}", printable(note));
    }
    text
}

fn row(image: &RomImageView) -> [String; 5] {
    let mut says: Vec<String> = Vec::new();
    says.extend(image.machine.as_ref().map(|machine| format!("for {machine}")));
    says.extend(
        image
            .checksum
            .map(|good| if good { "checksum right" } else { "checksum wrong" }.to_owned()),
    );
    says.extend(image.last.then(|| "last".to_owned()));
    [
        format!("{:#x}", image.offset),
        image.length.to_string(),
        cell(&image.kind),
        cell(&format!("{}:{}", image.vendor, image.device)),
        cell(&says.join(", ")),
    ]
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn a_rom_with_a_finding() {
        insta::assert_snapshot!("rom", shown(&Reply::Rom(samples::rom()), Detail::Full));
    }
}

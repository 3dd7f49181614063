//! `hostctl gpu list`, `gpu quirks`.

use std::fmt::Write;

use super::device::link;
use super::iommu::verdict;
use super::table::{cell, indent, table};
use super::{Look, paint, printable};
use crate::ask::view::{GpuView, GpusView, QuirksView};
use crate::base::{Bytes, Severity};

pub fn list(view: &GpusView, look: Look) -> String {
    let notes = view.notes.iter().fold(String::new(), |text, note| text + &printable(note) + "\n");
    match (view.gpus.is_empty(), notes.is_empty()) {
        (true, true) => return "no graphics cards\n".to_owned(),
        (true, false) => return notes,
        (false, _) => {}
    }
    let rows = view.gpus.iter().flat_map(rows);
    let heads = ["GPU", "ADDRESS", "GROUP", "VERDICT", "BOUND", "DRIVER", "DEVICE"];
    let mut text = table(heads, rows, look) + "\n";
    for gpu in &view.gpus {
        if let Some(line) = whole(gpu) {
            // A string takes what it is given.
            let _ = writeln!(text, "{}: {}", printable(&gpu.name), printable(&line));
        }
    }
    for gpu in &view.gpus {
        for warning in &gpu.card.warnings {
            let name = printable(&gpu.name);
            let _ = writeln!(text, "note: {name}: {}", printable(warning));
        }
    }
    for gpu in &view.gpus {
        for problem in &gpu.problems {
            let (word, name) = (paint::word(Severity::Warning), printable(&gpu.name));
            // A string takes what it is given.
            let _ = writeln!(text, "{word}: {name}: {}", printable(problem));
        }
    }
    text + &notes
}

/// The card on its first row, its other functions below it.
fn rows(gpu: &GpuView) -> Vec<[String; 7]> {
    let group = |group: Option<u32>| group.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let driver = |driver: &Option<String>| cell(driver.as_deref().unwrap_or("-"));
    let mark = if gpu.card.boot_vga == Some(true) { " (boot display)" } else { "" };
    let mut rows = vec![[
        cell(&gpu.name),
        gpu.address.to_string(),
        group(gpu.group),
        gpu.card.verdict.map_or_else(|| "-".to_owned(), verdict),
        if gpu.bound { "yes" } else { "no" }.to_owned(),
        driver(&gpu.driver),
        cell(&format!("{}{mark}", gpu.model)),
    ]];
    rows.extend(gpu.card.parts.iter().skip(1).map(|part| {
        let what = match part.class_name.as_str() {
            "" => part.name.clone(),
            class => format!("{class}: {}", part.name),
        };
        let none = String::new;
        let (at, group) = (part.address.to_string(), group(part.group));
        [none(), at, group, none(), none(), driver(&part.driver), cell(&what)]
    }));
    rows
}

/// What is true of the card as a whole.
fn whole(gpu: &GpuView) -> Option<String> {
    let mut said = Vec::new();
    match (&gpu.card.link, &gpu.card.max_link) {
        (Some(now), Some(best)) if now != best => {
            said.push(format!("link {} (best {})", link(now), link(best)));
        }
        (Some(now), _) => said.push(format!("link {}", link(now))),
        (None, _) => {}
    }
    said.extend(gpu.card.vram_bar.map(|size| format!("{} window to its memory", Bytes(size))));
    match gpu.card.rom {
        Some(true) => said.push("has a ROM".to_owned()),
        Some(false) => said.push("shows no ROM of its own".to_owned()),
        None => {}
    }
    said.extend(gpu.card.vga_arbiter.as_ref().map(|legacy| format!("legacy VGA: {legacy}")));
    (!said.is_empty()).then(|| said.join(", "))
}

pub fn quirks(view: &QuirksView, look: Look) -> String {
    let mut text = String::new();
    for gpu in &view.gpus {
        let name = printable(&gpu.name);
        let head = if gpu.name == gpu.address.to_string() {
            name
        } else {
            format!("{name} ({})", gpu.address)
        };
        if gpu.quirks.is_empty() {
            // A string takes what it is given.
            let _ = writeln!(text, "{head}: no known quirks");
            continue;
        }
        let rows = gpu.quirks.iter().map(|quirk| {
            let standing = match (quirk.experimental, quirk.source.as_str()) {
                (true, "") => "experimental".to_owned(),
                (true, source) => format!("experimental; {source}"),
                (false, source) => source.to_owned(),
            };
            let why = cell(&format!("{} [{standing}]", quirk.why));
            [quirk.function.to_string(), cell(&quirk.id), cell(&quirk.action), why]
        });
        let rows = table(["FUNCTION", "ID", "ACTION", "WHY"], rows, look);
        let _ = write!(text, "{head}\n{}", indent(&rows, 2));
    }
    if view.gpus.is_empty() {
        text.push_str("no graphics cards\n");
    }
    for note in &view.notes {
        let word = paint::word(Severity::Warning);
        let _ = writeln!(text, "{word}: {}", printable(note));
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::ask::view::GpusView;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn cards() {
        insta::assert_snapshot!("gpu_list", shown(&Reply::Gpus(samples::gpus()), Detail::List));
        let quirks = Reply::Quirks(samples::quirks());
        insta::assert_snapshot!("gpu_quirks", shown(&quirks, Detail::List));
        let none = Reply::Gpus(GpusView::default());
        assert_eq!(shown(&none, Detail::List), "no graphics cards\n");
        let unread = GpusView { notes: vec!["not readable".into()], ..GpusView::default() };
        assert_eq!(shown(&Reply::Gpus(unread), Detail::List), "not readable\n");
    }
}

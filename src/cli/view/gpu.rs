//! `hostctl gpu list`, `gpu quirks`.

use std::fmt::Write;

use super::table::{cell, indent, table};
use super::{Look, paint, printable};
use crate::ask::view::{GpusView, QuirksView};
use crate::base::Severity;

pub fn list(view: &GpusView, look: Look) -> String {
    let notes = view.notes.iter().fold(String::new(), |text, note| text + &printable(note) + "\n");
    match (view.gpus.is_empty(), notes.is_empty()) {
        (true, true) => return "no graphics cards\n".to_owned(),
        (true, false) => return notes,
        (false, _) => {}
    }
    let rows = view.gpus.iter().map(|gpu| {
        [
            cell(&gpu.name),
            gpu.address.to_string(),
            gpu.group.map_or_else(|| "-".to_owned(), |group| group.to_string()),
            if gpu.bound { "yes" } else { "no" }.to_owned(),
            cell(gpu.driver.as_deref().unwrap_or("-")),
            gpu.functions.len().to_string(),
            cell(&gpu.model),
        ]
    });
    let heads = ["GPU", "ADDRESS", "GROUP", "BOUND", "DRIVER", "FUNCTIONS", "MODEL"];
    let mut text = table(heads, rows, look) + "\n";
    for gpu in &view.gpus {
        for problem in &gpu.problems {
            let (word, name) = (paint::word(Severity::Warning), printable(&gpu.name));
            // A string takes what it is given.
            let _ = writeln!(text, "{word}: {name}: {}", printable(problem));
        }
    }
    text + &notes
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

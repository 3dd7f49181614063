//! `hostctl gpu list`.

use std::fmt::Write;

use super::table::{cell, table};
use super::{Look, paint, printable};
use crate::ask::view::GpusView;
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

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::ask::view::GpusView;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn cards() {
        insta::assert_snapshot!("gpu_list", shown(&Reply::Gpus(samples::gpus()), Detail::List));
        let none = Reply::Gpus(GpusView::default());
        assert_eq!(shown(&none, Detail::List), "no graphics cards\n");
        let unread = GpusView { notes: vec!["not readable".into()], ..GpusView::default() };
        assert_eq!(shown(&Reply::Gpus(unread), Detail::List), "not readable\n");
    }
}

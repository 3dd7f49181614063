//! `hostctl host status`.

use super::table::{cell, table};
use super::{Look, paint};
use crate::ask::view::MachineView;

pub fn list(view: &MachineView, look: Look) -> String {
    let mut readings: Vec<_> = view.readings.iter().collect();
    readings.sort_by_key(|reading| std::cmp::Reverse(reading.health));
    let rows = readings.into_iter().map(|reading| {
        [cell(&reading.service), paint::word(reading.health), cell(&reading.message)]
    });
    let mut text = table(["SERVICE", "HEALTH", "WHAT IS THE CASE"], rows, look);
    text.extend(view.notes.iter().map(|note| format!("{}\n", cell(note))));
    text
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn readings() {
        let reply = Reply::Machine(samples::machine());
        insta::assert_snapshot!("host_status", shown(&reply, Detail::Full));
    }
}

//! `hostctl disk list`, `disk status`.

use std::fmt::Write as _;

use super::table::{cell, table};
use super::{Look, paint};
use crate::ask::view::{DiskView, DisksView};
use crate::base::Bytes;

fn place(disk: &DiskView) -> String {
    match (&disk.pool, &disk.vdev) {
        (Some(pool), _) => cell(pool),
        (None, _) => "-".to_owned(),
    }
}

fn temperature(disk: &DiskView) -> String {
    disk.temperature.map_or_else(|| "-".to_owned(), |degrees| format!("{degrees:.0} °C"))
}

fn said(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { cell(text) }
}

pub fn list(view: &DisksView, look: Look) -> String {
    if view.disks.is_empty() && view.notes.is_empty() {
        return "no disks\n".to_owned();
    }
    let rows = view.disks.iter().map(|disk| {
        let worst = disk.findings.first().map(|finding| finding.message.as_str());
        [
            cell(&disk.name),
            paint::word(disk.health),
            said(&disk.model),
            said(&disk.serial),
            said(&disk.slot),
            disk.size.map_or_else(|| "-".to_owned(), |size| Bytes(size).to_string()),
            temperature(disk),
            cell(&disk.power),
            place(disk),
            said(worst.unwrap_or_default()),
        ]
    });
    let heads = [
        "DISK",
        "HEALTH",
        "MODEL",
        "SERIAL",
        "SLOT",
        "SIZE",
        "TEMPERATURE",
        "POWER",
        "POOL",
        "WHAT IS THE CASE",
    ];
    let mut text = table(heads, rows, look);
    text.extend(view.notes.iter().map(|note| format!("{}\n", cell(note))));
    text
}

pub fn show(view: &DisksView, look: Look) -> String {
    let mut text = list(view, look);
    for disk in &view.disks {
        for finding in &disk.findings {
            // A string takes what it is given.
            let _ = write!(
                text,
                "\n{} {}: {}\n",
                paint::word(finding.severity),
                cell(&finding.object),
                cell(&finding.message)
            );
            if !finding.advice.is_empty() {
                let _ = writeln!(text, "    {}", cell(&finding.advice));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::ask::view::DisksView;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn disks() {
        let reply = Reply::Disks(samples::disks());
        insta::assert_snapshot!("disk_list", shown(&reply, Detail::List));
        insta::assert_snapshot!("disk_status", shown(&reply, Detail::Full));
        assert_eq!(shown(&Reply::Disks(DisksView::default()), Detail::List), "no disks\n");
    }
}

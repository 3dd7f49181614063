//! `hostctl vm snapshot list`.

use std::fmt::Write;

use super::table::{cell, table};
use super::{Look, paint, printable};
use crate::ask::view::{SnapshotState, SnapshotView, SnapshotsView};
use crate::base::{Bytes, Severity};

fn state(state: SnapshotState) -> String {
    let severity = match state {
        SnapshotState::Whole => return state.as_str().to_owned(),
        SnapshotState::Incomplete => Severity::Warning,
        SnapshotState::Unknown => Severity::Unknown,
        SnapshotState::Damaged => Severity::Critical,
    };
    paint::mark(severity, state.as_str())
}

/// How the guest was.
fn guest(one: &SnapshotView) -> &'static str {
    match (one.state, one.running, one.frozen) {
        (SnapshotState::Damaged, _, _) => "-",
        (_, false, _) => "off",
        (_, true, true) => "frozen",
        (_, true, false) => "halted",
    }
}

/// What is in it, or what is wrong with it.
fn what(one: &SnapshotView) -> String {
    if !one.problem.is_empty() {
        return cell(&one.problem);
    }
    let disks = one.disks.iter().map(|disk| match disk.used {
        Some(used) => format!("{} ({})", disk.path, Bytes(used)),
        None => disk.path.clone(),
    });
    let firmware = one.firmware.then(|| "UEFI variables".to_owned());
    let tpm = one.tpm.then(|| "TPM".to_owned());
    cell(&disks.chain(firmware).chain(tpm).collect::<Vec<_>>().join(", "))
}

pub fn list(view: &SnapshotsView, look: Look) -> String {
    let mut text = if view.snapshots.is_empty() {
        format!("no snapshots of {}\n", view.vm)
    } else {
        let rows = view.snapshots.iter().map(|one| {
            let damaged = one.state == SnapshotState::Damaged;
            let age = if damaged { "-".to_owned() } else { look.age(one.time) };
            [cell(&one.name), age, cell(&one.why), guest(one).into(), state(one.state), what(one)]
        });
        table(["SNAPSHOT", "AGE", "WHY", "GUEST", "STATE", "WHAT"], rows, look) + "\n"
    };
    for note in &view.notes {
        // A string takes what it is given.
        let _ = writeln!(text, "{}: {}", paint::word(Severity::Unknown), printable(note));
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn snapshots() {
        let mut view = samples::snapshots();
        insta::assert_snapshot!(
            "snapshot_list",
            shown(&Reply::Snapshots(view.clone()), Detail::Full)
        );
        view.snapshots.clear();
        view.notes.clear();
        let none = shown(&Reply::Snapshots(view), Detail::Full);
        assert_eq!(none, "no snapshots of gaming\n");
    }
}

//! `hostctl care list`, `pool scrub status`.

use super::table::{cell, table};
use super::{Look, paint};
use crate::ask::view::CareView;
use crate::base::Timestamp;

pub fn list(view: &CareView, look: Look) -> String {
    if view.jobs.is_empty() && view.notes.is_empty() {
        return "no pools and no jobs\n".to_owned();
    }
    let when = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), Timestamp::iso);
    let rows = view.jobs.iter().map(|job| {
        [
            cell(&job.name),
            paint::word(job.health),
            cell(&job.state),
            when(job.last),
            when(job.next),
            cell(&job.message),
        ]
    });
    let mut text =
        table(["JOB", "HEALTH", "STATE", "LAST", "NEXT", "WHAT IS THE CASE"], rows, look);
    text.extend(view.notes.iter().map(|note| format!("{}\n", cell(note))));
    text
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::ask::view::CareView;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn jobs() {
        let reply = Reply::Care(samples::care());
        insta::assert_snapshot!("care_list", shown(&reply, Detail::Full));
        let none = Reply::Care(CareView::default());
        assert_eq!(shown(&none, Detail::Full), "no pools and no jobs\n");
    }
}

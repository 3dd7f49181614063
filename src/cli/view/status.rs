//! `hostctl status`: the host, then what matters, worst first.

use std::fmt::Write;

use super::table::{cell, table};
use super::{Look, paint, printable};
use crate::ask::view::StatusView;

pub fn view(view: &StatusView, look: Look) -> String {
    let mut text = format!(
        "{}  {}  hostd {}, up {}\n",
        printable(&view.host),
        paint::word(view.health),
        printable(&view.version),
        look.age(view.started)
    );
    if !view.lines.is_empty() {
        let rows = view.lines.iter().map(|line| {
            [
                cell(&line.kind),
                cell(&line.name),
                paint::word(line.health),
                cell(&line.state),
                cell(&line.summary),
            ]
        });
        text.push('\n');
        text.push_str(&table(["", "", "", "", ""], rows, look));
        text.push('\n');
    }
    if !view.unavailable.is_empty() {
        text.push_str("\nunavailable:\n");
        for what in &view.unavailable {
            // A string takes what it is given.
            let _ = writeln!(text, "  {}", printable(what));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::cli::samples;
    use crate::cli::view::{Detail, Look, tests::shown, view};

    #[test]
    fn at_a_glance() {
        let reply = Reply::Status(samples::status());
        insta::assert_snapshot!("status", shown(&reply, Detail::Full));
        let narrow = Look { width: Some(72), ..samples::LOOK };
        insta::assert_snapshot!("status_72", view(&reply, Detail::Full, narrow));
    }
}

//! `hostctl doctor`.

use std::fmt::Write;

use super::table::cell;
use super::{Look, paint, printable};
use crate::ask::view::{CheckView, DoctorView};
use crate::base::Severity;

/// Columns when nobody's terminal says how many.
const WIDTH: usize = 100;
/// Less than this beside the margin helps nobody.
const NARROW: usize = 24;

/// Theme by theme; how many are not ok at the end.
pub fn show(view: &DoctorView, look: Look) -> String {
    let width = look.width.map_or(WIDTH, usize::from);
    let mut text = String::new();
    let mut theme = None;
    for check in &view.checks {
        if theme != Some(&check.theme) {
            if theme.is_some() {
                text.push('\n');
            }
            // A string takes what it is given.
            let _ = writeln!(text, "{}", cell(&check.theme));
            theme = Some(&check.theme);
        }
        one(&mut text, check, width);
    }
    text.push('\n');
    let _ = writeln!(text, "{}", sum(&view.checks));
    for note in &view.notes {
        let _ = writeln!(text, "{}", printable(note));
    }
    text
}

fn one(text: &mut String, check: &CheckView, width: usize) {
    let about = match check.object.as_str() {
        "" => cell(&check.title),
        object => format!("{} ({})", cell(&check.title), cell(object)),
    };
    // The widest word is `critical`, and the marks have no width.
    let space = " ".repeat(8 - check.status.as_str().len());
    let lead = format!("  {}{space}  ", paint::word(check.status));
    wrapped(text, &lead, 12, &format!("{about}: {}", cell(&check.evidence)), width);
    if !check.fix.is_empty() {
        wrapped(text, "            fix: ", 17, &cell(&check.fix), width);
    }
}

/// Text behind a lead that takes `margin` columns; the next lines stand below it.
fn wrapped(text: &mut String, lead: &str, margin: usize, words: &str, width: usize) {
    let room = width.saturating_sub(margin);
    let mut line = String::new();
    let mut begin = lead.to_owned();
    let mut close = |line: &mut String| {
        let _ = writeln!(text, "{begin}{line}");
        line.clear();
        begin = " ".repeat(margin);
    };
    for part in words.lines() {
        for word in part.split(' ') {
            let long = line.chars().count() + 1 + word.chars().count() > room;
            if long && room >= NARROW && !line.is_empty() {
                close(&mut line);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        close(&mut line);
    }
}

fn sum(checks: &[CheckView]) -> String {
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let all = [Severity::Critical, Severity::Unknown, Severity::Warning, Severity::Ok];
    let parts = all.into_iter().filter(|status| count(*status) > 0);
    let parts: Vec<String> =
        parts.map(|status| format!("{} {}", count(status), paint::word(status))).collect();
    if parts.is_empty() { "nothing was checked".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::ask::view::DoctorView;
    use crate::cli::samples;
    use crate::cli::view::{Detail, Look, tests::shown, view};

    #[test]
    fn checks() {
        let reply = Reply::Doctor(samples::doctor());
        insta::assert_snapshot!("doctor", shown(&reply, Detail::Full));
        let narrow = Look { width: Some(60), ..samples::LOOK };
        let text = view(&reply, Detail::Full, narrow);
        insta::assert_snapshot!("doctor_60", text);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        let none = Reply::Doctor(DoctorView::default());
        assert_eq!(shown(&none, Detail::Full), "\nnothing was checked\n");
    }

    #[test]
    fn what_was_seen_cannot_talk_to_the_terminal() {
        let mut doctor = samples::doctor();
        doctor.checks[0].evidence = "\u{1b}[31mred\u{2063}\nnext".into();
        let text = shown(&Reply::Doctor(doctor), Detail::Full);
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}

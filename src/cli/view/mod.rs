//! Replies as text: pure functions, snapshot-tested.
//!
//! Names of pools, services and devices come from outside: whatever goes to a
//! terminal has its control characters removed. Only the words of severities
//! are coloured.

mod boot;
mod care;
mod device;
mod disk;
mod doctor;
mod event;
mod gpu;
mod history;
mod iommu;
mod machine;
mod pool;
mod rom;
mod service;
mod snapshot;
mod status;
mod table;
mod usb;
mod vm;

use std::fmt::Write;

pub use history::{csv, local, number};

use clap::builder::styling::{AnsiColor, Style};

use crate::ask::Reply;
use crate::ask::view::{DoneView, PlanView};
use crate::base::{Severity, Timestamp, span};

/// How a view is to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Columns of the terminal; none when nobody looks.
    pub width: Option<u16>,
    /// Colour severities.
    pub color: bool,
    /// What ages are counted from.
    pub now: Timestamp,
}

impl Look {
    /// How long ago: `3h 12m`.
    fn age(self, since: Timestamp) -> String {
        span::show(self.now.since(since))
    }
}

/// How much of a reply is shown: `list` or `status` of the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// One line each.
    List,
    /// All there is.
    Full,
}

/// A reply as text, with its last newline.
pub fn view(reply: &Reply, detail: Detail, look: Look) -> String {
    let text = match (reply, detail) {
        (Reply::Status(view), _) => status::view(view, look),
        (Reply::Doctor(view), _) => doctor::show(view, look),
        (Reply::Iommu(view), Detail::List) => iommu::list(view, look),
        (Reply::Iommu(view), Detail::Full) => iommu::show(view, look),
        (Reply::Quirks(view), _) => gpu::quirks(view, look),
        (Reply::Rom(view), _) => rom::show(view, look),
        (Reply::RomDump(view), _) => rom::show(&view.rom, look),
        (Reply::Gpus(view), _) => gpu::list(view, look),
        (Reply::BootPlan(view), _) => boot::plan(view),
        (Reply::BootStatus(view), _) => boot::status(view, look),
        (Reply::Vms(view), Detail::List) => vm::list(view, look),
        (Reply::Vms(view), Detail::Full) => vm::show(view, look),
        (Reply::VmPlan(view), _) => vm::plan(view),
        (Reply::VmArgv(view), _) => printable(&view.command),
        (Reply::Snapshots(view), _) => snapshot::list(view, look),
        // They are no documents for people.
        (Reply::Console(_) | Reply::ConsoleData(_), _) => String::new(),
        (Reply::Screenshot(view), _) => vm::screenshot(view),
        (Reply::Log(view), _) => printable(&view.text),
        (Reply::Usb(view), _) => usb::list(view, look),
        (Reply::Pools(view), Detail::List) => pool::list(view, look),
        (Reply::Pools(view), Detail::Full) => pool::show(view, look),
        (Reply::Care(view), _) => care::list(view, look),
        (Reply::Disks(view), Detail::List) => disk::list(view, look),
        (Reply::Disks(view), Detail::Full) => disk::show(view, look),
        (Reply::Machine(view), _) => machine::list(view, look),
        (Reply::Services(view), Detail::Full) => service::show(view, look),
        (Reply::Services(view), Detail::List) => service::list(view, look),
        // It is printed as it comes.
        (Reply::Tail(view), _) => view.events.iter().map(event::line).collect(),
        (Reply::HistoryList(view), _) => history::list(view, look),
        (Reply::History(view), _) => history::show(view, look),
        (Reply::Events(view), _) => event::list(view, look),
        (Reply::Replay(view), _) => event::replay(view, look),
        (Reply::Plan(view), _) => plan(view),
        (Reply::Done(view), _) => done(view),
    };
    let text = paint::paint(&text, look.color);
    if text.is_empty() || text.ends_with('\n') { text } else { text + "\n" }
}

fn plan(view: &PlanView) -> String {
    let mut text = String::new();
    for (number, step) in (1..).zip(&view.steps) {
        // A string takes what it is given.
        let _ = writeln!(text, "{number:>2}. {}", printable(step));
    }
    if view.steps.is_empty() {
        text.push_str("nothing to do\n");
    }
    for warning in &view.warnings {
        let _ = writeln!(text, "{}: {}", paint::word(Severity::Warning), printable(warning));
    }
    text
}

fn done(view: &DoneView) -> String {
    printable(&view.message)
}

/// Text without what a terminal would obey: control characters, and those that
/// turn the direction of text around.
pub fn printable(text: &str) -> String {
    let turns = |c: &char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = |c: &char| matches!(c, '\n' | '\t') || !(c.is_control() || turns(c));
    text.chars().filter(plain).collect()
}

/// Severities are marked while the text is laid out, and coloured at the end:
/// the marks have no width.
mod paint {
    use super::{AnsiColor, Severity, Style};

    const BEGIN: char = '\u{2063}';
    const END: char = '\u{2064}';

    /// The word, marked.
    pub fn word(severity: Severity) -> String {
        mark(severity, severity.as_str())
    }

    /// Another word that stands for a severity, marked: `DEGRADED`.
    pub fn mark(severity: Severity, word: &str) -> String {
        // The number of begin marks says which colour.
        let begin = match severity {
            Severity::Ok => 1,
            Severity::Warning => 2,
            Severity::Unknown => 3,
            Severity::Critical => 4,
        };
        let word: String = super::printable(word).chars().filter(|c| *c != END).collect();
        format!("{}{word}{END}", BEGIN.to_string().repeat(begin))
    }

    fn style(marks: usize) -> Style {
        let color = match marks {
            0 | 1 => AnsiColor::Green,
            2 => AnsiColor::Yellow,
            3 => AnsiColor::Magenta,
            _ => AnsiColor::Red,
        };
        Style::new().fg_color(Some(color.into()))
    }

    /// Marks become colours, or nothing.
    pub fn paint(text: &str, color: bool) -> String {
        let mut painted = String::with_capacity(text.len());
        let mut marks = 0;
        for c in text.chars() {
            match c {
                BEGIN => marks += 1,
                END => {
                    if color {
                        painted.push_str(&style(marks).render_reset().to_string());
                    }
                    marks = 0;
                }
                other => {
                    let first = marks > 0 && marks < MARKED;
                    if first && color {
                        painted.push_str(&style(marks).render().to_string());
                    }
                    if first {
                        marks += MARKED;
                    }
                    painted.push(other);
                }
            }
        }
        painted
    }

    /// Added to the marks once the colour is on.
    const MARKED: usize = 8;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples;

    pub(super) fn shown(reply: &Reply, detail: Detail) -> String {
        view(reply, detail, samples::LOOK)
    }

    #[test]
    fn terminals_are_not_obeyed() {
        let mut vms = samples::vms();
        vms.vms[0].reason = "\u{1b}]0;pwned\u{7}\u{1b}[31mred\u{2063}".into();
        let shown = shown(&Reply::Vms(vms), Detail::List);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'), "{shown:?}");
    }

    #[test]
    fn only_severities_are_coloured() {
        let look = Look { color: true, ..samples::LOOK };
        let colored = view(&Reply::Status(samples::status()), Detail::Full, look);
        insta::assert_snapshot!(
            "status_color",
            colored.escape_debug().to_string().replace("\\n", "\n")
        );
        let plain = shown(&Reply::Status(samples::status()), Detail::Full);
        assert_eq!(anstream::adapter::strip_str(&colored).to_string(), plain);
    }

    #[test]
    fn plans_and_deeds() {
        insta::assert_snapshot!("plan", shown(&Reply::Plan(samples::plan()), Detail::Full));
        insta::assert_snapshot!("done", shown(&Reply::Done(samples::done()), Detail::Full));
        let none = Reply::Plan(PlanView::default());
        assert_eq!(shown(&none, Detail::Full), "nothing to do\n");
    }
}

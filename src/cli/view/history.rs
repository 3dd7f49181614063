//! `hostctl history list` and `history show`.

use std::fmt::Write;

use jiff::tz::Offset;

use super::table::{cell, indent, table};
use super::{Look, paint};
use crate::ask::view::{HistoryListView, HistoryView, KeepingView, MonthView};
use crate::base::{Bytes, Severity, Timestamp, span};

/// Columns of the line of blocks.
const BLOCKS: usize = 60;
/// Intervals that are shown: the latest.
const INTERVALS: usize = 20;

/// A state, coloured when it is one of ours.
fn state(word: &str) -> String {
    let severity = match word {
        "ok" => Severity::Ok,
        "warning" => Severity::Warning,
        "critical" => Severity::Critical,
        "unknown" | "expired" => Severity::Unknown,
        // A sender's own word is not judged.
        _ => return cell(word),
    };
    paint::mark(severity, word)
}

/// A number in about four digits.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let (scaled, unit) = match size {
        _ if size >= 1e15 => return format!("{value:.2e}"),
        _ if size >= 1e12 => (value / 1e12, "T"),
        _ if size >= 1e9 => (value / 1e9, "G"),
        _ if size >= 1e6 => (value / 1e6, "M"),
        _ if size >= 1e4 => (value / 1e3, "k"),
        _ if size > 0.0 && size < 1e-4 => return format!("{value:.2e}"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        s if s >= 1000.0 => 0,
        s if s >= 100.0 => 1,
        s if s >= 10.0 => 2,
        s if s >= 1.0 => 3,
        _ => 4,
    };
    let text = format!("{scaled:.digits$}");
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// A moment in the local time of hostd's machine.
pub fn local(at: Timestamp, offset: i32, form: &str) -> String {
    let offset = Offset::from_seconds(offset).unwrap_or(Offset::UTC);
    let at = jiff::Timestamp::from_second(at.secs()).unwrap_or_default();
    offset.to_datetime(at).strftime(form).to_string()
}

pub fn list(view: &HistoryListView, look: Look) -> String {
    let rows = view.series.iter().map(|one| {
        [
            cell(if one.host.is_empty() { "-" } else { &one.host }),
            cell(if one.service.is_empty() { "-" } else { &one.service }),
            one.state.as_deref().map_or_else(|| "-".to_owned(), state),
            one.since.map_or_else(|| "-".to_owned(), |since| look.age(since)),
            one.value.map_or_else(|| "-".to_owned(), number),
            one.last.map_or_else(|| "-".to_owned(), |last| look.age(last)),
        ]
    });
    let mut text = match view.series.as_slice() {
        [] => "nothing is kept that matches\n".to_owned(),
        _ => table(["HOST", "SERVICE", "STATE", "FOR", "NUMBER", "AGE"], rows, look) + "\n",
    };
    text.push_str(&keeping(&view.keeping));
    text
}

fn keeping(keeping: &KeepingView) -> String {
    let size = Bytes(keeping.bytes).mib();
    let mut text = format!("{} series in {size} MiB\n", keeping.series);
    let said = keeping.problem.iter().chain(&keeping.moved).chain(&keeping.notes);
    for said in said {
        let _ = writeln!(text, "{}: {}", paint::word(Severity::Warning), cell(said));
    }
    text
}

/// The means as a line of blocks, as wide as the time; a gap where nothing was seen.
fn blocks(view: &HistoryView) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let span = (view.to.0 - view.from.0).max(1) as f64;
    let mut sums = [(0.0, 0_u32); BLOCKS];
    for point in &view.points {
        let middle = (point.time.0 - view.from.0) as f64 + view.step as f64 * 5e5;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
        let at = ((middle / span * BLOCKS as f64) as usize).min(BLOCKS - 1);
        sums[at] = (sums[at].0 + point.mean, sums[at].1 + 1);
    }
    let means: Vec<_> = sums.iter().map(|(sum, n)| (*n > 0).then(|| sum / f64::from(*n))).collect();
    let known = || means.iter().flatten().copied();
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::MIN, f64::max));
    let block = |mean: &Option<f64>| {
        let Some(mean) = mean else { return ' ' };
        let part = if high > low { (mean - low) / (high - low) } else { 0.0 };
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 7")]
        let at = (part * 7.0).round() as usize;
        LEVELS.get(at).copied().unwrap_or('█')
    };
    means.iter().map(block).collect::<String>().trim_end().to_owned()
}

pub fn show(view: &HistoryView, look: Look) -> String {
    let at = |at: Timestamp| local(at, view.offset, "%a %Y-%m-%d %H:%M");
    let mut text = format!(
        "{} on {}, {} to {}\n",
        cell(&view.service),
        cell(&view.host),
        at(view.from),
        at(view.to)
    );
    if let Some(whole) = &view.whole {
        let step = span::show(std::time::Duration::from_secs(view.step.unsigned_abs()));
        let _ = writeln!(text, "\n  {}", blocks(view));
        let heads = ["MIN", "MEAN", "MAX", "P50", "P95", "P99", "NUMBERS"];
        let of = [whole.min, whole.mean, whole.max, whole.p50, whole.p95, whole.p99].map(number);
        let [min, mean, max, p50, p95, p99] = of;
        let row = [min, mean, max, p50, p95, p99, whole.count.to_string()];
        text.push_str(&indent(&table(heads, [row], look), 2));
        let exact = match view.error {
            error if error > 0.0 => format!("percentiles within {} %", number(error * 100.0)),
            _ => "percentiles exact".to_owned(),
        };
        let _ = writeln!(text, "  {} points of {step}; {exact}", view.points.len());
    } else {
        text.push_str("\n  no numbers\n");
    }
    if !view.states.is_empty() {
        let hidden = view.states.len().saturating_sub(INTERVALS);
        if hidden > 0 {
            let _ = writeln!(text, "\n  {hidden} earlier intervals are in --json");
        }
        let rows = view.states[hidden..].iter().map(|one| {
            [
                at(one.since),
                if one.open { String::new() } else { at(one.until) },
                state(&one.state),
                cell(&one.words),
            ]
        });
        let states = table(["FROM", "TO", "STATE", ""], rows, look);
        let _ = write!(text, "\n{}", indent(&states, 2));
    }
    if !view.months.is_empty() {
        let rows = view.months.iter().map(month_row);
        let months = table(["MONTH", "AVAILABLE", "KNOWN", "NOT OK"], rows, look);
        let _ = write!(text, "\n{}", indent(&months, 2));
    }
    text
}

fn month_row(month: &MonthView) -> [String; 4] {
    let age = |seconds: i64| span::show(std::time::Duration::from_secs(seconds.unsigned_abs()));
    let bad = month.states.iter().filter(|one| one.state != "ok");
    let bad: Vec<_> = bad.map(|one| format!("{} {}", cell(&one.state), age(one.seconds))).collect();
    [
        cell(&month.month),
        month.availability.map_or_else(|| "-".to_owned(), |part| format!("{:.3} %", part * 100.0)),
        age(month.known),
        bad.join(", "),
    ]
}

/// The points as comma-separated values; times are UTC.
pub fn csv(view: &HistoryView) -> String {
    let mut text = "time,min,max,mean,count,p50,p95,p99\n".to_owned();
    for p in &view.points {
        let (time, count) = (p.time.iso(), p.count);
        let _ = writeln!(
            text,
            "{time},{},{},{},{count},{},{},{}",
            p.min, p.max, p.mean, p.p50, p.p95, p.p99
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Reply;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn history() {
        let reply = Reply::HistoryList(samples::history_list());
        insta::assert_snapshot!("history_list", shown(&reply, Detail::List));
        let reply = Reply::History(samples::history());
        insta::assert_snapshot!("history_show", shown(&reply, Detail::Full));
        insta::assert_snapshot!("history_csv", csv(&samples::history()));
        let none = Reply::History(HistoryView { whole: None, ..HistoryView::default() });
        assert!(shown(&none, Detail::Full).contains("no numbers"));
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.0, 0.125, 1.5, 42.0, 999.5, 1234.0, 5e4, 1.5e9, -2.5e13, 3e-7, 1e20];
        let shown: Vec<_> = all.into_iter().map(number).collect();
        let wanted = [
            "0", "0.125", "1.5", "42", "999.5", "1234", "50k", "1.5G", "-25T", "3.00e-7", "1.00e20",
        ];
        assert_eq!(shown, wanted);
    }
}

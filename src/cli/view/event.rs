//! `hostctl event query`, `hostctl event test-stream`.

use super::table::{cell, table};
use super::{Look, paint};
use crate::ask::view::{EventView, EventsView, ReplayView};
use crate::base::{Severity, Timestamp};

fn state(event: &EventView) -> String {
    let Some(state) = &event.state else { return "-".to_owned() };
    let severity = match state.as_str() {
        "ok" => Severity::Ok,
        "warning" => Severity::Warning,
        "critical" => Severity::Critical,
        "unknown" | "expired" => Severity::Unknown,
        // A sender's own word is not judged.
        _ => return cell(state),
    };
    paint::mark(severity, state)
}

fn or_dash(text: Option<&str>) -> String {
    cell(text.unwrap_or("-"))
}

fn age(event: &EventView, look: Look) -> String {
    match event.time {
        None => "-".to_owned(),
        Some(secs) => look.age(Timestamp::from_secs_f64(secs)),
    }
}

pub fn list(view: &EventsView, look: Look) -> String {
    if view.events.is_empty() {
        return "no events match\n".to_owned();
    }
    let rows = view.events.iter().map(|event| {
        [
            or_dash(event.host.as_deref()),
            or_dash(event.service.as_deref()),
            state(event),
            event.metric.map_or_else(|| "-".to_owned(), |metric| metric.to_string()),
            age(event, look),
            cell(event.description.as_deref().unwrap_or("")),
        ]
    });
    table(["HOST", "SERVICE", "STATE", "METRIC", "AGE", "DESCRIPTION"], rows, look)
}

/// One event on a line, with its time.
pub fn line(event: &EventView) -> String {
    let time =
        event.time.map_or_else(|| "-".to_owned(), |secs| Timestamp::from_secs_f64(secs).iso());
    let metric = event.metric.map_or_else(|| "-".to_owned(), |metric| metric.to_string());
    let words = [
        time,
        or_dash(event.host.as_deref()),
        or_dash(event.service.as_deref()),
        state(event),
        metric,
        cell(event.description.as_deref().unwrap_or("")),
    ];
    words.join("  ").trim_end().to_owned() + "\n"
}

/// What came out of the streams.
pub fn replay(view: &ReplayView, look: Look) -> String {
    let rows = view.outputs.iter().map(|came| {
        let event = &came.event;
        let at = Timestamp::from_secs_f64(came.at);
        [
            at.iso(),
            cell(&came.to),
            or_dash(event.host.as_deref()),
            or_dash(event.service.as_deref()),
            state(event),
            event.metric.map_or_else(|| "-".to_owned(), |metric| metric.to_string()),
            cell(event.description.as_deref().unwrap_or("")),
        ]
    });
    let heads = ["AT", "TO", "HOST", "SERVICE", "STATE", "METRIC", "DESCRIPTION"];
    let mut text = if view.outputs.is_empty() {
        "nothing came out\n".to_owned()
    } else {
        table(heads, rows, look)
    };
    for (count, what) in [
        (view.more, "more came out"),
        (view.refused, "were refused: their host and service is hostd's own"),
        (view.lost, "were lost to the bounds of the streams"),
    ] {
        if count > 0 {
            text = text.trim_end().to_owned() + &format!("\n{count} {what}\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::ask::view::{EventsView, TailView};
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn events() {
        let reply = Reply::Events(samples::events());
        insta::assert_snapshot!("event_query", shown(&reply, Detail::List));
        let tail = TailView { events: samples::events().events, ..TailView::default() };
        insta::assert_snapshot!("event_tail", shown(&Reply::Tail(tail), Detail::List));
        let none = Reply::Events(EventsView::default());
        assert_eq!(shown(&none, Detail::List), "no events match\n");
    }

    #[test]
    fn what_came_out_of_streams() {
        let reply = Reply::Replay(samples::replay());
        insta::assert_snapshot!("event_test_stream", shown(&reply, Detail::Full));
        let none = Reply::Replay(crate::ask::view::ReplayView::default());
        assert_eq!(shown(&none, Detail::Full), "nothing came out\n");
    }
}

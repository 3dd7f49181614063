//! Replies about what was.

use super::ago;
use crate::ask::view::{
    HistoryListView, HistorySeriesView, HistoryView, IntervalView, KeepingView, MonthView,
    PointView, StateTimeView,
};

pub fn history_list() -> HistoryListView {
    let one = |service: &str, state: &str, value| HistorySeriesView {
        host: "nas".into(),
        service: service.into(),
        state: Some(state.into()),
        since: Some(ago(11_520)),
        value,
        last: Some(ago(3)),
    };
    HistoryListView {
        series: vec![
            one("cpu", "ok", Some(0.0712)),
            one("zpool tank health", "warning", Some(1.0)),
            one("backup", "done", None),
        ],
        keeping: KeepingView {
            series: 3,
            bytes: 12 << 20,
            notes: vec!["7 events more than an hour late, or ahead of the clock".into()],
            ..KeepingView::default()
        },
    }
}

pub fn history() -> HistoryView {
    let point = |at: i64| {
        let mean = 0.1 + 0.01 * ((at * 7) % 30) as f64;
        PointView {
            time: ago(86_400 - at * 3_600),
            min: mean / 2.0,
            max: mean * 2.0,
            mean,
            count: 720,
            p50: mean * 0.9,
            p95: mean * 1.5,
            p99: mean * 1.75,
        }
    };
    let interval = |state: &str, since, until, open, words: &str| IntervalView {
        state: state.into(),
        since: ago(since),
        until: ago(until),
        open,
        words: words.into(),
    };
    let time = |state: &str, seconds| StateTimeView { state: state.into(), seconds };
    HistoryView {
        host: "nas".into(),
        service: "cpu".into(),
        from: ago(86_400),
        to: ago(0),
        offset: 3_600,
        step: 3_600,
        points: (0..24).filter(|at| !(10..13).contains(at)).map(point).collect(),
        whole: Some(PointView { count: 15_120, ..point(3) }),
        error: 0.02,
        states: vec![
            interval("ok", 86_400, 40_000, false, "for 12 h 53 min on Tuesday, 17 November 2026"),
            interval(
                "critical",
                40_000,
                28_480,
                false,
                "for 3 h 12 min on Tuesday, 17 November 2026",
            ),
            interval(
                "ok",
                28_480,
                0,
                true,
                "for 7 h 54 min, since Tuesday, 17 November 2026 22:12",
            ),
        ],
        months: vec![MonthView {
            month: "2026-11".into(),
            availability: Some(74_880.0 / 86_400.0),
            known: 86_400,
            states: vec![time("critical", 11_520), time("ok", 74_880)],
        }],
    }
}

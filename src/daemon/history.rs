//! The history: events from the index go in, asks are answered.

use std::time::Duration;

use jiff::Zoned;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use crate::ask::view::{
    HistoryListView, HistorySeriesView, HistoryView, IntervalView, KeepingView, MonthView,
    PointView, StateTimeView,
};
use crate::ask::{Answer, Code, Refusal, Reply};
use crate::base::{Timestamp, span};
use crate::host::Host;
use crate::query::Query;
use crate::riemann::Inlet;
use crate::sink::history::intervals::{self, Interval};
use crate::sink::history::reader::ReadError;
use crate::sink::history::{History, Point, Reader, Status, Summary};
use crate::state::Fact;

/// Events that may wait; the history takes them many at a time.
pub(super) const CAPACITY: usize = 16_384;
/// Events taken at one time.
const AT_ONCE: usize = 2048;
/// How often buckets are sealed.
const TICK: Duration = Duration::from_secs(5);
/// How long what was left out is told.
const LATELY: Duration = Duration::from_secs(600);
/// Points of an answer at most.
const POINTS: u32 = 5000;
/// Intervals of an answer at most: the latest.
const INTERVALS: usize = 1000;
/// Series of a list at most.
const SERIES: usize = 20_000;

/// What answers questions about the past.
#[derive(Clone)]
pub(super) struct Past {
    pub(super) reader: Reader,
    pub(super) keeping: watch::Receiver<KeepingView>,
}

/// Until hostd goes down; then what is there is written.
pub(super) async fn run(
    shared: Shared,
    mut inlet: Inlet,
    mut history: History,
    keeping: watch::Sender<KeepingView>,
    down: watch::Receiver<bool>,
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let clock = std::sync::Arc::clone(&shared.host.clock);
    let facts = shared.facts.clone();
    // The daemon waits for who holds it.
    drop(shared);
    let mut lately = Lately::default();
    let stop = super::ports::stopped(down);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            events = inlet.some(AT_ONCE) => history.take(&events, clock.now()),
            _ = ticks.tick() => {
                history.tick(clock.now());
                let mut view = view(history.status(), inlet.lost());
                view.notes = lately.notes(&view, clock.now());
                if *keeping.borrow() != view {
                    keeping.send_replace(view.clone());
                    // The writer is gone only at the very end.
                    let _ = facts.send(Fact::History(view)).await;
                }
            }
            () = &mut stop => break,
        }
    }
    drop(facts);
    history.take(&inlet.now(CAPACITY), clock.now());
    history.end(clock.now()).await;
}

/// What was left out lately: the counts some minutes ago.
#[derive(Default)]
struct Lately {
    at: Timestamp,
    before: KeepingView,
    last: KeepingView,
}

impl Lately {
    /// What is to be told of `view`.
    fn notes(&mut self, view: &KeepingView, now: Timestamp) -> Vec<String> {
        if now < self.at || now.since(self.at) >= LATELY / 2 {
            self.before = std::mem::replace(&mut self.last, view.clone());
            self.at = now;
        }
        let counts = [
            (
                view.refused - self.before.refused,
                "events refused: there are as many series as `history.max-series` allows",
            ),
            (view.no_number - self.before.no_number, "numbers that are none, or infinite"),
            (view.late - self.before.late, "events more than an hour late, or ahead of the clock"),
            (
                view.dropped - self.before.dropped,
                "dropped: they came too fast, or could not be written in time",
            ),
        ];
        let told = counts.into_iter().filter(|(count, _)| *count > 0);
        told.map(|(count, what)| format!("{count} {what}")).collect()
    }
}

fn view(status: Status, lost: u64) -> KeepingView {
    let Status { series, counters, waiting, bytes, problem, moved } = status;
    KeepingView {
        series: series as u64,
        bytes,
        waiting: waiting as u64,
        refused: counters.refused,
        no_number: counters.no_number,
        late: counters.late,
        dropped: counters.dropped + lost,
        problem,
        moved,
        notes: Vec::new(),
    }
}

fn off() -> Refusal {
    let hint = "remove `keep: off` under `history:` in host.yaml";
    Refusal::new(Code::Refused, "no history is kept", hint)
}

/// `HistoryList`.
pub(super) fn list(past: Option<&Past>, query: &str) -> Answer {
    let past = past.ok_or_else(off)?;
    let query: Query = query.parse().map_err(|error| {
        Refusal::new(Code::Usage, format!("{error}"), "for example: service =~ \"cpu%\"")
    })?;
    let mut all = past.reader.list(&query);
    all.truncate(SERIES);
    let series = all.into_iter().map(|one| HistorySeriesView {
        host: one.host,
        service: one.service,
        state: one.state,
        since: one.since.map(Timestamp::from_secs),
        value: one.value,
        last: one.last.map(Timestamp::from_secs),
    });
    let keeping = past.keeping.borrow().clone();
    Ok(Reply::HistoryList(HistoryListView { series: series.collect(), keeping }))
}

/// `HistoryShow`.
pub(super) async fn show(
    shared: &Shared,
    (service, host): (String, Option<String>),
    (since, until): (&str, &str),
    points: u32,
) -> Answer {
    let past = shared.past.as_ref().ok_or_else(off)?;
    let own = shared.snapshot.borrow().host.clone();
    let host = whose(&past.reader, &service, host, own)?;
    let zone = zone(&shared.host).await;
    let now = shared.host.clock.now();
    // The second that is now counts as well.
    let now = now.plus(Duration::from_secs(1));
    let to = if until.is_empty() { now } else { moment(until, now, &zone)? };
    let from = moment(if since.is_empty() { "1d" } else { since }, now, &zone)?;
    if from >= to {
        let message = "it would end before it begins";
        return Err(Refusal::new(Code::Usage, message, "give an earlier --since"));
    }
    let points = if points == 0 { 200 } else { points.min(POINTS) };
    let series = past.reader.series(&host, &service, (from, to), points, now).await;
    let series = series.map_err(|error| refused(&error))?;
    let states = past.reader.states(&host, &service, (from, to), now).await;
    let states = states.map_err(|error| refused(&error))?;
    let months = intervals::months(&states, &zone).into_iter().map(|month| MonthView {
        availability: month.availability(),
        known: month.known(),
        month: month.month,
        states: month
            .states
            .into_iter()
            .map(|(state, seconds)| StateTimeView { state, seconds })
            .collect(),
    });
    let offset = jiff::Timestamp::from_second(to.secs()).map(|at| zone.to_offset(at).seconds());
    let shown = states.len().saturating_sub(INTERVALS);
    Ok(Reply::History(HistoryView {
        host,
        service,
        from,
        to,
        offset: offset.unwrap_or(0),
        step: series.step,
        points: series.points.iter().map(|Point { time, summary }| point(*time, summary)).collect(),
        whole: (series.whole.count > 0).then(|| point(from.secs(), &series.whole)),
        error: series
            .points
            .iter()
            .map(|point| point.summary.error)
            .fold(series.whole.error, f64::max),
        months: months.collect(),
        states: states[shown..].iter().map(|one| told(one, &zone)).collect(),
    }))
}

fn point(time: i64, of: &Summary) -> PointView {
    let Summary { min, max, mean, count, p50, p95, p99, error: _ } = *of;
    PointView { time: Timestamp::from_secs(time), min, max, mean, count, p50, p95, p99 }
}

fn told(one: &Interval, zone: &TimeZone) -> IntervalView {
    IntervalView {
        state: one.state.clone(),
        since: Timestamp::from_secs(one.since),
        until: Timestamp::from_secs(one.until),
        open: one.open,
        words: intervals::words(one, zone),
    }
}

fn refused(error: &ReadError) -> Refusal {
    Refusal::new(Code::Failed, error.to_string(), "`hostctl history list` tells how it goes")
}

/// The host that is meant: our own, or the only one with that service.
fn whose(
    reader: &Reader,
    service: &str,
    host: Option<String>,
    own: String,
) -> Result<String, Refusal> {
    let missing = |what: String| {
        let hint = "`hostctl history list` lists all";
        Refusal::new(Code::NotFound, format!("nothing is known of {what}"), hint)
    };
    match host {
        Some(host) if reader.has(&host, service) => return Ok(host),
        Some(host) => return Err(missing(format!("`{service}` on {host}"))),
        None if reader.has(&own, service) => return Ok(own),
        None => {}
    }
    let all = reader.list(&Query::all());
    let hosts: Vec<_> = all.into_iter().filter(|o| o.service == service).map(|o| o.host).collect();
    match hosts.as_slice() {
        [] => Err(missing(format!("`{service}`"))),
        [one] => Ok(one.clone()),
        more => {
            let message = format!("several hosts have `{service}`: {}", more.join(", "));
            Err(Refusal::new(Code::Usage, message, "name one with --on"))
        }
    }
}

/// The machine's time zone.
async fn zone(host: &Host) -> TimeZone {
    let sys = host.sys.clone();
    let read = tokio::task::spawn_blocking(move || {
        let bytes = sys.resolve("/etc/localtime").and_then(|at| sys.bytes(at, 1 << 16)).ok();
        bytes.and_then(|bytes| TimeZone::tzif("local", &bytes).ok())
    });
    read.await.ok().flatten().unwrap_or(TimeZone::UTC)
}

/// `2d` (ago), `2026-11-17`, `2026-11-17T14:00`, in the machine's time zone.
fn moment(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, Refusal> {
    let days = |text: &str, unit: char, days: u64| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(days * 86_400)
    };
    let ago = span::parse(text).ok().map(|ago| ago.as_secs());
    let ago = ago.or_else(|| days(text, 'w', 7)).or_else(|| days(text, 'y', 365));
    if let Some(ago) = ago {
        let ago = i64::try_from(ago).unwrap_or(i64::MAX).min(now.secs());
        return Ok(Timestamp::from_secs(now.secs() - ago));
    }
    let at: Option<Zoned> = if let Ok(at) = text.parse::<jiff::Timestamp>() {
        Some(at.to_zoned(zone.clone()))
    } else {
        let civil = text.parse::<DateTime>().ok();
        let civil = civil.or_else(|| text.parse::<Date>().ok().map(DateTime::from));
        civil.and_then(|civil| civil.to_zoned(zone.clone()).ok())
    };
    at.map(|at| Timestamp::from_secs(at.timestamp().as_second())).ok_or_else(|| {
        let text: String = text.chars().take(40).collect();
        let hint = "write how long ago (90m, 2d, 3w, 1y), or a date such as 2026-11-17 or 2026-11-17T14:00";
        Refusal::new(Code::Usage, format!("`{text}` is no moment"), hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_ages_or_local_dates() {
        let now = Timestamp::from_secs(1_795_000_000);
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at = |text: &str| moment(text, now, &zone).map(Timestamp::secs);
        assert_eq!(at("2d"), Ok(1_795_000_000 - 172_800));
        assert_eq!(at("1w"), Ok(1_795_000_000 - 604_800));
        assert_eq!(at("2026-07-01").unwrap() % 86_400, 22 * 3_600);
        assert_eq!(at("2026-12-01T14:00").unwrap() % 86_400, 13 * 3_600);
        assert_eq!(at("2026-12-01T14:00Z").unwrap() % 86_400, 14 * 3_600);
        for wrong in ["", "yesterday", "2026-13-01", "-2d"] {
            assert_eq!(at(wrong).unwrap_err().code, Code::Usage, "{wrong}");
        }
    }
}

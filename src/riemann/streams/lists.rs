//! Operators that make lists of events, `coalesce`, `project`, the windows by
//! the events' own times; and `fold`, which makes one event of a list.
//!
//! Unlike in the reference, an empty window is no list, and a difference or
//! quotient of which a part is missing is no event.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::held::{Buffer, EVENTS_OF_ONE, Held};
use super::numbers::{add, place, sort, subtract};
use super::step::{Cx, Memory, Rest, Steps};
use super::timer::{UntilExpired, is_expired, micros};
use crate::base::{Event, Metric, Timestamp};
use crate::config::Fold;
use crate::query::Query;
use crate::riemann::index::expired;

type Key = (Option<String>, Option<String>);

/// The last event of each host and service.
pub struct Coalesce {
    timer: UntilExpired,
    last: BTreeMap<Key, Arc<Event>>,
}

impl Coalesce {
    /// Before the first event.
    pub fn new(every: Duration) -> Self {
        Self { timer: UntilExpired::at_once(every), last: BTreeMap::new() }
    }
}

impl Memory for Coalesce {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, _then: &mut Steps) {
        let key = (event.host.clone(), event.service.clone());
        if self.last.len() < EVENTS_OF_ONE || self.last.contains_key(&key) {
            self.last.insert(key, Arc::clone(event));
        } else {
            cx.held.lost.add(1);
        }
        self.timer.push(event, cx.now);
    }

    fn due(&self) -> Timestamp {
        self.timer.due()
    }

    fn fire(&mut self, cx: &mut Cx<'_>, then: &mut Steps) {
        if !self.timer.fire(cx.now, cx.real) {
            return;
        }
        let all: Vec<Arc<Event>> = self.last.values().cloned().collect();
        let now = cx.now;
        self.last.retain(|_, event| !is_expired(event, now));
        if !all.is_empty() {
            then.push_list(&all, true, cx);
        }
    }
}

/// The events of the last so long.
pub struct MovingTime {
    span: i64,
    cutoff: Timestamp,
    window: Buffer,
}

impl MovingTime {
    /// Before the first event.
    pub fn new(span: Duration, held: &Arc<Held>) -> Self {
        let cutoff = Timestamp(i64::MIN);
        Self { span: micros(span), cutoff, window: Buffer::new(held) }
    }
}

impl Memory for MovingTime {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        // One from the future would push all others out.
        let time = event.time.unwrap_or(cx.now).min(cx.now);
        self.cutoff = self.cutoff.max(Timestamp(time.0.saturating_sub(self.span)));
        let cutoff = self.cutoff;
        if time <= cutoff {
            return;
        }
        self.window.push(event);
        self.window.retain(|event| event.time.is_none_or(|time| time > cutoff));
        then.push_list(self.window.all(), true, cx);
    }

    fn rest(&self) -> Rest {
        if self.window.is_empty() { Rest::Free } else { Rest::Day }
    }
}

/// The events of one span after the other.
pub struct FixedTime {
    span: i64,
    start: Option<Timestamp>,
    window: Buffer,
}

impl FixedTime {
    /// Before the first event.
    pub fn new(span: Duration, held: &Arc<Held>) -> Self {
        Self { span: micros(span), start: None, window: Buffer::new(held) }
    }
}

impl Memory for FixedTime {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        let time = event.time.unwrap_or(cx.now).min(cx.now);
        let start = *self.start.get_or_insert(time);
        if time < start {
            return;
        }
        let past = time.0.saturating_sub(start.0) / self.span;
        if past > 0 {
            self.start = Some(Timestamp(start.0.saturating_add(past.saturating_mul(self.span))));
            let window = self.window.take();
            if !window.is_empty() {
                then.push_list(&window, true, cx);
            }
        }
        self.window.push(event);
    }

    fn rest(&self) -> Rest {
        if self.window.is_empty() { Rest::Free } else { Rest::Day }
    }
}

/// The last event of each of several queries.
pub struct Project {
    queries: Vec<Query>,
    last: Vec<Option<Arc<Event>>>,
}

impl Project {
    /// Before the first event.
    pub fn new(queries: &[Query]) -> Self {
        Self { queries: queries.to_vec(), last: vec![None; queries.len()] }
    }
}

impl Memory for Project {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        let mut matches = false;
        for (query, last) in self.queries.iter().zip(&mut self.last) {
            if query.matches(event) {
                *last = Some(Arc::clone(event));
                matches = true;
            }
        }
        if !matches {
            return;
        }
        let now = cx.now;
        let whole = self.last.iter().all(Option::is_some);
        let current = |event: &Arc<Event>| {
            if is_expired(event, now) { Arc::new(expired(event, now)) } else { Arc::clone(event) }
        };
        let all: Vec<Arc<Event>> = self.last.iter().flatten().map(current).collect();
        for last in &mut self.last {
            last.take_if(|event| is_expired(event, now));
        }
        then.push_list(&all, whole, cx);
    }
}

/// One event of a list: the first one with what comes of the metrics and the
/// latest time, or the one that is chosen. `whole` when none is missing.
pub fn fold(how: Fold, events: &[Arc<Event>], whole: bool) -> Option<Arc<Event>> {
    let metrics: Vec<Metric> = events.iter().filter_map(|event| event.metric).collect();
    let numbers = || metrics.iter().map(|metric| metric.as_f64());
    let count = metrics.len() as f64;
    let all = whole && metrics.len() == events.len();
    let chosen = |place: fn(usize) -> usize| {
        let mut events: Vec<_> = events.iter().filter(|e| e.metric.is_some()).cloned().collect();
        sort(&mut events);
        events.get(place(events.len())).cloned()
    };
    let metric = match how {
        Fold::Count => Metric::Int(i64::try_from(events.len()).unwrap_or(i64::MAX)),
        _ if metrics.is_empty() => return None,
        Fold::Sum => metrics.iter().copied().reduce(add)?,
        Fold::Product => metrics.iter().copied().reduce(multiply)?,
        Fold::Difference if all => metrics.iter().copied().reduce(subtract)?,
        Fold::Quotient if all => {
            let quotient = numbers().reduce(|a, b| a / b)?;
            quotient.is_finite().then_some(Metric::Double(quotient))?
        }
        Fold::Difference | Fold::Quotient => return None,
        Fold::Mean => Metric::Double(numbers().sum::<f64>() / count),
        Fold::StdDev => {
            let mean = numbers().sum::<f64>() / count;
            let squares: f64 = numbers().map(|n| (n - mean).powi(2)).sum();
            Metric::Double((squares / count).sqrt())
        }
        Fold::Median => return chosen(|count| place(0.5, count)),
        Fold::Min => return chosen(|_| 0),
        Fold::Max => return chosen(|count| count.saturating_sub(1)),
    };
    let first = events.first()?;
    let time = events.iter().filter_map(|event| event.time).max();
    Some(Arc::new(Event { metric: Some(metric), time, ..Event::clone(first) }))
}

fn multiply(a: Metric, b: Metric) -> Metric {
    let whole = match (a, b) {
        (Metric::Int(x), Metric::Int(y)) => x.checked_mul(y),
        _ => None,
    };
    whole.map_or_else(|| Metric::Double(a.as_f64() * b.as_f64()), Metric::Int)
}

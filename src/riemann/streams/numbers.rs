//! Operators that make numbers of numbers: `rate`, `ddt`, `ewma`,
//! `percentiles`, `counter`.
//!
//! Where the reference has fractions (2/5), here are doubles; whole numbers stay
//! whole where the result is one.

use std::sync::Arc;
use std::time::Duration;

use super::held::{Buffer, Held};
use super::patch;
use super::step::{Cx, Memory, Rest, Steps};
use super::timer::{UntilExpired, is_expired, micros};
use crate::base::{Event, Metric, Timestamp};
use crate::config::Weight;

/// The sum; whole as long as it can be.
pub fn add(a: Metric, b: Metric) -> Metric {
    match (a, b) {
        (Metric::Int(x), Metric::Int(y)) => {
            x.checked_add(y).map_or_else(|| Metric::Double(a.as_f64() + b.as_f64()), Metric::Int)
        }
        _ => Metric::Double(a.as_f64() + b.as_f64()),
    }
}

/// The difference; whole as long as it can be.
pub fn subtract(a: Metric, b: Metric) -> Metric {
    match (a, b) {
        (Metric::Int(x), Metric::Int(y)) => {
            x.checked_sub(y).map_or_else(|| Metric::Double(a.as_f64() - b.as_f64()), Metric::Int)
        }
        _ => Metric::Double(a.as_f64() - b.as_f64()),
    }
}

/// Divided by the seconds of so many microseconds.
pub fn a_second(sum: Metric, micros: i64) -> Metric {
    if let Metric::Int(sum) = sum {
        let (sum, by) = (i128::from(sum) * 1_000_000, i128::from(micros));
        if by != 0
            && sum % by == 0
            && let Ok(whole) = i64::try_from(sum / by)
        {
            return Metric::Int(whole);
        }
    }
    Metric::Double(sum.as_f64() / (micros as f64 / 1e6))
}

/// The sum of a window a second.
pub struct Rate {
    every: Duration,
    timer: UntilExpired,
    sum: Metric,
    /// The last event with a metric, and how often it has been sent since.
    last: Option<(Arc<Event>, u16)>,
}

impl Rate {
    /// Before the first event.
    pub fn new(every: Duration) -> Self {
        Self { every, timer: UntilExpired::after(every), sum: Metric::Int(0), last: None }
    }
}

impl Memory for Rate {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, _then: &mut Steps) {
        if let Some(metric) = event.metric {
            self.sum = add(self.sum, metric);
            self.last = Some((Arc::clone(event), 0));
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
        let sum = std::mem::replace(&mut self.sum, Metric::Int(0));
        let Some((last, sent)) = &mut self.last else { return };
        // Without new events the ttl runs down.
        let less = f32::from(*sent) * self.every.as_secs_f32();
        *sent = sent.saturating_add(1);
        let event = Event {
            metric: Some(a_second(sum, micros(self.every))),
            time: Some(cx.now),
            ttl: last.ttl.map(|ttl| ttl - less),
            ..Event::clone(last)
        };
        then.push(&Arc::new(event), cx);
    }

    fn rest(&self) -> Rest {
        let waits = self.timer.due() != super::timer::NEVER && self.sum != Metric::Int(0);
        if waits { Rest::Waits } else { Rest::Free }
    }
}

/// `ddt` between each two events.
#[derive(Default)]
pub struct Slope {
    previous: Option<Arc<Event>>,
}

impl Memory for Slope {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        if event.metric.is_none() {
            return;
        }
        let previous = self.previous.replace(Arc::clone(event));
        if let Some(slope) = previous.and_then(|before| slope(&before, event)) {
            then.push(&patch::metric(event, Some(slope)), cx);
        }
    }
}

/// The change a second; none within no time.
fn slope(before: &Event, after: &Event) -> Option<Metric> {
    let difference = subtract(after.metric?, before.metric?);
    let span = after.time?.0.saturating_sub(before.time?.0);
    (span != 0).then(|| a_second(difference, span))
}

/// `ddt` every so long: between the last events of two windows.
pub struct Derivative {
    timer: UntilExpired,
    new: Option<Arc<Event>>,
    before: Option<Arc<Event>>,
}

impl Derivative {
    /// Before the first event.
    pub fn new(every: Duration) -> Self {
        Self { timer: UntilExpired::at_once(every), new: None, before: None }
    }
}

impl Memory for Derivative {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, _then: &mut Steps) {
        if event.metric.is_some() {
            self.new = Some(Arc::clone(event));
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
        // Without a new event nothing has changed.
        let latest = self.new.take().or_else(|| self.before.clone());
        let before = std::mem::replace(&mut self.before, latest.clone());
        let (Some(latest), Some(before)) = (latest, before) else { return };
        let metric = slope(&before, &latest).unwrap_or(Metric::Int(0));
        let event = Event { metric: Some(metric), time: Some(cx.now), ..Event::clone(&latest) };
        then.push(&Arc::new(event), cx);
    }
}

/// A moving average.
pub struct Ewma {
    weight: Weight,
    average: f64,
    last: Option<Timestamp>,
}

impl Ewma {
    /// From nothing.
    pub fn new(weight: Weight) -> Self {
        Self { weight, average: 0.0, last: None }
    }
}

impl Memory for Ewma {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        let Some(metric) = event.metric.map(Metric::as_f64) else {
            return then.push(event, cx);
        };
        let time = event.time.unwrap_or(cx.now);
        let new = match (self.weight, self.last) {
            (Weight::Event(weight), _) => weight,
            (Weight::HalfLife(_), None) => 1.0,
            (Weight::HalfLife(half), Some(last)) => {
                let passed = time.0.saturating_sub(last.0).max(0) as f64;
                1.0 - 0.5f64.powf(passed / micros(half) as f64)
            }
        };
        self.average = new * metric + (1.0 - new) * self.average;
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
        then.push(&patch::metric(event, Some(Metric::Double(self.average))), cx);
    }
}

/// Of the events of a window those at some points in the order of metrics.
pub struct Percentiles {
    /// With what is appended to the service.
    points: Vec<(f64, String)>,
    timer: UntilExpired,
    window: Buffer,
}

impl Percentiles {
    /// Before the first event.
    pub fn new(points: &[f64], every: Duration, held: &Arc<Held>) -> Self {
        let points = points.iter().map(|point| (*point, format!(" {point}"))).collect();
        Self { points, timer: UntilExpired::after(every), window: Buffer::new(held) }
    }
}

/// Where a point is among so many.
pub fn place(point: f64, count: usize) -> usize {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a point is from 0 to 1"
    )]
    let place = (count as f64 * point).floor() as usize;
    place.min(count.saturating_sub(1))
}

impl Memory for Percentiles {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, _then: &mut Steps) {
        self.timer.push(event, cx.now);
        if is_expired(event, cx.now) {
            self.window.take();
        } else if event.metric.is_some() {
            self.window.push(event);
        }
    }

    fn due(&self) -> Timestamp {
        self.timer.due()
    }

    fn fire(&mut self, cx: &mut Cx<'_>, then: &mut Steps) {
        let goes_on = self.timer.fire(cx.now, cx.real);
        let mut events = self.window.take();
        if !goes_on {
            return;
        }
        sort(&mut events);
        for (point, name) in &self.points {
            let Some(event) = events.get(place(*point, events.len())) else { return };
            let service = event.service.as_deref().unwrap_or_default();
            let event = Event { service: Some(format!("{service}{name}")), ..Event::clone(event) };
            then.push(&Arc::new(event), cx);
        }
    }

    fn rest(&self) -> Rest {
        if self.window.is_empty() { Rest::Free } else { Rest::Waits }
    }
}

/// By metric; those without one are in front.
pub fn sort(events: &mut [Arc<Event>]) {
    let metric = |event: &Event| event.metric.map_or(f64::NEG_INFINITY, Metric::as_f64);
    events.sort_by(|a, b| metric(a).total_cmp(&metric(b)));
}

/// The sum of all metrics.
pub struct Count {
    sum: Metric,
}

impl Count {
    /// From a number on.
    pub fn new(from: Metric) -> Self {
        Self { sum: from }
    }
}

impl Memory for Count {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        let Some(metric) = event.metric else { return then.push(event, cx) };
        let resets = event.tags.iter().any(|tag| tag == "reset");
        self.sum = if resets { metric } else { add(self.sum, metric) };
        then.push(&patch::metric(event, Some(self.sum)), cx);
    }

    fn rest(&self) -> Rest {
        Rest::Day
    }
}

//! `streams:`, checked: a tree of steps. What each does is in
//! [`operators`](crate::config::operators), how they run in `riemann::streams`.

use std::time::Duration;

use crate::base::Metric;
use crate::query::Query;
use crate::query::ast::Field;

/// One operator and where its events go.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it does.
    pub op: Op,
    /// `do:`.
    pub then: Vec<Step>,
    /// `else:`, of `where` alone.
    pub otherwise: Vec<Step>,
}

/// What a step does with an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Passes what matches; the rest goes to `else`.
    Where(Query),
    /// Passes what has all of these tags.
    Tagged(Vec<String>),
    /// The steps below once for each value of these fields.
    By(Vec<Field>),
    /// Sets and removes fields.
    With(Patch),
    /// Sets fields that are absent.
    Default(Patch),
    /// Passes what differs from the one before in this field.
    Changed {
        /// Which field.
        field: Field,
        /// What it was before the first event.
        init: Option<String>,
    },
    /// Passes what stays the same in this field for so long.
    Stable {
        /// For how long.
        span: Duration,
        /// Which field.
        field: Field,
    },
    /// Passes what is the same in this field for the so-manieth time in a row.
    Runs {
        /// How many.
        count: usize,
        /// Which field.
        field: Field,
    },
    /// Passes so many in each window, drops the rest.
    Throttle(Window),
    /// Passes so many in each window, then the rest at its end as a list.
    Rollup(Window),
    /// Lists of so many, or of what came in a window.
    Batch(Window),
    /// A list of the last event of each host and service, so often.
    Coalesce(Duration),
    /// The sum of metrics a second.
    Rate(Duration),
    /// The metric's change a second, between two events or so often.
    Ddt(Option<Duration>),
    /// A moving average of metrics.
    Ewma(Weight),
    /// Of the events of a window those at these points in the order of metrics.
    Percentiles {
        /// From 0 to 1.
        points: Vec<f64>,
        /// The window.
        every: Duration,
    },
    /// A list of the events of the last so long, at each event.
    MovingTime(Duration),
    /// Lists of the events of one span after the other, by their times.
    FixedTime(Duration),
    /// Passes metrics above.
    Over(f64),
    /// Passes metrics below.
    Under(f64),
    /// Passes all, and an event of its own whenever none came for so long.
    FillIn {
        /// For how long.
        every: Duration,
        /// Which event.
        event: Patch,
    },
    /// The sum of all metrics so far, from this number.
    Counter(Metric),
    /// Passes events in state `expired`.
    Expired,
    /// A list of the last event that matches each of these queries.
    Project(Vec<Query>),
    /// One event of a list.
    Fold(Fold),
    /// Into the index.
    Index,
    /// To a named way out: `alert`, `graphite`, `riemann`, `history`, `log`, …
    Outlet(String),
    /// To those who listen to this topic.
    Publish(String),
}

/// So many in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// How many.
    pub count: usize,
    /// In how long.
    pub every: Duration,
}

/// How fast a moving average forgets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weight {
    /// Each event counts this much, all before it the rest.
    Event(f64),
    /// What was is worth half after so long.
    HalfLife(Duration),
}

/// How a list becomes one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// All metrics added.
    Sum,
    /// All multiplied.
    Product,
    /// The first less the others.
    Difference,
    /// The first divided by the others.
    Quotient,
    /// Their arithmetic mean.
    Mean,
    /// The event in the middle.
    Median,
    /// The event with the lowest.
    Min,
    /// The event with the highest.
    Max,
    /// How many events.
    Count,
    /// Their standard deviation.
    StdDev,
}

impl Fold {
    /// All, with their words.
    pub const ALL: [(&'static str, Self); 10] = [
        ("sum", Self::Sum),
        ("product", Self::Product),
        ("difference", Self::Difference),
        ("quotient", Self::Quotient),
        ("mean", Self::Mean),
        ("median", Self::Median),
        ("min", Self::Min),
        ("max", Self::Max),
        ("count", Self::Count),
        ("std-dev", Self::StdDev),
    ];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        let word = Self::ALL.into_iter().find(|(_, fold)| *fold == self);
        word.map_or("", |(word, _)| word)
    }
}

/// Fields with their new values; `Some(None)` removes what is there.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(clippy::option_option, reason = "untouched, removed, set")]
pub struct Patch {
    /// Text.
    pub host: Option<Option<String>>,
    /// Text.
    pub service: Option<Option<String>>,
    /// Text.
    pub state: Option<Option<String>>,
    /// Text.
    pub description: Option<Option<String>>,
    /// A number.
    pub metric: Option<Option<Metric>>,
    /// Seconds.
    pub ttl: Option<Option<f32>>,
    /// All of them; none when empty.
    pub tags: Option<Vec<String>>,
    /// Any other key.
    pub attributes: Vec<(String, Option<String>)>,
}

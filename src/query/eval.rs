//! Does an event match? Every answer is yes or no; a comparison of things that
//! cannot be compared is no.
//!
//! Numbers are equal only if their types agree (long or float; a `N` literal is
//! a long of any size), but are ordered across types. A wire float is compared
//! as the double it widens to, so 0.1 sent as a float is not `0.1`. `time` has
//! no wire type any more when it gets here: it equals a long or a float of the
//! same value.

use std::cmp::Ordering;

use super::ast::{Expr, Field, Literal, Number, Operand};
use crate::base::{Event, Metric, Timestamp};

/// What an operand is for one event.
#[derive(Clone, Copy)]
enum Value<'a> {
    Nil,
    Bool(bool),
    Number(Number),
    Time(Timestamp),
    Text(&'a str),
    Tags(&'a [String]),
}

impl Expr {
    /// Whether it holds for the event.
    pub fn matches(&self, event: &Event) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(event)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(event)),
            Self::Not(inner) => !inner.matches(event),
            Self::Equal(left, right) => left.of(event).equals(right.of(event)),
            Self::NotEqual(left, right) => !left.of(event).equals(right.of(event)),
            Self::Compare(left, how, right) => how.holds(left.of(event).order(*right)),
            Self::Like(left, pattern) | Self::Regex(left, pattern) => {
                matches!(left.of(event), Value::Text(text) if pattern.regex.is_match(text))
            }
            Self::Tagged(tag) => event.tags.contains(tag),
            Self::Truthy(value) => !matches!(value.of(event), Value::Nil | Value::Bool(false)),
        }
    }
}

impl Operand {
    fn of<'a>(&'a self, event: &'a Event) -> Value<'a> {
        match self {
            Self::Literal(Literal::Nil) => Value::Nil,
            Self::Literal(Literal::Bool(value)) => Value::Bool(*value),
            Self::Literal(Literal::Number(number)) => Value::Number(*number),
            Self::Literal(Literal::Text(text)) => Value::Text(text),
            Self::Field(field) => field.of(event),
        }
    }
}

impl Field {
    fn of<'a>(&self, event: &'a Event) -> Value<'a> {
        let text = |field: &'a Option<String>| field.as_deref().map_or(Value::Nil, Value::Text);
        let number = |number: Option<Number>| number.map_or(Value::Nil, Value::Number);
        match self {
            Self::Host => text(&event.host),
            Self::Service => text(&event.service),
            Self::State => text(&event.state),
            Self::Description => text(&event.description),
            Self::Metric => number(event.metric.map(|metric| match metric {
                Metric::Int(value) => Number::Long(value),
                Metric::Double(value) => Number::Float(value),
                Metric::Float(value) => Number::Float(value.into()),
            })),
            Self::Tags if event.tags.is_empty() => Value::Nil,
            Self::Tags => Value::Tags(&event.tags),
            Self::Ttl => number(event.ttl.map(|ttl| Number::Float(ttl.into()))),
            Self::Time => event.time.map_or(Value::Nil, Value::Time),
            Self::Attribute(name) => {
                event.attributes.get(name).map_or(Value::Nil, |value| Value::Text(value))
            }
        }
    }
}

impl Value<'_> {
    fn equals(self, other: Self) -> bool {
        match (self, other) {
            (Self::Nil, Self::Nil) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => a == b,
            (Self::Tags(a), Self::Tags(b)) => a == b,
            (Self::Time(a), Self::Time(b)) => a == b,
            (Self::Number(a), Self::Number(b)) => {
                let same_type = matches!(a, Number::Float(_)) == matches!(b, Number::Float(_));
                same_type && order(a, b).is_some_and(Ordering::is_eq)
            }
            (Self::Time(time), Self::Number(number)) | (Self::Number(number), Self::Time(time)) => {
                time_order(time, number).is_some_and(Ordering::is_eq)
            }
            _ => false,
        }
    }

    fn order(self, right: Number) -> Option<Ordering> {
        match self {
            Self::Number(left) => order(left, right),
            Self::Time(left) => time_order(left, right),
            Self::Nil | Self::Bool(_) | Self::Text(_) | Self::Tags(_) => None,
        }
    }
}

/// Across types; as soon as a float takes part, both are floats.
fn order(left: Number, right: Number) -> Option<Ordering> {
    match (left, right) {
        (Number::Float(a), b) => a.partial_cmp(&float(b)),
        (a, Number::Float(b)) => float(a).partial_cmp(&b),
        (a, b) => whole(a)?.partial_cmp(&whole(b)?),
    }
}

fn float(number: Number) -> f64 {
    match number {
        Number::Long(value) => value as f64,
        Number::Big(value) => value as f64,
        Number::Float(value) => value,
    }
}

fn whole(number: Number) -> Option<i128> {
    match number {
        Number::Long(value) => Some(value.into()),
        Number::Big(value) => Some(value),
        Number::Float(_) => None,
    }
}

fn time_order(time: Timestamp, number: Number) -> Option<Ordering> {
    match whole(number) {
        Some(seconds) => Some(i128::from(time.0).cmp(&seconds.saturating_mul(1_000_000))),
        None => time.secs_f64().partial_cmp(&float(number)),
    }
}

#[cfg(test)]
#[path = "eval_tests.rs"]
mod tests;

//! Operators that compare an event with those before it: `changed`, `stable`,
//! `runs`.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::held::{Buffer, Held};
use super::step::{Cx, Memory, Rest, Steps};
use super::timer::{NEVER, micros};
use super::value::Value;
use crate::base::{Event, Timestamp};
use crate::query::ast::Field;

/// Passes what differs from the one before.
pub struct Changed {
    field: Field,
    previous: Value<'static>,
}

impl Changed {
    /// Before the first event.
    pub fn new(field: &Field, init: Option<&str>) -> Self {
        let previous = match init {
            Some(init) => Value::Text(Cow::Owned(init.to_owned())),
            None => Value::Nil,
        };
        Self { field: field.clone(), previous }
    }
}

impl Memory for Changed {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        let value = Value::of(&self.field, event);
        if value != self.previous {
            self.previous = value.kept();
            then.push(event, cx);
        }
    }

    fn rest(&self) -> Rest {
        Rest::Day
    }
}

/// Passes what stays the same.
pub struct Stable {
    span: i64,
    field: Field,
    /// Nothing before the first event.
    value: Option<Value<'static>>,
    /// Since the last change, until that is long enough ago.
    waiting: Buffer,
}

impl Stable {
    /// Before the first event.
    pub fn new(span: Duration, field: &Field, held: &Arc<Held>) -> Self {
        let (field, waiting) = (field.clone(), Buffer::new(held));
        Self { span: micros(span), field, value: None, waiting }
    }

    fn is_long(&self, time: Timestamp) -> bool {
        let since = self.waiting.first().and_then(|first| first.time);
        since.is_some_and(|since| time.0.saturating_sub(since.0) >= self.span)
    }

    fn flush(&mut self, cx: &mut Cx<'_>, then: &mut Steps) {
        for event in self.waiting.take() {
            then.push(&event, cx);
        }
    }
}

impl Memory for Stable {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        let value = Value::of(&self.field, event);
        if self.value.as_ref() != Some(&value) {
            self.value = Some(value.kept());
            self.waiting.take();
            self.waiting.push(event);
        } else if self.waiting.is_empty() {
            then.push(event, cx);
        } else {
            self.waiting.push(event);
            if self.is_long(event.time.unwrap_or(cx.now)) {
                self.flush(cx, then);
            }
        }
    }

    fn due(&self) -> Timestamp {
        let since = self.waiting.first().and_then(|first| first.time);
        since.map_or(NEVER, |since| Timestamp(since.0.saturating_add(self.span)))
    }

    fn fire(&mut self, cx: &mut Cx<'_>, then: &mut Steps) {
        self.flush(cx, then);
    }

    fn rest(&self) -> Rest {
        if self.waiting.is_empty() { Rest::Free } else { Rest::Waits }
    }
}

/// Passes the so-manieth in a row.
pub struct Runs {
    wanted: usize,
    field: Field,
    value: Option<Value<'static>>,
    /// How many in a row so far.
    run: usize,
}

impl Runs {
    /// Before the first event.
    pub fn new(wanted: usize, field: &Field) -> Self {
        Self { wanted, field: field.clone(), value: None, run: 0 }
    }
}

impl Memory for Runs {
    fn push(&mut self, event: &Arc<Event>, cx: &mut Cx<'_>, then: &mut Steps) {
        let value = Value::of(&self.field, event);
        if self.value.as_ref() == Some(&value) {
            self.run = self.run.saturating_add(1);
        } else {
            self.value = Some(value.kept());
            self.run = 1;
        }
        if self.run >= self.wanted {
            then.push(event, cx);
        }
    }
}

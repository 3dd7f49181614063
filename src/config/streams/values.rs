//! The values in a step: queries, fields, durations, numbers, and what is said
//! of those that are wrong.
#![allow(clippy::single_match_else, reason = "both arms are read as one table")]

use std::time::Duration;

use super::{Keys, Reader};
use crate::base::{Metric, Name, span};
use crate::config::desk::exact;
use crate::config::text::{clip, nearest};
use crate::config::tree::{Node, Place, Scalar, Trail, Value};
use crate::config::types::{Fold, Patch, Weight, Window};
use crate::query::ast::Field;
use crate::query::{self, Query};

/// Events that a step may be told to hold.
pub(super) const MOST_EVENTS: i64 = 10_000;
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

impl Reader<'_, '_, '_> {
    /// One word or number, as it is written.
    pub(super) fn text<'n>(&mut self, node: &'n Node, trail: &Trail) -> Option<&'n str> {
        match &node.value {
            Value::Scalar(Scalar::Null, _) => {
                self.error(node.at, trail, format!("`{trail}` is empty"), "write a text");
                None
            }
            Value::Scalar(_, text) => Some(text),
            Value::List(_) | Value::Map(_) => {
                self.error(node.at, trail, format!("`{trail}` should be one text"), "");
                None
            }
        }
    }

    pub(super) fn query(&mut self, node: &Node, trail: &Trail) -> Option<Query> {
        let text = self.text(node, trail)?;
        match query::parse(text) {
            Ok(query) => Some(query),
            Err(error) => {
                let at = inside(node.at, text, error.offset);
                let fix = error.hint.clone().unwrap_or_default();
                self.error(at, trail, format!("in the query: {}", error.what), fix);
                None
            }
        }
    }

    pub(super) fn texts(&mut self, node: &Node, trail: &Trail) -> Option<Vec<String>> {
        let items = list(node, trail);
        if items.is_empty() {
            self.error(node.at, trail, format!("`{trail}` is empty"), "");
            return None;
        }
        let texts: Vec<_> =
            items.iter().map(|(node, trail)| self.text(node, trail).map(str::to_owned)).collect();
        texts.into_iter().collect()
    }

    pub(super) fn field(&mut self, node: &Node, trail: &Trail) -> Option<Field> {
        let text = self.text(node, trail)?;
        let field = Field::named(text);
        if field == Field::Tags {
            self.error(node.at, trail, "tags have no single value to compare", "use `tagged:`");
            return None;
        }
        Some(field)
    }

    pub(super) fn fields(&mut self, node: &Node, trail: &Trail) -> Option<Vec<Field>> {
        let items = list(node, trail);
        if items.is_empty() || items.len() > 16 {
            let fix = "name one or more, such as `by: [host, service]`";
            self.error(node.at, trail, "`by` takes 1 to 16 fields", fix);
            return None;
        }
        let fields: Vec<_> = items.iter().map(|(node, trail)| self.field(node, trail)).collect();
        fields.into_iter().collect()
    }

    pub(super) fn of_field(&mut self, keys: &Keys<'_>) -> Option<Field> {
        match keys.get("field") {
            Some(node) => self.field(node, &keys.trail.key("field")),
            None => Some(Field::State),
        }
    }

    pub(super) fn init(&mut self, keys: &Keys<'_>) -> Option<String> {
        let node = keys.get("init")?;
        self.text(node, &keys.trail.key("init")).map(str::to_owned)
    }

    pub(super) fn span(&mut self, node: &Node, trail: &Trail) -> Option<Duration> {
        let text = self.text(node, trail)?;
        let Ok(value) = span::parse(text) else {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            let (message, fix) = if digits {
                (format!("{} has no unit", clip(text)), format!("did you mean {}s?", clip(text)))
            } else {
                let fix = "a duration looks like 500ms, 5s, 1m or 2h";
                (format!("`{}` is not a duration", clip(text)), fix.to_owned())
            };
            self.error(node.at, trail, message, fix);
            return None;
        };
        if !(SHORTEST..=LONGEST).contains(&value) {
            let fix = format!("write a duration from {} to {}", exact(SHORTEST), exact(LONGEST));
            self.error(node.at, trail, format!("{} is out of range", clip(text)), fix);
            return None;
        }
        Some(value)
    }

    pub(super) fn every(&mut self, at: Place, keys: &Keys<'_>) -> Option<Duration> {
        let trail = keys.trail.key("every");
        match keys.get("every") {
            Some(node) => self.span(node, &trail),
            None => {
                let fix = "add `every: 5s` with the length of its window";
                self.error(at, &trail, "`every` is missing", fix);
                None
            }
        }
    }

    pub(super) fn window(
        &mut self,
        node: &Node,
        at: Place,
        keys: &Keys<'_>,
        trail: &Trail,
    ) -> Option<Window> {
        let count = self.count(node, trail, MOST_EVENTS);
        let every = self.every(at, keys);
        Some(Window { count: count?, every: every? })
    }

    pub(super) fn count(&mut self, node: &Node, trail: &Trail, most: i64) -> Option<usize> {
        let text = self.text(node, trail)?;
        match text.parse::<i64>().ok().filter(|n| (1..=most).contains(n)) {
            Some(count) => usize::try_from(count).ok(),
            None => {
                let fix = format!("write a whole number from 1 to {most}");
                self.error(node.at, trail, format!("`{}` is not a count", clip(text)), fix);
                None
            }
        }
    }

    pub(super) fn number(&mut self, node: &Node, trail: &Trail) -> Option<Metric> {
        let text = self.text(node, trail)?;
        let float = || text.parse::<f64>().ok().filter(|n| n.is_finite()).map(Metric::Double);
        let number = match node.value {
            Value::Scalar(Scalar::Int, _) => text.parse().ok().map(Metric::Int).or_else(float),
            Value::Scalar(Scalar::Float, _) => float(),
            Value::Scalar(..) | Value::List(_) | Value::Map(_) => None,
        };
        if number.is_none() {
            let message = format!("`{}` is not a number", clip(text));
            self.error(node.at, trail, message, "write it like 1, -1 or 0.5, without quotes");
        }
        number
    }

    pub(super) fn weight(&mut self, node: &Node, trail: &Trail) -> Option<Weight> {
        if let Value::Scalar(Scalar::Int | Scalar::Float, _) = node.value {
            let weight = self.number(node, trail)?.as_f64();
            if !(0.0..=1.0).contains(&weight) {
                let message = "a weight is from 0 to 1";
                self.error(node.at, trail, message, "0.1 forgets slowly, 0.9 fast");
                return None;
            }
            return Some(Weight::Event(weight));
        }
        self.span(node, trail).map(Weight::HalfLife)
    }

    pub(super) fn points(&mut self, node: &Node, trail: &Trail) -> Option<Vec<f64>> {
        let items = list(node, trail);
        let mut points = Vec::new();
        for (node, trail) in &items {
            let point = self.number(node, trail)?.as_f64();
            if !(0.0..=1.0).contains(&point) {
                let fix = format!("did you mean {}?", point / 100.0);
                let fix = if (1.0..=100.0).contains(&point) { fix } else { String::new() };
                self.error(node.at, trail, "a point is a fraction from 0 to 1", fix);
                return None;
            }
            points.push(point);
        }
        if points.is_empty() || points.len() > 20 {
            let fix = "write them like [0.5, 0.95, 0.99]";
            self.error(node.at, trail, "`percentiles` takes 1 to 20 points", fix);
            return None;
        }
        Some(points)
    }

    pub(super) fn fold(&mut self, node: &Node, trail: &Trail) -> Option<Fold> {
        let text = self.text(node, trail)?;
        let found = Fold::ALL.into_iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words = Fold::ALL.map(|(word, _)| word);
            let near = nearest(text, words).map(|w| format!("did you mean {w}? "));
            let fix = format!("{}write one of: {}", near.unwrap_or_default(), words.join(", "));
            self.error(node.at, trail, format!("`{}` is no fold", clip(text)), fix);
        }
        found.map(|(_, fold)| fold)
    }

    pub(super) fn name(&mut self, node: &Node, trail: &Trail) -> Option<String> {
        let text = self.text(node, trail)?;
        if text.parse::<Name>().is_err() {
            let fix = "1 to 64 letters, digits, `.`, `_` and `-`";
            self.error(node.at, trail, format!("`{}` cannot be a name", clip(text)), fix);
            return None;
        }
        Some(text.to_owned())
    }

    /// Fields with values; with `remove`, `null` takes one away.
    pub(super) fn patch(&mut self, node: &Node, trail: &Trail, remove: bool) -> Option<Patch> {
        let Value::Map(entries) = &node.value else {
            let fix = "write it like {state: ok, ttl: 60}";
            self.error(node.at, trail, "fields and their values belong here", fix);
            return None;
        };
        let (mut patch, mut good) = (Patch::default(), true);
        for entry in entries {
            let (key, node) = (entry.key.as_str(), &entry.value);
            let trail = trail.key(key);
            if node.is_null() && !remove {
                let message = format!("`{}` has no value", clip(key));
                self.error(entry.at, &trail, message, "write one, or remove the key");
                good = false;
                continue;
            }
            let null = node.is_null();
            let mut text = || {
                let text = if null { Some(None) } else { self.text(node, &trail).map(Some) };
                text.map(|text| text.map(str::to_owned))
            };
            let read = match key {
                "host" => text().map(|value| patch.host = Some(value)),
                "service" => text().map(|value| patch.service = Some(value)),
                "state" => text().map(|value| patch.state = Some(value)),
                "description" => text().map(|value| patch.description = Some(value)),
                "metric" | "ttl" | "tags" if null => {
                    match key {
                        "metric" => patch.metric = Some(None),
                        "ttl" => patch.ttl = Some(None),
                        _ => patch.tags = Some(Vec::new()),
                    }
                    Some(())
                }
                "metric" => self.number(node, &trail).map(|value| patch.metric = Some(Some(value))),
                "ttl" => self.ttl(node, &trail).map(|value| patch.ttl = Some(Some(value))),
                "tags" => self.texts(node, &trail).map(|value| patch.tags = Some(value)),
                "time" => {
                    let fix = "remove it: an event's time is when it was measured";
                    self.error(entry.at, &trail, "`time` cannot be set", fix);
                    None
                }
                other => text().map(|value| patch.attributes.push((other.to_owned(), value))),
            };
            good &= read.is_some();
        }
        good.then_some(patch)
    }

    /// Seconds, or a duration.
    pub(super) fn ttl(&mut self, node: &Node, trail: &Trail) -> Option<f32> {
        let text = self.text(node, trail)?;
        let seconds = span::parse(text).map(|span| span.as_secs_f32()).ok();
        let seconds = seconds.or_else(|| text.parse::<f32>().ok());
        if let Some(seconds) = seconds.filter(|s| s.is_finite() && *s >= 0.0) {
            return Some(seconds);
        }
        let message = format!("`{}` is not a ttl", clip(text));
        self.error(node.at, trail, message, "write seconds, such as 60, or a duration");
        None
    }
}

/// The items of a list, or the one thing that stands in its place.
pub(super) fn list<'n>(node: &'n Node, trail: &Trail) -> Vec<(&'n Node, Trail)> {
    match &node.value {
        Value::List(items) => {
            items.iter().enumerate().map(|(i, node)| (node, trail.item(i))).collect()
        }
        Value::Scalar(..) | Value::Map(_) => vec![(node, trail.clone())],
    }
}

/// The place of an offset in a text that stands in one line, with quotes or
/// without; the place of the whole where that cannot be told.
fn inside(at: Place, text: &str, offset: usize) -> Place {
    let (length, before) = (text.chars().count(), text.get(..offset).map(|b| b.chars().count()));
    let quotes = match at.width.checked_sub(length) {
        Some(0) => 0,
        Some(2) => 1,
        Some(_) | None => return at,
    };
    match before {
        Some(before) => Place { column: at.column + quotes + before, width: 1, ..at },
        None => at,
    }
}

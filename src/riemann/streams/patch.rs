//! Events with other fields.
#![allow(clippy::option_option, reason = "untouched, removed, set")]

use std::sync::Arc;

use crate::base::{Event, Metric, Timestamp};
use crate::config::Patch;

/// The event with these fields set, or removed.
pub fn with(event: &Event, patch: &Patch) -> Event {
    let mut event = event.clone();
    let set = |field: &mut Option<String>, value: &Option<Option<String>>| {
        if let Some(value) = value {
            field.clone_from(value);
        }
    };
    set(&mut event.host, &patch.host);
    set(&mut event.service, &patch.service);
    set(&mut event.state, &patch.state);
    set(&mut event.description, &patch.description);
    if let Some(value) = patch.metric {
        event.metric = value;
    }
    if let Some(value) = patch.ttl {
        event.ttl = value;
    }
    if let Some(tags) = &patch.tags {
        event.tags.clone_from(tags);
    }
    for (key, value) in &patch.attributes {
        match value {
            Some(value) => event.attributes.insert(key.clone(), value.clone()),
            None => event.attributes.remove(key),
        };
    }
    event
}

/// The event with those of these fields that it does not have; itself when it
/// has them all.
pub fn default(event: &Arc<Event>, patch: &Patch) -> Arc<Event> {
    fn absent<T: Clone>(there: bool, value: Option<&T>) -> Option<T> {
        value.filter(|_| !there).cloned()
    }
    let missing = Patch {
        host: absent(event.host.is_some(), patch.host.as_ref()),
        service: absent(event.service.is_some(), patch.service.as_ref()),
        state: absent(event.state.is_some(), patch.state.as_ref()),
        description: absent(event.description.is_some(), patch.description.as_ref()),
        metric: absent(event.metric.is_some(), patch.metric.as_ref()),
        ttl: absent(event.ttl.is_some(), patch.ttl.as_ref()),
        tags: absent(!event.tags.is_empty(), patch.tags.as_ref()),
        attributes: patch
            .attributes
            .iter()
            .filter(|(key, _)| !event.attributes.contains_key(key))
            .cloned()
            .collect(),
    };
    if missing == Patch::default() { Arc::clone(event) } else { Arc::new(with(event, &missing)) }
}

/// An event of these fields alone.
pub fn make(patch: &Patch, now: Timestamp) -> Arc<Event> {
    Arc::new(Event { time: Some(now), ..with(&Event::default(), patch) })
}

/// The event with another metric.
pub fn metric(event: &Event, metric: Option<Metric>) -> Arc<Event> {
    Arc::new(Event { metric, ..event.clone() })
}

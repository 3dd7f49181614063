//! Bytes → message, bounded, without a step in between.
//!
//! What a field means follows the reference: unknown fields and fields of
//! another wire type are skipped, the last of several wins, and so does the
//! last of several attributes of one key.
//!
//! - metric: `metric_sint64`, else `metric_d`, else `metric_f`
//! - time: `time_micros`, else `time`, else the time of arrival
//! - invalid UTF-8 becomes U+FFFD
//! - attributes named `tags`, `time`, `ttl` or `metric` are dropped; those
//!   named `host`, `service`, `state` or `description` replace the field
//!   (collectd's notifications rely on it)
//! - an attribute without a value says nothing; one without a key spoils the
//!   message

use super::fields::{Fields, Value};
use super::stats::Reason;
use crate::base::{Event, Metric, Timestamp};

/// What a message may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Events in one message.
    pub events: usize,
    /// Encoded bytes of one event; longer ones are left out and counted.
    pub event_bytes: usize,
}

impl Default for Caps {
    /// 100,000 events of 64 KiB each, the frame's own limit aside.
    fn default() -> Self {
        Self { events: 100_000, event_bytes: 64 * 1024 }
    }
}

/// A message, of which all parts are optional.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    /// In replies: whether it went well.
    pub ok: Option<bool>,
    /// In replies: why it did not.
    pub error: Option<String>,
    /// In requests: to be indexed; in replies: what was found.
    pub events: Vec<Event>,
    /// In requests: a question in the query language.
    pub query: Option<String>,
    /// Events that were left out for their length.
    pub too_large: usize,
    /// Deprecated `states` entries, which are ignored.
    pub legacy_states: usize,
}

/// Bytes that are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf.
    #[error("the message is not valid protobuf")]
    Malformed,
    /// The protocol requires a key.
    #[error("an attribute has no key")]
    KeylessAttribute,
    /// More than [`Caps::events`].
    #[error("the message has too many events")]
    TooManyEvents,
}

impl From<DecodeError> for Reason {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed => Self::Malformed,
            DecodeError::KeylessAttribute => Self::KeylessAttribute,
            DecodeError::TooManyEvents => Self::TooManyEvents,
        }
    }
}

/// Reads one message; `now` is the time of events that have none.
pub fn message(bytes: &[u8], now: Timestamp, caps: &Caps) -> Result<Message, DecodeError> {
    let mut message = Message::default();
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (2, Value::Varint(ok)) => message.ok = Some(ok != 0),
            (3, Value::Bytes(error)) => message.error = Some(text(error)),
            (4, Value::Bytes(_)) => message.legacy_states += 1,
            (5, Value::Bytes(query)) => {
                let mut fields = Fields(query);
                while let Some(field) = fields.next()? {
                    if let (1, Value::Bytes(string)) = field {
                        message.query = Some(text(string));
                    }
                }
            }
            (6, Value::Bytes(bytes)) if bytes.len() > caps.event_bytes => message.too_large += 1,
            (6, Value::Bytes(bytes)) => {
                if message.events.len() == caps.events {
                    return Err(DecodeError::TooManyEvents);
                }
                message.events.push(event(bytes, now)?);
            }
            _ => {}
        }
    }
    Ok(message)
}

fn event(bytes: &[u8], now: Timestamp) -> Result<Event, DecodeError> {
    let mut event = Event::default();
    let (mut seconds, mut micros) = (None, None);
    let (mut int, mut double, mut float) = (None, None, None);
    let mut overrides = false;
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Varint(value)) => seconds = Some(value.cast_signed()),
            (2, Value::Bytes(value)) => event.state = Some(text(value)),
            (3, Value::Bytes(value)) => event.service = Some(text(value)),
            (4, Value::Bytes(value)) => event.host = Some(text(value)),
            (5, Value::Bytes(value)) => event.description = Some(text(value)),
            (7, Value::Bytes(value)) => {
                if event.tags.is_empty() {
                    // Most events have one tag; without this there would be room for four.
                    event.tags.reserve_exact(1);
                }
                event.tags.push(text(value));
            }
            (8, Value::Fixed32(value)) => event.ttl = Some(f32::from_bits(value)),
            (9, Value::Bytes(bytes)) => overrides |= attribute(bytes, &mut event)?,
            (10, Value::Varint(value)) => micros = Some(value.cast_signed()),
            (13, Value::Varint(value)) => int = Some(zigzag(value)),
            (14, Value::Fixed64(value)) => double = Some(f64::from_bits(value)),
            (15, Value::Fixed32(value)) => float = Some(f32::from_bits(value)),
            _ => {}
        }
    }
    if overrides {
        // Only now: an attribute beats the field in whatever order they come.
        for (name, field) in [
            ("host", &mut event.host),
            ("service", &mut event.service),
            ("state", &mut event.state),
            ("description", &mut event.description),
        ] {
            *field = event.attributes.remove(name).or(field.take());
        }
    }
    event.metric = int.map(Metric::Int).or(double.map(Metric::Double)).or(float.map(Metric::Float));
    let time = micros.map(Timestamp).or(seconds.map(Timestamp::from_secs));
    event.time = Some(time.unwrap_or(now));
    Ok(event)
}

/// Adds the attribute; whether it is meant for a field of the event.
fn attribute(bytes: &[u8], event: &mut Event) -> Result<bool, DecodeError> {
    let (mut key, mut value) = (None, None);
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Value::Bytes(bytes)) => key = Some(bytes),
            (2, Value::Bytes(bytes)) => value = Some(bytes),
            _ => {}
        }
    }
    let key = key.ok_or(DecodeError::KeylessAttribute)?;
    let Some(value) = value else { return Ok(false) };
    if matches!(key, b"tags" | b"time" | b"ttl" | b"metric") {
        return Ok(false);
    }
    event.attributes.insert(text(key), text(value));
    Ok(matches!(key, b"host" | b"service" | b"state" | b"description"))
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// `sint64`: small numbers of either sign are short.
fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;

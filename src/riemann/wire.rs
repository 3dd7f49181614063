//! Riemann's messages (proto2) and how they are written. Text is bytes here,
//! because the protocol carries invalid UTF-8 too. Reading is done by
//! [`decode`](super::decode), which is bounded and makes each text once.
//!
//! The deprecated `State` message is neither written nor read.

use prost::Message as _;

use super::frame;
use crate::base::{self, Metric};

/// `Msg`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Msg {
    /// Whether the request was carried out.
    #[prost(bool, optional, tag = "2")]
    pub ok: Option<bool>,
    /// Why not.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub error: Option<Vec<u8>>,
    /// A question.
    #[prost(message, optional, tag = "5")]
    pub query: Option<Query>,
    /// To be indexed, or the answer to a query.
    #[prost(message, repeated, tag = "6")]
    pub events: Vec<Event>,
}

/// `Event`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// Whole seconds since 1970.
    #[prost(int64, optional, tag = "1")]
    pub time: Option<i64>,
    /// Text.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub state: Option<Vec<u8>>,
    /// Text.
    #[prost(bytes = "vec", optional, tag = "3")]
    pub service: Option<Vec<u8>>,
    /// Text.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub host: Option<Vec<u8>>,
    /// Text.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub description: Option<Vec<u8>>,
    /// Texts.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub tags: Vec<Vec<u8>>,
    /// Seconds.
    #[prost(float, optional, tag = "8")]
    pub ttl: Option<f32>,
    /// Further keys.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<Attribute>,
    /// Microseconds since 1970.
    #[prost(int64, optional, tag = "10")]
    pub time_micros: Option<i64>,
    /// Metric as a whole number.
    #[prost(sint64, optional, tag = "13")]
    pub metric_sint64: Option<i64>,
    /// Metric as a double.
    #[prost(double, optional, tag = "14")]
    pub metric_d: Option<f64>,
    /// Metric as a float; always there if there is a metric, for old clients.
    #[prost(float, optional, tag = "15")]
    pub metric_f: Option<f32>,
}

/// `Query`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Query {
    /// In the query language.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub string: Option<Vec<u8>>,
}

/// `Attribute`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attribute {
    /// Required by the protocol.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub key: Option<Vec<u8>>,
    /// Text.
    #[prost(bytes = "vec", optional, tag = "2")]
    pub value: Option<Vec<u8>>,
}

impl From<&base::Event> for Event {
    fn from(event: &base::Event) -> Self {
        let text = |text: &Option<String>| text.as_ref().map(|t| t.clone().into_bytes());
        let attribute = |(key, value): (&String, &String)| Attribute {
            key: Some(key.clone().into_bytes()),
            value: Some(value.clone().into_bytes()),
        };
        let (metric_sint64, metric_d) = match event.metric {
            Some(Metric::Int(value)) => (Some(value), None),
            Some(Metric::Double(value)) => (None, Some(value)),
            Some(Metric::Float(_)) | None => (None, None),
        };
        Self {
            time: event.time.map(base::Timestamp::secs),
            state: text(&event.state),
            service: text(&event.service),
            host: text(&event.host),
            description: text(&event.description),
            tags: event.tags.iter().map(|tag| tag.clone().into_bytes()).collect(),
            ttl: event.ttl,
            attributes: event.attributes.iter().map(attribute).collect(),
            time_micros: event.time.map(|time| time.0),
            metric_sint64,
            metric_d,
            metric_f: event.metric.map(single),
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the protocol's shortened copy of the metric")]
fn single(metric: Metric) -> f32 {
    match metric {
        Metric::Float(value) => value,
        Metric::Int(_) | Metric::Double(_) => metric.as_f64() as f32,
    }
}

/// The reply to a message that was carried out and has no answer: `ok=true`.
pub const ACK: [u8; 6] = [0, 0, 0, 2, 0x10, 1];

/// A message with these events.
pub fn events<'a>(events: impl IntoIterator<Item = &'a base::Event>) -> Msg {
    Msg { events: events.into_iter().map(Event::from).collect(), ..Msg::default() }
}

/// A message with this query.
pub fn query(text: &str) -> Msg {
    Msg { query: Some(Query { string: Some(text.into()) }), ..Msg::default() }
}

/// The reply that something went wrong.
pub fn error(what: &str) -> Msg {
    Msg { ok: Some(false), error: Some(what.into()), ..Msg::default() }
}

/// The answer to a query.
pub fn answer<'a>(found: impl IntoIterator<Item = &'a base::Event>) -> Msg {
    Msg { ok: Some(true), ..events(found) }
}

/// A message as a frame; none if it is longer than `cap`.
pub fn framed(msg: &Msg, cap: usize) -> Option<Vec<u8>> {
    let length = msg.encoded_len();
    let header = u32::try_from(length).ok().filter(|_| length <= cap)?;
    let mut bytes = Vec::with_capacity(frame::HEADER + length);
    bytes.extend_from_slice(&header.to_be_bytes());
    msg.encode(&mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ack_is_ok_and_nothing_else() {
        let msg = Msg { ok: Some(true), ..Msg::default() };
        assert_eq!(framed(&msg, 100).unwrap(), ACK);
        assert_eq!(framed(&msg, 1), None);
    }

    #[test]
    fn metrics_are_written_twice() {
        let wire = |metric| Event::from(&base::Event::default().metric(metric));
        let int = wire(Metric::Int(3));
        assert_eq!((int.metric_sint64, int.metric_d, int.metric_f), (Some(3), None, Some(3.0)));
        let double = wire(Metric::Double(0.5));
        assert_eq!((double.metric_sint64, double.metric_d), (None, Some(0.5)));
        let float = wire(Metric::Float(0.5));
        assert_eq!((float.metric_sint64, float.metric_d, float.metric_f), (None, None, Some(0.5)));
    }

    #[test]
    fn time_is_written_twice() {
        let event = base::Event { time: Some(base::Timestamp(-1)), ..base::Event::default() };
        let wire = Event::from(&event);
        assert_eq!((wire.time, wire.time_micros), (Some(-1), Some(-1)));
    }
}

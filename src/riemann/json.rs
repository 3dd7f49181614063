//! Events as JSON, in the form that Riemann's WebSocket clients know: every
//! field is there, absent ones as null, and attributes lie flat beside them.

use serde_json::{Map, Number, Value};

use crate::base::{Event, Metric, Timestamp};

/// The names that an attribute cannot have.
const FIELDS: [&str; 8] =
    ["host", "service", "state", "description", "metric", "tags", "time", "ttl"];

/// A JSON document that is not an event.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON.
    #[error("not JSON")]
    Syntax(#[from] serde_json::Error),
    /// Not an object.
    #[error("an event is a JSON object")]
    NoObject,
    /// A key with a value of another type.
    #[error("`{key}` must be {expected}")]
    Type {
        /// Which key; cut to 40 characters.
        key: String,
        /// What it takes.
        expected: &'static str,
    },
}

/// The event as an object: `time` in ISO 8601 with milliseconds, `ttl` in
/// seconds, numbers that JSON does not have as `"NaN"`, `"Infinity"`.
pub fn to_json(event: &Event) -> Value {
    let text = |field: &Option<String>| field.clone().map_or(Value::Null, Value::String);
    let mut object = Map::new();
    let mut put = |key: &str, value| object.insert(key.to_owned(), value);
    put("host", text(&event.host));
    put("service", text(&event.service));
    put("state", text(&event.state));
    put("description", text(&event.description));
    put("metric", event.metric.map_or(Value::Null, metric));
    let tags = event.tags.iter().cloned().map(Value::String).collect();
    put("tags", if event.tags.is_empty() { Value::Null } else { Value::Array(tags) });
    put("time", event.time.map_or(Value::Null, |time| Value::String(time.iso())));
    put("ttl", event.ttl.map_or(Value::Null, single));
    for (key, value) in &event.attributes {
        if !FIELDS.contains(&key.as_str()) {
            put(key, Value::String(value.clone()));
        }
    }
    Value::Object(object)
}

fn metric(metric: Metric) -> Value {
    match metric {
        Metric::Int(value) => Value::Number(value.into()),
        Metric::Double(value) => double(value),
        Metric::Float(value) => single(value),
    }
}

fn double(value: f64) -> Value {
    Number::from_f64(value).map_or_else(|| Value::String(odd(value).to_owned()), Value::Number)
}

/// With the digits of the float: 0.1, not 0.10000000149011612.
fn single(value: f32) -> Value {
    double(value.to_string().parse().unwrap_or(f64::from(value)))
}

fn odd(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// Reads an event; the caller bounds the text. Without `time` it is of `now`;
/// numbers and truth values under other keys become text, null is left out.
pub fn from_json(text: &str, now: Timestamp) -> Result<Event, JsonError> {
    let Value::Object(object) = serde_json::from_str(text)? else {
        return Err(JsonError::NoObject);
    };
    let mut event = Event { time: Some(now), ..Event::default() };
    for (key, value) in object {
        if value.is_null() {
            continue;
        }
        let wrong = |expected| JsonError::Type { key: key.chars().take(40).collect(), expected };
        match (key.as_str(), value) {
            ("host", Value::String(value)) => event.host = Some(value),
            ("service", Value::String(value)) => event.service = Some(value),
            ("state", Value::String(value)) => event.state = Some(value),
            ("description", Value::String(value)) => event.description = Some(value),
            ("host" | "service" | "state" | "description", _) => return Err(wrong("text")),
            ("metric", value) => {
                event.metric = Some(read_metric(&value).ok_or_else(|| wrong("a number"))?);
            }
            ("ttl", value) => {
                let ttl = value.as_f64().ok_or_else(|| wrong("a number of seconds"))?;
                #[allow(clippy::cast_possible_truncation, reason = "a ttl is a float")]
                let ttl = ttl as f32;
                event.ttl = Some(ttl);
            }
            ("time", Value::String(value)) => {
                let time: jiff::Timestamp =
                    value.parse().map_err(|_| wrong("an ISO 8601 date with its zone"))?;
                event.time = Some(Timestamp(time.as_microsecond()));
            }
            ("time", _) => return Err(wrong("an ISO 8601 date with its zone")),
            ("tags", Value::Array(tags)) => {
                for tag in tags {
                    let Value::String(tag) = tag else { return Err(wrong("a list of texts")) };
                    event.tags.push(tag);
                }
            }
            ("tags", _) => return Err(wrong("a list of texts")),
            (_, Value::String(value)) => {
                event.attributes.insert(key, value);
            }
            (_, value @ (Value::Number(_) | Value::Bool(_))) => {
                event.attributes.insert(key, value.to_string());
            }
            (_, Value::Null | Value::Array(_) | Value::Object(_)) => {
                return Err(wrong("text, a number or a truth value"));
            }
        }
    }
    Ok(event)
}

fn read_metric(value: &Value) -> Option<Metric> {
    match value {
        Value::Number(number) => {
            number.as_i64().map(Metric::Int).or(number.as_f64().map(Metric::Double))
        }
        Value::String(text) => {
            let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
            odd.into_iter().find(|value| self::odd(*value) == text).map(Metric::Double)
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_field_is_there() {
        let event = Event {
            host: Some("nas".into()),
            metric: Some(Metric::Float(0.1)),
            time: Some(Timestamp::from_secs(10)),
            ttl: Some(60.0),
            ..Event::default()
        };
        let event = event.attribute("pool", "tank").attribute("host", "not this");
        let expected = json!({
            "host": "nas", "service": null, "state": null, "description": null, "metric": 0.1,
            "tags": null, "time": "1970-01-01T00:00:10.000Z", "ttl": 60.0, "pool": "tank",
        });
        assert_eq!(to_json(&event).to_string(), expected.to_string());
        let nan = Event::default().metric(Metric::Double(f64::NAN));
        assert_eq!(to_json(&nan)["metric"], "NaN");
    }

    #[test]
    fn reads_what_it_writes() {
        let event = Event {
            host: Some("nas".into()),
            description: Some("a\n\"b\"".into()),
            tags: vec!["a".into(), "b".into()],
            ttl: Some(0.5),
            time: Some(Timestamp(1_500_000)),
            ..Event::default()
        };
        for metric in [Metric::Int(-1), Metric::Double(1.0), Metric::Double(f64::INFINITY)] {
            let event = event.clone().metric(metric).attribute("pool", "tank");
            assert_eq!(from_json(&to_json(&event).to_string(), Timestamp(0)).unwrap(), event);
        }
    }

    #[test]
    fn fills_in_and_refuses() {
        let read = |text| from_json(text, Timestamp(7));
        let event = read(r#"{"cores":4,"ecc":true,"none":null,"state":null}"#).unwrap();
        assert_eq!(event.time, Some(Timestamp(7)));
        let kept: Vec<_> = event.attributes.into_iter().collect();
        assert_eq!(kept, [("cores".into(), "4".into()), ("ecc".into(), "true".into())]);
        for bad in [
            "",
            "1",
            "[]",
            r#"{"host":1}"#,
            r#"{"metric":"1"}"#,
            r#"{"ttl":"1"}"#,
            r#"{"time":1}"#,
            r#"{"time":"yesterday"}"#,
            r#"{"tags":["a",1]}"#,
            r#"{"tags":"a"}"#,
            r#"{"a":{}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

//! The reference's rules, and properties against prost.

use proptest::prelude::*;
use prost::Message as _;

use super::super::wire;
use super::*;

const NOW: Timestamp = Timestamp(7_000_000);

fn decoded(msg: &wire::Msg) -> Result<Message, DecodeError> {
    message(&msg.encode_to_vec(), NOW, &Caps::default())
}

fn one(wire: wire::Event) -> Event {
    let msg = wire::Msg { events: vec![wire], ..wire::Msg::default() };
    decoded(&msg).unwrap().events.remove(0)
}

fn attributes(pairs: &[(&str, Option<&str>)]) -> Vec<wire::Attribute> {
    let attribute = |(key, value): &(&str, Option<&str>)| wire::Attribute {
        key: Some((*key).into()),
        value: value.map(Into::into),
    };
    pairs.iter().map(attribute).collect()
}

#[test]
fn an_empty_message_is_a_message() {
    assert_eq!(message(&[], NOW, &Caps::default()), Ok(Message::default()));
}

#[test]
fn metrics_have_an_order_of_precedence() {
    let all = wire::Event {
        metric_sint64: Some(-3),
        metric_d: Some(2.0),
        metric_f: Some(1.0),
        ..wire::Event::default()
    };
    let without_int = wire::Event { metric_sint64: None, ..all.clone() };
    let only_float = wire::Event { metric_d: None, ..without_int.clone() };
    assert_eq!(one(all).metric, Some(Metric::Int(-3)));
    assert_eq!(one(without_int).metric, Some(Metric::Double(2.0)));
    assert_eq!(one(only_float).metric, Some(Metric::Float(1.0)));
    assert_eq!(one(wire::Event::default()).metric, None);
}

#[test]
fn time_is_micros_then_seconds_then_now() {
    let both = wire::Event { time: Some(5), time_micros: Some(-1), ..wire::Event::default() };
    let seconds = wire::Event { time_micros: None, ..both.clone() };
    let absurd = wire::Event { time: Some(i64::MAX), ..seconds.clone() };
    assert_eq!(one(both).time, Some(Timestamp(-1)));
    assert_eq!(one(seconds).time, Some(Timestamp::from_secs(5)));
    assert_eq!(one(absurd).time, Some(Timestamp(i64::MAX)));
    assert_eq!(one(wire::Event::default()).time, Some(NOW));
}

#[test]
fn attributes_override_are_dropped_or_kept() {
    let event = one(wire::Event {
        host: Some("field".into()),
        state: Some("field".into()),
        attributes: attributes(&[
            ("host", Some("attribute")),
            ("state", None),
            ("ttl", Some("1")),
            ("tags", Some("x")),
            ("metric", Some("1")),
            ("time", Some("1")),
            ("pool", Some("old")),
            ("pool", Some("tank")),
            ("empty", None),
            ("", Some("nameless")),
        ]),
        ..wire::Event::default()
    });
    assert_eq!(event.host.as_deref(), Some("attribute"));
    assert_eq!(event.state.as_deref(), Some("field"));
    assert_eq!((event.ttl, event.metric, event.tags.len()), (None, None, 0));
    let kept: Vec<_> = event.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(kept, [("", "nameless"), ("pool", "tank")]);
}

#[test]
fn an_attribute_beats_a_field_that_comes_later() {
    let with = |event: wire::Event| event.encode_to_vec();
    let first =
        with(wire::Event { attributes: attributes(&[("host", Some("a"))]), ..Default::default() });
    let second = with(wire::Event { host: Some("b".into()), ..Default::default() });
    let joined = [first, second].concat();
    assert_eq!(event(&joined, NOW).unwrap().host.as_deref(), Some("a"));
}

#[test]
fn a_keyless_attribute_spoils_the_message() {
    let keyless = wire::Attribute { key: None, value: Some("x".into()) };
    let event = wire::Event { attributes: vec![keyless], ..wire::Event::default() };
    let msg = wire::Msg { events: vec![wire::Event::default(), event], ..wire::Msg::default() };
    assert_eq!(decoded(&msg), Err(DecodeError::KeylessAttribute));
}

#[test]
fn bad_utf8_is_replaced() {
    let event = one(wire::Event { host: Some(b"a\xff".to_vec()), ..wire::Event::default() });
    assert_eq!(event.host.as_deref(), Some("a\u{fffd}"));
}

#[test]
fn unknown_fields_and_other_wire_types_are_skipped() {
    // Field 100 as a varint, field 2 (ok) as bytes, a deprecated state.
    let bytes = [0xa0, 0x06, 1, 0x12, 1, b'x', 0x22, 0, 0x10, 1];
    let read = message(&bytes, NOW, &Caps::default()).unwrap();
    assert_eq!(read, Message { ok: Some(true), legacy_states: 1, ..Message::default() });
}

#[test]
fn a_message_is_bounded() {
    let caps = Caps { events: 2, event_bytes: 10 };
    let events = |n: usize, host: &str| {
        let event = wire::Event { host: Some(host.into()), ..wire::Event::default() };
        wire::Msg { events: vec![event; n], ..wire::Msg::default() }.encode_to_vec()
    };
    assert_eq!(message(&events(2, "a"), NOW, &caps).unwrap().events.len(), 2);
    assert_eq!(message(&events(3, "a"), NOW, &caps), Err(DecodeError::TooManyEvents));
    let long = message(&events(3, "0123456789"), NOW, &caps).unwrap();
    assert_eq!((long.events.len(), long.too_large), (0, 3));
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ]{0,12}", "\\PC{0,8}"]
}

prop_compose! {
    fn events()(
        host in prop::option::of(name()),
        service in prop::option::of(name()),
        state in prop::option::of(name()),
        description in prop::option::of(name()),
        metric in prop::option::of(prop_oneof![
            any::<i64>().prop_map(Metric::Int),
            any::<f64>().prop_map(Metric::Double),
            any::<f32>().prop_map(Metric::Float),
        ]),
        tags in prop::collection::vec(name(), 0..3),
        ttl in prop::option::of(any::<f32>()),
        time in any::<i64>().prop_map(|micros| Some(Timestamp(micros))),
        attributes in prop::collection::btree_map("[x-z]{1,3}", name(), 0..3),
    ) -> Event {
        Event { host, service, state, description, metric, tags, ttl, time, attributes }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(events in prop::collection::vec(events(), 0..4)) {
        let read = decoded(&wire::events(&events)).unwrap();
        prop_assert_eq!(read.events, events);
    }

    #[test]
    fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = message(&bytes, NOW, &Caps::default());
    }

    #[test]
    fn never_panics_on_damaged_messages(
        events in prop::collection::vec(events(), 1..3), at: prop::sample::Index, byte: u8
    ) {
        let mut bytes = wire::events(&events).encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = message(&bytes, NOW, &Caps::default());
        let _ = message(&bytes[..at], NOW, &Caps::default());
    }
}

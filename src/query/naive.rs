//! A second evaluator for tests: slow, and written another way. An event is a
//! map of values, each a type name with a text or an exact fraction.

use std::collections::BTreeMap;

use super::ast::{Expr, Literal, Number, Operand};
use crate::base::{Event, Metric};

#[derive(Clone, PartialEq, Debug)]
enum Thing {
    Nil,
    Bool(bool),
    Text(String),
    List(Vec<String>),
    Long(i128),
    Float(f64),
    Time(i64),
}

fn things(event: &Event) -> BTreeMap<String, Thing> {
    let mut map: BTreeMap<String, Thing> = BTreeMap::new();
    for (key, value) in &event.attributes {
        map.insert(key.clone(), Thing::Text(value.clone()));
    }
    let texts = [
        ("host", &event.host),
        ("service", &event.service),
        ("state", &event.state),
        ("description", &event.description),
    ];
    for (key, value) in texts {
        map.insert(key.into(), value.clone().map_or(Thing::Nil, Thing::Text));
    }
    let metric = match event.metric {
        None => Thing::Nil,
        Some(Metric::Int(value)) => Thing::Long(value.into()),
        Some(other) => Thing::Float(other.as_f64()),
    };
    map.insert("metric".into(), metric);
    map.insert("ttl".into(), event.ttl.map_or(Thing::Nil, |ttl| Thing::Float(ttl.into())));
    map.insert("time".into(), event.time.map_or(Thing::Nil, |time| Thing::Time(time.0)));
    if !event.tags.is_empty() {
        map.insert("tags".into(), Thing::List(event.tags.clone()));
    }
    map
}

fn number(number: Number) -> Thing {
    match number {
        Number::Long(value) => Thing::Long(value.into()),
        Number::Big(value) => Thing::Long(value),
        Number::Float(value) => Thing::Float(value),
    }
}

fn value(operand: &Operand, event: &BTreeMap<String, Thing>) -> Thing {
    match operand {
        Operand::Field(field) => event.get(field.name()).cloned().unwrap_or(Thing::Nil),
        Operand::Literal(Literal::Nil) => Thing::Nil,
        Operand::Literal(Literal::Bool(value)) => Thing::Bool(*value),
        Operand::Literal(Literal::Text(text)) => Thing::Text(text.clone()),
        Operand::Literal(Literal::Number(literal)) => number(*literal),
    }
}

/// The sign of left minus right; none if there is no difference to speak of.
#[allow(clippy::float_cmp, reason = "equality is meant")]
fn sign(left: &Thing, right: &Thing) -> Option<i8> {
    let of = |less: bool, same: bool| if less { -1 } else { i8::from(!same) };
    let float = |thing: &Thing| match thing {
        Thing::Long(value) => Some(*value as f64),
        Thing::Float(value) => Some(*value),
        Thing::Time(micros) => Some(*micros as f64 / 1e6),
        _ => None,
    };
    match (left, right) {
        (Thing::Long(a), Thing::Long(b)) => Some(of(a < b, a == b)),
        (Thing::Time(a), Thing::Time(b)) => Some(of(a < b, a == b)),
        (Thing::Time(a), Thing::Long(b)) => {
            let (whole, part) = (i128::from(a.div_euclid(1_000_000)), a.rem_euclid(1_000_000));
            Some(of(whole < *b, whole == *b && part == 0))
        }
        (Thing::Long(_), Thing::Time(_)) => sign(right, left).map(|sign| -sign),
        _ => {
            let (a, b) = (float(left)?, float(right)?);
            (!a.is_nan() && !b.is_nan()).then(|| of(a < b, a == b))
        }
    }
}

fn equal(left: &Thing, right: &Thing) -> bool {
    match (left, right) {
        (Thing::Long(_), Thing::Float(_)) | (Thing::Float(_), Thing::Long(_)) => false,
        _ => left == right || sign(left, right) == Some(0),
    }
}

/// `%` by trying every split.
fn like(glob: &[char], text: &[char]) -> bool {
    match glob.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len())
            .take_while(|end| !text[..*end].contains(&'\n'))
            .any(|end| like(rest, &text[end..])),
        Some((c, rest)) => text.first() == Some(c) && like(rest, &text[1..]),
    }
}

pub(super) fn matches(expr: &Expr, event: &Event) -> bool {
    let things = things(event);
    match expr {
        Expr::And(parts) => parts.iter().filter(|part| !matches(part, event)).count() == 0,
        Expr::Or(parts) => parts.iter().filter(|part| matches(part, event)).count() > 0,
        Expr::Not(inner) => !matches(inner, event),
        Expr::Equal(left, right) => equal(&value(left, &things), &value(right, &things)),
        Expr::NotEqual(left, right) => !equal(&value(left, &things), &value(right, &things)),
        Expr::Compare(left, how, right) => {
            let sign = sign(&value(left, &things), &number(*right));
            match how.as_str() {
                "<" => sign == Some(-1),
                ">" => sign == Some(1),
                "<=" => matches!(sign, Some(-1 | 0)),
                _ => matches!(sign, Some(0 | 1)),
            }
        }
        Expr::Like(left, pattern) => match value(left, &things) {
            Thing::Text(text) => {
                let chars = |text: &str| text.chars().collect::<Vec<_>>();
                like(&chars(pattern.text()), &chars(&text))
            }
            _ => false,
        },
        Expr::Regex(left, pattern) => match value(left, &things) {
            // The generator's patterns have no operators: finding is containing.
            Thing::Text(text) => text.contains(pattern.text()),
            _ => false,
        },
        Expr::Tagged(tag) => event.tags.iter().any(|have| have == tag),
        Expr::Truthy(operand) => {
            !matches!(value(operand, &things), Thing::Nil | Thing::Bool(false))
        }
    }
}

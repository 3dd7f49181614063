//! The value of a field, as far as two of them are compared.

use std::borrow::Cow;
use std::hash::{Hash, Hasher};

use crate::base::{Event, Metric};
use crate::query::ast::Field;

/// A value; two are equal when the query language calls them equal, but that
/// NaN is itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value<'a> {
    /// Absent.
    Nil,
    /// Text.
    Text(Cow<'a, str>),
    /// A whole number.
    Int(i64),
    /// The bits of a double.
    Double(u64),
}

impl<'a> Value<'a> {
    /// The value of a field.
    pub fn of(field: &Field, event: &'a Event) -> Self {
        let text = |text: Option<&'a str>| text.map_or(Self::Nil, |t| Self::Text(Cow::Borrowed(t)));
        match field {
            Field::Host => text(event.host.as_deref()),
            Field::Service => text(event.service.as_deref()),
            Field::State => text(event.state.as_deref()),
            Field::Description => text(event.description.as_deref()),
            Field::Metric => match event.metric {
                None => Self::Nil,
                Some(Metric::Int(value)) => Self::Int(value),
                Some(other) => Self::double(other.as_f64()),
            },
            Field::Ttl => event.ttl.map_or(Self::Nil, |ttl| Self::double(ttl.into())),
            Field::Time => event.time.map_or(Self::Nil, |time| Self::Int(time.0)),
            // The check refuses them: they are no single value.
            Field::Tags => Self::Nil,
            Field::Attribute(name) => text(event.attributes.get(name).map(String::as_str)),
        }
    }

    fn double(value: f64) -> Self {
        // There are two zeroes.
        Self::Double((value + 0.0).to_bits())
    }

    /// The same, kept.
    pub fn kept(self) -> Value<'static> {
        match self {
            Self::Nil => Value::Nil,
            Self::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Self::Int(value) => Value::Int(value),
            Self::Double(bits) => Value::Double(bits),
        }
    }
}

/// The values of several fields, hashed without being kept.
pub fn hash(fields: &[Field], event: &Event, hasher: &mut impl Hasher) {
    for field in fields {
        Value::of(field, event).hash(hasher);
    }
}

/// Whether an event has these values.
pub fn same(fields: &[Field], event: &Event, values: &[Value<'static>]) -> bool {
    fields.iter().zip(values).all(|(field, value)| Value::of(field, event) == *value)
}

/// The values of several fields, kept.
pub fn values(fields: &[Field], event: &Event) -> Box<[Value<'static>]> {
    fields.iter().map(|field| Value::of(field, event).kept()).collect()
}

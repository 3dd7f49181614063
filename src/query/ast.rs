//! What a query can say, and how it is written down again.

use std::cmp::Ordering;
use std::fmt;

use regex::Regex;

/// A predicate on events.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// All of them; at least two.
    And(Vec<Expr>),
    /// Any of them; at least two.
    Or(Vec<Expr>),
    /// Not so.
    Not(Box<Expr>),
    /// `=`: same type and same value.
    Equal(Operand, Operand),
    /// `!=`: the opposite of `=`, so an absent field differs from any value.
    NotEqual(Operand, Operand),
    /// `<`, `>`, `<=`, `>=`: false unless the left side is a number.
    Compare(Operand, Comparison, Number),
    /// `=~` with `%` for anything but a line end; false unless the left side is text.
    Like(Operand, Pattern),
    /// `~=`, found anywhere; false unless the left side is text.
    Regex(Operand, Pattern),
    /// Has this tag.
    Tagged(String),
    /// A value by itself: neither nil nor false. Zero and `""` are true.
    Truthy(Operand),
}

/// How a number is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `>`
    Greater,
    /// `<=`
    AtMost,
    /// `>=`
    AtLeast,
}

impl Comparison {
    /// Whether an order of left to right is what is asked for; NaN has none.
    pub fn holds(self, order: Option<Ordering>) -> bool {
        match self {
            Self::Less => order.is_some_and(Ordering::is_lt),
            Self::Greater => order.is_some_and(Ordering::is_gt),
            Self::AtMost => order.is_some_and(Ordering::is_le),
            Self::AtLeast => order.is_some_and(Ordering::is_ge),
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::Greater => ">",
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
        }
    }
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// Written down.
    Literal(Literal),
    /// Taken from the event.
    Field(Field),
}

/// A value written down.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// `nil`, `null`
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// `1`, `1.0`, `1N`
    Number(Number),
    /// `"text"`
    Text(String),
}

/// A number with its type.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// `1`, `1L`
    Long(i64),
    /// `1N`; equal to a long of the same value.
    Big(i128),
    /// `1.0`, `1e-5`, `Infinity`, `NaN`; never equal to a long.
    Float(f64),
}

impl PartialEq for Number {
    /// The same literal, so NaN is itself; not the `=` of the language.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Long(a), Self::Long(b)) => a == b,
            (Self::Big(a), Self::Big(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => {
                a.total_cmp(b).is_eq() || (a.is_nan() && b.is_nan())
            }
            _ => false,
        }
    }
}

/// A part of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// Text.
    Host,
    /// Text.
    Service,
    /// Text.
    State,
    /// Text.
    Description,
    /// A long or a float.
    Metric,
    /// Present unless empty; only `tagged` looks inside.
    Tags,
    /// A float.
    Ttl,
    /// Seconds since 1970, exact to the microsecond.
    Time,
    /// Text under any other name.
    Attribute(String),
}

impl Field {
    /// The field of this name.
    pub fn named(name: &str) -> Self {
        match name {
            "host" => Self::Host,
            "service" => Self::Service,
            "state" => Self::State,
            "description" => Self::Description,
            "metric" => Self::Metric,
            "tags" => Self::Tags,
            "ttl" => Self::Ttl,
            "time" => Self::Time,
            other => Self::Attribute(other.to_owned()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Host => "host",
            Self::Service => "service",
            Self::State => "state",
            Self::Description => "description",
            Self::Metric => "metric",
            Self::Tags => "tags",
            Self::Ttl => "ttl",
            Self::Time => "time",
            Self::Attribute(name) => name,
        }
    }
}

/// A compiled pattern together with its text.
#[derive(Debug, Clone)]
pub struct Pattern {
    pub(super) text: String,
    pub(super) regex: Regex,
}

impl Pattern {
    /// As it was written in the query, without quotes and escapes.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(parts) => joined(f, parts, " and "),
            Self::Or(parts) => joined(f, parts, " or "),
            Self::Not(inner) => {
                f.write_str("not ")?;
                inner.within(f)
            }
            Self::Equal(left, right) => write!(f, "{left} = {right}"),
            Self::NotEqual(left, right) => write!(f, "{left} != {right}"),
            Self::Compare(left, how, right) => write!(f, "{left} {} {right}", how.as_str()),
            Self::Like(left, pattern) => write!(f, "{left} =~ {}", Quoted(&pattern.text)),
            Self::Regex(left, pattern) => write!(f, "{left} ~= {}", Quoted(&pattern.text)),
            Self::Tagged(tag) => write!(f, "tagged {}", Quoted(tag)),
            Self::Truthy(value) => value.fmt(f),
        }
    }
}

impl Expr {
    /// As a part of something: chains stand in parentheses.
    fn within(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::And(_) | Self::Or(_) => write!(f, "({self})"),
            _ => fmt::Display::fmt(self, f),
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, parts: &[Expr], word: &str) -> fmt::Result {
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_str(word)?;
        }
        part.within(f)?;
    }
    Ok(())
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(Literal::Nil) => f.write_str("nil"),
            Self::Literal(Literal::Bool(value)) => value.fmt(f),
            Self::Literal(Literal::Number(number)) => number.fmt(f),
            Self::Literal(Literal::Text(text)) => Quoted(text).fmt(f),
            Self::Field(field) => f.write_str(field.name()),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Long(value) => value.fmt(f),
            Self::Big(value) => write!(f, "{value}N"),
            Self::Float(value) if value.is_nan() => f.write_str("NaN"),
            Self::Float(value) if value.is_infinite() => {
                f.write_str(if *value < 0.0 { "-Infinity" } else { "Infinity" })
            }
            // The debug form always has a point or an exponent.
            Self::Float(value) => write!(f, "{value:?}"),
        }
    }
}

struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\""),
                '\\' => f.write_str("\\\\"),
                '\n' => f.write_str("\\n"),
                '\t' => f.write_str("\\t"),
                '\r' => f.write_str("\\r"),
                '\u{8}' => f.write_str("\\b"),
                '\u{c}' => f.write_str("\\f"),
                // Every control character lies below 0x10000.
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c)),
                c => write!(f, "{c}"),
            }?;
        }
        f.write_str("\"")
    }
}

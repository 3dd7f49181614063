//! The query language of Riemann: which events does somebody mean?
//!
//! Text comes in, a [`Query`] or a [`QueryError`] with its place goes out; a
//! query then says of any event whether it matches. Nothing here does I/O and
//! nothing depends on the sender: texts may come from anybody on the network,
//! so their length, their nesting and their patterns are bounded.
//!
//! ```text
//! text ── lex ──▶ tokens ── parse ──▶ ast::Expr ── eval ──▶ bool
//!                    └────────┴──▶ error: offset, what was expected, hint
//! ```
//!
//! Read [`ast`] first (what can be said), then [`parse`](mod@parse), then [`eval`].
//!
//! The grammar, from the loosest binding to the tightest:
//!
//! ```text
//! predicate  = and-chain ("or" and-chain)*
//! and-chain  = negation ("and" negation)*
//! negation   = "not" negation | "(" predicate ")" | simple
//! simple     = "tagged" string
//!            | value ("=" | "!=") value
//!            | value ("<" | ">" | "<=" | ">=") number
//!            | value ("=~" | "~=") string
//!            | value
//! value      = "true" | "false" | "nil" | "null" | number | string | field
//! ```
//!
//! Where the reference implementation takes a mistake for something else
//! (trailing text, `==`, `host=1` as one long name), this one says where the
//! mistake is. What it takes beyond the reference: `+` in an exponent.

pub mod ast;
pub mod error;
pub mod eval;
mod glued;
mod lex;
#[cfg(test)]
mod naive;
pub mod parse;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use ast::{Expr, Field, Literal, Operand};
pub use error::QueryError;
pub use parse::parse;

use crate::base::Event;

/// Longest query text, in bytes.
pub const MAX_LENGTH: usize = 16 * 1024;

/// Deepest nesting of parentheses and `not`.
pub const MAX_DEPTH: usize = 64;

/// A checked query; cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    expr: Arc<Expr>,
}

impl Query {
    /// The query `true`.
    pub fn all() -> Self {
        Self { expr: Arc::new(Expr::Truthy(Operand::Literal(Literal::Bool(true)))) }
    }

    /// Whether the event is meant.
    pub fn matches(&self, event: &Event) -> bool {
        self.expr.matches(event)
    }

    /// Host and service, if the query is exactly `host = … and service = …`,
    /// in either order, each with a string or `nil` on the right: an index
    /// answers it by one look-up.
    pub fn exact_key(&self) -> Option<(Option<&str>, Option<&str>)> {
        let Expr::And(parts) = &*self.expr else { return None };
        let [first, second] = parts.as_slice() else { return None };
        match (key_part(first)?, key_part(second)?) {
            ((Field::Host, host), (Field::Service, service))
            | ((Field::Service, service), (Field::Host, host)) => Some((host, service)),
            _ => None,
        }
    }

    /// What the query says, for those who walk it.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }
}

fn key_part(expr: &Expr) -> Option<(&Field, Option<&str>)> {
    match expr {
        Expr::Equal(Operand::Field(field), Operand::Literal(Literal::Text(text))) => {
            Some((field, Some(text)))
        }
        Expr::Equal(Operand::Field(field), Operand::Literal(Literal::Nil)) => Some((field, None)),
        _ => None,
    }
}

impl From<Expr> for Query {
    fn from(expr: Expr) -> Self {
        Self { expr: Arc::new(expr) }
    }
}

impl FromStr for Query {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self, QueryError> {
        parse(text)
    }
}

impl fmt::Display for Query {
    /// In the language itself: parsing it again gives the same query.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expr.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_an_exact_key() {
        let key = |text: &str| {
            parse(text)
                .unwrap()
                .exact_key()
                .map(|(h, s)| (h.map(str::to_owned), s.map(str::to_owned)))
        };
        let nas = Some((Some("nas".to_owned()), Some("cpu".to_owned())));
        assert_eq!(key(r#"host = "nas" and service = "cpu""#), nas);
        assert_eq!(key(r#"(service = "cpu") and (host = "nas")"#), nas);
        assert_eq!(key(r#"host = nil and service = "cpu""#), Some((None, Some("cpu".into()))));
        for text in [
            r#"host = "nas""#,
            r#"host = "nas" or service = "cpu""#,
            r#"host = "nas" and service =~ "cpu""#,
            r#"host = "nas" and host = "cpu""#,
            r#"host = "nas" and service = "cpu" and state = "ok""#,
            r#"not (host = "nas" and service = "cpu")"#,
            r#"host = 1 and service = "cpu""#,
        ] {
            assert_eq!(key(text), None, "{text}");
        }
    }

    #[test]
    fn all_is_true() {
        assert!(Query::all().matches(&Event::default()));
        assert_eq!(Query::all(), parse("true").unwrap());
    }
}

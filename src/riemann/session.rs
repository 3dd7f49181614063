//! One message from outside: its events go into the index, then its query, if
//! it has one, is answered.

use std::sync::Arc;

use super::decode::{self, Caps};
use super::index::{Index, Origin};
use super::stats::Reason;
use super::wire;
use crate::query;

/// What there is to say to the sender.
pub(super) enum Outcome {
    /// Done, nothing to say.
    Done,
    /// Something was refused.
    Refused(String),
    /// It asks this, in the query language.
    Asks(String),
}

/// Takes in a message. Events that can be taken are, even if others of the same
/// message are refused; a message that cannot be read is refused as a whole.
pub(super) fn take(index: &Index, caps: &Caps, bytes: &[u8]) -> Outcome {
    let stats = index.stats();
    let message = match decode::message(bytes, index.now(), caps) {
        Ok(message) => message,
        Err(error) => {
            stats.refuse(error.into());
            return Outcome::Refused(error.to_string());
        }
    };
    stats.refuse_many(Reason::EventTooLarge, message.too_large);
    stats.refuse_many(Reason::LegacyState, message.legacy_states);
    let events = message.events.len() + message.too_large;
    let applied = index.apply(Origin::Outside, message.events);
    let refused = applied.refused + message.too_large;
    if refused > 0 {
        let why = applied.reason.unwrap_or(Reason::EventTooLarge);
        return Outcome::Refused(format!("{refused} of {events} events refused: {why}"));
    }
    message.query.map_or(Outcome::Done, Outcome::Asks)
}

/// Whether a query takes no more than a look-up. Others look through the whole
/// index, and patterns take their time even to be read.
pub(super) fn is_quick(text: &str) -> bool {
    !text.contains('~') && query::parse(text).is_ok_and(|query| query.exact_key().is_some())
}

/// The answer to a query as a frame, or the refusal if the query is wrong or
/// the answer is longer than `cap`.
pub(super) fn answer(index: &Index, text: &str, cap: usize) -> Vec<u8> {
    let query = match query::parse(text) {
        Ok(query) => query,
        Err(error) => {
            index.stats().refuse(Reason::BadQuery);
            return refusal(&format!("the query is wrong {error}"));
        }
    };
    let found = index.query(&query);
    if let Some(frame) = wire::framed(&wire::answer(found.iter().map(Arc::as_ref)), cap) {
        index.stats().answered.add(1);
        return frame;
    }
    index.stats().refuse(Reason::AnswerTooLarge);
    refusal(&format!("{} ({} events)", Reason::AnswerTooLarge, found.len()))
}

/// A refusal as a frame.
pub(super) fn refusal(why: &str) -> Vec<u8> {
    // Our own sentences are short.
    wire::framed(&wire::error(why), usize::MAX).unwrap_or_default()
}

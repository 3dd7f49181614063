//! What was accepted, and what was refused and why.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why something was refused or lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A frame longer than the limit.
    FrameTooLarge,
    /// HTTP where Riemann's protocol was expected.
    Http,
    /// TLS on the plain port.
    Tls,
    /// A frame that was begun and not finished in time.
    HalfFrame,
    /// A connection on which nothing happened for too long.
    Idle,
    /// A peer that did not take its replies in time.
    SlowReader,
    /// More connections than allowed.
    TooManyConnections,
    /// A datagram longer than the limit.
    DatagramTooLarge,
    /// Bytes that are not a message.
    Malformed,
    /// An attribute without a key; the whole message is refused.
    KeylessAttribute,
    /// More events in a message than allowed.
    TooManyEvents,
    /// An event longer than the limit.
    EventTooLarge,
    /// A deprecated `states` entry, ignored as in the reference.
    LegacyState,
    /// An event for a host and service that hostd itself reports on.
    OwnKey,
    /// A new host and service, or a longer event, while the index is full.
    IndexFull,
    /// The tag `hostd` on an event from outside; the event is kept without it.
    OwnTag,
    /// A query that cannot be parsed.
    BadQuery,
    /// A query whose answer does not fit a frame.
    AnswerTooLarge,
    /// A query by a transport that does not answer.
    NoAnswers,
    /// A sender whom `events.allow` does not name.
    NotAllowed,
    /// A query from elsewhere, on a port that only takes events in from there.
    IngestOnly,
    /// A TLS handshake that failed, or took too long.
    Handshake,
    /// A request over HTTP without the token, or with another.
    BadToken,
    /// A request over HTTP to a name that is not this machine's.
    BadHost,
    /// A request over HTTP by the web page of somebody else.
    BadOrigin,
    /// A request over HTTP for what is not there, or that makes no sense.
    BadRequest,
    /// A document that is not an event.
    BadJson,
    /// More subscriptions than allowed.
    TooManySubscribers,
    /// A line for Graphite that is not `path value timestamp`.
    BadLine,
    /// A line longer than the limit.
    LineTooLong,
    /// A line for Graphite whose value is no number; left out, as there.
    NotANumber,
}

impl Reason {
    /// All reasons, in the order of the counters.
    pub const ALL: [Self; 31] = [
        Self::FrameTooLarge,
        Self::Http,
        Self::Tls,
        Self::HalfFrame,
        Self::Idle,
        Self::SlowReader,
        Self::TooManyConnections,
        Self::DatagramTooLarge,
        Self::Malformed,
        Self::KeylessAttribute,
        Self::TooManyEvents,
        Self::EventTooLarge,
        Self::LegacyState,
        Self::OwnKey,
        Self::IndexFull,
        Self::OwnTag,
        Self::BadQuery,
        Self::AnswerTooLarge,
        Self::NoAnswers,
        Self::NotAllowed,
        Self::IngestOnly,
        Self::Handshake,
        Self::BadToken,
        Self::BadHost,
        Self::BadOrigin,
        Self::BadRequest,
        Self::BadJson,
        Self::TooManySubscribers,
        Self::BadLine,
        Self::LineTooLong,
        Self::NotANumber,
    ];

    /// A stable word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FrameTooLarge => "frame-too-large",
            Self::Http => "http",
            Self::Tls => "tls",
            Self::HalfFrame => "half-frame",
            Self::Idle => "idle",
            Self::SlowReader => "slow-reader",
            Self::TooManyConnections => "too-many-connections",
            Self::DatagramTooLarge => "datagram-too-large",
            Self::Malformed => "malformed",
            Self::KeylessAttribute => "keyless-attribute",
            Self::TooManyEvents => "too-many-events",
            Self::EventTooLarge => "event-too-large",
            Self::LegacyState => "legacy-state",
            Self::OwnKey => "own-key",
            Self::IndexFull => "index-full",
            Self::OwnTag => "own-tag",
            Self::BadQuery => "bad-query",
            Self::AnswerTooLarge => "answer-too-large",
            Self::NoAnswers => "no-answers",
            Self::NotAllowed => "not-allowed",
            Self::IngestOnly => "ingest-only",
            Self::Handshake => "tls-handshake",
            Self::BadToken => "bad-token",
            Self::BadHost => "bad-host",
            Self::BadOrigin => "bad-origin",
            Self::BadRequest => "bad-request",
            Self::BadJson => "bad-json",
            Self::TooManySubscribers => "too-many-subscribers",
            Self::BadLine => "bad-line",
            Self::LineTooLong => "line-too-long",
            Self::NotANumber => "not-a-number",
        }
    }

    /// For the peer and the log.
    pub fn explain(self) -> &'static str {
        match self {
            Self::FrameTooLarge => "the frame is longer than this server takes",
            Self::Http => "this port speaks Riemann's protocol, not HTTP",
            Self::Tls => "this port speaks Riemann's protocol without TLS",
            Self::HalfFrame => "the rest of the frame did not come in time",
            Self::Idle => "nothing came for too long",
            Self::SlowReader => "the replies were not read in time",
            Self::TooManyConnections => "there are too many connections",
            Self::DatagramTooLarge => "the datagram is longer than 16384 bytes",
            Self::Malformed => "the message is not valid protobuf",
            Self::KeylessAttribute => "an attribute has no key",
            Self::TooManyEvents => "the message has too many events",
            Self::EventTooLarge => "the event is longer than this server takes",
            Self::LegacyState => "states are ignored, send events",
            Self::OwnKey => "this host and service belong to hostd itself",
            Self::IndexFull => "the index is full",
            Self::OwnTag => "the tag hostd belongs to hostd itself",
            Self::BadQuery => "the query cannot be parsed",
            Self::AnswerTooLarge => "the answer does not fit a frame, narrow the query",
            Self::NoAnswers => "this transport does not answer queries",
            Self::NotAllowed => "this address is not one that may send events here",
            Self::IngestOnly => {
                "from there events are taken in and queries are not answered; use TLS or a token"
            }
            Self::Handshake => {
                "TLS failed: a certificate of `client-ca` is wanted, or it took too long"
            }
            Self::BadToken => "the token is missing or wrong",
            Self::BadHost => "this is not a name of this machine",
            Self::BadOrigin => "web pages of others are not let in",
            Self::BadRequest => "the request makes no sense here",
            Self::BadJson => "the document is not an event",
            Self::TooManySubscribers => "there are too many subscriptions",
            Self::BadLine => "a line is `path value timestamp`",
            Self::LineTooLong => "the line is longer than this server takes",
            Self::NotANumber => "the value is not a number",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.explain())
    }
}

/// Counters since the start; all of them only grow, but for the open connections.
#[derive(Debug, Default)]
pub struct Stats {
    /// Events taken into the index.
    pub accepted: Counter,
    /// Queries answered.
    pub answered: Counter,
    /// Events that expired.
    pub expired: Counter,
    /// Events that subscribers lost because they were slow.
    pub dropped: Counter,
    /// Connections accepted.
    pub connections: Counter,
    /// Connections closed again.
    pub closed: Counter,
    refused: [Counter; Reason::ALL.len()],
}

impl Stats {
    /// One more for this reason.
    pub fn refuse(&self, reason: Reason) {
        self.refuse_many(reason, 1);
    }

    /// Several more for this reason.
    pub fn refuse_many(&self, reason: Reason, count: usize) {
        // Discriminants run from 0 in the order of ALL.
        if let Some(counter) = self.refused.get(reason as usize) {
            counter.add(count);
        }
    }

    /// How many were refused for this reason.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.refused.get(reason as usize).map_or(0, Counter::get)
    }

    /// What did not get to where it was meant to go, with a stable word for
    /// each cause; a connection that was only idle has lost nothing, nor has a
    /// series that has no value.
    pub fn lost(&self) -> Vec<(&'static str, u64)> {
        let refused = Reason::ALL
            .into_iter()
            .filter(|reason| !matches!(reason, Reason::Idle | Reason::NotANumber));
        let refused = refused.map(|reason| (reason.as_str(), self.refused(reason)));
        refused.chain([("slow-subscriber", self.dropped.get())]).collect()
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.connections.get().saturating_sub(self.closed.get())
    }
}

/// A number that several tasks count up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_word() {
        let stats = Stats::default();
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            stats.refuse(reason);
            assert_eq!(stats.refused(reason), 1, "{reason:?}");
        }
        let words: std::collections::BTreeSet<_> =
            Reason::ALL.into_iter().map(Reason::as_str).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}

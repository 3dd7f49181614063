//! Queries that look at the whole index, bounded: anyone on the machine may
//! ask them, and others fill the index.
//!
//! Few scan at one time, off the threads on which everything else is done, and
//! one whose answer gets too long ends with a refusal.

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::ask::view::{EventView, EventsView};
use crate::ask::{Answer, Code, Refusal, Reply};
use crate::base::Event;
use crate::query::{self, Query};
use crate::riemann::index::Index;

/// Scans at one time.
const AT_ONCE: usize = 2;

/// The longest answer, as a document.
const MIB: usize = 16;

/// Answers queries.
pub(super) struct Scans {
    index: Index,
    turns: Semaphore,
}

impl Scans {
    pub(super) fn new(index: Index) -> Self {
        Self { index, turns: Semaphore::new(AT_ONCE) }
    }

    /// The events that match, when it is this query's turn.
    pub(super) async fn events(&self, query: &str) -> Answer {
        let query =
            query::parse(query).map_err(|error| Refusal::new(Code::Usage, error.caret(), ""))?;
        let broken = |why: String| Refusal::new(Code::Failed, why, "");
        let _turn = self.turns.acquire().await.map_err(|error| broken(error.to_string()))?;
        let index = self.index.clone();
        let scanned = spawn_blocking(move || scan(&index, &query, MIB << 20)).await;
        scanned.map_err(|error| broken(error.to_string()))?
    }
}

fn scan(index: &Index, query: &Query, limit: usize) -> Answer {
    let mut bytes = 0;
    let mut events = Vec::new();
    for event in index.query(query) {
        bytes += length(&event);
        if bytes > limit {
            return Err(Refusal::new(
                Code::Refused,
                format!("the answer has more than {} MiB", limit >> 20),
                "narrow the query",
            ));
        }
        events.push(EventView::from(event.as_ref()));
    }
    Ok(Reply::Events(EventsView { events }))
}

/// About how long the event is as a document, and no less than it takes in
/// memory.
fn length(event: &Event) -> usize {
    /// The keys and the numbers.
    const FIXED: usize = 256;
    /// What a string takes beside its text.
    const STRING: usize = 32;
    let fields = [&event.host, &event.service, &event.state, &event.description];
    let fields = fields.into_iter().flatten().chain(&event.tags);
    let attributes = event.attributes.iter().flat_map(|(key, value)| [key, value]);
    FIXED + fields.chain(attributes).map(|text| STRING + escaped(text)).sum::<usize>()
}

fn escaped(text: &str) -> usize {
    let byte = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    text.bytes().map(byte).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::client::document;
    use crate::host::clock::RealClock;
    use crate::riemann::index::{Limits, Origin};

    fn filled(count: usize, text: &str) -> Index {
        let index = Index::new(Limits::default(), Arc::new(RealClock));
        let event = |at: usize| Event {
            service: Some(format!("s{at}")),
            description: Some(text.to_owned()),
            tags: vec!["a".to_owned(), "b".to_owned()],
            ..Event::default()
        };
        index.apply(Origin::Outside, (0..count).map(event).collect());
        index
    }

    #[tokio::test]
    async fn an_answer_that_is_too_long_is_refused_with_the_way_out() {
        let scans = Scans::new(filled(9000, &"x".repeat(2000)));
        let refused = scans.events("true").await.unwrap_err();
        assert_eq!(refused.code, Code::Refused);
        assert_eq!(refused.message, "the answer has more than 16 MiB");
        assert_eq!(refused.hint, "narrow the query");
        let Ok(Reply::Events(view)) = scans.events("service =~ \"s1%\"").await else {
            panic!("not answered")
        };
        assert_eq!(view.events.len(), 1111);
        assert_eq!(scans.events("service == 1").await.unwrap_err().code, Code::Usage);
    }

    #[tokio::test]
    async fn a_scan_waits_for_its_turn() {
        let scans = Scans::new(filled(1, ""));
        let turns = scans.turns.acquire_many(2).await.unwrap();
        let soon = std::time::Duration::from_millis(50);
        assert!(tokio::time::timeout(soon, scans.events("true")).await.is_err());
        drop(turns);
        assert!(scans.events("true").await.is_ok());
    }

    #[test]
    fn the_estimate_is_not_below_the_document() {
        for text in ["", "plain", "\"\\\n\u{1}\u{1}\u{1}", "ä€"] {
            let index = filled(50, &text.repeat(100));
            let all = query::parse("true").unwrap();
            let estimate: usize = index.query(&all).iter().map(|event| length(event)).sum();
            let reply = scan(&index, &all, usize::MAX).unwrap();
            let written = document(&reply, false).unwrap().len();
            assert!((written..written + 50 * 400).contains(&estimate), "{estimate} for {written}");
        }
    }
}

//! Recorded events through the streams, on a clock that goes as their times do:
//! `hostctl event test-stream`.
//!
//! It is the daemon's own index that takes them, with its expiry; events that
//! carry the tag `hostd` are taken for hostd's own.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::Target;
use crate::base::{Event, Timestamp};
use crate::config::Step;
use crate::host::Clock;
use crate::host::clock::FakeClock;
use crate::query::Query;
use crate::riemann::index::{EXPIRE_INTERVAL, Index, Limits, OWN_TAG, Origin};
use crate::riemann::json;
use crate::riemann::outlet::{Inlet, outlet};
use crate::riemann::subscribe::Subscription;

/// Outputs that are kept; the rest is counted.
const MOST: usize = 100_000;

/// What waits for one output at one moment.
const QUEUE: usize = 1 << 17;

/// Looks for expired events in one gap, at most.
const LOOKS: u32 = 10_000;

/// A text that holds no events.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not JSON.
    #[error("not JSON")]
    Syntax(#[from] serde_json::Error),
    /// One of its events is none.
    #[error("event {number} cannot be read")]
    Event {
        /// From 1.
        number: usize,
        /// Why.
        #[source]
        why: json::JsonError,
    },
}

/// Reads events: one object after the other (JSON lines), a list, or the document of
/// `hostctl event query --json`. Those without a time are of the one before.
pub fn read(text: &str) -> Result<Vec<Event>, ReadError> {
    let mut events = Vec::new();
    let mut last = Timestamp::default();
    for document in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        let mut document = document?;
        if let Some(events) = document.get_mut("events") {
            document = events.take();
        }
        let all = match document {
            Value::Array(all) => all,
            one => vec![one],
        };
        for value in all {
            let (value, time) = flat(value);
            let read = json::from_json(&value.to_string(), last);
            let mut event =
                read.map_err(|why| ReadError::Event { number: events.len() + 1, why })?;
            event.time = time.or(event.time);
            last = event.time.unwrap_or(last);
            events.push(event);
        }
    }
    Ok(events)
}

/// The form of hostctl's documents, seconds and attributes apart, as that of
/// Riemann's clients.
fn flat(value: Value) -> (Value, Option<Timestamp>) {
    let Value::Object(object) = value else { return (value, None) };
    let (mut out, mut time) = (Map::new(), None);
    for (key, value) in object {
        match (key.as_str(), value) {
            ("time", Value::Number(seconds)) => {
                time = seconds.as_f64().map(Timestamp::from_secs_f64);
            }
            ("attributes", Value::Object(attributes)) => out.extend(attributes),
            (_, value) => {
                out.insert(key, value);
            }
        }
    }
    (Value::Object(out), time)
}

/// One event that came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Came {
    /// When, by the events' clock.
    pub at: Timestamp,
    /// `index`, a way out, or `publish TOPIC`.
    pub to: String,
    /// What.
    pub event: Arc<Event>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ran {
    /// Up to a bound, in their order.
    pub came: Vec<Came>,
    /// How many more there were.
    pub more: usize,
    /// Events that were not taken, since their host and service is hostd's own.
    pub refused: usize,
    /// What the streams' bounds cost.
    pub lost: u64,
}

/// Runs the events through the steps, and the clock on for `after`.
pub fn run(steps: &[Step], events: Vec<Event>, after: Duration) -> Ran {
    let start = events.iter().find_map(|event| event.time).unwrap_or_default();
    let clock = Arc::new(FakeClock::at(start));
    let limits = Limits { queue: QUEUE, ..Limits::default() };
    let index = Index::new(limits, Arc::clone(&clock) as Arc<dyn Clock>);
    index.set_streams(steps);
    let mut run = Run { outs: outs(&index, steps), index, clock, ran: Ran::default() };
    for event in events {
        run.until(event.time.unwrap_or(start));
        let own = event.tags.iter().any(|tag| tag == OWN_TAG);
        let origin = if own { Origin::Own } else { Origin::Outside };
        run.ran.refused += run.index.apply(origin, vec![event]).refused;
        run.drain();
    }
    run.until(run.clock.now().plus(after));
    run.ran.lost = run.index.streams_hold().map_or(0, |(_, _, lost)| lost);
    run.ran
}

/// One end of the streams.
enum Out {
    Index(Subscription),
    Outlet(Inlet),
}

fn outs(index: &Index, steps: &[Step]) -> Vec<(String, Out)> {
    let mut targets = vec![Target::Index];
    super::step::targets(steps, &mut targets);
    let open = |target: &Target| {
        Some(match target {
            Target::Index => ("index".to_owned(), Out::Index(index.subscribe(Query::all()).ok()?)),
            Target::Outlet(name) => {
                let (outlet, inlet) = outlet(name, QUEUE);
                index.attach(outlet);
                (name.to_string(), Out::Outlet(inlet))
            }
            Target::Topic(topic) => {
                let listens = index.subscribe_topic(topic, Query::all()).ok()?;
                (format!("publish {topic}"), Out::Index(listens))
            }
        })
    };
    targets.iter().filter_map(open).collect()
}

struct Run {
    index: Index,
    clock: Arc<FakeClock>,
    outs: Vec<(String, Out)>,
    ran: Ran,
}

impl Run {
    /// Lives up to that moment.
    fn until(&mut self, end: Timestamp) {
        let gap = end.since(self.clock.now());
        let look = EXPIRE_INTERVAL.max(gap / LOOKS);
        let mut expire = self.clock.now().plus(look);
        loop {
            let now = self.clock.now();
            let due = self.index.due().unwrap_or(end).max(now);
            let next = if self.index.size().0 > 0 { due.min(expire) } else { due };
            if next > end {
                break;
            }
            self.clock.advance(next.since(now));
            self.index.tick();
            if next >= expire {
                self.index.expire(next);
                expire = next.plus(look);
            }
            self.drain();
            if next == end {
                break;
            }
        }
        self.clock.advance(end.since(self.clock.now()));
    }

    fn drain(&mut self) {
        let at = self.clock.now();
        for (to, out) in &mut self.outs {
            let events: Vec<Arc<Event>> = match out {
                Out::Index(events) => std::iter::from_fn(|| events.try_next()).collect(),
                Out::Outlet(inlet) => inlet.now(usize::MAX),
            };
            for event in events {
                if self.ran.came.len() < MOST {
                    self.ran.came.push(Came { at, to: to.clone(), event });
                } else {
                    self.ran.more += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lines_lists_and_documents() {
        let lines = "{\"service\":\"a\",\"time\":1.5,\"metric\":1}\n{\"service\":\"b\"}\n";
        let events = read(lines).unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(events[1].time, Some(Timestamp(1_500_000)));
        let document = r#"{"events":[{"host":null,"service":"a","metric":0.5,"tags":["x"],
            "ttl":10.0,"time":2.0,"attributes":{"pool":"tank"}}]}"#;
        let events = read(document).unwrap();
        assert_eq!(events[0].attributes["pool"], "tank");
        assert_eq!((events[0].time, events[0].ttl), (Some(Timestamp(2_000_000)), Some(10.0)));
        let iso = r#"[{"service":"a","time":"1970-01-01T00:00:10.000Z","pool":"tank"}]"#;
        assert_eq!(read(iso).unwrap()[0].time, Some(Timestamp::from_secs(10)));
        assert!(read("").unwrap().is_empty());
        assert!(read("{").is_err());
        assert!(read("{\"host\":1}").is_err());
        assert!(read("7").is_err());
    }
}

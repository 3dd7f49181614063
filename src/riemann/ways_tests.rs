//! Streams inside the index: who gets what, and once.

use std::time::Duration;

use super::*;
use crate::base::{Metric, Severity};
use crate::host::Clock;
use crate::host::clock::FakeClock;
use crate::riemann::index::Applied;
use crate::riemann::outlet::{Inlet, outlet};
use crate::riemann::streams::reference::step;

const START: Timestamp = Timestamp(1_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

struct Bench {
    index: Index,
    clock: Arc<FakeClock>,
    graphite: Inlet,
    history: Inlet,
    watches: Inlet,
    all: Subscription,
}

fn steps(texts: &[&str]) -> Vec<Step> {
    texts.iter().flat_map(|text| step(text).unwrap_or_else(|e| panic!("{e}"))).collect()
}

fn bench(texts: &[&str]) -> Bench {
    let clock = Arc::new(FakeClock::at(START));
    let index = Index::new(Limits::default(), Arc::clone(&clock) as Arc<dyn Clock>);
    let attach = |name: &str| {
        let (outlet, inlet) = outlet(name, 100);
        index.attach(outlet);
        inlet
    };
    let (graphite, history) = (attach("graphite"), attach("history"));
    let (outlet, watches) = outlet("rules", 100);
    index.attach_to_index(outlet);
    index.set_streams(&steps(texts));
    let all = index.subscribe(Query::all()).unwrap();
    Bench { index, clock, graphite, history, watches, all }
}

fn names(events: Vec<Arc<Event>>) -> Vec<String> {
    let name = |event: Arc<Event>| {
        let state = event.state.as_deref().map(|s| format!(" {s}")).unwrap_or_default();
        format!("{}{state}", event.service.as_deref().unwrap_or("-"))
    };
    events.into_iter().map(name).collect()
}

impl Bench {
    fn outside(&self, service: &str, state: &str) -> Applied {
        let event = Event {
            host: Some("a".into()),
            service: Some(service.into()),
            state: Some(state.into()),
            metric: Some(Metric::Int(1)),
            ..Event::default()
        };
        self.index.apply(Origin::Outside, vec![event])
    }

    fn own(&self, service: &str) {
        let event = Event { host: Some("nas".into()), ..Event::new(service, Severity::Ok, "fine") };
        self.index.apply_own(vec![event]);
    }

    fn seen(&mut self) -> Vec<String> {
        names(std::iter::from_fn(|| self.all.try_next()).collect())
    }

    fn sent(&mut self) -> [Vec<String>; 3] {
        [&mut self.graphite, &mut self.history, &mut self.watches]
            .map(|inlet| names(inlet.now(100)))
    }
}

fn none() -> Vec<String> {
    Vec::new()
}

#[test]
fn without_streams_everything_goes_everywhere() {
    let mut bench = bench(&[]);
    bench.outside("x", "ok");
    bench.own("cpu");
    let both = vec!["x ok".to_owned(), "cpu ok".to_owned()];
    assert_eq!(bench.sent(), [both.clone(), both.clone(), both.clone()]);
    assert_eq!(bench.seen(), both);
}

#[test]
fn streams_decide_on_the_events_of_others() {
    let mut bench =
        bench(&["where: state = \"ok\"\ndo: [index]\nelse: [graphite]", "publish: doors"]);
    let mut doors = bench.index.subscribe_topic("doors", Query::all()).unwrap();
    assert_eq!(bench.outside("x", "ok").accepted, 1);
    assert_eq!(bench.outside("y", "bad").accepted, 1);
    assert_eq!(bench.index.size().0, 1);
    assert_eq!(bench.sent(), [vec!["y bad".into()], none(), vec!["x ok".into()]]);
    assert_eq!(bench.seen(), ["x ok"]);
    assert_eq!(names(vec![doors.try_next().unwrap(), doors.try_next().unwrap()]).len(), 2);
    assert!(bench.index.unattached().is_empty());
}

#[test]
fn own_events_are_kept_whatever_the_streams_say() {
    let mut bench = bench(&["where: false\ndo: [index]"]);
    bench.own("zpool health");
    assert_eq!(bench.seen(), ["zpool health ok"]);
    let kept = vec!["zpool health ok".to_owned()];
    assert_eq!(bench.sent(), [none(), kept.clone(), kept]);
}

#[test]
fn own_events_are_told_once() {
    let mut bench = bench(&["index", "history", "graphite", "default: {x: y}\ndo: [index]"]);
    bench.own("cpu");
    let once = vec!["cpu ok".to_owned()];
    assert_eq!(bench.sent(), [once.clone(), once.clone(), once.clone()]);
    assert_eq!(bench.seen(), once);
    assert_eq!(bench.index.stats().refused(Reason::OwnKey), 0);
    // And nobody from outside takes their place.
    let lie = Event {
        host: Some("nas".into()),
        service: Some("cpu".into()),
        state: Some("critical".into()),
        ..Event::default()
    };
    let applied = bench.index.apply(Origin::Outside, vec![lie]);
    assert_eq!((applied.refused, applied.reason), (1, Some(Reason::OwnKey)));
    assert_eq!(bench.sent(), [none(), none(), none()]);
}

#[test]
fn an_expired_event_is_streamed_and_seen_once() {
    let mut bench = bench(&["default: {ttl: 60}\ndo: [index]", "expired:\ndo: [graphite]"]);
    bench.outside("x", "ok");
    bench.clock.advance(SECOND * 61);
    bench.index.expire(bench.clock.now());
    assert_eq!(bench.seen(), ["x ok", "x expired"]);
    let both = vec!["x ok".to_owned(), "x expired".to_owned()];
    assert_eq!(bench.sent(), [vec!["x expired".into()], none(), both]);
    // One that arrives as such deletes, and is published.
    bench.outside("x", "ok");
    bench.outside("x", "expired");
    assert_eq!(bench.index.size().0, 0);
    assert_eq!(bench.seen(), ["x ok", "x expired"]);
}

#[test]
fn what_streams_make_is_indexed_and_not_streamed_again() {
    let mut bench =
        bench(&["with: {service: events/sec, host: null}\ndo:\n  - rate: 5s\n    do: [index]"]);
    for _ in 0..10 {
        bench.outside("x", "ok");
    }
    bench.clock.advance(SECOND * 5);
    bench.index.tick();
    let rate = bench.index.get(None, Some("events/sec")).unwrap();
    assert_eq!(rate.metric, Some(Metric::Int(2)));
    assert_eq!(bench.seen(), ["events/sec ok"]);
    assert_eq!(bench.index.due(), Some(START.plus(SECOND * 10)));
}

#[test]
fn streams_come_and_go_while_it_runs() {
    let mut bench = bench(&[]);
    let told = bench.index.set_streams(&steps(&["counter:\ndo: [index]", "outlet: nowhere"]));
    assert_eq!((told.kept, told.new), (0, 3));
    assert_eq!(bench.index.unattached(), ["nowhere"]);
    bench.outside("x", "ok");
    let told = bench.index.set_streams(&steps(&["counter:\ndo: [index]"]));
    assert_eq!((told.kept, told.new), (2, 0));
    bench.outside("x", "ok");
    assert_eq!(bench.index.get(Some("a"), Some("x")).unwrap().metric, Some(Metric::Int(2)));
    bench.index.set_streams(&[]);
    assert_eq!(bench.index.due(), None);
    bench.sent();
    bench.outside("x", "ok");
    assert_eq!(bench.sent()[0], ["x ok"]);
}

#[test]
fn topics_are_bounded_and_forgotten() {
    let clock = Arc::new(FakeClock::at(START));
    let limits = Limits { subscribers: 2, ..Limits::default() };
    let index = Index::new(limits, clock);
    let first = index.subscribe_topic("a", Query::all()).unwrap();
    let _second = index.subscribe_topic("b", Query::all()).unwrap();
    assert!(index.subscribe_topic("a", Query::all()).is_err());
    drop(first);
    assert!(index.subscribe_topic("c", Query::all()).is_ok());
}

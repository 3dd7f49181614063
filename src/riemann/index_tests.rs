//! Index, expiry, origin and subscriptions.

use proptest::prelude::*;

use super::*;
use crate::base::Severity;
use crate::host::clock::FakeClock;
use crate::query::parse;

const START: Timestamp = Timestamp(1_000_000_000);

fn index_with(limits: Limits) -> (Index, Arc<FakeClock>) {
    let clock = Arc::new(FakeClock::at(START));
    (Index::new(limits, Arc::clone(&clock) as Arc<dyn Clock>), clock)
}

fn index() -> (Index, Arc<FakeClock>) {
    index_with(Limits::default())
}

fn outside(host: &str, service: &str, state: &str) -> Event {
    Event {
        host: Some(host.into()),
        service: Some(service.into()),
        state: Some(state.into()),
        ..Event::default()
    }
}

fn own(service: &str) -> Event {
    Event { host: Some("nas".into()), ..Event::new(service, Severity::Ok, "fine") }
}

fn states(index: &Index, query: &str) -> Vec<String> {
    let found = index.query(&parse(query).unwrap());
    let mut states: Vec<_> = found.iter().filter_map(|event| event.state.clone()).collect();
    states.sort();
    states
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_last_arrival_wins() {
    let (index, _) = index();
    index.apply(Origin::Outside, vec![outside("a", "x", "1"), outside("a", "x", "2")]);
    let older = Event { time: Some(Timestamp(0)), ..outside("a", "x", "3") };
    index.apply(Origin::Outside, vec![older, Event::default()]);
    assert_eq!(states(&index, "true"), ["3"]);
    assert_eq!(states(&index, "host = \"a\" and service = \"x\""), ["3"]);
    assert_eq!(states(&index, "host = \"a\" and service = \"y\""), [""; 0]);
    assert_eq!(index.query(&parse("host = nil and service = nil").unwrap()).len(), 1);
    assert_eq!(index.size().0, 2);
}

#[test]
fn events_expire_by_their_time_and_ttl() {
    let (index, _) = index();
    let at = |service: &str, ago: i64, ttl: Option<f32>| Event {
        time: Some(Timestamp(START.0 - ago * 1_000_000)),
        ttl,
        description: Some("gone with it".into()),
        ..outside("a", service, "ok")
    };
    index.apply(
        Origin::Outside,
        vec![
            at("default", 0, None),
            at("short", 0, Some(5.0)),
            at("late", 55, None),
            at("future", -1_000_000, Some(5.0)),
            at("odd", 0, Some(f32::NAN)),
            at("forever", 0, Some(f32::INFINITY)),
        ],
    );
    let mut watch = index.subscribe(parse("state = \"expired\"").unwrap()).unwrap();
    let mut expire = |seconds: u32| {
        let now = START.plus(SECOND * seconds);
        let mut gone: Vec<_> =
            index.expire(now).iter().filter_map(|event| event.service.clone()).collect();
        gone.sort();
        for _ in &gone {
            let event = watch.try_next().unwrap();
            let kept = Event { service: event.service.clone(), ..outside("a", "", "expired") };
            assert_eq!(*event, Event { time: Some(now), ..kept });
        }
        assert!(watch.try_next().is_none());
        gone
    };
    assert_eq!(expire(5), [""; 0]);
    assert_eq!(expire(6), ["future", "late", "short"]);
    assert_eq!(expire(60), [""; 0]);
    assert_eq!(expire(61), ["default", "odd"]);
    assert_eq!(expire(u32::MAX), [""; 0]);
    assert_eq!(index.stats().expired.get(), 5);
}

#[test]
fn an_expired_event_deletes_and_is_published() {
    let (index, _) = index();
    let mut all = index.subscribe(Query::all()).unwrap();
    index.apply(Origin::Outside, vec![outside("a", "x", "ok"), outside("a", "x", "expired")]);
    assert_eq!(index.size(), (0, 0));
    assert_eq!(all.try_next().unwrap().state.as_deref(), Some("ok"));
    assert_eq!(all.try_next().unwrap().state.as_deref(), Some("expired"));
}

#[test]
fn own_events_cannot_be_replaced_or_deleted_from_outside() {
    let (index, clock) = index();
    index.apply_own(vec![own("zpool health")]);
    let lies = vec![
        outside("nas", "zpool health", "critical"),
        outside("nas", "zpool health", "expired"),
        outside("other", "zpool health", "ok"),
    ];
    let applied = index.apply(Origin::Outside, lies);
    assert_eq!(applied, Applied { accepted: 1, refused: 2, reason: Some(Reason::OwnKey) });
    assert_eq!(states(&index, "host = \"nas\" and service = \"zpool health\""), ["ok"]);
    assert_eq!(index.stats().refused(Reason::OwnKey), 2);

    // Once the own event is gone, the name is free again; an own event takes it back.
    clock.advance(SECOND * 61);
    index.expire(clock.now());
    assert_eq!(index.apply(Origin::Outside, vec![outside("nas", "zpool health", "x")]).refused, 0);
    index.apply_own(vec![own("zpool health")]);
    assert_eq!(states(&index, "tagged \"hostd\""), ["ok"]);
}

#[test]
fn the_own_tag_is_taken_from_outside_events() {
    let (index, _) = index();
    let tags = ["a", "hostd", "b", "hostd"].map(str::to_owned).to_vec();
    index.apply(Origin::Outside, vec![Event { tags, ..outside("a", "x", "ok") }]);
    assert_eq!(index.get(Some("a"), Some("x")).unwrap().tags, ["a", "b"]);
    assert_eq!(index.stats().refused(Reason::OwnTag), 1);
}

#[test]
fn a_full_index_takes_known_and_own_keys() {
    let (index, _) = index_with(Limits { entries: 2, ..Limits::default() });
    let many = (0..4).map(|n| outside("a", &n.to_string(), "ok")).collect();
    let applied = index.apply(Origin::Outside, many);
    assert_eq!(applied, Applied { accepted: 2, refused: 2, reason: Some(Reason::IndexFull) });
    assert_eq!(index.apply(Origin::Outside, vec![outside("a", "0", "new")]).refused, 0);
    index.apply_own(vec![own("cpu"), own("memory")]);
    assert_eq!(index.size().0, 4);
    // Beyond the limit, too, known keys are taken.
    assert_eq!(index.apply(Origin::Outside, vec![outside("a", "0", "newer")]).refused, 0);
}

#[test]
fn bytes_are_bounded_too() {
    let (index, _) = index_with(Limits { bytes: 10_000, ..Limits::default() });
    let long =
        |length: usize| Event { description: Some("x".repeat(length)), ..outside("a", "x", "ok") };
    assert_eq!(index.apply(Origin::Outside, vec![long(5_000)]).refused, 0);
    assert_eq!(index.apply(Origin::Outside, vec![long(20_000)]).reason, Some(Reason::IndexFull));
    assert_eq!(index.apply(Origin::Outside, vec![long(9_000)]).refused, 0);
    assert_eq!(index.apply(Origin::Outside, vec![outside("b", "x", "ok"); 3]).refused, 0);
}

#[test]
fn a_slow_subscriber_loses_its_oldest() {
    let (index, _) = index_with(Limits { queue: 3, ..Limits::default() });
    let mut slow = index.subscribe(parse("host = \"a\"").unwrap()).unwrap();
    let many = (0..5).map(|n| outside("a", &n.to_string(), "ok")).collect();
    index.apply(Origin::Outside, many);
    index.apply(Origin::Outside, vec![outside("b", "x", "ok")]);
    let left: Vec<_> =
        std::iter::from_fn(|| slow.try_next()).filter_map(|e| e.service.clone()).collect();
    assert_eq!(left, ["2", "3", "4"]);
    assert_eq!((slow.dropped(), index.stats().dropped.get()), (2, 2));
}

#[test]
fn subscriptions_are_bounded_and_end_when_dropped() {
    let (index, _) = index_with(Limits { subscribers: 1, ..Limits::default() });
    let first = index.subscribe(Query::all()).unwrap();
    assert_eq!(index.subscribe(Query::all()).err(), Some(TooManySubscribers(1)));
    drop(first);
    assert!(index.subscribe(Query::all()).is_ok());
}

#[tokio::test]
async fn a_waiting_subscriber_is_woken() {
    let (index, _) = index();
    let mut subscription = index.subscribe(Query::all()).unwrap();
    let waiting = tokio::spawn(async move { subscription.next().await });
    tokio::task::yield_now().await;
    index.apply(Origin::Outside, vec![outside("a", "x", "ok")]);
    assert_eq!(waiting.await.unwrap().host.as_deref(), Some("a"));
}

proptest! {
    /// Against a plain map without limits.
    #[test]
    fn agrees_with_a_map(events in prop::collection::vec(
        (0u8..3, 0u8..3, prop::sample::select(vec!["ok", "expired", "x"])), 0..40
    )) {
        let (index, _) = index();
        let mut map = std::collections::BTreeMap::new();
        for (host, service, state) in events {
            let (host, service) = (host.to_string(), service.to_string());
            index.apply(Origin::Outside, vec![outside(&host, &service, state)]);
            if state == "expired" {
                map.remove(&(host, service));
            } else {
                map.insert((host, service), state.to_owned());
            }
        }
        let found = index.query(&Query::all());
        let weights: usize = found.iter().map(|event| weight(event) as usize).sum();
        prop_assert_eq!(index.size(), (map.len(), weights));
        for event in found {
            let key = (event.host.clone().unwrap(), event.service.clone().unwrap());
            prop_assert_eq!(map.get(&key), event.state.as_ref());
        }
    }
}

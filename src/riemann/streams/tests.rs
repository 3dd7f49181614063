//! Conformance with the reference's tables, reload, bounds.

use std::sync::Arc;
use std::time::Duration;

use super::held::{CHILDREN_OF_ONE, EVENTS_OF_ONE};
use super::reference::{run, step};
use super::*;
use crate::base::{Metric, Timestamp};
use crate::config::operators::OPERATORS;

#[track_caller]
fn row(text: &str, input: &str, output: &str) {
    assert_eq!(run(text, input).unwrap_or_else(|e| panic!("{e}")), output, "{text}\n{input}");
}

/// The outputs in docs/streams.md and riemann.md, as the reference gave them.
#[test]
fn the_reference_s_tables() {
    row("rate: 5s\ndo: [index]", "1@0 1@1 3@6", "0.4@5, 0.6@10, 0@15");
    row("ddt:\ndo: [index]", "0@0 10@5 10@10 5@12", "2@5, 0@10, -2.5@12");
    row("ewma: 0.5\ndo: [index]", "4@0 4@1 0@2", "2@0, 3@1, 1.5@2");
    row(
        "throttle: 2\nevery: 5s\ndo: [index]",
        "0@0 1@1 2@2 4@4 5@5 6@6 7@7 10@10",
        "0@0, 1@1, 5@5, 6@6, 10@10",
    );
    let rollup = "0@0 1@1 2@2 3@3 6@6 7@7 8@8";
    row("rollup: 2\nevery: 5s\ndo: [index]", rollup, "0@0, 1@1, 2@2, 3@3, 6@6, 7@7, 8@8");
    let counted = "rollup: 2\nevery: 5s\ndo:\n  - fold: count\n    do: [index]";
    row(counted, rollup, "1@0, 1@1, 2@3, 1@6, 2@8");
    row(
        "stable: 3s\ndo: [index]",
        "ok@0 ok@1 bad@2 ok@3 ok@4 ok@6 bad@7",
        "ok@3, ok@4, ok@6, bad@7",
    );
    row("runs: 3\ndo: [index]", "a@0 a@1 b@2 b@3 b@4 b@5 a@6", "b@4, b@5");
    row(
        "percentiles: [0, .5, .95, 1]\nevery: 15s\ndo: [index]",
        "a=0@0 a=1@1 a=2@2 a=3@3 a=4@4 a=5@5 a=6@6 a=7@7 a=8@8 a=9@9",
        "a 0=0@0, a 0.5=5@5, a 0.95=9@9, a 1=9@9",
    );
}

#[test]
fn choosing_and_changing() {
    row("where: metric > 1\ndo: [index]\nelse: [log]", "1@0 2@1", "log: 1@0, 2@1");
    row("over: 1\ndo: [index]", "1@0 2@1 ok@2", "2@1");
    row("under: 2\ndo: [index]", "1@0 2@1 ok@2", "1@0");
    row("expired:\ndo: [index]", "ok@0 expired@1", "expired@1");
    let tags = "with: {tags: [a, b]}\ndo:\n  - tagged: [a, b]\n    do: [index]\n  - tagged: [a, c]\n    do: [log]";
    row(tags, "1@0", "1@0");
    row("with: {service: x, metric: null}\ndo: [index]", "a=1@0 b=ok@1", "x=@0, x=ok@1");
    row("default: {service: x, state: ok}\ndo: [index]", "1@0 b=bad@1", "x=1 ok@0, b=bad@1");
}

#[test]
fn comparing_and_holding_back() {
    row("changed: state\ndo: [index]", "a@0 a@1 b@2 a@3", "a@0, b@2, a@3");
    row("changed: state\ninit: a\ndo: [index]", "a@0 a@1 b@2 a@3", "b@2, a@3");
    row("changed: metric\ndo: [index]", "ok@0 1@1 1.0@2 1@3", "1@1, 1@2, 1@3");
    row(
        "changed-state:\ninit: ok\ndo: [index]",
        "x=ok@0 y=bad@1 x=ok@2 x=bad@3 y=bad@4",
        "y=bad@1, x=bad@3",
    );
    let batch = "batch: 2\nevery: 5s\ndo:\n  - fold: count\n    do: [index]";
    row(batch, "0@0 1@1 2@2 3@6", "2@1, 1@2, 1@6");
    let fill = "fill-in: 2s\nevent: {state: silent}\ndo: [index]";
    row(fill, "ok@0 ok@1 expired@6", "ok@0, ok@1, silent@3, silent@5, expired@6");
}

#[test]
fn lists() {
    let moving = "moving-time-window: 3s\ndo:\n  - fold: sum\n    do: [index]";
    // The cutoff is strict; what is late is dropped.
    row(moving, "1@0 2@2 4@3 8@5 16@2", "1@0, 3@2, 6@3, 12@5");
    let fixed = "fixed-time-window: 5s\ndo:\n  - fold: sum\n    do: [index]";
    row(fixed, "1@0 2@4 4@5 8@21 16@3 32@30", "3@4, 4@5, 8@21");
    let project = "project: ['service = \"in\"', 'service = \"out\"']\ndo:\n  - fold: difference\n    do: [index]\n  - fold: count\n    do: [log]";
    row(
        project,
        "in=9@0 x=1@1 out=4@2 in=12@3",
        "log: in=1@0, in=5@2, log: in=2@2, in=8@3, log: in=2@3",
    );
    let coalesce = "coalesce: 5s\ndo:\n  - fold: sum\n    do: [index]";
    row(coalesce, "a=1@0 b=2@1 a=4@2", "a=1@0, a=6@2, a=6@2");
    for (fold, result) in [
        ("sum", "6@2"),
        ("product", "6@2"),
        ("difference", "-2@2"),
        ("mean", "2@2"),
        ("median", "2@1"),
        ("min", "1@2"),
        ("max", "3@0"),
        ("count", "3@2"),
        ("quotient", "0.5@2"),
    ] {
        let values = if fold == "difference" { "3@0 4@1 1@2" } else { "3@0 2@1 1@2" };
        let values = if fold == "quotient" { "3@0 2@1 3@2" } else { values };
        let text = format!("batch: 3\nevery: 1m\ndo:\n  - fold: {fold}\n    do: [index]");
        row(&text, values, result);
    }
    let missing = "batch: 2\nevery: 1m\ndo:\n  - fold: quotient\n    do: [index]";
    row(missing, "1@0 0@1 1@2 ok@3", "");
}

#[test]
fn numbers() {
    row("counter: 5\ndo: [index]", "1@0 ok@1 2@2", "6@0, ok@1, 8@2");
    row("ddt: 5s\ndo: [index]", "0@0 10@4 20@9", "2.5@5, 2@10, 0@15");
    row("ewma: 1s\ndo: [index]", "4@0 0@1 0@3", "4@0, 2@1, 0.5@3");
    // Across a window without events, and with fractions.
    row("rate: 2s\ndo: [index]", "1@0 0.5@1 3@5", "0.75@2, 0@4, 1.5@6, 0@8, 0@10, 0@12, 0@14");
}

/// A rate's ttl runs down without events, and it ends with the last one's.
#[test]
fn rates_end_with_their_events() {
    let mut streams = Streams::new(&step("rate: 5s\ndo: [index]").unwrap());
    let mut came = Vec::new();
    let mut out = |_: &Target, event: &Arc<Event>| came.push((event.ttl, event.time));
    let mut event = at(0, Some(1));
    event.ttl = Some(12.0);
    streams.push(&Arc::new(event), Timestamp(0), &mut out);
    streams.tick(Timestamp::from_secs(100), &mut out);
    let expected = [(Some(12.0), 5), (Some(7.0), 10)];
    assert_eq!(came, expected.map(|(ttl, time)| (ttl, Some(Timestamp::from_secs(time)))));
    assert_eq!(streams.due(), None);
}

fn at(second: i64, metric: Option<i64>) -> Event {
    let metric = metric.map(Metric::Int);
    Event { metric, time: Some(Timestamp::from_secs(second)), ..Event::default() }
}

fn named(host: &str, second: i64) -> Arc<Event> {
    Arc::new(Event { host: Some(host.to_owned()), ..at(second, Some(1)) })
}

fn none(_: &Target, _: &Arc<Event>) {}

#[test]
fn children_are_forgotten_after_their_ttl() {
    let steps = step("by: host\ndo:\n  - rate: 5s\n    do: [index]").unwrap();
    let mut streams = Streams::new(&steps);
    for host in ["a", "b", "c"] {
        streams.push(&named(host, 0), Timestamp(0), &mut none);
    }
    assert_eq!(streams.held().children(), 3);
    streams.push(&named("a", 50), Timestamp::from_secs(50), &mut none);
    // 60 s without a ttl, and the table is looked through every 10 s.
    streams.tick(Timestamp::from_secs(60), &mut none);
    assert_eq!(streams.held().children(), 3);
    streams.tick(Timestamp::from_secs(70), &mut none);
    assert_eq!(streams.held().children(), 1);
    streams.tick(Timestamp::from_secs(120), &mut none);
    assert_eq!((streams.held().children(), streams.due()), (0, None));

    // Who remembers a state is kept for a day; who waits for a window, until it ends.
    let steps = step("by: host\ndo:\n  - changed: state\n    do: [index]").unwrap();
    let mut streams = Streams::new(&steps);
    streams.push(&named("a", 0), Timestamp(0), &mut none);
    streams.tick(Timestamp::from_secs(80_000), &mut none);
    assert_eq!(streams.held().children(), 1);
    streams.tick(Timestamp::from_secs(86_420), &mut none);
    assert_eq!(streams.held().children(), 0);
    let steps = step("by: host\ndo:\n  - throttle: 1\n    every: 1h\n    do: [index]").unwrap();
    let mut streams = Streams::new(&steps);
    streams.push(&named("a", 0), Timestamp(0), &mut none);
    streams.tick(Timestamp::from_secs(3_590), &mut none);
    assert_eq!(streams.held().children(), 1);
    streams.tick(Timestamp::from_secs(3_620), &mut none);
    assert_eq!(streams.held().children(), 0);
}

#[test]
fn children_and_windows_are_bounded() {
    let steps = step("by: host\ndo:\n  - counter:\n    do: [index]").unwrap();
    let mut streams = Streams::new(&steps);
    for n in 0..CHILDREN_OF_ONE + 10 {
        streams.push(&named(&n.to_string(), 0), Timestamp(0), &mut none);
    }
    let held = streams.held();
    assert!(held.children() <= CHILDREN_OF_ONE, "{}", held.children());
    assert_eq!(held.evicted.get(), 625);

    let steps = step("percentiles: [0.5]\nevery: 1h\ndo: [index]").unwrap();
    let mut streams = Streams::new(&steps);
    for n in 0..EVENTS_OF_ONE + 5 {
        let event = at(0, i64::try_from(n).ok());
        streams.push(&Arc::new(event), Timestamp(0), &mut none);
    }
    assert_eq!((streams.held().events(), streams.held().losses()), (EVENTS_OF_ONE, 5));
    streams.tick(Timestamp::from_secs(3600), &mut none);
    assert_eq!(streams.held().events(), 0);
}

#[test]
fn a_reload_keeps_what_did_not_change() {
    let text = |inner: &str| {
        let text = format!("by: host\ndo:\n  - counter:\n    do: {inner}");
        step(&text).unwrap()
    };
    let mut came = Vec::new();
    let mut streams = Streams::new(&text("[index]"));
    streams.push(&named("a", 0), Timestamp(0), &mut none);
    // Below the counter something changes; it goes on counting.
    let told = streams.reload(&text("[index, log]"));
    assert_eq!(told, Reloaded { kept: 3, new: 1 });
    let mut out = |target: &Target, event: &Arc<Event>| came.push((target.clone(), event.metric));
    streams.push(&named("a", 1), Timestamp::from_secs(1), &mut out);
    assert_eq!(came.len(), 2);
    assert!(came.iter().all(|(_, metric)| *metric == Some(Metric::Int(2))), "{came:?}");

    // Another step in front, and the order does not matter.
    let mut steps = step("rate: 1s\ndo: [index]").unwrap();
    steps.extend(text("[index, log]"));
    assert_eq!(streams.reload(&steps).new, 2);
    came.clear();
    let mut out = |target: &Target, event: &Arc<Event>| came.push((target.clone(), event.metric));
    streams.push(&named("a", 2), Timestamp::from_secs(2), &mut out);
    assert_eq!(came[0].1, Some(Metric::Int(3)));

    // Gone is gone.
    streams.reload(&[]);
    assert_eq!((streams.held().children(), streams.due()), (0, None));
}

#[test]
fn a_late_tick_makes_up_for_what_was_missed_and_no_more() {
    let mut streams = Streams::new(&step("rate: 5s\ndo: [index]").unwrap());
    let mut came = 0;
    let mut out = |_: &Target, _: &Arc<Event>| came += 1;
    streams.push(&Arc::new(at(0, Some(1))), Timestamp(0), &mut out);
    streams.tick(Timestamp::from_secs(50), &mut out);
    // The machine was asleep for ten years.
    streams.tick(Timestamp::from_secs(315_360_000), &mut out);
    assert!((10..100).contains(&came), "{came}");
    // The clock is set back: it goes on.
    let mut again = 0;
    let mut out = |_: &Target, _: &Arc<Event>| again += 1;
    for second in 0..20 {
        streams.push(&Arc::new(at(second, Some(1))), Timestamp::from_secs(second), &mut out);
    }
    assert!(again >= 3, "{again}");
}

#[test]
fn events_that_nothing_wants_cost_no_memory() {
    let steps = step("where: false\ndo:\n  - percentiles: [0.5]\n    every: 5s\n    do: [index]");
    let mut streams = Streams::new(&steps.unwrap());
    for second in 0..100 {
        streams.push(&named("a", second), Timestamp::from_secs(second), &mut none);
    }
    assert_eq!((streams.held().events(), streams.due()), (0, None));
}

#[test]
fn every_example_of_the_page_runs() {
    for operator in &OPERATORS {
        let came = run(operator.example, operator.input);
        assert!(came.is_ok_and(|came| !came.is_empty()), "{}", operator.name);
    }
}

#[test]
fn a_dead_man_is_noticed_without_any_event() {
    let steps = step("fill-in: 30s\nevent: {service: lost, state: critical}\ndo: [alert]").unwrap();
    let mut streams = Streams::new(&steps);
    let mut came = Vec::new();
    let mut out = |_: &Target, event: &Arc<Event>| came.push(event.time);
    streams.tick(Timestamp::from_secs(1_000), &mut out);
    streams.tick(Timestamp::from_secs(1_029), &mut out);
    streams.tick(Timestamp::from_secs(1_061), &mut out);
    assert_eq!(came, [1_030, 1_060].map(|s| Some(Timestamp::from_secs(s))));
}

/// The configuration of Riemann's manual that ships as an example, driven.
#[test]
fn the_example_does_what_it_says() {
    let file = include_str!("../../../etc/streams-example.yaml");
    let sources = [crate::config::Source::host("streams-example.yaml", file)];
    let (config, warnings) = crate::config::load(&sources, &crate::config::not_asked).unwrap();
    assert!(warnings.is_empty(), "{warnings}");
    assert_eq!(config.events.expire, Duration::from_secs(5));

    let mut events = Vec::new();
    for second in 0..16 {
        let tagged = Event {
            host: Some("web".to_owned()),
            service: Some("latency".to_owned()),
            tags: vec!["rollingavg".to_owned()],
            ..at(second, Some(second))
        };
        let plain = Event { service: Some("plain".to_owned()), tags: Vec::new(), ..tagged.clone() };
        events.extend([tagged, plain]);
    }
    // A rate without ttl goes on until its child is forgotten, a minute later.
    let ran = replay::run(&config.streams, events, Duration::from_secs(200));
    let came = |to: &str, service: &str| -> Vec<(i64, f64)> {
        let those =
            ran.came.iter().filter(|c| c.to == to && c.event.service.as_deref() == Some(service));
        those.map(|c| (c.at.secs(), c.event.metric.map_or(f64::NAN, Metric::as_f64))).collect()
    };
    // Percentiles over 15 s into both; 0 to 14 are in the first window.
    for (service, metric) in [("latency 0.5", 7.0), ("latency 0.95", 14.0), ("latency 0.99", 14.0)]
    {
        assert_eq!(came("graphite", service)[0], (15, metric));
        assert_eq!(came("index", service)[0], (15, metric));
    }
    // Rates over 5 s under the service's own name: (0+1+2+3+4)/5, …
    let rates = came("graphite", "latency");
    for rate in [(5, 2.0), (10, 7.0), (15, 12.0)] {
        assert!(rates.contains(&rate), "{rates:?}");
        assert!(came("index", "latency").contains(&rate));
    }
    assert!(!came("graphite", "latency 0.5").is_empty());
    // Everything into Graphite, as it came.
    assert_eq!(came("graphite", "plain")[..16], (0..16).map(|s| (s, s as f64)).collect::<Vec<_>>());
    // Two events a second.
    assert_eq!(came("index", "events/sec")[..3], [(5, 2.0), (10, 2.0), (15, 2.0)]);
    assert_eq!(came("graphite", "events/sec"), []);
    // What expires after its minute is logged, without a metric.
    let expired = ran.came.iter().filter(|c| c.to == "log");
    let names: Vec<_> = expired.filter_map(|c| c.event.service.clone()).collect();
    assert!(
        names.contains(&"plain".to_owned()) && names.contains(&"latency".to_owned()),
        "{names:?}"
    );
    assert!(ran.came.iter().all(|c| c.to != "log" || c.event.state.as_deref() == Some("expired")));
    assert_eq!((ran.refused, ran.lost, ran.more), (0, 0, 0));
}

/// A thousand rules that do not match cost a thousand comparisons and nothing else.
#[test]
fn a_thousand_rules() {
    let rules: String = (0..1000).fold(String::new(), |text, n| {
        text + &format!("  - where: service = \"s{n}\" and state != \"ok\"\n    do: [index]\n")
    });
    let file = crate::config::Source::host("host.yaml", format!("streams:\n{rules}"));
    let (config, _) = crate::config::load(&[file], &crate::config::not_asked).unwrap();
    let mut streams = Streams::new(&config.streams);
    let mut came = 0;
    let mut out = |_: &Target, _: &Arc<Event>| came += 1;
    let event = Event { service: Some("s7".to_owned()), ..at(0, None) };
    streams.push(&Arc::new(event), Timestamp(0), &mut out);
    assert_eq!(came, 1);
}

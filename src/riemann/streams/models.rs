//! Operators against simple models, on random sequences with a simulated clock.
//!
//! A model sees the whole sequence at once, and knows nothing of timers.

use std::sync::Arc;

use proptest::prelude::*;

use super::reference::step;
use super::*;
use crate::base::{Metric, Timestamp};
use crate::config::operators::OPERATORS;

/// Second, service, metric.
type Given = (i64, u8, i64);

/// Metric and second of what came out.
type Came = Vec<(f64, i64)>;

const STATES: [&str; 3] = ["ok", "bad", "worse"];

fn event((second, service, metric): Given) -> Arc<Event> {
    let state = STATES[usize::try_from(metric).unwrap_or(0) % 3];
    Arc::new(Event {
        service: Some(format!("s{service}")),
        state: Some(state.to_owned()),
        metric: Some(Metric::Int(metric)),
        time: Some(Timestamp::from_secs(second)),
        ..Event::default()
    })
}

/// Up to 45 seconds in order, so that nothing of it expires meanwhile.
fn sequence() -> impl Strategy<Value = Vec<Given>> {
    prop::collection::vec((0i64..4, 0u8..3, 0i64..6), 1..15).prop_map(|steps| {
        let mut second = 100;
        let next = |(gap, service, metric)| {
            second += gap;
            (second, service, metric)
        };
        steps.into_iter().map(next).collect()
    })
}

/// Five seconds after the last event.
fn end(given: &[Given]) -> i64 {
    given.last().map_or(0, |last| last.0) + 5
}

fn run(text: &str, given: &[Given]) -> Came {
    let mut streams = Streams::new(&step(text).unwrap_or_else(|e| panic!("{e}")));
    let mut came = Vec::new();
    let mut out = |_: &Target, event: &Arc<Event>| {
        let metric = event.metric.map_or(f64::NAN, Metric::as_f64);
        came.push((metric, event.time.map_or(0, Timestamp::secs)));
    };
    for one in given {
        streams.push(&event(*one), Timestamp::from_secs(one.0), &mut out);
    }
    streams.tick(Timestamp::from_secs(end(given)), &mut out);
    came
}

fn of(given: &Given) -> (f64, i64) {
    (given.2 as f64, given.0)
}

fn sum(given: &[Given]) -> f64 {
    given.iter().map(|one| one.2 as f64).sum()
}

/// The events of each window of five seconds after the first, with its end.
fn windows(given: &[Given]) -> Vec<(i64, Vec<Given>)> {
    let start = given[0].0;
    (0..=(end(given) - start) / 5)
        .map(|n| {
            let (from, to) = (start + 5 * n, start + 5 * n + 5);
            (to, given.iter().filter(|one| (from..to).contains(&one.0)).copied().collect())
        })
        .collect()
}

fn latest(given: &[Given]) -> i64 {
    given.iter().map(|one| one.0).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn when_the_clock_ticks_changes_nothing(
        given in sequence(), ticks in prop::collection::vec(0i64..50_000, 0..30),
    ) {
        for operator in &OPERATORS {
            let run = |ticks: &[i64]| {
                let mut streams = Streams::new(&step(operator.example).unwrap());
                let mut came = Vec::new();
                let mut out = |target: &Target, event: &Arc<Event>| {
                    came.push((target.clone(), Event::clone(event)));
                };
                let first = Timestamp::from_secs(given[0].0);
                streams.tick(first, &mut out);
                let mut ticks: Vec<Timestamp> =
                    ticks.iter().map(|ms| Timestamp(first.0 + ms * 1000)).collect();
                ticks.sort();
                let mut ticks = ticks.into_iter().peekable();
                for one in &given {
                    let now = Timestamp::from_secs(one.0);
                    while let Some(tick) = ticks.next_if(|tick| *tick <= now) {
                        streams.tick(tick, &mut out);
                    }
                    streams.push(&event(*one), now, &mut out);
                }
                streams.tick(Timestamp::from_secs(end(&given)), &mut out);
                came
            };
            prop_assert_eq!(run(&ticks), run(&[]), "{}", operator.name);
        }
    }

    #[test]
    fn counter(given in sequence()) {
        let expected: Came = (0..given.len()).map(|i| (sum(&given[..=i]), given[i].0)).collect();
        prop_assert_eq!(run("counter:\ndo: [index]", &given), expected);
    }

    #[test]
    fn by_keeps_its_children_apart(given in sequence()) {
        let same = |i: usize| {
            let before = given[..=i].iter().filter(|one| one.1 == given[i].1);
            (before.map(|one| one.2 as f64).sum(), given[i].0)
        };
        let expected: Came = (0..given.len()).map(same).collect();
        let text = "by: [host, service]\ndo:\n  - counter:\n    do: [index]";
        prop_assert_eq!(run(text, &given), expected);
    }

    #[test]
    fn over_under_where(given in sequence(), than in 0i64..6) {
        let chosen = |keep: fn(i64, i64) -> bool| -> Came {
            given.iter().filter(|one| keep(one.2, than)).map(of).collect()
        };
        let over = run(&format!("over: {than}\ndo: [index]"), &given);
        prop_assert_eq!(over, chosen(|metric, than| metric > than));
        let under = run(&format!("under: {than}\ndo: [index]"), &given);
        prop_assert_eq!(under, chosen(|metric, than| metric < than));
        let text = format!("where: metric != {than}\ndo: []\nelse: [index]");
        prop_assert_eq!(run(&text, &given), chosen(|metric, than| metric == than));
    }

    #[test]
    fn changed_and_runs(given in sequence(), count in 1usize..4) {
        let changes = |i: &usize| *i == 0 || given[*i].2 != given[*i - 1].2;
        let expected: Came = (0..given.len()).filter(changes).map(|i| of(&given[i])).collect();
        prop_assert_eq!(run("changed: metric\ndo: [index]", &given), expected);
        let ends = |i: &usize| {
            *i + 1 >= count && given[*i + 1 - count..=*i].iter().all(|one| one.2 % 3 == given[*i].2 % 3)
        };
        let expected: Came = (0..given.len()).filter(ends).map(|i| of(&given[i])).collect();
        prop_assert_eq!(run(&format!("runs: {count}\ndo: [index]"), &given), expected);
    }

    #[test]
    fn stable(given in sequence()) {
        let mut expected = Came::new();
        for group in given.chunk_by(|a, b| a.2 % 3 == b.2 % 3) {
            let next = given.iter().skip_while(|one| !std::ptr::eq(*one, &raw const group[group.len() - 1])).nth(1);
            let until = next.map_or(end(&given), |next| next.0);
            if until - group[0].0 >= 3 {
                expected.extend(group.iter().map(of));
            }
        }
        prop_assert_eq!(run("stable: 3s\ndo: [index]", &given), expected);
    }

    #[test]
    fn throttle(given in sequence(), count in 1usize..4) {
        let firsts = windows(&given).into_iter().flat_map(|(_, one)| one.into_iter().take(count));
        let expected: Came = firsts.map(|one| of(&one)).collect();
        let text = format!("throttle: {count}\nevery: 5s\ndo: [index]");
        prop_assert_eq!(run(&text, &given), expected);
    }

    #[test]
    fn rollup(given in sequence(), count in 1usize..4) {
        let (mut expected, mut carried) = (Came::new(), 0);
        for (to, window) in windows(&given).into_iter().filter(|(_, window)| !window.is_empty()) {
            let single = window.len().min(count - carried);
            expected.extend(window[..single].iter().map(|one| (1.0, one.0)));
            let rest = &window[single..];
            carried = usize::from(!rest.is_empty());
            if carried > 0 && to <= end(&given) {
                expected.push((rest.len() as f64, latest(rest)));
            }
        }
        let text = format!("rollup: {count}\nevery: 5s\ndo:\n  - fold: count\n    do: [index]");
        prop_assert_eq!(run(&text, &given), expected);
    }

    #[test]
    fn batch(given in sequence(), count in 1usize..4) {
        let mut expected = Came::new();
        for (to, window) in windows(&given) {
            for list in window.chunks(count).filter(|l| l.len() == count || to <= end(&given)) {
                expected.push((sum(list), latest(list)));
            }
        }
        let text = format!("batch: {count}\nevery: 5s\ndo:\n  - fold: sum\n    do: [index]");
        prop_assert_eq!(run(&text, &given), expected);
    }

    #[test]
    fn rate_and_percentiles(given in sequence()) {
        let ended: Vec<_> =
            windows(&given).into_iter().filter(|(to, _)| *to <= end(&given)).collect();
        let expected: Came = ended.iter().map(|(to, window)| (sum(window) / 5.0, *to)).collect();
        prop_assert_eq!(run("rate: 5s\ndo: [index]", &given), expected);
        let text = "percentiles: [0, 0.5, 0.9, 1]\nevery: 5s\ndo: [index]";
        let mut expected = Vec::new();
        for (_, window) in ended.iter().filter(|(_, window)| !window.is_empty()) {
            let mut sorted: Vec<i64> = window.iter().map(|one| one.2).collect();
            sorted.sort_unstable();
            let n = sorted.len();
            for place in [0, n / 2, n * 9 / 10, n - 1] {
                expected.push(sorted[place] as f64);
            }
        }
        let metrics: Vec<f64> = run(text, &given).into_iter().map(|(metric, _)| metric).collect();
        prop_assert_eq!(metrics, expected);
    }

    #[test]
    fn ddt_and_ewma(given in sequence()) {
        let slopes = given.windows(2).filter(|two| two[0].0 != two[1].0);
        let slope = |two: &[Given]| ((two[1].2 - two[0].2) as f64 / (two[1].0 - two[0].0) as f64, two[1].0);
        prop_assert_eq!(run("ddt:\ndo: [index]", &given), slopes.map(slope).collect::<Came>());
        let mut average = 0.0;
        let expected: Came = given.iter().map(|one| {
            average = 0.25 * one.2 as f64 + 0.75 * average;
            (average, one.0)
        }).collect();
        prop_assert_eq!(run("ewma: 0.25\ndo: [index]", &given), expected);
    }

    #[test]
    fn windows_by_the_events_times(given in sequence(), late in prop::collection::vec(0i64..8, 15)) {
        // Some come late.
        let given: Vec<Given> =
            given.iter().zip(&late).map(|(one, late)| (one.0 - late, one.1, one.2)).collect();
        let push = |text: &str| {
            let mut streams = Streams::new(&step(text).unwrap());
            let mut came = Vec::new();
            let mut out = |_: &Target, event: &Arc<Event>| {
                came.push(event.metric.map_or(f64::NAN, Metric::as_f64));
            };
            for one in &given {
                streams.push(&event(*one), Timestamp::from_secs(1000), &mut out);
            }
            came
        };
        let mut moving = Vec::new();
        for (i, one) in given.iter().enumerate() {
            let cutoff = latest(&given[..=i]) - 3;
            if one.0 > cutoff {
                let within: Vec<Given> =
                    given[..=i].iter().filter(|one| one.0 > cutoff).copied().collect();
                moving.push(sum(&within));
            }
        }
        prop_assert_eq!(push("moving-time-window: 3s\ndo:\n  - fold: sum\n    do: [index]"), moving);

        let (mut fixed, mut start, mut window) = (Vec::new(), given[0].0, Vec::new());
        for one in &given {
            if one.0 < start {
                continue;
            }
            while one.0 >= start + 5 {
                if !window.is_empty() {
                    fixed.push(sum(&std::mem::take(&mut window)));
                }
                start += 5;
            }
            window.push(*one);
        }
        prop_assert_eq!(push("fixed-time-window: 5s\ndo:\n  - fold: sum\n    do: [index]"), fixed);
    }

    #[test]
    fn coalesce_and_project(given in sequence()) {
        let start = given[0].0;
        let last = |before: &[Given], service: u8| {
            before.iter().rev().find(|one| one.1 == service).copied()
        };
        let all = |before: &[Given]| -> Vec<Given> {
            (0..3).filter_map(|service| last(before, service)).collect()
        };
        let mut expected = vec![(sum(&given[..1]), start)];
        for to in (start + 5..=end(&given)).step_by(5) {
            let before: Vec<Given> = given.iter().filter(|one| one.0 < to).copied().collect();
            expected.push((sum(&all(&before)), latest(&all(&before))));
        }
        let text = "coalesce: 5s\ndo:\n  - fold: sum\n    do: [index]";
        prop_assert_eq!(run(text, &given), expected);

        let text = "project: ['service = \"s0\"', 'service = \"s1\"']\ndo:\n  - fold: difference\n    do: [index]";
        let pairs = (0..given.len()).filter(|i| given[*i].1 < 2).filter_map(|i| {
            let (a, b) = (last(&given[..=i], 0)?, last(&given[..=i], 1)?);
            Some(((a.2 - b.2) as f64, a.0.max(b.0)))
        });
        prop_assert_eq!(run(text, &given), pairs.collect::<Came>());
    }

    #[test]
    fn fill_in(given in sequence()) {
        let mut expected = Came::new();
        for (i, one) in given.iter().enumerate() {
            expected.push(of(one));
            let until = given.get(i + 1).map_or(end(&given), |next| next.0);
            expected.extend((one.0 + 2..=until).step_by(2).map(|second| (-1.0, second)));
        }
        prop_assert_eq!(run("fill-in: 2s\nevent: {metric: -1}\ndo: [index]", &given), expected);
    }

    /// Whatever the text is, and whatever comes: no panic, and within the bounds.
    #[test]
    fn any_text_is_judged(text in "( {0,4}- )?(where|rate|by|do|index|with|fold|coalesce|5s|: |\\[|\\]|\\{|\\}|,|'|\"|\n|\n    |state|= |1|ok| ){0,25}") {
        super::fuzz(text.as_bytes());
    }
}

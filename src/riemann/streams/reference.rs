//! docs/streams.md: every operator with an example, and what comes out of it
//! when it is run.

use std::fmt::Write as _;
use std::sync::Arc;

use super::{Streams, Target};
use crate::base::{Event, Metric, Timestamp};
use crate::config::operators::{Group, OPERATORS, Operator};
use crate::config::{Problems, Source, Step, load, not_asked};

/// How long an example goes on after its last event.
const AFTER: i64 = 10;

const HEAD: &str = "# Streams

<!-- Made from the table in src/config/operators.rs; the outputs are those of a run. After a
     change there: HOSTD_BLESS=1 cargo test --test docs -->

`streams:` in `host.yaml` says what becomes of events: what Riemann's configuration says in
Clojure. It is a list of steps. Every event goes to each of them; a step passes it on, changed or
not, to those under its `do:`, until an output such as `index` takes it.

    streams:
      - default: {ttl: 60}
        do: [index]                       # everything is current for a minute
      - tagged: rollingavg
        do:
          - by: [host, service]           # each on its own
            do:
              - percentiles: [0.5, 0.95, 0.99]
                every: 15s
                do: [index, graphite]
      - where: state = \"critical\"         # in the query language
        do:
          - changed-state:
            init: ok
            do: [alert]
        else: [history]

- A step is a word (`index`), or a mapping with one operator, its further keys and `do:`.
  `hostctl config check` says what is wrong, with the place in the file and in the query.
- Without `streams:` every event is indexed and goes to every output. With it, hostd's own events
  are still indexed and in the history, so that no configuration hides a failing pool; all else is
  up to the steps. An event of others for a host and service of hostd's own is refused before.
- Events that steps make (rates, percentiles) go where `do:` sends them, and not through the
  streams again. Events that expire go through once more, in state `expired`.
- `hostctl event test-stream FILE` runs recorded events through the steps on a simulated clock and
  prints what came out where, without a daemon.
- `systemctl reload hostd` takes a changed `streams:` over: steps that are the same in the same
  place go on with what they know; if the file is wrong, the old ones stay.
- Windows are of the clock, and end when it is time, not at the next event. The two `…-time-window`
  operators go by the events' own times.
- What is held is bounded: 10,000 events in one window and 100,000 in all, 10,000 children of one
  `by` and 50,000 of all. Beyond, the oldest events and the children that were quiet for longest go,
  and are counted in the event `hostd streams`.
";

/// The whole page.
pub fn page() -> String {
    let mut out = HEAD.to_owned();
    for (group, title) in Group::ALL {
        let _ = write!(out, "\n## {title}\n");
        for operator in OPERATORS.iter().filter(|o| o.group == group) {
            section(&mut out, operator);
        }
    }
    out
}

fn section(out: &mut String, operator: &Operator) {
    let _ = write!(out, "\n### `{}`\n\n{}\n\n", operator.name, operator.about);
    for (at, line) in operator.example.lines().enumerate() {
        let _ = writeln!(out, "    {} {line}", if at == 0 { "-" } else { " " });
    }
    // A mistake in the table shows on the page; a test refuses it.
    let came = run(operator.example, operator.input).unwrap_or_else(|wrong| wrong.to_string());
    let _ = write!(out, "\nin: `{}`<br>out: `{came}`\n", operator.input);
}

/// A step alone, from its text.
pub fn step(text: &str) -> Result<Vec<Step>, Problems> {
    let mut file = "streams:\n".to_owned();
    for (at, line) in text.lines().enumerate() {
        let _ = writeln!(file, "  {} {line}", if at == 0 { "-" } else { " " });
    }
    load(&[Source::host("streams", file)], &not_asked).map(|(config, _)| config.streams)
}

/// What comes out of a step for events in short: `[service=]value@second`,
/// where a value is a metric or a state; other outputs than `index` are named.
pub fn run(text: &str, input: &str) -> Result<String, Problems> {
    let mut streams = Streams::new(&step(text)?);
    let mut came = Vec::new();
    let mut out = |target: &Target, event: &Arc<Event>| came.push(short(target, event));
    let mut last = 0;
    for event in input.split_whitespace().filter_map(event) {
        let now = event.time.unwrap_or_default();
        last = now.secs();
        streams.push(&Arc::new(event), now, &mut out);
    }
    streams.tick(Timestamp::from_secs(last + AFTER), &mut out);
    Ok(came.join(", "))
}

/// `a=1@0`
fn event(word: &str) -> Option<Event> {
    let (what, second) = word.split_once('@')?;
    let (service, value) = what.split_once('=').map_or((None, what), |(s, v)| (Some(s), v));
    let mut event = Event { time: Some(seconds(second)?), ..Event::default() };
    event.service = service.map(str::to_owned);
    match (value.parse().map(Metric::Int), value.parse().map(Metric::Double)) {
        (Ok(metric), _) | (Err(_), Ok(metric)) => event.metric = Some(metric),
        (Err(_), Err(_)) => event.state = Some(value.to_owned()),
    }
    Some(event)
}

fn seconds(text: &str) -> Option<Timestamp> {
    text.parse().ok().map(Timestamp::from_secs_f64)
}

fn short(target: &Target, event: &Event) -> String {
    let mut out = match target {
        Target::Index => String::new(),
        Target::Outlet(name) => format!("{name}: "),
        Target::Topic(topic) => format!("publish {topic}: "),
    };
    let metric = event.metric.map(|metric| match metric {
        Metric::Int(value) => value.to_string(),
        Metric::Double(value) => value.to_string(),
        Metric::Float(value) => value.to_string(),
    });
    let parts: Vec<String> = metric.into_iter().chain(event.state.clone()).collect();
    if let Some(service) = &event.service {
        let _ = write!(out, "{service}=");
    }
    let time = event.time.map(Timestamp::secs_f64).unwrap_or_default();
    let _ = write!(out, "{}@{time}", parts.join(" "));
    out
}

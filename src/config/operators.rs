//! The operators of `streams:`: the one table from which the check takes their
//! names and keys, editors their descriptions, and docs/streams.md its examples,
//! whose outputs are those of a run.

/// What an operator is given beside its argument.
pub const OPTIONS: [(&str, &str); 6] = [
    ("do", "What becomes of the events that it passes: a list of steps."),
    ("else", "What becomes of the events that `where` does not pass."),
    ("every", "The length of the window."),
    ("field", "Which field of the event; `state` when absent."),
    ("init", "What the field was before the first event."),
    ("event", "The event that fills gaps."),
];

/// Where an operator stands on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Chooses events.
    Choose,
    /// Changes events.
    Change,
    /// Knows what was before.
    Before,
    /// Holds events back.
    Fewer,
    /// Makes numbers of numbers.
    Numbers,
    /// Makes lists of events.
    Lists,
    /// An end.
    Output,
}

impl Group {
    /// All, with their titles.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Choose, "Choosing events"),
        (Self::Change, "Changing events"),
        (Self::Before, "Comparing with what was before"),
        (Self::Fewer, "Fewer events"),
        (Self::Numbers, "Numbers over time"),
        (Self::Lists, "Lists of events"),
        (Self::Output, "Outputs"),
    ];
}

/// One operator.
#[derive(Debug)]
pub struct Operator {
    /// Its key.
    pub name: &'static str,
    /// Where it stands on the page.
    pub group: Group,
    /// Keys beside it, but for `do`.
    pub keys: &'static [&'static str],
    /// What it does, for people.
    pub about: &'static str,
    /// A step; `index` takes what comes out.
    pub example: &'static str,
    /// What is sent to it: `[service=]value@second …`, where a value is a metric
    /// or a state.
    pub input: &'static str,
}

impl Operator {
    /// Whether it is an end: nothing comes after it.
    pub fn is_output(&self) -> bool {
        self.group == Group::Output
    }

    /// Whether lists come out of it.
    pub fn gives_lists(&self) -> bool {
        self.name == "rollup"
            || self.name == "batch"
            || (self.group == Group::Lists && self.name != "fold")
    }
}

/// The operator of that name; an underscore counts as a hyphen, for those who
/// come from Riemann.
pub fn find(name: &str) -> Option<&'static Operator> {
    OPERATORS.iter().find(|o| o.name == name || o.name == name.replace('_', "-"))
}

macro_rules! operator {
    ($name:literal, $group:ident, $keys:expr, $about:expr, $example:expr, $input:literal) => {
        Operator {
            name: $name,
            group: Group::$group,
            keys: &$keys,
            about: $about,
            example: $example,
            input: $input,
        }
    };
}

/// All operators, in the order of the page.
pub const OPERATORS: [Operator; 34] = [
    operator!(
        "where",
        Choose,
        ["else"],
        "Passes events that match a query; the others go to `else`, if there is one.",
        "where: metric > 1 and state != \"expired\"\ndo: [index]\nelse:\n  - with: {state: low}\n    do: [index]",
        "1@0 2@1 3@2"
    ),
    operator!(
        "tagged",
        Choose,
        [],
        "Passes events that have this tag, or all of these: `tagged: [web, prod]`.",
        "with: {tags: [web, prod]}\ndo:\n  - tagged: web\n    do: [index]\n  - tagged: [web, test]\n    do: [log]",
        "1@0"
    ),
    operator!(
        "over",
        Choose,
        [],
        "Passes events whose metric is greater than this number.",
        "over: 1\ndo: [index]",
        "1@0 2@1"
    ),
    operator!(
        "under",
        Choose,
        [],
        "Passes events whose metric is less than this number.",
        "under: 2\ndo: [index]",
        "1@0 2@1"
    ),
    operator!(
        "expired",
        Choose,
        [],
        "Passes events in state `expired`: those whose ttl has passed in the index come through \
         the streams once more, with host, service and time alone.",
        "expired:\ndo: [index]",
        "ok@0 expired@9"
    ),
    operator!(
        "by",
        Choose,
        [],
        "The steps below, once for each value of a field or of several: each has its own \
         windows and counts. What has had no event for its ttl (60 s if it has none) is \
         forgotten when nothing waits in it; `changed` and `counter` are remembered for a day.",
        "by: [host, service]\ndo:\n  - counter:\n    do: [index]",
        "a=1@0 b=5@0 a=1@1 b=5@1"
    ),
    operator!(
        "with",
        Change,
        [],
        "Sets fields: `host`, `service`, `state`, `description`, `metric`, `ttl`, `tags`, or any \
         attribute. `null` removes one.",
        "with: {service: seen, metric: 1, state: ok}\ndo: [index]",
        "a=7@0 b=bad@1"
    ),
    operator!(
        "default",
        Change,
        [],
        "The same for fields that the event does not have.",
        "default: {state: ok, ttl: 60}\ndo: [index]",
        "1@0 bad@1"
    ),
    operator!(
        "changed",
        Before,
        ["init"],
        "Passes events whose field differs from that of the event before. The first one passes, \
         unless its value is `init`.",
        "changed: state\ninit: ok\ndo: [index]",
        "ok@0 ok@1 bad@2 bad@3 ok@4"
    ),
    operator!(
        "changed-state",
        Before,
        ["init"],
        "The same with the state of each host and service: `by: [host, service]` around \
         `changed: state`.",
        "changed-state:\ninit: ok\ndo: [index]",
        "a=ok@0 b=bad@1 a=ok@2 a=bad@3 b=bad@4"
    ),
    operator!(
        "stable",
        Before,
        ["field"],
        "Passes events once their `field` has stayed the same for so long; until then they \
         wait, and go when it changes.",
        "stable: 3s\ndo: [index]",
        "ok@0 ok@1 bad@2 ok@3 ok@4 ok@6 bad@7"
    ),
    operator!(
        "runs",
        Before,
        ["field"],
        "Passes an event when its `field` is the same for this many events in a row.",
        "runs: 3\ndo: [index]",
        "ok@0 ok@1 bad@2 bad@3 bad@4 bad@5 ok@6"
    ),
    operator!(
        "throttle",
        Fewer,
        ["every"],
        "Passes so many events in each window and drops the rest.",
        "throttle: 2\nevery: 5s\ndo: [index]",
        "0@0 1@1 2@2 4@4 5@5 6@6 7@7 10@10"
    ),
    operator!(
        "rollup",
        Fewer,
        ["every"],
        "Calls what is below so many times in each window, with one event each; what is more \
         comes as one list at the end of the window, which counts in the next.",
        "rollup: 2\nevery: 5s\ndo: [index]",
        "0@0 1@1 2@2 3@3 6@6 7@7 8@8"
    ),
    operator!(
        "batch",
        Fewer,
        ["every"],
        "Lists of so many events; at the end of a window what there is.",
        "batch: 2\nevery: 5s\ndo: [index]",
        "0@0 1@1 2@2 3@6"
    ),
    operator!(
        "fill-in",
        Fewer,
        ["event"],
        "Passes all events, and whenever none has come for so long, this one. It stops at an \
         expired event and goes on at the next.",
        "fill-in: 2s\nevent: {service: a, state: silent}\ndo: [index]",
        "ok@0 ok@1 expired@6"
    ),
    operator!(
        "rate",
        Numbers,
        [],
        "Every so long the sum of the metrics that came, divided by its seconds, in the last \
         event that had one. Begins at the first event, ends when events expire.",
        "rate: 5s\ndo: [index]",
        "1@0 1@1 3@6"
    ),
    operator!(
        "ddt",
        Numbers,
        [],
        "How fast the metric changes in a second: between each two events, or with a duration \
         (`ddt: 5s`) every so long.",
        "ddt:\ndo: [index]",
        "0@0 10@5 10@10 5@12"
    ),
    operator!(
        "ewma",
        Numbers,
        [],
        "A moving average that forgets. With a number from 0 to 1 that is how much each new \
         metric counts (Riemann's `ewma-timeless`); with a duration the past is worth half after \
         so long.",
        "ewma: 0.5\ndo: [index]",
        "4@0 4@1 0@2"
    ),
    operator!(
        "percentiles",
        Numbers,
        ["every"],
        "At the end of each window the event at each of these points in the order of the \
         metrics; the point is appended to its service. 0 is the lowest, 1 the highest.",
        "percentiles: [0, 0.5, 0.95, 1]\nevery: 15s\ndo: [index]",
        "a=0@0 a=1@1 a=2@2 a=3@3 a=4@4 a=5@5 a=6@6 a=7@7 a=8@8 a=9@9"
    ),
    operator!(
        "counter",
        Numbers,
        [],
        "The sum of all metrics so far, from 0 or a given number. An event tagged `reset` sets it.",
        "counter: 10\ndo: [index]",
        "1@0 2@1 3@2"
    ),
    operator!(
        "coalesce",
        Lists,
        [],
        "Every so long a list of the last event of each host and service that came; an expired \
         one is in it once more.",
        "coalesce: 5s\ndo:\n  - fold: sum\n    do: [index]",
        "a=1@0 b=2@1 a=3@2 b=4@6"
    ),
    operator!(
        "moving-time-window",
        Lists,
        [],
        "At each event a list of those of the last so long, by their times; what is older than \
         that is dropped.",
        "moving-time-window: 3s\ndo:\n  - fold: mean\n    do: [index]",
        "1@0 3@2 5@4 1@0"
    ),
    operator!(
        "fixed-time-window",
        Lists,
        [],
        "Lists of events by their times, of one span after the other, each when the first event \
         of a later one comes; what is older is dropped.",
        "fixed-time-window: 5s\ndo:\n  - fold: max\n    do: [index]",
        "1@0 3@2 2@4 5@6 4@10"
    ),
    operator!(
        "project",
        Lists,
        [],
        "A list of the last event that matches each of these queries, whenever one of them \
         changes: two services combined.",
        "project: ['service = \"in\"', 'service = \"out\"']\ndo:\n  - fold: difference\n    do:\n      - with: {service: waiting}\n        do: [index]",
        "in=9@0 out=4@1 in=12@2"
    ),
    operator!(
        "fold",
        Lists,
        [],
        "Makes one event of a list: `sum`, `product`, `difference`, `quotient`, `mean`, \
         `median`, `min`, `max`, `count` or `std-dev` of the metrics. Directly below an operator \
         that gives lists; every other step takes the events of a list one after the other.",
        "batch: 3\nevery: 1m\ndo:\n  - fold: sum\n    do: [index]",
        "1@0 2@1 3@2"
    ),
    operator!(
        "index",
        Output,
        [],
        "Into the index, where queries, subscriptions and the dashboard find it.",
        "index",
        "1@0"
    ),
    operator!("history", Output, [], "Into the history.", "history", "1@0"),
    operator!("graphite", Output, [], "To Graphite.", "graphite", "1@0"),
    operator!("riemann", Output, [], "To another Riemann.", "riemann", "1@0"),
    operator!("alert", Output, [], "To those who are to be told.", "alert", "1@0"),
    operator!("log", Output, [], "Into hostd's log.", "log", "1@0"),
    operator!(
        "publish",
        Output,
        [],
        "To those who listen at `/pubsub/TOPIC`.",
        "publish: doors",
        "1@0"
    ),
    operator!(
        "outlet",
        Output,
        [],
        "To a way out that has a name of its own.",
        "outlet: second-graphite",
        "1@0"
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for operator in &OPERATORS {
            assert_eq!(find(operator.name).map(|o| o.name), Some(operator.name));
            for key in operator.keys {
                assert!(OPTIONS.iter().any(|(known, _)| known == key), "{key}");
                assert!(find(key).is_none(), "{key} is an operator too");
            }
        }
        assert_eq!(find("moving_time_window").map(|o| o.name), Some("moving-time-window"));
    }
}

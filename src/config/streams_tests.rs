//! Streams from text: what is meant, and every mistake in its place.

use std::fmt::Write as _;

use super::*;
use crate::config::{Problems, Source, load, not_asked, show};

fn read(text: &str) -> Result<Vec<Step>, Problems> {
    let config = load(&[Source::host("host.yaml", format!("streams:\n{text}"))], &not_asked);
    config.map(|(config, _)| config.streams)
}

#[test]
fn every_operator_is_read_by_its_example_and_shown_again() {
    for operator in &OPERATORS {
        let lines = operator.example.lines().enumerate();
        let text = lines.fold(String::new(), |mut text, (i, line)| {
            let _ = writeln!(text, "  {} {line}", if i == 0 { "-" } else { " " });
            text
        });
        let steps = read(&text).unwrap_or_else(|e| panic!("{}: {e}", operator.name));
        assert_eq!(steps.len(), 1, "{}", operator.name);
        let config = crate::config::Config { streams: steps, ..Default::default() };
        let shown = show(&config);
        let again = load(&[Source::host("host.yaml", shown.clone())], &not_asked);
        assert_eq!(again.unwrap().0.streams, config.streams, "{shown}");
    }
}

#[test]
fn the_shortest_form_means_the_same() {
    let long = read("  - where: 'state = \"ok\"'\n    do:\n      - index:\n").unwrap();
    assert_eq!(read("  - where: state = \"ok\"\n    do: index\n").unwrap(), long);
    assert_eq!(read("  - {where: 'state = \"ok\"', do: [index]}\n").unwrap(), long);
    let by = read("  - by: [host, service]\n    do:\n      - changed: state\n        do: index\n");
    assert_eq!(read("  - changed_state:\n    do: index\n").unwrap(), by.unwrap());
}

#[test]
fn every_kind_of_mistake() {
    let cases = [
        ("a word that is none", "  - indx\n"),
        ("an operator that is none", "  - wehre: true\n    do: [index]\n"),
        ("nothing like it", "  - frobnicate: 1\n"),
        ("two operators", "  - where: true\n    rate: 5s\n    do: [index]\n"),
        ("a wrong query", "  - where: state == \"ok\"\n    do: [index]\n"),
        ("a wrong query in quotes", "  - where: 'metric > \"ok\"'\n    do: [index]\n"),
        (
            "a wrong query far inside",
            "  - by: host\n    do:\n      - where: host = \"a\" garbage\n        do: [index]\n",
        ),
        ("no unit", "  - rate: 5\n    do: [index]\n"),
        ("no duration", "  - rate: often\n    do: [index]\n"),
        ("too long", "  - rate: 400d\n    do: [index]\n"),
        ("leads nowhere", "  - rate: 5s\n"),
        ("nothing below", "  - rate: 5s\n    do:\n"),
        ("no argument", "  - where:\n    do: [index]\n"),
        ("an argument too much", "  - graphite: nas\n"),
        ("a key too much", "  - rate: 5s\n    every: 5s\n    do: [index]\n"),
        ("a key misspelt", "  - throttle: 5\n    evry: 5s\n    do: [index]\n"),
        ("something after an output", "  - index:\n    do: [log]\n"),
        ("percent", "  - percentiles: [0.5, 95]\n    every: 15s\n    do: [index]\n"),
        ("no count", "  - throttle: 0\n    every: 1s\n    do: [index]\n"),
        ("a fold of no list", "  - rate: 5s\n    do:\n      - fold: sum\n        do: [index]\n"),
        ("no fold", "  - coalesce: 5s\n    do:\n      - fold: avg\n        do: [index]\n"),
        ("no number", "  - over: \"1\"\n    do: [index]\n"),
        ("time", "  - with: {time: 5}\n    do: [index]\n"),
        ("null as a default", "  - default: {state: null}\n    do: [index]\n"),
        ("no mapping", "  - with: ok\n    do: [index]\n"),
        ("by tags", "  - by: tags\n    do: [index]\n"),
        ("a topic", "  - publish: a/b\n"),
        ("a list in a list", "  - - index\n"),
        ("an empty step", "  -\n"),
        ("no list", "  index\n"),
        ("fill-in of nothing", "  - fill-in: 5s\n    do: [index]\n"),
        ("an empty project", "  - project: []\n    do: [index]\n"),
        ("two at once", "  - rate: 5\n    do:\n      - idnex\n      - log\n"),
    ];
    let mut all = String::new();
    for (what, text) in cases {
        let said = read(text).err().unwrap_or_else(|| panic!("{what} is taken"));
        let _ = writeln!(all, "## {what}\n{said}\n");
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_mistake_in_a_query_has_its_own_place() {
    let place = |text: &str| {
        let problems = read(text).unwrap_err().problems;
        (problems[0].line, problems[0].column)
    };
    assert_eq!(place("  - where: state == \"ok\"\n    do: [index]\n"), (2, 18));
    assert_eq!(place("  - where: 'state == \"ok\"'\n    do: [index]\n"), (2, 19));
    assert_eq!(place("  - project: [true, 'ä = ä ä']\n    do: [index]\n"), (2, 28));
}

#[test]
fn empty_means_none() {
    for text in ["", "  []\n", "  # - index\n"] {
        assert_eq!(read(text).unwrap(), []);
    }
}

#[test]
fn too_much_is_refused() {
    let problems = read(&"  - index\n".repeat(10_002)).unwrap_err();
    assert!(problems.to_string().contains("more than 10000 steps"), "{problems}");
}

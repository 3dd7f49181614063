//! The reference's tables, row by row, and properties against [`naive`].

use proptest::prelude::*;

use super::super::{naive, parse};
use super::*;

fn event(build: impl FnOnce(&mut Event)) -> Event {
    let mut event = Event::default();
    build(&mut event);
    event
}

fn host(name: &str) -> Event {
    event(|e| e.host = Some(name.to_owned()))
}

fn service(name: &str) -> Event {
    event(|e| e.service = Some(name.to_owned()))
}

fn state(name: &str) -> Event {
    event(|e| e.state = Some(name.to_owned()))
}

fn metric(value: Metric) -> Event {
    event(|e| e.metric = Some(value))
}

fn tags(names: &[&str]) -> Event {
    event(|e| e.tags = names.iter().map(|&tag| tag.to_owned()).collect())
}

fn none() -> Event {
    Event::default()
}

#[track_caller]
fn row(query: &str, matching: &[Event], other: &[Event]) {
    let parsed = parse(query).unwrap();
    for event in matching {
        assert!(parsed.matches(event), "{query} should match {event:?}");
    }
    for event in other {
        assert!(!parsed.matches(event), "{query} should not match {event:?}");
    }
    assert_eq!(parse(&parsed.to_string()).unwrap(), parsed, "{query}");
}

#[test]
fn constants() {
    row("true", &[none(), state("ok")], &[]);
    for never in ["null", "nil", "false"] {
        row(never, &[], &[none(), state("ok")]);
    }
}

#[test]
fn equality() {
    row("state = \"foo\"", &[state("foo")], &[state("bar"), none()]);
    // The table's `state != 1` speaks of states that are numbers, which the wire does not have.
    let (one, half) = (metric(Metric::Int(1)), metric(Metric::Double(0.5)));
    row("metric != 1", &[half, none()], &[one]);
    row("state != 1", &[state("1"), none()], &[]);
    row("state != \"1\"", &[state("0.5"), none()], &[state("1")]);
}

#[test]
fn globs() {
    row("host =~ \"%s.\"", &[host("s."), host("foos.")], &[host("a."), host("s.murf"), none()]);
    row(
        "host =~ \"a%c\"",
        &[host("ac"), host("abbc")],
        &[host("a\nc"), host("abcd"), host("xabc")],
    );
    row("host =~ \"(.*\"", &[host("(.*")], &[host("(abc")]);
    row("metric =~ \"%\"", &[], &[metric(Metric::Int(1))]);
}

#[test]
fn regular_expressions() {
    row(
        "host ~= \"foo?[1-9]+\"",
        &[host("foo19"), host("foo1"), host("fo42")],
        &[host("abc"), host("foo"), host("fooo42"), none()],
    );
    row("host ~= \"oo\"", &[host("foo bar")], &[host("bar")]);
    row("host ~= \"(?i)NAS\"", &[host("nas")], &[host("pc")]);
}

#[test]
fn comparisons() {
    let double = |value| metric(Metric::Double(value));
    row("metric > 1e10", &[double(1e11)], &[double(1e10), none()]);
    row("metric >= -1", &[double(0.0), double(-1.0)], &[double(-2.0), none()]);
    row("metric < 1", &[double(0.5)], &[double(1.0), double(f64::NAN)]);
    row("metric <= Infinity", &[double(1.0), double(f64::INFINITY)], &[double(f64::NAN)]);
    row("host > 1", &[], &[host("2"), none()]);
    row("1 < 2", &[none()], &[]);
}

#[test]
fn tagged() {
    row("tagged \"cat\"", &[tags(&["cat", "dog"]), tags(&["cat"])], &[tags(&["dog"]), none()]);
    row("tags", &[tags(&["dog"])], &[none()]);
    row("tags = nil", &[none()], &[tags(&["dog"])]);
}

#[test]
fn boolean_operators() {
    let hey = event(|e| e.description = Some("hey".into()));
    let timed = event(|e| {
        e.time = Some(Timestamp::from_secs(2));
        e.description = Some("x".into());
    });
    row("time = null and description != nil", &[hey], &[timed, none()]);

    let both = |h: &str, s: &str| event(|e| (e.host, e.service) = (Some(h.into()), Some(s.into())));
    row(
        "not ((host = \"1\" or host = \"2\") and service = \"3\")",
        &[host("1"), service("3"), none()],
        &[both("2", "3")],
    );
    row(
        "metric = 2 or service = \"miao\" or tagged \"whiskers\"",
        &[metric(Metric::Int(2)), service("miao"), tags(&["whiskers"])],
        &[metric(Metric::Int(1))],
    );
    row("not host = \"1\" and host = \"2\"", &[host("2")], &[host("1"), host("3"), none()]);
}

#[test]
fn numbers_compare_with_their_type() {
    let long = || metric(Metric::Int(1));
    let double = || metric(Metric::Double(1.0));
    row("metric = 1", &[long()], &[double()]);
    row("metric != 1", &[double()], &[long()]);
    row("metric = 1N", &[long()], &[double()]);
    row("metric = 1.0", &[double(), metric(Metric::Float(1.0))], &[long()]);
    row("metric < 2N", &[long(), double()], &[]);
    row("metric < 99999999999999999999N", &[long(), double()], &[]);

    let ttl = || event(|e| e.ttl = Some(60.0));
    row("ttl = 60", &[], &[ttl()]);
    row("ttl = 60.0", &[ttl()], &[none()]);

    let tenth = || metric(Metric::Float(0.1));
    row("metric = 0.1", &[metric(Metric::Double(0.1))], &[tenth()]);
    row("metric > 0.1", &[tenth()], &[]);
    row("metric = NaN", &[], &[metric(Metric::Double(f64::NAN))]);

    let pool = || Event::default().attribute("pool", "2");
    row("pool > 1", &[], &[pool()]);
    row("pool = \"2\"", &[pool()], &[none()]);
}

#[test]
fn time_has_no_type() {
    let at = |micros| event(|e| e.time = Some(Timestamp(micros)));
    row("time = 2", &[at(2_000_000)], &[at(2_000_001), none()]);
    row("time = 2.5", &[at(2_500_000)], &[at(2_000_000)]);
    row("time > 2", &[at(2_000_001)], &[at(2_000_000)]);
    row("time = time", &[at(1), none()], &[]);
}

#[test]
fn bare_fields_are_true_when_present() {
    row("host", &[host("a"), host("")], &[none()]);
    row("metric", &[metric(Metric::Int(0))], &[none()]);
    row("not host and 0", &[none()], &[host("a")]);
    row("host = service", &[none()], &[host("a")]);
}

fn word() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "ab", "", "a\nb", "2", "ä\"\\", "\u{1}"])
        .prop_map(str::to_owned)
}

fn some_metric() -> impl Strategy<Value = Metric> {
    prop_oneof![
        (-2i64..3).prop_map(Metric::Int),
        any::<i64>().prop_map(Metric::Int),
        prop::sample::select(vec![0.5, 1.0, -0.0, f64::NAN, f64::INFINITY])
            .prop_map(Metric::Double),
        prop::sample::select(vec![0.1f32, 1.0, f32::NAN]).prop_map(Metric::Float),
    ]
}

prop_compose! {
    fn events()(
        host in prop::option::of(word()),
        state in prop::option::of(word()),
        metric in prop::option::of(some_metric()),
        tags in prop::collection::vec(word(), 0..3),
        ttl in prop::option::of(prop::sample::select(vec![1.0f32, 60.0])),
        time in prop::option::of(prop::sample::select(vec![0, 1_000_000, 1_500_000])),
        attributes in prop::collection::btree_map(
            prop::sample::select(vec!["pool".to_owned(), "x=y".to_owned()]), word(), 0..2),
    ) -> Event {
        let time = time.map(Timestamp);
        Event { host, state, metric, tags, ttl, time, attributes, ..Event::default() }
    }
}

fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        (-2i64..3).prop_map(Number::Long),
        any::<i64>().prop_map(Number::Long),
        (-2i128..3).prop_map(Number::Big),
        any::<i128>().prop_map(Number::Big),
        any::<f64>().prop_map(Number::Float),
        prop::sample::select(vec![0.1, 0.5, 1.0, 1.5, 60.0, f64::NAN]).prop_map(Number::Float),
    ]
}

fn operand() -> impl Strategy<Value = Operand> {
    let names = vec!["host", "state", "metric", "tags", "ttl", "time", "pool", "x=y"];
    prop_oneof![
        3 => prop::sample::select(names).prop_map(|name| Operand::Field(Field::named(name))),
        1 => Just(Operand::Literal(Literal::Nil)),
        1 => any::<bool>().prop_map(|value| Operand::Literal(Literal::Bool(value))),
        1 => number().prop_map(|value| Operand::Literal(Literal::Number(value))),
        2 => word().prop_map(|value| Operand::Literal(Literal::Text(value))),
    ]
}

fn expressions() -> impl Strategy<Value = Expr> {
    use super::super::ast::Comparison::{AtLeast, AtMost, Greater, Less};
    let pattern = |op: &'static str| {
        let globs = vec!["%", "a%", "%b", "a", "", "a%b"];
        (operand(), prop::sample::select(globs)).prop_map(move |(left, glob)| {
            let text = format!("{left} {op} \"{glob}\"");
            parse(&text).unwrap().expr().clone()
        })
    };
    let bare = operand().prop_filter(
        "glued names are no bare values",
        |value| !matches!(value, Operand::Field(Field::Attribute(name)) if name.contains('=')),
    );
    let comparison = prop::sample::select(vec![Less, Greater, AtMost, AtLeast]);
    let leaf = prop_oneof![
        (operand(), operand()).prop_map(|(a, b)| Expr::Equal(a, b)),
        (operand(), operand()).prop_map(|(a, b)| Expr::NotEqual(a, b)),
        (operand(), comparison, number()).prop_map(|(a, how, b)| Expr::Compare(a, how, b)),
        pattern("=~"),
        pattern("~="),
        word().prop_map(Expr::Tagged),
        bare.prop_map(Expr::Truthy),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::Or),
            inner.prop_map(|expr| Expr::Not(Box::new(expr))),
        ]
    })
}

proptest! {
    #[test]
    fn written_down_and_read_again_it_is_the_same(expr in expressions()) {
        let text = expr.to_string();
        let again = parse(&text);
        prop_assert_eq!(again.map(|q| q.expr().clone()), Ok(expr), "{}", text);
    }

    #[test]
    fn agrees_with_the_naive_evaluator(expr in expressions(), event in events()) {
        prop_assert_eq!(expr.matches(&event), naive::matches(&expr, &event), "{}", expr);
    }
}

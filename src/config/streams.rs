//! What `streams:` of `host.yaml` means, read from the file's tree: every key
//! has its place, and a mistake in a query the place inside the query.
#![allow(clippy::single_match_else, reason = "both arms are read as one table")]

mod values;

use self::values::list;
use super::desk::Desk;
use super::operators::{self, OPERATORS, Operator};
use super::problem::Problem;
use super::text::{clip, nearest};
use super::tree::{Node, Place, Scalar, Trail, Value};
use super::types::{Op, Step};
use crate::base::Metric;
use crate::query::Query;
use crate::query::ast::Field;

/// Steps in one file.
const MOST_STEPS: usize = 10_000;

/// The checked steps, as far as they are sound.
pub(super) fn streams(desk: &mut Desk<'_, '_>) -> Vec<Step> {
    // The tree is shared: the desk reports into its page, and both are borrowed.
    let root = desk.root;
    let Some(entry) = root.entry("streams") else { return Vec::new() };
    if !matches!(entry.value.value, Value::List(_)) {
        return Vec::new();
    }
    let mut reader = Reader { desk, steps: 0 };
    reader.steps(&entry.value, &Trail::to("streams"), false)
}

struct Reader<'d, 'a, 'p> {
    desk: &'d mut Desk<'a, 'p>,
    steps: usize,
}

/// One step's mapping while it is read.
struct Keys<'n> {
    node: &'n Node,
    trail: Trail,
}

impl<'n> Keys<'n> {
    fn get(&self, key: &str) -> Option<&'n Node> {
        self.node.entry(key).map(|entry| &entry.value)
    }
}

impl Reader<'_, '_, '_> {
    fn error(&mut self, at: Place, trail: &Trail, message: impl AsRef<str>, fix: impl AsRef<str>) {
        self.desk.page.report(Problem::new(at, trail, message.as_ref(), fix.as_ref()));
    }

    /// A list of steps; a single one may stand without its `-`.
    fn steps(&mut self, node: &Node, trail: &Trail, lists: bool) -> Vec<Step> {
        match &node.value {
            Value::List(items) => {
                let read = items.iter().enumerate();
                read.filter_map(|(i, node)| self.step(node, &trail.item(i), lists)).collect()
            }
            Value::Scalar(..) | Value::Map(_) => {
                self.step(node, trail, lists).into_iter().collect()
            }
        }
    }

    fn step(&mut self, node: &Node, trail: &Trail, lists: bool) -> Option<Step> {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            if self.steps == MOST_STEPS + 1 {
                self.error(node.at, trail, format!("more than {MOST_STEPS} steps"), "");
            }
            return None;
        }
        match &node.value {
            Value::Scalar(Scalar::Null, _) => {
                self.error(node.at, trail, "an empty step", "write it after its `- `");
                None
            }
            Value::Scalar(_, word) => {
                let operator = self.operator(word, node.at, trail)?;
                self.read(operator, node.at, None, &Keys { node, trail: trail.clone() }, lists)
            }
            Value::List(_) => {
                let fix = "write each step after one `- `";
                self.error(node.at, trail, "a list where a step should be", fix);
                None
            }
            Value::Map(entries) => {
                let mut found = entries.iter().filter(|e| operators::find(&e.key).is_some());
                let Some(first) = found.next() else {
                    // The first key is the operator, as it is meant to be written.
                    match entries.first() {
                        Some(entry) => {
                            let trail = trail.key(&entry.key);
                            self.operator(&entry.key, entry.at, &trail);
                        }
                        None => self.error(node.at, trail, "an empty step", "name an operator"),
                    }
                    return None;
                };
                if let Some(second) = found.next() {
                    let message =
                        format!("`{}` and `{}` in one step", clip(&first.key), clip(&second.key));
                    let fix = "begin each with a `- ` of its own, or put one under `do:`";
                    self.error(second.at, &trail.key(&second.key), message, fix);
                    return None;
                }
                let operator = operators::find(&first.key)?;
                for entry in entries.iter().filter(|e| e.key != first.key) {
                    self.key(operator, &entry.key, entry.at, trail);
                }
                let (at, argument) = (first.at, Some(&first.value));
                self.read(operator, at, argument, &Keys { node, trail: trail.clone() }, lists)
            }
        }
    }

    fn operator(&mut self, word: &str, at: Place, trail: &Trail) -> Option<&'static Operator> {
        if let Some(operator) = operators::find(word) {
            return Some(operator);
        }
        let fix = match nearest(word, OPERATORS.iter().map(|o| o.name)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let all: Vec<&str> = OPERATORS.iter().map(|o| o.name).collect();
                format!("there are: {}", all.join(", "))
            }
        };
        self.error(at, trail, format!("there is no step `{}`", clip(word)), fix);
        None
    }

    /// A key beside the operator's own.
    fn key(&mut self, operator: &Operator, key: &str, at: Place, trail: &Trail) {
        let known = operator.keys.iter().copied().chain((!operator.is_output()).then_some("do"));
        let known: Vec<&str> = known.collect();
        if known.contains(&key) {
            return;
        }
        let fix = match (nearest(key, known.iter().copied()), known.is_empty()) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, true) => "nothing comes after an output".to_owned(),
            (None, false) => format!("`{}` takes {}", operator.name, known.join(", ")),
        };
        let message = format!("`{}` does not go with `{}`", clip(key), operator.name);
        self.error(at, &trail.key(key), message, fix);
    }

    fn read(
        &mut self,
        operator: &'static Operator,
        at: Place,
        argument: Option<&Node>,
        keys: &Keys<'_>,
        lists: bool,
    ) -> Option<Step> {
        let trail = keys.trail.key(operator.name);
        let argument = argument.filter(|node| !node.is_null());
        if operator.name == "fold" && !lists {
            let fix = "put it directly below rollup, batch, coalesce, project or a time window";
            self.error(at, &trail, "no list comes here that could be folded", fix);
        }
        // Read before it is known whether the argument is right: all mistakes at once.
        let gives = operator.gives_lists();
        let below = |reader: &mut Self, key: &str| match keys.get(key) {
            Some(node) if node.is_null() => {
                let fix = "write steps below it, each after a `- `";
                reader.error(
                    node.at,
                    &keys.trail.key(key),
                    format!("nothing is under `{key}`"),
                    fix,
                );
                Vec::new()
            }
            Some(node) => reader.steps(node, &keys.trail.key(key), gives),
            None => Vec::new(),
        };
        let (then, otherwise) = (below(self, "do"), below(self, "else"));
        let leads = keys.get("do").is_some() || keys.get("else").is_some();
        if !operator.is_output() && !leads {
            let fix = "add `do:` with what becomes of its events, such as `do: [index]`";
            self.error(at, &trail, format!("`{}` leads nowhere", operator.name), fix);
        }
        let op = self.op(operator.name, at, argument, keys, &trail)?;
        if operator.name == "changed-state" {
            let inner = Step { op, then, otherwise };
            let op = Op::By(vec![Field::Host, Field::Service]);
            return Some(Step { op, then: vec![inner], otherwise: Vec::new() });
        }
        Some(Step { op, then, otherwise })
    }

    fn op(
        &mut self,
        name: &'static str,
        at: Place,
        argument: Option<&Node>,
        keys: &Keys<'_>,
        trail: &Trail,
    ) -> Option<Op> {
        // What stands by itself.
        let alone = match name {
            "expired" => Some(Op::Expired),
            "index" => Some(Op::Index),
            "alert" | "graphite" | "riemann" | "history" | "log" => {
                Some(Op::Outlet(name.to_owned()))
            }
            "changed-state" => Some(Op::Changed { field: Field::State, init: self.init(keys) }),
            _ => None,
        };
        if let (Some(op), Some(node)) = (&alone, argument) {
            let message = format!("`{name}` takes nothing after its `:`");
            let fix =
                if matches!(op, Op::Outlet(_)) { "an own name goes with `outlet:`" } else { "" };
            self.error(node.at, trail, message, fix);
        }
        if alone.is_some() {
            return alone;
        }
        let Some(node) = argument else {
            return match name {
                "ddt" => Some(Op::Ddt(None)),
                "counter" => Some(Op::Counter(Metric::Int(0))),
                _ => {
                    let example = OPERATORS.iter().find(|o| o.name == name).map(|o| o.example);
                    let like = example.unwrap_or_default().lines();
                    let like =
                        like.map(str::trim).find(|l| l.trim_start_matches("- ").starts_with(name));
                    let fix =
                        like.map(|l| format!("write it like `{}`", l.trim_start_matches("- ")));
                    let message = format!("`{name}` needs a value");
                    self.error(at, trail, message, fix.unwrap_or_default());
                    None
                }
            };
        };
        Some(match name {
            "where" => Op::Where(self.query(node, trail)?),
            "tagged" => Op::Tagged(self.texts(node, trail)?),
            "by" => Op::By(self.fields(node, trail)?),
            "with" => Op::With(self.patch(node, trail, true)?),
            "default" => Op::Default(self.patch(node, trail, false)?),
            "changed" => Op::Changed { field: self.field(node, trail)?, init: self.init(keys) },
            "stable" => Op::Stable { span: self.span(node, trail)?, field: self.of_field(keys)? },
            "runs" => {
                Op::Runs { count: self.count(node, trail, 1000)?, field: self.of_field(keys)? }
            }
            "throttle" => Op::Throttle(self.window(node, at, keys, trail)?),
            "rollup" => Op::Rollup(self.window(node, at, keys, trail)?),
            "batch" => Op::Batch(self.window(node, at, keys, trail)?),
            "coalesce" => Op::Coalesce(self.span(node, trail)?),
            "rate" => Op::Rate(self.span(node, trail)?),
            "ddt" => Op::Ddt(Some(self.span(node, trail)?)),
            "ewma" => Op::Ewma(self.weight(node, trail)?),
            "percentiles" => {
                let points = self.points(node, trail);
                let every = self.every(at, keys);
                Op::Percentiles { points: points?, every: every? }
            }
            "moving-time-window" => Op::MovingTime(self.span(node, trail)?),
            "fixed-time-window" => Op::FixedTime(self.span(node, trail)?),
            "over" => Op::Over(self.number(node, trail)?.as_f64()),
            "under" => Op::Under(self.number(node, trail)?.as_f64()),
            "counter" => Op::Counter(self.number(node, trail)?),
            "fill-in" => {
                let every = self.span(node, trail);
                let Some(event) = keys.get("event") else {
                    let fix = "add `event: {service: …, state: …}`, which is sent when none comes";
                    self.error(at, trail, "`fill-in` needs an `event`", fix);
                    return None;
                };
                let event = self.patch(event, &keys.trail.key("event"), false);
                Op::FillIn { every: every?, event: event? }
            }
            "project" => {
                let items = list(node, trail);
                let queries: Vec<Option<Query>> =
                    items.iter().map(|(node, trail)| self.query(node, trail)).collect();
                if queries.is_empty() || queries.len() > 16 {
                    self.error(node.at, trail, "`project` takes 1 to 16 queries", "");
                    return None;
                }
                Op::Project(queries.into_iter().collect::<Option<_>>()?)
            }
            "fold" => Op::Fold(self.fold(node, trail)?),
            "publish" => Op::Publish(self.name(node, trail)?),
            "outlet" => Op::Outlet(self.name(node, trail)?),
            // The table has no other; a test asks for each.
            _ => return None,
        })
    }
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;

//! `streams:` as it would be written again.

use serde_json::{Map, Value as Json, json};

use crate::base::Metric;
use crate::config::desk::exact;
use crate::config::types::{Op, Patch, Step, Weight, Window};
use crate::query::ast::Field;

pub(super) fn steps(steps: &[Step]) -> Json {
    steps.iter().map(step).collect()
}

fn step(step: &Step) -> Json {
    let mut out = Map::new();
    let mut put = |key: &str, value: Json| out.insert(key.to_owned(), value);
    match &step.op {
        Op::Where(query) => put("where", json!(query.to_string())),
        Op::Tagged(tags) => put("tagged", json!(tags)),
        Op::By(fields) => put("by", fields.iter().map(Field::name).collect()),
        Op::With(fields) => put("with", patch(fields)),
        Op::Default(fields) => put("default", patch(fields)),
        Op::Changed { field, init } => {
            if let Some(init) = init {
                put("init", json!(init));
            }
            put("changed", json!(field.name()))
        }
        Op::Stable { span, field } => {
            put("field", json!(field.name()));
            put("stable", json!(exact(*span)))
        }
        Op::Runs { count, field } => {
            put("field", json!(field.name()));
            put("runs", json!(count))
        }
        Op::Throttle(Window { count, every }) => {
            put("every", json!(exact(*every)));
            put("throttle", json!(count))
        }
        Op::Rollup(Window { count, every }) => {
            put("every", json!(exact(*every)));
            put("rollup", json!(count))
        }
        Op::Batch(Window { count, every }) => {
            put("every", json!(exact(*every)));
            put("batch", json!(count))
        }
        Op::Coalesce(every) => put("coalesce", json!(exact(*every))),
        Op::Rate(every) => put("rate", json!(exact(*every))),
        Op::Ddt(every) => put("ddt", every.map_or(Json::Null, |every| json!(exact(every)))),
        Op::Ewma(Weight::Event(weight)) => put("ewma", json!(weight)),
        Op::Ewma(Weight::HalfLife(span)) => put("ewma", json!(exact(*span))),
        Op::Percentiles { points, every } => {
            put("every", json!(exact(*every)));
            put("percentiles", json!(points))
        }
        Op::MovingTime(span) => put("moving-time-window", json!(exact(*span))),
        Op::FixedTime(span) => put("fixed-time-window", json!(exact(*span))),
        Op::Over(than) => put("over", json!(than)),
        Op::Under(than) => put("under", json!(than)),
        Op::FillIn { every, event } => {
            put("event", patch(event));
            put("fill-in", json!(exact(*every)))
        }
        Op::Counter(from) => put("counter", number(*from)),
        Op::Expired => put("expired", Json::Null),
        Op::Project(queries) => put("project", queries.iter().map(ToString::to_string).collect()),
        Op::Fold(fold) => put("fold", json!(fold.as_str())),
        Op::Index => return json!("index"),
        Op::Outlet(name)
            if ["alert", "graphite", "riemann", "history", "log"].contains(&name.as_str()) =>
        {
            return json!(name);
        }
        Op::Outlet(name) => put("outlet", json!(name)),
        Op::Publish(topic) => put("publish", json!(topic)),
    };
    if !step.then.is_empty() {
        put("do", steps(&step.then));
    }
    if !step.otherwise.is_empty() {
        put("else", steps(&step.otherwise));
    }
    Json::Object(out)
}

fn number(metric: Metric) -> Json {
    match metric {
        Metric::Int(value) => json!(value),
        Metric::Double(value) => json!(value),
        Metric::Float(value) => json!(value),
    }
}

fn patch(patch: &Patch) -> Json {
    let mut out = Map::new();
    let texts = [
        ("host", &patch.host),
        ("service", &patch.service),
        ("state", &patch.state),
        ("description", &patch.description),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            out.insert(key.to_owned(), json!(value));
        }
    }
    if let Some(value) = patch.metric {
        out.insert("metric".to_owned(), value.map_or(Json::Null, number));
    }
    if let Some(value) = patch.ttl {
        out.insert("ttl".to_owned(), json!(value));
    }
    match &patch.tags {
        Some(tags) if tags.is_empty() => out.insert("tags".to_owned(), Json::Null),
        Some(tags) => out.insert("tags".to_owned(), json!(tags)),
        None => None,
    };
    for (key, value) in &patch.attributes {
        out.insert(key.clone(), json!(value));
    }
    Json::Object(out)
}

//! `/metrics` in `OpenMetrics` 1.0, from the index and the engine's counters.
//!
//! What hostd says of this machine gets families of its own ([`families`]),
//! with a unit in the name; whatever has none of them, and what other programs
//! have sent, is in `hostd_event_metric{host,service}`. States are one gauge of
//! 0 or 1 each, which can be summed and alerted on. Events of others are bounded
//! in number; those left out are counted in `hostd_metrics_omitted`.
//!
//! Written by hand: all series come and go with the events, so that a registry
//! (prometheus-client) would be rebuilt for each request, and the text itself is
//! a few lines ([`text`]).

mod families;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::families::FAMILIES;
pub use self::text::TYPE;
use self::text::{Kind, Page};
use crate::base::Event;
use crate::query::Query;
use crate::riemann::index::OWN_TAG;
use crate::riemann::{Index, Reason};

/// Events of others that are told at most.
const OTHERS: usize = 5000;

/// The states of every event.
const STATES: [&str; 4] = ["ok", "warning", "critical", "unknown"];

/// Labels and a value.
type Sample<'a> = (Vec<(&'a str, &'a str)>, f64);

/// The page.
pub fn render(index: &Index) -> String {
    let mut events = index.query(&Query::all());
    // An absent name and an empty one are the same to Prometheus.
    events.sort_by(|a, b| labels(a).cmp(&labels(b)));
    events.dedup_by(|a, b| labels(a) == labels(b));
    let is_own = |event: &Arc<Event>| event.tags.iter().any(|tag| tag == OWN_TAG);
    let (own, mut others): (Vec<_>, Vec<_>) = events.into_iter().partition(is_own);
    let omitted = others.len().saturating_sub(OTHERS);
    others.truncate(OTHERS);
    let mut page = Page::default();
    engine(&mut page, index);
    page.family(
        "hostd_metrics_omitted",
        Kind::Gauge,
        "",
        "Events of others that are not told here, because there are too many.",
    );
    page.sample("hostd_metrics_omitted", &[], omitted as f64);

    let mut generic: Vec<&Event> = others.iter().map(AsRef::as_ref).collect();
    let mut told: BTreeMap<usize, Vec<Sample<'_>>> = BTreeMap::new();
    for event in &own {
        let (Some(service), Some(metric)) = (event.service.as_deref(), event.metric) else {
            continue;
        };
        let found = FAMILIES
            .iter()
            .enumerate()
            .find_map(|(at, family)| family.labels(service).map(|labels| (at, labels)));
        match found {
            Some((at, labels)) => told.entry(at).or_default().push((labels, metric.as_f64())),
            None => generic.push(event),
        }
    }
    for (at, samples) in told {
        let Some(family) = FAMILIES.get(at) else { continue };
        page.family(family.name, Kind::Gauge, family.unit, family.help);
        for (labels, value) in samples {
            page.sample(family.name, &labels, value);
        }
    }
    states_of(
        &mut page,
        &own,
        ("node_zfs_zpool_state", "zpool", "The pool's state as ZFS has it."),
        ("zpool ", " health", "pool-state"),
        &["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"],
    );
    states_of(
        &mut page,
        &own,
        ("hostd_vm_state", "vm", "What the VM does."),
        ("vm ", "", "vm-state"),
        &["off", "preparing", "starting", "running", "paused", "stopping", "crashed", "failed"],
    );
    all_states(&mut page, own.iter().chain(&others));
    metrics(&mut page, &generic);
    page.end()
}

/// The engine's own counters.
fn engine(page: &mut Page, index: &Index) {
    let stats = index.stats();
    page.family("hostd_build", Kind::Info, "", "Which hostd this is.");
    page.sample("hostd_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    for (name, help, value) in [
        ("hostd_events_accepted", "Events taken into the index.", stats.accepted.get()),
        ("hostd_events_expired", "Events that were not renewed in time.", stats.expired.get()),
        (
            "hostd_events_dropped",
            "Events that slow subscribers and sinks lost.",
            stats.dropped.get(),
        ),
        ("hostd_queries_answered", "Queries answered.", stats.answered.get()),
        ("hostd_connections_accepted", "Connections accepted.", stats.connections.get()),
    ] {
        page.family(name, Kind::Counter, "", help);
        page.sample(&format!("{name}_total"), &[], value as f64);
    }
    let name = "hostd_refused";
    page.family(name, Kind::Counter, "", "Messages, events, queries and connections refused.");
    for reason in Reason::ALL {
        let value = stats.refused(reason) as f64;
        page.sample("hostd_refused_total", &[("reason", reason.as_str())], value);
    }
    let (entries, bytes) = index.size();
    for (name, unit, help, value) in [
        ("hostd_connections_open", "", "Connections open now.", stats.open() as f64),
        ("hostd_index_events", "", "Current events.", entries as f64),
        ("hostd_index_bytes", "bytes", "Approximate memory of all current events.", bytes as f64),
    ] {
        page.family(name, Kind::Gauge, unit, help);
        page.sample(name, &[], value);
    }
}

/// The states of things that have words of their own, from an attribute.
fn states_of(
    page: &mut Page,
    own: &[Arc<Event>],
    (name, label, help): (&str, &str, &str),
    (prefix, suffix, attribute): (&str, &str, &str),
    states: &[&str],
) {
    let objects = own.iter().filter_map(|event| {
        let object = event.service.as_deref()?.strip_prefix(prefix)?.strip_suffix(suffix)?;
        Some((object, event.attributes.get(attribute)?.to_lowercase()))
    });
    let objects: BTreeMap<&str, String> = objects.collect();
    if objects.is_empty() {
        return;
    }
    page.family(name, Kind::Gauge, "", help);
    for (object, state) in &objects {
        one_of(page, name, &[(label, object)], states, state);
    }
}

/// One gauge for each state, a word that is none of them included.
fn one_of(page: &mut Page, name: &str, labels: &[(&str, &str)], states: &[&str], is: &str) {
    let further = (!states.contains(&is)).then_some(is);
    for state in states.iter().copied().chain(further) {
        let labels: Vec<_> = labels.iter().copied().chain([("state", state)]).collect();
        page.sample(name, &labels, f64::from(u8::from(state == is)));
    }
}

fn all_states<'a>(page: &mut Page, events: impl Iterator<Item = &'a Arc<Event>>) {
    let name = "hostd_event_state";
    page.family(name, Kind::Gauge, "", "The state of each current event.");
    for event in events {
        if let Some(state) = event.state.as_deref() {
            one_of(page, name, &labels(event), &STATES, state);
        }
    }
}

fn metrics(page: &mut Page, events: &[&Event]) {
    let name = "hostd_event_metric";
    page.family(
        name,
        Kind::Gauge,
        "",
        "The metric of each current event that has no family of its own.",
    );
    for event in events {
        if let Some(metric) = event.metric {
            page.sample(name, &labels(event), metric.as_f64());
        }
    }
}

/// The labels of an event. An absent one is an empty one, as in Prometheus.
fn labels(event: &Event) -> [(&str, &str); 2] {
    let text = |field| Option::<&str>::unwrap_or_default(field);
    [("host", text(event.host.as_deref())), ("service", text(event.service.as_deref()))]
}

#[cfg(test)]
#[path = "metrics/tests.rs"]
mod tests;

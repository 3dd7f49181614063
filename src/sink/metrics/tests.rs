//! Tests of the page; a Prometheus reads it in `tests/prometheus.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::base::{Metric, Severity};
use crate::host::clock::RealClock;
use crate::riemann::index::{Limits, Origin};

fn index() -> Index {
    Index::new(Limits::default(), Arc::new(RealClock))
}

fn own(service: &str, severity: Severity, metric: f64) -> Event {
    let event = Event::new(service, severity, "").metric(Metric::Double(metric));
    Event { host: Some("nas".into()), tags: vec![OWN_TAG.into()], ..event }
}

/// Checks what `OpenMetrics` demands of every page; returns its samples.
fn samples(page: &str) -> Vec<String> {
    let body = page.strip_suffix("# EOF\n").expect("its end");
    let (mut families, mut seen, mut all) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let (mut name, mut kind) = ("", "");
    for line in body.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            (name, kind) = family.split_once(' ').expect("a kind");
            assert!(families.insert(name), "{name} twice: families must not be interleaved");
        } else if let Some(unit) = line.strip_prefix("# UNIT ") {
            let (of, unit) = unit.split_once(' ').expect("a unit");
            assert!(of == name && name.ends_with(&format!("_{unit}")), "{line}");
        } else if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(help.strip_prefix(name).is_some_and(|help| help.len() > 2), "{line}");
        } else {
            let suffix = match kind {
                "gauge" => "",
                "counter" => "_total",
                "info" => "_info",
                other => panic!("{other}"),
            };
            let rest = line.strip_prefix(name).and_then(|line| line.strip_prefix(suffix));
            assert!(rest.is_some_and(|r| r.starts_with([' ', '{'])), "{line} is not of {name}");
            let (series, value) = line.rsplit_once(' ').expect("a value");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(seen.insert(series.to_owned()), "{series} twice");
            all.push(line.to_owned());
        }
    }
    all
}

#[test]
fn what_is_known_becomes_families() {
    let index = index();
    let pool = own("zpool tank health", Severity::Warning, 1.0).attribute("pool-state", "DEGRADED");
    let vm = own("vm gaming", Severity::Ok, 1.0).attribute("vm-state", "running");
    index.apply_own(vec![
        pool,
        vm,
        own("vm gaming disk c", Severity::Ok, 4096.0),
        own("zpool my tank capacity", Severity::Ok, 0.5),
        own("eth0 rx bytes", Severity::Ok, 1e9),
        own("something new", Severity::Unknown, 7.0),
        own("disk /mnt/a b", Severity::Ok, 0.25),
    ]);
    let odd = Event {
        service: Some("a \"b\"\\\nc".into()),
        state: Some("info".into()),
        ..Event::default()
    };
    index.apply(Origin::Outside, vec![odd.metric(Metric::Double(f64::INFINITY))]);
    let found = samples(&render(&index));
    for wanted in [
        "node_zfs_zpool_state{zpool=\"tank\",state=\"degraded\"} 1",
        "node_zfs_zpool_state{zpool=\"tank\",state=\"online\"} 0",
        "hostd_zpool_tolerated_failures{zpool=\"tank\"} 1",
        "hostd_zpool_used_ratio{zpool=\"my tank\"} 0.5",
        "hostd_vm_state{vm=\"gaming\",state=\"running\"} 1",
        "hostd_vm_state{vm=\"gaming\",state=\"crashed\"} 0",
        "hostd_vm_running{vm=\"gaming\"} 1",
        "hostd_vm_disk_bytes_per_second{vm=\"gaming\",disk=\"c\"} 4096",
        "hostd_network_received_bytes_per_second{interface=\"eth0\"} 1000000000",
        "hostd_filesystem_used_ratio{mount=\"/mnt/a b\"} 0.25",
        "hostd_event_metric{host=\"nas\",service=\"something new\"} 7",
        "hostd_event_metric{host=\"\",service=\"a \\\"b\\\"\\\\\\nc\"} +Inf",
        "hostd_event_state{host=\"\",service=\"a \\\"b\\\"\\\\\\nc\",state=\"info\"} 1",
        "hostd_event_state{host=\"nas\",service=\"zpool tank health\",state=\"warning\"} 1",
        "hostd_event_state{host=\"nas\",service=\"zpool tank health\",state=\"ok\"} 0",
        "hostd_events_accepted_total 8",
        "hostd_refused_total{reason=\"own-key\"} 0",
        "hostd_index_events 8",
        "hostd_metrics_omitted 0",
    ] {
        assert!(found.iter().any(|line| line == wanted), "{wanted}\n{}", found.join("\n"));
    }
}

#[test]
fn events_of_others_are_bounded() {
    let index = index();
    let other = |n: usize| Event { service: Some(format!("s{n}")), ..Event::default() };
    let events = (0..OTHERS + 3).map(|n| other(n).metric(Metric::Int(1))).collect();
    index.apply(Origin::Outside, events);
    let found = samples(&render(&index));
    assert!(found.iter().any(|line| line == "hostd_metrics_omitted 3"));
    let told = found.iter().filter(|line| line.starts_with("hostd_event_metric"));
    assert_eq!(told.count(), OTHERS);
}

#[test]
fn every_family_has_a_row_in_the_catalogue() {
    let shape = |service: &str| {
        let words = service.split(' ').map(|w| if w.starts_with('<') { "<>" } else { w });
        words.collect::<Vec<_>>().join(" ")
    };
    let known: BTreeSet<_> =
        crate::state::catalogue::CATALOGUE.iter().map(|entry| shape(entry.service)).collect();
    let own = FAMILIES.iter().filter(|family| !family.service.starts_with("sink "));
    for family in own {
        assert!(known.contains(&shape(family.service)), "{}", family.service);
        assert!(family.unit.is_empty() || family.name.ends_with(&format!("_{}", family.unit)));
    }
    let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), FAMILIES.len());
}

proptest! {
    #[test]
    fn whatever_others_send_the_page_stays_right(
        texts in proptest::collection::vec(("\\PC{0,8}", "[a-c \"\\\\\n{}#]{0,8}", any::<f64>()), 0..20),
    ) {
        let index = index();
        let events = texts.into_iter().map(|(host, service, metric)| {
            let event = Event { host: Some(host), service: Some(service), ..Event::default() };
            Event { state: event.service.clone(), ..event }.metric(Metric::Double(metric))
        });
        index.apply(Origin::Outside, events.collect());
        samples(&render(&index));
    }
}

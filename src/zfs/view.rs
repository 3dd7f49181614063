//! Facts and findings to what people and scripts see. Pure.

use super::devices::{finding, typed};
use super::judge::Facts;
use super::kept::KeptScrub;
use super::memory::Memory;
use super::model::{Function, Pool, ScanState, Vdev};
use super::pace::Pace;
use super::redundancy::Tolerance;
use crate::ask::view::{FindingView, PoolView, ScanView, ScrubbedView, VdevView};
use crate::base::Severity;

/// A pool; its health is the worst of its findings.
pub fn pool(
    facts: &Facts,
    state: &str,
    tolerances: &[Option<Tolerance>],
    tolerates: Option<u32>,
    capacity: Option<f64>,
    findings: Vec<FindingView>,
) -> PoolView {
    let (pool, memory) = (facts.pool, facts.memory);
    let tops = pool.vdevs.iter().zip(tolerances);
    let scrubbed = |scrub: KeptScrub| ScrubbedView { ended: scrub.ended, errors: scrub.errors };
    ranked(PoolView {
        name: pool.name.clone(),
        state: if state.is_empty() { "UNKNOWN".to_owned() } else { state.to_owned() },
        health: Severity::Ok,
        tolerates,
        capacity,
        scan: scan(pool, memory),
        findings,
        vdevs: tops
            .map(|(top, tolerance)| vdev(top, tolerance.and_then(|t| t.now), memory))
            .collect(),
        fills: memory.forecast.map(|told| told.full),
        scrubbed: memory.kept.scrubbed.map(scrubbed),
        ..PoolView::default()
    })
}

/// A pool of which nothing is known but these findings.
pub fn bare(name: &str, state: &str, findings: Vec<FindingView>) -> PoolView {
    ranked(PoolView {
        name: name.to_owned(),
        state: state.to_owned(),
        health: Severity::Ok,
        findings,
        ..PoolView::default()
    })
}

/// An expected pool that is not there.
pub fn absent(name: &str, why: &str) -> PoolView {
    let message = format!("{name} is expected and not imported{why}");
    let typed = typed(name);
    let advice = format!(
        "`zpool import` lists what can be imported and why not; then `zpool import {typed}`"
    );
    let finding = finding(Severity::Critical, "pool-absent", name, message, advice);
    bare(name, "ABSENT", vec![finding])
}

/// The same with its findings ordered, worst first, and its health set.
pub fn ranked(mut pool: PoolView) -> PoolView {
    pool.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    pool.health = pool.findings.first().map_or(Severity::Ok, |worst| worst.severity);
    pool
}

fn vdev(vdev: &Vdev, tolerates: Option<u32>, memory: &Memory) -> VdevView {
    VdevView {
        name: vdev.name.clone(),
        kind: vdev.kind.as_str().to_owned(),
        class: vdev.class.as_str().to_owned(),
        state: vdev.state.shown().to_owned(),
        read_errors: vdev.errors.read,
        write_errors: vdev.errors.write,
        checksum_errors: vdev.errors.checksum,
        tolerates,
        children: vdev.children.iter().map(|child| self::vdev(child, None, memory)).collect(),
        disk: memory.disk(vdev).cloned(),
    }
}

/// A running rebuild, else the scan, else the last rebuild.
fn scan(pool: &Pool, memory: &Memory) -> Option<ScanView> {
    let rate = |of| memory.pace(of).and_then(Pace::rate);
    let left = |of| memory.pace(of).and_then(Pace::left).map(|left| left.as_secs());
    let running = pool.rebuilds.iter().find(|r| r.state == ScanState::Scanning);
    let rebuild = || running.or(pool.rebuilds.last());
    if let Some(scan) = pool.scan.as_ref().filter(|_| running.is_none()) {
        return Some(ScanView {
            function: match scan.function {
                Function::Scrub => "scrub".to_owned(),
                Function::Resilver => "resilver".to_owned(),
            },
            state: word(scan.state),
            progress: scan.progress,
            errors: scan.errors,
            started: scan.started,
            ended: scan.ended,
            rate: rate(""),
            left: left(""),
        });
    }
    rebuild().map(|rebuild| ScanView {
        function: "resilver".to_owned(),
        state: word(rebuild.state),
        progress: rebuild.progress,
        errors: rebuild.errors,
        started: rebuild.started,
        ended: rebuild.ended,
        rate: rate(&rebuild.vdev),
        left: left(&rebuild.vdev),
    })
}

fn word(state: ScanState) -> String {
    match state {
        ScanState::Scanning => "scanning",
        ScanState::Paused => "paused",
        ScanState::Finished => "finished",
        ScanState::Canceled => "canceled",
    }
    .to_owned()
}

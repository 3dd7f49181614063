//! `hostctl status`: everything that matters, one line each, worst first.

use super::Snapshot;
use super::events::{gpu_state, is_told, pool_summary, vm_severity};
use crate::ask::view::{DiskView, StatusLine, StatusView, VmState};
use crate::base::{Reading, Severity};

/// The order of what is equally bad.
const KINDS: [&str; 8] = ["iommu", "gpu", "vm", "pool", "disk", "care", "service", "host"];

/// The snapshot at a glance.
pub fn status(snapshot: &Snapshot) -> StatusView {
    let mut lines = Vec::new();
    lines.extend(iommu(snapshot));
    section(&mut lines, "gpu", &snapshot.gpus, |view| {
        let unread = unread("gpu", !view.notes.is_empty(), &view.notes);
        view.gpus.iter().map(gpu).chain(unread).collect()
    });
    lines.extend(snapshot.vms.values().map(vm));
    section(&mut lines, "pool", &snapshot.pools, |view| {
        view.pools.iter().map(pool).chain(unread("pool", view.unread, &view.notes)).collect()
    });
    section(&mut lines, "service", &snapshot.services, |view| {
        view.services.iter().map(service).collect()
    });
    // Of these only what is amiss is worth a line.
    lines.extend(snapshot.disks.value().into_iter().flat_map(|view| {
        let amiss = |disk: &&DiskView| disk.health != Severity::Ok && is_told(disk);
        view.disks.iter().filter(amiss).map(disk)
    }));
    lines.extend(snapshot.care.value().into_iter().flat_map(|view| {
        let amiss = view.jobs.iter().filter(|job| job.health != Severity::Ok);
        amiss.map(|job| line("care", &job.name, job.health, &job.state, job.message.clone()))
    }));
    lines.extend(snapshot.machine.value().into_iter().flat_map(|view| {
        let amiss = view.readings.iter().filter(|reading| reading.health != Severity::Ok);
        amiss.map(|one| {
            line("host", &one.service, one.health, one.health.as_str(), one.message.clone())
        })
    }));
    let place = |line: &StatusLine| KINDS.iter().position(|kind| *kind == line.kind);
    lines.sort_by(|a, b| {
        let (health, kind) = (b.health.cmp(&a.health), place(a).cmp(&place(b)));
        health.then(kind).then_with(|| a.name.cmp(&b.name))
    });
    let missing = snapshot.unavailable.values().map(|(severity, _)| *severity).max();
    StatusView {
        host: snapshot.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: snapshot.started,
        generation: snapshot.generation,
        health: lines
            .iter()
            .map(|line| line.health)
            .max()
            .unwrap_or(Severity::Ok)
            .max(missing.unwrap_or(Severity::Ok)),
        lines,
        unavailable: snapshot
            .unavailable
            .iter()
            .map(|(what, (_, why))| format!("{what}: {why}"))
            .collect(),
    }
}

fn line(kind: &str, name: &str, health: Severity, state: &str, summary: String) -> StatusLine {
    StatusLine { kind: kind.into(), name: name.into(), health, state: state.into(), summary }
}

/// One kind's lines; where it could not be read, one line that says so.
fn section<T>(
    lines: &mut Vec<StatusLine>,
    kind: &str,
    reading: &Reading<T>,
    each: impl FnOnce(&T) -> Vec<StatusLine>,
) {
    if let Some(why) = reading.why() {
        lines.push(line(kind, "", Severity::Unknown, "unknown", why.to_owned()));
    }
    lines.extend(reading.value().map(each).unwrap_or_default());
}

/// Where there may be more of a kind than could be read.
fn unread(kind: &str, unread: bool, notes: &[String]) -> Option<StatusLine> {
    unread.then(|| line(kind, "", Severity::Unknown, "unknown", notes.join("; ")))
}

/// Only worth a line when a card waits for it and it is not there.
fn iommu(snapshot: &Snapshot) -> Option<StatusLine> {
    let view = snapshot.iommu.value()?;
    let why = view.notes.first().map_or("no IOMMU groups", String::as_str);
    let amiss = view.groups.is_empty() && snapshot.wants_iommu;
    amiss.then(|| line("iommu", "", Severity::Warning, "off", why.to_owned()))
}

fn gpu(gpu: &crate::ask::view::GpuView) -> StatusLine {
    let state = if gpu.bound { "bound" } else { "host" };
    let (health, text) = match gpu.problems.as_slice() {
        [] => (Severity::Ok, gpu_state(gpu)),
        problems => (Severity::Critical, problems.join("; ")),
    };
    let text = if gpu.model.is_empty() { text } else { format!("{}: {text}", gpu.model) };
    line("gpu", &gpu.name, health, state, text)
}

fn vm(vm: &crate::ask::view::VmView) -> StatusLine {
    let doing = match vm.state {
        VmState::Preparing | VmState::Starting | VmState::Stopping if !vm.step.is_empty() => {
            format!("{} ({})", vm.reason, vm.step)
        }
        VmState::Off
        | VmState::Preparing
        | VmState::Starting
        | VmState::Running
        | VmState::Paused
        | VmState::Stopping
        | VmState::Crashed
        | VmState::Failed => vm.reason.clone(),
    };
    line("vm", vm.name.as_str(), vm_severity(vm), vm.state.as_str(), doing)
}

fn pool(pool: &crate::ask::view::PoolView) -> StatusLine {
    line("pool", &pool.name, pool.health, &pool.state, pool_summary(pool))
}

fn disk(disk: &crate::ask::view::DiskView) -> StatusLine {
    let worst = disk.findings.first().map(|finding| finding.message.clone());
    line("disk", &disk.name, disk.health, &disk.power, worst.unwrap_or_default())
}

fn service(service: &crate::ask::view::ServiceView) -> StatusLine {
    let state = match service.health {
        Severity::Ok => "up",
        Severity::Warning => "impaired",
        Severity::Unknown => "unknown",
        Severity::Critical => "down",
    };
    line("service", &service.name, service.health, state, service.message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::view::{GpusView, PoolView, PoolsView};
    use crate::base::Timestamp;
    use crate::state::Fact;

    #[test]
    fn unread_is_unknown_and_worst_comes_first() {
        let now = Timestamp::from_secs(1);
        let mut snapshot = Snapshot::new("nas".into(), now, 10.0, true);
        let before = status(&snapshot);
        assert_eq!(before.health, Severity::Unknown);
        assert!(before.lines.iter().all(|line| line.health == Severity::Unknown));

        let pool = |name: &str, health| PoolView {
            name: name.into(),
            state: "ONLINE".into(),
            health,
            tolerates: Some(1),
            ..PoolView::default()
        };
        let pools = vec![pool("fine", Severity::Ok), pool("sick", Severity::Critical)];
        snapshot.apply(Fact::Pools(PoolsView { pools, ..PoolsView::default() }), now);
        let after = status(&snapshot);
        assert_eq!(after.health, Severity::Critical);
        let names: Vec<_> = after.lines.iter().filter(|l| l.kind == "pool").collect();
        assert_eq!((names[0].name.as_str(), names[1].name.as_str()), ("sick", "fine"));
        assert!(names[1].summary.contains("tolerates 1 more failure"));
        let order: Vec<_> = after.lines.iter().map(|l| (l.health, l.kind.as_str())).collect();
        let wanted = [
            (Severity::Critical, "pool"),
            (Severity::Unknown, "gpu"),
            (Severity::Unknown, "service"),
            (Severity::Ok, "pool"),
        ];
        assert_eq!(order, wanted);
    }

    #[test]
    fn what_could_not_be_read_is_a_line_and_an_event() {
        let now = Timestamp::from_secs(1);
        let mut snapshot = Snapshot::new("nas".into(), now, 10.0, true);
        let lines = |snapshot: &Snapshot, kind: &str| {
            let all = status(snapshot).lines.into_iter();
            all.filter(|l| l.kind == kind).map(|l| (l.health, l.summary)).collect::<Vec<_>>()
        };
        let mut pools = PoolsView { notes: vec!["ZFS is not loaded".into()], ..Default::default() };
        assert!(snapshot.apply(Fact::Pools(pools.clone()), now).is_empty());
        assert!(lines(&snapshot, "pool").is_empty(), "nothing is there and nothing is expected");
        pools.notes = vec!["/proc/spl/kstat/zfs: permission denied".into()];
        pools.unread = true;
        let told = snapshot.apply(Fact::Pools(pools.clone()), now);
        assert_eq!(told[0].service.as_deref(), Some("zpool health"));
        assert_eq!(told[0].state.as_deref(), Some("unknown"));
        assert_eq!(lines(&snapshot, "pool"), [(Severity::Unknown, pools.notes[0].clone())]);

        let mut gpus = GpusView::default();
        assert_eq!(snapshot.apply(Fact::Gpus(gpus.clone()), now)[0].state.as_deref(), Some("ok"));
        assert!(lines(&snapshot, "gpu").is_empty());
        gpus.notes = vec!["/sys/bus/pci/devices: permission denied".into()];
        let told = snapshot.apply(Fact::Gpus(gpus.clone()), now);
        assert_eq!(told[0].state.as_deref(), Some("unknown"));
        assert_eq!(lines(&snapshot, "gpu"), [(Severity::Unknown, gpus.notes[0].clone())]);
    }
}

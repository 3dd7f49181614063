//! How facts become events. Every event made here is in the
//! [catalogue](super::catalogue).

use super::{Snapshot, radius};
use crate::ask::view::{
    CareView, DiskView, DisksView, FindingView, GpuView, GpusView, IommuView, KeepingView,
    MachineView, PoolView, PoolsView, ReadingView, ScanView, ServiceView, ServicesView, SinkView,
    Verdict, VmState, VmStatsView, VmView,
};
use crate::base::{Bytes, Event, Metric, Name, Severity, Timestamp, span};
use crate::pci::{Change, What};

/// The daemon itself; metric = things it cannot do here.
pub fn hostd(snapshot: &Snapshot) -> Event {
    let missing = &snapshot.unavailable;
    let state = missing.values().map(|(severity, _)| *severity).max().unwrap_or(Severity::Ok);
    let all: Vec<_> = missing.iter().map(|(what, (_, why))| format!("{what}: {why}")).collect();
    let text = match (state, all.as_slice()) {
        (_, []) => format!("hostd {} is watching", env!("CARGO_PKG_VERSION")),
        (Severity::Ok, all) => {
            format!("hostd {} is watching, without {}", env!("CARGO_PKG_VERSION"), all.join("; "))
        }
        (_, all) => format!("unavailable: {}", all.join("; ")),
    };
    Event::new("hostd", state, text).metric(int(missing.len()))
}

/// What hostd did not take in or pass on; metric = how much, for all causes.
pub fn losses(lost: &[(&str, u64)]) -> Event {
    let causes: Vec<_> = lost.iter().filter(|(_, count)| *count > 0).collect();
    let count = causes.iter().map(|(_, count)| count).sum::<u64>();
    let (state, text) = if causes.is_empty() {
        (Severity::Ok, "everything was taken in".to_owned())
    } else {
        let causes: Vec<_> =
            causes.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
        (Severity::Warning, format!("not taken in: {}", causes.join(", ")))
    };
    Event::new("hostd events", state, text)
        .metric(Metric::Int(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// How the history goes; metric = buckets that wait for the disk.
pub fn history(view: &KeepingView) -> Event {
    let mut said: Vec<_> =
        view.problem.iter().chain(&view.moved).chain(&view.notes).cloned().collect();
    let state = if said.is_empty() { Severity::Ok } else { Severity::Warning };
    if said.is_empty() {
        said.push(format!("{} series, {} MiB", view.series, Bytes(view.bytes).mib()));
    }
    let waiting = Metric::Int(i64::try_from(view.waiting).unwrap_or(i64::MAX));
    Event::new("sink history", state, said.join("; ")).metric(waiting)
}

/// The IOMMU as a whole; metric = groups. Where no card is configured nothing
/// is amiss without one.
pub fn iommu(view: &IommuView, wanted: bool) -> Vec<Event> {
    let (state, text) = if view.groups.is_empty() {
        let why = view.notes.first().map_or("no IOMMU groups", String::as_str);
        (if wanted { Severity::Warning } else { Severity::Ok }, why.to_owned())
    } else {
        let of = |verdict| view.groups.iter().filter(|g| g.verdict == verdict).count();
        let text = format!(
            "{} groups: {} isolated, {} shared, {} blocked",
            view.groups.len(),
            of(Verdict::Isolated),
            of(Verdict::Shared),
            of(Verdict::Blocked)
        );
        (Severity::Ok, text)
    };
    vec![Event::new("iommu", state, text).metric(int(view.groups.len()))]
}

/// A PCI function that is otherwise than before; what hostd itself did is ok.
pub fn device(change: &Change, ours: bool) -> Event {
    let state = match change.what {
        What::Appeared => Severity::Ok,
        What::Driver(_) if ours => Severity::Ok,
        What::Driver(_) | What::Vanished | What::Exchanged => Severity::Warning,
    };
    let what = match change.what {
        What::Appeared => "appeared",
        What::Vanished => "vanished",
        What::Exchanged => "exchanged",
        What::Driver(_) => "driver",
    };
    let by = if ours { "; hostd did it" } else { "" };
    Event::new(format!("device {}", change.address), state, format!("{}{by}", change.words))
        .attribute("device", change.address.to_string())
        .attribute("change", what)
}

/// All graphics cards in one event, then each; metric = 1 when bound to vfio-pci.
pub fn gpus(view: &GpusView) -> Vec<Event> {
    let (state, text) = match (view.notes.as_slice(), view.gpus.len()) {
        ([], 0) => (Severity::Ok, "no graphics cards".to_owned()),
        ([], 1) => (Severity::Ok, "1 graphics card".to_owned()),
        ([], many) => (Severity::Ok, format!("{many} graphics cards")),
        (notes, _) => (Severity::Unknown, format!("not all could be read: {}", notes.join("; "))),
    };
    let all = Event::new("gpus", state, text).metric(int(view.gpus.len()));
    std::iter::once(all).chain(view.gpus.iter().map(gpu)).collect()
}

fn gpu(gpu: &GpuView) -> Event {
    let (state, text) = match gpu.problems.as_slice() {
        [] => (Severity::Ok, gpu_state(gpu)),
        problems => (Severity::Critical, problems.join("; ")),
    };
    Event::new(format!("gpu {}", gpu.name), state, text)
        .metric(Metric::Int(i64::from(gpu.bound)))
        .attribute("device", gpu.address.to_string())
}

/// What a card is doing, in words.
pub fn gpu_state(gpu: &GpuView) -> String {
    match (gpu.bound, &gpu.driver) {
        (true, _) => "ready for a guest (vfio-pci)".to_owned(),
        (false, Some(driver)) => format!("used by the host ({driver})"),
        (false, None) => "idle (no driver)".to_owned(),
    }
}

/// One VM, metric = 1 while its processors run; and its guest agent, once it
/// has spoken, metric = 1 while it speaks.
pub fn vm(vm: &VmView) -> Vec<Event> {
    let agent = vm.agent.map(|speaks| {
        let (state, text) = if speaks {
            (Severity::Ok, "the guest agent speaks")
        } else {
            (Severity::Warning, "the guest agent, which has spoken before, is silent")
        };
        Event::new(format!("vm {} agent", vm.name), state, text)
            .metric(Metric::Int(i64::from(speaks)))
            .attribute("vm", vm.name.as_str())
    });
    std::iter::once(vm_state(vm)).chain(agent).collect()
}

fn vm_state(vm: &VmView) -> Event {
    let text = format!("{}: {}", vm.state.as_str(), vm.reason);
    Event::new(format!("vm {}", vm.name), vm_severity(vm), text)
        .metric(Metric::Int(i64::from(vm.state == VmState::Running)))
        .attribute("vm", vm.name.as_str())
        .attribute("vm-state", vm.state.as_str())
}

/// What a VM takes of the host; metric = share of its processors, bytes of
/// memory, bytes a second of each disk. What could not be read is not told.
pub fn vm_stats(name: &Name, stats: &VmStatsView) -> Vec<Event> {
    let event = |what: String, metric, text: String| {
        Event::new(format!("vm {name} {what}"), Severity::Ok, text)
            .metric(metric)
            .attribute("vm", name.as_str())
    };
    let mut events = Vec::new();
    if let Some(cpu) = stats.cpu {
        let text = format!("{:.0} % of its processors", cpu * 100.0);
        events.push(event("cpu".to_owned(), Metric::Double(cpu), text));
    }
    if let Some(bytes) = stats.memory {
        let metric = Metric::Int(i64::try_from(bytes).unwrap_or(i64::MAX));
        events.push(event("memory".to_owned(), metric, format!("{} MiB", bytes >> 20)));
    }
    for disk in &stats.disks {
        let all = disk.read_bytes + disk.written_bytes;
        let flush = disk
            .flush_seconds
            .map_or(String::new(), |seconds| format!(", {:.1} ms a flush", seconds * 1000.0));
        let text = format!(
            "{:.0} KiB/s read, {:.0} KiB/s written{flush}",
            disk.read_bytes / 1024.0,
            disk.written_bytes / 1024.0
        );
        events.push(event(format!("disk {}", disk.name), Metric::Double(all), text));
    }
    events
}

/// How bad a VM's state is. Off is fine: somebody wanted it.
pub fn vm_severity(vm: &VmView) -> Severity {
    match vm.state {
        VmState::Running if !vm.responsive => Severity::Warning,
        VmState::Off
        | VmState::Preparing
        | VmState::Starting
        | VmState::Running
        | VmState::Stopping => Severity::Ok,
        VmState::Paused if !vm.responsive => Severity::Unknown,
        VmState::Paused if vm.held => Severity::Ok,
        VmState::Paused => Severity::Warning,
        VmState::Crashed | VmState::Failed => Severity::Critical,
    }
}

/// All pools in one event, as riemann-tools has it, then each by itself.
pub fn pools(view: &PoolsView, now: Timestamp) -> Vec<Event> {
    let unread = view.unread.then_some(Severity::Unknown);
    // Where there are no pools there is nothing to judge.
    let Some(state) = view.pools.iter().map(|pool| pool.health).chain(unread).max() else {
        return Vec::new();
    };
    let mut words: Vec<_> = view.pools.iter().map(|p| format!("{} {}", p.name, p.state)).collect();
    if view.unread {
        words.push(format!("not all could be read: {}", view.notes.join("; ")));
    }
    let text = words.join(", ");
    let all = Event::new("zpool health", state, text).metric(int(view.pools.len()));
    std::iter::once(all).chain(view.pools.iter().flat_map(|one| pool(one, now))).collect()
}

/// Old errors stay until somebody clears them: only new ones are amiss.
const NEW: [&str; 4] =
    ["device-errors", "device-degraded", "device-faulted", "errors-on-several-devices"];

fn pool(pool: &PoolView, now: Timestamp) -> Vec<Event> {
    let on_it = radius::summary(pool);
    let event = |what: &str, state, mut text: String| {
        if state != Severity::Ok && !on_it.is_empty() {
            text = format!("{text}; on it: {on_it}");
        }
        let mut event = Event::new(format!("zpool {} {what}", pool.name), state, text)
            .attribute("pool", pool.name.as_str());
        if !on_it.is_empty() {
            event.attributes.insert("dependants".to_owned(), on_it.clone());
        }
        event
    };
    let mut health = event("health", pool.health, pool_summary(pool));
    health.metric = pool.tolerates.map(|t| Metric::Int(i64::from(t)));
    health.attributes.insert("pool-state".to_owned(), pool.state.clone());
    if let Some(finding) = pool.findings.first().filter(|f| f.severity != Severity::Ok) {
        health.attributes.insert("vdev".to_owned(), finding.object.clone());
    }
    let mut events = vec![health];
    if let Some(capacity) = pool.capacity {
        let about = |f: &&FindingView| f.code.starts_with("capacity") || f.code == "fills-soon";
        let state = pool.findings.iter().filter(about).map(|f| f.severity).max();
        let state = state.unwrap_or(Severity::Ok);
        let full = pool.fills.map(|at| at.iso().chars().take(10).collect::<String>());
        let when = full.as_ref().map_or(String::new(), |day| format!(", full on {day}"));
        let text = format!("{:.0} % used{when}", capacity * 100.0);
        let mut told = event("capacity", state, text).metric(Metric::Double(capacity));
        told.attributes.extend(full.map(|day| ("full".to_owned(), day)));
        events.push(told);
    }
    let errors: u64 = pool.vdevs.iter().map(errors_below).sum();
    let text = match errors {
        0 => "no errors counted".to_owned(),
        n => format!("{n} read, write and checksum errors counted"),
    };
    let new = pool.findings.iter().filter(|f| NEW.contains(&f.code.as_str()));
    let amiss = new.filter(|_| errors > 0).any(|f| f.severity != Severity::Ok);
    let state = if amiss { Severity::Warning } else { Severity::Ok };
    let count = i64::try_from(errors).unwrap_or(i64::MAX);
    events.push(event("errors", state, text).metric(Metric::Int(count)));
    if let Some(scan) = &pool.scan {
        let state = if scan.errors > 0 { Severity::Warning } else { Severity::Ok };
        let mut told = event("scan", state, scan_summary(scan));
        told.metric = scan.progress.map(Metric::Double);
        events.push(told);
    }
    events.extend(scrub_age(pool, now));
    events
}

/// How long ago the pool was scrubbed; not told of one that never was, unless
/// that is amiss.
fn scrub_age(pool: &PoolView, now: Timestamp) -> Option<Event> {
    let overdue = pool.findings.iter().find(|finding| finding.code == "scrub-overdue");
    let days = pool.scrubbed.as_ref().map(|scrub| now.since(scrub.ended).as_secs_f64() / 86_400.0);
    let text = match (overdue, days) {
        (Some(finding), _) => finding.message.clone(),
        (None, Some(days)) => format!("scrubbed {days:.1} days ago"),
        (None, None) => return None,
    };
    let state = overdue.map_or(Severity::Ok, |finding| finding.severity);
    let service = format!("zpool {} scrub age", pool.name);
    let mut event = Event::new(service, state, text).attribute("pool", pool.name.as_str());
    event.metric = days.map(Metric::Double);
    Some(event)
}

fn errors_below(vdev: &crate::ask::view::VdevView) -> u64 {
    // Inner vdevs count what their members could not mend: adding both would
    // count an error twice, so only leaves are summed.
    if vdev.children.is_empty() {
        vdev.read_errors.saturating_add(vdev.write_errors).saturating_add(vdev.checksum_errors)
    } else {
        vdev.children.iter().map(errors_below).fold(0, u64::saturating_add)
    }
}

/// A pool in one sentence: state, tolerance, worst finding.
pub fn pool_summary(pool: &PoolView) -> String {
    let tolerance = match pool.tolerates {
        Some(0) => "tolerates no further failure".to_owned(),
        Some(1) => "tolerates 1 more failure".to_owned(),
        Some(n) => format!("tolerates {n} more failures"),
        None => "tolerance unknown".to_owned(),
    };
    match pool.findings.first() {
        Some(finding) => format!("{}, {tolerance}: {}", pool.state, finding.message),
        None => format!("{}, {tolerance}", pool.state),
    }
}

/// A scan in one sentence.
pub fn scan_summary(scan: &ScanView) -> String {
    match scan.progress {
        Some(done) if scan.state == "scanning" => {
            let left = scan.left.map(std::time::Duration::from_secs).map(span::show);
            let left = left.map_or(String::new(), |left| format!(", about {left} left"));
            format!("{} {:.0} % done{left}, {} errors", scan.function, done * 100.0, scan.errors)
        }
        _ => format!("{} {}, {} errors", scan.function, scan.state, scan.errors),
    }
}

/// Each service; metric = seconds the probe took, or a plugin's first value.
/// Then its sessions, where it tells.
pub fn services(view: &ServicesView) -> Vec<Event> {
    let one = |service: &ServiceView| {
        let name = format!("service {}", service.name);
        let decides = service.layers.iter().find(|layer| layer.name == service.layer);
        let text = match decides {
            Some(layer) if service.health != Severity::Ok => {
                format!("{} since {}: {}", layer.name, layer.since.iso(), service.message)
            }
            _ => service.message.clone(),
        };
        let mut event = Event::new(name.as_str(), service.health, text)
            .attribute("layer", service.layer.as_str());
        if service.restarted > 0 {
            event = event.attribute("restarted", service.restarted.to_string());
        }
        event.metric = service.value.or(service.latency).map(Metric::Double);
        let values =
            service.values.iter().map(|(key, value)| (format!("perf-{key}"), value.clone()));
        event.attributes.extend(values);
        let sessions = service.sessions.map(|count| {
            let text =
                if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") };
            let count = Metric::Int(i64::try_from(count).unwrap_or(i64::MAX));
            Event::new(format!("{name} sessions"), Severity::Ok, text).metric(count)
        });
        std::iter::once(event).chain(sessions)
    };
    view.services.iter().flat_map(one).collect()
}

/// Each disk; metric = degrees Celsius. One that was never read is not told, as
/// anything.
pub fn disks(view: &DisksView) -> Vec<Event> {
    view.disks.iter().filter(|disk| is_told(disk)).map(disk).collect()
}

/// Whether anything is known of its health, or why nothing is.
pub fn is_told(disk: &DiskView) -> bool {
    disk.health != Severity::Unknown || !disk.findings.is_empty()
}

fn disk(disk: &DiskView) -> Event {
    let text = disk
        .findings
        .first()
        .map_or_else(|| "no complaint".to_owned(), |finding| finding.message.clone());
    let mut event = Event::new(format!("smart {}", disk.name), disk.health, text)
        .attribute("device", disk.name.as_str());
    event.metric = disk.temperature.map(Metric::Double);
    let known = [
        ("serial", Some(&disk.serial).filter(|text| !text.is_empty())),
        ("slot", Some(&disk.slot).filter(|text| !text.is_empty())),
        ("pool", disk.pool.as_ref()),
        ("vdev", disk.vdev.as_ref()),
    ];
    for (key, value) in known {
        event.attributes.extend(value.map(|value| (key.to_owned(), value.clone())));
    }
    event
}

/// Each thing that is measured of the machine, under the name it has there.
pub fn machine(view: &MachineView) -> Vec<Event> {
    let one = |reading: &ReadingView| {
        let text = reading.message.as_str();
        let mut event = Event::new(reading.service.as_str(), reading.health, text);
        event.metric = reading.value.map(Metric::Double);
        event.attributes.extend(reading.attributes.clone());
        event
    };
    view.readings.iter().map(one).collect()
}

/// Each job; no metric.
pub fn care(view: &CareView) -> Vec<Event> {
    let one = |job: &crate::ask::view::JobView| {
        Event::new(format!("care {}", job.name), job.health, job.message.as_str())
            .attribute("job-state", job.state.as_str())
    };
    view.jobs.iter().map(one).collect()
}

/// A receiver of events; metric = events that wait. Then for how long the
/// oldest has.
pub fn sink(view: &SinkView) -> Vec<Event> {
    let name = format!("sink {}", view.name);
    let waiting = i64::try_from(view.waiting).unwrap_or(i64::MAX);
    let mut event =
        Event::new(name.as_str(), view.health, view.message.as_str()).metric(Metric::Int(waiting));
    let counters = view.counters.iter().map(|(name, count)| (name.clone(), count.to_string()));
    event.attributes.extend(counters);
    let oldest = view.oldest.unwrap_or(0.0);
    let text = format!("the oldest event has waited for {oldest:.0} s");
    let oldest =
        Event::new(format!("{name} oldest"), Severity::Ok, text).metric(Metric::Double(oldest));
    vec![event, oldest]
}

fn int(count: usize) -> Metric {
    Metric::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

//! `hostctl vm list`, `vm status`, `vm plan`.

use std::fmt::Write;

use super::table::{cell, table};
use super::{Look, paint, printable};
use crate::ask::view::{
    DiskStatsView, PerformanceView, ScreenshotView, VmPlanView, VmState, VmStatsView, VmView,
    VmsView,
};
use crate::base::Severity;

fn state(vm: &VmView) -> String {
    let severity = match vm.state {
        VmState::Crashed | VmState::Failed => Severity::Critical,
        VmState::Paused => Severity::Warning,
        VmState::Running => Severity::Ok,
        VmState::Off | VmState::Preparing | VmState::Starting | VmState::Stopping => {
            return vm.state.as_str().to_owned();
        }
    };
    paint::mark(severity, vm.state.as_str())
}

/// What it is doing, or why it is where it is.
fn why(vm: &VmView) -> &str {
    if vm.step.is_empty() { &vm.reason } else { &vm.step }
}

fn pid(vm: &VmView) -> String {
    vm.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())
}

/// Processors and memory of one that runs; a dash is what could not be read.
fn load(stats: &VmStatsView) -> String {
    let dash = || "-".to_owned();
    let cpu = stats.cpu.map_or_else(dash, |cpu| format!("{:.0} %", cpu * 100.0));
    let memory = stats.memory.map_or_else(dash, |bytes| format!("{} MiB", bytes >> 20));
    format!("cpu {cpu}, memory {memory}, over {:.0} s", stats.seconds)
}

/// What a disk does; how long it takes is what a player feels.
fn disk(disk: &DiskStatsView) -> String {
    let rate = |bytes: f64, count: f64, took: Option<f64>| {
        let took = took.map_or(String::new(), |secs| format!(", {:.1} ms each", secs * 1000.0));
        format!("{:.1} MiB/s ({count:.0}/s{took})", bytes / f64::from(1 << 20))
    };
    let flush = disk.flush_seconds.map_or(String::new(), |secs| {
        format!(", {:.0} flushes/s, {:.1} ms each", disk.flushes, secs * 1000.0)
    });
    let read = rate(disk.read_bytes, disk.reads, disk.read_seconds);
    let written = rate(disk.written_bytes, disk.writes, disk.write_seconds);
    format!("reads {read}, writes {written}{flush}")
}

pub fn list(view: &VmsView, look: Look) -> String {
    if view.vms.is_empty() {
        return "no VMs\n".to_owned();
    }
    let rows = view
        .vms
        .iter()
        .map(|vm| [vm.name.to_string(), state(vm), look.age(vm.since), pid(vm), cell(why(vm))]);
    table(["VM", "STATE", "FOR", "PID", "WHY"], rows, look)
}

pub fn show(view: &VmsView, look: Look) -> String {
    let mut text = String::new();
    for vm in &view.vms {
        let devices: Vec<_> = vm.devices.iter().map(ToString::to_string).collect();
        let lines = [
            ("state", format!("{} for {}", state(vm), look.age(vm.since))),
            ("why", printable(&vm.reason)),
            ("step", printable(&vm.step)),
            ("pid", vm.pid.map(|pid| pid.to_string()).unwrap_or_default()),
            ("devices", devices.join(" ")),
            ("load", vm.stats.as_ref().map(load).unwrap_or_default()),
        ];
        let more = vm.performance.as_ref().map(performance).unwrap_or_default();
        // A string takes what it is given.
        let _ = writeln!(text, "{}", vm.name);
        for (key, value) in lines.iter().chain(&more).filter(|(_, value)| !value.is_empty()) {
            let _ = writeln!(text, "  {key:<8} {value}");
        }
        for disk in vm.stats.iter().flat_map(|stats| &stats.disks) {
            let _ = writeln!(text, "  {:<8} {}", printable(&disk.name), self::disk(disk));
        }
    }
    text
}

/// What the host does for it.
fn performance(view: &PerformanceView) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if let Some(pins) = &view.pins {
        let vcpus: Vec<_> = pins.vcpus.iter().map(ToString::to_string).collect();
        let emulator = printable(&pins.emulator);
        lines.push(("pinned", format!("to {}; QEMU itself to {emulator}", vcpus.join(" "))));
    }
    lines.push(("governor", view.governor.as_deref().map(printable).unwrap_or_default()));
    if let Some(pages) = &view.hugepages {
        let words = format!("{} huge pages of {} ({} added)", pages.pages, pages.size, pages.added);
        lines.push(("memory", words));
    }
    let arc = view.arc_max.map(|max| format!("ZFS's cache is limited to {max}"));
    lines.push(("cache", arc.unwrap_or_default()));
    if let Some(moved) = &view.moved {
        let words = format!("{} kernel threads, {} interrupts", moved.kthreads, moved.irqs);
        lines.push(("moved", words));
    }
    lines.extend(view.cannot_move.iter().map(|what| ("not", printable(what))));
    lines.push(("paused", printable(&view.paused_scrubs.join(" "))));
    lines.push(("stopped", printable(&view.stopped_services.join(" "))));
    lines
}

/// Numbered steps, then what stands against them.
pub fn plan(view: &VmPlanView) -> String {
    let mut text = String::new();
    for (number, step) in (1..).zip(&view.steps) {
        // A string takes what it is given.
        let _ = writeln!(text, "{number:>2}. {}", printable(step));
    }
    let with = view.qemu.as_deref().map_or(String::new(), |qemu| format!(" of {qemu}"));
    let _ = writeln!(text, "machine: {}{}", printable(&view.machine), printable(&with));
    for problem in &view.problems {
        let word = paint::word(Severity::Critical);
        let _ = writeln!(text, "{word}: {}", printable(&problem.what));
        let _ = writeln!(text, "  {}", printable(&problem.next));
    }
    for warning in &view.warnings {
        let _ = writeln!(text, "{}: {}", paint::word(Severity::Warning), printable(warning));
    }
    text
}

pub fn screenshot(view: &ScreenshotView) -> String {
    let ScreenshotView { file, bytes, width, height, .. } = view;
    if file == "-" {
        // The picture itself is there.
        return String::new();
    }
    format!("{}: {width}x{height}, {bytes} bytes\n", printable(file))
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::ask::view::VmsView;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn vms() {
        let reply = Reply::Vms(samples::vms());
        insta::assert_snapshot!("vm_list", shown(&reply, Detail::List));
        insta::assert_snapshot!("vm_status", shown(&reply, Detail::Full));
        insta::assert_snapshot!("vm_plan", shown(&Reply::VmPlan(samples::vm_plan()), Detail::Full));
        let argv = Reply::VmArgv(samples::vm_argv());
        assert!(shown(&argv, Detail::Full).ends_with("-S\n"));
        assert_eq!(shown(&Reply::Vms(VmsView::default()), Detail::List), "no VMs\n");
    }
}

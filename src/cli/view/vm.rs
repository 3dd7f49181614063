//! `hostctl vm list`, `vm status`.

use std::fmt::Write;

use super::table::{cell, table};
use super::{Look, paint, printable};
use crate::ask::view::{ScreenshotView, VmState, VmView, VmsView};
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
        ];
        // A string takes what it is given.
        let _ = writeln!(text, "{}", vm.name);
        for (key, value) in lines.iter().filter(|(_, value)| !value.is_empty()) {
            let _ = writeln!(text, "  {key:<8} {value}");
        }
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
        assert_eq!(shown(&Reply::Vms(VmsView::default()), Detail::List), "no VMs\n");
    }
}

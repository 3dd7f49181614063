//! `hostctl vm list`, `vm status`, `vm plan`.

use std::fmt::Write;

use super::table::{cell, table};
use super::{Look, paint, printable};
use crate::ask::view::{VmPlanView, VmState, VmView, VmsView};
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

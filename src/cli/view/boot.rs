//! `hostctl boot plan`, which is a patch with words around it, and `boot status`.

use std::fmt::Write;

use super::table::{cell, indent, table};
use super::{Look, paint, printable};
use crate::ask::view::{BootGpuView, BootPlanView, BootStatusView};
use crate::base::Severity;

fn cards(gpus: &[BootGpuView]) -> String {
    let mut text = String::new();
    for gpu in gpus {
        let functions = gpu.functions.iter().map(|one| format!("{} ({})", one.address, one.id));
        let functions = functions.collect::<Vec<_>>().join(", ");
        // A string takes what it is given.
        let _ = writeln!(text, "{}", printable(&format!("{}: {functions}", gpu.name)));
    }
    text
}

pub fn plan(view: &BootPlanView) -> String {
    let mut text = cards(&view.gpus);
    if view.files.is_empty() && view.commands.is_empty() {
        text.push_str("nothing to do\n");
    }
    for file in &view.files {
        let _ = write!(text, "\n{}", printable(&file.diff));
    }
    if !view.commands.is_empty() {
        text.push_str("\nand then:\n");
        text += &indent(&printable(&view.commands.join("\n")), 2);
    }
    if !view.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &view.warnings {
        let _ = writeln!(text, "{}: {}", paint::word(Severity::Warning), printable(warning));
    }
    text
}

pub fn status(view: &BootStatusView, look: Look) -> String {
    let mut text = cards(&view.gpus);
    if !view.set_up && view.checks.is_empty() {
        text.push_str("nothing is set up\n");
    }
    if view.safe_mode && !view.set_up {
        text.push_str(
            "hostd.safe is on the kernel command line, or that cannot be read: nothing is bound\n",
        );
    }
    let rows = view.checks.iter().map(|check| {
        let says = if check.advice.is_empty() {
            check.message.clone()
        } else {
            format!("{}; {}", check.message, check.advice)
        };
        [paint::word(check.severity), cell(&check.object), cell(&says)]
    });
    if !view.checks.is_empty() {
        text += &table(["", "", ""], rows, look);
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::ask::view::{BootPlanView, BootStatusView};
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn a_plan_is_a_patch_and_a_status_is_a_table() {
        let plan = Reply::BootPlan(samples::boot_plan());
        insta::assert_snapshot!("boot_plan", shown(&plan, Detail::Full));
        let status = Reply::BootStatus(samples::boot_status());
        insta::assert_snapshot!("boot_status", shown(&status, Detail::Full));
        let none = Reply::BootPlan(BootPlanView::default());
        assert_eq!(shown(&none, Detail::Full), "nothing to do\n");
        let mut none = BootStatusView::default();
        assert_eq!(shown(&Reply::BootStatus(none.clone()), Detail::Full), "nothing is set up\n");
        none.safe_mode = true;
        assert!(shown(&Reply::BootStatus(none), Detail::Full).contains("hostd.safe"));
    }
}

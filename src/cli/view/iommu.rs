//! `hostctl iommu`.

use std::fmt::Write;

use super::table::{cell, indent, table};
use super::{Look, paint, printable};
use crate::ask::view::{DeviceView, GroupView, IommuView, Verdict};
use crate::base::Severity;

fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Isolated => paint::mark(Severity::Ok, "isolated"),
        Verdict::Shared => paint::mark(Severity::Warning, "shared"),
        Verdict::Blocked => paint::mark(Severity::Critical, "blocked"),
    }
}

fn driver(device: &DeviceView) -> String {
    cell(device.driver.as_deref().unwrap_or("-"))
}

fn id(device: &DeviceView) -> String {
    cell(&format!("{}:{}", device.vendor, device.device))
}

fn name(device: &DeviceView) -> String {
    let mark = if device.boot_vga == Some(true) { " (boot display)" } else { "" };
    cell(&format!("{}{mark}", device.name))
}

fn notes(view: &IommuView) -> String {
    view.notes.iter().fold(String::new(), |text, note| text + &printable(note) + "\n")
}

pub fn list(view: &IommuView, look: Look) -> String {
    let mut rows = Vec::new();
    for group in &view.groups {
        for (index, device) in group.devices.iter().enumerate() {
            let first = index == 0;
            rows.push([
                if first { group.id.to_string() } else { String::new() },
                if first { verdict(group.verdict) } else { String::new() },
                device.address.to_string(),
                driver(device),
                id(device),
                name(device),
            ]);
        }
    }
    let mut text = notes(view);
    if view.groups.is_empty() && view.notes.is_empty() {
        text.push_str("no IOMMU groups\n");
    }
    if !rows.is_empty() {
        let heads = ["GROUP", "VERDICT", "ADDRESS", "DRIVER", "ID", "DEVICE"];
        text.push_str(&table(heads, rows, look));
    }
    text
}

pub fn show(view: &IommuView, look: Look) -> String {
    let mut text = notes(view);
    for group in &view.groups {
        one(&mut text, group, look);
    }
    text
}

fn one(text: &mut String, group: &GroupView, look: Look) {
    // A string takes what it is given.
    let _ = writeln!(text, "group {}  {}", group.id, verdict(group.verdict));
    text.push_str(&indent(&printable(&group.reason), 2));
    let rows = group.devices.iter().map(|device| {
        [device.address.to_string(), driver(device), cell(&device.class), id(device), name(device)]
    });
    text.push('\n');
    text.push_str(&table(["ADDRESS", "DRIVER", "CLASS", "ID", "DEVICE"], rows, look));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use crate::ask::Reply;
    use crate::ask::view::IommuView;
    use crate::cli::samples;
    use crate::cli::view::{Detail, tests::shown};

    #[test]
    fn groups() {
        let reply = Reply::Iommu(samples::iommu());
        insta::assert_snapshot!("iommu_list", shown(&reply, Detail::List));
        insta::assert_snapshot!("iommu_show", shown(&reply, Detail::Full));
    }

    #[test]
    fn none_is_said() {
        let mut view = IommuView::default();
        assert_eq!(shown(&Reply::Iommu(view.clone()), Detail::List), "no IOMMU groups\n");
        view.notes.push("the IOMMU is off: turn on VT-d in the firmware".into());
        insta::assert_snapshot!(shown(&Reply::Iommu(view), Detail::List), @"the IOMMU is off: turn on VT-d in the firmware");
    }
}

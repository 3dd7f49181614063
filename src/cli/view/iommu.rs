//! `hostctl iommu list`, and `show` as far as it is about groups.

use std::fmt::Write;

use super::device;
use super::table::{cell, indent, table};
use super::{Look, paint, printable};
use crate::ask::view::{
    AcsView, DeviceView, GroupDetailView, GroupView, HopView, IommuView, Verdict,
};
use crate::base::Severity;

/// A verdict, marked.
pub fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Isolated => paint::mark(Severity::Ok, "isolated"),
        Verdict::Shared => paint::mark(Severity::Warning, "shared"),
        Verdict::Blocked => paint::mark(Severity::Critical, "blocked"),
    }
}

fn judged(group: &GroupView) -> String {
    if group.by_override {
        paint::mark(Severity::Warning, "isolated by override")
    } else {
        verdict(group.verdict)
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
                if first { judged(group) } else { String::new() },
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
    let groups: Vec<String> = view.groups.iter().map(|group| one(group, look)).collect();
    notes(view) + &groups.join("\n")
}

/// A group as paragraphs: the verdict, its functions, each of them in full,
/// and why they are together.
fn one(group: &GroupView, look: Look) -> String {
    let mut head = format!("group {}  {}\n", group.id, judged(group));
    head.push_str(&indent(&printable(&group.reason), 2));
    for warning in &group.warnings {
        // A string takes what it is given.
        let _ = writeln!(head, "  {}: {}", paint::word(Severity::Warning), printable(warning));
    }
    let rows = group.devices.iter().map(|device| {
        [device.address.to_string(), driver(device), cell(&device.class), id(device), name(device)]
    });
    let heads = ["ADDRESS", "DRIVER", "CLASS", "ID", "DEVICE"];
    let mut parts = vec![head, table(heads, rows, look) + "\n"];
    parts.extend(group.devices.iter().filter_map(|one| device::block(one, look)));
    if let Some(detail) = &group.detail {
        parts.extend(reasons(detail, look));
    }
    parts.join("\n")
}

/// What the group's place says of it, and what is reserved in it.
fn reasons(detail: &GroupDetailView, look: Look) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(path) = detail.path.as_deref().filter(|path| !path.is_empty()) {
        let rows = path.iter().map(|hop| {
            let kind = hop.kind.as_deref().unwrap_or("-");
            [hop.address.to_string(), cell(kind), acs(hop)]
        });
        parts.push(part("the path to the processor", &table(["", "", ""], rows, look)));
    }
    if !detail.explanation.is_empty() {
        let lines: Vec<String> = detail.explanation.iter().map(|line| printable(line)).collect();
        parts.push(part("why they are together", &lines.join("\n")));
    }
    if let Some(regions) = detail.reserved_regions.as_deref().filter(|all| !all.is_empty()) {
        let rows = regions.iter().map(|region| {
            [cell(&format!("{} - {}", region.start, region.end)), cell(&region.kind)]
        });
        parts.push(part("reserved regions", &table(["", ""], rows, look)));
    }
    parts.extend(detail.unknown.iter().map(|(key, why)| {
        format!("{}: {}\n", printable(&key.replace('_', " ")), device::unknown(why))
    }));
    parts
}

fn part(title: &str, text: &str) -> String {
    format!("{title}\n{}", indent(text, 2))
}

fn acs(hop: &HopView) -> String {
    match hop.acs {
        AcsView::On => paint::mark(Severity::Ok, "ACS on"),
        AcsView::Off => paint::mark(Severity::Warning, "ACS off"),
        AcsView::Missing => paint::mark(Severity::Warning, "no ACS"),
        AcsView::Conventional => paint::mark(Severity::Warning, "conventional PCI"),
        AcsView::NotNeeded => "needs none".to_owned(),
        AcsView::Unknown => device::unknown(hop.unknown.as_deref().unwrap_or_default()),
    }
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
        let full = Reply::Iommu(samples::iommu_full());
        insta::assert_snapshot!("iommu_full", shown(&full, Detail::Full));
        let Reply::Iommu(mut view) = full else { panic!("another reply") };
        view.groups.retain(|group| group.by_override);
        insta::assert_snapshot!("iommu_override", shown(&Reply::Iommu(view), Detail::List));
    }

    #[test]
    fn none_is_said() {
        let mut view = IommuView::default();
        assert_eq!(shown(&Reply::Iommu(view.clone()), Detail::List), "no IOMMU groups\n");
        view.notes.push("the IOMMU is off: turn on VT-d in the firmware".into());
        insta::assert_snapshot!(shown(&Reply::Iommu(view), Detail::List), @"the IOMMU is off: turn on VT-d in the firmware");
    }
}

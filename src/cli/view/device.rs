//! One PCI function in full, as `hostctl iommu show` has it.

use super::table::{cell, table};
use super::{Look, paint};
use crate::ask::view::{BarView, DetailView, DeviceView, LinkView};
use crate::base::{Bytes, Severity};

/// What is not known is said, and why.
pub fn unknown(why: &str) -> String {
    paint::mark(Severity::Unknown, &cell(&format!("unknown ({why})")))
}

/// The function's name, then a line for each thing that it tells; nothing when
/// nobody has asked it.
pub fn block(device: &DeviceView, look: Look) -> Option<String> {
    let detail = device.detail.as_ref()?;
    let class = format!("{} ({})", device.class_name, device.class);
    let mut rows = vec![row("class", cell(class.trim()))];
    if let Some(ids) = &device.subsystem {
        let name = device.subsystem_name.as_deref().unwrap_or("unknown board");
        rows.push(row("board", cell(&format!("{name} ({ids})"))));
    }
    let told = |key: &str, value: Option<String>| match (value, detail.unknown.get(key)) {
        (Some(value), _) => cell(&value),
        (None, Some(why)) => unknown(why),
        (None, None) => "-".to_owned(),
    };
    let resets = detail.reset_methods.as_ref().map(|methods| match methods.as_slice() {
        [] => "none".to_owned(),
        methods => methods.join(", "),
    });
    rows.push(row("reset", told("reset_methods", resets)));
    rows.push(row("numa node", told("numa_node", detail.numa_node.map(|node| node.to_string()))));
    rows.push(row("link", told("link", detail.link.as_ref().map(link))));
    rows.push(row("best link", told("max_link", detail.max_link.as_ref().map(link))));
    match &detail.bars {
        None => rows.push(row("bars", told("bars", None))),
        Some(bars) => rows.extend(bars.iter().map(|bar| {
            let what = cell(&self::bar(bar));
            let sizes = detail.unknown.get(&format!("bars[{}].sizes", bar.index));
            let sizes = sizes.map_or_else(String::new, |why| format!("; sizes {}", unknown(why)));
            row(&format!("bar {}", bar.index), what + &sizes)
        })),
    }
    let rom = detail.rom.as_ref().map(|rom| {
        let hidden = if rom.shadow { ", the copy that firmware left in memory" } else { "" };
        format!("{}{hidden}", Bytes(rom.size))
    });
    rows.push(row("rom", told("rom", rom)));
    rows.push(row("power", told("power_state", power(detail))));
    Some(format!("{}  {}\n{}", device.address, cell(&device.name), inside(rows, look)))
}

fn inside(rows: Vec<[String; 2]>, look: Look) -> String {
    let look = Look { width: look.width.map(|width| width.saturating_sub(4)), ..look };
    super::table::indent(&table(["", ""], rows, look), 2)
}

fn row(what: &str, value: String) -> [String; 2] {
    [what.to_owned(), value]
}

/// `8.0 GT/s x16`.
pub fn link(link: &LinkView) -> String {
    format!("{} x{}", link.speed, link.width)
}

fn bar(bar: &BarView) -> String {
    let mut text = format!("{} {}", Bytes(bar.size), bar.kind);
    if bar.is_64_bit {
        text.push_str(", 64-bit");
    }
    if bar.prefetchable {
        text.push_str(", prefetchable");
    }
    if let Some(sizes) = &bar.sizes {
        let sizes: Vec<String> = sizes.iter().map(|size| Bytes(*size).to_string()).collect();
        text.push_str("; can be ");
        text.push_str(&sizes.join(", "));
    }
    text
}

fn power(detail: &DetailView) -> Option<String> {
    let state = detail.power_state.as_ref()?;
    Some(match detail.d3cold_allowed {
        Some(true) => format!("{state}, may lose its power (D3cold)"),
        Some(false) => format!("{state}, keeps its power"),
        None => state.clone(),
    })
}

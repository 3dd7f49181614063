//! The reply to `iommu list`.

use super::facts::{Device, Facts};
use super::judge;
use crate::ask::view::{DeviceView, GroupView, IommuView};

/// The most addresses that a note names.
const NAMED: usize = 16;

/// Every group with its verdict; the notes say why there are none, which
/// functions are in no group, and what could not be read.
pub fn view(facts: &Facts) -> IommuView {
    let groups = facts.groups.iter().map(|(&id, group)| {
        let judgement = judge::verdict(facts, group);
        GroupView {
            id,
            verdict: judgement.verdict,
            reason: judgement.reason,
            devices: facts.members(id).map(device).collect(),
        }
    });
    let mut notes: Vec<String> = facts.absence.iter().map(ToString::to_string).collect();
    if facts.absence.is_none() {
        notes.extend(outside(facts));
    }
    notes.extend(facts.notes.iter().cloned());
    IommuView { groups: groups.collect(), notes }
}

/// The functions that the IOMMU does not cover, the IOMMU itself aside.
fn outside(facts: &Facts) -> Option<String> {
    let outside = facts.devices.values();
    let outside: Vec<String> = outside
        .filter(|device| device.group.is_none() && device.belongs_to_host().is_none())
        .map(|device| device.address.to_string())
        .collect();
    let shown = outside.get(..NAMED).unwrap_or(&outside).join(", ");
    let more = outside.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let said = format!("in no IOMMU group, so not to be given away: {shown}{more}");
    (!outside.is_empty()).then_some(said)
}

fn device(device: &Device) -> DeviceView {
    let id = |id: Option<u16>| id.map_or_else(|| "????".to_owned(), |id| format!("{id:04x}"));
    DeviceView {
        address: device.address,
        vendor: id(device.vendor),
        device: id(device.device),
        class: device.class.map_or_else(|| "??????".to_owned(), |class| format!("{class:06x}")),
        name: device.name.full(),
        driver: device.driver.name().map(str::to_owned),
        boot_vga: device.boot_vga,
    }
}

//! The reply to `iommu list`.

use super::facts::{Device, Facts};
use super::judge;
use crate::ask::view::{DeviceView, GroupView, IommuView};

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
    let outside = facts.devices.values().filter(|device| device.group.is_none()).count();
    if facts.absence.is_none() && outside > 0 {
        notes.push(format!(
            "{outside} PCI functions are in no IOMMU group and cannot be given away"
        ));
    }
    notes.extend(facts.notes.iter().cloned());
    IommuView { groups: groups.collect(), notes }
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

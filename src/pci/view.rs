//! The replies to `iommu list` and, in [`full`], to `iommu show`.

use std::collections::BTreeMap;

use super::acs::{self, Hop, Paths, Standing};
use super::detail::{self, Attribute, Bar, Detail, Link};
use super::facts::{Device, Facts, Group};
use super::judge;
use super::names::{Names, class_name};
use super::parse::{self, Region, Resource};
use super::read::{GROUPS, attribute, read};
use crate::ask::view::{
    AcsView, BarView, DetailView, DeviceView, GroupDetailView, GroupView, HopView, IommuView,
    LinkView, RegionView, RomBarView,
};
use crate::ask::{Answer, Code, Refusal, Reply};
use crate::host::SysRoot;

/// The most addresses that a note names.
const NAMED: usize = 16;

/// Every group with its verdict; the notes say why there are none, which
/// functions are in no group, and what could not be read.
pub fn view(facts: &Facts) -> IommuView {
    let groups = facts.groups.iter().map(|(&id, group)| self::group(facts, id, group)).collect();
    let mut notes: Vec<String> = facts.absence.iter().map(ToString::to_string).collect();
    if facts.absence.is_none() {
        notes.extend(outside(facts));
    }
    if let Some(said) = &facts.acs_override {
        notes.push(format!(
            "the kernel was started with `pcie_acs_override={said}`: groups are smaller than the \
             hardware keeps apart, and a guest may reach the memory of other devices"
        ));
    }
    notes.extend(facts.notes.iter().cloned());
    IommuView { groups, notes }
}

/// One group, or all, with everything that the machine tells. Wakes their
/// functions and the bridges above them.
pub fn full(sys: &SysRoot, facts: &Facts, wanted: Option<u32>) -> IommuView {
    let mut view = view(facts);
    view.groups.retain(|group| wanted.is_none_or(|wanted| group.id == wanted));
    let mut paths = Paths::new(sys);
    for shown in &mut view.groups {
        for device in &mut shown.devices {
            device.detail = Some(detail_view(detail::read(sys, device.address)));
        }
        if let Some(group) = facts.groups.get(&shown.id) {
            let (detail, warnings) = group_detail(sys, shown, group, &mut paths);
            shown.detail = Some(detail);
            shown.warnings.extend(warnings);
        }
    }
    view
}

/// Reads and answers `iommu show`.
pub fn in_full(sys: &SysRoot, wanted: Option<u32>) -> Answer {
    let facts = read(sys, &mut Names::default());
    let view = full(sys, &facts, wanted);
    if let Some(id) = wanted
        && view.groups.is_empty()
    {
        let message = match view.notes.as_slice() {
            [] => format!("there is no IOMMU group {id}"),
            notes => format!("there is no IOMMU group {id}: {}", notes.join("; ")),
        };
        return Err(Refusal::new(Code::NotFound, message, "`hostctl iommu list` shows all groups"));
    }
    Ok(Reply::Iommu(view))
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

fn group(facts: &Facts, id: u32, group: &Group) -> GroupView {
    let judgement = judge::verdict(facts, group);
    let warnings = facts
        .members(id)
        .filter(|device| device.boot_vga == Some(true))
        .map(|device| boot_display(device.address.to_string()))
        .collect();
    GroupView {
        id,
        verdict: judgement.verdict,
        reason: judgement.reason,
        devices: facts.members(id).map(device).collect(),
        by_override: judgement.by_override,
        warnings,
        detail: None,
    }
}

/// What giving the boot display away means.
pub fn boot_display(who: impl std::fmt::Display) -> String {
    format!("{who} is the boot display: the host's console goes dark when it is given away")
}

fn device(device: &Device) -> DeviceView {
    let id = |id: Option<u16>| id.map_or_else(|| "????".to_owned(), |id| format!("{id:04x}"));
    DeviceView {
        address: device.address,
        vendor: id(device.vendor),
        device: id(device.device),
        class: class(device),
        name: device.name.full(),
        driver: device.driver.name().map(str::to_owned),
        boot_vga: device.boot_vga,
        class_name: device.class.map_or_else(String::new, class_name),
        subsystem: device.subsystem.map(|(vendor, id)| format!("{vendor:04x}:{id:04x}")),
        subsystem_name: device.name.board(),
        detail: None,
    }
}

/// Six digits.
pub fn class(device: &Device) -> String {
    device.class.map_or_else(|| "??????".to_owned(), |class| format!("{class:06x}"))
}

/// Values, and why some are missing.
struct Told {
    unknown: BTreeMap<String, String>,
}

impl Told {
    fn take<T, V>(
        &mut self,
        key: &str,
        value: Attribute<T>,
        view: impl FnOnce(T) -> V,
    ) -> Option<V> {
        match value {
            Attribute::Known(value) => Some(view(value)),
            Attribute::Absent => None,
            Attribute::Unknown(why) => {
                self.unknown.insert(key.to_owned(), why);
                None
            }
        }
    }
}

fn detail_view(detail: Detail) -> DetailView {
    let mut told = Told { unknown: BTreeMap::new() };
    let bars = told.take("bars", detail.bars, |bars| bars);
    let bars = bars.map(|bars| bars.into_iter().map(|bar| self::bar(&mut told, bar)).collect());
    DetailView {
        reset_methods: told.take("reset_methods", detail.reset_methods, |methods| methods),
        numa_node: told.take("numa_node", detail.numa_node, |node| node),
        link: told.take("link", detail.link, link_view),
        max_link: told.take("max_link", detail.max_link, link_view),
        bars,
        rom: told.take("rom", detail.rom, rom),
        power_state: told.take("power_state", detail.power_state, |state| state),
        d3cold_allowed: told.take("d3cold_allowed", detail.d3cold_allowed, |allowed| allowed),
        unknown: told.unknown,
    }
}

/// A link as the documents have it.
pub fn link_view(link: Link) -> LinkView {
    LinkView { speed: link.speed, width: link.width }
}

fn bar(told: &mut Told, bar: Bar) -> BarView {
    let Resource { index, start, size, .. } = bar.resource;
    BarView {
        index,
        start: hex(start),
        size,
        kind: if bar.resource.is_io() { "io" } else { "memory" }.to_owned(),
        is_64_bit: bar.resource.is_64_bit(),
        prefetchable: bar.resource.is_prefetchable(),
        sizes: told.take(&format!("bars[{index}].sizes"), bar.sizes, |sizes| sizes),
    }
}

fn rom(resource: Resource) -> RomBarView {
    RomBarView { size: resource.size, shadow: resource.is_shadow() }
}

fn hex(number: u64) -> String {
    format!("{number:#x}")
}

fn group_detail(
    sys: &SysRoot,
    shown: &GroupView,
    group: &Group,
    paths: &mut Paths<'_>,
) -> (GroupDetailView, Vec<String>) {
    let mut told = Told { unknown: BTreeMap::new() };
    let file = format!("{GROUPS}/{}/reserved_regions", shown.id);
    let regions = match attribute(sys, &file) {
        Ok(text) => parse::regions(&text).map_or_else(
            || Attribute::Unknown("its lines are not understood".to_owned()),
            Attribute::Known,
        ),
        Err(error) if error.is_missing() => Attribute::Absent,
        Err(error) => Attribute::Unknown(detail::why(&error)),
    };
    let regions = told.take("reserved_regions", regions, |regions| regions);
    let warnings = regions.iter().flatten().filter_map(insisted).collect();
    let path = if asks_for_reasons(shown) { Some(paths.of(group)) } else { None };
    let path = match path {
        Some(Ok(path)) => Some(path),
        Some(Err(why)) => {
            told.unknown.insert("path".to_owned(), why);
            None
        }
        None => None,
    };
    let explanation = match (&path, shown.by_override) {
        (Some(path), false) => acs::explain(path),
        (Some(path), true) => acs::explain_override(path),
        (None, _) => Vec::new(),
    };
    let detail = GroupDetailView {
        reserved_regions: regions.map(|all| all.into_iter().map(region).collect()),
        path: path.map(|path| path.into_iter().map(hop).collect()),
        explanation,
        unknown: told.unknown,
    };
    (detail, warnings)
}

/// Whether there is a reason to look for: several slots in one group, or a
/// group that the kernel was told to make smaller.
fn asks_for_reasons(shown: &GroupView) -> bool {
    let alone = |first: &DeviceView| {
        shown.devices.iter().all(|device| device.address.same_slot(first.address))
    };
    shown.by_override || !shown.devices.first().is_none_or(alone)
}

/// What a `direct` region means. The types are in the kernel's
/// `Documentation/ABI/testing/sysfs-kernel-iommu_groups`; the refusal is in
/// `__iommu_device_set_domain` of `drivers/iommu/iommu.c` since 6.6, before
/// that in the Intel driver (`device_is_rmrr_locked`). Regions of USB and
/// graphics are `direct-relaxable`: those give way.
fn insisted(region: &Region) -> Option<String> {
    let Region { start, end, kind } = region;
    (kind == "direct").then(|| {
        format!(
            "firmware insists that a device of this group keeps its own memory at {start:#x}-\
             {end:#x} (a `direct` region; Intel calls it RMRR): the kernel refuses to give such \
             a device to a guest. A firmware update, a firmware setting (remote management, \
             storage option ROM) or another slot may take the region away"
        )
    })
}

fn region(region: Region) -> RegionView {
    RegionView { start: hex(region.start), end: hex(region.end), kind: region.kind }
}

fn hop(hop: Hop) -> HopView {
    let words = |bits| acs::services(bits).into_iter().map(str::to_owned).collect();
    let (acs, registers, unknown) = match hop.standing {
        Standing::On(acs) => (AcsView::On, Some(acs), None),
        Standing::Off(acs) => (AcsView::Off, Some(acs), None),
        Standing::Missing => (AcsView::Missing, None, None),
        Standing::Conventional => (AcsView::Conventional, None, None),
        Standing::NotNeeded => (AcsView::NotNeeded, None, None),
        Standing::Unknown(why) => (AcsView::Unknown, None, Some(why)),
    };
    HopView {
        address: hop.address,
        kind: hop.port.map(|port| port.in_words().to_owned()),
        acs,
        offered: registers.map_or_else(Vec::new, |acs| words(acs.offered)),
        enabled: registers.map_or_else(Vec::new, |acs| words(acs.enabled)),
        unknown,
    }
}

//! Groups in full, on a desktop as people have it: a card behind a root port
//! without ACS that shares its slot, a chipset, and who asks without root.

use std::sync::Arc;

use super::fake::{FakeDevice, FakePci};
use super::fake_config::FakeConfig;
use super::{Names, full, in_full, read, view};
use crate::ask::view::{AcsView, DetailView, GroupView, Verdict};
use crate::ask::{Code, Reply};
use crate::base::PciAddress;
use crate::host::fake::FakeHost;

fn at(text: &str) -> PciAddress {
    text.parse().unwrap()
}

/// Source validation, request and completion redirect, upstream forwarding.
const ALL: u16 = 0x1d;

struct Desktop {
    pci: FakePci,
    _dir: tempfile::TempDir,
}

impl Desktop {
    /// Group 1: the root ports 01.0 and 01.1 of the processor, without ACS,
    /// with a card and a USB controller behind them. Group 2: a chipset port with
    /// ACS; group 3 behind it. Group 4: the chipset's functions. Group 5: a
    /// switch whose lower ports have ACS off, with two network cards.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pci = FakePci::new(Arc::new(FakeHost::new(dir.path()))).unwrap();
        let desktop = Self { pci, _dir: dir };
        let port = |at: &str, group| desktop.plug(None, at, 0x06_0400, Some("pcieport"), group);
        port("00:01.0", 1);
        desktop.config("00:01.0", FakeConfig::root_port().multifunction());
        port("00:01.1", 1);
        desktop.config("00:01.1", FakeConfig::root_port().multifunction());
        desktop.plug(Some("00:01.0"), "01:00.0", 0x03_0000, Some("amdgpu"), 1);
        desktop.config("01:00.0", FakeConfig::endpoint().multifunction());
        desktop.plug(Some("00:01.0"), "01:00.1", 0x04_0300, Some("snd_hda_intel"), 1);
        desktop.config("01:00.1", FakeConfig::endpoint().multifunction());
        desktop.plug(Some("00:01.1"), "02:00.0", 0x0c_0330, Some("xhci_hcd"), 1);
        desktop.config("02:00.0", FakeConfig::endpoint());
        port("00:1c.0", 2);
        desktop.config("00:1c.0", FakeConfig::root_port().acs(0x5f, ALL));
        desktop.plug(Some("00:1c.0"), "03:00.0", 0x02_0000, Some("igb"), 3);
        desktop.config("03:00.0", FakeConfig::endpoint());
        desktop.plug(None, "00:1f.0", 0x06_0100, None, 4);
        desktop.plug(None, "00:1f.3", 0x04_0300, Some("snd_hda_intel"), 4);
        port("00:1d.0", 6);
        desktop.config("00:1d.0", FakeConfig::root_port().acs(0x5f, ALL));
        desktop.plug(Some("00:1d.0"), "04:00.0", 0x06_0400, Some("pcieport"), 5);
        desktop.config("04:00.0", FakeConfig::upstream());
        for (lower, card) in [("05:00.0", "06:00.0"), ("05:01.0", "07:00.0")] {
            desktop.plug(Some("04:00.0"), lower, 0x06_0400, Some("pcieport"), 5);
            desktop.config(lower, FakeConfig::downstream().acs(0x1d, 0x01));
            desktop.plug(Some(lower), card, 0x02_0000, Some("igb"), 5);
            desktop.config(card, FakeConfig::endpoint());
        }
        desktop.regions(1, "0x00000000fee00000 0x00000000feefffff msi\n");
        desktop
    }

    fn plug(&self, bridge: Option<&str>, text: &str, class: u32, driver: Option<&str>, group: u32) {
        let device = FakeDevice {
            address: at(text),
            id: (0x8086, 0x100e),
            class,
            group: Some(group),
            natural: driver.map(str::to_owned),
            boot_vga: (class >> 16 == 3).then_some(true),
        };
        match bridge {
            Some(bridge) => self.pci.plug_behind(at(bridge), &device).unwrap(),
            None => self.pci.plug(&device).unwrap(),
        }
    }

    fn config(&self, address: &str, config: FakeConfig) {
        self.pci.attribute(at(address), "config", config.bytes()).unwrap();
    }

    fn say(&self, address: &str, name: &str, text: &str) {
        self.pci.attribute(at(address), name, text).unwrap();
    }

    fn regions(&self, group: u32, text: &str) {
        let file = format!("/sys/kernel/iommu_groups/{group}/reserved_regions");
        self.pci.fake.file(&file, text).unwrap();
    }

    /// What the card says of itself.
    fn talk(&self) {
        for (name, text) in [
            ("reset_method", "flr bus\n"),
            ("numa_node", "-1\n"),
            ("current_link_speed", "2.5 GT/s PCIe\n"),
            ("current_link_width", "8\n"),
            ("max_link_speed", "16.0 GT/s PCIe\n"),
            ("max_link_width", "16\n"),
            ("power_state", "D0\n"),
            ("d3cold_allowed", "1\n"),
            ("resource0_resize", "0000000000001f00\n"),
        ] {
            self.say("01:00.0", name, text);
        }
        let none = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";
        let bars = "0x00000000e0000000 0x00000000efffffff 0x000000000014220c\n".to_owned()
            + &none.repeat(5)
            + "0x00000000000c0000 0x00000000000dffff 0x0000000000000212\n";
        self.say("01:00.0", "resource", &bars);
    }

    fn group(&self, id: u32) -> GroupView {
        let sys = self.pci.host().sys;
        let facts = read(&sys, &mut Names::default());
        let view = full(&sys, &facts, Some(id));
        let [group] = <[GroupView; 1]>::try_from(view.groups).unwrap();
        group
    }

    fn standings(&self, id: u32) -> Vec<(String, AcsView)> {
        let path = self.group(id).detail.unwrap().path.unwrap_or_default();
        path.into_iter().map(|hop| (hop.address.to_string(), hop.acs)).collect()
    }
}

#[test]
fn a_shared_group_is_explained_by_the_bridges_on_its_path() {
    let desktop = Desktop::new();
    let group = desktop.group(1);
    assert_eq!(group.verdict, Verdict::Shared);
    let told = group.detail.unwrap().explanation.join("\n");
    for words in [
        "0000:00:01.0 (root port): has no ACS, so no source validation, request redirect, \
         completion redirect, upstream forwarding",
        "0000:01:00.0 (device): has no ACS",
        "the kernel's grouping decides",
        "by quirk",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(!told.contains("0000:02:00.0"), "one function needs none: {told}");
    let switch = desktop.standings(5);
    let names: Vec<&str> = switch.iter().map(|(name, _)| name.as_str()).collect();
    let path = ["00:1d.0", "04:00.0", "05:00.0", "05:01.0", "06:00.0", "07:00.0"];
    assert_eq!(names, path.map(|name| format!("0000:{name}")));
    let (on, off, needless) = (AcsView::On, AcsView::Off, AcsView::NotNeeded);
    let standings: Vec<AcsView> = switch.iter().map(|(_, acs)| *acs).collect();
    assert_eq!(standings, [on, needless, off, off, needless, needless]);
    let told = desktop.group(5).detail.unwrap().explanation.join("\n");
    let words = "0000:05:01.0 (downstream port of a switch): ACS is there, but off: request \
                 redirect, completion redirect, upstream forwarding";
    assert!(told.contains(words), "{told}");
}

#[test]
fn what_is_alone_needs_no_reason() {
    let desktop = Desktop::new();
    for id in [2, 3, 4] {
        let detail = desktop.group(id).detail.unwrap();
        assert_eq!((detail.path, detail.explanation), (None, Vec::new()), "{id}");
    }
}

#[test]
fn an_override_is_measured_against_the_hardware() {
    let desktop = Desktop::new();
    desktop.pci.fake.file("/proc/cmdline", "pcie_acs_override=downstream\n").unwrap();
    let detail = desktop.group(3).detail.unwrap();
    assert!(detail.explanation[0].contains("may keep this group apart without"), "{detail:?}");
    // The same group, if its port had no ACS.
    desktop.config("00:1c.0", FakeConfig::root_port());
    let detail = desktop.group(3).detail.unwrap();
    assert!(detail.explanation[0].starts_with("0000:00:1c.0 (root port): has no ACS"));
}

#[test]
fn a_function_tells_all_it_has() {
    let desktop = Desktop::new();
    desktop.talk();
    let group = desktop.group(1);
    assert!(group.warnings[0].contains("0000:01:00.0 is the boot display"));
    let detail = group.devices.into_iter().find(|d| d.address == at("01:00.0")).unwrap().detail;
    let detail = detail.unwrap();
    assert_eq!(detail.unknown.len(), 0, "{detail:?}");
    assert_eq!(detail.reset_methods.unwrap(), ["flr", "bus"]);
    assert_eq!(detail.numa_node, None);
    let (link, best) = (detail.link.unwrap(), detail.max_link.unwrap());
    assert_eq!((link.speed.as_str(), link.width), ("2.5 GT/s", 8));
    assert_eq!((best.speed.as_str(), best.width), ("16.0 GT/s", 16));
    let bars = detail.bars.unwrap();
    assert_eq!((bars.len(), bars[0].size), (1, 256 << 20));
    assert!(bars[0].is_64_bit && bars[0].prefetchable && bars[0].kind == "memory");
    assert_eq!(bars[0].sizes.as_deref().unwrap().last(), Some(&(4 << 30)));
    let rom = detail.rom.unwrap();
    assert_eq!((rom.size, rom.shadow), (128 << 10, true));
    assert_eq!((detail.power_state.as_deref(), detail.d3cold_allowed), (Some("D0"), Some(true)));
}

#[test]
fn without_root_what_cannot_be_read_is_unknown_and_says_so() {
    let desktop = Desktop::new();
    desktop.talk();
    for name in ["reset_method", "resource", "reserved_regions", "max_link_speed", "d3cold_allowed"]
    {
        desktop.pci.deny(name);
    }
    // The kernel shows others the first 64 bytes of config space.
    let short = &FakeConfig::root_port().acs(0x5f, ALL).bytes()[..64];
    desktop.pci.attribute(at("00:01.0"), "config", short).unwrap();
    let group = desktop.group(1);
    assert_eq!(group.verdict, Verdict::Shared, "the kernel's word needs no root");
    let card = group.devices.iter().find(|device| device.address == at("01:00.0")).unwrap();
    let detail = card.detail.clone().unwrap();
    for key in ["reset_methods", "bars", "rom", "max_link", "d3cold_allowed"] {
        assert_eq!(detail.unknown.get(key).map(String::as_str), Some("needs root"), "{key}");
    }
    assert_eq!((detail.bars, detail.reset_methods), (None, None));
    assert!(detail.link.is_some(), "what may be read is read");
    let told = group.detail.unwrap();
    assert_eq!(told.unknown["reserved_regions"], "needs root");
    let path = told.path.unwrap();
    assert_eq!((path[0].acs, path[0].unknown.as_deref()), (AcsView::Unknown, Some("needs root")));
    assert!(told.explanation[0].contains("ACS unknown (needs root)"), "{:?}", told.explanation);
}

#[test]
fn what_the_kernel_does_not_offer_is_absent_and_not_unknown() {
    let desktop = Desktop::new();
    desktop.say("02:00.0", "resource", "");
    desktop.say("02:00.0", "current_link_speed", "Unknown\n");
    desktop.say("02:00.0", "current_link_width", "0\n");
    let group = desktop.group(1);
    let usb = group.devices.iter().find(|device| device.address == at("02:00.0")).unwrap();
    let bars = Some(Vec::new());
    assert_eq!(usb.detail, Some(DetailView { bars, ..DetailView::default() }));
    desktop.say("02:00.0", "reset_method", "rub/bish\n");
    desktop.say("02:00.0", "numa_node", "-7\n");
    let group = desktop.group(1);
    let usb = group.devices.iter().find(|device| device.address == at("02:00.0")).unwrap();
    let unknown = &usb.detail.as_ref().unwrap().unknown;
    assert_eq!(unknown["reset_methods"], "`rub/bish` is not understood");
    assert_eq!(unknown["numa_node"], "`-7` is not understood");
}

#[test]
fn memory_that_firmware_insists_on_is_a_warning() {
    let desktop = Desktop::new();
    desktop.regions(
        3,
        "0x000000007b800000 0x000000007fffffff direct\n\
         0x0000000080000000 0x0000000080000fff direct-relaxable\n\
         0x00000000fee00000 0x00000000feefffff msi\n",
    );
    let group = desktop.group(3);
    let [warning] = &group.warnings[..] else { panic!("{:?}", group.warnings) };
    assert!(warning.contains("0x7b800000-0x7fffffff") && warning.contains("RMRR"), "{warning}");
    let regions = group.detail.unwrap().reserved_regions.unwrap();
    let kinds: Vec<&str> = regions.iter().map(|region| region.kind.as_str()).collect();
    assert_eq!(kinds, ["direct", "direct-relaxable", "msi"]);
    desktop.regions(3, "0x1 direct\n");
    let unknown = desktop.group(3).detail.unwrap().unknown;
    assert!(unknown["reserved_regions"].contains("not understood"));
}

#[test]
fn the_list_reads_no_config_space_and_nothing_that_waits() {
    let desktop = Desktop::new();
    desktop.talk();
    let sys = desktop.pci.host().sys;
    let before = view(&read(&sys, &mut Names::default()));
    for name in ["config", "current_link_speed", "max_link_speed", "resource0_resize", "uevent"] {
        desktop.pci.deny(name);
    }
    for name in ["driver_override", "reset_method", "reserved_regions", "resource", "power_state"] {
        desktop.pci.deny(name);
    }
    assert_eq!(view(&read(&sys, &mut Names::default())), before);
    assert_eq!(before.notes, Vec::<String>::new());
}

#[test]
fn a_group_that_is_not_there_is_said() {
    let desktop = Desktop::new();
    let sys = desktop.pci.host().sys;
    let none = in_full(&sys, Some(99)).unwrap_err();
    assert_eq!((none.code, none.message.as_str()), (Code::NotFound, "there is no IOMMU group 99"));
    let Reply::Iommu(all) = in_full(&sys, None).unwrap() else { panic!("another reply") };
    assert_eq!(all.groups.len(), 6);
    assert!(all.groups.iter().all(|group| group.detail.is_some()));
}

//! The room as a whole, on fake machines.

use std::sync::Arc;

use super::fake::{FakeDevice, FakePci};
use super::{Driver, Facts, Names, read, viability, view};
use crate::ask::view::{GroupView, Verdict};
use crate::base::PciAddress;
use crate::host::fake::FakeHost;

fn at(text: &str) -> PciAddress {
    text.parse().unwrap()
}

fn machine() -> (tempfile::TempDir, FakePci) {
    let dir = tempfile::tempdir().unwrap();
    let pci = FakePci::new(Arc::new(FakeHost::new(dir.path()))).unwrap();
    (dir, pci)
}

fn facts(pci: &FakePci) -> Facts {
    read(&pci.host().sys, &mut Names::default())
}

fn plug(pci: &FakePci, address: &str, class: u32, driver: Option<&str>, group: u32) {
    pci.plug(&FakeDevice {
        address: at(address),
        id: (0x8086, 0x100e),
        class,
        group: Some(group),
        natural: driver.map(str::to_owned),
        boot_vga: None,
    })
    .unwrap();
}

fn group(pci: &FakePci, id: u32) -> GroupView {
    view(&facts(pci)).groups.into_iter().find(|group| group.id == id).unwrap()
}

#[test]
fn the_labs_card_is_isolated() {
    let (_dir, pci) = machine();
    pci.plug_lab_card().unwrap();
    let card = group(&pci, 11);
    assert_eq!(card.verdict, Verdict::Isolated);
    assert_eq!(card.reason, "0000:01:00.0, 0000:01:00.1 can be given to a guest alone");
    assert_eq!(card.devices[0].class, "030000");
    assert_eq!(card.devices[0].boot_vga, Some(false));
    assert_eq!(card.devices[1].driver.as_deref(), Some("snd_hda_intel"));
    assert!(card.devices[1].name.starts_with("Intel Corporation "), "{}", card.devices[1].name);
    let port = group(&pci, 10);
    assert_eq!(port.verdict, Verdict::Blocked);
    assert!(port.reason.contains("only bridges"));
}

#[test]
fn several_slots_are_shared_and_each_is_named() {
    let (_dir, pci) = machine();
    plug(&pci, "02:00.0", 0x06_0400, Some("shpchp"), 5);
    plug(&pci, "03:01.0", 0x03_0000, Some("bochs-drm"), 5);
    plug(&pci, "03:02.0", 0x0c_0330, Some("xhci_hcd"), 5);
    plug(&pci, "03:03.0", 0x02_0000, Some("e1000"), 5);
    let shared = group(&pci, 5);
    assert_eq!(shared.verdict, Verdict::Shared);
    for word in ["3 slots", "0000:03:02.0", "driver e1000", "shpchp", "own, or turn on ACS"] {
        assert!(shared.reason.contains(word), "{word}: {}", shared.reason);
    }
    let facts = facts(&pci);
    let blockers = viability(&facts, &facts.groups[&5], &[at("03:01.0")]).unwrap_err();
    let names: Vec<&str> = blockers.iter().map(|blocker| blocker.device.as_str()).collect();
    assert_eq!(names, ["0000:02:00.0", "0000:03:02.0", "0000:03:03.0"]);
    assert!(blockers[1].fix.contains("/sys/bus/pci/drivers/xhci_hcd/unbind"));
    for (address, driver) in [("02:00.0", None), ("03:02.0", Some("pci-stub")), ("03:03.0", None)] {
        pci.take_over(at(address), driver).unwrap();
    }
    let facts = super::tests::facts(&pci);
    assert_eq!(viability(&facts, &facts.groups[&5], &[at("03:01.0")]), Ok(()));
}

#[test]
fn the_mainboard_stays() {
    let (_dir, pci) = machine();
    plug(&pci, "00:00.0", 0x06_0000, None, 0);
    plug(&pci, "00:1f.0", 0x06_0100, Some("lpc_ich"), 1);
    plug(&pci, "00:1f.2", 0x01_0601, Some("ahci"), 1);
    // An idle host bridge beside a root port, and a card behind it.
    plug(&pci, "00:01.0", 0x06_0000, None, 2);
    plug(&pci, "00:01.1", 0x06_0400, Some("pcieport"), 2);
    plug(&pci, "04:00.0", 0x03_0000, None, 2);
    // Disks and a card.
    plug(&pci, "05:00.0", 0x01_0802, Some("nvme"), 3);
    plug(&pci, "06:00.0", 0x03_0000, None, 3);
    // Disks alone.
    plug(&pci, "07:00.0", 0x01_0802, Some("nvme"), 4);
    let verdicts: Vec<_> = view(&facts(&pci)).groups.into_iter().map(|g| g.verdict).collect();
    let blocked = Verdict::Blocked;
    assert_eq!(verdicts, [blocked, blocked, Verdict::Isolated, blocked, Verdict::Isolated]);
    assert!(group(&pci, 1).reason.contains("is the ISA bridge"));
    assert!(group(&pci, 3).reason.contains("carries disks"));
    assert!(group(&pci, 4).reason.contains("would lose the disks"));
    let facts = facts(&pci);
    let wanted = [at("00:1f.0"), at("00:1f.2")];
    assert_eq!(viability(&facts, &facts.groups[&1], &wanted).unwrap_err().len(), 1);
}

#[test]
fn what_cannot_be_read_is_kept_and_never_green() {
    let (_dir, pci) = machine();
    pci.plug_lab_card().unwrap();
    pci.fake.file("/sys/devices/pci0000:00/0000:01:00.1/class", "rubbish").unwrap();
    pci.fake.dir("/sys/bus/pci/devices/not-an-address").unwrap();
    pci.fake.link("/sys/kernel/iommu_groups/11/devices/ACPI0001:00", "/sys/devices/acpi").unwrap();
    pci.fake.link("/sys/kernel/iommu_groups/11/devices/0000:09:00.0", "/sys/devices/x").unwrap();
    let facts = facts(&pci);
    assert_eq!(facts.devices[&at("01:00.1")].class, None);
    assert_eq!(facts.groups[&11].others[1].name, "ACPI0001:00");
    let view = view(&facts);
    let card = view.groups.iter().find(|group| group.id == 11).unwrap();
    assert_eq!(card.verdict, Verdict::Blocked);
    assert_eq!(card.devices[1].class, "??????");
    let notes = view.notes.join("\n");
    for word in ["01:00.1/class holds no", "not-an-address", "lists 0000:09:00.0"] {
        assert!(notes.contains(word), "{word}: {notes}");
    }
}

#[test]
fn no_iommu_is_said_with_what_to_turn_on() {
    let (_dir, pci) = machine();
    let unread = FakeDevice {
        address: at("01:00.0"),
        id: (0x1002, 0x5046),
        class: 0x03_0000,
        group: None,
        natural: None,
        boot_vga: None,
    };
    pci.plug(&unread).unwrap();
    pci.fake.file("/proc/cpuinfo", "vendor_id : GenuineIntel\n").unwrap();
    pci.fake.file("/proc/cmdline", "quiet\n").unwrap();
    pci.fake.file("/sys/firmware/acpi/tables/DMAR", "").unwrap();
    let view = view(&facts(&pci));
    assert!(view.groups.is_empty());
    assert!(view.notes[0].contains("started without `intel_iommu=on`"), "{:?}", view.notes);
}

#[test]
fn an_empty_machine_is_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let facts = read(&FakeHost::new(dir.path()).host().sys, &mut Names::default());
    assert!(facts.devices.is_empty() && facts.absence.is_some());
    assert!(facts.notes[0].contains("/sys/bus/pci/devices does not exist"));
}

#[test]
fn the_fake_kernel_has_the_kernels_manners() {
    let (_dir, pci) = machine();
    pci.plug_lab_card().unwrap();
    let (sys, card) = (pci.host().sys, at("01:00.0"));
    let write = |path: &str, value: &str| sys.write(path, value.as_bytes());
    let probe = "/sys/bus/pci/drivers_probe";
    assert!(write("/sys/bus/pci/drivers/vfio-pci/bind", "0000:01:00.0").unwrap_err().is_missing());
    assert!(write("/sys/bus/pci/drivers/pcieport/unbind", "0000:01:00.0").is_err());
    write("/sys/bus/pci/drivers/aty128fb/unbind", "0000:01:00.0").unwrap();
    assert_eq!(pci.driver(card), None);
    write("/sys/bus/pci/devices/0000:01:00.0/driver_override", "vfio-pci\n").unwrap();
    write(probe, "0000:01:00.0").unwrap();
    assert_eq!(pci.driver(card), None, "not loaded");
    pci.fake.dir("/sys/bus/pci/drivers/vfio-pci").unwrap();
    write(probe, "0000:01:00.0").unwrap();
    assert_eq!(facts(&pci).devices[&card].driver, Driver::Named("vfio-pci".into()));
    assert!(write("/sys/bus/pci/drivers/aty128fb/bind", "0000:01:00.0").is_err());
    write("/sys/bus/pci/devices/0000:01:00.0/driver_override", "\n").unwrap();
    assert_eq!(pci.driver_override(card), None);
    pci.unplug(card).unwrap();
    assert!(!facts(&pci).devices.contains_key(&card));
}

#[test]
fn one_line_says_what_five_files_say() {
    let (_dir, pci) = machine();
    let card = at("01:00.0");
    plug(&pci, "01:00.0", 0x03_0000, None, 1);
    pci.attribute(card, "subsystem_vendor", "0x1da2\n").unwrap();
    pci.attribute(card, "subsystem_device", "0xe353\n").unwrap();
    let one_by_one = facts(&pci);
    let line = "pci:v00008086d0000100Esv00001DA2sd0000E353bc03sc00i00\n";
    pci.attribute(card, "modalias", line).unwrap();
    for name in ["vendor", "device", "class", "subsystem_vendor", "subsystem_device"] {
        pci.deny(name);
    }
    assert_eq!(facts(&pci), one_by_one);
    assert_eq!(one_by_one.devices[&card].subsystem, Some((0x1da2, 0xe353)));
    // A line that is no such line is no reason not to know.
    pci.attribute(card, "modalias", "rubbish").unwrap();
    let denied = facts(&pci);
    assert_eq!(denied.devices[&card].vendor, None);
    assert!(denied.notes[0].contains("needs root"), "{:?}", denied.notes);
}

#[test]
fn an_odd_bridge_is_told_without_waking_it() {
    let (_dir, pci) = machine();
    plug(&pci, "00:1e.0", 0x06_8000, None, 1);
    assert!(!facts(&pci).devices[&at("00:1e.0")].is_bridge());
    pci.attribute(at("00:1e.0"), "secondary_bus_number", "5\n").unwrap();
    // To read it would wake the bridge.
    pci.deny("secondary_bus_number");
    pci.deny("config");
    assert!(facts(&pci).devices[&at("00:1e.0")].is_bridge());
}

#[test]
fn an_override_is_said_of_every_isolated_group_and_of_no_other() {
    let (_dir, pci) = machine();
    pci.plug_lab_card().unwrap();
    pci.fake.file("/proc/cmdline", "quiet pcie_acs_override=downstream,multifunction\n").unwrap();
    let all = view(&facts(&pci));
    assert!(all.notes[0].contains("pcie_acs_override=downstream,multifunction"), "{:?}", all.notes);
    let by_override: Vec<u32> =
        all.groups.iter().filter(|group| group.by_override).map(|group| group.id).collect();
    assert_eq!(by_override, [11]);
    let card = group(&pci, 11);
    assert_eq!(card.verdict, Verdict::Isolated);
    assert!(card.reason.starts_with("isolated by override, not by hardware"), "{}", card.reason);
    // It is never the way out.
    plug(&pci, "03:00.0", 0x02_0000, None, 11);
    assert!(!group(&pci, 11).reason.contains("pcie_acs_override"));
    pci.fake.file("/proc/cmdline", "quiet\n").unwrap();
    assert!(!view(&facts(&pci)).groups.iter().any(|group| group.by_override));
}

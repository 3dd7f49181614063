//! The judgements about firmware and kernel, on made-up files.

use super::*;
use crate::base::Severity;
use crate::doctor::tests::{scope, status};
use crate::host::fake::FakeHost;
use proptest::prelude::*;

fn facts() -> Facts {
    Facts {
        groups: 12,
        absence: None,
        remapped: Some(true),
        unsafe_interrupts: Some(false),
        processor_bits: Some(46),
        iommu_bits: vec![Some(46)],
        release: Some("6.12.1".into()),
        modules: vec![("vfio_pci", Module::Loaded), ("kvm_intel", Module::Available)],
    }
}

#[test]
fn a_healthy_machine_is_fine() {
    for check in judge(&facts(), &scope()) {
        assert_eq!(check.status, Severity::Ok, "{check:?}");
    }
}

#[test]
fn no_groups_are_as_bad_as_they_are_wanted() {
    let absence = Absence { reason: "VT-d is off".into(), fix: "turn it on".into() };
    let none = Facts { groups: 0, absence: Some(absence), ..facts() };
    assert_eq!(status(&judge(&none, &scope()), Id::Iommu), Severity::Critical);
    let found = Scope { wanted: false, ..scope() };
    assert_eq!(status(&judge(&none, &found), Id::Iommu), Severity::Warning);
    assert_eq!(status(&judge(&none, &Scope::default()), Id::Iommu), Severity::Ok);
    let unread = Facts { groups: 0, ..facts() };
    assert_eq!(status(&judge(&unread, &Scope::default()), Id::Iommu), Severity::Unknown);
}

#[test]
fn interrupts_that_are_not_remapped() {
    let with = |remapped, unsafe_interrupts| {
        let facts = Facts { remapped, unsafe_interrupts, ..facts() };
        status(&judge(&facts, &scope()), Id::Remapping)
    };
    assert_eq!(with(Some(false), Some(false)), Severity::Critical);
    assert_eq!(with(Some(false), Some(true)), Severity::Warning);
    assert_eq!(with(Some(true), Some(true)), Severity::Warning);
    assert_eq!(with(None, None), Severity::Unknown);
    let text = "           CPU0\n  9:   0  IR-IO-APIC   9-fasteoi   acpi\n";
    assert_eq!(remapped(text), Some(true));
    assert_eq!(remapped(" 24:  7  PCI-MSI-0000:00:1f.2  0-edge  ahci\n"), Some(false));
    assert_eq!(remapped("NMI:  0  Non-maskable interrupts\n"), None);
}

#[test]
fn a_guest_wider_than_the_iommu_is_told_the_limit() {
    let narrow = Facts { iommu_bits: vec![Some(39)], ..facts() };
    let checks = judge(&narrow, &scope());
    let check = checks.iter().find(|check| check.id == Id::Width).unwrap();
    assert_eq!(check.status, Severity::Warning);
    assert!(check.fix.contains("cpu: host,host-phys-bits-limit=39"), "{check:?}");
    let mut limited = scope();
    limited.vms[0].cpu = Some("host,host-phys-bits-limit=39".into());
    assert_eq!(status(&judge(&narrow, &limited), Id::Width), Severity::Ok);
    let unseen = Facts { iommu_bits: vec![None], ..facts() };
    assert_eq!(status(&judge(&unseen, &scope()), Id::Width), Severity::Unknown);
    // As on many desktop boards: MGAW 38 in bits 21:16.
    assert_eq!(intel_bits(0x00d2_008c_4066_0462), 39);
    assert_eq!((amd_bits(0), amd_bits(1 << 10), amd_bits(2 << 10)), (48, 57, 64));
}

#[test]
fn modules_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    let sys = fake.host().sys;
    let state = |release| modules(&sys, release, Maker::Amd);
    assert_eq!(state(None)[0], ("vfio_pci", Module::Unknown));
    assert_eq!(state(Some("6.1"))[0].1, Module::Unknown);
    fake.file("/lib/modules/6.2/modules.dep", "").unwrap();
    assert_eq!(state(Some("6.1"))[0].1, Module::Gone);
    let dep = "kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/x.ko.xz\n";
    fake.file("/lib/modules/6.1/modules.dep", dep).unwrap();
    let builtin = "kernel/drivers/vfio/vfio_iommu_type1.ko\n";
    fake.file("/lib/modules/6.1/modules.builtin", builtin).unwrap();
    let states: Vec<Module> = state(Some("6.1")).iter().map(|(_, state)| *state).collect();
    assert_eq!(states, [Module::Available, Module::Loaded, Module::Missing]);
    for (state, wanted) in [
        (Module::Gone, Severity::Critical),
        (Module::Missing, Severity::Critical),
        (Module::Unknown, Severity::Unknown),
    ] {
        let facts = Facts { modules: vec![("vfio_pci", state)], ..facts() };
        assert_eq!(status(&judge(&facts, &scope()), Id::Modules), wanted);
    }
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,80}", number: u64) {
        let _ = (remapped(&text), address_bits(&text), bare_hex(&text), listed(&text));
        prop_assert!((1..=64).contains(&intel_bits(number)));
        prop_assert!(amd_bits(number) >= 48);
    }
}

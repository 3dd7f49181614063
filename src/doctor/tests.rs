//! What the tests of this room share, and the room as a whole.

use std::sync::Arc;

use super::check::{Check, Id};
use super::scope::{Card, Scope};
use super::{Question, examine};
use crate::base::{Bytes, Severity};
use crate::config::{Accel, Config, Gpu, GpuRef, Vm};
use crate::host::fake::FakeHost;
use crate::passthrough::target::Target;
use crate::pci::fake::FakePci;
use crate::pci::{self, Driver, Facts};

/// The facts of a machine with one card in order.
pub(crate) fn facts() -> Facts {
    let dir = tempfile::tempdir().unwrap();
    let fake = Arc::new(FakeHost::new(dir.path()));
    let bus = FakePci::new(Arc::clone(&fake)).unwrap();
    bus.plug_lab_card().unwrap();
    pci::read(&fake.host().sys, &mut pci::Names::default())
}

/// A configured card and a VM of 16 GiB that wants it.
pub(crate) fn scope() -> Scope {
    let facts = facts();
    let (name, address) = ("gaming".parse().unwrap(), "01:00.0".parse().unwrap());
    let gpu = Gpu { identity: Some((0x1002, 0x5046)), ..Gpu::at(name, address) };
    let target = Target::configured(&gpu);
    let functions = facts.slot(target.slot).cloned().collect();
    let vm = Vm {
        name: "win".parse().unwrap(),
        memory: Bytes(16 << 30),
        cpus: 8,
        accel: Accel::Kvm,
        gpu: Some(GpuRef::Name(gpu.name)),
        ..crate::vm::tests::vm()
    };
    Scope { cards: vec![Card { target, functions, lent: None }], vms: vec![vm], wanted: true }
}

/// The same with the card on vfio-pci.
pub(crate) fn bound() -> Scope {
    let mut scope = scope();
    for device in &mut scope.cards[0].functions {
        device.driver = Driver::Named("vfio-pci".to_owned());
    }
    scope
}

/// How the only check of its kind is.
pub(crate) fn status(checks: &[Check], id: Id) -> Severity {
    let found: Vec<&Check> = checks.iter().filter(|check| check.id == id).collect();
    match found.as_slice() {
        [one] => one.status,
        other => panic!("{id:?}: {other:?}"),
    }
}

fn question(config: Config) -> Question {
    Question {
        config,
        claims: Vec::new(),
        wrong: None,
        daemon: false,
        probe: false,
        changing: false,
    }
}

#[tokio::test]
async fn an_empty_machine_is_judged_without_a_panic_and_not_found_fine() {
    let dir = tempfile::tempdir().unwrap();
    let host = FakeHost::new(dir.path()).host();
    let view = examine(&host, question(Config::default()), ()).await;
    assert!(view.notes[0].contains("no graphics card"), "{view:?}");
    let of = |id: &str| view.checks.iter().find(|check| check.id == id).unwrap();
    assert_eq!(of("iommu").status, Severity::Ok);
    assert_eq!(of("kvm-device").status, Severity::Warning);
    assert_eq!(of("cmdline").status, Severity::Unknown);
    assert!(view.checks.iter().all(|check| !check.title.is_empty() && !check.theme.is_empty()));
}

#[tokio::test]
async fn every_bad_check_says_what_was_seen_and_in_the_order_of_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Arc::new(FakeHost::new(dir.path()));
    let bus = FakePci::new(Arc::clone(&fake)).unwrap();
    bus.plug_lab_card().unwrap();
    let scope = scope();
    let config = Config {
        gpus: vec![Gpu::at("gaming".parse().unwrap(), "01:00.0".parse().unwrap())],
        vms: scope.vms,
        ..Config::default()
    };
    let question = Question { wrong: Some("2 errors".into()), probe: true, ..question(config) };
    let view = examine(&bus.host(), question, ()).await;
    assert_eq!(view.checks[0].status, Severity::Critical);
    assert!(view.checks.iter().all(|check| !check.evidence.is_empty()), "{view:?}");
    let order: Vec<usize> = view
        .checks
        .iter()
        .map(|check| Id::ALL.iter().position(|id| id.about().id == check.id).unwrap())
        .collect();
    assert!(order.is_sorted(), "{order:?}");
    // Another machine's devices are never opened.
    assert!(fake.runner.asked().is_empty());
}

//! Who has a card.

use super::*;

#[tokio::test]
async fn what_a_person_bound_outlives_the_vm() {
    let rig = Rig::new();
    rig.bind(Owner::Person).await.unwrap();
    assert!(!rig.bind(vm("gaming")).await.unwrap().changed);
    let claims = rig.pass.claims();
    assert!(claims[0].person && claims[0].vm.is_some());

    let error = rig.release(Owner::Person).await.unwrap_err();
    assert_eq!(error.to_string(), "gaming belongs to the VM gaming");
    assert!(error.hint().contains("hostctl vm stop gaming"));
    assert_eq!(rig.state(), on_vfio());

    let released = rig.release(vm("gaming")).await.unwrap();
    assert!(!released.changed && released.why.contains("a person has bound it"));
    assert_eq!(rig.state(), on_vfio());
    assert!(rig.release(Owner::Person).await.unwrap().changed);
    assert_eq!(rig.state(), at_home());
}

#[tokio::test]
async fn two_vms_cannot_have_one_card() {
    let rig = Rig::new();
    rig.bind(vm("gaming")).await.unwrap();
    let error = rig.bind(vm("work")).await.unwrap_err();
    assert!(matches!(error, PassthroughError::Owned { .. }), "{error}");
    let released = rig.release(vm("work")).await.unwrap();
    assert!(!released.changed && released.why.contains("belongs to the VM gaming"));
    assert!(rig.release(vm("gaming")).await.unwrap().changed);
    assert_eq!(rig.state(), at_home());
}

#[tokio::test]
async fn claims_survive_the_daemon() {
    let mut rig = Rig::new();
    rig.bind(vm("gaming")).await.unwrap();
    assert_eq!(rig.restart().await, ["gaming: bound for the VM gaming"]);
    assert_eq!(rig.pass.claims()[0].vm.as_ref().unwrap().as_str(), "gaming");
    assert!(rig.release(vm("gaming")).await.unwrap().changed);
    assert_eq!(rig.state(), at_home());
}

#[tokio::test]
async fn a_card_that_is_open_is_not_released() {
    let rig = Rig::new();
    rig.bind(vm("gaming")).await.unwrap();
    rig.pci.fake.file("/dev/vfio/11", "").unwrap();
    rig.pci.fake.file("/proc/4711/comm", "qemu-system-x86\n").unwrap();
    rig.pci.fake.link("/proc/4711/fd/9", "/dev/vfio/11").unwrap();
    let error = rig.release(vm("gaming")).await.unwrap_err();
    assert_eq!(error.to_string(), "gaming is in use by qemu-system-x86 (process 4711)");
    assert_eq!(rig.state(), on_vfio());
    rig.pci.fake.remove("/proc/4711").unwrap();
    assert!(rig.release(vm("gaming")).await.unwrap().changed);
}

#[tokio::test]
async fn a_claim_that_nobody_looks_after_gives_way_to_a_person() {
    let mut rig = Rig::new();
    rig.bind(vm("gaming")).await.unwrap();
    rig.pci.fake.file("/dev/vfio/11", "").unwrap();
    rig.pci.fake.link("/proc/4711/fd/9", "/dev/vfio/11").unwrap();
    rig.restart().await;
    // QEMU has outlived that hostd.
    let error = rig.release(Owner::Person).await.unwrap_err();
    assert_eq!(error.to_string(), "gaming belongs to the VM gaming");
    rig.pci.fake.remove("/proc/4711").unwrap();
    // The VM is started again by this hostd, and QEMU has not opened the card yet.
    rig.bind(vm("gaming")).await.unwrap();
    assert!(matches!(rig.release(Owner::Person).await, Err(PassthroughError::Owned { .. })));
    rig.restart().await;
    assert!(rig.release(Owner::Person).await.unwrap().changed);
    assert_eq!((rig.state(), rig.record()), (at_home(), None));
}

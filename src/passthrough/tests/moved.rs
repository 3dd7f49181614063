//! Which card: moved ones, twins, boards, and what leaves with a card.

use super::*;
use crate::pci::fake::FakeDevice;

fn card(address: &str, group: u32) -> FakeDevice {
    FakeDevice {
        address: at(address),
        id: (0x1002, 0x5046),
        class: 0x03_0000,
        group: Some(group),
        natural: Some("aty128fb".into()),
        boot_vga: Some(false),
    }
}

/// The card has moved to 02:00.0; where it was is a network card.
fn moved() -> Rig {
    let rig = Rig::empty();
    let network = FakeDevice {
        id: (0x8086, 0x100e),
        class: 0x02_0000,
        natural: Some("e1000".into()),
        ..card("01:00.0", 11)
    };
    rig.pci.plug(&network).unwrap();
    rig.pci.plug(&card("02:00.0", 12)).unwrap();
    rig
}

#[tokio::test]
async fn a_card_that_may_be_followed_is_taken_where_it_is() {
    let mut rig = moved();
    let refused = rig.bind(vm("gaming")).await.unwrap_err();
    assert!(matches!(refused, PassthroughError::Identity { .. }), "{refused}");
    rig.gpu.follow = true;
    rig.pass = rig.handle();
    let bound = rig.bind(vm("gaming")).await.unwrap();
    assert_eq!(bound.functions, [at("02:00.0")]);
    assert!(bound.warnings[0].contains("is at 0000:02:00.0 now"), "{bound:?}");
    assert_eq!(rig.pci.driver(at("01:00.0")).as_deref(), Some("e1000"), "left alone");
    // Taken out of its slot while bound, it is still the one that was taken.
    rig.pci.unplug(at("02:00.0")).unwrap();
    let released = rig.release(vm("gaming")).await.unwrap();
    assert!(released.warnings[0].contains("0000:02:00.0 is gone"), "{released:?}");
    assert!(rig.pass.claims().is_empty());
}

#[tokio::test]
async fn of_two_that_fit_none_is_taken() {
    let mut rig = moved();
    rig.pci.plug(&card("03:00.0", 13)).unwrap();
    rig.gpu.follow = true;
    rig.pass = rig.handle();
    let error = rig.bind(vm("gaming")).await.unwrap_err();
    assert!(matches!(error, PassthroughError::Identity { moved: None, .. }), "{error}");
    // The board tells them apart.
    rig.pci.attribute(at("03:00.0"), "subsystem_vendor", "0x1043\n").unwrap();
    rig.pci.attribute(at("03:00.0"), "subsystem_device", "0x04e2\n").unwrap();
    rig.gpu.subsystem = Some((0x1043, 0x04e2));
    rig.pass = rig.handle();
    assert_eq!(rig.bind(vm("gaming")).await.unwrap().functions, [at("03:00.0")]);
}

#[tokio::test]
async fn another_makers_board_is_refused() {
    let mut rig = Rig::new();
    rig.gpu.subsystem = Some((0x1043, 0x04e2));
    rig.pass = rig.handle();
    let error = rig.bind(vm("gaming")).await.unwrap_err().to_string();
    let said = "gaming: the board at 0000:01:00.0 is unreadable, not 1043:04e2 as configured \
                under `subsystem`";
    assert_eq!(error, said);
    assert!(rig.pci.writes().is_empty());
}

#[tokio::test]
async fn of_two_twins_the_one_in_the_slot_is_taken() {
    let rig = Rig::new();
    rig.pci.plug(&card("02:00.0", 12)).unwrap();
    rig.bind(vm("gaming")).await.unwrap();
    assert_eq!(rig.state(), on_vfio());
    assert_eq!(rig.pci.driver(at("02:00.0")).as_deref(), Some("aty128fb"));
    assert_eq!(rig.pci.driver_override(at("02:00.0")), None);
    rig.release(vm("gaming")).await.unwrap();
    assert_eq!(rig.state(), at_home());
}

#[tokio::test]
async fn the_rest_of_its_group_leaves_with_it() {
    let mut rig = Rig::new();
    let usb = FakeDevice {
        id: (0x1b36, 0x000d),
        class: 0x0c_0330,
        natural: Some("xhci_hcd".into()),
        boot_vga: None,
        ..card("01:01.0", 11)
    };
    rig.pci.plug(&usb).unwrap();
    let error = rig.bind(vm("gaming")).await.unwrap_err();
    assert!(matches!(error, PassthroughError::Blocked { .. }), "{error}");
    rig.gpu.with = vec![at("01:01.0"), at("05:00.0")];
    rig.pass = rig.handle();
    let bound = rig.bind(vm("gaming")).await.unwrap();
    assert_eq!(bound.functions, [at("01:00.0"), at("01:00.1")], "the guest gets the card only");
    assert!(bound.warnings[0].contains("0000:05:00.0 (under `with`) is not there"), "{bound:?}");
    assert_eq!(rig.pci.driver(at("01:01.0")).as_deref(), Some("vfio-pci"));
    rig.release(vm("gaming")).await.unwrap();
    assert_eq!(rig.pci.driver(at("01:01.0")).as_deref(), Some("xhci_hcd"));
    assert_eq!(rig.state(), at_home());
}

/// The guest's card drops off the bus; its twin is the host's.
#[tokio::test]
async fn a_lost_card_is_never_found_in_the_hosts_own_twin() {
    let mut rig = Rig::empty();
    rig.gpu.follow = true;
    let mut twin = card("05:00.0", 15);
    twin.boot_vga = Some(true);
    rig.pci.plug(&twin).unwrap();
    rig.pass = rig.handle();
    let error = rig.bind(vm("gaming")).await.unwrap_err();
    assert!(matches!(error, PassthroughError::Absent { .. }), "{error}");
    // Nor in one that is configured under another name.
    rig.pci.attribute(at("05:00.0"), "boot_vga", "0\n").unwrap();
    let desktop = Gpu::at("desktop".parse().unwrap(), at("05:00.0"));
    let gpus = vec![rig.gpu.clone(), desktop];
    rig.pass = Passthrough::new(rig.pci.host(), gpus);
    let error = rig.bind(vm("gaming")).await.unwrap_err();
    assert!(matches!(error, PassthroughError::Absent { moved: None, .. }), "{error}");
    assert!(rig.pci.writes().is_empty());
    let listed = rig.pass.list().await.gpus;
    let slots: Vec<_> = listed.iter().map(|gpu| (gpu.name.as_str(), gpu.address)).collect();
    assert_eq!(slots, [("gaming", at("01:00.0")), ("desktop", at("05:00.0"))]);
}

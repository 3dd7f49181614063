//! Power, resets, BARs and config space.

use super::*;
use crate::config::Quirk;

fn quirk(text: &str) -> Vec<Quirk> {
    crate::config::quirks::read(&Source::quirks("quirks.d/x.yaml", text)).unwrap()
}

fn attribute(rig: &Rig, name: &str) -> String {
    let folder = crate::pci::read::folder(at("01:00.0"));
    rig.pci.host().sys.text(format!("{folder}/{name}")).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_guest_gets_a_card_that_is_awake_and_sized() {
    let rig = Rig::full();
    rig.bind(vm("gaming")).await.unwrap();
    assert_eq!(attribute(&rig, "power/control"), "on");
    assert_eq!(attribute(&rig, "d3cold_allowed"), "0");
    assert_eq!(attribute(&rig, "reset_method"), "flr");
    assert_eq!(attribute(&rig, "resource"), "0x8000000000 0x81ffffffff 0x14220c");
    // A person wants it too, and nothing of the VM's is undone by that.
    assert!(!rig.pass.bind(&gaming(), Owner::Person).await.unwrap().changed);
}

#[tokio::test]
async fn a_bound_card_is_resized_for_the_vm_and_back_to_what_the_host_had() {
    let rig = Rig::full();
    let home = rig.machine();
    rig.pass.bind(&gaming(), Owner::Person).await.unwrap();
    assert!(attribute(&rig, "resource").starts_with("0x8000000000 0x800fffffff"));
    assert!(rig.bind(vm("gaming")).await.unwrap().changed);
    assert!(attribute(&rig, "resource").starts_with("0x8000000000 0x81ffffffff"));
    rig.release(vm("gaming")).await.unwrap();
    rig.release(Owner::Person).await.unwrap();
    assert_eq!(rig.machine(), home);
}

#[tokio::test]
async fn a_size_that_the_card_has_not_is_refused() {
    let mut rig = Rig::full();
    rig.options.resizable_bar = ResizableBar::Size(crate::base::Bytes(1 << 36));
    let refusal = crate::ask::Refusal::from(rig.bind(vm("gaming")).await.unwrap_err());
    assert!(refusal.message.contains("cannot be 64G: it offers 256M, 512M"), "{refusal:?}");
    assert!(refusal.hint.contains("Above 4G decoding"), "{refusal:?}");
    assert!(rig.pci.writes().is_empty());
}

#[tokio::test]
async fn no_room_for_a_bar_says_what_to_turn_on() {
    let rig = Rig::full();
    let home = rig.machine();
    rig.pci.inject(|_, path, _| {
        path.ends_with("_resize").then_some(crate::pci::fake::Fault::Errno(libc::ENOSPC))
    });
    let error = rig.bind(vm("gaming")).await.unwrap_err();
    assert_eq!(error.to_string(), "gaming: could not set the size of BAR 0 of 0000:01:00.0 to 8G");
    assert!(error.hint().contains("Above 4G decoding"), "{}", error.hint());
    assert_eq!((rig.machine(), rig.record()), (home, None));
}

#[tokio::test]
async fn what_somebody_else_has_set_is_left_to_them() {
    let rig = Rig::full();
    rig.bind(vm("gaming")).await.unwrap();
    rig.pci.attribute(at("01:00.0"), "reset_method", "pm\n").unwrap();
    let released = rig.release(vm("gaming")).await.unwrap();
    let said = "reset_method of 0000:01:00.0 is `pm`, set by somebody else";
    assert_eq!(released.warnings, [said]);
    assert_eq!(attribute(&rig, "reset_method"), "pm");
}

#[tokio::test]
async fn a_card_that_does_not_come_back_is_not_given_to_a_driver() {
    let rig = Rig::new();
    rig.pci.attribute(at("01:00.0"), "config", "\u{2}\u{10}FP").unwrap();
    rig.bind(vm("gaming")).await.unwrap();
    let config = crate::pci::read::folder(at("01:00.0")) + "/config";
    rig.pci.fake.file(&config, [0xff; 64]).unwrap();
    let error = rig.release(vm("gaming")).await.unwrap_err().to_string();
    assert!(error.contains("config space reads as ones only"), "{error}");
    assert!(error.contains("switch the machine off and on again"), "{error}");
    assert_eq!(rig.state()[0].0, None, "no driver has met it");
    assert_eq!(rig.state()[1], at_home()[1]);
    // Nor is it given to a guest.
    let error = crate::ask::Refusal::from(rig.bind(vm("gaming")).await.unwrap_err()).message;
    assert!(error.contains("config space reads as ones only"), "{error}");
}

#[tokio::test]
async fn a_link_that_came_back_narrower_is_said() {
    let rig = Rig::new();
    rig.pci.attribute(at("01:00.0"), "current_link_width", "16\n").unwrap();
    rig.bind(vm("gaming")).await.unwrap();
    rig.pci.attribute(at("01:00.0"), "current_link_width", "1\n").unwrap();
    let released = rig.release(vm("gaming")).await.unwrap();
    assert!(released.warnings[0].contains("has 1 lanes and had 16"), "{released:?}");
}

#[tokio::test]
async fn quirks_warn_before_the_first_start() {
    let mut rig = Rig::new();
    rig.pci.attribute(at("01:00.0"), "reset_method", "pm bus\n").unwrap();
    rig.quirks.quirks = quirk(
        "quirks:
  - {ids: [1002:5046], action: {reset: device-specific}, why: It stays dead., source: users}
  - {ids: [1002:5046], action: {reset: no-bus}, why: It falls off., source: users}
  - {ids: [1002:5046], action: x-vga, why: It is old., source: users}
  - {ids: [8086:2668], action: rom-off, why: It has none., source: users}
  - {ids: [8086:2668], action: {reset-delay: 1ms}, why: It is slow., source: users}
",
    );
    rig.pass = rig.handle();
    let plan = rig.pass.plan(&gaming(), false).await.unwrap();
    let said = plan.warnings.join("\n");
    // AMD's cards lose `pm` by hostd's own list, this one `bus` by the owner's.
    assert!(said.contains("no reset is left that it survives"), "{said}");
    assert!(said.contains("It stays dead. The kernel has none for it: install vendor-reset"));
    let set = "set reset_method of 0000:01:00.0 to none".to_owned();
    assert!(plan.steps.contains(&set), "{:?}", plan.steps);
    let bound = rig.bind(vm("gaming")).await.unwrap();
    assert!(bound.x_vga && bound.rom_off == [at("01:00.1")]);
    let back = rig.pass.plan(&gaming(), true).await.unwrap().steps;
    assert!(back.contains(&"give 0000:01:00.1 1 ms after its reset".to_owned()), "{back:?}");
    rig.release(vm("gaming")).await.unwrap();
    assert_eq!(attribute(&rig, "reset_method"), "pm bus");
}

#[tokio::test]
async fn a_bad_rom_is_refused_before_anything_is_touched() {
    let mut rig = Rig::new();
    rig.options.rom = Some("/roms/card.rom".into());
    rig.pci.fake.file("/roms/card.rom", "this is no ROM").unwrap();
    let refusal = crate::ask::Refusal::from(rig.bind(vm("gaming")).await.unwrap_err());
    assert!(refusal.message.contains("/roms/card.rom is not given to a guest"), "{refusal:?}");
    assert!(refusal.hint.contains("gpu rom check"), "{refusal:?}");
    rig.options.rom = Some("/roms/none.rom".into());
    let refusal = crate::ask::Refusal::from(rig.bind(vm("gaming")).await.unwrap_err());
    assert!(refusal.message.contains("does not exist"), "{refusal:?}");
    assert!(rig.pci.writes().is_empty() && rig.record().is_none());
}

#[tokio::test]
async fn a_failed_start_leaves_a_card_bound_that_a_person_has_bound() {
    let rig = Rig::full();
    let home = rig.machine();
    rig.pass.bind(&gaming(), Owner::Person).await.unwrap();
    let bound = rig.state();
    rig.pci.inject(|_, path, _| {
        path.ends_with("_resize").then_some(crate::pci::fake::Fault::Errno(libc::ENOSPC))
    });
    rig.bind(vm("gaming")).await.unwrap_err();
    assert_eq!(rig.state(), bound);
    let record = rig.record().unwrap();
    assert!(record.person && record.vm.is_none(), "{record:?}");
    assert!(rig.gpu().await.problems.is_empty());
    rig.pci.heal();
    rig.release(Owner::Person).await.unwrap();
    assert_eq!((rig.machine(), rig.record()), (home, None));
}

#[tokio::test]
async fn an_attribute_that_stays_does_not_keep_the_card_from_its_driver() {
    let rig = Rig::full();
    rig.bind(vm("gaming")).await.unwrap();
    rig.pci.inject(|_, path, _| {
        path.ends_with("reset_method").then_some(crate::pci::fake::Fault::Errno(libc::EINVAL))
    });
    let error = rig.release(vm("gaming")).await.unwrap_err().to_string();
    assert!(error.contains("could not set reset_method"), "{error}");
    assert!(error.contains("not done before that is: start display-manager"), "{error}");
    assert_eq!(rig.state(), at_home(), "the drivers are back");
    rig.pci.heal();
    rig.release(Owner::Person).await.unwrap();
    assert!(rig.machine().2, "and then the desktop");
}

#[tokio::test]
async fn a_bound_card_that_is_dead_is_not_called_ready() {
    let rig = Rig::new();
    rig.bind(Owner::Person).await.unwrap();
    rig.bind(vm("gaming")).await.unwrap();
    rig.pci.attribute(at("01:00.0"), "config", [0xff; 64]).unwrap();
    let stays = rig.release(vm("gaming")).await.unwrap();
    assert!(stays.why.contains("config space reads as ones only"), "{stays:?}");
    let error = rig.bind(vm("gaming")).await.unwrap_err();
    assert!(matches!(error, PassthroughError::Dead { .. }), "{error}");
    // The start that was refused has no claim: the person can have it back.
    assert_eq!(rig.record().unwrap().vm, None);
    rig.pci.attribute(at("01:00.0"), "config", [0x02; 64]).unwrap();
    assert!(rig.release(Owner::Person).await.unwrap().changed);
}

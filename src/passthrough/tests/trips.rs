//! There and back when nothing fails.

use super::*;

#[tokio::test]
async fn there_and_back_twice() {
    let rig = Rig::new();
    for _ in 0..2 {
        let bound = rig.bind(Owner::Person).await.unwrap();
        assert_eq!(bound.functions, [at("01:00.0"), at("01:00.1")]);
        assert_eq!((bound.group, bound.changed), (11, true));
        assert_eq!(rig.state(), on_vfio());
        let gpu = rig.gpu().await;
        assert!(gpu.bound && gpu.problems.is_empty(), "{gpu:?}");
        assert_eq!((gpu.name.as_str(), gpu.driver.as_deref()), ("gaming", Some("vfio-pci")));

        let again = rig.bind(Owner::Person).await.unwrap();
        assert!(!again.changed);

        let released = rig.release(Owner::Person).await.unwrap();
        assert!(released.changed && released.warnings.is_empty(), "{released:?}");
        assert_eq!(rig.state(), at_home());
        assert_eq!(rig.record(), None);
        assert!(!rig.gpu().await.bound);

        let again = rig.release(Owner::Person).await.unwrap();
        assert!(!again.changed && again.why.contains("has not bound it"));
    }
}

#[tokio::test]
async fn functions_without_a_driver_go_back_to_none() {
    let rig = Rig::new();
    rig.pci.take_over(at("01:00.0"), None).unwrap();
    rig.bind(vm("gaming")).await.unwrap();
    assert_eq!(rig.state(), on_vfio());
    assert!(rig.release(vm("gaming")).await.unwrap().changed);
    assert_eq!(rig.state(), [(None, None), (Some("snd_hda_intel".into()), None)]);
}

#[tokio::test]
async fn the_module_is_loaded_only_when_missing() {
    let rig = Rig::new();
    rig.bind(Owner::Person).await.unwrap();
    let asked = rig.pci.fake.runner.asked();
    assert_eq!(asked.iter().map(ToString::to_string).collect::<Vec<_>>(), ["modprobe vfio-pci"]);
    rig.release(Owner::Person).await.unwrap();
    rig.bind(Owner::Person).await.unwrap();
    assert!(rig.pci.fake.runner.asked().is_empty());
    // The host's driver is unloaded in between: its module comes back first.
    rig.pci.fake.remove("/sys/bus/pci/drivers/aty128fb").unwrap();
    assert!(rig.release(Owner::Person).await.unwrap().changed);
    assert_eq!(rig.pci.fake.runner.asked()[0].to_string(), "modprobe aty128fb");
    assert_eq!(rig.state(), at_home());
}

#[tokio::test]
async fn a_plan_is_what_would_be_done() {
    let rig = Rig::new();
    rig.pci.fake.file("/sys/devices/pci0000:00/0000:01:00.0/boot_vga", "1\n").unwrap();
    let plan = rig.pass.plan(&gaming(), false).await.unwrap();
    assert_eq!(
        plan.steps,
        [
            "load the module vfio-pci",
            "set driver_override of 0000:01:00.0 to vfio-pci",
            "unbind 0000:01:00.0 from aty128fb",
            "let the kernel bind 0000:01:00.0 to vfio-pci",
            "set driver_override of 0000:01:00.1 to vfio-pci",
            "unbind 0000:01:00.1 from snd_hda_intel",
            "let the kernel bind 0000:01:00.1 to vfio-pci",
        ]
    );
    assert!(plan.warnings.iter().any(|w| w.contains("boot_vga")), "{:?}", plan.warnings);
    assert!(rig.pci.writes().is_empty(), "a plan touches nothing");
    rig.bind(Owner::Person).await.unwrap();
    let plan = rig.pass.plan(&gaming(), true).await.unwrap();
    assert_eq!(
        plan.steps,
        [
            "clear driver_override of 0000:01:00.1",
            "unbind 0000:01:00.1 from vfio-pci",
            "bind 0000:01:00.1 to snd_hda_intel",
            "clear driver_override of 0000:01:00.0",
            "unbind 0000:01:00.0 from vfio-pci",
            "bind 0000:01:00.0 to aty128fb",
        ]
    );
}

#[tokio::test]
async fn somebody_elses_override_comes_back() {
    let rig = Rig::new();
    rig.pci.set_override(at("01:00.0"), Some("pci-stub")).unwrap();
    rig.pci.set_override(at("01:00.1"), Some("vfio-pci")).unwrap();
    let before = rig.state();
    let bound = rig.bind(Owner::Person).await.unwrap();
    assert!(bound.warnings[0].contains("`pci-stub`"), "{bound:?}");
    rig.release(Owner::Person).await.unwrap();
    assert_eq!(rig.state(), before);
}

#[tokio::test]
async fn an_override_set_while_bound_is_left_and_said() {
    let rig = Rig::new();
    rig.bind(Owner::Person).await.unwrap();
    rig.pci.set_override(at("01:00.0"), Some("pci-stub")).unwrap();
    let error = rig.release(Owner::Person).await.unwrap_err();
    assert!(error.to_string().contains("`pci-stub`, set by somebody else"), "{error}");
    let [first, second] = rig.state();
    assert_eq!(first, (Some("vfio-pci".into()), Some("pci-stub".into())));
    assert_eq!(second, at_home()[1]);
    assert!(rig.gpu().await.problems[0].contains("pci-stub"));
    // They lift it; a second release closes the record.
    rig.pci.set_override(at("01:00.0"), None).unwrap();
    rig.release(Owner::Person).await.unwrap();
    assert_eq!(rig.state(), at_home());
    assert_eq!(rig.record(), None);
}

#[tokio::test]
async fn a_function_that_somebody_took_is_left_to_them() {
    let rig = Rig::new();
    rig.bind(Owner::Person).await.unwrap();
    rig.pci.take_over(at("01:00.1"), Some("snd_other")).unwrap();
    let gpu = rig.gpu().await;
    assert!(!gpu.bound && gpu.problems[0].contains("driver snd_other"), "{gpu:?}");
    let released = rig.release(Owner::Person).await.unwrap();
    assert!(released.warnings[0].contains("snd_other"));
    assert_eq!(rig.state(), [at_home()[0].clone(), (Some("snd_other".into()), None)]);
}

#[tokio::test]
async fn a_card_that_was_on_vfio_before_stays_there() {
    let rig = Rig::new();
    for function in ["01:00.0", "01:00.1"] {
        rig.pci.set_override(at(function), Some("vfio-pci")).unwrap();
        rig.pci.take_over(at(function), Some("vfio-pci")).unwrap();
    }
    assert!(!rig.bind(vm("gaming")).await.unwrap().changed);
    let released = rig.release(vm("gaming")).await.unwrap();
    assert!(!released.changed && released.why.contains("where they were before"));
    assert_eq!(rig.state(), on_vfio());
}

#[tokio::test]
async fn a_card_unplugged_while_bound() {
    let rig = Rig::new();
    rig.bind(vm("gaming")).await.unwrap();
    rig.pci.unplug(at("01:00.0")).unwrap();
    rig.pci.unplug(at("01:00.1")).unwrap();
    let gpu = rig.gpu().await;
    assert!(gpu.functions.is_empty() && !gpu.bound);
    assert!(gpu.problems.iter().any(|problem| problem.contains("gone from the bus")), "{gpu:?}");
    let released = rig.release(vm("gaming")).await.unwrap();
    assert!(released.warnings[0].contains("gone from the bus"));
    assert_eq!(rig.record(), None);
}

#[tokio::test]
async fn a_restart_of_the_machine_voids_the_record() {
    let mut rig = Rig::new();
    rig.bind(Owner::Person).await.unwrap();
    rig.pci.reboot("22222222-2222-4222-8222-222222222222").unwrap();
    assert!(rig.gpu().await.problems.is_empty());
    assert!(rig.pass.claims().is_empty());
    let said = rig.restart().await;
    assert_eq!(said, ["gaming: the record of an earlier boot is void"]);
    assert_eq!((rig.record(), rig.state()), (None, at_home()));
    assert!(rig.bind(Owner::Person).await.unwrap().changed);
}

#[tokio::test]
async fn other_cards_are_listed_after_the_configured_ones() {
    let rig = Rig::new();
    rig.pci
        .plug(&crate::pci::fake::FakeDevice {
            address: at("00:01.0"),
            id: (0x1234, 0x1111),
            class: 0x03_0000,
            group: Some(2),
            natural: Some("bochs-drm".into()),
            boot_vga: Some(true),
        })
        .unwrap();
    let gpus = rig.pass.list().await.gpus;
    let names: Vec<&str> = gpus.iter().map(|gpu| gpu.name.as_str()).collect();
    assert_eq!(names, ["gaming", "0000:00:01.0"]);
    assert_eq!((gpus[1].group, gpus[1].bound), (Some(2), false));
    // An address in a configured slot means that card.
    let other = rig.pass.resolve_gpu(Some("01:00.1")).unwrap();
    assert_eq!(rig.pass.bind(&other, Owner::Person).await.unwrap().gpu, "gaming");
}

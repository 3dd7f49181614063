//! The host's screen on a card: consoles, framebuffers, a desktop.

use super::*;
use crate::passthrough::journal::Phase;

#[tokio::test]
async fn a_boot_card_gives_up_the_screen_in_order_and_gets_it_back() {
    let rig = Rig::full();
    let plan = rig.pass.plan(&gaming(), false).await.unwrap();
    assert_eq!(
        plan.steps,
        [
            "load the module vfio-pci",
            "stop display-manager.service",
            "wait until no process uses 0000:01:00.0, 0000:01:00.1",
            "take the virtual console vtcon1 off the framebuffer",
            "set d3cold_allowed of 0000:01:00.0 to `0`",
            "set reset_method of 0000:01:00.0 to `flr`",
            "set driver_override of 0000:01:00.0 to vfio-pci",
            "unbind 0000:01:00.0 from aty128fb",
            "let the kernel bind 0000:01:00.0 to vfio-pci",
            "set power/control of 0000:01:00.0 to `on`",
            "set driver_override of 0000:01:00.1 to vfio-pci",
            "unbind 0000:01:00.1 from snd_hda_intel",
            "let the kernel bind 0000:01:00.1 to vfio-pci",
            "set power/control of 0000:01:00.1 to `on`",
        ]
    );
    let said = plan.warnings.join("\n");
    for words in [
        "only graphics card: without it, only the network leads in",
        "0000:01:00.0 is the boot display (boot_vga), which goes dark while a guest has it; it \
         comes back when aty128fb has it again",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let home = rig.machine();
    rig.bind(vm("gaming")).await.unwrap();
    assert!(!rig.machine().2, "the desktop is stopped");
    let plan = rig.pass.plan(&gaming(), true).await.unwrap();
    assert_eq!(plan.steps.last().unwrap(), "start display-manager.service");
    rig.release(vm("gaming")).await.unwrap();
    assert_eq!(rig.machine(), home);
}

#[tokio::test]
async fn the_firmwares_screen_is_lost_and_stays_on_record_until_a_restart() {
    let mut rig = Rig::new();
    rig.pci.plug_firmware_screen(at("01:00.0")).unwrap();
    rig.pci.take_over(at("01:00.0"), None).unwrap();
    let plan = rig.pass.plan(&gaming(), false).await.unwrap();
    let words = "unbind the firmware's framebuffer simple-framebuffer.0 from simple-framebuffer";
    assert_eq!(plan.steps[1], "take the virtual console vtcon1 off the framebuffer");
    assert_eq!(plan.steps[2], words);
    let warned = plan.warnings.join("\n");
    assert!(warned.contains("goes dark until a restart: no driver of the host"), "{warned}");

    rig.bind(vm("gaming")).await.unwrap();
    let released = rig.release(vm("gaming")).await.unwrap();
    let dark = "stays dark until a restart";
    assert!(released.changed && released.warnings[0].contains(dark), "{released:?}");
    assert_eq!(rig.record().unwrap().phase, Phase::Left);
    assert!(rig.gpu().await.problems[0].contains(dark));
    assert!(rig.restart().await[0].contains(dark));
    // It does not keep the next guest from having the card.
    rig.bind(vm("gaming")).await.unwrap();
    assert!(rig.gpu().await.problems.is_empty());
    assert!(rig.release(vm("gaming")).await.unwrap().warnings[0].contains(dark));
    // A driver that shows a picture resolves it.
    rig.pci.plug_native_screen(at("01:00.0")).unwrap();
    rig.pci.take_over(at("01:00.0"), Some("aty128fb")).unwrap();
    rig.release(Owner::Person).await.unwrap();
    assert_eq!(rig.record(), None);
    // So does a restart.
    rig.pci.take_over(at("01:00.0"), None).unwrap();
    rig.pci.reboot("22222222-2222-4222-8222-222222222222").unwrap();
    assert!(rig.gpu().await.problems.is_empty());
}

#[tokio::test]
async fn another_cards_screen_is_left_alone() {
    let rig = Rig::new();
    let other = crate::pci::fake::FakeDevice {
        address: at("02:00.0"),
        id: (0x8086, 0x3e92),
        class: 0x03_8000,
        group: Some(2),
        natural: Some("i915".into()),
        boot_vga: None,
    };
    rig.pci.plug(&other).unwrap();
    rig.pci.plug_native_screen(at("02:00.0")).unwrap();
    let plan = rig.pass.plan(&gaming(), false).await.unwrap();
    assert!(!plan.steps.iter().any(|step| step.contains("vtcon")), "{plan:?}");
    assert!(plan.warnings.is_empty(), "{plan:?}");
}

fn draws(rig: &Rig, pid: &str) {
    let fake = &rig.pci.fake;
    fake.dir(&format!("{}/drm/card0", crate::pci::read::folder(at("01:00.0")))).unwrap();
    fake.file("/dev/dri/card0", "").unwrap();
    fake.file(&format!("/proc/{pid}/comm"), "Xorg\n").unwrap();
    fake.link(&format!("/proc/{pid}/fd/9"), "/dev/dri/card0").unwrap();
}

#[tokio::test]
async fn a_card_in_use_is_refused_by_the_processes_names() {
    let rig = Rig::new();
    draws(&rig, "812");
    let error = rig.bind(vm("gaming")).await.unwrap_err();
    assert_eq!(error.to_string(), "gaming is in use by Xorg (process 812)");
    assert!(error.hint().contains("stop-display-manager: true"), "{}", error.hint());
    assert!(rig.pci.writes().is_empty() && rig.record().is_none());
    let plan = rig.pass.plan(&gaming(), false).await.unwrap();
    assert!(plan.warnings[0].contains("in use by Xorg (process 812)"), "{plan:?}");
    // It ends, and the card can be had.
    rig.pci.fake.remove("/proc/812").unwrap();
    assert!(rig.bind(vm("gaming")).await.unwrap().changed);
}

#[tokio::test(start_paused = true)]
async fn who_stays_after_the_desktop_is_named_and_the_desktop_comes_back() {
    let rig = Rig::full();
    let home = rig.machine();
    draws(&rig, "813");
    let error = rig.bind(vm("gaming")).await.unwrap_err();
    let said = crate::ask::Refusal::from(&error).message;
    assert!(said.contains("wait until no process uses"), "{said}");
    assert!(said.contains("in use by Xorg (process 813)"), "{said}");
    assert_eq!((rig.machine(), rig.record()), (home, None));
}

#[tokio::test]
async fn a_desktop_that_does_not_run_is_not_started() {
    let rig = Rig::full();
    rig.desktop.store(false, Ordering::SeqCst);
    let plan = rig.pass.plan(&gaming(), false).await.unwrap();
    assert!(!plan.steps.iter().any(|step| step.contains("display-manager")), "{plan:?}");
    rig.bind(vm("gaming")).await.unwrap();
    rig.release(vm("gaming")).await.unwrap();
    assert!(!rig.machine().2);
}

#[tokio::test]
async fn a_crash_while_the_desktop_stops_or_starts() {
    for (word, release) in [("stop", false), ("start", true)] {
        let mut rig = Rig::full();
        let home = rig.machine();
        if release {
            rig.bind(vm("gaming")).await.unwrap();
        }
        let dies = format!("systemctl {word} display-manager.service");
        let once = AtomicBool::new(true);
        rig.pci.fake.runner.on(move |command| {
            if command.to_string() == dies && once.swap(false, Ordering::SeqCst) {
                std::panic::resume_unwind(Box::new(crate::pci::fake::Crash));
            }
            None
        });
        assert_eq!(rig.dying(vm("gaming"), release).await, None, "{word}");
        rig.restart().await;
        assert_eq!((rig.machine(), rig.record()), (home, None), "{word}");
    }
}

#[tokio::test]
async fn the_firmwares_screen_leaves_a_card_that_is_on_vfio_already() {
    let rig = Rig::new();
    for function in ["01:00.0", "01:00.1"] {
        rig.pci.attribute(at(function), "driver_override", "vfio-pci\n").unwrap();
        rig.pci.take_over(at(function), Some("vfio-pci")).unwrap();
    }
    rig.pci.plug_firmware_screen(at("01:00.0")).unwrap();
    let plan = rig.pass.plan(&gaming(), false).await.unwrap();
    let words = "unbind the firmware's framebuffer simple-framebuffer.0 from simple-framebuffer";
    assert!(plan.steps.contains(&words.to_owned()), "{plan:?}");
    assert!(rig.bind(vm("gaming")).await.unwrap().changed);
    assert_eq!(rig.pass.plan(&gaming(), false).await.unwrap().steps, [""; 0]);
}

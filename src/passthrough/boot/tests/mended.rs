//! What stands in the way of a setup or a removal, and what a person is told
//! about the cards.

use super::*;
use crate::base::Bytes;
use crate::config::{Firmware, GpuRef};
use crate::pci::fake::FakeDevice;

const LATIN_1: &[u8] = b"# caf\xe9\nGRUB_CMDLINE_LINUX=\"quiet\"\n";

impl Rig {
    /// The same machine with another configuration.
    fn with(&self, change: impl FnOnce(&mut Gpu), vms: Option<&[Vm]>) -> Boot {
        let (name, address) = ("gaming".parse().unwrap(), "01:00.0".parse().unwrap());
        let mut gpu = Gpu { identity: Some((0x1002, 0x5046)), ..Gpu::at(name, address) };
        change(&mut gpu);
        Boot::with_commands(self.pci.fake.host(), vec![gpu], vms, true)
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        self.sys().bytes(path, 1 << 20).unwrap()
    }

    /// GRUB's own, which reads one file.
    fn one_file_grub(&self) {
        self.file("/usr/sbin/grub-mkconfig", "a grub that reads one file");
    }

    fn plug(&self, address: &str, id: (u16, u16), class: u32, group: u32, natural: Option<&str>) {
        let natural = natural.map(str::to_owned);
        let (address, boot_vga) = (address.parse().unwrap(), (class >> 16 == 3).then_some(false));
        let device = FakeDevice { address, id, class, group: Some(group), natural, boot_vga };
        self.pci.plug(&device).unwrap();
    }
}

fn says(list: &[String], what: &str) -> bool {
    list.iter().any(|said| said.contains(what))
}

#[tokio::test]
async fn files_of_any_encoding_keep_their_bytes() {
    let rig = Rig::new();
    rig.one_file_grub();
    rig.pci.fake.file(GRUB_FILE, LATIN_1).unwrap();
    rig.pci.fake.file("/proc/cmdline", b"BOOT_IMAGE=/v \xe9\xff quiet\n").unwrap();
    assert!(rig.boot.setup(&[]).await.unwrap().changed);
    let with = rig.bytes(GRUB_FILE);
    assert!(with.starts_with(LATIN_1) && with.ends_with(b"$GRUB_CMDLINE_LINUX iommu=pt\"\n"));
    assert!(rig.boot.remove().await.unwrap().changed);
    assert_eq!(rig.bytes(GRUB_FILE), LATIN_1);
    // What was kept is what was there, byte for byte, and the first stays the first.
    let kept = rig.pci.fake.host().state.path("boot/kept/etc-default-grub");
    assert_eq!(SysRoot::new("/").bytes(kept, 1 << 20).unwrap(), LATIN_1);
}

#[tokio::test]
async fn a_removal_leaves_alone_what_it_cannot_read_and_does_the_rest() {
    let rig = Rig::new();
    rig.boot.setup(&[]).await.unwrap();
    for path in ["/proc/cmdline", CMDLINE_FILE] {
        let _ = rig.pci.fake.remove(path);
        rig.pci.fake.dir(path).unwrap();
    }
    let refusal = Refusal::from(rig.boot.setup(&[]).await.unwrap_err());
    assert!(refusal.message.contains("/proc/cmdline"), "{}", refusal.message);
    let plan = rig.boot.plan(&[], true).await.unwrap();
    assert!(says(&plan.warnings, "/proc/cmdline"), "{:?}", plan.warnings);
    let done = rig.boot.remove().await.unwrap();
    assert!(done.changed && says(&done.warnings, "it is left alone"), "{done:?}");
    assert!(!rig.sys().exists(RULE) && !rig.sys().exists(GRUB));
    assert_eq!(rig.record(), None);
}

#[tokio::test]
async fn what_a_removal_could_not_reach_stays_on_record() {
    let rig = Rig::new();
    rig.one_file_grub();
    rig.boot.setup(&[]).await.unwrap();
    let edited = rig.text(GRUB_FILE);
    rig.file(GRUB_FILE, &"# too long\n".repeat(1 << 17));
    let refusal = Refusal::from(rig.boot.setup(&[]).await.unwrap_err());
    assert!(refusal.hint.contains("Look at /etc/default/grub"), "{}", refusal.hint);
    let done = rig.boot.remove().await.unwrap();
    assert!(done.changed && done.message.contains("but for /etc/default/grub"), "{done:?}");
    assert!(says(&done.warnings, "what hostd has put there stays"), "{done:?}");
    assert!(!rig.sys().exists(RULE));
    let record = rig.record().unwrap();
    assert!(!record.complete && record.own.is_empty() && record.cards.is_empty(), "{record:?}");
    assert_eq!(record.edited, [GRUB_FILE]);
    rig.file(GRUB_FILE, &edited);
    assert!(rig.boot.remove().await.unwrap().changed);
    assert_eq!((rig.text(GRUB_FILE), rig.record()), (SETTINGS.to_owned(), None));
}

#[tokio::test]
async fn without_its_record_a_removal_knows_its_line() {
    let rig = Rig::new();
    rig.one_file_grub();
    rig.boot.setup(&[]).await.unwrap();
    rig.pci.fake.host().state.remove("boot/setup.json").unwrap();
    assert!(rig.boot.remove().await.unwrap().changed);
    assert_eq!(rig.text(GRUB_FILE), SETTINGS);
}

#[tokio::test]
async fn set_up_again_before_the_reboot_the_words_are_there_again() {
    let rig = Rig::new();
    rig.boot.setup(&[]).await.unwrap();
    rig.rebooted();
    rig.boot.remove().await.unwrap();
    // This kernel still has the words that the next one would lack.
    assert!(rig.text("/proc/cmdline").contains("iommu=pt"));
    rig.boot.setup(&[]).await.unwrap();
    assert!(rig.text(GRUB).contains("iommu=pt"));
}

#[tokio::test]
async fn the_record_stays_while_something_could_not_be_undone() {
    let rig = Rig::new();
    let before = rig.etc();
    rig.fail(2, Fault::Broken);
    let error = rig.boot.setup(&[]).await.unwrap_err();
    assert!(!error.left().is_empty(), "{error:?}");
    assert!(Refusal::from(error).hint.contains("hostctl boot remove"));
    let record = rig.record().unwrap();
    assert!(!record.complete && record.own.iter().any(|own| own.path == RULE), "{record:?}");
    rig.heal();
    assert!(rig.boot.remove().await.unwrap().changed);
    assert_eq!((rig.etc(), rig.record()), (before, None));
}

#[tokio::test]
async fn when_the_owners_text_cannot_be_kept_nothing_was_touched() {
    let rig = Rig::new();
    rig.one_file_grub();
    let before = rig.etc();
    rig.pci.fake.host().state.write("boot/kept", "in the way").unwrap();
    assert!(matches!(rig.boot.setup(&[]).await, Err(BootError::Journal(_))));
    assert_eq!((rig.etc(), rig.record()), (before, None));
}

#[tokio::test]
async fn an_edit_of_grubs_part_does_not_age_the_initramfs() {
    let rig = Rig::new();
    rig.boot.setup(&[]).await.unwrap();
    rig.rebooted();
    assert_eq!(rig.worst().await, []);
    rig.file(GRUB, "# mine\n");
    let worst = rig.worst().await;
    assert!(worst.len() == 1 && worst[0].1.contains("was changed since"), "{worst:?}");
    rig.asked();
    rig.boot.setup(&[]).await.unwrap();
    assert_eq!(rig.asked(), ["update-grub"]);
    assert!(!rig.worst().await.iter().any(|(_, said)| said.starts_with("initramfs")));
}

#[tokio::test]
async fn a_hook_that_may_not_be_run_is_seen_and_mended() {
    let rig = Rig::new();
    rig.boot.setup(&[]).await.unwrap();
    rig.rebooted();
    rig.sys().replace(HOOK, &rig.bytes(HOOK), 0o644).unwrap();
    let worst = rig.worst().await;
    assert!(worst.iter().any(|(_, said)| said.contains("its mode is 644, not 755")), "{worst:?}");
    let plan = rig.boot.plan(&[], false).await.unwrap();
    let diff = format!("diff --git a{HOOK} b{HOOK}\nold mode 100644\nnew mode 100755\n");
    assert_eq!(plan.files.iter().map(|file| file.diff.as_str()).collect::<Vec<_>>(), [diff]);
    rig.boot.setup(&[]).await.unwrap();
    assert_eq!(rig.sys().stamp(HOOK).unwrap().0, 0o755);
}

#[tokio::test]
async fn a_board_is_asked_for_recorded_and_looked_at() {
    let rig = Rig::new();
    let modalias = "/sys/bus/pci/devices/0000:01:00.0/modalias";
    let right = rig.text(modalias).replace("sv00000000sd00000000", "sv00001DA2sd0000E353");
    rig.file(modalias, &right);
    for (name, text) in [("subsystem_vendor", "0x1da2\n"), ("subsystem_device", "0xe353\n")] {
        rig.file(&format!("/sys/bus/pci/devices/0000:01:00.0/{name}"), text);
    }
    let boot = rig.with(|gpu| gpu.subsystem = Some((0x1da2, 0xe353)), Some(&[]));
    boot.setup(&[]).await.unwrap();
    assert!(rig.text(RULE).contains("ATTR{subsystem_device}==\"0xe353\""));
    let card = &rig.record().unwrap().cards[0];
    assert_eq!(card.boards, [("01:00.0".parse().unwrap(), 0x1da2, 0xe353)]);
    assert!(!rig.worst().await.iter().any(|(_, said)| said.starts_with("card")));
    rig.file("/sys/bus/pci/devices/0000:01:00.0/subsystem_device", "0x1111\n");
    let worst = rig.worst().await;
    assert!(worst.iter().any(|(_, said)| said.contains("on the board 1da2:1111")), "{worst:?}");
}

#[tokio::test]
async fn the_last_graphics_card_and_what_goes_dark_are_named() {
    let rig = Rig::new();
    rig.file("/sys/bus/pci/devices/0000:01:00.0/boot_vga", "1\n");
    let plan = rig.boot.plan(&[], false).await.unwrap();
    assert!(says(&plan.warnings, "gaming: it is this machine's only graphics card"), "{plan:?}");
    assert!(says(&plan.warnings, "stays dark for as long as this is set up"), "{plan:?}");
    assert!(!says(&plan.warnings, "comes back"), "{plan:?}");
    rig.plug("03:00.0", (0x1234, 0x1111), 0x03_0000, 13, None);
    let plan = rig.boot.plan(&[], false).await.unwrap();
    assert!(!says(&plan.warnings, "only"), "{plan:?}");
    let both = ["gaming".to_owned(), "03:00.0".to_owned()];
    let plan = rig.boot.plan(&both, false).await.unwrap();
    assert!(says(&plan.warnings, "these are all graphics cards of this machine"), "{plan:?}");
}

#[tokio::test]
async fn slots_that_go_with_a_card_are_judged_too() {
    let rig = Rig::new();
    rig.plug("03:00.0", (0x1912, 0x0014), 0x0c_0330, 13, Some("xhci_hcd"));
    rig.plug("04:00.0", (0x8086, 0x1533), 0x02_0000, 13, Some("igb"));
    let with = |at: &[&str]| at.iter().map(|at| at.parse().unwrap()).collect::<Vec<_>>();
    let boot = rig.with(|gpu| gpu.with = with(&["03:00.0", "05:00.0"]), Some(&[]));
    let plan = boot.plan(&[], false).await.unwrap();
    assert_eq!(plan.gpus[0].functions.len(), 3, "{plan:?}");
    assert!(says(&plan.warnings, "0000:05:00.0 (under `with`) is not there"), "{plan:?}");
    assert!(says(&plan.warnings, "0000:04:00.0"), "{plan:?}");
}

#[tokio::test]
async fn a_card_that_moved_is_taken_where_it_is() {
    let rig = Rig::new();
    for function in ["01:00.0", "01:00.1"] {
        rig.pci.unplug(function.parse().unwrap()).unwrap();
    }
    rig.plug("05:00.0", (0x1002, 0x5046), 0x03_0000, 15, None);
    rig.boot.plan(&[], false).await.unwrap_err();
    let boot = rig.with(|gpu| gpu.follow = true, Some(&[]));
    let plan = boot.plan(&[], false).await.unwrap();
    assert!(says(&plan.warnings, "0000:05:00.0 now"), "{plan:?}");
    boot.setup(&[]).await.unwrap();
    assert!(rig.text(RULE).contains("KERNEL==\"0000:05:00.0\""));
}

#[tokio::test]
async fn vga_is_only_given_up_when_every_guest_is_known() {
    let uefi = Vm {
        firmware: Firmware::Ovmf { code: "".into(), vars: "".into(), secure: false },
        gpu: Some(GpuRef::Name("gaming".parse().unwrap())),
        ..Vm::plain("windows".parse().unwrap(), Bytes(0))
    };
    let rig = Rig::new();
    rig.with(|_| {}, Some(std::slice::from_ref(&uefi))).setup(&[]).await.unwrap();
    assert!(rig.text(MODPROBE).contains("disable_vga=1"));
    let bios = Vm { firmware: Firmware::Seabios { log: false }, ..uefi.clone() };
    rig.with(|_| {}, Some(&[uefi, bios])).setup(&[]).await.unwrap();
    assert!(!rig.text(MODPROBE).contains("disable_vga"));
    let plan = rig.with(|_| {}, None).plan(&[], false).await.unwrap();
    assert!(says(&plan.warnings, "disable_vga=1 is left out"), "{plan:?}");
    assert!(plan.files.is_empty(), "{plan:?}");
}

#[tokio::test]
async fn a_command_line_that_cannot_be_read_is_a_finding() {
    let rig = Rig::new();
    rig.pci.fake.remove("/proc/cmdline").unwrap();
    rig.pci.fake.dir("/proc/cmdline").unwrap();
    assert!(rig.boot.status().await.safe_mode);
    let worst = rig.worst().await;
    assert_eq!(worst[0].0, Severity::Unknown);
    assert!(worst[0].1.contains("/proc/cmdline"), "{worst:?}");
}

//! What is refused, in which words, and that nothing was touched.

use super::*;
use crate::ask::{Code, Refusal};
use crate::pci::fake::FakeDevice;

async fn refused(rig: &Rig) -> PassthroughError {
    let error = rig.bind(Owner::Person).await.unwrap_err();
    assert!(rig.pci.writes().is_empty(), "nothing is touched");
    assert_eq!(rig.record(), None);
    error
}

fn neighbour(address: &str, class: u32, driver: &str) -> FakeDevice {
    FakeDevice {
        address: at(address),
        id: (0x8086, 0x100e),
        class,
        group: Some(11),
        natural: Some(driver.to_owned()),
        boot_vga: None,
    }
}

#[tokio::test]
async fn another_card_is_refused_and_the_moved_one_found() {
    let rig = Rig::empty();
    let mut other = neighbour("01:00.0", 0x03_0000, "nouveau");
    other.id = (0x10de, 0x1b80);
    rig.pci.plug(&other).unwrap();
    let error = refused(&rig).await;
    let said = "gaming: the device at 0000:01:00.0 is 10de:1b80, not 1002:5046 as configured";
    assert_eq!(error.to_string(), said);
    let mut moved = neighbour("02:00.0", 0x03_0000, "aty128fb");
    moved.id = (0x1002, 0x5046);
    rig.pci.plug(&moved).unwrap();
    let error = refused(&rig).await;
    assert!(error.hint().contains("is at 0000:02:00.0"), "{}", error.hint());
    assert!(rig.gpu().await.problems[0].contains("10de:1b80"));
}

#[tokio::test]
async fn an_empty_slot_is_not_found() {
    let error = refused(&Rig::empty()).await;
    assert_eq!(error.to_string(), "gaming: there is no device at 0000:01:00.0");
    assert_eq!(Refusal::from(error).code, Code::NotFound);
}

#[tokio::test]
async fn each_device_in_the_way_is_named() {
    let rig = Rig::new();
    rig.pci.plug(&neighbour("02:00.0", 0x02_0000, "e1000")).unwrap();
    rig.pci.plug(&neighbour("03:00.0", 0x0c_0330, "xhci_hcd")).unwrap();
    let refusal = Refusal::from(refused(&rig).await);
    assert_eq!(refusal.code, Code::Refused);
    for word in ["0000:02:00.0", "driver e1000", "0000:03:00.0", "xhci_hcd/unbind"] {
        assert!(refusal.message.contains(word), "{word}: {}", refusal.message);
    }
    assert!(refusal.hint.contains("a slot with a group of its own"), "{}", refusal.hint);
    assert!(!refusal.message.contains("01:00.1"), "its own functions are not in the way");
    let planned = rig.pass.plan(&gaming(), false).await.unwrap_err();
    assert!(matches!(planned, PassthroughError::Blocked { .. }));
    // Without drivers they no longer are.
    rig.pci.take_over(at("02:00.0"), None).unwrap();
    rig.pci.take_over(at("03:00.0"), Some("vfio-pci")).unwrap();
    assert!(rig.bind(Owner::Person).await.unwrap().changed);
}

#[tokio::test]
async fn no_iommu_says_what_to_turn_on() {
    let rig = Rig::empty();
    let mut card = neighbour("01:00.0", 0x03_0000, "aty128fb");
    (card.id, card.group) = ((0x1002, 0x5046), None);
    rig.pci.plug(&card).unwrap();
    rig.pci.fake.file("/proc/cpuinfo", "vendor_id : GenuineIntel\n").unwrap();
    rig.pci.fake.file("/proc/cmdline", "quiet intel_iommu=on\n").unwrap();
    rig.pci.fake.dir("/sys/firmware/acpi/tables").unwrap();
    let error = refused(&rig).await;
    assert_eq!(error.to_string(), "gaming: no IOMMU isolates it: firmware does not offer VT-d");
    assert!(error.hint().contains("Turn on `Intel VT-d`"), "{}", error.hint());
}

#[tokio::test]
async fn only_graphics_cards_go_by_address() {
    let rig = Rig::new();
    let mut disk = neighbour("05:00.0", 0x01_0802, "nvme");
    disk.group = Some(20);
    rig.pci.plug(&disk).unwrap();
    for address in ["05:00.0", "00:02.0"] {
        let gpu = rig.pass.resolve_gpu(Some(address)).unwrap();
        let error = rig.pass.bind(&gpu, Owner::Person).await.unwrap_err();
        assert!(matches!(error, PassthroughError::NotDisplay { .. }), "{error}");
    }
    assert!(rig.pci.writes().is_empty());
}

#[tokio::test]
async fn a_vm_gets_disk_controllers_and_nothing_else_as_such() {
    let rig = Rig::new();
    let mut disk = neighbour("05:00.0", 0x01_0802, "nvme");
    disk.group = Some(20);
    rig.pci.plug(&disk).unwrap();
    let vm = || Owner::Vm("win".parse().unwrap());
    let error = rig.pass.bind_storage("00:02.0".parse().unwrap(), vm()).await.unwrap_err();
    assert!(matches!(error, PassthroughError::NotStorage { .. }), "{error}");
    assert!(error.hint().contains("under `disks`"), "{}", error.hint());
    assert!(rig.pci.writes().is_empty());
    let address = "05:00.0".parse().unwrap();
    let bound = rig.pass.bind_storage(address, vm()).await.unwrap();
    assert_eq!(bound.functions, [address]);
    let released = rig.pass.release(&GpuRef::Address(address), vm()).await.unwrap();
    assert!(released.changed);
}

#[tokio::test]
async fn names_are_resolved_or_refused() {
    let rig = Rig::new();
    assert_eq!(rig.pass.resolve_gpu(None).unwrap(), gaming());
    assert_eq!(rig.pass.resolve_gpu(Some("gaming")).unwrap(), gaming());
    let error = rig.pass.resolve_gpu(Some("gamign")).unwrap_err();
    assert_eq!(error.to_string(), "there is no graphics card `gamign`");
    assert_eq!(error.hint(), "Configured are: gaming");
    let none = Passthrough::new(rig.pci.host(), Vec::new());
    assert_eq!(none.resolve_gpu(None).unwrap_err().to_string(), "no graphics card is configured");
    assert!(none.bind(&gaming(), Owner::Person).await.is_err());
}

#[tokio::test]
async fn a_module_that_cannot_be_loaded_leaves_all_as_it_was() {
    let rig = Rig::new();
    rig.pci.fake.runner.on(|_| {
        let stderr = b"modprobe: FATAL: Module vfio-pci not found".to_vec();
        let exit = crate::host::run::Exit::Code(1);
        Some(Ok(crate::host::run::Output { exit, stdout: Vec::new(), stderr }))
    });
    let refusal = Refusal::from(refused(&rig).await);
    assert!(refusal.message.contains("Module vfio-pci not found"), "{}", refusal.message);
    assert!(refusal.hint.starts_with("All is as it was"), "{}", refusal.hint);
    assert_eq!(rig.state(), at_home());
}

#[tokio::test]
async fn a_corrupt_record_is_not_the_same_as_none() {
    let mut rig = Rig::new();
    let state = rig.pci.host().state;
    state.write("passthrough/0000:01:00.0.json", "{ half a rec").unwrap();
    let error = rig.bind(Owner::Person).await.unwrap_err();
    let refusal = Refusal::from(&error);
    assert!(refusal.message.contains("is corrupt"), "{}", refusal.message);
    assert!(refusal.hint.contains("0000:01:00.0.json"), "{}", refusal.hint);
    assert!(rig.gpu().await.problems[0].contains("corrupt"));
    assert!(rig.restart().await[0].contains("corrupt"));
    assert_eq!(rig.state(), at_home());
}

#[tokio::test]
async fn without_a_boot_id_nothing_is_touched() {
    let rig = Rig::new();
    rig.pci.fake.remove("/proc/sys/kernel/random/boot_id").unwrap();
    let error = refused(&rig).await;
    assert!(matches!(error, PassthroughError::BootId { .. }), "{error}");
}

#[tokio::test]
async fn without_a_journal_nothing_is_touched() {
    let rig = Rig::new();
    // A file where the folder should be.
    rig.pci.host().state.write("passthrough", "").unwrap();
    let error = rig.bind(Owner::Person).await.unwrap_err();
    assert!(matches!(error, PassthroughError::Journal { .. }), "{error}");
    assert!(rig.pci.writes().is_empty());
    assert!(!rig.gpu().await.problems.is_empty());
}

#[tokio::test]
async fn hostd_safe_keeps_every_card_on_the_host() {
    let rig = Rig::new();
    rig.pci.fake.file("/proc/cmdline", "root=/dev/sda1 quiet hostd.safe\n").unwrap();
    let error = refused(&rig).await;
    assert_eq!(
        error.to_string(),
        "gaming: nothing is bound: hostd.safe is on the kernel command line"
    );
    let refusal = Refusal::from(&error);
    assert_eq!(refusal.code, Code::Refused);
    assert!(refusal.hint.contains("reboot"), "{}", refusal.hint);
    rig.pci.fake.file("/proc/cmdline", "quiet hostd.safe=0\n").unwrap();
    assert!(rig.bind(Owner::Person).await.unwrap().changed);
    // What is bound can always be given back.
    rig.pci.fake.file("/proc/cmdline", "quiet hostd.safe\n").unwrap();
    assert!(rig.release(Owner::Person).await.unwrap().changed);
}

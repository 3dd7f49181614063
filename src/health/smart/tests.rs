//! Whole rounds on a fake machine: sysfs, a stand-in for `smartctl`, a clock.

use std::time::Duration;

use super::judge::{Facts, Standing, judge};
use super::memory::Record;
use super::observer::Observer;
use super::parse::Counter;
use super::read::{Answer, answer};
use crate::ask::view::{DiskView, DisksView};
use crate::base::Severity;
use crate::config;
use crate::host::fake::FakeHost;
use crate::host::run::{Exit, Output};

use super::find::{Disk, Transport};

const WELL: &str = include_str!("../../../tests/fixtures/smart/ata-well.json");
const PENDING: &str = include_str!("../../../tests/fixtures/smart/ata-pending.json");
const FAILING: &str = include_str!("../../../tests/fixtures/smart/ata-failing.json");
const STANDBY: &str = include_str!("../../../tests/fixtures/smart/ata-standby.json");
const SSD: &str = include_str!("../../../tests/fixtures/smart/ata-ssd.json");
const NVME: &str = include_str!("../../../tests/fixtures/smart/nvme-well.json");
const NVME_WORN: &str = include_str!("../../../tests/fixtures/smart/nvme-worn.json");
const NVME_CRITICAL: &str = include_str!("../../../tests/fixtures/smart/nvme-critical.json");
const SAS: &str = include_str!("../../../tests/fixtures/smart/sas-defects.json");
const UNKNOWN: &str = include_str!("../../../tests/fixtures/smart/unknown-device.json");
const DENIED: &str = include_str!("../../../tests/fixtures/smart/denied.json");

const INTERVAL: Duration = Duration::from_secs(600);

fn output(code: i32, stdout: &str) -> Output {
    Output { exit: Exit::Code(code), stdout: stdout.into(), stderr: Vec::new() }
}

/// The code, severity and message of all that is found in one answer.
fn found(disk: &Disk, code: i32, stdout: &str) -> Vec<String> {
    let Answer::Told(smart) = answer(&output(code, stdout)) else {
        panic!("{stdout} tells nothing");
    };
    let now = crate::base::Timestamp::from_secs(1_795_000_000);
    let mut record = Record::default();
    record.observe(&smart, now);
    let standing = &Standing::Told;
    let facts = Facts { disk, standing, record: Some(&record), now, was_hot: false };
    let line =
        |f: crate::ask::view::FindingView| format!("{} {}: {}", f.severity, f.code, f.message);
    judge(&facts).into_iter().map(line).collect()
}

fn disk(name: &str, transport: Transport) -> Disk {
    Disk { name: name.into(), transport, rotational: Some(name == "sdc"), ..Disk::default() }
}

#[test]
fn every_fixture_is_judged() {
    let (ata, ssd) = (disk("sdc", Transport::Sata), disk("sda", Transport::Sata));
    let (nvme, sas) = (disk("nvme0n1", Transport::Nvme), disk("sdc", Transport::Sas));
    let cases = [
        ("ata-well", &ata, 0, WELL),
        ("ata-pending", &ata, 0, PENDING),
        ("ata-failing", &ata, 24, FAILING),
        ("ata-ssd", &ssd, 0, SSD),
        ("nvme-well", &nvme, 0, NVME),
        ("nvme-worn", &nvme, 0, NVME_WORN),
        ("nvme-critical", &nvme, 8, NVME_CRITICAL),
        ("sas-defects", &sas, 0, SAS),
    ];
    let mut all = String::new();
    for (name, disk, code, text) in cases {
        all = format!("{all}## {name}\n{}\n", found(disk, code, text).join("\n"));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn an_end_of_smartctl_means_one_thing() {
    assert_eq!(answer(&output(5, STANDBY)), Answer::Asleep);
    // Versions that say nothing in JSON.
    assert_eq!(answer(&output(5, "")), Answer::Asleep);
    assert!(matches!(answer(&output(1, UNKNOWN)), Answer::NotSupported(_)));
    assert_eq!(answer(&output(2, DENIED)), Answer::Denied);
    assert!(matches!(answer(&output(0, "{}")), Answer::Failed(_)));
    assert!(matches!(answer(&output(0, "smartctl 6.6")), Answer::Failed(_)));
    let off = r#"{"smart_support":{"available":true,"enabled":false}}"#;
    assert_eq!(answer(&output(4, off)), Answer::Off);
    let none = r#"{"smart_support":{"available":false}}"#;
    assert!(matches!(answer(&output(4, none)), Answer::NotSupported(_)));
    let killed = Output { exit: Exit::Signal(9), ..output(0, WELL) };
    assert!(matches!(answer(&killed), Answer::Failed(_)));
}

#[test]
fn numbers_are_read_as_the_drive_database_sees_them() {
    let Answer::Told(smart) = answer(&output(0, WELL)) else { panic!() };
    assert_eq!((smart.hours, smart.temperature), (Some(31_000), Some(34.0)));
    // 0x1_0001_0000: three counts of 16 bits.
    assert_eq!(smart.counters[&Counter::Timeout], 0);
    assert_eq!(smart.serial, "ZA1ABCDE");
    let Answer::Told(smart) = answer(&output(0, NVME)) else { panic!() };
    assert_eq!((smart.worn, smart.spare), (Some(0.03), Some((100, 10))));
    assert_eq!(smart.limits, (Some(82.0), Some(85.0)));
}

#[test]
fn heat_is_told_by_its_own_limits_and_not_at_every_degree() {
    let at = |degrees: &str| {
        NVME.replace("\"temperature\": 41", degrees).replace("\"current\": 41", "\"current\": 83")
    };
    let nvme = disk("nvme0n1", Transport::Nvme);
    let told = found(&nvme, 0, &at("\"temperature\": 83"));
    assert_eq!(told, ["warning too-hot: it is at 83 °C; its limit is 82 °C"]);
    let hot = WELL.replace("\"current\": 34", "\"current\": 66");
    let spinning = disk("sdc", Transport::Sata);
    assert_eq!(found(&spinning, 0, &hot), ["critical too-hot: it is at 66 °C; its limit is 65 °C"]);
    let Answer::Told(smart) =
        answer(&output(0, &WELL.replace("\"current\": 34", "\"current\": 58")))
    else {
        panic!()
    };
    let record = Record { smart: *smart, ..Record::default() };
    let (standing, now) = (&Standing::Told, crate::base::Timestamp::from_secs(0));
    let judged = |was_hot| {
        let facts = Facts { disk: &spinning, standing, record: Some(&record), now, was_hot };
        judge(&facts).len()
    };
    assert_eq!((judged(false), judged(true)), (0, 1));
}

const SDC: &str = "/sys/devices/pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0/block/sdc";
const NVME0: &str = "/sys/devices/pci0000:00/0000:04:00.0/nvme/nvme0/nvme0n1";

/// A SATA disk in an enclosure, an NVMe disk, a virtual one, and what is none.
fn machine(fake: &FakeHost) {
    let file = |path: String, text: &str| fake.file(&path, text).unwrap();
    for (name, folder, size) in [
        ("sdc", SDC, "15628053168\n"),
        ("nvme0n1", NVME0, "3907029168\n"),
        ("vda", "/sys/devices/pci0000:00/0000:00:02.0/virtio1/block/vda", "2097152\n"),
        ("loop0", "/sys/devices/virtual/block/loop0", "0\n"),
        ("sdx", "/sys/devices/pci0000:00/0000:00:14.0/usb1/1-2/host9/block/sdx", "0\n"),
    ] {
        file(format!("{folder}/size"), size);
        file(format!("{folder}/stat"), "1 0 8 0 1 0 8 0 0 0 0\n");
        file(format!("/dev/{name}"), "");
        fake.link(&format!("/sys/block/{name}"), folder).unwrap();
    }
    let scsi = "/sys/devices/pci0000:00/0000:00:17.0/ata3/host2/target2:0:0/2:0:0:0";
    fake.link(&format!("{SDC}/device"), scsi).unwrap();
    file(format!("{scsi}/vendor"), "ATA     \n");
    file(format!("{scsi}/model"), "ST8000VN004-2M21\n");
    fake.file(&format!("{scsi}/vpd_pg80"), b"\x00\x80\x00\x08ZA1ABCDE").unwrap();
    file(format!("{scsi}/enclosure_device:Slot 03/slot"), "3\n");
    file(format!("{SDC}/queue/rotational"), "1\n");
    file(format!("{SDC}/sdc1/partition"), "1\n");
    fake.link("/dev/disk/by-id/wwn-0x5000c500a2-part1", "/dev/sdc1").unwrap();
    fake.link("/dev/disk/by-label/tank", "/dev/sdc1").unwrap();
    fake.link(&format!("{NVME0}/device"), "/sys/devices/pci0000:00/0000:04:00.0/nvme/nvme0")
        .unwrap();
    let controller = "/sys/devices/pci0000:00/0000:04:00.0/nvme/nvme0";
    file(format!("{controller}/model"), "Samsung SSD 990 PRO 2TB                 \n");
    file(format!("{controller}/serial"), "S7ABC               \n");
    file(format!("{controller}/hwmon4/temp1_max"), "81850\n");
}

fn says(fake: &FakeHost, disk: &str, code: i32, text: &'static str) {
    let path = format!("/dev/{disk}");
    fake.runner.on(move |command| {
        let words = command.to_string();
        (words.starts_with("smartctl ") && words.ends_with(&path)).then(|| Ok(output(code, text)))
    });
}

fn of<'a>(view: &'a DisksView, name: &str) -> &'a DiskView {
    view.disks.iter().find(|disk| disk.name == name).unwrap()
}

fn asked(fake: &FakeHost) -> Vec<String> {
    fake.runner.asked().iter().map(ToString::to_string).collect()
}

/// Lets a time pass as the daemon would, and says which commands were run.
async fn pass(
    fake: &FakeHost,
    observer: &mut Observer,
    span: Duration,
) -> (DisksView, Vec<String>) {
    let mut view = observer.round().await;
    let mut left = span;
    while left > Duration::ZERO {
        let step = observer.pause().min(left);
        fake.clock.advance(step);
        left -= step;
        view = observer.round().await;
    }
    (view, asked(fake))
}

#[tokio::test]
async fn disks_are_found_asked_and_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    machine(&fake);
    says(&fake, "sdc", 0, WELL);
    says(&fake, "nvme0n1", 0, NVME);
    let mut observer = Observer::new(fake.host(), config::Disks::default());
    let (view, commands) = pass(&fake, &mut observer, Duration::from_secs(10)).await;
    assert_eq!(
        commands,
        [
            "smartctl --json=c -i -H -A -l selftest -d nvme /dev/nvme0n1",
            "smartctl --json=c -i -H -A -l selftest -n standby,5 -d sat /dev/sdc",
        ]
    );
    let names: Vec<_> = view.disks.iter().map(|disk| disk.name.as_str()).collect();
    assert_eq!(names, ["nvme0n1", "sdc", "vda"]);
    let sdc = of(&view, "sdc");
    assert_eq!((sdc.slot.as_str(), sdc.transport.as_str()), ("slot 3", "sata"));
    assert_eq!((sdc.model.as_str(), sdc.serial.as_str()), ("ST8000VN004-2M2101", "ZA1ABCDE"));
    assert_eq!((sdc.health, sdc.power.as_str()), (Severity::Ok, "active"));
    assert_eq!(sdc.links, ["/dev/sdc", "/dev/sdc1", "/dev/disk/by-id/wwn-0x5000c500a2-part1"]);
    let nvme = of(&view, "nvme0n1");
    assert_eq!((nvme.slot.as_str(), nvme.temperature), ("PCI 0000:04:00.0", Some(41.0)));
    assert_eq!(of(&view, "vda").findings[0].code, "not-supported");

    // More of it, a day later, after a restart of hostd.
    fake.clock.advance(Duration::from_secs(24 * 3600));
    says(&fake, "sdc", 0, PENDING);
    let mut observer = Observer::new(fake.host(), config::Disks::default());
    let (view, _) = pass(&fake, &mut observer, Duration::from_secs(10)).await;
    let said: Vec<_> = of(&view, "sdc").findings.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(
        said,
        [
            "8 pending sectors, 8 more than a day ago",
            "24 reallocated sectors, 24 more than a day ago"
        ]
    );
}

#[tokio::test]
async fn a_sleeping_disk_is_not_woken_and_keeps_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    machine(&fake);
    says(&fake, "sdc", 5, STANDBY);
    says(&fake, "nvme0n1", 0, NVME);
    let mut observer = Observer::new(fake.host(), config::Disks::default());
    let (view, _) = pass(&fake, &mut observer, Duration::from_secs(10)).await;
    let sdc = of(&view, "sdc");
    // Never read: not fine.
    assert_eq!((sdc.health, sdc.power.as_str()), (Severity::Unknown, "standby"));
    assert_eq!(sdc.findings[0].code, "not-asked");

    says(&fake, "sdc", 0, PENDING);
    fake.file(&format!("{SDC}/stat"), "9 0 8 0 1 0 8 0 0 0 0\n").unwrap();
    pass(&fake, &mut observer, 2 * INTERVAL).await;
    says(&fake, "sdc", 5, STANDBY);
    fake.file(&format!("{SDC}/stat"), "10 0 8 0 1 0 8 0 0 0 0\n").unwrap();
    let (view, _) = pass(&fake, &mut observer, 2 * INTERVAL).await;
    let sdc = of(&view, "sdc");
    assert_eq!((sdc.health, sdc.temperature), (Severity::Warning, None));
    let codes: Vec<_> = sdc.findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["sectors-pending", "not-asked", "sectors-reallocated"]);

    // One that the kernel has put to sleep is not even asked whether it sleeps.
    fake.file(&format!("{SDC}/device/power/runtime_status"), "suspended\n").unwrap();
    fake.file(&format!("{SDC}/stat"), "11 0 8 0 1 0 8 0 0 0 0\n").unwrap();
    let (view, commands) = pass(&fake, &mut observer, 12 * INTERVAL).await;
    assert!(!commands.iter().any(|command| command.ends_with("sdc")), "{commands:?}");
    assert_eq!(of(&view, "sdc").power, "standby");
}

#[tokio::test]
async fn a_disk_that_nobody_uses_is_let_fall_asleep() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    machine(&fake);
    says(&fake, "sdc", 0, WELL);
    says(&fake, "nvme0n1", 0, NVME);
    let mut observer = Observer::new(fake.host(), config::Disks::default());
    pass(&fake, &mut observer, Duration::from_secs(10)).await;
    let (_, commands) = pass(&fake, &mut observer, 6 * INTERVAL).await;
    let of = |name: &str| commands.iter().filter(|command| command.ends_with(name)).count();
    assert!((5..=7).contains(&of("nvme0n1")), "{commands:?}");
    assert!(of("sdc") <= 1, "{commands:?}");
}

#[tokio::test]
async fn without_smartctl_one_note_is_made_and_nothing_is_called_fine() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    machine(&fake);
    let mut observer = Observer::new(fake.host(), config::Disks::default());
    let (view, commands) = pass(&fake, &mut observer, Duration::from_secs(300)).await;
    assert_eq!(commands.len(), 1, "{commands:?}");
    assert_eq!(view.notes.len(), 1);
    assert!(observer.barred().unwrap().contains("smartmontools"));
    let sdc = of(&view, "sdc");
    assert_eq!((sdc.health, sdc.findings.len()), (Severity::Unknown, 0));
    // Installed meanwhile.
    says(&fake, "sdc", 0, WELL);
    says(&fake, "nvme0n1", 0, NVME);
    let (view, _) = pass(&fake, &mut observer, 2 * INTERVAL).await;
    assert_eq!((of(&view, "sdc").health, view.notes.len()), (Severity::Ok, 0));
}

#[tokio::test]
async fn a_disk_is_left_alone_on_request_and_on_another_machine() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    machine(&fake);
    fake.remove("/dev/nvme0n1").unwrap();
    let config = config::Disks { ignore: vec!["ZA1ABCDE".into()], ..config::Disks::default() };
    let mut observer = Observer::new(fake.host(), config);
    let (view, commands) = pass(&fake, &mut observer, INTERVAL).await;
    assert!(commands.is_empty(), "{commands:?}");
    assert_eq!(of(&view, "sdc").findings[0].code, "ignored");
    assert_eq!(of(&view, "nvme0n1").health, Severity::Unknown);
    // One that is pulled goes at once.
    fake.remove("/sys/block/sdc").unwrap();
    observer.poke();
    assert_eq!(observer.round().await.disks.len(), 2);
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_is_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    machine(&fake);
    says(
        &fake,
        "sdc",
        2,
        r#"{"smartctl":{"messages":[{"string":"Read Device Identity failed"}]}}"#,
    );
    says(&fake, "nvme0n1", 0, NVME);
    let mut observer = Observer::new(fake.host(), config::Disks::default());
    let (view, _) = pass(&fake, &mut observer, Duration::from_secs(10)).await;
    let sdc = of(&view, "sdc");
    assert_eq!((sdc.health, sdc.findings[0].code.as_str()), (Severity::Unknown, "not-read"));
    assert!(sdc.findings[0].message.contains("Read Device Identity failed"));
}

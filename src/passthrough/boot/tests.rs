//! The boot-time setup as a whole, on a fake Debian with the lab's card.

mod mended;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::files::{GRUB, HOOK, MODPROBE, RULE};
use super::words::{CMDLINE_FILE, GRUB_FILE};
use super::*;
use crate::ask::{Code, Refusal};
use crate::base::{PciAddress, Severity};
use crate::host::fake::FakeHost;
use crate::host::run::{Exit, Output};
use crate::host::sys::{Kind, WriteHook};
use crate::host::{Store, SysRoot};
use crate::pci::fake::FakePci;

/// What a write or a removal of a file does instead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Full,
    /// From this one on, every one.
    Broken,
    Crash,
}

/// A disk that fails at one file.
#[derive(Default)]
struct Disk {
    at: Mutex<Option<(usize, Fault)>>,
    count: AtomicUsize,
}

impl WriteHook for Disk {
    fn write(&self, _: &SysRoot, _: &Path, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn replacing(&self, _: &Path) -> io::Result<()> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let fault = self
            .at
            .lock()
            .unwrap()
            .filter(|(at, fault)| *at == number || (*fault == Fault::Broken && number > *at));
        match fault.map(|(_, fault)| fault) {
            None => Ok(()),
            Some(Fault::Full | Fault::Broken) => Err(io::Error::from_raw_os_error(libc::ENOSPC)),
            Some(Fault::Crash) => std::panic::resume_unwind(Box::new("crash")),
        }
    }
}

struct Rig {
    _dir: tempfile::TempDir,
    pci: FakePci,
    disk: Arc<Disk>,
    /// What the failing command is, if any, and whether it fails every time.
    failing: Arc<Mutex<Option<(&'static str, bool)>>>,
    boot: Boot,
}

const CMDLINE: &str = "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n";
const SETTINGS: &str = "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n";
const LOG: &str = "[ 0.0] Linux version 6.12\n[ 1.0] vfio-pci 0000:01:00.0: vgaarb: x\n";

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let pci = FakePci::new(Arc::new(FakeHost::new(dir.path()))).unwrap();
        pci.plug_lab_card().unwrap();
        let fake = Arc::clone(&pci.fake);
        for (path, text) in [
            ("/proc/cmdline", CMDLINE),
            ("/proc/cpuinfo", "vendor_id\t: GenuineIntel\n"),
            ("/proc/sys/kernel/osrelease", "6.12-amd64\n"),
            (GRUB_FILE, SETTINGS),
            ("/usr/sbin/update-grub", ""),
            ("/usr/sbin/grub-mkconfig", "${sysconfdir}/default/grub.d/*.cfg"),
            ("/usr/sbin/update-initramfs", ""),
            ("/usr/share/initramfs-tools/hook-functions", ""),
            ("/etc/initramfs-tools/hooks/other", "other"),
            (
                "/lib/modules/6.12-amd64/modules.alias",
                "alias pci:v00001002d00005046sv*sd*bc*sc*i* aty128fb\nalias pci:v*d*sv*sd*bc04sc03i00* snd_hda_intel\n",
            ),
            (
                "/sys/bus/pci/devices/0000:01:00.0/modalias",
                "pci:v00001002d00005046sv00000000sd00000000bc03sc00i00\n",
            ),
            (
                "/sys/bus/pci/devices/0000:01:00.1/modalias",
                "pci:v00008086d00002668sv00000000sd00000000bc04sc03i00\n",
            ),
        ] {
            fake.file(path, text).unwrap();
        }
        for folder in ["/etc/udev/rules.d", "/etc/modprobe.d"] {
            fake.dir(folder).unwrap();
        }
        let failing: Arc<Mutex<Option<(&'static str, bool)>>> = Arc::default();
        let (fails, place) = (Arc::clone(&failing), Arc::clone(&fake));
        fake.runner.on(move |command| {
            let text = command.to_string();
            if text.starts_with("update-initramfs") {
                place.file("/boot/initrd.img-6.12-amd64", "").unwrap();
            } else if !text.starts_with("update-grub") && !text.starts_with("kernel-install") {
                return None;
            }
            let mut fails = fails.lock().unwrap();
            let fail = fails.is_some_and(|(begins, _)| text.starts_with(begins));
            if fail && fails.is_some_and(|(_, always)| !always) {
                *fails = None;
            }
            let (stdout, stderr) = (Vec::new(), b"no space left".to_vec());
            Some(Ok(Output { exit: Exit::Code(i32::from(fail)), stdout, stderr }))
        });
        fake.runner.says("dmesg", LOG);
        let disk = Arc::new(Disk::default());
        let boot = Self::handle(&pci, &disk, true);
        Self { _dir: dir, pci, disk, failing, boot }
    }

    fn handle(pci: &FakePci, disk: &Arc<Disk>, commands: bool) -> Boot {
        let mut host = pci.fake.host();
        host.sys = host.sys.with_hook(Arc::clone(disk) as Arc<dyn WriteHook>);
        let (name, address) = ("gaming".parse().unwrap(), "01:00.0".parse().unwrap());
        let gpu = Gpu { identity: Some((0x1002, 0x5046)), ..Gpu::at(name, address) };
        Boot::with_commands(host, vec![gpu], Some(&[]), commands)
    }

    fn sys(&self) -> SysRoot {
        self.pci.fake.host().sys
    }

    fn file(&self, path: &str, text: &str) {
        self.pci.fake.file(path, text).unwrap();
    }

    fn text(&self, path: &str) -> String {
        String::from_utf8(self.sys().bytes(path, 1 << 20).unwrap()).unwrap()
    }

    /// Every file and folder below `/etc`, with text and mode.
    fn etc(&self) -> BTreeMap<String, Option<(String, u32)>> {
        let (sys, mut all, mut folders) = (self.sys(), BTreeMap::new(), vec!["/etc".to_owned()]);
        while let Some(folder) = folders.pop() {
            for name in sys.list(&folder).unwrap() {
                let path = format!("{folder}/{name}");
                if sys.kind(&path).unwrap() == Kind::Folder {
                    folders.push(path.clone());
                    all.insert(path, None);
                } else {
                    let mode = sys.stamp(&path).unwrap().0;
                    all.insert(path.clone(), Some((self.text(&path), mode)));
                }
            }
        }
        all
    }

    fn record(&self) -> Option<Setup> {
        Journal::new(&self.pci.fake.host()).load().unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.pci.fake.runner.asked().iter().map(ToString::to_string).collect()
    }

    fn fail(&self, at: usize, fault: Fault) {
        self.disk.count.store(0, Ordering::SeqCst);
        *self.disk.at.lock().unwrap() = Some((at, fault));
    }

    fn heal(&self) {
        *self.disk.at.lock().unwrap() = None;
    }

    /// Restarted with what was set up: the words are there, the rule has worked.
    fn rebooted(&self) {
        self.pci.reboot("22222222-2222-4222-8222-222222222222").unwrap();
        self.file("/proc/cmdline", "BOOT_IMAGE=/vmlinuz quiet iommu=pt\n");
        for address in ["01:00.0", "01:00.1"] {
            let at: PciAddress = address.parse().unwrap();
            self.pci.take_over(at, Some("vfio-pci")).unwrap();
        }
    }

    async fn worst(&self) -> Vec<(Severity, String)> {
        let checks = self.boot.status().await.checks.into_iter();
        checks
            .filter(|check| check.severity != Severity::Ok)
            .map(|check| (check.severity, format!("{}: {}", check.code, check.message)))
            .collect()
    }
}

const BOTH: [&str; 2] = ["update-initramfs -u -k all", "update-grub"];
/// Files that a setup writes here: rule, modprobe, hook, GRUB's.
const WRITES: usize = 4;

#[tokio::test]
async fn a_plan_is_a_patch_and_touches_nothing() {
    let rig = Rig::new();
    let before = rig.etc();
    let plan = rig.boot.plan(&[], false).await.unwrap();
    insta::assert_json_snapshot!("plan", plan);
    assert_eq!((rig.etc(), rig.record(), rig.asked().len()), (before, None, 0));
    assert!(rig.boot.plan(&[], true).await.unwrap().files.is_empty());
}

#[tokio::test]
async fn there_twice_and_back_twice() {
    let rig = Rig::new();
    let before = rig.etc();
    assert!(rig.boot.setup(&[]).await.unwrap().changed);
    assert_eq!(rig.asked(), BOTH);
    assert_eq!(rig.sys().stamp(HOOK).unwrap().0, 0o755);
    assert_eq!(rig.sys().stamp(RULE).unwrap().0, 0o644);
    assert!(rig.text(GRUB).contains("$GRUB_CMDLINE_LINUX iommu=pt"), "{}", rig.text(GRUB));
    let there = rig.etc();
    let again = rig.boot.setup(&["gaming".to_owned()]).await.unwrap();
    assert!(!again.changed && again.message.contains("already"), "{again:?}");
    assert!(rig.asked().is_empty());
    assert_eq!(rig.etc(), there);
    assert_eq!(
        rig.worst().await,
        [(Severity::Warning, "reboot: this machine has not been rebooted since the setup".into())]
    );

    rig.rebooted();
    assert_eq!(rig.worst().await, []);
    // The words that it has added are not taken for the owner's.
    assert!(!rig.boot.setup(&[]).await.unwrap().changed);
    assert_eq!(rig.worst().await, [], "a setup that changes nothing needs no reboot");
    rig.asked();

    assert!(rig.boot.remove().await.unwrap().changed);
    assert_eq!((rig.etc(), rig.record()), (before, None));
    assert_eq!(rig.asked(), BOTH);
    assert!(!rig.boot.remove().await.unwrap().changed);
    assert!(!rig.boot.status().await.set_up);
}

#[tokio::test]
async fn a_write_that_fails_takes_all_back() {
    for number in 0..WRITES {
        let rig = Rig::new();
        let before = rig.etc();
        rig.fail(number, Fault::Full);
        let error = rig.boot.setup(&[]).await.unwrap_err();
        assert!(matches!(&error, BootError::Write { left, .. } if left.is_empty()), "{error:?}");
        let refusal = Refusal::from(error);
        assert!(refusal.message.contains("os error 28"), "{}", refusal.message);
        assert_eq!((rig.etc(), rig.record()), (before.clone(), None), "{number}");
        assert!(rig.asked().is_empty());
        rig.heal();
        assert!(rig.boot.setup(&[]).await.unwrap().changed);

        // And on the way back.
        rig.asked();
        let (there, record) = (rig.etc(), rig.record());
        rig.fail(number, Fault::Full);
        rig.boot.remove().await.unwrap_err();
        assert_eq!((rig.etc(), rig.record()), (there, record), "{number}");
        rig.heal();
        assert!(rig.boot.remove().await.unwrap().changed);
        assert_eq!(rig.etc(), before);
    }
}

#[tokio::test]
async fn a_command_that_fails_takes_all_back_and_says_why() {
    for (command, ran) in [("update-initramfs", 1), ("update-grub", 2)] {
        let rig = Rig::new();
        let before = rig.etc();
        *rig.failing.lock().unwrap() = Some((command, false));
        let refusal = Refusal::from(rig.boot.setup(&[]).await.unwrap_err());
        assert_eq!(refusal.code, Code::Failed);
        assert!(refusal.message.contains(command), "{}", refusal.message);
        assert!(refusal.message.contains("exit status 1: no space left"), "{}", refusal.message);
        assert_eq!(refusal.hint, "All is as it was");
        assert_eq!((rig.etc(), rig.record()), (before.clone(), None));
        // Those that saw the files have seen them go.
        assert_eq!(rig.asked(), [&BOTH[..ran], &BOTH[..ran]].concat());

        *rig.failing.lock().unwrap() = Some((command, true));
        let refusal = Refusal::from(rig.boot.setup(&[]).await.unwrap_err());
        assert!(refusal.hint.starts_with("Left: "), "{}", refusal.hint);
        assert!(refusal.hint.contains("run it again when that is mended"), "{}", refusal.hint);
        // The files are as they were; what was made of them is not, and that is on record.
        assert_eq!(rig.etc(), before);
        assert!(!rig.record().unwrap().complete);
        assert!(rig.worst().await[0].1.contains("was interrupted"));
        *rig.failing.lock().unwrap() = None;
        rig.asked();
        assert!(rig.boot.remove().await.unwrap().changed);
        assert_eq!((rig.asked(), rig.record()), (BOTH.map(String::from).to_vec(), None));
    }
}

#[tokio::test]
async fn a_crash_leaves_a_record_that_leads_there_or_back() {
    for number in 0..WRITES {
        for there in [true, false] {
            let rig = Rig::new();
            let before = rig.etc();
            rig.fail(number, Fault::Crash);
            assert!(matches!(rig.boot.setup(&[]).await, Err(BootError::Lost(_))));
            rig.heal();
            let worst = rig.worst().await;
            assert_eq!(worst[0].0, Severity::Critical);
            assert!(worst[0].1.contains("was interrupted"), "{worst:?}");
            rig.asked();
            if there {
                assert!(rig.boot.setup(&[]).await.unwrap().changed, "{number}");
                assert_eq!(rig.asked(), BOTH);
                assert!(rig.record().unwrap().complete);
            }
            assert!(rig.boot.remove().await.unwrap().changed, "{number}");
            assert_eq!((rig.etc(), rig.record()), (before, None), "{number}");
        }
    }
}

#[tokio::test]
async fn what_the_owner_has_changed_since_is_not_lost() {
    let rig = Rig::new();
    rig.file("/usr/sbin/grub-mkconfig", "a grub that reads one file");
    rig.boot.setup(&[]).await.unwrap();
    assert!(!rig.sys().exists(GRUB));
    let set = rig.text(GRUB_FILE);
    assert!(set.starts_with(SETTINGS) && set.contains("$GRUB_CMDLINE_LINUX iommu=pt"), "{set}");
    let edited = set.replace("quiet", "splash") + "GRUB_TIMEOUT=9\n";
    rig.file(GRUB_FILE, &edited);
    rig.file(MODPROBE, "# mine now\n");
    let checks = rig.worst().await;
    assert!(checks.iter().any(|(_, said)| said.contains("was changed since")), "{checks:?}");

    let plan = rig.boot.plan(&[], true).await.unwrap();
    assert!(plan.files.iter().any(|file| file.diff.contains("-GRUB_CMDLINE_LINUX=\"$GRUB")));
    let done = rig.boot.remove().await.unwrap();
    let settings = SETTINGS.replace("quiet", "splash") + "GRUB_TIMEOUT=9\n";
    assert_eq!(rig.text(GRUB_FILE), settings);
    assert!(!rig.sys().exists(MODPROBE));
    let kept =
        done.warnings.iter().find(|said| said.contains("modprobe") && said.contains("as it was"));
    let kept = kept.unwrap().split_once(": ").unwrap().1;
    assert_eq!(SysRoot::new("/").text(kept).unwrap(), "# mine now");
}

#[tokio::test]
async fn the_kernels_line_gets_words_and_loses_them() {
    let rig = Rig::new();
    rig.pci.fake.remove(GRUB_FILE).unwrap();
    rig.file("/proc/cmdline", "initrd=\\x root=x\n");
    rig.file(CMDLINE_FILE, "root=x ro\n");
    rig.file("/usr/bin/kernel-install", "");
    rig.file("/boot/vmlinuz-6.12-amd64", "");
    rig.boot.setup(&[]).await.unwrap();
    assert_eq!(rig.text(CMDLINE_FILE), "root=x ro iommu=pt\n");
    let install = "kernel-install add 6.12-amd64 /boot/vmlinuz-6.12-amd64";
    assert_eq!(rig.asked(), [BOTH[0], install]);
    rig.file(CMDLINE_FILE, "root=x rw iommu=pt debug\n");
    rig.boot.remove().await.unwrap();
    assert_eq!(rig.text(CMDLINE_FILE), "root=x rw debug\n");

    // Somebody else has taken them out.
    rig.boot.setup(&[]).await.unwrap();
    rig.file(CMDLINE_FILE, "root=x\n");
    let done = rig.boot.remove().await.unwrap();
    assert!(done.warnings.iter().any(|said| said.contains("nothing to take out")), "{done:?}");
    assert_eq!(rig.text(CMDLINE_FILE), "root=x\n");
}

#[tokio::test]
async fn another_set_of_cards_replaces_the_first() {
    let rig = Rig::new();
    rig.boot.setup(&[]).await.unwrap();
    for (address, id, class) in [("02:00.0", 0x1111, 0x03_0000), ("02:00.1", 0x2668, 0x04_0300)] {
        let device = crate::pci::fake::FakeDevice {
            address: address.parse().unwrap(),
            id: (0x1234, id),
            class,
            group: Some(12),
            natural: None,
            boot_vga: (class == 0x03_0000).then_some(true),
        };
        rig.pci.plug(&device).unwrap();
    }
    let plan = rig.boot.plan(&["02:00.0".to_owned()], false).await.unwrap();
    assert!(plan.warnings.iter().any(|said| said.contains("hostd.safe")), "{:?}", plan.warnings);
    let all = ["02:00.1".to_owned(), "gaming".to_owned(), "gaming".to_owned()];
    rig.boot.setup(&all).await.unwrap();
    assert!(rig.text(RULE).contains("0000:01:00.1") && rig.text(RULE).contains("0000:02:00.1"));
    rig.boot.setup(&["02:00.0".to_owned()]).await.unwrap();
    assert!(!rig.text(RULE).contains("0000:01:00"));
    rig.boot.remove().await.unwrap();
}

#[tokio::test]
async fn the_wrong_card_or_somebody_elses_file_is_refused() {
    let rig = Rig::new();
    let before = rig.etc();
    let no = |error: BootError| Refusal::from(error);
    for (name, code) in
        [("other", Code::NotFound), ("03:00.0", Code::NotFound), ("00:02.0", Code::Refused)]
    {
        let refusal = no(rig.boot.setup(&[name.to_owned()]).await.unwrap_err());
        assert_eq!(refusal.code, code, "{name}: {}", refusal.message);
    }
    let modalias = "/sys/bus/pci/devices/0000:01:00.0/modalias";
    let right = rig.text(modalias);
    rig.file(modalias, &right.replace("d00005046", "d00009999"));
    let refusal = no(rig.boot.setup(&[]).await.unwrap_err());
    assert!(refusal.message.contains("not 1002:5046 as configured"), "{}", refusal.message);
    rig.file(modalias, &right);
    assert_eq!(rig.etc(), before);

    rig.file(RULE, "# the owner's\n");
    let refusal = no(rig.boot.setup(&[]).await.unwrap_err());
    assert_eq!(refusal.code, Code::Refused);
    assert!(refusal.message.contains(RULE), "{}", refusal.message);
    assert!(!rig.boot.remove().await.unwrap().changed);
    assert_eq!(rig.text(RULE), "# the owner's\n");
}

#[tokio::test]
async fn without_its_record_a_removal_knows_its_files() {
    let rig = Rig::new();
    let before = rig.etc();
    rig.boot.setup(&[]).await.unwrap();
    let state: Store = rig.pci.fake.host().state;
    state.write("boot/setup.json", "{").unwrap();
    let refusal = Refusal::from(rig.boot.setup(&[]).await.unwrap_err());
    assert!(refusal.hint.contains("boot/setup.json"), "{}", refusal.hint);
    assert_eq!(rig.worst().await[0].0, Severity::Unknown);
    state.remove("boot/setup.json").unwrap();
    let worst = rig.worst().await;
    assert!(worst.len() == WRITES && worst[0].1.contains("no record"), "{worst:?}");
    assert!(rig.boot.remove().await.unwrap().changed);
    let mut after = rig.etc();
    after.remove("/etc/default/grub.d");
    assert_eq!(after, before);
}

#[tokio::test]
async fn the_status_says_what_has_not_worked() {
    let rig = Rig::new();
    rig.boot.setup(&[]).await.unwrap();
    rig.rebooted();
    let said = |worst: &[(Severity, String)], what: &str| {
        worst.iter().any(|(_, said)| said.contains(what))
    };

    rig.file("/proc/cmdline", CMDLINE);
    rig.pci.take_over("01:00.1".parse().unwrap(), Some("snd_hda_intel")).unwrap();
    rig.pci.fake.runner.says("dmesg", format!("{LOG}[ 2.0] snd_hda_intel 0000:01:00.1: x\n"));
    let worst = rig.worst().await;
    assert!(said(&worst, "words: this kernel was started without iommu=pt"), "{worst:?}");
    assert!(said(&worst, "driver: is on snd_hda_intel"), "{worst:?}");
    assert!(said(&worst, "kernel-log: snd_hda_intel had it first"), "{worst:?}");

    // The kernel has forgotten its first words, and the journal has not.
    rig.pci.fake.runner.says("dmesg", "[ 9.0] late words\n");
    assert!(said(&rig.worst().await, "kernel-log: the kernel's log has lost its beginning"));
    rig.pci.fake.runner.says("journalctl --dmesg --boot", LOG);
    assert!(!said(&rig.worst().await, "kernel-log"));

    rig.file("/proc/cmdline", "quiet iommu=pt hostd.safe\n");
    let view = rig.boot.status().await;
    assert!(view.safe_mode);
    assert!(said(&rig.worst().await, "safe: "));

    rig.pci.fake.remove(RULE).unwrap();
    rig.file("/sys/bus/pci/devices/0000:01:00.1/device", "0x9999\n");
    let worst = rig.worst().await;
    assert!(
        said(&worst, "file: is gone") && said(&worst, "card: 0000:01:00.1 is 8086:9999"),
        "{worst:?}"
    );
    rig.pci.unplug("01:00.1".parse().unwrap()).unwrap();
    assert!(said(&rig.worst().await, "is not there"));
    rig.pci.fake.remove("/boot").unwrap();
    assert!(
        rig.worst()
            .await
            .iter()
            .any(|(how, said)| *how == Severity::Unknown && said.starts_with("initramfs"))
    );
}

#[tokio::test]
async fn for_another_machines_files_no_command_is_run() {
    let rig = Rig::new();
    let boot = Rig::handle(&rig.pci, &rig.disk, false);
    let done = boot.setup(&[]).await.unwrap();
    assert!(done.warnings.contains(&"still to be run: update-grub".to_owned()), "{done:?}");
    assert!(rig.asked().is_empty());
    boot.remove().await.unwrap();
}

#[tokio::test]
async fn one_at_a_time() {
    let rig = Rig::new();
    let (one, two) = tokio::join!(rig.boot.setup(&[]), rig.boot.setup(&[]));
    assert_ne!(one.unwrap().changed, two.unwrap().changed, "one of them finds it done");
    assert_eq!(rig.asked(), BOTH);
}

//! `hostctl doctor` as a person runs it without a daemon: on made-up machines
//! below a folder, and on the machine that runs the test.
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use assert_cmd::Command;
use hostd::host::fake::FakeHost;
use hostd::pci::fake::{FakeDevice, FakePci};
use serde_json::Value;

/// A machine below a folder, with its configuration beside it.
struct Machine {
    dir: tempfile::TempDir,
    fake: Arc<FakeHost>,
}

const INTEL: &str = "processor\t: 0\nvendor_id\t: GenuineIntel\nmicrocode\t: 0xf4\n\
                     flags\t\t: fpu vmx avx2\naddress sizes\t: 39 bits physical, 48 bits virtual\n";
const AMD: &str = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu svm\n";

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let fake = Arc::new(FakeHost::new(dir.path()));
        Self { dir, fake }
    }

    /// A box in order: Intel, IOMMU on, a card with a picture and sound, a VM.
    fn healthy() -> Self {
        let machine = Self::new();
        let bus = FakePci::new(Arc::clone(&machine.fake)).expect("a bus");
        bus.plug_lab_card().expect("a card");
        let files = [
            ("/proc/cpuinfo", INTEL),
            ("/proc/cmdline", "root=/dev/sda1 quiet intel_iommu=on iommu=pt\n"),
            ("/etc/default/grub", "GRUB_CMDLINE_LINUX_DEFAULT=\"quiet intel_iommu=on iommu=pt\"\n"),
            ("/proc/interrupts", "           CPU0\n  9:   0  IR-IO-APIC   9-fasteoi   acpi\n"),
            ("/proc/iomem", "00001000-0009ffff : System RAM\n"),
            ("/proc/meminfo", "MemTotal: 33554432 kB\nMemAvailable: 30000000 kB\n"),
            ("/proc/sys/kernel/osrelease", "6.12.1\n"),
            ("/sys/class/iommu/dmar0/intel-iommu/cap", "d2008c40660462\n"),
            ("/sys/module/vfio_pci/refcnt", "0\n"),
            ("/sys/module/vfio_iommu_type1/refcnt", "0\n"),
            ("/sys/module/kvm_intel/refcnt", "0\n"),
            ("/sys/devices/system/cpu/isolated", "\n"),
            ("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "performance\n"),
            ("/usr/bin/qemu-system-x86_64", ""),
            ("/dev/kvm", ""),
        ];
        for (path, text) in files {
            machine.there(path, text);
        }
        let mut image = vec![0u8; 40];
        image.extend(b"_FVH");
        for name in ["CODE", "VARS"] {
            machine.there(&format!("/fw/{name}.fd"), &image);
        }
        machine.configured(
            "gpus:\n  - {name: gaming, address: 0000:01:00.0, identity: \"1002:5046\"}\n",
            "memory: 16G\ncpus: 4\naccel: kvm\nqemu: /usr/bin/qemu-system-x86_64\ngpu: gaming\n\
             network: none\nfirmware: {kind: ovmf, code: /fw/CODE.fd, vars: /fw/VARS.fd}\n",
        );
        machine
    }

    fn there(&self, path: &str, bytes: impl AsRef<[u8]>) {
        self.fake.file(path, bytes).expect("written");
    }

    fn configured(&self, host: &str, vm: &str) {
        let folder = self.dir.path().join("etc/vms");
        fs::create_dir_all(&folder).expect("made");
        fs::write(self.dir.path().join("etc/host.yaml"), host).expect("written");
        fs::write(folder.join("win.yaml"), vm).expect("written");
    }

    fn run(&self, args: &[&str]) -> (i32, String) {
        let mut command = hostctl();
        command.arg("--sysroot").arg(self.dir.path().join("root"));
        command.arg("--config").arg(self.dir.path().join("etc/host.yaml")).args(args);
        said(&mut command)
    }

    fn doctor(&self) -> (i32, Checks) {
        let (code, out) = self.run(&["--json", "doctor"]);
        (code, Checks::read(&out))
    }
}

fn hostctl() -> Command {
    let mut command = Command::cargo_bin("hostctl").expect("hostctl is built");
    command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    command.args(["--socket", "/nonexistent"]).timeout(Duration::from_secs(60));
    command
}

fn said(command: &mut Command) -> (i32, String) {
    let output = command.output().expect("hostctl runs");
    (output.status.code().unwrap_or(-1), String::from_utf8(output.stdout).expect("text"))
}

/// The checks by id; of several of a kind, the last.
struct Checks(BTreeMap<String, Value>);

impl Checks {
    fn read(document: &str) -> Self {
        let document: Value = serde_json::from_str(document).expect(document);
        let checks = document["checks"].as_array().expect("a list").iter();
        Self(
            checks
                .map(|check| {
                    for key in ["id", "status", "evidence", "fix"] {
                        assert!(check[key].is_string(), "{key}: {check}");
                    }
                    (check["id"].as_str().expect("a word").to_owned(), check.clone())
                })
                .collect(),
        )
    }

    fn status(&self, id: &str) -> &str {
        self.0.get(id).and_then(|check| check["status"].as_str()).unwrap_or("absent")
    }

    fn text(&self, id: &str, key: &str) -> &str {
        self.0.get(id).and_then(|check| check[key].as_str()).unwrap_or_default()
    }

    fn not_ok(&self) -> BTreeSet<(&str, &str)> {
        let all = self.0.keys().map(|id| (id.as_str(), self.status(id)));
        all.filter(|(_, status)| *status != "ok").collect()
    }
}

#[test]
fn safe_mode_and_what_was_left_of_a_card_are_found() {
    let machine = Machine::healthy();
    let line = "root=/dev/sda1 quiet intel_iommu=on iommu=pt hostd.safe\n";
    machine.there("/proc/cmdline", line);
    machine.there("/var/lib/hostd/passthrough/0000:01:00.0.json", "{");
    let (code, checks) = machine.doctor();
    assert_eq!(code, 1);
    assert_eq!(checks.status("safe-mode"), "critical");
    assert!(checks.text("safe-mode", "fix").contains("Take it out"), "{:?}", checks.0);
    assert_eq!(checks.status("card-record"), "unknown");
    assert!(checks.text("card-record", "evidence").contains("is corrupt"), "{:?}", checks.0);
}

#[test]
fn a_healthy_box_lacks_only_what_its_files_cannot_tell() {
    let machine = Machine::healthy();
    let (code, checks) = machine.doctor();
    let unknown = ["kvm-run", "memlock", "vfio-container"].map(|id| (id, "unknown"));
    assert_eq!(checks.not_ok(), BTreeSet::from(unknown));
    assert_eq!(code, 1, "unknown is not fine");
    assert_eq!(checks.text("address-width", "evidence"), "guest 39 bits, IOMMU 39 bits");
    let (code, text) = machine.run(&["doctor"]);
    assert_eq!(code, 1);
    assert!(text.contains("unknown   KVM, tried with a guest: only the running machine"), "{text}");
    assert!(text.contains("\n3 unknown, "), "{text}");
}

#[test]
fn one_thing_after_another_goes_wrong_on_it() {
    let machine = Machine::healthy();
    let now = |path: &str, text: &str, id: &str| {
        machine.there(path, text);
        let (_, checks) = machine.doctor();
        checks.0.get(id).cloned().expect(id)
    };
    let wide = INTEL.replace("39 bits", "46 bits");
    let check = now("/proc/cpuinfo", &wide, "address-width");
    assert_eq!(check["status"], "warning");
    assert_eq!(check["fix"], "in win.yaml: cpu: host,host-phys-bits-limit=39");
    let check = now("/proc/cmdline", "quiet\n", "cmdline");
    assert!(check["evidence"].as_str().expect("text").contains("/etc/default/grub says"));
    assert!(check["fix"].as_str().expect("text").starts_with("update-grub"));
    assert_eq!(
        now("/proc/interrupts", " 9: 0 IO-APIC\n", "interrupt-remapping")["status"],
        "critical"
    );
    assert_eq!(now("/proc/meminfo", "MemAvailable: 1000 kB\n", "memory")["status"], "critical");
    assert_eq!(now("/fw/CODE.fd", "not firmware", "vm-firmware")["status"], "critical");
    let hidden = "00000000-00000000 : BOOTFB\n";
    assert_eq!(now("/proc/iomem", hidden, "framebuffer")["status"], "unknown");
    let governor = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor";
    assert_eq!(now(governor, "powersave\n", "governor")["status"], "warning");
    let rubbish = "\u{1b}[31m\u{0}: : : \n".repeat(50);
    for path in ["/proc/cpuinfo", "/proc/iomem", "/etc/default/grub", "/proc/meminfo"] {
        machine.there(path, &rubbish);
    }
    let (code, text) = machine.run(&["doctor"]);
    assert_eq!(code, 1);
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn amd_without_an_iommu_is_told_where_to_turn_it_on() {
    let machine = Machine::new();
    let bus = FakePci::new(Arc::clone(&machine.fake)).expect("a bus");
    bus.plug(&FakeDevice {
        address: "01:00.0".parse().expect("an address"),
        id: (0x1002, 0x67df),
        class: 0x03_0000,
        group: None,
        natural: Some("amdgpu".to_owned()),
        boot_vga: Some(true),
    })
    .expect("a card");
    machine.there("/proc/cpuinfo", AMD);
    machine.there("/proc/cmdline", "quiet\n");
    machine.there("/sys/firmware/acpi/tables/FACP", "");
    // Nobody has asked for it yet.
    let (code, checks) = machine.doctor();
    assert_eq!((code, checks.status("iommu")), (1, "warning"));
    assert!(checks.text("iommu", "fix").contains("`SVM`"), "{:?}", checks.0["iommu"]);
    assert_eq!(checks.status("boot-display"), "warning");
    assert_eq!(checks.status("interrupt-remapping"), "absent");
    machine.configured(
        "gpus:\n  - {name: gaming, address: 0000:01:00.0}\n",
        "memory: 1G\ncpus: 1\naccel: tcg\nnetwork: none\n",
    );
    let (_, checks) = machine.doctor();
    assert_eq!(checks.status("iommu"), "critical");
    assert_eq!(checks.text("card", "object"), "gaming");
}

#[test]
fn no_kvm_is_told_from_kvm_switched_off() {
    let machine = Machine::healthy();
    machine.fake.remove("/dev/kvm").expect("removed");
    let (_, checks) = machine.doctor();
    assert_eq!(checks.status("kvm-device"), "critical");
    assert!(checks.text("kvm-device", "fix").starts_with("modprobe"), "{:?}", checks.0);
    machine.there("/proc/cpuinfo", INTEL.replace(" vmx", ""));
    let (_, checks) = machine.doctor();
    assert!(checks.text("kvm-device", "fix").contains("firmware setup"), "{:?}", checks.0);
    assert_eq!(checks.status("vm"), "critical");
}

#[test]
fn a_wrong_configuration_is_said_and_the_rest_is_judged() {
    let machine = Machine::healthy();
    machine.configured("gpsu: []\n", "memory: 1G\n");
    let (code, checks) = machine.doctor();
    assert_eq!((code, checks.status("configuration")), (1, "critical"));
    assert_eq!(checks.status("iommu"), "ok");
}

/// What the processor of the machine that runs this can do, found out in
/// another way than by `doctor`: it must say the same.
#[test]
fn the_machine_that_runs_this_is_judged_by_what_its_kvm_does() {
    let (code, seen) = said(Command::cargo_bin("hostctl").expect("built").arg("--kvm-look"));
    assert_eq!(code, 0);
    let seen: Value = serde_json::from_str(&seen).expect(&seen);
    let nothing = tempfile::tempdir().expect("a folder");
    let mut command = hostctl();
    command.arg("--config").arg(nothing.path().join("host.yaml")).args(["--json", "doctor"]);
    let (code, out) = said(&mut command);
    let checks = Checks::read(&out);
    assert_eq!(code, i32::from(!checks.not_ok().is_empty()));
    match seen["kvm"].as_str().expect("a word") {
        "missing" => assert_eq!(checks.status("kvm-device"), "warning"),
        "denied" => assert_eq!(checks.status("kvm-device"), "unknown"),
        "broken" => assert_ne!(checks.status("kvm-device"), "ok"),
        "opens" => {
            let trials = seen["trials"].as_array().expect("a list");
            let has = |word: &str| trials.iter().any(|t| t["outcome"]["outcome"] == word);
            let wanted = match (has("failed"), has("not-offered")) {
                (true, _) => "critical",
                (false, true) => "warning",
                (false, false) => "ok",
            };
            assert_eq!(checks.status("kvm-run"), wanted, "{seen}");
            if has("failed") {
                let why = trials.iter().find_map(|trial| trial["outcome"]["why"].as_str());
                let evidence = checks.text("kvm-run", "evidence");
                assert!(evidence.contains(why.expect("why it failed")), "{evidence}");
            }
        }
        other => unreachable!("{other}"),
    }
}

//! `hostctl iommu`, `gpu list`, `gpu quirks`, `gpu rom` and `boot` as a person runs
//! them without a daemon,
//! on a fake machine below a folder.
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use assert_cmd::Command;
use hostd::host::fake::FakeHost;
use hostd::pci::fake::FakePci;
use serde_json::Value;

/// The lab's card, and a configuration folder.
struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let pci = FakePci::new(Arc::new(FakeHost::new(dir.path()))).expect("a bus");
        pci.plug_lab_card().expect("a card");
        let machine = Self { dir };
        machine.file("etc/host.yaml", "gpus:\n  - {name: gaming, address: 0000:01:00.0}\n");
        machine
    }

    fn file(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let at = |name: &str| self.dir.path().join(name);
        let mut command = Command::cargo_bin("hostctl").expect("hostctl is built");
        command
            .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
            .current_dir(self.dir.path())
            .args(["--socket", "/nonexistent", "--sysroot"])
            .arg(at("root"))
            .arg("--config")
            .arg(at("etc/host.yaml"))
            .args(args)
            .timeout(Duration::from_secs(60));
        let output = command.output().expect("hostctl runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    fn document(&self, args: &[&str]) -> (i32, Value) {
        let (code, out, _) = self.run(&[&["--json"], args].concat());
        (code, serde_json::from_str(&out).expect(&out))
    }
}

const MINE: &str = "quirks:
  - ids: [8086:2668]
    class: [\"0403\"]
    action: {reset-delay: 250ms}
    why: the lab's sound is slow
    source: tried here
";

#[test]
fn a_file_adds_a_card_and_needs_no_code() {
    let machine = Machine::new();
    let (code, before) = machine.document(&["gpu", "quirks", "gaming"]);
    let quirks = before["gpus"][0]["quirks"].as_array().expect("a list");
    assert_eq!((code, quirks.len()), (0, 1), "{before}");
    assert_eq!(quirks[0]["action"], "reset: no-pm");
    assert_eq!(quirks[0]["id"], "1002:5046");

    machine.file("etc/quirks.d/mine.yaml", MINE);
    let (code, after) = machine.document(&["gpu", "quirks"]);
    assert_eq!((code, &after["gpus"][0]["name"]), (0, &Value::from("gaming")));
    let mine = &after["gpus"][0]["quirks"][1];
    assert_eq!(
        *mine,
        serde_json::json!({
            "function": "0000:01:00.1",
            "id": "8086:2668",
            "action": "reset-delay: 250ms",
            "why": "the lab's sound is slow",
            "source": "tried here",
            "experimental": false
        })
    );
    let (_, text, _) = machine.run(&["gpu", "quirks", "01:00.0"]);
    assert!(text.contains("the lab's sound is slow [tried here]"), "{text}");
    assert_eq!(machine.run(&["gpu", "quirks", "other"]).0, 5);
}

#[test]
fn a_wrong_file_costs_only_itself_and_is_said() {
    let machine = Machine::new();
    machine.file("etc/quirks.d/mine.yaml", MINE);
    // Its name is a VM's as well.
    machine.file("etc/quirks.d/gaming.yaml", "quirks:\n  - {ids: [1002:*], actoin: warn}\n");
    let (code, text, _) = machine.run(&["gpu", "quirks"]);
    assert_eq!(code, 1);
    assert!(text.contains("the lab's sound is slow"), "{text}");
    assert!(text.contains("gaming.yaml:2:21: unknown key `actoin`"), "{text}");
    assert!(text.contains("did you mean `action`?"), "{text}");
    assert!(text.contains("the file is left out"), "{text}");

    let host = machine.dir.path().join("etc/host.yaml");
    let (code, text, _) = machine.run(&["config", "check", host.to_str().expect("text")]);
    assert_eq!(code, 2);
    assert!(text.contains("gaming.yaml:2:21") && text.contains("`why` is missing"), "{text}");
}

/// The smallest BIOS with a PCI part.
fn bios(vendor: u16, device: u16) -> Vec<u8> {
    let mut rom = vec![0u8; 512];
    rom[..3].copy_from_slice(&[0x55, 0xaa, 1]);
    rom[0x18] = 0x20;
    rom[0x20..0x24].copy_from_slice(b"PCIR");
    rom[0x24..0x26].copy_from_slice(&vendor.to_le_bytes());
    rom[0x26..0x28].copy_from_slice(&device.to_le_bytes());
    (rom[0x30], rom[0x35]) = (1, 0x80);
    rom[511] = rom.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    rom
}

#[test]
fn a_rom_is_checked_for_a_card_and_stripped() {
    let machine = Machine::new();
    let at = |name: &str| machine.dir.path().join(name);
    let mut flash = b"NVGI".to_vec();
    flash.resize(1024, 1);
    flash.extend(bios(0x1002, 0x5046));
    fs::write(at("card.rom"), &flash).expect("written");
    let (code, rom) = machine.document(&["gpu", "rom", "check", "card.rom", "--gpu", "gaming"]);
    assert_eq!((code, &rom["usable"]), (1, &Value::from(true)), "{rom}");
    assert_eq!(rom["header"], serde_json::json!({"length": 1024, "nvidia": true}));
    assert_eq!(rom["images"][0]["kind"], "x86");
    let codes = |rom: &Value| -> Vec<String> {
        let all = rom["findings"].as_array().expect("a list").iter();
        all.map(|finding| finding["code"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(codes(&rom), ["header", "no-efi"]);

    let strip = ["gpu", "rom", "check", "card.rom", "--gpu", "01:00.0", "--strip", "bare.rom"];
    let (code, rom) = machine.document(&strip);
    assert_eq!((code, codes(&rom), &rom["written"]), (1, vec!["no-efi".into()], &true.into()));
    assert_eq!(fs::read(at("bare.rom")).expect("written"), bios(0x1002, 0x5046));

    // Another card's is neither good nor written.
    fs::write(at("other.rom"), bios(0x1002, 0x67df)).expect("written");
    let other = ["gpu", "rom", "check", "other.rom", "--gpu", "gaming", "--strip", "no.rom"];
    let (code, text, _) = machine.run(&other);
    assert_eq!(code, 1);
    assert!(text.contains("wrong ids, dumped from another card"), "{text}");
    assert!(text.contains("no.rom was not written") && !at("no.rom").exists(), "{text}");
    assert_eq!(machine.run(&["gpu", "rom", "check", "none.rom"]).0, 2);
}

#[test]
fn a_rom_is_read_out_of_a_card() {
    let machine = Machine::new();
    let at = |name: &str| machine.dir.path().join(name);
    let dump = |file: &str| machine.run(&["gpu", "rom", "dump", "gaming", file]);
    let (code, _, said) = dump("card.rom");
    assert_eq!(code, 5);
    assert!(said.contains("0000:01:00.0 has no ROM that the kernel shows"), "{said}");
    // Below a folder there is no kernel: what is read is what was written.
    fs::write(at("root/sys/bus/pci/devices/0000:01:00.0/rom"), "").expect("written");
    let (code, text, _) = dump("card.rom");
    assert_eq!(code, 1);
    assert!(text.contains("card.rom was not written") && !at("card.rom").exists(), "{text}");
    let rom = fs::read(at("root/sys/bus/pci/devices/0000:01:00.0/rom")).expect("there");
    assert_eq!(rom, b"0", "it is switched off again");
    assert!(Path::new(&at("root")).exists());
}

#[test]
fn groups_and_cards_are_shown_without_a_daemon() {
    let machine = Machine::new();
    let (code, text, _) = machine.run(&["iommu", "list"]);
    assert_eq!(code, 0);
    assert!(text.contains("11     isolated  0000:01:00.0"), "{text}");
    let (code, list) = machine.document(&["iommu", "list"]);
    assert_eq!((code, &list["groups"][1]["devices"][0]["detail"]), (0, &Value::Null));

    let place = "root/sys/devices/pci0000:00/0000:01:00.0";
    machine.file(&format!("{place}/reset_method"), "flr bus\n");
    let (code, text, _) = machine.run(&["iommu", "show", "11"]);
    assert_eq!(code, 0);
    assert!(text.contains("reset      flr, bus"), "{text}");
    let (_, one) = machine.document(&["iommu", "show", "11"]);
    let detail = &one["groups"][0]["devices"][0]["detail"];
    assert_eq!(detail["reset_methods"], serde_json::json!(["flr", "bus"]));
    assert_eq!(detail["numa_node"], Value::Null);
    assert_eq!(detail["unknown"]["bars"], "the file `resource` does not exist");
    let (code, all) = machine.document(&["iommu", "list", "--full"]);
    assert_eq!(code, 0);
    assert_eq!(all["groups"][1]["devices"][0]["detail"], *detail);
    // The bridge alone is for nobody; a group that is not there is an error.
    assert_eq!(machine.run(&["iommu", "show", "10"]).0, 1);
    let (code, none) = machine.document(&["iommu", "show", "99"]);
    assert_eq!((code, &none["error"]["code"]), (5, &Value::from("not-found")));

    let (code, text, _) = machine.run(&["gpu", "list"]);
    assert_eq!(code, 0);
    assert!(text.contains("gaming  0000:01:00.0  11     isolated  no     aty128fb"), "{text}");
    assert!(text.contains("Audio device: Intel"), "{text}");
    let (_, cards) = machine.document(&["gpu", "list"]);
    let card = &cards["gpus"][0];
    assert_eq!(card["functions"], serde_json::json!(["0000:01:00.0", "0000:01:00.1"]));
    assert_eq!(card["parts"][1]["driver"], "snd_hda_intel");
    assert_eq!((&card["verdict"], &card["bound"]), (&Value::from("isolated"), &Value::from(false)));
}

#[test]
fn a_vms_plan_and_its_command_line_need_no_daemon() {
    let machine = Machine::new();
    machine.file("root/proc/sys/kernel/random/boot_id", "a-boot\n");
    machine.file(
        "etc/vms/win.yaml",
        "memory: 64M\ngpu: gaming\nnetwork: none\ndisks: [/srv/a.img, /srv/b.img]\n",
    );
    let (code, plan) = machine.document(&["vm", "plan", "win"]);
    let problems = plan["problems"].to_string();
    // All of them at once, and nothing is made.
    for missing in ["/usr/bin/qemu-system-x86_64", "/dev/kvm", "/srv/a.img", "/srv/b.img"] {
        assert!(problems.contains(missing), "{missing}: {plan}");
    }
    let steps = plan["steps"].to_string();
    assert!(steps.contains("bind graphics card `gaming`") && code == 1, "{plan}");
    assert!(!machine.dir.path().join("root/var").exists());
    let (code, out, _) = machine.run(&["vm", "argv", "win"]);
    assert_eq!(code, 0, "{out}");
    for part in ["-device vfio-pci,host=0000:01:00.1,", "filename=/srv/b.img", "  -S"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (code, error) = machine.document(&["vm", "argv", "wni"]);
    assert_eq!((code, &error["error"]["hint"]), (5, &"there are: win".into()), "{error}");
}

#[test]
fn a_plan_needs_no_daemon_and_touches_nothing() {
    let machine = Machine::new();
    machine.file("root/proc/sys/kernel/random/boot_id", "a-boot\n");
    let before = "root/sys/devices/pci0000:00/0000:01:00.0/driver_override";
    let read = || fs::read_to_string(machine.dir.path().join(before)).expect("there");
    let was = read();
    let (code, plan) = machine.document(&["gpu", "plan"]);
    assert_eq!(code, 0, "{plan}");
    let steps = plan["steps"].to_string();
    assert!(steps.contains("0000:01:00.0") && steps.contains("vfio-pci"), "{plan}");
    assert_eq!(read(), was);
    let (code, back) = machine.document(&["gpu", "plan", "gaming", "--release"]);
    assert_eq!((code, &back["steps"]), (0, &serde_json::json!([])), "{back}");
    // What is no address is told how one looks.
    for words in [&["gpu", "quirks", "99:99.9"][..], &["gpu", "plan", "99:99.9"]] {
        let (code, error) = machine.document(words);
        assert_eq!((code, &error["error"]["code"]), (5, &"not-found".into()), "{error}");
        let hint = error["error"]["hint"].as_str().expect("text");
        assert!(hint.starts_with("An address looks like `0000:01:00.0`"), "{hint}");
    }
}

/// Another machine's files, changed and changed back; its commands are named.
#[test]
fn a_boot_setup_below_a_folder() {
    let machine = Machine::new();
    for (path, text) in [
        ("root/proc/cmdline", "BOOT_IMAGE=/vmlinuz quiet\n"),
        ("root/etc/default/grub", "GRUB_DEFAULT=0\n"),
        ("root/usr/sbin/update-grub", ""),
        ("root/usr/sbin/update-initramfs", ""),
        ("root/usr/share/initramfs-tools/hook-functions", ""),
    ] {
        machine.file(path, text);
    }
    let rule = machine.dir.path().join("root/etc/udev/rules.d/70-hostd-passthrough.rules");
    let (code, plan, _) = machine.run(&["boot", "plan"]);
    assert_eq!(code, 0, "{plan}");
    assert!(plan.starts_with("gaming: 0000:01:00.0 (1002:5046), 0000:01:00.1"), "{plan}");
    assert!(plan.contains("+++ /etc/udev/rules.d/70-hostd-passthrough.rules"), "{plan}");
    assert!(plan.contains("+GRUB_CMDLINE_LINUX=\"$GRUB_CMDLINE_LINUX iommu=pt\""), "{plan}");
    assert!(plan.contains("and then:\n  update-initramfs -u -k all\n  update-grub\n"), "{plan}");
    assert!(!rule.exists());

    // What takes long is said only of what will be done.
    let (code, _, said) = machine.run(&["boot", "setup", "other"]);
    assert!(code == 5 && !said.contains("made anew"), "{said}");
    let (code, _, said) = machine.run(&["boot", "plan", "--remove", "gaming"]);
    assert!(code == 2 && said.contains("boot plan [OPTIONS] --remove\n"), "{said}");
    let (code, done, said) = machine.run(&["--json", "boot", "setup", "gaming"]);
    assert!(said.contains("made anew"), "{said}");
    let done: Value = serde_json::from_str(&done).expect("a document");
    assert_eq!((code, &done["changed"]), (0, &true.into()), "{done}");
    assert!(done["warnings"].to_string().contains("still to be run: update-grub"), "{done}");
    assert!(fs::read_to_string(&rule).expect("made").contains("KERNEL==\"0000:01:00.1\""));
    let (code, done) = machine.document(&["boot", "setup"]);
    assert_eq!((code, &done["changed"]), (0, &false.into()), "{done}");
    let (code, status) = machine.document(&["boot", "status"]);
    assert_eq!((code, &status["set_up"]), (1, &true.into()), "{status}");
    assert_eq!(status["gpus"][0]["functions"][1]["id"], "8086:2668");

    let (code, patch, _) = machine.run(&["boot", "plan", "--remove"]);
    assert!(code == 0 && patch.contains("-GRUB_CMDLINE_LINUX="), "{patch}");
    assert_eq!(machine.run(&["boot", "remove"]).0, 0);
    assert!(!rule.exists());
    let grub = machine.dir.path().join("root/etc/default/grub");
    assert_eq!(fs::read_to_string(grub).expect("there"), "GRUB_DEFAULT=0\n");
    let (code, status, _) = machine.run(&["boot", "status"]);
    assert_eq!((code, status.as_str()), (0, "nothing is set up\n"));
    let (code, error) = machine.document(&["boot", "plan", "other"]);
    assert_eq!((code, &error["error"]["code"]), (5, &"not-found".into()), "{error}");
}

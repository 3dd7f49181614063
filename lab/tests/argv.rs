//! What a spec makes of QEMU's arguments, against files in `tests/golden`.
//! `UPDATE_GOLDEN=1` writes them anew: read the difference before committing.

use hostd_lab::{
    CardKind, Forward, Iommu, LabSpec, Tier,
    accel::Accel,
    argv::{Image, RunDir, argv, card_devices, cmdline},
};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::PathBuf};

fn golden(name: &str, spec: &LabSpec, accel: Accel) {
    let run = RunDir(PathBuf::from("/run/lab"));
    let image = Image { dir: PathBuf::from("/image") };
    let mut text = String::new();
    for arg in argv(spec, &run, &image, accel) {
        // An option and its value share a line.
        let separator = if arg.starts_with('-') { "\n" } else { " " };
        text += separator;
        text += &sorted(&arg);
    }
    let text = text.trim_start().to_owned() + "\n";
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&file, &text).unwrap();
    }
    let expected = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, expected, "{} differs", file.display());
}

/// JSON with its keys in order: whether serde_json keeps the order of insertion
/// depends on what else is built with it.
fn sorted(arg: &str) -> String {
    fn sort(value: Value) -> Value {
        match value {
            Value::Object(map) => {
                let ordered: BTreeMap<_, _> =
                    map.into_iter().map(|(key, value)| (key, sort(value))).collect();
                ordered.into_iter().collect()
            }
            other => other,
        }
    }
    serde_json::from_str(arg).map_or_else(|_| arg.to_owned(), |value| sort(value).to_string())
}

#[test]
fn the_least_lab() {
    golden("least", &LabSpec::fast().iommu(Iommu::None), Accel::Tcg);
}

#[test]
fn everything_at_once() {
    let mut spec = LabSpec::fast()
        .card(CardKind::Ati0300)
        .card_without_audio(CardKind::Secondary0380)
        .card(CardKind::BootVga0300)
        .shared_group()
        .disks(3)
        .forward(5555)
        .module("snd_hda_intel")
        .cmdline("quiet");
    spec.forwards.push(Forward { host: 15556, guest: 5556 });
    golden("everything-intel", &spec, Accel::Tcg);
    golden("everything-amd", &spec.iommu(Iommu::Amd), Accel::Kvm);
}

#[test]
fn own_boot_has_a_disk_and_no_kernel() {
    golden("own-boot", &LabSpec::own_boot().disks(1), Accel::Tcg);
}

#[test]
fn several_processors_in_software_take_turns() {
    let run = RunDir(PathBuf::from("/run/lab"));
    let image = Image { dir: PathBuf::from("/image") };
    let spec = LabSpec::full().cpus(2).usb();
    let line = argv(&spec, &run, &image, Accel::Tcg).join(" ");
    for words in ["thread=single", "-smp 2", "qemu-xhci,id=usb,addr=07"] {
        assert!(line.contains(words), "{words}: {line}");
    }
    let line = argv(&spec, &run, &image, Accel::Kvm).join(" ");
    assert!(line.contains("-accel kvm") && line.contains("-smp 2"), "{line}");
}

#[test]
fn disks_of_other_kinds_have_their_places() {
    let run = RunDir(PathBuf::from("/run/lab"));
    let image = Image { dir: PathBuf::from("/image") };
    let spec = LabSpec::fast().nvme(2).sata(1);
    let line = argv(&spec, &run, &image, Accel::Tcg).join(" ");
    for words in [
        "nvme,bus=pcie.0,addr=1e,id=nvme1,serial=nvme1,drive=node-nvme1",
        "ide-hd,bus=ide.0,rotation_rate=7200,id=sata0,serial=sata0,drive=node-sata0",
        "/run/lab/sata0.img",
    ] {
        assert!(line.contains(words), "{words}: {line}");
    }
    assert!(cmdline(&spec).contains("lab.modules=zfs,nvme,ahci,sd-mod"));
}

#[test]
fn a_slot_comes_to_life_with_function_0() {
    let spec = LabSpec::fast().card(CardKind::Secondary0380);
    let order: Vec<_> =
        card_devices(&spec, 0).iter().map(|device| device["addr"].clone()).collect();
    assert_eq!(order, ["0.1", "0.0"]);
    assert!(card_devices(&spec, 1).is_empty());
}

#[test]
fn modules_follow_from_the_parts() {
    let spec = LabSpec::fast().card(CardKind::Ati0300).disks(2).module("vfio_pci");
    assert_eq!(spec.all_modules(), ["vfio_pci", "zfs"]);
    assert!(LabSpec::fast().iommu(Iommu::None).card(CardKind::Ati0300).all_modules().is_empty());
    assert!(cmdline(&spec).contains("lab.modules=vfio_pci,zfs"));
    let full = LabSpec { tier: Tier::Full, ..spec };
    assert!(cmdline(&full).contains("modules_load=vfio_pci,zfs"));
}

#[test]
fn what_cannot_be_is_said() {
    let none = |spec: LabSpec, word: &str| {
        let reason = spec.check().unwrap_err();
        assert!(reason.contains(word), "{reason}");
    };
    assert!(LabSpec::fast().check().is_ok());
    none(LabSpec::fast().disks(17), "disks");
    none(LabSpec::fast().nvme(3), "NVMe");
    none((0..5).fold(LabSpec::fast(), |spec, _| spec.card(CardKind::Ati0300)), "cards");
    none(LabSpec::fast().memory_mib(64), "memory");
    none(LabSpec::own_boot().cmdline("quiet"), "GRUB");
    none(LabSpec::fast().payload("/bin/true", "../true"), "payload");
}

//! Real-life texts in, files out; and texts that nobody meant.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;
use crate::config::{Firmware, Source, Vm, load, not_asked};

const WINDOWS: &str = include_str!("samples/windows.xml");
const PROXMOX: &str = include_str!("samples/100.conf");

fn vm(imported: &Imported) -> Vm {
    let path = format!("{}.yaml", imported.name);
    let sources = [Source::vm(path, imported.yaml.as_str())];
    let (config, _) =
        load(&sources, &not_asked).unwrap_or_else(|p| panic!("{p}\n{}", imported.yaml));
    config.vms.into_iter().next().unwrap()
}

fn shown(imported: &Imported) -> String {
    let mut out = format!("{}: {}\n{}\n", imported.from, imported.name, imported.yaml);
    for note in &imported.notes {
        let _ = writeln!(out, "{note}");
    }
    out
}

#[test]
fn a_gaming_vm_of_libvirt() {
    let imported = import(WINDOWS.as_bytes(), None, "any").unwrap();
    let vm = vm(&imported);
    assert_eq!(vm.uuid.as_deref(), Some("6d2f9f6c-8f0a-4a1e-9f3a-3a5b0c7d1e22"));
    assert_eq!(vm.machine, "pc-q35-7.2");
    assert_eq!(vm.nic.mac, Some([0x52, 0x54, 0, 0x6b, 0x3c, 0x58]));
    assert!(matches!(vm.firmware, Firmware::Ovmf { secure: true, .. }) && vm.tpm);
    insta::assert_snapshot!(shown(&imported));
}

#[test]
fn a_gaming_vm_of_proxmox() {
    let imported = import(PROXMOX.as_bytes(), None, "100").unwrap();
    let vm = vm(&imported);
    assert_eq!(vm.uuid.as_deref(), Some("2c9f1a3e-7b64-4f0c-9a51-d1f4f3c0a5b7"));
    assert_eq!(vm.smbios.manufacturer.as_deref(), Some("ASUSTeK"));
    assert_eq!(vm.cpus, 8, "not those of the snapshot");
    insta::assert_snapshot!(shown(&imported));
}

#[test]
fn small_vms() {
    let minimal = import(b"cores: 2\nmemory: 1024\n", None, "101").unwrap();
    assert_eq!((minimal.name.as_str(), vm(&minimal).machine.as_str()), ("101", "pc"));
    let xml =
        "<domain type='qemu'><name>a</name><memory unit='GiB'>1</memory><vcpu>3</vcpu></domain>";
    let minimal = import(xml.as_bytes(), Some(&"mine".parse().unwrap()), "x").unwrap();
    assert_eq!((minimal.name.as_str(), vm(&minimal).cpus), ("mine", 3));
    assert_eq!(minimal.notes, []);
}

#[test]
fn what_does_not_pass_the_check_is_left_out_and_said() {
    let conf = "memory: 2048\ncores: 2\nostype: l26\nsmbios1: uuid=nonsense\nnet0: virtio=FF:00:00:00:00:01,bridge=a-very-long-bridge-name\n\
                scsi0: /dev/a\nscsi1: /dev/a\nusb0: host=nonsense\ncpu: a b\n";
    let imported = import(conf.as_bytes(), None, "a").unwrap();
    let vm = vm(&imported);
    assert_eq!((vm.uuid, vm.disks.len(), vm.usb.len(), vm.cpu), (None, 1, 0, None));
    let left: Vec<&str> = imported.notes.iter().map(|note| note.what.as_str()).collect();
    assert_eq!(left.len(), 6, "{left:?}");
}

#[test]
fn what_is_no_vm_is_refused() {
    let no = |text: &str| import(text.as_bytes(), None, "a").unwrap_err().to_string();
    let mut all = String::new();
    for text in [
        "",
        "hello",
        "a: b\n",
        "<",
        "<network><name>a</name></network>",
        "<!DOCTYPE a [<!ENTITY b \"c\">]><domain>&b;</domain>",
        "<domain/>",
        "memory: 4\n",
    ] {
        let _ = writeln!(all, "{text}\n  {}", no(text));
    }
    insta::assert_snapshot!(all);
    assert_eq!(import(&[0xff], None, "a"), Err(NotImported::NotText));
    assert_eq!(import(&vec![b' '; MAX_IMPORT + 1], None, "a"), Err(NotImported::Long));
}

/// What would take time that grows with the square of a text.
#[test]
fn hostile_texts_are_read_at_once() {
    let many = |text: &str| text.repeat(MAX_IMPORT / text.len() - 100);
    let deep = many("<a>");
    let wide = format!("<domain><memory>1048576</memory>{}</domain>", "<b/>".repeat(50_000));
    let disks = format!("memory: 512\n{}", "scsi0: /dev/a\n".repeat(60_000));
    for text in [deep, wide, many("x: y\n"), disks, many("args: -a 'b\n")] {
        let _ = import(text.as_bytes(), None, "a");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = import(&bytes, None, "a");
        let _ = import(&[b"<domain>".as_slice(), &bytes].concat(), None, "a");
        let _ = import(&[b"memory: 512\n".as_slice(), &bytes].concat(), None, "a");
    }

    /// Samples with some of their bytes changed: what comes out passes the check.
    #[test]
    fn what_comes_out_is_always_a_vm(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..4, "[ -~\\n]"), 1..12),
        xml in any::<bool>(),
    ) {
        let mut text: Vec<char> = if xml { WINDOWS } else { PROXMOX }.chars().collect();
        for (index, kind, with) in edits {
            let at = index.index(text.len());
            let with = with.chars().next().unwrap_or(' ');
            match kind {
                0 => drop(text.remove(at)),
                1 => text.insert(at, with),
                2 => text[at] = with,
                _ => {
                    // A line is left out.
                    let end = text[at..].iter().position(|c| *c == '\n').map_or(text.len(), |n| at + n);
                    text.drain(at..end);
                }
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(imported) = import(text.as_bytes(), None, "a") {
            vm(&imported);
        }
    }
}

//! A made-up machine's devices, and what a person may call them.

use super::choose::{choose, parse};
use super::*;
use crate::host::fake::FakeHost;
use crate::host::units::Property;
use proptest::prelude::*;

fn plug(fake: &FakeHost, port: &str, files: &[(&str, &str)]) {
    for (file, text) in files {
        fake.file(&format!("/sys/bus/usb/devices/{port}/{file}"), format!("{text}\n")).unwrap();
    }
}

/// A hub, two receivers of one kind, a nameless keyboard and a disk.
fn machine() -> (tempfile::TempDir, FakeHost) {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    plug(&fake, "usb1", &[("idVendor", "1d6b"), ("idProduct", "0002"), ("bDeviceClass", "09")]);
    plug(&fake, "1-2", &[("idVendor", "05e3"), ("idProduct", "0610"), ("bDeviceClass", "09")]);
    for (port, number) in [("1-2.10", "7"), ("1-2.3", "6")] {
        plug(
            &fake,
            port,
            &[
                ("idVendor", "046d"),
                ("idProduct", "c52b"),
                ("bDeviceClass", "00"),
                ("devnum", number),
                ("manufacturer", "Logitech"),
                ("product", "USB Receiver\u{1b}[31m"),
            ],
        );
        fake.link(
            &format!("/sys/bus/usb/devices/{port}:1.0/driver"),
            "/sys/bus/usb/drivers/usbhid",
        )
        .unwrap();
    }
    plug(
        &fake,
        "3-1",
        &[("idVendor", "04d9"), ("idProduct", "1503"), ("bDeviceClass", "00"), ("devnum", "2")],
    );
    plug(&fake, "3-1:1.0", &[("bInterfaceClass", "03")]);
    plug(
        &fake,
        "4-1",
        &[
            ("idVendor", "0951"),
            ("idProduct", "1666"),
            ("bDeviceClass", "00"),
            ("devnum", "3"),
            ("product", "DataTraveler 3.0"),
            ("serial", "E0D5"),
        ],
    );
    // One that leaves while it is read.
    plug(&fake, "5-1", &[("idVendor", "0951")]);
    (dir, fake)
}

#[test]
fn lists_what_is_plugged_in_and_whose_it_is() {
    let (_dir, fake) = machine();
    fake.file("/dev/bus/usb/001/006", "").unwrap();
    fake.link("/proc/812/fd/17", "/dev/bus/usb/001/006").unwrap();
    let games: Name = "games".parse().unwrap();
    let seen = view(&fake.host().sys, &[(games.clone(), 812)]);
    let ports: Vec<_> = seen.devices.iter().map(|device| device.port.as_str()).collect();
    assert_eq!(ports, ["1-2.3", "1-2.10", "3-1", "4-1"], "by number, without hubs");
    let receiver = &seen.devices[0];
    assert_eq!(
        (receiver.id.as_str(), receiver.name.as_str()),
        ("046d:c52b", "Logitech USB Receiver [31m")
    );
    assert_eq!(
        (receiver.used_by.as_ref(), &receiver.drivers[..]),
        (Some(&games), &["usbhid".to_owned()][..])
    );
    assert_eq!(seen.devices[1].used_by, None);
    assert_eq!(seen.devices[2].name, "keyboard, mouse or other input device");
    assert_eq!(seen.devices[3].serial.as_deref(), Some("E0D5"));
    assert_eq!(seen.notes, [""; 0]);
}

#[test]
fn what_cannot_be_read_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let seen = view(&FakeHost::new(dir.path()).host().sys, &[]);
    assert!(seen.devices.is_empty() && seen.notes[0].contains("/sys/bus/usb/devices"), "{seen:?}");
}

#[test]
fn a_person_may_use_id_port_or_part_of_the_name_of_one() {
    let (_dir, fake) = machine();
    let devices = read::devices(&fake.host().sys).unwrap();
    let means =
        |words: &str| choose(&devices, words).map(|(reference, device)| (reference, device.port()));
    assert_eq!(means("0951:1666").unwrap(), (UsbRef::Id(0x951, 0x1666), "4-1".into()));
    let port = |bus, path: &str| UsbRef::Port { bus, path: path.into() };
    assert_eq!(means("1-2.3").unwrap().0, port(1, "2.3"));
    assert_eq!(means(" datatrav").unwrap().0, port(4, "1"));
    assert_eq!(means("e0d5").unwrap().0, port(4, "1"));
    for several in ["046d:c52b", "logitech"] {
        let refusal = means(several).unwrap_err();
        assert_eq!((refusal.code, refusal.hint.as_str()), (Code::Refused, "name it by its port"));
        assert!(
            refusal.message.contains("port 1-2.3") && refusal.message.contains("port 1-2.10"),
            "{refusal}"
        );
    }
    for none in ["", "webcam", "1234:5678", "1-9", "1-2"] {
        assert_eq!(means(none).unwrap_err().code, Code::NotFound, "{none}");
    }
}

#[test]
fn one_that_was_pulled_out_can_still_be_taken_back() {
    let (_dir, fake) = machine();
    let devices = read::devices(&fake.host().sys).unwrap();
    assert_eq!(names(&devices, "1234:5678").unwrap().0, ["usb-1234-5678"]);
    // Whichever way it was given.
    let (ids, _) = names(&devices, "datatraveler").unwrap();
    assert!(ids.contains(&"usb-0951-1666".to_owned()) && ids.contains(&"usb-port-4-1".to_owned()));
    assert_eq!(names(&devices, "webcam").unwrap_err().code, Code::NotFound);
    assert_eq!(
        names(&devices, "046d:c52b").unwrap().0,
        ["usb-046d-c52b"],
        "an id may be given though two have it"
    );
}

#[test]
fn only_what_is_meant_and_free_is_opened() {
    let (_dir, fake) = machine();
    for node in ["001/006", "001/007", "003/002", "004/003"] {
        fake.file(&format!("/dev/bus/usb/{node}"), "").unwrap();
    }
    let sys = fake.host().sys;
    let shown = |wanted: &[UsbRef]| {
        let nodes = open::nodes(&sys, wanted);
        nodes.iter().map(|node| node.display().to_string()).collect::<Vec<_>>()
    };
    let port = UsbRef::Port { bus: 1, path: "2.3".into() };
    assert_eq!(shown(&[]), [""; 0]);
    assert_eq!(
        shown(&[port, UsbRef::Id(0x951, 0x1666)]),
        ["/dev/bus/usb/001/006", "/dev/bus/usb/004/003"]
    );
    assert_eq!(shown(&[UsbRef::Id(0x46d, 0xc52b)]).len(), 2);
    fake.remove("/dev/bus/usb/004/003").unwrap();
    assert_eq!(shown(&[UsbRef::Id(0x951, 0x1666)]), [""; 0]);
}

#[test]
fn what_qemu_calls_it_is_understood() {
    for usb in [UsbRef::Id(0x46d, 0xc52b), UsbRef::Port { bus: 1, path: "2.3".into() }] {
        assert_eq!(plug::reference(&plug::id(&usb)), Some(usb));
    }
    for strange in ["tablet", "usb-", "usb-kbd", "usb-46d-c52b", "usb-port-", "usb-port-1"] {
        assert_eq!(plug::reference(strange), None, "{strange}");
    }
}

#[tokio::test]
async fn the_scope_is_told_and_a_refusal_of_it_is_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    let (host, vm) = (fake.host(), crate::vm::tests::vm());
    let nodes = [std::path::PathBuf::from("/dev/bus/usb/001/006")];
    open::open(&host, &vm, &nodes).await.unwrap();
    fake.units.with(|state| state.there = true);
    open::open(&host, &vm, &nodes).await.unwrap();
    open::open(&host, &vm, &[]).await.unwrap();
    fake.units.with(|state| {
        assert_eq!(state.jobs, ["set properties of hostd-vm-gaming.scope"]);
        let allow = Property::DeviceAllow(vec![("/dev/bus/usb/001/006".into(), "rw".into())]);
        assert_eq!(state.set["hostd-vm-gaming.scope"], [allow]);
        state.fails.push("set properties of hostd-vm-gaming.scope".to_owned());
    });
    open::open(&host, &vm, &nodes).await.unwrap();
    open::close(&host, &vm.name, nodes.to_vec()).await.unwrap();
}

proptest! {
    #[test]
    fn words_never_panic_and_names_are_what_qemu_takes(words in ".{0,20}") {
        let _ = choose(&[], &words);
        if let Some(reference) = parse(&words) {
            let id = plug::id(&reference);
            prop_assert!(id.starts_with("usb-"));
            prop_assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)), "{}", id);
        }
    }

    #[test]
    fn ports_and_ids_are_understood(bus in 1u8.., ports in proptest::collection::vec(1u8..16, 1..6), v: u16, p: u16) {
        let path = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(".");
        prop_assert_eq!(parse(&format!("{bus}-{path}")), Some(UsbRef::Port { bus, path }));
        prop_assert_eq!(parse(&format!("{v:04x}:{p:04X}")), Some(UsbRef::Id(v, p)));
    }
}

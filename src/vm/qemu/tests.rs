//! Against a small captured conversation, and against nonsense.

use std::ffi::OsString;

use super::*;
use crate::config::{Display, Sound, Viewers, Vm};
use crate::host::fake::FakeHost;
use crate::vm::argv::{Facts, Start, argv};
use crate::vm::devices::Lent;
use crate::vm::tests::{identity, paths, vm};
use proptest::prelude::*;

const QEMU: &str = "/usr/bin/qemu-system-x86_64";

/// QEMU 7.2's own words, most of them left out.
const SAID: &str = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2+dfsg-7"}, "capabilities": ["oob"]}}
{"return": {}}
{"id": "query-machines", "return": [{"name": "pc-q35-7.1", "cpu-max": 288}, {"name": "pc-q35-7.2", "alias": "q35", "is-default": false}]}
{"id": "qom-list-types", "return": [{"name": "VGA", "parent": "pci-vga"}, {"name": "pcie-root-port"}, {"name": "qemu-xhci"}]}
{"id": "has VGA", "return": [{"name": "addr", "type": "int32"}]}
{"id": "has nope", "error": {"class": "DeviceNotFound", "desc": "Device 'nope' not found"}}
{"id": "has qemu-xhci", "return": [{"name": "addr"}, {"name": "p2"}]}
{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": false}}
{"return": {}}
"#;

fn can() -> Capabilities {
    ask::parse(SAID.as_bytes()).unwrap()
}

fn line(vm: &Vm) -> Vec<OsString> {
    let (card, facts) = (Lent::default(), Facts::default());
    let start = Start { identity: &identity(), token: identity().uuid, card: &card, facts: &facts };
    argv(vm, &paths(), &start)
}

fn judged(vm: &Vm, can: &Capabilities) -> String {
    let problems = judge(vm, &line(vm), can);
    let lines = problems.iter().map(|one| format!("{}: {}", one.what, one.next));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn is_read_from_what_it_says() {
    let can = can();
    assert_eq!((can.version, can.package.as_str()), ((7, 2, 22), "Debian 1:7.2+dfsg-7"));
    assert_eq!(can.resolve("q35"), Some("pc-q35-7.2"));
    assert_eq!(can.resolve("pc-q35-7.1"), Some("pc-q35-7.1"));
    assert_eq!(can.resolve("pc-q35-9.0"), None);
    assert!(can.types.contains("VGA") && can.properties["VGA"].contains("addr"));
    assert!(!can.properties.contains_key("nope"));
    let audio = ask::drivers("Available audio drivers:\nnone\nalsa\n");
    assert_eq!(audio.into_iter().collect::<Vec<_>>(), ["alsa", "none"]);
}

#[test]
fn what_is_not_qemu_is_no_qemu() {
    for said in ["", "hello\n", "{}\n", "{\"return\":{}}\n", SAID.lines().next().unwrap()] {
        assert!(ask::parse(said.as_bytes()).is_err(), "{said}");
    }
}

#[test]
fn says_what_is_missing_and_where_it_is() {
    let vm = Vm {
        machine: "pc-q35-9.0".into(),
        sound: Sound::Pipewire,
        display: Display::Spice(Viewers::Socket),
        ..vm()
    };
    insta::assert_snapshot!(judged(&vm, &can()));
    let near = Vm { machine: "pc-q35-7,1".into(), ..vm };
    let said = judged(&near, &can());
    assert!(said.contains("use `machine: pc-q35-7.1`, which is the nearest"), "{said}");
    let old = Capabilities { version: (6, 2, 0), ..can() };
    assert!(judged(&near, &old).starts_with("QEMU 6.2.0 is older than"));
}

#[test]
fn the_words_of_the_owner_are_qemus_to_judge() {
    let mut can = can();
    can.properties.get_mut("qemu-xhci").unwrap().insert("p3".to_owned());
    let vm = Vm { qemu_args: vec!["-device".into(), "nope,x=y".into()], ..vm() };
    assert_eq!(judged(&vm, &can), "");
}

#[tokio::test]
async fn is_asked_once_for_each_state_of_the_binary() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    let host = fake.host();
    let asked = look(&host, Path::new(QEMU)).await.unwrap_err();
    assert_eq!(asked.to_string(), format!("QEMU is not there: {QEMU} does not exist"));
    fake.file(QEMU, "binary").unwrap();
    fake.runner.says(QEMU, SAID);
    fake.runner.says(&format!("{QEMU} -audiodev"), "Available audio drivers:\nnone\n");
    // Who only looks leaves nothing behind.
    let seen = look(&host, Path::new(QEMU)).await.unwrap();
    assert_eq!((fake.runner.asked().len(), host.state.list(FOLDER).unwrap().len()), (2, 0));
    let first = capabilities(&host, Path::new("qemu-system-x86_64")).await.unwrap();
    assert_eq!(first, seen);
    assert_eq!(first, Capabilities { audio: ["none".to_owned()].into(), ..can() });
    let questions = fake.runner.asked();
    assert_eq!(questions.len(), 2);
    assert!(String::from_utf8_lossy(&questions[0].stdin).ends_with("{\"execute\":\"quit\"}\n"));
    assert_eq!(capabilities(&host, Path::new(QEMU)).await.unwrap(), first);
    assert_eq!(look(&host, Path::new(QEMU)).await.unwrap(), first);
    assert_eq!(fake.runner.asked(), []);
    // A damaged answer, and a package with another part of it.
    let file = Path::new(FOLDER).join(&host.state.list(FOLDER).unwrap()[0]);
    host.state.write(&file, "{\"form\":1").unwrap();
    assert_eq!(capabilities(&host, Path::new(QEMU)).await.unwrap(), first);
    assert_eq!(fake.runner.asked().len(), 2);
    fake.file(&format!("{MODULES}/ui-spice-core.so"), "").unwrap();
    capabilities(&host, Path::new(QEMU)).await.unwrap();
    assert_eq!(fake.runner.asked().len(), 2);
    assert_eq!(host.state.list(FOLDER).unwrap().len(), 2);
}

#[tokio::test]
async fn only_a_few_answers_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    fake.runner.says(QEMU, SAID);
    for size in 1..=KEPT + 3 {
        fake.file(QEMU, "x".repeat(size)).unwrap();
        capabilities(&fake.host(), Path::new(QEMU)).await.unwrap();
    }
    assert_eq!(fake.host().state.list(FOLDER).unwrap().len(), KEPT);
}

proptest! {
    #[test]
    fn never_panics(said in ".{0,200}", cut in 0..SAID.len()) {
        let _ = (ask::parse(said.as_bytes()), ask::drivers(&said));
        let _ = ask::parse(&SAID.as_bytes()[..cut]);
    }
}

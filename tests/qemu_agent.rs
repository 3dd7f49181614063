//! The guest agent, USB devices and media of a real Linux guest on the real
//! QEMU of this machine, in software.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests look at what is really there, and fail loudly"
)]

mod guest;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest::Guest;
use hostd::ask::Code;
use hostd::base::{Bytes, Timestamp};
use hostd::config::{UsbRef, Vm};
use hostd::host::Host;
use hostd::host::dial::RealDial;
use hostd::vm::agent::wire::Power;
use hostd::vm::agent::{Agent, AgentError};
use hostd::vm::qmp::{self, Qmp};
use hostd::vm::usb::{self, plug};
use hostd::vm::{media, stats};

/// What nothing here should ever take, on a machine that does much else.
const LONG: Duration = Duration::from_secs(90);
/// What an agent that is up may take.
const ANSWER: Duration = Duration::from_secs(20);

/// A QEMU that ends with its test.
struct Booted {
    dir: tempfile::TempDir,
    child: Child,
}

impl Booted {
    fn new(words: &str, more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let child = Command::new("qemu-system-x86_64")
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "1"])
            .args(["-m", &guest::MEMORY_MIB.to_string()])
            .args(Guest::get().boot(words))
            .args(["-serial", &format!("file:{}", at("console"))])
            .args(["-qmp", &format!("unix:{},server=on,wait=off", at("qmp.sock"))])
            .args(["-device", "qemu-xhci,id=usb", "-device", "virtio-serial-pci", "-chardev"])
            .arg(format!("socket,id=agent,path={},server=on,wait=off", at("agent.sock")))
            .args(["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"])
            .args(more)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { dir, child }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn console(&self) -> String {
        let bytes = std::fs::read(self.path("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Until the guest says this on its console.
    async fn says(&self, words: &str) {
        let begun = Instant::now();
        while !self.console().contains(words) {
            assert!(begun.elapsed() < LONG, "no `{words}` in:\n{}", self.console());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its agent, once it speaks.
    async fn agent(&self) -> Agent {
        let begun = Instant::now();
        loop {
            let dial = Arc::new(RealDial);
            match Agent::connect(dial, self.path("agent.sock"), LONG).await {
                Ok(agent) => {
                    println!("boot to the agent's first answer: {:?}", begun.elapsed());
                    return agent;
                }
                Err(error) => {
                    assert!(begun.elapsed() < LONG, "{error}; {}", self.console());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    async fn qmp(&self) -> Qmp {
        let begun = Instant::now();
        loop {
            match qmp::connect(&RealDial, &self.path("qmp.sock"), ANSWER).await {
                Ok((qmp, mut events)) => {
                    tokio::spawn(async move { while events.next().await.is_some() {} });
                    return qmp;
                }
                Err(error) => assert!(begun.elapsed() < LONG, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn host(&self) -> Host {
        Host::real("/".into(), self.path("lib"), self.path("run"))
    }

    async fn ends(&mut self) {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < LONG, "QEMU does not end; {}", self.console());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn disk(dir: &std::path::Path) -> PathBuf {
    let path = dir.join("disk.img");
    std::fs::File::create(&path).unwrap().set_len(4 << 20).unwrap();
    let made = Command::new("/sbin/mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(&path).status();
    assert!(made.unwrap().success());
    path
}

#[tokio::test]
async fn the_real_agent_answers_freezes_and_shuts_down() {
    let dir = tempfile::tempdir().unwrap();
    let drive = format!("file={},format=raw,if=virtio", disk(dir.path()).display());
    let network = ["-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n"];
    let mut vm = Booted::new("", &[&network[..], &["-drive", &drive]].concat());
    let agent = vm.agent().await;
    let info = agent.info(ANSWER).await.unwrap();
    assert!(info.commands.contains("guest-fsfreeze-freeze"), "{info:?}");
    vm.says("guest: ready").await;

    let os = agent.os_info(ANSWER).await.unwrap();
    assert_eq!((os.id.as_str(), os.name.as_str()), ("hostd-guest", "hostd test guest 1"));
    assert_eq!(os.machine, "x86_64");
    assert_eq!(agent.host_name(ANSWER).await.unwrap(), "guest");
    let cards = agent.interfaces(ANSWER).await.unwrap();
    let reachable: Vec<_> = cards.iter().filter(|card| card.is_reachable()).collect();
    assert_eq!(reachable.len(), 1, "{cards:?}");
    assert_eq!(reachable[0].addresses[0].ip.to_string(), "10.0.2.15");

    // One that is frozen says so, also to the next hostd, and thaws.
    let frozen = agent.freeze(ANSWER).await.unwrap();
    assert_eq!(frozen.count(), 1);
    assert!(agent.is_frozen(ANSWER).await.unwrap());
    let refused = agent.host_name(ANSWER).await.unwrap_err();
    assert!(refused.is_an_answer(), "a frozen agent does nothing else: {refused}");
    frozen.thaw().await.unwrap();
    assert!(!agent.is_frozen(ANSWER).await.unwrap());
    drop(agent.freeze(ANSWER).await.unwrap());
    let begun = Instant::now();
    while agent.is_frozen(ANSWER).await.unwrap() {
        assert!(begun.elapsed() < LONG, "what is dropped thaws");
    }
    std::mem::forget(agent.freeze(ANSWER).await.unwrap());
    assert!(agent.thaw_if_frozen(ANSWER).await.unwrap());
    assert!(!agent.thaw_if_frozen(ANSWER).await.unwrap());

    agent.set_time(Some(Timestamp::from_secs(1_700_000_000)), ANSWER).await.unwrap();
    agent.set_time(None, ANSWER).await.unwrap();
    assert!(matches!(
        agent.suspend_disk(ANSWER).await,
        Err(AgentError::Refused { .. } | AgentError::Unsupported { .. })
    ));
    agent.shutdown(Power::Down, ANSWER).await.unwrap();
    vm.ends().await;
    assert!(vm.console().contains("guest: shutdown -h -P"), "{}", vm.console());
    assert!(matches!(agent.ping(ANSWER).await, Err(AgentError::Dial { .. })));
}

#[tokio::test]
async fn one_that_lies_is_believed_and_nothing_happens() {
    let mut vm = Booted::new("agent=lies ignore-acpi", &[]);
    let agent = vm.agent().await;
    agent.shutdown(Power::Down, ANSWER).await.unwrap();
    agent.ping(ANSWER).await.unwrap();
    assert!(vm.child.try_wait().unwrap().is_none());
    // What it says to a question makes no sense, and is said to.
    let error = agent.host_name(ANSWER).await.unwrap_err();
    assert!(matches!(error, AgentError::Strange { .. }), "{error}");
}

#[tokio::test]
async fn a_guest_without_an_agent_is_silent_and_not_waited_for() {
    let vm = Booted::new("agent=off", &[]);
    vm.says("guest: ready").await;
    let agent = Agent::at(Arc::new(RealDial), vm.path("agent.sock"));
    let begun = Instant::now();
    let error = agent.ping(Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, AgentError::Silent { .. }), "{error}");
    assert!(begun.elapsed() < ANSWER);
}

/// No guest is needed for these: QEMU itself is asked.
#[tokio::test]
async fn usb_devices_come_and_go_and_one_that_cannot_be_opened_is_taken_back() {
    // In place of a device of the host, of which there may be none.
    let vm = Booted::new("agent=off", &["-device", "usb-mouse,bus=usb.0,id=usb-1234-5678"]);
    let (qmp, name) = (vm.qmp().await, "test".parse().unwrap());
    assert_eq!(plug::attached(&qmp).await.unwrap(), ["usb-1234-5678"]);
    let done = usb::detach(&vm.host(), &name, &qmp, "1234:5678").await.unwrap();
    assert!(done.changed, "{done:?}");
    assert!(plug::attached(&qmp).await.unwrap().is_empty());
    let done = usb::detach(&vm.host(), &name, &qmp, "1234:5678").await.unwrap();
    assert_eq!((done.changed, done.message.as_str()), (false, "`test` did not have 1234:5678"));
    for reference in [UsbRef::Id(0xfff1, 0xfff2), UsbRef::Port { bus: 99, path: "1.2".into() }] {
        let error = plug::attach(&qmp, &reference).await.unwrap_err();
        println!("{reference:?}: {error}");
        assert!(plug::attached(&qmp).await.unwrap().is_empty(), "nothing is left of it");
    }
    let file = Vm::plain(name, Bytes(64 << 20));
    let refusal = usb::attach(&vm.host(), &file, &qmp, "fff1:fff2", &[]).await.unwrap_err();
    assert!(matches!(refusal.code, Code::NotFound | Code::Failed), "{refusal}");
}

#[tokio::test]
async fn a_disc_is_changed_while_the_guest_runs() {
    let drive = ["-drive", "if=none,id=disk1", "-device", "ide-cd,id=disk1-device,drive=disk1"];
    let vm = Booted::new("agent=off", &drive);
    let (qmp, host, name) = (vm.qmp().await, vm.host(), "test".parse().unwrap());
    let mut image = vec![0; 40 << 10];
    image[0x8001..0x8006].copy_from_slice(b"CD001");
    let (first, second) = (vm.path("a, b.iso"), vm.path("c.iso"));
    for file in [&first, &second] {
        std::fs::write(file, &image).unwrap();
    }
    vm.says("guest: ready").await;
    for file in [&first, &second] {
        let file = file.to_str().unwrap();
        let done = media::change(&host, &name, &qmp, None, Some(file), false).await.unwrap();
        assert_eq!(done.message, format!("{file} is in `disk1` of `test`"));
        let again = media::change(&host, &name, &qmp, Some("disk1"), Some(file), false).await;
        assert!(!again.unwrap().changed);
    }
    let done = media::change(&host, &name, &qmp, None, None, false).await.unwrap();
    assert_eq!(done.message, "`disk1` of `test` is empty");
    assert!(!media::change(&host, &name, &qmp, None, None, false).await.unwrap().changed);
    let refusal = media::change(&host, &name, &qmp, None, Some("/etc/passwd"), true).await;
    assert_eq!(refusal.unwrap_err().message, "/etc/passwd is not an image of a disc");
}

#[tokio::test]
async fn statistics_are_those_of_this_qemu() {
    let dir = tempfile::tempdir().unwrap();
    let drive = format!("file={},format=raw,if=none,id=disk0", disk(dir.path()).display());
    let device = "virtio-blk-pci,drive=disk0,id=disk0-device";
    let vm = Booted::new("agent=off", &["-drive", &drive, "-device", device]);
    let (qmp, host, pid) = (vm.qmp().await, vm.host(), vm.child.id());
    let before = stats::sample(&host, pid, Some(&qmp)).await;
    vm.says("guest: ready").await;
    let now = stats::sample(&host, pid, Some(&qmp)).await;
    let view = stats::between(1, &before, &now).unwrap();
    println!("{view:?}");
    // It has booted: software emulation is nothing but work.
    assert!(view.cpu.is_some_and(|cpu| cpu > 0.05), "{view:?}");
    assert!(view.memory.is_some_and(|bytes| bytes > 20 << 20), "{view:?}");
    assert_eq!(view.disks.len(), 1);
    assert!(view.disks[0].reads > 0.0 && view.disks[0].read_seconds.is_some(), "it was mounted");
    let gone = stats::sample(&host, u32::MAX, None).await;
    assert_eq!((gone.cpu, gone.memory, gone.disks.len()), (None, None, 0));
}

#[tokio::test]
async fn the_power_button_is_obeyed_or_ignored_as_the_guest_was_told() {
    let mut vm = Booted::new("agent=off", &[]);
    vm.says("guest: ready").await;
    let qmp = vm.qmp().await;
    qmp.ask(qmp::wire::Command::SystemPowerdown, ANSWER).await.unwrap();
    vm.ends().await;
    let mut vm = Booted::new("ignore-acpi no-shutdown", &[]);
    vm.says("guest: ready").await;
    let (qmp, agent) = (vm.qmp().await, vm.agent().await);
    qmp.ask(qmp::wire::Command::SystemPowerdown, ANSWER).await.unwrap();
    vm.says("guest: power button").await;
    agent.shutdown(Power::Down, ANSWER).await.unwrap();
    vm.says("guest: shutdown").await;
    agent.ping(ANSWER).await.unwrap();
    assert!(vm.child.try_wait().unwrap().is_none());
}

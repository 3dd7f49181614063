//! Snapshots of VMs on the real QEMU of this machine, in software, with real
//! qcow2 images: what was written is there again, or surely not.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests look at what is really there, and fail loudly"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hostd::ask::Code;
use hostd::ask::view::{SnapshotState, VmState};
use hostd::base::{Bytes, Name};
use hostd::config::{Accel, AfterDeadline, Disk, DiskFormat, Network, Stop, Vm};
use hostd::host::Host;
use hostd::vm::devices::FakeDevices;
use hostd::vm::snapshot::hold::Doing;
use hostd::vm::snapshot::{self, Freeze, Frozen, Guest, Why};
use hostd::vm::supervisor::{Deps, VmHandle, spawn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc;

/// What nothing here should ever take.
const LONG: Duration = Duration::from_secs(30);

struct Bench {
    dir: tempfile::TempDir,
}

fn run(program: &str, args: &[&str]) -> String {
    let out = std::process::Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success(), "{program} {args:?}: {said}");
    said
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn host(&self) -> Host {
        Host::real("/".into(), self.path("lib"), self.path("run"))
    }

    /// A VM with two images.
    fn vm(&self) -> Vm {
        let disk = |file: &str, boot| {
            let path = self.path(file);
            run("qemu-img", &["create", "-q", "-f", "qcow2", path.to_str().unwrap(), "1M"]);
            Disk { format: DiskFormat::Qcow2, ..Disk::plain(path, boot) }
        };
        Vm {
            cpus: 1,
            accel: Accel::Tcg,
            network: Network::None,
            stop: Stop { deadline: Duration::from_millis(100), then: AfterDeadline::Quit },
            disks: vec![disk("a, b.qcow2", 1), disk("c.qcow2", 2)],
            ..Vm::plain("test".parse().unwrap(), Bytes(64 << 20))
        }
    }

    fn supervise(&self, vm: Vm) -> VmHandle {
        let (out, mut changes) = mpsc::channel(16);
        tokio::spawn(async move { while changes.recv().await.is_some() {} });
        spawn(Deps::new(self.host(), Arc::new(FakeDevices::default()), out), vm)
    }

    /// Fills the beginning of both images.
    fn write(&self, byte: u8) {
        self.io(&format!("write -P {byte} 0 64k"));
    }

    /// What both images begin with; fails when it is not this.
    fn holds(&self, byte: u8) {
        self.io(&format!("read -P {byte} 0 64k"));
    }

    fn io(&self, command: &str) {
        for file in ["a, b.qcow2", "c.qcow2"] {
            let path = self.path(file);
            let said = run("qemu-io", &["-f", "qcow2", "-c", command, path.to_str().unwrap()]);
            assert!(!said.contains("failed"), "{command}: {said}");
        }
    }

    /// The snapshots inside both images.
    fn inside(&self) -> usize {
        let count = |file: &str| {
            let path = self.path(file);
            let said = run("qemu-img", &["snapshot", "-l", "-U", path.to_str().unwrap()]);
            said.lines().filter(|line| line.contains("hostd-")).count()
        };
        let (one, other) = (count("a, b.qcow2"), count("c.qcow2"));
        assert_eq!(one, other, "all or none");
        one
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let ours = self.dir.path().to_str().unwrap().to_owned();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let pid = entry.file_name().to_str().and_then(|pid| pid.parse().ok());
            if let (Some(pid), true) = (pid, String::from_utf8_lossy(&line).contains(&ours)) {
                // It may just have ended.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

async fn states(handle: &VmHandle) -> Vec<(String, SnapshotState)> {
    let view = handle.snapshots().await.unwrap();
    assert_eq!(view.notes, [""; 0]);
    view.snapshots.into_iter().map(|one| (one.name, one.state)).collect()
}

async fn until(handle: &VmHandle, state: VmState) {
    let mut watch = handle.watch();
    let seen = tokio::time::timeout(LONG, watch.wait_for(|view| view.state == state)).await;
    assert!(seen.is_ok(), "it does not come about: {:?}", handle.view());
}

#[tokio::test]
async fn off_and_back() {
    let bench = Bench::new();
    let handle = bench.supervise(bench.vm());
    bench.write(1);
    let done = handle.snapshot(Some(name("one"))).await.unwrap();
    assert_eq!(done.message, "snapshot `one` of `test` is made: 2 disks");
    assert_eq!(done.warnings, [""; 0], "nothing ran");
    bench.write(2);
    handle.snapshot(Some(name("two"))).await.unwrap();
    bench.write(3);
    handle.revert(&name("one"), false).await.unwrap();
    bench.holds(1);
    // Inside an image newer ones stay.
    handle.revert(&name("two"), false).await.unwrap();
    bench.holds(2);
    let whole = |text: &str| (text.to_owned(), SnapshotState::Whole);
    assert_eq!(states(&handle).await, [whole("one"), whole("two")]);
    handle.delete_snapshot(&name("one")).await.unwrap();
    assert_eq!((states(&handle).await, bench.inside()), (vec![whole("two")], 1));
    bench.holds(2);
    let none = handle.revert(&name("one"), false).await.unwrap_err();
    assert_eq!((none.code, none.hint.as_str()), (Code::NotFound, "there are: two"));
    handle.delete_snapshot(&name("two")).await.unwrap();
    assert_eq!((states(&handle).await, bench.inside()), (vec![], 0));
}

#[tokio::test]
async fn while_it_runs() {
    let bench = Bench::new();
    let handle = bench.supervise(bench.vm());
    bench.write(1);
    handle.start().await.unwrap();
    let done = handle.snapshot(None).await.unwrap();
    println!("{done:?}");
    assert!(done.message.contains("2 disks; the guest stood still for 0."), "{done:?}");
    assert!(done.warnings[0].contains("as after a power failure"), "{done:?}");
    until(&handle, VmState::Running).await;
    // One that somebody has paused stays so.
    handle.pause().await.unwrap();
    let done = handle.snapshot(Some(name("paused"))).await.unwrap();
    assert!(done.message.ends_with("2 disks; the guest was halted"), "{done:?}");
    assert_eq!(handle.view().state, VmState::Paused);
    handle.resume().await.unwrap();
    let refusal = handle.revert(&name("paused"), true).await.unwrap_err();
    assert!(refusal.message.contains("is running: going back needs it off"), "{refusal}");
    let all = states(&handle).await;
    assert!(all.iter().all(|(_, state)| *state == SnapshotState::Whole), "{all:?}");
    handle.delete_snapshot(&name("paused")).await.unwrap();
    assert_eq!((states(&handle).await.len(), bench.inside()), (1, 1));
    assert_eq!(handle.view().state, VmState::Running, "deleting halts nobody");
    handle.stop(true).await.unwrap();
    bench.write(2);
    handle.revert(&name(&all[0].0), false).await.unwrap();
    bench.holds(1);
    handle.start().await.unwrap();
}

#[tokio::test]
async fn one_image_that_cannot_leaves_the_other_without() {
    let bench = Bench::new();
    let handle = bench.supervise(bench.vm());
    handle.start().await.unwrap();
    // The second node is one that QEMU has no image of.
    let mut vm = handle.vm().clone();
    vm.disks.swap(0, 1);
    vm.disks.insert(1, Disk { readonly: true, ..Disk::plain("/none", 3) });
    let qmp = handle.qmp().unwrap();
    let guest = Guest::Runs { qmp: &qmp, agent: None };
    let refusal = snapshot::create(&bench.host(), &vm, guest, None, Why::Person).await.unwrap_err();
    assert!(refusal.message.contains("QEMU refused transaction"), "{refusal}");
    assert_eq!(refusal.hint, "nothing of it is left");
    assert_eq!((bench.inside(), states(&handle).await), (0, vec![]));
    until(&handle, VmState::Running).await;
}

/// An agent made of a counter: how many freezes have not been thawed.
#[derive(Clone, Default)]
struct Agent(Arc<AtomicU32>, bool);

impl Freeze for Agent {
    fn freeze(&self) -> Doing<'_, Result<Box<dyn Frozen>, String>> {
        Box::pin(async {
            if self.1 {
                return Err("it is busy".to_owned());
            }
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(Box::new(self.clone()) as Box<dyn Frozen>)
        })
    }
}

impl Frozen for Agent {
    fn thaw(self: Box<Self>) -> Doing<'static, Result<(), String>> {
        Box::pin(async move {
            self.0.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_guest_with_an_agent_is_frozen_and_runs_on() {
    let bench = Bench::new();
    let handle = bench.supervise(bench.vm());
    handle.start().await.unwrap();
    let (qmp, mut watch) = (handle.qmp().unwrap(), handle.watch());
    watch.mark_unchanged();
    let agent = Agent::default();
    let guest = Guest::Runs { qmp: &qmp, agent: Some(&agent) };
    let make = |guest| {
        let (host, vm) = (bench.host(), handle.vm().clone());
        async move { snapshot::create(&host, &vm, guest, None, Why::Person).await }
    };
    let made = make(guest).await.unwrap();
    assert!(made.message.ends_with("the guest had written everything out"), "{made:?}");
    assert_eq!(made.warnings, [""; 0]);
    assert_eq!(agent.0.load(Ordering::SeqCst), 0, "thawed");
    assert!(!watch.has_changed().unwrap(), "it was not halted");
    assert!(handle.snapshots().await.unwrap().snapshots[0].frozen);
    // One whose agent does not freeze is halted instead.
    let agent = Agent(Arc::default(), true);
    let made = make(Guest::Runs { qmp: &qmp, agent: Some(&agent) }).await.unwrap();
    assert!(made.warnings[0].contains("could not be frozen: it is busy"), "{made:?}");
    until(&handle, VmState::Running).await;
}

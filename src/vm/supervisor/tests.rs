//! The supervisor on a machine made of values, with a QEMU that can be told
//! how to behave.

mod barred;
mod disks;
mod life;

use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::time::timeout;

use super::fake::{FakeQemu, Guest, Qemus};
use super::*;
use crate::base::{Name, PciAddress};
use crate::config::{AfterDeadline, GpuOptions, GpuRef, Stop};
use crate::host::SysRoot;
use crate::host::fake::FakeHost;
use crate::vm::argv::token_id;
use crate::vm::devices::{FakeDevices, Handing, Lent, Looking};
use crate::vm::identity::Uuid;
use crate::vm::last_good;
use crate::vm::paths;
use crate::vm::record::{GpuNote, Phase, ProcessId};
use crate::vm::tests::vm;

struct Bench {
    _dir: tempfile::TempDir,
    fake: FakeHost,
    host: Host,
    qemu: Arc<FakeQemu>,
    devices: Arc<FakeDevices>,
    vm: Vm,
}

const SOON: Duration = Duration::from_secs(20);

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file("/usr/bin/qemu-system-x86_64", "").unwrap();
        fake.file("/proc/sys/kernel/random/uuid", crate::vm::tests::identity().uuid.to_string())
            .unwrap();
        let qemu = Arc::new(FakeQemu {
            processes: Arc::clone(&fake.processes),
            proc: fake.host().sys.path("/proc"),
            next: AtomicU32::new(100),
            guest: watch::channel(Guest { status: "running", ..Guest::default() }).0,
            fails: Mutex::default(),
        });
        let mut host = fake.host();
        host.runner = Arc::new(Qemus(Arc::clone(&qemu)));
        let devices = Arc::new(FakeDevices::default());
        devices.with(|card| card.functions = vec!["01:00.0".parse().unwrap()]);
        let gpu = Some(GpuRef::Name("amd".parse().unwrap()));
        let stop = Stop { deadline: Duration::from_millis(100), then: AfterDeadline::Quit };
        Self { _dir: dir, fake, host, qemu, devices, vm: Vm { gpu, stop, ..vm() } }
    }

    fn supervise(&self) -> VmHandle {
        let (out, mut changes) = mpsc::channel(16);
        tokio::spawn(async move { while changes.recv().await.is_some() {} });
        let devices = self.devices.clone();
        spawn(Deps::new(self.host.clone(), devices, out), self.vm.clone())
    }

    /// What an earlier hostd has left: a note, and perhaps its QEMU.
    fn leave(&self, phase: Phase, lives: bool, noted: bool) {
        let token = crate::vm::tests::identity().uuid;
        let mut record = Record::begin(token, self.vm.gpu.as_ref());
        record.phase = phase;
        self.devices.with(|card| card.lent_to = Some(self.vm.name.clone()));
        if lives {
            let id = self.process(token);
            record.process = noted.then_some(id);
        } else if noted {
            record.process = Some(ProcessId { pid: 7, started: 70 });
        }
        record.write(&self.host, &self.vm.name).unwrap();
    }

    fn process(&self, token: Uuid) -> ProcessId {
        let folder = self.host.runtime.make_dir(paths::folder(&self.vm.name)).unwrap();
        let socket = folder.join(paths::QMP).display().to_string();
        let args = [
            format!("null,id={}", token_id(token)),
            format!("socket,id=qmp,path={socket},server=on"),
        ];
        self.qemu.begin(&args, None)
    }

    fn assert_clean(&self, when: &str) {
        assert_eq!(self.fake.processes.alive(), [0; 0], "{when}: no process stays");
        self.devices.with(|card| assert_eq!(card.lent_to, None, "{when}: the card is back"));
        let left = self.host.runtime.list(paths::folder(&self.vm.name)).unwrap();
        assert!(left.iter().all(|file| file.starts_with(paths::LOG)), "{when}: {left:?}");
    }
}

async fn until(handle: &VmHandle, what: impl Fn(&VmView) -> bool) -> VmView {
    let mut watch = handle.watch();
    let seen = timeout(SOON, watch.wait_for(|view| what(view))).await;
    seen.unwrap_or_else(|_| panic!("it does not come about: {:?}", handle.view())).unwrap().clone()
}

async fn at_rest(handle: &VmHandle) -> VmView {
    until(handle, |view| {
        let moving = [VmState::Preparing, VmState::Starting, VmState::Stopping];
        view.step.is_empty() && !moving.contains(&view.state)
    })
    .await
}

#[tokio::test]
async fn starts_with_the_card_and_gives_it_back() {
    let bench = Bench::new();
    let handle = bench.supervise();
    let (one, two) = tokio::join!(handle.start(), handle.start());
    assert_eq!((one.unwrap().changed, two.unwrap().changed), (true, false));
    let view = handle.view();
    assert_eq!((view.state, view.pid), (VmState::Running, Some(100)));
    assert_eq!(view.devices, ["01:00.0".parse().unwrap()]);
    bench.qemu.guest.send_modify(|guest| guest.obeys = true);
    let done = handle.stop(false).await.unwrap();
    assert_eq!(done.message, "`gaming` is off: the guest shut down on request");
    assert_eq!(handle.view().devices, []);
    bench.assert_clean("after stop");
}

/// Starts the VM, leaves it, and waits until every note is written.
async fn start_and_leave(bench: &Bench) -> Outcome {
    let (out, mut changes) = mpsc::channel(64);
    let devices = bench.devices.clone();
    let handle = spawn(Deps::new(bench.host.clone(), devices, out), bench.vm.clone());
    let outcome = handle.start().await;
    drop(handle);
    timeout(SOON, async { while changes.recv().await.is_some() {} }).await.unwrap();
    outcome
}

#[tokio::test]
async fn what_it_ran_on_is_kept_in_mind() {
    let mut bench = Bench::new();
    let name = bench.vm.name.clone();
    let starts = |bench: &Bench| last_good::read(&bench.host, &name).unwrap();
    bench.fake.file("/proc/sys/kernel/osrelease", "6.12.1\n").unwrap();
    *bench.qemu.fails.lock().unwrap() = Some("qemu: group 11 is not viable\n");
    start_and_leave(&bench).await.unwrap_err();
    let first = starts(&bench).unwrap();
    assert_eq!(first.good, None);
    assert!(first.failed.unwrap().why.contains("not viable"));
    *bench.qemu.fails.lock().unwrap() = None;
    start_and_leave(&bench).await.unwrap();
    let second = starts(&bench).unwrap().good.unwrap();
    assert_eq!(second.setup.kernel.as_deref(), Some("6.12.1"));
    assert_eq!(second.setup.qemu.as_deref(), Some("10.0.0"));
    // Only a card makes it worth while.
    bench.vm.name = "other".parse().unwrap();
    bench.vm.gpu = None;
    start_and_leave(&bench).await.unwrap();
    assert_eq!(last_good::read(&bench.host, &bench.vm.name).unwrap(), None);
}

#[tokio::test]
async fn what_qemu_said_last_is_in_the_refusal() {
    let bench = Bench::new();
    *bench.qemu.fails.lock().unwrap() = Some("qemu: vfio 0000:01:00.0: group 11 is not viable\n");
    let refusal = bench.supervise().start().await.unwrap_err();
    assert!(refusal.message.contains("exit status 1"), "{refusal}");
    assert!(refusal.message.contains("group 11 is not viable"), "{refusal}");
    bench.assert_clean("after a failed start");
}

#[tokio::test]
async fn a_card_that_sticks_is_said_and_tried_again() {
    let bench = Bench::new();
    let handle = bench.supervise();
    handle.start().await.unwrap();
    bench.devices.with(|card| card.stick = Some("the card hangs in D3".to_owned()));
    assert_eq!(handle.stop(false).await.unwrap_err().message, "the card hangs in D3");
    assert_eq!(handle.view().state, VmState::Failed);
    assert!(handle.start().await.unwrap_err().message.contains("the card hangs in D3"));
    handle.abandon();
    // The next hostd knows of it too.
    let handle = bench.supervise();
    assert_eq!(at_rest(&handle).await.state, VmState::Failed);
    bench.devices.with(|card| card.stick = None);
    assert!(handle.stop(false).await.unwrap().changed);
    assert_eq!(handle.view().state, VmState::Off);
    bench.assert_clean("after another try");
    handle.start().await.unwrap();
}

#[tokio::test]
async fn a_guest_that_is_halted_from_inside_qemu_is_not_green() {
    let bench = Bench::new();
    let handle = bench.supervise();
    handle.start().await.unwrap();
    bench.qemu.guest.send_modify(|guest| guest.status = "io-error");
    let view = until(&handle, |view| view.state == VmState::Paused).await;
    assert_eq!(view.reason, "a disk failed under the guest");
    assert!(view.responsive, "QEMU said so itself");
    bench.qemu.guest.send_modify(|guest| guest.status = "running");
    until(&handle, |view| view.state == VmState::Running).await;
    handle.kill().await.unwrap();
    bench.assert_clean("after kill");
}

#[tokio::test]
async fn a_kill_cuts_short_a_quit_that_hangs() {
    let bench = Bench::new();
    let handle = bench.supervise();
    handle.start().await.unwrap();
    bench.qemu.guest.send_modify(|guest| guest.stubborn = true);
    let stopping = tokio::spawn({
        let handle = handle.clone();
        async move { handle.stop(false).await }
    });
    until(&handle, |view| view.step == "telling QEMU to quit").await;
    let refusal = handle.start().await.unwrap_err();
    assert!(refusal.message.contains("it is stopping"), "{refusal}");
    handle.kill().await.unwrap();
    assert_eq!(stopping.await.unwrap().unwrap().message, "`gaming` is off: killed on request");
    bench.assert_clean("after kill");
}

/// Every note that an earlier hostd can have left, with every machine that it
/// can have left it on.
#[tokio::test]
async fn every_note_with_every_machine() {
    use VmState::{Crashed, Failed, Off, Paused, Running};
    let running = || Phase::Running;
    let past = Phase::Stopping { deadline: Timestamp(0), force: false };
    let ended = |crashed| Phase::Ended { crashed, why: "because".into() };
    let undoing = |why: Option<&str>| Phase::Undoing { why: why.map(str::to_owned) };
    // The note; whether QEMU lives; whether its number is noted; what it says; what comes out.
    let cases = [
        (Phase::Preparing, false, false, "", Failed),
        (Phase::Binding, false, false, "", Failed),
        (Phase::Launching, false, false, "", Failed),
        (Phase::Launching, true, false, "prelaunch", Failed),
        (Phase::Launched, true, true, "prelaunch", Failed),
        (Phase::Launched, false, true, "", Failed),
        (running(), true, true, "running", Running),
        (running(), true, false, "running", Running),
        (running(), true, true, "io-error", Paused),
        (running(), true, true, "prelaunch", Failed),
        (running(), false, true, "", Crashed),
        (past.clone(), true, true, "running", Off),
        (past, false, true, "", Off),
        (Phase::Quitting, true, true, "running", Off),
        (Phase::Quitting, false, true, "", Off),
        (ended(true), false, false, "", Crashed),
        (ended(false), false, false, "", Off),
        (undoing(None), true, true, "prelaunch", Off),
        (undoing(None), false, true, "", Off),
        (undoing(Some("why")), true, true, "prelaunch", Failed),
        (undoing(Some("why")), false, false, "", Failed),
    ];
    for (phase, lives, noted, status, expected) in cases {
        let case = format!("{phase:?}, lives: {lives}, noted: {noted}, `{status}`");
        let bench = Bench::new();
        bench.qemu.guest.send_modify(|guest| guest.status = status);
        bench.leave(phase, lives, noted);
        let handle = bench.supervise();
        let view = at_rest(&handle).await;
        assert_eq!(view.state, expected, "{case}: {view:?}");
        assert!(!view.reason.is_empty(), "{case}");
        if matches!(expected, Running | Paused) {
            assert!(view.reason.contains("adopted after a restart"), "{case}: {}", view.reason);
            bench.devices.with(|card| assert!(card.lent_to.is_some(), "{case}"));
            handle.stop(true).await.unwrap();
        }
        bench.assert_clean(&case);
        handle.start().await.unwrap();
        assert_eq!(handle.view().state, Running, "{case}: as good as new");
    }
}

#[tokio::test]
async fn a_process_of_the_same_number_is_not_taken_for_ours() {
    let bench = Bench::new();
    let zero = Uuid::ZERO;
    let other = bench.process(zero);
    let mut record = Record::begin(crate::vm::tests::identity().uuid, None);
    record.phase = Phase::Running;
    record.gpu = Some(GpuNote::Name("amd".parse().unwrap()));
    record.process = Some(other);
    record.write(&bench.host, &bench.vm.name).unwrap();
    let handle = bench.supervise();
    assert_eq!(at_rest(&handle).await.state, VmState::Crashed);
    assert_eq!(bench.fake.processes.alive(), [other.pid], "it is left alone");
}

/// hostd is killed at every change it tells, of a start and a hard stop.
#[tokio::test]
async fn killed_at_every_step() {
    let mut told = 0;
    loop {
        let bench = Bench::new();
        bench.qemu.guest.send_modify(|guest| guest.obeys = true);
        let (out, mut changes) = mpsc::channel(1);
        let deps = Deps::new(bench.host.clone(), bench.devices.clone(), out);
        let handle = spawn(deps, bench.vm.clone());
        let mut asking = tokio::spawn({
            let handle = handle.clone();
            async move { (handle.start().await.is_ok(), handle.stop(false).await.is_ok()) }
        });
        for _ in 0..told {
            timeout(SOON, changes.recv()).await.unwrap();
        }
        let finished = timeout(Duration::from_millis(50), &mut asking).await.is_ok();
        handle.abandon();
        // Its task is gone when its end of the channel is.
        while changes.recv().await.is_some() {}
        let handle = bench.supervise();
        let view = at_rest(&handle).await;
        if view.state == VmState::Running {
            handle.stop(false).await.unwrap();
        }
        bench.assert_clean(&format!("after {told} changes, {view:?}"));
        if finished {
            break;
        }
        told += 1;
    }
    assert!(told > 10, "only {told} changes were told");
}

#[tokio::test]
async fn logs_are_named_or_refused_in_words() {
    let bench = Bench::new();
    let handle = bench.supervise();
    assert!(handle.log(true).await.unwrap_err().message.contains("keeps no firmware log"));
    assert!(handle.log(false).await.unwrap_err().message.contains("has no log yet"));
    bench.host.runtime.write("vms/gaming/qemu.log", "hello\n").unwrap();
    let log = handle.log(false).await.unwrap();
    assert_eq!(log.text, "hello\n");
    assert!(Path::new(&log.path).is_absolute());
}

#[tokio::test]
async fn a_machine_without_proc_is_no_reason_to_fail() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::new();
    let mut host = bench.host.clone();
    host.sys = SysRoot::new(dir.path());
    let (out, _changes) = mpsc::channel(16);
    let handle = spawn(Deps::new(host, bench.devices.clone(), out), bench.vm.clone());
    let refusal = handle.start().await.unwrap_err();
    assert!(refusal.message.contains("QEMU is not there"), "{refusal}");
    assert_eq!(handle.view().state, VmState::Off);
}

/// Devices with a mistake in them.
struct Broken;

impl Devices for Broken {
    fn lend<'a>(&'a self, _: &'a GpuRef, _: &'a Name, _: &'a GpuOptions) -> Handing<'a, Lent> {
        Box::pin(async { panic!("a mistake of ours") })
    }

    fn lend_nvme<'a>(&'a self, _: PciAddress, _: &'a Name) -> Handing<'a, Lent> {
        Box::pin(async { panic!("a mistake of ours") })
    }

    fn functions<'a>(&'a self, _: &'a Vm) -> Looking<'a> {
        Box::pin(async { Vec::new() })
    }

    fn take_back<'a>(&'a self, _: &'a GpuRef, _: &'a Name) -> Handing<'a, ()> {
        Box::pin(async { panic!("a mistake of ours") })
    }
}

#[tokio::test]
async fn a_dead_supervisor_is_said_and_is_not_green() {
    let bench = Bench::new();
    let (out, mut changes) = mpsc::channel(64);
    let deps = Deps::new(bench.host.clone(), Arc::new(Broken), out);
    let handle = spawn(deps, bench.vm.clone());
    for request in [handle.start().await, handle.stop(false).await] {
        let refusal = request.unwrap_err();
        assert_eq!(refusal.code, Code::Failed);
        assert!(refusal.message.contains("its supervisor ended: "), "{refusal}");
        assert!(refusal.message.contains("a mistake of ours"), "{refusal}");
    }
    let mut last = None;
    while let Some(view) = changes.recv().await {
        last = Some(view);
    }
    assert_eq!(last, Some(handle.view()), "the last change told is the truth");
    assert_eq!(handle.view().state, VmState::Failed);
}

/// On a runtime of one thread: whoever waits for a file there stops everything.
#[tokio::test]
async fn a_file_that_does_not_answer_keeps_nobody_else() {
    let bench = Bench::new();
    let handle = bench.supervise();
    bench.host.runtime.make_dir("vms/gaming").unwrap();
    let log = bench.host.runtime.path("vms/gaming/qemu.log");
    // Opening it waits until somebody writes.
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let waiting = timeout(Duration::from_millis(100), handle.log(false)).await;
    assert!(waiting.is_err(), "{waiting:?}");
    assert_eq!(handle.view().state, VmState::Off);
    let both = tokio::fs::OpenOptions::new().read(true).write(true).open(&log).await;
    drop(both.unwrap());
}

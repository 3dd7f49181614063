//! The whole life of a VM, with a small Linux and its real guest agent in it,
//! on the real QEMU of this machine, in software: what its supervisor makes of
//! guests, disks and QEMUs that do not do as they should.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests look at what is really there, and fail loudly"
)]

mod guest;
mod qemu_common;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use guest::Guest;
use hostd::ask::view::{VmState, VmView};
use hostd::ask::{Caller, Code};
use hostd::base::{Bytes, Severity};
use hostd::config::{AfterDeadline, Agent, Disk, Firmware, OnCrash, Stop, Vm};
use hostd::state::events::vm_severity;
use hostd::vm::supervisor::{Deps, VmHandle, spawn};
use nix::sys::signal::{Signal, kill};
use qemu_common::alone::{Own, alone, run};
use qemu_common::{Bench, pid, vm, within};
use tokio::sync::mpsc;

/// What no boot should ever take, on a machine that does much else.
const BOOT: Duration = Duration::from_secs(60);

/// A small Linux; `words` make it misbehave.
fn linux(words: &str) -> Vm {
    Vm {
        memory: Bytes(guest::MEMORY_MIB << 20),
        firmware: Firmware::Seabios { log: false },
        serial: true,
        agent: Agent { channel: true, silent_after: Duration::from_secs(10) },
        qemu_args: Guest::get().boot(words),
        stop: Stop { deadline: BOOT, then: AfterDeadline::Ask },
        ..vm()
    }
}

type Seen = Arc<Mutex<Vec<VmState>>>;

/// Supervises it; with all the states that it goes through.
fn follow(bench: &Bench, vm: Vm) -> (VmHandle, Seen) {
    let (out, mut changes) = mpsc::channel::<VmView>(16);
    let seen = Seen::default();
    let states = seen.clone();
    tokio::spawn(async move {
        while let Some(view) = changes.recv().await {
            let mut states = states.lock().unwrap();
            if states.last() != Some(&view.state) {
                states.push(view.state);
            }
        }
    });
    (spawn(Deps::new(bench.host(), bench.devices.clone(), out), vm), seen)
}

async fn until(handle: &VmHandle, what: impl Fn(&VmView) -> bool) -> VmView {
    within(BOOT, handle, what).await
}

/// All states, once the last one has been told: that is a moment after it is
/// so.
async fn states(seen: &Seen, last: VmState) -> Vec<VmState> {
    let begun = Instant::now();
    loop {
        let states = seen.lock().unwrap().clone();
        if states.last() == Some(&last) {
            return states;
        }
        assert!(begun.elapsed() < BOOT, "{last:?} is not told: {states:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Until the guest's agent has been heard.
async fn speaks(handle: &VmHandle) {
    within(BOOT, handle, |view| view.agent == Some(true) && view.responsive).await;
}

/// What the guest has said on its console.
async fn console(handle: &VmHandle) -> String {
    handle.serial_log().await.map_or_else(|_| String::new(), |log| log.text)
}

/// Until the guest has said this so many times.
async fn says(handle: &VmHandle, words: &str, times: usize) {
    let begun = Instant::now();
    loop {
        let said = console(handle).await;
        if said.matches(words).count() >= times {
            return;
        }
        assert!(begun.elapsed() < BOOT, "no `{words}` in:\n{said}\n{:?}", handle.view());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Types a line on the console of a guest that obeys it, and waits until what
/// it does says `answer`.
async fn types(handle: &VmHandle, line: &str, answer: &str) {
    let me = Caller { uid: 7, label: "uid 7".into() };
    let session = handle.console_open(&me, false).await.unwrap().session;
    let before = console(handle).await.matches(answer).count();
    let mut rest = format!("{line}\n").into_bytes();
    while !rest.is_empty() {
        let wrote = handle.console_write(&me, session.clone(), &rest).await.unwrap();
        assert_eq!(wrote.ended, None);
        rest.drain(..usize::try_from(wrote.taken).unwrap());
    }
    says(handle, answer, before + 1).await;
    handle.console_close(&me, session).unwrap();
}

/// An empty file in place of a disk, of which nothing takes space yet.
fn empty(path: &Path, bytes: u64) -> Disk {
    std::fs::File::create(path).unwrap().set_len(bytes).unwrap();
    Disk::plain(path, 1)
}

#[tokio::test]
async fn a_guest_goes_through_its_whole_life() {
    let bench = Bench::new();
    let disk = bench.path("disk.img");
    let (handle, seen) = follow(&bench, Vm { disks: vec![empty(&disk, 4 << 20)], ..linux("obey") });
    handle.start().await.unwrap();
    speaks(&handle).await;
    let view = until(&handle, |view| view.guest.is_some()).await;
    let inside = view.guest.unwrap();
    assert_eq!((inside.os.as_str(), inside.host_name.as_str()), ("hostd test guest 1", "guest"));
    says(&handle, "guest: obeys", 1).await;
    assert_eq!(vm_severity(&handle.view()), Severity::Ok);

    assert_eq!(handle.pause().await.unwrap().message, "`test` is paused");
    let view = handle.view();
    assert!(view.state == VmState::Paused && view.held && view.responsive, "{view:?}");
    let refusal = handle.start().await.unwrap_err();
    assert!(refusal.hint.contains("hostctl vm resume"), "{refusal:?}");
    assert!(!handle.pause().await.unwrap().changed);
    assert_eq!(handle.resume().await.unwrap().message, "`test` is resumed");
    assert_eq!(handle.view().state, VmState::Running);
    assert!(!handle.resume().await.unwrap().changed);

    // There is no swap in it to sleep on.
    let refusal = handle.hibernate().await.unwrap_err();
    println!("hibernate: {refusal}");
    assert!(refusal.message.contains("`test` stays: it cannot hibernate: "), "{refusal}");
    assert_eq!(handle.view().state, VmState::Running);

    kill(pid(&handle), Signal::SIGSTOP).unwrap();
    let view = until(&handle, |view| view.state == VmState::Paused).await;
    assert!(view.reason.contains("nobody knows whether the guest runs"), "{}", view.reason);
    assert_eq!((view.responsive, vm_severity(&view)), (false, Severity::Unknown));
    for refused in [handle.pause().await, handle.resume().await, handle.reset().await] {
        assert_eq!(refused.unwrap_err().code, Code::Refused);
    }
    kill(pid(&handle), Signal::SIGCONT).unwrap();
    until(&handle, |view| view.state == VmState::Running && view.responsive).await;

    // Its socket and its disk lose their names: who has them open keeps them.
    std::fs::remove_file(bench.runtime("q/qmp.sock")).unwrap();
    std::fs::remove_file(&disk).unwrap();
    assert!(handle.pause().await.unwrap().changed);
    assert!(handle.resume().await.unwrap().changed);
    let read =
        "$b dd if=/dev/vda of=/dev/null bs=4k count=9 iflag=direct 2>/dev/null; echo read=$?";
    types(&handle, read, "read=0").await;

    let before = pid(&handle);
    assert_eq!(handle.reset().await.unwrap().message, "`test` is reset");
    // It boots: what is silent then is not hung.
    until(&handle, |view| view.agent.is_none() && view.guest.is_none() && view.responsive).await;
    says(&handle, "guest: obeys", 2).await;
    speaks(&handle).await;
    assert_eq!(pid(&handle), before);

    let done = handle.stop(false).await.unwrap();
    assert_eq!(done.message, "`test` is off: the guest shut down on request");
    assert!(console(&handle).await.contains("guest: shutdown -h -P"), "by its agent");
    bench.assert_clean();
    let wanted = [
        [VmState::Off, VmState::Preparing, VmState::Starting, VmState::Running],
        [VmState::Paused, VmState::Running, VmState::Stopping, VmState::Running],
        [VmState::Paused, VmState::Running, VmState::Paused, VmState::Running],
    ];
    let wanted = [wanted.as_flattened(), &[VmState::Stopping, VmState::Off]].concat();
    assert_eq!(states(&seen, VmState::Off).await, wanted);
    // What went on without a name cannot begin without it.
    let refusal = handle.start().await.unwrap_err();
    assert!(refusal.message.contains(disk.to_str().unwrap()), "{refusal}");
    assert_eq!((refusal.code, handle.view().state), (Code::Refused, VmState::Off));
}

#[tokio::test]
async fn one_that_lies_and_ignores_its_button_stays_until_it_is_forced() {
    let bench = Bench::new();
    let deadline = Duration::from_secs(3);
    let stop = Stop { deadline, then: AfterDeadline::Ask };
    let (handle, _) = follow(&bench, Vm { stop, ..linux("agent=lies ignore-acpi") });
    handle.start().await.unwrap();
    speaks(&handle).await;
    says(&handle, "guest: ready", 1).await;
    let begun = Instant::now();
    let refusal = handle.stop(false).await.unwrap_err();
    assert!(begun.elapsed() >= deadline, "it has its whole time");
    let why = "`test` stays: the guest did not react to the power button within 3s";
    assert_eq!((refusal.code, refusal.message.as_str()), (Code::Refused, why));
    assert!(refusal.hint.contains("hostctl vm stop test --force"), "{}", refusal.hint);
    assert_eq!(handle.view().state, VmState::Running);
    says(&handle, "guest: power button", 1).await;
    let begun = Instant::now();
    let done = handle.stop(true).await.unwrap();
    assert!(begun.elapsed() >= deadline, "it has its whole time again");
    assert!(done.message.ends_with("within 3s, so QEMU was ended"), "{done:?}");
    assert_eq!(handle.view().state, VmState::Off);
    bench.assert_clean();
}

#[tokio::test]
async fn one_whose_agent_lies_is_stopped_by_its_button() {
    let bench = Bench::new();
    let stop = Stop { deadline: Duration::from_secs(20), then: AfterDeadline::Ask };
    let (handle, _) = follow(&bench, Vm { stop, ..linux("agent=lies") });
    handle.start().await.unwrap();
    speaks(&handle).await;
    says(&handle, "guest: ready", 1).await;
    let done = handle.stop(false).await.unwrap();
    assert_eq!(done.message, "`test` is off: the guest shut down on request");
    assert!(console(&handle).await.contains("guest: power button"));
    bench.assert_clean();
}

#[tokio::test]
async fn one_without_an_agent_obeys_its_button_and_may_leave_by_itself() {
    let bench = Bench::new();
    let (handle, _) = follow(&bench, linux("agent=off obey"));
    handle.start().await.unwrap();
    says(&handle, "guest: obeys", 1).await;
    let view = handle.view();
    assert_eq!((view.state, view.agent, view.responsive), (VmState::Running, None, true));
    let done = handle.stop(false).await.unwrap();
    assert_eq!(done.message, "`test` is off: the guest shut down on request");
    bench.assert_clean();
    handle.start().await.unwrap();
    says(&handle, "guest: obeys", 1).await;
    types(&handle, "echo guest: leaves; $b poweroff -f", "guest: leaves").await;
    let view = until(&handle, |view| view.state == VmState::Off && view.step.is_empty()).await;
    assert_eq!(view.reason, "the guest switched itself off");
    bench.assert_clean();
}

#[tokio::test]
async fn one_that_panics_has_crashed_and_comes_back_as_often_as_it_may() {
    let bench = Bench::new();
    let mut vm = linux("agent=off panic");
    vm.qemu_args.extend(["-device", "pvpanic-pci"].map(str::to_owned));
    vm.on_crash = OnCrash::Restart { times: 1, delay: Duration::from_millis(100) };
    let (handle, seen) = follow(&bench, vm);
    handle.start().await.unwrap();
    let over = |view: &VmView| view.reason.contains("it stays down");
    let view = within(2 * BOOT, &handle, over).await;
    println!("{}", view.reason);
    assert_eq!(view.state, VmState::Crashed);
    assert!(view.reason.contains("guest-panic"), "{}", view.reason);
    let once = [VmState::Preparing, VmState::Starting, VmState::Running, VmState::Crashed];
    let mut told = states(&seen, VmState::Crashed).await;
    // QEMU may halt it for a moment, and may hang for some while it ends.
    told.retain(|state| *state != VmState::Paused);
    assert_eq!(told, [&[VmState::Off], &once[..], &once[..]].concat());
    let stopped = handle.stop(false).await.unwrap();
    assert_eq!(stopped.message, "`test` is not running: it has crashed");
    bench.assert_clean();
}

/// An agent that falls silent; then a hostd that finds QEMU's socket gone.
#[tokio::test]
async fn a_silent_agent_is_told_and_a_lost_socket_does_not_keep_it_from_stopping() {
    let bench = Bench::new();
    let vm = linux("obey");
    let (handle, seen) = follow(&bench, vm.clone());
    handle.start().await.unwrap();
    speaks(&handle).await;
    says(&handle, "guest: obeys", 1).await;
    types(&handle, "$b kill -STOP $($b pidof qemu-ga); echo hushed=$?", "hushed=0").await;
    let view = until(&handle, |view| !view.responsive).await;
    assert_eq!((view.state, view.agent), (VmState::Running, Some(false)));
    assert_ne!(vm_severity(&view), Severity::Ok);
    types(&handle, "$b kill -CONT $($b pidof qemu-ga); echo woken=$?", "woken=0").await;
    speaks(&handle).await;
    let running = [VmState::Off, VmState::Preparing, VmState::Starting, VmState::Running];
    assert_eq!(states(&seen, VmState::Running).await, running, "a reading beside the state");

    let before = pid(&handle);
    std::fs::remove_file(bench.runtime("q/qmp.sock")).unwrap();
    handle.abandon();
    drop(handle);
    let (handle, _) = follow(&bench, vm);
    let view = until(&handle, |view| view.state == VmState::Paused && view.step.is_empty()).await;
    assert!(view.reason.contains("nobody knows whether the guest runs"), "{}", view.reason);
    assert!(view.reason.contains("qmp.sock"), "{}", view.reason);
    assert_eq!((pid(&handle), vm_severity(&view)), (before, Severity::Unknown));
    let done = handle.stop(false).await.unwrap();
    assert_eq!(done.message, "`test` is off: the guest shut down on request");
    bench.assert_clean();
}

#[test]
fn a_full_disk_of_the_host_halts_the_guest_until_there_is_space() {
    if !alone("a_full_disk_of_the_host_halts_the_guest_until_there_is_space", Own::Namespaces) {
        return;
    }
    let bench = Bench::new();
    let small = bench.path("small");
    std::fs::create_dir(&small).unwrap();
    run("mount", &["-t", "tmpfs", "-o", "size=24m", "small", small.to_str().unwrap()]);
    let ballast = small.join("ballast");
    std::fs::write(&ballast, vec![1; 20 << 20]).unwrap();
    let disks = vec![empty(&small.join("disk.img"), 16 << 20)];
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (handle, _) = follow(&bench, Vm { disks, ..linux("obey agent=off") });
        handle.start().await.unwrap();
        says(&handle, "guest: obeys", 1).await;
        let write = "($b tr '\\0' x < /dev/zero | $b dd of=/dev/vda bs=64k count=200 \
                     iflag=fullblock conv=fsync 2>/dev/null; echo wrote=$?) & echo writing";
        types(&handle, write, "writing").await;
        let full = |view: &VmView| view.state == VmState::Paused && view.reason.contains("space");
        let view = until(&handle, full).await;
        println!("{}", view.reason);
        let why = "disk `disk0` failed under the guest: the host has no space left";
        assert!(view.reason.contains(why), "{}", view.reason);
        assert!(!view.held && vm_severity(&view) != Severity::Ok, "{view:?}");
        // As long as there is none it halts again.
        let _ = handle.resume().await;
        until(&handle, full).await;
        assert!(!console(&handle).await.contains("wrote="));
        std::fs::remove_file(&ballast).unwrap();
        handle.resume().await.unwrap();
        says(&handle, "wrote=0", 1).await;
        assert_eq!(handle.view().state, VmState::Running);
        assert!(handle.stop(false).await.unwrap().changed);
    });
    bench.assert_clean();
    run("umount", &[small.to_str().unwrap()]);
}

//! Work on the disks of a VM, and its starts: never both.

use super::*;
use crate::vm::snapshot::note::{self, Calm, Note, State, Why};

#[tokio::test]
async fn a_start_and_work_on_the_disks_exclude_each_other() {
    let bench = Bench::new();
    let handle = bench.supervise();
    let held = handle.hold_disks().unwrap();
    let refusal = handle.start().await.unwrap_err();
    assert!(refusal.message.contains("a snapshot of it is being made"), "{refusal}");
    assert_eq!(handle.view().state, VmState::Off, "refused, not failed");
    assert!(handle.hold_disks().is_err(), "one at a time");
    drop(held);
    handle.start().await.unwrap();
    // Beside a VM that runs it is fine; so is a second start.
    let held = handle.hold_disks().unwrap();
    assert!(!handle.start().await.unwrap().changed);
    handle.qmp().unwrap();
    drop(held);
    handle.kill().await.unwrap();
    assert!(handle.qmp().err().unwrap().message.contains("`gaming` is off"));
    // A start that fails lets go of them too.
    *bench.qemu.fails.lock().unwrap() = Some("no\n");
    handle.start().await.unwrap_err();
    drop(handle.hold_disks().unwrap());
    *bench.qemu.fails.lock().unwrap() = None;
    // While one is under way nobody gets them.
    let mut wait = handle.watch();
    let starting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.start().await }
    });
    wait.wait_for(|view| view.state == VmState::Preparing).await.unwrap();
    assert!(handle.hold_disks().unwrap_err().message.contains("is being started"));
    starting.await.unwrap().unwrap();
    drop(handle.hold_disks().unwrap());
}

/// A hostd that was killed while the guest stood still for a snapshot.
#[tokio::test]
async fn a_guest_that_was_left_halted_goes_on() {
    for (halts, expected) in [(true, VmState::Running), (false, VmState::Paused)] {
        let bench = Bench::new();
        let left = Note {
            name: "hostd-x".parse().unwrap(),
            time: Timestamp(1),
            why: Why::Person,
            state: State::Making,
            calm: Calm::Halted,
            halts,
            parts: Vec::new(),
            left_out: Vec::new(),
            firmware: false,
            tpm: false,
        };
        left.write(&bench.host, &bench.vm.name).unwrap();
        bench.qemu.guest.send_modify(|guest| guest.status = "paused");
        bench.leave(Phase::Running, true, true);
        let handle = bench.supervise();
        until(&handle, |view| view.state == expected).await;
        let found = note::all(&bench.host, &bench.vm.name).unwrap();
        let kept = found[0].note.clone().unwrap();
        assert!(!kept.halts, "once");
        assert_eq!(kept.state, State::Making, "it is still to be deleted");
    }
}

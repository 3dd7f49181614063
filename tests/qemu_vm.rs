//! VMs on the real QEMU of this machine, in software: what a person sees
//! through a [`VmHandle`], and what is left behind.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    clippy::match_wild_err_arm,
    reason = "tests look at what is really there, and fail loudly"
)]

mod qemu_common;

use std::path::PathBuf;
use std::time::Duration;

use hostd::ask::Code;
use hostd::ask::view::VmState;
use hostd::base::Severity;
use hostd::config::{AfterDeadline, Disk, DiskFormat, Firmware, GpuRef, Network, Stop, Vm};
use hostd::passthrough::Passthrough;
use hostd::vm::supervisor::{Deps, VmHandle, spawn};
use nix::sys::signal::{Signal, kill};
use qemu_common::{Bench, LONG, at_rest, pid, until, vm};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// Switches the machine off when the power button is pressed: enables the
/// button, waits for it, enters S5.
const OBEYS: &[u8] = &[
    0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, // out 0x602, 0x100
    0xba, 0x00, 0x06, // mov dx, 0x600
    0xed, 0xf6, 0xc4, 0x01, 0x74, 0xfa, // until in(0x600) & 0x100
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, // out 0x604, 0x2000
    0xf4, 0xeb, 0xfd, // halt
];

/// Switches the machine off at once.
const LEAVES: &[u8] = &[0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd];

#[tokio::test]
async fn starts_runs_its_firmware_and_stops_at_the_deadline() {
    let bench = Bench::new();
    let handle = bench.supervise(vm());
    assert_eq!(handle.view().state, VmState::Off);
    let begun = std::time::Instant::now();
    let done = handle.start().await.unwrap();
    println!("start to running: {:?}", begun.elapsed());
    assert!(done.changed && done.message.starts_with("`test` runs"), "{}", done.message);
    assert_eq!(handle.view().state, VmState::Running);
    assert!(bench.qemus().contains(&pid(&handle).as_raw()));
    let again = handle.start().await.unwrap();
    assert_eq!((again.changed, again.message.as_str()), (false, "`test` is running"));
    tokio::time::timeout(LONG, async {
        while !handle.log(true).await.is_ok_and(|log| log.text.contains("SeaBIOS")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    let done = handle.stop(false).await.unwrap();
    assert!(done.message.contains("did not react to the power button within 1s"), "{done:?}");
    assert_eq!(handle.view().state, VmState::Off);
    assert_eq!(handle.view().pid, None);
    assert!(!handle.stop(false).await.unwrap().changed);
    assert!(!handle.kill().await.unwrap().changed);
    bench.assert_clean();
}

#[tokio::test]
async fn a_guest_that_obeys_is_off_before_the_deadline() {
    let bench = Bench::new();
    let stop = Stop { deadline: LONG, then: AfterDeadline::Ask };
    let handle = bench.supervise(Vm { disks: vec![bench.boots(OBEYS)], stop, ..vm() });
    handle.start().await.unwrap();
    // It listens to the button when the firmware has booted it.
    until_log(&handle, "Booting from 0000:7c00").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = std::time::Instant::now();
    let done = handle.stop(false).await.unwrap();
    assert_eq!(done.message, "`test` is off: the guest shut down on request");
    assert!(begun.elapsed() < Duration::from_secs(10));
    bench.assert_clean();
}

async fn until_log(handle: &VmHandle, words: &str) {
    let seen = tokio::time::timeout(LONG, async {
        while !handle.log(true).await.is_ok_and(|log| log.text.contains(words)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(seen.await.is_ok(), "no `{words}` in {}", handle.log(true).await.unwrap().text);
}

#[tokio::test]
async fn a_guest_that_leaves_by_itself_is_off_and_not_crashed() {
    let bench = Bench::new();
    let handle = bench.supervise(Vm { disks: vec![bench.boots(LEAVES)], ..vm() });
    handle.start().await.unwrap();
    let view = until(&handle, |view| view.state == VmState::Off && view.step.is_empty()).await;
    assert_eq!(view.reason, "the guest switched itself off");
    bench.assert_clean();
}

/// Writes to the firmware's debug port without end.
const CHATS: &[u8] = &[
    0xba, 0x02, 0x04, // mov dx, 0x402
    0xb0, b'x', 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, // out dx, 'x'
    0xb0, 0x0a, 0xee, 0xeb, 0xf2, // out dx, '\\n'; again
];

#[tokio::test]
async fn a_guest_that_floods_its_log_is_cut_short() {
    let bench = Bench::new();
    let handle = bench.supervise(Vm { disks: vec![bench.boots(CHATS)], ..vm() });
    handle.start().await.unwrap();
    until_log(&handle, "xxxxxxx\nxxxxxxx\n").await;
    for _ in 0..3 {
        let log = bench.runtime("firmware.log");
        let size = || std::fs::metadata(&log).unwrap().len();
        let grown = async {
            while size() < 32 << 10 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(LONG, grown).await.unwrap();
        hostd::vm::logs::cut(&bench.host(), &"test".parse().unwrap(), 16 << 10);
        // QEMU goes on where the log now ends, and not where it was.
        until_log(&handle, "xxxxxxx\nxxxxxxx\n").await;
        let text = std::fs::read(&log).unwrap();
        assert!(text.starts_with(b"[hostd has cut this log"), "{:?}", text.get(..80));
        assert!(!text.contains(&0), "a hole was left in it");
    }
    handle.kill().await.unwrap();
    bench.assert_clean();
}

#[tokio::test]
async fn one_that_ignores_the_button_stays_unless_forced() {
    let bench = Bench::new();
    let stop = Stop { deadline: Duration::from_millis(500), then: AfterDeadline::Ask };
    let handle = bench.supervise(Vm { stop, ..vm() });
    handle.start().await.unwrap();
    let refusal = handle.stop(false).await.unwrap_err();
    assert_eq!(refusal.code, Code::Refused);
    assert!(refusal.message.contains("`test` stays: the guest did not react"), "{refusal}");
    assert!(refusal.hint.contains("hostctl vm stop test --force"), "{}", refusal.hint);
    assert_eq!(handle.view().state, VmState::Running);
    // Two ask at once: one of them forces it, both hear of the end.
    let (patient, forcing) = tokio::join!(handle.stop(false), handle.stop(true));
    assert!(patient.unwrap().changed);
    assert!(!forcing.unwrap().changed, "who joins has not changed it");
    assert_eq!(handle.view().state, VmState::Off);
    bench.assert_clean();
}

#[tokio::test]
async fn killed_it_has_crashed_and_can_start_again() {
    let bench = Bench::new();
    let handle = bench.supervise(vm());
    handle.start().await.unwrap();
    kill(pid(&handle), Signal::SIGKILL).unwrap();
    let view = until(&handle, |view| view.state == VmState::Crashed && view.step.is_empty()).await;
    assert_eq!(view.reason, "QEMU ended (killed by signal 9)");
    bench.assert_clean();
    handle.start().await.unwrap();
    kill(pid(&handle), Signal::SIGTERM).unwrap();
    let view = until(&handle, |view| view.state == VmState::Crashed && view.step.is_empty()).await;
    assert_eq!(view.reason, "QEMU ended (exit status 0; host-signal)");
    handle.start().await.unwrap();
    let done = handle.kill().await.unwrap();
    assert_eq!(done.message, "`test` is off: killed on request");
    bench.assert_clean();
}

#[tokio::test]
async fn one_that_is_stopped_by_a_signal_is_not_green_and_still_ends() {
    let bench = Bench::new();
    let handle = bench.supervise(vm());
    handle.start().await.unwrap();
    kill(pid(&handle), Signal::SIGSTOP).unwrap();
    let view = until(&handle, |view| view.state == VmState::Paused).await;
    assert!(view.reason.contains("nobody knows whether the guest runs"), "{}", view.reason);
    assert_eq!(hostd::state::events::vm_severity(&view), Severity::Unknown);
    kill(pid(&handle), Signal::SIGCONT).unwrap();
    let view = until(&handle, |view| view.state == VmState::Running).await;
    assert_eq!(hostd::state::events::vm_severity(&view), Severity::Ok);
    kill(pid(&handle), Signal::SIGSTOP).unwrap();
    let done = tokio::time::timeout(LONG, handle.stop(false)).await.unwrap().unwrap();
    assert!(done.changed);
    assert_eq!(handle.view().state, VmState::Off);
    bench.assert_clean();
}

#[test]
fn outlives_hostd_and_is_adopted() {
    let bench = Bench::new();
    let first = Runtime::new().unwrap();
    let before = first.block_on(async {
        let handle = bench.supervise(vm());
        handle.start().await.unwrap();
        handle.view()
    });
    first.shutdown_timeout(LONG);
    assert_eq!(bench.qemus().len(), 1, "QEMU does not care");
    Runtime::new().unwrap().block_on(async {
        let handle = bench.supervise(vm());
        assert_ne!(handle.view().state, VmState::Off, "nobody has looked yet");
        let view = at_rest(&handle).await;
        assert_eq!(view.state, VmState::Running);
        assert_eq!(view.reason, "adopted after a restart of hostd");
        assert_eq!(view.pid, before.pid);
        assert!(!handle.start().await.unwrap().changed);
        handle.stop(false).await.unwrap();
        assert_eq!(handle.view().state, VmState::Off);
        bench.assert_clean();
    });
}

#[test]
fn ends_while_hostd_is_away() {
    let bench = Bench::new();
    let first = Runtime::new().unwrap();
    first.block_on(async {
        let handle = bench.supervise(vm());
        handle.start().await.unwrap();
        handle.abandon();
        kill(pid(&handle), Signal::SIGKILL).unwrap();
        let handle = bench.supervise(vm());
        let view = at_rest(&handle).await;
        assert_eq!(view.state, VmState::Crashed);
        assert_eq!(view.reason, "QEMU ended while hostd was away (exit status unknown)");
        bench.assert_clean();
    });
}

#[tokio::test]
async fn is_adopted_though_its_note_is_lost_or_damaged() {
    let bench = Bench::new();
    let handle = bench.supervise(vm());
    handle.start().await.unwrap();
    let before = handle.view().pid;
    for damage in [None, Some("{ not json")] {
        let handle = bench.supervise(vm());
        at_rest(&handle).await;
        handle.abandon();
        match damage {
            None => std::fs::remove_file(bench.runtime("state.json")).unwrap(),
            Some(text) => std::fs::write(bench.runtime("state.json"), text).unwrap(),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    handle.abandon();
    let handle = bench.supervise(vm());
    let view = until(&handle, |view| view.state == VmState::Running).await;
    assert_eq!(view.pid, before);
    handle.kill().await.unwrap();
    bench.assert_clean();
}

#[tokio::test]
async fn garbage_in_place_of_the_socket() {
    let bench = Bench::new();
    let handle = bench.supervise(vm());
    // A file left there is no obstacle.
    std::fs::create_dir_all(bench.runtime("q")).unwrap();
    std::fs::write(bench.runtime("q/qmp.sock"), "garbage").unwrap();
    handle.start().await.unwrap();
    handle.abandon();
    // Somebody else answers there: it is not believed, and the VM not green.
    std::fs::remove_file(bench.runtime("q/qmp.sock")).unwrap();
    let impostor = tokio::net::UnixListener::bind(bench.runtime("q/qmp.sock")).unwrap();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut peer, _)) = impostor.accept().await {
            let _ = peer.write_all(b"220 mail ready\n").await;
        }
    });
    let handle = bench.supervise(vm());
    let view = at_rest(&handle).await;
    assert_eq!(view.state, VmState::Paused);
    assert!(view.reason.contains("does not greet as QEMU does"), "{}", view.reason);
    let refusal = handle.start().await.unwrap_err();
    assert!(refusal.message.contains("its guest does not run"), "{refusal}");
    let done = handle.stop(true).await.unwrap();
    assert!(done.message.contains("the power button could not be pressed"), "{done:?}");
    bench.assert_clean();
    // A folder cannot be replaced: said in words, and nothing is left.
    std::fs::create_dir_all(bench.runtime("q/qmp.sock/x")).unwrap();
    let refusal = handle.start().await.unwrap_err();
    assert!(refusal.message.contains("q/qmp.sock"), "{refusal}");
    assert_eq!(bench.qemus(), [0; 0]);
}

#[tokio::test]
async fn a_missing_disk_is_named_and_nothing_touched() {
    let bench = Bench::new();
    let disk = |path: &str| Disk::plain(path, 1);
    let disks = vec![disk("/nonexistent/a.img"), disk("/nonexistent/b.img")];
    let handle = bench.supervise(Vm { disks, ..vm() });
    let refusal = handle.start().await.unwrap_err();
    assert_eq!(refusal.code, Code::Refused);
    for path in ["/nonexistent/a.img", "/nonexistent/b.img"] {
        assert!(refusal.message.contains(path), "{refusal}");
    }
    assert_eq!(handle.view().state, VmState::Off);
    // What QEMU can do was asked, and kept.
    assert!(!bench.path("run").exists() && !bench.path("lib/vms").exists());
}

/// Everything that a command line can hold without a card, taken by the real
/// QEMU, with commas in the paths.
#[tokio::test]
async fn uefi_disks_and_network_are_taken_as_they_are_written() {
    let bench = Bench::new();
    let raw = bench.boots(LEAVES);
    let qcow2 = bench.path("games, more.qcow2");
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .args([qcow2.as_os_str(), "1M".as_ref()])
        .status()
        .unwrap();
    assert!(made.success());
    let disk = |path: PathBuf, format| Disk { format, ..Disk::plain(path, 2) };
    let vm = Vm {
        cpus: 2,
        cpu: Some("qemu64,+rdtscp".into()),
        firmware: Firmware::Ovmf {
            code: "/usr/share/OVMF/OVMF_CODE_4M.fd".into(),
            vars: "/usr/share/OVMF/OVMF_VARS_4M.fd".into(),
            secure: false,
        },
        disks: vec![disk(qcow2, DiskFormat::Qcow2), raw],
        network: Network::User,
        ..vm()
    };
    let handle = bench.supervise(vm.clone());
    handle.start().await.unwrap();
    assert_eq!(handle.view().state, VmState::Running);
    let vars = bench.path("lib/vms/test/OVMF_VARS.fd");
    let template = std::fs::metadata("/usr/share/OVMF/OVMF_VARS_4M.fd").unwrap();
    assert_eq!(std::fs::metadata(vars).unwrap().len(), template.len());
    handle.kill().await.unwrap();
    bench.assert_clean();
    // The UUID is made once.
    let cards = Passthrough::new(bench.host(), Vec::new());
    let shown = hostd::vm::preview(&bench.host(), &cards, &vm).await.unwrap();
    assert_eq!((shown.problems, shown.warnings), (vec![], vec![]));
    assert!(!shown.command.contains("-uuid 00000000"), "{}", shown.command);
}

#[tokio::test]
async fn what_qemu_itself_refuses_is_passed_on_in_its_words() {
    let bench = Bench::new();
    let handle = bench.supervise(Vm { machine: "pc-q35-99.0".into(), ..vm() });
    let refusal = handle.start().await.unwrap_err();
    assert_eq!(refusal.code, Code::Refused, "nothing is touched: {refusal}");
    assert!(refusal.message.contains("has no machine type `pc-q35-99.0`"), "{refusal}");
    assert_eq!(handle.view().state, VmState::Off);
    handle.abandon();
    // What hostd does not look into, QEMU judges.
    let words = ["-device", "no-such-device"].map(str::to_owned).to_vec();
    let handle = bench.supervise(Vm { qemu_args: words, ..vm() });
    let refusal = handle.start().await.unwrap_err();
    assert_eq!(refusal.code, Code::Failed);
    assert!(refusal.message.contains("exit status 1"), "{refusal}");
    assert!(refusal.message.contains("'no-such-device' is not a valid device"), "{refusal}");
    let view = handle.view();
    assert_eq!((view.state, view.step.as_str()), (VmState::Failed, ""));
    bench.assert_clean();
}

#[tokio::test]
async fn a_card_that_is_refused_stops_the_start_with_the_same_words() {
    let bench = Bench::new();
    let words = hostd::ask::Refusal::new(Code::Refused, "no IOMMU", "turn it on");
    bench.devices.with(|card| card.refuse = Some(words.clone()));
    let gpu = Some(GpuRef::Name("amd".parse().unwrap()));
    let handle = bench.supervise(Vm { gpu, ..vm() });
    assert_eq!(handle.start().await.unwrap_err(), words);
    assert_eq!(handle.view().state, VmState::Failed);
    assert_eq!(handle.view().reason, "no IOMMU");
    bench.assert_clean();
}

#[tokio::test]
async fn a_stop_while_starting_gives_the_start_up() {
    let bench = Bench::new();
    let handle = bench.supervise(vm());
    let starting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.start().await }
    });
    until(&handle, |view| view.state == VmState::Starting).await;
    let (second, stopped) = tokio::join!(handle.start(), handle.stop(false));
    let refusal = starting.await.unwrap().unwrap_err();
    assert!(refusal.message.contains("was given up"), "{refusal}");
    assert!(second.is_err());
    assert!(stopped.unwrap().changed);
    assert_eq!(handle.view().state, VmState::Off);
    bench.assert_clean();
}

/// hostd is killed at every change that it tells, of starting and of stopping;
/// the next one has to bring the VM to a state that is so.
#[test]
fn hostd_killed_at_every_step_is_recovered_from() {
    let (mut told, mut states) = (0, Vec::new());
    loop {
        let bench = Bench::new();
        let first = Runtime::new().unwrap();
        let (finished, _changes) = first.block_on(async {
            // Nobody takes more than so many: there it stands when it is killed.
            let (out, mut changes) = mpsc::channel(1);
            let deps = Deps::new(bench.host(), bench.devices.clone(), out);
            let handle = spawn(deps, quick());
            let asking = tokio::spawn({
                let handle = handle.clone();
                async move {
                    handle.start().await.unwrap();
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    handle.stop(false).await.unwrap();
                }
            });
            for _ in 0..told {
                tokio::time::timeout(LONG, changes.recv()).await.unwrap();
            }
            let ended = tokio::time::timeout(Duration::from_millis(150), asking).await;
            // The changes go on waiting to be taken until it is dead.
            (ended.is_ok_and(|asked| asked.is_ok()), changes)
        });
        first.shutdown_timeout(LONG);
        Runtime::new().unwrap().block_on(async {
            let handle = bench.supervise(quick());
            let view = at_rest(&handle).await;
            states.push((told, view.state));
            match view.state {
                VmState::Running => {
                    assert_eq!(bench.qemus().len(), 1);
                    bench.devices.with(|card| assert!(card.lent_to.is_some()));
                    handle.stop(false).await.unwrap();
                }
                VmState::Off | VmState::Failed => assert_eq!(bench.qemus(), [0; 0]),
                VmState::Preparing
                | VmState::Starting
                | VmState::Paused
                | VmState::Stopping
                | VmState::Crashed => panic!("after {told} changes: {view:?}"),
            }
            bench.assert_clean();
            // And it is as good as new.
            if told % 5 == 0 {
                handle.start().await.unwrap();
                handle.kill().await.unwrap();
                bench.assert_clean();
            }
        });
        if finished {
            break;
        }
        told += 1;
    }
    println!("{states:?}");
    assert!(told > 10, "only {told} changes were told");
    assert!(states.iter().any(|(_, state)| *state == VmState::Running));
}

fn quick() -> Vm {
    let stop = Stop { deadline: Duration::from_millis(50), then: AfterDeadline::Quit };
    // Of the fake card no function reaches QEMU; it is lent all the same.
    Vm { stop, gpu: Some(GpuRef::Name("amd".parse().unwrap())), ..vm() }
}

//! What a VM lives through beside start and stop.

use super::*;
use crate::config::{Autostart, Hook, Hooks, OnCrash};
use crate::host::process::Processes as _;
use crate::vm::autostart;
use crate::vm::unfinished;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

const WITH_HOST: Autostart = Autostart { order: 1, delay: Duration::ZERO };

#[tokio::test]
async fn pause_resume_and_reset_and_what_they_say_when_they_cannot() {
    let bench = Bench::new();
    let handle = bench.supervise();
    for refused in [handle.pause().await, handle.resume().await, handle.reset().await] {
        let refusal = refused.unwrap_err();
        assert_eq!(refusal.code, Code::Refused);
        assert!(refusal.message.contains("it is not running"), "{refusal}");
    }
    handle.start().await.unwrap();
    assert!(!handle.resume().await.unwrap().changed);
    assert!(handle.pause().await.unwrap().changed);
    let view = handle.view();
    assert_eq!((view.state, view.held), (VmState::Paused, true));
    assert!(!handle.pause().await.unwrap().changed);
    let refusal = handle.start().await.unwrap_err();
    assert_eq!(refusal.hint, "`hostctl vm resume` lets it run");
    handle.abandon();
    // The next hostd finds it paused, and that is fine.
    let handle = bench.supervise();
    let view = at_rest(&handle).await;
    assert_eq!((view.state, view.held), (VmState::Paused, true), "{view:?}");
    assert!(handle.resume().await.unwrap().changed);
    assert_eq!(handle.view().state, VmState::Running);
    assert!(!handle.view().held);
    assert!(handle.reset().await.unwrap().changed);
    let restarted = handle.restart(true).await.unwrap();
    assert!(restarted.changed);
    assert_eq!(handle.view().reason, "started on request, after a stop");
    handle.kill().await.unwrap();
    bench.assert_clean("after kill");
}

async fn crash(bench: &Bench, handle: &VmHandle) {
    let pid = handle.view().pid.unwrap();
    let held = bench.fake.processes.open(pid).unwrap().unwrap();
    held.signal(crate::host::process::Signal::Kill).unwrap();
    until(handle, |view| view.state == VmState::Crashed && view.step.is_empty()).await;
}

#[tokio::test]
async fn what_crashes_is_started_again_up_to_a_number() {
    let mut bench = Bench::new();
    bench.vm.on_crash = OnCrash::Restart { times: 2, delay: Duration::from_millis(20) };
    let handle = bench.supervise();
    handle.start().await.unwrap();
    for _ in 0..2 {
        crash(&bench, &handle).await;
        let view = until(&handle, |view| view.state == VmState::Running).await;
        assert_eq!(view.reason, "started again, after a crash");
    }
    crash(&bench, &handle).await;
    let view = until(&handle, |view| view.reason.contains("stays down")).await;
    assert!(view.reason.contains("crash 3 within an hour"), "{}", view.reason);
    assert!(view.reason.contains("killed by signal 9"), "{}", view.reason);
    bench.assert_clean("after the last crash");
}

#[tokio::test]
async fn whoever_stops_it_meanwhile_has_the_last_word() {
    let mut bench = Bench::new();
    bench.vm.on_crash = OnCrash::Restart { times: 2, delay: Duration::from_secs(100) };
    let handle = bench.supervise();
    handle.start().await.unwrap();
    crash(&bench, &handle).await;
    until(&handle, |view| view.reason.contains("started again in")).await;
    let done = handle.stop(false).await.unwrap();
    assert_eq!(done.message, "`gaming` stays down and is not started again");
    assert!(handle.view().reason.ends_with("not started again, on request"));
    // And whoever starts it needs not wait.
    handle.start().await.unwrap();
    handle.kill().await.unwrap();
    assert_eq!(handle.view().state, VmState::Off);
}

#[tokio::test]
async fn hooks_run_around_it_and_one_that_fails_refuses_the_start() {
    let hook = |program: &str| Hook {
        run: vec![program.to_owned(), "arg".to_owned()],
        deadline: Duration::from_secs(1),
    };
    let mut bench = Bench::new();
    bench.fake.file("/bin/true", "").unwrap();
    bench.fake.file("/bin/false", "").unwrap();
    bench.vm.hooks =
        Hooks { before_start: vec![hook("/bin/true")], after_stop: vec![hook("/bin/true")] };
    let handle = bench.supervise();
    handle.start().await.unwrap();
    handle.kill().await.unwrap();
    let log = bench.host.runtime.read("vms/gaming/hooks.log").unwrap().unwrap();
    assert!(log.contains("# before-start") && log.contains("# after-stop"), "{log}");
    assert!(log.contains(r#"("HOSTD_VM", "gaming")"#), "{log}");
    handle.abandon();

    bench.vm.hooks.before_start = vec![hook("/bin/false")];
    let lendings = bench.devices.with(|card| card.lendings);
    let handle = bench.supervise();
    let refusal = handle.start().await.unwrap_err();
    assert!(refusal.message.contains("a hook of `gaming` (before-start) has failed"), "{refusal}");
    assert!(refusal.message.contains("exit status 3: why not"), "{refusal}");
    assert_eq!(bench.devices.with(|card| card.lendings), lendings, "no device was touched");
    assert_eq!(handle.view().state, VmState::Failed);
    handle.abandon();

    bench.vm.hooks = Hooks { before_start: Vec::new(), after_stop: vec![hook("/bin/false")] };
    let handle = bench.supervise();
    handle.start().await.unwrap();
    let done = handle.kill().await.unwrap();
    assert!(done.warnings[0].contains("(after-stop) has failed"), "{done:?}");
    assert_eq!(handle.view().state, VmState::Off);
}

#[tokio::test]
async fn starts_with_the_host_once_and_never_what_may_have_taken_it_down() {
    let mut bench = Bench::new();
    bench.vm.autostart = Some(WITH_HOST);
    bench.fake.file(BOOT_ID, "one\n").unwrap();
    let name = bench.vm.name.clone();
    let handle = bench.supervise();
    let vms = |handle: &VmHandle| [(name.clone(), handle.clone())].into();
    autostart::run(bench.host.clone(), &vms(&handle)).await;
    assert_eq!(handle.view().reason, "started with the host");
    assert_eq!(unfinished::why(&bench.host, &name), None);
    handle.kill().await.unwrap();
    // A hostd that is restarted leaves it stopped.
    autostart::run(bench.host.clone(), &vms(&handle)).await;
    assert_eq!(handle.view().state, VmState::Off);
    handle.abandon();
    // The power goes in the middle of a start.
    unfinished::begin(&bench.host, &name).unwrap();
    bench.host.runtime.remove("autostarted").unwrap();
    bench.fake.file(BOOT_ID, "two\n").unwrap();
    let handle = bench.supervise();
    autostart::run(bench.host.clone(), &vms(&handle)).await;
    let view = handle.view();
    assert_eq!(view.state, VmState::Failed);
    assert!(view.reason.contains("not started by itself again"), "{}", view.reason);
    // A person can, and then it is forgotten.
    handle.start().await.unwrap();
    handle.kill().await.unwrap();
    assert_eq!(unfinished::why(&bench.host, &name), None);
}

#[tokio::test]
async fn more_than_a_few_wait_for_their_turn() {
    let bench = Bench::new();
    let (out, mut changes) = mpsc::channel(64);
    tokio::spawn(async move { while changes.recv().await.is_some() {} });
    let starts = Arc::new(Semaphore::new(1));
    let deps = Deps {
        starts: Arc::clone(&starts),
        ..Deps::new(bench.host.clone(), bench.devices.clone(), out)
    };
    let handle = spawn(deps, bench.vm.clone());
    let busy = Arc::clone(&starts).acquire_owned().await.unwrap();
    let starting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.start().await }
    });
    until(&handle, |view| view.step.contains("waiting for its turn")).await;
    drop(busy);
    starting.await.unwrap().unwrap();
    assert_eq!(starts.available_permits(), 1, "the next one has its turn");
    handle.kill().await.unwrap();
    // Who waits can be stopped.
    let _busy = Arc::clone(&starts).acquire_owned().await.unwrap();
    let starting = tokio::spawn({
        let handle = handle.clone();
        async move { handle.start().await }
    });
    until(&handle, |view| view.step.contains("waiting for its turn")).await;
    handle.stop(false).await.unwrap();
    assert!(starting.await.unwrap().is_err());
    assert_eq!(handle.view().state, VmState::Off);
}

#[tokio::test]
async fn a_device_that_is_taken_away_ends_it_with_the_reason() {
    let bench = Bench::new();
    let device = "/sys/bus/pci/devices/0000:01:00.0";
    bench.fake.dir("/sys/bus/pci/drivers/vfio-pci").unwrap();
    bench.fake.dir(device).unwrap();
    bench.fake.link(&format!("{device}/driver"), "/sys/bus/pci/drivers/vfio-pci").unwrap();
    let handle = bench.supervise();
    handle.start().await.unwrap();
    bench.fake.remove(&format!("{device}/driver")).unwrap();
    let view = until(&handle, |view| view.state == VmState::Crashed && view.step.is_empty()).await;
    assert!(view.reason.contains("0000:01:00.0 is being taken away"), "{}", view.reason);
    bench.assert_clean("after the card was pulled");
}

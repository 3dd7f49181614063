//! VMs whose file is wrong or gone.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const PROBLEMS: &str = "gaming.yaml:1:1: `memroy` is unknown\n\n1 problem in 1 file";

/// As a hostd that cannot use the VM's file.
fn supervise(bench: &Bench, wrong: bool) -> Vec<(crate::base::Name, VmHandle)> {
    let (out, mut changes) = mpsc::channel(16);
    tokio::spawn(async move { while changes.recv().await.is_some() {} });
    let deps = Deps::new(bench.host.clone(), bench.devices.clone(), out);
    let problems = (bench.vm.name.clone(), PROBLEMS.to_owned());
    let wrong = BTreeMap::from_iter(wrong.then_some(problems));
    spawn_barred(&deps, &BTreeSet::new(), &wrong)
}

#[tokio::test]
async fn what_runs_without_a_usable_file_is_seen_and_can_be_ended() {
    for (wrong, kill) in [(false, false), (true, false), (false, true), (true, true)] {
        let case = format!("wrong: {wrong}, kill: {kill}");
        let bench = Bench::new();
        bench.qemu.guest.send_modify(|guest| (guest.status, guest.obeys) = ("running", true));
        bench.leave(Phase::Running, true, true);
        let (_, handle) = supervise(&bench, wrong).remove(0);
        let view = at_rest(&handle).await;
        assert_eq!((view.state, view.pid), (VmState::Running, Some(100)), "{case}");
        let file = if wrong { "its file is wrong: 1 problem in 1 file" } else { "file is gone" };
        assert!(view.reason.contains(file), "{case}: {}", view.reason);
        let refusal = handle.start().await.unwrap_err();
        assert_eq!(refusal.code, Code::Usage, "{case}");
        assert_eq!(refusal.message.contains("gaming.yaml:1:1"), wrong, "{case}: {refusal}");
        let done = if kill { handle.kill().await } else { handle.stop(false).await };
        assert!(done.unwrap().changed, "{case}");
        bench.assert_clean(&case);
        let expected = if wrong { VmState::Failed } else { VmState::Off };
        until(&handle, |view| view.state == expected && view.reason.contains(file)).await;
        assert_eq!(handle.start().await.unwrap_err().code, Code::Usage, "{case}");
        assert!(!handle.stop(false).await.unwrap().changed, "{case}");
    }
}

#[tokio::test]
async fn a_wrong_file_without_a_qemu_is_a_failed_vm_and_logs_alone_are_none() {
    let bench = Bench::new();
    bench.host.runtime.write("vms/old/qemu.log", "hello\n").unwrap();
    assert!(supervise(&bench, false).is_empty());
    let (_, handle) = supervise(&bench, true).remove(0);
    let view = handle.view();
    let reason = "its file is wrong: 1 problem in 1 file; `hostctl config check` shows them";
    assert_eq!((view.state, view.reason.as_str()), (VmState::Failed, reason));
    assert_eq!(handle.start().await.unwrap_err().code, Code::Usage);
    assert_eq!(handle.view(), view);
}

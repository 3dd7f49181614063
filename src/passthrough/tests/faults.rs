//! A fault at every write of every way: the machine is as it was, or the
//! record says what is not.

use super::*;
use crate::pci::fake::Fault;

type Build = fn() -> Rig;

/// Machines with little and with all to do, and how many writes a bind, and
/// the release after it, take on each.
const RIGS: [(Build, usize, usize); 2] = [(Rig::new, 6, 6), (Rig::full, 12, 11)];

#[tokio::test]
async fn the_writes_are_counted_right() {
    for (rig, there, back) in RIGS {
        let rig = rig();
        let home = rig.machine();
        rig.bind(vm("gaming")).await.unwrap();
        assert_eq!(rig.pci.writes().len(), there);
        assert_ne!(rig.machine(), home);
        rig.release(vm("gaming")).await.unwrap();
        assert_eq!(rig.pci.writes().len(), back);
        assert_eq!((rig.machine(), rig.record()), (home, None));
    }
}

fn only(rig: &Rig, number: usize, fault: Fault) {
    rig.pci.inject(move |at, _, _| (at == number).then_some(fault));
}

#[tokio::test]
async fn a_failed_bind_is_undone() {
    for (build, number) in
        RIGS.into_iter().flat_map(|(build, there, _)| (0..there).map(move |n| (build, n)))
    {
        for fault in [Fault::Errno(libc::EIO), Fault::Ignored] {
            let mut rig = build();
            let home = rig.machine();
            only(&rig, number, fault);
            let error = rig.bind(vm("gaming")).await.unwrap_err();
            assert!(error.hint().starts_with("All is as it was"), "{number}: {}", error.hint());
            assert_eq!((rig.machine(), rig.record()), (home, None), "{number} {fault:?}");
            assert!(rig.restart().await.is_empty());
            assert!(rig.bind(vm("gaming")).await.unwrap().changed);
        }
    }
}

#[tokio::test]
async fn a_bind_that_cannot_be_undone_stays_on_record() {
    for (build, number) in
        RIGS.into_iter().flat_map(|(build, there, _)| (0..there).map(move |n| (build, n)))
    {
        let mut rig = build();
        let home = rig.machine();
        rig.pci.inject(move |at, _, _| (at >= number).then_some(Fault::Errno(libc::EIO)));
        let error = rig.bind(vm("gaming")).await.unwrap_err();
        if rig.machine() == home {
            assert_eq!(rig.record(), None, "{number}");
            continue;
        }
        assert!(error.hint().starts_with("Left: could not"), "{number}: {}", error.hint());
        let gpu = rig.gpu().await;
        assert!(!gpu.problems.is_empty(), "{number}");
        assert!(rig.restart().await[0].contains("not as it was"));
        assert!(rig.pass.claims().is_empty(), "what is left belongs to nobody");
        rig.pci.heal();
        assert!(rig.release(Owner::Person).await.unwrap().changed);
        assert_eq!((rig.machine(), rig.record()), (home, None), "{number}");
    }
}

#[tokio::test]
async fn a_failed_release_stays_on_record_and_can_be_tried_again() {
    for (build, number) in
        RIGS.into_iter().flat_map(|(build, _, back)| (0..back).map(move |n| (build, n)))
    {
        for fault in [Fault::Errno(libc::EIO), Fault::Ignored] {
            let rig = build();
            let home = rig.machine();
            rig.bind(Owner::Person).await.unwrap();
            only(&rig, number, fault);
            let error = rig.release(Owner::Person).await.unwrap_err();
            assert!(matches!(error, PassthroughError::Incomplete { .. }), "{error}");
            assert!(!rig.gpu().await.problems.is_empty(), "{number}");
            assert_ne!(rig.machine(), home);
            // The other function was given back all the same.
            assert!(rig.state().iter().zip(at_home()).any(|(now, home)| *now == home));
            // A BAR's size can no longer be changed when the driver is back.
            if error.to_string().contains("size of BAR") {
                let error = rig.release(Owner::Person).await.unwrap_err().to_string();
                assert!(
                    error.contains("not done, because aty128fb has it: set the size"),
                    "{error}"
                );
                assert_eq!(rig.state(), at_home());
                continue;
            }
            assert!(rig.release(Owner::Person).await.unwrap().changed);
            assert_eq!((rig.machine(), rig.record()), (home, None), "{number} {fault:?}");
        }
    }
}

#[tokio::test]
async fn what_is_left_can_be_bound_again_and_still_goes_home() {
    let rig = Rig::new();
    rig.bind(vm("gaming")).await.unwrap();
    rig.pci.inject(|_, path, _| path.ends_with("/bind").then_some(Fault::Errno(libc::ENODEV)));
    rig.release(vm("gaming")).await.unwrap_err();
    assert_eq!(rig.state(), [(None, None), (None, None)]);
    assert!(rig.bind(vm("gaming")).await.unwrap().changed);
    assert!(rig.gpu().await.problems.is_empty());
    rig.pci.heal();
    assert!(rig.release(vm("gaming")).await.unwrap().changed);
    assert_eq!(rig.state(), at_home());
}

#[tokio::test]
async fn a_crash_anywhere_in_a_bind_is_undone_at_the_next_start() {
    for (build, number) in
        RIGS.into_iter().flat_map(|(build, there, _)| (0..there).map(move |n| (build, n)))
    {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let mut rig = build();
            let home = rig.machine();
            only(&rig, number, fault);
            assert_eq!(rig.dying(vm("gaming"), false).await, None);
            let problem = &rig.gpu().await.problems[0];
            assert!(problem.starts_with("a change was interrupted: "), "{problem}");
            let said = rig.restart().await;
            assert_eq!(said, ["gaming: a change was interrupted and has been undone"]);
            assert_eq!((rig.machine(), rig.record()), (home, None), "{number} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_crash_anywhere_in_a_release_is_finished_at_the_next_start() {
    for (build, number) in
        RIGS.into_iter().flat_map(|(build, _, back)| (0..back).map(move |n| (build, n)))
    {
        for fault in [Fault::CrashBefore, Fault::CrashAfter] {
            let mut rig = build();
            let home = rig.machine();
            rig.bind(Owner::Person).await.unwrap();
            only(&rig, number, fault);
            assert_eq!(rig.dying(Owner::Person, true).await, None);
            rig.restart().await;
            assert_eq!((rig.machine(), rig.record()), (home, None), "{number} {fault:?}");
        }
    }
}

#[tokio::test]
async fn an_asker_who_left_is_like_a_crash_without_a_restart() {
    for (build, number) in
        RIGS.into_iter().flat_map(|(build, there, _)| (0..there).map(move |n| (build, n)))
    {
        let rig = build();
        let home = rig.machine();
        only(&rig, number, Fault::CrashAfter);
        assert_eq!(rig.dying(vm("gaming"), false).await, None);
        assert!(rig.bind(vm("gaming")).await.unwrap().changed, "{number}");
        assert_eq!(rig.state(), on_vfio());
        rig.release(vm("gaming")).await.unwrap();
        assert_eq!(rig.machine(), home);
    }
}

#[tokio::test]
async fn a_hang_wedges_one_function_and_nothing_touches_it_again() {
    for (build, number) in
        RIGS.into_iter().flat_map(|(build, there, _)| (0..there).map(move |n| (build, n)))
    {
        for fault in [Fault::Hang, Fault::HangAfter] {
            let mut rig = build();
            let home = rig.machine();
            only(&rig, number, fault);
            let error = rig.bind(vm("gaming")).await.unwrap_err();
            assert!(error.hint().contains("Restart the machine"), "{}", error.hint());
            let wedged = rig.record().unwrap().wedged;
            assert_eq!(wedged.len(), 1);
            let problems = rig.gpu().await.problems;
            assert!(problems[0].contains("hangs in the kernel"), "{problems:?}");

            let before = rig.pci.writes().len();
            assert!(before > 0);
            rig.restart().await;
            let error = rig.bind(vm("gaming")).await.unwrap_err();
            assert!(matches!(error, PassthroughError::Wedged { .. }), "{error}");
            assert!(!rig.release(vm("gaming")).await.unwrap().changed);
            assert!(rig.pass.plan(&gaming(), false).await.is_err());
            assert!(rig.pci.writes().is_empty(), "never retried silently");

            // The kernel has let go after all, and a person asks.
            rig.pci.heal();
            rig.release(Owner::Person).await.unwrap();
            assert_eq!((rig.machine(), rig.record()), (home, None), "{number} {fault:?}");
        }
    }
}

//! A life as it should go, and every other.

use super::*;
use proptest::prelude::*;

fn at(state: VmState) -> Life {
    Life::at(state, "why")
}

fn ended(exit: Exit, said: Option<(bool, &str)>) -> Observation {
    let said = said.map(|(guest, reason)| (guest, reason.to_owned()));
    Observation::Ended(End { exit, said, away: false })
}

#[test]
fn a_whole_life() {
    let mut life = Life::new("never started");
    let runs = Observation::Runs { why: "QEMU says so".into() };
    for (seen, state) in [
        (Observation::StartBegun { why: "on request".into() }, VmState::Preparing),
        (Observation::Launched, VmState::Starting),
        (runs.clone(), VmState::Running),
        (Observation::Halted { why: "no space left".into(), held: false }, VmState::Paused),
        (runs, VmState::Running),
        (Observation::StopBegun { why: "power button".into() }, VmState::Stopping),
        (ended(Exit::Code(0), Some((true, "guest-shutdown"))), VmState::Stopping),
        (Observation::CleanedUp { why: "stopped on request".into(), crashed: false }, VmState::Off),
    ] {
        life.observe(seen.clone());
        assert_eq!(life.state, state, "after {seen:?}");
    }
    assert_eq!(life.reason, "stopped on request");
}

#[test]
fn an_end_that_nobody_asked_for_is_a_crash_unless_the_guest_did_it() {
    let end = |seen| {
        let mut life = at(VmState::Running);
        life.observe(seen);
        (life.state, life.reason)
    };
    assert_eq!(
        end(ended(Exit::Signal(9), None)),
        (VmState::Crashed, "QEMU ended (killed by signal 9)".into())
    );
    assert_eq!(
        end(ended(Exit::Code(0), Some((false, "host-signal")))),
        (VmState::Crashed, "QEMU ended (exit status 0; host-signal)".into())
    );
    assert_eq!(end(ended(Exit::Code(0), Some((true, "guest-panic")))).0, VmState::Crashed);
    assert_eq!(
        end(ended(Exit::Unknown, Some((true, "guest-shutdown")))),
        (VmState::Stopping, "the guest switched itself off".into())
    );
    assert_eq!(
        end(Observation::Ended(End { exit: Exit::Unknown, said: None, away: true })).1,
        "QEMU ended while hostd was away (exit status unknown)"
    );
}

#[test]
fn requests_that_make_no_sense_are_refused_in_words() {
    let deny = |state| match at(state).judge(Request::Start) {
        Verdict::Deny { why, hint } => (why, hint.is_empty()),
        other => panic!("{state:?}: {other:?}"),
    };
    assert_eq!(deny(VmState::Stopping), ("it is stopping".into(), false));
    assert!(deny(VmState::Paused).0.contains("why"));
    let mut life = at(VmState::Crashed);
    assert!(matches!(life.judge(Request::Stop { force: false }), Verdict::AlreadySo(_)));
    life.observe(Observation::NotCleanedUp { why: "the GPU is stuck".into() });
    assert_eq!(life.judge(Request::Kill), Verdict::Accept(Action::CleanUp));
    let Verdict::Deny { why, .. } = life.judge(Request::Start) else { panic!("denied") };
    assert!(why.contains("the GPU is stuck"), "{why}");
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Start),
        any::<bool>().prop_map(|force| Request::Stop { force }),
        Just(Request::Kill),
        Just(Request::Pause),
        Just(Request::Resume),
        Just(Request::Reset),
        Just(Request::Hibernate),
    ]
}

fn observation() -> impl Strategy<Value = Observation> {
    let why = "[a-z]{1,8}";
    let exit = prop_oneof![
        any::<i32>().prop_map(Exit::Code),
        any::<i32>().prop_map(Exit::Signal),
        Just(Exit::Unknown)
    ];
    let end = (exit, proptest::option::of((any::<bool>(), why.prop_map(String::from))));
    prop_oneof![
        why.prop_map(|why| Observation::StartBegun { why }),
        Just(Observation::Launched),
        (why, any::<bool>()).prop_map(|(why, left)| Observation::StartFailed { why, left }),
        Just(Observation::StartCancelled),
        why.prop_map(|why| Observation::Runs { why }),
        (why, any::<bool>()).prop_map(|(why, held)| Observation::Halted { why, held }),
        why.prop_map(|why| Observation::NotStarted { why }),
        why.prop_map(|more| Observation::Remark { more }),
        why.prop_map(|why| Observation::StopBegun { why }),
        (any::<bool>(), why).prop_map(|(runs, why)| Observation::StopIgnored { runs, why }),
        (end, any::<bool>()).prop_map(|((exit, said), away)| Observation::Ended(End {
            exit,
            said,
            away
        })),
        (why, any::<bool>()).prop_map(|(why, crashed)| Observation::CleanedUp { why, crashed }),
        why.prop_map(|why| Observation::NotCleanedUp { why }),
    ]
}

proptest! {
    /// Whatever happens in whatever order: every state has a reason, every
    /// request an answer in words, and only what QEMU said makes it run.
    #[test]
    fn no_sequence_breaks_it(seen in proptest::collection::vec((observation(), request()), 0..60)) {
        let mut life = Life::new("never started");
        for (observation, request) in seen {
            let before = life.clone();
            let runs = matches!(
                observation,
                Observation::Runs { .. } | Observation::StopIgnored { runs: true, .. }
            );
            let changed = life.observe(observation);
            prop_assert_eq!(changed, life != before);
            prop_assert!(!life.reason.is_empty());
            if life.state == VmState::Running && before.state != VmState::Running {
                prop_assert!(runs);
            }
            prop_assert!(!life.held || life.state == VmState::Paused);
            if life.left {
                prop_assert_eq!(life.state, VmState::Failed);
            }
            let judged = life.judge(request);
            match &judged {
                Verdict::Deny { why, hint } => {
                    prop_assert!(!why.is_empty() && !hint.is_empty());
                }
                Verdict::AlreadySo(how) => prop_assert!(!how.is_empty()),
                Verdict::Accept(Action::Start) => prop_assert!(!life.left),
                Verdict::Accept(Action::CleanUp) => prop_assert!(life.left),
                Verdict::Accept(Action::Cancel) => prop_assert!(life.is_starting()),
                Verdict::Accept(Action::Force) => {
                    prop_assert_eq!(life.state, VmState::Stopping);
                }
                Verdict::Accept(Action::Shutdown { .. } | Action::Kill) => prop_assert!(
                    matches!(life.state, VmState::Running | VmState::Paused | VmState::Stopping)
                ),
                Verdict::Accept(Action::Pause | Action::Hibernate) => {
                    prop_assert_eq!(life.state, VmState::Running);
                }
                Verdict::Accept(Action::Resume) => prop_assert_eq!(life.state, VmState::Paused),
                Verdict::Accept(Action::Reset) => prop_assert!(
                    matches!(life.state, VmState::Running | VmState::Paused) && !life.silent
                ),
                Verdict::UnderWay => prop_assert!(
                    life.is_starting() || life.state == VmState::Stopping
                ),
            }
        }
    }
}

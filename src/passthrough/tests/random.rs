//! Any sequence of bind, release, crash, fault and external change ends in a
//! state that the list describes truly.

use proptest::prelude::*;

use super::*;
use crate::passthrough::journal::Phase;
use crate::pci::fake::Fault;

#[derive(Debug, Clone)]
enum Act {
    Bind(Owner),
    Release(Owner),
    Take(u8, Option<&'static str>),
    Override(u8, Option<&'static str>),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let owner = prop_oneof![Just(Owner::Person), Just(vm("gaming")), Just(vm("work"))];
    let driver = prop::option::of(prop_oneof![Just("vfio-pci"), Just("snd_other")]);
    prop_oneof![
        4 => owner.clone().prop_map(Act::Bind),
        4 => owner.prop_map(Act::Release),
        1 => (0u8..2, driver.clone()).prop_map(|(function, driver)| Act::Take(function, driver)),
        1 => (0u8..2, driver).prop_map(|(function, driver)| Act::Override(function, driver)),
        1 => Just(Act::Restart),
    ]
}

fn fault() -> impl Strategy<Value = Option<(usize, Fault)>> {
    let fault = prop_oneof![
        Just(Fault::Errno(libc::EIO)),
        Just(Fault::Ignored),
        Just(Fault::Hang),
        Just(Fault::HangAfter),
        Just(Fault::CrashBefore),
        Just(Fault::CrashAfter),
    ];
    prop::option::weighted(0.4, (0usize..14, fault))
}

/// What the list says against what the machine shows.
async fn is_true(rig: &Rig) {
    let (gpu, state) = (rig.gpu().await, rig.state());
    let on_vfio = state.iter().map(|(driver, _)| driver.as_deref() == Some("vfio-pci"));
    let on_vfio: Vec<bool> = on_vfio.collect();
    assert_eq!(gpu.driver, state[0].0);
    assert_eq!(gpu.bound, on_vfio == [true, true]);
    match rig.record() {
        None => assert!(gpu.problems.is_empty(), "{gpu:?}"),
        Some(record) => match record.phase {
            Phase::Bound => assert_eq!(gpu.problems.is_empty(), gpu.bound, "{gpu:?}"),
            Phase::Left => assert!(!gpu.problems.is_empty(), "{gpu:?}"),
            Phase::Binding | Phase::Restoring => panic!("unfinished: {record:?}"),
        },
    }
}

async fn play(full: bool, acts: Vec<(Act, Option<(usize, Fault)>)>) {
    let mut rig = if full { Rig::full() } else { Rig::new() };
    let home = rig.machine();
    let meddled = acts.iter().any(|(act, _)| matches!(act, Act::Take(..) | Act::Override(..)));
    for (act, fault) in acts {
        rig.pci.inject(move |at, _, _| fault.filter(|(number, _)| *number == at).map(|f| f.1));
        let alive = match act {
            Act::Bind(owner) => rig.dying(owner, false).await.is_some(),
            Act::Release(owner) => rig.dying(owner, true).await.is_some(),
            Act::Take(function, driver) => {
                let address = at("01:00.0").with_function(function);
                rig.pci.take_over(address, driver).unwrap();
                true
            }
            Act::Override(function, driver) => {
                let address = at("01:00.0").with_function(function);
                rig.pci.set_override(address, driver).unwrap();
                true
            }
            Act::Restart => false,
        };
        rig.pci.heal();
        if !alive {
            rig.restart().await;
        }
        is_true(&rig).await;
    }
    for owner in [vm("gaming"), vm("work"), Owner::Person] {
        let _ = rig.release(owner).await;
        is_true(&rig).await;
    }
    // A BAR that could not be set back stays on record until a restart.
    let stuck = |record: Record| record.problems.iter().any(|why| why.contains("size of BAR"));
    if rig.record().is_some_and(stuck) {
        assert!(meddled || rig.state() == at_home());
    } else if !meddled {
        assert_eq!((rig.machine(), rig.record()), (home, None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_list_is_true(
        full: bool,
        acts in prop::collection::vec((act(), fault()), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(full, acts));
    }
}

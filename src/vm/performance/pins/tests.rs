//! Machines that people have, and whole cores on all of them.

use super::*;
use crate::host::topology::samples::{self, topology};
use proptest::prelude::*;
use std::sync::LazyLock;

const NONE: &Cpus = &Cpus::new();

fn wish(vcpus: u32) -> Wish<'static> {
    Wish { vcpus, threads: None, leave: 1, node: None, near: None, taken: NONE }
}

fn chosen(machine: &samples::Machine, wish: &Wish<'_>) -> Pins {
    choose(&topology(machine), wish).unwrap()
}

#[test]
fn siblings_are_side_by_side_and_the_low_cores_stay() {
    let pins = chosen(&samples::intel_8c16t(), &wish(8));
    assert_eq!(pins.vcpus, [4, 12, 5, 13, 6, 14, 7, 15]);
    assert_eq!((pins.cores, pins.threads), (4, 2));
    assert_eq!(list(&pins.host), "0-3,8-11");
    assert_eq!((&pins.emulator, &pins.iothreads), (&pins.host, &pins.host));
    assert_eq!(
        pins.words,
        ["guest on 4 whole cores (processors 4-7,12-15), the host keeps 0-3,8-11"]
    );
}

#[test]
fn one_cache_and_the_one_without_the_host() {
    let pins = chosen(&samples::ryzen_5950x(), &wish(16));
    assert_eq!(list(&pins.vcpus), "8-15,24-31");
    // Both halves of it are needed: said.
    let wide = chosen(&samples::ryzen_5950x(), &wish(20));
    assert_eq!(list(&wide.vcpus), "6-15,22-31");
    assert!(wide.words[1].contains("no level 3 cache"), "{:?}", wide.words);
    let old = chosen(&samples::ryzen_1800x(), &wish(8));
    assert_eq!(old.vcpus, [8, 9, 10, 11, 12, 13, 14, 15]);
    // The large cache is worth its neighbour, the host.
    assert_eq!(list(&chosen(&samples::ryzen_7950x3d(), &wish(12)).vcpus), "2-7,18-23");
    assert_eq!(list(&chosen(&samples::ryzen_7950x3d(), &wish(16)).vcpus), "8-15,24-31");
}

#[test]
fn one_node_and_the_one_that_is_asked_for() {
    let machine = samples::epyc_2_nodes();
    let near = chosen(&machine, &Wish { near: Some(0), ..wish(8) });
    assert_eq!(list(&near.vcpus), "4-7,20-23");
    assert_eq!(list(&near.emulator), "0-3,16-19");
    let here = chosen(&machine, &Wish { node: Some(1), ..wish(16) });
    assert_eq!(list(&here.vcpus), "8-15,24-31");
    // The whole node is the guest's: QEMU's threads are on the other.
    assert_eq!(list(&here.emulator), "0-7,16-23");
    let both = chosen(&machine, &wish(24));
    assert!(both.words.iter().any(|word| word.contains("nodes 0-1")), "{:?}", both.words);
    let none = choose(&topology(&machine), &Wish { node: Some(7), ..wish(2) }).unwrap_err();
    assert_eq!(none, "there is no NUMA node 7 with processors; the host has 0-1");
}

#[test]
fn fast_cores_and_small_ones_for_the_host() {
    let pins = chosen(&samples::hybrid_12900k(), &wish(16));
    assert_eq!((list(&pins.vcpus), list(&pins.host)), ("0-15".into(), "16-23".into()));
    let why = choose(&topology(&samples::hybrid_12900k()), &wish(18)).unwrap_err();
    assert!(why.contains("9 performance cores"), "{why}");
}

#[test]
fn odd_numbers_leave_siblings_idle() {
    let pins = chosen(&samples::intel_8c16t(), &wish(5));
    assert_eq!((&pins.vcpus[..], pins.threads), (&[3, 4, 5, 6, 7][..], 1));
    assert_eq!(list(&pins.idle), "11-15");
    assert_eq!(list(&pins.kept()), "3-7,11-15");
    assert_eq!(list(&pins.host), "0-2,8-10");
    let one = chosen(&samples::intel_8c16t(), &Wish { threads: Some(1), ..wish(4) });
    assert_eq!((&one.vcpus[..], list(&one.idle)), (&[4, 5, 6, 7][..], "12-15".into()));
}

#[test]
fn refusals_have_the_numbers() {
    let small = topology(&samples::small_vm());
    assert_eq!(choose(&small, &wish(1)).unwrap().vcpus, [1]);
    assert_eq!(
        choose(&small, &wish(2)).unwrap_err(),
        "2 virtual processors need 2 cores with 1 thread; of the host's 2 cores 1 can be had \
         (1 stay with the host). Lower `cpus:`, or write `pinning:` with the processors you \
         mean"
    );
    let why = choose(&small, &Wish { threads: Some(2), ..wish(2) }).unwrap_err();
    assert_eq!(why, "2 threads a core are wanted; the host's cores have 1");
    let taken = Cpus::from([1]);
    let why = choose(&small, &Wish { taken: &taken, ..wish(1) }).unwrap_err();
    assert!(why.contains("other VMs have processors 1"), "{why}");
    assert!(choose(&small, &wish(0)).is_err());
    assert!(choose(&Topology::default(), &wish(1)).is_err());
}

#[test]
fn exact_pins_are_checked_all_at_once() {
    let machine = topology(&samples::intel_8c16t());
    let wrong = exact(&machine, 4, &[2, 2, 99], &[77], &[], NONE).unwrap_err();
    insta::assert_snapshot!(wrong.join("\n"), @r"
    `vcpus` names processor 99, which is not there: the host has 0-15
    `emulator` names processor 77, which is not there: the host has 0-15
    3 processors are pinned for 4 virtual ones
    processor 2 is pinned twice
    ");
    let all: Vec<u32> = (0..16).collect();
    assert!(exact(&machine, 16, &all, &[], &[], NONE).unwrap_err()[0].contains("none is left"));
    let taken = Cpus::from([3]);
    let pins = exact(&machine, 2, &[3, 11], &[0], &[], &taken).unwrap();
    assert_eq!((list(&pins.emulator), list(&pins.iothreads)), ("0".into(), "0".into()));
    assert!(pins.words[1].contains("another VM's"), "{:?}", pins.words);
    assert_eq!(list(&pins.host), "0-2,4-10,12-15");
}

fn any_machine() -> impl Strategy<Value = Topology> {
    static ALL: LazyLock<Vec<Topology>> = LazyLock::new(|| {
        let all = [
            samples::intel_8c16t(),
            samples::ryzen_5950x(),
            samples::ryzen_1800x(),
            samples::ryzen_7950x3d(),
            samples::epyc_2_nodes(),
            samples::small_vm(),
            samples::hybrid_12900k(),
        ];
        all.iter().map(topology).collect()
    });
    prop::sample::select(ALL.as_slice())
}

proptest! {
    #[test]
    fn whole_cores_of_its_own_or_a_reason(
        machine in any_machine(),
        vcpus in 0u32..40,
        threads in prop::option::of(0u32..3),
        leave in 0u32..6,
        near in prop::option::of(0u32..3),
        taken in prop::collection::btree_set(0u32..32, 0..4),
    ) {
        let wish = Wish { vcpus, threads, leave, node: None, near, taken: &taken };
        let found = choose(&machine, &wish);
        prop_assert_eq!(&found, &choose(&machine, &wish));
        let Ok(pins) = found else { return Ok(()) };
        let guest: Cpus = pins.vcpus.iter().copied().collect();
        prop_assert_eq!(pins.vcpus.len(), vcpus as usize);
        prop_assert_eq!(guest.len(), vcpus as usize);
        prop_assert_eq!(pins.cores * pins.threads, vcpus);
        prop_assert!(pins.kept().is_disjoint(&pins.host) && pins.kept().is_disjoint(&taken));
        prop_assert!(pins.emulator.is_subset(&pins.host) && !pins.emulator.is_empty());
        prop_assert!(pins.iothreads.is_subset(&pins.host));
        let kept = pins.kept();
        let free = machine.cores.iter().filter(|core| {
            let mine = core.cpus.iter().filter(|cpu| kept.contains(cpu)).count();
            assert!(mine == 0 || mine == core.cpus.len(), "half a core");
            mine == 0
        });
        prop_assert!(free.count() >= leave.max(1) as usize);
    }
}

//! What is counted, and what is refused.

use super::*;

const G: u64 = 1 << 30;

fn vm(memory: u64, hugepages: bool) -> Vm {
    Vm {
        hugepages: if hugepages { Hugepages::Size(Bytes(2 << 20)) } else { Hugepages::Off },
        performance: Some(Performance::default()),
        ..Vm::plain("gaming".parse().unwrap(), Bytes(memory))
    }
}

fn facts(available: u64, arc: Option<(u64, u64)>) -> Facts {
    let arc = arc.map(|(size, max)| Arc { size, max, min: G });
    Facts { total: 32 * G, available, arc, ..Facts::default() }
}

#[test]
fn enough_is_enough() {
    let plan = plan(&facts(24 * G, None), &vm(16 * G, false), 0).unwrap();
    assert_eq!((plan.claim, plan.words), (Memory::default(), vec![]));
    assert_eq!(plan.wanted, 18 * G + OVERHEAD);
}

#[test]
fn the_cache_gives_what_is_missing_and_may_not_grow_into_it() {
    let vm = vm(16 * G, false);
    let lower = plan(&facts(12 * G, Some((16 * G, 16 * G))), &vm, 0).unwrap();
    assert_eq!(lower.claim.arc_max, Some(Bytes(9 * G + G / 2)));
    assert_eq!(lower.words, ["lower the limit of ZFS's cache from 16G to 9.5G (it has 16G)"]);
    // Small now, but it could grow.
    let capped = plan(&facts(20 * G, Some((2 * G, 16 * G))), &vm, 0).unwrap();
    assert_eq!(capped.claim.arc_max, Some(Bytes(3 * G + G / 2)));
    let free = plan(&facts(28 * G, Some((2 * G, 4 * G))), &vm, 0).unwrap();
    assert_eq!(free.claim.arc_max, None);
}

#[test]
fn a_refusal_has_the_numbers() {
    let why = plan(&facts(10 * G, Some((8 * G, 16 * G))), &vm(16 * G, false), 0).unwrap_err();
    assert_eq!(
        why,
        "16G wanted and 512M for QEMU; the host has 32G, of which 10G are available and 2G \
         are kept for it; ZFS's cache has 8G and may give 7G; short by 1.5G"
    );
    let mut one = facts(28 * G, None);
    one.node_total = Some(8 * G);
    let why = plan(&one, &vm(16 * G, false), 0).unwrap_err();
    assert_eq!(why, "16G wanted on one NUMA node, which has 8G");
    let huge = vm(u64::MAX, false);
    assert!(plan(&facts(28 * G, None), &huge, 0).is_err());
}

#[test]
fn free_pages_are_used_first_and_promised_ones_are_not() {
    let mut some = facts(24 * G, None);
    let path = "/pool".to_owned();
    some.pool = Some(Pool { path, size: 2 << 20, all: 1000, free: 600 });
    let claim = plan(&some, &vm(G, true), 0).unwrap().claim.pages.unwrap();
    assert_eq!((claim.needed, claim.added), (512, 0));
    let claim = plan(&some, &vm(G, true), 512).unwrap().claim.pages.unwrap();
    assert_eq!((claim.needed, claim.added), (512, 424));
    let odd = plan(&some, &vm(3 << 20, true), 600).unwrap();
    assert_eq!(odd.claim.pages.unwrap().needed, 2);
    assert_eq!(odd.words, ["add 2 pages of 2M to the 1000 of the host"]);
}

#[test]
fn reads_what_the_kernel_writes() {
    let stats = "13 1 0x01 147 39984 1 2\nname type data\nhits 4 5\nsize 4 123\nc_max 4 9\n";
    assert_eq!((kstat(stats, "size"), kstat(stats, "c_min")), (Some(123), None));
}

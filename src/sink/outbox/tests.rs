//! The outbox alone, on a disk that can be broken.

use proptest::prelude::*;

use super::*;
use crate::host::spool::FakeSpool;

const T0: Timestamp = Timestamp(1_795_000_000_000_000);

fn at(secs: u64) -> Timestamp {
    T0.plus(Duration::from_secs(secs))
}

fn event(n: u64) -> Arc<Event> {
    let service = Some(format!("e{n}"));
    Arc::new(Event { service, time: Some(T0), ..Event::default() })
}

fn events(names: std::ops::Range<u64>) -> Vec<Arc<Event>> {
    names.map(event).collect()
}

fn open(disk: &FakeSpool, limits: Limits) -> Outbox {
    Outbox::open(Ok(Box::new(disk.clone())), limits, T0)
}

fn names(kept: &[Kept]) -> Vec<u64> {
    let number = |kept: &Kept| kept.event.service.as_ref().unwrap()[1..].parse().unwrap();
    kept.iter().map(number).collect()
}

fn all(outbox: &mut Outbox) -> Vec<u64> {
    names(&outbox.read(0, usize::MAX, usize::MAX))
}

fn range(names: std::ops::Range<u64>) -> Vec<u64> {
    names.collect()
}

#[test]
fn what_is_not_acknowledged_is_there_after_a_restart() {
    let disk = FakeSpool::default();
    let mut outbox = open(&disk, Limits::default());
    outbox.append(&events(0..10), at(0));
    outbox.append(&events(10..20), at(5));
    assert_eq!(disk.disk().syncs, 2, "one for each batch");
    let first = outbox.read(0, 4, usize::MAX);
    assert_eq!(names(&first), range(0..4));
    assert_eq!(names(&outbox.read(first[3].seq, 100, usize::MAX)), range(4..20));
    outbox.ack(first[3].seq, at(6));
    let gauge = outbox.gauge(at(10));
    assert_eq!((gauge.waiting, gauge.oldest), (16, Some(Duration::from_secs(10))));
    drop(outbox);
    let mut outbox = open(&disk, Limits::default());
    assert_eq!(all(&mut outbox), range(4..20));
    outbox.append(&events(20..21), at(20));
    assert_eq!(all(&mut outbox), range(4..21));
    outbox.ack(u64::MAX, at(20));
    assert_eq!((outbox.gauge(at(21)).waiting, outbox.gauge(at(21)).oldest), (0, None));
    drop(outbox);
    let mut outbox = open(&disk, Limits::default());
    assert_eq!(all(&mut outbox), range(0..0));
    outbox.append(&events(21..22), at(22));
    assert_eq!(all(&mut outbox), [21], "numbers go on where they were");
}

#[test]
fn reading_is_bounded_by_bytes_but_never_stuck() {
    let disk = FakeSpool::default();
    let mut outbox = open(&disk, Limits::default());
    outbox.append(&events(0..100), T0);
    assert_eq!(names(&outbox.read(0, 100, 1)), [0]);
    let some = outbox.read(0, 100, 500).len();
    assert!((2..100).contains(&some), "{some}");
}

#[test]
fn files_go_when_all_in_them_is_acknowledged() {
    let disk = FakeSpool::default();
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let mut outbox = open(&disk, limits);
    outbox.append(&events(0..5000), T0);
    let files = || disk.disk().files.len();
    assert!(files() > 3, "{}", files());
    let mut last = 0;
    let mut seen = Vec::new();
    loop {
        let kept = outbox.read(last, 100, usize::MAX);
        let Some(end) = kept.last() else { break };
        last = end.seq;
        seen.extend(names(&kept));
        outbox.ack(last, at(seen.len() as u64));
    }
    assert_eq!(seen, range(0..5000));
    assert!(files() <= 2, "one to write to, one for acknowledgements: {}", files());
    let bytes: usize = disk.disk().files.values().map(Vec::len).sum();
    assert!(bytes < 70_000, "{bytes}");
}

#[test]
fn beyond_its_bytes_the_oldest_are_dropped_and_counted() {
    let disk = FakeSpool::default();
    let limits = Limits { bytes: 256 << 10, ..Limits::default() };
    let mut outbox = open(&disk, limits);
    for n in 0..100 {
        outbox.append(&events(n * 100..n * 100 + 100), T0);
    }
    let left = all(&mut outbox);
    let gauge = outbox.gauge(T0);
    assert!(gauge.bytes <= limits.bytes, "{}", gauge.bytes);
    assert_eq!(left, range(10_000 - left.len() as u64..10_000));
    assert_eq!(gauge.dropped.full + left.len() as u64, 10_000);
    assert_eq!(gauge.dropped.all(), gauge.dropped.full);
    assert_eq!(gauge.waiting, left.len() as u64);
}

#[test]
fn what_is_too_old_is_dropped_and_counted() {
    let disk = FakeSpool::default();
    let limits = Limits { age: Duration::from_secs(60), ..Limits::default() };
    let mut outbox = open(&disk, limits);
    outbox.append(&events(0..10), at(0));
    assert_eq!(outbox.gauge(at(60)).waiting, 10);
    assert_eq!(outbox.gauge(at(61)).dropped.old, 10);
    assert_eq!(all(&mut outbox), range(0..0));
    // Also in a daemon that was not there at the time.
    outbox.append(&events(10..20), at(100));
    drop(outbox);
    let mut outbox = Outbox::open(Ok(Box::new(disk.clone())), limits, at(200));
    assert_eq!(outbox.gauge(at(200)).dropped.old, 10);
    // And in memory.
    disk.disk().read_only = true;
    outbox.append(&events(20..30), at(200));
    assert_eq!(outbox.gauge(at(210)).in_memory, 10);
    assert_eq!(outbox.gauge(at(261)).dropped.old, 20);
}

#[test]
fn a_full_disk_leaves_memory_then_drops_the_oldest_and_counts() {
    for broken in ["full", "read-only"] {
        let disk = FakeSpool::default();
        let limits = Limits { memory: 10_000, ..Limits::default() };
        let mut outbox = open(&disk, limits);
        outbox.append(&events(0..10), T0);
        match broken {
            "full" => disk.disk().room = Some(1000),
            _ => disk.disk().read_only = true,
        }
        outbox.append(&events(10..60), T0);
        let gauge = outbox.gauge(T0);
        assert_eq!((gauge.waiting, gauge.dropped.all()), (60, 0), "{broken}");
        assert!(gauge.in_memory > 0 && gauge.trouble.is_some(), "{gauge:?}");
        assert_eq!(all(&mut outbox), range(0..60), "{broken}: all can be sent");
        outbox.append(&events(60..1000), T0);
        let gauge = outbox.gauge(T0);
        let left = all(&mut outbox);
        assert_eq!(left.len() as u64 + gauge.dropped.memory, 1000, "{broken}");
        assert!(left.ends_with(&range(900..1000)), "{broken}: the newest are there");
        assert!(left.starts_with(&range(0..10)), "{broken}: what was on the disk is there");
        // There is room again.
        disk.disk().room = None;
        disk.disk().read_only = false;
        let gauge = outbox.gauge(T0);
        assert_eq!((gauge.in_memory, gauge.trouble), (0, None), "{broken}");
        assert_eq!(all(&mut outbox), left, "{broken}");
        outbox.append(&events(1000..1001), T0);
        drop(outbox);
        let mut outbox = open(&disk, limits);
        assert_eq!(all(&mut outbox), [left, vec![1000]].concat(), "{broken}");
        assert_eq!(outbox.gauge(T0).dropped, Dropped::default(), "{broken}");
    }
}

#[test]
fn acknowledging_goes_on_while_the_disk_is_full() {
    let disk = FakeSpool::default();
    let mut outbox = open(&disk, Limits::default());
    outbox.append(&events(0..10), T0);
    disk.disk().read_only = true;
    outbox.append(&events(10..20), T0);
    outbox.ack(15, T0);
    assert_eq!(all(&mut outbox), range(15..20));
    disk.disk().read_only = false;
    outbox.append(&events(20..25), T0);
    outbox.ack(16, at(2));
    drop(outbox);
    assert_eq!(all(&mut open(&disk, Limits::default())), range(16..25));
}

#[test]
fn without_a_folder_everything_is_in_memory() {
    let why = io::Error::from(io::ErrorKind::PermissionDenied);
    let mut outbox = Outbox::open(Err(why), Limits { memory: 5000, ..Limits::default() }, T0);
    outbox.append(&events(0..1000), T0);
    let gauge = outbox.gauge(T0);
    assert_eq!(gauge.waiting + gauge.dropped.memory, 1000);
    assert!(gauge.waiting > 10 && gauge.bytes <= 5000, "{gauge:?}");
    assert_eq!(gauge.trouble.unwrap(), "permission denied; events wait in memory until a restart");
    let left = all(&mut outbox);
    outbox.ack(outbox.next - 1, T0);
    assert_eq!((left.last(), outbox.gauge(T0).waiting), (Some(&999), 0));
}

#[test]
fn what_cannot_be_read_keeps_its_place() {
    let disk = FakeSpool::default();
    let mut outbox = open(&disk, Limits::default());
    outbox.append(&events(0..10), T0);
    disk.disk().unreadable = true;
    assert_eq!(all(&mut outbox), range(0..0));
    assert!(outbox.gauge(T0).trouble.unwrap().starts_with("cannot read 0000"));
    disk.disk().unreadable = false;
    assert_eq!(all(&mut outbox), range(0..10));
}

#[test]
fn a_damaged_file_costs_its_rest_and_is_counted() {
    let disk = FakeSpool::default();
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let mut outbox = open(&disk, limits);
    outbox.append(&events(0..5000), T0);
    let second = outbox.segments[1];
    disk.disk().files.get_mut(&second.name()).unwrap()[60] ^= 1;
    let left = all(&mut outbox);
    let lost = outbox.gauge(T0).dropped.damaged;
    assert_eq!(lost, second.last - second.first, "all of it but its first record");
    assert_eq!(left.len() as u64 + lost, 5000);
    assert_eq!(left.last(), Some(&4999));
    outbox.append(&events(5000..5001), T0);
    assert_eq!(all(&mut outbox).last(), Some(&5000));
}

#[test]
fn an_event_of_any_length_goes_through_or_is_counted() {
    let disk = FakeSpool::default();
    let mut outbox = open(&disk, Limits::default());
    let long = |length: usize| {
        Arc::new(Event {
            service: Some("e7".into()),
            time: Some(T0),
            description: Some("x".repeat(length)),
            ..Event::default()
        })
    };
    outbox.append(&[event(1), long(900_000), event(2), long(2 << 20), event(3)], T0);
    assert_eq!(all(&mut outbox), [1, 7, 2, 3]);
    assert_eq!(outbox.gauge(T0).dropped.large, 1);
    drop(outbox);
    assert_eq!(all(&mut open(&disk, Limits::default())), [1, 7, 2, 3]);
}

/// What may happen to an outbox.
#[derive(Debug, Clone)]
enum Act {
    Append(u64),
    Read(usize),
    /// Acknowledges all that was read.
    Ack,
    /// Killed, with so many bytes of a write that was under way.
    Kill(usize),
    Full(bool),
    /// The disk takes so many more bytes.
    Nearly(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (1..200u64).prop_map(Act::Append),
        4 => (1..300usize).prop_map(Act::Read),
        3 => Just(Act::Ack),
        1 => (0..40usize).prop_map(Act::Kill),
        1 => any::<bool>().prop_map(Act::Full),
        1 => (0..5000usize).prop_map(Act::Nearly),
    ]
}

proptest! {
    /// Whatever happens, events come in order, and none is missing.
    #[test]
    fn nothing_is_lost_uncounted(acts in proptest::collection::vec(act(), 1..60)) {
        let disk = FakeSpool::default();
        let limits = Limits { bytes: 1 << 30, memory: 1 << 20, ..Limits::default() };
        let mut outbox = open(&disk, limits);
        let (mut made, mut cursor, mut next) = (0, 0, 0);
        let mut seen = std::collections::BTreeSet::new();
        for act in acts.into_iter().chain([Act::Full(false), Act::Read(usize::MAX)]) {
            match act {
                Act::Append(count) => {
                    outbox.append(&events(made..made + count), T0);
                    made += count;
                }
                Act::Read(most) => {
                    let kept = outbox.read(cursor, most, usize::MAX);
                    for (kept, name) in kept.iter().zip(names(&kept)) {
                        prop_assert!(name >= next && kept.seq > cursor);
                        (next, cursor) = (name + 1, kept.seq);
                        seen.insert(name);
                    }
                }
                Act::Ack => outbox.ack(cursor, T0),
                // What memory alone has is lost with it, which is its bound.
                Act::Kill(_) if outbox.gauge(T0).in_memory > 0 => {}
                Act::Kill(torn) => {
                    drop(outbox);
                    let mut files = disk.disk();
                    let last = files.files.iter_mut().rfind(|(name, _)| *name != ACKED);
                    if let Some((_, file)) = last {
                        // Of a write that was under way.
                        file.extend_from_slice(&[0; 40][..torn]);
                    }
                    drop(files);
                    outbox = open(&disk, limits);
                    (cursor, next) = (0, 0);
                }
                Act::Full(full) => {
                    let used = disk.disk().files.values().map(Vec::len).sum();
                    disk.disk().room = full.then_some(used);
                }
                Act::Nearly(more) => {
                    let used: usize = disk.disk().files.values().map(Vec::len).sum();
                    disk.disk().room = Some(used + more);
                }
            }
        }
        let gauge = outbox.gauge(T0);
        prop_assert_eq!((gauge.dropped, gauge.in_memory), (Dropped::default(), 0));
        prop_assert_eq!(seen.len() as u64, made, "all were seen");
    }

    #[test]
    fn no_folder_is_too_strange(files in proptest::collection::btree_map(
        prop_oneof![Just(ACKED.to_owned()), (0..5u64).prop_map(name), "[a-z]{1,8}"],
        proptest::collection::vec(any::<u8>(), 0..200), 0..5)) {
        let disk = FakeSpool::default();
        disk.disk().files = files;
        let mut outbox = open(&disk, Limits::default());
        let before = all(&mut outbox).len();
        outbox.append(&events(0..3), T0);
        prop_assert_eq!(all(&mut outbox).len(), before + 3);
    }
}

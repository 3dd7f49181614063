//! The way there and back on a host of values, with a fault at every write.
#![allow(clippy::disallowed_methods, reason = "it looks after a fake machine's files")]

mod rig;

use std::sync::atomic::Ordering;

use rig::{G, GOVERNOR, POOL, Rig, lock};

use super::*;
use crate::base::Bytes;
use crate::config::{Hugepages, Performance, Pinning};
use crate::host::SysRoot;
use crate::host::affinity::RealAffinity;
use crate::host::cpus::{self, Cpus};
use crate::host::fake::FakeHost;

fn vm(name: &str, cpus: u32, memory: u64) -> Vm {
    Vm {
        cpus,
        pinning: Pinning::Auto { leave: 1 },
        hugepages: Hugepages::Size(Bytes(2 << 20)),
        performance: Some(Performance {
            stop_services: vec!["plex.service".into(), "off.service".into()],
            ..Performance::default()
        }),
        ..Vm::plain(name.parse().unwrap(), Bytes(memory))
    }
}

fn gaming() -> Vm {
    vm("gaming", 8, 16 * G)
}

#[tokio::test]
async fn the_host_makes_room_and_is_as_it_was_after() {
    let rig = Rig::new();
    let home = rig.state();
    let vm = gaming();
    let words = rig.rooms.memory_before_launch(&vm).await.unwrap();
    insta::assert_snapshot!(words.join("\n"), @r"
    add 8188 pages of 2M to the 4 of the host
    lower the limit of ZFS's cache from 16G to 9.5G (it has 16G)
    ");
    assert_eq!(rig.text(&format!("{POOL}/nr_hugepages")), "8192");
    let ready = rig.rooms.profile_before_launch(&vm, None).await.unwrap();
    assert_eq!(ready.pins.unwrap().vcpus, [4, 12, 5, 13, 6, 14, 7, 15]);
    insta::assert_snapshot!(ready.warnings.join("\n"), @r"
    not for this VM: 2 kernel threads ksoftirqd
    not for this VM: interrupts 0 (timer)
    ");
    assert_eq!(rig.text(GOVERNOR), "performance");
    assert_eq!(rig.text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"), "powersave");
    let units = lock(&rig.units).clone();
    let shown = |unit: &str| units[unit].as_str();
    assert_eq!((shown("system.slice"), shown("plex.service")), ("0-3,8-11", "inactive"));
    assert_eq!((shown("tank"), units.get("off.service")), ("paused", None));
    let list = |thread: u32| cpus::list(&rig.threads.get(thread).unwrap());
    assert_eq!(
        (list(2), list(300), list(17), list(900)),
        ("0-3,8-11".into(), "0-3,8-11".into(), "5".into(), "0-15".into())
    );
    assert_eq!(rig.text("/sys/devices/virtual/workqueue/cpumask"), "f0f");
    let irq = |irq: u32| rig.text(&format!("/proc/irq/{irq}/smp_affinity_list"));
    // One that was within the guest's goes to all of the host's; one of the
    // host's stays.
    assert_eq!((irq(24), irq(30), irq(31)), ("0-3,8-11".into(), "0-3,8-11".into(), "0-1".into()));
    let shown = in_force(&rig.host, &vm.name).unwrap().unwrap();
    insta::assert_json_snapshot!("in_force", shown);
    // A second time there is nothing to do.
    rig.heal();
    rig.rooms.profile_before_launch(&vm, None).await.unwrap();
    assert_eq!(rig.heal(), 1, "only the interrupt that cannot be moved is tried again");

    let done = rig.rooms.restore(&vm.name).await.unwrap();
    assert_eq!(done, Settled::default());
    assert_eq!(rig.state(), home);
    assert!(!rig.record().exists());
    assert_eq!(in_force(&rig.host, &vm.name).unwrap(), None);
    assert_eq!(rig.rooms.restore(&vm.name).await.unwrap(), Settled::default());
}

/// How many writes a start and the way back take.
async fn writes() -> (usize, usize) {
    let rig = Rig::new();
    rig.start(&gaming()).await.unwrap();
    let there = rig.heal();
    rig.rooms.restore(&gaming().name).await.unwrap();
    (there, rig.heal())
}

#[tokio::test]
async fn a_fault_at_any_write_of_a_start_is_undone() {
    let (there, _) = writes().await;
    assert!(there > 20, "{there}");
    let rig = Rig::new();
    let home = rig.state();
    for number in 0..there {
        rig.fail(move |at| at == number);
        match rig.start(&gaming()).await {
            Ok(ready) => assert!(ready.warnings.len() >= 2, "{number}: {:?}", ready.warnings),
            Err(_) => assert_eq!(rig.state(), home, "{number}"),
        }
        rig.heal();
        let done = rig.rooms.restore(&gaming().name).await.unwrap();
        assert_eq!((rig.state(), done), (home.clone(), Settled::default()), "{number}");
        assert!(!rig.record().exists(), "{number}");
    }
}

#[tokio::test]
async fn a_fault_at_any_write_of_the_way_back_stays_on_record() {
    let (_, back) = writes().await;
    assert!(back > 20, "{back}");
    let rig = Rig::new();
    let home = rig.state();
    for number in 0..back {
        rig.start(&gaming()).await.unwrap();
        rig.fail(move |at| at == number);
        let done = rig.rooms.restore(&gaming().name).await.unwrap();
        assert_eq!(done.left.len(), usize::from(rig.state() != home), "{number}: {done:?}");
        assert_eq!(rig.record().exists(), rig.state() != home, "{number}");
        rig.heal();
        rig.rooms.recover(&[]).await.unwrap();
        assert_eq!(rig.state(), home, "{number}");
        assert!(!rig.record().exists(), "{number}");
    }
}

#[tokio::test]
async fn a_hostd_that_is_killed_at_any_write_is_followed_by_one_that_undoes_it() {
    let (there, back) = writes().await;
    let rig = Rig::new();
    let home = rig.state();
    for number in 0..there + back {
        *lock(&rig.faults.killed) = Some((number, rig.record(), None));
        rig.fail(move |at| at >= number);
        // What it says no longer reaches anybody.
        let _ = rig.start(&gaming()).await;
        let _ = rig.rooms.restore(&gaming().name).await;
        let killed = lock(&rig.faults.killed).take();
        let record = killed.and_then(|(_, _, record)| record).expect("a write with this number");
        match record {
            Some(text) => {
                std::fs::create_dir_all(rig.record().parent().unwrap()).unwrap();
                std::fs::write(rig.record(), text).unwrap();
            }
            None => drop(std::fs::remove_file(rig.record())),
        }
        rig.heal();
        let done = rig.rooms.recover(&[]).await.unwrap();
        assert_eq!((rig.state(), done), (home.clone(), Settled::default()), "{number}");
        assert!(!rig.record().exists(), "{number}");
    }
}

#[tokio::test]
async fn two_guests_share_the_host() {
    let rig = Rig::new();
    let home = rig.state();
    let (one, two) = (vm("one", 4, 4 * G), vm("two", 4, 2 * G));
    let first = rig.start(&one).await.unwrap().pins.unwrap();
    let second = rig.start(&two).await.unwrap().pins.unwrap();
    assert_eq!(
        (cpus::list(&first.vcpus), cpus::list(&second.vcpus)),
        ("6-7,14-15".into(), "4-5,12-13".into())
    );
    // Four pages were free, and are promised to the first.
    assert_eq!(rig.text(&format!("{POOL}/nr_hugepages")), (4 + 2044 + 1024).to_string());
    assert_eq!(lock(&rig.units)["system.slice"], "0-3,8-11");
    let third = rig.start(&vm("three", 10, G)).await.unwrap_err();
    assert!(third.message.contains("other VMs have processors 4-7,12-15"), "{}", third.message);
    // It has not started: what was made for it goes, and nothing else.
    rig.rooms.restore(&"three".parse().unwrap()).await.unwrap();
    assert_eq!(rig.text(&format!("{POOL}/nr_hugepages")), (4 + 2044 + 1024).to_string());

    rig.rooms.restore(&one.name).await.unwrap();
    assert_eq!(lock(&rig.units)["system.slice"], "0-3,6-11,14-15");
    assert_eq!(lock(&rig.units)["plex.service"], "inactive");
    assert_eq!(
        (rig.text(GOVERNOR), lock(&rig.units)["tank"].clone()),
        ("performance".into(), "paused".into())
    );
    assert_eq!(rig.text("/sys/devices/system/cpu/cpu6/cpufreq/scaling_governor"), "powersave");
    rig.rooms.recover(std::slice::from_ref(&two.name)).await.unwrap();
    assert_eq!(rig.text(GOVERNOR), "performance");
    rig.rooms.recover(&[]).await.unwrap();
    assert_eq!(rig.state(), home);
}

#[tokio::test]
async fn what_somebody_else_has_set_is_left_alone_and_told() {
    let rig = Rig::new();
    rig.start(&gaming()).await.unwrap();
    rig.fake.file(GOVERNOR, "schedutil\n").unwrap();
    lock(&rig.units).insert("tank".into(), "repaired 0B".into());
    // The thread has ended, and its number is another's.
    rig.fake
        .file("/proc/300/stat", "300 (x) S 2 0 0 0 -1 2097152 0 0 0 0 0 1 0 0 20 0 1 0 99 0")
        .unwrap();
    rig.threads.thread(300, [1]);
    let done = rig.rooms.restore(&gaming().name).await.unwrap();
    assert_eq!(done.left, [""; 0]);
    assert_eq!(
        done.notes,
        [
            format!("{GOVERNOR} is `schedutil` meanwhile: left alone"),
            "the scrub of `tank` is `none` meanwhile: left alone".to_owned()
        ]
    );
    assert_eq!(rig.text(GOVERNOR), "schedutil");
    assert_eq!(cpus::list(&rig.threads.get(300).unwrap()), "1");
    assert!(!rig.record().exists());
}

#[tokio::test]
async fn a_service_that_a_person_has_started_again_stays() {
    let rig = Rig::new();
    let home = rig.state();
    lock(&rig.units).insert("irqbalance.service".into(), "active".into());
    let ready = rig.start(&gaming()).await.unwrap();
    assert!(ready.warnings.iter().any(|w| w.contains("irqbalance")), "{:?}", ready.warnings);
    lock(&rig.units).insert("plex.service".into(), "active".into());
    lock(&rig.units).remove("irqbalance.service");
    let done = rig.rooms.recover(&[gaming().name]).await.unwrap();
    assert_eq!(done.notes, ["plex.service is `active` meanwhile: left alone"]);
    assert_eq!(lock(&rig.units)["plex.service"], "active");
    assert_eq!(rig.rooms.restore(&gaming().name).await.unwrap(), Settled::default());
    assert_eq!(rig.state(), home);
}

#[tokio::test]
async fn too_few_pages_are_refused_with_the_numbers_and_given_back() {
    let rig = Rig::new();
    let home = rig.state();
    rig.kernel.findable.store(7000, Ordering::SeqCst);
    let error = rig.rooms.memory_before_launch(&gaming()).await.unwrap_err();
    assert_eq!(
        error.message,
        "`gaming` cannot start: the kernel found 7000 of 8192 pages of 2M in one piece"
    );
    assert!(error.hint.contains("hugepagesz="), "{}", error.hint);
    assert_eq!(rig.state(), home);
    assert!(!rig.record().exists());
    let huge = rig.rooms.memory_before_launch(&vm("huge", 2, 64 * G)).await.unwrap_err();
    assert!(huge.message.contains("short by"), "{}", huge.message);
    assert_eq!(rig.state(), home);
}

#[tokio::test]
async fn a_record_that_is_damaged_is_not_taken_for_none() {
    let rig = Rig::new();
    rig.host.runtime.write("performance/host.json", "{").unwrap();
    let home = rig.state();
    assert!(rig.start(&gaming()).await.is_err());
    let error = rig.rooms.restore(&gaming().name).await.unwrap_err();
    assert!(error.message.contains("is damaged"), "{}", error.message);
    assert_eq!(rig.state(), home);
    assert!(!plan(&rig.host, &gaming(), None).problems.is_empty());
}

#[tokio::test]
async fn the_interrupts_of_the_guest_are_on_its_processors() {
    let rig = Rig::new();
    rig.start(&gaming()).await.unwrap();
    let path = "/proc/irq/77/smp_affinity_list";
    rig.fake.file(path, "0-3,8-11\n").unwrap();
    rig.fake.dir("/proc/irq/77/vfio-msi[0](0000:01:00.0)").unwrap();
    let card: PciAddress = "0000:01:00.0".parse().unwrap();
    assert_eq!(rig.rooms.tend(&gaming().name, &["0000:02:00.0".parse().unwrap()]).await, 0);
    assert_eq!(rig.rooms.tend(&gaming().name, &[card]).await, 1);
    assert_eq!(rig.text(path), "4-7,12-15");
    // Another guest's start does not take them away.
    rig.start(&vm("two", 2, G)).await.unwrap();
    assert_eq!(rig.text(path), "4-7,12-15");
    assert_eq!(rig.rooms.tend(&"none".parse().unwrap(), &[card]).await, 0);
}

#[tokio::test]
async fn a_plan_says_all_and_touches_nothing() {
    let rig = Rig::new();
    let home = rig.state();
    let planned = plan(&rig.host, &gaming(), None);
    insta::assert_snapshot!(planned.words.join("\n"), @r"
    add 8188 pages of 2M to the 4 of the host
    lower the limit of ZFS's cache from 16G to 9.5G (it has 16G)
    guest on 4 whole cores (processors 4-7,12-15), the host keeps 0-3,8-11
    move tasks, kernel threads and interrupts of the host off these processors
    set the governor to `performance`
    pause scrubs that run
    stop plex.service
    stop off.service
    ");
    assert_eq!(planned.problems, [""; 0]);
    let huge = plan(&rig.host, &vm("huge", 64, 64 * G), None);
    assert_eq!(huge.problems.len(), 2, "{:?}", huge.problems);
    let plain = plan(&rig.host, &Vm::plain("plain".parse().unwrap(), Bytes(G)), None);
    assert_eq!(plain, Planned::default());
    assert_eq!((rig.state(), rig.record().exists()), (home, false));
}

#[tokio::test]
async fn a_guest_that_wants_nothing_gets_nothing() {
    let rig = Rig::new();
    let home = rig.state();
    let plain = Vm::plain("plain".parse().unwrap(), Bytes(G));
    assert_eq!(rig.start(&plain).await.unwrap(), Ready::default());
    // Pins alone move nobody else, and are kept from others.
    let pinned = Vm { pinning: Pinning::Auto { leave: 1 }, cpus: 4, ..plain };
    assert!(rig.start(&pinned).await.unwrap().pins.is_some());
    assert_eq!(rig.state(), home);
    let other = rig.start(&vm("other", 4, G)).await.unwrap().pins.unwrap();
    assert_eq!(cpus::list(&other.vcpus), "4-5,12-13");
}

#[tokio::test]
async fn real_threads_are_pinned_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let runner = crate::host::run::RealRunner::default();
    let command = crate::host::Command::new("sleep", ["60"]);
    let child = crate::host::Runner::start(&runner, command, dir.path().join("log")).unwrap();
    let online = RealAffinity.get(child.pid).unwrap();
    let last = *online.last().unwrap();
    let fake = FakeHost::new(dir.path()).host();
    let host = Host { sys: SysRoot::new("/"), ..fake };
    let mut journal = Journal::default();
    let name: Name = "gaming".parse().unwrap();
    let pins = Pins { vcpus: vec![last], emulator: online, ..Pins::default() };
    journal.claims.entry(name.clone()).or_default().pins = Some(pins);
    journal.save(&host).unwrap();
    let rooms = Rooms::new(&host, Arc::new(RealAffinity));
    let threads = Threads { pid: child.pid, vcpus: vec![(0, child.pid)], iothreads: vec![] };
    assert_eq!(rooms.pin_after_launch(&name, &threads).await.unwrap(), [""; 0]);
    assert_eq!(RealAffinity.get(child.pid).unwrap(), Cpus::from([last]));
    // A QEMU that lies moves nobody else.
    let lies = Threads { vcpus: vec![(0, 1)], iothreads: vec![1], ..threads };
    let wrong = rooms.pin_after_launch(&name, &lies).await.unwrap();
    assert_eq!(wrong[0], "virtual processor 0: 1 is no thread of QEMU's");
    let pid = nix::unistd::Pid::from_raw(child.pid.try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    child.ended.await.unwrap();
}

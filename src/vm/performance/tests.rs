//! A host of values: sysfs and procfs that behave as the kernel's, a systemd, a
//! pool that is being scrubbed, kernel threads; and a fault at every write.
#![allow(clippy::disallowed_methods, reason = "part of a fake machine: it reads trees")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::base::Bytes;
use crate::config::{Hugepages, Performance, Pinning};
use crate::host::SysRoot;
use crate::host::affinity::{FakeAffinity, RealAffinity};
use crate::host::cpus::{self, Cpus};
use crate::host::fake::FakeHost;
use crate::host::run::{Exit, Output};
use crate::host::sys::WriteHook;
use crate::host::topology::samples;
use crate::host::units::{Doing, Property, Scope, UnitError};

const G: u64 = 1 << 30;
const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
const GOVERNOR: &str = "/sys/devices/system/cpu/cpu5/cpufreq/scaling_governor";

/// Which writes fail; and what is on record at the moment of one of them.
#[derive(Default)]
struct Faults {
    count: AtomicUsize,
    fails: Mutex<Option<Box<dyn Fn(usize) -> bool + Send>>>,
    /// Number of a write, and the record as it was then.
    killed: Mutex<Option<(usize, PathBuf, Option<Option<String>>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faults {
    fn next(&self) -> io::Result<()> {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        if let Some((at, path, record)) = &mut *lock(&self.killed)
            && *at == number
        {
            *record = Some(std::fs::read_to_string(path).ok());
        }
        let fails = lock(&self.fails).as_ref().is_some_and(|fails| fails(number));
        if fails { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

/// The kernel, as far as it is written to.
struct Kernel {
    faults: Arc<Faults>,
    /// Pages that it finds in one piece at most.
    findable: AtomicUsize,
}

impl Kernel {
    fn number(sys: &SysRoot, path: &str) -> u64 {
        sys.text(path).unwrap().trim().parse().unwrap()
    }

    /// Memory after a change: the cache fills what it may, up to 16 GiB.
    fn recount(sys: &SysRoot, max: u64) {
        let size = max.min(16 * G);
        let stats =
            format!("13 1 0x01\nname type data\nsize 4 {size}\nc_min 4 {G}\nc_max 4 {max}\n");
        std::fs::write(sys.path("/proc/spl/kstat/zfs/arcstats"), stats).unwrap();
        let pages = Self::number(sys, &format!("{POOL}/nr_hugepages"));
        let available = (28 * G - size).saturating_sub(pages << 21) >> 10;
        let text = format!("MemTotal: {} kB\nMemAvailable: {available} kB\n", 32 * G >> 10);
        std::fs::write(sys.path("/proc/meminfo"), text).unwrap();
    }

    fn arc_max(sys: &SysRoot) -> u64 {
        let stats = sys.text("/proc/spl/kstat/zfs/arcstats").unwrap();
        stats.rsplit(' ').next().unwrap().trim().parse().unwrap()
    }
}

impl WriteHook for Kernel {
    fn write(&self, sys: &SysRoot, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let text = path.to_str().unwrap();
        if text.starts_with("/proc/sys/vm/") {
            // Only asks: nothing depends on its answer.
            return Ok(());
        }
        self.faults.next()?;
        if text.starts_with("/proc/irq/0/") {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        if !sys.exists(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut value = String::from_utf8(bytes.to_vec()).unwrap();
        let mut max = Self::arc_max(sys);
        if text.ends_with("nr_hugepages") {
            let most = self.findable.load(Ordering::SeqCst) as u64;
            let pages = value.trim().parse::<u64>().unwrap().min(most);
            value = pages.to_string();
            std::fs::write(sys.path(format!("{POOL}/free_hugepages")), format!("{value}\n"))
                .unwrap();
        }
        if text == memory::ARC_MAX && value.trim() != "0" {
            max = value.trim().parse().unwrap();
        }
        std::fs::write(sys.path(path), format!("{}\n", value.trim()))?;
        Self::recount(sys, max);
        Ok(())
    }
}

/// Threads, with faults.
struct Faulty {
    fake: Arc<FakeAffinity>,
    faults: Arc<Faults>,
}

impl Affinity for Faulty {
    fn get(&self, thread: u32) -> io::Result<Cpus> {
        self.fake.get(thread)
    }

    fn set(&self, thread: u32, cpus: &Cpus) -> io::Result<()> {
        self.faults.next()?;
        self.fake.set(thread, cpus)
    }
}

/// systemd and the pool.
type Units = Arc<Mutex<BTreeMap<String, String>>>;

struct Rig {
    _dir: tempfile::TempDir,
    fake: FakeHost,
    host: Host,
    kernel: Arc<Kernel>,
    faults: Arc<Faults>,
    threads: Arc<FakeAffinity>,
    units: Units,
    rooms: Rooms,
}

/// Everything that could be changed.
type State = (BTreeMap<String, String>, BTreeMap<u32, Cpus>, BTreeMap<String, String>);

fn answer(units: &Units, faults: &Faults, words: &str) -> Option<Result<Output, i32>> {
    let mut units = lock(units);
    let say = |text: &str| {
        Some(Ok(Output { exit: Exit::Code(0), stdout: text.into(), stderr: Vec::new() }))
    };
    let (program, rest) = words.split_once(' ')?;
    let last = words.rsplit(' ').next()?.to_owned();
    match (program, rest.split(' ').next()?) {
        ("zpool", "status") => {
            say(&format!("  pool: tank\n  scan: scrub {} since x\n", units["tank"]))
        }
        ("zpool", "scrub") => {
            if faults.next().is_err() {
                return Some(Err(1));
            }
            let state = if rest.contains("-p") { "paused" } else { "in progress" };
            units.insert(last, state.to_owned());
            say("")
        }
        _ => None,
    }
}

/// systemd, as far as it is asked.
struct Systemd {
    units: Units,
    faults: Arc<Faults>,
}

impl Systemd {
    fn set(&self, unit: &str, state: String) -> Doing<'_, ()> {
        let done = self.faults.next().map_err(|error| UnitError::Absent(error.to_string()));
        if done.is_ok() {
            lock(&self.units).insert(unit.to_owned(), state);
        }
        Box::pin(std::future::ready(done))
    }

    fn get(&self, unit: &str) -> String {
        lock(&self.units).get(unit).cloned().unwrap_or_default()
    }
}

impl crate::host::Units for Systemd {
    fn scope<'a>(&'a self, _: &'a Scope, _: &'a [u32]) -> Doing<'a, ()> {
        Box::pin(std::future::ready(Err(UnitError::Absent("not asked here".to_owned()))))
    }

    fn set_properties<'a>(&'a self, unit: &'a str, all: &'a [Property]) -> Doing<'a, ()> {
        let [Property::AllowedCpus(cpus)] = all else { panic!("{all:?}") };
        self.set(unit, cpus::list(cpus))
    }

    fn allowed_cpus<'a>(&'a self, unit: &'a str) -> Doing<'a, Vec<u32>> {
        let cpus = cpus::parse_list(&self.get(unit)).unwrap();
        Box::pin(std::future::ready(Ok(cpus.into_iter().collect())))
    }

    fn is_active<'a>(&'a self, unit: &'a str) -> Doing<'a, bool> {
        Box::pin(std::future::ready(Ok(self.get(unit) == "active")))
    }

    fn start_unit<'a>(&'a self, unit: &'a str) -> Doing<'a, ()> {
        self.set(unit, "active".to_owned())
    }

    fn stop_unit<'a>(&'a self, unit: &'a str) -> Doing<'a, ()> {
        self.set(unit, "inactive".to_owned())
    }
}

impl Rig {
    fn new() -> Self {
        // Where `/run` is too: the record is written often, and durably.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let fake = FakeHost::new(dir.path());
        samples::lay(&fake, &samples::intel_8c16t());
        let faults = Arc::new(Faults::default());
        let kernel = Arc::new(Kernel { faults: Arc::clone(&faults), findable: 20_000.into() });
        let threads = Arc::new(FakeAffinity::default());
        Self::fill(&fake, &threads);
        let mut host = fake.host();
        Kernel::recount(&host.sys, 16 * G);
        let units: Units = Arc::default();
        for (unit, state) in [("plex.service", "active"), ("tank", "in progress")] {
            lock(&units).insert(unit.to_owned(), state.to_owned());
        }
        for slice in ["init.scope", "system.slice", "user.slice"] {
            lock(&units).insert(slice.to_owned(), String::new());
        }
        let (known, all) = (Arc::clone(&units), Arc::clone(&faults));
        host.units = Arc::new(Systemd { units: known, faults: all });
        host.sys = host.sys.with_hook(Arc::clone(&kernel) as Arc<dyn WriteHook>);
        let (known, all) = (Arc::clone(&units), Arc::clone(&faults));
        fake.runner.on(move |command| {
            let words = command.to_string().replace('\'', "");
            answer(&known, &all, &words).map(|said| {
                Ok(said.unwrap_or_else(|code| Output {
                    exit: Exit::Code(code),
                    stdout: Vec::new(),
                    stderr: b"no".to_vec(),
                }))
            })
        });
        let affinity = Faulty { fake: Arc::clone(&threads), faults: Arc::clone(&faults) };
        let rooms = Rooms::new(&host, Arc::new(affinity)).at_once();
        Self { _dir: dir, fake, host, kernel, faults, threads, units, rooms }
    }

    fn fill(fake: &FakeHost, threads: &FakeAffinity) {
        let file = |path: &str, text: &str| fake.file(path, format!("{text}\n")).unwrap();
        for cpu in 0..16 {
            let folder = format!("/sys/devices/system/cpu/cpu{cpu}/cpufreq");
            file(&format!("{folder}/scaling_governor"), "powersave");
            file(&format!("{folder}/scaling_available_governors"), "performance powersave");
        }
        for slice in ["init.scope", "system.slice", "user.slice"] {
            fake.dir(&format!("/sys/fs/cgroup/{slice}")).unwrap();
        }
        file("/sys/devices/virtual/workqueue/cpumask", "ffff");
        file("/sys/devices/virtual/workqueue/writeback/cpumask", "ffff");
        file("/proc/irq/default_smp_affinity", "ffff");
        for (irq, list, who) in
            [(0, "0-15", "timer"), (24, "5", "nvme0q1"), (30, "0-15", "eth0"), (31, "0-1", "xhci")]
        {
            file(&format!("/proc/irq/{irq}/smp_affinity_list"), list);
            fake.dir(&format!("/proc/irq/{irq}/{who}")).unwrap();
        }
        // Kernel threads that move, ones that do not, and a task of a person.
        let kernel = 0x0020_0000u64;
        for (pid, name, flags) in [
            (2, "kthreadd", kernel),
            (17, "ksoftirqd/5", kernel | 0x0400_0000),
            (18, "ksoftirqd/6", kernel | 0x0400_0000),
            (19, "ksoftirqd/0", kernel | 0x0400_0000),
            (300, "z_wr_iss", kernel),
            (301, "txg_sync", kernel),
            (900, "bash", 0),
        ] {
            let stat = format!("{pid} ({name}) S 2 0 0 0 -1 {flags} 0 0 0 0 0 1 0 0 20 0 1 0 42 0");
            file(&format!("/proc/{pid}/stat"), &stat);
            threads.thread(pid, 0..16);
        }
        threads.thread(17, [5]);
        threads.thread(18, [6]);
        threads.thread(19, [0]);
        file(&format!("{POOL}/nr_hugepages"), "4");
        file(&format!("{POOL}/free_hugepages"), "4");
        file(&format!("{POOL}/resv_hugepages"), "0");
        file(memory::ARC_MAX, "0");
        file("/proc/spl/kstat/zfs/arcstats", "");
        file("/proc/meminfo", "");
        file("/proc/sys/vm/drop_caches", "0");
        file("/proc/sys/vm/compact_memory", "");
    }

    fn state(&self) -> State {
        let mut files = BTreeMap::new();
        let mut folders = vec![PathBuf::from("/sys"), PathBuf::from("/proc")];
        while let Some(folder) = folders.pop() {
            for name in self.host.sys.list(&folder).unwrap() {
                let path = folder.join(name);
                match self.host.sys.text(&path) {
                    Ok(text) => drop(files.insert(path.display().to_string(), text)),
                    Err(_) => folders.push(path),
                }
            }
        }
        (files, self.threads.all(), lock(&self.units).clone())
    }

    fn record(&self) -> PathBuf {
        self.host.runtime.path("performance/host.json")
    }

    async fn start(&self, vm: &Vm) -> Result<Ready, Refusal> {
        self.rooms.memory_before_launch(vm).await?;
        self.rooms.profile_before_launch(vm, None).await
    }

    fn fail(&self, fails: impl Fn(usize) -> bool + Send + 'static) {
        self.faults.count.store(0, Ordering::SeqCst);
        *lock(&self.faults.fails) = Some(Box::new(fails));
    }

    fn heal(&self) -> usize {
        *lock(&self.faults.fails) = None;
        self.faults.count.swap(0, Ordering::SeqCst)
    }

    fn text(&self, path: &str) -> String {
        self.host.sys.text(path).unwrap()
    }
}

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

//! A host of values: sysfs and procfs that behave as the kernel's, a systemd, a
//! pool that is being scrubbed, kernel threads; and a fault at any write.
#![allow(clippy::disallowed_methods, reason = "part of a fake machine: it reads trees")]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::super::*;
use crate::host::SysRoot;
use crate::host::affinity::FakeAffinity;
use crate::host::cpus::{self, Cpus};
use crate::host::fake::FakeHost;
use crate::host::run::{Exit, Output};
use crate::host::sys::WriteHook;
use crate::host::topology::samples;
use crate::host::units::{Doing, Property, Scope, UnitError};

pub const G: u64 = 1 << 30;
pub const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";
pub const GOVERNOR: &str = "/sys/devices/system/cpu/cpu5/cpufreq/scaling_governor";

type Fails = Box<dyn Fn(usize) -> bool + Send>;
/// Number of a write, and the record as it was then.
type Killed = (usize, PathBuf, Option<Option<String>>);

/// Which writes fail; and what is on record at the moment of one of them.
#[derive(Default)]
pub struct Faults {
    pub count: AtomicUsize,
    fails: Mutex<Option<Fails>>,
    pub killed: Mutex<Option<Killed>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
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
pub struct Kernel {
    faults: Arc<Faults>,
    /// Pages that it finds in one piece at most.
    pub findable: AtomicUsize,
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
        let text = format!("MemTotal: {} kB\nMemAvailable: {available} kB\n", (32 * G) >> 10);
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
pub type Units = Arc<Mutex<BTreeMap<String, String>>>;

pub struct Rig {
    _dir: tempfile::TempDir,
    pub fake: FakeHost,
    pub host: Host,
    pub kernel: Arc<Kernel>,
    pub faults: Arc<Faults>,
    pub threads: Arc<FakeAffinity>,
    pub units: Units,
    pub rooms: Rooms,
}

/// Everything that could be changed.
pub type State = (BTreeMap<String, String>, BTreeMap<u32, Cpus>, BTreeMap<String, String>);

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
    pub fn new() -> Self {
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

    pub fn state(&self) -> State {
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

    pub fn record(&self) -> PathBuf {
        self.host.runtime.path("performance/host.json")
    }

    pub async fn start(&self, vm: &Vm) -> Result<Ready, Refusal> {
        self.rooms.memory_before_launch(vm).await?;
        self.rooms.profile_before_launch(vm, None).await
    }

    pub fn fail(&self, fails: impl Fn(usize) -> bool + Send + 'static) {
        self.faults.count.store(0, Ordering::SeqCst);
        *lock(&self.faults.fails) = Some(Box::new(fails));
    }

    pub fn heal(&self) -> usize {
        *lock(&self.faults.fails) = None;
        self.faults.count.swap(0, Ordering::SeqCst)
    }

    pub fn text(&self, path: &str) -> String {
        self.host.sys.text(path).unwrap()
    }
}

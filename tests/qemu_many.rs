//! Many starts and stops, many VMs, and a hostd that is killed at every step,
//! on the real QEMU of this machine, in software: what is left behind is
//! nothing, and nobody suffers for another.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests look at what is really there, and fail loudly"
)]

mod qemu_common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hostd::ask::view::{VmState, VmView};
use hostd::base::Bytes;
use hostd::config::{
    AfterDeadline, Agent, Disk, Display, Firmware, Hook, Hooks, Network, OnCrash, Stop, Viewers, Vm,
};
use hostd::host::users;
use hostd::vm::devices::FakeDevices;
use hostd::vm::supervisor::{Deps, VmHandle, spawn};
use nix::sys::signal::{Signal, kill};
use qemu_common::alone::{Own, alone, run};
use qemu_common::{Bench, LONG, at_rest, pid, until, vm};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

/// As much of the machine for ourselves as we may have.
fn own() -> Own {
    if users::is_root() { Own::Namespaces } else { Own::Process }
}

/// A machine with everything that a start lays out and a stop takes away; as
/// root with a user, a bridge and shared memory too.
fn everything(bench: &Bench) -> Vm {
    let hook = |name: &str| Hook {
        run: vec!["touch".into(), bench.path(name).to_str().unwrap().to_owned()],
        deadline: LONG,
    };
    let disk = bench.path("disk.img");
    if !disk.exists() {
        std::fs::File::create(&disk).unwrap().set_len(1 << 20).unwrap();
    }
    let root = users::is_root();
    Vm {
        memory: Bytes(32 << 20),
        disks: vec![Disk::plain(disk, 1)],
        serial: true,
        tpm: Path::new("/usr/bin/swtpm").exists(),
        agent: Agent { channel: true, ..Agent::default() },
        display: Display::Vnc(Viewers::Socket),
        hooks: Hooks { before_start: vec![hook("before")], after_stop: vec![hook("after")] },
        stop: Stop { deadline: Duration::from_millis(50), then: AfterDeadline::Quit },
        network: if root { Network::Bridge("br0".into()) } else { Network::User },
        looking_glass: root.then_some(Bytes(2 << 20)),
        user: root.then(|| "nobody".into()),
        ..vm()
    }
}

/// What [`everything`] needs of the machine.
fn furnish(bench: &Bench) {
    if !users::is_root() {
        return;
    }
    std::fs::set_permissions(bench.dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    run("ip", &["link", "add", "br0", "type", "bridge"]);
    // Of our own network.
    run("mount", &["-t", "sysfs", "sys", "/sys"]);
    run("mount", &["-t", "tmpfs", "shm", "/dev/shm"]);
    // For everybody, as udev makes it (50-udev-default.rules).
    run("mount", &["-t", "tmpfs", "net", "/dev/net"]);
    run("mknod", &["-m", "666", "/dev/net/tun", "c", "10", "200"]);
}

/// Nothing is left of [`everything`].
fn assert_nothing(bench: &Bench) {
    bench.assert_clean();
    let disk = std::fs::metadata(bench.path("disk.img")).unwrap();
    assert_eq!(disk.uid(), nix::unistd::getuid().as_raw(), "the disk has its owner again");
    if users::is_root() {
        let shared: Vec<_> = std::fs::read_dir("/dev/shm").unwrap().flatten().collect();
        assert!(shared.is_empty(), "{shared:?}");
        let cards = std::fs::read_to_string("/proc/self/net/dev").unwrap();
        assert!(cards.contains("br0:") && !cards.contains("hd-"), "a tap is left:\n{cards}");
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            all.append(&mut files(&entry.path()));
        }
        all.insert(entry.path());
    }
    all
}

/// What this process has open.
fn open() -> Vec<String> {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let mut fds: Vec<_> = fds
        .filter_map(|fd| Some(std::fs::read_link(fd.path()).ok()?.display().to_string()))
        // The folder that is being read.
        .filter(|link| !(link.starts_with("/proc/") && link.ends_with("/fd")))
        // Only how many there are of them is the same.
        .map(|link| link.split(":[").next().unwrap_or_default().to_owned())
        .collect();
    fds.sort();
    fds
}

/// The children of this process, dead ones too.
fn children() -> String {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")));
    lists.map(Result::unwrap_or_default).collect()
}

#[test]
fn fifty_starts_and_stops_leave_nothing_behind() {
    if !alone("fifty_starts_and_stops_leave_nothing_behind", own()) {
        return;
    }
    let bench = Bench::new();
    furnish(&bench);
    let runtime = Runtime::new().unwrap();
    let round = |handle: &VmHandle| {
        runtime.block_on(async {
            let done = handle.start().await.unwrap();
            assert!(done.changed, "{done:?}");
            let done = handle.stop(false).await.unwrap();
            assert!(done.changed, "{done:?}");
        });
    };
    let handle = runtime.block_on(async { bench.supervise(everything(&bench)) });
    // The first ones lay out what stays.
    round(&handle);
    round(&handle);
    assert_nothing(&bench);
    let look = || (open(), children(), files(&bench.path("run")), files(&bench.path("lib")));
    let before = look();
    let begun = Instant::now();
    for _ in 0..50 {
        round(&handle);
    }
    println!("fifty starts and stops: {:?}", begun.elapsed());
    // What was closed may be closing still.
    while look() != before && begun.elapsed() < 4 * LONG {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(look(), before);
    assert_nothing(&bench);
}

/// Set for a hostd that is to be killed: its bench, and how many changes it is
/// let tell before.
const VICTIM: &str = "HOSTD_TEST_VICTIM";

/// A hostd that starts and stops a VM, and stands still after so many changes.
fn victim(bench: &Path, told: usize) {
    let bench = Bench::at(bench);
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        // Nobody takes more than so many.
        let (out, mut changes) = mpsc::channel(1);
        let handle = spawn(Deps::new(bench.host(), bench.devices.clone(), out), everything(&bench));
        let asking = tokio::spawn(async move {
            handle.start().await.unwrap();
            // Time to be killed while it runs.
            tokio::time::sleep(Duration::from_millis(300)).await;
            handle.stop(false).await.unwrap();
        });
        for _ in 0..told {
            tokio::time::timeout(LONG, changes.recv()).await.unwrap();
        }
        // Long enough to come to where it stands; where that is, is not asked.
        let ended = tokio::time::timeout(Duration::from_millis(100), asking).await;
        println!(
            "\n{}",
            if ended.is_ok_and(|asked| asked.is_ok()) { "finished" } else { "stands" }
        );
        std::future::pending::<()>().await;
    });
}

#[test]
fn hostd_killed_at_every_step_leaves_nothing_that_the_next_one_does_not_undo() {
    let test = "hostd_killed_at_every_step_leaves_nothing_that_the_next_one_does_not_undo";
    if let Ok(victim_of) = std::env::var(VICTIM) {
        let (told, bench) = victim_of.split_once(' ').unwrap();
        return victim(Path::new(bench), told.parse().unwrap());
    }
    if !alone(test, own()) {
        return;
    }
    let bench = Bench::new();
    furnish(&bench);
    let mut states = Vec::new();
    for told in 0.. {
        let mut hostd = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(VICTIM, format!("{told} {}", bench.dir.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(hostd.stdout.take().unwrap());
        let said = said.lines().map_while(Result::ok).find(|l| l == "stands" || l == "finished");
        hostd.kill().unwrap();
        hostd.wait().unwrap();
        let said = said.unwrap_or_else(|| panic!("hostd ended by itself after {told} changes"));
        Runtime::new().unwrap().block_on(async {
            let handle = bench.supervise(everything(&bench));
            let view = at_rest(&handle).await;
            states.push((told, view.state));
            match view.state {
                VmState::Running => {
                    let done = handle.stop(false).await.unwrap();
                    assert!(done.warnings.is_empty(), "{done:?}");
                }
                VmState::Off | VmState::Failed => {}
                VmState::Preparing
                | VmState::Starting
                | VmState::Paused
                | VmState::Stopping
                | VmState::Crashed => panic!("after {told} changes: {view:?}"),
            }
            assert_nothing(&bench);
            // And it is as good as new.
            if told % 5 == 0 {
                handle.start().await.unwrap();
                handle.kill().await.unwrap();
                assert_nothing(&bench);
            }
        });
        if said == "finished" {
            break;
        }
    }
    println!("{states:?}");
    assert!(states.len() > 15, "only {} changes were told", states.len());
    for state in [VmState::Running, VmState::Off, VmState::Failed] {
        assert!(states.iter().any(|(_, seen)| *seen == state), "never {state:?}");
    }
}

/// How the VMs are, as they were told.
#[derive(Default)]
struct Watched {
    views: BTreeMap<String, VmView>,
    /// The most that were at it at one time.
    starting: usize,
    changes: BTreeMap<String, usize>,
}

impl Watched {
    fn take(&mut self, view: VmView) {
        let name = view.name.to_string();
        *self.changes.entry(name.clone()).or_default() += 1;
        self.views.insert(name, view);
        let at_it = self.views.values().filter(|view| {
            matches!(view.state, VmState::Preparing | VmState::Starting)
                && !view.step.is_empty()
                && !view.step.starts_with("waiting for its turn")
        });
        self.starting = self.starting.max(at_it.count());
    }
}

/// Starts at one time, as [`Deps::new`] has it.
const STARTS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_and_one_that_crashes_on_and_on() {
    const CRASHES: u32 = 5;
    let bench = Bench::new();
    let (out, mut told) = mpsc::channel(16);
    let watched = Arc::new(Mutex::new(Watched::default()));
    let into = watched.clone();
    tokio::spawn(async move {
        while let Some(view) = told.recv().await {
            into.lock().unwrap().take(view);
        }
    });
    let deps = Deps::new(bench.host(), Arc::<FakeDevices>::default(), out);
    let tiny = |number: usize| Vm {
        name: format!("tiny{number}").parse().unwrap(),
        memory: Bytes(16 << 20),
        firmware: Firmware::Seabios { log: false },
        stop: Stop { deadline: Duration::from_millis(50), then: AfterDeadline::Quit },
        on_crash: match number {
            0 => OnCrash::Restart { times: CRASHES, delay: Duration::from_millis(10) },
            _ => OnCrash::Stay,
        },
        ..vm()
    };
    let handles: Vec<_> = (0..20).map(|number| spawn(deps.clone(), tiny(number))).collect();
    let begun = Instant::now();
    let starts: Vec<_> = handles
        .iter()
        .cloned()
        .map(|handle| tokio::spawn(async move { handle.start().await }))
        .collect();
    for start in starts {
        assert!(start.await.unwrap().unwrap().changed);
    }
    println!("twenty started: {:?}", begun.elapsed());
    assert_eq!(bench.qemus().len(), 20);
    let most = watched.lock().unwrap().starting;
    assert!((2..=STARTS).contains(&most), "{most} were starting at one time");

    let [looping, others @ ..] = &handles[..] else { panic!("there are twenty") };
    let how = || others.iter().map(VmHandle::view).collect::<Vec<_>>();
    let before = how();
    let told = |watched: &Mutex<Watched>| {
        let mut changes = watched.lock().unwrap().changes.clone();
        changes.remove("tiny0");
        changes
    };
    let changes = told(&watched);
    for crash in 1..=CRASHES {
        let last = pid(looping);
        kill(last, Signal::SIGKILL).unwrap();
        let back = |view: &VmView| {
            view.state == VmState::Running && view.pid != u32::try_from(last.as_raw()).ok()
        };
        let view = until(looping, back).await;
        assert_eq!(view.reason, "started again, after a crash", "crash {crash}");
    }
    kill(pid(looping), Signal::SIGKILL).unwrap();
    let view = until(looping, |view| view.reason.contains("it stays down")).await;
    assert_eq!(view.state, VmState::Crashed);
    assert_eq!(how(), before, "the others do not notice");
    assert_eq!(told(&watched), changes);
    assert_eq!(bench.qemus().len(), 19);

    let stops: Vec<_> = others
        .iter()
        .cloned()
        .map(|handle| tokio::spawn(async move { handle.stop(false).await }))
        .collect();
    for stop in stops {
        assert!(stop.await.unwrap().unwrap().changed);
    }
    assert!(how().iter().all(|view| view.state == VmState::Off));
    assert_eq!(bench.qemus(), [0; 0]);
    for handle in &handles {
        assert_eq!(bench.left(handle.vm().name.as_str()), [""; 0]);
    }
}

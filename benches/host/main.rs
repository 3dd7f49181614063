//! What it costs to look at the machine: one round on a machine of files with 24
//! disks, 20 interfaces and 40 sensors, and a minute of whole programs on this
//! machine, both looking every five seconds.
//!
//!   cargo bench --bench host            needs collectd-core and libriemann-client0
//!   SPAN=300 cargo bench --bench host   for so many seconds
//!
//! Side by side run:
//!
//! - `hostd`: the daemon, which finds no services and is asked by a Riemann client
//!   every five seconds for every event, so that each one leaves it, too
//! - `defaults`: the daemon with an empty file, asked by nobody
//! - `collectd`: cpu, load, memory, swap, df, disk, interface, uptime, sensors,
//!   sent by `write_riemann` over UDP
//!
//! Times are those of the processor, children included, as the kernel counts them
//! for the process; so a busy machine makes them a little larger, not another's.
//! An event is one that has left: a service at a time.
#![allow(clippy::disallowed_methods, clippy::expect_used, reason = "a benchmark starts its peers")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a benchmark"
)]

mod peers;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostd::config::Health;
use hostd::health::Observer;
use hostd::host::Host;

use peers::{Collectd, Daemon, Sink};

const INTERVAL: Duration = Duration::from_secs(5);
/// Rounds on the machine of files.
const ROUNDS: u32 = 200;

fn main() {
    let dir = tempfile::tempdir().expect("a folder");
    many(dir.path());
    let text = std::env::var("SPAN").ok();
    let seconds = text.and_then(|text| text.parse().ok()).unwrap_or(60);
    beside(dir.path(), Duration::from_secs(seconds));
}

/// A round on a machine that has much.
fn many(dir: &Path) {
    let root = dir.join("root");
    tree(&root);
    let host = Host::real(root, dir.join("lib"), dir.join("run"));
    let mut observer = Observer::new(host, Health::default());
    let first = processor(rustix::time::ClockId::ThreadCPUTime);
    observer.round(None);
    let first = processor(rustix::time::ClockId::ThreadCPUTime) - first;
    let (from, read) = (processor(rustix::time::ClockId::ThreadCPUTime), reads());
    let mut readings = 0;
    for _ in 0..ROUNDS {
        readings = observer.round(None).readings.len();
    }
    let took = processor(rustix::time::ClockId::ThreadCPUTime) - from;
    println!("a machine of files with 24 disks, 20 interfaces and 40 sensors");
    println!("a round, µs of the processor       {:>8.0}", took / f64::from(ROUNDS) * 1e6);
    println!("  the first, which lists all       {:>8.0}", first * 1e6);
    println!("  reads (system calls)             {:>8}", (reads() - read) / u64::from(ROUNDS));
    println!("  readings                         {readings:>8}");
}

/// A machine as files; links are not needed.
fn tree(root: &Path) {
    let file = |path: String, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    };
    let mut disks = String::new();
    for index in 0..24 {
        file(format!("sys/block/sd{index}/device/model"), "disk\n");
        disks +=
            &format!("   8  {index} sd{index} 100 5 800 50 10 7 80 20 0 1000 70 0 0 0 0 0 0\n");
    }
    let mut net = "Inter-| Receive\n face |bytes\n".to_owned();
    for index in 0..20 {
        net += &format!("  eth{index}: 1 2 0 0 0 0 0 0 9 10 0 0 0 0 0 0\n");
        file(format!("sys/class/net/eth{index}/operstate"), "up\n");
        file(format!("sys/class/net/eth{index}/flags"), "0x1003\n");
        file(format!("sys/class/net/eth{index}/speed"), "1000\n");
    }
    for chip in 0..4 {
        file(format!("sys/class/hwmon/hwmon{chip}/name"), &format!("chip{chip}\n"));
        for sensor in 1..=10 {
            let path = format!("sys/class/hwmon/hwmon{chip}/temp{sensor}");
            file(format!("{path}_input"), "41000\n");
            file(format!("{path}_label"), &format!("Core {sensor}\n"));
            file(format!("{path}_crit"), "100000\n");
        }
    }
    file("proc/diskstats".into(), &disks);
    file("proc/net/dev".into(), &net);
    // The rest as this machine has it.
    let rest = [
        "stat",
        "loadavg",
        "meminfo",
        "uptime",
        "vmstat",
        "sys/fs/file-nr",
        "sys/kernel/osrelease",
        "pressure/cpu",
        "pressure/memory",
        "pressure/io",
    ];
    for name in rest {
        if let Ok(text) = fs::read_to_string(format!("/proc/{name}")) {
            file(format!("proc/{name}"), &text);
        }
    }
}

/// Whole programs on this machine, at the same time.
fn beside(dir: &Path, span: Duration) {
    let sink = Arc::new(Sink::default());
    let collectd = Collectd::start(dir, &sink);
    let hostd = Daemon::start(&dir.join("hostd"), "host: {discover-services: false}\n");
    let usual = Daemon::start(&dir.join("usual"), "");
    // What is done once at the start is not what a minute costs.
    std::thread::sleep(3 * INTERVAL);
    let all = || {
        let peer = collectd.as_ref().map_or(f64::NAN, |peer| peer.0.used());
        [hostd.process.used(), usual.process.used(), peer]
    };
    let (from, before, sent) = (Instant::now(), all(), sink.count());
    let mut left = HashSet::new();
    while from.elapsed() < span {
        std::thread::sleep(INTERVAL);
        let events = hostd.events().into_iter();
        // Others may have sent theirs to it; these carry its tag.
        left.extend(events.map(|event| (event.service, event.time)));
    }
    let minutes = from.elapsed().as_secs_f64() / 60.0;
    let after = all();
    let used: Vec<f64> =
        after.iter().zip(before).map(|(after, before)| (after - before) * 1e3 / minutes).collect();
    let &[ours, usual_used, theirs] = used.as_slice() else { return };
    let events = left.len() as f64 / minutes;
    let mut sent = (sink.count() - sent) as f64 / minutes;
    let alive = collectd.as_ref().is_some_and(|peer| peer.0.is_alive());
    if !alive {
        sent = f64::NAN;
    }
    println!("this machine, every 5 s              hostd  collectd     ratio");
    row("processor, ms a minute", ours, if alive { theirs } else { f64::NAN });
    row("events a minute", events, sent);
    row("processor, µs an event", ours / events * 1e3, theirs / sent * 1e3);
    let memory = collectd.as_ref().map_or(f64::NAN, |peer| peer.0.resident());
    row("resident, MiB", hostd.process.resident(), memory);
    println!("hostd with defaults, an empty file");
    println!("defaults, percent of a core       {:>9.2}", usual_used / 600.0);
    println!("defaults, resident, MiB           {:>9.1}", usual.process.resident());
    if !alive {
        let why = if collectd.is_some() { "it has died" } else { "it is not installed" };
        println!("collectd was not measured: {why}");
    }
}

fn row(what: &str, ours: f64, theirs: f64) {
    if theirs.is_nan() {
        println!("{what:<33} {ours:>9.1}         -");
    } else {
        println!("{what:<33} {ours:>9.1} {theirs:>9.1}  {:>8.2}", ours / theirs);
    }
}

/// Seconds.
fn processor(clock: rustix::time::ClockId) -> f64 {
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

/// `read` and its kin, of this process.
fn reads() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("syscr: "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

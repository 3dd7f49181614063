//! What it costs to look at the machine: one round on a machine of files with 24
//! disks, 20 interfaces and 40 sensors, and a minute on this machine beside
//! collectd measuring the same set, both every five seconds.
//!
//!   cargo bench --bench host             needs collectd-core and libriemann-client0
//!   SECONDS=300 cargo bench --bench host
//!
//! Ours are the rounds with what becomes of them, snapshot, events and index;
//! collectd's is all of collectd, sending to a Riemann server that only says yes.
//! Times are those of the processor.
#![allow(clippy::disallowed_methods, clippy::expect_used, reason = "a benchmark starts its peers")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a benchmark"
)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hostd::base::Timestamp;
use hostd::config::Health;
use hostd::health::Observer;
use hostd::host::Host;
use hostd::host::clock::{Clock as _, RealClock};
use hostd::riemann::index::{Index, Limits};
use hostd::riemann::wire;
use hostd::state::{Fact, Snapshot};
use prost::Message as _;

const INTERVAL: Duration = Duration::from_secs(5);
/// Rounds on the machine of files.
const ROUNDS: u32 = 200;

fn main() {
    let dir = tempfile::tempdir().expect("a folder");
    many(dir.path());
    let text = std::env::var("SECONDS").ok();
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

/// Both on this machine, at the same time.
fn beside(dir: &Path, span: Duration) {
    let sink = Arc::new(Sink::default());
    let peer = Collectd::start(dir, &sink);
    let clock = Arc::new(RealClock);
    let index = Index::new(Limits::default(), Arc::clone(&clock) as _);
    let host = Host::real("/".into(), dir.join("lib"), dir.join("run"));
    let mut observer = Observer::new(host, Health::default());
    let mut snapshot = Snapshot::new("nas".into(), Timestamp::from_secs(1), 10.0, false);
    observer.round(None);
    // Both have begun.
    std::thread::sleep(INTERVAL);
    let all = || processor(rustix::time::ClockId::ProcessCPUTime) - sink.seconds();
    let (ours, theirs) = (all(), peer.as_ref().map_or(f64::NAN, Collectd::seconds));
    let (from, mut events, sent) = (Instant::now(), 0, sink.events.load(Ordering::Relaxed));
    while from.elapsed() < span {
        let told = snapshot.apply(Fact::Machine(observer.round(None)), clock.now());
        events += told.len();
        index.apply_own(told);
        std::thread::sleep(INTERVAL);
    }
    let minutes = from.elapsed().as_secs_f64() / 60.0;
    let ours = (all() - ours) * 1e3 / minutes;
    let theirs = (peer.as_ref().map_or(f64::NAN, Collectd::seconds) - theirs) * 1e3 / minutes;
    let sent = (sink.events.load(Ordering::Relaxed) - sent) as f64 / minutes;
    let events = events as f64 / minutes;
    println!("this machine, every 5 s              hostd  collectd     ratio");
    row("processor, ms a minute", ours, theirs);
    row("events a minute", events, sent);
    row("processor, µs an event", ours / events * 1e3, theirs / sent * 1e3);
    let memory = peer.as_ref().map_or(f64::NAN, |peer| resident(peer.0.id()));
    row("resident, MiB", resident(std::process::id()), memory);
    if peer.is_none() {
        println!("collectd was not measured: it or its write_riemann is not installed");
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

/// MiB.
fn resident(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// A Riemann server that takes everything.
#[derive(Default)]
struct Sink {
    events: AtomicU64,
    nanos: AtomicU64,
}

impl Sink {
    fn seconds(&self) -> f64 {
        self.nanos.load(Ordering::Relaxed) as f64 / 1e9
    }

    fn serve(&self, mut from: TcpStream) -> Option<()> {
        let yes = wire::framed(&wire::answer([]), 1 << 10)?;
        loop {
            let mut length = [0; 4];
            from.read_exact(&mut length).ok()?;
            let mut message = vec![0; u32::from_be_bytes(length).min(1 << 24) as usize];
            from.read_exact(&mut message).ok()?;
            let events = wire::Msg::decode(message.as_slice()).ok()?.events.len();
            self.events.fetch_add(events as u64, Ordering::Relaxed);
            from.write_all(&yes).ok()?;
            let used = processor(rustix::time::ClockId::ThreadCPUTime);
            self.nanos.store((used * 1e9) as u64, Ordering::Relaxed);
        }
    }
}

/// In the foreground, with what we measure too.
struct Collectd(Child);

impl Collectd {
    fn start(dir: &Path, sink: &Arc<Sink>) -> Option<Self> {
        let plugins = Path::new("/usr/lib/collectd");
        if !plugins.join("write_riemann.so").exists() {
            return None;
        }
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = server.local_addr().expect("it is bound").port();
        let sink = Arc::clone(sink);
        std::thread::spawn(move || {
            while let Ok((client, _)) = server.accept() {
                sink.serve(client);
            }
        });
        let all = ["cpu", "load", "memory", "swap", "df", "disk", "interface", "uptime", "sensors"];
        let loads: String =
            all.iter().chain(&["write_riemann"]).map(|p| format!("LoadPlugin {p}\n")).collect();
        let config = format!(
            "Interval 5\nBaseDir \"{0}\"\nPIDFile \"{0}/collectd.pid\"\nPluginDir \"{1}\"\n\
             TypesDB \"/usr/share/collectd/types.db\"\nFQDNLookup false\n{loads}\
             <Plugin cpu>\nReportByCpu false\nValuesPercentage true\n</Plugin>\n\
             <Plugin df>\nValuesPercentage true\nReportInodes true\n\
             FSType ext4\nFSType xfs\nFSType btrfs\nFSType zfs\nFSType vfat\n</Plugin>\n\
             <Plugin disk>\nDisk \"/^(loop|ram|zram)/\"\nIgnoreSelected true\n</Plugin>\n\
             <Plugin interface>\nInterface \"lo\"\nIgnoreSelected true\n</Plugin>\n\
             <Plugin write_riemann>\n<Node \"sink\">\nHost \"127.0.0.1\"\nPort \"{port}\"\n\
             Protocol TCP\nBatch true\nBatchMaxSize 8192\nBatchFlushTimeout 5\n</Node>\n</Plugin>\n",
            dir.display(),
            plugins.display()
        );
        let file = dir.join("collectd.conf");
        fs::write(&file, config).expect("a file");
        let mut command = Command::new("collectd");
        command.args(["-f", "-C"]).arg(file).stdin(Stdio::null());
        Some(Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?))
    }

    /// Of the processor.
    fn seconds(&self) -> f64 {
        // Its threads live as long as it does; ticks would be too coarse.
        let tasks = format!("/proc/{}/task", self.0.id());
        let Ok(tasks) = fs::read_dir(tasks) else { return f64::NAN };
        let nanos = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        });
        nanos.sum::<f64>() / 1e9
    }
}

impl Drop for Collectd {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

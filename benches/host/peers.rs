//! The programs that are measured, and the server that one of them sends to.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hostd::base::Event;
use hostd::host::dial::RealDial;
use hostd::riemann::{Client, wire};
use prost::Message as _;

/// A second, in `/proc/PID/stat` on every architecture we know.
const TICKS: f64 = 100.0;
const DEADLINE: Duration = Duration::from_secs(20);

/// A program that is ended with us.
pub struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Option<Self> {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.spawn().ok().map(Self)
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).unwrap_or_default()
    }

    /// Seconds of the processor, of all its threads, also those that are gone, and
    /// of children that have ended.
    pub fn used(&self) -> f64 {
        let stat = self.file("stat");
        // After the name, which may hold anything, the third field is the first.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let ticks = after.split_whitespace().skip(11).take(4);
        let ticks: f64 = ticks.filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        ticks / TICKS
    }

    /// MiB.
    pub fn resident(&self) -> f64 {
        let status = self.file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) / 1024.0
    }

    /// A dead one is a zombie until it is waited for.
    pub fn is_alive(&self) -> bool {
        self.resident().is_finite()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// A port that was free just now.
fn port() -> SocketAddr {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    server.local_addr().expect("it is bound")
}

/// hostd with a file of its own.
pub struct Daemon {
    pub process: Process,
    address: SocketAddr,
}

impl Daemon {
    pub fn start(dir: &Path, config: &str) -> Self {
        fs::create_dir_all(dir).expect("a folder");
        let address = port();
        let file = dir.join("host.yaml");
        let config = format!("{config}events: {{tcp: \"{address}\", udp: off}}\n");
        fs::write(&file, config).expect("a file");
        let bins = std::env::var_os("HOSTD_BIN_DIR");
        let program =
            bins.map_or(env!("CARGO_BIN_EXE_hostd").into(), |dir| Path::new(&dir).join("hostd"));
        let mut command = Command::new(program);
        command.arg("--config").arg(file).arg("--state-dir").arg(dir.join("lib"));
        command.arg("--runtime-dir").arg(dir.join("run"));
        let daemon = Self { process: Process::start(&mut command).expect("hostd starts"), address };
        let from = Instant::now();
        while daemon.ask().is_none() {
            assert!(from.elapsed() < DEADLINE && daemon.process.is_alive(), "hostd is not ready");
            std::thread::sleep(Duration::from_millis(100));
        }
        daemon
    }

    fn ask(&self) -> Option<Vec<Event>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async {
            let mut client = Client::connect(&RealDial, self.address, DEADLINE).await.ok()?;
            client.query("tagged \"hostd\"").await.ok()
        })
    }

    /// Every event that it knows now.
    pub fn events(&self) -> Vec<Event> {
        self.ask().expect("hostd answers")
    }
}

/// A Riemann server that takes everything.
#[derive(Default)]
pub struct Sink(AtomicU64);

impl Sink {
    /// How many events have come.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn serve(&self, from: &UdpSocket) {
        let mut message = vec![0; 1 << 16];
        while let Ok(length) = from.recv(&mut message) {
            let bytes = message.get(..length).unwrap_or_default();
            let events = wire::Msg::decode(bytes).map_or(0, |message| message.events.len());
            self.0.fetch_add(events as u64, Ordering::Relaxed);
        }
    }
}

/// In the foreground, with what we measure too.
pub struct Collectd(pub Process);

impl Collectd {
    pub fn start(dir: &Path, sink: &Arc<Sink>) -> Option<Self> {
        let plugins = Path::new("/usr/lib/collectd");
        if !plugins.join("write_riemann.so").exists() {
            return None;
        }
        let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = server.local_addr().expect("it is bound").port();
        let sink = Arc::clone(sink);
        std::thread::spawn(move || sink.serve(&server));
        // No sensors where there are none: it goes on looking for them.
        let sensors = fs::read_dir("/sys/class/hwmon").is_ok_and(|mut all| all.next().is_some());
        let all = ["cpu", "load", "memory", "swap", "df", "disk", "interface", "uptime"];
        let loads: String = all
            .iter()
            .chain(sensors.then_some(&"sensors"))
            .chain(&["write_riemann"])
            .map(|plugin| format!("LoadPlugin {plugin}\n"))
            .collect();
        // By UDP, which is its cheapest way: with batches over TCP it dies of a
        // segmentation fault within a minute (5.12), without them each has its reply.
        let config = format!(
            "Interval 5\nBaseDir \"{0}\"\nPIDFile \"{0}/collectd.pid\"\nPluginDir \"{1}\"\n\
             TypesDB \"/usr/share/collectd/types.db\"\nFQDNLookup false\n{loads}\
             <Plugin cpu>\nReportByCpu false\nValuesPercentage true\n</Plugin>\n\
             <Plugin df>\nValuesPercentage true\nReportInodes true\n\
             FSType ext4\nFSType xfs\nFSType btrfs\nFSType zfs\nFSType vfat\n</Plugin>\n\
             <Plugin disk>\nDisk \"/^(loop|ram|zram)/\"\nIgnoreSelected true\n</Plugin>\n\
             <Plugin interface>\nInterface \"lo\"\nIgnoreSelected true\n</Plugin>\n\
             <Plugin write_riemann>\n<Node \"sink\">\nHost \"127.0.0.1\"\nPort \"{port}\"\n\
             Protocol UDP\n</Node>\n</Plugin>\n",
            dir.display(),
            plugins.display()
        );
        let file = dir.join("collectd.conf");
        fs::write(&file, config).expect("a file");
        let mut command = Command::new("collectd");
        Some(Self(Process::start(command.args(["-f", "-C"]).arg(file))?))
    }
}

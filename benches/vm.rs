//! A VM from command to running and back, beside libvirt and beside QEMU alone:
//! the same tiny machine under the same QEMU, by software, from daemons that
//! run already. And what `vm list` of twenty VMs takes, and the daemons' memory.
//!
//!   cargo bench --bench vm            needs libvirtd, virsh and setpriv
//!   ROUNDS=31 cargo bench --bench vm
//!
//! `HOSTD_BIN_DIR` names the folder of other programs than those just built.
//!
//! libvirtd runs as a user without rights in folders of its own (a session
//! daemon), which spares it cgroups and security drivers. Prints milliseconds,
//! medians of rounds that take turns.
#![allow(clippy::disallowed_methods, clippy::expect_used, reason = "a benchmark starts its peers")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// Who libvirtd runs as: nobody.
const NOBODY: &str = "65534";
/// VMs for `vm list`.
const MANY: usize = 20;

fn main() {
    let dir = tempfile::tempdir().expect("a folder");
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(11);
    let ours = Ours::start(dir.path());
    let peer = Libvirt::start(dir.path());
    let [mut raw, mut start, mut kill, mut virsh, mut destroy] = [const { Vec::new() }; 5];
    for _ in 0..rounds {
        raw.push(alone(dir.path()));
        start.push(timed(ours.hostctl(&["vm", "start", "tiny0"])));
        kill.push(timed(ours.hostctl(&["vm", "kill", "tiny0"])));
        if let Some(peer) = &peer {
            virsh.push(timed(peer.virsh(&["start", "tiny0"])));
            destroy.push(timed(peer.virsh(&["destroy", "tiny0"])));
        }
    }
    let [mut list, mut listed] = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        list.push(timed(ours.hostctl(&["vm", "list"])));
        if let Some(peer) = &peer {
            listed.push(timed(peer.virsh(&["list", "--all"])));
        }
    }
    let (raw, start, kill) = (median(raw), median(start), median(kill));
    println!("ms, medians of {rounds} rounds              hostd   libvirt     ratio");
    println!("QEMU alone, to its guest running   {raw:>8.0}         -");
    row("start, to the guest running", start, median(virsh));
    println!("  more than QEMU alone             {:>8.0}         -", start - raw);
    row("vm kill, virsh destroy", kill, median(destroy));
    row(&format!("list of {MANY} VMs"), median(list), median(listed));
    row(
        "resident memory of the daemon, MiB",
        ours.memory(),
        peer.as_ref().map_or(f64::NAN, Libvirt::memory),
    );
    if peer.is_none() {
        println!("libvirt was not measured: libvirtd, virsh or setpriv is not installed");
    }
}

fn row(what: &str, ours: f64, theirs: f64) {
    if theirs.is_nan() {
        println!("{what:<34} {ours:>8.0}         -");
    } else {
        println!("{what:<34} {ours:>8.0}  {theirs:>8.0}  {:>8.2}", ours / theirs);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn ms(from: Instant) -> f64 {
    from.elapsed().as_secs_f64() * 1e3
}

/// How long a command takes that must succeed.
fn timed(mut command: Command) -> f64 {
    let from = Instant::now();
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    let took = ms(from);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    took
}

/// QEMU by itself: from its start to its word that the guest runs.
fn alone(dir: &Path) -> f64 {
    let socket = dir.join("alone.sock");
    // It may not be there.
    let _ = std::fs::remove_file(&socket);
    let from = Instant::now();
    let mut qemu = Command::new(QEMU)
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg"])
        .args(["-machine", "pc-q35-7.2", "-m", "64", "-qmp"])
        .arg(format!("unix:{},server=on,wait=off", socket.display()))
        .stdin(Stdio::null())
        .spawn()
        .expect("QEMU is installed");
    let talk = loop {
        match UnixStream::connect(&socket) {
            Ok(talk) => break talk,
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let mut lines = BufReader::new(talk.try_clone().expect("a second end"));
    let say = |line: &str| {
        (&talk).write_all(line.as_bytes()).expect("QEMU listens");
    };
    let mut line = String::new();
    lines.read_line(&mut line).expect("a greeting");
    say("{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\"}\n");
    while !line.contains("\"running\": true") {
        line.clear();
        lines.read_line(&mut line).expect("an answer");
    }
    let took = ms(from);
    qemu.kill().expect("it is ours");
    qemu.wait().expect("it ends");
    took
}

/// The one in `HOSTD_BIN_DIR`, or the one that was just built.
fn program(name: &str, built: &str) -> PathBuf {
    std::env::var_os("HOSTD_BIN_DIR").map_or_else(|| built.into(), |dir| Path::new(&dir).join(name))
}

struct Ours {
    daemon: Child,
    socket: PathBuf,
}

impl Ours {
    fn start(dir: &Path) -> Self {
        let (config, socket) = (dir.join("host.yaml"), dir.join("run/control.sock"));
        std::fs::write(
            &config,
            "events: {tcp: off, udp: off, websocket: off}\nweb: {listen: off}\n",
        )
        .expect("a file");
        std::fs::create_dir(dir.join("vms")).expect("a folder");
        for index in 0..MANY {
            let vm = "memory: 64M\ncpus: 1\naccel: tcg\nmachine: pc-q35-7.2\nnetwork: none\n";
            std::fs::write(dir.join(format!("vms/tiny{index}.yaml")), vm).expect("a file");
        }
        let daemon = Command::new(program("hostd", env!("CARGO_BIN_EXE_hostd")))
            .arg("--config")
            .arg(&config)
            .arg("--state-dir")
            .arg(dir.join("lib"))
            .arg("--runtime-dir")
            .arg(dir.join("run"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("hostd starts");
        let ours = Self { daemon, socket };
        wait_for(|| ours.hostctl(&["vm", "list"]));
        ours
    }

    fn hostctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("hostctl", env!("CARGO_BIN_EXE_hostctl")));
        command.arg("--socket").arg(&self.socket).arg("--quiet").args(args);
        command
    }

    fn memory(&self) -> f64 {
        resident(self.daemon.id())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // It has ended when it has.
        let _ = (self.daemon.kill(), self.daemon.wait());
    }
}

struct Libvirt {
    daemon: Child,
    home: PathBuf,
}

impl Libvirt {
    /// `None` where it is not installed.
    fn start(dir: &Path) -> Option<Self> {
        for program in ["libvirtd", "virsh", "setpriv"] {
            let found = Command::new("which").arg(program).stdout(Stdio::null()).status();
            found.ok().filter(std::process::ExitStatus::success)?;
        }
        let home = dir.join("libvirt");
        for folder in ["", "run", "config", "cache"] {
            std::fs::create_dir(home.join(folder)).expect("a folder");
            std::os::unix::fs::chown(home.join(folder), Some(65534), Some(65534)).expect("root");
        }
        open(dir);
        let mut daemon = Self::command(&home, "libvirtd");
        let daemon = daemon.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let peer = Self { daemon, home };
        wait_for(|| peer.virsh(&["list"]));
        for index in 0..MANY {
            let file = peer.home.join(format!("tiny{index}.xml"));
            std::fs::write(&file, domain(index)).expect("a file");
            timed(peer.virsh(&["define", &file.display().to_string()]));
        }
        Some(peer)
    }

    /// A program as nobody, with folders of its own.
    fn command(home: &Path, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", program])
            .env("HOME", home)
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env("XDG_CONFIG_HOME", home.join("config"))
            .env("XDG_CACHE_HOME", home.join("cache"))
            .current_dir(home);
        command
    }

    fn virsh(&self, args: &[&str]) -> Command {
        let mut command = Self::command(&self.home, "virsh");
        command.args(["--quiet", "--connect", "qemu:///session"]).args(args);
        command
    }

    fn memory(&self) -> f64 {
        // setpriv has become it.
        resident(self.daemon.id())
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        let _ = (self.daemon.kill(), self.daemon.wait());
    }
}

/// Everybody may pass.
fn open(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(dir, mode).expect("it is ours");
}

fn domain(index: usize) -> String {
    format!(
        "<domain type='qemu'><name>tiny{index}</name><memory unit='MiB'>64</memory>\
         <vcpu>1</vcpu><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>\
         <features><acpi/></features><devices><emulator>{QEMU}</emulator>\
         <controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"
    )
}

/// Asks until it is answered.
fn wait_for(ask: impl Fn() -> Command) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let mut command = ask();
        let output = command.stdin(Stdio::null()).output().expect("it starts");
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(Instant::now() < until, "{command:?}: {said}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// MiB.
fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

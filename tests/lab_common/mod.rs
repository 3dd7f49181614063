//! A lab with hostd in it, for the tests that boot one.
//!
//! Everything is done through the public commands; the binaries are those of
//! `HOSTD_BIN_DIR` (set by `./test` to the release build) or of this build.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod care;
pub mod snapshots;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hostd_lab::{Lab, LabSpec, Output};
use serde_json::Value;

/// Where hostd keeps its configuration in the lab.
pub const ETC: &str = "/etc/hostd";

/// The VM of the slice, as `./run` has it: no disks, no operating system, the
/// card's own VGA BIOS.
pub const GAMING: &str = include_str!("../../lab/demo/vms/gaming.yaml");

/// The host of `./run`, with its services.
pub const DEMO: &str = include_str!("../../lab/demo/host.yaml");

/// The host's file: the card by its slot, the pool that must be there.
pub const HOST: &str = "\
host:
  name: lab
gpus:
  - name: card
    address: '0000:01:00.0'
pools:
  expected: [tank]
";

/// A binary of this build, or of the folder that `./test` names.
pub fn binary(name: &str) -> PathBuf {
    let built = match name {
        "hostd" => env!("CARGO_BIN_EXE_hostd"),
        _ => env!("CARGO_BIN_EXE_hostctl"),
    };
    std::env::var_os("HOSTD_BIN_DIR")
        .map_or_else(|| built.into(), |dir| PathBuf::from(dir).join(name))
}

/// The same lab with hostd's binaries on its payload disk.
pub fn with_hostd(spec: LabSpec) -> LabSpec {
    spec.payload(binary("hostd"), "hostd").payload(binary("hostctl"), "hostctl")
}

/// Writes the two files of the configuration.
pub fn configure(lab: &Lab, host: &str, gaming: &str) -> Result<()> {
    lab.run_ok(&format!("mkdir -p {ETC}/vms"))?;
    lab.push_bytes(host.as_bytes(), &format!("{ETC}/host.yaml"), 0o644)?;
    lab.push_bytes(gaming.as_bytes(), &format!("{ETC}/vms/gaming.yaml"), 0o644)
}

/// Writes the two files and starts the daemon, until it says it is ready.
pub fn start_hostd(lab: &Lab, host: &str, gaming: &str) -> Result<()> {
    configure(lab, host, gaming)?;
    launch(lab)
}

/// Starts the daemon on the files that are there.
pub fn launch(lab: &Lab) -> Result<()> {
    lab.run_ok("rm -f /tmp/hostd.log; setsid hostd >/tmp/hostd.log 2>&1 </dev/null & echo $! >/tmp/hostd.pid")?;
    let ready = lab.wait_for("grep -q 'hostd is ready' /tmp/hostd.log", Duration::from_secs(60));
    ready.with_context(|| format!("hostd's log:\n{}", log(lab))).map(drop)
}

/// What the daemon has said, to its file or to the journal.
pub fn log(lab: &Lab) -> String {
    lab.run("cat /tmp/hostd.log 2>/dev/null || journalctl -u hostd --no-pager -n 100")
        .map(|out| out.stdout)
        .unwrap_or_default()
}

/// A hostctl command, whatever its exit code.
pub fn hostctl(lab: &Lab, args: &str) -> Result<Output> {
    lab.run_for(&format!("hostctl {args}"), Duration::from_secs(90))
}

/// A hostctl command that must succeed, as JSON.
pub fn json(lab: &Lab, args: &str) -> Result<Value> {
    let out = hostctl(lab, &format!("{args} --json"))?;
    ensure!(
        out.status <= 1,
        "hostctl {args} ended with {}:\n{}\n{}\nhostd's log:\n{}",
        out.status,
        out.stdout,
        out.stderr,
        log(lab)
    );
    serde_json::from_str(&out.stdout).with_context(|| format!("not JSON: {}", out.stdout))
}

/// The events that Debian's own C client gets for a query.
pub fn riemann_query(lab: &Lab, query: &str) -> Result<String> {
    lab.run_ok(&format!("riemann-client query -T '{query}' 127.0.0.1 5555"))
}

/// The driver of a function, `none` when there is none.
pub fn driver(lab: &Lab, address: &str) -> Result<String> {
    let link = format!("/sys/bus/pci/devices/{address}/driver");
    let out = lab.run_ok(&format!("[ -e {link} ] && basename $(readlink {link}) || echo none"))?;
    Ok(out.trim().to_owned())
}

/// One VM's entry in `vm status`.
pub fn vm(lab: &Lab, name: &str) -> Result<Value> {
    Ok(json(lab, &format!("vm status {name}"))?["vms"][0].clone())
}

/// One case of a lab that several share.
pub type Case = (&'static str, fn(&Lab) -> Result<()>);

/// Runs the cases one after the other, with their times; with `HOSTD_LAB_CASES`
/// only those in whose names one of its words is, which are between commas.
#[allow(clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]
pub fn run(lab: &Lab, cases: &[Case]) {
    let only = std::env::var("HOSTD_LAB_CASES").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only.split(',').any(|word| name.contains(word));
    for (name, case) in cases.iter().filter(|(name, _)| wanted(name)) {
        let began = Instant::now();
        if let Err(error) = case(lab) {
            let (log, console) = (log(lab), lab.console_tail(30));
            panic!("{name}: {error:?}\n--- hostd's log\n{log}\n--- console\n{console}");
        }
        println!("    {name}: ok ({:.1} s)", began.elapsed().as_secs_f64());
    }
}

//! [`Lab`]: a virtual host that is running.

use crate::{
    accel::{self, Accel},
    argv::{self, Image, RunDir},
    boot_disk,
    client::{self, Client, Output},
    image,
    machine::{self, Machine, trouble},
    payload,
    qmp::Qmp,
    spec::{CardKind, LabSpec, Tier},
};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What a command may take when nothing else is said.
pub const COMMAND: Duration = Duration::from_secs(60);
/// QEMU's own answers; the guest's cooperation where a device comes or goes.
const MONITOR: Duration = Duration::from_secs(10);
const HOTPLUG: Duration = Duration::from_secs(30);

pub struct Lab {
    pub spec: LabSpec,
    pub accel: Accel,
    pub(crate) run: RunDir,
    image: Image,
    machine: Option<Machine>,
    client: Mutex<Option<Arc<Client>>>,
    qmp: Mutex<Option<Qmp>>,
    boot_id: String,
    port: usize,
    /// What is removed at the end; a detached lab is somebody else's.
    dir: Option<tempfile::TempDir>,
    detached: bool,
    /// How long the last boot took, until the agent answered and in all.
    pub ready_after: Duration,
    pub settled_after: Duration,
}

impl Lab {
    /// Builds what is missing (image, agent, boot disk), starts QEMU and waits
    /// until commands can be run.
    pub fn boot(spec: LabSpec) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("hostd-lab-").tempdir().context("a directory for the lab")?;
        let path = dir.path().to_owned();
        Self::boot_in(spec, &path, Some(dir), false)
    }

    /// `lab up`: in a directory that stays, with a QEMU that stays.
    pub fn boot_detached(spec: LabSpec, dir: &Path) -> Result<Self> {
        Self::boot_in(spec, dir, None, true)
    }

    fn boot_in(spec: LabSpec, path: &Path, dir: Option<tempfile::TempDir>, detached: bool) -> Result<Self> {
        spec.check().map_err(anyhow::Error::msg)?;
        let run = RunDir(path.to_owned());
        // The limit of a unix socket's path, less room for the longest name.
        ensure!(path.as_os_str().len() < 90, "{} is too long for sockets: set TMPDIR", path.display());
        let image = image::ensure()?;
        let accel = accel::choose(&image)?;
        let mut files = vec![(image::agent()?, "lab-agent".to_owned())];
        files.extend(spec.payload.iter().cloned());
        payload::make(&run.payload(), path, &files)?;
        for disk in 0..spec.disks {
            fs::File::create(run.disk(disk))?.set_len(spec.disk_mib * 1024 * 1024)?;
        }
        if spec.tier == Tier::OwnBoot {
            boot_disk::overlay(&image, &run.overlay())?;
        }
        let mut lab = Self {
            spec,
            accel,
            run,
            image,
            machine: None,
            client: Mutex::new(None),
            qmp: Mutex::new(None),
            boot_id: String::new(),
            port: 0,
            dir,
            detached,
            ready_after: Duration::ZERO,
            settled_after: Duration::ZERO,
        };
        lab.power_on()?;
        Ok(lab)
    }

    /// A lab that `boot_detached` left behind in `dir`.
    pub fn attach(spec: LabSpec, dir: &Path, pid: u32, port: usize) -> Result<Self> {
        let machine = Machine::attach(pid, dir)?;
        Ok(Self {
            spec,
            accel: Accel::Tcg,
            run: RunDir(dir.to_owned()),
            image: Image { dir: PathBuf::new() },
            machine,
            client: Mutex::new(None),
            qmp: Mutex::new(None),
            boot_id: String::new(),
            port,
            dir: None,
            detached: true,
            ready_after: Duration::ZERO,
            settled_after: Duration::ZERO,
        })
    }

    pub fn running(&self) -> bool {
        self.machine.as_ref().is_some_and(Machine::running)
    }

    pub fn pid(&self) -> Option<u32> {
        self.machine.as_ref().map(|machine| machine.pid)
    }

    /// The files of this run: sockets, console.log, disks.
    pub fn dir(&self) -> &Path {
        &self.run.0
    }

    // ── commands ──

    /// `/bin/sh -c command` as root, at most 60 s. What it leaves running in
    /// the background goes on.
    pub fn run(&self, command: &str) -> Result<Output> {
        self.run_for(command, COMMAND)
    }

    pub fn run_for(&self, command: &str, deadline: Duration) -> Result<Output> {
        self.run_with(command, &[], b"", deadline)
    }

    pub fn run_with(
        &self,
        command: &str,
        env: &[(&str, &str)],
        input: &[u8],
        deadline: Duration,
    ) -> Result<Output> {
        let env: BTreeMap<String, String> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.client()?
            .run(command, &env, input, deadline)
            .map_err(|error| self.explain(error, format!("running {command:?}")))
    }

    /// Its stdout; an error with everything it said unless it succeeds.
    pub fn run_ok(&self, command: &str) -> Result<String> {
        self.run_ok_for(command, COMMAND)
    }

    pub fn run_ok_for(&self, command: &str, deadline: Duration) -> Result<String> {
        let output = self.run_for(command, deadline)?;
        if output.ok() {
            return Ok(output.stdout);
        }
        let how = if output.expired {
            format!("did not end within {} s", deadline.as_secs_f32())
        } else {
            format!("failed with status {}", output.status)
        };
        bail!("in the lab, {command:?} {how}\nstdout:\n{}\nstderr:\n{}", output.stdout, output.stderr)
    }

    /// Repeats a command until it succeeds; its stdout.
    pub fn wait_for(&self, command: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
            let output = self.run_for(command, left.min(COMMAND))?;
            if output.ok() {
                return Ok(output.stdout);
            }
            if Instant::now() > end {
                bail!(
                    "in the lab, {command:?} did not come true within {} s; the last time it failed with status {}\nstdout:\n{}\nstderr:\n{}",
                    limit.as_secs_f32(), output.status, output.stdout, output.stderr
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A file from here to there, with its mode.
    pub fn push(&self, file: impl AsRef<Path>, path: &str) -> Result<()> {
        let (file, mode) = client::open_for_push(file.as_ref())?;
        self.client()?.push(file, path, mode).map_err(|error| self.explain(error, format!("pushing {path}")))
    }

    pub fn push_bytes(&self, bytes: &[u8], path: &str, mode: u32) -> Result<()> {
        self.client()?.push(bytes, path, mode).map_err(|error| self.explain(error, format!("pushing {path}")))
    }

    /// A file from there to here.
    pub fn pull(&self, path: &str, file: impl AsRef<Path>) -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let file = file.as_ref();
        let mut target = fs::File::create(file).with_context(|| format!("creating {}", file.display()))?;
        let mode = self
            .client()?
            .pull(path, &mut target)
            .map_err(|error| self.explain(error, format!("pulling {path}")))?;
        target.set_permissions(fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    pub fn pull_bytes(&self, path: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.client()?
            .pull(path, &mut bytes)
            .map_err(|error| self.explain(error, format!("pulling {path}")))?;
        Ok(bytes)
    }

    // ── the machine ──

    /// A command of QEMU's monitor.
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value> {
        self.with_qmp(|qmp| qmp.execute(command, arguments, MONITOR))
    }

    pub fn pause(&self) -> Result<()> {
        self.qmp("stop", json!({})).map(drop)
    }

    pub fn resume(&self) -> Result<()> {
        self.qmp("cont", json!({})).map(drop)
    }

    /// Plugs or unplugs the network cable.
    pub fn network(&self, on: bool) -> Result<()> {
        ensure!(self.spec.network, "this lab has no network: boot it with one");
        self.qmp("set_link", json!({"name": "net0", "up": on})).map(drop)
    }

    /// The port on 127.0.0.1 that leads to this TCP port of the guest.
    pub fn port(&self, guest: u16) -> Result<u16> {
        if let Some(forward) = self.spec.forwards.iter().find(|forward| forward.guest == guest && forward.host != 0) {
            return Ok(forward.host);
        }
        let table = self.qmp("human-monitor-command", json!({"command-line": "info usernet"}))?;
        // TCP[HOST_FORWARD]  12  127.0.0.1 40123  10.0.2.15 5555  0  0
        let table = table.as_str().unwrap_or_default();
        table
            .lines()
            .filter(|line| line.contains("HOST_FORWARD"))
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| words.get(5).is_some_and(|port| *port == guest.to_string()))
            .and_then(|words| words.get(3)?.parse().ok())
            .with_context(|| format!("the lab forwards nothing to its port {guest}; QEMU says:\n{table}"))
    }

    /// Takes disk `number` away, data and all, as if pulled.
    pub fn unplug_disk(&self, number: usize) -> Result<()> {
        self.check_disk(number)?;
        self.unplug(&format!("disk{number}"), &[])?;
        self.qmp("blockdev-del", json!({"node-name": format!("node-disk{number}")})).map(drop)
    }

    /// Puts disk `number` back, with the data it had.
    pub fn plug_disk(&self, number: usize) -> Result<()> {
        self.check_disk(number)?;
        self.qmp("blockdev-add", argv::disk_blockdev(&self.run, number))?;
        self.qmp("device_add", argv::disk_device(number)).map(drop)
    }

    /// Takes card `index` (from 0) away, with its audio function. QEMU can
    /// unplug only `Secondary0380`; the others are removed by their own kernel,
    /// which to everything above the PCI bus looks the same.
    pub fn unplug_card(&self, index: usize) -> Result<()> {
        let devices = self.card(index)?;
        if !self.hotpluggable(index) {
            return self.run_ok(&removal(index, devices.len())).map(drop);
        }
        let more = if devices.len() > 1 { vec![format!("card{index}-audio")] } else { Vec::new() };
        self.unplug(&format!("card{index}"), &more)
    }

    pub fn plug_card(&self, index: usize) -> Result<()> {
        let devices = self.card(index)?;
        if !self.hotpluggable(index) {
            return self.run_ok("echo 1 > /sys/bus/pci/rescan").map(drop);
        }
        for device in devices {
            self.qmp("device_add", device)?;
        }
        Ok(())
    }

    fn hotpluggable(&self, index: usize) -> bool {
        self.spec.cards.get(index).is_some_and(|card| card.kind == CardKind::Secondary0380)
    }

    /// A clean reboot from inside; returns when commands can be run again.
    pub fn reboot(&mut self) -> Result<()> {
        let before = self.boot_id.clone();
        let command = if self.spec.tier == Tier::Fast { "sync; (sleep 0.2; reboot -f) > /dev/null 2>&1 &" } else { "systemctl --no-block reboot" };
        self.run_ok(command)?;
        self.wait_boot(&before)
    }

    /// The machine's reset button.
    pub fn reset(&mut self) -> Result<()> {
        let before = self.boot_id.clone();
        self.qmp("system_reset", json!({}))?;
        self.wait_boot(&before)
    }

    /// QEMU is killed at once. What the guest has not flushed is lost to it;
    /// `power_on` boots again: the own-boot tier from the same disk, the others
    /// from a fresh image with the same data disks.
    pub fn power_loss(&mut self) {
        *lock(&self.client) = None;
        *lock(&self.qmp) = None;
        if let Some(mut machine) = self.machine.take() {
            machine.kill();
        }
    }

    pub fn power_on(&mut self) -> Result<()> {
        ensure!(!self.running(), "the lab is running already");
        if self.image.dir.as_os_str().is_empty() {
            self.image = image::ensure()?;
            self.accel = accel::choose(&self.image)?;
        }
        let args = argv::argv(&self.spec, &self.run, &self.image, self.accel);
        self.machine = Some(Machine::start(args, &self.run, self.detached)?);
        self.wait_boot("")
    }

    pub fn console_tail(&self, lines: usize) -> String {
        machine::tail(&self.run.console_log(), lines)
    }

    /// QEMU goes on when this value does not (`lab up`).
    pub fn leave(mut self) -> Option<u32> {
        let pid = self.pid();
        if let Some(mut machine) = self.machine.take() {
            machine.leave();
        }
        pid
    }

    // ── inside ──

    fn boot_limit(&self) -> Duration {
        Duration::from_secs(match (self.accel, self.spec.tier) {
            (Accel::Kvm, _) => 90,
            (Accel::Tcg, Tier::Fast) => 120,
            (Accel::Tcg, Tier::Full | Tier::OwnBoot) => 400,
        })
    }

    /// Until an agent with another boot id than `before` answers.
    fn wait_boot(&mut self, before: &str) -> Result<()> {
        let start = Instant::now();
        let end = start + self.boot_limit();
        *lock(&self.client) = None;
        let mut attempt = 0;
        self.boot_id = loop {
            self.look_at_machine(start)?;
            if Instant::now() > end {
                let limit = self.boot_limit().as_secs();
                return Err(trouble(format!("the agent in the lab does not answer {limit} s after the start"), &self.run));
            }
            let heard = self.say_hello(attempt);
            attempt += 1;
            match heard {
                Ok(Some(id)) if id != before => break id,
                // The system that is going down.
                Ok(Some(_)) => std::thread::sleep(Duration::from_millis(200)),
                Ok(None) => {}
                Err(_) => {
                    *lock(&self.client) = None;
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        };
        self.ready_after = start.elapsed();
        if self.spec.settle {
            self.settle(end.saturating_duration_since(Instant::now()))?;
        }
        self.settled_after = start.elapsed();
        Ok(())
    }

    fn say_hello(&self, attempt: u32) -> Result<Option<String>> {
        let client = self.connect()?;
        // A guest that boots needs a while to read at all; what is written
        // before lies in the socket. Zeros are for a guest that is up and deaf.
        client.hello(Duration::from_millis(500), attempt > 0 && attempt.is_multiple_of(40))
    }

    fn look_at_machine(&self, start: Instant) -> Result<()> {
        if !self.running() {
            let after = start.elapsed().as_secs_f32();
            return Err(trouble(format!("QEMU ended {after:.1} s after its start"), &self.run));
        }
        let console = self.console_tail(60);
        if console.contains("Kernel panic - not syncing") {
            return Err(trouble("the lab's kernel panicked", &self.run));
        }
        Ok(())
    }

    fn settle(&self, limit: Duration) -> Result<()> {
        let command = match self.spec.tier {
            Tier::Fast => "until [ -e /run/lab/settled ]; do sleep 0.05; done",
            Tier::Full | Tier::OwnBoot => {
                "until systemctl is-system-running --wait 2>/dev/null | grep -qE 'running|degraded'; do sleep 1; done"
            }
        };
        self.run_ok_for(command, limit)
            .map(drop)
            .map_err(|error| trouble(format!("the lab answers and does not settle: {error:#}"), &self.run))
    }

    fn connect(&self) -> Result<Arc<Client>> {
        let mut client = lock(&self.client);
        if client.is_none() {
            *client = Some(Arc::new(Client::connect(&self.run.agent(self.port))?));
        }
        client.clone().context("no connection to the agent")
    }

    /// The agent, greeted.
    pub fn client(&self) -> Result<Arc<Client>> {
        ensure!(self.running(), "the lab is not running");
        let known = lock(&self.client).clone();
        if let Some(client) = known {
            return Ok(client);
        }
        let client = self.connect()?;
        for flush in [false, true, true] {
            if client.hello(Duration::from_secs(5), flush)?.is_some() {
                return Ok(client);
            }
        }
        *lock(&self.client) = None;
        Err(trouble("the agent in the lab does not answer: the guest hangs or is paused", &self.run))
    }

    fn with_qmp<T>(&self, action: impl FnOnce(&mut Qmp) -> Result<T>) -> Result<T> {
        ensure!(self.running(), "the lab is not running");
        let mut qmp = lock(&self.qmp);
        if qmp.is_none() {
            *qmp = Some(Qmp::connect(&self.run.qmp(), MONITOR)?);
        }
        action(qmp.as_mut().context("no connection to QEMU's monitor")?)
    }

    fn unplug(&self, device: &str, with: &[String]) -> Result<()> {
        let result = self.with_qmp(|qmp| {
            qmp.execute("device_del", json!({"id": device}), MONITOR)?;
            for id in with.iter().map(String::as_str).chain([device]) {
                qmp.event(HOTPLUG, |name, data| name == "DEVICE_DELETED" && data["device"] == id)
                    .with_context(|| format!("waiting for the guest to let go of {id}"))?;
            }
            Ok(())
        });
        result.map_err(|error| self.explain(error, format!("unplugging {device}")))
    }

    fn check_disk(&self, number: usize) -> Result<()> {
        ensure!(number < self.spec.disks, "there is no disk{number}: the lab has {}", self.spec.disks);
        Ok(())
    }

    fn card(&self, index: usize) -> Result<Vec<Value>> {
        let devices = argv::card_devices(&self.spec, index);
        ensure!(!devices.is_empty(), "there is no card{index}: the lab has {}", self.spec.cards.len());
        Ok(devices)
    }

    /// A failure within the guest is enough said; one of the connection needs
    /// the machine's own words.
    fn explain(&self, error: anyhow::Error, what: String) -> anyhow::Error {
        if !self.running() {
            return trouble(format!("{what}: QEMU has ended: {error:#}"), &self.run);
        }
        if format!("{error:#}").contains("does not answer") {
            return trouble(format!("{what}: {error:#}"), &self.run);
        }
        error.context(what)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.detached {
            if let Some(machine) = &mut self.machine {
                machine.leave();
            }
            return;
        }
        self.power_loss();
        // HOSTD_LAB_KEEP leaves the files of a run for a person to look at.
        if std::env::var_os("HOSTD_LAB_KEEP").is_some()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("lab: kept {}", dir.keep().display());
        }
    }
}

/// The functions of a card, the last first, leave the bus.
fn removal(index: usize, functions: usize) -> String {
    let remove = |function| format!("echo 1 > /sys/bus/pci/devices/0000:{:02x}:00.{function}/remove", index + 1);
    (0..functions).rev().map(remove).collect::<Vec<_>>().join(" && ")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

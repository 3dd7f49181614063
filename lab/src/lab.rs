//! [`Lab`]: a virtual host that is running: how it starts, restarts and ends.
//! What is done inside it is in `commands.rs`, what is done to its devices in
//! `devices.rs`.

use crate::{
    accel::{self, Accel},
    argv::{self, Image, RunDir},
    boot_disk,
    client::Client,
    image,
    machine::{self, Machine, trouble},
    payload,
    qmp::Qmp,
    spec::{LabSpec, Tier},
};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

pub struct Lab {
    pub spec: LabSpec,
    pub accel: Accel,
    pub(crate) run: RunDir,
    image: Image,
    machine: Option<Machine>,
    client: Mutex<Option<Arc<Client>>>,
    pub(crate) qmp: Mutex<Option<Qmp>>,
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
        let dir = tempfile::Builder::new()
            .prefix("hostd-lab-")
            .tempdir()
            .context("a directory for the lab")?;
        let path = dir.path().to_owned();
        Self::boot_in(spec, &path, Some(dir), false)
    }

    /// `lab up`: in a directory that stays, with a QEMU that stays.
    pub fn boot_detached(spec: LabSpec, dir: &Path) -> Result<Self> {
        Self::boot_in(spec, dir, None, true)
    }

    fn boot_in(
        spec: LabSpec,
        path: &Path,
        dir: Option<tempfile::TempDir>,
        detached: bool,
    ) -> Result<Self> {
        spec.check().map_err(anyhow::Error::msg)?;
        let run = RunDir(path.to_owned());
        // The limit of a unix socket's path, less room for the longest name.
        ensure!(
            path.as_os_str().len() < 90,
            "{} is too long for sockets: set TMPDIR",
            path.display()
        );
        let image = image::ensure()?;
        let accel = accel::choose(&image)?;
        let mut files = vec![(image::agent()?, "lab-agent".to_owned())];
        files.extend(spec.payload.iter().cloned());
        payload::make(&run.payload(), path, &files)?;
        let names = (0..spec.disks).map(|disk| format!("disk{disk}"));
        for disk in names.chain(argv::fixed_disks(&spec)) {
            fs::File::create(run.data(&disk))?.set_len(spec.disk_mib * 1024 * 1024)?;
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

    /// A clean reboot from inside; returns when commands can be run again.
    pub fn reboot(&mut self) -> Result<()> {
        let before = self.boot_id.clone();
        let command = if self.spec.tier == Tier::Fast {
            "sync; (sleep 0.2; reboot -f) > /dev/null 2>&1 &"
        } else {
            "systemctl --no-block reboot"
        };
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

    /// Whether QEMU ends by itself in this time, as it does when the guest
    /// switches itself off. `power_on` boots again.
    pub fn off_within(&mut self, limit: Duration) -> bool {
        let off = self.machine.as_mut().is_none_or(|machine| machine.ended_within(limit));
        if off {
            *lock(&self.client) = None;
            *lock(&self.qmp) = None;
        }
        off
    }

    pub fn power_on(&mut self) -> Result<()> {
        ensure!(!self.running(), "the lab is running already");
        if self.image.dir.as_os_str().is_empty() {
            self.image = image::ensure()?;
            self.accel = accel::choose(&self.image)?;
        }
        let args = argv::argv(&self.spec, &self.run, &self.image, self.accel);
        self.machine = Some(Machine::start(args.clone(), &self.run, self.detached)?);
        let Err(error) = self.wait_boot("") else { return Ok(()) };
        // Seen once in some dozens of boots of a busy machine: TCG itself. What
        // boots in the own-boot tier may be what is tested, and panics for good.
        if !error.is::<Panicked>() || self.spec.tier == Tier::OwnBoot || self.accel == Accel::Kvm {
            return Err(error);
        }
        eprintln!("lab: {error:#}\nlab: trying once more");
        self.power_loss();
        let _ = fs::remove_file(self.run.console_log());
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
                return Err(trouble(
                    format!("the agent in the lab does not answer {limit} s after the start"),
                    &self.run,
                ));
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
        if console.contains(machine::PANIC) {
            return Err(trouble("the lab's kernel panicked", &self.run).context(Panicked));
        }
        Ok(())
    }

    fn settle(&self, limit: Duration) -> Result<()> {
        let command = match self.spec.tier {
            Tier::Fast => {
                "until [ -e /run/lab/settled ]; do flock -s /run/lab/settling true; sleep 0.1; done"
            }
            Tier::Full | Tier::OwnBoot => {
                "until systemctl is-system-running --wait 2>/dev/null | grep -qE 'running|degraded'; do sleep 1; done"
            }
        };
        self.run_ok_for(command, limit).map(drop).map_err(|error| {
            trouble(format!("the lab answers and does not settle: {error:#}"), &self.run)
        })
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
        Err(trouble(
            "the agent in the lab does not answer: the guest hangs or is paused",
            &self.run,
        ))
    }

    /// A failure within the guest is enough said; one of the connection needs
    /// the machine's own words.
    pub(crate) fn explain(&self, error: anyhow::Error, what: String) -> anyhow::Error {
        if !self.running() {
            return trouble(format!("{what}: QEMU has ended: {error:#}"), &self.run);
        }
        if format!("{error:#}").contains("does not answer") {
            return trouble(format!("{what}: {error:#}"), &self.run);
        }
        error.context(what)
    }
}

/// The kernel panicked before the agent's first answer.
#[derive(Debug)]
struct Panicked;

impl std::fmt::Display for Panicked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the lab does not boot")
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

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

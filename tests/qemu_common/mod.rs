//! VMs of the tests on the real QEMU of this machine: their folders, their end,
//! what is left behind.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::match_wild_err_arm, reason = "there is but one way to be late")]

pub mod alone;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hostd::ask::view::{VmState, VmView};
use hostd::base::Bytes;
use hostd::config::{Accel, AfterDeadline, Disk, Firmware, Network, Stop, Vm};
use hostd::host::Host;
use hostd::vm::devices::FakeDevices;
use hostd::vm::supervisor::{Deps, VmHandle, spawn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::mpsc;

/// What nothing here should ever take.
pub const LONG: Duration = Duration::from_secs(30);

/// A machine of our own: its folders, its card, and its QEMUs, which end with it.
pub struct Bench {
    pub dir: Dir,
    pub devices: Arc<FakeDevices>,
}

/// Where a bench is.
pub enum Dir {
    /// Its own, which ends with it.
    Own(tempfile::TempDir),
    /// Another process's.
    Lent(PathBuf),
}

impl Dir {
    pub fn path(&self) -> &Path {
        match self {
            Self::Own(dir) => dir.path(),
            Self::Lent(path) => path,
        }
    }
}

impl Bench {
    pub fn new() -> Self {
        Self { dir: Dir::Own(tempfile::tempdir().unwrap()), devices: Arc::default() }
    }

    /// In the folder of another process's bench.
    pub fn at(dir: &Path) -> Self {
        Self { dir: Dir::Lent(dir.to_owned()), devices: Arc::default() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn runtime(&self, file: &str) -> PathBuf {
        self.path("run/vms/test").join(file)
    }

    pub fn host(&self) -> Host {
        let launcher = env!("CARGO_BIN_EXE_hostd").into();
        Host::real("/".into(), self.path("lib"), self.path("run")).with_launcher(launcher)
    }

    /// Supervises, as a hostd that has just come up does.
    pub fn supervise(&self, vm: Vm) -> VmHandle {
        let (out, mut changes) = mpsc::channel(16);
        tokio::spawn(async move { while changes.recv().await.is_some() {} });
        let devices = self.devices.clone();
        spawn(Deps::new(self.host(), devices, out), vm)
    }

    /// A disk that boots into these instructions.
    pub fn boots(&self, code: &[u8]) -> Disk {
        let mut sector = code.to_vec();
        sector.resize(510, 0);
        sector.extend([0x55, 0xaa]);
        sector.resize(1 << 20, 0);
        let path = self.path("boot, disk.img");
        std::fs::write(&path, sector).unwrap();
        Disk { readonly: true, ..Disk::plain(path, 1) }
    }

    /// The numbers of the processes that use our folders: QEMUs, and TPMs.
    pub fn qemus(&self) -> Vec<i32> {
        let ours = self.dir.path().to_str().unwrap().to_owned();
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &i32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&ours))
        })
        .collect()
    }

    /// What a VM has left in its runtime folder, beside its logs.
    pub fn left(&self, vm: &str) -> Vec<String> {
        let folder = self.path("run/vms").join(vm);
        let mut left = std::fs::read_dir(folder).map_or(Vec::new(), |entries| {
            entries.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect()
        });
        left.retain(|file| !file.contains(".log"));
        left
    }

    /// Nothing is left but what is meant to stay.
    pub fn assert_clean(&self) {
        assert_eq!(self.qemus(), [0; 0], "no process stays");
        assert_eq!(self.left("test"), [""; 0], "no file stays but logs");
        self.devices.with(|card| assert_eq!(card.lent_to, None, "the card is back"));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for pid in self.qemus() {
            // It may just have ended.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// A machine without a disk: its firmware runs, and nothing else.
pub fn vm() -> Vm {
    Vm {
        cpus: 1,
        accel: Accel::Tcg,
        firmware: Firmware::Seabios { log: true },
        network: Network::None,
        stop: Stop { deadline: Duration::from_secs(1), then: AfterDeadline::Quit },
        ..Vm::plain("test".parse().unwrap(), Bytes(64 << 20))
    }
}

pub async fn until(handle: &VmHandle, what: impl Fn(&VmView) -> bool) -> VmView {
    within(LONG, handle, what).await
}

pub async fn within(time: Duration, handle: &VmHandle, what: impl Fn(&VmView) -> bool) -> VmView {
    let mut watch = handle.watch();
    let seen = tokio::time::timeout(time, watch.wait_for(|view| what(view))).await;
    match seen {
        Ok(Ok(view)) => view.clone(),
        Ok(Err(_)) => panic!("the supervisor has ended: {:?}", handle.view()),
        Err(_) => panic!("it does not come about: {:?}", handle.view()),
    }
}

pub async fn at_rest(handle: &VmHandle) -> VmView {
    until(handle, |view| {
        view.step.is_empty() && !matches!(view.state, VmState::Preparing | VmState::Starting)
    })
    .await
}

pub fn pid(handle: &VmHandle) -> Pid {
    Pid::from_raw(handle.view().pid.unwrap().try_into().unwrap())
}

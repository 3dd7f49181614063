//! QEMU as another user, held back until it is let go; its TPM; and guests that
//! are stopped without a daemon. On the real QEMU of this machine, in software.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests look at what is really there, and fail loudly"
)]

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hostd::ask::Refusal;
use hostd::ask::view::DoneView;
use hostd::ask::view::VmState;
use hostd::base::Bytes;
use hostd::config::{Accel, AfterDeadline, Disk, Firmware, Network, Stop, Vm};
use hostd::host::launch::{Account, Launch};
use hostd::host::process::Signal;
use hostd::host::run::Exit;
use hostd::host::{Command, Host, users};
use hostd::vm::devices::FakeDevices;
use hostd::vm::supervisor::{Deps, VmHandle, spawn};
use hostd::vm::{access, companion, launch};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// What nothing here should ever take.
const LONG: Duration = Duration::from_secs(30);
/// A user that every machine has and that owns nothing.
const NOBODY: &str = "nobody";

/// A machine of our own; its QEMUs end with it.
struct Bench(tempfile::TempDir);

/// None where we may not become somebody else.
fn bench() -> Option<Bench> {
    if !users::is_root() {
        eprintln!("skipped: only root can become another user");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
    Some(Bench(dir))
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn host(&self) -> Host {
        let launcher = env!("CARGO_BIN_EXE_hostd").into();
        Host::real("/".into(), self.path("lib"), self.path("run")).with_launcher(launcher)
    }

    fn supervise(&self, vm: Vm) -> VmHandle {
        let (out, mut changes) = mpsc::channel(16);
        tokio::spawn(async move { while changes.recv().await.is_some() {} });
        spawn(Deps::new(self.host(), Arc::<FakeDevices>::default(), out), vm)
    }

    /// A disk of root's that switches the machine off when its power button is
    /// pressed.
    fn disk(&self) -> Disk {
        let mut sector = OBEYS.to_vec();
        sector.resize(510, 0);
        sector.extend([0x55, 0xaa]);
        sector.resize(1 << 20, 0);
        let path = self.path("boot.img");
        std::fs::write(&path, sector).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        Disk::plain(path, 1)
    }

    fn vm(&self) -> Vm {
        Vm {
            cpus: 1,
            accel: Accel::Tcg,
            firmware: Firmware::Seabios { log: true },
            network: Network::None,
            disks: vec![self.disk()],
            user: Some(NOBODY.to_owned()),
            stop: Stop { deadline: Duration::from_secs(20), then: AfterDeadline::Quit },
            ..Vm::plain("test".parse().unwrap(), Bytes(64 << 20))
        }
    }

    /// The processes that name our folder.
    fn processes(&self) -> Vec<u32> {
        let ours = self.0.path().to_str().unwrap().to_owned();
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &u32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&ours))
        })
        .collect()
    }

    fn assert_clean(&self) {
        assert_eq!(self.processes(), [0; 0], "no process stays");
        let left = std::fs::read_dir(self.path("run/vms/test")).unwrap().flatten();
        let mut left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        left.retain(|name| !name.to_str().unwrap().contains(".log"));
        assert!(left.is_empty(), "left: {left:?}");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for pid in self.processes() {
            let pid = nix::unistd::Pid::from_raw(pid.try_into().unwrap());
            // It may just have ended.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Enables the power button, waits for it, enters S5.
const OBEYS: &[u8] = &[
    0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, // out 0x602, 0x100
    0xba, 0x00, 0x06, // mov dx, 0x600
    0xed, 0xf6, 0xc4, 0x01, 0x74, 0xfa, // until in(0x600) & 0x100
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, // out 0x604, 0x2000
    0xf4, 0xeb, 0xfd, // halt
];

fn nobody() -> Account {
    users::account(NOBODY).unwrap().unwrap()
}

/// A line of `/proc/<pid>/status`, without its name.
fn status(pid: u32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = std::fs::metadata(path).unwrap();
    (meta.uid(), meta.mode() & 0o7777)
}

/// Before the guest has enabled its power button nobody feels it pressed.
async fn booted(bench: &Bench) {
    let log = bench.path("run/vms/test/firmware.log");
    let booted = async {
        while !std::fs::read_to_string(&log).is_ok_and(|log| log.contains("Booting from 0000:7c00"))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, booted).await.unwrap();
}

async fn started(handle: &VmHandle) -> Result<DoneView, Refusal> {
    timeout(LONG, handle.start()).await.unwrap()
}

#[tokio::test]
async fn runs_as_its_user_with_no_rights_and_gives_its_disk_back() {
    let Some(bench) = bench() else { return };
    let vm = bench.vm();
    let disk = vm.disks[0].path.clone();
    let handle = bench.supervise(vm);
    started(&handle).await.unwrap();
    let pid = handle.view().pid.unwrap();
    let uid = nobody().uid;
    assert_eq!(status(pid, "Uid"), [uid; 4].map(|uid| uid.to_string()).join(" "));
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "CapEff"), "0000000000000000");
    assert_eq!(status(pid, "CapPrm"), "0000000000000000");
    assert_eq!(owner(&disk), (uid, 0o600));
    assert_eq!(owner(&bench.path("run/vms/test/q")), (uid, 0o700));
    assert_eq!(owner(&bench.path("run/vms/test")).0, 0, "the notes are hostd's");
    let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    assert!(!environment.contains("CARGO"), "{environment}");
    booted(&bench).await;
    let stopped = timeout(LONG, handle.stop(false)).await.unwrap().unwrap();
    assert!(stopped.message.contains("the guest shut down on request"), "{stopped:?}");
    assert_eq!(owner(&disk), (0, 0o600));
    bench.assert_clean();
}

#[tokio::test]
async fn what_its_user_cannot_reach_is_named() {
    let Some(bench) = bench() else { return };
    let closed = bench.path("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).unwrap();
    let disk = closed.join("disk");
    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let vm = bench.vm();
    let disks = vec![vm.disks[0].clone(), Disk::plain(&disk, 2)];
    let boot = vm.disks[0].path.clone();
    let handle = bench.supervise(Vm { disks, ..vm });
    let refusal = started(&handle).await.unwrap_err();
    let expected = format!(
        "`test` could not be started: `test`: QEMU's user may not open {}: the folder {} is closed to it",
        disk.display(),
        closed.display()
    );
    assert_eq!(refusal.message, expected);
    assert!(refusal.hint.contains("user: root"), "{}", refusal.hint);
    assert_eq!(owner(&boot).0, 0, "nothing was changed");
    bench.assert_clean();
}

#[tokio::test]
async fn a_child_that_is_not_let_go_leaves() {
    let Some(bench) = bench() else { return };
    let host = bench.host();
    let (log, mark) = (bench.path("log"), bench.path("mark"));
    let command = Command::new("touch", [&mark]);
    let launch = Launch { account: Some(nobody()), ..Launch::plain(command.clone(), log.clone()) };
    let waiting = host.runner.hold(launch).unwrap();
    let process = host.processes.open(waiting.pid).unwrap().unwrap();
    drop(waiting);
    timeout(LONG, process.ended()).await.unwrap();
    assert!(!mark.exists());
    // One that is let go says what went wrong, in its log.
    let launch = Launch { account: Some(nobody()), ..Launch::plain(command, log.clone()) };
    let exit = host.runner.hold(launch).unwrap().go().ended.await.unwrap();
    assert_eq!(exit, Exit::Code(1), "nobody may not write there");
    let none = Launch::plain(Command::new("/no/such/qemu", [""; 0]), log.clone());
    let exit = host.runner.hold(none).unwrap().go().ended.await.unwrap();
    assert_eq!(exit, Exit::Code(127));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(
        said.ends_with("hostd: cannot run /no/such/qemu: No such file or directory (os error 2)\n"),
        "{said}"
    );
}

#[tokio::test]
async fn limits_are_taken() {
    let Some(bench) = bench() else { return };
    let log = bench.path("log");
    let command = Command::new("sh", ["-c", "ulimit -n; ulimit -l"]);
    let (memlock, nofile) = (Some(4 << 20), Some(1234));
    let launch = Launch { memlock, nofile, ..Launch::plain(command, log.clone()) };
    let exit = bench.host().runner.hold(launch).unwrap().go().ended.await.unwrap();
    assert_eq!(exit, Exit::Code(0));
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "1234\n4096\n");
}

#[tokio::test]
async fn a_tpm_runs_beside_qemu_as_its_user_and_leaves_with_it() {
    let Some(bench) = bench() else { return };
    if !Path::new("/usr/bin/swtpm").exists() {
        eprintln!("skipped: swtpm is not installed");
        return;
    }
    let host = bench.host();
    let vm = Vm { tpm: true, ..bench.vm() };
    let socket = bench.path("run/vms/test/q/swtpm.sock");
    let chardev = format!("socket,id=tpm,path={}", socket.display());
    let args = [
        "-nodefaults",
        "-display",
        "none",
        "-S",
        "-machine",
        "q35,accel=tcg",
        "-chardev",
        &chardev,
        "-tpmdev",
        "emulator,id=tpm0,chardev=tpm",
        "-device",
        "tpm-crb,tpmdev=tpm0",
    ]
    .map(Into::into)
    .to_vec();
    let mut begun = timeout(LONG, launch::start(&host, &vm, &[], args)).await.unwrap().unwrap();
    let tpm = begun.tpm.take().unwrap();
    let uid = nobody().uid.to_string();
    assert!(status(tpm.pid(), "Uid").starts_with(&uid));
    assert_eq!(companion::find(&host, &vm.name).unwrap().pid(), tpm.pid());
    // Its memory appears when QEMU has spoken to it.
    let memory = bench.path("lib/vms/test/tpm/tpm2-00.permall");
    let spoken = async {
        while !memory.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        exit = &mut begun.started.ended => {
            let said = std::fs::read_to_string(bench.path("run/vms/test/qemu.log")).unwrap();
            panic!("QEMU ended: {exit:?}: {said}");
        }
        spoken = timeout(LONG, spoken) => spoken.unwrap(),
    }
    let qemu = host.processes.open(begun.started.pid).unwrap().unwrap();
    qemu.signal(Signal::Kill).unwrap();
    timeout(LONG, tpm.ended()).await.unwrap();
    timeout(LONG, launch::give_back(&host, &vm.name)).await.unwrap().unwrap();
    assert!(memory.exists(), "what it keeps outlives it");
    bench.assert_clean();
}

#[tokio::test]
async fn a_start_that_was_cut_short_is_undone_by_its_notes() {
    let Some(bench) = bench() else { return };
    let (host, vm) = (bench.host(), bench.vm());
    let disk = vm.disks[0].path.clone();
    // hostd was killed between the change of hands and the start.
    let needs = [access::Need::write(&disk)];
    access::grant(&host, &vm.name, &nobody(), &needs).unwrap();
    assert_eq!(owner(&disk).0, nobody().uid);
    let handle = bench.supervise(vm);
    started(&handle).await.unwrap();
    timeout(LONG, handle.stop(true)).await.unwrap().unwrap();
    assert_eq!(owner(&disk), (0, 0o600));
    bench.assert_clean();
}

#[test]
fn guests_are_stopped_without_a_daemon() {
    let Some(bench) = bench() else { return };
    let hostd = || tokio::runtime::Runtime::new().unwrap();
    let first = hostd();
    let pid = first.block_on(async {
        let handle = bench.supervise(bench.vm());
        started(&handle).await.unwrap();
        booted(&bench).await;
        handle.view().pid.unwrap()
    });
    // It is gone as if it had been killed.
    first.shutdown_background();
    let config = bench.path("host.yaml");
    std::fs::write(&config, "").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_hostd"))
        .args(["--stop-guests", "--config"])
        .arg(&config)
        .arg("--state-dir")
        .arg(bench.path("lib"))
        .arg("--runtime-dir")
        .arg(bench.path("run"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("hostd does not answer"), "{said}");
    assert!(said.contains("off"), "{said}");
    // Ended, reaped or not.
    let state = std::fs::read_to_string(format!("/proc/{pid}/status"));
    assert!(state.map_or(true, |text| text.contains("State:\tZ")), "{said}");
    // The next hostd finds it gone, and cleans up.
    let second = hostd();
    second.block_on(async {
        let handle = bench.supervise(bench.vm());
        let mut watch = handle.watch();
        let rests = watch.wait_for(|view| {
            view.step.is_empty() && [VmState::Off, VmState::Crashed].contains(&view.state)
        });
        timeout(LONG, rests).await.unwrap().unwrap();
        assert_eq!(owner(&bench.path("boot.img")), (0, 0o600));
    });
    bench.assert_clean();
}

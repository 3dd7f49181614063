//! The second composition root: what answers without a daemon, by the same
//! library code. Nothing on the machine is changed, but for a card's ROM,
//! which is switched on to be read, for `doctor --probe`, and for the boot setup,
//! which root may change without a daemon.
//!
//! - [`read_config`]: the configuration as far as it is sound, for the daemon
//! - [`config_check`], [`config_show`], [`config_schema`]: for a person
//! - [`answer`]: groups, cards, plans, pools, disks, the machine and the doctor's checks, looked
//!   at once
//! - `boot`: the boot setup
//! - what a start of a VM would do, and its command line
//! - [`rom_check`], [`rom_save`]: ROM files of a person
//! - [`test_stream`]: recorded events through the configured streams
//! - [`vm_import`]: a VM of libvirt or Proxmox as a VM file
//! - [`picture_save`], [`plot_save`]: a guest's picture, a plot into a person's file
//! - [`pool_status_from`]: a saved capture, judged as the daemon would

mod boot;
mod config;
mod import;
mod rom;
mod streams;

use std::path::{Path, PathBuf};

use crate::ask::view::{DisksView, DoneView, ScreenshotView};
use crate::ask::{Answer, Ask, Code, Refusal, Reply};
use crate::base::Name;
use crate::base::with_sources;
use crate::config::{Config, Problems};
use crate::health::smart;
use crate::host::sys::{Kind, SysRoot};
use crate::host::{Host, Store};
use crate::passthrough::Passthrough;
use crate::state::{join, radius};
use crate::vm::plan::Plan;
use crate::vm::usb;
use crate::{doctor, health, pci, zfs};

pub use config::{
    CONFIG, Checked, ReadConfig, config_check, config_check_here, config_schema, config_show,
    read_config,
};
pub use import::vm_import;
pub use rom::{rom_check, rom_save};
pub use streams::test_stream;

/// The machine that is read.
pub struct Local {
    /// `/`, or what `--sysroot` names.
    pub sysroot: PathBuf,
    /// `/etc/hostd/host.yaml`, or what `--config` names.
    pub config: PathBuf,
}

/// Between two looks at counters.
const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

/// Largest text that a person may name.
const TEXT_LIMIT: u64 = 16 << 20;

/// The machine as `local` names it.
fn host(local: &Local) -> Host {
    let state = PathBuf::from("/var/lib/hostd");
    let mut host = Host::real(local.sysroot.clone(), state, PathBuf::from("/run/hostd"));
    if !host.sys.is_real() {
        // Another machine's files: our own journal says nothing about them.
        host.state = Store::new(local.sysroot.join("var/lib/hostd"));
    }
    host
}

/// The configuration for those who need its names and nothing else.
fn names(local: &Local) -> Result<Config, Refusal> {
    let read = read_config(&local.sysroot, &local.config);
    let wrong = |problems: Problems| Refusal::new(Code::Usage, problems.to_string(), "");
    read.map(|read| read.config).map_err(wrong)
}

/// Answers the asks that only look at the machine.
pub async fn answer(local: &Local, ask: &Ask) -> Answer {
    let host = host(local);
    // The machine is shown all the same, and what is not known of it is said.
    let (config, wrong) = match read_config(&local.sysroot, &local.config) {
        Ok(read) => (read.config, None),
        Err(problems) => (Config::default(), Some(config::see(&problems, &local.config))),
    };
    match ask {
        Ask::IommuList => {
            let facts = pci::read(&host.sys, &mut pci::Names::default());
            Ok(Reply::Iommu(pci::view(&facts)))
        }
        Ask::IommuShow { group } => pci::in_full(&host.sys, *group),
        Ask::Doctor { probe } => {
            if *probe && host.sys.is_real() && !rustix::process::geteuid().is_root() {
                let hint = "run it as root, or start hostd: systemctl start hostd";
                return Err(Refusal::new(
                    Code::Denied,
                    "opening a card's devices needs root",
                    hint,
                ));
            }
            let claims = Passthrough::new(host.clone(), config.gpus.clone()).claims();
            let (daemon, probe, changing) = (false, *probe, false);
            let question = doctor::Question { config, claims, wrong, daemon, probe, changing };
            // No daemon answers: there is nobody who could change a card meanwhile.
            Ok(Reply::Doctor(doctor::examine(&host, question, ()).await))
        }
        Ask::GpuQuirks { gpu } => {
            let cards = Passthrough::new(host, config.gpus);
            let gpu = gpu.as_deref().map(|gpu| cards.resolve_gpu(Some(gpu))).transpose()?;
            Ok(Reply::Quirks(cards.quirks(gpu.as_ref(), &config.quirks).await?))
        }
        Ask::GpuPlan { gpu, release } => plan(host, config, wrong, gpu.as_deref(), *release).await,
        Ask::GpuRomDump { gpu, strip } => {
            if host.sys.is_real() && !rustix::process::geteuid().is_root() {
                let hint = "run it as root, or start hostd: systemctl start hostd";
                return Err(Refusal::new(Code::Denied, "reading a card's ROM needs root", hint));
            }
            let cards = Passthrough::new(host, config.gpus);
            let gpu = cards.resolve_gpu(Some(gpu))?;
            Ok(Reply::RomDump(cards.rom_dump(&gpu, *strip).await?.into()))
        }
        Ask::BootPlan { .. } | Ask::BootSetup { .. } | Ask::BootRemove | Ask::BootStatus => {
            boot::answer(host, &config, wrong, ask).await
        }
        Ask::GpuList => {
            let mut view = Passthrough::new(host, config.gpus).list().await;
            let what = |why| format!("which cards are configured is not known: {why}");
            view.notes.extend(wrong.map(what));
            Ok(Reply::Gpus(view))
        }
        // Which VMs there are only the daemon knows.
        Ask::UsbList => Ok(Reply::Usb(usb::view(&host.sys, &[]))),
        Ask::PoolStatus { pool } => {
            let uses = radius::uses(&config, &host.state.path(""));
            let mut view = zfs::Observer::new(host, config.pools).settled().await;
            radius::join(&mut view, None, &uses, &[]);
            view.unread |= wrong.is_some();
            let what = |why| format!("which pools are expected is not known: {why}");
            view.notes.extend(wrong.map(what));
            if let Some(name) = pool {
                view.pools.retain(|pool| pool.name == *name);
                if view.pools.is_empty() {
                    let notes = view.notes.join("; ");
                    return Err(Refusal::new(
                        Code::NotFound,
                        format!("there is no pool {name}"),
                        notes,
                    ));
                }
            }
            Ok(Reply::Pools(view))
        }
        Ask::MachineStatus => machine(host, config, wrong).await,
        Ask::DiskStatus { disk } => {
            let mut view = smart::Observer::reading(host.clone(), config.disks).settled().await;
            let mut pools = zfs::Observer::new(host, config.pools).settled().await;
            join::vdevs(&mut pools, &view, None);
            join::places(&mut view, &pools);
            let what = |why| format!("which disks are to be left alone is not known: {why}");
            view.notes.extend(wrong.map(what));
            one_disk(view, disk.as_deref()).map(Reply::Disks)
        }
        Ask::VmPlan { name } => Ok(Reply::VmPlan(preview(host, config, wrong, name).await?.into())),
        Ask::VmArgv { name } => Ok(Reply::VmArgv(preview(host, config, wrong, name).await?.into())),
        Ask::Status
        | Ask::GpuBind { .. }
        | Ask::GpuRelease { .. }
        | Ask::GpuReset { .. }
        | Ask::VmList
        | Ask::VmStatus { .. }
        | Ask::VmStart { .. }
        | Ask::VmStop { .. }
        | Ask::VmRestart { .. }
        | Ask::VmPause { .. }
        | Ask::VmResume { .. }
        | Ask::VmReset { .. }
        | Ask::VmHibernate { .. }
        | Ask::VmKill { .. }
        | Ask::VmLog { .. }
        | Ask::VmAttach { .. }
        | Ask::VmDetach { .. }
        | Ask::VmMedia { .. }
        | Ask::VmSnapshots { .. }
        | Ask::VmSnapshotCreate { .. }
        | Ask::VmSnapshotRevert { .. }
        | Ask::VmSnapshotDelete { .. }
        | Ask::VmSerialLog { .. }
        | Ask::VmConsoleOpen { .. }
        | Ask::VmConsoleRead { .. }
        | Ask::VmConsoleWrite { .. }
        | Ask::VmConsoleClose { .. }
        | Ask::VmScreenshot { .. }
        | Ask::VmSendKey { .. }
        | Ask::PoolScrub { .. }
        | Ask::CareList { .. }
        | Ask::ServiceList
        | Ask::ServiceStatus { .. }
        | Ask::EventTail { .. }
        | Ask::EventSend { .. }
        | Ask::ServiceRestart { .. }
        | Ask::HistoryList { .. }
        | Ask::HistoryShow { .. }
        | Ask::EventQuery { .. } => Err(Refusal::new(
            Code::NoDaemon,
            "only the daemon can answer this",
            "start it with: systemctl start hostd",
        )),
    }
}

/// The machine itself; rates are of a second.
async fn machine(host: Host, config: Config, wrong: Option<String>) -> Answer {
    let (real, mut observer) = (host.sys.is_real(), health::Observer::new(host, config.health));
    let mut view = observer.round(None);
    // The counters of a saved tree stand still.
    if real {
        tokio::time::sleep(SECOND).await;
        view = observer.round(None);
    }
    let what = |why| format!("levels of your own are not known: {why}");
    view.notes.extend(wrong.map(what));
    Ok(Reply::Machine(view))
}

/// What a bind or release would do; nothing is touched.
async fn plan(
    host: Host,
    config: Config,
    wrong: Option<String>,
    gpu: Option<&str>,
    release: bool,
) -> Answer {
    let blind = host.sys.is_real() && !rustix::process::geteuid().is_root();
    let cards = Passthrough::with_quirks(host, config.gpus, config.quirks);
    let planned = match cards.resolve_gpu(gpu) {
        Ok(gpu) => cards.plan(&gpu, release).await,
        Err(error) => Err(error),
    };
    let what = |why| format!("which cards are configured is not known: {why}");
    let mut view = planned.map_err(|error| {
        let mut refusal = Refusal::from(error);
        if blind && refusal.code == Code::Failed {
            "run it as root, or start hostd: systemctl start hostd".clone_into(&mut refusal.hint);
        }
        refusal.message +=
            &wrong.clone().map_or_else(String::new, |why| format!(" ({})", what(why)));
        refusal
    })?;
    view.warnings.extend(wrong.map(what));
    if blind && !release {
        let why = "who uses the card is not known: whose files are open is shown to root only";
        view.warnings.push(why.to_owned());
    }
    Ok(Reply::Plan(view))
}

/// What a start of a VM would do; nothing is touched.
async fn preview(
    host: Host,
    config: Config,
    wrong: Option<String>,
    name: &Name,
) -> Result<Plan, Refusal> {
    let vm = config.vms.iter().find(|vm| vm.name == *name).cloned();
    let cards = Passthrough::with_quirks(host.clone(), config.gpus, config.quirks);
    match (vm, wrong) {
        (Some(vm), _) => crate::vm::preview(&host, &cards, &vm).await,
        (None, Some(why)) => {
            let message = format!("whether there is a VM {name} is not known: {why}");
            Err(Refusal::new(Code::Usage, message, "`hostctl config check` lists all problems"))
        }
        (None, None) => {
            let known: Vec<_> = config.vms.iter().map(|vm| vm.name.as_str()).collect();
            let hint = match known.as_slice() {
                [] => "write vms/NAME.yaml beside host.yaml".to_owned(),
                known => format!("there are: {}", known.join(", ")),
            };
            Err(Refusal::new(Code::NotFound, format!("there is no VM {name}"), hint))
        }
    }
}

/// One disk of all, or all.
pub fn one_disk(mut view: DisksView, name: Option<&str>) -> Result<DisksView, Refusal> {
    let Some(name) = name else { return Ok(view) };
    let known: Vec<_> = view.disks.iter().map(|disk| disk.name.clone()).collect();
    view.disks.retain(|disk| disk.name == name || disk.serial == name);
    if view.disks.is_empty() {
        let hint = format!("there are: {}", known.join(", "));
        return Err(Refusal::new(Code::NotFound, format!("there is no disk {name}"), hint));
    }
    Ok(view)
}

/// Judges a saved `zpool status`, JSON or text.
pub fn pool_status_from(text: &str) -> Answer {
    Ok(Reply::Pools(zfs::judge_capture(text)))
}

/// A text file that a person names. Bounded.
pub fn text(path: &Path) -> Result<String, Refusal> {
    bytes(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a guest's picture, with the rights of who asked for it.
pub fn picture_save(mut taken: ScreenshotView, to: &Path) -> Answer {
    taken.file = to.display().to_string();
    let bytes = std::mem::take(&mut taken.data).0;
    if taken.file != "-" {
        write(to, &bytes)?;
    }
    Ok(Reply::Screenshot(taken))
}

/// Writes a plot, with the rights of who asked for it.
pub fn plot_save(bytes: &[u8], to: &Path) -> Answer {
    write(to, bytes)?;
    Ok(Reply::Done(DoneView::changed(format!("{} is written", to.display()))))
}

/// Writes a file that a person names.
fn write(to: &Path, bytes: &[u8]) -> Result<(), Refusal> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let fail = |why: String| Refusal::new(Code::Failed, why, "nothing was written");
    // A misspelt folder is not made.
    if !matches!(SysRoot::new(folder).kind(""), Ok(Kind::Folder)) {
        return Err(fail(format!("{} is not a folder", folder.display())));
    }
    let name = to.file_name().ok_or_else(|| fail(format!("{} names no file", to.display())))?;
    Store::new(folder).write_bytes(name, bytes).map_err(|error| fail(with_sources(&error)))
}

/// A file that a person names. Bounded.
fn bytes(path: &Path) -> Result<Vec<u8>, Refusal> {
    let folder = SysRoot::new(path.parent().unwrap_or(Path::new("")));
    let read = folder.stream(path.file_name().unwrap_or_default(), TEXT_LIMIT);
    read.map_err(|error| {
        let hint = if error.is_missing() {
            "look whether the path is right".to_owned()
        } else {
            format!("name a file that you may read, of at most {} MiB", TEXT_LIMIT >> 20)
        };
        Refusal::new(Code::Usage, format!("cannot read {}: {}", path.display(), error.why()), hint)
    })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make files")]
mod tests;

//! The vocabulary between a person and the daemon.
//!
//! An [`Ask`] goes in, a [`Reply`] or a [`Refusal`] comes back; both travel as
//! JSON documents over D-Bus. The views in [`view`] are what `--json` prints:
//! their keys are a contract, more may be added, none are renamed.
//!
//! Read [`Ask`] first.

pub mod view;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::base::Name;
pub use view::{Hex, Secret};

/// What a person or a policy may ask of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Ask {
    /// Everything at a glance.
    Status,
    /// Everything that decides whether a VM with a card will work.
    Doctor {
        /// Open the devices of free cards, which resets them.
        probe: bool,
    },
    /// IOMMU groups with their verdicts.
    IommuList,
    /// The same with all that the machine tells; wakes devices that sleep.
    IommuShow {
        /// One group; all when absent.
        group: Option<u32>,
    },
    /// The configured graphics cards and what they are bound to.
    GpuList,
    /// The quirks that apply to the cards.
    GpuQuirks {
        /// Configured name or address; all when absent.
        gpu: Option<String>,
    },
    /// Read a card's ROM out of it.
    GpuRomDump {
        /// Configured name or address.
        gpu: String,
        /// Without what stands before the first image.
        strip: bool,
    },
    /// The steps that `GpuBind` or `GpuRelease` would take.
    GpuPlan {
        /// Configured name or address; the only one when absent.
        gpu: Option<String>,
        /// Plan the way back instead.
        release: bool,
    },
    /// Give a card to vfio-pci.
    GpuBind {
        /// Configured name or address; the only one when absent.
        gpu: Option<String>,
    },
    /// Reset a bound card that nobody uses, all functions at once.
    GpuReset {
        /// Configured name or address; the only one when absent.
        gpu: Option<String>,
    },
    /// Give a card back to the drivers it had.
    GpuRelease {
        /// Configured name or address; the only one when absent.
        gpu: Option<String>,
    },
    /// What `BootSetup` or `BootRemove` would do.
    BootPlan {
        /// Configured names or addresses; all configured ones when empty.
        gpus: Vec<String>,
        /// Plan the removal instead.
        remove: bool,
    },
    /// Set cards up to be on vfio-pci from the next boot on.
    BootSetup {
        /// Configured names or addresses; all configured ones when empty.
        gpus: Vec<String>,
    },
    /// Take the boot setup away.
    BootRemove,
    /// Whether the boot setup is there and works.
    BootStatus,
    /// All VMs.
    VmList,
    /// One VM.
    VmStatus {
        /// The VM.
        name: Name,
    },
    /// Start a VM; answers when it runs or has failed to.
    VmStart {
        /// The VM.
        name: Name,
    },
    /// Stop a VM; answers when it is off or has refused to go.
    VmStop {
        /// The VM.
        name: Name,
        /// Quit QEMU when the deadline has passed, whatever the VM's file says.
        force: bool,
    },
    /// Stop a VM if it runs, and start it.
    VmRestart {
        /// The VM.
        name: Name,
        /// Quit QEMU when the deadline has passed, whatever the VM's file says.
        force: bool,
    },
    /// Halt the guest's processors.
    VmPause {
        /// The VM.
        name: Name,
    },
    /// Let them run again, or wake a guest that sleeps.
    VmResume {
        /// The VM.
        name: Name,
    },
    /// Press the reset button.
    VmReset {
        /// The VM.
        name: Name,
    },
    /// Have the guest hibernate, through its agent.
    VmHibernate {
        /// The VM.
        name: Name,
    },
    /// End QEMU at once, as if the power went.
    VmKill {
        /// The VM.
        name: Name,
    },
    /// What `VmStart` would do, and what stands against it.
    VmPlan {
        /// The VM.
        name: Name,
    },
    /// QEMU's command line.
    VmArgv {
        /// The VM.
        name: Name,
    },
    /// What the VM has written: QEMU's messages, and the firmware's if kept.
    VmLog {
        /// The VM.
        name: Name,
        /// The firmware's debug port instead of QEMU's messages.
        firmware: bool,
    },
    /// Give a USB device to a running VM.
    VmAttach {
        /// The VM.
        name: Name,
        /// An id, a port, or a part of the device's name.
        device: String,
    },
    /// Take a USB device from a running VM.
    VmDetach {
        /// The VM.
        name: Name,
        /// An id, a port, or a part of the device's name.
        device: String,
    },
    /// Change the medium in a CD-ROM drive of a running VM.
    VmMedia {
        /// The VM.
        name: Name,
        /// The drive; the only one when absent.
        drive: Option<String>,
        /// A disc's image on the host; the drive is emptied when absent.
        file: Option<String>,
        /// Whether the guest holds the tray closed or not.
        force: bool,
    },
    /// USB devices of the host.
    UsbList,
    /// The snapshots of a VM.
    VmSnapshots {
        /// The VM.
        name: Name,
    },
    /// Make a snapshot of all disks of a VM.
    VmSnapshotCreate {
        /// The VM.
        name: Name,
        /// What it will be called; made up when absent.
        snapshot: Option<Name>,
    },
    /// Take a VM that is off back to a snapshot.
    VmSnapshotRevert {
        /// The VM.
        name: Name,
        /// Which.
        snapshot: Name,
        /// Newer snapshots of hostd's may go.
        yes: bool,
    },
    /// Remove a snapshot.
    VmSnapshotDelete {
        /// The VM.
        name: Name,
        /// Which.
        snapshot: Name,
    },
    /// What the guest has written to its serial port.
    VmSerialLog {
        /// The VM.
        name: Name,
    },
    /// Take hold of the guest's serial port.
    VmConsoleOpen {
        /// The VM.
        name: Name,
        /// From whoever has it now.
        take: bool,
    },
    /// What the guest has written since; waits a while for something.
    VmConsoleRead {
        /// The VM.
        name: Name,
        /// From `VmConsoleOpen`: who knows it may go on.
        session: Secret,
    },
    /// Type into the guest's serial port.
    VmConsoleWrite {
        /// The VM.
        name: Name,
        /// From `VmConsoleOpen`.
        session: Secret,
        /// What is typed.
        data: Hex,
    },
    /// Let go of the guest's serial port.
    VmConsoleClose {
        /// The VM.
        name: Name,
        /// From `VmConsoleOpen`.
        session: Secret,
    },
    /// The guest's picture, of a graphics card that QEMU makes.
    VmScreenshot {
        /// The VM.
        name: Name,
    },
    /// Press keys of the guest's keyboard.
    VmSendKey {
        /// The VM.
        name: Name,
        /// Each is keys that are pressed together: `ctrl-alt-delete`.
        keys: Vec<Secret>,
        /// Typed after that, on a US keyboard.
        text: Secret,
        /// How long each is held, in milliseconds.
        hold: Option<u32>,
    },
    /// Pools with their judgement.
    PoolStatus {
        /// One pool; all when absent.
        pool: Option<String>,
    },
    /// Start, pause or stop a scrub.
    PoolScrub {
        /// The pool.
        pool: String,
        /// Which of these.
        act: ScrubAct,
    },
    /// What hostd does for pools by itself: scrubs and snapshots.
    CareList {
        /// Only this kind: `scrub`, `snapshots`; all when absent.
        kind: Option<String>,
    },
    /// Disks with their health.
    DiskStatus {
        /// One disk; all when absent.
        disk: Option<String>,
    },
    /// What is measured of the machine itself.
    MachineStatus,
    /// The watched services.
    ServiceList,
    /// The same with their layers and what they serve.
    ServiceStatus {
        /// One service; all when absent.
        service: Option<String>,
    },
    /// Restart the unit or container of a watched service.
    ServiceRestart {
        /// The service, as `ServiceList` calls it.
        name: String,
    },
    /// The series that are kept.
    HistoryList {
        /// In the query language, on host, service and state; `true` for all.
        query: String,
    },
    /// What was: numbers and states of one service.
    HistoryShow {
        /// The service.
        service: String,
        /// The host; our own, or the only one that has it, when absent.
        host: Option<String>,
        /// How long ago, or a local date; empty for a day ago.
        since: String,
        /// The same; empty for now.
        until: String,
        /// Points at most, about; 0 for the usual.
        points: u32,
    },
    /// Events of the index that match a query.
    EventQuery {
        /// In the query language; `true` for all.
        query: String,
    },
    /// What is published from now on and matches; see [`view::TailView`].
    EventTail {
        /// In the query language; of no meaning with a session.
        query: String,
        /// From the answer before; a new one when absent.
        session: Option<u64>,
    },
    /// Take in events as another program's.
    EventSend {
        /// A JSON list of [`view::EventView`]s; any key may be left out.
        events: String,
    },
}

impl Ask {
    /// The right that this ask needs; `None` for those that only look.
    pub fn right(&self) -> Option<Right> {
        match self {
            Self::Status
            | Self::Doctor { probe: false }
            | Self::IommuList
            | Self::IommuShow { .. }
            | Self::GpuList
            | Self::GpuQuirks { .. }
            | Self::GpuPlan { .. }
            | Self::BootPlan { .. }
            | Self::BootStatus
            | Self::VmList
            | Self::VmStatus { .. }
            | Self::VmPlan { .. }
            | Self::VmArgv { .. }
            | Self::VmLog { .. }
            | Self::UsbList
            | Self::VmSnapshots { .. }
            | Self::PoolStatus { .. }
            | Self::CareList { .. }
            | Self::DiskStatus { .. }
            | Self::MachineStatus
            | Self::ServiceList
            | Self::ServiceStatus { .. }
            | Self::EventTail { .. }
            | Self::HistoryList { .. }
            | Self::HistoryShow { .. }
            | Self::EventQuery { .. }
            // The session is the right: it was given to who had it.
            | Self::VmConsoleRead { .. }
            | Self::VmConsoleWrite { .. }
            | Self::VmConsoleClose { .. } => None,
            Self::Doctor { probe: true }
            | Self::GpuBind { .. }
            | Self::GpuRelease { .. }
            | Self::GpuReset { .. }
            | Self::GpuRomDump { .. } => Some(Right::GpuOperate),
            Self::BootSetup { .. } | Self::BootRemove => Some(Right::BootSetup),
            Self::VmStart { .. }
            | Self::VmStop { .. }
            | Self::VmRestart { .. }
            | Self::VmPause { .. }
            | Self::VmResume { .. }
            | Self::VmReset { .. }
            | Self::VmHibernate { .. }
            | Self::VmKill { .. }
            | Self::VmAttach { .. }
            | Self::VmDetach { .. }
            | Self::VmMedia { .. }
            | Self::VmSnapshotCreate { .. }
            | Self::VmSnapshotRevert { .. }
            | Self::VmSnapshotDelete { .. } => Some(Right::VmOperate),
            Self::VmSerialLog { .. }
            | Self::VmConsoleOpen { .. }
            | Self::VmScreenshot { .. }
            | Self::VmSendKey { .. } => Some(Right::VmConsole),
            Self::PoolScrub { .. } => Some(Right::PoolOperate),
            Self::ServiceRestart { .. } => Some(Right::ServiceOperate),
            Self::EventSend { .. } => Some(Right::EventSend),
        }
    }
}

/// What is to happen to a pool's scrub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScrubAct {
    /// Start one, or let a paused one go on.
    Start,
    /// Halt it where it is.
    Pause,
    /// Give it up.
    Stop,
}

impl ScrubAct {
    /// As it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Stop => "stop",
        }
    }
}

/// A right that polkit knows as an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Bind and release graphics cards.
    GpuOperate,
    /// Start and stop VMs.
    VmOperate,
    /// See what guests show and type into them.
    VmConsole,
    /// Start, pause and stop scrubs.
    PoolOperate,
    /// Restart watched services.
    ServiceOperate,
    /// Send events.
    EventSend,
    /// Change what the machine does at boot.
    BootSetup,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::GpuOperate,
        Self::VmOperate,
        Self::VmConsole,
        Self::PoolOperate,
        Self::ServiceOperate,
        Self::EventSend,
        Self::BootSetup,
    ];

    /// The polkit action id.
    pub fn action(self) -> &'static str {
        match self {
            Self::GpuOperate => "org.hostd.Host1.gpu.operate",
            Self::VmOperate => "org.hostd.Host1.vm.operate",
            Self::VmConsole => "org.hostd.Host1.vm.console",
            Self::PoolOperate => "org.hostd.Host1.pool.operate",
            Self::ServiceOperate => "org.hostd.Host1.service.operate",
            Self::EventSend => "org.hostd.Host1.event.send",
            Self::BootSetup => "org.hostd.Host1.boot.setup",
        }
    }
}

/// What comes back when the ask was granted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", content = "view", rename_all = "kebab-case")]
pub enum Reply {
    /// To `Status`.
    Status(view::StatusView),
    /// To `Doctor`.
    Doctor(view::DoctorView),
    /// To `IommuList` and `IommuShow`.
    Iommu(view::IommuView),
    /// To `GpuList`.
    Gpus(view::GpusView),
    /// To `GpuQuirks`.
    Quirks(view::QuirksView),
    /// What a ROM file is.
    Rom(view::RomView),
    /// To `GpuRomDump`.
    RomDump(view::RomDumpView),
    /// To `GpuPlan`.
    Plan(view::PlanView),
    /// To `BootPlan`.
    BootPlan(view::BootPlanView),
    /// To `BootStatus`.
    BootStatus(view::BootStatusView),
    /// To `VmList`, and to `VmStatus` with one entry.
    Vms(view::VmsView),
    /// To `VmPlan`.
    VmPlan(view::VmPlanView),
    /// To `VmArgv`.
    VmArgv(view::VmArgvView),
    /// To `VmLog`.
    /// To `VmConsoleOpen`.
    Console(view::ConsoleView),
    /// To `VmConsoleRead` and `VmConsoleWrite`.
    ConsoleData(view::ConsoleDataView),
    /// To `VmScreenshot`.
    Screenshot(view::ScreenshotView),
    /// To `VmLog` and `VmSerialLog`.
    Log(view::LogView),
    /// To `UsbList`.
    Usb(view::UsbView),
    /// To `VmSnapshots`.
    Snapshots(view::SnapshotsView),
    /// To `PoolStatus`.
    Pools(view::PoolsView),
    /// To `CareList`.
    Care(view::CareView),
    /// To `DiskStatus`.
    Disks(view::DisksView),
    /// To `MachineStatus`.
    Machine(view::MachineView),
    /// To `ServiceList` and `ServiceStatus`.
    Services(view::ServicesView),
    /// To `EventTail`.
    Tail(view::TailView),
    /// To `HistoryList`.
    HistoryList(view::HistoryListView),
    /// To `HistoryShow`.
    History(view::HistoryView),
    /// To `EventQuery`.
    Events(view::EventsView),
    /// To nothing that is asked: hostctl makes it by itself.
    Replay(view::ReplayView),
    /// To an ask that acts.
    Done(view::DoneView),
}

/// Why an ask was not granted; also hostctl's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// The words of the ask are wrong, or the configuration is. Exit 2.
    Usage,
    /// The caller has not the right. Exit 3.
    Denied,
    /// Nobody answers. Exit 4.
    NoDaemon,
    /// No such VM, GPU, pool. Exit 5.
    NotFound,
    /// The state of things forbids it. Exit 5.
    Refused,
    /// It was tried and failed. Exit 5.
    Failed,
}

impl Code {
    /// The exit code of hostctl.
    pub fn exit(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Denied => 3,
            Self::NoDaemon => 4,
            Self::NotFound | Self::Refused | Self::Failed => 5,
        }
    }
}

/// An ask that was not granted: the object and the reason, and the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of no.
    pub code: Code,
    /// The object and the reason; may have several lines.
    pub message: String,
    /// The next step for the person; empty when there is none.
    #[serde(default)]
    pub hint: String,
}

impl Refusal {
    /// A refusal with a next step.
    pub fn new(code: Code, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: hint.into() }
    }
}

/// Who asks, as the transport proved it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// User id of the peer.
    pub uid: u32,
    /// For the record: `uid 1000 over the system bus`.
    pub label: String,
}

/// An ask on its way to the daemon. Whoever sends it has already checked that
/// the caller has the [`Ask::right`] it needs.
pub struct Asked {
    /// What is asked.
    pub ask: Ask,
    /// By whom.
    pub caller: Caller,
    /// Where the answer goes; the asker may have left.
    pub answer: oneshot::Sender<Answer>,
}

/// What comes back.
pub type Answer = Result<Reply, Refusal>;

/// The bounded way in.
pub type Asks = mpsc::Sender<Asked>;

/// Sends one ask and waits for its answer.
pub async fn put(asks: &Asks, ask: Ask, caller: Caller) -> Answer {
    let gone = || Refusal::new(Code::NoDaemon, "hostd is shutting down", "");
    let (answer, answered) = oneshot::channel();
    asks.send(Asked { ask, caller, answer }).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}

//! What the rest of hostd holds of a VM.

use crate::base::with_sources;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedRwLockWriteGuard, RwLock, mpsc, oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::files::apart;
use super::{Asked, Bar, ENDED, Outcome};
use crate::ask::view::{LogView, VmView};
use crate::ask::{Code, Refusal};
use crate::config::{Firmware, Vm};
use crate::host::Host;
use crate::vm::agent::Agent;
use crate::vm::lifecycle::Request;
use crate::vm::paths;
use crate::vm::qmp::Qmp;
use crate::vm::talk::Consoles;

/// How much of a log is shown.
const LOG_SHOWN: u64 = 256 << 10;

/// How long a supervisor's end may take to be told.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The way to one VM's supervisor; cheap to clone.
#[derive(Clone)]
pub struct VmHandle {
    pub(super) vm: Arc<Vm>,
    pub(super) bar: Option<Bar>,
    pub(super) host: Host,
    pub(super) requests: mpsc::Sender<Asked>,
    pub(super) view: watch::Receiver<VmView>,
    pub(super) qmp: watch::Receiver<Option<Qmp>>,
    /// The guest's agent, if it is to have one.
    pub(super) agent: Option<Agent>,
    /// Held for reading by a start, for writing by whoever works on its disks.
    pub(super) work: Arc<RwLock<()>>,
    pub(super) consoles: Consoles,
    /// One picture is taken after the other: QEMU writes them into one file.
    pub(super) screen: Arc<tokio::sync::Mutex<()>>,
    pub(super) task: AbortHandle,
}

impl VmHandle {
    /// Starts the VM; answers when it runs or has failed to.
    pub async fn start(&self) -> Outcome {
        self.start_because("on request").await
    }

    /// The same for another reason than that a person wants it.
    pub async fn start_because(&self, why: &'static str) -> Outcome {
        match &self.bar {
            Some(bar) => Err(bar.refusal(&self.vm.name)),
            None => self.put_because(Request::Start, why).await,
        }
    }

    /// Stops the VM if it runs, and starts it.
    pub async fn restart(&self, force: bool) -> Outcome {
        if let Some(bar) = &self.bar {
            // Not down, when it could not come up again.
            return Err(bar.refusal(&self.vm.name));
        }
        self.stop(force).await?;
        self.start_because("on request, after a stop").await
    }

    /// Halts the guest's processors.
    pub async fn pause(&self) -> Outcome {
        self.put(Request::Pause).await
    }

    /// Lets them run again, or wakes a guest that sleeps.
    pub async fn resume(&self) -> Outcome {
        self.put(Request::Resume).await
    }

    /// Presses the reset button.
    pub async fn reset(&self) -> Outcome {
        self.put(Request::Reset).await
    }

    /// Has the guest hibernate; answers when it is off or has refused to.
    pub async fn hibernate(&self) -> Outcome {
        self.put(Request::Hibernate).await
    }

    /// Stops the VM; answers when it is off or has refused to go.
    pub async fn stop(&self, force: bool) -> Outcome {
        self.put(Request::Stop { force }).await
    }

    /// Ends QEMU at once.
    pub async fn kill(&self) -> Outcome {
        self.put(Request::Kill).await
    }

    async fn put(&self, request: Request) -> Outcome {
        self.put_because(request, "on request").await
    }

    async fn put_because(&self, request: Request, why: &'static str) -> Outcome {
        let (answer, answered) = oneshot::channel();
        if self.requests.send(Asked { request, why, answer }).await.is_ok()
            && let Ok(outcome) = answered.await
        {
            return outcome;
        }
        // It says why a moment after it has ended.
        let mut view = self.view.clone();
        let said = timeout(LAST_WORDS, view.wait_for(|view| view.reason.starts_with(ENDED))).await;
        let why = match said {
            Ok(Ok(view)) => view.reason.clone(),
            Ok(Err(_)) | Err(_) => "hostd is going down".to_owned(),
        };
        let message = format!("`{}` is not supervised any more: {why}", self.vm.name);
        Err(Refusal::new(Code::Failed, message, "restart hostd; a running VM stays"))
    }

    /// How the VM is.
    pub fn view(&self) -> VmView {
        self.view.borrow().clone()
    }

    /// How the VM is, for waiting until that changes.
    pub fn watch(&self) -> watch::Receiver<VmView> {
        self.view.clone()
    }

    /// The way to speak to its QEMU, while it runs and answers.
    pub fn qmp(&self) -> Result<Qmp, Refusal> {
        self.qmp.borrow().clone().ok_or_else(|| {
            let (name, view) = (&self.vm.name, self.view());
            let message = format!("`{name}` is {}: {}", view.state.as_str(), view.reason);
            Refusal::new(Code::Refused, message, "this needs a VM that runs and answers")
        })
    }

    /// Keeps it from being started while its disks are worked on, for as long
    /// as what comes back is held.
    pub(super) fn hold_disks(&self) -> Result<OwnedRwLockWriteGuard<()>, Refusal> {
        Arc::clone(&self.work).try_write_owned().map_err(|_| {
            let name = &self.vm.name;
            let message = format!("`{name}` is being started, or its disks are being worked on");
            Refusal::new(Code::Refused, message, "try again when that is done")
        })
    }

    /// Its file, as it was when it was taken under supervision.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// The end of what QEMU, or the guest's firmware, has said.
    pub async fn log(&self, firmware: bool) -> Result<LogView, Refusal> {
        let (vm, log) =
            (&self.vm.name, matches!(self.vm.firmware, Firmware::Seabios { log: true }));
        if firmware && !log {
            let message = format!("`{vm}` keeps no firmware log");
            let hint = "SeaBIOS can: turn on `log` of its `firmware` in the VM's file";
            return Err(Refusal::new(Code::NotFound, message, hint));
        }
        let file = if firmware { paths::FIRMWARE_LOG } else { paths::LOG };
        self.log_file(file, "has no log yet", "it is written when the VM starts").await
    }

    /// The end of a log; `none` and `hint` say that there is none.
    pub(super) async fn log_file(
        &self,
        file: &str,
        none: &str,
        hint: &str,
    ) -> Result<LogView, Refusal> {
        let vm = &self.vm.name;
        let name = paths::name(vm, file);
        let path = self.host.runtime.path(&name).display().to_string();
        let store = self.host.runtime.clone();
        match apart(move || store.tail(&name, LOG_SHOWN)).await? {
            Ok(Some(text)) => Ok(LogView { text, path }),
            Ok(None) => {
                let message = format!("`{vm}` {none}: {path} does not exist");
                Err(Refusal::new(Code::NotFound, message, hint))
            }
            Err(error) => Err(Refusal::new(Code::Failed, with_sources(&error), "")),
        }
    }

    /// Ends the supervisor where it stands, as if hostd was killed. The VM is
    /// left as it is, for the next supervisor to adopt.
    pub fn abandon(&self) {
        self.task.abort();
    }
}

//! What people see of a guest and tell it: past the supervisor's task, because
//! the VM's state does not change by it.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::VmHandle;
use super::files::apart;
use crate::ask::view::{ConsoleDataView, ConsoleView, DoneView, LogView, ScreenshotView, VmState};
use crate::ask::{Caller, Code, Refusal, Secret};
use crate::base::with_sources;
use crate::vm::identity::Uuid;
use crate::vm::paths::{self, Paths};
use crate::vm::qmp::wire::Command;
use crate::vm::talk::{keys, screen};

/// How long QEMU may take to press a key.
const PRESS: Duration = Duration::from_secs(5);
/// How long after its serial port a VM may end, for its state to tell why.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl VmHandle {
    /// Lets a person have the guest's serial port.
    pub async fn console_open(&self, caller: &Caller, take: bool) -> Result<ConsoleView, Refusal> {
        let (name, view) = (&self.vm.name, self.view());
        if view.pid.is_none() {
            let message = format!("`{name}` is {}: {}", view.state.as_str(), view.reason);
            let hint = format!("`hostctl vm start {name}` starts it");
            return Err(Refusal::new(Code::Refused, message, hint));
        }
        let host = self.host.clone();
        let socket = Paths::new(&host, name).serial;
        let (file, sys, store) = (paths::name(name, paths::SERIAL), host.sys, host.runtime);
        let (there, secret) = apart(move || (is_there(&store, &file), Uuid::random(&sys))).await?;
        // A file that was changed says nothing about the QEMU that runs.
        if !there {
            let message = format!("`{name}` runs without a serial port");
            let hint = if self.vm.serial {
                "it has one after a restart of the VM"
            } else {
                "`serial: true` in the VM's file gives it one at the next start"
            };
            return Err(Refusal::new(Code::Refused, message, hint));
        }
        let secret = secret
            .map_err(|error| Refusal::new(Code::Failed, with_sources(&error), ""))?
            .to_string();
        let session = Secret::new(secret);
        let at = (&*self.host.dial, socket.as_path());
        self.consoles.open(name.as_str(), at, caller, session.clone(), take).await?;
        Ok(ConsoleView { session })
    }

    /// What the guest has written to its serial port.
    pub async fn console_read(
        &self,
        caller: &Caller,
        session: Secret,
    ) -> Result<ConsoleDataView, Refusal> {
        let read = self.consoles.read(caller, session).await?;
        let Some(why) = &read.ended else { return Ok(read) };
        if !(why.starts_with("QEMU") || why.contains("is lost")) {
            return Ok(read);
        }
        // QEMU is ending most often, and the VM's state tells more in a moment.
        let mut view = self.view.clone();
        let rests = |state| matches!(state, VmState::Off | VmState::Crashed | VmState::Failed);
        let Ok(Ok(vm)) = timeout(LAST_WORDS, view.wait_for(|view| rests(view.state))).await else {
            return Ok(read);
        };
        let why = format!("`{}` is {}: {}", vm.name, vm.state.as_str(), vm.reason);
        Ok(ConsoleDataView { ended: Some(why), ..read })
    }

    /// Types into the guest's serial port.
    pub async fn console_write(
        &self,
        caller: &Caller,
        session: Secret,
        data: &[u8],
    ) -> Result<ConsoleDataView, Refusal> {
        self.consoles.write(caller, session, data).await
    }

    /// Lets go of the guest's serial port.
    pub fn console_close(&self, caller: &Caller, session: Secret) -> Result<DoneView, Refusal> {
        let changed = self.consoles.close(caller, session)?;
        let message = format!("`{}`'s serial port is free", self.vm.name);
        Ok(DoneView { changed, message, warnings: Vec::new() })
    }

    /// The end of what the guest has written to its serial port.
    pub async fn serial_log(&self) -> Result<LogView, Refusal> {
        let hint = "`serial: true` in the VM's file gives it a serial port at the next start";
        self.log_file(paths::SERIAL_LOG, "has written nothing to a serial port", hint).await
    }

    /// The guest's picture.
    pub async fn screenshot(&self) -> Result<ScreenshotView, Refusal> {
        let _turn = self.screen.lock().await;
        screen::take(&self.qmp()?, &self.host, &self.vm.name).await
    }

    /// Presses keys of the guest's keyboard, then types text.
    pub async fn send_key(
        &self,
        keys: &[Secret],
        text: &Secret,
        hold: Option<u32>,
    ) -> Result<DoneView, Refusal> {
        let (name, strokes) = (&self.vm.name, keys::strokes(keys, text, hold)?);
        let qmp = self.qmp()?;
        let view = self.view();
        if view.state != VmState::Running {
            let message = format!("`{name}` is {}: {}", view.state.as_str(), view.reason);
            let hint = "its keyboard is looked at when it runs";
            return Err(Refusal::new(Code::Refused, message, hint));
        }
        let count = strokes.chords.len();
        for keys in strokes.chords {
            let pressed = qmp.ask(Command::SendKey { keys, hold: strokes.hold }, PRESS).await;
            pressed.map_err(|error| {
                let message =
                    format!("`{name}`: a key could not be pressed: {}", with_sources(&error));
                Refusal::new(Code::Failed, message, "`hostctl vm status` shows how it is")
            })?;
            // QEMU lets go of the keys by itself; a keyboard has room for a few.
            sleep(Duration::from_millis(2 * u64::from(strokes.hold))).await;
        }
        let times = if count == 1 { "1 key was" } else { &format!("{count} keys were") };
        let message = format!("`{name}`: {times} pressed");
        Ok(DoneView { changed: true, message, warnings: Vec::new() })
    }
}

fn is_there(store: &crate::host::Store, file: &std::path::Path) -> bool {
    let folder = file.parent().unwrap_or(file);
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    store.list(folder).is_ok_and(|names| names.iter().any(|there| there == name))
}

//! What is done to a VM's disks from outside its task: snapshots. As long as it
//! lasts, the VM is not started; see [`VmHandle::hold_disks`].

use std::sync::Arc;

use tracing::warn;

use super::live::Live;
use super::{Supervisor, VmHandle};
use crate::ask::view::{DoneView, SnapshotsView, VmState};
use crate::ask::{Code, Refusal};
use crate::base::{Name, with_sources};
use crate::vm::lifecycle::Observation;
use crate::vm::qmp::Qmp;
use crate::vm::snapshot::{self, Freeze, Guest, Why};

impl Supervisor {
    /// Takes the disks for a start, until it has ended.
    pub(super) fn take_disks(&mut self) -> Result<(), Refusal> {
        let taken = Arc::clone(&self.work).try_read_owned();
        self.busy = Some(taken.map_err(|_| {
            let message = format!(
                "`{}` cannot start now: a snapshot of it is being made, removed or gone back to",
                self.vm.name
            );
            Refusal::new(Code::Refused, message, "start it again when that is done")
        })?);
        Ok(())
    }

    /// Whether its disks are those of one moment; if not, says why it stays down.
    pub(super) async fn may_start_again(&mut self) -> bool {
        let looked = self.with_files(snapshot::unfinished).await;
        let why = match looked {
            Ok(None) => return true,
            Ok(Some((what, _))) => what,
            Err(refusal) => refusal.message,
        };
        let more = format!("not started again: {why}");
        self.observe(Observation::Remark { more }).await;
        false
    }

    /// Lets a guest go on that an earlier hostd has halted for a snapshot.
    pub(super) async fn go_on(&self, live: &Live) -> bool {
        let Some(qmp) = live.talk.qmp() else { return false };
        let went = snapshot::let_go_if_left(&self.host, &self.vm.name, qmp).await;
        went.unwrap_or_else(|error| {
            warn!(vm = %self.vm.name, "halted for a snapshot: {}", with_sources(&error));
            false
        })
    }
}

impl VmHandle {
    /// Its snapshots.
    pub async fn snapshots(&self) -> Result<SnapshotsView, Refusal> {
        let busy = self.work.try_read().is_err();
        let mut view = snapshot::list(&self.host, &self.vm.name).await?;
        if busy {
            view.notes.push("one is being made, removed or gone back to at the moment".to_owned());
        }
        Ok(view)
    }

    /// Makes a snapshot of all its disks, whether it runs or not.
    pub async fn snapshot(&self, name: Option<Name>) -> Result<DoneView, Refusal> {
        self.has_a_file()?;
        let _disks = self.hold_disks()?;
        let qmp = self.disks_are_with()?;
        // One that never spoke, or is silent, would only be waited for.
        let speaks = self.view().agent == Some(true);
        let agent = self.agent.as_ref().filter(|_| speaks).map(|agent| agent as &dyn Freeze);
        let guest = qmp.as_ref().map_or(Guest::Off, |qmp| Guest::Runs { qmp, agent });
        let made = snapshot::create(&self.host, &self.vm, guest, name, Why::Person).await?;
        Ok(DoneView { changed: true, message: made.message, warnings: made.warnings })
    }

    /// Goes back to a snapshot; `yes` allows newer ones of hostd's to go.
    pub async fn revert(&self, snapshot: &Name, yes: bool) -> Result<DoneView, Refusal> {
        self.has_a_file()?;
        let _disks = self.hold_disks()?;
        if self.disks_are_with()?.is_some() {
            let (name, state) = (&self.vm.name, self.view().state);
            let message = format!("`{name}` is {}: going back needs it off", state.as_str());
            let hint = format!("`hostctl vm stop {name}`, then again");
            return Err(Refusal::new(Code::Refused, message, hint));
        }
        snapshot::revert(&self.host, &self.vm, snapshot, yes).await
    }

    /// Removes a snapshot.
    pub async fn delete_snapshot(&self, snapshot: &Name) -> Result<DoneView, Refusal> {
        let _disks = self.hold_disks()?;
        let qmp = self.disks_are_with()?;
        snapshot::delete(&self.host, &self.vm, qmp.as_ref(), snapshot).await
    }

    fn has_a_file(&self) -> Result<(), Refusal> {
        self.bar.as_ref().map_or(Ok(()), |bar| Err(bar.refusal(&self.vm.name)))
    }

    /// The QEMU that has its disks open; nothing when none has.
    fn disks_are_with(&self) -> Result<Option<Qmp>, Refusal> {
        let (name, view) = (&self.vm.name, self.view());
        let busy = || {
            let message = format!("`{name}` is {}: {}", view.state.as_str(), view.reason);
            Refusal::new(Code::Refused, message, "try again when it runs or is off")
        };
        match view.state {
            VmState::Running | VmState::Paused => self.qmp().map(Some),
            // Without a process: what is left over of it has no disk open.
            VmState::Off | VmState::Crashed | VmState::Failed
                if view.pid.is_none() && view.step.is_empty() =>
            {
                Ok(None)
            }
            VmState::Off
            | VmState::Crashed
            | VmState::Failed
            | VmState::Preparing
            | VmState::Starting
            | VmState::Stopping => Err(busy()),
        }
    }
}

//! What the host does for a VM: memory and quiet, made before QEMU starts and
//! put back when it has ended.

use tracing::warn;

use super::Supervisor;
use super::live::ANSWER;
use crate::ask::{Code, Refusal};
use crate::base::{PciAddress, with_sources};
use crate::config::{Hugepages, Pinning, Topology, Vm};
use crate::vm::performance::{self, Threads};
use crate::vm::plan::pci_node;
use crate::vm::qmp::wire::{self, Command};
use crate::vm::qmp::{Qmp, QmpError};

impl Supervisor {
    fn wants_room(&self) -> bool {
        self.vm.performance.is_some() || self.vm.pinning != Pinning::Off
    }

    /// Makes memory free, before anything else of the host is touched.
    pub(super) async fn make_memory(&mut self) -> Result<(), Refusal> {
        self.step("looking for memory").await;
        let (rooms, vm) = (self.rooms.clone(), self.vm.clone());
        self.hearing(async move { rooms.memory_before_launch(&vm).await }).await.map(drop)
    }

    /// Chooses the guest's processors and makes the host keep off them. Back
    /// come the VM as the guest is to see it, and what could not be done.
    pub(super) async fn make_room(
        &mut self,
        devices: &[PciAddress],
    ) -> Result<(Vm, Vec<String>), Refusal> {
        let mut vm = Vm::clone(&self.vm);
        if !self.wants_room() {
            return Ok((vm, Vec::new()));
        }
        self.step("making room on the host's processors").await;
        let near = devices.first().and_then(|device| pci_node(&self.host, *device));
        let (rooms, wanted) = (self.rooms.clone(), vm.clone());
        let ready =
            self.hearing(async move { rooms.profile_before_launch(&wanted, near).await }).await?;
        if let (None, Some(pins)) = (vm.topology, &ready.pins) {
            let (cores, threads) = (pins.cores, pins.threads);
            vm.topology = Some(Topology { sockets: 1, dies: 1, cores, threads });
        }
        self.see_room().await;
        Ok((vm, ready.warnings))
    }

    /// Pins QEMU's threads; what did not work, in words.
    pub(super) async fn pin(&mut self, qmp: &Qmp) -> Vec<String> {
        let pid = self.record.as_ref().and_then(|record| record.process).map(|process| process.pid);
        let (Some(pid), true) = (pid, self.wants_room() || self.vm.hugepages != Hugepages::Off)
        else {
            return Vec::new();
        };
        self.step("pinning QEMU's threads").await;
        let threads = match threads(qmp, pid).await {
            Ok(threads) => threads,
            Err(error) => return vec![format!("nothing is pinned: {}", with_sources(&error))],
        };
        match self.rooms.pin_after_launch(&self.vm.name, &threads).await {
            Ok(wrong) => wrong,
            Err(refusal) => vec![refusal.message],
        }
    }

    /// What is in force is shown.
    pub(super) async fn see_room(&mut self) {
        let seen = self.with_files(performance::in_force).await;
        self.performance = match seen {
            Ok(Ok(view)) => view,
            Ok(Err(error)) => {
                warn!(vm = %self.vm.name, "{}", with_sources(&error));
                None
            }
            Err(_) => None,
        };
    }

    /// Puts back what no other VM wants.
    pub(super) async fn leave_room(&mut self) -> Result<(), Refusal> {
        let settled = self.rooms.restore(&self.vm.name).await?;
        self.performance = None;
        for note in settled.notes {
            warn!(vm = %self.vm.name, "{note}");
        }
        if settled.left.is_empty() {
            return Ok(());
        }
        let left = settled.left.join("; ");
        let message = format!("what the host did for `{}` is still so: {left}", self.vm.name);
        let hint = format!("`hostctl vm stop {}` tries again", self.vm.name);
        Err(Refusal::new(Code::Failed, message, hint))
    }
}

async fn threads(qmp: &Qmp, pid: u32) -> Result<Threads, QmpError> {
    let vcpus = wire::cpu_threads(&qmp.ask(Command::QueryCpus, ANSWER).await?);
    let iothreads = wire::io_threads(&qmp.ask(Command::QueryIothreads, ANSWER).await?);
    Ok(Threads { pid, vcpus, iothreads })
}

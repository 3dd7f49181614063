//! What a supervisor does with files, away from the runtime's threads: a disk
//! that is slow, or a pool that is suspended, must not keep anybody else.

use std::future::Future;

use tracing::warn;

use super::Supervisor;
use crate::ask::{Code, Refusal};
use crate::base::{Name, with_sources};
use crate::host::Host;
use crate::host::store::StoreError;
use crate::vm::paths;
use crate::vm::record::Phase;

/// How many of the last lines are worth a message.
const LINES: usize = 5;

/// Does `work` on a thread that may wait. Work that was begun is finished, even
/// when nobody waits for it any more.
pub(in crate::vm) async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        let message = format!("work on files ended early: {error}");
        Refusal::new(Code::Failed, message, "look into the log of hostd")
    })
}

impl Supervisor {
    /// As [`apart`], with the host and the VM's name.
    pub(super) fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Host, &Name) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, Refusal>> + Send + 'static {
        let (host, name) = (self.host.clone(), self.vm.name.clone());
        // Who waits for this supervisor to be gone waits for this too.
        let here = self.out.clone();
        apart(move || {
            let done = work(&host, &name);
            drop(here);
            done
        })
    }

    /// Notes how far the VM has come, before going there. A note that cannot
    /// be written stops a start, but not a stop.
    pub(super) async fn note(&mut self, phase: Phase) -> Result<(), Refusal> {
        let Some(record) = &mut self.record else { return Ok(()) };
        record.phase = phase;
        let record = record.clone();
        let written = self.with_files(move |host, vm| record.write(host, vm)).await?;
        written.map_err(|error| {
            let hint = "look for free space and rights in the runtime folder";
            Refusal::new(Code::Failed, with_sources(&error), hint)
        })
    }

    /// As [`Supervisor::note`], where going on is better than stopping.
    pub(super) async fn note_if_possible(&mut self, phase: Phase) {
        if let Err(refusal) = self.note(phase).await {
            warn!(vm = %self.vm.name, "{}", refusal.message);
        }
    }

    /// Notes, without being waited for, how a start with a card has gone.
    pub(super) fn keep_in_mind(&self, note: impl FnOnce(&Host, &Name) + Send + 'static) {
        if self.vm.gpu.is_some() {
            // It says itself what it could not write.
            tokio::spawn(self.with_files(note));
        }
    }

    /// The last lines that QEMU has said, for a message.
    pub(super) async fn last_words(&self) -> String {
        let read = |host: &Host, vm: &Name| host.runtime.tail(paths::name(vm, paths::LOG), 4096);
        let text = self.with_files(read).await.ok().and_then(Result::ok).flatten();
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        last.join("\n").chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
    }

    /// Removes the files of the run, the note last.
    pub(super) async fn remove_files(&self) -> Result<(), Refusal> {
        let removed = self.with_files(remove_files).await?;
        removed.map_err(|error| Refusal::new(Code::Failed, with_sources(&error), ""))
    }
}

fn remove_files(host: &Host, vm: &Name) -> Result<(), StoreError> {
    let runtime = &host.runtime;
    for file in runtime.list(paths::folder(vm)).unwrap_or_default() {
        // Half a note, of a hostd that was killed writing it.
        if file.contains(paths::HALF_NOTE) {
            runtime.remove(paths::name(vm, &file))?;
        }
    }
    [paths::QMP, paths::PIDFILE, paths::SERIAL, paths::RECORD]
        .iter()
        .try_for_each(|file| runtime.remove(paths::name(vm, file)))
}

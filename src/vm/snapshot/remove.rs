//! Removing snapshots: those that somebody names, and those that are more than
//! the VM's file wants kept. Only what a note of ours names is destroyed.

use std::path::Path;
use std::time::Duration;

use super::note::{Kind, Note, State, Tag, Why};
use super::plan::node_of;
use super::qcow2::{self, Act};
use super::{failed, files, find, notes, write, zfs};
use crate::ask::Refusal;
use crate::ask::view::DoneView;
use crate::base::{Name, with_sources};
use crate::config::Vm;
use crate::host::Host;
use crate::vm::qmp::wire::Command;
use crate::vm::qmp::{Qmp, QmpError};
use crate::vm::supervisor::apart;

/// How long QEMU may take to remove one inside an image.
const DELETE: Duration = Duration::from_secs(60);

/// Removes one; `qmp` is the way to the QEMU that has the images, if one runs.
pub async fn delete(
    host: &Host,
    vm: &Vm,
    qmp: Option<&Qmp>,
    snapshot: &Name,
) -> Result<DoneView, Refusal> {
    let note = find(host, &vm.name, snapshot).await?;
    remove(host, &vm.name, qmp.map(|qmp| (qmp, vm)), note).await.map_err(|why| {
        let hint = format!(
            "when that is cleared: `hostctl vm snapshot delete {} {snapshot}` goes on",
            vm.name
        );
        failed(&vm.name, format!("snapshot `{snapshot}` is not wholly removed: {why}"), &hint)
    })?;
    let message = format!("snapshot `{snapshot}` of `{}` is gone", vm.name);
    Ok(DoneView { changed: true, message, warnings: Vec::new() })
}

/// Removes the oldest of those that hostd has made by itself before starts,
/// until `keep` are left, and those of them that were cut short. What could not
/// be removed is said.
pub async fn prune(host: &Host, vm: &Name, keep: u32) -> Vec<String> {
    let found = match notes(host, vm).await {
        Ok(found) => found,
        Err(refusal) => return vec![refusal.message],
    };
    let ours = found.into_iter().filter_map(|one| one.note.ok());
    let ours = ours.filter(|note| note.why == Why::BeforeStart);
    let (whole, half): (Vec<_>, Vec<_>) = ours.partition(|note| note.state == State::Whole);
    // The one that was just made stays in any case.
    let keep = usize::try_from(keep.max(1)).unwrap_or(usize::MAX);
    let many = whole.len().saturating_sub(keep);
    let mut warnings = Vec::new();
    for note in half.into_iter().chain(whole.into_iter().take(many)) {
        let name = note.name.clone();
        if let Err(why) = remove(host, vm, None, note).await {
            warnings.push(format!("the old snapshot `{name}` could not be removed: {why}"));
        }
    }
    warnings
}

/// Removes all of it that is there, the note last.
pub(super) async fn remove(
    host: &Host,
    vm: &Name,
    qemu: Option<(&Qmp, &Vm)>,
    mut note: Note,
) -> Result<(), String> {
    let tag = note.tag();
    let survey = zfs::survey(host, &note.datasets()).await.map_err(|error| with_sources(&error))?;
    let mut images = Vec::new();
    for part in note.images() {
        let (sys, path) = (host.sys.clone(), part.path.clone());
        let kind = apart(move || sys.kind(path)).await.map_err(|refusal| refusal.message)?;
        let gone = kind.is_err_and(|error| error.is_missing());
        if !gone && qcow2::look(host, &part.path).await?.has(&tag) {
            images.push(part.path.clone());
        }
    }
    note.state = State::Going;
    write(host, vm, &note).await.map_err(|refusal| refusal.message)?;
    let mut left = Vec::new();
    for part in &note.parts {
        let gone = match &part.kind {
            Kind::Zvol { dataset } => {
                let there = survey.get(dataset.as_str()).is_some_and(|v| v.find(&tag).is_some());
                if !there {
                    continue;
                }
                let gone = zfs::run(host, zfs::destroy(dataset, &tag)).await;
                gone.map(drop).map_err(|error| with_sources(&error))
            }
            Kind::Qcow2 if !images.contains(&part.path) => continue,
            Kind::Qcow2 => {
                let node = qemu.and_then(|(qmp, vm)| {
                    let index = vm.disks.iter().position(|disk| disk.path == part.path)?;
                    Some((qmp, node_of(index)))
                });
                from_image(host, node, &tag, &part.path).await
            }
        };
        left.extend(gone.err());
    }
    if !left.is_empty() {
        return Err(left.join("; "));
    }
    let (host, vm, name) = (host.clone(), vm.clone(), note.name);
    apart(move || files::remove(&host, &vm, &name)).await.map_err(|refusal| refusal.message)?
}

/// Removes a snapshot inside an image: by the QEMU that has it, if one does.
pub(super) async fn from_image(
    host: &Host,
    qemu: Option<(&Qmp, String)>,
    tag: &Tag,
    image: &Path,
) -> Result<(), String> {
    if let Some((qmp, node)) = qemu {
        let asked = qmp.ask(Command::DeleteSnapshot { node, name: tag.to_string() }, DELETE).await;
        match asked {
            Ok(_) => return Ok(()),
            // QEMU has ended meanwhile. If it has not, it holds the image's
            // lock, and qemu-img refuses.
            Err(QmpError::Closed { .. }) => {}
            Err(
                error @ (QmpError::Dial { .. }
                | QmpError::Silent { .. }
                | QmpError::Refused { .. }
                | QmpError::Strange { .. }),
            ) => return Err(with_sources(&error)),
        }
    }
    let gone = qcow2::run(host, qcow2::act(Act::Delete, tag, image)).await;
    gone.map(drop).map_err(|error| with_sources(&error))
}

//! Taking a VM back to a snapshot. Nothing of it may run.
//!
//! What was written since is lost with a revert, and only with it: everything
//! that could stand against it is looked at first. When a later step fails all
//! the same, a note stays, which keeps the VM from being started half here and
//! half there; the same revert again then goes on.
//!
//! ZFS goes back over newer snapshots only by destroying them. That is done if
//! all of them are of hostd's own making, whole or not, and the person has said
//! so; others' are never destroyed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::create::{may_have_worked, zfs_hint};
use super::files::{self, Copied};
use super::note::{Found, Note, State};
use super::qcow2::{self, Act};
use super::zfs::{self, Survey};
use super::{failed, find, notes, refused, remove};
use crate::ask::Refusal;
use crate::ask::view::DoneView;
use crate::base::{Name, Timestamp, span, with_sources};
use crate::config::Vm;
use crate::host::Host;
use crate::host::run::RunError;
use crate::vm::paths;
use crate::vm::supervisor::apart;

/// The note of a revert that is under way, in the VM's state folder.
const UNDER_WAY: &str = "reverting.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct UnderWay {
    to: Name,
    since: Timestamp,
}

/// A revert that was begun and not finished: why a start is refused, and what
/// to do. One that cannot be read counts as one.
pub fn unfinished(host: &Host, vm: &Name) -> Option<(String, String)> {
    let name = paths::name(vm, UNDER_WAY);
    let text = match host.state.read(&name) {
        Ok(None) => return None,
        Ok(Some(text)) => text,
        Err(error) => return Some((with_sources(&error), "look at that file".to_owned())),
    };
    let under_way = serde_json::from_str::<UnderWay>(&text).ok();
    let to = under_way.map_or_else(|| "SNAPSHOT".to_owned(), |one| one.to.to_string());
    let what = format!(
        "a revert to snapshot `{to}` was cut short: some disks may be of then, some of now"
    );
    let path = host.state.path(name);
    let next = format!(
        "`hostctl vm snapshot revert {vm} {to} --yes` finishes it; or, if you know better, \
         remove {}",
        path.display()
    );
    Some((what, next))
}

/// Takes `vm` back; `yes` allows newer snapshots of hostd's to be destroyed.
pub async fn revert(host: &Host, vm: &Vm, snapshot: &Name, yes: bool) -> Result<DoneView, Refusal> {
    let note = find(host, &vm.name, snapshot).await?;
    let survey = check(host, vm, &note).await?;
    let over = newer(&vm.name, &note, notes(host, &vm.name).await?, &survey, yes)?;
    let (there, name) = (host.clone(), vm.name.clone());
    let again = apart(move || unfinished(&there, &name)).await?.is_some();
    begin(host, &vm.name, &note, again).await?;
    if let Err((why, touched)) = disks(host, &note, &survey).await {
        if !touched && !again {
            forget(host, &vm.name).await?;
            return Err(failed(&vm.name, format!("nothing was reverted: {why}"), ""));
        }
        return Err(half(&vm.name, snapshot, &why));
    }
    let (there, name, to) = (host.clone(), vm.name.clone(), snapshot.clone());
    let back = apart(move || files::bring_back(&there, &name, &to)).await?;
    back.map_err(|why| half(&vm.name, snapshot, &why))?;
    forget(host, &vm.name).await?;
    let mut warnings = Vec::new();
    for note in over {
        let name = note.name.clone();
        if let Err(why) = remove::remove(host, &vm.name, None, note).await {
            warnings.push(format!("what is left of the newer snapshot `{name}` stays: {why}"));
        }
    }
    let covered = |path| note.parts.iter().any(|part| part.path == path);
    let writable = vm.disks.iter().filter(|disk| !disk.readonly && !disk.cdrom);
    let others = writable.filter(|disk| !covered(disk.path.clone()));
    warnings.extend(others.map(|disk| {
        format!("disk {} is not in the snapshot and stays as it is", disk.path.display())
    }));
    if note.firmware || note.tpm {
        let kept = host.state.path(paths::name(&vm.name, files::BEFORE_REVERT));
        warnings.push(format!(
            "the firmware's and the TPM's files as they were before are in {}",
            kept.display()
        ));
    }
    let age = span::show(host.clock.now().since(note.time));
    let message = format!("`{}` is back at snapshot `{snapshot}` of {age} ago", vm.name);
    Ok(DoneView { changed: true, message, warnings })
}

/// Whether the snapshot is all there, and the VM still has its disks.
async fn check(host: &Host, vm: &Vm, note: &Note) -> Result<Survey, Refusal> {
    let (name, tag) = (&note.name, note.tag());
    if note.state != State::Whole {
        let hint = format!("`hostctl vm snapshot delete {} {name}` removes it", vm.name);
        return Err(refused(&vm.name, format!("snapshot `{name}` is not whole"), hint));
    }
    let survey = zfs::survey(host, &note.datasets()).await;
    let survey =
        survey.map_err(|error| failed(&vm.name, with_sources(&error), zfs_hint(&error)))?;
    let mut wrong = Vec::new();
    for part in &note.parts {
        let shown = part.path.display();
        if !vm.disks.iter().any(|disk| disk.path == part.path) {
            wrong.push(format!("disk {shown} is not in the VM's file any more"));
            continue;
        }
        let there = if let Some(dataset) = part.dataset() {
            survey.get(dataset.as_str()).is_some_and(|volume| volume.find(&tag).is_some())
        } else {
            let image = qcow2::look(host, &part.path).await;
            image.map_err(|why| failed(&vm.name, why, ""))?.has(&tag)
        };
        if !there {
            wrong.push(format!("{tag} is gone from disk {shown}: somebody else has removed it"));
        }
    }
    let copies = Copied { firmware: note.firmware, tpm: note.tpm };
    let (there, whose, which) = (host.clone(), vm.name.clone(), name.clone());
    let copied = apart(move || files::are_there(&there, &whose, &which, copies)).await?;
    wrong.extend(copied.err());
    if wrong.is_empty() {
        return Ok(survey);
    }
    let what = format!("it cannot go back to snapshot `{name}`: {}", wrong.join("\n"));
    Err(refused(&vm.name, what, "nothing was touched; `hostctl vm snapshot list` shows the others"))
}

/// The snapshots of ours that the volumes go back over; refused when there are
/// others, or nobody has said that they may go.
fn newer(
    vm: &Name,
    note: &Note,
    found: Vec<Found>,
    survey: &Survey,
    yes: bool,
) -> Result<Vec<Note>, Refusal> {
    let notes: Vec<Note> = found.into_iter().filter_map(|one| one.note.ok()).collect();
    let (mut foreign, mut over) = (Vec::new(), BTreeSet::new());
    for dataset in note.datasets() {
        let Some(volume) = survey.get(dataset.as_str()) else { continue };
        for mark in volume.newer(&note.tag()) {
            let ours = notes.iter().find(|other| {
                !mark.bookmark
                    && other.tag().as_str() == mark.name
                    && other.parts.iter().any(|part| part.dataset() == Some(&dataset))
            });
            let sign = if mark.bookmark { '#' } else { '@' };
            match ours {
                Some(other) => drop(over.insert(other.name.clone())),
                None => foreign.push(format!("{dataset}{sign}{}", mark.name)),
            }
        }
    }
    let name = &note.name;
    if !foreign.is_empty() {
        let what = format!(
            "going back to snapshot `{name}` would destroy newer ones that hostd has not made: {}",
            foreign.join(", ")
        );
        let hint = "destroy them by hand if nobody needs them (zfs destroy), or clone the \
                    snapshot (zfs clone) and use the clone as the VM's disk";
        return Err(refused(vm, what, hint));
    }
    if !over.is_empty() && !yes {
        let names: Vec<_> = over.iter().map(Name::as_str).collect();
        let what = format!(
            "going back to snapshot `{name}` destroys the newer ones: {}",
            names.join(", ")
        );
        let hint = format!("`hostctl vm snapshot revert {vm} {name} --yes` does it");
        return Err(refused(vm, what, hint));
    }
    Ok(notes.into_iter().filter(|note| over.contains(&note.name)).collect())
}

/// Notes that a revert is under way, and sets aside what will be replaced. In
/// a revert that goes on, that was done the first time.
async fn begin(host: &Host, vm: &Name, note: &Note, again: bool) -> Result<(), Refusal> {
    let (there, name) = (host.clone(), vm.clone());
    let text = UnderWay { to: note.name.clone(), since: host.clock.now() };
    let text = serde_json::to_string(&text).unwrap_or_default();
    let begun = apart(move || {
        if !again {
            files::set_aside(&there, &name)?;
        }
        there
            .state
            .write(paths::name(&name, UNDER_WAY), &text)
            .map_err(|error| with_sources(&error))
    });
    begun.await?.map_err(|why| failed(vm, format!("nothing was reverted: {why}"), ""))
}

async fn forget(host: &Host, vm: &Name) -> Result<(), Refusal> {
    let (there, name) = (host.clone(), paths::name(vm, UNDER_WAY));
    let gone = apart(move || there.state.remove(name)).await?;
    gone.map_err(|error| failed(vm, with_sources(&error), "remove that file by hand"))
}

/// Takes the disks back; on failure also whether something was touched.
async fn disks(host: &Host, note: &Note, survey: &Survey) -> Result<(), (String, bool)> {
    let tag = note.tag();
    let mut touched = false;
    for part in &note.parts {
        let command = match part.dataset() {
            Some(dataset) => {
                let volume = survey.get(dataset.as_str());
                let over = volume.is_some_and(|volume| !volume.newer(&tag).is_empty());
                zfs::rollback(dataset, &tag, over)
            }
            None => qcow2::act(Act::Apply, &tag, &part.path),
        };
        if let Err(error) = zfs::run(host, command).await {
            // What goes through an image, or over newer snapshots one by one,
            // may have begun before it failed.
            let many = part.dataset().is_none_or(|dataset| {
                survey.get(dataset.as_str()).is_some_and(|v| !v.newer(&tag).is_empty())
            });
            let begun = many && !matches!(error, RunError::Start { .. });
            return Err((with_sources(&error), touched || begun || may_have_worked(&error)));
        }
        touched = true;
    }
    Ok(())
}

fn half(vm: &Name, snapshot: &Name, why: &str) -> Refusal {
    let what = format!(
        "the revert to snapshot `{snapshot}` was cut short, and the VM is not started as it is: \
         {why}"
    );
    let hint = format!("when that is cleared: `hostctl vm snapshot revert {vm} {snapshot} --yes`");
    failed(vm, what, &hint)
}

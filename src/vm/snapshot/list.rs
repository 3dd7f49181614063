//! What snapshots there are: what the notes say, and whether ZFS and the images
//! say so too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::note::{self, Calm, Kind, Note, State};
use super::qcow2::{self, Image};
use super::zfs::{self, Survey};
use super::{failed, revert};
use crate::ask::Refusal;
use crate::ask::view::{SnapshotDiskView, SnapshotState, SnapshotView, SnapshotsView};
use crate::base::{Name, Timestamp, with_sources};
use crate::host::Host;
use crate::vm::supervisor::apart;

/// Looks into at most so many images: each is a command.
const IMAGES: usize = 16;

type Images = BTreeMap<PathBuf, Result<Image, String>>;

/// All snapshots of `vm`, oldest first.
pub async fn list(host: &Host, vm: &Name) -> Result<SnapshotsView, Refusal> {
    let (there, name) = (host.clone(), vm.clone());
    let read = apart(move || (note::all(&there, &name), revert::unfinished(&there, &name)));
    let (found, unfinished) = read.await?;
    let found = found.map_err(|error| failed(vm, with_sources(&error), ""))?;
    let notes = || found.iter().filter_map(|one| one.note.as_ref().ok());
    let mut datasets: Vec<_> = notes().flat_map(Note::datasets).collect();
    datasets.sort_unstable();
    datasets.dedup();
    let survey = zfs::survey(host, &datasets);
    let paths: std::collections::BTreeSet<_> =
        notes().flat_map(Note::images).map(|part| part.path.clone()).take(IMAGES).collect();
    let looked = futures_util::future::join_all(paths.into_iter().map(|path| async {
        let image = qcow2::look(host, &path).await;
        (path, image)
    }));
    let (survey, looked) = tokio::join!(survey, looked);
    let survey = survey.map_err(|error| with_sources(&error));
    let images: Images = looked.into_iter().collect();
    let snapshots = found.iter().map(|one| match &one.note {
        Ok(note) => view(note, survey.as_ref(), &images),
        Err(why) => damaged(&one.name, why),
    });
    let mut notes: Vec<_> = survey.as_ref().err().cloned().into_iter().collect();
    notes.extend(images.values().filter_map(|image| image.as_ref().err().cloned()));
    notes.extend(unfinished.map(|(what, next)| format!("{what}; {next}")));
    Ok(SnapshotsView { vm: vm.clone(), snapshots: snapshots.collect(), notes })
}

fn damaged(name: &str, why: &str) -> SnapshotView {
    SnapshotView {
        name: name.to_owned(),
        time: Timestamp::default(),
        why: "unknown".to_owned(),
        state: SnapshotState::Damaged,
        problem: why.to_owned(),
        running: false,
        frozen: false,
        firmware: false,
        tpm: false,
        disks: Vec::new(),
        left_out: Vec::new(),
    }
}

fn view(note: &Note, survey: Result<&Survey, &String>, images: &Images) -> SnapshotView {
    let tag = note.tag();
    let disks: Vec<_> = note
        .parts
        .iter()
        .map(|part| {
            let path = part.path.display();
            let (kind, name, there, used) = match &part.kind {
                Kind::Zvol { dataset } => {
                    let known = survey.ok().map(|all| all.get(dataset.as_str()));
                    let mark = known.map(|volume| volume.and_then(|volume| volume.find(&tag)));
                    let used = mark.flatten().and_then(|mark| mark.used);
                    ("zvol", format!("{dataset}@{tag}"), mark.map(|mark| mark.is_some()), used)
                }
                Kind::Qcow2 => {
                    let there = has(images, &part.path, &tag);
                    ("qcow2", tag.to_string(), there, None)
                }
            };
            SnapshotDiskView {
                path: path.to_string(),
                kind: kind.to_owned(),
                name,
                there,
                size: part.size,
                used,
            }
        })
        .collect();
    let (state, problem) = judge(note, &disks);
    SnapshotView {
        name: note.name.to_string(),
        time: note.time,
        why: note.why.as_str().to_owned(),
        state,
        problem,
        running: note.calm != Calm::Off,
        frozen: note.calm == Calm::Frozen,
        firmware: note.firmware,
        tpm: note.tpm,
        disks,
        left_out: note.left_out.clone(),
    }
}

fn has(images: &Images, path: &Path, tag: &note::Tag) -> Option<bool> {
    images.get(path)?.as_ref().ok().map(|image| image.has(tag))
}

fn judge(note: &Note, disks: &[SnapshotDiskView]) -> (SnapshotState, String) {
    match note.state {
        State::Making => {
            let problem = "its making was cut short; delete it".to_owned();
            return (SnapshotState::Incomplete, problem);
        }
        State::Going => {
            let problem = "its removal was cut short; delete it again".to_owned();
            return (SnapshotState::Incomplete, problem);
        }
        State::Whole => {}
    }
    let with = |there| disks.iter().filter(move |disk| disk.there == there);
    let gone: Vec<_> = with(Some(false)).map(|disk| disk.path.as_str()).collect();
    if !gone.is_empty() {
        let problem = format!("somebody else has removed it from {}", gone.join(", "));
        return (SnapshotState::Incomplete, problem);
    }
    let dark: Vec<_> = with(None).map(|disk| disk.path.as_str()).collect();
    if dark.is_empty() {
        return (SnapshotState::Whole, String::new());
    }
    let problem = format!("whether it is on {} is not known", dark.join(", "));
    (SnapshotState::Unknown, problem)
}

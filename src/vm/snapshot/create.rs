//! Making a snapshot: all of it or nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::files;
use super::hold::{self, Guest, Held};
use super::note::{self, Calm, Dataset, Kind, Note, State, Tag, Why};
use super::plan::{self, Planned, node_of};
use super::qcow2::{self, Act};
use super::{failed, notes, prune, refused, write, zfs};
use crate::ask::{Code, Refusal};
use crate::base::{Name, span, with_sources};
use crate::config::Vm;
use crate::host::Host;
use crate::host::run::RunError;
use crate::vm::qmp::QmpError;
use crate::vm::qmp::wire::Command;
use crate::vm::supervisor::apart;

/// How long each step may take while the guest stands still.
const HELD: Duration = Duration::from_secs(20);
/// Snapshots that begin in the same second.
const AT_ONCE: u32 = 9;

/// A snapshot that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its name.
    pub name: Name,
    /// What it is, in a sentence.
    pub message: String,
    /// What is left to know.
    pub warnings: Vec<String>,
}

/// The one that the VM's file wants before a start, and then fewer of those
/// that were made so before. Nothing of the VM may run.
pub async fn before_start(host: &Host, vm: &Vm) -> Result<Option<Made>, Refusal> {
    if !vm.snapshots.before_start {
        return Ok(None);
    }
    let mut made = create(host, vm, Guest::Off, None, Why::BeforeStart).await?;
    made.warnings.extend(prune(host, &vm.name, vm.snapshots.keep).await);
    Ok(Some(made))
}

/// Makes a snapshot; a name is made up when there is none.
pub async fn create(
    host: &Host,
    vm: &Vm,
    guest: Guest<'_>,
    name: Option<Name>,
    why: Why,
) -> Result<Made, Refusal> {
    let plan = plan::plan(vm).map_err(|wrong| {
        let what = format!("no snapshot can be made: {}", wrong.what.join("\n"));
        refused(&vm.name, what, wrong.next.join("\n"))
    })?;
    let name = free_name(host, vm, name).await?;
    let disks = look(host, &vm.name, &Tag::of(&name), plan.disks).await?;
    let moves = guest.moves().await;
    let moves = moves.map_err(|error| failed(&vm.name, with_sources(&error), ""))?;
    let mut note = Note {
        time: host.clock.now(),
        why,
        state: State::Making,
        calm: Calm::Halted,
        halts: moves,
        parts: disks.iter().map(|disk| disk.part.clone()).collect(),
        left_out: plan.left_out,
        firmware: false,
        tpm: false,
        name,
    };
    write(host, &vm.name, &note).await?;
    let mut work = Work { host, vm, guest, note: &mut note, done: Vec::new(), unsure: false };
    let (pause, warnings) = match work.all(&disks, moves).await {
        Ok(done) => done,
        Err(why) => return Err(work.undo(&why).await),
    };
    (note.state, note.halts) = (State::Whole, false);
    write(host, &vm.name, &note).await?;
    Ok(made(vm, note, pause, warnings))
}

fn made(vm: &Vm, note: Note, pause: Option<Duration>, mut warnings: Vec<String>) -> Made {
    let how = match (note.calm, pause) {
        (Calm::Off, _) => String::new(),
        (Calm::Frozen, _) => "; the guest had written everything out".to_owned(),
        (Calm::Halted, None) => "; the guest was halted".to_owned(),
        (Calm::Halted, Some(pause)) => {
            warnings.push(
                "no guest agent has written everything out before: reverted to this, the guest \
                 starts as after a power failure"
                    .to_owned(),
            );
            format!("; the guest stood still for {}", short(pause))
        }
    };
    warnings.extend(note.left_out.iter().map(|what| format!("not in it: {what}")));
    let count = match note.parts.len() {
        1 => "1 disk".to_owned(),
        more => format!("{more} disks"),
    };
    let message = format!("snapshot `{}` of `{}` is made: {count}{how}", note.name, vm.name);
    Made { name: note.name, message, warnings }
}

/// `0.24s`, or as ages are shown.
fn short(pause: Duration) -> String {
    if pause < Duration::from_secs(10) {
        format!("{:.2}s", pause.as_secs_f64())
    } else {
        span::show(pause)
    }
}

/// The name that it will have.
async fn free_name(host: &Host, vm: &Vm, wanted: Option<Name>) -> Result<Name, Refusal> {
    let found = notes(host, &vm.name).await?;
    let taken = |name: &str| found.iter().any(|one| one.name == name);
    if let Some(name) = wanted {
        if !note::is_free(&name) {
            let message = format!("`{name}`: names that begin with `hostd-` are made up by hostd");
            return Err(Refusal::new(Code::Usage, message, "give it another name, or none"));
        }
        if taken(name.as_str()) {
            let hint = "give it another name, or delete that one first";
            return Err(refused(&vm.name, format!("there is a snapshot `{name}` already"), hint));
        }
        return Ok(name);
    }
    let first = note::made_up(host.clock.now());
    let names = (2..=AT_ONCE).map(|number| format!("{first}-{number}"));
    let free = std::iter::once(first.clone()).chain(names).find(|name| !taken(name));
    free.and_then(|name| name.parse().ok()).ok_or_else(|| {
        refused(&vm.name, "too many snapshots are being made", "try again in a second")
    })
}

/// Whether everything is there that will be needed, and nothing of that name.
async fn look(
    host: &Host,
    vm: &Name,
    tag: &Tag,
    mut disks: Vec<Planned>,
) -> Result<Vec<Planned>, Refusal> {
    let datasets: Vec<_> = disks.iter().filter_map(|disk| disk.part.dataset()).cloned().collect();
    let survey = zfs::survey(host, &datasets).await;
    let survey = survey.map_err(|error| failed(vm, with_sources(&error), zfs_hint(&error)))?;
    for disk in &mut disks {
        let shown = disk.part.path.display().to_string();
        let taken = match &disk.part.kind {
            Kind::Zvol { dataset } => {
                let volume = survey.get(dataset.as_str()).filter(|volume| volume.is_volume);
                let volume = volume.ok_or_else(|| {
                    let what = format!("disk {shown}: {dataset} is not a volume of ZFS");
                    refused(vm, what, "name a whole zvol: /dev/zvol/POOL/VOLUME")
                })?;
                disk.part.size = volume.size;
                volume.find(tag).is_some()
            }
            Kind::Qcow2 => {
                let image = qcow2::look(host, &disk.part.path).await;
                let hint = "qemu-img must be installed (Debian: `apt install qemu-utils`)";
                let image =
                    image.map_err(|why| failed(vm, format!("disk {shown}: {why}"), hint))?;
                disk.part.size = image.size;
                image.has(tag)
            }
        };
        if taken {
            let what = format!("disk {shown} has a snapshot {tag} that hostd has no note of");
            return Err(refused(vm, what, "give the new one another name"));
        }
    }
    Ok(disks)
}

pub(super) fn zfs_hint(error: &RunError) -> &'static str {
    if error.is_missing() {
        "install ZFS's tools (Debian: `apt install zfsutils-linux`)"
    } else {
        "`zpool status` may tell why"
    }
}

/// What is being made.
struct Work<'a> {
    host: &'a Host,
    vm: &'a Vm,
    guest: Guest<'a>,
    note: &'a mut Note,
    /// What surely was made, by us.
    done: Vec<Done>,
    /// Something may have been made besides.
    unsure: bool,
}

enum Done {
    Zvols(Vec<Dataset>),
    Images(Vec<Planned>),
}

impl Work<'_> {
    /// Makes all of it, while the guest stands still.
    async fn all(
        &mut self,
        disks: &[Planned],
        moves: bool,
    ) -> Result<(Option<Duration>, Vec<String>), String> {
        let held = hold::hold(self.guest, moves).await;
        let held: Held = held.map_err(|error| format!("the guest cannot be held: {error}"))?;
        self.note.calm = held.calm;
        let mut warnings: Vec<_> = held.warning.iter().cloned().collect();
        let made = self.make(disks).await;
        let (pause, trouble) = held.let_go().await;
        match (made, trouble) {
            (Ok(()), trouble) => {
                warnings.extend(trouble);
                Ok((pause, warnings))
            }
            (Err(why), None) => Err(why),
            (Err(why), Some(trouble)) => Err(format!("{why}; and {trouble}")),
        }
    }

    async fn make(&mut self, disks: &[Planned]) -> Result<(), String> {
        let tag = self.note.tag();
        let mut pools: BTreeMap<&str, Vec<Dataset>> = BTreeMap::new();
        for dataset in disks.iter().filter_map(|disk| disk.part.dataset()) {
            pools.entry(dataset.pool()).or_default().push(dataset.clone());
        }
        for datasets in pools.into_values() {
            let command = zfs::snapshot(&datasets, &tag).deadline(HELD);
            if let Err(error) = zfs::run(self.host, command).await {
                self.unsure |= may_have_worked(&error);
                return Err(with_sources(&error));
            }
            self.done.push(Done::Zvols(datasets));
        }
        let images = disks.iter().filter(|disk| disk.part.kind == Kind::Qcow2);
        self.images(images.cloned().collect(), &tag).await?;
        let (host, vm, name) = (self.host.clone(), self.vm.name.clone(), self.note.name.clone());
        let copied = apart(move || files::keep(&host, &vm, &name)).await;
        let copied = copied.map_err(|refusal| refusal.message)??;
        (self.note.firmware, self.note.tpm) = (copied.firmware, copied.tpm);
        Ok(())
    }

    async fn images(&mut self, images: Vec<Planned>, tag: &Tag) -> Result<(), String> {
        if images.is_empty() {
            return Ok(());
        }
        if let Some(qmp) = self.guest.qmp() {
            let nodes = images.iter().map(|disk| node_of(disk.index)).collect();
            let command = Command::SnapshotDisks { nodes, name: tag.to_string() };
            if let Err(error) = qmp.ask(command, HELD).await {
                self.unsure |= !matches!(error, QmpError::Refused { .. });
                return Err(with_sources(&error));
            }
            self.done.push(Done::Images(images));
            return Ok(());
        }
        for disk in images {
            let command = qcow2::act(Act::Make, tag, &disk.part.path);
            if let Err(error) = qcow2::run(self.host, command).await {
                self.unsure |= may_have_worked(&error);
                return Err(with_sources(&error));
            }
            self.done.push(Done::Images(vec![disk]));
        }
        Ok(())
    }

    /// Removes what was made, and the note if nothing else can be there.
    async fn undo(self, why: &str) -> Refusal {
        let (vm, name, tag) = (&self.vm.name, &self.note.name, self.note.tag());
        let mut left = Vec::new();
        for done in self.done.iter().rev() {
            match done {
                Done::Zvols(datasets) => {
                    for dataset in datasets {
                        let gone = zfs::run(self.host, zfs::destroy(dataset, &tag)).await;
                        left.extend(gone.err().map(|error| with_sources(&error)));
                    }
                }
                Done::Images(disks) => {
                    for disk in disks {
                        let node = Some(node_of(disk.index));
                        let gone = super::remove::from_image(
                            self.host,
                            self.guest.qmp().zip(node),
                            &tag,
                            &disk.part.path,
                        );
                        left.extend(gone.await.err());
                    }
                }
            }
        }
        if left.is_empty() && !self.unsure {
            let (host, vm, name) = (self.host.clone(), vm.clone(), name.clone());
            match apart(move || files::remove(&host, &vm, &name)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => left.push(error),
                Err(refusal) => left.push(refusal.message),
            }
        }
        let mut what = format!("no snapshot was made: {why}");
        if left.is_empty() && !self.unsure {
            return failed(vm, what, "nothing of it is left");
        }
        if !left.is_empty() {
            what = format!("{what}\nand what had been made is left: {}", left.join("; "));
        }
        let hint =
            format!("some of it may be there: `hostctl vm snapshot delete {vm} {name}` removes it");
        failed(vm, what, &hint)
    }
}

/// Whether a command that has failed may have done its work all the same.
pub(super) fn may_have_worked(error: &RunError) -> bool {
    match error {
        RunError::Start { .. } | RunError::Failed { .. } => false,
        RunError::Deadline { .. } | RunError::TooMuch { .. } => true,
    }
}

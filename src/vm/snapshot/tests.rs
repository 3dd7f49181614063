//! A machine with ZFS and qcow2 images made of values, of which any command can
//! fail.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::ask::view::{SnapshotState, SnapshotsView};
use crate::config::{Disk, DiskFormat, Snapshots, Vm};
use crate::host::Command;
use crate::host::fake::{Answer, FakeHost};
use crate::host::run::{Exit, Output, RunError};
use crate::vm::tests::vm;

#[derive(Default)]
struct Machine {
    /// Snapshots (`@x`) and bookmarks (`#x`) of each volume, oldest first.
    volumes: BTreeMap<String, Vec<String>>,
    /// Snapshots inside each image.
    images: BTreeMap<String, Vec<String>>,
    /// What was done, without what only looks.
    acts: Vec<String>,
    /// The acts that fail, by their number.
    fails: Vec<usize>,
    /// They fail by not coming to an end.
    hangs: bool,
}

#[allow(clippy::unnecessary_wraps, reason = "as a runner answers")]
fn said(code: i32, stdout: String, stderr: &str) -> Answer {
    let (stdout, stderr) = (stdout.into_bytes(), stderr.as_bytes().to_vec());
    Ok(Output { exit: Exit::Code(code), stdout, stderr })
}

impl Machine {
    #[allow(clippy::unnecessary_wraps, reason = "as a script answers")]
    fn answer(&mut self, command: &Command) -> Option<Answer> {
        let words: Vec<_> = std::iter::once(&command.program).chain(&command.args).collect();
        let words: Vec<&str> = words.into_iter().map(|word| word.to_str().unwrap()).collect();
        match words.as_slice() {
            ["zfs", "list", "-H", "-p", "-t", "all", "-d", "1", "-o", _, names @ ..] => {
                return Some(self.list(names));
            }
            ["qemu-img", "info", "--output=json", "--force-share", "-f", "qcow2", image] => {
                let Some(inside) = self.images.get(*image) else {
                    return Some(said(1, String::new(), "Could not open"));
                };
                let names: Vec<_> =
                    inside.iter().map(|name| serde_json::json!({ "name": name })).collect();
                let text = serde_json::json!({ "snapshots": names, "actual-size": 5 });
                return Some(said(0, text.to_string(), ""));
            }
            _ => {}
        }
        self.acts.push(command.to_string());
        if self.fails.contains(&self.acts.len()) {
            let (command, deadline) = (command.to_string(), Duration::from_secs(1));
            return Some(if self.hangs {
                Err(RunError::Deadline { command, deadline, stuck: true })
            } else {
                said(1, String::new(), "out of luck")
            });
        }
        let done = match words.as_slice() {
            ["zfs", "snapshot", names @ ..] => names.iter().try_for_each(|name| {
                let (volume, tag) = name.split_once('@').unwrap();
                self.volumes.get_mut(volume).ok_or("no such")?.push(format!("@{tag}"));
                Ok(())
            }),
            ["zfs", "destroy", name] => {
                let (volume, tag) = name.split_once('@').unwrap();
                let marks = self.volumes.get_mut(volume).unwrap();
                let at = marks.iter().position(|mark| *mark == format!("@{tag}"));
                at.map(|at| drop(marks.remove(at))).ok_or("could not find any snapshots")
            }
            ["zfs", "rollback", rest @ ..] => {
                let (volume, tag) = rest.last().unwrap().split_once('@').unwrap();
                let marks = self.volumes.get_mut(volume).unwrap();
                let at = marks.iter().position(|mark| *mark == format!("@{tag}")).unwrap();
                if at + 1 < marks.len() && rest[0] != "-r" {
                    Err("more recent snapshots or bookmarks exist")
                } else {
                    marks.truncate(at + 1);
                    Ok(())
                }
            }
            ["qemu-img", "snapshot", how, tag, image] => {
                let inside = self.images.get_mut(*image).unwrap();
                match *how {
                    "-c" => inside.push((*tag).to_owned()),
                    "-d" => inside.retain(|name| name != tag),
                    "-a" => assert!(inside.iter().any(|name| name == tag)),
                    other => panic!("{other}"),
                }
                Ok(())
            }
            other => panic!("nobody runs {other:?}"),
        };
        Some(match done {
            Ok(()) => said(0, String::new(), ""),
            Err(why) => said(1, String::new(), why),
        })
    }

    fn list(&self, names: &[&str]) -> Answer {
        let mut text = String::new();
        for name in names {
            let Some(marks) = self.volumes.get(*name) else {
                return said(1, String::new(), "cannot open: dataset does not exist");
            };
            let _ = writeln!(text, "{name}\tvolume\t9\t7\t1");
            for (txg, mark) in (2..).zip(marks) {
                let kind = if mark.starts_with('#') { "bookmark" } else { "snapshot" };
                let _ = writeln!(text, "{name}{mark}\t{kind}\t3\t7\t{txg}");
            }
        }
        said(0, text, "")
    }
}

struct Bench {
    _dir: tempfile::TempDir,
    fake: FakeHost,
    host: Host,
    machine: Arc<Mutex<Machine>>,
    vm: Vm,
}

const VOLUMES: [&str; 3] = ["tank/a", "fast/c", "tank/b"];
const IMAGE: &str = "/srv/games.qcow2";

impl Bench {
    /// Three volumes in two pools and an image, firmware and TPM.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        fake.file(IMAGE, "").unwrap();
        let host = fake.host();
        let mut machine = Machine::default();
        for volume in VOLUMES {
            machine.volumes.insert(volume.to_owned(), vec!["@theirs".to_owned()]);
        }
        machine.images.insert(IMAGE.to_owned(), vec!["theirs".to_owned()]);
        let machine = Arc::new(Mutex::new(machine));
        let answers = Arc::clone(&machine);
        fake.runner.on(move |command| answers.lock().unwrap().answer(command));
        let mut disks: Vec<_> =
            VOLUMES.iter().map(|name| Disk::plain(format!("/dev/zvol/{name}"), 1)).collect();
        disks.push(Disk { format: DiskFormat::Qcow2, ..Disk::plain(IMAGE, 4) });
        disks.push(Disk { cdrom: true, ..Disk::plain("/srv/a.iso", 5) });
        let snapshots = Snapshots { before_start: true, keep: 2 };
        let bench = Self { _dir: dir, fake, host, machine, vm: Vm { disks, snapshots, ..vm() } };
        bench.set("OVMF_VARS.fd", "then");
        bench.set("tpm/tpm2-00.permall", "then");
        bench
    }

    fn set(&self, file: &str, text: &str) {
        self.host.state.write(format!("vms/gaming/{file}"), text).unwrap();
    }

    fn get(&self, file: &str) -> Option<String> {
        self.host.state.read(format!("vms/gaming/{file}")).unwrap()
    }

    fn with<T>(&self, what: impl FnOnce(&mut Machine) -> T) -> T {
        what(&mut self.machine.lock().unwrap())
    }

    /// What was done since the last call.
    fn acts(&self) -> Vec<String> {
        self.with(|machine| std::mem::take(&mut machine.acts))
    }

    /// From now on these acts fail.
    fn fail(&self, acts: &[usize], hangs: bool) {
        self.with(|machine| {
            machine.acts.clear();
            machine.fails = acts.to_vec();
            machine.hangs = hangs;
        });
    }

    async fn make(&self, name: &str) -> Result<Made, Refusal> {
        self.fake.clock.advance(Duration::from_secs(10));
        let name = Some(name.parse().unwrap());
        create(&self.host, &self.vm, Guest::Off, name, Why::Person).await
    }

    async fn go_back(&self, name: &str, yes: bool) -> Result<crate::ask::view::DoneView, Refusal> {
        revert(&self.host, &self.vm, &name.parse().unwrap(), yes).await
    }

    async fn remove(&self, name: &str) -> Result<crate::ask::view::DoneView, Refusal> {
        delete(&self.host, &self.vm, None, &name.parse().unwrap()).await
    }

    async fn list(&self) -> SnapshotsView {
        list(&self.host, &self.vm.name).await.unwrap()
    }

    async fn states(&self) -> Vec<(String, SnapshotState)> {
        let all = self.list().await.snapshots;
        all.into_iter().map(|one| (one.name, one.state)).collect()
    }

    /// Nothing of ours is anywhere, and everything of theirs is.
    fn assert_untouched(&self, when: &str) {
        self.with(|machine| {
            for (volume, marks) in &machine.volumes {
                assert_eq!(*marks, ["@theirs"], "{when}: {volume}");
            }
            assert_eq!(machine.images[IMAGE], ["theirs"], "{when}");
        });
        assert_eq!(self.host.state.list("vms/gaming/snapshots").unwrap(), [""; 0], "{when}");
    }
}

#[tokio::test]
async fn all_of_it_under_one_name() {
    let bench = Bench::new();
    let made = bench.make("x").await.unwrap();
    assert_eq!(made.message, "snapshot `x` of `gaming` is made: 4 disks");
    assert_eq!(made.warnings, ["not in it: /srv/a.iso: the guest cannot write to it"]);
    insta::assert_snapshot!(bench.acts().join("\n"), @r"
    zfs snapshot fast/c@hostd-x
    zfs snapshot tank/a@hostd-x tank/b@hostd-x
    qemu-img snapshot -c hostd-x /srv/games.qcow2
    ");
    let view = bench.list().await;
    let one = &view.snapshots[0];
    assert_eq!((one.state, one.firmware, one.tpm), (SnapshotState::Whole, true, true));
    assert_eq!(one.disks.len(), 4);
    assert_eq!((one.disks[0].used, one.disks[3].size), (Some(3), Some(5)));
    assert_eq!(view.notes, [""; 0]);
    let again = bench.make("x").await.unwrap_err();
    assert!(again.message.contains("there is a snapshot `x` already"), "{again}");
    let ours = bench.make("hostd-y").await.unwrap_err();
    assert_eq!(ours.code, Code::Usage);
    // Two that nobody names, in one second.
    for _ in 0..2 {
        create(&bench.host, &bench.vm, Guest::Off, None, Why::Person).await.unwrap();
    }
    let names: Vec<_> = bench.states().await.into_iter().map(|(name, _)| name).collect();
    assert!(names[1].starts_with("hostd-2026") && names[2] == format!("{}-2", names[1]));
    for name in names {
        bench.remove(&name).await.unwrap();
    }
    bench.assert_untouched("after delete");
}

#[tokio::test]
async fn a_failure_anywhere_leaves_nothing() {
    for act in 1..=3 {
        let bench = Bench::new();
        bench.fail(&[act], false);
        let refusal = bench.make("x").await.unwrap_err();
        assert!(refusal.message.contains("no snapshot was made"), "{refusal}");
        assert!(refusal.message.contains("out of luck"), "{refusal}");
        assert_eq!(refusal.hint, "nothing of it is left");
        bench.assert_untouched(&format!("act {act} failed"));
    }
    // The files cannot be copied: one that is a folder.
    let bench = Bench::new();
    bench.set("tpm/folder/x", "");
    bench.make("x").await.unwrap_err();
    bench.assert_untouched("a copy failed");
}

#[tokio::test]
async fn what_cannot_be_undone_is_told_and_can_be_deleted() {
    // The second fails, and the undoing of the first; then one that may have
    // worked after all.
    for (fails, hangs) in [(&[2, 3][..], false), (&[2][..], true)] {
        let bench = Bench::new();
        bench.fail(fails, hangs);
        let refusal = bench.make("x").await.unwrap_err();
        assert!(refusal.hint.contains("hostctl vm snapshot delete gaming x"), "{refusal:?}");
        assert_eq!(bench.states().await, [("x".to_owned(), SnapshotState::Incomplete)]);
        let back = bench.go_back("x", true).await.unwrap_err();
        assert!(back.message.contains("is not whole"), "{back}");
        bench.fail(&[], false);
        bench.remove("x").await.unwrap();
        bench.assert_untouched("after delete");
    }
}

#[tokio::test]
async fn what_is_not_ours_is_never_taken_for_ours() {
    let bench = Bench::new();
    bench.with(|machine| machine.volumes.get_mut("tank/b").unwrap().push("@hostd-x".to_owned()));
    let refusal = bench.make("x").await.unwrap_err();
    assert!(refusal.message.contains("that hostd has no note of"), "{refusal}");
    assert_eq!(bench.acts(), [""; 0]);
    let none = bench.remove("x").await.unwrap_err();
    assert_eq!(none.code, Code::NotFound);
    let raw = Vm { disks: vec![Disk::plain("/srv/raw.img", 1)], ..bench.vm.clone() };
    let refusal = create(&bench.host, &raw, Guest::Off, None, Why::Person).await.unwrap_err();
    assert!(refusal.hint.contains("qemu-img convert -O qcow2 /srv/raw.img"), "{refusal:?}");
    let gone = Vm { disks: vec![Disk::plain("/dev/zvol/tank/none", 1)], ..bench.vm.clone() };
    let refusal = create(&bench.host, &gone, Guest::Off, None, Why::Person).await.unwrap_err();
    assert!(refusal.message.contains("tank/none is not a volume"), "{refusal}");
}

#[tokio::test]
async fn goes_back_with_firmware_and_tpm() {
    let bench = Bench::new();
    bench.make("x").await.unwrap();
    bench.set("OVMF_VARS.fd", "now");
    bench.set("tpm/tpm2-00.permall", "now");
    bench.set("tpm/more", "now");
    bench.acts();
    let done = bench.go_back("x", false).await.unwrap();
    assert_eq!(done.message, "`gaming` is back at snapshot `x` of 0s ago");
    insta::assert_snapshot!(bench.acts().join("\n"), @r"
    zfs rollback tank/a@hostd-x
    zfs rollback fast/c@hostd-x
    zfs rollback tank/b@hostd-x
    qemu-img snapshot -a hostd-x /srv/games.qcow2
    ");
    assert_eq!(bench.get("OVMF_VARS.fd").unwrap(), "then");
    assert_eq!(bench.get("tpm/tpm2-00.permall").unwrap(), "then");
    assert_eq!(bench.get("tpm/more"), None);
    assert_eq!(bench.get("before-revert/OVMF_VARS.fd").unwrap(), "now");
    assert_eq!(bench.get("before-revert/tpm/more").unwrap(), "now");
    assert_eq!(unfinished(&bench.host, &bench.vm.name), None);
    assert_eq!(bench.states().await, [("x".to_owned(), SnapshotState::Whole)]);
}

#[tokio::test]
async fn newer_ones_go_only_if_all_are_ours_and_somebody_says_so() {
    let bench = Bench::new();
    bench.make("x").await.unwrap();
    bench.make("y").await.unwrap();
    bench.acts();
    let refusal = bench.go_back("x", false).await.unwrap_err();
    assert!(refusal.message.contains("destroys the newer ones: y"), "{refusal}");
    for theirs in ["@later", "#mark", "@hostd-strange"] {
        bench.with(|machine| machine.volumes.get_mut("tank/b").unwrap().push(theirs.to_owned()));
        let refusal = bench.go_back("x", true).await.unwrap_err();
        assert!(refusal.message.contains(&format!("not made: tank/b{theirs}")), "{refusal}");
        bench.with(|machine| machine.volumes.get_mut("tank/b").unwrap().pop());
    }
    assert_eq!(bench.acts(), [""; 0], "nothing was touched");
    bench.go_back("x", true).await.unwrap();
    let acts = bench.acts();
    assert_eq!(acts[0], "zfs rollback -r tank/a@hostd-x");
    assert_eq!(acts.last().unwrap(), "qemu-img snapshot -d hostd-y /srv/games.qcow2");
    assert_eq!(bench.states().await, [("x".to_owned(), SnapshotState::Whole)]);
}

#[tokio::test]
async fn a_revert_that_is_cut_short_keeps_the_vm_down_and_can_go_on() {
    for act in 1..=4 {
        let bench = Bench::new();
        bench.make("x").await.unwrap();
        bench.set("OVMF_VARS.fd", "now");
        bench.fail(&[act], false);
        let refusal = bench.go_back("x", false).await.unwrap_err();
        let left = unfinished(&bench.host, &bench.vm.name);
        assert_eq!(left.is_some(), act > 1, "{act}: {refusal}");
        assert_eq!(bench.get("OVMF_VARS.fd").unwrap(), "now", "{act}");
        if let Some((what, next)) = left {
            assert!(what.contains("snapshot `x` was cut short"), "{what}");
            assert!(next.contains("hostctl vm snapshot revert gaming x --yes"), "{next}");
            assert!(bench.list().await.notes[0].contains("cut short"));
        }
        bench.fail(&[], false);
        bench.go_back("x", true).await.unwrap();
        assert_eq!(unfinished(&bench.host, &bench.vm.name), None);
        assert_eq!(bench.get("OVMF_VARS.fd").unwrap(), "then");
        assert_eq!(bench.get("before-revert/OVMF_VARS.fd").unwrap(), "now", "{act}");
    }
}

#[tokio::test]
async fn what_is_gone_or_damaged_is_told_and_nothing_is_touched() {
    let bench = Bench::new();
    bench.make("x").await.unwrap();
    bench.make("y").await.unwrap();
    bench.with(|machine| machine.volumes.get_mut("tank/b").unwrap().pop());
    bench.host.state.write("vms/gaming/snapshots/x/snapshot.json", "{").unwrap();
    bench.acts();
    let view = bench.list().await;
    let states: Vec<_> = view.snapshots.iter().map(|one| one.state).collect();
    assert_eq!(states, [SnapshotState::Incomplete, SnapshotState::Damaged]);
    assert!(view.snapshots[0].problem.contains("removed it from /dev/zvol/tank/b"), "{view:?}");
    for name in ["x", "y"] {
        bench.go_back(name, true).await.unwrap_err();
    }
    let refusal = bench.remove("x").await.unwrap_err();
    assert!(refusal.message.contains("snapshot.json is damaged"), "{refusal}");
    assert!(refusal.hint.contains("hostd-x"), "{}", refusal.hint);
    assert_eq!(bench.acts(), [""; 0]);
    bench.remove("y").await.unwrap();
    assert_eq!(bench.states().await, [("x".to_owned(), SnapshotState::Damaged)]);
    // A disk that is gone altogether takes its snapshot with it.
    bench.make("z").await.unwrap();
    bench.with(|machine| drop(machine.volumes.remove("fast/c")));
    bench.fake.remove(IMAGE).unwrap();
    bench.remove("z").await.unwrap();
    // Nothing can be said without ZFS's tools.
    bench.fake.runner.on(|command| {
        let source = io::ErrorKind::NotFound.into();
        Some(Err(RunError::Start { command: command.to_string(), source }))
    });
    let refusal = bench.make("w").await.unwrap_err();
    assert!(refusal.hint.contains("apt install zfsutils-linux"), "{refusal:?}");
}

#[tokio::test]
async fn a_list_that_nobody_can_check_is_not_green() {
    let bench = Bench::new();
    bench.make("x").await.unwrap();
    bench.fake.runner.on(|command| {
        let (command, deadline) = (command.to_string(), Duration::from_secs(7));
        Some(Err(RunError::Deadline { command, deadline, stuck: true }))
    });
    let view = bench.list().await;
    assert_eq!(view.snapshots[0].state, SnapshotState::Unknown);
    assert!(view.notes.iter().any(|note| note.contains("hangs in the kernel")), "{view:?}");
}

#[tokio::test]
async fn before_starts_only_so_many_are_kept_and_a_persons_always() {
    let bench = Bench::new();
    bench.make("mine").await.unwrap();
    let mut last = Vec::new();
    for _ in 0..4 {
        bench.fake.clock.advance(Duration::from_secs(60));
        let made = before_start(&bench.host, &bench.vm).await.unwrap().unwrap();
        last.push(made.name.to_string());
    }
    let names: Vec<_> = bench.states().await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["mine", &last[2], &last[3]]);
    // One that cannot be removed is said, and the start goes on.
    bench.fake.clock.advance(Duration::from_secs(60));
    bench.fail(&[4], false);
    let made = before_start(&bench.host, &bench.vm).await.unwrap().unwrap();
    assert!(made.warnings.iter().any(|warning| warning.contains(&last[2])), "{made:?}");
    bench.fail(&[], false);
    // It goes the next time, half as it is.
    bench.fake.clock.advance(Duration::from_secs(60));
    let made = before_start(&bench.host, &bench.vm).await.unwrap().unwrap();
    assert_eq!(bench.states().await.len(), 3, "{made:?}");
    let off = Vm { snapshots: Snapshots::default(), ..bench.vm.clone() };
    assert_eq!(before_start(&bench.host, &off).await.unwrap(), None);
}

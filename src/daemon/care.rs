//! What hostd does for pools by itself: decide, do, remember.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::Shared;
use crate::ask::ScrubAct;
use crate::ask::view::CareView;
use crate::base::with_sources;
use crate::care::{self, Act, Memory, Other, Tag, World, prune};
use crate::config::SnapshotPolicy;
use crate::host::Host;
use crate::host::run::RunError;
use crate::state::Fact;
use crate::zfs::{self, elsewhere};
use jiff::tz::TimeZone;

/// How often it is decided. A VM that starts has to wait no longer for a scrub
/// to be paused.
const ROUND: Duration = Duration::from_secs(10);
/// How often it is looked who else does it, and what the time zone is.
const LOOK: u32 = 30;
/// With so many children that cannot be killed nothing more is started.
const MAX_STUCK: usize = 4;
/// What is kept in the state folder.
const FILE: &str = "care.json";
/// Where a memory goes that cannot be read.
const BROKEN: &str = "care.json.broken";

/// What a person has done to a scrub through hostd.
pub(super) type ByHand = (String, ScrubAct);

/// What came of the work on snapshots.
enum Done {
    Made { dataset: String, tag: Tag, result: Result<(), String>, surely: bool },
    Pruned { dataset: String, result: Result<Pruned, String> },
}

struct Pruned {
    marked: Vec<(String, String)>,
    chosen: prune::Prune,
    destroyed: usize,
    /// Why some stay.
    stay: Vec<String>,
}

/// Decides every few seconds, and at once when a person has acted.
pub(super) async fn run(shared: Shared, mut hands: mpsc::Receiver<ByHand>) {
    let mut care = Care::new(&shared);
    let mut snapshot = shared.snapshot.clone();
    // Not a whole round without a word because the pools come a moment later.
    let read = snapshot.wait_for(|snapshot| snapshot.pools.value().is_some());
    let _ = tokio::time::timeout(ROUND, read).await;
    drop(snapshot);
    let mut ticks = interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // One thing at a time is made or destroyed; scrubs do not wait for it.
    let mut work: Option<BoxFuture<'static, Done>> = None;
    let mut rounds = 0u32;
    loop {
        tokio::select! {
            Some((pool, act)) = hands.recv() => {
                care.memory.by_hand(&pool, act, shared.host.clock.now());
                care.save();
                continue;
            }
            done = async { match &mut work {
                Some(work) => work.await,
                None => std::future::pending().await,
            } } => {
                work = None;
                care.take(done);
                care.save();
            }
            _ = ticks.tick() => {
                if rounds.is_multiple_of(LOOK) {
                    care.look().await;
                }
                rounds = rounds.wrapping_add(1);
            }
        }
        let (mut view, acts) = care.decide();
        view.notes.extend(care.notes());
        if shared.facts.send(Fact::Care(view)).await.is_err() {
            return;
        }
        if shared.host.runner.stuck() >= MAX_STUCK {
            continue;
        }
        for act in acts {
            match act {
                Act::Scrub { pool, act } => care.scrub(&pool, act).await,
                Act::Make { .. } | Act::Prune { .. } if work.is_some() => {}
                Act::Make { dataset, recursive, tag } => {
                    work = care.make(dataset, recursive, tag);
                }
                Act::Prune { dataset, recursive } => work = care.prune(dataset, recursive),
            }
        }
    }
}

struct Care<'a> {
    shared: &'a Shared,
    began: std::time::Instant,
    memory: Memory,
    /// As it is in the file.
    saved: String,
    /// Why the memory is not kept.
    unkept: Option<String>,
    /// What was wrong with it at the start.
    lost: Option<String>,
    zone: TimeZone,
    others: Vec<Other>,
    unseen: Vec<String>,
}

impl<'a> Care<'a> {
    fn new(shared: &'a Shared) -> Self {
        let host = &shared.host;
        let read = host.state.read(FILE).map_err(|error| error.in_full());
        let (memory, lost) = match read {
            Ok(None) => (Memory::default(), None),
            Ok(Some(text)) => match serde_json::from_str(&text) {
                Ok(memory) => (memory, None),
                Err(error) => {
                    // Its records say what may be destroyed: a person may want them.
                    let kept =
                        host.state.write(BROKEN, &text).map_err(|error| with_sources(&error));
                    (Memory::default(), Some(kept.err().unwrap_or_else(|| error.to_string())))
                }
            },
            Err(why) => (Memory::default(), Some(why)),
        };
        let lost = lost.map(|why| {
            let file = host.state.path(FILE);
            format!(
                "{}: {why}; hostd begins anew and destroys none of the snapshots it made before",
                file.display()
            )
        });
        if let Some(lost) = &lost {
            warn!("{lost}");
        }
        let began = host.clock.instant();
        Self {
            shared,
            began,
            saved: String::new(),
            memory,
            unkept: None,
            lost,
            zone: TimeZone::UTC,
            others: Vec::new(),
            unseen: Vec::new(),
        }
    }

    /// What else is to be known.
    fn notes(&self) -> Vec<String> {
        let stuck = self.shared.host.runner.stuck();
        let stuck = (stuck >= MAX_STUCK).then(|| {
            format!("{stuck} commands hang and cannot be ended: nothing is done until they have")
        });
        let all = self.lost.iter().chain(&self.unkept).chain(&self.unseen).cloned();
        all.chain(stuck).collect()
    }

    /// Who else does it, and the time zone.
    async fn look(&mut self) {
        let sys = self.shared.host.sys.clone();
        let read = tokio::task::spawn_blocking(move || {
            let zone = sys.resolve("/etc/localtime").and_then(|at| sys.bytes(at, 1 << 16)).ok();
            let zone = zone.and_then(|bytes| TimeZone::tzif("local", &bytes).ok());
            (elsewhere::look(&sys), zone.unwrap_or(TimeZone::UTC))
        });
        let Ok(((found, unseen), zone)) = read.await else { return };
        let other = |one: elsewhere::Elsewhere| Other {
            kind: one.kind,
            object: one.object,
            program: one.program,
            file: one.file,
            advice: one.advice,
        };
        self.others = found.into_iter().map(other).collect();
        (self.unseen, self.zone) = (unseen, zone);
    }

    fn decide(&mut self) -> (CareView, Vec<Act>) {
        let snapshot = Arc::clone(&self.shared.snapshot.borrow());
        let clock = &self.shared.host.clock;
        let world = World {
            config: &self.shared.config,
            snapshot: &snapshot,
            others: &self.others,
            zone: &self.zone,
            now: clock.now(),
            up: clock.instant().saturating_duration_since(self.began),
        };
        let decided = care::decide(&world, &mut self.memory);
        // A person may have chosen that the state folder is not kept, or it is
        // full: scrubs go on, and the notes say so.
        self.save();
        decided
    }

    /// Writes the memory down when it has changed; whether it is safe.
    fn save(&mut self) -> bool {
        let text = match serde_json::to_string(&self.memory) {
            Ok(text) => text,
            Err(error) => {
                self.unkept = Some(error.to_string());
                return false;
            }
        };
        if text != self.saved {
            match self.shared.host.state.write(FILE, &text) {
                Ok(()) => (self.saved, self.unkept) = (text, None),
                Err(error) => {
                    let why = with_sources(&error);
                    self.unkept =
                        Some(format!("{why}: no snapshots are made, for hostd would forget them"));
                }
            }
        }
        self.unkept.is_none()
    }

    async fn scrub(&mut self, pool: &str, act: ScrubAct) {
        let host = &self.shared.host;
        let did = zfs::scrub::act(host, pool, act).await;
        match &did {
            Ok(done) => info!("care: {}", done.message),
            Err(refusal) => warn!("care: {pool}: {}", refusal.message),
        }
        let result = did.map(drop).map_err(|refusal| refusal.message);
        self.memory.scrubbed(pool, act, result, host.clock.now());
        self.save();
        self.shared.pools.notify_one();
    }

    fn make(
        &mut self,
        dataset: String,
        recursive: bool,
        tag: Tag,
    ) -> Option<BoxFuture<'static, Done>> {
        self.memory.making(&dataset, tag);
        if !self.save() {
            return None;
        }
        let host = self.shared.host.clone();
        Some(
            async move {
                let kind = tag.kind.as_str();
                let made =
                    zfs::snapshots::make(&host, &dataset, recursive, &tag.to_string(), kind).await;
                // After a deadline it may still come.
                let surely = matches!(made, Err(RunError::Failed { .. } | RunError::Start { .. }));
                Done::Made {
                    dataset,
                    tag,
                    result: made.map_err(|error| with_sources(&error)),
                    surely,
                }
            }
            .boxed(),
        )
    }

    fn prune(&self, dataset: String, recursive: bool) -> Option<BoxFuture<'static, Done>> {
        let policies = &self.shared.config.care.snapshots;
        let policy = policies.iter().find(|policy| policy.dataset == dataset)?.clone();
        let kept = self.memory.snapshots.get(&dataset)?.clone();
        let host = self.shared.host.clone();
        Some(
            async move {
                let result = prune(&host, &policy, &kept, recursive).await;
                Done::Pruned { dataset, result: result.map_err(|error| with_sources(&error)) }
            }
            .boxed(),
        )
    }

    fn take(&mut self, done: Done) {
        let now = self.shared.host.clock.now();
        match done {
            Done::Made { dataset, tag, result, surely } => {
                match &result {
                    Ok(()) => info!("care: {dataset}@{tag} is made"),
                    Err(why) => warn!("care: {dataset}@{tag}: {why}"),
                }
                self.memory.made(&dataset, tag, result, surely, now);
            }
            Done::Pruned { dataset, result } => {
                let kept = self.memory.snapshots.entry(dataset.clone()).or_default();
                match result {
                    Ok(pruned) => {
                        if pruned.destroyed > 0 {
                            info!(
                                "care: {} old snapshots of {dataset} are destroyed",
                                pruned.destroyed
                            );
                        }
                        kept.told = told(&pruned);
                        // Those that could not be destroyed are tried again
                        // when the next is made.
                        if !pruned.chosen.more || pruned.destroyed == 0 {
                            kept.pruned = Some(now);
                        }
                        prune::forget(kept, &pruned.marked, now);
                        kept.failed = None;
                    }
                    Err(why) => {
                        warn!("care: old snapshots of {dataset}: {why}");
                        kept.failed = Some((now, why));
                    }
                }
            }
        }
    }
}

/// What a person should know of a pruning; nothing when all went well.
fn told(pruned: &Pruned) -> Option<String> {
    let mut all: Vec<String> = pruned.chosen.hold.iter().cloned().collect();
    if let Some(first) = pruned.stay.first() {
        let more = pruned.stay.len() - 1;
        let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
        all.push(format!("kept longer: {first}{more}"));
    }
    if pruned.chosen.strange > 0 {
        all.push(format!(
            "{} snapshots bear hostd's mark and are not in its records: left alone",
            pruned.chosen.strange
        ));
    }
    (!all.is_empty()).then(|| all.join("; "))
}

/// Lists, chooses, asks once more, destroys one by one.
async fn prune(
    host: &Host,
    policy: &SnapshotPolicy,
    kept: &care::memory::Kept,
    recursive: bool,
) -> Result<Pruned, RunError> {
    let marked = zfs::snapshots::marked(host, &policy.dataset, recursive).await?;
    let chosen = prune::choose(policy, kept, &marked, host.clock.now());
    let (mut destroyed, mut stay) = (0, Vec::new());
    if !chosen.destroy.is_empty() {
        let details = zfs::snapshots::details(host, &chosen.destroy).await?;
        for name in &chosen.destroy {
            let detail = details.get(name).cloned().unwrap_or_default();
            if let Err(why) =
                prune::confirm(name, detail.created, detail.mark.as_deref(), detail.holds)
            {
                stay.push(why);
                continue;
            }
            match zfs::snapshots::destroy(host, name).await {
                Ok(()) => destroyed += 1,
                Err(error) => stay.push(format!("{name}: {}", with_sources(&error))),
            }
        }
    }
    Ok(Pruned { marked, chosen, destroyed, stay })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::base::Timestamp;
    use crate::care::Kind;
    use crate::care::memory::Kept;
    use crate::config::Keep;
    use crate::host::fake::FakeHost;
    use crate::host::run::{Exit, Output};

    #[tokio::test]
    async fn of_many_snapshots_only_old_ones_of_ours_that_nobody_holds_are_destroyed() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let day = |day: i64| Timestamp::from_secs(1_794_000_000 + day * 86_400);
        let tags: Vec<Tag> =
            (0..6).map(|number| Tag::new(Kind::Daily, day(number)).unwrap()).collect();
        let marked = tags.iter().map(|tag| format!("tank/home@{tag}\tdaily\n"));
        let marked = marked.collect::<Vec<_>>().concat();
        fake.runner.says(
            "zfs get -Hp -s local",
            format!("{marked}tank/home@by-hand\tdaily\ntank/home/ann@{}\tdaily\n", tags[0]),
        );
        let details = tags.clone();
        fake.runner.on(move |command| {
            if !command.to_string().starts_with("zfs get -Hp -o") {
                return None;
            }
            let mut text = String::new();
            for (number, tag) in details.iter().enumerate() {
                let (name, at) = (format!("tank/home@{tag}"), tag.at().secs() + 2);
                // The second is held; the third came by `zfs receive`.
                let (holds, source) =
                    (u8::from(number == 1), if number == 2 { "received" } else { "local" });
                text = format!(
                    "{text}{}",
                    format_args!(
                        "{name}\tcreation\t{at}\t-\n{name}\tuserrefs\t{holds}\t-\n\
                     {name}\torg.hostd:care\tdaily\t{source}\n"
                    )
                );
            }
            Some(Ok(Output { exit: Exit::Code(0), stdout: text.into(), stderr: Vec::new() }))
        });
        let clone = format!("zfs destroy tank/home@{}", tags[3]);
        fake.runner.on(move |command| {
            let command = command.to_string();
            let stderr = b"cannot destroy: snapshot has dependent clones".to_vec();
            let exit = Exit::Code(i32::from(command == clone));
            command.starts_with("zfs destroy").then_some(Ok(Output {
                exit,
                stdout: Vec::new(),
                stderr,
            }))
        });
        let policy = SnapshotPolicy {
            dataset: "tank/home".to_owned(),
            recursive: false,
            keep: Keep { daily: 2, ..Keep::default() },
            even_if_elsewhere: false,
        };
        let kept = Kept { made: tags.iter().copied().collect::<BTreeSet<_>>(), ..Kept::default() };
        let pruned = prune(&fake.host(), &policy, &kept, false).await.unwrap();
        let asked = fake.runner.asked().into_iter().map(|command| command.to_string());
        let destroyed: Vec<_> = asked
            .filter_map(|command| command.strip_prefix("zfs destroy ").map(str::to_owned))
            .collect();
        assert_eq!(destroyed, [0, 3].map(|number| format!("tank/home@{}", tags[number])));
        assert_eq!((pruned.destroyed, pruned.stay.len(), pruned.chosen.strange), (1, 3, 2));
        let told = told(&pruned).unwrap();
        assert!(told.contains("(and 2 more)") && told.contains("2 snapshots bear"), "{told}");
    }
}

//! The observer on a fake machine: what it asks when, and what it says while
//! `zpool` does not answer.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::*;
use crate::config::Pools;
use crate::host::fake::FakeHost;
use crate::host::run::{Command, Exit, Output, RunError, Running, Started};
use crate::host::{Host, Runner};
use crate::zfs::Observer;
use crate::zfs::events::Event;

/// A `zpool` that can be told to hang, pool by pool, and to be of an old version.
#[derive(Default)]
pub struct Zpool {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
pub struct State {
    asked: Vec<String>,
    answers: Vec<(String, String)>,
    hanging: BTreeSet<String>,
    pub old: bool,
    /// It does not know the newer columns of `zpool list`.
    pub old_columns: bool,
    fails: Option<String>,
    stuck: usize,
    deadline: bool,
}

impl Zpool {
    pub fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_waiters();
    }

    /// Answers commands that begin so.
    pub fn says(&self, begins: &str, text: &str) {
        self.set(|state| state.answers.insert(0, (begins.to_owned(), text.to_owned())));
    }

    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    fn answer(state: &State, command: &Command) -> Result<Output, RunError> {
        let text = command.to_string();
        let end = |code, stdout: &str, stderr: &str| Output {
            exit: Exit::Code(code),
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        if let Some(stderr) = &state.fails {
            return Ok(end(1, "", stderr));
        }
        if state.deadline {
            let deadline = command.deadline;
            return Err(RunError::Deadline { command: text, deadline, stuck: state.stuck > 0 });
        }
        if state.old && text.contains(" -j") {
            return Ok(end(2, "", "invalid option 'j'\nusage:\n"));
        }
        if state.old_columns && text.contains("dedup_table_size") {
            return Ok(end(2, "", "bad property list: invalid property 'dedup_table_size'\n"));
        }
        let found = state.answers.iter().find(|(begins, _)| text.starts_with(begins));
        Ok(found.map_or(end(1, "", "no such pool"), |(_, stdout)| end(0, stdout, "")))
    }
}

impl Runner for Zpool {
    fn run(&self, command: Command) -> Running<'_> {
        self.state.lock().unwrap().asked.push(command.to_string());
        Box::pin(async move {
            loop {
                let mut changed = std::pin::pin!(self.changed.notified());
                changed.as_mut().enable();
                {
                    let state = self.state.lock().unwrap();
                    let pool = command.args.last().unwrap().to_str().unwrap();
                    if !state.hanging.contains(pool) {
                        return Self::answer(&state, &command);
                    }
                }
                changed.await;
            }
        })
    }

    fn start(&self, command: Command, _log: PathBuf) -> Result<Started, RunError> {
        panic!("{command} would outlive us");
    }

    fn stuck(&self) -> usize {
        self.state.lock().unwrap().stuck
    }
}

const LIST: &str = "tank\t1000\t410\t590\t41\t5\tONLINE\t10044224727666098230\n";

pub struct Lab {
    pub fake: FakeHost,
    pub zpool: Arc<Zpool>,
    pub observer: Observer,
    _dir: tempfile::TempDir,
}

impl Lab {
    /// A machine with the healthy pool `tank`, which is expected.
    pub fn new() -> Self {
        Self::with(Pools { expected: vec!["tank".into()], ..Pools::default() })
    }

    /// The same, configured so.
    pub fn with(config: Pools) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let zpool = Arc::new(Zpool::default());
        let host = Host { runner: Arc::clone(&zpool) as Arc<dyn Runner>, ..fake.host() };
        fake.file("/proc/spl/kstat/zfs/arcstats", "1 2 3\n").unwrap();
        let observer = Observer::new(host, config);
        let lab = Self { fake, zpool, observer, _dir: dir };
        lab.kstat("tank", "ONLINE");
        lab.zpool.says("zpool status -j --json-int tank", HEALTHY);
        lab.zpool.says("zpool status -pP", HEALTHY_TEXT);
        lab.zpool.says("zpool list -Hp -o name,size,alloc,free,capacity,frag,health,guid", LIST);
        lab
    }

    /// hostd is started again.
    pub async fn restart(&mut self) {
        self.observer.remembered().await;
        let runner = Arc::clone(&self.zpool) as Arc<dyn Runner>;
        let host = Host { runner, ..self.fake.host() };
        self.observer = Observer::new(host, Pools::default());
    }

    /// This much later, everything read anew.
    pub async fn later(&mut self, span: Duration) -> PoolView {
        self.fake.clock.advance(span);
        self.observer.poke();
        let tank = self.tank().await;
        // The clock is faster than a disk: the next round would find it busy.
        self.observer.remembered().await;
        tank
    }

    pub fn kstat(&self, pool: &str, word: &str) {
        self.fake.file(&format!("/proc/spl/kstat/zfs/{pool}/state"), format!("{word}\n")).unwrap();
    }

    /// A second later.
    async fn round(&mut self) -> Vec<PoolView> {
        self.fake.clock.advance(Duration::from_secs(1));
        self.observer.round().await.pools
    }

    pub async fn tank(&mut self) -> PoolView {
        let mut pools = self.round().await;
        pools.remove(pools.iter().position(|pool| pool.name == "tank").unwrap())
    }
}

#[tokio::test]
async fn asks_at_once_then_only_when_facts_are_old() {
    let mut lab = Lab::new();
    let tank = lab.tank().await;
    assert_eq!((tank.health, tank.tolerates), (Severity::Ok, Some(2)));
    assert!(tank.capacity.unwrap() < 0.001, "the sizes of the status");
    assert_eq!(lab.zpool.asked().len(), 2);
    for _ in 0..29 {
        assert_eq!(lab.tank().await.health, Severity::Ok);
    }
    assert_eq!(lab.zpool.asked(), Vec::<String>::new());
    lab.round().await;
    assert_eq!(lab.zpool.asked(), ["zpool status -j --json-int tank"]);
    lab.observer.poke();
    lab.round().await;
    assert_eq!(lab.zpool.asked(), ["zpool status -j --json-int tank"]);
}

/// Twelve pools for an hour in which nothing happens; one is scrubbed.
#[tokio::test]
async fn without_a_reason_there_is_one_child_a_pool_in_half_a_minute() {
    for old in [false, true] {
        let mut lab = Lab::new();
        lab.zpool.set(|state| state.old = old);
        let pools: Vec<String> = (0..11).map(|n| format!("p{n}")).collect();
        for name in &pools {
            lab.kstat(name, "ONLINE");
            let json = HEALTHY.replace("\"tank\"", &format!("\"{name}\""));
            lab.zpool.says(&format!("zpool status -j --json-int {name}"), &json);
            let text = HEALTHY_TEXT.replace("tank", name);
            lab.zpool.says(&format!("zpool status -pPs {name}"), &text);
            let list = LIST.replace("tank", name);
            let columns = "name,size,alloc,free,capacity,frag,health,guid";
            lab.zpool.says(&format!("zpool list -Hp -o {columns} {name}"), &list);
        }
        lab.kstat("tank", "DEGRADED");
        lab.zpool.says("zpool status -j --json-int tank", REPLACING);
        lab.zpool.says("zpool status -pPs tank", REPLACING_TEXT);
        lab.round().await;
        lab.zpool.asked();
        let (mut last, mut views) = (std::collections::BTreeMap::new(), 0);
        for second in 0..3600_u32 {
            lab.fake.clock.advance(Duration::from_secs(1));
            if let Some(view) = lab.observer.news().await {
                views += 1;
                let doubts = view.pools.iter().flat_map(|pool| &pool.findings);
                assert!(doubts.clone().all(|f| f.severity != Severity::Unknown), "{view:#?}");
            }
            for command in lab.zpool.asked() {
                let pool = command.rsplit(' ').next().unwrap().to_owned();
                let before = last.insert(pool, second);
                assert!(before.is_none_or(|at| second - at >= 30), "{second}: {command}");
            }
        }
        assert_eq!(last.len(), 12);
        assert!(views < 900, "{views} views: only of what is new, and every ten seconds");
    }
}

#[tokio::test]
async fn an_event_is_a_reason_to_read_its_pool_once_a_second() {
    let mut lab = Lab::new();
    lab.kstat("media", "DEGRADED");
    lab.zpool.says("zpool status -j --json-int media", SPARE);
    lab.round().await;
    lab.zpool.asked();
    let event = |class: &str, pool: Option<&str>| Event {
        class: format!("resource.fs.zfs.{class}"),
        pool: pool.map(Into::into),
        ..Event::default()
    };
    let second = Duration::from_secs(1);
    lab.fake.clock.advance(second);
    assert!(lab.observer.hear(&event("statechange", Some("tank"))));
    assert_eq!(lab.observer.rest(second), Duration::ZERO);
    lab.observer.round().await;
    assert_eq!(lab.zpool.asked(), ["zpool status -j --json-int tank"], "at the first, and only it");
    // Then only after a second, though it goes on.
    for _ in 0..9 {
        lab.fake.clock.advance(second / 10);
        assert!(lab.observer.hear(&event("statechange", Some("tank"))));
        lab.observer.round().await;
        assert_eq!(lab.zpool.asked(), Vec::<String>::new());
    }
    assert_eq!(lab.observer.rest(second), second / 10);
    lab.fake.clock.advance(second / 10);
    lab.observer.round().await;
    assert_eq!(lab.zpool.asked().len(), 1);
    assert_eq!(lab.observer.rest(second), second);
    // But a kstat that has changed is followed at once.
    lab.fake.clock.advance(second / 4);
    lab.kstat("tank", "DEGRADED");
    lab.observer.round().await;
    assert_eq!(lab.zpool.asked().len(), 1);
    // One of no pool, or of one that is not known, is about all.
    lab.fake.clock.advance(second);
    assert!(lab.observer.hear(&event("statechange", None)));
    lab.observer.round().await;
    assert_eq!(lab.zpool.asked().len(), 2);
    assert!(
        !lab.observer
            .hear(&Event { class: "sysevent.fs.zfs.history_event".into(), ..event("", None) })
    );
    let twice = Event { eid: Some(7), ..event("removed", Some("tank")) };
    assert!(lab.observer.hear(&twice) && !lab.observer.hear(&twice));
}

#[tokio::test]
async fn events_are_counted_and_told() {
    let mut lab = Lab::new();
    lab.round().await;
    let now = lab.fake.host().clock.now();
    let event = |class: &str, eid| Event {
        class: format!("ereport.fs.zfs.{class}"),
        pool: Some("tank".into()),
        eid: Some(eid),
        time: Some(now),
        vdev_path: Some("/dev/sdx1".into()),
        ..Event::default()
    };
    for eid in 0..10 {
        assert!(!lab.observer.hear(&event("checksum", eid)), "no reason to look by itself");
    }
    let view = lab.observer.news().await.unwrap();
    assert_eq!(codes(&view.pools[0]), [(Severity::Warning, "checksum-rate")]);
    assert!(lab.observer.hear(&event("deadman", 20)));
    let tank = lab.tank().await;
    assert_eq!((tank.health, tank.findings[0].code.as_str()), (Severity::Critical, "hung-io"));
    let clear = Event { class: "sysevent.fs.zfs.vdev_clear".into(), ..event("", 22) };
    assert!(lab.observer.hear(&clear));
    assert_eq!(lab.tank().await.health, Severity::Ok);
    // What a source tells again from long ago is not counted.
    lab.fake.clock.advance(Duration::from_secs(3600));
    lab.observer.hear(&event("deadman", 23));
    assert_eq!(lab.tank().await.health, Severity::Ok);
}

/// While a device serves no event tells of a person's `zpool clear`: its
/// counters fall.
#[tokio::test]
async fn what_a_person_clears_is_not_counted_on() {
    let mut lab = Lab::new();
    lab.round().await;
    let now = lab.fake.host().clock.now();
    for eid in 0..20 {
        lab.observer.hear(&Event {
            class: "ereport.fs.zfs.checksum".into(),
            pool: Some("tank".into()),
            eid: Some(eid),
            time: Some(now),
            vdev_guid: Some(13_182_568_984_566_984_513),
            ..Event::default()
        });
    }
    let errors = "\"checksum_errors\":30,\"slow_ios\":0";
    let errors = HEALTHY.replacen("\"checksum_errors\":0,\"slow_ios\":0", errors, 1);
    lab.zpool.says("zpool status -j --json-int tank", &errors);
    lab.observer.poke();
    let tank = lab.tank().await;
    assert_eq!(found(&tank, "checksum-rate").object, "/vdevs/f0");
    lab.zpool.says("zpool status -j --json-int tank", HEALTHY);
    lab.observer.poke();
    assert_eq!(codes(&lab.tank().await), []);
}

#[tokio::test]
async fn mounts_are_of_their_pools() {
    let mut lab = Lab::new();
    let mount =
        |id: u32, dataset: &str| format!("{id} 1 0:{id} / /{dataset} rw - zfs {dataset} rw\n");
    lab.fake.file("/proc/self/mountinfo", mount(1, "tank")).unwrap();
    assert_eq!(lab.tank().await.mounts.len(), 1);
    lab.fake.file("/proc/self/mountinfo", mount(1, "tank") + &mount(2, "tank/media")).unwrap();
    assert_eq!(lab.tank().await.mounts.len(), 1, "nothing has happened");
    lab.observer.poke();
    assert_eq!(lab.tank().await.mounts[1].path, "/tank/media");
    lab.fake.remove("/proc/self/mountinfo").unwrap();
    lab.fake.clock.advance(Duration::from_secs(30));
    assert!(lab.tank().await.mounts.is_empty());
}

#[tokio::test]
async fn a_kstat_that_changes_is_followed_at_once() {
    let mut lab = Lab::new();
    lab.round().await;
    lab.zpool.asked();
    lab.kstat("tank", "DEGRADED");
    lab.zpool.says("zpool status -j --json-int tank", REPLACING);
    let tank = lab.tank().await;
    assert_eq!((tank.health, tank.tolerates), (Severity::Critical, Some(0)));
    assert_eq!(tank.state, "DEGRADED");
    assert_eq!(lab.zpool.asked().len(), 1);
    // A scan runs: that alone is no reason to ask more often.
    for _ in 0..29 {
        lab.round().await;
    }
    assert_eq!(lab.zpool.asked().len(), 0);
    lab.round().await;
    assert_eq!(lab.zpool.asked().len(), 1);
    lab.kstat("tank", "ONLINE");
    lab.zpool.says("zpool status -j --json-int tank", HEALTHY);
    assert_eq!(lab.tank().await.health, Severity::Ok);
}

#[tokio::test]
async fn a_hanging_zpool_is_told_and_does_not_hold_up_the_others() {
    let mut lab = Lab::new();
    lab.kstat("media", "DEGRADED");
    lab.zpool.says("zpool status -j --json-int media", SPARE);
    assert_eq!(lab.tank().await.health, Severity::Ok);
    lab.zpool.set(|state| {
        state.hanging.insert("tank".into());
    });
    lab.observer.poke();
    lab.zpool.asked();
    let start = std::time::Instant::now();
    let pools = lab.round().await;
    assert!(start.elapsed() < Duration::from_secs(2));
    // A moment is nothing yet; the other pool has been read.
    assert_eq!((pools[0].health, pools[1].health), (Severity::Warning, Severity::Ok));
    for _ in 0..3 {
        lab.round().await;
    }
    let tank = lab.tank().await;
    assert_eq!(tank.health, Severity::Unknown);
    assert!(found(&tank, "zpool-hangs").message.contains("what is shown is of 2026"));
    assert_eq!(tank.tolerates, Some(2));
    // One child at most, whatever happens.
    lab.observer.poke();
    lab.kstat("tank", "DEGRADED");
    let tank = lab.tank().await;
    assert_eq!(
        codes(&tank),
        [(Severity::Unknown, "zpool-hangs"), (Severity::Warning, "pool-degraded")]
    );
    lab.fake.clock.advance(Duration::from_secs(300));
    lab.round().await;
    let asked = lab.zpool.asked();
    assert_eq!(
        asked.iter().filter(|c| c.starts_with("zpool status") && c.ends_with("tank")).count(),
        1
    );
    // Recovered.
    lab.zpool.set(|state| state.hanging.clear());
    lab.kstat("tank", "ONLINE");
    lab.round().await;
    assert_eq!(lab.tank().await.health, Severity::Ok);
}

#[tokio::test]
async fn suspended_overrides_everything_at_once_even_while_zpool_hangs() {
    let mut lab = Lab::new();
    lab.round().await;
    lab.zpool.set(|state| {
        state.hanging.insert("tank".into());
    });
    lab.kstat("tank", "SUSPENDED");
    let tank = lab.tank().await;
    assert_eq!((tank.state.as_str(), tank.health), ("SUSPENDED", Severity::Critical));
    assert_eq!(tank.findings[0].code, "pool-suspended");
    // The status that a running resilver masks does not hide it either.
    lab.zpool.says("zpool status -j --json-int tank", REPLACING);
    lab.zpool.set(|state| state.hanging.clear());
    let tank = lab.tank().await;
    assert_eq!(
        (tank.state.as_str(), tank.findings[0].code.as_str()),
        ("SUSPENDED", "pool-suspended")
    );
}

#[tokio::test]
async fn suspended_before_anything_was_read() {
    let mut lab = Lab::new();
    lab.zpool.set(|state| {
        state.hanging.insert("tank".into());
    });
    lab.kstat("tank", "SUSPENDED");
    let tank = lab.tank().await;
    assert_eq!(
        codes(&tank),
        [(Severity::Critical, "pool-suspended"), (Severity::Unknown, "not-read-yet")]
    );
}

#[tokio::test]
async fn a_child_that_cannot_be_killed_is_not_followed_by_another() {
    let mut lab = Lab::new();
    lab.round().await;
    lab.zpool.set(|state| (state.deadline, state.stuck) = (true, 1));
    lab.observer.poke();
    let tank = lab.tank().await;
    assert!(found(&tank, "zpool-hangs").message.contains("cannot be killed"));
    lab.zpool.asked();
    lab.kstat("tank", "DEGRADED");
    for _ in 0..60 {
        lab.observer.poke();
        assert_eq!(lab.tank().await.health, Severity::Unknown);
    }
    assert_eq!(lab.zpool.asked(), Vec::<String>::new());
    // It has ended.
    lab.zpool.set(|state| (state.deadline, state.stuck) = (false, 0));
    lab.kstat("tank", "ONLINE");
    assert_eq!(lab.tank().await.health, Severity::Ok);
}

#[tokio::test]
async fn pools_come_and_go() {
    let mut lab = Lab::new();
    lab.round().await;
    lab.kstat("media", "DEGRADED");
    lab.zpool.says("zpool status -j --json-int media", SPARE);
    lab.zpool.asked();
    let pools = lab.round().await;
    assert_eq!(pools.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["media", "tank"]);
    assert_eq!(lab.zpool.asked().len(), 3, "all pools are read when one comes");
    lab.fake.remove("/proc/spl/kstat/zfs/media").unwrap();
    lab.fake.remove("/proc/spl/kstat/zfs/tank").unwrap();
    let pools = lab.round().await;
    assert_eq!(pools.len(), 1, "media was not expected");
    assert_eq!((pools[0].state.as_str(), pools[0].health), ("ABSENT", Severity::Critical));
    assert_eq!(codes(&pools[0]), [(Severity::Critical, "pool-absent")]);
    lab.kstat("tank", "ONLINE");
    assert_eq!(lab.tank().await.health, Severity::Ok);
}

#[tokio::test]
async fn without_the_module_there_is_a_note() {
    let mut lab = Lab::new();
    lab.fake.remove("/proc/spl").unwrap();
    let view = lab.observer.round().await;
    assert_eq!(view.notes, ["ZFS is not loaded"]);
    assert!(found(&view.pools[0], "pool-absent").message.contains("ZFS is not loaded"));
}

#[tokio::test]
async fn an_old_zpool_is_asked_for_text_and_not_twice_for_json() {
    let mut lab = Lab::new();
    lab.zpool.set(|state| state.old = true);
    let tank = lab.tank().await;
    assert_eq!((tank.health, tank.tolerates, tank.capacity), (Severity::Ok, Some(2), Some(0.41)));
    assert_eq!(lab.zpool.asked().len(), 3);
    lab.observer.poke();
    lab.round().await;
    assert_eq!(lab.zpool.asked()[0], "zpool status -pPs tank");
}

#[tokio::test]
async fn broken_json_is_made_up_for_by_text_or_told() {
    let mut lab = Lab::new();
    lab.zpool.says("zpool status -j", &HEALTHY[..900]);
    assert_eq!(lab.tank().await.health, Severity::Ok);
    lab.zpool.says("zpool status -pP", "");
    lab.observer.poke();
    let tank = lab.tank().await;
    assert_eq!(codes(&tank), [(Severity::Unknown, "status-unreadable")]);
    assert!(tank.findings[0].message.contains("not whole JSON"));
}

#[tokio::test]
async fn failures_are_told_apart() {
    for (stderr, code) in [
        ("Permission denied the ZFS utilities must be run as root.", "status-denied"),
        ("internal error: failed to initialize ZFS library", "status-unreadable"),
    ] {
        let mut lab = Lab::new();
        lab.zpool.set(|state| state.fails = Some(stderr.into()));
        let tank = lab.tank().await;
        assert_eq!(codes(&tank), [(Severity::Unknown, code)]);
        assert!(tank.findings[0].message.contains(stderr));
    }
    // No zpool at all: the fake machine's own runner has no commands.
    let dir = tempfile::tempdir().unwrap();
    let fake = FakeHost::new(dir.path());
    fake.file("/proc/spl/kstat/zfs/tank/state", "ONLINE\n").unwrap();
    let view = Observer::new(fake.host(), Pools::default()).settled().await;
    assert_eq!(codes(&view.pools[0]), [(Severity::Unknown, "zpool-missing")]);
}

#[tokio::test]
async fn a_kstat_that_makes_no_sense_is_told() {
    let mut lab = Lab::new();
    lab.round().await;
    lab.kstat("tank", "\u{1b}[2J");
    let tank = lab.tank().await;
    assert_eq!((tank.health, tank.state.as_str()), (Severity::Unknown, "ONLINE"));
    assert_eq!(codes(&tank), [(Severity::Unknown, "kstat-unreadable")]);
}

#[tokio::test]
async fn how_full_it_is_may_be_unknown() {
    let mut lab = Lab::new();
    lab.zpool.set(|state| state.old = true);
    lab.zpool.says("zpool list", "rubbish\n");
    let tank = lab.tank().await;
    assert_eq!(codes(&tank), [(Severity::Unknown, "capacity-unknown")]);
}

#[tokio::test]
async fn capacity_remembers() {
    let mut lab = Lab::new();
    // Where only `zpool list` knows.
    lab.zpool.set(|state| state.old = true);
    let list = |percent: u64| format!("tank\t100\t{percent}\t0\t{percent}\t70\tONLINE\t1\n");
    for (percent, severity) in [
        (86, Severity::Warning),
        (84, Severity::Warning),
        (82, Severity::Ok),
        (96, Severity::Critical),
    ] {
        lab.zpool.says("zpool list", &list(percent));
        lab.observer.poke();
        let tank = lab.tank().await;
        assert_eq!(tank.health, severity, "{percent}");
        found(&tank, "fragmentation");
    }
}

#[tokio::test]
async fn errors_remember() {
    let mut lab = Lab::new();
    lab.round().await;
    let slow = HEALTHY.replacen("\"slow_ios\":0", "\"slow_ios\":5", 1);
    lab.zpool.says("zpool status -j --json-int tank", &slow);
    lab.observer.poke();
    let tank = lab.tank().await;
    assert!(found(&tank, "slow-io").message.contains("5 I/Os"));
    let errors = slow
        .replace("\"checksum_errors\":0,\"slow_ios\":5", "\"checksum_errors\":2,\"slow_ios\":5");
    lab.zpool.says("zpool status -j --json-int tank", &errors);
    lab.observer.poke();
    assert_eq!(found(&lab.tank().await, "device-errors").severity, Severity::Warning);
    lab.fake.clock.advance(Duration::from_secs(3601));
    assert_eq!(lab.tank().await.health, Severity::Ok, "no news for an hour");
    let more = errors.replace("\"checksum_errors\":2", "\"checksum_errors\":3");
    lab.zpool.says("zpool status -j --json-int tank", &more);
    lab.observer.poke();
    assert!(found(&lab.tank().await, "device-errors").message.contains("1 checksum errors within"));
    lab.fake.clock.advance(Duration::from_secs(3601));
    lab.round().await;
    let tank = lab.tank().await;
    assert_eq!(codes(&tank), [(Severity::Ok, "device-errors")]);
}

/// The daemon runs it as a task of its own.
#[test]
fn rounds_can_be_spawned() {
    fn spawnable<T: Send>(_: T) {}
    let lab = Lab::new();
    let mut observer = Observer::new(lab.fake.host(), Pools::default());
    spawnable(observer.round());
}

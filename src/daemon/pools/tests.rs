//! Where events come from, on a fake machine.

use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::*;
use crate::host::fake::FakeHost;

const BLOCK: &str = "Nov 23 2026 06:17:02.1\tresource.fs.zfs.statechange\n        \
                     pool = \"tank\"\n        eid = 0x2a\n\n";

struct Rig {
    fake: FakeHost,
    sources: Sources,
    tell: Tell,
    events: Receiver<Event>,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        let (to, events) = mpsc::channel(2);
        let tell = Tell { pools: Arc::new(Notify::new()), to };
        Self { fake, sources: Sources::new(), tell, events, _dir: dir }
    }

    fn look(&mut self) {
        self.sources.look(&self.fake.host(), &self.tell);
    }

    async fn line(&mut self) {
        let next = line(&mut self.sources.child).await;
        self.sources.line(next, &self.tell).await;
    }

    /// Whether all pools were to be read since the last time.
    async fn poked(&self) -> bool {
        let asked = self.tell.pools.notified();
        tokio::time::timeout(Duration::from_millis(1), asked).await.is_ok()
    }

    fn zed(&self, pid: u32) {
        self.fake.file("/run/zed.pid", pid.to_string()).unwrap();
        self.fake.file(&format!("/proc/{pid}/comm"), "zed\n").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn without_zfs_nothing_is_started_and_nothing_amiss() {
    let mut rig = Rig::new();
    rig.look();
    assert!(rig.sources.child.is_none() && rig.fake.runner.asked().is_empty());
    assert_eq!(rig.sources.why(None), None);
}

#[tokio::test(start_paused = true)]
async fn a_child_tells_is_told_when_it_ends_and_is_started_again_later() {
    let mut rig = Rig::new();
    rig.fake.dir(MODULE).unwrap();
    rig.fake.runner.says("zpool events -Hvf", BLOCK);
    rig.look();
    assert!(rig.poked().await, "a fresh baseline");
    assert_eq!(rig.fake.runner.asked().len(), 1);
    for _ in 0..4 {
        rig.line().await;
    }
    let event = rig.events.try_recv().unwrap();
    assert_eq!((event.pool.as_deref(), event.eid), (Some("tank"), Some(42)));
    assert!(!rig.poked().await);
    rig.line().await;
    assert!(rig.sources.child.is_none() && rig.poked().await);
    let why = rig.sources.why(None).unwrap();
    assert!(why.starts_with("`zpool events` ended"), "{why}");
    rig.look();
    assert!(rig.fake.runner.asked().is_empty(), "too soon");
    // Each pause is longer, up to a bound.
    let mut pauses = Vec::new();
    for _ in 0..12 {
        let pause = rig.sources.next() - Instant::now();
        pauses.push(pause.as_secs());
        tokio::time::advance(pause).await;
        rig.look();
        assert_eq!(rig.fake.runner.asked().len(), 1);
        while rig.sources.child.is_some() {
            rig.line().await;
        }
    }
    assert_eq!(pauses[..5], [1, 2, 4, 8, 16]);
    assert_eq!(pauses.last(), Some(&300));
}

#[tokio::test(start_paused = true)]
async fn a_missing_zpool_is_said() {
    let mut rig = Rig::new();
    rig.fake.dir(MODULE).unwrap();
    rig.look();
    let why = rig.sources.why(None).unwrap();
    assert!(why.contains("zpool events -Hvf") && why.contains("zed tells nothing"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn zed_takes_over_when_it_has_spoken_and_only_while_it_lives() {
    let mut rig = Rig::new();
    rig.fake.dir(MODULE).unwrap();
    rig.fake.runner.says("zpool events -Hvf", BLOCK);
    rig.zed(812);
    rig.look();
    // It runs, but whether it has our script is not known yet.
    assert!(rig.sources.child.is_some() && rig.poked().await);
    rig.sources.heard_zed(&rig.fake.host(), &rig.tell);
    assert!(rig.sources.child.is_none() && rig.poked().await);
    rig.look();
    assert!(rig.sources.child.is_none());
    assert_eq!(rig.sources.why(None), None);
    // Another zed may have another folder.
    rig.zed(813);
    rig.look();
    assert!(rig.sources.child.is_some() && rig.poked().await);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_a_reason_to_read_everything() {
    let mut rig = Rig::new();
    let event = |class: &str| Event { class: class.into(), ..Event::default() };
    rig.tell.event(event("sysevent.fs.zfs.history_event"));
    assert_eq!(rig.events.try_recv(), Err(TryRecvError::Empty));
    for _ in 0..3 {
        rig.tell.event(event("resource.fs.zfs.statechange"));
    }
    assert!(rig.poked().await);
    assert!(rig.events.try_recv().is_ok() && rig.events.try_recv().is_ok());
    assert_eq!(rig.events.try_recv(), Err(TryRecvError::Empty));
}

/// From what the zedlet sends to an event that is passed on.
#[tokio::test]
async fn a_datagram_of_the_zedlet_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("zed.sock");
    let socket = listen::datagrams(&path, 0o600).unwrap();
    let sent = b"class=resource.fs.zfs.removed\npool=tank\n";
    crate::host::dial::datagram(&path, sent, Duration::from_secs(5)).unwrap();
    let mut buffer = vec![0; parse::DATAGRAM];
    let length = datagram(Some(&socket), &mut buffer).await;
    let event = parse::datagram(&buffer[..length]).unwrap();
    assert_eq!((event.reaction(), event.pool.as_deref()), (Reaction::Read, Some("tank")));
}

//! Small servers that answer well, badly, late or not at all.

mod network;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::probe::{self, Answer, ProbeError};
use super::{Observer, afp, smb};
use crate::ask::view::ServiceView;
use crate::base::Severity;
use crate::config::{Probe, Service};
use crate::host::fake::FakeHost;
use crate::host::run::{Command, RealRunner, RunError, Running, Started};
use crate::host::units::UnitState;
use crate::host::{Host, Runner};

const SOON: Duration = Duration::from_millis(300);

/// A server that reads a question, says `reply` and hangs up.
async fn says(reply: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 256]).await;
            let _ = stream.write_all(&reply).await;
        }
    });
    to
}

/// A server whose process is stopped: the kernel accepts for it.
async fn stopped() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    (listener, to)
}

/// A port on which nothing listens.
async fn nobody() -> SocketAddr {
    stopped().await.1
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&length.to_be_bytes()[..], message].concat()
}

fn smb_reply() -> Vec<u8> {
    framed(&smb::tests::reply(0, 0x0302, 0))
}

struct Lab {
    dir: tempfile::TempDir,
    fake: FakeHost,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeHost::new(dir.path());
        Self { dir, fake }
    }

    /// With the commands of the machine that runs the tests.
    fn real(&self) -> Host {
        Host { runner: Arc::new(RealRunner::default()), ..self.fake.host() }
    }
}

fn service(name: &str, probe: Probe) -> Service {
    Service {
        name: name.parse().unwrap(),
        unit: None,
        probe,
        path: None,
        mount: None,
        interval: Duration::from_secs(30),
        deadline: SOON,
        restart: None,
    }
}

async fn once(host: Host, service: Service) -> ServiceView {
    Observer::new(host, vec![service]).settled().await.services.remove(0)
}

#[tokio::test]
async fn what_a_vm_has_stopped_is_as_it_should_be() {
    let lab = Lab::new();
    lab.fake.units.with(|systemd| systemd.there = true);
    let becomes = |active: &str, sub: &str| {
        lab.fake.units.becomes("plex.service", UnitState::new("loaded", active, sub));
    };
    let one = Service {
        unit: Some("plex.service".into()),
        ..service("plex", Probe::Tcp(nobody().await))
    };
    let mut observer = Observer::new(lab.fake.host(), vec![one]);
    let excused = |vm: &str| [("plex.service".to_owned(), vm.to_owned())].into();
    observer.excuse(excused("gaming"));
    becomes("inactive", "dead");
    let view = observer.settled().await.services.remove(0);
    assert_eq!(view.health, Severity::Ok);
    assert_eq!(view.message, "plex.service is stopped while the VM gaming runs");
    // One that has failed is no less failed for that.
    becomes("failed", "failed");
    observer.poke(None);
    assert_eq!(observer.settled().await.services.remove(0).health, Severity::Critical);
    // The VM has ended, and nobody has started it again.
    becomes("inactive", "dead");
    observer.excuse(std::collections::BTreeMap::new());
    let view = observer.settled().await.services.remove(0);
    assert_eq!((view.health, view.layer.as_str()), (Severity::Critical, "unit"));
}

#[tokio::test]
async fn each_failure_is_told_apart() {
    let host = Lab::new().fake.host();
    let ask = |to| probe::smb(&host, to, SOON);
    assert!(matches!(ask(says(smb_reply()).await).await, Ok(Answer::Smb(_))));
    assert!(matches!(ask(nobody().await).await, Err(ProbeError::Refused(_))));
    let (_open, to) = stopped().await;
    assert!(matches!(ask(to).await, Err(ProbeError::Silent { .. })));
    assert!(matches!(ask(says(Vec::new()).await).await, Err(ProbeError::ClosedEarly { .. })));
    let cut = smb_reply()[..50].to_vec();
    assert!(matches!(ask(says(cut).await).await, Err(ProbeError::ClosedEarly { .. })));
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec();
    assert!(matches!(ask(says(http).await).await, Err(ProbeError::WrongProtocol { .. })));
    let refusal = ask(says(framed(&smb::tests::reply(0xc000_00bb, 0, 0))).await).await.unwrap_err();
    assert!(matches!(refusal, ProbeError::Protocol { .. }));
    assert!(refusal.whole().ends_with("NT status 0xc00000bb (no common dialect)"), "{refusal}");
}

#[tokio::test]
async fn afp_answers_and_refuses() {
    let host = Lab::new().fake.host();
    let Ok(Answer::Afp(status)) =
        probe::afp(&host, says(afp::tests::reply(3, 0)).await, SOON).await
    else {
        panic!("no status")
    };
    assert_eq!(status.server, "nas");
    let full = probe::afp(&host, says(afp::tests::reply(8, 0)).await, SOON).await.unwrap_err();
    assert!(full.whole().contains("too many sessions"), "{full}");
    let other = probe::afp(&host, says(b"SSH-2.0-OpenSSH_10.0\r\n".to_vec()).await, SOON).await;
    assert!(matches!(other, Err(ProbeError::WrongProtocol { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn hostile_servers(bytes in prop::collection::vec(any::<u8>(), 0..200), good_frame: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let host = Lab::new().fake.host();
            let bytes = if good_frame { framed(&bytes) } else { bytes };
            let to = says(bytes).await;
            assert!(probe::smb(&host, to, SOON).await.is_err());
            assert!(probe::afp(&host, to, SOON).await.is_err());
        });
    }
}

#[tokio::test]
async fn a_service_is_as_well_as_its_worst_layer() {
    let lab = Lab::new();
    lab.fake.dir("/tank/media").unwrap();
    lab.fake.file("/tank/file", "").unwrap();
    let to = says(smb_reply()).await;
    let with = |path: &str| Service { path: Some(path.into()), ..service("media", Probe::Smb(to)) };
    let well = once(lab.real(), with("/tank/media")).await;
    assert_eq!((well.health, well.layer.as_str()), (Severity::Ok, "path"));
    assert!(well.message.contains("answers SMB 3.0.2; /tank/media is there"), "{well:?}");
    let gone = once(lab.real(), with("/tank/gone")).await;
    assert_eq!((gone.health, gone.layer.as_str()), (Severity::Critical, "path"));
    assert!(gone.message.contains("/tank/gone does not exist"), "{gone:?}");
    assert!(once(lab.real(), with("/tank/file")).await.message.contains("is not a folder"));
    let odd = once(lab.real(), with("media")).await;
    assert_eq!((odd.health, odd.layer.as_str()), (Severity::Unknown, "path"));
    assert!(lab.dir.path().exists());
}

#[tokio::test]
async fn stopped_killed_and_missing_are_told_apart() {
    let lab = Lab::new();
    lab.fake.dir("/run/systemd/system").unwrap();
    lab.fake.dir("/tank/media").unwrap();
    lab.fake.units.with(|systemd| systemd.there = true);
    lab.fake.units.becomes("smbd.service", UnitState::new("loaded", "active", "running"));
    lab.fake.runner.says("find", "x");
    let smbd = |to| Service {
        unit: Some("smbd.service".into()),
        path: Some("/tank/media".into()),
        ..service("media", Probe::Smb(to))
    };
    let (_open, to) = stopped().await;
    let view = once(lab.fake.host(), smbd(to)).await;
    assert_eq!((view.health, view.layer.as_str()), (Severity::Critical, "protocol"));
    assert!(view.message.contains("accepts connections but says no SMB2"), "{view:?}");
    assert_eq!(view.advice, "`systemctl restart smbd.service`");
    assert_eq!(view.latency, None);
    let view = once(lab.fake.host(), smbd(nobody().await)).await;
    assert_eq!((view.health, view.layer.as_str()), (Severity::Critical, "connect"));
    // The cause comes before its consequence.
    let killed =
        UnitState { result: "signal".to_owned(), ..UnitState::new("loaded", "failed", "failed") };
    lab.fake.units.becomes("smbd.service", killed);
    let view = once(lab.fake.host(), smbd(nobody().await)).await;
    assert_eq!(
        (view.layer.as_str(), view.message.as_str()),
        ("unit", "smbd.service has failed (signal)")
    );
}

#[tokio::test]
async fn a_clock_that_is_off_is_a_warning() {
    let lab = Lab::new();
    // 2026-11-22T17:06:40Z; the fake clock stands some days earlier.
    let reply = framed(&smb::tests::reply(0, 0x0302, 134_398_408_000_000_000));
    let view = once(lab.fake.host(), service("media", Probe::Smb(says(reply).await))).await;
    assert_eq!((view.health, view.layer.as_str()), (Severity::Warning, "protocol"));
    assert!(view.message.contains("its clock is off by 4d"), "{view:?}");
}

/// A machine on which everything hangs beyond SIGKILL.
#[derive(Default)]
struct Dead {
    asked: AtomicUsize,
    stuck: AtomicUsize,
}

impl Runner for Dead {
    fn run(&self, command: Command) -> Running<'_> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.stuck.store(1, Ordering::Relaxed);
        let (deadline, command) = (command.deadline, command.to_string());
        Box::pin(async move { Err(RunError::Deadline { command, deadline, stuck: true }) })
    }

    fn start(&self, command: Command, _log: PathBuf) -> Result<Started, RunError> {
        panic!("{command} would outlive us");
    }

    fn stuck(&self) -> usize {
        self.stuck.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_dead_mount_is_told_and_not_piled_upon() {
    let lab = Lab::new();
    let dead = Arc::new(Dead::default());
    let host = Host { runner: Arc::clone(&dead) as Arc<dyn Runner>, ..lab.fake.host() };
    let media = Service { path: Some("/nas/media".into()), ..service("media", Probe::None) };
    let mut observer = Observer::new(host, vec![media]);
    for _ in 0..3 {
        let view = observer.round().await.services.remove(0);
        assert_eq!((view.health, view.layer.as_str()), (Severity::Critical, "path"));
        assert!(view.message.contains("cannot be killed: its mount is dead"), "{view:?}");
        assert_eq!(dead.asked.load(Ordering::Relaxed), 1);
        lab.fake.clock.advance(Duration::from_secs(31));
    }
    // The child has ended.
    dead.stuck.store(0, Ordering::Relaxed);
    observer.round().await;
    assert_eq!(dead.asked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn only_who_is_due_is_probed_and_the_slow_hold_up_nobody() {
    let lab = Lab::new();
    let (_open, to) = stopped().await;
    let slow = Service { deadline: Duration::from_secs(20), ..service("slow", Probe::Afp(to)) };
    let quick = service("quick", Probe::Smb(says(smb_reply()).await));
    let mut observer = Observer::new(lab.fake.host(), vec![slow, quick]);
    let start = Instant::now();
    let view = observer.round().await;
    assert!(start.elapsed() < Duration::from_secs(2));
    assert_eq!((view.services[0].name.as_str(), view.services[0].health), ("quick", Severity::Ok));
    assert!(view.services[0].latency.is_some());
    assert_eq!(
        (view.services[1].health, view.services[1].layer.as_str()),
        (Severity::Unknown, "none")
    );
    let start = Instant::now();
    for _ in 0..5 {
        observer.round().await;
    }
    assert!(start.elapsed() < Duration::from_millis(500), "nothing is due");
}

#[tokio::test]
async fn since_is_when_the_health_has_changed() {
    let lab = Lab::new();
    lab.fake.runner.says("find", "");
    let media = Service { path: Some("/tank/media".into()), ..service("media", Probe::None) };
    let mut observer = Observer::new(lab.fake.host(), vec![media]);
    let first = observer.round().await.services.remove(0);
    lab.fake.clock.advance(Duration::from_secs(31));
    let second = observer.round().await.services.remove(0);
    assert_eq!((second.health, second.since), (Severity::Ok, first.since));
    lab.fake.runner.on(|_| None);
    let missing = RunError::TooMuch { command: "find".into(), limit: 1 };
    let mut once = Some(missing);
    lab.fake.runner.on(move |_| once.take().map(Err));
    lab.fake.clock.advance(Duration::from_secs(31));
    let third = observer.round().await.services.remove(0);
    assert_eq!((third.health, third.since > first.since), (Severity::Unknown, true));
}

#[tokio::test]
async fn with_nothing_to_look_at_nothing_is_known() {
    let lab = Lab::new();
    let view = once(lab.fake.host(), service("empty", Probe::None)).await;
    assert_eq!((view.health, view.layer.as_str()), (Severity::Unknown, "none"));
    // Without systemd the unit is not judged; the rest is.
    let unit = Some("plex.service".to_owned());
    let only = Service { unit: unit.clone(), ..service("only", Probe::None) };
    assert!(once(lab.fake.host(), only).await.message.contains("systemd does not run here"));
    let to = says(Vec::new()).await;
    let both = Service { unit, ..service("both", Probe::Tcp(to)) };
    let view = once(lab.fake.host(), both).await;
    assert_eq!((view.health, view.layer.as_str()), (Severity::Ok, "connect"));
}

/// The daemon runs it as a task of its own.
#[test]
fn rounds_can_be_spawned() {
    fn spawnable<T: Send>(_: T) {}
    let lab = Lab::new();
    let mut observer = Observer::new(lab.fake.host(), Vec::new());
    spawnable(observer.round());
}

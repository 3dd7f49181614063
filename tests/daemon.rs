//! The whole daemon on a made-up machine: its files, commands and faults are
//! values, the control socket and the event port are real.
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hostd::api::client::{Client, Where};
use hostd::ask::view::{Verdict, VmState};
use hostd::ask::{Answer, Ask, Code, Reply};
use hostd::base::{Event, Metric, Severity};
use hostd::cli::view::{Detail, Look, view};
use hostd::config::{self, Config, Source};
use hostd::daemon;
use hostd::host::dial::RealDial;
use hostd::host::fake::FakeHost;
use hostd::host::{Host, Store};
use hostd::pci::fake::{FakePci, Fault};
use hostd::riemann::client::Client as Riemann;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const HOST: &str = "\
host: {name: nas, interval: 1s}
gpus: [{name: card, address: '01:00.0', identity: '1002:5046'}]
pools: {expected: [tank, backup]}
";

const VM: &str = "{memory: 128M, accel: tcg, gpu: card, network: none}";

const PATIENCE: Duration = Duration::from_secs(10);

/// A machine with the lab's card and a pool, and the folder it is in.
struct Machine {
    dir: tempfile::TempDir,
    fake: Arc<FakeHost>,
    pci: FakePci,
    events: SocketAddr,
    /// Further sections of its host.yaml.
    more: &'static str,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let fake = Arc::new(FakeHost::new(dir.path()));
        let pci = FakePci::new(Arc::clone(&fake)).expect("a bus");
        pci.plug_lab_card().expect("a card");
        fake.file("/proc/spl/kstat/zfs/tank/state", "ONLINE\n").expect("a kstat");
        let capture = include_str!("fixtures/zpool/02-healthy-raidz2x5.json");
        fake.runner.says("zpool status", capture);
        fake.runner.says("zpool list", "tank\t1207959552\t371712\t1207587840\t0\t2\tONLINE\t1\n");
        // A port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let events = free.local_addr().expect("its address");
        Self { dir, fake, pci, events, more: "" }
    }

    fn config(&self) -> Config {
        let tcp = self.events;
        let events =
            format!("events: {{tcp: '{tcp}', udp: off, websocket: off}}\nweb: {{listen: off}}\n");
        let host = format!("{HOST}{events}{}", self.more);
        let sources = [Source::host("host.yaml", host), Source::vm("vms/gaming.yaml", VM)];
        config::load(&sources, &config::not_asked).expect("a configuration").0
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("runtime/control.sock")
    }

    async fn daemon(&self) -> Daemon {
        self.daemon_on(self.pci.host()).await
    }

    async fn daemon_on(&self, host: Host) -> Daemon {
        let (stop, stopped) = oneshot::channel();
        let config = self.config();
        let wrong = BTreeMap::from([("broken".parse().expect("a name"), "1 problem".to_owned())]);
        let task = tokio::spawn(async move {
            daemon::run(host, config, wrong, async {
                // Its sender's absence ends the daemon as well.
                let _ = stopped.await;
            })
            .await
        });
        let to = Where::Socket(self.socket());
        let connect = async {
            loop {
                match Client::connect(&to).await {
                    Ok(client) => return client,
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let client = timeout(PATIENCE, connect).await.expect("the daemon answers");
        Daemon { client, stop, task }
    }
}

struct Daemon {
    client: Client,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Daemon {
    async fn ask(&self, ask: Ask) -> Answer {
        timeout(PATIENCE, self.client.ask(&ask)).await.expect("an answer in time")
    }

    /// Asks until the answer is as wanted.
    async fn until(&self, ask: Ask, wanted: impl Fn(&Reply) -> bool) -> Reply {
        let mut last = None;
        for _ in 0..100 {
            match self.ask(ask.clone()).await {
                Ok(reply) if wanted(&reply) => return reply,
                other => last = Some(other),
            }
            sleep(Duration::from_millis(100)).await;
        }
        panic!("{ask:?} never got there: {last:?}");
    }

    async fn end(self) {
        drop(self.stop);
        let ended = timeout(PATIENCE, self.task).await.expect("it ends in time");
        ended.expect("no panic").expect("no failure");
    }
}

fn card() -> String {
    "card".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_seen_and_told() {
    let machine = Machine::new();
    let daemon = machine.daemon().await;
    let groups = daemon
        .until(Ask::IommuList, |reply| matches!(reply, Reply::Iommu(v) if !v.groups.is_empty()))
        .await;
    let Reply::Iommu(view) = groups else { unreachable!() };
    let group = view.groups.iter().find(|group| group.id == 11).expect("the card's group");
    assert_eq!((group.verdict, group.devices.len()), (Verdict::Isolated, 2));

    let pools = daemon
        .until(Ask::PoolStatus { pool: None }, |reply| {
            matches!(reply, Reply::Pools(v) if v.pools.iter().any(|p| p.tolerates == Some(2)))
        })
        .await;
    let Reply::Pools(view) = pools else { unreachable!() };
    let backup = view.pools.iter().find(|pool| pool.name == "backup").expect("the absent pool");
    assert_eq!(backup.health, Severity::Critical, "expected and not there");

    let mut riemann =
        Riemann::connect(&RealDial, machine.events, PATIENCE).await.expect("the event port");
    let told = riemann.query("host = \"nas\" and tagged \"hostd\"").await.expect("an answer");
    let state = |service: &str| {
        let event = told.iter().find(|e| e.service.as_deref() == Some(service));
        event.and_then(|e| e.state.clone()).unwrap_or_else(|| panic!("{service}: {told:?}"))
    };
    assert_eq!(state("zpool tank health"), "ok");
    assert_eq!(state("zpool backup health"), "critical");
    assert_eq!(state("vm gaming"), "ok");
    assert_eq!(state("vm broken"), "critical", "its file is wrong");
    assert_eq!(state("gpu card"), "ok");
    assert_eq!(state("hostd"), "warning", "a VM's file is wrong");
    daemon.end().await;
    assert!(!machine.socket().exists(), "the socket is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_goes_bad_is_told_though_zpool_hangs() {
    let machine = Machine::new();
    let daemon = machine.daemon().await;
    let tank = |pool: &str| Ask::PoolStatus { pool: Some(pool.to_owned()) };
    let health = |wanted: Severity| move |reply: &Reply| matches!(reply, Reply::Pools(v) if v.pools[0].health == wanted);
    daemon.until(tank("tank"), health(Severity::Ok)).await;
    machine.fake.runner.on(|command| {
        let error = hostd::host::run::RunError::Deadline {
            command: command.to_string(),
            deadline: Duration::from_secs(10),
            stuck: true,
        };
        command.to_string().starts_with("zpool").then_some(Err(error))
    });
    machine.fake.file("/proc/spl/kstat/zfs/tank/state", "SUSPENDED\n").expect("a kstat");
    let reply = daemon.until(tank("tank"), health(Severity::Critical)).await;
    let Reply::Pools(view) = reply else { unreachable!() };
    assert_eq!(view.pools[0].state, "SUSPENDED");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_made_once_and_those_of_others_are_left_alone() {
    let mut machine = Machine::new();
    machine.more = "care: {scrub: [{pool: tank}], \
                    snapshots: [{dataset: tank/home, keep: {hourly: 2}}]}\n";
    machine.fake.runner.says("zfs snapshot", "");
    // Marked like ours, and not made by this hostd.
    let foreign = "tank/home@hostd-auto-hourly-2026-01-01T0000Z\thourly\n";
    machine.fake.runner.says("zfs get", foreign.repeat(5));
    let zfs = || {
        let asked = machine.fake.runner.asked();
        let words = asked.iter().map(ToString::to_string);
        words.filter(|words| words.starts_with("zfs ")).collect::<Vec<_>>()
    };
    let pruned = |reply: &Reply| matches!(reply, Reply::Care(view) if view.jobs.iter().any(|job| job.message.contains("left alone")));
    let daemon = machine.daemon().await;
    let Reply::Care(view) = daemon.until(Ask::CareList { kind: None }, pruned).await else {
        unreachable!()
    };
    let jobs: Vec<_> =
        view.jobs.iter().map(|job| (job.name.as_str(), job.state.as_str())).collect();
    assert_eq!(
        jobs,
        [("scrub backup", "off"), ("scrub tank", "waiting"), ("snapshots tank/home", "waiting")]
    );
    let tag = "hostd-auto-hourly-2026-11-18T1106Z";
    assert_eq!(
        zfs(),
        [
            format!("zfs snapshot -o org.hostd:care=hourly tank/home@{tag}"),
            "zfs get -Hp -s local -t snapshot -o name,value -d 1 org.hostd:care tank/home"
                .to_owned(),
        ]
    );
    daemon.end().await;
    // The next hostd knows of it.
    let daemon = machine.daemon().await;
    let known = |reply: &Reply| matches!(reply, Reply::Care(view) if view.jobs.iter().any(|job| job.message.contains("1 hourly")));
    daemon.until(Ask::CareList { kind: Some("snapshots".to_owned()) }, known).await;
    assert_eq!(zfs(), [""; 0]);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_bound_and_given_back_or_put_back() {
    let machine = Machine::new();
    let daemon = machine.daemon().await;
    let addresses = ["0000:01:00.0", "0000:01:00.1"].map(|a| a.parse().expect("an address"));
    let drivers = || addresses.map(|at| machine.pci.driver(at).unwrap_or_default());
    let before = drivers();

    // The second function's driver does not let go: the first one comes back.
    machine.pci.inject(|_, path, value| {
        (path.ends_with("/unbind") && value.contains("01:00.1")).then_some(Fault::Errno(5))
    });
    let refused = daemon.ask(Ask::GpuBind { gpu: Some(card()) }).await.expect_err("a failure");
    assert_eq!(refused.code, Code::Failed);
    assert_eq!(drivers(), before);
    machine.pci.heal();

    for _ in 0..2 {
        let Ok(Reply::Done(done)) = daemon.ask(Ask::GpuBind { gpu: Some(card()) }).await else {
            panic!("not bound")
        };
        assert!(done.changed);
        assert_eq!(drivers(), ["vfio-pci", "vfio-pci"]);
        let Ok(Reply::Done(done)) = daemon.ask(Ask::GpuRelease { gpu: Some(card()) }).await else {
            panic!("not released")
        };
        assert!(done.changed);
        assert_eq!(drivers(), before);
    }
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_refused_in_words() {
    let machine = Machine::new();
    let daemon = machine.daemon().await;
    let start = |name: &str| Ask::VmStart { name: name.parse().expect("a name") };
    let wrong = daemon.ask(start("broken")).await.expect_err("a wrong file");
    assert_eq!(wrong.code, Code::Usage);
    assert!(wrong.message.contains("1 problem"), "{wrong:?}");
    let Ok(Reply::Vms(view)) = daemon.ask(Ask::VmList).await else { panic!("no list") };
    let listed: Vec<_> = view.vms.iter().map(|vm| (vm.name.as_str(), vm.state)).collect();
    assert_eq!(listed, [("broken", VmState::Failed), ("gaming", VmState::Off)]);
    let unknown = daemon.ask(start("nobody")).await.expect_err("no such VM");
    assert_eq!(
        (unknown.code, unknown.hint.as_str()),
        (Code::NotFound, "there are: broken, gaming")
    );
    let query = daemon.ask(Ask::EventQuery { query: "state == 1".to_owned() }).await;
    let query = query.expect_err("a wrong query");
    assert!(query.code == Code::Usage && query.message.contains('^'), "{query:?}");

    let second = daemon::run(machine.pci.host(), machine.config(), BTreeMap::new(), async {}).await;
    let second = format!("{:#}", second.expect_err("another hostd has the socket"));
    assert!(second.contains("another hostd is running"), "{second}");
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_sent_followed_and_refused() {
    let machine = Machine::new();
    let daemon = machine.daemon().await;
    let tail = async |query: &str, session| {
        let ask = Ask::EventTail { query: query.to_owned(), session };
        match daemon.ask(ask).await {
            Ok(Reply::Tail(view)) => view,
            other => panic!("{other:?}"),
        }
    };
    let send = async |events: &str| daemon.ask(Ask::EventSend { events: events.to_owned() }).await;
    let first = tail("service =~ \"backup%\"", None).await;
    assert!(first.events.is_empty());
    let Ok(Reply::Done(done)) = send(r#"[{"service":"backup","metric":3},{"service":"x"}]"#).await
    else {
        panic!("refused")
    };
    assert_eq!(done.message, "2 events sent");
    let next = tail("", Some(first.session)).await;
    let [event] = next.events.as_slice() else { panic!("{next:?}") };
    assert_eq!((event.service.as_deref(), event.metric), (Some("backup"), Some(3.0)));
    assert!(event.host.is_some() && event.time.is_some(), "{event:?}");

    // hostd's own event keeps its place; what makes no sense is said to.
    let own = send(r#"[{"service":"hostd","state":"ok"}]"#).await.expect_err("hostd's own");
    assert!(own.message.starts_with("1 of 1 events were refused"), "{own:?}");
    for wrong in ["{}", r#"[{"state":"ok"}]"#, r#"[{"service":"a","stat":"ok"}]"#, "[1"] {
        assert_eq!(send(wrong).await.expect_err(wrong).code, Code::Usage);
    }
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_is_kept_out_by_either_folder() {
    let machine = Machine::new();
    let daemon = machine.daemon().await;
    let second = async |host| {
        let ran = daemon::run(host, machine.config(), BTreeMap::new(), async {}).await;
        format!("{:#}", ran.expect_err("another hostd has the folder"))
    };
    let elsewhere = Store::new(machine.dir.path().join("elsewhere"));
    let said = second(Host { runtime: elsewhere.clone(), ..machine.pci.host() }).await;
    assert!(said.contains("another hostd is running") && said.contains("state/lock"), "{said}");

    std::fs::remove_file(machine.socket()).expect("the socket");
    let said = second(Host { state: elsewhere, ..machine.pci.host() }).await;
    assert!(said.contains("another hostd is running") && said.contains("control.lock"), "{said}");
    daemon.end().await;

    // What has ended is in nobody's way.
    machine.daemon().await.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_cannot_be_had_is_said() {
    let machine = Machine::new();
    let state = Store::new(machine.dir.path().join("file/state"));
    std::fs::write(machine.dir.path().join("file"), "").expect("a file");
    let daemon = machine.daemon_on(Host { state, ..machine.pci.host() }).await;
    let said = |reply: &Reply| match reply {
        Reply::Status(view) => view.unavailable.iter().any(|what| what.contains("state folder")),
        _ => false,
    };
    daemon.until(Ask::Status, said).await;
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_said_and_had_when_it_is_free() {
    let machine = Machine::new();
    let other = std::net::TcpListener::bind(machine.events).expect("the port");
    let daemon = machine.daemon().await;
    let missing = |reply: &Reply| match reply {
        Reply::Status(view) => view.unavailable.iter().any(|what| what.contains("over TCP")),
        _ => panic!("not a status"),
    };
    daemon.until(Ask::Status, missing).await;
    drop(other);
    daemon.until(Ask::Status, |reply| !missing(reply)).await;
    let mut riemann =
        Riemann::connect(&RealDial, machine.events, PATIENCE).await.expect("the event port");

    // What is refused there is told with the next beat.
    riemann.query("state == 1").await.expect_err("a wrong query");
    let query = Ask::EventQuery { query: "service = \"hostd events\"".to_owned() };
    let told = |reply: &Reply| match reply {
        Reply::Events(view) => view.events.iter().any(|event| {
            let text = event.description.as_deref().unwrap_or_default();
            event.state.as_deref() == Some("warning") && text.contains("1 bad-query")
        }),
        _ => panic!("not events"),
    };
    daemon.until(query, told).await;
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_over_tcp_is_in_the_history_and_stays_there() {
    let machine = Machine::new();
    let daemon = machine.daemon().await;
    let mut riemann =
        Riemann::connect(&RealDial, machine.events, PATIENCE).await.expect("the event port");
    let event = |metric: f64, state: &str| Event {
        host: Some("shed".to_owned()),
        service: Some("freezer".to_owned()),
        state: Some(state.to_owned()),
        metric: Some(Metric::Double(metric)),
        ..Event::default()
    };
    let events = [event(-18.5, "ok"), event(-17.0, "ok"), event(-2.0, "critical")];
    riemann.send(&events).await.expect("taken");
    let ask = || Ask::HistoryShow {
        service: "freezer".to_owned(),
        host: None,
        since: "1h".to_owned(),
        until: String::new(),
        points: 0,
    };
    let all = |reply: &Reply| match reply {
        Reply::History(view) => view.whole.as_ref().is_some_and(|whole| whole.count == 3),
        _ => panic!("not a history"),
    };
    let shown = daemon.until(ask(), all).await;
    let look = Look { width: None, color: false, now: hostd::base::Timestamp::default() };
    let text = view(&shown, Detail::Full, look);
    for words in ["freezer on shed", "-18.5", "-12.5", "percentiles exact", "critical", "since "] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let list = daemon.ask(Ask::HistoryList { query: "host = \"shed\"".to_owned() }).await;
    let Ok(Reply::HistoryList(list)) = list else { panic!("not a list") };
    let listed: Vec<_> = list.series.iter().map(|one| one.service.as_str()).collect();
    assert_eq!(listed, ["freezer"]);
    daemon.end().await;
    // The next hostd has it from the disk.
    let daemon = machine.daemon().await;
    daemon.until(ask(), all).await;
    let unknown = Ask::HistoryShow {
        service: "nothing".to_owned(),
        host: None,
        since: String::new(),
        until: String::new(),
        points: 0,
    };
    assert_eq!(daemon.ask(unknown).await.expect_err("it is not there").code, Code::NotFound);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_changes_is_told_with_who_did_it() {
    let machine = Machine::new();
    let daemon = machine.daemon().await;
    let told = |service: &str, state: &'static str, words: &'static str| {
        let query = Ask::EventQuery { query: format!("service = \"{service}\"") };
        let wanted = move |reply: &Reply| match reply {
            Reply::Events(view) => view.events.iter().any(|event| {
                let text = event.description.as_deref().unwrap_or_default();
                event.state.as_deref() == Some(state) && text.contains(words)
            }),
            _ => panic!("not events"),
        };
        daemon.until(query, wanted)
    };
    daemon.ask(Ask::GpuBind { gpu: Some(card()) }).await.expect("bound");
    told("device 0000:01:00.0", "ok", "has driver vfio-pci; it had driver aty128fb; hostd").await;
    told("gpu card", "ok", "ready for a guest").await;

    let audio = "01:00.1".parse().expect("an address");
    machine.pci.take_over(audio, Some("snd_other")).expect("a driver");
    told("device 0000:01:00.1", "warning", "has driver snd_other; it had driver vfio-pci").await;
    told("gpu card", "critical", "somebody else changed it").await;

    machine.pci.unplug(audio).expect("a function");
    told("device 0000:01:00.1", "warning", "has vanished").await;
    told("gpu card", "critical", "gone from the bus while bound").await;
    daemon.end().await;
}

//! Programs that others wrote for Riemann's protocol, against our servers.
#![allow(clippy::expect_used, clippy::panic, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "the peer is started directly, not through the door")]

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hostd::base::{Event, Metric, Severity};
use hostd::host::clock::RealClock;
use hostd::query::{Query, parse};
use hostd::riemann::{Index, Reason, decode::Caps, index, tcp, udp};
use tokio::net::{TcpListener, UdpSocket};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// Both servers on one port number each, for as long as the runtime lives.
async fn servers() -> (Index, SocketAddr, SocketAddr) {
    let index = Index::new(index::Limits::default(), Arc::new(RealClock));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let tcp_at = listener.local_addr().expect("an address");
    let udp_at = socket.local_addr().expect("an address");
    let never = std::future::pending;
    tokio::spawn(tcp::run(listener, index.clone(), tcp::Limits::default(), never()));
    tokio::spawn(udp::run(socket, index.clone(), Caps::default(), never()));
    (index, tcp_at, udp_at)
}

/// Runs riemann-client; its exit code, what it prints and what it complains of.
async fn riemann_client(args: &[&str], to: SocketAddr) -> (Option<i32>, String, String) {
    let (ip, port) = (to.ip().to_string(), to.port().to_string());
    let mut command = Command::new("riemann-client");
    command.args(args).args([ip, port]);
    let run = tokio::task::spawn_blocking(move || command.output());
    let output = timeout(PATIENCE, run).await.expect("riemann-client hangs").expect("a task");
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run riemann-client ({error}): apt-get install riemann-c-client")
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn riemann_c_client_sends_every_field() {
    let (index, to, _) = servers().await;
    let before = index.now();
    let args = [
        "send",
        "-h",
        "nas",
        "-S",
        "disk /",
        "-s",
        "ok",
        "-D",
        "12 % used",
        "-t",
        "disk",
        "-t",
        "root",
        "-a",
        "pool=tank",
        "-L",
        "30",
    ];
    for (service, option, value, metric) in [
        ("long", "-i", "-7", Metric::Int(-7)),
        ("double", "-d", "0.1", Metric::Double(0.1)),
        ("float", "-f", "0.5", Metric::Float(0.5)),
    ] {
        let args = [&args[..], &["-S", service, option, value]].concat();
        let (code, _, complaints) = riemann_client(&args, to).await;
        assert_eq!((code, complaints.as_str()), (Some(0), ""));
        let event = index.get(Some("nas"), Some(service)).expect("the event");
        let expected = Event {
            host: Some("nas".into()),
            service: Some(service.into()),
            state: Some("ok".into()),
            description: Some("12 % used".into()),
            metric: Some(metric),
            tags: vec!["disk".into(), "root".into()],
            ttl: Some(30.0),
            time: event.time,
            ..Event::default()
        };
        let expected = expected.attribute("pool", "tank").attribute("x-client", "riemann-c-client");
        assert_eq!(*event, expected);
        assert!(event.time.is_some_and(|time| time >= before && time <= index.now()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn riemann_c_client_sends_datagrams() {
    let (index, _, to) = servers().await;
    let mut seen = index.subscribe(Query::all()).expect("a subscription");
    let (code, ..) = riemann_client(&["send", "-U", "-S", "udp", "-i", "1"], to).await;
    assert_eq!(code, Some(0));
    let event = timeout(PATIENCE, seen.next()).await.expect("the event");
    assert_eq!((event.host.as_ref(), event.service.as_deref()), (None, Some("udp")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn riemann_c_client_queries() {
    let (index, to, _) = servers().await;
    let own = Event::new("zpool tank health", Severity::Warning, "one disk is missing")
        .metric(Metric::Int(1))
        .attribute("pool", "tank");
    index.apply_own(vec![
        Event { host: Some("nas".into()), ttl: Some(10.0), ..own },
        Event { host: Some("nas".into()), ..Event::new("cpu", Severity::Ok, "") },
    ]);
    for query in [
        "pool = \"tank\" and metric <= 1",
        "host = \"nas\" and service = \"zpool tank health\"",
        "service =~ \"zpool % health\" and not state = \"ok\"",
    ] {
        let (code, found, complaints) = riemann_client(&["query", query, "-j"], to).await;
        assert_eq!((code, complaints.as_str()), (Some(0), ""), "{query}");
        let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
        let found = found.as_array().expect("a list");
        assert_eq!(found.len(), 1, "{query}");
        assert_eq!(found[0]["service"], "zpool tank health");
        assert_eq!(found[0]["state"], "warning");
        assert_eq!(found[0]["description"], "one disk is missing");
    }
    let (code, found, _) = riemann_client(&["query", "true"], to).await;
    assert_eq!(code, Some(0));
    assert_eq!(found.matches("host = nas").count(), 2, "{found}");
    let (_, found, _) = riemann_client(&["query", "false"], to).await;
    assert!(!found.contains("nas"), "{found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn riemann_c_client_is_told_what_is_wrong() {
    let (index, to, _) = servers().await;
    let (code, said, complaints) = riemann_client(&["query", "state == \"ok\""], to).await;
    assert_ne!(code, Some(0), "{said}");
    assert!(complaints.contains("at offset 6") && complaints.contains("write `=`"), "{complaints}");
    assert_eq!(index.stats().refused(Reason::BadQuery), 1);

    index.apply_own(vec![Event {
        host: Some("nas".into()),
        ..Event::new("zpool health", Severity::Ok, "")
    }]);
    let lie = ["send", "-h", "nas", "-S", "zpool health", "-s", "critical", "-t", "hostd"];
    let (code, said, complaints) = riemann_client(&lie, to).await;
    assert_ne!(code, Some(0), "{said} {complaints}");
    let kept = index.query(&parse("service = \"zpool health\"").expect("a query"));
    assert_eq!(kept.first().and_then(|event| event.state.clone()).as_deref(), Some("ok"));
    assert_eq!(index.stats().refused(Reason::OwnKey), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn riemann_c_client_leaves_no_connection_behind() {
    let (index, to, _) = servers().await;
    riemann_client(&["send", "-S", "x"], to).await;
    let closed = async {
        while index.stats().open() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("the connection closes");
    assert_eq!(index.stats().connections.get(), 1);
}

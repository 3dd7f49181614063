//! Peers that behave, and peers that do not.

use super::*;
use crate::host::dial::RealDial;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}"#;
const SOON: Duration = Duration::from_millis(300);

/// Connects to a peer that does `play` with the one who connects.
async fn with<F: Future<Output = ()> + Send + 'static>(
    play: impl FnOnce(UnixStream) -> F + Send + 'static,
) -> Result<(Qmp, Events), QmpError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (peer, _) = listener.accept().await.unwrap();
        play(peer).await;
    });
    connect(&RealDial, &path, SOON).await
}

/// Greets and accepts the negotiation.
async fn negotiate(peer: &mut UnixStream) {
    peer.write_all(format!("{GREETING}\n").as_bytes()).await.unwrap();
    let mut line = String::new();
    BufReader::new(&mut *peer).read_line(&mut line).await.unwrap();
    assert_eq!(line, "{\"execute\":\"qmp_capabilities\",\"id\":1}\n");
    peer.write_all(b"{\"return\": {}, \"id\": 1}\n").await.unwrap();
}

#[tokio::test]
async fn talks_and_tells_events() {
    let (qmp, mut events) = with(async |mut peer: UnixStream| {
        negotiate(&mut peer).await;
        let mut line = String::new();
        BufReader::new(&mut peer).read_line(&mut line).await.unwrap();
        let said = "{\"event\": \"RESUME\"}\n\
            {\"return\": {\"status\": \"debug\"}, \"id\": 77}\n\
            {\"return\": {\"status\": \"debug\"}, \"id\": \"2\"}\n\
            {\"return\": {\"status\": \"running\"}, \"id\": 2}\n";
        peer.write_all(said.as_bytes()).await.unwrap();
    })
    .await
    .unwrap();
    assert_eq!(qmp.greeting().version, (10, 0, 0));
    assert_eq!(qmp.status(SOON).await.unwrap(), RunState::Running, "not an answer of wrong number");
    assert_eq!(events.next().await, Some(Event::Resume));
    assert_eq!(events.next().await, None);
    assert_eq!(qmp.why_closed(), "QEMU closed it");
    let error = qmp.status(SOON).await.unwrap_err().to_string();
    assert_eq!(error, "the connection to QEMU is lost: QEMU closed it");
}

#[tokio::test]
async fn a_refusal_names_the_command() {
    let (qmp, _events) = with(async |mut peer: UnixStream| {
        negotiate(&mut peer).await;
        peer.write_all(
            b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}, \"id\": 2}\n",
        )
        .await
        .unwrap();
        std::future::pending::<()>().await;
    })
    .await
    .unwrap();
    // The answer may come before the question; such a one is not taken.
    let error = qmp.ask(Command::Cont, SOON).await.unwrap_err();
    assert!(matches!(error, QmpError::Refused { what: "cont", .. } | QmpError::Silent { .. }));
}

#[tokio::test]
async fn one_that_never_answers_costs_a_deadline() {
    let begun = Instant::now();
    let error = with(async |_peer| std::future::pending().await).await.err().unwrap();
    assert!(matches!(error, QmpError::Silent { .. }), "{error}");
    let (qmp, _events) = with(async |mut peer: UnixStream| {
        negotiate(&mut peer).await;
        std::future::pending::<()>().await;
    })
    .await
    .unwrap();
    for _ in 0..3 {
        let error = qmp.status(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error.to_string(), "QEMU did not answer query-status within 50ms");
    }
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn unanswered_commands_do_not_pile_up() {
    let (qmp, _events) = with(async |mut peer: UnixStream| {
        negotiate(&mut peer).await;
        std::future::pending::<()>().await;
    })
    .await
    .unwrap();
    // More than the queue holds at once.
    let asks = (0..40).map(|_| qmp.ask(Command::QueryStatus, Duration::from_millis(20)));
    for ask in futures_util::future::join_all(asks).await {
        assert!(matches!(ask, Err(QmpError::Silent { .. })));
    }
}

#[tokio::test]
async fn garbage_half_lines_and_endless_ones_end_it() {
    for (said, why) in [
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "does not greet as QEMU does"),
        (b"{\"return\": {}}\n".to_vec(), "does not greet as QEMU does"),
        (b"{\"QMP\":".to_vec(), "before the greeting"),
        (Vec::new(), "before the greeting"),
        (vec![b'x'; 3 << 20], "a line longer than 1048576 bytes"),
        ([GREETING.as_bytes(), b"\n\xff\xfe\n"].concat(), "not QMP: not JSON"),
        ([GREETING.as_bytes(), b"\n{}\n"].concat(), "not QMP: an object"),
    ] {
        let begins = String::from_utf8_lossy(&said[..said.len().min(80)]).into_owned();
        let error = with(async move |mut peer: UnixStream| {
            // The other side may leave before it has read it all.
            let _ = peer.write_all(&said).await;
            let _ = peer.shutdown().await;
            let _ = peer.read_to_end(&mut Vec::new()).await;
        })
        .await
        .err()
        .unwrap()
        .to_string();
        assert!(error.contains(why), "{begins}: {error}");
    }
}

#[tokio::test]
async fn a_flood_of_events_is_bounded_and_does_not_drown_the_known_ones() {
    let (qmp, mut events) = with(async |mut peer: UnixStream| {
        negotiate(&mut peer).await;
        let flood = "{\"event\": \"NOISE\", \"data\": {}}\n".repeat(20_000);
        peer.write_all(flood.as_bytes()).await.unwrap();
        peer.write_all(b"{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\n").await.unwrap();
        let mut line = String::new();
        BufReader::new(&mut peer).read_line(&mut line).await.unwrap();
        peer.write_all(b"{\"return\": {\"status\": \"shutdown\"}, \"id\": 2}\n").await.unwrap();
        // Until the other side leaves.
        let _ = peer.read_to_end(&mut Vec::new()).await;
    })
    .await
    .unwrap();
    assert_eq!(qmp.status(Duration::from_secs(5)).await.unwrap(), RunState::Shutdown);
    assert!(qmp.missed() >= 20_000 - EVENTS as u64);
    let mut seen = Vec::new();
    while let Some(event) = events.waiting() {
        seen.push(event);
    }
    assert!(seen.len() <= EVENTS);
    let shutdown = wire::Shutdown { guest: true, reason: String::new() };
    assert_eq!(seen.last(), Some(&Event::Shutdown(shutdown)));
}

#[tokio::test]
async fn no_socket_is_named() {
    let error = connect(&RealDial, Path::new("/none/qmp.sock"), SOON).await.err().unwrap();
    assert_eq!(error.to_string(), "cannot connect to /none/qmp.sock");
}

#[test]
fn commands_carry_their_arguments() {
    let line = |command: Command| String::from_utf8(command.line(7)).unwrap();
    assert_eq!(line(Command::Cont), "{\"execute\":\"cont\",\"id\":7}\n");
    let nodes = vec!["disk0".to_owned(), "disk2".to_owned()];
    let both = line(Command::SnapshotDisks { nodes, name: "hostd-x".to_owned() });
    let both: serde_json::Value = serde_json::from_str(&both).unwrap();
    assert_eq!(both["execute"], "transaction");
    let second = &both["arguments"]["actions"][1];
    assert_eq!(second["type"], "blockdev-snapshot-internal-sync");
    assert_eq!(second["data"], serde_json::json!({ "device": "disk2", "name": "hostd-x" }));
}

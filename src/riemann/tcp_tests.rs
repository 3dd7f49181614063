//! The server over real sockets, and its writes over a recording stream.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::super::door::Right;
use super::super::{Client, client::ClientError, frame, index, wire};
use super::*;
use crate::base::{Event, Severity};
use crate::host::clock::RealClock;
use crate::host::dial::RealDial;

const PATIENCE: Duration = Duration::from_secs(10);
const SOON: Duration = Duration::from_millis(200);

struct Running {
    index: Index,
    to: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

fn fresh() -> Index {
    Index::new(index::Limits::default(), Arc::new(RealClock))
}

async fn start(limits: Limits) -> Running {
    let index = fresh();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(run(listener, index.clone(), limits, async {
        let _ = stopped.await;
    }));
    Running { index, to, stop, task }
}

impl Running {
    async fn client(&self) -> Client {
        Client::connect(&RealDial, self.to, PATIENCE).await.unwrap()
    }

    /// Everything that the server says to these bytes until it closes.
    async fn told(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.to).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut said = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap().unwrap();
        said
    }

    async fn refused(&self, reason: Reason) {
        let all = async {
            while self.index.stats().refused(reason) == 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, all).await.unwrap();
    }
}

fn event(service: &str) -> Event {
    Event { host: Some("a".into()), service: Some(service.into()), ..Event::default() }
}

fn framed(msg: &wire::Msg) -> Vec<u8> {
    wire::framed(msg, usize::MAX).unwrap()
}

#[tokio::test]
async fn takes_events_and_answers_queries() {
    let server = start(Limits::default()).await;
    let mut client = server.client().await;
    client.send(&[event("x"), event("y")]).await.unwrap();
    client.send(&[]).await.unwrap();
    assert_eq!(client.query("service = \"x\"").await.unwrap().len(), 1);
    assert_eq!(client.query("host = \"a\" and service = \"y\"").await.unwrap().len(), 1);
    assert_eq!(client.query("host = \"b\" and service = \"y\"").await.unwrap(), []);

    // Events of a message are in the index before its query is answered.
    let mut both = wire::events([&event("z")]);
    both.query = wire::query("service = \"z\"").query;
    let mut stream = TcpStream::connect(server.to).await.unwrap();
    stream.write_all(&framed(&both)).await.unwrap();
    let mut header = [0; frame::HEADER];
    stream.read_exact(&mut header).await.unwrap();
    assert!(header[3] > 2, "an answer with a payload");
}

#[tokio::test]
async fn mistakes_are_answered_and_the_connection_stays() {
    let server = start(Limits::default()).await;
    server.index.apply_own(vec![Event {
        host: Some("a".into()),
        ..Event::new("zpool health", Severity::Ok, "")
    }]);
    let mut client = server.client().await;
    let refused = |result: Result<(), ClientError>| match result {
        Err(ClientError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(client.query("state == 1").await.map(|_| ()));
    assert_eq!(why, "the query is wrong at offset 6: `==` is not an operator (write `=`)");
    let why = refused(client.send(&[event("x"), event("zpool health")]).await);
    assert_eq!(why, "1 of 2 events refused: this host and service belong to hostd itself");
    let long = Event { description: Some("x".repeat(70_000)), ..event("long") };
    let why = refused(client.send(&[long]).await);
    assert_eq!(why, "1 of 1 events refused: the event is longer than this server takes");
    assert_eq!(client.query("service = \"x\"").await.unwrap().len(), 1);

    let mut stream = TcpStream::connect(server.to).await.unwrap();
    stream.write_all(&[0, 0, 0, 1, 0xff, 0, 0, 0, 0]).await.unwrap();
    let refusal = framed(&wire::error("the message is not valid protobuf"));
    let mut said = vec![0; refusal.len() + wire::ACK.len()];
    timeout(PATIENCE, stream.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, [refusal, wire::ACK.to_vec()].concat());
    assert_eq!(server.index.stats().refused(Reason::Malformed), 1);
}

#[tokio::test]
async fn replies_come_in_order_and_payloads_alone() {
    let requests = [
        framed(&wire::events([&event("x")])),
        framed(&wire::Msg::default()),
        framed(&wire::query("true")),
        framed(&wire::Msg::default()),
        framed(&wire::query("(")),
        framed(&wire::Msg::default()),
        framed(&wire::Msg::default()),
    ];
    let writes = recorded(&requests.concat()).await;
    let expected = [false, true, false, true, false];
    assert_eq!(writes.len(), expected.len());
    for (write, payload) in writes.iter().zip(expected) {
        let acks = write.chunks(wire::ACK.len()).all(|chunk| chunk == wire::ACK);
        assert_eq!(!acks, payload, "{write:?}");
    }
    let lengths = [0, 2, 4].map(|at| writes[at].len() / wire::ACK.len());
    assert_eq!(lengths, [2, 1, 2]);
}

/// The server's writes to a peer that sends these bytes at once and closes.
async fn recorded(input: &[u8]) -> Vec<Vec<u8>> {
    struct Recorder {
        input: VecDeque<u8>,
        writes: Arc<Mutex<Vec<Vec<u8>>>>,
    }
    impl AsyncRead for Recorder {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let length = self.input.len().min(buffer.remaining());
            buffer.put_slice(&self.input.drain(..length).collect::<Vec<_>>());
            Poll::Ready(Ok(()))
        }
    }
    impl AsyncWrite for Recorder {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.writes.lock().unwrap().push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
    let server = Server {
        index: fresh(),
        limits: Limits::default(),
        room: Semaphore::new(1024),
        scans: Semaphore::new(1),
    };
    let writes = Arc::new(Mutex::default());
    let stream = Recorder { input: input.iter().copied().collect(), writes: Arc::clone(&writes) };
    let (_stop, stopping) = watch::channel(());
    let end = Connection::new(&server, stream, Right::Everything).serve(stopping).await;
    assert!(matches!(end, connection::End::Closed));
    let writes = writes.lock().unwrap();
    writes.clone()
}

#[tokio::test]
async fn from_elsewhere_events_are_taken_and_queries_refused() {
    let server = Server {
        index: fresh(),
        limits: Limits::default(),
        room: Semaphore::new(1024),
        scans: Semaphore::new(1),
    };
    let (near, mut far) = tokio::io::duplex(4096);
    let (_stop, stopping) = watch::channel(());
    let event = Event::new("x", Severity::Ok, "");
    let mut both = wire::events([&event]);
    both.query = wire::query("true").query;
    let frame = wire::framed(&both, usize::MAX).unwrap();
    far.write_all(&frame).await.unwrap();
    far.shutdown().await.unwrap();
    let end = Connection::new(&server, near, Right::Send).serve(stopping).await;
    assert!(matches!(end, connection::End::Closed));
    let mut said = Vec::new();
    far.read_to_end(&mut said).await.unwrap();
    assert_eq!(said, session::refusal(Reason::IngestOnly.explain()));
    assert_eq!(server.index.stats().refused(Reason::IngestOnly), 1);
    assert_eq!(server.index.size().0, 1, "the event is taken");
}

#[tokio::test]
async fn strangers_at_the_door_are_told_and_counted() {
    let server = start(Limits { frame: 1000, ..Limits::default() }).await;
    let said = server.told(b"GET / HTTP/1.1\r\nHost: nas\r\n\r\n").await;
    assert!(said.starts_with(b"HTTP/1.1 400 "), "{said:?}");
    assert_eq!(server.told(&[0x16, 3, 1, 2, 0, 1, 0]).await, b"");
    let said = server.told(&[0, 0, 3, 233]).await;
    assert_eq!(said, session::refusal(Reason::FrameTooLarge.explain()));
    for reason in [Reason::Http, Reason::Tls, Reason::FrameTooLarge] {
        server.refused(reason).await;
    }
    // What was complete before is answered.
    let said = server.told(&[&[0; 4][..], &[255; 4]].concat()).await;
    assert_eq!(said[..wire::ACK.len()], wire::ACK);
}

#[tokio::test]
async fn half_frames_and_silence_end() {
    let server = start(Limits { half_frame: SOON, ..Limits::default() }).await;
    let said = server.told(&[0, 0, 0]).await;
    assert_eq!(said, session::refusal(Reason::HalfFrame.explain()));
    server.refused(Reason::HalfFrame).await;

    let server = start(Limits { idle: SOON, ..Limits::default() }).await;
    assert_eq!(server.told(&[]).await, b"");
    server.refused(Reason::Idle).await;

    // Who has never said anything has less time than who has.
    let server = start(Limits { silent: SOON, ..Limits::default() }).await;
    let mut client = server.client().await;
    client.query("true").await.unwrap();
    assert_eq!(server.told(&[]).await, b"");
    server.refused(Reason::Idle).await;
    client.query("true").await.unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_closed() {
    let server = start(Limits { write: SOON, ..Limits::default() }).await;
    let long = Event { description: Some("x".repeat(60_000)), ..Event::default() };
    let events = (0..100).map(|n| Event { service: Some(n.to_string()), ..long.clone() });
    server.client().await.send(&events.collect::<Vec<_>>()).await.unwrap();
    let mut stream = TcpStream::connect(server.to).await.unwrap();
    for _ in 0..4 {
        stream.write_all(&framed(&wire::query("true"))).await.unwrap();
    }
    server.refused(Reason::SlowReader).await;
}

#[tokio::test]
async fn long_frames_share_their_room() {
    let server = start(Limits { frame: 1 << 20, buffered: 1 << 20, ..Limits::default() }).await;
    let events: Vec<_> = (0..1000)
        .map(|n| Event { description: Some("x".repeat(900)), ..event(&n.to_string()) })
        .collect();
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (mut client, events) = (server.client().await, events.clone());
        clients.spawn(async move { client.send(&events).await });
    }
    while let Some(sent) = clients.join_next().await {
        sent.unwrap().unwrap();
    }
    // The answer is longer than a frame by now.
    server.index.apply_own(vec![Event { description: Some("x".repeat(1 << 20)), ..event("own") }]);
    let mut client = server.client().await;
    let refused = client.query("true").await.unwrap_err().to_string();
    assert!(refused.contains("(1001 events)"), "{refused}");
    assert_eq!(client.query("service = \"7\"").await.unwrap().len(), 1);
}

#[tokio::test]
async fn connections_are_bounded_and_counted() {
    let server = start(Limits { connections: 1, ..Limits::default() }).await;
    let mut first = server.client().await;
    first.send(&[event("x")]).await.unwrap();
    let said = server.told(&[]).await;
    assert_eq!(said, session::refusal(Reason::TooManyConnections.explain()));
    assert_eq!(server.index.stats().open(), 1);
    drop(first);
    let closed = async {
        while server.index.stats().open() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, closed).await.unwrap();
    server.client().await.send(&[event("x")]).await.unwrap();
}

#[tokio::test]
async fn stops_when_told_with_clients_connected() {
    let server = start(Limits::default()).await;
    let mut client = server.client().await;
    client.send(&[event("x")]).await.unwrap();
    server.stop.send(()).unwrap();
    timeout(PATIENCE, server.task).await.unwrap().unwrap();
    assert!(matches!(client.send(&[event("x")]).await, Err(ClientError::Lost(_))));
    assert!(matches!(client.send(&[event("x")]).await, Err(ClientError::Unusable)));
}

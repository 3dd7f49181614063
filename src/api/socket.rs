//! The private socket: D-Bus peer to peer, for machines without a bus, for
//! root without polkit, and for `hostctl --host`.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zbus::{Connection, Guid, connection};

use super::gate::{Door, Peer, PeerGate, Quota, Rule, Ticket};
use super::stream::Bounded;
use super::{Change, Changes, Stop, dbus, stopped};
use crate::ask::Asks;
use crate::host::listen::{self, ListenError};
use crate::host::lock::{Lock, LockError};

/// Connections of one user, and in all.
const CONNECTIONS: (usize, usize) = (16, 64);
/// Asks under way of one user, and in all.
pub(super) const CALLS: (usize, usize) = (32, 256);
/// How long a client may take to authenticate.
const GREETING: Duration = Duration::from_secs(10);
/// How long answers that are under way may take when we end.
pub(super) const DRAIN: Duration = Duration::from_secs(5);

/// Why there is no private socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody has it.
    #[error("another hostd is running: it answers on {0}")]
    Running(PathBuf),
    /// Somebody has locked it.
    #[error("another hostd is running: it has locked {0}")]
    Locked(PathBuf),
    /// Anything else.
    #[error("cannot make the private socket")]
    Listen(#[source] ListenError),
}

/// The socket, listening; nobody is answered before [`serve_socket`].
pub struct Private {
    listener: UnixListener,
    path: PathBuf,
    lock: Arc<Lock>,
}

impl Private {
    /// Keeps a second hostd out until all who have it have dropped it.
    pub fn lock(&self) -> Arc<Lock> {
        Arc::clone(&self.lock)
    }
}

/// Makes the socket, for all to connect to. This is also how a second hostd is
/// noticed, so it comes early.
pub async fn listen(path: &Path) -> Result<Private, SocketError> {
    match listen::unix(path, 0o666).await {
        Ok((listener, lock)) => {
            Ok(Private { listener, path: path.to_owned(), lock: Arc::new(lock) })
        }
        Err(ListenError::Taken(path)) => Err(SocketError::Running(path)),
        Err(ListenError::Lock(LockError::Held(path))) => Err(SocketError::Locked(path)),
        Err(other) => Err(SocketError::Listen(other)),
    }
}

/// Serves every peer until `stop`; then lets answers that are under way finish
/// and removes the socket.
pub async fn serve_socket(
    private: Private,
    asks: Asks,
    changes: Changes,
    rule: Rule,
    mut stop: Stop,
) {
    let connections = Quota::new(CONNECTIONS.0, CONNECTIONS.1);
    let calls = Quota::new(CALLS.0, CALLS.1);
    let mut serving = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stopped(&mut stop) => break,
            // Reaps those that have left; pending when there are none.
            Some(left) = serving.join_next() => {
                if let Err(error) = left {
                    tracing::error!(%error, "a connection on the private socket broke");
                }
                continue;
            }
            accepted = private.listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| Ok((peer(&stream)?, stream))) {
            Ok((peer, stream)) => {
                let Some(ticket) = connections.take(peer.uid) else {
                    tracing::warn!(uid = peer.uid, "too many connections on the private socket");
                    continue;
                };
                let gate = PeerGate { peer, rule: rule.clone() };
                let door = Door::new(asks.clone(), Arc::new(gate), calls.clone());
                serving.spawn(serve(stream, peer, door, changes.subscribe(), ticket));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the private socket");
                sleep(Duration::from_millis(200)).await;
            }
        }
    }
    // No new peers while the answers under way go out.
    drop(private.listener);
    listen::remove(&private.path);
    // What takes longer is cut; the peers are told by the connection's end.
    let _ = timeout(DRAIN, drained(&calls)).await;
    serving.shutdown().await;
}

/// Returns when no ask is under way.
pub(super) async fn drained(calls: &Quota) {
    while calls.busy() > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    // The last answer is given back as a value; it still has to be written.
    sleep(Duration::from_millis(20)).await;
}

fn peer(stream: &UnixStream) -> std::io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    Ok(Peer { uid: credentials.uid(), gid: credentials.gid() })
}

async fn serve(
    stream: UnixStream,
    peer: Peer,
    door: Door,
    changes: broadcast::Receiver<Change>,
    _ticket: Ticket,
) {
    let socket = stream.as_raw_fd();
    match timeout(GREETING, greet(stream, peer, &door)).await {
        Ok(Ok(connection)) => {
            tracing::debug!(socket, uid = peer.uid, "connected");
            tokio::select! {
                () = connection.closed() => {}
                () = forward(&connection, changes) => {}
            }
            tracing::debug!(socket, uid = peer.uid, "left");
        }
        Ok(Err(error)) => tracing::debug!(socket, uid = peer.uid, %error, "not understood"),
        Err(_) => tracing::debug!(socket, uid = peer.uid, "said nothing"),
    }
}

async fn greet(stream: UnixStream, peer: Peer, door: &Door) -> zbus::Result<Connection> {
    let (bounded, flow) = Bounded::new(stream);
    let builder =
        connection::Builder::socket(bounded).server(Guid::generate()).p2p().user_id(peer.uid);
    let connection = dbus::publish(builder, door).build().await?;
    flow.greeted();
    Ok(connection)
}

/// Sends changes until the connection or their source ends.
pub(super) async fn forward(connection: &Connection, mut changes: broadcast::Receiver<Change>) {
    loop {
        match changes.recv().await {
            Ok(change) => {
                if let Err(error) = dbus::emit(connection, &change).await {
                    tracing::debug!(%error, "cannot tell a change");
                    return;
                }
            }
            // The next one tells the state that counts.
            Err(RecvError::Lagged(missed)) => tracing::debug!(missed, "a listener lags behind"),
            Err(RecvError::Closed) => return std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::JoinHandle;

    use super::*;
    use crate::api::client::{Client, Where};
    use crate::api::fake::Fake;
    use crate::api::names;
    use crate::ask::{Ask, Code, Reply};

    struct Served {
        dir: tempfile::TempDir,
        fake: Fake,
        serving: JoinHandle<()>,
    }

    impl Served {
        async fn new(rule: Rule) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let fake = Fake::start();
            let private = listen(&dir.path().join("control.sock")).await.unwrap();
            let (asks, changes, stop) =
                (fake.asks.clone(), fake.changes.clone(), fake.stop.clone());
            let serving = tokio::spawn(serve_socket(private, asks, changes, rule, stop));
            Self { dir, fake, serving }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("control.sock")
        }

        async fn client(&self) -> Client {
            Client::connect(&Where::Socket(self.path())).await.unwrap()
        }
    }

    fn start() -> Ask {
        Ask::VmStart { name: "gaming".parse().unwrap() }
    }

    #[tokio::test]
    async fn those_who_may_act_do_and_see_changes() {
        let served = Served::new(Rule::new(|_| Ok(true))).await;
        let client = served.client().await;
        let mut changes = client.changes().await.unwrap();
        let Reply::Done(done) = client.ask(&start()).await.unwrap() else { panic!("not done") };
        assert_eq!(done.message, "gaming runs");
        assert_eq!(changes.next().await.unwrap().step, "binding 0000:01:00.0");
        assert_eq!(changes.next().await.unwrap().step, "");
        let uid = nix::unistd::geteuid();
        assert_eq!(served.fake.seen(), [(start(), format!("uid {uid} over the private socket"))]);
        assert_eq!(client.version().await.unwrap(), env!("CARGO_PKG_VERSION"));
    }

    #[tokio::test]
    async fn others_read_and_are_told_why_they_may_not_act() {
        let served = Served::new(Rule::new(|_| Ok(false))).await;
        let client = served.client().await;
        assert!(matches!(client.ask(&Ask::VmList).await, Ok(Reply::Vms(_))));
        let denied = client.ask(&start()).await.unwrap_err();
        assert_eq!(denied.code, Code::Denied);
        assert!(denied.message.contains("may not start or stop VMs"), "{denied}");
        assert!(denied.hint.contains("usermod -aG hostd"), "{}", denied.hint);
        assert_eq!(served.fake.seen().len(), 1, "the daemon was not asked to act");
    }

    #[tokio::test]
    async fn an_unreadable_user_database_denies() {
        let served = Served::new(Rule::new(|_| Err("EIO".into()))).await;
        let denied = served.client().await.ask(&start()).await.unwrap_err();
        assert_eq!(denied.code, Code::Denied);
        assert!(denied.message.contains("EIO"), "{denied}");
    }

    #[tokio::test]
    async fn refusals_arrive_with_their_hint_and_bad_names_are_usage() {
        let served = Served::new(Rule::new(|_| Ok(true))).await;
        let client = served.client().await;
        let ask = Ask::VmStatus { name: "none".parse().unwrap() };
        let refused = client.ask(&ask).await.unwrap_err();
        assert_eq!(refused.code, Code::NotFound);
        assert_eq!(refused.hint, "`hostctl vm list` shows those there are");
        let stream = std::os::unix::net::UnixStream::connect(served.path()).unwrap();
        let raw = zbus::connection::Builder::unix_stream(stream).p2p().build().await.unwrap();
        let error = raw
            .call_method(None::<&str>, names::OBJECT, Some(names::VM), "Status", &"../etc")
            .await
            .unwrap_err();
        assert_eq!(crate::api::wire::refusal(&error).code, Code::Usage);
    }

    #[tokio::test]
    async fn a_second_daemon_is_told_and_a_lost_one_is_said() {
        let served = Served::new(Rule::new(|_| Ok(true))).await;
        let second = listen(&served.path()).await.err().unwrap();
        assert!(second.to_string().starts_with("another hostd is running"), "{second}");
        let client = served.client().await;
        served.fake.end.send(true).unwrap();
        served.serving.await.unwrap();
        assert!(!served.dir.path().join("control.sock").exists());
        let lost = client.ask(&Ask::VmList).await.unwrap_err();
        assert_eq!(lost.code, Code::NoDaemon, "{lost}");
    }

    #[tokio::test]
    async fn rubbish_and_long_messages_end_only_their_own_connection() {
        let served = Served::new(Rule::new(|_| Ok(true))).await;
        for rubbish in [&b"\n"[..], b"\0\r\n", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 4096]] {
            let mut peer = tokio::net::UnixStream::connect(served.path()).await.unwrap();
            peer.write_all(rubbish).await.unwrap();
            peer.shutdown().await.unwrap();
            // Whether it ends with an answer or a reset does not matter.
            let _ = peer.read_to_end(&mut Vec::new()).await;
        }
        let long = Ask::EventQuery { query: "x".repeat(2 << 20) };
        let error = served.client().await.ask(&long).await.unwrap_err();
        assert_eq!(error.code, Code::NoDaemon, "{error}");
        assert!(served.client().await.ask(&Ask::VmList).await.is_ok());
    }

    #[tokio::test]
    async fn one_user_cannot_take_all_connections() {
        let served = Served::new(Rule::new(|_| Ok(true))).await;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS.0 {
            clients.push(served.client().await);
        }
        let refused = Client::connect(&Where::Socket(served.path())).await.err().unwrap();
        assert_eq!(refused.code, Code::NoDaemon);
        drop(clients.pop());
        for _ in 0..100 {
            if Client::connect(&Where::Socket(served.path())).await.is_ok() {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("the place is not given back");
    }

    /// What zbus as a client would send, for one who does not wait.
    fn greeting() -> Vec<u8> {
        let uid = nix::unistd::geteuid().to_string();
        let hex: Vec<_> = uid.bytes().map(|b| format!("{b:02x}")).collect();
        format!("\0AUTH EXTERNAL {}\r\nBEGIN\r\n", hex.concat()).into_bytes()
    }

    fn call(serial: u32) -> Vec<u8> {
        let call = zbus::Message::method_call(names::OBJECT, "Log").interface(names::VM);
        let mut call = call.build(&("gaming", false)).unwrap().data().to_vec();
        call[8..12].copy_from_slice(&serial.to_ne_bytes());
        call
    }

    #[tokio::test]
    async fn a_call_that_comes_with_the_greeting_is_answered() {
        let served = Served::new(Rule::new(|_| Ok(true))).await;
        for _ in 0..50 {
            let mut raw = UnixStream::connect(served.path()).await.unwrap();
            raw.write_all(&[greeting(), call(1)].concat()).await.unwrap();
            // The log is 256 KiB; what is said before it is short.
            let mut some = vec![0; 200 << 10];
            timeout(Duration::from_secs(5), raw.read_exact(&mut some)).await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_not_read_from() {
        let served = Served::new(Rule::new(|_| Ok(true))).await;
        let mut raw = UnixStream::connect(served.path()).await.unwrap();
        raw.write_all(&greeting()).await.unwrap();
        // Each is answered by 256 KiB that nobody reads.
        let mut sent = 0;
        for serial in 1..200_000 {
            let write = timeout(Duration::from_millis(500), raw.write_all(&call(serial))).await;
            if write.is_err() {
                break;
            }
            sent += 1;
        }
        assert!(sent < 2_000, "{sent} calls were taken");
        assert!(served.client().await.ask(&Ask::VmList).await.is_ok());
    }

    #[tokio::test]
    async fn the_contract_is_pinned() {
        let served = Served::new(Rule::new(|_| Ok(true))).await;
        let stream = std::os::unix::net::UnixStream::connect(served.path()).unwrap();
        let raw = zbus::connection::Builder::unix_stream(stream).p2p().build().await.unwrap();
        let reply = raw
            .call_method(
                None::<&str>,
                names::OBJECT,
                Some("org.freedesktop.DBus.Introspectable"),
                "Introspect",
                &(),
            )
            .await
            .unwrap();
        let xml: String = reply.body().deserialize().unwrap();
        // Interfaces come in the order of a hash map.
        let mut interfaces: Vec<_> = xml
            .split("  <interface ")
            .filter(|part| part.starts_with("name=\"org.hostd"))
            .map(|part| format!("  <interface {}", part.trim_end_matches("</node>\n").trim_end()))
            .collect();
        interfaces.sort_unstable();
        insta::assert_snapshot!("introspection", interfaces.join("\n"));
    }
}

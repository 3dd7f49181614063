//! The private socket: D-Bus peer to peer, for machines without a bus, for
//! root without polkit, and for `hostctl --host`.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zbus::{Connection, Guid, connection};

use super::gate::{Door, Peer, PeerGate, Quota, Rule, Ticket};
use super::stream::Bounded;
use super::{Changes, Listener, Stop, dbus, stopped};
use crate::ask::Asks;
use crate::host::listen::{self, ListenError};
use crate::host::lock::{Lock, LockError};

/// Connections of one user, and in all.
const CONNECTIONS: (usize, usize) = (16, 64);
/// Connections that wait for a place, of one user and in all.
const WAITING: (usize, usize) = (32, 128);
/// How long they wait; a client has more patience.
const WAIT: Duration = Duration::from_secs(3);
/// What a client is told that did not get a place.
pub(super) const BUSY: &str = "too many connections at once";
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
    let waiting = Quota::new(WAITING.0, WAITING.1);
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
                let gate = PeerGate { peer, rule: rule.clone() };
                let door = Door::new(asks.clone(), Arc::new(gate), calls.clone());
                let changes = changes.clone();
                if let Some(ticket) = connections.take(peer.uid) {
                    serving.spawn(serve(stream, peer, door, changes, ticket));
                } else if let Some(place) = waiting.take(peer.uid) {
                    let connections = connections.clone();
                    serving.spawn(async move {
                        let ticket = timeout(WAIT, connections.wait(peer.uid)).await;
                        drop(place);
                        match ticket {
                            Ok(ticket) => serve(stream, peer, door, changes, ticket).await,
                            Err(_) => turn_away(&stream, peer),
                        }
                    });
                } else {
                    turn_away(&stream, peer);
                }
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

/// Says why in the words of the handshake, as far as that goes without waiting.
fn turn_away(stream: &UnixStream, peer: Peer) {
    tracing::warn!(uid = peer.uid, "{BUSY} on the private socket");
    // Unread bytes would make the end of the connection an error; that nothing
    // has come yet, or that the peer has left, is fine.
    let _ = stream.try_read(&mut [0; 1024]);
    let _ = stream.try_write(format!("ERROR {BUSY}\r\n").as_bytes());
}

async fn serve(stream: UnixStream, peer: Peer, door: Door, changes: Changes, _ticket: Ticket) {
    let socket = stream.as_raw_fd();
    // Before it is asked how they are: nothing is missed between.
    let listener = changes.listen();
    match timeout(GREETING, greet(stream, peer, &door, &changes)).await {
        Ok(Ok(connection)) => {
            tracing::debug!(socket, uid = peer.uid, "connected");
            tokio::select! {
                () = connection.closed() => {}
                () = forward(&connection, &door, listener) => {}
            }
            tracing::debug!(socket, uid = peer.uid, "left");
        }
        Ok(Err(error)) => tracing::debug!(socket, uid = peer.uid, %error, "not understood"),
        Err(_) => tracing::debug!(socket, uid = peer.uid, "said nothing"),
    }
}

async fn greet(
    stream: UnixStream,
    peer: Peer,
    door: &Door,
    changes: &Changes,
) -> zbus::Result<Connection> {
    let (bounded, flow) = Bounded::new(stream);
    let builder =
        connection::Builder::socket(bounded).server(Guid::generate()).p2p().user_id(peer.uid);
    let connection = dbus::publish(builder, door, &changes.now()).build().await?;
    flow.greeted();
    Ok(connection)
}

/// Sends changes until the connection ends.
pub(super) async fn forward(connection: &Connection, door: &Door, mut listener: Listener) {
    loop {
        let told = match listener.from.recv().await {
            Ok(vm) => dbus::emit(connection, door, &vm).await,
            Err(RecvError::Lagged(missed)) => {
                tracing::debug!(missed, "a listener lags behind");
                // The next signals tell what was missed; properties are set right.
                let mut told = Ok(());
                for vm in listener.all.now() {
                    told = told.and(dbus::machine::update(connection, door, &vm).await);
                }
                told
            }
            Err(RecvError::Closed) => return std::future::pending().await,
        };
        if let Err(error) = told {
            tracing::debug!(%error, "cannot tell a change");
            return;
        }
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;

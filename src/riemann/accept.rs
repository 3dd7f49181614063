//! The loop that all stream servers share: accepts, bounds how many there are,
//! keeps strangers out, and drains at the end.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, error, info, warn};

use super::connection::End;
use super::door::{Door, Right};
use super::index::Index;
use super::stats::Reason;

/// Pause after accepting has failed, as it does when files run out.
const PAUSE: Duration = Duration::from_millis(250);

/// Who has come.
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    pub(super) right: Right,
    /// Changes, or loses its sender, when the server is to stop.
    pub(super) stopping: watch::Receiver<()>,
}

/// How many may be there, and for how long they may end.
pub(super) struct Room {
    pub(super) connections: usize,
    pub(super) drain: Duration,
}

/// Serves until `shutdown` is ready, and then until the connections have ended
/// or [`Room::drain`] has passed. `farewell` goes to those who find no place.
/// Without a door everybody may do everything: who it is, is asked later.
pub(super) async fn run<Served: Future<Output = End> + Send + 'static>(
    listener: TcpListener,
    index: &Index,
    room: Room,
    door: Option<&Door>,
    farewell: &[u8],
    shutdown: impl Future<Output = ()>,
    serve: impl Fn(Guest) -> Served,
) {
    let slots = Arc::new(Semaphore::new(room.connections));
    let (stop, stopping) = watch::channel(());
    let mut tasks = JoinSet::new();
    let mut stranger = None;
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = select! {
            accepted = listener.accept() => accepted,
            Some(ended) = tasks.join_next() => {
                if let Err(error) = ended {
                    error!(error = &error as &dyn std::error::Error, "a connection failed");
                }
                continue;
            }
            () = &mut shutdown => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "cannot accept connections");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(right) = door.map_or(Some(Right::Everything), |door| door.right(peer.ip())) else {
            index.stats().refuse(Reason::NotAllowed);
            // Once for each who tries again and again.
            if stranger.replace(peer.ip()) != Some(peer.ip()) {
                warn!(%peer, "refused a connection: {}", Reason::NotAllowed);
            }
            continue;
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            turn_away(index, farewell, &stream, peer);
            continue;
        };
        let guest = Guest { stream, right, stopping: stopping.clone() };
        tasks.spawn(see_off(index.clone(), slot, peer, serve(guest)));
    }
    drop(listener);
    drop(stop);
    let ended = timeout(room.drain, async { while tasks.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        info!(left = tasks.len(), "closing connections that did not end by themselves");
        tasks.shutdown().await;
    }
}

/// Says why, as far as that goes without waiting.
fn turn_away(index: &Index, farewell: &[u8], stream: &TcpStream, peer: SocketAddr) {
    let reason = Reason::TooManyConnections;
    index.stats().refuse(reason);
    warn!(%peer, reason = reason.as_str(), "refused a connection");
    // The socket is new, so the few bytes fit; if not, closing says it too.
    let _ = stream.try_write(farewell);
}

/// Counts the connection, and says how it ended.
async fn see_off(
    index: Index,
    slot: OwnedSemaphorePermit,
    peer: SocketAddr,
    served: impl Future<Output = End>,
) {
    /// Frees the slot and counts the end of the connection, however it ends.
    struct Open<'a>(&'a Index, Option<OwnedSemaphorePermit>);
    impl Drop for Open<'_> {
        fn drop(&mut self) {
            self.1 = None;
            self.0.stats().closed.add(1);
        }
    }
    index.stats().connections.add(1);
    let _open = Open(&index, Some(slot));
    match served.await {
        End::Closed => debug!(%peer, "connection closed"),
        End::Lost(error) => {
            debug!(%peer, error = &error as &dyn std::error::Error, "lost a connection");
        }
        End::Refused(reason) => {
            index.stats().refuse(reason);
            if reason == Reason::Idle {
                debug!(%peer, "closed an idle connection");
            } else {
                warn!(%peer, reason = reason.as_str(), "closed a connection: {reason}");
            }
        }
    }
}

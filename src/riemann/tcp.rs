//! The TCP server: one reply per request, in order.
//!
//! [`run`] accepts; each connection is a task of its own that reads what has
//! come, takes in every complete frame, and writes the replies before it reads
//! again: a peer that does not read its replies is not read from either.
//! Acknowledgements that fall due together share a write; a reply with a
//! payload is a write of its own, because some clients assume that a segment
//! holds one reply.

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

use super::connection::{self, Connection};
use super::decode::Caps;
use super::index::Index;
use super::session;
use super::stats::Reason;

/// What peers may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time; further ones get an error and are closed.
    pub connections: usize,
    /// Longest body of a frame, in bytes, in either direction.
    pub frame: usize,
    /// Bytes of all long frames (over 64 KiB) that are in memory at one time;
    /// at least as much as one of the longest.
    pub buffered: usize,
    /// What one message may hold.
    pub message: Caps,
    /// Silence after which a connection is closed.
    pub idle: Duration,
    /// The same for a connection that has never sent a frame.
    pub silent: Duration,
    /// From the first byte of a frame to its last.
    pub half_frame: Duration,
    /// For a reply to be taken.
    pub write: Duration,
    /// Queries that are answered at one time, single look-ups aside.
    pub scans: usize,
    /// For connections to end once the server is to stop.
    pub drain: Duration,
}

impl Default for Limits {
    /// 256 connections; frames of 16 MiB, two of the longest at one time; an
    /// hour of silence, a minute before the first frame; 30 s for a frame or a reply; two scans; 5 s to end.
    fn default() -> Self {
        Self {
            connections: 256,
            frame: 16 << 20,
            buffered: 32 << 20,
            message: Caps::default(),
            idle: Duration::from_secs(3600),
            silent: Duration::from_secs(60),
            half_frame: Duration::from_secs(30),
            write: Duration::from_secs(30),
            scans: 2,
            drain: Duration::from_secs(5),
        }
    }
}

/// What the connections of one server share.
pub(super) struct Server {
    pub(super) index: Index,
    pub(super) limits: Limits,
    /// Room for long frames, in KiB.
    pub(super) room: Semaphore,
    pub(super) scans: Semaphore,
}

/// Pause after accepting has failed, as it does when files run out.
const PAUSE: Duration = Duration::from_millis(250);

/// Serves until `shutdown` is ready, and then until the connections have ended
/// or [`Limits::drain`] has passed.
pub async fn run(
    listener: TcpListener,
    index: Index,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let server = Arc::new(Server {
        index,
        limits,
        // One more for the header of a frame of the longest kind.
        room: Semaphore::new(limits.buffered.max(limits.frame).div_ceil(connection::KIB) + 1),
        scans: Semaphore::new(limits.scans.max(1)),
    });
    let slots = Arc::new(Semaphore::new(limits.connections));
    let (stop, stopping) = watch::channel(());
    let mut tasks = JoinSet::new();
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
        match accepted {
            Ok((stream, peer)) => {
                if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
                    let (server, stopping) = (Arc::clone(&server), stopping.clone());
                    tasks.spawn(serve(server, slot, stream, peer, stopping));
                } else {
                    turn_away(&server, &stream, peer);
                }
            }
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "cannot accept connections");
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    drop(stop);
    let ended = timeout(limits.drain, async { while tasks.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        info!(left = tasks.len(), "closing connections that did not end by themselves");
        tasks.shutdown().await;
    }
}

/// Says why, as far as that goes without waiting.
fn turn_away(server: &Server, stream: &TcpStream, peer: SocketAddr) {
    let reason = Reason::TooManyConnections;
    server.index.stats().refuse(reason);
    warn!(%peer, reason = reason.as_str(), "refused a connection");
    // The socket is new, so the few bytes fit; if not, closing says it too.
    let _ = stream.try_write(&session::refusal(reason.explain()));
}

async fn serve(
    server: Arc<Server>,
    slot: OwnedSemaphorePermit,
    stream: TcpStream,
    peer: SocketAddr,
    stopping: watch::Receiver<()>,
) {
    /// Frees the slot and counts the end of the connection, however it ends.
    struct Open<'a>(&'a Server, Option<OwnedSemaphorePermit>);
    impl Drop for Open<'_> {
        fn drop(&mut self) {
            self.1 = None;
            self.0.index.stats().closed.add(1);
        }
    }
    server.index.stats().connections.add(1);
    let _open = Open(&server, Some(slot));
    // Replies are sent when they are written, not when there are more.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, error = &error as &dyn std::error::Error, "lost a connection");
        return;
    }
    match Connection::new(&server, stream).serve(stopping).await {
        connection::End::Closed => debug!(%peer, "connection closed"),
        connection::End::Lost(error) => {
            debug!(%peer, error = &error as &dyn std::error::Error, "lost a connection");
        }
        connection::End::Refused(reason) => {
            server.index.stats().refuse(reason);
            if reason == Reason::Idle {
                debug!(%peer, "closed an idle connection");
            } else {
                warn!(%peer, reason = reason.as_str(), "closed a connection: {reason}");
            }
        }
    }
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;

//! The TCP server, plain or within TLS: one reply per request, in order.
//!
//! [`run_behind`] accepts; each connection is a task of its own that reads what has
//! come, takes in every complete frame, and writes the replies before it reads
//! again: a peer that does not read its replies is not read from either.
//! Acknowledgements that fall due together share a write; a reply with a
//! payload is a write of its own, because some clients assume that a segment
//! holds one reply.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::accept::{self, Guest, Room};
use super::connection::{self, Connection, End};
use super::decode::Caps;
use super::door::Door;
use super::index::Index;
use super::session;
use super::stats::Reason;
use super::tls;

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

/// How peers are told apart.
#[derive(Clone)]
pub enum Entrance {
    /// By their address.
    Plain(Door),
    /// By their certificate.
    Tls(TlsAcceptor),
}

/// Serves this machine, and whoever else the listener's address lets in, until
/// `shutdown` is ready; see [`run_behind`].
pub async fn run(
    listener: TcpListener,
    index: Index,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    run_behind(listener, index, limits, Entrance::Plain(Door::default()), shutdown).await;
}

/// Serves until `shutdown` is ready, and then until the connections have ended
/// or [`Limits::drain`] has passed.
pub async fn run_behind(
    listener: TcpListener,
    index: Index,
    limits: Limits,
    entrance: Entrance,
    shutdown: impl Future<Output = ()>,
) {
    let server = Arc::new(Server {
        index: index.clone(),
        limits,
        // One more for the header of a frame of the longest kind.
        room: Semaphore::new(limits.buffered.max(limits.frame).div_ceil(connection::KIB) + 1),
        scans: Semaphore::new(limits.scans.max(1)),
    });
    let room = Room { connections: limits.connections, drain: limits.drain };
    let (door, acceptor) = match entrance {
        Entrance::Plain(door) => (Some(door), None),
        Entrance::Tls(acceptor) => (None, Some(acceptor)),
    };
    let farewell = match acceptor {
        None => session::refusal(Reason::TooManyConnections.explain()),
        Some(_) => Vec::new(),
    };
    accept::run(listener, &index, room, door.as_ref(), &farewell, shutdown, |guest| {
        serve(Arc::clone(&server), acceptor.clone(), guest)
    })
    .await;
}

async fn serve(server: Arc<Server>, acceptor: Option<TlsAcceptor>, guest: Guest) -> End {
    // Replies are sent when they are written, not when there are more.
    if let Err(error) = guest.stream.set_nodelay(true) {
        return End::Lost(error);
    }
    let Some(acceptor) = acceptor else {
        return Connection::new(&server, guest.stream, guest.right).serve(guest.stopping).await;
    };
    match tls::greet(&acceptor, guest.stream).await {
        Ok(stream) => Connection::new(&server, stream, guest.right).serve(guest.stopping).await,
        Err(end) => end,
    }
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;

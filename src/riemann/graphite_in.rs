//! Graphite's line receiver: `path value timestamp`, over TCP and UDP.
//!
//! A line becomes an event: its service is the path as it stands, its metric
//! the value, its time the timestamp; it has no host, as in the reference, for
//! a path has none at a place that could be known. The tag `graphite` tells
//! streams where it came from, so that they need not send it back there.
//!
//! As carbon has it: timestamps may have a fraction, −1 is now, a value that is
//! not a number is left out. A line that is none is counted and skipped; one
//! that is too long ends the connection, since nobody knows what follows.

use std::future::Future;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, UdpSocket};
use tokio::select;
use tokio::time::{Instant, timeout_at};

use super::accept::{self, Guest, Room};
use super::connection::End;
use super::door::Door;
use super::index::{Index, Origin};
use super::stats::Reason;
use super::udp;
use crate::base::{Event, Metric, Timestamp};

/// Longest line, without its end.
pub const MAX_LINE: usize = 4096;

/// The tag of events that came this way.
pub const TAG: &str = "graphite";

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// What peers may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at one time.
    pub connections: usize,
    /// Silence after which a connection is closed.
    pub idle: Duration,
    /// From the first byte of a line to its last.
    pub half_line: Duration,
    /// For connections to end once the server is to stop.
    pub drain: Duration,
}

impl Default for Limits {
    /// 256 connections, an hour of silence, 30 s for a line, 5 s to end.
    fn default() -> Self {
        Self {
            connections: 256,
            idle: Duration::from_secs(3600),
            half_line: Duration::from_secs(30),
            drain: Duration::from_secs(5),
        }
    }
}

/// Reads a line without its end; `None` for an empty one.
///
/// # Errors
/// Why it is not taken.
pub fn line(bytes: &[u8], now: Timestamp) -> Result<Option<Event>, Reason> {
    if bytes.len() > MAX_LINE {
        return Err(Reason::LineTooLong);
    }
    let text = str::from_utf8(bytes).map_err(|_| Reason::BadLine)?;
    let mut words = text.split_ascii_whitespace();
    let Some(path) = words.next() else { return Ok(None) };
    let (Some(value), Some(time), None) = (words.next(), words.next(), words.next()) else {
        return Err(Reason::BadLine);
    };
    if path.chars().any(char::is_control) {
        return Err(Reason::BadLine);
    }
    let value: f64 = value.parse().map_err(|_| Reason::BadLine)?;
    if value.is_nan() {
        return Err(Reason::NotANumber);
    }
    Ok(Some(Event {
        service: Some(path.to_owned()),
        metric: Some(Metric::Double(value)),
        time: Some(timestamp(time, now).ok_or(Reason::BadLine)?),
        tags: vec![TAG.to_owned()],
        ..Event::default()
    }))
}

/// Seconds since 1970, perhaps with a fraction; −1 is now.
fn timestamp(text: &str, now: Timestamp) -> Option<Timestamp> {
    /// The year 9999, up to which time can be written down.
    const LAST: f64 = 253_402_300_799.0;
    let seconds: f64 = text.parse().ok()?;
    #[allow(clippy::float_cmp, reason = "exactly this is the word for now")]
    if seconds == -1.0 {
        return Some(now);
    }
    (0.0..=LAST).contains(&seconds).then(|| Timestamp::from_secs_f64(seconds))
}

/// Takes in all complete lines; returns how many bytes they were.
fn take(index: &Index, bytes: &[u8]) -> usize {
    let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else { return 0 };
    let now = index.now();
    let events = bytes.get(..end).unwrap_or_default().split(|b| *b == b'\n');
    let events = events.filter_map(|one| match line(one, now) {
        Ok(event) => event,
        Err(reason) => {
            index.stats().refuse(reason);
            None
        }
    });
    // What is not taken is counted there.
    index.apply(Origin::Outside, events.collect());
    end + 1
}

/// Serves over TCP those whom the door lets in until `shutdown` is ready.
pub async fn tcp(
    listener: TcpListener,
    index: Index,
    limits: Limits,
    door: Door,
    shutdown: impl Future<Output = ()>,
) {
    let room = Room { connections: limits.connections, drain: limits.drain };
    accept::run(listener, &index, room, Some(&door), &[], shutdown, |guest| {
        serve(index.clone(), limits, guest)
    })
    .await;
}

async fn serve(index: Index, limits: Limits, guest: Guest) -> End {
    let Guest { mut stream, mut stopping, .. } = guest;
    let mut input: Vec<u8> = Vec::new();
    let mut begun = None;
    loop {
        let (deadline, late) = if input.is_empty() {
            (Instant::now() + limits.idle, Reason::Idle)
        } else {
            (*begun.get_or_insert_with(Instant::now) + limits.half_line, Reason::HalfFrame)
        };
        input.reserve(CHUNK);
        let read = select! {
            read = timeout_at(deadline, stream.read_buf(&mut input)) => read,
            _ = stopping.changed() => return End::Closed,
        };
        match read {
            Err(_) => return End::Refused(late),
            Ok(Err(error)) => return End::Lost(error),
            Ok(Ok(0)) => {
                // Senders in shell scripts leave out the last line's end.
                if !input.is_empty() {
                    input.push(b'\n');
                    take(&index, &input);
                }
                return End::Closed;
            }
            Ok(Ok(_)) => {}
        }
        let taken = take(&index, &input);
        if taken > 0 {
            input.drain(..taken);
            begun = None;
        }
        if input.len() > MAX_LINE {
            return End::Refused(Reason::LineTooLong);
        }
        if input.is_empty() && input.capacity() > 4 * CHUNK {
            input = Vec::new();
        }
    }
}

/// Serves over UDP those whom the door lets in until `shutdown` is ready.
pub async fn udp(socket: UdpSocket, index: Index, door: Door, shutdown: impl Future<Output = ()>) {
    let mut lines = Vec::new();
    let take_all = |datagram: &[u8], _| {
        lines.clear();
        lines.extend_from_slice(datagram);
        // The end of the last line.
        lines.push(b'\n');
        take(&index, &lines);
    };
    udp::datagrams(&socket, &index, &door, shutdown, take_all).await;
}

#[cfg(test)]
#[path = "graphite_tests.rs"]
mod tests;

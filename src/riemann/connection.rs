//! One connection: frames in, replies out.

use std::io;

use prost::bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{SemaphorePermit, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::door::Right;
use super::frame;
use super::session::{self, Outcome};
use super::stats::Reason;
use super::tcp::Server;
use super::wire;

/// Unit in which room for long frames is counted.
pub(super) const KIB: usize = 1024;

/// Frames up to here need no room of their own; also how much is read at once
/// and how many acknowledgements are collected.
const SHORT: usize = 64 * KIB;

/// After a refusal, what the peer still sends is read for this long and this
/// far, because closing at once could destroy the refusal on its way.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 1 << 20;

/// How a connection ended.
pub(super) enum End {
    /// By the peer, between two frames, or by us because we stop.
    Closed,
    /// By the network, or by the peer within a frame.
    Lost(io::Error),
    /// By us.
    Refused(Reason),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

/// A stream with what was read and what is to be written.
pub(super) struct Connection<'a, S> {
    server: &'a Server,
    stream: S,
    right: Right,
    input: BytesMut,
    output: Vec<u8>,
    /// Whether a frame has come.
    known: bool,
    /// When the frame that is now incomplete began.
    begun: Option<Instant>,
    /// Room for the frame that is now incomplete, if it is long.
    room: Option<SemaphorePermit<'a>>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Connection<'a, S> {
    pub(super) fn new(server: &'a Server, stream: S, right: Right) -> Self {
        let (input, output) = (BytesMut::with_capacity(SHORT), Vec::new());
        Self { server, stream, right, input, output, known: false, begun: None, room: None }
    }

    /// Serves until one side has enough.
    pub(super) async fn serve(mut self, mut stopping: watch::Receiver<()>) -> End {
        let end = loop {
            if let Err(end) = self.take_frames().await {
                break end;
            }
            tokio::select! {
                read = self.read() => if let Err(end) = read { break end },
                // The sender never sends, it only goes away.
                _ = stopping.changed() => break End::Closed,
            }
        };
        // The peer may be gone already; then there is nobody to tell.
        match end {
            End::Refused(reason) => drop(timeout(LINGER, self.say_why(reason)).await),
            // Within TLS, an end that is not said could be somebody else's doing.
            End::Closed => drop(timeout(LINGER, self.stream.shutdown()).await),
            End::Lost(_) => {}
        }
        end
    }

    /// Takes in all complete frames and writes the replies.
    async fn take_frames(&mut self) -> Result<(), End> {
        let limits = &self.server.limits;
        loop {
            let body = match frame::split(&self.input, limits.frame) {
                Ok(Some(body)) => body,
                Ok(None) => break,
                Err(reason) => {
                    self.flush().await?;
                    return Err(End::Refused(reason));
                }
            };
            let length = frame::HEADER + body.len();
            let outcome = session::take(&self.server.index, &limits.message, body);
            self.input.advance(length);
            self.known = true;
            self.begun = None;
            self.room = None;
            match outcome {
                Outcome::Done => self.output.extend_from_slice(&wire::ACK),
                Outcome::Refused(why) => self.write_alone(session::refusal(&why)).await?,
                Outcome::Asks(query) if self.right == Right::Everything => {
                    self.answer(query).await?;
                }
                Outcome::Asks(_) => {
                    self.server.index.stats().refuse(Reason::IngestOnly);
                    self.write_alone(session::refusal(Reason::IngestOnly.explain())).await?;
                }
            }
            if self.output.len() >= SHORT {
                self.flush().await?;
            }
        }
        if self.input.is_empty() && self.input.capacity() > 4 * SHORT {
            self.input = BytesMut::with_capacity(SHORT);
        }
        self.flush().await
    }

    /// Reads once, within the time that is left.
    async fn read(&mut self) -> Result<(), End> {
        let limits = &self.server.limits;
        let (deadline, late) = if self.input.is_empty() {
            let idle = if self.known { limits.idle } else { limits.idle.min(limits.silent) };
            (Instant::now() + idle, Reason::Idle)
        } else {
            let begun = *self.begun.get_or_insert_with(Instant::now);
            (begun + limits.half_frame, Reason::HalfFrame)
        };
        let long = frame::length(&self.input, limits.frame).ok().flatten().filter(|l| *l > SHORT);
        if let Some(length) = long
            && self.room.is_none()
        {
            let room = timeout_at(deadline, room(self.server, length)).await;
            self.room = Some(room.map_err(|_| End::Refused(late))??);
        }
        self.input.reserve(SHORT);
        let read = timeout_at(deadline, self.stream.read_buf(&mut self.input)).await;
        match read.map_err(|_| End::Refused(late))?? {
            0 if self.input.is_empty() => Err(End::Closed),
            0 => Err(End::Lost(io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    async fn answer(&mut self, query: String) -> Result<(), End> {
        let server = self.server;
        let cap = server.limits.frame;
        if session::is_quick(&query) {
            return self.write_alone(session::answer(&server.index, &query, cap)).await;
        }
        // The replies that are due do not wait for this one.
        self.flush().await?;
        let turn = server.scans.acquire().await.map_err(io::Error::other)?;
        let index = server.index.clone();
        let answer = spawn_blocking(move || session::answer(&index, &query, cap)).await;
        let answer = answer.map_err(io::Error::other)?;
        let room =
            if answer.len() > SHORT { Some(room(server, answer.len()).await?) } else { None };
        drop(turn);
        let written = self.write_alone(answer).await;
        drop(room);
        written
    }

    /// Writes a reply that shares its write with no other.
    async fn write_alone(&mut self, reply: Vec<u8>) -> Result<(), End> {
        self.flush().await?;
        self.output = reply;
        self.flush().await?;
        self.output = Vec::new();
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.output.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        };
        let written = timeout(self.server.limits.write, write).await;
        written.map_err(|_| End::Refused(Reason::SlowReader))??;
        self.output.clear();
        Ok(())
    }

    async fn say_why(&mut self, reason: Reason) -> io::Result<()> {
        let said = match reason {
            Reason::Http => http_refusal(reason).into_bytes(),
            // Nothing that we say would be understood, or read, or belong to a request.
            Reason::Tls | Reason::SlowReader | Reason::Idle => return Ok(()),
            _ => session::refusal(reason.explain()),
        };
        self.stream.write_all(&said).await?;
        self.stream.shutdown().await?;
        let mut rest = (&mut self.stream).take(LINGER_BYTES);
        tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
        Ok(())
    }
}

/// Waits for room for a frame of this length.
async fn room(server: &Server, length: usize) -> Result<SemaphorePermit<'_>, End> {
    let kib = u32::try_from(length.div_ceil(KIB)).map_err(io::Error::other)?;
    Ok(server.room.acquire_many(kib).await.map_err(io::Error::other)?)
}

fn http_refusal(reason: Reason) -> String {
    let body = format!("{reason}\n");
    format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

//! The other end: sends events, asks queries, one request at a time or, with
//! [`Client::begin`] and [`Client::end`], several under way.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use prost::bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::decode::{self, Caps, DecodeError, Message};
use super::stats::Reason;
use super::wire::Msg;
use super::{frame, wire};
use crate::base::{Event, Timestamp};
use crate::host::Dial;
use crate::host::dial::Stream;

/// Longest body of a request or a reply, in bytes.
pub const MAX_FRAME: usize = 16 << 20;

/// What a reply may hold: a whole index, and an event of any length.
const CAPS: Caps = Caps { events: 250_000, event_bytes: MAX_FRAME };

/// A connection to a server of Riemann's protocol.
pub struct Client {
    stream: Box<dyn Stream>,
    input: BytesMut,
    deadline: Duration,
    /// False once a reply may be under way that nobody waits for.
    usable: bool,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {to}")]
    Connect {
        /// Where.
        to: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection broke")]
    Lost(#[from] io::Error),
    /// No reply in time.
    #[error("no reply within {0:?}")]
    Late(Duration),
    /// The server answered that it would not.
    #[error("the server refused: {0}")]
    Refused(String),
    /// The reply makes no sense.
    #[error("the server's reply is not a message")]
    Malformed(#[from] DecodeError),
    /// The reply is no frame of ours.
    #[error("the server's reply is not a frame: {0}")]
    NoFrame(Reason),
    /// The request does not fit a frame.
    #[error("the request is longer than {MAX_FRAME} bytes")]
    TooLarge,
    /// A request before this one failed half way; connect again.
    #[error("the connection cannot be used after an earlier failure")]
    Unusable,
}

impl Client {
    /// Connects; `deadline` holds for the connection and for each request.
    pub async fn connect(
        dial: &dyn Dial,
        to: SocketAddr,
        deadline: Duration,
    ) -> Result<Self, ClientError> {
        let stream = dial.tcp(to, deadline).await;
        let stream = stream.map_err(|source| ClientError::Connect { to, source })?;
        Ok(Self::over(stream, deadline))
    }

    /// Speaks over a connection that is there.
    pub fn over(stream: Box<dyn Stream>, deadline: Duration) -> Self {
        Self { stream, input: BytesMut::new(), deadline, usable: true }
    }

    /// Sends events as one message; done when the server has taken them.
    pub async fn send(&mut self, events: &[Event]) -> Result<(), ClientError> {
        self.ask(&wire::events(events)).await.map(|_| ())
    }

    /// The events that match.
    pub async fn query(&mut self, query: &str) -> Result<Vec<Event>, ClientError> {
        Ok(self.ask(&wire::query(query)).await?.events)
    }

    async fn ask(&mut self, msg: &Msg) -> Result<Message, ClientError> {
        self.begin(msg).await?;
        self.end().await
    }

    /// Sends a request and does not wait for its reply, which
    /// [`Client::end`] takes: replies come in the order of the requests.
    pub async fn begin(&mut self, msg: &Msg) -> Result<(), ClientError> {
        if !self.usable {
            return Err(ClientError::Unusable);
        }
        let request = wire::framed(msg, MAX_FRAME).ok_or(ClientError::TooLarge)?;
        // Also if the caller gives up waiting: a part of it may be sent.
        self.usable = false;
        let sent = timeout(self.deadline, self.stream.write_all(&request)).await;
        sent.map_err(|_| ClientError::Late(self.deadline))??;
        // A layer between, such as TLS, may have kept some of it.
        let sent = timeout(self.deadline, self.stream.flush()).await;
        sent.map_err(|_| ClientError::Late(self.deadline))??;
        self.usable = true;
        Ok(())
    }

    /// The reply to the oldest request that has none yet.
    pub async fn end(&mut self) -> Result<Message, ClientError> {
        if !self.usable {
            return Err(ClientError::Unusable);
        }
        // Also if the caller gives up waiting: the reply would be taken for the next one's.
        self.usable = false;
        let reply = timeout(self.deadline, self.reply()).await;
        let reply = reply.map_err(|_| ClientError::Late(self.deadline))??;
        self.usable = true;
        match reply.ok {
            Some(true) => Ok(reply),
            Some(false) | None => Err(ClientError::Refused(reply.error.unwrap_or_default())),
        }
    }

    async fn reply(&mut self) -> Result<Message, ClientError> {
        loop {
            if let Some(body) =
                frame::split(&self.input, MAX_FRAME).map_err(ClientError::NoFrame)?
            {
                let length = frame::HEADER + body.len();
                // Events of a server always have a time.
                let reply = decode::message(body, Timestamp::default(), &CAPS)?;
                self.input.advance(length);
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}

//! The private socket's bytes through another program: ssh here, and there
//! `hostctl --stdio`.
//!
//! The far end first says one line, a JSON document: that it is connected and
//! as which user, or why not. The user is needed because D-Bus has the client
//! name the account that the socket sees, which is the far one.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::client;
use crate::ask::{Code, Refusal};
use crate::host::{Command, carry};

/// The carrier as long as it is needed.
pub type Carried = carry::Carrier;

/// The far end's first line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Greeting {
    /// The bytes of the private socket follow.
    Connected {
        /// The account there.
        uid: u32,
    },
    /// Nothing follows.
    Error(Refusal),
}

/// A person may have to type a password.
const LOGIN: Duration = Duration::from_secs(120);
/// A longer first line is not ours.
const LINE: usize = 64 << 10;

/// Starts the carrier; returns its stream, the account there, and itself.
pub async fn start(
    command: &Command,
) -> Result<(std::os::unix::net::UnixStream, u32, Carried), Refusal> {
    let failed = |why: String| {
        let hint = "try that command by hand; hostctl has to be installed there";
        Refusal::new(Code::NoDaemon, format!("`{command}` {why}"), hint)
    };
    let (stream, carrier) = carry::start(command)
        .map_err(|error| failed(format!("cannot be run: {}", cause(&error))))?;
    stream.set_nonblocking(true).map_err(|error| failed(error.to_string()))?;
    let mut stream = UnixStream::from_std(stream).map_err(|error| failed(error.to_string()))?;
    let line = timeout(LOGIN, line(&mut stream))
        .await
        .map_err(|_| failed(format!("did not connect within {} s", LOGIN.as_secs())))?
        .map_err(|error| failed(format!("does not answer: {error}")))?;
    match serde_json::from_slice(&line) {
        Ok(Greeting::Connected { uid }) => {
            let stream = stream.into_std().map_err(|error| failed(error.to_string()))?;
            Ok((stream, uid, carrier))
        }
        Ok(Greeting::Error(refusal)) => Err(refusal),
        Err(_) => {
            let said: String = String::from_utf8_lossy(&line).chars().take(80).collect();
            Err(failed(format!("did not run `hostctl --stdio`, it said `{}`", said.trim_end())))
        }
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The first line and no byte more: what follows is for D-Bus.
async fn line(stream: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(b'\n') => return Ok(line),
            Ok(_) if line.len() >= LINE => return Ok(line),
            Ok(byte) => line.push(byte),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof && line.is_empty() => {
                return Err(std::io::Error::new(error.kind(), "it ended"));
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(line),
            Err(error) => return Err(error),
        }
    }
}

/// The far end: greets, then carries bytes between the private socket and
/// these two until either side ends.
pub async fn bridge(
    socket: &Path,
    mut input: impl AsyncRead + Unpin,
    mut output: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let opened = client::raw(socket).await;
    let greeting = match &opened {
        Ok(_) => Greeting::Connected { uid: rustix::process::geteuid().as_raw() },
        Err(refusal) => Greeting::Error(refusal.clone()),
    };
    let mut line = serde_json::to_vec(&greeting)?;
    line.push(b'\n');
    output.write_all(&line).await?;
    output.flush().await?;
    let Ok(stream) = opened else { return Ok(()) };
    let (mut from, mut to) = stream.into_split();
    tokio::select! {
        sent = tokio::io::copy(&mut input, &mut to) => sent.map(drop),
        received = copy(&mut from, &mut output) => received,
    }
}

/// Like `tokio::io::copy`, but nothing waits in a buffer: it is a dialogue.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else { return Ok(()) };
        to.write_all(read).await?;
        to.flush().await?;
    }
}

//! The private socket's bytes, bounded: anyone on the machine may connect.
//!
//! zbus alone would take messages of 128 MiB, file descriptors, an endless
//! greeting, and calls without end from a peer that never reads its replies.
//! Here a message of a client is at most [`MESSAGE`], descriptors are not
//! taken, the greeting is at most [`GREETING`], and while a reply waits to be
//! written nothing more is read.

use std::fmt;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Mutex;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;

/// The longest message of a client: a query is the largest thing it has to say.
pub const MESSAGE: usize = 1 << 20;

/// The most bytes a client may send before it is authenticated.
pub const GREETING: usize = 64 << 10;

/// The state that both halves share.
#[derive(Default)]
pub struct Flow {
    greeted: AtomicBool,
    /// Held while a reply waits to be written.
    writing: Mutex<()>,
}

impl Flow {
    /// The peer is authenticated: the bound of the greeting ends.
    pub fn greeted(&self) {
        self.greeted.store(true, Ordering::Relaxed);
    }
}

/// A connection to hand to zbus.
pub struct Bounded {
    stream: UnixStream,
    flow: Arc<Flow>,
}

impl Bounded {
    /// The stream, and the state to tell when the greeting is over.
    pub fn new(stream: UnixStream) -> (Self, Arc<Flow>) {
        let flow = Arc::<Flow>::default();
        (Self { stream, flow: Arc::clone(&flow) }, flow)
    }
}

impl Socket for Bounded {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = self.stream.into_split();
        let reader = Reader { read, flow: Arc::clone(&self.flow), greeting: 0 };
        Split::new(reader, Writer { write, flow: self.flow })
    }
}

/// What comes in.
pub struct Reader {
    read: OwnedReadHalf,
    flow: Arc<Flow>,
    greeting: usize,
}

/// What goes out.
pub struct Writer {
    write: OwnedWriteHalf,
    flow: Arc<Flow>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read.fmt(f)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write.fmt(f)
    }
}

fn too_much(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is too long"))
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        // zbus asks for the rest of a message in one piece.
        if buffer.len() > MESSAGE {
            return Err(too_much("a message"));
        }
        drop(self.flow.writing.lock().await);
        let count = self.read.read(buffer).await?;
        if !self.flow.greeted.load(Ordering::Relaxed) {
            self.greeting += count;
            if self.greeting > GREETING {
                return Err(too_much("the greeting"));
            }
        }
        Ok((count, Vec::new()))
    }
}

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let _writing = self.flow.writing.lock().await;
        self.write.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.write.shutdown().await
    }
}

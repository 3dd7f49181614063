//! Connections outwards, each with a deadline.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// A byte stream to somewhere.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection attempt under way.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send + 'a>>;

/// Sends one datagram to a unix socket, for a process that has nothing else to
/// do; waits at most so long for room in its queue.
pub fn datagram(to: &Path, bytes: &[u8], deadline: Duration) -> io::Result<()> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(deadline))?;
    socket.send_to(bytes, to).map(|_| ())
}

/// Who makes the connections.
pub trait Dial: Send + Sync {
    /// To a TCP port.
    fn tcp(&self, to: SocketAddr, deadline: Duration) -> Dialling<'_>;
    /// To a unix socket.
    fn unix<'a>(&'a self, to: &'a Path, deadline: Duration) -> Dialling<'a>;
}

/// The machine's network.
pub struct RealDial;

impl Dial for RealDial {
    fn tcp(&self, to: SocketAddr, deadline: Duration) -> Dialling<'_> {
        Box::pin(async move {
            let stream = timeout(deadline, TcpStream::connect(to)).await??;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }

    fn unix<'a>(&'a self, to: &'a Path, deadline: Duration) -> Dialling<'a> {
        Box::pin(async move {
            let stream = timeout(deadline, UnixStream::connect(to)).await??;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

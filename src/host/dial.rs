//! Connections outwards, each with a deadline.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
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

/// How many bytes of a connection the peer's machine has not taken yet.
pub type Unsent = Box<dyn Fn() -> io::Result<usize> + Send + Sync>;

/// The attempt of a connection whose send queue is watched.
pub type DiallingWatched<'a> =
    Pin<Box<dyn Future<Output = io::Result<(Box<dyn Stream>, Unsent)>> + Send + 'a>>;

/// Who makes the connections.
pub trait Dial: Send + Sync {
    /// To a TCP port.
    fn tcp(&self, to: SocketAddr, deadline: Duration) -> Dialling<'_>;
    /// To a unix socket.
    fn unix<'a>(&'a self, to: &'a Path, deadline: Duration) -> Dialling<'a>;
    /// To a TCP port, with a look at what is still on its way.
    fn watched(&self, to: SocketAddr, deadline: Duration) -> DiallingWatched<'_> {
        Box::pin(async move {
            let unsent: Unsent = Box::new(|| Ok(0));
            Ok((self.tcp(to, deadline).await?, unsent))
        })
    }
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

    fn watched(&self, to: SocketAddr, deadline: Duration) -> DiallingWatched<'_> {
        Box::pin(async move {
            let stream = timeout(deadline, TcpStream::connect(to)).await??;
            // The same connection: it ends when both are dropped.
            let same = stream.as_fd().try_clone_to_owned()?;
            let unsent: Unsent = Box::new(move || queue::unsent(same.as_fd()));
            Ok((Box::new(stream) as Box<dyn Stream>, unsent))
        })
    }
}

/// What the kernel tells of a socket's send queue.
#[allow(unsafe_code, reason = "an ioctl")]
mod queue {
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd};

    mod raw {
        nix::ioctl_read_bad!(siocoutq, libc::TIOCOUTQ, libc::c_int);
    }

    /// `SIOCOUTQ` of tcp(7): bytes that are not sent, or not acknowledged.
    pub(super) fn unsent(socket: BorrowedFd<'_>) -> io::Result<usize> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the socket is open as long as it is borrowed, and the kernel
        // writes one int to where `bytes` is.
        unsafe { raw::siocoutq(socket.as_raw_fd(), &raw mut bytes) }?;
        Ok(usize::try_from(bytes).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn what_nobody_takes_is_unsent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let (mut stream, unsent) = RealDial.watched(to, Duration::from_secs(5)).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        assert_eq!(unsent().unwrap(), 0);
        // More than both sides' buffers hold.
        let bytes = vec![1; 64 << 20];
        let mut written = 0;
        while let Ok(done) =
            timeout(Duration::from_millis(50), stream.write(&bytes[written..])).await
        {
            written += done.unwrap();
        }
        assert!(written < bytes.len() && unsent().unwrap() > 0, "{written}");
        let mut taken = vec![0; written];
        peer.read_exact(&mut taken).await.unwrap();
        while unsent().unwrap() > 0 {
            tokio::task::yield_now().await;
        }
        drop((stream, unsent));
        assert_eq!(peer.read(&mut taken).await.unwrap(), 0, "both ends of it are gone");
    }
}

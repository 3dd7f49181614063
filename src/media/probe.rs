//! Asks a service over the network and says which layer failed.
//!
//! A connection alone proves little: the kernel accepts it for a daemon that
//! is stopped (SIGSTOP) too. So the protocol's first question is asked, which
//! needs no login, and the reply is checked.

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::afp::{self, AfpError};
use super::smb::{self, SmbError};
use crate::base::span;
use crate::host::Host;
use crate::host::dial::Stream;

/// Why a service does not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No process has the port.
    #[error("nothing listens on {0}: the connection is refused")]
    Refused(SocketAddr),
    /// Neither accepted nor refused.
    #[error("no connection to {to} within {}", span::show(*.deadline))]
    Unreachable {
        /// Whom.
        to: SocketAddr,
        /// What it was given.
        deadline: Duration,
    },
    /// Anything else the kernel said.
    #[error("cannot connect to {to}")]
    Connect {
        /// Whom.
        to: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// Connected, and then no reply: the process is stopped, or stuck.
    #[error("{to} accepts connections but says no {protocol} within {}: the process is stopped \
             or hangs", span::show(*.deadline))]
    Silent {
        /// Whom.
        to: SocketAddr,
        /// In which language.
        protocol: &'static str,
        /// What it was given.
        deadline: Duration,
    },
    /// It hung up in the middle of its reply, or before.
    #[error("{to} closed the connection before its {protocol} reply was whole")]
    ClosedEarly {
        /// Whom.
        to: SocketAddr,
        /// In which language.
        protocol: &'static str,
    },
    /// Another kind of server has the port.
    #[error("{to} does not speak {protocol}")]
    WrongProtocol {
        /// Whom.
        to: SocketAddr,
        /// In which language.
        protocol: &'static str,
        /// What it said.
        source: ReplyError,
    },
    /// The right kind of server, which refuses or contradicts itself.
    #[error("{to} speaks {protocol} but does not serve")]
    Protocol {
        /// Whom.
        to: SocketAddr,
        /// In which language.
        protocol: &'static str,
        /// What it said.
        source: ReplyError,
    },
}

/// A reply that is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// Of SMB.
    #[error(transparent)]
    Smb(#[from] SmbError),
    /// Of AFP.
    #[error(transparent)]
    Afp(#[from] AfpError),
}

impl ReplyError {
    fn is_foreign(&self) -> bool {
        matches!(self, Self::Smb(SmbError::NotSmb(_)) | Self::Afp(AfpError::NotDsi(_)))
    }
}

impl ProbeError {
    /// `connect` or `protocol`.
    pub fn layer(&self) -> &'static str {
        match self {
            Self::Refused(_) | Self::Unreachable { .. } | Self::Connect { .. } => "connect",
            Self::Silent { .. }
            | Self::ClosedEarly { .. }
            | Self::WrongProtocol { .. }
            | Self::Protocol { .. } => "protocol",
        }
    }

    /// What it says, with its source.
    pub fn whole(&self) -> String {
        self.source().map_or_else(|| self.to_string(), |source| format!("{self}: {source}"))
    }
}

/// What a service has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A connection was accepted; nothing was asked.
    Tcp,
    /// Of an SMB server.
    Smb(smb::Negotiated),
    /// Of an AFP server.
    Afp(afp::Status),
}

/// Whether a connection is accepted.
pub async fn tcp(host: &Host, to: SocketAddr, deadline: Duration) -> Result<Answer, ProbeError> {
    connect(host, to, deadline).await.map(|_| Answer::Tcp)
}

/// Asks for a dialect of SMB2.
pub async fn smb(host: &Host, to: SocketAddr, deadline: Duration) -> Result<Answer, ProbeError> {
    let talk = Talk { to, protocol: "SMB2", deadline };
    let mut stream = connect(host, to, deadline).await?;
    let asked = async {
        stream.write_all(&smb::request(guid())).await?;
        let mut head = [0; smb::FRAME];
        stream.read_exact(&mut head).await?;
        let reply = read(&mut stream, smb::frame(head).map_err(ReplyError::from)?).await?;
        Ok(Answer::Smb(smb::parse(&reply).map_err(ReplyError::from)?))
    };
    talk.within(asked).await
}

/// Asks for the status of an AFP server. The connection is closed at once: the
/// server would keep its session for minutes.
pub async fn afp(host: &Host, to: SocketAddr, deadline: Duration) -> Result<Answer, ProbeError> {
    let talk = Talk { to, protocol: "AFP", deadline };
    let mut stream = connect(host, to, deadline).await?;
    let asked = async {
        stream.write_all(&afp::REQUEST).await?;
        let mut head = [0; afp::HEADER];
        stream.read_exact(&mut head).await?;
        let reply = read(&mut stream, afp::header(head).map_err(ReplyError::from)?).await?;
        Ok(Answer::Afp(afp::parse(&reply).map_err(ReplyError::from)?))
    };
    talk.within(asked).await
}

async fn connect(
    host: &Host,
    to: SocketAddr,
    deadline: Duration,
) -> Result<Box<dyn Stream>, ProbeError> {
    host.dial.tcp(to, deadline).await.map_err(|source| match source.kind() {
        io::ErrorKind::ConnectionRefused => ProbeError::Refused(to),
        io::ErrorKind::TimedOut => ProbeError::Unreachable { to, deadline },
        _ => ProbeError::Connect { to, source },
    })
}

/// Exactly `length` bytes, which the caller has bounded.
async fn read(stream: &mut Box<dyn Stream>, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

enum Broken {
    Io,
    Reply(ReplyError),
}

impl From<io::Error> for Broken {
    /// Whatever broke it, the connection had been there.
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

impl From<ReplyError> for Broken {
    fn from(error: ReplyError) -> Self {
        Self::Reply(error)
    }
}

struct Talk {
    to: SocketAddr,
    protocol: &'static str,
    deadline: Duration,
}

impl Talk {
    async fn within(
        self,
        asked: impl Future<Output = Result<Answer, Broken>>,
    ) -> Result<Answer, ProbeError> {
        let Self { to, protocol, deadline } = self;
        match timeout(deadline, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Broken::Io)) => Err(ProbeError::ClosedEarly { to, protocol }),
            Ok(Err(Broken::Reply(source))) if source.is_foreign() => {
                Err(ProbeError::WrongProtocol { to, protocol, source })
            }
            Ok(Err(Broken::Reply(source))) => Err(ProbeError::Protocol { to, protocol, source }),
            Err(_) => Err(ProbeError::Silent { to, protocol, deadline }),
        }
    }
}

/// Sixteen bytes that differ each time; they need not be secret.
fn guid() -> [u8; 16] {
    let half = || u128::from(RandomState::new().hash_one(0));
    (half() << 64 | half()).to_ne_bytes()
}

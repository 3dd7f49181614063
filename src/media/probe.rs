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
use super::probes::greeting::{self, Greeting};
use super::probes::http::HttpError;
use super::probes::nfs::{self, NfsError};
use super::probes::x509::Certificate;
use super::probes::{plex, plugin, tls};
use super::smb::{self, SmbError};
use super::web;
use crate::base::{Timestamp, span};
use crate::config::{Port, Probe};
use crate::host::dial::Stream;
use crate::host::run::{Command, RunError};
use crate::host::{Host, users};

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
    /// A connection, and no TLS over it.
    #[error("{to} accepts connections but does no TLS: {why}")]
    NoTls {
        /// Whom.
        to: SocketAddr,
        /// What went wrong.
        why: String,
    },
    /// A plugin that did not end.
    #[error("{0}")]
    Endless(RunError),
    /// A plugin that could not be run.
    #[error("{0}")]
    NotRun(String),
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
    /// Of NFS.
    #[error(transparent)]
    Nfs(#[from] NfsError),
    /// Of HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Of a server whose greeting is another's.
    #[error("it begins with {0:?}")]
    Stranger(String),
    /// Of a server that says why it does not serve.
    #[error("{0}")]
    Unwilling(String),
}

impl ReplyError {
    fn is_foreign(&self) -> bool {
        matches!(
            self,
            Self::Smb(SmbError::NotSmb(_))
                | Self::Afp(AfpError::NotDsi(_))
                | Self::Nfs(NfsError::NotRpc(_))
                | Self::Http(HttpError::NotHttp(_))
                | Self::Stranger(_)
        )
    }
}

impl ProbeError {
    /// `connect`, `tls`, `protocol` or `command`.
    pub fn layer(&self) -> &'static str {
        match self {
            Self::NoTls { .. }
            | Self::Silent { protocol: TLS, .. }
            | Self::ClosedEarly { protocol: TLS, .. } => "tls",
            Self::Endless(_) | Self::NotRun(_) => "command",
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
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A connection was accepted; nothing was asked.
    Tcp,
    /// TLS, and no more was wanted.
    Tls,
    /// Of an SMB server.
    Smb(smb::Negotiated),
    /// Of an AFP server.
    Afp(afp::Status),
    /// Of an NFS server: its version.
    Nfs(u32),
    /// Words of welcome.
    Greeting(&'static str, String),
    /// The page that was wanted.
    Http {
        /// Its status.
        status: u16,
        /// The server's clock.
        date: Option<Timestamp>,
    },
    /// Of Plex.
    Plex(plex::Identity),
    /// Of a Plex that is not ready yet.
    PlexStarts,
    /// Of minidlna.
    Minidlna,
    /// Of a Nagios plugin.
    Plugin(plugin::Told),
}

/// What Plex says to who has a token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Library {
    /// Live sessions.
    pub sessions: Option<u64>,
    /// Its libraries.
    pub libraries: Option<plex::Libraries>,
    /// They are not there yet.
    pub loading: bool,
    /// Why they are not known.
    pub why: Option<String>,
    /// Everybody on this machine can read the token.
    pub exposed: bool,
}

/// What came of asking a service.
#[derive(Debug)]
pub struct Talked {
    /// Its answer, or why there is none.
    pub answer: Result<Answer, ProbeError>,
    /// What it showed, where TLS was spoken: the inner one is `None` when it
    /// cannot be read.
    pub certificate: Option<Option<Certificate>>,
    /// How long the protocol took, from the connection on.
    pub latency: Option<Duration>,
    /// Of Plex, with a token.
    pub library: Option<Library>,
}

/// For errors: the protocol of the layer between connection and question.
const TLS: &str = "TLS";

/// Asks a service as it is configured; `None` when there is nothing to ask.
pub async fn ask(host: &Host, probe: &Probe, deadline: Duration) -> Option<Talked> {
    let begun = host.clock.instant();
    let (mut certificate, mut library, mut spoke) = (None, None, begun);
    let answer = match probe {
        Probe::None => return None,
        Probe::Tcp(to) => tcp(host, *to, deadline).await,
        Probe::Smb(to) => smb(host, *to, deadline).await,
        Probe::Afp(to) => afp(host, *to, deadline).await,
        Probe::Nfs(to) => nfs(host, *to, deadline).await,
        Probe::Command { argv, user } => plugin(host, argv, user.as_deref(), deadline).await,
        Probe::Minidlna(to) => {
            let port = Port { to: *to, tls: false, name: None };
            web::minidlna(host, &port, deadline).await
        }
        Probe::Tls(port)
        | Probe::Greeting(_, port)
        | Probe::Http { port, .. }
        | Probe::Plex { port, .. } => match open(host, port, deadline).await {
            Err(error) => Err(error),
            Ok((stream, shown)) => {
                certificate = shown;
                if !matches!(probe, Probe::Tls(_)) {
                    spoke = host.clock.instant();
                }
                speak(stream, probe, port, deadline).await
            }
        },
    };
    let took = host.clock.instant().saturating_duration_since(spoke);
    if let (Probe::Plex { port, token_file: Some(file) }, Ok(Answer::Plex(_))) = (probe, &answer) {
        library = Some(web::library(host, port, file, deadline).await);
    }
    // How long a failure took is no latency of the service.
    let latency = answer.is_ok().then_some(took);
    Some(Talked { answer, certificate, latency, library })
}

/// The question over a line that is open.
async fn speak(
    stream: Box<dyn Stream>,
    probe: &Probe,
    port: &Port,
    deadline: Duration,
) -> Result<Answer, ProbeError> {
    match probe {
        Probe::Greeting(kind, _) => greet(stream, *kind, port.to, deadline).await,
        Probe::Http { page, expect, .. } => {
            web::page(stream, port, page, expect.as_deref(), deadline).await
        }
        Probe::Plex { .. } => web::plex(stream, port, deadline).await,
        _ => Ok(Answer::Tls),
    }
}

/// Whether a connection is accepted.
pub async fn tcp(host: &Host, to: SocketAddr, deadline: Duration) -> Result<Answer, ProbeError> {
    connect(host, to, deadline).await.map(|_| Answer::Tcp)
}

/// A connection, with TLS where it is wanted.
pub(super) async fn open(
    host: &Host,
    port: &Port,
    deadline: Duration,
) -> Result<(Box<dyn Stream>, Option<Option<Certificate>>), ProbeError> {
    let to = port.to;
    let stream = connect(host, to, deadline).await?;
    if !port.tls {
        return Ok((stream, None));
    }
    let name = port.name.clone().unwrap_or_else(|| to.ip().to_string());
    match timeout(deadline, tls::shake(stream, &name)).await {
        Ok(Ok((stream, certificate))) => Ok((stream, Some(certificate))),
        Ok(Err(tls::Broken::Io)) => Err(ProbeError::ClosedEarly { to, protocol: TLS }),
        Ok(Err(tls::Broken::Not(why))) => Err(ProbeError::NoTls { to, why }),
        Err(_) => Err(ProbeError::Silent { to, protocol: TLS, deadline }),
    }
}

/// Listens to a server that speaks first, and takes leave.
async fn greet(
    mut stream: Box<dyn Stream>,
    kind: greeting::Kind,
    to: SocketAddr,
    deadline: Duration,
) -> Result<Answer, ProbeError> {
    let asked = async {
        let read = |bytes: &[u8], _| match greeting::read(kind, bytes) {
            Greeting::More => Ok(None),
            Greeting::Welcome(words) => Ok(Some(words)),
            Greeting::Away(words) => {
                Err(ReplyError::Unwilling(format!("it sends us away: {words}")))
            }
            Greeting::Foreign => {
                let shown =
                    String::from_utf8_lossy(bytes.get(..bytes.len().min(24)).unwrap_or_default());
                Err(ReplyError::Stranger(super::probes::plain(&shown, 24)))
            }
        };
        let words = gather(&mut stream, greeting::MAX, read).await?;
        // It has answered already: whether it hears this is no matter.
        let _ = stream.write_all(kind.farewell()).await;
        let _ = stream.shutdown().await;
        Ok(Answer::Greeting(kind.name(), words))
    };
    Talk { to, protocol: kind.name(), deadline }.within(asked).await
}

/// Calls the procedure of NFS that does nothing.
pub async fn nfs(host: &Host, to: SocketAddr, deadline: Duration) -> Result<Answer, ProbeError> {
    let talk = Talk { to, protocol: "NFS", deadline };
    let mut stream = connect(host, to, deadline).await?;
    let asked = async {
        let mut offered = (0, 0);
        for version in nfs::VERSIONS {
            let xid = u32::from_ne_bytes(half(guid()));
            stream.write_all(&nfs::request(version, xid)).await?;
            let mut mark = [0; nfs::MARK];
            stream.read_exact(&mut mark).await?;
            let record = read(&mut stream, nfs::mark(mark).map_err(ReplyError::from)?).await?;
            match nfs::parse(&record, xid).map_err(ReplyError::from)? {
                nfs::Said::Served => return Ok(Answer::Nfs(version)),
                nfs::Said::Versions(from, until) => offered = (from, until),
            }
        }
        let (from, until) = offered;
        Err(ReplyError::Unwilling(format!("it serves versions {from} to {until} only")).into())
    };
    talk.within(asked).await
}

/// Runs a Nagios plugin.
async fn plugin(
    host: &Host,
    argv: &[String],
    user: Option<&str>,
    deadline: Duration,
) -> Result<Answer, ProbeError> {
    let not = |why: String| ProbeError::NotRun(why);
    let mut words: Vec<String> = Vec::new();
    if let Some(user) = user {
        let name = user.to_owned();
        // The user database may be asked over the network.
        let account = tokio::task::spawn_blocking(move || users::account(&name)).await;
        let account = account.map_err(|error| not(error.to_string()))?;
        let account = account.map_err(|error| not(format!("cannot look up {user}: {error}")))?;
        let account = account.ok_or_else(|| not(format!("there is no user {user}")))?;
        let ids = [format!("--reuid={}", account.uid), format!("--regid={}", account.gid)];
        words.push("setpriv".to_owned());
        words.extend(ids);
        words.extend(["--clear-groups".to_owned(), "--".to_owned()]);
    }
    words.extend(argv.iter().cloned());
    let mut words = words.into_iter();
    let Some(program) = words.next() else { return Err(not("there is no command".to_owned())) };
    let mut command = Command::new(program, words).deadline(deadline);
    command.limit = plugin::MAX;
    match host.runner.run(command).await {
        Ok(output) => Ok(Answer::Plugin(plugin::read(output.exit, &output.stdout, &output.stderr))),
        Err(error @ RunError::Deadline { .. }) => Err(ProbeError::Endless(error)),
        Err(error) => {
            let source = error.source().map_or(String::new(), |source| format!(": {source}"));
            Err(not(format!("{error}{source}")))
        }
    }
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

pub(super) async fn connect(
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

/// Reads until `parse` has what it needs, at most `limit` bytes.
pub(super) async fn gather<T>(
    stream: &mut Box<dyn Stream>,
    limit: usize,
    parse: impl Fn(&[u8], bool) -> Result<Option<T>, ReplyError>,
) -> Result<T, Broken> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let count = stream.read(&mut part).await?;
        bytes.extend_from_slice(part.get(..count).unwrap_or_default());
        let ended = count == 0 || bytes.len() >= limit;
        match parse(&bytes, ended)? {
            Some(read) => return Ok(read),
            None if ended => return Err(Broken::Io),
            None => {}
        }
    }
}

pub(super) enum Broken {
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

pub(super) struct Talk {
    pub(super) to: SocketAddr,
    pub(super) protocol: &'static str,
    pub(super) deadline: Duration,
}

impl Talk {
    pub(super) async fn within<T>(
        self,
        asked: impl Future<Output = Result<T, Broken>>,
    ) -> Result<T, ProbeError> {
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

fn half([a, b, c, d, ..]: [u8; 16]) -> [u8; 4] {
    [a, b, c, d]
}

/// Sixteen bytes that differ each time; they need not be secret.
fn guid() -> [u8; 16] {
    let half = || u128::from(RandomState::new().hash_one(0));
    (half() << 64 | half()).to_ne_bytes()
}

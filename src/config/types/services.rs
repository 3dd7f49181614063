//! `services:`, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::base::Name;

/// A watched service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// How people call it; the event's service is `service <name>`.
    pub name: Name,
    /// systemd unit, the first layer.
    pub unit: Option<String>,
    /// How it is asked.
    pub probe: Probe,
    /// Backing folder, the last layer: it must be there and answer.
    pub path: Option<PathBuf>,
    /// What must be mounted for the folder to be the right one.
    pub mount: Option<PathBuf>,
    /// How often.
    pub interval: Duration,
    /// How long each layer may take.
    pub deadline: Duration,
    /// When its unit is restarted by itself; never when absent.
    pub restart: Option<RestartPolicy>,
}

/// When a unit is restarted by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPolicy {
    /// How long it must not have worked.
    pub after: Duration,
    /// How many restarts there are at most…
    pub at_most: u32,
    /// …in this time.
    pub within: Duration,
    /// What for.
    pub on: Vec<Trouble>,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(30),
            at_most: 3,
            within: Duration::from_secs(3600),
            on: vec![Trouble::Failed],
        }
    }
}

/// What a service is restarted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Its unit has failed.
    Failed,
    /// It accepts connections and does not answer.
    Hung,
}

/// How a service is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Only its unit and path are looked at.
    None,
    /// A connection is enough.
    Tcp(SocketAddr),
    /// SMB2 negotiation.
    Smb(SocketAddr),
    /// AFP status over DSI.
    Afp(SocketAddr),
    /// The NULL call of NFS.
    Nfs(SocketAddr),
    /// A server that speaks first.
    Greeting(Greets, Port),
    /// One page over HTTP.
    Http {
        /// Where.
        port: Port,
        /// Which: `/health`.
        page: String,
        /// A text that must be in it.
        expect: Option<String>,
    },
    /// Plex Media Server; sessions and libraries with a token.
    Plex {
        /// Where.
        port: Port,
        /// The file that has its token.
        token_file: Option<PathBuf>,
    },
    /// `minidlna`'s description of itself.
    Minidlna(SocketAddr),
    /// Only the certificate.
    Tls(Port),
    /// A Nagios plugin.
    Command {
        /// The program and its arguments; at least one.
        argv: Vec<String>,
        /// Who runs it; the daemon's user when absent.
        user: Option<String>,
    },
}

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its address.
    pub to: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// What it is called by its clients, for TLS and HTTP.
    pub name: Option<String>,
}

/// Servers that speak first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greets {
    /// Mail is handed in.
    Smtp,
    /// Mail is read.
    Imap,
    /// Mail is fetched.
    Pop3,
    /// A database; `MariaDB` too.
    Mysql,
    /// A shell.
    Ssh,
    /// Files.
    Ftp,
}

impl Probe {
    /// As `host.yaml` has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tcp(_) => "tcp",
            Self::Smb(_) => "smb",
            Self::Afp(_) => "afp",
            Self::Nfs(_) => "nfs",
            Self::Greeting(Greets::Smtp, _) => "smtp",
            Self::Greeting(Greets::Imap, _) => "imap",
            Self::Greeting(Greets::Pop3, _) => "pop3",
            Self::Greeting(Greets::Mysql, _) => "mysql",
            Self::Greeting(Greets::Ssh, _) => "ssh",
            Self::Greeting(Greets::Ftp, _) => "ftp",
            Self::Http { .. } => "http",
            Self::Plex { .. } => "plex",
            Self::Minidlna(_) => "minidlna",
            Self::Tls(_) => "tls",
            Self::Command { .. } => "command",
        }
    }

    /// Whom it asks.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::None | Self::Command { .. } => None,
            Self::Tcp(to) | Self::Smb(to) | Self::Afp(to) | Self::Nfs(to) | Self::Minidlna(to) => {
                Some(*to)
            }
            Self::Greeting(_, port)
            | Self::Tls(port)
            | Self::Http { port, .. }
            | Self::Plex { port, .. } => Some(port.to),
        }
    }
}

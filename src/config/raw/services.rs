//! `services:` of `host.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::List;
use crate::config::formats::{AbsolutePath, Endpoint, HostName, Label, Span, Text, Unit, Word};
use crate::config::words::Argument;

/// A watched service: its unit, its port, its protocol, its folder, in this order.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawService {
    /// How you call it; its events are `service <name>`.
    #[schemars(required, extend("examples" = ["smb"]))]
    pub name: Option<Text<Label>>,
    /// How it is asked whether it works.
    #[schemars(extend("default" = "none"))]
    pub probe: Option<RawProbe>,
    /// Where it listens. On this machine at the protocol's usual port when
    /// absent (smb 445, afp 548, nfs 2049, plex 32400 and so on); `tcp` and
    /// `tls` have no usual port and need it.
    pub address: Option<Text<Endpoint>>,
    /// What its clients call it: the name that its certificate must have, and
    /// the host of an HTTP request.
    #[schemars(extend("examples" = ["nas.home.arpa"]))]
    pub server_name: Option<Text<HostName>>,
    /// Whether it speaks TLS from the first byte: with http, plex, smtp, imap,
    /// pop3 and ftp. Its certificate is then judged too: a warning 21 days
    /// before its end, critical 7 days before.
    #[schemars(extend("default" = false))]
    pub tls: Option<bool>,
    /// The page that `probe: http` asks for.
    #[schemars(extend("default" = "/"))]
    pub page: Option<Text<Argument>>,
    /// A text that must be in the page of `probe: http`. Redirects are not followed.
    #[schemars(extend("examples" = ["healthy"]))]
    pub expect: Option<Text<Argument>>,
    /// A file with the token of Plex, readable by root alone. With it sessions
    /// are counted and the libraries with their folders are looked at. The
    /// token itself never stands in this file.
    #[schemars(extend("examples" = ["/etc/hostd/plex.token"]))]
    pub token_file: Option<Text<AbsolutePath>>,
    /// The Nagios plugin of `probe: command`, with its arguments; no shell
    /// reads them. Its exit status is the health, its first line the message.
    #[schemars(extend("examples" = [["/usr/lib/nagios/plugins/check_ntp_time", "-H", "127.0.0.1"]]))]
    pub command: Option<Vec<Text<Argument>>>,
    /// Who runs the plugin; the daemon's user when absent.
    #[schemars(extend("examples" = ["nobody"]))]
    pub user: Option<Text<Word>>,
    /// Its systemd unit, which must be active.
    pub unit: Option<Text<Unit>>,
    /// The folder it serves, which must be there and answer.
    #[schemars(extend("examples" = ["/tank/media"]))]
    pub path: Option<Text<AbsolutePath>>,
    /// The folder, at or above `path`, that must be a mount: when its dataset
    /// is not mounted, an empty folder is there instead.
    #[schemars(extend("examples" = ["/tank/media"]))]
    pub mount: Option<Text<AbsolutePath>>,
    /// How often it is asked. 1s to 1h.
    #[schemars(extend("default" = "10s"))]
    pub interval: Option<Text<Span>>,
    /// How long each step may take, 100ms to 5m. 5s when absent, or the
    /// interval if that is shorter.
    pub deadline: Option<Text<Span>>,
    /// That hostd restarts its `unit` when it does not work. It leaves it alone
    /// when absent. Never restarted is what somebody has stopped.
    pub restart: Option<RawServiceRestart>,
}

/// When hostd restarts a unit, and how often at most.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawServiceRestart {
    /// How long it must not have worked. 1s to 1h.
    #[schemars(extend("default" = "30s"))]
    pub after: Option<Text<Span>>,
    /// How many restarts there are at most `within` a time; then it is left
    /// alone, which its message says.
    #[schemars(range(min = 1, max = 100), extend("default" = 3))]
    pub at_most: Option<u32>,
    /// In which time. 1m to 7d.
    #[schemars(extend("default" = "1h"))]
    pub within: Option<Text<Span>>,
    /// What it is restarted for; only `failed` when absent.
    pub on: List<RawServiceTrouble>,
}

/// What a service is restarted for.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawServiceTrouble {
    /// Its unit has failed.
    Failed,
    /// It accepts connections and does not answer its `probe`.
    Hung,
}

/// How a service is asked.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RawProbe {
    /// SMB2 negotiation.
    Smb,
    /// AFP status.
    Afp,
    /// A connection is enough.
    Tcp,
    /// The NULL call of NFS, version 4 or 3.
    Nfs,
    /// One page: a status of 200 to 299, and the text of `expect`.
    Http,
    /// Plex Media Server: its identity; sessions and libraries with a token.
    Plex,
    /// minidlna's description of itself.
    Minidlna,
    /// The certificate of any port that speaks TLS from its first byte.
    Tls,
    /// The greeting of a mail server.
    Smtp,
    /// The greeting of an IMAP server.
    Imap,
    /// The greeting of a POP3 server.
    Pop3,
    /// The greeting of MySQL or MariaDB.
    Mysql,
    /// The greeting of an SSH server.
    Ssh,
    /// The greeting of an FTP server.
    Ftp,
    /// Any Nagios plugin, given as `command`.
    Command,
    /// Not at all: only its unit and folder are looked at.
    None,
}

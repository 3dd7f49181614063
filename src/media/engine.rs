//! Docker and Podman through their socket: the Engine API, which both speak.
//!
//! One short HTTP/1.1 request a connection, over a unix socket. What comes back
//! was written by whoever made the containers: it is bounded and typed.
//!
//! Facts: `GET /containers/json?all=1` lists, `GET /containers/ID/json` tells
//! health, restarts and how it ended, `POST /containers/ID/restart` answers 204
//! (<https://docs.docker.com/reference/api/engine/>). Without a version in the
//! path, Docker and Podman answer in the newest they know.

use std::io;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::base::span;
use crate::host::Host;

/// The largest reply that is taken.
pub const MAX_REPLY: usize = 4 * 1024 * 1024;
/// The largest head of a reply.
const MAX_HEAD: usize = 16 * 1024;
/// What a look may take.
const SHORT: Duration = Duration::from_secs(5);
/// What a restart may take: the container has ten seconds to stop.
const LONG: Duration = Duration::from_secs(60);

/// Who runs containers here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    /// Docker.
    Docker,
    /// Podman, as root.
    Podman,
}

/// Why an engine has not answered as it should.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No process has its socket.
    #[error("no connection to {0}")]
    Connect(String, #[source] io::Error),
    /// The connection broke.
    #[error("{0} broke the connection")]
    Broken(String, #[source] io::Error),
    /// No reply in time.
    #[error("{engine} does not answer within {}", span::show(*.within))]
    Silent {
        /// Who.
        engine: String,
        /// What it was given.
        within: Duration,
    },
    /// A reply, and a refusal.
    #[error("{0} answers with status {1}: {2}")]
    Refused(String, u16, String),
    /// A reply that is none.
    #[error("the reply of {0} is malformed: {1}")]
    Malformed(String, &'static str),
}

impl Engine {
    /// Its socket.
    pub fn socket(self) -> &'static str {
        match self {
            Self::Docker => "/run/docker.sock",
            Self::Podman => "/run/podman/podman.sock",
        }
    }

    /// Its unit.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Docker => "docker.service",
            Self::Podman => "podman.service",
        }
    }

    /// Its command.
    pub fn tool(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// All containers, those that do not run too.
    pub async fn list(self, host: &Host) -> Result<Vec<Listed>, EngineError> {
        let body = self.ask(host, "GET", "/containers/json?all=1", SHORT).await?;
        self.read(&body)
    }

    /// What is known of one.
    pub async fn inspect(self, host: &Host, id: &str) -> Result<Details, EngineError> {
        let body = self.ask(host, "GET", &format!("/containers/{}/json", plain(id)), SHORT).await?;
        self.read(&body)
    }

    /// Restarts one; returns when it runs again.
    pub async fn restart(self, host: &Host, id: &str) -> Result<(), EngineError> {
        let path = format!("/containers/{}/restart?t=10", plain(id));
        self.ask(host, "POST", &path, LONG).await.map(|_| ())
    }

    fn read<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, EngineError> {
        let malformed =
            |_| EngineError::Malformed(self.tool().to_owned(), "it is not what it lists");
        serde_json::from_slice(body).map_err(malformed)
    }

    async fn ask(
        self,
        host: &Host,
        method: &str,
        path: &str,
        deadline: Duration,
    ) -> Result<Vec<u8>, EngineError> {
        let socket = host.sys.path(self.socket());
        let name = || self.tool().to_owned();
        let connected = host.dial.unix(&socket, deadline.min(SHORT)).await;
        let mut stream = connected.map_err(|error| EngineError::Connect(name(), error))?;
        let talk = async {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await?;
            let mut reply = Vec::new();
            let mut part = vec![0; 16 * 1024];
            // One byte more than is taken, so that too much is seen.
            while reply.len() <= MAX_REPLY && !is_whole(&reply) {
                let read = stream.read(&mut part).await?;
                let Some(part) = part.get(..read).filter(|part| !part.is_empty()) else { break };
                reply.extend_from_slice(part);
            }
            Ok(reply)
        };
        let reply = match timeout(deadline, talk).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => return Err(EngineError::Broken(name(), error)),
            Err(_) => return Err(EngineError::Silent { engine: name(), within: deadline }),
        };
        let (status, body) = parse(&reply).map_err(|why| EngineError::Malformed(name(), why))?;
        if !(200..300).contains(&status) {
            let said = serde_json::from_slice::<Said>(&body).unwrap_or_default().message;
            return Err(EngineError::Refused(name(), status, word(&said)));
        }
        Ok(body)
    }
}

/// An id as it may stand in a path.
fn plain(id: &str) -> String {
    id.chars().filter(char::is_ascii_alphanumeric).take(64).collect()
}

/// A text from outside, bounded and on one line.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.trim().chars().take(200).map(plain).collect()
}

/// The head and what follows it.
fn split(reply: &[u8]) -> Option<(&str, &[u8])> {
    let end = reply.windows(4).take(MAX_HEAD).position(|four| four == b"\r\n\r\n")?;
    Some((std::str::from_utf8(reply.get(..end)?).ok()?, reply.get(end + 4..)?))
}

/// A field of the head, whatever its case.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut its = fields.filter(|(key, _)| key.trim().eq_ignore_ascii_case(name));
    its.next().map(|(_, value)| value.trim())
}

fn is_chunked(head: &str) -> bool {
    field(head, "transfer-encoding").is_some_and(|it| it.eq_ignore_ascii_case("chunked"))
}

fn length(head: &str) -> Option<usize> {
    field(head, "content-length").and_then(|value| value.parse().ok())
}

/// Whether nothing more is to come, so that one need not wait for the end.
fn is_whole(reply: &[u8]) -> bool {
    let Some((head, body)) = split(reply) else { return false };
    if is_chunked(head) {
        return body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n");
    }
    let empty = head.split(' ').nth(1) == Some("204");
    empty || length(head).is_some_and(|length| body.len() >= length)
}

/// The status and the body of a reply, of which nothing more will come.
pub fn parse(reply: &[u8]) -> Result<(u16, Vec<u8>), &'static str> {
    if reply.len() > MAX_REPLY {
        return Err("it is too long");
    }
    let (head, body) = split(reply).ok_or("it has no head")?;
    let mut first = head.lines().next().unwrap_or_default().split(' ');
    if !first.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
        return Err("it is not HTTP/1");
    }
    let status = first.next().and_then(|status| status.parse().ok());
    let status = status.ok_or("it has no status")?;
    if is_chunked(head) {
        return Ok((status, chunks(body)?));
    }
    match length(head) {
        Some(length) => Ok((status, body.get(..length).ok_or("it is cut short")?.to_vec())),
        None => Ok((status, body.to_vec())),
    }
}

/// RFC 9112, 7.1: each chunk after its length in hexadecimal; one of none ends.
fn chunks(mut rest: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (mut body, short) = (Vec::new(), "a chunk is cut short");
    loop {
        let end = rest.windows(2).take(256).position(|two| two == b"\r\n").ok_or(short)?;
        let line = rest.get(..end).and_then(|line| std::str::from_utf8(line).ok());
        let size = line.and_then(|line| line.split(';').next()).unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| "a chunk has no length")?;
        if size == 0 {
            return Ok(body);
        }
        let from = end + 2;
        let to = from.checked_add(size).ok_or(short)?;
        body.extend_from_slice(rest.get(from..to).ok_or(short)?);
        rest = rest.get(to..).and_then(|rest| rest.strip_prefix(b"\r\n")).ok_or(short)?;
    }
}

/// What a refusal says.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    message: String,
}

/// A container as the list has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Listed {
    /// Its id, in hexadecimal.
    pub id: String,
    /// `/plex`; some engines leave the slash out.
    pub names: Option<Vec<String>>,
    /// From which image.
    pub image: Option<String>,
    /// `running`, `exited`, `restarting`, `paused`, `created`, `dead`.
    pub state: Option<String>,
    /// For people: `Up 2 hours (healthy)`, `Exited (137) 3 minutes ago`.
    pub status: Option<String>,
}

/// What is known of one container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Details {
    /// How it is.
    pub state: State,
    /// How often the engine has restarted it.
    pub restart_count: Option<u64>,
    /// How it was set up.
    pub host_config: HostConfig,
    /// What is mounted into it.
    pub mounts: Option<Vec<Mount>>,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    /// The kernel has killed it for its memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// How it ended.
    pub exit_code: Option<i64>,
    /// Why it did not start.
    pub error: Option<String>,
    /// Its own check.
    #[serde(alias = "Healthcheck")]
    pub health: Option<Health>,
}

/// The health check of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `healthy`, `unhealthy`, `starting`, `none`; empty without one.
    pub status: String,
    /// The last few runs.
    pub log: Option<Vec<Check>>,
}

/// One run of a health check.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Check {
    /// What it said.
    pub output: Option<String>,
}

/// How a container was set up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// When the engine restarts it.
    pub restart_policy: Option<Policy>,
}

/// When the engine restarts a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Policy {
    /// `no`, `always`, `unless-stopped`, `on-failure`; empty for `no`.
    pub name: String,
}

/// A folder of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// `bind` for a folder of the owner.
    #[serde(rename = "Type")]
    pub kind: String,
    /// On the host.
    pub source: String,
    /// In the container.
    pub destination: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn replies_of_known_length_in_chunks_and_until_the_end() {
        let known = b"HTTP/1.1 200 OK\r\nContent-length: 2\r\n\r\n[]";
        assert_eq!(parse(known), Ok((200, b"[]".to_vec())));
        assert!(is_whole(known) && !is_whole(&known[..known.len() - 1]));
        assert_eq!(parse(&known[..known.len() - 1]), Err("it is cut short"));
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = format!("{head}3;x=y\r\n[1,\r\nA\r\n2,3,4,5,6]\r\n0\r\n\r\n");
        assert_eq!(parse(chunked.as_bytes()), Ok((200, b"[1,2,3,4,5,6]".to_vec())));
        assert!(is_whole(chunked.as_bytes()));
        for wrong in ["", "3\r\n[1", "zz\r\n", "ffffffffffffffff\r\n[", "3\r\n[1,2,3]\r\n0\r\n\r\n"]
        {
            assert!(parse(format!("{head}{wrong}").as_bytes()).is_err(), "{wrong}");
        }
        let open = b"HTTP/1.0 404 Not Found\r\n\r\n{\"message\":\"no\"}";
        assert_eq!(parse(open).map(|(status, _)| status), Ok(404));
        assert!(!is_whole(open));
        assert!(is_whole(b"HTTP/1.1 204 No Content\r\n\r\n"));
        assert_eq!(parse(b"SSH-2.0-OpenSSH\r\n\r\n"), Err("it is not HTTP/1"));
        assert_eq!(parse(&vec![b'x'; MAX_REPLY + 1]), Err("it is too long"));
    }

    #[test]
    fn details_of_both_engines() {
        let docker = r#"{"State":{"Status":"running","OOMKilled":false,"ExitCode":0,"Health":
            {"Status":"unhealthy","FailingStreak":3,"Log":[{"ExitCode":1,"Output":"no\n"}]}},
            "RestartCount":2,"HostConfig":{"RestartPolicy":{"Name":"always",
            "MaximumRetryCount":0}},"Mounts":[{"Type":"bind","Source":"/tank/media",
            "Destination":"/media"}]}"#;
        let details: Details = Engine::Docker.read(docker.as_bytes()).unwrap();
        assert_eq!(details.state.health.unwrap().status, "unhealthy");
        assert_eq!((details.restart_count, details.mounts.unwrap().len()), (Some(2), 1));
        let podman = r#"{"State":{"OOMKilled":true,"Healthcheck":null},"Mounts":null}"#;
        assert!(Engine::Podman.read::<Details>(podman.as_bytes()).unwrap().state.oom_killed);
        assert!(Engine::Podman.read::<Details>(b"[]]").is_err());
        assert_eq!(plain("../../images/x?force=1"), "imagesxforce1");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(reply in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = (parse(&reply), is_whole(&reply));
            let chunked = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &reply[..]];
            if let Ok((_, body)) = parse(&chunked.concat()) {
                prop_assert!(body.len() <= reply.len());
            }
        }

        #[test]
        fn chunks_put_together_are_the_body(parts in prop::collection::vec("[a-z]{1,40}", 0..9)) {
            let mut text = String::from("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n");
            for part in &parts {
                text = format!("{text}{:x}\r\n{part}\r\n", part.len());
            }
            text += "0\r\n\r\n";
            prop_assert!(is_whole(text.as_bytes()));
            prop_assert_eq!(parse(text.as_bytes()).unwrap().1, parts.concat().into_bytes());
        }

        #[test]
        fn any_text_is_details_or_not(text in "[{}\\[\\]\",:a-zA-Z0-9]{0,200}") {
            let _ = Engine::Docker.read::<Details>(text.as_bytes());
            let _ = Engine::Docker.read::<Vec<Listed>>(text.as_bytes());
        }
    }
}

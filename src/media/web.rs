//! Services that are asked for a page: Plex, minidlna, any.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::probe::{Answer, Library, ProbeError, ReplyError, Talk, connect, gather, open};
use super::probes::{http, plex};
use crate::config::Port;
use crate::host::Host;
use crate::host::dial::Stream;

/// A page with a good status, and with the wanted text in it.
pub(super) async fn page(
    stream: Box<dyn Stream>,
    port: &Port,
    page: &str,
    expect: Option<&str>,
    deadline: Duration,
) -> Result<Answer, ProbeError> {
    let talk = Talk { to: port.to, protocol: "HTTP", deadline };
    let reply = get(stream, port, page, &[], talk).await?;
    wanted(port.to, &reply, expect)
}

/// The page of Plex that needs no token.
pub(super) async fn plex(
    stream: Box<dyn Stream>,
    port: &Port,
    deadline: Duration,
) -> Result<Answer, ProbeError> {
    let talk = Talk { to: port.to, protocol: "HTTP", deadline };
    let reply = get(stream, port, plex::IDENTITY, &[JSON], talk).await?;
    match (reply.status, plex::identity(&reply.body)) {
        (200, Some(identity)) => Ok(Answer::Plex(identity)),
        (503, _) => Ok(Answer::PlexStarts),
        (200, None) => {
            let source = ReplyError::Stranger("a page that is not Plex's".to_owned());
            Err(ProbeError::WrongProtocol { to: port.to, protocol: "Plex", source })
        }
        _ => Err(unwilling(port.to, "Plex", &reply)),
    }
}

const JSON: (&str, &str) = ("Accept", "application/json");

fn unwilling(to: SocketAddr, protocol: &'static str, reply: &http::Reply) -> ProbeError {
    let sent = reply.location.as_ref().map_or(String::new(), |to| format!(", sent on to {to}"));
    let said = format!("HTTP status {} {}{sent}", reply.status, reply.reason);
    ProbeError::Protocol { to, protocol, source: ReplyError::Unwilling(said) }
}

fn wanted(to: SocketAddr, reply: &http::Reply, expect: Option<&str>) -> Result<Answer, ProbeError> {
    if !(200..300).contains(&reply.status) {
        return Err(unwilling(to, "HTTP", reply));
    }
    let missing = expect
        .filter(|text| !reply.body.windows(text.len().max(1)).any(|part| part == text.as_bytes()));
    match missing {
        Some(text) if !text.is_empty() => {
            let source = ReplyError::Unwilling(format!("its page does not say {text:?}"));
            Err(ProbeError::Protocol { to, protocol: "HTTP", source })
        }
        _ => Ok(Answer::Http { status: reply.status, date: reply.date }),
    }
}

/// Who may read the token.
const OTHERS: u32 = 0o004;

/// What only who has the token may know.
pub(super) async fn library(host: &Host, port: &Port, file: &Path, deadline: Duration) -> Library {
    let mut out = Library::default();
    let read = host.sys.bytes(file, 4096).map_err(|error| error.in_full());
    let token = read.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
    let token = match token {
        Ok(token) if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) => token,
        Ok(_) => {
            out.why = Some(format!("{} has no token in it", file.display()));
            return out;
        }
        Err(why) => {
            out.why = Some(format!("the token cannot be read: {why}"));
            return out;
        }
    };
    out.exposed = host.sys.stamp(file).is_ok_and(|(mode, _)| mode & OTHERS != 0);
    let headers = [JSON, ("X-Plex-Token", token.as_str())];
    for page in [plex::SECTIONS, plex::SESSIONS] {
        let asked = async {
            let (stream, _) = open(host, port, deadline).await?;
            let talk = Talk { to: port.to, protocol: "HTTP", deadline };
            get(stream, port, page, &headers, talk).await
        };
        let reply = match asked.await {
            Ok(reply) => reply,
            Err(error) => {
                out.why = Some(error.whole());
                return out;
            }
        };
        match reply.status {
            200 if page == plex::SECTIONS => out.libraries = plex::libraries(&reply.body),
            200 => out.sessions = plex::sessions(&reply.body),
            503 => out.loading = true,
            401 | 403 => out.why = Some("Plex does not take the token".to_owned()),
            status => out.why = Some(format!("{page} answers {status} {}", reply.reason)),
        }
    }
    let known = out.libraries.is_some() && out.sessions.is_some();
    if !known && !out.loading && out.why.is_none() {
        out.why = Some("Plex answers in a form that hostd does not know".to_owned());
    }
    out
}

/// Reads a page.
async fn get(
    mut stream: Box<dyn Stream>,
    port: &Port,
    page: &str,
    headers: &[(&str, &str)],
    talk: Talk,
) -> Result<http::Reply, ProbeError> {
    let host = port.name.clone().unwrap_or_else(|| port.to.to_string());
    let asked = async {
        stream.write_all(&http::request(&host, page, headers)).await?;
        let limit = http::MAX_HEAD + 2 * http::MAX_BODY;
        gather(&mut stream, limit, |bytes, ended| Ok(http::read(bytes, ended)?)).await
    };
    talk.within(asked).await
}

/// Asks for the description that minidlna gives to televisions.
pub(super) async fn minidlna(
    host: &Host,
    port: &Port,
    deadline: Duration,
) -> Result<Answer, ProbeError> {
    let stream = connect(host, port.to, deadline).await?;
    let talk = Talk { to: port.to, protocol: "HTTP", deadline };
    let reply = get(stream, port, "/rootDesc.xml", &[], talk).await?;
    if reply.status != 200 {
        return Err(unwilling(port.to, "DLNA", &reply));
    }
    let device = b"urn:schemas-upnp-org:device:MediaServer:";
    if reply.body.windows(device.len()).any(|part| part == device) {
        return Ok(Answer::Minidlna);
    }
    let source = ReplyError::Stranger("a page that is no media server's".to_owned());
    Err(ProbeError::WrongProtocol { to: port.to, protocol: "DLNA", source })
}
